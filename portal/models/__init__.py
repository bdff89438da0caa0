"""Kernel models: organisations, people, background tasks and the audit."""

from portal.models.audit import AuditAnchor, AuditEntry
from portal.models.keys import KeyImport
from portal.models.organisations import Organisation
from portal.models.people import ApiToken, PasswordRecord, PortalUserManager, RoleRequest, User
from portal.models.requests import IdempotencyKey
from portal.models.roles import RoleDefinition
from portal.models.second_factor import RecoveryCode, SecondFactor
from portal.models.sessions import SignInAttempt, SignInStep, UserSession
from portal.models.tasks import PendingRemoval, Task
from portal.scoping import ScopedQuerySet

__all__ = [
    "ApiToken",
    "AuditAnchor",
    "AuditEntry",
    "IdempotencyKey",
    "KeyImport",
    "Organisation",
    "PasswordRecord",
    "PendingRemoval",
    "PortalUserManager",
    "RecoveryCode",
    "RoleDefinition",
    "RoleRequest",
    "ScopedQuerySet",
    "SecondFactor",
    "SignInAttempt",
    "SignInStep",
    "Task",
    "User",
    "UserSession",
]
