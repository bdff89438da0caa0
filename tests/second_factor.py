"""Give a test's people a second factor without the pages, and let them pass its step."""

from __future__ import annotations

import base64
import secrets
from dataclasses import dataclass, field

from django.test import Client
from django.utils import timezone
from django_otp.oath import TOTP

from portal.models import SecondFactor, User
from portal.services.second_factor import STEP_SECONDS, enrol
from portal.sign_in_gate import VERIFIED


@dataclass(frozen=True)
class Authenticator:
    """The application on a person's telephone."""

    secret: bytes = field(repr=False)

    @classmethod
    def reading(cls, text: str) -> Authenticator:
        """Take a secret as the enrolment page shows it."""
        return cls(base64.b32decode(text))

    def code(self, steps: int = 0) -> str:
        """Return the code of now, or of so many steps later."""
        totp = TOTP(self.secret)
        totp.time = timezone.now().timestamp() + steps * STEP_SECONDS
        return f"{totp.token():06d}"


def enrolled(user: User) -> Authenticator:
    """Return the telephone of a person who enrolled before."""
    secret = secrets.token_bytes(20)
    factor = enrol(user, secret)
    SecondFactor.objects.filter(pk=factor.pk).update(confirmed_at=timezone.now())
    return Authenticator(secret)


def verified_client(user: User) -> Client:
    """Return a browser in which the person went through both steps, without the pages."""
    client = Client()
    client.force_login(user)
    factor = SecondFactor.objects.filter(user=user).first()
    if factor is None:
        enrolled(user)
        factor = SecondFactor.objects.get(user=user)
    session = client.session
    session[VERIFIED] = factor.pk
    session.save()
    return client
