"""Where a wrapping key stands in a token, as a PKCS#11 URI (RFC 7512), and where its PIN comes from."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from portal.core.crypto import KeyFormatError
from portal.core.key_files import read_private
from portal.core.key_refusals import TokenPinError

SCHEME = "pkcs11:"
PIN_VARIABLE = "PORTAL_KEK_PIN"
_PATH = frozenset({"token", "object", "serial", "type"})
_QUERY = frozenset({"module-path", "pin-source"})


@dataclass(frozen=True, slots=True)
class PinSource:
    """Where the PIN stands; it is read for each sign-in and kept nowhere."""

    variable: str = PIN_VARIABLE
    file: str = ""

    def read(self) -> str:
        """Return the PIN from the environment or from a file of mode 0600."""
        if self.file:
            return self._from_file()
        pin = os.environ.get(self.variable, "")
        if not pin:
            raise TokenPinError("没有提供令牌口令（PIN）", expected=f"环境变量 {self.variable}")
        return pin

    def _from_file(self) -> str:
        try:
            pin = read_private(Path(self.file)).decode().strip()
        except (OSError, ValueError):
            raise TokenPinError("令牌口令（PIN）文件不可读", where=self.file) from None
        if not pin:
            raise TokenPinError("令牌口令（PIN）文件为空", where=self.file)
        return pin


@dataclass(frozen=True, slots=True)
class TokenAddress:
    """Which key in which token, reached through which module."""

    module: str
    token: str
    label: str
    pin: PinSource
    serial: str = ""


def parse_address(uri: str) -> TokenAddress:
    """Read `pkcs11:token=…;object=…?module-path=…&pin-source=file:…`; raise KeyFormatError.

    Errors name attributes, never values: somebody may have written the PIN where it does not belong.
    """
    if not uri.startswith(SCHEME):
        raise KeyFormatError("不是 PKCS#11 URI", expected="pkcs11:token=…;object=…?module-path=…")
    path, _, query = uri.removeprefix(SCHEME).partition("?")
    names = _attributes(path.split(";"), _PATH)
    options = _attributes(query.split("&"), _QUERY)
    if names.get("type", "secret-key") != "secret-key":
        raise KeyFormatError("PKCS#11 URI 的 type 须为 secret-key", where="type")
    module = _required(options, "module-path")
    if not module.startswith("/"):
        raise KeyFormatError("PKCS#11 模块须写绝对路径", where="module-path")
    return TokenAddress(
        module=module,
        token=_required(names, "token"),
        label=_required(names, "object"),
        pin=_pin_source(options.get("pin-source", "")),
        serial=names.get("serial", ""),
    )


def _attributes(parts: list[str], known: frozenset[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for part in filter(None, parts):
        name, _, value = part.partition("=")
        if name == "pin-value":
            raise KeyFormatError(
                "PKCS#11 URI 不得直接写口令", where="pin-value", expected="pin-source=file:…"
            )
        if name not in known or name in found:
            shown = "、".join(sorted(known))
            raise KeyFormatError("PKCS#11 URI 的属性不支持或重复", expected=shown)
        found[name] = unquote(value, errors="strict") if _is_clean(value) else ""
    return found


def _is_clean(value: str) -> bool:
    """Say whether percent codes give UTF-8 without NUL."""
    try:
        return "\0" not in unquote(value, errors="strict")
    except UnicodeDecodeError:
        return False


def _required(found: Mapping[str, str], name: str) -> str:
    if not found.get(name):
        raise KeyFormatError("PKCS#11 URI 缺少属性，或其值不可用", where=name)
    return found[name]


def _pin_source(text: str) -> PinSource:
    if not text:
        return PinSource()
    kind, _, rest = text.partition(":")
    if kind == "file":
        path = urlsplit(text).path
        if path.startswith("/"):
            return PinSource(file=path)
    if kind == "env" and rest.isidentifier():
        return PinSource(variable=rest)
    raise KeyFormatError(
        "PKCS#11 URI 的口令来源不可用", where="pin-source", expected="file:/路径 或 env:变量名"
    )
