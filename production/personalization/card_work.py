"""One card's work as the scripts take it: what is to be written, what the card answered, what that proves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from portal.core.errors import InputRefusedError
from production.personalization.chip import ChipContent
from production.personalization.payment import PaymentData
from production.personalization.profile import Application, CardKey, CardProfile

ENVIRONMENT = "SSSE"


class WrongCardError(InputRefusedError):
    """The card in the reader is not the blank that was chosen; nothing was written to it."""

    code = "card_wrong"


class WrongTypeError(WrongCardError):
    """No social security card, or one that does not answer as a blank does."""

    code = "card_wrong_type"


class WrongAlgorithmError(WrongCardError):
    """A social security card of another algorithm than the profile's."""

    code = "card_wrong_algorithm"


class UsedCardError(WrongCardError):
    """A card that was initialised or personalised already."""

    code = "card_used"


class OtherCityCardError(WrongCardError):
    """A card that somebody else's keys were written to: another city's, or another issuer's."""

    code = "card_other_city"


class TestKeyCardError(WrongCardError):
    """A blank that only has the publicly known transport key, where such cards are not accepted."""

    code = "card_test_key"


class UnfinishedCardError(WrongCardError):
    """A card to be read again that was never finished."""

    code = "card_unfinished"


@dataclass(frozen=True, slots=True)
class CardResponse:
    """What the card answered to one command."""

    data: bytes = field(repr=False)
    sw: int


@dataclass(frozen=True, slots=True)
class Verification:
    """What the answers prove: good, or the code, words and tags that differ; `readback` is what was read."""

    good: bool
    code: str
    text: str
    tags: tuple[str, ...] = ()
    readback: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class CardJob:
    """Everything about one card; keys by full name at card level."""

    profile: CardProfile
    chip: ChipContent = field(repr=False)
    keys: Mapping[str, bytes] = field(repr=False)
    atr: bytes
    city_code: str
    transport_key: bytes = field(repr=False)
    new_transport_key: bytes = field(repr=False)
    photo: bytes = field(default=b"", repr=False)
    payment: PaymentData | None = field(default=None, repr=False)
    pin: str = field(default="", repr=False)
    accept_test_keys: bool = False

    @property
    def environment(self) -> Application:
        """Return the social security environment."""
        return next(found for found in self.profile.applications if found.name == ENVIRONMENT)

    @property
    def pin_bytes(self) -> bytes:
        """Return the PIN as BCD, an odd number of digits filled up with F (A-15)."""
        return bytes.fromhex(self.pin if len(self.pin) % 2 == 0 else f"{self.pin}F")

    def key(self, application: str, name: str) -> tuple[CardKey, bytes]:
        """Return what the profile says of a key, and the key itself."""
        wanted = (application, name)
        found = next(key for key in self.profile.keys if (key.application, key.name) == wanted)
        return found, self.keys[found.full_name]

    def update_key(self, application: str) -> bytes:
        """Return the key that secures an application's updates: its first update key that makes a MAC."""
        keys = [key for key in self.profile.keys if key.application == application and key.makes_mac]
        first = min((key for key in keys if key.name.startswith("UK")), key=lambda key: key.key_id)
        return self.keys[first.full_name]


def short_id(file_id: str) -> int:
    """Return the short identifier of a file such as `EF05`: the low five bits."""
    return int(file_id, 16) & 0x1F
