"""Contracts that end together: gathered, asked about by letters, sent; and what comes to nothing goes by its CETs.

The rounds are a row of the store (``store/options/batches``), so that any process may take any answer; letters say what
each owner is asked, once.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import structlog

from btcfi.adapters.chain.pool import asking_rate
from btcfi.adapters.store.options import attesting, batches
from btcfi.adapters.store.options.batches import Open, Stuck
from btcfi.bitcoin.transaction import OutPoint
from btcfi.contracts import batching
from btcfi.contracts.batch import NotAskedError
from btcfi.contracts.batching import Batching, Stage
from btcfi.contracts.messages import encode_attestation
from btcfi.errors import BtcfiError, RetryableError
from btcfi.market import batch_letters as letters
from btcfi.market.batch_letters import Done
from btcfi.units import UnixSeconds
from tasks.carriers import Carriers
from tasks.context import Context, node

ANSWERS: Final = frozenset({letters.NONCES, letters.PARTIALS})
"""Kinds of letters that owners write about a batch."""

KINDS: Final = ANSWERS | letters.OF_THE_DESK
"""Those, and what they may refuse."""

MAX_REASON: Final = 300
"""Characters of a refusal's reason that are kept."""

TARGET_BLOCKS: Final = 2
"""In which a batch should be mined, as a settlement."""

log = structlog.get_logger("btcfi.batches")


@dataclass(frozen=True, slots=True, kw_only=True)
class Word:
    """What an account says about a batch."""

    account: str
    name: str
    """Of its letter, without the kind."""
    kind: str
    body: dict[str, Any] = field(repr=False)
    refused: bool
    """Whether it says why it refuses what we have sent under this kind."""


def take_word(here: Context, carriers: Carriers, word: Word) -> str:
    """Take one letter about a batch; return why it is nobody's word, nothing where it is taken.

    Raises RetryableError.
    """
    try:
        batch, number = letters.parse_name(word.name)
        with here.store.reading() as session:
            if not batches.is_owner(session, batch, word.account):
                return "speaks of a batch that is none of its"
        step = _step(word, number, now=here.now())
        with here.work() as session:
            batches.move(session, batch, step, now=here.now())
        _write(here, carriers, batch)
    except RetryableError:
        raise
    except BtcfiError as e:  # too late, twice, unreadable: its round has its deadline
        return str(e)
    return ""


def _step(word: Word, number: int, *, now: UnixSeconds) -> Callable[[Batching], Batching]:
    """Return what a word does to a batch. Raises InvalidInputError for one that cannot be read, NotAskedError."""
    account, body, name = word.account, word.body, word.name
    if word.refused:
        reason = str(body.get("reason", "it gives no reason"))[:MAX_REASON]
        wanted = Stage.NONCES if word.kind == letters.PROPOSAL else Stage.PARTIALS

        def refuse(state: Batching) -> Batching:
            if state.stage is not wanted or word.kind not in letters.OF_THE_DESK:
                raise NotAskedError(number, "is refused too late, or twice")
            return batching.take_refusal(state, account, number, reason, now=now)

        return refuse
    if word.kind == letters.NONCES:
        parts = letters.decode_nonces(body, name).parts
        return lambda state: batching.take_nonces(state, account, number, parts, now=now)
    if word.kind == letters.PARTIALS:
        parts = letters.decode_partials(body, name).parts
        return lambda state: batching.take_partials(state, account, number, parts, now=now)
    raise NotAskedError(number, f"is none that {word.kind[:20]!a} is said of")


def tick(here: Context) -> None:
    """Gather what waits, let time pass, look after what is signed, and write what is to be asked."""
    with here.store.reading() as session:
        on_its_way = batches.is_anything(session)
        ripe = here.deployment.batches and batches.waits(session, now=here.now())
    if ripe:
        _gather(here)
    if not (on_its_way or ripe):
        return
    with here.work() as session:
        batches.advance_all(session, now=here.now())
    _look_after(here)
    carriers = Carriers(here)
    with here.store.reading() as session:
        names = [one.id for one in batches.asking(session)]
    for batch in names:
        with _apart(batch):
            _write(here, carriers, batch)
    _tell(here, carriers)


def _gather(here: Context) -> None:
    client = node(os.getpid())
    tip, rate = client.block_count(), asking_rate(client, TARGET_BLOCKS)
    with here.work() as session:
        begun = batches.gather(session, tip=tip, rate=rate, now=here.now())
    if begun:
        log.info("batches begun", many=len(begun), first=begun[0])


def _look_after(here: Context) -> None:
    """Give up what a block has overtaken, the node refuses, or waits for too long."""
    client = node(os.getpid())
    tip = client.block_count()
    with here.store.reading() as session:
        found = batches.stuck(session, tip=tip)
    for one in found:
        with _apart(one.id):
            _give_up(here, one)


def _give_up(here: Context, one: Stuck) -> None:
    if one.late:
        gone, why = set[OutPoint](), batches.WAITED
    else:
        there = node(os.getpid()).unspent_many(list(one.collaterals), include_pool=one.refused)
        gone = {point for point, found in zip(one.collaterals, there, strict=True) if found is None}
        why = "a collateral of it was spent otherwise" if gone else batches.REFUSED
    with here.work() as session:
        batches.give_up(session, one.id, gone, why, now=here.now())


# ---- what goes out


def _write(here: Context, carriers: Carriers, batch: str) -> None:
    """Write what the owners of a batch are asked now, unless it is written; with what the oracles have attested."""
    with here.store.reading() as session:
        found = batches.find_asking(session, batch)
    if found is None:
        _tell(here, carriers)
        return
    state = found.state
    if state.stage is Stage.NONCES:
        for owner, proposal in state.proposals().items():
            if owner in state.waits_for:
                with _apart(batch):
                    _attested(here, carriers, found, owner)
                    _put(carriers, owner, found, letters.PROPOSAL, letters.encode_proposal(batch, proposal))
    elif state.stage is Stage.PARTIALS:
        for owner in state.waits_for:
            with _apart(batch):
                asked = letters.encode_all(batch, state.number, state.nonces_for(owner))
                _put(carriers, owner, found, letters.ALL, asked)


def _put(carriers: Carriers, owner: str, batch: Open, kind: str, message: dict[str, Any]) -> None:
    name, box = letters.letter_name(batch.id, batch.state.number, kind), carriers.to(owner)
    if not box.holds(name):
        box.put(name, message)


def _attested(here: Context, carriers: Carriers, batch: Open, owner: str) -> None:
    """Tell an owner what was attested of its contracts: it signs nothing of a price that it does not know."""
    box = carriers.to(owner)
    with here.store.reading() as session:
        said = [(event, one) for event in batch.events.get(owner, ()) for one in
                attesting.attestations_of(session, event)]  # fmt: skip
    for event, one in said:
        name = attesting.letter_name(event, one.oracle_key)
        if not box.holds(name):
            box.put(name, encode_attestation(one))


def _tell(here: Context, carriers: Carriers) -> None:
    """Tell the owners of signed batches what all have signed, once: who is told sends it, too."""
    with here.store.reading() as session:
        found = batches.untold(session)
    for batch, number, owners, transaction in found:
        done = letters.encode_done(Done(batch=batch, number=number, transaction=transaction))
        name = letters.letter_name(batch, number, letters.DONE)
        for owner in owners:
            with _apart(batch):
                box = carriers.to(owner)
                if not box.holds(name):
                    box.put(name, done)


@contextmanager
def _apart(batch: str) -> Iterator[None]:
    """Keep one batch's trouble to itself; the next tick tries again."""
    try:
        yield
    except Exception as e:  # noqa: BLE001 - whatever it is, it holds up no other batch
        log.warning("a batch waits", batch=batch, reason=f"{type(e).__name__}: {e}")
