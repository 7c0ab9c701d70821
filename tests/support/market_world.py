"""A served market for tests: a REST application with a desk's key, rules, and accounts with real keys."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import httpx
from fastapi.testclient import TestClient

from btcfi.adapters.desk_key import DeskPublic
from btcfi.adapters.sealed_letters import box_key
from btcfi.adapters.signed_http import RequestSigner
from btcfi.market.account import encode_signed_registration
from btcfi.market.firm_offer import Side, SignedOffer, encode_signed_offer, encode_signed_take
from btcfi.market.request import encode_signed_request
from btcfi.market.webhook import HookRule
from btcfi.surfaces.rest.app import create_app
from btcfi.surfaces.rest.deps import DeskCard, MarketRules
from btcfi.surfaces.rest.market_desk.waiting import Bell
from settings.market_preset import load_market_preset
from tests.support.accounts import DESK, DESK_BOX_SECRET, Trader, trader
from tests.support.rest_world import World, make_world

CALL = "BTC-25SEP26-70000-C"
"""Listed in the world's week, at its price."""
PUT = "BTC-25SEP26-65000-P"

ORACLES = (("http://127.0.0.1:9001", "11" * 32), ("http://127.0.0.1:9002", None))


@dataclass
class Stand:
    """A market and who is registered there."""

    world: World
    api: TestClient
    traders: dict[str, Trader] = field(default_factory=dict)
    numbers: int = 0

    @property
    def bell(self) -> Bell:
        """What rings when a letter comes."""
        return self.api.app.state.bell

    @property
    def closing(self) -> threading.Event:
        """Set when the server stops."""
        return self.api.app.state.closing

    def join(self, name: str) -> Trader:
        """Register an account, once."""
        if name not in self.traders:
            one = self.traders[name] = trader(name)
            body = encode_signed_registration(one.registered(at=self.world.now))
            answer = self.api.post("/api/v1/accounts", json=body)
            assert answer.status_code == 201, answer.text
        return self.traders[name]

    def signer(self, one: Trader, **changes: object) -> RequestSigner:
        """Return what signs an account's requests by the world's clock."""
        given = {
            "identity": one.identity, "request_secret": one.keystore.request_secret(), "desk": DESK,
            "clock": lambda: self.world.now,
        }  # fmt: skip
        return RequestSigner(**given | changes)

    def ask(self, one: Trader, method: str, path: str, **given: object) -> httpx.Response:
        """Ask as an account, signed."""
        return self.api.request(method, f"/api/v1{path}", auth=self.signer(one), **given)

    def offer(self, one: Trader, instrument: str = CALL, side: Side = Side.ASK, **changes: object) -> SignedOffer:
        """Return a signed offer for a minute, of a number of its own."""
        self.numbers += 1
        return one.offer(
            instrument, side, **{"valid_until": self.world.now + 60, "number": self.numbers} | changes
        )  # fmt: skip

    def post(self, one: Trader, *many: SignedOffer) -> list[dict]:
        """Post offers and return what became of each."""
        answer = self.ask(one, "POST", "/offers", json={"offers": [encode_signed_offer(o) for o in many]})
        assert answer.status_code == 200, answer.text
        return answer.json()["results"]

    def request(self, one: Trader, instrument: str = CALL, **changes: object) -> str:
        """Ask for quotes, and return the request's id."""
        self.numbers += "number" not in changes
        given = {"valid_until": self.world.now + 30, "number": self.numbers} | changes
        answer = self.ask(one, "POST", "/requests", json=encode_signed_request(one.request(instrument, **given)))
        assert answer.status_code == 201, answer.text
        return answer.json()["id"]

    def take(self, one: Trader, of: SignedOffer, quantity: int = 10, **changes: object) -> httpx.Response:
        """Take a quantity of an offer."""
        self.numbers += 1
        signed = one.take(of, quantity, **{"valid_until": self.world.now + 30, "number": self.numbers} | changes)
        return self.ask(one, "POST", "/takes", json=encode_signed_take(signed))


def with_market(world: World, **limits: object) -> World:
    """Give a world its desk and its rules."""
    preset = load_market_preset("standard")
    card = DeskCard(
        public=DeskPublic(desk_key=DESK, box_key=box_key(DESK_BOX_SECRET)), network="regtest", oracle_threshold=2,
        preset="test", preset_sha256="00" * 32, programs={"option_settlement": "22" * 32}, oracles=lambda: ORACLES,
    )  # fmt: skip
    rules = MarketRules(
        preset=preset.name, preset_sha256=preset.sha256, listing=preset.listing, offers=preset.offers, sales=world.rule
    )
    world.deps = replace(
        world.deps,
        desk=card,
        market_rules=rules,
        hooks=HookRule(loopback=True),
        limits=replace(world.deps.limits, **limits),
    )
    return world


@contextmanager
def market(folder: Path, *, limits: dict | None = None, **changes: object):
    """Give a market that is served in this process."""
    world = with_market(make_world(folder, **changes), **limits or {})
    with TestClient(create_app(world.deps), raise_server_exceptions=False) as api:
        yield Stand(world=world, api=api)
    world.store.close()
