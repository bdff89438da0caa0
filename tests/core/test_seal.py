"""Sealed packages: what the sender signed is what is read, or nothing is."""

from __future__ import annotations

import io
import json
import struct
import zipfile
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from portal.core.crypto import Sm2PrivateKey, TamperedError, sm3
from portal.core.errors import SealRefusedError
from portal.core.seal import (
    Envelope,
    check_chunks,
    check_payload,
    extract_payload,
    open_payload,
    read_envelope,
    seal_package,
    unwrap_content_key,
    verify_envelope,
)

SENDER, RECIPIENT, STRANGER = (Sm2PrivateKey.generate() for _ in range(3))
CREATED = datetime(2026, 11, 23, 8, 0, 0, tzinfo=UTC)
PLAINTEXT = bytes(number % 251 for number in range(2500))
CHUNK = 1024


def seal(plaintext: bytes = PLAINTEXT, **changes: Any) -> bytes:
    parties = {
        "sender": "PROVINCE",
        "sender_key": SENDER,
        "recipient": "PORTAL",
        "recipient_key": RECIPIENT.public,
        "package_number": "20261123-001",
        "created_at": CREATED,
        "chunk_size": CHUNK,
    }
    target = io.BytesIO()
    seal_package(io.BytesIO(plaintext), target, **(parties | changes))
    return target.getvalue()


def receive(content: bytes) -> tuple[Envelope, bytes]:
    """Do what the portal does on receipt; return the envelope and the plaintext."""
    container = io.BytesIO(content)
    envelope = read_envelope(container)
    payload = io.BytesIO()
    extract_payload(container, envelope, payload)
    verify_envelope(envelope, recipient="PORTAL", sender_key=SENDER.public)
    key = unwrap_content_key(envelope, RECIPIENT)
    return envelope, open_payload(payload, envelope, key).readall()


def members_of(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def packed(members: list[tuple[str, bytes]], compression: int = zipfile.ZIP_STORED) -> bytes:
    """Write a container with right CRCs around whatever it is given."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", compression) as archive:
        for name, content in members:
            archive.writestr(zipfile.ZipInfo(name), content, compression)
    return target.getvalue()


SEALED = seal()
ENVELOPE_JSON = members_of(SEALED)["envelope.json"]
PAYLOAD = members_of(SEALED)["payload.bin"]


def with_fields(**changes: Any) -> bytes:
    """Return the container with other fields in its envelope; the signature stays as it was."""
    fields = json.loads(ENVELOPE_JSON) | changes
    kept = {name: value for name, value in fields.items() if value is not ...}
    return packed([("payload.bin", PAYLOAD), ("envelope.json", json.dumps(kept).encode())])


def refusal_of(content: bytes) -> SealRefusedError:
    with pytest.raises(SealRefusedError) as refusal:
        receive(content)
    return refusal.value


@pytest.mark.parametrize("length", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK, 5000])
def test_what_was_sealed_is_received(length: int) -> None:
    """R-8."""
    plaintext = (PLAINTEXT * 2)[:length]
    envelope, received = receive(seal(plaintext))
    assert received == plaintext
    assert (envelope.sender, envelope.recipient, envelope.package_number) == (
        "PROVINCE",
        "PORTAL",
        "20261123-001",
    )
    assert (envelope.created_at, envelope.payload_length) == (CREATED, length)


def test_the_container_is_two_stored_members_and_the_envelope_is_canonical() -> None:
    """Architecture §6."""
    with zipfile.ZipFile(io.BytesIO(SEALED)) as archive:
        members = archive.infolist()
    assert [(member.filename, member.compress_type) for member in members] == [
        ("payload.bin", zipfile.ZIP_STORED),
        ("envelope.json", zipfile.ZIP_STORED),
    ]
    fields = json.loads(ENVELOPE_JSON)
    assert json.dumps(fields, sort_keys=True, separators=(",", ":")).encode() == ENVELOPE_JSON
    assert fields["created_at"] == "2026-11-23T08:00:00Z"
    assert fields["payload_digest"] == sm3(PAYLOAD).hex()
    assert read_envelope(io.BytesIO(SEALED)).to_json() == ENVELOPE_JSON
    signed = {name: value for name, value in fields.items() if name != "signature"}
    content = json.dumps(signed, sort_keys=True, separators=(",", ":")).encode()
    assert SENDER.public.verify(bytes.fromhex(fields["signature"]), content)
    assert read_envelope(io.BytesIO(SEALED)).digest() == sm3(content)


def test_a_container_beyond_4_gib_has_zip64_records_and_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit is lowered instead of the disk being filled."""
    with monkeypatch.context() as patched:
        patched.setattr(zipfile, "ZIP64_LIMIT", 100)
        content = seal()
    assert b"PK\x06\x06" in content
    assert receive(content)[1] == PLAINTEXT


def test_no_plaintext_stands_in_the_container_and_no_two_seals_are_alike() -> None:
    assert not any(PLAINTEXT[start : start + 16] in SEALED for start in range(0, len(PLAINTEXT) - 16, 16))
    assert members_of(seal())["payload.bin"] != PAYLOAD


def test_a_source_that_gives_little_at_a_time_is_sealed_whole() -> None:
    class Dripping(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            return super().read(min(size or 0, 7))

    target = io.BytesIO()
    seal_package(
        Dripping(PLAINTEXT),
        target,
        sender="PROVINCE",
        sender_key=SENDER,
        recipient="PORTAL",
        recipient_key=RECIPIENT.public,
        package_number="1",
        created_at=CREATED.astimezone(timezone(timedelta(hours=8))),
    )
    envelope, received = receive(target.getvalue())
    assert (received, envelope.created_at) == (PLAINTEXT, CREATED)


@settings(max_examples=15, deadline=None)
@given(st.binary(max_size=5000), st.integers(0, 2500), st.integers(0, 2500))
def test_a_zip_reader_may_jump_about_in_the_payload(plaintext: bytes, offset: int, size: int) -> None:
    container = io.BytesIO(seal(plaintext))
    envelope = read_envelope(container)
    payload = io.BytesIO()
    extract_payload(container, envelope, payload)
    reader = open_payload(payload, envelope, unwrap_content_key(envelope, RECIPIENT))
    assert reader.read_at(offset, size) == plaintext[offset : offset + size]
    check_chunks(container, envelope, unwrap_content_key(envelope, RECIPIENT))


def test_every_flipped_bit_of_the_container_is_refused_or_without_effect() -> None:
    """R-8: only bits of the ZIP that nobody reads, such as a member's date, may differ."""
    whole = read_envelope(io.BytesIO(SEALED))
    refused, harmless = 0, 0
    for position in range(len(SEALED) * 8):
        changed = bytearray(SEALED)
        changed[position // 8] ^= 1 << position % 8
        container = io.BytesIO(bytes(changed))
        try:
            envelope = read_envelope(container)
            check_payload(container, envelope)
        except SealRefusedError:
            refused += 1
        else:
            assert envelope == whole
            harmless += 1
    assert refused >= (len(PAYLOAD) + len(ENVELOPE_JSON)) * 8
    assert harmless < (len(SEALED) - len(PAYLOAD) - len(ENVELOPE_JSON)) * 8


def test_a_flipped_bit_of_the_envelope_with_repaired_checksums_is_refused() -> None:
    """R-8: each byte in turn; somebody who can write a ZIP can write its CRC."""
    for position in range(len(ENVELOPE_JSON)):
        changed = bytearray(ENVELOPE_JSON)
        changed[position] ^= 1 << position % 8
        refusal_of(packed([("payload.bin", PAYLOAD), ("envelope.json", bytes(changed))]))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, len(PAYLOAD) * 8 - 1))
def test_a_flipped_bit_of_the_payload_with_repaired_checksums_is_refused(position: int) -> None:
    changed = bytearray(PAYLOAD)
    changed[position // 8] ^= 1 << position % 8
    content = packed([("payload.bin", bytes(changed)), ("envelope.json", ENVELOPE_JSON)])
    assert refusal_of(content).code == "payload_changed"
    container = io.BytesIO(content)
    envelope = read_envelope(container)
    with pytest.raises(TamperedError):
        check_chunks(container, envelope, unwrap_content_key(envelope, RECIPIENT))


def test_moved_chunks_are_refused_even_when_the_digest_is_made_anew() -> None:
    block = CHUNK + 16
    blocks = [PAYLOAD[start : start + block] for start in range(0, len(PAYLOAD), block)]
    key = unwrap_content_key(read_envelope(io.BytesIO(SEALED)), RECIPIENT)
    for order in ([1, 0, 2], [0, 0, 2], [1, 1, 2]):
        payload = b"".join(blocks[index] for index in order)
        envelope = replace(read_envelope(io.BytesIO(SEALED)), payload_digest=sm3(payload)).signed_by(SENDER)
        container = io.BytesIO(packed([("payload.bin", payload), ("envelope.json", envelope.to_json())]))
        check_payload(container, envelope)
        with pytest.raises(TamperedError):
            check_chunks(container, envelope, key)


@pytest.mark.parametrize("length", [0, 1, 30, 1000, len(SEALED) // 2, len(SEALED) - 23, len(SEALED) - 1])
def test_a_cut_container_is_refused(length: int) -> None:
    assert refusal_of(SEALED[:length]).code == "not_a_container"


def test_a_container_with_something_glued_on_is_refused() -> None:
    assert refusal_of(SEALED + b"\0").code == "not_a_container"
    assert refusal_of(b"MZ" + SEALED).code == "not_a_container"
    commented = io.BytesIO(SEALED)
    with zipfile.ZipFile(commented, "a") as archive:
        archive.comment = b"x" * 40
    assert refusal_of(commented.getvalue()).code == "not_a_container"
    assert refusal_of(SEALED[:-2] + b"\x01\x00").code == "container_broken"


def test_a_container_in_front_of_another_is_refused() -> None:
    assert refusal_of(seal(b"other") + SEALED).code == "container_broken"


BOTH = [("payload.bin", PAYLOAD), ("envelope.json", ENVELOPE_JSON)]


@pytest.mark.parametrize(
    "members",
    [
        pytest.param([], id="none"),
        pytest.param(BOTH[:1], id="envelope missing"),
        pytest.param([*BOTH, ("readme.txt", b"")], id="one more"),
        pytest.param([BOTH[0], ("../envelope.json", ENVELOPE_JSON)], id="traversal"),
        pytest.param([BOTH[0], ("/envelope.json", ENVELOPE_JSON)], id="absolute"),
        pytest.param([BOTH[0], ("Envelope.json", ENVELOPE_JSON)], id="other case"),
        pytest.param([BOTH[0], ("envelope.json/", b"")], id="folder"),
    ],
)
def test_other_members_are_refused(members: list[tuple[str, bytes]]) -> None:
    assert refusal_of(packed(members)).code in {"members_refused", "not_a_container"}


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_doubled_member_is_refused() -> None:
    assert refusal_of(packed([BOTH[1], BOTH[1]])).code == "members_refused"


def test_a_name_with_a_hidden_tail_is_refused() -> None:
    """zipfile cuts names at a NUL; the original name is the one that is judged."""
    content = packed([BOTH[0], ("envelope.jsonX", ENVELOPE_JSON)]).replace(
        b"envelope.jsonX", b"envelope.json\0"
    )
    assert refusal_of(content).code == "members_refused"


def test_compressed_and_encrypted_members_are_refused() -> None:
    assert refusal_of(packed(BOTH, zipfile.ZIP_DEFLATED)).code == "member_compressed"
    content = bytearray(SEALED)
    directory = content.index(b"PK\x01\x02")
    content[directory + 8] |= 1
    assert refusal_of(bytes(content)).code == "member_compressed"


def test_an_oversize_envelope_is_refused_before_it_is_read() -> None:
    padded = ENVELOPE_JSON + b" " * (64 * 1024)
    refusal = refusal_of(packed([BOTH[0], ("envelope.json", padded)]))
    assert (refusal.code, refusal.where) == ("envelope_oversize", "envelope.json")
    assert refusal.got == f"{len(padded)} 字节"


def test_a_directory_that_claims_to_be_huge_is_refused() -> None:
    content = bytearray(SEALED)
    struct.pack_into("<L", content, len(content) - 10, 1 << 31)
    assert refusal_of(bytes(content)).code == "container_broken"
    end = SEALED[-22:]
    record = struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, 2, 2, 1 << 40, 0)
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, len(SEALED) - 22, 1)
    assert refusal_of(SEALED[:-22] + record + locator + end).code == "container_broken"
    assert refusal_of(SEALED[:-22] + locator + end).code == "container_broken"


def test_members_that_overlap_are_refused() -> None:
    """A bomb: both names over the same bytes."""
    content = bytearray(packed([BOTH[1], ("payload.bin", b"")]))
    second = content.index(b"PK\x01\x02", content.index(b"PK\x01\x02") + 4)
    struct.pack_into("<LL", content, second + 20, len(ENVELOPE_JSON), len(ENVELOPE_JSON))
    struct.pack_into("<L", content, second + 42, 0)
    assert refusal_of(bytes(content)).code == "container_broken"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"null",
        b"{",
        b"\xff\xfe{}",
        b"[" * 60000,
        b'{"version":1,"version":1}',
        b'{"version":' + b"9" * 5000 + b"}",
    ],
    ids=["empty", "list", "null", "cut", "utf-16", "deep", "doubled", "endless number"],
)
def test_an_envelope_that_is_no_json_object_is_refused(content: bytes) -> None:
    refusal = refusal_of(packed([BOTH[0], ("envelope.json", content)]))
    assert (refusal.code, refusal.where) == ("envelope_unreadable", "envelope.json")


@pytest.mark.parametrize("version", [0, 2, "1", True, 1.0, None, ...])
def test_an_unknown_version_is_refused(version: object) -> None:
    refusal = refusal_of(with_fields(version=version))
    assert (refusal.code, refusal.where, refusal.expected) == ("version_unknown", "version", "1")


@pytest.mark.parametrize("algorithms", [{}, None, {"cipher": "SM4-ECB"}, "SM4-GCM"])
def test_unknown_algorithms_are_refused(algorithms: object) -> None:
    assert refusal_of(with_fields(algorithms=algorithms)).code == "algorithm_unknown"


@pytest.mark.parametrize("chunk_size", [0, -1, 1, 1023, (1 << 20) + 1, "1024", 1024.0, True, None])
def test_a_chunk_size_out_of_range_is_refused(chunk_size: object) -> None:
    refusal = refusal_of(with_fields(chunk_size=chunk_size))
    assert (refusal.code, refusal.where) == ("chunk_size_refused", "chunk_size")


@pytest.mark.parametrize("length", [0, 2499, 2501, 1 << 40])
def test_sizes_that_do_not_add_up_are_refused(length: int) -> None:
    refusal = refusal_of(with_fields(payload_length=length))
    assert (refusal.code, refusal.got) == ("size_mismatch", f"{len(PAYLOAD)} 字节")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("sender", ""),
        ("sender", "a" * 65),
        ("sender", "../../etc"),
        ("sender", 7),
        ("recipient", "PORTAL\n"),
        ("package_number", "1/2"),
        ("package_number", ".1"),
        ("package_number", ...),
        ("created_at", "2026-11-23"),
        ("created_at", "2026-11-23T8:00:00Z"),
        ("created_at", "2026-02-30T08:00:00Z"),
        ("created_at", 0),
        ("payload_length", -1),
        ("payload_length", (1 << 40) + 1),
        ("payload_length", True),
        ("wrapped_key", "zz"),
        ("wrapped_key", "00" * 513),
        ("payload_digest", "AB" * 32),
        ("payload_digest", "ab" * 31),
        ("signature", ""),
        ("signature", None),
        ("comment", "x"),
    ],
)
def test_a_malformed_field_is_refused_by_name(field: str, value: object) -> None:
    refusal = refusal_of(with_fields(**{field: value}))
    assert refusal.code == "envelope_field"
    assert field in refusal.where


@pytest.mark.parametrize("field", ["sender", "recipient", "package_number", "created_at"])
def test_a_changed_field_breaks_the_signature(field: str) -> None:
    other = "2026-11-23T08:00:01Z" if field == "created_at" else "OTHER"
    container = io.BytesIO(with_fields(**{field: other}))
    envelope = read_envelope(container)
    with pytest.raises(SealRefusedError) as refusal:
        verify_envelope(envelope, recipient=envelope.recipient, sender_key=SENDER.public)
    assert (refusal.value.code, refusal.value.where) == ("bad_signature", "signature")


def test_a_package_for_somebody_else_is_refused() -> None:
    refusal = refusal_of(seal(recipient="BANK-1"))
    assert (refusal.code, refusal.expected, refusal.got) == ("wrong_recipient", "PORTAL", "BANK-1")


def test_a_package_signed_by_somebody_else_is_refused() -> None:
    assert refusal_of(seal(sender_key=STRANGER)).code == "bad_signature"


def test_a_package_wrapped_for_somebody_else_is_refused() -> None:
    assert refusal_of(seal(recipient_key=STRANGER.public)).code == "wrong_key"


def test_the_payload_of_another_package_is_refused_under_its_own_key() -> None:
    """Chunks are tied to sender, recipient, number and time, beyond the key."""
    envelope = read_envelope(io.BytesIO(SEALED))
    key = unwrap_content_key(envelope, RECIPIENT)
    for other in (
        replace(envelope, package_number="20261123-002"),
        replace(envelope, sender="BANK-1"),
        replace(envelope, created_at=CREATED + timedelta(seconds=1)),
    ):
        with pytest.raises(TamperedError):
            open_payload(io.BytesIO(PAYLOAD), other, key).readall()


def test_the_extracted_payload_holds_no_wrapped_key() -> None:
    """R-22: destroying our copy of the key is enough."""
    container, payload = io.BytesIO(SEALED), io.BytesIO()
    envelope = read_envelope(container)
    extract_payload(container, envelope, payload)
    assert payload.getvalue() == PAYLOAD
    assert envelope.wrapped_key not in payload.getvalue()
    assert envelope.wrapped_key.hex().encode() not in payload.getvalue()


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"sender": "a b"}, "envelope_field"),
        ({"recipient": ""}, "envelope_field"),
        ({"package_number": "../1"}, "envelope_field"),
        ({"chunk_size": 16}, "chunk_size_refused"),
    ],
)
def test_a_sender_cannot_seal_what_nobody_would_accept(changes: dict[str, Any], code: str) -> None:
    target = io.BytesIO()
    with pytest.raises(SealRefusedError) as refusal:
        seal(**changes)
    assert refusal.value.code == code
    assert target.getvalue() == b""


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_refused_and_never_crash_the_reader(content: bytes) -> None:
    for wrapped in (
        content,
        b"PK\x03\x04" + content + SEALED[-22:],
        SEALED[: len(content)] + content + SEALED[-400:],
    ):
        with pytest.raises(SealRefusedError):
            read_envelope(io.BytesIO(wrapped))
