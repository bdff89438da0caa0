"""A purchaser's clerk and a bank's clerk at work in a real browser."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from orders.jobs import advance_all
from orders.models import BankProfile, CardholderRecord, Contract, Package, SupplierChoice
from orders.personal import open_source
from portal.choices import Role
from portal.models import Organisation, User
from tests.orders.intake.world import World, make_world, run_tasks
from tests.orders.scene import csv_file, make_contract, make_organisation, person

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]
PASSWORD = "Huang-long-dong-26"


@pytest.fixture
def world(transactional_db: None, own_folders: None, monkeypatch: pytest.MonkeyPatch) -> World:
    """The programme of intake, whose tasks wait for `run_tasks`."""
    monkeypatch.setattr("portal.queue.wake", lambda tasks: None)
    return make_world()


@pytest.fixture
def sign_in(browser: Page) -> Callable[[User], Page]:
    def signed_in(user: User) -> Page:
        user.is_staff = True
        user.set_password(PASSWORD)
        user.save()
        browser.goto("/")
        browser.get_by_label("用户名").fill(user.username)
        browser.locator("#id_password").fill(PASSWORD)
        browser.get_by_role("button", name="登录").click()
        browser.wait_for_url("**/admin/")
        return browser

    return signed_in


def press(page: Page, name: str) -> None:
    """Press the button of a verb's page and wait for its answer."""
    page.get_by_role("button", name=name, exact=True).click()
    page.wait_for_load_state()


def text(page: Page) -> str:
    return page.locator("body").inner_text()


def test_a_wrong_password_is_answered_in_chinese(world: World, browser: Page) -> None:
    browser.goto("/admin/login/")
    assert browser.title().strip() == "登录 | 社会保障卡制卡管理平台"
    browser.get_by_label("用户名").fill("clerk")
    browser.locator("#id_password").fill("wrong-password")
    browser.get_by_role("button", name="登录").click()
    browser.get_by_text("用户名或密码不正确").wait_for()


def test_a_package_is_uploaded_its_problems_seen_and_a_row_corrected(
    world: World, sign_in: Callable[[User], Page], tmp_path: Path
) -> None:
    """R-8, R-9: from the sealed file to the corrected row, and the page follows the work by itself."""
    sealed = tmp_path / "package.scp"
    sealed.write_bytes(world.container(40, fault_rate=1.0))
    page = sign_in(world.clerk)
    page.get_by_role("link", name="制卡数据包").first.click()
    page.get_by_role("link", name="上传数据包").click()
    page.locator("input[type=file]").set_input_files(sealed)
    press(page, "上传数据包")
    page.get_by_text("已接收数据包 P-1，正在后台校验").wait_for()
    page.get_by_text("后台处理中").wait_for()
    run_tasks()
    advance_all()
    page.get_by_text("后台处理完成").wait_for()
    package = Package.objects.get()
    assert f"40 = {package.accepted_count} + {package.returned_count}" in text(page)
    record = CardholderRecord.objects.filter(problem_codes=["sex_mismatch"]).select_related("package")[0]
    page.goto(f"/admin/orders/cardholderrecord/{record.pk}/change/")
    page.get_by_role("link", name="补录").click()
    wrong = page.locator("[aria-invalid=true]")
    wrong.first.wait_for()
    assert wrong.count() == 1
    wrong.fill({"1": "2", "2": "1"}[open_source(record)["AAC004"]])
    page.get_by_label("补录依据").fill("来电更正")
    press(page, "补录")
    page.get_by_text("补录成功，记录已进入待匹配").wait_for()
    assert CardholderRecord.objects.get(row_number=record.row_number, version=2).status == "accepted"


def test_a_damaged_package_is_answered_on_the_page(
    world: World, sign_in: Callable[[User], Page], tmp_path: Path
) -> None:
    damaged = tmp_path / "damaged.scp"
    damaged.write_bytes(world.hostile("truncated"))
    page = sign_in(world.clerk)
    page.goto("/admin/orders/package/upload/")
    page.locator("input[type=file]").set_input_files(damaged)
    press(page, "上传数据包")
    refused = Package.objects.get()
    page.get_by_text(f"（{refused.refusal_code}）").first.wait_for()
    page.goto("/admin/")
    assert page.locator(".pk-card", has_text="被拒收的数据包").locator(".pk-card-count").inner_text() == "1"


def bank_and_clerk(world: World) -> tuple[Organisation, User, Contract]:
    bank = Organisation.objects.get(code="ICBC")
    BankProfile.objects.create(organisation=bank)
    clerk = User.objects.create(username="bank", organisation=bank, roles=[Role.BANK_CLERK])
    return bank, clerk, make_contract(make_organisation("supplier", "SUP1"), 1)


def test_a_bank_uploads_accounts_and_chooses_its_supplier(
    world: World, sign_in: Callable[[User], Page], tmp_path: Path
) -> None:
    """R-6, R-8: dry run first, problems by row, then load; then the bank's own choice."""
    bank, clerk, contract = bank_and_clerk(world)
    accounts = tmp_path / "accounts.csv"
    broken = ["44060419600101001", "张样", "6222020000000000009"]
    accounts.write_bytes(csv_file([person(1).row(), person(2).row(), broken]).read())
    page = sign_in(clerk)
    page.get_by_role("link", name="银行账号文件").first.click()
    page.get_by_role("link", name="上传账号文件").click()
    page.locator("input[type=file]").set_input_files(accounts)
    press(page, "上传账号文件")
    run_tasks()
    page.get_by_text("3 = 2 + 1").wait_for()
    assert "证件号码位数不对" in text(page)
    with page.expect_download() as download:
        page.get_by_role("link", name="下载问题清单").click()
    assert download.value.suggested_filename.endswith(".xlsx")
    page.locator("a[href$='/load/']").first.click()
    press(page, "导入")
    run_tasks()
    page.goto("/admin/orders/supplierchoice/choose/")
    page.get_by_label("中标人与合同").select_option(str(contract.pk))
    press(page, "选定中标人")
    page.get_by_text("已选定 SUP1").wait_for()
    assert SupplierChoice.objects.get().bank == bank


def test_pages_hold_on_a_small_screen_and_in_the_dark(world: World, sign_in: Callable[[User], Page]) -> None:
    """No page is wider than a screen of 1024 × 768, and the dark theme is dark."""
    world.take_in(12, fault_rate=0.3)
    page = sign_in(world.clerk)
    page.set_viewport_size({"width": 1024, "height": 768})
    page.emulate_media(color_scheme="dark")
    for address in ("/admin/", "/admin/orders/package/", "/admin/orders/cardholderrecord/find/"):
        page.goto(address)
        assert page.evaluate("document.documentElement.scrollWidth") <= 1024, address
        assert page.evaluate("document.documentElement.classList.contains('dark')"), address
