"""A bilateral swap between two parties and three oracles, by itself or funded on a node."""

from btcfi import secp256k1
from btcfi.bitcoin.adaptor import ADAPTOR_SIZE, AdaptorKey
from btcfi.bitcoin.fees import SatsPerKvb
from btcfi.bitcoin.keys import TaprootKey
from btcfi.bitcoin.transaction import Transaction, TxIn, TxOut
from btcfi.contracts.option import Contribution
from btcfi.hashes import sha256
from btcfi.oracle.announcement import announce
from btcfi.oracle.attestation import attest
from btcfi.swaps.bilateral import presign
from btcfi.swaps.bilateral.graph import Graph, build_funding, complete_funding, sign_funding
from btcfi.swaps.bilateral.grid import STANDARD_DIGITS, begins_with, return_event
from btcfi.swaps.bilateral.terms import Owner, Party, SwapTerms, read_outcome
from btcfi.swaps.contract import CONTRACTS, Rates
from btcfi.swaps.returns import Side
from btcfi.units import Hash32, Sats, Slot, Txid, UnixSeconds

REQUIRED = 10_000_000
RATES = Rates(target_ppm=1_500, basis_ppm=0)
PRICE_RULE = Hash32(sha256(b"price rule"))
START = 1_800_000_000
WEEK = 7 * 86_400
RATE = SatsPerKvb(5_000)

SECRETS = {Owner.TAKER: sha256(b"taker"), Owner.PROVIDER: sha256(b"provider")}
WALLETS = {owner: TaprootKey(secret=sha256(f"{owner}'s wallet".encode())) for owner in Owner}
ORACLES = [sha256(f"oracle {number}".encode()) for number in range(7)]


class Ledger(dict):
    """An oracle's, in memory."""

    def claim(self, *, oracle_key, event, outcome):
        return self.setdefault((oracle_key, event), outcome)


def event_of(*, contract="BTCUSD", side=Side.LONG, rates=RATES, start=START, end=START + WEEK, digits=STANDARD_DIGITS):
    return return_event(
        CONTRACTS[contract], side, rates, start=Slot(start), end=Slot(end), price_rule=PRICE_RULE, digits=digits
    )  # fmt: skip


def terms(
    *, oracles=3, threshold=2, required=REQUIRED, start=START, end=START + WEEK, digits=STANDARD_DIGITS, **changes
):
    """Terms of the taker's long week, with changes."""
    event = event_of(start=start, end=end, digits=digits, side=changes.get("side", Side.LONG))
    given = {
        "contract": CONTRACTS["BTCUSD"], "side": Side.LONG, "rates": RATES, "required": Sats(required),
        "start": Slot(start), "end": Slot(end), "lock": UnixSeconds(end + 4 * 3_600), "threshold": threshold,
        "price_rule": PRICE_RULE, "digits": digits,
        "announcements": tuple(announce(secret, event) for secret in ORACLES[:oracles]),
        **{
            str(owner): Party(
                key=secp256k1.public_key_compressed(SECRETS[owner]), script=WALLETS[owner].script
            ) for owner in Owner
        },
    }  # fmt: skip
    return SwapTerms(**given | changes)


def attested(made, number, *, oracles=(0, 1)):
    """The outcome, as these oracles attest it."""
    said = [attest(ORACLES[one], made.announcements[one], number, Ledger()) for one in oracles]
    return read_outcome(made, said)


def signed(graph):
    """What both sides sign, checked."""
    now = UnixSeconds(graph.terms.start - 1)
    given = {owner: presign.presign(graph, SECRETS[owner], now=now) for owner in Owner}
    for owner in Owner:
        presign.check(graph, owner, given[owner])
    return given


def signed_at(graph, number):
    """What both sides sign, of one outcome alone: the rest is zeros."""

    def made(entries, key):
        return b"".join(
            key.presign(one.digest, graph.point(one.prefix, oracles))
            if begins_with(number, one.prefix, graph.terms.grid)
            else bytes(ADAPTOR_SIZE)
            for one in entries
            for oracles in graph.terms.sets
        )

    given = {}
    for owner in Owner:
        key = AdaptorKey(SECRETS[owner])
        settle, burn, release = (made(entries, key) for entries in presign._entries(graph, owner))
        given[owner] = presign.Presignatures(settle=settle, burn=burn, release=release)
    return given


def graph_of(made=None, *, txid=b"\x01" * 32):
    return Graph(terms=made or terms(), funding=Txid(txid))


def swap_burn(graph, outcome, given, **changes):
    """BURN by the debtor, from its own wallet."""
    debtor = graph.owed(outcome.number).debtor
    options = {"secret": SECRETS[debtor], "change_script": WALLETS[debtor].script, "rate": RATE}
    return presign.burn(graph, outcome, given[debtor.other], **options | changes)


class FundedSwap:
    """A swap that a wallet's node holds, attested: four hours from now its settlement opens. The clock is the node's.

    Signed for one outcome alone: that is what the chain sees of it, and a hundredth of the time.
    """

    def __init__(self, wallet, number, *, required=REQUIRED, oracles=(0, 1), sent=True, **changes):
        self.wallet, self.node = wallet, wallet.node
        clock = wallet.clock
        start = -(-clock.now // 60) * 60 + 3_600
        self.terms = terms(required=required, start=start, end=start + 3_600, **changes)
        sides = {
            owner: Contribution(
                coins=tuple(wallet.coins_for(WALLETS[owner].script, [required + 20_000])),
                change_script=WALLETS[owner].script,
            )
            for owner in Owner
        }
        self.unsigned = funding = build_funding(
            self.terms, taker=sides[Owner.TAKER], provider=sides[Owner.PROVIDER], rate=SatsPerKvb(2_000)
        )
        self.graph = Graph(terms=self.terms, funding=funding.transaction.txid)
        self.signed = signed_at(self.graph, number)
        now = UnixSeconds(clock.now)
        keys = {key.script: key for key in WALLETS.values()}
        witnesses = [sign_funding(self.terms, funding, owner, keys, now=now) for owner in Owner]
        self.funding = complete_funding(funding, witnesses[0] | witnesses[1])
        self.clock = clock
        self.outcome = attested(self.terms, number, oracles=oracles)
        self.debtor = self.graph.owed(number).debtor if self.graph.debt(number) else None
        if sent:
            self.node.send(self.funding)
            clock.mine()
            clock.now = self.terms.end
            clock.mine()

    def coins(self, owner, *amounts):
        """Confirmed coins of a side's own wallet, with its key."""
        key = WALLETS[owner]
        return [(coin, key) for coin in self.wallet.coins_for(key.script, list(amounts))]

    def settle(self):
        return presign.settle(self.graph, self.outcome, self.signed)

    def burn(self, rate=5, **changes):
        return swap_burn(self.graph, self.outcome, self.signed, rate=SatsPerKvb(rate * 1_000), **changes)

    def release(self, owner):
        theirs = self.signed[owner.other]
        return presign.release(self.graph, self.outcome, theirs, secret=SECRETS[owner], rate=RATE)

    def give_back(self, owner):
        return presign.give_back(self.graph, secret=SECRETS[owner], rate=RATE)

    def send_burn(self, transaction):
        self.node.send(transaction, may_burn=transaction.outputs[0].value)

    def open(self):
        """Mine until a block can hold SETTLE."""
        self.clock.past(self.terms.lock)

    def child(self, parent, coin, *, fee, index=-1):
        """A version-3 child that spends an output of the parent by anybody, and pays from a coin."""
        coin, key = coin
        place = index % len(parent.outputs)
        spent = [parent.outputs[place], coin.output]
        rest = spent[0].value + coin.value - fee
        made = Transaction(
            version=3,
            inputs=(TxIn(outpoint=parent.outpoint(place)), TxIn(outpoint=coin.outpoint)),
            outputs=(TxOut(value=Sats(rest), script=key.script),),
        )
        return made.with_witness(1, [key.sign_input(made, 1, spent)])


class Clock:
    """A node's time, moved by hand. ``say``: tells it to a node that has a clock of its own."""

    def __init__(self, now, say=lambda now: None):
        self.now, self._say = now, say
        say(now)

    def of(self, wallet):
        """The clock of this wallet's node."""
        self.wallet, self.node = wallet, wallet.node
        wallet.clock = self
        wallet.fund()
        return wallet

    @property
    def median(self):
        return int(self.node.chain_info().median_time)

    def mine(self, blocks=1, *, apart=600):
        """Mine blocks, each so many seconds after the one before."""
        for _ in range(blocks):
            self.now += apart
            self._say(self.now)
            self.wallet.mine()

    def past(self, time):
        """Go to a time and mine until the median time has passed it."""
        self.now = max(self.now, time)
        while self.median <= time:
            self.mine()
