"""Two roads to one number: the guests in the machine, and Python integers."""

import random
import struct
from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from btcfi.options.expiry import ExerciseType, GuestError, SettlementInput, SettlementOutput
from btcfi.options.payoff import settle_in_python, twin_of
from btcfi.vm.interpreter import Machine, run_many, run_untraced
from btcfi.vm.program import load_program, load_program_by_hash
from guest_programs.build import ROOT, read_manifest

PROGRAM = load_program("option_settlement")
U32 = st.integers(0, 2**32 - 1)
EDGES = st.sampled_from([0, 1, 2, 3, 99, 100, 101, 2**16, 2**31 - 1, 2**31, 2**31 + 1, 2**32 - 2, 2**32 - 1])
WORD = EDGES | U32


def sensible(rng):
    strike = rng.choice((6_000_000, rng.randrange(1, 1 << rng.randrange(1, 33))))
    near = max(1, min(2**32 - 1, int(strike * rng.uniform(0.5, 1.5))))
    spot = rng.choice((strike, near, near, rng.randrange(1, 1 << rng.randrange(1, 33))))
    barrier = rng.choice((0, 0, max(0, min(2**32 - 1, int(strike * rng.uniform(0.5, 1.5))))))
    return SettlementInput(
        option_type=rng.randrange(4), strike=strike, spot=spot,
        quantity=rng.choice((1, 100, rng.randrange(1, 2_100_000_001))),
        barrier_level=barrier, early_exercise=rng.randrange(2), time_to_expiry=rng.choice((0, rng.randrange(525_601))),
        volatility=rng.randrange(16_000), observed_low=rng.choice((spot, rng.randrange(spot + 1))),
        observed_high=rng.choice((spot, rng.randrange(spot, 2**32))), premium=rng.randrange(2**32),
        rate=rng.choice((0, rng.randrange(5001))), collateral=rng.randrange(1, 2_100_000_000_000_001),
    )  # fmt: skip


def test_the_guest_equals_python_on_sensible_inputs():
    rng = random.Random(11)
    given_inputs = [sensible(rng) for _ in range(4000)]
    outputs = run_many(PROGRAM, [one.to_bytes() for one in given_inputs])
    seen = set()
    for one, output in zip(given_inputs, outputs, strict=True):
        expected = settle_in_python(one)
        assert output == expected.to_bytes(), one
        seen.add(expected.exercise_type)
    assert seen == set(ExerciseType)


def test_between_the_price_and_the_satoshis_lies_one_division():
    """Exact rationals, floored once: neither the cent nor anything else is rounded on the way."""
    rng = random.Random(17)
    given_inputs = [replace(sensible(rng), early_exercise=0, time_to_expiry=0, barrier_level=0) for _ in range(4000)]
    outputs = run_many(PROGRAM, [one.to_bytes() for one in given_inputs])
    cent_lost = 0
    for one, raw in zip(given_inputs, outputs, strict=True):
        output, put, binary = SettlementOutput.from_bytes(raw), one.option_type & 1, one.option_type >> 1
        gain = max(one.strike - one.spot if put else one.spot - one.strike, 0)
        exact = Fraction((one.strike if binary and gain else gain) * one.quantity, 100)  # cents
        assert output.payout == exact.__floor__()
        assert output.payout_sats == min((exact * 10**8 / one.spot).__floor__(), one.collateral), one
        cent_lost += output.payout_sats > output.payout * 10**8 // one.spot
    assert cent_lost > 100


@pytest.mark.parametrize("row", [row for row in read_manifest(ROOT)["retired"] if row["output_size"] == 40])
def test_a_retired_guest_equals_its_own_twin_and_not_todays(row):
    program = load_program_by_hash(row["image_sha256"])
    rng = random.Random(23)
    inputs = [sensible(rng) for _ in range(1500)]
    outputs = [SettlementOutput.from_bytes(one) for one in run_many(program, [one.to_bytes() for one in inputs])]
    twin = twin_of(row["image_sha256"])
    settled = [(one, output) for one, output in zip(inputs, outputs, strict=True) if output.error is GuestError.NONE]
    assert all(output == twin(one) for one, output in settled)
    assert any(output != settle_in_python(one) for one, output in settled)


@settings(max_examples=400, deadline=None)
@given(st.lists(WORD, min_size=12, max_size=12), st.integers(0, 2**64 - 1) | st.just(10**8), EDGES | st.just(1))
def test_the_guest_equals_python_on_any_words_at_all(words, collateral, version):
    data = struct.pack("<12IQI", *words, collateral, version)
    result = run_untraced(PROGRAM, data)
    assert result.output == settle_in_python(SettlementInput.from_bytes(data)).to_bytes()


@pytest.mark.parametrize("name", ["vanilla_option", "binary_option", "barrier_option"])
def test_the_small_programs_equal_the_large_one_where_they_apply_and_refuse_elsewhere(name):
    rng = random.Random(5)
    program = load_program(name)
    applies = {
        "vanilla_option": lambda x: x.option_type < 2 and not x.barrier_level and not x.early_exercise,
        "binary_option": lambda x: x.option_type >= 2 and not x.barrier_level and not x.early_exercise,
        "barrier_option": lambda x: x.barrier_level and not x.early_exercise,
    }[name]
    inputs = [replace(sensible(rng), early_exercise=rng.choice((0, 0, 1))) for _ in range(2000)]
    outputs = run_many(program, [one.to_bytes() for one in inputs])
    for one, output in zip(inputs, outputs, strict=True):
        if applies(one):
            assert output == settle_in_python(one).to_bytes()
        else:
            assert SettlementOutput.from_bytes(output).error is not GuestError.NONE


def test_a_portfolio_settles_each_option_as_alone_and_adds_up_the_satoshis():
    rng = random.Random(3)
    program = load_program("portfolio_settlement")
    for count in (1, 7, 64):
        first = sensible(rng)
        options = [
            replace(o, spot=first.spot, time_to_expiry=0, observed_low=first.spot, observed_high=first.spot)
            for o in (sensible(rng) for _ in range(count))
        ]
        data = struct.pack("<II", 1, count) + b"".join(o.to_bytes() for o in options)
        output = run_untraced(program, data).output
        version, error, said, _, paid = struct.unpack_from("<4IQ", output)
        assert (version, error, said) == (1, 0, count)
        each = [output[24 + 40 * n : 64 + 40 * n] for n in range(count)]
        assert each == [settle_in_python(o).to_bytes() for o in options]
        assert paid == sum(SettlementOutput.from_bytes(one).payout_sats for one in each)
        assert not any(output[24 + 40 * count :])


@pytest.mark.parametrize(
    ("header", "change", "error"),
    [((2, 2), {}, 1), ((1, 0), {}, 5), ((1, 65), {}, 5), ((1, 2), {"spot": 7}, 4), ((1, 2), {"time_to_expiry": 1}, 8)],
)
def test_a_portfolio_of_another_shape_is_refused_as_a_whole(header, change, error):
    one = replace(sensible(random.Random(1)), time_to_expiry=0)
    data = struct.pack("<II", *header) + one.to_bytes() + replace(one, **change).to_bytes()
    output = run_untraced(load_program("portfolio_settlement"), data).output
    assert struct.unpack_from("<4I", output)[1:3] == (error, 0)


def test_the_guests_long_division_is_exact():
    """divide_digits is what the formal proof assumes: called in the machine with 3,000 operands, corners among them."""
    address = PROGRAM.elf.symbols["divide_digits"][0]
    rng = random.Random(9)
    corners = [1, 2, 3, 99, 100, 0x7FFF_FFFF, 0x8000_0000, 0x8000_0001, 0xFFFF_0000, 0xFFFF_FFFF, 0x1_0000, 0xFFFF]
    for n in range(3000):
        divisor = rng.choice(corners) if n % 2 else max(1, rng.getrandbits(rng.randrange(1, 33)))
        high = rng.choice((0, divisor - 1, rng.randrange(divisor)))
        low = rng.choice((0, 0xFFFF_FFFF, rng.getrandbits(32)))
        machine = Machine(PROGRAM, b"")
        machine._registers[[10, 11, 12, 13, 1]] = [low, high, divisor, 0x8000_2000, PROGRAM.elf.entry + 16]
        machine._state[0] = address
        machine.advance(104)
        rest = machine.result().memory[4096:4100]
        assert (int(machine._registers[10]), int.from_bytes(rest, "little")) == divmod(high << 32 | low, divisor)
