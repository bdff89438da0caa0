"""Drawn portraits in the size and weight of real ones: 358 × 441 px, about 14–20 KB, thousands a second."""

from __future__ import annotations

import io
import random
from typing import Final

import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import Image, ImageDraw

WIDTH, HEIGHT = 358, 441
DRAWINGS: Final = 256
# Bytes: inside 14–20 KB by either meaning of KB, with room for the comment.
SMALLEST, LARGEST = 14_400, 19_900
_QUALITIES: Final = (88, 91, 84, 93, 80, 76, 95, 72, 97, 68)
_COMMENT: Final = b"\xff\xfe"
_GRAIN: Final = 8
_NEARLY_WHITE: Final = 245

_Pixels = npt.NDArray[np.uint8]
_Colour = tuple[int, int, int]

_SKINS: Final[tuple[_Colour, ...]] = ((244, 212, 186), (234, 196, 164), (222, 180, 146), (206, 160, 126))
_HAIRS: Final[tuple[_Colour, ...]] = ((24, 22, 24), (44, 34, 30), (70, 50, 38), (120, 118, 120))
_CLOTHES: Final[tuple[_Colour, ...]] = (
    (38, 52, 92), (96, 30, 44), (40, 84, 66), (58, 58, 64),
    (116, 84, 140), (176, 96, 52), (28, 92, 120), (150, 150, 60),
)  # fmt: skip


class PhotoBook:
    """Portraits by number: the drawing repeats after a few hundred, the bytes and so the digest never do."""

    def __init__(self, seed: int, drawings: int = DRAWINGS) -> None:
        self._seed = seed
        self._count = drawings
        self._drawn: dict[int, bytes] = {}

    def photo(self, index: int) -> bytes:
        """Return the portrait of person `index` as a 24-bit JPEG."""
        place = index % self._count
        base = self._drawn.get(place)
        if base is None:
            base = self._drawn[place] = encode_to_weight(draw_bust(f"{self._seed}:{place}"))
        return with_comment(base, f"invented portrait {self._seed}:{index}")


def with_comment(jpeg: bytes, comment: str) -> bytes:
    """Put a comment segment behind the JFIF header, which changes the digest and not one pixel."""
    text = comment.encode("ascii")
    cut = 4 + int.from_bytes(jpeg[4:6], "big")
    return jpeg[:cut] + _COMMENT + (len(text) + 2).to_bytes(2, "big") + text + jpeg[cut:]


def encode_to_weight(pixels: _Pixels) -> bytes:
    """Encode at the first quality that lands between SMALLEST and LARGEST bytes, else at the last tried."""
    jpeg = b""
    for quality in _QUALITIES:
        jpeg = _jpeg(pixels, quality)
        if SMALLEST <= len(jpeg) <= LARGEST:
            break
    return jpeg


def _jpeg(pixels: _Pixels, quality: int) -> bytes:
    return bytes(simplejpeg.encode_jpeg(pixels, quality=quality, colorsubsampling="420"))


def _to_bytes(levels: npt.NDArray[np.int16]) -> _Pixels:
    clipped: _Pixels = np.clip(levels, 0, 255).astype(np.uint8)
    return clipped


def draw_bust(seed: str) -> _Pixels:
    """Draw an invented bust on white; equal seeds give equal pixels, shape (441, 358, 3)."""
    rng = random.Random(f"bust:{seed}")
    picture = Image.new("RGB", (WIDTH * 2, HEIGHT * 2), "white")
    _draw_person(ImageDraw.Draw(picture), rng)
    return _with_grain(np.asarray(picture.reduce(2)), rng.randrange(2**32))


def _with_grain(pixels: _Pixels, seed: int) -> _Pixels:
    """Add camera grain to the person, not to the white ground, so that the file weighs what photos do."""
    grain = np.random.default_rng(seed).integers(-_GRAIN, _GRAIN + 1, pixels.shape[:2], dtype=np.int16)
    grain[pixels[:, :, 0] > _NEARLY_WHITE] = 0
    return _to_bytes(pixels.astype(np.int16) + grain[:, :, None])


def _draw_person(draw: ImageDraw.ImageDraw, rng: random.Random) -> None:
    """Draw on the doubled canvas, 716 × 882."""
    skin, hair, cloth = rng.choice(_SKINS), rng.choice(_HAIRS), _varied(rng.choice(_CLOTHES), rng)
    middle, top = 358, 150 + rng.randrange(40)
    half, tall = 118 + rng.randrange(36), 330 + rng.randrange(50)
    long_hair = rng.random() < 0.45
    if long_hair:
        draw.rounded_rectangle((middle - half - 46, top - 20, middle + half + 46, top + 480), 120, fill=hair)
    _draw_shoulders(draw, rng, middle, top + tall, cloth, skin)
    draw.ellipse((middle - half - 22, top + 140, middle - half + 22, top + 230), fill=skin)
    draw.ellipse((middle + half - 22, top + 140, middle + half + 22, top + 230), fill=skin)
    draw.ellipse((middle - half, top, middle + half, top + tall), fill=skin)
    _draw_hair(draw, rng, (middle, top, half), hair, long_hair=long_hair)
    _draw_face(draw, rng, (middle, top, half, tall), hair)


def _varied(colour: _Colour, rng: random.Random) -> _Colour:
    red, green, blue = (max(0, min(230, part + rng.randrange(-24, 25))) for part in colour)
    return red, green, blue


def _draw_shoulders(
    draw: ImageDraw.ImageDraw, rng: random.Random, middle: int, chin: int, cloth: _Colour, skin: _Colour
) -> None:
    wide = 250 + rng.randrange(80)
    draw.rounded_rectangle((middle - wide, chin + 40, middle + wide, 1100), 130, fill=cloth)
    draw.rectangle((middle - 62, chin - 60, middle + 62, chin + 70), fill=skin)
    draw.polygon([(middle - 62, chin + 68), (middle + 62, chin + 68), (middle, chin + 130)], fill=skin)
    collar = (250, 250, 248) if rng.random() < 0.5 else _varied(cloth, rng)
    for side in (-1, 1):
        points = [(middle + side * 62, chin + 30), (middle, chin + 136), (middle + side * 120, chin + 150)]
        draw.polygon(points, fill=collar)


def _draw_hair(
    draw: ImageDraw.ImageDraw,
    rng: random.Random,
    head: tuple[int, int, int],
    hair: _Colour,
    *,
    long_hair: bool,
) -> None:
    middle, top, half = head
    lift = 26 + rng.randrange(34)
    fringe = 100 + rng.randrange(50)
    draw.chord((middle - half - 12, top - lift, middle + half + 12, top + 2 * fringe), 180, 360, fill=hair)
    parting = rng.choice((-60, 0, 60))
    low = top + fringe - 30
    draw.polygon([(middle - half, low), (middle + parting, top + 20), (middle + half, low)], fill=hair)
    if not long_hair:
        for side in (-1, 1):
            edge = middle + side * (half - 4)
            draw.rectangle((edge - 16, top + fringe - 40, edge + 16, top + fringe + 60), fill=hair)


def _draw_face(
    draw: ImageDraw.ImageDraw, rng: random.Random, head: tuple[int, int, int, int], hair: _Colour
) -> None:
    middle, top, half, tall = head
    eyes, apart = top + int(tall * 0.5), int(half * 0.46)
    glasses = rng.random() < 0.35
    for side in (-1, 1):
        x = middle + side * apart
        draw.ellipse((x - 26, eyes - 12, x + 26, eyes + 12), fill=(252, 252, 248))
        draw.ellipse((x - 11, eyes - 11, x + 11, eyes + 11), fill=(40, 28, 22))
        draw.line((x - 32, eyes - 34, x + 32, eyes - 34 + side * rng.randrange(-6, 7)), fill=hair, width=10)
        if glasses:
            draw.rounded_rectangle((x - 46, eyes - 32, x + 46, eyes + 34), 18, outline=(50, 46, 46), width=6)
    nose, mouth = top + int(tall * 0.66), top + int(tall * 0.8)
    ridge = (middle - 4, eyes + 14, middle - 16, nose, middle + 12, nose)
    draw.line(ridge, fill=(170, 124, 98), width=6, joint="curve")
    wide = 34 + rng.randrange(24)
    draw.chord((middle - wide, mouth - 12, middle + wide, mouth + 18), 0, 180, fill=(178, 84, 84))


def png_photo(seed: str) -> bytes:
    """Return a portrait as a PNG file of usual weight."""
    return _saved(Image.fromarray(draw_bust(seed)).quantize(8, kmeans=0, dither=Image.Dither.NONE), "PNG")


def grey_photo(seed: str) -> bytes:
    """Return a portrait as an 8-bit grey JPEG of usual weight."""
    return _saved(Image.fromarray(draw_bust(seed)).convert("L"), "JPEG", quality=86)


def small_photo(seed: str) -> bytes:
    """Return a sound colour portrait of 300 × 400 px and usual weight."""
    return _saved(Image.fromarray(draw_bust(seed)).resize((300, 400)), "JPEG", quality=90)


def light_photo(seed: str) -> bytes:
    """Return a sound portrait of the right pixels that weighs less than 9 KB."""
    return _jpeg(draw_bust(seed), 20)


def heavy_photo(seed: str) -> bytes:
    """Return a sound portrait of the right pixels that weighs more than 100 KB."""
    noise = np.random.default_rng(len(seed)).integers(-40, 41, (HEIGHT, WIDTH, 3), dtype=np.int16)
    return _jpeg(_to_bytes(draw_bust(seed).astype(np.int16) + noise), 95)


def _saved(picture: Image.Image, kind: str, **options: int) -> bytes:
    target = io.BytesIO()
    picture.save(target, kind, **options)
    return target.getvalue()
