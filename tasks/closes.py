"""Closes at a price that both sides name: their words are taken, put together, and what became of them is told."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import structlog

from btcfi.adapters.chain.pool import asking_rate
from btcfi.adapters.store.market import carrying, letters
from btcfi.adapters.store.market import closes as store
from btcfi.adapters.store.market.closes import Moment
from btcfi.adapters.store.market.tables import CloseRow
from btcfi.contracts.messages import Role
from btcfi.errors import BtcfiError, RetryableError
from btcfi.market import closing as messages
from btcfi.market.closing import CloseDone, CloseOffer, CloseOver
from btcfi.market.letter import SignedLetter
from btcfi.units import Hash32, UnixSeconds, hash32
from settings.market_preset import load_market_preset
from tasks.carriers import Carriers
from tasks.context import Context, node

KINDS: Final = frozenset({messages.OFFER, messages.TAKE, messages.GO, messages.LAST, messages.DONE, messages.OVER})
"""Kinds of letters about closes: what sides say, and what they refuse of ours."""

TARGET_BLOCKS: Final = 6
"""In which a close is to be mined: half of what is left to it at the least."""

REGTEST: Final = "regtest"
"""Where blocks come when somebody makes them: a number of them is no time."""

log = structlog.get_logger("btcfi.market")


@dataclass(frozen=True, slots=True, kw_only=True)
class Word:
    """What a side says about a close."""

    name: str
    """Of its letters, without the kind."""
    kind: str
    role: Role
    said: SignedLetter
    refused: bool
    """Whether it refuses what we have sent under this kind."""

    @property
    def option_id(self) -> str:
        """Of which option."""
        return messages.option_of(self.name)


def take_word(here: Context, carriers: Carriers, word: Word) -> None:
    """Take one word; what cannot be taken ends its close, and both sides are told. Raises RetryableError."""
    try:
        if word.refused:
            _over(here, carriers, word, f"the {word.role} refused: {word.said.letter.body.get('reason', '')}")
        elif word.kind == messages.OFFER:
            _offered(here, carriers, word)
        elif word.kind == messages.TAKE:
            _answered(here, carriers, word)
        elif word.kind == messages.LAST:
            _finished(here, word)
    except RetryableError:
        raise
    except BtcfiError as e:
        log.warning("a close is refused", option=word.option_id, kind=word.kind, reason=str(e))
        _over(here, carriers, word, str(e))


def tick(here: Context) -> None:
    """Let closes lapse, and tell both sides of those that are sent and of those that came to nothing."""
    now = here.now()
    with here.store.reading() as session:
        lapsed, lost = store.lapsed_closes(session, now=now), store.overtaken_closes(session)
        sent = [(row, store.closed_of(session, row)) for row in store.sent_closes(session)]
    if not (lapsed or lost or sent):
        return
    carriers = Carriers(here)
    _ = carriers.desk  # before anything is ended that nobody would be told of
    for row in lapsed:
        with _apart(row):
            _end(here, carriers, row, "it has lapsed", now=now)
    for row in lost:
        with _apart(row):
            _end(here, carriers, row, "a block has spent the collateral otherwise", now=now, overtaken=True)
    for row, closed in sent:
        done = CloseDone(offer_id=hash32(bytes.fromhex(row.id)), transaction=closed)
        with _apart(row):
            _tell(here, carriers, row, messages.DONE, messages.encode_done(done))


@contextmanager
def _apart(row: CloseRow) -> Iterator[None]:
    """Keep one close's trouble to itself, a folder that cannot be written for one: the others are told all the same."""
    try:
        yield
    except Exception as e:  # noqa: BLE001 - whatever it is, it holds up no other close
        log.warning("a close waits", option=row.option_id, reason=f"{type(e).__name__}: {e}")


def _offered(here: Context, carriers: Carriers, word: Word) -> None:
    offer = messages.decode_offer(word.said.letter.body)
    _check_named(word, offer.id)
    at = _moment(here)
    with here.work() as session:
        store.offer_close(session, word.option_id, word.role, offer, at=at)
        owners = carrying.owners_of(session, word.option_id)
    carriers.of(owners)[word.role.other].put(f"{word.name}.{word.kind}", word.said.letter.body, said=word.said)


def _answered(here: Context, carriers: Carriers, word: Word) -> None:
    take = messages.decode_take(word.said.letter.body)
    _check_named(word, take.offer_id)
    at = _moment(here)
    with here.work() as session:
        row = store.answer_close(session, word.option_id, word.role, take, at=at)
        go, owners = store.go_of(row), carrying.owners_of(session, word.option_id)
    carriers.of(owners)[word.role.other].put(f"{word.name}.{messages.GO}", go)


def _finished(here: Context, word: Word) -> None:
    last = messages.decode_last(word.said.letter.body)
    _check_named(word, last.offer_id)
    at = _moment(here)
    with here.work() as session:
        store.finish_close(session, word.option_id, word.role, last, at=at)


def _check_named(word: Word, offer_id: Hash32) -> None:
    """Refuse a word about one close in a letter about another. Raises InvalidInputError."""
    messages.check_named(f"{word.name}.{word.kind}", offer_id)


def _moment(here: Context) -> Moment:
    """Return when it is now, asked of the node before the store is locked: a node that is slow holds up no other."""
    client = node(os.getpid())
    info = client.chain_info()
    preset = load_market_preset(here.deployment.market_preset).offers
    with here.store.reading() as session:
        market = here.market_now(session)
    return Moment(
        now=here.now(), market=market, tip=info.height,
        last_blocks=0 if info.chain == REGTEST else preset.last_blocks,
        least_rate=asking_rate(client, TARGET_BLOCKS),
    )  # fmt: skip


def _over(here: Context, carriers: Carriers, word: Word, problem: str) -> None:
    """End the close that a word is about, and tell both sides; of one that is not known, who said it."""
    with here.store.reading() as session:
        row = store.find_close(session, word.option_id, word.name.partition(messages.MARK)[2])
        owners = carrying.owners_of(session, word.option_id)
        account = None if owners is None else owners.of(word.role)
        unread = account is not None and letters.leaves_unread(session, account)
    if row is not None:
        _end(here, carriers, row, problem, now=here.now())
    elif not unread and (offer := _said_offer(word)) is not None:
        over = messages.encode_over(CloseOver(offer_id=offer.id, problem=problem))
        carriers.of(owners)[word.role].put(f"{word.name}.{messages.OVER}", over)


def _said_offer(word: Word) -> CloseOffer | None:
    try:
        return messages.decode_offer(word.said.letter.body) if word.kind == messages.OFFER else None
    except BtcfiError:
        return None


def _end(
    here: Context, carriers: Carriers, row: CloseRow, problem: str, *, now: UnixSeconds, overtaken: bool = False
) -> None:  # fmt: skip
    with here.store.transaction() as session:
        ended = store.refuse_close(session, row.id, problem, now=now, overtaken=overtaken)
    if ended:
        over = CloseOver(offer_id=hash32(bytes.fromhex(row.id)), problem=problem)
        _tell(here, carriers, row, messages.OVER, messages.encode_over(over))


def _tell(here: Context, carriers: Carriers, row: CloseRow, kind: str, message: dict[str, Any]) -> None:
    """Tell both sides, once."""
    with here.store.reading() as session:
        owners = carrying.owners_of(session, row.option_id)
    name = messages.letter_name(row.option_id, hash32(bytes.fromhex(row.id)), kind)
    for box in carriers.of(owners).values():
        with _apart(row):  # of two sides, too
            if not box.holds(name):
                box.put(name, message)
