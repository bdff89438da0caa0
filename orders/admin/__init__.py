"""Admin of the orders app: one module for each part of the work."""

from orders.admin import (
    account_packages,
    accounts,
    calendar,
    ordering,
    packages,
    programme,
    records,
    senders,
)

__all__ = [
    "account_packages",
    "accounts",
    "calendar",
    "ordering",
    "packages",
    "programme",
    "records",
    "senders",
]
