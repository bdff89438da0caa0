"""Set up the invented programme: who takes part, on which contract, with which blanks. Repeatable."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import Decimal

from django.conf import settings
from django.utils import timezone

from orders.choices import ContractStatus, SortOrder
from orders.models import BankProfile, Contract, DeliveryPoint, SenderKey, SupplierChoice
from orders.models.programme import LOTS
from orders.services.calendar import seed_calendar
from orders.services.contracts import activate_contract
from orders.services.ordering import choose_supplier
from portal.choices import OrganisationKind, Role
from portal.core.clock import today
from portal.core.crypto import Sm2PrivateKey
from portal.core.errors import PortalError
from portal.files import keystore
from portal.models import Organisation, User
from portal.samples.banks import BANKS, DELIVERY_POINTS, SUPPLIERS, SupplierSpec
from portal.samples.layouts import LAYOUTS
from production.models import RosterMember, StockLocation, StockLot
from production.services.stock import receive_lot
from stations.models import Station, StationBlank
from stations.services.blanks import decide_blanks, request_blanks

DEMO_PASSWORD = "foshan-demo-2026"  # noqa: S105 - invented people only; refused in production
PURCHASER = ("PURCHASER", "佛山市人力资源和社会保障局（演示）", "采购人")
PROVINCE = ("GD-CARD", "省社会保障卡管理系统（演示）", "省卡系统")
SHORT_NAMES = dict(
    zip(
        (bank.code for bank in BANKS),
        "工商银行 农业银行 中国银行 建设银行 交通银行 光大银行 广发银行 招商银行 顺德农商银行 佛山农商银行 "
        "南海农商银行 平安银行 华润银行 中信银行 广州银行 兴业银行 邮储银行 浙商银行".split(),
        strict=True,
    )
)
SORT_ORDERS = (SortOrder.EMPLOYER, SortOrder.NUMBER, SortOrder.RECEIVED)
PRICES = {1: ("9.60", "1.20"), 2: ("9.80", "1.25"), 3: ("9.75", "1.10")}
LOT_OF_BLANKS = 40_000
COUNTER_BANK = BANKS[0].code
COUNTER_BLANKS = 20
SEALING_BANK = BANKS[0].code
"""The bank that sends its account files sealed; the others upload them."""


@dataclass
class Programme:
    """The cast, as the demo's steps need it."""

    province: Organisation
    province_key: Sm2PrivateKey = field(repr=False)
    bank_key: Sm2PrivateKey = field(repr=False)  # of the bank that seals its account files
    users: dict[str, User] = field(default_factory=dict)
    banks: dict[str, Organisation] = field(default_factory=dict)
    contracts: list[Contract] = field(default_factory=list)

    def person(self, role: str, organisation: Organisation | None = None, number: int = 1) -> User:
        """Return the demo user of a role at an organisation."""
        return self.users[username(role, organisation, number)]


def username(role: str, organisation: Organisation | None, number: int = 1) -> str:
    """Name a demo account: role, organisation and, from the second on, a number."""
    where = f".{organisation.code.lower()}" if organisation and organisation.kind != "purchaser" else ""
    return f"{role}{where}{number if number > 1 else ''}"


def set_up(blanks_needed: int) -> Programme:
    """Create what is missing of the programme and return it; a second call changes nothing but stock."""
    if settings.PRODUCTION:
        raise PortalError("演示数据不能写入生产环境", expected="PORTAL_ENV=development", got="production")
    seed_calendar(range(today().year - 1, today().year + 3))
    purchaser = _organisation(OrganisationKind.PURCHASER, *PURCHASER)
    province = _organisation(OrganisationKind.PROVINCE, *PROVINCE)
    store = keystore()
    programme = Programme(province, store.ensure_sm2("demo-province"), store.ensure_sm2("demo-bank"))
    _public_key(province, programme.province_key)
    _user(programme, Role.CARD_SYSTEM, province, "省卡系统接口")
    _purchaser_people(programme, purchaser)
    for spec in SUPPLIERS:
        programme.contracts.append(_supplier(programme, spec, blanks_needed))
    for position, bank in enumerate(BANKS):
        _bank(programme, position, bank.code, bank.name)
    _public_key(programme.banks[SEALING_BANK], programme.bank_key)
    _station(programme)
    return programme


def _organisation(kind: str, code: str, name: str, short_name: str) -> Organisation:
    organisation, _ = Organisation.objects.get_or_create(
        code=code, defaults={"kind": kind, "name": name, "short_name": short_name}
    )
    return organisation


def _public_key(organisation: Organisation, key: Sm2PrivateKey) -> None:
    now = timezone.now()
    SenderKey.objects.get_or_create(
        organisation=organisation,
        public_key=key.public.to_pem(),
        defaults={"valid_from": now - timedelta(days=1), "valid_until": now + timedelta(days=730)},
    )


def _user(programme: Programme, role: str, organisation: Organisation, label: str, number: int = 1) -> User:
    name = username(role, organisation, number)
    user, created = User.objects.get_or_create(
        username=name,
        defaults={"organisation": organisation, "roles": [role], "last_name": label, "is_staff": True},
    )
    if created:
        user.set_password(DEMO_PASSWORD)
        user.save(update_fields=["password"])
    programme.users[name] = user
    return user


def _purchaser_people(programme: Programme, purchaser: Organisation) -> None:
    for role in (
        Role.PURCHASER_CLERK,
        Role.PURCHASER_APPROVER,
        Role.SYSTEM_ADMINISTRATOR,
        Role.SECURITY_ADMINISTRATOR,
        Role.AUDITOR,
        Role.COUNTER_OPERATOR,
        Role.COUNTER_SUPERVISOR,
    ):
        _user(programme, role, purchaser, str(role.label))
    # The second of two people where two security administrators are needed: keys, roles, second factors.
    _user(programme, Role.SECURITY_ADMINISTRATOR, purchaser, f"{Role.SECURITY_ADMINISTRATOR.label}2", 2)


def _supplier(programme: Programme, spec: SupplierSpec, blanks_needed: int) -> Contract:
    supplier = _organisation(OrganisationKind.SUPPLIER, spec.code, spec.name, spec.name[:2])
    for role, count in (
        (Role.SUPPLIER_PLANNER, 1),
        (Role.SUPPLIER_OPERATOR, 2),
        (Role.SUPPLIER_QUALITY, 2),
        (Role.WAREHOUSE_KEEPER, 2),
    ):
        for number in range(1, count + 1):
            _user(programme, role, supplier, f"{supplier.short_name}{role.label}{number}", number)
    contract = _contract(programme, spec, supplier)
    for member in spec.roster:
        RosterMember.objects.get_or_create(
            contract=contract, name=member.name, defaults={"position": member.position}
        )
    _blanks(programme, contract, blanks_needed)
    return contract


def _contract(programme: Programme, spec: SupplierSpec, supplier: Organisation) -> Contract:
    quantity, budget = LOTS[spec.lot]
    finished, face = PRICES[spec.lot]
    contract, _ = Contract.objects.get_or_create(
        number=f"FS-SSC-2026-0{spec.lot}",
        defaults={
            "lot": spec.lot,
            "supplier": supplier,
            "quantity_cap": quantity,
            "budget": budget,
            "finished_price": Decimal(finished),
            "face_fee": Decimal(face),
            "signed_on": date(2026, 1, 15),
        },
    )
    if contract.status == ContractStatus.DRAFT:
        contract = activate_contract(contract, actor=User.objects.system())
    return contract


def _blanks(programme: Programme, contract: Contract, needed: int) -> None:
    """Keep enough blanks in stock for this run: lots are added, never changed."""
    lots = StockLot.objects.filter(contract=contract)
    left = sum(lot.quantity - lot.next_offset for lot in lots)
    if left >= needed:
        return
    number = lots.count() + 1
    receive_lot(
        contract,
        number=f"{contract.supplier.code}-BK{number:04d}",
        serial_prefix=f"{contract.supplier.code}{number:02d}",
        first_serial=1,
        quantity=max(LOT_OF_BLANKS, needed),
        received_on=today(),
        actor=programme.person(Role.WAREHOUSE_KEEPER, contract.supplier),
    )
    assert StockLocation.objects.filter(contract=contract).exists()


def _bank(programme: Programme, position: int, code: str, name: str) -> None:
    bank = _organisation(OrganisationKind.BANK, code, name, SHORT_NAMES[code])
    programme.banks[code] = bank
    clerk = _user(programme, Role.BANK_CLERK, bank, f"{bank.short_name}经办")
    layout = LAYOUTS[code]
    BankProfile.objects.get_or_create(
        organisation=bank,
        defaults={
            "sort_order": SORT_ORDERS[position % len(SORT_ORDERS)],
            "account_layout": {"header_row": layout.header_row, "columns": layout.mapping},
        },
    )
    for point in (p for p in DELIVERY_POINTS.values() if p.bank_code == code):
        DeliveryPoint.objects.get_or_create(
            bank=bank, code=point.code, defaults={"name": point.name, "address": point.address}
        )
    if not SupplierChoice.objects.filter(bank=bank).exists():
        # Each bank decides by quality, service and price; the demo spreads them over the three lots.
        contract = programme.contracts[(0, 0, 0, 1, 1, 2)[position % 6]]
        choose_supplier(
            bank, contract, valid_from=date(2026, 1, 15), reason="演示：质量、服务与价格综合", actor=clerk
        )


def _station(programme: Programme) -> None:
    """Set a bank's counter up: its people and a station with blanks in the drawer, handed out by two."""
    bank = programme.banks[COUNTER_BANK]
    operator = _user(programme, Role.COUNTER_OPERATOR, bank, f"{bank.short_name}柜员")
    supervisor = _user(programme, Role.COUNTER_SUPERVISOR, bank, f"{bank.short_name}柜台主管")
    assert operator.organisation == supervisor.organisation
    station, _ = Station.objects.get_or_create(
        code="demo-1",
        defaults={"name": "演示制卡点", "place": "佛山市禅城区（演示）", "operator": bank},
    )
    held = StationBlank.objects.filter(station=station, status="available").count()
    if held >= COUNTER_BLANKS or station.operator_id != bank.pk:
        return
    contract = SupplierChoice.objects.filter(bank=bank).latest("pk").contract
    lot = StockLot.objects.filter(contract=contract).latest("pk")
    request = request_blanks(station, lot, COUNTER_BLANKS - held, actor=supervisor)
    keeper = programme.person(Role.WAREHOUSE_KEEPER, contract.supplier)
    decide_blanks(request, approve=True, actor=keeper)
