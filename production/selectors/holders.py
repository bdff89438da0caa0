"""The person a card is for, opened from the sealed record: what chip, face and stripe are made of (R-18)."""

from __future__ import annotations

from django.conf import settings

from orders.models import CardholderRecord
from orders.personal import open_name, open_number, open_personal
from portal.core.idnumbers import DocumentKind
from production.personalization.holder import CardHolder


def holder_of(record: CardholderRecord) -> CardHolder:
    """Open a record (selected with its package) as the holder of a card; raise HolderRefusedError."""
    number, part = open_number(record), open_personal(record)
    resident = part.document_kind == DocumentKind.RESIDENT
    return CardHolder(
        number=number,
        name=open_name(record),
        sex=part.sex,
        ethnicity=part.ethnicity,
        birth_on=part.birth_on,
        card_number=part.card_number,
        issue_on=part.issue_on,
        expires_on=part.expires_on,
        area=part.area,
        initialiser=settings.CARD_INITIALISER,
        # The first six digits of a resident's number are the area of birth (GB 11643); others carry none.
        birth_area=number[:6] if resident else "",
        first_area=part.area,
        employer_name=part.employer_name,
        employer_code=record.employer_code,
    )
