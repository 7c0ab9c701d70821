"""A batch: no satoshi appears or vanishes, whoever is on whichever side, and each owner agrees to its own part."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from btcfi.bitcoin.fees import SatsPerKvb, dust_limit
from btcfi.bitcoin.keys import wallet_key
from btcfi.bitcoin.script import OP_0
from btcfi.bitcoin.transaction import TRUC_VERSION, OutPoint
from btcfi.contracts.batch import Ending, Holding, Side, build_batch, check_proposal, share_of
from btcfi.contracts.execution import Split
from btcfi.contracts.messages import Role
from btcfi.contracts.option import CollateralTooSmallError, split
from btcfi.errors import InvalidInputError
from btcfi.hashes import sha256
from btcfi.units import Sats, Txid
from tests.support.batching import ending, name_of
from tests.support.contracts import SEED

ONE = ending(0, name_of(0), name_of(1), 500_000)
"""Whose keys all of them have: what is signed does not matter here."""

NAMES = [name_of(number) for number in range(5)]
SCRIPTS = {name: wallet_key(SEED, n, account=8).script if n % 2 else bytes([OP_0, 20]) + bytes([n]) * 20
           for n, name in enumerate(NAMES)}  # fmt: skip


@st.composite
def endings(draw):
    """Anything that can end: large and tiny collaterals, CETs of each version, payouts at both ends and near dust."""
    found = []
    for number in range(draw(st.integers(1, 9))):
        collateral = draw(st.one_of(st.integers(2_500, 6_000), st.integers(6_000, 50_000_000)))
        costs = Sats(draw(st.sampled_from([240, 1_240, 2_000])))
        payout = draw(st.one_of(
            st.sampled_from([0, 1, 164, 165, 329, 330, collateral, collateral - 1, collateral - 330]),
            st.integers(0, collateral),
        ))  # fmt: skip
        buyer, seller = split(Sats(collateral), Sats(payout), costs, nearest=draw(st.booleans()))
        two = draw(st.lists(st.sampled_from(NAMES), min_size=2, max_size=2, unique=True))
        contract = ONE.contract
        changed = {name: getattr(contract, name) for name in ("buyer_key", "seller_key", "buyer_script",
                   "seller_script", "expiry_height", "refund_height", "internal_key")}  # fmt: skip
        found.append(
            Ending(
                contract=type(contract)(collateral=Sats(collateral), **changed),
                funding=OutPoint(txid=Txid(sha256(bytes([number]))), index=number),
                buyer=Side(owner=two[0], key=ONE.buyer.key), seller=Side(owner=two[1], key=ONE.seller.key),
                cet=Split(buyer=buyer, seller=seller), proof_root=sha256(b"proof%d" % number),
            )
        )  # fmt: skip
    return found, SatsPerKvb(draw(st.one_of(st.integers(1_000, 12_000), st.integers(1_000, 60_000))))


@settings(deadline=None)
@given(endings())
def test_what_goes_in_comes_out_plus_the_fee_and_each_owners_account_adds_up(asked):
    some, rate = asked
    try:
        batch = build_batch(some, SCRIPTS, rate=rate)
    except CollateralTooSmallError:
        # only where the dearest share is more than a collateral, or nobody would have more than dust
        assert share_of(1, 2, rate) + 2 * 330 > min(one.contract.collateral for one in some)
        return
    made, money = batch.transaction, batch.transaction.outputs[:-1]
    assert made.version == TRUC_VERSION
    collaterals = sum(one.contract.collateral for one in some)
    assert collaterals == sum(one.value for one in money) + batch.fee
    assert collaterals == sum(batch.dues.values()) + batch.share * len(some)
    assert batch.fee == batch.share * len(some) + sum(batch.dropped.values())
    assert Counter((one.script, one.value) for one in money) == Counter(
        (SCRIPTS[owner], paid) for owner, paid in batch.paid.items() if paid
    )
    for index in range(len(made.inputs)):
        made = made.with_witness(index, [bytes(64)])
    assert batch.fee * 1000 >= made.vsize * rate
    for owner, due in batch.dues.items():
        assert due >= 0
        assert batch.paid[owner] in (0, due)
        assert batch.paid[owner] or due < dust_limit(SCRIPTS[owner]) + len(some) * batch.share
    assert all(one.value >= dust_limit(one.script) for one in money)
    if batch.share <= 240:  # what every CET costs at least
        for owner in batch.owners:
            by_cets = sum(
                one.cet.buyer * (one.buyer.owner == owner) + one.cet.seller * (one.seller.owner == owner)
                for one in some
            )  # fmt: skip
            assert batch.dues[owner] >= by_cets


@settings(deadline=None)
@given(endings())
def test_what_a_batch_is_each_of_its_owners_agrees_to_and_to_none_with_a_satoshi_of_its_own_less(asked):
    some, rate = asked
    try:
        batch = build_batch(some, SCRIPTS, rate=rate)
    except CollateralTooSmallError:
        return
    for owner in batch.owners:
        holdings = {
            one.funding: Holding(ending=one, role=Role.BUYER if one.buyer.owner == owner else Role.SELLER)
            for one in batch.endings if owner in one.owners
        }  # fmt: skip
        proposal = batch.proposal(owner, 1)
        assert sorted(check_proposal(proposal, holdings, SCRIPTS[owner], ours=holdings)) == list(batch.inputs_of(owner))
        if not batch.paid[owner]:
            continue
        less = tuple(
            type(one)(value=Sats(one.value - 1), script=one.script) if one.script == SCRIPTS[owner] else one
            for one in proposal.transaction.outputs
        )
        worse = type(proposal)(
            number=1, transaction=type(proposal.transaction)(
                version=TRUC_VERSION, inputs=proposal.transaction.inputs, outputs=less
            ), spent=proposal.spent, rate=rate, branches=proposal.branches,
        )  # fmt: skip
        with pytest.raises(InvalidInputError):
            check_proposal(worse, holdings, SCRIPTS[owner], ours=holdings)


@settings(deadline=None)
@given(st.integers(0, 50_000), st.integers(0, 1_000_000), st.sampled_from([240, 1_240]))
def test_a_dearer_share_leaves_no_side_of_a_contract_with_more(share, payout, costs):
    one = ending(0, NAMES[0], NAMES[1], payout, costs=Sats(costs))
    dear, cheap = one.dues(Sats(share + 1)), one.dues(Sats(share))
    assert dear.buyer <= cheap.buyer
    assert dear.seller <= cheap.seller
