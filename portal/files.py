"""Sealed files in Django storage (D13): what is written here is unreadable without its key."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import IO, BinaryIO, cast

from django.conf import settings
from django.core.files import File
from django.core.files.storage import default_storage

from portal.core.crypto import BlindIndex, FieldCipher, Sm2PrivateKey
from portal.core.keystore import KeyStore, load_wrapper
from portal.core.seal import SealedReader, SealedWriter, open_sealed

PORTAL_KEY = "portal"
"""Name of the portal's own SM2 key: packages are sealed to it, certificates signed with it."""


@lru_cache(maxsize=4)
def _keystore(folder: str, kek: str, kek_next: str, production: bool) -> KeyStore:
    directory = Path(folder)
    # Without a KEK, in development, one is drawn once and kept beside the store's folder, not in its backups.
    drawn = directory.with_name(f"{directory.name}-kek")
    return KeyStore(
        directory,
        load_wrapper(kek, production=production, directory=drawn),
        next_kek=load_wrapper(kek_next, production=production) if kek_next else None,
        production=production,
    )


@lru_cache(maxsize=4)
def _index(folder: str, kek: str, kek_next: str, production: bool) -> BlindIndex:
    return BlindIndex(_keystore(folder, kek, kek_next, production).index_key())


def keystore() -> KeyStore:
    """Return the key store of this process."""
    # Asked for every field of bulk work: a Path would be parsed and hashed anew each time.
    return _keystore(str(settings.KEYSTORE_DIR), settings.KEK, settings.KEK_NEXT, settings.PRODUCTION)


def blind_index() -> BlindIndex:
    """Return the maker of blind indexes; its key is the same for the life of the installation."""
    return _index(str(settings.KEYSTORE_DIR), settings.KEK, settings.KEK_NEXT, settings.PRODUCTION)


def portal_key() -> Sm2PrivateKey:
    """Return the portal's SM2 key, made by the first process that asks."""
    return keystore().ensure_sm2(PORTAL_KEY)


def cipher(key_id: str) -> FieldCipher:
    """Return the field cipher of a key; raises KeyDestroyedError once the key is destroyed."""
    return keystore().cipher(key_id)


def _spool_folder() -> Path:
    return Path(settings.FILES_DIR) / ".incoming"


class _Spooled(File):  # type: ignore[type-arg]
    """A finished temporary file that a storage on the same disk takes over by renaming it."""

    def temporary_file_path(self) -> str:
        """Return the path, as Django's uploads do."""
        return str(self.name)


@contextmanager
def store(name: str) -> Iterator[BinaryIO]:
    """Give a file to write; it appears in storage under `name`, whole, only when the block ends well.

    What is written must be sealed already: it lies on the disk as it comes.
    """
    folder = _spool_folder()
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with tempfile.NamedTemporaryFile(dir=folder, delete=False) as spool:
        path = Path(spool.name)
        try:
            yield cast("BinaryIO", spool)
            spool.seek(0)
            default_storage.save(name, _Spooled(spool, name=spool.name))
        finally:
            path.unlink(missing_ok=True)


@contextmanager
def write_sealed(name: str, key_id: str) -> Iterator[BinaryIO]:
    """Write a file of storage sealed under a key; it appears under `name` only when the block ends well."""
    key = keystore().key(key_id)
    with store(name) as spool, SealedWriter(spool, key, context=name.encode()) as writer:
        yield cast("BinaryIO", writer)


@contextmanager
def read_sealed(name: str, key_id: str) -> Iterator[SealedReader]:
    """Open a sealed file of storage for reading (seekable)."""
    key = keystore().key(key_id)
    with cast("IO[bytes]", default_storage.open(name, "rb")) as stored:
        yield open_sealed(cast("BinaryIO", stored), key, context=name.encode())


def clear_spool(before: datetime) -> int:
    """Remove what killed processes left half written before a moment; return how many files."""
    folder = _spool_folder()
    old = (
        [path for path in folder.glob("*") if path.stat().st_mtime < before.timestamp()]
        if folder.exists()
        else []
    )
    for path in old:
        path.unlink(missing_ok=True)
    return len(old)


def remove(name: str) -> None:
    """Remove a stored file; one that is gone already is no error."""
    if name:
        default_storage.delete(name)
