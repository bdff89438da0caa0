"""Cards in the admin: found by exact numbers only, the unknown decided by two people (D8, R-45)."""

from __future__ import annotations

from typing import Any

import pytest

from orders.personal import open_number, open_personal
from production.choices import Outcome
from production.models import Batch, Card, UnknownDecision
from tests.portal.desk import audited, last_action, page, said, text
from tests.production.stages import Stages, build_stages, set_rates

CARD, DECISION = "production.card", "production.unknowndecision"


@pytest.fixture
def stages(db: None, settings: Any) -> Stages:
    return build_stages(settings)


@pytest.fixture
def unknown(stages: Stages, settings: Any) -> Card:
    """Return a card that the line lost track of."""
    set_rates(settings, unknown=1)
    batch = stages.world.made(1)
    return Card.objects.get(batch=batch, outcome=Outcome.UNKNOWN)


def state() -> tuple[Any, ...]:
    models = (Batch, Card, UnknownDecision)
    return (audited(), *(list(model.objects.order_by("id").values_list()) for model in models))


class TestSearch:
    def test_by_serial_number_and_card_number(self, stages: Stages) -> None:
        """R-45: through blind indexes; the term is in no address and the page shows no number."""
        batch = stages.world.prepared(3)
        card = batch.cards.select_related("item__record__package").order_by("id")[1]
        record = card.item.record
        assert record is not None
        number, card_number = open_number(record), open_personal(record).card_number
        clerk = stages.desk("clerk")
        for term in (card.serial, card.serial.lower(), number, f" {number.lower()} ", card_number):
            answer = clerk.post(page(CARD, "find"), {"term": term})
            shown = text(answer)
            assert page(CARD, "change", card.pk) in shown
            assert shown.count("/admin/production/card/") <= 6
            assert number not in shown.replace(term.strip(), "")
            assert "no-store" in answer["Cache-Control"]
            others = batch.cards.exclude(pk=card.pk)
            assert not any(page(CARD, "change", other.pk) in shown for other in others)

    @pytest.mark.parametrize("term", ["FS26A", "%", "' OR 1=1 --", "440600", "\x01", "超" * 40])
    def test_a_part_of_a_number_finds_nothing(self, stages: Stages, term: str) -> None:
        stages.world.prepared(1)
        answer = stages.desk("clerk").post(page(CARD, "find"), {"term": term})
        assert "没有完全一致的卡片" in text(answer)

    def test_another_supplier_finds_nothing(self, stages: Stages) -> None:
        card = stages.world.prepared(1).cards.get()
        answer = stages.desk("other_planner").post(page(CARD, "find"), {"term": card.serial})
        assert "没有完全一致的卡片" in text(answer)


class TestUnknown:
    def test_the_list_shows_them_and_their_reason(self, stages: Stages, unknown: Card) -> None:
        shown = text(stages.desk("operator").get(page(CARD, "changelist"), {"outcome__exact": "unknown"}))
        assert unknown.serial in shown
        assert "生产线失去跟踪" in shown

    def test_a_card_is_read_again(self, stages: Stages, unknown: Card) -> None:
        """D8: a chip read-back settles an unknown card."""
        answer = stages.desk("quality").post(page(CARD, "read_again", unknown.pk))
        unknown.refresh_from_db()
        assert said(answer) == f"读卡结果：{unknown.get_outcome_display()}"
        assert last_action() in {"card.read_again", "batch.cards_settled"}

    def test_one_person_proposes_and_another_decides(self, stages: Stages, unknown: Card) -> None:
        """D8: nobody decides alone."""
        operator = stages.desk("operator")
        values = {"outcome": "rejected", "evidence": "在废卡盒中找到"}
        assert said(operator.post(page(CARD, "propose", unknown.pk), values)) == "已提出认定，须由另一人复核"
        decision = UnknownDecision.objects.get()
        before = state()
        answer = operator.post(page(DECISION, "confirm", decision.pk))
        assert answer.status_code == 409
        assert said(answer) == "须由另一人办理：同一用户不能既提出又复核（same_person）"
        assert state() == before
        assert last_action() == "second_person.refused"
        assert "提出认定" not in text(operator.get(page(CARD, "change", unknown.pk)))
        answer = stages.desk("operator_two").post(page(DECISION, "confirm", decision.pk))
        assert said(answer) == "已认定为废品"
        unknown.refresh_from_db()
        assert unknown.outcome == Outcome.REJECTED
        assert "在废卡盒中找到" in text(operator.get(page(CARD, "change", unknown.pk)))

    def test_a_refused_proposal_leaves_the_card_unknown(self, stages: Stages, unknown: Card) -> None:
        values = {"outcome": "good", "evidence": "看到了"}
        stages.desk("operator").post(page(CARD, "propose", unknown.pk), values)
        decision = UnknownDecision.objects.get()
        answer = stages.desk("quality").post(page(DECISION, "refuse", decision.pk))
        assert said(answer) == "未予认定，卡片仍为未知"
        unknown.refresh_from_db()
        assert unknown.outcome == Outcome.UNKNOWN

    def test_the_planner_decides_nothing(self, stages: Stages, unknown: Card) -> None:
        planner, before = stages.desk("planner"), state()
        for verb in ("read_again", "propose"):
            assert planner.post(page(CARD, verb, unknown.pk)).status_code == 403
        assert "重新读卡" not in text(planner.get(page(CARD, "change", unknown.pk)))
        assert state() == before
        assert last_action() == "access.refused"


class TestRoster:
    ROSTER = "production.rostermember"

    def test_people_are_added_leave_and_come_back(self, stages: Stages) -> None:
        """R-15: the roster changes on record."""
        planner, contract = stages.desk("planner"), stages.world.contract
        values = {"contract": contract.pk, "name": "丁四", "position": "打印"}
        assert said(planner.post(page(self.ROSTER, "add_person"), values)) == "丁四（打印） 已列入名册"
        member = contract.roster.get(name="丁四")
        before = audited()
        answer = planner.post(page(self.ROSTER, "add_person"), values)
        assert said(answer) == f"该姓名已在合同名册中；位置：{contract.number}；实为：丁四（conflict）"
        assert audited() == before
        assert said(planner.post(page(self.ROSTER, "leave", member.pk))) == "丁四（打印） 已离岗"
        assert (
            said(planner.post(page(self.ROSTER, "leave", member.pk))) == "人员已离岗；位置：丁四（conflict）"
        )
        assert said(planner.post(page(self.ROSTER, "come_back", member.pk))) == "丁四（打印） 已恢复在岗"
        member.refresh_from_db()
        assert member.is_active

    def test_another_suppliers_roster_is_not_there(self, stages: Stages) -> None:
        member = stages.world.roster[0]
        assert stages.desk("other_planner").post(page(self.ROSTER, "leave", member.pk)).status_code == 404
        member.refresh_from_db()
        assert member.is_active
