"""Venues: one minute of one exchange, asked through ccxt; of all roles, only the one of prices needs it."""

from __future__ import annotations

from celery import shared_task

from btcfi.adapters.store.prices.observations import store_observation
from btcfi.adapters.venues.rest import Backoff, venue_client
from btcfi.oracle.quote import Feed, parse_venue
from btcfi.units import slot as checked_slot
from tasks.context import context


@shared_task(name="oracle.fetch", ignore_result=False)
def fetch(feed: str, slot: int, venue: str) -> bool:
    """Ask one venue for one minute and store what it said, or why it said nothing; a failing venue is no error."""
    here = context()
    deployment = here.deployment
    backoff = Backoff(attempts=deployment.fetch_attempts, first_seconds=deployment.fetch_backoff_seconds)
    client = venue_client(
        parse_venue(venue), base_url=deployment.venue_base_url, timeout=deployment.venue_timeout_seconds,
        rate_limit=deployment.venue_rate_limit, backoff=backoff,
    )  # fmt: skip
    observation, raw = client.fetch(checked_slot(slot), here.now())
    with here.store.transaction() as session:
        return store_observation(session, Feed(feed), observation, raw, now=here.now())
