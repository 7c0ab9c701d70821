"""Mandates to start from: a careful one that an owner edits, and the wide one of a simulation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from btcfi.bitcoin.fees import MAX_FEE_RATE, MIN_RELAY_FEE_RATE
from btcfi.contracts.buckets import MAX_TOLERANCE, STANDARD_TOLERANCE
from btcfi.contracts.mandate import DISPUTE_KINDS, BookRule, Bounds, CloseRule, DisputeRule, Mandate
from btcfi.contracts.messages import CET_FEE, Role
from btcfi.contracts.option import MIN_REFUND_DELAY
from btcfi.contracts.setup import MAX_CET_FEE
from btcfi.errors import InvalidInputError
from btcfi.options.terms import OptionKind
from btcfi.oracle.fixing import MINUTE, Fixing, parse_fixing
from btcfi.units import MAX_MONEY_SATS, MAX_U32, Hash32, Sats, UnixSeconds

DAY: Final = 86_400
FEED: Final = "BTC/USD"

STANDARD_FIXING: Final = parse_fixing("twap:30")
"""What an option settles on unless its seller says otherwise: half an hour, as options venues do."""

CAREFUL_FIXINGS: Final = (STANDARD_FIXING, MINUTE)
"""Of a careful mandate that is told no other."""

_YEARS: Final = 20 * 365 * DAY


def careful_mandate(
    *, number: int, now: UnixSeconds, network: str, roles: Sequence[Role], programs: Sequence[Hash32],
    oracle_keys: Sequence[bytes], threshold: int, feeds: Sequence[str] = (FEED,), presets: Sequence[Hash32] = (),
    fixings: Sequence[Fixing] = CAREFUL_FIXINGS, books: BookRule | None = None,
    disputes: DisputeRule | None = None,
) -> Mandate:  # fmt: skip
    """Return a mandate for 30 days with narrow bounds: 0.1 BTC a contract, 0.5 BTC in all, bids and orders only.

    books, disputes: what net books and disputed contracts it allows, such as ``careful_books`` and
    ``careful_disputes``; None: not one.
    """
    return Mandate(
        number=number,
        valid_from=UnixSeconds(now - DAY),  # the chain's clock is behind by up to two hours
        valid_until=UnixSeconds(now + 30 * DAY),
        networks=(network,),
        roles=tuple(roles),
        kinds=(OptionKind.CALL, OptionKind.PUT),
        american=False,
        barrier=False,
        feeds=tuple(feeds),
        programs=tuple(programs),
        presets=tuple(presets),
        oracle_keys=tuple(oracle_keys),
        threshold=threshold,
        collateral=Bounds(least=100_000, most=10_000_000),
        exposure=Sats(50_000_000),
        premium=Bounds(least=0, most=2_000_000),
        premium_share=Bounds(least=0, most=2_000),
        step_share=Bounds(least=0, most=200),
        funding_rate=Bounds(least=MIN_RELAY_FEE_RATE, most=100_000),
        cet_fee=Bounds(least=CET_FEE, most=CET_FEE),
        life=Bounds(least=3_600, most=90 * DAY),
        window_slack=3_600,
        expiry_slack=Bounds(least=-6, most=36),
        refund_delay=Bounds(least=MIN_REFUND_DELAY, most=2_016),
        close=CloseRule.AGREED,
        close_price=Bounds(least=0, most=MAX_U32),
        close_rate=Bounds(least=MIN_RELAY_FEE_RATE, most=100_000),
        close_fee=Sats(50_000),
        unbidden=False,
        fixings=tuple(fixings),
        tolerance=Bounds(least=0, most=STANDARD_TOLERANCE),
        books=books,
        disputes=disputes,
    )


def careful_books(*, roles: Sequence[Role], programs: Sequence[Hash32], proposers: Sequence[bytes] = ()) -> BookRule:
    """Return a narrow rule for net books: 0.1 BTC at risk, a floor, no barrier, a premium near one's own value."""
    return BookRule(
        roles=tuple(roles),
        programs=tuple(programs),
        proposers=tuple(proposers),
        collateral=Bounds(least=100_000, most=20_000_000),
        worst_loss=Sats(10_000_000),
        premium=Bounds(least=-2_000_000, most=2_000_000),
        value_slack=Sats(100_000),
        floor=Bounds(least=1_000_000, most=MAX_U32),
        legs=64,
        barrier=False,
    )


def careful_disputes(*, roles: Sequence[Role], proposers: Sequence[bytes] = ()) -> DisputeRule:
    """Return a narrow rule for disputed contracts: 0.1 BTC, a bond of at most a tenth of it, two hours for an answer.

    two hours: 12 blocks, for software that looks at every block; and half a day and a day before the heights from which
    silence and the refund are claimed, for whoever has to put it back on its feet.
    """
    return DisputeRule(
        roles=tuple(roles),
        kinds=DISPUTE_KINDS,
        proposers=tuple(proposers),
        collateral=Bounds(least=100_000, most=10_000_000),
        worst_loss=Sats(11_000_000),
        premium=Bounds(least=-2_000_000, most=2_000_000),
        bond=Bounds(least=100_000, most=1_000_000),
        challenge_bond=Bounds(least=0, most=100_000),
        fee=Bounds(least=0, most=2_000),
        events=30,
        dispute_blocks=Bounds(least=12, most=1_008),
        claim_delay=Bounds(least=72, most=1_008),
        refund_delay=Bounds(least=144, most=2_016),
    )


def simulation_mandate(
    *, number: int, now: UnixSeconds, network: str, programs: Sequence[Hash32], oracle_keys: Sequence[bytes],
    threshold: int, feeds: Sequence[str] = (FEED,), presets: Sequence[Hash32] = (),
) -> Mandate:  # fmt: skip
    """Return the mandate of a party that is nobody's: whatever a replayed market proposes, at any fee, but on regtest.

    Raises InvalidInputError for another network: there such a mandate would give its owner's coins away.
    """
    return Mandate(
        number=number,
        valid_from=UnixSeconds(0),
        valid_until=UnixSeconds(now + _YEARS),
        networks=(require_regtest(network),),
        roles=(Role.BUYER, Role.SELLER),
        kinds=tuple(OptionKind),
        american=True,
        barrier=True,
        feeds=tuple(feeds),
        programs=tuple(programs),
        presets=tuple(presets),
        oracle_keys=tuple(oracle_keys),
        threshold=threshold,
        collateral=Bounds(least=0, most=MAX_MONEY_SATS),
        exposure=Sats(MAX_MONEY_SATS),
        premium=Bounds(least=0, most=MAX_MONEY_SATS),
        premium_share=Bounds(least=0, most=10_000),
        step_share=Bounds(least=0, most=10_000),
        funding_rate=Bounds(least=MIN_RELAY_FEE_RATE, most=MAX_FEE_RATE),
        cet_fee=Bounds(least=0, most=MAX_CET_FEE),  # 0: what the release before had begun is completed
        life=Bounds(least=-_YEARS, most=_YEARS),
        window_slack=_YEARS,
        expiry_slack=Bounds(least=-1_000, most=1_000_000),
        refund_delay=Bounds(least=1, most=65_535),
        close=CloseRule.AGREED,  # at what its owner states; ``unbidden`` does not go as far
        close_price=Bounds(least=0, most=MAX_U32),
        close_rate=Bounds(least=MIN_RELAY_FEE_RATE, most=MAX_FEE_RATE),
        close_fee=Sats(1_000_000),
        unbidden=True,
        tolerance=Bounds(least=0, most=MAX_TOLERANCE),
    )


def require_regtest(network: str) -> str:
    """Return the network when it is regtest. Raises InvalidInputError for one whose coins are worth something."""
    if network != "regtest":
        raise InvalidInputError("--mandate", f"simulation on {network!r}", "a regtest node, or a mandate of your own")
    return network
