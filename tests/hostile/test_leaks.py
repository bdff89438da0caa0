"""Planted people through the whole main job: nowhere in the clear, from first byte to certificate (R-45).

The chain runs once, with every logger at DEBUG; what it leaves is then searched for each number, name, card
number and account, in every spelling they may have been written in.
"""

from __future__ import annotations

import base64
import io
import json
import tempfile
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from django.conf import settings as django_settings
from django.core import mail
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import override_settings
from openpyxl import load_workbook

from orders.models import CardholderRecord, Package
from orders.personal import open_account, read_photo
from orders.services.records import correct_record
from portal.audit import verify_chain
from portal.choices import Role
from portal.core.errors import PortalError
from portal.files import keystore, portal_key
from portal.management.demo import steps
from portal.models import AuditEntry, Task
from portal.queue import run_task, wake
from portal.samples.people import SamplePerson
from portal.services.audit import export_audit, write_audit_list
from portal.services.keys import finish_key_import, next_version
from portal.services.second_factor import begin_enrolment
from production.models import Batch, BatchItem, Card, Delivery, MachineFile
from production.services.closing import close_batch
from production.services.destruction import destroy_batch
from production.services.packing import pack_batch
from tests.architecture.programme_run import folders, work_off
from tests.portal.desk import page, sign_in
from tests.portal.key_desk import FIRST, MASTER, NAME, SECOND, begun, second_half, two_people
from tests.production.chain import (
    TO_RETURN,
    WHOLE_JOB,
    Chain,
    everything_logged,
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


def all_that_is_told(chain: Chain, told: str) -> list[str]:
    """Return the secrets that stand in a text, as text or in any form of its bytes."""
    content = told.encode("utf-8", "surrogatepass")
    return [
        each for each in secrets(chain) if each in told or any(form in content for form in spellings(each))
    ]


@pytest.fixture
def at_work(chain: Chain, settings: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Mail faults, log everything, and give temporary files a folder that can be looked through."""
    settings.ADMINS = [("", "admin@example.org")]
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def visits_with(
    planted: SamplePerson, record: CardholderRecord, returned: CardholderRecord
) -> list[tuple[str, dict[str, Any] | None]]:
    """List the addresses that see a planted person, with what is posted to them."""
    return [
        (page("orders.cardholderrecord", "find"), {"number": planted.number, "name": planted.name}),
        (page("orders.cardholderrecord", "find"), {"card_number": planted.card_number}),
        (page("orders.cardholderrecord", "changelist"), None),
        (page("orders.cardholderrecord", "change", record.pk), None),
        (page("orders.cardholderrecord", "unmask", record.pk), {"reason": "来电核实"}),
        (
            page("orders.cardholderrecord", "correct", returned.pk),
            {"AAC002": planted.number, "reason": "更正"},
        ),
        (page("orders.package", "download_returns", record.package_id), None),
        (
            page("orders.package", "upload"),
            {"file": SimpleUploadedFile("x.scp", b"PK" + planted.number.encode())},
        ),
    ]


def test_people_at_their_pages(
    chain: Chain, at_work: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """R-45: search, look, unmask, correct, download, be refused, and hit a fault that quotes a person.

    What is searched: addresses asked and redirected to, the log at DEBUG, standard output, error mails,
    temporary files and what the tables hold afterwards.
    """
    clerk = chain.demo.programme.person(Role.PURCHASER_CLERK)
    desk = sign_in(clerk)
    desk.raise_request_exception = False
    record = CardholderRecord.objects.filter(status="ordered").earliest("pk")
    returned = CardholderRecord.objects.filter(status="returned").earliest("pk")
    planted = chain.people[record.row_number]
    visits = visits_with(planted, record, returned)
    with everything_logged() as log:
        answers = [desk.post(url, form) if form else desk.get(url) for url, form in visits]
        downloaded = b"".join(b"".join(each.streaming_content) for each in answers if each.streaming)
        fault = ValueError(f"{planted.number} {planted.name}")
        monkeypatch.setattr("orders.services.lookup.number_index", mock.Mock(side_effect=fault))
        answers.append(desk.post(visits[0][0], visits[0][1]))
    assert [answer.status_code for answer in answers] == [200, 200, 200, 200, 200, 409, 200, 409, 500]
    assert downloaded.startswith(b"PK")
    assert any(planted.number in answer.content.decode() for answer in answers if not answer.streaming)
    addresses = [
        f"{each.wsgi_request.get_full_path()} {each.headers.get('Location', '')}" for each in answers
    ]
    assert all_that_is_told(chain, "\n".join(addresses)) == []
    quiet = [line for line in log if "Traceback" not in line]  # this handler is not ours: ours is quiet
    assert quiet
    assert all_that_is_told(chain, "\n".join(quiet)) == []
    captured = capfd.readouterr()
    assert "builtins.ValueError" in captured.err
    assert all_that_is_told(chain, captured.out + captured.err) == []
    (sent,) = mail.outbox
    assert "builtins.ValueError" in sent.body
    assert all_that_is_told(chain, f"{sent.subject}{sent.body}{sent.extra_headers}") == []
    assert in_tables(secrets(chain)) == set()
    assert in_files(secrets(chain), *sealed_roots(), at_work) == set()


def test_the_exported_audit(chain: Chain) -> None:
    """R-45: what leaves with the auditor, as CSV and as Excel, names nobody."""
    auditor = chain.demo.programme.person(Role.AUDITOR)
    cells = "\n".join(",".join(row) for row in export_audit(actor=auditor))
    assert cells.count("\n") > 50
    assert all_that_is_told(chain, cells) == []
    target = io.BytesIO()
    write_audit_list(target, actor=auditor)
    sheet = load_workbook(target).active
    assert sheet is not None
    assert all_that_is_told(chain, "\n".join(str(value) for row in sheet.values for value in row)) == []


def test_keys_stand_nowhere_in_the_clear(chain: Chain, redis_server: Any) -> None:
    """R-25, R-46: KEK, index key, private keys, data keys, a master key and its components, a TOTP secret."""
    first, second = two_people(chain.demo.programme.person(Role.AUDITOR).organisation)
    with everything_logged() as log:
        finish_key_import(begun(first, version=next_version(NAME)), **second_half(), actor=second)
        factor = begin_enrolment(chain.demo.programme.person(Role.PURCHASER_APPROVER))
    store = keystore()
    package = Package.objects.latest("pk")
    planted = [
        *(FIRST, SECOND, MASTER, factor.secret.encode(), base64.b32decode(factor.secret)),
        *(store.index_key(), portal_key().raw, chain.demo.programme.province_key.raw),
        *(store.key(key_id) for key_id in (package.key_id, package.content_key_id)),
        *(store.key(batch.key_id) for batch in Batch.objects.all()),
        *(path.read_bytes().strip() for path in kek_files()),
    ]
    assert len(set(planted)) > 10
    assert min(len(key) for key in planted) >= 16
    assert in_tables(planted) == set()
    assert in_files(planted, *sealed_roots()) == set()
    assert in_redis(planted, redis_server) == set()
    told = "\n".join([*log, *chain.log]).encode("utf-8", "surrogatepass")
    assert [key for key in planted if any(form in told for form in spellings(key))] == []


def kek_files() -> list[Path]:
    """Return the file of the KEK drawn for development, which stands beside the key store."""
    folder = Path(django_settings.KEYSTORE_DIR)
    found = [path for path in folder.parent.glob(f"{folder.name}-kek*") if path.is_file()]
    return found or [path for path in folder.with_name(f"{folder.name}-kek").rglob("*") if path.is_file()]


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
