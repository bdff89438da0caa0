"""Keys outside the database: one file for each, wrapped by the key-encryption key (architecture §4).

Destroying a package's key makes its rows, its files and every backup of them unreadable at once (R-22).
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

from portal.core.clock import today
from portal.core.crypto import (
    KEY_SIZE,
    FieldCipher,
    KeyFormatError,
    Sm2PrivateKey,
    Sm2PublicKey,
    kcv,
    new_key,
)
from portal.core.key_folder import Entry, KeyFolder
from portal.core.key_masters import (
    TEST_VERSION,
    checked_days,
    checked_name,
    checked_version,
    joined,
    master_id,
    newest_valid,
    versions_of,
)
from portal.core.key_records import DataKey, KeyPurpose, MasterKey, Tombstone
from portal.core.key_refusals import (
    CheckValueError,
    ForeignKekError,
    KeyDestroyedError,
    KeyExistsError,
    KeyExpiredError,
    KeyForTestsError,
    KeyMissingError,
    KeyPermissionError,
    KeyPurposeError,
    KeyUnreadableError,
)
from portal.core.key_rotation import Rotation, rotate
from portal.core.key_wrapping import KekWrapper, KeyWrapper, load_kek, load_wrapper

__all__ = [
    "CheckValueError",
    "DataKey",
    "ForeignKekError",
    "KekWrapper",
    "KeyDestroyedError",
    "KeyExistsError",
    "KeyExpiredError",
    "KeyForTestsError",
    "KeyMissingError",
    "KeyPermissionError",
    "KeyPurpose",
    "KeyPurposeError",
    "KeyStore",
    "KeyUnreadableError",
    "KeyWrapper",
    "MasterKey",
    "Rotation",
    "Tombstone",
    "load_kek",
    "load_wrapper",
]

_DATA_KEY_ID = re.compile(r"[0-9a-f]{32}\Z")
_CACHED_CIPHERS = 64


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
    """Wrapped keys in a private directory; safe for many processes at once.

    `next_kek` is the KEK that the store is about to be brought under, or just was.
    """

    def __init__(
        self,
        directory: Path,
        kek: bytes | KeyWrapper,
        *,
        next_kek: bytes | KeyWrapper | None = None,
        production: bool = False,
    ) -> None:
        self._next = None if next_kek is None else _wrapper(next_kek)
        self._folder = KeyFolder(directory, _wrapper(kek), self._next)
        self._production = production
        self._ciphers: OrderedDict[str, _Opened] = OrderedDict()
        self._lock = threading.Lock()

    # --- data keys ------------------------------------------------------------------------------------------

    def create(self, purpose: KeyPurpose, label: str) -> str:
        """Draw a new SM4 key; return its id. The label is readable by anyone who sees the directory."""
        return self.put(purpose, label, new_key())

    def put(self, purpose: KeyPurpose, label: str, key: bytes) -> str:
        """Keep an SM4 key that came from elsewhere, such as a package's; return its id."""
        if len(key) != KEY_SIZE:
            raise KeyFormatError("SM4 密钥长度不对", expected=f"{KEY_SIZE} 字节", got=f"{len(key)} 字节")
        key_id = secrets.token_hex(16)
        self._folder.write(key_id, Entry(purpose, label, key))
        return key_id

    def key(self, key_id: str) -> bytes:
        """Return an SM4 key; raise KeyDestroyedError or KeyMissingError."""
        entry = self._folder.read(_data_key_id(key_id))
        if entry.purpose is KeyPurpose.COMPONENT:
            raise KeyPurposeError("主密钥分量不得用于其他用途", where=key_id)
        return entry.secret

    def cipher(self, key_id: str) -> FieldCipher:
        """Return the field cipher of a key; kept open until any process destroys the key."""
        with self._lock:
            opened = self._ciphers.get(key_id)
            if opened is not None and opened.is_alive():
                self._ciphers.move_to_end(key_id)
                return opened.cipher
            self._ciphers.pop(key_id, None)
        cipher = FieldCipher(self.key(key_id))
        paths = self._folder.path(key_id), self._folder.tombstone_path(key_id)
        opened = _Opened(cipher, *map(str, paths))
        with self._lock:
            self._ciphers[key_id] = opened
            while len(self._ciphers) > _CACHED_CIPHERS:
                self._ciphers.popitem(last=False)
        return cipher

    def exists(self, key_id: str) -> bool:
        """Say whether a data key can still be read."""
        if not _DATA_KEY_ID.match(key_id):
            return False
        return self._folder.path(key_id).exists() and not self._folder.tombstone_path(key_id).exists()

    def destroy(self, key_id: str) -> Tombstone:
        """Make a data key unreadable for good and return the proof; doing it twice changes nothing.

        The tombstone is written first: after a crash in between the key already counts as destroyed,
        and the next call removes the file.
        """
        _data_key_id(key_id)
        try:
            return self._folder.destroy(key_id)
        finally:
            with self._lock:
                self._ciphers.pop(key_id, None)

    def tombstone(self, key_id: str) -> Tombstone | None:
        """Return what is left of a destroyed key, or None when it was not destroyed."""
        return self._folder.tombstone(key_id)

    def data_keys(self, before: datetime) -> list[DataKey]:
        """List the data keys made before a moment, whatever they are for."""
        found = []
        for key_id in filter(_DATA_KEY_ID.match, self._folder.key_ids()):
            with contextlib.suppress(FileNotFoundError):  # destroyed meanwhile
                made = datetime.fromtimestamp(self._folder.path(key_id).stat().st_mtime, UTC)
                if made < before:
                    found.append(DataKey(key_id, made))
        return sorted(found, key=lambda key: key.created_at)

    def clear_drafts(self) -> int:
        """Shred key files that killed processes left half written; return how many."""
        return self._folder.clear_drafts()

    # --- the installation's own keys ------------------------------------------------------------------------

    def index_key(self) -> bytes:
        """Return the key of the blind indexes; the first process that asks makes it, for good."""
        return self._once("index", KeyPurpose.INDEX, lambda: os.urandom(32))

    def put_sm2(self, name: str, key: Sm2PrivateKey) -> None:
        """Keep an SM2 private key under a name."""
        self._folder.write(_sm2_id(name), Entry(KeyPurpose.SM2_PRIVATE, name, key.raw + key.public.raw))

    def sm2(self, name: str) -> Sm2PrivateKey:
        """Return the SM2 private key of this name."""
        return _sm2_of(self._folder.read(_sm2_id(name)).secret)

    def ensure_sm2(self, name: str) -> Sm2PrivateKey:
        """Return the SM2 private key of this name; the first process that asks makes it."""

        def fresh() -> bytes:
            key = Sm2PrivateKey.generate()
            return key.raw + key.public.raw

        return _sm2_of(self._once(_sm2_id(name), KeyPurpose.SM2_PRIVATE, fresh, label=name))

    # --- card master keys: two components by two people (R-25) ----------------------------------------------

    def put_component(self, label: str, component: bytes) -> str:
        """Keep the first person's component until the second one brings theirs; return its id."""
        return self.put(KeyPurpose.COMPONENT, label, component)

    def component(self, key_id: str) -> bytes:
        """Return a component that waits."""
        entry = self._folder.read(_data_key_id(key_id))
        if entry.purpose is not KeyPurpose.COMPONENT:
            raise KeyPurposeError("该密钥不是主密钥分量", where=key_id)
        return entry.secret

    def import_components(
        self,
        name: str,
        version: int,
        first: bytes,
        second: bytes,
        check_value: str,
        *,
        valid_from: date | None = None,
        valid_until: date | None = None,
    ) -> MasterKey:
        """Join the two components of a card master key, each from another person, if they check (R-25).

        Doing it twice with the same components changes nothing, so a caller that was killed may repeat it.
        """
        key_id = checked_version(name, version)
        checked_days(valid_from, valid_until)
        key = joined(name, first, second, check_value)
        entry = Entry(KeyPurpose.CARD_MASTER, name, key, valid_from, valid_until)
        try:
            self._folder.write(key_id, entry)
        except KeyExistsError:
            if self._folder.read(key_id) != entry:
                raise
        return _shown(version, entry)

    def generate_test_masters(self, names: Iterable[str]) -> list[MasterKey]:
        """Draw card master keys for tests and demonstrations, kept as version 0; refused in production."""
        if self._production:
            raise KeyForTestsError("生产环境不得生成测试主密钥")
        return [self._test_master(name) for name in names]

    def master_key(self, name: str, version: int | None = None, *, on: date | None = None) -> bytes:
        """Return a card master key; in production never a test key.

        Without a version the newest that makes cards on the day (today); KeyExpiredError where none does.
        A version is readable whatever its days: cards made with it are verified for years.
        """
        version = self.newest_master(name, on=on).version if version is None else version
        entry = self._folder.read(master_id(name, version))
        if self._production and entry.purpose is KeyPurpose.TEST_MASTER:
            raise KeyForTestsError("生产环境不得使用测试主密钥", where=name)
        return entry.secret

    def newest_master(self, name: str, *, on: date | None = None) -> MasterKey:
        """Say which version of a card master key makes cards on a day, by default today."""
        return newest_valid(checked_name(name), self._masters({name}), on or today())

    def newest_masters(self, names: Iterable[str], *, on: date) -> dict[str, MasterKey]:
        """Say the same of many names in one look; names without any version are left out."""
        wanted: dict[str, list[MasterKey]] = {checked_name(name): [] for name in names}
        for master in self._masters(wanted):
            wanted[master.name].append(master)
        return {name: newest_valid(name, found, on) for name, found in wanted.items() if found}

    def masters(self) -> list[MasterKey]:
        """List the card master keys by name and version, with check values only."""
        return sorted(self._masters(), key=lambda master: (master.name, master.version))

    def _masters(self, wanted: Container[str] | None = None) -> list[MasterKey]:
        return [
            _shown(version, self._folder.read(master_id(name, version)))
            for name, version in versions_of(self._folder.key_ids())
            if wanted is None or name in wanted
        ]

    def _test_master(self, name: str) -> MasterKey:
        key = self._once(master_id(name, TEST_VERSION), KeyPurpose.TEST_MASTER, new_key, label=name)
        return MasterKey(name, TEST_VERSION, kcv(key), test=True)

    # --- the KEK --------------------------------------------------------------------------------------------

    def rotate(self, *, progress: Callable[[], None] = lambda: None) -> Rotation:
        """Bring every key under the next KEK while other processes work; killed anywhere, repeat it."""
        if self._next is None:
            raise ForeignKekError("没有配置新的主控密钥（KEK）", expected="PORTAL_KEK_NEXT")
        return rotate(self._folder, self._next, progress=progress)

    @property
    def kek_check_value(self) -> str:
        """Return the check value of the KEK that new keys are written under."""
        marks = self._folder.marks()
        return marks.next or marks.current

    def count(self) -> int:
        """Count the key files."""
        return sum(1 for _ in self._folder.key_ids())

    def _once(
        self, key_id: str, purpose: KeyPurpose, fresh: Callable[[], bytes], *, label: str = ""
    ) -> bytes:
        """Return the secret of this id; where several processes make it at once, the first one's counts."""
        with contextlib.suppress(KeyMissingError):
            return self._folder.read(key_id).secret
        with contextlib.suppress(KeyExistsError):  # a rival was faster: its key is the key
            self._folder.write(key_id, Entry(purpose, label, fresh()))
        return self._folder.read(key_id).secret


def _wrapper(kek: bytes | KeyWrapper) -> KeyWrapper:
    return KekWrapper(kek) if isinstance(kek, bytes) else kek


def _data_key_id(key_id: str) -> str:
    """Refuse ids of masters, SM2 keys and anything that walks the file system."""
    if not _DATA_KEY_ID.match(key_id):
        raise KeyMissingError("密钥编号格式不对", expected="32 位十六进制")
    return key_id


def _sm2_id(name: str) -> str:
    return f"sm2-{checked_name(name)}"


def _sm2_of(secret: bytes) -> Sm2PrivateKey:
    return Sm2PrivateKey(secret[:32], Sm2PublicKey(secret[32:]))


def _shown(version: int, entry: Entry) -> MasterKey:
    test = entry.purpose is KeyPurpose.TEST_MASTER
    days = entry.valid_from, entry.valid_until
    return MasterKey(entry.label, version, kcv(entry.secret), test, *days)
