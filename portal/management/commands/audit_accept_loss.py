"""Go on after a restored backup: manage.py audit_accept_loss --reason TEXT.

A restored database lacks the audit's last entries, and the marks beside the keys say so: no anchor is signed
any more. This notes in the audit which entries are gone and why; the old marks stay beside the new ones.
"""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from portal.core.errors import PortalError
from portal.models import User
from portal.services.audit_anchors import accept_loss


class Command(BaseCommand):
    """Note what is gone."""

    help = "恢复备份之后：把审计链末尾缺失的记录及原因记入审计，旧的链尾标记另存，恢复签署锚点"

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the options."""
        parser.add_argument("--reason", required=True, help="原因，例如恢复了哪一份备份")

    def handle(self, *args: Any, **options: Any) -> None:
        """Note it and say what it is."""
        try:
            loss = accept_loss(reason=options["reason"], actor=User.objects.system())
        except PortalError as exc:
            raise CommandError(str(exc)) from exc
        self.stdout.write(f"已记入审计：{loss.text}")
