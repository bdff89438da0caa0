"""Make a bearer token for the API."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from portal.core.errors import PortalError
from portal.models import User
from portal.services.tokens import issue_token
from portal.token_scopes import SCOPES

DEFAULT_DAYS = 90


class Command(BaseCommand):
    """Print a new token once; the portal keeps only its digest."""

    help = "Make an API token for a user and print it, this once."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument("username")
        parser.add_argument("--name", required=True, help="what the token is for")
        parser.add_argument(
            "--scope",
            action="append",
            required=True,
            dest="scopes",
            choices=sorted(SCOPES),
            help="area of the API the token opens; may be given more than once",
        )
        parser.add_argument("--days", type=int, default=DEFAULT_DAYS, help=f"default {DEFAULT_DAYS}")
        parser.add_argument(
            "--as", dest="actor", metavar="USERNAME", help="the security administrator who does it"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Issue and print."""
        user = _user(options["username"])
        actor = _user(options["actor"]) if options["actor"] else User.objects.system()
        try:
            token, text = issue_token(
                user, name=options["name"], days=options["days"], scopes=options["scopes"], actor=actor
            )
        except PortalError as exc:
            raise CommandError(str(exc)) from exc
        self.stderr.write(f"令牌只显示这一次，有效至 {token.expires_at:%Y-%m-%d}：")
        self.stdout.write(text)


def _user(username: str) -> User:
    user = User.objects.filter(username=username).first()
    if user is None:
        raise CommandError(f"没有用户 {username}")
    return user
