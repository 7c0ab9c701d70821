"""Options: premiums by the clock, expiry by the price, requests by operators."""

from __future__ import annotations

from celery import shared_task

from btcfi.adapters.store.options import options, settlements
from btcfi.adapters.store.options.premiums import price_open_options, store_premiums
from btcfi.oracle.quote import Feed
from tasks.context import context
from tasks.held import rule_of


@shared_task(name="pricing.refresh")
def refresh() -> None:
    """Price every open option at the newest agreed price."""
    here = context()
    with here.store.reading() as session:  # pricing ten thousand options must not keep others from writing
        now = here.market_now(session)
        priced = price_open_options(
            session, here.feed, now=now, rate_bps=here.preset.rate_bps,
            fallback_volatility_bps=here.preset.fallback_volatility_bps,
        )  # fmt: skip
    if priced is not None:
        with here.store.transaction() as session:
            store_premiums(session, priced, now=now)


@shared_task(name="options.expire_due")
def expire_due(feed: str) -> None:
    """Expire what is due at the newest price and fan its settlements out in batches."""
    here = context()
    with here.work() as session:
        options.expire_due(session, Feed(feed), rule_of, now=here.now(), batch_size=here.preset.batch_size)


@shared_task(name="options.answer_request")
def answer_request(option_id: str) -> None:
    """Answer an operator's request to settle an option."""
    here = context()
    with here.work() as session:
        settlements.answer_request(session, option_id, rule_of, now=here.now())


@shared_task(name="options.settle", ignore_result=False)
def settle(option_id: str, requested_by: str = "flower") -> str:
    """Ask for an ad hoc settlement: the same row as `btcfi settle` writes. This is what Flower's API applies."""
    here = context()
    with here.work() as session:
        return settlements.request_settlement(session, option_id, requested_by=requested_by, now=here.now()).state
