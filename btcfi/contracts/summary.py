"""What one side is about to sign, in one screen: amounts, the other side, the worst case, fees and oracles."""

from __future__ import annotations

from dataclasses import dataclass

from btcfi.contracts.buckets import most_off
from btcfi.contracts.cooperative import Close
from btcfi.contracts.messages import Role
from btcfi.contracts.setup import Agreement
from btcfi.errors import BtcfiError
from btcfi.oracle.announcement import PriceRounding
from btcfi.oracle.fixing import Fixing
from btcfi.units import Hash32, Height, Sats, Slot


class DeclinedError(BtcfiError):
    """The owner has seen what was about to be signed, and has said no."""

    def __init__(self, what: str) -> None:
        super().__init__(f"{what}: you said no; nothing was signed and nothing is reserved")
        self.what = what


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """A contract as one side sees it before it signs."""

    contract: Hash32
    role: Role
    counterparty: bytes
    """The other side's key in this contract, x-only."""
    option: dict[str, object]
    """The terms as the messages have them."""
    collateral: Sats
    premium: Sats
    funding_fee: Sats
    """This side's part."""
    cet_fee: Sats
    best: Sats
    """What this side gets back at most, by settlement or refund; premium not counted."""
    least: Sats
    """What it gets back at least, by settlement."""
    worst_loss: Sats
    """The most that it can lose: what it puts in and pays, less what comes back at least."""
    feed: str
    fixing: Fixing
    """What is made of its minutes up to the expiry."""
    rounding: PriceRounding | None
    expiry: Slot
    condition: str
    """Of the event: whether a barrier was touched, and between which minutes; empty without one."""
    expiry_height: Height
    refund_height: Height
    oracles: tuple[bytes, ...]
    threshold: int
    buckets: int
    rounded_off: Sats
    """The most that a settlement may pay this side less than the guest's own payout would; dust apart."""
    mandate: int
    """The number of the mandate under which it is signed."""


def summary_of(agreement: Agreement, role: Role, *, mandate: int) -> Summary:
    """Return the summary of an agreement for one of its sides."""
    terms, plan, funding = agreement.terms, agreement.plan, agreement.funding
    splits = [plan.split_of(bucket) for bucket in range(len(plan.buckets))]
    returns = [one.seller if role is Role.SELLER else one.buyer for one in splits]
    fee = funding.seller_fee if role is Role.SELLER else Sats(funding.fee - funding.seller_fee)
    paid = terms.collateral - terms.premium if role is Role.SELLER else terms.premium
    contract = plan.contract
    event = terms.announcements[0].event
    below, above = most_off(terms.rule, plan.buckets, premium=terms.premium, collateral=terms.collateral)
    return Summary(
        contract=agreement.id,
        role=role,
        counterparty=contract.buyer_key if role is Role.SELLER else contract.seller_key,
        option=terms.option,
        collateral=terms.collateral,
        premium=terms.premium,
        funding_fee=fee,
        cet_fee=terms.cet_fee,
        best=max(returns),
        least=min(returns),
        worst_loss=Sats(max(0, paid + fee - min(returns))),
        feed=event.feed,
        fixing=event.fixing,
        rounding=event.rounding,
        expiry=event.expiry,
        condition=event.condition,
        expiry_height=terms.expiry_height,
        refund_height=terms.refund_height,
        oracles=tuple(one.oracle_key for one in terms.announcements),
        threshold=terms.threshold,
        buckets=len(plan.buckets),
        rounded_off=above if role is Role.SELLER else below,
        mandate=mandate,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class CloseSummary:
    """A close as one side sees it before it signs."""

    contract: Hash32
    role: Role
    asked: Sats
    """The payout that both sides have named."""
    buyer: Sats
    """What the chain will pay the buyer."""
    seller: Sats
    fee: Sats
    computed: bool
    """Whether the guest computes the payout; else the two just agree on it."""
    mandate: int


def close_summary_of(contract: Hash32, close: Close, role: Role, *, mandate: int) -> CloseSummary:
    """Return the summary of a close for one of its sides."""
    return CloseSummary(
        contract=contract,
        role=role,
        asked=close.asked,
        buyer=close.payout,
        seller=close.seller_return,
        fee=close.fee,
        computed=bool(close.guest_input),
        mandate=mandate,
    )
