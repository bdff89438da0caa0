"""Keys outside the database: one file for each, wrapped by the key-encryption key (architecture §4).

Destroying a package's key makes its rows, its files and every backup of them unreadable at once (R-22).
"""

from __future__ import annotations

import contextlib
import hmac
import json
import os
import re
import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from portal.core.crypto import (
    KEY_SIZE,
    FieldCipher,
    KeyFormatError,
    Sm2PrivateKey,
    Sm2PublicKey,
    TamperedError,
    kcv,
    new_key,
    sm3,
)
from portal.core.errors import InputRefusedError
from portal.core.key_files import private_directory, publish, read_private, shred
from portal.core.key_records import KeyPurpose, MasterKey, Tombstone
from portal.core.key_refusals import (
    CheckValueError,
    ForeignKekError,
    KeyDestroyedError,
    KeyExistsError,
    KeyForTestsError,
    KeyMissingError,
    KeyPermissionError,
    KeyUnreadableError,
)
from portal.core.key_wrapping import KekWrapper, KeyWrapper, load_kek

__all__ = [
    "CheckValueError",
    "ForeignKekError",
    "KekWrapper",
    "KeyDestroyedError",
    "KeyExistsError",
    "KeyForTestsError",
    "KeyMissingError",
    "KeyPermissionError",
    "KeyPurpose",
    "KeyStore",
    "KeyUnreadableError",
    "KeyWrapper",
    "MasterKey",
    "Tombstone",
    "load_kek",
]

_DATA_KEY_ID = re.compile(r"[0-9a-f]{32}\Z")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,39}\Z")
_MASTER_FILE = re.compile(r"master-(?P<name>[A-Za-z0-9_.-]+)-v(?P<version>\d+)\.key\Z")
_CACHED_CIPHERS = 64
_TEST_VERSION = 0
# Keys that stand in public standards and tools: whoever reads those reads the cards.
_PUBLIC_KEYS = frozenset(
    bytes.fromhex(digits)
    for digits in (
        "404142434445464748494a4b4c4d4e4f",  # GlobalPlatform
        "0123456789abcdeffedcba9876543210",  # GB/T 32907, example 1
        "00112233445566778899aabbccddeeff",
        "0123456789abcdef0123456789abcdef",
        "00" * 16,
        "11" * 16,
        "ff" * 16,
    )
)


@dataclass(frozen=True, slots=True)
class _Entry:
    purpose: KeyPurpose
    label: str
    secret: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class _Opened:
    """A cipher kept open, and the files that say whether it may still be used."""

    cipher: FieldCipher
    path: str
    tombstone: str

    def is_alive(self) -> bool:
        # Two bare stat calls: runs for every field to notice destruction by another process.
        return os.path.exists(self.path) and not os.path.exists(self.tombstone)  # noqa: PTH110


class KeyStore:
    """Wrapped keys in a private directory; safe for many processes at once."""

    def __init__(self, directory: Path, kek: bytes | KeyWrapper, *, production: bool = False) -> None:
        self._directory = private_directory(directory)
        self._wrapper: KeyWrapper = KekWrapper(kek) if isinstance(kek, bytes) else kek
        self._production = production
        self._ciphers: OrderedDict[str, _Opened] = OrderedDict()
        self._lock = threading.Lock()
        self._require_own_kek()

    def create(self, purpose: KeyPurpose, label: str) -> str:
        """Draw a new SM4 key; return its id. The label is readable by anyone who sees the directory."""
        return self.put(purpose, label, new_key())

    def put(self, purpose: KeyPurpose, label: str, key: bytes) -> str:
        """Keep an SM4 key that came from elsewhere, such as a package's; return its id."""
        if len(key) != KEY_SIZE:
            raise KeyFormatError("SM4 密钥长度不对", expected=f"{KEY_SIZE} 字节", got=f"{len(key)} 字节")
        key_id = secrets.token_hex(16)
        self._store(key_id, _Entry(purpose, label, key))
        return key_id

    def key(self, key_id: str) -> bytes:
        """Return an SM4 key; raise KeyDestroyedError or KeyMissingError."""
        return self._load(_data_key_id(key_id)).secret

    def cipher(self, key_id: str) -> FieldCipher:
        """Return the field cipher of a key; kept open until any process destroys the key."""
        with self._lock:
            opened = self._ciphers.get(key_id)
            if opened is not None and opened.is_alive():
                self._ciphers.move_to_end(key_id)
                return opened.cipher
            self._ciphers.pop(key_id, None)
        cipher = FieldCipher(self.key(key_id))
        opened = _Opened(cipher, str(self._path(key_id)), str(self._tombstone_path(key_id)))
        with self._lock:
            self._ciphers[key_id] = opened
            while len(self._ciphers) > _CACHED_CIPHERS:
                self._ciphers.popitem(last=False)
        return cipher

    def exists(self, key_id: str) -> bool:
        """Say whether a data key can still be read."""
        if not _DATA_KEY_ID.match(key_id):
            return False
        return self._path(key_id).exists() and not self._tombstone_path(key_id).exists()

    def destroy(self, key_id: str) -> Tombstone:
        """Make a data key unreadable for good and return the proof; doing it twice changes nothing.

        The tombstone is written first: after a crash in between the key already counts as destroyed,
        and the next call removes the file.
        """
        _data_key_id(key_id)
        if self.tombstone(key_id) is None:
            entry = self._load(key_id)
            self._bury(key_id, entry)
        with self._lock:
            self._ciphers.pop(key_id, None)
        shred(self._path(key_id))
        tombstone = self.tombstone(key_id)
        assert tombstone is not None
        return tombstone

    def tombstone(self, key_id: str) -> Tombstone | None:
        """Return what is left of a destroyed key, or None when it was not destroyed."""
        path = self._tombstone_path(key_id)
        try:
            fields = _fields(path, read_private(path))
        except FileNotFoundError:
            return None
        return Tombstone(
            key_digest=fields["key_digest"],
            purpose=KeyPurpose(fields["purpose"]),
            label=fields["label"],
            destroyed_at=datetime.fromisoformat(fields["destroyed_at"]),
        )

    def index_key(self) -> bytes:
        """Return the key of the blind indexes; the first process that asks makes it, for good."""
        return self._once("index", KeyPurpose.INDEX, lambda: os.urandom(32))

    def put_sm2(self, name: str, key: Sm2PrivateKey) -> None:
        """Keep an SM2 private key under a name."""
        self._store(_sm2_id(name), _Entry(KeyPurpose.SM2_PRIVATE, name, key.raw + key.public.raw))

    def sm2(self, name: str) -> Sm2PrivateKey:
        """Return the SM2 private key of this name."""
        return _sm2_of(self._load(_sm2_id(name)).secret)

    def ensure_sm2(self, name: str) -> Sm2PrivateKey:
        """Return the SM2 private key of this name; the first process that asks makes it."""

        def fresh() -> bytes:
            key = Sm2PrivateKey.generate()
            return key.raw + key.public.raw

        return _sm2_of(self._once(_sm2_id(name), KeyPurpose.SM2_PRIVATE, fresh, label=name))

    def import_components(
        self, name: str, version: int, first: bytes, second: bytes, check_value: str
    ) -> MasterKey:
        """Join the two components of a card master key, each from another person, if they check (R-25)."""
        if version <= _TEST_VERSION:
            raise InputRefusedError("主密钥版本须从 1 起", where="version", expected="≥ 1", got=str(version))
        if len(first) != KEY_SIZE or len(second) != KEY_SIZE:
            raise KeyFormatError("主密钥分量长度不对", expected=f"{KEY_SIZE} 字节")
        key = bytes(a ^ b for a, b in zip(first, second, strict=True))
        found = kcv(key)
        if not hmac.compare_digest(found.encode(), check_value.strip().upper().encode()):
            raise CheckValueError("主密钥校验值不符", where=name, expected=check_value.strip(), got=found)
        if key in _PUBLIC_KEYS or not any(first) or not any(second):
            raise KeyForTestsError("主密钥或其分量是公开的已知值", where=name, got=found)
        self._store(_master_id(name, version), _Entry(KeyPurpose.CARD_MASTER, name, key))
        return MasterKey(name, version, found, test=False)

    def generate_test_masters(self, names: Iterable[str]) -> list[MasterKey]:
        """Draw card master keys for tests and demonstrations, kept as version 0; refused in production."""
        if self._production:
            raise KeyForTestsError("生产环境不得生成测试主密钥")
        return [self._test_master(name) for name in names]

    def master_key(self, name: str, version: int | None = None) -> bytes:
        """Return a card master key, by default the newest; in production never a test key."""
        version = self._newest(name) if version is None else version
        entry = self._load(_master_id(name, version))
        if self._production and entry.purpose is KeyPurpose.TEST_MASTER:
            raise KeyForTestsError("生产环境不得使用测试主密钥", where=name)
        return entry.secret

    def masters(self) -> list[MasterKey]:
        """List the card master keys by name and version, with check values only."""
        found = []
        for match in self._master_files():
            version = int(match["version"])
            entry = self._load(_master_id(match["name"], version))
            test = entry.purpose is KeyPurpose.TEST_MASTER
            found.append(MasterKey(match["name"], version, kcv(entry.secret), test))
        return sorted(found, key=lambda master: (master.name, master.version))

    def _test_master(self, name: str) -> MasterKey:
        key = self._once(_master_id(name, _TEST_VERSION), KeyPurpose.TEST_MASTER, new_key, label=name)
        return MasterKey(name, _TEST_VERSION, kcv(key), test=True)

    def _newest(self, name: str) -> int:
        versions = [int(match["version"]) for match in self._master_files() if match["name"] == name]
        if not versions:
            raise KeyMissingError("没有这个主密钥", where=name)
        return max(versions)

    def _master_files(self) -> list[re.Match[str]]:
        return [match for path in self._directory.iterdir() if (match := _MASTER_FILE.match(path.name))]

    def _once(
        self, key_id: str, purpose: KeyPurpose, fresh: Callable[[], bytes], *, label: str = ""
    ) -> bytes:
        """Return the secret of this id; where several processes make it at once, the first one's counts."""
        with contextlib.suppress(KeyMissingError):
            return self._load(key_id).secret
        with contextlib.suppress(KeyExistsError):  # a rival was faster: its key is the key
            self._store(key_id, _Entry(purpose, label, fresh()))
        return self._load(key_id).secret

    def _store(self, key_id: str, entry: _Entry) -> None:
        """Write a new key file, or refuse because one is there."""
        fields = _described(key_id, entry)
        wrapped = self._wrapper.wrap(entry.secret, _canonical(fields))
        try:
            publish(self._path(key_id), _canonical({**fields, "wrapped": wrapped.hex()}))
        except FileExistsError as exc:
            raise KeyExistsError("同名密钥已存在，不得覆盖", where=entry.label or key_id) from exc

    def _load(self, key_id: str) -> _Entry:
        self._require_present(key_id)
        path = self._path(key_id)
        try:
            fields = _fields(path, read_private(path))
        except FileNotFoundError as exc:  # destroyed since the look above
            raise KeyDestroyedError("密钥已销毁", where=key_id) from exc
        try:
            entry = _Entry(KeyPurpose(fields["purpose"]), fields["label"], b"")
            wrapped = bytes.fromhex(fields["wrapped"])
            secret = self._wrapper.unwrap(wrapped, _canonical(_described(key_id, entry)))
        except (KeyError, ValueError, TypeError, TamperedError) as exc:
            raise KeyUnreadableError("密钥文件被改动、截断或更名", where=path.name) from exc
        return replace(entry, secret=secret)

    def _require_present(self, key_id: str) -> None:
        if self._tombstone_path(key_id).exists():
            raise KeyDestroyedError("密钥已销毁", where=key_id)
        if not self._path(key_id).exists():
            raise KeyMissingError("没有这个密钥", where=key_id)

    def _bury(self, key_id: str, entry: _Entry) -> None:
        fields = {
            "key_digest": sm3(key_id.encode()).hex(),
            "purpose": entry.purpose,
            "label": entry.label,
            "destroyed_at": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        with contextlib.suppress(FileExistsError):  # another process destroys the same key
            publish(self._tombstone_path(key_id), _canonical(fields))

    def _require_own_kek(self) -> None:
        """Refuse to work on a store of another KEK, where every key would look damaged."""
        path = self._directory / "store.json"
        with contextlib.suppress(FileExistsError):
            if not path.exists():
                publish(path, _canonical({"kek_check_value": self._wrapper.check_value}))
        found = _fields(path, read_private(path)).get("kek_check_value")
        if found != self._wrapper.check_value:
            raise ForeignKekError(
                "密钥库属于另一个主控密钥（KEK）", expected=str(found), got=self._wrapper.check_value
            )

    def _path(self, key_id: str) -> Path:
        return self._directory / f"{key_id}.key"

    def _tombstone_path(self, key_id: str) -> Path:
        return self._directory / f"{sm3(key_id.encode()).hex()[:32]}.destroyed"


def _data_key_id(key_id: str) -> str:
    """Refuse ids of masters, SM2 keys and anything that walks the file system."""
    if not _DATA_KEY_ID.match(key_id):
        raise KeyMissingError("密钥编号格式不对", expected="32 位十六进制")
    return key_id


def _sm2_id(name: str) -> str:
    return f"sm2-{_checked_name(name)}"


def _sm2_of(secret: bytes) -> Sm2PrivateKey:
    return Sm2PrivateKey(secret[:32], Sm2PublicKey(secret[32:]))


def _master_id(name: str, version: int) -> str:
    return f"master-{_checked_name(name)}-v{version}"


def _checked_name(name: str) -> str:
    if not _NAME.match(name):
        raise InputRefusedError(
            "密钥名称格式不对", expected="1–40 位字母、数字、点、横线、下划线", got=repr(name)[:60]
        )
    return name


def _described(key_id: str, entry: _Entry) -> dict[str, str]:
    """Return what stands in clear in a key file and is bound to its secret."""
    return {"id": key_id, "purpose": entry.purpose, "label": entry.label}


def _canonical(fields: dict[str, str]) -> bytes:
    return json.dumps(fields, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()


def _fields(path: Path, content: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(content)
    except ValueError as exc:
        raise KeyUnreadableError("密钥文件不完整", where=path.name) from exc
    if not isinstance(fields, dict):
        raise KeyUnreadableError("密钥文件格式不对", where=path.name)
    return fields
