"""What a malicious counterparty and one corrupt oracle try on a party's desk, several contracts at once."""

from dataclasses import replace

import pytest

from btcfi.adapters.party import dispute_deals
from btcfi.bitcoin.transaction import Transaction, TxIn
from btcfi.disputes.garbled.setup import Verdict
from btcfi.oracle import announcement as announcing
from btcfi.oracle.announcement import WrongAnnouncementError, announce
from btcfi.oracle.attestation import WrongAttestationError, attest
from btcfi.units import Sats, parse_txid
from tests.support.chain import chain
from tests.support.dispute_stage import Table, lied, mailed, mandated
from tests.support.disputing import Dispute, Memory

pytestmark = pytest.mark.integration

SPOT, RIGHT = 67_890, 8


@pytest.fixture(scope="module")
def wallet(tmp_path_factory):
    with chain("embedded", tmp_path_factory.mktemp("embedded")) as funded:
        yield funded


@pytest.fixture
def table(wallet, tmp_path):
    return Table(wallet, tmp_path)


def announced_twice(monkeypatch, oracles, which):
    """One oracle announces the same event once more, with other nonces; returns what it attests by them."""
    usual, event = announcing.nonce_secret, oracles.events[0]
    other = lambda secret, event, place: usual(secret + b"again", event, place)  # noqa: E731 - said once
    monkeypatch.setattr(announcing, "nonce_secret", other)
    monkeypatch.setattr("btcfi.oracle.attestation.nonce_secret", other)
    made = announce(oracles.secrets[which], event)
    said = attest(oracles.secrets[which], made, SPOT, Memory())
    monkeypatch.undo()
    return made, said


def test_an_oracle_that_announced_one_event_twice_stops_no_claim_that_the_others_carry(table, monkeypatch):
    """What it attested for one contract finishes nothing in the other; two of three are enough there all the same."""
    table.opened()
    _, said = announced_twice(monkeypatch, table.oracles, 0)
    for name in "pv":
        table.desk(name).room.store.keep_attestation(said)  # for another contract of the same event, where it was right
        for one in table.oracles.attestations([SPOT], [1, 2])[0].values():
            assert table.desk(name).keep(one)
    assert table.look("p").sent == "claim"
    table.mined()
    assert table.look("v").verdict is Verdict.RIGHT


def test_a_wrong_attestation_stops_no_contract_that_is_watched(table):
    name = table.opened()
    table.attest("p", [SPOT])
    table.attest("v", [SPOT])
    lied(table, name, 0)
    wrong = replace(table.oracles.attestations([SPOT])[0][0], outcome=SPOT + 1)
    desk = table.desk("v")
    with pytest.raises(WrongAttestationError):
        desk.keep(wrong)
    (seen,) = desk.watch()
    assert (seen.verdict, seen.sent) == (Verdict.CONVICTED, "disproof")


def test_a_lazy_claim_of_what_one_set_of_oracles_attested_is_not_challenged_for_another_set(wallet, tmp_path):
    """Of oracles of which one is enough, two that differ both convince the chain: a challenge would lose its bond."""
    lazy = Table(wallet, tmp_path, lazy=True, minutes=2)
    lazy.oracles.threshold = 1
    lazy.mandate = mandated(lazy.oracles)
    lazy.opened()
    lazy.attest("p", [61_500, 61_500], [1])
    lazy.attest("v", [SPOT, SPOT], [0])
    lazy.attest("v", [61_500, 61_500], [1])
    lazy.mined(2)
    assert lazy.look("p").sent == "claim"
    lazy.mined()
    seen = lazy.look("v")
    assert (seen.verdict, seen.sent) == (Verdict.RIGHT, "")


def test_an_announcement_under_another_oracles_key_is_no_announcement_that_we_have(table, monkeypatch):
    """Two oracles' keys exchanged: both are allowed, and nobody could ever attest; the writer would take the refund."""
    one, other, last = table.oracles.announcements[0]
    mixed = (replace(one, oracle_key=other.oracle_key), replace(other, oracle_key=one.oracle_key), last)
    with monkeypatch.context() as liar:  # its own desk does not look
        liar.setattr(dispute_deals, "_check_oracles", lambda _: None)
        message = table.desk("p").propose(table.draft(events=(mixed,)), identity_secret=table.identity)
    with pytest.raises(WrongAnnouncementError, match="not as you have them"):
        table.desk("v").accept(mailed(message), table.oracles.announcements)
    with pytest.raises(
        WrongAnnouncementError, match=r"no valid proof|signature is not valid"
    ):  # nor where we were misled
        table.desk("v").accept(mailed(message), [mixed])


def test_an_opening_that_the_other_side_pins_by_its_change_is_cancelled_once_a_price_is_known(table):
    """Held in the pool by a dear child it is an option: let into a block where it gains, and replaced where not."""
    *_, (_, opening) = table.steps()
    keys = table.desk("p").room.wallet.by_script
    at, change = next((at, one) for at, one in enumerate(opening.outputs) if one.script in keys)
    pin = Transaction(
        version=2, inputs=(TxIn(outpoint=opening.outpoint(at), sequence=0xFFFFFFFD),),
        outputs=(replace(change, value=Sats(change.value - 90_000)),),
    )  # fmt: skip
    table.wallet.node.send(pin.with_witness(0, [keys[change.script].sign_input(pin, 0, [change])]))
    table.attest("v", [SPOT])
    seen = table.look("v")
    assert seen.sent == "home"
    table.mined()
    assert table.wallet.confirmations(parse_txid(seen.txid)) == 1


def test_terms_of_other_oracles_keys_are_other_terms():
    """What an oracle signs does not have its own key: whatever is bound to oracles names it beside."""
    terms = Dispute().terms
    one, other, last = terms.events[0]
    mixed = (replace(one, oracle_key=other.oracle_key), replace(other, oracle_key=one.oracle_key), last)
    assert replace(terms, events=(mixed,)).id != terms.id
