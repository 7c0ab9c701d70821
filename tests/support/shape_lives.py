"""Every named shape as a contract of its own, for tests: what is asked of each, five prices, a close and a roll."""

from dataclasses import dataclass
from functools import cache

from btcfi.bitcoin.transaction import Transaction
from btcfi.bitcoin.wallet import Coin
from btcfi.contracts import execution, netting
from btcfi.contracts.cooperative import KeyPath, build_close
from btcfi.contracts.execution import ExecutionPlan
from btcfi.contracts.netting import NettedSignatures
from btcfi.contracts.option import complete_settlement, sign_settlement
from btcfi.contracts.splice import Owner, Splice, Stake, build_splice
from btcfi.payoffs.netted import netted
from btcfi.payoffs.shapes import SHAPES, Ask
from btcfi.secp256k1 import public_key_compressed
from btcfi.units import CentiBtc, CentsPerBtc, Sats
from tests.support.contracts import BUYER, BUYER_SECRET, RATE, SELLER, SELLER_SECRET, event
from tests.support.net_books import NetScene

HIGHEST = CentsPerBtc(100 * (2**18 - 1))
KEYS = {"buyer_key": public_key_compressed(BUYER_SECRET), "seller_key": public_key_compressed(SELLER_SECRET)}
SECRETS, PARTIES = (BUYER_SECRET, SELLER_SECRET), ("buyer", "seller")


def _ask(*dollars, floor=None, **amounts):
    """Strikes, floor and amounts in dollars; a hundredth of a bitcoin."""
    cents = {name: CentsPerBtc(100 * one) for name, one in amounts.items()}
    strikes = tuple(CentsPerBtc(100 * one) for one in dollars)
    below = None if floor is None else CentsPerBtc(100 * floor)
    return Ask(strikes=strikes, quantity=CentiBtc(1), floor=below, amounts=cents)


ASKS = {
    "call": _ask(100_000),
    "put": _ask(100_000, floor=50_000),
    "binary_call": _ask(100_000),
    "binary_put": _ask(100_000, floor=50_000),
    "forward": _ask(100_000, floor=50_000),
    "call_spread": _ask(95_000, 110_000),
    "put_spread": _ask(90_000, 105_000, floor=50_000),
    "straddle": _ask(100_000, floor=50_000),
    "strangle": _ask(90_000, 110_000, floor=50_000),
    "butterfly": _ask(90_000, 100_000, 110_000),
    "iron_butterfly": _ask(90_000, 100_000, 110_000, floor=50_000),
    "condor": _ask(85_000, 95_000, 105_000, 115_000),
    "iron_condor": _ask(85_000, 95_000, 105_000, 115_000, floor=50_000),
    "collar": _ask(90_000, 110_000, floor=50_000),
    "risk_reversal": _ask(95_000, 105_000, floor=50_000),
    "capped_forward": _ask(100_000, 120_000, floor=50_000),
    "floored_forward": _ask(80_000, 100_000, floor=50_000),
    "range_forward": _ask(80_000, 100_000, 120_000, floor=50_000),
    "stable_dollar": _ask(60_000, 100_000, 140_000),
    "digital_ladder": _ask(90_000, 100_000, 110_000, step=5_000),
    "sinusoid": _ask(100_000, floor=50_000, period=160_000),
}
"""What is asked of every shape that has a name."""


def five_prices(ask):
    """The least that an oracle can say, beside the lowest strike, between, above the highest, and the most."""
    low, high = ask.strikes[0], ask.strikes[-1]
    cents = (1, low - 1, (low + high) // 2 + 700, high + 100, HIGHEST)
    return tuple(CentsPerBtc(one) for one in cents)


@cache
def _made(name, minute):
    plain = event(minute=minute)
    return plain, netted(SHAPES[name].payoff(ASKS[name]), plain)


@cache
def _ranges(name, minute, rule, premium):
    return _made(name, minute)[1].buckets(rule, premium=Sats(premium))


@dataclass
class ShapeScene(NetScene):
    """A named shape as a contract between the two parties of ``NetScene``."""

    book: None = None
    name: str = "call"
    minute: int = 29_000_000

    def made(self):
        return _made(self.name, self.minute)

    def ranges(self):
        return _ranges(self.name, self.minute, self.rule, self.legs_premium)

    def paid(self, price):
        """What the holder is paid at a price, before what every end costs."""
        return self.contract.payout_at(
            self.event.outcome(CentsPerBtc(price)), self.rule, premium=Sats(self.legs_premium)
        )


@dataclass(kw_only=True)
class Rolled:
    """A contract into which another one's collateral went, by one transaction of both."""

    plan: ExecutionPlan
    refund: Transaction
    splice: Splice
    holder: NettedSignatures
    writer: NettedSignatures
    transaction: Transaction


def rolled(agreement, following, coin):
    """Roll a contract into ``following``'s terms: each is owed what it put in, and puts in what the next one asks for.

    coin: of the writer, who pays the fee. What the next contract needs is signed and checked by both before the old
    one's key path, as in ``contracts.reopen``; of a book no party's desk does that yet (docs/decisions/0070).
    """
    old, new, terms = agreement.plan, following.agreement().plan.contract, following.terms
    due = {Owner.SELLER: agreement.terms.writer - terms.writer, Owner.HOLDER: agreement.terms.holder - terms.holder}
    stakes = {Owner.SELLER: Stake(due=due[Owner.SELLER], script=SELLER.script, coins=(coin,))}
    if due[Owner.HOLDER]:
        stakes[Owner.HOLDER] = Stake(due=due[Owner.HOLDER], script=BUYER.script)
    held = Coin(outpoint=old.funding, output=old.contract.funding_txout())
    splice = build_splice(held, new, stakes=stakes, payer=Owner.SELLER, rate=RATE)
    plan = ExecutionPlan(
        contract=new, funding=splice.outpoint, buckets=following.buckets, announcements=following.announcements,
        threshold=following.threshold, cet_fee=terms.cet_fee,
    )  # fmt: skip
    refund = netting.build_refund(new, splice.outpoint, holder=terms.holder, cet_fee=terms.cet_fee)
    holder, writer = (
        NettedSignatures(
            presignatures=execution.presign(plan, secret), refund=sign_settlement(refund, secret, party=party)
        )
        for secret, party in zip(SECRETS, PARTIES, strict=True)
    )
    for party, one in zip(PARTIES, (holder, writer), strict=True):
        execution.check_presignatures(plan, party, one.presignatures)
    back = complete_settlement(refund, buyer=holder.refund, seller=writer.refund)
    path = KeyPath(old.contract, splice.sighash(), what="the roll", **KEYS)
    made = splice.transaction.with_witness(0, [signed_by_key_path(path)])
    made = made.with_witness(1, [SELLER.sign_input(made, 1, splice.spent)])
    return Rolled(plan=plan, refund=back, splice=splice, holder=holder, writer=writer, transaction=made)


def closed(agreement, payout):
    """Close a contract at an amount that both say."""
    plan = agreement.plan
    close = build_close(plan.contract, plan.funding, payout=Sats(payout), rate=RATE)
    path = KeyPath(plan.contract, close.sighash(), what="the close", **KEYS)
    return close, close.transaction.with_witness(0, [signed_by_key_path(path)])


def signed_by_key_path(path):
    """The signature of both sides, of fresh nonces."""
    nonces = [path.nonce(secret, bytes([place]) * 32) for place, secret in enumerate(SECRETS, start=1)]
    public = [one.public for one in nonces]
    return path.finish(public, [path.sign(one, nonce, public) for one, nonce in zip(SECRETS, nonces, strict=True)])
