"""Models of the orders app: contracts, banks, packages, account files, records and orders."""

from orders.models.accounts import AccountFile, AccountPackage, AccountRow
from orders.models.calendar import WorkCalendarDay
from orders.models.ordering import Order, SupplierChoice
from orders.models.packages import IntakeChunk, Package, PackagePhoto, SenderKey
from orders.models.programme import BankProfile, Contract, DeliveryPoint
from orders.models.records import CardholderRecord

__all__ = [
    "AccountFile",
    "AccountPackage",
    "AccountRow",
    "BankProfile",
    "CardholderRecord",
    "Contract",
    "DeliveryPoint",
    "IntakeChunk",
    "Order",
    "Package",
    "PackagePhoto",
    "SenderKey",
    "SupplierChoice",
    "WorkCalendarDay",
]
