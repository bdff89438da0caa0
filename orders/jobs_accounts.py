"""Background work on account files and matching; each handler runs inside its task's transaction (D7)."""

from __future__ import annotations

from django.core.cache import cache
from django.db.models import Exists, OuterRef

from orders.choices import AccountFileStatus, PackageStatus, RecordStatus
from orders.models import AccountFile, AccountRow, CardholderRecord
from orders.services import account_loading, accounts, matching
from portal.choices import OrganisationKind, TaskStatus
from portal.models import Organisation, Task, User

STRAYS_EVERY = 600  # seconds


def check_account_file(task: Task) -> None:
    """Run the dry run of an account file."""
    account_file = AccountFile.objects.get(pk=task.subject_id)
    account_loading.examine_file(account_file, actor=_actor(task))


def load_account_file(task: Task) -> None:
    """Load the good rows of an account file."""
    account_file = AccountFile.objects.get(pk=task.subject_id)
    account_loading.load_file(account_file, actor=_actor(task))


def match_bank(task: Task) -> None:
    """Match one bank's waiting records."""
    matching.match_bank(Organisation.objects.get(pk=task.subject_id), actor=_actor(task))


def advance() -> None:
    """Match what has never been looked at, and destroy loaded files of which no row is left (R-22)."""
    _match_fresh()
    rows = AccountRow.objects.filter(account_file=OuterRef("pk"))
    used_up = AccountFile.objects.filter(~Exists(rows), status=AccountFileStatus.LOADED)
    for account_file in used_up.order_by("pk")[:100]:
        accounts.destroy_account_file(account_file, actor=User.objects.system())
    if cache.add("orders.clear_stray_accounts", 1, STRAYS_EVERY):
        accounts.clear_strays()


def _match_fresh() -> None:
    """Schedule matching of banks with records of checked packages that no run has examined yet."""
    fresh = CardholderRecord.objects.filter(
        status=RecordStatus.ACCEPTED, unmatched_reason="", package__status=PackageStatus.VALIDATED
    )
    waiting = Task.objects.filter(handler=matching.MATCH_BANK, status=TaskStatus.QUEUED)
    banks = Organisation.objects.filter(kind=OrganisationKind.BANK, pk__in=fresh.values("bank"))
    for bank in banks.exclude(pk__in=waiting.values("subject_id")).order_by("pk"):
        matching.schedule_matching(bank, actor=User.objects.system())


def _actor(task: Task) -> User:
    return task.requested_by or User.objects.system()
