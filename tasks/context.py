"""What a task needs of its process: the store, the preset, the clock; made once a process, after the fork."""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache, lru_cache, wraps
from importlib import import_module
from pathlib import Path
from typing import Final

from celery import current_app

from btcfi.adapters.chain.node import Node
from btcfi.adapters.oracle.client import OracleClient
from btcfi.adapters.oracle.web import Web
from btcfi.adapters.party.mailbox import Mailbox
from btcfi.adapters.store.chain.handlers import Handlers
from btcfi.adapters.store.options import contracts
from btcfi.adapters.store.options.contracts import ContractRule
from btcfi.adapters.store.prices import rounds
from btcfi.adapters.store.prices.rounds import Register
from btcfi.adapters.store.spine import leases
from btcfi.adapters.store.spine.database import Session, Store
from btcfi.adapters.store.spine.leases import LeaseHeldError
from btcfi.bitcoin.address import encode_address
from btcfi.bitcoin.fees import FeeRule, SatsPerKvb
from btcfi.bitcoin.keys import TaprootKey, wallet_key
from btcfi.contracts.buckets import STANDARD_TOLERANCE, ToleranceRule
from btcfi.contracts.messages import Role
from btcfi.errors import InvalidInputError, NotFoundError
from btcfi.market.webhook import HookRule
from btcfi.oracle.announcement import Announcement, DigitPoints
from btcfi.oracle.quote import Feed, parse_venue
from btcfi.units import UnixSeconds
from settings.deployment import Deployment
from settings.preset import Preset, load_preset
from tasks import pipeline

SIGNING_SECONDS: Final = 15
"""How long the wallet waits for a chain worker that died; a living one renews its lease with each transaction."""

WORKER: Final = f"{socket.gethostname()}/{secrets.token_hex(8)}"
"""This worker process and its forked children, told from every other one: made before they are forked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """One process's view of the deployment."""

    deployment: Deployment
    preset: Preset
    """What is sold and priced by today. What was sold is settled by what its row names (``tasks/held.py``)."""
    store: Store
    register: Register

    @property
    def feed(self) -> Feed:
        """The feed that this deployment serves."""
        return self.register.feed

    def now(self) -> UnixSeconds:
        """Return the database's clock: leases, repairs and deadlines are judged by one clock, also in a replay.

        Raises StoreUnreachableError.
        """
        return self.store.now()

    def market_now(self, session: Session) -> UnixSeconds:
        """Return the market's clock: the end of the newest priced minute in a replay, else the wall clock."""
        return rounds.market_now(session, self.feed, replay=self.deployment.replay_clock, now=self.now())

    @contextmanager
    def work(self) -> Iterator[Session]:
        """Give one transaction, and publish what it put into the outbox once it is committed."""
        with self.store.transaction() as session:
            yield session
        pipeline.publish_pending(self.store, self.now())

    @contextmanager
    def signing(self) -> Iterator[Session]:
        """Give one transaction of the one worker that signs for the wallet now. Raises LeaseHeldError."""
        seconds = min(self.deployment.lease_seconds, SIGNING_SECONDS)
        with self.store.transaction() as session:
            leases.hold(session, leases.WALLET, holder=WORKER, now=self.now(), seconds=seconds)
            yield session


def where_nobody_else_signs(work: Callable[[], None]) -> Callable[[], None]:
    """Decorate a task that signs: while another worker holds the wallet's lease, it leaves the work to that one."""

    @wraps(work)
    def alone() -> None:
        with suppress(LeaseHeldError):
            work()

    return alone


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
def node(_pid: int) -> Node:
    """Return this process's connection to the node. Raises InvalidInputError when no node is configured."""
    deployment = context().deployment
    if deployment.node_url is None:
        raise InvalidInputError("NODE_URL", "not set", "http://user:password@host:port of a bitcoind")
    return Node(deployment.node_url, deployment.node_timeout_seconds, cookie_file=deployment.node_cookie_file)


def chain_handlers() -> Handlers:
    """Return what the systems of this deployment do with chain outputs of their own."""
    return _handlers(tuple(current_app.conf.chain_handlers))


@cache
def _handlers(names: tuple[str, ...]) -> Handlers:
    """Each name: ``module:ATTRIBUTE``, imported only by the process that walks the chain."""
    return Handlers(tuple(getattr(import_module(module), one) for module, _, one in (n.partition(":") for n in names)))


@cache
def service_wallet(deployment: Deployment) -> TaprootKey:
    """Return the service's own key, which pays the fees of settlements. Raises NotFoundError without a seed file."""
    return wallet_key(_secret(deployment.wallet_seed_file, "wallet seed file"), 0)


@cache
def oracles(deployment: Deployment) -> tuple[OracleClient, ...]:
    """Return the oracles of new contracts, each by its URL."""
    return tuple(OracleClient(Web(url)) for url in deployment.oracles)


@cache
def mailboxes(deployment: Deployment) -> dict[Role, Mailbox]:
    """Return the two parties' folders."""
    return {role: Mailbox(deployment.parties_dir / role.value) for role in Role}


@lru_cache(maxsize=16)
def shared_points(announcements: tuple[Announcement, ...]) -> tuple[DigitPoints, ...]:
    """Return the anticipation points of an event's oracles: options of one expiry share them."""
    return tuple(DigitPoints(announcement=one) for one in announcements)


def mining_address(deployment: Deployment, height: int) -> str:
    """Return whom a regtest block pays: seller, buyer and service in turn; the service while a party is not there."""
    if turn := height % 3:
        address = deployment.parties_dir / ("seller", "buyer")[turn - 1] / "address"
        if address.exists():
            return address.read_text().strip()
    return encode_address(service_wallet(deployment).script)


def contract_rule(preset: Preset) -> ContractRule:
    """Return what the preset says about contracts.

    None is made in steps any more: one whose option was sold by an earlier preset gets the standard tolerance.
    """
    sold, standard = preset.payouts, ToleranceRule(tolerance=STANDARD_TOLERANCE)
    return ContractRule(
        payouts=sold if isinstance(sold, ToleranceRule) else standard, threshold=preset.oracle_threshold,
        rate=SatsPerKvb(preset.fee_sats_per_vbyte * 1000), refund_delay_blocks=preset.refund_delay_blocks,
    )  # fmt: skip


def fee_rule(preset: Preset) -> FeeRule:
    """Return the bounds of what a settlement pays."""
    return FeeRule(floor=SatsPerKvb(preset.fee_sats_per_vbyte * 1000))


def hook_rule(deployment: Deployment) -> HookRule:
    """Return where messages of webhooks may go: of a chain that is played, to this machine too."""
    return HookRule(loopback=deployment.network == "regtest")


def note_contract_error(here: Context, option_id: str, error: str) -> None:
    """Keep why an option's contract does not go on, for whoever asks."""
    with here.store.transaction() as session:
        contracts.note_error(session, option_id, error, now=here.now())


def note_unheld_contract(here: Context, option_id: str, reason: str) -> None:
    """Keep which hash is missing here to go on with an option's contract."""
    with here.store.transaction() as session:
        contracts.note_unheld(session, option_id, reason)


def _secret(file: Path, what: str) -> bytes:
    try:
        return file.read_bytes()
    except FileNotFoundError as e:
        raise NotFoundError(what, str(file), "`btcfi up` makes one") from e
