"""Requests that lie: hosts, redirects, methods, paths, missing tokens (issue 3, Web)."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from portal.choices import Role
from portal.models import Organisation, User
from tests.api import ROOT, client_of, code_of
from tests.portal.desk import make_person, page, sign_in, text
from tests.refusals import everything

pytestmark = pytest.mark.django_db
FOREIGN = (
    "https://evil.example/", "//evil.example/", "///evil.example", "\\\\evil.example", "/\\evil.example",
    "javascript:alert(1)", "data:text/html,x", "http:evil.example", "https:/evil.example",
    "\t//evil.example",
)  # fmt: skip
TRAVERSALS = (
    "/static/../manage.py",
    "/static/../../etc/passwd",
    "/static/%2e%2e/%2e%2e/etc/passwd",
    "/static/..%2f..%2fmanage.py",
    "/static/portal/..%5c..%5csettings.py",
    "/static//etc/passwd",
    "/static/portal/interface.js%00.txt",
    "/admin/production/delivery/../../../../etc/passwd/download/",
    "/admin/production/delivery/..%2f..%2fetc%2fpasswd/download/",
    "/admin/orders/package/%00/change/",
    "/admin/orders/package/1%27%20OR%201=1/change/",
    f"{ROOT}/packages/..%2f..%2f/returns",
    f"{ROOT}/destruction-certificates/../../pdf",
)


@pytest.fixture
def clerk() -> User:
    home = Organisation.objects.create(kind="purchaser", code="P", name="采购人", short_name="采购人")
    user = make_person(Role.PURCHASER_CLERK, home)
    user.set_password("Huang-long-dong-26")
    user.save()
    return user


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "testserver:80@evil.example", "", "a b"]
)
def test_a_host_that_is_not_ours_is_refused_and_not_repeated(host: str, clerk: User) -> None:
    answer = sign_in(clerk).get("/admin/", HTTP_HOST=host)
    assert answer.status_code == 400
    assert "请求有误" in text(answer)
    assert "evil" not in text(answer)


def test_a_forwarded_host_is_nobodys_word(clerk: User) -> None:
    answer = Client().get("/admin/", HTTP_X_FORWARDED_HOST="evil.example", HTTP_FORWARDED="host=evil.example")
    assert (answer.status_code, answer["Location"]) == (302, "/admin/login/?next=/admin/")
    shown = sign_in(clerk).get("/admin/", HTTP_X_FORWARDED_HOST="evil.example")
    assert "evil.example" not in text(shown)


@pytest.mark.parametrize("target", FOREIGN)
def test_signing_in_leads_to_our_own_pages_only(clerk: User, target: str) -> None:
    answer = Client().post(
        f"/admin/login/?next={target}",
        {"username": clerk.username, "password": "Huang-long-dong-26", "next": target},
    )
    assert (answer.status_code, answer["Location"]) == (302, "/admin/")


@pytest.mark.parametrize("target", FOREIGN)
def test_changing_the_language_leads_to_our_own_pages_only(clerk: User, target: str) -> None:
    answer = sign_in(clerk).post("/i18n/setlang/", {"language": "en", "next": target}, HTTP_REFERER=target)
    assert answer.status_code in {204, 302}
    assert answer.get("Location", "/") == "/"


@pytest.mark.parametrize("target", TRAVERSALS)
def test_no_address_leads_out_of_its_folder(clerk: User, target: str) -> None:
    for client in (sign_in(clerk), client_of(clerk), Client()):
        answer = client.get(target)
        assert answer.status_code in {302, 400, 401, 403, 404}, target
        assert answer.status_code != 302 or answer["Location"].startswith(("/admin/", "/static/")), target
        assert b"root:" not in answer.content


@pytest.mark.parametrize(
    "query",
    [
        "p=x",
        "p=-1",
        "p=999999",
        "o=99.-99.x",
        "e=1",
        "_popup=1",
        "_to_field=password",
        "status=nothing",
        "sender__code=x",
        "q=" + "%F0%9F%98%80" * 200,
        "q[]=1",
        "%00=1",
    ],
)
def test_no_query_breaks_a_list(clerk: User, query: str) -> None:
    answer = sign_in(clerk).get(f"{page('orders.package', 'changelist')}?{query}")
    assert answer.status_code in {200, 302, 400, 404}
    assert answer.get("Location", "/admin/").startswith(("/admin/", "?"))


@pytest.mark.parametrize(
    "query", ["s=a&page=x", "s=a&page=99", "s=a&page=0", "s=%00", "s=a&page=-1&extended=1"]
)
def test_no_query_breaks_the_search(clerk: User, query: str) -> None:
    assert sign_in(clerk).get(f"/admin/search/?{query}").status_code in {200, 404}


def test_no_method_stands_in_for_another(clerk: User) -> None:
    """A method in a header or a field counts for nothing, and an unknown one does nothing."""
    before = everything()
    api = client_of(clerk)
    before = everything()
    for headers in ({"HTTP_X_HTTP_METHOD_OVERRIDE": "DELETE"}, {"HTTP_X_METHOD_OVERRIDE": "DELETE"}):
        assert api.post(f"{ROOT}/orders", {"_method": "DELETE"}, format="json", **headers).status_code == 405
    desk: Any = sign_in(clerk)
    for method in ("PUT", "PATCH", "DELETE", "TRACE", "OPTIONS", "CONNECT", "XYZ"):
        desk.generic(method, page("orders.contract", "add"), b"number=1", "application/x-www-form-urlencoded")
        assert api.generic(method, f"{ROOT}/packages").status_code in {200, 405}
    assert everything().keys() == before.keys()
    assert everything()["orders.Contract"] == before["orders.Contract"] == []


def test_the_api_takes_a_session_only_with_its_token(clerk: User) -> None:
    """A page of another site can send the session's cookie, but not the token."""
    client = Client(enforce_csrf_checks=True)
    client.force_login(clerk)
    answer = client.post(f"{ROOT}/account-files/1/load")
    assert code_of(answer, 403) == "permission_denied"


@pytest.mark.parametrize("length", ["99999999999", "-1", "x", "1e9"])
def test_a_body_is_refused_by_its_announced_size(clerk: User, length: str) -> None:
    """Before the check of the token, which would read it whole."""
    client = Client(enforce_csrf_checks=True)
    for address in ("/admin/login/", page("orders.package", "changelist")):
        answer = client.generic(
            "POST", address, b"x", "multipart/form-data; boundary=x", CONTENT_LENGTH=length
        )
        assert answer.status_code == 413
        assert "没有接收" in text(answer)


def test_only_an_upload_form_takes_a_file_and_only_from_somebody(clerk: User, settings: Any) -> None:
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 100_000
    address, desk = page("orders.package", "upload"), sign_in(clerk)

    def send(client: Client, target: str) -> int:
        return client.post(target, {"file": SimpleUploadedFile("x.scp", bytes(200_000))}).status_code

    assert send(Client(), address) == 413
    assert send(desk, page("orders.contract", "add")) == 413
    assert send(desk, address) == 409
