"""What is swapped: an asset, its leverage, its weekly rates, the fees. One contract an asset, margined in bitcoin."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from btcfi.errors import InvalidInputError
from btcfi.swaps.errors import Guard, SwapRefusedError
from btcfi.units import Sats

NOTHING: Final = Sats(0)

LOT: Final = 1_000_000
"""Satoshis: a required margin is a whole number of these."""

MILLION: Final = 1_000_000
"""Rates are in parts per million of the notional, a week."""

MAX_TARGET_PPM: Final = 10_000
MAX_BASIS_PPM: Final = 20_000
"""1 % and 2 %. Source: the appendix, section 9."""

MAX_SUBCONTRACTS: Final = 60
"""Of a book. Source: the appendix says "30 or so", then "doubled" (C28)."""

MAX_LEVERAGE: Final = 10_000
"""In hundredths."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """What a taker pays a week on its notional: target plus basis when it is long, target minus basis when short."""

    target_ppm: int
    basis_ppm: int

    def __post_init__(self) -> None:
        """Raise SwapRefusedError outside the bounds."""
        if not 0 <= self.target_ppm <= MAX_TARGET_PPM or abs(self.basis_ppm) > MAX_BASIS_PPM:
            raise SwapRefusedError(
                Guard.RATES, f"target {self.target_ppm} ppm, basis {self.basis_ppm} ppm",
                f"a target of 0 to {MAX_TARGET_PPM}, a basis of -{MAX_BASIS_PPM} to {MAX_BASIS_PPM}",
            )  # fmt: skip

    def funding(self, *, long: bool) -> Fraction:
        """Return a taker's rate, as a fraction of its notional a week. Source: A.13."""
        return Fraction(self.target_ppm + (self.basis_ppm if long else -self.basis_ppm), MILLION)


@dataclass(frozen=True, slots=True, kw_only=True)
class SwapContract:
    """One asset's contract. The margin is bitcoin always."""

    name: str
    """Such as ``BTCUSD``: asset, then what it is quoted in."""
    asset: str
    quote: str
    leverage_hundredths: int
    """Notional for one of margin: 250 is 2.5. Source: the appendix, section 3.2."""

    def __post_init__(self) -> None:
        """Raise InvalidInputError for a contract that there cannot be."""
        if not 0 < self.leverage_hundredths <= MAX_LEVERAGE:
            raise InvalidInputError("leverage", f"{self.leverage_hundredths} hundredths", f"1 to {MAX_LEVERAGE}")
        if not self.name or not self.asset or not self.quote or self.asset == self.quote:
            raise InvalidInputError("contract", f"{self.name!r} of {self.asset!r} in {self.quote!r}", "two assets")

    @property
    def leverage(self) -> Fraction:
        """Notional for one of margin."""
        return Fraction(self.leverage_hundredths, 100)

    @property
    def is_quoted_in_margin(self) -> bool:
        """Whether no exchange rate enters: the asset is priced in bitcoin. Source: A.7."""
        return self.quote == "BTC"


CONTRACTS: Final = {
    one.name: one
    for one in (
        SwapContract(name="BTCUSD", asset="BTC", quote="USD", leverage_hundredths=250),
        SwapContract(name="ETHUSD", asset="ETH", quote="USD", leverage_hundredths=200),
        SwapContract(name="ETHBTC", asset="ETH", quote="BTC", leverage_hundredths=250),
        SwapContract(name="SPXUSD", asset="SPX", quote="USD", leverage_hundredths=1000),
    )
}
"""Source: the appendix, section 3.2, with bitcoin in ether's place (specification, section 10)."""


def close_fee(required: Sats) -> Sats:
    """Return what a cancel costs: 1.5 % of the required margin."""
    return Sats(required * 150 // 10_000)


def burn_fee(required: Sats) -> Sats:
    """Return the least that a burn costs: a quarter of the required margin, rounded up."""
    return Sats(-(-required // 4))


def default_fee(required: Sats, margin: Sats) -> Sats:
    """Return what a default costs: an eighth of the required margin, or what is left."""
    return Sats(min(margin, required // 8))
