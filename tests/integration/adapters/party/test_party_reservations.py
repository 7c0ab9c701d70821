"""What a party reserves and promises is freed when the check fails, and a crash between two steps loses nothing."""

import json
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from btcfi.adapters.chain.node import Node
from btcfi.contracts.messages import Order as Bid
from btcfi.contracts.messages import Role, encode_order
from btcfi.units import Sats
from tests.support.desks import open_chain, open_pair

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pairs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.fsync", lambda _: None)
        with open_chain(folder) as (chain, cookie):
            yield folder, chain, cookie


@pytest.fixture(scope="module")
def pair(world):
    folder, chain, cookie = world
    with open_pair(folder / "refusals", chain, cookie, 1) as made:
        yield made


# ---- refusals


def value_less(pair, offer):
    offer["party"]["coins"][0]["value_sats"] -= 1


def a_value_of_twenty_bitcoins(pair, offer):
    offer["party"]["coins"][0]["value_sats"] = 2_000_000_000


def an_output_that_is_not_there(pair, offer):
    offer["party"]["coins"][0]["vout"] += 1_000


def a_transaction_that_is_not_there(pair, offer):
    offer["party"]["coins"][0]["txid"] = "07" * 32


def another_script(pair, offer):
    offer["party"]["coins"][0]["script"] = "5120" + "02" * 32


def one_coin_twice(pair, offer):
    offer["party"]["coins"] *= 2


def no_coins(pair, offer):
    offer["party"]["coins"] = []


def a_coin_of_the_reader(pair, offer):
    coins = pair.buyer.desk.wallet.scan().coins
    outpoint, (coin, _, _) = max(coins.items(), key=lambda item: item[1][0].value)
    txid, _, vout = str(outpoint).rpartition(":")
    offer["party"]["coins"].append(
        {"txid": txid, "vout": int(vout), "value_sats": coin.value, "script": coin.output.script.hex()}
    )


def a_payout_script_that_is_no_witness_program(pair, offer):
    offer["party"]["payout_script"] = "76a914" + "00" * 20 + "88ac"


def a_change_script_that_burns(pair, offer):
    offer["party"]["change_script"] = "6a"


def the_reader_s_role(pair, offer):
    offer["role"] = "buyer"


def terms_that_no_bid_has(pair, offer):
    offer["premium_sats"] += 1


REFUSALS = [
    value_less, a_value_of_twenty_bitcoins, an_output_that_is_not_there, a_transaction_that_is_not_there,
    another_script, one_coin_twice, no_coins, a_coin_of_the_reader, a_payout_script_that_is_no_witness_program,
    a_change_script_that_burns, the_reader_s_role, terms_that_no_bid_has,
]  # fmt: skip


@pytest.fixture(scope="module")
def offered(pair):
    """A good offer, and a bid of the buyer's that says the same."""
    terms = pair.order("good")
    pair.seller.round()
    pair.buyer.round()
    return terms, pair.seller.said("good.offer")


@pytest.mark.parametrize("spoil", REFUSALS)
def test_an_offer_that_is_refused_leaves_the_bid_and_the_wallet_as_they_were(pair, offered, spoil):
    _, good = offered
    before = pair.buyer.facts()
    bad = json.loads(json.dumps(good))
    spoil(pair, bad)
    name = f"good.{spoil.__name__}"
    pair.buyer.put("inbox", name, bad)
    pair.buyer.round()
    assert (pair.buyer.folder / "inbox/refused" / f"{name}.reason").exists()
    assert pair.buyer.facts() == before
    pair.buyer.restart()
    assert pair.buyer.facts() == before


def test_after_all_refusals_the_good_offer_is_accepted_with_the_same_bid(pair, offered):
    _terms, good = offered
    for number, spoil in enumerate(REFUSALS):
        bad = json.loads(json.dumps(good))
        spoil(pair, bad)
        pair.buyer.put("inbox", f"a{number}.offer", bad)
    pair.buyer.put("inbox", "good.offer", good)
    pair.buyer.round()
    assert pair.buyer.said("good.accept")
    assert not list((pair.buyer.folder / "bids").glob("*.json"))
    free, held = pair.buyer.desk.balance()
    assert held == sum(coin["value_sats"] for coin in pair.buyer.said("good.accept")["party"]["coins"])
    assert free > 0


def test_a_second_offer_for_a_bid_that_is_used_reserves_nothing(pair, offered):
    terms, _ = offered
    pair.seller.put("orders", "again", encode_order(Bid(terms=terms, role=Role.SELLER)))
    pair.seller.round()
    before = pair.buyer.facts()
    pair.buyer.put("inbox", "again.offer", pair.seller.said("again.offer"))
    pair.buyer.round()
    assert pair.buyer.facts() == before


# ---- crashes


class CrashError(BaseException):
    """The process ends here: nothing that handles errors sees it."""


class Ends:
    """Ends the process before or after its n-th durable step: a file takes its place, a transaction is sent."""

    def __init__(self, monkeypatch):
        self._at, self._count, self._after = None, 0, False
        for kind, name in ((Path, "replace"), (Node, "send")):
            monkeypatch.setattr(kind, name, self._wrap(getattr(kind, name)))

    def _wrap(self, real):
        def step(*arguments):
            here, self._count = self._count, self._count + 1
            if here == self._at and not self._after:
                raise CrashError
            result = real(*arguments)
            if here == self._at:
                raise CrashError
            return result

        return step

    def set(self, at, *, after):
        self._at, self._count, self._after = at, 0, after

    def round(self, side):
        """One round, then the process starts anew; returns whether it came to its end."""
        with suppress(CrashError):
            side.round()
        reached = self._at is not None and self._count > self._at
        self.set(None, after=False)
        side.restart()
        side.round()
        return reached


STEPS = [("seller", "offer"), ("buyer", "accept"), ("seller", "sign"), ("buyer", "funded")]
MOST_STEPS = 9
"""No message of a set-up takes more durable steps."""


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_crash_at_any_step_of_any_message_ends_in_the_same_one_contract(world, monkeypatch, after):
    folder, chain, cookie = world
    ends, reached = Ends(monkeypatch), 0
    for at in range(MOST_STEPS):
        with open_pair(folder / f"crash-{after}-{at}", chain, cookie, 10 + 2 * at + after) as pair:
            whole = {side: sum(getattr(pair, side).desk.balance()) for side in ("seller", "buyer")}
            pair.order("one")
            for side, kind in STEPS:
                reader = getattr(pair, side)
                ends.set(at, after=after)
                reached += ends.round(reader)
                said = reader.said(f"one.{kind}")
                assert said is not None, (at, kind, [p.read_text() for p in reader.folder.rglob("*.reason")])
                (name,) = reader.store.names()
                contract = reader.store.load(name)
                mine = contract.offer.party if contract.role is contract.offer.role else contract.accept.party
                free, held = reader.desk.balance()
                if kind in ("offer", "accept"):
                    assert held == sum(coin.value for coin in mine.coins)
                    assert free + held == whole[side]
                other = pair.buyer if side == "seller" else pair.seller
                other.put("inbox", f"one.{kind}", said)
            assert not list((pair.buyer.folder / "bids").glob("*.json"))
            chain.mine()
            assert chain.confirmations(contract.funding.txid) == 1
    assert reached > 4 * 3


def test_an_order_with_an_answered_name_and_other_terms_is_refused(pair, offered):
    terms, good = offered
    other = replace(terms, premium=Sats(terms.premium + 1))
    pair.seller.put("orders", "good", encode_order(Bid(terms=other, role=Role.SELLER)))
    before = pair.seller.facts()
    pair.seller.round()
    assert "other terms" in (pair.seller.folder / "orders/refused/good.reason").read_text()
    assert pair.seller.facts() == before
    assert pair.seller.said("good.offer") == good
