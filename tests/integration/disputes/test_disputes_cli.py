"""``btcfi dispute`` from proposal to payout: two folders, a node, and nothing between them but files in a mailbox."""

import json

import pytest
from typer.testing import CliRunner

from btcfi.adapters.keystore import LEAST_N, create_keystore
from btcfi.adapters.party.identity import IDENTITY_FILE
from btcfi.adapters.party.owner import Owner
from btcfi.adapters.party.store import PartyStore
from btcfi.contracts.mandate import OutsideMandateError
from btcfi.contracts.messages import encode_announcement, encode_attestation
from btcfi.errors import InvalidInputError, NotFoundError
from btcfi.surfaces import dispute_cli
from tests.support.chain import chain
from tests.support.dispute_stage import mandated
from tests.support.disputing import RANGES, Dispute
from tests.support.mandates import own

pytestmark = pytest.mark.integration

SPOT, RIGHT = 67_890, 8
PASSPHRASE = "a long passphrase"


@pytest.fixture
def wallet(tmp_path, monkeypatch):
    with chain("embedded", tmp_path / "node") as funded:
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
        yield funded


def folders(wallet, tmp_path, oracles):
    """Both parties' folders, with coins and a mandate of before; returns their owners."""
    owners = {}
    for who in ("p", "v"):
        store = PartyStore(tmp_path / who)
        store.folder.mkdir(mode=0o700)
        keys = create_keystore(store.keystore_path, PASSPHRASE, cost=LEAST_N)
        create_keystore(store.folder / IDENTITY_FILE, PASSPHRASE, cost=LEAST_N)
        wallet.coins_for(keys.wallet_key(0).script, [30_000_000, 2_000_000, 2_000_000])
        owners[who] = Owner(store, keys)
        own(owners[who], mandated(oracles, disputes=None))
    return owners


def written(box, option, messages):
    """Options that name a file for each message."""
    words = []
    for place, one in enumerate(messages):
        file = box / f"{option}-{place}.json"
        file.write_text(json.dumps(one))
        words += [f"--{option}", file]
    return words


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

    oracles = Dispute()
    owners = folders(wallet, tmp_path, oracles)
    payoff = box / "payoff.json"
    announced = written(box, "announcement", [encode_announcement(one) for one in oracles.announcements[0]])
    payoff.write_text(json.dumps({
        "kind": "price", "barrier": None,
        "ranges": {"starts_usd": list(RANGES.starts), "payouts_sats": list(RANGES.payouts)},
    }))  # fmt: skip
    here = wallet.node.block_count()
    proposing = [
        "propose", payoff, *announced, "--threshold", 2, "--premium-sats", 300_000, "--silence-height", here + 10,
        "--refund-height", here + 20, "--dispute-blocks", 2, "--out", box / "1.json",
    ]  # fmt: skip
    run("p", *proposing, "--yes", error=OutsideMandateError)  # a mandate of before has no word of disputes
    for one in owners.values():
        own(one, mandated(oracles))
    run("p", *proposing, error=InvalidInputError)  # nobody is at the terminal to be asked
    name = run("p", *proposing, "--yes")["dispute"]
    run("v", "accept", box / "1.json", *announced, "--yes", "--out", box / "2.json")
    run("v", "message", name[:8], "acceptance", "--out", box / "2-again.json")
    assert json.loads((box / "2-again.json").read_bytes()) == json.loads((box / "2.json").read_bytes())
    run("v", "message", name[:8], "claims", "--out", box / "claims.json", error=NotFoundError)
    for step, who in enumerate("pvpvp", start=2):
        run(who, "sign", box / f"{step}.json", "--yes", "--out", box / f"{step + 1}.json")
    assert "opening_txid" in run("v", "sign", box / "7.json", "--yes")
    wallet.mine()
    (row,) = run("v", "show", name[:8], "--json")["disputes"]
    assert (row["stage"], row["you"], row["dispute"]) == ("open", "verifier", name)
    assert [one["side"] for one in row["clock"]] == ["claimant", "verifier", "claimant"]
    assert row["clock"][0]["until"] == here + 10
    attested = written(
        box, "attestation", [encode_attestation(one) for one in oracles.attestations([SPOT])[0].values()]
    )
    run("p", "claim", name, error=NotFoundError)
    (row,) = run("p", "watch", *attested, "--json")["disputes"]
    assert (row["sent"], row["problem"]) == ("claim", "")
    wallet.mine()
    silent = "--attestation", box / "of-an-oracle-that-is-silent.json"
    run("v", "watch", *silent, *attested, "--json", error=NotFoundError)  # named at the end; all else is done
    (row,) = run("v", "watch", *attested, "--json")["disputes"]
    assert (row["stage"], row["range"], row["verdict"], row["sent"]) == ("claimed", RIGHT, "right", "")
    wallet.mine()
    (row,) = run("p", "watch", "--feerate", 5_000, "--json")["disputes"]
    assert row["sent"] == "payout"
    wallet.mine()
    (row,) = run("v", "watch", "--json")["disputes"]
    assert (row["stage"], row["you_are_needed"]) == ("paid", False)
    run("v", "close-sign", box / "1.json", error=InvalidInputError)
