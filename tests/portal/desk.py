"""Sit down at the admin as somebody, press a verb, read what it says."""

from __future__ import annotations

from typing import Any

from django.contrib.messages import get_messages
from django.http import HttpResponse
from django.test import Client
from django.urls import reverse

from portal.models import AuditEntry, Organisation, User


def sign_in(user: User) -> Client:
    """Return a browser signed in as the user."""
    User.objects.filter(pk=user.pk).update(is_staff=True)
    client = Client()
    client.force_login(user)
    return client


def make_person(role: str, organisation: Organisation, name: str = "") -> User:
    """Create somebody of a role."""
    return User.objects.create(
        username=name or role, organisation=organisation, roles=[role], last_name="样", is_staff=True
    )


def page(model: str, name: str, *row: Any) -> str:
    """Return the address of an admin page, such as `page("orders.package", "upload")`."""
    return reverse(f"admin:{model.replace('.', '_')}_{name}", args=row)


def said(response: HttpResponse) -> str:
    """Return the newest message a response carries."""
    return [str(message) for message in get_messages(response.wsgi_request)][-1]  # type: ignore[attr-defined]


def text(response: HttpResponse) -> str:
    """Return the page's text."""
    return response.content.decode()


def last_action() -> str:
    """Return the newest audit entry's action."""
    entry = AuditEntry.objects.order_by("-position").first()
    return entry.action if entry else ""


def audited() -> int:
    """Count the audit's entries but those of refused access, which test_web_limits.py is about."""
    return AuditEntry.objects.exclude(action__in=["access.refused", "second_person.refused"]).count()
