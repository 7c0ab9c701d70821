"""The service with accounts behind it in one process: letters through the store, real desks, a chain."""

import time
from base64 import b64decode, b64encode
from dataclasses import dataclass

from sqlmodel import select

from btcfi.adapters.chain.node import Node
from btcfi.adapters.desk_key import load_desk_key
from btcfi.adapters.keystore import LEAST_N, create_keystore
from btcfi.adapters.party.desk import PartyDesk
from btcfi.adapters.party.guest import Guest
from btcfi.adapters.party.mail import PartyMail
from btcfi.adapters.party.market_deals import MarketDeals
from btcfi.adapters.party.market_ledger import MARKET_FOLDER, MarketLedger
from btcfi.adapters.party.membership import Membership
from btcfi.adapters.party.postman import Postman
from btcfi.adapters.party.store import PartyStore
from btcfi.adapters.store.market import accounts, letters, offers, takes
from btcfi.adapters.store.market.tables import FirmOfferRow, TakeRow
from btcfi.adapters.store.options import contracts
from btcfi.adapters.store.options.contract_tables import ContractRow
from btcfi.adapters.store.options.sales import read_market
from btcfi.adapters.store.options.tables import OptionRow
from btcfi.adapters.store.prices.tables import RoundRow
from btcfi.bitcoin.fees import FeeRule
from btcfi.bitcoin.wallet import COINBASE_MATURITY
from btcfi.contracts.mandate import CloseRule
from btcfi.market.firm_offer import Side
from btcfi.market.instrument import Instrument
from btcfi.options.terms import OptionKind
from btcfi.oracle.fixing import MINUTE
from btcfi.units import CentsPerBtc, UnixSeconds
from btcfi.vm.program import load_program
from settings.market_preset import load_market_preset
from tasks import checks
from tasks import contracts as exchange_tasks
from tests.support.accounts import Trader
from tests.support.contract_stage import EXPIRY, SLOT, Stage
from workers.deployed import sale_rule

QUANTITY = 2


class _LongPast:
    """A preset's rule that does not mind that the option of these tests expired an hour ago by the wall's clock."""

    most_open = 100

    @staticmethod
    def refusal(*_, **__):
        return None


@dataclass
class _Connection:
    """What the API does with an account's letters."""

    stage: "MarketStage"
    identity: str

    def get(self, path, *, patience=0, after, wait, limit):
        with self.stage.here.store.reading() as session:
            rows = letters.waiting(session, self.identity, after=after, limit=limit)
            return {
                "letters": [{"id": one.id, "name": one.name, "sealed": b64encode(one.sealed).decode(),
                             "sent_at_unix": one.sent_at_unix} for one in rows],
                "cursor": after,
            }  # fmt: skip

    def post(self, path, body):
        now = self.stage.here.now()
        with self.stage.here.store.transaction() as session:
            if path == "/letters/acknowledge":
                letters.acknowledge(session, self.identity, body["ids"], now=now)
            else:
                sealed = b64decode(body["sealed"])
                letters.post(
                    session, sender=self.identity, recipient=None, name=body["name"], sealed=sealed, now=now
                )  # fmt: skip
        return body


class Account:
    """One account with everything that its process has, run by hand. lie: changes a message before it is sent."""

    def __init__(self, stage, name):
        self.stage, self.name, self.lies, self.silent = stage, name, {}, False
        self.folder = stage.deployment.data_dir / "accounts" / name
        store = PartyStore(self.folder / "party")
        keystore = create_keystore(store.keystore_path, f"a passphrase of {name}", cost=LEAST_N)
        self.trader = Trader(name=name, keystore=keystore)
        registered = self.trader.registered(desk=stage.desk.public.desk_key)
        with stage.here.store.transaction() as session:
            accounts.register(session, registered, now=stage.here.now())
        member = Membership(
            url="http://desk.test", network="regtest", desk_box=stage.desk.public.box_key, registered=registered
        )
        self.node = Node(stage.deployment.node_url, 20, cookie_file=stage.deployment.node_cookie_file)
        stage._nodes.append(self.node)
        guest = Guest(load_program("option_settlement"))
        self.desk = PartyDesk(store, keystore, self.node, guest, fees=FeeRule())
        stage.give_mandate(self.desk, unbidden=False, close=CloseRule.AGREED)
        self.ledger = MarketLedger(self.folder / MARKET_FOLDER)
        self.inbox, self.outbox = self.folder / "mail" / "inbox", self.folder / "mail" / "outbox"
        connection = _Connection(stage, self.id)
        self.postman = Postman(
            connection, connection, member=member, keystore=keystore, inbox=self.inbox, outbox=self.outbox
        )
        self._ahead = 0.0
        deals = MarketDeals(member, self.ledger, clock=lambda: time.time() + self._ahead)
        self.mail = PartyMail(self.desk, inbox=self.inbox, outbox=self.outbox, deals=deals)
        self._numbers = iter(range(1, 1_000))

    @property
    def id(self):
        return self.trader.identity.hex()

    def deals_clock_ahead(self, seconds):
        """Have it read its messages so much later."""
        self._ahead = seconds

    def work(self):
        """What one turn of ``party run`` does."""
        if self.silent:
            return
        self.postman.fetch(0)
        self.mail.round(self.stage.node.block_count())
        for kind, lie in self.lies.items():
            for path in self.outbox.glob(f"*.{kind}.json"):
                lie(path)
        self.postman.deliver()

    def free(self):
        return sum(coin.value for coin in self.desk.wallet.free())

    def received(self):
        """Names of what the postman has brought, handled or not."""
        return {path.name.removesuffix(".json") for path in self.inbox.rglob("*.json")}

    def offer(self, *, side=Side.ASK, quantity=10 * QUANTITY, strike=4_500_000, valid_for=300, **changes):
        instrument = Instrument(kind=OptionKind.CALL, strike=CentsPerBtc(strike), expiry=EXPIRY, fixing=MINUTE)
        signed = self.trader.offer(
            instrument.name, side, desk=self.stage.desk.public.desk_key, quantity=quantity,
            valid_until=UnixSeconds(int(time.time()) + valid_for), number=next(self._numbers),
            **{"price": 10_000_000, "price_cents": 500_000} | changes,
        )  # fmt: skip
        self.ledger.add_offer(signed)
        stage = self.stage
        with stage.here.store.transaction() as session:
            found = read_market(session, sale_rule(stage.deployment), now=UnixSeconds(SLOT + 60))
            row = accounts.account(session, self.id)
            (posted,) = offers.post_offers(
                session, row, [signed], rule=_LongPast(), market=found, now=stage.here.now()
            )  # fmt: skip
            assert posted.problem is None
        return signed

    def take(self, offer, quantity=QUANTITY, valid_for=120, **changes):
        """Take a quantity of an offer; return the option's id."""
        signed = self.trader.take(
            offer, quantity, valid_until=UnixSeconds(int(time.time()) + valid_for), number=next(self._numbers),
            **changes,
        )  # fmt: skip
        self.ledger.add_take(signed, offer)
        stage = self.stage
        with stage.here.work() as session:
            rule = sale_rule(stage.deployment)
            takes.take(session, signed, rule=rule, now=UnixSeconds(SLOT + 60), wall=UnixSeconds(SLOT + 60))
        return signed.take.option_id


class MarketStage(Stage):
    """A stage with accounts: the two folders that were there before them are still there."""

    def __init__(self, folder, node, cookie, *, names, coins=4):
        super().__init__(folder, node, cookie, coins=2)
        self.desk = load_desk_key(self.deployment.desk_key_file)
        with self.here.store.transaction() as session:
            for row in session.exec(select(RoundRow)).all():
                row.closed_at_unix = row.slot + 60
        self.accounts = {name: Account(self, name) for name in names}
        for one in self.accounts.values():
            node.generate(coins, one.desk.address())
        node.generate(COINBASE_MATURITY, self.accounts[names[0]].desk.address())
        self.answer_seconds = load_market_preset(self.deployment.market_preset).offers.answer_seconds
        self.mine()

    def trade(self, rounds=6):
        """Carry letters and let every account answer, and have done what the queue of checks would carry."""
        for _ in range(rounds):
            exchange_tasks.carry(self.here)
            with self.here.store.reading() as session:
                under_way = {row.option_id: (row.state, row.last_error) for row in contracts.unfinished(session)}
            for name, (state, error) in under_way.items():
                if state == "signed":
                    checks.check(name)
                elif state == "accepted" and error is not None:
                    checks.check_accept(name)
            exchange_tasks.exchange()  # as a take that failed asks for
            for one in self.accounts.values():
                one.work()
        exchange_tasks.carry(self.here)

    def answer(self, *some):
        """Carry letters, and let these accounts alone answer."""
        exchange_tasks.carry(self.here)
        for one in some:
            one.work()
        exchange_tasks.carry(self.here)

    def option(self, name):
        return self.row(OptionRow, id=name)

    def contract(self, name):
        return self.row(ContractRow, option_id=name)

    def taken(self, name):
        return self.row(TakeRow, option_id=name)

    def offered(self, signed):
        return self.row(FirmOfferRow, id=signed.offer.id.hex())
