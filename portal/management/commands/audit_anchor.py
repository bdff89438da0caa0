"""Sign an anchor of the audit's chain: manage.py audit_anchor [--out FILE] [--key-out FILE]."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from portal.core.errors import PortalError
from portal.files import portal_key
from portal.models import User
from portal.services.audit import export_anchors
from portal.services.audit_anchors import sign_anchor


class Command(BaseCommand):
    """Sign what is new and, if wanted, write all anchors to a file that is kept elsewhere."""

    help = "为审计链签署 SM2 锚点；--out 另存全部锚点，供异地保存"

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the options."""
        parser.add_argument("--out", type=Path, metavar="FILE", help="把全部锚点写入此文件（不得已存在）")
        parser.add_argument("--key-out", type=Path, metavar="FILE", help="把签署公钥写入此文件（PEM）")

    def handle(self, *args: Any, **options: Any) -> None:
        """Sign, then write."""
        system = User.objects.system()
        try:
            row = sign_anchor(actor=system)
            if row is None:
                self.stdout.write("没有新的审计记录，未签署锚点")
            else:
                anchor = row.anchor()
                self.stdout.write(
                    f"锚点 {anchor.number}：至第 {anchor.position:,} 条，摘要 {anchor.digest.hex()}，"
                    f"签名公钥指纹 {anchor.key_id}"
                )
            if options["out"]:
                self._write(options["out"], export_anchors(actor=system))
            if options["key_out"]:
                self._write(options["key_out"], portal_key().public.to_pem())
        except PortalError as exc:
            raise CommandError(str(exc)) from exc

    def _write(self, path: Path, text: str) -> None:
        try:
            with path.open("x") as file:
                file.write(text)
        except OSError as exc:
            raise CommandError(f"无法写入 {path}：{exc.strerror}") from exc
        self.stdout.write(f"已写入 {path}")
