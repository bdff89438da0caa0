"""The payment data that banks supplied: one reviewed file a bank, without personal data or keys (R-16).

PAYMENT_DIR holds `<bank code>.json` in the format of `personalization/payment_data.py`. A bank without a file
has its cards made without a payment application.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from django.conf import settings

from production.personalization.payment_data import (
    BankGroups,
    PaymentDataError,
    parse_bank_groups,
    payment_key_names,
)


def bank_groups(code: str) -> BankGroups | None:
    """Return the checked groups of a bank; None when PAYMENT_DIR has no file of its code."""
    if not settings.PAYMENT_DIR:
        return None
    if not Path(settings.PAYMENT_DIR).is_dir():  # not mounted: no bank may seem to have supplied nothing
        raise PaymentDataError("支付数据目录不存在", where="PAYMENT_DIR")
    path = Path(settings.PAYMENT_DIR) / f"{code}.json"
    # A bank's code is a column of ours, yet it must not lead out of the folder.
    if path.resolve().parent != Path(settings.PAYMENT_DIR).resolve() or not path.is_file():
        return None
    groups = _parsed(path, path.stat().st_mtime_ns)
    if groups.bank != code:
        raise PaymentDataError("支付数据不是这家银行的", where=path.name, expected=code, got=groups.bank)
    return groups


def payment_master_names() -> dict[str, str]:
    """Return the names of the masters that banks with a payment file need, with what each is for."""
    if not settings.PAYMENT_DIR:
        return {}
    uses = {"kmc": "白卡支付应用的发卡密钥", "ac": "应用密文", "mac": "安全报文校验", "enc": "安全报文加密"}
    codes = sorted(path.stem for path in Path(settings.PAYMENT_DIR).glob("*.json"))
    return {
        name: f"银行 {code} 支付应用：{uses[role]}"
        for code in codes
        for role, name in payment_key_names(code).items()
    }


@lru_cache(maxsize=64)
def _parsed(path: Path, changed: int) -> BankGroups:
    """Read a file once for each time it changed; raise PaymentDataError also for what cannot be read."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise PaymentDataError("支付数据文件读不出来", where=path.name, got=type(exc).__name__) from None
    return parse_bank_groups(text)
