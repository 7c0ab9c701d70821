"""Laws of bets: tree and flat lead each price to one payout, money is neither made nor lost; of conditions, too."""

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from btcfi.clauses.bet import NoShow, Outcome, bet, divided, flat, outcome_at
from btcfi.clauses.clause import MAX_WAYS, After, And, Hash, Key, Older, Or, Threshold, means_of
from btcfi.clauses.plan import Terms, tree
from btcfi.errors import InvalidInputError
from btcfi.secp256k1 import public_key_xonly
from btcfi.units import Height, Sats
from tests.support.contracts import BUYER, RATE, SELLER
from tests.support.trees import NOWHERE, PARTIES, SECRETS, SYMBOL

AMOUNT = Sats(1_000_000)


def shares(user):
    return divided(AMOUNT, Sats(user), script=BUYER.script, rest_script=SELLER.script)


levels = st.integers(-(2**63), 2**63 - 1)
curves = st.dictionaries(levels, st.integers(0, AMOUNT), min_size=2, max_size=9)


@settings(max_examples=40, deadline=None)
@given(curves, st.lists(levels, max_size=6), st.integers(1, 65_535))
def test_tree_and_flat_lead_every_price_to_the_outcome_at_or_below_it_and_keep_the_sum(curve, prices, delay):
    one = bet(
        amount=AMOUNT, symbol=SYMBOL, oracle=SECRETS["preimage"][0].publish(SYMBOL, list(curve)),
        outcomes=[Outcome(level=level, pays=shares(user)) for level, user in curve.items()],
        no_show=NoShow(pays=shares(AMOUNT // 3), after=Height(500), delay=delay),
    )  # fmt: skip
    for contract in (one, flat(one)):
        made = tree(contract, Terms(parties=PARTIES, rate=RATE))
        plan = made.plan(NOWHERE)
        for price in {*prices, *curve, *(level - 1 for level in curve)}:
            branch = plan.branch(contract.path_of(price))
            assert branch[-1].transaction.outputs == outcome_at(one.outcomes, price).pays
            # one transaction spends the other's output, and fees are all that is lost
            for before, after in pairwise(branch):
                assert after.transaction.inputs[0].outpoint == before.transaction.outpoint(0)
            fees = sum(step.fee for step in branch)
            assert fees == made.funding_txout().value - AMOUNT == made.reserve


atoms = st.one_of(
    st.integers(1, 6).map(lambda n: Key(public_key_xonly(bytes([n]) * 32))),
    st.integers(1, 6).map(lambda n: Hash(bytes([n]) * 32)),
    st.sampled_from([5, 800_000, 500_000_000, 2**31 - 1]).map(After),
    st.sampled_from([1, 144, 1 << 22 | 7]).map(Older),
)


def several(inner):
    many = st.lists(inner, min_size=1, max_size=4).map(tuple)
    return st.one_of(
        many.map(And), many.map(Or),
        many.flatmap(lambda parts: st.integers(1, len(parts)).map(lambda count: Threshold(count, parts))),
    )  # fmt: skip


def met(clause, shown):
    """Whether what is shown meets a condition, by its own words."""
    if isinstance(clause, And):
        return all(met(part, shown) for part in clause.parts)
    if isinstance(clause, Or):
        return any(met(part, shown) for part in clause.parts)
    if isinstance(clause, Threshold):
        return sum(met(part, shown) for part in clause.parts) >= clause.count
    return clause in shown


def way_met(atom, shown):
    keys = getattr(atom, "keys", None)
    if keys is not None:
        return sum(Key(key) in shown for key in keys) >= atom.count
    return atom in shown


def closed(shown):
    """Whoever has waited for a lock has waited for every earlier one of its unit."""
    every = [After(n) for n in (5, 800_000, 500_000_000, 2**31 - 1)] + [Older(n) for n in (1, 144, 1 << 22 | 7)]
    waited = {
        lock for lock in every for held in shown
        if type(held) is type(lock) and held.in_seconds == lock.in_seconds and held.lock >= lock.lock
    }  # fmt: skip
    return set(shown) | waited


@settings(max_examples=300, deadline=None)
@given(st.recursive(atoms, several, max_leaves=8), st.sets(atoms, max_size=6))
def test_the_ways_of_a_condition_are_met_exactly_when_the_condition_is(clause, shown):
    shown = closed(shown)
    try:
        ways = means_of(clause)
    except InvalidInputError:
        return
    assert len(ways) <= MAX_WAYS
    assert any(all(way_met(atom, shown) for atom in way.atoms) for way in ways) == met(clause, shown)
