"""One lock for each bank: loading accounts, matching and ordering of a bank never overlap."""

from __future__ import annotations

from collections.abc import Iterable

from portal.models import Organisation


def lock_banks(banks: Iterable[int]) -> list[Organisation]:
    """Lock banks until the commit, always in the same order.

    NO KEY UPDATE: rows that merely refer to the bank, such as a package being taken in, do not wait.
    """
    found = Organisation.objects.select_for_update(no_key=True).filter(pk__in=list(banks)).order_by("pk")
    return list(found)


def lock_bank(bank: Organisation) -> Organisation:
    """Lock one bank until the commit."""
    return lock_banks([bank.pk])[0]
