"""Every named shape on a node, ours and a real one: funded, settled at five prices, closed, rolled, refunded.

Three of them in CI, all by `make night ARGS="--only shapes"`.
"""

from collections import Counter

import pytest

from btcfi.adapters.chain.node import InputsSpentError, TxRejectedError
from btcfi.bitcoin.fees import SatsPerKvb
from btcfi.contracts import netting
from btcfi.contracts.settle import build_child, complete_cet
from btcfi.payoffs.shapes import SHAPES
from tests.support.chain import chain
from tests.support.contracts import BUYER, PROOF_ROOT, RATE, SELLER
from tests.support.little_chain import wallet_here
from tests.support.shape_lives import ASKS, ShapeScene, closed, five_prices, rolled
from tests.support.shown import show

pytestmark = pytest.mark.integration

IN_CI = {("here", "iron_condor"), ("here", "stable_dollar"), ("bitcoind", "range_forward")}
PAIRS = [
    pytest.param(
        kind, name, id=f"{kind}-{name}",
        marks=[*([pytest.mark.regtest] if kind == "bitcoind" else []),
               *([] if (kind, name) in IN_CI else [pytest.mark.slow])],
    )
    for kind in ("here", "bitcoind") for name in SHAPES
]  # fmt: skip
LIVES = 8
"""Five settlements, a close, a roll and a refund."""
LATER = 29_010_000
DEAR = SatsPerKvb(20_000)


@pytest.fixture(scope="module")
def wallet(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    if request.param != "here":
        with chain(request.param, folder) as funded:
            yield funded
        return
    with wallet_here(folder) as funded:
        yield funded


class Lives:
    """One shape, so many times a contract on one chain, all with one expiry and one refund height."""

    def __init__(self, wallet, name, count=LIVES):
        self.wallet, self.name = wallet, name
        draft = ShapeScene(name=name)
        mine = wallet.coins_for(BUYER.script, [draft.contract.holder + 60_000] * count)
        theirs = wallet.coins_for(SELLER.script, [draft.contract.writer + 60_000] * count)
        here = wallet.node.block_count()
        self.heights = {"expiry_height": here + 4, "refund_height": here + 10}
        self.scenes = [
            ShapeScene(name=name, holder_coins=[a], writer_coins=[b], **self.heights)
            for a, b in zip(mine, theirs, strict=True)
        ]
        self.agreements = [one.agreement() for one in self.scenes]
        self.signed = [one.signatures(of) for one, of in zip(self.scenes, self.agreements, strict=True)]
        for scene, agreement, both in zip(self.scenes, self.agreements, self.signed, strict=True):
            funding = scene.funded(agreement, *both)
            wallet.node.send(funding)
            spent = sum(one.value for one in agreement.funding.spent)
            assert spent == sum(one.value for one in funding.outputs) + agreement.funding.fee
        wallet.mine()

    def refund(self, place):
        holder, writer = self.signed[place]
        return netting.complete_refund(self.agreements[place], holder=holder, writer=writer)

    def cet(self, place, price):
        holder, writer = self.signed[place]
        return complete_cet(
            self.agreements[place].plan, buyer=holder.presignatures, seller=writer.presignatures,
            attestations=self.scenes[place].attestations(price),
        )  # fmt: skip

    def mine_to(self, height):
        while self.wallet.node.block_count() < height:
            self.wallet.mine()

    def is_void(self, transaction):
        with pytest.raises(InputsSpentError):
            self.wallet.node.send(transaction)


def paid_out(cet, scene, price):
    """Hold a CET against the shape at a price: what it pays, and that nothing is made or lost."""
    both = scene.contract.collateral - cet.anchor - cet.fee
    # the writer pays what an end costs, and a part below dust goes to the nearer of nothing and the limit
    said = min(scene.paid(price), both)
    assert abs(cet.payout - said) < 330
    assert cet.payout == said or min(said, both - said) < 330
    outputs = Counter((one.script, one.value) for one in cet.transaction.outputs[:-1])
    parts = ((BUYER.script, cet.payout), (SELLER.script, cet.seller_return))
    assert outputs == Counter(one for one in parts if one[1])
    assert sum(one.value for one in cet.transaction.outputs) + cet.fee == scene.contract.collateral


def with_child(cet, coin):
    child = build_child(cet, coin, change_script=SELLER.script, rate=RATE, proof_root=PROOF_ROOT)
    return child.transaction.with_witness(1, [SELLER.sign_input(child.transaction, 1, child.spent)])


@pytest.mark.parametrize(("wallet", "name"), PAIRS, indirect=["wallet"])
def test_a_shape_is_funded_settled_at_five_prices_closed_early_rolled_and_refunded(wallet, name):
    lives = Lives(wallet, name)
    node, scene = wallet.node, lives.scenes[0]
    prices = five_prices(ASKS[name])
    holder, writer, both = scene.contract.holder, scene.contract.writer, scene.contract.collateral
    # closed early, at a quarter of all of it
    close, transaction = closed(lives.agreements[5], both // 4)
    node.send(transaction)
    # rolled to a later expiry: its new contract has CETs and a refund of its own
    later = {name: height + 3 for name, height in lives.heights.items()}
    following = ShapeScene(name=name, minute=LATER, **later)
    (coin,) = wallet.coins_for(SELLER.script, [100_000])
    roll = rolled(lives.agreements[6], following, coin)
    node.send(roll.transaction)
    wallet.mine()
    assert wallet.confirmations(transaction.txid) == 2
    assert (close.payout, close.payout + close.seller_return + close.fee) == (both // 4, both)
    assert wallet.confirmations(roll.transaction.txid) == 1
    assert roll.transaction.outputs[0].value == both
    assert both + coin.value == sum(one.value for one in roll.transaction.outputs) + roll.splice.fee
    # settled at five prices, each by a CET and the child that pays for it
    coins = wallet.coins_for(SELLER.script, [100_000] * 6)
    lives.mine_to(scene.expiry_height)
    cets = [lives.cet(place, price) for place, price in enumerate(prices)]
    for cet, own, price in zip(cets, coins[:5], prices, strict=True):
        paid_out(cet, scene, price)
        node.send_package([cet.transaction, with_child(cet, own)])
    assert len({cet.payout for cet in cets}) > 1
    # the one that nobody attests anything for: its refund is good from its height on
    refund = lives.refund(7)
    assert node.test_accept([refund])[0].reason == "non-final"
    wallet.mine()
    assert {wallet.confirmations(cet.transaction.txid) for cet in cets} == {1}
    # what was closed or rolled or settled has no other end
    lives.mine_to(scene.refund_height)
    for place in range(7):
        lives.is_void(lives.refund(place))
    lives.is_void(lives.cet(5, prices[2]).transaction)
    lives.is_void(lives.cet(6, prices[2]).transaction)
    node.send(refund)
    # and the rolled one settles by its own oracle's word
    cet = complete_cet(
        roll.plan, buyer=roll.holder.presignatures, seller=roll.writer.presignatures,
        attestations=following.attestations(prices[2]),
    )  # fmt: skip
    paid_out(cet, following, prices[2])
    node.send_package([cet.transaction, with_child(cet, coins[5])])
    wallet.mine()
    assert wallet.confirmations(refund.txid) == wallet.confirmations(cet.transaction.txid) == 1
    given = {one.script: one.value for one in refund.outputs[:-1]}
    costs = both - sum(given.values())
    assert (given.get(BUYER.script, 0), given.get(SELLER.script, 0)) in (
        (holder, writer - costs), (holder + writer - costs, 0)
    )  # fmt: skip
    show({"contracts": LIVES + 1, "settled": len(cets) + 1, "closed": 1, "rolled": 1, "refunded": 1},
         dict.fromkeys(("contracts", "settled", "closed", "rolled", "refunded"), "contracts"))  # fmt: skip


@pytest.mark.parametrize(
    "wallet", ["here", pytest.param("bitcoind", marks=pytest.mark.regtest)], indirect=True
)  # fmt: skip
def test_a_roll_that_waits_is_replaced_by_the_old_settlement_and_its_child_once_the_price_is_known(wallet):
    """Both are valid, and who gains by the old one pays for its place: why nothing is rolled in the last blocks."""
    lives = Lives(wallet, "range_forward", count=1)
    node, scene = wallet.node, lives.scenes[0]
    following = ShapeScene(name="range_forward", minute=LATER, **{k: h + 3 for k, h in lives.heights.items()})
    coin, own = wallet.coins_for(SELLER.script, [100_000, 100_000])
    roll = rolled(lives.agreements[0], following, coin)
    lives.mine_to(scene.expiry_height)
    node.send(roll.transaction)
    cet = lives.cet(0, 12_500_000)
    with pytest.raises(TxRejectedError):
        node.send(cet.transaction)  # alone it pays less than what waits
    assert roll.transaction.txid in node.pool()
    child = build_child(cet, own, change_script=SELLER.script, rate=DEAR, proof_root=PROOF_ROOT)
    paid = child.transaction.with_witness(1, [SELLER.sign_input(child.transaction, 1, child.spent)])
    node.send_package([cet.transaction, paid])
    assert roll.transaction.txid not in node.pool()
    wallet.mine()
    assert wallet.confirmations(cet.transaction.txid) == 1
    lives.is_void(roll.transaction)
    after = complete_cet(
        roll.plan, buyer=roll.holder.presignatures, seller=roll.writer.presignatures,
        attestations=following.attestations(12_500_000),
    )  # fmt: skip
    with pytest.raises(TxRejectedError):
        node.send(after.transaction)
    assert node.unspent(coin.outpoint).output == coin.output  # what the writer brought is where it was


def test_every_shape_that_has_a_name_has_a_life_here():
    assert list(ASKS) == list(SHAPES)
    assert len(SHAPES) == 21
