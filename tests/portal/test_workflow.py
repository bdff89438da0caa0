"""State machines: the forbidden half of every one of them, and moves that race (D11)."""

from __future__ import annotations

import threading
from itertools import product
from typing import Any, cast

import pytest
from django.apps import apps
from django.db import connections, models
from django.utils import timezone

from orders.choices import PackageStatus
from orders.models import Package
from portal.audit import verify_chain
from portal.core.errors import TransitionRefusedError
from portal.models import AuditEntry, User
from portal.workflow import check_move, move


def machines() -> list[type[models.Model]]:
    return [model for model in apps.get_models() if hasattr(model, "TRANSITIONS")]


def table(model: type[models.Model]) -> dict[str, frozenset[str]]:
    return cast("Any", model).TRANSITIONS


def states(model: type[models.Model]) -> list[str]:
    return [str(value) for value, _ in model._meta.get_field("status").flatchoices]  # type: ignore[union-attr]


def test_the_tables_name_known_states_only() -> None:
    assert len(machines()) >= 6
    for model in machines():
        named = {str(state) for pair in table(model).items() for state in (pair[0], *pair[1])}
        assert named <= set(states(model)), model


def test_no_state_leads_to_itself() -> None:
    assert [(m, s) for m in machines() for s, nexts in table(m).items() if s in nexts] == []


def test_the_forbidden_half_of_every_machine_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every pair of states minus the table."""
    refused = 0
    for model in machines():
        monkeypatch.setattr(model, "__str__", lambda row: "a row that names nothing else")
        for source, target in product(states(model), repeat=2):
            row = model(status=source)
            if target in table(model).get(source, frozenset()):
                check_move(row, target)
                continue
            with pytest.raises(TransitionRefusedError) as caught:
                check_move(row, target)
            assert caught.value.got == str(cast("Any", row).get_status_display())
            refused += 1
    assert refused > 100


@pytest.fixture
def package(db: None) -> Package:
    return Package.objects.create(number="P-1", file_name="p", received_by=User.objects.system())


def test_a_move_writes_its_fields_and_its_event_together(package: Package) -> None:
    moved = move(
        package, PackageStatus.REFUSED, actor=None, refusal_code="x", refusal_text="y", details={"code": "x"}
    )
    package.refresh_from_db()
    assert (package.status, package.refusal_code, moved.pk) == (PackageStatus.REFUSED, "x", package.pk)
    event = AuditEntry.objects.get()
    assert event.action == "package.refused"
    assert event.details == {"before": "received", "after": "refused", "code": "x"}
    assert verify_chain() == (1, None)


def test_a_refused_move_changes_and_records_nothing(package: Package) -> None:
    with pytest.raises(TransitionRefusedError) as caught:
        move(package, PackageStatus.VALIDATED, actor=None, validated_at=timezone.now())
    assert (caught.value.expected, caught.value.got) == ("校验中", "已接收")
    package.refresh_from_db()
    assert (package.status, package.validated_at) == (PackageStatus.RECEIVED, None)
    assert AuditEntry.objects.count() == 0


def test_a_stale_copy_does_not_move_twice(package: Package) -> None:
    """The row is read again under its lock: what the caller holds does not count."""
    stale = Package.objects.get(pk=package.pk)
    move(package, PackageStatus.REFUSED, actor=None)
    with pytest.raises(TransitionRefusedError):
        move(stale, PackageStatus.VALIDATING, actor=None)
    assert AuditEntry.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_of_two_moves_at_once_exactly_one_wins() -> None:
    package = Package.objects.create(number="P-1", file_name="p", received_by=User.objects.system())
    barrier, outcomes = threading.Barrier(4), []

    def run(target: str) -> None:
        barrier.wait()
        try:
            move(package, target, actor=None)
            outcomes.append("moved")
        except TransitionRefusedError:
            outcomes.append("refused")
        finally:
            connections.close_all()

    targets = [PackageStatus.REFUSED, PackageStatus.VALIDATING] * 2
    threads = [threading.Thread(target=run, args=(target,)) for target in targets]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes.count("moved") == AuditEntry.objects.count()
    assert outcomes.count("moved") == 1
