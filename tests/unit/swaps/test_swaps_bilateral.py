"""A bilateral swap without a chain: its grid, its terms, what both sign, what an attestation finishes."""

from dataclasses import replace
from fractions import Fraction

import pytest

from btcfi import secp256k1
from btcfi.bitcoin.adaptor import WrongAdaptorError
from btcfi.bitcoin.fees import SatsPerKvb
from btcfi.bitcoin.script import P2A_SCRIPT
from btcfi.bitcoin.transaction import OutPoint, TxOut
from btcfi.bitcoin.wallet import Coin, InsufficientFundsError
from btcfi.contracts.messages import encode_announcement, read_announcements
from btcfi.contracts.settle import TooFewAttestationsError
from btcfi.errors import InvalidInputError
from btcfi.oracle.announcement import WrongAnnouncementError, announce
from btcfi.oracle.attestation import AlreadyAttestedError, WrongAttestationError, attest
from btcfi.oracle.event_query import event_of as event_of_query
from btcfi.oracle.event_query import query_of
from btcfi.records import Refused
from btcfi.swaps.bilateral import presign
from btcfi.swaps.bilateral.graph import build_child
from btcfi.swaps.bilateral.grid import buckets, owes_nothing, profit_at
from btcfi.swaps.bilateral.terms import Owner, Party, least_required, read_outcome
from btcfi.swaps.contract import CONTRACTS, Rates
from btcfi.swaps.errors import Guard, SwapRefusedError
from btcfi.swaps.onchain import BURN_SCRIPT, BURN_TYPE, ReturnGrid
from btcfi.swaps.returns import Prices, Side, taker_return
from btcfi.units import CentsPerBtc, Sats, Txid, UnixSeconds
from tests.support.bilateral_swap import (
    ORACLES,
    RATES,
    REQUIRED,
    SECRETS,
    START,
    WALLETS,
    Ledger,
    attested,
    event_of,
    graph_of,
    signed,
    signed_at,
    swap_burn,
    terms,
)

TAKER, PROVIDER = Owner
NOW = UnixSeconds(START - 1)


# ---- the grid and the event


def test_nine_digits_are_steps_of_a_255th_of_the_margin_and_the_two_lowest_numbers_the_whole_loss():
    grid = ReturnGrid(digits=9)
    profits = [profit_at(grid, outcome, REQUIRED) for outcome in (0, 1, 255, 256, 257, 511)]
    assert profits == [-REQUIRED, -REQUIRED, -39_216, 0, 39_216, REQUIRED]
    known = list(buckets(grid))
    assert len(known) == 511
    assert known[:2] == [(1, (0, 8)), (2, (2, 9))]
    with pytest.raises(InvalidInputError):
        profit_at(grid, 512, REQUIRED)


@pytest.mark.parametrize("digits", [8, 11])
def test_other_digits_are_no_preset(digits):
    with pytest.raises(InvalidInputError):
        event_of(digits=digits)


def test_what_is_attested_of_a_week_is_the_nearest_step_of_its_exact_return():
    grid, contract = ReturnGrid(digits=9), CONTRACTS["BTCUSD"]
    start, end = (Prices(asset=dollars * 10**6, margin=dollars * 10**6) for dollars in (100_000, 90_000))
    exact = taker_return(contract, Side.LONG, start, end, RATES)
    assert exact == Fraction(5, 2) * Fraction(10, 9) * (Fraction(-1, 10) - Fraction(15, 10_000))
    assert grid.outcome(exact) == 256 - 72
    assert abs(grid.part(256 - 72) - exact) <= Fraction(1, 2 * 255)


def test_a_taker_owes_nothing_at_one_prefix_and_a_provider_at_two():
    grid = ReturnGrid(digits=9)
    assert owes_nothing(grid, taker=True) == [(1, 1)]
    assert owes_nothing(grid, taker=False) == [(0, 1), (256, 9)]


def test_each_start_day_side_contract_rate_and_precision_is_an_event_of_its_own():
    events = [
        event_of(), event_of(side=Side.SHORT), event_of(start=START + 86_400), event_of(contract="ETHUSD"),
        event_of(rates=Rates(target_ppm=1_500, basis_ppm=1)), event_of(digits=10),
    ]  # fmt: skip
    assert len({event.id for event in events}) == len(events)


def test_no_option_can_name_the_event_of_a_return_and_no_query_of_a_price_either():
    announcement = announce(ORACLES[0], event_of())
    with pytest.raises(Refused):
        read_announcements([encode_announcement(announcement)])
    with pytest.raises(InvalidInputError):
        event_of_query(query_of(announcement.event))
    with pytest.raises(InvalidInputError):
        replace(announcement.event, condition="touched")


def test_no_oracle_reads_a_price_into_a_return():
    with pytest.raises(InvalidInputError):
        event_of().outcome(CentsPerBtc(6_000_000))
    with pytest.raises(InvalidInputError):
        event_of().price_of(300)


def test_an_oracle_attests_one_return_of_an_event():
    announcement, ledger = announce(ORACLES[0], event_of()), Ledger()
    attest(ORACLES[0], announcement, 300, ledger)
    with pytest.raises(AlreadyAttestedError):
        attest(ORACLES[0], announcement, 301, ledger)


# ---- the terms


def test_the_least_margin_follows_from_the_fee_up_to_which_a_burn_is_promised():
    assert least_required() == 10_000_000
    assert least_required(SatsPerKvb(300_000)) == 3_000_000
    assert terms(required=3_000_000, fee_cap=SatsPerKvb(300_000)).margins[TAKER].value == 3_001_240
    with pytest.raises(InvalidInputError, match="required margin"):
        terms(required=9_000_000)


@pytest.mark.parametrize(
    "changed",
    [
        {"required": 10_500_000},
        {"lock": UnixSeconds(START + 7 * 86_400 + 4 * 3_600 - 1)},
        {"fee_cap": SatsPerKvb(999)},
        {"provider": Party(key=secp256k1.public_key_compressed(SECRETS[TAKER]), script=WALLETS[PROVIDER].script)},
        {"threshold": 4},
        {"threshold": 0},
        {"digits": 8},
        {"end": START},
    ],
)
def test_terms_that_nobody_should_sign_are_refused(changed):
    with pytest.raises(InvalidInputError):
        terms(**changed)


def test_an_announcement_of_another_event_or_one_oracle_twice_is_refused():
    given = terms()
    with pytest.raises(WrongAnnouncementError):
        replace(given, side=Side.SHORT)
    with pytest.raises(InvalidInputError):
        replace(given, announcements=given.announcements[:1] * 3)


def test_a_payout_that_not_every_node_relays_is_refused():
    with pytest.raises(InvalidInputError):
        Party(key=secp256k1.public_key_compressed(SECRETS[TAKER]), script=P2A_SCRIPT)


# ---- what both sign


@pytest.fixture(scope="module")
def alone():
    """A swap of one oracle, all signed and checked."""
    graph = graph_of(terms(oracles=1, threshold=1))
    return graph, signed(graph)


def test_a_side_signs_some_two_thousand_times_at_two_of_three_oracles(alone):
    _, given = alone
    assert {owner: given[owner].count for owner in Owner} == {TAKER: 767, PROVIDER: 766}
    three = graph_of()
    counts = [3 * sum(map(len, presign._entries(three, owner))) for owner in Owner]
    assert counts == [2_301, 2_298]


@pytest.mark.parametrize("kind", ["settle", "burn", "release"])
@pytest.mark.parametrize("owner", list(Owner))
def test_a_wrong_signature_of_either_side_is_found_wherever_it_stands(alone, kind, owner):
    graph, given = alone
    whole = getattr(given[owner], kind)
    for changed in (whole[:-1] + bytes([whole[-1] ^ 1]), whole[65:] + whole[:65], whole[:-65], b""):
        if changed == whole:
            continue  # one signature alone has no other order
        with pytest.raises(WrongAdaptorError, match=str(owner)):
            presign.check(graph, owner, replace(given[owner], **{kind: changed}))


def test_one_side_s_signatures_are_not_the_other_s_and_not_another_funding_s(alone):
    graph, given = alone
    with pytest.raises(WrongAdaptorError):
        presign.check(graph, TAKER, given[PROVIDER])
    with pytest.raises(WrongAdaptorError):
        presign.check(graph_of(graph.terms, txid=bytes(32)), TAKER, given[TAKER])


def test_nothing_is_signed_once_the_start_price_exists():
    with pytest.raises(SwapRefusedError) as error:
        presign.presign(graph_of(), SECRETS[TAKER], now=UnixSeconds(START))
    assert error.value.guard is Guard.TOO_LATE


def test_a_stranger_signs_nothing():
    with pytest.raises(InvalidInputError):
        presign.presign(graph_of(), ORACLES[0], now=NOW)


# ---- what is attested


def test_two_of_three_oracles_settle_past_one_that_is_silent_or_lies():
    made = terms()
    lie, *right = (
        attest(ORACLES[place], made.announcements[place], number, Ledger())
        for place, number in enumerate((216, 296, 296))
    )
    for said in ([lie, *right], right):
        outcome = read_outcome(made, said)
        assert (outcome.oracles, outcome.number) == ((1, 2), 296)
    with pytest.raises(TooFewAttestationsError):
        read_outcome(made, [lie, right[0]])
    with pytest.raises(WrongAttestationError):
        read_outcome(made, [replace(lie, outcome=296), *right])


# ---- what is finished


@pytest.fixture(scope="module")
def lost():
    """Two of three oracles have attested a loss of the taker's of a fifth."""
    graph = graph_of()
    outcome = attested(graph.terms, 205)
    return graph, outcome, signed_at(graph, outcome.number)


def test_sizes_are_those_that_fees_are_promised_for(lost):
    graph, outcome, given = lost
    assert presign.settle(graph, outcome, given).vsize == 217
    assert swap_burn(graph, outcome, given).vsize == 183
    released = presign.release(graph, outcome, given[TAKER], secret=SECRETS[PROVIDER], rate=SatsPerKvb(5_000))
    assert released.vsize == 162
    assert presign.give_back(graph, secret=SECRETS[TAKER], rate=SatsPerKvb(5_000)).vsize == 138


def test_a_burn_destroys_the_debit_and_a_quarter_of_the_margin_and_pays_the_rate_from_its_change(lost):
    graph, outcome, given = lost
    burned = swap_burn(graph, outcome, given, rate=SatsPerKvb(7_000))
    gone, change = burned.outputs
    assert (gone.value, gone.script) == (2_000_000 + 2_500_000, BURN_SCRIPT)
    assert change.value == REQUIRED + 1_240 - gone.value - 183 * 7
    raised = swap_burn(graph, outcome, given, rate=SatsPerKvb(1_000), replaces=Sats(183 * 7))
    assert raised.outputs[1].value == change.value - 183


def test_a_settlement_s_child_pays_for_both_and_needs_a_coin_that_covers_it(lost):
    graph, outcome, given = lost
    settlement, wallet = presign.settle(graph, outcome, given), WALLETS[PROVIDER]
    coin = Coin(outpoint=OutPoint(txid=Txid(bytes(32)), index=0), output=TxOut(value=Sats(9_000), script=wallet.script))
    child = build_child(settlement, coin, wallet, script=wallet.script, rate=SatsPerKvb(20_000))
    assert 9_000 + 240 - child.outputs[0].value == 20 * (217 + child.vsize) - 1_000
    again = build_child(settlement, coin, wallet, script=wallet.script, rate=SatsPerKvb(1_000), replaces=Sats(2_000))
    assert 9_000 + 240 - again.outputs[0].value == 2_000 + child.vsize
    with pytest.raises(InsufficientFundsError):
        build_child(settlement, coin, wallet, script=wallet.script, rate=SatsPerKvb(30_000))


def test_a_creditor_cannot_burn_and_a_debtor_cannot_release(lost):
    graph, outcome, given = lost
    with pytest.raises(SwapRefusedError):
        swap_burn(graph, outcome, given, secret=SECRETS[PROVIDER])
    with pytest.raises(SwapRefusedError):
        presign.release(graph, outcome, given[PROVIDER], secret=SECRETS[TAKER], rate=SatsPerKvb(1_000))


def test_a_creditor_s_part_of_a_burn_is_over_the_margin_and_what_is_destroyed_alone(lost):
    graph, outcome, given = lost
    burned = swap_burn(graph, outcome, given)
    margin = graph.terms.margins[TAKER]
    digest = margin.digest(graph.burn(outcome.number), hash_type=BURN_TYPE)
    assert margin.digest(burned, hash_type=BURN_TYPE) == digest
    more = replace(burned, outputs=(replace(burned.outputs[0], value=Sats(1)), burned.outputs[1]))
    assert margin.digest(more, hash_type=BURN_TYPE) != digest
    signature = burned.inputs[0].witness[0]
    assert secp256k1.schnorr_verify(graph.terms.provider.xonly, digest, signature[:64])
    assert signature[64] == 0x83


def test_where_nothing_is_owed_there_is_no_settlement_and_no_burn():
    graph = graph_of()
    assert graph.debt(256) is None
    for make in (graph.settle, graph.burn):
        with pytest.raises(InvalidInputError):
            make(256)


def test_who_owes_the_whole_margin_needs_a_coin_to_burn(lost):
    graph, _, _ = lost
    outcome = attested(graph.terms, 511)
    with pytest.raises(InsufficientFundsError) as error:
        swap_burn(graph, outcome, signed_at(graph, outcome.number))
    assert error.value.needed == REQUIRED + REQUIRED // 4 + 183 * 5 + 330
    assert [output.value for output in graph.settle(511).outputs] == [REQUIRED, 240]


def test_signatures_of_another_outcome_are_not_finished(lost):
    graph, outcome, given = lost
    zeros = {
        owner: replace(one, settle=bytes(len(one.settle)), burn=bytes(len(one.burn))) for owner, one in given.items()
    }
    with pytest.raises((InvalidInputError, presign.WrongSignatureError)):
        presign.settle(graph, outcome, zeros)
    with pytest.raises((InvalidInputError, presign.WrongSignatureError)):
        swap_burn(graph, outcome, zeros)


@pytest.mark.parametrize("profit", [5_000 - REQUIRED, -1, 0, REQUIRED - 5_000])
def test_closing_together_conserves_and_shares_the_fee(profit):
    graph, fee = graph_of(), Sats(301)
    taker, provider = (output.value for output in graph.close(profit, fee).outputs)
    assert (taker, provider) == (REQUIRED + 1_240 + profit - 150, REQUIRED + 1_240 - profit - 151)
    with pytest.raises(InvalidInputError):
        graph.close(REQUIRED + 1, fee)
