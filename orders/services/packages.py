"""Receive sealed packages: every check before a byte of the payload is parsed (R-8, R-46)."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import BinaryIO

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import Q

from orders.choices import PackageStatus
from orders.models import Package, SenderKey
from orders.payloads import close_payload
from orders.services.refusals import PackageTooLargeError, ReplayedError, UnknownSenderError, safe_text
from orders.services.registry import CARD_SENDERS, fingerprint, hold_sender_key, verify_sender
from portal import files
from portal.audit import unit_of_work
from portal.bulk import next_ids
from portal.core.errors import InputRefusedError, PortalError
from portal.core.excerpt import excerpt
from portal.core.idnumbers import without_numbers
from portal.core.keystore import KeyMissingError, KeyPurpose
from portal.core.seal import Envelope, extract_payload, read_envelope, unwrap_content_key
from portal.models import Organisation, User
from portal.queue import schedule
from portal.roles import require
from portal.workflow import move

OPEN_PACKAGE = "orders.jobs.open_package"
NO_NUMBER = "—"
PAYLOAD = "payload.bin"


@dataclass(slots=True)
class _Arrival:
    """A file on its way in, and what is known of it so far."""

    file: BinaryIO
    file_name: str
    actor: User
    envelope: Envelope | None = None
    sender: Organisation | None = None


def receive_package(file: BinaryIO, *, file_name: str, actor: User) -> Package:
    """Take a sealed package in, or note why not and raise the refusal; opening it goes on in the background.

    Raises an InputRefusedError whose code is also the refused row's. A crash leaves nothing that can be read.
    """
    require(actor, "orders.receive_package")
    arrival = _Arrival(file, excerpt(without_numbers(file_name.rpartition("/")[2]), 100), actor)
    try:
        envelope, sender_key = _verified(arrival)
        return _kept(arrival, envelope, sender_key)
    except InputRefusedError as exc:
        _note_refusal(arrival, exc)
        raise


def refuse_package(package: Package, error: PortalError, *, actor: User | None) -> Package:
    """Refuse a package whose content turned out wrong; its keys and its file go with the commit."""
    refused = move(
        package,
        PackageStatus.REFUSED,
        actor=actor,
        refusal_code=error.code,
        refusal_text=safe_text(error),
        details={"code": error.code},
        result="refused",
    )
    transaction.on_commit(partial(discard_payload, refused), robust=True)
    return refused


def discard_payload(package: Package) -> None:
    """Destroy a package's keys and remove its file; doing it twice changes nothing (R-22)."""
    close_payload(package)
    for key_id in filter(None, (package.content_key_id, package.key_id)):
        with suppress(KeyMissingError):
            files.keystore().destroy(key_id)
    files.remove(package.stored_name)
    Package.objects.filter(pk=package.pk).update(stored_name="")


def _verified(arrival: _Arrival) -> tuple[Envelope, SenderKey]:
    """Check size, envelope, sender, recipient, signature and that the package is new, in this order."""
    size = arrival.file.seek(0, io.SEEK_END)
    if size > settings.MAX_PACKAGE_BYTES:
        raise PackageTooLargeError(
            "数据包过大", expected=f"不超过 {settings.MAX_PACKAGE_BYTES} 字节", got=f"{size} 字节"
        )
    envelope = arrival.envelope = read_envelope(arrival.file)
    sender = arrival.sender = Organisation.objects.filter(
        code=envelope.sender, kind__in=CARD_SENDERS, is_active=True
    ).first()
    if sender is None:
        raise UnknownSenderError("发送方未登记", where="sender", got=envelope.sender)
    sender_key = verify_sender(envelope, sender, recipient=settings.PORTAL_CODE)
    known = Package.objects.exclude(status=PackageStatus.REFUSED)
    if known.filter(
        Q(sender=sender, number=envelope.package_number) | Q(payload_digest=envelope.payload_digest)
    ):
        raise replayed(envelope)
    return envelope, sender_key


def replayed(envelope: Envelope) -> ReplayedError:
    """Return the refusal of a package whose number or content the sender has sent before."""
    return ReplayedError(
        "该数据包已接收过，不再重复接收", where=f"{envelope.sender} {envelope.package_number}"
    )


def _kept(arrival: _Arrival, envelope: Envelope, sender_key: SenderKey) -> Package:
    """Store keys, file and row; whatever was stored is undone when a later step fails."""
    content_key = unwrap_content_key(envelope, files.portal_key())
    (pk,) = next_ids(Package, 1)
    package = Package(
        pk=pk,
        number=envelope.package_number,
        sender=sender_key.organisation,
        sender_key=sender_key,
        file_name=arrival.file_name,
        payload_digest=envelope.payload_digest,
        payload_length=envelope.payload_length,
        chunk_size=envelope.chunk_size,
        payload_context=envelope.context(),
        stored_name=f"packages/{pk}/{PAYLOAD}",
        received_by=arrival.actor,
    )
    with undone_on_error() as undo:
        package.content_key_id = _kept_key(undo, f"package {pk} content", content_key)
        package.key_id = _kept_key(undo, f"package {pk} columns", None)
        undo.callback(files.remove, package.stored_name)
        with files.store(package.stored_name) as target:
            extract_payload(arrival.file, envelope, target)
        _insert(package, envelope, sender_key)
    return package


@contextmanager
def undone_on_error() -> Iterator[ExitStack]:
    """Collect what must be undone when the block fails: files and keys know no rollback."""
    with ExitStack() as undo:
        yield undo
        undo.pop_all()


def _kept_key(undo: ExitStack, label: str, key: bytes | None) -> str:
    store = files.keystore()
    key_id = store.put(KeyPurpose.PACKAGE, label, key) if key else store.create(KeyPurpose.PACKAGE, label)
    undo.callback(store.destroy, key_id)
    return key_id


def _insert(package: Package, envelope: Envelope, sender_key: SenderKey) -> None:
    """Write row, audit entry and first task together; the constraints decide between two who came at once."""
    try:
        with unit_of_work(package.received_by) as work:
            hold_sender_key(sender_key)
            package.save(force_insert=True)
            work.record(
                "package.received",
                package,
                sender=envelope.sender,
                size=envelope.sealed_payload_length,
                digest=envelope.payload_digest.hex(),
                key=fingerprint(sender_key),
            )
            schedule(OPEN_PACKAGE, package, actor=package.received_by)
    except IntegrityError as exc:
        if not str(exc.__cause__).count("package_no_replay"):
            raise
        raise replayed(envelope) from exc


def _note_refusal(arrival: _Arrival, error: InputRefusedError) -> None:
    """Keep the refusal as a row and an event, in a transaction of its own."""
    with unit_of_work(arrival.actor) as work:
        row = Package.objects.create(
            number=arrival.envelope.package_number if arrival.envelope else NO_NUMBER,
            sender=arrival.sender,
            file_name=arrival.file_name,
            status=PackageStatus.REFUSED,
            refusal_code=error.code,
            refusal_text=safe_text(error),
            received_by=arrival.actor,
        )
        work.record("package.refused", row, result="refused", code=error.code)
