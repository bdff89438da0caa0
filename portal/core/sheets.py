"""Spreadsheets in both directions: the names the rest of the portal uses."""

from portal.core.sheets_guard import (
    SheetExtentError,
    SheetKind,
    SheetKindError,
    SheetLimits,
    SheetMarkupError,
    SheetMemoryError,
    SheetMissingError,
    SheetPasswordError,
    SheetRefusedError,
    SheetTimeError,
    SheetTooLargeError,
)
from portal.core.sheets_read import BLANK, Cell, CellKind, SheetRow, read_table, text_cell
from portal.core.sheets_write import (
    Column,
    ListRefusedError,
    ReportCell,
    cell_text,
    write_list,
    write_report,
)

__all__ = [
    "BLANK",
    "Cell",
    "CellKind",
    "Column",
    "ListRefusedError",
    "ReportCell",
    "SheetExtentError",
    "SheetKind",
    "SheetKindError",
    "SheetLimits",
    "SheetMarkupError",
    "SheetMemoryError",
    "SheetMissingError",
    "SheetPasswordError",
    "SheetRefusedError",
    "SheetRow",
    "SheetTimeError",
    "SheetTooLargeError",
    "cell_text",
    "read_table",
    "text_cell",
    "write_list",
    "write_report",
]
