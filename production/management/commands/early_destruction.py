"""Ask for early destruction or decide it from the command line (R-22): manage.py early_destruction."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from portal.core.errors import PortalError
from portal.models import User
from production.models import DestructionRequest
from production.services.destruction_requests import (
    decide_early_destruction,
    find_subject,
    request_early_destruction,
)


class Command(BaseCommand):
    """Let one person ask and another decide; each is named with --user and must have the permission."""

    help = "提前销毁数据包或单个人员的记录：request 提出申请，decide 由另一人复核"

    def add_arguments(self, parser: CommandParser) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True)
        ask = verbs.add_parser("request", help="提出申请")
        ask.add_argument("package", help="包号")
        ask.add_argument("--row", type=int, help="行号；不给则为整个数据包")
        ask.add_argument("--reason", required=True, help="事由，不得含号码")
        decide = verbs.add_parser("decide", help="复核申请")
        decide.add_argument("number", type=int, help="申请编号")
        choice = decide.add_mutually_exclusive_group(required=True)
        choice.add_argument("--approve", action="store_true", help="同意并立即销毁")
        choice.add_argument("--refuse", action="store_true", help="拒绝")
        for each in (ask, decide):
            each.add_argument("--user", required=True, help="经办人用户名")

    def handle(self, *args: Any, **options: Any) -> None:
        actor = User.objects.filter(username=options["user"], is_active=True, is_system=False).first()
        if actor is None:
            raise CommandError("没有这个用户")
        try:
            self.stdout.write(
                _ask(options, actor) if options["verb"] == "request" else _decide(options, actor)
            )
        except PortalError as exc:
            raise CommandError(f"{exc.code}: {exc}") from exc


def _ask(options: dict[str, Any], actor: User) -> str:
    subject = find_subject(options["package"], options["row"], actor=actor)
    made = request_early_destruction(subject, reason=options["reason"], actor=actor)
    return f"已提出申请 {made.pk}，须由另一人复核"


def _decide(options: dict[str, Any], actor: User) -> str:
    request = DestructionRequest.objects.visible_to(actor).filter(pk=options["number"]).first()
    if request is None:
        raise CommandError("没有这个申请")
    decided = decide_early_destruction(request, approve=options["approve"], actor=actor)
    return f"已销毁 {decided.record_count} 条记录" if options["approve"] else "已拒绝"
