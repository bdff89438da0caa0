"""Bearer tokens of the API."""

from __future__ import annotations

from datetime import timedelta

from django.utils import timezone
from django.utils.translation import gettext as _
from rest_framework import exceptions
from rest_framework.authentication import BaseAuthentication, get_authorization_header
from rest_framework.request import Request

from portal.apikit.guesses import checked
from portal.core.crypto import sm3
from portal.models import ApiToken, User
from portal.token_scopes import permissions_of

USED_STEP = timedelta(minutes=1)


class TokenAuthentication(BaseAuthentication):
    """`Authorization: Bearer <token>`; the database keeps only the token's SM3 digest."""

    def authenticate(self, request: Request) -> tuple[User, ApiToken] | None:
        """Return the token's user; None when the request carries no bearer token."""
        words = get_authorization_header(request).split()
        if not words or words[0].lower() != b"bearer":
            return None
        if len(words) != 2:
            raise exceptions.AuthenticationFailed(_("Authorization 应为 Bearer <令牌>"))
        token = checked(words[1], lambda: _valid_token(words[1]))
        if token is None:
            raise exceptions.AuthenticationFailed(_("令牌无效、已撤销或已过期"))
        _note_use(token)
        # From here on every check of a permission, in views and services alike, is cut to the token's scopes.
        token.user.token_permissions = permissions_of(token.scopes)
        return token.user, token

    def authenticate_header(self, request: Request) -> str:
        """Name the scheme, so that a missing token answers 401."""
        return "Bearer"


def _valid_token(text: bytes) -> ApiToken | None:
    """Find a token by its digest; people who may not sign in have none, and the system account never does."""
    return (
        ApiToken.objects.select_related("user__organisation")
        .filter(
            digest=sm3(text),
            revoked_at__isnull=True,
            expires_at__gt=timezone.now(),
            user__is_active=True,
            user__is_system=False,
        )
        .exclude(user__organisation__is_active=False)
        .first()
    )


def _note_use(token: ApiToken) -> None:
    """Remember the use to the minute, so that a busy token does not write at every request."""
    now = timezone.now()
    if token.last_used_at is None or token.last_used_at < now - USED_STEP:
        ApiToken.objects.filter(pk=token.pk).update(last_used_at=now)
