"""What each role may do: one reviewed table, one backend that answers from it, one check for services.

Roles stand in code, not in editable groups: who may approve, sign or unmask is changed by review and
shows in the history. The three administrators exclude each other by a database constraint on User.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from django.contrib.auth.backends import ModelBackend
from django.db import models

from portal.audit import record_alone
from portal.choices import Role
from portal.core.errors import PermissionRefusedError, SamePersonError
from portal.models import User

if TYPE_CHECKING:
    from django.contrib.auth.base_user import AbstractBaseUser
    from django.contrib.auth.models import AnonymousUser

_ORDERS_READ = frozenset(
    f"orders.view_{model}"
    for model in (
        "contract bankprofile deliverypoint package cardholderrecord order supplierchoice "
        "workcalendarday".split()
    )
)
_PRODUCTION_READ = frozenset(
    f"production.view_{model}"
    for model in (
        "rostermember batch workplan batchitem card machinefile unknowndecision carton delivery receipt "
        "returnfile stocklocation stocklot stockmovement stockrequest carddestruction "
        "destructioncertificate".split()
    )
)
_QUALITY_READ = frozenset(f"quality.view_{model}" for model in "defectcode defect inspection hold".split())
_BILLING_READ = frozenset(
    f"billing.view_{model}" for model in "settlementperiod statement statementline adjustment".split()
)
_STATIONS_READ = frozenset({"stations.view_station", "stations.view_issuance", "stations.view_stationday"})
_COUNTER_READ = _STATIONS_READ | {
    "stations.test_station",
    "stations.view_emergencycase",
    "stations.view_stationblank",
    "stations.view_blankrequest",
    "production.view_card",
    "production.view_unknowndecision",
}
_PURCHASER_READ = (
    _ORDERS_READ
    | _PRODUCTION_READ
    | _QUALITY_READ
    | _BILLING_READ
    | _STATIONS_READ
    | {"portal.view_organisation", "stations.view_feederrun"}
)
_SUPPLIER_READ = (
    frozenset(
        f"orders.view_{model}" for model in "contract bankprofile deliverypoint order workcalendarday".split()
    )
    | _PRODUCTION_READ
    | _QUALITY_READ
    | _BILLING_READ
    | _STATIONS_READ
    | {"stations.view_feederrun"}
)

PERMISSIONS: Mapping[str, frozenset[str]] = {
    Role.PURCHASER_CLERK: _PURCHASER_READ
    | {
        "orders.receive_package",
        "orders.add_contract",
        "orders.change_contract",
        "orders.change_bankprofile",
        "orders.add_deliverypoint",
        "orders.change_deliverypoint",
        "orders.correct_record",
        "orders.export_returns",
        "orders.match_records",
        "orders.create_order",
        "orders.unmask_record",
        "orders.view_accountfile",
        "orders.view_accountpackage",
        "production.send_return_file",
        "production.destroy_batch",
        "production.request_destruction",
        "production.view_destructionrequest",
        "production.view_destructionalarm",
        "billing.draft_statement",
        "billing.request_adjustment",
        "portal.view_task",
    },
    Role.PURCHASER_APPROVER: _PURCHASER_READ
    | {
        "orders.activate_contract",
        "orders.edit_calendar",
        "orders.unmask_record",
        "orders.view_accountfile",
        "orders.view_accountpackage",
        "production.approve_plan",
        "production.request_destruction",
        "production.decide_destruction",
        "production.view_destructionrequest",
        "production.view_destructionalarm",
        "quality.release_hold",
        "billing.draft_statement",
        "billing.close_statement",
        "billing.request_adjustment",
        "billing.decide_adjustment",
        "portal.view_task",
    },
    Role.SUPPLIER_PLANNER: _SUPPLIER_READ
    | {
        "production.plan_batch",
        "production.propose_plan",
        "production.manage_roster",
        "stations.stop_feeder",
    },
    Role.SUPPLIER_OPERATOR: _SUPPLIER_READ
    | {
        "production.prepare_batch",
        "production.run_batch",
        "production.close_batch",
        "production.pack_batch",
        "production.dispatch_batch",
        "production.decide_unknown",
        "stations.run_feeder",
        "stations.stop_feeder",
        "portal.view_task",
    },
    Role.SUPPLIER_QUALITY: _SUPPLIER_READ
    | {
        "stations.stop_feeder",
        "quality.inspect_batch",
        "quality.record_defect",
        "quality.place_hold",
        "production.decide_unknown",
        "production.decide_carddestruction",
        "portal.view_task",
    },
    Role.WAREHOUSE_KEEPER: _SUPPLIER_READ
    | {
        "production.receive_stock",
        "production.request_stock",
        "production.decide_stock",
        "production.request_carddestruction",
        "production.decide_carddestruction",
        "stations.view_blankrequest",
        "stations.decide_blanks",
    },
    Role.BANK_CLERK: frozenset(
        f"orders.view_{model}"
        for model in (
            "bankprofile deliverypoint accountfile accountpackage order supplierchoice cardholderrecord "
            "workcalendarday".split()
        )
    )
    | frozenset(f"production.view_{model}" for model in "delivery carton receipt".split())
    | {
        "orders.upload_accounts",
        "orders.change_bankprofile",
        "orders.add_deliverypoint",
        "orders.change_deliverypoint",
        "orders.choose_supplier",
        "production.download_list",
        "production.sign_delivery",
    },
    Role.COUNTER_OPERATOR: _COUNTER_READ | {"stations.issue_card", "stations.request_case"},
    Role.COUNTER_SUPERVISOR: _COUNTER_READ
    | {
        "stations.decide_case",
        "stations.request_blanks",
        "stations.close_day",
        "production.decide_unknown",
    },
    Role.CARD_SYSTEM: frozenset(
        {
            "orders.receive_package",
            "orders.view_package",
            "production.view_returnfile",
        }
    ),
    Role.SYSTEM_ADMINISTRATOR: frozenset(
        {
            "portal.view_user",
            "portal.add_user",
            "portal.change_user",
            "portal.view_organisation",
            "portal.add_organisation",
            "portal.change_organisation",
            "portal.view_task",
            "portal.retry_task",
            "portal.view_rolerequest",
            "portal.withdraw_rolerequest",
            "stations.view_station",
            "stations.add_station",
            "stations.change_station",
            "stations.test_station",
        }
    ),
    Role.SECURITY_ADMINISTRATOR: frozenset(
        {
            "portal.view_user",
            "portal.view_organisation",
            "portal.view_apitoken",
            "portal.add_apitoken",
            "portal.revoke_apitoken",
            "portal.view_keyimport",
            "portal.import_key",
            "portal.destroy_orphan_key",
            "portal.view_rolerequest",
            "portal.decide_rolerequest",
            "portal.view_usersession",
            "portal.end_session",
            "portal.view_signinattempt",
            "portal.unlock_sign_in",
            "portal.reset_second_factor",
            "orders.view_senderkey",
            "orders.add_senderkey",
            "orders.revoke_senderkey",
            "stations.view_station",
            "stations.enrol_station",
        }
    ),
    Role.AUDITOR: frozenset(
        {
            "portal.view_auditentry",
            "portal.view_auditanchor",
            "portal.view_keyimport",
            "portal.sign_anchor",
            "production.view_destructionrequest",
            "production.view_destructionalarm",
            "production.view_destructioncertificate",
            "portal.view_user",
            "portal.view_organisation",
            "portal.view_rolerequest",
            "portal.view_usersession",
            "portal.view_signinattempt",
            "portal.view_apitoken",
        }
    ),
}

# Who sees people in the clear, decides after somebody else, signs, releases, destroys or administers. No
# stolen password must be enough for that: a role that carries one of these signs in with a second factor.
_PRIVILEGED_VERBS = frozenset("activate approve decide destroy enrol import release sign unmask".split())
_ADMINISTERING = frozenset({"portal.add_user", "portal.view_auditentry", "orders.edit_calendar"})
PRIVILEGED = frozenset(
    permission
    for allowed in PERMISSIONS.values()
    for permission in allowed
    if permission in _ADMINISTERING or permission.partition(".")[2].partition("_")[0] in _PRIVILEGED_VERBS
)
PRIVILEGED_ROLES = frozenset(role for role, allowed in PERMISSIONS.items() if allowed & PRIVILEGED)


class ScopeRefusedError(PermissionRefusedError):
    """The API token was not issued for this, whatever its owner's roles allow."""

    code = "scope_refused"


class RoleBackend(ModelBackend):
    """Sign in by password; permissions come from the roles table only, cut to an API token's scopes."""

    def get_user(self, user_id: Any) -> User | None:
        """Return who is signed in, with what every request asks about them, in one query."""
        user = User.objects.select_related("organisation", "second_factor").filter(pk=user_id).first()
        return user if user is not None and self.user_can_authenticate(user) else None

    def user_can_authenticate(self, user: Any) -> bool:
        """Let nobody in who was deactivated, alone or with the organisation, and never the portal itself."""
        away = user.organisation is not None and not user.organisation.is_active
        return bool(user.is_active) and not user.is_system and not away

    def get_all_permissions(
        self, user_obj: AbstractBaseUser | AnonymousUser, obj: models.Model | None = None
    ) -> set[str]:
        """Return every permission of the user's roles; nothing for inactive users and for single objects."""
        if not isinstance(user_obj, User) or not user_obj.is_active or obj is not None:
            return set()
        owned = _granted(user_obj)
        return owned if user_obj.token_permissions is None else owned & user_obj.token_permissions

    def has_perm(
        self, user_obj: AbstractBaseUser | AnonymousUser, perm: str, obj: models.Model | None = None
    ) -> bool:
        """Say whether one of the user's roles carries the permission."""
        if not isinstance(user_obj, User) or not user_obj.is_active:
            return False
        if user_obj.token_permissions is not None and perm not in user_obj.token_permissions:
            return False
        return any(perm in PERMISSIONS.get(role, frozenset()) for role in user_obj.roles)

    def has_module_perms(self, user_obj: Any, app_label: str) -> bool:
        """Say whether any permission lies in the app."""
        return any(name.startswith(f"{app_label}.") for name in self.get_all_permissions(user_obj))


def _granted(user: User) -> set[str]:
    """Return what a user's roles allow, whatever an API token of theirs was issued for."""
    return set().union(*(PERMISSIONS.get(role, frozenset()) for role in user.roles))


def require(actor: User, permission: str, row: models.Model | None = None) -> None:
    """Refuse unless the actor's roles carry `permission` and the row is visible to the actor's organisation.

    Every service calls it first, so that admin, API, commands and jobs refuse alike.
    """
    if actor.is_system:
        return
    if not actor.has_perm(permission):
        if actor.is_active and permission in _granted(actor):
            raise ScopeRefusedError("令牌的权限范围不包括此项操作", expected=permission)
        raise PermissionRefusedError("您的角色没有此项权限", expected=permission, got="、".join(actor.roles))
    if row is not None and not type(row)._default_manager.all().visible_to(actor).filter(pk=row.pk).exists():  # type: ignore[attr-defined]
        raise PermissionRefusedError("该数据不属于您的单位")


def require_second_person(first: User | None, second: User, row: models.Model | None = None) -> None:
    """Refuse when the second of two people is the first again (architecture §3); the attempt is audited.

    Call it before the unit of work: the refusal's own entry must not roll back with the action.
    """
    if first is not None and first.pk == second.pk:
        record_alone("second_person.refused", actor=second, subject=row, code=SamePersonError.code)
        raise SamePersonError("须由另一人办理：同一用户不能既提出又复核")
