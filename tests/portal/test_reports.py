"""A fault is told by kind and place: logs, error mails and Django's reports hold no value (R-45)."""

from __future__ import annotations

import logging
import sys
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.core import mail
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client, RequestFactory
from django.utils.module_loading import import_string
from django.views.debug import ExceptionReporter, get_exception_reporter_filter

from orders.models import Package
from portal.core.errors import InputRefusedError
from portal.reports import NothingShown, QuietEmailHandler, QuietFormatter, describe, masked
from tests.orders.intake.world import World, make_world
from tests.portal.desk import page, sign_in

NUMBER, NAME, ACCOUNT = "440604199001011237", "张样三", "6222020000001234567"
PLANTED = (NUMBER, NAME, ACCOUNT, "a-password", "a-session")


def broken(number: str) -> None:
    """Fail with a person in the message, in the cause, in a local variable and in a column's detail."""
    person = {"name": NAME}
    try:
        try:
            raise KeyError(person["name"])
        except KeyError as exc:
            raise InputRefusedError("姓名有误", got=NAME) from exc
    except InputRefusedError as exc:
        raise ValueError(f"cannot load {number} of {ACCOUNT}") from exc


def fault() -> BaseException:
    try:
        broken(NUMBER)
    except ValueError as exc:
        return exc
    raise AssertionError("nothing broke")


def leaks(text: str) -> list[str]:
    return [planted for planted in PLANTED if planted in text]


class TestDescribing:
    def test_kinds_codes_and_places_of_the_whole_chain(self) -> None:
        text = describe(fault())
        assert leaks(text) == []
        assert "builtins.ValueError" in text
        assert "InputRefusedError (input_refused)" in text
        assert "builtins.KeyError" in text
        assert text.count("in broken") == 3
        assert "test_reports.py" in text

    def test_a_chain_without_end_ends(self) -> None:
        first, second = ValueError(NUMBER), ValueError(NAME)
        first.__cause__, second.__cause__ = second, first
        assert describe(first).count("builtins.ValueError") == 6

    def test_a_broken_str_is_never_called(self) -> None:
        class OddError(Exception):
            def __str__(self) -> str:
                raise RuntimeError

        assert describe(OddError()).endswith("OddError")

    @pytest.mark.parametrize("text", [NUMBER, f"x={ACCOUNT},", "11010119900307888x", "6217000000000000"])
    def test_what_somebody_logs_by_mistake_is_masked(self, text: str) -> None:
        assert leaks(masked(text)) == []
        assert "****" in masked(text)

    def test_digests_moments_and_keys_stay_whole(self) -> None:
        for text in ("1234", "2026-11-23 08:00:00,123", "a" * 8 + "1" * 24, "20261123080000123456"):
            assert masked(text) == text


def record_of(error: BaseException | None, message: str = "broken", *args: Any) -> logging.LogRecord:
    info = (type(error), error, error.__traceback__) if error else None
    return logging.LogRecord("portal", logging.ERROR, __file__, 1, message, args, info)  # type: ignore[arg-type]


class TestFormatter:
    def test_the_log_of_a_fault(self) -> None:
        text = QuietFormatter("%(name)s %(message)s").format(record_of(fault(), "row of %s", NUMBER))
        assert leaks(text) == []
        assert text.startswith("portal row of 4406**********1237\nTraceback")

    def test_what_another_formatter_cached_is_not_used(self) -> None:
        record = record_of(fault())
        assert leaks(logging.Formatter().format(record)) == [NUMBER, NAME, ACCOUNT]
        assert leaks(QuietFormatter().format(record)) == []

    def test_developers_see_messages(self, settings: Any) -> None:
        """PORTAL_DEBUG, which production does not know."""
        settings.DEBUG = True
        assert NUMBER[:4] in QuietFormatter().format(record_of(ValueError(NUMBER)))

    def test_every_handler_of_ours_is_quiet(self) -> None:
        """The settings as they are: no handler of Django's own, every formatter quiet."""
        logging_settings = django_settings.LOGGING
        made_by = {each["()"] for each in logging_settings["formatters"].values()}
        assert made_by == {"portal.reports.QuietFormatter"}
        for handler in logging_settings["handlers"].values():
            quiet = handler["class"] == "portal.reports.QuietEmailHandler"
            assert quiet or handler["formatter"] == "plain"
        assert logging_settings["loggers"]["django"]["handlers"] == []
        assert import_string(django_settings.DEFAULT_EXCEPTION_REPORTER_FILTER) is NothingShown


@pytest.fixture
def mails(settings: Any) -> list[Any]:
    """Mail and log faults as production would, into memory."""
    settings.ADMINS = [("", "admin@example.org")]
    found = [each for each in logging.getLogger().handlers if isinstance(each, QuietEmailHandler)]
    assert len(found) == 1
    return mail.outbox


@pytest.fixture
def world(db: None, own_folders: None, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr("portal.queue.wake", lambda tasks: None)
    return make_world()


class TestMail:
    def test_a_crashed_intake(
        self,
        world: World,
        mails: list[Any],
        monkeypatch: pytest.MonkeyPatch,
        capfd: pytest.CaptureFixture[str],
    ) -> None:
        """The error quotes a person, the form holds a file, the session a cookie: the mail none of it."""

        def crash(*given: Any) -> None:
            broken(NUMBER)

        monkeypatch.setattr("orders.services.packages.extract_payload", crash)
        desk = sign_in(world.clerk)
        desk.raise_request_exception = False
        file = SimpleUploadedFile(f"{NAME}.sealed", world.container())
        answer = desk.post(f"{page('orders.package', 'upload')}?q={NUMBER}", {"file": file, "number": NUMBER})
        assert answer.status_code == 500
        (sent,) = mails
        text = f"{sent.subject}{sent.body}{sent.extra_headers}{sent.alternatives}"
        assert leaks(text) == []
        assert "builtins.ValueError" in sent.body
        assert "in broken" in sent.body
        assert "route: admin/orders/package/upload" in sent.body
        assert f"user: {world.clerk.pk}" in sent.body
        assert desk.cookies[django_settings.SESSION_COOKIE_NAME].value not in text
        assert leaks(answer.content.decode()) == []
        captured = capfd.readouterr()
        assert leaks(captured.out + captured.err) == []
        assert not Package.objects.exists()

    def test_without_addresses_nothing_is_sent(self, mails: list[Any], settings: Any) -> None:
        settings.ADMINS = []
        logging.getLogger("portal").error("broken", exc_info=fault())
        assert mails == []

    def test_a_mail_server_that_does_not_answer_breaks_nothing(
        self, mails: list[Any], settings: Any, unused_tcp_port: int
    ) -> None:
        settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
        settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", unused_tcp_port
        logging.getLogger("portal").error("broken", exc_info=fault())


@pytest.fixture
def unused_tcp_port() -> int:
    import socket

    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def test_djangos_own_report_shows_no_value(settings: Any) -> None:
    """The page that DEBUG shows: forms, queries, cookies, headers, settings and variables are hidden."""
    settings.DEBUG = True
    request = RequestFactory().post(
        f"/x?number={NUMBER}",
        {"name": NAME, "password": "a-password"},
        headers={"authorization": "a-session"},
    )
    request.COOKIES["sessionid"] = "a-session"
    error = RuntimeError("broken")
    error.__cause__ = None
    try:
        account = ACCOUNT
        raise error
    except RuntimeError:
        reporter = ExceptionReporter(request, *sys.exc_info())
    assert account
    shown = get_exception_reporter_filter(request)
    assert isinstance(shown, NothingShown)
    values = [value for frame in reporter.get_traceback_data()["frames"] for _, value in frame["vars"]]
    assert {shown.cleansed_substitute in value for value in values} == {True}
    assert shown.get_safe_settings() == {}
    assert set(shown.get_post_parameters(request)) == {"name", "password"}
    assert set(shown.get_post_parameters(request).values()) == {shown.cleansed_substitute}
    assert set(shown.get_safe_cookies(request).values()) == {shown.cleansed_substitute}
    assert (
        not {"QUERY_STRING", "HTTP_AUTHORIZATION", "HTTP_COOKIE"}
        & shown.get_safe_request_meta(request).keys()
    )


def test_a_client_error_is_no_fault(mails: list[Any], db: None) -> None:
    """404 and 403 are answered, not mailed."""
    assert Client().get(f"/nowhere/{NUMBER}/").status_code == 404
    assert mails == []
