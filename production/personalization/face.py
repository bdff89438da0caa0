"""Card faces: one renderer per template and process, a picture per card in a few milliseconds (R-17, P3).

The ground with its labels and the texts of the batch is painted and coded once; per card only the photo and
the person's own values are pasted, and only the rows they touch are coded (face_jpeg). PNG uses the "up"
filter and ISA-L's level 1, an order of magnitude faster than Pillow's default.
"""

from __future__ import annotations

import datetime as dt
import struct
import zlib
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import simplejpeg
from isal import isal_zlib
from PIL import Image

from portal.core.errors import InputRefusedError
from production.personalization.face_jpeg import CodedGround, block_rows, encode_jpeg
from production.personalization.face_paint import paint_ground
from production.personalization.face_template import MM_PER_INCH, FaceTemplate, Side, Value, pixels
from production.personalization.face_text import Fonts, GlyphCache, Ink, Line, place_label, place_value
from production.personalization.holder import CardHolder

PRINT_DPI = 300
ACCOUNT_GROUP = 4
MAX_PHOTO_PIXELS = 4_000_000
# Bicubic sharpness at the cost of bilinear when the photo is made smaller.
PHOTO_FILTER = Image.Resampling.HAMMING
# Texts that a whole batch shares are painted into the ground; each ground takes 2.7 MB.
SHARED_KEYS = ("issuer", "bank_name", "issue_month")
_GROUNDS = 4
_UP_FILTER = 2
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


class PhotoRefusedError(InputRefusedError):
    """A photo that is damaged, not a colour or grey JPEG, or too large to be one of a person."""

    code = "photo_refused"


@dataclass(frozen=True, slots=True)
class FaceValues:
    """The texts of one card's back."""

    name: str = field(repr=False)
    number: str = field(repr=False)
    card_number: str = field(repr=False)
    issue_on: dt.date
    bank_account: str = field(default="", repr=False)
    bank_name: str = ""

    @classmethod
    def of(cls, holder: CardHolder, *, bank_account: str, bank_name: str) -> FaceValues:
        """Take the texts from the holder the chip is built from, so that face and chip agree (R-18)."""
        return cls(holder.name, holder.number, holder.card_number, holder.issue_on, bank_account, bank_name)

    def texts(self, issuer: str) -> Mapping[str, str]:
        """Return the text of every key a template may place."""
        account = self.bank_account
        groups = (account[i : i + ACCOUNT_GROUP] for i in range(0, len(account), ACCOUNT_GROUP))
        return {
            "name": self.name,
            "number": self.number,
            "card_number": self.card_number,
            "issue_month": f"{self.issue_on.year}年{self.issue_on.month}月",
            "issuer": issuer,
            "bank_account": " ".join(groups),
            "bank_name": self.bank_name,
        }


@dataclass(frozen=True, slots=True)
class _Ground:
    """What all cards of a batch show, painted and coded."""

    image: Image.Image
    coded: CodedGround


class FaceRenderer:
    """Draw the faces of one template; keep one per process, as it holds painted ground and glyphs."""

    def __init__(self, template: FaceTemplate, fonts: Fonts, *, dpi: int = PRINT_DPI) -> None:
        self.template, self.dpi = template, dpi
        self._cache = GlyphCache(fonts)
        self._back = self._painted(template.back, preview=False)
        self._grounds: OrderedDict[tuple[str, ...], _Ground] = OrderedDict()
        values = template.back.values
        self._own = tuple(value for value in values if value.key not in SHARED_KEYS)
        self._shared = tuple(value for value in values if value.key in SHARED_KEYS)
        area = template.photo
        left, top = pixels(area.x, dpi), pixels(area.y, dpi)
        right, bottom = pixels(area.x + area.width, dpi), pixels(area.y + area.height, dpi)
        self._photo_at, self._photo_size = (left, top), (right - left, bottom - top)

    def render(self, values: FaceValues, photo_jpeg: bytes) -> bytes:
        """Return the back as JPEG with density; raise GlyphMissingError, FaceTextError, PhotoRefusedError."""
        texts = values.texts(self.template.issuer)
        photo, inks = self._photo(photo_jpeg), self._inks(self._own, texts)
        ground = self._ground(texts)
        width, height = ground.image.size
        photo_top = self._photo_at[1]
        top, bottom = block_rows(
            min([photo_top, *(ink.top for ink in inks)]),
            max([photo_top + photo.height, *(ink.bottom for ink in inks)]),
            height,
        )
        band = ground.image.crop((0, top, width, bottom))
        self._draw(band, photo, inks, top)
        return ground.coded.with_band(band, top)

    def render_png(self, values: FaceValues, photo_jpeg: bytes) -> bytes:
        """Return the back as PNG; raise as `render`."""
        return encode_png(self.compose(values, photo_jpeg), self.dpi)

    def render_front(self, *, preview: bool = False) -> bytes:
        """Return the front as JPEG; `preview` shows where the module of the blank sits."""
        return encode_jpeg(self.compose_front(preview=preview), self.dpi)

    def compose(self, values: FaceValues, photo_jpeg: bytes) -> Image.Image:
        """Return the back as an RGB picture."""
        texts = values.texts(self.template.issuer)
        image = self._ground(texts).image.copy()
        self._draw(image, self._photo(photo_jpeg), self._inks(self._own, texts), 0)
        return image

    def compose_front(self, *, preview: bool = False) -> Image.Image:
        """Return the front as an RGB picture."""
        image = self._painted(self.template.front, preview=preview)
        self._write(image, self.template.front.values, {"issuer": self.template.issuer})
        return image

    def place(self, values: FaceValues) -> list[Line]:
        """Return the lines of the back as they fit; empty texts take no place."""
        return self._lines(self.template.back.values, values.texts(self.template.issuer))

    def _lines(self, places: Sequence[Value], texts: Mapping[str, str]) -> list[Line]:
        lines: list[Line] = []
        for value in places:
            if texts.get(value.key):
                lines += place_value(texts[value.key], value, self._cache, self.dpi)
        return lines

    def _inks(self, places: Sequence[Value], texts: Mapping[str, str]) -> list[Ink]:
        return [ink for line in self._lines(places, texts) if (ink := self._cache.ink(line))]

    def _draw(self, image: Image.Image, photo: Image.Image, inks: Sequence[Ink], top: int) -> None:
        """Put what is the card's own onto the ground, of which `image` begins at pixel row `top`."""
        left, photo_top = self._photo_at
        image.paste(photo, (left, photo_top - top))
        for ink in inks:
            ink.paste(image, top)

    def _write(self, image: Image.Image, places: Sequence[Value], texts: Mapping[str, str]) -> None:
        for ink in self._inks(places, texts):
            ink.paste(image)

    def _ground(self, texts: Mapping[str, str]) -> _Ground:
        """Return the back with labels and the texts all cards of the batch share."""
        key = tuple(texts[name] for name in SHARED_KEYS)
        ground = self._grounds.get(key)
        if ground is None:
            image = self._back.copy()
            self._write(image, self._shared, texts)
            ground = self._grounds[key] = _Ground(image, CodedGround.of(image, self.dpi))
            if len(self._grounds) > _GROUNDS:
                self._grounds.popitem(last=False)
        else:
            self._grounds.move_to_end(key)
        return ground

    def _painted(self, side: Side, *, preview: bool) -> Image.Image:
        image = paint_ground(self.template, side, self.dpi, preview=preview)
        for label in side.labels:
            if ink := self._cache.ink(place_label(label, self.dpi)):
                ink.paste(image)
        return image

    def _photo(self, jpeg: bytes) -> Image.Image:
        pixel_rows = decode_photo(jpeg)
        height, width = pixel_rows.shape[:2]
        box = centre_crop(width, height, self._photo_size)
        return Image.fromarray(pixel_rows).resize(self._photo_size, PHOTO_FILTER, box)


def decode_photo(jpeg: bytes) -> np.ndarray:
    """Return height × width × 3 bytes; a strict decoder refuses what Pillow would print half (R-17)."""
    try:
        height, width, _, _ = simplejpeg.decode_jpeg_header(jpeg)
        if height * width <= MAX_PHOTO_PIXELS:
            pixel_rows: np.ndarray = simplejpeg.decode_jpeg(jpeg, "RGB", strict=True)
            return pixel_rows
    except ValueError:
        raise PhotoRefusedError("照片已损坏或不是 JPEG", got=f"{len(jpeg)} 字节") from None
    raise PhotoRefusedError(
        "照片像素过多", expected=f"不超过 {MAX_PHOTO_PIXELS} 像素", got=f"{width}×{height}"
    )


def centre_crop(width: int, height: int, target: tuple[int, int]) -> tuple[float, float, float, float]:
    """Return the largest centred part with the target's proportions, so that no face is stretched."""
    keep_width = min(float(width), height * target[0] / target[1])
    keep_height = min(float(height), width * target[1] / target[0])
    left, top = (width - keep_width) / 2, (height - keep_height) / 2
    return left, top, left + keep_width, top + keep_height


def encode_png(image: Image.Image, dpi: int) -> bytes:
    """Return an RGB picture as PNG with its density (ISO/IEC 15948), every row with the "up" filter."""
    width, height = image.size
    rows = np.frombuffer(image.tobytes(), dtype=np.uint8).reshape(height, width * 3)
    filtered = np.empty((height, width * 3 + 1), dtype=np.uint8)
    filtered[:, 0] = _UP_FILTER
    filtered[0, 1:] = rows[0]
    np.subtract(rows[1:], rows[:-1], out=filtered[1:, 1:])
    per_metre = round(dpi * 1000 / MM_PER_INCH)
    return b"".join(
        (
            _PNG_SIGNATURE,
            _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)),
            _chunk(b"pHYs", struct.pack(">IIB", per_metre, per_metre, 1)),
            _chunk(b"IDAT", isal_zlib.compress(filtered, 1)),
            _chunk(b"IEND", b""),
        )
    )


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(body, zlib.crc32(kind)))
