"""The fan-out on paper: outputs, dues, every owner's signatures, what an attestation finishes, and who else can't."""

from dataclasses import replace
from fractions import Fraction
from itertools import chain, combinations

import pytest

from btcfi import secp256k1
from btcfi.bitcoin import adaptor
from btcfi.bitcoin.adaptor import ADAPTOR_SIZE, WrongAdaptorError
from btcfi.bitcoin.fees import DUST_P2TR, SatsPerKvb
from btcfi.bitcoin.keys import TaprootKey
from btcfi.bitcoin.transaction import OutPoint, Transaction, TxIn, TxOut
from btcfi.bitcoin.wallet import Coin, InsufficientFundsError
from btcfi.contracts.execution import ANCHOR
from btcfi.contracts.option import Contribution, WrongSignatureError
from btcfi.contracts.settle import TooFewAttestationsError, secret_of
from btcfi.errors import InvalidInputError
from btcfi.swaps.contract import LOT, burn_fee
from btcfi.swaps.fanout.closing import Closing, build_close
from btcfi.swaps.fanout.dues import apportion, dues
from btcfi.swaps.fanout.funding import build_funding
from btcfi.swaps.fanout.graph import FanOut, Spend
from btcfi.swaps.fanout.presign import Attested, check_presignatures, presign
from btcfi.swaps.fanout.terms import MAX_TAKERS
from btcfi.swaps.onchain import BURN_SCRIPT, BURN_TYPE, MarginOutput, ReturnGrid, burned_by, prefixes
from btcfi.swaps.returns import Side
from btcfi.units import Sats
from tests.support.fanning import (
    LOCK,
    USUAL_RATES,
    Book,
    announcements,
    fan_terms,
    on_paper,
    positions,
    secret_of_owner,
)

DOWN, UP = Fraction(-2, 5), Fraction(2, 5)
RATE = SatsPerKvb(2_000)


def subsets(many):
    return chain.from_iterable(combinations(many, size) for size in range(len(many) + 1))


@pytest.fixture(scope="module")
def book():
    """Two longs and a short: the provider is short one margin."""
    return Book(on_paper(fan_terms(positions(2, 1)))).check()


# ---- the grid, the dues


@pytest.mark.parametrize("digits", [4, 9, 10])
def test_the_grid_is_symmetric_and_states_the_nearest_step(digits):
    grid = ReturnGrid(digits=digits)
    assert [grid.part(grid.middle + step) for step in (-grid.steps, 0, grid.steps)] == [-1, 0, 1]
    assert grid.part(0) == grid.part(1) == -1
    for step in range(-grid.steps, grid.steps + 1):
        exact = Fraction(step, grid.steps)
        for off in (Fraction(0), Fraction(49, 100 * grid.steps), Fraction(-49, 100 * grid.steps)):
            assert grid.part(grid.outcome(exact + off)) == exact
    assert grid.outcome(Fraction(5)) == grid.outcomes[-1]


@pytest.mark.parametrize("digits", [3, 12])
def test_a_return_has_4_to_11_digits(digits):
    with pytest.raises(InvalidInputError):
        ReturnGrid(digits=digits)


def test_prefixes_are_exactly_the_outcomes_of_their_range_once():
    for low in range(33):
        for high in range(low - 1, 32):
            found = prefixes(low, high, 5)
            covered = [one for prefix, length in found for one in range(prefix << 5 - length, prefix + 1 << 5 - length)]
            assert covered == list(range(low, high + 1))
            assert all(length >= 1 for _, length in found)


def test_the_largest_remainders_are_rounded_up():
    assert apportion(10, [1, 1, 1]) == [4, 3, 3]
    assert apportion(7, [5, 2, 0]) == [5, 2, 0]
    assert apportion(100, [333, 333, 334]) == [33, 33, 34]
    with pytest.raises(InvalidInputError):
        apportion(1, [0, 0])


def test_a_part_that_no_output_can_carry_goes_to_the_largest_and_a_debit_like_that_is_owed_by_nobody():
    assert dues((-1_000_000, 999_700, 300)) == {0: {1: 1_000_000}}
    assert dues((-329, 329)) == {}
    with pytest.raises(InvalidInputError):
        dues((-1, 2))


# ---- what can be a book


@pytest.mark.parametrize(
    "wrong",
    [
        {"taken": positions(8, 7)},
        {"taken": []},
        {"taken": [(Side.LONG, LOT + 1)]},
        {"taken": positions(1, 1, 2 * LOT)},
        {"taken": positions(1, 1), "names": (0, 1, 1)},
        {"taken": positions(1, 1), "threshold": 2},
        {"taken": positions(1, 1), "digits": 12},
        {"taken": positions(1, 1), "said": announcements(LOCK + 40_000)},
    ],
    ids=[
        "15 takers",
        "no takers",
        "no lots",
        "too little for the fee cap",
        "one key twice",
        "more than the oracles",
        "digits",
        "after the lock",
    ],
)
def test_a_book_that_cannot_be_one_is_refused(wrong):
    with pytest.raises(InvalidInputError):
        fan_terms(wrong.pop("taken"), **wrong)


def test_each_owner_has_an_output_and_the_provider_s_is_netted(book):
    assert book.terms.required == (10 * LOT, 10 * LOT, 10 * LOT, 10 * LOT)
    assert [margin.value for margin in book.terms.margins.values()] == [10 * LOT + ANCHOR.value + 1_000] * 4
    flat = fan_terms(positions(3, 3))
    assert flat.required[0] == 0
    assert 0 not in flat.margins
    assert len(flat.owners) == 7
    assert all(len(margin.keys) == 7 for margin in flat.margins.values())


def test_at_most_14_takers_and_a_settlement_of_all_of_them_pays_its_own_relay_fee():
    taken = [(Side.SHORT, 10 * MAX_TAKERS * LOT), *positions(MAX_TAKERS - 1, 0)]
    book = Book(on_paper(fan_terms(taken, digits=4)))
    settled = book.attested(UP).settle(1)
    assert len(settled.outputs) == 13 + 1 + 1 + 1  # 13 longs, the provider, the rest, the anchor
    fee = book.terms.margins[1].value - sum(output.value for output in settled.outputs)
    assert settled.vsize <= fee == book.terms.settle_fee


@pytest.mark.parametrize(("takers", "lots"), [(2, 4), (14, 7)])
def test_the_least_margin_is_40_times_the_fee_of_a_burn_at_the_cap(takers, lots):
    book = Book(on_paper(fan_terms(positions(takers, 0), digits=4)))
    key, outpoint = book.keys[1], OutPoint(txid=bytes([9]) * 32, index=0)
    coin = Coin(outpoint=outpoint, output=TxOut(value=Sats(10**8), script=key.script))
    burn = book.attested(-1).burn(1, book.secrets[1], fee=Sats(1_000), added=[(coin, key)])
    assert book.terms.burn_size - 1 <= burn.vsize <= book.terms.burn_size
    fee = 300 * book.terms.burn_size
    assert book.terms.least_required == lots * LOT >= 40 * fee > (lots - 1) * LOT


def test_a_week_s_rates_are_paid_by_both_sides_to_the_provider():
    flat = fan_terms(positions(2, 2), rates=USUAL_RATES)
    assert flat.profits(flat.grid.middle) == (150_000, -45_000, -45_000, -30_000, -30_000)


# ---- signatures


def test_every_owner_signs_all_but_what_it_finishes_itself(book):
    slots, digits = book.fan.slots, book.terms.grid.digits
    for outcome in book.terms.grid.outcomes:
        for owner in book.terms.margins:
            possible = {s.spend for s in slots if s.owner == owner and outcome >> digits - s.length == s.prefix}
            loses = -book.terms.profits(outcome)[owner] >= DUST_P2TR
            assert possible == ({Spend.SETTLE, Spend.BURN} if loses else {Spend.RELEASE})
    for signer in range(4):
        left = [slot for slot in slots if slot not in book.fan.slots_of(signer)]
        assert {(slot.owner, slot.spend) for slot in left} == {(signer, Spend.BURN), (signer, Spend.RELEASE)}


def test_a_wrong_signature_is_named_and_a_set_of_another_size_refused(book):
    good = book.presignatures[2]
    for at in (0, len(good) // ADAPTOR_SIZE - 1):
        broken = bytearray(good)
        broken[at * ADAPTOR_SIZE + 40] ^= 1
        with pytest.raises(WrongAdaptorError, match="owner 2"):
            check_presignatures(book.fan, 2, bytes(broken))
    for wrong in (good[:-ADAPTOR_SIZE], good + good[:ADAPTOR_SIZE], b""):
        with pytest.raises(WrongAdaptorError):
            check_presignatures(book.fan, 2, wrong)
    with pytest.raises(WrongAdaptorError):
        check_presignatures(book.fan, 1, good)
    with pytest.raises(InvalidInputError):
        presign(book.fan, 1, book.secrets[2])


def test_two_of_three_oracles_finish_it_whichever_and_one_does_not():
    book = Book(on_paper(fan_terms(positions(1, 1), digits=4, oracles=3, threshold=2)))
    assert len(book.presignatures[1]) == ADAPTOR_SIZE * len(book.fan.slots_of(1)) * 3
    assert book.attested(DOWN).settle(1).inputs[0].witness
    with pytest.raises(TooFewAttestationsError):
        book.attested(DOWN, oracles=1)


# ---- what each owner ends with


def ends(book, attested, burners, *, fee=2_000):
    """The transactions of a week in which these losers burn, and all others do what is theirs."""
    done, debits = [], {p: -won for p, won in enumerate(attested.profits) if won < 0}
    for owner in book.terms.margins:
        if owner not in debits:
            done.append(attested.release(owner, book.secrets[owner], fee=Sats(fee)))
        elif owner in burners:
            done.append(attested.burn(owner, book.secrets[owner], fee=Sats(fee)))
        else:
            done.append(attested.settle(owner))
    return done


@pytest.mark.parametrize(("taken", "part"), [(positions(2, 1), DOWN), (positions(2, 1), UP), (positions(3, 2), UP)])
def test_a_burn_takes_its_own_debit_away_and_nothing_else_whoever_else_burns(taken, part):
    book = Book(on_paper(fan_terms(taken, rates=USUAL_RATES)))
    attested = book.attested(part)
    losers = [place for place, won in enumerate(attested.profits) if won < 0]
    owed, required = dues(attested.profits), book.terms.required
    for burners in subsets(losers):
        got, burned = book.paid_to(ends(book, attested, burners))
        assert burned == sum(-attested.profits[one] + burn_fee(required[one]) for one in burners)
        for place, own in enumerate(required):
            won = sum(owed[loser].get(place, 0) for loser in losers if loser not in burners)
            if place in burners:  # a quarter of its margin worse than not burning
                assert got[place] == own + attested.profits[place] - burn_fee(own) + 1_240 - 2_000
            elif place in losers:
                assert got[place] == own + attested.profits[place]
            else:  # never below its margin: excess is not touched by anybody's burn
                assert got[place] == own + won + (1_240 - 2_000 if own else 0)


def test_nobody_burning_pays_each_winner_exactly_what_it_has_won(book):
    for part in (DOWN, UP, Fraction(-1), Fraction(1)):
        attested = book.attested(part)
        owed = dues(attested.profits)
        for place, won in enumerate(attested.profits):
            if won > 0:
                assert sum(parts.get(place, 0) for parts in owed.values()) == won


def test_a_loser_of_everything_needs_a_coin_of_its_own_to_burn(book):
    attested = book.attested(Fraction(-1))
    with pytest.raises(InsufficientFundsError):
        attested.burn(1, book.secrets[1], fee=Sats(2_000))


def test_a_winner_has_nothing_to_burn_and_a_loser_nothing_to_release(book):
    attested = book.attested(DOWN)
    for spend in (
        lambda: attested.burn(3, book.secrets[3], fee=Sats(500)),
        lambda: attested.settle(3),
        lambda: attested.release(1, book.secrets[1], fee=Sats(500)),
    ):
        with pytest.raises(InvalidInputError):
            spend()


def test_at_no_return_everybody_takes_its_margin_and_nobody_can_burn(book):
    attested = book.attested(0)
    assert all(slot.spend is Spend.RELEASE for slot in book.fan.slots if slot.prefix == attested.outcome)
    assert all(attested.release(owner, book.secrets[owner], fee=Sats(500)) for owner in book.terms.margins)


def valid(book, owner, transaction, signatures):
    """Whether the script of all would take these signatures, each with its own hash type."""
    margin = book.terms.margins[owner]
    return all(
        secp256k1.schnorr_verify(
            one.key[1:],
            margin.digest(transaction, hash_type=signature[64] if len(signature) > 64 else 0),
            signature[:64],
        )
        for one, signature in zip(book.terms.owners, signatures, strict=True)
    )


def test_a_witness_of_the_chain_is_every_owner_s_signature_of_that_transaction(book):
    attested = book.attested(DOWN)
    for transaction, owner in ((attested.settle(1), 1), (attested.burn(1, book.secrets[1], fee=Sats(900)), 1),
                               (attested.release(3, book.secrets[3], fee=Sats(900)), 3)):  # fmt: skip
        signatures = transaction.inputs[0].witness[:4][::-1]
        assert valid(book, owner, transaction, signatures)
        other = replace(transaction, outputs=(*transaction.outputs[:-1], TxOut(value=Sats(331), script=BURN_SCRIPT)))
        assert not valid(book, owner, other, signatures)


def test_an_attestation_finishes_no_signature_of_another_outcome(book):
    attested = book.attested(DOWN)
    secret = secret_of(attested.attestations, 5)
    for signer, one in enumerate(book.terms.owners):
        for place, slot in enumerate(book.fan.slots_of(signer)):
            pre = book.presignatures[signer][place * ADAPTOR_SIZE : (place + 1) * ADAPTOR_SIZE]
            own = attested.outcome >> 5 - slot.length == slot.prefix
            used = secret_of(attested.attestations, slot.length) if own else secret
            finished = adaptor.adapt(pre, used)
            assert secp256k1.schnorr_verify(one.key[1:], book.fan.digests[slot], finished) == own


def test_all_others_together_can_burn_nobody_s_margin(book):
    # the burner's own signature is over the whole transaction, and it has pre-signed none for its own burn
    assert not [s for s in book.fan.slots_of(1) if s.spend is not Spend.SETTLE and s.owner == 1]


def test_the_others_signatures_of_a_burn_fix_what_is_destroyed_and_leave_the_change_to_the_burner(book):
    attested, margin = book.attested(DOWN), book.terms.margins[1]
    burn = attested.burn(1, book.secrets[1], fee=Sats(900))
    theirs = burn.inputs[0].witness[:4][::-1][0]
    assert theirs[64] == BURN_TYPE
    for outputs, holds in (
        (burn.outputs[:1], True),
        ((burn.outputs[0], TxOut(value=Sats(5_000), script=burn.outputs[1].script)), True),
        ((TxOut(value=Sats(burn.outputs[0].value - 1), script=BURN_SCRIPT), burn.outputs[1]), False),
        ((burn.outputs[1], burn.outputs[0]), False),
    ):
        digest = margin.digest(replace(burn, outputs=outputs), hash_type=BURN_TYPE)
        assert secp256k1.schnorr_verify(book.terms.provider.key[1:], digest, theirs[:64]) == holds


def test_a_signature_that_was_never_checked_is_named_when_it_is_finished(book):
    attested = book.attested(DOWN)
    swapped = {**book.presignatures, 2: book.presignatures[3]}
    with pytest.raises(WrongSignatureError, match="owner 2"):
        Attested(fan=book.fan, presignatures=swapped, outcome=attested.outcome, subset=attested.subset,
                 attestations=attested.attestations).settle(1)  # fmt: skip


# ---- the set rebuilt


def test_an_absent_owner_is_left_out_and_no_signature_of_the_larger_set_is_worth_anything():
    larger = fan_terms(positions(2, 2))
    smaller = larger.without({4})
    names = (0, 1, 2, 3)
    assert smaller == fan_terms(positions(2, 1))
    assert smaller.required[0] == 10 * LOT
    assert {m.txout.script for m in larger.margins.values()}.isdisjoint(
        m.txout.script for m in smaller.margins.values()
    )
    old, new = on_paper(larger), Book(on_paper(smaller), names).check()
    assert set(old.digests.values()).isdisjoint(new.fan.digests.values())
    with pytest.raises(WrongAdaptorError):
        check_presignatures(new.fan, 1, presign(old, 1, secret_of_owner(1)))


def test_without_its_provider_or_without_takers_there_is_no_book():
    terms = fan_terms(positions(1, 1))
    for absent in ({0}, {1, 2}, {3}, {-1}):
        with pytest.raises(InvalidInputError):
            terms.without(absent)


def test_a_funding_that_differs_from_the_terms_is_refused(book):
    outputs = [margin.txout for margin in book.terms.margins.values()]
    paid = Transaction(version=2, inputs=(TxIn(outpoint=book.fan.coins[0]),), outputs=tuple(outputs))
    assert FanOut.funded_by(book.terms, paid).coins[3] == paid.outpoint(3)
    less = TxOut(value=Sats(outputs[2].value - 1), script=outputs[2].script)
    for wrong in ((*outputs[:2], less, outputs[3]), outputs[:3], outputs[::-1]):
        with pytest.raises(InvalidInputError):
            FanOut.funded_by(book.terms, replace(paid, outputs=tuple(wrong)))


def test_a_funding_is_whole_with_every_owner_s_witness_and_nobody_signs_another_s_coin():
    terms = fan_terms(positions(1, 1), rates=USUAL_RATES)
    keys = [TaprootKey(secret=secret_of_owner(place)) for place in range(3)]
    coins = {
        place: Coin(
            outpoint=OutPoint(txid=bytes([70 + place]) * 32, index=0),
            output=TxOut(value=Sats(10 * LOT + 20_000), script=keys[place].script),
        )
        for place in terms.margins
    }
    brought = {place: Contribution(coins=(coin,), change_script=keys[place].script) for place, coin in coins.items()}
    funding = build_funding(terms, brought, rate=RATE)
    spent, paid = (sum(one.value for one in many) for many in (funding.spent, funding.transaction.outputs))
    ring = {key.script: key for key in keys}
    witnesses = {place: funding.sign(place, ring) for place in terms.margins}
    assert [list(one) for one in witnesses.values()] == [[0], [1]]
    whole = funding.complete(witnesses[1] | witnesses[2])
    assert 2 * whole.vsize <= spent - paid < 2 * whole.vsize + 10
    assert FanOut.funded_by(terms, whole) == funding.fan
    for missing in (1, 2):
        with pytest.raises(WrongSignatureError, match=f"owner {missing}"):
            funding.complete(witnesses[3 - missing])
    twice = {place: Contribution(coins=(coins[1],), change_script=keys[place].script) for place in coins}
    for wrong in (twice, {1: brought[1]}, {**brought, 0: brought[1]}):
        with pytest.raises(InvalidInputError):
            build_funding(terms, wrong, rate=RATE)


# ---- closed together


@pytest.mark.parametrize("taken", [positions(1, 0), positions(2, 1), positions(7, 7), positions(13, 1)])
def test_the_close_of_all_pays_what_was_won_and_takes_at_most_105_vb_an_owner(taken):
    book = Book(on_paper(fan_terms(taken, digits=4)))
    close, signed = book.closed(DOWN, RATE)
    got, _ = book.paid_to([signed])
    profits = book.terms.profits(close.outcome)
    shares = [one - own - won for one, own, won in zip(got, book.terms.required, profits, strict=True)]
    total = sum(margin.value for margin in book.terms.margins.values())
    assert sum(got) + close.fee == total
    assert sum(shares) == sum(m.value - m.required for m in book.terms.margins.values()) - close.fee
    assert 2 * signed.vsize <= close.fee < 2 * signed.vsize + 200
    assert signed.vsize <= (105 if len(close.owners) > 2 else 106) * len(close.owners)


def test_a_dear_close_is_paid_in_proportion_and_one_dearer_than_the_margins_is_refused():
    book = Book(on_paper(fan_terms(positions(2, 1), digits=4)))
    close, signed = book.closed(Fraction(-1), SatsPerKvb(100_000))
    got, _ = book.paid_to([signed])
    held = sum(margin.value for margin in book.terms.margins.values())
    assert sum(got) + close.fee == held
    assert 100 * signed.vsize <= close.fee < 100 * signed.vsize + 500
    assert got[1] == got[2] == 0  # they have lost everything, and the others pay the fee, equally
    assert got[0] == got[3] == 2 * 10 * LOT - (close.fee - 4 * 1_240) // 2
    with pytest.raises(InvalidInputError):
        build_close(book.fan, close.outcome, rate=SatsPerKvb(10**9))


def test_a_part_of_another_close_is_named_by_its_owner():
    book = Book(on_paper(fan_terms(positions(1, 1), digits=4)))
    one = Closing(build_close(book.fan, 3, rate=RATE))
    nonces = [one.nonces(secret, [bytes([9 + i]) * 32, bytes([99 + i]) * 32]) for i, secret in enumerate(book.secrets)]
    public = {place: [n.public for n in each] for place, each in enumerate(nonces)}
    partials = {place: one.sign(book.secrets[place], nonces[place], public) for place in range(3)}
    partials[1] = partials[1][::-1]
    with pytest.raises(WrongSignatureError, match="owner 1"):
        one.finish(public, partials)


def test_a_margin_needs_a_lock_that_is_a_time():
    keys = tuple(secp256k1.public_key_compressed(secret_of_owner(name)) for name in "ab")
    for lock in (499_999_999, 2**32 - 1):
        with pytest.raises(InvalidInputError):
            MarginOutput(keys=keys, owner=0, required=Sats(LOT), lock=lock)
    assert burned_by(Transaction(version=2, inputs=(), outputs=(TxOut(value=Sats(7), script=BURN_SCRIPT),) * 2)) == 14
