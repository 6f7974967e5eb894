"""Pieces of SQL that both databases understand: lists and pairs of numbers as one parameter each."""

from collections.abc import Iterable
from typing import Any

from sqlalchemy import ColumnElement, Insert, and_, false, or_
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession


def numbers(session: AsyncSession, name: str) -> str:
    """The parameter `name`, a JSON list of integers, as a subquery."""
    if is_postgresql(session):
        return f"SELECT value::bigint FROM json_array_elements_text(CAST(:{name} AS json))"
    return f"SELECT value FROM json_each(:{name})"


def pairs(session: AsyncSession, name: str, first: str, second: str) -> str:
    """The parameter `name`, a JSON list of pairs of integers, as a subquery with these two columns."""
    if is_postgresql(session):
        return (
            f"SELECT (value->>0)::bigint AS {first}, (value->>1)::bigint AS {second}"
            f" FROM json_array_elements(CAST(:{name} AS json))"
        )
    return (
        f"SELECT json_extract(value, '$[0]') AS {first}, json_extract(value, '$[1]') AS {second}"
        f" FROM json_each(:{name})"
    )


def among(first: Any, second: Any, pairs: Iterable[tuple[Any, Any]]) -> ColumnElement[bool]:
    """Whether two columns are one of these pairs: of each `first` a list of `second`.

    A list of pairs PostgreSQL takes apart, and plans to look up each by itself: of eighty that takes milliseconds.
    """
    seconds: dict[Any, list[Any]] = {}
    for one, other in sorted(pairs):
        seconds.setdefault(one, []).append(other)
    return or_(false(), *(and_(first == one, second.in_(others)) for one, others in seconds.items()))


def joined(session: AsyncSession, table: str, name: str, on: str) -> str:
    """A JOIN of `table` as `name` to what stands before it, looked up row by row by its index.

    Left to itself PostgreSQL reads all of a town's table for each page of it, and as long as it has no statistics of a
    town that has just subscribed, all of the page for each of its people.
    """
    if is_postgresql(session):
        return f"CROSS JOIN LATERAL (SELECT * FROM {table} x WHERE x.{on} OFFSET 0) {name}"
    return f"JOIN {table} {name} ON {name}.{on}"


def for_each(session: AsyncSession, outer: str, columns: str, tables: str, where: str) -> str:
    """A query that looks up the rows of `tables` for each row of `outer`, in its order, whatever the planner guesses.

    `tables` are joined by CROSS JOIN, in the order in which they are looked up.
    """
    if is_postgresql(session):  # behind an OFFSET it plans each lookup by itself
        looked_up = f"SELECT {columns} FROM {tables} WHERE {where} OFFSET 0"
        return f"SELECT each_one.* FROM {outer} CROSS JOIN LATERAL ({looked_up}) each_one"
    return f"SELECT {columns} FROM {outer} CROSS JOIN {tables} WHERE {where}"


def insert(session: AsyncSession, table: Any) -> Any:
    """Rows into a table, by the database's own INSERT, which can say what to do with those that are there already."""
    return postgresql.insert(table) if is_postgresql(session) else sqlite.insert(table)


def insert_new(session: AsyncSession, table: Any) -> Insert:
    """Rows into a table; those that are there already stay as they are."""
    added: Insert = insert(session, table).on_conflict_do_nothing()
    return added


def is_postgresql(session: AsyncSession) -> bool:
    """Whether the session speaks to PostgreSQL; SQLite is the only other one."""
    return session.get_bind().dialect.name == "postgresql"
