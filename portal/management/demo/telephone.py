"""The authenticator of the invented programme: one secret for everybody, so that one telephone is enough."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from io import StringIO
from urllib.parse import quote

import segno
from django.utils import timezone
from django_otp.oath import TOTP
from rich.console import Console

from portal.models import SecondFactor, User
from portal.services.second_factor import STEP_SECONDS, enrol, is_required

DEMO_SECRET = b"invented-people-2026"  # 20 bytes; the demo refuses to run in production
SHOWN = base64.b32encode(DEMO_SECRET).decode()


def enrol_everybody(people: Iterable[User]) -> None:
    """Give the second factor of the demo to all whose roles need one and who have none."""
    for user in people:
        if is_required(user) and not SecondFactor.objects.filter(user=user).exists():
            factor = enrol(user, DEMO_SECRET)
            SecondFactor.objects.filter(pk=factor.pk).update(confirmed_at=timezone.now())


def code_now() -> tuple[str, int]:
    """Return the code of now and for how many seconds it is shown."""
    totp = TOTP(DEMO_SECRET, step=STEP_SECONDS)
    left = STEP_SECONDS - int(totp.time) % STEP_SECONDS
    return f"{totp.token():06d}", left


def show(console: Console) -> None:
    """Say how to get past the second step."""
    picture = StringIO()
    label = quote("制卡平台演示")
    segno.make(f"otpauth://totp/{label}?secret={SHOWN}&issuer={label}", error="l").terminal(
        picture, border=1, compact=True
    )
    console.print(
        "动态口令：用验证器应用扫描下图（所有演示用户共用），或运行 [bold]manage.py demo_code[/bold]"
    )
    console.print(picture.getvalue(), highlight=False, markup=False)
    console.print(f"  密钥 {SHOWN}")
