"""Terms that decode well and that no owner meant: each is refused by name, as an offer, an order and a close.

All rows go through the mails of real desks in one round, beside a good message, which is answered in that round.
"""

import json
from dataclasses import dataclass, field, replace

import pytest

from btcfi.bitcoin.fees import SatsPerKvb
from btcfi.contracts.buckets import Rounding, StepRule, ToleranceRule
from btcfi.contracts.mandate import CloseRule
from btcfi.contracts.messages import (
    CloseOrder,
    Offer,
    Order,
    Role,
    decode_offer,
    encode_close_order,
    encode_offer,
    encode_order,
    encode_proposal,
)
from btcfi.contracts.payouts import breakpoints_of, decode_terms, price_input
from btcfi.options.terms import OptionKind
from btcfi.oracle.announcement import announce
from btcfi.oracle.fixing import parse_fixing
from btcfi.units import BasisPoints, CentsPerBtc, Hash32, Height, Sats, Slot
from tests.support.contracts import ORACLES
from tests.support.desks import EXPIRY, NOW, PRICE, open_chain, open_pair

pytestmark = pytest.mark.integration

BARRIER = CentsPerBtc(15_000_000)
STRANGER = bytes([77]) * 32


def put(**changes):
    """Other values of the contract's terms."""
    return lambda terms: replace(terms, **changes)


def later(name, blocks):
    return lambda terms: replace(terms, **{name: Height(getattr(terms, name) + blocks)})


def option(**changes):
    """Other terms of the option; the rest of the contract stays."""
    return lambda terms: replace(terms, option=terms.option | changes)


def announced(*secrets, **changes):
    """Announcements of the event with changes, by these oracles."""

    def change(terms):
        event = replace(terms.announcements[0].event, **changes)
        return replace(terms, announcements=tuple(announce(secret, event) for secret in secrets or ORACLES[:1]))

    return change


def condition(comparison=">=", barrier=BARRIER, since=NOW, until=EXPIRY):
    return f"agreed price {comparison} {barrier} cents between {since} and {until}"


def with_a_barrier(terms):
    """An option with a barrier, about an event without a condition."""
    wanted = option(barrier_cents=BARRIER)(terms)
    return replace(wanted, breakpoints=breakpoints_of(decode_terms(wanted.option)))


def knocked(**changes):
    """An option with a barrier, about an event with another condition."""
    return lambda terms: announced(condition=condition(**changes))(with_a_barrier(terms))


def forged(terms):
    """The right oracle and event, and nonces that are not the oracle's."""
    (one,) = terms.announcements
    return replace(terms, announcements=(replace(one, nonces=announce(STRANGER, one.event).nonces),))


def at_another_minute(minute):
    return lambda terms: announced(expiry=minute)(option(expiry_unix=minute)(terms))


WINDOW = parse_fixing("twap:30")

STEPS = StepRule(step=Sats(50_000), rounding=Rounding.DOWN)

ROWS = {
    "10,000 sat/vB": (put(rate=SatsPerKvb(10_000_000)), "funding_sats_per_kvb"),
    "a sat more a vB than allowed": (put(rate=SatsPerKvb(50_001)), "funding_sats_per_kvb"),
    "a refund nine hundred years away": (later("refund_height", 47_304_000), "refund_height"),
    "a refund one block too late": (later("refund_height", 2_005), "refund_height"),
    "a refund at the expiry": (later("refund_height", -12), "refund"),
    "an expiry height of next year": (later("expiry_height", 52_560), "expiry_height"),
    "an expiry height that has passed": (later("expiry_height", -60), "expiry_height"),
    "a premium of 20 BTC": (put(premium=Sats(2_000_000_000)), "premium_sats"),
    "no premium": (put(premium=Sats(0)), "premium_sats"),
    "a premium of a fifth of the collateral": (put(premium=Sats(2_000_000)), "premium_sats"),
    "a tolerance as wide as the payout": (put(rule=ToleranceRule(tolerance=BasisPoints(10_000))), "tolerance_bps"),
    "a CET without a fee": (put(cet_fee=Sats(0)), "cet_fee_sats"),
    "a CET that pays all to the miner": (put(cet_fee=Sats(9_000_000)), "cet_fee_sats"),
    "a collateral that is not the option's": (put(collateral=Sats(11_000_000)), "collateral_sats"),
    "a collateral above the bound": (
        lambda terms: put(collateral=Sats(30_000_000))(option(collateral_sats=30_000_000)(terms)), "collateral_sats",
    ),
    "version 1": (put(version=1, cet_fee=Sats(0), rule=STEPS), "version"),
    "version 2": (put(version=2, rule=STEPS), "version"),
    "threshold 1 of 3": (announced(*ORACLES), "oracles"),
    "a threshold that nobody allowed": (put(threshold=2), "threshold"),
    "a stranger's oracle": (announced(STRANGER), "oracles"),
    "our oracle and a stranger's": (announced(ORACLES[0], STRANGER), "oracles"),
    "one oracle twice": (announced(ORACLES[0], ORACLES[0]), "oracles"),
    "no oracle": (put(announcements=()), "oracles"),
    "nonces that are not the oracle's": (forged, "nonce"),
    "an event of another day": (announced(expiry=Slot(EXPIRY + 86_400)), "event.expiry_unix"),
    "an event of the minute before": (announced(expiry=Slot(EXPIRY - 60)), "event.expiry_unix"),
    "a minute that has passed": (at_another_minute(Slot(NOW - 3_600)), "option.expiry_unix"),
    "a minute of next year": (at_another_minute(Slot(EXPIRY + 365 * 86_400)), "option.expiry_unix"),
    "another feed": (announced(feed="ETH-USD"), "event.feed"),
    "other rules of the price": (announced(preset_hash=Hash32(b"\x09" * 32)), "event.preset_hash"),
    "another guest program": (announced(program_hash=Hash32(b"\x09" * 32)), "event.program_hash"),
    "fewer digits than the price has": (announced(digits=10), "event.digits"),
    "a condition for an option without a barrier": (announced(condition=condition()), "event.condition"),
    "a barrier without a condition": (with_a_barrier, "event.condition"),
    "a knock-out condition of another barrier": (knocked(barrier=BARRIER + 1), "event.condition"),
    "a knock-out condition of the other side": (knocked(comparison="<="), "event.condition"),
    "a knock-out condition until another minute": (knocked(until=EXPIRY - 60), "event.condition"),
    "a knock-out condition since last year": (knocked(since=NOW - 365 * 86_400), "event.condition"),
    "a knock-out condition since its end": (knocked(since=EXPIRY), "event.condition"),
    "an event of a window for an option of one minute": (announced(version=2, fixing=WINDOW), "event.version"),
    "an event of a minute for an option of a window": (option(fixing="twap:30"), "event.version"),
    "an event of another window": (
        lambda terms: announced(version=2, fixing=WINDOW)(option(fixing="twap:31")(terms)), "event.fixing",
    ),
    "a window of one minute": (option(fixing="twap:1"), "offer.option.fixing"),
    "a fixing that is null": (option(fixing=None), "offer.option.fixing"),
    "no breakpoints": (put(breakpoints=()), "breakpoint_cents"),
    "breakpoints of another strike": (put(breakpoints=(CentsPerBtc(100),)), "breakpoint_cents"),
    "a binary option": (option(kind=OptionKind.BINARY_CALL.label), "option.kind"),
    "an American option": (option(american=True), "option.american"),
    "an option with a field more": (option(later=1), "offer.option"),
    "an option without a strike": (
        lambda terms: replace(terms, option={k: v for k, v in terms.option.items() if k != "strike_cents"}),
        "offer.option.strike_cents",
    ),
}  # fmt: skip
"""What is wrong -> (the terms with it, what the refusal names)."""


@dataclass
class Verdicts:
    """What one reader did with all rows, and with a good message beside them."""

    reasons: dict = field(default_factory=dict)
    before: tuple = ()
    after: tuple = ()
    answered: bool = False


def judged(side, folder, rows, good, answer):
    """Let a reader judge rows of (name, message) in one round, and once more beside the good message."""
    side.round()
    seen = Verdicts(before=side.facts())
    for number, message in enumerate(rows.values()):
        side.put(folder, f"a{number}", message)
    side.round()
    seen.after = side.facts()
    for number, name in enumerate(rows):
        reason = side.folder / folder / "refused" / f"a{number}.reason"
        seen.reasons[name] = reason.read_text() if reason.exists() else None
        if number % 5 == 0:
            side.put(folder, f"b{number}", rows[name])
    side.put(folder, "good", good)
    side.round()
    seen.answered = side.said(answer) is not None
    return seen


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pairs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.fsync", lambda _: None)
        with open_chain(folder) as (chain, cookie):
            yield folder, chain, cookie


@pytest.fixture(scope="module")
def offers(world):
    """The rows as offers to a buyer whose owner asks for no bids: the mandate alone stands between."""
    folder, chain, cookie = world
    with open_pair(folder / "offers", chain, cookie, 1) as pair:
        terms = pair.terms()
        pair.order("good", terms)
        pair.seller.round()
        good = decode_offer(pair.seller.said("good.offer"))
        for path in (pair.buyer.folder / "bids").glob("*.json"):
            path.unlink()
        pair.buyer.allow(unbidden=True)
        rows = {name: encode_offer(replace(good, terms=change(terms))) for name, (change, _) in ROWS.items()}
        rows["the role that the reader may not take"] = encode_offer(
            Offer(terms=terms, role=Role.BUYER, party=good.party)
        )
        pair.buyer.allow(unbidden=True, roles=(Role.BUYER,))
        return judged(pair.buyer, "inbox", rows, encode_offer(good), "good.accept")


@pytest.fixture(scope="module")
def orders(world):
    """The rows as orders in the owner's own folder, which others may have got at."""
    folder, chain, cookie = world
    with open_pair(folder / "orders", chain, cookie, 2) as pair:
        terms = pair.terms()
        rows = {name: encode_order(Order(terms=change(terms), role=Role.SELLER)) for name, (change, _) in ROWS.items()}
        return judged(pair.seller, "orders", rows, encode_order(Order(terms=terms, role=Role.SELLER)), "good.offer")


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("door", ["offers", "orders"])
def test_terms_that_no_owner_meant_are_refused_by_their_name(request, door, name):
    reason = request.getfixturevalue(door).reasons[name]
    assert reason is not None
    assert ROWS[name][1] in reason.partition(";")[0], reason


@pytest.mark.parametrize("door", ["offers", "orders"])
def test_nothing_is_signed_reserved_or_kept_for_any_of_them_and_the_good_one_is_answered_beside_them(request, door):
    seen = request.getfixturevalue(door)
    assert seen.after == seen.before
    assert seen.answered


def test_a_side_that_the_mandate_does_not_have_is_not_taken(offers):
    assert offers.reasons["the role that the reader may not take"].startswith("role")


def test_what_is_at_stake_in_all_contracts_together_is_bounded(world):
    folder, chain, cookie = world
    with open_pair(folder / "exposure", chain, cookie, 3) as pair:
        pair.seller.allow(exposure=Sats(25_000_000))
        for name in ("one", "two", "three"):
            pair.order(name)
        pair.seller.round()
        offered = {name for name in ("one", "two", "three") if pair.seller.said(f"{name}.offer")}
        assert offered == {"one", "three"}
        assert (pair.seller.folder / "orders/refused/two.reason").read_text().startswith("exposure")


@pytest.mark.parametrize("change", [{"networks": ("main",)}, {"valid_until": NOW - 60}, {"valid_from": NOW + 86_400}])
def test_under_a_mandate_of_another_network_or_time_nothing_is_offered_or_reserved(world, change, request):
    folder, chain, cookie = world
    number = 20 + sum(1 for _ in folder.glob("mandate-*"))
    with open_pair(folder / f"mandate-{number}", chain, cookie, number) as pair:
        changes = change | ({"valid_from": 0} if "valid_until" in change else {})
        pair.seller.allow(**changes)
        before = pair.seller.facts()
        pair.order("one")
        pair.seller.round()
        assert list((pair.seller.folder / "orders/refused").glob("one.reason"))
        assert pair.seller.facts() == before


def test_what_the_service_proposes_is_offered_only_where_the_mandate_says_unbidden(world):
    folder, chain, cookie = world
    with open_pair(folder / "proposals", chain, cookie, 40) as pair:
        proposal = encode_proposal(Order(terms=pair.terms(), role=Role.SELLER))
        before = pair.seller.facts()
        pair.seller.put("inbox", "one.proposal", proposal)
        pair.seller.round()
        assert "no bid of ours" in (pair.seller.folder / "inbox/refused/one.proposal.reason").read_text()
        assert pair.seller.facts() == before
        pair.seller.allow(number=2, unbidden=True)
        pair.seller.put("inbox", "two.proposal", proposal)
        pair.seller.round()
        assert pair.seller.said("two.offer")["premium_sats"] == pair.terms().premium


# ---- closes


def close(terms, name, *, payout=2_000_000, rate=2_000, price=PRICE, guest=True, **changes):
    given = price_input(decode_terms(terms.option | changes), price).to_bytes() if guest else b""
    return CloseOrder(offer_id=bytes.fromhex(name), payout=Sats(payout), rate=SatsPerKvb(rate), guest_input=given)


CLOSES = {
    "a fee that eats the payout": ({"rate": 10_000_000}, "close.sats_per_kvb"),
    "a fee above the bound at a rate inside": ({"rate": 50_000, "guest": False}, "close"),
    "an invented payout": ({"payout": 9_000_000, "guest": False}, "close.guest_input"),
    "a satoshi more than the guest computes": ({"payout": 2_000_001}, "close.payout_sats"),
    "a price that no owner expects": ({"price": CentsPerBtc(40_000_000), "payout": 7_500_000}, "close.price"),
    "another option's strike": ({"strike_cents": 5_000_000, "payout": 6_000_000}, "close.guest_input.strike"),
    "another quantity": ({"quantity_centibtc": 5, "payout": 1_000_000}, "close.guest_input.quantity"),
    "more than the collateral": ({"payout": 10_000_001}, "payout"),
}  # fmt: skip


@pytest.fixture(scope="module")
def closes(world):
    """The rows as orders to close, in the buyer's own folder."""
    folder, chain, cookie = world
    with open_pair(folder / "closes", chain, cookie, 4) as pair:
        terms = pair.terms(number=0)
        pair.reach("one", terms, "nothing more")
        (name,) = pair.buyer.store.names()
        pair.buyer.allow(close=CloseRule.GUEST, close_fee=Sats(5_000))
        rows = {label: encode_close_order(close(terms, name, **changes)) for label, (changes, _) in CLOSES.items()}
        rows = json.loads(json.dumps(rows))
        good = encode_close_order(close(terms, name))
        return judged(pair.buyer, "orders", rows, good, "good.close-request")


@pytest.mark.parametrize("name", CLOSES)
def test_a_close_that_no_owner_meant_is_refused_by_its_name(closes, name):
    reason = closes.reasons[name]
    assert reason is not None
    assert CLOSES[name][1] in reason.partition(";")[0], reason


def test_no_nonce_is_made_for_a_close_that_is_refused_and_the_good_one_is_asked_for_beside_them(closes):
    assert closes.after == closes.before
    assert closes.answered
