"""One store behind a URL: SQLite (WAL, short IMMEDIATE transactions) embedded, PostgreSQL for a fleet."""

from __future__ import annotations

import re
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import Engine, create_engine, event, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError
from sqlalchemy.exc import DatabaseError as BrokenDatabaseError
from sqlalchemy.exc import SQLAlchemyError as DatabaseError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlmodel import Session

from btcfi.adapters.files import open_private
from btcfi.adapters.store.spine.errors import (
    NewerStoreError,
    StoreBusyError,
    StoreDamagedError,
    StoreFullError,
    StoreReadOnlyError,
    StoreUnreachableError,
)
from btcfi.errors import InvalidInputError
from btcfi.units import UnixSeconds

if TYPE_CHECKING:
    from alembic.config import Config

__all__ = [
    "DATABASE_ERRORS",
    "MIGRATIONS",
    "DatabaseError",
    "NewerStoreError",
    "Session",
    "Store",
    "StoreUnreachableError",
    "known_revisions",
]

DATABASE_ERRORS: Final = (DBAPIError,)
"""What a database answers besides what is named here: of two that wrote at once, one; it says nothing of the work."""

MIGRATIONS = Path(__file__).parent / "migrations"


CLOCK_SECONDS: Final = 10.0
"""How long the database's clock is taken to go as this machine's monotonic one: an oscillator drifts 1 ms in that."""

_CLOCKS: Final = {
    "sqlite": "SELECT (julianday('now') - 2440587.5) * 86400.0",
    "postgresql": "SELECT EXTRACT(EPOCH FROM clock_timestamp())::float8",
}
"""Unix seconds by the database. SQLite is a file of this host and reads the kernel's clock, not the process's."""

_SQLITE_KINDS: Final[dict[int, type[StoreUnreachableError]]] = {
    sqlite3.SQLITE_BUSY: StoreBusyError,
    sqlite3.SQLITE_LOCKED: StoreBusyError,
    sqlite3.SQLITE_PERM: StoreReadOnlyError,
    sqlite3.SQLITE_READONLY: StoreReadOnlyError,
    sqlite3.SQLITE_FULL: StoreFullError,
    sqlite3.SQLITE_CORRUPT: StoreDamagedError,
    sqlite3.SQLITE_NOTADB: StoreDamagedError,
}
"""By primary result code. Source: sqlite.org/rescode.html."""

_SQLITE_NO_ROOM: Final = frozenset({sqlite3.SQLITE_IOERR_SHMSIZE, sqlite3.SQLITE_IOERR_SHMMAP})
"""What opening a database says on a full disk: its shared memory is a file beside it."""

_POSTGRES_KINDS: Final[dict[str, type[StoreUnreachableError]]] = {
    "25006": StoreReadOnlyError,  # read_only_sql_transaction
    "42501": StoreReadOnlyError,  # insufficient_privilege
    "53100": StoreFullError,  # disk_full
    "40P01": StoreBusyError,  # deadlock_detected
    "55P03": StoreBusyError,  # lock_not_available
    "57014": StoreBusyError,  # query_canceled, by a timeout
    "XX001": StoreDamagedError,  # data_corrupted
    "XX002": StoreDamagedError,  # index_corrupted
}
"""By SQLSTATE. Source: PostgreSQL, appendix A."""


class Store:
    """A database by URL. Cheap to construct; connects at the first transaction. Not shared across a fork."""

    def __init__(self, url: str, *, busy_timeout_ms: int = 10_000) -> None:
        """``url``: ``sqlite:///path`` or ``postgresql+psycopg://...``. Raises InvalidInputError for another scheme."""
        self.url = url
        self.engine = _engine(url, busy_timeout_ms)
        # PostgreSQL's own default gives each statement what is committed by then
        snapshot = {"isolation_level": "REPEATABLE READ"} if self.engine.dialect.name == "postgresql" else {}
        self._reader = self.engine.execution_options(btcfi_reading=True, **snapshot)
        self._ahead: tuple[float, float] | None = None

    @property
    def where(self) -> str:
        """Return the URL without its password, to show."""
        return make_url(self.url).render_as_string(hide_password=True)

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """Give a session whose work is committed as one, or not at all. Raises StoreUnreachableError."""
        with self._translated(), Session(self.engine, expire_on_commit=False) as session, session.begin():
            yield session

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """Give a session that sees one snapshot and takes no write lock. Raises StoreUnreachableError."""
        with self._translated(), Session(self._reader, expire_on_commit=False) as session:
            yield session

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (BrokenDatabaseError, PoolTimeoutError, sqlite3.DatabaseError) as e:
            kind, problem = _kind_of(e)
            if kind is None:
                raise  # a statement that is wrong: ours, or refused
            raise kind(self.where, problem) from e

    def clock(self) -> float:
        """Return the database's clock, in unix seconds: the one clock of a deployment, whatever each host's shows.

        Asked at most every CLOCK_SECONDS. Raises StoreUnreachableError.
        """
        if self._ahead is None or time.monotonic() - self._ahead[0] > CLOCK_SECONDS:
            began = time.monotonic()
            with self.reading() as session:
                said = clock_of(session)
            ended = time.monotonic()
            self._ahead = ended, said - (began + ended) / 2
        return time.monotonic() + self._ahead[1]

    def now(self) -> UnixSeconds:
        """Return the whole seconds of the database's clock. Raises StoreUnreachableError."""
        return UnixSeconds(int(self.clock()))

    def migrate(self, revision: str = "head") -> str:
        """Bring the schema up to ``revision`` (default: the newest); return where it is then.

        A schema that is beyond it stays. Raises StoreUnreachableError, NewerStoreError, and InvalidInputError for a
        revision that there is not.
        """
        from alembic import command  # noqa: PLC0415 - ten megabytes that only a migration needs
        from alembic.runtime.migration import MigrationContext  # noqa: PLC0415 - as above

        known = known_revisions()
        if revision not in {"head", *known}:
            raise InvalidInputError("revision", f"there is no {revision!r}", f"head, or {known[-1]} to {known[0]}")
        with self._translated(), self.engine.begin() as connection:
            there = MigrationContext.configure(connection)
            at = there.get_current_revision()
            if at is not None and at not in known:
                raise NewerStoreError(self.where, at=at, newest=known[0])
            command.upgrade(self._alembic(connection), revision)
            return str(there.get_current_revision())

    def downgrade(self, revision: str) -> None:
        """Take the schema back to ``revision`` (``base``: empty). Raises StoreUnreachableError."""
        from alembic import command  # noqa: PLC0415 - as above

        with self._translated(), self.engine.begin() as connection:
            command.downgrade(self._alembic(connection), revision)

    @staticmethod
    def _alembic(connection: object) -> Config:
        from alembic.config import Config  # noqa: PLC0415 - as above

        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS))
        config.attributes["connection"] = connection
        return config

    def ping(self) -> None:
        """Ask the database one trivial question. Raises StoreUnreachableError."""
        with self.reading() as session:
            session.execute(text("SELECT 1"))

    def close(self) -> None:
        """Drop the pooled connections."""
        self.engine.dispose()


def _made_private(file: Path) -> None:
    """Make a database's file that is not there yet, for its owner alone: SQLite would ask the umask, for its log too.

    One that is there is a person's, and may be a link of theirs. Raises UntrustedFileError for a link to nothing.
    """
    if file.exists():
        return
    with suppress(FileExistsError, FileNotFoundError, NotADirectoryError, PermissionError):  # the driver says which
        open_private(file, fresh=not file.is_symlink()).close()


def clock_of(session: Session) -> float:
    """Return the database's clock at this statement, in unix seconds."""
    return float(session.execute(text(_CLOCKS[session.get_bind().dialect.name])).scalar_one())


def _kind_of(e: Exception) -> tuple[type[StoreUnreachableError] | None, str]:
    """Return what is the matter with the database, None where it is the statement, and the first line of why."""
    if isinstance(e, PoolTimeoutError):
        return StoreBusyError, "every connection of this process is in use"
    cause = e.orig if isinstance(e, DBAPIError) else e
    problem = next(iter(str(cause).splitlines()), "") or type(cause).__name__
    code = getattr(cause, "sqlite_errorcode", None)
    # the primary code is the low byte of an extended one
    if code in _SQLITE_NO_ROOM:
        return StoreFullError, problem
    known = _POSTGRES_KINDS.get(str(getattr(cause, "sqlstate", ""))) if code is None else _SQLITE_KINDS.get(code & 0xFF)
    if known is not None:
        return known, problem
    broken = type(e) in {OperationalError, BrokenDatabaseError, sqlite3.OperationalError, sqlite3.DatabaseError}
    return (StoreUnreachableError if broken else None), problem


_REVISION: Final = re.compile(r'^revision = "(\w+)"$.*?^down_revision = (?:None|"(\w+)")$', re.DOTALL | re.MULTILINE)
"""The two lines of a migration that make the chain; a test compares what is found by them with alembic's own walk."""


@cache
def known_revisions() -> tuple[str, ...]:
    """Return every migration that this code has, newest first. Read as text: alembic is ten megabytes."""
    files = (MIGRATIONS / "versions").glob("[0-9]*.py")
    found = (match for file in files if (match := _REVISION.search(file.read_text(encoding="utf-8"))))
    after = {match[2]: match[1] for match in found}
    chain: list[str] = []
    at = after.get(None)
    while at is not None:
        chain.append(at)
        at = after.get(at)
    return tuple(reversed(chain))


def _engine(url: str, busy_timeout_ms: int) -> Engine:
    try:
        backend = make_url(url).get_backend_name()
    except ArgumentError as e:
        raise InvalidInputError("DATABASE_URL", "not a database URL", "sqlite:///file or postgresql+psycopg://…") from e
    if backend == "postgresql":
        engine = create_engine(url, pool_pre_ping=True, pool_size=8, connect_args={"connect_timeout": 5})
        event.listen(engine, "connect", _sync_commits)
        return engine
    if backend != "sqlite":
        raise InvalidInputError("DATABASE_URL", f"{backend} is not supported", "sqlite or postgresql+psycopg")
    engine = create_engine(url, connect_args={"timeout": busy_timeout_ms / 1000})
    file = make_url(url).database

    @event.listens_for(engine, "do_connect")
    def _private(*_: object) -> None:
        if file is not None and file not in {"", ":memory:"} and not file.startswith("file:"):
            _made_private(Path(file))

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: object) -> None:  # noqa: ANN401 - the driver's own class
        connection.isolation_level = None  # the begin event below says BEGIN, not the driver
        connection.execute("PRAGMA journal_mode=WAL")
        # a commit is on the disk before it is acknowledged: NORMAL syncs at checkpoints alone, and a power cut takes
        # back what a caller, a party or the chain was told since the last one (docs/reliability.md)
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA foreign_keys=ON")

    @event.listens_for(engine, "begin")
    def _begin(connection: Any) -> None:  # noqa: ANN401 - as above
        # IMMEDIATE takes the write lock at once, so two writers queue instead of failing at their first write
        reading = connection.get_execution_options().get("btcfi_reading", False)
        connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")

    return engine


def _sync_commits(connection: Any, _record: object) -> None:  # noqa: ANN401 - the driver's own class
    """Have commits wait for the server's disk where a server says that they need not; a stronger word stays."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'"
        )
    connection.commit()
