"""Sample packages: the same bytes again, every fault in them, and validation finds just these."""

from __future__ import annotations

import csv
import io
import json
import tracemalloc
import zipfile
from dataclasses import replace
from datetime import date
from pathlib import Path

import noto_cjk_sans_otc
import pytest

from orders.validation import Rules, validate_row
from portal.core.crypto import Sm2PrivateKey
from portal.core.glyphs import NOTO_SC_INDEX, FontChain, FontFile
from portal.core.seal import check_chunks, read_envelope, verify_envelope
from portal.core.seal_envelope import unwrap_content_key
from portal.samples.banks import BANKS, DELIVERY_POINTS
from portal.samples.faults import FAULTS, Expectation
from portal.samples.hostile import Parties
from portal.samples.package import PackageHead, SampleOrder, SampleReport, make_package, write_inner_zip
from portal.samples.people import COLUMNS

ORDER = SampleOrder(count=2000, seed=11, drawings=16)


class Opened:
    """An inner ZIP read back."""

    def __init__(self, order: SampleOrder, head: PackageHead) -> None:
        self.content = io.BytesIO()
        self.report: SampleReport = write_inner_zip(self.content, order, head)
        self.archive = zipfile.ZipFile(self.content)
        self.manifest = json.loads(self.archive.read("manifest.json"))
        text = self.archive.read("records.csv").decode(head.encoding)
        self.lines = list(csv.reader(io.StringIO(text, newline="")))
        self.rows = list(csv.DictReader(io.StringIO(text, newline="")))

    def photo(self, number: str) -> bytes | None:
        try:
            return self.archive.read(f"photos/{number}.jpg")
        except KeyError:
            return None


@pytest.fixture(scope="module")
def demo(head: PackageHead) -> Opened:
    return Opened(ORDER, head)


@pytest.fixture(scope="module")
def rules(issue_date: date) -> Rules:
    bank_keys = {bank.code: key for key, bank in enumerate(BANKS, 1)}
    points = {(bank_keys[p.bank_code], p.code): key for key, p in enumerate(DELIVERY_POINTS.values(), 1)}
    noto = FontChain([FontFile(Path(noto_cjk_sans_otc.FONT_PATH), NOTO_SC_INDEX)])
    return Rules(today=issue_date, bank_codes=bank_keys, delivery_points=points, fonts=noto)


def test_same_order_same_bytes(head: PackageHead) -> None:
    order = SampleOrder(drawings=8, count=120, seed=3, fault_rate=0.4)
    one, two = Opened(order, head), Opened(order, head)
    assert one.content.getvalue() == two.content.getvalue()
    assert one.report == two.report
    assert Opened(replace(order, seed=4), head).content.getvalue() != one.content.getvalue()


def test_manifest_counts(demo: Opened) -> None:
    assert demo.manifest["record_count"] == demo.report.count == len(demo.rows) == 2000
    photos = [name for name in demo.archive.namelist() if name.startswith("photos/")]
    assert demo.manifest["photo_count"] == demo.report.photo_count == len(photos) == len(set(photos))
    assert demo.manifest["package_number"] == "P-1"
    assert demo.lines[0] == demo.manifest["columns"] == list(COLUMNS)


def test_the_demo_holds_every_fault_and_about_two_in_a_hundred(demo: Opened) -> None:
    assert {expectation.fault for expectation in demo.report.bad} == set(FAULTS)
    assert 0.02 <= len(demo.report.bad) / 2000 <= 0.026


def test_validation_finds_what_was_spoilt_and_nothing_else(demo: Opened, rules: Rules) -> None:
    """R-9: each fault is named in one of its fields, each flawless row passes."""
    expected = {expectation.seq: expectation for expectation in demo.report.bad}
    seen: set[str] = set()
    for place, row in enumerate(demo.rows, 1):
        checked = validate_row(row, photo=demo.photo(row["AAC002"]), rules=rules)
        fields = {problem.field for problem in checked.problems}
        if checked.number in seen:
            fields.add("AAC002")
        seen.add(checked.number)
        nothing = Expectation(place, "none", ())
        named = fields & set(expected.get(place, nothing).fields)
        assert bool(fields) == bool(named) == (place in expected), (expected.get(place), checked.codes)


def test_faults_are_spread_over_the_rows(demo: Opened) -> None:
    places = [(expectation.seq - 1) // 40 for expectation in demo.report.bad]
    assert places == list(range(50))


def test_no_faults_when_none_are_wanted(head: PackageHead, rules: Rules) -> None:
    clean = Opened(SampleOrder(drawings=8, count=150, seed=5, fault_rate=0), head)
    assert clean.report.bad == []
    problems = [
        validate_row(row, photo=clean.photo(row["AAC002"]), rules=rules).problems for row in clean.rows
    ]
    assert problems == [()] * 150


@pytest.mark.parametrize("rate", [-0.1, 1.1])
def test_impossible_rates_are_refused(rate: float, head: PackageHead) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        write_inner_zip(io.BytesIO(), SampleOrder(drawings=8, count=1, fault_rate=rate), head)


def test_the_first_row_can_be_bad(head: PackageHead) -> None:
    """A duplicate needs somebody before it; with every row bad there is nobody, and the fault waits."""
    opened = Opened(SampleOrder(drawings=8, count=60, fault_rate=1), head)
    assert len(opened.report.bad) == 60
    assert "person_duplicate" not in {expectation.fault for expectation in opened.report.bad}


def test_gb18030_holds_the_same_people(head: PackageHead) -> None:
    """R-12: rare characters survive the other encoding."""
    order = SampleOrder(drawings=8, count=400, seed=2, fault_rate=0.2)
    plain, other = Opened(order, head), Opened(order, replace(head, encoding="gb18030"))
    assert other.manifest["encoding"] == "gb18030"
    assert other.lines == plain.lines
    assert other.archive.read("records.csv") != plain.archive.read("records.csv")


def test_second_package_continues_the_world(head: PackageHead) -> None:
    first = Opened(SampleOrder(drawings=8, count=50, fault_rate=0), head)
    second = Opened(SampleOrder(drawings=8, count=50, start=50, fault_rate=0), head)
    assert not {row["AAC002"] for row in first.rows} & {row["AAC002"] for row in second.rows}


def test_nobody_at_all(head: PackageHead) -> None:
    """N = 0 is a package too."""
    empty = Opened(SampleOrder(drawings=8, count=0), head)
    assert (empty.report.count, empty.rows, empty.lines) == (0, [], [list(COLUMNS)])


def test_sealed_package_opens(
    tmp_path: Path, head: PackageHead, parties: Parties, recipient: Sm2PrivateKey
) -> None:
    """R-8: what is sealed is what was written, and nothing plain stays behind."""
    path = tmp_path / "package.zip"
    report = make_package(
        path,
        SampleOrder(drawings=8, count=20),
        head,
        sender_key=parties.sender,
        recipient_key=parties.recipient,
    )
    assert report.count == 20
    assert list(tmp_path.iterdir()) == [path]
    with path.open("rb") as container:
        envelope = read_envelope(container)
        verify_envelope(envelope, recipient="portal", sender_key=parties.sender.public)
        check_chunks(container, envelope, unwrap_content_key(envelope, recipient))
    assert (envelope.package_number, envelope.sender) == ("P-1", "province")
    assert b"AAC002" not in path.read_bytes()


def test_memory_does_not_grow_with_the_rows(head: PackageHead, tmp_path: Path) -> None:
    """Only the ZIP directory and the expectations may stay: far below the 18 KB a photo takes."""
    peaks = []
    for count in (300, 900):
        with (tmp_path / "inner").open("wb") as target:
            tracemalloc.start()
            write_inner_zip(target, SampleOrder(drawings=8, count=count), head)
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
    assert (peaks[1] - peaks[0]) / 600 < 6000
