"""The service proposes, and each party's own software decides by its owner's mandate.

Nothing that the service writes is a party's word; whatever it proposes, a party signs what its mandate allows, and says
by name what it does not. Each side's files are opened by its own code alone: an audit hook of the interpreter looks on.
"""

import json
from dataclasses import replace

import pytest
from sqlmodel import select

from btcfi.adapters.party.mailbox import Mailbox
from btcfi.adapters.store.chain.tables import TransactionRow
from btcfi.adapters.store.options.contract_tables import ContractRow
from btcfi.adapters.store.options.settlements import request_settlement
from btcfi.adapters.store.options.tables import OptionRow, SettlementRow
from btcfi.bitcoin.fees import SatsPerKvb
from btcfi.contracts.buckets import ToleranceRule
from btcfi.contracts.mandate import Bounds, CloseRule
from btcfi.contracts.messages import (
    CloseOrder,
    CloseRequest,
    Role,
    decode_order,
    encode_close_proposal,
    encode_close_request,
    encode_order,
    encode_proposal,
)
from btcfi.contracts.metadata import RecordType, read_record
from btcfi.options.terms import OptionKind
from btcfi.oracle.announcement import announce
from btcfi.secp256k1 import public_key_compressed
from btcfi.units import BasisPoints, Height, Sats, parse_txid
from dashboards.operator import accounts
from tasks import chain, context, options
from tasks import contracts as exchange_tasks
from tests.support.console_world import PASSWORD, open_world
from tests.support.looking import files_of, inside, looking

pytestmark = pytest.mark.integration


def exercise_early(stage):
    """Sell an option that may be exercised early, fund it, and prove its exercise: a close is all that is missing."""
    stage.sell("one", OptionKind.BINARY_CALL, american=True)
    stage.fund("one")
    with stage.here.store.transaction() as session:
        request_settlement(session, "one", requested_by="buyer", now=stage.here.now())
    options.answer_request("one")
    stage.settle()


# ---- what the service writes, and what nobody but its owner opens


def test_the_service_writes_messages_into_inboxes_and_no_order_bid_or_mandate_from_sale_to_settlement(embedded):
    parties, written = embedded.deployment.parties_dir, set()
    service = exchange_tasks.exchange

    def watched():
        before = files_of(parties)
        service()
        written.update(files_of(parties) - before)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(exchange_tasks, "exchange", watched)
        embedded.sell("two")
        exercise_early(embedded)
        embedded.talk(4)
        embedded.mine(6)
        embedded.price(6_000_000)
        embedded.settle()
        embedded.mine(6)
        embedded.talk(2)
    assert (embedded.state("one"), embedded.state("two")) == ("EXERCISED", "EXERCISED")
    kinds = {(path.relative_to(parties).parent.as_posix(), path.stem.rpartition(".")[2]) for path in written}
    assert kinds == {
        ("seller/inbox", "proposal"), ("buyer/inbox", "offer"), ("seller/inbox", "accept"), ("buyer/inbox", "sign"),
        ("buyer/inbox", "close-proposal"), ("seller/inbox", "close-request"), ("buyer/inbox", "close-answer"),
        ("seller/inbox", "attestation"), ("buyer/inbox", "attestation"),
    }  # fmt: skip
    assert {path.name for role in Role for path in (parties / role.value).iterdir()} == {
        "address", "inbox", "oracles.json", "outbox", "party",
    }  # fmt: skip


def test_no_side_opens_a_secret_file_of_another_and_no_secret_lies_twice(embedded):
    data, parties = embedded.deployment.data_dir, embedded.deployment.parties_dir
    own = {"seller": parties / "seller" / "party", "buyer": parties / "buyer" / "party"}
    ours = (embedded.deployment.wallet_seed_file,)
    oracles = tuple(one.oracle.folder.path / "oracle.key" for one in embedded.oracles)
    rounds = {name: mail.round for name, mail in embedded.mails.items()}
    opened = {"seller": set(), "buyer": set(), "service": set()}

    def watched(name):
        def look(height):
            with looking() as seen:
                done = rounds[name](height)
            opened[name].update(seen)
            return done

        return look

    for name, mail in embedded.mails.items():
        mail.round = watched(name)
    context.service_wallet.cache_clear()  # so that it is read here
    with looking() as seen:  # all that is not a party's round is the service's
        exercise_early(embedded)
        embedded.talk(4)
        embedded.mine(6)
    opened["service"].update(seen)
    assert embedded.state() == "EXERCISED"
    secret = {"service": ours, "seller": (own["seller"],), "buyer": (own["buyer"],)}
    for who, paths in opened.items():
        assert inside(paths, *secret[who]), f"the hook saw nothing of {who}"
        for other in secret.keys() - {who}:
            assert inside(paths, *secret[other]) == set(), f"{who} opened what is {other}'s"
        assert inside(paths, *oracles) == set(), f"{who} opened an oracle's key"
    held = {who: {path for folder in folders for path in files_of(folder)} for who, folders in secret.items()}
    held["service"].add(ours[0])
    held["oracles"] = set(oracles)
    assert held["seller"] | held["buyer"] | held["service"] == {
        path for path in files_of(data) if path.stat().st_nlink == 1 and inside({path}, *ours, *own.values())
    }
    bodies = [path.read_bytes() for files in held.values() for path in files if path.stat().st_size >= 16]
    everywhere = b"".join(path.read_bytes() for path in files_of(data) - set().union(*held.values()))
    keys = [body for body in bodies if len(body) == 32]
    assert len(keys) == 4  # the wallet's seed and three oracles'
    assert not any(key in everywhere or key.hex().encode() in everywhere for key in keys)


# ---- a party that says no


def shown_on_the_console(stage):
    accounts.add_account(stage.here.store, "ada", PASSWORD, ("read",), now=stage.here.now(), by="test")
    world = open_world(stage.deployment.data_dir / "btcfi.db", stage.here.now())
    try:
        return world.signed_in().get("/options/one").text
    finally:
        world.store.close()


@pytest.mark.parametrize(
    ("party", "changes", "named"),
    [
        ("seller", {"unbidden": False}, "the seller refused: proposal: says what no bid of ours says"),
        ("seller", {"collateral": Bounds(least=0, most=1_000)}, "the seller refused: collateral_sats"),
        ("seller", {"roles": (Role.BUYER,)}, "the seller refused: role"),
        ("buyer", {"premium": Bounds(least=0, most=1)}, "the buyer refused: premium_sats"),
        ("buyer", {"feeds": ("ETH/USD",)}, "the buyer refused: event.feed"),
        ("buyer", {"refund_delay": Bounds(least=1, most=2)}, "the buyer refused: refund_height"),
    ],
)
def test_an_option_whose_party_s_mandate_says_no_shows_why_in_the_store_and_on_the_console(
    embedded, party, changes, named
):
    embedded.give_mandate(embedded.mails[party]._desk, **changes)
    embedded.sell("one")
    embedded.talk()
    assert embedded.row(OptionRow).last_error.startswith(named)
    assert embedded.row(ContractRow).last_error == embedded.row(OptionRow).last_error
    assert (embedded.state(), embedded.node.pool()) == ("FAILED", [])
    assert named in shown_on_the_console(embedded)


@pytest.mark.parametrize(("party", "message"), [("buyer", "close-proposal"), ("seller", "close-request")])
def test_a_close_that_a_party_s_mandate_forbids_is_signed_by_nobody_and_the_option_shows_why(embedded, party, message):
    exercise_early(embedded)
    embedded.give_mandate(embedded.mails[party]._desk, close=CloseRule.NEVER)
    embedded.talk(4)
    assert embedded.row(OptionRow).last_error.startswith(f"the {party} refused: close: at ")
    assert embedded.row(SettlementRow).state == "proven"
    assert embedded.node.pool() == []
    refused = embedded.deployment.parties_dir / party / "inbox" / "refused"
    assert (refused / f"one~close.{message}.json").exists()


def test_a_proposal_that_was_refused_is_taken_up_again_when_its_owner_puts_it_back_under_another_mandate(embedded):
    seller = embedded.mails["seller"]
    embedded.give_mandate(seller._desk, collateral=Bounds(least=0, most=1_000))
    embedded.sell("one")
    embedded.talk(2)
    inbox = embedded.deployment.parties_dir / "seller" / "inbox"
    embedded.give_mandate(seller._desk)
    (inbox / "refused" / "one.proposal.reason").unlink()
    (inbox / "refused" / "one.proposal.json").rename(inbox / "one.proposal.json")
    embedded.fund("one")
    assert embedded.row(OptionRow).last_error is None


# ---- a hostile service


def absurd(terms):
    """What no owner meant, by the name under which it is refused."""
    stranger = tuple(announce(bytes([number]) * 32, terms.announcements[0].event) for number in (7, 8, 9))
    return {
        "funding_sats_per_kvb": replace(terms, rate=SatsPerKvb(1_000_000)),
        "refund_height": replace(terms, refund_height=Height(terms.refund_height + 900 * 52_560)),
        "premium_sats": replace(terms, premium=Sats(2_000_000_000)),
        "tolerance_bps": replace(terms, rule=ToleranceRule(tolerance=BasisPoints(10_000))),
        "threshold": replace(terms, threshold=1),
        "oracles": replace(terms, announcements=stranger),
        "cet_fee_sats": replace(terms, cet_fee=Sats(9_000)),
    }


@pytest.mark.parametrize(
    "field",
    ["funding_sats_per_kvb", "refund_height", "premium_sats", "tolerance_bps", "threshold", "oracles", "cet_fee_sats"],
)
def test_a_service_that_proposes_what_the_mandate_does_not_allow_gets_a_refusal_by_name_and_no_signature(
    embedded, field
):
    desk = embedded.mails["seller"]._desk
    embedded.give_mandate(
        desk, funding_rate=Bounds(least=1_000, most=50_000), refund_delay=Bounds(least=1, most=2_016),
        premium=Bounds(least=0, most=2_000_000), tolerance=Bounds(least=0, most=5_000),
        cet_fee=Bounds(least=1_000, most=1_000),
    )  # fmt: skip
    before = desk.balance()
    embedded.sell("one")
    with embedded.here.store.reading() as session:
        exchange_tasks._order(embedded.here)
        row = session.get_one(ContractRow, "one")
        order = decode_order(json.loads(row.order))
    box = Mailbox(embedded.deployment.parties_dir / "seller")
    box.put("one.proposal", encode_proposal(replace(order, terms=absurd(order.terms)[field])))
    embedded.mails["seller"].round(embedded.node.block_count())
    assert box.refusal("one.proposal").startswith(f"{field}")
    assert "nothing was signed" in box.refusal("one.proposal")
    assert list(box.answers()) == []
    assert (desk.balance(), desk.orders()) == (before, {})


@pytest.mark.parametrize(("role", "write"), [("seller", encode_order), ("buyer", encode_order)])
def test_an_order_in_an_inbox_and_files_that_an_earlier_service_left_as_orders_and_bids_are_nobody_s_word(
    embedded, role, write
):
    embedded.sell("one")
    exchange_tasks._order(embedded.here)
    order = decode_order(json.loads(embedded.row(ContractRow).order))
    folder = embedded.deployment.parties_dir / role
    for name in ("orders", "bids"):
        (folder / name).mkdir()
        (folder / name / "one.json").write_text(json.dumps(write(replace(order, role=Role(role)))))
    Mailbox(folder).put("one", write(replace(order, role=Role(role))))
    embedded.give_mandate(embedded.mails[role]._desk, unbidden=False)
    embedded.mails[role] = embedded.mail(folder)
    embedded.mails[role].round(embedded.node.block_count())
    assert "none that is answered here" in Mailbox(folder).refusal("one")
    assert list(Mailbox(folder).answers()) == []
    assert [path.name for name in ("orders", "bids") for path in (folder / name).iterdir()] == ["one.json"] * 2


@pytest.mark.parametrize(("with_input", "named"), [(False, "close.guest_input"), (True, "close.payout_sats")])
def test_a_service_that_invents_the_payout_of_a_close_gets_it_signed_by_no_party(embedded, with_input, named):
    exercise_early(embedded)
    settled, contract = embedded.row(SettlementRow), embedded.row(ContractRow)
    given = bytes.fromhex(settled.input_hex) if with_input else b""
    invented = {"payout": Sats(0), "rate": SatsPerKvb(2_000), "guest_input": given}
    boxes = {role: Mailbox(embedded.deployment.parties_dir / role.value) for role in Role}
    proposal = CloseOrder(offer_id=bytes.fromhex(contract.offer_id), **invented)
    request = CloseRequest(
        contract_id=bytes.fromhex(contract.contract_id), nonce=public_key_compressed(b"\x05" * 32) * 2, **invented
    )
    boxes[Role.BUYER].put("one~close.close-proposal", encode_close_proposal(proposal))
    boxes[Role.SELLER].put("one~close.close-request", encode_close_request(request))
    for role, kind in ((Role.BUYER, "close-proposal"), (Role.SELLER, "close-request")):
        embedded.mails[role.value].round(embedded.node.block_count())
        assert boxes[role].refusal(f"one~close.{kind}").startswith(named)
        assert list(boxes[role].answers()) == []
    assert embedded.node.pool() == []


def test_an_early_exercise_is_closed_by_one_proposal_to_its_buyer_on_the_key_path(embedded):
    exercise_early(embedded)
    embedded.talk(4)
    embedded.mine(6)
    chain.watch()
    inboxes = {role: embedded.deployment.parties_dir / role.value / "inbox" / "done" for role in Role}
    assert [path.name for path in inboxes[Role.BUYER].glob("*proposal*")] == ["one~close.close-proposal.json"]
    assert [path.name for path in inboxes[Role.SELLER].glob("*proposal*")] == ["one.proposal.json"]
    close = embedded.node.transaction(parse_txid(embedded.row(SettlementRow).txid)).transaction
    assert [len(item) for item in close.inputs[0].witness] == [64]
    root = bytes.fromhex(embedded.row(SettlementRow).proof_root)
    assert read_record(close.outputs[-1].script) == (RecordType.SETTLEMENT_PROOF, root)


def test_a_close_that_waits_while_its_event_is_attested_gets_no_child_of_the_cet_in_its_place(embedded):
    exercise_early(embedded)
    embedded.price(6_000_000)
    embedded.attest()
    embedded.talk(4)
    chain.settle()
    assert embedded.row(SettlementRow).state == "broadcast"
    embedded.node.generate_block(context.mining_address(embedded.deployment, 1), [])
    embedded.node.generate_block(context.mining_address(embedded.deployment, 1), [])
    chain.watch()
    with embedded.here.store.reading() as session:
        purposes = [row.purpose for row in session.exec(select(TransactionRow).where(TransactionRow.subject == "one"))]
    assert sorted(purposes) == ["funding", "settlement"]
    embedded.mine(6)
    assert embedded.state() == "EXERCISED"
