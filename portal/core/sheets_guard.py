"""Look at a spreadsheet file before any parser does: its real kind, its size, and how far its cells reach."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO, Final, Literal

from portal.core.errors import InputRefusedError
from portal.core.rows import EmptyTableError, EncodingRefusedError
from portal.core.ziptable import Entry, ZipLimits, iter_entries, open_entry

SheetKind = Literal["xlsx", "xls", "csv"]

_BLOCK: Final = 1 << 16
_CARRIED: Final = 512
_MAX_PARTS: Final = 5000
_NO_RATIO: Final = 1100
_TOO_FAR: Final = "表格超出允许的范围；远处若有误填的单元格，请删除"
_OLE: Final = bytes.fromhex("d0cf11e0a1b11ae1")
_ENCRYPTED: Final = "EncryptedPackage".encode("utf-16-le")
_MARKUP: Final = re.compile(rb"\s*<[a-zA-Z!?]|\s*mime-version:", re.IGNORECASE)


class SheetRefusedError(InputRefusedError):
    """A spreadsheet that cannot be read."""

    code = "sheet_damaged"


class SheetKindError(SheetRefusedError):
    """A file that is not the kind of table its name or the caller says."""

    code = "sheet_kind"


class SheetMarkupError(SheetRefusedError):
    """A web page or XML text named .xls, as some systems export."""

    code = "sheet_markup"


class SheetPasswordError(SheetRefusedError):
    """A workbook that opens only with a password."""

    code = "sheet_password"


class SheetTooLargeError(SheetRefusedError):
    """A file of more bytes than the limits allow."""

    code = "sheet_too_large"


class SheetExtentError(SheetRefusedError):
    """More rows or columns than allowed, often one stray far cell; readers allocate all in between."""

    code = "sheet_extent"


class SheetMemoryError(SheetRefusedError):
    """A workbook whose reading hit the memory limit of its process."""

    code = "sheet_memory"


class SheetTimeError(SheetRefusedError):
    """A workbook whose reading hit the processor time limit of its process."""

    code = "sheet_time"


class SheetMissingError(SheetRefusedError):
    """No worksheet of that name, or none that is visible."""

    code = "sheet_missing"


@dataclass(frozen=True, slots=True)
class SheetLimits:
    """What a table may need; `memory_mb` bounds the address space of the reading process."""

    max_rows: int = 200_000
    max_columns: int = 100
    max_bytes: int = 64 << 20
    max_unpacked: int = 512 << 20
    memory_mb: int = 1024
    cpu_seconds: int = 120

    @property
    def extent(self) -> str:
        """Name the largest table for a message."""
        return f"≤ {self.max_rows} 行、{self.max_columns} 列"


def file_blocks(file: BinaryIO) -> Iterator[bytes]:
    """Yield a file from its beginning in blocks of 64 KiB."""
    file.seek(0)
    return iter(lambda: file.read(_BLOCK), b"")


def check_kind(
    file: BinaryIO, kind: SheetKind | Sequence[SheetKind] | None, limits: SheetLimits
) -> SheetKind:
    """Return what the content is, or refuse it when that is no `kind`, too large or no table at all."""
    length = file.seek(0, os.SEEK_END)
    if length > limits.max_bytes:
        limit = f"≤ {limits.max_bytes} 字节"
        raise SheetTooLargeError("表格文件过大", expected=limit, got=str(length))
    found = _kind_of(file, length)
    kinds = (kind,) if isinstance(kind, str) else kind
    if kinds is not None and found not in kinds:
        raise SheetKindError("文件内容与所说的格式不符", expected="、".join(kinds), got=found)
    return found


def check_workbook(file: BinaryIO, limits: SheetLimits) -> None:
    """Refuse an .xlsx that unpacks too large or has a cell with content beyond the limits.

    Every XML part is searched, since which of them a worksheet is depends on the workbook's relations; what
    this search can be tricked past still meets the memory limit of the reading process.
    """
    pattern = _far_cell(limits)
    names = set()
    for entry in iter_entries(file, _zip_limits(limits)):
        names.add(entry.name)
        if entry.name.endswith(".xml"):
            _check_extent(file, entry, pattern, limits)
    if "xl/workbook.xml" not in names:
        raise SheetKindError("压缩包里没有 Excel 工作簿", expected="xlsx", got="zip")


def _kind_of(file: BinaryIO, length: int) -> SheetKind:
    file.seek(0)
    head = file.read(4096)
    if length == 0:
        raise EmptyTableError("文件是空的")
    if head.startswith((b"PK\3\4", b"PK\5\6")):
        return "xlsx"
    if head.startswith(_OLE):
        return _old_or_encrypted(file)
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise EncodingRefusedError("文字编码是 UTF-16，请另存为 UTF-8", expected="utf-8", got="utf-16")
    if _MARKUP.match(head.removeprefix(b"\xef\xbb\xbf")):
        raise SheetMarkupError("文件其实是网页或 XML，请用 Excel 另存为 xlsx", expected="xlsx、csv")
    if b"\0\0" in head or head.startswith((b"%PDF", b"Rar!", b"7z\xbc\xaf", b"\x1f\x8b")):
        raise SheetKindError("文件不是表格", expected="xlsx、xls、csv", got=head[:4].hex(" "))
    return "csv"


def _old_or_encrypted(file: BinaryIO) -> SheetKind:
    """Tell a BIFF workbook from an encrypted .xlsx; both sit in the same compound file."""
    if any(_ENCRYPTED in window for window in _overlapping(file_blocks(file))):
        raise SheetPasswordError("工作簿有打开密码，请去掉密码后再上传")
    return "xls"


def _overlapping(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """Yield the blocks each with the end of the one before, so that nothing short is cut in two."""
    carried = b""
    for block in blocks:
        window = carried + block
        yield window
        carried = window[-_CARRIED:]


def _zip_limits(limits: SheetLimits) -> ZipLimits:
    """Bound the sum of the parts; their ratio is left free, for a sheet of equal cells packs very well."""
    size = limits.max_unpacked
    return ZipLimits(_MAX_PARTS, max_entry_size=size, max_total_size=size, max_ratio=_NO_RATIO)


def _far_cell(limits: SheetLimits) -> re.Pattern[bytes]:
    """Match the references of cells with content that may lie outside.

    Cells that carry a format only (`<c r="XFD1" s="1"/>`) are passed over: readers drop them. The pattern
    begins with the literal `r=`, without `<c` before it: the search is then ten times as fast.
    """
    digits = len(str(limits.max_rows))
    place = rb"(?:([A-Z]{2,3})(\d{1,7})|([A-Z])(\d{%d,7}))" % digits
    return re.compile(rb"r=[\"']" + place + rb"[\"'][^>]*(?<!/)>\s*<(?!/)")


def _check_extent(file: BinaryIO, entry: Entry, pattern: re.Pattern[bytes], limits: SheetLimits) -> None:
    for window in _overlapping(open_entry(file, entry, limits.max_unpacked)):
        for match in pattern.finditer(window):
            column = match[1] or match[3]
            row = int(match[2] or match[4])
            if row > limits.max_rows or _column_number(column) > limits.max_columns:
                cell = f"{column.decode()}{row}"
                raise SheetExtentError(_TOO_FAR, where=cell, expected=limits.extent)


def _column_number(letters: bytes) -> int:
    number = 0
    for letter in letters:
        number = number * 26 + letter - 64
    return number
