"""Search everything for traces of people (R-22, R-45): manage.py scan_personal_data.

Before a destruction write a sealed probe, after it search for what the probe holds:

    manage.py scan_personal_data --batch DD20261123-ICBC-F-001-01 --before --out probe.sealed
    manage.py scan_personal_data --probe probe.sealed --path /backup/portal.dump --path /var/log/portal

Values never stand in arguments, and the output says where something stands, never what it is.
Exit codes: 0 nothing found, 1 something found, or not everything could be read.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from portal.audit import record_alone
from portal.core.errors import PortalError
from portal.core.traces import Finder
from portal.models import User
from portal.services.probes import Wanted, destroy_probe, read_lines, read_probe
from portal.services.scanning import PLACES, Scan, run_scan
from production.models import Batch
from production.services.destruction_probe import write_batch_probe

MOST_SHOWN = 200


class Command(BaseCommand):
    """Write a probe, or search with one or with values from the standard input."""

    help = "在数据库、Redis、文件、备份、日志与临时目录中查找个人数据的痕迹；找到时退出码为 1"

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--batch", metavar="批次号", help="与 --before 合用：销毁前写出该批次的探针")
        parser.add_argument("--before", action="store_true", help="写出密封的探针文件")
        parser.add_argument("--out", type=Path, metavar="文件", help="探针文件，须尚不存在")
        source = parser.add_mutually_exclusive_group()
        source.add_argument("--probe", type=Path, metavar="文件", help="用探针查找，查完即销毁探针")
        source.add_argument("--stdin", action="store_true", help="从标准输入读要找的值，每行一个")
        parser.add_argument("--keep", action="store_true", help="查完保留探针")
        parser.add_argument("--only", nargs="+", choices=PLACES, default=list(PLACES), help="只查这些地方")
        parser.add_argument(
            "--path", type=Path, action="append", default=[], metavar="路径", help="另查的文件或目录"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            if options["before"] or options["batch"] or options["out"]:
                self._write(options)
            else:
                self._search(options)
        except (PortalError, OSError) as exc:
            raise CommandError(str(exc)) from exc

    def _write(self, options: dict[str, Any]) -> None:
        if not (options["before"] and options["batch"] and options["out"]):
            raise CommandError("写探针须同时给出 --batch、--before 和 --out")
        batch = Batch.objects.filter(number=options["batch"]).first()
        if batch is None:
            raise CommandError("没有这个批次")
        count = write_batch_probe(batch, options["out"], actor=User.objects.system())
        self.stdout.write(f"探针已写出：{count} 人")

    def _search(self, options: dict[str, Any]) -> None:
        for path in options["path"]:
            if not path.exists():
                raise CommandError(f"没有这个路径：{path}")
        wanted = self._wanted(options)
        scan = Scan(Finder(wanted.needles, digests=wanted.digests), self._progress)
        run_scan(scan, places=options["only"], paths=options["path"])
        if options["probe"] and not options["keep"]:
            destroy_probe(options["probe"])
        self._report(scan, len(wanted.needles) + len(wanted.digests))

    def _wanted(self, options: dict[str, Any]) -> Wanted:
        if options["probe"]:
            return read_probe(options["probe"])
        if options["stdin"]:
            return read_lines(sys.stdin)
        raise CommandError("须给出 --probe 或 --stdin")

    def _progress(self, text: str) -> None:
        if self.stderr.isatty():
            self.stderr.write(f"\r\033[K{text}", ending="")

    def _report(self, scan: Scan, wanted: int) -> None:
        found, unread = len(scan.traces), len(scan.unread)
        facts: dict[str, Any] = {"wanted": wanted, "found": found, "unread": unread}
        facts |= {"tables": scan.tables, "rows": scan.rows, "keys": scan.keys, "files": scan.files}
        result = "found" if found else "done"
        record_alone("personal_data.scanned", actor=User.objects.system(), result=result, **facts)
        for line in [*map(str, scan.traces[:MOST_SHOWN]), *scan.unread[:MOST_SHOWN]]:
            self.stdout.write(line)
        self.stdout.write(
            f"查找 {wanted} 项：数据库 {scan.tables} 张表 {scan.rows:,} 行，Redis {scan.keys:,} 个键，"
            f"文件 {scan.files:,} 个；发现 {found} 处，未能读取 {unread} 个"
        )
        if found or unread:
            raise CommandError(f"发现 {found} 处痕迹，{unread} 个文件未能读取")
