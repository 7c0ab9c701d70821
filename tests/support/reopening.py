"""A contract that is reopened, for tests: its seller, its holder and a newcomer, each with its own word and secrets."""

from dataclasses import dataclass, field, replace

from btcfi.bitcoin.keys import wallet_key
from btcfi.contracts import reopen
from btcfi.contracts.mandate import CloseRule
from btcfi.contracts.messages import Party
from btcfi.contracts.reopen import Held, Leaving, Moment, Reopening, Word, roll_of, transfer_of
from btcfi.contracts.reopen import reopen as reopened_of
from btcfi.contracts.splice import Owner
from btcfi.oracle.announcement import announce
from btcfi.secp256k1 import public_key_compressed
from btcfi.units import Height, Sats, UnixSeconds
from tests.support.contracts import (
    BUYER,
    BUYER_SECRET,
    COARSE,
    ORACLES,
    POLICY,
    RATE,
    SEED,
    SELLER,
    SELLER_SECRET,
    Scene,
    call_payouts,
    coin,
    event,
)

NEWCOMER = wallet_key(SEED, 0, account=3)
SELLER_NEXT, HOLDER_NEXT, NEWCOMER_SECRET = (wallet_key(SEED, 2, account=n).secret for n in (2, 1, 3))
"""Of the keys in the new contract."""

PRICE = Sats(700_000)
NOW, UNTIL = UnixSeconds(1_739_999_000), UnixSeconds(1_739_999_120)
WALLETS = {owner: {key.script: key} for owner, key in
           ((Owner.SELLER, SELLER), (Owner.HOLDER, BUYER), (Owner.NEWCOMER, NEWCOMER))}  # fmt: skip
OLD_SECRETS = {Owner.SELLER: SELLER_SECRET, Owner.HOLDER: BUYER_SECRET}
OLD_KEYS = {"buyer_key": public_key_compressed(BUYER_SECRET), "seller_key": public_key_compressed(SELLER_SECRET)}


@dataclass(frozen=True)
class Found:
    """What a node says of an unspent output."""

    output: object
    is_spendable: bool = True


def half(key, secret, coins=()):
    return Party(
        key=public_key_compressed(secret), payout_script=key.script, change_script=key.script, coins=tuple(coins)
    )


@dataclass
class Reopens:
    """One reopening up to its signed transaction. ``transfer()`` or ``roll()`` says which."""

    scene: Scene = field(default_factory=lambda: Scene(tolerance=COARSE))
    seller_coins: tuple = ()
    holder_coins: tuple = ()
    newcomer_coins: tuple = field(default_factory=lambda: (coin(21, 800_000, NEWCOMER.script),))
    rate: int = RATE
    height: int = 100
    last_blocks: int = reopen.LAST_BLOCKS

    def __post_init__(self):
        self.old, self.old_accept, self.old_sign, self.old_funding = self.scene.run()
        self.held = Held.of(self.old)
        self.seller = half(SELLER, SELLER_NEXT, self.seller_coins)
        self.event, self.payouts = self.scene.event, self.scene.payouts

    def transfer(self, price=PRICE, **changes):
        self.leaving = Leaving(script=BUYER.script, coins=tuple(self.holder_coins))
        self.newcomer = half(NEWCOMER, NEWCOMER_SECRET, self.newcomer_coins)
        given = {"price": price, "rate": self.rate, "seller": self.seller, "newcomer": self.newcomer,
                 "leaving": self.leaving, "valid_until": UNTIL}  # fmt: skip
        self.statement = transfer_of(self.held.coin, self.held.terms, **(given | changes))
        return self

    def roll(self, payout=500_000, *, quantity=9, minutes=10_000, **terms):
        """Into an option of a later expiry and another size, in hundredths of a bitcoin."""
        self.event = event(minute=29_000_000 + minutes)
        self.holder = half(BUYER, HOLDER_NEXT, self.holder_coins)
        was = self.held.terms
        new = {
            "expiry_height": Height(was.expiry_height + 50), "refund_height": Height(was.refund_height + 50),
            "announcements": tuple(announce(secret, self.event) for secret in ORACLES[: self.scene.oracles]),
            "option": was.option | {"expiry_unix": self.event.expiry, "quantity_centibtc": quantity,
                                    "collateral_sats": quantity * 1_000_000},
            "collateral": Sats(quantity * 1_000_000), "rate": self.rate, "premium": Sats(50_000),
        }  # fmt: skip
        following = replace(was, **(new | terms))
        self.payouts = lambda prices: call_payouts(prices, collateral=following.collateral)
        self.statement = roll_of(
            self.held, following, payout=Sats(payout), seller=self.seller, holder=self.holder, valid_until=UNTIL
        )
        return self

    def agreed(self, statement=None):
        return reopened_of(statement or self.statement, self.payouts, event=self.event, policy=POLICY)

    def word(self, owner, **changes):
        """What an owner has agreed to, of the statement as this scene made it."""
        said = self.statement
        halves = {Owner.SELLER: said.seller, said.buying: said.buyer} | (
            {Owner.HOLDER: said.leaving} if said.leaving else {}
        )
        leaves = said.leaving is not None and owner is Owner.HOLDER
        given = {
            "owner": owner, "held": None if owner is Owner.NEWCOMER else self.held, "half": halves[owner],
            "terms": None if leaves else said.terms, "least": self.agreed().splice.net(owner),
            "valid_until": UNTIL, "wallet": frozenset(WALLETS[owner]),
        }  # fmt: skip
        return Word(**(given | changes))

    def moment(self, reopened=None, **changes):
        splice = (reopened or self.agreed()).splice
        seen = {one.outpoint: Found(output)
                for one, output in zip(splice.transaction.inputs, splice.spent, strict=True)}  # fmt: skip
        given = {"now": NOW, "tip": Height(self.height), "last_blocks": self.last_blocks, "attested": False,
                 "expired": False, "seen": seen}  # fmt: skip
        return Moment(**(given | changes))

    def right(self, **changes):
        return self.scene.authority(height=self.height, **({"close": CloseRule.AGREED} | changes))

    def new_secret(self, owner):
        return {Owner.SELLER: SELLER_NEXT, Owner.HOLDER: HOLDER_NEXT, Owner.NEWCOMER: NEWCOMER_SECRET}[owner]

    def run(self):
        """Every step, each side by its own word; returns (reopened, pre-signatures by role name, transaction)."""
        self.signing = signing = Signing(self)
        signing.presign()
        signing.secure()
        signing.coins()
        signing.key_path()
        return signing.reopened, signing.presignatures, signing.finish()


class Signing:
    """The steps of one reopening, for tests that stop between two of them or break one."""

    def __init__(self, scene, reopened=None):
        self.scene, self.reopened = scene, reopened or scene.agreed()
        self.right, self.moment = scene.right(), scene.moment(self.reopened)
        self.buying = self.reopened.statement.buying
        self.path = Reopening(self.reopened, scene.held, **OLD_KEYS)
        self.presignatures, self.secured, self.witnesses = {}, {}, {}

    def presign(self):
        for owner, role in ((self.buying, "buyer"), (Owner.SELLER, "seller")):
            self.presignatures[role] = reopen.presign_new(
                self.reopened, self.scene.word(owner), self.scene.new_secret(owner), authority=self.right,
                moment=self.moment,
            )  # fmt: skip

    def secure(self):
        for owner, role in ((self.buying, "seller"), (Owner.SELLER, "buyer")):
            self.secured[owner] = reopen.secure(self.reopened, owner, self.presignatures[role])

    def coins(self):
        for owner in self.reopened.splice.inputs:
            self.witnesses |= reopen.sign_coins(
                self.reopened, self.scene.word(owner), WALLETS[owner], secured=self.secured.get(owner),
                authority=self.right, moment=self.moment,
            )  # fmt: skip

    def key_path(self):
        self.nonces = [self.path.nonce(OLD_SECRETS[one], bytes([n]) * 32)
                       for n, one in enumerate((Owner.HOLDER, Owner.SELLER), start=1)]  # fmt: skip
        self.public = [one.public for one in self.nonces]
        self.partials = [self.sign(owner, nonce) for owner, nonce in
                         zip((Owner.HOLDER, Owner.SELLER), self.nonces, strict=True)]  # fmt: skip

    def sign(self, owner, nonce, **changes):
        given = {"secured": self.secured.get(owner), "authority": self.right, "moment": self.moment}
        return self.path.sign(self.scene.word(owner), OLD_SECRETS[owner], nonce, self.public, **(given | changes))

    def finish(self):
        return self.path.finish(self.public, self.partials, self.witnesses, list(self.secured.values()))
