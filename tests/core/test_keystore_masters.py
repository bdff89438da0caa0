"""Card master keys and the KEK: two people bring them, test keys never make real cards."""

from __future__ import annotations

from pathlib import Path

import pytest

from portal.core.crypto import KeyFormatError, kcv
from portal.core.errors import InputRefusedError
from portal.core.keystore import (
    CheckValueError,
    KekWrapper,
    KeyExistsError,
    KeyForTestsError,
    KeyMissingError,
    KeyPermissionError,
    KeyStore,
    KeyWrapper,
    load_kek,
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
    return KekWrapper(KEK) if request.param == "memory" else soft_hsm().wrapper("suite")


@pytest.fixture
def store(directory: Path, wrapper: KeyWrapper) -> KeyStore:
    return KeyStore(directory, wrapper)


def files(directory: Path) -> dict[str, bytes]:
    """Return every file's content, to prove that a refused action changed nothing."""
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def test_two_components_make_a_master_key_with_the_announced_check_value(store: KeyStore) -> None:
    """R-25."""
    master = store.import_components("DF01.UK1", 1, FIRST, SECOND, f" {kcv(MASTER).lower()} ")
    assert (master.name, master.version, master.check_value, master.test) == (
        "DF01.UK1",
        1,
        kcv(MASTER),
        False,
    )
    assert store.master_key("DF01.UK1") == MASTER
    assert store.masters() == [master]


def test_a_wrong_component_is_refused_and_leaves_nothing(store: KeyStore, directory: Path) -> None:
    """R-25."""
    before = files(directory)
    with pytest.raises(CheckValueError) as refusal:
        store.import_components("IRK", 1, FIRST, FIRST[:-1] + b"\0", kcv(MASTER))
    assert refusal.value.expected == kcv(MASTER)
    for first, second in ((FIRST, SECOND[:-1]), (b"", SECOND)):
        with pytest.raises(KeyFormatError):
            store.import_components("IRK", 1, first, second, kcv(MASTER))
    with pytest.raises(InputRefusedError):
        store.import_components("IRK", 0, FIRST, SECOND, kcv(MASTER))
    assert files(directory) == before


def test_known_keys_and_empty_components_are_refused(store: KeyStore, directory: Path) -> None:
    """R-25: a component of zeros means that one person knows the whole key."""
    known = bytes.fromhex("404142434445464748494a4b4c4d4e4f")
    before = files(directory)
    masked = bytes(a ^ b for a, b in zip(FIRST, known, strict=True))
    for first, second in ((FIRST, masked), (FIRST, FIRST), (FIRST, bytes(16)), (bytes(16), FIRST)):
        joined = bytes(a ^ b for a, b in zip(first, second, strict=True))
        with pytest.raises(KeyForTestsError):
            store.import_components("IRK", 1, first, second, kcv(joined))
    assert files(directory) == before


def test_the_newest_master_key_is_used_and_older_ones_stay_readable(store: KeyStore) -> None:
    store.generate_test_masters(["IRK"])
    for version in (2, 10, 9):
        second = bytes([version]) * 16
        key = bytes(byte ^ version for byte in FIRST)
        store.import_components("IRK", version, FIRST, second, kcv(key))
    assert store.master_key("IRK") == bytes(byte ^ 10 for byte in FIRST)
    assert store.master_key("IRK", 2) == bytes(byte ^ 2 for byte in FIRST)
    assert [(master.version, master.test) for master in store.masters()] == [
        (0, True),
        (2, False),
        (9, False),
        (10, False),
    ]
    with pytest.raises(KeyExistsError):
        store.import_components("IRK", 2, FIRST, SECOND, kcv(MASTER))
    assert store.master_key("IRK", 2) == bytes(byte ^ 2 for byte in FIRST)
    for name, version in (("IRK", 3), ("BK", None)):
        with pytest.raises(KeyMissingError):
            store.master_key(name, version)


def test_test_masters_are_marked_and_never_used_in_production(
    store: KeyStore, directory: Path, wrapper: KeyWrapper
) -> None:
    """R-25."""
    first = store.generate_test_masters(["IRK", "BK"])
    assert [(master.name, master.version, master.test) for master in first] == [
        ("IRK", 0, True),
        ("BK", 0, True),
    ]
    assert store.generate_test_masters(["IRK", "BK"]) == first
    before = files(directory)
    production = KeyStore(directory, wrapper, production=True)
    with pytest.raises(KeyForTestsError):
        production.generate_test_masters(["PUK"])
    for version in (None, 0):
        with pytest.raises(KeyForTestsError) as refusal:
            production.master_key("IRK", version)
        assert refusal.value.code == "test_key_refused"
    assert files(directory) == before


def test_the_kek_comes_as_digits_or_from_a_private_file(tmp_path: Path) -> None:
    path = tmp_path / "kek"
    path.write_text(KEK.hex().upper() + "\n")
    path.chmod(0o600)
    assert load_kek(KEK.hex()) == KEK == load_kek(str(path))
    path.chmod(0o644)
    with pytest.raises(KeyPermissionError):
        load_kek(str(path))


@pytest.mark.parametrize("source", ["", KEK.hex()[:-1], KEK.hex() + "0", "g" * 32, "nowhere/kek", "\0"])
def test_a_kek_that_is_none_is_refused_without_repeating_it(source: str) -> None:
    with pytest.raises(KeyFormatError) as refusal:
        load_kek(source)
    assert refusal.value.__cause__ is None
    assert not source or source not in str(refusal.value)


def test_a_kek_file_of_other_content_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "kek"
    for content in (b"", b"12", b"\xff" * 32):
        path.write_bytes(content)
        path.chmod(0o600)
        with pytest.raises(KeyFormatError):
            load_kek(str(path))


def test_development_draws_its_kek_once_and_production_never(directory: Path) -> None:
    kek = load_kek("", directory=directory)
    assert load_kek("", directory=directory) == kek
    assert (directory / "development.kek").stat().st_mode & 0o777 == 0o600
    with pytest.raises(KeyFormatError):
        load_kek("", production=True, directory=directory)
