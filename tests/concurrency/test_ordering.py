"""Two people, or two workers, at once: orders, loads and matching (R-1, R-9, R-10)."""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Callable
from typing import Any

import pytest
from django.db import OperationalError, connection, connections

from orders import personal
from orders.choices import AccountFileStatus, RecordStatus
from orders.models import AccountFile, AccountRow, CardholderRecord, Contract, Order
from orders.selectors.accounts import open_account_row
from orders.services import account_loading, matching
from orders.services.accounts import upload_account_file
from orders.services.calendar import due_date, edit_day, work_calendar
from orders.services.matching import match_bank
from orders.services.ordering import choose_supplier, create_orders
from portal.audit import verify_chain
from portal.models import AuditEntry
from tests.orders.scene import MORNING, TODAY, Person, Scene, csv_file, make_scene, person


@pytest.fixture
def scene(transactional_db: None, own_folders: None, monkeypatch: pytest.MonkeyPatch) -> Scene:
    monkeypatch.setattr("portal.core.clock.now", lambda: MORNING)
    monkeypatch.setattr("portal.queue.wake", lambda tasks: None)
    made = make_scene()
    for bank, clerk in zip(made.banks, made.bank_clerks, strict=True):
        choose_supplier(bank, made.contracts[0], valid_from=TODAY, actor=clerk)
    return made


def at_once(*works: Callable[[], Any]) -> list[Any]:
    """Run each piece of work in a thread with its own connection, all released together."""
    results: list[Any] = [None] * len(works)
    barrier = threading.Barrier(len(works))

    def run(place: int) -> None:
        try:
            barrier.wait(10)
            results[place] = works[place]()
        except Exception as exc:  # noqa: BLE001 -- the test looks at it
            results[place] = exc
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run, args=(place,)) for place in range(len(works))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return results


def test_each_record_gets_exactly_one_order(scene: Scene) -> None:
    """R-1: whoever comes second finds nothing left."""
    for place, bank in enumerate(scene.banks):
        scene.add_matched([person(100 * place + serial) for serial in range(20)], bank)
    found = at_once(*[lambda: create_orders(actor=scene.clerk)] * 4)
    assert sorted(len(orders) for orders in found) == [0, 0, 0, 2]
    assert sorted(Order.objects.values_list("quantity", flat=True)) == [20, 20]
    assert CardholderRecord.objects.filter(status=RecordStatus.ORDERED, order__isnull=False).count() == 40
    assert AuditEntry.objects.filter(action="order.created").count() == 2
    assert verify_chain()[1] is None


def test_the_last_cards_of_a_lot_are_sold_once(scene: Scene) -> None:
    """R-1, R-2: two banks at once want what is left of one contract."""
    Contract.objects.filter(pk=scene.contracts[0].pk).update(quantity_cap=10)
    for place, bank in enumerate(scene.banks):
        scene.add_matched([person(100 * place + serial) for serial in range(6)], bank)
    at_once(*[lambda bank=bank: create_orders(actor=scene.clerk, bank=bank) for bank in scene.banks])
    assert list(Order.objects.values_list("quantity", flat=True)) == [6]
    assert CardholderRecord.objects.filter(status=RecordStatus.MATCHED).count() == 6


def test_an_edit_of_the_calendar_misses_no_new_order(scene: Scene) -> None:
    """R-10: order and typhoon day at once; in either sequence the deadline is the moved one."""
    scene.add_matched([person(1)], scene.banks[0])
    day = dt.date(2026, 11, 25)
    found = at_once(
        lambda: create_orders(actor=scene.clerk),
        lambda: edit_day(day, is_workday=False, name="台风停工", actor=scene.approver),
    )
    assert not [each for each in found if isinstance(each, Exception)]
    assert Order.objects.get().due_on == due_date(TODAY, work_calendar())[0] == dt.date(2026, 12, 2)


def checked_file(scene: Scene, people: list[Person]) -> AccountFile:
    account_file = upload_account_file(
        csv_file([each.row() for each in people]),
        file_name="a.csv",
        bank=scene.banks[0],
        actor=scene.bank_clerks[0],
    )
    return account_loading.examine_file(account_file, actor=scene.bank_clerks[0])


def current_accounts(scene: Scene) -> list[str]:
    rows = AccountRow.objects.filter(bank=scene.banks[0], is_current=True).select_related("account_file")
    return sorted(map(open_account_row, rows))


def test_two_loads_leave_one_current_account_for_each_person(scene: Scene) -> None:
    """R-9: the later load wins whole, person by person."""
    people = [person(serial) for serial in range(30)]
    moved = [Person(each.number, each.name, person(100 + at).account) for at, each in enumerate(people)]
    files = [checked_file(scene, people), checked_file(scene, moved[::-1])]
    found = at_once(
        *[lambda file=file: account_loading.load_file(file, actor=scene.bank_clerks[0]) for file in files]
    )
    assert [each.status for each in found] == [AccountFileStatus.LOADED] * 2
    assert AccountRow.objects.count() == 60
    assert current_accounts(scene) in (
        sorted(each.account for each in people),
        sorted(each.account for each in moved),
    )


def test_loading_the_same_file_twice_loads_it_once(scene: Scene) -> None:
    """R-9: a task that two workers took."""
    account_file = checked_file(scene, [person(serial) for serial in range(5)])
    at_once(*[lambda: account_loading.load_file(account_file, actor=scene.bank_clerks[0])] * 3)
    assert AccountRow.objects.count() == 5
    assert AuditEntry.objects.filter(action="accountfile.loaded").count() == 1


def test_matching_from_two_workers_gives_one_result(scene: Scene) -> None:
    """R-9."""
    people = [person(serial) for serial in range(40)]
    scene.add_records(people, scene.banks[0])
    account_loading.load_file(checked_file(scene, people[:30]), actor=scene.bank_clerks[0])
    found = at_once(*[lambda: match_bank(scene.banks[0], actor=scene.clerk)] * 3)
    assert sorted(result.matched for result in found) == [0, 0, 30]
    assert [result.unmatched for result in found] == [{"no_account": 10}] * 3
    assert CardholderRecord.objects.filter(status=RecordStatus.MATCHED).count() == 30


def test_a_matched_account_is_the_current_one_whatever_runs_at_once(scene: Scene) -> None:
    """R-9: load, match and order at once; nobody is ordered with an account that was already replaced."""
    people = [person(serial) for serial in range(20)]
    moved = [Person(each.number, each.name, person(100 + at).account) for at, each in enumerate(people)]
    scene.add_records(people, scene.banks[0])
    account_loading.load_file(checked_file(scene, people), actor=scene.bank_clerks[0])
    newer = checked_file(scene, moved)
    found = at_once(
        lambda: account_loading.load_file(newer, actor=scene.bank_clerks[0]),
        lambda: match_bank(scene.banks[0], actor=scene.clerk),
    )
    assert not [each for each in found if isinstance(each, Exception)]
    match_bank(scene.banks[0], actor=scene.clerk)
    records = CardholderRecord.objects.select_related("package").filter(status=RecordStatus.MATCHED)
    assert sorted(map(personal.open_account, records)) == sorted(each.account for each in moved)


def test_a_worker_whose_connection_dies_half_way_loses_nothing(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R-9: the database ends the worker after its first chunk, as a kill does; the next run finishes."""
    monkeypatch.setattr(matching, "CHUNK", 4)
    people = [person(serial) for serial in range(10)]
    scene.add_records(people, scene.banks[0])
    account_loading.load_file(checked_file(scene, people), actor=scene.bank_clerks[0])
    whole, calls = matching._store, iter(range(9))

    def dying(*args: Any) -> None:
        whole(*args)
        if next(calls) == 0:
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")

    monkeypatch.setattr(matching, "_store", dying)
    (death,) = at_once(lambda: match_bank(scene.banks[0], actor=scene.clerk))
    assert isinstance(death, OperationalError)
    assert CardholderRecord.objects.filter(status=RecordStatus.ACCEPTED, account_sealed=None).count() == 10
    assert match_bank(scene.banks[0], actor=scene.clerk).matched == 10
    assert AuditEntry.objects.filter(action="records.matched").count() == 1
