"""Sealed packages: a stored ZIP of `envelope.json` and `payload.bin` (architecture §6), streamed both ways.

The order on receipt: read_envelope, verify_envelope, check_payload (or extract_payload, which checks too),
unwrap_content_key, open_payload. Nothing of the payload is parsed before the signature and the digest held.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import BinaryIO

from portal.core.crypto import Sm2PrivateKey, Sm2PublicKey, new_key, sm3_hasher
from portal.core.errors import SealRefusedError
from portal.core.seal_chunks import (
    DEFAULT_CHUNK_SIZE,
    MAX_CHUNK_SIZE,
    MIN_CHUNK_SIZE,
    ChunkCipher,
    SealedReader,
    SealedWriter,
    open_sealed,
)
from portal.core.seal_container import ENVELOPE_NAME, PAYLOAD_NAME, read_layout
from portal.core.seal_envelope import Envelope, check_party, parse_envelope, unwrap_content_key
from portal.core.seal_refusals import (
    BadSignatureError,
    ChunkSizeError,
    PayloadChangedError,
    SizeMismatchError,
    WrongRecipientError,
)

__all__ = [
    "DEFAULT_CHUNK_SIZE",
    "Envelope",
    "SealRefusedError",
    "SealedReader",
    "SealedWriter",
    "check_chunks",
    "check_payload",
    "extract_payload",
    "open_container",
    "open_payload",
    "open_sealed",
    "read_envelope",
    "seal_package",
    "unwrap_content_key",
    "verify_envelope",
]

_COPY_SIZE = 1024 * 1024
_ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)


def seal_package(
    source: BinaryIO,
    target: BinaryIO,
    *,
    sender: str,
    sender_key: Sm2PrivateKey,
    recipient: str,
    recipient_key: Sm2PublicKey,
    package_number: str,
    created_at: datetime,
    chunk_size: int = DEFAULT_CHUNK_SIZE,
) -> Envelope:
    """Seal everything `source` holds into a container in the seekable `target`; memory: a few chunks."""
    if not MIN_CHUNK_SIZE <= chunk_size <= MAX_CHUNK_SIZE:
        raise ChunkSizeError(
            "块长度超出范围", expected=f"{MIN_CHUNK_SIZE}–{MAX_CHUNK_SIZE}", got=str(chunk_size)
        )
    content_key = new_key()
    envelope = Envelope(
        sender=check_party(sender, "sender"),
        recipient=check_party(recipient, "recipient"),
        package_number=check_party(package_number, "package_number"),
        created_at=created_at.astimezone(UTC).replace(microsecond=0),
        chunk_size=chunk_size,
        payload_length=0,
        wrapped_key=recipient_key.wrap(content_key),
    )
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        envelope = _write_payload(archive, source, envelope, content_key).signed_by(sender_key)
        archive.writestr(zipfile.ZipInfo(ENVELOPE_NAME, _ZIP_EPOCH), envelope.to_json())
    return envelope


def read_envelope(container: BinaryIO) -> Envelope:
    """Return the envelope of a container whose structure holds; nothing in it is proven yet."""
    layout = read_layout(container)
    envelope = parse_envelope(layout.envelope)
    _check_size(envelope, layout.payload_size)
    return envelope


def verify_envelope(envelope: Envelope, *, recipient: str, sender_key: Sm2PublicKey) -> None:
    """Raise WrongRecipientError or BadSignatureError unless the sender made this envelope for `recipient`."""
    if envelope.recipient != recipient:
        raise WrongRecipientError(
            "数据包不是发给本机构的", where="recipient", expected=recipient, got=envelope.recipient
        )
    if not sender_key.verify(envelope.signature, envelope.signed_content()):
        raise BadSignatureError(
            "数据包签名无效",
            where="signature",
            expected=f"{envelope.sender} 的签名，公钥 {sender_key.fingerprint()}",
        )


def check_payload(container: BinaryIO, envelope: Envelope) -> None:
    """Raise PayloadChangedError unless the payload has the digest that stands under the signature."""
    for _ in _payload_parts(container, envelope):
        pass


def extract_payload(container: BinaryIO, envelope: Envelope, target: BinaryIO) -> None:
    """Copy `payload.bin`, still sealed, to `target`; raise PayloadChangedError, the caller drops it.

    The copy goes without the wrapped key, so destroying our own copy of the key is enough.
    """
    target.writelines(_payload_parts(container, envelope))


def open_payload(
    payload: BinaryIO, envelope: Envelope, content_key: bytes, *, offset: int = 0
) -> SealedReader:
    """Return the plaintext view of an extracted payload."""
    return SealedReader(
        payload,
        content_key,
        chunk_size=envelope.chunk_size,
        plaintext_length=envelope.payload_length,
        context=envelope.context(),
        offset=offset,
    )


def check_chunks(container: BinaryIO, envelope: Envelope, content_key: bytes) -> None:
    """Open every chunk inside the container; raise TamperedError naming the first bad one."""
    open_container(container, envelope, content_key).check()


def open_container(container: BinaryIO, envelope: Envelope, content_key: bytes) -> SealedReader:
    """Return the plaintext view of the payload where it lies; the caller has checked signature and digest."""
    return open_payload(container, envelope, content_key, offset=read_layout(container).payload_offset)


def _write_payload(
    archive: zipfile.ZipFile, source: BinaryIO, envelope: Envelope, content_key: bytes
) -> Envelope:
    """Write `payload.bin`; return the envelope with its length and digest."""
    cipher = ChunkCipher(content_key, envelope.context())
    hasher = sm3_hasher()
    length = 0
    with archive.open(zipfile.ZipInfo(PAYLOAD_NAME, _ZIP_EPOCH), "w", force_zip64=True) as payload:
        for index, (chunk, last) in enumerate(_chunks(source, envelope.chunk_size)):
            sealed = cipher.seal(index, chunk, last=last)
            hasher.update(sealed)
            payload.write(sealed)
            length += len(chunk)
    return replace(envelope, payload_length=length, payload_digest=hasher.finalize())


def _chunks(source: BinaryIO, size: int) -> Iterator[tuple[bytes, bool]]:
    """Yield full chunks and whether each is the last; an empty source yields one empty chunk."""
    chunk = _read_full(source, size)
    while following := _read_full(source, size):
        yield chunk, False
        chunk = following
    yield chunk, True


def _read_full(source: BinaryIO, size: int) -> bytes:
    """Read `size` bytes even from pipes that give less at a time; fewer only at the end."""
    parts = []
    while size and (part := source.read(size)):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def _payload_parts(container: BinaryIO, envelope: Envelope) -> Iterator[bytes]:
    """Yield the payload's bytes; raise at the end unless their digest is the signed one."""
    layout = read_layout(container)
    _check_size(envelope, layout.payload_size)
    hasher = sm3_hasher()
    container.seek(layout.payload_offset)
    left = layout.payload_size
    while left and (part := container.read(min(left, _COPY_SIZE))):
        hasher.update(part)
        yield part
        left -= len(part)
    digest = hasher.finalize()
    if left or digest != envelope.payload_digest:
        raise PayloadChangedError(
            "数据包内容与签名的摘要不符",
            where=PAYLOAD_NAME,
            expected=envelope.payload_digest.hex(),
            got=digest.hex(),
        )


def _check_size(envelope: Envelope, payload_size: int) -> None:
    if payload_size != envelope.sealed_payload_length:
        raise SizeMismatchError(
            "数据包内容长度与信封不符",
            where=PAYLOAD_NAME,
            expected=f"{envelope.sealed_payload_length} 字节",
            got=f"{payload_size} 字节",
        )
