"""An operator console over a real store: minutes with their evidence, options, one settled with a real proof.

Options are sold by the pipeline's own ``sell``; settling is done here, with the real guest program. Time is ``now``.
"""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass, field, replace
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import update
from sqlmodel import col, select

from btcfi.adapters.store.access.console_tables import AuditRow
from btcfi.adapters.store.chain.tables import BlockRow, TransactionRow
from btcfi.adapters.store.options.premiums import refresh_premiums
from btcfi.adapters.store.options.sales import OPTION_ID, Order, SaleRule, sell
from btcfi.adapters.store.options.tables import OptionRow, SettlementRow
from btcfi.adapters.store.prices.observations import store_observation
from btcfi.adapters.store.prices.rounds import Register
from btcfi.adapters.store.prices.tables import RoundRow
from btcfi.adapters.store.spine.blobs import store_blob
from btcfi.adapters.store.spine.database import Store
from btcfi.adapters.store.spine.edges import record
from btcfi.adapters.venues.candle_folder import read_candle_folder, venues_for_replay
from btcfi.adapters.venues.replay_server import Replay, candle_target
from btcfi.adapters.venues.synthetic_candles import SYNTHETIC_CANDLES
from btcfi.bitcoin.transaction import OutPoint, Transaction, TxIn, TxOut
from btcfi.hashes import sha256 as digest_of
from btcfi.options.expiry import SettlementInput, SettlementOutput
from btcfi.options.terms import OptionKind
from btcfi.oracle.consensus import AgreedPrice, ConsensusRule, agreed_price, encode_outcome
from btcfi.oracle.quote import BTC_USD
from btcfi.oracle.venues import exchange_of
from btcfi.oracle.venues.candle import read_response
from btcfi.proofs.settlement_proof import build_proof, to_json
from btcfi.surfaces.rest.deps import CreatedOption, Deps
from btcfi.units import CentiBtc, CentsPerBtc, Sats, Slot, UnixSeconds, display_txid
from btcfi.vm.interpreter import run
from btcfi.vm.program import load_program
from dashboards.operator import accounts
from dashboards.operator.app import create_console
from dashboards.operator.deps import ConsoleDeps, ConsoleLimits, WorkerHealth
from workers.systems import console_pages

PASSWORD = "correct horse battery"
MINUTES = 40
RULE = ConsensusRule()
GAP = 7
"""This minute's responses cannot be read: it is void."""


@cache
def recording() -> tuple[Any, Any, Any]:
    candles = read_candle_folder(SYNTHETIC_CANDLES)
    return candles, venues_for_replay(candles, None, None), Replay(candles.candles)


@dataclass
class ConsoleWorld:
    store: Store
    now: int
    app: FastAPI | None = None
    deps: ConsoleDeps | None = None
    drained: list[str] = field(default_factory=list)
    submitted: list[str] = field(default_factory=list)

    def client(self) -> TestClient:
        return TestClient(self.app, base_url="http://console.test", raise_server_exceptions=False)

    def signed_in(self, name: str = "ada") -> TestClient:
        client = self.client()
        answer = sign_in(client, name)
        assert answer.status_code == 303, answer.text
        return client

    def sell(self, option_id: str, **terms: Any) -> OptionRow:
        wanted: dict[str, Any] = {
            "kind": OptionKind.CALL, "strike": CentsPerBtc(5_900_000), "quantity": CentiBtc(10), "barrier": None,
            "american": False, "expiry": Slot((self.now // 60 + 30) * 60),
        }  # fmt: skip
        with self.store.transaction() as session:
            if OPTION_ID.fullmatch(option_id):
                return sell(
                    session, Order(option_id=option_id, **(wanted | terms)), sale_rule(), now=UnixSeconds(self.now)
                )
            # an id that no sale accepts: what the pages do with it all the same
            sell(session, Order(option_id="renamed", **(wanted | terms)), sale_rule(), now=UnixSeconds(self.now))
            session.flush()
            session.execute(update(OptionRow).where(col(OptionRow.id) == "renamed").values(id=option_id))
            session.expire_all()
            return session.get_one(OptionRow, option_id)

    def create_option(self, order: Order) -> CreatedOption:
        with self.store.transaction() as session:
            row = sell(session, order, sale_rule(), now=UnixSeconds(self.now), wall=UnixSeconds(self.now))
        return CreatedOption(
            option_id=row.id, premium_cents=row.premium_cents, premium_sats=row.premium_sats,
            collateral_sats=row.collateral_sats, taproot_address=row.address or "",
        )  # fmt: skip

    def fund(self, option_id: str) -> None:
        """Note that an option is funded, by a transaction that was mined."""
        with self.store.transaction() as session:
            option = session.get_one(OptionRow, option_id)
            option.state = "ACTIVE"
            coin = OutPoint(txid=sha256(option_id.encode()).digest(), index=0)
            outputs = (out(option.collateral_sats, b"c"), out(4_000_000, b"s"), out(0, None))
            made = Transaction(version=2, inputs=(TxIn(outpoint=coin),), outputs=outputs)
            option.funding_txid = display_txid(made.txid)
            self._transaction(session, made, "funding", option_id, fee=780)
            record(session, "option", option_id, "ACTIVE", now=UnixSeconds(self.now), detail="funded")

    def settle(self, option_id: str, price: int | None = None) -> str:
        """Settle an option with the guest program, a proof and a transaction; return the settlement's id."""

        with self.store.transaction() as session:
            option = session.get_one(OptionRow, option_id)
            at = price or 6_000_000
            given = SettlementInput(
                option_type=option.kind, strike=option.strike_cents, spot=at, quantity=option.quantity_centi_btc,
                barrier_level=option.barrier_cents or 0, early_exercise=int(option.american), time_to_expiry=0,
                volatility=option.volatility_bps, observed_low=at, observed_high=at, premium=option.premium_cents,
                rate=option.rate_bps, collateral=option.collateral_sats,
            )  # fmt: skip
            proof = build_proof(run(load_program("option_settlement"), given.to_bytes(), max_steps=1 << 22))
            paid = SettlementOutput.from_bytes(proof.output)
            proof_sha256 = store_blob(session, to_json(proof).encode(), now=UnixSeconds(self.now))
            funding = OutPoint(txid=bytes.fromhex(option.funding_txid)[::-1], index=0)
            rest = option.collateral_sats - paid.payout_sats - 500
            made = Transaction(
                version=2, inputs=(TxIn(outpoint=funding),), outputs=(out(paid.payout_sats, b"b"), out(rest, b"s"))
            )
            row = SettlementRow(
                id=f"st-{option_id}", option_id=option_id, state="confirmed", reason="expiry", slot=option.listed_slot,
                price_cents=at, input_hex=given.to_bytes().hex(), attempts=1, steps=proof.steps,
                proof_root=proof.proof_root.hex(), proof_sha256=proof_sha256.hex(), payout_cents=paid.payout,
                payout_sats=paid.payout_sats, txid=display_txid(made.txid), created_at_unix=self.now,
                updated_at_unix=self.now, paid_sats=paid.payout_sats, returned_sats=rest, fee_sats=500,
            )  # fmt: skip
            session.add(row)
            session.flush()
            self._transaction(session, made, "settlement", option_id, fee=500)
            for state in ("due", "claimed", "proven", "built", "broadcast", "confirmed"):
                record(session, "settlement", row.id, state, now=UnixSeconds(self.now))
            option.state = "EXERCISED" if paid.payout_sats else "ABANDONED"
        return f"st-{option_id}"

    def _transaction(self, session: Any, made: Transaction, purpose: str, option_id: str, *, fee: int) -> None:
        txid = display_txid(made.txid)
        session.add(
            TransactionRow(
                txid=txid, purpose=purpose, subject=option_id, state="final", raw_hex=made.to_bytes().hex(),
                spends=str(made.inputs[0].outpoint), fee_sats=fee, height=95, created_at_unix=self.now,
                updated_at_unix=self.now,
            )
        )  # fmt: skip
        record(session, "chain_transaction", txid, "final", now=UnixSeconds(self.now), detail=purpose)

    def park(self, option_id: str, error: str = "the worker died each time") -> str:
        """Leave an option's settlement parked, its attempts used up."""
        with self.store.transaction() as session:
            option = session.get_one(OptionRow, option_id)
            option.state = "EXPIRED"
            session.add(
                SettlementRow(
                    id=f"st-{option_id}", option_id=option_id, state="parked", reason="expiry", slot=option.listed_slot,
                    price_cents=6_000_000, input_hex="", attempts=5, last_error=error, created_at_unix=self.now,
                    updated_at_unix=self.now,
                )
            )  # fmt: skip
        return f"st-{option_id}"

    def audited(self) -> list[tuple[str, str, str]]:

        with self.store.reading() as session:
            rows = session.exec(select(AuditRow).order_by(col(AuditRow.id))).all()
        return [(row.account, row.action, row.outcome) for row in rows]


def out(value: int, owner: bytes | None) -> TxOut:
    """An output to a made-up key, or one that carries data."""
    script = b"\x6a\x04note" if owner is None else bytes.fromhex("5120") + sha256(owner).digest()
    return TxOut(value=Sats(value), script=script)


def sign_in(client: TestClient, name: str = "ada", password: str = PASSWORD, to: str = "/") -> Any:
    page = client.get("/sign-in", params={"to": to})
    token = re.search(r'name="csrf" value="([0-9a-f]+)"', page.text)[1]
    form = {"csrf": token, "to": to, "name": name, "password": password}
    return client.post("/sign-in", data=form, follow_redirects=False)


def csrf_of(client: TestClient, path: str = "/") -> str:
    return re.search(r'name="csrf" value="([0-9a-f]+)"', client.get(path).text)[1]


@cache
def sale_rule() -> SaleRule:
    return SaleRule(
        feed=BTC_USD, preset="test", preset_sha256="00" * 32, rate_bps=300, fallback_volatility_bps=6_000,
        program="option_settlement", program_sha256=load_program("option_settlement").program_hash.hex(),
    )  # fmt: skip


def fill_store(file: Path) -> int:
    """Make a store with ``MINUTES`` of the recording, two accounts, a chain; return the end of the last minute."""
    store = Store(f"sqlite:///{file}")
    store.migrate()
    candles, venues, replay = recording()
    slots = candles.slots(None, None)[:MINUTES]
    with store.transaction() as session:
        for n, at in enumerate(slots):
            said = []
            for venue in (*venues.registered, *venues.legs):
                raw = replay.answer(candle_target(venue, at))[1] if n != GAP else b"<html>"
                observation = read_response(
                    exchange_of(venue.exchange), raw, venue=venue, slot=at, now=UnixSeconds(at + 62),
                    evidence=digest_of(raw),
                )  # fmt: skip
                store_observation(session, BTC_USD, observation, raw, now=UnixSeconds(at + 62))
                said.append(observation)
            outcome = agreed_price(said, registered=venues.registered, legs=venues.legs, rule=RULE, slot=at)
            priced = isinstance(outcome, AgreedPrice)
            row = RoundRow(
                feed=BTC_USD, slot=at, state="priced" if priced else "void",
                price_cents=outcome.price if priced else None, low_cents=outcome.low if priced else None,
                high_cents=outcome.high if priced else None, report=json.dumps(encode_outcome(outcome)),
                deadline_unix=at + 90, opened_at_unix=at + 60, closed_at_unix=at + 63,
            )  # fmt: skip
            session.add(row)
            session.flush()
            record(session, "round", str(row.id), "priced" if priced else "void", now=UnixSeconds(at + 63))
        session.add(BlockRow(height=100, hash="0" * 56 + "00c0ffee"))
    now = UnixSeconds(slots[-1] + 70)
    accounts.add_account(store, "ada", PASSWORD, ("read", "trade", "operate"), now=now, by="test")
    accounts.add_account(store, "rita", PASSWORD, ("read",), now=now, by="test")
    store.close()
    return now


def open_world(file: Path, now: int, **changes: Any) -> ConsoleWorld:
    """Return a console over the store in ``file``; ``changes`` are of its surroundings."""
    store = Store(f"sqlite:///{file}", busy_timeout_ms=2_000)
    world = ConsoleWorld(store=store, now=now)
    _, venues, _ = recording()
    counter = iter(range(1, 1_000_000))

    def entropy(length: int) -> bytes:
        return sha256(f"entropy {next(counter)}".encode()).digest()[:length]

    def drain(name: str) -> None:
        world.drained.append(name)

    def workers() -> list[WorkerHealth]:
        roles = ("prices", "settle", "chain", "control")
        return [
            WorkerHealth(name=f"{r}@host", queues=() if f"{r}@host" in world.drained else (r,), active=0) for r in roles
        ]

    deps = ConsoleDeps(
        limits=ConsoleLimits(requests_per_minute=10**6),  # its clock stands still; tests of the rate name their own
        api=Deps(
            store=store, clock=lambda: UnixSeconds(world.now), monotonic=lambda: float(world.now),
            new_id=lambda: entropy(16).hex(), create_option=world.create_option,
            submit=lambda flow, *_ids: world.submitted.append(flow), feed=BTC_USD, rate=0.03, fallback_volatility=0.6,
        ),
        entropy=entropy,
        register=Register(feed=BTC_USD, venues=venues.registered, legs=venues.legs, rule=RULE),
        rule_of=lambda _sha256: RULE,
        pages=console_pages(),
        workers=workers,
        drain=drain,
        resume=world.drained.remove,
    )  # fmt: skip
    world.deps = replace(deps, **changes)
    world.app = create_console(world.deps)
    return world


def copied(original: Path, folder: Path) -> Path:
    """Return a copy of a filled store, a test's own."""
    file = folder / "console.db"
    shutil.copyfile(original, file)
    return file


def refresh(world: ConsoleWorld) -> None:
    with world.store.transaction() as session:
        refresh_premiums(session, BTC_USD, now=UnixSeconds(world.now), rate_bps=300, fallback_volatility_bps=6_000)
