"""The key store: what is destroyed stays destroyed, and nobody else's files are believed."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from portal.core.crypto import KeyFormatError, Sm2PrivateKey, kcv, sm3
from portal.core.errors import InputRefusedError
from portal.core.keystore import (
    ForeignKekError,
    KekWrapper,
    KeyDestroyedError,
    KeyExistsError,
    KeyMissingError,
    KeyPermissionError,
    KeyPurpose,
    KeyStore,
    KeyUnreadableError,
    KeyWrapper,
)
from tests.core.key_tokens import soft_hsm

KEK = bytes.fromhex("8d0ad8f0cd3fd8e9b7a1d4356a9c2e71")
FIRST = bytes.fromhex("31a7c05d92e4480fb6d1937ae50c2f84")
SECOND = bytes.fromhex("c2590be76f13ad8844f02e9b571d60ca")
MASTER = bytes(a ^ b for a, b in zip(FIRST, SECOND, strict=True))


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "keys"


@pytest.fixture(params=["memory", "token"])
def wrapper(request: pytest.FixtureRequest) -> KeyWrapper:
    """Run every test under a KEK in memory and under one that never leaves a token."""
    return KekWrapper(KEK) if request.param == "memory" else soft_hsm().wrapper("suite")


@pytest.fixture
def store(directory: Path, wrapper: KeyWrapper) -> KeyStore:
    return KeyStore(directory, wrapper)


def files(directory: Path) -> dict[str, bytes]:
    """Return every file's content, to prove that a refused action changed nothing."""
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def key_file(directory: Path, key_id: str) -> Path:
    return directory / f"{key_id}.key"


def test_a_key_is_the_same_in_every_process_that_opens_the_store(
    store: KeyStore, directory: Path, wrapper: KeyWrapper
) -> None:
    key_id = store.create(KeyPurpose.PACKAGE, "P-1")
    other = KeyStore(directory, wrapper)
    assert other.key(key_id) == store.key(key_id)
    assert len(store.key(key_id)) == 16
    assert store.exists(key_id)
    blob = store.cipher(key_id).seal(b"x", b"c")
    assert other.cipher(key_id).open(blob, b"c") == b"x"


def test_a_key_from_elsewhere_is_kept(store: KeyStore) -> None:
    key_id = store.put(KeyPurpose.PACKAGE, "P-2", FIRST)
    assert store.key(key_id) == FIRST
    with pytest.raises(KeyFormatError):
        store.put(KeyPurpose.PACKAGE, "P-2", FIRST[:-1])


def test_no_file_of_the_store_holds_a_key_in_clear(store: KeyStore, directory: Path) -> None:
    """R-25."""
    key = Sm2PrivateKey.generate()
    store.put(KeyPurpose.PACKAGE, "P-3", FIRST)
    store.put_sm2("portal", key)
    store.import_components("IRK", 1, FIRST, SECOND, kcv(MASTER))
    for content in files(directory).values():
        for secret in (FIRST, SECOND, MASTER, KEK, key.raw, store.index_key()):
            assert secret not in content
            assert secret.hex().encode() not in content.lower()


def test_files_and_directory_are_the_owners_alone(store: KeyStore, directory: Path) -> None:
    store.create(KeyPurpose.PACKAGE, "P-1")
    assert directory.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in directory.iterdir()} == {0o600}


def test_a_destroyed_key_is_gone_for_everybody(store: KeyStore, directory: Path, wrapper: KeyWrapper) -> None:
    """R-22."""
    other = KeyStore(directory, wrapper)
    key_id = store.put(KeyPurpose.PACKAGE, "P-1", FIRST)
    blob = other.cipher(key_id).seal(b"x", b"c")
    wrapped = key_file(directory, key_id).read_bytes()
    before = datetime.now(UTC)

    tombstone = store.destroy(key_id)

    assert tombstone.key_digest == sm3(key_id.encode()).hex()
    assert (tombstone.purpose, tombstone.label) == (KeyPurpose.PACKAGE, "P-1")
    assert before - timedelta(seconds=1) <= tombstone.destroyed_at <= datetime.now(UTC)
    assert not key_file(directory, key_id).exists()
    assert not any(wrapped[-64:] in content for content in files(directory).values())
    for each in (store, other, KeyStore(directory, wrapper)):
        assert not each.exists(key_id)
        assert each.tombstone(key_id) == tombstone
        for read in (each.key, each.cipher):
            with pytest.raises(KeyDestroyedError) as refusal:
                read(key_id)
            assert refusal.value.code == "key_destroyed"
    assert len(blob) == 29


def test_the_overwriting_reaches_the_file_itself(store: KeyStore, directory: Path, tmp_path: Path) -> None:
    """R-22: a second name for the same blocks sees them overwritten."""
    key_id = store.create(KeyPurpose.PACKAGE, "P-1")
    witness = tmp_path / "witness"
    os.link(key_file(directory, key_id), witness)
    before = witness.read_bytes()
    store.destroy(key_id)
    assert len(witness.read_bytes()) == len(before)
    assert json.loads(before)["wrapped"].encode() not in witness.read_bytes()


def test_destroying_twice_gives_the_same_proof(store: KeyStore, directory: Path) -> None:
    key_id = store.create(KeyPurpose.PACKAGE, "P-1")
    first = store.destroy(key_id)
    left = files(directory)
    assert store.destroy(key_id) == first
    assert files(directory) == left


def test_a_destruction_that_was_interrupted_is_finished_by_the_next_call(
    store: KeyStore, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R-22: killed between tombstone and removal, the key already counts as destroyed."""
    key_id = store.create(KeyPurpose.PACKAGE, "P-1")
    cipher_kept_open = store.cipher(key_id)

    def killed(path: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("portal.core.key_folder.shred", killed)
        with pytest.raises(KeyboardInterrupt):
            store.destroy(key_id)
    assert key_file(directory, key_id).exists()
    for read in (store.key, store.cipher):
        with pytest.raises(KeyDestroyedError):
            read(key_id)
    assert cipher_kept_open.seal(b"x", b"c")
    store.destroy(key_id)
    assert not key_file(directory, key_id).exists()


def test_a_restored_key_file_does_not_undo_the_destruction(store: KeyStore, directory: Path) -> None:
    """R-22: somebody copies the file back from a backup."""
    key_id = store.create(KeyPurpose.PACKAGE, "P-1")
    copy = key_file(directory, key_id).read_bytes()
    store.destroy(key_id)
    key_file(directory, key_id).write_bytes(copy)
    key_file(directory, key_id).chmod(0o600)
    with pytest.raises(KeyDestroyedError):
        store.key(key_id)


@pytest.mark.parametrize(
    "key_id", ["", "0" * 31, "../" + "0" * 29, "index", "master-IRK-v1", "sm2-portal", "A" * 32]
)
def test_other_ids_are_no_data_keys(store: KeyStore, directory: Path, key_id: str) -> None:
    """R-25: no bug in a caller reads or destroys a card master key through this door."""
    store.import_components("IRK", 1, FIRST, SECOND, kcv(MASTER))
    store.ensure_sm2("portal")
    store.index_key()
    before = files(directory)
    for use in (store.key, store.cipher, store.destroy):
        with pytest.raises(KeyMissingError):
            use(key_id)
    assert not store.exists(key_id)
    assert files(directory) == before


def test_an_unknown_key_is_missing_not_destroyed(store: KeyStore) -> None:
    for use in (store.key, store.cipher, store.destroy):
        with pytest.raises(KeyMissingError) as refusal:
            use("0" * 32)
        assert refusal.value.code == "key_missing"


def test_another_kek_is_refused_before_any_key_is_read(
    store: KeyStore, directory: Path, wrapper: KeyWrapper
) -> None:
    store.create(KeyPurpose.PACKAGE, "P-1")
    before = files(directory)
    with pytest.raises(ForeignKekError) as refusal:
        KeyStore(directory, bytes(range(16)))
    assert (refusal.value.expected, refusal.value.got) == (wrapper.check_value, kcv(bytes(range(16))))
    assert files(directory) == before


def test_a_key_file_from_another_store_is_refused(store: KeyStore, directory: Path, tmp_path: Path) -> None:
    foreign = KeyStore(tmp_path / "foreign", bytes(range(16)))
    key_id = foreign.create(KeyPurpose.PACKAGE, "P-1")
    shutil.copy(key_file(tmp_path / "foreign", key_id), directory)
    with pytest.raises(KeyUnreadableError) as refusal:
        store.key(key_id)
    assert refusal.value.code == "key_unreadable"


def test_a_key_file_under_another_name_is_refused(store: KeyStore, directory: Path) -> None:
    """R-25: a package key does not become a card master key by renaming its file."""
    key_id = store.create(KeyPurpose.PACKAGE, "P-1")
    other_id = store.create(KeyPurpose.PACKAGE, "P-2")
    shutil.copy(key_file(directory, key_id), key_file(directory, other_id))
    shutil.copy(key_file(directory, key_id), key_file(directory, "master-IRK-v1"))
    with pytest.raises(KeyUnreadableError):
        store.key(other_id)
    with pytest.raises(KeyUnreadableError):
        store.master_key("IRK")


@pytest.mark.parametrize("field", ["purpose", "label", "wrapped"])
def test_a_changed_field_of_a_key_file_is_noticed(store: KeyStore, directory: Path, field: str) -> None:
    key_id = store.create(KeyPurpose.PACKAGE, "00")
    path = key_file(directory, key_id)
    fields = json.loads(path.read_text())
    fields[field] = {"purpose": "account_file", "label": "01", "wrapped": "00" * 44}[field]
    path.write_text(json.dumps(fields))
    with pytest.raises(KeyUnreadableError):
        store.key(key_id)


def test_a_key_file_cut_anywhere_is_refused(store: KeyStore, directory: Path) -> None:
    key_id = store.create(KeyPurpose.PACKAGE, "P-1")
    path = key_file(directory, key_id)
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(KeyUnreadableError):
            store.key(key_id)
    path.write_bytes(whole)
    assert len(store.key(key_id)) == 16


@pytest.mark.parametrize(
    "content", [b"[]", b"null", b"{}", b"\xff\xfe", b'{"purpose": "x"}', b'{"wrapped": 1}']
)
def test_a_key_file_of_other_content_is_refused(store: KeyStore, directory: Path, content: bytes) -> None:
    key_id = store.create(KeyPurpose.PACKAGE, "P-1")
    key_file(directory, key_id).write_bytes(content)
    with pytest.raises(KeyUnreadableError):
        store.key(key_id)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o601])
def test_a_key_file_open_to_others_is_refused(store: KeyStore, directory: Path, mode: int) -> None:
    key_id = store.create(KeyPurpose.PACKAGE, "P-1")
    key_file(directory, key_id).chmod(mode)
    with pytest.raises(KeyPermissionError) as refusal:
        store.key(key_id)
    assert refusal.value.code == "key_permission"


@pytest.mark.parametrize("mode", [0o750, 0o705, 0o711])
def test_a_directory_open_to_others_is_refused(directory: Path, mode: int, wrapper: KeyWrapper) -> None:
    directory.mkdir()
    directory.chmod(mode)
    with pytest.raises(KeyPermissionError):
        KeyStore(directory, wrapper)
    assert files(directory) == {}


def test_a_link_in_place_of_a_key_file_is_refused(store: KeyStore, directory: Path, tmp_path: Path) -> None:
    key_id = store.create(KeyPurpose.PACKAGE, "P-1")
    path = key_file(directory, key_id)
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(KeyPermissionError):
        store.key(key_id)


def _index_key_of(directory: Path, wrapper: KeyWrapper, start: Any, found: Any) -> None:
    store = KeyStore(directory, wrapper)
    start.wait()
    found.put((store.index_key(), store.ensure_sm2("portal").raw))


def test_processes_that_start_together_agree_on_the_index_key(directory: Path, wrapper: KeyWrapper) -> None:
    context = multiprocessing.get_context("fork")
    start, found = context.Event(), context.Queue()
    processes = [
        context.Process(target=_index_key_of, args=(directory, wrapper, start, found)) for _ in range(6)
    ]
    for process in processes:
        process.start()
    start.set()
    results = {found.get(timeout=20) for _ in processes}
    for process in processes:
        process.join(20)
    assert len(results) == 1
    assert {len(secret) for secret in results.pop()} == {32}
    assert sorted(path.name for path in directory.iterdir()) == [
        "index.key",
        "sm2-portal.key",
        "store.json",
        "store.lock",
    ]


def test_an_sm2_key_is_kept_by_name_and_never_replaced(store: KeyStore, directory: Path) -> None:
    key = Sm2PrivateKey.generate()
    store.put_sm2("portal-recipient", key)
    assert store.sm2("portal-recipient") == key == store.ensure_sm2("portal-recipient")
    before = files(directory)
    with pytest.raises(KeyExistsError):
        store.put_sm2("portal-recipient", Sm2PrivateKey.generate())
    assert files(directory) == before
    with pytest.raises(KeyMissingError):
        store.sm2("nobody")


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".x", "x" * 41, "名"])
def test_a_name_that_could_walk_the_file_system_is_refused(store: KeyStore, name: str) -> None:
    for use in (store.sm2, store.ensure_sm2, store.master_key):
        with pytest.raises((InputRefusedError, KeyMissingError)):
            use(name)


def test_the_cache_of_open_keys_stays_small(store: KeyStore) -> None:
    ids = [store.create(KeyPurpose.PACKAGE, str(number)) for number in range(70)]
    blobs = [store.cipher(key_id).seal(b"x", b"c") for key_id in ids]
    assert len(store._ciphers) == 64
    assert [store.cipher(key_id).open(blob, b"c") for key_id, blob in zip(ids, blobs, strict=True)] == [
        b"x"
    ] * 70


def test_no_repr_shows_a_secret(store: KeyStore, wrapper: KeyWrapper) -> None:
    key_id = store.put(KeyPurpose.PACKAGE, "P-1", FIRST)
    shown = repr([store, store._folder.read(key_id), KekWrapper(KEK), store.cipher(key_id), wrapper])
    assert FIRST.hex() not in shown
    assert repr(FIRST)[2:-1] not in shown
    assert repr(KEK)[2:-1] not in shown
