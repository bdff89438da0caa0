"""What a kept refusal may say: fingerprints whole, numbers of people and accounts masked (R-45)."""

from __future__ import annotations

import pytest

from orders.services.refusals import safe_text
from portal.core.errors import PortalError

DIGEST = "c68e" + "0f" * 28 + "ac52"


@pytest.mark.parametrize("shown", ["1b3a5c7d9e0f1393", DIGEST])
def test_fingerprints_and_digests_stay_whole(shown: str) -> None:
    assert safe_text(PortalError("公钥不符", expected=shown)) == f"公钥不符；应为：{shown}"


@pytest.mark.parametrize(
    ("personal", "masked"),
    [
        ("440604198510127519", "4406**********7519"),
        ("44060719530403902X", "4406**********902X"),
        ("6299180157704526", "6299********4526"),
        ("6299180157704526123", "6299***********6123"),
    ],
)
def test_numbers_and_accounts_are_masked(personal: str, masked: str) -> None:
    found = safe_text(PortalError("重复", got=personal))
    assert (personal in found, masked in found) == (False, True)
