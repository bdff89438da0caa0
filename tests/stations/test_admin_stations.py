"""The admin of stations: registry, queue, throughput, issuances, blanks, cases, days and the journal."""

from __future__ import annotations

import io
from datetime import timedelta
from http import HTTPStatus
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from openpyxl import load_workbook

from orders.models import CardholderRecord
from portal.choices import Role
from portal.core.clock import today
from portal.models import AuditEntry, User
from stations.models import BlankRequest, EmergencyCase, Issuance, SelfTest, Station, StationBlank, StationDay
from stations.selectors import throughput
from stations.services.cases import open_case
from stations.services.issuance import confirm_look
from stations.services.registry import EnrolmentRefusedError, redeem_enrolment
from tests.portal.desk import page, said, sign_in, text
from tests.refusals import everything
from tests.stations.counter import Counter, make_counter
from tests.stations.counter_desk import PRINTER, READER, entered, made, number_and_name, report

pytestmark = pytest.mark.django_db
STATION, ISSUANCE, BLANK = "stations.station", "stations.issuance", "stations.stationblank"
REQUEST, CASE, DAY = "stations.blankrequest", "stations.emergencycase", "stations.stationday"
LISTS = (STATION, ISSUANCE, BLANK, REQUEST, CASE, DAY)


@pytest.fixture
def counter() -> Counter:
    return make_counter()


@pytest.fixture
def worked(counter: Counter) -> Counter:
    """Make one good card and one that was rejected for its face."""
    confirm_look(made(counter, counter.start()), good=True, actor=counter.operator)
    spoiled = made(counter, counter.start())
    confirm_look(spoiled, good=False, reason="print_fault", actor=counter.operator)
    report(counter.station)
    return counter


def test_a_station_shows_readers_printer_and_supplies_in_words(worked: Counter) -> None:
    report(
        worked.station,
        readers=[{**READER, "card": "mute"}],
        printer={
            **PRINTER, "state": "stopped", "reasons": ["media-empty", "door-open"],
            "supplies": [{"name": "YMCKO", "level": 9}, {"name": "清洁卷", "level": -2}],
        },
    )  # fmt: skip
    shown = text(sign_in(worked.supervisor).get(page(STATION, "change", worked.station.pk)))
    for words in ("在线", "卡片无应答", "停止", "media-empty、door-open", "9%", "打印机未报告余量", "已登记"):
        assert words in shown


def test_throughput_times_and_failures_of_a_station(worked: Counter) -> None:
    """R-24: counts per day, median and 95th percentile of writing with read-back, why cards failed."""
    (day,) = throughput(worked.station)
    assert (day.on, day.started, day.good, day.rejected, day.unknown) == (today(), 2, 1, 1, 0)
    times = sorted(Issuance.objects.values_list("total_milliseconds", flat=True))
    assert day.median == sum(times) / 2
    assert times[0] <= (day.slowest or 0) <= times[1]
    shown = text(sign_in(worked.supervisor).get(page(STATION, "change", worked.station.pk)))
    assert "卡面打印缺陷" in shown
    assert "没有未完成的卡" in shown


def test_the_queue_names_what_is_not_ended(counter: Counter) -> None:
    issuance = counter.start()
    shown = text(sign_in(counter.supervisor).get(page(STATION, "change", counter.station.pk)))
    assert f"/admin/stations/issuance/{issuance.pk}/change/" in shown


def test_an_issuance_shows_its_steps_against_the_tenders_limits(worked: Counter) -> None:
    """R-24: EF05 + EF06 + PSAM in 3 s, all writes in less than 50 s."""
    issuance = Issuance.objects.earliest("pk")
    shown = text(sign_in(worked.operator).get(page(ISSUANCE, "change", issuance.pk)))
    for words in ("识别卡片", "写卡与读回", "符合", "≤ 3.00", "≤ 50.00", "打印机报告完成", "其中平台处理"):
        assert words in shown
    for words in ("其中写卡", "≤ 30.00", "代理程序", "读写器接口分不开"):
        assert words in shown
    issuance.steps.filter(kind="identify").update(milliseconds=3001)
    assert "超出" in text(sign_in(worked.operator).get(page(ISSUANCE, "change", issuance.pk)))


class TestCredentials:
    def test_a_one_time_code_is_shown_once_and_redeemed_once(self, counter: Counter) -> None:
        answer = sign_in(counter.security).post(page(STATION, "enrol", counter.station.pk), {"_confirm": "1"})
        code = text(answer).partition('<p class="pk-secret">')[2].partition("<")[0]
        assert answer["Cache-Control"] == "no-store, private"
        assert redeem_enrolment(counter.station.code, code)
        with pytest.raises(EnrolmentRefusedError):
            redeem_enrolment(counter.station.code, code)

    def test_a_station_is_shut_out_at_once(self, counter: Counter) -> None:
        client = sign_in(counter.security)
        answer = client.post(page(STATION, "withdraw", counter.station.pk), {"_confirm": "1"})
        assert said(answer) == "凭证已收回"
        counter.station.refresh_from_db()
        assert counter.station.credential_digest is None
        before = everything()
        client.post(page(STATION, "withdraw", counter.station.pk), {"_confirm": "1"})
        assert everything() == before

    def test_only_the_security_administrator(self, counter: Counter) -> None:
        for user in (counter.operator, counter.supervisor, counter.world.clerk):
            answer = sign_in(user).post(page(STATION, "withdraw", counter.station.pk))
            assert answer.status_code == HTTPStatus.FORBIDDEN


def test_a_test_card_is_asked_for(counter: Counter) -> None:
    sign_in(counter.operator).post(page(STATION, "test_printer", counter.station.pk), {"_confirm": "1"})
    assert SelfTest.objects.get().kind == "print"


def test_a_self_test_is_asked_for_and_listed(counter: Counter) -> None:
    client = sign_in(counter.operator)
    client.post(page(STATION, "test_reader", counter.station.pk), {"_confirm": "1"})
    test = SelfTest.objects.get()
    where = page(STATION, "change", counter.station.pk)
    assert "等待结果" in text(client.get(where))
    SelfTest.objects.filter(pk=test.pk).update(
        reported_at=timezone.now(), passed=True, read_milliseconds=2140
    )
    assert "2.1" in text(client.get(where))


class TestBlanks:
    def test_a_supervisor_asks_by_lot_number_and_a_keeper_hands_out(self, counter: Counter) -> None:
        lot = StationBlank.objects.earliest("pk").lot
        supervisor = sign_in(counter.supervisor)
        asked = supervisor.post(
            reverse("admin:stations_blankrequest_ask"),
            {"station": counter.station.pk, "lot": lot.number, "quantity": 2},
        )
        assert said(asked) == "已提出领用申请，待仓管员复核"
        request = BlankRequest.objects.latest("pk")
        keeper = sign_in(counter.world.keeper)
        answer = keeper.post(page(REQUEST, "approve", request.pk), {"_confirm": "1"})
        assert said(answer) == "已同意，流水已记账"
        assert StationBlank.objects.count() == 8

    def test_a_lot_that_is_not_there_and_one_of_another_supplier_are_answered_alike(
        self, counter: Counter
    ) -> None:
        """D12: whose lots there are is told to nobody."""
        client = sign_in(counter.supervisor)
        before = everything()
        answer = client.post(
            reverse("admin:stations_blankrequest_ask"),
            {"station": counter.station.pk, "lot": "NO-SUCH", "quantity": 2},
        )
        assert answer.status_code == HTTPStatus.UNPROCESSABLE_ENTITY
        assert "没有这个白卡批" in text(answer)
        assert everything() == before

    def test_a_blank_is_sent_back_with_a_reason(self, counter: Counter) -> None:
        blank = StationBlank.objects.earliest("pk")
        client = sign_in(counter.supervisor)
        assert client.post(page(BLANK, "send_back", blank.pk), {"reason": ""}).status_code == 422
        client.post(page(BLANK, "send_back", blank.pk), {"reason": "划伤"})
        blank.refresh_from_db()
        assert blank.status == "returned"


class TestCases:
    @pytest.fixture
    def case(self, counter: Counter) -> EmergencyCase:
        return open_case(entered(), station=counter.station, reason="住院急用", actor=counter.operator)

    def test_the_list_shows_the_person_masked_only(self, counter: Counter, case: EmergencyCase) -> None:
        person = entered()
        for where in (page(CASE, "changelist"), page(CASE, "change", case.pk)):
            shown = text(sign_in(counter.supervisor).get(where))
            assert person.masked[0] in shown
            for secret in (person.row["AAC002"], person.row["AAC003"], person.account):
                assert secret not in shown

    def test_the_second_person_looks_then_approves(self, counter: Counter, case: EmergencyCase) -> None:
        client = sign_in(counter.supervisor)
        answer = client.post(page(CASE, "look", case.pk), {"_confirm": "1"})
        assert "data:image/jpeg;base64," in text(answer)
        assert entered().row["AAC002"] in text(answer)
        assert answer["Cache-Control"] == "no-store, private"
        assert AuditEntry.objects.latest("position").action == "emergencycase.viewed"
        client.post(page(CASE, "approve", case.pk), {"text": ""})
        assert CardholderRecord.objects.get().status == "matched"
        operator = sign_in(counter.operator)
        report(counter.station)
        token = operator.get("/admin/counter/").context["approved"][0][1]
        assert operator.post("/admin/counter/person/", {"person": token}).context["match"].is_ready

    def test_a_case_is_refused_with_a_reason(self, counter: Counter, case: EmergencyCase) -> None:
        client = sign_in(counter.supervisor)
        assert client.post(page(CASE, "refuse", case.pk), {"text": ""}).status_code == 422
        client.post(page(CASE, "refuse", case.pk), {"text": "证件不符"})
        case.refresh_from_db()
        assert (case.status, case.decision_text) == ("refused", "证件不符")

    def test_the_operator_neither_looks_nor_decides(self, counter: Counter, case: EmergencyCase) -> None:
        client = sign_in(counter.operator)
        for verb in ("look", "approve", "refuse"):
            assert client.post(page(CASE, verb, case.pk), {"text": "x"}).status_code == HTTPStatus.FORBIDDEN

    def test_the_form_keeps_what_was_typed_and_says_what_is_wrong(self, counter: Counter) -> None:
        client = sign_in(counter.operator)
        row = entered(AAZ500="!").row
        picture = io.BytesIO(entered().photo)
        picture.name = "photo.jpg"
        before = everything()
        answer = client.post(
            "/admin/counter/case/",
            {**row, "account": "6222021234567890123", "reason": "急", "photo": picture},
        )
        assert answer.status_code == HTTPStatus.CONFLICT
        assert "AAZ500" in answer.context["form"].errors
        assert row["AAC002"] in text(answer)
        assert everything() == before
        assert "camera=(self)" in answer["Permissions-Policy"]
        assert "camera=()" in client.get("/admin/counter/")["Permissions-Policy"]


class TestDay:
    def count(self, client: Client, station: Station, counted: Any) -> Any:
        given = {"station": station.pk, "counted": counted}
        return client.post(reverse("admin:stations_stationday_count"), given)

    def test_the_form_is_empty_and_names_no_figure(self, worked: Counter) -> None:
        """R-21: blind; before the count the page shows nothing of the ledger."""
        client = sign_in(worked.supervisor)
        form = client.get(reverse("admin:stations_stationday_count")).context["form"]
        assert form["counted"].value() is None
        answer = self.count(client, worked.station, 5)
        assert answer.status_code == HTTPStatus.CONFLICT
        assert said(answer) == "清点数与系统账不符，请重新清点；位置：一号柜台；实为：5（day_count_differs）"
        assert not StationDay.objects.exists()

    @pytest.mark.parametrize("counted", ["", "-1", "x", "1e9", "99999999999"])
    def test_counts_that_are_none_are_refused(self, worked: Counter, counted: str) -> None:
        answer = self.count(sign_in(worked.supervisor), worked.station, counted)
        assert answer.status_code == HTTPStatus.UNPROCESSABLE_ENTITY

    def test_the_right_count_closes_the_day_and_leads_to_its_journal(self, worked: Counter) -> None:
        client = sign_in(worked.supervisor)
        assert "已日结，数量相符" in said(self.count(client, worked.station, 4))
        day = StationDay.objects.get()
        shown = text(client.post(page(DAY, "show_journal", day.pk), {"_confirm": "1"}))
        assert "制卡日志，共 2 张" in shown
        assert "卡面打印缺陷" in shown


class TestJournal:
    def test_the_workbook_is_masked_and_audited(self, worked: Counter) -> None:
        client = sign_in(worked.supervisor)
        answer = client.post(
            page(STATION, "download_journal", worked.station.pk), {"on": today().isoformat()}
        )
        sheet = load_workbook(io.BytesIO(answer.getvalue())).active
        cells = [[cell.value for cell in row] for row in sheet.iter_rows()]
        written = "".join(str(value) for row in cells for value in row)
        for record in CardholderRecord.objects.select_related("package"):
            number, name = number_and_name(record)
            assert number not in written
            assert name not in written
        assert [row[7] for row in cells[-2:]] == ["良品", "废品"]
        entry = AuditEntry.objects.latest("position")
        assert (entry.action, entry.details) == (
            "station.journal_exported", {"on": today().isoformat(), "rows": 2},
        )  # fmt: skip

    def test_a_day_without_cards_has_an_empty_journal(self, worked: Counter) -> None:
        client = sign_in(worked.supervisor)
        on = (today() - timedelta(days=3)).isoformat()
        assert "当天没有制卡" in text(
            client.post(page(STATION, "show_journal", worked.station.pk), {"on": on})
        )


class TestWhoSeesWhat:
    @pytest.mark.parametrize("role", [role for role in Role if role != Role.CARD_SYSTEM])
    def test_lists_open_for_those_whose_role_says_so(self, worked: Counter, role: str) -> None:
        homes = {"supplier": worked.world.keeper, "warehouse": worked.world.keeper}
        homes |= {"bank": worked.supervisor, "counter": worked.supervisor}
        home = homes.get(role.partition("_")[0], worked.world.clerk)
        user = User.objects.create(
            username="looker", organisation=home.organisation, roles=[role], is_staff=True
        )
        client = sign_in(user)
        for label in LISTS:
            app, model = label.split(".")
            expected = HTTPStatus.OK if user.has_perm(f"{app}.view_{model}") else HTTPStatus.FORBIDDEN
            assert client.get(page(label, "changelist")).status_code == expected, (role, label)

    def test_another_bank_sees_nothing(self, worked: Counter) -> None:
        """D12: empty lists, and rows that are not there."""
        case = open_case(entered(), station=worked.station, reason="急", actor=worked.operator)
        day_client = sign_in(worked.supervisor)
        TestDay().count(day_client, worked.station, 4)
        other = User.objects.create(
            username="elsewhere", organisation=worked.world.other_planner.organisation, is_staff=True,
            roles=[Role.COUNTER_OPERATOR, Role.COUNTER_SUPERVISOR],
        )  # fmt: skip
        client = sign_in(other)
        rows = {
            STATION: worked.station, ISSUANCE: Issuance.objects.earliest("pk"), CASE: case,
            BLANK: StationBlank.objects.earliest("pk"), REQUEST: BlankRequest.objects.get(),
            DAY: StationDay.objects.get(),
        }  # fmt: skip
        for label, row in rows.items():
            assert client.get(page(label, "changelist")).context["cl"].result_count == 0, label
            assert client.get(page(label, "change", row.pk)).status_code == HTTPStatus.NOT_FOUND, label
