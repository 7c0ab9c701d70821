"""What a party knows of the oracles is on its disk before the message is gone, and nothing forged takes its place."""

import json
from dataclasses import replace

import pytest
from sqlmodel import select

from btcfi.adapters.store.options import attesting
from btcfi.adapters.store.options.contract_tables import ContractRow, OracleEventRow
from btcfi.adapters.store.options.tables import OptionRow
from btcfi.contracts.messages import decode_announcement, encode_attestation
from btcfi.contracts.watch import ContractStatus
from btcfi.oracle.attestation import attest
from btcfi.secp256k1 import public_key_xonly
from tasks import options
from tests.support.contract_stage import open_stage
from tests.support.contracts import MemoryLedger
from tests.support.oracles import secrets_of

pytestmark = pytest.mark.integration


@pytest.fixture
def stage(tmp_path):
    with open_stage(tmp_path, coins=6) as made:
        yield made


def attested(stage, name="one"):
    """Have an option's event attested, and return what the oracles said; the parties have not heard of it."""
    stage.price(6_000_000)
    options.expire_due("BTC/USD")
    stage.attest()
    event = stage.row(ContractRow, option_id=name).event_id
    with stage.here.store.reading() as session:
        return attesting.attestations_of(session, event)


def tell(stage, party, attestations, tag):
    inbox = stage.deployment.parties_dir / party / "inbox"
    for number, one in enumerate(attestations):
        (inbox / f"{tag}-{number}.attestation.json").write_text(json.dumps(encode_attestation(one)))
    stage.mails[party].round(stage.node.block_count())
    return inbox


def restart(stage, party):
    stage.mails[party] = stage.mail(stage.deployment.parties_dir / party)


def to_expiry(stage, blocks=1):
    height = stage.row(OptionRow, id="one").expiry_height
    while stage.node.block_count() < height + blocks:
        stage.node.generate_block((stage.deployment.parties_dir / "seller" / "address").read_text().strip(), [])


def statuses(stage, party):
    return [report.status for report in stage.mails[party]._desk.watch()]


def test_a_buyer_who_restarts_between_the_attestation_and_the_expiry_is_paid(stage):
    stage.sell("one")
    stage.fund("one")
    inbox = tell(stage, "buyer", attested(stage), "said")
    assert not list(inbox.glob("*.json"))
    restart(stage, "buyer")
    to_expiry(stage)
    stage.mails["buyer"].round(stage.node.block_count())
    assert len(stage.node.pool()) == 2  # the CET and its child, by the buyer alone
    stage.node.generate(1, (stage.deployment.parties_dir / "buyer" / "address").read_text().strip())
    assert statuses(stage, "buyer") == [ContractStatus.SETTLING]


def test_a_forged_attestation_is_refused_with_its_reason_and_the_genuine_one_stays(stage):
    stage.sell("one")
    stage.fund("one")
    genuine = attested(stage)
    forged = [replace(one, outcome=one.outcome ^ 1) for one in genuine]
    short = [replace(genuine[0], signatures=genuine[0].signatures[:-1])]
    stranger = [replace(genuine[0], oracle_key=bytes([7]) * 32), replace(genuine[0], event=bytes([7]) * 32)]
    inbox = tell(stage, "buyer", forged, "before")
    tell(stage, "buyer", genuine, "said")
    for tag, wrong in (("after", forged), ("short", short), ("stranger", stranger)):
        tell(stage, "buyer", wrong, tag)
    reasons = sorted(path.name for path in (inbox / "refused").glob("*.reason"))
    assert len(reasons) == 2 * len(forged) + len(short) + len(stranger)
    restart(stage, "buyer")
    kept = stage.mails["buyer"]._desk._store.attestations().values()
    assert {(one.oracle_key, one.outcome) for one in kept} == {(one.oracle_key, one.outcome) for one in genuine}
    to_expiry(stage)
    stage.mails["buyer"].round(stage.node.block_count())
    assert len(stage.node.pool()) == 2


def lie(stage, attestation):
    """What the second oracle says with its own key and nonces, and another price: valid, and a lie."""
    event = stage.row(ContractRow, option_id="one").event_id
    announced = map(decode_announcement, json.loads(stage.row(OracleEventRow, id=event).announcements))
    secret = next(one for one in secrets_of(stage.deployment) if public_key_xonly(one) != attestation.oracle_key)
    theirs = next(one for one in announced if one.oracle_key == public_key_xonly(secret))
    return attest(secret, theirs, attestation.outcome ^ 3, MemoryLedger())


@pytest.mark.parametrize("said", ["forged", "contradicting"])
def test_one_lying_and_one_silent_oracle_do_not_stop_the_refund(stage, said):
    stage.sell("one")
    stage.fund("one")
    (first, *_) = attested(stage)
    wrong = replace(first, outcome=first.outcome ^ 3) if said == "forged" else lie(stage, first)
    tell(stage, "seller", [first, wrong], "said")
    height = stage.row(OptionRow, id="one").refund_height
    address = (stage.deployment.parties_dir / "seller" / "address").read_text().strip()
    stage.node.generate(height - stage.node.block_count() - 1, address)
    stage.mails["seller"].round(stage.node.block_count())  # one look walks 1,000 blocks at most
    stage.node.generate(1, address)
    stage.mails["seller"].round(stage.node.block_count())
    (refund,) = stage.node.pool()
    assert stage.node.transaction(refund).transaction.lock_time == height


def test_what_goes_wrong_with_one_contract_stops_no_other(stage, monkeypatch):
    for name in ("one", "two"):
        stage.sell(name)
    stage.fund("one", "two")
    desk = stage.mails["buyer"]._desk
    genuine = desk._agreements.of

    def broken(contract):
        if contract.number == 0:
            raise RuntimeError("whatever it is")
        return genuine(contract)

    monkeypatch.setattr(desk._agreements, "of", broken)
    assert {report.status for report in desk.watch()} == {None, ContractStatus.ACTIVE}
    with stage.here.store.reading() as session:
        assert len(session.exec(select(ContractRow)).all()) == 2
