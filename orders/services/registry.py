"""Sender keys: who may send packages, and with which key at which time (R-8)."""

from __future__ import annotations

from datetime import datetime

from django.utils import timezone

from orders.models import SenderKey
from orders.services.packages import SENDERS
from portal.audit import unit_of_work
from portal.choices import OrganisationKind
from portal.core.crypto import Sm2PublicKey
from portal.core.errors import InputRefusedError
from portal.models import Organisation, User
from portal.roles import require
from portal.services.master_rows import check_values
from portal.workflow import locked


class SenderKeyRefusedError(InputRefusedError):
    """A public key that cannot be registered or revoked."""

    code = "sender_key_refused"


def add_sender_key(
    organisation: Organisation, *, public_key: str, valid_from: datetime, valid_until: datetime, actor: User
) -> SenderKey:
    """Register an SM2 public key (PEM or 128 hex digits) of a sender; older keys stay valid to their end."""
    require(actor, "orders.add_senderkey")
    if organisation.kind not in SENDERS:
        kinds = "、".join(str(OrganisationKind(kind).label) for kind in SENDERS)
        raise SenderKeyRefusedError("该单位不是数据包发送方", expected=kinds, got=str(organisation))
    key = read_public_key(public_key)
    row = SenderKey(
        organisation=organisation, public_key=key.to_pem(), valid_from=valid_from, valid_until=valid_until
    )
    if valid_until <= timezone.now():
        raise SenderKeyRefusedError("失效时间已过", expected="晚于现在")
    check_values(row)
    with unit_of_work(actor) as work:
        row.save()
        work.record("senderkey.added", row, sender=organisation.code, fingerprint=key.fingerprint())
    return row


def read_public_key(text: str) -> Sm2PublicKey:
    """Read a key as people have it: a PEM block or hex digits."""
    plain = text.strip()
    return Sm2PublicKey.from_pem(plain) if plain.startswith("-----") else Sm2PublicKey.from_hex(plain)


def revoke_sender_key(key: SenderKey, *, actor: User) -> SenderKey:
    """Refuse from now on every package signed with this key."""
    require(actor, "orders.revoke_senderkey", key)
    with unit_of_work(actor) as work:
        fresh = locked(key)
        if fresh.revoked_at is not None:
            raise SenderKeyRefusedError("该公钥已撤销")
        fresh.revoked_at = timezone.now()
        fresh.save(update_fields=["revoked_at"])
        work.record("senderkey.revoked", fresh, sender=fresh.organisation.code)
    return fresh
