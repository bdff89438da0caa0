"""Chip, face and record of a card made at a counter say the same, proven without reading a picture (R-18).

What the chip gave back is decoded, the face is drawn again from it and compared with the face that was sent
to the printer pixel by pixel, and the lines that were placed on it are compared with the record.
"""

from __future__ import annotations

import pytest
from django.conf import settings

from orders.models import CardholderRecord
from orders.personal import open_account, open_name, open_number, open_personal, read_photo
from production.models import Card, MachineFile
from production.personalization.chip import ChipContent, ChipValues, parse_chip
from production.personalization.face import FaceValues
from production.personalization.profile import load_profile
from production.selectors.batches import line_report
from production.services.machine_files import renderer
from stations.services.issuance import confirm_look
from tests.stations.counter import Counter, make_counter

pytestmark = pytest.mark.django_db


@pytest.fixture
def card() -> tuple[Card, bytes]:
    """Make one card; return it with the face as the agent got it."""
    counter: Counter = make_counter()
    record, faces = counter.record(), []
    issuance = counter.start(record)
    agent = counter.agent()
    agent.insert(issuance.card.serial)
    agent.make(issuance)
    faces.append(agent.faces(issuance)["back"])
    agent.print(issuance, "submitted", "completed")
    issuance.refresh_from_db()
    confirm_look(issuance, good=True, actor=counter.operator)
    return Card.objects.select_related("item__record__package", "bank").get(), faces[0]


def read_back(card: Card) -> ChipValues:
    """Return what the chip held at the end, from the sealed report."""
    (report,) = line_report(MachineFile.objects.select_related("batch").get())
    assert report.serial == card.serial
    content = ChipContent.from_bytes(report.readback)
    return parse_chip(content.files, load_profile(settings.CARD_PROFILE))


def record_of(card: Card) -> CardholderRecord:
    record = card.item.record
    assert record is not None
    return record


def test_the_chip_holds_the_record(card: tuple[Card, bytes]) -> None:
    made_card, _ = card
    record, chip = record_of(made_card), read_back(made_card).by_source
    personal = open_personal(record)
    assert chip["name"] == open_name(record)
    assert chip["number"] == open_number(record)
    assert chip["card_number"] == personal.card_number
    assert chip["issue_on"] == f"{personal.issue_on:%Y%m%d}"
    assert chip["expires_on"] == f"{personal.expires_on:%Y%m%d}"
    assert chip["card_identifier"] == made_card.card_identifier


def test_the_face_that_was_sent_is_the_face_of_what_the_chip_gave_back(card: tuple[Card, bytes]) -> None:
    made_card, sent = card
    record, chip = record_of(made_card), read_back(made_card).by_source
    values = FaceValues(
        chip["name"], chip["number"], chip["card_number"], open_personal(record).issue_on,
        open_account(record), made_card.bank.name,
    )  # fmt: skip
    drawer, photo = renderer(settings.FACE_TEMPLATE), read_photo(record)
    assert photo is not None
    assert drawer.render(values, photo) == sent
    other = FaceValues(
        "王不是", chip["number"], chip["card_number"], values.issue_on, values.bank_account, values.bank_name
    )
    assert drawer.render(other, photo) != sent


def test_the_lines_placed_on_the_face_are_the_records(card: tuple[Card, bytes]) -> None:
    made_card, _ = card
    record, chip = record_of(made_card), read_back(made_card).by_source
    personal, account = open_personal(record), open_account(record)
    values = FaceValues(
        chip["name"], chip["number"], chip["card_number"], personal.issue_on, account, made_card.bank.name
    )
    drawn = renderer(settings.FACE_TEMPLATE).place(values)
    lines = "".join(line.text for line in drawn).replace(" ", "")
    for text in (open_name(record), open_number(record), personal.card_number, account, made_card.bank.name):
        assert text.replace(" ", "") in lines
    assert f"{personal.issue_on.year}年{personal.issue_on.month}月" in lines
