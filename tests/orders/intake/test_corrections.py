"""Correcting returned records, listing them, and looking at one unmasked (R-9, R-45)."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from openpyxl import load_workbook

from orders.choices import RecordStatus
from orders.models import CardholderRecord, Package
from orders.personal import open_name, open_number, open_source, read_photo
from orders.services.drafts import load_rules
from orders.services.records import correct_record, return_list, unmask_record
from orders.services.refusals import (
    AlreadyInProductionError,
    ColumnUnknownError,
    CorrectionRefusedError,
    NothingChangedError,
    ReasonMissingError,
)
from portal.core import clock
from portal.core.errors import InputRefusedError, PermissionRefusedError, PortalError, TransitionRefusedError
from portal.models import AuditEntry, Organisation, User
from portal.samples.banks import BANKS
from portal.samples.hostile import honest_members
from portal.samples.package import SampleOrder
from portal.samples.people import people
from portal.samples.photos import PhotoBook
from tests.orders.intake.world import World, actions, run_tasks

PEOPLE = list(people(4, 1, BANKS, issue_date=clock.today()))


def receive_spoiled(
    world: World, column: str, old: str, new: str, *, drop_photo: str = ""
) -> CardholderRecord:
    """Take in three people of whom one is wrong in one cell; return that one's record."""
    members = honest_members(SampleOrder(3, fault_rate=0, issue_date=clock.today()), world.head())
    members["records.csv"] = members["records.csv"].replace(old.encode(), new.encode())
    if drop_photo:
        del members[f"photos/{drop_photo}.jpg"]
        members["manifest.json"] = members["manifest.json"].replace(b'"photo_count": 3', b'"photo_count": 2')
    world.receive(world.container_of(members))
    run_tasks()
    return CardholderRecord.objects.select_related("package").get(status=RecordStatus.RETURNED)


@pytest.fixture
def returned(world: World) -> CardholderRecord:
    """The second person's card number is wrong."""
    return receive_spoiled(world, "AAZ500", PEOPLE[1].card_number, "F-123")


def snapshot() -> tuple[Any, ...]:
    rows = CardholderRecord.objects.order_by("pk").values_list("pk", "version", "status")
    counts = Package.objects.values_list("accepted_count", "returned_count").get()
    folder = Path(settings.FILES_DIR)
    return list(rows), counts, actions(), sorted(path.name for path in folder.rglob("*") if path.is_file())


class TestCorrectRecord:
    def test_a_correction_is_the_next_version(self, world: World, returned: CardholderRecord) -> None:
        """R-9: the old version stays, superseded; counts balance; the event names fields, not values."""
        changes = {"AAZ500": PEOPLE[1].card_number}
        new = correct_record(returned, changes=changes, actor=world.clerk, reason=" 来函更正 ")
        returned.refresh_from_db()
        assert (returned.status, new.status, new.version) == (
            RecordStatus.SUPERSEDED,
            RecordStatus.ACCEPTED,
            2,
        )
        assert (open_number(new), open_name(new)) == (PEOPLE[1].number, PEOPLE[1].name)
        assert read_photo(new) == PhotoBook(1).photo(1)
        assert new.corrected_by == world.clerk
        assert Package.objects.values_list("record_count", "accepted_count", "returned_count").get() == (
            3,
            3,
            0,
        )
        assert actions()[-2:] == ["cardholderrecord.superseded", "record.corrected"]
        details = AuditEntry.objects.latest("position").details
        person = bytes(CardholderRecord.objects.latest("pk").number_index).hex()
        assert details == {"reason": "来函更正", "fields": ["AAZ500"], "version": 2, "person": person}

    def test_the_same_record_is_corrected_once(self, world: World, returned: CardholderRecord) -> None:
        changes = {"AAZ500": PEOPLE[1].card_number}
        correct_record(returned, changes=changes, actor=world.clerk, reason="更正")
        before = snapshot()
        with pytest.raises(TransitionRefusedError):
            correct_record(returned, changes=changes, actor=world.clerk, reason="更正")
        assert snapshot() == before

    @pytest.mark.parametrize(
        ("changes", "photo", "reason", "kind"),
        [
            ({"AAZ500": "F-124"}, None, "更正", CorrectionRefusedError),
            ({"AAZ500": PEOPLE[1].card_number}, b"no photo", "更正", CorrectionRefusedError),
            ({"AAZ500": PEOPLE[0].card_number}, None, "更正", AlreadyInProductionError),
            ({"AAZ500": PEOPLE[1].card_number}, None, "  ", ReasonMissingError),
            ({"AAZ500": "F-123"}, None, "更正", NothingChangedError),
            ({"status": "accepted"}, None, "更正", ColumnUnknownError),
        ],
    )
    def test_a_refused_correction_changes_nothing(
        self,
        world: World,
        returned: CardholderRecord,
        changes: dict[str, str],
        photo: bytes | None,
        reason: str,
        kind: type[PortalError],
    ) -> None:
        before = snapshot()
        with pytest.raises(kind):
            correct_record(returned, changes=changes, photo=photo, actor=world.clerk, reason=reason)
        assert snapshot() == before

    def test_what_is_still_wrong_is_named_without_the_value(
        self, world: World, returned: CardholderRecord
    ) -> None:
        """R-45: the message goes to screens and logs, so it repeats no cell."""
        with pytest.raises(CorrectionRefusedError) as caught:
            correct_record(returned, changes={"AAC002": "440601"}, actor=world.clerk, reason="更正")
        assert [problem.field for problem in caught.value.problems] == ["AAC002", "AAZ500"]
        assert "440601" not in str(caught.value)
        assert "F-123" not in str(caught.value)

    def test_a_new_photo_is_sealed_beside_the_package(self, world: World) -> None:
        record = receive_spoiled(world, "", "no such text", "", drop_photo=PEOPLE[0].number)
        assert record.problem_codes == ["photo_missing"]
        photo = PhotoBook(1).photo(3)
        new = correct_record(record, changes={}, photo=photo, actor=world.clerk, reason="补照片")
        assert new.photo_name == f"packages/{new.package_id}/photos/{new.pk}.bin"
        assert read_photo(new) == photo
        assert photo[100:200] not in (Path(settings.FILES_DIR) / new.photo_name).read_bytes()

    def test_a_corrected_number_keeps_the_photo_that_bore_the_wrong_one(self, world: World) -> None:
        wrong = PEOPLE[1].number[:-1] + ("0" if PEOPLE[1].number[-1] != "0" else "1")
        members = honest_members(SampleOrder(3, fault_rate=0, issue_date=clock.today()), world.head())
        members["records.csv"] = members["records.csv"].replace(PEOPLE[1].number.encode(), wrong.encode())
        photo = members.pop(f"photos/{PEOPLE[1].number}.jpg")
        world.receive(world.container_of({f"photos/{wrong}.jpg": photo, **members}))
        run_tasks()
        record = CardholderRecord.objects.select_related("package").get(status=RecordStatus.RETURNED)
        new = correct_record(record, changes={"AAC002": PEOPLE[1].number}, actor=world.clerk, reason="校验码")
        assert (open_number(new), read_photo(new)) == (PEOPLE[1].number, photo)

    def test_another_banks_clerk_corrects_nothing(self, world: World, returned: CardholderRecord) -> None:
        bank = Organisation.objects.get(code="ICBC")
        stranger = User.objects.create(username="b", organisation=bank, roles=["purchaser_clerk"])
        before = snapshot()
        hidden = CardholderRecord.objects.select_related("package").get(pk=returned.pk)
        CardholderRecord.objects.filter(pk=returned.pk).update(bank=Organisation.objects.get(code="ABC"))
        with pytest.raises(PermissionRefusedError):
            correct_record(hidden, changes={"AAZ500": "F12345678"}, actor=stranger, reason="更正")
        assert snapshot() == before


class TestReturnList:
    def test_row_field_expected_and_got_as_text(self, world: World) -> None:
        """R-9: one line for each problem; a formula in a name stays text."""
        formula = '=HYPERLINK("http://example.invalid/")'
        quoted = '"' + formula.replace('"', '""') + '"'
        record = receive_spoiled(world, "AAC003", f",{PEOPLE[1].name},", f",{quoted},")
        target = io.BytesIO()
        assert return_list(record.package, target, actor=world.clerk) == 1
        sheet = load_workbook(target).worksheets[0]
        lines = [[cell.value for cell in row] for row in sheet.iter_rows()]
        line = next(line for line in lines if line[0] == "2")
        number = PEOPLE[1].number
        assert line[1] == f"{number[:4]}{'*' * (len(number) - 8)}{number[-4:]}"
        assert line[3:6] == ["姓名", "AAC003", record.problem_codes[0]]
        assert formula[:20] in line[7]
        assert {cell.data_type for row in sheet.iter_rows() for cell in row} <= {"s", "n", "inlineStr"}
        event = AuditEntry.objects.latest("position")
        assert (event.action, event.details) == ("package.returns_exported", {"records": 1, "lines": 1})

    def test_a_package_without_returns_gives_an_empty_list(self, world: World) -> None:
        assert return_list(world.take_in(2), io.BytesIO(), actor=world.clerk) == 0

    def test_only_who_may_export(self, world: World) -> None:
        package = world.take_in(2)
        auditor = User.objects.create(username="a", organisation=world.purchaser, roles=["auditor"])
        before = actions()
        target = io.BytesIO()
        with pytest.raises(PermissionRefusedError):
            return_list(package, target, actor=auditor)
        assert (actions(), target.getvalue()) == (before, b"")


class TestUnmask:
    def test_a_look_needs_a_reason_and_is_an_event_without_the_person(self, world: World) -> None:
        """R-45: the audit holds the blind index only, so it survives the destruction of the person's data."""
        package = world.take_in(1)
        record = CardholderRecord.objects.select_related("package").get(package=package)
        shown = unmask_record(record, actor=world.clerk, reason="银行来电核对")
        assert (shown.number, shown.name, shown.account) == (PEOPLE[0].number, PEOPLE[0].name, "")
        assert PEOPLE[0].number not in repr(shown)
        event = AuditEntry.objects.latest("position")
        person = bytes(record.number_index).hex()
        assert (event.action, event.details) == (
            "record.unmasked",
            {"reason": "银行来电核对", "person": person},
        )

    def test_without_reason_or_permission_nothing_is_shown(self, world: World) -> None:
        record = CardholderRecord.objects.select_related("package").get(package=world.take_in(1))
        auditor = User.objects.create(username="a", organisation=world.purchaser, roles=["auditor"])
        before = actions()
        for actor, reason, kind in (
            (world.clerk, " ", InputRefusedError),
            (auditor, "想看", PermissionRefusedError),
        ):
            with pytest.raises(kind):
                unmask_record(record, actor=actor, reason=reason)
        assert actions() == before


def test_the_source_of_a_returned_row_is_kept_as_received(world: World, returned: CardholderRecord) -> None:
    source = open_source(returned)
    assert (source["AAZ500"], source["AAC003"]) == ("F-123", PEOPLE[1].name)
    assert load_rules().bank_codes[source["AAE008"]] == returned.bank_id
