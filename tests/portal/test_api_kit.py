"""What every part of the API shares: tokens, pages, problem details, throttles, its own description."""

from __future__ import annotations

import io
from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command
from django.test import Client
from django.utils import timezone
from rest_framework.test import APIClient

from portal.choices import Role
from portal.core.crypto import sm3
from portal.models import ApiToken, User
from tests.api import ROOT, actions, client_of, code_of, expired, ids, problem, token_of
from tests.orders.scene import make_organisation, make_package, make_user

pytestmark = pytest.mark.django_db
PACKAGES = f"{ROOT}/packages"


@pytest.fixture
def clerk() -> User:
    return make_user("clerk", make_organisation("purchaser", "GOV"), Role.PURCHASER_CLERK)


def bearer(text: str) -> APIClient:
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {text}")
    return client


class TestTokens:
    def test_a_valid_token_is_taken_and_its_use_noted_to_the_minute(self, clerk: User) -> None:
        text = token_of(clerk)
        assert bearer(text).get(PACKAGES).status_code == 200
        first = ApiToken.objects.get().last_used_at
        assert first is not None
        bearer(text).get(PACKAGES)
        assert ApiToken.objects.get().last_used_at == first
        ApiToken.objects.update(last_used_at=first - timedelta(minutes=2))
        bearer(text).get(PACKAGES)
        assert ApiToken.objects.get().last_used_at > first - timedelta(minutes=1)

    def test_only_the_digest_is_kept(self, clerk: User) -> None:
        """R-45: nobody can take a token from the database or its backups."""
        text = token_of(clerk)
        row = ApiToken.objects.get()
        assert bytes(row.digest) == sm3(text.encode())
        assert text not in str(row.__dict__)

    @pytest.mark.parametrize("state", ["expired", "revoked", "inactive", "system"])
    def test_a_token_that_no_longer_counts_is_refused_like_a_wrong_one(self, clerk: User, state: str) -> None:
        text = token_of(clerk, **(expired() if state == "expired" else {}))
        if state == "revoked":
            ApiToken.objects.update(revoked_at=timezone.now())
        if state == "inactive":
            User.objects.filter(pk=clerk.pk).update(is_active=False)
        if state == "system":
            ApiToken.objects.update(user=User.objects.system())
        answers = [problem(bearer(shown).get(PACKAGES), 401) for shown in (text, "wrong")]
        assert (
            answers[0]
            == answers[1]
            == {
                "status": 401,
                "code": "authentication_failed",
                "title": "令牌无效、已撤销或已过期",
            }
        )
        assert ApiToken.objects.get().last_used_at is None

    @pytest.mark.parametrize("header", ["Bearer", "Bearer a b", "bearer"])
    def test_a_malformed_header_is_refused(self, header: str) -> None:
        client = APIClient()
        client.credentials(HTTP_AUTHORIZATION=header)
        assert code_of(client.get(PACKAGES), 401) == "authentication_failed"

    def test_without_credentials_the_scheme_is_named(self) -> None:
        answer = APIClient().get(PACKAGES)
        assert code_of(answer, 401) == "not_authenticated"
        assert answer["WWW-Authenticate"] == "Bearer"

    def test_the_command_prints_a_token_once(self, clerk: User) -> None:
        shown, said = io.StringIO(), io.StringIO()
        call_command(
            "create_token",
            "clerk",
            name="对账系统",
            scopes=["packages.read"],
            days=7,
            stdout=shown,
            stderr=said,
        )
        text = shown.getvalue().strip()
        assert bearer(text).get(PACKAGES).status_code == 200
        token = ApiToken.objects.get()
        assert (token.name, token.user) == ("对账系统", clerk)
        assert (token.expires_at - timezone.now()).days == 6
        assert actions() == ["apitoken.issued"]

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"days": 0}, "有效天数超出范围"),
            ({"days": 367}, "有效天数超出范围"),
            ({"actor": "clerk"}, "没有此项权限"),
            ({"actor": "nobody"}, "没有用户 nobody"),
            ({"scopes": ["deliveries.write"]}, "权限范围超出该用户的角色"),
        ],
    )
    def test_the_command_refuses(self, clerk: User, changes: dict[str, object], message: str) -> None:
        with pytest.raises(CommandError, match=message):
            call_command("create_token", "clerk", name="x", **{"scopes": ["orders.read"]} | changes)
        assert not ApiToken.objects.exists()

    def test_a_signed_in_person_may_use_the_api_and_needs_the_csrf_token_to_write(self, clerk: User) -> None:
        browser = Client(enforce_csrf_checks=True)
        browser.force_login(clerk)
        assert browser.get(PACKAGES).status_code == 200
        assert code_of(browser.post(PACKAGES, {"file": io.BytesIO(b"x")}), 403) == "permission_denied"


class TestPages:
    def test_pages_go_by_key_newest_first_and_count_nothing(
        self, clerk: User, django_assert_num_queries: object
    ) -> None:
        assert clerk.organisation is not None
        made = [make_package(clerk.organisation, clerk, f"P{n}").pk for n in range(5)]
        client = client_of(clerk)
        first = client.get(PACKAGES, {"page_size": 2})
        assert ids(first) == made[:2:-1]
        second = client.get(first.json()["next"])
        assert ids(second) == made[2:0:-1]
        last = client.get(second.json()["next"])
        assert (ids(last), last.json()["next"]) == (made[:1], None)
        assert "count" not in first.json()

    @pytest.mark.parametrize("cursor", ["x", "cD0xMDAw8", "%00"])
    def test_a_made_up_cursor_is_not_found_or_ignored(self, clerk: User, cursor: str) -> None:
        assert client_of(clerk).get(f"{PACKAGES}?cursor={cursor}").status_code in {200, 404}

    def test_an_unknown_status_is_named(self, clerk: User) -> None:
        body = problem(client_of(clerk).get(PACKAGES, {"status": "lost"}), 400)
        assert (body["code"], body["errors"][0]["field"]) == ("invalid", "status")

    @pytest.mark.parametrize("key", ["999999999999999999", "0"])
    def test_a_key_that_does_not_exist_is_not_found(self, clerk: User, key: str) -> None:
        assert problem(client_of(clerk).get(f"{PACKAGES}/{key}"), 404) == {
            "status": 404,
            "code": "not_found",
            "title": "没有找到",
        }


class TestUnexpected:
    def test_an_address_that_does_not_exist_is_a_problem_too(self) -> None:
        assert code_of(APIClient().get(f"{ROOT}/nothing"), 404) == "not_found"
        assert APIClient().get("/nothing")["Content-Type"].startswith("text/html")

    def test_an_unexpected_error_says_nothing_of_its_cause(
        self, clerk: User, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """R-45: what went wrong may name a person."""

        def broken(*_given: object, **_named: object) -> None:
            raise RuntimeError("张三 440600190001010005")

        client = client_of(clerk)
        client.raise_request_exception = False
        monkeypatch.setattr("orders.api.views.PackageViewSet.list", broken)
        assert problem(client.get(PACKAGES), 500) == {
            "status": 500,
            "code": "server_error",
            "title": "服务器内部错误，已记录",
        }


class TestThrottle:
    def test_too_many_requests_are_told_when_to_come_back(
        self, clerk: User, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("rest_framework.throttling.UserRateThrottle.rate", "2/min", raising=False)
        client = client_of(clerk)
        assert [client.get(PACKAGES).status_code for _ in range(2)] == [200, 200]
        refused = client.get(PACKAGES)
        assert code_of(refused, 429) == "throttled"
        assert 1 <= int(refused["Retry-After"]) <= 120


class TestDescription:
    def test_the_document_is_valid_without_a_warning(self, tmp_path: object) -> None:
        target = f"{tmp_path}/schema.yaml"
        call_command("spectacular", validate=True, fail_on_warn=True, file=target)

    def test_document_and_page_are_for_people_who_signed_in(self, clerk: User) -> None:
        assert APIClient().get(f"{ROOT}/schema").status_code == 401
        document = client_of(clerk).get(f"{ROOT}/schema", HTTP_ACCEPT="application/vnd.oai.openapi+json")
        described = document.data["paths"][PACKAGES]["post"]["responses"]
        assert set(described) == {"201", "default"}
        page = client_of(clerk).get(f"{ROOT}/docs").content.decode()
        assert "/static/drf_spectacular_sidecar/swagger-ui-dist" in page
        assert "cdn." not in page
