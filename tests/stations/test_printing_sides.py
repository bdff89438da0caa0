"""Both sides of a card as one job: pages, their order, how they lie, on a real IPP printer (R-17, R-25)."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageChops

from production.personalization.face_template import load_template
from stations.agent.testcard import picture, pictures
from stations.printing.codec import Attribute, Attributes, Tag, one
from stations.printing.documents import Sheet, document
from stations.printing.following import PrintNote, print_face
from stations.printing.ipp import IppPrinter
from stations.printing.media import Medium
from stations.printing.printer import FormatRefusedError, JobState
from stations.printing.raster import raster
from stations.printing.sides import SideOrderError, SidesRefusedError, checked_sides, sides_of
from tests.stations.printer import CARD_PRINTER, CardPrinter
from tests.stations.raster import face_up, pages_of, transforms_of

StartPrinter = Callable[..., CardPrinter]
FACES = pictures(["front", "back"])
LONG, SHORT = "two-sided-long-edge", "two-sided-short-edge"
UPRIGHT = Medium(5398, 8560, 4)
PWG, PDF = "image/pwg-raster", "application/pdf"


def shown(face: bytes) -> Image.Image:
    with Image.open(io.BytesIO(face)) as image:
        return image.convert("RGB")


def same(one_image: Image.Image, other: Image.Image) -> bool:
    return one_image.size == other.size and ImageChops.difference(one_image, other).getbbox() is None


def run(printer: Any, faces: list[bytes] = FACES) -> PrintNote:
    return print_face(printer, faces, "card-1", lambda _note: None)


class TestRealPrinter:
    @pytest.mark.parametrize(
        ("sides", "asked", "turned"),
        [("one-sided,two-sided-long-edge", LONG, True), ("one-sided,two-sided-short-edge", SHORT, False)],
    )
    def test_one_job_of_two_pages_front_first_with_the_same_upper_edge(
        self, card_printer: StartPrinter, sides: str, asked: str, turned: bool
    ) -> None:
        """Issue 4, Printing: exact CR80, both sides, every pixel, whichever edge the card turns over."""
        printer = card_printer(sides=sides)
        assert run(IppPrinter(printer.uri)).state == JobState.COMPLETED
        (document_file,) = [path for path in printer.printed() if path.suffix == ".pwg"]
        front, back = pages_of(document_file.read_bytes())
        for page in (front, back):
            assert (page.image.size, page.resolution, page.points) == ((638, 1011), (300, 300), (153, 243))
            assert (page.count, page.duplex, page.tumble) == (2, True, asked == SHORT)
            assert (page.medium, page.transforms) == ("iso_id-1_53.98x85.6mm", (1, 1))
        assert same(face_up(front.image), shown(FACES[0]))
        upright = back.image.transpose(Image.Transpose.ROTATE_180) if turned else back.image
        assert same(face_up(upright), shown(FACES[1]))
        job = printer.asked()
        assert (job["IPP_SIDES"], job["IPP_COPIES"], job["IPP_PRINT_SCALING"]) == (asked, "1", "none")
        assert job["IPP_MEDIA_COL"].startswith("{media-size={x-dimension=5398 y-dimension=8560}")
        assert job["IPP_JOB_ID"] == "1"
        assert "IPP_ORIENTATION_REQUESTED" not in job, "the pages lie as the card does already"

    def test_a_printer_that_cannot_turn_cards_prints_nothing_of_two_sides_and_the_back_alone(
        self, card_printer: StartPrinter
    ) -> None:
        printer = card_printer(sides="one-sided")
        asked = IppPrinter(printer.uri)
        assert asked.status().turns_over is False
        note = run(asked)
        assert (note.state, note.number) == (JobState.NOT_SUBMITTED, None)
        assert "打印机不能两面打印" in note.text
        assert printer.printed() == []
        assert run(asked, [FACES[1]]).state == JobState.COMPLETED
        (printed,) = [path for path in printer.printed() if path.suffix == ".jpg"]
        assert printed.read_bytes() == FACES[1]
        assert printer.asked()["IPP_SIDES"] == "one-sided"

    def test_a_printer_whose_backs_come_out_head_down_is_told_once(self, card_printer: StartPrinter) -> None:
        """`--turn-back`, when the test card shows it."""
        printer = card_printer()
        assert run(IppPrinter(printer.uri, turn_back=True)).state == JobState.COMPLETED
        (document_file,) = [path for path in printer.printed() if path.suffix == ".pwg"]
        assert same(face_up(pages_of(document_file.read_bytes())[1].image), shown(FACES[1]))

    def test_a_printer_that_wants_its_backs_mirrored_gets_them_so(self, card_printer: StartPrinter) -> None:
        """PWG 5102.4: `flipped` with the long edge mirrors along the feed."""
        attributes = CARD_PRINTER.replace("sheet-back normal", "sheet-back flipped")
        printer = card_printer(attributes=attributes)
        assert run(IppPrinter(printer.uri)).state == JobState.COMPLETED
        (document_file,) = [path for path in printer.printed() if path.suffix == ".pwg"]
        front, back = pages_of(document_file.read_bytes())
        assert (front.transforms, back.transforms) == ((1, 1), (1, -1))
        laid = back.image.transpose(Image.Transpose.FLIP_TOP_BOTTOM).transpose(Image.Transpose.ROTATE_180)
        assert same(face_up(laid), shown(FACES[1]))


class TestRaster:
    @pytest.mark.parametrize("sides", [LONG, SHORT])
    @pytest.mark.parametrize("sheet_back", ["normal", "flipped", "rotated", "manual-tumble"])
    def test_backs_are_transformed_as_libcups_says(self, sides: str, sheet_back: str) -> None:
        pages = [shown(face).transpose(Image.Transpose.ROTATE_90) for face in FACES]
        front, back = pages_of(raster(pages, sides, sheet_back, "iso_id-1_53.98x85.6mm"))
        assert (front.transforms, back.transforms) == ((1, 1), transforms_of(sides, sheet_back))
        across, along = back.transforms
        undone = back.image
        if across < 0:
            undone = undone.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        if along < 0:
            undone = undone.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
        assert (same(front.image, pages[0]), same(undone, pages[1])) == (True, True)

    @settings(deadline=None, max_examples=40)
    @given(st.integers(1, 300), st.integers(1, 300), st.integers(0, 3), st.binary(min_size=1, max_size=64))
    def test_any_picture_is_read_as_it_was(self, width: int, height: int, rows: int, seed: bytes) -> None:
        """Widths around a run of 128 pixels, equal lines around a repeat of 256, single colours."""
        line = (seed * (width * 3))[: width * 3]
        plain = seed[:1] * (width * 3)
        kinds = [[line], [plain], [line, plain], [line, line, line[::-1]]][rows]
        content = b"".join(kinds[at % len(kinds)] for at in range(height))
        image = Image.frombytes("RGB", (width, height), content)
        (page,) = pages_of(raster([image], "one-sided", "normal", "custom_a_1x1mm"))
        assert (same(page.image, image), page.duplex, page.count) == (True, False, 1)


class TestDocument:
    def test_a_printer_without_raster_of_300_dpi_gets_a_pdf_of_the_cards_size(self) -> None:
        """A CUPS queue: two pages of 53.98 × 85.60 mm, each with its face."""
        made = document(FACES, {PWG, PDF}, Sheet(UPRIGHT, LONG, takes_raster=False))
        assert made.mime == PDF
        assert made.content.count(b"/MediaBox [ 0 0 153.12 242.64 ]") == 2
        assert b"/Count 2" in made.content
        assert made.content.count(b"/Filter /DCTDecode") == 2
        assert document(FACES, {PWG, PDF}, Sheet(UPRIGHT, LONG)).mime == PWG

    def test_the_faces_in_a_pdf_are_those_that_were_given(self) -> None:
        made = document(FACES, {PDF}, Sheet(UPRIGHT, SHORT)).content
        starts = [at for at in range(len(made)) if made.startswith(b"\xff\xd8\xff", at)]
        for start, face in zip(starts, FACES, strict=True):
            with Image.open(io.BytesIO(made[start:])) as page:
                difference = ImageChops.difference(face_up(page.convert("RGB")), shown(face))
            assert max(difference.convert("L").tobytes()) <= 8

    def test_a_card_that_lies_across_is_not_turned(self) -> None:
        made = document(FACES, {PWG}, Sheet(Medium(8560, 5398, 3), SHORT)).content
        front, back = pages_of(made)
        assert (same(front.image, shown(FACES[0])), same(back.image, shown(FACES[1]))) == (True, True)

    def test_images_alone_cannot_carry_two_sides(self) -> None:
        with pytest.raises(FormatRefusedError):
            document(FACES, {"image/jpeg", "image/png"}, Sheet(UPRIGHT, LONG))

    def test_one_side_goes_as_pages_too_where_no_image_is_read(self) -> None:
        (page,) = pages_of(document(FACES[:1], {PWG}, Sheet(UPRIGHT, "one-sided")).content)
        assert same(face_up(page.image), shown(FACES[0]))

    @pytest.mark.parametrize(
        ("found", "takes"),
        [
            ({}, True),
            ({"pwg-raster-document-resolution-supported": (600, 600, 3)}, False),
            ({"pwg-raster-document-resolution-supported": (300, 300, 3)}, True),
            ({"pwg-raster-document-resolution-supported": (300, 300, 4)}, False),
        ],
    )
    def test_raster_is_for_printers_of_300_dots_an_inch(
        self, found: dict[str, tuple[int, int, int]], takes: bool
    ) -> None:
        made = {name: one(Tag.RESOLUTION, struct.pack(">iib", *value)) for name, value in found.items()}
        assert Sheet.of(made, UPRIGHT, LONG, turn_back=False).takes_raster is takes
        black = made | {"pwg-raster-document-type-supported": one(Tag.KEYWORD, "black_1")}
        assert Sheet.of(black, UPRIGHT, LONG, turn_back=False).takes_raster is False


def offering(*keywords: str) -> Attributes:
    return {"sides-supported": Attribute(Tag.KEYWORD, keywords)} if keywords else {}


class TestSides:
    @pytest.mark.parametrize(
        ("offered", "chosen"),
        [(("one-sided", LONG, SHORT), LONG), (("one-sided", SHORT), SHORT), ((LONG,), LONG)],
    )
    def test_the_long_edge_is_preferred(self, offered: tuple[str, ...], chosen: str) -> None:
        assert sides_of(offering(*offered), 2) == chosen
        assert sides_of(offering(*offered), 1) == "one-sided"

    @pytest.mark.parametrize("offered", [(), ("one-sided",), ("of-no-standard",)])
    def test_a_printer_that_offers_neither_is_refused(self, offered: tuple[str, ...]) -> None:
        with pytest.raises(SidesRefusedError) as refused:
            sides_of(offering(*offered), 2)
        assert refused.value.code == "printer_sides"

    @pytest.mark.parametrize("sides", [["front", "back"], ["back"], ["front"]])
    def test_an_order_names_sides(self, sides: list[str]) -> None:
        assert checked_sides(sides) == tuple(sides)

    @pytest.mark.parametrize(
        "sides", [None, [], ["back", "front"], ["back", "back"], ["left"], "back", ["front", "back", "back"]]
    )
    def test_anything_else_is_no_order(self, sides: object) -> None:
        with pytest.raises(SideOrderError):
            checked_sides(sides)


def test_the_test_card_names_its_sides_and_its_upper_edge() -> None:
    """A printer that turns cards otherwise than asked is seen on the test card."""
    front, back = shown(picture("front")), shown(picture("back"))
    assert front.size == back.size == (1011, 638)
    assert not same(front, back)
    for face in (front, back):
        grey = face.convert("L")
        assert (grey.getpixel((110, 110)), grey.getpixel((90, 150)), grey.getpixel((130, 150))) < (9, 9, 9)
        assert (grey.getpixel((84, 100)), grey.getpixel((136, 100))) > (246, 246), "the arrow points up"


def test_the_front_of_the_shipped_layout_is_data_and_neutral() -> None:
    """R-17: the emblem's area is drawn, no emblem is shipped; the card's name stands on the front."""
    front = load_template("plain").front
    assert "中华人民共和国社会保障卡" in [label.text for label in front.labels]
    assert [shape.kind for shape in front.shapes if not shape.preview] == ["ground", "waves", "ring"]
    assert {value.key for value in front.values} == {"issuer"}, "nothing of a person stands on the front"
