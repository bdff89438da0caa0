"""Say under which KEK the key store stands and which card master keys it holds."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from portal.core.clock import today
from portal.core.errors import PortalError
from portal.core.keystore import MasterKey
from portal.files import keystore


class Command(BaseCommand):
    """Open the key store; nothing but check values is shown."""

    help = "显示密钥库状况：主控密钥（KEK）校验值、密钥个数、各主密钥的版本与校验值"

    def handle(self, *args: Any, **options: Any) -> None:
        """Print one line a master key."""
        try:
            store = keystore()
            masters = store.masters()
        except PortalError as exc:
            raise CommandError(str(exc)) from exc
        self.stdout.write(f"主控密钥校验值 {store.kek_check_value}，密钥文件 {store.count():,} 个")
        for master in masters:
            self.stdout.write(_line(master))


def _line(master: MasterKey) -> str:
    days = f"{master.valid_from or '…'} 至 {master.valid_until or '…'}"
    state = "测试密钥" if master.test else ("有效" if master.is_valid(today()) else "不在有效期")
    return f"{master.name} v{master.version}  {master.check_value}  {days}  {state}"
