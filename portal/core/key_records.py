"""What may be seen of a key: its purpose, its check value, and what stays when it is destroyed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class KeyPurpose(StrEnum):
    """What a key is for; bound into its file, so a key never serves another purpose."""

    PACKAGE = "package"
    ACCOUNT_FILE = "account_file"
    BATCH = "batch"
    INDEX = "index"
    SM2_PRIVATE = "sm2_private"
    CARD_MASTER = "card_master"
    TEST_MASTER = "test_master"


@dataclass(frozen=True, slots=True)
class Tombstone:
    """What stays of a destroyed key, for the certificate of destruction."""

    key_digest: str
    purpose: KeyPurpose
    label: str
    destroyed_at: datetime


@dataclass(frozen=True, slots=True)
class MasterKey:
    """A card master key as people may see it."""

    name: str
    version: int
    check_value: str
    test: bool
