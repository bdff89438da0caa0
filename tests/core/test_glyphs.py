"""Coverage of fonts (R-17): what a chain can draw, by which face."""

from __future__ import annotations

from pathlib import Path

import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from fontTools.ttLib import TTCollection, TTFont

from portal.core.glyphs import RARE_FONTS, FontChain, FontFile, default_chain, installed_rare_fonts


def make_font(path: Path, chars: str) -> FontFile:
    """Write a tiny font that draws just these characters."""
    codes = sorted(map(ord, chars))
    names = [".notdef", *(f"g{code:X}" for code in codes)]
    pen = TTGlyphPen(None)
    pen.moveTo((0, 0))
    pen.lineTo((0, 500))
    pen.lineTo((500, 0))
    pen.closePath()
    glyph = pen.glyph()
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder(names)
    builder.setupCharacterMap({code: f"g{code:X}" for code in codes})
    builder.setupGlyf(dict.fromkeys(names, glyph))
    builder.setupHorizontalMetrics(dict.fromkeys(names, (600, 0)))
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": path.stem, "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(path)
    return FontFile(path)


@pytest.fixture
def chain(tmp_path: Path) -> FontChain:
    """A plain font, then one with rare characters of the supplementary planes."""
    common = make_font(tmp_path / "common.ttf", "张三a")
    rare = make_font(tmp_path / "rare.ttf", "三㐂\U00020087\U0002ceff")
    return FontChain([common, rare])


def test_first_font_that_draws_a_character_is_chosen(chain: FontChain) -> None:
    common, rare = chain.fonts
    assert [chain.font_for(c) for c in "三㐂\U0002ceff"] == [common, rare, rare]
    assert chain.font_for("丁") is None


def test_missing_names_each_character_once_in_order(chain: FontChain) -> None:
    """R-17: the record is stopped with these characters named."""
    assert chain.missing("张丁 甲丁\U00020087\U00020088") == "丁甲\U00020088"
    assert chain.missing("张三 a㐂") == ""


def test_covers_agrees_with_fonttools(chain: FontChain) -> None:
    """Both kinds of cmap: basic plane only (format 4) and with supplementary planes (format 12)."""
    drawn: set[int] = set()
    for font in chain.fonts:
        with TTFont(font.path) as face:
            drawn |= set(face.getBestCmap())
    assert {code for code in range(0x30000) if chain.covers(chr(code))} == drawn
    assert not chain.covers("\U0010ffff")


def test_faces_of_a_collection_are_told_apart(tmp_path: Path) -> None:
    collection = TTCollection()
    for name, chars in (("one", "甲"), ("two", "乙\U00020087")):
        collection.fonts.append(TTFont(make_font(tmp_path / f"{name}.ttf", chars).path))
    path = tmp_path / "both.ttc"
    collection.save(path)
    for font in collection.fonts:
        font.close()
    assert FontChain([FontFile(path, 0)]).missing("甲乙") == "乙"
    assert FontChain([FontFile(path, 1)]).missing("甲乙") == "甲"


def test_a_chain_without_fonts_covers_nothing() -> None:
    assert FontChain([]).missing("张") == "张"


def test_default_chain_draws_the_common_set_with_noto_sc() -> None:
    """Every character of GB 2312 and the separator, without any system font."""
    chain = default_chain()
    hanzi = "".join(
        bytes((row, cell)).decode("gb2312") for row in range(0xB0, 0xD7) for cell in range(0xA1, 0xFF)
    )
    assert chain.missing(f"{hanzi}·ABCxyzéü") == ""
    assert default_chain() is chain
    with TTFont(chain.fonts[0].path, fontNumber=chain.fonts[0].index, lazy=True) as face:
        assert face["name"].getDebugName(4) == "Noto Sans CJK SC"


def test_coverage_is_kept_in_little_memory() -> None:
    """A bit per code point: under 64 KB a font."""
    assert all(len(bitmap) < 65_536 for bitmap in default_chain()._coverage)


def test_rare_fonts_are_found_in_order_of_preference(tmp_path: Path) -> None:
    (tmp_path / "hanazono").mkdir()
    for name in ("HanaMinB.ttf", "HanaMinA.ttf", "Other.ttf"):
        (tmp_path / "hanazono" / name).touch()
    (tmp_path / "BabelStoneHan.ttf").touch()
    found = installed_rare_fonts([tmp_path / "absent", tmp_path])
    assert [font.path.name for font in found] == list(RARE_FONTS)
