"""The envelope of a sealed package: who sent what to whom, the wrapped key, the signature over all of it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from portal.core.crypto import DIGEST_SIZE, KEY_SIZE, Sm2PrivateKey, TamperedError, sm3
from portal.core.errors import SealRefusedError
from portal.core.seal_chunks import MAX_CHUNK_SIZE, MIN_CHUNK_SIZE, sealed_length
from portal.core.seal_refusals import (
    AlgorithmUnknownError,
    ChunkSizeError,
    EnvelopeFieldError,
    EnvelopeNotCanonicalError,
    EnvelopeUnreadableError,
    VersionUnknownError,
    WrongKeyError,
)

FORMAT_VERSION = 1
ALGORITHMS = {"cipher": "SM4-GCM", "digest": "SM3", "key_wrap": "SM2", "signature": "SM2-SM3"}
MAX_PAYLOAD_LENGTH = 1 << 40  # 1 TiB: above any honest package, below any overflow
MAX_WRAPPED_SIZE = 512
MAX_SIGNATURE_SIZE = 128

_PARTY = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]{0,63}\Z")
_HEX = re.compile(r"(?:[0-9a-f]{2})+\Z")
_TIME = "%Y-%m-%dT%H:%M:%SZ"


@dataclass(frozen=True, slots=True)
class Envelope:
    """What stands in `envelope.json`; construction checks nothing, `parse_envelope` and the seal do."""

    sender: str
    recipient: str
    package_number: str
    created_at: datetime
    chunk_size: int
    payload_length: int
    wrapped_key: bytes = field(repr=False)
    payload_digest: bytes = b""
    signature: bytes = field(default=b"", repr=False)
    version: int = FORMAT_VERSION

    @property
    def sealed_payload_length(self) -> int:
        """Return the size of `payload.bin` in bytes."""
        return sealed_length(self.payload_length, self.chunk_size)

    def context(self) -> bytes:
        """Return what every payload chunk is tied to."""
        return _canonical(self._identity())

    def signed_content(self) -> bytes:
        """Return the canonical JSON that the signature covers: every field but the signature."""
        fields = self._fields()
        del fields["signature"]
        return _canonical(fields)

    def to_json(self) -> bytes:
        """Return the canonical JSON: UTF-8, keys sorted, no spaces, binary values as lower-case hex."""
        return _canonical(self._fields())

    def digest(self) -> bytes:
        """Return SM3 over the signed content, for the register of packages seen."""
        return sm3(self.signed_content())

    def signed_by(self, key: Sm2PrivateKey) -> Envelope:
        """Return a copy with the sender's signature."""
        return replace(self, signature=key.sign(self.signed_content()))

    def _identity(self) -> dict[str, Any]:
        return {
            "version": self.version,
            "sender": self.sender,
            "recipient": self.recipient,
            "package_number": self.package_number,
            "created_at": self.created_at.astimezone(UTC).strftime(_TIME),
            "chunk_size": self.chunk_size,
        }

    def _fields(self) -> dict[str, Any]:
        return {
            **self._identity(),
            "algorithms": ALGORITHMS,
            "payload_length": self.payload_length,
            "wrapped_key": self.wrapped_key.hex(),
            "payload_digest": self.payload_digest.hex(),
            "signature": self.signature.hex(),
        }


_FIELDS = frozenset(
    {
        "version",
        "sender",
        "recipient",
        "package_number",
        "created_at",
        "chunk_size",
        "algorithms",
        "payload_length",
        "wrapped_key",
        "payload_digest",
        "signature",
    }
)


def parse_envelope(content: bytes) -> Envelope:
    """Read `envelope.json`; raise the SealRefusedError of the first thing that is wrong with it."""
    fields = _json_object(content)
    if fields.get("version") != FORMAT_VERSION or type(fields.get("version")) is not int:
        raise VersionUnknownError(
            "信封格式版本不认识",
            where="version",
            expected=str(FORMAT_VERSION),
            got=_shown(fields.get("version")),
        )
    _require_fields(fields)
    if fields["algorithms"] != ALGORITHMS:
        raise AlgorithmUnknownError(
            "信封算法不认识",
            where="algorithms",
            expected=_shown(ALGORITHMS),
            got=_shown(fields["algorithms"]),
        )
    chunk_size = _integer(fields, "chunk_size", ChunkSizeError, MIN_CHUNK_SIZE, MAX_CHUNK_SIZE)
    envelope = Envelope(
        sender=_party(fields, "sender"),
        recipient=_party(fields, "recipient"),
        package_number=_party(fields, "package_number"),
        created_at=_time(fields, "created_at"),
        chunk_size=chunk_size,
        payload_length=_integer(fields, "payload_length", EnvelopeFieldError, 0, MAX_PAYLOAD_LENGTH),
        wrapped_key=_hex(fields, "wrapped_key", KEY_SIZE, MAX_WRAPPED_SIZE),
        payload_digest=_hex(fields, "payload_digest", DIGEST_SIZE, DIGEST_SIZE),
        signature=_hex(fields, "signature", 8, MAX_SIGNATURE_SIZE),
    )
    if envelope.to_json() != content:  # one meaning, one form: nothing for two readers to disagree about
        raise EnvelopeNotCanonicalError(
            "信封不是规范形式", where="envelope.json", expected="键按序、无空白、无转义的 JSON"
        )
    return envelope


def check_party(value: str, name: str) -> str:
    """Return `value` if it may name a party or a package: 1–64 of letters, digits, `.`, `_`, `-`."""
    if not _PARTY.match(value):
        raise EnvelopeFieldError(
            "信封字段格式不对", where=name, expected="1–64 位字母、数字、点、横线、下划线", got=_shown(value)
        )
    return value


def unwrap_content_key(envelope: Envelope, private_key: Sm2PrivateKey) -> bytes:
    """Return the payload's SM4 key; raise WrongKeyError when it was wrapped for another key."""
    try:
        return private_key.unwrap(envelope.wrapped_key)
    except TamperedError as exc:
        raise WrongKeyError(
            "数据包密钥无法用本机私钥解开",
            where="wrapped_key",
            expected=f"用公钥 {private_key.public.fingerprint()} 加密",
        ) from exc


def _canonical(fields: dict[str, Any]) -> bytes:
    return json.dumps(fields, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()


def _json_object(content: bytes) -> dict[str, Any]:
    try:
        found = json.loads(content.decode("utf-8"), object_pairs_hook=_no_doubles)
    except (ValueError, RecursionError) as exc:
        raise EnvelopeUnreadableError("信封不是有效的 JSON", where="envelope.json") from exc
    if not isinstance(found, dict):
        raise EnvelopeUnreadableError("信封不是 JSON 对象", where="envelope.json", got=type(found).__name__)
    return found


def _no_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a key stands twice")
    return fields


def _require_fields(fields: dict[str, Any]) -> None:
    missing, unknown = sorted(_FIELDS - fields.keys()), sorted(fields.keys() - _FIELDS)
    if missing:
        raise EnvelopeFieldError("信封缺少字段", where=missing[0], expected="必填")
    if unknown:
        raise EnvelopeFieldError("信封有不认识的字段", where=_shown(unknown[0]))


def _party(fields: dict[str, Any], name: str) -> str:
    value = fields[name]
    return check_party(value if isinstance(value, str) else "", name)


def _time(fields: dict[str, Any], name: str) -> datetime:
    value = fields[name]
    refusal = EnvelopeFieldError(
        "信封时间格式不对", where=name, expected="YYYY-MM-DDThh:mm:ssZ", got=_shown(value)
    )
    try:
        moment = datetime.strptime(value, _TIME).replace(tzinfo=UTC)
    except (TypeError, ValueError) as exc:
        raise refusal from exc
    if moment.strftime(_TIME) != value:  # strptime also takes single digits
        raise refusal
    return moment


def _integer(
    fields: dict[str, Any], name: str, refusal: type[SealRefusedError], lowest: int, highest: int
) -> int:
    value = fields[name]
    if type(value) is not int or not lowest <= value <= highest:
        raise refusal(
            "信封数值超出范围", where=name, expected=f"{lowest}–{highest} 的整数", got=_shown(value)
        )
    return value


def _hex(fields: dict[str, Any], name: str, shortest: int, longest: int) -> bytes:
    value = fields[name]
    if not isinstance(value, str) or not _HEX.match(value) or not shortest <= len(value) // 2 <= longest:
        raise EnvelopeFieldError(
            "信封字段不是小写十六进制", where=name, expected=f"{shortest}–{longest} 字节"
        )
    return bytes.fromhex(value)


def _shown(value: object) -> str:
    return repr(value)[:80]
