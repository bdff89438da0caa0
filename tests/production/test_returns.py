"""The return file (回盘): every position of a batch, sealed for the provincial system (card.md §6, R-8)."""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
import zipfile
from dataclasses import dataclass
from typing import BinaryIO, cast

import pytest
from django.conf import settings
from django.core.files.storage import default_storage
from django.utils import timezone

from orders.models import SenderKey
from orders.personal import open_account, open_name, open_number, open_personal
from portal.choices import OrganisationKind, Role
from portal.core.crypto import Sm2PrivateKey, sm3
from portal.core.errors import ConflictError, PermissionRefusedError, TransitionRefusedError
from portal.core.seal import (
    SealRefusedError,
    check_payload,
    extract_payload,
    open_payload,
    read_envelope,
    unwrap_content_key,
    verify_envelope,
)
from portal.files import portal_key
from portal.models import AuditEntry, Organisation, Task, User
from production.choices import ItemStatus, Outcome
from production.models import Batch, BatchItem, Card, ReturnFile
from production.services.delivery import confirm_carton, dispatch_batch, sign_delivery
from production.services.packing import pack_batch
from production.services.returns import COLUMNS, NoRecipientKeyError, send_return_file
from tests.production.light import light_closed, light_dispatched, light_signed, sign
from tests.production.world import World, build_world, run_queued
from tests.refusals import actions, refused


@dataclass
class Office:
    """The programme with the province that waits for results and the bank that signs."""

    world: World
    clerk: User
    province: Organisation
    key: Sm2PrivateKey


def publish(organisation: Organisation, key: Sm2PrivateKey, *, days_ago: int = 1, days: int = 1) -> SenderKey:
    now = timezone.now()
    return SenderKey.objects.create(
        organisation=organisation, public_key=key.public.to_pem(),
        valid_from=now - dt.timedelta(days=days_ago), valid_until=now + dt.timedelta(days=days),
    )  # fmt: skip


@pytest.fixture
def office(db: None) -> Office:
    world = build_world()
    province = Organisation.objects.create(
        kind=OrganisationKind.PROVINCE, code="GD-CARD", name="省卡系统", short_name="省卡系统"
    )
    key = Sm2PrivateKey.generate()
    publish(province, key)
    clerk = User.objects.create(username="bank", organisation=world.bank, roles=[Role.BANK_CLERK])
    return Office(world, clerk, province, key)


def written(batch: Batch, office: Office) -> ReturnFile:
    send_return_file(batch, actor=office.world.clerk)
    run_queued()
    return ReturnFile.objects.get(batch=batch)


def opened(file: ReturnFile, key: Sm2PrivateKey) -> zipfile.ZipFile:
    """Do what the province does with the file: check the envelope, unwrap, open."""
    with cast("BinaryIO", default_storage.open(file.stored_name, "rb")) as stored:
        container = io.BytesIO(stored.read())
    envelope = read_envelope(container)
    verify_envelope(envelope, recipient="GD-CARD", sender_key=portal_key().public)
    check_payload(container, envelope)
    assert (envelope.sender, envelope.package_number) == (settings.PORTAL_CODE, f"HP-{file.batch.number}")
    payload = io.BytesIO()
    extract_payload(container, envelope, payload)
    plain = open_payload(payload, envelope, unwrap_content_key(envelope, key)).readall()
    return zipfile.ZipFile(io.BytesIO(plain))


def results(archive: zipfile.ZipFile) -> list[list[str]]:
    return list(csv.reader(io.StringIO(archive.read("results.csv").decode("utf-8-sig"))))


class TestContent:
    def test_the_province_opens_it_with_its_key_and_finds_every_card(self, office: Office) -> None:
        """card.md §6: fourteen columns a card, in the order of the batch."""
        batch = light_signed(office.world, 5, office.clerk)
        file = written(batch, office)
        archive = opened(file, office.key)
        assert json.loads(archive.read("manifest.json")) == {
            "format": "sscard-return", "version": 1, "batch": batch.number, "record_count": 5,
        }  # fmt: skip
        heading, *rows = results(archive)
        assert heading == list(COLUMNS)
        assert rows == [_made(item) for item in BatchItem.objects.order_by("sequence")]
        assert (file.card_count, file.failed_count) == (5, 0)
        with cast("BinaryIO", default_storage.open(file.stored_name, "rb")) as stored:
            assert bytes(file.digest) == sm3(stored.read())
        entry = AuditEntry.objects.get(action="batch.return_file_written")
        assert entry.details == {"cards": 5, "failed": 0, "recipient": "GD-CARD"}

    def test_failures_say_where_and_why(self, office: Office) -> None:
        """card.md §6: 失败环节 and 失败原因; R-20: refused by its data; R-23: not received by the bank."""
        world = office.world
        batch = light_closed(world, 6)
        items = list(BatchItem.objects.order_by("sequence"))
        for item, reason in ((items[1], "glyph_missing"), (items[4], "print_fault"), (items[5], "")):
            Card.objects.filter(item=item).update(outcome=Outcome.REJECTED, reason=reason)
            BatchItem.objects.filter(pk=item.pk).update(status=ItemStatus.CANCELLED)
        pack_batch(batch, actor=world.operator)
        run_queued()
        sent = dispatch_batch(batch, actor=world.operator)
        one, other = sent.deliveries.order_by("number")
        carton = one.cartons.get()
        confirm_carton(carton, counted=1, missing_positions=[1], note="缺一张", actor=office.clerk)
        sign_delivery(one, actor=office.clerk)
        sign(other, office.clerk)
        sent.refresh_from_db()
        file = written(sent, office)
        rows = results(opened(file, office.key))[1:]
        missing = Card.objects.get(carton=carton, carton_position=1).item_id
        failures = {items[place].pk: row[-2:] for place, row in enumerate(rows) if row[-1]}
        assert failures == {
            items[1].pk: ["数据准备", "字库缺字"],
            items[4].pk: ["制卡", "卡面打印缺陷"],
            items[5].pk: ["制卡", "已取消"],
            missing: ["交付", "签收时缺少或损坏"],
        }
        assert rows[1][6:8] == ["", ""]
        assert rows[1][11] == ""
        assert (file.card_count, file.failed_count) == (6, 4)

    def test_nobody_else_opens_it(self, office: Office) -> None:
        """R-45: sealed for the province alone; the portal itself keeps no key to it."""
        file = written(light_signed(office.world, 2, office.clerk), office)
        for key in (Sm2PrivateKey.generate(), portal_key()):
            with pytest.raises(SealRefusedError) as caught:
                opened(file, key)
            assert caught.value.code == "wrong_key"
        with cast("BinaryIO", default_storage.open(file.stored_name, "rb")) as stored:
            raw = stored.read()
        record = BatchItem.objects.select_related("record__package").earliest("pk").record
        assert record is not None
        for text in (open_number(record), open_account(record), open_name(record)):
            assert text.encode() not in raw


class TestRecipient:
    def test_the_province_comes_before_any_other_sender(self, office: Office) -> None:
        """R-8: the purchaser may send packages too; results go to the card system, by its newest key."""
        world = office.world
        purchaser = world.clerk.organisation
        assert purchaser is not None
        world.package.sender = purchaser
        world.package.save(update_fields=["sender"])
        publish(purchaser, Sm2PrivateKey.generate(), days_ago=0)
        newer = Sm2PrivateKey.generate()
        publish(office.province, newer, days_ago=0)
        revoked = publish(office.province, Sm2PrivateKey.generate(), days_ago=0)
        SenderKey.objects.filter(pk=revoked.pk).update(revoked_at=timezone.now())
        file = written(light_signed(world, 2, office.clerk), office)
        assert len(results(opened(file, newer))) == 3

    @pytest.mark.parametrize("change", ["revoked", "ended", "closed"])
    def test_without_a_valid_key_nothing_is_sent(self, office: Office, change: str) -> None:
        batch = light_signed(office.world, 2, office.clerk)
        now = timezone.now()
        if change == "revoked":
            SenderKey.objects.update(revoked_at=now)
        elif change == "ended":
            SenderKey.objects.update(valid_until=now)
        else:
            Organisation.objects.filter(pk=office.province.pk).update(is_active=False)
        with refused(NoRecipientKeyError) as caught:
            send_return_file(batch, actor=office.world.clerk)
        assert caught.value.code == "no_recipient_key"


class TestRequests:
    def test_a_second_request_is_refused_before_and_after_it_is_written(self, office: Office) -> None:
        """R-8: one batch, one return file."""
        batch = light_signed(office.world, 2, office.clerk)
        send_return_file(batch, actor=office.world.clerk)
        with refused(ConflictError):
            send_return_file(batch, actor=office.world.clerk)
        run_queued()
        Task.objects.all().delete()
        with refused(ConflictError):
            send_return_file(batch, actor=office.world.clerk)
        assert actions().count("batch.return_file_requested") == 1

    def test_not_before_the_bank_signed(self, office: Office) -> None:
        batch = light_dispatched(office.world, 2)
        with refused(TransitionRefusedError):
            send_return_file(batch, actor=office.world.clerk)

    @pytest.mark.parametrize("name", ["operator", "approver", "quality", "other_planner"])
    def test_others_do_not_send(self, office: Office, name: str) -> None:
        batch = light_signed(office.world, 2, office.clerk)
        with refused(PermissionRefusedError):
            send_return_file(batch, actor=getattr(office.world, name))


def _made(item: BatchItem) -> list[str]:
    record, card = item.record, Card.objects.select_related("carton").get(item=item, outcome=Outcome.GOOD)
    assert record is not None
    assert card.carton is not None
    part = open_personal(record)
    return [
        str(item.sequence), part.card_number, open_number(record), open_name(record),
        part.issue_on.strftime("%Y%m%d"), part.expires_on.strftime("%Y%m%d"), card.card_identifier, card.atr,
        "95588", open_account(record), open_account(record), f"{card.carton.number}/{card.carton_position}",
        "", "",
    ]  # fmt: skip
