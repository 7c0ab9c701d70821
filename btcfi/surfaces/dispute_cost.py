"""``btcfi dispute cost``: what a disputed contract of a payoff weighs, sends and rounds away; no folder and no node.

With a shape it makes the payoff's file for ``dispute propose``, too. Without one it prints the claims that there are,
over one call spread, beside each other.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Final, Optional

import numpy as np
import typer

from btcfi import secp256k1
from btcfi.adapters.files import write_named
from btcfi.bitcoin.adaptor import AdaptorKey, presignature_is_valid
from btcfi.contracts.buckets import MAX_TOLERANCE, STANDARD_TOLERANCE, ToleranceRule
from btcfi.disputes.claims import (
    MAX_EVENTS,
    Claim,
    Ranges,
    average_strike_claim,
    claim_of,
    mean_claim,
    median_claim,
    price_claim,
)
from btcfi.disputes.garbled.cost import Cost, Rates, cost_of
from btcfi.disputes.garbled.deal import Barrier, Kind, Payoff
from btcfi.disputes.garbled.garbling import garble
from btcfi.disputes.payoffs import library
from btcfi.disputes.payoffs.expression import Expression, price
from btcfi.errors import InvalidInputError
from btcfi.options.order import parse_dollars, parse_quantity, parse_sats
from btcfi.oracle.announcement import CENTS_PER_DOLLAR
from btcfi.payoffs.netted import ANY_EVENT, Netted, netted
from btcfi.payoffs.shapes import Ask, find
from btcfi.surfaces.party.side import choice
from btcfi.units import BasisPoints, CentsPerBtc, Hash32, Sats

MOST_ORACLES: Final = 5
_KILO: Final = 1_000
_BASIS: Final = 10_000
_COPIES: Final = tuple(range(1, 45))
_TIMES: Final = 40


def cost(
    shape: Annotated[
        str, typer.Argument(help="The shape, as `btcfi payoff list` has it; without it: a table of all claims.")
    ] = "",
    *,
    strikes: Annotated[str, typer.Option("--strikes", help="USD per BTC, ascending: 60000/75000.")] = "",
    floor: Annotated[str, typer.Option("--floor", help="USD per BTC: below it it settles as at it.")] = "",
    quantity: Annotated[str, typer.Option("--quantity", help="BTC, in hundredths.")] = "1",
    premium_sats: Annotated[str, typer.Option("--premium-sats", help="What the holder pays: a loss is of it.")] = "",
    tolerance_bps: Annotated[
        int, typer.Option("--tolerance-bps", help="Of premium or payout; a range is off by half.", min=1,
                          max=MAX_TOLERANCE),
    ] = STANDARD_TOLERANCE,
    kind: Annotated[str, typer.Option("--kind", help="What settles: price, mean, median or knock-out.")] = "price",
    minutes: Annotated[int, typer.Option("--minutes", help="Attested minutes.", min=1, max=MAX_EVENTS)] = 1,
    barrier: Annotated[str, typer.Option("--barrier", help="USD, whole; of a knock-out.")] = "",
    down: Annotated[bool, typer.Option("--down", help="The barrier is touched from above.")] = False,
    rebate_sats: Annotated[str, typer.Option("--rebate-sats", help="What a knock-out pays.")] = "0",
    oracles: Annotated[int, typer.Option("--oracles", min=1, max=MOST_ORACLES)] = 3,
    threshold: Annotated[int, typer.Option("--threshold", help="How many must agree.", min=1)] = 2,
    lazy: Annotated[bool, typer.Option("--lazy", help="Digits on the chain only when challenged.")] = False,
    out: Annotated[
        Optional[Path],  # noqa: UP045 - typer reads it at run time
        typer.Option("--out", help="Write the payoff's file for `dispute propose` here."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
) -> None:  # fmt: skip
    """Print what a contract of SHAPE weighs on the chain, what its set-up costs, and what its ranges round away."""
    if threshold > oracles:
        raise InvalidInputError("--threshold", str(threshold), f"1 to {oracles}")
    rule, options = ToleranceRule(tolerance=BasisPoints(tolerance_bps)), {"oracles": oracles, "threshold": threshold}
    if not shape:
        if given := [word for word, one in {
            "--strikes": strikes, "--floor": floor, "--premium-sats": premium_sats, "--barrier": barrier, "--out": out,
        }.items() if one]:  # fmt: skip
            raise InvalidInputError("shape", f"none, and {given[0]}", "a shape: the table of all claims has no terms")
        _print_rows(_table(measured_rates()), as_json=as_json)
        return
    rates = measured_rates()
    contract = _contract(shape, strikes=strikes, floor=floor, quantity=quantity)
    premium = parse_sats(premium_sats, "premium-sats") if premium_sats else Sats(0)
    if not premium:
        raise InvalidInputError("--premium-sats", premium_sats or "none", "at least 1 sat: what is lost is told of it")
    ranges, loss = _ranged(contract, rule, premium)
    settles: Kind = choice(Kind, "--kind", kind)
    if settles in {Kind.AVERAGE_STRIKE_CALL, Kind.AVERAGE_STRIKE_PUT}:
        raise InvalidInputError("--kind", f"{kind} of a shape", "a kind whose value is a price: this one's is a gain")
    payoff = Payoff(kind=settles, ranges=ranges, barrier=_barrier(barrier, rebate_sats, up=not down))
    row = _row(payoff.claim(minutes), loss=loss, premium=premium, rates=rates, lazy=lazy, **options)
    if out is not None:
        write_named(out, json.dumps(_payoff_json(payoff), indent=1).encode() + b"\n")
    if as_json:
        typer.echo(json.dumps(row | {"payoff": None if out is None else str(out)}))
        return
    for line in _words(row, contract):
        typer.echo(line)


# ---- reading


def _contract(shape: str, *, strikes: str, floor: str, quantity: str) -> Netted:
    ask = Ask(
        strikes=tuple(parse_dollars(text, "strikes") for text in strikes.split("/")),
        quantity=parse_quantity(quantity), floor=parse_dollars(floor, "floor") if floor else None,
    )  # fmt: skip
    return netted(find(shape).payoff(ask), ANY_EVENT)


def _barrier(level: str, rebate: str, *, up: bool) -> Barrier | None:
    if not level:
        if up and not parse_sats(rebate, "rebate-sats"):
            return None
        raise InvalidInputError("--barrier", "none", "one: --down and --rebate-sats are of a knock-out")
    found = parse_dollars(level, "barrier")
    if found % CENTS_PER_DOLLAR:
        raise InvalidInputError("--barrier", level[:40], "whole dollars, as oracles attest")
    return Barrier(level=found // CENTS_PER_DOLLAR, up=up, rebate=parse_sats(rebate, "rebate-sats"))


def _ranged(contract: Netted, rule: ToleranceRule, premium: Sats) -> tuple[Ranges, int]:
    """Return a payoff's ranges over every price that is attested, and the most satoshis that one rounds away."""
    event = contract.event
    exact = contract.payouts([event.price_of(outcome) for outcome in range(event.max_price + 1)])
    ranges = Ranges.within(
        exact, rule, premium=min(premium, contract.collateral), collateral=contract.collateral, own=contract.holder
    )  # fmt: skip
    return ranges, max(ranges.most_off(exact))


def _payoff_json(payoff: Payoff) -> dict[str, Any]:
    one = payoff.barrier
    return {
        "kind": payoff.kind.value,
        "ranges": {"starts_usd": list(payoff.ranges.starts), "payouts_sats": list(payoff.ranges.payouts)},
        "barrier": None if one is None else {"level_usd": one.level, "up": one.up, "rebate_sats": one.rebate},
    }


# ---- what it costs


def measured_rates() -> Rates:
    """Return what a core of this machine takes for one of each thing that a set-up computes; a tenth of a second."""
    circuit = price_claim(Ranges(starts=(0, 60_000), payouts=(Sats(0), Sats(1)))).circuit
    setup, digest, secret = Hash32(bytes(32)), Hash32(bytes([1] * 32)), bytes([2] * 32)
    key, point = AdaptorKey(secret), secp256k1.parse_point(secp256k1.public_key_compressed(secret))

    def signed(at: int) -> None:
        message = at.to_bytes(32)
        if not presignature_is_valid(key.public, message, point, key.presign(message, point)):
            raise AssertionError(at)

    def shared(at: int) -> None:
        made = secp256k1.public_key_compressed((at + 1).to_bytes(32))
        if secp256k1.is_point(made):
            secp256k1.point_multiply(made, bytes(16) + digest[:16])

    garbled = _seconds(
        lambda _: garble(
            circuit, setup, _COPIES, seeds=[digest] * len(_COPIES), shares=[[digest] * circuit.labels] * len(_COPIES),
            faults=[digest] * len(_COPIES),
        ),
        1,
    )  # fmt: skip
    return Rates(
        point=_seconds(shared, _TIMES),
        row=garbled / (len(_COPIES) * (circuit.labels + circuit.ands)), presignature=_seconds(signed, _TIMES),
    )  # fmt: skip


def _seconds(work: Callable[[int], Any], times: int) -> float:
    began = time.process_time()  # whatever else this machine does
    for at in range(times):
        work(at)
    return (time.process_time() - began) / times


def _row(
    claim: Claim, *, loss: int, premium: Sats, rates: Rates, oracles: int, threshold: int, lazy: bool
) -> dict[str, Any]:  # fmt: skip
    found: Cost = cost_of(claim, oracles=oracles, threshold=threshold, lazy=lazy)
    return {
        "claim": claim.name, "minutes": claim.events, "lazy": lazy, "oracles": oracles, "threshold": threshold,
        **{name: value for name, value in asdict(found).items() if name != "work"}, "happy_vb": found.happy_vb,
        "setup_seconds": round(found.setup_seconds(rates), 3), "largest_loss_sats": loss,
        "largest_loss_percent_of_premium": round(100 * loss / premium, 3),
    }  # fmt: skip


# ---- the table


_LOW: Final = CentsPerBtc(6_000_000)
_HIGH: Final = CentsPerBtc(7_500_000)
_PREMIUM: Final = Sats(4_000_000)
"""Of the one call spread over which claims are compared."""
_SATS_A_DOLLAR: Final = 13_334
"""What an average-strike option pays there: its collateral in as many dollars as between both strikes."""


def _table(rates: Rates) -> list[dict[str, Any]]:
    contract = netted(find("call_spread").payoff(Ask(strikes=(_LOW, _HIGH))), ANY_EVENT)
    standard, fine = (ToleranceRule(tolerance=BasisPoints(bps)) for bps in (STANDARD_TOLERANCE, 20))
    ranges, loss = _ranged(contract, standard, _PREMIUM)
    finer, finer_loss = _ranged(contract, fine, _PREMIUM)
    values = Ranges.of_values(standard, premium=_PREMIUM, collateral=contract.collateral)
    values_loss = _most_off_values(values)
    steps = [Sats(min(gain * _SATS_A_DOLLAR, contract.collateral)) for gain in range(contract.event.max_price + 1)]
    gained = Ranges.within(steps, standard, premium=_PREMIUM, collateral=contract.collateral)
    out = Payoff(kind=Kind.KNOCK_OUT, ranges=ranges, barrier=Barrier(level=80_000, up=True, rebate=Sats(0)))
    spot, many = library.cents(price(0)), library.prices(30)
    last, average = library.cents(many[-1]), library.cents(library.mean(many))

    def paid(gain: Expression, at: Expression) -> Expression:
        return library.in_sats(gain, at, Ask(strikes=()).quantity, contract.collateral)

    claims = [
        (price_claim(ranges), loss, False), (price_claim(finer), finer_loss, False),
        (mean_claim(ranges, 8), loss, False), (mean_claim(ranges, 30), loss, False),
        (mean_claim(ranges, 30), loss, True), (median_claim(ranges, 5), loss, True), (out.claim(30), loss, True),
        (average_strike_claim(gained, 30, call=True), max(gained.most_off(steps)), True),
        (claim_of("call, sats", paid(library.call_gain(spot, _LOW), spot), values), values_loss, False),
        (claim_of("struck at the mean", paid(library.call_gain(last, average), last), values), values_loss, True),
    ]  # fmt: skip
    return [
        _row(claim, loss=lost, premium=_PREMIUM, rates=rates, oracles=3, threshold=2, lazy=lazy)
        for claim, lost, lazy in claims
    ]


def _most_off_values(ranges: Ranges) -> int:
    """Return the most that a range of what is computed rounds away: at its ends, both of which can be computed."""
    starts, payouts = np.array(ranges.starts), np.array(ranges.payouts)
    return int(max((payouts - starts).max(), (starts[1:] - 1 - payouts[:-1]).max()))


# ---- saying


def _words(row: dict[str, Any], contract: Netted) -> list[str]:
    tables, sent = (row[name] / _KILO for name in ("tables_bytes", "sent_bytes"))
    challenged = f", after its challenge and answer of {row['challenge_vb']:,} vB" if row["lazy"] else ""
    loss = f"{row['largest_loss_sats']:,} sat, {row['largest_loss_percent_of_premium']:g} % of the premium"
    parts = f"opening {row['opening_vb']} + claim {row['claim_vb']} + end {row['end_vb']} = {row['happy_vb']:,} vB"
    lines = [
        f"{row['claim']}, {row['threshold']} of {row['oracles']} oracles: {row['ranges']} ranges",
        f"rounded away at most: {loss}",
        f"circuit: {row['gates']:,} gates, {row['ands']:,} of them ANDs; {row['labels']:,} labels",
        f"set-up: both send {sent:,.0f} kB, {tables:,.0f} kB are tables; about {row['setup_seconds']:.1f} s of a core",
        f"chain: {parts}; a false claim's disproof {row['disprove_vb']} vB{challenged}",
    ]
    if contract.holder:
        lines.insert(1, f"the holder is paid out of {contract.holder:,} sat of its own, too: they are in its premium")
    return lines


def _print_rows(rows: Sequence[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({"claims": list(rows)}))
        return
    typer.echo(
        f"{'claim':<33} {'ranges':>6} {'ANDs':>6} {'labels':>6} {'sent kB':>8} {'set-up s':>8} {'happy vB':>8} "
        f"{'disprove vB':>11} {'loss, % of premium':>18}"
    )
    for row in rows:
        name = row["claim"] + (", lazy" if row["lazy"] else "")
        typer.echo(
            f"{name:<33} {row['ranges']:>6} {row['ands']:>6} {row['labels']:>6} {row['sent_bytes'] / _KILO:>8,.0f} "
            f"{row['setup_seconds']:>8.1f} {row['happy_vb']:>8,} {row['disprove_vb'] + row['challenge_vb']:>11,} "
            f"{row['largest_loss_percent_of_premium']:>18.2f}"
        )
    typer.echo(
        "A call spread of 1 BTC, 60000/75000, premium 0.04 BTC, 2 of 3 oracles; the second price claim by 0.2 %."
    )
