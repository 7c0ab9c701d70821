"""Both nodes side by side: the same random acts of wallets in a hurry, and after each the same verdict and pool."""

import random

import pytest

from btcfi.adapters.chain.node import TxRejectedError
from btcfi.bitcoin.address import encode_address
from btcfi.bitcoin.fees import DUST_P2A
from btcfi.bitcoin.keys import wallet_key
from btcfi.bitcoin.script import P2A_SCRIPT
from btcfi.bitcoin.transaction import TxOut
from btcfi.units import Sats
from tests.support.chain import SEED, chain, output_of

pytestmark = [pytest.mark.integration, pytest.mark.regtest]

ANCHOR = TxOut(value=DUST_P2A, script=P2A_SCRIPT)
COINS = 8
ACTS = 40
SEEDS = 8
FEES = (0, 0, 150, 300, 600, 1_000, 1_000, 2_000, 4_000, 8_000)


class World:
    """One node and the transactions that were made on it; a plan names them by number, since txids differ."""

    def __init__(self, wallet):
        self.wallet, self.node = wallet, wallet.node
        self.outputs, self.made, self.number = [], [], {}
        self.mined = 0

    def begin(self):
        self.outputs = list(self.wallet.coins_for(self.wallet.key.script, [60_000] * COINS))
        self.made, self.number = [], {}

    def make(self, plan):
        extra = [ANCHOR] * plan["anchor"] + [TxOut(value=Sats(400), script=self.wallet.key.script)] * plan["bulk"]
        coins = [self.outputs[index] for index in plan["spends"]]
        made = self.wallet.spend(coins, *extra, fee=plan["fee"], version=plan["version"])
        self.number[made.txid] = len(self.made)
        self.made.append(made)
        self.outputs += [output_of(made, index) for index in range(len(made.outputs))]

    def send(self, numbers):
        transactions = [self.made[number] for number in numbers]
        try:
            if len(transactions) == 1:
                self.node.send(transactions[0])
            else:
                self.node.send_package(transactions)
        except TxRejectedError as e:
            words = e.reason.partition(",")[0].partition(":")[0]
            return type(e), "truc" if words.lower().startswith("truc-") else words, self.number[e.txid]
        return "taken"

    def pool(self):
        return sorted(self.number[txid] for txid in self.node.pool() if txid in self.number)

    def facts(self):
        found = {}
        for txid in self.node.pool():
            if txid not in self.number:
                continue
            entry = self.node.pool_entry(txid)
            found[self.number[txid]] = (
                entry.ancestors_fee,
                entry.ancestors_vsize,
                entry.descendants_fee,
                entry.descendants_count,
            )
        return found

    def mine(self):
        self.mined += 1  # another address each time: the block after an undone one must not be that block again
        (name,) = self.node.generate(1, encode_address(wallet_key(SEED, self.mined).script))
        inside = [one.txid for one in self.node.block(name).transactions[1:]]
        return sorted(self.number[txid] for txid in inside if txid in self.number)

    def undo(self):
        self.node.invalidate(self.node.best_block_hash())


def plan_of(chance, world):
    """Return a random transaction over the outputs of ``world``, the newer ones more often."""
    count = chance.choice((1, 1, 1, 2, 2, 3))
    usable = [
        index for index, coin in enumerate(world.outputs) if coin.output.value > 400 or coin.output.script == P2A_SCRIPT
    ]
    recent = usable[-6:]
    spends = {chance.choice(recent if chance.random() < 0.5 else usable) for _ in range(count)}
    value = sum(world.outputs[index].value for index in spends)
    anchor, bulk = chance.random() < 0.4, chance.choice((0,) * 8 + (5, 18, 30))
    fee = chance.choice(FEES) + chance.randrange(97) if chance.random() < 0.9 else 0
    if value - anchor * DUST_P2A - bulk * 400 - fee < 1_000:
        return None
    version = chance.choice((2, 3, 3))
    return {"spends": sorted(spends), "anchor": anchor, "bulk": bulk, "fee": fee, "version": version}


def parents_of(world, number):
    inputs = {txin.outpoint.txid for txin in world.made[number].inputs}
    return sorted(world.number[txid] for txid in inputs if txid in world.number)


@pytest.fixture(scope="module")
def twins(tmp_path_factory):
    folder = tmp_path_factory.mktemp("twins")
    flag = "-blockmaxweight=12000"
    with chain("embedded", folder / "e", flag) as ours, chain("bitcoind", folder / "b", flag) as theirs:
        yield World(ours), World(theirs)


@pytest.mark.parametrize("seed", range(SEEDS))
def test_both_nodes_give_the_same_verdicts_and_hold_and_mine_the_same(twins, seed):
    chance = random.Random(seed)
    ours, theirs = twins
    for world in twins:
        world.begin()

    def send(number, *, with_parents):
        numbers = [*parents_of(ours, number), number] if with_parents else [number]
        verdicts = [world.send(numbers) for world in twins]
        assert verdicts[0] == verdicts[1], (numbers, act)
        assert ours.pool() == theirs.pool(), (numbers, act, verdicts)

    for act in range(ACTS):
        if chance.random() < 0.06:
            assert ours.mine() == theirs.mine(), act
        if chance.random() < 0.05:
            for world in twins:
                world.undo()
            assert ours.pool() == theirs.pool(), act
            assert ours.mine() == theirs.mine(), act
        plan = plan_of(chance, ours)
        if plan is None:
            continue
        for world in twins:
            world.make(plan)
        send(len(ours.made) - 1, with_parents=chance.random() < 0.5)
        send(chance.randrange(len(ours.made)), with_parents=True)  # one that was refused, or has fallen, comes back
    assert ours.facts() == theirs.facts()
    while mined := ours.mine():
        assert mined == theirs.mine()
    assert not theirs.mine()
