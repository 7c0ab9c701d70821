"""Two parties on two folders play a disputed contract by messages: each step from the disk, as after a kill."""

import shutil
from dataclasses import replace

import pytest

from btcfi import secp256k1
from btcfi.adapters.party import dispute_deals, dispute_files
from btcfi.adapters.party.agreements import StepOutOfOrderError
from btcfi.adapters.party.dispute_claims import ClaimedOtherError
from btcfi.adapters.party.dispute_deals import TooManyCutsError
from btcfi.adapters.party.dispute_files import OtherMessageError
from btcfi.bitcoin.fees import SatsPerKvb
from btcfi.contracts.option import WrongSignatureError
from btcfi.disputes.garbled import deal_messages as wire
from btcfi.disputes.garbled.setup import Verdict
from btcfi.disputes.stages import Stage
from btcfi.errors import ConflictError
from btcfi.units import Sats
from tests.support.chain import chain
from tests.support.dispute_stage import BLOCKS, Table, lied, mailed
from tests.support.disputing import secret

pytestmark = pytest.mark.integration

SPOT, RIGHT = 67_890, 8


@pytest.fixture(scope="module")
def wallet(tmp_path_factory):
    with chain("embedded", tmp_path_factory.mktemp("embedded")) as funded:
        yield funded


@pytest.fixture
def table(wallet, tmp_path):
    return Table(wallet, tmp_path)


def test_a_contract_is_agreed_by_messages_claimed_rightly_and_paid(table):
    name = table.opened()
    table.attest("p", [SPOT])
    table.attest("v", [SPOT])
    assert table.look("p").sent == "claim"
    table.mined()
    seen = table.look("v")
    assert (seen.position.stage, seen.position.number, seen.verdict) == (Stage.CLAIMED, RIGHT, Verdict.RIGHT)
    assert seen.sent == ""
    table.mined(BLOCKS - 1)
    assert table.look("p").sent == "payout"
    table.mined()
    assert {table.look(one).position.stage for one in "pv"} == {Stage.PAID}
    assert not table.desk("v").may_forget(name)
    table.mined(6)
    assert table.desk("v").may_forget(name)


def test_the_two_folders_have_no_secret_in_common(table):
    table.opened()
    assert table.shared() == []
    assert {path.name for path in table.home("p").rglob("*.seed")} == {"claimant.seed"}
    assert {path.name for path in table.home("v").rglob("*.seed")} == {"verifier.seed"}
    seed = next(table.home("p").rglob("*.seed"))
    shutil.copy(seed, table.home("v") / "disputes" / "other.seed")
    assert len(table.shared()) == 1


def test_each_message_answered_again_gets_the_same_answer_from_a_desk_that_was_restarted(table):
    heard = {}
    for name, message in table.steps():
        if name == "":
            continue
        again = table.desk(name)
        if message["type"] == wire.PROPOSAL:
            heard[message["type"]] = again.accept(mailed(message), table.oracles.announcements)
            assert table.desk(name).accept(mailed(message), table.oracles.announcements) == heard[message["type"]]
        else:
            heard[message["type"]] = again.sign(mailed(message), identity_secret=table.identity)
            assert table.desk(name).sign(mailed(message), identity_secret=table.identity) == heard[message["type"]]
    assert len(heard) == 7


def test_a_side_killed_after_any_write_goes_on_with_the_same_words(table, monkeypatch):
    """The folder fails at its every write in turn; the step, repeated from the disk, ends as if nothing had been."""
    whole = dispute_files.write_private
    killed = 0
    for name, message in table.steps():
        for attempt in range(8):
            written, allowed = [], min(attempt, 1)  # none the first time, then each time one more

            def counted(path, data, *, fresh=False, written=written, allowed=allowed):
                if len(written) == allowed:
                    raise KeyboardInterrupt
                written.append(path)
                whole(path, data, fresh=fresh)

            monkeypatch.setattr(dispute_files, "write_private", counted)
            try:
                if name and message["type"] == wire.PROPOSAL:
                    table.desk(name).accept(mailed(message), table.oracles.announcements)
                elif name:
                    table.desk(name).sign(mailed(message), identity_secret=table.identity)
            except KeyboardInterrupt:
                killed += 1
            else:
                break
            finally:
                monkeypatch.setattr(dispute_files, "write_private", whole)
    # count, seed, start, both halves; then what came and the answer, and beside them the fault point
    assert killed == 5 + 2 * 6 + 1
    ledger = table.desk("v").files
    assert (ledger.count_all("cuts"), ledger.count("faults")) == (1, 1)


def test_another_message_of_a_step_that_was_answered_is_refused(table):
    first = table.desk("p").propose(table.draft(), identity_secret=table.identity)
    half = table.desk("v").accept(mailed(first), table.oracles.announcements)
    table.desk("p").sign(mailed(half), identity_secret=table.identity)
    other = mailed(half) | {"cut": secret("another cut").hex()}
    with pytest.raises(OtherMessageError):
        table.desk("p").sign(other, identity_secret=table.identity)


def test_a_verifier_restored_from_a_copy_has_other_keys_and_another_cut(table):
    first = table.desk("p").propose(table.draft(), identity_secret=table.identity)
    shutil.copytree(table.home("v"), table.folder / "copy")
    one = table.desk("v").accept(mailed(first), table.oracles.announcements)
    other = table.desk("v", table.folder / "copy").accept(mailed(first), table.oracles.announcements)
    assert not {one["keys"]["escrow"], *one["keys"]["digits"], one["cut"]} & {
        other["keys"]["escrow"], *other["keys"]["digits"], other["cut"]
    }  # fmt: skip


def test_cuts_are_counted_by_counterparty_across_restarts(table, monkeypatch):
    monkeypatch.setattr(dispute_deals, "MAX_CUTS", 2)
    for attempt in range(2):
        message = table.desk("p").propose(table.draft(premium=attempt + 1), identity_secret=table.identity)
        half = table.desk("v").accept(mailed(message), table.oracles.announcements)
        assert table.desk("v").accept(mailed(message), table.oracles.announcements) == half  # no second cut is drawn
        for one in "pv":
            table.desk(one).withdraw(wire.proposal_id(wire.decode_proposal(message)).hex())
    message = table.desk("p").propose(table.draft(premium=9), identity_secret=table.identity)
    with pytest.raises(TooManyCutsError) as error:
        table.desk("v").accept(mailed(message), table.oracles.announcements)
    assert error.value.drawn == 2
    table.desk("p").withdraw(wire.proposal_id(wire.decode_proposal(message)).hex())
    stranger = table.desk("p").propose(table.draft(premium=10), identity_secret=secret("somebody else"))
    table.desk("v").accept(mailed(stranger), table.oracles.announcements)


def test_a_fault_point_that_was_seen_before_is_refused(table):
    steps = table.steps()
    for name, message in steps:
        if name == "v" and message["type"] == wire.COMMITMENTS:
            break
    letter = wire.decode_letter(message)
    desk = table.desk("v")
    made = desk.room.deal(desk.files.names()[0])
    fault = wire.decode_letter(message).data[33 * (made.subject.secrets - 1) : 33 * made.subject.secrets]
    assert secp256k1.is_point(fault)
    desk.files.row("faults", fault[1:].hex(), {"contract": "another"}, "another")
    with pytest.raises(OtherMessageError, match="faults"):
        desk.sign(wire.encode_letter(letter))
    assert desk.files.find(desk.files.names()[0], "cut") is None


def test_one_claim_is_signed_of_a_contract_ever_by_its_folder_and_by_a_copy_of_it(table):
    name = table.opened()
    shutil.copytree(table.home("p"), table.folder / "p-copy")
    other = table.desk("p", table.folder / "p-copy")
    table.attest("p", [SPOT])
    claimed = table.desk("p").claim(name)
    assert table.desk("p").claim(name).txid == claimed.txid
    # the oracles equivocate: the copy was told the other outcome
    for event in table.oracles.attestations([61_500]):
        for one in event.values():
            other.keep(one)
    with pytest.raises(ClaimedOtherError, match="copy of this folder"):
        other.claim(name)
    # the same folder, told otherwise after a restart
    shutil.copytree(table.folder / "p-copy" / "attestations", table.home("p") / "attestations", dirs_exist_ok=True)
    with pytest.raises(ClaimedOtherError):
        table.desk("p").claim(name)


def test_a_copy_on_another_machine_sends_no_claim_beside_one_that_waits_or_is_in_a_block(table):
    name = table.opened()
    shutil.copytree(table.home("p"), table.folder / "p-copy")
    other = table.desk("p", table.folder / "p-copy", machine="-elsewhere")
    for event in table.oracles.attestations([61_500]):
        for one in event.values():
            other.keep(one)
    table.attest("p", [SPOT])
    claimed = table.desk("p").claim(name)
    with pytest.raises(ConflictError, match="something else waits"):
        other.claim(name)
    table.mined()
    with pytest.raises(StepOutOfOrderError):
        other.claim(name)
    (seen,) = other.watch()
    assert (seen.position.last.txid, seen.sent) == (claimed.txid, "")


def test_a_claim_that_a_reorganisation_takes_back_is_made_again_the_same(table):
    name = table.opened()
    table.attest("p", [SPOT])
    claimed = table.desk("p").claim(name)
    table.mined()
    node = table.wallet.node
    node.invalidate(node.best_block_hash())
    assert table.look("v").position.stage is Stage.OPEN
    assert table.desk("p").claim(name).txid == claimed.txid
    table.mined(2)
    assert table.look("v").position.claim.txid == claimed.txid


def test_a_false_claim_is_disproved_by_the_watcher(table):
    name = table.opened()
    table.attest("p", [SPOT])
    lied(table, name, 0)
    seen = table.look("v")
    assert (seen.verdict, seen.sent) == (Verdict.CONVICTED, "disproof")
    table.mined()
    assert table.look("p").position.stage is Stage.DISPROVED


def test_a_verifier_claims_silence_and_the_claimant_answers_with_what_the_chain_shows(table):
    table.opened()
    table.attest("v", [SPOT])
    assert table.look("p").sent == ""
    while table.wallet.node.block_count() < table.desk("v").show(table.desk("v").files.names()[0]).duties[0].until:
        assert table.look("v").sent == ""
        table.mined()
    assert table.look("v").sent == "silence"
    table.mined()
    assert table.look("p").sent == "claim"
    table.mined()
    seen = table.look("v")
    assert (seen.position.number, seen.position.silent, seen.verdict) == (RIGHT, True, Verdict.RIGHT)


def test_a_silence_that_nobody_answers_ends_with_all_for_the_verifier(table):
    table.opened()
    table.attest("v", [SPOT])
    table.mined(10)
    assert table.look("v").sent == "silence"
    table.mined(BLOCKS)
    assert table.look("v").sent == "silent end"
    table.mined()
    assert table.look("v").position.stage is Stage.SILENCE_ENDED


def test_without_attestations_the_claimant_is_refunded(table):
    table.opened()
    table.mined(20)
    assert table.look("v").sent == ""
    assert table.look("p").sent == "refund"
    table.mined()
    assert table.look("v").position.stage is Stage.REFUNDED


@pytest.fixture
def lazy(wallet, tmp_path):
    return Table(wallet, tmp_path, lazy=True, minutes=3)


def test_a_lazy_contract_is_claimed_by_its_range_alone_and_released(lazy):
    lazy.opened()
    for one in "pv":
        lazy.attest(one, [SPOT, SPOT + 100, SPOT - 50])
    lazy.mined(2)
    assert lazy.look("p").sent == "claim"
    lazy.mined()
    assert lazy.look("v").verdict is Verdict.RIGHT
    lazy.mined(BLOCKS - 1)
    assert lazy.look("p").sent == "release"
    lazy.mined()
    assert lazy.look("v").position.stage is Stage.RELEASED
    lazy.mined(40)
    assert lazy.look("v").sent == "bond home"


def test_a_lazy_lie_is_challenged_revealed_and_disproved(lazy):
    name = lazy.opened()
    for one in "pv":
        lazy.attest(one, [SPOT, SPOT + 100, SPOT - 50])
    lazy.mined(2)
    lied(lazy, name, 1)
    assert lazy.look("v").sent == "challenge"
    lazy.mined()
    assert lazy.look("p").sent == "reveal"
    lazy.mined()
    seen = lazy.look("v")
    assert (seen.verdict, seen.sent) == (Verdict.CONVICTED, "disproof")


def test_a_challenge_that_is_not_answered_is_overdue(lazy):
    name = lazy.opened()
    for one in "pv":
        lazy.attest(one, [SPOT, SPOT + 100, SPOT - 50])
    lazy.mined(2)
    lied(lazy, name, 1)
    assert lazy.look("v").sent == "challenge"
    lazy.mined(BLOCKS)
    assert lazy.look("v").sent == "overdue"
    lazy.mined()
    assert lazy.look("p").position.stage is Stage.OVERDUE


@pytest.mark.parametrize("which", ["table", "lazy"])
def test_both_close_together_at_an_amount_that_both_name(request, which):
    table = request.getfixturevalue(which)
    name = table.opened()
    asked = table.desk("v").ask_close(name, payout=Sats(5_000_000), rate=SatsPerKvb(2_000))
    answer = table.desk("p").answer_close(mailed(asked), payout=Sats(5_000_000))
    assert table.desk("p").answer_close(mailed(asked), payout=Sats(5_000_000)) == answer
    right = wire.decode_close_answer(mailed(answer))
    wrong = replace(right, partials=tuple(bytes(31) + b"\1" for _ in right.partials))
    with pytest.raises(WrongSignatureError, match="claimant"):  # and our nonces wait for the right one
        table.desk("v").finish_close(mailed(wire.encode_close_answer(wrong)))
    closed = table.desk("v").finish_close(mailed(answer))
    assert closed.outputs[0].value == 5_000_000 + (50_000 if table.lazy else 0)
    assert [len(one.witness) for one in closed.inputs] == [1] * len(closed.inputs)
    table.mined()
    assert {table.look(one).position.stage for one in "pv"} == {Stage.CLOSED}


def test_an_opening_that_was_signed_and_not_sent_is_cancelled_by_its_own_coins(table):
    for name, message in table.steps():
        if name == "v" and message["type"] == wire.FUNDING:
            break
    name = table.desk("p").files.names()[0]
    with pytest.raises(StepOutOfOrderError):
        table.desk("p").withdraw(name)
    home = table.desk("p").cancel(name)
    table.mined()
    assert table.wallet.confirmations(home.txid) == 1
    assert not table.desk("v").may_forget(name)  # what was pre-signed is kept until the coins are finally gone
    table.mined(5)
    assert table.desk("p").may_forget(name)
