"""Limits of the API, counted like those of the pages: shared by all web processes (portal/limits.py)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle, SimpleRateThrottle, UserRateThrottle

from portal.limits import Rate, TooOftenError, spend, take
from portal.middleware import address_of

if TYPE_CHECKING:  # DRF's views import this module as soon as they are loaded
    from rest_framework.views import APIView


class SharedThrottle(SimpleRateThrottle):
    """A throttle of DRF that counts where every process sees it; subclasses say by what key."""

    num_requests: int
    duration: int
    waits = 0

    def allow_request(self, request: Request, view: APIView) -> bool:
        """Count the request unless it comes too soon."""
        key = self.get_cache_key(request, view)
        if self.rate is None or key is None:
            return True
        self.waits = take(f"api.{self.scope}", key, Rate(self.num_requests, self.duration)).wait
        return not self.waits

    def wait(self) -> float:
        """Return the seconds for Retry-After."""
        return float(self.waits)

    def get_ident(self, request: Request) -> str:
        """Return the address that our own proxy saw; DRF would take the client's word."""
        return address_of(request._request)  # noqa: SLF001 - the middleware's function takes Django's request


class UserThrottle(SharedThrottle, UserRateThrottle):
    """What one user, or one address without a user, may ask in all."""


class UploadThrottle(UserThrottle):
    """Uploads are work for the whole portal: fewer are taken than other requests."""

    scope = "upload"


class DownloadThrottle(BaseThrottle):
    """Files with people in them, counted together with the downloads of the admin."""

    waits = 0

    def allow_request(self, request: Request, view: APIView) -> bool:
        """Count against the same limit as a download in the admin."""
        try:
            spend("download", request._request)  # noqa: SLF001 - as above
        except TooOftenError as exc:
            self.waits = exc.wait
        return not self.waits

    def wait(self) -> float:
        """Return the seconds for Retry-After."""
        return float(self.waits)


DOWNLOADS = [UserThrottle, DownloadThrottle]
