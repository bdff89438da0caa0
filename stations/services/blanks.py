"""The blanks of a station: handed out by two people, spent one by one, counted blind at day's end (R-21)."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import date, datetime, time

from django.db.models import Count, Q
from django.utils import timezone

from orders.models import SupplierChoice
from portal.audit import record_alone, unit_of_work
from portal.bulk import copy_rows
from portal.choices import OrganisationKind
from portal.core.clock import today
from portal.core.errors import ConflictError, InputRefusedError
from portal.models import Organisation, User
from portal.roles import require, require_second_person
from portal.workflow import locked, move
from production.choices import LocationKind, MovementKind, Outcome, RequestStatus
from production.models import Card, StockLot
from production.services.preparation import take_from
from production.services.stock import StockRefusedError, post
from stations.choices import BlankStatus
from stations.models import BlankRequest, Issuance, Station, StationBlank, StationDay

MOST_AT_ONCE = 2000


class BlankMissingError(InputRefusedError):
    """A serial that the station does not hold, or no longer."""

    code = "blank_missing"


class DayCountError(InputRefusedError):
    """A blind count that is not the ledger's; never says the ledger's own figure."""

    code = "day_count_differs"


class DayClosedError(ConflictError):
    """A day is counted once, and only when no card is being made."""

    code = "day_not_countable"


@dataclass(frozen=True, slots=True)
class DayFigures:
    """A station's day by its ledger: closing = opening + received − returned − good − rejected − unknown."""

    opening: int
    received: int
    returned: int
    good: int
    rejected: int
    unknown: int

    @property
    def closing(self) -> int:
        """Return how many blanks must be in the drawer."""
        return self.opening + self.received - self.returned - self.good - self.rejected - self.unknown


def request_blanks(station: Station, lot: StockLot, quantity: int, *, actor: User) -> BlankRequest:
    """Ask for blanks of a lot for a station; a keeper of the supplier hands them out."""
    require(actor, "stations.request_blanks", station)
    if not 1 <= quantity <= MOST_AT_ONCE:
        raise StockRefusedError("领用数量超出范围", expected=f"1–{MOST_AT_ONCE}", got=str(quantity))
    if not _may_draw_on(station.operator, lot):
        raise StockRefusedError("没有这个白卡批")
    with unit_of_work(actor) as work:
        request = BlankRequest.objects.create(station=station, lot=lot, quantity=quantity, requested_by=actor)
        work.record("blankrequest.requested", request, quantity=quantity, lot=lot.number)
    return request


def _may_draw_on(operator: Organisation, lot: StockLot) -> bool:
    """Keep suppliers to their own lots, banks to those of suppliers they chose; no others are named (D12)."""
    if operator.kind == OrganisationKind.SUPPLIER:
        return lot.contract.supplier_id == operator.pk
    if operator.kind == OrganisationKind.BANK:
        return SupplierChoice.objects.filter(bank=operator, contract=lot.contract_id).exists()
    return True


def decide_blanks(request: BlankRequest, *, approve: bool, actor: User) -> BlankRequest:
    """Hand out the blanks, or refuse, as the second person; approval reserves their serials."""
    require(actor, "stations.decide_blanks", request)
    require_second_person(request.requested_by, actor)
    target = RequestStatus.APPROVED if approve else RequestStatus.REFUSED
    with unit_of_work(actor) as work:
        decided = move(request, target, actor=actor, decided_by=actor, decided_at=timezone.now())
        if not approve:
            return decided
        post(
            decided.lot,
            MovementKind.TRANSFER,
            decided.quantity,
            source=LocationKind.WAREHOUSE,
            target=LocationKind.COUNTER,
            requested_by=decided.requested_by,
            approved_by=actor,
            note=decided.station.code,
        )
        serials = [serial for _, serial in take_from(decided.lot_id, decided.quantity)]
        now = timezone.now()
        copy_rows(
            StationBlank,
            ("station", "lot", "serial", "status", "received_at"),
            (
                (decided.station_id, decided.lot_id, serial, BlankStatus.AVAILABLE.value, now)
                for serial in serials
            ),
        )
        work.record("station.blanks_received", decided.station, serials=f"{serials[0]}–{serials[-1]}")
    return decided


def return_blank(blank: StationBlank, *, reason: str, actor: User) -> StationBlank:
    """Send an unused blank back to the warehouse; its serial is spent, for it was allocated once."""
    require(actor, "stations.request_blanks", blank)
    if not reason.strip():
        raise StockRefusedError("退回须说明事由")
    with unit_of_work(actor) as work:
        fresh = spend_blank(blank.station, blank.serial, BlankStatus.RETURNED, actor=actor)
        post(
            fresh.lot,
            MovementKind.RETURN,
            1,
            source=LocationKind.COUNTER,
            target=LocationKind.WAREHOUSE,
            requested_by=actor,
            note=f"{fresh.serial} {reason.strip()}",
        )
        work.record("station.blank_returned", fresh, reason=reason.strip()[:200])
    return fresh


def spend_blank(
    station: Station, serial: str, status: BlankStatus = BlankStatus.USED, *, actor: User
) -> StationBlank:
    """Take an available blank out of a station's stock under its lock; raise BlankMissingError otherwise."""
    blank: StationBlank | None = (
        StationBlank.objects.select_for_update(of=("self",))
        .select_related("lot")
        .filter(station=station, serial=serial.strip().upper())
        .first()
    )
    if blank is None or blank.status != BlankStatus.AVAILABLE:
        got = str(blank.get_status_display()) if blank else ""
        raise BlankMissingError(
            "本制卡点没有这张可用的白卡", where=serial.strip()[:32], expected="可用", got=got
        )
    return move(blank, status, actor=actor, left_at=timezone.now())


def day_figures(station: Station, on: date) -> DayFigures:
    """Return a station's day as its ledger of blanks and cards shows it."""
    begins, ends = _bounds(on)
    blanks = StationBlank.objects.filter(station=station)
    moved = blanks.aggregate(
        opening=Count(
            "id", filter=Q(received_at__lt=begins) & (Q(left_at__isnull=True) | Q(left_at__gte=begins))
        ),
        received=Count("id", filter=Q(received_at__gte=begins, received_at__lt=ends)),
        returned=Count("id", filter=Q(status=BlankStatus.RETURNED, left_at__gte=begins, left_at__lt=ends)),
        used=Count("id", filter=Q(status=BlankStatus.USED, left_at__gte=begins, left_at__lt=ends)),
    )
    started = Issuance.objects.filter(
        station=station, feeder_run__isnull=True, requested_at__gte=begins, requested_at__lt=ends
    )  # a batch's blanks are the batch's own, not in the drawer
    cards = Card.objects.filter(issuance__in=started).aggregate(
        good=Count("id", filter=Q(outcome__in=[Outcome.MADE, Outcome.GOOD])),
        rejected=Count("id", filter=Q(outcome=Outcome.REJECTED)),
    )
    unknown = moved["used"] - cards["good"] - cards["rejected"]
    return DayFigures(
        moved["opening"], moved["received"], moved["returned"], cards["good"], cards["rejected"], unknown
    )


def close_day(station: Station, *, counted: int, actor: User) -> StationDay:
    """Close today by the blanks counted in the drawer before any figure is shown (blind count).

    A difference refuses the closing, is audited, and names no figure; the drawer is counted again, or the
    keeper's adjustment by two people explains it.
    """
    require(actor, "stations.close_day", station)
    try:
        return _close_day(station, counted, actor)
    except DayCountError:
        record_alone("station.day_count_differs", actor=actor, subject=station, counted=counted)
        raise


def _close_day(station: Station, counted: int, actor: User) -> StationDay:
    with unit_of_work(actor) as work:
        fresh, on = locked(station), today()
        running = Issuance.objects.filter(
            station=fresh, status__in=["queued", "running", "printing", "awaiting_look", "resolving"]
        )
        if running.exists() or StationDay.objects.filter(station=fresh, on=on).exists():
            raise DayClosedError("该日已清点，或还有正在制作的卡", where=f"{fresh} {on}")
        figures = day_figures(fresh, on)
        if counted != figures.closing:
            raise DayCountError("清点数与系统账不符，请重新清点", where=str(fresh), got=str(counted))
        day: StationDay = StationDay.objects.create(
            station=fresh, on=on, counted_by=actor, closing=figures.closing, **asdict(figures)
        )
        work.record("stationday.closed", day, counts=asdict(figures) | {"closing": figures.closing})
    return day


def _bounds(on: date) -> tuple[datetime, datetime]:
    begins = timezone.make_aware(datetime.combine(on, time.min))
    ends = timezone.make_aware(datetime.combine(on, time.max))
    return begins, ends
