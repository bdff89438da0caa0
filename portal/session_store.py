"""Sessions in the database under hashed keys, with who and whence, ended by idleness and by age."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from django.conf import settings
from django.contrib.auth import SESSION_KEY
from django.contrib.sessions.backends import db
from django.utils import timezone

from portal.core.crypto import sm3
from portal.models.sessions import AGENT_LENGTH, UserSession

STARTED = "started_at"


def digest_of(session_key: str) -> str:
    """Return what the database keeps of a session's key: SM3 as 64 hex digits.

    The key has 165 bits from the operating system, so a bare digest cannot be guessed back.
    """
    return sm3(session_key.encode()).hex()


class SessionStore(db.SessionStore):
    """Django's database store; the middleware tells it where the request comes from."""

    origin: tuple[str, str] = ("", "")
    """Address and user agent."""

    @classmethod
    def get_model_class(cls) -> type[UserSession]:
        """Return the portal's own table."""
        return UserSession

    def _get_session_from_db(self) -> UserSession | None:
        """Return the row of a session that has not ended; forget a key that has none."""
        found = UserSession.objects.filter(
            session_key=digest_of(self.session_key or ""), expire_date__gt=timezone.now()
        ).first()
        if found is None:
            self._session_key = None
        return found

    def exists(self, session_key: str) -> bool:
        """Say whether a session has this key."""
        return UserSession.objects.filter(session_key=digest_of(session_key)).exists()

    def create_model_instance(self, data: dict[str, Any]) -> UserSession:
        """Return the row to save; the age of a session of somebody bounds its idle time."""
        now = timezone.now()
        started = None
        expires = self.get_expiry_date()
        if SESSION_KEY in data:
            started = datetime.fromtimestamp(data.setdefault(STARTED, now.timestamp()), UTC)
            expires = min(expires, started + timedelta(seconds=settings.SESSION_MAX_SECONDS))
        address, agent = self.origin
        return UserSession(
            session_key=digest_of(self._get_or_create_session_key()),  # type: ignore[attr-defined]
            session_data=self.encode(data),
            expire_date=expires,
            user_id=data.get(SESSION_KEY),
            address=address,
            agent=agent[:AGENT_LENGTH],
            started_at=started,
            seen_at=now,
        )

    def delete(self, session_key: str | None = None) -> None:
        """End a session, by default this one."""
        key = self.session_key if session_key is None else session_key
        if key is not None:
            UserSession.objects.filter(session_key=digest_of(key)).delete()
