"""Signed anchors of the audit's chain: proof that what stood up to a position was not rewritten as a whole.

An anchor names a position, the digest there and the count of entries so far, links to the anchor before it
and is signed with SM2 (GM/T 0009). Kept elsewhere, on paper or on another machine, it needs nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, ClassVar, Protocol, Self

from portal.core.audit_findings import ChainFault, Reason
from portal.core.audit_forms import GENESIS
from portal.core.audit_walk import ChainReport
from portal.core.crypto import KeyFormatError, Sm2PrivateKey, Sm2PublicKey, sm3
from portal.core.errors import InputRefusedError

FORMAT = "portal-audit-anchors-1"


class AnchorFileError(InputRefusedError):
    """A file that holds no anchors."""

    code: ClassVar[str] = "anchor_file"


@dataclass(frozen=True, slots=True)
class Anchor:
    """One signed statement about the chain; `previous` is the SM3 of the anchor before it, or zeros."""

    number: int
    position: int
    digest: bytes
    count: int
    at: datetime
    previous: bytes
    public_key: bytes
    signature: bytes = b""

    def statement(self) -> bytes:
        """Return the bytes under the signature: sorted compact JSON."""
        fields = self.fields()
        del fields["signature"]
        return json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()

    def mark(self) -> bytes:
        """Return what the next anchor links to."""
        return sm3(self.statement() + self.signature)

    def signed(self, key: Sm2PrivateKey) -> Self:
        """Return the anchor under a signature of the key whose public half it names."""
        return replace(self, signature=key.sign(self.statement()))

    def is_signed(self) -> bool:
        """Say whether the signature is that of the key named in the anchor."""
        try:
            return Sm2PublicKey(self.public_key).verify(self.signature, self.statement())
        except KeyFormatError:
            return False

    @property
    def key_id(self) -> str:
        """Return the fingerprint people compare."""
        return sm3(self.public_key)[:8].hex()

    def fields(self) -> dict[str, Any]:
        """Return what a file holds of the anchor; bytes as hex, the moment with its zone."""
        return {
            "number": self.number,
            "position": self.position,
            "digest": self.digest.hex(),
            "count": self.count,
            "at": self.at.astimezone(UTC).isoformat(),
            "previous": self.previous.hex(),
            "public_key": self.public_key.hex(),
            "signature": self.signature.hex(),
        }

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> Self:
        """Read an anchor from a file; raise AnchorFileError when a field is missing or of another kind."""
        try:
            return cls(
                *(int(fields["number"]), int(fields["position"]), bytes.fromhex(fields["digest"])),
                *(int(fields["count"]), datetime.fromisoformat(fields["at"])),
                *(bytes.fromhex(fields[name]) for name in ("previous", "public_key", "signature")),
            )
        except (KeyError, TypeError, ValueError) as exc:
            raise AnchorFileError("锚点文件中有一条不完整", where=str(fields)[:60]) from exc


@dataclass(frozen=True, slots=True)
class AnchorFault:
    """What is wrong with an anchor itself."""

    number: int
    reason: str

    @property
    def text(self) -> str:
        """Say it in Chinese."""
        words = {
            "signature": "签名不符，内容被改动",
            "key": "不是可信密钥签署的",
            "missing": "被删除",
            "link": "与前一个锚点不连接",
        }
        return f"锚点 {self.number}：{words[self.reason]}"


def written(anchors: Iterable[Anchor]) -> str:
    """Return a file of anchors, for people to keep and programs to check."""
    content = {"format": FORMAT, "anchors": [anchor.fields() for anchor in anchors]}
    return json.dumps(content, indent=1) + "\n"


def read(text: str) -> list[Anchor]:
    """Read a file of anchors; raise AnchorFileError for anything else."""
    try:
        content = json.loads(text)
        found, anchors = content["format"], content["anchors"]
    except (ValueError, KeyError, TypeError) as exc:
        raise AnchorFileError("不是锚点文件") from exc
    if found != FORMAT or not isinstance(anchors, list) or not anchors:
        raise AnchorFileError("不是锚点文件", expected=FORMAT, got=str(found)[:40])
    return [Anchor.of(fields) for fields in anchors]


def next_anchor(
    before: Anchor | None, *, position: int, digest: bytes, count: int, at: datetime, key: Sm2PrivateKey
) -> Anchor:
    """Sign what the chain now is, linked to the anchor before."""
    number, previous = (before.number + 1, before.mark()) if before else (1, GENESIS)
    return Anchor(number, position, digest, count, at, previous, key.public.raw).signed(key)


def check_anchors(
    anchors: Sequence[Anchor], *, trusted: Collection[bytes] | None, is_whole: bool = True
) -> Iterator[AnchorFault]:
    """Yield what is wrong with anchors in the order of their numbers.

    `trusted` are the public keys to believe, None to believe the one each anchor names. Anchors of a file
    need not be all there are (`is_whole` false): then only neighbours must link.
    """
    before: Anchor | None = None
    for anchor in anchors:
        due = before.number + 1 if before else 1 if is_whole else anchor.number
        yield from (AnchorFault(number, "missing") for number in range(due, anchor.number) if is_whole)
        if not anchor.is_signed():
            yield AnchorFault(anchor.number, "signature")
        elif trusted is not None and anchor.public_key not in trusted:
            yield AnchorFault(anchor.number, "key")
        if not _links(before, anchor):
            yield AnchorFault(anchor.number, "link")
        before = anchor


def _links(before: Anchor | None, anchor: Anchor) -> bool:
    if anchor.number == 1:
        return anchor.previous == GENESIS
    if before is None or before.number + 1 != anchor.number:
        return True
    return anchor.previous == before.mark()


class Known(Protocol):
    """What somebody else remembers of the chain."""

    @property
    def position(self) -> int:
        """Return the entry it is about."""

    @property
    def digest(self) -> bytes:
        """Return that entry's digest."""


def held_against(anchors: Iterable[Known], report: ChainReport, *, start: int = 1) -> list[ChainFault]:
    """Return what signed anchors say of a walked chain that the chain itself cannot: a cut end, a rewriting.

    A digest that differs where the walk already found a fault says nothing new.
    """
    sound, found = start - 1, []
    for anchor in sorted(anchors, key=lambda one: one.position):
        if anchor.position < start:
            continue
        if anchor.position > report.last:
            if not report.is_cut_short:
                found.append(ChainFault(report.last + 1, Reason.MISSING, anchor.position))
            continue
        if report.marks.get(anchor.position) == anchor.digest:
            sound = anchor.position
        elif not any(sound < fault.last and fault.position <= anchor.position for fault in report.faults):
            found.append(ChainFault(sound + 1, Reason.REWRITTEN, anchor.position))
            sound = anchor.position
    return _one_end(found)


def _one_end(faults: list[ChainFault]) -> list[ChainFault]:
    """Keep of several missing ends the longest, and join rewritten stretches."""
    ends = [fault for fault in faults if fault.reason is Reason.MISSING]
    rewritten = [fault for fault in faults if fault.reason is Reason.REWRITTEN]
    joined = [ChainFault(rewritten[0].position, Reason.REWRITTEN, rewritten[-1].last)] if rewritten else []
    return [*joined, *ends[-1:]]
