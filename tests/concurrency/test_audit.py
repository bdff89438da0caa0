"""The chain's lock comes after every row's: units of work that point at each other's rows both end."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from django.db import connections
from django.utils import timezone

from portal.audit import unit_of_work, verify_chain
from portal.models import ApiToken, AuditEntry, User

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_row_that_points_to_a_locked_one_waits_before_it_takes_the_chain() -> None:
    """The foreign key of the token is checked when its unit ends, while the other still holds the user."""
    user = User.objects.create(username="held")
    inserted, held = threading.Event(), threading.Event()
    failures: list[BaseException] = []

    def pointing() -> None:
        with unit_of_work(None) as work:
            ApiToken.objects.create(
                user=user, name="t", digest=b"1" * 32, expires_at=timezone.now() + timedelta(days=1)
            )
            work.record("token.made")
            inserted.set()
            assert held.wait(10)

    def holding() -> None:
        assert inserted.wait(10)
        with unit_of_work(None) as work:
            User.objects.select_for_update().get(pk=user.pk)
            work.record("user.held")
            held.set()
            # The other one now reaches its end first and waits for this row.
            threading.Event().wait(0.5)

    def run(call: object) -> None:
        try:
            call()  # type: ignore[operator]
        except BaseException as exc:  # noqa: BLE001 - told by the test
            failures.append(exc)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run, args=(call,)) for call in (pointing, holding)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert failures == []
    assert sorted(AuditEntry.objects.values_list("action", flat=True)) == ["token.made", "user.held"]
    assert verify_chain() == (2, None)
