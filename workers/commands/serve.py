"""``btcfi serve``: the REST API of a deployment, and the operator console beside it, in one process.

Everything that the API may do to the pipeline is a row in the store. The broker is only told sooner: without one, or
while it is away, the cluster's relay publishes what the API wrote.
"""

from __future__ import annotations

import errno
import ipaddress
import logging
import math
import secrets
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from types import FrameType
from typing import Annotated, Final

import typer
import uvicorn
from celery import Celery
from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send

from btcfi.adapters.chain.node import PortInUseError
from btcfi.adapters.chain.pool import FeeMarket, look
from btcfi.adapters.desk_key import load_desk
from btcfi.adapters.oracle.client import OracleClient
from btcfi.adapters.oracle.web import Web
from btcfi.adapters.store.options.sales import SaleRule, sell
from btcfi.adapters.store.prices import rounds
from btcfi.adapters.store.spine.database import Store
from btcfi.errors import BtcfiError, InvalidInputError, NotFoundError
from btcfi.options.order import Order
from btcfi.records import hexadecimal
from btcfi.surfaces.rest.app import create_app as create_api
from btcfi.surfaces.rest.connections import ConnectionLimits, guarded
from btcfi.surfaces.rest.deps import CreatedOption, Deps, DeskCard, MarketRules
from btcfi.units import UnixSeconds
from dashboards.operator.app import create_console
from dashboards.operator.deps import ConsoleDeps
from dashboards.trader.app import create_desk
from dashboards.trader.deps import ContractFacts, DeskDeps
from settings.deployment import Deployment, load_deployment
from settings.market_preset import load_market_preset
from settings.preset import Preset, load_preset, rule_by_hash
from tasks.context import fee_rule, hook_rule, make_context
from tasks.pipeline import publish_pending
from workers import logs
from workers.app import create_app
from workers.deployed import node_of, open_store, sale_rule
from workers.fleet import Fleet
from workers.systems import console_pages

LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")
"""Names of this machine, as a browser on it or a health check sends them."""

DESK: Final = "/desk"
"""Where the trader's desk is."""

STOP_SECONDS: Final = 3
"""Given to requests under way when the server stops; open event streams are cut then."""

ASK_ORACLES_SECONDS: Final = 10.0
"""Between two questions to an oracle that did not say its key."""

POOL_SECONDS: Final = 10.0
"""Between two looks into the node's pool for pages and the API."""

POOL_TIMEOUT_SECONDS: Final = 5.0
"""Who looks at a page waits no longer for the node."""

LONGEST_BACKOFF_SECONDS: Final = 15.0
"""Longest wait between two attempts to publish; the relay of the cluster does it meanwhile."""

log = logging.getLogger("btcfi.serve")


def serve(
    *,
    host: Annotated[str | None, typer.Option(help="Address to listen on; default BTCFI_API_HOST, the loopback")] = None,
    port: Annotated[
        int | None, typer.Option(help="0 picks a free one; default BTCFI_API_PORT", min=0, max=65_535)
    ] = None,
) -> None:
    """Serve the REST API of the deployment's store, and the operator console, until Ctrl-C."""
    given = {name: value for name, value in (("api_host", host), ("api_port", port)) if value is not None}
    deployment = load_deployment().model_copy(update=given)
    listening = listen(deployment.api_host, deployment.api_port)
    logs.configure_logging(deployment.log_format, logs.secrets_of(deployment))
    with listening, suppress(KeyboardInterrupt):
        _run(deployment, listening)


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens there. Raises PortInUseError, InvalidInputError for an address that is not ours."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=512)
    except OSError as e:
        if e.errno == errno.EADDRINUSE:
            raise PortInUseError(host=host, port=port, variable="BTCFI_API_PORT") from e
        # without the address, which the socket module adds
        why = (e.strerror or str(e)).partition(" (while")[0]
        problem = f"{host} port {port} cannot be listened on ({why})"
        raise InvalidInputError("BTCFI_API_HOST", problem, "an address of this machine, a port that is allowed") from e


def _run(deployment: Deployment, listening: socket.socket) -> None:
    store = open_store()
    celery = _celery(deployment)
    publisher = Publisher(_publish(store) if celery is not None else None)
    try:
        address, port = listening.getsockname()[:2]
        local = ipaddress.ip_address(address).is_loopback
        deps = replace(make_deps(deployment, store, publisher.wake), hosts=hosts_of(deployment, local=local))
        site = _site(deployment, deps, celery, local=local)
        config = server_config(site, deployment)
        _say_where(address, port, any_host=not deps.hosts)

        class Server(uvicorn.Server):
            def handle_exit(self, sig: int, frame: FrameType | None) -> None:
                site.closing.set()
                super().handle_exit(sig, frame)

        Server(config).run(sockets=[listening])
    finally:
        publisher.stop()
        store.close()


def server_config(site: ASGIApp, deployment: Deployment) -> uvicorn.Config:
    """Return how the server treats connections, and whose word it takes for where they come from."""
    return uvicorn.Config(
        site,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=STOP_SECONDS,
        http=guarded(ConnectionLimits(), proxies=map(ipaddress.ip_network, deployment.trusted_proxies)),
        ws="none",
        # from anybody else an X-Forwarded-For is of the caller's own making, and would be a rate limit of its own
        proxy_headers=bool(deployment.trusted_proxies),
        forwarded_allow_ips=list(deployment.trusted_proxies),
    )


def _site(deployment: Deployment, deps: Deps, celery: Celery | None, *, local: bool) -> Site:
    fleet = Fleet(celery, deployment) if celery is not None else None
    preset = load_preset(deployment.preset)
    console = ConsoleDeps(
        api=deps,
        entropy=secrets.token_bytes,
        register=make_context(deployment).register,
        pages=console_pages(),
        rule_of=lambda sha256: rule_by_hash(sha256, ours=preset),
        confirmations=preset.confirmations,
        workers=fleet.workers if fleet else None,
        drain=fleet.drain if fleet else None,
        resume=fleet.resume if fleet else None,
        flower_url=deployment.flower_url,
        api_url="/api/docs",
        desk_url=f"{DESK}/",
        canary_seconds=deployment.canary_seconds,
        secure_cookies=not local,
        hosts=deps.hosts,
    )
    return Site(
        api=create_api(deps),
        console=create_console(console),
        desk=create_desk(_desk(deployment, deps, preset, local=local)),
    )


def _desk(deployment: Deployment, deps: Deps, preset: Preset, *, local: bool) -> DeskDeps:
    """Return the surroundings of the trader's desk: the API's, and what a new contract is bound to."""
    rules = deps.market_rules
    facts = ContractFacts(
        oracle_urls=tuple(deployment.oracles), oracles=preset.oracles, oracle_threshold=preset.oracle_threshold,
        fee_sats_per_vbyte=preset.fee_sats_per_vbyte, refund_delay_blocks=preset.refund_delay_blocks,
        confirmations=preset.confirmations,
        answer_seconds=0 if rules is None else rules.offers.answer_seconds,
    )  # fmt: skip
    return DeskDeps(
        api=deps, facts=facts, network=deployment.network, api_url="/api/docs", hosts=deps.hosts,
        secure_cookies=not local,
    )  # fmt: skip


def hosts_of(deployment: Deployment, *, local: bool) -> tuple[str, ...]:
    """Return the host names that are served, on the loopback its own and those that are set; empty: any.

    A page elsewhere whose name resolves to the loopback gets no answer so.
    """
    own = deployment.api_hosts
    return (*LOOPBACK, *own) if local or own else ()


class Site:
    """The API under /api, the trader's desk under /desk, the operator's console elsewhere, on one port.

    Each has its own rules about bodies and callers.
    """

    def __init__(self, *, api: FastAPI, console: ASGIApp, desk: ASGIApp | None = None) -> None:
        self._api, self._console, self._desk = api, console, desk
        self.closing: threading.Event = api.state.closing
        """Set when the server stops: event streams end then."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection; the server's start and stop are the API's, which has kernels to compile."""
        path = scope.get("path", "")
        if scope["type"] == "lifespan" or path == "/api" or path.startswith("/api/"):
            await self._api(scope, receive, send)
        elif self._desk is not None and (path == DESK or path.startswith(f"{DESK}/")):
            await self._desk({**scope, "root_path": scope.get("root_path", "") + DESK}, receive, send)
        else:
            await self._console(scope, receive, send)


def make_deps(deployment: Deployment, store: Store, wake: Callable[[], None]) -> Deps:
    """Return the surroundings of the API: the deployment's store, its path to sell options, its outbox.

    wake: called when something was put into the outbox. Raises what the deployment's settings deserve.
    """
    rule, market = sale_rule(deployment), load_market_preset(deployment.market_preset)
    return Deps(
        store=store,
        clock=_now,
        monotonic=time.monotonic,
        new_id=lambda: secrets.token_hex(16),
        create_option=_Seller(store, rule, wake, replay=deployment.replay_clock),
        submit=lambda _flow, *_ids: wake(),
        feed=rule.feed,
        fixing=rule.fixing,
        rate=rule.rate_bps / 10_000,
        replay_clock=deployment.replay_clock,
        fallback_volatility=rule.fallback_volatility_bps / 10_000,
        quote_seconds=rule.quote_seconds,
        refusal=rule.refusal,
        anonymous_roles=frozenset(deployment.api_anonymous_roles),
        cors_origins=deployment.api_cors_origins,
        desk=_desk_card(deployment, rule),
        hooks=hook_rule(deployment) if deployment.webhooks else None,
        pool=Pool(deployment) if deployment.node_url else None,
        fee_rule=fee_rule(load_preset(deployment.preset)),
        market_rules=MarketRules(
            preset=market.name, preset_sha256=market.sha256, listing=market.listing, offers=market.offers, sales=rule
        ),
    )


class Pool:
    """The node's pool, asked at most once in ``POOL_SECONDS``, however many look."""

    def __init__(self, deployment: Deployment) -> None:
        self._node = node_of(deployment, timeout_seconds=POOL_TIMEOUT_SECONDS)
        self._lock = threading.Lock()
        self._asked = -POOL_SECONDS
        self._seen: FeeMarket | BtcfiError | None = None

    def __call__(self) -> FeeMarket:
        """Return what was seen last, or look again. Raises what the node's answer deserves."""
        with self._lock:
            if self._seen is None or time.monotonic() - self._asked >= POOL_SECONDS:
                try:
                    self._seen = look(self._node)
                except BtcfiError as e:
                    self._seen = e
                self._asked = time.monotonic()
            if isinstance(self._seen, BtcfiError):
                raise self._seen
            return self._seen


def _desk_card(deployment: Deployment, rule: SaleRule) -> DeskCard | None:
    """Return what parties pin of this service, None where it has no desk's key. Raises InvalidInputError."""
    try:
        public = load_desk(deployment.desk_key_file)
    except NotFoundError:
        return None
    return DeskCard(
        public=public, network=deployment.network, oracle_threshold=load_preset(deployment.preset).oracle_threshold,
        preset=rule.preset, preset_sha256=rule.preset_sha256, programs={rule.program: rule.program_sha256},
        oracles=_Oracles(tuple(OracleClient(Web(url)) for url in deployment.oracles)),
    )  # fmt: skip


class _Oracles:
    """The oracles of new contracts, each by the key that it says is its own; one that is away is asked again."""

    def __init__(self, clients: tuple[OracleClient, ...]) -> None:
        self._clients = clients
        self._keys: dict[str, str] = {}
        self._asked_at = -math.inf
        self._asking = threading.Lock()

    def __call__(self) -> Sequence[tuple[str, str | None]]:
        away = [one for one in self._clients if one.url not in self._keys]
        if away and self._asking.acquire(blocking=False):  # one caller asks, the others hear what is known
            try:
                if time.monotonic() - self._asked_at > ASK_ORACLES_SECONDS:
                    for client in away:
                        with suppress(BtcfiError, KeyError):
                            self._keys[client.url] = hexadecimal(32).read(client.status()["oracle_key"], "key").hex()
                    self._asked_at = time.monotonic()
            finally:
                self._asking.release()
        return [(one.url, self._keys.get(one.url)) for one in self._clients]


class _Seller:
    """Creates options for the API: the same path as ``btcfi options create``."""

    def __init__(self, store: Store, rule: SaleRule, wake: Callable[[], None], *, replay: bool) -> None:
        self._store, self._rule, self._wake, self._replay = store, rule, wake, replay

    def __call__(self, order: Order) -> CreatedOption:
        wall = _now()
        with self._store.transaction() as session:
            now = rounds.market_now(session, self._rule.feed, replay=self._replay, now=wall)
            row = sell(session, order, self._rule, now=now, wall=wall)
        self._wake()
        return CreatedOption(
            option_id=row.id, premium_cents=row.premium_cents, premium_sats=row.premium_sats,
            collateral_sats=row.collateral_sats, taproot_address=row.address,
        )  # fmt: skip


class Publisher:
    """Publishes the outbox in a thread of its own: a request never waits for the broker, nor fails with it."""

    def __init__(self, publish: Callable[[], object] | None) -> None:
        """``publish``: sends what is unpublished; None when there is no broker to send to."""
        self._publish = publish
        self._work = threading.Event()
        self._stopped = False
        if publish is not None:
            threading.Thread(target=self._loop, name="btcfi-publisher", daemon=True).start()

    def wake(self) -> None:
        """Have the outbox published soon."""
        self._work.set()

    def stop(self) -> None:
        """Publish no more. What is left is the relay's."""
        self._stopped = True
        self._work.set()

    def _loop(self) -> None:
        wait = 0.0
        while not self._stopped:
            self._work.wait()
            self._work.clear()
            if self._stopped or self._publish is None:
                return
            try:
                self._publish()
                wait = 0.0
            except Exception as e:  # noqa: BLE001 - whatever it is, the thread lives on and the relay does the work
                wait = min(max(2 * wait, 0.5), LONGEST_BACKOFF_SECONDS)
                problem = str(e).splitlines()[0] if isinstance(e, BtcfiError) else type(e).__name__
                log.warning("the outbox was not published (%s); the relay will, or the next request", problem)
                time.sleep(wait)


def _celery(deployment: Deployment) -> Celery | None:
    """Return the deployment's Celery application, which every thread finds, or None when no broker is named."""
    if deployment.broker_url is None:
        return None
    app = create_app(deployment)
    app.set_default()
    return app


def _publish(store: Store) -> Callable[[], object]:
    """Return what publishes the outbox to the broker."""
    return lambda: publish_pending(store, _now())


def _say_where(address: str, port: int, *, any_host: bool) -> None:
    shown = f"[{address}]" if ":" in address else address
    sys.stderr.write(f"btcfi: serving http://{shown}:{port}, the API under /api (documentation: /api/docs)\n")
    if not ipaddress.ip_address(address).is_loopback:
        sys.stderr.write(
            "btcfi: this address is reachable by others, and keys travel as they are typed; put TLS in front\n"
        )
        if any_host:
            sys.stderr.write("btcfi: any host name is answered; name yours in BTCFI_API_HOSTS\n")
    sys.stderr.flush()


def _now() -> UnixSeconds:
    return UnixSeconds(int(time.time()))
