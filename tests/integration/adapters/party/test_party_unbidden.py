"""What a party does unbidden is what its mandate bounds and its guest computes; and whose secrets lie where."""

import json

import pytest

from btcfi.bitcoin.fees import SatsPerKvb
from btcfi.contracts.mandate import CloseRule
from btcfi.contracts.messages import CloseOrder, CloseRequest, encode_close_proposal, encode_close_request
from btcfi.units import Hash32, Sats
from tests.support.contract_stage import open_stage
from tests.support.secret_files import shared_secrets

pytestmark = pytest.mark.integration


@pytest.fixture
def stage(tmp_path):
    with open_stage(tmp_path, coins=6) as made:
        yield made


def refused(stage, party, name, message):
    """Give a party a message, and return why it refused it."""
    inbox = stage.deployment.parties_dir / party / "inbox"
    (inbox / f"{name}.json").write_text(json.dumps(message))
    stage.mails[party].round(stage.node.block_count())
    reason = inbox / "refused" / f"{name}.reason"
    return reason.read_text() if reason.exists() else ""


def test_a_close_at_a_payout_that_nobody_computes_needs_the_owner_s_word_however_wide_the_mandate(stage):
    """The model's seed f/66: the counterparty asked for a payout of its own, and an unbidden party signed it."""
    desk = stage.mails["seller"]._desk
    stage.give_mandate(desk, unbidden=True, close=CloseRule.AGREED)
    stage.sell("one")
    stage.fund("one")
    (contract,) = desk._store.contracts()
    known, rate = Hash32(desk.contract_id(contract.offer.id.hex())), SatsPerKvb(2000)
    payout = Sats(contract.offer.terms.collateral - 2_000)
    asked = CloseRequest(
        contract_id=known, payout=payout, rate=rate, guest_input=b"", nonce=contract.offer.party.key * 2
    )
    assert "guest_input" in refused(stage, "seller", "asked.close-request", encode_close_request(asked))
    proposed = CloseOrder(offer_id=contract.offer.id, payout=Sats(0), rate=rate, guest_input=b"")
    assert "guest_input" in refused(stage, "seller", "asked.close-proposal", encode_close_proposal(proposed))
    outbox = stage.deployment.parties_dir / "seller" / "outbox"
    assert not list(outbox.glob("asked.*"))
    assert desk._store.load(contract.offer.id.hex()).closes == ()


def test_no_role_s_folder_holds_a_secret_of_another_s(stage):
    stage.sell("one")
    stage.fund("one")
    parties = stage.deployment.parties_dir
    roles = {name: parties / name for name in stage.mails}
    known = {}
    for name, mail in stage.mails.items():
        keystore = mail._desk._keystore
        known[f"{name}'s seed"] = (name, keystore._seed)
        known |= {f"{name}'s contract key {n}": (name, keystore.contract_secret(n)) for n in range(2)}
        known |= {f"{name}'s wallet key {n}": (name, keystore.wallet_key(n).secret) for n in range(2)}
    assert shared_secrets(roles, known) == []
    everything_else = [path for path in stage.deployment.data_dir.iterdir() if path != parties]
    for path in everything_else:
        files = [path] if path.is_file() else [one for one in path.rglob("*") if one.is_file()]
        for file in files:
            raw = file.read_bytes()
            leaked = [what for what, (_, secret) in known.items() if secret in raw or secret.hex().encode() in raw]
            assert not leaked, file


def test_a_secret_in_another_role_s_reach_is_seen(tmp_path):
    """By inode, by content, by mode, and inside any file."""
    roles = {name: tmp_path / name for name in ("buyer", "seller", "service", "oracle")}
    for folder in roles.values():
        folder.mkdir(mode=0o700)
    key = roles["oracle"] / "key-0"
    key.touch(mode=0o600)
    key.write_bytes(b"secret of an oracle, 32 bytes ..")
    known = {"oracle key": ("oracle", key.read_bytes())}
    assert shared_secrets(roles, known) == []
    linked = roles["buyer"] / "key-0"
    linked.hardlink_to(key)
    assert any("share" in one for one in shared_secrets(roles))
    linked.unlink()
    (roles["service"] / "log").write_text(f"it is {key.read_bytes().hex()}")
    assert shared_secrets(roles, known) == ["oracle key stands in service's log"]
    (roles["service"] / "log").unlink()
    key.chmod(0o640)
    roles["seller"].chmod(0o750)
    assert len(shared_secrets(roles, known)) == 2
