"""Verify the audit: the portal's own, a restored copy (--database-url) or an exported file (--file).

Exit codes: 0 it holds, 1 it does not (the faults are named), 2 it could not be checked.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psycopg
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError

from portal.audit_check import audit_marks, check, copy_link, own_link
from portal.core.audit_anchors import read
from portal.core.audit_file import Verdict, check_file
from portal.core.audit_marks import AuditMarks, Mark
from portal.core.audit_walk import MOST_FAULTS
from portal.core.crypto import Sm2PublicKey
from portal.core.errors import PortalError
from portal.services.audit import trusted_keys

BROKEN, UNCHECKED = 1, 2


class Command(BaseCommand):
    """Say how many entries hold, or name each that does not."""

    help = "核对审计链：逐条重算 SM3，核对锚点签名，指出被改动、删除、插入、移动或整段改写的记录"

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the options."""
        source = parser.add_mutually_exclusive_group()
        source.add_argument("--database-url", metavar="URL", help="核对恢复出来的副本（只读）")
        source.add_argument("--file", type=Path, metavar="CSV", help="核对导出的审计文件")
        parser.add_argument("--start", type=int, default=1, help="从第几条开始，默认 1")
        parser.add_argument("--anchors", type=Path, metavar="FILE", help="异地保存的锚点文件")
        parser.add_argument(
            "--marks", type=Path, metavar="FILE", help="副本对应的链尾标记（密钥库中的 audit-marks）"
        )
        parser.add_argument("--public-key", type=Path, metavar="FILE", help="签署锚点的公钥（PEM）")
        parser.add_argument(
            "--limit", type=int, default=MOST_FAULTS, help=f"最多列出几处，默认 {MOST_FAULTS}"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Check and answer."""
        if options["start"] < 1 or options["limit"] < 1:
            raise CommandError("--start、--limit：应为不小于 1 的整数", returncode=UNCHECKED)
        try:
            verdict = self._checked(options)
        except (PortalError, OSError, UnicodeDecodeError, psycopg.Error, DatabaseError) as exc:
            raise CommandError(f"无法核对：{exc}", returncode=UNCHECKED) from exc
        self._answer(verdict)

    def _checked(self, options: dict[str, Any]) -> Verdict:
        kept = read(options["anchors"].read_text("utf-8")) if options["anchors"] else []
        common = {"trusted": self._trusted(options), "most_faults": options["limit"]}
        common |= {"progress": self._progress}
        if options["file"]:
            with options["file"].open(encoding="utf-8-sig", newline="") as file:
                return check_file(file, anchors=kept, **common)
        marks = self._marks(options)
        link = copy_link(options["database_url"]) if options["database_url"] else own_link()
        with link as connected:
            return check(connected, start=options["start"], kept=kept, marks=marks, **common)

    def _marks(self, options: dict[str, Any]) -> list[Mark]:
        """Return the marks that were named; without them the portal's own, which say nothing of a copy."""
        if options["marks"]:
            options["marks"].stat()  # a file that is not there must not count as an empty one
            return AuditMarks(options["marks"]).read()
        return [] if options["database_url"] else audit_marks().read()

    def _trusted(self, options: dict[str, Any]) -> frozenset[bytes] | None:
        """Believe the key that was named; without one the portal's own, which another machine has not."""
        if options["public_key"]:
            return frozenset({Sm2PublicKey.from_pem(options["public_key"].read_text("ascii")).raw})
        if options["database_url"] or options["file"]:
            self.stderr.write("未指定 --public-key：锚点签名按其自带公钥核对，请另行比对公钥指纹")
            return None
        return trusted_keys()

    def _progress(self, checked: int) -> None:
        if self.stderr.isatty():
            self.stderr.write(f"\r已核对 {checked:,} 条", ending="")

    def _answer(self, verdict: Verdict) -> None:
        found = verdict.found()
        if found:
            if verdict.report.is_cut_short:
                found.append("问题过多，其余未再核对（--limit）")
            raise CommandError("审计链已被破坏：\n" + "\n".join(found), returncode=BROKEN)
        self.stdout.write(f"审计链完好：{verdict.report.checked:,} 条")
        self.stdout.write(f"锚点：{verdict.anchors} 个，签名有效" if verdict.anchors else "锚点：尚未签署")
