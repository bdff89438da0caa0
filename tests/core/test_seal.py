"""Sealed packages: what the sender signed is what is read, or nothing is."""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import replace
from datetime import timedelta, timezone
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from portal.core.crypto import TamperedError, sm3
from portal.core.errors import SealRefusedError
from portal.core.seal import (
    check_chunks,
    check_payload,
    extract_payload,
    open_payload,
    read_envelope,
    seal_package,
    unwrap_content_key,
    verify_envelope,
)
from tests.core.seal_cases import (
    CHUNK,
    CREATED,
    ENVELOPE_JSON,
    PAYLOAD,
    PLAINTEXT,
    RECIPIENT,
    SEALED,
    SENDER,
    STRANGER,
    members_of,
    packed,
    receive,
    refusal_of,
    seal,
    with_fields,
)


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
