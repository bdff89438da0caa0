"""What a card keeps without power, and its image as bytes."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from stations.virtual.cipher import Algorithm
from stations.virtual.layout import CardLayout

BLANK, INITIALISED, ENVIRONMENT_BLOCKED, PERSONALISED, CARD_BLOCKED = 0x01, 0x03, 0x04, 0x05, 0x0C
PIN_TRIES = 6
_FORMAT = 1


class ImageError(ValueError):
    """An image that is not one of this version."""


@dataclass(slots=True)
class StoredKey:
    """A key on the card with its counter of tries."""

    usage: int
    algorithm: Algorithm
    version: int
    most_tries: int
    tries: int
    value: bytes = field(repr=False)

    @property
    def kind(self) -> int:
        """Return the key type: 7 encryption, 8 MAC and encryption."""
        return self.usage & 0x1F


@dataclass(slots=True)
class StoredPin:
    """The PIN as BCD with its counter; no tries left means locked."""

    value: bytes = field(repr=False)
    tries: int = PIN_TRIES


@dataclass(slots=True)
class PaymentMemory:
    """The payment application: data groupings as they arrived, decrypted."""

    kenc: bytes = field(repr=False)
    kmac: bytes = field(repr=False)
    kdek: bytes = field(repr=False)
    counter: int = 0
    personalised: bool = False
    groups: dict[int, bytes] = field(default_factory=dict, repr=False)


@dataclass(slots=True)
class Memory:
    """One card's non-volatile memory; `files` maps `SSSE/EF05` to records in order, or to one body."""

    profile: str
    serial: bytes
    payment: PaymentMemory
    state: int = BLANK
    blocked: set[str] = field(default_factory=set)
    pin: StoredPin | None = None
    keys: dict[str, StoredKey] = field(default_factory=dict, repr=False)
    files: dict[str, list[bytes]] = field(default_factory=dict, repr=False)

    def to_bytes(self) -> bytes:
        """Return the image; it holds the card's keys."""
        keys = {name: _key_fields(key) for name, key in self.keys.items()}
        payment = self.payment
        found: dict[str, Any] = {
            "format": _FORMAT,
            "profile": self.profile,
            "serial": self.serial.hex(),
            "state": self.state,
            "blocked": sorted(self.blocked),
            "pin": [self.pin.value.hex(), self.pin.tries] if self.pin else None,
            "keys": keys,
            "files": {path: [record.hex() for record in records] for path, records in self.files.items()},
            "payment": {
                "keys": [payment.kenc.hex(), payment.kmac.hex(), payment.kdek.hex()],
                "counter": payment.counter,
                "personalised": payment.personalised,
                "groups": {f"{group:04X}": content.hex() for group, content in payment.groups.items()},
            },
        }
        return json.dumps(found, separators=(",", ":")).encode()

    @classmethod
    def from_bytes(cls, raw: bytes) -> Memory:
        """Read an image; raise ImageError when it is not one."""
        try:
            return _read(json.loads(raw))
        except (ValueError, KeyError, TypeError, AttributeError) as exc:
            raise ImageError(f"not the image of a card ({type(exc).__name__})") from exc


def blank_files(layout: CardLayout) -> dict[str, list[bytes]]:
    """Return every file as the maker leaves it."""
    return {
        file_path(application.name, file.fid): file.blank()
        for application in layout.applications
        for file in application.files
    }


def file_path(application: str, fid: int) -> str:
    """Return where a file lies, e.g. `SSSE/EF05`."""
    return f"{application}/{fid:04X}"


def _key_fields(key: StoredKey) -> list[Any]:
    return [key.usage, key.algorithm.value, key.version, key.most_tries, key.tries, key.value.hex()]


def _read(found: dict[str, Any]) -> Memory:
    if found["format"] != _FORMAT:
        raise ImageError("another version's image")
    held = found["payment"]
    kenc, kmac, kdek = (bytes.fromhex(key) for key in held["keys"])
    groups = {int(group, 16): bytes.fromhex(content) for group, content in held["groups"].items()}
    keys = {
        name: StoredKey(usage, Algorithm(algorithm), version, most, tries, bytes.fromhex(value))
        for name, (usage, algorithm, version, most, tries, value) in found["keys"].items()
    }
    return Memory(
        profile=found["profile"],
        serial=bytes.fromhex(found["serial"]),
        payment=PaymentMemory(kenc, kmac, kdek, held["counter"], held["personalised"], groups),
        state=found["state"],
        blocked=set(found["blocked"]),
        pin=StoredPin(bytes.fromhex(found["pin"][0]), found["pin"][1]) if found["pin"] else None,
        keys=keys,
        files={path: [bytes.fromhex(r) for r in records] for path, records in found["files"].items()},
    )
