"""One store behind a URL: SQLite (WAL, short IMMEDIATE transactions) embedded, PostgreSQL for a fleet."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import Engine, create_engine, event, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, OperationalError
from sqlalchemy.exc import DatabaseError as BrokenDatabaseError
from sqlalchemy.exc import SQLAlchemyError as DatabaseError
from sqlmodel import Session

from btcfi.adapters.files import open_private
from btcfi.errors import ConflictError, InvalidInputError, UnreachableError

if TYPE_CHECKING:
    from alembic.config import Config

__all__ = [
    "MIGRATIONS",
    "DatabaseError",
    "NewerStoreError",
    "Session",
    "Store",
    "StoreUnreachableError",
    "known_revisions",
]

MIGRATIONS = Path(__file__).parent / "migrations"


class StoreUnreachableError(UnreachableError):
    """The database does not answer."""

    def __init__(self, where: str, problem: str) -> None:
        file = where.startswith("sqlite")
        hint = "check BTCFI_DATA_DIR and DATABASE_URL" if file else "check DATABASE_URL and that the server runs"
        super().__init__("database", where, problem, hint)


class NewerStoreError(ConflictError):
    """A store, or a backup of one, is at a migration that this code does not have."""

    def __init__(self, where: str, *, at: str, newest: str) -> None:
        super().__init__(f"{where} is at migration {at}, this code ends at {newest}; use code that is as new")
        self.where, self.at, self.newest = where, at, newest


class Store:
    """A database by URL. Cheap to construct; connects at the first transaction. Not shared across a fork."""

    def __init__(self, url: str, *, busy_timeout_ms: int = 10_000) -> None:
        """``url``: ``sqlite:///path`` or ``postgresql+psycopg://...``. Raises InvalidInputError for another scheme."""
        self.url = url
        self.engine = _engine(url, busy_timeout_ms)
        self._reader = self.engine.execution_options(btcfi_reading=True)

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
        except BrokenDatabaseError as e:
            if type(e) not in {OperationalError, BrokenDatabaseError}:
                raise  # of its other kinds each is a statement that is wrong: ours, or refused
            raise StoreUnreachableError(self.where, str(e.orig).splitlines()[0]) from e

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


@cache
def known_revisions() -> tuple[str, ...]:
    """Return every migration that this code has, newest first."""
    from alembic.script import ScriptDirectory  # noqa: PLC0415 - ten megabytes that only a migration needs

    return tuple(one.revision for one in ScriptDirectory(str(MIGRATIONS)).walk_revisions())


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
