"""P4: a delivery list as a whole: the query, four sealed columns a card, the Excel file."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from typing import Any

from openpyxl import Workbook

from bench.compare import Comparison, Target, Variant
from bench.world import open_world

CARDS = 5000
CELLS = 12
OPENPYXL, QUERIED = "the same rows, openpyxl write-only", "query and decryption alone"
WRITER = "openpyxl write-only"


def comparisons() -> Iterator[Comparison]:
    """Compare the export with openpyxl's in whole, and the two writers alone."""
    open_world("bench_list")
    from production import delivery_list
    from tests.production.light import light_packed
    from tests.production.world import build_world

    batch = light_packed(build_world(), CARDS)
    deliveries = list(batch.deliveries.select_related(*_RELATED))

    def rows() -> Iterator[Sequence[str]]:
        for delivery in deliveries:
            yield from delivery_list.rows(delivery)

    def export() -> int:
        return _written(delivery_list.COLUMNS, rows())

    def exported_by_openpyxl() -> int:
        return _written_by_openpyxl(rows())

    def queried() -> int:
        return sum(1 for _ in rows())

    yield Comparison(
        "P4",
        f"delivery list of {CARDS:,} cards in whole",
        "cards",
        [
            Variant("ours", "query, decrypt, write", export),
            Variant("peer", OPENPYXL, exported_by_openpyxl),
            Variant("limit", QUERIED, queried),
        ],
        [Target(OPENPYXL, 2), Target(QUERIED, 0.6)],
    )
    table = [tuple(row) for row in rows()]
    yield Comparison(
        "P4",
        f"the writer alone, {CARDS:,} × {CELLS} text cells",
        "rows",
        [
            Variant("ours", "write_list", lambda: _written(delivery_list.COLUMNS, table)),
            Variant("peer", WRITER, lambda: _written_by_openpyxl(table)),
        ],
        [Target(WRITER, 5)],
    )


_RELATED = ("delivery_point", "batch__order__bank", "batch__order__contract__supplier")


def _written(columns: Any, rows: Any) -> int:
    from portal.core.sheets import write_list

    return write_list(io.BytesIO(), title="清单", columns=columns, rows=rows)


def _written_by_openpyxl(rows: Any) -> int:
    book = Workbook(write_only=True)
    sheet = book.create_sheet("清单")
    for row in rows:
        sheet.append(list(row))
    book.save(io.BytesIO())
    return CARDS
