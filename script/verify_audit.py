#!/usr/bin/env python3
"""Verify an exported audit without the portal and its database.

Stands alone: needs Python 3.11, `cryptography` and `gmssl_pyx`, no Django. The export (CSV), the anchors and
the portal's public key should have come by different ways.

    verify_audit.py [--anchors anchors.json] [--public-key portal.pub] audit-20261123.csv

Exit codes: 0 it holds, 1 it does not (the faults are named), 2 it could not be checked.
"""

# ruff: noqa: T201 - a command line answers by printing
from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

try:
    from portal.core.audit_anchors import read
    from portal.core.audit_file import Verdict, check_file
    from portal.core.crypto import Sm2PublicKey
    from portal.core.errors import PortalError
except ImportError as exc:  # Python's own exit code would say that the audit does not hold
    print(f"无法核对：缺少 {exc.name}，请先 pip install cryptography gmssl_pyx", file=sys.stderr)
    raise SystemExit(2) from None

HOLDS, BROKEN, UNCHECKED = 0, 1, 2


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    options = _parser().parse_args(arguments)
    try:
        verdict = _checked(options)
    except (PortalError, OSError, UnicodeDecodeError) as exc:
        print(f"无法核对：{exc}", file=sys.stderr)
        return UNCHECKED
    if verdict.holds:
        print(f"审计链完好：{verdict.report.checked:,} 条")
        print(f"锚点：{verdict.anchors} 个，签名有效" if verdict.anchors else "锚点：未提供")
        return HOLDS
    print("审计链已被破坏：", *verdict.found(), sep="\n")
    return BROKEN


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="脱机校验导出的审计记录（SM3 链、SM2 锚点）")
    parser.add_argument("file", type=Path, help="导出的 CSV")
    parser.add_argument("--anchors", type=Path, metavar="FILE", help="异地保存的锚点文件")
    parser.add_argument("--public-key", type=Path, metavar="FILE", help="平台公钥（PEM）")
    return parser


def _checked(options: argparse.Namespace) -> Verdict:
    anchors = read(options.anchors.read_text("utf-8")) if options.anchors else []
    trusted = None
    if options.public_key:
        trusted = frozenset({Sm2PublicKey.from_pem(options.public_key.read_text("ascii")).raw})
    elif anchors:
        print(
            "未指定 --public-key：锚点按其自带公钥核对，请另行比对指纹：", anchors[-1].key_id, file=sys.stderr
        )
    with options.file.open(encoding="utf-8-sig", newline="") as file:
        return check_file(file, anchors=anchors, trusted=trusted)


if __name__ == "__main__":
    sys.exit(main())
