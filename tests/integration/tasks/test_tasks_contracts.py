"""The service between two parties: contracts set up, watched through reorganisations, settled, refunded, betrayed.

The tasks run in this process one after the other, so that every moment can be reached; the chain is a real node, the
parties are real desks with keystores and folders of their own.
"""

import json
from base64 import b64decode, b64encode
from dataclasses import replace

import pytest
from sqlmodel import select

from btcfi.adapters.store.chain.tables import UNMINED, TransactionRow, WalletOutpointRow
from btcfi.adapters.store.options import attesting, contracts
from btcfi.adapters.store.options.contract_tables import AttestationRow, ContractRow
from btcfi.adapters.store.options.options import find_option
from btcfi.adapters.store.options.settled import TOTALS
from btcfi.adapters.store.options.settlements import request_settlement
from btcfi.adapters.store.options.tables import OptionRow, SettlementRow
from btcfi.adapters.store.spine.tables import BlobRow, EventRow
from btcfi.adapters.store.spine.views import counters
from btcfi.bitcoin.script import P2A_SCRIPT
from btcfi.bitcoin.transaction import parse_transaction
from btcfi.contracts.messages import Role, decode_order
from btcfi.contracts.metadata import RecordType, read_record
from btcfi.errors import InvalidInputError
from btcfi.options.terms import OptionKind
from btcfi.oracle.announcement import announce
from btcfi.units import Height, Sats, Slot, UnixSeconds, display_txid, parse_txid
from btcfi.vm.program import load_program_by_hash
from tasks import attest, chain, checks, context, control, options
from tasks import contracts as exchange_tasks
from tests.support.contract_stage import COINS, SLOT
from tests.support.oracles import secrets_of
from workers.audit import ChainView, audit, fresh_run, owed

pytestmark = pytest.mark.integration


PAID = pytest.approx(500_000, rel=0.01)
"""0.02 BTC of a $15,000 profit at $60,000, by the standard tolerance half of 2 % off at most."""


def findings(stage, names):
    view = ChainView()
    view.follow(stage.node)
    found = audit(stage.here.store, view, names)
    return [one.what for one in found if not one.subject.startswith("round ")]  # the stage puts prices there by hand


def sums(stage, name="one"):
    option = stage.row(OptionRow, id=name)
    kept = json.loads(option.contract)
    transaction = stage.node.transaction(parse_txid(stage.row(SettlementRow, option_id=name).txid)).transaction
    paid = sum(o.value for o in transaction.outputs if o.script.hex() == kept["buyer_script"])
    returned = sum(o.value for o in transaction.outputs if o.script.hex() == kept["seller_script"])
    fee = stage.row(TransactionRow, subject=name, purpose="settlement").fee_sats
    anchor = sum(o.value for o in transaction.outputs if o.script == P2A_SCRIPT)
    assert paid + returned + anchor + fee == option.collateral_sats
    settlement = stage.row(SettlementRow, option_id=name)
    assert (settlement.paid_sats, settlement.returned_sats, settlement.fee_sats) == (paid, returned, fee)
    return paid


def test_the_audit_finds_a_contract_that_paid_anything_else_than_its_range(embedded, monkeypatch):
    embedded.sell("one")
    embedded.fund("one")
    embedded.price(6_000_000)
    embedded.settle()
    embedded.mine(6)
    paid = sums(embedded)
    with embedded.here.store.reading() as session:
        option, settlement = session.get_one(OptionRow, "one"), session.exec(select(SettlementRow)).one()
        computed = fresh_run(load_program_by_hash(option.program_sha256), settlement.input_hex)
        assert owed(session, option, settlement, computed, costs=Sats(1_240))[0] == paid != computed.payout_sats
    genuine = exchange_tasks.contracts.agreed_terms

    def of_another_premium(session, option_id):
        terms = genuine(session, option_id)
        return replace(terms, premium=Sats(40 * terms.premium))

    monkeypatch.setattr("workers.audit.agreed_terms", of_another_premium)
    assert any(f"got {paid} sats on chain" in one for one in findings(embedded, ["one"]))


def test_in_and_out_of_the_money_options_are_settled_by_attestation_and_the_childs_record_is_the_proof(stage):
    stage.sell("one")
    stage.sell("two", OptionKind.PUT)
    stage.fund("one", "two")
    stage.price(6_000_000)
    stage.settle()
    assert [stage.row(SettlementRow, option_id=name).state for name in ("one", "two")] == ["broadcast"] * 2
    stage.mine(6)
    assert (stage.state("one"), stage.state("two")) == ("EXERCISED", "ABANDONED")
    assert (sums(stage, "one"), sums(stage, "two")) == (PAID, 0)
    child = parse_transaction(bytes.fromhex(stage.row(TransactionRow, subject="one", purpose="child").raw_hex))
    root = bytes.fromhex(stage.row(SettlementRow, option_id="one").proof_root)
    assert findings(stage, ["one", "two"]) == []
    assert read_record(child.outputs[-1].script) == (RecordType.SETTLEMENT_PROOF, root)
    stage.talk(2)
    statuses = [json.loads((mail._outbox / "status.json").read_text())["contracts"] for mail in stage.mails.values()]
    assert {row["status"] for rows in statuses for row in rows} == {"settled"}


def test_a_coin_of_a_block_that_was_reorganised_away_is_none(embedded):
    def coins():
        with embedded.here.store.reading() as session:
            return {row.outpoint for row in session.exec(select(WalletOutpointRow)).all()}

    embedded.mine(3)  # every third block pays the service
    before = coins()
    embedded.mine(3)
    assert len(coins() - before) == 1
    embedded.undo(3)  # the blocks that come instead pay the seller
    assert coins() == before


def test_after_a_reorganisation_at_every_state_the_same_option_settles_again(stage):
    stage.sell("one")
    stage.talk()
    stage.mine(3)
    stage.undo(3)
    assert stage.state() == "CREATED"
    stage.mine(6)
    assert stage.state() == "ACTIVE"
    stage.undo(6)  # the funding was final and is not any more
    assert stage.state() == "CREATED"
    stage.mine(6)
    stage.price(6_000_000)
    stage.settle()
    first = stage.row(SettlementRow, option_id="one").txid
    stage.mine(1)
    stage.undo(1)
    assert (stage.state(), stage.row(TransactionRow, purpose="settlement").state) == ("EXPIRED", "broadcast")
    assert not any(totals(stage).values())
    stage.mine(6)
    assert stage.state() == "EXERCISED"
    child = stage.row(TransactionRow, purpose="child").fee_sats
    paid = sums(stage)
    whole = {"payout": 500_000, "paid": paid, "returned": 1_998_760 - paid, "fee": 1_000, "child_fee": child}
    assert totals(stage) == whole
    stage.undo(6)
    assert (stage.state(), stage.row(SettlementRow).state) == ("EXPIRED", "broadcast")
    assert not any(totals(stage).values())  # nothing is settled, so nothing is paid
    stage.mine(6)
    child = stage.row(TransactionRow, purpose="child", replaced_by=None).fee_sats  # it waited, and pays more now
    assert totals(stage) == whole | {"child_fee": child}
    said = stage.row(EventRow, entity="settlement", to_state="built").detail
    assert said.startswith(f"pays the buyer {paid:,} sats;")
    assert (stage.state(), stage.row(SettlementRow).txid, sums(stage)) == ("EXERCISED", first, PAID)


def test_what_the_store_says_was_paid_is_held_against_the_chain(embedded):
    embedded.sell("one")
    embedded.fund("one")
    embedded.price(6_000_000)
    embedded.settle()
    embedded.mine(6)

    def told():
        view = ChainView()
        view.follow(embedded.node)
        said = audit(embedded.here.store, view, ["one"])
        return [one.what for one in said if one.subject == "one"]

    assert told() == []
    for column, words in (("paid_sats", "paid to the buyer"), ("returned_sats", "returned"), ("fee_sats", "fee")):
        with embedded.here.store.transaction() as session:
            row = session.exec(select(SettlementRow)).one()
            true = getattr(row, column)
            setattr(row, column, true + 240)  # as if the anchor were a part of it
        (problem,) = told()
        assert words in problem
        assert f"{true} on chain" in problem
        with embedded.here.store.transaction() as session:
            setattr(session.exec(select(SettlementRow)).one(), column, true)
    with embedded.here.store.transaction() as session:
        session.exec(select(TransactionRow).where(TransactionRow.purpose == "child")).one().fee_sats -= 240
    assert "its child's fee" in told()[0]


def totals(stage):
    """What all confirmed settlements computed, paid and cost."""
    with stage.here.store.reading() as session:
        kept = counters(session)
    return {name: kept.get(f"settled_{name}_sats", 0) for name in TOTALS}


def exercise_early(stage):
    """Prove an early exercise, which both parties have yet to sign."""
    stage.sell("one", OptionKind.BINARY_CALL, american=True)
    stage.fund("one")
    with stage.here.store.transaction() as session:
        request_settlement(session, "one", requested_by="buyer", now=stage.here.now())
    options.answer_request("one")
    stage.settle()


def test_an_american_option_is_closed_early_by_both_parties_on_the_key_path(embedded):
    exercise_early(embedded)
    embedded.talk(4)
    embedded.mine(6)
    settled = embedded.row(SettlementRow, option_id="one")
    assert (embedded.state(), settled.reason) == ("EXERCISED", "early_exercise")
    assert sums(embedded) == settled.payout_sats
    close = embedded.node.transaction(parse_txid(settled.txid)).transaction
    assert [len(item) for item in close.inputs[0].witness] == [64]
    assert read_record(close.outputs[-1].script) == (RecordType.SETTLEMENT_PROOF, bytes.fromhex(settled.proof_root))


def test_a_close_that_is_final_before_its_message_comes_is_the_early_exercise(embedded):
    exercise_early(embedded)
    while not embedded.node.pool():  # until a party has broadcast what both have signed
        exchange_tasks.exchange()
        for mail in embedded.mails.values():
            mail.round(embedded.node.block_count())
    assert embedded.row(SettlementRow).state == "proven"
    embedded.mine(6)
    settled = embedded.row(SettlementRow)
    assert (embedded.state(), settled.state, settled.reason) == ("EXERCISED", "confirmed", "early_exercise")
    assert sums(embedded) == settled.payout_sats
    embedded.talk(2)  # now it comes
    assert (embedded.row(SettlementRow), embedded.row(OptionRow).last_error) == (settled, None)


def test_a_close_that_one_side_alone_tells_of_is_none(embedded):
    exercise_early(embedded)
    outboxes, told = list(embedded.deployment.parties_dir.glob("*/outbox")), []
    while not told:
        exchange_tasks.exchange()
        for mail in embedded.mails.values():
            mail.round(embedded.node.block_count())
        told = [path for outbox in outboxes for path in outbox.glob("*.closed.json")]
    (path,) = told
    message = json.loads(path.read_text())
    closed = parse_transaction(bytes.fromhex(message["transaction"])).with_witness(0, [b"\x01" * 64])
    path.write_text(json.dumps(message | {"transaction": closed.to_bytes().hex()}))
    exchange_tasks.exchange()
    assert not path.exists()
    assert (embedded.row(SettlementRow).state, embedded.row(SettlementRow).txid) == ("proven", None)
    assert "closed.transaction" in embedded.row(ContractRow).last_error


def test_a_party_that_settles_faster_than_the_service_has_settled_the_same_option(embedded):
    embedded.sell("one")
    embedded.fund("one")
    embedded.price(6_000_000)
    options.expire_due("BTC/USD")
    embedded.attest()
    with embedded.here.store.reading() as session:
        attested = attesting.attestations_of(session, embedded.row(ContractRow).event_id)
    embedded.node.generate(3, context.mining_address(embedded.deployment, 1))
    embedded.mails["buyer"]._desk.watch(attested)
    embedded.mine(6)
    assert embedded.row(TransactionRow, purpose="outside").state == "final"
    embedded.settle()
    assert embedded.state() == "EXERCISED"
    assert sums(embedded) == PAID
    child = parse_transaction(bytes.fromhex(embedded.row(TransactionRow, purpose="child").raw_hex))
    root = bytes.fromhex(embedded.row(SettlementRow).proof_root)
    assert read_record(child.outputs[-1].script) == (RecordType.SETTLEMENT_PROOF, root)  # the buyer's own proof


def test_when_the_oracles_stay_silent_the_seller_is_refunded_and_not_one_block_earlier(embedded):
    embedded.sell("one")
    embedded.fund("one")
    address = context.mining_address(embedded.deployment, 1)
    embedded.node.generate(embedded.row(ContractRow).refund_height - 1 - embedded.node.block_count(), address)
    seller = embedded.mails["seller"]._desk
    reports = seller.watch()
    assert reports[0].action.value != "refund"
    embedded.node.generate(1, address)
    assert seller.watch()[0].action.value == "refund"
    for _ in range(4):
        embedded.mine(2)
    assert embedded.state() == "ABANDONED"
    assert "outside the service" in embedded.row(OptionRow).last_error


def test_a_refund_that_a_block_takes_before_a_settlement_is_built_leaves_nothing_that_is_sent_for_ever(embedded):
    """What the parties end by themselves is no other race than a close that the service has stored."""
    embedded.sell("one")
    embedded.fund("one")
    address = context.mining_address(embedded.deployment, 1)
    embedded.node.generate(embedded.row(ContractRow).refund_height - embedded.node.block_count(), address)
    assert embedded.mails["seller"]._desk.watch()[0].action.value == "refund"
    embedded.mine(1)
    while embedded.walked() < embedded.node.block_count():
        chain.watch()
    assert embedded.row(TransactionRow, purpose="outside").state == "confirmed"
    embedded.price(6_000_000)
    embedded.settle()
    assert embedded.row(TransactionRow, purpose="settlement").state in UNMINED
    for _ in range(4):
        embedded.mine(2)
    with embedded.here.store.reading() as session:
        rows = session.exec(select(TransactionRow)).all()
        coins = session.exec(select(WalletOutpointRow).where(WalletOutpointRow.state == "reserved")).all()
    assert embedded.state() == "ABANDONED"
    assert [row.purpose for row in rows if row.state in UNMINED] == []
    assert coins == []


def test_a_barrier_that_was_touched_on_the_way_is_attested_and_pays_nothing(embedded):
    embedded.sell("one", barrier=5_800_000)
    embedded.fund("one")
    embedded.price(5_000_000, Slot(SLOT + 60), high=5_800_000)
    embedded.price(5_500_000)
    embedded.settle()
    embedded.mine(6)
    assert (embedded.state(), sums(embedded)) == ("ABANDONED", 0)


def test_two_of_three_oracles_are_enough_and_one_is_not(embedded):
    embedded.sell("one")
    embedded.fund("one")
    for oracle in embedded.oracles[1:]:
        oracle.close()
    embedded.price(6_000_000)
    embedded.settle()
    assert embedded.row(SettlementRow).state == "proven"
    assert "1 oracles attest the same outcome, the contract needs 2" in embedded.row(SettlementRow).last_error
    away = [oracle.url for oracle in embedded.oracles[1:]]
    assert all(f"{url} does not answer" in embedded.row(OptionRow).last_error for url in away)
    embedded.serve_again(1)
    embedded.attest()
    assert away[1] in embedded.row(OptionRow).last_error
    assert away[0] not in embedded.row(OptionRow).last_error
    chain.settle()
    embedded.mine(6)
    assert embedded.state() == "EXERCISED"


def test_an_oracle_signs_one_outcome_of_an_event_whatever_the_store_says_later(embedded):
    embedded.sell("one")
    embedded.fund("one")
    embedded.price(6_000_000)
    options.expire_due("BTC/USD")
    embedded.attest()
    event = embedded.row(ContractRow).event_id
    with embedded.here.store.reading() as session:
        first = attesting.attestations_of(session, event)
    assert len(first) == 3
    with embedded.here.store.transaction() as session:
        for row in session.exec(select(AttestationRow)).all():
            row.outcome += 1
            row.body = None
    attest.attest(event)
    # the oracles say the same again, by their own ledgers; the store that says otherwise is told so, and not believed
    with embedded.here.store.reading() as session:
        assert attesting.attestations_of(session, event) == []
        assert "attested 60001 before and now 60000" in find_option(session, "one").last_error
    for oracle, said in zip(embedded.oracles, sorted(first, key=lambda a: a.oracle_key), strict=True):
        ledger = (oracle.oracle.folder.path / "ledger.jsonl").read_text().splitlines()
        assert [json.loads(line)[2] for line in ledger] == [said.outcome] == [60_000]


def test_what_a_party_refuses_is_said_on_the_option_and_nothing_is_signed_after_it(embedded):
    embedded.sell("one")
    exchange_tasks.exchange()
    embedded.give_mandate(embedded.mails["buyer"]._desk, unbidden=False)  # the buyer has changed its mind
    embedded.talk()
    assert "the buyer refused: offer: says what no bid of ours says" in embedded.row(OptionRow).last_error
    assert embedded.row(ContractRow).state == "offered"


@pytest.mark.parametrize(("kind", "named"), [("sign", "signed"), ("accept", "accepted")])
def test_a_message_with_a_wrong_signature_is_named_and_the_buyer_never_gets_the_funding_to_sign(embedded, kind, named):
    embedded.sell("one")
    embedded.talk(2 if kind == "accept" else 3)
    row = embedded.row(ContractRow)
    if row.state != named:  # one more leg of the way
        embedded.mails["seller"].round(embedded.node.block_count())
        exchange_tasks.exchange()
        row = embedded.row(ContractRow)
    assert row.state == named
    with embedded.here.store.transaction() as session:
        blob = session.get_one(BlobRow, getattr(row, f"{kind}_sha256"))
        message = json.loads(blob.body)
        signatures = bytearray(b64decode(message["cet_adaptor_signatures"]))
        signatures[40] ^= 1
        message["cet_adaptor_signatures"] = b64encode(bytes(signatures)).decode()
        blob.body = json.dumps(message).encode()
    embedded.talk()
    assert "adaptor signature" in embedded.row(OptionRow).last_error
    assert embedded.row(ContractRow).state in {"accepted", "signed"}
    assert not (embedded.deployment.parties_dir / "buyer" / "inbox" / "one.sign.json").exists()
    assert not embedded.node.pool()


def test_a_wallet_without_coins_makes_a_proposal_wait_and_not_fail(embedded):
    for number in range(COINS + 1):
        embedded.sell(f"option-{number}")
    embedded.talk()
    waiting = list(embedded.deployment.parties_dir.glob("*/inbox/*.proposal.json"))
    assert len(waiting) == 1
    embedded.mine(3)  # the fundings confirm: their change is a new coin
    embedded.talk()
    embedded.mine(6)
    assert [embedded.state(f"option-{number}") for number in range(COINS + 1)] == ["ACTIVE"] * (COINS + 1)


def ordered(stage):
    stage.sell("one")
    exchange_tasks.exchange()
    return stage.row(ContractRow)


def test_a_contract_is_ordered_by_the_node_s_height_and_not_by_what_was_walked(embedded):
    address = (embedded.deployment.parties_dir / "seller" / "address").read_text().strip()
    embedded.node.generate(40, address)
    row = ordered(embedded)
    assert row.expiry_height == embedded.node.block_count() + 1  # ten minutes
    assert row.refund_height == row.expiry_height + embedded.here.preset.refund_delay_blocks


@pytest.mark.parametrize("role", list(Role))
@pytest.mark.parametrize(("blocks_to_refund", "days_to_expiry", "taken"), [
    (145, 0, True), (144, 0, False), (1_008, 6, True), (1_008, 7, False),
])  # fmt: skip
def test_no_party_signs_terms_whose_refund_opens_before_the_expiry(
    embedded, role, blocks_to_refund, days_to_expiry, taken
):
    terms = decode_order(json.loads(ordered(embedded).order)).terms
    chain_now = embedded.node.chain_info()
    expiry = (chain_now.median_time + days_to_expiry * 86_400) // 60 * 60
    asked = replace(
        terms, expiry_height=Height(chain_now.height + 1), refund_height=Height(chain_now.height + blocks_to_refund),
        option={**terms.option, "expiry_unix": expiry},
        announcements=tuple(
            announce(secret, replace(terms.announcements[0].event, expiry=Slot(expiry)))
            for secret in secrets_of(embedded.deployment)
        ),
    )  # fmt: skip
    desk = embedded.mails[role.value]._desk
    if taken:
        assert desk.offer(asked, role).terms == asked
        return
    with pytest.raises(InvalidInputError, match="refund_height"):
        desk.offer(asked, role)
    offered = embedded.mails[role.other.value]._desk.offer(terms, role.other)
    with pytest.raises(InvalidInputError, match="refund_height"):
        desk.accept(replace(offered, terms=asked), asked.announcements)


def test_an_early_cet_is_built_when_its_height_has_come_and_not_before(embedded):
    embedded.sell("one")
    embedded.talk()
    embedded.mine(6)
    option = embedded.row(OptionRow)
    embedded.price(6_000_000)
    with embedded.here.store.transaction() as session:
        row = session.get_one(ContractRow, "one")
        offer = json.loads(session.get_one(BlobRow, row.offer_sha256).body)
    assert offer["expiry_height"] == option.expiry_height
    with embedded.here.store.transaction() as session:
        session.get_one(OptionRow, "one").expiry_height = embedded.node.block_count() + 1
    embedded.settle()
    assert embedded.row(SettlementRow).state == "proven"
    embedded.mine()  # its height has come: the walk builds and sends
    embedded.mine(6)
    sent = embedded.row(TransactionRow, purpose="settlement")
    assert embedded.state() == "EXERCISED"
    assert display_txid(parse_txid(sent.txid)) == embedded.row(SettlementRow).txid


def test_a_lost_message_or_task_is_taken_up_by_the_reconciler(embedded):
    embedded.sell("one")
    for _ in range(4):
        exchange_tasks.exchange()
        for mail in embedded.mails.values():
            mail.round(embedded.node.block_count())
    assert embedded.row(ContractRow).state == "signed"  # nobody checked it: the task was lost
    with embedded.here.store.transaction() as session:
        later = UnixSeconds(embedded.here.now() + 100)
        (work,) = contracts.repair(session, now=later, stale_seconds=15)
    assert (work.flow, work.arguments) == ("check_contract", ("one",))
    control.reconcile()
    embedded.fund("one")


def test_every_step_may_be_repeated_and_changes_nothing(embedded):
    embedded.sell("one")
    for _ in range(2):
        embedded.talk()
    embedded.mine(6)
    embedded.price(6_000_000)
    for _ in range(2):
        embedded.settle()
        checks.check("one")
        chain.settle()
    embedded.mine(6)
    for _ in range(2):
        embedded.talk(2)
        chain.watch()
    with embedded.here.store.reading() as session:
        purposes = sorted(row.purpose for row in session.exec(select(TransactionRow)).all())
    assert purposes == ["child", "funding", "settlement"]
    assert embedded.state() == "EXERCISED"


def test_a_reorganisation_below_the_funding_leaves_funding_settlement_and_child_to_be_mined_again(stage):
    stage.sell("one")
    stage.fund("one")
    stage.price(6_000_000)
    stage.settle()
    first = stage.row(SettlementRow, option_id="one").txid
    stage.mine(6)
    assert stage.state() == "EXERCISED"
    stage.undo(13)
    assert {row.state for row in transactions(stage) if row.purpose != "child"} == {"broadcast"}
    for _ in range(4):
        again(stage)
        stage.mine(3)
    assert (stage.state(), stage.row(SettlementRow).txid, sums(stage)) == ("EXERCISED", first, PAID)


def transactions(stage):
    with stage.here.store.reading() as session:
        return session.exec(select(TransactionRow).where(TransactionRow.subject == "one")).all()


def again(stage):
    """Let enough time pass that everything is sent again."""
    with stage.here.store.transaction() as session:
        for row in session.exec(select(TransactionRow)).all():
            row.updated_at_unix -= 60
    chain.settle()
