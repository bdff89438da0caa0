"""The page of the master keys: check values only, two people, and nothing of a component anywhere."""

from __future__ import annotations

import sys
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.signals import got_request_exception
from django.test import Client
from django.views.debug import ExceptionReporter

from portal.choices import Role
from portal.core.clock import today
from portal.core.crypto import kcv
from portal.files import keystore
from portal.models import AuditEntry, KeyImport, Organisation, User
from tests.portal.desk import last_action, make_person, page, said, text
from tests.portal.key_desk import FIRST, MASTER, NAME, SECOND, begun, first_half, second_half, two_people
from tests.second_factor import verified_client

pytestmark = pytest.mark.django_db
MODEL = "portal.keyimport"


@pytest.fixture
def people(gov: Organisation) -> tuple[User, User]:
    return two_people(gov)


@pytest.fixture
def desks(people: tuple[User, User]) -> tuple[Client, Client]:
    return verified_client(people[0]), verified_client(people[1])


def test_two_people_import_a_key_on_the_page(desks: tuple[Client, Client]) -> None:
    first, second = desks
    answer = first.post(page(MODEL, "start_import"), first_half(valid_until="2036-12-31"))
    assert answer.status_code == 302
    assert said(answer) == f"已录入 {NAME} v1 的分量一，请另一名安全管理员录入分量二"
    row = KeyImport.objects.get()
    answer = second.post(page(MODEL, "finish_import", row.pk), second_half())
    assert said(answer) == f"主密钥 {NAME} v1 已导入，校验值 {kcv(MASTER)}"
    assert keystore().master_key(NAME) == MASTER
    shown = text(first.get(page(MODEL, "changelist")))
    assert kcv(MASTER) in shown
    assert "2036年12月31日" in shown
    for secret in (FIRST, SECOND, MASTER):
        assert secret.hex() not in shown.lower()


def test_the_first_person_is_not_offered_and_not_let_through_the_second_step(
    desks: tuple[Client, Client], people: tuple[User, User]
) -> None:
    """Architecture §3: the same user is refused in the admin."""
    row = begun(people[0])
    address = page(MODEL, "finish_import", row.pk)
    assert address not in text(desks[0].get(page(MODEL, "change", row.pk)))
    assert address in text(desks[1].get(page(MODEL, "change", row.pk)))
    answer = desks[0].post(address, second_half())
    assert answer.status_code == 409
    assert said(answer) == "须由另一人办理：同一用户不能既提出又复核（same_person）"
    row.refresh_from_db()
    assert (row.status, last_action()) == ("waiting", "second_person.refused")
    assert keystore().masters() == []


@pytest.mark.parametrize(
    ("changed", "status", "message"),
    [
        ({"component": SECOND.hex()}, 409, "check_value"),
        ({"component": "00" * 16, "component_check_value": kcv(bytes(16))}, 409, "test_key_refused"),
        ({"component": "nothing"}, 409, "key_format"),
        ({"check_value": "12"}, 422, None),
        ({"version": "0"}, 422, None),
        ({"name": "IRK"}, 422, None),
        ({"valid_from": "soon"}, 422, None),
        ({"component": ""}, 422, None),
    ],
)
def test_a_refused_component_is_never_shown_again(
    desks: tuple[Client, Client], changed: dict[str, str], status: int, message: str | None
) -> None:
    entries = AuditEntry.objects.count()
    answer = desks[0].post(page(MODEL, "start_import"), first_half(**changed))
    assert answer.status_code == status
    assert FIRST.hex() not in text(answer).lower()
    assert SECOND.hex() not in text(answer).lower()
    assert message is None or said(answer).endswith(f"（{message}）")
    assert (KeyImport.objects.count(), AuditEntry.objects.count()) == (0, entries)


def test_an_error_report_hides_what_was_posted(
    desks: tuple[Client, Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Issue 3: no key in tracebacks or error mails."""
    reports: list[str] = []

    def broken(*arguments: Any) -> None:
        raise RuntimeError

    def keep(sender: Any, request: Any, **kwargs: Any) -> None:
        reporter = ExceptionReporter(request, *sys.exc_info())
        reports.extend((reporter.get_traceback_html(), reporter.get_traceback_text()))

    monkeypatch.setattr("portal.services.keys._save", broken)
    got_request_exception.connect(keep)
    try:
        with pytest.raises(RuntimeError):
            desks[0].post(page(MODEL, "start_import"), first_half())
    finally:
        got_request_exception.disconnect(keep)
    assert len(reports) == 2
    for report in reports:
        assert "start_key_import" in report
        assert "component_check_value" in report
        assert FIRST.hex() not in report.lower()
        assert kcv(FIRST) not in report
        assert repr(FIRST)[2:-1] not in report


def test_a_ceremony_is_cancelled(desks: tuple[Client, Client], people: tuple[User, User]) -> None:
    row = begun(people[0])
    answer = desks[1].post(page(MODEL, "cancel_import", row.pk))
    assert said(answer) == "导入已取消，分量一已销毁"
    row.refresh_from_db()
    assert row.status == "cancelled"
    shown = text(desks[1].get(page(MODEL, "change", row.pk)))
    assert page(MODEL, "finish_import", row.pk) not in shown


def test_the_auditor_sees_and_changes_nothing(gov: Organisation, people: tuple[User, User]) -> None:
    row = begun(people[0])
    auditor = verified_client(make_person(Role.AUDITOR, gov))
    assert auditor.get(page(MODEL, "changelist")).status_code == 200
    assert auditor.get(page(MODEL, "change", row.pk)).status_code == 200
    for address in (page(MODEL, "start_import"), page(MODEL, "cancel_import", row.pk)):
        assert auditor.post(address, first_half()).status_code == 403
    row.refresh_from_db()
    assert row.status == "waiting"


@pytest.mark.parametrize("role", [Role.SYSTEM_ADMINISTRATOR, Role.PURCHASER_APPROVER, Role.SUPPLIER_OPERATOR])
def test_others_do_not_see_the_page(gov: Organisation, role: str) -> None:
    other = verified_client(make_person(role, gov))
    for address in (page(MODEL, "changelist"), page(MODEL, "start_import")):
        assert other.get(address).status_code == 403


def test_the_list_says_what_each_key_is_good_for(desks: tuple[Client, Client]) -> None:
    store, day = keystore(), timedelta(days=1)
    store.generate_test_masters(["SSSE-BK"])
    days = {1: (None, today() - day), 2: (today(), today()), 3: (today() + day, None)}
    for version, (start, end) in days.items():
        key = bytes(byte ^ version for byte in FIRST)
        second = bytes([version]) * 16
        store.import_components(NAME, version, FIRST, second, kcv(key), valid_from=start, valid_until=end)
    shown = text(desks[0].get(page(MODEL, "changelist")))
    for state in ("已停用", "有效", "未启用", "测试密钥"):
        assert f">{state}<" in shown
    assert "SSSE IRK：加密，3 级分散" in shown


def test_a_key_store_that_does_not_open_is_told_on_the_page(
    desks: tuple[Client, Client], settings: Any
) -> None:
    folder = Path(settings.KEYSTORE_DIR)
    keystore()
    (folder / "master-SSSE-IRK-v1.key").touch(mode=0o600)
    answer = desks[0].get(page(MODEL, "changelist"))
    assert answer.status_code == 200
    assert "key_unreadable" in text(answer)


def test_a_waiting_key_is_on_the_start_page(desks: tuple[Client, Client], people: tuple[User, User]) -> None:
    begun(people[0], valid_from=date(2026, 1, 1))
    assert "等待分量二的主密钥" in text(desks[1].get("/admin/"))
