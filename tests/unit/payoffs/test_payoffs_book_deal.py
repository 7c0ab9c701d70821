"""A book as a file, as messages, as a rule of a mandate, and priced: one form each, and no other is read."""

import json
import math
from dataclasses import fields, replace

import numpy as np
import pytest

from btcfi.contracts.mandate import Bounds, decode_mandate, encode_mandate
from btcfi.contracts.mandate_drafts import careful_books
from btcfi.contracts.messages import CET_FEE, Role
from btcfi.contracts.netting import NettedSignatures
from btcfi.errors import InvalidInputError
from btcfi.payoffs.book import Book, book_of
from btcfi.payoffs.book_deal import deal
from btcfi.payoffs.book_file import read_book
from btcfi.payoffs.book_messages import (
    Answer,
    BookTerms,
    Signatures,
    contract_id,
    decode_answer,
    decode_proposal,
    decode_signatures,
    encode_answer,
    encode_proposal,
    encode_signatures,
    propose,
)
from btcfi.payoffs.book_value import BookMarket, book_greeks, book_sats, legs_premium, margin
from btcfi.payoffs.curve import LegKind
from btcfi.pricing import quadrature
from btcfi.units import BasisPoints, CentsPerBtc, Height, Sats, UnixSeconds
from tests.support.contracts import POLICY, RATE
from tests.support.mandates import PROGRAM, mandate
from tests.support.net_books import CONDORS, EXPIRY, FLOOR, NetScene, condors, legs_of
from tests.support.two_books import book_rule

BOOK = """
expiry = "2026-12-25T08:00:00Z"
floor = "50,000"
barrier = "130000"
[[leg]]
kind = "put"
strike = "95000"
quantity = "-0.10"
[[leg]]
kind = "digital_call"
strike = "100000.50"
quantity = "0.20"
cash = "1000"
[[leg]]
kind = "call"
strike = "110000"
quantity = "1"
knock_out = true
"""


@pytest.fixture(scope="module")
def scene():
    return NetScene(book=condors(quantity=10))


@pytest.fixture(scope="module")
def proposal(scene):
    terms = BookTerms(
        book=scene.book, announcements=scene.announcements, threshold=1, premium=-5, legs_premium=Sats(1_000_000),
        tolerance=BasisPoints(2_000), expiry_height=Height(200), refund_height=Height(350), rate=RATE, cet_fee=CET_FEE,
        valid_until=UnixSeconds(2_000_000_000),
    )  # fmt: skip
    return propose(terms, role=Role.SELLER, party=scene.writer, identity_secret=b"\x21" * 32, aux=bytes(32))


# ---- a file


def test_a_book_is_read_from_a_file_of_data_leg_by_leg():
    book = read_book(BOOK, what="book.toml")
    assert (book.expiry, book.floor, book.barrier) == (1_798_185_600, 5_000_000, 13_000_000)
    assert [(leg.kind, leg.strike, leg.quantity, leg.cash) for leg in book.legs] == [
        (LegKind.PUT, 9_500_000, -10, None), (LegKind.DIGITAL_CALL, 10_000_050, 20, 100_000),
    ]  # fmt: skip
    assert [(leg.kind, leg.quantity) for leg in book.knock_outs] == [(LegKind.CALL, 100)]


WRONG = {
    "strike": ('strike = "95000"', "strike = 95000"), "quantity": ('"-0.10"', '"-0.105"'),
    "floor": ('"50,000"', '"50,0000"'), "kind": ('"put"', '"swap"'), "striker": ("strike =", "striker ="),
    "expiry": ("2026-12-25T08:00:00Z", "2026-12-25T08:00:01Z"), "expiry ": ("2026-12-25T08:00:00Z", "+60"),
    "TOML": ("[[leg]]", "[[leg]"), "barrier": ('barrier = "130000"\n', ""), "cash": ('cash = "1000"\n', ""),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_a_file_of_another_form_is_refused_by_the_field(what):
    text = BOOK.replace(*WRONG[what], 1)
    assert text != BOOK
    with pytest.raises(InvalidInputError) as told:
        read_book(text, what="book.toml")
    assert what.strip().removesuffix("r") in str(told.value)


# ---- messages


def test_each_message_is_read_as_it_was_written(scene, proposal):
    signed = NettedSignatures(presignatures=bytes(range(65)) * 3, refund=bytes(64))
    answer = Answer(proposal_id=proposal.id, party=scene.holder, signatures=signed)
    last = Signatures(
        contract_id=contract_id(proposal, scene.holder), signatures=signed, witnesses={0: (b"\x01" * 64,)}
    )  # fmt: skip
    for message, encode, decode in (
        (proposal, encode_proposal, decode_proposal), (answer, encode_answer, decode_answer),
        (last, encode_signatures, decode_signatures),
    ):  # fmt: skip
        assert decode(json.loads(json.dumps(encode(message)))) == message


def test_a_field_that_is_missing_unknown_or_another_type_is_refused_by_its_name(proposal):
    message = encode_proposal(proposal)
    for name in message:
        for wrong in (
            {key: value for key, value in message.items() if key != name}, message | {name: None},
            message | {name: [0]}, message | {f"{name}_2": 1},
        ):  # fmt: skip
            with pytest.raises(InvalidInputError) as told:
                decode_proposal(wrong)
            assert name in told.value.field or told.value.field in {"message", f"btcfi/book-proposal.{name}_2"}


def test_every_term_is_in_the_id_that_the_identity_signs(scene, proposal):
    terms, ids = proposal.terms, {proposal.id}
    others = {
        "book": condors(quantity=11), "announcements": (), "threshold": 2, "premium": 5, "legs_premium": Sats(1),
        "tolerance": BasisPoints(1), "expiry_height": Height(201), "refund_height": Height(351), "rate": RATE + 1,
        "cet_fee": Sats(300), "valid_until": UnixSeconds(5),
    }  # fmt: skip
    assert set(others) == {one.name for one in fields(terms)}
    for name, value in others.items():
        ids.add(replace(proposal, terms=replace(terms, **{name: value})).id)
    ids |= {replace(proposal, role=Role.BUYER).id, replace(proposal, party=scene.holder).id}
    ids |= {replace(proposal, identity=bytes(32)).id}
    assert len(ids) == len(others) + 4


def test_what_a_side_can_lose_is_what_it_puts_in_pays_and_does_not_get_back(scene, proposal):
    made = deal(proposal, scene.holder, policy=POLICY)
    for role in Role:
        spent = made.puts_in(role) + made.pays(role) + made.fee(role)
        worst = min(
            [getattr(made.netted.plan.split_of(at), role.value) for at in range(len(made.netted.plan.buckets))]
            + [made.netted.refund.payout if role is Role.BUYER else made.netted.refund.seller_return]
        )  # fmt: skip
        assert made.worst_loss(role) == max(0, spent - worst) == made.facts(role, value=None).worst_loss
    assert made.facts(Role.SELLER, value=1).proposer is None
    assert made.facts(Role.BUYER, value=1).proposer == proposal.identity


# ---- a mandate


def test_a_mandate_without_books_stays_the_bytes_that_an_earlier_release_signed():
    assert "books" not in encode_mandate(mandate())
    assert decode_mandate(encode_mandate(mandate())).books is None


@pytest.mark.parametrize("rule", [
    book_rule(), book_rule(value_slack=Sats(5), proposers=(bytes.fromhex("79be667ef9dcbbac55a06295ce870b07"
                                                                        "029bfcdb2dce28d959f2815b16f81798"),)),
    careful_books(roles=list(Role), programs=[PROGRAM]),
])  # fmt: skip
def test_a_rule_for_books_is_read_as_it_was_written(rule):
    given = mandate(books=rule)
    assert decode_mandate(json.loads(json.dumps(encode_mandate(given)))) == given


@pytest.mark.parametrize(
    "changes", [{"roles": ()}, {"programs": (PROGRAM, PROGRAM)}, {"proposers": (bytes(32),)}, {"legs": None}]
)
def test_a_rule_that_allows_nothing_or_says_something_twice_is_refused(changes):
    if "legs" in changes:
        written = encode_mandate(mandate(books=book_rule()))
        written["books"]["leg"] = 3
        with pytest.raises(InvalidInputError):
            decode_mandate(written)
        return
    with pytest.raises(InvalidInputError):
        book_rule(**changes)


def test_the_bounds_of_a_book_s_premium_may_lie_below_zero():
    assert book_rule(premium=Bounds(least=-5, most=-1)).premium.least == -5


# ---- priced


MARKET = BookMarket(spot=CentsPerBtc(10_000_000), tau_years=7 / 365, volatility=0.6)


def test_a_book_s_value_is_that_of_a_quadrature_of_what_it_pays():
    book = condors(quantity=10)

    def dollars(prices):
        # what a holder gains in satoshis, exactly and undivided, at each node's own price
        curve, held = book.untouched, np.maximum(prices, FLOOR / 100)
        starts = np.array([piece.start for piece in curve.pieces], dtype=np.float64)
        at = np.searchsorted(starts, held * 100, side="right") - 1
        constants = np.array([piece.constant for piece in curve.pieces], dtype=np.float64)[at]
        numerators = np.array([piece.numerator for piece in curve.pieces], dtype=np.float64)[at]
        sats = constants + numerators / (held * 100)
        return sats / 1e8 * prices

    borders = np.array([leg.strike / 100 for leg in book.legs] + [FLOOR / 100], dtype=np.float64)
    found = quadrature.greeks(
        dollars, borders=np.unique(borders), spot=100_000.0, tau_years=MARKET.tau_years, volatility=0.6, rate=0.0
    )  # fmt: skip
    ours = book_greeks(book, MARKET)
    for name in ("premium", "delta", "gamma", "vega"):
        one, other = float(getattr(ours, name)), float(getattr(found, name))
        assert math.isclose(one, other, rel_tol=1e-4, abs_tol=1e-6), name
    assert book_sats(book, MARKET) == round(float(ours.premium) * 1e8 / 100_000)


def test_a_book_of_ten_legs_locks_at_most_a_twelfth_of_its_legs_one_by_one():
    scene = NetScene(book=condors(quantity=10))
    found = margin(scene.contract, MARKET)
    assert found.net_share <= 0.08
    assert (found.holder, found.writer) == (scene.contract.holder, scene.contract.writer)
    assert found.worst(holder=True).change_usd == min(one.change_usd for one in found.scenarios)
    assert found.worst(holder=False).change_usd == max(one.change_usd for one in found.scenarios)
    (still,) = [one for one in found.scenarios if (one.spot_move, one.volatility_move) == (0.0, 0.0)]
    assert still.change_usd == 0.0


def test_what_a_tolerance_is_of_is_the_sum_of_the_legs_sizes_and_never_nothing():
    book = condors(quantity=10)
    alone = [Book(expiry=EXPIRY, legs=(leg,), floor=FLOOR) for leg in book.legs]
    assert legs_premium(book, MARKET) == sum(abs(book_sats(one, MARKET)) for one in alone)
    far = book_of(legs_of([(1, LegKind.CALL, 900)], 1), expiry=EXPIRY)
    assert legs_premium(far, MARKET) == 1


def test_a_book_with_a_barrier_is_not_priced_by_half():
    book = book_of(
        legs_of(CONDORS[2:], 10), knock_outs=legs_of([CONDORS[0]], 10), barrier=CentsPerBtc(8_000_000), expiry=EXPIRY,
        floor=FLOOR,
    )  # fmt: skip
    with pytest.raises(InvalidInputError) as told:
        book_greeks(book, MARKET)
    assert told.value.field == "barrier"
