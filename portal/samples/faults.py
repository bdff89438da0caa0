"""Every way a record can be wrong that validation knows: one function per fault, and what must be found."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from types import MappingProxyType
from typing import Final

from portal.samples import photos
from portal.samples.banks import BankSpec
from portal.samples.numbers import checked
from portal.samples.people import COLUMNS, FEMALE, MALE, DocumentType, SamplePerson

PHOTO = "photo"
ROW = "row"
_PLACE: Final = {column: place for place, column in enumerate(COLUMNS)}
_PERSONAL: Final = ("AAC002", "AAC003", "AAC004", "AAC005", "AAC006", "AAC058")

# Extension G, which Noto Sans CJK lacks; a private use code point that stands for no standard character.
CHARACTER_WITHOUT_GLYPH: Final = "\U00030000"
PRIVATE_USE_CHARACTER: Final = "\ue000"
UNKNOWN_BANK: Final = "NOBANK"
LONG_NAME_LENGTH: Final = 60
ENDLESS_NAME_LENGTH: Final = 10_000


@dataclass(frozen=True, slots=True)
class Expectation:
    """What the return list must say of the row at place `seq` (from 1): at least one of `fields` is wrong.

    `row` stands for the line itself. The row's own cell says `seq` too, but for the fault seq_unreadable.
    """

    seq: int
    fault: str
    fields: tuple[str, ...]


@dataclass(slots=True)
class Scene:
    """What a fault may look at besides its row; `previous` is the last good person, while there is one."""

    rng: random.Random
    banks: Sequence[BankSpec]
    today: date
    previous: SamplePerson | None = None


@dataclass(slots=True)
class Draft:
    """One row on its way into the package, still open to faults; `photo` None means no photo file."""

    cells: list[str]
    photo: bytes | None
    photo_number: str
    scene: Scene

    def get(self, column: str) -> str:
        """Return the cell under a column of COLUMNS."""
        return self.cells[_PLACE[column]]

    def put(self, column: str, value: str) -> None:
        """Set the cell under a column of COLUMNS; the photo file follows the number."""
        self.cells[_PLACE[column]] = value
        if column == "AAC002":
            self.photo_number = value


@dataclass(frozen=True, slots=True)
class Fault:
    """How to spoil a draft, and which fields validation may name for it."""

    spoil: Callable[[Draft], None]
    fields: tuple[str, ...]


def _set(column: str, value: str) -> Fault:
    """Put a fixed wrong value into one column."""

    def spoil(draft: Draft) -> None:
        draft.put(column, value)

    return Fault(spoil, (column,))


def _number_without_photo(value: str) -> Fault:
    """Put a number no photo file can be named by."""

    def spoil(draft: Draft) -> None:
        draft.put("AAC002", value)
        draft.photo = None

    return Fault(spoil, ("AAC002",))


def _bad_checksum(draft: Draft) -> None:
    number = draft.get("AAC002")
    draft.put("AAC002", number[:-1] + ("0" if number[-1] != "0" else "1"))


def _short_number(draft: Draft) -> None:
    draft.put("AAC002", draft.get("AAC002")[:-1])


def _letter_in_number(draft: Draft) -> None:
    number = draft.get("AAC002")
    draft.put("AAC002", f"{number[:9]}O{number[10:]}")


def _unknown_area(draft: Draft) -> None:
    """Use a province that does not exist, checksum valid."""
    draft.put("AAC002", checked("300101" + draft.get("AAC002")[6:17]))


def _with_birth(draft: Draft, birth: str) -> None:
    """Rewrite number and birth column together, checksum valid: only the date itself is wrong."""
    number = draft.get("AAC002")
    draft.put("AAC002", checked(number[:6] + birth + number[14:17]))
    draft.put("AAC006", birth)


def _impossible_birth(draft: Draft) -> None:
    _with_birth(draft, draft.get("AAC006")[:4] + "0230")


def _future_birth(draft: Draft) -> None:
    ahead = timedelta(days=400 + draft.scene.rng.randrange(10_000))
    _with_birth(draft, f"{draft.scene.today + ahead:%Y%m%d}")


def _make_foreigner(draft: Draft, country: str) -> None:
    """Give the row an 18-character number of its own that tells neither birth date nor sex."""
    draft.put("AAC002", f"{country}T{int(draft.get('seq')):013d}0")
    draft.put("AAC058", DocumentType.PASSPORT)


def _unknown_country(draft: Draft) -> None:
    _make_foreigner(draft, "QQQ")


def _foreigner_from_the_future(draft: Draft) -> None:
    _make_foreigner(draft, "USA")
    draft.put("AAC006", f"{draft.scene.today.year + 3}0101")


def _other_document(draft: Draft) -> None:
    resident = draft.get("AAC058") == DocumentType.RESIDENT
    draft.put("AAC058", DocumentType.PASSPORT if resident else DocumentType.RESIDENT)


def _other_sex(draft: Draft) -> None:
    draft.put("AAC004", FEMALE if draft.get("AAC004") == MALE else MALE)


def _other_birth(draft: Draft) -> None:
    text = draft.get("AAC006")
    day = date(int(text[:4]), int(text[4:6]), int(text[6:])) + timedelta(days=1)
    draft.put("AAC006", f"{day:%Y%m%d}")


def _control_character(draft: Draft) -> None:
    name = draft.get("AAC003")
    draft.put("AAC003", f"{name[:1]}\x07{name[1:]}")


def _name_ending(character: str) -> Fault:
    def spoil(draft: Draft) -> None:
        draft.put("AAC003", draft.get("AAC003")[:-1] + character)

    return Fault(spoil, ("AAC003",))


def _photo_missing(draft: Draft) -> None:
    draft.photo = None


def _photo_truncated(draft: Draft) -> None:
    if draft.photo is not None:
        draft.photo = draft.photo[: len(draft.photo) * 3 // 4]


def _photo_garbage(draft: Draft) -> None:
    """Overwrite half of the picture's body; markers at both ends stay, so a look at them finds nothing."""
    if draft.photo is not None:
        size = len(draft.photo)
        garbage = draft.scene.rng.randbytes(size // 2)
        draft.photo = draft.photo[: size // 4] + garbage + draft.photo[size // 4 + len(garbage) :]


def _photo_drawn(draw: Callable[[str], bytes]) -> Fault:
    def spoil(draft: Draft) -> None:
        draft.photo = draw(str(draft.scene.rng.random()))

    return Fault(spoil, (PHOTO,))


def _control_in_employer(draft: Draft) -> None:
    draft.put("employer_name", draft.get("employer_name") + "\x1b[2J")


def _foreign_branch(draft: Draft) -> None:
    others = [bank for bank in draft.scene.banks if bank.code != draft.get("AAE008")]
    draft.put("branch", draft.scene.rng.choice(others).points[0])


def _issue_far_ahead(draft: Draft) -> None:
    draft.put("issue_date", f"{draft.scene.today + timedelta(days=400):%Y%m%d}")


def _expiry_before_issue(draft: Draft) -> None:
    draft.put("expiry_date", f"{int(draft.get('issue_date')[:4]) - 1}0101")


def _duplicate(draft: Draft) -> None:
    """Repeat the person of the last good row under a card number of its own; the photo is there already."""
    previous = draft.scene.previous
    if previous is None:
        raise ValueError("nobody stands before the first good row")
    row = previous.row(0)
    for column in _PERSONAL:
        draft.put(column, row[_PLACE[column]])
    draft.photo = None


def _short_row(draft: Draft) -> None:
    del draft.cells[-2:]


def _long_row(draft: Draft) -> None:
    draft.cells += ["多余", "1"]


FAULTS: Final[Mapping[str, Fault]] = MappingProxyType(
    {
        "number_bad_checksum": Fault(_bad_checksum, ("AAC002",)),
        "number_short": Fault(_short_number, ("AAC002",)),
        "number_with_letter": Fault(_letter_in_number, ("AAC002",)),
        "number_missing": _number_without_photo(""),
        "number_scientific": _number_without_photo("4.40604E+17"),
        "number_unknown_area": Fault(_unknown_area, ("AAC002",)),
        "number_unknown_country": Fault(_unknown_country, ("AAC002",)),
        "number_impossible_birth": Fault(_impossible_birth, ("AAC002", "AAC006")),
        "number_future_birth": Fault(_future_birth, ("AAC002", "AAC006")),
        "sex_disagrees": Fault(_other_sex, ("AAC004",)),
        "sex_unknown": _set("AAC004", "男"),
        "birth_disagrees": Fault(_other_birth, ("AAC006",)),
        "birth_unreadable": _set("AAC006", "一九八〇年"),
        "birth_future": Fault(_foreigner_from_the_future, ("AAC006",)),
        "document_type_unknown": _set("AAC058", "ZZ"),
        "document_type_disagrees": Fault(_other_document, ("AAC058",)),
        "name_empty": _set("AAC003", ""),
        "name_too_long": _set("AAC003", "长" * LONG_NAME_LENGTH),
        "name_endless": _set("AAC003", "名" * ENDLESS_NAME_LENGTH),
        "name_control_character": Fault(_control_character, ("AAC003",)),
        "name_without_glyph": _name_ending(CHARACTER_WITHOUT_GLYPH),
        "name_private_use": _name_ending(PRIVATE_USE_CHARACTER),
        "name_formula": _set("AAC003", '=HYPERLINK("http://example.invalid/","点我")'),
        "name_latin_of_resident": _set("AAC003", "ZHANG SAN"),
        "ethnicity_unknown": _set("AAC005", "88"),
        "area_unknown": _set("AAB301", "4406"),
        "photo_missing": Fault(_photo_missing, (PHOTO,)),
        "photo_truncated": Fault(_photo_truncated, (PHOTO,)),
        "photo_garbage": Fault(_photo_garbage, (PHOTO,)),
        "photo_png": _photo_drawn(photos.png_photo),
        "photo_wrong_size": _photo_drawn(photos.small_photo),
        "photo_light": _photo_drawn(photos.light_photo),
        "photo_heavy": _photo_drawn(photos.heavy_photo),
        "photo_grey": _photo_drawn(photos.grey_photo),
        "bank_unknown": _set("AAE008", UNKNOWN_BANK),
        "branch_of_other_bank": Fault(_foreign_branch, ("branch",)),
        "branch_unknown": _set("branch", "NOBANK-99"),
        "employer_control_character": Fault(_control_in_employer, ("employer_name",)),
        "issue_kind_unknown": _set("issue_kind", "赠送"),
        "card_kind_unknown": _set("card_kind", "镀金卡"),
        "card_number_bad": _set("AAZ500", "F-123"),
        "issue_date_bad": _set("issue_date", "20261345"),
        "issue_date_far_ahead": Fault(_issue_far_ahead, ("issue_date",)),
        "expiry_before_issue": Fault(_expiry_before_issue, ("expiry_date",)),
        "person_duplicate": Fault(_duplicate, ("AAC002",)),
        "cell_missing": _set("AAB301", ""),
        "row_short": Fault(_short_row, ("expiry_date", "issue_date", ROW)),
        "row_long": Fault(_long_row, (ROW,)),
        "seq_unreadable": _set("seq", "第一行"),
    }
)

# These presuppose the 18 digits and the Chinese name of a resident.
NEED_RESIDENT: Final = frozenset(
    {
        "number_bad_checksum",
        "number_short",
        "number_with_letter",
        "number_unknown_area",
        "number_impossible_birth",
        "number_future_birth",
        "sex_disagrees",
        "birth_disagrees",
        "name_latin_of_resident",
    }
)


def fits(name: str, person: SamplePerson, *, first: bool) -> bool:
    """Tell whether this person's row can carry the fault; `first` means no good row stands before it."""
    if name in NEED_RESIDENT:
        return person.document_type == DocumentType.RESIDENT
    if name == "photo_missing":
        return person.card_kind == "finished"
    return name != "person_duplicate" or not first


def draft_of(person: SamplePerson, seq: int, photo: bytes, scene: Scene) -> Draft:
    """Return the flawless row."""
    return Draft(person.row(seq), photo, person.number, scene)


def spoil(name: str, draft: Draft, seq: int) -> Expectation:
    """Apply a fault by name and say what must be found."""
    fault = FAULTS[name]
    fault.spoil(draft)
    return Expectation(seq, name, fault.fields)


class FaultPlan:
    """Choose which rows go wrong and how: one in each block of 1/rate rows, the faults in turn."""

    def __init__(self, rate: float, rng: random.Random) -> None:
        if not 0 <= rate <= 1:
            raise ValueError("the share of bad rows lies between 0 and 1")
        self._block = round(1 / rate) if rate else 0
        self._rng = rng
        self._victim = 0
        self._waiting: list[str] = []

    def fault_for(self, place: int, person: SamplePerson, *, first: bool) -> str | None:
        """Return the fault of the row at `place` (from 0), or None; `first` as in `fits`."""
        if not self._block:
            return None
        if place % self._block == 0:
            self._victim = place + self._rng.randrange(self._block)
        if place != self._victim:
            return None
        if len(self._waiting) < len(FAULTS):
            self._waiting += FAULTS
        name = next(name for name in self._waiting if fits(name, person, first=first))
        self._waiting.remove(name)
        return name
