"""A counter's card with the bank's payment application, and cards of the older version (R-16, R-24)."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from portal.files import keystore
from production.models import Card
from production.personalization.blank import chip_serial
from production.personalization.payment_data import (
    PaymentDataError,
    payment_key_names,
    sample_bank_groups,
)
from production.selectors.keys import master_key_names
from production.selectors.payment import bank_groups
from stations.choices import IssuanceStatus
from stations.services import card_jobs
from stations.services.card_jobs import TransportKeyMissingError, card_job
from stations.transport.virtual import VirtualTransport
from stations.virtual.card import VirtualCard, blank_card
from tests.refusals import refused
from tests.stations.counter import Counter, make_counter

pytestmark = pytest.mark.django_db


@pytest.fixture
def counter() -> Counter:
    return make_counter()


def supply(folder: Path, settings: Any, bank: str, text: str | None = None) -> None:
    """Have the bank supply its payment data."""
    (folder / f"{bank}.json").write_text(text or sample_bank_groups(bank), encoding="utf-8")
    settings.PAYMENT_DIR = str(folder)


def payment_record(card: VirtualCard) -> bytes:
    """Read the first record of the payment application, as a terminal does."""
    transport = VirtualTransport(card)
    transport.connect()
    transport.transmit(bytes.fromhex("00A4040008A000000333010101"))
    return transport.transmit(bytes.fromhex("00B2010C00")).data


def test_a_card_carries_its_account_when_the_bank_supplied_data(
    counter: Counter, tmp_path: Path, settings: Any
) -> None:
    """R-16: card number of the payment application = bank account of the record."""
    bank = counter.world.bank.code
    supply(tmp_path, settings, bank)
    serial, agent = counter.blank(), counter.agent()
    issuance = counter.start(serial=serial)
    card = agent.insert(serial)
    assert agent.make(issuance)["result"] == "printing"
    job = card_job(issuance)
    assert job.payment is not None
    record = payment_record(card)
    assert record == job.payment.groups["0101"]
    assert set(payment_key_names(bank).values()) <= set(master_key_names())
    held = {master.name for master in keystore().masters()}
    assert {f"pay-{bank}-{role}" for role in ("ac", "mac", "enc")} <= held


def test_a_bank_without_data_has_cards_without_a_payment_application(
    counter: Counter, tmp_path: Path, settings: Any
) -> None:
    supply(tmp_path, settings, "OTHER")
    serial, agent = counter.blank(), counter.agent()
    issuance = counter.start(serial=serial)
    card = agent.insert(serial)
    assert agent.make(issuance)["result"] == "printing"
    assert card_job(issuance).payment is None
    assert payment_record(card) == b""


def test_a_blank_with_another_banks_keys_is_rejected_untouched(
    counter: Counter, tmp_path: Path, settings: Any
) -> None:
    supply(tmp_path, settings, counter.world.bank.code)
    serial, agent = counter.blank(), counter.agent()
    issuance = counter.start(serial=serial)
    agent.card = blank_card(chip_serial(serial), kmc=bytes(16))
    answer = agent.make(issuance)
    assert (answer["result"], answer["code"]) == ("rejected", "card_payment_key")
    issuance.refresh_from_db()
    assert (issuance.status, Card.objects.get().outcome) == (IssuanceStatus.REJECTED, "rejected")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"{", "JSON"),
        (b"\xff\xfe", "读不出来"),
        (sample_bank_groups("OTHER").encode(), "不是这家银行的"),
        (None, "目录不存在"),
    ],
)
def test_wrong_payment_data_is_told_before_a_blank_is_taken(
    counter: Counter, tmp_path: Path, settings: Any, content: bytes | None, words: str
) -> None:
    """R-16, R-21: the counter hears it when it starts; nothing is ordered, no blank leaves the drawer."""
    folder = tmp_path / "payment"
    settings.PAYMENT_DIR = str(folder)
    if content is not None:
        folder.mkdir()
        (folder / f"{counter.world.bank.code}.json").write_bytes(content)
    record, serial = counter.record(), counter.blank()
    with refused(PaymentDataError) as raised:
        counter.start(record, serial)
    assert words in str(raised.value)
    assert counter.blank() == serial


def test_a_lot_without_its_transport_key_starts_nothing_in_production(
    counter: Counter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R-25: blanks with the makers' public key make no real card, and are not spent for finding that out."""
    record, serial = counter.record(), counter.blank()
    monkeypatch.setattr(card_jobs, "settings", SimpleNamespace(PRODUCTION=True))
    with refused(TransportKeyMissingError):
        counter.start(record, serial)
    assert counter.blank() == serial


def test_data_of_another_bank_or_out_of_the_folder_is_not_taken(tmp_path: Path, settings: Any) -> None:
    supply(tmp_path, settings, "B01", sample_bank_groups("B02"))
    with pytest.raises(PaymentDataError, match="不是这家银行的"):
        bank_groups("B01")
    (tmp_path / "outside.json").write_text(sample_bank_groups("B01"), encoding="utf-8")
    inner = tmp_path / "inner"
    inner.mkdir()
    settings.PAYMENT_DIR = str(inner)
    assert bank_groups("../outside") is None
    settings.PAYMENT_DIR = ""
    assert bank_groups("B01") is None
    assert not [name for name in master_key_names() if name.startswith("pay-")]


def test_cards_of_the_older_version_are_made_by_one_setting(counter: Counter, settings: Any) -> None:
    """CARD_PROFILE: SSCC 2.0, 3DES; a card goes on with the version it was prepared for."""
    settings.CARD_PROFILE = "sssc-2.0-3des"
    serial, agent = counter.blank(), counter.agent()
    issuance = counter.start(serial=serial)
    settings.CARD_PROFILE = "sssc-3.0-sm4"
    agent.card = blank_card(chip_serial(serial), profile="sssc-2.0-3des")
    assert agent.make(issuance)["result"] == "printing"
    assert card_job(issuance).profile.code == "sssc-2.0-3des"


def test_a_card_of_the_other_version_is_refused(counter: Counter) -> None:
    serial, agent = counter.blank(), counter.agent()
    issuance = counter.start(serial=serial)
    agent.card = blank_card(chip_serial(serial), profile="sssc-2.0-3des")
    answer = agent.make(issuance)
    assert (answer["result"], answer["code"]) == ("rejected", "card_wrong_algorithm")
