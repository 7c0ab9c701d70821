"""What a task needs of its process: the store, the preset, the clock; made once a process, after the fork."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache

from celery import current_app
from sqlmodel import Session

from btcfi.adapters.node import Node
from btcfi.adapters.store import rounds
from btcfi.adapters.store.chain import FundingRule, Parties
from btcfi.adapters.store.database import Store
from btcfi.adapters.store.rounds import Register
from btcfi.bitcoin.fees import SatsPerKvb
from btcfi.bitcoin.keys import wallet_key
from btcfi.errors import InvalidInputError, NotFoundError
from btcfi.oracle.quote import Feed, parse_venue
from btcfi.units import UnixSeconds
from btcfi.vm.emulator import Emulator
from btcfi.vm.program import Program, load_program
from settings.deployment import Deployment
from settings.preset import Preset, load_preset
from tasks import pipeline


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """One process's view of the deployment."""

    deployment: Deployment
    preset: Preset
    store: Store
    register: Register

    @property
    def feed(self) -> Feed:
        """The feed that this deployment serves."""
        return self.register.feed

    def now(self) -> UnixSeconds:
        """Return the wall clock: leases and repairs are about our time, also in a replay."""
        return UnixSeconds(int(time.time()))

    def market_now(self, session: Session) -> UnixSeconds:
        """Return the market's clock: the end of the newest priced minute in a replay, else the wall clock."""
        last = rounds.latest_priced(session, self.feed) if self.deployment.replay_clock else None
        return UnixSeconds(last.slot + 60) if last else self.now()

    @contextmanager
    def work(self) -> Iterator[Session]:
        """Give one transaction, and publish what it put into the outbox once it is committed."""
        with self.store.transaction() as session:
            yield session
        pipeline.publish_pending(self.store, self.now())


def context() -> Context:
    """Return this process's context."""
    return _context(os.getpid(), current_app.conf.deployment)


@cache
def _context(_pid: int, deployment: Deployment) -> Context:
    return make_context(deployment)


def make_context(deployment: Deployment) -> Context:
    """Return a context of ``deployment``. Raises what its settings deserve."""
    preset = load_preset(deployment.preset)
    return Context(
        deployment=deployment,
        preset=preset,
        store=Store(deployment.database_url),
        register=Register(
            feed=Feed(deployment.feed),
            venues=tuple(parse_venue(v) for v in deployment.venues),
            legs=tuple(parse_venue(v) for v in deployment.legs),
            rule=preset.consensus,
        ),
    )


@cache
def program() -> Program:
    """Return the settlement program, its bytes checked against the manifest. Raises GuestMismatchError."""
    return load_program(context().deployment.program)


@cache
def emulator(_pid: int) -> Emulator:
    """Return this process's reused Unicorn."""
    return Emulator(program())


@cache
def node(_pid: int) -> Node:
    """Return this process's connection to the node. Raises InvalidInputError when no node is configured."""
    deployment = context().deployment
    if deployment.node_url is None:
        raise InvalidInputError("NODE_URL", "not set", "http://user:password@host:port of a bitcoind")
    return Node(deployment.node_url, deployment.node_timeout_seconds, cookie_file=deployment.node_cookie_file)


@cache
def parties(deployment: Deployment) -> Parties:
    """Return the two parties' keys from the wallet seed file. Raises NotFoundError without one."""
    try:
        seed = deployment.wallet_seed_file.read_bytes()
    except FileNotFoundError as e:
        raise NotFoundError("wallet seed file", str(deployment.wallet_seed_file), "`btcfi up` makes one") from e
    return Parties(seller=wallet_key(seed, 0, account=0), buyer=wallet_key(seed, 0, account=1))


def funding_rule(preset: Preset) -> FundingRule:
    """Return what the preset says about the contract's transactions."""
    return FundingRule(
        refund_delay_blocks=preset.refund_delay_blocks, rate=SatsPerKvb(preset.fee_sats_per_vbyte * 1000)
    )
