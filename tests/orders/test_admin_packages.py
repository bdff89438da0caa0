"""Packages and records in the admin: upload, problems, correction, search, unmasking."""

from __future__ import annotations

import io

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from openpyxl import load_workbook

from orders.jobs import advance_all
from orders.models import CardholderRecord, Package
from orders.personal import open_name, open_number, open_problems, open_source
from portal.choices import Role
from portal.models import AuditEntry
from portal.samples.photos import draw_bust, encode_to_weight
from tests.orders.intake.world import World, make_world, run_tasks
from tests.portal.desk import audited, last_action, make_person, page, said, sign_in, text

pytestmark = pytest.mark.django_db
MODEL, RECORD = "orders.package", "orders.cardholderrecord"


@pytest.fixture
def world() -> World:
    return make_world()


@pytest.fixture
def desk(world: World) -> Client:
    return sign_in(world.clerk)


def checked(world: World, count: int, fault_rate: float) -> Package:
    """Take a package in and let the sweeper see that its last row is checked."""
    package = world.take_in(count, fault_rate=fault_rate)
    advance_all()
    package.refresh_from_db()
    assert package.status == "validated"
    return package


@pytest.fixture
def package(world: World) -> Package:
    """A checked package of which about half the rows came back."""
    return checked(world, 16, 0.5)


def returned(package: Package, code: str | None = None) -> CardholderRecord:
    rows = package.records.filter(status="returned").select_related("package")
    if code is not None:
        rows = rows.filter(problem_codes=[code])
    row = rows.first()
    assert row is not None
    return row


def sent(content: bytes, name: str = "p.sealed") -> dict[str, SimpleUploadedFile]:
    return {"file": SimpleUploadedFile(name, content)}


def test_a_package_is_uploaded_and_checked(world: World, desk: Client) -> None:
    """R-8: the page says it was received, then what came of every row."""
    answer = desk.post(page(MODEL, "upload"), sent(world.container(6)))
    package = Package.objects.get()
    assert answer.status_code == 302
    assert answer["Location"] == page(MODEL, "change", package.pk)
    assert said(answer) == "已接收数据包 P-1，正在后台校验"
    running = text(desk.get(page(MODEL, "progress", package.pk)))
    assert "后台处理中" in running
    run_tasks()
    advance_all()
    shown = text(desk.get(page(MODEL, "change", package.pk)))
    assert "6 = 6 + 0" in shown
    assert "后台处理完成" in shown
    done = desk.get(page(MODEL, "progress", package.pk), {"running": "1"})
    assert done["HX-Refresh"] == "true"


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("truncated", "seal_truncated"),
        ("wrong_recipient", "seal_wrong_recipient"),
        ("wrong_signature", "seal_bad_signature"),
        ("unknown_sender", "unknown_sender"),
        ("not_a_package", ""),
        ("flipped_bit", ""),
    ],
)
def test_a_hostile_package_is_refused_on_the_page(world: World, desk: Client, kind: str, code: str) -> None:
    """Issue 2, bad input: each gets its own answer; nothing but the refusal is kept."""
    answer = desk.post(page(MODEL, "upload"), sent(world.hostile(kind)))
    row = Package.objects.get()
    assert answer.status_code == 409
    assert row.status == "refused"
    assert said(answer).endswith(f"（{row.refusal_code}）")
    assert not code or row.refusal_code
    assert CardholderRecord.objects.count() == 0
    assert last_action() == "package.refused"
    assert row.refusal_code in text(desk.get(page(MODEL, "changelist"), {"status__exact": "refused"}))


def test_the_same_package_twice_is_refused(world: World, desk: Client) -> None:
    container = world.container(3)
    desk.post(page(MODEL, "upload"), sent(container))
    answer = desk.post(page(MODEL, "upload"), sent(container))
    assert said(answer) == "该数据包已接收过，不再重复接收；位置：PROVINCE P-1（replayed）"
    assert Package.objects.exclude(status="refused").count() == 1


def test_no_file_and_too_large_a_file_are_answered_at_the_field(desk: Client, settings: object) -> None:
    settings.MAX_PACKAGE_BYTES = 10  # type: ignore[attr-defined]
    empty = desk.post(page(MODEL, "upload"), {})
    assert (empty.status_code, "必填" in text(empty)) == (422, True)
    large = desk.post(page(MODEL, "upload"), sent(b"x" * 11))
    assert (large.status_code, "文件过大" in text(large)) == (422, True)
    assert Package.objects.count() == 0


def test_the_return_list_is_downloaded(package: Package, desk: Client) -> None:
    """R-9: row, field, expected and got, in Excel, as an audited export."""
    answer = desk.get(page(MODEL, "download_returns", package.pk))
    assert answer["Content-Disposition"].startswith("attachment; filename*=utf-8''")
    sheet = load_workbook(io.BytesIO(b"".join(answer.streaming_content)), read_only=True).active  # type: ignore[attr-defined]
    rows = list(sheet.iter_rows(values_only=True))
    lines = [row for row in rows if row[0] and str(row[0]).isdigit()]
    assert {int(row[0]) for row in lines} == set(
        package.records.filter(status="returned").values_list("row_number", flat=True)
    )
    assert last_action() == "package.returns_exported"


def test_problems_are_counted_by_code_with_names(package: Package, desk: Client) -> None:
    shown = text(desk.get(page(MODEL, "change", package.pk)))
    for code in {code for record in package.records.all() for code in record.problem_codes}:
        assert f"<td>{code}</td>" in shown


def test_lists_and_pages_show_people_masked_only(package: Package, desk: Client) -> None:
    """R-45: no number and no name in clear on any page, title or address."""
    pages = [page(RECORD, "changelist"), page(MODEL, "change", package.pk)]
    records = list(package.records.select_related("package"))
    pages += [page(RECORD, "change", record.pk) for record in records[:6]]
    shown = "".join(text(desk.get(address)) for address in pages)
    for record in records:
        if record.status == "accepted":
            assert open_number(record) not in shown
            assert f">{open_name(record)}<" not in shown


def test_a_person_is_found_by_exact_number_name_and_card_number(package: Package, desk: Client) -> None:
    record = package.records.filter(status="accepted").select_related("package").first()
    assert record is not None
    number, name = open_number(record), open_name(record)
    for values in ({"number": number}, {"number": f" {number.lower()} "}, {"name": name, "number": number}):
        answer = desk.post(page(RECORD, "find"), values)
        assert "找到 1 条记录" in text(answer)
        assert number not in text(answer).replace(f'value="{number}"', "")
        assert page(RECORD, "change", record.pk) in text(answer)
    for part in (number[:-1], number[:6], "%", name[0]):
        assert "找到 0 条记录" in text(desk.post(page(RECORD, "find"), {"name": part}))
    details = AuditEntry.objects.filter(action="record.searched").values_list("details", flat=True)
    person = bytes(record.number_index).hex()
    assert {"columns": ["number_index"], "found": 1, "person": person} in details
    assert number not in str(list(details))


def test_opening_a_persons_page_is_an_event_under_a_pseudonym(package: Package, desk: Client) -> None:
    """Reading personal data is recorded, masked as it was shown (issue 3, Audit; R-45)."""
    record = CardholderRecord.objects.order_by("pk").first()
    assert record is not None
    desk.get(page(RECORD, "change", record.pk))
    entry = AuditEntry.objects.first()
    assert entry is not None
    assert (entry.action, entry.object_id) == ("record.viewed", str(record.pk))
    assert entry.details == {"person": bytes(record.number_index).hex()}


def test_a_search_without_a_value_is_refused(package: Package, desk: Client) -> None:
    answer = desk.post(page(RECORD, "find"), {})
    assert said(answer) == "请至少填写一项；应为：社会保障号码、社会保障卡号或姓名（search_empty）"


def test_no_address_filters_by_a_sealed_or_indexed_column(package: Package, desk: Client) -> None:
    for column in ("number_index", "name_sealed__startswith", "number_index__contains"):
        assert desk.get(page(RECORD, "changelist"), {column: "x"}).status_code == 400


class TestUnmasking:
    def test_it_needs_a_reason_and_shows_the_values_once(self, package: Package, desk: Client) -> None:
        record = package.records.filter(status="accepted").select_related("package").first()
        assert record is not None
        asked = desk.post(page(RECORD, "unmask", record.pk), {"reason": ""})
        assert asked.status_code == 422
        assert open_number(record) not in text(asked)
        answer = desk.post(page(RECORD, "unmask", record.pk), {"reason": "来电核实"})
        assert open_number(record) in text(answer)
        assert open_name(record) in text(answer)
        assert "no-store" in answer["Cache-Control"]
        assert f"<title> {open_name(record)}" not in text(answer)
        entry = AuditEntry.objects.get(action="record.unmasked")
        assert entry.details["reason"] == "来电核实"
        assert open_number(record) not in str(entry.details)

    def test_a_bank_clerk_may_not(self, package: Package, world: World) -> None:
        record = package.records.filter(status="accepted").first()
        assert record is not None
        clerk = make_person(Role.BANK_CLERK, record.bank)  # type: ignore[arg-type]
        before = audited()
        answer = sign_in(clerk).post(page(RECORD, "unmask", record.pk), {"reason": "好奇"})
        assert (answer.status_code, audited(), last_action()) == (403, before, "access.refused")


class TestCorrection:
    def form(self, record: CardholderRecord, **changes: str) -> dict[str, str]:
        source = {code: value for code, value in open_source(record).items() if code != "seq"}
        return source | {"reason": "来电更正"} | changes

    def test_a_row_is_opened_with_field_expected_and_got(self, package: Package, desk: Client) -> None:
        record = returned(package)
        shown = text(desk.get(page(RECORD, "correct", record.pk)))
        for problem in open_problems(record):
            assert problem.expected in shown
        assert 'aria-invalid="true"' in shown or {p.field for p in open_problems(record)} <= {"photo", "row"}
        assert last_action() == "record.opened_for_correction"

    def test_a_corrected_row_goes_on_as_its_next_version(self, world: World, desk: Client) -> None:
        """R-9: 补录 re-enters as a new version; the old one stays, superseded."""
        package = checked(world, 40, 1.0)
        record = returned(package, "sex_mismatch")
        sex = {"1": "2", "2": "1"}[open_source(record)["AAC004"]]
        answer = desk.post(page(RECORD, "correct", record.pk), self.form(record, AAC004=sex))
        fresh = CardholderRecord.objects.get(package=package, row_number=record.row_number, version=2)
        assert answer["Location"] == page(RECORD, "change", fresh.pk)
        assert (fresh.status, fresh.corrected_by) == ("accepted", world.clerk)
        record.refresh_from_db()
        assert record.status == "superseded"
        package.refresh_from_db()
        assert package.record_count == package.accepted_count + package.returned_count
        entry = AuditEntry.objects.get(action="record.corrected")
        assert entry.details["fields"] == ["AAC004"]

    def test_a_row_that_is_still_wrong_stays(self, package: Package, desk: Client) -> None:
        record = returned(package)
        answer = desk.post(page(RECORD, "correct", record.pk), self.form(record, AAE008="NOBANK"))
        assert answer.status_code == 409
        assert said(answer).startswith("补录后仍有问题")
        assert said(answer).endswith("（still_wrong）")
        record.refresh_from_db()
        assert record.status == "returned"
        assert CardholderRecord.objects.filter(version=2).count() == 0

    def test_a_missing_photo_is_uploaded(self, world: World, desk: Client) -> None:
        package = checked(world, 60, 1.0)
        record = returned(package, "photo_missing")
        photo = SimpleUploadedFile("x.jpg", encode_to_weight(draw_bust("desk")), "image/jpeg")
        answer = desk.post(page(RECORD, "correct", record.pk), self.form(record) | {"photo": photo})
        assert said(answer) == "补录成功，记录已进入待匹配"

    def test_a_bank_may_not_correct(self, package: Package, world: World) -> None:
        record = returned(package)
        bank = record.bank or package.records.exclude(bank=None).first().bank  # type: ignore[union-attr]
        clerk = make_person(Role.BANK_CLERK, bank)  # type: ignore[arg-type]
        answer = sign_in(clerk).post(page(RECORD, "correct", record.pk), self.form(record))
        assert answer.status_code == 403
        assert CardholderRecord.objects.filter(version=2).count() == 0


def test_other_banks_people_are_absent_everywhere(package: Package, world: World) -> None:
    """D12: one bank never sees another: lists, pages, history, search."""
    own = package.records.filter(status="accepted").select_related("package").first()
    assert own is not None
    other = package.records.filter(status="accepted").exclude(bank=own.bank).select_related("package").first()
    assert other is not None
    desk = sign_in(make_person(Role.BANK_CLERK, own.bank))  # type: ignore[arg-type]
    assert desk.get(page(RECORD, "change", own.pk)).status_code == 200
    for name in ("change", "history"):
        assert desk.get(page(RECORD, name, other.pk)).status_code == 404
    listing = text(desk.get(page(RECORD, "changelist")))
    assert page(RECORD, "change", own.pk) in listing
    assert page(RECORD, "change", other.pk) not in listing
    assert "找到 0 条记录" in text(desk.post(page(RECORD, "find"), {"number": open_number(other)}))
    assert desk.get(page(MODEL, "changelist")).status_code == 403
    assert desk.get(page(MODEL, "progress", package.pk)).status_code in {403, 404}
