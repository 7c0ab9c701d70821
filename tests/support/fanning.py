"""Fan-outs for tests: owners with fixed keys, oracles of one event of returns, a book funded, signed and attested."""

from contextlib import contextmanager
from fractions import Fraction
from functools import cached_property

from btcfi import secp256k1
from btcfi.bitcoin.fees import SatsPerKvb
from btcfi.bitcoin.keys import TaprootKey
from btcfi.bitcoin.transaction import OutPoint, TxOut
from btcfi.contracts.option import Contribution
from btcfi.hashes import tagged_hash
from btcfi.oracle.announcement import OracleEvent, announce
from btcfi.oracle.attestation import attest
from btcfi.swaps.contract import CONTRACTS, LOT, Rates
from btcfi.swaps.fanout.closing import Closing, build_close
from btcfi.swaps.fanout.funding import build_funding
from btcfi.swaps.fanout.graph import FanOut
from btcfi.swaps.fanout.presign import Attested, check_presignatures, presign
from btcfi.swaps.fanout.terms import FanOwner, FanTaker, FanTerms
from btcfi.swaps.onchain import burned_by
from btcfi.swaps.returns import Side
from btcfi.units import Hash32, Sats, Slot, UnixSeconds
from tests.support.chain import Wallet, chain, output_of
from tests.support.contracts import MemoryLedger
from tests.support.little_chain import wallet_here

LOCK = UnixSeconds(1_800_000_000)
NO_RATES = Rates(target_ppm=0, basis_ppm=0)
USUAL_RATES = Rates(target_ppm=1_500, basis_ppm=300)
BTCUSD = CONTRACTS["BTCUSD"]
ORACLES = tuple(tagged_hash("tests/fan/oracle", bytes([place])) for place in range(3))


def secret_of_owner(name):
    return tagged_hash("tests/fan/owner", str(name).encode())


def announcements(lock=LOCK, *, digits=5, oracles=1):
    event = OracleEvent(
        feed="BTCUSD return", expiry=Slot(lock - lock % 60 - 17_100), program_hash=Hash32(bytes(32)),
        preset_hash=Hash32(bytes(32)), digits=digits,
    )  # fmt: skip
    return tuple(announce(secret, event) for secret in ORACLES[:oracles])


def positions(longs, shorts, required=10 * LOT):
    return [(Side.LONG, required)] * longs + [(Side.SHORT, required)] * shorts


def fan_terms(
    taken, *, lock=LOCK, digits=5, oracles=1, threshold=1, rates=NO_RATES, names=None, said=None, contract=BTCUSD
):
    """Terms of a provider and takers (side, required); ``names`` give them other keys."""
    names = names or range(len(taken) + 1)
    keys = [secret_of_owner(name) for name in names]
    public = [secp256k1.public_key_compressed(key) for key in keys]
    scripts = [TaprootKey(secret=key).script for key in keys]
    takers = [
        FanTaker(key=key, script=script, side=side, required=Sats(required))
        for (side, required), key, script in zip(taken, public[1:], scripts[1:], strict=True)
    ]
    return FanTerms(
        contract=contract, rates=rates, provider=FanOwner(key=public[0], script=scripts[0]), takers=tuple(takers),
        announcements=said or announcements(lock, digits=digits, oracles=oracles), threshold=threshold, lock=lock,
    )  # fmt: skip


def on_paper(terms):
    """A fan-out whose coins are on no chain."""
    return FanOut(terms=terms, coins={p: OutPoint(txid=bytes([p + 1]) * 32, index=p) for p in terms.margins})


class Book:
    """A fan-out with every owner's secret: signed by all, checked by all, attested."""

    def __init__(self, fan, names=None):
        self.fan, self.terms = fan, fan.terms
        self.secrets = [secret_of_owner(name) for name in names or range(len(fan.terms.owners))]
        self.keys = [TaprootKey(secret=secret) for secret in self.secrets]

    @cached_property
    def presignatures(self):
        return {place: presign(self.fan, place, secret) for place, secret in enumerate(self.secrets)}

    def check(self):
        for place, one in self.presignatures.items():
            check_presignatures(self.fan, place, one)
        return self

    def attested(self, part, oracles=None):
        """The book after the oracles have attested a return, a part of the required margin."""
        outcome = self.terms.grid.outcome(Fraction(part))
        said = [
            attest(secret, announcement, outcome, MemoryLedger())
            for secret, announcement in zip(ORACLES, self.terms.announcements, strict=False)
        ][slice(oracles)]
        return Attested.of(self.fan, self.presignatures, said)

    def closed(self, part, rate):
        """The close of all at a return, signed by all."""
        close = build_close(self.fan, self.terms.grid.outcome(Fraction(part)), rate=rate)
        views = [Closing(close) for _ in self.secrets]
        nonces = [
            view.nonces(secret, [tagged_hash("tests/fan/nonce", secret + bytes([i])) for i in range(len(close.owners))])
            for view, secret in zip(views, self.secrets, strict=True)
        ]
        public = {place: [one.public for one in each] for place, each in enumerate(nonces)}
        partials = {
            place: view.sign(secret, nonces[place], public)
            for place, (view, secret) in enumerate(zip(views, self.secrets, strict=True))
        }
        return close, views[0].finish(public, partials)

    def paid_to(self, transactions):
        """What each owner's script gets, and what is destroyed."""
        got = [0] * len(self.terms.owners)
        place = {owner.script: at for at, owner in enumerate(self.terms.owners)}
        for transaction in transactions:
            for output in transaction.outputs:
                if output.script in place:
                    got[place[output.script]] += output.value
        return got, sum(burned_by(transaction) for transaction in transactions)


class Field:
    """A chain with its clock: many books under one lock, attested once."""

    def __init__(self, wallet, *, digits=4, oracles=1):
        self.wallet, self.node = wallet, wallet.node
        self.lock = UnixSeconds(self.node.chain_info().median_time + 30_000)
        self.said = announcements(self.lock, digits=digits, oracles=oracles)

    def terms(self, taken, **options):
        return fan_terms(taken, lock=self.lock, said=self.said, **options)

    def funded(self, books):
        """Books of these terms, each funded by its owners' own coins in one transaction of all of them, mined."""
        done = []
        for terms, names in books:
            keys = [TaprootKey(secret=secret_of_owner(name)) for name in names or range(len(terms.owners))]
            coins = self.coins([(keys[p].script, one.value + 10_000) for p, one in terms.margins.items()])
            brought = {
                place: Contribution(coins=(coin,), change_script=keys[place].script)
                for place, coin in zip(terms.margins, coins, strict=True)
            }
            funding = build_funding(terms, brought, rate=SatsPerKvb(2_000))
            book = Book(funding.fan, names)
            witnesses = {}
            for place in terms.margins:  # nobody signs before it holds all of the others' signatures
                assert book.presignatures
                witnesses |= funding.sign(place, {keys[place].script: keys[place]})
            self.node.send(funding.complete(witnesses))
            done.append(book)
        self.wallet.mine()
        return done

    def coins(self, wanted):
        """Confirmed coins, of scripts and amounts."""
        outputs = [TxOut(value=Sats(amount), script=script) for script, amount in wanted]
        (source,) = self.wallet.coins_for(self.wallet.key.script, [sum(amount for _, amount in wanted) + 5_000])
        paid = self.wallet.spend([source], *outputs, fee=5_000)
        self.node.send(paid)
        self.wallet.mine()
        return [output_of(paid, index) for index in range(len(outputs))]

    def send_burn(self, burn):
        """Send a transaction that destroys money: a real node wants to be told how much may be."""
        self.node.call("sendrawtransaction", burn.to_bytes().hex(), 0, 21)

    def pass_time(self, until):
        """Mine until the median time is past a time."""
        if until - self.wallet.now > 12_000:
            self.wallet.skip(until - self.wallet.now - 6_000)
        while self.node.chain_info().median_time <= until:
            self.wallet.mine()


class HereNow:
    """A wallet on the chain of this process, with its clock."""

    def __init__(self, wallet):
        self._wallet = wallet

    def __getattr__(self, name):
        return getattr(self._wallet, name)

    @property
    def now(self):
        return self._wallet._little.now

    def skip(self, seconds):
        self._wallet._little.now += seconds


class MockedClock(Wallet):
    """A wallet on a real node whose clock is ours: ten minutes a block."""

    def __init__(self, wallet):
        super().__init__(wallet.node)
        self._coins, self.now = wallet._coins, int(wallet.node.chain_info().median_time) + 7_200

    def skip(self, seconds):
        self.now += seconds

    def mine(self, blocks=1):
        hashes = []
        for _ in range(blocks):
            self.now += 600
            self.node.call("setmocktime", self.now)
            hashes += super().mine()
        return hashes


@contextmanager
def field_wallet(kind, folder):
    """A funded wallet whose clock goes with its blocks: in this process, or on bitcoind by one of its policies."""
    if kind == "here":
        with wallet_here(folder) as wallet:
            yield HereNow(wallet)
        return
    with chain("bitcoind", folder, *POLICIES[kind]) as wallet:
        yield MockedClock(wallet)


POLICIES = {
    "bitcoind": (),
    "knots": ("-mempooltruc=accept", "-maxscriptsize=1650", "-datacarriersize=42"),
}
"""Core's rules of relay with TRUC enforced; Knots' own defaults."""
