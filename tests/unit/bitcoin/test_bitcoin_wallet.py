import pytest
from bitcoin.core.script import CScript
from hypothesis import given, settings
from hypothesis import strategies as st

from btcfi.bitcoin import script
from btcfi.bitcoin.fees import (
    DUST_P2A,
    DUST_P2TR,
    FeeRule,
    SatsPerKvb,
    choose_rate,
    dust_limit,
    fee_for,
    replacement_fee,
)
from btcfi.bitcoin.keys import wallet_key
from btcfi.bitcoin.transaction import Transaction, TxIn, TxOut
from btcfi.bitcoin.wallet import InsufficientFundsError, select_coins
from btcfi.errors import InvalidInputError
from btcfi.units import Sats
from tests.support.contracts import SELLER, coin

RATE = SatsPerKvb(2_000)


@given(
    values=st.lists(st.integers(330, 10**7), min_size=1, max_size=12),
    amount=st.integers(330, 10**7),
    rate=st.integers(1_000, 50_000),
)
@settings(max_examples=200, deadline=None)
def test_chosen_coins_pay_amount_fee_and_change_to_the_satoshi_and_at_least_the_rate(values, amount, rate):
    coins = [coin(n + 1, value, SELLER.script) for n, value in enumerate(values)]
    try:
        chosen = select_coins(coins, amount=Sats(amount), rate=rate, other_weight=4 * 43)
    except InsufficientFundsError:
        assert sum(values) < amount + fee_for(60 * len(values) + 120, rate) + DUST_P2TR
        return
    assert sum(c.value for c in chosen.coins) == amount + chosen.fee + chosen.change
    assert chosen.change == 0 or chosen.change >= DUST_P2TR
    assert len({c.outpoint for c in chosen.coins}) == len(chosen.coins)
    outs = [TxOut(value=Sats(amount), script=SELLER.script)]
    outs += [TxOut(value=chosen.change, script=SELLER.script)] if chosen.change else []
    payment = Transaction(
        version=2,
        inputs=tuple(TxIn(outpoint=c.outpoint, witness=(bytes(64),)) for c in chosen.coins),
        outputs=tuple(outs),
    )
    assert chosen.fee * 1000 >= rate * payment.vsize
    assert chosen == select_coins(reversed(coins), amount=Sats(amount), rate=rate, other_weight=4 * 43)


def test_an_exact_coin_is_preferred_to_change():
    exact = 100_000 + fee_for(112, RATE)
    coins = [coin(1, 5_000_000, SELLER.script), coin(2, exact, SELLER.script)]
    chosen = select_coins(coins, amount=Sats(100_000), rate=RATE, other_weight=4 * 43)
    assert [c.value for c in chosen.coins] == [exact]
    assert chosen.change == 0


def test_no_coins_is_insufficient():
    with pytest.raises(InsufficientFundsError) as error:
        select_coins([], amount=Sats(1_000), rate=RATE)
    assert error.value.needed > 1_000 > error.value.available


@pytest.mark.parametrize(
    ("output", "limit"),
    [
        (SELLER.script, 330),
        (script.P2A_SCRIPT, 240),
        (script.op_return(b"x"), 0),
        (b"\x00\x14" + bytes(20), 294),
        (b"\x00\x20" + bytes(32), 330),
        (b"\x76\xa9\x14" + bytes(20) + b"\x88\xac", 546),
        (b"\xa9\x14" + bytes(20) + b"\x87", 540),
    ],
)
def test_dust_limits_are_cores(output, limit):
    assert dust_limit(output) == limit
    assert DUST_P2A == 240


def test_fees_round_up_and_a_replacement_pays_for_itself_on_top():
    assert fee_for(1, SatsPerKvb(1)) == 1
    assert fee_for(141, SatsPerKvb(1_000)) == 141
    assert replacement_fee(old_fee=Sats(500), vsize=200, rate=SatsPerKvb(1_000)) == 700
    assert replacement_fee(old_fee=Sats(500), vsize=200, rate=SatsPerKvb(10_000)) == 2_000


def test_the_rate_follows_the_estimate_within_floor_and_cap_and_rises_when_late():
    rule = FeeRule(floor=SatsPerKvb(1_000), cap=SatsPerKvb(20_000), deadline_cap=SatsPerKvb(100_000), deadline_blocks=6)
    assert choose_rate(None, rule) == 1_000
    assert choose_rate(SatsPerKvb(10), rule) == 1_000
    assert choose_rate(SatsPerKvb(5_000), rule) == 5_000
    assert choose_rate(SatsPerKvb(5_000), rule, blocks_late=3) == 10_000
    assert choose_rate(SatsPerKvb(5_000), rule, blocks_late=9) == 20_000
    assert choose_rate(SatsPerKvb(90_000), rule) == 20_000
    assert choose_rate(SatsPerKvb(90_000), rule, blocks_left=7) == 20_000
    assert choose_rate(SatsPerKvb(90_000), rule, blocks_left=6) == 90_000
    assert choose_rate(SatsPerKvb(90_000), rule, blocks_late=99, blocks_left=1) == 100_000
    with pytest.raises(InvalidInputError):
        FeeRule(floor=SatsPerKvb(999))
    with pytest.raises(InvalidInputError):
        FeeRule(cap=SatsPerKvb(2_000_000))


@given(st.binary(max_size=520))
@settings(max_examples=200, deadline=None)
def test_pushes_are_minimal_and_read_back(data):
    pushed = script.push(data)
    (read,) = CScript(pushed)
    expected = data or 0
    if isinstance(read, int):
        assert len(pushed) == 1
        assert data in (b"", bytes([read & 0xFF]), b"\x81")
    else:
        assert read == expected


@given(st.integers(-(2**39) + 1, 2**39 - 1))
@settings(max_examples=200, deadline=None)
def test_numbers_are_pushed_as_script_reads_them(value):
    pushed = script.push_number(value)
    if -1 <= value <= 16:
        assert len(pushed) == 1
    else:
        raw = pushed[1:]
        assert pushed[0] == len(raw)
        magnitude = int.from_bytes(bytes([*raw[:-1], raw[-1] & 0x7F]), "little")
        assert (-magnitude if raw[-1] & 0x80 else magnitude) == value
        assert raw[-1] & 0x7F or (len(raw) > 1 and raw[-2] & 0x80)


def test_more_than_80_bytes_do_not_fit_an_op_return():
    assert script.op_return_data(script.op_return(bytes(80))) == bytes(80)
    assert script.op_return_data(script.op_return(b"abc")) == b"abc"
    assert script.op_return_data(SELLER.script) is None
    with pytest.raises(InvalidInputError):
        script.op_return(bytes(81))
    with pytest.raises(InvalidInputError):
        script.push(bytes(521))


def test_a_wallet_key_signs_only_its_own_outputs_and_hides_its_secret():
    key, other = wallet_key(bytes(32), 0), wallet_key(bytes(32), 1)
    spent = [TxOut(value=Sats(1_000), script=other.script)]
    payment = Transaction(version=2, inputs=(TxIn(outpoint=coin(1, 1, b"").outpoint),), outputs=tuple(spent))
    with pytest.raises(InvalidInputError):
        key.sign_input(payment, 0, spent)
    assert len(other.sign_input(payment, 0, spent)) == 64
    assert key.secret.hex() not in repr(key)
