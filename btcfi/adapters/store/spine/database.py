"""One store behind a URL: SQLite (WAL, short IMMEDIATE transactions) embedded, PostgreSQL for a fleet."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import Engine, create_engine, event, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, OperationalError
from sqlalchemy.exc import SQLAlchemyError as DatabaseError
from sqlmodel import Session

from btcfi.errors import InvalidInputError, UnreachableError

if TYPE_CHECKING:
    from alembic.config import Config

__all__ = ["MIGRATIONS", "DatabaseError", "Session", "Store", "StoreUnreachableError"]

MIGRATIONS = Path(__file__).parent / "migrations"


class StoreUnreachableError(UnreachableError):
    """The database does not answer."""

    def __init__(self, where: str, problem: str) -> None:
        super().__init__("database", where, problem, "check DATABASE_URL and that the server runs")


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
        except OperationalError as e:
            raise StoreUnreachableError(self.where, str(e.orig).splitlines()[0]) from e

    def migrate(self, revision: str = "head") -> None:
        """Bring the schema to ``revision`` (default: the newest). Raises StoreUnreachableError, InvalidInputError."""
        self._go("upgrade", revision)

    def downgrade(self, revision: str) -> None:
        """Take the schema back to ``revision`` (``base``: empty). Raises StoreUnreachableError, InvalidInputError."""
        self._go("downgrade", revision)

    def _go(self, way: str, revision: str) -> None:
        from alembic import command  # noqa: PLC0415 - ten megabytes that only a migration needs
        from alembic.util import CommandError  # noqa: PLC0415 - as above

        with self._translated(), self.engine.begin() as connection:
            try:
                getattr(command, way)(self._alembic(connection), revision)
            except CommandError as e:
                expected = "one that this code has; newer code wrote the store or the backup: install that again"
                raise InvalidInputError("revision of the tables", str(e), expected) from e

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


def _engine(url: str, busy_timeout_ms: int) -> Engine:
    try:
        backend = make_url(url).get_backend_name()
    except ArgumentError as e:
        raise InvalidInputError("DATABASE_URL", "not a database URL", "sqlite:///file or postgresql+psycopg://…") from e
    if backend == "postgresql":
        return create_engine(url, pool_pre_ping=True, pool_size=8, connect_args={"connect_timeout": 5})
    if backend != "sqlite":
        raise InvalidInputError("DATABASE_URL", f"{backend} is not supported", "sqlite or postgresql+psycopg")
    engine = create_engine(url, connect_args={"timeout": busy_timeout_ms / 1000})

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: object) -> None:  # noqa: ANN401 - the driver's own class
        connection.isolation_level = None  # the begin event below says BEGIN, not the driver
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute("PRAGMA foreign_keys=ON")

    @event.listens_for(engine, "begin")
    def _begin(connection: Any) -> None:  # noqa: ANN401 - as above
        # IMMEDIATE takes the write lock at once, so two writers queue instead of failing at their first write
        reading = connection.get_execution_options().get("btcfi_reading", False)
        connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")

    return engine
