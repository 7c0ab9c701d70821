"""What the service does with a counterparty's bad message or a bad node: named, nothing signed, nothing lost."""

import json

import pytest
from sqlmodel import select

from btcfi.adapters.chain.node import Node, NodeLiesError, NodeUnreachableError
from btcfi.adapters.store.chain.tables import BlockRow, TransactionRow
from btcfi.adapters.store.options.contract_tables import ContractRow
from btcfi.adapters.store.options.tables import OptionRow, SettlementRow
from btcfi.adapters.store.spine.tables import BlobRow
from btcfi.bitcoin.transaction import TxOut, parse_transaction
from btcfi.units import Sats, display_txid
from tasks import chain, checks, context
from tasks import contracts as exchange_tasks
from tests.support.contract_stage import open_stage

pytestmark = pytest.mark.integration

OFF_THE_CURVE = "02" + "00" * 32


@pytest.fixture
def stage(tmp_path):
    with open_stage(tmp_path) as made:
        yield made


def changed(message, path, value):
    """A copy of a message in which the field at ``path`` is what ``value`` makes of it."""
    copy = json.loads(json.dumps(message))
    place = copy
    for part in path[:-1]:
        place = place[part]
    place[path[-1]] = value(place[path[-1]]) if callable(value) else value
    return copy


def one_output_changed(raw):
    funding = parse_transaction(bytes.fromhex(raw))
    first, *rest = funding.outputs
    cheaper = TxOut(value=Sats(first.value - 1), script=first.script)
    return type(funding)(
        version=funding.version, inputs=funding.inputs, outputs=(cheaper, *rest), lock_time=funding.lock_time
    ).to_bytes().hex()  # fmt: skip


BAD = {
    "offer": [
        (("refund_height",), lambda height: height - 1_100, "offer: differs from the order"),
        (("oracles", 0, "event", "expiry_unix"), lambda unix: unix + 60, "offer: differs from the order"),
        (("oracles", 0, "proofs"), lambda proofs: [*proofs[:-1], "00" * 64], "offer: differs from the order"),
        (("oracles", 1, "nonces"), lambda nonces: [*nonces[1:], nonces[0]], "offer: differs from the order"),
        (("collateral_sats",), lambda sats: sats - 1, "offer: differs from the order"),
        (("role",), "buyer", "offer: differs from the order"),
        (("party", "key"), OFF_THE_CURVE, "party.key"),
        (("type",), "btcfi/sign", "offer"),
    ],
    "accept": [
        (("offer_id",), "00" * 32, "accept.offer_id: another offer's"),
        (("party", "key"), OFF_THE_CURVE, "party.key"),
        (("version",), 9, "version"),
    ],
    "sign": [(("version",), 9, "version"), (("type",), "btcfi/accept", "sign")],
    "funded": [
        (("transaction",), one_output_changed, "funded.transaction"),
        (("transaction",), "zz", "transaction: missing or not hex"),
    ],
}
NEXT = {"offer": "offered", "accept": "accepted", "sign": "signed", "funded": "funded"}
"""Kind of message and the state of the contract once a good one has come."""


def test_every_bad_message_is_named_and_changes_nothing_and_the_good_one_goes_on(stage):
    stage.sell("one")
    exchange_tasks.exchange()
    for kind, author in (("offer", "seller"), ("accept", "buyer"), ("sign", "seller"), ("funded", "buyer")):
        stage.mails[author].round(stage.node.block_count())
        outbox = stage.deployment.parties_dir / author / "outbox" / f"one.{kind}.json"
        good = json.loads(outbox.read_text())
        before = stage.row(ContractRow).state
        for path, value, named in BAD[kind]:
            outbox.write_text(json.dumps(changed(good, path, value)))
            exchange_tasks.exchange()
            row = stage.row(ContractRow)
            assert (row.state, outbox.exists()) == (before, False), (kind, path)
            assert named in row.last_error == stage.row(OptionRow).last_error, (kind, path)
            assert kind == "funded" or stage.node.pool() == []
        outbox.write_text(json.dumps(good))
        exchange_tasks.exchange()
        # an error that stayed would keep a lost check of a good signature from being repaired
        assert (stage.row(ContractRow).state, stage.row(ContractRow).last_error) == (NEXT[kind], None)
        if kind == "sign":
            checks.check("one")
            exchange_tasks.exchange()
    assert (stage.row(ContractRow).last_error, stage.row(OptionRow).last_error) == (None, None)
    stage.mine(6)
    assert stage.state() == "ACTIVE"


def test_signatures_of_another_contract_are_refused_by_the_check_and_the_buyer_never_sees_them(stage):
    stage.sell("one")
    stage.sell("two")
    for _ in range(3):
        exchange_tasks.exchange()
        for mail in stage.mails.values():
            mail.round(stage.node.block_count())
    outbox = stage.deployment.parties_dir / "seller" / "outbox"
    one, two = (json.loads((outbox / f"{name}.sign.json").read_text()) for name in ("one", "two"))
    (outbox / "one.sign.json").write_text(json.dumps(two))
    (outbox / "two.sign.json").write_text(json.dumps(two | {"cet_adaptor_signatures": one["cet_adaptor_signatures"]}))
    exchange_tasks.exchange()
    for name in ("one", "two"):
        checks.check(name)
    stage.talk(2)
    assert stage.row(OptionRow, id="one").last_error.startswith("sign message: is for another contract;")
    assert "adaptor signature" in stage.row(OptionRow, id="two").last_error
    assert [path.name for path in (outbox.parents[1] / "buyer" / "inbox").glob("*.sign.json")] == []
    assert stage.node.pool() == []


def broadcasts(monkeypatch, *, lose):
    """Let the node take what is broadcast, and lose its answer so many times: a timeout in mid-broadcast."""
    asked, left = [], [lose]
    exchange = Node._exchange

    def unreliable(self, body):
        answer = exchange(self, body)
        if b"sendrawtransaction" in body or b"submitpackage" in body:
            asked.append(body)
            if left[0] > 0:
                left[0] -= 1
                self._drop()
                raise TimeoutError("timed out")
        return answer

    monkeypatch.setattr(Node, "_exchange", unreliable)
    return asked


def test_a_broadcast_whose_answer_is_lost_is_sent_again_and_what_is_in_the_chain_already_is_a_success(
    stage, monkeypatch
):
    stage.sell("one")
    stage.fund("one")
    stage.price(6_000_000)
    asked = broadcasts(monkeypatch, lose=1)
    with pytest.raises(NodeUnreachableError, match="timed out"):
        stage.settle()
    assert len(stage.node.pool()) == 2  # the node has both, the store does not know
    with stage.here.store.reading() as session:
        rows = session.exec(select(TransactionRow).where(TransactionRow.purpose.in_(("settlement", "child")))).all()
        assert {row.state for row in rows} == {"built"}
    address = context.mining_address(stage.deployment, 1)
    stage.node.generate(1, address)
    chain.settle()  # before any walk: the node says that they are in the chain
    assert len(asked) == 2
    assert {stage.row(TransactionRow, txid=row.txid).state for row in rows} == {"broadcast"}
    stage.mine(5)
    assert stage.state() == "EXERCISED"


def test_a_block_that_is_not_what_its_hash_says_is_a_lie_and_nothing_of_it_is_believed(stage, monkeypatch):
    stage.sell("one")
    stage.talk()
    exchange = Node._exchange

    def lying(self, body):
        answer = exchange(self, body)
        for request, one in zip(json.loads(body), answer, strict=True) if isinstance(answer, list) else ():
            if request["method"] == "getblock":
                # a block that looks mined and pays our funding: only its Merkle root gives it away
                raw = bytes.fromhex(one["result"])
                one["result"] = (raw[:-1] + bytes([raw[-1] ^ 1])).hex()  # its last lock time
        return answer

    stage.node.generate(1, context.mining_address(stage.deployment, 1))
    with stage.here.store.reading() as session:
        before = len(session.exec(select(BlockRow)).all())
    with monkeypatch.context() as patched:
        patched.setattr(Node, "_exchange", lying)
        with pytest.raises(NodeLiesError, match="do not give its Merkle root"):
            chain.watch()
    with stage.here.store.reading() as session:
        assert len(session.exec(select(BlockRow)).all()) == before
    assert stage.row(TransactionRow, purpose="funding").state == "built"
    chain.watch()
    assert stage.row(TransactionRow, purpose="funding").state == "confirmed"
    other = stage.node.block_hash(stage.node.block_count())
    asked = stage.node.block_hash(stage.node.block_count() - 1)
    exchange = stage.node._exchange
    stage.node._exchange = lambda body: exchange(
        body.replace(asked[::-1].hex().encode(), other[::-1].hex().encode())
    )  # fmt: skip
    with pytest.raises(NodeLiesError, match=f"hashes to {display_txid(other)}"):
        stage.node.block(asked)


@pytest.mark.parametrize("damage", [b"", b'{"sizes": [1, 2, 3]}\n'])
def test_a_stored_contract_that_is_damaged_stops_the_settlement_of_no_other_option(stage, damage):
    for name in ("one", "two"):
        stage.sell(name)
    stage.fund("one", "two")
    with stage.here.store.transaction() as session:
        session.get_one(BlobRow, session.get_one(ContractRow, "one").plan_sha256).body = damage
    stage.price(6_000_000)
    stage.settle()
    chain.watch()
    assert stage.row(SettlementRow, option_id="two").state == "broadcast"
    damaged = stage.row(SettlementRow, option_id="one")
    assert (damaged.state, "checked contract" in damaged.last_error) == ("proven", True)
