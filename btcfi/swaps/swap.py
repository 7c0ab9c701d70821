"""One asset's contract as the oracle runs it: its rates, its week's returns, whether takes are paused."""

from __future__ import annotations

from dataclasses import dataclass, replace

from btcfi.swaps.contract import Rates, SwapContract
from btcfi.swaps.errors import Guard, SwapRefusedError
from btcfi.swaps.prices import NEVER, PriceBoard
from btcfi.swaps.settlement import COMPUTE_SECONDS, WeekReturns, compute_returns
from btcfi.units import UnixSeconds


@dataclass(frozen=True, slots=True, kw_only=True)
class AssetSwap:
    """What is the same for every book of one contract."""

    contract: SwapContract
    rates: Rates
    """Of the week that runs."""
    proposed: Rates | None = None
    """Of the week after: live once this week's returns are computed."""
    returns: WeekReturns | None = None
    last_settle_at: UnixSeconds = NEVER
    """Of any book."""
    paused: bool = False

    def propose(self, rates: Rates) -> AssetSwap:
        """Return the contract with rates for the week after this one. Bounds are the rates' own."""
        return replace(self, proposed=rates)

    def compute(self, board: PriceBoard, *, now: UnixSeconds) -> AssetSwap:
        """Return the contract with its week's returns; proposed rates are live from here on.

        Computed again after a correction, the week keeps the rates that it had. Raises SwapRefusedError.
        """
        if self.last_settle_at != NEVER and now < (due := self.last_settle_at + COMPUTE_SECONDS):
            raise SwapRefusedError(Guard.TOO_SOON, f"returns computed at {now}", f"{due} or later")
        again = self.returns is not None and self.returns.week == board.week - 1
        rates = self.returns.rates if again and self.returns is not None else self.rates
        returns = compute_returns(self.contract, board, rates, now=now)
        if again:
            return replace(self, returns=returns)
        return replace(self, returns=returns, rates=self.proposed or self.rates, proposed=None)

    def settled(self, *, now: UnixSeconds) -> AssetSwap:
        """Return the contract of which a book was settled."""
        return replace(self, last_settle_at=max(self.last_settle_at, now))
