"""The key-encryption key: where it comes from and how it wraps what the key store keeps."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import Protocol

from portal.core.crypto import FieldCipher, KeyFormatError, kcv, new_key
from portal.core.key_files import private_directory, publish, read_private

_KEK_HEX = re.compile(r"[0-9A-Fa-f]{32}\Z")
_DEVELOPMENT_FILE = "development.kek"


class KeyWrapper(Protocol):
    """Who holds the key-encryption key: this process, or a token that never lets it out."""

    @property
    def check_value(self) -> str:
        """Return what tells one KEK from another without revealing it."""

    def wrap(self, secret: bytes, context: bytes) -> bytes:
        """Encrypt a secret, tied to `context`."""

    def unwrap(self, wrapped: bytes, context: bytes) -> bytes:
        """Return the secret; raise TamperedError unless wrapped by this KEK for this context."""


class KekWrapper:
    """Wrap under a KEK in this process's memory."""

    __slots__ = ("_check_value", "_cipher")

    def __init__(self, kek: bytes) -> None:
        self._cipher = FieldCipher(kek)
        self._check_value = kcv(kek)

    @property
    def check_value(self) -> str:
        """Return the KEK's check value."""
        return self._check_value

    def wrap(self, secret: bytes, context: bytes) -> bytes:
        """Encrypt a secret by SM4-GCM, `context` as associated data."""
        return self._cipher.seal(secret, context)

    def unwrap(self, wrapped: bytes, context: bytes) -> bytes:
        """Return the secret or raise TamperedError."""
        return self._cipher.open(wrapped, context)


def load_kek(source: str, *, production: bool = False, directory: Path | None = None) -> bytes:
    """Return the KEK from 32 hex digits or a file of mode 0600 that holds them; errors repeat neither.

    An empty source, outside production, means a KEK drawn once and kept in `directory`.
    """
    if not source and directory is not None and not production:
        return _development_kek(private_directory(directory) / _DEVELOPMENT_FILE)
    if _KEK_HEX.match(source):
        return bytes.fromhex(source)
    try:
        return _read_kek(Path(source))
    except (OSError, ValueError):  # from None: what was given may be a mistyped key
        raise KeyFormatError("主控密钥（KEK）既不是 32 位十六进制，也不是可读的文件") from None


def _read_kek(path: Path) -> bytes:
    digits = read_private(path).decode("ascii").strip()
    if not _KEK_HEX.match(digits):
        raise KeyFormatError("主控密钥（KEK）文件内容不是 32 位十六进制", where=path.name)
    return bytes.fromhex(digits)


def _development_kek(path: Path) -> bytes:
    if not path.exists():
        with contextlib.suppress(FileExistsError):  # another process was first
            publish(path, f"{new_key().hex()}\n".encode())
    return _read_kek(path)
