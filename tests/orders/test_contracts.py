"""Contracts of the three lots: prices, caps, term and what is used of them (R-1 … R-4)."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import pytest
from django.db import IntegrityError, transaction

from orders.choices import CardKind, ContractStatus, OrderStatus
from orders.models import Contract, Order
from orders.selectors.contracts import (
    ContractBudgetError,
    ContractEndedError,
    ContractInactiveError,
    ContractQuantityError,
    contract_use,
    order_refusal,
)
from orders.services.contracts import activate_contract, close_contract
from portal.core.errors import (
    ConflictError,
    InputRefusedError,
    PermissionRefusedError,
    PortalError,
    TransitionRefusedError,
)
from portal.models import AuditEntry
from tests.orders.scene import TODAY, Scene, make_contract


def place(contract: Contract, scene: Scene, quantity: int, **values: object) -> Order:
    defaults = {
        "number": f"DD-{Order.objects.count()}",
        "bank": scene.banks[0],
        "contract": contract,
        "card_kind": CardKind.FINISHED,
        "quantity": quantity,
        "unit_price": contract.price_of(str(values.get("card_kind", CardKind.FINISHED))),
        "matched_on": dt.date(2026, 9, 28),
        "due_on": dt.date(2026, 10, 12),
        "created_by": scene.clerk,
    }
    return Order.objects.create(**{**defaults, **values})


class TestConstraints:
    @pytest.mark.parametrize(
        ("values", "name"),
        [
            ({"quantity_cap": 550_001}, "contract_within_lot"),
            ({"budget": Decimal("5500000.01")}, "contract_within_lot"),
            ({"finished_price": Decimal("10.01")}, "contract_price_cap"),
            ({"finished_price": Decimal("0.00")}, "contract_(price_cap|face_fee_below_price)"),
            ({"face_fee": Decimal("9.80")}, "contract_face_fee_below_price"),
            ({"face_fee": Decimal("-0.01")}, "contract_face_fee_below_price"),
        ],
    )
    def test_the_database_holds_caps_and_prices(
        self, scene: Scene, values: dict[str, object], name: str
    ) -> None:
        """R-1, R-3, R-4: no way around the lot's figures."""
        with pytest.raises(IntegrityError, match=name), transaction.atomic():
            make_contract(scene.suppliers[0], 3, **values)
        assert not Contract.objects.filter(lot=3).exists()

    def test_prices(self, scene: Scene) -> None:
        """R-4, R-13: pre-made cards go without the face fee, test and sample cards are free."""
        contract = scene.contracts[0]
        prices = [contract.price_of(kind) for kind in CardKind.values]
        assert prices == [Decimal("9.80"), Decimal("8.50"), Decimal("0.00"), Decimal("0.00")]

    def test_it_ends_three_years_after_signing(self, scene: Scene) -> None:
        """R-2: the end is computed by the database; 29 February gives the 28th."""
        contract = make_contract(scene.suppliers[0], 3, signed_on=dt.date(2024, 2, 29))
        assert contract.ends_on == dt.date(2027, 2, 28)


class TestActivate:
    def test_the_approver_brings_it_into_force(self, scene: Scene) -> None:
        """R-1."""
        draft = make_contract(scene.suppliers[0], 3, status=ContractStatus.DRAFT)
        assert activate_contract(draft, actor=scene.approver).status == ContractStatus.ACTIVE
        assert AuditEntry.objects.get(action="contract.active").object_id == str(draft.pk)

    def test_a_second_one_of_the_lot_is_refused(self, scene: Scene) -> None:
        """R-1: one supplier for each lot."""
        draft = make_contract(scene.suppliers[1], 1, number="HT-1b", status=ContractStatus.DRAFT)
        with pytest.raises(ConflictError):
            activate_contract(draft, actor=scene.approver)
        draft.refresh_from_db()
        assert draft.status == ContractStatus.DRAFT
        assert not AuditEntry.objects.filter(action="contract.active").exists()

    @pytest.mark.parametrize(
        ("signed_on", "code"),
        [(TODAY + dt.timedelta(days=1), "input_refused"), (dt.date(2023, 11, 22), "contract_ended")],
    )
    def test_outside_its_term_it_is_refused(self, scene: Scene, signed_on: dt.date, code: str) -> None:
        """R-2."""
        draft = make_contract(scene.suppliers[0], 3, signed_on=signed_on, status=ContractStatus.DRAFT)
        with pytest.raises(PortalError) as refusal:
            activate_contract(draft, actor=scene.approver)
        assert refusal.value.code == code
        assert Contract.objects.get(pk=draft.pk).status == ContractStatus.DRAFT

    def test_the_other_party_must_be_a_supplier(self, scene: Scene) -> None:
        draft = make_contract(scene.banks[0], 3, status=ContractStatus.DRAFT)
        with pytest.raises(InputRefusedError):
            activate_contract(draft, actor=scene.approver)

    def test_only_the_approver_may(self, scene: Scene) -> None:
        draft = make_contract(scene.suppliers[0], 3, status=ContractStatus.DRAFT)
        with pytest.raises(PermissionRefusedError):
            activate_contract(draft, actor=scene.clerk)
        assert Contract.objects.get(pk=draft.pk).status == ContractStatus.DRAFT


class TestClose:
    def test_it_needs_a_reason_and_happens_once(self, scene: Scene) -> None:
        """R-2."""
        contract = scene.contracts[0]
        with pytest.raises(InputRefusedError):
            close_contract(contract, reason=" ", actor=scene.approver)
        assert (
            close_contract(contract, reason="预算用尽", actor=scene.approver).status == ContractStatus.CLOSED
        )
        with pytest.raises(TransitionRefusedError):
            close_contract(contract, reason="再次", actor=scene.approver)
        assert AuditEntry.objects.get(action="contract.closed").details["reason"] == "预算用尽"


class TestUse:
    def test_it_adds_up_what_is_billed_and_not_cancelled(self, scene: Scene) -> None:
        """R-1, R-2, R-13: test and sample cards count for neither quantity nor budget."""
        contract = scene.contracts[0]
        place(contract, scene, 1000)
        place(contract, scene, 200, card_kind=CardKind.PREMADE)
        place(contract, scene, 50, card_kind=CardKind.TEST)
        place(contract, scene, 400, status=OrderStatus.CANCELLED)
        use = contract_use(contract)
        assert (use.quantity, use.amount) == (1200, Decimal("11500.00"))
        assert (use.quantity_left, use.amount_left) == (1_373_800, Decimal("13738500.00"))
        assert not use.is_used_up

    def test_a_fresh_contract(self, scene: Scene) -> None:
        use = contract_use(scene.contracts[1])
        assert (use.quantity, use.amount, use.quantity_left) == (0, Decimal("0.00"), 825_000)

    def test_the_last_card_fits_and_one_more_does_not(self, scene: Scene) -> None:
        """R-1: quantity."""
        contract = make_contract(scene.suppliers[0], 3, quantity_cap=100)
        place(contract, scene, 60)
        assert order_refusal(contract, CardKind.FINISHED, 40, TODAY) is None
        assert isinstance(order_refusal(contract, CardKind.FINISHED, 41, TODAY), ContractQuantityError)
        assert order_refusal(contract, CardKind.SAMPLE, 41, TODAY) is None
        place(contract, scene, 40)
        assert contract_use(contract).is_used_up

    def test_the_last_fen_fits_and_one_more_does_not(self, scene: Scene) -> None:
        """R-1, R-2: budget."""
        contract = make_contract(scene.suppliers[0], 3, budget=Decimal("98.00"))
        assert order_refusal(contract, CardKind.FINISHED, 10, TODAY) is None
        refusal = order_refusal(contract, CardKind.FINISHED, 11, TODAY)
        assert isinstance(refusal, ContractBudgetError)
        assert (refusal.expected, refusal.got) == ("剩余 ¥98.00", "¥107.80")

    def test_the_last_day_and_the_day_after(self, scene: Scene) -> None:
        """R-2: term."""
        contract = scene.contracts[0]
        assert order_refusal(contract, CardKind.FINISHED, 1, contract.ends_on) is None
        late = order_refusal(contract, CardKind.FINISHED, 1, contract.ends_on + dt.timedelta(days=1))
        assert isinstance(late, ContractEndedError)

    def test_a_draft_carries_nothing(self, scene: Scene) -> None:
        draft = make_contract(scene.suppliers[0], 3, status=ContractStatus.DRAFT)
        assert isinstance(order_refusal(draft, CardKind.TEST, 1, TODAY), ContractInactiveError)
