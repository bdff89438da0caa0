"""Destroying rejected cards: by two people, booked in the ledger, kept as a record (R-21)."""

from __future__ import annotations

import io
from dataclasses import asdict
from typing import Any

import pytest
from django.db import DatabaseError, IntegrityError, transaction
from openpyxl import load_workbook

from orders.models import Contract
from portal.choices import Role
from portal.core.clock import today
from portal.core.errors import ConflictError, PermissionRefusedError, SamePersonError, TransitionRefusedError
from portal.models import User
from production.choices import LocationKind
from production.models import Batch, Card, CardDestruction, StockMovement
from production.selectors.stock import location_balance
from production.services.closing import close_batch, ledger_counts, totals
from production.services.waste import (
    DestructionRefusedError,
    decide_card_destruction,
    destruction_record,
    request_card_destruction,
)
from tests.api import ROOT, actions, client_of, code_of, ids, problem
from tests.portal.desk import page, said, sign_in, text
from tests.production.light import light_inspected
from tests.production.world import World, build_world
from tests.refusals import refused

URL = f"{ROOT}/card-destructions"
MODEL = "production.carddestruction"
HOW = {"method": "shredded", "place": "佛山废料间"}


@pytest.fixture
def world(db: None) -> World:
    return build_world()


def spoiled(world: World, count: int = 2) -> list[str]:
    """Return the serials of rejected cards that were counted into the spoiled store."""
    batch = light_inspected(world, 3, rejected=count)
    close_batch(batch, **asdict(totals(ledger_counts(batch))), actor=world.operator)
    return serials(batch)


def serials(batch: Batch) -> list[str]:
    found = Card.objects.filter(batch=batch, outcome="rejected").order_by("serial")
    return list(found.values_list("serial", flat=True))


def ask(world: World, **changes: Any) -> CardDestruction:
    return request_card_destruction(world.contract, **{**HOW, "actor": world.keeper, **changes})


def balances(world: World) -> tuple[int, int]:
    places = (LocationKind.SPOILED, LocationKind.DESTROYED)
    spoiled_count, destroyed = (location_balance(world.contract.pk, place) for place in places)
    return spoiled_count, destroyed


class TestRequest:
    def test_all_that_wait(self, world: World) -> None:
        """R-21: rejected cards of balanced batches; nothing moves before the second person."""
        wanted = spoiled(world) + spoiled(world, 1)
        destruction = ask(world)
        assert (destruction.serials, destruction.card_count) == (sorted(wanted), 3)
        assert destruction.number == f"HT-1-XH{today():%Y%m%d}-001"
        assert balances(world) == (3, 0)
        assert actions()[-1] == "carddestruction.requested"

    def test_by_serial_as_scanned(self, world: World) -> None:
        first, second = spoiled(world)
        destruction = ask(world, serials=[f" {second.lower()} ", second, ""])
        assert destruction.serials == [second]
        assert ask(world).serials == [first]

    def test_cards_on_the_floor_still_count_there(self, world: World) -> None:
        batch = light_inspected(world, 3, rejected=1)
        with refused(DestructionRefusedError):
            ask(world, serials=serials(batch))
        with refused(DestructionRefusedError):
            ask(world)

    @pytest.mark.parametrize("kind", ["good", "nobody", "foreign"])
    def test_other_cards_are_refused_alike(self, world: World, kind: str) -> None:
        """R-45: another supplier's serial is refused in the words of one that does not exist."""
        spoiled(world)
        serial = {
            "good": Card.objects.filter(outcome="good").latest("pk").serial,
            "nobody": "FS26Z0000000001",
            "foreign": spoiled(world)[0],
        }[kind]
        if kind == "foreign":
            batch = Card.objects.get(serial=serial).batch
            other = Contract.objects.create(
                number="HT-2", lot=2, supplier=world.other_planner.organisation, quantity_cap=10,
                budget=90, finished_price=9, face_fee=1, signed_on=today(),
            )  # fmt: skip
            type(batch.order).objects.filter(pk=batch.order_id).update(contract=other)
        with refused(DestructionRefusedError) as caught:
            ask(world, serials=[serial])
        assert str(caught.value) == f"不是废卡库中待销毁的卡；位置：{serial}；实为：1"

    def test_a_card_waits_in_one_request_only(self, world: World) -> None:
        first, _ = spoiled(world)
        ask(world, serials=[first])
        with refused(DestructionRefusedError) as caught:
            ask(world, serials=[first])
        assert caught.value.where == first

    @pytest.mark.parametrize("changes", [{"place": " "}, {"method": "eaten"}, {"serials": []}])
    def test_what_is_missing_is_refused(self, world: World, changes: dict[str, Any]) -> None:
        spoiled(world)
        with refused(DestructionRefusedError):
            ask(world, **changes)

    def test_only_keepers_of_the_contract(self, world: World) -> None:
        spoiled(world)
        stranger = User.objects.create(
            username="k", organisation=world.other_planner.organisation, roles=[Role.WAREHOUSE_KEEPER]
        )
        for actor in (world.operator, world.clerk, stranger):
            with refused(PermissionRefusedError):
                ask(world, actor=actor)


class TestDecision:
    def test_the_witness_books_the_cards_out(self, world: World) -> None:
        """R-21: ledger, cards and record name the same cards, both people and the day."""
        wanted = spoiled(world)
        destruction = decide_card_destruction(
            ask(world), approve=True, witnesses="采购人代表", actor=world.quality
        )
        assert (destruction.status, destruction.destroyed_on) == ("approved", today())
        assert (destruction.requested_by, destruction.decided_by) == (world.keeper, world.quality)
        assert balances(world) == (0, 2)
        movement = StockMovement.objects.get(kind="destruction")
        assert (movement.quantity, movement.note) == (2, destruction.number)
        assert (movement.requested_by, movement.approved_by) == (world.keeper, world.quality)
        assert list(destruction.cards.order_by("serial").values_list("serial", flat=True)) == wanted
        assert actions()[-2:] == ["carddestruction.approved", "stockmovement.destruction"]

    def test_refused_cards_stay_and_can_be_asked_for_again(self, world: World) -> None:
        wanted = spoiled(world)
        decide_card_destruction(ask(world), approve=False, actor=world.keeper_two)
        assert balances(world) == (2, 0)
        assert ask(world).serials == wanted

    def test_one_person_is_not_two(self, world: World) -> None:
        spoiled(world)
        destruction = ask(world)
        for approve in (True, False):
            with refused(SamePersonError, audited=["second_person.refused"]):
                decide_card_destruction(destruction, approve=approve, actor=world.keeper)
        with pytest.raises(IntegrityError, match="card_destruction_two_people"), transaction.atomic():
            CardDestruction.objects.update(status="approved", decided_by=world.keeper, destroyed_on=today())

    def test_it_is_decided_once_and_stays(self, world: World) -> None:
        spoiled(world)
        destruction = decide_card_destruction(ask(world), approve=True, actor=world.quality)
        with refused(TransitionRefusedError):
            decide_card_destruction(destruction, approve=True, actor=world.keeper_two)
        for change in (lambda: CardDestruction.objects.update(place="x"), destruction.delete):
            with pytest.raises(DatabaseError), transaction.atomic():
                change()

    def test_a_card_that_is_gone_stops_the_whole(self, world: World) -> None:
        first, second = spoiled(world)
        destruction = ask(world, serials=[first, second])
        other = CardDestruction.objects.create(
            number="x",
            contract=world.contract,
            serials=[first],
            card_count=1,
            requested_by=world.keeper,
            **HOW,
        )
        decide_card_destruction(other, approve=True, actor=world.quality)
        with refused(ConflictError):
            decide_card_destruction(destruction, approve=True, actor=world.quality)

    def test_only_rejected_cards_can_be_marked(self, world: World) -> None:
        spoiled(world)
        destruction = ask(world)
        with pytest.raises(IntegrityError, match="card_only_rejected"), transaction.atomic():
            Card.objects.filter(outcome="good").update(destruction=destruction)


def test_the_record_names_every_card(world: World) -> None:
    """R-21: the paper both sign: serials, batch, reason, method, place, day, people."""
    wanted = spoiled(world)
    destruction = decide_card_destruction(ask(world), approve=True, witnesses="王样", actor=world.quality)
    target = io.BytesIO()
    destruction_record(destruction, target, actor=world.planner)
    rows = [[cell.value for cell in row] for row in load_workbook(target).active.rows]  # type: ignore[union-attr]
    assert rows[0][0] == f"废卡销毁记录 {destruction.number}（已同意）"
    assert rows[4][0] == "申请：keeper　监销：quality　其他在场：王样"
    assert rows[5][0] == f"销毁日期：{today()}"
    assert [row[1] for row in rows[-2:]] == wanted
    assert actions()[-1] == "carddestruction.exported"


def test_in_the_admin(world: World) -> None:
    """R-21: one keeper asks, is not offered the decision, another confirms."""
    wanted = spoiled(world)
    keeper, quality = sign_in(world.keeper), sign_in(world.quality)
    form = text(keeper.get(page(MODEL, "ask")))
    assert "待销毁 2 张" in form
    values = {"contract": world.contract.pk, "serials": "\n".join(wanted), **HOW}
    assert said(keeper.post(page(MODEL, "ask"), values)).endswith("共 2 张，须由另一人监销")
    destruction = CardDestruction.objects.get()
    assert "确认已销毁" not in text(keeper.get(page(MODEL, "change", destruction.pk)))
    assert "确认已销毁" in text(quality.get(page(MODEL, "change", destruction.pk)))
    assert "待监销的废卡" in text(
        quality.get(page("production.stocklot", "changelist").split("production")[0])
    )
    answer = quality.post(page(MODEL, "approve", destruction.pk), {"witnesses": "王样"})
    assert said(answer) == "已销毁 2 张，流水已记账"
    shown = text(keeper.get(page(MODEL, "change", destruction.pk)))
    assert all(serial in shown for serial in wanted)
    card = Card.objects.get(serial=wanted[0])
    assert destruction.number in text(keeper.get(page("production.card", "change", card.pk)))
    file = keeper.get(page(MODEL, "download", destruction.pk))
    assert b"".join(file.streaming_content).startswith(b"PK")  # type: ignore[attr-defined]


def test_in_the_api(world: World) -> None:
    spoiled(world)
    keeper, quality = client_of(world.keeper), client_of(world.quality)
    asked = keeper.post(URL, {"contract": "HT-1", **HOW}, format="json")
    assert (asked.status_code, asked.json()["card_count"], asked.json()["decided_by"]) == (201, 2, None)
    assert ids(quality.get(URL, {"status": "requested"})) == [asked.json()["id"]]
    where = f"{URL}/{asked.json()['id']}"
    assert code_of(keeper.post(f"{where}/approve"), 422) == "same_person"
    done = quality.post(f"{where}/approve", {"witnesses": "王样"}, format="json")
    assert (done.json()["status"], done.json()["witnesses"]) == ("approved", "王样")
    assert code_of(quality.post(f"{where}/refuse"), 409) == "transition_refused"
    assert b"".join(keeper.get(f"{where}/record").streaming_content).startswith(b"PK")


@pytest.mark.parametrize(
    ("values", "code"),
    [
        ({"contract": "HT-9", **HOW}, "contract_unknown"),
        ({"contract": "HT-1", **HOW, "serials": ["X1"]}, "card_destruction_refused"),
        ({"contract": "HT-1", "method": "eaten", "place": "佛山"}, None),
        ({"contract": "HT-1", **HOW, "serials": "X1"}, None),
    ],
)
def test_bad_requests_of_the_api(world: World, values: dict[str, Any], code: str | None) -> None:
    spoiled(world)
    answer = client_of(world.keeper).post(URL, values, format="json")
    status = 422 if code else 400
    assert problem(answer, status)["code"] == (code or "invalid")
    assert not CardDestruction.objects.exists()
