"""The ZIP reader against `zipfile` as its peer, and against everything a hostile sender can put in a file."""

from __future__ import annotations

import io
import random
import struct
import tracemalloc
import zipfile
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from portal.core.ziprefusals import ZipRefusedError
from portal.core.ziptable import ZipLimits, iter_entries, open_entry, read_entry

MANY = 1 << 30
FULL = 2**32 - 1
plain_names = st.text(st.sampled_from("abz019_-. 张峰𠀀é"), min_size=1, max_size=12).filter(
    lambda name: name.strip(". ") != ""
)
members = st.lists(
    st.tuples(
        plain_names, st.binary(max_size=3000), st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
    ),
    max_size=8,
    unique_by=lambda member: member[0],
)


def packed(files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """Return a ZIP of these files as zipfile writes it."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content, compress_type=method)
    return target.getvalue()


def read_all(raw: bytes, limits: ZipLimits | None = None) -> dict[str, bytes]:
    """Read every member both ways and return the contents."""
    file = io.BytesIO(raw)
    contents = {}
    for entry in iter_entries(file, limits):
        contents[entry.name] = read_entry(file, entry, MANY)
        assert b"".join(open_entry(file, entry, MANY)) == contents[entry.name]
    return contents


def refusal(raw: bytes, limits: ZipLimits | None = None) -> str:
    """Return the code that reading this file is refused with."""
    with pytest.raises(ZipRefusedError) as refused:
        read_all(raw, limits)
    assert refused.value.message
    return refused.value.code


def patched(raw: bytes, mark: bytes, offset: int, value: bytes, *, last: bool = False) -> bytes:
    """Overwrite bytes at an offset within the record that begins with `mark`."""
    at = (raw.rfind if last else raw.find)(mark) + offset
    return raw[:at] + value + raw[at + len(value) :]


@given(members, st.binary(max_size=40).filter(lambda comment: b"PK" not in comment))
def test_reads_what_zipfile_reads(files: list[tuple[str, bytes, int]], comment: bytes) -> None:
    """R-8: names, order and contents are those of the peer."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for name, content, method in files:
            archive.writestr(name, content, compress_type=method)
        archive.comment = comment
    with zipfile.ZipFile(target) as peer:
        expected = {each.filename: peer.read(each) for each in peer.infolist()}
    contents = read_all(target.getvalue())
    assert contents == expected
    assert list(contents) == list(expected)


@given(st.lists(st.binary(max_size=200), max_size=4), st.booleans())
def test_reads_what_zipfile_streams(contents: list[bytes], wide: bool) -> None:
    """R-8: members written to a pipe (sizes after the data) and with 64-bit sizes forced."""

    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

        def seek(self, *_: object) -> int:
            raise io.UnsupportedOperation

    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED) as archive:
        for number, content in enumerate(contents):
            with archive.open(f"{number}.bin", "w", force_zip64=wide) as member:
                member.write(content)
    assert read_all(pipe.getvalue()) == {f"{number}.bin": each for number, each in enumerate(contents)}


def test_more_than_65535_members_need_the_64_bit_directory_and_no_memory() -> None:
    """R-8: a directory of 70,000 members is walked with less than 2 MB."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for number in range(70_000):
            archive.writestr(zipfile.ZipInfo(f"p/{number}"), b"")
    tracemalloc.start()
    count = sum(1 for _ in iter_entries(target))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 70_000
    assert peak < 2 << 20


def test_64_bit_fields_in_the_directory() -> None:
    """R-8: sizes and offset taken from the ZIP64 extra field, in the order of APPNOTE 4.5.3."""
    content, name = b"content", b"a.txt"
    extra = struct.pack("<2HQQ", 1, 16, len(content), len(content))
    local = struct.pack(
        "<4s5H3L2H", b"PK\3\4", 45, 0, 0, 0, 0, zlib.crc32(content), 2**32 - 1, 2**32 - 1, 5, len(extra)
    )
    local += name + extra + content
    extra = struct.pack("<2HQQQ", 1, 24, len(content), len(content), 0)
    fields = (
        45,
        45,
        0,
        0,
        0,
        0,
        zlib.crc32(content),
        2**32 - 1,
        2**32 - 1,
        5,
        len(extra),
        0,
        0,
        0,
        0,
        2**32 - 1,
    )
    central = struct.pack("<4s6H3L5H2L", b"PK\1\2", *fields) + name + extra
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 1, 1, len(central), len(local), 0)
    assert read_all(local + central + end) == {"a.txt": content}
    assert refusal(local + central.replace(extra, b"\0" * len(extra)) + end) == "zip_mismatch"


SMALL = packed({"manifest.json": b"{}" * 40, "photos/1.jpg": bytes(range(256))})


def test_every_truncation_is_refused() -> None:
    """R-46: a file cut anywhere is refused by our own error and no other."""
    assert {refusal(SMALL[:length]) for length in range(len(SMALL))} == {"zip_truncated"}


@settings(max_examples=300)
@given(st.data())
def test_damage_never_escapes_as_another_error(data: st.DataObject) -> None:
    """R-46: whatever bytes change, either the contents are right or the file is refused."""
    at = data.draw(st.integers(0, len(SMALL) - 1))
    raw = SMALL[:at] + data.draw(st.binary(min_size=1, max_size=8)) + SMALL[at + 1 :]
    try:
        contents = read_all(raw)
    except ZipRefusedError:
        return
    assert {b"{}" * 40, bytes(range(256))}.issuperset(contents.values())


@given(st.binary(max_size=300))
def test_noise_is_refused(raw: bytes) -> None:
    """R-46: random bytes, also with an end record glued on."""
    assert refusal(raw) == "zip_truncated"
    assert refusal(raw + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 1, 1, 46, len(raw), 0)).startswith("zip_")


@pytest.mark.parametrize(
    "name",
    [
        "../a", "a/../b", "a/..", "/etc/passwd", "\\a", "a\\..\\b", "C:a", "c:/a", "./a", "a//b", "..", ".",
        "a\nb", "a\x1bb", "/", "", "a/./b",
    ],
)  # fmt: skip
def test_unsafe_names_are_refused(name: str) -> None:
    """R-46: no name can leave its folder."""
    assert refusal(packed({name: b"x"})) == "zip_path"


def test_names_zipfile_would_repair_are_refused() -> None:
    """R-46: NUL, broken UTF-8 and links, written by patching a good file."""
    raw = packed({"abc": b"x"})
    assert refusal(raw.replace(b"abc", b"a\0c")) == "zip_path"
    utf8 = packed({"é1": b"x"})
    assert refusal(utf8.replace("é".encode(), b"\xff\xfe")) == "zip_path"
    link = zipfile.ZipInfo("link")
    link.create_system, link.external_attr = 3, 0o120777 << 16
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr(link, "/etc/passwd")
    assert refusal(target.getvalue()) == "zip_path"
    assert refusal(packed({"n" * 256: b""})) == "zip_path"


@pytest.mark.parametrize(
    ("limits", "code"),
    [
        (ZipLimits(max_members=2), "zip_too_many"),
        (ZipLimits(max_entry_size=4999), "zip_oversize"),
        (ZipLimits(max_total_size=14_999), "zip_oversize"),
        (ZipLimits(max_members=3, max_entry_size=5000, max_total_size=15_000), ""),
    ],
)
def test_limits(limits: ZipLimits, code: str) -> None:
    """R-46: each limit holds at its exact value."""
    raw = packed({name: name.encode() * 5000 for name in "abc"})
    if code:
        assert refusal(raw, limits) == code
    else:
        assert len(read_all(raw, limits)) == 3


def test_a_bomb_is_refused_by_its_ratio_before_it_is_unpacked() -> None:
    """R-46: 4 MiB of zeros pack a thousandfold."""
    raw = packed({"bomb": bytes(4 << 20)})
    assert refusal(raw) == "zip_bomb"
    assert len(read_all(raw, ZipLimits(max_ratio=2000))["bomb"]) == 4 << 20


def test_a_bomb_that_lies_about_its_size_stops_at_the_promise() -> None:
    """R-46: the directory and the header say 10 bytes, the data unpack to 4 MiB."""
    raw = packed({"bomb": bytes(4 << 20)})
    raw = patched(patched(raw, b"PK\1\2", 24, struct.pack("<L", 10)), b"PK\3\4", 22, struct.pack("<L", 10))
    assert refusal(raw) == "zip_damaged"
    entry = next(iter_entries(io.BytesIO(raw)))
    received: list[bytes] = []
    with pytest.raises(ZipRefusedError):
        received.extend(open_entry(io.BytesIO(raw), entry, MANY))
    assert sum(map(len, received)) <= 10


def test_the_caller_limits_one_member() -> None:
    """R-46: `max_size` is checked before anything is read."""
    raw = packed({"a": b"x" * 11})
    entry = next(iter_entries(io.BytesIO(raw)))
    for read in (read_entry, lambda *args: list(open_entry(*args))):
        with pytest.raises(ZipRefusedError) as refused:
            read(io.BytesIO(raw), entry, 10)
        assert refused.value.code == "zip_oversize"


@pytest.mark.parametrize(
    ("mark", "offset", "value", "code"),
    [
        (b"PK\1\2", 8, b"\1\0", "zip_encrypted"),
        (b"PK\1\2", 8, b"\x40\0", "zip_encrypted"),
        (b"PK\3\4", 6, b"\1\0", "zip_mismatch"),
        (b"PK\1\2", 10, b"\x0c\0", "zip_method"),
        (b"PK\1\2", 8, b"\x20\0", "zip_method"),
        (b"PK\1\2", 24, b"\x08\0\0\0", "zip_mismatch"),
        (b"PK\3\4", 22, b"\x08\0\0\0", "zip_mismatch"),
        (b"PK\3\4", 18, b"\x08\0\0\0", "zip_mismatch"),
        (b"PK\3\4", 14, b"\x08\0\0\0", "zip_mismatch"),
        (b"PK\3\4", 8, b"\x08\0", "zip_mismatch"),
        (b"PK\3\4", 30, b"q", "zip_mismatch"),
        (b"PK\3\4", 0, b"PX", "zip_mismatch"),
        (b"PK\3\4", 28, b"\x01\0", "zip_overlap"),
        (b"PK\1\2", 42, b"\x01\0\0\0", "zip_overlap"),
        (b"PK\1\2", 42, b"\xf0\0\0\0", "zip_overlap"),
        (b"PK\5\6", 4, b"\1\0", "zip_truncated"),
        (b"PK\5\6", 10, b"\2\0", "zip_truncated"),
        (b"PK\5\6", 16, b"\1\0\0\0", "zip_truncated"),
    ],
)
def test_contradictions_are_refused(mark: bytes, offset: int, value: bytes, code: str) -> None:
    """R-46: one field changed in a good file of one stored member."""
    raw = packed({"a.bin": b"content"}, zipfile.ZIP_STORED)
    assert read_all(raw) == {"a.bin": b"content"}
    assert refusal(patched(raw, mark, offset, value)) == code


def test_entries_that_share_bytes_are_refused() -> None:
    """R-46: the second entry points at the first one's data, as in overlapping bombs."""
    raw = packed({"a": b"x" * 50, "b": b"x" * 50}, zipfile.ZIP_STORED)
    assert refusal(patched(raw, b"PK\1\2", 42, bytes(4), last=True)) == "zip_overlap"
    nested = packed({"a": packed({"b": b"x"}), "c": b""}, zipfile.ZIP_STORED)
    inner = struct.pack("<L", 31)
    assert refusal(patched(nested, b"PK\1\2", 42, inner, last=True)) == "zip_overlap"


def test_content_damage_is_found_by_the_checksum() -> None:
    """R-46: one flipped bit in stored content."""
    raw = packed({"a": b"x" * 50}, zipfile.ZIP_STORED)
    assert refusal(raw.replace(b"x" * 50, b"x" * 49 + b"y")) == "zip_damaged"


def test_reading_members_while_walking_and_short_reads_are_fine() -> None:
    """R-8: the walk seeks for itself, and a source may return fewer bytes than asked."""

    class Slow(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            return super().read(min(size or 0, 7) if size and size > 0 else size)

    files = {f"{number}.jpg": random.Random(number).randbytes(300) for number in range(20)}
    file = Slow(packed(files))
    assert {entry.name: read_entry(file, entry, 300) for entry in iter_entries(file)} == files


def test_large_member_streams_in_small_blocks() -> None:
    """R-8: the big table is never in memory at once."""
    raw = packed({"records.csv": random.Random(1).randbytes(100_000) * 30})
    entry = next(iter_entries(io.BytesIO(raw)))
    sizes = [len(block) for block in open_entry(io.BytesIO(raw), entry, MANY)]
    assert max(sizes) <= 65536
    assert sum(sizes) == 3_000_000


def test_an_entry_handed_to_the_wrong_file_is_refused() -> None:
    """R-46: an entry is only a claim; the file decides."""
    entry = next(iter_entries(io.BytesIO(packed({"a": b"1"}))))
    with pytest.raises(ZipRefusedError):
        read_entry(io.BytesIO(b"no zip at all" * 30), entry, 10)


def test_folders_are_told_apart() -> None:
    """R-8: a folder's placeholder is no photo."""
    raw = packed({"photos/": b"", "photos/1.jpg": b"x"})
    assert [entry.is_folder for entry in iter_entries(io.BytesIO(raw))] == [True, False]
