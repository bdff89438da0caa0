"""The commands of the floor and of the auditor, through call_command, with their bad inputs."""

from __future__ import annotations

from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from portal.audit import record_alone
from portal.management.commands.scheduler import SCHEDULER_LOCK
from portal.models import AuditEntry
from production.choices import BatchStatus
from tests.production.stages import Stages, build_stages
from tests.production.world import run_queued

pytestmark = pytest.mark.django_db


@pytest.fixture
def stages(db: None, settings: Any) -> Stages:
    return build_stages(settings)


def said(*arguments: str, **options: Any) -> str:
    out = StringIO()
    call_command(*arguments, stdout=out, stderr=out, **options)
    return out.getvalue()


def test_run_line_sends_every_prepared_batch(stages: Stages) -> None:
    batch = stages.world.prepared(3)
    assert said("run_line") == f"{batch.number}  3 张  已上机\n"
    batch.refresh_from_db()
    assert batch.status == BatchStatus.RUNNING


def test_run_line_refuses_a_batch_that_is_not_prepared(stages: Stages) -> None:
    batch = stages.world.released(3)
    audited = AuditEntry.objects.count()
    with pytest.raises(CommandError, match="1 个批次未能上机"):
        said("run_line", batch.number)
    batch.refresh_from_db()
    assert (batch.status, AuditEntry.objects.count()) == (BatchStatus.RELEASED, audited)


def test_run_line_names_an_unknown_batch(stages: Stages) -> None:
    with pytest.raises(CommandError, match="没有批次 NOWHERE"):
        said("run_line", "NOWHERE")


def test_destroy_due_writes_the_return_file_first_and_destroys_in_the_next_round(stages: Stages) -> None:
    """R-22: signed, returned to the card system, then destroyed."""
    stages.province()
    batch = stages.signed(3)
    assert said("destroy_due", list=True) == f"{batch.number}  待回盘  待办\n"
    assert said("destroy_due") == f"{batch.number}  正在生成回盘文件\n"
    run_queued()
    assert said("destroy_due", list=True) == f"{batch.number}  待销毁  待办\n"
    assert said("destroy_due") == f"{batch.number}  个人数据已销毁\n"
    batch.refresh_from_db()
    assert batch.status == BatchStatus.DESTROYED
    assert said("destroy_due") == ""


def test_audit_verify_counts_what_holds() -> None:
    before = AuditEntry.objects.count()
    for number in range(3):
        record_alone("test.event", actor=None, number=number)
    assert said("audit_verify") == f"审计链完好：{before + 3:,} 条\n锚点：尚未签署\n"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("UPDATE portal_auditentry SET action = 'other' WHERE position = %s", "：内容被修改"),
        ("DELETE FROM portal_auditentry WHERE position = %s", "：被删除"),
    ],
)
def test_audit_verify_names_the_first_entry_that_does_not_hold(damage: str, message: str) -> None:
    for number in range(3):
        record_alone("test.event", actor=None, number=number)
    position = AuditEntry.objects.order_by("-position").values_list("position", flat=True)[1]
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE portal_auditentry DISABLE TRIGGER audit_append_only")
        cursor.execute(damage, [position])
        cursor.execute("ALTER TABLE portal_auditentry ENABLE TRIGGER audit_append_only")
    with pytest.raises(CommandError, match=f"第 {position} 条{message}"):
        said("audit_verify")


def test_audit_verify_wants_a_position() -> None:
    with pytest.raises(CommandError, match="--start"):
        said("audit_verify", start=0)


def test_a_second_scheduler_ends_at_once() -> None:
    """One copy at a time, whatever the number of hosts."""
    other = connection.copy()
    try:
        with other.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_lock(%s)", [SCHEDULER_LOCK])
        with pytest.raises(CommandError, match="已有一个调度进程在运行"):
            said("scheduler")
        with other.cursor() as cursor:  # closing alone is not waited for
            cursor.execute("SELECT pg_advisory_unlock(%s)", [SCHEDULER_LOCK])
    finally:
        other.close()
