"""Two parties and oracles of three kinds around one curve, as a tree and flat: deterministic keys, Rubin's table."""

from itertools import pairwise

from btcfi.bitcoin.musig import KeyAggregate
from btcfi.bitcoin.transaction import OutPoint, TxOut
from btcfi.clauses.bet import GenericBet, NoShow, bet, flat
from btcfi.clauses.contract import Parties
from btcfi.clauses.expiring import UnderFundedExpiringOption
from btcfi.clauses.oracle import AttestingSecrets, PreimageSecrets, ThresholdOracle, together
from btcfi.clauses.plan import Terms, check_presignatures, finish, presign, tree
from btcfi.clauses.risk_reversal import RiskReversal, outcomes_of, thinned
from btcfi.clauses.script import Shown
from btcfi.secp256k1 import public_key_compressed, public_key_xonly
from btcfi.units import Height, Sats, Txid
from tests.support.contracts import BUYER, BUYER_SECRET, ORACLES, RATE, SELLER, SELLER_SECRET

SYMBOL = "BTC-USD"
NOWHERE = OutPoint(txid=Txid(bytes(32)), index=0)
KEYS = [public_key_compressed(secret) for secret in (BUYER_SECRET, SELLER_SECRET)]
USER, OPERATOR = public_key_xonly(BUYER_SECRET), public_key_xonly(SELLER_SECRET)
PARTIES = Parties(one=USER, two=OPERATOR, cooperate=KeyAggregate(KEYS).xonly)
REVERSAL = RiskReversal(amount=Sats(10_000_000), current=500_000_000, down=(1, 10), up=(1, 10))
"""$45,000 to $55,000 around $50,000, of a tenth of a bitcoin."""

HOLDER_SECRET = b"\x21" * 32
HOLDER = public_key_xonly(HOLDER_SECRET)
STRUCK = Shown(secrets={HOLDER: HOLDER_SECRET})
PART_TWO = REVERSAL.amount
PART_ONE = Sats(REVERSAL.max_amount - PART_TWO)
TIMEOUT = 115
"""Of options around the curve, unless said otherwise."""

SECRETS = {
    "preimage": [PreimageSecrets(secret=secret) for secret in ORACLES],
    "attesting": [AttestingSecrets(secret=secret) for secret in ORACLES],
}
KINDS = [
    ("preimage", 1, False), ("preimage", 2, False),
    ("attesting", 1, False), ("attesting", 2, False), ("attesting", 1, True), ("attesting", 2, True),
]  # fmt: skip
"""(oracle's kind, how many of three must agree or 1 of 1, whether their points encrypt the signatures)."""


def under_funded(coin, timeout=TIMEOUT):
    """Makes a bet the option that its holder pays this coin into."""
    return lambda opt: UnderFundedExpiringOption(
        party_one=PART_ONE, party_two=PART_TWO, script_one=SELLER.script, holder=HOLDER, opt=opt, timeout=timeout,
        pay_in=coin,
    )  # fmt: skip


def kind_name(kind):
    return f"{kind[0]}-{'2-of-3' if kind[1] > 1 else '1'}{'-encrypted' if kind[2] else ''}"


class TreeScene:
    """One curve between the two: what each signed, what the oracles show, and how a step is finished."""

    def __init__(self, levels=5, kind=("preimage", 1, False), *, flat_form=False, after=200, delay=6, contract=None):
        self.kind = kind
        self.secrets = SECRETS[kind[0]][: 3 if kind[1] > 1 else 1]
        self.rows = thinned(REVERSAL.rows(), levels)
        self.levels = [row.level for row in self.rows]
        published = tuple(one.publish(SYMBOL, self.levels) for one in self.secrets)
        self.oracle = published[0] if kind[1] == 1 else ThresholdOracle(oracles=published, threshold=kind[1])
        half = REVERSAL.max_amount // 2
        pays = (
            TxOut(value=Sats(half), script=BUYER.script),
            TxOut(value=Sats(REVERSAL.max_amount - half), script=SELLER.script),
        )
        outcomes = outcomes_of(self.rows, user_script=BUYER.script, operator_script=SELLER.script)
        self.bet: GenericBet = bet(
            amount=REVERSAL.max_amount, outcomes=reversed(outcomes), oracle=self.oracle, symbol=SYMBOL,
            no_show=NoShow(pays=pays, after=Height(after), delay=delay),
        )  # fmt: skip
        self.contract = contract(self.bet) if contract else flat(self.bet) if flat_form else self.bet
        self.tree = tree(self.contract, Terms(parties=PARTIES, rate=RATE, encrypted=kind[2]))
        self.plan = None

    def fund(self, chain):
        """Pay the tree's output in one confirmed transaction and sign all that follows."""
        funding = self.tree.funding_txout()
        (coin,) = chain.pay([(funding.script, funding.value)])
        self.sign(coin.outpoint)
        return coin

    def sign(self, outpoint):
        self.plan = self.tree.plan(outpoint)
        self.one, self.two = presign(self.plan, BUYER_SECRET), presign(self.plan, SELLER_SECRET)
        check_presignatures(self.plan, USER, self.one)
        check_presignatures(self.plan, OPERATOR, self.two)

    def shown(self, price, levels=None, *, oracles=None):
        """What the oracles show at a price of these levels (all); of which oracles (all)."""
        chosen = self.secrets if oracles is None else [self.secrets[n] for n in oracles]
        return together(
            [
                one.answer(SYMBOL, level, price=price)
                for one in chosen
                for level in (self.levels if levels is None else levels)
            ]
        )

    def finish(self, path, shown):
        return finish(self.plan, path, one=self.one, two=self.two, shown=shown)

    def branch(self, price, shown=None):
        """The finished transactions of a price."""
        path = self.contract.path_of(price)
        return [self.finish(path[: n + 1], shown or self.shown(price)) for n in range(len(path))]

    def paid(self, transaction):
        """{"user": sats, "operator": sats} of a transaction's outputs."""
        by = {BUYER.script: "user", SELLER.script: "operator"}
        return {by[output.script]: output.value for output in transaction.outputs}

    def row_at(self, price):
        row = max((one for one in self.rows if one.level <= price), key=lambda one: one.level, default=self.rows[0])
        return {name: value for name, value in (("user", row.user), ("operator", row.operator)) if value}

    def prices(self):
        """At each level, just below it, and between it and the next; beyond both ends."""
        between = [(low + high) // 2 for low, high in pairwise(self.levels)]
        return sorted({*self.levels, *(level - 1 for level in self.levels), *between, self.levels[-1] + 10**9, 1})
