"""What an owner lets its software sign: one file with bounds for every term, signed by the owner's identity key.

Every function that signs a contract takes an ``Authority`` and asks it before the first signature; whoever has none
signs nothing. Net books (``btcfi.payoffs.book_deal``) and disputed contracts (``btcfi.disputes``) have a rule of their
own in it each; without one it allows none.
Refunds and the children of settlements need none: they bring the owner's own money home.
Pure: the clock, the chain's height and what is at stake already come in as a ``Situation``.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from btcfi import secp256k1
from btcfi.bitcoin.address import NETWORKS
from btcfi.contracts.buckets import StepRule
from btcfi.contracts.messages import ContractTerms, Role, canonical
from btcfi.contracts.option import expected_height
from btcfi.contracts.payouts import breakpoints_of, check_option_of, decode_terms
from btcfi.errors import BtcfiError, InvalidInputError
from btcfi.hashes import tagged_hash
from btcfi.options.expiry import SettlementInput
from btcfi.options.terms import OptionKind, OptionTerms, check_style
from btcfi.oracle.announcement import CENTS_PER_DOLLAR, FOREIGN, Announcement, OracleEvent
from btcfi.oracle.fixing import EXPECTED, MINUTE, Fixing, parse_fixing
from btcfi.records import Refused, Rule, hexadecimal, listed, record, whole
from btcfi.units import Hash32, Height, Sats, UnixSeconds

TYPE: Final = "btcfi/mandate"
MANDATE_VERSION: Final = 1

MAX_ENTRIES: Final = 64

DISPUTE_KINDS: Final = ("price", "mean", "median", "knock-out", "average-strike-call", "average-strike-put")
"""What disputed contracts compute: ``btcfi.disputes.garbled.deal.Kind``."""

_TAG: Final = "BTCFi/mandate/v1"
_WIDEST: Final = 1 << 53
_BASIS: Final = 10_000
_UNASKED: Final = UnixSeconds(0)


class WrongMandateError(BtcfiError):
    """A mandate that nothing may be signed under: not the owner's, not valid now, revoked."""

    def __init__(self, problem: str, advice: str) -> None:
        super().__init__(f"mandate: {problem}; nothing was signed. {advice}")
        self.problem = problem


AS_SAID: Final = ", as your mandate "
"""In every refusal that names what a mandate allows: for its owner, and no other side."""


class OutsideMandateError(InvalidInputError):
    """Something that the owner has not allowed: which term, what it is, and what the mandate says."""

    def __init__(self, number: int, field: str, problem: str, allowed: str) -> None:
        super().__init__(field, problem, f"{allowed}{AS_SAID}{number} says; nothing was signed")
        self.number = number


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """Both ends of what a number may be, ends included."""

    least: int
    most: int

    def __post_init__(self) -> None:
        """Raise InvalidInputError when nothing lies between the ends."""
        if self.least > self.most:
            raise InvalidInputError("bounds", f"[{self.least}, {self.most}]", "[least, most], in this order")

    def __contains__(self, value: int) -> bool:
        return self.least <= value <= self.most

    def __str__(self) -> str:
        return f"{self.least:,} to {self.most:,}"


class CloseRule(Enum):
    """When a contract may be closed before its end, together with the other side."""

    NEVER = "never"
    GUEST = "guest"
    """At the payout that the guest computes on an input of this contract, at a price inside ``close_price``."""
    AGREED = "agreed"
    """Also at a payout that the owner states by hand, with no input."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BookRule:
    """What net books an owner allows; oracles, feeds, fees, heights, life and closes are as for any other contract."""

    roles: tuple[Role, ...]
    """Sides that may be taken: the holder signs as buyer, the writer as seller."""
    programs: tuple[Hash32, ...]
    """Guest programs that may decide a book's payout; those of single options decide none."""
    proposers: tuple[bytes, ...]
    """Identities, x-only, whose proposals may be answered; none named: anybody's, once the owner says yes to it."""
    collateral: Bounds
    """Of both sides together, in satoshis."""
    worst_loss: Sats
    """The most that this side may lose by one book: what it puts in and pays, fees included, less what comes back."""
    premium: Bounds
    """What the holder pays the writer, in satoshis; below zero: what the writer pays."""
    value_slack: Sats | None
    """By how much the premium may be worse for this side than its own value of the book; None: no value is asked."""
    floor: Bounds
    """Of a book's floor price, in cents; a book without a floor has 0."""
    legs: int
    """The most that a book may have."""
    barrier: bool

    def __post_init__(self) -> None:
        """Raise InvalidInputError for what allows nothing, or names one thing twice."""
        for name in ("roles", "programs"):
            values = getattr(self, name)
            if not values or len(set(values)) != len(values):
                problem = "empty, or one stands twice"
                raise InvalidInputError(f"mandate.books.{name}", problem, "at least one, each once")
        if len(set(self.proposers)) != len(self.proposers):
            raise InvalidInputError("mandate.books.proposers", "one stands twice", "each once, or none for anybody")
        if not all(secp256k1.is_xonly_key(key) for key in self.proposers):
            raise InvalidInputError("mandate.books.proposers", "one is not on the curve", "x coordinates of points")


@dataclass(frozen=True, slots=True, kw_only=True)
class BookFacts:
    """A net book's contract as one side has computed it itself, for its mandate to judge."""

    role: Role
    """This side's."""
    proposer: bytes | None
    """Whose proposal it is, x-only; None: our own."""
    announcements: tuple[Announcement, ...]
    threshold: int
    legs: int
    floor: int
    """Cents; 0: none."""
    collateral: Sats
    worst_loss: Sats
    premium: int
    """What the holder pays; below zero: receives."""
    value: int | None
    """What the book is worth to its holder in satoshis, by this side's own pricing; None: it has not priced it."""
    tolerance: int
    """Basis points."""
    rate: int
    """Of the funding, in sat/kvB."""
    cet_fee: Sats
    expiry_height: Height
    refund_height: Height


@dataclass(frozen=True, slots=True, kw_only=True)
class DisputeRule:
    """What disputed contracts an owner allows; oracles, feeds, the opening's rate, life and closes as for any.

    Nothing here prices them: whether what the ranges pay is worth the premium is for the owner to see, so whoever lets
    its software answer unasked names the proposers.
    """

    roles: tuple[Role, ...]
    """Sides that may be taken: the claimant signs as seller, the verifier as buyer."""
    kinds: tuple[str, ...]
    """What may be computed of the attested outcomes: ``DISPUTE_KINDS``."""
    proposers: tuple[bytes, ...]
    """Identities, x-only, whose proposals may be answered; none named: anybody's, once the owner says yes to it."""
    collateral: Bounds
    """The most that the verifier can be owed, in satoshis."""
    worst_loss: Sats
    """The most that this side may put in, fees apart: by a mistake, or an absence, it can lose all of it."""
    premium: Bounds
    """What the verifier pays the claimant, in satoshis; below zero: what the claimant pays."""
    bond: Bounds
    """The claimant's, in satoshis: what holds it back from a false claim."""
    challenge_bond: Bounds
    """The verifier's, in satoshis; 0 where digits are claimed at once."""
    fee: Bounds
    """Of each transaction by itself, in satoshis; a child pays what is asked for at the time."""
    events: int
    """The most outcomes that one may be made of."""
    dispute_blocks: Bounds
    """In which a claim is looked at and answered: who is away for longer loses."""
    claim_delay: Bounds
    """Blocks from the height that is expected at the last event to where the verifier may claim silence."""
    refund_delay: Bounds
    """Blocks from there to where the claimant takes back what nobody claimed."""

    def __post_init__(self) -> None:
        """Raise InvalidInputError for what allows nothing, or names one thing twice."""
        for name in ("roles", "kinds"):
            values = getattr(self, name)
            if not values or len(set(values)) != len(values):
                problem = "empty, or one stands twice"
                raise InvalidInputError(f"mandate.disputes.{name}", problem, "at least one, each once")
        if unknown := set(self.kinds) - set(DISPUTE_KINDS):
            raise InvalidInputError("mandate.disputes.kinds", f"{min(unknown)!r}", "of " + ", ".join(DISPUTE_KINDS))
        if len(set(self.proposers)) != len(self.proposers):
            raise InvalidInputError("mandate.disputes.proposers", "one stands twice", "each once, or none for anybody")
        if not all(secp256k1.is_xonly_key(key) for key in self.proposers):
            expected = "x coordinates of points"
            raise InvalidInputError("mandate.disputes.proposers", "one is not on the curve", expected)


@dataclass(frozen=True, slots=True, kw_only=True)
class DisputeFacts:
    """A disputed contract as one side reads it, for its mandate to judge."""

    role: Role
    """This side's."""
    proposer: bytes | None
    """Whose proposal it is, x-only; None: our own."""
    kind: str
    events: tuple[tuple[Announcement, ...], ...]
    threshold: int
    collateral: Sats
    bond: Sats
    challenge_bond: Sats
    premium: int
    """What the verifier pays; below zero: receives."""
    stake: Sats
    """What this side puts in, fees apart."""
    rate: int
    """Of the opening, in sat/kvB."""
    fee: Sats
    dispute_blocks: int
    claim_height: Height
    """0 where a claim needs what was attested."""
    silence_height: Height
    refund_height: Height


@dataclass(frozen=True, slots=True, kw_only=True)
class Mandate:
    """The owner's word. A higher number replaces a lower one."""

    number: int
    valid_from: UnixSeconds
    valid_until: UnixSeconds
    networks: tuple[str, ...]
    roles: tuple[Role, ...]
    """Sides of an option that may be taken."""
    kinds: tuple[OptionKind, ...]
    american: bool
    """Whether options may be exercised early."""
    barrier: bool
    """Whether options may have a barrier."""
    feeds: tuple[str, ...]
    programs: tuple[Hash32, ...]
    """Guest programs that may decide a payout."""
    presets: tuple[Hash32, ...]
    """Rules by which the oracles may agree on the price; none named: whatever rule the oracles announce."""
    oracle_keys: tuple[bytes, ...]
    """x-only, 32 bytes each: the oracles of a contract are exactly these."""
    threshold: int
    """How many of them must agree: exactly so many."""
    collateral: Bounds
    """Of one contract, in satoshis."""
    exposure: Sats
    """Of all open contracts together: a seller's collaterals and a buyer's premiums."""
    premium: Bounds
    """In satoshis."""
    premium_share: Bounds
    """Of the collateral, in basis points."""
    step_share: Bounds
    """Of the collateral, in basis points: payouts of contracts of versions 1 and 2 are rounded to a step."""
    funding_rate: Bounds
    """Of the funding, in sat/kvB."""
    cet_fee: Bounds
    """What a settlement pays by itself, in satoshis."""
    life: Bounds
    """Seconds from now to the expiry."""
    window_slack: int
    """Seconds by which the beginning of a barrier's window may differ from now."""
    expiry_slack: Bounds
    """Blocks by which the expiry height may differ from the height that is expected at the expiry."""
    refund_delay: Bounds
    """Blocks from the expiry height to the refund height."""
    close: CloseRule
    close_price: Bounds
    """In cents: what the input of a close may say that a bitcoin costs."""
    close_rate: Bounds
    """Of a close, in sat/kvB."""
    close_fee: Sats
    """The most that a close may pay in fees."""
    unbidden: bool
    """Whether everything inside these bounds is wanted, from whomever; else only what an order or a bid says, too."""
    fixings: tuple[Fixing, ...] = ()
    """What a contract may settle on; none named: whatever the option says, as every mandate of an earlier release."""
    tolerance: Bounds | None = None
    """Of the premium or the payout, in basis points: what a range of prices may differ by. None, as in every mandate of
    an earlier release: up to the most of ``step_share``, whose share of the collateral is never less."""
    books: BookRule | None = None
    """Net books that may be signed. None, as in every mandate of an earlier release: no book is."""
    disputes: DisputeRule | None = None
    """Disputed contracts that may be signed. None, as in every mandate of an earlier release: none is."""

    @property
    def tolerances(self) -> Bounds:
        """What a contract's tolerance may be, in basis points."""
        return self.tolerance or Bounds(least=0, most=max(0, self.step_share.most))

    def __post_init__(self) -> None:
        """Raise InvalidInputError for what allows nothing, or a threshold that its oracles cannot meet."""
        for name in ("networks", "roles", "kinds", "feeds", "programs", "oracle_keys"):
            values = getattr(self, name)
            if not values or len(set(values)) != len(values):
                raise InvalidInputError(f"mandate.{name}", "empty, or one stands twice", "at least one, each once")
        unknown = set(self.networks) - set(NETWORKS)
        if unknown:
            raise InvalidInputError("mandate.networks", f"{min(unknown)!r}", "of " + ", ".join(NETWORKS))
        if not all(secp256k1.is_xonly_key(key) for key in self.oracle_keys):
            raise InvalidInputError("mandate.oracle_keys", "one is not on the curve", "x coordinates of points")
        if not 1 <= self.threshold <= len(self.oracle_keys):
            raise InvalidInputError("mandate.threshold", f"{self.threshold}", f"1 to {len(self.oracle_keys)} oracles")
        if self.unbidden and "main" in self.networks:
            expected = "false: what coins that are worth something are given for, an order or a bid says"
            raise InvalidInputError("mandate.unbidden", "true on main", expected)
        if len(set(self.fixings)) != len(self.fixings):
            raise InvalidInputError("mandate.fixings", "one stands twice", "each once, or none for any")
        if self.valid_from >= self.valid_until:
            raise InvalidInputError("mandate.valid_until", f"{self.valid_until}", f"later than {self.valid_from}")


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedMandate:
    """A mandate with the key that vouches for it."""

    mandate: Mandate
    identity: bytes
    """The owner's identity key, x-only, 32 bytes."""
    signature: bytes
    """BIP340, 64 bytes, over the tagged hash of the canonical body."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """What the owner's software sees at the moment of signing, by its own node and its own files."""

    network: str
    """As the node names its chain."""
    height: Height
    time: UnixSeconds
    """The chain's: the median time of the tip."""
    exposure: Sats
    """At stake in the owner's other open contracts."""
    clock: UnixSeconds = _UNASKED
    """The machine's own; the chain's is up to two hours behind it. 0: not asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Authority:
    """The right to sign now: a signed mandate, the identity that the owner is known by, and the situation."""

    signed: SignedMandate
    identity: bytes
    situation: Situation

    @property
    def mandate(self) -> Mandate:
        """What the owner has signed."""
        return self.signed.mandate

    def check_contract(self, terms: ContractTerms, role: Role) -> None:
        """Check every term of a contract that is to be signed on this side.

        Raises WrongMandateError for a mandate that is not the owner's or not valid now, OutsideMandateError naming
        the first term outside it, InvalidInputError for an event that is not this option's.
        """
        self._check_validity()
        option = decode_terms(terms.option)
        check_option_of(terms, option)
        check_event(option, terms.announcements[0].event if terms.announcements else None)
        self._check_instrument(option, terms, role)
        self._check_oracles(terms)
        self._check_amounts(terms, role)
        self._check_heights(option, terms)

    def check_deal(self, option: OptionTerms, *, premium: Sats, role: Role) -> None:
        """Check what a market's deal says of its contract, before anybody makes one: kind, side, amounts.

        A promise that our own software will not keep is better not made. What the service and the chain add, heights,
        oracles, fees, is checked when it is signed. Raises OutsideMandateError.
        """
        self._check_kind(option, role)
        self._check_price(option.collateral, premium)
        self._check_exposure(option.collateral if role is Role.SELLER else premium)

    def check_book(self, facts: BookFacts) -> None:
        """Check a net book's contract that is to be signed on this side. Raises as ``check_contract``."""
        self._check_validity()
        mandate, rule = self.mandate, self.mandate.books
        if rule is None:
            self._refuse("book", f"of {facts.legs} legs", "no books at all")
            return
        self._among("book.role", facts.role.value, [one.value for one in rule.roles])
        if facts.proposer is not None and rule.proposers and facts.proposer not in rule.proposers:
            known = ", ".join(one.hex()[:16] for one in rule.proposers)
            self._refuse("book.proposer", facts.proposer.hex()[:16], known)
        event = facts.announcements[0].event
        self._check_event(event, rule.programs, fixings=mandate.fixings)
        if event.condition and not rule.barrier:
            self._refuse("book.barrier", repr(event.condition), "none")
        self._check_oracle_keys(facts.announcements, facts.threshold)
        self._within("book.legs", facts.legs, Bounds(least=1, most=rule.legs))
        self._within("book.floor_cents", facts.floor, rule.floor)
        self._within("book.collateral_sats", facts.collateral, rule.collateral)
        self._within("book.worst_loss_sats", facts.worst_loss, Bounds(least=0, most=rule.worst_loss))
        self._within("book.premium_sats", facts.premium, rule.premium)
        if rule.value_slack is not None:
            self._check_value(facts, rule.value_slack)
        self._within("book.tolerance_bps", facts.tolerance, mandate.tolerances)
        self._within("book.funding_sats_per_kvb", facts.rate, mandate.funding_rate)
        self._within("book.cet_fee_sats", facts.cet_fee, mandate.cet_fee)
        self._check_exposure(facts.worst_loss)
        self._check_expiry("book.expiry_unix", event.expiry, facts.expiry_height, facts.refund_height)
        now = max(self.situation.time, self.situation.clock)
        begins = event.expiry if event.fixing == MINUTE else event.fixing.window(event.expiry)[0]
        if mandate.life.least >= 0 and now >= begins:  # else expiries may lie in the past, as in a replay
            self._refuse("book.expiry_unix", f"{event.expiry}, and it is {now}", f"a book before {begins}")

    def _check_value(self, facts: BookFacts, slack: Sats) -> None:
        allowed = f"at most {slack:,} sats worse than your own value of the book"
        if facts.value is None:
            self._refuse("book.value_sats", "none of your own", f"{allowed}: price it (--spot, --volatility)")
            return
        worse = facts.premium - facts.value if facts.role is Role.BUYER else facts.value - facts.premium
        if worse > slack:
            self._refuse("book.premium_sats", f"{facts.premium:,} for what is worth {facts.value:,}", allowed)

    def check_dispute(self, facts: DisputeFacts) -> None:
        """Check a disputed contract that is to be signed on this side. Raises as ``check_contract``."""
        self._check_validity()
        mandate, rule = self.mandate, self.mandate.disputes
        if rule is None:
            self._refuse("dispute", f"over {len(facts.events)} outcomes", "no disputed contracts at all")
            return
        self._among("dispute.role", facts.role.value, [one.value for one in rule.roles])
        self._among("dispute.kind", facts.kind, rule.kinds)
        if facts.proposer is not None and rule.proposers and facts.proposer not in rule.proposers:
            known = ", ".join(one.hex()[:16] for one in rule.proposers)
            self._refuse("dispute.proposer", facts.proposer.hex()[:16], known)
        self._within("dispute.events", len(facts.events), Bounds(least=1, most=rule.events))
        for announcements in facts.events:
            self._check_oracle_keys(announcements, facts.threshold)
            event = announcements[0].event
            self._among("event.feed", event.feed, mandate.feeds)
            if mandate.presets:
                known_presets = [one.hex()[:16] for one in mandate.presets]
                self._among("event.preset_hash", event.preset_hash.hex()[:16], known_presets)
        amounts = {
            "collateral_sats": (facts.collateral, rule.collateral), "premium_sats": (facts.premium, rule.premium),
            "bond_sats": (facts.bond, rule.bond), "challenge_bond_sats": (facts.challenge_bond, rule.challenge_bond),
            "worst_loss_sats": (facts.stake, Bounds(least=0, most=rule.worst_loss)),
            "fee_sats": (facts.fee, rule.fee), "funding_sats_per_kvb": (facts.rate, mandate.funding_rate),
            "dispute_blocks": (facts.dispute_blocks, rule.dispute_blocks),
        }  # fmt: skip
        for name, (value, bounds) in amounts.items():
            self._within(f"dispute.{name}", value, bounds)
        self._check_exposure(facts.stake)
        self._check_dispute_heights(facts, rule)

    def _check_dispute_heights(self, facts: DisputeFacts, rule: DisputeRule) -> None:
        here, expiries = self.situation, [event[0].event.expiry for event in facts.events]
        for expiry in expiries:
            self._within("dispute.expiry_unix (seconds from now)", expiry - here.time, self.mandate.life)
        now = max(here.time, here.clock)
        if self.mandate.life.least >= 0 and now >= min(expiries):  # as of a book: a replay's lie in the past
            self._refuse("dispute.expiry_unix", f"{min(expiries)}, and it is {now}", "outcomes that are all to come")
        last = expected_height(here.height, max(expiries) - here.time)
        if facts.claim_height:  # a claim that shows its range alone, before anybody can know what is right
            slack = self.mandate.expiry_slack
            self._within(f"dispute.claim_height (beyond {last})", facts.claim_height - last, slack)
        self._within(f"dispute.silence_height (beyond {last})", facts.silence_height - last, rule.claim_delay)
        beyond = facts.refund_height - facts.silence_height
        self._within("dispute.refund_height (beyond silence_height)", beyond, rule.refund_delay)

    def check_close(self, *, payout: Sats, rate: int, fee: Sats, guest_input: bytes) -> None:
        """Check a close that is to be signed. fee: what the transaction pays. Raises as ``check_contract``.

        guest_input: empty when the payout is what the owner states; that the guest computes the payout on it, and
        that it is this contract's input, the caller has checked.
        """
        self._check_validity()
        mandate = self.mandate
        if mandate.close is CloseRule.NEVER:
            self._refuse("close", f"at {payout:,} sats", "never")
        if not guest_input and mandate.close is not CloseRule.AGREED:
            self._refuse("close.guest_input", "missing", "only what the guest computes")
        if guest_input:
            self._within("close.price", SettlementInput.from_bytes(guest_input).spot, mandate.close_price)
        self._within("close.sats_per_kvb", rate, mandate.close_rate)
        self._within("close.fee_sats", fee, Bounds(least=0, most=mandate.close_fee))

    def _check_validity(self) -> None:
        check_mandate(self.signed, self.identity)
        mandate, now = self.mandate, self.situation.time
        if not mandate.valid_from <= now < mandate.valid_until:
            problem = (
                f"number {mandate.number} is valid from {mandate.valid_from} to {mandate.valid_until}, it is {now}"
            )
            raise WrongMandateError(problem, "Make a new one: `btcfi party mandate new`.")
        if self.situation.network not in mandate.networks:
            self._refuse("network", f"your node is on {self.situation.network!r}", " or ".join(mandate.networks))

    def _check_instrument(self, option: OptionTerms, terms: ContractTerms, role: Role) -> None:
        self._check_kind(option, role)
        self._check_event(terms.announcements[0].event, self.mandate.programs)

    def _check_event(
        self, event: OracleEvent, programs: Collection[Hash32], *, fixings: Collection[Fixing] = ()
    ) -> None:  # fmt: skip
        mandate = self.mandate
        self._among("event.feed", event.feed, mandate.feeds)
        if fixings:
            self._among("event.fixing", str(event.fixing), [str(one) for one in fixings])
        if event.program_hash not in programs:
            known = ", ".join(one.hex()[:16] for one in programs)
            self._refuse("event.program_hash", event.program_hash.hex()[:16], known)
        if mandate.presets and event.preset_hash not in mandate.presets:
            known = ", ".join(one.hex()[:16] for one in mandate.presets)
            self._refuse("event.preset_hash", event.preset_hash.hex()[:16], known)
        if event.condition and abs(window_of(event)[0] - self.situation.time) > mandate.window_slack:
            problem = f"the barrier counts from {window_of(event)[0]}, it is {self.situation.time}"
            self._refuse("event.condition", problem, f"within {mandate.window_slack:,} seconds of now")

    def _check_kind(self, option: OptionTerms, role: Role) -> None:
        mandate = self.mandate
        self._among("role", role.value, [one.value for one in mandate.roles])
        self._among("option.kind", option.kind.label, [one.label for one in mandate.kinds])
        if option.american and not mandate.american:
            self._refuse("option.american", "true", "false")
        check_style(option.window, american=option.american)
        if option.barrier is not None and not mandate.barrier:
            self._refuse("option.barrier_cents", f"{option.barrier:,}", "none")
        if mandate.fixings:
            self._among("option.fixing", str(option.window), [str(one) for one in mandate.fixings])

    def _check_oracles(self, terms: ContractTerms) -> None:
        self._check_oracle_keys(terms.announcements, terms.threshold)

    def _check_oracle_keys(self, announcements: Collection[Announcement], threshold: int) -> None:
        mandate, theirs = self.mandate, [one.oracle_key for one in announcements]
        strangers = [key.hex()[:16] for key in theirs if key not in mandate.oracle_keys]
        if strangers:
            known = ", ".join(key.hex()[:16] for key in mandate.oracle_keys)
            self._refuse("oracles", f"{', '.join(strangers)} among them", f"exactly {known}")
        if sorted(theirs) != sorted(mandate.oracle_keys):
            self._refuse("oracles", f"{len(theirs)} of them", f"all {len(mandate.oracle_keys)}, each once")
        if threshold != mandate.threshold:
            self._refuse("threshold", f"{threshold}", f"{mandate.threshold}")

    def _check_amounts(self, terms: ContractTerms, role: Role) -> None:
        mandate = self.mandate
        self._check_price(terms.collateral, terms.premium)
        if isinstance(terms.rule, StepRule):
            self._share("step_sats", terms.rule.step, terms.collateral, mandate.step_share)
        else:
            self._within("tolerance_bps", terms.rule.tolerance, mandate.tolerances)
        self._within("funding_sats_per_kvb", terms.rate, mandate.funding_rate)
        self._within("cet_fee_sats", terms.cet_fee, mandate.cet_fee)
        self._check_exposure(stake_of(terms, role))

    def _check_price(self, collateral: Sats, premium: Sats) -> None:
        self._within("collateral_sats", collateral, self.mandate.collateral)
        self._within("premium_sats", premium, self.mandate.premium)
        self._share("premium_sats", premium, collateral, self.mandate.premium_share)

    def _check_exposure(self, stake: Sats) -> None:
        if self.situation.exposure + stake > self.mandate.exposure:
            problem = f"{stake:,} sats more than the {self.situation.exposure:,} at stake"
            self._refuse("exposure", problem, f"at most {self.mandate.exposure:,} sats in all")

    def _check_heights(self, option: OptionTerms, terms: ContractTerms) -> None:
        mandate, here = self.mandate, self.situation
        if mandate.life.least >= 0 and option.expiry - here.time in mandate.life:
            # else expiries may lie in the past: in a replay no clock is the market's
            check_life(option, max(here.time, here.clock))
        self._check_expiry("option.expiry_unix", option.expiry, terms.expiry_height, terms.refund_height)

    def _check_expiry(self, field: str, expiry: int, expiry_height: int, refund_height: int) -> None:
        mandate, here = self.mandate, self.situation
        self._within(f"{field} (seconds from now)", expiry - here.time, mandate.life)
        expected = expected_height(here.height, expiry - here.time)
        self._within(f"expiry_height (beyond {expected})", expiry_height - expected, mandate.expiry_slack)
        self._within("refund_height (beyond the expiry height)", refund_height - expiry_height, mandate.refund_delay)

    def _within(self, field: str, value: int, bounds: Bounds) -> None:
        if value not in bounds:
            self._refuse(field, f"{value:,}", f"{bounds}")

    def _share(self, field: str, part: Sats, whole_of: Sats, bounds: Bounds) -> None:
        # compared without dividing: a share is exact
        if not bounds.least * whole_of <= part * _BASIS <= bounds.most * whole_of:
            allowed = f"{bounds} basis points of the collateral"
            self._refuse(field, f"{part:,} of {whole_of:,} sats", allowed)

    def _among(self, field: str, value: str, known: Collection[str]) -> None:
        if value not in known:
            self._refuse(field, repr(value), " or ".join(known))

    def _refuse(self, field: str, problem: str, allowed: str) -> None:
        raise OutsideMandateError(self.mandate.number, field, problem, allowed)


def stake_of(terms: ContractTerms, role: Role) -> Sats:
    """Return what a side can lose by a contract, fees apart: the seller its collateral, the buyer its premium."""
    return terms.collateral if role is Role.SELLER else terms.premium


def check_life(option: OptionTerms, now: UnixSeconds) -> None:
    """Refuse an option that is signed when its window has begun. Raises InvalidInputError.

    It is sold a minute before that at the latest (``validate_terms``), which leaves the messages time to be carried.
    """
    window = option.window
    if window != MINUTE and now > (begins := window.window(option.expiry)[0]):
        problem = f"{option.expiry}, the window of {window} began at {begins}, and it is {now}"
        raise InvalidInputError("option.expiry_unix", problem, "a contract before its window begins, or fixing minute")


# ---- this option's event


_CONDITION: Final = re.compile(
    r"agreed price (>=|<=) ([1-9][0-9]{0,9}) cents between ([1-9][0-9]{0,12}) and ([1-9][0-9]{0,12})"
)
"""As ``payouts.condition_of`` writes it."""


def check_event(option: OptionTerms, event: OracleEvent | None) -> None:
    """Check that an event is an option's: its minute, its fixing, and for a knock-out its barrier and its direction.

    An option that names a fixing has an event of version 2, one of an earlier release an event of version 1. The event
    of another house's oracle (version 3) is of one minute, so its option settles on one.

    Raises InvalidInputError naming what is another's.
    """
    if event is None:
        raise InvalidInputError("oracles", "none", "at least one announcement")
    if event.expiry != option.expiry:
        raise InvalidInputError("event.expiry_unix", f"{event.expiry}", f"{option.expiry}, the option's expiry")
    if event.version not in (FOREIGN, version := 1 if option.fixing is None else 2):
        says = "names no fixing" if option.fixing is None else f"names the fixing {option.fixing}"
        raise InvalidInputError("event.version", f"{event.version}", f"{version}, for the option {says}")
    if event.fixing != option.window:
        raise InvalidInputError("event.fixing", f"{event.fixing}", f"{option.window}, the option's")
    highest = event.max_price * CENTS_PER_DOLLAR
    if highest <= max(breakpoints_of(option)):  # whatever the price, it would be attested as that
        expected = f"a highest price above {max(breakpoints_of(option)):,} cents"
        raise InvalidInputError("event.digits", f"{event.digits}, at most {highest:,} cents", expected)
    if (option.barrier is None) != (event.condition == ""):
        problem = "none" if not event.condition else repr(event.condition)
        expected = "none, for the option has no barrier" if option.barrier is None else "that the barrier was touched"
        raise InvalidInputError("event.condition", problem, expected)
    if option.barrier is not None:
        since, wanted = window_of(event)[0], ">=" if option.barrier > option.strike else "<="
        expected = f"agreed price {wanted} {option.barrier} cents between {since} and {option.expiry}"
        if event.condition != expected or since >= option.expiry:
            raise InvalidInputError("event.condition", repr(event.condition), repr(expected))


def window_of(event: OracleEvent) -> tuple[int, int]:
    """Return from when to when an event's condition is looked at. Raises InvalidInputError for another text."""
    return _window(event.condition)


def condition_since(condition: str) -> int:
    """Return after which minute a condition is looked at. Raises as ``window_of``."""
    return _window(condition)[0]


def _window(condition: str) -> tuple[int, int]:
    found = _CONDITION.fullmatch(condition)
    if found is None:
        expected = "agreed price >= CENTS cents between UNIX and UNIX, or <="
        raise InvalidInputError("event.condition", repr(condition), expected)
    return int(found[3]), int(found[4])


# ---- signing, reading and writing


def sign_mandate(mandate: Mandate, secret: bytes, aux: bytes = bytes(32)) -> SignedMandate:
    """Return the mandate signed by an identity secret. aux: 32 fresh random bytes, or none."""
    digest = mandate_digest(mandate)
    return SignedMandate(
        mandate=mandate,
        identity=secp256k1.public_key_xonly(secret),
        signature=secp256k1.schnorr_sign(secret, digest, aux),
    )


def check_mandate(signed: SignedMandate, identity: bytes) -> None:
    """Check whose word a mandate is. identity: x-only key of the owner. Raises WrongMandateError."""
    if signed.identity != identity:
        raise WrongMandateError(
            f"it is signed by {signed.identity.hex()[:16]}, your identity is {identity.hex()[:16]}",
            "Sign one: `btcfi party mandate sign FILE`.",
        )
    if not secp256k1.schnorr_verify(identity, mandate_digest(signed.mandate), signed.signature):
        raise WrongMandateError("its signature is not its owner's", "Sign it again: `btcfi party mandate sign FILE`.")


def mandate_digest(mandate: Mandate) -> Hash32:
    """Return what the identity key signs."""
    return tagged_hash(_TAG, canonical(encode_mandate(mandate)))


def encode_mandate(mandate: Mandate) -> dict[str, Any]:
    """Return the mandate's terms as JSON, not signed: what an owner edits."""
    pair = {name: [bounds.least, bounds.most] for name in _BOUNDED for bounds in [getattr(mandate, name)]}
    also: dict[str, Any] = {_BOUNDED[name]: values for name, values in pair.items()}
    if mandate.fixings:  # what names none stays the bytes that an earlier release signed
        also["fixings"] = [str(one) for one in mandate.fixings]
    if mandate.tolerance is not None:
        also["tolerance_basis_points"] = [mandate.tolerance.least, mandate.tolerance.most]
    if mandate.books is not None:
        also["books"] = _encode_books(mandate.books)
    if mandate.disputes is not None:
        also["disputes"] = _encode_disputes(mandate.disputes)
    return {
        "type": TYPE,
        "version": MANDATE_VERSION,
        "number": mandate.number,
        "valid_from_unix": mandate.valid_from,
        "valid_until_unix": mandate.valid_until,
        "networks": list(mandate.networks),
        "roles": [one.value for one in mandate.roles],
        "kinds": [one.label for one in mandate.kinds],
        "american": mandate.american,
        "barrier": mandate.barrier,
        "feeds": list(mandate.feeds),
        "programs": [one.hex() for one in mandate.programs],
        "presets": [one.hex() for one in mandate.presets],
        "oracle_keys": [one.hex() for one in mandate.oracle_keys],
        "threshold": mandate.threshold,
        "exposure_sats": mandate.exposure,
        "window_slack_seconds": mandate.window_slack,
        "close": mandate.close.value,
        "close_fee_sats": mandate.close_fee,
        "unbidden": mandate.unbidden,
    } | also


def _encode_books(rule: BookRule) -> dict[str, Any]:
    return {
        "roles": [one.value for one in rule.roles],
        "programs": [one.hex() for one in rule.programs],
        "proposers": [one.hex() for one in rule.proposers],
        "collateral_sats": [rule.collateral.least, rule.collateral.most],
        "worst_loss_sats": rule.worst_loss,
        "premium_sats": [rule.premium.least, rule.premium.most],
        "value_slack_sats": rule.value_slack,
        "floor_cents": [rule.floor.least, rule.floor.most],
        "legs": rule.legs,
        "barrier": rule.barrier,
    }


def _encode_disputes(rule: DisputeRule) -> dict[str, Any]:
    bounds = {written: getattr(rule, name) for name, written in _DISPUTE_BOUNDED.items()}
    return {
        "roles": [one.value for one in rule.roles],
        "kinds": list(rule.kinds),
        "proposers": [one.hex() for one in rule.proposers],
        "worst_loss_sats": rule.worst_loss,
        "events": rule.events,
    } | {written: [both.least, both.most] for written, both in bounds.items()}


def encode_signed_mandate(signed: SignedMandate) -> dict[str, Any]:
    """Return the signed mandate as JSON: the terms, and who vouches for them."""
    vouched = {"identity": signed.identity.hex(), "signature": signed.signature.hex()}
    return encode_mandate(signed.mandate) | vouched


_BOUNDED: Final[Mapping[str, str]] = {
    "collateral": "collateral_sats",
    "premium": "premium_sats",
    "premium_share": "premium_basis_points",
    "step_share": "step_basis_points",
    "funding_rate": "funding_sats_per_kvb",
    "cet_fee": "cet_fee_sats",
    "life": "seconds_to_expiry",
    "expiry_slack": "expiry_height_slack",
    "refund_delay": "refund_delay_blocks",
    "close_price": "close_price_cents",
    "close_rate": "close_sats_per_kvb",
}
"""The fields with two ends, and their names in the file."""


def _bounds(value: list[int]) -> Bounds:
    ends = listed(whole(-_WIDEST, _WIDEST), 2)(value)
    if len(ends) != 2:  # noqa: PLR2004 - both ends
        raise Refused("", f"{len(ends)} numbers", "[least, most]")
    return Bounds(least=ends[0], most=ends[1])


_BOUNDS: Final = Rule(_bounds, "[least, most]")

_BOOKS: Final = record(
    BookRule, exact=True, proposers=listed(hexadecimal(32), MAX_ENTRIES), collateral=("collateral_sats", _BOUNDS),
    worst_loss="worst_loss_sats", premium=("premium_sats", _BOUNDS), value_slack="value_slack_sats",
    floor=("floor_cents", _BOUNDS), legs=whole(1, MAX_ENTRIES),
)  # fmt: skip

_DISPUTE_BOUNDED: Final[Mapping[str, str]] = {
    "collateral": "collateral_sats",
    "premium": "premium_sats",
    "bond": "bond_sats",
    "challenge_bond": "challenge_bond_sats",
    "fee": "fee_sats",
    "dispute_blocks": "dispute_blocks",
    "claim_delay": "claim_delay_blocks",
    "refund_delay": "refund_delay_blocks",
}


def _dispute_bounds() -> dict[str, Any]:
    return {name: (written, _BOUNDS) for name, written in _DISPUTE_BOUNDED.items()}


_DISPUTES: Final = record(
    DisputeRule, exact=True, proposers=listed(hexadecimal(32), MAX_ENTRIES), worst_loss="worst_loss_sats",
    events=whole(1, MAX_ENTRIES), **_dispute_bounds(),
)  # fmt: skip

_KIND: Final = Rule(lambda label: OptionKind.from_label(str(label)), "an option's kind")


def _fields() -> dict[str, Any]:
    return {
        "number": whole(1, 1 << 31),
        "valid_from": "valid_from_unix",
        "valid_until": "valid_until_unix",
        "kinds": listed(_KIND, MAX_ENTRIES),
        "oracle_keys": listed(hexadecimal(32), MAX_ENTRIES),
        "threshold": whole(1, MAX_ENTRIES),
        "exposure": "exposure_sats",
        "window_slack": ("window_slack_seconds", whole(0, _WIDEST)),
        "close_fee": "close_fee_sats",
        "fixings": listed(Rule(parse_fixing, EXPECTED), MAX_ENTRIES),
        **{name: (written, _BOUNDS) for name, written in _BOUNDED.items()},
        "tolerance": ("tolerance_basis_points", _BOUNDS),
    }


_LATER: Final = ("fixings", "tolerance_basis_points", "books", "disputes")
"""Fields that a mandate of an earlier release lacks."""

_MANDATE: Final = record(Mandate, may_lack=_LATER, **_fields())


@dataclass(frozen=True, slots=True, kw_only=True)
class _Head:
    type: str
    version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Vouched:
    identity: bytes
    signature: bytes


_HEAD: Final = record(_Head)
_VOUCHED: Final = record(_Vouched, identity=hexadecimal(32), signature=hexadecimal(64))


def decode_mandate(message: object) -> Mandate:
    """Return the terms of a mandate. Raises InvalidInputError naming the field; a field it does not know, too."""
    head = _HEAD.read(message, TYPE)
    if (head.type, head.version) != (TYPE, MANDATE_VERSION):
        raise InvalidInputError(
            "mandate", f"{head.type!r} version {head.version}", f"{TYPE!r} version {MANDATE_VERSION}"
        )
    mandate = _MANDATE.read(message, TYPE)
    known = {*encode_mandate(mandate), *_LATER, "identity", "signature"}
    for name in message if isinstance(message, dict) else ():
        if name not in known:  # a misspelt field would say nothing, and its owner would think that it does
            raise InvalidInputError(f"{TYPE}.{name}", "unknown", "the fields of `btcfi party mandate new`")
    return mandate


def decode_signed_mandate(message: object) -> SignedMandate:
    """Return a signed mandate, its signature unchecked (``check_mandate``). Raises InvalidInputError."""
    mandate, vouched = decode_mandate(message), _VOUCHED.read(message, TYPE)
    return SignedMandate(mandate=mandate, identity=vouched.identity, signature=vouched.signature)
