"""Venues: one minute of one exchange, asked through ccxt; of all roles, only the one of prices needs it."""

from __future__ import annotations

import socket
from typing import Final

from celery import shared_task

from btcfi.adapters.store.prices.observations import is_wanted, store_observation
from btcfi.adapters.store.prices.waits import note_wait, waits_until
from btcfi.adapters.venues.rest import Backoff, VenueClient, venue_client
from btcfi.oracle.quote import Feed, VenueId, check_ended, parse_venue
from btcfi.units import Slot
from btcfi.units import slot as checked_slot
from settings.deployment import Deployment
from tasks.context import Context, context

HOST: Final = socket.gethostname()
"""Exchanges count requests by address: what one worker is told holds for all of its machine."""


@shared_task(name="oracle.fetch", ignore_result=False)
def fetch(feed: str, slot: int, venue: str) -> bool:
    """Ask one venue for one minute and store what it said, or why it said nothing; a failing venue is no error."""
    here, minute = context(), checked_slot(slot)
    check_ended(minute, here.now())
    return ask(here, Feed(feed), minute, parse_venue(venue))


def ask(here: Context, feed: Feed, slot: Slot, venue: VenueId) -> bool:
    """Ask ``venue`` unless its word is there, and store its answer; return whether that is its word now."""
    with here.store.reading() as session:
        if not is_wanted(session, feed, slot, venue):
            return False
        told = waits_until(session, venue.exchange, HOST)
    client = _client(here.deployment, venue)
    client.wait_until(told)
    observation, raw = client.fetch(slot, here.now())
    with here.store.transaction() as session:
        note_wait(session, venue.exchange, HOST, client.waits_until, now=here.now())
        return store_observation(session, feed, observation, raw, now=here.now())


def _client(deployment: Deployment, venue: VenueId) -> VenueClient:
    backoff = Backoff(attempts=deployment.fetch_attempts, first_seconds=deployment.fetch_backoff_seconds)
    return venue_client(
        venue, base_url=deployment.venue_base_url, timeout=deployment.venue_timeout_seconds,
        rate_limit=deployment.venue_rate_limit, backoff=backoff,
    )  # fmt: skip
