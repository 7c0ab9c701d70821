"""Trees through a node's own door: every step relays, on the embedded node and on Bitcoin Core's relatives."""

import pytest

from btcfi.clauses.script import Shown
from btcfi.units import Sats
from tests.support.chain import KINDS as NODES
from tests.support.chain import chain
from tests.support.trees import KINDS, PART_TWO, REVERSAL, STRUCK, TreeScene, under_funded


@pytest.fixture(params=NODES)
def wallet(request, tmp_path):
    with chain(request.param, tmp_path / "node") as made:
        yield made


def funded(wallet, scene):
    funding = scene.tree.funding_txout()
    (coin,) = wallet.coins_for(funding.script, [funding.value])
    assert coin.output == funding
    scene.sign(coin.outpoint)
    return scene


def test_every_form_relays_and_is_mined_and_so_does_an_option_that_the_holder_pays_into(wallet):
    roads = []
    for kind in KINDS:
        for flat_form in (False, True):
            scene = funded(wallet, TreeScene(5, kind, after=10_000, flat_form=flat_form))
            roads.append(scene.branch(scene.levels[-1]))
            wallet.node.send_many(roads[-1])
    (coin,) = wallet.coins_for(wallet.key.script, [PART_TWO])
    option = funded(wallet, TreeScene(5, after=10_000, contract=under_funded(coin, timeout=9_000)))
    path = option.bet.path_of(option.levels[0])
    strike = option.finish(("strikes",), STRUCK)
    strike = strike.with_witness(1, [wallet.key.sign_input(strike, 1, option.plan.step(("strikes",)).spent)])
    below = [option.finish(("strikes", *path[: n + 1]), option.shown(option.levels[0])) for n in range(len(path))]
    roads.append([strike, *below])
    wallet.node.send_many(roads[-1])
    wallet.mine()
    assert all(wallet.confirmations(tx.txid) for road in roads for tx in road)
    # a no-show that is too early is refused by its height, and by its depth
    scene = funded(wallet, TreeScene(5, after=120, delay=3))
    first = scene.finish(("pay_gte",), scene.shown(scene.levels[-1]))
    late = scene.finish(("pay_gte", "oracle_no_show"), Shown())
    wallet.node.send(first)
    wallet.mine()
    for _ in range(2):
        assert "non-BIP68-final" in str(wallet.node.try_send_many([late])[0])
        wallet.mine()
    wallet.node.send(late)
    wallet.mine()
    assert wallet.confirmations(late.txid) == 1
    assert sum(scene.paid(late).values()) == Sats(REVERSAL.max_amount)


def test_a_node_that_reorganises_in_mid_tree_takes_the_same_bytes_again(wallet):
    scene = funded(wallet, TreeScene(5, ("attesting", 2, True), after=110, delay=4))
    price = scene.levels[-1]
    first, second, third = scene.branch(price)
    wallet.node.send(first)
    (mined,) = wallet.mine()
    wallet.mine(3)
    wallet.node.invalidate(mined)
    assert not wallet.confirmations(first.txid)
    wallet.node.send_many([first, second, third])
    wallet.mine()
    assert [wallet.confirmations(tx.txid) for tx in (first, second, third)] == [1, 1, 1]
    assert scene.paid(third) == scene.row_at(price)
