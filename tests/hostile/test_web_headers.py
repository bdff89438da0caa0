"""What every answer tells the browser, and what production adds (issue 3, Web)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.test import Client

from portal.choices import Role
from portal.models import Organisation, User
from tests.api import ROOT, client_of
from tests.portal.desk import make_person, page, sign_in

POLICY = (
    "base-uri 'none'; connect-src 'self'; default-src 'none'; font-src 'self'; form-action 'self'; "
    "frame-ancestors 'none'; img-src 'self' data: blob:; object-src 'none'; script-src 'self'; "
    "style-src 'self'"
)
ALWAYS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
PRODUCTION = {
    "PORTAL_ENV": "production",
    "SECRET_KEY": "".join(chr(33 + n) for n in range(80)),
    "PORTAL_KEK": "00112233445566778899aabbccddeeff",
    "ALLOWED_HOSTS": "cards.example.gov.cn",
    "DATABASE_URL": "postgresql://portal@/portal?host=/nowhere",
    "REDIS_URL": "redis://127.0.0.1:6379/0",
    "TRUSTED_PROXIES": "1",
    "DJANGO_SETTINGS_MODULE": "portal.settings",
}
ASK = """
import django, json; django.setup()
from django.test import Client
client, host = Client(), {"HTTP_HOST": "cards.example.gov.cn"}
plain = client.get("/admin/login/", **host)
behind = client.get("/admin/login/", HTTP_X_FORWARDED_PROTO="https", **host)
other = client.get("/admin/login/", HTTP_X_FORWARDED_PROTO="https", HTTP_HOST="evil.example")
client.post("/i18n/setlang/", {"language": "en"}, secure=True, **host)
print(json.dumps({
    "plain": [plain.status_code, plain["Location"]],
    "behind": [behind.status_code, behind["Strict-Transport-Security"]],
    "other": [other.status_code, b"evil" in other.content],
    "cookies": {name: dict(morsel) for name, morsel in client.cookies.items()},
    "session": [getattr(django.conf.settings, "SESSION_COOKIE_" + name) for name in (
        "NAME", "SECURE", "HTTPONLY", "SAMESITE", "PATH", "DOMAIN")],
}))
"""


@pytest.fixture
def clerk(db: None) -> User:
    home = Organisation.objects.create(kind="purchaser", code="P", name="采购人", short_name="采购人")
    return make_person(Role.PURCHASER_CLERK, home)


def policy_of(answer: Any) -> str:
    """Return the policy with its directives in order."""
    return "; ".join(sorted(part.strip() for part in answer["Content-Security-Policy"].split(";")))


def test_every_kind_of_answer_carries_the_rules(clerk: User) -> None:
    """Pages, refusals, wrong addresses, redirects, the API and its problems, and files of the interface."""
    desk, api = sign_in(clerk), client_of(clerk)
    answers = {
        "page": desk.get("/admin/"),
        "form": desk.get(page("orders.package", "upload")),
        "refused": desk.get(page("portal.auditentry", "changelist")),
        "missing": desk.get("/nothing"),
        "redirect": Client().get("/admin/"),
        "sign-in": Client().get("/admin/login/"),
        "too large": desk.post("/admin/", b"", "text/plain", CONTENT_LENGTH=str(2**30)),
        "api": api.get(f"{ROOT}/packages"),
        "api problem": api.get(f"{ROOT}/nothing"),
        "api docs": desk.get(f"{ROOT}/docs"),
        "script": desk.get("/static/portal/interface.js"),
    }
    answers["script"].getvalue()
    for name, answer in answers.items():
        assert policy_of(answer) == POLICY, name
        assert {header: answer.get(header) for header in ALWAYS} == ALWAYS, name
        assert "camera=()" in answer["Permissions-Policy"], name
        kept = "public" if name == "script" else "no-store"
        assert kept in answer["Cache-Control"], name
    assert answers["too large"].status_code == 413


def test_cookies_are_out_of_reach_of_scripts_and_other_sites(clerk: User) -> None:
    client = Client()
    client.get("/admin/login/")
    client.force_login(clerk)
    client.get("/admin/")
    client.post("/i18n/setlang/", {"language": "en"})
    expected = {"sessionid": "Lax", "csrftoken": "Strict", "django_language": "Lax"}
    found = {name: client.cookies[name] for name in expected}
    assert {name: morsel["samesite"] for name, morsel in found.items()} == expected
    assert all(morsel["httponly"] for morsel in found.values())


def run(program: list[str], folder: Path, **more: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "PORTAL_VAR": str(folder), **PRODUCTION, **more}
    (folder / "static").mkdir(exist_ok=True)
    return subprocess.run(
        [sys.executable, *program], env=environment, cwd=settings.BASE_DIR, capture_output=True, text=True,
        check=False,
    )  # fmt: skip


def test_djangos_own_check_of_a_deployment_finds_nothing(tmp_path: Path) -> None:
    done = run(["manage.py", "check", "--deploy", "--fail-level", "WARNING"], tmp_path)
    assert done.returncode == 0, done.stderr


def test_production_speaks_tls_only_and_its_cookies_belong_to_one_host(tmp_path: Path) -> None:
    done = run(["-c", ASK], tmp_path)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["plain"] == [301, "https://cards.example.gov.cn/admin/login/"]
    assert told["behind"] == [200, "max-age=31536000; includeSubDomains; preload"]
    assert told["other"] == [400, False]
    assert told["session"] == ["__Host-session", True, True, "Lax", "/", None]
    assert set(told["cookies"]) == {"__Host-csrf", "__Host-language"}
    for cookie in told["cookies"].values():
        assert (cookie["secure"], cookie["httponly"], cookie["path"], cookie["domain"]) == (
            True,
            True,
            "/",
            "",
        )


def test_without_a_proxy_nobody_is_believed_about_tls(tmp_path: Path) -> None:
    """Without a proxy of ours the header is the client's own claim."""
    asked = (
        "import django; django.setup()\n"
        "from django.test import Client\n"
        "told = {'HTTP_HOST': 'cards.example.gov.cn', 'HTTP_X_FORWARDED_PROTO': 'https'}\n"
        "print(Client().get('/admin/', **told).status_code)"
    )
    assert run(["-c", asked], tmp_path, TRUSTED_PROXIES="0").stdout.strip() == "301"
