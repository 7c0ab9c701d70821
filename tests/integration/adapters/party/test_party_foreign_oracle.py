"""A contract on the word of another house's oracle: its TLVs are all that the two parties have of it."""

import json
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from btcfi.adapters import keystore
from btcfi.adapters.keystore import open_keystore
from btcfi.adapters.party.owner import Owner
from btcfi.adapters.party.store import PartyStore
from btcfi.bitcoin.address import decode_address
from btcfi.contracts.mandate import decode_mandate
from btcfi.contracts.messages import decode_announcement, decode_attestation, encode_announcement, encode_attestation
from btcfi.contracts.payouts import encode_terms
from btcfi.oracle import dlc_messages
from btcfi.oracle.announcement import announce, check_announcement
from btcfi.oracle.attestation import attest
from btcfi.oracle.dlc_messages import DigitHash
from btcfi.oracle.fixing import MINUTE, parse_fixing
from btcfi.secp256k1 import public_key_xonly
from btcfi.surfaces import party_cli
from btcfi.units import parse_txid
from tests.support.chain import Wallet, embedded_node
from tests.support.contracts import ORACLES, MemoryLedger, event
from tests.support.foreign_oracle import KEY, ForeignOracle
from tests.support.mandates import own
from tests.support.party_desk import Desk, option
from workers.commands import oracle as oracle_commands

pytestmark = pytest.mark.integration
NOT_FOUND, FORGED = 3, 76
OPTION = replace(option(), fixing=MINUTE)


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    folder = tmp_path_factory.mktemp("foreign")
    with pytest.MonkeyPatch.context() as patched, embedded_node(folder / "chain") as (node, _):
        (folder / "run").mkdir()
        patched.setattr(keystore, "SCRYPT_N", keystore.LEAST_N)  # each command opens one
        patched.setenv("XDG_RUNTIME_DIR", str(folder / "run"))
        wallet = Wallet(node)
        wallet.fund()
        desks = {name: Desk(folder / name, node.where, folder / "chain" / ".cookie") for name in ("seller", "buyer")}
        (folder / "option.json").write_text(json.dumps(encode_terms(OPTION)))
        for name, amounts in (("seller", [10_200_000] * 3 + [50_000] * 3), ("buyer", [100_000] * 3 + [50_000] * 3)):
            wallet.coins_for(decode_address(desks[name].run("init")["address"]), amounts)
        yield wallet, desks, folder


def written(path, tlv, *, as_hex):
    path.write_bytes(tlv.hex().encode() + b"\n" if as_hex else tlv)
    return path


def allow(desk, folder, *oracles):
    """The owner's word: a mandate drafted from what the oracles published, or from their keys."""
    draft = folder / "draft.json"
    desk.run("mandate", "new", *oracles, "--like", "simulation", "--threshold", 1, "--out", draft)
    store = PartyStore(desk.folder / "party")
    opened = open_keystore(store.keystore_path, desk.secret_file.read_text().strip())
    own(Owner(store, opened), decode_mandate(json.loads(draft.read_text())))


def offered(stage, announcement, name, **more):
    wallet, desks, folder = stage
    here, offer = wallet.node.block_count(), folder / f"{name}-offer.json"
    desks["seller"].run(
        "offer", "--option", folder / "option.json", "--role", "seller", "--announcement", announcement,
        "--premium-sats", 50_000, "--tolerance-bps", 1_000, "--expiry-height", here + 8, "--refund-height", here + 160,
        "--out", offer, *more,
    )  # fmt: skip
    return offer


@pytest.mark.parametrize(("mode", "as_hex"), [(DigitHash.TAGGED, True), (DigitHash.PLAIN, False)])
def test_a_contract_bought_against_foreign_tlv_announcements_settles(stage, mode, as_hex):
    wallet, desks, folder = stage
    seller, buyer, theirs = desks["seller"], desks["buyer"], ForeignOracle(mode=mode, name=f"noon, {mode.value}")
    tlv = dlc_messages.encode_announcement(theirs.announcement())
    announcement = written(folder / f"{mode.value}.announcement", tlv, as_hex=as_hex)
    for desk in desks.values():
        allow(desk, folder, "--announcement", announcement)
    accept, sign = folder / f"{mode.value}-accept.json", folder / f"{mode.value}-sign.json"
    offer = offered(stage, announcement, mode.value)
    buyer.run("accept", offer, "--announcement", announcement, "--out", accept)
    seller.run("sign", accept, "--out", sign)
    funding = buyer.run("sign", sign)["funding_txid"]
    wallet.mine(9)
    attested = dlc_messages.encode_attestation(theirs.attestation(125_000))
    attestation = written(folder / f"{mode.value}.attestation", attested, as_hex=as_hex)
    rows = {row["contract"]: row for row in buyer.run("watch", "--attestation", attestation)["contracts"]}
    name = json.loads(accept.read_text())["offer_id"]
    assert (rows[name]["action"], rows[name]["note"]) == ("settle", "")
    wallet.mine(6)
    said = folder / f"{mode.value}-said.json"  # as the inbox of `party run` takes it
    run("import-tlv", attestation, "--announcement", announcement, "--out", said)
    rows = {row["contract"]: row for row in seller.run("watch", "--attestation", said)["contracts"]}
    assert rows[name]["status"] == "settled"
    shown = CliRunner().invoke(
        party_cli.app, [*map(str, ["verify", offer, accept, sign, "--announcement", announcement, "--json"])]
    )  # fmt: skip
    assert json.loads(shown.stdout)["holds"], shown.stdout
    assert "as its oracle alone fixes and rounds it" in shown.stdout
    assert "by which rule it finds its price, nothing here says" in shown.stdout
    settled = next(
        tx
        for height in range(wallet.node.block_count() - 6, wallet.node.block_count() + 1)
        for tx in wallet.node.block(wallet.node.block_hash(height)).transactions
        if any(txin.outpoint.txid == parse_txid(funding) for txin in tx.inputs)
    )
    # the guest computes 0.1 BTC * 25,000 / 125,000 = 0.02 BTC at the attested whole dollar, its range pays nearly that
    paid = settled.outputs[0].value
    assert paid == pytest.approx(2_000_000, rel=0.05)
    assert [output.value for output in settled.outputs] == [paid, 10_000_000 - paid - 240 - 1_000, 240]


def test_an_offer_that_names_a_foreign_oracle_beside_another_is_refused(stage):
    _, desks, folder = stage
    theirs = written(
        folder / "pair.announcement", dlc_messages.encode_announcement(ForeignOracle().announcement()), as_hex=True
    )
    twin = ForeignOracle(secret=ORACLES[1], name="btcusd at noon")
    other = written(folder / "twin.announcement", dlc_messages.encode_announcement(twin.announcement()), as_hex=True)
    allow(desks["seller"], folder, "--oracle", public_key_xonly(ORACLES[1]).hex(), "--oracle", KEY.hex())
    error = desks["seller"].run(
        "offer", "--option", folder / "option.json", "--role", "seller", "--announcement", theirs,
        "--announcement", other, "--premium-sats", 50_000, "--out", folder / "pair-offer.json", code=2,
    )  # fmt: skip
    assert "such an oracle alone" in error


def test_an_option_of_a_window_is_not_settled_by_an_oracle_that_says_nothing_of_windows(stage):
    _, desks, folder = stage
    theirs = ForeignOracle(name="window")
    announcement = written(
        folder / "window.announcement", dlc_messages.encode_announcement(theirs.announcement()), as_hex=True
    )
    allow(desks["seller"], folder, "--announcement", announcement)
    (folder / "window.json").write_text(json.dumps(encode_terms(replace(OPTION, fixing=parse_fixing("twap:30")))))
    error = desks["seller"].run(
        "offer", "--option", folder / "window.json", "--role", "seller", "--announcement", announcement,
        "--premium-sats", 50_000, "--out", folder / "window-offer.json", code=2,
    )  # fmt: skip
    assert "event.fixing: minute; expected twap:30" in error


def test_a_foreign_attestation_of_no_contract_of_ours_and_a_forged_one_are_refused(stage):
    _, desks, folder = stage
    stranger = ForeignOracle(name="of nobody").attestation(125_000)
    path = written(folder / "nobody.attestation", dlc_messages.encode_attestation(stranger), as_hex=True)
    assert "no contract is of it" in desks["buyer"].run("watch", "--attestation", path, code=NOT_FOUND)
    theirs = ForeignOracle(name="alone")
    tlv = dlc_messages.encode_announcement(theirs.announcement())
    announcement = written(folder / "alone.announcement", tlv, as_hex=True)
    allow(desks["seller"], folder, "--announcement", announcement)
    offered(stage, announcement, "alone")
    said = theirs.attestation(125_000)
    forged = replace(said, outcomes=("1", *said.outcomes[1:]))
    path = written(folder / "forged.attestation", dlc_messages.encode_attestation(forged), as_hex=True)
    assert "digit 0 is not signed as 1" in desks["seller"].run("watch", "--attestation", path, code=FORGED)


# ---- the oracle's own commands


def run(*words):
    told = CliRunner().invoke(oracle_commands.app, list(map(str, words)))
    if told.exception is not None and not isinstance(told.exception, SystemExit):
        raise told.exception
    return json.loads(told.stdout)


def test_the_commands_export_ours_and_import_theirs_with_every_signature_checked(tmp_path):
    ours = announce(ORACLES[0], event())
    said = attest(ORACLES[0], ours, 123_456, MemoryLedger())
    files = {name: tmp_path / name for name in ("a.json", "s.json", "a.tlv", "s.tlv", "oracle.key", "back.json")}
    files["oracle.key"].write_text(ORACLES[0].hex() + "\n")
    files["oracle.key"].chmod(0o600)
    files["a.json"].write_text(json.dumps(encode_announcement(ours)))
    files["s.json"].write_text(json.dumps(encode_attestation(said)))
    for _ in range(2):  # again is harmless, also over what is there
        told = run("export-tlv", files["a.json"], "--key", files["oracle.key"], "--out", files["a.tlv"])
    assert told["event_id"] == ours.event.id.hex()
    run("export-tlv", files["s.json"], "--announcement", files["a.json"], "--out", files["s.tlv"])
    assert files["s.tlv"].read_text().startswith("fdd868")
    told = run("import-tlv", files["a.tlv"], "--out", files["back.json"])
    assert told["digits"] == "tagged"
    back = decode_announcement(json.loads(files["back.json"].read_text()))
    check_announcement(back, expected=back.event)
    told = run("import-tlv", files["s.tlv"], "--announcement", files["a.tlv"], "--out", tmp_path / "said.json")
    assert told["outcome"] == 123_456
    abroad = decode_attestation(json.loads((tmp_path / "said.json").read_text()))
    assert (abroad.event, abroad.signatures) == (back.event.id, said.signatures)
