"""The second step of signing in: codes of an authenticator (TOTP, RFC 6238) and one-time recovery codes."""

from __future__ import annotations

import base64
import re
import secrets
from dataclasses import dataclass, field
from typing import ClassVar
from urllib.parse import quote, urlencode

from django.conf import settings
from django.utils import timezone
from django_otp.oath import TOTP

from portal.audit import unit_of_work
from portal.core.errors import ConflictError, InputRefusedError
from portal.core.keystore import KeyPurpose
from portal.files import blind_index, cipher, keystore
from portal.models import RecoveryCode, SecondFactor, User
from portal.removal import remove_after_commit
from portal.roles import PRIVILEGED_ROLES, require
from portal.services.sessions import end_sessions
from portal.workflow import locked

SECRET_BYTES = 20  # RFC 4226, 4: 160 bits
STEP_SECONDS = 30
DIGITS = 6
DRIFT_STEPS = 1  # of a telephone's clock, either way
RECOVERY_CODES = 10
# Without letters and digits that look alike.
_ALPHABET = "23456789ABCDEFGHJKLMNPQRSTUVWXYZ"
_GROUP = 5
_CODE = re.compile(rf"[0-9]{{{DIGITS}}}\Z")


class CodeRefusedError(InputRefusedError):
    """A code that is wrong, out of its time or used before; does not say which."""

    code: ClassVar[str] = "code_refused"


class SecondFactorError(InputRefusedError):
    """The second factor is not in the state for this."""

    code: ClassVar[str] = "second_factor_state"


@dataclass(frozen=True, slots=True)
class Enrolment:
    """What an authenticator needs to know; shown to the person only."""

    secret: str = field(repr=False)
    """Base32, to be typed."""
    address: str = field(repr=False)
    """otpauth address, for the QR picture."""
    factor: int
    """Number of the factor that waits for its first code; the session that began it keeps it."""


def is_required(user: User) -> bool:
    """Say whether the person must have a second factor; settings can ask for more roles, never for fewer."""
    wanted = PRIVILEGED_ROLES | frozenset(settings.TOTP_MORE_ROLES)
    return bool(settings.TOTP_REQUIRED) and not wanted.isdisjoint(user.roles)


def factor_of(user: User) -> SecondFactor | None:
    """Return the person's second factor, if it was confirmed."""
    factor = getattr(user, "second_factor", None)
    return factor if factor is not None and factor.confirmed_at is not None else None


def begin_enrolment(user: User) -> Enrolment:
    """Draw a fresh secret in the place of one that was never confirmed."""
    secret = secrets.token_bytes(SECRET_BYTES)
    with unit_of_work(user) as work:
        old = SecondFactor.objects.select_for_update().filter(user=user).first()
        if old is not None:
            _require_unconfirmed(old)
            _drop(old)
        factor = enrol(user, secret)
        work.record("second_factor.begun", user)
    return _enrolment(factor, secret)


def enrol(user: User, secret: bytes) -> SecondFactor:
    """Seal a secret for a person, not yet confirmed."""
    key_id = keystore().create(KeyPurpose.SECOND_FACTOR, f"second factor of user {user.pk}")
    return SecondFactor.objects.create(
        user=user,
        key_id=key_id,
        sealed_secret=cipher(key_id).seal(secret, _context(user)),
        begun_at=timezone.now(),
    )


def pending_enrolment(user: User, factor: int) -> Enrolment | None:
    """Return what begin_enrolment returned, to show it again after a wrong code.

    Only to the session that began it: a secret that somebody else saw before must not become the person's.
    """
    found = SecondFactor.objects.filter(user=user, pk=factor, confirmed_at=None).first()
    return _enrolment(found, _secret(found)) if found else None


def confirm_enrolment(user: User, code: str, *, factor: int) -> list[str]:
    """Take the first code of the new authenticator; return the recovery codes, which are shown this once."""
    with unit_of_work(user) as work:
        row = SecondFactor.objects.select_for_update().filter(user=user, pk=factor).first()
        if row is None:
            raise SecondFactorError("尚未开始绑定，请重新打开本页")
        _require_unconfirmed(row)
        step = _step_of(row, code)
        if step is None:
            raise CodeRefusedError("动态口令不正确，请核对手机时间后重新输入")
        row.last_step, row.confirmed_at = step, timezone.now()
        row.save(update_fields=["last_step", "confirmed_at"])
        codes = _new_codes(row)
        work.record("second_factor.enrolled", user)
    return codes


def check_code(user: User, code: str) -> SecondFactor:
    """Take the present code of the authenticator, or a recovery code; each counts once.

    Raises CodeRefusedError; the caller counts the attempt.
    """
    with unit_of_work(user) as work:
        factor = (
            SecondFactor.objects.select_for_update().filter(user=user, confirmed_at__isnull=False).first()
        )
        if factor is None:
            raise SecondFactorError("尚未绑定两步验证")
        step = _step_of(factor, code)
        if step is not None:
            factor.last_step = step
            factor.save(update_fields=["last_step"])
            return factor
        if not _spend(factor, code):
            raise CodeRefusedError("动态口令或恢复码不正确，或已使用过")
        work.record("second_factor.recovery_used", user, left=codes_left(factor))
    return factor


def codes_left(factor: SecondFactor) -> int:
    """Count the recovery codes that still count."""
    return factor.recovery_codes.filter(used_at=None).count()


def renew_codes(user: User) -> list[str]:
    """Replace a person's recovery codes; the old ones no longer count."""
    with unit_of_work(user) as work:
        factor = (
            SecondFactor.objects.select_for_update().filter(user=user, confirmed_at__isnull=False).first()
        )
        if factor is None:
            raise SecondFactorError("尚未绑定两步验证")
        factor.recovery_codes.all().delete()
        codes = _new_codes(factor)
        work.record("second_factor.codes_renewed", user)
    return codes


def reset_second_factor(user: User, *, actor: User) -> None:
    """Remove another person's second factor, who signs in anew and enrols again; their sessions end."""
    require(actor, "portal.reset_second_factor")
    if user.pk == actor.pk:
        raise SecondFactorError("不能重置自己的两步验证，请由另一名安全管理员办理")
    with unit_of_work(actor) as work:
        factor = SecondFactor.objects.select_for_update().filter(user=locked(user)).first()
        if factor is None:
            raise SecondFactorError("该用户没有绑定两步验证")
        _drop(factor)
        end_sessions(user, actor=actor, reason="second_factor_reset")
        work.record("second_factor.reset", user)


def _drop(factor: SecondFactor) -> None:
    """Remove a factor with its codes, and its key once that is committed."""
    remove_after_commit(keys=[factor.key_id])
    factor.delete()


def _require_unconfirmed(factor: SecondFactor) -> None:
    if factor.confirmed_at is not None:
        raise ConflictError("已绑定两步验证；更换手机请联系安全管理员重置")


def _step_of(factor: SecondFactor, code: str) -> int | None:
    """Return the time step of a right code that was not used before; None for every other text."""
    digits = code.replace(" ", "")
    if not _CODE.match(digits):
        return None
    totp = TOTP(_secret(factor), step=STEP_SECONDS, digits=DIGITS)
    totp.time = timezone.now().timestamp()
    # Steps up to the last one taken no longer count: nobody uses a code again that was seen or overheard.
    return totp.t() if totp.verify(int(digits), tolerance=DRIFT_STEPS, min_t=factor.last_step + 1) else None


def _spend(factor: SecondFactor, code: str) -> bool:
    found = factor.recovery_codes.filter(digest=_digest(factor, code), used_at=None)
    return bool(found.update(used_at=timezone.now()))


def _new_codes(factor: SecondFactor) -> list[str]:
    texts = ["".join(secrets.choice(_ALPHABET) for _ in range(2 * _GROUP)) for _ in range(RECOVERY_CODES)]
    rows = [RecoveryCode(factor=factor, digest=_digest(factor, text)) for text in texts]
    RecoveryCode.objects.bulk_create(rows)
    return [f"{text[:_GROUP]}-{text[_GROUP:]}" for text in texts]


def _digest(factor: SecondFactor, code: str) -> bytes:
    """Return HMAC-SM3 under the index key: a code has 50 bits, and the database alone cannot test guesses."""
    plain = "".join(character for character in code.upper() if character in _ALPHABET)
    return blind_index().of(f"recovery:{factor.user_id}:{plain}")


def _secret(factor: SecondFactor) -> bytes:
    return cipher(factor.key_id).open(bytes(factor.sealed_secret), _context(factor.user))


def _context(user: User) -> bytes:
    return f"portal.secondfactor:{user.pk}:secret".encode()


def _enrolment(factor: SecondFactor, secret: bytes) -> Enrolment:
    text = base64.b32encode(secret).decode()
    issuer = settings.TOTP_ISSUER
    query = urlencode(
        {"secret": text, "issuer": issuer, "algorithm": "SHA1", "digits": DIGITS, "period": STEP_SECONDS},
        quote_via=quote,
    )
    label = quote(f"{issuer}:{factor.user.username}")
    return Enrolment(text, f"otpauth://totp/{label}?{query}", factor.pk)
