"""A window of minutes settles an option: through voids, a depeg, a wick, silence, outages; the proof names each."""

import itertools
import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from btcfi.adapters.store.options import attesting, options, settlements
from btcfi.adapters.store.options.options import event_of
from btcfi.adapters.store.options.sales import Order, SaleRule, UnfitPriceError, sell
from btcfi.adapters.store.options.tables import OptionRow, OptionState, RequestState, SettlementRow
from btcfi.adapters.store.prices import pauses, rounds
from btcfi.adapters.store.prices.fixings import fixing_of
from btcfi.adapters.store.prices.observations import observations_of, store_observation
from btcfi.adapters.store.prices.rounds import Register
from btcfi.adapters.store.spine.database import Store
from btcfi.adapters.store.spine.edges import cross
from btcfi.options.expiry import SettlementInput, SettlementOutput
from btcfi.options.order import PriceMovedError, QuoteExpiredError
from btcfi.options.payoff import settle_in_python
from btcfi.options.terms import InvalidTermsError, OptionKind
from btcfi.oracle import batch
from btcfi.oracle.announcement import PriceRounding, announce
from btcfi.oracle.consensus import ConsensusRule, Method
from btcfi.oracle.fixing import MINUTE, MOST_MINUTES, Fixing, FixingKind, LeftOut, fix, parse_fixing
from btcfi.oracle.freshness import expires_at
from btcfi.oracle.quote import Feed
from btcfi.proofs.settlement_proof import from_json, verify
from btcfi.proofs.subtrees import prove
from btcfi.proofs.window import read_window
from btcfi.secp256k1 import even_secret
from btcfi.units import BasisPoints, CentiBtc, CentsPerBtc, Slot, UnixSeconds
from btcfi.vm.interpreter import run_untraced
from btcfi.vm.program import load_program
from tests.support.oracle_support import missing, quote
from tests.support.rounds import DOLLARS, add_minute, closed_round, priced_round, void_minute

pytestmark = pytest.mark.integration

FEED = Feed("BTC/USD")
LISTED = Slot(1_700_000_040)
NOW = UnixSeconds(LISTED + 60)
TWAP = parse_fixing("twap:30")
EXPIRY = Slot(LISTED + 45 * 60)
ENDED = UnixSeconds(EXPIRY + 60)
"""When the minute of the expiry has ended."""
WINDOW = TWAP.window(EXPIRY)
RULE = ConsensusRule()
RULE_OF = lambda _sha256: RULE  # noqa: E731 - one preset, whatever its hash
SALE = SaleRule(
    feed=FEED, preset="standard", preset_sha256="00" * 32, rate_bps=BasisPoints(500), fallback_volatility_bps=6_000,
    program="option_settlement", program_sha256="11" * 32, fixing=TWAP,
)  # fmt: skip
REGISTER = Register(feed=FEED, venues=DOLLARS, legs=(), rule=RULE)


def sold(session, name="one", *, price=5_000_000, active=True, **changes):
    """Sell a call at the money, the minute before being the newest one."""
    if rounds.find_round(session, FEED, LISTED) is None:
        add_minute(session, LISTED, price)
    order = Order(
        option_id=name, kind=OptionKind.CALL, strike=CentsPerBtc(5_000_000), quantity=CentiBtc(5), barrier=None,
        american=False, expiry=EXPIRY,
    )  # fmt: skip
    row = sell(session, replace(order, **changes), SALE, now=NOW)
    if active:
        cross(session, row, OptionState.ACTIVE, now=NOW)
    return row


def until_the_window(session, price=5_000_000):
    for at in range(LISTED + 60, WINDOW[0], 60):
        add_minute(session, at, price)


def settle(session, now=NOW):
    """Expire what is due and return the settlement's row, None when nothing is due."""
    options.expire_due(session, FEED, RULE_OF, now=now, batch_size=64)
    return session.get(SettlementRow, "st-one")


def test_a_window_across_a_void_stretch_a_depeg_and_a_flash_wick_pays_by_hand_by_the_twin_and_by_the_guest(store):
    said = {}
    with store.transaction() as session:
        sold(session)
        until_the_window(session)
        for place, at in enumerate(WINDOW):
            calm = 5_100_000 + 1_003 * place
            if 5 <= place < 12:  # nobody answers: seven minutes are void
                void_minute(session, at)
            elif place == 15:  # a depeg: bitcoin costs 5 % more in a coin that nobody converts
                closed_round(session, at, [calm] * 5, coin=calm * 105 // 100)
                said[at] = calm
            elif place == 20:  # a flash wick on one market: its close is 18 % off
                closed_round(session, at, [calm, calm, calm, calm * 82 // 100, calm])
                said[at] = calm
            else:
                add_minute(session, at, calm)
                said[at] = calm
        row = settle(session)
        assert session.get_one(OptionRow, "one").fixing == "twap:30"
    assert len(said) == 23
    mean = sum(said.values()) // 23
    dollars = (mean + 50) // 100
    payout = (dollars * 100 - 5_000_000) * 5 // 100  # the intrinsic value of five hundredths of a bitcoin
    given = SettlementInput.from_bytes(bytes.fromhex(row.input_hex))
    assert (row.price_cents, given.spot) == (dollars * 100,) * 2
    assert settle_in_python(given).payout == payout
    program = load_program("option_settlement")
    ran = run_untraced(program, bytes.fromhex(row.input_hex), max_steps=1 << 20)
    assert SettlementOutput.from_bytes(ran.output).payout == payout
    window = read_window(row.window)
    left_out = {one.slot: one.left_out for one in window.minutes if one.left_out is not None}
    assert left_out == dict.fromkeys(WINDOW[5:12], LeftOut.VOID)
    assert (window.rounding, window.end, len(window.minutes)) == (PriceRounding.NEAREST, EXPIRY, 30)
    proof = replace(prove(program, bytes.fromhex(row.input_hex)), window=window)
    assert any("window" in check or "twap:30" in check for check in verify(proof, program).checks)


def test_venues_that_are_silent_for_eleven_of_thirty_minutes_never_send_an_in_the_money_buyer_to_the_refund(store):
    with store.transaction() as session:
        sold(session)
        until_the_window(session)
        for place, at in enumerate(WINDOW):
            void_minute(session, at) if 10 <= place < 21 else add_minute(session, at, 6_000_000)
        assert settle(session) is None  # 19 of 30: one too few
        add_minute(session, EXPIRY + 60, 6_000_300)
        row = settle(session)
        window = read_window(row.window)
        assert [one.slot for one in window.minutes if one.slot > EXPIRY] == [EXPIRY + 60]
        assert row.slot == EXPIRY + 60
        assert row.price_cents == (19 * 6_000_000 + 6_000_300) // 20 // 100 * 100
        assert settle_in_python(SettlementInput.from_bytes(bytes.fromhex(row.input_hex))).payout > 0


def test_a_window_whose_last_minutes_are_void_is_known_without_a_later_price(store):
    with store.transaction() as session:
        sold(session)
        until_the_window(session)
        for place, at in enumerate(WINDOW):
            add_minute(session, at, 5_200_000) if place < 20 else void_minute(session, at)
        assert settle(session).price_cents == 5_200_000


def test_after_an_outage_of_half_an_hour_the_tick_opens_every_minute_of_the_window_again(store):
    assert rounds.CATCH_UP_SLOTS >= MOST_MINUTES
    with store.transaction() as session:
        sold(session)
        until_the_window(session)
        assert rounds.open_round(session, FEED, EXPIRY, now=ENDED, deadline_seconds=10)
        states = [rounds.find_round(session, FEED, Slot(at)) for at in WINDOW]
        assert [row and row.state for row in states] == ["open"] * 30
        assert settle(session) is None
        for at in WINDOW:
            for venue in DOLLARS:
                store_observation(session, FEED, quote(venue, 5_300_000, slot=Slot(at)), b"", now=NOW)
            assert rounds.close_round(session, REGISTER, Slot(at), now=ENDED, final=False) == "priced"
        assert settle(session).price_cents == 5_300_000


def test_minutes_that_nobody_asked_for_are_named_and_later_ones_stand_in_for_them(store):
    with store.transaction() as session:
        sold(session)
        for at in range(EXPIRY + 60, EXPIRY + 20 * 60, 60):
            add_minute(session, at, 5_400_000)
            assert settle(session) is None
        add_minute(session, EXPIRY + 20 * 60, 5_400_000)
        row = settle(session)
        window = read_window(row.window)
        assert {one.left_out for one in window.minutes[:30]} == {LeftOut.NEVER_ASKED}
        assert len(window.minutes) == 50
        assert row.price_cents == 5_400_000


def test_an_open_minute_of_the_window_is_waited_for(store):
    with store.transaction() as session:
        sold(session)
        until_the_window(session)
        for at in WINDOW[:-1]:
            add_minute(session, at, 5_200_000)
        assert rounds.open_round(session, FEED, EXPIRY, now=ENDED, deadline_seconds=10)
        add_minute(session, EXPIRY + 60, 5_200_000)
        assert settle(session) is None
        rounds.close_round(session, REGISTER, EXPIRY, now=ENDED, final=True)
        assert settle(session) is not None


def test_a_thin_minute_does_not_count_and_is_named(store):
    with store.transaction() as session:
        sold(session)
        until_the_window(session)
        for place, at in enumerate(WINDOW):
            thin = place >= 20 and place % 2
            add_minute(session, at, 5_900_000 if thin else 5_200_000, confidence=6_000 if thin else 0)
        row = settle(session)
        left_out = [one.left_out for one in read_window(row.window).minutes if one.left_out]
        assert (left_out, row.price_cents) == ([LeftOut.THIN] * 5, 5_200_000)


def test_what_is_written_into_a_round_moves_no_settlement_for_every_minute_is_agreed_again(store):
    with store.transaction() as session:
        sold(session)
        until_the_window(session)
        for at in WINDOW:
            row = add_minute(session, at, 5_200_000)
            report = json.loads(row.report)
            row.price_cents, row.report = 9_900_000, json.dumps(report | {"price": 9_900_000, "reach": 0})
        session.flush()
        assert settle(session).price_cents == 5_200_000


def test_what_a_venue_says_after_the_round_was_closed_is_not_stored_and_changes_no_fixing(store):
    with store.transaction() as session:
        add_minute(session, LISTED, 5_000_000)
        closed_round(session, LISTED + 60, [5_000_000, 5_000_000, 5_000_000, 5_000_000, None])
        before = observations_of(session, FEED, Slot(LISTED + 60))
        other = replace(quote(DOLLARS[-1], 5_004_000, slot=Slot(LISTED + 60)), venue=replace(DOLLARS[-1], quote="USDT"))
        for late in (other, quote(DOLLARS[-1], 5_004_000, slot=Slot(LISTED + 60))):
            assert not store_observation(session, FEED, late, b"", now=NOW)
        assert observations_of(session, FEED, Slot(LISTED + 60)) == before
        rounds.open_round(session, FEED, Slot(LISTED + 120), now=ENDED, deadline_seconds=10)
        assert store_observation(session, FEED, missing(DOLLARS[0], slot=Slot(LISTED + 120)), b"", now=NOW)


def test_an_option_of_an_earlier_release_settles_on_its_minute_rounded_down_by_its_own_rule(store):
    sold_by = ConsensusRule(method=Method.VOLUME_WEIGHTED_MEDIAN, least_dollar_markets=0, thin_bps=0)
    with store.transaction() as session:
        row = sold(session)
        row.fixing = None
        event = event_of(row)
        assert (event.version, event.fixing, event.rounding) == (1, MINUTE, PriceRounding.DOWN)
        session.add(priced_round(EXPIRY, 5_500_099))  # an earlier release agreed it, and measured no reach
        session.flush()
        assert fixing_of(session, FEED, MINUTE, EXPIRY, RULE) is None  # unmeasured: no rule that asks settles on it
        options.expire_due(session, FEED, lambda _sha256: sold_by, now=NOW, batch_size=64)
        settled = session.get_one(SettlementRow, "st-one")
        assert (settled.price_cents, settled.slot, settled.window) == (5_500_000, EXPIRY, None)


def test_an_option_whose_preset_agrees_otherwise_settles_by_its_own_rule(store):
    mean = ConsensusRule(method=Method.MEAN, least_dollar_markets=0, thin_bps=0)
    with store.transaction() as session:
        sold(session, fixing=MINUTE)
        closed_round(session, EXPIRY, [5_200_000, 5_200_000, 5_200_000, 5_200_000, 5_250_000])
        options.expire_due(session, FEED, lambda _sha256: mean, now=NOW, batch_size=64)
        assert session.get_one(SettlementRow, "st-one").price_cents == 5_210_000  # the median says 5,200,000


def test_the_oracles_attest_the_fixing_that_settles_to_the_nearest_dollar(store):
    with store.transaction() as session:
        row = sold(session)
        event = event_of(row)
        assert (event.version, event.fixing) == (2, TWAP)
        announced = [announce(even_secret(bytes([7] * 32)), event)]
        attesting.store_event(session, event, options.condition_of_row(row), announced, now=NOW)
        until_the_window(session)
        assert fixing_of(session, FEED, event.fixing, event.expiry, RULE_OF("")) is None
        for place, at in enumerate(WINDOW):
            add_minute(session, at, 5_200_000 + 100 * (place % 2))
        outcome = event.outcome(fixing_of(session, FEED, event.fixing, event.expiry, RULE_OF("")).price)
        assert outcome == 52_001  # 52,000.50: half a dollar goes up
        assert settle(session).price_cents == event.price_of(outcome)


def test_an_exercise_pays_the_fixing_of_the_window_that_ends_then_intrinsic_and_continuation_alike(store):
    with store.transaction() as session:
        row = sold(session, kind=OptionKind.BINARY_CALL, strike=CentsPerBtc(4_000_000), fixing=parse_fixing("twap:10"))
        row.american = True  # none is sold (docs/decisions/0053)
        settlements.request_settlement(session, "one", requested_by="op", now=NOW)
        for place in range(1, 10):
            add_minute(session, LISTED + 60 * place, 5_000_000 + 1_001 * place)
            # its window would begin before it was listed: what was paid then is not of its life
            assert "waits" in settlements.answer_request(session, "one", RULE_OF, now=NOW)
        assert settlements.request_settlement(session, "one", requested_by="op", now=NOW).state == RequestState.OPEN
        add_minute(session, LISTED + 600, 5_000_000 + 1_001 * 10)
        assert settlements.answer_request(session, "one", RULE_OF, now=NOW) == "early exercise"
        mean = 5_000_000 + 1_001 * 55 // 10
        settled = session.get_one(SettlementRow, "st-one")
        given = SettlementInput.from_bytes(bytes.fromhex(settled.input_hex))
        window = read_window(settled.window)
        assert (settled.price_cents, given.spot, given.time_to_expiry) == (mean, mean, 35)
        assert (window.rounding, window.end, len(window.minutes)) == (None, LISTED + 600, 10)
        assert row.state == OptionState.EXPIRED


def test_a_request_waits_while_too_few_minutes_of_its_window_are_fit_and_is_answered_when_they_are(store):
    with store.transaction() as session:
        row = sold(session, kind=OptionKind.BINARY_CALL, strike=CentsPerBtc(4_000_000), fixing=parse_fixing("twap:6"))
        row.american = True  # as above
        for place in range(1, 9):
            void_minute(session, LISTED + 60 * place) if 3 <= place <= 5 else add_minute(
                session, LISTED + 60 * place, 5_000_000
            )
        settlements.request_settlement(session, "one", requested_by="op", now=NOW)
        assert "two thirds" in settlements.answer_request(session, "one", RULE_OF, now=NOW)
        assert settlements.open_requests(session) == ["one"]
        add_minute(session, LISTED + 60 * 9, 5_000_000)
        assert settlements.answer_request(session, "one", RULE_OF, now=NOW) == "early exercise"


def test_an_exercise_pays_no_price_from_before_the_sale(store):
    with store.transaction() as session:
        add_minute(session, LISTED - 120, 6_000_000)
        rounds.open_round(session, FEED, Slot(LISTED - 60), now=NOW, deadline_seconds=10)  # and stays open
        row = sold(session, kind=OptionKind.BINARY_CALL, strike=CentsPerBtc(5_500_000), american=True)
        assert (row.fixing, row.premium_cents) == ("minute", 50)  # worth nothing, sold for the least
        settlements.request_settlement(session, "one", requested_by="op", now=NOW)
        assert "waits" in settlements.answer_request(session, "one", RULE_OF, now=NOW)
        assert session.get(SettlementRow, "st-one") is None


def test_an_american_option_is_sold_on_its_minute_alone(store):
    with store.transaction() as session:
        for fixing in ("twap:30", "median:2"):
            with pytest.raises(InvalidTermsError, match="of an American option"):
                sold(session, american=True, fixing=parse_fixing(fixing))
        assert sold(session, american=True).fixing == "minute"
        assert sold(session, "two", american=True, fixing=MINUTE).fixing == "minute"
        assert sold(session, "three").fixing == "twap:30"


def test_a_quote_is_a_limit_for_its_seconds_and_the_same_order_comes_again_whatever_it_costs_by_then(store):
    with store.transaction() as session:
        premium = sold(session, active=False).premium_cents
        for age in (SALE.quote_seconds, -SALE.quote_seconds):
            asked = {"quoted_at": UnixSeconds(NOW - age), "max_premium": premium, "active": False}
            assert sold(session, f"at{age}", **asked).premium_cents == premium
        for age in (SALE.quote_seconds + 1, -SALE.quote_seconds - 1):
            with pytest.raises(QuoteExpiredError) as old:
                sold(session, "late", quoted_at=UnixSeconds(NOW - age))
            assert old.value.age_seconds == age
        with pytest.raises(PriceMovedError) as moved:
            sold(session, "dear", max_premium=premium - 1)
        assert (moved.value.premium, moved.value.limit) == (premium, premium - 1)
        assert session.get(OptionRow, "dear") is None
        # pressed twice: the option that it made, also where its limit is passed by now
        assert sold(session, max_premium=1, quoted_at=UnixSeconds(0), active=False).id == "one"


def test_nothing_is_sold_at_a_price_that_the_market_has_left(store):
    with store.transaction() as session:
        add_minute(session, LISTED, 5_000_000)
        order = Order(
            option_id="one", kind=OptionKind.CALL, strike=CentsPerBtc(5_000_000), quantity=CentiBtc(5), barrier=None,
            american=False, expiry=Slot(LISTED + 10 * 86_400),
        )  # fmt: skip
        for now in (expires_at(LISTED), UnixSeconds(LISTED + 2 * 86_400)):
            with pytest.raises(UnfitPriceError, match="stale"):
                sell(session, order, SALE, now=now)
        closed_round(session, LISTED + 60, [5_000_000, 5_040_000, 5_041_000, 5_042_000, None])
        with pytest.raises(UnfitPriceError, match="thin"):
            sell(session, order, SALE, now=UnixSeconds(LISTED + 120))
        add_minute(session, LISTED + 120, 5_040_000)
        pauses.pause(session, FEED, by="op", now=UnixSeconds(LISTED + 180))
        with pytest.raises(UnfitPriceError, match="halted"):
            sell(session, order, SALE, now=UnixSeconds(LISTED + 180))
        pauses.resume(session, FEED, now=UnixSeconds(LISTED + 180))
        sold_at = sell(session, order, SALE, now=UnixSeconds(LISTED + 180))
        # what is sold stays what it is, whatever the price is by now
        assert sell(session, order, SALE, now=UnixSeconds(LISTED + 3 * 86_400)) is sold_at


def test_after_an_outage_many_windows_look_for_the_same_minutes_once(store, monkeypatch):
    agreed = []
    again = batch.agreed_minutes
    monkeypatch.setattr(
        batch,
        "agreed_minutes",
        lambda minutes, **more: agreed.extend(at for at, _ in minutes) or again(minutes, **more),
    )
    with store.transaction() as session:
        for place in range(5):
            sold(session, str(place), expiry=Slot(EXPIRY + 60 * place))
        for at in range(LISTED + 60, EXPIRY + 121 * 60, 60):
            void_minute(session, at)
        assert options.expire_due(session, FEED, RULE_OF, now=NOW, batch_size=64) == 0
        assert len(agreed) >= 150
        assert sorted(set(agreed)) == sorted(agreed)


def test_after_a_restart_the_proof_file_still_has_every_minute(store):
    program = load_program("option_settlement")
    with store.transaction() as session:
        sold(session)
        until_the_window(session)
        for at in WINDOW:
            add_minute(session, at, 5_200_000)
        settle(session)
    with store.transaction() as session:  # another worker, which knows the row alone
        (claimed,) = settlements.claim(
            session, ["st-one"], owner="me", now=NOW, lease_seconds=10, max_attempts=3, missing=lambda _bound: None
        )
        proof = prove(program, claimed.input_bytes, window=read_window(claimed.window))
        assert settlements.finish(session, {claimed: proof}, now=NOW) == 1
    with store.reading() as session:
        file = settlements.proof_of(session, session.get_one(SettlementRow, "st-one"))
    kept = from_json(file)
    assert [one.slot for one in kept.window.minutes] == list(WINDOW)
    verify(kept, program)


PRICES = st.integers(1_000_000, 9_000_000)
MINUTES = st.one_of(PRICES, PRICES, st.sampled_from([LeftOut.VOID, LeftOut.THIN, LeftOut.NEVER_ASKED, None]))


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    made = Store(f"sqlite:///{tmp_path_factory.mktemp('fixings')}/store.db")
    made.migrate()
    yield made
    made.close()


FEEDS = (Feed(f"BTC/X{number}") for number in itertools.count())


@settings(max_examples=40, deadline=None)
@given(
    fixing=st.just(MINUTE)
    | st.builds(Fixing, st.sampled_from([FixingKind.TWAP, FixingKind.MEDIAN]), st.integers(2, 6)),
    minutes=st.lists(MINUTES, min_size=6, max_size=12), order=st.randoms(use_true_random=False),
)  # fmt: skip
def test_the_store_fixes_what_the_pure_rule_fixes_in_whatever_order_the_minutes_came(fixing, minutes, order, many):
    """None stands for a minute whose round is still open."""
    feed = next(FEEDS)
    said = dict(zip([Slot(LISTED + 60 * place) for place in range(len(minutes))], minutes, strict=True))
    with many.transaction() as session:
        for at, one in order.sample(list(said.items()), len(said)):
            if one is None:
                row = rounds.RoundRow(feed=feed, slot=at, deadline_unix=0, opened_at_unix=0)
                session.add(row)
            elif one is LeftOut.VOID:
                void_minute(session, at, feed=feed)
            elif one is LeftOut.THIN:
                add_minute(session, at, 5_000_000, feed=feed, confidence=6_000)
            elif one is not LeftOut.NEVER_ASKED:
                add_minute(session, at, one, feed=feed)
        found = fixing_of(session, feed, fixing, Slot(LISTED + 300), RULE)
    newest = max((at for at, one in said.items() if isinstance(one, int) or one is LeftOut.THIN), default=0)
    first_open = min((at for at, one in said.items() if one is None), default=1 << 40)
    closed = [at for at, one in said.items() if one not in {None, LeftOut.NEVER_ASKED} and at < first_open]
    known = {
        at: one for at, one in said.items()
        if one is not None and at <= max(closed, default=0) and (one is not LeftOut.NEVER_ASKED or at < newest)
    }  # fmt: skip
    assert found == (fix(fixing, Slot(LISTED + 300), known) if max(closed, default=0) >= LISTED + 300 else None)
