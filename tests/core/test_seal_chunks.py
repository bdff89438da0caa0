"""Chunks: what was sealed reads back at any place, and nothing cut, moved or unfinished is believed."""

from __future__ import annotations

import contextlib
import gc
import io
import tracemalloc
import zipfile
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from portal.core.crypto import TAG_SIZE, TamperedError
from portal.core.seal import SealedReader, SealedWriter, open_sealed
from portal.core.seal_chunks import ChunkCipher, chunk_count, sealed_length

KEY = bytes(range(16))
CONTEXT = b"batch:7:faces"
CHUNK = 32
HEADER = 28


def sealed(plaintext: bytes, chunk_size: int = CHUNK, context: bytes = CONTEXT) -> bytes:
    file = io.BytesIO()
    with SealedWriter(file, KEY, context, chunk_size=chunk_size) as writer:
        writer.write(plaintext)
    return file.getvalue()


def opened(content: bytes, key: bytes = KEY, context: bytes = CONTEXT) -> bytes:
    return open_sealed(io.BytesIO(content), key, context).readall()


def blocks_of(content: bytes) -> list[bytes]:
    body = content[HEADER:]
    return [body[start : start + CHUNK + TAG_SIZE] for start in range(0, len(body), CHUNK + TAG_SIZE)]


def numbered(length: int) -> bytes:
    return bytes(number % 251 for number in range(length))


@pytest.mark.parametrize("length", [0, 1, 31, 32, 33, 63, 64, 65, 96, 1000])
def test_every_length_reads_back_and_takes_the_foretold_space(length: int) -> None:
    content = sealed(numbered(length))
    assert len(content) == HEADER + sealed_length(length, CHUNK)
    assert len(blocks_of(content)) == chunk_count(length, CHUNK)
    assert opened(content) == numbered(length)
    assert open_sealed(io.BytesIO(content), KEY, CONTEXT).length == length


@given(st.binary(max_size=300), st.lists(st.integers(1, 80), max_size=8), st.integers(1, 70))
def test_the_pieces_it_was_written_in_do_not_matter(
    plaintext: bytes, cuts: list[int], chunk_size: int
) -> None:
    file = io.BytesIO()
    with SealedWriter(file, KEY, CONTEXT, chunk_size=chunk_size) as writer:
        position = 0
        for cut in cuts:
            position += writer.write(plaintext[position : position + cut])
            assert writer.tell() == position
        writer.write(memoryview(plaintext)[position:])
    assert opened(file.getvalue()) == plaintext


@given(st.binary(max_size=300), st.integers(0, 400), st.integers(0, 400))
def test_any_range_reads_like_the_bytes_themselves(plaintext: bytes, offset: int, size: int) -> None:
    reader = open_sealed(io.BytesIO(sealed(plaintext)), KEY, CONTEXT)
    expected = plaintext[offset : offset + size]
    assert reader.read_at(offset, size) == expected
    assert reader.seek(offset) == offset == reader.tell()
    assert reader.read(size) == expected
    assert reader.tell() == offset + len(expected)
    assert reader.seek(-len(plaintext), io.SEEK_END) == 0
    assert reader.seek(1, io.SEEK_CUR) == 1
    assert reader.readall() == plaintext[1:]


def test_a_place_before_the_start_is_refused() -> None:
    reader = open_sealed(io.BytesIO(sealed(b"x")), KEY, CONTEXT)
    with pytest.raises(OSError, match="-1"):
        reader.seek(-1)
    for offset, size in ((-1, 1), (0, -1)):
        with pytest.raises(ValueError, match="negative"):
            reader.read_at(offset, size)


@settings(max_examples=20)
@given(st.lists(st.tuples(st.text("abc", min_size=1, max_size=5), st.binary(max_size=200)), max_size=6))
def test_a_zip_lives_in_a_sealed_file(members: list[tuple[str, bytes]]) -> None:
    contents = dict(members)
    file = io.BytesIO()
    with (
        SealedWriter(file, KEY, CONTEXT, chunk_size=CHUNK) as writer,
        zipfile.ZipFile(writer, "w") as archive,
    ):
        for name, content in contents.items():
            archive.writestr(name, content)
    with open_sealed(file, KEY, CONTEXT) as reader, zipfile.ZipFile(io.BufferedReader(reader)) as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == contents
        assert archive.testzip() is None


def test_every_flipped_bit_is_noticed() -> None:
    content = sealed(numbered(70))
    for position in range(len(content) * 8):
        changed = bytearray(content)
        changed[position // 8] ^= 1 << position % 8
        with pytest.raises(TamperedError):
            opened(bytes(changed))


def test_every_cut_is_refused_on_opening() -> None:
    content = sealed(numbered(100))
    for length in range(len(content)):
        with pytest.raises(TamperedError):
            open_sealed(io.BytesIO(content[:length]), KEY, CONTEXT)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda blocks: [blocks[1], blocks[0], *blocks[2:]], id="swapped"),
        pytest.param(lambda blocks: [blocks[0], *blocks], id="repeated"),
        pytest.param(lambda blocks: [blocks[0], blocks[0], *blocks[2:]], id="replaced"),
        pytest.param(lambda blocks: blocks[1:], id="first dropped"),
        pytest.param(lambda blocks: blocks[:-1], id="last dropped"),
        pytest.param(lambda blocks: [*blocks, blocks[-1]], id="appended"),
        pytest.param(lambda blocks: [*blocks, bytes(CHUNK + TAG_SIZE)], id="zeros appended"),
    ],
)
def test_moved_chunks_are_refused(change: Callable[[list[bytes]], list[bytes]]) -> None:
    content = sealed(numbered(4 * CHUNK))
    with pytest.raises(TamperedError):
        opened(content[:HEADER] + b"".join(change(blocks_of(content))))


def test_a_bad_chunk_is_named_and_the_others_stay_readable() -> None:
    content = bytearray(sealed(numbered(4 * CHUNK)))
    content[HEADER + CHUNK + TAG_SIZE] ^= 1
    reader = open_sealed(io.BytesIO(bytes(content)), KEY, CONTEXT)
    assert reader.read_at(0, CHUNK) == numbered(CHUNK)
    for read in (reader.check, lambda: reader.read_at(CHUNK, 1), reader.readall):
        with pytest.raises(TamperedError) as refusal:
            read()
        assert refusal.value.where == "第 2 块"


def test_another_key_context_or_file_is_refused() -> None:
    content, twin = sealed(numbered(100)), sealed(numbered(100))
    for key, context in ((bytes(16), CONTEXT), (KEY, b"batch:8:faces"), (KEY, b"")):
        with pytest.raises(TamperedError):
            opened(content, key, context)
    assert not set(blocks_of(content)) & set(blocks_of(twin))
    with pytest.raises(TamperedError):
        opened(content[:HEADER] + twin[HEADER:])


@pytest.mark.parametrize(
    "header", [b"", b"PK\x03\x04" + bytes(24), b"SM4SEAL1" + bytes(20), b"SM4SEAL1" + b"\xff" * 20]
)
def test_a_foreign_header_is_refused(header: bytes) -> None:
    with pytest.raises(TamperedError):
        open_sealed(io.BytesIO(header + bytes(100)), KEY, CONTEXT)


def left_by_an_error(file: io.BytesIO) -> None:
    with contextlib.suppress(RuntimeError), SealedWriter(file, KEY, CONTEXT, chunk_size=CHUNK) as writer:
        writer.write(numbered(100))
        raise RuntimeError


def dropped(file: io.BytesIO) -> None:
    SealedWriter(file, KEY, CONTEXT, chunk_size=CHUNK).write(numbered(100))
    gc.collect()


def abandoned(file: io.BytesIO) -> None:
    writer = SealedWriter(file, KEY, CONTEXT, chunk_size=CHUNK)
    writer.write(numbered(100))
    writer.abandon()
    assert writer.closed


@pytest.mark.parametrize("interrupt", [left_by_an_error, dropped, abandoned])
def test_an_interrupted_writer_leaves_nothing_that_opens(interrupt: Callable[[io.BytesIO], None]) -> None:
    file = io.BytesIO()
    interrupt(file)
    assert len(file.getvalue()) >= HEADER + CHUNK
    with pytest.raises(TamperedError):
        open_sealed(file, KEY, CONTEXT)


def test_a_writer_that_was_killed_on_a_chunk_boundary_leaves_nothing_that_opens() -> None:
    file = io.BytesIO()
    writer = SealedWriter(file, KEY, CONTEXT, chunk_size=CHUNK)
    for _ in range(5):
        writer.write(numbered(CHUNK))
        with pytest.raises(TamperedError):
            open_sealed(io.BytesIO(file.getvalue()), KEY, CONTEXT)
    writer.close()
    writer.close()
    assert opened(file.getvalue()) == numbered(CHUNK) * 5
    with pytest.raises(ValueError, match="closed"):
        writer.write(b"x")


def test_the_reader_keeps_few_chunks_and_leaves_the_file_open() -> None:
    file = io.BytesIO(sealed(numbered(CHUNK * 40)))
    with open_sealed(file, KEY, CONTEXT) as reader:
        for start in range(0, CHUNK * 40, 10):
            assert reader.read_at(start, 10) == numbered(CHUNK * 40)[start : start + 10]
        assert len(reader._cache) == 8
    assert reader.closed
    assert not file.closed


def test_a_payload_that_ends_early_is_refused() -> None:
    cipher = ChunkCipher(KEY, CONTEXT)
    blocks = cipher.seal(0, numbered(CHUNK), last=False) + cipher.seal(1, b"end", last=True)
    reader = SealedReader(
        io.BytesIO(b"front" + blocks[:-1]),
        KEY,
        chunk_size=CHUNK,
        plaintext_length=CHUNK + 3,
        context=CONTEXT,
        offset=5,
    )
    assert reader.read(CHUNK) == numbered(CHUNK)
    with pytest.raises(TamperedError) as refusal:
        reader.read(1)
    assert (refusal.value.expected, refusal.value.got) == ("19 字节", "18 字节")


class Sink(io.RawIOBase):
    """Take bytes and forget them."""

    def writable(self) -> bool:
        return True

    def write(self, content: object, /) -> int:
        return len(content)  # type: ignore[arg-type]


def test_writing_takes_constant_memory() -> None:
    piece = bytes(1 << 16)
    tracemalloc.start()
    with SealedWriter(Sink(), KEY, CONTEXT) as writer:  # type: ignore[arg-type]
        for _ in range(64):
            writer.write(piece)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 19  # of 4 MB written
