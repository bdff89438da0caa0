"""The layout of a bank's sealed account package, and writing one, by the standard library alone."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

MANIFEST, FOLDER = "manifest.json", "accounts/"
FORMAT, FORMAT_VERSION = "sscard-accounts", 1
ENDINGS = (".csv", ".xlsx")
MOST_FILES = 32


def manifest_of(sender: str, package_number: str, names: list[str]) -> bytes:
    """Write the manifest for account files of these names (without folder)."""
    fields = {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "sender": sender,
        "package_number": package_number,
        "files": [FOLDER + name for name in names],
    }
    return json.dumps(fields, ensure_ascii=False, indent=1).encode()


def pack_parcel(sender: str, package_number: str, paths: Iterable[Path]) -> BinaryIO:
    """Pack account files with their manifest in memory: accounts in the clear touch no disk here."""
    found = list(paths)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, strict_timestamps=False) as archive:
        archive.writestr(MANIFEST, manifest_of(sender, package_number, [path.name for path in found]))
        for path in found:
            archive.write(path, FOLDER + path.name)
    packed.seek(0)
    return packed
