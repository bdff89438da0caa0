"""Planted people through the whole main job: nowhere in the clear, from first byte to certificate (R-45).

The chain runs once, with every logger at DEBUG; what it leaves is then searched for each number, name, card
number and account, in every spelling they may have been written in.
"""

from __future__ import annotations

import json
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.test import override_settings

from orders.models import CardholderRecord
from orders.personal import open_account, read_photo
from orders.services.records import correct_record
from portal.audit import verify_chain
from portal.choices import Role
from portal.core.errors import PortalError
from portal.management.demo import steps
from portal.models import AuditEntry, Task
from portal.queue import run_task, wake
from production.models import Batch, BatchItem, Card, Delivery, MachineFile
from production.services.closing import close_batch
from production.services.destruction import destroy_batch
from production.services.packing import pack_batch
from tests.architecture.programme_run import folders, work_off
from tests.production.chain import (
    TO_RETURN,
    WHOLE_JOB,
    Chain,
    in_files,
    in_redis,
    in_tables,
    own_copy,
    run_chain,
    sealed_roots,
    spellings,
)

RECORDS = 20


@pytest.fixture(scope="module")
def finished(module_database: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    folder = tmp_path_factory.mktemp("leaks")
    with override_settings(**folders(folder)):
        yield run_chain(folder, TO_RETURN, records=RECORDS)


@pytest.fixture
def chain(finished: Chain, db: None, tmp_path: Path, settings: Any) -> Chain:
    own_copy(finished, tmp_path / "chain", settings)
    return finished


def secrets(chain: Chain) -> list[str]:
    """Return what must not be read of anybody in the package, made or returned."""
    everybody = [text for person in chain.people.values() for text in (person.number, person.name)]
    cards = [person.card_number for person in chain.people.values()]
    return [*everybody, *cards, *chain.accounts.values()]


def test_the_search_finds_what_is_there(chain: Chain, tmp_path: Path) -> None:
    """The scanner itself: a value planted as text, as bytes, in JSON and in a file is found."""
    number = chain.people[1].number
    Task.objects.filter(pk=Task.objects.earliest("pk").pk).update(error_text=f"x{number}")
    Card.objects.filter(pk=Card.objects.earliest("pk").pk).update(number_index=number.encode())
    (tmp_path / "loose").mkdir()
    (tmp_path / "loose" / "file").write_bytes("甲".encode() + number.encode("utf-16-le"))
    assert {table for table, _ in in_tables([number])} == {"portal_task", "production_card"}
    assert in_files([number], tmp_path / "loose") == {("file", number)}


def test_tables(chain: Chain) -> None:
    """R-45: while cards are made and delivered, every personal column is sealed or a blind index."""
    planted = secrets(chain)
    assert len(set(planted)) > 3 * RECORDS
    assert BatchItem.objects.filter(record__isnull=False).count() == len(chain.accounts) > 10
    assert in_tables(planted) == set()


def test_stored_files_and_keys(chain: Chain) -> None:
    """R-45, D13: packages, account files, machine files, reports, lists and return files are sealed."""
    stored = [path for path in sealed_roots()[0].rglob("*") if path.is_file()]
    kinds = {path.suffix for path in stored}
    assert {".bin", ".machine", ".report", ".xlsx", ".scp"} <= kinds
    assert in_files(secrets(chain), *sealed_roots()) == set()


def test_photos_stand_nowhere_in_the_clear(chain: Chain) -> None:
    """R-45: searched by a stretch of each photo's own bytes."""
    records = CardholderRecord.objects.filter(status="ordered").select_related("package")
    stretches = [(read_photo(record) or b"")[2000:2032] for record in records]
    assert {len(stretch) for stretch in stretches} == {32}
    for path in (path for root in sealed_roots() for path in root.rglob("*") if path.is_file()):
        content = path.read_bytes()
        assert not any(stretch in content for stretch in stretches), path


def test_redis(chain: Chain, redis_server: Any) -> None:
    """R-45, D7: jobs carry a primary key and nothing else."""
    wake(Task.objects.all())
    assert redis_server.dbsize() > 0
    assert in_redis(secrets(chain), redis_server) == set()


def test_the_log(chain: Chain) -> None:
    """R-45: every logger of every library, at its most talkative."""
    assert len(chain.log) > 20
    text = "\n".join(chain.log)
    assert [secret for secret in secrets(chain) if secret in text] == []


def test_the_audit(chain: Chain) -> None:
    """R-45, §4: events about people carry pseudonyms; the chain holds."""
    text = json.dumps(list(AuditEntry.objects.values_list("details", "object_label")), ensure_ascii=False)
    assert [secret for secret in secrets(chain) if secret in text] == []
    assert verify_chain()[1] is None


def test_tasks(chain: Chain) -> None:
    """R-45: neither what a task is called with nor what it failed of."""
    text = repr(list(Task.objects.values_list()))
    assert [secret for secret in secrets(chain) if secret in text] == []


def test_what_objects_say_of_themselves(chain: Chain) -> None:
    """R-45: str and repr of rows end up in logs, pages and tracebacks."""
    text = "".join(
        f"{row!s}{row!r}"
        for model in (CardholderRecord, BatchItem, Card, Delivery, MachineFile, Batch)
        for row in model._base_manager.all()
    )
    assert [secret for secret in secrets(chain) if secret in text] == []


def test_exceptions(chain: Chain) -> None:
    """R-45: refusals in the middle of people's data, with all that a traceback prints."""
    programme = chain.demo.programme
    clerk = programme.person(Role.PURCHASER_CLERK)
    batch = Batch.objects.select_related("order__contract__supplier").earliest("pk")
    operator = programme.person(Role.SUPPLIER_OPERATOR, batch.order.contract.supplier)
    returned = CardholderRecord.objects.filter(status="returned").select_related("package").earliest("pk")
    somebody = CardholderRecord.objects.filter(status="ordered").select_related("package").earliest("pk")
    number = chain.people[somebody.row_number].number
    Batch.objects.filter(pk=batch.pk).update(key_id="0" * 32)
    attempts = (
        lambda: correct_record(returned, changes={"AAC002": number}, actor=clerk, reason="更正"),
        lambda: correct_record(returned, changes={"AAC002": "4406"}, actor=clerk, reason="更正"),
        lambda: pack_batch(batch, actor=operator),
        lambda: close_batch(batch, good=1, rejected=1, samples=1, returned=1, actor=operator),
        lambda: destroy_batch(batch, actor=operator),
    )
    told = []
    for attempt in attempts:
        with pytest.raises(PortalError) as caught:
            attempt()
        told += [*traceback.format_exception(caught.value), repr(caught.value), str(caught.value)]
    assert len(told) > 15
    assert [secret for secret in secrets(chain) if secret in "".join(told)] == []


def test_a_task_that_breaks_on_peoples_data_says_nothing_of_them(
    chain: Chain, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    """R-45: an unexpected error may quote a value; its message is neither stored nor logged."""
    item = BatchItem.objects.filter(record__isnull=False).select_related("record__package").earliest("pk")
    assert item.record is not None
    account = open_account(item.record)

    def broken(delivery: Delivery) -> Iterator[list[str]]:
        raise ValueError(f"bad account {account}")

    monkeypatch.setattr("production.delivery_list.rows", broken)
    task = Task.objects.filter(handler="production.jobs_delivery.write_list").earliest("pk")
    Task.objects.filter(pk=task.pk).update(status="queued", attempts=4)
    with caplog.at_level("DEBUG"):
        assert not run_task(task.pk)
    task.refresh_from_db()
    assert (task.status, task.error_code) == ("failed", "ValueError")
    assert account not in f"{task.error_text}{caplog.text}{list(AuditEntry.objects.values())}"


def test_after_the_last_step_nothing_of_those_who_have_their_cards_is_left(
    chain: Chain, redis_server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R-22: destroyed and settled; what the demo itself wrote for people to look at is not the portal's."""
    monkeypatch.setattr(steps, "wait_for", work_off)
    folder, chain.demo.folder = chain.demo.folder, tmp_path
    try:
        for step in WHOLE_JOB[len(TO_RETURN) :]:
            step(chain.demo)
    finally:
        chain.demo.folder = folder
    assert set(Batch.objects.values_list("status", flat=True)) == {"destroyed"}
    gone = chain.secrets()
    assert in_tables(gone) == set()
    assert in_files(gone, *sealed_roots()) == set()
    assert in_redis(gone, redis_server) == set()
    papers = b"".join(path.read_bytes() for path in (tmp_path / "certificates").glob("*.pdf"))
    assert papers.count(b"%PDF") == 2
    assert not any(form in papers for secret in gone for form in spellings(secret))
