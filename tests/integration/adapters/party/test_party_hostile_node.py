"""What a party's node may do to it: change while it is read, answer half, be far ahead; and what a full inbox may."""

import json
from types import SimpleNamespace

import pytest

from btcfi.adapters.chain.node import Node, NodeAnswerError
from btcfi.adapters.party import mail as mails
from btcfi.bitcoin.fees import FeeRule, fee_for
from btcfi.bitcoin.transaction import TRUC_VERSION
from btcfi.contracts import watch
from btcfi.contracts.watch import Action, ChainMovedError, ContractStatus
from tests.support.chain import chain, output_of
from tests.support.desks import open_chain, open_pair
from tests.support.two_parties import TwoParties

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def wallet(tmp_path_factory):
    with chain("embedded", tmp_path_factory.mktemp("chain")) as funded:
        yield funded


@pytest.fixture
def two(wallet, tmp_path):
    return TwoParties(wallet, tmp_path)


def test_a_buyer_who_was_away_for_more_blocks_than_one_walk_pays_what_the_deadline_asks_at_once(two, monkeypatch):
    """Its rate came from the last block walked: far from the refund height, while the chain was close to it."""
    monkeypatch.setattr(watch.advance, "__kwdefaults__", {"limit": 20})
    name, _ = two.active(refund_in=70)
    terms = two.store("buyer").load(name).offer.terms
    two.pass_until(terms.refund_height - 4)
    two.buyer.learn(two.attestation())
    (report,) = two.buyer.watch()
    assert (report.tip, report.action) == (two.node.block_count(), Action.SETTLE)
    (child,) = two.store("buyer").load(name).children
    assert child.height == two.node.block_count()


def test_the_coin_of_a_child_that_was_not_needed_is_free_again_once_the_contract_has_ended(two):
    """A stranger's child is mined instead of ours: what ours would have spent was kept for ever."""
    name, collateral = two.active(refund_in=60)
    two.pass_until(two.store("buyer").load(name).offer.terms.expiry_height)
    two.buyer.learn(two.attestation())
    two.buyer.watch()
    (ours,) = two.store("buyer").load(name).children
    cet = two.spender(collateral)
    two.node.send(two.wallet.spend([two.stranger[0], output_of(cet, 2)], fee=20_000, version=TRUC_VERSION))
    two.wallet.mine(5)
    two.buyer.watch()
    coin = ours.transaction.inputs[1].outpoint
    assert coin not in {one.outpoint for one in two.buyer.wallet.free()}
    two.wallet.mine()
    assert two.buyer.watch()[0].status is ContractStatus.SETTLED
    assert coin in {one.outpoint for one in two.buyer.wallet.free()}
    again = two.open("buyer")
    again.watch()
    assert again.balance()[1] == 0


def test_what_a_running_party_saw_end_costs_no_other_process_of_its_folder_its_mandate(two):
    name, _ = two.active(refund_in=60)
    two.pass_until(two.store("buyer").load(name).offer.terms.expiry_height)
    two.buyer.learn(two.attestation())
    two.buyer.watch()
    for _ in range(6):  # block by block, as `party run` does
        two.wallet.mine()
        two.buyer.watch()
    assert two.store("buyer").load(name).ended
    assert two.open("buyer").authority().situation.exposure == 0  # as a command beside it asks


def test_a_chain_that_changes_while_the_wallet_reads_it_leaves_no_coin_that_is_not_there(two, monkeypatch):
    two.wallet.mine(3)
    before, real = two.buyer.wallet.scan(), Node.blocks
    two.buyer._store.save_coins(before)
    two.wallet.coins_for(two.buyer.wallet.script, [70_000])

    def blocks(self, names):
        read = real(self, names)
        monkeypatch.undo()
        two.node.invalidate(names[-1])
        two.pass_by(2)
        return read

    two.wallet.mine()
    monkeypatch.setattr(Node, "blocks", blocks)
    read = two.buyer.wallet.scan()  # what it read was one chain to the end, and says which
    assert read.scanned is not None
    assert two.node.block_hash(read.scanned[0]) != read.scanned[1]
    assert two.buyer.wallet.scan().scanned == (two.node.block_count(), two.node.best_block_hash())
    assert len(two.buyer.wallet.scan().coins) == len(before.coins) + 1

    def halves(self, names):
        return [*real(self, names[:-1]), real(self, [two.node.block_hash(names_height)])[0]]

    names_height = two.node.block_count() - 1
    two.wallet.mine(2)
    monkeypatch.setattr(Node, "blocks", halves)
    with pytest.raises(ChainMovedError):
        two.buyer.wallet.scan()


def test_a_contract_that_could_not_be_looked_at_is_shown_and_tried_again_before_the_next_block(tmp_path, monkeypatch):
    """It was missing from the status, and waited for the next block, be it the last one before a refund height."""
    with open_chain(tmp_path) as (there, cookie), open_pair(tmp_path / "pair", there, cookie) as pair:
        terms = pair.terms()
        pair.reach("one", terms, "nothing more")
        clock = SimpleNamespace(now=0.0)
        monkeypatch.setattr(mails, "monotonic", lambda: clock.now)
        asked = Node.block_hash

        def answers_badly(self, at):
            raise NodeAnswerError("getblockhash", -1, "later")

        monkeypatch.setattr(Node, "block_hash", answers_badly)
        pair.chain.mine(1)
        pair.buyer.round()
        (row,) = pair.buyer.said("status")["contracts"]
        assert (row["status"], "later" in row["note"]) == ("unknown", True)
        monkeypatch.setattr(Node, "block_hash", asked)
        clock.now += mails.LOOK_AGAIN_SECONDS
        pair.buyer.round()
        (row,) = pair.buyer.said("status")["contracts"]
        assert row["status"] == "funding"


def test_a_flood_of_files_keeps_nobody_from_the_chain_and_every_file_has_its_turn(tmp_path, monkeypatch):
    with open_chain(tmp_path) as (there, cookie), open_pair(tmp_path / "pair", there, cookie) as pair:
        pair.reach("one", pair.terms(), "nothing more")
        ticks = iter(range(10_000))
        monkeypatch.setattr(mails, "monotonic", lambda: float(next(ticks)))
        for number in range(30):
            pair.buyer.put("inbox", f"a{number:02}.attestation", {"type": "btcfi/attestation", "version": 1})
        pair.buyer.put("inbox", "z.attestation", json.dumps({"type": "nothing that is known"}).encode())
        pair.chain.mine(1)
        assert 0 < pair.buyer.round() < 30
        (row,) = pair.buyer.said("status")["contracts"]
        assert row["height"] == pair.node.block_count()
        for number in range(4):
            for more in range(30):
                pair.buyer.put("inbox", f"b{number}{more:02}.attestation", {"type": "btcfi/attestation", "version": 1})
            pair.buyer.round()
        assert (pair.buyer.folder / "inbox/refused/z.attestation.json").exists()


def test_no_estimate_of_a_node_costs_more_than_the_rule_allows(two, monkeypatch):
    name, collateral = two.active(refund_in=60)
    two.pass_until(two.store("buyer").load(name).offer.terms.expiry_height)
    two.buyer.learn(two.attestation())
    monkeypatch.setattr(two.node, "fee_estimate", lambda _: 10**9)
    monkeypatch.setattr(two.node, "relay_fee", lambda: 10**9)
    two.buyer.watch()
    (child,) = two.store("buyer").load(name).children
    sizes = child.transaction.vsize + two.spender(collateral).vsize
    assert child.fee + two.fee(two.spender(collateral)) <= fee_for(sizes, FeeRule().cap)


def test_a_settlement_that_is_reorganised_away_after_it_was_done_is_sent_again(two, monkeypatch):
    """It was left out of every later look, as deep as the watch remembers blocks, until a restart."""
    monkeypatch.setattr(watch, "REMEMBERED_BLOCKS", 10)
    name, collateral = two.active(refund_in=60)
    two.pass_until(two.store("buyer").load(name).offer.terms.expiry_height)
    two.buyer.learn(two.attestation())
    two.buyer.watch()
    cet = two.spender(collateral)
    (held,) = two.wallet.mine()
    for _ in range(2):
        two.pass_by(12)
        two.buyer.watch()
    assert two.buyer.watch() == []
    two.node.invalidate(held)
    two.pass_by(26)
    (report,) = two.buyer.watch()
    assert (report.status, report.action) == (ContractStatus.ACTIVE, Action.SETTLE)
    assert two.spender(collateral).txid == cet.txid


def test_a_seller_sends_the_funding_again_that_it_saw_in_a_block(two):
    """Only the buyer had it whole: a seller whose premium was reorganised away could not bring it back."""
    name, collateral = two.active(refund_in=60)
    two.seller.watch()
    assert two.store("seller").load(name).funding.txid == collateral.txid
    two.node.invalidate(two.node.best_block_hash())
    two.pass_by(2)
    (report,) = two.open("seller").watch()
    assert (report.status, report.action) == (ContractStatus.UNFUNDED, Action.BROADCAST_FUNDING)
    assert collateral.txid in two.node.pool()
