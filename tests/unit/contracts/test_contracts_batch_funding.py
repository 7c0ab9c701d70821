"""Contracts funded together: what it costs, and what each owner compares before it signs its one coin."""

from dataclasses import dataclass, replace

import pytest

from btcfi.bitcoin.fees import SatsPerKvb, dust_limit
from btcfi.bitcoin.transaction import TRUC_VERSION, OutPoint, TxOut
from btcfi.bitcoin.wallet import Coin, InsufficientFundsError
from btcfi.contracts.batch_funding import Joining, build_batch_funding, check_own, own_fee, sign_own
from btcfi.contracts.setup import CoinNotTheirsError
from btcfi.contracts.splice import MAX_VSIZE, CoinMissingError
from btcfi.errors import InvalidInputError
from btcfi.hashes import sha256
from btcfi.units import Sats, Txid
from tests.support.batching import RATE, ending, fundings_of, name_of, wallet_of

A, B, C = map(name_of, range(3))


def any_coin(script, value):
    return Coin(outpoint=OutPoint(txid=Txid(sha256(script)), index=0), output=TxOut(value=Sats(value), script=script))


@dataclass(frozen=True)
class Seen:
    output: object
    is_spendable: bool = True


class Scene:
    """So many contracts of so many owners, as one of them sees them."""

    def __init__(self, contracts=5, parties=3):
        self.joinings, self.purses = fundings_of(contracts, parties, coins=any_coin)

    def build(self, **changes):
        return build_batch_funding(self.joinings, self.purses, **({"rate": RATE} | changes))

    def seen(self, made, **changes):
        return {txin.outpoint: Seen(output, **changes)
                for txin, output in zip(made.transaction.inputs, made.spent, strict=True)}  # fmt: skip

    def check(self, made, owner=A, *, seen=None, wallet=None):
        own = [one for one in self.joinings if owner in (one.buyer, one.seller)]
        return check_own(
            made, owner, self.purses[owner], own, rate=RATE, seen=self.seen(made) if seen is None else seen,
            wallet={wallet_of(owner).script} if wallet is None else wallet,
        )  # fmt: skip


def test_34_contracts_of_10_owners_take_at_most_75_virtual_bytes_each_and_pay_the_rate():
    scene = Scene(34, 10)
    made = scene.build()
    signed = made.transaction
    for owner in made.owners:
        index = scene.check(made, owner)
        signed = signed.with_witness(index, sign_own(made, index, wallet_of(owner)))
    assert signed.version == TRUC_VERSION
    assert signed.vsize <= 75 * 34
    assert signed.vsize * RATE <= 1000 * made.fee < (signed.vsize + 3 * 10) * RATE


def test_each_owner_has_what_it_brought_less_what_it_puts_in_and_its_own_fee():
    scene = Scene()
    made = scene.build()
    outputs = {one.script: one.value for one in made.transaction.outputs}
    for owner, purse in scene.purses.items():
        sold = [one for one in scene.joinings if one.seller == owner]
        bought = [one for one in scene.joinings if one.buyer == owner]
        left = purse.coin.value - sum(one.contract.collateral - one.premium for one in sold)
        left -= sum(one.premium for one in bought) + own_fee(len(sold), 3, RATE)
        assert outputs[purse.change_script] == left
    assert sum(one.value for one in made.spent) == sum(one.value for one in made.transaction.outputs) + made.fee
    assert len({made.outpoint_of(one.contract) for one in scene.joinings}) == len(scene.joinings)


def test_equal_contracts_in_any_order_make_equal_bytes():
    scene = Scene()
    again = build_batch_funding(scene.joinings[::-1], dict(reversed(scene.purses.items())), rate=RATE)
    assert again.transaction.to_bytes() == scene.build().transaction.to_bytes()


def with_outputs(made, change):
    return replace(made, transaction=replace(made.transaction, outputs=tuple(map(change, made.transaction.outputs))))


def ours(scene):
    return next(one.contract.funding_txout() for one in scene.joinings if A in (one.buyer, one.seller))


def less(output, wanted, by=1):
    return replace(output, value=Sats(output.value - by)) if wanted(output) else output


LEGACY = b"\x76\xa9\x14" + bytes(20) + b"\x88\xac"
"""Pay to a key's hash as before segwit: its signature stands in the txid."""


def with_inputs(made, **changes):
    """The funding with the input of somebody else changed."""
    mine = next(n for n, one in enumerate(made.spent) if one.script == wallet_of(A).script)
    inputs = [one if n == mine else replace(one, **changes) for n, one in enumerate(made.transaction.inputs)]
    return replace(made, transaction=replace(made.transaction, inputs=tuple(inputs)))


def dearer(scene):
    """The funding at ten times the rate, of which who proposes it keeps all that is too much in its own change."""
    honest, made = scene.build(), scene.build(rate=SatsPerKvb(10 * RATE))
    return with_outputs(
        made, lambda one: less(one, lambda out: out.script == wallet_of(C).script, by=honest.fee - made.fee)
    )


LIES = {
    "our change is a satoshi less": ("funding.change", lambda s, m: with_outputs(
        m, lambda one: less(one, lambda out: out.script == wallet_of(A).script))),
    "our contract's collateral is less": ("funding.collateral", lambda s, m: with_outputs(
        m, lambda one: less(one, lambda out: out == ours(s)))),
    "our contract is another": ("funding.collateral", lambda s, m: with_outputs(
        m, lambda one: replace(one, script=wallet_of(C).script) if one == ours(s) else one)),
    "our contract stands twice": ("funding.collateral", lambda s, m: replace(
        m, transaction=replace(m.transaction, outputs=(*m.transaction.outputs, ours(s))))),
    "the rate is more": ("funding.rate", lambda s, m: replace(m, rate=SatsPerKvb(2_500))),
    "our coin is said to be less": ("funding.input", lambda s, m: replace(
        m, spent=tuple(less(one, lambda out: out.script == wallet_of(A).script) for one in m.spent))),
    "our coin is not in it": ("funding.input", lambda s, m: replace(m, transaction=replace(
        m.transaction, inputs=tuple(
            replace(one, outpoint=OutPoint(txid=Txid(b"\x44" * 32), index=1))
            if one.outpoint == s.purses[A].coin.outpoint else one for one in m.transaction.inputs)))),
    "the rate is more, for our contracts and for our change alike": ("funding.rate", lambda s, m: dearer(s)),
    "it pays nothing, and somebody else keeps the fee": ("funding.fee", lambda s, m: with_outputs(
        m, lambda one: less(one, lambda out: out.script == wallet_of(B).script, by=-m.fee))),
    "another coin's signer can change the txid": ("funding.inputs", lambda s, m: replace(
        m, spent=tuple(replace(one, script=LEGACY) if one.script == wallet_of(B).script else one for one in m.spent))),
    "another input has a script of its own": ("funding.inputs", lambda s, m: with_inputs(m, script_sig=b"\x51")),
    "another input waits for years": ("funding.inputs", lambda s, m: with_inputs(m, sequence=65_535)),
    "another input has a witness": ("funding.inputs", lambda s, m: with_inputs(m, witness=(b"\x01",))),
    "an output that no node relays": ("funding.outputs", lambda s, m: replace(m, transaction=replace(
        m.transaction, outputs=(*m.transaction.outputs, TxOut(value=Sats(1), script=wallet_of(C).script))))),
    "an output of no known type": ("funding.outputs", lambda s, m: replace(m, transaction=replace(
        m.transaction, outputs=(*m.transaction.outputs, TxOut(value=Sats(900), script=b"\x51"))))),
    "an outpoint stands twice": ("funding.inputs", lambda s, m: replace(
        m, spent=(*m.spent, m.spent[-1]),
        transaction=replace(m.transaction, inputs=(*m.transaction.inputs, m.transaction.inputs[-1])))),
    "version 2": ("funding.version", lambda s, m: replace(m, transaction=replace(m.transaction, version=2))),
    "it cannot be mined for years": (
        "funding.version", lambda s, m: replace(m, transaction=replace(m.transaction, lock_time=2_000_000))),
}  # fmt: skip


@pytest.mark.parametrize("lie", LIES)
def test_every_lie_about_what_is_ours_is_refused_before_our_coin_is_signed(lie):
    field, make = LIES[lie]
    scene = Scene()
    made = scene.build()
    assert made.transaction.inputs[scene.check(made)].outpoint == scene.purses[A].coin.outpoint
    with pytest.raises(InvalidInputError) as error:
        scene.check(make(scene, made))
    assert error.value.field == field


@pytest.mark.parametrize("how", ["spent", "in no block yet", "another amount"])
def test_a_coin_of_any_owner_that_is_not_there_voids_it_before_anybody_signs(how):
    scene = Scene()
    made = scene.build()
    seen, last = scene.seen(made), made.transaction.inputs[-1].outpoint
    if how == "spent":
        del seen[last]
    else:
        output = seen[last].output
        seen[last] = Seen(output, is_spendable=False) if how == "in no block yet" else Seen(replace(output, value=5))
    with pytest.raises(CoinMissingError) as error:
        scene.check(made, seen=seen)
    assert error.value.outpoint == last


def test_a_coin_of_ours_that_another_owner_brings_is_not_signed():
    scene = Scene()
    made = scene.build()
    with pytest.raises(CoinNotTheirsError):
        scene.check(made, wallet={wallet_of(A).script, wallet_of(B).script})


def test_a_coin_that_leaves_its_owner_dust_is_refused_with_what_is_needed():
    scene = Scene()
    made = scene.build()
    change = next(one.value for one in made.transaction.outputs if one.script == wallet_of(A).script)
    purse = scene.purses[A]
    exact = purse.coin.value - change + dust_limit(purse.change_script)
    scene.purses[A] = replace(purse, coin=any_coin(purse.change_script, exact))
    scene.build()
    scene.purses[A] = replace(purse, coin=any_coin(purse.change_script, exact - 1))
    with pytest.raises(InsufficientFundsError) as error:
        scene.build()
    assert error.value.needed == exact


def test_what_cannot_be_one_funding_is_refused_by_name():
    scene = Scene()
    (first, *_), purses = scene.joinings, scene.purses
    alone = replace(first, buyer=first.seller)
    foreign = purses | {B: replace(purses[B], change_script=b"\x51")}
    double = purses | {B: replace(purses[B], coin=purses[A].coin)}
    many = [Joining(contract=ending(n, A, B, 5_000).contract, premium=Sats(0), buyer=A, seller=B) for n in range(240)]
    rich = {owner: replace(one, coin=any_coin(one.change_script, 10**9)) for owner, one in purses.items()}
    for joinings, some, field in (
        ([], purses, "funding contracts"), ([first, first], purses, "funding contracts"),
        ([alone], purses, "funding contracts"), (scene.joinings, {A: purses[A]}, "funding purses"),
        (scene.joinings, foreign, "funding purses"), (scene.joinings, double, "funding purses"),
        (many, rich, "funding contracts"),
    ):  # fmt: skip
        with pytest.raises(InvalidInputError) as error:
            build_batch_funding(joinings, some, rate=RATE)
        assert error.value.field == field
    assert MAX_VSIZE < 43 * 240
