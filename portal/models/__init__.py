"""Kernel models: organisations, people, background tasks and the audit."""

from portal.models.audit import AuditEntry
from portal.models.organisations import Organisation
from portal.models.people import ApiToken, PortalUserManager, User
from portal.models.requests import IdempotencyKey
from portal.models.tasks import PendingRemoval, Task
from portal.scoping import ScopedQuerySet

__all__ = [
    "ApiToken",
    "AuditEntry",
    "IdempotencyKey",
    "Organisation",
    "PendingRemoval",
    "PortalUserManager",
    "ScopedQuerySet",
    "Task",
    "User",
]
