"""Sessions ended before their time: by their owner, by a security administrator, by a change of rights."""

from __future__ import annotations

from portal.audit import unit_of_work
from portal.models import User, UserSession
from portal.roles import require


def end_session(session: UserSession, *, actor: User) -> None:
    """End one session at once; one's own needs no permission."""
    if session.user_id != actor.pk:
        require(actor, "portal.end_session")
    with unit_of_work(actor) as work:
        work.record("session.ended", session.user, session=session.session_key[:16], address=session.address)
        UserSession.objects.filter(pk=session.pk).delete()


def end_sessions(user: User, *, actor: User, reason: str, keep: str = "") -> int:
    """End every session of a person but `keep` (a row's key), and say in the audit why; return how many.

    Called by the services that take rights away, within their unit of work; those checked the actor.
    """
    ended = UserSession.objects.filter(user=user).exclude(pk=keep)
    count = ended.count()
    if count:
        with unit_of_work(actor) as work:
            ended.delete()
            work.record("session.ended", user, sessions=count, reason=reason)
    return count


def end_all_sessions(user: User, *, actor: User, keep: str = "") -> int:
    """End a person's sessions on request; one's own need no permission."""
    if user.pk != actor.pk:
        require(actor, "portal.end_session")
    return end_sessions(user, actor=actor, reason="requested", keep=keep)
