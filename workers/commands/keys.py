"""``btcfi keys`` over the deployment's store."""

from __future__ import annotations

from btcfi.surfaces.rest.key_cli import make_app
from workers.deployed import open_store

app = make_app(open_store)
