"""Removal of keys and files: never before the commit, never forgotten (R-22)."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from django.core.files.storage import default_storage
from django.db import connections, transaction

from portal.core.keystore import KeyPurpose
from portal.files import keystore, write_sealed
from portal.models import PendingRemoval
from portal.removal import remove_after_commit, remove_pending

pytestmark = pytest.mark.django_db(transaction=True)


def key() -> str:
    return keystore().create(KeyPurpose.BATCH, "B-1")


def stored(name: str, key_id: str) -> str:
    with write_sealed(name, key_id) as target:
        target.write(b"content")
    return name


def test_keys_and_files_go_with_the_commit() -> None:
    key_id = key()
    name = stored("a/1", key_id)
    with transaction.atomic():
        remove_after_commit(keys=[key_id, ""], files=[name, ""])
        assert keystore().exists(key_id)
        assert default_storage.exists(name)
    assert not keystore().exists(key_id)
    assert not default_storage.exists(name)
    assert not PendingRemoval.objects.exists()


def test_a_rollback_removes_nothing() -> None:
    """R-22: what is still referred to must stay readable."""
    key_id = key()
    name = stored("a/1", key_id)
    with transaction.atomic():
        remove_after_commit(keys=[key_id], files=[name])
        transaction.set_rollback(True)
    assert keystore().exists(key_id)
    assert default_storage.exists(name)
    assert (PendingRemoval.objects.count(), remove_pending()) == (0, 0)


def test_keys_go_before_files() -> None:
    """R-22: a destroyed key makes the files unreadable at once, however long their removal takes."""
    key_id = key()
    PendingRemoval.objects.create(kind="file", name="a/1")
    PendingRemoval.objects.create(kind="key", name=key_id)
    order = list(PendingRemoval.objects.order_by("-kind", "pk").values_list("kind", flat=True))
    assert order == ["key", "file"]
    assert remove_pending() == 2


def test_what_is_gone_already_is_no_error() -> None:
    key_id = key()
    keystore().destroy(key_id)
    PendingRemoval.objects.create(kind="key", name=key_id)
    PendingRemoval.objects.create(kind="key", name="0" * 32)
    PendingRemoval.objects.create(kind="file", name="never/there")
    assert remove_pending() == 3


def test_noting_twice_is_noting_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with transaction.atomic():
        remove_after_commit(files=["a/1"])
        remove_after_commit(files=["a/1"])
        assert PendingRemoval.objects.count() == 1


def test_a_failure_after_the_commit_does_not_undo_the_answer(
    monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    """The action is committed: its caller gets its answer, the sweeper does the rest."""
    key_id = key()

    def broken(name: str) -> None:
        raise OSError(name)

    with monkeypatch.context() as patched:
        patched.setattr("portal.removal.remove", broken)
        with transaction.atomic():
            remove_after_commit(keys=[key_id], files=["secret-name"])
    assert not keystore().exists(key_id)
    assert [row.name for row in PendingRemoval.objects.all()] == ["secret-name"]
    assert "OSError" in caplog.text
    assert "secret-name" not in caplog.text
    assert remove_pending() == 1


def test_many_at_once_remove_everything_once() -> None:
    names = [stored(f"a/{place}", key()) for place in range(5)]
    keys = [key() for _ in range(5)]
    PendingRemoval.objects.bulk_create(
        [PendingRemoval(kind="file", name=name) for name in names]
        + [PendingRemoval(kind="key", name=key_id) for key_id in keys]
    )
    failures: list[BaseException] = []

    def run() -> None:
        try:
            remove_pending()
        except Exception as exc:  # noqa: BLE001 -- the test looks at it
            failures.append(exc)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    remove_pending()
    assert failures == []
    assert not PendingRemoval.objects.exists()
    assert not any(map(keystore().exists, keys))
    assert not any(map(default_storage.exists, names))
