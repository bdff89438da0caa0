"""Strict reading of one TOML table: every key has its type, and one nobody asked for is a typing error."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from types import TracebackType
from typing import Any, Final, Self

from portal.core.errors import PortalError

_REQUIRED: Final = object()


class Table:
    """Read typed values; leaving the `with` block refuses keys nobody asked for."""

    def __init__(self, raw: Mapping[str, Any], where: str, error: type[PortalError]) -> None:
        if not isinstance(raw, Mapping):
            raise error("应为表", where=where)
        self.where = f"{where} {raw.get('name') or raw.get('id') or raw.get('key') or ''}".strip()
        self.error = error
        self._raw = raw
        self._asked: set[str] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        unknown = sorted(set(self._raw) - self._asked)
        if kind is None and unknown:
            raise self.error("不认识的键", where=self.where, got="、".join(unknown))

    def text(self, key: str, default: object = _REQUIRED) -> str:
        """Return a string."""
        return str(self._take(key, str, default))

    def number(self, key: str, default: object = _REQUIRED) -> int:
        """Return an integer."""
        return int(self._take(key, int, default))

    def real(self, key: str, default: object = _REQUIRED) -> float:
        """Return a number, whole or not."""
        return float(self._take(key, (int, float), default))

    def flag(self, key: str, default: bool) -> bool:
        """Return true or false."""
        return bool(self._take(key, bool, default))

    def hex(self, key: str, default: object = _REQUIRED) -> bytes:
        """Return bytes written as hexadecimal text."""
        value = self._take(key, (str, bytes), default)
        try:
            return value if isinstance(value, bytes) else bytes.fromhex(value)
        except ValueError as exc:
            raise self.error("不是十六进制", where=f"{self.where} {key}") from exc

    def rows(self, key: str) -> list[Mapping[str, Any]]:
        """Return an array of tables, empty when absent."""
        return list(self._take(key, list, []))

    def pairs(self, key: str) -> list[Any]:
        """Return an array whose parts the caller checks; it must be there."""
        return list(self._take(key, list, _REQUIRED))

    def table(self, key: str, default: object = _REQUIRED) -> Mapping[str, Any]:
        """Return a nested table."""
        found: Mapping[str, Any] = self._take(key, dict, default)
        return found

    def _take(self, key: str, kind: type | tuple[type, ...], default: object) -> Any:
        self._asked.add(key)
        value = self._raw.get(key, default)
        if value is _REQUIRED:
            raise self.error("缺少键", where=self.where, expected=key)
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise self.error("值的类型不对", where=f"{self.where} {key}", got=type(value).__name__)
        return value


def take(value: str, allowed: Collection[str], table: Table) -> str:
    """Return the value when it is one of the allowed words; raise the table's error otherwise."""
    if value not in allowed:
        raise table.error("取值不对", where=table.where, expected="、".join(sorted(allowed)), got=value)
    return value
