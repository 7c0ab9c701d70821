"""Price, create, settle and verify one option through the API only.

Read it like a notebook, cell by cell, or run it against a server (`btcfi up` prints its URL, and
`btcfi keys create me --role trade --role operate` makes the key):

    python docs/examples/price_create_settle_verify.py http://127.0.0.1:8000 btcfi_ID_SECRET
"""

# ruff: noqa: INP001, T201 - a script that shows what it sees

from __future__ import annotations

import sys
import time
from decimal import Decimal

from btcfi.surfaces.client import Client, CreatedOption, Option, PremiumQuote, Settlement

WAIT_SECONDS = 120


def walk(url: str, key: str) -> None:
    """Do it all, and say what is seen on the way."""
    with Client(url, key=key) as btcfi:
        # %% The market: what the oracle network agreed on, and how much it moves.
        market = btcfi.market()
        print(f"BTC at ${market.spot_price:,.2f} ({market.last_update}), volatility {market.volatility_30d:.0%}")

        # %% An American put, struck a fifth above the market, for an hour: what does it cost, and what moves it?
        strike = Decimal(round(market.spot_price * 1.2, -2))
        expiry = market.slot_unix + 60 * 60
        size = Decimal("0.05")
        quote = btcfi.premium(type="put", strike=strike, expiry=str(expiry), american=True, quantity=size)
        show(quote, strike)

        # %% Buy a twentieth of a bitcoin of it, for what was shown or less. The key makes a repetition harmless.
        order = f"example-{market.slot_unix}"
        made = btcfi.create_option(
            type="put", strike=strike, expiry_unix=expiry, quantity=size, american=True, idempotency_key=order,
            max_premium_cents=quote.total_cents, quoted_at_unix=quote.quoted_at_unix,
        )  # fmt: skip
        print(f"option {made.option_id}: premium ${made.premium:,.2f}, collateral {made.collateral_sats:,} sats")
        option = funded(btcfi, made)
        print(f"funded by {option.funding_txid} at {option.taproot_address}")

        # %% Ask for its settlement: so deep in the money, exercising is worth more than holding.
        print(f"settlement asked for: {btcfi.settle(made.option_id).state}")
        settlement = settled(btcfi, made)
        print(
            f"settled at ${settlement.price_cents / 100:,.2f}: {settlement.payout_sats or 0:,} sats computed, "
            f"{settlement.paid_sats or 0:,} paid; state {settlement.state}, transaction {settlement.txid}"
        )

        # %% The proof: download it, have it checked, and check what it was checked against.
        proof = btcfi.proof(settlement.id)
        check = btcfi.verify(proof)
        print(
            f"proof of {check.steps} steps, root {check.proof_root}: {'holds' if check.valid else check.failed_check}"
        )
        if not check.valid or check.proof_root != settlement.proof_root:
            sys.exit("the proof does not belong to the settlement")
        print("To check it without trusting the server: save it, and run `btcfi verify FILE`.")


def show(quote: PremiumQuote, strike: Decimal) -> None:
    """Print a premium and its Greeks."""
    print(f"put at ${strike:,}: {quote.premium_btc:.6f} BTC (${quote.premium_cents / 100:,.2f}) per BTC")
    print(f"  delta {quote.delta:+.3f}, gamma {quote.gamma:.2e}, vega ${quote.vega:,.2f} a point,", end=" ")
    print(f"theta ${quote.theta:,.2f} a day, rho ${quote.rho:,.2f} a point")


def funded(btcfi: Client, made: CreatedOption) -> Option:
    """Wait until the option's contract is funded and confirmed on the chain."""
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline:
        option = btcfi.option(made.option_id)
        if option.state != "CREATED":
            return option
        time.sleep(0.5)
    sys.exit(f"option {made.option_id} was not funded within {WAIT_SECONDS} s")


def settled(btcfi: Client, made: CreatedOption) -> Settlement:
    """Wait until the option's settlement has a proof and a transaction."""
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline:
        for settlement in btcfi.settlements(option_id=made.option_id).items:
            if settlement.state in {"broadcast", "confirmed"}:
                return settlement
        time.sleep(0.5)
    sys.exit(f"option {made.option_id} was not settled within {WAIT_SECONDS} s")


if __name__ == "__main__":
    if len(sys.argv) != 3:  # noqa: PLR2004 - URL and key
        sys.exit("usage: price_create_settle_verify.py URL KEY")
    walk(sys.argv[1], sys.argv[2])
