"""Receive the banks' account files as sealed packages: every check before a byte is parsed (R-8, R-46).

The door is that of card packages: envelope, sender's key, recipient, signature, replay, digest. Then every
chunk is opened once, and only then the archive inside is looked at. What stays are the account files, each
sealed under a key of its own; the package's content key is never stored.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO, cast

from django.conf import settings
from django.db import IntegrityError
from django.db.models import Q

from orders.choices import AccountPackageStatus
from orders.models import AccountPackage, Package, SenderKey
from orders.services.accounts import Upload, bank_profile, plain_name, register_upload, store_upload
from orders.services.packages import NO_NUMBER, receive_package, replayed, undone_on_error
from orders.services.refusals import PackageTooLargeError, UnknownSenderError, safe_text
from orders.services.registry import fingerprint, hold_sender_key, verify_sender
from portal import files
from portal.audit import record_alone, unit_of_work
from portal.choices import OrganisationKind
from portal.core.account_parcel import Parcel, read_parcel
from portal.core.errors import InputRefusedError, PortalError
from portal.core.excerpt import excerpt
from portal.core.seal import (
    Envelope,
    SealedReader,
    check_payload,
    open_container,
    read_envelope,
    unwrap_content_key,
)
from portal.models import Organisation, User
from portal.roles import require

FRAME_BYTES = 1 << 20
"""What envelope, chunk tags and ZIP may add to the account files of a package."""


@dataclass(slots=True)
class _Arrival:
    """A package on its way in, and what is known of it so far."""

    file: BinaryIO
    file_name: str
    actor: User
    envelope: Envelope | None = None
    bank: Organisation | None = None


def receive_sealed(file: BinaryIO, *, file_name: str, actor: User) -> Package | AccountPackage:
    """Take in whatever a registered party sealed: banks send account files, all others card data."""
    require(actor, "orders.receive_package")
    if is_from_bank(file):
        return receive_accounts(file, file_name=file_name, actor=actor)
    return receive_package(file, file_name=file_name, actor=actor)


def is_from_bank(file: BinaryIO) -> bool:
    """Say whether an envelope names a bank; what cannot be read is left to the door to refuse."""
    try:
        sender = read_envelope(file).sender
    except InputRefusedError:
        return False
    return Organisation.objects.filter(code=sender, kind=OrganisationKind.BANK).exists()


def receive_accounts(file: BinaryIO, *, file_name: str, actor: User) -> AccountPackage:
    """Take a bank's sealed account files in, all of them or none, and schedule their dry runs.

    The bank's own clerk may hand it in, or whoever may receive packages: the seal says whose it is. Raises
    the refusal, whose code is also the refused row's.
    """
    permission = _permission(actor)
    require(actor, permission)
    arrival = _Arrival(file, excerpt(plain_name(file_name), 100), actor)
    try:
        envelope, sender_key = _verified(arrival, permission)
        with _opened(arrival.file, envelope) as (parcel, payload):
            return _kept(arrival, envelope, sender_key, parcel, payload)
    except PortalError as exc:
        _note_refusal(arrival, exc)
        raise


def _permission(actor: User) -> str:
    receives = "orders.receive_package"
    return receives if actor.is_system or actor.has_perm(receives) else "orders.upload_accounts"


def _verified(arrival: _Arrival, permission: str) -> tuple[Envelope, SenderKey]:
    """Check size, envelope, bank, sender's key, recipient, signature, replay and digest, in this order."""
    size = arrival.file.seek(0, io.SEEK_END)
    limit = settings.MAX_ACCOUNT_FILE_BYTES + FRAME_BYTES
    if size > limit:
        raise PackageTooLargeError("数据包过大", expected=f"不超过 {limit} 字节", got=f"{size} 字节")
    envelope = arrival.envelope = read_envelope(arrival.file)
    bank = Organisation.objects.filter(code=envelope.sender, kind=OrganisationKind.BANK).first()
    if bank is None:
        raise UnknownSenderError("发送方未登记", where="sender", got=envelope.sender)
    require(arrival.actor, permission, bank)
    arrival.bank = bank
    bank_profile(bank)
    sender_key = verify_sender(envelope, bank, recipient=settings.PORTAL_CODE)
    known = AccountPackage.objects.filter(status=AccountPackageStatus.RECEIVED)
    same = Q(bank=bank, number=envelope.package_number) | Q(payload_digest=envelope.payload_digest)
    if known.filter(same).exists():
        raise replayed(envelope)
    check_payload(arrival.file, envelope)
    return envelope, sender_key


@contextmanager
def _opened(file: BinaryIO, envelope: Envelope) -> Iterator[tuple[Parcel, BinaryIO]]:
    """Open every chunk once, then the archive inside; nothing of it is written anywhere."""
    content_key = unwrap_content_key(envelope, files.portal_key())
    with open_container(file, envelope, content_key) as payload:
        payload.check()
        yield _parcel(envelope, payload), cast("BinaryIO", payload)


def _parcel(envelope: Envelope, payload: SealedReader) -> Parcel:
    return read_parcel(
        cast("BinaryIO", payload),
        sender=envelope.sender,
        package_number=envelope.package_number,
        max_size=settings.MAX_ACCOUNT_FILE_BYTES,
    )


def _kept(
    arrival: _Arrival, envelope: Envelope, sender_key: SenderKey, parcel: Parcel, payload: BinaryIO
) -> AccountPackage:
    """Store each file sealed anew, then the rows in one transaction; a failure undoes all of it."""
    bank = sender_key.organisation
    with undone_on_error() as undo:
        uploads = []
        for entry in parcel.entries:
            blocks = parcel.blocks(payload, entry, settings.MAX_ACCOUNT_FILE_BYTES)
            uploads.append(store_upload(undo, bank, plain_name(entry.name), blocks))
        try:
            return _registered(arrival, envelope, sender_key, uploads)
        except IntegrityError as exc:
            if "account_package_no_replay" not in str(exc.__cause__):
                raise
            raise replayed(envelope) from exc


def _registered(
    arrival: _Arrival, envelope: Envelope, sender_key: SenderKey, uploads: list[Upload]
) -> AccountPackage:
    """Write package, files, audit entries and first tasks together."""
    bank = sender_key.organisation
    with unit_of_work(arrival.actor) as work:
        hold_sender_key(sender_key)
        package: AccountPackage = AccountPackage.objects.create(
            bank=bank,
            number=envelope.package_number,
            sender_key=sender_key,
            file_name=arrival.file_name,
            status=AccountPackageStatus.RECEIVED,
            payload_digest=envelope.payload_digest,
            received_by=arrival.actor,
        )
        work.record(
            "account_package.received",
            package,
            bank=bank.code,
            files=len(uploads),
            digest=envelope.payload_digest.hex(),
            key=fingerprint(sender_key),
        )
        for upload in uploads:
            register_upload(upload, bank, actor=arrival.actor, package=package)
    return package


def _note_refusal(arrival: _Arrival, error: PortalError) -> None:
    """Keep the refusal as the bank's row and an event; without a bank the event alone."""
    if arrival.bank is None:
        record_alone("account_package.refused", actor=arrival.actor, subject=None, code=error.code)
        return
    with unit_of_work(arrival.actor) as work:
        row = AccountPackage.objects.create(
            bank=arrival.bank,
            number=arrival.envelope.package_number if arrival.envelope else NO_NUMBER,
            file_name=arrival.file_name,
            status=AccountPackageStatus.REFUSED,
            refusal_code=error.code,
            refusal_text=safe_text(error),
            received_by=arrival.actor,
        )
        work.record("account_package.refused", row, result="refused", code=error.code)
