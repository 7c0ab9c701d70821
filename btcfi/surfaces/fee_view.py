"""The fee market and what of ours waits for it, put together once for console, REST and command line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from btcfi.adapters.chain.pool import MOST_READ, FeeMarket
from btcfi.adapters.store.chain import views as chain_views
from btcfi.adapters.store.options import views
from btcfi.adapters.store.options.views import Payments
from btcfi.adapters.store.spine.database import Store
from btcfi.bitcoin.fees import FeeRule
from btcfi.errors import BtcfiError
from btcfi.units import Height


@dataclass(frozen=True, slots=True, kw_only=True)
class FeeView:
    """What is shown: the store's part always, the node's where it answers."""

    tip: Height
    """The newest block that was walked; 0 before the first."""
    market: FeeMarket | None
    problem: str
    """Why the pool, or what the next blocks hold of it, is not shown; empty when all is."""
    payments: Payments


def fee_view(store: Store, pool: Callable[[], FeeMarket] | None, rule: FeeRule) -> FeeView:
    """Return the view. pool: asks the node; what it raises is said in the view. Raises StoreUnreachableError."""
    market, problem = None, "no node is set: NODE_URL"
    if pool is not None:
        try:
            market = pool()
            problem = "" if market.read else f"more than {MOST_READ:,} wait: they are not read one by one"
        except BtcfiError as e:
            problem = str(e)
    with store.reading() as session:
        newest = chain_views.tip(session)
        tip = Height(newest.height if newest is not None else 0)
        payments = views.payments(session, tip=tip, rule=rule)
    return FeeView(tip=tip, market=market, problem=problem, payments=payments)
