"""How the tests call the API: with a real token, and problem details read strictly."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.utils import timezone
from rest_framework.test import APIClient

from portal.core.crypto import sm3
from portal.models import ApiToken, AuditEntry, User
from portal.services.tokens import issue_token
from portal.token_scopes import SCOPES, scopes_open_to

ROOT = "/api/v1"


def token_of(user: User, **changes: Any) -> str:
    """Return a fresh token of a user with every scope the roles allow; `changes` are written to its row."""
    scopes = scopes_open_to(user)
    if not scopes:  # nobody would issue it: what it opens is up to the roles alone
        return _token_for_nothing(user)
    token, text = issue_token(user, name="test", days=1, scopes=scopes, actor=User.objects.system())
    assert bytes(token.digest) == sm3(text.encode())
    ApiToken.objects.filter(pk=token.pk).update(**changes)
    return text


def _token_for_nothing(user: User) -> str:
    text = f"token of {user.pk}"
    until = timezone.now() + timedelta(days=1)
    ApiToken.objects.create(
        user=user, name="test", digest=sm3(text.encode()), scopes=list(SCOPES), expires_at=until
    )
    return text


def expired() -> dict[str, Any]:
    """Return what makes a token one that has just expired."""
    return {"expires_at": timezone.now() - timedelta(seconds=1)}


def client_of(user: User) -> APIClient:
    """Return a client that signs its requests with a token of the user."""
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {token_of(user)}")
    return client


def problem(response: Any, status: int) -> dict[str, Any]:
    """Return the body of a refusal, which must be problem details of this status."""
    body = response.json()
    assert (response.status_code, body.get("status")) == (status, status), body
    assert response["Content-Type"] == "application/problem+json"
    assert set(body) <= {"status", "code", "title", "where", "expected", "got", "errors"}
    return dict(body)


def code_of(response: Any, status: int) -> str:
    """Return the stable code of a refusal."""
    return str(problem(response, status)["code"])


def ids(response: Any) -> list[int]:
    """Return the keys on a page."""
    assert response.status_code == 200, response.content
    return [row["id"] for row in response.json()["results"]]


def actions() -> list[str]:
    """Return what the audit holds, oldest first."""
    return list(AuditEntry.objects.order_by("position").values_list("action", flat=True))
