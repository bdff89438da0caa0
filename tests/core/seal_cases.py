"""An honest sealed package, and the means to spoil it, for the tests of the seal."""

from __future__ import annotations

import io
import json
import zipfile
from datetime import UTC, datetime
from typing import Any

import pytest

from portal.core.crypto import Sm2PrivateKey
from portal.core.errors import SealRefusedError
from portal.core.seal import (
    Envelope,
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
    return with_envelope(canonical(kept))


def canonical(fields: dict[str, Any]) -> bytes:
    """Write JSON as the format wants it."""
    return json.dumps(fields, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()


def with_envelope(content: bytes) -> bytes:
    """Return the container with other bytes for its envelope and right CRCs around them."""
    return packed([("payload.bin", PAYLOAD), ("envelope.json", content)])


def refusal_of(content: bytes) -> SealRefusedError:
    with pytest.raises(SealRefusedError) as refusal:
        receive(content)
    return refusal.value
