"""How a station's agent shows who it is: its own credential, never a person's token."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import AnonymousUser
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework import exceptions
from rest_framework.authentication import BaseAuthentication, get_authorization_header
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.views import APIView

from portal.apikit.guesses import checked
from portal.apikit.throttles import SharedThrottle
from portal.texts import told
from stations.models import Station
from stations.services.registry import calling_station

SCHEME = "Station"


class StationAuthentication(BaseAuthentication):
    """`Authorization: Station <code>:<credential>`."""

    def authenticate(self, request: Request) -> tuple[AnonymousUser, Station] | None:
        """Return the station as `request.auth`; no person stands behind it."""
        scheme, _, given = get_authorization_header(request).decode("latin-1").partition(" ")
        if scheme != SCHEME:
            return None
        station = checked(given.encode(), lambda: _station(given))
        if station is None:
            raise exceptions.AuthenticationFailed(told("制卡点代码或凭证不对，或制卡点已停用"))
        return AnonymousUser(), station

    def authenticate_header(self, request: Request) -> str:
        """Name the scheme, so that a missing credential answers 401."""
        return SCHEME


def _station(given: str) -> Station | None:
    code, colon, credential = given.strip().partition(":")
    return calling_station(code, credential) if colon and "\0" not in code else None


class IsStation(BasePermission):
    """Let stations in, and nobody else."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        """Say whether a station is calling."""
        return isinstance(request.auth, Station)


class StationThrottle(SharedThrottle):
    """Count a station's requests by station, wherever it calls from."""

    scope = "station"

    def get_cache_key(self, request: Request, view: APIView) -> str:
        """Return the station's key."""
        assert isinstance(request.auth, Station)
        return f"throttle-station-{request.auth.pk}"


class EnrolmentThrottle(SharedThrottle):
    """Count tries to enrol by address: a one-time code is guessed by nobody."""

    scope = "enrol"

    def get_cache_key(self, request: Request, view: APIView) -> str:
        """Return the address's key."""
        return f"throttle-enrol-{self.get_ident(request)}"


class StationScheme(OpenApiAuthenticationExtension):
    """Describe the credential in the OpenAPI document."""

    target_class = StationAuthentication
    name = "station"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        """Return the OpenAPI security scheme."""
        return {
            "type": "apiKey",
            "in": "header",
            "name": "Authorization",
            "description": f"{SCHEME} <代码>:<凭证>",
        }
