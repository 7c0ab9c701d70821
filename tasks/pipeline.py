"""The whole flow of an option on one screen: every canvas there is.

Tasks do not know their successor; they write to the outbox.

exchange (offer, accept, sign between the parties) -> check_contract -> exchange (funded)
tick -> price_round: [fetch x venue] => aggregate -> expire_due -> attest
                                                                -> settle -> (prove_long: [part x n] => close) -> send
tick of swaps -> settle_swaps: [settle_books x n] => close_week
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import Any, Final

import structlog
from celery import chord, current_app, group
from celery.canvas import Signature
from kombu.exceptions import OperationalError

from btcfi.adapters.store.spine import outbox
from btcfi.adapters.store.spine.database import Store
from btcfi.documents import printable
from btcfi.errors import BtcfiError, InvalidInputError
from btcfi.units import UnixSeconds

PARTS_PER_TASK: Final = 4
"""Subtrees that one task hashes; a chord has at most 16 of them for the longest run that is allowed."""

BOOKS_PER_TASK: Final = 8
"""Books of swaps that one task settles, each in a transaction of its own."""


def _task(name: str, *arguments: object) -> Signature:
    """Return a task whose result nobody waits for: a sender that has not imported it must not listen for one."""
    return current_app.signature(name, args=arguments, immutable=False, options={"ignore_result": True})


def _part(name: str, *arguments: object) -> Signature:
    """Return a task of a chord's header, whose result is counted."""
    return current_app.signature(name, args=arguments, immutable=False, options={"ignore_result": False})


def price_round(feed: str, slot: int) -> Signature:
    """Fetch every venue of the minute side by side, then agree."""
    asked = (*current_app.conf.deployment.venues, *current_app.conf.deployment.legs)
    return chord(
        group(_part("oracle.fetch", feed, slot, venue) for venue in asked), _task("oracle.aggregate", feed, slot)
    )


def prove_long(settlement_id: str, parts: int) -> Signature:
    """Hash a long trace's subtrees side by side, then join them."""
    header = group(
        _part("settlement.prove_part", settlement_id, first, min(PARTS_PER_TASK, parts - first))
        for first in range(0, parts, PARTS_PER_TASK)
    )
    return chord(header, _task("settlement.close_proof", settlement_id))


def expire_due(feed: str) -> Signature:
    """Expire what is due at the newest price."""
    return _task("options.expire_due", feed)


def settle(ids: list[str]) -> Signature:
    """Run a batch of settlements in the machine."""
    return _task("settlement.execute_batch", ids)


def send() -> Signature:
    """Build and send what is proven and attested."""
    return _task("chain.settle")


def exchange() -> Signature:
    """Look into the parties' folders."""
    return _task("contracts.exchange")


def check_contract(option_id: str) -> Signature:
    """Check what both parties have signed."""
    return _task("contracts.check", option_id)


def check_accept(option_id: str) -> Signature:
    """Check an answer that its seller refuses to sign."""
    return _task("contracts.check_accept", option_id)


def attest(event_id: str) -> Signature:
    """Have the oracles attest an event."""
    return _task("oracle.attest", event_id)


def settle_swaps(week: str, books: list[str]) -> Signature:
    """Settle a week's books side by side, then close it."""
    parts = [books[first : first + BOOKS_PER_TASK] for first in range(0, len(books), BOOKS_PER_TASK)]
    if not parts:
        return _task("swaps.close_week", [], week)
    return chord(group(_part("swaps.settle_books", week, some) for some in parts), _task("swaps.close_week", week))


def answer_request(option_id: str) -> Signature:
    """Answer an operator's request."""
    return _task("options.answer_request", option_id)


log = structlog.get_logger("btcfi.pipeline")


class UnknownFlowError(BtcfiError):
    """An outbox row names a flow that no system of this deployment has."""

    def __init__(self, flow: str) -> None:
        super().__init__(f"no system here has a flow {printable(flow, 60)!r}")
        self.flow = flow


@cache
def resolve(name: str) -> Callable[..., Any]:
    """Return the function that ``module:FUNCTION`` names, imported by the process that needs it."""
    module, _, function = name.partition(":")
    found: Callable[..., Any] = getattr(import_module(module), function)
    return found


def flows() -> dict[str, str]:
    """Return what an outbox row can name, as the table of systems has it (``workers/systems.py``).

    None in a process that has made no application: it has nobody to publish to.
    """
    found: dict[str, str] = current_app.conf.get("flows", {})
    return found


def publish_pending(store: Store, now: UnixSeconds) -> int:
    """Publish what the outbox holds and mark it; return how many. The broker being away loses nothing: it waits.

    A row that cannot be started, such as newer code's with other arguments, is set aside: it holds nothing else up.
    """
    with store.reading() as session:
        messages = outbox.unpublished(session, flows(), now=now)
    published, aside = [], {}
    try:
        for message in messages:
            if (problem := _not_started(message)) is None:
                published.append(message.id)
            else:
                aside[message.id] = problem
    except (OperationalError, OSError):
        pass  # the relay tries again; what was sent is marked below
    if published or aside:
        with store.transaction() as session:
            outbox.mark_published(session, published, now=now)
            outbox.set_aside(session, aside, now=now)
    return len(published)


def set_unknown_aside(store: Store, now: UnixSeconds) -> None:
    """Set aside what names a flow that no system here has: of one that was taken out, or that newer code brings."""
    with store.reading() as session:
        found = outbox.unknown(session, flows())
    if found:
        with store.transaction() as session:
            outbox.set_aside(session, {one.id: str(UnknownFlowError(one.flow)) for one in found}, now=now)


def _not_started(message: outbox.Message) -> str | None:
    """Return why a row could not be started, None for one that was. Raises what the broker's being away raises."""
    try:
        start(message)
    except (OperationalError, OSError):
        raise
    except Exception as e:  # noqa: BLE001 - whatever is wrong with this row is no reason to keep the others
        problem = printable(str(e) or type(e).__name__, outbox.MAX_PROBLEM)
        log.warning("outbox row not started", flow=message.flow, row=message.id, problem=problem)
        return problem
    return None


def start(message: outbox.Message) -> Any:  # noqa: ANN401 - a result handle nobody waits for
    """Send one flow to the broker, under the outbox row's id. Raises UnknownFlowError, InvalidInputError."""
    name = flows().get(message.flow)
    if name is None:
        raise UnknownFlowError(message.flow)
    if message.arguments is None:
        raise InvalidInputError(f"outbox row {message.id}", "its arguments are no JSON list", "a list of ids")
    return resolve(name)(*message.arguments).apply_async(task_id=message.id)
