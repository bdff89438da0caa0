"""One run's machine file: keys, chip, stripe and face of its cards, written sealed and exactly once."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from functools import lru_cache

from django.conf import settings

from orders.choices import CardKind, RecordStatus
from orders.personal import open_account, read_photo
from portal.audit import UnitOfWork, unit_of_work
from portal.bulk import update_from
from portal.core.clock import today
from portal.core.errors import InputRefusedError
from portal.core.glyphs import default_chain
from portal.core.keystore import KeyMissingError
from portal.files import keystore, write_sealed
from portal.models import User
from portal.workflow import locked, move
from production.choices import ItemStatus, Outcome, RunStatus
from production.files import line_cipher, machine_name
from production.line.made import SOURCE_REASONS
from production.models import Batch, BatchItem, Card, MachineFile
from production.personalization.chip import build_chip
from production.personalization.face import FaceRenderer, FaceValues
from production.personalization.face_template import load_template
from production.personalization.holder import CardHolder
from production.personalization.keys import card_factor, city_keys, derive_card_keys
from production.personalization.machinefile import MachineCard, MachineFileWriter, MachineHeader
from production.personalization.profile import CardProfile, load_profile
from production.personalization.stripe import StripeAccount, build_stripe
from production.selectors.holders import holder_of
from production.selectors.keys import master_key_name


class PhotoMissingError(InputRefusedError):
    """A card whose face is personalized has no photo."""

    code = "photo_missing"


@dataclass(slots=True)
class Written:
    """What became of a run: digest of its file, cards in it, cards its data did not allow, keys it used."""

    digest: bytes = b""
    item_ids: list[int] = field(default_factory=list)
    refused: list[tuple[Card, str]] = field(default_factory=list)
    master_versions: dict[str, int] = field(default_factory=dict)


def write_run(run: MachineFile, *, actor: User) -> None:
    """Write the machine file of a queued run and bring its rows up to date; nothing when that is done.

    A card that its data does not allow (a glyph missing, an account no stripe can hold) is rejected with
    the reason, its position cancelled and its record sent back; the others go on.
    """
    with unit_of_work(actor) as work:
        fresh = locked(run)
        if fresh.status != RunStatus.QUEUED:
            return
        started = time.perf_counter()
        written = _write(fresh)
        seconds = time.perf_counter() - started
        move(
            fresh,
            RunStatus.PREPARED,
            actor=actor,
            details={
                "cards": len(written.item_ids),
                "refused": len(written.refused),
                "digest": written.digest.hex(),
                "master_versions": written.master_versions,  # what verifies these cards years later
            },
            stored_name=machine_name(fresh),
            seconds_per_card=seconds / max(1, len(written.item_ids)),
            digest=written.digest,
            card_count=len(written.item_ids),
        )
        BatchItem.objects.filter(pk__in=written.item_ids).update(status=ItemStatus.PREPARED)
        _send_back(written.refused, work, actor)


def _write(run: MachineFile) -> Written:
    profile = load_profile(settings.CARD_PROFILE)
    cards = list(
        Card.objects.filter(machine_file=run, outcome=Outcome.PENDING)
        .select_related("item__record__package", "bank")
        .order_by("item__sequence")
    )
    masters = _card_masters(profile)
    keys = derive_card_keys(
        city_keys({full: key for full, (_, key) in masters.items()}, profile, settings.CITY_CODE),
        [card_factor(bytes.fromhex(card.atr)) for card in cards],
        profile.algorithm,
    )
    header = MachineHeader(run.batch.number, run.part, profile.code, settings.FACE_TEMPLATE, keys.names)
    written = Written(master_versions={full: version for full, (version, _) in masters.items()})
    with write_sealed(machine_name(run), run.batch.key_id) as sink:
        writer = MachineFileWriter(sink, header, line_cipher(run.batch))
        for card, block in zip(cards, keys.blocks(), strict=True):
            _add(writer, card, block, written)
        written.digest = writer.close()
    return written


def _add(writer: MachineFileWriter, card: Card, keys: bytes, written: Written) -> None:
    try:
        made = _build(card, keys, load_profile(settings.CARD_PROFILE))
    except InputRefusedError as exc:
        if exc.code not in SOURCE_REASONS:
            raise
        written.refused.append((card, exc.code))
    else:
        writer.add(made)
        written.item_ids.append(card.item_id)


def _build(card: Card, keys: bytes, profile: CardProfile) -> MachineCard:
    record = card.item.record
    assert record is not None
    holder, account = holder_of(record), open_account(record)
    chip = build_chip(holder, profile, bytes.fromhex(card.card_identifier))
    stripe = build_stripe(StripeAccount(account, holder.expires_on))
    # what a pre-made card does not have is exactly the personalized face.
    face = b"" if card.card_kind == CardKind.PREMADE else _face(card, holder, account)
    return MachineCard(card.item.sequence, card.serial, chip.to_bytes(), keys, stripe, face)


def check_makeable(item: BatchItem, batch: Batch) -> None:
    """Build what the card of a position would hold and show; raise what its data does not allow (R-20).

    For counters, which must not spend a blank on a person whose name cannot be printed.
    """
    card = Card(item=item, batch=batch, bank=batch.order.bank, card_kind=batch.card_kind)
    card.card_identifier = bytes(16).hex()
    _build(card, b"", load_profile(settings.CARD_PROFILE))


def _face(card: Card, holder: CardHolder, account: str) -> bytes:
    record = card.item.record
    assert record is not None
    photo = read_photo(record)
    if photo is None:
        raise PhotoMissingError("缺少照片")
    values = FaceValues.of(holder, bank_account=account, bank_name=card.bank.name)
    return renderer(settings.FACE_TEMPLATE).render(values, photo)


@lru_cache(maxsize=4)
def renderer(template: str) -> FaceRenderer:
    """Return this process's renderer of a template; it keeps ground and glyphs."""
    return FaceRenderer(load_template(template), default_chain())


def card_masters(profile: CardProfile) -> dict[str, bytes]:
    """Return the master key of each of the profile's keys, by full name.

    Outside production missing ones are drawn as test keys; in production KeyMissingError names the first.
    """
    return {full: key for full, (_, key) in _card_masters(profile).items()}


def _card_masters(profile: CardProfile) -> dict[str, tuple[int, bytes]]:
    """Return version and value of the newest valid master key of each of the profile's keys."""
    names = {key.full_name: master_key_name(key) for key in profile.keys}
    store = keystore()
    newest = store.newest_masters(names.values(), on=today())
    missing = [name for name in names.values() if name not in newest]
    if missing and settings.PRODUCTION:
        raise KeyMissingError("没有这个主密钥", where=missing[0])
    newest |= {master.name: master for master in store.generate_test_masters(missing)} if missing else {}
    versions = {full: newest[name].version for full, name in names.items()}
    return {full: (versions[full], store.master_key(name, versions[full])) for full, name in names.items()}


def _send_back(refused: list[tuple[Card, str]], work: UnitOfWork, actor: User) -> None:
    """Reject cards their data does not allow, cancel the positions, return the records (R-20)."""
    if not refused:
        return
    update_from(
        Card,
        ["id"],
        ["outcome", "reason"],
        [(card.pk, Outcome.REJECTED.value, code) for card, code in refused],
    )
    BatchItem.objects.filter(pk__in=[card.item_id for card, _ in refused]).update(status=ItemStatus.CANCELLED)
    for card, code in refused:
        assert card.item.record is not None
        move(card.item.record, RecordStatus.CANCELLED, actor=actor, problem_codes=[code])
        work.record("card.rejected", card, reason=code, position=card.item.sequence)
