"""The start page, the navigation, the login page and what adminkit gives to every page."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection
from django.test import Client, RequestFactory
from django.test.utils import CaptureQueriesContext

from orders.models import Package
from portal.adminkit.base import EXACT_COUNT_LIMIT, CappedPaginator
from portal.adminkit.columns import badge, bar, table
from portal.adminkit.downloads import attachment, safe_name, written
from portal.choices import OrganisationKind, Role
from portal.dashboard import GROUPS, navigation
from portal.dashboard_cards import CARDS
from portal.models import AuditEntry, Organisation, User
from portal.roles import PERMISSIONS
from portal.services.people import ROLE_HOMES
from tests.portal.desk import make_person, page, sign_in, text

pytestmark = pytest.mark.django_db


@pytest.fixture
def organisations() -> dict[str, Organisation]:
    return {
        kind: Organisation.objects.create(kind=kind, code=kind.upper(), name=kind, short_name=kind)
        for kind in OrganisationKind.values
    }


def person(role: str, organisations: dict[str, Organisation]) -> User:
    return make_person(role, organisations[min(ROLE_HOMES[role])])


def refuse(clerk: User, count: int) -> None:
    rows = (Package(number=f"P{n}", file_name="p", status="refused", received_by=clerk) for n in range(count))
    Package.objects.bulk_create(rows)


def titles(user: User) -> set[str]:
    request = RequestFactory().get("/admin/")
    request.user = user
    return {item["title"] for group in navigation(request) for item in group["items"]}


def test_the_login_page_is_chinese(client: Client) -> None:
    shown = text(client.get("/admin/login/"))
    for words in ("社会保障卡制卡管理平台", "用户名", "密码", "登录", "欢迎使用"):
        assert words in shown
    wrong = text(client.post("/admin/login/", {"username": "nobody", "password": "wrong"}))
    assert "用户名或密码不正确，或该账户已停用" in wrong


@pytest.mark.parametrize(
    ("role", "seen", "unseen"),
    [
        (Role.PURCHASER_CLERK, {"制卡数据包", "持卡人记录", "订单"}, {"用户", "审计记录", "发送方公钥"}),
        (Role.BANK_CLERK, {"银行账号文件", "中标人选定", "交付网点"}, {"制卡数据包", "合同", "批次", "用户"}),
        (Role.SUPPLIER_PLANNER, {"订单", "合同"}, {"持卡人记录", "银行账号文件", "制卡数据包"}),
        (Role.SYSTEM_ADMINISTRATOR, {"用户", "单位", "后台任务"}, {"持卡人记录", "审计记录", "订单"}),
        (Role.SECURITY_ADMINISTRATOR, {"发送方公钥", "接口令牌"}, {"持卡人记录", "审计记录", "后台任务"}),
        (Role.AUDITOR, {"审计记录"}, {"持卡人记录", "订单", "后台任务"}),
    ],
)
def test_the_navigation_shows_what_the_role_may_see(
    organisations: dict[str, Organisation], role: str, seen: set[str], unseen: set[str]
) -> None:
    shown = titles(person(role, organisations))
    assert seen <= shown
    assert not unseen & shown


def test_every_link_of_the_navigation_opens(organisations: dict[str, Organisation]) -> None:
    for role in Role.values:
        if role == Role.CARD_SYSTEM:
            continue
        user = person(role, organisations)
        desk, request = sign_in(user), RequestFactory().get("/admin/")
        request.user = user
        for group in navigation(request):
            for item in group["items"]:
                assert desk.get(item["link"]).status_code == 200, (role, item["link"])


def test_every_card_belongs_to_roles_that_may_open_its_list() -> None:
    listed = {label for _, entries in GROUPS for label, _ in entries}
    for card in CARDS:
        assert card.model in listed
        for role in card.roles:
            assert card.permission in PERMISSIONS[role], (card.title, role)


def test_the_start_page_counts_and_links(organisations: dict[str, Organisation]) -> None:
    clerk = person(Role.PURCHASER_CLERK, organisations)
    refuse(clerk, 3)
    shown = text(sign_in(clerk).get("/admin/"))
    card = shown.split("被拒收的数据包")[1].split("</a>")[0]
    assert '<span class="pk-card-count">3</span>' in card
    assert f"{page('orders.package', 'changelist')}?status__exact=refused" in shown


def test_the_start_page_asks_as_often_for_many_rows_as_for_few(
    organisations: dict[str, Organisation],
) -> None:
    clerk = person(Role.PURCHASER_CLERK, organisations)
    desk = sign_in(clerk)

    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            assert desk.get("/admin/").status_code == 200
        return len(captured)

    queries()
    few = queries()
    Package.objects.bulk_create(
        Package(number=f"P{number}", file_name="p", status="refused", received_by=clerk)
        for number in range(50)
    )
    assert queries() == few
    assert few <= 20


def test_counting_stops_at_a_thousand(organisations: dict[str, Organisation]) -> None:
    clerk = person(Role.PURCHASER_CLERK, organisations)
    Package.objects.bulk_create(
        Package(number=f"P{number}", file_name="p", status="refused", received_by=clerk)
        for number in range(1003)
    )
    assert "1,000+" in text(sign_in(clerk).get("/admin/"))


def test_the_portal_account_cannot_sign_in(client: Client) -> None:
    system = User.objects.system()
    assert not client.login(username=system.username, password="")
    client.force_login(system)
    assert client.get("/admin/").status_code == 302


class TestKit:
    @pytest.mark.parametrize(
        ("name", "safe"),
        [
            ("退回清单-P-1.xlsx", "退回清单-P-1.xlsx"),
            ("../../etc/passwd", "etc_passwd"),
            ("a\r\nSet-Cookie: x.xlsx", "a_Set-Cookie_x.xlsx"),
            (".htaccess", "htaccess"),
            ("///", "download"),
            ("长" * 300 + ".xlsx", "长" * 60 + ".xlsx"),
        ],
    )
    def test_names_of_downloads_are_safe(self, name: str, safe: str) -> None:
        assert safe_name(name) == safe

    def test_a_download_that_fails_half_way_sends_nothing(self) -> None:
        def write(target: Any) -> None:
            target.write(b"half")
            raise ValueError("disk full")

        with pytest.raises(ValueError, match="disk full"):
            written("x.xlsx", write)

    def test_a_download_is_an_attachment_that_no_cache_keeps(self) -> None:
        answer = written("表.xlsx", lambda target: target.write(b"PK"))
        assert answer["Content-Disposition"] == "attachment; filename*=utf-8''%E8%A1%A8.xlsx"
        assert answer["Cache-Control"] == "no-store, private"
        assert b"".join(answer.streaming_content) == b"PK"  # type: ignore[arg-type]
        answer.close()
        assert attachment.__doc__

    def test_markup_of_data_is_harmless(self) -> None:
        nasty = "<script>alert(1)</script>"
        for shown in (badge(nasty), table([nasty], [(nasty,)]), bar(1, 2, nasty)):
            assert "<script>" not in shown
            assert "&lt;script&gt;" in shown

    def test_a_bar_never_leaves_its_frame(self) -> None:
        assert 'value="100.0"' in bar(5, 2)
        assert 'value="0.0"' in bar(-5, 2)
        assert 'value="0.0"' in bar(5, 0)

    def test_big_lists_are_estimated_not_counted(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """P6: never an exact count of a big table."""
        entries = AuditEntry.objects.order_by("-position")
        assert CappedPaginator(entries, 50).count == 0
        monkeypatch.setattr("portal.adminkit.base.EXACT_COUNT_LIMIT", 0)
        Organisation.objects.create(kind="bank", code="A", name="A", short_name="A")
        with CaptureQueriesContext(connection) as captured:
            assert CappedPaginator(Organisation.objects.order_by("code"), 50).count >= 1
        assert "LIMIT 1)" in captured[0]["sql"]
        assert captured[1]["sql"].startswith("EXPLAIN")
        assert EXACT_COUNT_LIMIT == 10_000
