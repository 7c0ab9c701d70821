"""What a settlement sends next: one answer for the service and for a party, whatever the pool holds.

    waits enough, or is mined          -> Wait
    left the pool, and still pays      -> Again, the same bytes
    must pay more, or is contested     -> Fresh, a new child that outbids what it conflicts with
    no coin, or nothing worth a child  -> Alone, the CET by itself where it pays a fee of its own

Whoever settles sends versions of one child. All of them spend the CET's anchor, so at most one is mined, and each stays
ours for ever. Nothing here asks a node or a clock: the view is an argument, and equal arguments give equal answers.
Rules of replacement: BIP125, BIP431 (TRUC) and Bitcoin Core's doc/policy/mempool-replacements.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from btcfi.bitcoin.fees import INCREMENTAL_FEE_RATE, FeeRule, SatsPerKvb, choose_rate, dust_limit, fee_for
from btcfi.bitcoin.transaction import OutPoint, Transaction
from btcfi.bitcoin.wallet import Coin
from btcfi.contracts.option import OptionContract, Settlement, build_refund
from btcfi.contracts.settle import CompletedCet, child_fee, child_vsize
from btcfi.units import Height, Sats, Txid

BUMP_AFTER_BLOCKS: Final = 3
"""Blocks that a settlement may wait before it pays more; ``choose_rate`` doubles the rate as often."""

COIN_INPUT: Final = 1
"""Which input of a child spends the wallet's coin; input 0 is the anchor."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """A transaction of ours that was sent, or may have been: what is mined of it is ours for ever."""

    transaction: Transaction
    """Signed."""
    fee: Sats
    height: Height
    """The tip when it was made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A transaction that waits in the node's pool and spends what ours would."""

    txid: Txid
    fee: Sats
    """Its own."""
    vsize: int
    total_fee: Sats
    """With all that builds on it: the fees that a replacement must exceed."""

    @classmethod
    def alone(cls, txid: Txid, *, fee: Sats, vsize: int) -> Waiting:
        """Return one that nothing builds on."""
        return cls(txid=txid, fee=fee, vsize=vsize, total_fee=fee)

    def outbid(self, vsize: int) -> Sats:
        """Return the least fee at which ``vsize`` replaces it: all its fees and our relay, at a higher rate than its.

        Source: BIP125 rules 3 and 4; Core's rule 6.
        """
        relayed = self.total_fee + fee_for(vsize, INCREMENTAL_FEE_RATE)
        return Sats(max(relayed, self.fee * vsize // self.vsize + 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """The chain and the pool of one node, as far as a settlement is concerned."""

    tip: Height
    estimate: SatsPerKvb | None
    """The node's for the next two blocks."""
    mined: bool = False
    """A block holds what spends the collateral."""
    cet_waits: bool = False
    """The CET is in the pool, with a child or without."""
    anchor: Waiting | None = None
    """The CET's child in the pool, a version of ours or anybody's: a version 3 transaction has no second one, so also
    what spends another of its outputs must be outbid."""
    rival: Waiting | None = None
    """What spends the collateral in the pool and is not the CET: a refund, a close."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What decides how much a settlement may pay."""

    expiry_height: Height
    refund_height: Height
    stake: Sats
    """What is lost without it, and so the most that a child may pay: the party's own part of the CET."""
    rule: FeeRule


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """Nothing is to be sent."""

    why: str
    stuck: bool = False
    """It should pay more, and cannot."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Again:
    """The same version once more: a node has forgotten it, or somebody replaced it and left."""

    version: Version
    why: str = ""
    """Why it does not pay more, where it should."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fresh:
    """A new child, to be built, signed, stored and then sent with the CET."""

    fee: Sats
    coin: Coin


@dataclass(frozen=True, slots=True, kw_only=True)
class Alone:
    """The CET by itself: it pays its own fee, and nothing can or need be added."""

    why: str


Step = Wait | Again | Fresh | Alone


def stake_of(cet: CompletedCet, *, seller: bool) -> Sats:
    """Return a party's own part of a CET."""
    return cet.seller_return if seller else cet.payout


def next_step(
    cet: CompletedCet, sent: Sequence[Version], coins: Sequence[Coin], view: View, terms: Terms, *, change_script: bytes
) -> Step:  # fmt: skip
    """Return what to send next for an attested CET.

    sent: every version of its child so far. coins: what may pay now, confirmed and spent by nothing but versions of
    ours; the last version's own coin is taken before any other. A child never pays more than the stake, and always
    more than what it replaces.
    """
    if view.mined:
        return Wait(why="a block holds it")
    rate = rate_of(sent, view, terms)
    goal = child_fee(cet, rate, change_script)
    if reason := _content(cet, sent, view, terms, rate=rate, goal=goal):
        return Wait(why=reason)
    last = _sendable(sent, coins)
    if view.anchor is None and last is not None:
        vsize = last.transaction.vsize
        if last.fee >= max(goal, _against_rival(cet, view, vsize)):
            return Again(version=last)
    least = _least(cet, sent, view, terms.rule.floor, change_script)
    fresh = _fresh(cet, last, coins, terms, fee=Sats(max(goal, least)), least=least, dust=dust_limit(change_script))
    return fresh or _without_more(cet, last, view, terms, least=least)


def coin_wanted(
    cet: CompletedCet, sent: Sequence[Version], view: View, terms: Terms, *, change_script: bytes
) -> Sats:  # fmt: skip
    """Return the value of the coin that the next child would like to have, for who keeps many coins and picks one."""
    goal = child_fee(cet, rate_of(sent, view, terms), change_script)
    fee = min(max(goal, _least(cet, sent, view, terms.rule.floor, change_script)), terms.stake)
    return Sats(max(0, fee - cet.anchor) + dust_limit(change_script))


def rate_of(sent: Sequence[Version], view: View, terms: Terms) -> SatsPerKvb:
    """Return the rate to pay at this tip: more with every block late, and up to the deadline's cap as room runs out."""
    return choose_rate(
        view.estimate, terms.rule, blocks_late=late_of(sent, view, terms), blocks_left=terms.refund_height - view.tip
    )


def late_of(sent: Sequence[Version], view: View, terms: Terms) -> int:
    """Return how many blocks could have held the settlement and did not: none before its height, none before it was."""
    if not sent:
        return 0
    first = min(version.height for version in sent)
    return max(0, view.tip - max(first, terms.expiry_height))


def _sendable(sent: Sequence[Version], coins: Sequence[Coin]) -> Version | None:
    """Return the version that pays most, unless its coin went elsewhere: then none of them can be sent again."""
    last = max(sent, key=lambda version: version.fee, default=None)
    return last if last is not None and coin_of(last) in {coin.outpoint for coin in coins} else None


def _content(
    cet: CompletedCet, sent: Sequence[Version], view: View, terms: Terms, *, rate: SatsPerKvb, goal: Sats
) -> str:  # fmt: skip
    """Return why what waits on the anchor is left there; nothing when it must be outbid, or when nothing waits."""
    waiting = view.anchor
    if waiting is None:
        return ""
    if waiting.txid not in {version.transaction.txid for version in sent}:
        enough = fee_for(cet.transaction.vsize + waiting.vsize, rate) - cet.fee
        return "somebody else's child pays enough for it" if waiting.fee >= enough else ""
    near = terms.refund_height - view.tip <= terms.rule.deadline_blocks
    if waiting.fee >= goal or (late_of(sent, view, terms) < BUMP_AFTER_BLOCKS and not near):
        return "it waits, and pays enough"
    return ""


def _least(
    cet: CompletedCet, sent: Sequence[Version], view: View, floor: SatsPerKvb, change_script: bytes
) -> Sats:  # fmt: skip
    """Return the least fee at which a new child is taken, by our node and by those that still hold an older one."""
    vsize = child_vsize(change_script)
    bids = [child_fee(cet, floor, change_script), _against_rival(cet, view, vsize)]
    bids += [version.fee + fee_for(vsize, INCREMENTAL_FEE_RATE) for version in sent]
    if view.anchor is not None:
        bids.append(view.anchor.outbid(vsize))
    return Sats(max(bids))


def _against_rival(cet: CompletedCet, view: View, vsize: int) -> int:
    """Return what a child must pay so that it and its CET replace what spends the collateral in the pool."""
    return 0 if view.rival is None else view.rival.outbid(cet.transaction.vsize + vsize) - cet.fee


def coin_of(version: Version) -> OutPoint | None:
    """Return the coin of a version; a party's child that a block held for a while may have another shape."""
    inputs = version.transaction.inputs
    return inputs[COIN_INPUT].outpoint if len(inputs) > COIN_INPUT else None


def _fresh(
    cet: CompletedCet, last: Version | None, coins: Sequence[Coin], terms: Terms, *, fee: Sats, least: Sats, dust: Sats
) -> Fresh | None:  # fmt: skip
    """Return a new child, or None when the stake or every coin is below what it must pay.

    It pays ``fee`` where stake and coins allow, else as much as they do: too little in time is better than nothing.
    """
    wanted = min(fee, terms.stake)
    coin = _choose(cet, last, coins, wanted, dust)
    if coin is None:
        return None
    paid = Sats(min(wanted, _affords(cet, coin, dust)))
    return Fresh(fee=paid, coin=coin) if paid >= least else None


def _affords(cet: CompletedCet, coin: Coin, dust: Sats) -> int:
    return cet.anchor + coin.value - dust


def _choose(cet: CompletedCet, last: Version | None, coins: Sequence[Coin], fee: int, dust: Sats) -> Coin | None:
    """Return the last version's coin where it does; else the smallest that does; else the largest."""
    enough = [coin for coin in coins if _affords(cet, coin, dust) >= fee]
    if not enough:
        return max(coins, key=lambda coin: (coin.value, coin.outpoint), default=None)
    kept = [coin for coin in enough if last is not None and coin.outpoint == coin_of(last)]
    return kept[0] if kept else min(enough, key=lambda coin: (coin.value, coin.outpoint))


def _without_more(cet: CompletedCet, last: Version | None, view: View, terms: Terms, *, least: Sats) -> Step:
    """Return what is left when no new child can be made: the last one, the CET by itself, or waiting."""
    short = "its part of the settlement is less" if terms.stake < least else "no coin covers it: send one to the wallet"
    why = f"another child would cost {least:,} sats, and {short}"
    if view.anchor is not None:
        return Wait(why=why, stuck=True)
    if last is not None:
        return Again(version=last, why=why)
    return Wait(why=why, stuck=True) if view.cet_waits or cet.fee == 0 else Alone(why=why)


# ---- a refund


def next_refund(
    contract: OptionContract, funding: OutPoint, sent: Sequence[Version], view: View, rule: FeeRule
) -> Settlement | Again | Wait:  # fmt: skip
    """Return the seller's refund to sign and send, the last version to send again, or why to wait.

    view: its rival is whatever spends the collateral in the pool. What both have signed is not fought: a CET there says
    that the oracles have attested, a close that both have agreed. A refund pays for itself and has no deadline: it pays
    more with every third block that passes it by, up to the rule's cap and half of the collateral.
    """
    if view.mined:
        return Wait(why="a block holds it")
    last = max(sent, key=lambda version: version.fee, default=None)
    waiting = view.rival
    if waiting is not None and waiting.txid not in {version.transaction.txid for version in sent}:
        return Wait(why="what both sides have signed waits in the pool")
    late = max(0, view.tip - max(min(one.height for one in sent), contract.refund_height)) if sent else 0
    most = Sats(contract.collateral // 2)
    rate = choose_rate(view.estimate, rule, blocks_late=late)
    goal = build_refund(contract, funding, rate=rate, most=most)
    if last is None:
        return goal
    vsize = last.transaction.vsize
    dearer = max(last.fee + fee_for(vsize, INCREMENTAL_FEE_RATE), waiting.outbid(vsize) if waiting else 0)
    if goal.fee > last.fee and late >= BUMP_AFTER_BLOCKS and dearer <= most:
        return build_refund(contract, funding, rate=rate, least=Sats(dearer), most=most)
    return Wait(why="it waits") if waiting is not None else Again(version=last)
