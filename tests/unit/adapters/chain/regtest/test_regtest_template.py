"""Which waiting transactions a block takes, against a slow reading of the rule."""

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from btcfi.adapters.chain.regtest.policy import Policy, PoolEntry
from btcfi.adapters.chain.regtest.template import COINBASE_RESERVE, choose
from btcfi.bitcoin.fees import SatsPerKvb
from btcfi.bitcoin.transaction import Transaction
from btcfi.units import Sats, Txid

NOTHING = Transaction(version=2, inputs=(), outputs=())
"""Its parts are not looked at: an entry's fee, size and parents are."""


def name(number):
    return Txid(number.to_bytes(32))


@st.composite
def pools(draw):
    pool = {}
    for number in range(draw(st.integers(1, 9))):
        parents = draw(st.sets(st.integers(0, number - 1), max_size=2)) if number else set()
        pool[name(number)] = PoolEntry(
            transaction=NOTHING, raw=b"", fee=Sats(draw(st.integers(0, 900))), vsize=draw(st.integers(60, 300)),
            time=0, height=0, parents={name(one) for one in parents}, conflicts=set(),
        )  # fmt: skip
    return pool


def lines(pool, txid):
    found = {txid}
    for parent in pool[txid].parents:
        found |= lines(pool, parent)
    return found


def slowly(pool, policy):
    """Take the best line again and again, counting every line anew."""
    inside, failed, weight = set(), set(), COINBASE_RESERVE

    def rate(txid):
        line = [pool[one] for one in lines(pool, txid) - inside]
        own = Fraction(pool[txid].fee, pool[txid].vsize)
        return min(own, Fraction(sum(one.fee for one in line), sum(one.vsize for one in line)))

    while waiting := pool.keys() - inside - failed:
        best = min(waiting, key=lambda txid: (-rate(txid), txid))
        line = lines(pool, best) - inside
        fee, vsize = sum(pool[one].fee for one in line), sum(pool[one].vsize for one in line)
        if fee * 1000 < vsize * policy.block_fee:
            break
        if weight + 4 * vsize >= policy.block_weight:
            failed.add(best)
            continue
        inside |= line
        weight += 4 * vsize
        failed = {one for one in failed if not lines(pool, one) & line}
    return inside


@given(pools(), st.integers(0, 1_500), st.sampled_from([9_000, 10_000, 12_000, 4_000_000]))
def test_a_block_takes_the_best_line_until_none_pays_or_fits(pool, block_fee, weight):
    policy = Policy(block_fee=SatsPerKvb(block_fee), block_weight=weight)
    chosen = choose(pool, policy)
    names = {id(entry): txid for txid, entry in pool.items()}
    order = [names[id(entry)] for entry in chosen]
    assert set(order) == slowly(pool, policy)
    assert all(order.index(parent) < order.index(txid) for txid in order for parent in pool[txid].parents)
    assert COINBASE_RESERVE + 4 * sum(entry.vsize for entry in chosen) < weight
