"""The counter's page: from a person's number to the card in the hand, and every refusal in words (R-14)."""

from __future__ import annotations

from datetime import timedelta
from http import HTTPStatus
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from orders.models import CardholderRecord
from portal.choices import Role
from portal.models import AuditEntry, Organisation, User
from production.models import Card
from stations.models import Issuance, Station, StationBlank
from stations.virtual.faults import parse_fault
from tests.portal.desk import said, sign_in, text
from tests.refusals import actions, everything
from tests.stations.counter import Counter, make_counter
from tests.stations.counter_desk import (
    ADDRESS,
    PRINTER,
    READER,
    browser_of,
    found,
    made,
    number_and_name,
    report,
    started,
)

pytestmark = pytest.mark.django_db


@pytest.fixture
def counter() -> Counter:
    return make_counter()


@pytest.fixture
def client(counter: Counter) -> Client:
    return browser_of(counter)


def stranger(counter: Counter, role: str = Role.COUNTER_OPERATOR) -> User:
    """Return somebody of a role at another supplier."""
    home = counter.world.other_planner.organisation
    return User.objects.create(username="stranger", organisation=home, roles=[role], is_staff=True)


class TestComingIn:
    @pytest.mark.parametrize("role", [role for role in Role if role != Role.CARD_SYSTEM])
    def test_the_page_is_for_the_counters_roles(self, counter: Counter, role: str) -> None:
        home = counter.world.bank if role.startswith("counter") else counter.world.clerk.organisation
        user = User.objects.create(username="someone", organisation=home, roles=[role], is_staff=True)
        expected = HTTPStatus.OK if role.startswith("counter") else HTTPStatus.FORBIDDEN
        assert sign_in(user).get(ADDRESS).status_code == expected

    def test_it_stands_in_the_navigation_and_on_the_start_page(self, counter: Counter) -> None:
        for user in (counter.operator, counter.supervisor):
            assert f'href="{ADDRESS}"' in text(sign_in(user).get("/admin/"))
        assert f'href="{ADDRESS}"' not in text(sign_in(counter.world.clerk).get("/admin/"))

    def test_the_only_station_is_chosen_and_one_of_several_is_remembered(
        self, counter: Counter, client: Client
    ) -> None:
        assert "一号柜台" in text(client.get(ADDRESS))
        second = Station.objects.create(
            code="c-2", name="二号柜台", place="佛山", operator=counter.world.bank
        )
        assert "本机是哪个制卡点" in text(client.get(ADDRESS))
        answer = client.post(f"{ADDRESS}station/", {"station": second.code})
        cookie = answer.cookies["counter_station"]
        assert (cookie.value, cookie["httponly"], cookie["samesite"]) == ("c-2", True, "Strict")
        assert "二号柜台" in text(client.get(ADDRESS))
        client.post(f"{ADDRESS}station/", {"station": "nowhere"})
        assert "二号柜台" in text(client.get(ADDRESS))

    def test_another_organisations_station_is_not_there(self, counter: Counter) -> None:
        browser = sign_in(stranger(counter))
        assert "一号柜台" not in text(browser.get(ADDRESS))
        browser.cookies["counter_station"] = counter.station.code
        assert "一号柜台" not in text(browser.get(ADDRESS))
        answer = browser.post(f"{ADDRESS}find/", {"number": number_and_name(counter.record())[0]})
        assert answer.status_code == HTTPStatus.FOUND
        assert said(answer) == "请先选择制卡点（input_refused）"


class TestFinding:
    def test_by_number_masked_audited_and_nothing_in_the_address(
        self, counter: Counter, client: Client
    ) -> None:
        """R-45: the number goes in the body; the answer and the audit hold none of it."""
        record = counter.record()
        number, name = number_and_name(record)
        answer = found(client, record)
        assert (answer.status_code, answer.request["QUERY_STRING"]) == (HTTPStatus.OK, "")
        shown = text(answer)
        assert number not in shown
        assert name not in shown
        assert f"{number[:4]}**********{number[-4:]}" in shown
        entry = AuditEntry.objects.get(action="issuance.person_searched")
        assert entry.details == {"found": 1, "person": bytes(record.number_index).hex()}
        assert answer["Cache-Control"] == "no-store, private"

    def test_number_and_name_must_both_fit(self, counter: Counter, client: Client) -> None:
        number, name = number_and_name(counter.record())
        for given, status in ((name, HTTPStatus.OK), ("王不是", HTTPStatus.NOT_FOUND)):
            answer = client.post(f"{ADDRESS}find/", {"number": number, "name": given})
            assert answer.status_code == status
        assert "没有相符的记录" in text(answer)

    def test_nothing_typed_is_refused_and_not_audited(self, client: Client) -> None:
        before = actions()
        for given in ({}, {"number": "  "}):
            answer = client.post(f"{ADDRESS}find/", given)
            assert answer.status_code == HTTPStatus.UNPROCESSABLE_ENTITY
            assert "请输入社会保障号码" in text(answer)
        assert actions() == before

    def test_a_record_of_another_bank_is_as_if_it_were_not_there(
        self, counter: Counter, client: Client
    ) -> None:
        """D12: a bank's counter finds its own bank's people only."""
        record = counter.record()
        other = Organisation.objects.create(kind="bank", code="95599", name="农业银行", short_name="农行")
        type(record).objects.filter(pk=record.pk).update(bank=other)
        answer = found(client, record)
        assert answer.status_code == HTTPStatus.NOT_FOUND
        assert "没有相符的记录" in text(answer)

    @pytest.mark.parametrize(
        ("status", "words"),
        [
            ("accepted", "尚未匹配银行账号"),
            ("returned", "数据有误，已退回补录"),
            ("ordered", "已下单，由工厂制作"),
        ],
    )
    def test_a_person_who_is_not_ready_is_shown_with_the_reason(
        self, counter: Counter, client: Client, status: str, words: str
    ) -> None:
        record = counter.record()
        if status == "ordered":
            record = CardholderRecord.objects.select_related("package").get(order=counter.world.order(1))
        else:
            CardholderRecord.objects.filter(pk=record.pk).update(status=status)
        answer = found(client, record)
        assert words in text(answer)
        assert 'name="person"' not in text(answer)

    def test_what_one_person_found_another_cannot_send_in(self, counter: Counter, client: Client) -> None:
        token = found(client, counter.record()).context["token"]
        colleague = User.objects.create(
            username="second", organisation=counter.world.bank, roles=[Role.COUNTER_OPERATOR], is_staff=True
        )
        for browser, given in ((sign_in(colleague), token), (client, f"{token}x"), (client, "")):
            rows = everything()
            answer = browser.post(f"{ADDRESS}start/", {"person": given, "serial": counter.blank()})
            assert said(answer) == "页面已过期，请重新查找（choice_stale）"
            assert everything() == rows


class TestStarting:
    def test_a_card_is_started_and_its_page_says_which_blank_to_insert(
        self, counter: Counter, client: Client
    ) -> None:
        serial = counter.blank()
        answer = started(client, counter.record(), f" {serial.lower()} ")
        issuance = Issuance.objects.get()
        assert answer["Location"] == f"{ADDRESS}issuances/{issuance.pk}/"
        shown = text(client.get(answer["Location"]))
        assert f"请将白卡 {serial} 放入读写器" in shown
        assert 'aria-live="polite"' in shown

    @pytest.mark.parametrize(
        ("devices", "words"),
        [
            (None, "制卡点离线：代理程序没有心跳"),
            ({"readers": []}, "没有读写器"),
            ({"readers": [{**READER, "card": "present"}] * 2}, "读写器中有两张卡"),
            ({"printer": None}, "没有打印机"),
            ({"printer": {**PRINTER, "state": "unreachable"}}, "没有打印机"),
        ],
    )
    def test_a_station_that_is_not_ready_starts_nothing(
        self, counter: Counter, client: Client, devices: dict[str, Any] | None, words: str
    ) -> None:
        """A station without a reader shows so and refuses; no blank is spent."""
        record = counter.record()
        if devices is None:
            Station.objects.update(last_seen_at=timezone.now() - timedelta(minutes=1))
        else:
            report(counter.station, **devices)
        assert words in text(client.get(ADDRESS))
        token, before = found(client, record).context["token"], everything()
        answer = client.post(f"{ADDRESS}start/", {"person": token, "serial": counter.blank()})
        assert answer.status_code == HTTPStatus.CONFLICT
        assert f"{words}" in text(answer)
        assert "station_not_ready" in text(answer)
        assert everything() == before

    @pytest.mark.parametrize(
        ("devices", "words"),
        [
            ({"printer": {**PRINTER, "state": "stopped", "reasons": ["media-empty"]}}, "打印机停止"),
            (
                {
                    "readers": [
                        {**READER, "card": "present", "used": True},
                        {"name": "PSAM", "card": "present", "used": False},
                    ],
                    "printer": {**PRINTER, "state": "stopped"},
                },
                "打印机停止",
            ),
        ],
    )
    def test_lesser_troubles_are_shown_but_stop_nothing(
        self, counter: Counter, client: Client, devices: dict[str, Any], words: str
    ) -> None:
        report(counter.station, **devices)
        assert words in text(client.get(ADDRESS))
        assert started(client, counter.record(), counter.blank()).status_code == HTTPStatus.FOUND

    def test_a_blank_that_is_not_in_the_drawer_is_refused_on_the_page(
        self, counter: Counter, client: Client
    ) -> None:
        record = counter.record()
        for serial in ("", "CT26A9999999999", "<script>", "\x00"):
            token, before = found(client, record).context["token"], everything()
            answer = client.post(f"{ADDRESS}start/", {"person": token, "serial": serial})
            assert answer.status_code == HTTPStatus.CONFLICT
            assert "本制卡点没有这张可用的白卡" in text(answer)
            assert "<script>" not in text(answer).partition("counter-bad")[2]
            assert everything() == before

    def test_the_second_click_is_told_that_the_station_is_busy(
        self, counter: Counter, client: Client
    ) -> None:
        records = [counter.record(), counter.record()]
        tokens = [found(client, record).context["token"] for record in records]
        serials = counter.blanks[:2]
        first = client.post(f"{ADDRESS}start/", {"person": tokens[0], "serial": serials[0]})
        second = client.post(f"{ADDRESS}start/", {"person": tokens[1], "serial": serials[1]})
        assert (first.status_code, second.status_code) == (HTTPStatus.FOUND, HTTPStatus.CONFLICT)
        assert "station_busy" in text(second)
        assert StationBlank.objects.filter(status="used").count() == 1


class TestWatching:
    @pytest.fixture
    def issuance(self, counter: Counter, client: Client) -> Issuance:
        started(client, counter.record(), counter.blank())
        return Issuance.objects.get()

    def live(self, client: Client, issuance: Issuance) -> str:
        return text(client.get(f"{ADDRESS}issuances/{issuance.pk}/live/"))

    def test_a_wrong_card_is_named_and_spends_nothing(
        self, counter: Counter, client: Client, issuance: Issuance
    ) -> None:
        agent = counter.agent()
        agent.insert(counter.blanks[3])
        agent.make(issuance)
        assert "请换成所选序列号的白卡" in self.live(client, issuance)

    def test_the_whole_way_to_the_receipt(self, counter: Counter, client: Client, issuance: Issuance) -> None:
        """R-14, R-24: steps with times, the face to compare with, the look, a masked receipt."""
        made(counter, issuance)
        shown = self.live(client, issuance)
        for words in ("确认外观", "识别卡片", "写卡与读回", "秒", f"issuances/{issuance.pk}/face/"):
            assert words in shown
        picture = client.get(f"{ADDRESS}issuances/{issuance.pk}/face/")
        assert (picture["Content-Type"], picture["Cache-Control"]) == ("image/jpeg", "no-store, private")
        assert picture.content[:2] == b"\xff\xd8"
        assert actions()[-1] == "issuance.face_viewed"
        client.post(f"{ADDRESS}issuances/{issuance.pk}/look/", {"good": "yes"})
        assert "制卡成功，请将卡交给本人" in self.live(client, issuance)
        receipt = text(client.get(f"{ADDRESS}issuances/{issuance.pk}/receipt/"))
        record = issuance.card.item.record
        assert record is not None
        number, name = number_and_name(record)
        assert number not in receipt
        assert name not in receipt
        assert issuance.card.serial in receipt
        assert client.get(f"{ADDRESS}issuances/{issuance.pk}/face/").status_code == HTTPStatus.NOT_FOUND

    def test_a_rejected_look_needs_a_reason_and_leads_to_a_new_blank(
        self, counter: Counter, client: Client, issuance: Issuance
    ) -> None:
        made(counter, issuance)
        look = f"{ADDRESS}issuances/{issuance.pk}/look/"
        for reason in ("", "because"):
            before = everything()
            answer = client.post(look, {"good": "no", "reason": reason})
            assert "须选择不合格原因" in said(answer)
            assert everything() == before
        client.post(look, {"good": "no", "reason": "print_fault"})
        shown = self.live(client, issuance)
        assert "作废，请剪角后放入废卡盒" in shown
        again = client.get(f"{ADDRESS}issuances/{issuance.pk}/").context["again"]
        page = client.post(f"{ADDRESS}person/", {"person": again})
        assert page.context["match"].is_ready
        serial = counter.blanks[1]
        answer = client.post(f"{ADDRESS}start/", {"person": page.context["token"], "serial": serial})
        assert answer.status_code == HTTPStatus.FOUND
        second = made(counter, Issuance.objects.latest("pk"))
        client.post(f"{ADDRESS}issuances/{second.pk}/look/", {"good": "yes"})
        assert sorted(Card.objects.values_list("outcome", flat=True)) == ["good", "rejected"]

    def test_two_people_who_confirm_at_once(
        self, counter: Counter, client: Client, issuance: Issuance
    ) -> None:
        made(counter, issuance)
        look = f"{ADDRESS}issuances/{issuance.pk}/look/"
        client.post(look, {"good": "yes"})
        rows = everything()
        answer = client.post(look, {"good": "no", "reason": "print_fault"})
        assert "transition_refused" in said(answer)
        assert everything() == rows

    def test_an_unknown_card_is_explained_read_again_and_becomes_good(
        self, counter: Counter, client: Client, issuance: Issuance
    ) -> None:
        """D8: pulled in the middle; inserted again its content decides."""
        agent = counter.agent()
        card = agent.insert(issuance.card.serial, faults=[parse_fault("pulled@200")])
        agent.make(issuance)
        issuance.refresh_from_db()
        assert (issuance.status, card is not None) == ("unknown", True)
        shown = self.live(client, issuance)
        assert "不要把这张卡交给本人，也不要丢弃" in shown
        assert "两人认定" in shown
        record = issuance.card.item.record
        assert record is not None
        assert "上一张卡结果未知" in text(found(client, record))
        client.post(f"{ADDRESS}issuances/{issuance.pk}/read-again/")
        assert f"请将结果未知的卡 {issuance.card.serial} 再次放入读写器" in self.live(client, issuance)

    def test_cancelled_before_a_card_was_inserted(self, client: Client, issuance: Issuance) -> None:
        client.post(f"{ADDRESS}issuances/{issuance.pk}/cancel/")
        assert "已取消" in self.live(client, issuance)

    def test_nobody_of_another_organisation_sees_it(self, counter: Counter, issuance: Issuance) -> None:
        """D12: every page of it is not there."""
        browser = sign_in(stranger(counter))
        place = f"{ADDRESS}issuances/{issuance.pk}/"
        for page in ("", "live/", "face/", "receipt/"):
            assert browser.get(place + page).status_code == HTTPStatus.NOT_FOUND
        rows = everything()
        for page in ("look/", "cancel/", "read-again/"):
            assert browser.post(place + page, {"good": "yes"}).status_code == HTTPStatus.NOT_FOUND
        assert everything() == rows

    def test_the_supervisor_watches_but_works_no_card(self, counter: Counter, issuance: Issuance) -> None:
        browser = sign_in(counter.supervisor)
        place = f"{ADDRESS}issuances/{issuance.pk}/"
        assert browser.get(place).status_code == HTTPStatus.OK
        for page in ("look/", "cancel/", "read-again/"):
            assert browser.post(place + page).status_code == HTTPStatus.FORBIDDEN
        assert browser.get(f"{place}face/").status_code == HTTPStatus.FORBIDDEN

    def test_a_session_that_ended_is_led_to_sign_in(self, client: Client, issuance: Issuance) -> None:
        client.logout()
        answer = client.get(f"{ADDRESS}issuances/{issuance.pk}/live/")
        assert answer["Location"].startswith("/admin/login/")
