"""Card faces: resolution, the pixels of a naive drawing, nothing cut, no box, no broken photo (R-17)."""

from __future__ import annotations

import dataclasses
import io
from importlib import resources

import numpy as np
import pytest
from PIL import Image

from portal.core.glyphs import FontFile, default_chain
from production.personalization import face_text
from production.personalization.face import (
    FaceRenderer,
    FaceValues,
    PhotoRefusedError,
    centre_crop,
    encode_png,
)
from production.personalization.face_template import FaceTemplateError, load_template, parse_template
from production.personalization.face_text import FaceTextError, GlyphCache, GlyphMissingError
from tests.production.personalization import naive_face
from tests.production.personalization.people import HOLDER

TEMPLATE = load_template("plain")
CHAIN = default_chain()
TEXT = (resources.files("production.personalization") / "face_templates" / "plain.toml").read_text(
    encoding="utf-8"
)
VALUES = FaceValues.of(HOLDER, bank_account="6217001234567890123", bank_name="中国工商银行")


def photo(width: int = 358, height: int = 441, mode: str = "RGB") -> bytes:
    """Return a JPEG with edges and gradients, as large as a photo as received."""
    noise = np.random.default_rng(7).integers(0, 256, (44, 36, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC).convert(mode).save(out, "JPEG")
    return out.getvalue()


PHOTO = photo()


@pytest.fixture(scope="module")
def renderer() -> FaceRenderer:
    return FaceRenderer(TEMPLATE, CHAIN)


def with_name(name: str) -> FaceValues:
    return dataclasses.replace(VALUES, name=name)


def name_lines(renderer: FaceRenderer, name: str) -> list[face_text.Line]:
    """Return the lines of the name: those that stand in its row."""
    lines = renderer.place(with_name(name))
    others = set(renderer.place(with_name("")))
    return [line for line in lines if line not in others]


def test_back_is_a_card_at_three_hundred_dots_per_inch(renderer: FaceRenderer) -> None:
    """R-17: CR80 at 300 DPI is 1011 × 638 pixels, and the file says so."""
    jpeg = renderer.render(VALUES, PHOTO)
    with Image.open(io.BytesIO(jpeg)) as picture:
        assert (picture.format, picture.size, picture.info["dpi"]) == ("JPEG", (1011, 638), (300, 300))
    with Image.open(io.BytesIO(renderer.render_png(VALUES, PHOTO))) as picture:
        assert (picture.format, picture.size) == ("PNG", (1011, 638))
        assert picture.info["dpi"] == pytest.approx((300, 300), abs=0.01)
    assert jpeg[:4] == b"\xff\xd8\xff\xe0"


def test_front_has_the_same_size_and_density(renderer: FaceRenderer) -> None:
    with Image.open(io.BytesIO(renderer.render_front())) as picture:
        assert (picture.size, picture.info["dpi"]) == ((1011, 638), (300, 300))


def test_other_density_gives_another_size() -> None:
    assert FaceRenderer(TEMPLATE, CHAIN, dpi=600).compose(VALUES, PHOTO).size == (2022, 1275)


@pytest.mark.parametrize("name", ["张伟", "阿卜杜拉·买买提江", "Maria Fernanda", "龘靐齉𠮷"])
def test_pixels_equal_the_naive_drawing(renderer: FaceRenderer, name: str) -> None:
    """P3: the fast way shows the same card; mean difference below 0.01 of 255 steps."""
    values = with_name(name)
    font = CHAIN.font_for("中")
    assert font is not None
    texts = values.texts(TEMPLATE.issuer)
    naive = naive_face.draw(TEMPLATE, naive_face.ground_file(TEMPLATE), font, texts, PHOTO)
    drawn = renderer.compose(values, PHOTO)
    difference = np.abs(np.asarray(naive, dtype=np.int16) - np.asarray(drawn, dtype=np.int16))
    assert difference.mean() < 0.01
    with Image.open(io.BytesIO(renderer.render_png(values, PHOTO))) as picture:
        assert np.array_equal(np.asarray(picture), np.asarray(drawn))


def test_drawing_twice_gives_the_same_bytes(renderer: FaceRenderer) -> None:
    """One card's values leave no trace on the next one's face (R-18)."""
    first = renderer.render(VALUES, PHOTO)
    renderer.render(with_name("欧阳娜娜"), photo(300, 300))
    assert renderer.render(VALUES, PHOTO) == first


def test_face_takes_its_texts_from_the_holder_of_the_chip() -> None:
    """R-18: name, number, card number and issue date have one source."""
    assert VALUES.texts("签发机关") == {
        "name": "张伟",
        "number": "440601199001011234",
        "card_number": "A12345678",
        "issue_month": "2026年10月",
        "issuer": "签发机关",
        "bank_account": "6217 0012 3456 7890 123",
        "bank_name": "中国工商银行",
    }
    assert "张伟" not in repr(VALUES)


def test_all_texts_of_the_back_are_placed(renderer: FaceRenderer) -> None:
    """R-17: name, number, issuer and issue date stand on the back; an absent account leaves no text."""
    placed = [line.text for line in renderer.place(VALUES)]
    assert sorted(placed) == sorted(VALUES.texts(TEMPLATE.issuer).values())
    without = dataclasses.replace(VALUES, bank_account="", bank_name="")
    assert len(renderer.place(without)) == len(placed) - 2


@pytest.mark.parametrize(
    "name",
    [
        "欧阳" * 12 + "娜",
        "W" * 50,
        "MARIA FERNANDA DE LOS ANGELES GONZALEZ RODRIGUEZ X",
        "阿卜杜热合曼·" * 3 + "吐尔逊江",
    ],
)
def test_long_name_shrinks_and_wraps_but_is_never_cut(renderer: FaceRenderer, name: str) -> None:
    """R-17: up to 25 characters, or 50 Latin letters, all of them inside the name's room."""
    area = next(value.area for value in TEMPLATE.back.values if value.key == "name")
    lines = name_lines(renderer, name)
    assert "".join(line.text for line in lines).replace(" ", "") == name.replace(" ", "")
    assert len(lines) == 2
    cache = GlyphCache(CHAIN)
    for line in lines:
        assert line.x + cache.width(line.text, line.size) <= (area.x + area.width) * 300 / 25.4 + 1
        assert line.size >= face_text.SMALLEST_PT * 300 / 72
    assert lines[1].baseline - lines[0].baseline >= lines[0].size


def test_name_of_middle_length_shrinks_on_one_line(renderer: FaceRenderer) -> None:
    (line,) = name_lines(renderer, "欧阳" * 8)
    assert 6 * 300 / 72 <= line.size < 8 * 300 / 72


def test_words_are_not_broken_where_they_need_not_be(renderer: FaceRenderer) -> None:
    lines = name_lines(renderer, "MARIA FERNANDA DE LOS ANGELES GONZALEZ RODRIGUEZ X")
    assert [line.text for line in lines] == ["MARIA FERNANDA DE LOS", "ANGELES GONZALEZ RODRIGUEZ X"]


def test_text_that_cannot_fit_is_refused(renderer: FaceRenderer) -> None:
    with pytest.raises(FaceTextError) as caught:
        renderer.render(with_name("龘" * 200), PHOTO)
    assert (caught.value.where, caught.value.got) == ("name", "200 字")


@pytest.mark.parametrize("char", ["\U00020cd0", "\ue000"])
def test_character_without_a_glyph_stops_the_card(char: str) -> None:
    """R-17: an error that names the character, never a box; the name itself is not in the message."""

    class Narrow:
        def font_for(self, wanted: str) -> FontFile | None:
            return None if wanted == char else CHAIN.font_for(wanted)

    with pytest.raises(GlyphMissingError) as caught:
        FaceRenderer(TEMPLATE, Narrow()).render(with_name(f"张{char}"), PHOTO)
    assert caught.value.got == f"U+{ord(char):04X}"
    assert "张" not in str(caught.value)


def damaged() -> dict[str, bytes]:
    middle = len(PHOTO) // 2
    return {
        "empty": b"",
        "text": b"not a picture",
        "half": PHOTO[:middle],
        "half with an end marker": PHOTO[:middle] + b"\xff\xd9",
        "tail missing": PHOTO[:-200],
        "zeros inside": PHOTO[:middle] + bytes(4000) + PHOTO[middle + 4000 :],
        "png": naive_face.png(Image.new("RGB", (4, 5))),
    }


@pytest.mark.parametrize("kind", list(damaged()))
def test_damaged_photo_is_refused_whole(renderer: FaceRenderer, kind: str) -> None:
    """R-17: no card with half a face."""
    before = renderer.render(VALUES, PHOTO)
    with pytest.raises(PhotoRefusedError, match="损坏"):
        renderer.render(VALUES, damaged()[kind])
    assert renderer.render(VALUES, PHOTO) == before


def test_photo_of_too_many_pixels_is_refused_by_its_header(renderer: FaceRenderer) -> None:
    with pytest.raises(PhotoRefusedError, match="像素过多") as caught:
        renderer.render(VALUES, photo(3000, 3000))
    assert caught.value.got == "3000×3000"


def test_grey_photo_is_printed(renderer: FaceRenderer) -> None:
    picture = np.asarray(renderer.compose(VALUES, photo(mode="L")))[160:400, 60:270]
    assert (picture[..., 0] == picture[..., 1]).all()


def test_photo_is_cropped_in_the_middle_not_stretched() -> None:
    assert centre_crop(358, 441, (236, 295)) == pytest.approx((2.6, 0, 355.4, 441))
    assert centre_crop(400, 400, (200, 250)) == (40, 0, 360, 400)
    assert centre_crop(200, 500, (200, 250)) == (0, 125, 200, 375)


def test_glyphs_stay_within_their_bytes() -> None:
    """P3: thousands of different names do not grow the process."""
    cache = GlyphCache(CHAIN, limit=100_000)
    for code in range(0x4E00, 0x4E00 + 300):
        cache.glyph(chr(code), 33.0)
        assert cache.used_bytes <= 100_000
    assert face_text.CACHE_BYTES <= 20 * 1024 * 1024


def test_png_of_one_pixel_is_read_by_another_decoder() -> None:
    with Image.open(io.BytesIO(encode_png(Image.new("RGB", (1, 1), (1, 2, 3)), 300))) as picture:
        assert picture.getpixel((0, 0)) == (1, 2, 3)


def test_photo_area_of_the_shipped_template_is_the_cards() -> None:
    """Facts of the card, section 5: 20 × 25 mm at (4, 12) mm, values from 14.5 mm down, account 16 pt."""
    area = TEMPLATE.photo
    assert (area.x, area.y, area.width, area.height) == (4, 12, 20, 25)
    values = {value.key: value for value in TEMPLATE.back.values}
    rows = [values[key].area.y for key in ("name", "number", "card_number", "issue_month")]
    assert rows == [14.5, 19, 23.5, 28]
    account = values["bank_account"]
    assert (account.area.x, account.area.y, account.size) == (17.5, 38.5, 16)
    assert "中华人民共和国社会保障卡" in [label.text for label in TEMPLATE.front.labels]
    assert TEMPLATE.assumption


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ('code = "plain"', "", "缺少键"),
        ("width = 20.0", "width = -20.0", "位置或大小不对"),
        ("width = 20.0", "width = 200.0", "超出卡片边缘"),
        ('key = "name"', 'key = "secret"', "取值不对"),
        ('kind = "ring"', 'kind = "star"', "取值不对"),
        ('colour = "#9DB9CB"', 'colour = "blue"', "颜色写法不对"),
        ("size = 16.0", "size = 16.0\nbold = true", "不认识的键"),
        ("size = 16.0", 'size = "16"', "值的类型不对"),
        ("[photo]", "[photo", "不是有效的 TOML"),
    ],
)
def test_template_that_cannot_be_right_is_refused(before: str, after: str, message: str) -> None:
    assert before in TEXT
    with pytest.raises(FaceTemplateError, match=message):
        parse_template(TEXT.replace(before, after, 1))


@pytest.mark.parametrize("code", ["../plain", "", "absent"])
def test_unknown_template_is_refused(code: str) -> None:
    with pytest.raises(FaceTemplateError):
        load_template(code)
