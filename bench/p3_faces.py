"""P3: the back of a card, 1011 × 638 pixels at 300 DPI, with photo and Chinese text."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Iterator
from functools import partial

from PIL import Image

from bench.compare import Comparison, Target, Variant
from portal.core.glyphs import default_chain
from portal.samples.banks import BANKS
from portal.samples.people import people
from portal.samples.photos import PhotoBook
from production.personalization.face import FaceRenderer, FaceValues
from production.personalization.face_template import load_template
from tests.production.personalization import naive_face

FACES = 100
NAIVE_FACES = 10
ISSUED_ON = dt.date(2026, 11, 23)
NAIVE, COMPOSED = "Pillow, each card anew", "the picture alone, not encoded"

Card = tuple[FaceValues, bytes]
Encode = Callable[[Image.Image], bytes]


def comparisons() -> Iterator[Comparison]:
    """Compare our faces with the naive ones the tests hold equal to them pixel by pixel."""
    template, fonts, cards = load_template("plain"), default_chain(), list(_cards())
    renderer, ground = FaceRenderer(template, fonts), naive_face.ground_file(template)

    def faces(render: Callable[[FaceValues, bytes], object]) -> int:
        for values, photo in cards:
            render(values, photo)
        return len(cards)

    def naive(encode: Encode) -> int:
        for values, photo in cards[:NAIVE_FACES]:
            texts = values.texts(template.issuer)
            encode(naive_face.draw(template, ground, fonts.fonts[0], texts, photo))
        return NAIVE_FACES

    limit = Variant("limit", COMPOSED, partial(faces, renderer.compose))
    kinds = (
        ("JPEG", renderer.render, naive_face.jpeg, 6, 200),
        ("PNG", renderer.render_png, naive_face.png, 20, 100),
    )
    for kind, render, encode, times, rate in kinds:
        variants = [
            Variant("ours", f"FaceRenderer, {kind}", partial(faces, render)),
            Variant("peer", NAIVE, partial(naive, encode)),
            limit,
        ]
        targets = [Target(NAIVE, times), Target("", rate)]
        yield Comparison("P3", f"faces as {kind}", "faces", variants, targets, clock=time.process_time)


def _cards() -> Iterator[Card]:
    """Yield as many people of one batch, as a run holds them: one bank, one month, twenty portraits."""
    photos = PhotoBook(1, 20)
    for person in people(FACES, 1, BANKS, issue_date=ISSUED_ON):
        values = FaceValues(
            name=person.name,
            number=person.number,
            card_number=person.card_number,
            issue_on=ISSUED_ON,
            bank_account=f"622202{person.index:013d}",
            bank_name="佛山农商银行",
        )
        yield values, photos.photo(person.index)
