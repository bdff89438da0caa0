"""The audit: written with the change or not at all, chained, and every tampering found (R-46)."""

from __future__ import annotations

import datetime as dt
import threading
from decimal import Decimal
from typing import Any

import pytest
from django.db import DatabaseError, connection, connections, transaction
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from portal.audit import client_address, record_alone, unit_of_work, verify_chain
from portal.core.audit_findings import ChainFault, Reason
from portal.core.audit_forms import COLUMNS, GENESIS, Entry, details_text
from portal.core.crypto import sm3
from portal.models import AuditEntry, Organisation, User
from portal.services.master_rows import save_row


def entries() -> list[tuple[int, str]]:
    return list(AuditEntry.objects.order_by("position").values_list("position", "action"))


@pytest.fixture
def clerk(db: None) -> User:
    purchaser = Organisation.objects.create(kind="purchaser", code="HRSS", name="采购人", short_name="采购人")
    return User.objects.create(username="clerk", organisation=purchaser)


def refused_verb(actor: User) -> None:
    """Change and record something, then think better of it."""
    with unit_of_work(actor) as work:
        Organisation.objects.create(kind="bank", code="B", name="B", short_name="B")
        work.record("bank.created")
        raise ValueError("no")


class TestUnitOfWork:
    def test_an_entry_says_who_what_where(self, clerk: User) -> None:
        token = client_address.set("192.0.2.7")
        try:
            with unit_of_work(clerk) as work:
                work.record("thing.done", clerk.organisation, count=3)
        finally:
            client_address.reset(token)
        entry = AuditEntry.objects.get()
        assert (entry.position, entry.action, entry.actor_id, entry.actor_name) == (
            1,
            "thing.done",
            clerk.pk,
            "clerk",
        )
        assert (entry.organisation_code, entry.address, entry.result) == ("HRSS", "192.0.2.7", "done")
        assert (entry.object_type, entry.object_label) == ("portal.organisation", "采购人")
        assert entry.details == {"count": 3}
        assert bytes(entry.previous_digest) == GENESIS
        stored = {name: getattr(entry, name) for name in COLUMNS}
        digests = {"previous_digest": GENESIS, "digest": bytes(entry.digest)}
        assert Entry.of(stored | {"details": '{"count":3}'} | digests).holds()

    def test_a_refused_action_leaves_neither_change_nor_entry(self, clerk: User) -> None:
        with pytest.raises(ValueError, match="no"):
            refused_verb(clerk)
        assert (entries(), Organisation.objects.count()) == ([], 1)

    def test_nested_verbs_commit_once_in_order(self, clerk: User) -> None:
        with unit_of_work(clerk) as outer:
            outer.record("first")
            with unit_of_work(None) as inner:
                inner.record("second")
            outer.record("third")
            assert entries() == []
        assert entries() == [(1, "first"), (2, "second"), (3, "third")]
        assert list(AuditEntry.objects.order_by("position").values_list("actor_name", flat=True)) == [
            "clerk",
            "system",
            "clerk",
        ]

    def test_an_inner_verb_that_was_refused_and_caught_leaves_nothing(self, clerk: User) -> None:
        with unit_of_work(clerk) as outer:
            with pytest.raises(ValueError, match="no"):
                refused_verb(clerk)
            outer.record("outer")
        assert (entries(), Organisation.objects.count()) == ([(1, "outer")], 1)

    def test_a_unit_after_a_failed_one_stands_on_its_own(self, clerk: User) -> None:
        with pytest.raises(ValueError, match="no"):
            refused_verb(clerk)
        record_alone("login.failed", actor=None, reason="password")
        assert entries() == [(1, "login.failed")]
        assert AuditEntry.objects.get().result == "refused"

    @pytest.mark.django_db(transaction=True)
    def test_what_runs_on_commit_opens_a_unit_of_its_own(self) -> None:
        """An event recorded after the commit must not join the unit whose entries are already written."""

        def after() -> None:
            with unit_of_work(None) as work:
                work.record("after")

        with unit_of_work(None) as work:
            work.record("before")
            transaction.on_commit(after)
        assert entries() == [(1, "before"), (2, "after")]
        assert verify_chain() == (2, None)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.dates() | st.decimals(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text() | st.integers(), inner, max_size=3),
    max_leaves=6,
)


class TestChain:
    @given(details=st.dictionaries(st.text(), JSON, max_size=4))
    @hypothesis_settings(
        max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
    )
    def test_whatever_is_recorded_still_verifies_after_the_database_had_it(
        self, clerk: User, details: dict[str, Any]
    ) -> None:
        """The text is stored as it was hashed: what was recorded comes back, and holds."""
        with unit_of_work(clerk) as work:
            work.record("any", None, **{f"x{key}": value for key, value in details.items()})
        count = AuditEntry.objects.count()
        assert verify_chain() == (count, None)

    def test_values_json_lacks_become_text(self, clerk: User) -> None:
        with unit_of_work(clerk) as work:
            work.record(
                "any", price=Decimal("9.90"), on=dt.date(2026, 11, 23), many=(1, 2), share=0.001, big=1e300
            )
        assert AuditEntry.objects.get().details == {
            "price": "9.90",
            "on": "2026-11-23",
            "many": [1, 2],
            "share": 0.001,
            "big": "1e+300",
        }

    def test_verifying_a_part(self, clerk: User) -> None:
        for number in range(5):
            record_alone(f"event.{number}", actor=clerk)
        assert verify_chain(3) == (3, None)
        assert verify_chain(6) == (0, None)
        assert verify_chain(9) == (0, ChainFault(8, Reason.MISSING))

    @pytest.mark.parametrize(
        "change",
        [
            lambda found: found.update(result="nothing happened"),
            lambda found: found.delete(),
            lambda found: found.get().delete(),
        ],
        ids=["update", "delete", "delete one"],
    )
    def test_the_table_takes_entries_only(self, clerk: User, change: Any) -> None:
        """R-46: a database trigger refuses UPDATE and DELETE."""
        record_alone("event", actor=clerk)
        with pytest.raises(DatabaseError, match="append-only"), transaction.atomic():
            change(AuditEntry.objects.filter(position=1))
        assert verify_chain() == (1, None)

    @pytest.mark.parametrize(("table", "trigger"), [("auditentry", "audit"), ("auditanchor", "audit_anchor")])
    def test_the_tables_cannot_be_emptied(self, clerk: User, table: str, trigger: str) -> None:
        """TRUNCATE is refused by a trigger of its own, which the tests' database keeps off."""
        record_alone("event", actor=clerk)
        with connection.cursor() as cursor:
            cursor.execute(f"ALTER TABLE portal_{table} ENABLE TRIGGER {trigger}_not_emptied")
            with pytest.raises(DatabaseError, match="append-only"), transaction.atomic():
                cursor.execute(f"TRUNCATE portal_{table}")
        assert verify_chain() == (1, None)

    @pytest.mark.django_db(transaction=True)
    def test_many_at_once_form_one_chain(self) -> None:
        def write() -> None:
            for _ in range(10):
                record_alone("event", actor=None)
            connections.close_all()

        threads = [threading.Thread(target=write) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert verify_chain() == (40, None)


class TestBeforeAndAfter:
    """Who changed what: simple rows keep both sides of every changed column (issue 3, Audit)."""

    def test_a_changed_row_keeps_both_sides(self, clerk: User) -> None:
        row = clerk.organisation
        assert row is not None
        row.short_name = "人社局"
        save_row(row, changed=["short_name", "no_column"], actor=User.objects.system())
        entry = AuditEntry.objects.get()
        assert (entry.action, entry.details) == (
            "organisation.changed",
            {
                "fields": ["no_column", "short_name"],
                "before": {"short_name": "采购人"},
                "after": {"short_name": "人社局"},
            },
        )

    def test_an_added_row_has_no_before(self, db: None) -> None:
        row = Organisation(kind="bank", code="B1", name="银行", short_name="行")
        save_row(row, changed=["code"], actor=User.objects.system())
        entry = AuditEntry.objects.get()
        assert entry.details == {"fields": ["code"], "before": {}, "after": {"code": "B1"}}


class TestOlderForm:
    def test_entries_written_as_json_still_verify_and_the_chain_goes_on(self, clerk: User) -> None:
        """Migration 0006 leaves them as they are; form 2 continues from their digest."""
        at = dt.datetime(2026, 11, 1, 8, 30, tzinfo=dt.UTC)
        columns: dict[str, Any] = {
            "position": 1,
            "actor_id": 7,
            "actor_name": "clerk",
            "organisation_code": "HRSS",
            "address": "192.0.2.7",
            "action": "batch.released",
            "object_type": "production.batch",
            "object_id": "5",
            "object_label": "批次",
            "details": {"before": "approved", "after": "released", "share": 0.001},
            "result": "done",
        }
        digest = sm3(GENESIS + details_text(columns | {"at": at.isoformat()}).encode())
        AuditEntry.objects.create(form=1, at=at, previous_digest=GENESIS, digest=digest, **columns)
        record_alone("event", actor=clerk)
        assert verify_chain() == (2, None)
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE portal_auditentry DISABLE TRIGGER USER")
            cursor.execute("UPDATE portal_auditentry SET object_id = '6' WHERE position = 1")
        assert verify_chain() == (0, ChainFault(1, Reason.CHANGED))
