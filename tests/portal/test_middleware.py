"""The address in the audit is the proxy's word, never the client's."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import RequestFactory

from portal.middleware import address_of


@pytest.mark.parametrize(
    ("proxies", "forwarded", "expected"),
    [
        (0, "198.51.100.7", "203.0.113.1"),
        (1, "198.51.100.7", "198.51.100.7"),
        (1, "10.0.0.1, 198.51.100.7", "198.51.100.7"),
        (2, "198.51.100.7, 192.0.2.9", "198.51.100.7"),
        (2, "192.0.2.9", "203.0.113.1"),
        (1, "", "203.0.113.1"),
    ],
)
def test_address_is_read_past_our_own_proxies_only(
    settings: Any, proxies: int, forwarded: str, expected: str
) -> None:
    settings.TRUSTED_PROXIES = proxies
    headers = {"HTTP_X_FORWARDED_FOR": forwarded} if forwarded else {}
    request = RequestFactory().get("/", REMOTE_ADDR="203.0.113.1", **headers)
    assert address_of(request) == expected
