"""What an oracle says wrongly, twice or not at all costs neither side what the other oracles' word gives it."""

import json
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from btcfi.contracts.messages import encode_attestation
from btcfi.disputes.garbled.game import Stage
from btcfi.disputes.garbled.setup import Verdict
from btcfi.errors import BtcfiError
from btcfi.oracle import announcement as announcing
from btcfi.oracle.attestation import WrongAttestationError, attest
from btcfi.surfaces import dispute_cli
from tests.support.chain import chain
from tests.support.dispute_stage import Table, lied
from tests.support.disputing import Memory

pytestmark = pytest.mark.integration

SPOT, RIGHT = 67_890, 8
OTHER, OTHERS = 70_100, 11


@pytest.fixture(scope="module")
def wallet(tmp_path_factory):
    with chain("embedded", tmp_path_factory.mktemp("embedded")) as funded:
        yield funded


def announced_again(table, oracle, outcome):
    """What a lying oracle says of one event to others: a second announcement of it, with nonces of its own."""
    usual, key, event = announcing.nonce_secret, table.oracles.secrets[oracle], table.oracles.events[0]

    def another(secret, event, place):
        return usual(secret + b"again", event, place)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(announcing, "nonce_secret", another)
        patched.setattr("btcfi.oracle.attestation.nonce_secret", another)
        again = announcing.announce(key, event)
        return again, attest(key, again, outcome, Memory())


def test_an_oracle_that_announced_an_event_twice_stops_neither_side(wallet, tmp_path):
    """Both folders keep what it attested of the other announcement: for another contract, say."""
    table = Table(wallet, tmp_path)
    table.opened()
    _, false = announced_again(table, 0, SPOT)
    for one in "pv":
        table.desk(one).room.store.keep_attestation(false)
        table.attest(one, [SPOT], (1, 2))
    assert table.look("p").sent == "claim"
    table.mined()
    assert table.look("v").verdict is Verdict.RIGHT


def test_an_oracle_that_announced_an_event_twice_hides_no_lie_of_a_lazy_claim(wallet, tmp_path):
    table = Table(wallet, tmp_path, lazy=True)
    name = table.opened()
    table.attest("p", [SPOT])
    _, false = announced_again(table, 0, SPOT)
    table.desk("v").room.store.keep_attestation(false)
    table.attest("v", [SPOT], (1, 2))
    table.mined(2)
    lied(table, name, 0)
    assert table.look("v").sent == "challenge"


def test_an_attestation_is_kept_for_the_contract_whose_announcement_it_is_of(wallet, tmp_path):
    """Of two contracts on one event the first has the other announcement, as a lying oracle gave it."""
    table = Table(wallet, tmp_path)
    honest, (again, false) = table.oracles.announcements, announced_again(table, 0, SPOT)
    wallet.coins_for(table.desk("p").room.wallet.script, [30_000_000])
    table.desk("p").propose(table.draft(), identity_secret=table.identity)
    table.oracles.__dict__["announcements"] = ((again, *honest[0][1:]),)
    table.desk("p").propose(table.draft(), identity_secret=table.identity)
    desk = table.desk("p")
    table.oracles.__dict__["announcements"] = honest
    (event,) = table.oracles.attestations([SPOT])
    assert desk.keep(event[0])
    assert desk.keep(false)
    of_neither = replace(event[0], outcome=OTHER)
    with pytest.raises(WrongAttestationError):
        desk.keep(of_neither)


def test_an_attestation_that_is_wrong_or_nowhere_hides_neither_the_others_nor_the_chain(
    wallet, tmp_path, tmp_path_factory, monkeypatch
):  # fmt: skip
    """A verifier that watches by what its oracles say convicts a false claim, whatever one of them says."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    table = Table(wallet, tmp_path)
    name = table.opened()
    table.attest("p", [SPOT])
    lied(table, name, 0)
    (event,) = table.oracles.attestations([SPOT])
    said = {"wrong": encode_attestation(replace(event[0], outcome=OTHER)), "nothing": "busy"}
    said |= {f"right {at}": encode_attestation(event[at]) for at in (1, 2)}
    words = ["watch", "--json", "--dir", str(table.home("v")), "--node", wallet.node.where, "--cookie-file",
             str(next(tmp_path_factory.getbasetemp().glob("embedded*")) / ".cookie"),
             "--passphrase-file", str(tmp_path / "words"), "--attestation", str(tmp_path / "gone")]  # fmt: skip
    (tmp_path / "words").write_text("a long passphrase\n")
    for what, one in said.items():
        (tmp_path / what).write_text(json.dumps(one))
        words += ["--attestation", str(tmp_path / what)]
    done = CliRunner().invoke(dispute_cli.app, words)
    (row,) = json.loads(done.stdout)["disputes"]
    assert (row["sent"], row["verdict"]) == ("disproof", "convicted")
    assert isinstance(done.exception, BtcfiError)  # it fails all the same
    assert "wrong: attestation of event" in done.stderr
    assert "nothing: " in done.stderr
    assert len(table.desk("v").room.store.attestations()) == 2


def test_a_claim_that_any_set_of_oracles_attested_is_not_challenged(wallet, tmp_path):
    """Two of four say one price and two another: who challenged the other two's would lose its bond by their word."""
    table = Table(wallet, tmp_path, lazy=True, oracles=4)
    table.opened()
    table.attest("p", [OTHER], (2, 3))
    table.attest("v", [SPOT], (0, 1))
    table.attest("v", [OTHER], (2, 3))
    table.mined(2)
    assert table.look("p").sent == "claim"
    table.mined()
    seen = table.look("v")
    assert (seen.position.stage, seen.position.number) == (Stage.HELD, OTHERS)
    assert (seen.sent, seen.verdict) == ("", Verdict.RIGHT)
