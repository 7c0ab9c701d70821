"""A stranger with a package and a node: it convicts what is false, is paid for it, and leaves what is right alone."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from btcfi.adapters.dispute_tower import look
from btcfi.adapters.keystore import LEAST_N, create_keystore
from btcfi.adapters.party.dispute_packages import package_of, transcript_of
from btcfi.adapters.party.store import PartyStore
from btcfi.bitcoin.address import encode_address
from btcfi.bitcoin.fees import SatsPerKvb
from btcfi.bitcoin.keys import wallet_key
from btcfi.contracts.setup import WrongMessageError
from btcfi.disputes.garbled import transcript, watchtower
from btcfi.disputes.garbled.opening import Side
from btcfi.disputes.garbled.presign import build_challenge, build_payout, build_reveal
from btcfi.disputes.garbled.setup import Verdict
from btcfi.disputes.stages import Stage
from btcfi.errors import InvalidInputError, NotFoundError
from btcfi.surfaces import dispute_cli
from btcfi.units import Height, Sats
from tests.support.dispute_played import Played
from tests.support.disputing import secret, with_child
from tests.support.paths import ROOT

pytestmark = pytest.mark.integration

SPOT, RIGHT, FALSE = 67_890, 8, 3
STRANGER = wallet_key(secret("stranger"), 0)
ADDRESS = encode_address(STRANGER.script)
RATE = SatsPerKvb(20_000)


def opened(wallet, **options):
    played = Played(wallet, **options)
    played.opened()
    return played


def watched(played, **options):
    package = watchtower.decode_package(json.loads(json.dumps(watchtower.encode_package(played.package(**options)))))
    return watchtower.check_package(package, coins=secret("coins"))


def seen(wallet, watch, *, rate=RATE, since=None):
    return look(
        wallet.node, watch, script=STRANGER.script, rate=rate, since=watch.since if since is None else since
    )  # fmt: skip


def test_a_false_claim_is_disproved_by_a_stranger_and_the_reward_is_its(wallet):
    played = opened(wallet)
    watch = watched(played)
    assert seen(wallet, watch).position.stage is Stage.OPEN
    claim = played.claimed(FALSE, SPOT)
    found = seen(wallet, watch)
    assert found.verdict is Verdict.CONVICTED
    disproved, taken = found.sent
    again = seen(wallet, watch)  # a second look, or a second watcher: the pool has it
    assert (again.sent, again.waiting) == (None, disproved.txid)
    wallet.mine()
    assert wallet.confirmations(taken.txid) == 1
    assert disproved.outputs[0].script == played.keys[Side.VERIFIER].script
    (paid,) = taken.outputs
    assert paid.script == STRANGER.script
    fees = claim.outputs[-2].value - disproved.outputs[0].value - paid.value
    assert fees * 1000 >= RATE * (disproved.vsize + taken.vsize)
    assert paid.value > 15_000
    end = seen(wallet, watch)
    assert (end.position.stage, end.sent) == (Stage.DISPROVED, None)


def test_a_false_claim_after_a_silence_is_convicted_as_well(wallet):
    played = opened(wallet, attempt=2)
    watch = watched(played)
    played.silenced(SPOT)
    assert seen(wallet, watch).position.stage is Stage.SILENT
    played.claimed(FALSE, SPOT, silent=True)
    disproved, _ = seen(wallet, watch).sent
    wallet.mine()
    assert wallet.confirmations(disproved.txid) == 1


def test_an_answer_to_a_challenge_that_shows_a_lie_is_convicted_by_a_stranger(wallet):
    """Of a lazy contract: the verifier challenges with its bond, and may be gone afterwards."""
    played = opened(wallet, attempt=3, lazy=True)
    watch = watched(played)
    while wallet.node.block_count() < played.here + 3:
        wallet.mine()
    claim = played.claimed(FALSE, SPOT)
    assert (seen(wallet, watch).position.stage, seen(wallet, watch).verdict) == (Stage.HELD, None)
    challenge = build_challenge(played.graph, played.silence, (FALSE, False), both=played.v["both"])
    with_child(wallet, challenge, played.keys[Side.VERIFIER])
    reveal = build_reveal(
        played.graph, played.claims, played.garbler, (FALSE, False), attested=played.attested(SPOT),
        claim=played.p["claim"], both=played.p["both"],
    )  # fmt: skip
    with_child(wallet, reveal, played.keys[Side.CLAIMANT])
    disproved, _ = seen(wallet, watch).sent
    wallet.mine()
    assert wallet.confirmations(disproved.txid) == 1
    assert disproved.outputs[0].value > played.deal.terms.collateral - claim.outputs[0].value


def test_nothing_of_a_disproof_can_be_sent_elsewhere_or_for_more(wallet):
    played = opened(wallet, attempt=4)
    watch = watched(played)
    played.claimed(FALSE, SPOT)
    fault = played.garbler._values[0][-1].to_bytes(32)
    made = watchtower.finish_disproof(watch.graph, watch.reward, watch.disproofs, (FALSE, False), fault=fault)
    first, last = made.outputs
    for outputs in (
        (replace(first, script=STRANGER.script), last), (last,), (first,),
        (first, last, replace(last, value=Sats(240))),
        (replace(first, value=Sats(first.value - 1_000)), replace(last, value=Sats(last.value + 1_000))),
    ):  # fmt: skip
        (answer,) = wallet.node.test_accept([replace(made, outputs=outputs)])
        assert not answer.allowed
    (answer,) = wallet.node.test_accept([made])
    assert answer.allowed


def test_a_payout_of_a_lie_that_waits_is_outbid_and_one_in_a_block_is_too_late(wallet):
    played = opened(wallet, attempt=5)
    watch = watched(played)
    claim = played.claimed(FALSE, SPOT)
    payout = build_payout(
        played.graph, claim, payout=played.p["payout"], script=played.keys[Side.CLAIMANT].script, fee=Sats(400)
    )  # fmt: skip
    wallet.mine(5)
    wallet.node.send(payout)
    wallet.mine()
    late = seen(wallet, watch)
    assert (late.position.stage, late.verdict, late.sent) == (Stage.PAID, None, None)
    wallet.node.invalidate(wallet.node.best_block_hash())
    assert wallet.node.pool() == [payout.txid]
    disproved, _ = seen(wallet, watch).sent
    wallet.mine()
    assert wallet.confirmations(disproved.txid) == 1
    assert seen(wallet, watch).position.stage is Stage.DISPROVED


@pytest.mark.parametrize("size", [1, 20])
def test_a_disproof_that_the_liar_sends_itself_for_too_little_is_outbid(wallet, size):
    """It knows the fault secret: it would pin the escrow until its payout can take its place."""
    played = opened(wallet, attempt=(10, size))
    watch = watched(played)
    claim = played.claimed(FALSE, SPOT)
    fault = played.garbler._values[0][-1].to_bytes(32)
    made = watchtower.finish_disproof(watch.graph, watch.reward, watch.disproofs, (FALSE, False), fault=fault)
    key = played.keys[Side.CLAIMANT]
    pin = watchtower.child(made, fee=Sats(400), rate=SatsPerKvb(4_000), script=key.script)
    if size > 1:  # as large as a child may be
        rest = Sats((pin.outputs[0].value - 3_000) // size)
        pin = replace(pin, outputs=tuple(replace(pin.outputs[0], value=rest) for _ in range(size)))
    wallet.node.send_package([made, pin])
    disproved, taken = seen(wallet, watch).sent
    assert disproved.txid == made.txid
    wallet.mine()
    assert wallet.confirmations(taken.txid) == 1
    assert wallet.confirmations(pin.txid) is None
    assert claim.txid == disproved.inputs[0].outpoint.txid


def test_a_rate_that_the_reward_does_not_pay_is_refused_and_a_chain_that_is_shorter(wallet):
    played = opened(wallet, attempt=6)
    watch = watched(played, reward=1_000)
    played.claimed(FALSE, SPOT)
    with pytest.raises(InvalidInputError, match="all that the reward pays"):
        seen(wallet, watch, rate=SatsPerKvb(50_000))
    with pytest.raises(NotFoundError, match="the chain of the contract"):
        seen(wallet, watch, since=Height(wallet.node.block_count() + 1))
    disproved, _ = seen(wallet, watch, rate=SatsPerKvb(4_000)).sent
    assert disproved.outputs[1].value == 1_000


# ---- by the command line


def run(*words, error=None):
    done = CliRunner().invoke(dispute_cli.app, [str(one) for one in words])
    if error is not None:
        assert isinstance(done.exception, error), (done.output, done.exception)
        return None
    assert done.exit_code == 0, (done.output, done.exception)
    return json.loads(done.stdout)


def test_a_stranger_s_process_convicts_by_a_file_and_the_chain(wallet, tmp_path):
    """Of the verifier's folder comes one file; the process that convicts has neither keys nor coins."""
    passphrase = tmp_path / "passphrase"
    passphrase.write_text("a long passphrase\n")
    store = PartyStore(tmp_path / "v")
    store.folder.mkdir()
    keystore = create_keystore(store.keystore_path, "a long passphrase", cost=LEAST_N)
    played = opened(wallet, attempt=7)
    files, name = played.folder(store.folder, keystore)
    side = ("--dir", store.folder, "--passphrase-file", passphrase)
    package, setup = tmp_path / "package.json", tmp_path / "setup.json"
    made = run("package", name[:12], "--out", package, "--reward-sats", 30_000, *side)
    assert made["pays_up_to_sat_per_kvb"] > 130_000
    assert 24_000 < made["outbids_a_pin_up_to_sat_per_kvb"] < 27_000
    assert run("setup-file", name[:12], "--out", setup, *side)["public"]
    for file in (setup, package):
        checked = run("check-setup", file, "--json")
        assert checked["contract_id"] == played.deal.id.hex()
        assert [one["chance_log2"] for one in checked["chance_to_cheat"]] == [-100.3, -60.3, -40.3, -20.3]
    in_words = CliRunner().invoke(dispute_cli.app, ["check-setup", str(setup)])
    assert in_words.exit_code == 0
    assert "who tried 2^60 times has cheated with a chance below 2^-40.3" in in_words.stdout
    node = ("--node", wallet.node.where, "--cookie-file", wallet.node._cookie_file, "--pay-to", ADDRESS, "--json")

    words = ("watch-package", package, *node)
    assert run(*words)["stage"] == "open"
    played.claimed(FALSE, SPOT)
    run(*words, "--rate", 200_000, error=InvalidInputError)
    # a process of its own, of this checkout, in a folder that holds nothing
    code = "from btcfi.surfaces.cli import run; from btcfi.surfaces.dispute_cli import app; run(app)"
    done = subprocess.run(
        [sys.executable, "-c", code, *(str(one) for one in words), "--rate", "10000"], cwd=tmp_path, check=True,
        capture_output=True, text=True, env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    row = json.loads(done.stdout)
    assert (row["stage"], row["verdict"], len(row["sent"])) == ("claimed", "convicted", 2)
    assert row["reward_sats"] > 27_000
    wallet.mine()
    assert run(*words)["stage"] == "disproved"
    tampered = json.loads(package.read_text())
    tampered["disproofs"] = tampered["disproofs"][:-8] + "AAAAAAA="
    broken = tmp_path / "broken.json"
    broken.write_text(json.dumps(tampered))
    run("watch-package", broken, *node, error=InvalidInputError)
    # signed anew, with another reward: both are good
    assert package_of(files, name, keystore, reward=Sats(9_000))[1].reward == 9_000


def test_a_set_up_that_is_no_hash_s_or_nobody_s_ends_a_check_with_a_code(wallet, tmp_path):
    played = Played(wallet, attempt=8, by_hash=False)
    drawn, other = tmp_path / "drawn.json", tmp_path / "other.json"
    drawn.write_text(json.dumps(transcript.encode_transcript(played.transcript())))
    run("check-setup", drawn, "--json", error=InvalidInputError)
    found = json.loads(drawn.read_text())
    found["signature"] = "00" * 64
    found["acceptance"]["cut"] = Played().acceptance.cut.hex()
    other.write_text(json.dumps(found))
    run("check-setup", other, error=(InvalidInputError, WrongMessageError))
    other.write_text("{")
    run("check-setup", other, error=InvalidInputError)
    run("check-setup", tmp_path / "none.json", error=(InvalidInputError, NotFoundError))


def test_only_the_verifier_s_folder_makes_a_package_and_only_of_a_contract_that_is_signed(tmp_path):
    keystore = create_keystore(tmp_path / "keystore.json", "a long passphrase", cost=LEAST_N)
    played = Played(attempt=9)
    files, name = played.folder(tmp_path, keystore)
    assert transcript_of(files, name) == played.transcript()
    with pytest.raises(InvalidInputError, match="reward"):
        package_of(files, name, keystore, reward=Sats(played.bond))
    with pytest.raises(NotFoundError):
        package_of(files, "0" * 64, keystore, reward=Sats(20_000))
