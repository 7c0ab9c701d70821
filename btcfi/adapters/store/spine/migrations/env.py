"""Alembic's entry: the connection is handed over by ``Store.migrate``; there is no ini file."""

from __future__ import annotations

from alembic import context

from btcfi.adapters.store.spine.schema import load_tables

context.configure(
    connection=context.config.attributes["connection"], target_metadata=load_tables(), render_as_batch=True
)
with context.begin_transaction():
    context.run_migrations()
