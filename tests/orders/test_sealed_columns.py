"""Every encrypted column of every model opens in its own place only; indexes meet any spelling (R-45).

Columns are discovered: a new `*sealed*` column without a recipe here fails, and so does a binary column that
is neither sealed nor of a kind known to hold nothing personal.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from typing import Any

import pytest
from django.apps import apps
from django.db import models
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orders import personal
from orders.models import AccountFile, AccountRow, CardholderRecord, IntakeChunk
from orders.selectors.accounts import account_report, open_account_row
from orders.services.chunks import open_chunk
from portal import files
from portal.choices import Role
from portal.core.crypto import TamperedError
from portal.core.keystore import KeyPurpose
from portal.models import SecondFactor
from portal.services import second_factor
from portal.services.second_factor import begin_enrolment
from stations.models import EmergencyCase, Issuance
from stations.services import cases, memory
from tests.architecture.sources import PACKAGES, ROOT, source_files
from tests.orders.account_desk import loaded
from tests.orders.intake.world import World, make_world
from tests.orders.scene import Scene, csv_file, make_user, person
from tests.refusals import APPS
from tests.stations.counter import make_counter

pytestmark = pytest.mark.django_db
# Other binary columns: digests and signatures of what is sealed or public, blind indexes, public keys, and
# the associated data of a payload (sender, recipient, number, time).
NOT_PERSONAL = ("digest", "index", "signature", "public_key", "previous", "payload_context")


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How two rows of a model come about, and how each of its sealed columns is opened."""

    rows: Callable[[Any], tuple[Any, Any]]
    columns: dict[str, Callable[[Any], Any]]


@pytest.fixture
def world(db: None, own_folders: None, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr("portal.queue.wake", lambda tasks: None)
    return make_world()


def two_records(request: pytest.FixtureRequest) -> tuple[CardholderRecord, CardholderRecord]:
    """Take a package in and fill every column of two of its records, as corrections and matching would."""
    request.getfixturevalue("world").take_in(2)
    first, second = CardholderRecord.objects.select_related("package").order_by("row_number")
    for record in (first, second):
        record.account_sealed = personal.seal_column(record, "account", f"622202{record.pk}")
        record.problems_sealed = personal.seal_column(record, "problems", "[]")
        record.source_sealed = personal.seal_column(record, "source", "{}")
        record.save()
    return first, second


def two_account_rows(request: pytest.FixtureRequest) -> tuple[AccountRow, AccountRow]:
    scene: Scene = request.getfixturevalue("scene")
    loaded(scene, csv_file([person(1).row(), person(2).row()]))
    first, second = AccountRow.objects.select_related("account_file").order_by("pk")
    return first, second


def two_account_files(request: pytest.FixtureRequest) -> tuple[AccountFile, AccountFile]:
    scene: Scene = request.getfixturevalue("scene")
    first = loaded(scene, csv_file([person(1).row(), ["1", "张", "2"]]))
    second = loaded(scene, csv_file([person(2).row(), ["3", "李", "4"]]), bank=1)
    return first, second


def two_chunks(request: pytest.FixtureRequest) -> tuple[IntakeChunk, IntakeChunk]:
    """Open two packages without checking their chunks."""
    from orders.services.intake import open_package

    world: World = request.getfixturevalue("world")
    for place, number in enumerate(("P-1", "P-2")):
        open_package(world.receive(world.container(2, number=number, start=place)), actor=None)
    first, second = IntakeChunk.objects.select_related("package").order_by("pk")
    return first, second


def two_factors(request: pytest.FixtureRequest) -> tuple[SecondFactor, SecondFactor]:
    world: World = request.getfixturevalue("world")
    for name in ("one", "two"):
        begin_enrolment(make_user(name, world.purchaser, Role.AUDITOR))
    first, second = SecondFactor.objects.select_related("user").order_by("pk")
    return first, second


def two_issuances(request: pytest.FixtureRequest) -> tuple[Issuance, Issuance]:
    """Remember an exchange for two issuances of one batch, whose cipher is the same."""
    request.getfixturevalue("own_folders")
    counter = make_counter()
    first = counter.start()
    Issuance.objects.filter(pk=first.pk).update(status="rejected")
    second = counter.start()
    second.batch = first.batch
    second.save(update_fields=["batch"])
    for place, row in enumerate((first, second)):
        sealed = {
            "exchange_sealed": memory.sealed_memory(row, memory.Memory(state=bytes([place]) * 8)),
            "answer_sealed": memory.sealed_answer(row, {"result": place}),
        }
        Issuance.objects.filter(pk=row.pk).update(**sealed)
    return first, second


def two_cases(request: pytest.FixtureRequest) -> tuple[EmergencyCase, EmergencyCase]:
    """Enter two people under one key, which the service never does: the place alone must tell them apart."""
    request.getfixturevalue("own_folders")
    counter = make_counter()
    key_id = files.keystore().create(KeyPurpose.PACKAGE, "cases")
    rows = []
    for place in range(2):
        case = EmergencyCase.objects.create(
            station=counter.station,
            bank=counter.operator.organisation,
            number_index=bytes([place]) * 32,
            key_id=key_id,
            reason="应急",
            requested_by=counter.operator,
        )
        cipher = files.cipher(key_id)
        case.data_sealed = cipher.seal(b'{"row":{},"account":"1"}', cases._context(case, "data"))
        case.photo_sealed = cipher.seal(b"", cases._context(case, "photo"))
        case.save()
        rows.append(case)
    return rows[0], rows[1]


RECIPES: dict[str, Recipe] = {
    "orders.CardholderRecord": Recipe(
        two_records,
        {
            f"{column}_sealed": lambda record, column=column: personal.open_column(record, column)
            for column in ("number", "name", "personal", "account", "problems", "source")
        },
    ),
    "orders.AccountRow": Recipe(two_account_rows, {"account_sealed": open_account_row}),
    "orders.AccountFile": Recipe(two_account_files, {"problems_sealed": account_report}),
    "orders.IntakeChunk": Recipe(two_chunks, {"sealed_rows": lambda row: open_chunk(row.package, row)}),
    "stations.Issuance": Recipe(
        two_issuances, {"exchange_sealed": memory.load_memory, "answer_sealed": memory.kept_answer}
    ),
    "stations.EmergencyCase": Recipe(
        two_cases, {"data_sealed": cases.person_of, "photo_sealed": cases.person_of}
    ),
    "portal.SecondFactor": Recipe(two_factors, {"sealed_secret": second_factor._secret}),
}
COLUMNS = [(label, column) for label, recipe in RECIPES.items() for column in recipe.columns]
LOOKUP = re.compile(r"\w+_index__(?!in\b|isnull\b)\w+")


def binary_columns() -> set[tuple[str, str]]:
    """Return every binary column of the project's tables."""
    return {
        (model._meta.label, field.name)
        for label in APPS
        for model in apps.get_app_config(label).get_models()
        for field in model._meta.get_fields()
        if isinstance(field, models.BinaryField)
    }


def test_every_sealed_column_has_a_recipe_and_no_other_binary_column_is_unknown() -> None:
    sealed = {(label, name) for label, name in binary_columns() if "sealed" in name}
    assert sealed == set(COLUMNS), "a sealed column needs a recipe in RECIPES"
    others = {(label, name) for label, name in binary_columns() - sealed if not name.endswith(NOT_PERSONAL)}
    assert others == set()


def stored(row: Any) -> Any:
    """Read a row afresh, with what its openers need."""
    return type(row)._base_manager.select_related(*_needed(type(row))).get(pk=row.pk)


def _needed(model: type[models.Model]) -> list[str]:
    return [name for name in ("package", "account_file", "user") if hasattr(model, name)]


@pytest.mark.parametrize(("label", "column"), COLUMNS)
def test_a_value_opens_in_its_own_place_only(request: pytest.FixtureRequest, label: str, column: str) -> None:
    """Whoever can write to the table cannot give one person's value to another, nor swap two columns."""
    first, second = RECIPES[label].rows(request)
    read = RECIPES[label].columns[column]
    assert read(stored(first)) is not None
    manager = type(first)._base_manager
    own = bytes(getattr(stored(first), column))
    manager.filter(pk=first.pk).update(**{column: bytes(getattr(stored(second), column))})
    with pytest.raises(TamperedError):
        read(stored(first))
    for other in RECIPES[label].columns.keys() - {column}:
        manager.filter(pk=first.pk).update(**{column: bytes(getattr(stored(first), other))})
        with pytest.raises(TamperedError):
            read(stored(first))
    for place in (0, len(own) // 2, len(own) - 1):
        changed = bytearray(own)
        changed[place] ^= 1
        manager.filter(pk=first.pk).update(**{column: bytes(changed)})
        with pytest.raises(TamperedError):
            read(stored(first))
    manager.filter(pk=first.pk).update(**{column: own})
    assert read(stored(first)) is not None


def test_a_value_of_an_older_version_does_not_come_back(request: pytest.FixtureRequest) -> None:
    """A correction is a new version: what stood before it does not open as if it were the new value."""
    record, _ = two_records(request)
    CardholderRecord.objects.filter(pk=record.pk).update(version=2)
    with pytest.raises(TamperedError):
        personal.open_number(stored(record))


def test_no_plain_value_stands_beside_its_seal(request: pytest.FixtureRequest) -> None:
    """Blind indexes are 32 bytes of HMAC-SM3, sealed columns 28 bytes longer than what they hold."""
    record, _ = two_records(request)
    row = stored(record)
    number, name = personal.open_number(row), personal.open_name(row)
    assert len(bytes(row.number_sealed)) == len(number) + 28
    assert len(bytes(row.name_sealed)) == len(name.encode()) + 28
    text = repr(list(CardholderRecord.objects.values_list()))
    assert number not in text
    assert name not in text


WIDE = {code: code + 0xFEE0 for code in range(0x21, 0x7F)}
SPACES = st.sampled_from(["", " ", "\u3000", "\u00a0", "\t", "  "])
NUMBERS = st.from_regex(r"[0-9]{17}[0-9X]", fullmatch=True)


@st.composite
def spelt(draw: st.DrawFn) -> tuple[str, str]:
    """Return a number, and the same number as somebody may type it."""
    number = draw(NUMBERS)
    typed = "".join(draw(SPACES) + draw(st.sampled_from([c, c.lower(), c.translate(WIDE)])) for c in number)
    return number, typed + draw(SPACES)


class TestBlindIndexes:
    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(spelt())
    def test_any_spelling_of_a_number_finds_it(self, own_folders: None, case: tuple[str, str]) -> None:
        """Full-width digits, a small x, and spaces wherever they are typed."""
        number, typed = case
        for index in (personal.number_index, personal.card_number_index, personal.account_index):
            assert index(typed) == index(number)

    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(NUMBERS, NUMBERS)
    def test_another_number_is_never_found(self, own_folders: None, one: str, other: str) -> None:
        assert (personal.number_index(one) == personal.number_index(other)) == (one == other)

    def test_a_name_is_found_as_it_is_written_on_any_keyboard(self, own_folders: None) -> None:
        spellings = ("欧阳修", "欧阳 修", "欧阳\u3000修", " 欧阳修 ")
        assert len({personal.name_index(name) for name in spellings}) == 1
        assert personal.name_index("阿依古丽•买买提") == personal.name_index("阿依古丽·买买提")
        assert personal.name_index("ｊｏｈｎ  ｓｍｉｔｈ") == personal.name_index("John Smith")
        assert personal.name_index("张三") != personal.name_index("张山")

    def test_only_equality_is_searched(self) -> None:
        """An index says equal or not; a part or an order of it means nothing."""
        lookups = [
            f"{path.relative_to(ROOT)}: {found}"
            for path in source_files(*PACKAGES)
            for found in LOOKUP.findall(path.read_text())
        ]
        assert lookups == []
        assert len([name for _, name in binary_columns() if name.endswith("_index")]) >= 8
