"""What both sides of a contract signed before there was one, as the service hands it to each: the ``market`` part.

An offer, a take of it, and who the two are. Nobody believes the service: the deal is computed anew, each signature
checked by the key that a registration vouches for, and each registration by its identity.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from btcfi.contracts.messages import ContractTerms, Role
from btcfi.contracts.payouts import encode_terms
from btcfi.errors import InvalidInputError
from btcfi.market.account import (
    AnotherDeskError,
    SignedRegistration,
    check_registration,
    decode_signed_registration,
    encode_signed_registration,
)
from btcfi.market.firm_offer import (
    Deal,
    SignedOffer,
    SignedTake,
    check_offer,
    check_take,
    deal_of,
    decode_signed_offer,
    decode_signed_take,
    encode_signed_offer,
    encode_signed_take,
)
from btcfi.records import Rule, record

WHERE: Final = "market"
"""The field of a proposal, and of the offer that is handed to the buyer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MarketPart:
    """One take, and all that it follows from."""

    offer: SignedOffer
    take: SignedTake
    seller: SignedRegistration
    buyer: SignedRegistration

    def of(self, role: Role) -> SignedRegistration:
        """Return who takes a side of the contract."""
        return self.seller if role is Role.SELLER else self.buyer


def check_part(part: MarketPart, *, desk: bytes) -> Deal:
    """Return the deal of a market part, once everybody has signed their half of it. desk: x-only key of the service.

    Raises InvalidInputError, AnotherDeskError, WrongRegistrationError, WrongSignatureError.
    """
    offer, take = part.offer.offer, part.take.take
    if offer.desk != desk:
        raise AnotherDeskError("the offer", offer.desk, desk)
    deal = deal_of(offer, take)
    for role, identity in ((Role.SELLER, deal.seller), (Role.BUYER, deal.buyer)):
        registered = check_registration(part.of(role), desk=desk)
        if registered.identity != identity:
            problem = f"registers {registered.identity.hex()[:16]}"
            raise InvalidInputError(f"{WHERE}.{role.value}", problem, f"{identity.hex()[:16]}, whose deal it is")
    maker = offer.side.role
    check_offer(part.offer, part.of(maker).registration.request_key)
    check_take(part.take, part.of(maker.other).registration.request_key)
    return deal


def check_terms(terms: ContractTerms, deal: Deal) -> None:
    """Check that a contract is a deal's: option, premium and collateral, to the satoshi. Raises InvalidInputError."""
    if terms.option != encode_terms(deal.terms):
        wanted = encode_terms(deal.terms)
        names = sorted({name for name in wanted | terms.option if wanted.get(name) != terms.option.get(name)})
        raise InvalidInputError(f"option.{names[0]}", f"{terms.option.get(names[0])!r}", f"{wanted.get(names[0])!r}")
    if terms.premium != deal.premium:
        raise InvalidInputError("premium_sats", f"{terms.premium:,}", f"{deal.premium:,}, as offered and taken")
    if terms.collateral != deal.terms.collateral:
        raise InvalidInputError("collateral_sats", f"{terms.collateral:,}", f"{deal.terms.collateral:,}")


def encode_part(part: MarketPart) -> dict[str, Any]:
    """Return the part as JSON."""
    return {
        "offer": encode_signed_offer(part.offer),
        "take": encode_signed_take(part.take),
        "seller": encode_signed_registration(part.seller),
        "buyer": encode_signed_registration(part.buyer),
    }


_REGISTERED: Final = Rule(decode_signed_registration, "a signed registration")

_PART: Final = record(
    MarketPart, exact=True, offer=Rule(decode_signed_offer, "a signed offer"),
    take=Rule(decode_signed_take, "a signed take"), seller=_REGISTERED, buyer=_REGISTERED,
)  # fmt: skip


def decode_part(value: object) -> MarketPart:
    """Return the market part of a JSON value, its signatures unchecked. Raises InvalidInputError naming the field."""
    return _PART.read(value, WHERE)
