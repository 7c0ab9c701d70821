"""What happens to an account: whose an edge is, and how it is said, in a stream and in a webhook alike."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlmodel import Session, col, select

from btcfi.adapters.store.market.tables import CloseRow, CloseState, TakeRow
from btcfi.adapters.store.market.transfer_tables import (
    TransferConsentRow,
    TransferOfferRow,
    TransferRow,
    TransferState,
)
from btcfi.adapters.store.market.webhook_tables import WebhookRow
from btcfi.adapters.store.options.tables import OptionRow, OptionState, SettlementRow
from btcfi.adapters.store.options.views import options_of, settlements_of
from btcfi.adapters.store.spine.tables import EventRow
from btcfi.documents import iso

CLOSE: Final = "market_close"
"""What events call an offer to close."""
CONSENT: Final = "transfer_consent"
SALE: Final = "transfer_offer"
TRANSFER: Final = "transfer"
"""What events call a consent to a transfer, an offer of a position, and a transfer."""
EVENTFUL: Final = ("take", "option", "settlement", CLOSE, CONSENT, SALE, TRANSFER, "webhook")
"""What an account hears of."""

_SIGNED: Final = frozenset({TransferState.SIGNED.value, TransferState.DONE.value})


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountEdge:
    """An edge that something of an account crossed."""

    event: EventRow
    option: OptionRow | None
    """None of a webhook's edge."""
    settlement: SettlementRow | None
    """Of an edge of a settlement."""
    accounts: frozenset[str]
    """Whose it is."""
    close: CloseRow | None = None
    """Of an edge of an offer to close, and of the edge by which that ended an option."""
    transfer: TransferRow | None = None
    """Of an edge of a transfer."""


def edges_with_owners(session: Session, rows: Sequence[EventRow]) -> list[AccountEdge]:
    """Return those of some events that are of accounts, in their order."""
    named: dict[str, set[str]] = {entity: set() for entity in EVENTFUL}
    for row in rows:
        if row.entity in named:
            named[row.entity].add(row.entity_id)
    taken = session.exec(select(TakeRow).where(col(TakeRow.id).in_(named["take"]))).all() if named["take"] else ()
    settled = settlements_of(session, named["settlement"])
    about = {("take", row.id): row.option_id for row in taken}
    about |= {("settlement", name): row.option_id for name, row in settled.items()}
    about |= {("option", name): name for name in named["option"]}
    closes = _closes_by_id(session, named[CLOSE])
    ended = closes_by_option(session, {row.entity_id for row in rows if _ends_early(row)}, (CloseState.DONE,))
    about |= {(CLOSE, name): row.option_id for name, row in closes.items()}
    said = _transfer_words(session, named)
    about |= {where: row.option_id for where, row in said.items()}
    options = options_of(session, set(about.values()))
    hooks = _owners_of_hooks(session, named["webhook"])
    found = []
    for row in rows:
        option = options.get(about.get((row.entity, row.entity_id), ""))
        names = {hooks.get(row.entity_id)} if row.entity == "webhook" else set()
        word = said.get((row.entity, row.entity_id))
        names |= _owners_of_word(word) if word is not None else set()
        names |= {option.writer, option.holder} if option is not None and word is None else set()
        if whose := frozenset(name for name in names if name):
            settlement = settled.get(row.entity_id) if row.entity == "settlement" else None
            close = closes.get(row.entity_id) if row.entity == CLOSE else None
            close = ended.get(row.entity_id) if _ends_early(row) else close
            transfer = word if isinstance(word, TransferRow) else None
            found.append(
                AccountEdge(
                    event=row, option=option, settlement=settlement, close=close, transfer=transfer, accounts=whose
                )
            )  # fmt: skip
    return found


_Word = TransferConsentRow | TransferOfferRow | TransferRow


def _transfer_words(session: Session, named: dict[str, set[str]]) -> dict[tuple[str, str], _Word]:
    found: dict[tuple[str, str], _Word] = {}
    if ids := named[CONSENT]:
        consents = session.exec(select(TransferConsentRow).where(col(TransferConsentRow.id).in_(ids))).all()
        found |= {(CONSENT, row.id): row for row in consents}
    if ids := named[SALE]:
        offers = session.exec(select(TransferOfferRow).where(col(TransferOfferRow.id).in_(ids))).all()
        found |= {(SALE, row.id): row for row in offers}
    if ids := named[TRANSFER]:
        transfers = session.exec(select(TransferRow).where(col(TransferRow.id).in_(ids))).all()
        found |= {(TRANSFER, row.id): row for row in transfers}
    return found


def _owners_of_word(word: _Word) -> set[str | None]:
    """Return whose it is: a consent its seller's, an offer its holder's, a transfer all three's."""
    if isinstance(word, TransferConsentRow):
        return {word.seller}
    return {word.holder} if isinstance(word, TransferOfferRow) else {word.seller, word.holder, word.newcomer}


def _closes_by_id(session: Session, ids: Collection[str]) -> dict[str, CloseRow]:
    rows = session.exec(select(CloseRow).where(col(CloseRow.id).in_(list(ids)))).all() if ids else ()
    return {row.id: row for row in rows}


def closes_by_option(
    session: Session, option_ids: Collection[str], states: Collection[CloseState]
) -> dict[str, CloseRow]:  # fmt: skip
    """Return the closes in some states of which an option has one at the most, by option."""
    query = select(CloseRow).where(col(CloseRow.option_id).in_(list(option_ids)), col(CloseRow.state).in_(states))
    return {row.option_id: row for row in session.exec(query).all()} if option_ids else {}


def _ends_early(row: EventRow) -> bool:
    return row.entity == "option" and row.to_state == OptionState.ABANDONED


def _owners_of_hooks(session: Session, ids: set[str]) -> dict[str, str]:
    if not ids:
        return {}
    found = session.exec(select(WebhookRow).where(col(WebhookRow.id).in_(ids))).all()
    return {row.id: row.account_id for row in found}


def say(edge: AccountEdge, account: str) -> dict[str, Any]:
    """Return what an account is told of an edge of its own, as JSON has it."""
    event, option, paid = edge.event, edge.option, edge.settlement or edge.close
    option_id = None if option is None else option.id
    role = None if option is None else "holder" if option.holder == account else "writer"
    if edge.transfer is not None and edge.transfer.newcomer == account:
        option_id, role = edge.transfer.new_option_id, "holder"
    paid_sats = None if paid is None else paid.paid_sats
    if edge.transfer is not None and event.to_state in _SIGNED:
        paid_sats = edge.transfer.price_sats
    return {
        "id": event.id or 0, "entity": event.entity, "entity_id": event.entity_id, "option_id": option_id,
        "role": role, "from_state": event.from_state, "to_state": event.to_state, "at_unix": event.at_unix,
        "paid_sats": paid_sats,
        "returned_sats": None if paid is None else paid.returned_sats,
        "at": iso(event.at_unix),
    }  # fmt: skip


def say_json(edge: AccountEdge, account: str) -> str:
    """Return the same as a text: the data of a stream's event, and the body of a webhook's message."""
    return json.dumps(say(edge, account), separators=(",", ":"))
