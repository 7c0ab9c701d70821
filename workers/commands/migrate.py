"""``btcfi migrate``: the store's tables, brought to the newest form."""

from __future__ import annotations

from typing import Annotated

import typer

from btcfi.adapters.files import make_private
from settings.deployment import load_deployment
from workers.deployed import open_store


def migrate(*, revision: Annotated[str, typer.Option(help="Alembic revision; default: the newest")] = "head") -> None:
    """Bring the store's tables to the newest form; what is in them stays."""
    make_private(load_deployment().data_dir, named=True)
    store = open_store(migrated=False)
    at = store.migrate(revision)
    typer.echo(f"{store.where} is at {at}", err=True)
    store.close()
