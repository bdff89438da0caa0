"""A copy of the database is tampered with as its owner can; `audit_verify` names exactly what was done.

Issue 3, Audit: "finds a changed, removed, inserted or reordered row and names it"; R-46.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import override_settings
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from portal import embedded
from portal.audit import record_alone
from portal.audit_check import check, copy_link, read_anchors, rows
from portal.core.audit_anchors import written
from portal.core.audit_forms import Entry
from portal.core.crypto import Sm2PrivateKey, Sm2PublicKey
from portal.models import User
from portal.services.audit_anchors import sign_anchor
from tests.conftest import SESSION_VAR
from tests.core.audit_chains import chained_anew, changed

pytestmark = pytest.mark.django_db
LAST = 10
MIDDLE = 5
CHANGES = {
    "form": "form = 1",
    "at": "at = at + interval '1 microsecond'",
    "actor_id": "actor_id = 4711",
    "actor_name": "actor_name = 'other'",
    "organisation_code": "organisation_code = 'BANK'",
    "address": "address = '203.0.113.9'",
    "action": "action = 'event.other'",
    "object_type": "object_type = 'portal.organisation'",
    "object_id": "object_id = '99'",
    "object_label": "object_label = '别的'",
    "details": "details = '{\"number\":4712}'",
    "details, spaces only": "details = (details::text || ' ')::json",
    "result": "result = 'done'",
}


@pytest.fixture(scope="module")
def told(module_database: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return the address of a database with entries, whose first seven lie under two anchors."""
    system = User.objects.system()
    with override_settings(
        KEYSTORE_DIR=tmp_path_factory.mktemp("keys")
    ):  # other chains mark their ends elsewhere
        for number in range(LAST - 2):
            record_alone("event.told", actor=system, subject=system, number=number)
            if number in (2, 4):
                assert sign_anchor(actor=system) is not None
    name = connection.settings_dict["NAME"]
    connection.close()
    with psycopg.connect(embedded.place(SESSION_VAR).database_url, autocommit=True) as link:
        # Only a database that nobody is connected to can be copied: the tests sit in the module's own.
        link.execute(f'CREATE DATABASE "{name}_told" TEMPLATE "{name}"')
        yield make_conninfo(embedded.place(SESSION_VAR).database_url, dbname=f"{name}_told")
        link.execute(f'DROP DATABASE "{name}_told"')


@pytest.fixture
def copy(told: str) -> Iterator[psycopg.Connection[Any]]:
    """Sit at the copy as its owner, who can turn the triggers off; what is done is undone after the test."""
    with psycopg.connect(told) as owner:
        owner.execute("ALTER TABLE portal_auditentry DISABLE TRIGGER USER")
        owner.execute("ALTER TABLE portal_auditanchor DISABLE TRIGGER USER")
        yield owner
        owner.rollback()


@pytest.fixture
def dump(told: str) -> Iterator[str]:
    """Return the address of a database of its own, as one restored from a backup is."""
    name = conninfo_to_dict(told)["dbname"]
    with psycopg.connect(embedded.place(SESSION_VAR).database_url, autocommit=True) as link:
        link.execute(f'CREATE DATABASE "{name}_dump" TEMPLATE "{name}"')
        yield make_conninfo(told, dbname=f"{name}_dump")
        link.execute(f'DROP DATABASE "{name}_dump" WITH (FORCE)')


def tamper(owner: psycopg.Connection[Any], *statements: str) -> None:
    for statement in statements:
        owner.execute(statement)


def found(owner: psycopg.Connection[Any], **options: Any) -> list[str]:
    return check(owner, **options).found()


def test_the_copy_is_sound(told: str) -> None:
    with copy_link(told) as link:
        verdict = check(link)
    assert (verdict.holds, verdict.report.checked, verdict.anchors) == (True, LAST, 2)


def test_a_copy_is_only_read(told: str) -> None:
    with copy_link(told) as link, pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        link.execute("DELETE FROM portal_auditentry")


@pytest.mark.parametrize("position", [1, MIDDLE, LAST])
@pytest.mark.parametrize("column", CHANGES)
def test_each_changed_column_is_found(copy: psycopg.Connection[Any], column: str, position: int) -> None:
    tamper(copy, f"UPDATE portal_auditentry SET {CHANGES[column]} WHERE position = {position}")
    assert found(copy) == [f"第 {position} 条：内容被修改"]


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("UPDATE portal_auditentry SET previous_digest = ''::bytea WHERE position = 1",
         ["第 1 条：内容被修改（上一条摘要）"]),
        ("UPDATE portal_auditentry SET previous_digest = digest WHERE position = 5",
         ["第 5 条：内容被修改（上一条摘要）"]),
        ("UPDATE portal_auditentry SET digest = previous_digest WHERE position = 5",
         ["第 5 条：内容被修改（摘要）"]),
        ("UPDATE portal_auditentry SET position = 40 WHERE position = 5",
         ["第 40 条：次序被改动（原为第 5 条）"]),
        ("DELETE FROM portal_auditentry WHERE position = 1", ["第 1 条：被删除"]),
        ("DELETE FROM portal_auditentry WHERE position IN (2, 3)", ["第 2–3 条：被删除"]),
    ],
)  # fmt: skip
def test_links_and_gaps_are_named(copy: psycopg.Connection[Any], statement: str, said: list[str]) -> None:
    tamper(copy, statement)
    assert found(copy) == said


def test_a_removed_end_is_found_through_the_anchor(copy: psycopg.Connection[Any]) -> None:
    """The second anchor covers position 6: what goes behind it needs an anchor kept elsewhere."""
    tamper(copy, "DELETE FROM portal_auditentry WHERE position > 4")
    assert found(copy) == ["第 5–6 条：被删除"]


def test_exchanged_entries_are_named_with_their_origins(copy: psycopg.Connection[Any]) -> None:
    swap = [(3, -3), (8, 3), (-3, 8)]
    tamper(copy, *(f"UPDATE portal_auditentry SET position = {to} WHERE position = {of}" for of, to in swap))
    assert found(copy) == ["第 3 条：次序被改动（原为第 8 条）", "第 8 条：次序被改动（原为第 3 条）"]


def test_an_inserted_entry_is_named_and_those_it_pushed(copy: psycopg.Connection[Any]) -> None:
    columns = (
        "form, at, actor_name, organisation_code, address, action, object_type, object_id, object_label, "
        "details, result, previous_digest, digest"
    )
    forged = columns.replace("action", "'event.forged'")
    tamper(
        copy,
        "UPDATE portal_auditentry SET position = -position - 1 WHERE position >= 5",
        "UPDATE portal_auditentry SET position = -position WHERE position < 0",
        f"INSERT INTO portal_auditentry (position, {columns}) SELECT 5, {forged} "
        "FROM portal_auditentry WHERE position = 4",
    )
    assert found(copy) == ["第 5 条：是后来插入的", f"第 6–{LAST + 1} 条：次序被改动（原为第 5–{LAST} 条）"]


def test_a_chain_rewritten_as_a_whole_is_found_through_the_anchors(copy: psycopg.Connection[Any]) -> None:
    """Every digest is computed anew: the chain is sound in itself, but not what was signed."""
    rewrite(copy)
    assert found(copy) == ["第 1–6 条：被整段改写（与锚点签名的摘要不符）"]


def test_forged_anchors_are_told_from_the_portals(copy: psycopg.Connection[Any]) -> None:
    """Who rewrites the anchors too has another key, or signatures that do not fit."""
    genuine = read_anchors(copy)
    rewrite(copy)
    forger, trusted = Sm2PrivateKey.generate(), frozenset({genuine[0].public_key})
    digests = dict(copy.execute("SELECT position, digest FROM portal_auditentry").fetchall())
    previous = bytes(32)
    for anchor in genuine:
        forged = replace(
            anchor, digest=digests[anchor.position], previous=previous, public_key=forger.public.raw
        ).signed(forger)
        previous = forged.mark()
        copy.execute(
            "UPDATE portal_auditanchor SET digest = %s, previous = %s, public_key = %s, signature = %s "
            "WHERE number = %s",
            [forged.digest, forged.previous, forged.public_key, forged.signature, forged.number],
        )
    assert found(copy, trusted=trusted) == ["锚点 1：不是可信密钥签署的", "锚点 2：不是可信密钥签署的"]
    said = found(copy, trusted=trusted, kept=genuine)
    assert said[0] == "第 1–6 条：被整段改写（与锚点签名的摘要不符）"


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("UPDATE portal_auditanchor SET entry_count = 7 WHERE number = 1",
         ["锚点 1：签名不符，内容被改动", "锚点 2：与前一个锚点不连接"]),
        ("UPDATE portal_auditanchor SET at = at + interval '1 microsecond' WHERE number = 2",
         ["锚点 2：签名不符，内容被改动"]),
        ("DELETE FROM portal_auditanchor WHERE number = 1", ["锚点 1：被删除"]),
        ("DELETE FROM portal_auditanchor WHERE number = 2", ["锚点 2：被删除"]),
    ],
)  # fmt: skip
def test_anchors_are_verified_themselves(
    copy: psycopg.Connection[Any], statement: str, said: list[str]
) -> None:
    """The chain holds that an anchor was signed: even the last one cannot go unseen."""
    tamper(copy, statement)
    assert found(copy) == said


def test_the_command_names_the_faults_of_a_copy_and_ends_with_1(dump: str, tmp_path: Path) -> None:
    """A restored dump is checked read only, from another machine, with the public key as a file."""
    with copy_link(dump) as link:
        anchors = read_anchors(link)
    key, kept = tmp_path / "portal.pub", tmp_path / "anchors.json"
    key.write_text(Sm2PublicKey(anchors[0].public_key).to_pem())
    kept.write_text(written(anchors))
    options = {"database_url": dump, "public_key": key, "anchors": kept}
    out = io.StringIO()
    call_command("audit_verify", stdout=out, **options)
    assert out.getvalue() == f"审计链完好：{LAST} 条\n锚点：2 个，签名有效\n"
    with psycopg.connect(dump) as owner:
        owner.execute("ALTER TABLE portal_auditentry DISABLE TRIGGER USER")
        owner.execute("UPDATE portal_auditentry SET address = '::1' WHERE position = 3")
        owner.execute("DELETE FROM portal_auditentry WHERE position >= 5")
    with pytest.raises(CommandError) as caught:
        call_command("audit_verify", **options)
    assert caught.value.returncode == 1
    assert str(caught.value).splitlines()[1:] == ["第 3 条：内容被修改", "第 5–6 条：被删除"]


def test_a_copy_that_cannot_be_reached_ends_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(CommandError, match="无法核对") as caught:
        call_command("audit_verify", database_url="postgresql://nobody@127.0.0.1:1/none")
    assert caught.value.returncode == 2


def rewrite(owner: psycopg.Connection[Any]) -> None:
    """Change an entry and chain everything after it anew, as somebody would who owns the database."""
    entries = [Entry.parse(row) for row in rows(owner)]
    entries[1] = changed(entries[1], "address", b"198.51.100.7")
    for entry in chained_anew(entries):
        owner.execute(
            "UPDATE portal_auditentry SET previous_digest = %s, digest = %s, address = %s "
            "WHERE position = %s",
            [entry.previous, entry.digest, entry.text("address"), entry.position],
        )
