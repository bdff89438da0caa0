"""What should be destroyed by now is seen by purchaser, auditor and command, and audited once (R-22)."""

from __future__ import annotations

import datetime as dt
import io
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.urls import reverse
from django.utils import timezone

from orders.choices import PackageStatus, RecordStatus
from orders.models import CardholderRecord, Package
from portal.choices import OrganisationKind, Role
from portal.models import AuditEntry, Organisation, PendingRemoval, User
from production.models import Batch, DestructionAlarm, DestructionCertificate, ReturnFile
from production.selectors.overdue import destruction_light, overdue
from production.services.destruction import destroy_batch
from production.services.destruction_alarms import update_alarms
from tests.api import ROOT, client_of
from tests.portal.desk import make_person, sign_in
from tests.production.light import light_signed
from tests.production.world import World, build_world

HOUR, DAY = dt.timedelta(hours=1), dt.timedelta(days=1)


@pytest.fixture
def world(db: None) -> World:
    made = build_world()
    Package.objects.update(status=PackageStatus.VALIDATED)
    return made


@pytest.fixture
def signed(world: World) -> Batch:
    bank = User.objects.create(username="bank", organisation=world.bank, roles=[Role.BANK_CLERK])
    batch = light_signed(world, 2, bank)
    ReturnFile.objects.create(batch=batch, stored_name="r", card_count=2, failed_count=0, digest=bytes(32))
    return batch


def auditor(world: World) -> User:
    organisation = world.clerk.organisation
    assert organisation is not None
    return make_person(Role.AUDITOR, organisation, "auditor")


def raised() -> list[tuple[str, str, int]]:
    alarms = DestructionAlarm.objects.filter(cleared_at=None).order_by("pk")
    return list(alarms.values_list("kind", "subject", "count"))


class TestLights:
    def test_amber_at_once_red_after_a_day(self, signed: Batch) -> None:
        """R-22: due at signing."""
        assert signed.signed_at is not None
        lights = [destruction_light(signed, signed.signed_at + pause) for pause in (HOUR, DAY, DAY + HOUR)]
        assert lights == ["amber", "amber", "red"]
        assert destruction_light(Batch(status="dispatched")) == ""
        assert overdue(signed.signed_at + DAY) == []


class TestKinds:
    def test_a_signed_batch(self, signed: Batch) -> None:
        assert signed.signed_at is not None
        (late,) = overdue(signed.signed_at + DAY + HOUR)
        assert (late.kind, late.subject, late.count, late.due_at) == (
            "batch", signed.number, 2, signed.signed_at,
        )  # fmt: skip

    def test_a_destruction_that_does_not_end(self, world: World, signed: Batch) -> None:
        """R-22: the rest of the package was never sealed anew, so the old keys are still there."""
        world.order(1)
        destroy_batch(signed, actor=world.clerk)
        found = overdue(timezone.now() + DAY + HOUR)
        assert [(late.kind, late.subject, late.count) for late in found] == [
            ("certificate", f"XH-{signed.number}", 2),
            ("removal", "待清除的密钥与文件", PendingRemoval.objects.count()),
        ]
        DestructionCertificate.objects.update(signature=b"x")
        PendingRemoval.objects.all().delete()
        assert overdue(timezone.now() + DAY + HOUR) == []

    @pytest.mark.parametrize(
        ("status", "late"),
        [
            (RecordStatus.RETURNED, True), (RecordStatus.ACCEPTED, True), (RecordStatus.MATCHED, True),
            (RecordStatus.SUPERSEDED, True), (RecordStatus.CANCELLED, True), (RecordStatus.ORDERED, False),
        ],
    )  # fmt: skip
    def test_records_that_found_no_account_or_order(
        self, world: World, settings: Any, status: str, late: bool
    ) -> None:
        """R-22: kept for a purpose, and only as long as it may still come."""
        settings.RECORD_RETENTION_DAYS = 30
        world.order(3)
        CardholderRecord.objects.update(status=status)
        assert overdue(timezone.now() + 29 * DAY) == []
        found = overdue(timezone.now() + 31 * DAY)
        assert [(each.kind, each.subject, each.count) for each in found] == [("package", "P-1", 3)] * late


class TestAlarms:
    def test_raised_once_and_cleared_once(self, world: World, signed: Batch) -> None:
        """R-22: each is one event, however often somebody looks."""
        assert signed.signed_at is not None
        now = signed.signed_at + DAY + HOUR
        assert update_alarms(signed.signed_at + HOUR) == []
        for _ in range(3):
            assert len(update_alarms(now)) == 1
        assert raised() == [("batch", signed.number, 2)]
        destroy_batch(signed, actor=world.clerk)
        DestructionCertificate.objects.update(signature=b"x")
        PendingRemoval.objects.all().delete()
        assert update_alarms(now) == update_alarms(now) == []
        events = AuditEntry.objects.filter(action__startswith="destructionalarm.").order_by("position")
        assert list(events.values_list("action", "actor_name")) == [
            ("destructionalarm.raised", "system"),
            ("destructionalarm.cleared", "system"),
        ]

    def test_it_comes_again_when_it_is_so_again(self, signed: Batch) -> None:
        assert signed.signed_at is not None
        now = signed.signed_at + DAY + HOUR
        update_alarms(now)
        update_alarms(signed.signed_at)
        update_alarms(now)
        assert DestructionAlarm.objects.count() == 2
        assert raised() == [("batch", signed.number, 2)]


class TestWhoSees:
    @pytest.mark.parametrize("name", ["clerk", "approver", "auditor"])
    def test_the_start_page(self, world: World, signed: Batch, name: str) -> None:
        """R-22: purchaser and auditor."""
        assert signed.signed_at is not None
        update_alarms(signed.signed_at + DAY + HOUR)
        user = auditor(world) if name == "auditor" else getattr(world, name)
        desk = sign_in(user)
        assert "个人数据超过期限仍未销毁" in desk.get(reverse("admin:index")).content.decode()
        listed = desk.get(
            reverse("admin:production_destructionalarm_changelist"), {"cleared_at__isempty": "1"}
        )
        assert signed.number in listed.content.decode()

    def test_the_api(self, world: World, signed: Batch) -> None:
        assert signed.signed_at is not None
        update_alarms(signed.signed_at + DAY + HOUR)
        (row,) = client_of(world.clerk).get(f"{ROOT}/destruction-alarms").json()["results"]
        assert (row["kind"], row["subject"], row["cleared_at"]) == ("batch", signed.number, None)

    @pytest.mark.parametrize("name", ["planner", "keeper"])
    def test_not_the_supplier(self, world: World, signed: Batch, name: str) -> None:
        page = sign_in(getattr(world, name)).get(reverse("admin:production_destructionalarm_changelist"))
        assert page.status_code == 403

    def test_not_another_organisations_auditor(self, world: World, signed: Batch) -> None:
        assert signed.signed_at is not None
        update_alarms(signed.signed_at + DAY + HOUR)
        bank = Organisation.objects.filter(kind=OrganisationKind.BANK).earliest("pk")
        stranger = make_person(Role.AUDITOR, bank, "stranger")
        assert not DestructionAlarm.objects.visible_to(stranger).exists()


class TestCheck:
    def test_nothing_overdue(self, signed: Batch) -> None:
        out = io.StringIO()
        call_command("destroy_due", check=True, stdout=out)
        assert out.getvalue() == "没有逾期\n"

    def test_something_overdue_ends_with_an_error_and_changes_nothing_else(self, signed: Batch) -> None:
        """R-22: exit code 1, for whoever watches the machine."""
        Batch.objects.update(signed_at=timezone.now() - 3 * DAY)
        out = io.StringIO()
        with pytest.raises(CommandError, match="1 项逾期"):
            call_command("destroy_due", check=True, stdout=out)
        assert out.getvalue() == f"已签收批次未销毁  {signed.number}  2  逾期 3 天\n"
        assert raised() == [("batch", signed.number, 2)]
        signed.refresh_from_db()
        assert signed.status == "signed"
