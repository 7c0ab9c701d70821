"""A REST application over a real store with a priced market, and a creator of options that keeps its orders.

The creator does what the pipeline's does as far as the API can see: real premiums, real rows, a real taproot address of
a made-up key. Settling is done here by ``settle``, with the real guest program and a real proof.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields, replace
from hashlib import sha256
from pathlib import Path

import numpy as np
from sqlmodel import SQLModel

from btcfi.adapters.store.access import api_tables  # noqa: F401 - registers the tables
from btcfi.adapters.store.options.sales import SaleRule, sell
from btcfi.adapters.store.options.tables import OptionRow, PremiumRow, SettlementRow
from btcfi.adapters.store.prices import network_tables  # noqa: F401 - as above
from btcfi.adapters.store.prices.tables import RoundRow
from btcfi.adapters.store.spine.database import Store
from btcfi.adapters.store.spine.edges import record
from btcfi.adapters.store.spine.tables import BlobRow
from btcfi.bitcoin.address import encode_address
from btcfi.options.expiry import SettlementInput
from btcfi.options.order import Order
from btcfi.surfaces.rest.auth import create_key
from btcfi.surfaces.rest.deps import CreatedOption, Deps

NOW = 1_790_000_040
FEED = "BTC-USD"
SPOT = 7_000_000


@dataclass
class World:
    store: Store
    now: int = NOW
    seconds: float = 1_000.0
    submitted: list[tuple[str, ...]] = field(default_factory=list)
    orders: int = 0
    deps: Deps | None = None

    def key(self, *roles, expires_at=None, requests_per_minute=6_000, seed=b"") -> str:
        entropy = sha256(repr(roles).encode() + seed).digest() + bytes(8)
        return create_key(
            self.store, name="test", roles=roles, entropy=entropy, now=self.now, expires_at=expires_at,
            requests_per_minute=requests_per_minute,
        )  # fmt: skip

    def price(self, slot: int, cents: int) -> None:
        with self.store.transaction() as session:
            session.add(
                RoundRow(
                    feed=FEED,
                    slot=slot,
                    state="priced",
                    price_cents=cents,
                    low_cents=cents - 500,
                    high_cents=cents + 500,
                    deadline_unix=slot + 90,
                    opened_at_unix=slot + 60,
                    closed_at_unix=slot + 62,
                )
            )

    def create_option(self, order: Order) -> CreatedOption:
        """Sell by the pipeline's own ``sell``, and give the contract a made-up address at once."""
        with self.store.transaction() as session:
            known = session.get(OptionRow, order.option_id) is not None
            made = sell(session, order, self.rule, now=self.now, wall=self.now)
            if not known:
                self.orders += 1
                script = bytes.fromhex("5120") + sha256(order.option_id.encode()).digest()
                made.address = encode_address(script)
        return CreatedOption(
            option_id=made.id, premium_cents=made.premium_cents, premium_sats=made.premium_sats,
            collateral_sats=made.collateral_sats, taproot_address=made.address or "",
        )  # fmt: skip

    @property
    def rule(self) -> SaleRule:
        """What the REST application quotes by, and what makes a sale of it."""
        quoting = {one.name: getattr(self.deps.quote_rule, one.name) for one in fields(self.deps.quote_rule)}
        return SaleRule(
            **quoting, preset="test", preset_sha256="00" * 32, program="option_settlement", program_sha256="00" * 32
        )

    def fund(self, option_id: str) -> None:
        """Note that an option's contract is funded."""
        with self.store.transaction() as session:
            option = session.get_one(OptionRow, option_id)
            option.state, option.funding_txid = "ACTIVE", "cd" * 32
            session.add(option)

    def settle(self, option_id: str, price: int) -> str:
        """Settle an option at ``price`` with the guest program and a proof; return the settlement's id."""
        from btcfi.proofs.settlement_proof import build_proof, to_json  # noqa: PLC0415 - compiles
        from btcfi.vm.interpreter import run  # noqa: PLC0415 - as above
        from btcfi.vm.program import load_program  # noqa: PLC0415 - as above

        with self.store.transaction() as session:
            option = session.get_one(OptionRow, option_id)
            given = SettlementInput(
                option_type=option.kind, strike=option.strike_cents, spot=price, quantity=option.quantity_centi_btc,
                barrier_level=option.barrier_cents or 0, early_exercise=int(option.american), time_to_expiry=0,
                volatility=option.volatility_bps, observed_low=price, observed_high=price,
                premium=option.premium_cents, rate=option.rate_bps, collateral=option.collateral_sats,
            )  # fmt: skip
            proof = build_proof(run(load_program("option_settlement"), given.to_bytes(), max_steps=1 << 22))
            body = to_json(proof).encode()
            digest = sha256(body).hexdigest()
            settlement = f"settlement-{option_id}"
            session.add(BlobRow(sha256=digest, body=body, created_at_unix=self.now))
            session.add(
                SettlementRow(
                    id=settlement,
                    option_id=option_id,
                    state="confirmed",
                    reason="expiry",
                    slot=option.expiry_unix,
                    price_cents=price,
                    input_hex=given.to_bytes().hex(),
                    steps=proof.steps,
                    proof_root=proof.proof_root.hex(),
                    proof_sha256=digest,
                    payout_cents=1,
                    payout_sats=1_000,
                    paid_sats=900,
                    returned_sats=option.collateral_sats - 900 - 240 - 60,
                    fee_sats=60,
                    txid="ab" * 32,
                    created_at_unix=self.now,
                    updated_at_unix=self.now,
                )
            )
            for state in ("due", "claimed", "executed", "proven", "built", "broadcast", "confirmed"):
                record(session, "settlement", settlement, state, now=self.now)
            option.state = "EXERCISED"
            session.add(option)
            session.add(
                PremiumRow(
                    option_id=option_id,
                    slot=self.now // 60 * 60,
                    premium_cents=1,
                    delta=0.5,
                    gamma=0.0,
                    vega=0.0,
                    theta=0.0,
                    rho=0.0,
                    priced_at_unix=self.now,
                )
            )
        return settlement


def make_world(folder: Path, *, minutes: int = 120, **changes) -> World:
    """Return a world whose last ``minutes`` are priced, up to the minute before now."""
    store = Store(f"sqlite:///{folder / 'rest.db'}")
    SQLModel.metadata.create_all(store.engine)
    world = World(store=store)
    g = np.random.default_rng(9)
    level = SPOT * np.exp(np.cumsum(g.normal(0, 0.6 * math.sqrt(60 / 31_536_000), minutes))[::-1])
    level *= SPOT / level[-1]
    first = NOW // 60 * 60 - 60 * minutes
    with store.transaction() as session:
        for i, cents in enumerate(level):
            session.add(
                RoundRow(
                    feed=FEED,
                    slot=first + 60 * i,
                    state="priced",
                    price_cents=round(float(cents)),
                    low_cents=round(float(cents)) - 100,
                    high_cents=round(float(cents)) + 100,
                    deadline_unix=first,
                    opened_at_unix=first,
                    closed_at_unix=first + 60 * i + 62,
                )
            )
    deps = Deps(
        store=store, clock=lambda: world.now, monotonic=lambda: world.seconds,
        new_id=lambda: sha256(f"{world.orders} {world.seconds}".encode()).hexdigest()[:32],
        create_option=world.create_option, submit=lambda flow, *ids: world.submitted.append((flow, *ids)), feed=FEED,
        rate=0.03,
    )  # fmt: skip
    world.deps = replace(deps, **changes)
    return world
