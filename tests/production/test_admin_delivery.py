"""The bank's desk: lists, cartons, signature; and nothing of any other bank (R-23, D12)."""

from __future__ import annotations

import io
from itertools import product
from typing import Any

import pytest
from django.test import Client
from openpyxl import load_workbook

from production.choices import BatchStatus
from production.models import Batch, Card, Carton, Delivery, Receipt
from tests.portal.desk import audited, last_action, page, said, text
from tests.production.stages import Stages, build_stages

DELIVERY, CARTON, RECEIPT = "production.delivery", "production.carton", "production.receipt"


WRONG_ROWS: tuple[tuple[tuple[Any, str, str], int, str], ...] = (
    ((1, "", ""), 409, "实点张数与清单不符"),
    ((1, "2", ""), 409, "有差异时必须填写说明"),
    ((1, "3", "破损"), 409, "箱内没有这个位置"),
    ((1, "二", "破损"), 422, "无法识别的位置：二"),
    ((1, "9-2", "破损"), 422, "无法识别的位置：9-2"),
    ((1, "1-99999", "破损"), 422, "无法识别的位置：1-99999"),
    (("", "2", "破损"), 422, "请填写实点张数"),
    ((-1, "", ""), 422, "等于"),
    (("", "", ""), 409, "请至少填写一箱的实点张数"),
)


@pytest.fixture
def stages(db: None, settings: Any) -> Stages:
    return build_stages(settings)


@pytest.fixture
def delivery(stages: Stages) -> Delivery:
    """Return a dispatched delivery of three cards in two cartons."""
    stages.world.bank.bank_profile.__class__.objects.update(carton_size=2)
    return Delivery.objects.filter(batch=stages.dispatched(6)).order_by("number")[0]


def counts(delivery: Delivery, *rows: tuple[Any, str, str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for carton, (counted, missing, note) in zip(delivery.cartons.order_by("number"), rows, strict=True):
        values |= {
            f"counted_{carton.pk}": counted,
            f"missing_{carton.pk}": missing,
            f"note_{carton.pk}": note,
        }
    return values


def state() -> tuple[Any, ...]:
    models = (Batch, Delivery, Carton, Receipt, Card)
    return (audited(), *(list(model.objects.order_by("id").values_list()) for model in models))


class TestTheBanksOwn:
    def test_the_list_is_downloaded_as_excel_and_audited(self, stages: Stages, delivery: Delivery) -> None:
        """R-23: the list names every card of the delivery; who read it is on record."""
        answer = stages.desk("bank_clerk").get(page(DELIVERY, "download", delivery.pk))
        assert answer["Content-Disposition"] == f'attachment; filename="{delivery.number}.xlsx"'
        assert "no-store" in answer["Cache-Control"]
        content = io.BytesIO(b"".join(answer.streaming_content))  # type: ignore[attr-defined]
        cells = [cell.value for row in load_workbook(content).active.rows for cell in row]
        assert {carton.number for carton in delivery.cartons.all()} <= set(cells)
        assert last_action() == "delivery.list_downloaded"

    def test_the_page_shows_no_personal_data(self, stages: Stages, delivery: Delivery) -> None:
        shown = text(stages.desk("bank_clerk").get(page(DELIVERY, "change", delivery.pk)))
        assert delivery.number in shown
        assert "单位编号" not in shown

    def test_all_cartons_are_counted_and_signed(self, stages: Stages, delivery: Delivery) -> None:
        """R-23, R-34: counted, signed; missing cards are not accepted, the others have two years."""
        bank = stages.desk("bank_clerk")
        assert "签收后" not in text(bank.get(page(DELIVERY, "change", delivery.pk)))
        values = counts(delivery, (1, "2", "少一张"), (1, "", ""))
        assert said(bank.post(page(DELIVERY, "confirm", delivery.pk), values)) == "已点收 2 箱"
        receipt = Receipt.objects.get(result="different")
        assert (receipt.counted, receipt.missing_positions, receipt.note) == (1, [2], "少一张")
        assert said(bank.post(page(DELIVERY, "sign", delivery.pk))) == f"交付单 {delivery} 已签收"
        delivery.refresh_from_db()
        assert delivery.signed_by == stages.bank_clerk
        cards = Card.objects.filter(carton__delivery=delivery)
        assert cards.filter(accepted_on__isnull=False).count() == 2
        assert cards.get(accepted_on__isnull=True).carton_position == 2
        assert "少一张" in text(bank.get(page(DELIVERY, "change", delivery.pk)))

    def test_the_last_signature_signs_the_batch(self, stages: Stages, delivery: Delivery) -> None:
        for each in delivery.batch.deliveries.all():
            stages.sign(each)
        batch = Batch.objects.get(pk=delivery.batch_id)
        assert batch.status == BatchStatus.SIGNED

    def test_a_carton_may_be_left_for_later_but_then_nothing_is_signed(
        self, stages: Stages, delivery: Delivery
    ) -> None:
        bank = stages.desk("bank_clerk")
        answer = bank.post(
            page(DELIVERY, "confirm", delivery.pk), counts(delivery, (2, "", ""), ("", "", ""))
        )
        assert said(answer) == "已点收 1 箱"
        before = state()
        answer = bank.post(page(DELIVERY, "sign", delivery.pk))
        assert said(answer) == f"还有未点收的箱；位置：{delivery}；实为：1 箱（cartons_open）"
        assert state() == before
        shown = text(bank.get(page(DELIVERY, "confirm", delivery.pk)))
        first, second = delivery.cartons.order_by("number")
        assert f"counted_{first.pk}" not in shown
        assert f"counted_{second.pk}" in shown

    def test_a_count_that_does_not_fit_takes_nothing(self, stages: Stages, delivery: Delivery) -> None:
        """R-23: one wrong row and no carton is taken."""
        bank, before = stages.desk("bank_clerk"), state()
        for row, status, message in WRONG_ROWS:
            other = ("", "", "") if row == ("", "", "") else (1, "", "")
            answer = bank.post(page(DELIVERY, "confirm", delivery.pk), counts(delivery, row, other))
            assert answer.status_code == status, row
            assert message in (said(answer) if status == 409 else text(answer)), row
            assert state() == before

    def test_only_a_bank_signs(self, stages: Stages, delivery: Delivery) -> None:
        before = state()
        for name, verb in product(("operator", "approver", "keeper"), ("confirm", "sign", "download")):
            assert stages.desk(name).get(page(DELIVERY, verb, delivery.pk)).status_code == 403
            assert stages.desk(name).post(page(DELIVERY, verb, delivery.pk)).status_code == 403
        assert state() == before


class TestOtherBanks:
    """D12: another bank's rows do not exist, on any address."""

    def test_every_address_of_a_delivery_is_404(self, stages: Stages, delivery: Delivery) -> None:
        carton = delivery.cartons.order_by("number")[0]
        stages.sign(delivery)
        rows = ((DELIVERY, delivery.pk), (CARTON, carton.pk), (RECEIPT, carton.receipt.pk))
        stranger, before = stages.desk("stranger"), state()
        for (model, key), verb in product(rows, ("change", "download", "confirm", "sign", "progress")):
            if model != DELIVERY and verb != "change":
                continue
            # Nobody changes rows on their own page at all.
            expected = (404, 403) if verb == "change" else (404, 404)
            address = page(model, verb, key)
            found = (stranger.get(address).status_code, stranger.post(address).status_code)
            assert found == expected, address
        assert state() == before

    def test_lists_and_filters_hold_own_rows_only(self, stages: Stages, delivery: Delivery) -> None:
        own, stranger = stages.desk("bank_clerk"), stages.desk("stranger")
        for model in (DELIVERY, CARTON):
            assert delivery.number in text(own.get(page(model, "changelist")))
            shown = text(stranger.get(page(model, "changelist"), {"number": delivery.number}))
            assert f">{delivery.number}" not in shown

    def test_a_bank_has_no_pages_of_production(self, stages: Stages, delivery: Delivery) -> None:
        bank = stages.desk("bank_clerk")
        for model in ("batch", "card", "machinefile", "stocklot", "workplan", "destructioncertificate"):
            assert bank.get(page(f"production.{model}", "changelist")).status_code == 403
        assert bank.get(page("production.batch", "change", delivery.batch_id)).status_code == 403


def test_another_supplier_sees_no_delivery(stages: Stages, delivery: Delivery) -> None:
    other: Client = stages.desk("other_planner")
    assert delivery.number not in text(other.get(page(DELIVERY, "changelist")))
