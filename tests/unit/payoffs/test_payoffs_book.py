"""A net book: its one form in bytes, what it refuses, and what a barrier makes of it."""

import random
from dataclasses import replace
from struct import pack

import pytest

from btcfi.contracts.buckets import SingleOutcomeError, ToleranceRule, TooManyBucketsError, bucket_of
from btcfi.errors import InvalidInputError
from btcfi.options.expiry import GuestError, GuestRefusedError, SettlementInput
from btcfi.options.payoff import settle_in_python as settle_option
from btcfi.payoffs.book import Book, book_net, book_of, contract_of
from btcfi.payoffs.book_guest import (
    BookDisagreesError,
    BookOutput,
    book_input,
    by_guest,
    check_agreement,
    check_buckets,
    outputs_by,
    settle_in_python,
)
from btcfi.payoffs.curve import FloorMissingError, Leg, LegKind
from btcfi.proofs.settlement_proof import build_proof, verify
from btcfi.units import MAX_MONEY_SATS, BasisPoints, CentsPerBtc, Sats, Slot
from btcfi.vm.agreement import execute
from btcfi.vm.emulator import Emulator
from btcfi.vm.interpreter import run_untraced
from btcfi.vm.program import load_program
from tests.support.net_books import CONDORS, EXPIRY, FLOOR, PROGRAM, NetScene, condors, event_of, legs_of, random_book

RULE = ToleranceRule(tolerance=BasisPoints(500))
PREMIUM = Sats(1_000_000)
C, P = LegKind.CALL, LegKind.PUT
UP = CentsPerBtc(12_000_000)


def book(legs, **changes):
    return book_of(legs_of(legs), expiry=EXPIRY, **({"floor": FLOOR} | changes))


def knock_out_call(**changes):
    """A call of one bitcoin at $100,000 that ends at $120,000."""
    return book([], knock_outs=legs_of([(1, C, 100)]), barrier=UP, floor=None, **changes)


def test_legs_in_any_order_and_in_any_parts_are_one_book_with_one_form_in_bytes():
    legs = legs_of(CONDORS)
    random.Random(18).shuffle(legs)
    halves = [replace(leg, quantity=leg.quantity // 2) for leg in legs for _ in range(2)]
    come_and_gone = [*halves, *legs_of([(1, C, 130), (-1, C, 130)])]
    other = book_of(come_and_gone, expiry=EXPIRY, floor=FLOOR)
    assert other == condors()
    assert (other.to_bytes(), other.id) == (condors().to_bytes(), condors().id)
    assert Book.from_bytes(other.to_bytes()) == other


def test_books_that_differ_in_anything_have_other_ids():
    ended = {"knock_outs": legs_of([(1, C, 100)]), "barrier": UP}
    books = [
        condors(), condors(99), replace(condors(), floor=CentsPerBtc(4_999_999)),
        replace(condors(), expiry=Slot(EXPIRY + 60)), condors(**ended),
        condors(**(ended | {"barrier": CentsPerBtc(12_000_001)})),
        book_of([*legs_of(CONDORS), *legs_of([(1, C, 101)])], expiry=EXPIRY, floor=FLOOR),
    ]  # fmt: skip
    assert len({one.id for one in books}) == len(books)


def other_forms():
    raw = condors().to_bytes()
    first, second, rest = raw[:28], raw[28:48], raw[48:]
    ended = condors(knock_outs=legs_of([(1, C, 100)]), barrier=UP).to_bytes()
    return {
        "nothing": b"",
        "half a head": raw[:20],
        "a byte more": raw + b"\0",
        "a leg less": raw[:-20],
        "another version": pack("<I", 2) + raw[4:],
        "more legs than there are": raw[:4] + pack("<I", 11) + raw[8:],
        "four billion legs": raw[:4] + pack("<I", 2**32 - 1) + raw[8:],
        "two legs exchanged": first + rest[:20] + second + rest[20:],
        "a leg twice": raw[:4] + pack("<I", 11) + raw[8:28] + second + second + rest,
        "a kind that nobody knows": first + pack("<I", 7) + second[4:] + rest,
        "a leg of nothing": first + second[:12] + pack("<i", 0) + second[16:] + rest,
        "cash of a call": first + second[:8] + pack("<I", 1) + second[12:] + rest,
        "a plain leg that ends": first + second[:16] + pack("<I", 1) + rest,
        "an ended leg that lives": ended[:-4] + pack("<I", 0),
        "a mark of two": ended[:-4] + pack("<I", 2),
        "a floor of a cent": raw[:20] + pack("<I", 1) + raw[24:],
        "a barrier without a leg": raw[:24] + pack("<I", UP) + raw[28:],
        "no barrier for a leg that ends": ended[:24] + pack("<I", 0) + ended[28:],
        "an expiry between two minutes": raw[:12] + pack("<Q", EXPIRY + 1) + raw[20:],
    }


@pytest.mark.parametrize("name", other_forms())
def test_any_other_form_of_the_bytes_is_refused(name):
    with pytest.raises(InvalidInputError):
        Book.from_bytes(other_forms()[name])


def test_no_byte_of_a_book_can_change_without_another_book_or_a_refusal():
    raw = bytearray(condors(knock_outs=legs_of([(1, C, 100)]), barrier=UP).to_bytes())
    for place in range(len(raw)):
        changed = bytearray(raw)
        changed[place] ^= 0x01
        try:
            found = Book.from_bytes(bytes(changed))
        except InvalidInputError:
            continue
        assert found.to_bytes() == bytes(changed)


@pytest.mark.parametrize("count", [0, 65])
def test_a_book_has_1_to_64_legs(count):
    legs = [Leg(kind=C, strike=CentsPerBtc(10_000_000 + n), quantity=1) for n in range(count)]
    with pytest.raises(InvalidInputError) as refused:
        book_of(legs, expiry=EXPIRY, floor=FLOOR)
    assert refused.value.field == "legs"


def test_what_is_worth_dollars_at_no_price_needs_a_floor_and_calls_do_not():
    with pytest.raises(FloorMissingError):
        book([(1, P, 100), (-1, P, 90)], floor=None)
    assert book([(1, C, 100), (-1, C, 110)], floor=None).floor is None


@pytest.mark.parametrize(
    ("ends", "level"),
    [
        ([], UP),
        ([(1, C, 100)], None),
        ([(1, C, 100)], CentsPerBtc(10_000_000)),  # at its strike
        ([(1, C, 100), (1, C, 130)], UP),  # between two
    ],
)
def test_one_barrier_ends_legs_of_strikes_on_one_side_of_it_alone(ends, level):
    with pytest.raises(InvalidInputError) as refused:
        book([(1, C, 90)], knock_outs=legs_of(ends), barrier=level)
    assert refused.value.field == "barrier"


def test_the_event_of_a_book_is_of_its_expiry_and_states_its_barrier():
    up, down = knock_out_call(), book([(1, C, 90)], knock_outs=legs_of([(1, P, 100)]), barrier=CentsPerBtc(8_000_000))
    assert event_of(up).condition.startswith("agreed price >= 12000000 cents between ")
    assert event_of(down).condition.startswith("agreed price <= 8000000 cents between ")
    assert contract_of(up, event_of(up)).event.condition
    for event in (
        event_of(condors()), event_of(down), replace(event_of(up), expiry=Slot(EXPIRY + 60)),
        replace(event_of(up), condition=event_of(up).condition + " or so"),
        replace(event_of(up), condition=up.condition(Slot(EXPIRY + 60))),
    ):  # fmt: skip
        with pytest.raises(InvalidInputError) as refused:
            contract_of(up, event)
        assert refused.value.field in {"event.condition", "event.expiry"}
    with pytest.raises(InvalidInputError):
        contract_of(condors(), replace(event_of(condors()), condition="agreed price >= 1 cents between 0 and 60"))


def test_a_leg_that_a_barrier_ends_pays_as_the_option_of_its_own_does():
    draw, option = random.Random(18), knock_out_call()
    for touched in (False, True):
        for price in [draw.randrange(1, 26_000_000) for _ in range(200)] + [10_000_000, 11_999_999, 12_000_000]:
            given = SettlementInput(
                option_type=0, strike=CentsPerBtc(10_000_000), spot=CentsPerBtc(price), quantity=100,
                barrier_level=UP, early_exercise=0, time_to_expiry=0, volatility=0, observed_low=CentsPerBtc(price),
                observed_high=CentsPerBtc(max(price, UP if touched else 0)), premium=0, rate=0,
                collateral=Sats(MAX_MONEY_SATS),
            )  # fmt: skip
            alone = settle_option(given)
            raw = book_input(option, CentsPerBtc(price), touched=touched, own=Sats(0), collateral=Sats(MAX_MONEY_SATS))
            assert (settle_in_python(raw).payout, settle_in_python(raw).barrier_hit) == (
                alone.payout_sats, alone.barrier_hit
            )  # fmt: skip
            assert book_net(option, [price], touched=touched).tolist() == [alone.payout_sats]


def test_a_plain_leg_less_one_that_ends_is_one_that_begins_when_the_barrier_is_touched():
    knock_in = book([(1, C, 100)], knock_outs=legs_of([(-1, C, 100)]), barrier=UP, floor=None)
    prices = [9_000_000, 10_500_000, 11_999_999, 12_000_000, 15_000_000]
    call = book([(1, C, 100)], floor=None)
    assert book_net(knock_in, prices).tolist() == [0, 0, 0, *book_net(call, prices[3:]).tolist()]
    assert (book_net(knock_in, prices, touched=True) == book_net(call, prices)).all()


def test_both_sides_lock_the_worst_of_the_touched_and_the_untouched_book():
    # long a put spread for ever, short a put that ends at $130,000: what hedges is there after what it hedges
    mixed = book([(1, P, 100), (-1, P, 90)], knock_outs=legs_of([(-1, P, 110)]), barrier=CentsPerBtc(13_000_000))
    contract = contract_of(mixed, event_of(mixed))
    prices = [100 * dollars for dollars in range(1, 262_144, 7)]
    both = [book_net(mixed, prices), book_net(mixed, prices, touched=True)]
    assert contract.holder >= -min(one.min() for one in both)
    assert contract.writer >= max(one.max() for one in both)
    assert (contract.holder, contract.writer) == (
        -book_net(mixed, [5_000_000])[0], book_net(mixed, [5_000_000], touched=True)[0]
    )  # fmt: skip


def test_each_outcome_of_a_condition_and_a_price_lies_in_one_range_and_a_flat_half_is_one():
    option = knock_out_call()
    contract = contract_of(option, event_of(option))
    buckets = contract.buckets(RULE, premium=PREMIUM)
    assert sum(1 << (19 - one.length) for one in buckets) == 1 << 19
    assert (buckets[-1].prefix, buckets[-1].length, buckets[-1].payout) == (1, 1, 0)
    for price, touched in ((11_000_000, False), (11_000_000, True), (12_500_000, False), (26_000_000, True)):
        outcome = contract.event.outcome(CentsPerBtc(price), condition=touched)
        paid = buckets[bucket_of(buckets, outcome, 19)].payout
        assert paid == contract.payout_at(outcome, RULE, premium=PREMIUM)
        assert (paid > 0) == (price == 11_000_000 and not touched)
    with pytest.raises(InvalidInputError):
        contract.payout_at(1 << 19, RULE, premium=PREMIUM)


def test_a_book_of_one_outcome_needs_no_oracle_and_one_of_too_many_ranges_no_contract():
    far = book([(1, C, 10_000)], floor=None)  # no price that can be stated reaches it
    with pytest.raises(SingleOutcomeError):
        contract_of(far, event_of(far)).buckets(RULE, premium=PREMIUM)
    ended = book([(1, C, 10_000)], knock_outs=legs_of([(1, C, 20_000)]), barrier=UP, floor=None)
    with pytest.raises(SingleOutcomeError):
        contract_of(ended, event_of(ended)).buckets(RULE, premium=PREMIUM)
    spread = book([(1, C, 100)], knock_outs=legs_of([(-1, C, 110)]), barrier=CentsPerBtc(13_000_000))
    contract = contract_of(spread, event_of(spread))
    many = len(contract.buckets(RULE, premium=PREMIUM))
    with pytest.raises(TooManyBucketsError):  # neither half is too many by itself
        contract.buckets(RULE, premium=PREMIUM, limit=many - 1)


def test_ranges_of_another_book_are_refused_by_the_guest_s_own_runs():
    contract, run = contract_of(condors(), event_of(condors())), outputs_by(PROGRAM, event_of(condors()))
    buckets = contract.buckets(RULE, premium=PREMIUM)
    check_buckets(contract, buckets, run, rule=RULE, premium=PREMIUM)
    assert by_guest(contract, run).buckets(RULE, premium=PREMIUM) == buckets
    one_more = (replace(buckets[7], payout=Sats(buckets[7].payout + 1)), *buckets[8:])
    for wrong in ((*buckets[:7], *one_more), buckets[:-1], (*buckets, buckets[-1]), ()):
        with pytest.raises(BookDisagreesError):
            check_buckets(contract, wrong, run, rule=RULE, premium=PREMIUM)


def test_an_agreement_of_another_book_or_of_other_parts_is_refused_before_anything_is_signed():
    scene = NetScene()
    run = outputs_by(PROGRAM, scene.event)
    rule, premium = scene.rule, Sats(scene.legs_premium)
    agreement = scene.agreement()
    check_agreement(scene.contract, agreement, run, rule=rule, premium=premium)
    shifted = replace(scene.terms, holder=Sats(scene.terms.holder + 1), writer=Sats(scene.terms.writer - 1))
    more, less = (
        scene.agreement(terms=one) for one in (shifted, replace(scene.terms, writer=Sats(scene.terms.writer + 100)))
    )
    other = contract_of(other_book := condors(99), event_of(other_book))
    later = contract_of(condors(), event_of(condors(), feed="ETH/USD"))
    for what, mine, theirs in (
        ("holder", scene.contract, more), ("writer", scene.contract, less), ("holder", other, agreement),
        ("event", later, agreement),
    ):  # fmt: skip
        with pytest.raises(BookDisagreesError) as refused:
            check_agreement(mine, theirs, run, rule=rule, premium=premium)
        assert refused.value.field == what


def test_a_loss_and_a_gain_are_both_rounded_down_and_once():
    # at $92,000 the put that was sold at $95,000 costs $3,000: 0.0326086956... bitcoin
    sold, bought = book([(-1, P, 95), (1, P, 90)]), book([(1, P, 95), (-1, P, 90)])
    assert book_net(sold, [9_200_000]).tolist() == [-3_260_870]
    assert book_net(bought, [9_200_000]).tolist() == [3_260_869]
    given = book_input(sold, CentsPerBtc(9_200_000), touched=False, own=Sats(10_000_000), collateral=Sats(10_000_000))
    output = BookOutput.from_bytes(run_untraced(PROGRAM, given).output)
    assert (output.payout, output.net, output.value) == (6_739_130, -3_260_870, -300_000 * 100)


def test_both_executors_run_a_book_alike_and_its_proof_is_checked_like_any_other():
    given = book_input(condors(), CentsPerBtc(9_200_000), touched=False, own=Sats(10**8), collateral=Sats(2 * 10**8))
    emulator = Emulator(PROGRAM)
    execution = execute(PROGRAM, emulator, given)
    assert execution.output == settle_in_python(given).to_bytes()
    assert execute(PROGRAM, emulator, pack("<I", 2) + given[4:]).output == settle_in_python(b"\2\0\0\0").to_bytes()
    assert verify(build_proof(execution), PROGRAM).program_name == "net_book"


def test_the_guest_that_runs_is_the_one_that_the_event_names():
    with pytest.raises(InvalidInputError) as refused:
        outputs_by(load_program("option_settlement"), event_of(condors()))
    assert refused.value.field == "event.program_hash"


def test_a_condition_that_a_book_lacks_and_a_refusal_of_the_guest_are_named():
    with pytest.raises(InvalidInputError) as refused:
        book_input(condors(), CentsPerBtc(1), touched=True, own=Sats(0), collateral=Sats(1))
    assert refused.value.field == "touched"
    refusing = by_guest(
        contract_of(condors(), event_of(condors())),
        lambda given: [settle_in_python(pack("<I", 2) + one[4:]).to_bytes() for one in given],
    )
    with pytest.raises(GuestRefusedError) as found:
        refusing.untouched.payouts([CentsPerBtc(10_000_000)])
    assert found.value.error is GuestError.ABI_VERSION


def test_an_output_that_is_none_is_refused():
    given = book_input(condors(), CentsPerBtc(9_000_000), touched=False, own=Sats(0), collateral=Sats(9))
    good = settle_in_python(given)
    raw = good.to_bytes()
    assert BookOutput.from_bytes(raw) == good
    for wrong in (
        b"", raw + b"\0", raw[:-4] + pack("<I", 99), pack("<Q", MAX_MONEY_SATS + 1) + raw[8:],
        raw[:28] + pack("<I", 2) + raw[32:],
    ):  # fmt: skip
        with pytest.raises(InvalidInputError):
            BookOutput.from_bytes(wrong)


def test_a_random_book_is_read_as_it_was_written():
    draw = random.Random(18)
    for _ in range(60):
        one = random_book(draw)
        assert Book.from_bytes(one.to_bytes()) == one
