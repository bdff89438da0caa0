"""Sealed files in Django storage (D13): what is written here is unreadable without its key."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import IO, BinaryIO, cast

from django.conf import settings
from django.core.files import File
from django.core.files.storage import default_storage

from portal.core.crypto import FieldCipher
from portal.core.keystore import KeyStore, load_kek
from portal.core.seal import SealedReader, SealedWriter, open_sealed


@lru_cache(maxsize=4)
def _keystore(directory: str, kek: str, production: bool) -> KeyStore:
    return KeyStore(settings.KEYSTORE_DIR, load_kek(kek, production=production, directory=settings.KEYSTORE_DIR))


def keystore() -> KeyStore:
    """Return the key store of this process."""
    return _keystore(str(settings.KEYSTORE_DIR), settings.KEK, settings.PRODUCTION)


def cipher(key_id: str) -> FieldCipher:
    """Return the field cipher of a key; raises KeyDestroyedError once the key is destroyed."""
    return keystore().cipher(key_id)


@contextmanager
def write_sealed(name: str, key_id: str) -> Iterator[BinaryIO]:
    """Write a file of storage sealed under a key; it appears under `name` only when the block ends well."""
    with tempfile.TemporaryFile() as spool:
        writer = SealedWriter(spool, keystore().key(key_id), context=name.encode())
        yield cast(BinaryIO, writer)
        writer.close()
        spool.seek(0)
        default_storage.save(name, File(spool))


@contextmanager
def read_sealed(name: str, key_id: str) -> Iterator[SealedReader]:
    """Open a sealed file of storage for reading (seekable)."""
    with cast(IO[bytes], default_storage.open(name, "rb")) as stored:
        yield open_sealed(cast(BinaryIO, stored), keystore().key(key_id), context=name.encode())


def remove(name: str) -> None:
    """Remove a stored file; one that is gone already is no error."""
    if name and default_storage.exists(name):
        default_storage.delete(name)
