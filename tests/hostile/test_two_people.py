"""Architecture §3: each step of two people is refused to one alone, in service, admin, API and command.

A step that is named but not in the table fails here. tests/portal/test_keys_commands.py has the key ceremony
at a terminal.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import models

from billing.models import Adjustment
from billing.services.closing import close_statement, decide_adjustment, request_adjustment
from billing.services.statements import draft_statement
from orders.choices import PackageStatus, RecordStatus
from orders.models import CardholderRecord, Contract, Package
from portal.choices import Role
from portal.core.errors import SamePersonError
from portal.models import KeyImport, User
from portal.services.keys import finish_key_import
from production.models import Card, CardDestruction, DestructionRequest, StockRequest, UnknownDecision
from production.services import stock
from production.services.cards import decide_unknown, request_unknown_decision
from production.services.closing import close_batch, ledger_counts, totals
from production.services.destruction_requests import decide_early_destruction, request_early_destruction
from production.services.planning import plan_batches
from production.services.waste import decide_card_destruction, request_card_destruction
from stations.models import EmergencyCase, Station
from stations.services.cases import decide_case, open_case
from tests.api import client_of, code_of
from tests.hostile.visibility_api import api_routes, methods, model_of
from tests.portal.desk import page, said, text
from tests.portal.key_desk import begun, second_half
from tests.production.light import light_batch, light_closed, light_inspected
from tests.production.world import World, build_world
from tests.refusals import actions, everything, refused
from tests.second_factor import verified_client
from tests.stations.counter_desk import entered

pytestmark = pytest.mark.django_db

# As the architecture names them.
NAMED = (
    "withdrawing stock",
    "adjusting stock",
    "destroying cards",
    "deciding an unknown card",
    "destroying data early",
    "importing a key",
    "correcting a closed statement",
    "emergency issue without a matched record",
)
REFUSED = "second_person.refused"
TOLD = "须由另一人办理：同一用户不能既提出又复核（same_person）"


@dataclass(frozen=True)
class Step:
    """How a person asks, and every way in which the same one may then try to decide."""

    model: type[models.Model]
    roles: tuple[str, ...]
    ask: Callable[[World, User], Any]
    decide: Callable[..., Any]
    verbs: tuple[str, ...] = ("approve", "refuse")
    api: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    command: Callable[[Any, User], tuple[str, ...]] | None = None
    values: Mapping[str, Any] = field(default_factory=dict)
    decisions: tuple[Mapping[str, Any], ...] = ({"approve": True}, {"approve": False})

    def somebody(self, world: World, name: str = "somebody") -> User:
        """Return a person whose roles allow both halves of the step."""
        keepers = {Role.WAREHOUSE_KEEPER, Role.SUPPLIER_QUALITY}
        home = world.keeper if keepers & set(self.roles) else world.clerk
        return User.objects.create(
            username=name, organisation=home.organisation, roles=list(self.roles), is_staff=True
        )


def withdrawal(world: World, person: User) -> StockRequest:
    batch = plan_batches(world.order(5), actor=world.planner)[0]
    world.approve(batch)
    return stock.request_withdrawal(batch, world.lot(20), 10, actor=person)


def stock_adjustment(world: World, person: User) -> StockRequest:
    return stock.request_adjustment(world.lot(20), -1, reason="盘亏", actor=person)


def waste(world: World, person: User) -> CardDestruction:
    batch = light_inspected(world, 3, rejected=2)
    close_batch(batch, **asdict(totals(ledger_counts(batch))), actor=world.operator)
    return request_card_destruction(world.contract, method="shredded", place="佛山", actor=person)


def unknown(world: World, person: User) -> UnknownDecision:
    card = light_batch(world, 2).cards.earliest("pk")
    Card.objects.filter(pk=card.pk).update(outcome="unknown")
    return request_unknown_decision(card, outcome="rejected", evidence="无应答", actor=person)


def early_destruction(world: World, person: User) -> DestructionRequest:
    world.order(2)
    Package.objects.update(status=PackageStatus.VALIDATED)
    CardholderRecord.objects.update(status=RecordStatus.MATCHED, order=None)
    return request_early_destruction(Package.objects.get(), reason="参保人要求停办", actor=person)


def key(world: World, person: User) -> KeyImport:
    return begun(person)


def statement_correction(world: World, person: User) -> Adjustment:
    day = date(2026, 6, 1)
    Contract.objects.update(signed_on=date(2026, 1, 15))
    batch = light_closed(world, 2)
    Card.objects.filter(batch=batch).update(accepted_on=day)
    contract = Contract.objects.get(pk=world.contract.pk)
    statement = close_statement(draft_statement(contract, on=day, actor=world.clerk), actor=world.approver)
    return request_adjustment(
        statement, bank=world.bank, card_kind="finished", count_change=-1, unit_price=Decimal("9.00"),
        reason="重复计费", actor=person,
    )  # fmt: skip


def emergency(world: World, person: User) -> EmergencyCase:
    station = Station.objects.create(code="c-1", name="一号柜台", place="佛山", operator=world.bank)
    return open_case(entered(), station=station, reason="住院急用", actor=person)


KEEPER = (str(Role.WAREHOUSE_KEEPER),)
BY_VERB: Mapping[str, Mapping[str, Any]] = {"approve": {}, "refuse": {}}
TWO_PERSON_STEPS: Mapping[str, Step] = {
    "withdrawing stock": Step(StockRequest, KEEPER, withdrawal, stock.decide_request),
    "adjusting stock": Step(StockRequest, KEEPER, stock_adjustment, stock.decide_request),
    "destroying cards": Step(CardDestruction, KEEPER, waste, decide_card_destruction, api=BY_VERB),
    "deciding an unknown card": Step(
        UnknownDecision, (Role.SUPPLIER_QUALITY,), unknown, decide_unknown, verbs=("confirm", "refuse")
    ),
    "destroying data early": Step(
        DestructionRequest,
        (Role.PURCHASER_CLERK, Role.PURCHASER_APPROVER),
        early_destruction,
        decide_early_destruction,
        api={"decide": {"approve": True}},
        command=lambda row, person: (
            "early_destruction", "decide", str(row.pk), "--approve", "--user", person.username,
        ),
    ),
    "importing a key": Step(
        KeyImport,
        (Role.SECURITY_ADMINISTRATOR,),
        key,
        finish_key_import,
        verbs=("finish_import",),
        values=second_half(),
        decisions=(second_half(),),
    ),
    "correcting a closed statement": Step(
        Adjustment, (Role.PURCHASER_APPROVER,), statement_correction, decide_adjustment, api=BY_VERB
    ),
    "emergency issue without a matched record": Step(
        EmergencyCase,
        (Role.COUNTER_OPERATOR, Role.COUNTER_SUPERVISOR),
        emergency,
        decide_case,
        values={"text": "证件不符"},
        decisions=({"approve": True}, {"approve": False, "text": "证件不符"}),
    ),
}  # fmt: skip


@pytest.fixture
def world(db: None) -> World:
    return build_world()


@pytest.fixture(params=list(TWO_PERSON_STEPS))
def step(request: pytest.FixtureRequest) -> Step:
    return TWO_PERSON_STEPS[request.param]


def untouched() -> dict[str, Any]:
    """Return every row but those that each request of a browser or token moves."""
    moving = {"portal.UserSession", "portal.ApiToken", "portal.SecondFactor", "portal.IdempotencyKey"}
    return {label: rows for label, rows in everything().items() if label not in moving}


def test_every_step_the_architecture_names_is_in_the_table() -> None:
    assert set(TWO_PERSON_STEPS) == set(NAMED)


def test_the_service_refuses(step: Step, world: World) -> None:
    person = step.somebody(world)
    row = step.ask(world, person)
    for decision in step.decisions:
        with refused(SamePersonError, audited=[REFUSED]):
            step.decide(row, **decision, actor=person)


def test_the_database_refuses(step: Step) -> None:
    """Whoever goes round the service meets the constraint."""
    names = [constraint.name for constraint in step.model._meta.constraints]
    assert any(name.endswith("_two_people") for name in names), names


def test_the_admin_hides_the_button_and_refuses_the_click(step: Step, world: World) -> None:
    person, other = step.somebody(world), step.somebody(world, "colleague")
    row = step.ask(world, person)
    label = step.model._meta.label_lower
    own, colleague = verified_client(person), verified_client(other)
    shown, offered = (text(client.get(page(label, "change", row.pk))) for client in (own, colleague))
    for verb in step.verbs:
        address = page(label, verb, row.pk)
        assert address not in shown
        assert address in offered
        rows, entries = untouched(), actions()
        answer = own.post(address, step.values)
        assert (answer.status_code, said(answer)) == (409, TOLD)
        assert (untouched(), actions()) == (rows, [*entries, REFUSED])


def test_the_api_refuses_wherever_it_offers_the_step(step: Step, world: World) -> None:
    person = step.somebody(world)
    row = step.ask(world, person)
    routes = [route for route in api_routes("api row") if model_of(route) is step.model]
    posts = [route for route in routes if "post" in methods(route)]
    assert {route.callback.actions["post"] for route in posts} == set(step.api)
    client = client_of(person) if posts else None
    for route in posts:
        rows, entries = untouched(), actions()
        body = step.api[route.callback.actions["post"]]
        assert client is not None
        assert code_of(client.post(route.address(row.pk), body, format="json"), 422) == "same_person"
        assert (untouched(), actions()) == (rows, [*entries, REFUSED])


@pytest.mark.parametrize("name", [name for name, step in TWO_PERSON_STEPS.items() if step.command])
def test_the_command_refuses(name: str, world: World) -> None:
    step = TWO_PERSON_STEPS[name]
    person = step.somebody(world)
    row = step.ask(world, person)
    assert step.command is not None
    rows, entries = untouched(), actions()
    with pytest.raises(CommandError, match="same_person"):
        call_command(*step.command(row, person))
    assert (untouched(), actions()) == (rows, [*entries, REFUSED])


def test_another_person_may(step: Step, world: World) -> None:
    """The table itself: what is refused to one is open to the other."""
    row = step.ask(world, step.somebody(world))
    step.decide(row, **step.decisions[-1], actor=step.somebody(world, "colleague"))
    row.refresh_from_db()
    assert row.status in {"refused", "imported"}
