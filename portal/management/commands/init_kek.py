"""Make the key-encryption key in a PKCS#11 token or in a new file of mode 0600."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from portal.core.errors import PortalError
from portal.core.key_wrapping import create_kek


class Command(BaseCommand):
    """Draw the KEK once; an existing one is never replaced."""

    help = "生成主控密钥（KEK）：在 PKCS#11 令牌内生成不可导出的密钥，或写入权限 0600 的新文件"
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument(
            "place",
            nargs="?",
            help="文件的绝对路径或 pkcs11: URI；默认取 PORTAL_KEK_NEXT，没有时取 PORTAL_KEK",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Make the key and print what tells it from another."""
        place = options["place"] or settings.KEK_NEXT or settings.KEK
        try:
            value = create_kek(place)
        except PortalError as exc:
            raise CommandError(str(exc)) from exc
        self.stdout.write(f"主控密钥已生成，校验值 {value}")
