"""The trader's desk over a market whose accounts have real keys."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from fastapi.testclient import TestClient
from sqlmodel import col, select

from btcfi.adapters.store.market import accounts, offers, requests, takes, visitors
from btcfi.adapters.store.market.tables import FirmOfferRow
from btcfi.adapters.store.options.sales import read_market
from btcfi.market.auction import Auction
from btcfi.market.firm_offer import Side, SignedOffer
from btcfi.market.instrument import Instrument
from btcfi.market.request import Wanted
from btcfi.options.terms import OptionKind
from btcfi.pricing.premium import Book, premiums
from btcfi.units import CentiBtc, Cents, CentsPerBtc, Sats, Slot
from dashboards.trader.app import create_desk
from dashboards.trader.deps import ContractFacts, DeskDeps, DeskLimits
from tests.support.accounts import Trader, trader
from tests.support.held_contract import HeldContract, hold
from tests.support.market_world import with_market
from tests.support.rest_world import SPOT, World, make_world

VOLATILITY = 0.7
SPREAD = 0.02
FACTS = ContractFacts(
    oracle_urls=("http://127.0.0.1:9001", "http://127.0.0.1:9002"), oracles=3, oracle_threshold=2, answer_seconds=20
)

UNLIMITED = DeskLimits(requests_per_minute=10**6, codes_per_minute=10**6)


def csrf_of(page: str) -> str:
    """Return the word that a page's forms carry."""
    return re.search(r'name="csrf" value="([0-9a-f]{64})"', page)[1]


@dataclass
class DeskWorld:
    """A desk and its market."""

    world: World
    client: TestClient
    """Of the desk, at /desk."""
    numbers: int = 0
    joined: dict[str, Trader] = field(default_factory=dict)

    def get(self, path: str, **given: object):
        return self.client.get(f"/desk{path}", **given)

    def join(self, name: str) -> Trader:
        """Register an account, once."""
        if name not in self.joined:
            one = self.joined[name] = trader(name)
            with self.world.store.transaction() as session:
                accounts.register(session, one.registered(at=self.world.now), now=self.world.now)
        return self.joined[name]

    def offer(self, one: Trader, instrument: str, side: Side, usd: float, **changes: object) -> SignedOffer:
        """Post an offer of half a bitcoin at so many dollars; of one that nobody refuses."""
        (made,) = self.post(one, [self.signed(one, instrument, side, usd, **changes)])
        return made

    def taken(self, taker: Trader, offer_id: str, quantity: int) -> str:
        """Have somebody take an offer by its id's beginning, as its process does; return the option's id."""
        self.numbers += 1
        with self.world.store.transaction() as session:
            found = session.exec(select(FirmOfferRow).where(col(FirmOfferRow.id).startswith(offer_id))).one()
            offer = offers.offer_of(found)
            signed = taker.take(offer, quantity, valid_until=self.world.now + 60, number=self.numbers)
            row = takes.take(session, signed, rule=self.world.rule, now=self.world.now, wall=self.world.now)
            option_id = row.option_id
        self.world.fund(option_id)
        return option_id

    def trade(self, maker: Trader, taker: Trader, instrument: str, usd: float, quantity: int = 10) -> str:
        """Have a maker write and a taker buy at so many dollars for one bitcoin, funded; return the option's id."""
        offer = self.offer(maker, instrument, Side.ASK, usd)
        return self.taken(taker, offer.offer.id.hex(), quantity)

    def ask(self, one: Trader, instrument: str, *, quantity: int = 20, wanted: Wanted = Wanted.BUY, seconds: int = 300):
        """Have an account ask for quotes; return the signed request."""
        self.numbers += 1
        signed = one.request(
            instrument, quantity=CentiBtc(quantity), wanted=wanted, valid_until=self.world.now + seconds,
            number=self.numbers,
        )  # fmt: skip
        rules = self.world.deps.market_rules
        with self.world.store.transaction() as session:
            market = read_market(session, rules.sales, now=self.world.now)
            account = accounts.account(session, one.identity.hex())
            requests.post_request(session, account, signed, rule=rules.offers, market=market, now=self.world.now)
        return signed

    def answer(self, one: Trader, asked, side: Side, usd: float, **changes: object) -> SignedOffer:
        """Have a maker answer a request with an offer for who asked alone."""
        wanted = asked.request
        given = {"taker": wanted.taker, "request": wanted.id, "quantity": wanted.quantity} | changes
        return self.offer(one, wanted.instrument.name, side, usd, **given)

    def auction(self, one: Trader, instrument: str, usd: float, last_usd: float, *, steps: int = 10) -> SignedOffer:
        """Have a maker post an ask whose price falls by a step a minute, from now."""
        ends = self.signed(one, instrument, Side.ASK, last_usd).offer
        schedule = Auction(
            begins=self.world.now, step_seconds=60, steps=steps, last=ends.price, last_cents=ends.price_cents
        )
        return self.offer(
            one, instrument, Side.ASK, usd, auction=schedule, valid_until=self.world.now + 60 * (steps + 1)
        )  # fmt: skip

    def hold(self, option_id: str) -> HeldContract:
        """Give an option that a take made its contract, signed by both with the guest, and funded."""
        return hold(self.world.store, option_id, now=self.world.now)

    def browser(self) -> TestClient:
        """Return a browser without a cookie."""
        return TestClient(
            self.client.app, base_url="http://desk.test", root_path="/desk", raise_server_exceptions=False,
            headers={"User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"},
        )  # fmt: skip

    def code(self, browser: TestClient) -> str:
        """Have a browser shown a code, and return it."""
        page = browser.post("/desk/sign-in/code").text
        return re.search(r"btcfi market sign-in ([0-9A-Z]{4})-([0-9A-Z]{4})", page).expand(r"\1\2")

    def answered(self, one: Trader, code: str, digits: str = "12345678") -> str:
        """Have an account answer a code as its process does, and return the digits for the browser."""
        with self.world.store.transaction() as session:
            asked = visitors.asked(session, code, now=self.world.now)
            visitors.answer(
                session, code, accounts.account(session, one.identity.hex()), browser=asked.browser,
                address=asked.address, digits=digits, now=self.world.now,
            )  # fmt: skip
        return digits

    def typed(self, browser: TestClient, digits: str):
        """Type digits into a browser's sign-in page, and return what it answers."""
        return browser.post(
            "/desk/sign-in", data={"csrf": csrf_of(browser.get("/desk/sign-in").text), "digits": digits}
        )

    def sign_in(self, one: Trader) -> TestClient:
        """Return a browser that looks as an account."""
        browser = self.browser()
        answer = self.typed(browser, self.answered(one, self.code(browser)))
        assert answer.url.path == "/desk/positions", answer.text
        return browser

    def signed(self, one: Trader, instrument: str, side: Side, usd: float, **changes: object) -> SignedOffer:
        self.numbers += 1
        sats = max(round(usd * 100 * 1e8 / SPOT / 1_000), 1) * 1_000
        given = {
            "price": Sats(sats), "price_cents": Cents(sats * SPOT // 10**8), "quantity": CentiBtc(50),
            "minimum": CentiBtc(5), "valid_until": self.world.now + 600, "number": self.numbers,
        }  # fmt: skip
        return one.offer(instrument, side, **given | changes)

    def post(self, one: Trader, many: list[SignedOffer]) -> list[SignedOffer]:
        with self.world.store.transaction() as session:
            account = accounts.account(session, one.identity.hex())
            rules = self.world.deps.market_rules
            market = read_market(session, rules.sales, now=self.world.now)
            for start in range(0, len(many), 500):
                posted = offers.post_offers(
                    session, account, many[start : start + 500], rule=rules.offers, market=market, now=self.world.now
                )  # fmt: skip
                assert [row.problem for row in posted if row.problem] == [], posted
        return many

    def quoted(self, one: Trader, instruments: list[Instrument], levels: int = 1) -> None:
        """Post both sides of each instrument around the model's price at VOLATILITY, at so many levels."""
        book = Book.of(i.terms(CentiBtc(100), Cents(0)) for i in instruments)
        worth = [
            premiums(book, spot=CentsPerBtc(SPOT), volatility=VOLATILITY + away, rate=self.world.deps.rate,
                     now=Slot(self.world.now - 60)).premium
            for away in (-SPREAD, SPREAD)
        ]  # fmt: skip
        many = []
        for i, instrument in enumerate(instruments):
            for level in range(levels):
                low, high = worth[0][i] * (1 - level / 50), worth[1][i] * (1 + level / 50)
                if low < 200:  # less than a tenth of a bitcoin's least premium
                    continue
                many += [
                    self.signed(one, instrument.name, Side.BID, low, minimum=CentiBtc(10)),
                    self.signed(one, instrument.name, Side.ASK, high, minimum=CentiBtc(10)),
                ]
        self.post(one, many)

    def listed(self, *kinds: OptionKind) -> list[Instrument]:
        from btcfi.surfaces.rest.market_desk.listing import Listing  # noqa: PLC0415 - here alone

        every = Listing(self.world.deps).current().by_name.values()
        return [one for one in every if not kinds or one.kind in kinds]


@contextmanager
def desk_world(folder: Path, *, limits: DeskLimits | None = None, **changes: object) -> Iterator[DeskWorld]:
    world = with_market(make_world(folder, **changes))
    deps = DeskDeps(api=world.deps, facts=FACTS, limits=limits or UNLIMITED)
    with TestClient(
        create_desk(deps), base_url="http://desk.test", root_path="/desk", raise_server_exceptions=False
    ) as client:
        yield DeskWorld(world=world, client=client)
    world.store.close()
