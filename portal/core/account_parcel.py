"""What a bank's sealed account package holds: a ZIP of `manifest.json` and account files (architecture §6).

The stand-alone script writes it (`account_parcel_write`), the portal reads it here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from portal.core.account_parcel_write import ENDINGS, FOLDER, FORMAT, FORMAT_VERSION, MANIFEST, MOST_FILES
from portal.core.errors import InputRefusedError
from portal.core.ziptable import Entry, ZipLimits, iter_entries, open_entry, read_entry

_MAX_MANIFEST = 64 << 10


class ParcelRefusedError(InputRefusedError):
    """The content of an account package is not what its layout says."""

    code = "account_parcel_refused"


class ParcelFormatError(ParcelRefusedError):
    """The manifest is missing, unreadable or of another kind of package."""

    code = "account_parcel_format"


class ParcelMemberError(ParcelRefusedError):
    """A file is missing, doubled, or does not belong into an account package."""

    code = "account_parcel_member"


class ParcelSenderError(ParcelRefusedError):
    """The manifest speaks for another bank or another package than the signed envelope."""

    code = "account_parcel_sender"


@dataclass(frozen=True, slots=True)
class Parcel:
    """An account package whose members agree with its manifest."""

    entries: tuple[Entry, ...]

    def blocks(self, payload: BinaryIO, entry: Entry, max_size: int) -> Iterator[bytes]:
        """Yield one file's bytes, its checksum proven by the end."""
        return open_entry(payload, entry, max_size)


def read_parcel(payload: BinaryIO, *, sender: str, package_number: str, max_size: int) -> Parcel:
    """Return the files of a package once they agree with the manifest, and that with the signed envelope.

    `payload` is the plaintext view; `max_size` bounds one file and all together, in bytes.
    """
    limits = ZipLimits(max_members=MOST_FILES + 2, max_entry_size=max_size, max_total_size=max_size)
    found: dict[str, Entry] = {}
    for entry in iter_entries(payload, limits):
        if entry.name in found:
            raise ParcelMemberError("账号包内文件重名", where=entry.name[:80])
        found[entry.name] = entry
    found.pop(FOLDER, None)
    announced = _announced(payload, found.pop(MANIFEST, None), (sender, package_number))
    _check_members(announced, found)
    return Parcel(tuple(found[name] for name in announced))


def _announced(payload: BinaryIO, entry: Entry | None, signed: tuple[str, str]) -> list[str]:
    """Return the names the manifest lists, once it is the signed sender's."""
    if entry is None:
        raise ParcelFormatError("账号包内缺少清单", expected=MANIFEST)
    try:
        fields = json.loads(read_entry(payload, entry, _MAX_MANIFEST).decode("utf-8"))
        head = (fields["format"], fields["version"])
    except (ValueError, KeyError, TypeError, RecursionError):  # from None: the content may be anything
        raise ParcelFormatError("清单无法读取", where=MANIFEST, expected=f"{FORMAT} 的 JSON 对象") from None
    if head != (FORMAT, FORMAT_VERSION):
        expected = f"{FORMAT} {FORMAT_VERSION}"
        raise ParcelFormatError("内容不是账号包", where=MANIFEST, expected=expected, got=repr(head)[:80])
    claimed = (fields.get("sender"), fields.get("package_number"))
    if claimed != signed:
        raise ParcelSenderError(
            "清单与信封不一致", where=MANIFEST, expected=" ".join(signed), got=repr(claimed)[:80]
        )
    names = fields.get("files")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ParcelFormatError("清单没有列出文件", where=MANIFEST, expected="files")
    return names


def _check_members(announced: list[str], found: dict[str, Entry]) -> None:
    """Refuse unless the archive holds the announced files, all of them and no other."""
    for name in [*announced, *found]:
        plain = name.removeprefix(FOLDER)
        if plain == name or "/" in plain or not plain.lower().endswith(ENDINGS):
            raise ParcelMemberError(
                "账号包内有不应有的文件",
                where=name[:80],
                expected=f"{FOLDER}*{' '.join(ENDINGS)}",
            )
    if not 1 <= len(announced) <= MOST_FILES or sorted(announced) != sorted(found):
        raise ParcelMemberError(
            "账号包内的文件与清单不符",
            where=MANIFEST,
            expected=f"1–{MOST_FILES} 个文件，与清单一致",
            got=f"清单 {len(announced)} 个，实有 {len(found)} 个",
        )
