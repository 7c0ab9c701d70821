"""A payoff that a guest program computes: signed legs, each run for one whole bitcoin, summed before one division.

A guest rounds its dollars to a cent and its satoshis down, leg by leg; a sum of such roundings flickers and is not
monotone. Run for one bitcoin its dollars are whole cents by themselves, so their sum is exact, and is divided once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from btcfi.errors import InvalidInputError
from btcfi.options.expiry import SettlementInput, SettlementOutput
from btcfi.options.terms import MAX_QUANTITY, SATS_PER_CENTIBTC, OptionKind
from btcfi.oracle.announcement import OracleEvent
from btcfi.payoffs.curve import LEAST_FLOOR, MAX_LEGS, NetSats
from btcfi.units import MAX_MONEY_SATS, MAX_U32, BasisPoints, CentiBtc, Cents, CentsPerBtc, Minutes, Sats

if TYPE_CHECKING:
    from btcfi.vm.program import Program

ONE_BITCOIN: Final = CentiBtc(100)

NO_LEVEL: Final = CentsPerBtc(0)

Outputs = Callable[[Sequence[bytes]], Sequence[bytes]]
"""What runs the guest: an output for each input."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestLeg:
    """One leg as the guest's ABI has it, bought or sold."""

    quantity: int
    """Hundredths of a bitcoin; below zero: sold."""
    strike: CentsPerBtc
    option_type: int = int(OptionKind.CALL)
    """The guest's word; of a program of somebody's own it may say anything."""
    barrier_level: CentsPerBtc = NO_LEVEL
    """The guest's word: a level that only the settlement price touches, or what the program makes of it."""

    def input_at(self, price: CentsPerBtc) -> bytes:
        """Return the guest's input for one bitcoin of the leg at a settlement price. Raises InvalidInputError."""
        return SettlementInput(
            option_type=self.option_type, strike=self.strike, spot=price, quantity=ONE_BITCOIN,
            barrier_level=self.barrier_level, early_exercise=0, time_to_expiry=Minutes(0), volatility=BasisPoints(0),
            observed_low=price, observed_high=price, premium=Cents(0), rate=BasisPoints(0),
            collateral=Sats(MAX_MONEY_SATS),
        ).to_bytes()  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestPayoff:
    """Signed legs that a guest computes, and where somebody says that their sum turns."""

    legs: tuple[GuestLeg, ...]
    outputs_of: Outputs
    floor: CentsPerBtc | None = None
    """Below it the legs settle as at that price."""
    claimed: tuple[CentsPerBtc, ...] | None = None
    """Where it turns, the floor apart; None: to be found. Either way ``netted`` runs the guest at every price."""

    def __post_init__(self) -> None:
        """Raise InvalidInputError naming the field that makes no payoff."""
        if not 1 <= len(self.legs) <= MAX_LEGS:
            raise InvalidInputError("legs", str(len(self.legs)), f"1 to {MAX_LEGS}")
        for place, leg in enumerate(self.legs):
            if leg.quantity == 0 or abs(leg.quantity) > MAX_QUANTITY:
                expected = f"1 to {MAX_QUANTITY} hundredths of a bitcoin, negative if sold"
                raise InvalidInputError(f"legs[{place}].quantity", f"{leg.quantity}/100 BTC", expected)
        if self.floor is not None and not LEAST_FLOOR <= self.floor <= MAX_U32:
            raise InvalidInputError("floor", f"{self.floor} cents", f"{LEAST_FLOOR} to {MAX_U32} cents per bitcoin")

    def net(self, prices: Sequence[CentsPerBtc]) -> list[NetSats]:
        """Return what the holder gains at each price: the guest's cents summed with their signs, divided once.

        Raises GuestRefusedError, and what running the guest raises.
        """
        at = [CentsPerBtc(max(price, self.floor or price)) for price in prices]
        sums = [0] * len(at)
        for leg in self.legs:
            for place, raw in enumerate(self.outputs_of([leg.input_at(price) for price in at])):
                output = SettlementOutput.from_bytes(raw)
                output.raise_if_refused()
                sums[place] += leg.quantity * output.payout
        nets = [total * SATS_PER_CENTIBTC // price for total, price in zip(sums, at, strict=True)]
        for price, net in zip(at, nets, strict=True):
            if abs(net) > MAX_MONEY_SATS:
                raise InvalidInputError("quantity", f"{net} sats at {price} cents", f"at most {MAX_MONEY_SATS}")
        return [NetSats(net) for net in nets]

    def turning_points(self, event: OracleEvent) -> tuple[CentsPerBtc, ...] | None:  # noqa: ARG002 - as every payoff
        """Return what is claimed, and the floor; None where nothing is."""
        if self.claimed is None:
            return None
        return self.claimed if self.floor is None else (*self.claimed, self.floor)


def guest_payoff(
    legs: Sequence[GuestLeg], program: Program, *, floor: CentsPerBtc | None = None,
    claimed: Sequence[CentsPerBtc] | None = None,
) -> GuestPayoff:  # fmt: skip
    """Return the payoff that ``program`` computes. Raises InvalidInputError."""
    from btcfi.vm.interpreter import run_many  # noqa: PLC0415 - numba; whoever only reads payoffs does not run a guest

    return GuestPayoff(
        legs=tuple(legs), outputs_of=lambda inputs: run_many(program, inputs), floor=floor,
        claimed=None if claimed is None else tuple(claimed),
    )  # fmt: skip
