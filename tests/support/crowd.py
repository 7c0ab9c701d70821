"""A market of owners in processes of their own on one embedded deployment, and what is asked of it afterwards.

Everything is what ``btcfi up --market`` starts, with as many makers and takers as are wanted. The makers and takers are
SIMULATED; their signatures, letters, contracts and coins are real. Whoever asks here plays the auditor: it opens every
owner's folder, which no owner's process can say of another's.
"""

from __future__ import annotations

import os
import secrets
import stat
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import psutil
from sqlalchemy import select
from sqlmodel import col

from btcfi.adapters.chain.node import Node
from btcfi.adapters.keystore import Keystore, open_keystore
from btcfi.adapters.party.market_ledger import MARKET_FOLDER, MarketLedger
from btcfi.adapters.party.membership import Membership, require_joined
from btcfi.adapters.party.store import PartyStore
from btcfi.adapters.party.wallet import PartyWallet
from btcfi.adapters.signed_http import DeskRefusedError, SignedHttp
from btcfi.adapters.store.market import accounts
from btcfi.adapters.store.market.tables import PENDING_TAKES, AccountRow, TakeRow, TakeState
from btcfi.adapters.store.options.tables import SETTLED_OPTIONS, OptionRow
from btcfi.adapters.store.spine.database import Store
from btcfi.bitcoin.address import encode_address
from btcfi.bitcoin.keys import wallet_key
from btcfi.market.firm_offer import (
    FirmOffer,
    Side,
    SignedOffer,
    Take,
    encode_signed_offer,
    encode_signed_take,
    sign_offer,
    sign_take,
)
from btcfi.market.instrument import parse_instrument
from btcfi.oracle.venues.synthetic import LEGS, MARKETS
from btcfi.units import CentiBtc, Cents, Sats, UnixSeconds
from settings.deployment import Deployment
from tasks.context import make_context
from workers.audit import ChainView, audit, states_of
from workers.deployed import node_of
from workers.machine import rows, sources, trading
from workers.machine.cluster import Cluster
from workers.machine.parties import COINS_EACH, fill_parties
from workers.machine.rows import Here, Row
from workers.machine.trading import Crowd

SEED = 1
MINE_SECONDS = 2.0
POLL_SECONDS = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Used:
    """What one part's processes have used: seconds of processor, and megabytes of Pss."""

    cpu_s: float
    pss_mb: float
    processes: int


class Hand:
    """An owner that posts offers and takes by hand, as ``btcfi market`` does; its process signs."""

    def __init__(self, *, member: Membership, keystore: Keystore, store: PartyStore, node: Node) -> None:
        self.member, self.keystore, self.store, self.node = member, keystore, store, node
        self.secret = keystore.request_secret()
        self.http = SignedHttp(member.url, member.identity, self.secret, member.desk)
        self.ledger = MarketLedger(store.folder / MARKET_FOLDER)
        self.wallet = PartyWallet(store, keystore, node)

    def close(self) -> None:
        """Let its connections go."""
        self.http.close()
        self.node.close()

    def free(self) -> int:
        """Return the satoshis of its coins that no contract names."""
        return sum(coin.value for coin in self.wallet.free())

    def offer(self, name: str, side: Side, *, sats: int, cents: int, quantity: int = 20) -> SignedOffer:
        """Post an offer for ten minutes. sats, cents: of one bitcoin of it."""
        made = FirmOffer(
            maker=self.member.identity, desk=self.member.desk, instrument=parse_instrument(name), side=side,
            price=Sats(sats), price_cents=Cents(cents), quantity=CentiBtc(quantity), minimum=CentiBtc(1),
            valid_until=UnixSeconds(int(time.time()) + 600), number=self.ledger.next_number(),
        )  # fmt: skip
        signed = sign_offer(made, self.secret, secrets.token_bytes(32))
        self.ledger.add_offer(signed)
        (result,) = self.http.post("/offers", {"offers": [encode_signed_offer(signed)]})["results"]
        if result["problem"] is not None:
            raise RuntimeError(result["problem"])
        return signed

    def take(self, signed: SignedOffer, quantity: int = 2, *, seconds: int = 120) -> str:
        """Take of an offer, and return the option's id."""
        offer = signed.offer
        made = Take(
            taker=self.member.identity, offer_id=offer.id, quantity=CentiBtc(quantity), price=offer.price,
            price_cents=offer.price_cents, valid_until=UnixSeconds(int(time.time()) + seconds),
            number=self.ledger.next_number(),
        )  # fmt: skip
        take = sign_take(made, self.secret, secrets.token_bytes(32))
        self.ledger.add_take(take, signed)
        self.http.post("/takes", encode_signed_take(take))
        return made.option_id


@dataclass(kw_only=True)
class Market:
    """A market that runs."""

    cluster: Cluster
    size: Crowd
    owners: tuple[str, ...]
    """Those that have joined."""
    store: Store

    @property
    def deployment(self) -> Deployment:
        """The deployment, with its addresses."""
        return self.cluster.deployment

    def folder(self, name: str) -> Path:
        """Return an owner's folder."""
        return trading.owners_folder(self.deployment).resolve() / name

    def identity(self, name: str) -> str:
        """Return an owner's account."""
        with self.store.reading() as session:
            return accounts.account_by_name(session, name).id

    def mining_address(self) -> str:
        """Return where the service's own blocks pay."""
        return encode_address(wallet_key(self.deployment.wallet_seed_file.read_bytes(), 0).script)

    # ---- what has happened

    def takes(self) -> list[TakeRow]:
        """Return every take, the oldest first."""
        with self.store.reading() as session:
            return list(session.execute(select(TakeRow).order_by(col(TakeRow.created_ms))).scalars())

    def states(self) -> Counter[str]:
        """Return how many takes are in each state."""
        with self.store.reading() as session:
            return Counter(session.execute(select(col(TakeRow.state))).scalars())

    def settled(self) -> int:
        """Return how many options of takes are settled."""
        with self.store.reading() as session:
            query = select(col(OptionRow.id)).where(
                col(OptionRow.take_id).is_not(None), col(OptionRow.state).in_(list(SETTLED_OPTIONS))
            )
            return len(session.execute(query).all())

    def wait_for(self, done, seconds: float) -> bool:
        """Return whether ``done`` came to be true in time."""
        deadline = time.monotonic() + seconds
        while not done():
            if time.monotonic() > deadline:
                return False
            time.sleep(POLL_SECONDS)
        return True

    def wait_funded(self, many: int, seconds: float) -> bool:
        """Return whether so many takes were funded in time."""
        return self.wait_for(lambda: self.states()[TakeState.FUNDED] >= many, seconds)

    def end_trading(self, seconds: float = 180.0) -> list[str]:
        """Suspend every owner's account, as an operator may, and return the takes that are open after ``seconds``."""
        with self.store.transaction() as session:
            for row in session.execute(select(AccountRow)).scalars():
                if row.name in self.owners:
                    accounts.suspend(session, row.id, now=UnixSeconds(int(time.time())))
        self.wait_for(lambda: not any(self.states()[one] for one in PENDING_TAKES), seconds)
        return [one.id for one in self.takes() if one.state in PENDING_TAKES]

    def seconds_to_check(self) -> list[float]:
        """Return, of each take that was checked, the seconds from its POST to the check of both pre-signatures."""
        return [(one.checked_ms - one.created_ms) / 1e3 for one in self.takes() if one.checked_ms is not None]

    # ---- what must hold

    def broken(self) -> list[str]:
        """Return the broken promises of ``btcfi audit``: every option against the chain, every take, every state."""
        view, node = ChainView(), node_of(self.deployment)
        view.follow(node)
        states = states_of(self.store)
        view.follow(node)
        node.close()
        found = audit(self.store, view, states, complete=False, now=UnixSeconds(int(time.time())))
        return [str(one) for one in found]

    def miscounted(self) -> list[str]:
        """Return the takes that are not what both owners' own folders say: lost, doubled, or another funding.

        What was funded is one contract of the maker and one of the taker with one funding.
        """
        held: dict[str, dict[str, list[str]]] = {}
        for name in self.owners:
            identity = self.identity(name)
            for contract in PartyStore(self.folder(name)).contracts():
                if contract.order:
                    txid = "" if contract.withdrawn or contract.funding is None else contract.funding.txid.hex()
                    held.setdefault(contract.order, {}).setdefault(identity, []).append(txid)
        found = []
        for take in self.takes():
            if take.state != TakeState.FUNDED:
                continue
            sides = held.get(take.option_id, {})
            if set(sides) != {take.maker, take.taker}:
                found.append(f"{take.option_id}: held by {len(sides)} owners")
            elif any(len(many) != 1 for many in sides.values()):
                found.append(f"{take.option_id}: more than once in one folder")
            elif not any(many[0] for many in sides.values()):
                found.append(f"{take.option_id}: funded, and no owner has its funding")
        return found

    def overheard(self) -> list[str]:
        """Return what an owner was told of another's things when it asked for them, signed by its own key: nothing."""
        of = {name: self.identity(name) for name in self.owners}
        takes, found = self.takes(), []
        for name, identity in of.items():
            with self._asks(name) as http:
                found += [
                    f"{name} read {path} of {other[:8]}"
                    for path in ("/positions", "/takes", "/offers", "/fills")
                    for other in of.values()
                    if other != identity and _answer(http, path, account=other) is not None
                ]
                found += [
                    f"{name} read take {take.id[:8]}"
                    for take in takes[-20:]
                    if identity not in {take.maker, take.taker} and _answer(http, f"/takes/{take.id}") is not None
                ]
                for held in http.get("/positions", limit=100)["items"]:
                    take = next((one for one in takes if one.id == held["take_id"]), None)
                    if take is None or identity not in {take.maker, take.taker}:
                        found.append(f"{name} was shown the position {held['take_id']}")
        return found

    @contextmanager
    def _asks(self, name: str) -> Iterator[SignedHttp]:
        hand = self.hand(name)
        try:
            yield hand.http
        finally:
            hand.close()

    def hand(self, name: str) -> Hand:
        """Return an owner at its own keyboard, beside its process."""
        folder = self.folder(name)
        store = PartyStore(folder)
        keystore = open_keystore(store.keystore_path, (folder / "passphrase").read_text().splitlines()[0])
        return Hand(
            member=require_joined(folder, keystore), keystore=keystore, store=store, node=node_of(self.deployment)
        )  # fmt: skip

    def trespasses(self) -> list[str]:
        """Return what of one owner's processes reaches into another's folder, by /proc: nothing.

        Looked at: the mode of each folder, open files, the current directory, the environment for any other's words.
        """
        folders = {name: self.folder(name) for name in self.owners}
        words = {name: (folder / "passphrase").read_bytes().split()[0] for name, folder in folders.items()}
        found = [
            f"{name}: mode {stat.S_IMODE(folder.stat().st_mode):o}"
            for name, folder in folders.items()
            if stat.S_IMODE(folder.stat().st_mode) != 0o700 or folder.is_symlink()
        ]
        for name, process in self.processes():
            there = Path("/proc", str(process.pid))
            try:
                links = [str((there / "cwd").readlink()), *_links(there / "fd")]
                environment = (there / "environ").read_bytes()
            except (FileNotFoundError, ProcessLookupError):  # it has died meanwhile
                continue
            for other in self.owners:
                if other == name:
                    continue
                inside = f"{folders[other]}/"
                found += [f"{name} has {link} open" for link in links if f"{link}/".startswith(inside)]
                if words[other] in environment or os.fsencode(inside) in environment:
                    found.append(f"{name} is told of {other}")
        return found

    def processes(self) -> list[tuple[str, psutil.Process]]:
        """Return every process of every owner: its party, what quotes for it, and what they have started."""
        found = []
        for part in self.cluster.parts:
            name = part.name.removesuffix("-quotes")
            if name in self.owners and part.process is not None:
                with suppress(psutil.NoSuchProcess):  # one that dies again and again
                    top = psutil.Process(part.process.pid)
                    found += [(name, one) for one in (top, *top.children(recursive=True))]
        return found

    def used(self) -> Mapping[str, Used]:
        """Return what the processes of each part have used until now, and this one's as ``up``."""
        found = {"up": _used([psutil.Process()])}
        for part in self.cluster.parts:
            if part.process is not None:
                top = psutil.Process(part.process.pid)
                found[part.name] = _used([top, *top.children(recursive=True)])
        nursery = next((one for one in psutil.Process().children() if "workers.machine.nursery" in one.cmdline()), None)
        return found if nursery is None else found | {"nursery": _used([nursery])}


def _used(processes: list[psutil.Process]) -> Used:
    cpu = [sum(one.cpu_times()[:2]) for one in processes]
    pss = [one.memory_full_info().pss / 1e6 for one in processes]
    return Used(cpu_s=sum(cpu), pss_mb=sum(pss), processes=len(processes))


def _links(folder: Path) -> list[str]:
    found = []
    for one in folder.iterdir():
        try:
            found.append(str(one.readlink()))
        except FileNotFoundError:  # closed meanwhile
            continue
    return found


def _answer(http: SignedHttp, path: str, **query: object) -> object | None:
    """Return what the desk answered, None for a 404. Raises DeskRefusedError for any other refusal."""
    try:
        return http.get(path, **query)
    except DeskRefusedError as e:
        if e.status == 404:
            return None
        raise


def misbehaving(name: str, how: str) -> Row:
    """Return the row of an owner whose process is ``tests.support.bad_party``."""
    honest = trading.owner(name)

    def command(here: Here) -> list[str]:
        words = honest.command(here) if honest.command is not None else []
        return [sys.executable, "-m", "tests.support.bad_party", how, *words[3:]]

    return replace(honest, command=command)


@contextmanager
def market(
    folder: Path, size: Crowd, *, pace: float = 5.0, preset: str = trading.MARKET_PRESET,
    bad: Mapping[str, str] | None = None, coins: int = 6,
) -> Iterator[Market]:  # fmt: skip
    """Run a deployment with a simulated market and a crowd, until the block ends. preset: of the market.

    bad: what is wrong with owners by their names, empty for the honest; then nobody quotes and nobody takes by itself,
    and each has so many ``coins``.
    """
    changes = {
        "mine_seconds": MINE_SECONDS, "tick": False, "replay_clock": True, "venue_rate_limit": False,
        "venues": tuple(str(one.venue) for one in MARKETS), "legs": tuple(map(str, LEGS)), "market_preset": preset,
        "api_port": 0, "flower_port": 0, "metrics_port": 0,
    }  # fmt: skip
    deployment = Deployment().within(folder.resolve()).model_copy(update=changes)
    with Cluster(deployment, simulated=SEED, api=True, metrics=True) as cluster:
        cluster.start()
        here = make_context(cluster.deployment)
        sources.note_market(here.store, here.deployment, f"simulated {SEED}")
        fill_parties(here, COINS_EACH)
        cluster.wait_ready(90)
        cluster.add(rows.market(None, pace))
        said: list[str] = []
        if bad is None:
            there = trading.begin(cluster, said.append, size)
        else:
            owners = [misbehaving(name, how) if how else trading.owner(name) for name, how in bad.items()]
            there = trading.bring(cluster, owners, dict.fromkeys(bad, coins), said.append)
        if said:
            raise RuntimeError("; ".join(said))
        try:
            yield Market(cluster=cluster, size=size, owners=tuple(there), store=here.store)
        finally:
            here.store.close()


def p95(samples: list[float]) -> float:
    """Return the 95th percentile."""
    return float(np.percentile(samples, 95))
