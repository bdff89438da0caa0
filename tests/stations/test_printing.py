"""Printing a face: IPP as bytes, and a real IPP Everywhere printer with its troubles (R-25)."""

from __future__ import annotations

import contextlib
import io
import threading
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageChops

from stations.agent.testcard import picture
from stations.printing.codec import Attribute, IppFormatError, Message, Tag, one, parse
from stations.printing.documents import Sheet, as_png, document
from stations.printing.following import PrintNote, print_face
from stations.printing.ipp import IppPrinter, http_address
from stations.printing.media import Medium, medium_of
from stations.printing.printer import FormatRefusedError, JobState, MediaRefusedError, PrinterRefusedError
from stations.printing.virtual import VirtualPrinter
from stations.printing.words import in_words, loud
from tests.stations.printer import CARD_PRINTER, CardPrinter

StartPrinter = Callable[..., CardPrinter]
FACE = picture()
ONE_SIDE = Sheet(Medium(5398, 8560, 4), "one-sided")

words = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)
plain = st.one_of(
    st.builds(
        lambda v: Attribute(Tag.INTEGER, tuple(v)), st.lists(st.integers(-(2**31), 2**31 - 1), min_size=1)
    ),
    st.builds(lambda v: Attribute(Tag.BOOLEAN, tuple(v)), st.lists(st.booleans(), min_size=1)),
    st.builds(lambda v: Attribute(Tag.KEYWORD, tuple(v)), st.lists(words, min_size=1)),
    st.builds(lambda v: Attribute(Tag.OCTETS, (v,)), st.binary(max_size=30)),
    st.builds(lambda a, b: Attribute(Tag.RANGE, ((a, b),)), st.integers(0, 99), st.integers(0, 99)),
)
attributes = st.dictionaries(
    words,
    st.one_of(
        plain,
        st.builds(lambda v: Attribute(Tag.COLLECTION, (v,)), st.dictionaries(words, plain, max_size=3)),
    ),
    max_size=4,
)


class TestCodec:
    @given(attributes, attributes, st.binary(max_size=50))
    def test_what_is_written_is_read(self, first: Any, second: Any, content: bytes) -> None:
        """RFC 8010 §3: groups, values without a name, collections with members, the document behind."""
        message = Message(0x0002, 7, [(Tag.OPERATION, first), (Tag.JOB, second)], content)
        assert parse(message.to_bytes()) == message

    @given(st.binary(max_size=200))
    def test_other_bytes_are_refused_or_read_and_break_nothing(self, raw: bytes) -> None:
        with contextlib.suppress(IppFormatError):
            parse(raw)

    def test_the_example_of_the_standard(self) -> None:
        """RFC 8010, appendix A.1: a Print-Job request, octet by octet as far as job-name."""
        head = {
            "attributes-charset": one(Tag.CHARSET, "utf-8"),
            "attributes-natural-language": one(Tag.LANGUAGE, "en-us"),
            "printer-uri": one(Tag.URI, "ipp://printer.example.com/ipp/print/pinetree"),
            "job-name": one(Tag.NAME, "foobar"),
        }
        raw = Message(0x0002, 1, [(Tag.OPERATION, head)]).to_bytes()
        expected = bytes.fromhex("0200 0002 00000001 01 47 0012") + b"attributes-charset"
        expected += (
            bytes.fromhex("0005") + b"utf-8" + bytes.fromhex("48 001b") + b"attributes-natural-language"
        )
        assert raw.startswith(expected + bytes.fromhex("0005") + b"en-us")
        assert raw.endswith(bytes.fromhex("42 0008") + b"job-name" + bytes.fromhex("0006") + b"foobar\x03")

    def test_collections_in_collections_have_an_end(self) -> None:
        """A printer cannot exhaust the agent's stack."""
        level = bytes((Tag.MEMBER, 0, 0, 0, 1)) + b"a" + bytes((Tag.COLLECTION, 0, 0, 0, 0))
        raw = bytes((2, 0, 0, 0, 0, 0, 0, 1, Tag.JOB, Tag.COLLECTION, 0, 1)) + b"a" + bytes(2) + level * 5000
        with pytest.raises(IppFormatError, match="嵌套"):
            parse(raw)

    def test_nothing_of_the_face_is_shown(self) -> None:
        """R-45: a document is personal."""
        assert "secret" not in repr(Message(2, 1, [], b"secret"))
        assert "secret" not in repr(document([b"secret"], {"image/jpeg"}, ONE_SIDE))


def sizes(*pairs: tuple[Any, Any]) -> dict[str, Attribute]:
    values = [
        {"x-dimension": Attribute(Tag.INTEGER, (x,)), "y-dimension": Attribute(Tag.INTEGER, (y,))}
        for x, y in pairs
    ]
    return {"media-size-supported": one(Tag.COLLECTION, *values)}


class TestMedium:
    @pytest.mark.parametrize(
        ("offered", "chosen"),
        [
            ([(21000, 29700), (5398, 8560)], Medium(5398, 8560, 4)),
            ([(5397, 8572), (5398, 8560)], Medium(5398, 8560, 4)),
            ([(5397, 8572)], Medium(5397, 8572, 4)),
            ([(8560, 5398)], Medium(8560, 5398, 3)),
            ([((1000, 10000), (1000, 20000))], Medium(5398, 8560, 4)),
        ],
    )
    def test_the_card_is_found_by_its_size(self, offered: Any, chosen: Medium) -> None:
        """ISO/IEC 7810 ID-1, also where a printer rounds to points or lays the card across."""
        assert medium_of(sizes(*offered)) == chosen

    def test_a_printer_for_paper_is_refused(self) -> None:
        with pytest.raises(MediaRefusedError):
            medium_of(sizes((21000, 29700)))

    def test_a_printer_that_names_none_is_asked_for_the_exact_size(self) -> None:
        assert medium_of({}) == Medium(5398, 8560, 4)


class TestWords:
    def test_reasons_are_said_in_chinese_with_what_is_unknown_as_it_came(self) -> None:
        assert (
            in_words(["media-empty-error", "cover-open-warning", "vendor-thing"])
            == "卡槽空、盖子打开、vendor-thing"
        )
        assert loud(["none", "media-low-report", "media-low-report"]) == ("media-low-report",)

    @pytest.mark.parametrize(
        ("uri", "address"),
        [
            ("ipp://localhost/printers/a", "http://localhost:631/printers/a"),
            ("ipps://printer.example:8443/ipp/print", "https://printer.example:8443/ipp/print"),
            ("ipp://[::1]", "http://[::1]:631/"),
        ],
    )
    def test_addresses(self, uri: str, address: str) -> None:
        """RFC 3510, RFC 7472."""
        assert http_address(uri) == address

    def test_png_has_the_same_pixels(self) -> None:
        with Image.open(io.BytesIO(as_png(FACE))) as png, Image.open(io.BytesIO(FACE)) as jpeg:
            assert ImageChops.difference(png.convert("RGB"), jpeg.convert("RGB")).getbbox() is None
        with pytest.raises(FormatRefusedError):
            document([FACE], {"application/postscript"}, ONE_SIDE)


def run(printer: Any, **limits: float) -> tuple[list[str], PrintNote]:
    """Print and return the states that were told, and the last note."""
    told: list[PrintNote] = []
    last = print_face(printer, [FACE], "card-1", told.append, **limits)
    assert told[-1] == last
    return [str(note.state) for note in told], last


class TestRealPrinter:
    @pytest.mark.parametrize("formats", ["image/jpeg,image/png", "image/png"])
    def test_every_pixel_of_the_face_is_printed_on_a_card(
        self, card_printer: StartPrinter, formats: str
    ) -> None:
        """R-25: CR80 at 300 DPI, media-col of the exact size, nothing scaled; sent from memory."""
        printer = card_printer(formats)
        states, last = run(IppPrinter(printer.uri))
        assert (states[0], states[-1], last.number) == ("submitted", "completed", 1)
        (printed,) = [path for path in printer.printed() if path.suffix in (".jpg", ".png")]
        with Image.open(printed) as shown, Image.open(io.BytesIO(FACE)) as sent:
            assert shown.size == (1011, 638)
            assert ImageChops.difference(shown.convert("RGB"), sent.convert("RGB")).getbbox() is None
        asked = printer.asked()
        assert (asked["IPP_COPIES"], asked["IPP_SIDES"], asked["IPP_PRINT_SCALING"]) == (
            "1",
            "one-sided",
            "none",
        )
        assert asked["IPP_MEDIA_COL"].startswith("{media-size={x-dimension=5398 y-dimension=8560}")
        assert asked["IPP_JOB_NAME"] == "card-1"

    def test_an_empty_hopper_is_shown_and_the_job_goes_on_when_it_is_filled(
        self, card_printer: StartPrinter
    ) -> None:
        printer = card_printer()
        printer.says("+media-empty-error", "+cover-open-error", after="-media-empty,cover-open")
        printer.hold(held=True)
        told: list[PrintNote] = []

        def tell(note: PrintNote) -> None:
            told.append(note)
            if note.state == JobState.STOPPED:
                printer.hold(held=False)

        last = print_face(IppPrinter(printer.uri), [FACE], "card-1", tell)
        assert last.state == JobState.COMPLETED
        stopped = next(note for note in told if note.state == JobState.STOPPED)
        assert {"卡槽空", "盖子打开"} <= set(stopped.text.split("、"))

    def test_a_job_that_the_printer_aborts(self, card_printer: StartPrinter) -> None:
        printer = card_printer()
        printer.ends_with(1)
        states, last = run(IppPrinter(printer.uri))
        assert (states[-1], last.reasons) == ("aborted", ("aborted-by-system",))

    def test_a_job_that_takes_too_long_is_cancelled(self, card_printer: StartPrinter) -> None:
        printer = card_printer()
        printer.hold(held=True)
        release = threading.Timer(2.0, lambda: printer.hold(held=False))
        release.start()
        states, last = run(IppPrinter(printer.uri), seconds=1)
        release.join()
        assert (states[-1], last.text) == ("canceled", "限定时间内没有打印完")

    def test_a_printer_that_dies_in_the_middle_is_lost(self, card_printer: StartPrinter) -> None:
        """D8: nobody knows whether the card was printed."""
        printer = card_printer()
        printer.hold(held=True)
        death = threading.Timer(1.0, printer.kill)
        death.start()
        states, last = run(IppPrinter(printer.uri), lost_seconds=1.5)
        death.join()
        assert states[0] == "submitted"
        assert states[-2:] == ["stopped", "lost"]
        assert last.number == 1

    def test_a_printer_that_hangs_before_the_document_has_printed_nothing(
        self, card_printer: StartPrinter
    ) -> None:
        printer = card_printer()
        printer.pause(paused=True)
        asked = IppPrinter(printer.uri, read_seconds=1)
        states, _ = run(asked)
        assert (states, asked.status().state) == (["not-submitted"], "unreachable")
        printer.pause(paused=False)
        assert run(IppPrinter(printer.uri))[0][-1] == "completed"

    def test_nobody_there(self) -> None:
        printer = IppPrinter("ipp://127.0.0.1:9/ipp/print")
        assert printer.status().state == "unreachable"
        assert run(printer)[0] == ["not-submitted"]

    def test_a_printer_for_paper_is_not_used(self, card_printer: StartPrinter) -> None:
        printer = card_printer(attributes=CARD_PRINTER.replace("5398", "21000").replace("8560", "29700"))
        states, last = run(IppPrinter(printer.uri))
        assert states == ["not-submitted"]
        assert "卡片尺寸" in last.text
        assert printer.printed() == []

    def test_cancelling_what_has_ended_is_no_error_and_what_never_was_is_refused(
        self, card_printer: StartPrinter
    ) -> None:
        printer = card_printer()
        asked = IppPrinter(printer.uri)
        _, last = run(asked)
        assert last.number is not None
        asked.cancel(last.number)
        asked.cancel(999)
        with pytest.raises(PrinterRefusedError):
            asked.job(999)


def test_the_virtual_printer_says_what_it_is() -> None:
    printer = VirtualPrinter()
    assert (printer.status().name, run(printer)[0]) == (
        "虚拟打印机",
        ["submitted", "processing", "completed"],
    )
