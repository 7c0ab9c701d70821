"""Buy an instrument at a limit: take what is offered below it, and bid for the rest, a minute at a time.

A party's own process signs the contracts (`btcfi party run`); this bot only says what it wants, by the same key, and
writes it into the party's ledger first: what is not there its process does not sign.

    python docs/examples/market_bot.py PARTY_FOLDER BTC-25DEC26-70000-C 0.25 0.0150
"""

# ruff: noqa: INP001, T201 - a script that shows what it sees

from __future__ import annotations

import getpass
import sys
import time
from collections.abc import Collection
from decimal import Decimal
from pathlib import Path

from btcfi.adapters.keystore import open_keystore
from btcfi.adapters.party.market_ledger import MARKET_FOLDER, MarketLedger
from btcfi.adapters.party.membership import require_joined
from btcfi.market.firm_offer import FirmOffer, Side, Take, sign_offer, sign_take
from btcfi.market.instrument import parse_instrument
from btcfi.surfaces.client import Account, ApiError, Client
from btcfi.units import CentiBtc, Cents, Sats, UnixSeconds


def opened(folder: Path, words: str) -> tuple[str, Account, MarketLedger]:
    """Return the URL of the desk that a party has joined, its account there, and its ledger."""
    keystore = open_keystore(folder / "keystore.json", words)
    member = require_joined(folder, keystore)
    account = Account(member.identity, keystore.request_secret(), member.desk)
    return member.url, account, MarketLedger(folder / MARKET_FOLDER)


def bought(btcfi: Client, me: Account, name: str) -> dict[str, int]:
    """Return what we bought of an instrument, by take, and has not failed: in takes of ours, and of our bids."""
    found: dict[str, int] = {}
    page = btcfi.fills(limit=500)
    while True:
        ours = [one for one in page.items if one.instrument == name]
        found |= {o.id: o.quantity_centi_btc for o in ours if (o.taker == me.identity.hex()) is (o.side == "ask")}
        if page.next_cursor is None:
            return found
        page = btcfi.fills(limit=500, cursor=page.next_cursor)


def step(
    btcfi: Client, me: Account, ledger: MarketLedger, *, name: str, wanted: int, limit: int,
    before: Collection[str] = (),
) -> int:  # fmt: skip
    """Take and bid for what is missing of ``wanted`` hundredths, at ``limit`` satoshis or less for one bitcoin.

    Return what is bought, in takes that are not among those ``before``: bids of ours that others have taken count.
    """
    for old in btcfi.offers(state="open", limit=500).items:
        if old.instrument == name and old.side == "bid":
            btcfi.withdraw(old.id)  # what is taken of it from now on is nobody's, so what is counted next stays so
    have = sum(size for take, size in bought(btcfi, me, name).items() if take not in before)
    now = UnixSeconds(int(me.clock()))
    for best in btcfi.book(name).asks:
        size = min(wanted - have, best.quantity_centi_btc)
        if best.price_sats > limit or size < best.minimum_centi_btc:
            continue
        price, cents = best.signed.offer.prices(best.step)
        take = Take(
            taker=me.identity, offer_id=best.signed.offer.id, quantity=CentiBtc(size), price=price, price_cents=cents,
            step=best.step, valid_until=UnixSeconds(now + 30), number=ledger.next_number(),
        )  # fmt: skip
        signed = sign_take(take, me.request_secret)
        ledger.add_take(signed, best.signed)
        try:
            made = btcfi.take(signed)
        except ApiError as e:  # somebody was first, or it is our own
            print(f"not taken: {e}")
            continue
        print(f"bought {size / 100} at {best.price_sats:,} sats: option {made.option_id}, {made.state}")
        have += size
    if have < wanted and (spot := btcfi.chain().spot_cents) is not None:
        bid = FirmOffer(
            maker=me.identity, desk=me.desk, instrument=parse_instrument(name), side=Side.BID, price=Sats(limit),
            price_cents=Cents(limit * spot // 10**8), quantity=CentiBtc(wanted - have), minimum=CentiBtc(1),
            valid_until=UnixSeconds(now + 60), number=ledger.next_number(),
        )  # fmt: skip
        ours = sign_offer(bid, me.request_secret)
        ledger.add_offer(ours)
        (posted,) = btcfi.post_offers([ours])
        print(f"bid for {bid.quantity / 100} at {limit:,} sats: {posted.state or posted.problem}")
    return have


if __name__ == "__main__":
    where, instrument, quantity, price = sys.argv[1:]
    url, account, kept = opened(Path(where), getpass.getpass("passphrase: "))
    total, most = int(Decimal(quantity) * 100), int(Decimal(price) * 10**5) * 1_000
    with Client(url, account=account) as client:
        begun = frozenset(bought(client, account, instrument))
        while step(client, account, kept, name=instrument, wanted=total, limit=most, before=begun) < total:
            time.sleep(61)
