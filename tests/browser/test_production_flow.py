"""A batch through the supplier's hands and the bank's signature, clicked in a real browser (R-15 … R-23)."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Page, expect

from portal.models import User
from production.choices import BatchStatus
from production.models import Batch, Delivery, Receipt, StockRequest, WorkPlan
from tests.production.stages import Stages, build_stages

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]
PASSWORD = "browser-test-2026"


@pytest.fixture
def stages(transactional_db: None, settings: Any) -> Stages:
    return build_stages(settings)


def enter(browser: Page, user: User) -> None:
    """Sign in through the form."""
    user.is_staff = True
    user.set_password(PASSWORD)
    user.save()
    browser.context.clear_cookies()
    browser.goto("/admin/login/")
    browser.fill("#id_username", user.username)
    browser.fill("#id_password", PASSWORD)
    browser.locator("#id_password").press("Enter")
    browser.wait_for_url("**/admin/")


def press(browser: Page, label: str) -> None:
    """Press a verb's button on the page, then confirm it in its form."""
    # The sidebar stands before the page's own buttons and may name a list alike.
    browser.get_by_role("link", name=label).last.click()
    browser.locator("button[name=_confirm]").click()


def told(browser: Page, message: str) -> None:
    expect(browser.get_by_text(message).first).to_be_visible()


def test_the_supplier_makes_a_batch(browser: Page, stages: Stages) -> None:
    """R-15, R-16, R-21: split, plan, withdraw by two keepers, prepare, make, inspect, count, pack, send."""
    world = stages.world
    order = world.order(2)
    lot = world.lot(50)
    _plan(browser, stages, f"{order}")
    batch = Batch.objects.get()
    address = f"/admin/production/batch/{batch.pk}/change/"
    enter(browser, world.keeper)
    browser.goto(address)
    browser.get_by_role("link", name="申请领用白卡").click()
    expect(browser.locator("#id_lot")).to_have_value(str(lot.pk))
    browser.locator("button[name=_confirm]").click()
    told(browser, "已提出领用申请")
    enter(browser, world.keeper_two)
    browser.goto(f"/admin/production/stockrequest/{StockRequest.objects.get().pk}/change/")
    press(browser, "同意")
    told(browser, "已同意，流水已记账")
    enter(browser, world.operator)
    for label, message in (("开始数据准备", "数据准备已开始"), ("上机制作", "批次已上机")):
        browser.goto(address)
        press(browser, label)
        told(browser, message)
        stages.worked(batch)
    enter(browser, world.quality)
    browser.goto(address)
    press(browser, "读回检验")
    told(browser, "读回检验已开始")
    assert stages.worked(batch).status == BatchStatus.INSPECTED
    enter(browser, world.operator)
    _count_and_send(browser, stages, batch, address)


def _plan(browser: Page, stages: Stages, order: str) -> None:
    """Split the order, propose a plan and have it approved."""
    enter(browser, stages.world.planner)
    browser.goto("/admin/production/batch/")
    browser.get_by_role("link", name="从订单拆分批次").click()
    option = browser.locator("#id_order option", has_text=order).get_attribute("value")
    browser.select_option("#id_order", option)
    browser.locator("button[name=_confirm]").click()
    told(browser, "已拆分为 1 个批次")
    browser.get_by_role("link", name=f"{order}-01").click()
    browser.get_by_role("link", name="提交工作日程").click()
    browser.fill("#id_place", "佛山一车间")
    browser.select_option("#id_leader", str(stages.world.roster[0].pk))
    browser.get_by_label("甲一（操作）", exact=True).check()
    browser.locator("button[name=_confirm]").click()
    told(browser, "工作日程已提交，待采购人批准")
    enter(browser, stages.world.approver)
    browser.goto(f"/admin/production/workplan/{WorkPlan.objects.get().pk}/change/")
    press(browser, "批准")
    told(browser, "工作日程已批准")


def _count_and_send(browser: Page, stages: Stages, batch: Batch, address: str) -> None:
    """Close by blind counts, a wrong one first; then pack and dispatch."""
    browser.goto(address)
    returned = sum(request.quantity for request in StockRequest.objects.all()) - 2
    for good, message in (("1", "清点数与系统账不符"), ("2", "数量相符，批次已核对")):
        if good == "1":
            browser.get_by_role("link", name="清点核对").click()
        for name, value in (("good", good), ("rejected", "0"), ("samples", "0"), ("returned", str(returned))):
            browser.fill(f"#id_{name}", value)
        browser.locator("button[name=_confirm]").click()
        told(browser, message)
    press(browser, "装箱")
    told(browser, "已装箱，正在生成交接清单")
    stages.worked(batch)
    browser.goto(address)
    press(browser, "发货")
    told(browser, "已发货，待银行签收")
    batch.refresh_from_db()
    assert batch.status == BatchStatus.DISPATCHED


def test_a_bank_counts_and_signs(browser: Page, stages: Stages) -> None:
    """R-23: the list, the count of each carton with what is missing, the signature."""
    delivery = Delivery.objects.filter(batch=stages.dispatched(4)).order_by("number")[0]
    carton = delivery.cartons.get()
    enter(browser, stages.bank_clerk)
    browser.goto("/admin/production/delivery/")
    browser.get_by_role("link", name=delivery.number).click()
    with browser.expect_download() as download:
        browser.get_by_role("link", name="下载交接清单").click()
    assert download.value.suggested_filename == f"{delivery.number}.xlsx"
    browser.get_by_role("link", name="点收").click()
    browser.fill(f"#id_counted_{carton.pk}", "1")
    browser.locator("button[name=_confirm]").click()
    told(browser, "实点张数与清单不符")
    browser.fill(f"#id_missing_{carton.pk}", "2")
    browser.fill(f"#id_note_{carton.pk}", "缺一张")
    browser.locator("button[name=_confirm]").click()
    told(browser, "已点收 1 箱")
    press(browser, "签收")
    told(browser, f"交付单 {delivery.number} 已签收")
    delivery.refresh_from_db()
    assert delivery.signed_by == stages.bank_clerk
    assert Receipt.objects.get().missing_positions == [2]
