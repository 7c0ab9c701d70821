"""The market over HTTP: accounts with real keys, what they sign, and what nobody else sees."""

from __future__ import annotations

import asyncio
import itertools
import re
import threading
from base64 import b64decode, b64encode
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import event
from typer.testing import CliRunner

from btcfi import secp256k1
from btcfi.adapters.sealed_letters import seal, unseal
from btcfi.adapters.store.market import accounts, letters
from btcfi.adapters.store.market.tables import CloseRow, LetterRow
from btcfi.adapters.store.market.transfer_tables import TransferConsentRow, TransferOfferRow, TransferRow
from btcfi.adapters.store.options.premiums import refresh_premiums
from btcfi.adapters.store.spine.database import Store
from btcfi.adapters.store.spine.edges import record_all
from btcfi.errors import NotFoundError
from btcfi.hashes import sha256
from btcfi.market.account import Registration, encode_signed_registration, sign_registration
from btcfi.market.auction import Auction
from btcfi.market.firm_offer import Side, decode_signed_offer, encode_signed_offer, encode_signed_take, sign_offer
from btcfi.market.request import check_request, decode_signed_request, encode_signed_request
from btcfi.pricing import premium
from btcfi.surfaces.rest.app import create_app
from btcfi.surfaces.rest.auth import create_key
from btcfi.surfaces.rest.key_cli import make_app
from tests.support.accounts import DESK_BOX_SECRET, trader
from tests.support.market_world import CALL, PUT, market, with_market
from tests.support.paths import ROOT
from tests.support.rest_world import make_world

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def narrow(tmp_path_factory):
    limits = {"body_bytes": 2_000, "offers_bytes": 20_000, "letters_bytes": 2_500}
    with market(tmp_path_factory.mktemp("narrow"), limits=limits) as made:
        yield made


@pytest.fixture(scope="module")
def stand(tmp_path_factory):
    with market(tmp_path_factory.mktemp("market")) as made:
        yield made


def problem(answer):
    """Return status and kind of a refusal."""
    return answer.status_code, answer.json()["type"].rpartition(":")[2]


def request_key(one):
    return secp256k1.public_key_xonly(one.keystore.request_secret())


# ---- accounts


def test_an_account_is_registered_by_its_identity_and_shows_itself_to_its_own_signature(stand):
    alice = stand.join("alice")
    seen = stand.ask(alice, "GET", "/accounts/me").json()
    assert (seen["identity"], seen["name"], seen["number"]) == (alice.identity.hex(), "alice", 1)
    assert seen["request_key"] == alice.registered().registration.request_key.hex()
    again = stand.api.post("/api/v1/accounts", json=encode_signed_registration(alice.registered(at=stand.world.now)))
    assert (again.status_code, again.json()) == (201, seen)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"signature": "00" * 64}, (422, "wrong-registration")),
        ({"number": 2}, (422, "wrong-registration")),
        ({"desk": trader("another desk").identity.hex()}, (422, "another-desk")),
        ({"name": "Alice"}, (422, "invalid-request")),
        ({"more": 1}, (422, "invalid-request")),
    ],
)
def test_a_registration_that_its_identity_has_not_signed_for_this_desk_makes_no_account(stand, changes, expected):
    body = encode_signed_registration(trader("mallory").registered(at=stand.world.now))
    assert problem(stand.api.post("/api/v1/accounts", json=body | changes)) == expected


def test_a_name_belongs_to_one_identity(stand):
    stand.join("alice")
    body = encode_signed_registration(trader("other").registered(name="alice", at=stand.world.now))
    assert problem(stand.api.post("/api/v1/accounts", json=body)) == (409, "name-taken")


def test_new_keys_of_a_higher_number_work_at_once_and_the_old_ones_no_more(stand):
    rolled, spare = stand.join("rolled"), trader("spare")
    assert stand.ask(rolled, "GET", "/accounts/me").status_code == 200
    newer = rolled.registered(
        number=2, at=stand.world.now, request_key=spare.registered().registration.request_key
    )  # fmt: skip
    assert stand.api.post("/api/v1/accounts", json=encode_signed_registration(newer)).status_code == 201
    assert problem(stand.ask(rolled, "GET", "/accounts/me")) == (401, "unauthenticated")
    by_new = stand.signer(rolled, request_secret=spare.keystore.request_secret())
    assert stand.api.get("/api/v1/accounts/me", auth=by_new).json()["number"] == 2


# ---- signed requests


def test_a_signature_is_of_one_request_at_one_desk_by_one_account_and_holds_for_half_a_minute(stand):
    alice, bob = stand.join("alice"), stand.join("bob")
    now = stand.world.now
    good = stand.signer(alice).header("GET", "/api/v1/offers?limit=5", b"")
    wrong = {
        "another path": stand.signer(alice).header("GET", "/api/v1/takes?limit=5", b""),
        "another query": stand.signer(alice).header("GET", "/api/v1/offers?limit=6", b""),
        "another method": stand.signer(alice).header("POST", "/api/v1/offers?limit=5", b""),
        "another body": stand.signer(alice).header("GET", "/api/v1/offers?limit=5", b"{}"),
        "another desk": stand.signer(alice, desk=bob.identity).header("GET", "/api/v1/offers?limit=5", b""),
        "another account's key": stand.signer(alice, request_secret=bob.keystore.request_secret()).header(
            "GET", "/api/v1/offers?limit=5", b""
        ),
        "another account's name": good.replace(alice.identity.hex(), bob.identity.hex()),
        "another time": good.replace(f"at={now}", f"at={now + 1}"),
        "31 s ago": stand.signer(alice, clock=lambda: now - 31).header("GET", "/api/v1/offers?limit=5", b""),
        "31 s ahead": stand.signer(alice, clock=lambda: now + 31).header("GET", "/api/v1/offers?limit=5", b""),
        "nobody's": stand.signer(trader("nobody")).header("GET", "/api/v1/offers?limit=5", b""),
        "no number": good.replace(f"at={now}", "at=now"),
        "upper case": good.replace(alice.identity.hex(), alice.identity.hex().upper()),
    }
    for what, header in wrong.items():
        answer = stand.api.get("/api/v1/offers?limit=5", headers={"Authorization": header})
        assert problem(answer) == (401, "unauthenticated"), what
    for at in (now - 30, now + 30):
        header = stand.signer(alice, clock=lambda at=at: at).header("GET", "/api/v1/offers?limit=5", b"")
        assert stand.api.get("/api/v1/offers?limit=5", headers={"Authorization": header}).status_code == 200
    assert stand.api.get("/api/v1/offers?limit=5", headers={"Authorization": good}).status_code == 200


def test_a_body_is_bounded_before_its_signature_and_its_signature_checked_before_it_is_read(narrow):
    alice, bob = narrow.join("alice"), narrow.join("bob")
    by_bob = narrow.signer(alice, request_secret=bob.keystore.request_secret())
    json = {"Content-Type": "application/json"}
    for path, size in (("/takes", 2_001), ("/offers", 20_001)):
        large = narrow.api.post(f"/api/v1{path}", content=b"{" + b" " * size, headers=json, auth=by_bob)
        assert problem(large) == (413, "body-too-large")
        unsigned = narrow.api.post(f"/api/v1{path}", content=b"no JSON", headers=json, auth=by_bob)
        assert problem(unsigned) == (401, "unauthenticated")
        signed = narrow.api.post(f"/api/v1{path}", content=b"no JSON", headers=json, auth=narrow.signer(alice))
        assert signed.status_code == 422


def test_wrong_signatures_cost_their_address_guesses_and_the_account_whose_name_they_bear_nothing(tmp_path):
    with market(tmp_path, limits={"anonymous_requests_per_minute": 30}) as stand:
        alice, bob = stand.join("alice"), stand.join("bob")
        assert stand.ask(alice, "GET", "/accounts/me").status_code == 200
        by_bob = stand.signer(alice, request_secret=bob.keystore.request_secret())
        answers = [stand.api.get("/api/v1/accounts/me", auth=by_bob).status_code for _ in range(5)]
        assert answers == [401, 401, 401, 429, 429]
        after = stand.ask(alice, "GET", "/accounts/me")
        assert after.status_code == 200
        assert after.headers["RateLimit-Remaining"] == "598"


def test_an_account_has_its_own_rate_and_its_answers_say_what_is_left(stand):
    quiet = trader("quiet")
    with stand.world.store.transaction() as session:
        accounts.register(session, quiet.registered(at=stand.world.now), now=stand.world.now, requests_per_minute=20)
    answers = [stand.ask(quiet, "GET", "/accounts/me") for _ in range(3)]
    assert [one.status_code for one in answers] == [200, 200, 429]
    assert answers[0].headers["RateLimit-Limit"] == "20"


def test_a_signature_gives_no_right_to_what_the_embedded_parties_own(stand):
    alice = stand.join("alice")
    order = {"type": "put", "strike": 65_000, "expiry": stand.world.now // 60 * 60 + 86_400, "quantity": 0.25}
    assert problem(stand.ask(alice, "POST", "/options", json=order)) == (403, "role-missing")
    assert problem(stand.ask(alice, "POST", "/options/x/settle")) == (403, "role-missing")
    assert problem(stand.ask(alice, "GET", "/risk")) == (403, "role-missing")
    assert problem(stand.ask(alice, "GET", "/accounts")) == (403, "role-missing")


def test_a_service_without_a_desk_knows_no_signature_and_no_account(stand):
    alice = stand.join("alice")
    api = TestClient(create_app(replace(stand.world.deps, desk=None)))
    assert problem(api.get("/api/v1/accounts/me", auth=stand.signer(alice))) == (401, "unauthenticated")
    assert problem(api.get("/api/v1/desk")) == (503, "no-desk")


# ---- letters


def sealed_to_desk(stand, one, name, body):
    card = stand.api.get("/api/v1/desk").json()
    return seal(body, to=bytes.fromhex(card["box_key"]), about=bytes.fromhex(card["desk_key"]) + name.encode())


def test_a_letter_comes_to_the_desk_as_it_was_sealed_and_the_first_of_a_name_stays(stand):
    alice = stand.join("alice")
    first, second = (sealed_to_desk(stand, alice, "t1.offer", body) for body in (b"one", b"two"))
    for sealed in (first, second):
        body = {"name": "t1.offer", "sealed": b64encode(sealed).decode()}
        answer = stand.ask(alice, "POST", "/letters", json=body)
        assert (answer.status_code, answer.json()["name"]) == (202, "t1.offer")
    with stand.world.store.reading() as session:
        row = letters.said(session, alice.identity.hex(), "t1.offer")
    about = bytes.fromhex(stand.api.get("/api/v1/desk").json()["desk_key"]) + b"t1.offer"
    assert unseal(row.sealed, secret=DESK_BOX_SECRET, about=about) == b"one"


@pytest.mark.parametrize(
    "body",
    [
        {"name": "../t1", "sealed": "A" * 80}, {"name": "t1.offer", "sealed": "?"}, {"name": "t1.offer"},
        {"name": "t1.offer", "sealed": ""}, {"name": "t1.offer", "sealed": b64encode(bytes(48)).decode()},
        {"name": "t1.offer", "sealed": "A" * 80, "to": "bob"}, ["t1.offer"],
    ],
)  # fmt: skip
def test_what_is_no_sealed_letter_is_refused_by_its_field(stand, body):
    answer = stand.ask(stand.join("alice"), "POST", "/letters", json=body)
    assert (answer.status_code, "expected" in answer.json()) == (422, True)


def put(stand, one, name):
    with stand.world.store.transaction() as session:
        row = letters.post(
            session, sender=None, recipient=one.identity.hex(), name=name, sealed=b"sealed " + name.encode() * 9,
            now=stand.world.now,
        )  # fmt: skip
        return row.id


def test_letters_come_in_order_from_a_cursor_on_until_they_are_acknowledged_by_their_recipient(stand):
    carol, dave = stand.join("carol"), stand.join("dave")
    numbers = [put(stand, carol, f"t{n}.proposal") for n in range(3)]
    seen = stand.ask(carol, "GET", "/letters").json()
    assert [one["id"] for one in seen["letters"]] == numbers
    assert seen["cursor"] == numbers[-1]
    assert b64decode(seen["letters"][0]["sealed"]).startswith(b"sealed t0.proposal")
    two = stand.ask(carol, "GET", f"/letters?after={numbers[0]}&limit=1").json()
    assert ([one["name"] for one in two["letters"]], two["cursor"]) == (["t1.proposal"], numbers[1])
    assert stand.ask(dave, "GET", "/letters").json() == {"letters": [], "cursor": 0}
    assert stand.ask(dave, "POST", "/letters/acknowledge", json={"ids": numbers}).status_code == 200
    assert len(stand.ask(carol, "GET", "/letters").json()["letters"]) == 3
    for _ in range(2):
        assert stand.ask(carol, "POST", "/letters/acknowledge", json={"ids": numbers[:2]}).status_code == 200
    assert [one["id"] for one in stand.ask(carol, "GET", "/letters").json()["letters"]] == numbers[2:]


def test_long_letters_come_in_answers_of_bounded_size_and_none_is_left_out(narrow):
    reader = narrow.join("reader")
    with narrow.world.store.transaction() as session:
        for n in range(12):
            letters.post(
                session, sender=None, recipient=reader.identity.hex(), name=f"t{n}.offer", sealed=bytes(1_000),
                now=narrow.world.now,
            )  # fmt: skip
    seen, cursor = [], 0
    while found := (answer := narrow.ask(reader, "GET", f"/letters?after={cursor}").json())["letters"]:
        assert len(found) == 2
        seen += [one["name"] for one in found]
        cursor = answer["cursor"]
    assert seen == [f"t{n}.offer" for n in range(12)]


def waiting_for(stand, one, answers, seconds=25):
    """Ask for letters in a thread of its own, and return it."""
    asked = threading.Thread(
        target=lambda: answers.append(stand.ask(one, "GET", f"/letters?wait={seconds}")), daemon=True
    )
    asked.start()
    return asked


def wait_until(condition):
    """Wait for something that another thread does."""
    for _ in range(3_000):
        if condition():
            return
        threading.Event().wait(0.01)
    raise AssertionError("it did not happen")


def test_who_waits_gets_the_letter_that_comes_no_thread_is_held_and_places_are_bounded(tmp_path):
    with market(tmp_path, limits={"waiting": 50}) as stand:
        waiters, answers, first = [stand.join(f"waiter-{n}") for n in range(25)], [], []
        late = stand.join("late")
        # more than a server has threads
        asked = [waiting_for(stand, waiters[3], first), *(waiting_for(stand, one, answers) for one in waiters)]
        asked += [waiting_for(stand, one, answers) for one in waiters if one is not waiters[3]]
        wait_until(lambda: stand.bell.waiting == 50)
        for one, of_account in ((waiters[0], True), (late, False)):
            refused = stand.ask(one, "GET", "/letters?wait=25")
            assert (*problem(refused), refused.headers["Retry-After"]) == (503, "too-many-waiting", "5")
            assert ("of this account" in refused.json()["detail"]) == of_account
            assert stand.ask(one, "GET", "/letters").status_code == 200
        put(stand, late, "t2.proposal")
        there = stand.ask(late, "GET", "/letters?wait=25").json()["letters"]
        assert [one["name"] for one in there] == ["t2.proposal"]  # what lies there needs no place
        put(stand, waiters[3], "t1.proposal")
        asked[0].join(10)
        assert [one["name"] for one in first[0].json()["letters"]] == ["t1.proposal"]
        wait_until(lambda: stand.bell.waiting == 48)  # both of that account
        stand.closing.set()  # the server stops
        for one in asked:
            one.join(10)
        assert sorted(len(answer.json()["letters"]) for answer in answers) == [0] * 48 + [1]
        wait_until(lambda: stand.bell.asleep)


# ---- offers and takes


def test_one_bad_offer_of_a_batch_refuses_itself_alone_and_says_its_field(stand):
    maker, other = stand.join("maker"), stand.join("alice")
    good = [stand.offer(maker), stand.offer(maker, PUT, Side.BID)]
    forged = stand.offer(maker)
    bodies = [
        encode_signed_offer(good[0]),
        encode_signed_offer(stand.offer(other)),
        encode_signed_offer(forged) | {"price_sats": forged.offer.price + 1_000},
        encode_signed_offer(stand.offer(maker, valid_until=stand.world.now + 10**6)),
        encode_signed_offer(stand.offer(maker)) | {"instrument": "BTC-25SEP26-070000-C"},
        encode_signed_offer(stand.offer(maker, desk=other.identity)),
        encode_signed_offer(sign_offer(forged.offer, other.keystore.request_secret())),
        {"more": 1},
        encode_signed_offer(good[1]),
    ]
    results = stand.ask(maker, "POST", "/offers", json={"offers": bodies}).json()["results"]
    fields = [one["field"] and one["field"].rpartition(".")[2] for one in results]
    assert fields == [None, "maker", "signature", "valid_until", "instrument", "desk", "signature", "type", None]
    assert [one["state"] for one in results if one["problem"] is None] == ["open", "open"]
    assert all(one["state"] is None for one in results if one["problem"] is not None)
    shown = {one["id"] for one in stand.api.get(f"/api/v1/book/{CALL}").json()["asks"]}
    assert good[0].offer.id.hex() in shown
    assert forged.offer.id.hex() not in shown
    again = stand.ask(maker, "POST", "/offers", json={"offers": bodies}).json()["results"]
    assert again == results


@pytest.mark.parametrize("body", [{}, {"offers": []}, {"offers": [1], "more": 1}, {"offers": [1] * 501}, []])
def test_a_batch_is_of_one_to_five_hundred_offers(stand, body):
    answer = stand.ask(stand.join("maker"), "POST", "/offers", json=body)
    assert (answer.status_code, answer.json()["field"]) == (422, "offers")


def test_a_take_makes_an_option_of_both_accounts_and_the_same_again_is_the_same_one(stand):
    maker, taker = stand.join("maker"), stand.join("taker")
    offer = stand.offer(maker)
    stand.post(maker, offer)
    signed = encode_signed_take(taker.take(offer, 30, valid_until=stand.world.now + 30, number=77))
    first, again = (stand.ask(taker, "POST", "/takes", json=signed) for _ in range(2))
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.json() == first.json()
    assert first.headers["Location"] == f"/api/v1/takes/{first.json()['id']}"
    assert ("exchange", first.json()["option_id"]) in stand.world.submitted
    left = {one["id"]: one["quantity_centi_btc"] for one in stand.api.get(f"/api/v1/book/{CALL}").json()["asks"]}
    assert left[offer.offer.id.hex()] == 70
    for one, role in ((maker, "writer"), (taker, "holder")):
        held = stand.ask(one, "GET", "/positions").json()["items"]
        mine = [p for p in held if p["option"]["id"] == first.json()["option_id"]]
        assert [(p["role"], p["instrument"], p["option"]["premium_sats"]) for p in mine] == [(role, CALL, 300_000)]
    trade = stand.api.get("/api/v1/trades").json()["items"][0]
    assert (trade["side"], trade["quantity_centi_btc"], trade["price_sats"]) == ("buy", 30, 1_000_000)
    assert not any(one.identity.hex() in str(trade) for one in (maker, taker))


def test_a_take_at_another_price_of_too_much_or_of_what_is_gone_takes_nothing(stand):
    maker, taker = stand.join("maker"), stand.join("taker")
    offer = stand.offer(maker)
    stand.post(maker, offer)
    refused = stand.take(taker, offer, 10, price=offer.offer.price - 1_000)
    assert (refused.status_code, refused.json()["field"]) == (422, "take.price")
    assert stand.take(taker, offer, 101).json()["field"] == "take.quantity"
    assert stand.take(maker, offer, 10).json()["field"] == "take.taker"
    assert problem(stand.take(taker, stand.offer(maker), 10)) == (404, "not-found")
    assert stand.take(taker, offer, 95).status_code == 201
    assert problem(stand.take(taker, offer, 10)) == (409, "offer-gone")
    body = encode_signed_take(taker.take(offer, 1, valid_until=stand.world.now + 30, number=1_000))
    assert problem(stand.ask(taker, "POST", "/takes", json=body | {"number": 1_001})) == (422, "wrong-signature")
    assert stand.ask(maker, "POST", "/takes", json=body).json()["field"] == "taker"


def test_offers_are_withdrawn_one_or_all_by_their_maker_alone(stand):
    maker, other = stand.join("maker-2"), stand.join("alice")
    many = [stand.offer(maker) for _ in range(3)]
    stand.post(maker, *many)
    name = many[0].offer.id.hex()
    assert problem(stand.ask(other, "DELETE", f"/offers/{name}")) == (404, "not-found")
    assert [stand.ask(maker, "DELETE", f"/offers/{name}").json()["withdrawn"] for _ in range(2)] == [1, 0]
    assert stand.ask(other, "DELETE", "/offers").status_code == 200
    open_ones = stand.ask(maker, "GET", "/offers?state=open").json()["items"]
    assert {one["id"] for one in open_ones} == {one.offer.id.hex() for one in many[1:]}
    assert stand.ask(maker, "DELETE", "/offers").json() == {"withdrawn": 2}
    assert stand.ask(maker, "GET", "/offers?state=open").json()["items"] == []


def test_who_withdraws_another_s_offer_is_told_what_is_told_of_one_that_is_not_there(stand):
    maker, other = stand.join("maker-2"), stand.join("alice")
    offer = stand.offer(maker)
    stand.post(maker, offer)

    def told(name):
        said = stand.ask(other, "DELETE", f"/offers/{name}")
        return said.status_code, said.text.replace(name, "NAME").replace(said.json()["request_id"], "REQUEST")

    assert told(offer.offer.id.hex()) == told("ab" * 32)
    assert told("ab" * 32)[0] == 404


def test_a_repeated_request_to_withdraw_all_up_to_a_number_ends_nothing_that_was_posted_since(stand):
    maker = stand.join("counting-maker")
    old = stand.offer(maker)
    stand.post(maker, old)
    path = f"/offers?up_to_number={old.offer.number}"
    assert stand.ask(maker, "DELETE", path).json() == {"withdrawn": 1}
    new = stand.offer(maker)
    assert new.offer.number > old.offer.number
    stand.post(maker, new)
    assert stand.ask(maker, "DELETE", path).json() == {"withdrawn": 0}
    assert [one["id"] for one in stand.ask(maker, "GET", "/offers?state=open").json()["items"]] == [new.offer.id.hex()]
    assert stand.ask(maker, "DELETE", "/offers?up_to_number=-1").status_code == 422


def test_an_offer_for_one_account_is_shown_to_that_one_and_its_maker(stand):
    maker, asked, other = stand.join("maker"), stand.join("taker"), stand.join("alice")
    offer = stand.offer(maker, taker=asked.identity)
    stand.post(maker, offer)
    name = offer.offer.id.hex()

    def shown(answer):
        return name in {one["id"] for one in answer.json()["asks"]}

    assert not shown(stand.api.get(f"/api/v1/book/{CALL}"))
    assert [shown(stand.ask(one, "GET", f"/book/{CALL}")) for one in (asked, maker, other)] == [True, True, False]


def test_a_request_is_seen_by_accounts_and_its_answers_by_who_asked_best_first(stand):
    asker, maker, rival = stand.join("taker"), stand.join("maker"), stand.join("alice")
    unlisted = "BTC-24SEP26-69500-C"
    asked = stand.request(asker, unlisted)
    assert stand.request(asker, unlisted, number=stand.numbers) == asked

    def shown(one):
        return [row for row in stand.ask(one, "GET", "/requests").json()["items"] if row["id"] == asked]

    assert [row["taker"] for row in shown(maker)] == [asker.identity.hex()]
    assert (
        check_request(decode_signed_request(shown(maker)[0]["signed"]), request_key(asker)).instrument.name == unlisted
    )
    assert problem(stand.api.get("/api/v1/requests")) == (401, "unauthenticated")
    for one, price in ((maker, 1_010_000), (rival, 990_000)):
        answer = stand.offer(
            one, unlisted, price=price, quantity=50, taker=asker.identity, request=bytes.fromhex(asked)
        )
        assert stand.post(one, answer)[0]["problem"] is None
    found = stand.ask(asker, "GET", f"/requests/{asked}").json()
    assert ([one["price_sats"] for one in found["asks"]], found["bids"]) == ([990_000, 1_010_000], [])
    for one in (maker, rival):
        assert problem(stand.ask(one, "GET", f"/requests/{asked}")) == (404, "not-found")
        assert problem(stand.ask(one, "DELETE", f"/requests/{asked}")) == (404, "not-found")
        assert len(stand.ask(one, "GET", f"/book/{unlisted}").json()["asks"]) == 1
    best = decode_signed_offer(found["asks"][0]["signed"])
    assert stand.take(asker, best, 50).status_code == 201
    after = stand.ask(asker, "GET", f"/requests/{asked}").json()
    assert (after["request"]["state"], after["asks"], after["bids"]) == ("filled", [], [])
    assert shown(maker) == []
    own = stand.ask(asker, "GET", "/requests?own=true").json()["items"]
    assert asked in {one["id"] for one in own}


@pytest.mark.parametrize(
    ("changes", "field"),
    [({"valid_until": 0}, "valid_until"), ({"quantity": 20_000}, "quantity"), ({"desk": bytes(31) + b"\x01"}, "desk")],
)
def test_a_request_that_cannot_be_asked_is_refused_by_its_field(stand, changes, field):
    asker = stand.join("taker")
    stand.numbers += 1
    given = {"valid_until": stand.world.now + 30, "number": stand.numbers} | changes
    answer = stand.ask(asker, "POST", "/requests", json=encode_signed_request(asker.request(CALL, **given)))
    assert (answer.status_code, answer.json()["field"].rpartition(".")[2]) == (422, field)


def test_the_book_shows_the_step_of_an_auction_and_when_the_next_begins(stand):
    maker, taker = stand.join("maker"), stand.join("taker")
    began = stand.world.now - 95
    moving = Auction(begins=began, step_seconds=30, steps=5, last=900_000, last_cents=63_000)
    offer = stand.offer(maker, PUT, auction=moving, valid_until=stand.world.now + 600)
    stand.post(maker, offer)
    name = offer.offer.id.hex()
    seen = next(one for one in stand.api.get(f"/api/v1/book/{PUT}").json()["asks"] if one["id"] == name)
    assert (seen["step"], seen["moves_at_unix"], seen["price_sats"], seen["price_cents"]) == (
        3, began + 120, 940_000, 65_800,
    )  # fmt: skip
    mine = next(one for one in stand.ask(maker, "GET", "/offers").json()["items"] if one["id"] == name)
    assert (mine["step"], mine["price_sats"]) == (3, 940_000)
    early = stand.take(taker, offer, 10, step=4, price=920_000, price_cents=64_400)
    assert problem(early) == (409, "step-ahead")
    cheaper = stand.take(taker, offer, 10, step=3, price=920_000, price_cents=64_400)
    assert (cheaper.status_code, cheaper.json()["field"]) == (422, "take.price")
    assert stand.take(taker, offer, 10).json()["field"] == "take.step"
    taken = stand.take(taker, offer, 10, step=3, price=940_000, price_cents=65_800)
    assert (taken.status_code, taken.json()["price_sats"]) == (201, 940_000)


def test_a_suspended_account_begins_nothing_new_and_sees_what_it_owns(stand):
    maker, bad = stand.join("maker"), stand.join("suspended")
    offer = stand.offer(maker)
    stand.post(maker, offer)
    with stand.world.store.transaction() as session:
        accounts.suspend(session, bad.identity.hex(), now=stand.world.now)
    stand.world.seconds += 6  # an account is believed for five seconds
    assert problem(stand.take(bad, offer)) == (403, "suspended")
    posted = stand.ask(bad, "POST", "/offers", json={"offers": [encode_signed_offer(stand.offer(bad))]})
    assert problem(posted) == (403, "suspended")
    assert stand.ask(bad, "GET", "/positions").status_code == 200
    assert stand.ask(bad, "GET", "/accounts/me").json()["state"] == "suspended"


# ---- what everybody sees, and nobody


def test_what_is_listed_stands_in_the_chain_with_the_best_of_each_side(stand):
    maker = stand.join("chain-maker")
    strike = "BTC-25SEP26-74000-C"
    many = [
        stand.offer(maker, strike, Side.ASK, price=900_000, price_cents=63_000, quantity=40),
        stand.offer(maker, strike, Side.ASK, price=950_000, price_cents=66_500, quantity=60),
        stand.offer(maker, strike, Side.BID, price=800_000, price_cents=56_000, quantity=10),
    ]
    assert {one["state"] for one in stand.post(maker, *many)} == {"open"}
    names = {one["name"]: one for one in stand.api.get("/api/v1/instruments").json()["items"]}
    assert names[strike]["listed"]
    assert stand.api.get(f"/api/v1/instruments/{strike}").json() == names[strike]
    assert not stand.api.get("/api/v1/instruments/BTC-25SEP26-74001-C").json()["listed"]
    assert stand.api.get("/api/v1/instruments/BTC-25SEP26-074000-C").json()["field"] == "instrument"
    chain = stand.api.get("/api/v1/chain", params={"expiry": "2026-09-25T08:00:00Z"}).json()
    line = next(one for one in chain["lines"] if one["instrument"] == strike)
    ask = {key: line["ask"][key] for key in ("price_sats", "quantity_centi_btc", "depth_centi_btc", "offers")}
    assert ask == {"price_sats": 900_000, "quantity_centi_btc": 40, "depth_centi_btc": 100, "offers": 2}
    assert line["bid"]["price_sats"] == 800_000
    assert chain["market_status"] == "trading"
    assert {one["instrument"] for one in chain["lines"]} >= {name for name in names if "25SEP26" in name}
    book = stand.api.get(f"/api/v1/book/{strike}").json()
    assert [one["price_sats"] for one in book["asks"]] == [900_000, 950_000]
    assert book["bids"][0]["signed"] == encode_signed_offer(many[2])


def test_a_take_is_cancelled_by_its_sides_alone_and_fails_by_who_does(tmp_path):
    with market(tmp_path) as stand:
        maker, taker, eve = (stand.join(name) for name in ("maker", "taker", "eve"))
        offer, other = stand.offer(maker), stand.offer(maker, PUT)
        stand.post(maker, offer, other)
        for by, taken, fault in ((taker, offer, "taker"), (maker, other, "maker")):
            made = stand.take(taker, taken).json()
            where = f"/api/v1/takes/{made['id']}"
            assert problem(stand.api.delete(where, auth=stand.signer(eve)))[0] == 404
            said = [stand.api.delete(where, auth=stand.signer(by)).json() for _ in range(2)]
            assert [(one["state"], one["fault"]) for one in said] == [("failed", fault)] * 2
        states = {one["id"]: one["state"] for one in
                  stand.api.get("/api/v1/offers", auth=stand.signer(maker)).json()["items"]}  # fmt: skip
        assert states == {offer.offer.id.hex(): "open", other.offer.id.hex(): "broken"}


OWN = {
    "GET /accounts/me", "GET /offers", "GET /takes", "GET /takes/{take_id}", "GET /fills", "GET /positions",
    "GET /letters", "POST /letters", "POST /letters/acknowledge", "POST /offers", "DELETE /offers",
    "DELETE /offers/{offer_id}", "POST /takes", "DELETE /takes/{take_id}", "POST /requests", "GET /requests",
    "GET /requests/{request_id}", "DELETE /requests/{request_id}", "GET /closes", "GET /closes/{close_id}",
    "GET /transfers", "GET /transfers/{transfer_id}", "POST /transfers/takes", "POST /transfers/offers",
    "DELETE /transfers/offers/{offer_id}", "POST /transfers/consents", "GET /transfers/consents",
    "DELETE /transfers/consents/{consent_id}",
}  # fmt: skip
PUBLIC = {
    "GET /desk", "GET /instruments", "GET /instruments/{instrument}", "GET /chain", "GET /book/{instrument}",
    "GET /trades", "POST /accounts", "GET /transfers/offers",
}  # fmt: skip
OPERATORS = {"GET /accounts"}
ELSEWHERE = {
    "GET /me/events", "GET /sign-ins/{code}", "POST /sign-ins/{code}", "GET /me/webhooks", "POST /me/webhooks",
    "POST /me/webhooks/{webhook_id}/test", "DELETE /me/webhooks/{webhook_id}",
}  # fmt: skip
"""A stream without an end: test_rest_market_events.py. A code is whoever's shows it: test_trader_visitors.py. Webhooks:
test_rest_webhooks.py."""
LISTS = {"GET /offers", "GET /takes", "GET /fills", "GET /positions", "GET /requests", "GET /closes",
         "GET /transfers", "GET /transfers/consents"}  # fmt: skip
"""Of them, with the parameter ``account``."""

OTHERS = {
    "GET /options", "GET /options/{option_id}", "GET /options/{option_id}/premium", "GET /settlements",
    "GET /settlements/{settlement_id}", "GET /settlements/{settlement_id}/events",
    "GET /settlements/{settlement_id}/proof", "GET /options/{option_id}/premium/stream", "GET /settlements/stream",
    "GET /premiums/stream",
}  # fmt: skip
"""Of the API before there were accounts: what it says of options that takes made."""


def test_nobody_reads_another_s_whoever_asks_and_by_whichever_route(tmp_path):
    with market(tmp_path) as stand:
        maker, taker, eve = (stand.join(name) for name in ("maker", "taker", "eve"))
        offer, hidden = stand.offer(maker), stand.offer(maker, PUT, taker=taker.identity)
        stand.post(maker, offer, hidden)
        taken = stand.take(taker, offer).json()
        stand.world.fund(taken["option_id"])
        settlement = stand.world.settle(taken["option_id"], 7_500_000)
        secrets = {
            "take": taken["id"], "option": taken["option_id"], "taker": taker.identity.hex(), "settlement": settlement,
            "hidden": hidden.offer.id.hex(), "letter": "t9.proposal", "close": "ab" * 32,
        }  # fmt: skip
        with stand.world.store.transaction() as session:
            session.add(
                CloseRow(
                    id="ab" * 32, option_id=taken["option_id"], by="buyer", writer=maker.identity.hex(),
                    holder=taker.identity.hex(), body="{}", payout_sats=1, valid_until_unix=stand.world.now + 60,
                    created_at_unix=stand.world.now, updated_at_unix=stand.world.now,
                )
            )  # fmt: skip
        number = put(stand, taker, "t9.proposal")
        secrets |= transferred(stand, taken["option_id"], maker, taker)
        secrets |= withdrawn_request(stand, taker, maker)
        paths = {
            "/takes/{take_id}": taken["id"], "/offers/{offer_id}": hidden.offer.id.hex(),
            "/options/{option_id}": taken["option_id"], "/options/{option_id}/premium": taken["option_id"],
            "/options/{option_id}/premium/stream": taken["option_id"], "/settlements/{settlement_id}": settlement,
            "/settlements/{settlement_id}/events": settlement, "/settlements/{settlement_id}/proof": settlement,
            "/book/{instrument}": PUT, "/instruments/{instrument}": CALL, "/requests/{request_id}": secrets["request"],
            "/closes/{close_id}": secrets["close"], "/transfers/{transfer_id}": secrets["transfer"],
            "/transfers/offers/{offer_id}": secrets["sale"], "/transfers/consents/{consent_id}": secrets["consent"],
        }  # fmt: skip
        bodies = {
            "POST /letters/acknowledge": {"ids": [number]}, "POST /takes": encode_signed_take(taker.take(hidden, 5)),
            "POST /offers": {"offers": [encode_signed_offer(offer)]}, "POST /accounts": {},
            "POST /letters": {"name": "t9.offer", "sealed": b64encode(bytes(60)).decode()},
            "POST /transfers/consents": {}, "POST /transfers/offers": {}, "POST /transfers/takes": {},
            "POST /requests": encode_signed_request(taker.request(CALL, valid_until=stand.world.now + 30, number=99)),
        }  # fmt: skip
        document = stand.api.get("/api/v1/openapi.json").json()["paths"]
        routes = {
            f"{method.upper()} {path.removeprefix('/api/v1')}"
            for path, operations in document.items() for method, said in operations.items()
            if "market" in said["tags"]
        }  # fmt: skip
        assert routes == OWN | PUBLIC | OPERATORS | ELSEWHERE, "a new route: say here whose it is"

        key = bound(stand, eve)
        mine = bound(stand, taker)
        callers = {
            "anonymous": {}, "other account": {"auth": stand.signer(eve)},
            "other account's key": {"headers": {"Authorization": f"Bearer {key}"}},
            "a key of no account": {"headers": {"Authorization": f"Bearer {stand.world.key('read', 'trade')}"}},
        }  # fmt: skip
        for who, how in callers.items():
            for route in sorted(OWN | PUBLIC | OPERATORS | OTHERS):
                method, _, path = route.partition(" ")
                place = path.partition("{")[0] + paths[path] + path.partition("}")[2] if "{" in path else path
                queries = ["", f"?account={taker.identity.hex()}"] if route in LISTS else [""]
                if path.endswith("/stream"):
                    queries = ["?limit=1"] if "{" in path else []  # the others are read below
                for query in queries:
                    given = {"json": bodies[route]} if route in bodies else {}
                    answer = stand.api.request(method, f"/api/v1{place}{query}", **how, **given)
                    told = {what for what, secret in secrets.items() if secret in answer.text}
                    # a refusal repeats what was asked for, and says of nothing whether it is there
                    asked = {what for what, secret in secrets.items() if secret in place + query + str(given)}
                    assert not told - asked, (who, route)
                    if "{" in path and route not in PUBLIC:
                        nowhere = f"/api/v1{place}".replace(paths[path], "f" * 64)
                        unknown = stand.api.request(method, nowhere, **how, **given)
                        assert problem(answer) == problem(unknown), (who, route)
                    if who.startswith("other") and route not in OPERATORS:
                        assert answer.status_code != 403, (who, route)
                    if query:
                        assert answer.status_code in {401, 403, 404, 422}, (who, route)
        with stand.world.store.reading() as session:
            assert session.get(LetterRow, number).handled_at_unix is None
        for how in ({"auth": stand.signer(taker)}, {"headers": {"Authorization": f"Bearer {mine}"}}):
            assert stand.api.get(f"/api/v1/takes/{taken['id']}", **how).json() == taken
            assert stand.api.get(f"/api/v1/options/{taken['option_id']}", **how).status_code == 200
            assert stand.api.get(f"/api/v1/settlements/{settlement}", **how).status_code == 200
            assert len(stand.api.get("/api/v1/settlements", **how).json()["items"]) == 1
        operator = {"Authorization": f"Bearer {stand.world.key('operate')}"}
        for path in ("/takes", f"/takes?account={taker.identity.hex()}", "/fills"):
            assert taken["option_id"] in stand.api.get(f"/api/v1{path}", headers=operator).text
        assert len(stand.api.get("/api/v1/accounts", headers=operator).json()["items"]) == 4
        assert stand.api.get(f"/api/v1/takes?account={eve.identity.hex()}", headers=operator).json()["items"] == []
        assert problem(stand.api.delete("/api/v1/offers", headers=operator)) == (401, "unauthenticated")


def transferred(stand, option_id, seller, holder):
    """Return a transfer under way, its consent and its offer, which is for its newcomer alone."""
    now, newcomer = stand.world.now, stand.join("newcomer")
    of = {"option_id": option_id, "created_at_unix": now, "updated_at_unix": now}
    kept = {"consent": "c1" * 32, "sale": "c2" * 32, "transfer": "c3" * 32, "new option": "t" + "c3" * 16}
    what = {"instrument": CALL, "quantity": 10, "price_sats": 700_000}
    with stand.world.store.transaction() as session:
        session.add(
            TransferConsentRow(
                id=kept["consent"], seller=seller.identity.hex(), number=1, body="{}", valid_until_unix=now + 60, **of
            )
        )
        session.add(
            TransferOfferRow(
                id=kept["sale"], holder=holder.identity.hex(), number=1, body="{}", valid_until_unix=now + 60,
                sats_per_kvb=2_000, taker=newcomer.identity.hex(), state="taken", **what, **of,
            )
        )  # fmt: skip
        session.flush()
        session.add(
            TransferRow(
                id=kept["transfer"], new_option_id=kept["new option"], consent_id=kept["consent"],
                offer_id=kept["sale"], seller=seller.identity.hex(), holder=holder.identity.hex(),
                newcomer=newcomer.identity.hex(), until_unix=now + 60, part="{}", **what, **of,
            )
        )  # fmt: skip
    return kept


def withdrawn_request(stand, asker, maker):
    """Return a request and its answer, withdrawn: while it is open, accounts see who asks."""
    asked = stand.request(asker)
    answered = stand.offer(maker, taker=asker.identity, request=bytes.fromhex(asked), quantity=50)
    assert stand.post(maker, answered)[0]["problem"] is None
    assert stand.ask(asker, "DELETE", f"/requests/{asked}").json()["withdrawn"] == 1
    return {"request": asked, "answer": answered.offer.id.hex()}


def bound(stand, one, *roles):
    """Return an API key that is bound to an account."""
    entropy = sha256(b"bound " + one.identity) + bytes(8)
    return create_key(
        stand.world.store, name=one.name, roles=roles or ("read",), entropy=entropy, now=stand.world.now,
        account_id=one.identity.hex(),
    )  # fmt: skip


def test_a_key_that_is_bound_to_an_account_reads_its_things_and_signs_nothing(stand):
    maker = stand.join("maker-3")
    stand.post(maker, stand.offer(maker))
    key = {"Authorization": f"Bearer {bound(stand, maker, 'read', 'trade')}"}
    assert len(stand.api.get("/api/v1/offers", headers=key).json()["items"]) == 1
    assert stand.api.get("/api/v1/accounts/me", headers=key).json()["name"] == "maker-3"
    posted = stand.api.post("/api/v1/offers", headers=key, json={"offers": [encode_signed_offer(stand.offer(maker))]})
    assert problem(posted) == (401, "unauthenticated")
    assert problem(stand.api.delete("/api/v1/offers", headers=key)) == (401, "unauthenticated")
    assert problem(stand.api.get("/api/v1/letters", headers=key)) == (401, "unauthenticated")


def test_the_operator_binds_a_key_to_an_account_by_its_name(stand):
    maker = stand.join("maker-4")
    commands = make_app(lambda: Store(stand.world.store.url))
    asked = ["create", "page", "--role", "read", "--account"]
    made = CliRunner().invoke(commands, [*asked, "maker-4"])
    assert made.exit_code == 0, made.output
    assert isinstance(CliRunner().invoke(commands, [*asked, "nobody"]).exception, NotFoundError)
    key = {"Authorization": f"Bearer {made.output.strip()}"}
    assert stand.api.get("/api/v1/accounts/me", headers=key).json()["identity"] == maker.identity.hex()


def test_no_cursor_of_the_public_s_trades_has_the_id_of_a_take_and_every_trade_is_shown_once(tmp_path):
    with market(tmp_path) as stand:
        maker, taker = stand.join("maker"), stand.join("taker")
        offer = stand.offer(maker)
        stand.post(maker, offer)
        taken = {}
        for size in range(5, 12):  # all of one second but the last
            stand.world.now += size == 11
            taken[size] = stand.take(taker, offer, size).json()["id"]
        shown, cursor = [], None
        while True:
            page = stand.api.get("/api/v1/trades", params={"limit": 1} | ({"cursor": cursor} if cursor else {})).json()
            shown += [one["quantity_centi_btc"] for one in page["items"]]
            cursor = page["next_cursor"]
            if cursor is None:
                break
            said = b64decode(cursor + "==", altchars=b"-_").decode()
            assert not [one for one in taken.values() if one[:8] in said], "an id is for its two sides"
        assert sorted(shown) == sorted(taken)


def test_a_parameter_that_is_none_or_stands_twice_is_refused_at_every_route_and_nothing_is_done(tmp_path):
    with market(tmp_path) as stand:
        maker = stand.join("maker")
        stand.post(maker, stand.offer(maker), stand.offer(maker, PUT))
        mine = {"auth": stand.signer(maker)}
        for query in (
            "instrument=BTC-25SEP26-70000-C", "state=open", "limit=1&limit=2",
        ):  # fmt: skip
            answer = stand.api.delete(f"/api/v1/offers?{query}", **mine)
            assert problem(answer) == (422, "invalid-request"), query
            assert answer.json()["expected"]
        assert len(stand.ask(maker, "GET", "/offers?state=open").json()["items"]) == 2, "who asked for one lost none"
        document = stand.api.get("/api/v1/openapi.json").json()["paths"]
        everybodys = [
            (path, [one["name"] for one in said["get"].get("parameters", ()) if one["in"] == "query"])
            for path, said in document.items() if said.get("get", {}).get("x-role") == "read"
        ]  # fmt: skip
        assert len(everybodys) > 15
        for path, names in everybodys:
            place = re.sub(r"\{[^}]*\}", "1", path)
            for query in ["acount=1", *(f"{name}=1&{name}=1" for name in names)]:
                stand.world.seconds += 10  # of the rate
                answer = stand.api.get(f"{place}?{query}")
                assert problem(answer) == (422, "invalid-request"), (path, query)
                assert answer.json()["field"] == query.partition("=")[0]


def test_settlements_that_one_may_not_see_hold_up_no_stream_of_those_that_one_may(stand):
    maker, taker = stand.join("maker"), stand.join("taker")
    offer = stand.offer(maker)
    stand.post(maker, offer)
    taken = stand.take(taker, offer).json()
    stand.world.fund(taken["option_id"])
    settlement = stand.world.settle(taken["option_id"], 7_500_000)
    for who, how in (("taker", {"auth": stand.signer(taker)}), ("nobody", {})):
        with stand.api.stream("GET", "/api/v1/settlements/stream?limit=1", headers={"Last-Event-ID": "0"}, **how) as r:
            if who == "nobody":
                continue  # nothing comes: the stream is open, and ends with its reader
            assert settlement in "".join(r.iter_text())


def test_a_history_of_others_settlements_is_read_once_by_a_stream_that_may_show_none_of_it(tmp_path, monkeypatch):
    monkeypatch.setattr("btcfi.surfaces.rest.streams.POLL_SECONDS", 0.01)
    monkeypatch.setattr("btcfi.surfaces.rest.streams.OVERLAP", 100)
    ticks = itertools.count()
    with market(tmp_path, limits={"stream_seconds": 20.0}, monotonic=lambda: float(next(ticks))) as stand:
        with stand.world.store.transaction() as session:
            others = {f"another-s-{n}": "" for n in range(1_000)}
            record_all(session, "settlement", others, "due", now=stand.world.now)
        read = []
        event.listen(
            stand.world.store.engine, "after_cursor_execute",
            lambda _c, _k, said, *_: read.append(said) if "FROM event" in said and "LIMIT" in said else None,
        )  # fmt: skip
        answer = stand.api.get("/api/v1/settlements/stream", headers={"Last-Event-ID": "0"})
        assert answer.text.endswith(": resume\n\n"), "it was polled to its end"
        assert 10 < len(read) < 10 + 3 * 20, "all of it at the first look, the newest at the others"


def test_a_median_near_its_window_is_not_sampled_on_the_loop_that_serves_all(tmp_path, monkeypatch):
    real, on_the_loop = premium.sample_medians, []

    def noted(*given, **named):
        try:
            on_the_loop.append(asyncio.get_running_loop() is not None)
        except RuntimeError:
            on_the_loop.append(False)
        return real(*given, **named)

    monkeypatch.setattr(premium, "sample_medians", noted)
    with market(tmp_path) as stand:
        expiry = stand.world.now // 60 * 60 + 5 * 60
        asked = {"type": "call", "strike": "70000", "expiry": str(expiry), "fixing": "median:3"}
        answer = stand.api.get("/api/premium", params=asked)
        assert answer.status_code == 200, answer.text
    assert on_the_loop == [False]


def test_takes_of_many_medians_hold_up_neither_the_refresh_of_premiums_nor_the_operator_s_risk(tmp_path, monkeypatch):
    sampled = []
    monkeypatch.setattr(premium, "sample_medians", lambda *given, **_: sampled.append(given))  # a second each, if done
    with market(tmp_path) as stand:
        maker, taker = stand.join("maker"), stand.join("taker")
        at = datetime.fromtimestamp(stand.world.now // 60 * 60 + 100 * 60, UTC).strftime("%-d%b%yT%H%M").upper()
        made = [stand.offer(maker, f"BTC-{at}-70000-C-KO{90_000 + n}-MEDIAN60") for n in range(17)]
        assert [one["problem"] for one in stand.post(maker, *made)] == [None] * 17
        for one in made:
            stand.world.seconds += 10
            stand.world.fund(stand.take(taker, one).json()["option_id"])
        with stand.world.store.transaction() as session:
            assert refresh_premiums(
                session, "BTC-USD", now=stand.world.now, rate_bps=300, fallback_volatility_bps=6_000
            ) == 17  # fmt: skip
        operator = {"Authorization": f"Bearer {stand.world.key('operate')}"}
        assert stand.api.get("/api/v1/risk", headers=operator).json()["options"] == 17
    assert sampled == []


# ---- the documentation


def test_the_documentation_s_signed_request_is_let_in_as_it_is_printed(tmp_path):
    world = make_world(tmp_path)
    with_market(world)
    identity, request, desk = (secp256k1.public_key_xonly(bytes([n]) * 32) for n in (1, 2, 3))
    public = replace(world.deps.desk.public, desk_key=desk)
    deps = replace(world.deps, desk=replace(world.deps.desk, public=public))
    registered = Registration(
        name="example", identity=identity, request_key=request, box_key=public.box_key, desk=desk, number=1,
        at=world.now,
    )  # fmt: skip
    with world.store.transaction() as session:
        accounts.register(session, sign_registration(registered, bytes([1]) * 32), now=world.now)
    text = (ROOT / "docs/api.md").read_text()
    printed = re.findall(r"^Authorization: (BTCFi-Signature account=[0-9a-f]+,\S+)$", text, re.MULTILINE)
    assert len(printed) == 1
    api = TestClient(create_app(deps))
    with world.store.transaction() as session:  # so that nothing is waited for
        letters.post(
            session, sender=None, recipient=identity.hex(), name="t1.proposal", sealed=b"sealed", now=world.now
        )  # fmt: skip
    answer = api.get("/api/v1/letters?after=0&wait=25", headers={"Authorization": printed[0]})
    assert (answer.status_code, len(answer.json()["letters"])) == (200, 1)
    world.store.close()
