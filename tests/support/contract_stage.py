"""The service between two parties in one process: every task called by hand, on a real node, with real desks."""

import os
import time
from contextlib import contextmanager
from dataclasses import replace

from sqlmodel import select

from btcfi.adapters.chain.node import Node
from btcfi.adapters.files import write_private
from btcfi.adapters.keystore import LEAST_N, create_keystore, open_keystore
from btcfi.adapters.party.desk import PartyDesk
from btcfi.adapters.party.guest import Guest
from btcfi.adapters.party.mail import PartyMail
from btcfi.adapters.party.store import PartyStore
from btcfi.adapters.store.chain.walk import walked_to
from btcfi.adapters.store.options import attesting, contracts
from btcfi.adapters.store.options.options import find_option
from btcfi.adapters.store.options.sales import Order, sell
from btcfi.adapters.store.options.tables import SettlementRow
from btcfi.adapters.store.spine.database import Store
from btcfi.bitcoin.address import encode_address
from btcfi.bitcoin.fees import FeeRule
from btcfi.contracts.mandate import Bounds
from btcfi.contracts.option import MIN_REFUND_DELAY
from btcfi.options.terms import OptionKind
from btcfi.oracle.fixing import MINUTE
from btcfi.units import CentiBtc, CentsPerBtc, Height, Slot, UnixSeconds
from btcfi.vm.program import hashes_of, load_program
from settings.deployment import Deployment
from tasks import attest, chain, checks, context, options, settlement
from tasks import contracts as exchange_tasks
from tests.support.chain import embedded_node, real_node
from tests.support.mandates import give_mandate, mandate
from tests.support.oracles import Served, StoreSource, made_oracle, secrets_of, serve_all, sign_minute, venues
from tests.support.rounds import add_minute
from workers.app import create_app
from workers.deployed import sale_rule
from workers.machine import parties
from workers.machine.oracles import trust_before

SLOT = Slot(int(time.time()) // 60 * 60 - 3600)
EXPIRY = Slot(SLOT + 600)
SPOT = 5_000_000
COINS = 4


@contextmanager
def open_stage(folder, kind="embedded", **sizes):
    """Give a stage on a new chain of one of ``tests.support.chain.KINDS``."""
    start, cookie = (real_node, "regtest/.cookie") if kind == "bitcoind" else (embedded_node, ".cookie")
    with (
        start(folder / "chain") as (node, _),
        Stage(folder / "data", node, folder / "chain" / cookie, **sizes) as made,
    ):
        yield made


def _make_party(folder):
    """Make what a party's own process makes at its first start: a passphrase, keys, and an address for all to see."""
    store = PartyStore(folder / "party")
    if not store.keystore_path.exists():
        write_private(folder / "party" / "passphrase", f"a passphrase of {folder.name}\n".encode())
        keys = create_keystore(store.keystore_path, _passphrase(folder), cost=LEAST_N)
        (folder / "address").write_text(encode_address(keys.wallet_key(0).script) + "\n")


def _passphrase(folder):
    own = folder / "party" / "passphrase"
    return (own if own.exists() else folder / "passphrase").read_text().strip()  # beside it in earlier releases


class Stage:
    """A store, a node, two desks, and the tasks called by hand. Leaving it closes its connections.

    ``resumed``: what is in the folder goes on, with the code of today.
    """

    def __init__(self, folder, node, cookie, *, coins=COINS, fee_coins=2, resumed=False):
        self.node = node
        self._nodes = []
        self.deployment = Deployment(
            data_dir=folder, broker_url="memory://", node_url=node.where, node_cookie_file=cookie, replay_clock=True,
            fee_coins=fee_coins, venues=venues(), legs="none",
        )  # fmt: skip
        parties.prepare(self.deployment)
        self.oracles = serve_all(
            self.deployment, StoreSource(Store(self.deployment.database_url)),
            trust_before=Slot(trust_before(self.deployment)),
        )  # fmt: skip
        self.deployment = self.deployment.model_copy(update={"oracles": tuple(one.url for one in self.oracles)})
        for party in parties.PARTIES:
            _make_party(folder / "parties" / party)
        create_app(self.deployment)
        context.node.cache_clear()
        self.here = context.context()
        self.here.store.migrate()
        if not resumed:
            parties.fill_wallets(node, self.deployment, coins=coins)
            with self.here.store.transaction() as session:
                add_minute(session, SLOT, SPOT)
                sign_minute(session, self.deployment.nodes_dir, SLOT)
        self.mails = {name: self.mail(folder / "parties" / name) for name in parties.PARTIES}
        chain.watch()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        for oracle in self.oracles:
            oracle.close()
        for node in (*self._nodes, context.node(os.getpid())):
            node.close()
        self.here.store.close()

    def mail(self, folder):
        store = PartyStore(folder / "party")
        opened = open_keystore(store.keystore_path, _passphrase(folder))
        node = Node(self.deployment.node_url, 20, cookie_file=self.deployment.node_cookie_file)
        self._nodes.append(node)
        desk = PartyDesk(
            store, opened, node, Guest(load_program("option_settlement")), fees=FeeRule()
        )  # fmt: skip
        if not desk.owner.known:  # restarted: its owner has signed already
            self.give_mandate(desk)
        return PartyMail(desk, inbox=folder / "inbox", outbox=folder / "outbox")

    def give_mandate(self, desk, **changes):
        """Have a desk sign what this service proposes: its owner is us."""
        preset = self.here.preset
        secrets = secrets_of(self.deployment)
        programs = hashes_of("option_settlement")
        wide = mandate(oracles=secrets, threshold=preset.oracle_threshold, programs=programs, feeds=("BTC/USD",))
        delay, slack = Bounds(least=MIN_REFUND_DELAY, most=65_535), Bounds(least=-10_000, most=1_000_000)
        wide = replace(wide, refund_delay=delay, expiry_slack=slack)
        give_mandate(desk, replace(wide, **changes))

    def sell(self, name, kind=OptionKind.CALL, strike=4_500_000, *, barrier=None, american=False, fixing=MINUTE):
        wanted = Order(
            option_id=name, kind=kind, strike=CentsPerBtc(strike), quantity=CentiBtc(2), american=american,
            barrier=None if barrier is None else CentsPerBtc(barrier), expiry=EXPIRY, fixing=fixing,
        )  # fmt: skip
        with self.here.store.transaction() as session:
            sell(session, wanted, sale_rule(self.deployment), now=UnixSeconds(SLOT + 60))

    def talk(self, rounds=6):
        """Let messages go back and forth, and have what is signed checked."""
        for _ in range(rounds):
            exchange_tasks.exchange()
            with self.here.store.reading() as session:
                signed = [row.option_id for row in contracts.unfinished(session) if row.state == "signed"]
            for option_id in signed:
                checks.check(option_id)
            for mail in self.mails.values():
                mail.round(self.node.block_count())
        exchange_tasks.exchange()

    def mine(self, blocks=1):
        for _ in range(blocks):
            self.node.generate(1, context.mining_address(self.deployment, self.node.block_count()))
        chain.watch()

    def walked(self):
        with self.here.store.reading() as session:
            return walked_to(session).height

    def price(self, price, slot=EXPIRY, **more):
        with self.here.store.transaction() as session:
            add_minute(session, slot, price, **more)
            sign_minute(session, self.deployment.nodes_dir, slot)

    def settle(self):
        """Expire what is due, attest, run, and send: what the queue would carry."""
        options.expire_due("BTC/USD")
        self.attest()
        with self.here.store.reading() as session:
            due = [row.id for row in session.exec(select(SettlementRow).where(SettlementRow.state == "due")).all()]
        settlement.execute_batch(due)
        with self.here.store.reading() as session:
            long = session.exec(select(SettlementRow).where(SettlementRow.state == "executed")).all()
        for row in long:
            settlement.close_proof([settlement.prove_part(row.id, 0, row.parts)], row.id)
        chain.settle()

    def serve_again(self, number):
        """Have an oracle that went away answer again, on the same folder and port."""
        gone = self.oracles[number]
        again = made_oracle(gone.oracle.folder, gone.oracle.sources, trust_before=gone.oracle.settings.trust_before)
        self.oracles[number] = Served(again, gone.port)

    def attest(self):
        with self.here.store.reading() as session:
            events = attesting.unattested(session)
        for event in events:
            attest.attest(event)

    def state(self, name="one"):
        with self.here.store.reading() as session:
            return find_option(session, name).state

    def row(self, table, **conditions):
        with self.here.store.reading() as session:
            query = select(table)
            for field, value in conditions.items():
                query = query.where(getattr(table, field) == value)
            return session.exec(query).one()

    def fund(self, *names):
        self.talk()
        self.mine(6)
        assert [self.state(name) for name in names] == ["ACTIVE"] * len(names)

    def undo(self, blocks):
        """Reorganise: the last blocks leave the chain, and as many and one more come without their transactions."""
        top = self.node.block_count()
        self.node.invalidate(self.node.block_hash(Height(top - blocks + 1)))
        address = (self.deployment.parties_dir / "seller" / "address").read_text().strip()
        for _ in range(blocks + 1):
            self.node.generate_block(address, [])
        chain.watch()
