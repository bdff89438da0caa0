"""A small programme for production's tests: one contract, its people, and an order of sealed records."""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from decimal import Decimal
from functools import cache
from typing import Any

from django.utils import timezone

from orders.choices import CardKind, IssueKind, OrderStatus, RecordStatus
from orders.models import BankProfile, CardholderRecord, Contract, DeliveryPoint, Order, Package
from orders.personal import (
    PersonalPart,
    card_number_index,
    name_index,
    number_index,
    seal,
    seal_columns,
)
from portal.bulk import copy_rows, next_ids
from portal.choices import OrganisationKind, Role, TaskStatus
from portal.core.clock import today
from portal.core.idnumbers import parse_number
from portal.core.keystore import KeyPurpose
from portal.files import cipher, keystore, write_sealed
from portal.models import AuditEntry, Organisation, Task, User
from portal.queue import run_task
from portal.samples.banks import BankSpec
from portal.samples.people import SamplePerson, people
from portal.samples.photos import draw_bust, encode_to_weight
from production.models import Batch, RosterMember, StockLot, WorkPlan
from production.services import planning, preparation, running, stock

BANK = "95588"
POINTS = ("B001", "B002")
RECORD_FIELDS = (
    "id", "package", "row_number", "version", "status", "problem_codes", "number_index", "name_index",
    "card_number_index", "number_sealed", "name_sealed", "personal_sealed", "account_sealed", "bank",
    "delivery_point", "employer_code", "issue_kind", "card_kind", "photo_name", "unmatched_reason",
    "matched_at", "order", "created_at",
)  # fmt: skip


@cache
def portrait() -> bytes:
    """Return one generated photo, drawn once a session."""
    return encode_to_weight(draw_bust("world"))


@dataclass
class World:
    """The programme's rows; every verb below is done by the people whose role allows it."""

    contract: Contract
    bank: Organisation
    points: list[DeliveryPoint]
    roster: list[RosterMember]
    clerk: User
    approver: User
    planner: User
    operator: User
    operator_two: User
    quality: User
    keeper: User
    keeper_two: User
    other_planner: User
    package: Package
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def order(
        self, count: int, *, card_kind: str = CardKind.FINISHED, names: dict[int, str] | None = None
    ) -> Order:
        """Create an open order of `count` sealed records; `names` replaces names by position."""
        number = next(self.numbers)
        order = Order.objects.create(
            number=f"DD20261123-{BANK}-F-{number:03d}", bank=self.bank, contract=self.contract,
            card_kind=card_kind, quantity=count, unit_price=Decimal("9.00"), matched_on=today(),
            due_on=today() + dt.timedelta(days=8), status=OrderStatus.OPEN, created_by=self.clerk,
        )  # fmt: skip
        start = 10_000 * number
        rows = list(self._record_rows(order, count, start, names or {}))
        copy_rows(CardholderRecord, RECORD_FIELDS, rows)
        return order

    def lot(self, quantity: int, *, prefix: str = "FS26A", first: int = 1) -> StockLot:
        """Receive blanks."""
        return stock.receive_lot(
            self.contract, number=f"LOT-{prefix}-{first}", serial_prefix=prefix, first_serial=first,
            quantity=quantity, received_on=today(), actor=self.keeper,
        )  # fmt: skip

    def withdraw(self, batch: Batch, lot: StockLot, quantity: int) -> None:
        """Withdraw blanks by two keepers."""
        request = stock.request_withdrawal(batch, lot, quantity, actor=self.keeper)
        stock.decide_request(request, approve=True, actor=self.keeper_two)

    def propose(self, batch: Batch, **changes: Any) -> WorkPlan:
        """Propose a sound plan, changed as told."""
        now = timezone.now()
        wanted = {
            "place": "佛山一车间", "starts_at": now, "ends_at": now + dt.timedelta(hours=8),
            "leader": self.roster[0], "people": self.roster[:2], "actor": self.planner,
        }  # fmt: skip
        return planning.propose_plan(batch, **{**wanted, **changes})

    def approve(self, batch: Batch) -> None:
        """Propose and approve a plan."""
        planning.decide_plan(self.propose(batch), approve=True, actor=self.approver)

    def released(self, count: int, *, blanks: int | None = None, **order: Any) -> Batch:
        """Return one batch of `count` with its blanks withdrawn."""
        batch = planning.plan_batches(self.order(count, **order), batch_size=count, actor=self.planner)[0]
        self.approve(batch)
        quantity = blanks or count + 10
        lot = self.lot(quantity, first=1 + 100_000 * next(self.numbers))
        self.withdraw(batch, lot, quantity)
        batch.refresh_from_db()
        return batch

    def prepared(self, count: int, **options: Any) -> Batch:
        """Return a batch whose machine files are written."""
        batch = preparation.prepare_batch(self.released(count, **options), actor=self.operator)
        return work_off(batch)

    def made(self, count: int, **options: Any) -> Batch:
        """Return a batch the line has made."""
        return work_off(running.run_batch(self.prepared(count, **options), actor=self.operator))

    def _record_rows(
        self, order: Order, count: int, start: int, names: dict[int, str]
    ) -> Iterator[tuple[Any, ...]]:
        opened, now = cipher(self.package.key_id), timezone.now()
        ids = next_ids(CardholderRecord, count)
        specs = [BankSpec(BANK, "工商银行", POINTS)]
        persons = people(count, 7, specs, issue_date=today(), start=start)
        for place, (pk, drawn) in enumerate(zip(ids, persons, strict=True)):
            person = replace(drawn, name=names.get(place, drawn.name))
            sealed = seal_columns(
                opened, pk, 1, number=person.number, name=person.name, personal=_personal(person)
            )
            account = seal(opened, pk, 1, "account", f"622202{person.index:013d}")
            indexes = (
                number_index(person.number), name_index(person.name), card_number_index(person.card_number),
            )  # fmt: skip
            yield (
                pk, self.package.pk, start + place, 1, RecordStatus.ORDERED.value, [], *indexes, *sealed,
                account, self.bank.pk, self.points[place % 2].pk, person.employer_code, IssueKind.FIRST.value,
                order.card_kind, "photos/shared.jpg", "", now, order.pk, now,
            )  # fmt: skip


def _personal(person: SamplePerson) -> PersonalPart:
    parsed = parse_number(person.number, today=today())
    dates = (
        dt.date.fromisoformat(text) for text in (person.birth_date, person.issue_date, person.expiry_date)
    )
    birth_on, issue_on, expires_on = dates
    return PersonalPart(
        sex=person.sex, ethnicity=person.ethnicity, birth_on=birth_on,
        document_kind=getattr(parsed, "kind", "foreigner"), document_type=person.document_type,
        area=person.area, employer_name=person.employer_name, card_number=person.card_number,
        issue_on=issue_on, expires_on=expires_on,
    )  # fmt: skip


def build_world() -> World:
    """Create the programme."""
    purchaser = _organisation(OrganisationKind.PURCHASER, "CGR", "采购人")
    supplier = _organisation(OrganisationKind.SUPPLIER, "S1", "中标人一")
    other = _organisation(OrganisationKind.SUPPLIER, "S2", "中标人二")
    bank = _organisation(OrganisationKind.BANK, BANK, "工商银行")
    BankProfile.objects.create(organisation=bank)
    contract = Contract.objects.create(
        number="HT-1", lot=1, supplier=supplier, quantity_cap=100_000, budget=Decimal("1000000.00"),
        finished_price=Decimal("9.00"), face_fee=Decimal("1.00"), signed_on=today(), status="active",
    )  # fmt: skip
    clerk = _user("clerk", purchaser, Role.PURCHASER_CLERK)
    key_id = keystore().create(KeyPurpose.PACKAGE, "P-1")
    with write_sealed("photos/shared.jpg", key_id) as photo:
        photo.write(portrait())
    return World(
        contract=contract,
        bank=bank,
        points=[
            DeliveryPoint.objects.create(bank=bank, code=code, name=f"{code} 网点", address="佛山")
            for code in POINTS
        ],
        roster=[
            RosterMember.objects.create(contract=contract, name=name, position="操作")
            for name in ("甲一", "乙二", "丙三")
        ],
        clerk=clerk,
        approver=_user("approver", purchaser, Role.PURCHASER_APPROVER),
        planner=_user("planner", supplier, Role.SUPPLIER_PLANNER),
        operator=_user("operator", supplier, Role.SUPPLIER_OPERATOR),
        operator_two=_user("operator2", supplier, Role.SUPPLIER_OPERATOR),
        quality=_user("quality", supplier, Role.SUPPLIER_QUALITY),
        keeper=_user("keeper", supplier, Role.WAREHOUSE_KEEPER),
        keeper_two=_user("keeper2", supplier, Role.WAREHOUSE_KEEPER),
        other_planner=_user("other", other, Role.SUPPLIER_PLANNER),
        package=Package.objects.create(number="P-1", file_name="P-1.zip", key_id=key_id, received_by=clerk),
    )


def _organisation(kind: OrganisationKind, code: str, name: str) -> Organisation:
    return Organisation.objects.create(kind=kind, code=code, name=name, short_name=name)


def _user(name: str, organisation: Organisation, role: Role) -> User:
    return User.objects.create(username=name, organisation=organisation, roles=[role])


def run_queued() -> int:
    """Run every queued task here and now, and those they leave; return how many ran."""
    count = 0
    while waiting := list(Task.objects.filter(status=TaskStatus.QUEUED).order_by("id")):
        for task in waiting:
            assert run_task(task.pk), Task.objects.get(pk=task.pk).error_text
            count += 1
    return count


def work_off(batch: Batch) -> Batch:
    """Run all tasks and bring the batch on as the scheduler does; return it fresh."""
    from production.jobs import advance_all

    run_queued()
    advance_all()
    batch.refresh_from_db()
    return batch


def audit_count() -> int:
    """Return how many entries the audit holds."""
    return AuditEntry.objects.count()
