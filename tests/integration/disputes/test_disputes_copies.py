"""Folders restored from older copies, and what is said once; an opening that is kept back; reorganisations."""

import shutil

import pytest

from btcfi.adapters.party.dispute_deals import UNSENT_SECONDS, AttemptGoneError
from btcfi.bitcoin.fees import SatsPerKvb
from btcfi.bitcoin.transaction import Transaction
from btcfi.disputes.garbled import deal_messages as wire
from btcfi.disputes.garbled import messages
from btcfi.disputes.garbled.deal import sign_first
from btcfi.disputes.garbled.setup import Garbler, Verdict
from btcfi.disputes.stages import Stage
from btcfi.units import Sats, display_txid
from tests.support.chain import chain
from tests.support.dispute_stage import NOW, Table, lied, mailed
from tests.support.disputing import secret

pytestmark = pytest.mark.integration

SPOT, RIGHT = 67_890, 8


@pytest.fixture(scope="module")
def wallet(tmp_path_factory):
    with chain("embedded", tmp_path_factory.mktemp("copies")) as funded:
        yield funded


@pytest.fixture
def table(wallet, tmp_path):
    return Table(wallet, tmp_path)


def opened_with_copies(table, who, *after):
    """Play all messages; copy a side's folder as it is when these messages, by their types, are on their way."""
    said = {}
    for name, message in table.steps():
        if name:
            said[message["type"]] = mailed(message)
        if name and message["type"] in after:
            shutil.copytree(table.home(who), table.folder / f"{who}-{message['type'].rpartition('-')[2]}")
    table.mined()
    return said


def restored(table, who, after):
    """The folder is lost, and its older copy takes its place on another machine."""
    shutil.rmtree(table.home(who))
    shutil.copytree(table.folder / f"{who}-{after}", table.home(who))
    shutil.rmtree(table.folder / f"run-{who}")


def test_a_claimant_restored_from_before_the_answer_takes_up_what_the_chain_shows_and_is_paid(table):
    said = opened_with_copies(table, "p", wire.PROPOSAL)
    restored(table, "p", "proposal")
    (seen,) = table.desk("p").watch()
    assert "a copy from before it was agreed" in seen.problem
    table.now = NOW + 7_200  # the proposal's time is over: nothing new would be signed
    for kind in (wire.ACCEPTANCE, wire.CUT, wire.CLAIMS):
        answer = table.desk("p").sign(said[kind], identity_secret=table.identity)
    assert isinstance(answer, Transaction)  # the opening, as the chain has it; no coin was signed
    assert table.desk("p").files.find(table.desk("p").files.names()[0], "funding") is None
    for one in "pv":
        table.attest(one, [SPOT])
    assert table.look("p").sent == "claim"
    table.mined()
    seen = table.look("v")
    assert (seen.position.number, seen.verdict) == (RIGHT, Verdict.RIGHT)


def test_a_verifier_restored_from_before_it_signed_last_still_disproves_a_lie(table):
    opened_with_copies(table, "v", wire.CLAIMS)
    restored(table, "v", "claims")
    name = table.desk("p").files.names()[0]
    table.attest("p", [SPOT])
    lied(table, name, 0)
    seen = table.look("v")
    assert (seen.verdict, seen.sent) == (Verdict.CONVICTED, "disproof")


def test_a_verifier_that_may_have_shown_its_cut_elsewhere_shows_it_to_nobody(table):
    said = opened_with_copies(table, "v", wire.ACCEPTANCE)
    restored(table, "v", "acceptance")
    (seen,) = table.desk("v").watch()
    assert "a copy from before it was agreed" in seen.problem
    with pytest.raises(AttemptGoneError):
        table.desk("v").sign(said[wire.COMMITMENTS])
    files = table.desk("v").files
    name = files.names()[0]
    assert files.find(name, "cut") is None
    with pytest.raises(AttemptGoneError):  # nor later, by the same message or the next
        table.desk("v").sign(said[wire.COMMITMENTS])
    with pytest.raises(AttemptGoneError):
        table.desk("v").sign(said[wire.OPENINGS])
    asked = table.desk("v").ask_close(name, payout=Sats(5_000_000), rate=SatsPerKvb(2_000))
    answer = table.desk("p").answer_close(mailed(asked), payout=Sats(5_000_000))
    table.desk("v").finish_close(mailed(answer))
    table.mined()
    assert table.desk("v").show(name).position.stage is Stage.CLOSED


def test_a_copy_on_the_same_machine_shows_its_cut_to_the_same_first_message_alone(table):
    """The cut is known to the claimant by then: it makes a second set-up that is bad exactly where it is not opened."""
    said = opened_with_copies(table, "v", wire.ACCEPTANCE)
    desk = table.desk("v", table.folder / "v-acceptance")
    made = desk.room.deal(desk.files.names()[0])
    data = messages.encode_commitments(Garbler(made.subject, secret("a second set-up")).commitments())
    signature = sign_first(made.subject, data, table.identity, bytes(32))
    second = wire.Letter(kind=wire.COMMITMENTS, contract=made.id, data=data, more=signature)
    with pytest.raises(AttemptGoneError):
        desk.sign(wire.encode_letter(second))
    assert desk.sign(said[wire.COMMITMENTS]) == said[wire.CUT]


def test_an_opening_that_the_other_side_keeps_back_costs_no_option(table):
    """The claimant has signed its coins; whoever signs last would wait for the price, and open only where it gains."""
    for name, message in table.steps():
        if name == "v" and message["type"] == wire.FUNDING:
            break
    name = table.desk("p").files.names()[0]
    assert table.look("p").sent == ""
    table.now = NOW + 3_600 + UNSENT_SECONDS
    assert table.look("p").sent == "home"
    assert table.look("p").sent == ""
    table.mined()
    opening = table.desk("v").sign
    with pytest.raises(Exception, match="its time is over"):
        opening(mailed(message))
    table.mined(5)
    assert table.look("p").position.stage is Stage.UNOPENED
    assert table.desk("p").files.is_over(name)
    assert table.desk("p").files.exposure() == 0


def test_what_nobody_answered_in_its_time_frees_its_coins(table):
    table.desk("p").propose(table.draft(), identity_secret=table.identity)
    files = table.desk("p").files
    assert table.look("p").position is None
    assert files.coins()
    assert files.exposure() == 16_000_000 + 2_000_000 - 300_000
    table.now = NOW + 3_600 + UNSENT_SECONDS
    assert table.look("p").position is None
    assert (files.coins(), files.exposure()) == (set(), 0)


def test_a_claim_and_its_disproof_that_a_reorganisation_takes_back_are_looked_at_anew(table):
    name = table.opened()
    for one in "pv":
        table.attest(one, [SPOT])
    node = table.wallet.node
    before = node.block_count()
    lied(table, name, 0)
    first = table.look("v")
    assert first.sent == "disproof"
    table.mined()
    assert table.look("v").position.stage is Stage.DISPROVED
    node.invalidate(node.block_hash(before + 1))
    assert table.look("v").position.stage is Stage.OPEN
    table.mined()
    table.look("v")
    table.mined()
    seen = table.look("v")
    assert seen.position.stage is Stage.DISPROVED
    assert display_txid(seen.position.last.txid) == first.txid


def test_an_opening_that_a_reorganisation_takes_back_stays_what_both_have_signed_whatever_is_known_by_then(table):
    table.opened()
    for one in "pv":
        table.attest(one, [SPOT])
    node = table.wallet.node
    assert table.desk("p").show(table.desk("p").files.names()[0]).position.stage is Stage.OPEN
    assert {table.desk(one).watch()[0].position.stage for one in "v"} == {Stage.OPEN}
    assert table.look("p").sent == "claim"
    node.invalidate(node.best_block_hash())
    for one in "pv":
        seen = table.look(one)
        assert seen.position.stage is Stage.UNOPENED
        assert seen.sent in {"", "opening"}  # it waits again, or is sent again; nobody's coins go home
    table.mined()
    assert table.look("v").position.stage in {Stage.OPEN, Stage.CLAIMED}


def test_an_opening_in_a_block_lower_than_where_it_was_signed_is_found(table):
    """A reorganisation between the first message and the block: the new branch holds the opening lower."""
    node = table.wallet.node
    table.mined(3)
    steps = list(table.steps())
    opening = steps[-1][1]
    name = table.desk("v").files.names()[0]
    started = table.desk("v").files.find(name, "started")["height"]
    node.invalidate(node.block_hash(started - 1))
    table.mined()
    assert table.wallet.confirmations(opening.txid) == 1
    assert node.block_count() < started
    assert {table.look(one).position.stage for one in "pv"} == {Stage.OPEN}
