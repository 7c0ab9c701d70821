"""The settlement program again, in Python integers: the second road to every number that the machine produces.

``settle_in_python`` equals ``guest_programs/option_settlement`` bit for bit, roundings of the exercise tree included,
and ``twin_of`` gives the twin of a retired image; property tests keep them equal. Letters as in Cox, Ross & Rubinstein
(1979).
"""

from __future__ import annotations

from collections.abc import Callable
from math import isqrt
from typing import Final

from btcfi.options.expiry import ABI_VERSION, ExerciseType, GuestError, SettlementInput, SettlementOutput
from btcfi.options.terms import MAX_AMERICAN_LIFE, MAX_QUANTITY, MAX_RATE, MAX_VOLATILITY, OptionKind
from btcfi.units import MAX_MONEY_SATS, MAX_U32, Cents, Sats

TREE_LEVELS: Final = 64
"""2,080 nodes: about 40,000 machine steps, and within 1 % of the price of a 2,000-level tree."""

LARGEST_STEP_Q32: Final = 805_306_368
"""0.1875: volatility * sqrt(years) = 1.5, spread over 64 levels (1.5 / 8)."""

SMALLEST_STEP_Q32: Final = 4096
"""Below it the tree's width would be of the size of its rounding."""

CENTS_FIRST: Final = frozenset({
    "4ba389f7e94d0cb122fff4c31a7147ad32b932cb57364462c7223aeb724e1371",  # option_settlement
    "0d01908038e8d812dbd3944ad5c2d2b9f4f3abcede1177f3e4c19493efdee75d",  # vanilla_option
    "de5607a86dba1f0d742b9ac8107bccb03d038da0d57ff44e51b57fa1ba1846da",  # binary_option
    "a5fca4d762419ba1c3b55014bd496bae9c1bd60ea1a986449aaacdebe8c6cf44",  # barrier_option
})  # fmt: skip
"""Images (SHA-256, hex) of retired guests that divided twice: first down to a whole cent, then by the price."""

_Q32: Final = 1 << 32
_SATS_PER_BTC: Final = 100_000_000
_CENTIBTC_PER_BTC: Final = 100
_SATS_PER_CENTIBTC: Final = _SATS_PER_BTC // _CENTIBTC_PER_BTC


def twin_of(program_sha256: str) -> Callable[[SettlementInput], SettlementOutput]:
    """Return the twin of the guest with this image (hex): what was sold by a retired one is computed as that one did.

    For an image that is none of ours it is the twin of today's ``option_settlement``.
    """
    return _settle_cents_first if program_sha256 in CENTS_FIRST else settle_in_python


def settle_in_python(given: SettlementInput) -> SettlementOutput:
    """Return what the guest returns for ``given``, computed without the machine."""
    return _settle(given, cents_first=False)


def _settle_cents_first(given: SettlementInput) -> SettlementOutput:
    return _settle(given, cents_first=True)


def _settle(given: SettlementInput, *, cents_first: bool) -> SettlementOutput:
    error = validate_input(given)
    if error is not GuestError.NONE:
        return _refused(error)
    barrier_hit = knocked_out(given)
    early = False
    hold = False
    if given.time_to_expiry and not barrier_hit:
        if given.early_exercise:
            decision = exercise_now(given)
            if decision is None:
                return _refused(GuestError.VOLATILITY)
            early = decision
        hold = not early
    if hold:
        payout, exercise_type, sats = 0, ExerciseType.HOLD, 0
    else:
        value, exercise_type = payoff(given, barrier_hit=barrier_hit)
        payout = value // _CENTIBTC_PER_BTC
        exact = payout * _SATS_PER_BTC if cents_first else value * _SATS_PER_CENTIBTC
        sats = min(exact // given.spot, given.collateral)
    return SettlementOutput(
        payout=Cents(payout),
        exercise_type=ExerciseType.EARLY_EXERCISE if early else exercise_type,
        barrier_hit=barrier_hit,
        profit_loss=Cents(payout - given.premium),
        payout_sats=Sats(sats),
        abi_version=ABI_VERSION,
        error=GuestError.NONE,
    )


def _refused(error: GuestError) -> SettlementOutput:
    return SettlementOutput(
        payout=Cents(0),
        exercise_type=ExerciseType.NO_EXERCISE,
        barrier_hit=False,
        profit_loss=Cents(0),
        payout_sats=Sats(0),
        abi_version=ABI_VERSION,
        error=error,
    )


def validate_input(given: SettlementInput) -> GuestError:
    """Return the first input word that the guest refuses, in the guest's order (validate.c)."""
    tree = given.early_exercise == 1 and given.time_to_expiry > 0
    checks = (
        (given.abi_version == ABI_VERSION, GuestError.ABI_VERSION),
        (given.option_type <= OptionKind.BINARY_PUT, GuestError.OPTION_TYPE),
        (given.strike > 0, GuestError.STRIKE),
        (given.spot > 0, GuestError.SPOT),
        (1 <= given.quantity <= MAX_QUANTITY, GuestError.QUANTITY),
        (given.barrier_level != given.strike, GuestError.BARRIER),
        (given.observed_low <= given.spot <= given.observed_high, GuestError.OBSERVED_RANGE),
        (1 <= given.collateral <= MAX_MONEY_SATS, GuestError.COLLATERAL),
        (given.early_exercise in (0, 1), GuestError.EARLY_EXERCISE),
        (not tree or given.time_to_expiry <= MAX_AMERICAN_LIFE, GuestError.TIME_TO_EXPIRY),
        (not tree or given.volatility <= MAX_VOLATILITY, GuestError.VOLATILITY),
        (not tree or given.rate <= MAX_RATE, GuestError.RATE),
    )
    return next((error for ok, error in checks if not ok), GuestError.NONE)


def knocked_out(given: SettlementInput) -> bool:
    """Return whether the path has touched the knock-out level; both sides are inclusive."""
    if not given.barrier_level:
        return False
    if given.barrier_level > given.strike:
        return given.observed_high >= given.barrier_level
    return given.observed_low <= given.barrier_level


def payoff(given: SettlementInput, *, barrier_hit: bool) -> tuple[int, ExerciseType]:
    """Return the payout, exact, in cents times 1/100 BTC, and why."""
    if barrier_hit:
        return 0, ExerciseType.NO_EXERCISE
    kind = OptionKind(given.option_type)
    per_bitcoin = _exercise_value(kind, given.strike, given.spot)
    if per_bitcoin:
        return per_bitcoin * given.quantity, ExerciseType.IN_THE_MONEY
    if given.spot == given.strike:
        return 0, ExerciseType.AT_THE_MONEY
    return 0, ExerciseType.OUT_OF_THE_MONEY


def _exercise_value(kind: OptionKind, strike: int, price: int) -> int:
    difference = strike - price if kind.is_put else price - strike
    if difference <= 0:
        return 0
    return strike if kind.is_binary else difference


def exercise_now(given: SettlementInput) -> bool | None:
    """Return whether exercising is worth something and at least as much as holding, by the guest's 64-level tree.

    Before expiry, input already validated. None: volatility * sqrt(years) is above 1.5 and the guest refuses.
    Every product is truncated to Q32 as in exercise_tree.c; see there for the constants.
    """
    spread = (given.volatility << 12) * isqrt(given.time_to_expiry << 40)
    step = spread // 57_998_621
    if step > LARGEST_STEP_Q32:
        return None
    growth = ((given.rate * given.time_to_expiry) << 25) // 2_628_000_000
    step = max(step, growth, SMALLEST_STEP_Q32)
    sinh_step, cosh_step = _hyperbolic(step)
    sinh_growth, cosh_growth = _hyperbolic(growth)
    up_less_one = sinh_step + cosh_step
    down = _Q32 - sinh_step + cosh_step
    discount = min(_Q32 - sinh_growth + cosh_growth, _Q32 - 1)
    odds, width = sinh_growth + cosh_growth + sinh_step - cosh_step, 2 * sinh_step
    probability = MAX_U32 if odds >= width else (odds << 32) // width
    weight_up = probability * discount >> 32
    weight_down = discount - weight_up

    shift = min(31 - ((step * 93 >> 32) + 1) - given.spot.bit_length(), 31 - given.strike.bit_length())
    exercise, alive = _nodes(given, shift, up_less_one, down)
    values = exercise[::2]
    for level in range(TREE_LEVELS - 1, 0, -1):
        first = TREE_LEVELS - level
        values = [
            max(
                (weight_up * values[j + 1] >> 32) + (weight_down * values[j] >> 32) if alive[first + 2 * j] else 0,
                exercise[first + 2 * j],
            )
            for j in range(level + 1)
        ]
    held = (weight_up * values[1] >> 32) + (weight_down * values[0] >> 32)
    return exercise[TREE_LEVELS] > 0 and exercise[TREE_LEVELS] >= held


def _hyperbolic(x: int) -> tuple[int, int]:
    """Return sinh(x) and cosh(x) - 1 in Q32, by the terms up to x**10."""
    term = x
    sums = [0, x]
    for k in range(2, 11):
        term = (term * x >> 32) // k
        sums[k & 1] += term
    return sums[1], sums[0]


def _scaled(value: int, shift: int) -> int:
    return value >> -shift if shift < 0 else min(value << shift, MAX_U32)


def _nodes(given: SettlementInput, shift: int, up_less_one: int, down: int) -> tuple[list[int], list[bool]]:
    """Return for each of the 129 prices what exercising is worth there, and whether the option is alive."""
    spot, strike, barrier = (_scaled(v, shift) for v in (given.spot, given.strike, given.barrier_level))
    rising, falling = [spot], [spot]
    for _ in range(TREE_LEVELS):
        rising.append(rising[-1] + (rising[-1] * up_less_one >> 32))
        falling.append(falling[-1] * down >> 32)
    prices = falling[:0:-1] + rising
    kind = OptionKind(given.option_type)
    if not given.barrier_level:
        alive = [True] * len(prices)
    elif given.barrier_level > given.strike:
        alive = [price < barrier for price in prices]
    else:
        alive = [price > barrier for price in prices]
    exercise = [
        _exercise_value(kind, strike, price) if living else 0 for price, living in zip(prices, alive, strict=True)
    ]
    return exercise, alive
