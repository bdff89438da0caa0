"""What may be seen of a key: its purpose, its check value, and what stays when it is destroyed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum


class KeyPurpose(StrEnum):
    """What a key is for; bound into its file, so a key never serves another purpose."""

    PACKAGE = "package"
    ACCOUNT_FILE = "account_file"
    BATCH = "batch"
    PROBE = "probe"
    INDEX = "index"
    SM2_PRIVATE = "sm2_private"
    CARD_MASTER = "card_master"
    TEST_MASTER = "test_master"
    COMPONENT = "component"
    SECOND_FACTOR = "second_factor"


@dataclass(frozen=True, slots=True)
class Tombstone:
    """What stays of a destroyed key, for the certificate of destruction."""

    key_digest: str
    purpose: KeyPurpose
    label: str
    destroyed_at: datetime


@dataclass(frozen=True, slots=True)
class DataKey:
    """A data key as the search for keys that nothing uses sees it."""

    key_id: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class MasterKey:
    """A card master key as people may see it; cards are made with it from `valid_from` to `valid_until`."""

    name: str
    version: int
    check_value: str
    test: bool
    valid_from: date | None = None
    valid_until: date | None = None

    def is_valid(self, on: date) -> bool:
        """Say whether new cards may be made with the key on a day; both ends belong to the time."""
        started = self.valid_from is None or self.valid_from <= on
        return started and (self.valid_until is None or on <= self.valid_until)
