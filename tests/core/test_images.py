"""Photos as received (R-17): damage, form and size, each with its own answer."""

from __future__ import annotations

import io
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from portal.core.images import PhotoRule, check_photo

RULE = PhotoRule(min_ground=230)


def picture(mode: str = "RGB", size: tuple[int, int] = (358, 441), ground: str = "white") -> Image.Image:
    """Draw an invented, slightly noisy half-length figure."""
    image = Image.new("RGB", size, ground)
    draw = ImageDraw.Draw(image)
    draw.ellipse((80, 60, 278, 330), fill=(220, 180, 150))
    draw.rectangle((40, 330, 318, 441), fill=(40, 60, 120))
    pixels = np.asarray(image).astype(np.int16)
    noise = np.random.default_rng(1).integers(-14, 15, pixels.shape)
    pixels[60:] += noise[60:].astype(np.int16)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).convert(mode)


def encoded(image: Image.Image, kind: str = "JPEG", **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **{"quality": 75, **options})
    return out.getvalue()


GOOD = encoded(picture())
SCAN = GOOD.index(b"\xff\xda") + 14


def code_of(photo: bytes, rule: PhotoRule = RULE) -> str | None:
    problem = check_photo(photo, rule)
    return problem.code if problem else None


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}, {"optimize": True}])
def test_a_whole_photo_passes(options: dict[str, object]) -> None:
    assert check_photo(encoded(picture(), **options), RULE) is None


def flipped() -> bytes:
    broken, rng = bytearray(GOOD), random.Random(7)
    for _ in range(20):
        broken[rng.randrange(SCAN, len(GOOD) - 2)] ^= rng.randrange(1, 256)
    return bytes(broken)


DAMAGE = {
    "half file": GOOD[: len(GOOD) // 2],
    "end marker glued on": GOOD[: len(GOOD) // 2] + b"\xff\xd9",
    "bytes flipped": flipped(),
    "garbage after the scan header": GOOD[:SCAN]
    + random.Random(3).randbytes(len(GOOD) - SCAN - 2)
    + b"\xff\xd9",
    "tail missing": GOOD[:-200],
    "tail missing, end marker glued on": GOOD[:-200] + b"\xff\xd9",
    "zeros inside": GOOD[: len(GOOD) // 2] + bytes(500) + GOOD[len(GOOD) // 2 + 500 :],
    "header cut": GOOD[:40] + b"\xff\xd9",
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_every_kind_of_damage_is_refused(kind: str) -> None:
    """Pillow's `verify` and `load` accept some of these."""
    assert code_of(DAMAGE[kind], PhotoRule(min_bytes=0)) == "photo_damaged"


@pytest.mark.parametrize(
    ("photo", "code", "got"),
    [
        (b"", "photo_missing", ""),
        (encoded(picture(), "PNG")[:30_000], "photo_not_jpeg", "文件头 89504E47"),
        (encoded(picture(size=(441, 358))), "photo_pixels", "441×358像素"),
        (encoded(picture("L")), "photo_colour", "Gray"),
        (encoded(picture("CMYK"), quality=50), "photo_colour", "CMYK"),
        (GOOD + bytes(41 * 1024), "photo_too_large", f"{len(GOOD) + 41 * 1024}字节"),
        (encoded(picture(), quality=5), "photo_too_small", f"{len(encoded(picture(), quality=5))}字节"),
    ],
)
def test_wrong_form_is_named(photo: bytes, code: str, got: str) -> None:
    """R-9: expected and got."""
    problem = check_photo(photo, RULE)
    assert problem is not None
    assert (problem.field, problem.code, problem.got) == ("photo", code, got)
    assert problem.expected


def test_a_bomb_is_refused_by_its_header(monkeypatch: pytest.MonkeyPatch) -> None:
    """60000 × 60000 pixels are never decoded."""
    frame = GOOD.index(b"\xff\xc0")
    bomb = GOOD[: frame + 5] + (60_000).to_bytes(2, "big") * 2 + GOOD[frame + 9 :]
    monkeypatch.setattr("simplejpeg.decode_jpeg", lambda *_a, **_k: pytest.fail("decoded"))
    problem = check_photo(bomb, RULE)
    assert problem is not None
    assert (problem.code, problem.got) == ("photo_pixels", "60000×60000像素")


def test_the_ground_must_be_white_where_the_rule_says_so() -> None:
    """R-17: white ground; `min_ground` 0 accepts any."""
    blue = encoded(picture(ground="#4080c0"))
    assert code_of(blue) == "photo_ground"
    assert code_of(blue, PhotoRule()) is None


def test_size_limits_are_configurable() -> None:
    """Places differ: 9–20, 14–20, 14–40 KB."""
    assert code_of(GOOD, PhotoRule(max_bytes=len(GOOD), min_bytes=len(GOOD))) is None
    assert code_of(GOOD, PhotoRule(max_bytes=len(GOOD) - 1)) == "photo_too_large"
    assert code_of(GOOD, PhotoRule(min_bytes=len(GOOD) + 1)) == "photo_too_small"


@settings(max_examples=60)
@given(st.binary(max_size=200), st.integers(0, len(GOOD)))
def test_any_bytes_give_an_answer(junk: bytes, place: int) -> None:
    for photo in (junk, GOOD[:place] + junk + GOOD[place:], b"\xff\xd8\xff" + junk + b"\xff\xd9"):
        problem = check_photo(photo, PhotoRule(min_bytes=0))
        assert problem is None or problem.code.startswith("photo_")
