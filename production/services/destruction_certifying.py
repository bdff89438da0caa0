"""What a destruction certificate says, and signing it once everything it names is gone (R-22)."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.files.storage import default_storage
from django.db.models import QuerySet
from django.utils import timezone

from orders.services.destruction import Destroyed
from portal.audit import unit_of_work
from portal.core.crypto import sm3_hasher
from portal.core.errors import PortalError
from portal.files import keystore, portal_key
from portal.models import PendingRemoval, User
from portal.queue import schedule
from portal.removal import remove_pending
from portal.workflow import locked
from production import certificate
from production.models import BatchItem, DestructionCertificate

CERTIFY = "production.jobs_destruction.certify"


class NotGoneError(PortalError):
    """Something that the certificate would call destroyed is still there."""

    code = "not_gone"


def common_facts(actor: User) -> dict[str, Any]:
    """Return what every certificate says: who, when, and whose key signs it."""
    return {
        "destroyed_by": actor.username,
        "destroyed_at": f"{timezone.localtime():%Y-%m-%d %H:%M:%S}",
        "issuer": settings.PORTAL_CODE,
        "key_fingerprint": portal_key().public.fingerprint(),
    }


def digest_of(indexes: QuerySet[Any, Any]) -> str:
    """Return the SM3 digest over blind indexes in rising order, as hex."""
    hasher = sm3_hasher()
    for index in indexes.iterator(chunk_size=2000):
        hasher.update(bytes(index))
    return hasher.finalize().hex()


def destroyed_facts(facts: dict[str, Any], destroyed: Destroyed) -> dict[str, Any]:
    """Return the part of a certificate that counts and names what went."""
    keys = sorted({*destroyed.keys, *destroyed.later_keys})
    files = sorted({*destroyed.files, *destroyed.later_files})
    lines = [
        ["销毁人员摘要（SM3）", facts["people_digest"]],
        ["持卡人记录", f"{destroyed.record_count:,} 条（含历次版本共 {destroyed.version_count:,} 条）"],
        ["银行账号行", f"{destroyed.account_count:,} 条"],
        ["密封文件", f"{len(files):,} 个"],
        ["密钥", f"{len(keys):,} 个"],
    ]
    return {
        "record_count": destroyed.record_count,
        "version_count": destroyed.version_count,
        "account_count": destroyed.account_count,
        "facts": lines,
        "keys": keys,
        "files": files,
        "packages": destroyed.packages,
        "closed_packages": destroyed.closed_packages,
        "account_files": destroyed.account_files,
    }


def certify_when_gone(paper: DestructionCertificate, destroyed: Destroyed, *, actor: User) -> None:
    """Schedule the signature, unless keys go later: then `advance_certificates` does, when they are gone."""
    if not destroyed.later_keys:
        schedule(CERTIFY, paper, actor=actor)


def advance_certificates() -> int:
    """Schedule the signature of every certificate whose last key is gone by now; return how many."""
    unsigned = list(DestructionCertificate.objects.filter(signature=b"").order_by("pk"))
    if unsigned:
        remove_pending()
    return sum(bool(schedule(CERTIFY, paper, actor=None)) for paper in unsigned if not _left(paper))


def certify(paper: DestructionCertificate, *, actor: User | None) -> DestructionCertificate:
    """Check that everything named is gone and sign the certificate; raise NotGoneError otherwise.

    Signs once: a second call returns what was signed.
    """
    remove_pending()
    with unit_of_work(actor) as work:
        found = locked(paper)
        if found.signature:
            return found
        if left := _left(found):
            raise NotGoneError("仍有未清除的数据，不能出具证明", where=found.number, got=f"{left} 项")
        found.signature = certificate.sign(found.content, portal_key())
        found.save(update_fields=["signature"])
        work.record(
            "destructioncertificate.signed",
            found,
            people=found.content["people_digest"],
            digest=certificate.digest(found.content),
        )
    return found


def _left(paper: DestructionCertificate) -> int:
    """Count what the certificate names and is still there, be it a key whose file waits to be overwritten."""
    keys, files = paper.content["keys"], paper.content["files"]
    there = sum(map(keystore().exists, keys)) + sum(map(default_storage.exists, files))
    waiting = PendingRemoval.objects.filter(name__in=[*keys, *files]).count()
    people = (
        BatchItem.objects.filter(batch=paper.batch_id, record__isnull=False).count() if paper.batch_id else 0
    )
    return there + waiting + people
