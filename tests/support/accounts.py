"""Accounts of a market for tests: keys that guard nothing, registered at a desk that is a key."""

from __future__ import annotations

from dataclasses import dataclass, replace

from btcfi import secp256k1
from btcfi.adapters.keystore import Keystore
from btcfi.adapters.sealed_letters import box_key
from btcfi.hashes import sha256
from btcfi.market.account import Registration, SignedRegistration, sign_registration
from btcfi.market.firm_offer import FirmOffer, Side, SignedOffer, SignedTake, Take, sign_offer, sign_take
from btcfi.market.instrument import parse_instrument
from btcfi.market.request import QuoteRequest, SignedQuoteRequest, Wanted, sign_request
from btcfi.units import CentiBtc, Cents, Sats, UnixSeconds

DESK_SECRET = sha256(b"desk")
DESK = secp256k1.public_key_xonly(DESK_SECRET)
DESK_BOX_SECRET = sha256(b"desk box")
NOW = UnixSeconds(1_800_000_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trader:
    """One account with all of its secrets."""

    name: str
    keystore: Keystore

    @property
    def identity_secret(self) -> bytes:
        return sha256(b"identity " + self.name.encode())

    @property
    def identity(self) -> bytes:
        return secp256k1.public_key_xonly(self.identity_secret)

    def registered(self, **changes: object) -> SignedRegistration:
        """Return its registration, signed; changes: fields that say otherwise."""
        plain = Registration(
            name=self.name, identity=self.identity,
            request_key=secp256k1.public_key_xonly(self.keystore.request_secret()),
            box_key=box_key(self.keystore.letters_secret()), desk=DESK, number=1, at=NOW,
        )  # fmt: skip
        return sign_registration(replace(plain, **changes), self.identity_secret)

    def offer(self, instrument: str, side: Side, **changes: object) -> SignedOffer:
        """Return an offer of it, signed: 1,000,000 sats and $700 for one bitcoin, a whole one of it."""
        plain = FirmOffer(
            maker=self.identity, desk=DESK, instrument=parse_instrument(instrument), side=side, price=Sats(1_000_000),
            price_cents=Cents(70_000), quantity=CentiBtc(100), minimum=CentiBtc(1),
            valid_until=UnixSeconds(NOW + 60), number=1,
        )  # fmt: skip
        return sign_offer(replace(plain, **changes), self.keystore.request_secret())

    def request(self, instrument: str, **changes: object) -> SignedQuoteRequest:
        """Return a request for quotes of it, signed: it would buy half a bitcoin."""
        plain = QuoteRequest(
            taker=self.identity, desk=DESK, instrument=parse_instrument(instrument), wanted=Wanted.BUY,
            quantity=CentiBtc(50), valid_until=UnixSeconds(NOW + 30), number=3,
        )  # fmt: skip
        return sign_request(replace(plain, **changes), self.keystore.request_secret())

    def take(self, of: SignedOffer, quantity: int, **changes: object) -> SignedTake:
        """Return a take of an offer, signed."""
        plain = Take(
            taker=self.identity, offer_id=of.offer.id, quantity=CentiBtc(quantity), price=of.offer.price,
            price_cents=of.offer.price_cents, valid_until=UnixSeconds(NOW + 30), number=2,
        )  # fmt: skip
        return sign_take(replace(plain, **changes), self.keystore.request_secret())


def trader(name: str) -> Trader:
    """Return the account of a name, always the same."""
    return Trader(name=name, keystore=Keystore(sha256(b"seed " + name.encode())))
