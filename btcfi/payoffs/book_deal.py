"""A net book between two parties, from its messages to what each side signs: all of it computed, nothing received.

Both sides make the agreement from the proposal and the answering side's half: the book and its event say what each
puts in and what every range of prices pays. Before its first signature a side has its own guest compute the ranges
anew (``book_guest.check_agreement``) and its mandate judge what it can lose. Pure: the guest's outputs, the right to
sign and whose coins are whose are arguments.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from btcfi.contracts import netting
from btcfi.contracts.buckets import most_off
from btcfi.contracts.mandate import Authority, BookFacts
from btcfi.contracts.messages import Party, Role
from btcfi.contracts.netting import NettedAgreement, NettedTerms
from btcfi.contracts.setup import SetupPolicy
from btcfi.errors import InvalidInputError
from btcfi.oracle.announcement import CENTS_PER_DOLLAR, DigitPoints, OracleEvent
from btcfi.payoffs.book import BookContract, contract_of
from btcfi.payoffs.book_guest import BookDisagreesError, book_input, check_agreement
from btcfi.payoffs.book_messages import BookTerms, Proposal, contract_id
from btcfi.payoffs.guest import Outputs
from btcfi.units import Hash32, Sats

NO_FEE: Final = Sats(0)


@dataclass(frozen=True, kw_only=True)
class BookDeal:
    """A book's contract between two sides, as either computes it."""

    id: Hash32
    proposal: Proposal
    answering: Party
    contract: BookContract
    netted: NettedAgreement

    @property
    def terms(self) -> BookTerms:
        """What was proposed."""
        return self.proposal.terms

    @cached_property
    def returns(self) -> dict[Role, tuple[Sats, Sats]]:
        """What comes back to each side at least and at most: by every CET and by the refund, fees paid."""
        plan, refund = self.netted.plan, self.netted.refund
        splits = {one: plan.split_of(at) for at, one in enumerate(plan.buckets)}.values()
        held = [*(one.buyer for one in splits), refund.payout]
        rest = [*(one.seller for one in splits), refund.seller_return]
        return {Role.BUYER: (min(held), max(held)), Role.SELLER: (min(rest), max(rest))}

    def puts_in(self, role: Role) -> Sats:
        """Return a side's part of the collateral."""
        return self.contract.holder if role is Role.BUYER else self.contract.writer

    def pays(self, role: Role) -> int:
        """Return the premium that a side pays; below zero: that it receives."""
        return self.terms.premium if role is Role.BUYER else -self.terms.premium

    def fee(self, role: Role) -> Sats:
        """Return a side's part of the funding's fee."""
        funding = self.netted.funding
        return funding.seller_fee if role is Role.SELLER else Sats(funding.fee - funding.seller_fee)

    def worst_loss(self, role: Role) -> Sats:
        """Return the most that a side can lose: what it puts in and pays, less what comes back at least."""
        spent = self.puts_in(role) + self.pays(role) + self.fee(role)
        return Sats(max(0, spent - self.returns[role][0]))

    def rounded_off(self, role: Role) -> Sats:
        """Return the most that a settlement may pay a side less than the guest's own payout would; dust apart."""
        below, above = most_off(
            self.terms.rule, self.netted.plan.buckets, premium=self.terms.legs_premium,
            collateral=self.contract.collateral, own=self.contract.holder,
        )  # fmt: skip
        return below if role is Role.BUYER else above

    def facts(self, role: Role, *, value: int | None) -> BookFacts:
        """Return what a side's mandate judges. value: of the book to its holder in satoshis, by that side's pricing."""
        terms, ours = self.terms, role is self.proposal.role
        return BookFacts(
            role=role, proposer=None if ours else self.proposal.identity, announcements=terms.announcements,
            threshold=terms.threshold, legs=terms.book.count, floor=terms.book.floor or 0,
            collateral=self.contract.collateral, worst_loss=self.worst_loss(role), premium=terms.premium, value=value,
            tolerance=terms.tolerance, rate=terms.rate, cet_fee=terms.cet_fee, expiry_height=terms.expiry_height,
            refund_height=terms.refund_height,
        )  # fmt: skip

    def guest_input(self, outcome: int) -> bytes:
        """Return the guest's input at an attested outcome."""
        event, contract = self.contract.event, self.contract
        return book_input(
            contract.book, event.price_of(outcome), touched=outcome > event.max_price, own=contract.holder,
            collateral=contract.collateral,
        )  # fmt: skip


def book_contract(terms: BookTerms) -> BookContract:
    """Return the contract that a book's terms name: what each side puts in, and what every price pays.

    Raises InvalidInputError for an event that is not the book's, or whose highest price no strike may reach, and for a
    tolerance of more than the collateral.
    """
    if not terms.announcements:
        raise InvalidInputError("oracles", "none", "at least one announcement")
    event = terms.announcements[0].event
    _check_highest(terms, event)
    contract = contract_of(terms.book, event)
    # nobody pays it, so nothing but this holds it down: ranges as wide as it likes would pay half of everything
    if not 1 <= terms.legs_premium <= contract.collateral:
        expected = f"1 to {contract.collateral:,}, the collateral"
        raise InvalidInputError("legs_premium_sats", f"{terms.legs_premium:,}", expected)
    return contract


def _check_highest(terms: BookTerms, event: OracleEvent) -> None:
    """Refuse a level that the event can never attest: whatever the price, it would settle as below it."""
    book, highest = terms.book, event.max_price * CENTS_PER_DOLLAR
    levels = [leg.strike for leg in (*book.legs, *book.knock_outs)] + [book.floor or 0, book.barrier or 0]
    if highest <= max(levels):
        expected = f"a highest price above {max(levels):,} cents"
        raise InvalidInputError("event.digits", f"{event.digits}, at most {highest:,} cents", expected)


def deal(
    proposal: Proposal, answering: Party, *, policy: SetupPolicy, points: tuple[DigitPoints, ...] | None = None
) -> BookDeal:
    """Return the deal of a proposal and the answering side's half. Pure: equal messages give byte-equal transactions.

    policy: this side's. points: computed already, to save time. Raises WrongAnnouncementError, InvalidInputError,
    InsufficientFundsError, SingleOutcomeError, TooManyBucketsError.
    """
    terms = proposal.terms
    contract = book_contract(terms)
    buckets = contract.buckets(terms.rule, premium=terms.legs_premium, limit=policy.max_buckets)
    holder, writer = (
        (proposal.party, answering) if proposal.role is Role.BUYER else (answering, proposal.party)
    )  # fmt: skip
    netted = netting.agree(
        NettedTerms(
            holder=contract.holder, writer=contract.writer, premium=terms.premium, expiry_height=terms.expiry_height,
            refund_height=terms.refund_height, rate=terms.rate, announcements=terms.announcements,
            threshold=terms.threshold, cet_fee=terms.cet_fee,
        ),
        buckets, holder=holder, writer=writer, event=contract.event, policy=policy, points=points,
    )  # fmt: skip
    return BookDeal(
        id=contract_id(proposal, answering), proposal=proposal, answering=answering, contract=contract, netted=netted
    )  # fmt: skip


@dataclass(kw_only=True)
class BookOwner:
    """Who may refuse for one side of a book (``netting.Owner``): its own guest first, then its mandate."""

    deal: BookDeal
    authority: Authority
    outputs_of: Outputs
    value: int | None
    """Of the book to its holder, in satoshis, by this side's own pricing."""
    computed: Collection[Hash32] = ()
    """Contracts whose ranges our guest has computed already, by their ids."""

    def check_netted(self, agreement: NettedAgreement, role: Role) -> None:
        """Refuse an agreement that is not this deal's, ranges that are not the guest's, what the mandate refuses."""
        if agreement is not self.deal.netted:
            raise BookDisagreesError("agreement", "another", "the one of this deal")
        if self.deal.id not in self.computed:
            check_ranges(self.deal, self.outputs_of)
        self.authority.check_book(self.deal.facts(role, value=self.value))


def check_ranges(made: BookDeal, outputs_of: Outputs) -> None:
    """Check a deal's event, parts and ranges by runs of our own guest. Raises BookDisagreesError."""
    terms = made.terms
    check_agreement(made.contract, made.netted, outputs_of, rule=terms.rule, premium=terms.legs_premium)


def draft_facts(
    terms: BookTerms, contract: BookContract, role: Role, *, value: int | None, fee: Sats = NO_FEE
) -> BookFacts:  # fmt: skip
    """Return what a side's mandate judges before there is another side: it may lose all that it puts in and pays."""
    puts_in = contract.holder if role is Role.BUYER else contract.writer
    pays = terms.premium if role is Role.BUYER else -terms.premium
    return BookFacts(
        role=role, proposer=None, announcements=terms.announcements, threshold=terms.threshold, legs=terms.book.count,
        floor=terms.book.floor or 0, collateral=contract.collateral, worst_loss=Sats(max(0, puts_in + pays + fee)),
        premium=terms.premium, value=value, tolerance=terms.tolerance, rate=terms.rate, cet_fee=terms.cet_fee,
        expiry_height=terms.expiry_height, refund_height=terms.refund_height,
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class BookSummary:
    """A book as one side sees it before it signs."""

    deal: BookDeal
    role: Role
    value: int | None
    mandate: int
    """The number of the mandate under which it is signed."""

    @property
    def contract(self) -> Hash32:
        """Its identity."""
        return self.deal.id
