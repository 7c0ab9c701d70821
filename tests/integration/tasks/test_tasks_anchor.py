"""What the service agreed on, announced and proved, in a block: batches, replacements, reorganisations, proofs."""

import json
import sys

import pytest
from sqlalchemy import update
from sqlmodel import select

from btcfi.adapters.store.chain.tables import TransactionRow, WalletOutpointRow
from btcfi.adapters.store.chain.wallet import NoCoinError
from btcfi.adapters.store.options import anchors
from btcfi.adapters.store.options.anchor_tables import AnchorItemRow, AnchorRow
from btcfi.adapters.store.options.contract_tables import OracleEventRow
from btcfi.adapters.store.options.tables import OptionRow, SettlementRow
from btcfi.adapters.store.prices.tables import RoundRow
from btcfi.bitcoin.transaction import parse_transaction
from btcfi.contracts.anchor import AnchorItem, AnchorKind, anchor_root
from btcfi.contracts.messages import decode_announcement
from btcfi.contracts.metadata import RecordType, read_record
from btcfi.units import Slot, hash32, parse_txid
from tasks import chain, context
from tests.support.contract_stage import SLOT
from workers import cli

pytestmark = pytest.mark.integration


def versions(stage):
    with stage.here.store.reading() as session:
        query = select(AnchorRow, TransactionRow).join(TransactionRow, TransactionRow.txid == AnchorRow.txid)
        return session.exec(query.order_by(AnchorRow.batch, TransactionRow.fee_sats)).all()


def states(stage):
    return [(anchor.batch, anchor.count, sent.state) for anchor, sent in versions(stage)]


def subjects(stage, batch=1):
    with stage.here.store.reading() as session:
        return [row.subject for row in anchors.items_of(session, batch)]


@pytest.fixture
def btcfi(monkeypatch, capsys):
    """The command in this process: (exit code, standard output, standard error)."""

    def call(stage, *arguments):
        for name, value in stage.deployment.environment().items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(sys, "argv", ["btcfi", "anchor", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            cli.main()
        said = capsys.readouterr()
        return left.value.code or 0, said.out, said.err

    return call


def test_what_a_settled_option_rests_on_is_proved_from_the_files_to_a_header(stage, btcfi, tmp_path):
    stage.sell("one")
    stage.fund("one")
    stage.price(6_000_000)
    stage.settle()
    chain.anchor()
    settled, event = stage.row(SettlementRow), stage.row(OracleEventRow)
    assert states(stage) == [(1, 6, "broadcast")]  # two prices, three announcements, a proof root
    out = tmp_path / "proof.json"
    code, _, error = btcfi(stage, "prove", "--price", SLOT, "--out", out)
    assert (code, "0 of 6 confirmations" in error, out.exists()) == (75, True, False)
    stage.mine(5)
    code, _, error = btcfi(stage, "prove", "--settlement", settled.id, "--out", out)
    assert (code, "5 of 6 confirmations" in error) == (75, True)
    stage.mine(1)
    asked = ["--node", stage.deployment.node_url, "--cookie-file", stage.deployment.node_cookie_file]
    oracle = decode_announcement(json.loads(event.announcements)[1]).oracle_key.hex()
    for arguments, said in (
        (["--announcement", event.id, "--oracle", oracle[:8]], {"event": event.id, "oracle": oracle}),
        (["--settlement", settled.id], {"settlement": settled.id, "digest": settled.proof_root}),
        (["--price", SLOT], {"slot": SLOT, "price_cents": 5_000_000}),
    ):
        code, _, error = btcfi(stage, "prove", *arguments, "--out", out)
        assert (code, error.count("\n")) == (0, 1), error
        code, text, error = btcfi(stage, "verify", out, *asked)
        assert code == 0, error
        assert json.loads(text).items() >= {"final": True, "confirmations": 6, **said}.items()
    proof = json.loads(out.read_text())
    proof["subject"]["report"]["outcome"]["price"] += 1
    out.write_text(json.dumps(proof))
    code, text, error = btcfi(stage, "verify", out)
    assert (code, text, "the report in the file has the digest" in error) == (76, "", True)
    for arguments, code, named in (
        (["--announcement", event.id], 2, "3 oracles fit"),
        (["--price", SLOT + 60], 3, "no anchor 'price"),
        (["--settlement", "x"], 3, "no anchor 'proof root x'"),
        (["--settlement", "x", "--price", SLOT], 2, "exactly one"),
        ([], 2, "exactly one"),
    ):
        status, text, error = btcfi(stage, "prove", *arguments, "--out", out)
        assert (status, text, named in error) == (code, "", True), error


def ready(stage):
    """Coins that are deep enough for an anchor."""
    stage.mine(7)


def test_while_an_anchor_waits_the_next_takes_its_place_and_a_reorganisation_sends_it_again(stage):
    ready(stage)
    chain.anchor()
    chain.anchor()  # nothing new: nothing replaced
    assert states(stage) == [(1, 1, "broadcast")]
    for number in range(1, 3):
        stage.price(5_000_000 + number, Slot(SLOT + 60 * number))
        chain.anchor()
    assert states(stage) == [(1, 1, "replaced"), (1, 2, "replaced"), (1, 3, "broadcast")]
    rows = [sent for _, sent in versions(stage)]
    assert len({row.spends for row in rows}) == 1
    assert [parse_txid(rows[-1].txid)] == stage.node.pool()
    stage.mine(1)
    assert subjects(stage) == [f"BTC/USD@{SLOT + 60 * number}" for number in range(3)]
    with stage.here.store.reading() as session:
        items = [
            AnchorItem(kind=AnchorKind(row.kind), digest=hash32(bytes.fromhex(row.digest)))
            for row in session.exec(select(AnchorItemRow).order_by(AnchorItemRow.position)).all()
        ]
    record = parse_transaction(bytes.fromhex(rows[-1].raw_hex)).outputs[-1].script
    assert read_record(record) == (RecordType.ANCHOR, anchor_root(items))
    chain.anchor()  # it is mined: nothing is left to anchor
    assert states(stage)[-1] == (1, 3, "confirmed")
    stage.mine(5)
    final = [(1, 1, "replaced"), (1, 2, "replaced"), (1, 3, "final")]
    assert states(stage) == final
    stage.undo(6)
    assert states(stage)[-1] == (1, 3, "broadcast")
    with stage.here.store.reading() as session, pytest.raises(anchors.AnchorNotFinalError, match="0 of 6"):
        anchors.find_anchored(session, AnchorKind.PRICE, f"BTC/USD@{SLOT}", confirmations=6)
    stage.mine(6)
    chain.anchor()
    assert states(stage) == final


def test_when_an_older_version_is_mined_the_rest_goes_into_the_next_batch(embedded):
    ready(embedded)
    chain.anchor()
    embedded.price(5_000_001, Slot(SLOT + 60))
    chain.anchor()
    older = parse_transaction(bytes.fromhex(versions(embedded)[0][1].raw_hex))
    embedded.node.generate_block(context.mining_address(embedded.deployment, 1), [older])
    chain.watch()
    assert states(embedded) == [(1, 1, "confirmed"), (1, 2, "replaced")]
    chain.anchor()
    embedded.mine(6)
    assert states(embedded) == [(1, 1, "final"), (1, 2, "replaced"), (2, 1, "final")]
    assert subjects(embedded, 2) == [f"BTC/USD@{SLOT + 60}"]
    with embedded.here.store.reading() as session:
        for number, batch in ((0, 1), (1, 2)):
            subject = anchors.price_subject("BTC/USD", Slot(SLOT + 60 * number))
            known = anchors.find_anchored(session, AnchorKind.PRICE, subject, confirmations=6)
            assert known.transaction.to_bytes().hex() == versions(embedded)[0 if batch == 1 else 2][1].raw_hex
            anchors.anchored_report(session, known.found)
        # and a report that was changed since is told
        row = session.exec(select(RoundRow).where(RoundRow.slot == SLOT + 60)).one()
        report = json.loads(row.report)
        row.report = json.dumps(report | {"registered": report["registered"] + 1})
        with pytest.raises(anchors.EvidenceChangedError, match="was anchored as"):
            anchors.anchored_report(session, known.found)


def coins(stage, **values):
    with stage.here.store.transaction() as session:
        session.execute(update(WalletOutpointRow).values(**values))


def test_an_anchor_waits_for_a_coin_pays_more_with_every_block_and_stays_when_the_coin_pays_no_more(embedded):
    ready(embedded)
    coins(embedded, mature_height=WalletOutpointRow.mature_height + 1_000)  # not as deep as an anchor wants them
    with pytest.raises(NoCoinError):
        chain.anchor()
    assert (states(embedded), subjects(embedded)) == ([], [])
    coins(embedded, mature_height=WalletOutpointRow.mature_height - 1_000)
    chain.anchor()
    address = context.mining_address(embedded.deployment, 1)
    for _ in range(4):
        embedded.node.generate_block(address, [])
    chain.watch()
    chain.anchor()
    (_, first), (_, second) = versions(embedded)
    assert (first.state, second.state, second.built_height) == ("replaced", "broadcast", first.built_height)
    assert second.fee_sats == 2 * first.fee_sats
    for _ in range(30):
        embedded.node.generate_block(address, [])
    chain.watch()
    coins(embedded, value_sats=1_000)
    chain.anchor()
    assert [state for *_, state in states(embedded)] == ["replaced", "broadcast"]
    assert "its coin is too small" in versions(embedded)[-1][1].last_error


# ---- fees of settlements


def child_rows(stage):
    with stage.here.store.reading() as session:
        query = select(TransactionRow).where(TransactionRow.purpose == "child")
        return session.exec(query.order_by(TransactionRow.fee_sats)).all()


def settled_in_pool(stage):
    stage.sell("one")
    stage.fund("one")
    stage.price(6_000_000)
    stage.settle()
    return stage.row(SettlementRow).txid


def empty_blocks(stage, blocks):
    address = context.mining_address(stage.deployment, 1)
    for _ in range(blocks):
        stage.node.generate_block(address, [])
    chain.watch()


def test_a_settlement_that_waits_three_blocks_pays_more_by_another_child_of_the_same_cet(stage):
    cet = settled_in_pool(stage)
    empty_blocks(stage, 2)
    assert len(child_rows(stage)) == 1
    empty_blocks(stage, 1)
    first, second = child_rows(stage)
    assert (first.state, second.state) == ("replaced", "broadcast")
    assert (first.replaced_by, second.replaced_by) == (second.txid, None)
    assert second.fee_sats >= 2 * first.fee_sats
    assert second.spends == first.spends == f"{cet}:2"
    assert sorted(stage.node.pool()) == sorted([parse_txid(cet), parse_txid(second.txid)])
    old, new = (parse_transaction(bytes.fromhex(row.raw_hex)) for row in (first, second))
    assert new.inputs[1].outpoint == old.inputs[1].outpoint
    assert new.outputs[1] == old.outputs[1]  # the proof root
    chain.watch()  # the same height: nothing more
    assert len(child_rows(stage)) == 2
    stage.mine(6)
    assert (stage.state(), stage.row(SettlementRow).txid) == ("EXERCISED", cet)
    assert [row.state for row in child_rows(stage)] == ["replaced", "final"]


def reserved(stage):
    with stage.here.store.reading() as session:
        rows = session.exec(select(WalletOutpointRow).where(WalletOutpointRow.state == "reserved")).all()
        return [row.outpoint for row in rows]


def expiry_height(stage, height):
    with stage.here.store.transaction() as session:
        session.get_one(OptionRow, "one").expiry_height = height


def test_a_child_outgrows_its_coin_and_then_every_coin_and_is_never_late_before_its_cets_height(embedded):
    settled_in_pool(embedded)
    (first,) = reserved(embedded)
    height = embedded.row(OptionRow).expiry_height
    expiry_height(embedded, embedded.node.block_count() + 50)
    empty_blocks(embedded, 4)
    assert len(child_rows(embedded)) == 1  # no fee would make it valid
    expiry_height(embedded, height)
    with embedded.here.store.transaction() as session:
        # what the store believes of the first coin; the larger ones are as they are
        session.get_one(WalletOutpointRow, first).value_sats = 400
    chain.watch()
    (second,) = reserved(embedded)
    assert second != first
    assert [row.state for row in child_rows(embedded)] == ["replaced", "broadcast"]
    coins(embedded, value_sats=400)
    empty_blocks(embedded, 4)
    child = child_rows(embedded)[-1]
    assert (len(child_rows(embedded)), child.state, child.replaced_by) == (2, "broadcast", None)
    assert "waits, and cannot be replaced" in child.last_error
    assert "no coin covers it" in child.last_error
    assert reserved(embedded) == [second]
    embedded.mine(6)
    assert embedded.state() == "EXERCISED"
    assert reserved(embedded) == []


def test_a_replaced_child_that_is_mined_after_all_is_the_settlements_child_again(embedded):
    cet = settled_in_pool(embedded)
    empty_blocks(embedded, 3)
    first, second = child_rows(embedded)
    pair = [embedded.node.transaction(parse_txid(cet)).transaction, parse_transaction(bytes.fromhex(first.raw_hex))]
    embedded.node.generate_block(context.mining_address(embedded.deployment, 1), pair)
    chain.watch()
    rows = {row.txid: row for row in child_rows(embedded)}
    assert (rows[first.txid].state, rows[first.txid].replaced_by) == ("confirmed", None)
    assert (rows[second.txid].state, rows[second.txid].replaced_by) == ("replaced", first.txid)
    assert reserved(embedded) == []
    embedded.mine(5)
    assert embedded.state() == "EXERCISED"
