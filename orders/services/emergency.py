"""A person without a matched record, admitted at a counter after two people decided (R-14).

The admission is a package of one under a key of its own, so that everything after it, the destruction
included, is what it is for every other record (R-22).
"""

from __future__ import annotations

from collections.abc import Mapping

from django.utils import timezone

from orders.account_rows import checked_account
from orders.choices import PackageStatus, RecordStatus
from orders.models import CardholderRecord, Package
from orders.models.records import OPEN
from orders.personal import number_index, seal_column
from orders.services.drafts import Draft, insert_accepted, load_rules, open_problem
from orders.services.intake import hold_open_records
from orders.services.packages import undone_on_error
from orders.services.refusals import AlreadyInProductionError, CorrectionRefusedError
from orders.validation import NormalisedRecord, validate_row
from portal import files
from portal.audit import unit_of_work
from portal.bulk import next_ids
from portal.core.clock import today
from portal.core.errors import InputRefusedError
from portal.core.keystore import KeyPurpose
from portal.models import User
from portal.roles import require
from portal.workflow import move


class AccountRefusedError(InputRefusedError):
    """A bank account that no stripe and no list can hold."""

    code = "account_refused"


def check_person(row: Mapping[str, str], *, photo: bytes, account: str) -> NormalisedRecord:
    """Hold what a counter entered against the rules of every package; raise with all that is wrong.

    `row` is by column code; the account must be one that the banks' own files could bring (R-9).
    """
    checked = validate_row({**row, "seq": "1"}, photo=photo, rules=load_rules())
    if checked.values is None:
        raise CorrectionRefusedError(checked.problems)
    _account(account)
    return checked.values


def _account(text: str) -> str:
    account, problem = checked_account(text, "")
    if problem is not None:  # its `got` would show the account
        raise AccountRefusedError("银行账号不合规定", expected=problem.expected, got=f"{len(text)} 位")
    return account


def admit_person(
    row: Mapping[str, str], *, photo: bytes, account: str, reason: str, actor: User
) -> CardholderRecord:
    """Write a matched record for a person admitted at a counter; raise AlreadyInProductionError."""
    require(actor, "stations.decide_case")
    values = check_person(row, photo=photo, account=account)
    with undone_on_error() as undo, unit_of_work(actor) as work:
        key_id = files.keystore().create(KeyPurpose.PACKAGE, "emergency")
        undo.callback(files.keystore().destroy, key_id)
        package = _package(key_id, actor)
        (record_id,) = next_ids(CardholderRecord, 1)
        name = f"packages/{package.pk}/photos/{record_id}.bin"
        undo.callback(files.remove, name)
        with files.write_sealed(name, key_id) as target:
            target.write(photo)
        draft = Draft(1, dict(row), number_index(values.number), values, (), values.bank_id)
        draft.record_id, draft.photo_name = record_id, name
        hold_open_records()
        if not insert_accepted(package, [draft], timezone.now()):
            person = CardholderRecord.objects.filter(number_index=draft.number_index, status__in=OPEN)
            found = open_problem(person=person.exists())
            raise AlreadyInProductionError(
                "该人员或卡号已有在制记录", where=found.field, expected=found.expected
            )
        record = CardholderRecord.objects.select_related("package").get(pk=record_id)
        sealed = seal_column(record, "account", _account(account))
        record = move(
            record, RecordStatus.MATCHED, actor=actor, account_sealed=sealed, matched_at=timezone.now()
        )
        work.record("record.admitted", record, reason=reason[:200])
    return record


def _package(key_id: str, actor: User) -> Package:
    """Write the package of one; its number counts the day's admissions under the lock of open records."""
    hold_open_records()
    prefix = f"YJ{today():%Y%m%d}-"
    number = Package.objects.filter(number__startswith=prefix).count() + 1
    package: Package = Package.objects.create(
        number=f"{prefix}{number:04d}",
        file_name="",
        status=PackageStatus.VALIDATED,
        key_id=key_id,
        received_by=actor,
        record_count=1,
        accepted_count=1,
        returned_count=0,
        validated_at=timezone.now(),
    )
    return package
