"""Venues: one minute of one exchange, asked through ccxt; of all roles, only the one of prices needs it.

The worker is an oracle node for each venue: what the venue said is signed by that node's key before it is stored, so
that every oracle can compute the minute from what was signed, and has to believe nobody.
"""

from __future__ import annotations

import secrets
import time
from functools import cache

import structlog
from celery import shared_task

from btcfi.adapters.oracle_network.node_keys import node_of, read_node_key
from btcfi.adapters.store.prices.network import Submission as StoredSubmission
from btcfi.adapters.store.prices.network import add_submissions
from btcfi.adapters.store.prices.observations import store_observation
from btcfi.adapters.venues.rest import Backoff, venue_client
from btcfi.errors import NotFoundError
from btcfi.oracle.quote import Feed, Observation, VenueId, parse_venue
from btcfi.oracle.submission import Submission, sign_submission
from btcfi.oracle.time_sync import Milliseconds
from btcfi.surfaces.grpc.messages import write_submission
from btcfi.units import slot as checked_slot
from settings.deployment import Deployment
from tasks.context import Context, context

log = structlog.get_logger("btcfi.venues")


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
    return keep(here, Feed(feed), observation, raw)


def keep(here: Context, feed: Feed, observation: Observation, raw: bytes) -> bool:
    """Store what a venue said, and its node's signature of that, once; return whether it is new."""
    signed = _signed(here.deployment, feed, observation)
    with here.store.transaction() as session:
        new = store_observation(session, feed, observation, raw, now=here.now())
        if new and signed is not None:
            add_submissions(session, feed, [signed])
    return new


def _signed(deployment: Deployment, feed: Feed, observation: Observation) -> StoredSubmission | None:
    secret = _node_secret(deployment, observation.venue)
    if secret is None:
        return None
    said = Submission(
        feed=feed, node_id=node_of(observation.venue), observation=observation,
        sent_at_ms=Milliseconds(int(time.time() * 1000)), time_proof=None,
    )  # fmt: skip
    signed = sign_submission(said, secret, aux=secrets.token_bytes(32))
    return StoredSubmission(
        slot=said.slot, node_id=said.node_id, message=write_submission(signed).SerializeToString(),
        received_at=observation.observed_at,
    )  # fmt: skip


@cache
def _node_secret(deployment: Deployment, venue: VenueId) -> bytes | None:
    try:
        return read_node_key(deployment.nodes_dir, venue)
    except NotFoundError as e:
        # prices go on; the oracles will say that they lack these minutes
        log.warning("not_signed", venue=str(venue), reason=str(e))
        return None
