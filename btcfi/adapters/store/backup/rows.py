"""Tables as lines of JSON: the same from SQLite and PostgreSQL, so that one is restored onto the other."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any, Final

from sqlalchemy import Connection, LargeBinary, MetaData, Table, func, insert, inspect, select, text, update
from sqlmodel import Session, col

from btcfi.adapters.store.backup.moved import NotEmptyError
from btcfi.adapters.store.spine.database import Store
from btcfi.adapters.store.spine.schema import load_tables
from btcfi.adapters.store.spine.tables import OutboxRow
from btcfi.errors import InvalidInputError
from btcfi.units import UnixSeconds

CHUNK_ROWS: Final = 500
CHUNK_BLOBS: Final = 16
"""Rows at a time, of tables that hold files: a contract's messages are megabytes."""

CHUNK_BYTES: Final = 1 << 23
"""Of lines at a time, on their way back."""

MAX_LINE_BYTES: Final = 1 << 28
"""Of a row; the largest that we store are of some megabytes."""

MOMENTARY: Final = frozenset({"lease", "canary", "console_session", "tick", "desk_sign_in", "desk_session"})
"""Tables about who runs now: a restored deployment starts without them."""


def snapshot(store: Store) -> Connection:
    """Return a connection that sees all tables as they are at one moment."""
    options: dict[str, Any] = {"btcfi_reading": True}
    if store.engine.dialect.name == "postgresql":
        options["isolation_level"] = "REPEATABLE READ"  # one snapshot for all tables; SQLite's reader has that anyway
    return store.engine.execution_options(**options).connect()


def wait_from(session: Session, now: UnixSeconds) -> None:
    """Have what waits for the broker wait since now, and not since the machine was lost: no alarm rings for that."""
    waiting = col(OutboxRow.published_at_unix).is_(None)
    session.execute(update(OutboxRow).where(waiting).values(created_at_unix=now))


def revision_of(connection: Connection) -> str:
    """Return the migration that the tables are at."""
    return str(connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one())


def tables_of(connection: Connection) -> list[Table]:
    """Return the tables that a backup has, each behind those that it refers to."""
    there = set(inspect(connection).get_table_names())
    return [one for one in load_tables().sorted_tables if one.name in there and one.name not in MOMENTARY]


def lines_of(connection: Connection, table: Table) -> Iterator[bytes]:
    """Yield each row of a table as a line."""
    query = select(table).order_by(*table.primary_key.columns)
    at_once = CHUNK_BLOBS if any(isinstance(one.type, LargeBinary) for one in table.columns) else CHUNK_ROWS
    for row in connection.execution_options(yield_per=at_once).execute(query).mappings():
        line = {name: _plain(value) for name, value in row.items()}
        yield json.dumps(line, separators=(",", ":")).encode() + b"\n"


def _plain(value: object) -> object:
    return {"hex": value.hex()} if isinstance(value, bytes | memoryview) else value


def refuse_used(store: Store) -> None:
    """Raise NotEmptyError for a database that has tables."""
    if set(inspect(store.engine).get_table_names()) - {"alembic_version"}:
        raise NotEmptyError(f"the database {store.where}")


def tables_then(connection: Connection) -> dict[str, Table]:
    """Return the tables as they are at the database's migration, which today's code may call otherwise."""
    then = MetaData()
    then.reflect(bind=connection)
    return {table.name: table for table in then.sorted_tables}


def load(connection: Connection, table: Table, pieces: Iterable[bytes]) -> int:
    """Insert a table's lines and return how many. Raises InvalidInputError for one that is no row of it."""
    many = 0
    for chunk in _chunks(split(pieces)):
        for row in chunk:
            if unknown := sorted(set(row) - set(table.columns.keys())):
                raise InvalidInputError(table.name, f"a row with {unknown[0]!r}", "the table's columns")
        connection.execute(insert(table), chunk)
        many += len(chunk)
    number = table.autoincrement_column
    if many and number is not None and connection.dialect.name == "postgresql":
        last = connection.execute(select(func.max(number))).scalar_one()
        sequence = func.pg_get_serial_sequence(f'"{table.name}"', number.name)
        connection.execute(select(func.setval(sequence, last)))
    return many


def split(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the lines of a text that comes in pieces. Raises InvalidInputError for one over MAX_LINE_BYTES."""
    rest: list[bytes] = []
    size = 0
    for piece in pieces:
        first, *more = piece.split(b"\n")
        rest.append(first)
        size += len(first)
        if size > MAX_LINE_BYTES:
            raise InvalidInputError("row", f"more than {MAX_LINE_BYTES:,} bytes", "a row as it was written")
        if more:
            yield b"".join(rest)
            yield from more[:-1]
            rest, size = [more[-1]], len(more[-1])
    if size:
        yield b"".join(rest)


def _chunks(lines: Iterable[bytes]) -> Iterator[list[dict[str, Any]]]:
    chunk: list[dict[str, Any]] = []
    size = 0
    for line in lines:
        chunk.append(_row(line))
        size += len(line)
        if len(chunk) == CHUNK_ROWS or size > CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _row(line: bytes) -> dict[str, Any]:
    try:
        return {name: _value(value) for name, value in json.loads(line).items()}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as e:
        raise InvalidInputError("row", f"{line[:40]!r}", "a row as it was written") from e


def _value(value: Any) -> Any:  # noqa: ANN401 - JSON
    return bytes.fromhex(value["hex"]) if isinstance(value, dict) else value
