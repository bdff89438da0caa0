"""The change of the KEK: killed anywhere it goes on, and nobody loses a key meanwhile (issue 3)."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from portal.core.crypto import Sm2PrivateKey, kcv
from portal.core.errors import ConflictError
from portal.core.key_files import locked_directory
from portal.core.key_folder import KeyFolder, Marks
from portal.core.key_wrapping import KekWrapper
from portal.core.keystore import (
    ForeignKekError,
    KeyDestroyedError,
    KeyPurpose,
    KeyStore,
    KeyUnreadableError,
    KeyWrapper,
)
from tests.core.key_tokens import TOKENS, soft_hsm

OLD = bytes.fromhex("8d0ad8f0cd3fd8e9b7a1d4356a9c2e71")
NEW = bytes.fromhex("5b1e7a90c4d24f6688a3f1029ce7bd10")
FIRST = bytes.fromhex("31a7c05d92e4480fb6d1937ae50c2f84")
SECOND = bytes.fromhex("c2590be76f13ad8844f02e9b571d60ca")
MASTER = bytes(a ^ b for a, b in zip(FIRST, SECOND, strict=True))
# Where a power cut may strike: between any two of these.
SYSTEM_CALLS = ("open", "fsync", "utime", "replace", "unlink", "link")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "keys"


@pytest.fixture(params=["memory to memory", "memory to token", "token to memory", "token to token"])
def keks(request: pytest.FixtureRequest) -> tuple[KeyWrapper, KeyWrapper]:
    old, new = request.param.split(" to ")
    return (
        KekWrapper(OLD) if old == "memory" else soft_hsm().wrapper("old-kek"),
        KekWrapper(NEW) if new == "memory" else soft_hsm().wrapper("new-kek", TOKENS[1]),
    )


class Filled:
    """A store with a key of each kind, and what its keys are."""

    def __init__(self, store: KeyStore) -> None:
        self.package = store.put(KeyPurpose.PACKAGE, "P-1", FIRST)
        self.batch = store.put(KeyPurpose.BATCH, "B-1", SECOND)
        self.destroyed = store.create(KeyPurpose.PACKAGE, "P-0")
        store.destroy(self.destroyed)
        store.import_components("IRK", 1, FIRST, SECOND, kcv(MASTER))
        self.sm2 = Sm2PrivateKey.generate()
        store.put_sm2("portal", self.sm2)
        self.index = store.index_key()

    def assert_readable(self, store: KeyStore) -> None:
        assert (store.key(self.package), store.key(self.batch)) == (FIRST, SECOND)
        assert store.master_key("IRK") == MASTER
        assert (store.sm2("portal"), store.index_key()) == (self.sm2, self.index)
        with pytest.raises(KeyDestroyedError):
            store.key(self.destroyed)


def killed_at_call(number: int, work: Callable[[], object]) -> bool:
    """Do the work in a process that is killed before its n-th system call on files; say if it was."""
    child = os.fork()
    if child == 0:
        try:
            _arm(number)
            work()
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL


def _arm(number: int) -> None:
    calls = iter(range(1, 1_000_000))

    def armed(original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if next(calls) == number:
                os.kill(os.getpid(), signal.SIGKILL)
            return original(*args, **kwargs)

        return call

    for name in SYSTEM_CALLS:
        setattr(os, name, armed(getattr(os, name)))


def names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


def test_every_key_comes_under_the_new_kek_and_stays_the_same(
    directory: Path, keks: tuple[KeyWrapper, KeyWrapper]
) -> None:
    old, new = keks
    filled = Filled(KeyStore(directory, old))
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in directory.glob("*.key")}
    both = KeyStore(directory, old, next_kek=new)
    steps: list[int] = []
    done = both.rotate(progress=lambda: steps.append(1))
    assert (done.before, done.after) == (old.check_value, new.check_value)
    assert (done.rewrapped, done.untouched, len(steps)) == (5, 0, 5)
    for store in (both, KeyStore(directory, new), KeyStore(directory, new, next_kek=old)):
        filled.assert_readable(store)
    with pytest.raises(ForeignKekError) as refusal:
        KeyStore(directory, old)
    assert refusal.value.expected == new.check_value
    for path, (content, moment) in before.items():
        assert path.read_bytes() != content
        assert path.stat().st_mtime_ns == moment
        assert path.stat().st_mode & 0o777 == 0o600


def test_killed_before_any_system_call_it_goes_on_where_it_stopped(tmp_path: Path) -> None:
    """Issue 3: at every point, old and new keys stay readable, and the next call finishes."""
    prepared, directory = KeyStore(tmp_path / "filled", OLD), tmp_path / "keys"
    package = prepared.put(KeyPurpose.PACKAGE, "P-1", FIRST)
    prepared.import_components("IRK", 1, FIRST, SECOND, kcv(MASTER))
    number = 0
    stopped_within = set()
    while True:
        number += 1
        shutil.copytree(tmp_path / "filled", directory)
        if not killed_at_call(number, lambda: KeyStore(directory, OLD, next_kek=NEW).rotate()):
            break
        both = KeyStore(directory, OLD, next_kek=NEW)
        assert (both.key(package), both.master_key("IRK")) == (FIRST, MASTER)
        marks = KeyFolder(directory, KekWrapper(OLD), KekWrapper(NEW)).marks()
        stopped_within.add((marks.current == kcv(OLD), marks.next == kcv(NEW)))
        made = both.create(KeyPurpose.PACKAGE, "made while it stood still")
        if marks.current == kcv(OLD):
            both.rotate()
        only_new = KeyStore(directory, NEW)
        assert (only_new.key(package), only_new.master_key("IRK")) == (FIRST, MASTER)
        assert len(only_new.key(made)) == 16
        only_new.clear_drafts()
        assert not {name for name in names(directory) if name.startswith(".")}
        shutil.rmtree(directory)
    # Before the first file, while files of both kinds stand side by side, and after the last.
    assert stopped_within == {(True, False), (True, True), (False, False)}
    assert number > 25


def test_processes_with_both_keks_work_on_while_it_is_changed(
    directory: Path, keks: tuple[KeyWrapper, KeyWrapper]
) -> None:
    """They create, read and destroy keys between any two files."""
    old, new = keks
    filled = Filled(KeyStore(directory, old))
    running = KeyStore(directory, old, next_kek=new)
    kept_open = running.cipher(filled.package)
    blob = kept_open.seal(b"x", b"c")
    made: list[str] = []
    to_destroy = [running.create(KeyPurpose.BATCH, str(number)) for number in range(20)]

    def between() -> None:
        filled.assert_readable(running)
        assert running.cipher(filled.package).open(blob, b"c") == b"x"
        made.append(running.create(KeyPurpose.PACKAGE, "meanwhile"))
        if to_destroy:
            running.destroy(to_destroy.pop())

    KeyStore(directory, old, next_kek=new).rotate(progress=between)
    afterwards = KeyStore(directory, new)
    assert len(made) >= 5
    assert {len(afterwards.key(key_id)) for key_id in made} == {16}
    filled.assert_readable(afterwards)
    filled.assert_readable(running)


def test_a_process_with_the_old_kek_alone_writes_nothing_once_the_change_has_begun(directory: Path) -> None:
    """What it wrote would be lost with the old KEK."""
    behind = KeyStore(directory, OLD)
    filled = Filled(behind)
    KeyFolder(directory, KekWrapper(OLD), KekWrapper(NEW)).mark(Marks(kcv(OLD), kcv(NEW)))
    before = names(directory)
    with pytest.raises(ForeignKekError) as refusal:
        behind.create(KeyPurpose.PACKAGE, "P-9")
    assert "PORTAL_KEK_NEXT" in str(refusal.value)
    for only_one in (OLD, NEW):
        with pytest.raises(ForeignKekError):
            KeyStore(directory, only_one)
    assert names(directory) == before
    filled.assert_readable(behind)


def test_wrong_keks_are_refused_before_and_while_it_is_changed(directory: Path) -> None:
    Filled(KeyStore(directory, OLD))
    wrong = bytes(range(16))
    with pytest.raises(ForeignKekError):
        KeyStore(directory, wrong, next_kek=NEW)
    with pytest.raises(ForeignKekError):
        KeyStore(directory, OLD).rotate()
    started = KeyStore(directory, OLD, next_kek=NEW)
    started._folder.mark(Marks(kcv(OLD), kcv(NEW)))
    for pair in ((OLD, wrong), (wrong, NEW)):
        with pytest.raises(ForeignKekError):
            KeyStore(directory, pair[0], next_kek=pair[1])
    started.rotate()
    with pytest.raises(ForeignKekError):
        KeyStore(directory, OLD, next_kek=NEW).rotate()
    with pytest.raises(ForeignKekError):
        KeyStore(directory, OLD, next_kek=wrong)


def test_another_target_is_refused_until_the_first_change_is_done(directory: Path) -> None:
    Filled(KeyStore(directory, OLD))
    third = KekWrapper(bytes(range(16)))
    opened = KeyStore(directory, OLD, next_kek=third)
    KeyFolder(directory, KekWrapper(OLD), KekWrapper(NEW)).mark(Marks(kcv(OLD), kcv(NEW)))
    with pytest.raises(ConflictError):
        opened.rotate()


def test_a_damaged_file_holds_up_the_end_only(directory: Path) -> None:
    """All other keys are brought over; with the file gone the next call ends the change."""
    filled = Filled(KeyStore(directory, OLD))
    damaged = directory / f"{'0' * 32}.key"
    damaged.write_bytes(b"{}")
    damaged.chmod(0o600)
    both = KeyStore(directory, OLD, next_kek=NEW)
    with pytest.raises(KeyUnreadableError) as refusal:
        both.rotate()
    assert damaged.name in refusal.value.where
    filled.assert_readable(both)
    assert both.kek_check_value == kcv(NEW)
    damaged.unlink()
    done = both.rotate()
    assert (done.rewrapped, done.untouched) == (0, 5)
    filled.assert_readable(KeyStore(directory, NEW))


def test_an_interrupted_destruction_is_finished_not_undone(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R-22: a key whose tombstone stands is not wrapped anew."""
    store = KeyStore(directory, OLD)
    key_id = store.create(KeyPurpose.PACKAGE, "P-1")

    def killed(path: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("portal.core.key_folder.shred", killed)
        with pytest.raises(KeyboardInterrupt):
            store.destroy(key_id)
    assert f"{key_id}.key" in names(directory)
    done = KeyStore(directory, OLD, next_kek=NEW).rotate()
    assert (done.rewrapped, done.untouched) == (0, 1)
    assert f"{key_id}.key" not in names(directory)
    with pytest.raises(KeyDestroyedError):
        KeyStore(directory, NEW).key(key_id)


def test_what_the_old_file_held_is_overwritten(directory: Path, tmp_path: Path) -> None:
    """The KEK may be changed because it leaked: the old wrapped bytes do not stay on the disk."""
    store = KeyStore(directory, OLD)
    key_id = store.create(KeyPurpose.PACKAGE, "P-1")
    witness = tmp_path / "witness"
    os.link(directory / f"{key_id}.key", witness)
    before = witness.read_bytes()
    KeyStore(directory, OLD, next_kek=NEW).rotate()
    assert len(witness.read_bytes()) == len(before)
    assert witness.read_bytes()[-60:] != before[-60:]


def test_a_draft_of_a_killed_process_is_shredded(directory: Path) -> None:
    """R-22: a half-written file would outlive the destruction of its key."""
    store = KeyStore(directory, OLD)
    key_id = store.create(KeyPurpose.PACKAGE, "P-1")
    draft = directory / f".{key_id}.key.{'a' * 16}"
    shutil.copy(directory / f"{key_id}.key", draft)
    linked = directory / f".{key_id}.key.{'b' * 16}"
    os.link(directory / f"{key_id}.key", linked)
    before = draft.read_bytes()
    with draft.open("rb") as witness:
        assert store.clear_drafts() == 2
        assert witness.read() != before
    assert names(directory) == {"store.json", "store.lock", f"{key_id}.key"}
    assert len(store.key(key_id)) == 16
    assert store.clear_drafts() == 0


def test_a_reader_that_meets_the_exchange_reads_again(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It opened the old file, which was overwritten before it had read it."""
    both = KeyStore(directory, OLD, next_kek=NEW)
    key_id = both.put(KeyPurpose.PACKAGE, "P-1", FIRST)
    whole = both._folder._content
    answers: Iterator[bytes] = iter([b"\x8f" * 200, whole(key_id)])
    monkeypatch.setattr(both._folder, "_content", lambda _: next(answers))
    assert both.key(key_id) == FIRST


def test_writers_wait_for_the_change_to_begin_and_never_deadlock(directory: Path) -> None:
    store = KeyStore(directory, OLD)
    child = 0
    with locked_directory(directory, alone=True):
        child = os.fork()
        if child == 0:
            KeyStore(directory, OLD).create(KeyPurpose.PACKAGE, "waits")
            os._exit(0)
        assert os.waitpid(child, os.WNOHANG) == (0, 0)
        assert store.count() == 0
    assert os.waitpid(child, 0)[1] == 0
    assert store.count() == 1
