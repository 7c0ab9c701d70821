"""What a party has agreed to, computed from its folder: the agreement of a contract, by its file or by its identity."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeVar

from btcfi.adapters.party.guest import Guest
from btcfi.adapters.party.store import PartyContract, PartyStore
from btcfi.bitcoin.wallet import InsufficientFundsError
from btcfi.contracts import setup
from btcfi.contracts.buckets import Bucket, Payouts
from btcfi.contracts.messages import Offer, Party, contract_id
from btcfi.contracts.option import MIN_REFUND_DELAY
from btcfi.contracts.payouts import check_option_of, decode_terms, price_input
from btcfi.contracts.reopen import Origin, Reopened, Statement, reopen
from btcfi.contracts.setup import Agreement, SetupPolicy
from btcfi.errors import ConflictError, InvalidInputError, NotFoundError, NotHeldError
from btcfi.options.terms import OptionTerms
from btcfi.oracle.announcement import Announcement, DigitPoints, OracleEvent, WrongAnnouncementError
from btcfi.units import CentsPerBtc, Hash32, Sats

REMEMBERED: Final = 16
"""Agreements kept in memory, a few megabytes each."""

K = TypeVar("K")
V = TypeVar("V")


class StepOutOfOrderError(ConflictError):
    """A step whose predecessor is missing."""

    def __init__(self, contract: str, missing: str) -> None:
        super().__init__(f"contract {contract[:16]}: {missing} first")
        self.contract, self.missing = contract, missing


class WithdrawnError(ConflictError):
    """A step of a contract whose sale came to nothing, and whose coins are free again."""

    def __init__(self, contract: str) -> None:
        super().__init__(f"contract {contract[:16]}: its sale came to nothing, its coins are free; make a new offer")
        self.contract = contract


class ReopenedError(ConflictError):
    """A step of an ordinary contract, of one that another contract's collateral funds."""

    def __init__(self, contract: str) -> None:
        super().__init__(
            f"contract {contract[:16]} came from another one, whose collateral funds it: it is not signed so; "
            "`btcfi party watch` looks after it"
        )
        self.contract = contract


class ProgramMismatchError(InvalidInputError):
    """The contract is about a guest program that this party has neither as today's nor as a retired one."""

    def __init__(self, *, contract: Hash32, ours: Hash32) -> None:
        expected = f"{ours.hex()[:16]}, the one installed here, or a retired one"
        super().__init__("guest program", contract.hex()[:16], expected)


class Agreements:
    """The agreements of one party's contracts; the last ones are kept in memory."""

    def __init__(self, store: PartyStore, guest: Guest) -> None:
        self._store, self._guest = store, guest
        self._known: dict[Hash32, Agreement] = {}
        self._points: dict[tuple[tuple[bytes, Hash32], ...], tuple[DigitPoints, ...]] = {}
        """Anticipation points of the last events: options of one expiry share them."""
        self._names: dict[Hash32, str] = {}

    def new(self, offer: Offer, accepting: Party, policy: SetupPolicy) -> Agreement:
        """Return the agreement on an offer that nobody has signed yet: our own guest computes its payouts.

        The caller has compared the offer's announcements with its owner's.
        """
        return self._agree(offer, accepting, policy, None)

    def of(self, contract: PartyContract) -> Agreement:
        """Return the agreement of one of our contracts. Raises StepOutOfOrderError before it is accepted."""
        if contract.accept is None:
            raise StepOutOfOrderError(contract.offer.id.hex(), "`btcfi party sign` the other side's accept message")
        party = contract.accept.party
        wanted = contract_id(contract.offer, party)
        if wanted not in self._known:
            policy = contract.policy or _policy_of(contract)
            return self._agree(contract.offer, party, policy, contract.buckets, contract.reopened)
        return self._known[wanted]

    def by_id(self, wanted: Hash32) -> tuple[str, PartyContract, Agreement]:
        """Return the name, the file and the agreement of a contract. Raises NotFoundError."""
        if wanted not in self._names:
            known = set(self._names.values())
            for name in self._store.names():
                one = self._store.readable(name) if name not in known else None
                if one is not None and one.accept is not None:
                    self._names[contract_id(one.offer, one.accept.party)] = name
        if wanted not in self._names:
            raise NotFoundError("contract", wanted.hex()[:16], "`btcfi party status` lists ours")
        contract = self._store.load(self._names[wanted])
        return self._names[wanted], contract, self.of(contract)

    def id_of(self, name: str) -> Hash32:
        """Return the identity of one of our contracts. Raises StepOutOfOrderError before it is accepted."""
        contract = self._store.load(name)
        if contract.accept is None:
            raise StepOutOfOrderError(name, "the other side's accept message")
        return contract_id(contract.offer, contract.accept.party)

    def guest_of(self, event: OracleEvent) -> Guest:
        """Return the guest of a contract: what we have signed is settled by its own program. Raises NotHeldError."""
        return self._guest.of(event.program_hash)

    def proof_root(self, offer: Offer, outcome: int) -> Hash32:
        """Return the root of the proof that the guest pays this at the attested outcome: our own run of it."""
        terms = decode_terms(offer.terms.option)
        event = offer.terms.announcements[0].event
        given = price_input(terms, event.price_of(outcome), touched=outcome > event.max_price)
        return self.guest_of(event).prove(given.to_bytes())[1]

    def reopen(self, statement: Statement, policy: SetupPolicy, buckets: Sequence[Bucket] | None = None) -> Reopened:
        """Return what a statement means: our own guest computes its payouts, unless the old contract's are kept.

        buckets: of the contract that it reopens, where the terms stay what they are.
        """
        terms, event = decode_terms(statement.terms.option), statement.terms.announcements[0].event
        if buckets is None:
            self._check_held(event.program_hash)
            check_option_of(statement.terms, terms)
        known = tuple(_identified(one) for one in statement.terms.announcements)
        reopened = reopen(
            statement, self._payouts(terms, event), event=event, policy=policy, buckets=buckets,
            points=self._points.get(known),
        )  # fmt: skip
        _remember(self._points, known, reopened.plan.points)
        return reopened

    def _agree(
        self, offer: Offer, accepting: Party, policy: SetupPolicy, buckets: Sequence[Bucket] | None,
        origin: Origin | None = None,
    ) -> Agreement:  # fmt: skip
        if origin is not None:
            agreement = self.reopen(origin.statement(offer, accepting), policy, buckets).agreement()
            _remember(self._known, agreement.id, agreement)
            return agreement
        terms, event = decode_terms(offer.terms.option), offer.terms.announcements[0].event
        if buckets is None:  # a new contract; by which programs one may be signed is for the mandate to say
            self._check_held(event.program_hash)
            check_option_of(offer.terms, terms)
        known = tuple(_identified(one) for one in offer.terms.announcements)
        try:
            agreement = setup.agree(
                offer, accepting, self._payouts(terms, event), event=event, policy=policy, buckets=buckets,
                points=self._points.get(known),
            )  # fmt: skip
        except InsufficientFundsError as e:  # ours were chosen to suffice: it is the other side that names too few
            raise InvalidInputError("party.coins", str(e), "coins that pay the other side's part") from e
        _remember(self._points, known, agreement.plan.points)
        _remember(self._known, agreement.id, agreement)
        return agreement

    def _check_held(self, program: Hash32) -> None:
        try:
            self._guest.of(program)
        except NotHeldError as e:
            raise ProgramMismatchError(contract=program, ours=self._guest.program.program_hash) from e

    def _payouts(self, terms: OptionTerms, event: OracleEvent) -> Payouts:
        """Return a contract's payouts, which are not asked for again once its buckets are kept."""

        def payouts(prices: Sequence[CentsPerBtc]) -> Sequence[Sats]:
            return self.guest_of(event).payouts(terms)(prices)

        return payouts


def _policy_of(contract: PartyContract) -> SetupPolicy:
    """Return the policy of a contract that an earlier release signed: its own delay was enough."""
    terms = contract.offer.terms
    return SetupPolicy(min_refund_delay=min(MIN_REFUND_DELAY, terms.refund_height - terms.expiry_height))


def _remember(known: dict[K, V], key: K, value: V) -> None:
    while len(known) >= REMEMBERED:
        known.pop(next(iter(known)))
    known[key] = value


def check_announcements(offered: Sequence[Announcement], expected: Sequence[Announcement]) -> None:
    """Refuse a contract whose oracles, nonces or number are not those that we have from the oracles themselves.

    An announcement of the same event by another key would let its owner attest whatever pays it, and nobody at all
    where the nonces are another oracle's: the key is compared beside the digest, which does not have it.
    """
    ours, theirs = {_identified(one) for one in expected}, [_identified(one) for one in offered]
    event = expected[0].event.id.hex()[:16] if expected else "nothing"
    if not expected or len(theirs) != len(ours) or set(theirs) != ours:
        strangers = [one.oracle_key.hex()[:16] for one in offered if _identified(one) not in ours]
        problem = f"the offer has {len(theirs)} oracles, you have {len(ours)}"
        if strangers:
            problem += f"; not as you have them: {', '.join(strangers)}"
        raise WrongAnnouncementError(event, problem)


def _identified(one: Announcement) -> tuple[bytes, Hash32]:
    return one.oracle_key, one.digest()
