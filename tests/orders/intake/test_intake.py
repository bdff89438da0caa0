"""Intake from the sealed file to records: every row accepted or returned, and nothing in clear (R-8, R-9)."""

from __future__ import annotations

import pytest
from django.core.files.storage import default_storage
from django.db import connection

from orders.choices import PackageStatus, RecordStatus
from orders.models import CardholderRecord, IntakeChunk, Package, PackagePhoto
from orders.personal import open_name, open_number, open_personal, open_problems, open_source, read_photo
from orders.selectors.packages import problem_counts, records_of_number, validation_of
from orders.services import chunks
from orders.services.intake import advance_package, check_chunk, open_package
from portal.audit import verify_chain
from portal.core import clock
from portal.models import Task, User
from portal.samples.banks import BANKS
from portal.samples.faults import FAULTS
from portal.samples.hostile import honest_members, sealed
from portal.samples.package import SampleOrder
from portal.samples.people import SamplePerson, people
from portal.samples.photos import PhotoBook
from tests.orders.intake.world import World, actions, run_tasks


def persons(count: int, start: int = 0) -> list[SamplePerson]:
    return list(people(count, 1, BANKS, issue_date=clock.today(), start=start))


def records() -> list[CardholderRecord]:
    found = CardholderRecord.objects.select_related("package", "bank", "delivery_point")
    return list(found.order_by("package", "row_number"))


@pytest.mark.parametrize("encoding", ["utf-8", "gb18030"])
def test_a_flawless_package_becomes_accepted_records(world: World, encoding: str) -> None:
    """R-8: what the sender sealed is what the records hold, column by column, photo by photo."""
    package = world.take_in(12, encoding=encoding)
    assert package.status == PackageStatus.VALIDATED
    assert (package.record_count, package.accepted_count, package.returned_count) == (12, 12, 0)
    book = PhotoBook(1)
    for person, record in zip(persons(12), records(), strict=True):
        assert record.status == RecordStatus.ACCEPTED
        assert (open_number(record), open_name(record)) == (person.number, person.name)
        assert record.bank is not None
        assert record.delivery_point is not None
        assert (record.bank.code, record.delivery_point.code) == (person.bank_code, person.branch)
        assert read_photo(record) == book.photo(person.index)
        personal = open_personal(record)
        assert (personal.sex, personal.card_number) == (person.sex, person.card_number)
        assert (personal.ethnicity, personal.document_type) == (person.ethnicity, person.document_type)
        assert f"{personal.birth_on:%Y%m%d}" == person.birth_date
        assert (record.issue_kind, record.card_kind) == (person.issue_kind, person.card_kind)
    assert not IntakeChunk.objects.exists()
    assert PackagePhoto.objects.count() == 12
    assert actions() == ["package.received", "package.validating", "package.validated"]
    assert verify_chain() == (3, None)


def test_every_fault_is_returned_with_its_field_and_the_rest_goes_on(world: World) -> None:
    """R-9: in = accepted + returned, and each of the sample faults is found at its row."""
    count = len(FAULTS) * 2
    inner, report = world.inner(count, fault_rate=0.5)
    package = world.receive(sealed(inner, world.parties()))
    run_tasks()
    package.refresh_from_db()
    assert {bad.fault for bad in report.bad} == set(FAULTS)
    assert (package.record_count, package.returned_count) == (count, len(report.bad))
    assert package.accepted_count == count - len(report.bad)
    returned = [record for record in records() if record.status == RecordStatus.RETURNED]
    found = {record.row_number: open_problems(record) for record in returned}
    assert sorted(found) == sorted(bad.seq for bad in report.bad)
    for bad in report.bad:
        assert {problem.field for problem in found[bad.seq]} & set(bad.fields), bad.fault
    for record in returned:
        assert sorted(record.problem_codes) == sorted({p.code for p in found[record.row_number]})
        assert record.personal_sealed is None
    assert sum(count for _, count in problem_counts(package)) == sum(len(r.problem_codes) for r in returned)


def test_rows_are_cut_into_chunks_of_a_thousand_or_a_mebibyte(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each chunk is one task, and the row numbers run through."""
    monkeypatch.setattr(chunks, "CHUNK_ROWS", 4)
    package = world.receive(world.container(10))
    open_package(package, actor=world.clerk)
    assert list(IntakeChunk.objects.order_by("part").values_list("part", "row_count")) == [
        (0, 4),
        (1, 4),
        (2, 2),
    ]
    assert Task.objects.filter(handler="orders.jobs.check_chunk").count() == 3
    check_chunk(package, 1)
    assert [record.row_number for record in records()] == [5, 6, 7, 8]
    found = validation_of(Package.objects.get())
    assert (found.records, found.checked, found.accepted, found.returned, found.percent) == (10, 4, 4, 0, 40)
    run_tasks()
    assert [record.row_number for record in records()] == list(range(1, 11))


def test_every_step_may_be_repeated(world: World) -> None:
    """A task that is run again finds its work done and adds nothing."""
    package = world.take_in(5)
    before = (actions(), [(record.pk, bytes(record.number_sealed or b"")) for record in records()])
    open_package(package, actor=world.clerk)
    check_chunk(package, 0)
    advance_package(package)
    assert (actions(), [(r.pk, bytes(r.number_sealed or b"")) for r in records()]) == before


def test_a_person_in_production_is_returned_from_the_next_package(world: World) -> None:
    """R-9: nobody gets two cards because two packages name them."""
    world.take_in(4, number="P-1")
    second = world.take_in(6, number="P-2")
    assert (second.accepted_count, second.returned_count) == (2, 4)
    returned = [record for record in records() if record.status == RecordStatus.RETURNED]
    assert [record.problem_codes for record in returned] == [["already_in_production"]] * 4
    assert [open_number(record) for record in returned] == [person.number for person in persons(4)]
    assert open_source(returned[3])["AAC003"] == persons(4)[3].name


def test_a_card_number_in_production_has_its_own_code(world: World) -> None:
    world.take_in(1, number="P-1")
    members = honest_members(
        SampleOrder(1, start=1, fault_rate=0, issue_date=clock.today()), world.head("P-2")
    )
    first, other = persons(2)
    table = members["records.csv"].replace(other.card_number.encode(), first.card_number.encode())
    world.receive(world.container_of(members | {"records.csv": table}, "P-2"))
    run_tasks()
    assert [r.problem_codes for r in records() if r.status == "returned"] == [["card_number_in_production"]]


def test_a_person_twice_in_a_package_is_returned_the_second_time(world: World) -> None:
    """R-9: the first row counts, the second says which row it repeats."""
    members = honest_members(SampleOrder(3, fault_rate=0, issue_date=clock.today()), world.head())
    lines = members["records.csv"].decode().splitlines(keepends=True)
    members["records.csv"] = "".join([*lines, lines[2]]).encode()
    members["manifest.json"] = members["manifest.json"].replace(b'"record_count": 3', b'"record_count": 4')
    package = world.receive(world.container_of(members))
    run_tasks()
    package.refresh_from_db()
    assert (package.accepted_count, package.returned_count) == (3, 1)
    (problem,) = open_problems(records()[3])
    assert (problem.field, problem.code, problem.got) == ("AAC002", "duplicate_person", "与第2条重复")


def test_records_are_found_by_number_through_the_index_only_by_who_may_see_them(world: World) -> None:
    world.take_in(3)
    person = persons(3)[1]
    assert [r.row_number for r in records_of_number(f" {person.number.lower()} ", world.clerk)] == [2]
    nobody = User.objects.create(username="nobody", roles=["purchaser_clerk"])
    assert list(records_of_number(person.number, nobody)) == []


def test_nothing_personal_stands_in_clear(world: World) -> None:
    """R-45: neither the stored file nor any column of any table shows a number, a name or a card number."""
    package = world.receive(world.container(3))
    open_package(package, actor=world.clerk)  # chunks stand in their table now
    planted = [text for person in persons(3) for text in (person.number, person.name, person.card_number)]
    assert _in_tables(planted) == []
    run_tasks()
    assert _in_tables(planted) == []
    with default_storage.open(package.stored_name) as stored:
        content = stored.read()
    assert [text for text in planted if text.encode() in content] == []


def _in_tables(planted: list[str]) -> list[tuple[str, str]]:
    """Search every row as text and every binary column as bytes."""
    found = []
    with connection.cursor() as cursor:
        for table in connection.introspection.table_names(cursor):
            cursor.execute(f'SELECT t::text FROM "{table}" t')
            text = "\n".join(row[0] for row in cursor.fetchall())
            found += [(table, value) for value in planted if value in text or value.encode().hex() in text]
    return found
