"""A contract in plain words: rebuilt from its messages, and said who can do what, when, and at which prices.

Pure: the command ``btcfi party verify`` and the console's page are two prints of one ``Explanation``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from btcfi.contracts import setup
from btcfi.contracts.buckets import Payouts, StepRule, bucket_of, most_off
from btcfi.contracts.execution import ANCHOR, check_presignatures
from btcfi.contracts.mandate import check_event
from btcfi.contracts.messages import Accept, ContractTerms, Offer, Party, Role, Sign
from btcfi.contracts.option import FUNDING_OUTPUT, SECONDS_PER_BLOCK
from btcfi.contracts.payouts import check_option_of, decode_terms
from btcfi.contracts.setup import Agreement, SetupPolicy, WrongMessageError
from btcfi.options.terms import OptionTerms
from btcfi.oracle.announcement import FOREIGN, Announcement, OracleEvent, PriceRounding, WrongAnnouncementError
from btcfi.oracle.fixing import Fixing, FixingKind
from btcfi.units import CentsPerBtc, Height, Sats, Slot

SHOWN_PERCENT: Final = (50, 80, 90, 95, 100, 105, 110, 125, 150, 200)
"""Of the strike: the prices of the payoff table."""

_SHORT: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Messages:
    """What two parties have said to each other so far."""

    offer: Offer
    accept: Accept
    sign: Sign | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PayoffRow:
    """What each side gets at one attested price; buyer + seller + anchor + the transaction's own fee = collateral."""

    price: CentsPerBtc | None
    """None: the barrier was touched on the way, whatever the price."""
    buyer: Sats
    seller: Sats


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """One question, and its answers in whole sentences."""

    title: str
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """A contract whose every signature was checked, as its parties should understand it."""

    contract_id: str
    funding_txid: str
    title: str
    signed_by_both: bool
    """Whether the offering side's signatures were there to be checked, too."""
    announcements_compared: bool
    """Whether the oracles were compared with announcements from elsewhere than the offer."""
    sections: tuple[Section, ...]
    payoff: tuple[PayoffRow, ...]
    worst: dict[str, Sats]
    """By role: the most that it can end with less than it started with."""
    refund_height: Height
    expiry_height: Height

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {
            "holds": True,
            "contract_id": self.contract_id,
            "funding_txid": self.funding_txid,
            "title": self.title,
            "signed_by_both": self.signed_by_both,
            "announcements_compared": self.announcements_compared,
            "expiry_height": self.expiry_height,
            "refund_height": self.refund_height,
            "worst_case_sats": self.worst,
            "payoff": [
                {"price_cents": row.price, "buyer_sats": row.buyer, "seller_sats": row.seller} for row in self.payoff
            ],
            "sections": {section.title: list(section.lines) for section in self.sections},
        }


def verified(
    messages: Messages, payouts: Payouts, *, announcements: Sequence[Announcement] = (), min_refund_delay: int = 1
) -> Explanation:
    """Return the explanation of a contract, once it was rebuilt and every signature in it was checked.

    payouts: our own guest on the offer's option. announcements: as you have them from the oracles; without them the
    offer's own are taken, and the explanation says so. min_refund_delay: blocks, what you insist on. Raises what
    ``setup.check_setup`` raises, InvalidInputError when terms, event and option differ, WrongAnnouncementError.
    """
    return examined(messages, payouts, announcements=announcements, min_refund_delay=min_refund_delay)[0]


def examined(
    messages: Messages, payouts: Payouts, *, announcements: Sequence[Announcement] = (), min_refund_delay: int = 1
) -> tuple[Explanation, Agreement]:
    """Return what ``verified`` does, and the contract as it was rebuilt: what its transactions pay can be compared."""
    offer, accept = messages.offer, messages.accept
    option = decode_terms(offer.terms.option)
    _check_same_oracles(offer.terms.announcements, announcements)
    event = (tuple(announcements) or offer.terms.announcements)[0].event
    check_option_of(offer.terms, option)
    check_event(option, event)
    policy = SetupPolicy(min_refund_delay=min_refund_delay)
    if messages.sign is not None:
        agreement = setup.check_setup(offer, accept, messages.sign, payouts, event=event, policy=policy)
    else:
        if accept.offer_id != offer.id:
            raise WrongMessageError("accept", "is for another offer")
        agreement = setup.agree(offer, accept.party, payouts, event=event, policy=policy)
        check_presignatures(agreement.plan, offer.role.other.value, accept.presignatures)
    return _explained(messages, agreement, option, event, compared=bool(announcements)), agreement


def _check_same_oracles(offered: Sequence[Announcement], ours: Sequence[Announcement]) -> None:
    theirs, known = (sorted((one.oracle_key, one.digest()) for one in some) for some in (offered, ours))
    if ours and theirs != known:
        name = ours[0].event.id.hex()[:_SHORT]
        raise WrongAnnouncementError(name, f"the offer's {len(offered)} are not the {len(ours)} that you have")


# ---- in words


def fixing_in_words(fixing: Fixing, end: Slot, rounding: PriceRounding | None) -> str:
    """Return what settles a contract: "mean of the 30 minutes up to 2026-11-27 08:00 UTC, nearest dollar".

    rounding: None for the event of another house's oracle.
    """
    if rounding is None:
        return f"price of {_at(end)}, in whole dollars as its oracle alone fixes and rounds it"
    made = {FixingKind.TWAP: "mean", FixingKind.MEDIAN: "median"}.get(fixing.kind)
    minutes = f"{made} of the {fixing.minutes} minutes up to" if made else "price of"
    dollar = "nearest dollar" if rounding is PriceRounding.NEAREST else "whole dollars, down"
    return f"{minutes} {_at(end)}, {dollar}"


def _explained(
    messages: Messages, agreement: Agreement, option: OptionTerms, event: OracleEvent, *, compared: bool
) -> Explanation:
    rows = _payoff(agreement, option, event)
    worst = _worst(messages.offer, messages.accept.party, agreement)
    chain = agreement.plan.contract
    return Explanation(
        contract_id=agreement.id.hex(),
        funding_txid=_funding(agreement),
        title=_title(option, event),
        signed_by_both=messages.sign is not None,
        announcements_compared=compared,
        sections=(
            _checked(messages, agreement, compared=compared),
            _whose(messages),
            _spending(agreement, option, event),
            _buyer(agreement),
            _seller(agreement, option),
            _worst_in_words(worst, messages.offer.terms),
            _oracles(agreement, event),
            _fees(messages.offer.terms, agreement),
            _not_guaranteed(agreement, event),
        ),
        payoff=rows,
        worst={role.value: amount for role, amount in worst.items()},
        refund_height=chain.refund_height,
        expiry_height=chain.expiry_height,
    )


def _title(option: OptionTerms, event: OracleEvent) -> str:
    knock_out = f", knocked out at {_usd(option.barrier)}" if option.barrier is not None else ""
    style = "American" if option.american else "European"
    kind = option.kind.label.replace("_", " ")
    size = f"{option.quantity / 100:.2f} BTC"
    of = f"{event.feed} of {_at(option.expiry)}"
    if event.version > 1:
        of = f"{event.feed}, {fixing_in_words(event.fixing, event.expiry, event.rounding)}"
    return f"{style} {kind} on {size}, strike {_usd(option.strike)}{knock_out}, {of}"


def _checked(messages: Messages, agreement: Agreement, *, compared: bool) -> Section:
    plan, offering = agreement.plan, messages.offer.role
    signers = "both sides" if messages.sign is not None else f"the {offering.other.value}"
    lines = [
        f"The contract was rebuilt from its messages, its {len(plan.buckets):,} payouts by our own run of the guest.",
        f"Every pre-signature of {signers} is valid: {plan.signature_count:,} a side.",
    ]
    if messages.sign is None:
        lines.append(f"The {offering.value} has not signed yet: until its sign message came, nothing can be funded.")
    else:
        lines.append(f"The {offering.value}'s signatures of its funding inputs are valid, for the whole transaction.")
    lines.append(
        "The oracles are those of the announcements that you gave."
        if compared
        else "The oracles are the offer's: NOT compared. Ask them for their announcements, and give those."
    )
    return Section(title="What was checked", lines=tuple(lines))


def _whose(messages: Messages) -> Section:
    """Return by which keys and to which scripts: a contract of somebody else's keys holds just as well."""
    offer, accepting = messages.offer, messages.accept.party
    sides = {offer.role: offer.party, offer.role.other: accepting}
    lines = []
    for role in (Role.BUYER, Role.SELLER):
        side = sides[role]
        lines.append(f"The {role.value} signs by key {side.key.hex()}.")
        lines.append(f"The {role.value} is paid to script {side.payout_script.hex()}.")
        if side.change_script != side.payout_script:
            lines.append(f"The {role.value}'s change goes to script {side.change_script.hex()}.")
    return Section(title="Whose contract it is", lines=tuple(lines))


def _spending(agreement: Agreement, option: OptionTerms, event: OracleEvent) -> Section:
    chain, threshold = agreement.plan.contract, agreement.plan.threshold
    several = f"{threshold} of {len(agreement.plan.announcements)} oracles"
    attested = (
        f"In blocks above {chain.expiry_height:,}, once {several} have attested the "
        f"{fixing_in_words(event.fixing, event.expiry, event.rounding)}: "
        "either side, or whoever has both sides' pre-signatures, sends the one transaction of that price."
    )
    refund = (
        f"From block {chain.refund_height:,} on, about {_refund_at(agreement, option)}: the seller alone takes it all "
        "back, unless the transaction of the price was mined before."
    )
    return Section(
        title="Who can spend the collateral, and when",
        lines=(
            f"{_btc(chain.collateral)} lie in one output that needs the buyer's and the seller's keys, or the refund.",
            "Any time: both together, at any split that both sign.",
            attested,
            "Then also: both together, in one transaction with other contracts, at that price less a share of its fee.",
            refund,
            "Nobody else, ever: not the oracles, not the service, not one side alone before the refund.",
        ),
    )


def _buyer(agreement: Agreement) -> Section:
    return Section(
        title="What the buyer can and cannot do",
        lines=(
            "Can: take its payout alone once the price is attested, whatever the seller does.",
            f"Must: see that this is mined before block {agreement.plan.contract.refund_height:,}.",
            "Cannot: be paid another amount without the seller's signature, or anything alone before the expiry.",
        ),
    )


def _seller(agreement: Agreement, option: OptionTerms) -> Section:
    delay = agreement.plan.contract.refund_height - agreement.plan.contract.expiry_height
    early = " The buyer may exercise early, which needs the seller's signature, too." if option.american else ""
    return Section(
        title="What the seller can and cannot do",
        lines=(
            "Can: keep the premium, which is paid in the same transaction that locks the collateral.",
            f"Can: take the collateral back {delay:,} blocks after the expiry height if nothing was settled.",
            "Cannot: take it back sooner, or choose another price than the attested one." + early,
        ),
    )


def _worst_in_words(worst: dict[Role, Sats], terms: ContractTerms) -> Section:
    return Section(
        title="The worst for each side",
        lines=(
            f"The buyer ends with {_btc(worst[Role.BUYER])} less: the premium of {_btc(terms.premium)} and its fees.",
            f"The seller ends with {_btc(worst[Role.SELLER])} less, the premium counted: it pays the highest payout.",
        ),
    )


def _oracles(agreement: Agreement, event: OracleEvent) -> Section:
    plan = agreement.plan
    silent = len(plan.announcements) - plan.threshold + 1
    attested = (
        f"{plan.threshold} of {len(plan.announcements)} must attest the same whole dollar of {event.feed}, at most "
        f"${event.max_price:,}. Event {event.id.hex()}."
    )
    keys = tuple(f"Oracle {one.oracle_key.hex()}" for one in plan.announcements)
    condition = (f"They also attest whether it is true that: {event.condition}.",) if event.condition else ()
    return Section(
        title="Who says the price",
        lines=(
            attested,
            *_window(event),
            *keys,
            *condition,
            f"When {silent} of them stay silent, no price settles it, and the seller is refunded.",
            f"Guest program of the payouts: {event.program_hash.hex()}.",
            "It is an oracle of another house: by which rule it finds its price, nothing here says."
            if event.version == FOREIGN
            else f"Preset by which the price is agreed: {event.preset_hash.hex()}.",
        ),
    )


def _window(event: OracleEvent) -> tuple[str, ...]:
    fixing = event.fixing
    if fixing.minutes == 1:
        return ()
    first = f"The window is the {fixing.minutes} minutes from {_at(fixing.window(event.expiry)[0])} on."
    late = f"It needs {fixing.least} of them: where fewer have a price, the next priced minutes count, and are named."
    return (f"{first} {late}",)


def _fees(terms: ContractTerms, agreement: Agreement) -> Section:
    carried = f"pays {terms.cet_fee:,} sat itself" if terms.cet_fee else "pays no fee itself"
    return Section(
        title="Fees",
        lines=(
            f"The funding pays {agreement.funding.fee:,} sat, {terms.rate / 1000:g} sat/vB, each side its own part.",
            f"The transaction of the price {carried}; whoever sends it may add a child that pays more.",
            f"{ANCHOR.value} sat of the collateral are the output that this child spends.",
            _rounding(terms, agreement),
        ),
    )


def _rounding(terms: ContractTerms, agreement: Agreement) -> str:
    rule = terms.rule
    below, above = most_off(rule, agreement.plan.buckets, premium=terms.premium, collateral=terms.collateral)
    if isinstance(rule, StepRule):
        whose = f"{below:,} sat less" if below else f"{above:,} sat more"
        return f"Payouts are rounded {rule.rounding.value} to steps of {rule.step:,} sat: the buyer may get {whose}."
    return (
        f"A range of prices pays half of the least and the most that the guest computes in it, which differ by at most "
        f"{rule.tolerance / 100:g} % of the premium or the payout: the buyer may get {below:,} sat less or {above:,} "
        "sat more than at the price itself; nothing where it computes nothing."
    )


def _not_guaranteed(agreement: Agreement, event: OracleEvent) -> Section:
    threshold = agreement.plan.threshold
    theirs = {PriceRounding.NEAREST: "to the nearest one", PriceRounding.DOWN: "down"}
    rounded = "as its oracle rounds" if event.rounding is None else theirs[event.rounding]
    return Section(
        title="What is NOT guaranteed",
        lines=(
            "That one of the two is you: compare the scripts above with yours (bitcoin-cli validateaddress shows it).",
            f"That the coins exist and a block holds the funding: ask your node for {_funding(agreement)}.",
            f"That the oracles tell the truth: {threshold} that lie together decide the payout.",
            "That an in-the-money payout is mined in time: who sleeps until the refund height may lose it.",
            "That the other side answers a request to close early.",
            f"That a price between two whole dollars counts: it is rounded {rounded} before it is attested.",
        ),
    )


# ---- numbers


def _payoff(agreement: Agreement, option: OptionTerms, event: OracleEvent) -> tuple[PayoffRow, ...]:
    prices = {option.strike * percent // 100 for percent in SHOWN_PERCENT}
    if option.barrier is not None:
        prices |= {option.barrier - 100, option.barrier}
    rows = [_row(agreement, event, CentsPerBtc(max(price, 100))) for price in sorted(prices)]
    if event.condition:
        rows.append(_row(agreement, event, None))
    return tuple(rows)


def _row(agreement: Agreement, event: OracleEvent, price: CentsPerBtc | None) -> PayoffRow:
    outcome = event.outcome(CentsPerBtc(100) if price is None else price, condition=price is None)
    split = agreement.plan.split_of(bucket_of(agreement.plan.buckets, outcome, event.signed_digits))
    attested = None if price is None else event.price_of(outcome)
    return PayoffRow(price=attested, buyer=split.buyer, seller=split.seller)


def _worst(offer: Offer, accepting: Party, agreement: Agreement) -> dict[Role, Sats]:
    """Return by role what its worst outcome costs: what it put in, less its change, the premium and its least share."""
    funding, terms = agreement.funding, offer.terms
    splits = [agreement.plan.split_of(place) for place in range(len(agreement.plan.buckets))]
    least = {Role.BUYER: min(one.buyer for one in splits), Role.SELLER: min(one.seller for one in splits)}
    paid = funding.transaction.outputs[FUNDING_OUTPUT + 1 + bool(terms.premium) :]
    scripts = {offer.role: offer.party.change_script, offer.role.other: accepting.change_script}
    change = {role: sum(one.value for one in paid if one.script == scripts[role]) for role in Role}
    premium = {Role.BUYER: 0, Role.SELLER: terms.premium}
    given = {
        role: sum(funding.spent[index].value for index in setup.inputs_of(agreement, role)) - change[role]
        for role in Role
    }
    return {role: Sats(given[role] - premium[role] - least[role]) for role in Role}


def _funding(agreement: Agreement) -> str:
    return agreement.funding.transaction.txid[::-1].hex()


def _refund_at(agreement: Agreement, option: OptionTerms) -> str:
    chain = agreement.plan.contract
    return _at(option.expiry + (chain.refund_height - chain.expiry_height) * SECONDS_PER_BLOCK)


def _at(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")


def _usd(cents: int) -> str:
    return f"${cents // 100:,}.{cents % 100:02d}"


def _btc(amount: int) -> str:
    return f"{amount:,} sat"
