"""Match records with the banks' accounts by number, name and bank, or say why not (R-9)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, Final

from django.db import connection
from django.db.models import Max, QuerySet
from django.utils import timezone

from orders import personal
from orders.choices import CardKind, IssueKind, RecordStatus, UnmatchedReason
from orders.models import AccountFile, CardholderRecord
from orders.selectors.accounts import account_context, unmatched_records
from orders.services.locking import lock_bank
from portal import keyrings
from portal.audit import unit_of_work
from portal.bulk import update_from
from portal.choices import OrganisationKind
from portal.core.clock import format_moment
from portal.core.sheets import Column, write_list
from portal.files import cipher
from portal.models import Organisation, Task, User
from portal.queue import schedule
from portal.roles import require
from portal.texts import told, told_columns

MATCH_BANK: Final = "orders.jobs_accounts.match_bank"
CHUNK: Final = 1000
# Precedence of the reasons: the bank's own current row first, then what it sent and had refused, then others.
# Right after a bulk load statistics are stale: `|| ''` keeps the planner from walking a whole bank by status.
_CHUNK_SQL: Final = """
WITH waiting AS (
    SELECT id, version, package_id, row_number, in_ring, number_index, name_index, unmatched_reason
    FROM orders_cardholderrecord
    WHERE id = ANY(%(ids)s) AND status || '' = 'accepted'
    ORDER BY id FOR NO KEY UPDATE
)
SELECT waiting.id, waiting.version, waiting.unmatched_reason,
       package.id, package.key_id, package.ring_key_id, waiting.row_number, waiting.in_ring,
       own.id, own.account_sealed, file.id, file.key_id, file.ring_key_id, own.row_number,
       own.name_index = waiting.name_index,
       coalesce(others.was_refused, false), coalesce(others.at_other_bank, false)
FROM waiting
JOIN orders_package package ON package.id = waiting.package_id
LEFT JOIN orders_accountrow own
       ON own.number_index = waiting.number_index AND own.bank_id = %(bank)s AND own.is_current
LEFT JOIN orders_accountfile file ON file.id = own.account_file_id
LEFT JOIN LATERAL (
    SELECT bool_or(bank_id = %(bank)s AND length(account_sealed) = 0) AS was_refused,
           bool_or(bank_id <> %(bank)s AND is_current) AS at_other_bank
    FROM orders_accountrow WHERE own.id IS NULL AND number_index = waiting.number_index
) others ON true
ORDER BY waiting.id
"""


@dataclass(frozen=True, slots=True)
class _Pair:
    """One waiting record and what the banks' current rows say about it."""

    record_id: int
    version: int
    reason_before: str
    package_id: int
    package_key: str = field(repr=False)
    package_ring: str = field(repr=False)
    row_number: int
    in_ring: bool
    row_id: int | None
    account_sealed: bytes | None = field(repr=False)
    file_id: int | None
    file_key: str | None = field(repr=False)
    file_ring: str | None = field(repr=False)
    file_row: int | None
    names_agree: bool | None
    was_refused: bool
    at_other_bank: bool

    @property
    def reason(self) -> str:
        """Return why the record is not matched, "" when it is."""
        if self.row_id is not None:
            return "" if self.names_agree else UnmatchedReason.NAME_DIFFERS.value
        if self.was_refused:
            return UnmatchedReason.ACCOUNT_REFUSED.value
        elsewhere = UnmatchedReason.OTHER_BANK if self.at_other_bank else UnmatchedReason.NO_ACCOUNT
        return str(elsewhere.value)

    def resealed(self) -> bytes:
        """Return the account sealed for the record under its own cipher."""
        ids = (self.package_id, self.package_key, self.package_ring, self.row_number)
        own = personal.row_cipher(*ids, in_ring=self.in_ring)
        return personal.seal(own, self.record_id, self.version, "account", self._account())

    def _account(self) -> str:
        assert self.row_id is not None
        assert self.account_sealed is not None
        assert self.file_id is not None
        assert self.file_key is not None
        assert self.file_row is not None
        if self.file_ring:
            row = keyrings.live_cipher(AccountFile, self.file_id, self.file_ring, self.file_row)
        else:
            row = cipher(self.file_key)
        return row.open(self.account_sealed, account_context(self.row_id)).decode()


@dataclass(frozen=True, slots=True)
class MatchResult:
    """How many of a bank's waiting records were matched, and how many wait for which reason."""

    matched: int
    unmatched: dict[str, int]

    @property
    def examined(self) -> int:
        """Return how many records were looked at."""
        return self.matched + sum(self.unmatched.values())


def match_records(*, actor: User, bank: Organisation | None = None) -> list[Task]:
    """Schedule matching of a bank, or of every bank with waiting records; one task each."""
    require(actor, "orders.match_records", bank)
    waiting = CardholderRecord.objects.filter(status=RecordStatus.ACCEPTED).values("bank").distinct()
    banks: QuerySet[Organisation] = Organisation.objects.filter(kind=OrganisationKind.BANK)
    chosen = banks.filter(pk__in=waiting) if bank is None else banks.filter(pk=bank.pk)
    with unit_of_work(actor) as work:
        tasks = [schedule_matching(each, actor=actor) for each in chosen.order_by("pk")]
        if tasks:
            work.record("records.match_requested", bank, banks=len(tasks))
    return tasks


def schedule_matching(bank: Organisation, *, actor: User) -> Task:
    """Schedule one run for a bank; each run is a task of its own, for a done task never runs again."""
    label = bank._meta.label_lower
    runs = Task.objects.filter(handler=MATCH_BANK, subject_type=label, subject_id=bank.pk)
    part = (runs.aggregate(last=Max("part"))["last"] or 0) + 1
    schedule(MATCH_BANK, bank, actor=actor, parts=[part], queue="bulk")
    return runs.get(part=part)


def match_bank(bank: Organisation, *, actor: User) -> MatchResult:
    """Match a bank's waiting records in chunks; running it again, or twice at once, changes nothing more."""
    require(actor, "orders.match_records", bank)
    counts: Counter[str] = Counter()
    now = timezone.now()
    with unit_of_work(actor) as work:
        lock_bank(bank)
        for pairs in _chunks(bank):
            counts.update(pair.reason for pair in pairs)
            _store(pairs, now)
        matched = counts.pop("", 0)
        result = MatchResult(matched, dict(sorted(counts.items())))
        if result.examined:
            work.record("records.matched", bank, matched=matched, unmatched=result.unmatched)
    return result


def _chunks(bank: Organisation) -> Iterator[list[_Pair]]:
    """Yield a bank's waiting records in chunks, locked, in the order of their ids."""
    waiting = CardholderRecord.objects.filter(bank=bank, status=RecordStatus.ACCEPTED)
    ids = list(waiting.order_by("pk").values_list("pk", flat=True))
    for start in range(0, len(ids), CHUNK):
        with connection.cursor() as cursor:
            cursor.execute(_CHUNK_SQL, {"bank": bank.pk, "ids": ids[start : start + CHUNK]})
            pairs = [_Pair(*row) for row in cursor.fetchall()]
        if pairs:
            yield pairs


def _store(pairs: list[_Pair], now: datetime) -> None:
    matched = [
        (pair.record_id, RecordStatus.MATCHED.value, pair.resealed(), now, "")
        for pair in pairs
        if not pair.reason
    ]
    changed = [
        (pair.record_id, pair.reason) for pair in pairs if pair.reason and pair.reason != pair.reason_before
    ]
    if matched:
        columns = ["status", "account_sealed", "matched_at", "unmatched_reason"]
        update_from(CardholderRecord, ["id"], columns, matched)
    if changed:
        update_from(CardholderRecord, ["id"], ["unmatched_reason"], changed)


REPORT_COLUMNS: Final = (
    Column("序号", 8),
    Column("数据包", 22),
    Column("行号", 8),
    Column("社会保障号码", 22),
    Column("姓名", 16),
    Column("发卡类型", 10),
    Column("卡种", 10),
    Column("交付网点", 30),
    Column("未匹配原因", 18),
)


def unmatched_report(bank: Organisation, target: Path | BinaryIO, *, actor: User) -> int:
    """Write the Excel list of a bank's waiting records, numbers and names masked; return its rows."""
    require(actor, "orders.view_cardholderrecord", bank)
    now = timezone.now()
    with unit_of_work(actor) as work:
        count = write_list(
            target,
            title=told(f"{bank.name} 未匹配账号人员清单"),
            columns=told_columns(REPORT_COLUMNS),
            rows=_report_rows(bank),
            header_lines=[told(f"生成时间：{format_moment(now)}　生成人：{actor}")],
            sheet_name=told("未匹配"),
        )
        work.record("unmatched.exported", bank, rows=count)
    return count


def _report_rows(bank: Organisation) -> Iterator[list[str]]:
    records = unmatched_records(bank).iterator(chunk_size=CHUNK)
    for place, record in enumerate(records, 1):
        reason = UnmatchedReason(record.unmatched_reason)
        yield [
            str(place),
            record.package.number,
            str(record.row_number),
            personal.masked_number(record),
            personal.masked_name(record),
            str(IssueKind(record.issue_kind).label),
            str(CardKind(record.card_kind).label),
            record.delivery_point.name if record.delivery_point else "",
            str(reason.label) if reason else told("尚未匹配"),
        ]
