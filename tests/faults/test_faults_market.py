"""Owners' processes that die, say nothing or lie in the middle of a deal, and a coin that is spent elsewhere.

One market on the standard preset; every deal is made at the same time, so that each also shows that it holds up no
other. Free again within a minute is a promise of the settings: a side has ``answer_seconds``, and a block comes after.
"""

import time
from dataclasses import dataclass

import pytest
from sqlalchemy import select
from sqlmodel import col

from btcfi.adapters.store.market.tables import PENDING_TAKES, FirmOfferRow, TakeRow
from btcfi.adapters.store.options.contracts import find_contract
from btcfi.bitcoin.transaction import Transaction, TxIn, TxOut
from btcfi.market.firm_offer import Side
from btcfi.units import Sats
from tests.support.crowd import market
from workers.machine.trading import Crowd

pytestmark = [
    pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.xdist_group("one market")
]  # fmt: skip

FREE_SECONDS = 60
FEES = 50_000
"""Sats: of a funding, or of going home."""

PREMIUM = 1_500_000
"""Sats for one bitcoin of each instrument: above what a funding can pay for 0.02."""

MAKERS = {
    "good": "", "silent": "silent", "killed": "killed:sign", "restarted": "once:sign", "terms-liar": "lies:offer",
    "sign-liar": "lies:sign", "buyer-liar": "lies:accept", "home-goer": "",
}  # fmt: skip
BIDS = {"buyer-liar"}
TAKERS = {"taker": "", "funded-liar": "lies:funded", "spender": ""}
BROKEN = ("silent", "killed", "terms-liar", "sign-liar", "buyer-liar")


@dataclass
class Deal:
    """One take, and what its honest side had."""

    option_id: str
    offer_id: str
    taken_at: float
    over_after: float | None = None
    free_after: float | None = None


class World:
    """The market with every deal over."""

    def __init__(self, running):
        self.market = running
        self.hands = {name: running.hand(name) for name in (*MAKERS, *TAKERS)}
        self.name, self.deals = self._listed(), {}

    def _listed(self):
        http, found = self.hands["taker"].http, []

        def listed():
            whole = http.get("/chain")
            self.spot = whole["spot_cents"]
            chain = http.get("/chain", expiry=whole["expiries_unix"][-1])  # simulated minutes are short: one that stays
            found[:] = [line["instrument"] for line in chain["lines"] if line["instrument"].endswith("-C")]
            return self.spot and chain["market_status"] == "trading" and found

        assert self.market.wait_for(listed, 90)
        return found[len(found) // 2]

    def offer(self, maker):
        side = Side.BID if maker in BIDS else Side.ASK
        return self.hands[maker].offer(self.name, side, sats=PREMIUM, cents=PREMIUM * self.spot // 10**8)

    def trade(self):
        self.before = {name: hand.free() for name, hand in self.hands.items()}
        offers = {maker: self.offer(maker) for maker in MAKERS}
        for maker, signed in offers.items():
            self._take(maker, "spender" if maker == "home-goer" else "taker", signed)
        self._take("half a funding", "funded-liar", offers["good"])
        self._spend_elsewhere()
        assert self.market.wait_for(self._looked, 3 * FREE_SECONDS)
        self._take("afterwards", "taker", offers["good"])
        assert self.market.wait_for(lambda: self.take("afterwards").state == "funded", FREE_SECONDS)

    def _take(self, deal, taker, signed):
        option_id = self.hands[taker].take(signed)
        self.deals[deal] = Deal(option_id=option_id, offer_id=signed.offer.id.hex(), taken_at=time.monotonic())

    def row(self, kind, key):
        with self.market.store.reading() as session:
            return session.get_one(kind, key)

    def take(self, deal):
        with self.market.store.reading() as session:
            option_id = self.deals[deal].option_id
            return session.execute(select(TakeRow).where(col(TakeRow.option_id) == option_id)).scalar_one()

    def offered(self, maker):
        return self.row(FirmOfferRow, self.deals[maker].offer_id)

    def contract(self, deal):
        with self.market.store.reading() as session:
            return find_contract(session, self.deals[deal].option_id)

    def kept(self, name, deal):
        """A contract as an owner has it in its folder."""
        order = self.deals[deal].option_id
        return next((one for one in self.hands[name].store.contracts() if one.order == order), None)

    def _spend_elsewhere(self):
        """Have the spender's owner spend the coin of its deal as soon as it has named it, in a block."""
        hand = self.hands["spender"]
        assert self.market.wait_for(lambda: self.kept("spender", "home-goer") is not None, 30)
        coins = list(self.kept("spender", "home-goer").ours.coins)
        spent, keys = [coin.output for coin in coins], hand.wallet.by_script
        elsewhere = self.hands["good"].wallet.script
        gone = Transaction(
            version=2, inputs=tuple(TxIn(outpoint=coin.outpoint) for coin in coins),
            outputs=(TxOut(value=Sats(sum(coin.value for coin in coins) - 5_000), script=elsewhere),),
        )  # fmt: skip
        for index, output in enumerate(spent):
            gone = gone.with_witness(index, [keys[output.script].sign_input(gone, index, spent)])
        hand.node.generate_block(self.market.mining_address(), [gone])
        self.deals["home-goer"].taken_at = time.monotonic()

    def _looked(self):
        """Note when each deal was over, and when its honest side had its coins again; whether all are."""
        for name, deal in self.deals.items():
            honest = {"home-goer": "home-goer"}.get(name, "taker")
            state = self.take(name).state
            if deal.over_after is None and state not in PENDING_TAKES and (name != "home-goer" or state == "failed"):
                deal.over_after = time.monotonic() - deal.taken_at
            if deal.over_after is not None and deal.free_after is None and self._is_free(honest, name):
                deal.free_after = time.monotonic() - deal.taken_at
        over = all(one.over_after is not None for one in self.deals.values())
        return over and all(self.deals[name].free_after is not None for name in (*BROKEN, "home-goer"))

    def _is_free(self, name, deal):
        """Whether an owner's folder and the chain say that the coins it named for a deal are its own again."""
        kept = self.kept(name, deal)
        if kept is None or kept.withdrawn:
            return True
        home = kept.cancelled
        if home is None:
            return False
        (found,) = self.hands[name].node.unspent_many([home.outpoint(0)], include_pool=False)
        return found is not None


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("market")
    with market(folder / "up", Crowd(), preset="standard", bad=MAKERS | TAKERS, coins=12) as running:
        made = World(running)
        made.trade()
        yield made


@pytest.mark.parametrize("maker", BROKEN)
def test_a_maker_that_dies_is_silent_or_lies_has_failed_and_the_taker_s_coins_are_free_within_a_minute(world, maker):
    take, deal = world.take(maker), world.deals[maker]
    assert (take.state, take.fault) == ("failed", "maker"), take.problem
    assert world.offered(maker).state == "broken"
    assert deal.free_after <= FREE_SECONDS


def test_a_maker_that_was_killed_in_mid_signing_and_comes_back_signs_what_it_agreed_to_once(world):
    assert (world.market.folder("restarted") / "mail" / "died").exists()
    assert world.take("restarted").state == "funded"
    kept = [one for one in world.hands["restarted"].store.contracts() if one.order]
    assert [one.order for one in kept] == [world.deals["restarted"].option_id]


def test_a_taker_that_spends_its_coin_elsewhere_is_at_fault_and_the_maker_s_coins_are_free_within_a_minute(world):
    take = world.take("home-goer")
    assert (take.state, take.fault) == ("failed", "taker"), take.problem
    assert world.offered("home-goer").remaining == world.offered("home-goer").quantity
    assert world.deals["home-goer"].free_after <= FREE_SECONDS


def test_a_taker_that_says_half_a_funding_has_sent_the_whole_of_it_to_the_chain_and_has_its_option(world):
    assert world.take("half a funding").state == "funded"


def test_the_others_traded_on_while_and_after(world):
    assert [world.take(name).state for name in ("good", "afterwards")] == ["funded"] * 2
    # it was taken while those two waited for nobody's answer, and waited for neither
    ends = [world.deals[name].taken_at + world.deals[name].over_after for name in ("silent", "killed")]
    assert world.deals["good"].taken_at < min(ends)


def test_nothing_of_it_is_lost_or_doubled_or_reaches_into_another_owner_s_folder(world):
    assert world.market.trespasses() == []
    assert world.market.broken() == []
    assert world.market.overheard() == []
