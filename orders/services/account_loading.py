"""What the workers do with an account file: the dry run, and the load of its good rows (R-9)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from itertools import islice
from typing import Any, BinaryIO, Final, NamedTuple, cast

from django.conf import settings
from django.db import connection

from orders import personal
from orders.account_rows import AccountLine, Contradictions, parse_layout, read_lines
from orders.choices import AccountFileStatus
from orders.models import AccountFile, AccountRow, BankProfile
from orders.selectors.accounts import (
    AccountProblem,
    AccountReport,
    account_context,
    account_report,
    report_context,
)
from orders.services.accounts import (
    AccountFileEmptyError,
    discard,
    refuse_file,
    rows_name,
)
from orders.services.locking import lock_bank
from orders.services.matching import schedule_matching
from orders.services.packages import undone_on_error
from portal import keyrings
from portal.audit import unit_of_work
from portal.bulk import copy_rows, next_ids
from portal.core.clock import today
from portal.core.crypto import FieldCipher
from portal.core.errors import InputRefusedError
from portal.core.keystore import KeyPurpose
from portal.core.problems import Problem
from portal.core.sheets import SheetKind, SheetLimits, read_table
from portal.files import cipher, keystore, read_sealed, write_sealed
from portal.models import User
from portal.roles import require
from portal.workflow import locked, move

CHUNK: Final = 2000
MAX_PROBLEMS: Final = 20_000
# A binary .xls may carry macros that no check reads.
ACCEPTED_KINDS: Final[tuple[SheetKind, ...]] = ("xlsx", "csv")
_ROW_COLUMNS: Final = (
    "id",
    "account_file",
    "bank",
    "row_number",
    "number_index",
    "name_index",
    "account_index",
    "account_sealed",
    "is_current",
)


# Found number by number: right after a bulk load stale statistics would make the planner walk a whole bank.
_CURRENT_SQL: Final = """
SELECT older.id, older.number_index, older.name_index, older.account_index
FROM unnest(%(numbers)s::bytea[]) AS wanted(number_index)
CROSS JOIN LATERAL (
    SELECT id, number_index, name_index, account_index FROM orders_accountrow
    WHERE bank_id = %(bank)s AND number_index = wanted.number_index AND is_current LIMIT 1
) older
"""
_RELEASE_SQL: Final = """
UPDATE orders_cardholderrecord record
SET status = 'accepted', account_sealed = NULL, matched_at = NULL, unmatched_reason = ''
FROM unnest(%(numbers)s::bytea[]) AS wanted(number_index)
WHERE record.number_index = wanted.number_index AND record.status = 'matched' AND record.bank_id = %(bank)s
"""
_LOOK_AGAIN_SQL: Final = """
UPDATE orders_cardholderrecord record SET unmatched_reason = ''
FROM orders_accountrow loaded
WHERE loaded.account_file_id = %(file)s AND record.number_index = loaded.number_index
  AND record.status = 'accepted' AND record.bank_id = %(bank)s AND record.unmatched_reason <> ''
"""


class _Row(NamedTuple):
    """A checked row; name and account are "" for a person whose row was refused."""

    row_number: int
    number: str
    name: str
    account: str


class _New(NamedTuple):
    """A row with its blind indexes, as it is stored."""

    id: int
    row: _Row
    number_index: bytes
    name_index: bytes
    account_index: bytes


class _DryRun:
    """Collects what one pass over the file finds."""

    def __init__(self) -> None:
        self.problems: list[AccountProblem] = []
        self.row_count = 0
        self.refused: set[int] = set()
        self._contradictions = Contradictions()

    def take(self, lines: Iterable[AccountLine]) -> Iterator[_Row]:
        """Yield each row with a valid number, without name and account where it was refused."""
        for line in lines:
            self.row_count += 1
            found = [(line.row_number, problem) for problem in line.problems]
            found = found or self._contradictions.check(line)
            for row_number, problem in found:
                self._note(row_number, problem)
            if line.row_number in self.refused:
                line = AccountLine(line.row_number, line.number, "", "")  # noqa: PLW2901 -- the row is refused
            if line.number:
                yield _Row(line.row_number, line.number, line.name, line.account)

    def report(self) -> AccountReport:
        """Return the findings in the order of the rows."""
        problems = sorted(self.problems, key=lambda problem: problem.row_number)
        return AccountReport(tuple(problems), frozenset(self._contradictions.withdrawn))

    def _note(self, row_number: int, problem: Problem) -> None:
        self.refused.add(row_number)
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(
                AccountProblem(row_number, problem.field, problem.code, problem.expected, problem.got)
            )


def examine_file(account_file: AccountFile, *, actor: User) -> AccountFile:
    """Read a received file once: keep its good rows sealed and list the bad ones, or refuse it whole."""
    require(actor, "orders.upload_accounts", account_file)
    with unit_of_work(actor):
        fresh = locked(account_file)
        if fresh.status != AccountFileStatus.RECEIVED:
            return fresh
        dry_run = _DryRun()
        try:
            _read_into(fresh, dry_run)
        except InputRefusedError as exc:
            return refuse_file(fresh, exc, actor=actor)
        report = dry_run.report().to_json().encode("utf-8", "surrogatepass")
        refused = len(dry_run.refused)
        return move(
            fresh,
            AccountFileStatus.CHECKED,
            actor=actor,
            details={"rows": dry_run.row_count, "refused": refused},
            row_count=dry_run.row_count,
            good_count=dry_run.row_count - refused,
            refused_count=refused,
            problems_sealed=cipher(fresh.key_id).seal(report, report_context(fresh)),
        )


def _read_into(account_file: AccountFile, dry_run: _DryRun) -> None:
    """Check every row and write the ones with a valid number to the sealed file of rows."""
    profile = BankProfile.objects.get(organisation=account_file.bank)
    layout = parse_layout(profile.account_layout)
    limits = SheetLimits(max_bytes=settings.MAX_ACCOUNT_FILE_BYTES)
    key_id = account_file.key_id
    with (
        read_sealed(account_file.stored_name, key_id) as source,
        write_sealed(rows_name(key_id), key_id) as target,
    ):
        sheet = layout.sheet if layout else None
        rows = read_table(cast("BinaryIO", source), kind=ACCEPTED_KINDS, sheet=sheet, limits=limits)
        for row in dry_run.take(read_lines(rows, layout, today=today())):
            target.write(json.dumps(row, ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n")
        if not dry_run.row_count:
            raise AccountFileEmptyError("表头下面没有任何数据行", got="0 行")


def load_file(account_file: AccountFile, *, actor: User) -> AccountFile:
    """Load the checked rows; a newer row replaces the older one of the same bank and person.

    A record already matched with an account that has changed waits for matching again, unless ordered.
    """
    require(actor, "orders.upload_accounts", account_file)
    with undone_on_error() as undo, unit_of_work(actor) as work:
        bank = lock_bank(account_file.bank)
        fresh = locked(account_file)
        if fresh.status == AccountFileStatus.LOADED:
            return fresh
        ring = keyrings.NewRing()
        replaced, changed = 0, []
        for rows in _checked_rows(fresh):
            older, numbers = _store(fresh, rows, ring)
            replaced += older
            changed += numbers
        rematched = _reopen(fresh, changed)
        details = {"rows": fresh.good_count, "replaced": replaced, "rematched": rematched}
        keys = _changed_keys(fresh, ring, undo)
        loaded = move(fresh, AccountFileStatus.LOADED, actor=actor, details=details, stored_name="", **keys)
        work.record("records.match_requested", bank, banks=1)
        schedule_matching(bank, actor=User.objects.system())
    return loaded


def _changed_keys(account_file: AccountFile, ring: keyrings.NewRing, undo: ExitStack) -> dict[str, Any]:
    """Have the upload destroyed with its key, which opened everybody's row; return the columns that follow.

    From here on each row has a key of its own, and the report of the dry run has one (R-22).
    """
    discard(account_file)
    key_id = keystore().create(KeyPurpose.ACCOUNT_FILE, f"accounts {account_file.pk} report")
    undo.callback(keystore().destroy, key_id)
    report = account_report(account_file).to_json().encode("utf-8", "surrogatepass")
    return {
        "key_id": key_id,
        "problems_sealed": cipher(key_id).seal(report, report_context(account_file)),
        "ring_key_id": ring.write(KeyPurpose.ACCOUNT_FILE, f"accounts {account_file.pk} ring", undo),
    }


def _checked_rows(account_file: AccountFile) -> Iterator[list[_Row]]:
    """Yield the rows of the dry run in chunks; one that lost to a contradiction comes as refused."""
    withdrawn = account_report(account_file).withdrawn
    with read_sealed(rows_name(account_file.key_id), account_file.key_id) as source:
        rows = (_Row(*json.loads(line)) for line in _lines(source))
        kept = (row._replace(name="", account="") if row.row_number in withdrawn else row for row in rows)
        while chunk := list(islice(kept, CHUNK)):
            yield chunk


def _lines(source: Any) -> Iterator[bytes]:
    """Cut the sealed file at its line ends; `readline` of a raw reader would go byte by byte."""
    rest = b""
    while block := source.read(1 << 18):
        *lines, rest = (rest + block).split(b"\n")
        yield from lines


def _store(account_file: AccountFile, rows: list[_Row], ring: keyrings.NewRing) -> tuple[int, list[bytes]]:
    """Write one chunk; return how many older rows it replaces and which numbers' account or name changed."""
    ids = next_ids(AccountRow, len(rows))
    new = [_New(row_id, row, *_indexes(row)) for row_id, row in zip(ids, rows, strict=True)]
    good = {each.number_index: each for each in new if each.row.account}
    older = _current_rows(account_file, list(good))
    AccountRow.objects.filter(pk__in=[row[0] for row in older]).update(is_current=False)
    copy_rows(AccountRow, _ROW_COLUMNS, _stored(account_file, new, ring))
    changed = [
        number
        for _, number, name, account in older
        if (name, account) != (good[number].name_index, good[number].account_index)
    ]
    return len(older), changed


def _current_rows(
    account_file: AccountFile, number_indexes: list[bytes]
) -> list[tuple[int, bytes, bytes, bytes]]:
    with connection.cursor() as cursor:
        cursor.execute(_CURRENT_SQL, {"bank": account_file.bank_id, "numbers": number_indexes})
        return cast("list[tuple[int, bytes, bytes, bytes]]", cursor.fetchall())


def _indexes(row: _Row) -> tuple[bytes, bytes, bytes]:
    if not row.account:
        return personal.number_index(row.number), b"", b""
    return (
        personal.number_index(row.number),
        personal.name_index(row.name),
        personal.account_index(row.account),
    )


def _stored(account_file: AccountFile, new: list[_New], ring: keyrings.NewRing) -> Iterator[tuple[Any, ...]]:
    """Yield table rows, each under its own key; a refused person's holds no account and is never current."""
    for each in new:
        account, sealed = each.row.account, b""
        if account:
            own = FieldCipher(ring.draw(each.row.row_number))
            sealed = own.seal(account.encode(), account_context(each.id))
        yield (
            each.id,
            account_file.pk,
            account_file.bank_id,
            each.row.row_number,
            each.number_index,
            each.name_index,
            each.account_index,
            sealed,
            bool(account),
        )


def _reopen(account_file: AccountFile, changed: list[bytes]) -> int:
    """Take matched records back whose account or name has changed; return how many.

    Whoever waited before is marked to be looked at again, even if the scheduled matching is lost.
    """
    values: dict[str, Any] = {"bank": account_file.bank_id, "file": account_file.pk, "numbers": changed}
    with connection.cursor() as cursor:
        cursor.execute(_RELEASE_SQL, values)
        rematched = int(cursor.rowcount)
        cursor.execute(_LOOK_AGAIN_SQL, values)
    return rematched
