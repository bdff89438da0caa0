"""A card issued from the counter's page by keyboard alone at 1024 × 768, its agent in a thread (R-14)."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.cache import caches
from django.db import connections
from PIL import Image
from playwright.sync_api import Page, expect

from portal.models import AuditEntry
from production.models import Card
from stations.models import EmergencyCase, Issuance
from tests.browser.cases import fill_case
from tests.browser.test_production_flow import enter
from tests.stations.counter import Counter, make_counter
from tests.stations.counter_desk import newcomer, number_and_name, photo, report

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]
SECONDS = 20
TOUCH = 44  # pixels a finger needs


@pytest.fixture
def counter(transactional_db: None) -> Counter:
    caches["limits"].clear()
    return make_counter()


@pytest.fixture
def desk(browser: Page, counter: Counter) -> Iterator[Page]:
    """Sit down at the counter's screen; at the end its pages complained of nothing."""
    complaints: list[str] = []
    browser.set_viewport_size({"width": 1024, "height": 768})
    browser.on(
        "console", lambda said: complaints.append(said.text) if said.type in {"error", "warning"} else None
    )
    browser.on("pageerror", lambda error: complaints.append(str(error)))
    report(counter.station)
    enter(browser, counter.operator)
    yield browser
    assert [text for text in complaints if "a status of" not in text] == []


def in_thread(work: Callable[[], Any]) -> threading.Thread:
    """Run what a station does beside the browser, with its own connection."""

    def run() -> None:
        try:
            work()
        finally:
            connections.close_all()

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def answering(counter: Counter, *states: str, faults: tuple[Any, ...] = ()) -> Callable[[], None]:
    """Return an agent that waits for the next issuance, makes its card and prints nothing but reports."""

    def work() -> None:
        until = time.monotonic() + SECONDS
        while time.monotonic() < until:
            issuance = Issuance.objects.filter(status="queued").select_related("card").first()
            if issuance is not None:
                agent = counter.agent()
                agent.insert(issuance.card.serial, faults=faults)
                agent.make(issuance)
                agent.print(issuance, *(states or ("submitted", "processing", "completed")))
                return
            time.sleep(0.05)

    return work


def tab_to(page: Page, name: str) -> None:
    """Press Tab until the control of this name has the focus."""
    for _ in range(120):
        focused = page.evaluate(
            "() => { const one = document.activeElement; if (one === document.body) return '';"
            " return [one.innerText, one.labels?.[0]?.innerText, one.getAttribute('aria-label')].join(' ') }"
        )
        if name in focused:
            return
        page.keyboard.press("Tab")
    raise AssertionError(f"nothing called {name} can be reached by keyboard")


def small_targets(page: Page) -> list[str]:
    """Return what is too small for a finger among the counter's own controls."""
    found: list[str] = page.evaluate(
        """least => [...document.querySelectorAll('.counter :is(button, .counter-button, input, select)')]
        .filter(one => one.offsetParent && !['hidden', 'radio', 'file'].includes(one.type))
        .filter(one => one.offsetHeight < least || one.offsetWidth < least)
        .map(one => one.outerHTML.slice(0, 80))""",
        TOUCH,
    )
    return found


def picture(page: Page, name: str, folder: Path) -> None:
    page.screenshot(path=str(folder / f"{name}.png"))


def test_a_card_is_issued_by_keyboard_alone(desk: Page, counter: Counter, tmp_path: Path) -> None:
    record = counter.record()
    number, name = number_and_name(record)
    desk.goto("/admin/")
    tab_to(desk, "打开制卡柜台")
    desk.keyboard.press("Enter")
    expect(desk.get_by_text("制卡点在线，读写器和打印机就绪")).to_be_visible()
    assert small_targets(desk) == []
    assert desk.evaluate("document.documentElement.scrollWidth <= innerWidth"), "no sideways scrolling"
    picture(desk, "1-counter", tmp_path)
    tab_to(desk, "社会保障号码")
    desk.keyboard.type(number)
    desk.keyboard.press("Enter")
    expect(desk.get_by_role("heading", name="二、选择白卡")).to_be_visible()
    assert number not in desk.content()
    assert name not in desk.content()
    assert small_targets(desk) == []
    picture(desk, "2-blank", tmp_path)
    # The scanner's box has the focus already; a scanner types the serial and Enter.
    desk.keyboard.type(counter.blank())
    report(counter.station)
    agent = in_thread(answering(counter))
    desk.keyboard.press("Enter")
    expect(desk.get_by_role("heading", name="请看打印好的卡，确认外观")).to_be_visible(timeout=SECONDS * 1000)
    agent.join()
    expect(desk.get_by_role("heading", name="请看打印好的卡，确认外观")).to_be_focused()
    expect(desk.locator("#announcement")).to_have_text("请看打印好的卡，确认外观")
    expect(desk.locator(".counter-steps")).to_contain_text("写卡与读回")
    for side in ("应打印的正面", "应打印的背面"):
        shown = desk.get_by_role("img", name=side)
        assert shown.evaluate("async one => { await one.decode(); return one.naturalWidth }") == 1011
    assert small_targets(desk) == []
    picture(desk, "3-look", tmp_path)
    tab_to(desk, "良品，交给本人")
    desk.keyboard.press("Enter")
    expect(desk.get_by_role("heading", name="制卡成功，请将卡交给本人")).to_be_visible()
    picture(desk, "4-good", tmp_path)
    assert Card.objects.get().outcome == "good"
    tab_to(desk, "打印回执")
    desk.keyboard.press("Enter")
    expect(desk.get_by_role("heading", name="社会保障卡领卡回执")).to_be_visible()
    assert number not in desk.content()
    picture(desk, "5-receipt", tmp_path)
    tab_to(desk, "下一位")
    desk.keyboard.press("Enter")
    expect(desk.get_by_role("heading", name="一、查找持卡人")).to_be_visible()
    assert AuditEntry.objects.filter(action="issuance.face_viewed").count() == 1, "the face is asked for once"
    assert number not in desk.evaluate("JSON.stringify(performance.getEntries().map(one => one.name))")


def test_a_card_that_no_printer_took_is_printed_again_by_keyboard(
    desk: Page, counter: Counter, tmp_path: Path
) -> None:
    """D8: the page says that nothing was printed and offers the same card again, never "good"."""
    issuance = counter.start()
    desk.goto(f"/admin/counter/issuances/{issuance.pk}/")
    answering(counter, "not-submitted")()
    heading = desk.get_by_role("heading", name="卡面没有打印：没有提交给打印机")
    expect(heading).to_be_focused(timeout=SECONDS * 1000)
    expect(desk.locator("#announcement")).to_contain_text("这张卡没有被打印过")
    expect(desk.get_by_role("button", name="良品，交给本人")).to_have_count(0)
    assert small_targets(desk) == []
    picture(desk, "8-not-printed", tmp_path)
    tab_to(desk, "用这张卡再次打印")
    desk.keyboard.press("Enter")
    expect(desk.get_by_role("heading", name="芯片写入并核对一致，正在打印卡面")).to_be_visible()
    agent = counter.agent()
    agent.post(issuance, "print-order", {"claim": "ab" * 16})
    agent.print(issuance, "submitted", "completed")
    expect(desk.get_by_role("heading", name="请看打印好的卡，确认外观")).to_be_focused()
    picture(desk, "9-printed-again", tmp_path)
    tab_to(desk, "良品，交给本人")
    desk.keyboard.press("Enter")
    expect(desk.get_by_role("heading", name="制卡成功，请将卡交给本人")).to_be_visible()
    assert (Issuance.objects.get().status, Card.objects.get().outcome) == ("good", "good")


def test_landmarks_and_headings_tell_a_screen_reader_where_it_is(desk: Page, counter: Counter) -> None:
    desk.goto("/admin/counter/")
    unnamed = desk.evaluate(
        """() => [...document.querySelectorAll('.counter :is(input, select, button, section)')]
        .filter(one => one.type !== 'hidden' && !one.labels?.length && !one.innerText.trim())
        .filter(one => !one.hasAttribute('aria-label') && !one.hasAttribute('aria-labelledby'))
        .map(one => one.outerHTML.slice(0, 80))"""
    )
    assert unnamed == []
    expect(desk.get_by_role("region", name="一、查找持卡人")).to_be_visible()
    expect(desk.get_by_role("group", name="制卡点状态")).to_be_visible()


def test_an_expired_session_and_a_portal_that_is_away_are_told_in_words(desk: Page, counter: Counter) -> None:
    issuance = counter.start()
    desk.goto(f"/admin/counter/issuances/{issuance.pk}/")
    expect(desk.get_by_role("heading", name=f"请将白卡 {issuance.card.serial} 放入读写器")).to_be_visible()
    desk.route("**/live/", lambda route: route.fulfill(status=502, body=""))
    expect(desk.locator("#trouble")).to_contain_text("与平台失去联系")
    desk.unroute("**/live/")
    expect(desk.locator("#trouble")).to_be_hidden()
    desk.context.clear_cookies()
    expect(desk.locator("#trouble")).to_contain_text("登录已过期")


def test_an_emergency_case_with_an_uploaded_photo(desk: Page, counter: Counter, tmp_path: Path) -> None:
    """R-14: entered here, cut to 358 × 441 in the browser, decided by the supervisor, then made."""
    person = newcomer()
    large = tmp_path / "large.jpg"
    large.write_bytes(enlarged(photo()))
    desk.goto("/admin/counter/")
    desk.get_by_role("link", name="录入应急申请").click()
    fill_case(desk)
    desk.set_input_files("#id_photo", str(large))
    expect(desk.locator("[data-photo-state]")).to_contain_text("请裁剪照片")
    desk.get_by_label("缩放").press("ArrowRight")
    desk.get_by_role("button", name="使用此照片").press("Enter")
    expect(desk.locator("[data-photo-state]")).to_contain_text("照片合格：358 × 441 像素")
    assert small_targets(desk) == []
    desk.screenshot(path=str(tmp_path / "6-case.png"), full_page=True)
    desk.get_by_role("button", name="提交复核").press("Enter")
    expect(desk.get_by_text("应急申请已提交，须由另一人复核后才能制卡")).to_be_visible()
    case = EmergencyCase.objects.get()
    enter(desk, counter.supervisor)
    desk.goto(f"/admin/stations/emergencycase/{case.pk}/change/")
    desk.get_by_role("link", name="查看资料和照片").click()
    desk.locator("button[name=_confirm]").click()
    expect(desk.get_by_role("img", name="申请人照片")).to_be_visible()
    expect(desk.get_by_text(person.number)).to_be_visible()
    picture(desk, "7-case", tmp_path)
    desk.goto(f"/admin/stations/emergencycase/{case.pk}/change/")
    desk.locator("a[href$='/approve/'], a[href$='/approve']").first.click()
    desk.locator("button[name=_confirm]").click()
    expect(desk.get_by_text("已同意，操作员可以制卡").first).to_be_visible()
    enter(desk, counter.operator)
    desk.goto("/admin/counter/")
    desk.get_by_role("button", name="制卡", exact=True).click()
    desk.locator("[data-pick]").first.click()
    report(counter.station)
    agent = in_thread(answering(counter))
    desk.get_by_role("button", name="开始制卡").click()
    expect(desk.get_by_role("button", name="良品，交给本人")).to_be_visible(timeout=SECONDS * 1000)
    agent.join()
    desk.get_by_role("button", name="良品，交给本人").click()
    expect(desk.get_by_role("heading", name="制卡成功，请将卡交给本人")).to_be_visible()


def enlarged(jpeg: bytes) -> bytes:
    """Return the photo as a camera would take it: larger, and of another shape."""
    target = io.BytesIO()
    with Image.open(io.BytesIO(jpeg)) as small:
        wide = Image.new("RGB", (1200, 1000), "white")
        wide.paste(small.resize((716, 882), Image.Resampling.LANCZOS), (240, 60))
        wide.save(target, "JPEG", quality=95)
    return target.getvalue()


def test_the_camera_is_for_the_page_of_the_photo_only(desk: Page, counter: Counter) -> None:
    allowed = "document.featurePolicy?.allowsFeature('camera')"
    desk.goto("/admin/counter/case/")
    assert desk.evaluate(allowed) is True
    desk.goto("/admin/counter/")
    assert desk.evaluate(allowed) is False
