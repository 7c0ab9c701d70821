"""The transactions of a fan-out, and what each owner signs of them before the book is funded.

Everything is computed from the terms and the margins' outpoints; nothing that is signed was received.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from itertools import combinations
from typing import Any

from btcfi import secp256k1
from btcfi.bitcoin.fees import DUST_P2TR
from btcfi.bitcoin.transaction import OutPoint, Transaction, TxOut
from btcfi.errors import InvalidInputError
from btcfi.oracle.announcement import DigitPoints
from btcfi.swaps.fanout.dues import dues
from btcfi.swaps.fanout.terms import FanTerms
from btcfi.swaps.onchain import BURN_TYPE, RELEASE_TYPE, prefixes
from btcfi.units import Hash32, Sats


class Spend(StrEnum):
    """What a pre-signature is for."""

    SETTLE = "settle"
    BURN = "burn"
    RELEASE = "release"


HASH_TYPES = {Spend.SETTLE: b"", Spend.BURN: bytes([BURN_TYPE]), Spend.RELEASE: bytes([RELEASE_TYPE])}
"""What follows the 64 bytes of a signature."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """One thing that is pre-signed: of whose margin, for which outcomes, by their first digits."""

    spend: Spend
    owner: int
    prefix: int
    length: int

    def signed_by(self, signer: int) -> bool:
        """Whether an owner pre-signs it: a BURN and a RELEASE are finished by the margin's owner itself."""
        return self.spend is Spend.SETTLE or self.owner != signer


@dataclass(frozen=True, kw_only=True)
class FanOut:
    """A book's terms with its funded margins. Two equal ones have byte-equal transactions, digests and points."""

    terms: FanTerms
    coins: Mapping[int, OutPoint]
    """Each margin by its owner's place."""
    _points: dict[tuple[int, int, tuple[int, ...]], Any] = field(
        init=False, repr=False, compare=False, default_factory=dict
    )  # fmt: skip

    _dues: dict[int, dict[int, Mapping[int, Sats]]] = field(
        init=False, repr=False, compare=False, default_factory=dict
    )  # fmt: skip

    def __post_init__(self) -> None:
        """Raise InvalidInputError unless every margin has an outpoint of its own, and nothing else has one."""
        if set(self.coins) != set(self.terms.margins) or len(set(self.coins.values())) != len(self.coins):
            expected = f"one of its own for each of {sorted(self.terms.margins)}"
            raise InvalidInputError("coins", f"of the owners {sorted(self.coins)}", expected)

    @classmethod
    def funded_by(cls, terms: FanTerms, transaction: Transaction, *, first: int = 0) -> FanOut:
        """Return the book whose margins are a transaction's outputs from ``first`` on, in the owners' order.

        Raises InvalidInputError naming the output that is not as the terms have it.
        """
        coins = {}
        for index, (place, margin) in enumerate(terms.margins.items(), first):
            if index >= len(transaction.outputs) or transaction.outputs[index] != margin.txout:
                raise InvalidInputError("funding", f"output {index} is not owner {place}'s margin", "as agreed")
            coins[place] = transaction.outpoint(index)
        return cls(terms=terms, coins=coins)

    # ---- transactions, not signed

    def dues(self, outcome: int) -> Mapping[int, Mapping[int, Sats]]:
        """Return what each loser owes to each winner at an outcome, by their places. Raises InvalidInputError."""
        if outcome not in self._dues:
            self._dues[outcome] = dues(self.terms.profits(outcome))
        return self._dues[outcome]

    def settle(self, owner: int, outcome: int) -> Transaction:
        """Return what pays a loser's debit to the winners. Raises InvalidInputError for an owner who owes nothing."""
        margin, parts = self.terms.margins.get(owner), dict(self.dues(outcome).get(owner, {}))
        if margin is None or not parts:
            raise InvalidInputError("owner", f"{owner} owes nothing at outcome {outcome}", "a loser of this outcome")
        rest = margin.required - sum(parts.values())
        if rest < DUST_P2TR:  # no output can carry it
            largest = max(parts, key=lambda winner: parts[winner])
            parts[largest], rest = Sats(parts[largest] + rest), 0
        payments = [TxOut(value=parts[winner], script=self.terms.owners[winner].script) for winner in sorted(parts)]
        payments += [TxOut(value=Sats(rest), script=self.terms.owners[owner].script)] if rest else []
        return margin.settle(self.coins[owner], payments)

    def burn(self, owner: int, outcome: int) -> Transaction:
        """Return the part of a loser's burn that the others sign. Raises InvalidInputError as ``settle``."""
        return self.terms.margins[owner].burn(self.coins[owner], self.debit(owner, outcome))

    def release(self, owner: int, *, fee: Sats) -> Transaction:
        """Return what gives an owner who owes nothing its margin back."""
        return self.terms.margins[owner].release(self.coins[owner], self.terms.owners[owner].script, fee)

    def returned(self, owner: int, *, fee: Sats) -> Transaction:
        """Return what an owner takes back alone after the silence."""
        return self.terms.margins[owner].returned(self.coins[owner], self.terms.owners[owner].script, fee)

    def debit(self, owner: int, outcome: int) -> Sats:
        """Return what an owner owes at an outcome. Raises InvalidInputError when it is nothing."""
        parts = self.dues(outcome).get(owner)
        if not parts:
            raise InvalidInputError("owner", f"{owner} owes nothing at outcome {outcome}", "a loser of this outcome")
        return Sats(sum(parts.values()))

    # ---- what is pre-signed

    @cached_property
    def subsets(self) -> tuple[tuple[int, ...], ...]:
        """The sets of oracles that can settle, in the order of their signatures."""
        return tuple(combinations(range(len(self.terms.announcements)), self.terms.threshold))

    @cached_property
    def slots(self) -> tuple[Slot, ...]:
        """All that is pre-signed, in the order of the signatures: by margin, then by outcome."""
        return tuple(slot for owner in self.terms.margins for slot in self._slots_of(owner))

    def _slots_of(self, owner: int) -> Iterator[Slot]:
        digits, free_from = self.terms.grid.digits, None
        outcomes = self.terms.grid.outcomes
        for outcome in outcomes:
            owes = owner in self.dues(outcome)
            if owes:
                for spend in (Spend.SETTLE, Spend.BURN):
                    yield Slot(spend=spend, owner=owner, prefix=outcome, length=digits)
            elif free_from is None:
                free_from = outcome
            # nothing owed by many outcomes beside each other: a few prefixes stand for all of them
            if free_from is not None and (owes or outcome == outcomes[-1]):
                for prefix, length in prefixes(free_from, outcome - 1 if owes else outcome, digits):
                    yield Slot(spend=Spend.RELEASE, owner=owner, prefix=prefix, length=length)
                free_from = None

    def slots_of(self, signer: int) -> tuple[Slot, ...]:
        """Return what an owner pre-signs, in the order of its signatures."""
        return tuple(self.places[signer])

    @cached_property
    def places(self) -> tuple[dict[Slot, int], ...]:
        """For each owner the place of every slot among those that it pre-signs."""
        return tuple(
            {slot: at for at, slot in enumerate(slot for slot in self.slots if slot.signed_by(signer))}
            for signer in range(len(self.terms.owners))
        )

    def slot_at(self, spend: Spend, owner: int, outcome: int) -> Slot:
        """Return the slot of a spend of a margin at an outcome. Raises InvalidInputError when there is none."""
        digits = self.terms.grid.digits
        for length in range(digits, 0, -1):
            slot = Slot(spend=spend, owner=owner, prefix=outcome >> (digits - length), length=length)
            if slot in self.digests:
                return slot
        raise InvalidInputError(spend.value, f"of owner {owner} at outcome {outcome}", "what this outcome lets it do")

    def digest(self, slot: Slot) -> Hash32:
        """Return what is pre-signed of a slot."""
        margin = self.terms.margins[slot.owner]
        if slot.spend is Spend.SETTLE:
            return margin.digest(self.settle(slot.owner, slot.prefix))
        if slot.spend is Spend.BURN:
            return margin.digest(self.burn(slot.owner, slot.prefix), hash_type=BURN_TYPE)
        return margin.digest(self.release(slot.owner, fee=Sats(0)), hash_type=RELEASE_TYPE)

    @cached_property
    def digests(self) -> dict[Slot, Hash32]:
        """What is pre-signed, by slot; the same for every signer."""
        return {slot: self.digest(slot) for slot in self.slots}

    @cached_property
    def points(self) -> tuple[DigitPoints, ...]:
        """The anticipation points of each oracle's digits."""
        return tuple(DigitPoints(announcement=one) for one in self.terms.announcements)

    def point(self, slot: Slot, subset: Sequence[int]) -> Any:  # noqa: ANN401 - cffi has no types
        """Return a slot's adaptor point for a set of oracles, in libsecp256k1's form."""
        key = (slot.prefix, slot.length, tuple(subset))
        if key not in self._points:
            parts = [self.points[oracle].of_prefix(slot.prefix, slot.length) for oracle in subset]
            self._points[key] = parts[0] if len(parts) == 1 else secp256k1.sum_points(parts)
        return self._points[key]
