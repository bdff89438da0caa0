"""Intake from the sealed file to records: every row accepted or returned, and nothing in clear (R-8, R-9)."""

from __future__ import annotations

from django.core.files.storage import default_storage

from orders.choices import PackageStatus, RecordStatus
from orders.models import CardholderRecord, IntakeChunk, PackagePhoto
from orders.personal import open_name, open_number, open_personal, open_problems, read_photo
from portal.audit import verify_chain
from portal.samples.faults import FAULTS
from portal.samples.people import people
from portal.samples.photos import PhotoBook
from tests.orders.intake.world import World, actions
from portal.samples.banks import BANKS
from portal.core import clock


def test_a_flawless_package_becomes_accepted_records(world: World) -> None:
    """R-8: what the sender sealed is what the records hold, column by column, photo by photo."""
    package = world.take_in(12)
    assert package.status == PackageStatus.VALIDATED
    assert (package.record_count, package.accepted_count, package.returned_count) == (12, 12, 0)
    records = CardholderRecord.objects.select_related("package", "bank", "delivery_point").order_by("row_number")
    book = PhotoBook(1)
    for person, record in zip(people(12, 1, BANKS, issue_date=clock.today()), records, strict=True):
        assert record.status == RecordStatus.ACCEPTED
        assert (open_number(record), open_name(record)) == (person.number, person.name)
        assert (record.bank.code, record.delivery_point.code) == (person.bank_code, person.branch)
        assert read_photo(record) == book.photo(person.index)
        personal = open_personal(record)
        assert (personal.sex, personal.card_number) == (person.sex, person.card_number)
        assert f"{personal.birth_on:%Y%m%d}" == person.birth_date
    assert not IntakeChunk.objects.exists()
    assert PackagePhoto.objects.count() == 12
    assert actions() == ["package.received", "package.validating", "package.validated"]
    assert verify_chain() == (3, None)


def test_every_fault_is_returned_with_its_field_and_the_rest_goes_on(world: World) -> None:
    """R-9: in = accepted + returned, and each of the sample faults is found at its row."""
    count = len(FAULTS) * 2
    inner, report = world.inner(count, fault_rate=0.5)
    from portal.samples.hostile import sealed

    package = world.receive(sealed(inner, world.parties()))
    from tests.orders.intake.world import run_tasks

    run_tasks()
    package.refresh_from_db()
    assert package.record_count == count
    assert package.returned_count == len(report.bad)
    assert package.accepted_count == count - len(report.bad)
    returned = CardholderRecord.objects.filter(status="returned").select_related("package")
    found = {record.row_number: open_problems(record) for record in returned}
    assert sorted(found) == sorted(bad.seq for bad in report.bad)
    for bad in report.bad:
        assert {problem.field for problem in found[bad.seq]} & set(bad.fields), bad.fault


def test_nothing_personal_stands_in_clear(world: World) -> None:
    """R-45: neither the stored file nor any column of any table shows a number or a name."""
    package = world.take_in(3)
    planted = [person.number for person in people(3, 1, BANKS, issue_date=clock.today())]
    with default_storage.open(package.stored_name) as stored:
        content = stored.read()
    assert not any(number.encode() in content for number in planted)
