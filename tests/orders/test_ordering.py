"""Orders for the supplier each bank has chosen, with deadline and light (R-1, R-2, R-6, R-10, R-13)."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import pytest
from django.core.management import CommandError, call_command

from orders.choices import CardKind, ContractStatus, OrderStatus, RecordStatus
from orders.models import CardholderRecord, Contract, Order, SupplierChoice
from orders.selectors.contracts import ContractEndedError, ContractInactiveError
from orders.selectors.orders import (
    current_choice,
    days_left,
    light,
    progress,
    waiting_groups,
)
from orders.services.ordering import (
    ChoiceRefusedError,
    MatchDayRefusedError,
    choose_supplier,
    create_orders,
)
from portal.core.errors import PermissionRefusedError
from portal.models import AuditEntry
from tests.orders.scene import MORNING, TODAY, Scene, person


def choose(scene: Scene, bank: int = 0, contract: int = 0, valid_from: dt.date = TODAY) -> SupplierChoice:
    return choose_supplier(
        scene.banks[bank],
        scene.contracts[contract],
        valid_from=valid_from,
        reason="质量好",
        actor=scene.bank_clerks[bank],
    )


def people(count: int, start: int = 0) -> list[object]:
    return [person(serial) for serial in range(start, start + count)]


class TestChooseSupplier:
    def test_the_newest_choice_in_force_counts_and_the_history_stays(self, scene: Scene) -> None:
        """R-6."""
        bank = scene.banks[0]
        assert current_choice(bank, TODAY) is None
        first = choose(scene, valid_from=dt.date(2026, 1, 5))
        second = choose(scene, contract=1, valid_from=TODAY)
        later = choose(scene, valid_from=TODAY + dt.timedelta(days=9))
        assert current_choice(bank, TODAY - dt.timedelta(days=1)) == first
        assert current_choice(bank, TODAY) == second
        assert current_choice(bank, TODAY + dt.timedelta(days=9)) == later
        assert SupplierChoice.objects.filter(bank=bank).count() == 3
        assert AuditEntry.objects.filter(action="supplier.chosen").count() == 3

    def test_nobody_chooses_for_another_bank(self, scene: Scene) -> None:
        """R-6: each bank decides itself, not the purchaser and not another bank."""
        for actor in (scene.bank_clerks[1], scene.clerk, scene.approver):
            with pytest.raises(PermissionRefusedError):
                choose_supplier(scene.banks[0], scene.contracts[0], valid_from=TODAY, reason="", actor=actor)
        assert not SupplierChoice.objects.exists()
        assert not AuditEntry.objects.filter(action="supplier.chosen").exists()

    def test_only_a_contract_in_force_can_be_chosen(self, scene: Scene) -> None:
        """R-2."""
        with pytest.raises(ContractEndedError):
            choose(scene, valid_from=scene.contracts[0].ends_on + dt.timedelta(days=1))
        with pytest.raises(ChoiceRefusedError):
            choose(scene, valid_from=scene.contracts[0].signed_on - dt.timedelta(days=1))
        Contract.objects.filter(pk=scene.contracts[0].pk).update(status=ContractStatus.CLOSED)
        with pytest.raises(ContractInactiveError):
            choose(scene)
        assert not SupplierChoice.objects.exists()


class TestCreateOrders:
    def test_one_order_for_each_bank_and_card_kind(self, scene: Scene) -> None:
        """R-6, R-10, R-13: number, supplier, price and deadline of each."""
        choose(scene, 0, 0)
        choose(scene, 1, 1)
        scene.add_matched(people(3), scene.banks[0])
        scene.add_matched(people(2, 10), scene.banks[0], card_kind=CardKind.PREMADE)
        scene.add_matched(people(1, 20), scene.banks[0], card_kind=CardKind.TEST)
        scene.add_matched(people(4, 30), scene.banks[1])
        orders = create_orders(actor=scene.clerk)
        assert [(o.number, o.quantity, o.unit_price, o.contract_id) for o in orders] == [
            ("DD20261123-BANK1-F-001", 3, Decimal("9.80"), scene.contracts[0].pk),
            ("DD20261123-BANK1-P-001", 2, Decimal("8.50"), scene.contracts[0].pk),
            ("DD20261123-BANK1-T-001", 1, Decimal("0.00"), scene.contracts[0].pk),
            ("DD20261123-BANK2-F-001", 4, Decimal("9.80"), scene.contracts[1].pk),
        ]
        assert {(o.matched_on, o.due_on, o.due_is_provisional) for o in orders} == {
            (TODAY, dt.date(2026, 12, 1), False)
        }
        assert set(CardholderRecord.objects.values_list("status", flat=True)) == {RecordStatus.ORDERED}
        assert [o.records.count() for o in orders] == [3, 2, 1, 4]
        assert AuditEntry.objects.filter(action="order.created").count() == 4

    def test_matched_on_28_september_is_due_on_12_october(self, scene: Scene) -> None:
        """R-10: the clock starts with the earliest matching of the group, in the city's day."""
        choose(scene)
        late_evening = dt.datetime(2026, 9, 27, 16, 30, tzinfo=dt.UTC)  # already Monday in the city
        scene.add_matched(people(1), scene.banks[0], matched_at=late_evening)
        scene.add_matched(people(2, 5), scene.banks[0])
        (order,) = create_orders(actor=scene.clerk)
        assert (order.matched_on, order.due_on) == (dt.date(2026, 9, 28), dt.date(2026, 10, 12))
        assert order.quantity == 3

    def test_the_day_of_matching_may_be_given_but_not_in_the_future(self, scene: Scene) -> None:
        """R-10."""
        choose(scene)
        scene.add_matched(people(1), scene.banks[0])
        with pytest.raises(MatchDayRefusedError):
            create_orders(actor=scene.clerk, matched_on=TODAY + dt.timedelta(days=1))
        assert not Order.objects.exists()
        (order,) = create_orders(actor=scene.clerk, matched_on=dt.date(2026, 9, 28))
        assert order.due_on == dt.date(2026, 10, 12)

    def test_numbers_go_on_and_only_new_records_are_ordered(self, scene: Scene) -> None:
        choose(scene)
        scene.add_matched(people(2), scene.banks[0])
        assert [o.quantity for o in create_orders(actor=scene.clerk)] == [2]
        assert create_orders(actor=scene.clerk) == []
        scene.add_matched(people(1, 5), scene.banks[0])
        assert [o.number for o in create_orders(actor=scene.clerk)] == ["DD20261123-BANK1-F-002"]

    def test_only_matched_records_are_ordered(self, scene: Scene) -> None:
        """R-9: cards are made only from data matched between both sides."""
        choose(scene)
        scene.add_records(people(2), scene.banks[0])
        assert create_orders(actor=scene.clerk) == []
        assert set(CardholderRecord.objects.values_list("status", flat=True)) == {RecordStatus.ACCEPTED}

    def test_one_bank_alone(self, scene: Scene) -> None:
        choose(scene, 0)
        choose(scene, 1)
        scene.add_matched(people(1), scene.banks[0])
        scene.add_matched(people(1, 5), scene.banks[1])
        (order,) = create_orders(actor=scene.clerk, bank=scene.banks[1])
        assert order.bank == scene.banks[1]
        assert CardholderRecord.objects.filter(status=RecordStatus.MATCHED).count() == 1

    def test_a_bank_without_a_choice_waits_with_the_reason(self, scene: Scene) -> None:
        """R-6."""
        choose(scene, 1)
        scene.add_matched(people(2), scene.banks[0])
        scene.add_matched(people(1, 5), scene.banks[1])
        assert [order.bank for order in create_orders(actor=scene.clerk)] == [scene.banks[1]]
        (group,) = waiting_groups(scene.clerk)
        assert (group.bank, group.card_kind_label, group.quantity, group.matched_at) == (
            scene.banks[0], "成品卡", 2, MORNING,
        )  # fmt: skip
        assert group.refusal is not None
        assert group.refusal.code == "no_supplier_choice"
        refused = AuditEntry.objects.get(action="order.refused")
        assert (refused.result, refused.details) == (
            "refused",
            {"code": "no_supplier_choice", "card_kind": "finished", "quantity": 2},
        )

    @pytest.mark.parametrize(
        ("change", "code"),
        [
            ({"quantity_cap": 2}, "contract_quantity"),
            ({"budget": Decimal("29.39")}, "contract_budget"),
            ({"signed_on": dt.date(2023, 11, 22)}, "contract_ended"),
            ({"status": ContractStatus.CLOSED}, "contract_inactive"),
        ],
    )
    def test_a_contract_that_carries_no_more_lets_the_group_wait(
        self, scene: Scene, change: dict[str, object], code: str
    ) -> None:
        """R-1, R-2: three finished cards at 9.80 yuan."""
        choose(scene)
        Contract.objects.filter(pk=scene.contracts[0].pk).update(**change)
        scene.add_matched(people(3), scene.banks[0])
        assert create_orders(actor=scene.clerk) == []
        assert CardholderRecord.objects.filter(status=RecordStatus.MATCHED, order=None).count() == 3
        assert not Order.objects.exists()
        (group,) = waiting_groups(scene.clerk)
        assert group.refusal is not None
        assert group.refusal.code == code

    def test_caps_count_within_one_run(self, scene: Scene) -> None:
        """R-1: two banks share a contract with room for one of them."""
        Contract.objects.filter(pk=scene.contracts[0].pk).update(quantity_cap=3)
        choose(scene, 0)
        choose(scene, 1)
        scene.add_matched(people(2), scene.banks[0])
        scene.add_matched(people(2, 5), scene.banks[1])
        assert [order.bank for order in create_orders(actor=scene.clerk)] == [scene.banks[0]]

    def test_test_and_sample_cards_need_no_budget(self, scene: Scene) -> None:
        """R-13."""
        Contract.objects.filter(pk=scene.contracts[0].pk).update(quantity_cap=1, budget=Decimal("0.01"))
        choose(scene)
        scene.add_matched(people(5), scene.banks[0], card_kind=CardKind.SAMPLE)
        (order,) = create_orders(actor=scene.clerk)
        assert (order.number[-5:], order.unit_price) == ("S-001", Decimal("0.00"))

    def test_only_the_purchasers_clerk_orders(self, scene: Scene) -> None:
        choose(scene)
        scene.add_matched(people(1), scene.banks[0])
        for actor in (scene.bank_clerks[0], scene.approver):
            with pytest.raises(PermissionRefusedError):
                create_orders(actor=actor)
        assert not Order.objects.exists()
        assert CardholderRecord.objects.get().status == RecordStatus.MATCHED

    def test_a_bank_sees_only_its_own_waiting_records(self, scene: Scene) -> None:
        scene.add_matched(people(1), scene.banks[0])
        scene.add_matched(people(1, 5), scene.banks[1])
        assert [group.bank for group in waiting_groups(scene.bank_clerks[0])] == [scene.banks[0]]

    def test_the_command(self, scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
        choose(scene)
        scene.add_matched(people(2), scene.banks[0])
        scene.add_matched(people(1, 5), scene.banks[1])
        call_command("create_orders", "--matched-on", "2026-09-28")
        assert capsys.readouterr().out.splitlines() == [
            "DD20261123-BANK1-F-001  2 张  期限 2026-10-12",
            "等待：BANK2 成品卡 1 张（no_supplier_choice: 该银行尚未选定中标人（R-6））",
        ]
        with pytest.raises(CommandError, match="account_bank_unknown"):
            call_command("create_orders", "--bank", "NONE")
        with pytest.raises(CommandError, match="matched_on_refused"):
            call_command("create_orders", "--matched-on", "2099-01-01")


class TestLight:
    @pytest.mark.parametrize(
        ("today", "left", "colour"),
        [
            (dt.date(2026, 11, 23), 6, "green"),
            (dt.date(2026, 11, 26), 3, "green"),
            (dt.date(2026, 11, 27), 2, "amber"),
            (dt.date(2026, 11, 28), 2, "amber"),
            (dt.date(2026, 11, 30), 1, "amber"),
            (dt.date(2026, 12, 1), 0, "red"),
            (dt.date(2026, 12, 2), -1, "red"),
            (dt.date(2026, 12, 9), -6, "red"),
        ],
    )
    def test_it_turns_amber_then_red(self, scene: Scene, today: dt.date, left: int, colour: str) -> None:
        """R-10: due on Tuesday 2026-12-01."""
        order = Order(status=OrderStatus.IN_PRODUCTION, matched_on=TODAY, due_on=dt.date(2026, 12, 1))
        assert (days_left(order, today), light(order, today)) == (left, colour)

    @pytest.mark.parametrize("status", [OrderStatus.COMPLETED, OrderStatus.CANCELLED])
    def test_finished_orders_are_done(self, scene: Scene, status: str) -> None:
        order = Order(status=status, matched_on=TODAY, due_on=dt.date(2026, 12, 1))
        assert light(order, dt.date(2027, 1, 5)) == "done"

    def test_a_page_reads_the_calendar_once(self, scene: Scene, django_assert_num_queries: object) -> None:
        orders = [
            Order(pk=pk, status=OrderStatus.OPEN, matched_on=TODAY, due_on=dt.date(2026, 12, pk))
            for pk in (1, 9)
        ]
        with django_assert_num_queries(1):  # type: ignore[operator]
            found = progress(orders)
        assert {pk: (each.days_left, each.light) for pk, each in found.items()} == {
            1: (6, "green"),
            9: (12, "green"),
        }
