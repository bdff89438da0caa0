"""Packages that must be refused whole, each for one reason, built small for the tests of intake."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Final

from portal.core.crypto import Sm2PrivateKey, Sm2PublicKey
from portal.samples.package import (
    MANIFEST,
    PHOTO_FOLDER,
    RECORDS,
    PackageHead,
    SampleOrder,
    seal_into,
    write_inner_zip,
)

ROWS: Final = 3
BOMB_BYTES: Final = 256 << 20
_BOMB_STEP: Final = bytes(1 << 20)
_PAYLOAD_MARK: Final = b"payload.bin"

HEAD: Final = PackageHead("HOSTILE-1", "province", "portal", datetime(2026, 11, 23, tzinfo=UTC))


@dataclass(frozen=True, slots=True)
class Parties:
    """Who seals to whom; `stranger` is a pair neither side knows."""

    sender: Sm2PrivateKey
    recipient: Sm2PublicKey
    stranger: Sm2PrivateKey
    head: PackageHead = HEAD


Members = dict[str, bytes]


def honest_members(order: SampleOrder | None = None, head: PackageHead = HEAD) -> Members:
    """Return the content of a small flawless package by member name."""
    target = io.BytesIO()
    write_inner_zip(target, order or SampleOrder(count=ROWS, fault_rate=0), head)
    with zipfile.ZipFile(target) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def inner_of(members: Members) -> bytes:
    """Zip members as they are, whatever their names."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name, HEAD.created_at.timetuple()[:6]), content)
    return target.getvalue()


def sealed(inner: bytes, parties: Parties) -> bytes:
    """Seal any bytes properly."""
    target = io.BytesIO()
    seal_into(
        io.BytesIO(inner), target, parties.head, sender_key=parties.sender, recipient_key=parties.recipient
    )
    return target.getvalue()


def hostile(kind: str, parties: Parties) -> bytes:
    """Return the sealed container of one kind of HOSTILE."""
    return HOSTILE[kind](parties)


def _honest(parties: Parties) -> bytes:
    return sealed(inner_of(honest_members(head=parties.head)), parties)


def _truncated(parties: Parties) -> bytes:
    whole = _honest(parties)
    return whole[: len(whole) * 2 // 3]


def _flipped_bit(parties: Parties) -> bytes:
    """Flip one bit in the middle of the payload."""
    content = bytearray(_honest(parties))
    start = content.index(_PAYLOAD_MARK) + len(_PAYLOAD_MARK)
    content[(start + len(content)) // 2] ^= 0x10
    return bytes(content)


def _not_a_package(parties: Parties) -> bytes:
    return b"%PDF-1.7 " + parties.head.package_number.encode() * 64


def _wrong_recipient(parties: Parties) -> bytes:
    """Address and seal it to somebody else."""
    head = replace(parties.head, recipient=f"not-{parties.head.recipient}")
    return _honest(replace(parties, recipient=parties.stranger.public, head=head))


def _wrong_key(parties: Parties) -> bytes:
    """Address it to the portal, yet wrap the key for somebody else."""
    return _honest(replace(parties, recipient=parties.stranger.public))


def _wrong_signature(parties: Parties) -> bytes:
    """Use the sender's name with a stranger's key."""
    return _honest(replace(parties, sender=parties.stranger))


def _unknown_sender(parties: Parties) -> bytes:
    head = replace(parties.head, sender="nobody")
    return _honest(replace(parties, sender=parties.stranger, head=head))


def _bomb_inner(members: Members) -> bytes:
    """Deflate BOMB_BYTES of zeros under the name of a photo, a thousand to one."""
    target = io.BytesIO(inner_of(members))
    with zipfile.ZipFile(target, "a") as archive:
        entry = zipfile.ZipInfo(f"{PHOTO_FOLDER}/bomb.jpg")
        entry.compress_type = zipfile.ZIP_DEFLATED
        with archive.open(entry, "w") as member:
            for step in _bomb_steps():
                member.write(step)
    return target.getvalue()


def _bomb_steps() -> Iterator[bytes]:
    yield from (_BOMB_STEP for _ in range(BOMB_BYTES // len(_BOMB_STEP)))


def _bomb(parties: Parties) -> bytes:
    return sealed(_bomb_inner(honest_members(head=parties.head)), parties)


def _inner_not_zip(parties: Parties) -> bytes:
    return sealed(b"seq,AAC002\r\n1,\r\n", parties)


def _changing(change: Callable[[Members], None]) -> Callable[[Parties], bytes]:
    """Seal an honest content after one change."""

    def build(parties: Parties) -> bytes:
        members = honest_members(head=parties.head)
        change(members)
        return sealed(inner_of(members), parties)

    return build


def _traversal(members: Members) -> None:
    members[f"{PHOTO_FOLDER}/../../outside.jpg"] = b"outside"


def _absolute_path(members: Members) -> None:
    members["/outside.jpg"] = b"outside"


def _stray_member(members: Members) -> None:
    members["readme.exe"] = b"MZ"


def _wrong_encoding(members: Members) -> None:
    """Declare UTF-8 and write GB 18030."""
    members[RECORDS] = members[RECORDS].decode("utf-8").encode("gb18030")


def _encoding_unknown(members: Members) -> None:
    _rewrite_manifest(members, encoding="latin-1")


def _missing_column(members: Members) -> None:
    """Leave out AAC003 everywhere."""
    rows = [line.split(",") for line in members[RECORDS].decode("utf-8").splitlines()]
    place = rows[0].index("AAC003")
    lines = (",".join(cell for at, cell in enumerate(row) if at != place) for row in rows)
    members[RECORDS] = "".join(f"{line}\r\n" for line in lines).encode("utf-8")


def _no_records_file(members: Members) -> None:
    del members[RECORDS]


def _no_manifest(members: Members) -> None:
    del members[MANIFEST]


def _manifest_unreadable(members: Members) -> None:
    members[MANIFEST] = b'{"format": '


def _count_differs(members: Members) -> None:
    _rewrite_manifest(members, record_count=ROWS + 1)


def _number_differs(members: Members) -> None:
    """Let the manifest name another package than the signed envelope."""
    _rewrite_manifest(members, package_number="HOSTILE-2")


def _rewrite_manifest(members: Members, **changes: object) -> None:
    manifest = json.loads(members[MANIFEST]) | changes
    members[MANIFEST] = json.dumps(manifest, ensure_ascii=False).encode("utf-8")


def _no_rows(parties: Parties) -> bytes:
    """N = 0: whole, signed, and nothing in it."""
    nobody = SampleOrder(count=0, fault_rate=0)
    return sealed(inner_of(honest_members(nobody, parties.head)), parties)


HOSTILE: Final[Mapping[str, Callable[[Parties], bytes]]] = MappingProxyType(
    {
        "truncated": _truncated,
        "flipped_bit": _flipped_bit,
        "not_a_package": _not_a_package,
        "wrong_recipient": _wrong_recipient,
        "wrong_key": _wrong_key,
        "wrong_signature": _wrong_signature,
        "unknown_sender": _unknown_sender,
        "inner_not_zip": _inner_not_zip,
        "zip_bomb": _bomb,
        "path_traversal": _changing(_traversal),
        "absolute_path": _changing(_absolute_path),
        "stray_member": _changing(_stray_member),
        "wrong_encoding": _changing(_wrong_encoding),
        "encoding_unknown": _changing(_encoding_unknown),
        "missing_column": _changing(_missing_column),
        "missing_records": _changing(_no_records_file),
        "missing_manifest": _changing(_no_manifest),
        "manifest_unreadable": _changing(_manifest_unreadable),
        "count_differs": _changing(_count_differs),
        "number_differs": _changing(_number_differs),
        "no_rows": _no_rows,
    }
)
