"""Entries after the last anchor: cut off or written anew, they are missed (issue 3, Audit; R-46).

The database's owner does it; the marks beside the keys are not in the database.
"""

from __future__ import annotations

import io
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from psycopg.conninfo import make_conninfo

from portal import embedded
from portal.audit import record_alone
from portal.audit_check import audit_marks
from portal.choices import Role
from portal.core.errors import InputRefusedError, PermissionRefusedError
from portal.models import AuditEntry, Organisation, User
from portal.services.audit import verify_audit
from portal.services.audit_anchors import ChainBrokenError, NothingLostError, accept_loss, sign_anchor
from tests.conftest import SESSION_VAR
from tests.portal.desk import make_person
from tests.refusals import actions, refused

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def system(db: None) -> Iterator[User]:
    """Three entries under an anchor, its own signing, and three more that no anchor covers."""
    user = User.objects.system()
    tell(3)
    assert sign_anchor(actor=user) is not None
    tell(3)
    yield user
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE portal_auditentry ENABLE TRIGGER USER")
        cursor.execute("ALTER TABLE portal_auditentry DISABLE TRIGGER audit_not_emptied")


def tell(count: int, word: str = "told") -> None:
    for number in range(count):
        record_alone("event.told", actor=None, number=number, word=word)


def cut(after: int) -> None:
    """Do as the database's owner can."""
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE portal_auditentry DISABLE TRIGGER USER")
        cursor.execute("DELETE FROM portal_auditentry WHERE position > %s", [after])


def found() -> str:
    """Return what `audit_verify` says."""
    out = io.StringIO()
    try:
        call_command("audit_verify", stdout=out)
    except CommandError as exc:
        return str(exc)
    return out.getvalue()


def test_a_sound_end_is_found_sound(system: User) -> None:
    assert found() == "审计链完好：7 条\n锚点：1 个，签名有效\n"
    marks = audit_marks()
    assert [mark.position for mark in marks.read()] == [4, 5, 6, 7]  # the first three lie under the anchor
    assert stat.S_IMODE(marks.path.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("after", "said"), [(6, "第 7 条"), (5, "第 6–7 条"), (4, "第 5–7 条"), (3, "第 4–7 条")]
)
def test_a_cut_end_is_named_though_no_anchor_covers_it(system: User, after: int, said: str) -> None:
    cut(after)
    assert found().startswith(f"审计链已被破坏：\n{said}：被删除")
    auditor = User.objects.system()
    assert not verify_audit(actor=auditor).holds
    newest = AuditEntry.objects.first()
    assert newest is not None
    assert (newest.action, newest.result) == ("audit.verified", "failed")


def test_an_end_cut_off_and_written_anew_is_named(system: User) -> None:
    """What the portal itself writes after the cut does not cover it up."""
    cut(5)
    tell(4, "instead")
    assert found() == "审计链已被破坏：\n第 6–7 条：末尾被删去后重写（与链尾标记不符）"


def test_a_cut_end_is_not_signed_over(system: User) -> None:
    """Otherwise the next anchor would make it good."""
    cut(5)
    with refused(ChainBrokenError, audited=["audit.anchored"]) as caught:
        sign_anchor(actor=system)
    assert caught.value.where == "第 6–7 条：被删除"
    tell(5)
    with refused(ChainBrokenError, audited=["audit.anchored"]):
        sign_anchor(actor=system)


def test_an_end_that_is_missing_while_nothing_new_came_is_told(system: User) -> None:
    """Nothing would be signed, but the scheduler's hourly round notices all the same."""
    assert sign_anchor(actor=system) is not None
    cut(7)
    with refused(ChainBrokenError, audited=["audit.anchored"]) as caught:
        sign_anchor(actor=system)
    assert caught.value.where == "第 8 条：被删除"


def test_a_restored_copy_is_held_against_the_marks_of_its_time(system: User, tmp_path: Path) -> None:
    kept = tmp_path / "audit-marks"
    shutil.copy(audit_marks().path, kept)
    here = make_conninfo(embedded.place(SESSION_VAR).database_url, dbname=connection.settings_dict["NAME"])
    options: dict[str, Any] = {"database_url": here, "stderr": io.StringIO()}
    call_command("audit_verify", marks=kept, stdout=io.StringIO(), **options)
    cut(6)
    with pytest.raises(CommandError, match="第 7 条：被删除"):
        call_command("audit_verify", marks=kept, **options)
    call_command("audit_verify", stdout=io.StringIO(), **options)  # without them nobody misses it
    with pytest.raises(CommandError, match="无法核对"):
        call_command("audit_verify", marks=tmp_path / "nowhere", **options)


def test_marks_that_cannot_be_kept_stop_nobody_and_are_told(
    system: User, caplog: pytest.LogCaptureFixture
) -> None:
    path = audit_marks().path
    path.unlink()
    path.mkdir()
    tell(1)
    assert actions()[-1] == "event.told"
    assert "the audit's end is not marked: IsADirectoryError" in caplog.text
    path.rmdir()


class TestRestoredBackup:
    """What is gone for good is noted, and the portal goes on."""

    def test_it_is_noted_which_entries_are_gone(self, system: User) -> None:
        cut(5)
        out = io.StringIO()
        call_command("audit_accept_loss", reason="恢复 11 月 22 日备份", stdout=out)
        assert out.getvalue() == "已记入审计：第 6–7 条：被删除\n"
        entry = AuditEntry.objects.get(action="audit.loss_accepted")
        assert entry.details == {
            "fault": "第 6–7 条：被删除", "first": 6, "last": 7, "reason": "恢复 11 月 22 日备份"
        }  # fmt: skip
        assert audit_marks().path.with_name("audit-marks.1").exists()
        assert [mark.position for mark in audit_marks().read()] == [entry.position]
        tell(2)
        assert sign_anchor(actor=system) is not None
        assert found().startswith("审计链完好：9 条")

    def test_nothing_lost_is_nothing_to_accept(self, system: User) -> None:
        with refused(NothingLostError):
            accept_loss(reason="r", actor=system)
        cut(5)
        with refused(InputRefusedError):
            accept_loss(reason=" ", actor=system)
        assert found().startswith("审计链已被破坏")

    def test_a_broken_chain_is_no_restored_backup(self, system: User) -> None:
        cut(6)
        with connection.cursor() as cursor:
            cursor.execute("UPDATE portal_auditentry SET address = 'x' WHERE position = 5")
        with refused(ChainBrokenError):
            accept_loss(reason="r", actor=system)

    def test_only_auditors_and_the_system(self, system: User) -> None:
        home = Organisation.objects.create(kind="purchaser", code="HRSS", name="采购人", short_name="采购人")
        person = make_person(Role.SYSTEM_ADMINISTRATOR, home)
        cut(5)
        with refused(PermissionRefusedError):
            accept_loss(reason="r", actor=person)
