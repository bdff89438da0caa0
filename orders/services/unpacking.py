"""Look into a package whose signature held: its manifest, its members, where each photo lies (R-8).

The archive is walked once, entry by entry; photos are only noted, never unpacked here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO, cast

from django.conf import settings
from django.db import IntegrityError

from orders.models import Package, PackagePhoto
from orders.personal import PHOTO_FOLDER, number_index, photo_number
from orders.services.refusals import (
    CountDiffersError,
    EmptyPackageError,
    EncodingUnknownError,
    ManifestDiffersError,
    ManifestMissingError,
    ManifestUnreadableError,
    MemberDoubledError,
    MemberUnknownError,
    PhotoDoubledError,
    RecordsMissingError,
)
from portal import files
from portal.bulk import copy_rows
from portal.core.rows import Encoding
from portal.core.seal import SealedReader
from portal.core.ziptable import Entry, ZipLimits, iter_entries, read_entry

MANIFEST, RECORDS = "manifest.json", "records.csv"
FORMAT, FORMAT_VERSION = "sscard-package", 1
ENCODINGS: tuple[Encoding, ...] = ("utf-8", "gb18030")
MAX_MANIFEST = 64 << 10
MAX_RECORDS = 1 << 30
_PHOTO_ENDINGS = (".jpg", ".jpeg")
_PHOTO_FIELDS = ("package_id", "number_index", "offset", "compressed_size", "size", "method", "crc")


@dataclass(frozen=True, slots=True)
class Manifest:
    """What the sender says of the content."""

    package_number: str
    sender: str
    encoding: Encoding
    record_count: int
    photo_count: int


@dataclass(slots=True)
class Members:
    """What a walk through the archive found besides photos."""

    found: dict[str, Entry] = field(default_factory=dict)
    photo_count: int = 0

    def take(self, entry: Entry) -> bool:
        """Note a member; say whether it is a photo. Refuses what does not belong into a package."""
        if entry.name in (MANIFEST, RECORDS):
            if entry.name in self.found:
                raise MemberDoubledError("数据包内文件重名", where=entry.name)
            self.found[entry.name] = entry
            return False
        if entry.name == PHOTO_FOLDER:
            return False
        name = entry.name.removeprefix(PHOTO_FOLDER)
        if name == entry.name or "/" in name or not name.lower().endswith(_PHOTO_ENDINGS):
            raise MemberUnknownError(
                "数据包内有不应有的文件", where=entry.name[:80], expected=f"{MANIFEST}、{RECORDS}、照片"
            )
        self.photo_count += 1
        return True


def register_photos(package: Package, payload: SealedReader) -> Members:
    """Walk the archive, note every photo's place under the blind index of its number; return the members."""
    members = Members()
    limits = ZipLimits(
        max_members=settings.MAX_PACKAGE_MEMBERS,
        max_entry_size=MAX_RECORDS,
        max_total_size=settings.MAX_PACKAGE_BYTES,
    )
    entries = iter_entries(cast("BinaryIO", payload), limits)
    try:
        copy_rows(PackagePhoto, _PHOTO_FIELDS, _photo_rows(package, entries, members))
    except IntegrityError as exc:
        if "package_photo_once" not in str(exc):
            raise
        raise PhotoDoubledError("同一社会保障号码有两张照片", expected="每人一张照片") from None
    return members


def _photo_rows(package: Package, entries: Iterator[Entry], members: Members) -> Iterator[tuple[Any, ...]]:
    indexer = files.blind_index()
    for entry in entries:
        if members.take(entry):
            place = (entry.offset, entry.compressed_size, entry.size, entry.method, entry.crc)
            yield (package.pk, number_index(photo_number(entry.name), indexer), *place)


def read_manifest(package: Package, payload: SealedReader, members: Members) -> Manifest:
    """Return the manifest once it agrees with the signed envelope and the members found."""
    entry = members.found.get(MANIFEST)
    if entry is None:
        raise ManifestMissingError("数据包内缺少清单", expected=MANIFEST)
    manifest = _parse(read_entry(cast("BinaryIO", payload), entry, MAX_MANIFEST))
    claimed = (manifest.sender, manifest.package_number)
    signed = (package.sender.code if package.sender else "", package.number)
    if claimed != signed:
        raise ManifestDiffersError(
            "清单与信封不一致", where=MANIFEST, expected=" ".join(signed), got=" ".join(claimed)[:80]
        )
    if RECORDS not in members.found:
        raise RecordsMissingError("数据包内缺少记录表", expected=RECORDS)
    if manifest.record_count == 0:
        raise EmptyPackageError("数据包内没有记录", where=MANIFEST, expected="至少一条记录")
    check_count("照片", manifest.photo_count, members.photo_count)
    return manifest


def check_count(what: str, announced: int, found: int) -> None:
    """Refuse a package of more or fewer rows or photos than its manifest announces."""
    if announced != found:
        raise CountDiffersError(
            f"{what}数与清单不符", where=MANIFEST, expected=str(announced), got=str(found)
        )


def _parse(content: bytes) -> Manifest:
    try:
        fields = json.loads(content.decode("utf-8"))
        head = (fields["format"], fields["version"])
        texts = [fields[name] for name in ("package_number", "sender", "encoding")]
        counts = [fields[name] for name in ("record_count", "photo_count")]
    except (ValueError, KeyError, TypeError, RecursionError):  # from None: the content may be anything
        raise ManifestUnreadableError("清单无法读取", where=MANIFEST, expected="完整的 JSON 对象") from None
    if head != (FORMAT, FORMAT_VERSION) or not all(isinstance(text, str) for text in texts):
        raise ManifestUnreadableError("清单格式不认识", where=MANIFEST, expected=f"{FORMAT} {FORMAT_VERSION}")
    if not all(type(count) is int and count >= 0 for count in counts):
        raise ManifestUnreadableError("清单内数量不是非负整数", where=MANIFEST)
    return Manifest(texts[0], texts[1], _encoding(texts[2]), counts[0], counts[1])


def _encoding(text: str) -> Encoding:
    for encoding in ENCODINGS:
        if text.lower().replace("_", "-") in (encoding, encoding.replace("-", "")):
            return encoding
    raise EncodingUnknownError(
        "清单声明的编码不支持", where=MANIFEST, expected="、".join(ENCODINGS), got=text[:40]
    )
