"""Card master keys and the KEK: two people bring them, test keys never make real cards."""

from __future__ import annotations

import json
import os
import time
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from portal.core.crypto import KeyFormatError, kcv
from portal.core.errors import InputRefusedError, PortalError
from portal.core.key_masters import read_component
from portal.core.key_wrapping import PUBLIC_KEYS, create_kek
from portal.core.keystore import (
    CheckValueError,
    KekWrapper,
    KeyDestroyedError,
    KeyExistsError,
    KeyExpiredError,
    KeyForTestsError,
    KeyMissingError,
    KeyPermissionError,
    KeyPurpose,
    KeyPurposeError,
    KeyStore,
    KeyUnreadableError,
    KeyWrapper,
    load_kek,
    load_wrapper,
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


def test_a_master_key_makes_cards_on_its_days_only(store: KeyStore) -> None:
    """Issue 3: the newest valid version is used; an expired one still verifies the cards it made."""
    plan = {
        1: (None, date(2026, 12, 31)),
        2: (date(2026, 6, 1), date(2026, 11, 30)),
        3: (date(2027, 6, 1), None),
    }
    keys = {version: bytes(byte ^ version for byte in FIRST) for version in plan}
    for version, (start, end) in plan.items():
        second = bytes([version]) * 16
        shown = store.import_components(
            "IRK", version, FIRST, second, kcv(keys[version]), valid_from=start, valid_until=end
        )
        assert (shown.valid_from, shown.valid_until) == (start, end)
    used = {
        date(2026, 5, 31): 1,
        date(2026, 6, 1): 2,
        date(2026, 11, 30): 2,
        date(2026, 12, 1): 1,
        date(2026, 12, 31): 1,
        date(2027, 6, 1): 3,
    }
    assert {day: store.newest_master("IRK", on=day).version for day in used} == used
    assert {day: store.master_key("IRK", on=day) for day in used} == {
        day: keys[version] for day, version in used.items()
    }
    for day in (date(2027, 1, 1), date(2027, 5, 31)):
        with pytest.raises(KeyExpiredError) as refusal:
            store.master_key("IRK", on=day)
        assert (refusal.value.code, refusal.value.got) == ("key_expired", str(day))
    assert {version: store.master_key("IRK", version) for version in plan} == keys
    assert [(master.version, master.valid_from, master.valid_until) for master in store.masters()] == [
        (version, *days) for version, days in plan.items()
    ]


def test_many_master_keys_are_looked_up_at_once(store: KeyStore) -> None:
    day = date(2026, 11, 23)
    for version in (1, 2):
        key = bytes(byte ^ version for byte in FIRST)
        store.import_components("IRK", version, FIRST, bytes([version]) * 16, kcv(key))
    store.generate_test_masters(["BK"])
    found = store.newest_masters(["IRK", "BK", "PUK"], on=day)
    assert {name: (master.version, master.test) for name, master in found.items()} == {
        "IRK": (2, False),
        "BK": (0, True),
    }
    store.import_components("PUK", 1, FIRST, SECOND, kcv(MASTER), valid_from=date(2026, 11, 24))
    with pytest.raises(KeyExpiredError):
        store.newest_masters(["IRK", "PUK"], on=day)


def test_an_expired_master_key_is_not_replaced_by_a_test_key(store: KeyStore) -> None:
    """R-25: not even where test keys are allowed."""
    store.generate_test_masters(["IRK"])
    assert store.newest_master("IRK").test
    store.import_components("IRK", 1, FIRST, SECOND, kcv(MASTER), valid_until=date(2026, 1, 1))
    with pytest.raises(KeyExpiredError):
        store.master_key("IRK", on=date(2026, 1, 2))


def test_the_days_are_bound_to_the_key(store: KeyStore, directory: Path) -> None:
    """Nobody prolongs a key by editing its file."""
    store.import_components("IRK", 1, FIRST, SECOND, kcv(MASTER), valid_until=date(2026, 1, 1))
    path = directory / "master-IRK-v1.key"
    fields = json.loads(path.read_text())
    for changed in ({"valid_until": "2099-01-01"}, {"valid_from": "2000-01-01"}, {"valid_until": "soon"}):
        path.write_text(json.dumps(fields | changed))
        with pytest.raises(KeyUnreadableError):
            store.master_key("IRK", 1)
    del fields["valid_until"]
    path.write_text(json.dumps(fields))
    with pytest.raises(KeyUnreadableError):
        store.master_key("IRK", 1)


def test_days_that_end_before_they_begin_are_refused(store: KeyStore, directory: Path) -> None:
    before = files(directory)
    with pytest.raises(InputRefusedError) as refusal:
        store.import_components(
            "IRK", 1, FIRST, SECOND, kcv(MASTER),
            valid_from=date(2026, 1, 2), valid_until=date(2026, 1, 1),
        )  # fmt: skip
    assert refusal.value.where == "valid_until"
    assert files(directory) == before


def test_an_import_that_was_killed_may_be_repeated(store: KeyStore, directory: Path) -> None:
    """The key stood, the row did not: the same components again are the same import."""
    first = store.import_components("IRK", 1, FIRST, SECOND, kcv(MASTER))
    before = files(directory)
    assert store.import_components("IRK", 1, FIRST, SECOND, kcv(MASTER)) == first
    for days in ({"valid_until": date(2099, 1, 1)}, {"valid_from": date(2000, 1, 1)}):
        with pytest.raises(KeyExistsError):
            store.import_components("IRK", 1, FIRST, SECOND, kcv(MASTER), **days)
    assert files(directory) == before


def test_a_component_waits_and_serves_no_other_purpose(store: KeyStore, directory: Path) -> None:
    """R-25: half of a card master key is read by the ceremony alone."""
    key_id = store.put_component("IRK v1", FIRST)
    assert store.component(key_id) == FIRST
    for read in (store.key, store.cipher):
        with pytest.raises(KeyPurposeError):
            read(key_id)
    with pytest.raises(KeyPurposeError):
        store.component(store.create(KeyPurpose.PACKAGE, "P-1"))
    assert store.destroy(key_id).purpose is KeyPurpose.COMPONENT
    with pytest.raises(KeyDestroyedError):
        store.component(key_id)


@pytest.mark.parametrize("spelling", ["{0}", "{0} ", " {1}", "{2}", "{2}\n"])
def test_a_component_is_read_in_any_grouping(spelling: str) -> None:
    digits = FIRST.hex()
    grouped = " ".join(digits[start : start + 4] for start in range(0, 32, 4))
    text = spelling.format(digits, digits.upper(), grouped)
    assert read_component(text, f" {kcv(FIRST).lower()} ") == FIRST


@pytest.mark.parametrize(
    ("text", "check_value", "error"),
    [
        (FIRST.hex()[:-1] + "0", kcv(FIRST), CheckValueError),  # one digit mistyped
        (FIRST.hex(), kcv(SECOND), CheckValueError),
        (FIRST.hex(), kcv(FIRST)[:-1], CheckValueError),
        (FIRST.hex(), "", CheckValueError),
        (FIRST.hex(), "GGGGGG", CheckValueError),
        (FIRST.hex()[:-2], kcv(FIRST), KeyFormatError),
        (FIRST.hex() + "00", kcv(FIRST), KeyFormatError),
        ("x" + FIRST.hex()[1:], kcv(FIRST), KeyFormatError),
        ("", kcv(FIRST), KeyFormatError),
        ("00" * 16, kcv(bytes(16)), KeyForTestsError),
        ("ff" * 16, kcv(b"\xff" * 16), KeyForTestsError),
        ("404142434445464748494a4b4c4d4e4f", kcv(bytes(range(64, 80))), KeyForTestsError),
    ],
)
def test_a_mistyped_component_is_refused_and_not_repeated(
    text: str, check_value: str, error: type[PortalError]
) -> None:
    with pytest.raises(error) as refusal:
        read_component(text, check_value)
    assert not text or text not in str(refusal.value)
    assert refusal.value.__cause__ is None
    assert kcv(FIRST) not in str(refusal.value)


def test_a_kek_everybody_knows_is_refused_in_production(tmp_path: Path) -> None:
    """R-25: production refuses known test keys, the KEK among them."""
    for known in PUBLIC_KEYS:
        path = tmp_path / known.hex()
        path.write_text(known.hex())
        path.chmod(0o600)
        for source in (known.hex(), str(path)):
            with pytest.raises(KeyForTestsError) as refusal:
                load_wrapper(source, production=True)
            assert known.hex() not in str(refusal.value)
            assert load_wrapper(source).check_value == kcv(known)
    assert load_wrapper(KEK.hex(), production=True).check_value == kcv(KEK)


def test_a_kek_is_made_in_a_private_file(tmp_path: Path) -> None:
    path = tmp_path / "kek"
    assert create_kek(str(path)) == load_wrapper(str(path), production=True).check_value
    assert path.stat().st_mode & 0o777 == 0o600
    before = path.read_bytes()
    with pytest.raises(KeyExistsError):
        create_kek(str(path))
    assert path.read_bytes() == before
    for source in ("relative", "", KEK.hex(), str(tmp_path / "nowhere" / "kek")):
        with pytest.raises(KeyFormatError) as refusal:
            create_kek(source)
        assert KEK.hex() not in str(refusal.value)


def test_data_keys_are_listed_by_age(store: KeyStore, directory: Path) -> None:
    """Card master keys, SM2 keys and the index key are none."""
    store.import_components("IRK", 1, FIRST, SECOND, kcv(MASTER))
    store.ensure_sm2("portal")
    store.index_key()
    old, new = (store.create(KeyPurpose.PACKAGE, label) for label in ("old", "new"))
    component = store.put_component("IRK v1", FIRST)
    for age, key_id in ((48, old), (72, component)):
        moment = time.time() - age * 3600
        os.utime(directory / f"{key_id}.key", (moment, moment))
    found = store.data_keys(datetime.now(UTC) - timedelta(hours=24))
    assert [key.key_id for key in found] == [component, old]
    assert new in {key.key_id for key in store.data_keys(datetime.now(UTC) + timedelta(hours=1))}
