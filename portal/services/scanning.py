"""Scan what the portal keeps for traces of people: tables, Redis, files, dumps, temporary files (R-22)."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Self, cast

import redis
from django.conf import settings
from django.db import connection
from psycopg import Cursor, sql

from portal import embedded
from portal.core.errors import PortalError
from portal.core.traces import BLOCK, Finder, Trace, scan_file

_TABLES = """
SELECT c.relname, array_agg(a.attname::text ORDER BY a.attnum), n.nspname
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE c.relkind IN ('r', 'p', 'm') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
  AND NOT c.relispartition
GROUP BY n.nspname, c.relname ORDER BY n.nspname, c.relname
"""

Told = Callable[[str], None]


class DumpUnreadableError(PortalError):
    """A database dump that pg_restore cannot read, or no pg_restore."""

    code = "dump_unreadable"


@dataclass(slots=True)
class Scan:
    """What a scan went through and found."""

    finder: Finder
    told: Told
    traces: list[Trace] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)
    tables: int = 0
    rows: int = 0
    keys: int = 0
    files: int = 0

    def database(self) -> None:
        """Search every column of every row of every table, streamed."""
        with connection.cursor() as cursor:
            cursor.execute(_TABLES)
            tables = cursor.fetchall()
        for name, columns, schema in tables:
            self.told(f"数据库 {name}")
            self.tables += 1
            self.traces += self._table(schema, name, columns)

    def redis(self, url: str) -> None:
        """Search every key of every kind, and its name."""
        with closing(redis.Redis.from_url(url)) as client:
            for key in client.scan_iter(count=1000):
                self.keys += 1
                self.traces += self._key(client, key)
        self.told(f"Redis {self.keys} 个键")

    def paths(self, roots: Iterable[Path]) -> None:
        """Search files and folders; what cannot be read is noted, for its absence is not proven."""
        seen: set[tuple[int, int]] = set()
        for path in (path for root in roots for path in files_below(root)):
            try:
                status = path.stat()
                if (status.st_dev, status.st_ino) in seen:
                    continue
                seen.add((status.st_dev, status.st_ino))
                self.files += 1
                self.traces += scan_file(path, self.finder, open_dump=open_dump)
            except FileNotFoundError:  # removed meanwhile
                continue
            except (OSError, DumpUnreadableError) as exc:
                self.unread.append(f"{path}: {type(exc).__name__}")
            if self.files % 1000 == 0:
                self.told(f"文件 {self.files} 个")

    def _table(self, schema: str, name: str, columns: list[str]) -> Iterator[Trace]:
        statement = sql.SQL("COPY (SELECT * FROM {}) TO STDOUT").format(sql.Identifier(schema, name))
        with connection.cursor() as wrapper, cast("Cursor[Any]", wrapper.cursor).copy(statement) as copy:
            for lines in _batches(bytes(part) for part in copy):
                self.rows += len(lines)
                if self.finder.find(_plain(b"".join(lines))):
                    for line in lines:
                        yield from self._row(name, columns, line)

    def _row(self, table: str, columns: list[str], line: bytes) -> Iterator[Trace]:
        cells = line.rstrip(b"\n").split(b"\t")
        row = f" {columns[0]}={cells[0].decode()}" if cells[0].isdigit() and len(cells[0]) < 16 else ""
        for column, cell in zip(columns, cells, strict=True):
            for number, form in self.finder.find(_plain(cell)):
                yield Trace(f"数据库 {table}.{column}{row}", self.finder.label(number), form)

    def _key(self, client: Any, key: bytes) -> Iterator[Trace]:
        for number, form in self.finder.find(key):
            yield Trace("Redis …（键名）", self.finder.label(number), form)
        for value in _values(client, key):
            for number, form in self.finder.find(value):
                yield Trace(f"Redis {key.decode('utf-8', 'replace')}", self.finder.label(number), form)


def _batches(parts: Iterable[bytes]) -> Iterator[list[bytes]]:
    """Yield rows of COPY's text, about BLOCK bytes at a time."""
    lines: list[bytes] = []
    size, rest = 0, b""
    for part in parts:
        *whole, rest = (rest + part).split(b"\n")
        lines += [line + b"\n" for line in whole]
        size += len(part)
        if size >= BLOCK:
            yield lines
            lines, size = [], 0
    if lines:
        yield lines


def _plain(text: bytes) -> bytes:
    """Undo COPY's doubled backslashes, which would part the characters of JSON's escapes."""
    return text.replace(b"\\\\", b"\\")


def _values(client: Any, key: bytes) -> Iterator[bytes]:
    readers: dict[bytes, Callable[[], Iterable[Any]]] = {
        b"string": lambda: [client.get(key) or b""],
        b"hash": lambda: [part for pair in client.hscan_iter(key) for part in pair],
        b"list": lambda: client.lrange(key, 0, -1),
        b"set": lambda: client.sscan_iter(key),
        b"zset": lambda: (member for member, _score in client.zscan_iter(key)),
        b"stream": lambda: [
            part for _id, pairs in client.xrange(key) for pair in pairs.items() for part in pair
        ],
    }
    for value in readers.get(client.type(key), list)():
        yield bytes(value)
        try:
            yield zlib.decompress(value)
        except zlib.error:
            continue


def files_below(root: Path) -> Iterator[Path]:
    """Yield regular files, links not followed."""
    if root.is_file() and not root.is_symlink():
        yield root
        return
    for folder, _folders, names in os.walk(root):
        for name in sorted(names):
            path = Path(folder) / name
            if path.is_file() and not path.is_symlink():
                yield path


def open_dump(path: Path) -> BinaryIO:
    """Return a dump in PostgreSQL's own format as plain SQL, streamed by pg_restore."""
    program = embedded.postgres_programs() / "pg_restore"
    found = str(program) if program.exists() else shutil.which("pg_restore")
    if not found:
        raise DumpUnreadableError("没有 pg_restore，无法读取数据库备份", where=str(path))
    process = subprocess.Popen(
        [found, "-f", "-", str(path)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    return cast("BinaryIO", _Restored(process, path))


class _Restored:
    """The output of pg_restore; an error of the program is one of the reader."""

    def __init__(self, process: subprocess.Popen[bytes], path: Path) -> None:
        self._process = process
        self._path = path
        assert process.stdout is not None
        self._out = process.stdout

    def read(self, size: int) -> bytes:
        """Return the next bytes; raise DumpUnreadableError where the dump breaks off."""
        found = self._out.read(size)
        if not found and self._process.wait():
            raise DumpUnreadableError("数据库备份无法读取", where=str(self._path))
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._out.close()
        self._process.kill()
        self._process.wait()


def default_roots() -> dict[str, list[Path]]:
    """Return the folders of each kind of place that a scan goes through by default."""
    return {
        "files": [Path(settings.FILES_DIR), Path(settings.INTAKE_DIR)],
        "var": [Path(settings.VAR_DIR)],
        "temp": [Path(tempfile.gettempdir())],
    }


PLACES = ("database", "redis", "files", "var", "temp")


def run_scan(scan: Scan, *, places: Iterable[str] = PLACES, paths: Iterable[Path] = ()) -> Scan:
    """Go through the chosen places and the given paths; return the scan with what it found."""
    chosen, roots = set(places), default_roots()
    steps: dict[str, Callable[[], None]] = {
        "database": scan.database,
        "redis": partial(scan.redis, settings.REDIS_URL),
    }
    for name in PLACES:
        if name in chosen and name in steps:
            steps[name]()
    scan.paths([*(root for name in PLACES if name in chosen for root in roots.get(name, [])), *paths])
    return scan
