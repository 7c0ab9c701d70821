"""Watching over a chain in memory: spends found, taken back, found again; conflicts; what to do next."""

from dataclasses import dataclass, field, replace

import pytest

from btcfi.bitcoin.transaction import OutPoint, Transaction, TxIn, TxOut
from btcfi.contracts import watch
from btcfi.contracts.watch import (
    REMEMBERED_BLOCKS,
    Action,
    ChainMovedError,
    ContractStatus,
    SpendStatus,
    advance,
    standing,
    start,
)
from btcfi.errors import NotFoundError, UnreachableError
from btcfi.hashes import sha256
from btcfi.units import Height, Sats, Txid


@dataclass
class Block:
    transactions: tuple
    previous: bytes


@dataclass
class MemoryChain:
    """Test support: satisfies ChainView."""

    names: list = field(default_factory=lambda: [sha256(b"genesis")])
    blocks: dict = field(default_factory=dict)
    fail_at: int | None = None

    def block_count(self):
        return Height(len(self.names) - 1)

    def block_hash(self, at):
        if self.fail_at == at:
            raise UnreachableError("node", "here", "timed out", "retry")
        if at >= len(self.names):
            raise NotFoundError("block", str(at))
        return self.names[at]

    def block(self, name):
        return self.blocks[name]

    def add(self, *transactions, salt=b""):
        previous = self.names[-1]
        name = sha256(previous + salt + bytes([len(self.names) % 256]))
        self.names.append(name)
        self.blocks[name] = Block(transactions, previous)

    def mine(self, count, salt=b""):
        for _ in range(count):
            self.add(salt=salt)

    def undo(self, count):
        del self.names[-count:]


def outpoint(number):
    return OutPoint(txid=Txid(bytes([number]) * 32), index=0)


def spend(*outpoints, value=1_000):
    return Transaction(
        version=2,
        inputs=tuple(TxIn(outpoint=o) for o in outpoints),
        outputs=(TxOut(value=Sats(value), script=b"\x51"),),
    )


@pytest.fixture
def chain():
    made = MemoryChain()
    made.mine(10)
    return made


COIN = outpoint(1)


def test_a_spend_is_found_and_becomes_final_at_six(chain):
    state = start(chain, Height(10))
    ours = spend(COIN)
    assert standing(state, COIN, ours.txid).status is SpendStatus.SIGNED
    assert standing(state, COIN, ours.txid, in_pool=True).status is SpendStatus.IN_MEMPOOL
    chain.add(ours)
    step = advance(state, chain, [COIN])
    assert [one.transaction for one in step.found] == [ours]
    for depth in range(1, 8):
        state = advance(step.state if depth == 1 else state, chain, [COIN]).state
        now = standing(state, COIN, ours.txid)
        assert now.confirmations == depth
        assert now.status is (SpendStatus.FINAL if depth >= 6 else SpendStatus.CONFIRMED)
        chain.mine(1)


@pytest.mark.parametrize("depth", [1, 2, 6, 20])
def test_a_reorganisation_takes_the_spend_back_and_finds_it_again(chain, depth):
    ours = spend(COIN)
    state = start(chain, Height(10))
    chain.add(ours)
    chain.mine(depth - 1)
    state = advance(state, chain, [COIN]).state
    chain.undo(depth)
    chain.mine(depth + 1, salt=b"other")
    step = advance(state, chain, [COIN])
    assert (step.blocks_undone, step.blocks_new) == (depth, depth + 1)
    assert [one.transaction for one in step.undone] == [ours]
    assert step.found == ()
    assert standing(step.state, COIN, ours.txid).status is SpendStatus.SIGNED
    chain.add(ours)
    assert standing(advance(step.state, chain, [COIN]).state, COIN, ours.txid).confirmations == 1


def test_a_shorter_chain_is_unwound_too(chain):
    state = start(chain, Height(5))
    state = advance(state, chain, [COIN]).state
    chain.undo(3)
    assert advance(state, chain, [COIN]).state.tip == 7


def test_the_same_chain_gives_the_same_state_whatever_the_steps(chain):
    chain.add(spend(COIN))
    chain.mine(30)
    whole = advance(start(chain, Height(2)), chain, [COIN]).state
    state = start(chain, Height(2))
    while state.tip < chain.block_count():
        state = advance(state, chain, [COIN], limit=3).state
    assert state == whole


def test_an_interrupted_walk_loses_nothing(chain):
    state = start(chain, Height(10))
    chain.add(spend(COIN))
    chain.mine(4)
    chain.fail_at = 13
    with pytest.raises(UnreachableError):
        advance(state, chain, [COIN])
    chain.fail_at = None
    assert advance(state, chain, [COIN]).state.spend_of(COIN) is not None


def test_blocks_of_two_chains_are_never_taken_for_one(chain):
    """The chain changes between two questions: what the new one holds below the change must not be passed over."""
    state = start(chain, Height(10))
    chain.mine(4)
    moving = chain.block_hash

    def block_hash(at):
        if at == 13:
            chain.undo(4)
            chain.add(spend(COIN), salt=b"other")
            chain.mine(4, salt=b"other")
            chain.block_hash = moving
        return moving(at)

    chain.block_hash = block_hash
    with pytest.raises(ChainMovedError):
        advance(state, chain, [COIN])
    assert advance(state, chain, [COIN]).state.spend_of(COIN) is not None


def test_a_reorganisation_below_every_known_block_goes_back_further_and_watching_goes_on(chain):
    """At signing one block is known, the tip: a new tip instead of it must not end the watch for ever."""
    ours = spend(COIN)
    state = start(chain, chain.block_count())
    chain.undo(1)
    chain.mine(2, salt=b"other")
    state = advance(state, chain, [COIN]).state
    chain.add(ours)
    assert standing(advance(state, chain, [COIN]).state, COIN, ours.txid).confirmations == 1


def test_what_was_found_below_every_known_block_stays_only_where_its_block_is_still_there(chain):
    other = outpoint(7)
    first, second = spend(COIN), spend(other)
    chain.add(first)
    chain.mine(2 * REMEMBERED_BLOCKS)
    chain.add(second)
    chain.mine(3)
    state = advance(start(chain, Height(2)), chain, [COIN, other]).state
    forgetful = replace(state, blocks=state.blocks[-2:])
    chain.undo(5)
    chain.mine(12, salt=b"other")
    step = advance(forgetful, chain, [COIN, other])
    assert [one.transaction for one in step.undone] == [second]
    assert standing(step.state, COIN, first.txid).status is SpendStatus.FINAL
    assert step.state.spend_of(other) is None


def test_somebody_elses_spend_is_a_conflict_until_its_block_goes(chain):
    ours, rival = spend(COIN), spend(COIN, value=999)
    state = start(chain, Height(10))
    chain.add(rival)
    state = advance(state, chain, [COIN]).state
    now = standing(state, COIN, [ours.txid, outpoint(9).txid])
    assert (now.status, now.by) == (SpendStatus.CONFLICTED, rival.txid)
    chain.undo(1)
    chain.mine(2, salt=b"other")
    assert standing(advance(state, chain, [COIN]).state, COIN, ours.txid).status is SpendStatus.SIGNED


def test_a_contract_follows_the_chain_in_both_directions(chain):
    contribution = outpoint(2)
    funding = spend(contribution)
    collateral = funding.outpoint(0)
    settlement = spend(collateral)
    watched = [contribution, collateral]

    def now(state):
        return watch.contract_status(state, collateral, contributions=[contribution], spenders=[settlement.txid])

    state = start(chain, Height(10))
    assert now(state) is ContractStatus.UNFUNDED
    chain.add(funding)
    state = advance(state, chain, watched).state
    assert now(state) is ContractStatus.FUNDING
    chain.mine(5)
    state = advance(state, chain, watched).state
    assert now(state) is ContractStatus.ACTIVE
    chain.add(settlement)
    state = advance(state, chain, watched).state
    assert now(state) is ContractStatus.SETTLING
    chain.undo(7)
    chain.mine(8, salt=b"other")
    state = advance(state, chain, watched).state
    assert now(state) is ContractStatus.UNFUNDED
    chain.add(funding)
    chain.add(settlement)
    chain.mine(5)
    state = advance(state, chain, watched).state
    assert now(state) is ContractStatus.SETTLED


def test_a_stolen_contribution_or_collateral_is_a_conflict(chain):
    contribution = outpoint(2)
    funding = spend(contribution)
    collateral = funding.outpoint(0)
    watched = [contribution, collateral]
    state = start(chain, Height(10))
    chain.add(spend(contribution, value=5))
    taken = advance(state, chain, watched).state
    arguments = {"contributions": [contribution], "spenders": [Txid(bytes(32))]}
    assert watch.contract_status(taken, collateral, **arguments) is ContractStatus.CONFLICTED
    chain.undo(1)
    chain.add(funding, spend(collateral), salt=b"other")
    taken = advance(state, chain, watched).state
    assert watch.contract_status(taken, collateral, **arguments) is ContractStatus.CONFLICTED


@pytest.mark.parametrize(
    ("status", "tip", "attested", "seller", "expected"),
    [
        (ContractStatus.UNFUNDED, 50, False, True, Action.BROADCAST_FUNDING),
        (ContractStatus.ACTIVE, 99, True, True, Action.WAIT),
        (ContractStatus.ACTIVE, 100, True, False, Action.SETTLE),
        (ContractStatus.ACTIVE, 100, False, True, Action.WAIT),
        (ContractStatus.ACTIVE, 199, False, True, Action.WAIT),
        (ContractStatus.ACTIVE, 200, False, True, Action.REFUND),
        (ContractStatus.ACTIVE, 200, False, False, Action.WAIT),
        (ContractStatus.ACTIVE, 200, True, True, Action.SETTLE),
        (ContractStatus.FUNDING, 100, True, True, Action.SETTLE),
        (ContractStatus.SETTLING, 200, True, True, Action.WAIT),
        (ContractStatus.SETTLED, 200, True, True, Action.DONE),
        (ContractStatus.CONFLICTED, 200, True, True, Action.WAIT),
    ],
)
def test_what_to_do_next_follows_from_status_and_height(status, tip, attested, seller, expected):
    action = watch.next_action(
        status,
        tip=Height(tip),
        expiry_height=Height(100),
        refund_height=Height(200),
        attested=attested,
        seller=seller,
    )
    assert action is expected
