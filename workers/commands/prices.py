"""``btcfi prices`` over the deployment's store, by the consensus numbers of its preset."""

from __future__ import annotations

from btcfi.surfaces.oracle_cli import PricesContext, prices_app
from settings.preset import every_rule, load_preset
from workers.deployed import consensus_rule, open_store

app = prices_app(
    PricesContext(
        open_store=open_store,
        rule=consensus_rule,
        rule_of=lambda name: load_preset(name).consensus,
        rules=every_rule,
    )
)
