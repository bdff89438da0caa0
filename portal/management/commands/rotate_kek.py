"""Bring every key of the key store under another KEK while the portal works."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from rich.progress import Progress

from portal.audit import record_alone
from portal.core.errors import PortalError
from portal.core.key_wrapping import holds_key, load_wrapper
from portal.core.keystore import KeyStore
from portal.files import keystore
from portal.models import User


class Command(BaseCommand):
    """Wrap key after key anew; killed at any moment, run it again."""

    help = "轮换主控密钥（KEK）：逐个重新封装密钥文件；中断后再次运行即可继续，运行中的进程不受影响"

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument(
            "--to", default="", help="新的主控密钥：文件或 pkcs11: URI；默认取 PORTAL_KEK_NEXT"
        )
        parser.add_argument(
            "--alone",
            action="store_true",
            help="没有其他进程在运行，因此不要求各进程事先配置 PORTAL_KEK_NEXT",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Rotate and say what to configure now."""
        try:
            store = _store(options["to"], alone=options["alone"])
            with Progress(disable=not self.stdout.isatty()) as progress:
                task = progress.add_task("重新封装", total=store.count())
                done = store.rotate(progress=lambda: progress.advance(task))
        except PortalError as exc:
            raise CommandError(str(exc)) from exc
        record_alone(
            "kek.rotated",
            actor=User.objects.system(),
            result="done",
            before=done.before,
            after=done.after,
            keys=done.rewrapped + done.untouched,
        )
        self.stdout.write(
            f"已轮换：{done.before} → {done.after}，"
            f"重新封装 {done.rewrapped} 个，此前已完成 {done.untouched} 个"
        )
        self.stdout.write("请将 PORTAL_KEK 改为新的主控密钥、去掉 PORTAL_KEK_NEXT，并依次重启各进程")


def _store(target: str, *, alone: bool) -> KeyStore:
    if holds_key(target):
        raise CommandError("命令行不得出现密钥本身：请给出文件路径或 pkcs11: URI")
    if settings.KEK_NEXT and target in {"", settings.KEK_NEXT}:
        return keystore()
    if settings.KEK_NEXT:
        raise CommandError("--to 与 PORTAL_KEK_NEXT 不同")
    if not target:
        raise CommandError("请配置 PORTAL_KEK_NEXT，或用 --to 指定")
    if not alone:
        raise CommandError("请先为所有进程配置 PORTAL_KEK_NEXT 并重启；若没有其他进程在运行，加 --alone")
    directory = Path(settings.KEYSTORE_DIR)
    drawn = directory.with_name(f"{directory.name}-kek")
    return KeyStore(
        directory,
        load_wrapper(settings.KEK, production=settings.PRODUCTION, directory=drawn),
        next_kek=load_wrapper(target, production=settings.PRODUCTION),
        production=settings.PRODUCTION,
    )
