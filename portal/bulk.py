"""Write many rows through PostgreSQL's binary COPY, constraints enforced (performance.md, P5).

Values go as psycopg takes them (str, int, bytes, date, aware datetime, Decimal, list, dict for JSON, None).
The ORM adds nothing: every column without a database default must be named, `created_at` among them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

from django.db import connection, models, transaction
from psycopg import Copy, Cursor, sql

Row = Sequence[Any]
_TEMPORARY = "bulk_rows"


def next_ids(model: type[models.Model], count: int) -> list[int]:
    """Draw `count` ids from the model's sequence, to seal rows for their id before they exist."""
    column = model._meta.pk.column
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT nextval(pg_get_serial_sequence(%s, %s)) FROM generate_series(1, %s)",
            [f'"{model._meta.db_table}"', column, count],
        )
        return [row[0] for row in cursor.fetchall()]


def copy_rows(model: type[models.Model], fields: Sequence[str], rows: Iterable[Row]) -> int:
    """Copy rows into the model's table; return how many, or raise IntegrityError and have written none.

    `rows` may be a generator, but one that does not use the database: the connection is busy meanwhile.
    """
    with transaction.atomic():
        return _copy(sql.Identifier(model._meta.db_table), model, fields, rows)


def copy_insert(
    model: type[models.Model],
    fields: Sequence[str],
    rows: Iterable[Row],
    *,
    on_conflict_do_nothing: bool = False,
    returning: Sequence[str] = ("id",),
) -> list[tuple[Any, ...]]:
    """Insert rows and return the `returning` columns of those written.

    With `on_conflict_do_nothing` a row that any unique constraint refuses is left out and not returned; that
    holds against rows of other transactions too, for which the insert waits.
    """
    columns = _columns(model, fields)
    statement = sql.SQL("INSERT INTO {} ({}) SELECT {} FROM {} ORDER BY place {} RETURNING {}").format(
        sql.Identifier(model._meta.db_table),
        _list(columns),
        _list(columns),
        sql.Identifier(_TEMPORARY),
        sql.SQL("ON CONFLICT DO NOTHING" if on_conflict_do_nothing else ""),
        _list(_columns(model, returning)),
    )
    with _temporary(model, fields, rows), connection.cursor() as cursor:
        cursor.execute(statement)
        return list(cursor.fetchall())


def update_from(
    model: type[models.Model], key_fields: Sequence[str], set_fields: Sequence[str], rows: Iterable[Row]
) -> int:
    """Update rows found by `key_fields` from tuples (keys…, values…); return how many rows changed."""
    keys, values = _columns(model, key_fields), _columns(model, set_fields)
    table = sql.Identifier(model._meta.db_table)
    temporary = sql.Identifier(_TEMPORARY)
    pair = sql.SQL("{} = {}.{}")
    sets = [pair.format(sql.Identifier(name), temporary, sql.Identifier(name)) for name in values]
    same = [
        sql.SQL("{}.{} = {}.{}").format(table, sql.Identifier(name), temporary, sql.Identifier(name))
        for name in keys
    ]
    statement = sql.SQL("UPDATE {} SET {} FROM {} WHERE {}").format(
        table, sql.SQL(", ").join(sets), temporary, sql.SQL(" AND ").join(same)
    )
    with _temporary(model, [*key_fields, *set_fields], rows), connection.cursor() as cursor:
        cursor.execute(statement)
        return int(cursor.rowcount)


@contextmanager
def _temporary(model: type[models.Model], fields: Sequence[str], rows: Iterable[Row]) -> Iterator[None]:
    """Hold rows in a table of this transaction alone, in the order they came."""
    temporary = sql.Identifier(_TEMPORARY)
    with transaction.atomic(), connection.cursor() as cursor:
        # `place` keeps the caller's order: two transactions that sort alike cannot lock each other out.
        cursor.execute(
            sql.SQL(
                "CREATE TEMPORARY TABLE {} ON COMMIT DROP AS "
                "SELECT {}, 0::bigint AS place FROM {} WITH NO DATA"
            ).format(temporary, _list(_columns(model, fields)), sql.Identifier(model._meta.db_table))
        )
        _copy(temporary, model, fields, rows, numbered=True)
        yield
        cursor.execute(sql.SQL("DROP TABLE {}").format(temporary))


def _copy(
    table: sql.Identifier,
    model: type[models.Model],
    fields: Sequence[str],
    rows: Iterable[Row],
    *,
    numbered: bool = False,
) -> int:
    names, types = _columns(model, fields), [_type(model, name) for name in fields]
    if numbered:
        names, types = [*names, "place"], [*types, "int8"]
        rows = ((*row, place) for place, row in enumerate(rows))
    statement = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT BINARY)").format(table, _list(names))
    count = 0
    with connection.wrap_database_errors, _copying(statement) as copy:
        copy.set_types(types)
        for row in rows:
            copy.write_row(row)
            count += 1
    return count


@contextmanager
def _copying(statement: sql.Composed) -> Iterator[Copy]:
    with (
        connection.cursor() as wrapper,
        cast("Cursor[Any]", wrapper.cursor).copy(statement) as copy,
        connection.execute_wrapper(_refuse_query),
    ):
        yield copy


def _refuse_query(*_: Any) -> Any:
    """Fail at once: a query on the connection that streams a COPY would wait for it for ever."""
    raise RuntimeError("rows given to a bulk write must not use the database while they are streamed")


def _columns(model: type[models.Model], fields: Sequence[str]) -> list[str]:
    """Return column names; a foreign key may be named with or without `_id`."""
    return [str(_field(model, name).column) for name in fields]


def _field(model: type[models.Model], name: str) -> models.Field[Any, Any]:
    return cast("models.Field[Any, Any]", model._meta.get_field(name))


def _type(model: type[models.Model], name: str) -> str:
    """Return the column's type as psycopg's registry names it, without length or precision."""
    field = _field(model, name)
    declared = str(field.cast_db_type(connection))
    array = "[]" if declared.endswith("[]") else ""
    return declared.removesuffix("[]").partition("(")[0].strip() + array


def _list(columns: Sequence[str]) -> sql.Composed:
    return sql.SQL(", ").join(map(sql.Identifier, columns))
