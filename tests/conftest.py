"""The session's own PostgreSQL and Redis, the files and keys of each test, and a browser.

Django is loaded with the first test module outside the pure folders, the servers start with the first test
that asks for them: the core's tests need neither.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from portal import embedded

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

WORKER = os.environ.get("PYTEST_XDIST_WORKER", "")
WORKER_NUMBER = int(WORKER.removeprefix("gw") or 0) if WORKER else 0
CHROMIUM_FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
# Folders of tests/ whose modules know no Django: they also run where it is not installed.
PURE_FOLDERS = ("core", "samples", "card", "production/personalization")
SETTINGS_OF_THE_USER = (
    "SECRET_KEY",
    "PORTAL_KEK",
    "PORTAL_KEK_NEXT",
    "PORTAL_DEBUG",
    "STORAGE_URL",
    "FILES_DIR",
    "KEYSTORE_DIR",
    "INTAKE_DIR",
    "DJANGO_SETTINGS_MODULE",
)
# A session never touches the user's var/ and reads none of the user's settings.
if not WORKER:
    os.environ["PORTAL_TEST_VAR"] = tempfile.mkdtemp(prefix="portal-test-")
SESSION_VAR = Path(os.environ["PORTAL_TEST_VAR"])
(SESSION_VAR / "static").mkdir(exist_ok=True)  # whitenoise warns of a missing one, and warnings are errors
for name in SETTINGS_OF_THE_USER:
    os.environ.pop(name, None)
for name in ("SIGN_IN", "SEARCH", "UNMASK", "DOWNLOAD", "CREDENTIAL"):  # tests of the limits set their own
    os.environ[f"RATE_{name}"] = "1000000/min"
os.environ["PORTAL_ENV"] = "development"
os.environ["PORTAL_VAR"] = str(SESSION_VAR)
os.environ["DATABASE_URL"] = embedded.place(SESSION_VAR).database_url
os.environ["REDIS_URL"] = embedded.place(SESSION_VAR).redis_url(1 + WORKER_NUMBER)


def pytest_pycollect_makemodule(module_path: Path) -> None:
    """Load Django before the first test module that may know it is imported."""
    folder = module_path.parent.relative_to(Path(__file__).parent).as_posix()
    if "DJANGO_SETTINGS_MODULE" not in os.environ and not folder.startswith(PURE_FOLDERS):
        os.environ["DJANGO_SETTINGS_MODULE"] = "portal.settings"
        import django

        django.setup()


@pytest.fixture(scope="session", autouse=True)
def database_for_database_tests_only(django_db_blocker: Any) -> Iterator[None]:
    """Refuse queries of tests that did not ask for a database."""
    if django_db_blocker is None:
        yield
        return
    with django_db_blocker.block():
        yield


def pytest_unconfigure(config: pytest.Config) -> None:
    """Stop the servers with their last process and remove what the session wrote."""
    embedded.release(SESSION_VAR)
    if not WORKER:
        shutil.rmtree(SESSION_VAR, ignore_errors=True)


@pytest.fixture(scope="session")
def servers() -> None:
    """Start the session's servers, shared by all processes of pytest-xdist."""
    embedded.hold(SESSION_VAR, durable=False)


@pytest.fixture(scope="session")
def django_db_keepdb() -> bool:
    """Take a database that is already there; it goes with its server at the session's end."""
    return True


@pytest.fixture(scope="session")
def django_db_modify_db_settings(django_db_modify_db_settings_parallel_suffix: None, servers: None) -> bool:
    """Load this process's own test database, once the server runs; say whether there was one to load."""
    from django.db import connection

    from tests import schema_cache

    return schema_cache.load(SESSION_VAR, connection.creation._get_test_db_name())


@pytest.fixture(scope="session")
def django_db_setup(django_db_modify_db_settings: bool, django_db_setup: None) -> None:
    """Keep the database as it is after the migrations for the next session."""
    import psycopg
    from django.db import connection

    from tests import schema_cache

    if not django_db_modify_db_settings:
        with psycopg.connect(
            embedded.place(SESSION_VAR).database_url, dbname=connection.settings_dict["NAME"]
        ) as link:
            # Tests that commit are cleaned up after by TRUNCATE, which the audit refuses elsewhere.
            for table, trigger in (("auditentry", "audit"), ("auditanchor", "audit_anchor")):
                link.execute(f"ALTER TABLE portal_{table} DISABLE TRIGGER {trigger}_not_emptied")
        schema_cache.keep(SESSION_VAR, connection.settings_dict["NAME"])


@pytest.fixture(scope="module")
def module_database(django_db_setup: None, django_db_blocker: Any) -> Iterator[None]:
    """Let a module's tests start from rows committed once, in a copy of the test database."""
    import psycopg
    from django.db import connection

    whole = connection.settings_dict["NAME"]
    copy = f"{whole}_module"
    with psycopg.connect(embedded.place(SESSION_VAR).database_url, autocommit=True) as link:
        connection.close()
        # A live server's thread may still hold its idle connection; PostgreSQL copies unused databases only.
        link.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [whole])
        link.execute(f'CREATE DATABASE "{copy}" TEMPLATE "{whole}"')
        connection.settings_dict["NAME"] = copy
        with django_db_blocker.unblock():
            yield
        connection.close()
        connection.settings_dict["NAME"] = whole
        link.execute(f'DROP DATABASE "{copy}" WITH (FORCE)')


@pytest.fixture
def redis_server(servers: None) -> Iterator[Any]:
    """Return a client of this process's own Redis database, empty before and after the test."""
    import redis

    with redis.Redis.from_url(os.environ["REDIS_URL"]) as client:
        client.flushdb()
        yield client
        client.flushdb()


@pytest.fixture(autouse=True)
def own_folders(request: pytest.FixtureRequest) -> None:
    """Keep sealed files, keys and the watched folder of each test to itself."""
    if "DJANGO_SETTINGS_MODULE" not in os.environ:
        return
    settings = request.getfixturevalue("settings")
    folder: Path = request.getfixturevalue("tmp_path")
    settings.FILES_DIR = folder / "files"
    settings.KEYSTORE_DIR = folder / "keys"
    settings.INTAKE_DIR = folder / "intake"
    default = settings.STORAGES["default"]
    options = default.get("OPTIONS", {}) | {"location": settings.FILES_DIR}
    settings.STORAGES = settings.STORAGES | {"default": default | {"OPTIONS": options}}


@pytest.fixture(autouse=True)
def password_alone(request: pytest.FixtureRequest) -> None:
    """Let people of privileged roles work without a second factor, but for tests marked `second_factor`."""
    if "DJANGO_SETTINGS_MODULE" in os.environ and request.node.get_closest_marker("second_factor") is None:
        request.getfixturevalue("settings").TOTP_REQUIRED = False


@pytest.fixture
def keystore_dir(own_folders: None, settings: Any) -> Path:
    return Path(settings.KEYSTORE_DIR)


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """Start the system's Chromium once; `CHROMIUM` names another."""
    from playwright.sync_api import sync_playwright

    program = os.environ.get("CHROMIUM", "/usr/bin/chromium")
    with sync_playwright() as playwright:
        # Playwright keeps an event loop running in this thread; the ORM in a test's own body is synchronous.
        os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "true"
        started = playwright.chromium.launch(executable_path=program, args=list(CHROMIUM_FLAGS))
        yield started
        started.close()
        os.environ.pop("DJANGO_ALLOW_ASYNC_UNSAFE")


@pytest.fixture
def browser(chromium: Browser, live_server: Any) -> Iterator[Page]:
    """Return a page of a fresh Chinese-speaking browser whose addresses start at the live server."""
    context = chromium.new_context(
        base_url=live_server.url, locale="zh-CN", viewport={"width": 1440, "height": 900}
    )
    yield context.new_page()
    context.close()
