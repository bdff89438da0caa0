"""A probe written before a destruction finds nothing after it, nor in a dump from before or after (R-22).

Everything is committed: pg_dump sees what a backup would. The run and its destruction happen once.
"""

from __future__ import annotations

import base64
import io
import json
import os
import subprocess
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.conf import settings as django_settings
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import override_settings

from billing.models import StatementLine
from billing.services.statements import draft_statement
from orders.models import AccountRow, CardholderRecord, Package
from orders.personal import open_column, read_photo
from orders.selectors.accounts import open_account_row
from orders.services.rekeying import start_due_rekeys
from portal import embedded
from portal.audit import verify_chain
from portal.choices import Role
from portal.core.clock import today
from portal.core.key_refusals import KeyDestroyedError
from portal.files import keystore
from portal.models import AuditEntry, Task
from portal.queue import wake
from portal.removal import remove_pending
from portal.services.probes import write_probe
from production.models import Batch, Card, DestructionCertificate, ReturnFile
from production.selectors.search import find_cards
from production.services.destruction import destroy_batch
from production.services.destruction_certifying import advance_certificates
from production.services.papers import download_return_file
from tests.architecture.programme_run import folders
from tests.production.chain import Chain, run_chain, spellings
from tests.production.world import run_queued

RECORDS = 16
COLUMNS = ("number", "name", "personal", "account")


@dataclass
class Story:
    """The run, its dumps, and the probe of its first batch."""

    chain: Chain
    probe: Path
    dumps: dict[str, Path]
    number: str
    person: str
    card_number: str

    def copy_of_probe(self, folder: Path) -> Path:
        """Return a probe that a test may use up: the key stays while one is kept."""
        copied = folder / "probe.sealed"
        copied.write_bytes(self.probe.read_bytes())
        return copied


@pytest.fixture(scope="module")
def story(module_database: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    folder = tmp_path_factory.mktemp("story")
    with override_settings(**folders(folder)):
        chain = run_chain(folder, records=RECORDS)
        clerk = chain.demo.programme.person(Role.PURCHASER_CLERK)
        batches = list(Batch.objects.order_by("pk"))
        first = CardholderRecord.objects.filter(batch_item__batch=batches[0]).earliest("pk")
        person = chain.people[first.row_number]
        probe, dumps = folder / "probe.sealed", dump("before", folder)
        call_command(
            "scan_personal_data", batch=batches[0].number, before=True, out=probe, stdout=io.StringIO()
        )
        for batch in batches:
            destroy_batch(batch, actor=clerk)
        start_due_rekeys()
        run_queued()
        advance_certificates()
        run_queued()
        remove_pending()
        dumps |= dump("after", folder)
        yield Story(chain, probe, dumps, batches[0].number, person.number, person.card_number)


@pytest.fixture(autouse=True)
def own_folders() -> None:
    """Leave the folders where the story was told."""


def dump(when: str, folder: Path) -> dict[str, Path]:
    """Dump the database in PostgreSQL's own format and as SQL, each compressed and not."""
    made = {}
    for name, options in {
        "custom": ["-Fc"], "stored": ["-Fc", "-Z0"], "plain": ["-Fp"], "gzip": ["-Fp", "-Z9"],
    }.items():  # fmt: skip
        path = made[f"{when}-{name}"] = folder / f"{when}-{name}.dump"
        program = embedded.postgres_programs() / "pg_dump"
        subprocess.run([program, *options, "-f", path, address()], check=True, capture_output=True)
    return made


def address(database: str = "") -> str:
    """Return where a database of the server is, by default the one worked in."""
    found = connection.get_connection_params()
    kept = {name: found[name] for name in ("host", "port", "user", "password") if found.get(name)}
    return psycopg.conninfo.make_conninfo(dbname=database or found["dbname"], **kept)


def scan(story: Story, folder: Path, *only: str, **options: Any) -> tuple[int, list[str]]:
    """Scan with the story's probe; return the exit code and the lines."""
    out = io.StringIO()
    code = 0
    try:
        call_command(
            "scan_personal_data", probe=story.copy_of_probe(folder), keep=True,
            only=list(only) or ["database"], stdout=out, stderr=io.StringIO(), **options,
        )  # fmt: skip
    except CommandError:
        code = 1
    return code, out.getvalue().splitlines()


@contextmanager
def restored(path: Path) -> Iterator[None]:
    """Work in a database restored from a dump."""
    whole, copy = connection.settings_dict["NAME"], "restored_for_a_test"
    with psycopg.connect(address("postgres"), autocommit=True) as link:
        link.execute(f'CREATE DATABASE "{copy}"')
        try:
            program = embedded.postgres_programs() / "pg_restore"
            subprocess.run([program, "-d", address(copy), path], check=True, capture_output=True)
            connection.close()
            connection.settings_dict["NAME"] = copy
            yield
        finally:
            connection.close()
            connection.settings_dict["NAME"] = whole
            link.execute(f'DROP DATABASE IF EXISTS "{copy}" WITH (FORCE)')


@pytest.fixture
def unblocked(django_db_blocker: Any) -> Iterator[None]:
    with django_db_blocker.unblock():
        yield


def _hex(raw: bytes) -> bytes:
    return raw.hex().encode()


pytestmark = pytest.mark.usefixtures("unblocked")


class TestAfterwards:
    def test_no_table_no_key_no_file_holds_anybody(
        self, story: Story, tmp_path: Path, redis_server: Any
    ) -> None:
        """R-22: every column of every table, every key of Redis, every stored file."""
        wake(Task.objects.all())
        assert redis_server.dbsize() > 0
        code, lines = scan(story, tmp_path, "database", "redis", "files")
        assert (code, len(lines)) == (0, 1)
        assert "发现 0 处，未能读取 0 个" in lines[0]
        entry = AuditEntry.objects.filter(action="personal_data.scanned").latest("position")
        assert entry.details["found"] == 0
        assert entry.details["tables"] > 40
        assert entry.details["wanted"] >= 4

    @pytest.mark.parametrize("form", ["custom", "stored", "plain", "gzip"])
    @pytest.mark.parametrize("when", ["before", "after"])
    def test_no_dump_holds_anybody_in_the_clear(
        self, story: Story, tmp_path: Path, when: str, form: str
    ) -> None:
        """R-22, R-45: not even one taken while the people's data was in use."""
        path = story.dumps[f"{when}-{form}"]
        assert path.stat().st_size > 50_000
        code, lines = scan(story, tmp_path, "files", path=[path])
        assert (code, lines[-1].count("发现 0 处")) == (0, 1)

    def test_the_dump_from_before_does_not_open_with_what_is_left(self, story: Story) -> None:
        """R-22: its rows are there; the key store has no key for any of them."""
        with restored(story.dumps["before-custom"]):
            records = list(
                CardholderRecord.objects.filter(batch_item__isnull=False).select_related("package")
            )
            accounts = list(AccountRow.objects.filter(
                number_index__in=[record.number_index for record in records]
            ).select_related("account_file"))  # fmt: skip
            assert len(records) == len(story.chain.accounts) > 5
            assert len(accounts) >= len(records)
            for record in records:
                for column in COLUMNS:
                    with pytest.raises(KeyDestroyedError):
                        open_column(record, column)  # type: ignore[arg-type]
                with pytest.raises(KeyDestroyedError):
                    read_photo(record)
            for row in accounts:
                with pytest.raises(KeyDestroyedError):
                    open_account_row(row)
            keys = {
                key for package in Package.objects.all() for key in (package.key_id, package.content_key_id)
            }
            keys |= set(Batch.objects.values_list("key_id", flat=True))
            assert not any(map(keystore().exists, keys))

    def test_the_dump_from_after_has_no_rows_of_them(self, story: Story) -> None:
        with restored(story.dumps["after-custom"]):
            assert not CardholderRecord.objects.filter(batch_item__isnull=False).exists()
            indexes = Card.objects.values("number_index")
            assert not CardholderRecord.objects.filter(number_index__in=indexes).exists()
            assert not AccountRow.objects.filter(number_index__in=indexes).exists()


class TestPlanted:
    """A scan that finds nothing proves nothing unless it finds what is there."""

    @pytest.fixture
    def planted(self, story: Story) -> Iterator[str]:
        person = next(p for p in story.chain.people.values() if p.number == story.person)
        with connection.cursor() as cursor:
            cursor.execute("CREATE TABLE planted (id bigint, words text, facts jsonb, raw bytea)")
            for row in (
                (1, f"x {person.number} y", "{}", b""),
                (2, "", json.dumps({"n": person.name}), b""),
                (3, "", "{}", person.number.encode("gb18030")),
                (4, person.number.encode().hex(), "{}", b""),
            ):
                cursor.execute("INSERT INTO planted VALUES (%s, %s, %s, %s)", row)
        try:
            yield person.number
        finally:
            with connection.cursor() as cursor:
                cursor.execute("DROP TABLE planted")

    def test_in_a_table(self, story: Story, tmp_path: Path, planted: str) -> None:
        """R-22: table, column and row are named, the value is not."""
        code, lines = scan(story, tmp_path)
        assert code == 1
        places = {line.split("  ")[0] for line in lines[:-1]}
        assert places == {
            "数据库 planted.words id=1", "数据库 planted.facts id=2",
            "数据库 planted.raw id=3", "数据库 planted.words id=4",
        }  # fmt: skip
        assert planted not in "\n".join(lines)

    @pytest.mark.parametrize("options", [["-Fc"], ["-Fp"], ["-Fp", "-Z9"], ["-Ft"]])
    def test_in_a_dump(self, story: Story, tmp_path: Path, planted: str, options: list[str]) -> None:
        path = tmp_path / "db.dump"
        program = embedded.postgres_programs() / "pg_dump"
        subprocess.run([program, *options, "-f", path, address()], check=True, capture_output=True)
        code, lines = scan(story, tmp_path, "files", path=[path])
        assert code == 1
        assert any("db.dump" in line and "planted" in line for line in lines) or "-Ft" in options
        assert planted not in "\n".join(lines)

    def test_in_redis(self, story: Story, tmp_path: Path, redis_server: Any) -> None:
        redis_server.hset("rq:job:1", "data", zlib.compress(story.person.encode()))
        redis_server.lpush("log", f"<{story.person}>")
        redis_server.set(f"k{story.person}", "x")
        code, lines = scan(story, tmp_path, "redis")
        places = {line.split("  ")[0] for line in lines[:-1]}
        assert (code, places) == (1, {"Redis rq:job:1", "Redis log", "Redis …（键名）"})
        assert story.person not in "\n".join(lines)

    def test_in_files_logs_and_temporary_folders(self, story: Story, tmp_path: Path) -> None:
        logs = tmp_path / "logs"
        logs.mkdir()
        plain = [story.person.encode(code) for code in ("utf-8", "utf-16-le")]
        wrapped = [wrap(b"id=" + form) for form in plain for wrap in (bytes, _hex, base64.b64encode)]
        for place, form in enumerate(wrapped):
            (logs / f"{place}.log").write_bytes(b"2026 ... " + form + b"\n")
        code, lines = scan(story, tmp_path, "files", path=[logs])
        assert code == 1
        assert {line.split("  ")[0] for line in lines[:-1]} == {str(path) for path in logs.iterdir()}

    def test_what_cannot_be_read_is_no_proof(self, story: Story, tmp_path: Path) -> None:
        broken = tmp_path / "broken.dump"
        broken.write_bytes(b"PGDMP" + os.urandom(200))
        code, lines = scan(story, tmp_path, "files", path=[broken])
        assert code == 1
        assert lines[-1].endswith("发现 0 处，未能读取 1 个")
        assert f"{broken}: DumpUnreadableError" in lines


class TestProbe:
    def test_it_is_sealed_and_used_up(self, story: Story, tmp_path: Path) -> None:
        """R-22: the list of what must be gone must go itself."""
        probe = tmp_path / "own.sealed"
        content = story.probe.read_bytes()
        assert story.probe.stat().st_mode & 0o777 == 0o600
        assert not any(form in content for form in spellings(story.person))
        write_probe(probe, [("号码", "440600199001011234"), ("照片", b"p" * 500)])
        out = io.StringIO()
        call_command("scan_personal_data", probe=probe, only=["redis"], stdout=out)
        assert out.getvalue().startswith("查找 3 项")
        assert not probe.exists()

    def test_a_used_up_copy_opens_no_more(self, story: Story, tmp_path: Path) -> None:
        probe, copy = tmp_path / "p.sealed", tmp_path / "copy.sealed"
        write_probe(probe, [("号码", "440600199001011234")])
        copy.write_bytes(probe.read_bytes())
        call_command("scan_personal_data", probe=probe, only=["redis"], stdout=io.StringIO())
        with pytest.raises(CommandError, match="密钥已销毁"):
            call_command("scan_personal_data", probe=copy, only=["redis"], stdout=io.StringIO())

    def test_a_destroyed_batch_gives_no_probe(self, story: Story, tmp_path: Path) -> None:
        out = tmp_path / "late.sealed"
        with pytest.raises(CommandError, match="没有留存的个人数据"):
            call_command("scan_personal_data", batch=story.number, before=True, out=out)
        assert not out.exists()

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({}, "须给出 --probe 或 --stdin"), ({"before": True}, "须同时给出"),
            ({"batch": "X", "before": True, "out": Path("/nowhere/p")}, "没有这个批次"),
            ({"stdin": True, "path": [Path("/nowhere")]}, "没有这个路径"),
            ({"probe": Path("/etc/hostname")}, "不是探针文件"),
        ],
    )  # fmt: skip
    def test_wrong_arguments(self, story: Story, options: dict[str, Any], message: str) -> None:
        with pytest.raises(CommandError, match=message):
            call_command("scan_personal_data", **options)

    def test_values_from_the_standard_input(
        self, story: Story, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """R-45: never as arguments, which every process list shows."""
        (tmp_path / "a.log").write_text("帐户 6222020000000012345")
        monkeypatch.setattr("sys.stdin", io.StringIO("账号\t6222020000000012345\n\nsm3:" + "ab" * 32 + "\n"))
        out = io.StringIO()
        with pytest.raises(CommandError, match="发现 1 处"):
            call_command("scan_personal_data", stdin=True, only=["redis"], path=[tmp_path], stdout=out)
        assert out.getvalue().splitlines()[0].endswith("a.log  账号（UTF-8）")

    @pytest.mark.parametrize("line", ["1234", "张", "sm3:zz", "sm3:abcd", ""])
    def test_lines_that_name_nothing(self, story: Story, monkeypatch: pytest.MonkeyPatch, line: str) -> None:
        monkeypatch.setattr("sys.stdin", io.StringIO(line + "\n"))
        with pytest.raises(CommandError):
            call_command("scan_personal_data", stdin=True, only=["redis"], stdout=io.StringIO())


@pytest.mark.django_db
class TestWhatStays:
    """R-22, D9: after the destruction everything that needs no person still works."""

    def test_warranty_is_looked_up_by_card_number(self, story: Story) -> None:
        clerk = story.chain.demo.programme.person(Role.PURCHASER_CLERK)
        (card,) = find_cards(story.card_number, user=clerk)
        assert card.warranty_until is not None
        assert card.warranty_until.year == today().year + 2
        assert find_cards("000000000", user=clerk) == []

    def test_statements_count_the_accepted_cards(self, story: Story) -> None:
        clerk = story.chain.demo.programme.person(Role.PURCHASER_CLERK)
        counted = 0
        for contract in story.chain.demo.programme.contracts:
            statement = draft_statement(contract, actor=clerk)
            lines = StatementLine.objects.filter(statement=statement)
            counted += sum(lines.values_list("billed_count", flat=True))
        accepted = Card.objects.filter(accepted_on__isnull=False)
        assert counted == accepted.count() > 0

    def test_the_audit_holds_and_names_nobody(self, story: Story) -> None:
        assert verify_chain()[1] is None
        assert AuditEntry.objects.filter(action="batch.personal_data_destroyed").count() == 2

    def test_the_return_file_is_still_there(self, story: Story) -> None:
        """R-8: sealed for the province, which needs its content."""
        clerk = story.chain.demo.programme.person(Role.PURCHASER_CLERK)
        for file in ReturnFile.objects.all():
            name, blocks = download_return_file(file, actor=clerk)
            assert name.endswith(".scp")
            assert len(b"".join(blocks)) > 500
        assert ReturnFile.objects.count() == Batch.objects.count() == 2

    def test_the_certificates_verify(self, story: Story) -> None:
        assert DestructionCertificate.objects.exclude(signature=b"").count() == 2
        assert django_settings.PORTAL_CODE in str(DestructionCertificate.objects.first().content)  # type: ignore[union-attr]
