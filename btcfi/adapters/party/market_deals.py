"""Whether a contract that the service asks for is one that we have agreed to at its market: our own word, recomputed.

The market part of its message (``market.part``) says from which offer and which take it follows. One half of it is
ours, and lies in our ledger; the other is signed by who the contract is with.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Final

from btcfi.adapters.party.market_ledger import MarketLedger
from btcfi.adapters.party.membership import Membership
from btcfi.contracts.messages import ContractTerms, Role
from btcfi.errors import ConflictError, InvalidInputError
from btcfi.market.account import REQUEST_SECONDS
from btcfi.market.firm_offer import Deal, early_by
from btcfi.market.part import WHERE, MarketPart, check_part, check_terms, decode_part
from btcfi.units import CentiBtc, Hash32, UnixSeconds

SIGN_SECONDS: Final = 60
"""After an offer lapsed what was agreed to before is still signed, and no longer: whoever holds a half-signed deal back
holds an option on it."""


class LapsedError(ConflictError):
    """An offer or a take whose time is over, by our own clock: nothing of it is signed that was not signed before."""

    def __init__(self, what: str, until: UnixSeconds, now: float) -> None:
        super().__init__(f"{what} was good until {until}, it is {int(now)}; make a new one")
        self.what, self.until = what, until


class TooEarlyError(ConflictError):
    """A take of a step of our own auction that has not begun, by our own clock and all that it may be wrong by."""

    def __init__(self, offer: Hash32, step: int, seconds: int) -> None:
        super().__init__(
            f"offer {offer.hex()[:16]}: its step {step} begins in {seconds} s by our clock; a take of an earlier step "
            "is signed"
        )
        self.offer, self.step, self.seconds = offer, step, seconds


class OfferExhaustedError(ConflictError):
    """More takes of an offer than it was for."""

    def __init__(self, offer: Hash32, *, taken: int, wanted: int, most: int) -> None:
        super().__init__(f"offer {offer.hex()[:16]}: {taken} of {most} are agreed to, and {wanted} more are asked for")
        self.offer, self.taken, self.wanted, self.most = offer, taken, wanted, most


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreed:
    """A deal that our own word and the other side's make, as the contract's file remembers it."""

    offer: Hash32
    quantity: CentiBtc
    """Of this take; hundredths of a bitcoin."""
    most: CentiBtc
    """Of all takes of the offer together."""
    sign_by: UnixSeconds
    """From this second on nothing new is signed, by our clock."""
    held: Callable[[], AbstractContextManager[None]]
    """Holds our ledger, once the offer still stands there and its time is not over: what is saved inside was in time.
    """


def part_of(value: object, member: Membership) -> tuple[MarketPart, Deal]:
    """Return the market part of a JSON value with its deal, all signatures checked, one side of it ours.

    Raises InvalidInputError, and what ``market.part.check_part`` raises.
    """
    part = decode_part(value)
    deal = check_part(part, desk=member.desk)
    if member.identity not in (deal.seller, deal.buyer):
        raise InvalidInputError(WHERE, "a deal between two others", f"one of {member.identity.hex()[:16]}")
    return part, deal


class MarketDeals:
    """One party's deals at the desk that it has joined."""

    def __init__(self, member: Membership, ledger: MarketLedger, *, clock: Callable[[], float] = time.time) -> None:
        self._member, self._ledger, self._clock = member, ledger, clock

    @property
    def member(self) -> Membership:
        """As whom we are at which desk."""
        return self._member

    def agree(self, value: object, *, terms: ContractTerms, role: Role, name: str) -> Agreed:
        """Return what a contract's market part makes of it. terms, role: what we are asked to sign, on which side.

        name: of the contract's messages. Raises InvalidInputError for another's deal or other terms, NotFoundError for
        an offer or a take that is not in our ledger, OfferWithdrawnError, LapsedError, TooEarlyError, and as
        ``part_of``.
        """
        part, deal = part_of(value, self._member)
        offer, take = part.offer.offer, part.take.take
        mine = deal.seller if role is Role.SELLER else deal.buyer
        if mine != self._member.identity:
            raise InvalidInputError(f"{WHERE}.{role.value}", "is the other side", "us, on the side that we are asked")
        if name != take.option_id:
            raise InvalidInputError(WHERE, f"of option {take.option_id[:16]}", f"{name[:16]}, the message's")
        check_terms(terms, deal)

        @contextmanager
        def held() -> Iterator[None]:
            with self._ledger.held():
                self._check_ours(part)
                for what, until in (("the offer", offer.valid_until), ("the take", take.valid_until)):
                    if self._clock() >= until:
                        raise LapsedError(what, until, self._clock())
                self._check_step(part)
                yield

        with held():
            sign_by = UnixSeconds(min(take.valid_until, offer.valid_until + SIGN_SECONDS))
            return Agreed(offer=offer.id, quantity=take.quantity, most=offer.quantity, sign_by=sign_by, held=held)

    def _check_step(self, part: MarketPart) -> None:
        """Refuse a better price of our own auction than our own clock gives by now, or a service's at its fastest."""
        offer, take = part.offer.offer, part.take.take
        if offer.maker != self._member.identity:
            return
        if early := early_by(offer, take, UnixSeconds(int(self._clock()) + REQUEST_SECONDS)):
            raise TooEarlyError(offer.id, take.step or 0, early + REQUEST_SECONDS)

    def _check_ours(self, part: MarketPart) -> None:
        offer, take = part.offer.offer, part.take.take
        self._ledger.check_not_cancelled(take.option_id)
        if offer.maker == self._member.identity:
            self._ledger.offer(offer.id)
        else:
            self._ledger.take(take.id)
