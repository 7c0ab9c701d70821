"""The guest as a payout function: run at thousands of settlement prices at once, for the buckets of a contract."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from btcfi.contracts.buckets import Payouts
from btcfi.contracts.messages import ContractTerms
from btcfi.errors import InvalidInputError
from btcfi.options.expiry import SettlementInput, SettlementOutput, settlement_input
from btcfi.options.terms import OptionKind, OptionTerms
from btcfi.oracle.fixing import EXPECTED, parse_fixing
from btcfi.records import Rule, record
from btcfi.units import (
    BasisPoints,
    CentsPerBtc,
    Sats,
    Slot,
)

if TYPE_CHECKING:
    from btcfi.vm.program import Program


def price_input(terms: OptionTerms, price: CentsPerBtc, *, touched: bool = False) -> SettlementInput:
    """Return the guest's input at expiry from what an attestation states: the settlement price, and the barrier.

    touched: whether the path touched the barrier before, the oracle's condition digit (``condition_of``).
    """
    reached = terms.barrier if touched and terms.barrier is not None else price
    return settlement_input(
        terms,
        price=price,
        low=CentsPerBtc(min(price, reached)),
        high=CentsPerBtc(max(price, reached)),
        at=terms.expiry,
        volatility=BasisPoints(0),
        rate=BasisPoints(0),
    )


def guest_payouts(terms: OptionTerms, program: Program) -> Payouts:
    """Return the payout function of an option: ``program`` run at each price, its ``payout_sats``.

    The function raises GuestRefusedError when the guest refuses a price, MachineFaultError when it does not halt.
    """
    from btcfi.vm.interpreter import run_many  # noqa: PLC0415 - numba; whoever only reads terms does not run the guest

    return payouts_by(terms, lambda inputs: run_many(program, inputs))


def payouts_by(terms: OptionTerms, outputs_of: Callable[[Sequence[bytes]], Sequence[bytes]]) -> Payouts:
    """Return the payout function of an option, given what runs the guest on many inputs. It raises as that does."""

    def payouts(prices: Sequence[CentsPerBtc]) -> Sequence[Sats]:
        outputs = outputs_of([price_input(terms, price).to_bytes() for price in prices])
        paid = []
        for raw in outputs:
            output = SettlementOutput.from_bytes(raw)
            output.raise_if_refused()
            paid.append(output.payout_sats)
        return paid

    return payouts


def breakpoints_of(terms: OptionTerms) -> tuple[CentsPerBtc, ...]:
    """Return the prices between which the payout is monotone: the strike, and the barrier if there is one.

    Between them the payout is one fraction of the price, divided once and so rounded once: a call's rises with the
    price, a put's and a binary's falls. (A retired guest rounds to cents first; a whole-dollar step moves its cents by
    one amount, which keeps the order too.)
    """
    return (terms.strike,) if terms.barrier is None else (terms.strike, terms.barrier)


def condition_of(terms: OptionTerms, since: Slot) -> str:
    """Return the oracle's condition for a knock-out: whether any agreed price since ``since`` touched the barrier."""
    if terms.barrier is None:
        return ""
    comparison = ">=" if terms.barrier > terms.strike else "<="
    return f"agreed price {comparison} {terms.barrier} cents between {since} and {terms.expiry}"


def check_option_of(terms: ContractTerms, option: OptionTerms) -> None:
    """Check that a contract's money and turning points are those of its option. Raises InvalidInputError.

    Buckets are exact only between the turning points: with others a payout would not be the guest's.
    """
    if option.collateral != terms.collateral:
        raise InvalidInputError("collateral_sats", f"{terms.collateral:,}", f"{option.collateral:,}, the option's")
    if terms.breakpoints != breakpoints_of(option):
        said = ", ".join(map(str, terms.breakpoints)) or "none"
        expected = ", ".join(map(str, breakpoints_of(option)))
        raise InvalidInputError("breakpoint_cents", f"{said}, of another option", expected)


def encode_terms(terms: OptionTerms) -> dict[str, Any]:
    """Return the terms as JSON, for the ``option`` field of an offer."""
    return {
        "kind": terms.kind.label,
        "strike_cents": terms.strike,
        "quantity_centibtc": terms.quantity,
        "barrier_cents": terms.barrier,
        "american": terms.american,
        "expiry_unix": terms.expiry,
        "premium_cents": terms.premium,
        "collateral_sats": terms.collateral,
        **({} if terms.fixing is None else {"fixing": str(terms.fixing)}),
    }


_TERMS: Final = record(
    OptionTerms,
    exact=True,
    kind=Rule(lambda label: OptionKind.from_label(str(label)), "an option's kind"),
    strike="strike_cents",
    quantity="quantity_centibtc",
    barrier="barrier_cents",
    expiry="expiry_unix",
    premium="premium_cents",
    collateral="collateral_sats",
    fixing=Rule(parse_fixing, EXPECTED),  # an earlier release's option has none: one spelling, so never null
    may_lack=("fixing",),
)


def decode_terms(fields: object) -> OptionTerms:
    """Return the terms of an offer's ``option`` field. Raises InvalidInputError naming the wrong field."""
    return _TERMS.read(fields, "offer.option")
