"""P1, the part of the seal: a package of photos sealed and opened."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from bench.compare import Comparison, Target, Variant
from portal.core.crypto import Sm2PrivateKey
from portal.core.seal import extract_payload, open_payload, read_envelope, seal_package, unwrap_content_key

PHOTOS = 500
PHOTO_BYTES = 16 * 1024
READ_BYTES = 1 << 20


def comparisons() -> Iterator[Comparison]:
    """Compare sealing and opening with bare SM4-GCM over the same bytes."""
    sender, recipient = Sm2PrivateKey.generate(), Sm2PrivateKey.generate()
    plaintext = os.urandom(PHOTOS * PHOTO_BYTES)
    sealed = _sealed(plaintext, sender, recipient)

    def seal() -> int:
        _sealed(plaintext, sender, recipient)
        return PHOTOS

    def unseal() -> int:
        container, payload = io.BytesIO(sealed), io.BytesIO()
        envelope = read_envelope(container)
        extract_payload(container, envelope, payload)
        reader = open_payload(payload, envelope, unwrap_content_key(envelope, recipient))
        while reader.read(READ_BYTES):
            pass
        return PHOTOS

    def gcm() -> int:
        for start in range(0, len(plaintext), READ_BYTES):
            encryptor = Cipher(algorithms.SM4(bytes(16)), modes.GCM(bytes(12))).encryptor()
            encryptor.update(plaintext[start : start + READ_BYTES])
            encryptor.finalize()
        return PHOTOS

    bare = "SM4-GCM alone"
    for title, work in (("seal 16 KB photos", seal), ("open 16 KB photos", unseal)):
        variants = [Variant("ours", title, work), Variant("limit", bare, gcm)]
        yield Comparison("P1", title, "photos", variants, [Target(bare, 0.5)], clock=time.process_time)


def _sealed(plaintext: bytes, sender: Sm2PrivateKey, recipient: Sm2PrivateKey) -> bytes:
    target = io.BytesIO()
    seal_package(
        io.BytesIO(plaintext),
        target,
        sender="PROVINCE",
        sender_key=sender,
        recipient="PORTAL",
        recipient_key=recipient.public,
        package_number="BENCH-1",
        created_at=datetime(2026, 11, 23, tzinfo=UTC),
    )
    return target.getvalue()
