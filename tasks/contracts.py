"""Contracts: proposed to the two parties, their messages carried; each party signs in its own process, by its mandate.

The service proposes and carries; it writes no order, no bid and no mandate. ``tasks/checks.py`` checks what is signed.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from time import monotonic
from typing import Any, Final

import structlog
from celery import shared_task

from btcfi.adapters.oracle.asking import OraclesAwayError, announcements
from btcfi.adapters.party.mailbox import Mailbox, read_message, take_away
from btcfi.adapters.store.options import attesting, contracts
from btcfi.adapters.store.options.contract_tables import ContractRow, ContractState
from btcfi.adapters.store.options.options import condition_of_row, event_of
from btcfi.adapters.store.options.tables import OptionRow
from btcfi.contracts.messages import Role, encode_attestation
from btcfi.errors import BtcfiError, NotHeldError, RetryableError, UnreachableError
from btcfi.units import Height
from tasks.context import (
    Context,
    context,
    contract_rule,
    mailboxes,
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

log = structlog.get_logger("btcfi.contracts")

TAKE_SECONDS: Final = 10
"""After so long the rest of a party's outbox waits for the next look."""

WITHDRAWN: Final = ("proposal", "offer", "accept")
"""Messages of a sale that are taken back with it, where they are not handled yet."""

CARRIED: Final = ("close-request", "close-answer")
"""Kinds that only go to the other side."""


@shared_task(name="contracts.exchange")
def exchange() -> None:
    """Write down what is new, take the parties' answers, and put what comes next into their inboxes."""
    here = context()
    boxes = mailboxes(here.deployment)
    _order(here)
    for role in boxes:
        _take_all(here, role, boxes)
    _withdraw(here, boxes)
    _deliver(here, boxes[Role.SELLER], boxes[Role.BUYER])
    _close(here, boxes[Role.SELLER], boxes[Role.BUYER])
    _publish(here, list(boxes.values()))


def _take_all(here: Context, role: Role, boxes: Mapping[Role, Mailbox]) -> None:
    """Take what one party has answered, for TAKE_SECONDS: who floods its outbox waits there, and holds up no other."""
    until = monotonic() + TAKE_SECONDS
    for path, name, kind in boxes[role].answers():
        if FROM.get(kind, role) is role:
            _take(here, path, name, kind, boxes[role.other])
        else:
            log.warning("a party speaks for the other", party=role.value, option=name, kind=kind)
            _remove(path)
        if monotonic() >= until:
            break


def _order(here: Context) -> None:
    with here.store.reading() as session:
        waiting = contracts.new_options(session)
    if not waiting:
        return
    try:
        tip = node(os.getpid()).block_count()
    except UnreachableError as e:
        log.warning("no contract is ordered", waiting=len(waiting), reason=str(e))
        return  # the parties' messages are carried meanwhile
    for option in waiting:
        with _apart(here, option.id, "not ordered yet"):
            try:
                _order_one(here, option, tip)
            except OraclesAwayError as e:
                with here.store.transaction() as session:
                    attesting.note_unannounced(session, option.id, e.problems)
                raise


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


def _take(here: Context, path: Path, name: str, kind: str, other: Mailbox) -> None:
    """Take one answer and its file away; what cannot be taken yet stays for the next look, and stops no other."""
    option_id = name.removesuffix(contracts.CLOSE_SUFFIX)
    with _apart(here, option_id, "not taken yet"):
        message = read_message(path)
        if message is not None and kind in CARRIED:
            other.put(f"{name}.{kind}", message)
        elif message is not None and kind in TAKE:
            _take_one(here, option_id, kind, message)
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


@contextlib.contextmanager
def _apart(here: Context, option_id: str, undone: str) -> Iterator[None]:
    """Keep one contract's trouble to itself; the next exchange tries again. What passes by itself is not its error."""
    try:
        yield
    except RetryableError as e:
        log.warning("a contract waits", option=option_id, reason=f"{undone}: {e}")
    except Exception as e:  # noqa: BLE001 - whatever it is, it holds up no other contract and no other party
        note_contract_error(here, option_id, f"{undone}: {type(e).__name__}")


def _withdraw(here: Context, boxes: Mapping[Role, Mailbox]) -> None:
    """Tell both parties which sales have come to nothing: what they named for one is free again."""
    with here.store.reading() as session:
        gone = contracts.withdrawn(session)
    for row in gone:
        with _apart(here, row.option_id, "not withdrawn yet"):
            _withdraw_one(here, row, boxes)


def _withdraw_one(here: Context, row: ContractRow, boxes: Mapping[Role, Mailbox]) -> None:
    name = f"{row.option_id}.withdrawal"
    for box in boxes.values():
        if not box.holds(name):
            box.put(name, contracts.withdrawal_of(row))
        for kind in WITHDRAWN:
            box.take_back(f"{row.option_id}.{kind}")
    with here.store.transaction() as session:
        contracts.note_withdrawn(session, row.option_id, now=here.now())


def _deliver(here: Context, seller: Mailbox, buyer: Mailbox) -> None:
    """Put each contract's next message where it belongs, unless it lies there; says what a party has refused."""
    with here.store.reading() as session:
        waiting = contracts.unfinished(session)
    for row in waiting:
        with _apart(here, row.option_id, "not delivered yet"):
            _deliver_one(here, row, seller, buyer)


def _deliver_one(here: Context, row: ContractRow, seller: Mailbox, buyer: Mailbox) -> None:
    name = row.option_id
    if row.state == ContractState.ORDERED and not seller.holds(f"{name}.proposal"):
        seller.put(f"{name}.proposal", contracts.proposal_of(row))
    for state, box, kind, kept in (
        (ContractState.OFFERED, buyer, "offer", row.offer_sha256),
        (ContractState.ACCEPTED, seller, "accept", row.accept_sha256),
        (ContractState.CHECKED, buyer, "sign", row.sign_sha256),
    ):
        if row.state == state and not box.holds(f"{name}.{kind}"):
            with here.store.reading() as session:
                box.put(f"{name}.{kind}", contracts.message_of(session, kept))
    _say_refusals(here, name, row.last_error, (seller, f"{name}.proposal"), (buyer, f"{name}.offer"),
                  (seller, f"{name}.accept"), (buyer, f"{name}.sign"))  # fmt: skip


def _close(here: Context, seller: Mailbox, buyer: Mailbox) -> None:
    """Propose the close of every proven early exercise to its buyer; says what either party has refused."""
    with here.store.transaction() as session:
        wanted = contracts.closes(session, rate_of)
    for option_id, proposal, last_error in wanted:
        name = option_id + contracts.CLOSE_SUFFIX
        with _apart(here, option_id, "close not proposed yet"):
            if not buyer.holds(f"{name}.close-proposal"):
                buyer.put(f"{name}.close-proposal", proposal)
            _say_refusals(here, option_id, last_error, (buyer, f"{name}.close-proposal"),
                          (seller, f"{name}.close-request"), (buyer, f"{name}.close-answer"))  # fmt: skip


def _say_refusals(here: Context, option_id: str, known: str | None, *sent: tuple[Mailbox, str]) -> None:
    """Note on the option what a party has refused or waits for, and why: the first of these messages.

    known: the contract's error. One that is known stays, but a party that waited may refuse in the end.
    """
    if known is not None and not contracts.is_waiting(known):
        return
    for box, name in sent:
        if (reason := box.refusal(name)) is not None:
            with here.store.transaction() as session:
                contracts.note_refusal(session, option_id, box.folder.name, reason, now=here.now())
            return
    for box, name in sent if known is None else ():
        if (reason := box.waits(name)) is not None:
            with here.store.transaction() as session:
                contracts.note_waits(session, option_id, box.folder.name, reason, now=here.now())
            return


def _publish(here: Context, boxes: list[Mailbox]) -> None:
    """Tell the parties what was attested, once the service has settled or failed to."""
    with here.store.reading() as session:
        said = attesting.published(session, now=here.now())
    for event, attestation in said:
        name = f"{event[:32]}-{attestation.oracle_key.hex()[:16]}.attestation"
        for box in boxes:
            try:
                if not box.holds(name):
                    box.put(name, encode_attestation(attestation))
            except OSError as e:  # one party's folder must not keep the evidence from the other
                log.warning("attestation not delivered", party=box.folder.name, reason=str(e))
