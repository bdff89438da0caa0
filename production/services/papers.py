"""Papers that leave the portal: return files for the province and destruction certificates (R-22)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import IO, cast

from django.core.files.storage import default_storage

from portal.audit import unit_of_work
from portal.core.errors import PortalError
from portal.files import portal_key
from portal.models import User
from portal.roles import require
from production import certificate
from production.models import DestructionCertificate, ReturnFile

BLOCK = 64 * 1024


class CertificateOpenError(PortalError):
    """A certificate whose destruction is not yet checked and signed."""

    code = "certificate_unsigned"


class CertificateForgedError(PortalError):
    """A certificate whose content is not what the portal signed."""

    code = "certificate_forged"


def download_return_file(file: ReturnFile, *, actor: User) -> tuple[str, Iterator[bytes]]:
    """Return name and content of a return file, sealed for its recipient; reading it is an event."""
    require(actor, "production.view_returnfile", file)
    stored = cast("IO[bytes]", default_storage.open(file.stored_name, "rb"))
    with unit_of_work(actor) as work:
        work.record("returnfile.downloaded", file, cards=file.card_count)
    return file.stored_name.rpartition("/")[2], _blocks(stored)


def certificate_pdf(paper: DestructionCertificate, *, actor: User) -> bytes:
    """Return a signed certificate as PDF."""
    require(actor, "production.view_destructioncertificate", paper)
    return certificate.to_pdf(paper.content, _signature(paper))


def certificate_json(paper: DestructionCertificate, *, actor: User) -> bytes:
    """Return content, signature and public key of a certificate: all that an offline check needs."""
    require(actor, "production.view_destructioncertificate", paper)
    whole = {
        "content": paper.content,
        "digest": certificate.digest(paper.content),
        "signature": _signature(paper).hex(),
        "public_key": portal_key().public.to_pem(),
    }
    return json.dumps(whole, ensure_ascii=False, indent=2).encode()


def verify_certificate(paper: DestructionCertificate, *, actor: User) -> str:
    """Check the signature; return the fingerprint of the key that made it, raise CertificateForgedError."""
    require(actor, "production.view_destructioncertificate", paper)
    if not certificate.verify(paper.content, _signature(paper), portal_key().public):
        raise CertificateForgedError("签名不符：证明内容已被改动", where=paper.number)
    return str(portal_key().public.fingerprint)


def _signature(paper: DestructionCertificate) -> bytes:
    signature = bytes(paper.signature)
    if not signature:
        raise CertificateOpenError("数据仍在清除，证明尚未签署", where=paper.number)
    return signature


def _blocks(stored: IO[bytes]) -> Iterator[bytes]:
    with stored:
        while block := stored.read(BLOCK):
            yield block
