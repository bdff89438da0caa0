"""Bring a card master key at a terminal: two people, each signs in and types a component (R-25).

Nothing secret is an argument: passwords, codes and components are asked for and not shown.
"""

from __future__ import annotations

from argparse import ArgumentParser
from datetime import date
from getpass import getpass
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from portal.choices import KeyImportStatus
from portal.core.errors import PortalError
from portal.models import KeyImport
from portal.services.keys import cancel_key_import, finish_key_import, start_key_import
from portal.services.sign_in import Step, check_code, check_password, next_step

ADDRESS = "terminal"


class Command(BaseCommand):
    """Take what is missing: the first component, then the second one at once or another time."""

    help = "双人导入主密钥：两名安全管理员先后登录，各录入一个分量；密码与分量均不显示、不作参数"

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument("name", help="主密钥名称，如 SSSE-IRK")
        parser.add_argument("version", type=int, help="版本，从 1 起")
        parser.add_argument("--check-value", help="整把主密钥的校验值（6 位十六进制），录入分量一时必填")
        parser.add_argument("--valid-from", type=date.fromisoformat, help="启用日期，如 2027-01-01")
        parser.add_argument("--valid-until", type=date.fromisoformat, help="停用日期（含当日）")
        parser.add_argument("--cancel", action="store_true", help="取消正在等待的导入，销毁分量一")

    def handle(self, *args: Any, **options: Any) -> None:
        """Go on where the ceremony stands."""
        waiting = KeyImport.objects.filter(
            name=options["name"], version=options["version"], status=KeyImportStatus.WAITING
        ).first()
        try:
            if options["cancel"]:
                self._cancel(waiting)
                return
            if waiting is None:
                waiting = self._first(options)
            self._second(waiting)
        except PortalError as exc:
            raise CommandError(str(exc)) from exc

    def _first(self, options: dict[str, Any]) -> KeyImport:
        if not options["check_value"]:
            raise CommandError("请用 --check-value 给出整把主密钥的校验值")
        actor = self._sign_in("分量一录入人")
        row = start_key_import(
            options["name"],
            options["version"],
            check_value=options["check_value"],
            valid_from=options["valid_from"],
            valid_until=options["valid_until"],
            **_component("分量一"),
            actor=actor,
        )
        self.stdout.write(f"分量一已密封保存，请另一名安全管理员在 {_local(row.expires_at)} 前录入分量二")
        return row

    def _second(self, row: KeyImport) -> None:
        actor = self._sign_in("分量二录入人（稍后再录请直接回车）", optional=True)
        if actor is None:
            return
        master = finish_key_import(row, **_component("分量二"), actor=actor)
        self.stdout.write(f"主密钥 {row} 已导入，校验值 {master.check_value}")

    def _cancel(self, row: KeyImport | None) -> None:
        if row is None:
            raise CommandError("没有正在等待的导入")
        cancel_key_import(row, actor=self._sign_in("安全管理员"))
        self.stdout.write("导入已取消，分量一已销毁")

    def _sign_in(self, who: str, *, optional: bool = False) -> Any:
        """Return the person whose name, password and code are typed; None where nobody comes."""
        self.stdout.write(f"{who}：")
        username = input("用户名：").strip()
        if not username and optional:
            return None
        user = check_password(username, getpass("密码："), address=ADDRESS)
        step = next_step(user, verified=None, started_at=timezone.now())
        if step is Step.CODE:
            factor = check_code(user, getpass("动态口令："), address=ADDRESS)
            step = next_step(user, verified=factor, started_at=timezone.now())
        if step is not None:
            raise CommandError("该用户须先在网页上完成登录（修改密码或绑定两步验证）")
        return user


def _component(what: str) -> dict[str, str]:
    return {"component": getpass(f"{what}："), "component_check_value": getpass(f"{what}校验值：")}


def _local(moment: Any) -> str:
    return f"{timezone.localtime(moment):%Y-%m-%d %H:%M}"
