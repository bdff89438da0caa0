"""Personal columns: each value opens only at its own place, and indexes meet whatever the spelling (R-45)."""

from __future__ import annotations

import datetime as dt

import pytest

from orders import payloads
from orders.models import CardholderRecord, PackagePhoto
from orders.payloads import PhotoPlace, close_payload, payload_reader
from orders.personal import (
    PersonalPart,
    account_index,
    card_number_index,
    context,
    masked_name,
    masked_number,
    name_index,
    number_index,
    open_account,
    open_column,
    open_number,
    open_personal,
    open_problems,
    photo_place,
    read_photo,
    read_photo_of,
    seal_column,
)
from portal import files
from portal.core.crypto import TamperedError
from portal.core.key_refusals import KeyDestroyedError
from portal.core.problems import Problem
from tests.orders.intake.world import World

PART = PersonalPart(
    "1", "01", dt.date(1980, 2, 29), "resident", "01", "440604", "单位", "A12345678",
    dt.date(2026, 11, 23), dt.date(2036, 11, 23),
)  # fmt: skip


@pytest.fixture
def pair(world: World) -> list[CardholderRecord]:
    world.take_in(2)
    return list(CardholderRecord.objects.select_related("package").order_by("row_number"))


def test_the_personal_part_survives_its_json_and_hides_in_repr() -> None:
    assert PersonalPart.from_json(PART.to_json()) == PART
    assert "A12345678" not in repr(PART)


def test_the_context_names_record_version_and_column() -> None:
    assert context(7, 2, "name") == b"orders.cardholderrecord/7/2/name"


class TestPlaces:
    def test_a_value_copied_to_another_record_does_not_open(self, pair: list[CardholderRecord]) -> None:
        """R-46: who can write to the table still cannot put one person's number onto another's card."""
        first, second = pair
        second.number_sealed = first.number_sealed
        with pytest.raises(TamperedError):
            open_number(second)

    def test_a_value_moved_to_another_column_or_version_does_not_open(
        self, pair: list[CardholderRecord]
    ) -> None:
        record = pair[0]
        record.name_sealed = record.number_sealed
        with pytest.raises(TamperedError):
            open_column(record, "name")
        record.version = 2
        with pytest.raises(TamperedError):
            open_number(record)

    def test_no_value_is_empty(self, pair: list[CardholderRecord]) -> None:
        assert (open_account(pair[0]), open_problems(pair[0])) == ("", [])

    def test_a_sealed_account_opens_again(self, pair: list[CardholderRecord]) -> None:
        pair[0].account_sealed = seal_column(pair[0], "account", "6222020000000000000")
        assert open_account(pair[0]) == "6222020000000000000"

    def test_masked_forms(self, pair: list[CardholderRecord]) -> None:
        number = open_number(pair[0])
        assert masked_number(pair[0]) == number[:4] + "*" * (len(number) - 8) + number[-4:]
        assert "*" in masked_name(pair[0])

    def test_destroyed_keys_end_every_look(self, pair: list[CardholderRecord]) -> None:
        """R-22: destroying the package's keys makes rows and photos unreadable at once, open readers too."""
        record = pair[0]
        assert read_photo(record) is not None
        files.keystore().destroy(record.package.key_id)
        files.keystore().destroy(record.package.content_key_id)
        for look in (open_number, open_personal, masked_name, read_photo):
            with pytest.raises(KeyDestroyedError):
                look(record)


class TestIndexes:
    def test_spellings_of_one_value_meet(self, world: World) -> None:
        assert number_index(" 44060119900101123x") == number_index("４４０６０１１９９００１０１１２３Ｘ")
        assert name_index("阿依古丽・买买提") == name_index("阿依古丽·买买提")
        assert name_index("Smith  John") == name_index("SMITH JOHN")
        assert account_index("6222 0200 0000") == account_index("622202000000")

    def test_columns_do_not_meet(self, world: World) -> None:
        """One text as a number, a name, a card number and an account has four indexes."""
        makers = (number_index, name_index, card_number_index, account_index)
        assert len({make("123456789012") for make in makers}) == 4

    def test_hostile_text_has_an_index_too(self, world: World) -> None:
        assert len(number_index("\ud800\x00" * 100)) == 32


class TestPhotos:
    def test_a_place_of_another_person_is_refused(self, pair: list[CardholderRecord]) -> None:
        """R-18: a photo is read only where the file's own name is the person's number."""
        first, second = pair
        place = photo_place(second)
        assert place is not None
        with pytest.raises(TamperedError):
            read_photo_of(payload_reader(first.package), place, open_number(first))
        found = read_photo_of(payload_reader(first.package), place, open_number(second))
        assert found == read_photo(second)

    def test_a_place_that_is_no_photo_is_refused(self, pair: list[CardholderRecord]) -> None:
        from portal.core.ziprefusals import ZipRefusedError

        place = photo_place(pair[0])
        assert place is not None
        for wrong in (place._replace(offset=place.offset + 1), place._replace(crc=place.crc ^ 1)):
            with pytest.raises(ZipRefusedError):
                read_photo_of(payload_reader(pair[0].package), wrong, open_number(pair[0]))

    def test_places_agree_with_the_register(self, pair: list[CardholderRecord]) -> None:
        row = PackagePhoto.objects.get(number_index=pair[0].number_index)
        place = PhotoPlace(row.offset, row.compressed_size, row.size, row.method, row.crc)
        assert photo_place(pair[0]) == place

    def test_few_payloads_stay_open(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(payloads, "OPEN_PAYLOADS", 2)
        packages = [world.take_in(1, number=f"P-{i}", start=i) for i in range(3)]
        files_open = [payload_reader(package)._file for package in packages]
        assert [file.closed for file in files_open] == [True, False, False]
        close_payload(packages[2])
        assert files_open[2].closed


def test_problems_round_trip(pair: list[CardholderRecord]) -> None:
    from orders.personal import problems_text

    found = [Problem("AAC003", "name_symbol", "只含文字", "=1+1"), Problem("photo", "photo_missing", "照片")]
    pair[0].problems_sealed = seal_column(pair[0], "problems", problems_text(found))
    assert open_problems(pair[0]) == found
