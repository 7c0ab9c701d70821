"""Alembic's entry: the connection is handed over by ``Store.migrate``; there is no ini file."""

from __future__ import annotations

from alembic import context
from sqlmodel import SQLModel

from btcfi.adapters.store import (  # noqa: F401 - registers the tables
    anchor_tables,
    api_tables,
    console_tables,
    contract_tables,
    fleet_tables,
    hold_tables,
    oracle_tables,
    tables,
)

context.configure(
    connection=context.config.attributes["connection"], target_metadata=SQLModel.metadata, render_as_batch=True
)
with context.begin_transaction():
    context.run_migrations()
