"""The machine file: there and back, keys bound to their card, every damage refused (R-25, R-18)."""

from __future__ import annotations

import dataclasses
import io
import json
import struct
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portal.core.crypto import FieldCipher, TamperedError, sm3
from production.personalization.machinefile import (
    MAGIC,
    MachineCard,
    MachineFileError,
    MachineFileReader,
    MachineFileWriter,
    MachineHeader,
)
from production.personalization.stripe import Stripe

WRAP = FieldCipher(bytes(range(16)))
HEADER = MachineHeader("B20261012-01", 3, "sssc-3.0-sm4", "plain", ("SSSE/IRK", "SSSE/BK"))
SECRET = b"KEYMATERIAL-0123" * 2


def card(sequence: int, **changes: object) -> MachineCard:
    base = MachineCard(
        sequence,
        f"BLANK{sequence:06d}",
        b"chip" * 300,
        SECRET,
        Stripe(b"%B1?", b";1?", b";2?"),
        b"\xff\xd8" * 5000,
    )
    return dataclasses.replace(base, **changes)  # type: ignore[arg-type]


def written(cards: list[MachineCard], header: MachineHeader = HEADER) -> bytes:
    out = io.BytesIO()
    writer = MachineFileWriter(out, header, WRAP)
    for one in cards:
        writer.add(one)
    assert writer.close() == out.getvalue()[-32:]
    assert writer.count == len(cards)
    return out.getvalue()


def read(raw: bytes, wrap: FieldCipher = WRAP) -> list[MachineCard]:
    return list(MachineFileReader(io.BytesIO(raw), wrap))


def resealed(body: bytes) -> bytes:
    """Return a file whose digest fits its changed content."""
    return body + sm3(body)


FILE = written([card(1), card(2), card(7)])


def test_cards_come_back_as_they_were() -> None:
    reader = MachineFileReader(io.BytesIO(FILE), WRAP)
    assert reader.header == HEADER
    assert list(reader) == [card(1), card(2), card(7)]


@pytest.mark.parametrize("cards", [[], [card(1)], [card(4, chip=b"", face=b"", keys=b"")]])
def test_few_cards_come_back(cards: list[MachineCard]) -> None:
    assert read(written(cards)) == cards


def test_source_that_returns_few_bytes_at_a_time_is_read_whole() -> None:
    class Drip(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            return super().read(min(size or 0, 7))

    assert len(list(MachineFileReader(Drip(FILE), WRAP))) == 3


def test_keys_are_never_in_the_clear() -> None:
    """R-25: neither in the file nor in a repr."""
    assert SECRET not in FILE
    assert b"KEYMATERIAL" not in FILE
    assert "KEYMATERIAL" not in repr(card(1))
    assert "ffd8" not in repr(card(1))


def test_another_transport_key_opens_nothing() -> None:
    with pytest.raises(TamperedError):
        read(FILE, FieldCipher(bytes(16)))


@pytest.mark.parametrize("change", [{"sequence": 2}, {"blank_serial": "BLANK000002"}])
def test_keys_open_only_for_their_own_card(change: dict[str, object]) -> None:
    """R-25: one card's keys, put under another's number, do not open: nothing can be cloned by swapping."""

    class Swapped:
        def seal(self, plaintext: bytes, context: bytes, /) -> bytes:
            return WRAP.seal(plaintext, b"machine-card|B20261012-01|3|1|BLANK000001")

        def open(self, blob: bytes, context: bytes, /) -> bytes:
            return WRAP.open(blob, context)

    out = io.BytesIO()
    writer = MachineFileWriter(out, HEADER, Swapped())
    writer.add(dataclasses.replace(card(1), **change))  # type: ignore[arg-type]
    writer.close()
    with pytest.raises(TamperedError):
        read(out.getvalue())


@pytest.mark.parametrize("sequences", [[0], [2, 1], [1, 1]])
def test_sequence_must_rise(sequences: list[int]) -> None:
    """A card repeated by a restarted worker is refused before it is written."""
    out = io.BytesIO()
    writer = MachineFileWriter(out, HEADER, WRAP)
    for number in sequences[:-1]:
        writer.add(card(number))
    before = out.getvalue()
    with pytest.raises(MachineFileError, match="没有递增"):
        writer.add(card(sequences[-1]))
    assert (out.getvalue(), writer.count) == (before, len(sequences) - 1)


def test_card_too_large_is_refused_before_it_is_written() -> None:
    out = io.BytesIO()
    writer = MachineFileWriter(out, HEADER, WRAP)
    before = out.getvalue()
    with pytest.raises(MachineFileError, match="单卡数据过大"):
        writer.add(card(1, face=bytes(3_000_000)))
    assert out.getvalue() == before


@given(st.integers(0, len(FILE) - 1))
def test_cut_file_is_refused(size: int) -> None:
    with pytest.raises(MachineFileError, match="不完整"):
        read(FILE[:size])


def test_file_of_a_killed_writer_is_refused() -> None:
    """Without `close` there is no end mark, however many whole cards were written."""
    out = io.BytesIO()
    writer = MachineFileWriter(out, HEADER, WRAP)
    writer.add(card(1))
    with pytest.raises(MachineFileError, match="不完整"):
        read(out.getvalue())


@given(st.integers(0, len(FILE) - 1), st.integers(0, 7))
def test_one_flipped_bit_is_refused(position: int, bit: int) -> None:
    raw = bytearray(FILE)
    raw[position] ^= 1 << bit
    with pytest.raises((MachineFileError, TamperedError)):
        read(bytes(raw))


@given(st.binary(max_size=200))
def test_hostile_bytes_are_refused(raw: bytes) -> None:
    for attempt in (raw, MAGIC + raw, FILE[:400] + raw):
        with pytest.raises((MachineFileError, TamperedError)):
            read(attempt)


def test_bytes_after_the_trailer_are_refused() -> None:
    with pytest.raises(MachineFileError, match="多余内容"):
        read(FILE + b"\x00")


def test_declared_count_must_be_the_counted() -> None:
    with pytest.raises(MachineFileError, match="张数不符") as caught:
        read(resealed(FILE[:-36] + struct.pack(">I", 4)))
    assert (caught.value.expected, caught.value.got) == ("4", "3")


def test_length_of_four_gigabytes_is_not_allocated() -> None:
    head = FILE[: len(MAGIC) + 4 + struct.unpack(">I", FILE[len(MAGIC) : len(MAGIC) + 4])[0]]
    with pytest.raises(MachineFileError, match="长度超出范围"):
        read(head + b"\xff\xff\xff\xff")
    with pytest.raises(MachineFileError, match="长度超出范围"):
        read(MAGIC + b"\xff\xff\xff\xff")


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"[]",
        b"\xff",
        b"{}",
        b"[" * 5000,
        json.dumps({"batch": 1, "chunk": 3, "profile": "p", "face_template": "f", "key_names": []}).encode(),
        json.dumps(
            {"batch": "b", "chunk": True, "profile": "p", "face_template": "f", "key_names": []}
        ).encode(),
        json.dumps({"batch": "b", "chunk": 3, "profile": "p", "face_template": "f", "key_names": 5}).encode(),
        json.dumps(
            {"batch": "b", "chunk": 3, "profile": "p", "face_template": "f", "key_names": [], "x": 1}
        ).encode(),
    ],
)
def test_header_that_is_none_is_refused(header: bytes) -> None:
    with pytest.raises(MachineFileError, match="文件头"):
        MachineFileReader(io.BytesIO(MAGIC + struct.pack(">I", len(header)) + header), WRAP)


@pytest.mark.parametrize("body", [b"\x00", b"\x00\x00\x00\x01", b"\x00\x00\x00\x01" + bytes(24), bytes(36)])
def test_card_of_another_shape_is_refused(body: bytes) -> None:
    empty = written([])
    head = empty[: -32 - 8]
    with pytest.raises(MachineFileError, match="结构不对"):
        read(head + struct.pack(">I", len(body)) + body)


def test_serial_that_is_no_text_is_refused() -> None:
    body = b"\x00\x00\x00\x01" + b"\x00\x00\x00\x01\xff" + bytes(24)
    with pytest.raises(MachineFileError, match="不是文本"):
        read(written([])[:-40] + struct.pack(">I", len(body)) + body)


def test_header_too_long_is_refused() -> None:
    with pytest.raises(MachineFileError, match="文件头过长"):
        MachineFileWriter(io.BytesIO(), dataclasses.replace(HEADER, batch="x" * 70_000), WRAP)


def test_reading_holds_one_card_at_a_time(tmp_path: object) -> None:
    """Memory does not grow with the chunk: 300 cards of 80 KB pass through less than 2 MB."""
    out = io.BytesIO()
    writer = MachineFileWriter(out, HEADER, WRAP)
    for number in range(1, 301):
        writer.add(card(number, face=bytes(80_000)))
    writer.close()
    out.seek(0)
    tracemalloc.start()
    count = sum(1 for _ in MachineFileReader(out, WRAP))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 300
    assert peak < 2_000_000


@given(st.lists(st.integers(1, 10**6), min_size=1, max_size=6, unique=True), st.data())
def test_one_card_is_found_without_the_others(sequences: list[int], data: st.DataObject) -> None:
    """A station asks for one card of a batch again and again; each blank's own card comes, keys and all."""
    cards = [card(sequence) for sequence in sorted(sequences)]
    raw = io.BytesIO(written(cards))
    places = MachineFileReader(raw, WRAP).places()
    assert list(places) == [one.blank_serial for one in cards]
    wanted = data.draw(st.sampled_from(cards))
    raw.seek(0)
    assert MachineFileReader(raw, WRAP).card_at(places[wanted.blank_serial]) == wanted


@given(st.binary(max_size=200), st.integers(0, 400))
def test_hostile_bytes_have_no_places(tail: bytes, place: int) -> None:
    """Cut, damaged or made up: refused, never another card."""
    raw = written([card(1)])[:-40] + tail
    for work in (lambda r: r.places(), lambda r: r.card_at(place)):
        try:
            found = work(MachineFileReader(io.BytesIO(raw), WRAP))
        except (MachineFileError, TamperedError):
            continue
        assert isinstance(found, dict) or found == card(1)
