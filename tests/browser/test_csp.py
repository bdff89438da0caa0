"""Every page works in a real browser without inline code, eval or a foreign origin (issue 3, Web)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http import HTTPStatus
from itertools import chain
from typing import TYPE_CHECKING, Any

import pytest
from django.conf import settings
from django.test import override_settings
from django.urls import reverse

from portal.choices import Role
from tests.architecture.conftest import finished
from tests.architecture.test_admin import ADMINS, ROLES, address, opened, own_folders, request_of, verbs

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request

    from tests.architecture.programme_run import Finished

__all__ = ["finished", "own_folders"]
# The programme runs once, before the module's first test.
pytestmark = [pytest.mark.browser, pytest.mark.django_db, pytest.mark.timeout(900)]
CLERK = Role.PURCHASER_CLERK
ORDERS = "/admin/orders/order/"


@dataclass
class Watched:
    """A browser of one role, and whatever its pages complained about or asked elsewhere."""

    context: BrowserContext
    page: Page
    origin: str
    complaints: list[str] = field(default_factory=list)

    def open(self, target: str, expected: int = HTTPStatus.OK) -> Page:
        """Open an address and let its scripts run."""
        answer = self.page.goto(self.origin + target, wait_until="load")
        assert answer is not None
        assert answer.status == expected, target
        policy = answer.headers["content-security-policy"].split(";")  # in no order
        assert "script-src 'self'" in [directive.strip() for directive in policy]
        self.page.wait_for_timeout(20)
        if expected != HTTPStatus.OK:  # Chromium says in the console that the page itself was refused
            self.complaints = [text for text in self.complaints if f"a status of {expected}" not in text]
        return self.page

    def heard(self, message: ConsoleMessage) -> None:
        """Keep what the page's console shows in colour."""
        if message.type in {"error", "warning"}:
            self.complaints.append(f"{self.page.url}: {message.text}")

    def asked(self, request: Request) -> None:
        """Keep every request that leaves for somewhere else."""
        if not request.url.startswith((self.origin, "data:", "blob:")):
            self.complaints.append(f"{self.page.url}: asked {request.url}")


@pytest.fixture(scope="module")
def origin(finished: Finished) -> Iterator[str]:
    """Serve the programme's database; nothing of it is rolled back between the tests."""
    from pytest_django.live_server_helper import LiveServer

    server = LiveServer("127.0.0.1", start=False)
    thread: Any = server.thread
    thread.static_handler = lambda application: application  # WhiteNoise serves them, as in production
    server.start()
    yield server.url
    server.stop()


@pytest.fixture(scope="module")
def sessions(finished: Finished) -> dict[str, str]:
    """Sign everybody in outside the tests' own transactions, which the server would not see."""
    cookie = settings.SESSION_COOKIE_NAME
    return {role: finished.client(role).cookies[cookie].value for role in ROLES}


@pytest.fixture(scope="module")
def pages(finished: Finished) -> list[tuple[str, str]]:
    """Return all kinds of pages; looked for outside the tests' transactions too, since reading is audited."""
    with override_settings(TOTP_REQUIRED=False):
        return list(chain.from_iterable(kinds(finished, site) for site in ADMINS.values()))


@pytest.fixture
def desk(sessions: dict[str, str], chromium: Browser, origin: str) -> Iterator[Callable[[str], Watched]]:
    """Return what opens a browser signed in as somebody of a role; at the end nothing was complained of."""
    made: dict[str, Watched] = {}

    def sit(role: str) -> Watched:
        if role not in made:
            made[role] = watched(chromium, origin, sessions.get(role, ""))
        return made[role]

    yield sit
    complaints = [complaint for one in made.values() for complaint in one.complaints]
    for one in made.values():
        one.context.close()
    assert complaints == []


def watched(chromium: Browser, origin: str, session: str) -> Watched:
    """Start a browser of its own, signed in with a session if there is one."""
    context = chromium.new_context(locale="zh-CN", viewport={"width": 1440, "height": 900})
    if session:
        cookie: Any = {"name": settings.SESSION_COOKIE_NAME, "value": session, "url": origin}
        context.add_cookies([cookie])
    one = Watched(context, context.new_page(), origin)
    one.page.on("console", one.heard)
    one.page.on("pageerror", lambda error: one.complaints.append(f"{one.page.url}: {error}"))
    one.page.on("request", one.asked)
    return one


def kinds(finished: Finished, site: Any) -> Iterator[tuple[str, str]]:
    """Yield a role and an address for each kind of page of a model: list, row, form, and every verb."""
    seen: set[str] = set()
    for role in ROLES:
        if not site.has_view_or_change_permission(request_of(finished, role)):
            continue
        client = finished.client(role)
        for kind, target in candidates(finished, site, role):
            if kind in seen:
                continue
            answer = client.get(target)
            if answer.streaming:
                answer.getvalue()
            elif answer.status_code == HTTPStatus.OK:
                seen.add(kind)
                yield role, target


def candidates(finished: Finished, site: Any, role: str) -> Iterator[tuple[str, str]]:
    """Yield names of kinds and addresses that may show them."""
    rows = list(opened(site, request_of(finished, role)))
    yield "list", address(site, "changelist")
    yield "add", address(site, "add")
    yield from (("row", address(site, "change", row.pk)) for row in rows[:1])
    for name, takes_row in verbs(site):
        if not name.endswith("_progress"):  # a part of a page
            for given in [[row.pk] for row in rows] if takes_row else [[]]:
                yield name, reverse(f"admin:{name}", args=given)


def html_class(page: Page) -> str:
    """Return the class of the page's root, which carries the theme."""
    return str(page.evaluate("document.documentElement.className"))


def test_every_kind_of_page_opens_without_a_complaint(
    pages: list[tuple[str, str]], desk: Callable[[str], Watched]
) -> None:
    assert len(pages) > 2 * len(ADMINS)
    for role, target in [*pages, *((role, "/admin/") for role in ROLES)]:
        desk(role).open(target)


def test_pages_outside_the_admins_tables_open_too(desk: Callable[[str], Watched]) -> None:
    """Sign-in, passwords, refusals, wrong addresses and the description of the API."""
    desk("").open("/admin/login/")
    clerk = desk(CLERK)
    clerk.open("/admin/password_change/")
    clerk.open("/admin/account/")
    clerk.open("/admin/portal/auditentry/", HTTPStatus.FORBIDDEN)
    page = clerk.open("/admin/nothing/", HTTPStatus.NOT_FOUND)
    assert page.evaluate("getComputedStyle(document.body).maxWidth") == "544px"
    page = clerk.open("/api/v1/docs")
    page.locator(".opblock").first.wait_for()
    assert page.locator(".opblock").count() > 10


def test_our_own_fault_shows_its_page(
    desk: Callable[[str], Watched], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_given: object) -> None:
        raise RuntimeError

    monkeypatch.setattr("portal.dashboard.role_names", broken)
    page = desk(CLERK).open("/admin/", HTTPStatus.INTERNAL_SERVER_ERROR)
    assert "平台出错" in page.locator("h1").inner_text()


def test_the_policy_holds_in_the_browser(desk: Callable[[str], Watched], sessions: dict[str, str]) -> None:
    """What an attacker might get into a page neither runs nor reaches another origin."""
    one = desk(CLERK)
    page = one.open("/admin/")
    page.evaluate("""() => {
        const html = '<img src="/x" onerror="window.hit = 1"><a href="javascript:window.hit = 1">x</a>';
        document.body.insertAdjacentHTML('beforeend', html);
        const script = document.createElement('script');
        script.textContent = 'window.hit = 1';
        document.body.append(script);
        document.querySelector('a[href^=javascript]').click();
    }""")
    page.wait_for_timeout(50)
    assert page.evaluate("window.hit") is None
    # A debugger may eval, so ask from a timer.
    page.evaluate("setTimeout(() => { try { eval('1') } catch (error) { window.name = error.name } }, 0)")
    page.wait_for_timeout(100)  # wait_for_function would eval itself
    assert page.evaluate("window.name") == "EvalError"
    assert page.evaluate("fetch('https://example.com/').catch((error) => error.name)") == "TypeError"
    assert len([text for text in one.complaints if "Content Security Policy" in text]) >= 4
    one.complaints.clear()


REFUSED = (
    "document.cookie",
    "fetch('/admin/')",
    "window.document",
    "window.alert(1)",
    "$el.innerHTML = '<b>'",
    "$el.ownerDocument",
    "$el.setAttribute('onclick', 'x')",
    "localStorage.constructor",
    "[].constructor.constructor('alert(1)')()",
    "''['constr' + 'uctor']",
    "theme.call",
    "(value => value).constructor",
    "openModal.__proto__",
    "new Date()",
    "`text`",
    "1 +",
    "if (true",
)


def test_expressions_of_a_page_reach_no_further_than_the_page(desk: Callable[[str], Watched]) -> None:
    one = desk(CLERK)
    page = one.open("/admin/")
    for expression in REFUSED:
        got = page.evaluate(
            """(expression) => {
                const el = document.createElement('span');
                el.setAttribute('x-data', '{taken: 0}');
                el.setAttribute('x-init', `taken = ${expression}`);
                document.body.append(el);
                Alpine.initTree(el);
                return Alpine.$data(el).taken;
            }""",
            expression,
        )
        assert got == 0, expression
    page.wait_for_timeout(20)
    assert len(one.complaints) == len(REFUSED)
    assert all(f" in taken = {text} " in said for text, said in zip(REFUSED, one.complaints, strict=True))
    one.complaints.clear()


def test_expressions_are_read_as_javascript_reads_them(desk: Callable[[str], Watched]) -> None:
    """Values, ranks, calls, tables, conditions and steps: what unfold's templates use and a little more."""
    page = desk(CLERK).open("/admin/")
    for expression, expected in {
        "1 + 2 - 3 == 0 && !false || missing": True,
        "a > 1 ? 'x' : a >= 1 ? \"y\\n\" : 'z'": "y\n",
        "{'p-1': a, q: [a, -a, null]}": {"p-1": 1, "q": [1, -1, None]},
        "['h3'].includes('H3'.toLowerCase()) && (a = 7)": 7,
        "if (a === 1) { a = 2; a = a + 1 } else a = 9; a": 3,
        "[1, 2].map(n => n + a)[1]": 3,
        "undefined === nothing.deep": True,
        "a !== 2 && 'b' < 'c' && 2 <= 2": True,
    }.items():
        got = page.evaluate(
            """(expression) => {
                const merge = (all) => Object.assign({}, ...all.toReversed());
                return portalExpressions.read(expression, {}, merge)({a: 1, nothing: {}});
            }""",
            expression,
        )
        assert got == expected, expression


def test_menu_theme_and_language_obey_the_mouse_and_remember(desk: Callable[[str], Watched]) -> None:
    page = desk(CLERK).open("/admin/")
    sidebar = page.locator("#nav-sidebar")
    page.locator("[x-on\\:click^='sidebarDesktopOpen']").click()
    sidebar.wait_for(state="hidden")
    page.reload()
    sidebar.wait_for(state="hidden")
    page.locator("[x-on\\:click^='sidebarDesktopOpen']").click()
    sidebar.wait_for(state="visible")
    page.locator("[x-on\\:click='openUserLinks = !openUserLinks']").click()
    page.locator("[x-on\\:click=\"switchTheme('dark')\"]").click()
    assert "dark" in html_class(page)
    page.reload()
    assert "dark" in html_class(page)
    page.locator("[x-on\\:click='openUserLinks = !openUserLinks']").click()
    page.get_by_text("English").click()
    page.wait_for_load_state()
    assert "Tasks" in page.title()


def test_what_can_be_clicked_can_be_reached_by_keyboard(desk: Callable[[str], Watched]) -> None:
    page = desk(CLERK).open("/admin/")
    menu = page.locator("[x-on\\:click='openUserLinks = !openUserLinks']")
    menu.focus()
    page.keyboard.press("Enter")
    theme = page.locator("[x-on\\:click=\"switchTheme('light')\"]")
    theme.wait_for(state="visible")
    theme.focus()
    page.keyboard.press("Space")
    assert "light" in html_class(page)
    menu.focus()
    page.keyboard.press("Enter")
    theme.wait_for(state="hidden")


def test_pages_are_found_from_the_sidebar_and_the_palette(desk: Callable[[str], Watched]) -> None:
    page = desk(CLERK).open("/admin/")
    page.keyboard.press("t")
    page.keyboard.type("批次")
    page.keyboard.press("End")
    page.locator("#search-results a").first.wait_for()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.wait_for_url("**/production/batch/")
    page.keyboard.press("Control+k")
    page.locator("#search-input-command").wait_for(state="visible")
    page.keyboard.type("合同")
    page.keyboard.press("End")
    page.locator("#command-results li").first.wait_for()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.wait_for_url("**/orders/contract/")


def test_a_list_is_filtered_in_its_panel(desk: Callable[[str], Watched]) -> None:
    page = desk(CLERK).open(ORDERS)
    panel = page.locator("#changelist-filter")
    page.locator("[x-on\\:click='filterOpen = true']").click()
    panel.wait_for(state="visible")
    page.keyboard.press("Escape")
    panel.wait_for(state="hidden")
    page.locator("[x-on\\:click='filterOpen = true']").click()
    panel.locator("select").first.select_option(index=1)
    panel.locator("button[type=submit]").click()
    page.wait_for_url("**/order/?*")


def test_a_verb_answers_a_wrong_form_and_picks_dates_from_a_calendar(desk: Callable[[str], Watched]) -> None:
    one = desk(CLERK)
    page = one.open("/admin/orders/package/upload/")
    page.locator("button[name=_confirm]").click()
    page.wait_for_load_state()
    page.locator(".errorlist, [role=alert], .pk-box .text-red-600").first.wait_for()
    one.complaints.clear()  # the console repeats the answer's 422
    page = one.open("/admin/orders/contract/add/")
    date = page.locator("input.vDateField").first
    page.locator(".datetimeshortcuts a[id^=calendarlink]").first.click()
    page.locator(".calendarbox").first.wait_for(state="visible")
    page.locator(".calendarbox .calendar td a").first.click()
    assert date.input_value()
