"""Quality's pages: defects recorded, rates against 0.1 %, holds released by another person (R-26, R-31)."""

from __future__ import annotations

from typing import Any

import pytest

from production.choices import BatchStatus
from production.models import Batch
from quality.models import Defect, DefectCode, Hold, Inspection
from quality.services.defects import ensure_codes
from tests.portal.desk import audited, page, said, text
from tests.production.stages import Stages, build_stages, set_rates

HOLD, CARD, BATCH = "quality.hold", "production.card", "production.batch"


@pytest.fixture
def stages(db: None, settings: Any) -> Stages:
    return build_stages(settings)


def state() -> tuple[Any, ...]:
    models = (Batch, Hold, Defect)
    return (audited(), *(list(model.objects.order_by("id").values_list()) for model in models))


class TestRate:
    def test_a_batch_above_the_limit_is_held_and_says_why(self, stages: Stages, settings: Any) -> None:
        """R-26: strictly above 0.1 % fails; the page shows rate, limit and the hold."""
        set_rates(settings, bad=1)
        batch = stages.inspected(2)
        assert batch.held_reason == "错卡、坏卡率 100.000 %，超过 0.1 %（2/2）"
        quality = stages.desk("quality")
        for address in (
            page("quality.inspection", "changelist"),
            page("quality.inspection", "change", Inspection.objects.get(pass_number=1).pk),
            page(BATCH, "change", batch.pk),
            page(HOLD, "change", Hold.objects.get().pk),
        ):
            assert "100.000 %　超过 0.1 %" in text(quality.get(address))
        shown = text(quality.get(page("quality.defect", "changelist"), {"batch": batch.number}))
        assert shown.count("坏卡") >= 2

    def test_the_one_who_placed_a_hold_cannot_release_it(self, stages: Stages) -> None:
        batch = stages.world.released(2)
        hold = Hold.objects.create(batch=batch, reason="样", placed_by=stages.world.approver)
        before = state()
        answer = stages.desk("approver").post(page(HOLD, "release", hold.pk), {"measure": "已处理"})
        assert answer.status_code == 409
        assert said(answer) == "须由另一人办理：同一用户不能既提出又复核（same_person）"
        assert state() == before

    def test_the_supplier_cannot_release(self, stages: Stages) -> None:
        batch = stages.world.released(2)
        hold = Hold.objects.create(batch=batch, reason="样", placed_by=stages.world.operator)
        before = state()
        assert (
            stages.desk("quality").post(page(HOLD, "release", hold.pk), {"measure": "x"}).status_code == 403
        )
        assert "解除冻结" not in text(stages.desk("quality").get(page(HOLD, "change", hold.pk)))
        assert state() == before

    def test_a_second_hold_is_refused(self, stages: Stages) -> None:
        batch = stages.world.released(2)
        quality = stages.desk("quality")
        assert said(quality.post(page(BATCH, "hold", batch.pk), {"reason": "划痕"})) == "批次已冻结"
        before = state()
        answer = quality.post(page(BATCH, "hold", batch.pk), {"reason": "划痕"})
        assert said(answer) == f"该批次已冻结；位置：{batch}（conflict）"
        assert state() == before


class TestInspection:
    def test_it_is_offered_only_after_the_line(self, stages: Stages) -> None:
        batch = stages.world.prepared(2)
        quality = stages.desk("quality")
        assert "读回检验" not in text(quality.get(page(BATCH, "change", batch.pk)))
        before = state()
        answer = quality.post(page(BATCH, "inspect", batch.pk))
        assert said(answer) == (
            f"批次 {batch} 当前状态不能检验；应为：检验中；实为：待上机（transition_refused）"
        )
        assert state() == before
        assert stages.desk("operator").post(page(BATCH, "inspect", batch.pk)).status_code == 403
        batch.refresh_from_db()
        assert batch.status == BatchStatus.PREPARED


class TestDefects:
    def test_a_person_records_what_the_eye_found(self, stages: Stages) -> None:
        """R-21: every wrong or scrapped card is registered, once."""
        ensure_codes()
        card = stages.inspected(2).cards.order_by("id")[0]
        quality = stages.desk("quality")
        values = {"code": "scratch", "found_at": "body", "note": "背面"}
        assert said(quality.post(page(CARD, "add_defect", card.pk), values)) == "已登记缺陷：划痕超限"
        defect = Defect.objects.get()
        assert (defect.kind, defect.liability, defect.found_by) == (
            "bad_card",
            "supplier",
            stages.world.quality,
        )
        assert "划痕超限" in text(quality.get(page(CARD, "change", card.pk)))
        assert "登记缺陷" not in text(quality.get(page(CARD, "change", card.pk)))
        before = state()
        answer = quality.post(page(CARD, "add_defect", card.pk), values)
        assert said(answer) == f"该卡已登记缺陷；位置：{card.serial}（conflict）"
        assert state() == before

    def test_codes_are_listed_with_kind_and_liability(self, stages: Stages) -> None:
        """R-20: liability decides billing."""
        ensure_codes()
        shown = text(stages.desk("approver").get(page("quality.defectcode", "changelist")))
        assert all(code.name in shown for code in DefectCode.objects.all())
        assert "源数据" in shown
