"""Early destruction by two people: a package, a person who withdraws, and what is refused (R-22, §3)."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import IntegrityError, transaction
from django.urls import reverse
from django.utils import timezone

from orders.choices import PackageStatus, RecordStatus
from orders.models import CardholderRecord, Package
from orders.personal import open_number
from orders.services.refusals import ReasonMissingError
from portal.choices import Role
from portal.core.errors import PermissionRefusedError, SamePersonError, TransitionRefusedError
from portal.files import keystore
from portal.models import AuditEntry, User
from production.models import DestructionCertificate, DestructionRequest
from production.services.destruction_requests import (
    DestructionRequestedError,
    InProductionError,
    NothingToDestroyError,
    ReasonNumberError,
    decide_early_destruction,
    find_subject,
    request_early_destruction,
)
from tests.api import ROOT, client_of
from tests.portal.desk import sign_in
from tests.production.chain import settle_destruction
from tests.production.world import World, build_world
from tests.refusals import everything, refused

REASON = "参保人要求停办"


@pytest.fixture
def world(db: None) -> World:
    made = build_world()
    Package.objects.update(status=PackageStatus.VALIDATED)
    return made


def unordered(world: World, count: int = 3) -> Package:
    """Bring records to where no order has taken them up."""
    world.order(count)
    CardholderRecord.objects.update(status=RecordStatus.MATCHED, order=None)
    return Package.objects.get()


def both(world: World) -> User:
    """Return somebody who may ask and decide."""
    roles = [Role.PURCHASER_CLERK, Role.PURCHASER_APPROVER]
    return User.objects.create(username="both", organisation=world.clerk.organisation, roles=roles)


class TestPackage:
    def test_two_people_destroy_a_package_nobody_made_cards_of(self, world: World, committed: Any) -> None:
        """R-22: records, keys and all; a certificate with both names."""
        package = unordered(world)
        key, dumped = package.key_id, list(CardholderRecord.objects.select_related("package"))
        request = request_early_destruction(package, reason=REASON, actor=world.clerk)
        assert (request.status, request.row_number) == ("requested", None)
        with committed():
            decided = decide_early_destruction(request, approve=True, actor=world.approver)
        assert (decided.status, decided.record_count, decided.decided_by) == ("approved", 3, world.approver)
        assert not CardholderRecord.objects.exists()
        assert Package.objects.get().status == PackageStatus.DESTROYED
        assert not keystore().exists(key)
        for record in dumped:
            with pytest.raises(Exception, match="销毁"):
                open_number(record)
        settle_destruction(committed)
        paper = DestructionCertificate.objects.get()
        assert paper.signature
        assert paper.number == f"XH-P-1-T{request.pk}"
        assert paper.content["signers"] == [["销毁申请", "clerk"], ["销毁复核", "approver"]]
        assert paper.content["keys"] == [key]
        events = AuditEntry.objects.filter(object_type="production.destructionrequest")
        assert list(events.order_by("position").values_list("action", "actor_name")) == [
            ("destructionrequest.requested", "clerk"),
            ("destructionrequest.approved", "approver"),
        ]

    def test_a_refusal_destroys_nothing(self, world: World) -> None:
        package = unordered(world)
        request = request_early_destruction(package, reason=REASON, actor=world.clerk)
        decide_early_destruction(request, approve=False, actor=world.approver)
        assert CardholderRecord.objects.count() == 3
        with refused(TransitionRefusedError):
            decide_early_destruction(request, approve=True, actor=world.approver)
        assert request_early_destruction(package, reason=REASON, actor=world.clerk).pk != request.pk

    def test_what_is_in_production_is_named_and_stays(self, world: World) -> None:
        """R-22: those cards will be signed for, and their data destroyed then."""
        package, batch = Package.objects.get(), world.released(2)
        order = world.order(1)
        with refused(InProductionError) as caught:
            request_early_destruction(package, reason=REASON, actor=world.clerk)
        assert caught.value.code == "records_in_production"
        assert caught.value.where == f"批次 {batch.number}、订单 {order.number}"

    def test_what_was_taken_up_meanwhile_stays(self, world: World) -> None:
        """R-22: between asking and deciding an order was placed."""
        package = unordered(world, 2)
        request = request_early_destruction(package, reason=REASON, actor=world.clerk)
        order = world.order(1)
        with refused(InProductionError) as caught:
            decide_early_destruction(request, approve=True, actor=world.approver)
        assert caught.value.where == f"订单 {order.number}"

    @pytest.mark.parametrize("status", [s for s in PackageStatus if s != PackageStatus.VALIDATED])
    def test_only_a_checked_package(self, world: World, status: str) -> None:
        package = unordered(world)
        Package.objects.update(status=status, record_count=3, accepted_count=3, returned_count=0)
        with refused(TransitionRefusedError):
            request_early_destruction(package, reason=REASON, actor=world.clerk)

    def test_an_empty_one_has_nothing(self, world: World) -> None:
        with refused(NothingToDestroyError):
            request_early_destruction(Package.objects.get(), reason=REASON, actor=world.clerk)


class TestTwoPeople:
    def test_the_same_person_is_refused_by_the_service(self, world: World) -> None:
        """§3."""
        person = both(world)
        request = request_early_destruction(unordered(world), reason=REASON, actor=person)
        for approve in (True, False):
            with refused(SamePersonError, audited=["second_person.refused"]):
                decide_early_destruction(request, approve=approve, actor=person)

    def test_the_same_person_is_refused_by_the_database(self, world: World) -> None:
        request = request_early_destruction(unordered(world), reason=REASON, actor=world.clerk)
        with pytest.raises(IntegrityError, match="two_people"), transaction.atomic():
            DestructionRequest.objects.filter(pk=request.pk).update(
                status="approved", decided_by=world.clerk, decided_at=timezone.now()
            )

    @pytest.mark.parametrize(
        "written",
        [
            {"status": "approved"},
            {"status": "refused"},
            {"status": "approved", "decided_at": "2026-07-01T00:00:00Z"},
            {"decided_at": "2026-07-01T00:00:00Z"},
        ],
        ids=[
            "approved by nobody",
            "refused by nobody",
            "a moment without a person",
            "decided and still open",
        ],
    )
    def test_nobody_decides_by_sql(self, world: World, written: dict[str, Any]) -> None:
        """R-22, §3: the database itself wants the second person of a decided request."""
        request = request_early_destruction(unordered(world), reason=REASON, actor=world.clerk)
        before = everything()
        with pytest.raises(IntegrityError, match="destruction_request_decided"), transaction.atomic():
            DestructionRequest.objects.filter(pk=request.pk).update(**written)
        assert everything() == before

    def test_the_same_person_is_refused_by_the_pages(self, world: World) -> None:
        person = both(world)
        request = request_early_destruction(unordered(world), reason=REASON, actor=person)
        desk = sign_in(person)
        for name in ("approve", "refuse"):
            page = reverse(f"admin:production_destructionrequest_{name}", args=[request.pk])
            before = everything()
            assert desk.post(page).status_code == HTTPStatus.CONFLICT
            assert everything() == before

    def test_the_same_person_is_refused_by_the_api(self, world: World) -> None:
        person = both(world)
        unordered(world)
        client = client_of(person)
        made = client.post(
            f"{ROOT}/destruction-requests", {"package": "P-1", "reason": REASON}, format="json"
        )
        assert made.status_code == HTTPStatus.CREATED, made.content
        address = f"{ROOT}/destruction-requests/{made.json()['id']}/decide"
        answer = client.post(address, {"approve": True}, format="json")
        assert (answer.status_code, answer.json()["code"]) == (HTTPStatus.UNPROCESSABLE_ENTITY, "same_person")
        assert CardholderRecord.objects.count() == 3

    def test_the_same_person_is_refused_by_the_command(self, world: World) -> None:
        both(world)
        unordered(world)
        call_command("early_destruction", "request", "P-1", reason=REASON, user="both")
        number = str(DestructionRequest.objects.get().pk)
        with pytest.raises(CommandError, match="same_person"):
            call_command("early_destruction", "decide", number, "--approve", "--user", "both")
        assert CardholderRecord.objects.count() == 3


class TestRefusals:
    @pytest.mark.parametrize("name", ["operator", "planner", "keeper", "quality"])
    def test_others_may_not_ask(self, world: World, name: str) -> None:
        package = unordered(world)
        with refused(PermissionRefusedError):
            request_early_destruction(package, reason=REASON, actor=getattr(world, name))

    def test_the_clerk_may_not_decide(self, world: World) -> None:
        request = request_early_destruction(unordered(world), reason=REASON, actor=world.approver)
        with refused(PermissionRefusedError):
            decide_early_destruction(request, approve=True, actor=world.clerk)

    @pytest.mark.parametrize("reason", ["", "  "])
    def test_a_reason_is_needed(self, world: World, reason: str) -> None:
        package = unordered(world)
        with refused(ReasonMissingError):
            request_early_destruction(package, reason=reason, actor=world.clerk)

    @pytest.mark.parametrize("reason", ["440600199001011234 停办", "卡号62220200"])
    def test_a_reason_that_quotes_a_number_would_outlive_it(self, world: World, reason: str) -> None:
        """R-45: requests, audit and certificate stay."""
        package = unordered(world)
        with refused(ReasonNumberError):
            request_early_destruction(package, reason=reason, actor=world.clerk)

    def test_one_request_at_a_time(self, world: World) -> None:
        package = unordered(world)
        request_early_destruction(package, reason=REASON, actor=world.clerk)
        with refused(DestructionRequestedError):
            request_early_destruction(package, reason=REASON, actor=world.approver)
        request_early_destruction(CardholderRecord.objects.earliest("pk"), reason=REASON, actor=world.clerk)

    @pytest.mark.parametrize(("number", "row"), [("P-2", None), ("P-1", 7)])
    def test_what_is_not_there_cannot_be_named(self, world: World, number: str, row: int | None) -> None:
        with refused(NothingToDestroyError):
            find_subject(number, row, actor=world.clerk)


class TestPages:
    def test_asked_and_decided_in_the_browser(self, world: World, committed: Any) -> None:
        """R-22: the clerk asks, the approver sees what is to be decided and the certificate."""
        unordered(world)
        page = reverse("admin:production_destructionrequest_ask")
        answer = sign_in(world.clerk).post(page, {"package": "P-1", "row_number": "", "reason": REASON})
        assert answer.status_code == HTTPStatus.FOUND
        request = DestructionRequest.objects.get()
        desk = sign_in(world.approver)
        shown = desk.get(reverse("admin:production_destructionrequest_change", args=[request.pk]))
        assert "同意销毁" in shown.content.decode()
        with committed():
            desk.post(reverse("admin:production_destructionrequest_approve", args=[request.pk]))
        settle_destruction(committed)
        paper = DestructionCertificate.objects.get()
        shown = desk.get(reverse("admin:production_destructioncertificate_change", args=[paper.pk]))
        text = shown.content.decode()
        assert "销毁复核" in text
        assert "approver" in text
        pdf = desk.get(reverse("admin:production_destructioncertificate_pdf", args=[paper.pk]))
        assert b"".join(pdf.streaming_content).startswith(b"%PDF")  # type: ignore[attr-defined]

    def test_the_commands_of_two_people(self, world: World, capsys: Any) -> None:
        unordered(world)
        call_command("early_destruction", "request", "P-1", row=10_000, reason=REASON, user="clerk")
        number = str(DestructionRequest.objects.get().pk)
        call_command("early_destruction", "decide", number, "--approve", "--user", "approver")
        said = capsys.readouterr().out
        assert said == f"已提出申请 {number}，须由另一人复核\n已销毁 1 条记录\n"
        with pytest.raises(CommandError, match="没有这个用户"):
            call_command("early_destruction", "decide", number, "--refuse", "--user", "system")
