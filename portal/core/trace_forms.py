"""The bytes a personal value may stand as in tables, files, logs, dumps and queues (R-22, R-45).

Encodings of the value itself stand here; hexadecimal, Base64 and deflate are undone by the search
(portal/core/traces.py), so that a value is found in whatever they are wrapped around.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import quote

SHORTEST = 6
"""Bytes below which a form occurs in any large binary by chance."""
STRETCH = 32
_TEXT_CODES = {"UTF-8": "utf-8", "GB18030": "gb18030", "UTF-16LE": "utf-16-le", "UTF-16BE": "utf-16-be"}


@dataclass(frozen=True, slots=True)
class Needle:
    """One thing to look for; `label` says what it is without saying it, `value` is text or bytes."""

    label: str
    value: str | bytes = field(repr=False)

    @classmethod
    def photo(cls, label: str, photo: bytes) -> Needle:
        """Look for a stretch out of the middle of a photo, where no two are alike."""
        start = max(0, len(photo) // 2 - STRETCH // 2)
        return cls(label, photo[start : start + STRETCH])


@dataclass(frozen=True, slots=True)
class Form:
    """One spelling of a needle."""

    needle: int
    name: str
    pattern: bytes = field(repr=False)

    @property
    def is_weak(self) -> bool:
        """Say whether it is too short to mean anything outside text."""
        return len(self.pattern) < SHORTEST


def forms(number: int, needle: Needle) -> Iterator[Form]:
    """Yield the spellings of a needle, each pattern once."""
    if isinstance(needle.value, bytes):
        yield Form(number, "", needle.value)
        return
    seen: set[bytes] = set()
    for name, pattern in _spellings(needle.value):
        if pattern not in seen:
            seen.add(pattern)
            yield Form(number, name, pattern)


def _spellings(value: str) -> Iterator[tuple[str, bytes]]:
    for name, code in _TEXT_CODES.items():
        yield name, value.encode(code, "replace")
    if value.isascii():
        if len(value) > 8:
            yield "分组", " ".join(value[at : at + 4] for at in range(0, len(value), 4)).encode()
        return
    escaped = "".join(f"\\u{ord(char):04x}" if ord(char) < 0x10000 else char for char in value)
    yield "JSON", escaped.encode()
    yield "JSON", escaped.upper().replace("\\U", "\\u").encode()
    for code in ("utf-8", "gb18030"):
        yield "网址", quote(value, safe="", encoding=code, errors="replace").encode()
        yield "网址", quote(value, safe="", encoding=code, errors="replace").lower().encode()
    raw = value.encode()
    yield "转义", "".join(f"\\x{byte:02x}" for byte in raw).encode()
