"""Contracts that end together, for tests: their parties with seats and secrets, and the rounds between them."""

from dataclasses import replace
from random import Random

from btcfi.bitcoin.fees import SatsPerKvb
from btcfi.bitcoin.keys import wallet_key
from btcfi.bitcoin.musig import KeyAggregate
from btcfi.bitcoin.transaction import OutPoint
from btcfi.contracts import batching
from btcfi.contracts.batch import Ending, Holding, Seat, Side, build_batch
from btcfi.contracts.batch_funding import Joining, Purse
from btcfi.contracts.batching import Stage, advance, take_nonces, take_partials
from btcfi.contracts.execution import ANCHOR, Split
from btcfi.contracts.mandate import CloseRule
from btcfi.contracts.messages import Role
from btcfi.contracts.option import OptionContract, split
from btcfi.hashes import sha256
from btcfi.secp256k1 import public_key_compressed
from btcfi.units import Height, Sats, Txid, UnixSeconds
from tests.support.contracts import SEED
from tests.support.mandates import authority

RATE = SatsPerKvb(2_000)
COSTS = Sats(ANCHOR.value + 1_000)
"""Of a CET of version 2 and later."""

COLLATERAL = Sats(1_000_000)
NOW, UNTIL = UnixSeconds(1_740_000_000), UnixSeconds(1_740_003_600)


def name_of(number):
    return f"party {number:02d}"


def wallet_of(owner):
    return wallet_key(SEED, int(owner.split()[1]), account=9)


def secret_of(owner, contract):
    return sha256(f"{owner}/{contract}".encode())


def pays(payout, *, collateral=COLLATERAL, costs=COSTS):
    """What a CET pays of a payout."""
    buyer, seller = split(collateral, Sats(payout), costs, nearest=True)
    return Split(buyer=buyer, seller=seller)


def ending(number, buyer, seller, payout, *, collateral=COLLATERAL, costs=COSTS, funding=None):
    sides = [Side(owner=owner, key=public_key_compressed(secret_of(owner, number))) for owner in (buyer, seller)]
    keys = [one.key for one in sides]
    contract = OptionContract(
        buyer_key=keys[0][1:], seller_key=keys[1][1:], buyer_script=wallet_of(buyer).script,
        seller_script=wallet_of(seller).script, collateral=Sats(collateral), expiry_height=Height(500),
        refund_height=Height(1_508), internal_key=KeyAggregate(keys).xonly, nearest_dust=True,
    )  # fmt: skip
    return Ending(
        contract=contract, funding=funding or OutPoint(txid=Txid(sha256(b"fund%d" % number)), index=0),
        buyer=sides[0], seller=sides[1], cet=pays(payout, collateral=collateral, costs=costs),
        proof_root=sha256(b"proof%d" % number),
    )  # fmt: skip


class Table:
    """So many contracts between so many parties; each party answers by its own records."""

    def __init__(self, contracts=6, parties=4, *, seed=5, rate=RATE, rules=None):
        draw, self.rate, self.rules = Random(seed), rate, rules
        self.numbers, self.endings = {}, []
        for number in range(contracts):
            # every party is in at least one, where there are so many
            buyer = number % parties
            seller = draw.choice([one for one in range(parties) if one != buyer])
            self.add(ending(number, name_of(buyer), name_of(seller), draw.randrange(1_000, COLLATERAL - 5_000)), number)
        self.begin()

    def add(self, one, number):
        self.numbers[one.funding] = number
        self.endings.append(one)

    def begin(self):
        self.owners = sorted({owner for one in self.endings for owner in one.owners})
        self.scripts = {owner: wallet_of(owner).script for owner in self.owners}
        self.right = authority(close=CloseRule.AGREED)
        self.seats = {owner: self.seat(owner) for owner in self.owners}
        self._entropy = 0

    def move_to(self, outpoints):
        """The same contracts at other outpoints: those of a chain."""
        numbers = {point: self.numbers[one.funding] for point, one in zip(outpoints, self.endings, strict=True)}
        self.endings = [replace(one, funding=point) for one, point in zip(self.endings, outpoints, strict=True)]
        self.numbers = numbers
        self.begin()

    def holdings(self, owner):
        return [
            Holding(ending=one, role=Role.BUYER if one.buyer.owner == owner else Role.SELLER)
            for one in self.endings
            if owner in one.owners
        ]

    def ours(self, owner):
        return {one.funding for one in self.endings if owner in one.owners}

    def seat(self, owner):
        return Seat(self.holdings(owner), script=wallet_of(owner).script)

    def secrets(self, owner):
        return {one.ending.funding: secret_of(owner, self.numbers[one.ending.funding]) for one in self.holdings(owner)}

    def batch(self):
        return build_batch(self.endings, self.scripts, rate=self.rate)

    def start(self, now=NOW, until=UNTIL):
        return batching.start(
            self.endings, self.scripts, rate=self.rate, now=now, until=until, rules=self.rules
        )  # fmt: skip

    def entropy(self):
        self._entropy += 1
        return self._entropy.to_bytes(32)

    def consider(self, owner, proposal, **changes):
        given = {"authority": self.right, "entropy": self.entropy(), "ours": self.ours(owner)} | changes
        return self.seats[owner].consider(proposal, self.secrets(owner), **given)

    def sign(self, owner, number, nonces, **changes):
        return self.seats[owner].sign(number, nonces, self.secrets(owner), **({"authority": self.right} | changes))

    # ---- rounds

    def first(self, state, *, silent=(), now=NOW):
        """Everybody but the silent ones answers a proposal."""
        number = state.number
        for owner, proposal in state.proposals().items():
            if owner not in silent:
                state = take_nonces(state, owner, number, self.consider(owner, proposal), now=now)
        return advance(state, now=state.deadline) if silent else state

    def second(self, state, *, silent=(), lying=(), now=NOW):
        """Everybody but the silent ones signs; of the liars' parts one does not hold."""
        number, batch = state.number, state.batch
        for owner in batch.owners:
            if owner in silent:
                continue
            said = self.sign(owner, number, state.nonces_for(owner))
            if owner in lying:
                said[max(said)] = bytes(31) + b"\x01"
            state = take_partials(state, owner, number, said, now=now)
        return advance(state, now=state.deadline) if silent else state

    def run(self, state=None, *, now=NOW):
        state = self.first(state or self.start(), now=now)
        assert state.stage is Stage.PARTIALS
        return self.second(state, now=now)


def fund(wallet, table):
    """Put a table's contracts into a block, in one payment of their collaterals."""
    outputs = [one.contract.funding_txout() for one in table.endings]
    source = wallet.coins_for(wallet.key.script, [sum(one.value for one in outputs) + 50_000])
    payment = wallet.spend(source, *outputs, fee=20_000)
    wallet.node.send(payment)
    wallet.mine()
    table.move_to([payment.outpoint(index) for index in range(len(outputs))])
    return table


def fundings_of(contracts, parties, *, coins, premium=5_000):
    """Contracts to be funded together, and each party's purse. coins: what makes a coin of a script and a value."""
    draw, joinings = Random(contracts), []
    for number in range(contracts):
        buyer, seller = number % parties, draw.choice([one for one in range(parties) if one != number % parties])
        made = ending(number, name_of(buyer), name_of(seller), 5_000)
        joinings.append(
            Joining(contract=made.contract, premium=Sats(premium), buyer=name_of(buyer), seller=name_of(seller))
        )
    owners = sorted({owner for one in joinings for owner in (one.buyer, one.seller)})
    purses = {}
    for owner in owners:
        script = wallet_of(owner).script
        needs = sum(one.needs(owner) for one in joinings)
        purses[owner] = Purse(coin=coins(script, max(needs, 0) + 100_000), change_script=script)
    return joinings, purses
