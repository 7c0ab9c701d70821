"""What the three of a transfer sign about a held contract, as their processes do: a consent, an offer, a take."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import count
from typing import Any

from btcfi.adapters.store.market import accounts, transfers
from btcfi.adapters.store.market.transfer_tables import TransferRow
from btcfi.adapters.store.market.transfers import Moment
from btcfi.adapters.store.options.reopened import KEPT
from btcfi.adapters.store.options.tables import OptionRow
from btcfi.adapters.store.spine.database import Store
from btcfi.adapters.store.spine.edges import record
from btcfi.bitcoin.fees import SatsPerKvb
from btcfi.contracts.payouts import decode_terms
from btcfi.market.instrument import instrument_of
from btcfi.market.transfer import (
    SignedTransferConsent,
    SignedTransferOffer,
    SignedTransferTake,
    TransferConsent,
    TransferOffer,
    TransferTake,
    encode_signed,
    sign_consent,
    sign_offer,
    sign_take,
    terms_hash,
)
from btcfi.units import Sats, UnixSeconds
from tests.support.accounts import DESK, Trader
from tests.support.held_contract import HeldContract

PRICE = Sats(700_000)
RATE = SatsPerKvb(2_000)


@dataclass
class SoldPosition:
    """A contract with what is said about its change of hands, all of it good for ten minutes from ``now``."""

    held: HeldContract
    now: int
    numbers: count

    def consent(self, seller: Trader, **changes: object) -> SignedTransferConsent:
        plain = TransferConsent(
            seller=seller.identity, desk=DESK, contract_id=self.held.agreement.id,
            valid_until=UnixSeconds(self.now + 600), number=next(self.numbers),
        )  # fmt: skip
        return sign_consent(replace(plain, **changes), seller.keystore.request_secret())

    def offer(self, holder: Trader, **changes: object) -> SignedTransferOffer:
        rate = changes.get("rate", RATE)
        terms = replace(self.held.agreement.terms, rate=rate)
        option = decode_terms(terms.option)
        plain = TransferOffer(
            holder=holder.identity, desk=DESK, contract_id=self.held.agreement.id, terms_hash=terms_hash(terms),
            instrument=instrument_of(option), quantity=option.quantity, price=PRICE, rate=rate,
            valid_until=UnixSeconds(self.now + 600), number=next(self.numbers),
        )  # fmt: skip
        return sign_offer(replace(plain, **changes), holder.keystore.request_secret())

    def take(self, newcomer: Trader, of: SignedTransferOffer, **changes: object) -> SignedTransferTake:
        plain = TransferTake(
            newcomer=newcomer.identity, offer_id=of.offer.id, price=of.offer.price,
            valid_until=UnixSeconds(self.now + 120), number=next(self.numbers),
        )  # fmt: skip
        return sign_take(replace(plain, **changes), newcomer.keystore.request_secret())


def selling(held: HeldContract, *, now: int) -> SoldPosition:
    return SoldPosition(held=held, now=now, numbers=count(1_000))


def said(word: Any) -> dict[str, Any]:
    """Return a word as it is posted."""
    return encode_signed(word)


def moment(now: int) -> Moment:
    return Moment(now=UnixSeconds(now), market=UnixSeconds(now), last_blocks=0)


def keep(store: Store, one: Trader, word: Any, *, now: int) -> Any:
    """Have the service keep a word of an account, as its door does; return the row."""
    put = {
        SignedTransferConsent: transfers.post_consent, SignedTransferOffer: transfers.post_offer,
        SignedTransferTake: transfers.take_position,
    }[type(word)]  # fmt: skip
    with store.transaction() as session:
        return put(session, accounts.account(session, one.identity.hex()), word, at=moment(now))


def move_on(store: Store, take: SignedTransferTake, *, now: int, final: bool) -> str:
    """Have a transfer signed by all and sent, or final, as far as pages read it; return its transaction's id."""
    txid = "5e" * 32
    with store.transaction() as session:
        row = session.get_one(TransferRow, take.take.id.hex())
        old = session.get_one(OptionRow, row.option_id)
        row.state, row.said, row.txid, row.fee_sats = "done" if final else "signed", "all", txid, 600
        if session.get(OptionRow, row.new_option_id) is None:
            kept = old.model_dump(include=set(KEPT))
            session.add(
                OptionRow(
                    id=row.new_option_id, **kept, holder=row.newcomer, created_at_unix=now, updated_at_unix=now,
                    address=old.address, contract=old.contract, funding_txid=txid, expiry_height=old.expiry_height,
                )
            )  # fmt: skip
            session.flush()
        old.state, session.get_one(OptionRow, row.new_option_id).state = (
            ("ABANDONED", "ACTIVE") if final else ("ACTIVE", "CREATED")
        )
        record(session, "transfer", row.id, row.state, now=UnixSeconds(now))
    return txid
