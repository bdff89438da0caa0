"""Run the programme once, from a sealed package to the draft statement, and show what came of it."""

from __future__ import annotations

import os
import sys
import time
from argparse import ArgumentParser
from collections.abc import Callable, Sequence
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from rich.console import Console
from rich.table import Table

from portal.core.errors import PortalError
from portal.management.demo import counter, outcome, steps, telephone
from portal.management.demo.outcome import BALANCES
from portal.management.demo.programme import DEMO_PASSWORD, set_up
from portal.management.demo.steps import Demo
from portal.management.demo.workers import workers
from portal.samples.people import SamplePerson

# A line with more trouble than a real one, so that remakes, a hold and an unknown card are seen.
RATES = {"LINE_WRONG_RATE": "0.001", "LINE_BAD_RATE": "0.002", "LINE_UNKNOWN_RATE": "0.001"}
STEPS: tuple[tuple[str, Callable[[Demo], None]], ...] = (
    ("生成演示数据", steps.make_inputs),
    ("1 接收数据包", steps.receive),
    ("2 核对退回", steps.check_returns),
    ("3 银行账号与匹配", steps.accounts),
    ("4 生成订单", steps.order),
    ("5 排产与领用", steps.plan),
    ("6 数据准备", steps.prepare),
    ("7 制作", steps.make),
    ("8 检验与重制", steps.inspect),
    ("9 数量核对", steps.close),
    ("10 装箱交付签收", steps.deliver),
    ("11 回盘", steps.return_results),
    ("12 销毁", steps.destroy),
    ("13 结算", steps.settle),
)


class Command(BaseCommand):
    """The demo; only for development."""

    help = "Set up an invented programme and run the main job once (R-1 … R-48, architecture §3)."

    late: Sequence[SamplePerson] = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument("--records", type=int, default=2000, metavar="N", help="people in the package")
        parser.add_argument("--workers", type=int, default=2, metavar="N", help="RQ workers")
        parser.add_argument("--no-serve", action="store_true", help="stop after the run instead of serving")
        parser.add_argument("--port", type=int, default=8000, help="port to serve on afterwards")

    def handle(self, *args: Any, **options: Any) -> None:
        """Run every step, print the table and serve."""
        if options["records"] < 1:
            raise CommandError("--records：应为不小于 1 的整数")
        console = Console(force_terminal=None, highlight=False)
        call_command("migrate", verbosity=0)
        for name, rate in RATES.items():
            os.environ.setdefault(name, rate)  # the workers are our children
        folder = settings.VAR_DIR / "demo"
        (folder / "accounts").mkdir(parents=True, exist_ok=True)
        try:
            seconds, demo = self._run(console, folder, options)
        except PortalError as exc:
            raise CommandError(f"{exc}（{exc.code}）") from exc
        balanced = self._report(console, demo, seconds)
        if not balanced:
            raise CommandError("数量不平衡")
        if not options["no_serve"]:
            self._serve(console, options["port"])

    def _run(self, console: Console, folder: Any, options: dict[str, Any]) -> tuple[dict[str, float], Demo]:
        console.print(
            f"[bold]社会保障卡制卡演示[/bold]：{options['records']:,} 人，{options['workers']} 个工作进程"
        )
        programme = set_up(blanks_needed=options["records"] * 2)
        telephone.enrol_everybody(programme.users.values())
        seconds: dict[str, float] = {}
        with workers(options["workers"]) as crew:
            demo = Demo(programme, folder, options["records"], console, crew)
            for label, step in STEPS:
                console.print(f"[cyan]{label}[/cyan]")
                started = time.perf_counter()
                step(demo)
                seconds[label] = time.perf_counter() - started
            console.print("[cyan]留给柜台[/cyan]")
            self.late = counter.match_late(demo)
        return seconds, demo

    def _report(self, console: Console, demo: Demo, seconds: dict[str, float]) -> bool:
        counts = outcome.counts(demo)
        table = Table(title="各步用时")
        table.add_column("步骤")
        table.add_column("秒", justify="right")
        for label, used in seconds.items():
            table.add_row(label, f"{used:,.1f}")
        table.add_row("合计", f"{sum(seconds.values()):,.1f}", style="bold")
        console.print(table)
        balance = Table(title="数量平衡")
        for heading in ("等式", "左", "右", "结果"):
            balance.add_column(heading, justify="left" if heading == "等式" else "right")
        balanced = True
        for left, right, label in BALANCES:
            total = sum(counts.get(name, 0) for name in right)
            holds = counts.get(left, 0) == total
            balanced = balanced and holds
            parts = " + ".join(f"{counts.get(name, 0):,}" for name in right)
            balance.add_row(label, f"{counts.get(left, 0):,}", parts, "平" if holds else "[red]不平[/red]")
        console.print(balance)
        console.print(
            f"埋入的错误种类 {counts.get('faults', 0)}，全部按预期退回；未知卡 {counts.get('unknown', 0)} 张"
        )
        console.print(f"工作进程内存峰值 {demo.crew.peak:,.0f} MB")
        for name in ("return-list.xlsx", "lists", "faces", "certificates", "statement-lot1.xlsx"):
            console.print(f"  {demo.folder / name}")
        for person in self.late:
            console.print(f"柜台可制卡（虚构的人）：{person.name}　{person.number}")
        return balanced

    def _serve(self, console: Console, port: int) -> None:
        console.print(f"[bold]http://127.0.0.1:{port}/admin/[/bold]　演示口令均为 {DEMO_PASSWORD}")
        for name in (
            "purchaser_clerk", "purchaser_approver", "supplier_planner.lc", "supplier_operator.lc",
            "supplier_quality.lc", "warehouse_keeper.lc", "bank_clerk.icbc", "counter_operator",
            "system_administrator", "security_administrator", "auditor",
        ):  # fmt: skip
            console.print(f"  {name}")
        telephone.show(console)
        sys.stdout.flush()
        server = settings.BASE_DIR / "script" / "server"
        os.execv(server, [str(server), "--port", str(port)])  # noqa: S606 - our own script, fixed path
