"""The whole flow on one screen: every canvas there is. Tasks do not know their successor; they write to the outbox.

exchange (offer, accept, sign between the parties) -> check_contract -> exchange (funded)
tick -> price_round: [fetch x venue] => aggregate -> expire_due -> attest
                                                                -> settle -> (prove_long: [part x n] => close) -> send
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from celery import chord, current_app, group
from celery.canvas import Signature
from kombu.exceptions import OperationalError

from btcfi.adapters.store.spine import outbox
from btcfi.adapters.store.spine.database import Store
from btcfi.units import UnixSeconds

PARTS_PER_TASK: Final = 4
"""Subtrees that one task hashes; a chord has at most 16 of them for the longest run that is allowed."""


def _task(name: str, *arguments: object) -> Signature:
    return current_app.signature(name, args=arguments, immutable=False)


def price_round(feed: str, slot: int) -> Signature:
    """Fetch every venue of the minute side by side, then agree."""
    asked = (*current_app.conf.deployment.venues, *current_app.conf.deployment.legs)
    return chord(
        group(_task("oracle.fetch", feed, slot, venue) for venue in asked), _task("oracle.aggregate", feed, slot)
    )


def prove_long(settlement_id: str, parts: int) -> Signature:
    """Hash a long trace's subtrees side by side, then join them."""
    header = group(
        _task("settlement.prove_part", settlement_id, first, min(PARTS_PER_TASK, parts - first))
        for first in range(0, parts, PARTS_PER_TASK)
    )
    return chord(header, _task("settlement.close_proof", settlement_id))


FLOWS: Final[dict[str, Callable[..., Signature]]] = {
    "price_round": price_round,
    "prove_long": prove_long,
    "expire_due": lambda feed: _task("options.expire_due", feed),
    "settle": lambda ids: _task("settlement.execute_batch", ids),
    "send": lambda: _task("chain.settle"),
    "exchange": lambda: _task("contracts.exchange"),
    "check_contract": lambda option_id: _task("contracts.check", option_id),
    "attest": lambda event_id: _task("oracle.attest", event_id),
    "answer_request": lambda option_id: _task("options.answer_request", option_id),
}
"""What an outbox row can name."""


def publish_pending(store: Store, now: UnixSeconds) -> int:
    """Publish what the outbox holds and mark it; return how many. The broker being away loses nothing: it waits."""
    with store.reading() as session:
        messages = outbox.unpublished(session)
    published = []
    try:
        for message in messages:
            start(message)
            published.append(message.id)
    except (OperationalError, OSError):
        pass  # the relay tries again; what was sent is marked below
    if published:
        with store.transaction() as session:
            outbox.mark_published(session, published, now=now)
    return len(published)


def start(message: outbox.Message) -> Any:  # noqa: ANN401 - a result handle nobody waits for
    """Send one flow to the broker, under the outbox row's id."""
    return FLOWS[message.flow](*message.arguments).apply_async(task_id=message.id)
