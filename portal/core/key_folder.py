"""The folder of the key store: one file a key, each wrapped by the KEK, and the tombstones of destroyed ones.

While the KEK is changed, files of the old and of the new one stand side by side. `store.json` says under
which new files are written; who holds only one of the two is refused. Writers share the folder's lock, the
change takes it alone for each file: so no key is written under the old KEK behind its back, and none that
somebody destroys comes back.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from portal.core.crypto import TamperedError, sm3
from portal.core.key_files import (
    clear_drafts,
    locked_directory,
    private_directory,
    publish,
    read_private,
    shred,
)
from portal.core.key_files import replace as replace_file
from portal.core.key_records import KeyPurpose, Tombstone
from portal.core.key_refusals import (
    ForeignKekError,
    KeyDestroyedError,
    KeyExistsError,
    KeyMissingError,
    KeyUnreadableError,
)
from portal.core.key_wrapping import KeyWrapper

SUFFIX = ".key"


@dataclass(frozen=True, slots=True)
class Entry:
    """A key with what is bound to it; the days say when a card master key makes new cards."""

    purpose: KeyPurpose
    label: str
    secret: bytes = field(repr=False)
    valid_from: date | None = None
    valid_until: date | None = None


@dataclass(frozen=True, slots=True)
class Marks:
    """Check values of the KEK of the store and, while it is changed, of the next one."""

    current: str
    next: str = ""


class KeyFolder:
    """Wrapped keys in a private directory; safe for many processes at once."""

    def __init__(self, directory: Path, wrapper: KeyWrapper, next_wrapper: KeyWrapper | None = None) -> None:
        self.directory = private_directory(directory)
        self._wrappers = [wrapper] if next_wrapper is None else [wrapper, next_wrapper]
        self._require_own_kek()

    def path(self, key_id: str) -> Path:
        """Return where a key's file stands."""
        return self.directory / f"{key_id}{SUFFIX}"

    def tombstone_path(self, key_id: str) -> Path:
        """Return where a key's tombstone stands once it is destroyed."""
        return self.directory / f"{sm3(key_id.encode()).hex()[:32]}.destroyed"

    def key_ids(self) -> Iterator[str]:
        """Give the id of every key file."""
        # Bare names: a store of years holds as many tombstones as it had packages.
        with os.scandir(self.directory) as entries:
            for entry in entries:
                if entry.name.endswith(SUFFIX) and not entry.name.startswith("."):
                    yield entry.name.removesuffix(SUFFIX)

    def write(self, key_id: str, entry: Entry) -> None:
        """Write a new key file, or refuse because one is there."""
        clear = _described(key_id, entry)
        with locked_directory(self.directory, alone=False):
            wrapped = self._writer().wrap(entry.secret, _canonical(clear))
            try:
                publish(self.path(key_id), _canonical({**clear, "wrapped": wrapped.hex()}))
            except FileExistsError as exc:
                raise KeyExistsError("同名密钥已存在，不得覆盖", where=entry.label or key_id) from exc

    def read(self, key_id: str) -> Entry:
        """Open a key file; raise KeyDestroyedError, KeyMissingError, KeyUnreadableError."""
        self._require_present(key_id)
        content = self._content(key_id)
        while True:
            try:
                return self._opened(key_id, content)
            except KeyUnreadableError:
                # Wrapped anew between our opening and reading it: what stands there now counts.
                again = self._content(key_id)
                if again == content:
                    raise
                content = again

    def destroy(self, key_id: str) -> Tombstone:
        """Make a key unreadable for good; the tombstone is written first, so a crash leaves it destroyed."""
        with locked_directory(self.directory, alone=False):
            if self.tombstone(key_id) is None:
                self._bury(key_id, self.read(key_id))
            shred(self.path(key_id))
        tombstone = self.tombstone(key_id)
        assert tombstone is not None
        return tombstone

    def tombstone(self, key_id: str) -> Tombstone | None:
        """Return what is left of a destroyed key, or None when it was not destroyed."""
        path = self.tombstone_path(key_id)
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

    # --- changing the KEK: see key_rotation.py --------------------------------------------------------------

    def marks(self) -> Marks:
        """Return under which KEK the store stands."""
        path = self.directory / "store.json"
        fields = _fields(path, read_private(path))
        return Marks(str(fields.get("kek_check_value")), str(fields.get("next_check_value", "")))

    def mark(self, marks: Marks) -> None:
        """Say under which KEK new keys are written from now on; waits for those who are writing."""
        fields = {"kek_check_value": marks.current} | ({"next_check_value": marks.next} if marks.next else {})
        with locked_directory(self.directory, alone=True):
            replace_file(self.directory / "store.json", _canonical(fields))

    def clear_drafts(self) -> int:
        """Shred what killed processes left half written; return how many files."""
        with locked_directory(self.directory, alone=True):
            return clear_drafts(self.directory)

    def rewrap(self, key_id: str, target: KeyWrapper) -> bool:
        """Bring a key file under the target KEK in one step; False when it stands there or is gone."""
        with locked_directory(self.directory, alone=True):
            if self.tombstone_path(key_id).exists():
                shred(self.path(key_id))  # a destruction that was interrupted
                return False
            try:
                content = read_private(self.path(key_id))
            except FileNotFoundError:
                return False
            with contextlib.suppress(KeyUnreadableError):
                _open(self.path(key_id), key_id, content, target)
                return False
            entry = self._opened(key_id, content)
            clear = _described(key_id, entry)
            wrapped = target.wrap(entry.secret, _canonical(clear))
            replace_file(self.path(key_id), _canonical({**clear, "wrapped": wrapped.hex()}))
            return True

    # --- inside ---------------------------------------------------------------------------------------------

    def _content(self, key_id: str) -> bytes:
        try:
            return read_private(self.path(key_id))
        except FileNotFoundError as exc:  # destroyed since we looked
            raise KeyDestroyedError("密钥已销毁", where=key_id) from exc

    def _opened(self, key_id: str, content: bytes) -> Entry:
        """Open a file's content by whichever KEK it was wrapped with."""
        for wrapper in self._wrappers[:-1]:
            with contextlib.suppress(KeyUnreadableError):
                return _open(self.path(key_id), key_id, content, wrapper)
        return _open(self.path(key_id), key_id, content, self._wrappers[-1])

    def _require_present(self, key_id: str) -> None:
        if self.tombstone_path(key_id).exists():
            raise KeyDestroyedError("密钥已销毁", where=key_id)
        if not self.path(key_id).exists():
            raise KeyMissingError("没有这个密钥", where=key_id)

    def _bury(self, key_id: str, entry: Entry) -> None:
        fields = {
            "key_digest": sm3(key_id.encode()).hex(),
            "purpose": entry.purpose,
            "label": entry.label,
            "destroyed_at": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        with contextlib.suppress(FileExistsError):  # another process destroys the same key
            publish(self.tombstone_path(key_id), _canonical(fields))

    def _require_own_kek(self) -> None:
        """Refuse to work on a store of another KEK, where every key would look damaged."""
        path = self.directory / "store.json"
        with contextlib.suppress(FileExistsError), locked_directory(self.directory, alone=False):
            if not path.exists():
                publish(path, _canonical({"kek_check_value": self._wrappers[0].check_value}))
        self._writer()

    def _writer(self) -> KeyWrapper:
        """Return who wraps new keys; refuse while one of the KEKs in use is not ours."""
        marks, own = self.marks(), {wrapper.check_value: wrapper for wrapper in self._wrappers}
        if marks.current not in own and not marks.next:
            raise ForeignKekError(
                "密钥库属于另一个主控密钥（KEK）", expected=marks.current, got="、".join(own)
            )
        if marks.next and {marks.current, marks.next} - own.keys():
            raise ForeignKekError(
                "主控密钥（KEK）正在轮换，须同时配置 PORTAL_KEK 与 PORTAL_KEK_NEXT",
                expected=f"{marks.current}、{marks.next}",
                got="、".join(own),
            )
        return own[marks.next or marks.current]


def _open(path: Path, key_id: str, content: bytes, wrapper: KeyWrapper) -> Entry:
    fields = _fields(path, content)
    try:
        entry = Entry(
            KeyPurpose(fields["purpose"]),
            fields["label"],
            b"",
            _day(fields.get("valid_from")),
            _day(fields.get("valid_until")),
        )
        wrapped = bytes.fromhex(fields["wrapped"])
        secret = wrapper.unwrap(wrapped, _canonical(_described(key_id, entry)))
    except (KeyError, ValueError, TypeError, TamperedError) as exc:
        raise KeyUnreadableError("密钥文件被改动、截断或更名", where=path.name) from exc
    return replace(entry, secret=secret)


def _day(text: str | None) -> date | None:
    return None if text is None else date.fromisoformat(text)


def _described(key_id: str, entry: Entry) -> dict[str, str]:
    """Return what stands in clear in a key file and is bound to its secret."""
    days = {"valid_from": entry.valid_from, "valid_until": entry.valid_until}
    return {
        "id": key_id,
        "purpose": entry.purpose,
        "label": entry.label,
        **{name: day.isoformat() for name, day in days.items() if day is not None},
    }


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
