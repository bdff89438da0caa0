"""P5: rows of cardholder records written in bulk, every constraint and index in force."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from typing import Any

from bench.compare import Comparison, Target, Variant
from bench.world import empty, open_world

ROWS = 5000
PEER, LIMIT = "bulk_create", "COPY BINARY through psycopg"
FIELDS = (
    "package_id", "row_number", "version", "status", "problem_codes", "number_index", "name_index",
    "card_number_index", "number_sealed", "name_sealed", "personal_sealed", "employer_code", "issue_kind",
    "card_kind", "photo_name", "unmatched_reason", "bank_id", "delivery_point_id", "created_at",
)  # fmt: skip
_TYPES = (
    "int8 int4 int2 varchar varchar[] bytea bytea bytea bytea bytea bytea varchar varchar varchar varchar "
    "varchar int8 int8 timestamptz"
).split()


def comparisons() -> Iterator[Comparison]:
    """Compare the bulk writer with bulk_create and with the bare protocol."""
    open_world("bench_bulk")
    rows = Rows()
    clear = partial(empty, ("orders_cardholderrecord",))
    variants = [
        Variant("ours", "copy_rows", rows.copied, clear),
        Variant("ours", "copy_insert, conflicts left out", rows.inserted, clear),
        Variant("peer", PEER, rows.created, clear),
        Variant("limit", LIMIT, rows.bare, clear),
    ]
    yield Comparison(
        "P5", f"{ROWS:,} cardholder records", "rows", variants, [Target(PEER, 5), Target(LIMIT, 0.7)]
    )


class Rows:
    """The same rows, and the ways to write them."""

    def __init__(self) -> None:
        from django.utils import timezone

        from orders.models import CardholderRecord, DeliveryPoint, Package
        from portal.models import Organisation, User

        package = Package.objects.create(number="P5", received_by=User.objects.system())
        bank = Organisation.objects.create(kind="bank", code="95588", name="银行", short_name="银行")
        point = DeliveryPoint.objects.create(bank=bank, code="B001", name="网点", address="佛山")
        self.model = CardholderRecord
        self.rows = list(_rows(package.pk, (bank.pk, point.pk), timezone.now()))

    def copied(self) -> int:
        """Write with our own COPY."""
        from portal.bulk import copy_rows

        return copy_rows(self.model, FIELDS, self.rows)

    def inserted(self) -> int:
        """Write through a temporary table, as intake does to leave out who is in production."""
        from portal.bulk import copy_insert

        return len(copy_insert(self.model, FIELDS, self.rows, on_conflict_do_nothing=True))

    def created(self) -> int:
        """Write as Django does; building the instances is part of it."""
        instances = [self.model(**dict(zip(FIELDS, row, strict=True))) for row in self.rows]
        return len(self.model.objects.bulk_create(instances, batch_size=1000))

    def bare(self) -> int:
        """Write with psycopg's COPY and nothing else."""
        from django.db import connection, transaction

        statement = f"COPY {self.model._meta.db_table} ({', '.join(FIELDS)}) FROM STDIN (FORMAT BINARY)"
        with transaction.atomic(), connection.cursor() as wrapper, wrapper.cursor.copy(statement) as copy:
            copy.set_types(_TYPES)
            for row in self.rows:
                copy.write_row(row)
        return len(self.rows)


def _rows(package_id: int, point: tuple[int, int], now: Any) -> Iterator[tuple[Any, ...]]:
    for number in range(1, ROWS + 1):
        indexes = (os.urandom(32), os.urandom(32), os.urandom(32))
        sealed = (os.urandom(46), os.urandom(37), os.urandom(250))
        state = (package_id, number, 1, "accepted", [])
        yield *state, *indexes, *sealed, "91440600MA4UTEST01", "first", "finished", "", "", *point, now
