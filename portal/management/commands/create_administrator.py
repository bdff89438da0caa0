"""Add the first administrator of a kind: after that people get in, and get roles, through the portal."""

from __future__ import annotations

import getpass
import sys
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from portal.audit import unit_of_work
from portal.choices import ADMINISTRATORS, OrganisationKind
from portal.core.errors import PortalError
from portal.models import Organisation, User
from portal.services.master_rows import save_row
from portal.services.people import add_user


class Command(BaseCommand):
    """Refuses where an active administrator of the kind exists: that one is the way then."""

    help = "Add the first system administrator, security administrator or auditor."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options; the password comes from the terminal or the first line of the input."""
        parser.add_argument("username")
        parser.add_argument("--role", required=True, choices=sorted(ADMINISTRATORS))
        parser.add_argument("--last-name", required=True)
        parser.add_argument("--first-name", default="")
        parser.add_argument("--organisation", required=True, metavar="CODE", help="the purchaser's code")
        parser.add_argument(
            "--organisation-name", metavar="NAME", help="to add the purchaser if it is missing"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Ask for the initial password and add the person with the role."""
        role = options["role"]
        if User.objects.filter(roles__contains=[role], is_active=True).exists():
            raise CommandError("已有启用的同类管理员，请在平台中新增用户")
        password = _password()
        system = User.objects.system()
        try:
            with unit_of_work(system):
                user = add_user(
                    username=options["username"],
                    last_name=options["last_name"],
                    first_name=options["first_name"],
                    organisation=_purchaser(options["organisation"], options["organisation_name"], system),
                    roles=[role],
                    password=password,
                    actor=system,
                )
        except PortalError as exc:
            raise CommandError(str(exc)) from exc
        self.stdout.write(f"已新增 {user.username}；首次登录须修改密码并绑定两步验证")


def _password() -> str:
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\n")
    first = getpass.getpass("初始密码：")
    if first != getpass.getpass("再次输入："):
        raise CommandError("两次输入的密码不一致")
    return first


def _purchaser(code: str, name: str | None, system: User) -> Organisation:
    found = Organisation.objects.filter(code=code).first()
    if found is not None:
        return found
    if name is None:
        raise CommandError(f"没有代码为 {code} 的单位；用 --organisation-name 登记")
    row = Organisation(kind=OrganisationKind.PURCHASER, code=code, name=name, short_name=name[:32])
    return save_row(row, changed=["kind", "code", "name", "short_name"], actor=system)
