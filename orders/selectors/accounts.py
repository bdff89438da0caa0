"""Reads about account files and the records that wait for an account."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field

from django.db.models import Count, QuerySet

from orders.choices import RecordStatus
from orders.models import AccountFile, AccountRow, CardholderRecord
from portal.core.crypto import FieldCipher
from portal.files import cipher
from portal.keyrings import live_cipher
from portal.models import Organisation, User


@dataclass(frozen=True, slots=True)
class AccountProblem:
    """One finding of a dry run; `column` is the file's own heading, `got` may be personal."""

    row_number: int
    column: str
    code: str
    expected: str
    got: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class AccountReport:
    """What a dry run found: the problems, cut off at a limit, and the rows that lost to a contradiction."""

    problems: tuple[AccountProblem, ...] = ()
    withdrawn: frozenset[int] = frozenset()

    def to_json(self) -> str:
        """Return compact JSON for sealing."""
        found = [(p.row_number, p.column, p.code, p.expected, p.got) for p in self.problems]
        return json.dumps({"problems": found, "withdrawn": sorted(self.withdrawn)}, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> AccountReport:
        """Read what `to_json` wrote."""
        values = json.loads(text)
        return cls(
            tuple(AccountProblem(*found) for found in values["problems"]), frozenset(values["withdrawn"])
        )


def account_context(row_id: int) -> bytes:
    """Return the associated data of an account row's sealed account."""
    return f"orders.accountrow/{row_id}/account".encode()


def row_cipher(row: AccountRow) -> FieldCipher:
    """Return the cipher of a row's account; raises KeyDestroyedError once its key is destroyed."""
    file = row.account_file
    if file.ring_key_id:
        return live_cipher(AccountFile, file.pk, file.ring_key_id, row.row_number)
    return cipher(file.key_id)


def open_account_row(row: AccountRow) -> str:
    """Return a row's account; select rows with `select_related("account_file")`."""
    return row_cipher(row).open(bytes(row.account_sealed), account_context(row.pk)).decode()


def report_context(account_file: AccountFile) -> bytes:
    """Return the associated data of a file's sealed report."""
    return f"orders.accountfile/{account_file.pk}/problems".encode()


def account_report(account_file: AccountFile) -> AccountReport:
    """Return what the dry run found, empty before it; only the bank itself may see what it sent."""
    if account_file.problems_sealed is None:
        return AccountReport()
    opened = cipher(account_file.key_id).open(
        bytes(account_file.problems_sealed), report_context(account_file)
    )
    return AccountReport.from_json(opened.decode("utf-8", "surrogatepass"))


def problem_counts(account_file: AccountFile) -> dict[str, int]:
    """Count the findings of the dry run by code, without anything personal."""
    return dict(Counter(problem.code for problem in account_report(account_file).problems).most_common())


def unmatched_records(bank: Organisation) -> QuerySet[CardholderRecord]:
    """Return a bank's records that wait for an account, in the order they came."""
    records: QuerySet[CardholderRecord] = CardholderRecord.objects.filter(
        bank=bank, status=RecordStatus.ACCEPTED
    )
    return records.select_related("package", "delivery_point").order_by("package_id", "row_number")


def unmatched_counts(user: User) -> dict[str, int]:
    """Count the waiting records the user may see by reason."""
    waiting = CardholderRecord.objects.visible_to(user).filter(status=RecordStatus.ACCEPTED)
    rows = waiting.order_by("unmatched_reason").values_list("unmatched_reason").annotate(count=Count("id"))
    return dict(rows)
