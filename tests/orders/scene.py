"""A small programme for tests of the orders app: purchaser, suppliers, banks, and records to match."""

from __future__ import annotations

import datetime as dt
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from django.utils import timezone
from stdnum.iso7064 import mod_11_2

from orders import personal
from orders.choices import CardKind, ContractStatus, IssueKind, PackageStatus, RecordStatus
from orders.models import BankProfile, CardholderRecord, Contract, DeliveryPoint, Package
from portal.bulk import next_ids
from portal.choices import OrganisationKind, Role
from portal.core.keystore import KeyPurpose
from portal.files import cipher, keystore
from portal.models import Organisation, User

TODAY = dt.date(2026, 11, 23)
MORNING = dt.datetime(2026, 11, 23, 1, 0, tzinfo=dt.UTC)


def person_number(serial: int) -> str:
    """Return a valid number no other serial has."""
    day = dt.date(1960, 1, 1) + dt.timedelta(days=serial // 900)
    body = f"440604{day:%Y%m%d}{serial % 900 + 1:03d}"
    return body + str(mod_11_2.calc_check_digit(body))


def account_of(serial: int) -> str:
    """Return a bank card number no other serial has."""
    return f"6222020000{serial:09d}"


@dataclass
class Person:
    """Somebody with a record to be made."""

    number: str
    name: str
    account: str

    def row(self) -> list[str]:
        """Return the person as a row of an account file."""
        return [self.number, self.name, self.account]


def person(serial: int) -> Person:
    """Return the same person for the same serial."""
    letters = "张王李赵陈杨黄周吴徐"
    return Person(
        person_number(serial), f"{letters[serial % 10]}样{letters[serial // 10 % 10]}", account_of(serial)
    )


@dataclass
class Scene:
    """The programme's organisations and users, and the package its records belong to."""

    purchaser: Organisation
    clerk: User
    approver: User
    suppliers: list[Organisation]
    banks: list[Organisation]
    bank_clerks: list[User]
    contracts: list[Contract]
    package: Package
    rows: int = field(default=0)

    def add_records(
        self,
        people: Sequence[Person],
        bank: Organisation,
        *,
        card_kind: str = CardKind.FINISHED,
        package: Package | None = None,
    ) -> list[CardholderRecord]:
        """Store accepted records as intake leaves them."""
        package = package or self.package
        seal = cipher(package.key_id)
        point = bank.delivery_points.get()
        records = []
        for pk, each in zip(next_ids(CardholderRecord, len(people)), people, strict=True):
            self.rows += 1
            records.append(
                CardholderRecord(
                    pk=pk,
                    package=package,
                    row_number=self.rows,
                    status=RecordStatus.ACCEPTED,
                    number_index=personal.number_index(each.number),
                    name_index=personal.name_index(each.name),
                    card_number_index=personal.card_number_index(f"K{each.number}"),
                    number_sealed=personal.seal(seal, pk, 1, "number", each.number),
                    name_sealed=personal.seal(seal, pk, 1, "name", each.name),
                    bank=bank,
                    delivery_point=point,
                    issue_kind=IssueKind.FIRST,
                    card_kind=card_kind,
                )
            )
        return CardholderRecord.objects.bulk_create(records)

    def add_matched(
        self,
        people: Sequence[Person],
        bank: Organisation,
        *,
        card_kind: str = CardKind.FINISHED,
        matched_at: dt.datetime = MORNING,
    ) -> list[CardholderRecord]:
        """Store records as matching leaves them."""
        records = self.add_records(people, bank, card_kind=card_kind)
        for record, each in zip(records, people, strict=True):
            record.account_sealed = personal.seal_column(record, "account", each.account)
            record.status, record.matched_at = RecordStatus.MATCHED, matched_at
        CardholderRecord.objects.bulk_update(records, ["account_sealed", "status", "matched_at"])
        return records


def make_user(name: str, organisation: Organisation, *roles: str) -> User:
    """Create somebody who signs in with these roles."""
    return User.objects.create(username=name, organisation=organisation, roles=list(roles))


def make_organisation(kind: str, code: str) -> Organisation:
    """Create an organisation named by its code."""
    return Organisation.objects.create(kind=kind, code=code, name=f"{code}样例单位", short_name=code)


def make_bank(code: str) -> Organisation:
    """Create a bank with its profile and one delivery point."""
    bank = make_organisation(OrganisationKind.BANK, code)
    BankProfile.objects.create(organisation=bank)
    DeliveryPoint.objects.create(bank=bank, code=f"{code}-01", name=f"{code}一支行", address="样例路1号")
    return bank


def make_contract(supplier: Organisation, lot: int, **values: Any) -> Contract:
    """Create an active contract of a lot, at its caps unless told otherwise."""
    caps = {1: (1_375_000, "13750000"), 2: (825_000, "8250000"), 3: (550_000, "5500000")}[lot]
    defaults: dict[str, Any] = {
        "number": f"HT-{lot}",
        "lot": lot,
        "supplier": supplier,
        "quantity_cap": caps[0],
        "budget": Decimal(caps[1]),
        "finished_price": Decimal("9.80"),
        "face_fee": Decimal("1.30"),
        "signed_on": dt.date(2025, 3, 3),
        "status": ContractStatus.ACTIVE,
    }
    contract = Contract.objects.create(**{**defaults, **values})
    contract.refresh_from_db()
    return contract


def make_package(sender: Organisation, actor: User, number: str = "P1") -> Package:
    """Create a validated package with its column key; its counts are of no interest here."""
    return Package.objects.create(
        number=number,
        sender=sender,
        file_name=f"{number}.zip",
        status=PackageStatus.VALIDATED,
        key_id=keystore().create(KeyPurpose.PACKAGE, number),
        received_by=actor,
        record_count=0,
        accepted_count=0,
        returned_count=0,
        validated_at=timezone.now(),
    )


def make_scene(banks: int = 2) -> Scene:
    """Set the programme up."""
    purchaser = make_organisation(OrganisationKind.PURCHASER, "GOV")
    clerk = make_user("clerk", purchaser, Role.PURCHASER_CLERK)
    suppliers = [make_organisation(OrganisationKind.SUPPLIER, f"SUP{lot}") for lot in (1, 2)]
    found = [make_bank(f"BANK{place}") for place in range(1, banks + 1)]
    return Scene(
        purchaser=purchaser,
        clerk=clerk,
        approver=make_user("approver", purchaser, Role.PURCHASER_APPROVER),
        suppliers=suppliers,
        banks=found,
        bank_clerks=[make_user(f"clerk-{bank.code}", bank, Role.BANK_CLERK) for bank in found],
        contracts=[make_contract(supplier, lot) for lot, supplier in enumerate(suppliers, 1)],
        package=make_package(purchaser, clerk),
    )


def csv_file(rows: Sequence[Sequence[str]], head: Sequence[str] = ("证件号码", "户名", "账号")) -> io.BytesIO:
    """Write rows as an account file in CSV."""
    lines = [",".join(cells) for cells in (head, *rows)]
    return io.BytesIO("\r\n".join([*lines, ""]).encode())
