"""``btcfi dispute`` from proposal to payout: two folders, a node, and nothing between them but files in a mailbox."""

import json

import pytest
from typer.testing import CliRunner

from btcfi.adapters.keystore import LEAST_N, create_keystore
from btcfi.adapters.party.identity import IDENTITY_FILE
from btcfi.adapters.party.store import PartyStore
from btcfi.contracts.messages import encode_announcement, encode_attestation
from btcfi.errors import InvalidInputError, NotFoundError
from btcfi.surfaces import dispute_cli
from tests.support.chain import chain
from tests.support.disputing import RANGES, Dispute

pytestmark = pytest.mark.integration

SPOT, RIGHT = 67_890, 8
PASSPHRASE = "a long passphrase"


@pytest.fixture
def wallet(tmp_path, monkeypatch):
    with chain("embedded", tmp_path / "node") as funded:
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
        yield funded


def test_two_folders_play_a_contract_through_the_command_line(wallet, tmp_path):
    passphrase = tmp_path / "passphrase"
    passphrase.write_text(PASSPHRASE + "\n")
    box = tmp_path

    def run(who, *words, error=None):
        given = [str(one) for one in words]
        given += ["--dir", str(tmp_path / who), "--passphrase-file", str(passphrase), "--node", wallet.node.where]
        given += ["--cookie-file", str(tmp_path / "node" / ".cookie")]
        done = CliRunner().invoke(dispute_cli.app, given)
        if error is not None:
            assert isinstance(done.exception, error), done.exception
            return None
        assert done.exit_code == 0, (done.output, done.exception)
        return json.loads(done.stdout)

    for who in ("p", "v"):
        store = PartyStore(tmp_path / who)
        store.folder.mkdir()
        keys = create_keystore(store.keystore_path, PASSPHRASE, cost=LEAST_N)
        create_keystore(store.folder / IDENTITY_FILE, PASSPHRASE, cost=LEAST_N)
        wallet.coins_for(keys.wallet_key(0).script, [30_000_000, 2_000_000, 2_000_000])
    oracles = Dispute()
    payoff, announced = box / "payoff.json", []
    for place, one in enumerate(oracles.announcements[0]):
        file = box / f"announcement-{place}.json"
        file.write_text(json.dumps(encode_announcement(one)))
        announced += ["--announcement", file]
    payoff.write_text(json.dumps({
        "kind": "price", "barrier": None,
        "ranges": {"starts_usd": list(RANGES.starts), "payouts_sats": list(RANGES.payouts)},
    }))  # fmt: skip
    here = wallet.node.block_count()
    name = run(
        "p", "propose", payoff, *announced, "--threshold", 2, "--premium-sats", 300_000, "--silence-height", here + 10,
        "--refund-height", here + 20, "--dispute-blocks", 2, "--out", box / "1.json",
    )["dispute"]  # fmt: skip
    run("v", "accept", box / "1.json", *announced, "--yes", "--out", box / "2.json")
    for step, who in enumerate("pvpvp", start=2):
        run(who, "sign", box / f"{step}.json", "--yes", "--out", box / f"{step + 1}.json")
    assert "opening_txid" in run("v", "sign", box / "7.json", "--yes")
    wallet.mine()
    (row,) = run("v", "show", name[:8], "--json")["disputes"]
    assert (row["stage"], row["you"], row["dispute"]) == ("open", "verifier", name)
    assert [one["side"] for one in row["clock"]] == ["claimant", "verifier", "claimant"]
    assert row["clock"][0]["until"] == here + 10
    attested = []
    for place, one in oracles.attestations([SPOT])[0].items():
        file = box / f"attestation-{place}.json"
        file.write_text(json.dumps(encode_attestation(one)))
        attested += ["--attestation", file]
    run("p", "claim", name, error=NotFoundError)
    (row,) = run("p", "watch", *attested, "--json")["disputes"]
    assert (row["sent"], row["problem"]) == ("claim", "")
    wallet.mine()
    (row,) = run("v", "watch", *attested, "--json")["disputes"]
    assert (row["stage"], row["range"], row["verdict"], row["sent"]) == ("claimed", RIGHT, "right", "")
    wallet.mine()
    (row,) = run("p", "watch", "--json")["disputes"]
    assert row["sent"] == "payout"
    wallet.mine()
    (row,) = run("v", "watch", "--json")["disputes"]
    assert (row["stage"], row["you_are_needed"]) == ("paid", False)
    run("v", "close-sign", box / "1.json", error=InvalidInputError)
