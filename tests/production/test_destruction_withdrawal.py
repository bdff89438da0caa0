"""A person who withdraws is forgotten alone, in a package whose others are made or wait (R-22)."""

from __future__ import annotations

from typing import Any

import pytest

from orders.choices import RecordStatus
from orders.models import AccountRow, CardholderRecord, Package
from orders.personal import open_number
from orders.services.records import correct_record
from portal.choices import Role
from portal.core.key_refusals import KeyDestroyedError
from portal.files import keystore
from portal.models import User
from production.models import Batch, DestructionCertificate
from production.services.destruction_requests import (
    InProductionError,
    decide_early_destruction,
    find_subject,
    request_early_destruction,
)
from tests.production.chain import Chain, settle_destruction
from tests.refusals import refused

REASON = "参保人要求停办"


@pytest.fixture
def approver(chain: Chain) -> User:
    return chain.demo.programme.person(Role.PURCHASER_APPROVER)


def test_a_person_who_withdraws_is_forgotten_alone(
    chain: Chain, clerk: User, approver: User, committed: Any
) -> None:
    """R-22: all versions and accounts of one row; an earlier backup of it does not open, others' rows do."""
    returned = CardholderRecord.objects.select_related("package").get(
        row_number=2, status=RecordStatus.RETURNED
    )
    number = chain.people[2].number
    correct_record(returned, changes={"AAC002": number}, actor=clerk, reason="更正")
    dumped = list(CardholderRecord.objects.filter(row_number=2).select_related("package"))
    subject = find_subject(returned.package.number, 2, actor=clerk)
    assert isinstance(subject, CardholderRecord)
    assert subject.version == 2
    others = CardholderRecord.objects.exclude(row_number=2).select_related("package")
    before = {record.pk: open_number(record) for record in others}
    request = request_early_destruction(subject, reason=REASON, actor=clerk)
    with committed():
        decide_early_destruction(request, approve=True, actor=approver)
    settle_destruction(committed)
    assert not CardholderRecord.objects.filter(row_number=2).exists()
    assert not AccountRow.objects.filter(number_index=bytes(dumped[1].number_index)).exists()
    for record in dumped:
        with pytest.raises(KeyDestroyedError):
            open_number(record)
    assert {record.pk: open_number(record) for record in others.all()} == before
    paper = DestructionCertificate.objects.get(request=request)
    assert (paper.content["record_count"], paper.content["version_count"]) == (1, 2)
    assert paper.signature


def test_a_second_person_of_the_package_rotates_the_ring(
    chain: Chain, clerk: User, approver: User, committed: Any
) -> None:
    """R-22: once sealed anew, one more person costs one ring and is certified at once."""
    waiting = CardholderRecord.objects.filter(status=RecordStatus.RETURNED).order_by("row_number")
    first, second = waiting.select_related("package")[:2]
    for record in (first, second):
        record.package.refresh_from_db()
        request = request_early_destruction(record, reason=REASON, actor=clerk)
        with committed():
            decide_early_destruction(request, approve=True, actor=approver)
        if record is first:
            settle_destruction(committed)
            ring = Package.objects.get().ring_key_id
    settle_destruction(committed)
    assert not keystore().exists(ring)
    assert DestructionCertificate.objects.exclude(signature=b"").count() == 2


def test_a_person_in_a_batch_stays(chain: Chain, clerk: User) -> None:
    batch = Batch.objects.earliest("pk")
    record = CardholderRecord.objects.filter(batch_item__batch=batch).select_related("package").earliest("pk")
    with refused(InProductionError) as caught:
        request_early_destruction(record, reason=REASON, actor=clerk)
    assert caught.value.where == f"批次 {batch.number}"
