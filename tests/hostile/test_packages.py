"""Hostile and broken packages: each its own code and answer, nothing kept, the rest goes on (R-8, R-46)."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command

from orders.choices import PackageStatus
from orders.models import CardholderRecord, IntakeChunk, Package, PackagePhoto
from orders.personal import open_problems
from portal import files
from portal.audit import verify_chain
from portal.core import clock
from portal.core.errors import InputRefusedError
from portal.models import AuditEntry, Task
from portal.samples.banks import BANKS
from portal.samples.hostile import HOSTILE, Members, honest_members, inner_of, sealed
from portal.samples.package import SampleOrder
from portal.samples.people import people
from tests.orders.intake.world import World, run_tasks

AT_THE_DOOR = {
    "truncated": "not_a_container",
    "flipped_bit": "payload_changed",
    "not_a_package": "not_a_container",
    "wrong_recipient": "wrong_recipient",
    "wrong_key": "wrong_key",
    "wrong_signature": "bad_signature",
    "unknown_sender": "unknown_sender",
}
INSIDE = {
    "inner_not_zip": "zip_truncated",
    "zip_bomb": "zip_bomb",
    "path_traversal": "zip_path",
    "absolute_path": "zip_path",
    "stray_member": "member_unknown",
    "wrong_encoding": "table_encoding",
    "encoding_unknown": "encoding_unknown",
    "missing_column": "table_columns",
    "missing_records": "records_missing",
    "missing_manifest": "manifest_missing",
    "manifest_unreadable": "manifest_unreadable",
    "count_differs": "count_differs",
    "number_differs": "manifest_differs",
    "no_rows": "empty_package",
}
PEOPLE = list(people(3, 1, BANKS, issue_date=clock.today()))


def is_chinese(text: str) -> bool:
    return any("\u4e00" <= char <= "\u9fff" for char in text)


def leftovers() -> tuple[list[Path], list[Path], int, int, int]:
    """Return stored files, usable data keys, and rows of records, chunks and photos."""
    stored = [path for path in Path(settings.FILES_DIR).rglob("*") if path.is_file()]
    keys = [path for path in Path(settings.KEYSTORE_DIR).glob("*.key") if len(path.stem) == 32]
    rows = (model.objects.count() for model in (CardholderRecord, IntakeChunk, PackagePhoto))
    return stored, keys, *rows


def test_every_sample_kind_has_its_expectation() -> None:
    assert AT_THE_DOOR.keys() | INSIDE.keys() == set(HOSTILE)


@pytest.mark.parametrize("kind", AT_THE_DOOR)
def test_refused_at_the_door(world: World, kind: str) -> None:
    """R-46: refused before a byte of the payload is parsed."""
    with pytest.raises(InputRefusedError) as caught:
        world.receive(world.hostile(kind))
    row = Package.objects.get()
    assert caught.value.code == row.refusal_code == AT_THE_DOOR[kind]
    assert row.status == PackageStatus.REFUSED
    assert is_chinese(row.refusal_text)
    assert leftovers() == ([], [], 0, 0, 0)
    assert not Task.objects.exists()


def assert_refused_inside(package: Package, code: str) -> str:
    """Check that opening a stored package ended in its refusal with nothing left; return the text."""
    package.refresh_from_db()
    assert (package.status, package.refusal_code) == (PackageStatus.REFUSED, code)
    assert is_chinese(package.refusal_text)
    assert leftovers() == ([], [], 0, 0, 0)
    assert files.keystore().tombstone(package.key_id) is not None
    assert files.keystore().tombstone(package.content_key_id) is not None
    event = AuditEntry.objects.latest("position")
    assert (event.action, event.details["code"]) == ("package.refused", code)
    assert Task.objects.get().status == "done"
    assert verify_chain()[1] is None
    return package.refusal_text


@pytest.mark.parametrize("kind", INSIDE)
def test_refused_when_opened(world: World, kind: str) -> None:
    """R-8: what the signature could not show is refused whole, with keys, file and rows gone."""
    package = world.receive(world.hostile(kind))
    run_tasks()
    assert_refused_inside(package, INSIDE[kind])


@pytest.mark.parametrize("kind", sorted(HOSTILE))
def test_the_command_answers_each(
    world: World, tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """`manage.py intake` names the file, the code and the reason, and exits with 1."""
    path = tmp_path / f"{kind}.sealed"
    path.write_bytes(world.hostile(kind))
    with pytest.raises(CommandError) as caught:
        call_command("intake", str(path))
    assert caught.value.returncode == 1
    shown = capsys.readouterr().err
    assert f"{kind}.sealed：拒收（{(AT_THE_DOOR | INSIDE)[kind]}）" in shown
    assert path.exists()


def members(world: World, count: int = 3) -> Members:
    return honest_members(SampleOrder(count, fault_rate=0, issue_date=clock.today()), world.head())


def with_manifest(found: Members, **changes: Any) -> Members:
    return found | {"manifest.json": json.dumps(json.loads(found["manifest.json"]) | changes).encode()}


def doubled_photo(found: Members) -> Members:
    number = PEOPLE[0].number
    return with_manifest(found, photo_count=4) | {f"photos/{number}.JPG": found[f"photos/{number}.jpg"]}


def without_heading(found: Members) -> Members:
    lines = found["records.csv"].splitlines(keepends=True)
    return found | {"records.csv": b"".join(lines[1:])}


def open_quote(found: Members) -> Members:
    return found | {"records.csv": found["records.csv"] + b'4,"never closed\r\n'}


def only_heading(found: Members) -> Members:
    return found | {"records.csv": found["records.csv"].splitlines(keepends=True)[0]}


def empty_table(found: Members) -> Members:
    return found | {"records.csv": b""}


def column_twice(found: Members) -> Members:
    return found | {"records.csv": found["records.csv"].replace(b"branch", b"AAC003", 1)}


def photo_in_subfolder(found: Members) -> Members:
    return found | {"photos/a/b.jpg": b"x"}


CHANGES: dict[str, tuple[Callable[[Members], Members], str]] = {
    "two photos of one number": (doubled_photo, "photo_doubled"),
    "no heading": (without_heading, "table_columns"),
    "quotation mark never closed": (open_quote, "table_quoting"),
    "heading only": (only_heading, "empty_package"),
    "no bytes in the table": (empty_table, "table_empty"),
    "a column twice": (column_twice, "table_columns"),
    "photo count": (lambda found: with_manifest(found, photo_count=2), "count_differs"),
    "counts that are no numbers": (
        lambda found: with_manifest(found, record_count=True),
        "manifest_unreadable",
    ),
    "negative counts": (lambda found: with_manifest(found, record_count=-3), "manifest_unreadable"),
    "manifest of another format": (lambda found: with_manifest(found, version=2), "manifest_unreadable"),
    "manifest of a list": (lambda found: found | {"manifest.json": b"[1]"}, "manifest_unreadable"),
    "manifest of another sender": (lambda found: with_manifest(found, sender="X"), "manifest_differs"),
    "oversize manifest": (lambda found: found | {"manifest.json": b" " * 70_000}, "zip_oversize"),
    "folder in the photos": (photo_in_subfolder, "member_unknown"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_other_ways_to_be_wrong_inside(world: World, name: str) -> None:
    change, code = CHANGES[name]
    package = world.receive(world.container_of(change(members(world))))
    run_tasks()
    text = assert_refused_inside(package, code)
    assert not any(person.number in text or person.name in text for person in PEOPLE)


def zip_with(found: Members, extra: list[tuple[zipfile.ZipInfo | str, bytes]]) -> bytes:
    target = io.BytesIO(inner_of(found))
    with zipfile.ZipFile(target, "a") as archive:
        for info, content in extra:
            archive.writestr(info, content)
    return target.getvalue()


def test_two_members_of_one_name(world: World) -> None:
    with pytest.warns(UserWarning, match="Duplicate name"):
        inner = zip_with(members(world), [("records.csv", b"another table")])
    package = world.receive(sealed(inner, world.parties()))
    run_tasks()
    assert_refused_inside(package, "member_doubled")


def test_the_reason_never_names_a_person(world: World) -> None:
    """R-45: a photo's file is named by its person; a refusal that points at it shows no number."""
    inner = bytearray(inner_of(members(world)))
    number = PEOPLE[0].number.encode()
    start = inner.rindex(number)  # in the directory
    inner[start + len(number) : start + len(number) + 1] = b"\x01"
    package = world.receive(sealed(bytes(inner), world.parties()))
    run_tasks()
    text = assert_refused_inside(package, "zip_path")
    assert PEOPLE[0].number not in text
    assert "photos/***" in text


class TestTheRestGoesOn:
    """One person's trouble is that person's alone: the row is returned, the others are accepted (R-9)."""

    def outcome(self, world: World, found: Members) -> dict[int, list[str]]:
        package = world.receive(world.container_of(found))
        run_tasks()
        package.refresh_from_db()
        assert package.status == PackageStatus.VALIDATED
        records = CardholderRecord.objects.select_related("package")
        assert (
            package.record_count
            == records.count()
            == (package.accepted_count or 0) + (package.returned_count or 0)
        )
        return {r.row_number: [p.code for p in open_problems(r)] for r in records if r.status == "returned"}

    def test_a_photo_with_a_wrong_checksum(self, world: World) -> None:
        """The sender's own archive is damaged in one photo; signature and seal hold."""
        inner = bytearray(inner_of(members(world)))
        place = inner.index(PEOPLE[1].number.encode()) + 2000
        inner[place] ^= 0xFF
        package = world.receive(sealed(bytes(inner), world.parties()))
        run_tasks()
        package.refresh_from_db()
        assert (package.accepted_count, package.returned_count) == (2, 1)
        (record,) = CardholderRecord.objects.select_related("package").filter(status="returned")
        assert (record.row_number, record.problem_codes) == (2, ["photo_damaged"])

    def test_a_photo_of_megabytes_is_not_even_read(self, world: World) -> None:
        found = members(world)
        found[f"photos/{PEOPLE[2].number}.jpg"] = b"\xff\xd8\xff" + bytes(3 << 20)
        assert self.outcome(world, found) == {3: ["photo_too_large"]}

    def test_lines_that_are_no_csv(self, world: World) -> None:
        found = members(world)
        lines = found["records.csv"].splitlines(keepends=True)
        lines[2] = b'2,"a"b,"c"\r\n'
        found["records.csv"] = b"".join(lines)
        assert self.outcome(world, found) == {2: ["row_quoting"]}

    def test_a_null_character_and_an_endless_cell(self, world: World) -> None:
        found = members(world)
        for person, text in ((PEOPLE[0], "A\0B"), (PEOPLE[2], "名" * 50_000)):
            found["records.csv"] = found["records.csv"].replace(person.card_number.encode(), text.encode())
        assert self.outcome(world, found) == {
            1: ["value_control", "row_null_character"],
            3: ["value_too_long", "row_cell_too_long"],
        }

    def test_surplus_columns_are_passed_over(self, world: World) -> None:
        """A sender may add columns of its own; what we read is found by name."""
        found = members(world)
        lines = found["records.csv"].splitlines()
        found["records.csv"] = b"\r\n".join([lines[0] + b",remark", *(line + b",x" for line in lines[1:])])
        assert self.outcome(world, found) == {}

    def test_photos_of_nobody_are_passed_over(self, world: World) -> None:
        found = with_manifest(members(world), photo_count=4) | {"photos/nobody.jpg": b"x"}
        assert self.outcome(world, found) == {}

    def test_two_rows_without_a_number_are_no_duplicates(self, world: World) -> None:
        found = members(world)
        for person in PEOPLE[:2]:
            found["records.csv"] = found["records.csv"].replace(person.number.encode(), b"")
        outcome = self.outcome(world, found)
        assert {row: codes[0] for row, codes in outcome.items()} == {1: "value_missing", 2: "value_missing"}
        assert "duplicate_person" not in outcome[2]
