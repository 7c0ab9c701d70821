"""Trees of clauses on the embedded chain: each level, silence at each depth, a reorganisation in mid-tree, closes."""

import pytest

from btcfi.bitcoin.musig import KeyAggregate, SecretNonce, Session
from btcfi.bitcoin.transaction import TxOut
from btcfi.clauses.flat import flat_buckets
from btcfi.clauses.plan import build_close, close_digest
from btcfi.clauses.script import NotShownError
from btcfi.contracts.execution import ANCHOR, ExecutionPlan, check_presignatures, presign
from btcfi.contracts.option import OptionContract
from btcfi.contracts.settle import complete_cet
from btcfi.oracle.announcement import announce
from btcfi.oracle.attestation import attest
from btcfi.units import CentsPerBtc, Height, Sats
from tests.support.contracts import BUYER, BUYER_SECRET, ORACLES, RATE, SELLER, SELLER_SECRET, MemoryLedger, event
from tests.support.little_chain import LittleChain
from tests.support.trees import (
    KEYS,
    KINDS,
    NOWHERE,
    OPERATOR,
    PARTIES,
    REVERSAL,
    USER,
    TreeScene,
    kind_name,
)

CET_FEE = Sats(400)


@pytest.fixture
def chain(tmp_path):
    made = LittleChain(tmp_path / "chain")
    yield made
    made.close()


@pytest.mark.parametrize("kind", KINDS, ids=kind_name)
def test_a_tree_pays_the_row_of_each_level_to_the_satoshi(chain, kind):
    probe = TreeScene(5, kind)
    for price in (probe.levels[0] - 1, *probe.levels, probe.levels[-1] + 1):
        scene = TreeScene(5, kind)
        scene.fund(chain)
        branch = scene.branch(price)
        chain.mine(1, branch)
        assert scene.paid(branch[-1]) == scene.row_at(price)


@pytest.mark.parametrize("kind", KINDS, ids=kind_name)
def test_what_was_shown_for_one_price_opens_no_way_of_another(kind):
    scene = TreeScene(5, kind)
    scene.sign(NOWHERE)
    for price in (scene.levels[0], scene.levels[2], scene.levels[-1]):
        path, shown = scene.contract.path_of(price), scene.shown(price)
        for place, name in enumerate(path):
            other = "pay_lt" if name == "pay_gte" else "pay_gte"
            with pytest.raises(NotShownError):
                scene.finish((*path[:place], other), shown)


@pytest.mark.parametrize(
    "kind", [("preimage", 1, False), ("attesting", 2, False), ("attesting", 2, True)], ids=kind_name
)
@pytest.mark.parametrize("levels", [2, 5, 9])
def test_flat_pays_what_the_tree_pays_at_every_level(chain, kind, levels):
    at = TreeScene(levels, kind).levels
    for price in at if levels > 5 else sorted({*at, *(level - 1 for level in at)}):
        tree, flat = TreeScene(levels, kind), TreeScene(levels, kind, flat_form=True)
        tree.fund(chain)
        flat.fund(chain)
        long, short = tree.branch(price), flat.branch(price)
        chain.mine(1, [*long, *short])
        assert tree.paid(long[-1]) == flat.paid(short[-1]) == tree.row_at(price)
        assert len(short) == 1
        assert len(long) in {levels.bit_length() - 1, levels.bit_length(), (levels - 1).bit_length()}


def flat_contract(rows):
    """The product's own contract of the same rows: 18 digits, 2 of 3 oracles; its costs lie on top of the amount."""
    contract = OptionContract(
        buyer_key=USER, seller_key=OPERATOR, buyer_script=BUYER.script, seller_script=SELLER.script,
        collateral=Sats(REVERSAL.max_amount + ANCHOR.value + CET_FEE), expiry_height=Height(102),
        refund_height=Height(300), nearest_dust=True,
    )  # fmt: skip
    return contract, flat_buckets(rows, 18)


@pytest.mark.parametrize("levels", [2, 5, 50])
def test_the_product_s_flat_cets_pay_what_the_tree_pays_at_every_level(chain, levels):
    tree = TreeScene(levels, ("attesting", 1, True))
    contract, buckets = flat_contract(tree.rows)
    for place in sorted({0, 1, levels // 2, levels - 1}):
        dollars = tree.levels[place] // 10_000 + (7 if place else -3)
        tree = TreeScene(levels, ("attesting", 1, True))
        tree.fund(chain)
        made = event(minute=29_000_000 + place)
        announcements = tuple(announce(secret, made) for secret in ORACLES)
        (coin,) = chain.pay([(contract.output().script, contract.collateral)])
        plan = ExecutionPlan(
            contract=contract, funding=coin.outpoint, buckets=buckets, announcements=announcements, threshold=2,
            cet_fee=CET_FEE,
        )  # fmt: skip
        given = {"buyer": presign(plan, BUYER_SECRET), "seller": presign(plan, SELLER_SECRET)}
        if place == 0:
            check_presignatures(plan, "buyer", given["buyer"])
        outcome = made.outcome(CentsPerBtc(dollars * 100))
        said = [
            attest(secret, announcement, outcome, MemoryLedger())
            for secret, announcement in zip(ORACLES[:2], announcements, strict=False)
        ]
        cet = complete_cet(plan, attestations=said, **given)
        branch = tree.branch(dollars * 10_000)
        chain.mine(1, [*branch, cet.transaction])
        paid = {name: value for name, value in (("user", cet.payout), ("operator", cet.seller_return)) if value}
        assert paid == tree.paid(branch[-1]) == tree.row_at(dollars * 10_000)


def test_flat_and_tree_agree_at_every_price_around_every_level_of_fifty():
    scene = TreeScene(50)
    buckets = flat_buckets(scene.rows, 18)
    for price in scene.prices():
        dollars = min(price // 10_000, (1 << 18) - 1)
        (bucket,) = [one for one in buckets if dollars >> (18 - one.length) == one.prefix]
        path = scene.contract.path_of(price)
        scene.plan = scene.plan or scene.tree.plan(NOWHERE)
        assert scene.paid(scene.plan.step(path).transaction)["user"] == bucket.payout == scene.row_at(price)["user"]


@pytest.mark.parametrize("kind", [("preimage", 2, False), ("attesting", 2, True)], ids=kind_name)
@pytest.mark.parametrize("depth", [0, 1, 2])
def test_an_oracle_that_falls_silent_at_any_depth_ends_in_the_split_and_not_before_its_time(chain, kind, depth):
    scene = TreeScene(5, kind, after=120, delay=6)
    scene.fund(chain)
    price = scene.levels[-1]
    path = scene.contract.path_of(price)
    assert len(path) == 3
    spoken = scene.shown(price)
    for place in range(depth):
        chain.mine(1, [scene.finish(path[: place + 1], spoken)])
    # one oracle of three still speaks: not enough
    silent = scene.shown(price, oracles=[0])
    with pytest.raises(NotShownError):
        scene.finish(path[: depth + 1], silent)
    end = scene.finish((*path[:depth], "oracle_no_show"), silent)
    assert not chain.takes(end)
    while chain.height < 119:
        chain.mine()
    entered = chain.height
    if depth:
        # whoever was answered late still has its six blocks
        again = TreeScene(5, kind, after=110, delay=6)
        again.fund(chain)
        branch = again.branch(price)
        chain.mine(1, branch[:depth])
        entered = chain.height
        late = again.finish((*path[:depth], "oracle_no_show"), silent)
        for _ in range(5):
            assert not chain.takes(late)
            chain.mine()
        assert chain.height == entered + 5
        assert chain.takes(late)
        assert set(again.paid(late)) == {"user", "operator"}
    else:
        chain.mine()
    assert chain.takes(end)
    assert sum(scene.paid(end).values()) == REVERSAL.max_amount


def test_a_reorganisation_in_mid_tree_changes_no_payout_and_restarts_the_clock_of_the_no_show(chain):
    scene = TreeScene(5, ("attesting", 2, True), after=110, delay=6)
    scene.fund(chain)
    price = scene.levels[-1]
    first, second, third = scene.branch(price)
    path = scene.contract.path_of(price)
    chain.mine(10)
    chain.mine(1, [first])
    chain.mine(5)
    end = scene.finish((path[0], "oracle_no_show"), scene.shown(price, []))
    # six deep the split would be next; the reorganisation takes the first step out of the chain
    chain.fork(6)
    assert chain.spender(first.inputs[0].outpoint, 1) is None
    # it waits in the pool again, and goes into the next block as it was
    assert first.txid in chain.chain.pool
    chain.mine()
    assert chain.spender(first.inputs[0].outpoint, 1) == first
    assert not chain.takes(end)
    # the same bytes go on: no id below depends on the block, or on a witness
    chain.mine(1, [second])
    chain.fork(1)
    assert second.txid in chain.chain.pool
    chain.mine(1, [second, third])
    assert scene.paid(third) == scene.row_at(price)
    assert not chain.takes(end)


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_both_close_by_agreement_at_every_node_with_one_signature(chain, depth):
    scene = TreeScene(5, ("attesting", 1, True))
    scene.fund(chain)
    branch = scene.branch(scene.levels[-1])
    chain.mine(1, branch[:depth]) if depth else None
    path = scene.contract.path_of(scene.levels[-1])[:depth]
    pays = [TxOut(value=Sats(3_000_000), script=BUYER.script), TxOut(value=Sats(8_111_111), script=SELLER.script)]
    close = build_close(scene.plan, path, pays, rate=RATE)
    digest = close_digest(scene.plan, path, close)
    aggregate = KeyAggregate(KEYS)
    assert aggregate.xonly == PARTIES.cooperate
    aggregate.taproot_tweak(scene.plan.held_after(path)[2].root)
    nonces = [
        SecretNonce(secret=secret, entropy=bytes([n + 1]) * 32, message=digest, aggregate=aggregate)
        for n, secret in enumerate((BUYER_SECRET, SELLER_SECRET))
    ]
    session = Session(aggregate, [nonce.public for nonce in nonces], digest)
    partials = [session.sign(s, n) for s, n in zip((BUYER_SECRET, SELLER_SECRET), nonces, strict=True)]
    signed = close.with_witness(0, [session.aggregate(partials)])
    assert chain.takes(signed)
    assert scene.paid(signed) == {"user": 3_000_000, "operator": 8_111_111}
    assert not chain.takes(branch[depth])
