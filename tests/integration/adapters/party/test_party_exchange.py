"""Two parties in processes of their own, each with its own folder and keystore, exchanging files."""

import json
import shutil

import pytest

from btcfi.adapters import keystore
from btcfi.adapters.keystore import open_keystore
from btcfi.bitcoin.address import decode_address
from btcfi.bitcoin.transaction import OutPoint
from btcfi.contracts.messages import encode_announcement, encode_attestation
from btcfi.contracts.metadata import RecordType, read_record
from btcfi.contracts.payouts import condition_of, encode_terms, price_input
from btcfi.oracle.announcement import OracleEvent, announce
from btcfi.oracle.attestation import attest
from btcfi.units import CentsPerBtc, Hash32, Slot, parse_txid
from btcfi.vm.program import load_program
from tests.support.chain import Wallet, embedded_node
from tests.support.contracts import ORACLES, MemoryLedger
from tests.support.party_desk import EXPIRY, Desk, option

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    folder = tmp_path_factory.mktemp("parties")
    with pytest.MonkeyPatch.context() as patched, embedded_node(folder / "chain") as (node, _):
        (folder / "run").mkdir()
        patched.setattr(keystore, "SCRYPT_N", keystore.LEAST_N)  # each command opens one
        patched.setenv("XDG_RUNTIME_DIR", str(folder / "run"))
        wallet = Wallet(node)
        wallet.fund()
        desks = {name: Desk(folder / name, node.where, folder / "chain" / ".cookie") for name in ("seller", "buyer")}
        for name, amounts in (("seller", [10_200_000] * 4 + [50_000]), ("buyer", [100_000] * 3 + [50_000])):
            address = desks[name].run("init")["address"]
            wallet.coins_for(decode_address(address), amounts)
        yield wallet, desks, folder


def announced(folder, terms, name):
    event = OracleEvent(
        feed="BTC-USD",
        expiry=EXPIRY,
        program_hash=load_program("option_settlement").program_hash,
        preset_hash=Hash32(b"\x02" * 32),
        condition=condition_of(terms, Slot(EXPIRY - 3600)),
    )
    announcement = announce(ORACLES[0], event)
    path = folder / f"{name}-announcement.json"
    path.write_text(json.dumps(encode_announcement(announcement)))
    (folder / f"{name}-option.json").write_text(json.dumps(encode_terms(terms)))
    return event, announcement, path


def set_up(stage, terms, name):
    wallet, desks, folder = stage
    seller, buyer = desks["seller"], desks["buyer"]
    event, announcement, path = announced(folder, terms, name)
    here = wallet.node.block_count()
    offer, accept, sign = (folder / f"{name}-{part}.json" for part in ("offer", "accept", "sign"))
    seller.run(
        "offer", "--option", folder / f"{name}-option.json", "--role", "seller", "--announcement", path,
        "--premium-sats", 50_000, "--tolerance-bps", 1_000, "--expiry-height", here + 8, "--refund-height", here + 14,
        "--out", offer,
    )  # fmt: skip
    buyer.run("accept", offer, "--announcement", path, "--out", accept)
    seller.run("sign", accept, "--out", sign)
    funding = buyer.run("sign", sign)["funding_txid"]
    wallet.mine()
    return event, announcement, funding


def test_two_parties_set_up_an_option_and_the_buyer_settles_it_alone(stage):
    wallet, desks, folder = stage
    for desk in desks.values():
        desk.apart = True
    event, announcement, funding = set_up(stage, option(), "alive")
    assert wallet.confirmations(parse_txid(funding)) == 1
    (row,) = desks["seller"].run("watch")["contracts"]
    assert row["status"] == "funding"
    wallet.mine(8)
    (row,) = desks["buyer"].run("watch")["contracts"]
    assert (row["status"], row["action"]) == ("active", "wait")
    attestation = attest(ORACLES[0], announcement, event.outcome(CentsPerBtc(12_500_000)), MemoryLedger())
    path = folder / "attestation.json"
    path.write_text(json.dumps(encode_attestation(attestation)))
    # an oracle that is silent is named at the end, and hides no other: the settlement is sent all the same
    silent = "--attestation", folder / "of-a-silent-oracle.json"
    desks["buyer"].run("watch", *silent, "--attestation", path, code=3)
    (contract,) = desks["buyer"].run("status")["contracts"]
    assert contract["settlement_txid"]
    (row,) = desks["buyer"].run("watch", "--attestation", path)["contracts"]
    assert row["action"] == "settle"
    wallet.mine(6)
    for name in ("buyer", "seller"):
        (row,) = desks[name].run("watch", "--attestation", path)["contracts"]
        assert (row["status"], row["action"]) == ("settled", "done")
    (contract,) = desks["buyer"].run("status")["contracts"]
    settled = wallet.node.transaction(parse_txid(contract["settlement_txid"])).transaction
    # the guest computes 0.1 BTC * 25,000 / 125,000 = 0.02 BTC, and half of the tolerance is what its range is off
    assert settled.outputs[0].value == pytest.approx(2_000_000, rel=0.05)
    assert settled.outputs[0].value + settled.outputs[1].value + 240 + 1_000 == 10_000_000
    child = next(
        tx
        for height in range(wallet.node.block_count() - 6, wallet.node.block_count() + 1)
        for tx in wallet.node.block(wallet.node.block_hash(height)).transactions
        if any(txin.outpoint.txid == settled.txid for txin in tx.inputs)
    )
    assert read_record(child.outputs[-1].script)[0] is RecordType.SETTLEMENT_PROOF
    for desk in desks.values():
        desk.apart = False
    for name, kind in ((name, kind) for name in desks for kind in ("offer", "accept", "sign")):
        again = folder / f"again-{name}-{kind}.json"  # whose disk was full has it again, to the byte
        desks[name].run("message", folder / "alive-offer.json", kind, "--out", again)
        assert again.read_bytes() == (folder / f"alive-{kind}.json").read_bytes()
    assert "offer or accept or sign" in desks["buyer"].run("message", contract["contract"], "x", "--out", "-", code=2)


def test_a_silent_oracle_refunds_the_seller_and_not_before(stage):
    wallet, desks, _ = stage
    _, _, funding = set_up(stage, option(barrier=CentsPerBtc(15_000_000)), "silent")
    wallet.mine(12)

    def seller_row():
        return next(r for r in desks["seller"].run("watch")["contracts"] if r["status"] != "settled")

    assert seller_row()["action"] == "wait"
    wallet.mine()
    assert seller_row()["action"] == "refund"
    wallet.mine(6)
    rows = desks["seller"].run("watch")["contracts"]
    assert all(row["status"] == "settled" for row in rows)
    assert wallet.node.unspent(OutPoint(txid=parse_txid(funding), index=0)) is None


def test_both_close_early_at_what_the_guest_computes_and_a_nonce_serves_one_close(stage):
    wallet, desks, folder = stage
    set_up(stage, option(), "closed")
    seller, buyer = desks["seller"], desks["buyer"]
    name = next(row["contract"] for row in buyer.run("watch")["contracts"] if row["status"] == "funding")
    given = price_input(option(), CentsPerBtc(12_500_000)).to_bytes().hex()
    request, answer = folder / "close.json", folder / "close-answer.json"
    # the guest computes 0.02 BTC: another amount is refused before a nonce is made
    error = buyer.run("close", name, "--payout-sats", 2_000_001, "--guest-input", given, "--out", request, code=2)
    assert "2000000" in error
    buyer.run("close", name, "--payout-sats", 2_000_000, "--guest-input", given, "--out", request)
    seller.run("close-sign", request, "--payout-sats", 1_999_999, "--out", answer, code=2)
    seller.run("close-sign", request, "--payout-sats", 2_000_000, "--out", answer)
    txid = parse_txid(buyer.run("close-sign", answer)["close_txid"])
    buyer.run("close-sign", answer, code=65)
    wallet.mine(6)
    closed = wallet.node.transaction(txid).transaction
    assert closed.outputs[0].value == 2_000_000
    assert read_record(closed.outputs[-1].script)[0] is RecordType.SETTLEMENT_PROOF
    assert len(closed.inputs[0].witness) == 1
    for desk in (seller, buyer):
        row = next(row for row in desk.run("watch")["contracts"] if row["contract"] == name)
        assert (row["status"], row["action"]) == ("settled", "done")


@pytest.fixture
def asked(stage):
    """A funded contract whose close the buyer asked for, and two answers of the seller to it."""
    wallet, desks, folder = stage
    seller, buyer = desks["seller"], desks["buyer"]
    for desk, amount in ((seller, 10_200_000), (buyer, 100_000)):
        wallet.coins_for(decode_address(desk.run("status")["address"]), [amount])
    set_up(stage, option(), "asked")
    name = next(row["contract"] for row in buyer.run("watch")["contracts"] if row["status"] == "funding")
    request, answers = folder / "asked.json", [folder / f"asked-answer-{n}.json" for n in range(2)]
    buyer.run("close", name, "--payout-sats", 2_000_000, "--out", request)
    for answer in answers:
        seller.run("close-sign", request, "--payout-sats", 2_000_000, "--out", answer)
    yield name, request, answers
    wallet.mine(6)


def copied(stage, name):
    """The buyer's folder, copied: the folder itself is what a backup or a second machine has."""
    _, desks, folder = stage
    copy = Desk(folder / name, desks["buyer"].node, desks["buyer"].cookie)
    copy.secret_file.write_text("passphrase of buyer\n")
    shutil.copytree(desks["buyer"].folder / "party", copy.folder / "party")
    return copy


def test_of_a_party_s_folder_and_its_copy_one_finishes_a_close_and_neither_signs_twice_with_a_nonce(stage, asked):
    """Two answers to one nonce are two signatures that give the key away."""
    wallet, desks, _ = stage
    _, _, answers = asked
    copy = copied(stage, "copy")
    txid = parse_txid(copy.run("close-sign", answers[0])["close_txid"])
    error = desks["buyer"].run("close-sign", answers[1], code=65)
    assert "ask for the close again" in error
    wallet.mine()
    assert wallet.confirmations(txid) == 1


def test_a_copy_on_another_machine_has_no_nonce_and_asks_for_the_close_again(stage, asked, tmp_path, monkeypatch):
    wallet, desks, _ = stage
    name, request, answers = asked
    copy = copied(stage, "elsewhere")
    assert not (copy.folder / "party" / "nonces").exists()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert "ask for the close again" in copy.run("close-sign", answers[0], code=65)
    copy.run("close", name, "--payout-sats", 2_000_000, "--out", request)
    desks["seller"].run("close-sign", request, "--payout-sats", 2_000_000, "--out", answers[0])
    txid = parse_txid(copy.run("close-sign", answers[0])["close_txid"])
    wallet.mine()
    assert wallet.confirmations(txid) == 1


def test_a_wrong_answer_to_a_close_is_refused_by_its_party_s_name_and_the_right_one_still_finishes_it(stage, asked):
    wallet, desks, folder = stage
    _, _, answers = asked
    message = json.loads(answers[0].read_text())
    wrong = folder / "asked-wrong.json"
    other_nonce = {"nonce": json.loads(answers[1].read_text())["nonce"]}
    for change in ({"partial": "00" * 31 + "07"}, {"partial": "ff" * 32}, other_nonce):
        wrong.write_text(json.dumps(message | change))
        assert "seller" in desks["buyer"].run("close-sign", wrong, code=76)
    txid = parse_txid(desks["buyer"].run("close-sign", answers[0])["close_txid"])
    wallet.mine()
    assert wallet.confirmations(txid) == 1


def test_a_second_request_for_a_close_makes_the_answers_to_the_first_one_useless(stage, asked):
    wallet, desks, _ = stage
    name, request, answers = asked
    desks["buyer"].run("close", name, "--payout-sats", 2_000_000, "--out", request)
    assert "seller" in desks["buyer"].run("close-sign", answers[0], code=76)
    desks["seller"].run("close-sign", request, "--payout-sats", 2_000_000, "--out", answers[0])
    txid = parse_txid(desks["buyer"].run("close-sign", answers[0])["close_txid"])
    wallet.mine()
    assert wallet.confirmations(txid) == 1


def test_nonces_that_an_earlier_release_left_in_the_folder_are_never_used_and_are_removed(stage):
    _, desks, _ = stage
    old = desks["buyer"].folder / "party" / "nonces"
    old.mkdir()
    for number in range(2):
        (old / f"{number}.nonce").write_bytes(bytes(300))
    desks["buyer"].run("status")
    assert not old.exists()


def test_an_offer_is_taken_back_by_spending_its_coins(stage):
    wallet, desks, folder = stage
    _, _, path = announced(folder, option(), "cancelled")
    here = wallet.node.block_count()
    made = desks["seller"].run(
        "offer", "--option", folder / "cancelled-option.json", "--role", "seller", "--announcement", path,
        "--premium-sats", 50_000, "--tolerance-bps", 1_000, "--expiry-height", here + 8, "--refund-height", here + 14,
        "--out", folder / "cancelled-offer.json",
    )  # fmt: skip
    before = desks["seller"].run("status")
    back = parse_txid(desks["seller"].run("cancel", made["contract"])["txid"])
    wallet.mine()
    assert wallet.confirmations(back) == 1
    after = desks["seller"].run("status")
    assert after["spendable_sats"] > before["spendable_sats"] + 10_000_000
    offer = folder / "cancelled-offer.json"
    error = desks["buyer"].run("accept", offer, "--announcement", path, "--out", folder / "no.json", code=2)
    assert "coin" in error


def test_an_announcement_of_another_event_a_wrong_passphrase_and_a_changed_offer_are_one_line_errors(stage):
    wallet, desks, folder = stage
    terms = option()
    _, _, path = announced(folder, terms, "refused")
    here = wallet.node.block_count()
    offer = folder / "refused-offer.json"
    (coin,) = wallet.coins_for(decode_address(desks["seller"].run("status")["address"]), [10_300_000])
    desks["seller"].run(
        "offer", "--option", folder / "refused-option.json", "--role", "seller", "--announcement", path,
        "--premium-sats", 50_000, "--tolerance-bps", 1_000, "--expiry-height", here + 8, "--refund-height", here + 14,
        "--out", offer,
    )  # fmt: skip
    other = folder / "other-announcement.json"
    changed = json.loads(path.read_text())
    changed["event"]["expiry_unix"] += 60
    other.write_text(json.dumps(changed))
    error = desks["buyer"].run("accept", offer, "--announcement", other, "--out", folder / "no.json", code=76)
    assert error.count("\n") == 1
    assert not (folder / "no.json").exists()
    early = json.loads(offer.read_text()) | {"refund_height": here + 9}
    (folder / "early.json").write_text(json.dumps(early))
    error = desks["buyer"].run(
        "accept", folder / "early.json", "--announcement", path, "--out", folder / "no.json", code=2
    )
    assert "refund_height" in error
    # the seller's coin is gone meanwhile
    named = json.loads(offer.read_text())["party"]["coins"][0]
    assert named["value_sats"] == coin.value
    desks["buyer"].secret_file.write_text("wrong wrong wrong\n")
    assert "keystore" in desks["buyer"].run("status", code=77)
    desks["buyer"].secret_file.write_text("passphrase of buyer\n")


def offered(stage, name, *announcements):
    wallet, desks, folder = stage
    here, offer = wallet.node.block_count(), folder / f"{name}-offer.json"
    wallet.coins_for(decode_address(desks["seller"].run("status")["address"]), [10_300_000])
    desks["seller"].run(
        "offer", "--option", folder / f"{name}-option.json", "--role", "seller",
        *(word for path in announcements for word in ("--announcement", path)),
        "--premium-sats", 50_000, "--tolerance-bps", 1_000, "--expiry-height", here + 8, "--refund-height", here + 14,
        "--out", offer,
    )  # fmt: skip
    return offer


def test_an_offer_by_the_right_event_and_another_s_key_is_refused_and_reserves_nothing(stage):
    """A seller who announces the event itself could attest whatever pays it."""
    _, desks, folder = stage
    event, announcement, path = announced(folder, option(), "forged")
    genuine, own = encode_announcement(announcement), encode_announcement(announce(ORACLES[1], event))
    own_file = folder / "own-announcement.json"
    own_file.write_text(json.dumps(own))
    before = desks["buyer"].run("status")
    message = json.loads(offered(stage, "forged", path).read_text())
    offer = folder / "forged-forged.json"
    for number, announcements in enumerate(([own], [genuine, own], [own, genuine])):
        offer.write_text(json.dumps(message | {"oracles": announcements}))
        out = folder / f"no-{number}.json"
        # whatever file is given to compare it with: the oracle is the mandate's
        given = own_file if number == 0 else path
        error = desks["buyer"].run("accept", offer, "--announcement", given, "--out", out, code=2)
        assert error.startswith("oracles")
        assert not out.exists()
    after = desks["buyer"].run("status")
    assert [after[name] for name in ("spendable_sats", "contracts")] == [
        before[name] for name in ("spendable_sats", "contracts")
    ]


def test_one_answer_to_an_offer_is_signed_and_a_second_one_is_refused(stage):
    wallet, desks, folder = stage
    _, _, path = announced(folder, option(), "twice")
    offer = offered(stage, "twice", path)
    third = Desk(folder / "third", wallet.node.where, folder / "chain" / ".cookie")
    wallet.coins_for(decode_address(third.run("init")["address"]), [100_000])
    answers = []
    for name, desk in (("buyer", desks["buyer"]), ("third", third)):
        answers.append(folder / f"twice-{name}-accept.json")
        desk.run("accept", offer, "--announcement", path, "--out", answers[-1])
    first, again = folder / "twice-sign.json", folder / "twice-sign-again.json"
    desks["seller"].run("sign", answers[0], "--out", first)
    error = desks["seller"].run("sign", answers[1], "--out", folder / "no-sign.json", code=65)
    assert "make a new offer" in error
    assert not (folder / "no-sign.json").exists()
    desks["seller"].run("sign", answers[0], "--out", again)
    assert again.read_bytes() == first.read_bytes()
    assert desks["buyer"].run("sign", first)["funding_txid"]


def test_an_answer_that_names_a_coin_of_the_seller_as_the_buyer_s_is_refused_before_anything_is_signed(stage):
    """Else the seller's own signature would give that coin away, and nobody but the buyer need broadcast it."""
    wallet, desks, folder = stage
    _, _, path = announced(folder, option(), "robbed")
    address = decode_address(desks["seller"].run("status")["address"])
    (prize,) = wallet.coins_for(address, [5_000_000])
    offer = offered(stage, "robbed", path)
    accept = folder / "robbed-accept.json"
    desks["buyer"].run("accept", offer, "--announcement", path, "--out", accept)
    message = json.loads(accept.read_text())
    named = message["party"]["coins"][0]
    message["party"]["coins"].append(
        named | {"txid": str(prize.outpoint).split(":")[0], "vout": prize.outpoint.index, "value_sats": prize.value,
                 "script": prize.output.script.hex()}
    )  # fmt: skip
    accept.write_text(json.dumps(message))
    error = desks["seller"].run("sign", accept, "--out", folder / "never.json", code=2)
    assert "script of ours" in error
    assert not (folder / "never.json").exists()


def test_no_secret_reaches_a_message_a_folder_in_plain_or_the_output(stage):
    _, desks, folder = stage
    for name, desk in desks.items():
        opened = open_keystore(desk.folder / "party" / "keystore.json", f"passphrase of {name}")
        secrets = [opened._seed] + [opened.contract_secret(n) for n in range(3)]
        secrets += [opened.wallet_key(n).secret for n in range(3)]
        texts = [path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != "passphrase"]
        assert len(texts) > 10
        for secret in secrets:
            assert not any(secret in text or secret.hex().encode() in text for text in texts)
