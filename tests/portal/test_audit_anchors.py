"""Anchors are signed when there is something new, linked, kept elsewhere, and never over a broken chain."""

from __future__ import annotations

import csv
import io
import subprocess
import sys
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import DatabaseError, connection, transaction

from portal.audit import record_alone, verify_chain
from portal.audit_check import check, own_link
from portal.choices import Role
from portal.core.audit_anchors import Anchor, AnchorFileError, check_anchors, read, written
from portal.core.audit_forms import GENESIS
from portal.core.errors import PermissionRefusedError
from portal.files import portal_key
from portal.models import AuditAnchor, AuditEntry, Organisation, User
from portal.services.audit import export_audit, trusted_keys
from portal.services.audit_anchors import ChainBrokenError, sign_anchor
from tests.portal.desk import make_person
from tests.refusals import actions, refused

pytestmark = pytest.mark.django_db


@pytest.fixture
def system() -> User:
    return User.objects.system()


def say(*arguments: Any, **options: Any) -> str:
    out = io.StringIO()
    call_command(*arguments, stdout=out, **options)
    return out.getvalue()


def entries(count: int) -> None:
    for number in range(count):
        record_alone("event.told", actor=None, number=number)


class TestSigning:
    def test_an_anchor_says_what_the_chain_is_and_links_to_the_one_before(self, system: User) -> None:
        entries(3)
        first = sign_anchor(actor=system)
        entries(2)
        second = sign_anchor(actor=system)
        assert first is not None
        assert second is not None
        one, two = first.anchor(), second.anchor()
        third = AuditEntry.objects.get(position=3)
        assert (one.number, one.position, one.count, one.previous) == (1, 3, 3, GENESIS)
        assert one.digest == bytes(third.digest)
        assert (two.number, two.position, two.count, two.previous) == (2, 6, 6, one.mark())
        assert portal_key().public.verify(two.signature, two.statement())
        assert list(check_anchors([one, two], trusted=trusted_keys())) == []
        assert actions()[3] == "audit.anchored"
        assert (AuditEntry.objects.get(position=4).object_id, verify_chain()) == ("1", (7, None))

    def test_its_own_event_is_nothing_new(self, system: User) -> None:
        assert sign_anchor(actor=system) is None
        entries(1)
        assert sign_anchor(actor=system) is not None
        assert sign_anchor(actor=system) is None
        assert AuditAnchor.objects.count() == 1

    def test_a_broken_chain_is_not_signed_and_the_refusal_is_an_event(self, system: User) -> None:
        entries(3)
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE portal_auditentry DISABLE TRIGGER USER")
            cursor.execute("UPDATE portal_auditentry SET address = 'x' WHERE position = 2")
            cursor.execute("ALTER TABLE portal_auditentry ENABLE TRIGGER USER")
        with refused(ChainBrokenError, audited=["audit.anchored"]) as caught:
            sign_anchor(actor=system)
        assert caught.value.where == "第 2 条：内容被修改"
        newest = AuditEntry.objects.first()
        assert newest is not None
        assert (newest.result, newest.details) == ("failed", {"fault": "第 2 条：内容被修改"})

    def test_only_auditors_and_the_system_sign(self) -> None:
        home = Organisation.objects.create(kind="purchaser", code="HRSS", name="采购人", short_name="采购人")
        entries(1)
        stranger = make_person(Role.SYSTEM_ADMINISTRATOR, home)
        with refused(PermissionRefusedError):
            sign_anchor(actor=stranger)
        assert sign_anchor(actor=make_person(Role.AUDITOR, home)) is not None

    @pytest.mark.parametrize(
        "change", ["UPDATE portal_auditanchor SET at = now()", "DELETE FROM portal_auditanchor"]
    )
    def test_the_table_takes_anchors_only(self, system: User, change: str) -> None:
        entries(1)
        sign_anchor(actor=system)
        with (
            pytest.raises(DatabaseError, match="append-only"),
            transaction.atomic(),
            connection.cursor() as cursor,
        ):
            cursor.execute(change)

    def test_each_anchor_is_written_where_it_is_kept(
        self, system: User, settings: Any, tmp_path: Path
    ) -> None:
        settings.AUDIT_ANCHOR_DIR = str(tmp_path / "elsewhere")
        entries(1)
        row = sign_anchor(actor=system)
        assert row is not None
        kept = tmp_path / "elsewhere" / "audit-anchor-000001.json"
        assert read(kept.read_text()) == [row.anchor()]

    def test_a_folder_that_fails_does_not_undo_the_anchor(
        self, system: User, settings: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        (tmp_path / "elsewhere").write_text("a file where the folder should be")
        settings.AUDIT_ANCHOR_DIR = str(tmp_path / "elsewhere")
        entries(1)
        assert sign_anchor(actor=system) is not None
        assert "anchor 1 not kept elsewhere" in caplog.text


class TestCommands:
    def test_sign_write_and_verify(self, tmp_path: Path) -> None:
        entries(3)
        kept = tmp_path / "anchors.json"
        assert say("audit_anchor", out=kept).startswith("锚点 1：至第 3 条，摘要 ")
        assert say("audit_verify", anchors=kept) == "审计链完好：5 条\n锚点：1 个，签名有效\n"
        assert say("audit_anchor", key_out=tmp_path / "portal.pub").startswith("锚点 2：至第 5 条")
        assert (tmp_path / "portal.pub").read_text() == portal_key().public.to_pem()
        with pytest.raises(CommandError, match="无法写入"):
            say("audit_anchor", out=kept)

    def test_an_exported_file_is_verified_offline(self, tmp_path: Path) -> None:
        """The stand-alone script needs no database: it names a changed cell, a removed line, a cut end."""
        entries(6)
        say("audit_anchor", out=tmp_path / "anchors.json")
        files = Offline(tmp_path)
        files.export()
        assert files.check() == (0, "审计链完好：6 条\n锚点：1 个，签名有效\n")
        files.change(
            lambda lines: [
                line.replace("event.told", "event.tolD") if "\n3," in f"\n{line}" else line for line in lines
            ]
        )
        assert files.check() == (1, "审计链已被破坏：\n第 3 条：内容被修改\n")
        files.change(lambda lines: [lines[0], lines[1], *lines[3:]])
        assert files.check() == (1, "审计链已被破坏：\n第 2 条：被删除\n")
        files.change(lambda lines: lines[:-1])
        assert files.check() == (1, "审计链已被破坏：\n第 6 条：被删除\n")
        files.change(lambda lines: [*lines[:3], "half a line\n", *lines[4:]])
        assert files.check()[0] == 1
        files.change(lambda lines: ["something,else\n"])
        assert files.check()[0] == 2


class Offline:
    """An exported audit, checked by the stand-alone script."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.file = folder, folder / "audit.csv"
        (folder / "portal.pub").write_text(portal_key().public.to_pem())

    def export(self) -> None:
        with self.file.open("w", encoding="utf-8-sig", newline="") as target:
            csv.writer(target).writerows(islice(export_audit(actor=User.objects.system()), 7))
        self.whole = self.file.read_text("utf-8-sig").splitlines(keepends=True)

    def change(self, how: Any) -> None:
        self.file.write_text("".join(how(self.whole)), "utf-8-sig")

    def check(self) -> tuple[int, str]:
        script = Path(__file__).resolve().parents[2] / "script" / "verify_audit.py"
        arguments = [
            "--anchors",
            self.folder / "anchors.json",
            "--public-key",
            self.folder / "portal.pub",
            self.file,
        ]
        done = subprocess.run(
            [sys.executable, script, *arguments], capture_output=True, text=True, check=False
        )
        return done.returncode, done.stdout


class TestFiles:
    def test_a_file_of_anchors_comes_back(self, system: User) -> None:
        entries(1)
        row = sign_anchor(actor=system)
        assert row is not None
        assert read(written([row.anchor()])) == [row.anchor()]

    @pytest.mark.parametrize(
        "content",
        ["", "[]", "{}", '{"format": "other", "anchors": [1]}',
         '{"format": "portal-audit-anchors-1", "anchors": []}',
         '{"format": "portal-audit-anchors-1", "anchors": [{"number": 1}]}', '{"format": 1, "anchors": 2}'],
    )  # fmt: skip
    def test_what_is_no_file_of_anchors_is_refused(self, content: str) -> None:
        with pytest.raises(AnchorFileError):
            read(content)

    def test_a_kept_anchor_finds_what_the_portals_own_would_hide(self, system: User) -> None:
        """Anchors and entries were removed together: only what lay elsewhere tells."""
        entries(4)
        row = sign_anchor(actor=system)
        assert row is not None
        kept: Anchor = row.anchor()
        with connection.cursor() as cursor:
            for table in ("entry", "anchor"):
                cursor.execute(f"ALTER TABLE portal_audit{table} DISABLE TRIGGER USER")
            cursor.execute("DELETE FROM portal_auditanchor")
            cursor.execute("DELETE FROM portal_auditentry WHERE position > 2")
        with own_link() as link:
            assert check(link, trusted=trusted_keys()).holds
            assert check(link, trusted=trusted_keys(), kept=[kept]).found() == ["第 3–4 条：被删除"]
