"""Bearer tokens of the API."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from datetime import timedelta
from typing import ClassVar

from django.utils import timezone

from portal.audit import unit_of_work
from portal.core.crypto import sm3
from portal.core.errors import InputRefusedError
from portal.models import ApiToken, User
from portal.roles import require
from portal.services.master_rows import check_values
from portal.token_scopes import SCOPES, scopes_open_to
from portal.workflow import locked

TOKEN_BYTES = 32
MAX_TOKEN_DAYS = 366


class ScopesRefusedError(InputRefusedError):
    """Scopes that do not exist, or that the owner's roles do not allow."""

    code: ClassVar[str] = "scopes_refused"


def issue_token(
    user: User, *, name: str, days: int, scopes: Sequence[str], actor: User
) -> tuple[ApiToken, str]:
    """Make a bearer token for areas of the API; its text is returned once and only its digest is kept."""
    require(actor, "portal.add_apitoken")
    if not 1 <= days <= MAX_TOKEN_DAYS:
        raise InputRefusedError("有效天数超出范围", expected=f"1 至 {MAX_TOKEN_DAYS}", got=str(days))
    if user.is_system or not user.is_active:
        raise InputRefusedError("只能为启用的用户签发令牌", got=user.username)
    _check_scopes(user, scopes)
    text = secrets.token_urlsafe(TOKEN_BYTES)
    token = ApiToken(
        user=user,
        name=name.strip(),
        digest=sm3(text.encode()),
        scopes=sorted(set(scopes)),
        expires_at=timezone.now() + timedelta(days=days),
    )
    check_values(token, exclude=["last_used_at", "revoked_at"])
    with unit_of_work(actor) as work:
        token.save()
        work.record("apitoken.issued", token, days=days, owner=user.username, scopes=token.scopes)
    return token, text


def revoke_token(token: ApiToken, *, actor: User) -> ApiToken:
    """End a token at once."""
    require(actor, "portal.revoke_apitoken")
    with unit_of_work(actor) as work:
        fresh = locked(token)
        if fresh.revoked_at is not None:
            raise InputRefusedError("该令牌已撤销")
        fresh.revoked_at = timezone.now()
        fresh.save(update_fields=["revoked_at"])
        work.record("apitoken.revoked", fresh)
    return fresh


def _check_scopes(user: User, scopes: Sequence[str]) -> None:
    """Refuse a token for nothing, for what does not exist, and for more than its owner may do."""
    unknown = sorted(set(scopes) - SCOPES.keys())
    if unknown or not scopes:
        raise ScopesRefusedError(
            "请从下列权限范围中选择", expected="、".join(SCOPES), got="、".join(unknown) or "无"
        )
    allowed = scopes_open_to(user)
    beyond = sorted(set(scopes) - set(allowed))
    if beyond:
        raise ScopesRefusedError(
            "权限范围超出该用户的角色", expected="、".join(allowed) or "无", got="、".join(beyond)
        )
