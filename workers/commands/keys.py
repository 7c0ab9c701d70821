"""``btcfi keys`` over the deployment's store; a module of its own because FastAPI's import is worth half a second."""

from __future__ import annotations

from btcfi.surfaces.rest.key_cli import make_app
from workers.deployed import open_store

app = make_app(open_store)
