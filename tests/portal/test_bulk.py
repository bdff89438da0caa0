"""The bulk writer: COPY with every constraint enforced, and nothing left behind when one is broken (P5)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from portal.bulk import copy_insert, copy_rows, next_ids, update_from
from portal.models import Organisation, Task, User

pytestmark = pytest.mark.django_db

FIELDS = ("kind", "code", "name", "short_name", "is_active")


def rows(*codes: str) -> list[tuple[Any, ...]]:
    return [("bank", code, f"{code} 银行", code, True) for code in codes]


def codes() -> list[str]:
    return sorted(Organisation.objects.values_list("code", flat=True))


def temporary_tables() -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT relname FROM pg_class WHERE relpersistence = 't' AND relkind = 'r'")
        return [name for (name,) in cursor.fetchall()]


class TestCopyRows:
    def test_rows_arrive_whole(self) -> None:
        assert copy_rows(Organisation, FIELDS, iter(rows("A", "B"))) == 2
        bank = Organisation.objects.get(code="B")
        assert (bank.kind, bank.name, bank.short_name, bank.is_active) == ("bank", "B 银行", "B", True)

    def test_no_rows_are_no_error(self) -> None:
        assert copy_rows(Organisation, FIELDS, []) == 0

    def test_a_broken_constraint_writes_nothing_and_leaves_the_transaction_usable(self) -> None:
        with pytest.raises(IntegrityError, match="portal_organisation_code"):
            copy_rows(Organisation, FIELDS, rows("A", "B", "A"))
        assert codes() == []
        copy_rows(Organisation, FIELDS, rows("C"))
        assert codes() == ["C"]

    def test_an_error_in_the_generator_writes_nothing(self) -> None:
        def failing() -> Any:
            yield from rows("A")
            raise ValueError("the source broke")

        with pytest.raises(ValueError, match="the source broke"):
            copy_rows(Organisation, FIELDS, failing())
        assert codes() == []

    def test_arrays_times_and_nulls(self) -> None:
        now = timezone.now()
        fields = (
            "username password first_name last_name email is_staff is_active is_superuser is_system "
            "date_joined last_login organisation roles must_change_password"
        ).split()
        people = [
            ("ann", "!", "", "", "", False, True, False, False, now, None, None, ["bank_clerk"], False),
            ("bob", "!", "", "", "", False, True, False, False, now, now, None, [], False),
        ]
        assert copy_rows(User, fields, people) == 2
        ann, bob = User.objects.get(username="ann"), User.objects.get(username="bob")
        assert (ann.roles, ann.last_login, ann.date_joined) == (["bank_clerk"], None, now)
        assert (bob.roles, bob.last_login) == ([], now)

    def test_a_task_that_breaks_its_unique_part(self) -> None:
        fields = (
            "handler subject_type subject_id part queue status attempts error_code error_text "
            "created_at enqueued_at"
        )
        now = timezone.now()
        task = ("a.b", "x.y", 1, 0, "default", "queued", 0, "", "", now, now)
        copy_rows(Task, fields.split(), [task])
        with pytest.raises(IntegrityError):
            copy_rows(Task, fields.split(), [task])
        assert Task.objects.count() == 1


class TestCopyInsert:
    def test_returns_what_was_written(self) -> None:
        written = copy_insert(Organisation, FIELDS, rows("A", "B"), returning=("code", "is_active"))
        assert written == [("A", True), ("B", True)]
        assert temporary_tables() == []

    def test_conflicts_are_left_out_and_not_returned(self) -> None:
        copy_rows(Organisation, FIELDS, rows("B"))
        written = copy_insert(
            Organisation, FIELDS, rows("A", "B", "A", "C"), on_conflict_do_nothing=True, returning=("code",)
        )
        assert written == [("A",), ("C",)]
        assert codes() == ["A", "B", "C"]

    def test_a_conflict_is_an_error_unless_asked_for(self) -> None:
        with pytest.raises(IntegrityError):
            copy_insert(Organisation, FIELDS, rows("A", "A"))
        assert (codes(), temporary_tables()) == ([], [])

    def test_a_check_constraint_is_never_passed_over(self) -> None:
        fields = (
            "username password first_name last_name email is_staff is_active is_superuser is_system "
            "date_joined roles must_change_password"
        )
        forbidden = ("root", "!", "", "", "", False, True, True, False, timezone.now(), [], False)
        with pytest.raises(IntegrityError, match="user_is_never_superuser"):
            copy_insert(User, fields.split(), [forbidden], on_conflict_do_nothing=True)


def test_rows_that_query_while_they_stream_fail_at_once_and_write_nothing() -> None:
    def lazy() -> Iterator[tuple[object, ...]]:
        for row in rows("A", "B"):
            Organisation.objects.count()
            yield row

    with pytest.raises(RuntimeError, match="must not use the database"):
        copy_rows(Organisation, FIELDS, lazy())
    assert codes() == []


class TestUpdateFrom:
    def test_updates_by_key_and_counts(self) -> None:
        copy_rows(Organisation, FIELDS, rows("A", "B", "C"))
        changes = [("A", "甲", False), ("C", "丙", True), ("X", "无", True)]
        assert update_from(Organisation, ("code",), ("name", "is_active"), changes) == 2
        found = list(Organisation.objects.order_by("code").values_list("code", "name", "is_active"))
        assert found == [("A", "甲", False), ("B", "B 银行", True), ("C", "丙", True)]
        assert temporary_tables() == []

    def test_two_in_one_transaction(self) -> None:
        copy_rows(Organisation, FIELDS, rows("A"))
        with transaction.atomic():
            assert update_from(Organisation, ("code",), ("name",), [("A", "甲")]) == 1
            assert update_from(Organisation, ("code",), ("short_name",), [("A", "乙")]) == 1
        assert Organisation.objects.values_list("name", "short_name").get() == ("甲", "乙")


class TestNextIds:
    def test_ids_are_fresh_and_the_sequence_goes_on_behind_them(self) -> None:
        ids = next_ids(Organisation, 3)
        assert len(set(ids)) == 3
        copy_rows(Organisation, ("id", *FIELDS), [(ids[0], *rows("A")[0])])
        later = Organisation.objects.create(kind="bank", code="B", name="B", short_name="B")
        assert later.pk > max(ids)

    def test_none(self) -> None:
        assert next_ids(Organisation, 0) == []
