"""Cut records.csv into sealed chunks, which tasks check in parallel; raw rows are nowhere in clear (R-45)."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, NamedTuple, cast

import orjson

from orders.dictionary import COLUMN_CODES
from orders.models import IntakeChunk, Package
from orders.personal import number_index
from orders.services.unpacking import MAX_RECORDS, RECORDS, Manifest, Members
from portal import files
from portal.bulk import copy_rows
from portal.core.idnumbers import normalise_number
from portal.core.rows import Row, iter_csv
from portal.core.seal import SealedReader
from portal.core.ziptable import open_entry

CHUNK_ROWS = 1000
CHUNK_BYTES = 1 << 20
MAX_CELL = 20_000
_FIELDS = ("package_id", "part", "row_count", "sealed_rows")


class SourceRow(NamedTuple):
    """One row as received: cells in the order of COLUMN_CODES, None where the line was too short.

    `first_row` is the row of the same person further up, 0 if there is none; `number_index` the blind index
    of the number, in hex.
    """

    number: int
    cells: list[str | None]
    surplus: int
    flaw: str
    first_row: int
    number_index: str

    def by_column(self) -> dict[Any, Any]:
        """Return the row as `csv.DictReader` would: what `validate_row` takes."""
        row: dict[Any, Any] = dict(zip(COLUMN_CODES, self.cells))  # noqa: B905 - cut_rows made them as many
        if self.surplus > 0:
            row[None] = [""] * self.surplus
        return row

    def source(self) -> dict[str, str]:
        """Return the cells by column code, for the correction of a returned row."""
        return {code: cell or "" for code, cell in zip(COLUMN_CODES, self.cells, strict=True)}

    @property
    def number_text(self) -> str:
        """Return AAC002 as received, cut where `validate_row` cuts it."""
        return _number_text(self.cells)


@dataclass(slots=True)
class Cut:
    """How many rows and chunks were written."""

    rows: int = 0
    parts: int = 0


def cut_rows(package: Package, payload: SealedReader, members: Members, manifest: Manifest) -> Cut:
    """Write the table as sealed chunks; memory: one chunk, and eight bytes to tell each person again."""
    blocks = open_entry(cast("BinaryIO", payload), members.found[RECORDS], MAX_RECORDS)
    table = iter_csv(blocks, encoding=manifest.encoding, required_columns=COLUMN_CODES, max_cell=MAX_CELL)
    cut = Cut()
    copy_rows(IntakeChunk, _FIELDS, _chunks(package, _source_rows(table), cut))
    return cut


def open_chunk(package: Package, chunk: IntakeChunk) -> list[SourceRow]:
    """Return a chunk's rows."""
    sealed = files.cipher(package.key_id).open(bytes(chunk.sealed_rows), _context(package, chunk.part))
    return [SourceRow(*row) for row in orjson.loads(zlib.decompress(sealed))]


def _source_rows(table: Iterator[Row]) -> Iterator[SourceRow]:
    seen: dict[int, int] = {}
    indexer = files.blind_index()
    for place, row in enumerate(table, start=1):
        value = row.values.get
        cells = [cell and cell[:MAX_CELL] for cell in map(value, COLUMN_CODES)]
        number = _number_text(cells)
        index = number_index(number, indexer)
        first = _first_row(seen, index, place) if number else 0
        yield SourceRow(place, cells, max(0, row.surplus), row.flaw, first, index.hex())


def _number_text(cells: list[str | None]) -> str:
    return normalise_number((cells[1] or "")[:64])


def _first_row(seen: dict[int, int], index: bytes, place: int) -> int:
    """Tell where this person stood first; eight bytes of the index suffice and keep 100,000 people small."""
    first = seen.setdefault(int.from_bytes(index[:8], "big"), place)
    return 0 if first == place else first


def _chunks(package: Package, rows: Iterator[SourceRow], cut: Cut) -> Iterator[tuple[Any, ...]]:
    waiting: list[SourceRow] = []
    size = 0
    for row in rows:
        waiting.append(row)
        size += sum(map(len, filter(None, row.cells)))
        if len(waiting) == CHUNK_ROWS or size >= CHUNK_BYTES:
            yield _chunk(package, waiting, cut)
            waiting, size = [], 0
    if waiting:
        yield _chunk(package, waiting, cut)


def _chunk(package: Package, rows: list[SourceRow], cut: Cut) -> tuple[Any, ...]:
    part = cut.parts
    content = zlib.compress(orjson.dumps([tuple(row) for row in rows]), 1)
    cut.rows += len(rows)
    cut.parts += 1
    sealed = files.cipher(package.key_id).seal(content, _context(package, part))
    return package.pk, part, len(rows), sealed


def _context(package: Package, part: int) -> bytes:
    return f"orders.intakechunk/{package.pk}/{part}".encode()
