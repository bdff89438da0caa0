"""What the tests of the samples share: a day, a head, and who seals to whom."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest

from portal.core.crypto import Sm2PrivateKey
from portal.samples.hostile import Parties
from portal.samples.package import PackageHead

ISSUE_DATE = date(2026, 11, 23)


@pytest.fixture(scope="session")
def issue_date() -> date:
    return ISSUE_DATE


@pytest.fixture(scope="session")
def head() -> PackageHead:
    return PackageHead("P-1", "province", "portal", datetime(2026, 11, 23, 8, tzinfo=UTC))


@pytest.fixture(scope="session")
def recipient() -> Sm2PrivateKey:
    return Sm2PrivateKey.generate()


@pytest.fixture(scope="session")
def parties(recipient: Sm2PrivateKey) -> Parties:
    return Parties(Sm2PrivateKey.generate(), recipient.public, Sm2PrivateKey.generate())
