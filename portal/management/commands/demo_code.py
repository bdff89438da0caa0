"""Print the code that the demo's people would read from their telephone."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from portal.management.demo.telephone import code_now


class Command(BaseCommand):
    """For development only: the secret behind it is known to everybody."""

    help = "Print the present code of the demo's second factor."

    def handle(self, *args: Any, **options: Any) -> None:
        """Print the code to the output and how long it is shown to the error stream."""
        if settings.PRODUCTION:
            raise CommandError("演示口令不能用于生产环境")
        code, left = code_now()
        self.stderr.write(f"还有 {left} 秒")
        self.stdout.write(code)
