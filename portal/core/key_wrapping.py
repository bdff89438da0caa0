"""The key-encryption key: where it comes from and how it wraps what the key store keeps."""

from __future__ import annotations

import contextlib
import re
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from portal.core.crypto import FieldCipher, KeyFormatError, kcv, new_key
from portal.core.key_files import private_directory, publish, read_private
from portal.core.key_refusals import KeyExistsError, KeyForTestsError
from portal.core.key_uri import SCHEME, parse_address

_KEK_HEX = re.compile(r"[0-9A-Fa-f]{32}\Z")
_DEVELOPMENT_FILE = "development.kek"
# Keys that stand in public standards and tools: whoever reads those reads the cards.
PUBLIC_KEYS = frozenset(
    bytes.fromhex(digits)
    for digits in (
        "404142434445464748494a4b4c4d4e4f",  # GlobalPlatform
        "0123456789abcdeffedcba9876543210",  # GB/T 32907, example 1
        "00112233445566778899aabbccddeeff",
        "0123456789abcdef0123456789abcdef",
        "000102030405060708090a0b0c0d0e0f",
        "00" * 16,
        "11" * 16,
        "ff" * 16,
    )
)


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


def load_wrapper(source: str, *, production: bool = False, directory: Path | None = None) -> KeyWrapper:
    """Return who wraps: a token named by a `pkcs11:` URI, else the KEK that `load_kek` finds.

    Production refuses a KEK that everybody knows.
    """
    if source.startswith(SCHEME):
        wrapper: KeyWrapper = _token_module().TokenWrapper(parse_address(source))
        return wrapper
    kek = load_kek(source, production=production, directory=directory)
    if production and kek in PUBLIC_KEYS:
        raise KeyForTestsError("主控密钥（KEK）是公开的已知值")
    return KekWrapper(kek)


def create_kek(source: str) -> str:
    """Make a KEK where `source` says, in a token or in a new file of mode 0600; return its check value."""
    if source.startswith(SCHEME):
        return str(_token_module().create_token_key(parse_address(source)))
    kek, path = new_key(), Path(source)
    if holds_key(source) or not path.is_absolute():
        raise KeyFormatError("请给出文件的绝对路径或 PKCS#11 URI")
    try:
        publish(path, f"{kek.hex()}\n".encode())
    except FileExistsError as exc:
        raise KeyExistsError("文件已存在，不得覆盖", where=path.name) from exc
    except OSError as exc:
        raise KeyFormatError("主控密钥（KEK）文件无法写入", where=str(path)) from exc
    return kcv(kek)


def holds_key(source: str) -> bool:
    """Say whether a source is the KEK itself, which must not stand among a command's arguments."""
    return bool(_KEK_HEX.match(source))


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


def _token_module() -> Any:
    """Load the module that knows tokens, and with it python-pkcs11, only where a token is configured."""
    return import_module("portal.core.key_token")


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
