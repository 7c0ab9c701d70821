"""Alembic's entry: the connection is handed over by ``Store.migrate``; there is no ini file."""

from __future__ import annotations

from alembic import context
from sqlmodel import SQLModel

from btcfi.adapters.store.access import (
    api_tables,  # noqa: F401 - registers the tables
    console_tables,  # noqa: F401 - registers the tables
)
from btcfi.adapters.store.options import (
    anchor_tables,  # noqa: F401 - registers the tables
    contract_tables,  # noqa: F401 - registers the tables
    hold_tables,  # noqa: F401 - registers the tables
)
from btcfi.adapters.store.prices import network_tables  # noqa: F401 - registers the tables
from btcfi.adapters.store.spine import (
    fleet_tables,  # noqa: F401 - registers the tables
    tables,  # noqa: F401 - registers the tables
)

context.configure(
    connection=context.config.attributes["connection"], target_metadata=SQLModel.metadata, render_as_batch=True
)
with context.begin_transaction():
    context.run_migrations()
