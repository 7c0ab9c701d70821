"""Venues: one minute of one exchange, asked through ccxt; of all roles, only the one of prices needs it.

The worker is an oracle node for each venue: its last word is signed by that node's key as it is stored, so that every
oracle can compute the minute from what was signed, and has to believe nobody.
"""

from __future__ import annotations

import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Final

import structlog
from celery import shared_task

from btcfi.adapters.oracle_network.node_keys import node_of, read_node_key
from btcfi.adapters.store.prices.network import Submission as StoredSubmission
from btcfi.adapters.store.prices.network import add_submissions
from btcfi.adapters.store.prices.observations import is_wanted, store_observation
from btcfi.adapters.store.prices.waits import note_wait, waits_until
from btcfi.adapters.venues.rest import Backoff, VenueClient, venue_client
from btcfi.errors import NotFoundError
from btcfi.oracle.quote import AWAITED, Feed, Missing, Observation, VenueId, check_ended, parse_venue
from btcfi.oracle.submission import Submission, sign_submission
from btcfi.oracle.time_sync import Milliseconds
from btcfi.surfaces.grpc.messages import write_submission
from btcfi.units import Slot
from btcfi.units import slot as checked_slot
from settings.deployment import Deployment
from tasks.context import Context, context

HOST: Final = socket.gethostname()
"""Exchanges count requests by address: what one worker is told holds for all of its machine."""

MOST_AT_ONCE: Final = 3
"""Threads of a worker (of eight) that one venue can hold, and only until it has held one for the time that it has to
answer in."""

log = structlog.get_logger("btcfi.venues")

_lock = threading.Lock()
_asking: dict[VenueId, dict[object, float]] = {}
"""By venue: the requests under way, with when they began."""


@shared_task(name="oracle.fetch", ignore_result=False)
def fetch(feed: str, slot: int, venue: str) -> bool:
    """Ask one venue for one minute and store what it said, or why it said nothing; a failing venue is no error."""
    here, minute = context(), checked_slot(slot)
    check_ended(minute, here.now())
    return ask(here, Feed(feed), minute, parse_venue(venue))


def ask(here: Context, feed: Feed, slot: Slot, venue: VenueId) -> bool:
    """Ask ``venue`` unless its word is there, and store its answer; return whether that is its word now.

    One that keeps a thread waiting, or MOST_AT_ONCE of them, gets no further one: its next minutes are asked for again
    by ``repair_rounds``, and the others' do not wait behind it.
    """
    with here.store.reading() as session:
        if not is_wanted(session, feed, slot, venue):
            return False
        told = waits_until(session, venue.exchange, HOST, now=here.now())
    with _asking_of(venue, here.deployment.venue_timeout_seconds) as is_free:
        if not is_free:
            log.warning("venue_keeps_waiting", venue=str(venue), slot=slot)
            return False
        client = _client(here.deployment, venue)
        client.wait_until(told, here.now())
        observation, raw = client.fetch(slot, here.now())
    signed = _signed(here.deployment, feed, observation)
    with here.store.transaction() as session:
        note_wait(session, venue.exchange, HOST, client.waits_until, now=here.now())
        kept = store_observation(session, feed, observation, raw, now=here.now())
        add_submissions(session, feed, [signed] if kept and signed is not None else [])
    return kept


@contextmanager
def _asking_of(venue: VenueId, longest: float) -> Iterator[bool]:
    """Say whether ``venue`` may have one more of this process's threads, and count it while it has."""
    mine = object()
    with _lock:
        since = _asking.setdefault(venue, {})
        is_free = len(since) < MOST_AT_ONCE and all(monotonic() - started <= longest for started in since.values())
        if is_free:
            since[mine] = monotonic()
    try:
        yield is_free
    finally:
        with _lock:
            since.pop(mine, None)


def _client(deployment: Deployment, venue: VenueId) -> VenueClient:
    backoff = Backoff(attempts=deployment.fetch_attempts, first_seconds=deployment.fetch_backoff_seconds)
    return venue_client(
        venue, base_url=deployment.venue_base_url, timeout=deployment.venue_timeout_seconds,
        rate_limit=deployment.venue_rate_limit, backoff=backoff,
    )  # fmt: skip


def _signed(deployment: Deployment, feed: Feed, observation: Observation) -> StoredSubmission | None:
    """Return a venue's last word, signed by its node; None of one that may change, which would contradict itself."""
    if isinstance(observation, Missing) and observation.reason in AWAITED:
        return None
    try:
        secret = read_node_key(deployment.nodes_dir, observation.venue)
    except NotFoundError as e:
        # prices go on; the oracles will say that they lack these minutes
        log.warning("not_signed", venue=str(observation.venue), reason=str(e))
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
