"""The audit's pages: entries found, read, verified and taken out (issue 3, Audit; R-46)."""

from __future__ import annotations

import csv
import io
from datetime import timedelta
from http import HTTPStatus
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from orders.personal import number_index
from portal.audit import client_address, record_alone, unit_of_work, verify_chain
from portal.audit_labels import action_label
from portal.choices import Role
from portal.core.audit_file import check_file
from portal.models import AuditAnchor, AuditEntry, Organisation, User
from portal.roles import PERMISSIONS
from portal.services.audit import pseudonym
from tests.portal.desk import audited, last_action, make_person, page, said, sign_in, text
from tests.refusals import actions

pytestmark = pytest.mark.django_db
LISTING = "portal.auditentry"
NUMBER = "440601199001011234"
MANY = 40_000


@pytest.fixture
def purchaser() -> Organisation:
    return Organisation.objects.create(kind="purchaser", code="HRSS", name="采购人", short_name="采购人")


@pytest.fixture
def auditor(purchaser: Organisation) -> Client:
    return sign_in(make_person(Role.AUDITOR, purchaser))


@pytest.fixture
def clerk(purchaser: Organisation) -> User:
    return make_person(Role.PURCHASER_CLERK, purchaser, "root1")


def listed(client: Client, **query: Any) -> str:
    return text(client.get(page(LISTING, "changelist"), query))


@pytest.mark.parametrize(
    "query",
    [
        {"actor_name": "root1"},
        {"action": "package.refused"},
        {"object_type": "portal.user"},
        {"organisation_code": "HRSS"},
        {"address": "192.0.2.1"},
        {"result": "failed"},
        {"before": "2"},
    ],
)
def test_entries_are_found_by(auditor: Client, clerk: User, query: dict[str, str]) -> None:
    token = client_address.set("192.0.2.1")
    record_alone("package.refused", actor=clerk, subject=clerk, result="failed", code="x")
    client_address.reset(token)
    record_alone("sign_in.locked", actor=None)
    shown = listed(auditor, **query)
    assert f"{action_label('package.refused')}</td>" in shown
    assert f"{action_label('sign_in.locked')}</td>" not in shown


def test_a_period_is_kept(auditor: Client, clerk: User) -> None:
    record_alone("package.refused", actor=clerk)
    tomorrow = timezone.localtime() + timedelta(days=1)
    assert f"{action_label('package.refused')}</td>" in listed(auditor)
    later = {"at_from_0": f"{tomorrow:%Y-%m-%d}", "at_from_1": "00:00:00"}
    assert f"{action_label('package.refused')}</td>" not in listed(auditor, **later)


def test_a_person_is_found_by_a_number_that_stands_in_no_address(auditor: Client, clerk: User) -> None:
    """The number is sent in the body; address, list and audit hold the pseudonym only."""
    record_alone("record.unmasked", actor=clerk, person=pseudonym(NUMBER))
    record_alone("record.unmasked", actor=clerk, person=pseudonym("110101199001011237"), reason="other")
    answer = auditor.post(page(LISTING, "find_person"), {"number": f" {NUMBER} "})
    assert answer.status_code == HTTPStatus.FOUND
    assert answer["Location"] == f"{page(LISTING, 'changelist')}?person={pseudonym(NUMBER)}"
    shown = text(auditor.get(answer["Location"]))
    assert shown.count("持卡人记录：查看明文</td>") == 1
    newest = AuditEntry.objects.first()
    assert newest is not None
    assert (newest.action, newest.details) == ("audit.person_searched", {"person": pseudonym(NUMBER)})
    assert NUMBER not in answer["Location"] + shown


@pytest.mark.parametrize("number", [NUMBER, f" {NUMBER} ", "44060119900101123x", "12345"])
def test_the_pseudonym_is_the_index_of_records(number: str) -> None:
    """What the kernel computes for auditors is what the orders app writes into entries."""
    assert pseudonym(number) == number_index(number).hex()


def test_an_empty_number_is_asked_again(auditor: Client) -> None:
    before = audited()
    answer = auditor.post(page(LISTING, "find_person"), {"number": ""})
    assert answer.status_code == HTTPStatus.UNPROCESSABLE_ENTITY
    assert audited() == before


def test_before_and_after_stand_side_by_side(auditor: Client, clerk: User) -> None:
    with unit_of_work(clerk) as work:
        sides = {"before": {"roles": ["auditor"], "active": True}, "after": {"roles": [], "active": False}}
        work.record("user.changed", clerk, **sides, organisation="HRSS")
    shown = text(auditor.get(page(LISTING, "change", 1)))
    assert "<td>启用</td><td>是</td><td>否</td>" in shown
    assert "<td>角色</td><td>auditor</td><td>-</td>" in shown
    assert "<td>单位</td><td>HRSS</td>" in shown


def test_the_chain_is_verified(auditor: Client, clerk: User) -> None:
    record_alone("one", actor=clerk)
    answer = auditor.post(page(LISTING, "verify"))
    assert "共核对 1 条记录、0 个锚点，审计链完整" in text(answer)
    assert last_action() == "audit.verified"


def test_a_break_is_named(auditor: Client, clerk: User) -> None:
    record_alone("one", actor=clerk)
    record_alone("two", actor=clerk)
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE portal_auditentry DISABLE TRIGGER USER")
        cursor.execute("UPDATE portal_auditentry SET action = 'forged' WHERE position = 2")
        cursor.execute("ALTER TABLE portal_auditentry ENABLE TRIGGER USER")
    assert "第 2 条：内容被修改" in text(auditor.post(page(LISTING, "verify")))
    newest = AuditEntry.objects.first()
    assert newest is not None
    assert (newest.action, newest.result) == ("audit.verified", "failed")


class TestExport:
    def take_out(self, auditor: Client, **values: str) -> Any:
        return auditor.post(page(LISTING, "export"), {"form": "csv", **values})

    def test_csv_is_an_attachment_without_formulas_that_verifies(self, auditor: Client, clerk: User) -> None:
        record_alone("=cmd()", actor=clerk, quote="'")
        record_alone("'quoted", actor=None)
        answer = self.take_out(auditor)
        assert answer["Content-Disposition"].startswith('attachment; filename="audit-')
        exported = b"".join(answer.streaming_content).decode("utf-8-sig")
        lines = list(csv.reader(io.StringIO(exported, newline="")))
        assert lines[0][:3] == ["序号", "时间", "用户"]
        assert [line[5] for line in lines[1:]] == ["'=cmd()", "''quoted"]
        assert last_action() == "audit.exported"
        verdict = check_file(io.StringIO(exported, newline=""))
        assert (verdict.holds, verdict.report.checked) == (True, 2)

    def test_excel_holds_the_same_rows(self, auditor: Client, clerk: User) -> None:
        from python_calamine import CalamineWorkbook

        record_alone("=cmd()", actor=clerk)
        answer = self.take_out(auditor, form="xlsx")
        book = CalamineWorkbook.from_filelike(io.BytesIO(b"".join(answer.streaming_content)))
        rows = book.get_sheet_by_index(0).to_python()
        assert rows[2][:3] == ["序号", "时间", "用户"]
        assert [row[5] for row in rows[3:]] == ["'=cmd()"]

    def test_a_period_without_entries_is_refused(self, auditor: Client) -> None:
        before = audited()
        answer = self.take_out(auditor, begins_on="2020-01-01", ends_on="2020-01-31")
        assert said(answer) == "这段时间没有审计记录（audit_range）"
        assert audited() == before

    def test_a_period_is_a_stretch_that_verifies_by_itself(self, auditor: Client, clerk: User) -> None:
        for number in range(3):
            record_alone("one", actor=clerk, number=number)
        today = f"{timezone.localdate()}"
        exported = b"".join(self.take_out(auditor, begins_on=today).streaming_content).decode("utf-8-sig")
        lines = exported.splitlines(keepends=True)
        part = check_file(io.StringIO("".join([lines[0], *lines[2:]]), newline=""))
        assert (part.holds, part.report.checked, part.report.last) == (True, 2, 3)


class TestAnchors:
    def test_an_auditor_signs_and_takes_them_out(self, auditor: Client, clerk: User) -> None:
        record_alone("one", actor=clerk)
        assert said(auditor.post(page("portal.auditanchor", "sign"))) == "已签署锚点 1，至第 1 条"
        assert said(auditor.post(page("portal.auditanchor", "sign"))) == "没有新的审计记录，未签署锚点"
        anchor = AuditAnchor.objects.get().anchor()
        shown = text(auditor.get(page("portal.auditanchor", "change", 1)))
        assert anchor.signature.hex() in shown
        assert anchor.key_id in shown
        answer = auditor.get(page("portal.auditanchor", "export"))
        assert anchor.signature.hex() in b"".join(answer.streaming_content).decode()  # type: ignore[attr-defined]
        assert last_action() == "audit.anchors_exported"

    def test_without_anchors_there_is_nothing_to_take_out(self, auditor: Client) -> None:
        assert said(auditor.get(page("portal.auditanchor", "export"))) == "尚未签署锚点（audit_range）"


def test_nobody_else_sees_it_and_nobody_changes_it(purchaser: Organisation, auditor: Client) -> None:
    record_alone("one", actor=None)
    for role, permissions in PERMISSIONS.items():
        seen = {name for name in permissions if "audit" in name or name == "portal.sign_anchor"}
        assert seen == set() or role == Role.AUDITOR, role
    stranger = sign_in(make_person(Role.SYSTEM_ADMINISTRATOR, purchaser))
    for model in (LISTING, "portal.auditanchor"):
        assert stranger.get(page(model, "changelist")).status_code == HTTPStatus.FORBIDDEN
        assert auditor.get(page(model, "add")).status_code == HTTPStatus.FORBIDDEN
    for name in ("verify", "export", "find_person"):
        assert stranger.post(page(LISTING, name)).status_code == HTTPStatus.FORBIDDEN
    assert auditor.post(page(LISTING, "change", 1), {"action": "x"}).status_code == HTTPStatus.FORBIDDEN
    assert auditor.post(page(LISTING, "delete", 1), {"post": "yes"}).status_code == HTTPStatus.FORBIDDEN
    assert set(actions()) == {"one", "access.refused"}
    assert verify_chain() == (len(actions()), None)


ROWS = """
INSERT INTO portal_auditentry (position, form, at, actor_id, actor_name, organisation_code, address, action,
    object_type, object_id, object_label, details, result, previous_digest, digest)
SELECT n, 2, now() - (%s - n) * interval '1 minute', n %% 50, 'user' || n %% 50, 'B' || n %% 18,
    '192.0.2.' || n %% 200, 'action.' || n %% 90, 'orders.order', (n %% 5000)::text, 'x',
    json_build_object('person', md5((n %% 9000)::text)),
    CASE WHEN n %% 997 = 0 THEN 'refused' ELSE 'done' END, ''::bytea, ''::bytea
FROM generate_series(1, %s) n
"""
SEARCHES: tuple[dict[str, str], ...] = (
    {},
    {"before": str(MANY // 2)},
    {"actor_name": "user7"},
    {"actor_name": "nobody"},
    {"organisation_code": "B3"},
    {"address": "192.0.2.9"},
    {"action": "action.5"},
    {"result": "refused"},
    {"object_type": "orders.order", "object_id": "77"},
    {"person": "c4ca4238a0b923820dcc509a6f75849b"},
    {"person": "nobody"},
    {"at_from_0": "2020-01-01", "at_from_1": "00:00:00", "at_to_0": "2020-01-02", "at_to_1": "00:00:00"},
)


class TestManyEntries:
    """P6: the same few queries at any depth and no scan of the table."""

    @pytest.fixture(autouse=True)
    def many(self) -> None:
        with connection.cursor() as cursor:
            cursor.execute(ROWS, [MANY, MANY])
            cursor.execute("ANALYZE portal_auditentry")

    def test_lists_use_an_index_and_few_queries(self, auditor: Client) -> None:
        for query in SEARCHES:
            with CaptureQueriesContext(connection) as queries:
                listed(auditor, **query)
            asked = [found["sql"] for found in queries if "portal_auditentry" in found["sql"]]
            assert len(asked) == 3, (query, asked)  # the keys of the page, its rows, the actions there are
            for sql in asked:
                with connection.cursor() as cursor:
                    cursor.execute(f"EXPLAIN {sql}")
                    plan = "\n".join(row[0] for row in cursor.fetchall())
                assert "Seq Scan on portal_auditentry" not in plan, (sql, plan)

    def test_pages_follow_each_other_by_key(self, auditor: Client) -> None:
        first = listed(auditor)
        assert f"before={MANY - 49}" in first
        assert f"/auditentry/{MANY}/change/" in first
        second = listed(auditor, before=str(MANY - 49))
        assert f"/auditentry/{MANY - 50}/change/" in second
        assert f"/auditentry/{MANY - 49}/change/" not in second
        assert 'rel="next"' not in listed(auditor, before="51")
        everything = listed(auditor, all="")
        assert f"/auditentry/{MANY - 50}/change/" not in everything
        assert "显示全部" not in first + everything
