"""Contracts of several accounts end together over letters, and whoever is silent, lies or spends otherwise drops out.

One stage serves all: each test lets some of its options fall due.
"""

import json
from collections import Counter
from dataclasses import replace

import pytest
from sqlmodel import select

from btcfi.adapters.party.batch_deals import HOLD_SECONDS, LAST_BLOCKS, BatchDeals
from btcfi.adapters.store.chain.tables import TransactionRow
from btcfi.adapters.store.options import anchors, batches, views
from btcfi.adapters.store.options.batch_tables import BatchPartRow, BatchRow
from btcfi.adapters.store.options.tables import SettlementRow
from btcfi.bitcoin.fees import SatsPerKvb
from btcfi.bitcoin.transaction import parse_transaction
from btcfi.contracts import batching
from btcfi.contracts.anchor import AnchorItem, AnchorKind, anchor_root, root_from_path
from btcfi.contracts.batch import build_batch
from btcfi.contracts.batching import Rules
from btcfi.contracts.batching_state import encode_state
from btcfi.contracts.metadata import RecordType, read_record
from btcfi.errors import InvalidInputError
from btcfi.market.batch_letters import Asked
from btcfi.surfaces.rest.deps import Deps
from btcfi.units import Hash32, Height, Sats, UnixSeconds, display_txid
from dashboards.operator import drawing
from dashboards.trader.verifying import Verifier, read_option
from tasks import batches as asked
from tasks import chain, market, options, settlement
from tasks import contracts as exchange_tasks
from tasks.carriers import Carriers
from tasks.context import Context
from tests.support.chain import embedded_node, real_node
from tests.support.market_stage import MarketStage
from workers.audit import ChainView, audit

pytestmark = pytest.mark.integration

NAMES = ("ada", "bob", "cyd")
FALLS_DUE = 5_200_000


@pytest.fixture(
    scope="module", params=["embedded", pytest.param("bitcoind", marks=[pytest.mark.regtest, pytest.mark.slow])]
)
def opened(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("batches")
    start, cookie = (real_node, "regtest/.cookie") if request.param == "bitcoind" else (embedded_node, ".cookie")
    with start(folder / "chain") as (node, _), MarketStage(
        folder / "data", node, folder / "chain" / cookie, names=NAMES, coins=24
    ) as made:  # fmt: skip
        yield made


@pytest.fixture(scope="module")
def world(opened):
    """Options between three accounts, each written by one of them, all due and none run."""
    ada, bob, cyd = (opened.accounts[name] for name in NAMES)
    for one in (ada, bob, cyd):
        one.desk.batches.wanted = True
    of_ada, of_bob = ada.offer(quantity=40), bob.offer(quantity=40, strike=4_800_000)
    names = {}
    for group in ("whole", "silent", "lying", "killed", "late", "spent", "after all"):
        names[group] = [bob.take(of_ada), cyd.take(of_ada)]
    names["whole"].append(cyd.take(of_bob))
    opened.trade(8)
    opened.mine(6)
    opened.trade(1)
    every = [name for group in names.values() for name in group]
    assert {opened.state(name) for name in every} == {"ACTIVE"}
    opened.trade(1)
    opened.price(FALLS_DUE)
    options.expire_due("BTC/USD")
    opened.attest()
    return names


@pytest.fixture
def stage(opened, world, monkeypatch):
    """The stage with batches on, and a clock that tests may put forward."""
    opened.ahead = 0
    now = Context.now
    monkeypatch.setattr(Context, "now", lambda here: UnixSeconds(now(here) + opened.ahead))
    monkeypatch.setattr(batches, "GATHER_SECONDS", 0)
    monkeypatch.setitem(opened.here.deployment.__dict__, "batches", True)  # as BTCFI_BATCHES=true gives it
    for one in opened.accounts.values():
        one.silent = False
        one.lies.clear()
    return opened


def proven(stage, names):
    """Have the guest run for these alone."""
    settlement.execute_batch([stage.row(SettlementRow, option_id=name).id for name in names])
    chain.settle()
    assert {stage.row(SettlementRow, option_id=name).state for name in names} == {"proven"}  # they wait for a batch


def carry(stage, rounds=1):
    for _ in range(rounds):
        market.tick()
        exchange_tasks.carry(stage.here)
        for one in stage.accounts.values():
            one.work()
        exchange_tasks.carry(stage.here)


def settled(stage, names):
    return [stage.row(SettlementRow, option_id=name) for name in names]


def batches_of(stage, txid):
    """The options that end in a transaction, where it is a batch."""
    with stage.here.store.reading() as session:
        return [one.option_id for one in batches.ends_of(session, [txid])]


def lie(path):
    message = json.loads(path.read_text())
    last = max(message["partials"], key=int)
    message["partials"][last] = "01".rjust(64, "0")
    path.write_text(json.dumps(message))


def whys(stage, names):
    return [stage.row(BatchPartRow, option_id=name).why for name in names]


def faults(stage):
    with stage.here.store.reading() as session:
        rows = session.exec(select(BatchRow)).all()
    said = [one for row in rows for one in json.loads(row.body)["state"]["faults"]]
    return Counter((name, one["why"]) for one in said for name, who in stage.accounts.items() if who.id == one["owner"])


def audited(stage, names):
    view = ChainView()
    view.follow(stage.node)
    found = audit(stage.here.store, view, names)
    return [f"{one.subject}: {one.what}" for one in found if not one.subject.startswith("round")]


def test_contracts_that_end_together_are_paid_by_one_transaction_which_anybody_can_audit(stage, world):
    names = world["whole"]
    proven(stage, names)
    carry(stage, 3)
    chain.settle()
    rows = settled(stage, names)
    assert len({row.txid for row in rows}) == 1
    assert {row.state for row in rows} == {"broadcast"}
    with stage.here.store.reading() as session:
        ends = batches.batch_of(session, rows[0])
    made = stage.node.transaction(bytes.fromhex(rows[0].txid)[::-1]).transaction
    assert [display_txid(one.outpoint.txid) for one in made.inputs] == [
        stage.option(one.option_id).funding_txid for one in ends
    ]  # fmt: skip
    roots = [AnchorItem(kind=AnchorKind.PROOF_ROOT, digest=Hash32(bytes.fromhex(one.proof_root))) for one in ends]
    assert read_record(made.outputs[-1].script) == (RecordType.ANCHOR, anchor_root(roots))
    assert len(made.outputs) == len(NAMES) + 1  # netted: one for each owner
    for one in stage.accounts.values():  # its file names the batch as an end
        assert sum(made.txid in kept.closes for kept in one.desk._store.contracts()) in {2, 3}
    stage.mine(6)
    assert {row.state for row in settled(stage, names)} == {"confirmed"}
    assert {stage.state(name) for name in names} == {"EXERCISED"}
    assert audited(stage, names) == []


def test_each_contract_of_a_batch_is_shown_and_checked_by_itself_and_its_proof_leads_to_the_block(stage, world):
    name = world["whole"][1]
    row = stage.row(SettlementRow, option_id=name)
    with stage.here.store.reading() as session:
        kept = read_option(session, name, account=stage.accounts["cyd"].id)
        share = batches.share_of_settlement(session, row)
        anchored = anchors.find_anchored(session, AnchorKind.PROOF_ROOT, row.id, confirmations=6)
        found = views.transactions_of(session, name)
        life = {(one.entity, one.to_state) for one in views.life_of(session, name)}
    leaf = AnchorItem(kind=AnchorKind.PROOF_ROOT, digest=Hash32(bytes.fromhex(row.proof_root))).leaf()
    assert root_from_path(leaf, share.index, share.contracts, share.path) == share.root
    assert (anchored.index, display_txid(anchored.transaction.txid)) == (share.index, row.txid)
    assert [one.purpose for one in found] == ["funding", "batch"]
    assert {("batch", "signed"), ("batch", "done")} <= life
    graph = drawing.graph(kept.option, found, None)
    assert len(graph.outputs) == len(parse_transaction(bytes.fromhex(found[0].raw_hex)).outputs) + 3
    assert [label for _, _, label in graph.sources].count("others") == 1
    # the seller's witnesses of the funding are sealed to the buyer, so the service's copy of ``sign`` has none
    kept = replace(kept, said={kind: kept.said[kind] for kind in ("offer", "accept")})
    payout = next(one for one in verifier(stage).of_option(kept).findings if one.name == "Payout")
    assert payout.holds, payout.words
    assert f"{row.paid_sats:,} sats" in payout.words
    other = replace(kept.batch, ends=[WithShare(one, one.share_sats + 1) for one in kept.batch.ends])
    assert not next(
        one for one in verifier(stage).of_option(replace(kept, batch=other)).findings if one.name == "Payout"
    ).holds  # fmt: skip


class WithShare:
    """A row of a batch that says another share of the fee."""

    def __init__(self, row, share):
        self._row, self.share_sats = row, share

    def __getattr__(self, name):
        return getattr(self._row, name)


def verifier(stage):
    deps = Deps(
        store=stage.here.store, clock=stage.here.now, monotonic=lambda: 0.0, new_id=lambda: "x",
        create_option=lambda _: None, submit=lambda *_: None, feed="BTC/USD", rate=0.03, fallback_volatility=0.6,
    )  # fmt: skip
    return Verifier(deps)


def test_a_final_batch_that_is_reorganised_away_waits_again_and_is_final_again(stage, world):
    names = world["whole"]
    (txid,) = {row.txid for row in settled(stage, names)}
    stage.undo(7)
    assert {row.state for row in settled(stage, names)} == {"broadcast"}
    assert {stage.state(name) for name in names} == {"EXPIRED"}
    assert stage.row(BatchRow, txid=txid).state == "signed"
    stage.ahead += 11  # it is sent again
    stage.mine(7)
    assert {(row.state, row.txid) for row in settled(stage, names)} == {("confirmed", txid)}
    assert stage.row(BatchRow, txid=txid).state == "done"
    assert audited(stage, names) == []


def test_who_is_silent_costs_a_round_and_its_contracts_go_by_their_cets(stage, world):
    names = world["silent"]
    proven(stage, names)
    stage.accounts["cyd"].silent = True
    carry(stage, 2)
    assert {row.state for row in settled(stage, names)} == {"proven"}
    stage.ahead += 21
    carry(stage, 3)
    chain.settle()
    alone, *by_cet = settled(stage, names)
    assert batches_of(stage, alone.txid) == [names[0]]  # that of ada and bob
    assert [batches_of(stage, row.txid) for row in by_cet] == [[]]
    assert whys(stage, names) == [None, "said no nonces in time"]
    assert faults(stage)["cyd", "said no nonces in time"] == 1
    stage.mine(6)
    assert audited(stage, names) == []


def test_who_lies_about_its_signature_is_named_and_the_others_end_by_twos(stage, world, monkeypatch):
    names = world["lying"]
    monkeypatch.setattr(batching, "Rules", lambda: Rules(tries=1))
    proven(stage, names)
    stage.accounts["cyd"].lies["batch-partials"] = lie
    carry(stage, 5)
    chain.settle()
    assert whys(stage, names) == [None, "said a partial signature that does not hold"]
    assert faults(stage)["cyd", "said a partial signature that does not hold"] == 1
    alone, *by_cet = settled(stage, names)
    assert batches_of(stage, alone.txid) == [names[0]]
    assert [batches_of(stage, row.txid) for row in by_cet] == [[]]
    stage.mine(6)
    assert audited(stage, names) == []


def test_who_dies_between_the_rounds_has_no_nonces_and_costs_a_try(stage, world):
    names, bob = world["killed"], stage.accounts["bob"]
    proven(stage, names)
    market.tick()
    for one in stage.accounts.values():
        one.work()  # all have said nonces
    bob.desk.batches._seats.clear()  # memory is all that a death takes; the folder and the process's keys stay
    exchange_tasks.carry(stage.here)
    carry(stage, 4)
    chain.settle()
    assert faults(stage)["bob", "refused the proposal"] == 1
    by_cet, together = settled(stage, names)
    assert batches_of(stage, together.txid) == [names[1]]  # that of ada and cyd
    assert batches_of(stage, by_cet.txid) == []
    stage.mine(6)
    assert audited(stage, names) == []


def test_a_stranger_and_a_word_of_any_shape_move_no_batch(stage, world):
    names = world["late"]
    proven(stage, names)
    market.tick()
    with stage.here.store.reading() as session:
        (found,) = batches.asking(session)
    carriers, name = Carriers(stage.here), f"b{found.id}~1"
    ada, stranger = stage.accounts["ada"].id, "11" * 32

    def said(account, kind, body, *, under=name, refused=False):
        word = asked.Word(account=account, name=under, kind=kind, body=body, refused=refused)
        return asked.take_word(stage.here, carriers, word)

    empty = {"type": "btcfi/batch-nonces", "version": 1, "batch": found.id, "number": 1, "nonces": {}}
    assert said(stranger, "batch-nonces", empty) == "speaks of a batch that is none of its"
    for kind, body, under in (
        ("batch-nonces", {}, name),
        ("batch-nonces", empty | {"number": 2}, name),
        ("batch-nonces", empty | {"nonces": {"00": "02" * 66}}, name),
        ("batch-nonces", empty | {"nonces": []}, name),
        ("batch-partials", empty | {"type": "btcfi/batch-partials", "partials": {}}, name),
        ("batch-nonces", empty, f"b{found.id}~01"),
        ("batch-proposal", empty, name),
        ("batch-done", empty, name),
    ):
        assert said(ada, kind, body, under=under), (kind, body)
    assert said(ada, "batch-all", {"reason": "too early"}, refused=True)
    with stage.here.store.reading() as session:
        assert encode_state(batches.find_asking(session, found.id).state) == encode_state(found.state)


def test_a_party_leaves_its_contract_to_a_batch_for_minutes_and_never_near_the_refund_height(stage, world):
    bob = stage.accounts["bob"].desk
    now = [1_000_000.0]
    deals = BatchDeals(
        bob._store, bob._keystore, bob._node, bob._agreements, authority=bob.authority, alone=lambda _: None,
        clock=lambda: now[0],
    )  # fmt: skip
    (contract,) = [one for one in bob._store.contracts() if one.order == world["late"][0]]
    funding = bob._agreements.of(contract).plan.funding
    far = Height(stage.node.block_count() + 1_000)
    tip = stage.node.block_count()
    assert deals.holds(contract, funding, tip=tip, refund_height=far) == ""  # its owner has not said so
    deals.wanted = True
    assert deals.holds(contract, funding, tip=tip, refund_height=far)
    assert deals.holds(contract, funding, tip=tip, refund_height=Height(tip + LAST_BLOCKS)) == ""
    now[0] += HOLD_SECONDS
    assert deals.holds(contract, funding, tip=tip, refund_height=far) == ""


def test_two_equal_contracts_that_a_desk_shows_one_at_a_time_are_not_signed_for_one_output(stage, world):
    """The first proposal of a batch spends one, the second both; of the one output each would be the due.

    Their attestations have come with the letters of the tests before.
    """
    bob = stage.accounts["bob"].desk
    pair = [one for one in bob._store.contracts() if one.order in (world["late"][0], world["spent"][0])]
    one, other = (bob.batches._holding(contract).ending for contract in pair)
    assert one.cet == other.cet
    scripts = {"buyer": one.contract.buyer_script, "seller": one.contract.seller_script}
    alone = build_batch([one], scripts, rate=SatsPerKvb(2_000)).proposal("buyer", 1)
    assert bob.batches.proposed(Asked(batch="0" * 32, proposal=alone)).parts
    both = build_batch([one, other], scripts, rate=SatsPerKvb(2_000))
    due = one.dues(both.share).buyer
    assert both.paid["buyer"] == 2 * due
    more = {scripts["buyer"]: -due, scripts["seller"]: due}
    outputs = [replace(out, value=Sats(out.value + more[out.script])) for out in both.transaction.outputs[:-1]]
    honest = both.proposal("buyer", 2)
    made = replace(honest.transaction, outputs=(*outputs, both.transaction.outputs[-1]))
    with pytest.raises(InvalidInputError) as refused:
        bob.batches.proposed(Asked(batch="0" * 32, proposal=replace(honest, transaction=made)))
    assert refused.value.field == "batch.inputs"


def test_a_batch_that_nobody_moves_holds_no_settlement_for_longer_than_its_patience(stage, world):
    names = world["late"]  # asked about in the test of the stranger
    assert stage.row(BatchPartRow, option_id=names[0]).why is None
    stage.ahead += batches.PATIENCE_SECONDS + 1  # its process is gone, and no tick comes
    chain.settle()
    assert {row.state for row in settled(stage, names)} == {"broadcast"}
    assert [batches_of(stage, row.txid) for row in settled(stage, names)] == [[], []]
    carry(stage, 2)  # what is said now comes too late
    assert {row.state for row in settled(stage, names)} == {"broadcast"}
    stage.mine(6)
    assert audited(stage, names) == []


def test_a_batch_that_was_given_up_and_that_a_block_holds_after_all_is_what_settled_its_contracts(stage, world):
    names = world["after all"]
    proven(stage, names)
    carry(stage, 3)
    (txid,) = {row.txid for row in settled(stage, names)}
    made = stage.row(TransactionRow, txid=txid)
    batch = stage.row(BatchRow, txid=txid)
    with stage.here.work() as session:
        batches.give_up(session, batch.id, set(), batches.WAITED, now=stage.here.now())
    assert stage.row(BatchRow, txid=txid).state == "over"
    chain.settle()
    assert txid not in {row.txid for row in settled(stage, names)}
    assert {row.state for row in settled(stage, names)} == {"broadcast"}
    address = stage.accounts["ada"].desk.address()
    stage.node.generate_block(address, [parse_transaction(bytes.fromhex(made.raw_hex))])
    chain.watch()
    stage.mine(6)
    assert {(row.state, row.txid) for row in settled(stage, names)} == {("confirmed", txid)}
    assert stage.row(BatchRow, txid=txid).state == "done"
    with stage.here.store.reading() as session:
        others = session.exec(select(TransactionRow).where(TransactionRow.subject.in_(names))).all()
    assert {one.state for one in others if one.purpose == "settlement"} <= {"replaced", "conflicted"}
    assert {one.state for one in others if one.purpose == "child"} <= {"replaced", "conflicted"}
    assert audited(stage, names) == []


def test_who_signs_and_then_sends_its_cet_costs_the_others_a_try(stage, world):
    names, cyd = world["spent"], stage.accounts["cyd"]
    proven(stage, names)
    carry(stage, 3)
    assert len({row.txid for row in settled(stage, names)}) == 1
    first = settled(stage, names)[0].txid  # signed by all, and not sent yet
    cyd.desk.batches.wanted = False
    cyd.desk.watch()  # of all its contracts: no test behind this one has any left
    assert stage.node.pool()
    chain.settle()  # the node refuses it
    assert stage.row(TransactionRow, txid=first).state == "built"
    carry(stage, 4)
    cyd.desk.batches.wanted = True
    chain.settle()
    assert stage.row(TransactionRow, txid=first).state == "conflicted"
    alone = settled(stage, names)[0]
    assert batches_of(stage, alone.txid) == [names[0]]
    assert whys(stage, names) == [None, "its collateral was spent otherwise"]
    stage.mine(6)
    stage.mine(1)
    assert {row.state for row in settled(stage, names)} == {"confirmed"}
    assert audited(stage, names) == []
