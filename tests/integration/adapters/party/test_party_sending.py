"""A party's own free coins leave its wallet, and no coin of a contract does."""

import pytest

from btcfi.adapters.chain.node import TxRejectedError
from btcfi.adapters.party.sending import CoinsGoneError, PaymentMinedError, PromisedError
from btcfi.bitcoin.address import decode_address
from btcfi.bitcoin.fees import SatsPerKvb
from btcfi.bitcoin.wallet import InsufficientFundsError
from btcfi.errors import InvalidInputError
from btcfi.surfaces.party.sending import amount_with_unit
from btcfi.units import Sats
from tests.support.two_parties import TwoParties

pytestmark = pytest.mark.integration

RATE = SatsPerKvb(2_000)


def yes(_):
    """The owner agrees."""


@pytest.fixture
def two(wallet, tmp_path):
    return TwoParties(wallet, tmp_path)


def paid_to(wallet, txid):
    found = wallet.node.transaction(txid).transaction
    return [out.value for out in found.outputs if out.script == wallet.key.script]


def test_a_payment_pays_to_the_satoshi_and_its_change_comes_home(wallet, two):
    before, shown = sum(coin.value for coin in two.buyer.wallet.free()), []
    paid = two.buyer.payments.send(wallet.key.script, Sats(1_000_000), rate=RATE, ask=shown.append)
    (spending,) = shown
    assert paid_to(wallet, paid.transaction.txid) == [1_000_000]
    assert sum(coin.value for coin in spending.coins) == spending.amount + spending.fee + spending.change
    assert spending.fee >= paid.transaction.vsize * 2
    wallet.mine()
    assert sum(coin.value for coin in two.buyer.wallet.free()) == before - 1_000_000 - spending.fee


def test_a_payment_s_coins_are_nobody_else_s_also_after_a_restart(wallet, two):
    first = two.buyer.payments.send(wallet.key.script, Sats(1_000_000), rate=RATE, ask=yes)
    again = two.open("buyer")
    second = again.payments.send(wallet.key.script, Sats(300_000), rate=RATE, ask=yes)
    spent = [{txin.outpoint for txin in one.transaction.inputs} for one in (first, second)]
    assert not spent[0] & spent[1]


def test_all_that_is_free_is_sent_and_a_contract_s_coins_stay(wallet, two):
    name, _ = two.offer()  # names coins of the seller, and nobody has answered
    named = {coin.outpoint for coin in two.store("seller").load(name).named}
    paid = two.seller.payments.send(wallet.key.script, None, rate=RATE, ask=yes)
    assert not named & {txin.outpoint for txin in paid.transaction.inputs}
    assert len(paid.transaction.outputs) == 1
    assert two.seller.wallet.free() == []
    with pytest.raises(InsufficientFundsError):
        two.seller.payments.send(wallet.key.script, Sats(10_000), rate=RATE, ask=yes)


def test_what_a_contract_names_while_its_owner_reads_is_not_spent(wallet, two):
    waiting = two.node.pool()
    with pytest.raises(CoinsGoneError):
        two.seller.payments.send(wallet.key.script, None, rate=RATE, ask=lambda _: two.offer())
    assert two.store("seller").payments() == []
    assert two.node.pool() == waiting


def test_what_takes_wait_for_stays(wallet, two):
    free = sum(coin.value for coin in two.buyer.wallet.free())
    with pytest.raises(PromisedError):
        two.buyer.payments.send(wallet.key.script, Sats(free - 100_000), rate=RATE, promised=99_900, ask=yes)
    with pytest.raises(PromisedError):
        two.buyer.payments.send(wallet.key.script, None, rate=RATE, promised=1, ask=yes)


def test_a_payment_is_replaced_by_one_of_the_same_coins_that_pays_the_same_and_more_fee(wallet, two):
    first = two.buyer.payments.send(wallet.key.script, Sats(1_000_000), rate=RATE, ask=yes)
    second = two.buyer.payments.bump(first.transaction.txid, rate=SatsPerKvb(9_000), ask=yes)
    pool = two.node.pool()
    assert (first.transaction.txid in pool, second.transaction.txid in pool) == (False, True)
    assert paid_to(wallet, second.transaction.txid) == [1_000_000]
    assert {txin.outpoint for txin in first.transaction.inputs} == {txin.outpoint for txin in second.transaction.inputs}
    with pytest.raises(InvalidInputError):  # named by the first one's txid, it is the last one that is replaced
        two.buyer.payments.bump(first.transaction.txid, rate=SatsPerKvb(9_000), ask=yes)
    wallet.mine()
    with pytest.raises(PaymentMinedError):
        two.buyer.payments.bump(first.transaction.txid, rate=SatsPerKvb(20_000), ask=yes)


def test_of_a_payment_without_change_who_is_paid_bears_the_higher_fee(wallet, two):
    first = two.buyer.payments.send(wallet.key.script, None, rate=RATE, ask=yes)
    second = two.buyer.payments.bump(first.transaction.txid, rate=SatsPerKvb(5_000), ask=yes)
    assert first.transaction.outputs[0].value - second.transaction.outputs[0].value == second.fee - first.fee
    assert second.fee > first.fee


def test_what_the_node_refuses_is_forgotten_and_its_coins_are_free(wallet, two, monkeypatch):
    before = two.buyer.wallet.free()

    def refuse(transaction):
        raise TxRejectedError(txid=transaction.txid, code=-26, reason="no")

    with monkeypatch.context() as patched:
        patched.setattr(two.node, "send", refuse)
        with pytest.raises(TxRejectedError):
            two.buyer.payments.send(wallet.key.script, Sats(1_000_000), rate=RATE, ask=yes)
    assert two.buyer.wallet.free() == before


def test_nobody_pays_themselves_or_dust_or_a_rate_that_is_a_slip(wallet, two):
    own = decode_address(two.buyer.address())
    for script, amount, rate in (
        (own, 10_000, RATE), (wallet.key.script, 329, RATE), (wallet.key.script, 10_000, SatsPerKvb(2_000_000)),
    ):  # fmt: skip
        with pytest.raises(InvalidInputError):
            two.buyer.payments.send(script, Sats(amount), rate=rate, ask=yes)


def test_an_amount_says_its_unit():
    said = [amount_with_unit(text) for text in ("0.015btc", "1500000sat", "all")]
    assert said == [1_500_000, 1_500_000, None]
    for text in ("1500000", "0.015", "1e3sat", "-1sat", "0.000000001btc", "\u0661sat", "1 btc"):
        with pytest.raises(InvalidInputError):
            amount_with_unit(text)
