"""Transfers of positions: the three are asked in their turns, their words put together, and each is told what came.

What an owner says is a letter to us alone. What we hand on is halves, pre-signatures and public nonces; a witness of a
coin and a part of the key path go to nobody. Source: docs/decisions/0068, 0074.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import structlog

from btcfi.adapters.chain.node import ChainInfo, Node
from btcfi.adapters.store.chain.tables import TransactionState
from btcfi.adapters.store.chain.walk import walked_to
from btcfi.adapters.store.market import transfer_rounds as store
from btcfi.adapters.store.market import transfers
from btcfi.adapters.store.market.transfer_chain import TRANSFERS_ON_CHAIN
from btcfi.adapters.store.market.transfer_rounds import Loaded, account_in
from btcfi.adapters.store.market.transfer_tables import TransferRow, TransferState
from btcfi.bitcoin.transaction import Transaction
from btcfi.contracts.reopen import Reopened
from btcfi.contracts.splice import Owner
from btcfi.contracts.watch import FINAL_DEPTH
from btcfi.errors import BtcfiError, RetryableError
from btcfi.market import transfer_letters as messages
from btcfi.market.letter import SignedLetter
from btcfi.market.transfer_letters import Ask
from btcfi.market.transferring import Failure, Round, Transfer, refused, silent, undone
from btcfi.units import Hash32, UnixSeconds, hash32
from settings.market_preset import load_market_preset
from tasks.carriers import Carriers
from tasks.context import Context, node, shared_points

SAYS: Final = {messages.kind_of(one): one for one in Round}
"""Rounds by the kinds of letters that say their words."""

KINDS: Final = frozenset({*SAYS, *messages.ASKS, messages.DONE, messages.OVER})
"""Kinds of letters about transfers: what owners say, and what they refuse of ours."""

REGTEST: Final = "regtest"
"""Where blocks come when somebody makes them: a number of them is no time."""

TOLD_SECONDS: Final = 3_600
"""After a transfer came to nothing in which the three are told, should we have died before."""

FINISH_SECONDS: Final = 60
"""After a deal's end in which what all have signed is sent: then its owners take their coins home."""

MOST_KNOWN: Final = 32
"""New contracts that a process keeps as it has computed them."""

log = structlog.get_logger("btcfi.market")

_known: Final[dict[str, Reopened]] = {}
_looked: Final[dict[int, ChainInfo]] = {}
"""By process: the block at which it looked last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Word:
    """What an account says about a transfer."""

    name: str
    """Of its letter, without the kind."""
    kind: str
    sender: str
    said: SignedLetter
    refused: bool
    """Whether it refuses what we have sent under this kind; else its own word."""

    @property
    def option_id(self) -> str:
        """Of which option: the old one."""
        return option_of(self.name)


def option_of(name: str) -> str:
    """Return the option in the name of a letter."""
    return name.partition(messages.MARK)[0]


def moment(here: Context, chain: str) -> transfers.Moment:
    """Return when it is now, for what the store is asked. chain: which one, as a node calls it."""
    preset = load_market_preset(here.deployment.market_preset).offers
    with here.store.reading() as session:
        market = here.market_now(session)
    last_blocks = 0 if chain == REGTEST else preset.last_blocks
    return transfers.Moment(now=here.now(), market=market, last_blocks=last_blocks)


# ---- what is said


def take_word(here: Context, carriers: Carriers, word: Word) -> str:
    """Take one word, and return why it is nobody's, where it is. Raises RetryableError.

    A word that is none ends its transfer by its owner's fault; what nobody has asked for changes nothing.
    """
    with here.store.reading() as session:
        row = store.find(session, word.option_id, word.name.partition(messages.MARK)[2])
        owner = None if row is None else store.owner_in(row, word.sender)
        if row is None or owner is None:
            return "speaks of a transfer that is none of its"
        if word.refused and not store.was_asked(session, word.sender, f"{word.name}.{word.kind}"):
            return "answers a letter that we have not written to it"
        if row.state != TransferState.TAKEN:
            return ""
        loaded = store.load(session, row)
    said = (messages.ASKS if word.refused else SAYS).get(word.kind)
    owed = loaded.transfer.owed()
    if said is None or owed is None or owed[0] is not said or owner not in owed[1]:
        return ""  # nobody waits for it: the first word counts, and none comes too early
    transfer = _agreed(here, loaded)
    if transfer is not None and word.refused:
        _refused(here, loaded, transfer, owner, said, word)
    elif transfer is not None:
        _said(here, loaded, transfer, owner, said, word)
    with _apart(row):
        _go_on(here, carriers, row.id)
    return ""


def _said(  # noqa: PLR0917 - one word, and what it is of
    here: Context, loaded: Loaded, transfer: Transfer, owner: Owner, said: Round, word: Word
) -> None:
    try:
        heard = _hear(loaded, transfer, owner, said, word)
    except BtcfiError as e:
        log.warning("a word of a transfer is none", transfer=loaded.row.id, owner=owner.value, reason=str(e))
        _end(here, loaded.row, Failure(blamed=owner, problem=f"the {owner.value}'s {said.value}: {e}"))
        return
    with here.work() as session:
        store.keep_word(session, loaded.row.id, owner, said, heard.said[said, owner], now=here.now())


def _hear(loaded: Loaded, transfer: Transfer, owner: Owner, said: Round, word: Word) -> Transfer:
    spoken = messages.decode_word(said, word.said.letter.body)
    messages.check_named(word.name, spoken.take_id)
    messages.check_named(word.name, loaded.take_id)
    return transfer.hear(owner, said, spoken.word)


def _refused(  # noqa: PLR0917 - one refusal, and what it is of
    here: Context, loaded: Loaded, transfer: Transfer, owner: Owner, said: Round, word: Word
) -> None:
    """End a transfer that one of the three goes on with no more: by whose fault, what we have ourselves says."""
    client = node(os.getpid())
    seen = {}
    if transfer.reopened is not None:
        points = store.coins_of(transfer.reopened.splice.transaction)
        found = client.unspent_many(list(points), include_pool=True)
        seen = {point: one for point, one in zip(points, found, strict=True) if one is not None}
    at = moment(here, client.chain_info().chain)
    with here.store.reading() as session:
        over = store.over_by(session, loaded.row, at)
        asked = store.asked_at(session, loaded, said).get(owner, at.now)
    reason = str(word.said.letter.body.get("reason", "it gives no reason"))
    _end(here, loaded.row, refused(transfer, owner, reason, asked=asked, seen=seen, over=over))


# ---- what is owed


def ask_all(here: Context, carriers: Carriers) -> None:
    """Ask in every transfer under way whoever owes a word and was not asked."""
    with here.store.reading() as session:
        rows = store.owing(session)
    for row in rows:
        with _apart(row):
            _go_on(here, carriers, row.id)


def _go_on(here: Context, carriers: Carriers, transfer_id: str) -> None:
    """Ask for the words that are owed now; once all are said, send the transaction."""
    with here.store.reading() as session:
        row = transfers.transfer_of(session, None, transfer_id)
        if row is None or row.state != TransferState.TAKEN:
            return
        loaded = store.load(session, row)
    transfer = _agreed(here, loaded)
    if transfer is None:
        return
    if transfer.reopened is not None and row.txid is None:
        with here.store.transaction() as session:
            store.note_agreed(session, row.id, transfer.reopened, now=here.now())
    owed = transfer.owed()
    if owed is None:
        _finish(here, row, transfer)
        return
    said, owners = owed
    name = messages.letter_name(row.option_id, loaded.take_id, messages.ask_of(said))
    for owner in sorted(owners, key=lambda one: one.value):
        box = carriers.to(account_in(row, owner))
        if not box.holds(name):
            box.put(name, messages.encode_ask(_ask(loaded, transfer, owner, said)))


def _ask(loaded: Loaded, transfer: Transfer, owner: Owner, said: Round) -> Ask:
    """Return what an owner is asked, with no more of the others' words than its own needs."""
    statement = None if transfer.reopened is None else messages.encode_statement(transfer.statement())
    presigned: object = None
    nonces: tuple[bytes, ...] = ()
    if said is Round.READY and owner is not Owner.HOLDER:
        other = Owner.NEWCOMER if owner is Owner.SELLER else Owner.SELLER
        presigned = transfer.said[Round.PRESIGNED, other]
    if said in (Round.SELLER, Round.HOLDER):
        nonces = transfer.nonces()
    return Ask(
        said=said, part=loaded.part, statement=statement,
        presignatures=presigned if isinstance(presigned, bytes) else None, nonces=nonces,
    )  # fmt: skip


def _finish(here: Context, row: TransferRow, transfer: Transfer) -> None:
    """Put the parts together, store the transaction with the newcomer's option, and have it sent.

    At once or never: what was signed long ago, or could be overtaken by now, would be a choice of ours.
    """
    made, at = transfer.finish(), moment(here, node(os.getpid()).chain_info().chain)
    with here.store.reading() as session:
        market, over = here.market_now(session), store.over_by(session, row, at)
    if over or at.now >= row.until_unix + FINISH_SECONDS:
        _end(here, row, Failure(blamed=None, problem=over or "we have not sent it in its time"))
        return
    with here.work() as session:
        store.sign(session, transfer, made, now=here.now(), market=market, network=here.deployment.network)


def _agreed(here: Context, loaded: Loaded) -> Transfer | None:
    """Return the transfer with what all halves mean; None of halves that mean nothing, which is nobody's fault."""
    name = loaded.row.id
    try:
        known = _known.get(name)
        owed = loaded.transfer.owed()
        if known is not None and not (owed is not None and owed[0] is Round.HALF):
            return loaded.transfer.agree(lambda said: known if said == known.statement else loaded.reopened(said))
        found = loaded.agreed(shared_points(loaded.transfer.held.terms.announcements))
    except RetryableError:
        raise
    except BtcfiError as e:
        _end(here, loaded.row, Failure(blamed=None, problem=f"the three halves together: {e}"))
        return None
    if found.reopened is not None:
        while len(_known) >= MOST_KNOWN:
            _known.pop(next(iter(_known)))
        _known[name] = found.reopened
    return found


# ---- by the clock and the chain


def tick(here: Context) -> None:
    """End what is late or overtaken, take in what a block has, ask again, and tell the three what came of it."""
    now = here.now()
    with here.work() as session:
        transfers.lapse_words(session, now=now)
    with here.store.reading() as session:
        owing, sent = store.owing(session), store.sent(session)
        over = store.lately_over(session, since=UnixSeconds(now - TOLD_SECONDS))
        lost, unknown = store.overtaken(session), store.mined_unknown(session)
    _look_at_coins(here)
    if not (owing or sent or over or lost or unknown):
        return
    carriers = Carriers(here)
    _ = carriers.desk  # before anything is ended that nobody would be told of
    for row in owing:
        with _apart(row):
            _late(here, row)
            _go_on(here, carriers, row.id)
    for row in lost:
        with _apart(row):
            _undone(here, row, None)
    for row in unknown:
        with _apart(row):
            _adopt(here, row)
    for row, made in sent:
        with _apart(row):
            _tell(carriers, row, messages.DONE, messages.encode_done(_take_id(row), made))
    for row in over:
        with _apart(row):
            _tell(carriers, row, messages.OVER, messages.encode_over(_take_id(row), row.problem or ""))


def _late(here: Context, row: TransferRow) -> None:
    """End a transfer whose next word has not come in time, or that a settlement could overtake by now."""
    seconds = load_market_preset(here.deployment.market_preset).offers.answer_seconds
    at = moment(here, node(os.getpid()).chain_info().chain)
    with here.store.reading() as session:
        loaded = store.load(session, row)
        owed = loaded.transfer.owed()
        over = store.over_by(session, row, at)
        asked = {} if owed is None else store.asked_at(session, loaded, owed[0])
        if owed is not None:
            asked = {one: when for one, when in asked.items() if not store.has_answered(session, loaded, one, owed[0])}
    if over:
        _end(here, row, Failure(blamed=None, problem=over))
    elif (failure := silent(loaded.transfer, asked, now=at.now, seconds=seconds)) is not None:
        _end(here, row, failure)


def _look_at_coins(here: Context) -> None:
    """Note whose coins a block has spent otherwise of what is sent; once six blocks lie on that, it is over.

    Only a new block can have; and only what is walked says that no block has the transfer.
    """
    client = node(os.getpid())
    try:
        tip = client.chain_info()
    except BtcfiError as e:
        log.warning("no transfer is looked up", reason=str(e))
        return
    if tip == _looked.get(os.getpid()):
        return
    with here.store.reading() as session:
        walked = walked_to(session)
        if walked is None or walked.hash != tip.best_hash.hex():
            return
        waiting = store.unmined(session, turn=tip.height)
    for row, made in waiting:
        with _apart(row):
            _look_at(here, client, tip, row, made)
    _looked[os.getpid()] = tip


def _look_at(here: Context, client: Node, tip: ChainInfo, row: TransferRow, made: Transaction) -> None:
    points = store.coins_of(made)
    collateral, *coins = client.unspent_many(list(points), include_pool=False)
    gone = [point for point, one in zip(points[1:], coins, strict=True) if one is None]
    if collateral is None or client.chain_info() != tip:
        return  # the walk says what became of it, or the chain moved meanwhile
    at, block = row.gone_height, row.gone_block
    if at is not None and (not gone or at > tip.height or client.block_hash(at).hex() != block):  # type: ignore[arg-type]
        at, block = None, None
    if gone and at is None:
        at, block = tip.height, tip.best_hash.hex()
    with here.store.transaction() as session:
        store.note_gone(session, row.id, height=at, block=block, now=here.now())
    if at is not None and tip.height - at + 1 >= FINAL_DEPTH:
        _undone(here, row, gone)


def _undone(here: Context, row: TransferRow, gone: list[Any] | None) -> None:
    """End a signed transfer that the chain has overtaken. gone: its coins that are; None: the old contract's is."""
    with here.store.reading() as session:
        loaded = store.load(session, row)
    transfer = loaded.agreed(shared_points(loaded.transfer.held.terms.announcements))
    with here.work() as session:
        store.fail(session, row.id, undone(transfer, gone or []), now=here.now(), dead=True)


def _adopt(here: Context, row: TransferRow) -> None:
    """Take in a transfer that a block holds, where this store was restored from before it was signed."""
    with here.store.reading() as session:
        loaded, market = store.load(session, row), here.market_now(session)
    transfer = loaded.agreed(shared_points(loaded.transfer.held.terms.announcements))
    with here.work() as session:
        found = store.adopt_mined(
            session, transfer, now=here.now(), market=market, network=here.deployment.network
        )  # fmt: skip
        if found is not None and found.state == TransactionState.FINAL:
            TRANSFERS_ON_CHAIN.final(session, [found], here.now())


def _end(here: Context, row: TransferRow, failure: Failure) -> None:
    with here.work() as session:
        store.fail(session, row.id, failure, now=here.now())


def _tell(carriers: Carriers, row: TransferRow, kind: str, message: dict[str, Any]) -> None:
    """Tell each of the three, once."""
    name = messages.letter_name(row.option_id, _take_id(row), kind)
    for owner in Owner:
        with _apart(row):
            box = carriers.to(account_in(row, owner))
            if not box.holds(name):
                box.put(name, message)


def _take_id(row: TransferRow) -> Hash32:
    return hash32(bytes.fromhex(row.id))


@contextmanager
def _apart(row: TransferRow) -> Iterator[None]:
    """Keep one transfer's trouble to itself: the others go on all the same, and the next tick tries again."""
    try:
        yield
    except Exception as e:  # noqa: BLE001 - whatever it is, it holds up no other transfer
        log.warning("a transfer waits", option=row.option_id, reason=f"{type(e).__name__}: {e}")
