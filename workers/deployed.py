"""What this deployment is, for every command: its store, the rule of its sales, its node and its clock."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import inspect

from btcfi.adapters.chain.node import Node
from btcfi.adapters.store.options.sales import SaleRule
from btcfi.adapters.store.spine.database import Store
from btcfi.errors import InvalidInputError
from btcfi.oracle.quote import Feed
from btcfi.vm.program import load_program
from settings.deployment import Deployment, load_deployment
from settings.preset import load_preset
from tasks.context import Context


class StoreNotReadyError(InvalidInputError):
    """The database answers but has not our tables."""

    def __init__(self, where: str) -> None:
        super().__init__("DATABASE_URL", f"{where} has no tables of ours", "a store that `btcfi migrate` has prepared")
        self.where = where


def open_store(*, migrated: bool = True) -> Store:
    """Return the deployment's store. Raises StoreUnreachableError, and StoreNotReadyError unless it is ``migrated``."""
    store = Store(load_deployment().database_url)
    if migrated:
        with store.reading() as session:
            if not inspect(session.connection()).has_table("option"):
                raise StoreNotReadyError(store.where)
    return store


def sale_rule(deployment: Deployment) -> SaleRule:
    """Return what the deployment's preset and guest program say about every sale. Raises what its settings deserve."""
    preset = load_preset(deployment.preset)
    return SaleRule(
        feed=Feed(deployment.feed), preset=preset.name, preset_sha256=preset.sha256, rate_bps=preset.rate_bps,
        fallback_volatility_bps=preset.fallback_volatility_bps, program=deployment.program,
        program_sha256=load_program(deployment.program).program_hash.hex(), max_backlog=deployment.max_backlog,
    )  # fmt: skip


def node_of(here: Context) -> Node:
    """Return a connection of our own to the deployment's node."""
    deployment = here.deployment
    return Node(deployment.node_url or "", deployment.node_timeout_seconds, cookie_file=deployment.node_cookie_file)


def ticker(here: Context) -> Callable[[int], None]:
    """Return what sends beat's tick of a minute."""
    from workers.app import create_app  # noqa: PLC0415 - as Cluster

    app = create_app(here.deployment)
    return lambda slot: app.send_task("oracle.tick", kwargs={"slot": slot}, queue="control")
