"""Premiums by the clock, where compiled code is loaded anyway: beside the settlements."""

from __future__ import annotations

from celery import shared_task

from btcfi.adapters.store.options.premiums import price_open_options, store_premiums
from tasks.context import context


@shared_task(name="pricing.refresh")
def refresh() -> None:
    """Price every open option at the newest agreed price.

    By today's rate and volatility, whatever it was sold by: what it is worth now, which settles nothing.
    """
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
