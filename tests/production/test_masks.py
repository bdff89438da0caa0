"""Numbers, names and accounts are masked on every page, in every answer and every list for people (R-45)."""

from __future__ import annotations

import io
from collections.abc import Iterator

import pytest
from django.contrib import admin
from django.test import Client
from django.urls import reverse
from openpyxl import load_workbook

from orders.models import CardholderRecord, Package
from orders.personal import masked_name, masked_number
from orders.services.matching import unmatched_report
from orders.services.records import return_list, unmask_record
from orders.services.refusals import ReasonMissingError
from portal.choices import Role
from portal.core.errors import PermissionRefusedError
from portal.models import AuditEntry, User
from portal.urls import urlpatterns as _loaded  # noqa: F401 - the pages are registered with their addresses
from tests.api import ROOT, client_of
from tests.portal.desk import sign_in
from tests.production.chain import Chain
from tests.refusals import refused

ROWS_SHOWN = 3
LISTS = (
    "packages", "orders", "account-files", "deliveries", "return-files", "destruction-certificates",
    "destruction-requests", "destruction-alarms", "statements",
)  # fmt: skip


def secrets(chain: Chain) -> list[str]:
    persons = list(chain.people.values())
    values = [value for person in persons for value in (person.number, person.name, person.card_number)]
    return [*values, *chain.accounts.values()]


def users(chain: Chain) -> dict[str, User]:
    return {role: user for user in chain.demo.programme.users.values() for role in user.roles}


def pages(client: Client, user: User) -> Iterator[tuple[str, str]]:
    """Yield address and text of every list the user may see, and of rows of it."""
    for model, site in admin.site._registry.items():
        options = model._meta
        if not user.has_perm(f"{options.app_label}.view_{options.model_name}"):
            continue
        prefix = f"admin:{options.app_label}_{options.model_name}"
        addresses = [reverse(f"{prefix}_changelist")]
        rows = site.model._default_manager.all()
        visible = rows.visible_to(user) if hasattr(rows, "visible_to") else rows
        addresses += [
            reverse(f"{prefix}_change", args=[row.pk]) for row in visible.order_by("-pk")[:ROWS_SHOWN]
        ]
        for address in addresses:
            yield address, client.get(address).content.decode()


@pytest.mark.parametrize("role", [role.value for role in Role if role != Role.CARD_SYSTEM])
def test_no_page_shows_anybody_in_the_clear(chain: Chain, role: str) -> None:
    """R-45: every list and row that a role may see, of the very people in it."""
    user, planted = users(chain)[role], secrets(chain)
    seen = 0
    for address, text in pages(sign_in(user), user):
        seen += 1
        assert [value for value in planted if value in text] == [], address
    assert seen or role in {Role.COUNTER_OPERATOR, Role.COUNTER_SUPERVISOR}


def test_lists_show_masks(chain: Chain, clerk: User) -> None:
    """R-45: enough to recognise a row by, not to use."""
    text = sign_in(clerk).get(reverse("admin:orders_cardholderrecord_changelist")).content.decode()
    records = CardholderRecord.objects.filter(number_sealed__isnull=False).select_related("package")
    masks = [(masked_number(record), masked_name(record)) for record in records]
    shown = [mask for mask in masks if all(mask) and all(part in text for part in mask)]
    assert len(shown) >= 10
    assert [mask for mask in shown if not all("*" in part for part in mask)] == []


@pytest.mark.parametrize("role", [Role.PURCHASER_CLERK, Role.BANK_CLERK, Role.SUPPLIER_OPERATOR])
def test_no_answer_of_the_api_shows_anybody(chain: Chain, role: str) -> None:
    client, planted = client_of(users(chain)[role]), secrets(chain)
    for name in LISTS:
        text = client.get(f"{ROOT}/{name}").content.decode()
        assert [value for value in planted if value in text] == [], name


def test_excel_lists_for_people_show_masks(chain: Chain, clerk: User) -> None:
    """R-45: the return list and the report on unmatched people; delivery lists are sealed and signed for."""
    CardholderRecord.objects.filter(status="ordered").update(
        status="accepted", order=None, account_sealed=None
    )
    bank = CardholderRecord.objects.filter(status="accepted").earliest("pk").bank
    assert bank is not None
    returned, unmatched = io.BytesIO(), io.BytesIO()
    assert return_list(Package.objects.get(), returned, actor=clerk) > 0
    assert unmatched_report(bank, unmatched, actor=clerk) > 0
    known = {record.row_number: record for record in CardholderRecord.objects.all()}
    good = [chain.people[row] for row, record in known.items() if record.status == "accepted"]
    for target in (returned, unmatched):
        target.seek(0)
        cells = "\n".join(
            str(cell) for row in load_workbook(target).active.iter_rows(values_only=True) for cell in row
        )
        assert "*" in cells
        planted = [value for person in good for value in (person.number, person.card_number)]
        assert [value for value in [*planted, *chain.accounts.values()] if value in cells] == []


class TestUnmask:
    def test_permission_reason_and_event(self, chain: Chain, clerk: User) -> None:
        """R-45: who looked at whom, and why; the person by blind index."""
        row, number = next(
            (row, person.number) for row, person in chain.people.items() if row in chain.accounts
        )
        record = CardholderRecord.objects.select_related("package").get(row_number=row)
        shown = unmask_record(record, actor=clerk, reason="核对投诉")
        assert (shown.number, shown.account) == (number, chain.accounts[row])
        assert number not in repr(shown)
        entry = AuditEntry.objects.filter(action="record.unmasked").latest("position")
        assert (entry.actor_name, entry.details["reason"]) == (clerk.username, "核对投诉")
        assert bytes(record.number_index).hex() in str(entry.details)
        assert number not in str(entry.details)

    @pytest.mark.parametrize("reason", ["", "   "])
    def test_not_without_a_reason(self, chain: Chain, clerk: User, reason: str) -> None:
        record = CardholderRecord.objects.select_related("package").earliest("pk")
        with refused(ReasonMissingError):
            unmask_record(record, actor=clerk, reason=reason)

    @pytest.mark.parametrize("role", [Role.SUPPLIER_OPERATOR, Role.WAREHOUSE_KEEPER, Role.AUDITOR])
    def test_not_by_others(self, chain: Chain, role: str) -> None:
        record = CardholderRecord.objects.select_related("package").earliest("pk")
        with refused(PermissionRefusedError):
            unmask_record(record, actor=users(chain)[role], reason="想看")
