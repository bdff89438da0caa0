"""What the pages show of stations: throughput by day, times against the tender's limits, why cards failed."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any

from django.db.models import Aggregate, Count, FloatField, OuterRef, Q, QuerySet, Subquery
from django.db.models.functions import Coalesce, TruncDate
from django.utils import timezone
from django.utils.translation import gettext as _

from production.choices import Outcome
from production.models import Card
from stations.choices import IssuanceStatus, StepKind
from stations.models import FeederRun, Issuance, IssuanceStep, Station

DAYS_SHOWN = 14
REASONS_SHOWN = 10
WRITE_LIMIT = 50_000
"""Milliseconds: all writes in less than 50 s (R-24); ours are counted with the read-back after them."""
IDENTIFY_LIMIT = 3_000
"""Milliseconds: EF05, EF06 and the PSAM in 3 s (R-24)."""
READ_LIMIT = 30_000
"""Milliseconds: all reads in less than 30 s (R-24)."""
LIMITS = {
    StepKind.IDENTIFY: IDENTIFY_LIMIT,
    StepKind.PERSONALIZE: WRITE_LIMIT,
    StepKind.RESOLVE: READ_LIMIT,
}


class Percentile(Aggregate):
    """PostgreSQL's percentile_cont over the rows that have a value."""

    function = "PERCENTILE_CONT"
    template = "%(function)s(%(share)s) WITHIN GROUP (ORDER BY %(expressions)s)"
    output_field = FloatField()

    def __init__(self, column: str, share: float) -> None:
        super().__init__(column, share=f"{float(share)}")


@dataclass(frozen=True, slots=True)
class DayCounts:
    """One day of a station; times in milliseconds, None without a written card."""

    on: dt.date
    started: int
    good: int
    rejected: int
    unknown: int
    median: float | None
    slowest: float | None


def throughput(station: Station) -> list[DayCounts]:
    """Return what a station made on each of its latest days, newest first (R-24)."""
    since = timezone.now() - dt.timedelta(days=DAYS_SHOWN)
    ended: dict[str, Any] = {
        "good": Count("id", filter=Q(status__in=[IssuanceStatus.GOOD, IssuanceStatus.MADE])),
        "rejected": Count("id", filter=Q(status__in=[IssuanceStatus.REJECTED, IssuanceStatus.CANCELLED])),
        "unknown": Count("id", filter=Q(status=IssuanceStatus.UNKNOWN)),
    }
    rows: Any = (
        Issuance.objects.filter(station=station, requested_at__gte=since)
        .order_by()
        .annotate(day=TruncDate("requested_at"))
        .values("day")
        .annotate(
            started=Count("id"),
            **ended,
            median=Percentile("total_milliseconds", 0.5),
            slowest=Percentile("total_milliseconds", 0.95),
        )
        .order_by("-day")
    )
    return [
        DayCounts(
            row["day"], row["started"], row["good"], row["rejected"], row["unknown"], row["median"],
            row["slowest"],
        )
        for row in rows
    ]  # fmt: skip


def failures(station: Station) -> list[tuple[str, str, int]]:
    """Return why a station's cards of the latest days failed: code, text, how many; most often first."""
    since = timezone.now() - dt.timedelta(days=DAYS_SHOWN)
    rows = (
        Issuance.objects.filter(station=station, requested_at__gte=since)
        .exclude(reason="")
        .exclude(status=IssuanceStatus.GOOD)
        .order_by()
        .values("reason", "reason_text")
        .annotate(count=Count("id"))
        .order_by("-count", "reason")[:REASONS_SHOWN]
    )
    return [(row["reason"], row["reason_text"], row["count"]) for row in rows]


def queue(station: Station) -> QuerySet[Issuance]:
    """Return what a station has not ended, oldest first."""
    open_ones = ["queued", "running", "printing", "awaiting_look", "unknown", "resolving"]
    rows: QuerySet[Issuance] = Issuance.objects.filter(station=station, status__in=open_ones)
    return rows.select_related("card", "operator", "station").order_by("id")


def limit_of(step: IssuanceStep) -> int | None:
    """Return the tender's limit for a step in milliseconds, None where it sets none."""
    return LIMITS.get(StepKind(step.kind))


@dataclass(frozen=True, slots=True)
class TimePart:
    """Where a part of a card's time went, in milliseconds, with the tender's limit where it sets one."""

    label: str
    milliseconds: int | None
    limit: int | None = None
    note: str = ""


def parts_of(issuance: Issuance) -> list[TimePart]:
    """Return where the time of writing a card went; reader, portal and agent add up to the whole (R-24)."""
    reader, agent = issuance.reader_milliseconds, issuance.agent_milliseconds
    share = f"{agent / reader:.0%}" if reader and agent is not None else ""
    trips = issuance.round_trips
    return [
        TimePart(_("卡片与读写器"), reader, note=_("含上电与传输，读写器接口分不开")),
        TimePart(_("其中写卡"), issuance.write_milliseconds, WRITE_LIMIT),
        TimePart(_("其中读卡"), issuance.read_milliseconds, READ_LIMIT),
        TimePart(
            _("等待平台"),
            issuance.waited_milliseconds,
            note="" if trips is None else _("{count} 次往返").format(count=trips),
        ),
        TimePart(_("其中平台处理"), issuance.portal_milliseconds),
        TimePart(
            _("代理程序"),
            agent,
            note=_("相当于卡片与读写器的 {share}").format(share=share) if share else "",
        ),
        TimePart(_("合计（不含打印）"), issuance.total_milliseconds),
    ]


def issuances_of_day(station: Station, on: dt.date) -> QuerySet[Issuance]:
    """Return a station's issuances that were started on a day, in their order."""
    begins = timezone.make_aware(dt.datetime.combine(on, dt.time.min))
    rows: QuerySet[Any] = Issuance.objects.filter(
        station=station, requested_at__gte=begins, requested_at__lt=begins + dt.timedelta(days=1)
    )
    return rows.select_related("card__item__record__package", "card__lot", "operator").order_by("id")


def counted_runs(runs: QuerySet[FeederRun]) -> QuerySet[FeederRun]:
    """Add `done_count` and `waiting_count`, a run's cards with and without their outcome."""
    waits = Q(outcome=Outcome.PENDING)
    return runs.annotate(done_count=_cards_of_run(~waits), waiting_count=_cards_of_run(waits))


def _cards_of_run(which: Q) -> Coalesce:
    # A subquery for each row shown: joined, every run's cards would be grouped before the page is cut.
    found = (
        Card.objects.filter(which, machine_file=OuterRef("machine_file")).order_by().values("machine_file")
    )
    return Coalesce(Subquery(found.annotate(count=Count("pk")).values("count")), 0)
