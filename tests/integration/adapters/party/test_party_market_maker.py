"""A maker and simulated takers at a served desk: what they post, keep, withdraw and take, over signed HTTP."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest

from btcfi.adapters.party.market_ledger import MarketLedger
from btcfi.adapters.party.market_maker import MarketMaker
from btcfi.adapters.party.simulated_taker import SimulatedTaker
from btcfi.adapters.signed_http import DeskAwayError, DeskRefusedError, SignedHttp
from btcfi.contracts.mandate import Bounds
from btcfi.contracts.messages import Role
from btcfi.errors import InvalidInputError
from btcfi.market.firm_offer import Side, decode_signed_offer
from btcfi.market.making import MakingRule
from btcfi.market.request import Wanted
from btcfi.units import CentiBtc, Sats
from tests.support.accounts import DESK
from tests.support.mandates import authority
from tests.support.market_world import CALL, market

RULE = MakingRule(levels=1, most_offers=12, size=CentiBtc(10))
VAST = MakingRule(
    levels=1, most_offers=4, size=CentiBtc(20_000), minimum=CentiBtc(20_000), delta_limit_btc=1e6, gamma_limit_btc=1e6,
    vega_limit_usd=1e9, shortfall_limit_usd=1e12,
)  # fmt: skip
"""Quotes of 200 BTC: more than the desk takes."""

COINS = Sats(50 * 100_000_000)


@pytest.fixture
def stand(tmp_path):
    with market(tmp_path) as found:
        yield found


def http_of(stand, trader):
    return SignedHttp(
        "http://testserver", trader.identity, trader.keystore.request_secret(), DESK, lambda: stand.world.now,
        transport=stand.api._transport, sleep=lambda _: None,
    )  # fmt: skip


def maker_of(stand, folder, *, rule=RULE, free=lambda: COINS):
    trader = stand.join("maker-one")
    return MarketMaker(
        http=http_of(stand, trader), identity=trader.identity, request_secret=trader.keystore.request_secret(),
        desk=DESK, ledger=MarketLedger(folder / "market", clock=lambda: stand.world.now), free=free, rule=rule,
        clock=lambda: stand.world.now,
    )  # fmt: skip


def taker_of(stand, folder, *, seed=1, free=None):
    trader = stand.join("taker-one")
    return SimulatedTaker(
        http=http_of(stand, trader), identity=trader.identity, request_secret=trader.keystore.request_secret(),
        ledger=MarketLedger(folder / f"taker-{seed}", clock=lambda: stand.world.now), random=Random(seed),
        clock=lambda: stand.world.now, free=free,
    )  # fmt: skip


def open_offers(stand):
    answer = stand.ask(stand.join("maker-one"), "GET", "/offers", params={"state": "open", "limit": 500})
    return {one["id"]: one for one in answer.json()["items"]}


def move_price(stand, cents):
    stand.world.now += 60
    stand.world.seconds += 60
    stand.world.price(stand.world.now - stand.world.now % 60 - 60, cents)


def test_what_a_maker_quotes_stands_at_the_desk_until_it_moves_or_another_process_begins(stand, tmp_path):
    maker = maker_of(stand, tmp_path)
    first = maker.round()
    assert first.refused == ()
    assert first.posted == len(first.quoted.drafts) == 12
    there = open_offers(stand)
    assert {one["side"] for one in there.values()} == {"bid", "ask"}
    assert {one.offer.id.hex() for one in maker.ledger.offers()} == there.keys()
    second = maker.round()
    assert (second.posted, second.withdrawn, second.kept) == (0, 0, 12)
    assert open_offers(stand).keys() == there.keys()
    again = maker_of(stand, tmp_path)  # one that starts anew takes back what it does not know
    assert again.round().withdrawn == len(there)
    assert not open_offers(stand).keys() & there.keys()


def test_when_the_price_moves_far_all_is_quoted_anew_and_the_old_offers_can_be_signed_no_more(stand, tmp_path):
    maker = maker_of(stand, tmp_path)
    maker.round()
    before = open_offers(stand)
    move_price(stand, 7_300_000)
    assert maker.round().posted > 0
    after = open_offers(stand)
    assert not after.keys() & before.keys()
    assert {one.offer.id.hex() for one in maker.ledger.offers()} == after.keys()


def test_a_take_changes_what_a_maker_holds_and_its_offer_is_kept_signable_until_the_take_is_done(stand, tmp_path):
    maker = maker_of(stand, tmp_path)
    maker.round()
    offer = next(one for one in maker.ledger.offers() if one.offer.side is Side.ASK)
    taken = stand.take(stand.join("taker-one"), offer, 5)
    assert taken.status_code == 201, taken.text
    found = maker.round()
    (held,) = maker.look().inventory.held
    assert (held.instrument, held.quantity) == (offer.offer.instrument, -5)
    assert found.posted > 0
    assert maker.withdraw_all() > 0
    # a take that came before may still be signed, and nothing else
    assert [one.offer.id for one in maker.ledger.offers()] == [offer.offer.id]


def test_what_is_taken_between_the_look_and_the_posting_is_counted_before_anything_is_posted(stand, tmp_path):
    maker = maker_of(stand, tmp_path, rule=replace(RULE, validity_seconds=300))
    maker.round()
    move_price(stand, 7_300_000)
    taker, delete = stand.join("taker-one"), maker.http.delete
    offer = next(one for one in maker.ledger.offers() if one.offer.side is Side.ASK)

    def taken_first(path):
        stand.take(taker, offer, 5)
        return delete(path)

    maker.http.delete = taken_first
    found = maker.round()
    assert (found.withdrawn > 0, found.posted) == (True, 0)


def test_in_a_market_that_is_not_trading_a_maker_pulls_every_offer_and_says_why(stand, tmp_path):
    maker = maker_of(stand, tmp_path, rule=replace(RULE, validity_seconds=3_600))
    maker.round()
    stand.world.now += 600
    stand.world.seconds += 600
    found = maker.round()
    assert found.quoted.left_out[0].reason == "pause: stale"
    assert open_offers(stand) == {}
    assert maker.ledger.offers() == []
    assert maker.round().withdrawn == 0


def test_an_offer_that_the_desk_refuses_is_said_with_its_reason_and_is_not_signable(stand, tmp_path):
    maker = maker_of(stand, tmp_path, rule=VAST, free=lambda: Sats(10**15))
    found = maker.round()
    assert found.posted == 0
    assert all("quantity" in one.reason for one in found.refused)
    assert found.refused
    assert maker.ledger.offers() == []


def posting(maker, does):
    """Have the maker's next POST of offers do something else. does: takes what posts them."""
    post = maker.http.post

    def once(path, body):
        maker.http.post = post
        return does(lambda: post(path, body))

    maker.http.post = once


def refused(_):
    raise DeskRefusedError({"detail": "too many requests"}, status=429)


def unsent(_):
    away = DeskAwayError("http://desk.test", "ConnectError")
    away.unsent = True
    raise away


@pytest.mark.parametrize("does", [refused, unsent])
def test_what_a_desk_refused_whole_or_never_got_is_signable_no_more_and_is_quoted_anew_at_once(does, stand, tmp_path):
    maker = maker_of(stand, tmp_path)
    posting(maker, does)
    with pytest.raises((DeskRefusedError, DeskAwayError)):
        maker.round()
    assert maker.ledger.offers() == []
    assert maker.round().posted == 12


def lost(post):
    post()
    raise DeskAwayError("http://desk.test", "ReadTimeout")


def proxy_lost(post):
    post()
    raise DeskRefusedError({"detail": "bad gateway"}, status=502)


def refused_after_silence(post):
    post()
    refusal = DeskRefusedError({"detail": "too many requests"}, status=429)
    refusal.after_silence = True
    raise refusal


@pytest.mark.parametrize("does", [lost, proxy_lost, refused_after_silence])
def test_offers_that_came_though_the_desk_s_answer_was_lost_stand_once_and_stay_signable(does, stand, tmp_path):
    maker = maker_of(stand, tmp_path)
    posting(maker, does)
    with pytest.raises((DeskRefusedError, DeskAwayError)):
        maker.round()
    there = open_offers(stand)
    assert len(there) == 12
    assert (maker.round().posted, open_offers(stand).keys()) == (0, there.keys())
    assert {one.offer.id.hex() for one in maker.ledger.offers()} == there.keys()


def test_nothing_is_quoted_beside_offers_that_may_still_come_to_stand_until_they_lapse(stand, tmp_path):
    maker, late = maker_of(stand, tmp_path), []
    posting(maker, lambda post: (late.append(post), lost(lambda: None)))
    with pytest.raises(DeskAwayError):
        maker.round()
    waiting = maker.round()
    assert (waiting.posted, open_offers(stand)) == (0, {})
    assert {one.reason for one in waiting.refused} == {"desk: no answer yet"}
    late[0]()  # now it comes
    there = open_offers(stand)
    assert len(there) == 12
    assert (maker.round().posted, open_offers(stand).keys()) == (0, there.keys())
    posting(maker, lambda _: lost(lambda: None))  # and one that never does
    move_price(stand, 7_300_000)
    with pytest.raises(DeskAwayError):
        maker.round()
    assert maker.round().posted == 0
    move_price(stand, 7_300_000)
    move_price(stand, 7_300_000)
    assert maker.round().posted > 0


def test_a_simulated_taker_takes_a_little_of_the_best_offer_and_writes_it_down_first(stand, tmp_path):
    maker = maker_of(stand, tmp_path)
    maker.round()
    taker = taker_of(stand, tmp_path)
    taken = taker.take_one()
    (written, _) = taker.ledger.takes()[0]
    assert written.take.option_id == taken.option_id
    assert 1 <= taken.quantity <= 5
    assert {one.instrument.name for one in maker.look().inventory.held} == {taken.instrument}


def test_simulated_takers_of_one_seed_have_the_same_wishes(stand, tmp_path):
    maker_of(stand, tmp_path).round()
    wishes = []
    for folder in ("a", "b"):
        taker = taker_of(stand, tmp_path / folder, seed=7)
        taker.ledger.add_take = lambda signed, of: wishes.append((signed.take.quantity, of.offer.instrument.name))
        taker.http.post = lambda path, body: {"option_id": "t"}
        taker.take_one()
    assert wishes[0] == wishes[1]


def test_a_simulated_taker_finds_nothing_in_an_empty_book_and_takes_no_offer_of_its_own(stand, tmp_path):
    assert taker_of(stand, tmp_path).take_one() is None
    own = stand.join("taker-one")
    stand.post(own, stand.offer(own, CALL))
    for seed in range(5):
        assert taker_of(stand, tmp_path, seed=seed).take_one() is None


@pytest.mark.parametrize("answer", [None, [], {}, {"items": 5}, {"items": [5], "next_cursor": None}, "offers"])
def test_a_desk_that_answers_nonsense_is_refused_in_words(answer, tmp_path):
    class Nonsense:
        def get(self, *_, **__):
            return answer

        post = delete = get

    given = {"http": Nonsense(), "identity": DESK, "request_secret": DESK, "ledger": MarketLedger(tmp_path)}
    with pytest.raises(InvalidInputError):
        MarketMaker(**given, desk=DESK, free=lambda: COINS).round()
    with pytest.raises(InvalidInputError):
        MarketMaker(**given, desk=DESK, free=lambda: COINS).withdraw_all()
    with pytest.raises(InvalidInputError):
        SimulatedTaker(**given, random=Random(1)).take_one()


def test_a_simulated_taker_takes_nothing_that_its_coins_cannot_fund(stand, tmp_path):
    maker_of(stand, tmp_path).round()
    poor = taker_of(stand, tmp_path, free=lambda: Sats(0))
    assert [poor.take_one() for _ in range(3)] == [None] * 3
    assert list(poor.ledger.takes()) == []
    rich = taker_of(stand, tmp_path, free=lambda: COINS)
    assert rich.take_one() is not None


# ---- requests

UNLISTED = "BTC-25SEP26-71234-C"


def test_a_request_is_answered_for_who_asked_and_the_answer_goes_when_it_does(stand, tmp_path):
    maker, asker = maker_of(stand, tmp_path), stand.join("asker")
    asked = stand.request(asker, UNLISTED, wanted=Wanted.BOTH, quantity=CentiBtc(7))
    assert maker.round().refused == ()
    found = stand.ask(asker, "GET", f"/requests/{asked}").json()
    (bid,), (ask,) = found["bids"], found["asks"]
    assert bid["price_sats"] < ask["price_sats"]
    assert (ask["quantity_centi_btc"], ask["signed"]["taker"]) == (7, asker.identity.hex())
    assert maker.round().posted == 0  # it stands
    answer = decode_signed_offer(ask["signed"])
    assert maker.ledger.offer(answer.offer.id) == answer
    taken = stand.take(asker, answer, 7)
    assert taken.status_code == 201, taken.text
    maker.round()
    assert stand.ask(asker, "GET", f"/requests/{asked}").json()["bids"] == []
    assert {one.offer.request for one in maker.ledger.offers()} <= {None, answer.offer.request}
    held = {one.instrument.name: one.quantity for one in maker.look().inventory.held}
    assert held[UNLISTED] == -7


def test_a_request_is_answered_with_no_more_than_the_own_mandate_lets_be_signed(stand, tmp_path):
    maker, asker = maker_of(stand, tmp_path), stand.join("asker")
    asked = stand.request(asker, UNLISTED, wanted=Wanted.BOTH, quantity=CentiBtc(7))
    maker.authority = lambda: authority(roles=(Role.SELLER,), collateral=Bounds(least=0, most=4_000_000))
    maker.round()
    found = stand.ask(asker, "GET", f"/requests/{asked}").json()
    assert (found["bids"], [one["quantity_centi_btc"] for one in found["asks"]]) == ([], [4])
    maker.authority = lambda: authority(roles=(Role.BUYER,), collateral=Bounds(least=0, most=900_000))
    said = maker.round()
    found = stand.ask(asker, "GET", f"/requests/{asked}").json()
    assert (found["bids"], found["asks"]) == ([], [])
    assert {one.reason for one in said.quoted.left_out} >= {"mandate: role", "mandate: collateral_sats"}


def test_a_maker_answers_neither_itself_nor_where_it_is_told_not_to_nor_at_a_desk_where_nobody_asks(stand, tmp_path):
    maker = maker_of(stand, tmp_path)
    stand.request(stand.join("maker-one"), UNLISTED)
    assert maker.look().asked == ()
    stand.request(stand.join("asker"), UNLISTED)
    assert len(maker.look().asked) == 1
    maker.answers = False
    assert maker.look().asked == ()
    maker.answers, get = True, maker.http.get

    def older(path, **given):
        if path == "/requests":
            raise DeskRefusedError({"detail": "not found"}, status=404)
        return get(path, **given)

    maker.http.get = older
    assert maker.look().asked == ()
    assert maker.round().posted > 0
