"""Find traces of people in any bytes: thousands of values at once, in every usual encoding (R-22, R-45).

Knows no database and no settings. A hit says where and what kind of value, never the value.
"""

from __future__ import annotations

import base64
import binascii
import gzip
import io
import re
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import BinaryIO, cast

from ahocorasick_rs import BytesAhoCorasick, Implementation

from portal.core.crypto import sm3
from portal.core.trace_forms import Form, Needle, forms

BLOCK = 1 << 20
OVERLAP = 4096
MOST_PHOTO = 4 << 20
MOST_INFLATED = 64 << 20
MOST_MEMBERS = 100_000
MOST_DEFLATED = 256
_DEEPEST = 3
_HEX = re.compile(rb"[0-9A-Fa-f]{12,}")
_BASE64 = re.compile(rb"[A-Za-z0-9+/_-]{8,}")
_MIME = re.compile(rb"(?:[A-Za-z0-9+/]{60,}\r?\n)+[A-Za-z0-9+/]*")
_DEFLATED = re.compile(rb"\x78[\x01\x5e\x9c\xda]|\x1f\x8b\x08")
_LINE_ENDS = re.compile(rb"[\r\n]+")
_SHORT_RUN = 4096
_COPY = re.compile(rb"(?:^|\n)COPY ([^ \n]+) \(")


@dataclass(frozen=True, slots=True)
class Trace:
    """One place where something was found."""

    where: str
    label: str
    form: str = ""

    def __str__(self) -> str:
        return f"{self.where}  {self.label}" + (f"（{self.form}）" if self.form else "")


class Finder:
    """An automaton over all spellings of all needles, and the digests of whole photos."""

    def __init__(self, needles: Sequence[Needle], *, digests: Iterable[tuple[str, bytes]] = ()) -> None:
        """Take needles to search for and (label, SM3 digest) of whole files."""
        self.needles = list(needles)
        self.digests = {digest: label for label, digest in digests}
        named = [Needle(f"{label}（摘要）", digest) for digest, label in self.digests.items()]
        self.needles += named
        every = [form for number, needle in enumerate(self.needles) for form in forms(number, needle)]
        self._strong = _Automaton([form for form in every if not form.is_weak])
        self._weak = _Automaton([form for form in every if form.is_weak])

    def find(self, block: bytes) -> set[tuple[int, str]]:
        """Return (needle, form) of everything in a block, hexadecimal, Base64 and deflate undone."""
        return self._find(block, "", 0)

    def label(self, number: int) -> str:
        """Return what a needle is."""
        return self.needles[number].label

    def whole(self, content: bytes) -> str | None:
        """Return the label of the photo that a whole content is, if it is one."""
        return self.digests.get(sm3(content)) if self.digests else None

    def _find(self, block: bytes, wrapped: str, depth: int) -> set[tuple[int, str]]:
        found = {(form.needle, f"{wrapped}{form.name}") for form in self._strong.find(block)}
        if self._weak and _is_text(block):
            found |= {(form.needle, f"{wrapped}{form.name}") for form in self._weak.find(block)}
        if depth < _DEEPEST:
            for name, inner in _unwrapped(block):
                found |= self._find(inner, f"{name} ", depth + 1)
        return found


class _Automaton:
    """Patterns searched for together."""

    def __init__(self, patterns: Sequence[Form]) -> None:
        self._by_pattern: dict[bytes, list[Form]] = {}
        for form in patterns:
            self._by_pattern.setdefault(form.pattern, []).append(form)
        self._patterns = list(self._by_pattern)
        # Of the three, this one is quick enough and stays below 150 MB with 30,000 patterns.
        kind = Implementation.ContiguousNFA
        self._automaton = BytesAhoCorasick(self._patterns, implementation=kind) if self._patterns else None

    def __bool__(self) -> bool:
        return self._automaton is not None

    def find(self, block: bytes) -> Iterator[Form]:
        """Yield every form that occurs."""
        if self._automaton is None:
            return
        hits = {hit[0] for hit in self._automaton.find_matches_as_indexes(block, overlapping=True)}
        for number in hits:
            yield from self._by_pattern[self._patterns[number]]


def _is_text(block: bytes) -> bool:
    """Say whether bytes are text in UTF-8 or GB18030, whatever their cut edges."""
    if b"\0" in block:
        return False
    for code in ("utf-8", "gb18030"):
        for start in range(4):
            try:
                block[start : len(block) - 4 or None].decode(code)
            except UnicodeDecodeError as exc:
                if exc.end >= len(block) - start - 8:  # only the last character is cut
                    return True
                continue
            return True
    return False


def _unwrapped(block: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield what hexadecimal, Base64 and deflated stretches of a block hold."""
    for run in _HEX.finditer(block):
        digits = run.group()
        # At the block's start a run may be cut between the two digits of a byte.
        for start in (0, 1) if len(digits) % 2 or not run.start() else (0,):
            cut = digits[start : start + (len(digits) - start) // 2 * 2]
            yield "十六进制", binascii.unhexlify(cut)
    for run in _BASE64.finditer(block):
        # A long run was written on its own; a short one may begin behind other letters.
        for start in range(4 if run.end() - run.start() <= _SHORT_RUN or not run.start() else 1):
            yield "Base64", _decoded(run.group()[start:])
    for run in _MIME.finditer(block):
        yield "Base64", _decoded(_LINE_ENDS.sub(b"", run.group()))
    for head in islice(_DEFLATED.finditer(block), MOST_DEFLATED):
        if inflated := inflate(block[head.start() :]):
            yield "压缩", inflated


_URL_SAFE = bytes.maketrans(b"-_", b"+/")


def _decoded(letters: bytes) -> bytes:
    """Return what Base64 letters of either alphabet stand for, padding left out or not."""
    whole = letters[:-1] if len(letters) % 4 == 1 else letters
    return base64.b64decode(whole.translate(_URL_SAFE) + b"=" * (-len(whole) % 4))


def inflate(block: bytes) -> bytes:
    """Return the content of a deflated block, empty for any other; cut at MOST_INFLATED."""
    try:
        return zlib.decompressobj(zlib.MAX_WBITS | 32).decompress(block, MOST_INFLATED)
    except zlib.error:
        return b""


def scan_stream(stream: BinaryIO, where: str, finder: Finder) -> Iterator[Trace]:
    """Yield what a stream of any length holds, once a kind; in a dump, the table it stands under is named."""
    seen: set[tuple[str, int, str]] = set()
    tail, table = b"", ""
    while block := stream.read(BLOCK):
        window = tail + block
        for number, form in finder.find(window):
            place = f"{where}{_table_at(window, table)}"
            if (place, number, form) not in seen:
                seen.add((place, number, form))
                yield Trace(place, finder.label(number), form)
        table = _last_table(window, table)
        tail = window[-OVERLAP:]


def _last_table(window: bytes, before: str) -> str:
    found = _COPY.findall(window)
    return found[-1].decode("utf-8", "replace") if found else before


def _table_at(window: bytes, before: str) -> str:
    """Name the table of a dump that a window lies in; both where it spans two."""
    tables = [before, *(name.decode("utf-8", "replace") for name in _COPY.findall(window))]
    named = [name for name in dict.fromkeys(tables) if name]
    return f" {'或'.join(named)}" if named else ""


OpenDump = Callable[[Path], BinaryIO]
"""Turns a database dump in PostgreSQL's own format into plain SQL."""


def scan_file(path: Path, finder: Finder, *, open_dump: OpenDump | None = None) -> Iterator[Trace]:
    """Yield what a file holds: its name, its content, what is compressed or archived in it, dumps as SQL."""
    where = str(path)
    for number, form in finder.find(path.name.encode("utf-8", "surrogateescape")):
        yield Trace(f"{path.parent}/…（文件名）", finder.label(number), form)
    with path.open("rb") as file:
        head = file.read(8)
        file.seek(0)
        if head.startswith(b"PGDMP") and open_dump is not None:
            with open_dump(path) as dump:
                yield from scan_stream(dump, where, finder)
            return
        yield from _scan_whole(file, path, finder)
        file.seek(0)
        yield from _scan_packed(file, where, head, finder)


def _scan_whole(file: BinaryIO, path: Path, finder: Finder) -> Iterator[Trace]:
    if path.stat().st_size <= MOST_PHOTO and (label := finder.whole(file.read())):
        yield Trace(str(path), label, "整个文件")
    file.seek(0)
    yield from scan_stream(file, str(path), finder)


def _scan_packed(file: BinaryIO, where: str, head: bytes, finder: Finder) -> Iterator[Trace]:
    if head[:2] in {b"\xff\xfe", b"\xfe\xff"}:
        recoded = io.BytesIO(file.read(MOST_INFLATED).decode("utf-16", "replace").encode())
        yield from scan_stream(recoded, f"{where}（UTF-16）", finder)
    if head.startswith(b"\x1f\x8b"):
        with gzip.GzipFile(fileobj=file) as inner:
            yield from _guarded(cast("BinaryIO", inner), f"{where}（gzip）", finder)
    if head.startswith(b"PK\3\4"):
        yield from _scan_archive(file, where, finder)


def _scan_archive(file: BinaryIO, where: str, finder: Finder) -> Iterator[Trace]:
    try:
        archive = zipfile.ZipFile(file)
    except zipfile.BadZipFile:
        return
    with archive:
        for member in archive.infolist()[:MOST_MEMBERS]:
            for number, form in finder.find(member.filename.encode("utf-8", "surrogateescape")):
                yield Trace(f"{where}（成员名）", finder.label(number), form)
            if member.flag_bits & 1:  # encrypted: nothing to be read there
                continue
            with archive.open(member) as inner:
                yield from _guarded(cast("BinaryIO", inner), f"{where}（成员）", finder)


def _guarded(stream: BinaryIO, where: str, finder: Finder) -> Iterator[Trace]:
    """Scan a compressed stream as far as it can be read."""
    try:
        yield from scan_stream(stream, where, finder)
    except (OSError, EOFError, zlib.error, zipfile.BadZipFile, NotImplementedError):
        return
