"""Signing in with a second factor in a real browser, and leaving other computers (issue 3, People)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from portal.choices import Role
from portal.models import Organisation, SecondFactor, User
from portal.services.people import add_user
from tests.second_factor import Authenticator

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = [
    pytest.mark.browser,
    pytest.mark.second_factor,
    pytest.mark.django_db(transaction=True),
]
INITIAL, NEW = "Huang-long-dong-26", "Another-good-one-7"


@pytest.fixture
def approver(transactional_db: None, own_folders: None) -> User:
    """Somebody new, with an initial password and a role that needs a second factor."""
    gov = Organisation.objects.create(kind="purchaser", code="GOV", name="采购人单位", short_name="采购人")
    return add_user(
        username="approver",
        last_name="审",
        first_name="样",
        organisation=gov,
        roles=[Role.PURCHASER_APPROVER],
        password=INITIAL,
        actor=User.objects.system(),
    )


def type_in(page: Page, password: str) -> None:
    page.get_by_label("用户名").fill("approver")
    page.locator("#id_password").fill(password)
    page.get_by_role("button", name="登录", exact=True).click()


def press(page: Page, name: str) -> None:
    page.get_by_role("button", name=name, exact=True).click()
    page.wait_for_load_state()


def first_sign_in(page: Page) -> tuple[Authenticator, list[str]]:
    """Change the initial password, enrol, and return the telephone and the recovery codes."""
    page.goto("/admin/orders/order/")
    type_in(page, INITIAL)
    page.get_by_text("密码是初始密码或已到期").wait_for()
    page.locator("#id_current").fill(INITIAL)
    page.locator("#id_password").fill(NEW)
    page.locator("#id_again").fill(NEW)
    press(page, "修改密码")
    page.locator("svg.segno").wait_for()
    telephone = Authenticator.reading(page.locator("#secret").inner_text())
    page.get_by_label("动态口令").fill(telephone.code())
    press(page, "确认绑定")
    codes = page.locator("#recovery-codes li").all_inner_texts()
    page.get_by_role("link", name="已保存，继续").click()
    page.wait_for_url("**/admin/orders/order/")
    return telephone, codes


def test_from_the_initial_password_to_the_page_one_wanted(approver: User, browser: Page) -> None:
    telephone, codes = first_sign_in(browser)
    assert len(codes) == 10
    browser.goto("/admin/account/")
    browser.get_by_text("剩余恢复码 10 个").wait_for()
    browser.locator("#logout-form").evaluate("form => form.submit()")
    browser.get_by_text("您已退出登录").wait_for()
    type_in(browser, NEW)
    browser.get_by_text("请输入手机验证器上的 6 位动态口令").wait_for()
    browser.goto("/admin/orders/order/")
    browser.get_by_label("动态口令").wait_for()
    browser.get_by_label("动态口令").fill("000000")
    press(browser, "验证")
    browser.get_by_text("动态口令或恢复码不正确，或已使用过").wait_for()
    browser.get_by_label("动态口令").fill(telephone.code(1))
    press(browser, "验证")
    browser.wait_for_url("**/admin/orders/order/")


def test_a_lost_telephone_and_a_forgotten_computer(
    approver: User, browser: Page, chromium: Browser, live_server: object
) -> None:
    """A recovery code opens the portal, and the list of sessions closes the other computer at once."""
    _telephone, codes = first_sign_in(browser)
    other = chromium.new_context(base_url=str(live_server), locale="zh-CN")
    there = other.new_page()
    there.goto("/admin/login/")
    type_in(there, NEW)
    there.get_by_label("动态口令").fill(codes[0])
    press(there, "验证")
    there.wait_for_url("**/admin/")
    browser.goto("/admin/account/")
    assert browser.locator("#sessions tbody tr").count() == 2
    press(browser, "结束")
    browser.get_by_text("该登录已结束").wait_for()
    there.goto("/admin/")
    there.wait_for_url("**/admin/login/**")
    other.close()
    assert SecondFactor.objects.get().recovery_codes.filter(used_at=None).count() == 9


def test_the_pages_hold_on_a_telephone(approver: User, browser: Page) -> None:
    browser.set_viewport_size({"width": 390, "height": 844})

    def fits() -> bool:
        return bool(browser.evaluate("document.documentElement.scrollWidth <= 390"))

    browser.goto("/admin/login/")
    assert fits()
    type_in(browser, INITIAL)
    browser.get_by_text("密码是初始密码或已到期").wait_for()
    assert fits()
    User.objects.update(must_change_password=False)
    browser.goto("/admin/second-factor/")
    browser.locator("svg.segno").wait_for()
    assert fits()
