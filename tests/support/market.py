"""Accounts, offers and takes of a market, made from small numbers."""

from __future__ import annotations

from dataclasses import replace

from btcfi.adapters.sealed_letters import box_key
from btcfi.market.account import Registration, sign_registration
from btcfi.market.auction import Auction
from btcfi.market.firm_offer import FirmOffer, Side, Take, sign_offer, sign_take
from btcfi.market.instrument import parse_instrument
from btcfi.market.request import QuoteRequest, Wanted, sign_request
from btcfi.secp256k1 import public_key_xonly
from btcfi.units import CentiBtc, Cents, Sats, UnixSeconds


def secret(number):
    return number.to_bytes(32, "big")


def key(number):
    return public_key_xonly(secret(number))


DESK, OTHER_DESK = 1_000, 1_001
MAKER, TAKER, STRANGER = 1, 2, 3
"""Identities; the request key of identity N is N + 100."""

AT = UnixSeconds(1_795_000_000)
EXPIRY = 1_795_766_400
"""27 November 2026, 08:00 UTC."""


def request(number):
    return number + 100


def registration(number=MAKER, *, name="ann", desk=DESK, at=AT, **changes):
    made = Registration(
        name=name, identity=key(number), request_key=key(request(number)), box_key=box_key(secret(number)),
        desk=key(desk), number=1, at=at,
    )  # fmt: skip
    return sign_registration(replace(made, **changes), secret(number))


def offer(**changes):
    made = FirmOffer(
        maker=key(MAKER), desk=key(DESK), instrument=parse_instrument("BTC-27NOV26-60000-C"), side=Side.ASK,
        price=Sats(2_000_000), price_cents=Cents(120_000), quantity=CentiBtc(100), minimum=CentiBtc(5),
        valid_until=UnixSeconds(AT + 60), number=7,
    )  # fmt: skip
    return replace(made, **changes)


def signed_offer(made=None):
    return sign_offer(made or offer(), secret(request(MAKER)))


def take(of=None, **changes):
    of = of or offer()
    made = Take(
        taker=key(TAKER), offer_id=of.id, quantity=CentiBtc(10), price=of.price, price_cents=of.price_cents,
        valid_until=UnixSeconds(AT + 30), number=9,
    )  # fmt: skip
    return replace(made, **changes)


def signed_take(made=None):
    return sign_take(made or take(), secret(request(TAKER)))


def auction(**changes):
    """Return a schedule whose ten steps of 30 s fit an ``offer`` that is good for more than 300 s."""
    made = Auction(
        begins=AT, step_seconds=30, steps=10, last=Sats(1_500_000), last_cents=Cents(90_000),
    )  # fmt: skip
    return replace(made, **changes)


def falling(**changes):
    """Return an ask whose price falls."""
    return offer(**({"valid_until": UnixSeconds(AT + 600), "auction": auction()} | changes))


def quote_request(**changes):
    made = QuoteRequest(
        taker=key(TAKER), desk=key(DESK), instrument=parse_instrument("BTC-27NOV26-60000-C"), wanted=Wanted.BUY,
        quantity=CentiBtc(50), valid_until=UnixSeconds(AT + 60), number=3,
    )  # fmt: skip
    return replace(made, **changes)


def signed_quote_request(made=None):
    return sign_request(made or quote_request(), secret(request(TAKER)))
