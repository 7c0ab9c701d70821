"""Contracts: proposed to their two sides, their messages carried; each side signs in its own process, by its mandate.

The service proposes and carries; it writes no order, no bid and no mandate. ``tasks/checks.py`` checks what is signed,
``tasks/carriers.py`` says how a message travels. Letters are taken in turn, by one question to the store; of files
every folder is looked into.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any, Final

import structlog
from celery import shared_task

from btcfi.adapters.oracle.asking import OraclesAwayError, announcements
from btcfi.adapters.party.mailbox import read_message, take_away
from btcfi.adapters.sealed_letters import SealedToAnotherError
from btcfi.adapters.store.market import carrying, failing, letters, takes
from btcfi.adapters.store.market.carrying import Waiting, turn_of
from btcfi.adapters.store.options import attesting, contracts
from btcfi.adapters.store.options import batches as store_batches
from btcfi.adapters.store.options.contract_tables import ContractRow, ContractState
from btcfi.adapters.store.options.options import condition_of_row, event_of
from btcfi.adapters.store.options.tables import OptionRow
from btcfi.adapters.store.spine.database import DATABASE_ERRORS, Session
from btcfi.adapters.store.spine.edges import Work, enqueue
from btcfi.bitcoin.wallet import Coin
from btcfi.contracts.messages import Role, check_sealed, decode_offer, encode_attestation
from btcfi.contracts.setup import check_offered
from btcfi.errors import BtcfiError, InvalidInputError, NotHeldError, RetryableError, UnreachableError
from btcfi.market import batch_letters, closing
from btcfi.market.account import WrongSignatureError
from btcfi.market.letter import SignedLetter
from btcfi.units import Height
from tasks import batches, closes, transfers
from tasks.carriers import Carrier, Carriers, Folder, market_json
from tasks.context import (
    Context,
    context,
    contract_rule,
    node,
    note_contract_error,
    note_unheld_contract,
    oracles,
)
from tasks.held import preset_of, rate_of

TAKE: Final = {
    "offer": contracts.take_offer,
    "accept": contracts.take_accept,
    "sign": contracts.take_sign,
    "funded": contracts.take_funded,
    "closed": contracts.take_closed,
}
"""What the service keeps of each kind of message."""

FROM: Final = {"offer": Role.SELLER, "accept": Role.BUYER, "sign": Role.SELLER, "funded": Role.BUYER}
"""Whose word each kind is: one party must not answer in the other's place."""

_NAMING: Final = ("offer", "accept", "sign")
"""Kinds of messages that name coins, or sign for them."""

log = structlog.get_logger("btcfi.contracts")

_published: Final[dict[int, tuple[str, str]]] = {}
"""By process: behind which event and oracle it tells parties of attestations in the next look."""

_withdrew: Final[dict[int, str]] = {}
"""By process: behind which option it tells of withdrawn sales in the next look."""

TAKE_SECONDS: Final = 10
"""After so long the rest of a party's outbox waits for the next look."""

ORDER_SECONDS: Final = 2
"""After so long options that wait for their oracles wait for the next look, which begins with others."""

_tried: Final[set[str]] = set()
"""Options that wait and were tried in this round of looks: the next one begins with the others."""

ACCOUNT_SECONDS: Final = 2
"""Of them for one account's letters: whose letters are slow to read waits for the next look, too."""

WITHDRAWN: Final = ("proposal", "offer", "accept", "sign")
"""Messages of a sale that are taken back with it, where they are not handled yet."""

CARRIED: Final = ("close-request", "close-answer")
"""Kinds that only go to the other side."""

REFUSED: Final = "refused"
WAITS: Final = "waiting"
"""Last words of letters that say what a party did with one of ours: ``OPTION.KIND.refused``."""

OF_CLOSE: Final = (*CARRIED, "close-proposal", "closed")
"""Kinds that may stand under an option's close, as files do; no other may: of one kind of a setup there is one name."""

MAX_REASON: Final = 1_000
"""Characters of why; a reason longer than that is cut."""


@shared_task(name="contracts.exchange")
def exchange() -> None:
    """Write down what is new, take the parties' answers, and put what comes next where each side finds it."""
    here = context()
    carriers = Carriers(here)
    _order(here)
    _take_folders(here, carriers)
    _take_letters(here, carriers)
    _withdraw(here, carriers)
    _deliver(here, carriers)
    _close(here, carriers)
    _publish(here, carriers)


def carry(here: Context) -> bool:
    """Do of an exchange what letters and takes wait for, if there is any; return whether a take is under way."""
    with here.store.reading() as session:
        waits, under_way = carrying.has_work(session), carrying.under_way(session)
    if waits:
        carriers = Carriers(here)
        _order(here)
        _take_letters(here, carriers)
        _withdraw(here, carriers)
        _deliver(here, carriers)
    return under_way


def _take_folders(here: Context, carriers: Carriers) -> None:
    for folder in carriers.folders():
        _take_all(here, folder, carriers)


def _take_all(here: Context, folder: Folder, carriers: Carriers) -> None:
    """Take what one party has answered, for TAKE_SECONDS: who floods its outbox waits there, and holds up no other."""
    until = monotonic() + TAKE_SECONDS
    for path, name, kind in folder.box.answers():
        if kind in batches.KINDS and folder.account is not None:
            _take_of_batch(here, path, name, kind, folder.account, carriers)
        else:
            _take_of_side(here, folder, path, name, kind, carriers)
        if monotonic() >= until:
            break


def _take_of_side(  # noqa: PLR0917 - called once, right above
    here: Context, folder: Folder, path: Path, name: str, kind: str, carriers: Carriers
) -> None:
    with here.store.reading() as session:
        owners = carrying.owners_of(session, name.removesuffix(contracts.CLOSE_SUFFIX))
    role = folder.role_in(owners)
    if role is not None and kind == batch_letters.YES and folder.account is not None:
        with here.store.transaction() as session:
            store_batches.consent(session, name, role, now=here.now())
        _remove(path)
    elif role is not None and FROM.get(kind, role) is role:
        _take(here, path, name, kind, carriers.of(owners)[role.other])
    else:
        log.warning("a party speaks for the other", party=folder.box.folder.name, option=name, kind=kind)
        _remove(path)


def _order(here: Context) -> None:
    with here.store.reading() as session:
        waiting = carrying.new_options(session)
    if not waiting:
        return
    try:
        tip = node(os.getpid()).block_count()
    except UnreachableError as e:
        log.warning("no contract is ordered", waiting=len(waiting), reason=str(e))
        return  # the parties' messages are carried meanwhile
    until, away = monotonic() + ORDER_SECONDS, dict[bytes, OraclesAwayError]()
    _tried.intersection_update(one.id for one in waiting)
    if len(_tried) == len(waiting):
        _tried.clear()
    for option in sorted(waiting, key=lambda one: one.id in _tried):
        _tried.add(option.id)
        with _apart(here, option.id, "not ordered yet"):
            event = event_of(option).id
            try:
                if event in away:  # asked a moment ago: letters wait meanwhile
                    raise away[event]
                _order_one(here, option, tip)
            except OraclesAwayError as e:
                away[event] = e
                with here.store.transaction() as session:
                    attesting.note_unannounced(session, option.id, e.problems)
                raise
        if monotonic() >= until:
            break


def _order_one(here: Context, option: OptionRow, tip: Height) -> None:
    try:
        preset = preset_of(option.preset_sha256, option.preset)
    except NotHeldError as e:
        note_unheld_contract(here, option.id, str(e))
        return
    event = event_of(option)
    with here.store.reading() as session:
        known = attesting.announcements_of(session, event)
    announced = known or announcements(oracles(here.deployment), event, wanted=preset.oracles)
    with here.store.transaction() as session:
        attesting.store_event(session, event, condition_of_row(option), announced, now=here.now())
        contracts.order_contract(session, option, announced, contract_rule(preset), tip=tip, now=here.now())


def _take(here: Context, path: Path, name: str, kind: str, other: Carrier) -> None:
    """Take one answer and its file away; what cannot be taken yet stays for the next look, and stops no other."""
    option_id = name.removesuffix(contracts.CLOSE_SUFFIX)
    with _apart(here, option_id, "not taken yet"):
        message = read_message(path)
        if message is not None and kind in CARRIED:
            other.put(f"{name}.{kind}", message)
        elif message is not None and kind in TAKE:
            _take_one(here, option_id, kind, message)
        _remove(path)


def _take_of_batch(  # noqa: PLR0917 - called once, right above
    here: Context, path: Path, name: str, kind: str, account: str, carriers: Carriers
) -> None:
    """Take an answer to a batch, of an account whose messages are files."""
    with _apart(here, name, "not taken yet"):
        message = read_message(path)
        if message is not None:
            word = batches.Word(account=account, name=name, kind=kind, body=message, refused=False)
            if problem := batches.take_word(here, carriers, word):
                log.warning("a word about a batch is not taken", party=account, name=name, reason=problem)
        _remove(path)


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):  # gone by now; or no file, and then not ours to take away
        take_away(path)


def _take_one(here: Context, option_id: str, kind: str, message: dict[str, Any]) -> None:
    try:
        with here.work() as session:
            TAKE[kind](session, option_id, message, now=here.now())
    except RetryableError:
        raise
    except BtcfiError as e:
        note_contract_error(here, option_id, str(e))


# ---- letters


@dataclass(frozen=True, slots=True, kw_only=True)
class _Word:
    """What a letter is about, by its name and its sender."""

    id: int
    sender: str
    name: str
    about: str
    """Name of the message that it is, or, of a refusal, of the one that was refused."""
    option_id: str
    kind: str
    role: Role
    """As whom its sender speaks."""


def _take_letters(here: Context, carriers: Carriers) -> None:
    """Take what accounts have written, each one's first letter first, for TAKE_SECONDS in all."""
    with here.store.reading() as session:
        waiting = carrying.waiting_in_turn(session)
    until, spent = monotonic() + TAKE_SECONDS, dict.fromkeys((one.sender for one in waiting), 0.0)
    passed_over: dict[str, list[str]] = {}
    for one in waiting:
        started = monotonic()
        if spent[one.sender] < ACCOUNT_SECONDS:
            if problem := _take_letter(here, one, carriers):
                passed_over.setdefault(one.sender, []).append(f"{one.name}: {problem}")
            spent[one.sender] += monotonic() - started
        if monotonic() >= until:
            break
    for account, problems in passed_over.items():  # one line, however many
        log.warning("letters are not taken", account=account, many=len(problems), first=problems[0])


def _take_letter(here: Context, one: Waiting, carriers: Carriers) -> str:
    """Take one letter, and return why it is nobody's word and was put away, where it is.

    What cannot be taken yet stays for the next look.
    """
    of_batch = _named(one)[1] in batches.KINDS
    return (_take_letter_of_batch if of_batch else _take_letter_of_option)(here, one, carriers)


def _named(one: Waiting) -> tuple[str, str, bool]:
    """Return the name that a letter speaks under, without its kind; its kind; whether it is a refusal of ours."""
    head, _, last = one.name.rpartition(".")
    name, _, kind = (head if last in {REFUSED, WAITS} else one.name).rpartition(".")
    return name, kind, last == REFUSED


def _take_letter_of_option(here: Context, one: Waiting, carriers: Carriers) -> str:
    name, kind, _ = _named(one)
    option_id = _option_of(name, kind)
    with here.store.reading() as session:
        sealed, owners = carrying.sealed_of(session, one.id), carrying.owners_of(session, option_id)
    if sealed is None:
        return ""
    role = None if owners is None else owners.role_of(one.sender)
    take: Callable[[SignedLetter], str]
    if kind in transfers.KINDS:
        take = partial(_take_of_transfer, here, carriers, one, name, kind)
    elif role is not None:
        word = _Word(
            id=one.id, sender=one.sender, name=one.name, about=f"{name}.{kind}", option_id=option_id, kind=kind,
            role=role,
        )  # fmt: skip
        take = partial(_take_word, here, carriers, word)
    else:
        return _put_away(here, one, "speaks of an option that is none of its")
    with _apart(here, option_id, "not taken yet"):
        try:
            return take(carriers.opened(one.sender, one.name, sealed))
        except (SealedToAnotherError, WrongSignatureError, InvalidInputError) as e:
            return _put_away(here, one, str(e))
        except (BtcfiError, *DATABASE_ERRORS):  # of the node, the store, our key: it passes
            raise
        except Exception as e:  # noqa: BLE001 - what brings out a fault of ours brings it out again
            return _put_away(here, one, f"brings out {type(e).__name__}")
    return ""


def _take_letter_of_batch(here: Context, one: Waiting, carriers: Carriers) -> str:
    """Take one letter about a batch: its owners are accounts, and no sides of one option."""
    name, kind, refused = _named(one)
    with here.store.reading() as session:
        sealed = carrying.sealed_of(session, one.id)
    if sealed is None:
        return ""
    with _apart(here, name, "not taken yet"):
        try:
            body = carriers.opened(one.sender, one.name, sealed).letter.body
            word = batches.Word(account=one.sender, name=name, kind=kind, body=body, refused=refused)
            problem = batches.take_word(here, carriers, word)
        except (SealedToAnotherError, WrongSignatureError, InvalidInputError) as e:
            problem = str(e)
        except (BtcfiError, *DATABASE_ERRORS):  # it passes
            raise
        except Exception as e:  # noqa: BLE001 - as of an option's letters
            problem = f"brings out {type(e).__name__}"
        return _put_away(here, one, problem)
    return ""


def _take_of_transfer(  # noqa: PLR0917 - one letter, and what its name says
    here: Context, carriers: Carriers, one: Waiting, name: str, kind: str, said: SignedLetter
) -> str:
    """Take a word of a transfer, whose newcomer is no side of the option yet; who waits for coins says nothing."""
    if one.name == f"{name}.{kind}.{WAITS}":
        return _put_away(here, one, "")
    refused = one.name == f"{name}.{kind}.{REFUSED}"
    word = transfers.Word(name=name, kind=kind, sender=one.sender, said=said, refused=refused)
    return _put_away(here, one, transfers.take_word(here, carriers, word))


def _option_of(name: str, kind: str) -> str:
    """Return the option that a letter is about; what stands before its kind is a close's name in letters of closes."""
    if kind in transfers.KINDS:
        return transfers.option_of(name)
    if kind in closes.KINDS:
        return closing.option_of(name)
    return name.removesuffix(contracts.CLOSE_SUFFIX) if kind in OF_CLOSE else name


def _take_word(here: Context, carriers: Carriers, word: _Word, said: SignedLetter) -> str:
    """Take an opened letter, and return why it was put away, where it was."""
    refused = word.name == f"{word.about}.{REFUSED}"
    if word.name != word.about:
        with here.store.reading() as session:
            if not letters.holds(session, word.sender, word.about):
                return _put_away(here, word, "answers a letter that we have not written to it")
    if word.kind in closes.KINDS and (refused or word.name == word.about):
        name = word.about.rpartition(".")[0]
        closes.take_word(
            here, carriers, closes.Word(name=name, kind=word.kind, role=word.role, said=said, refused=refused)
        )
        _put_away(here, word, "")  # what it said was handed on
    elif word.kind == batch_letters.YES and word.name == word.about:
        with here.store.transaction() as session:
            store_batches.consent(session, word.option_id, word.role, now=here.now())
            letters.acknowledge(session, None, [word.id], now=here.now())
    elif word.name != word.about:
        (_take_refusal if refused else _take_wait)(here, word, _reason(said))
    elif word.kind in CARRIED:
        with here.store.reading() as session:
            owners = carrying.owners_of(session, word.option_id)
        carriers.of(owners)[word.role.other].put(word.name, said.letter.body, said=said)
        with here.store.transaction() as session:
            letters.acknowledge(session, None, [word.id], now=here.now())
    elif word.kind in TAKE and FROM.get(word.kind, word.role) is word.role:
        _take_said(here, word, said.letter.body)
    else:
        return _put_away(here, word, f"says {word.kind[:20]!a}, which is not its to say")
    return ""


def _put_away(here: Context, one: Waiting | _Word, problem: str) -> str:
    """Forget a letter: of what anybody may write without an end only the name is kept."""
    with here.store.transaction() as session:
        letters.forget(session, one.id, now=here.now())
    return problem


def _take_said(here: Context, word: _Word, message: dict[str, Any]) -> None:
    """Take what an account has said; what says anything else than was asked ends its take."""
    name = word.option_id
    try:
        _check_said(word.kind, message)
        with here.work() as session:
            TAKE[word.kind](session, name, message, now=here.now())
            if word.kind == "funded":
                carrying.follow_funding(session, name, now=here.now())
            letters.acknowledge(session, None, [word.id], now=here.now())
    except RetryableError:
        raise
    except BtcfiError as e:
        with here.work() as session:
            if not failing.fail_by(session, name, word.role, str(e), now=here.now()):
                contracts.note_error(session, name, str(e), now=here.now())
            letters.acknowledge(session, None, [word.id], now=here.now())


def _check_said(kind: str, message: dict[str, Any]) -> None:
    """Check what only letters can get wrong, or what would be the other side's fault if it were found later."""
    if kind == "offer":
        check_offered(decode_offer(message))
    elif kind == "sign":
        check_sealed(message)


def _take_refusal(here: Context, word: _Word, reason: str) -> None:
    """Take that a side has refused our message of a kind, where that is what we wait for."""
    with here.store.reading() as session:
        waited = _waited_for(session, word)
        of_take = takes.take_of_option(session, word.option_id) is not None
        named = contracts.coins_of(session, waited, word.kind) if waited and of_take and word.kind in _NAMING else ()
    there = _are_there(named)  # asked of the node before the store is locked
    with here.work() as session:
        if (row := _waited_for(session, word)) is not None:
            _refused(here, session, row, word, reason, coins_are_there=there)
        elif word.kind in OF_CLOSE and contracts.is_locked(session, word.option_id):
            contracts.note_refusal(session, word.option_id, word.role.value, reason, now=here.now())
        letters.acknowledge(session, None, [word.id], now=here.now())


def _waited_for(session: Session, word: _Word) -> ContractRow | None:
    """Return the contract that waits for this word, None where another is waited for."""
    row = contracts.find_contract(session, word.option_id)
    return row if row is not None and turn_of(row.state) == (word.role, word.kind) else None


def _refused(
    here: Context, session: Session, row: ContractRow, word: _Word, reason: str, *, coins_are_there: bool
) -> None:  # fmt: skip
    """Note a refusal. Of a take it is looked at before who is to blame: a message that lies is rightly refused."""
    name, role = row.option_id, word.role
    if takes.take_of_option(session, name) is None:
        contracts.note_refusal(session, name, role.value, reason, now=here.now())
    elif word.kind in _NAMING and not coins_are_there:
        failing.fail_by(session, name, role.other, f"its coins are not there: {reason}", now=here.now())
    elif (rightly := failing.excuse(session, row, role, word.kind)) is not None:
        if rightly.blamed is None:
            failing.fail_by_us(session, name, rightly.problem, now=here.now())
        else:
            failing.fail_by(session, name, rightly.blamed, rightly.problem, now=here.now())
    elif word.kind == "accept":  # the guest has to be run to know whether its signatures are sound
        contracts.note_error(session, name, f"the seller refused: {reason}", now=here.now())
        enqueue(session, [Work(flow="check_accept", arguments=(name,))], now=here.now())
    else:
        failing.fail_by(session, name, role, reason, now=here.now())


def _are_there(said: Sequence[Coin]) -> bool:
    """Return whether coins that a message names are what it says, in a block, unspent there and in the pool."""
    if not said:
        return True
    found = node(os.getpid()).unspent_many([coin.outpoint for coin in said], include_pool=True)
    return all(
        out is not None and out.output == coin.output and out.is_spendable
        for coin, out in zip(said, found, strict=True)
    )


def _take_wait(here: Context, word: _Word, reason: str) -> None:
    with here.work() as session:
        if _waited_for(session, word) is not None:
            contracts.note_waits(session, word.option_id, word.role.value, reason, now=here.now())
        letters.acknowledge(session, None, [word.id], now=here.now())


def _reason(said: SignedLetter) -> str:
    return str(said.letter.body.get("reason", "it gives no reason"))[:MAX_REASON]


# ---- what goes out


@contextlib.contextmanager
def _apart(here: Context, option_id: str, undone: str) -> Iterator[None]:
    """Keep one contract's trouble to itself; the next exchange tries again. What passes by itself is not its error."""
    try:
        yield
    except RetryableError as e:
        log.warning("a contract waits", option=option_id, reason=f"{undone}: {e}")
    except Exception as e:  # noqa: BLE001 - whatever it is, it holds up no other contract and no other party
        note_contract_error(here, option_id, f"{undone}: {type(e).__name__}")


def _withdraw(here: Context, carriers: Carriers) -> None:
    """Tell both parties which sales have come to nothing: what they named for one is free again."""
    with here.store.reading() as session:
        gone = contracts.withdrawn(session, after=_withdrew.get(os.getpid(), ""), limit=contracts.WITHDRAWN_AT_ONCE)
    # the look behind the last one begins anew
    _withdrew[os.getpid()] = gone[-1].option_id if len(gone) == contracts.WITHDRAWN_AT_ONCE else ""
    for row in gone:
        with _apart(here, row.option_id, "not withdrawn yet"):
            _withdraw_one(here, row, carriers)


def _withdraw_one(here: Context, row: ContractRow, carriers: Carriers) -> None:
    name = f"{row.option_id}.withdrawal"
    with here.store.reading() as session:
        owners = carrying.owners_of(session, row.option_id)
    for box in carriers.of(owners).values():
        if not box.holds(name):
            box.put(name, contracts.withdrawal_of(row))
        for kind in WITHDRAWN:
            box.take_back(f"{row.option_id}.{kind}")
    with here.store.transaction() as session:
        contracts.note_withdrawn(session, row.option_id, now=here.now())


def _deliver(here: Context, carriers: Carriers) -> None:
    """Put each contract's next message where it belongs, unless it lies there; says what a folder has refused.

    And ask whoever owes a word of a transfer.
    """
    transfers.ask_all(here, carriers)
    with here.store.reading() as session:
        folders = carrying.in_folders(session, carriers.folder_accounts)
        rows = {row.option_id: row for row in (*folders, *carrying.undelivered(session))}
    for row in rows.values():
        with _apart(here, row.option_id, "not delivered yet"):
            _deliver_one(here, row, carriers)


def _deliver_one(here: Context, row: ContractRow, carriers: Carriers) -> None:
    name = row.option_id
    with here.store.reading() as session:
        owners, part = carrying.owners_of(session, name), carrying.market_part(session, name)
    boxes = carriers.of(owners)
    seller, buyer = boxes[Role.SELLER], boxes[Role.BUYER]
    if row.state == ContractState.ORDERED and not seller.holds(f"{name}.proposal"):
        seller.put(f"{name}.proposal", contracts.proposal_of(row), added=market_json(part))
    for state, box, kind, kept in (
        (ContractState.OFFERED, buyer, "offer", row.offer_sha256),
        (ContractState.ACCEPTED, seller, "accept", row.accept_sha256),
        (ContractState.CHECKED, buyer, "sign", row.sign_sha256),
    ):
        if row.state == state and not box.holds(f"{name}.{kind}"):
            said = None if owners is None else carriers.said(owners.of(FROM[kind]), f"{name}.{kind}")
            with here.store.reading() as session:
                message = contracts.message_of(session, kept)
            box.put(f"{name}.{kind}", message, said=said, added=market_json(part) if kind == "offer" else None)
    _say_refusals(here, name, row.last_error, boxes, (Role.SELLER, f"{name}.proposal"), (Role.BUYER, f"{name}.offer"),
                  (Role.SELLER, f"{name}.accept"), (Role.BUYER, f"{name}.sign"))  # fmt: skip


def _close(here: Context, carriers: Carriers) -> None:
    """Propose the close of every proven early exercise to its buyer; says what either party has refused."""
    with here.store.transaction() as session:
        wanted = contracts.closes(session, rate_of)
        owned = {option_id: carrying.owners_of(session, option_id) for option_id, _, _ in wanted}
    for option_id, proposal, last_error in wanted:
        name = option_id + contracts.CLOSE_SUFFIX
        with _apart(here, option_id, "close not proposed yet"):
            boxes = carriers.of(owned[option_id])
            if not boxes[Role.BUYER].holds(f"{name}.close-proposal"):
                boxes[Role.BUYER].put(f"{name}.close-proposal", proposal)
            _say_refusals(here, option_id, last_error, boxes, (Role.BUYER, f"{name}.close-proposal"),
                          (Role.SELLER, f"{name}.close-request"), (Role.BUYER, f"{name}.close-answer"))  # fmt: skip


def _say_refusals(
    here: Context, option_id: str, known: str | None, boxes: Mapping[Role, Carrier], *sent: tuple[Role, str]
) -> None:  # fmt: skip
    """Note on the option what a party has refused or waits for, and why: the first of these messages.

    known: the contract's error. One that is known stays, but a party that waited may refuse in the end.
    """
    if known is not None and not contracts.is_waiting(known):
        return
    for role, name in sent:
        if (reason := boxes[role].refusal(name)) is not None:
            with here.work() as session:
                if not failing.fail_by(session, option_id, role, reason, now=here.now()):
                    contracts.note_refusal(session, option_id, role.value, reason, now=here.now())
            return
    for role, name in sent if known is None else ():
        if (reason := boxes[role].waits(name)) is not None:
            with here.store.transaction() as session:
                contracts.note_waits(session, option_id, role.value, reason, now=here.now())
            return


def _publish(here: Context, carriers: Carriers) -> None:
    """Tell the two sides of each contract what was attested, once the service has settled or failed to."""
    with here.store.reading() as session:
        said = attesting.published(session, now=here.now(), after=_published.get(os.getpid(), attesting.FIRST))
        owners = carrying.owners_by_event(session, sorted({event for event, _ in said}))
        named = {(event, one.oracle_key): attesting.letter_name(event, one.oracle_key) for event, one in said}
        mail = {(account, named[event, one.oracle_key]) for event, one in said for account in owners.get(event, ())
                if account is not None and account not in carriers.folder_accounts}  # fmt: skip
        unwritten = carrying.unwritten(session, mail)
    last = [(event, one.oracle_key.hex()) for event, one in said[attesting.AT_ONCE - 1 :]]
    _published[os.getpid()] = last[0] if last else attesting.FIRST
    for event, attestation in said:
        name, message = named[event, attestation.oracle_key], encode_attestation(attestation)
        for_folders = [carriers.old[role] for role in Role] if None in owners.get(event, ()) else []
        for_folders += [box for one, box in carriers.folder_accounts.items() if one in owners.get(event, ())]
        for box in for_folders:
            try:
                if not box.holds(name):
                    box.put(name, message)
            except OSError as e:  # one party's folder must not keep the evidence from the other
                log.warning("attestation not delivered", party=box.folder.name, reason=str(e))
        for account in owners.get(event, ()):
            if account is not None and (account, name) in unwritten:
                try:
                    carriers.to(account).put(name, message)
                except BtcfiError as e:
                    log.warning("attestation not delivered", party=account, reason=str(e))
