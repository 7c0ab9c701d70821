"""Coins of an outside wallet: bitcoind signs them by PSBT, and never more than the contract books for its owner."""

import json
from types import SimpleNamespace

import pytest

from btcfi.adapters.chain.node import Node
from btcfi.adapters.party.store import PartyStore
from btcfi.bitcoin.address import decode_address
from btcfi.contracts.messages import encode_announcement
from btcfi.contracts.payouts import encode_terms
from btcfi.contracts.summary import DeclinedError
from btcfi.oracle.announcement import OracleEvent, announce
from btcfi.surfaces.party import screen
from btcfi.units import Hash32, parse_txid
from btcfi.vm.program import load_program
from tests.support.chain import Wallet, real_node
from tests.support.contracts import ORACLES
from tests.support.party_desk import Desk, option

pytestmark = pytest.mark.regtest


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    folder = tmp_path_factory.mktemp("outside")
    with real_node(folder / "chain") as (node, _):
        wallet = Wallet(node)
        wallet.fund()
        cookie = folder / "chain" / "regtest" / ".cookie"
        made = {}
        for name in ("seller", "buyer"):
            made[name] = Desk(folder / name, node.where, cookie)
            made[name].run("init")
            node.call("createwallet", name)
            made[name].rpc = Node(f"{node.where}/wallet/{name}", 30, cookie_file=cookie)
        event = OracleEvent(
            feed="BTC-USD", expiry=option().expiry, preset_hash=Hash32(b"\x02" * 32),
            program_hash=load_program("option_settlement").program_hash,
        )  # fmt: skip
        (folder / "oracle.json").write_text(json.dumps(encode_announcement(announce(ORACLES[0], event))))
        (folder / "option.json").write_text(json.dumps(encode_terms(option())))
        yield wallet, made, folder


def coins_of(wallet, desk, kind, *amounts):
    return [
        str(wallet.coins_for(decode_address(desk.rpc.call("getnewaddress", "", kind)), [amount])[0].outpoint)
        for amount in amounts
    ]


def agreed(stage, name, kind, *, buyer_coin=None):
    """Offer and answer with a coin of each side's outside wallet; returns the two files."""
    wallet, desks, folder = stage
    seller, buyer = desks["seller"], desks["buyer"]
    (theirs,) = coins_of(wallet, seller, kind, 10_200_000)
    (ours,) = [buyer_coin] if buyer_coin else coins_of(wallet, buyer, kind, 90_000)
    here, offer, accept = wallet.node.block_count(), folder / f"{name}-offer.json", folder / f"{name}-accept.json"
    home = seller.rpc.call("getnewaddress", "", kind)
    seller.run(
        "offer", "--option", folder / "option.json", "--role", "seller", "--announcement", folder / "oracle.json",
        "--premium-sats", 50_000, "--tolerance-bps", 1_000, "--expiry-height", here + 8, "--refund-height", here + 14,
        "--out", offer, "--coin", theirs, "--pay-to", home,
    )  # fmt: skip
    assert json.loads(offer.read_text())["party"]["payout_script"] == decode_address(home).hex()
    buyer.run("accept", offer, "--announcement", folder / "oracle.json", "--out", accept, "--coin", ours)
    return offer, accept


def signed_by_wallet(desk, psbt, *options):
    out = psbt.with_suffix(".signed")
    out.write_text(desk.rpc.call("walletprocesspsbt", psbt.read_text().strip(), True, *options)["psbt"])
    return out


@pytest.mark.parametrize("kind", ["bech32m", "bech32"])
def test_both_sides_fund_from_bitcoinds_wallet_and_the_funding_confirms(stage, kind):
    wallet, desks, folder = stage
    seller, buyer = desks["seller"], desks["buyer"]
    offer, accept = agreed(stage, f"whole-{kind}", kind)
    psbt, sign = folder / f"{kind}-seller.psbt", folder / f"{kind}-sign.json"
    # without the wallet's signature no sign message leaves
    error = seller.run("sign", accept, "--out", sign, code=65)
    assert "psbt export" in error
    assert not sign.exists()
    made = seller.run("psbt", "export", offer, "--message", accept, "--out", psbt, "--yes")
    assert made["inputs"] == [0]
    seller.run("psbt", "import", offer, signed_by_wallet(seller, psbt), "--out", sign)
    psbt = folder / f"{kind}-buyer.psbt"
    assert buyer.run("psbt", "export", offer, "--message", sign, "--out", psbt, "--yes")["inputs"] == [1]
    funding = buyer.run("psbt", "import", offer, signed_by_wallet(buyer, psbt))["funding_txid"]
    wallet.mine()
    assert wallet.confirmations(parse_txid(funding)) == 1


def test_a_coin_of_ours_that_the_buyer_names_is_signed_by_our_wallet_and_refused_on_its_way_back(stage):
    """The outside wallet signs whatever its keys fit: the seller's second coin, booked as the buyer's, too."""
    wallet, desks, folder = stage
    seller = desks["seller"]
    (prize,) = coins_of(wallet, seller, "bech32m", 5_000_000)
    offer, accept = agreed(stage, "robbed", "bech32m", buyer_coin=prize)
    psbt, sign = folder / "robbed.psbt", folder / "robbed-sign.json"
    seller.run("psbt", "export", offer, "--message", accept, "--out", psbt, "--yes")
    signed = signed_by_wallet(seller, psbt)
    error = seller.run("psbt", "import", offer, signed, "--out", sign, code=2)
    assert prize in error
    assert "try to take this coin" in error
    assert not sign.exists()


@pytest.mark.parametrize("kind", ["bech32m", "bech32"])
@pytest.mark.parametrize("hash_type", ["NONE", "SINGLE", "ALL|ANYONECANPAY", "NONE|ANYONECANPAY"])
def test_a_wallet_that_signs_less_than_everything_is_refused_by_the_name_of_what_it_did(stage, kind, hash_type):
    _, desks, folder = stage
    name = f"{kind}-{hash_type.replace('|', '-')}"
    offer, accept = agreed(stage, name, kind)
    psbt, sign = folder / f"{name}.psbt", folder / f"{name}-sign.json"
    desks["seller"].run("psbt", "export", offer, "--message", accept, "--out", psbt, "--yes")
    error = desks["seller"].run(
        "psbt", "import", offer, signed_by_wallet(desks["seller"], psbt, hash_type), "--out", sign, code=2
    )
    assert f"SIGHASH_{hash_type}" in error
    assert not sign.exists()


def test_nothing_is_handed_over_before_everything_of_the_other_side_was_checked(stage):
    _, desks, folder = stage
    offer, accept = agreed(stage, "unchecked", "bech32m")
    seller, psbt = desks["seller"], folder / "unchecked.psbt"
    whole = json.loads(accept.read_text())
    for change in ({"cet_adaptor_signatures": ""}, {"cet_adaptor_signatures": "AAAA"}):
        bad = folder / "bad-accept.json"
        bad.write_text(json.dumps(whole | change))
        seller.run("psbt", "export", offer, "--message", bad, "--out", psbt, "--yes", code=76)
        assert not psbt.exists()
    seller.run("psbt", "export", offer, "--message", accept, "--out", psbt, "--yes")
    # the wallet may have signed that one: another answer is refused from here on
    other = whole | {"party": whole["party"] | {"change_script": whole["party"]["payout_script"][:-2] + "00"}}
    bad.write_text(json.dumps(other))
    seller.run("psbt", "export", offer, "--message", bad, "--out", psbt, "--yes", code=65)


def test_a_coin_that_is_spent_unconfirmed_named_twice_or_of_another_contract_is_refused_by_name(stage):
    wallet, desks, folder = stage
    seller = desks["seller"]
    offer, _ = agreed(stage, "named", "bech32m")
    named = json.loads(offer.read_text())["party"]["coins"][0]
    taken = f"{named['txid']}:{named['vout']}"
    (free,) = coins_of(wallet, seller, "bech32", 10_200_000)
    legacy = seller.rpc.call("getnewaddress", "", "legacy")
    old = seller.rpc.call("sendtoaddress", legacy, "0.01")
    here = wallet.node.block_count()
    wrong = [(taken,), (free, free), ("00" * 32 + ":0",), (f"{old}:0",), ("nonsense",), (free, "x:1"), (f"{free}x",)]
    for coins in wrong:
        error = seller.run(
            "offer", "--option", folder / "option.json", "--role", "seller", "--announcement", folder / "oracle.json",
            "--premium-sats", 50_000, "--expiry-height", here + 8, "--refund-height", here + 14,
            "--out", folder / "no-offer.json", *(word for coin in coins for word in ("--coin", coin)), code=2,
        )  # fmt: skip
        assert "coin" in error or "txid" in error, coins
        assert not (folder / "no-offer.json").exists()


def test_the_screen_before_the_hand_over_says_what_is_signed_and_asks(stage, monkeypatch):
    _, desks, folder = stage
    offer, accept = agreed(stage, "asked", "bech32m")
    psbt = folder / "asked.psbt"
    monkeypatch.setattr(screen, "sys", SimpleNamespace(stdin=SimpleNamespace(isatty=lambda: True)))
    said = desks["seller"].ask("psbt", "export", offer, "--message", accept, "--out", psbt, answer="n\n")
    assert isinstance(said.exception, DeclinedError)
    shown = json.loads(said.stderr[said.stderr.index("{\n") : said.stderr.rindex("}") + 1])
    assert [one["input"] for one in shown["your_wallet_signs"]] == [0]
    assert [one["input"] for one in shown["never_these_of_the_other_side"]] == [1]
    assert shown["pays"][0]["for"] == "the contract"
    assert not psbt.exists()
    # after a no another answer may still be handed over
    whole = json.loads(accept.read_text())
    assert PartyStore(desks["seller"].folder / "party").load(whole["offer_id"]).accept is None
