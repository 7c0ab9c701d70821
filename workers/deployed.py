"""What this deployment is, for every command: its store, the rules of its prices and sales, its node and its clock."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from btcfi.adapters.chain.node import Node
from btcfi.adapters.store.spine.database import Store, known_revisions
from btcfi.adapters.store.spine.views import has_table
from btcfi.errors import InvalidInputError
from btcfi.oracle.consensus import ConsensusRule
from btcfi.oracle.quote import Feed
from btcfi.units import Slot
from settings.deployment import Deployment, load_deployment
from settings.preset import load_preset

if TYPE_CHECKING:
    from btcfi.adapters.store.options.sales import SaleRule
    from tasks.context import Context


class StoreNotReadyError(InvalidInputError):
    """The database answers but has not our tables, or not as this code wants them."""

    def __init__(self, where: str, *, at: str | None = None) -> None:
        newest = known_revisions()[0]
        problem = "has no tables of ours" if at is None else f"is at migration {at}, this code at {newest}"
        super().__init__("DATABASE_URL", f"{where} {problem}", "a store that `btcfi migrate` of this code has prepared")
        self.where, self.at = where, at


def open_store(*, migrated: bool = True) -> Store:
    """Return the deployment's store. Raises StoreUnreachableError, and StoreNotReadyError unless it is ``migrated``."""
    store = Store(load_deployment().database_url)
    if migrated:
        with store.reading() as session:
            if not has_table(session, "option"):
                raise StoreNotReadyError(store.where)
    return store


def consensus_rule() -> ConsensusRule:
    """Return the consensus numbers of the deployment's preset."""
    return load_preset(load_deployment().preset).consensus


def sale_rule(deployment: Deployment) -> SaleRule:
    """Return what the deployment's preset and guest program say about every sale. Raises what its settings deserve."""
    from btcfi.adapters.store.options.sales import SaleRule  # noqa: PLC0415 - numba: only a sale computes a premium
    from btcfi.contracts.sellable import unsellable  # noqa: PLC0415 - as above
    from btcfi.vm.program import load_program  # noqa: PLC0415 - numpy, for a sale alone

    preset, program = load_preset(deployment.preset), load_program(deployment.program)
    last = None if deployment.replay_until is None else Slot(deployment.replay_until)
    return SaleRule(
        feed=Feed(deployment.feed), preset=preset.name, preset_sha256=preset.sha256, rate_bps=preset.rate_bps,
        fallback_volatility_bps=preset.fallback_volatility_bps, program=deployment.program,
        program_sha256=program.program_hash.hex(), max_backlog=deployment.max_backlog, fixing=preset.fixing,
        quote_seconds=deployment.quote_seconds,
        refusal=partial(unsellable, program=program, rule=preset.payouts, last=last),
    )  # fmt: skip


def node_of(deployment: Deployment, *, timeout_seconds: float | None = None) -> Node:
    """Return a connection of our own to the deployment's node, patient for ``timeout_seconds`` or as it is set."""
    seconds = deployment.node_timeout_seconds if timeout_seconds is None else timeout_seconds
    return Node(deployment.node_url or "", seconds, cookie_file=deployment.node_cookie_file)


def ticker(here: Context) -> Callable[[int], None]:
    """Return what sends beat's tick of a minute."""
    from workers.app import create_app  # noqa: PLC0415 - Celery: most commands send nothing

    app = create_app(here.deployment)
    return lambda slot: app.send_task("oracle.tick", kwargs={"slot": slot}, queue="control")
