"""What the counter page asks: is the station ready, who is the person, which face belongs on the card."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from orders.choices import RecordStatus
from orders.models import CardholderRecord
from orders.personal import masked_name, masked_number, name_index, number_index
from portal.audit import unit_of_work
from portal.choices import OrganisationKind
from portal.core.errors import ConflictError, InputRefusedError
from portal.models import User
from portal.roles import require
from production.services.counter import CAN_START
from stations.choices import IssuanceStatus
from stations.models import Issuance, Station
from stations.services.card_jobs import face_of, front_of, sides_to_print
from stations.services.issuance import require_station, start_issuance
from stations.services.registry import is_online

MOST_FOUND = 10
SHOWN = frozenset({IssuanceStatus.PRINTING, IssuanceStatus.AWAITING_LOOK})


class StationNotReadyError(ConflictError):
    """A station that cannot make a card now; the message says what is missing."""

    code = "station_not_ready"


class PersonNotReadyError(ConflictError):
    """A record that no counter can make a card for."""

    code = "person_not_ready"


class NumberMissingError(InputRefusedError):
    """A search without a number."""

    code = "search_empty"


class FaceHiddenError(ConflictError):
    """A face is shown only while its card is printed and looked at."""

    code = "face_hidden"


@dataclass(frozen=True, slots=True)
class Obstacle:
    """What is wrong with a station, and what the operator can do; only some of it stops a card."""

    text: str
    advice: str
    stops: bool


@dataclass(frozen=True, slots=True, repr=False)
class Match:
    """A record that fits, masked, and whether its card can be made here now."""

    record: CardholderRecord
    number: str
    name: str
    is_ready: bool
    reason: str


def obstacles(station: Station) -> list[Obstacle]:
    """Return what stands between a station and its next card, the gravest first."""
    if not station.is_active or station.credential_digest is None:
        return [Obstacle("制卡点未启用或没有凭证", "请系统管理员启用，安全管理员登记凭证", True)]
    if not is_online(station):
        return [Obstacle("制卡点离线：代理程序没有心跳", "检查制卡点电脑的电源、网络和代理程序", True)]
    return sorted([*_readers(station), *_printer(station)], key=lambda found: not found.stops)


def _readers(station: Station) -> list[Obstacle]:
    readers = station.report.get("readers") or []
    if not readers:
        return [Obstacle("没有读写器", "插好读写器的 USB 线，等待 10 秒", True)]
    cards = sum(reader.get("card") != "none" and reader.get("used", True) for reader in readers)
    if cards > 1:  # the agent would wait for one to go; nobody should start before
        return [Obstacle("读写器中有两张卡", "只留下所选的白卡，等待 10 秒", True)]
    return []


def _printer(station: Station) -> list[Obstacle]:
    printer = station.report.get("printer")
    if not printer or printer.get("state") == "unreachable":
        # The agent would give the issuance up, or a written card would have no face: the blank is spared.
        return [Obstacle("没有打印机", "接好打印机的电源和线，等待 10 秒", True)]
    if lacks_turning(station):
        advice = "换能翻卡的打印机；白卡正面已预印的，请系统管理员在制卡点中注明"
        return [Obstacle("打印机不能两面打印", advice, True)]
    if printer.get("state") == "stopped":
        reasons = "、".join(printer.get("reasons") or []) or "原因见打印机面板"
        return [Obstacle(f"打印机停止：{reasons}", "按打印机面板的提示处理色带、卡槽或机盖", False)]
    return []


def lacks_turning(station: Station) -> bool:
    """Say whether the station prints both sides and its printer said that it cannot."""
    printer = station.report.get("printer") or {}
    return printer.get("turns_over") is False and not station.front_is_preprinted


def find_people(station: Station, *, number: str, name: str = "", actor: User) -> list[Match]:
    """Find a person's records by exact number, and name if given; masked, audited, of served banks only.

    A record of another bank is not told from none (D12). The audit keeps the pseudonym and how many fitted.
    """
    require(actor, "stations.issue_card", station)
    require_station(station, actor, None)
    if not number.strip():
        raise NumberMissingError("请输入社会保障号码")
    wanted = {"number_index": number_index(number)}
    if name.strip():
        wanted["name_index"] = name_index(name)
    if station.operator.kind == OrganisationKind.BANK:
        wanted["bank"] = station.operator  # type: ignore[assignment]
    with unit_of_work(actor) as work:
        rows = CardholderRecord.objects.filter(**wanted).exclude(
            status__in=[RecordStatus.SUPERSEDED, RecordStatus.CANCELLED]
        )
        found = list(rows.select_related("package", "bank").order_by("-id")[:MOST_FOUND])
        person = wanted["number_index"].hex()
        work.record("issuance.person_searched", station, person=person, found=len(found))
    return [match_of(record) for record in found]


def match_of(record: CardholderRecord) -> Match:
    """Return a record as the counter shows it; raises KeyDestroyedError once its key is destroyed."""
    reason = _not_ready(record)
    return Match(record, masked_number(record), masked_name(record), not reason, reason)


def _not_ready(record: CardholderRecord) -> str:
    match record.status:
        case RecordStatus.MATCHED:
            return ""
        case RecordStatus.RETURNED:
            return "数据有误，已退回补录"
        case RecordStatus.ACCEPTED:
            return "尚未匹配银行账号"
    own = Issuance.objects.filter(batch__items__record=record)
    if own.filter(status=IssuanceStatus.GOOD).exists():
        return "已在制卡点制卡并交付"
    if own.filter(status=IssuanceStatus.UNKNOWN).exists():
        return "上一张卡结果未知，先处理未知卡"
    if own.exists() and own.filter(batch__status__in=CAN_START).exists():
        return ""
    return "正在制卡" if own.exists() else "已下单，由工厂制作"


def start_at_counter(record: CardholderRecord, *, station: Station, serial: str, actor: User) -> Issuance:
    """Start a card at a station that is ready for it; raise StationNotReadyError or PersonNotReadyError.

    What start_issuance refuses is refused under locks; what is asked here only spares a blank.
    """
    require(actor, "stations.issue_card", station)
    require_station(station, actor, record.bank_id)
    stopping: Sequence[Obstacle] = [found for found in obstacles(station) if found.stops]
    if stopping:
        raise StationNotReadyError(stopping[0].text, where=str(station), expected=stopping[0].advice)
    if reason := _not_ready(record):
        raise PersonNotReadyError("此人现在不能在制卡点制卡", got=reason)
    return start_issuance(record, station=station, serial=serial, actor=actor)


def show_face(issuance: Issuance, side: str = "back", *, actor: User) -> bytes:
    """Return a side that is being printed, for the operator to compare the card with.

    Each look at the back is audited; the front is nobody's.
    """
    require(actor, "stations.issue_card", issuance)
    with unit_of_work(actor) as work:
        if issuance.status not in SHOWN or side not in sides_to_print(issuance):
            raise FaceHiddenError("卡面只在打印和确认外观时显示", got=str(issuance.get_status_display()))
        if side == "front":
            return front_of(issuance)
        picture = face_of(issuance)
        work.record("issuance.face_viewed", issuance)
    return picture
