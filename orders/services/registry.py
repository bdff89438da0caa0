"""The registry of public keys: who may send packages, with which key, at which time (R-8).

Parties rotate by registering the next key before the old one ends; while both are valid either counts.
What goes to a party is sealed to its newest valid key.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from django.utils import timezone

from orders.choices import KeyUse
from orders.models import SenderKey
from orders.services.refusals import SenderKeyError
from portal.audit import unit_of_work
from portal.choices import OrganisationKind
from portal.core.crypto import Sm2PublicKey
from portal.core.errors import InputRefusedError
from portal.core.seal import Envelope, verify_envelope
from portal.core.seal_proof import proves_possession
from portal.core.seal_refusals import BadSignatureError
from portal.files import portal_key
from portal.models import Organisation, User
from portal.roles import require
from portal.services.master_rows import check_values
from portal.workflow import locked

CARD_SENDERS = (OrganisationKind.PROVINCE, OrganisationKind.PURCHASER)
"""Who sends packages of card-making data; banks send packages of account files."""
SENDERS = (*CARD_SENDERS, OrganisationKind.BANK)
CLOCK_SKEW = timedelta(minutes=10)
# The example printed in GB/T 32918.5 and GM/T 0003.5: everybody knows its private half.
_PUBLISHED_EXAMPLE = (
    "09f9df311e5421a150dd7d161e4bc5c672179fad1833fc076bb08ff356f35020"
    "ccea490ce26775a52dc6ea718cc1aa600aed05fbf35e084a6632f6072da9ad13"
)


class SenderKeyRefusedError(InputRefusedError):
    """A public key that cannot be registered or revoked."""

    code = "sender_key_refused"


class ProofRefusedError(SenderKeyRefusedError):
    """Nothing shows that the party holds the private half of the key."""

    code = "sender_key_unproven"


class KeyTakenError(SenderKeyRefusedError):
    """The key stands in the registry already, with whatever owner or fate."""

    code = "sender_key_taken"


def add_sender_key(
    organisation: Organisation,
    *,
    public_key: str,
    proof: str,
    valid_from: datetime,
    valid_until: datetime,
    actor: User,
    use: str = KeyUse.BOTH,
) -> SenderKey:
    """Register a party's SM2 public key (PEM or 128 hex digits); older keys stay valid to their end.

    `proof` is what `seal_package.py --prove` wrote: a signature of the same key over itself and the party.
    """
    require(actor, "orders.add_senderkey")
    if organisation.kind not in SENDERS:
        kinds = "、".join(str(OrganisationKind(kind).label) for kind in SENDERS)
        raise SenderKeyRefusedError("该单位不是数据包发送方", expected=kinds, got=str(organisation))
    if valid_until <= timezone.now():
        raise SenderKeyRefusedError("失效时间已过", expected="晚于现在")
    key = read_public_key(public_key)
    _check_new(key)
    if not proves_possession(organisation.code, key, proof):
        raise ProofRefusedError(
            "持有证明无效",
            expected=f"{organisation.code} 用该公钥对应的私钥所作的签名",
            got=key.fingerprint(),
        )
    row = SenderKey(
        organisation=organisation,
        public_key=key.to_pem(),
        use=use,
        valid_from=valid_from,
        valid_until=valid_until,
        added_by=actor,
    )
    check_values(row)
    with unit_of_work(actor) as work:
        row.save()
        work.record(
            "senderkey.added", row, sender=organisation.code, fingerprint=key.fingerprint(), use=row.use
        )
    return row


def _check_new(key: Sm2PublicKey) -> None:
    """Refuse keys everybody knows, our own, and those registered before: revoking is for ever."""
    if key.hex() == _PUBLISHED_EXAMPLE:
        raise SenderKeyRefusedError("这是标准文本公布的示例公钥，私钥人人皆知", got=key.fingerprint())
    known = SenderKey.objects.select_related("organisation").filter(public_key=key.to_pem()).first()
    if known is not None or key == portal_key().public:
        owner = str(known.organisation) if known else "本平台"
        raise KeyTakenError("该公钥已登记过，请使用新的密钥对", got=f"{key.fingerprint()}（{owner}）")


def read_public_key(text: str) -> Sm2PublicKey:
    """Read a key as people have it: a PEM block or hex digits."""
    plain = text.strip()
    return Sm2PublicKey.from_pem(plain) if plain.startswith("-----") else Sm2PublicKey.from_hex(plain)


def fingerprint(key: SenderKey) -> str:
    """Return what people compare over the telephone and the audit keeps."""
    return read_public_key(key.public_key).fingerprint()


def revoke_sender_key(key: SenderKey, *, actor: User) -> SenderKey:
    """Refuse from now on every package signed with this key, those half received too."""
    require(actor, "orders.revoke_senderkey", key)
    with unit_of_work(actor) as work:
        fresh = locked(key)
        if fresh.revoked_at is not None:
            raise SenderKeyRefusedError("该公钥已撤销")
        fresh.revoked_at, fresh.revoked_by = timezone.now(), actor
        fresh.save(update_fields=["revoked_at", "revoked_by"])
        work.record(
            "senderkey.revoked",
            fresh,
            sender=fresh.organisation.code,
            fingerprint=fingerprint(fresh),
        )
    return fresh


def verify_sender(envelope: Envelope, sender: Organisation, *, recipient: str) -> SenderKey:
    """Return the sender's key that signed this envelope for `recipient`: valid today and when it was made."""
    keys = _signing_keys(sender, envelope.created_at)
    if not keys:
        raise SenderKeyError(
            "发送方没有在有效期内的公钥",
            where=envelope.sender,
            expected=f"在 {timezone.localtime(envelope.created_at):%Y-%m-%d %H:%M} 与今日均有效",
        )
    for key in keys[:-1]:
        try:
            verify_envelope(envelope, recipient=recipient, sender_key=read_public_key(key.public_key))
        except BadSignatureError:
            continue
        return key
    verify_envelope(envelope, recipient=recipient, sender_key=read_public_key(keys[-1].public_key))
    return keys[-1]


def _signing_keys(sender: Organisation, created_at: datetime) -> list[SenderKey]:
    now = timezone.now()
    if created_at > now + CLOCK_SKEW:
        return []
    rows = SenderKey.objects.filter(
        organisation=sender,
        use__in=(KeyUse.BOTH, KeyUse.SIGNATURE),
        revoked_at__isnull=True,
        valid_from__lte=created_at,
        valid_until__gt=now,
    )
    return list(rows.order_by("-valid_from", "-pk"))


def hold_sender_key(key: SenderKey) -> None:
    """Hold a key against revocation to the end of the transaction; refuse if it was revoked meanwhile."""
    fresh = SenderKey.objects.select_for_update(no_key=True).filter(pk=key.pk, revoked_at__isnull=True)
    if not fresh.exists():
        raise SenderKeyError("发送方的公钥已被撤销", where=key.organisation.code)
