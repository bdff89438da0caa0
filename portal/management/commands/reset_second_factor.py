"""Remove somebody's second factor from the portal's own machine."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from portal.core.errors import PortalError
from portal.models import User
from portal.services.second_factor import reset_second_factor


class Command(BaseCommand):
    """For the case that no security administrator can sign in any more; audited like the button."""

    help = "Reset a user's second factor, who enrols anew at the next sign-in."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument("username")

    def handle(self, *args: Any, **options: Any) -> None:
        """Reset as the portal itself."""
        user = User.objects.filter(username=options["username"]).first()
        if user is None:
            raise CommandError(f"没有用户 {options['username']}")
        try:
            reset_second_factor(user, actor=User.objects.system())
        except PortalError as exc:
            raise CommandError(str(exc)) from exc
        self.stdout.write(f"{user.username} 的两步验证已重置，其登录已结束")
