"""Two parties with their desks and mails on one embedded node, and nothing else: what one message does to its reader.

The guest is its Python twin, which the guest's own property tests hold equal to it: no compiler is waited for.
"""

import json
import time
from contextlib import contextmanager

from btcfi.adapters.chain.node import Node
from btcfi.adapters.keystore import Keystore
from btcfi.adapters.party.desk import PartyDesk
from btcfi.adapters.party.guest import Guest
from btcfi.adapters.party.mail import PartyMail
from btcfi.adapters.party.store import PartyStore
from btcfi.bitcoin.fees import FeeRule, SatsPerKvb
from btcfi.contracts.buckets import ToleranceRule
from btcfi.contracts.mandate import Bounds, CloseRule
from btcfi.contracts.messages import CET_FEE, ContractTerms, Order, Role, encode_order
from btcfi.contracts.payouts import breakpoints_of, condition_of, encode_terms
from btcfi.options.expiry import SettlementInput
from btcfi.options.payoff import settle_in_python
from btcfi.options.terms import OptionKind, OptionTerms
from btcfi.oracle.announcement import OracleEvent, announce
from btcfi.oracle.attestation import attest
from btcfi.units import BasisPoints, CentiBtc, Cents, CentsPerBtc, Hash32, Height, Sats, Slot
from btcfi.vm.program import load_program
from tests.support.chain import Wallet, embedded_node
from tests.support.contracts import ORACLES, MemoryLedger
from tests.support.mandates import give_mandate, mandate

NOW = int(time.time()) // 60 * 60
EXPIRY = Slot(NOW + 3_600)
PRICE = CentsPerBtc(12_500_000)
COLLATERAL = Sats(10_000_000)
FOLDERS = ("inbox", "outbox", "orders", "bids")
COINS = 6


def narrow_mandate(**changes):
    """What the owners of a pair allow: their own contracts, and little more."""
    bounds = {
        "american": False, "barrier": True, "kinds": (OptionKind.CALL, OptionKind.PUT),
        "collateral": Bounds(least=1_000_000, most=20_000_000), "exposure": Sats(50_000_000),
        "premium": Bounds(least=1_000, most=1_000_000), "premium_share": Bounds(least=0, most=1_000),
        "tolerance": Bounds(least=1, most=5_000), "funding_rate": Bounds(least=1_000, most=50_000),
        "cet_fee": Bounds(least=CET_FEE, most=CET_FEE), "life": Bounds(least=600, most=86_400),
        "window_slack": 7_200, "expiry_slack": Bounds(least=-6, most=12),
        "refund_delay": Bounds(least=5, most=2_016), "close": CloseRule.AGREED,
        "close_price": Bounds(least=1_000_000, most=30_000_000), "close_rate": Bounds(least=1_000, most=50_000),
        "close_fee": Sats(20_000), "unbidden": False, "presets": (Hash32(bytes(32)),),
    }  # fmt: skip
    programs = [load_program("option_settlement").program_hash]
    return mandate(**{"oracles": ORACLES[:1], "threshold": 1, "programs": programs} | bounds | changes)


class PythonGuest(Guest):
    """The payoff without a machine; it proves nothing."""

    def outputs(self, inputs):
        return [settle_in_python(SettlementInput.from_bytes(one)).to_bytes() for one in inputs]


class Side:
    """One party: its folder, its desk, its mail. ``restart`` makes both anew from what is on the disk."""

    def __init__(self, folder, number, node, cookie):
        self.folder, self._node, self._cookie = folder, node, cookie
        self.keystore = Keystore(bytes([number]) * 32)
        self._client, self.show = None, lambda _: None
        self.restart()

    def restart(self):
        self.close()
        self._client = Node(self._node.where, 20, cookie_file=self._cookie)
        self.store = PartyStore(self.folder / "party")
        guest = PythonGuest(load_program("option_settlement"))
        self.desk = PartyDesk(
            self.store, self.keystore, self._client, guest, fees=FeeRule(), show=self.show
        )  # fmt: skip
        if not self.desk.owner.known:
            self.allow()
        self.mail = PartyMail(self.desk, **{name: self.folder / name for name in FOLDERS})

    def allow(self, **changes):
        """Put a mandate in force: the pair's narrow one, changed."""
        give_mandate(self.desk, narrow_mandate(**changes))

    def close(self):
        if self._client is not None:
            self._client.close()

    def round(self):
        return self.mail.round(self._client.block_count())

    def put(self, folder, name, message):
        raw = message if isinstance(message, bytes) else json.dumps(message).encode()
        (self.folder / folder / f"{name}.json").write_bytes(raw)

    def said(self, name):
        path = self.folder / "outbox" / f"{name}.json"
        return json.loads(path.read_text()) if path.exists() else None

    def facts(self):
        """All that a message may change: what is signed, reserved, kept and promised."""
        kept = {
            str(path.relative_to(self.folder)): path.read_bytes()
            for room in ("party/contracts", "party/attestations", "party/nonces", "outbox", "bids")
            for path in sorted((self.folder / room).rglob("*"))
            if path.is_file() and path.name != "status.json"
        }
        return kept, self.desk.balance()


class Pair:
    """A seller, a buyer, their chain, and the oracles' events."""

    def __init__(self, folder, chain, cookie, number=1):
        """number: of the pair; each has keys of its own."""
        self.node, self.chain = chain.node, chain
        self.seller = Side(folder / "seller", 2 * number, chain.node, cookie)
        self.buyer = Side(folder / "buyer", 2 * number + 1, chain.node, cookie)
        self.chain.coins_for(self.seller.keystore.wallet_key(0).script, [10_200_000] * COINS + [50_000] * 2)
        self.chain.coins_for(self.buyer.keystore.wallet_key(0).script, [100_000] * COINS + [50_000] * 2)
        self.ledger, self._orders = MemoryLedger(), 0

    def close(self):
        self.seller.close()
        self.buyer.close()

    def carry(self, name, kind):
        """Give an answer to the other side and let it answer; returns the message."""
        source, target = (self.buyer, self.seller) if kind in ("accept", "close-request") else (self.seller, self.buyer)
        message = source.said(f"{name}.{kind}")
        target.put("inbox", f"{name}.{kind}", message)
        target.round()
        return message

    def reach(self, name, terms, kind):
        """Order a contract and carry its messages until one of this kind waits in its author's outbox."""
        self.order(name, terms)
        self.seller.round()
        for step in ("offer", "accept", "sign"):
            if step == kind:
                return
            self.carry(name, step)
        self.chain.mine(2)

    def terms(self, *, oracles=1, threshold=1, barrier=None, number=None, **changes):
        """Terms of a call that nobody has agreed on yet; each has a strike of its own."""
        self._orders += 1
        option = OptionTerms(
            kind=OptionKind.CALL, strike=CentsPerBtc(10_000_000 + (self._orders if number is None else number)),
            quantity=CentiBtc(10), barrier=barrier, american=False, expiry=EXPIRY, premium=Cents(5_000),
            collateral=COLLATERAL,
        )  # fmt: skip
        event = OracleEvent(
            feed="BTC-USD", expiry=EXPIRY, program_hash=load_program("option_settlement").program_hash,
            preset_hash=Hash32(bytes(32)), condition=condition_of(option, Slot(NOW)),
        )  # fmt: skip
        here = self.node.block_count()
        given = {
            "option": encode_terms(option), "collateral": COLLATERAL, "premium": Sats(50_000),
            "expiry_height": Height(here + 8), "refund_height": Height(here + 20), "rate": SatsPerKvb(2_000),
            "rule": ToleranceRule(tolerance=BasisPoints(5_000)), "breakpoints": breakpoints_of(option),
            "announcements": tuple(announce(secret, event) for secret in ORACLES[:oracles]), "threshold": threshold,
        }  # fmt: skip
        return ContractTerms(**given | changes)

    def order(self, name, terms=None):
        """The seller's owner orders, the buyer's owner bids."""
        terms = self.terms() if terms is None else terms
        self.seller.put("orders", name, encode_order(Order(terms=terms, role=Role.SELLER)))
        self.buyer.put("bids", name, encode_order(Order(terms=terms, role=Role.BUYER)))
        return terms

    def attestations(self, terms, price=PRICE):
        outcome = terms.announcements[0].event.outcome(price)
        return [
            attest(secret, one, outcome, self.ledger)
            for secret, one in zip(ORACLES, terms.announcements, strict=False)
        ]  # fmt: skip


@contextmanager
def open_chain(folder):
    """Give (funded chain, the node's cookie file)."""
    with embedded_node(folder / "chain") as (node, _):
        chain = Wallet(node)
        chain.fund()
        yield chain, folder / "chain" / ".cookie"


@contextmanager
def open_pair(folder, chain, cookie, number=1):
    pair = Pair(folder, chain, cookie, number)
    try:
        yield pair
    finally:
        pair.close()
