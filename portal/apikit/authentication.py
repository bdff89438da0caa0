"""Bearer tokens of the API."""

from __future__ import annotations

from django.utils import timezone
from rest_framework import exceptions
from rest_framework.authentication import BaseAuthentication, get_authorization_header
from rest_framework.request import Request

from portal.core.crypto import sm3
from portal.models import ApiToken, User


class TokenAuthentication(BaseAuthentication):
    """`Authorization: Bearer <token>`; the database keeps only the token's SM3 digest."""

    def authenticate(self, request: Request) -> tuple[User, ApiToken] | None:
        """Return the token's user; None when the request carries no bearer token."""
        words = get_authorization_header(request).split()
        if not words or words[0].lower() != b"bearer":
            return None
        if len(words) != 2:
            raise exceptions.AuthenticationFailed("Authorization: expected 'Bearer <token>'")
        now = timezone.now()
        token = (
            ApiToken.objects.select_related("user__organisation")
            .filter(digest=sm3(words[1]), revoked_at__isnull=True, expires_at__gt=now, user__is_active=True)
            .first()
        )
        if token is None:
            raise exceptions.AuthenticationFailed("令牌无效、已撤销或已过期")
        ApiToken.objects.filter(pk=token.pk).update(last_used_at=now)
        return token.user, token

    def authenticate_header(self, request: Request) -> str:
        """Name the scheme, so that a missing token answers 401."""
        return "Bearer"
