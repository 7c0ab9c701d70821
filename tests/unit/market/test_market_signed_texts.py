"""Whoever changes, re-spells, redirects or repeats what somebody signed is refused by the name of what is wrong."""

from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from btcfi.adapters.sealed_letters import SealedToAnotherError, UnsealableError, box_key, seal, unseal
from btcfi.adapters.store.options.options import MIN_PREMIUM_SATS
from btcfi.errors import InvalidInputError
from btcfi.market import account, firm_offer
from btcfi.market.account import (
    AnotherDeskError,
    WrongRegistrationError,
    WrongSignatureError,
    check_registration,
    check_time,
    decode_signed_registration,
    encode_signed_registration,
    request_digest,
)
from btcfi.market.firm_offer import (
    OfferRule,
    Side,
    check_offer,
    check_take,
    deal_of,
    decode_signed_offer,
    decode_signed_take,
    encode_signed_offer,
    encode_signed_take,
    least_takeable,
)
from btcfi.market.instrument import parse_instrument
from btcfi.market.letter import (
    Letter,
    check_letter,
    check_said,
    decode_signed_letter,
    encode_signed_letter,
    sign_letter,
)
from btcfi.market.request import decode_signed_request, encode_signed_request
from tests.support.market import (
    AT,
    DESK,
    MAKER,
    OTHER_DESK,
    STRANGER,
    TAKER,
    key,
    offer,
    registration,
    request,
    secret,
    signed_offer,
    signed_quote_request,
    signed_take,
    take,
)

LETTER = Letter(sender=key(request(MAKER)), recipient=key(DESK), name="t1.offer", body={"a": [1, "x", {"b": None}]})
SIGNED_LETTER = sign_letter(LETTER, secret(request(MAKER)))

TEXTS = {
    "registration": (encode_signed_registration(registration()), decode_signed_registration),
    "offer": (encode_signed_offer(signed_offer()), decode_signed_offer),
    "take": (encode_signed_take(signed_take()), decode_signed_take),
    "letter": (encode_signed_letter(SIGNED_LETTER), decode_signed_letter),
    "quote_request": (encode_signed_request(signed_quote_request()), decode_signed_request),
}
texts = pytest.mark.parametrize("which", TEXTS)


# ---- one spelling


@texts
def test_a_signed_text_with_a_field_more_or_less_is_refused_by_its_name(which):
    text, read = TEXTS[which]
    with pytest.raises(InvalidInputError) as e:
        read(text | {"note": "nothing signs this"})
    assert e.value.field.endswith(".note")
    for name in text:
        with pytest.raises(InvalidInputError) as e:
            read({field: value for field, value in text.items() if field != name})
        assert e.value.field.endswith(f".{name}")


@texts
def test_no_value_of_another_type_is_taken_for_the_right_one(which):
    text, read = TEXTS[which]
    for name, value in text.items():
        others = [None, True, [value], {"x": value}, 1.5, "" if value != "" else "x"]
        if isinstance(value, int):
            others += [float(value), str(value), -1, 1 << 63, 10**400]
        elif isinstance(value, str) and len(value) == 64:
            others += [f" {value}", f"0x{value}", value[:-2], value + "00", value[:-1] + "g"]
            others += [value.upper()] if value.upper() != value else []
            others += ["ff" * 32] if name != "offer_id" else []
        for other in others:
            if (which, name) == ("letter", "said"):
                continue
            if (which, name) == ("letter", "body") and isinstance(other, dict):
                continue
            with pytest.raises(InvalidInputError) as e:
                read(text | {name: other})
            assert name in e.value.field, (name, other, e.value)


def test_an_offer_for_nobody_has_one_spelling():
    text = encode_signed_offer(signed_offer())
    assert "taker" not in text
    with pytest.raises(InvalidInputError, match="taker"):
        decode_signed_offer(text | {"taker": None})


@texts
def test_another_kind_or_a_later_version_of_text_is_refused(which):
    text, read = TEXTS[which]
    for other, _ in TEXTS.values():
        if other["type"] != text["type"]:
            with pytest.raises(InvalidInputError):
                read(other)
            with pytest.raises(InvalidInputError):
                read(text | {"type": other["type"]})
    with pytest.raises(InvalidInputError, match=r"version"):
        read(text | {"version": 2})
    for nothing in (None, [], "x", 5, [text]):
        with pytest.raises(InvalidInputError):
            read(nothing)


def test_what_was_read_writes_the_text_that_was_read():
    assert encode_signed_registration(decode_signed_registration(TEXTS["registration"][0])) == TEXTS["registration"][0]
    for_one = signed_offer(offer(taker=key(TAKER)))
    assert decode_signed_offer(encode_signed_offer(for_one)) == for_one
    assert encode_signed_take(decode_signed_take(TEXTS["take"][0])) == TEXTS["take"][0]
    assert encode_signed_letter(decode_signed_letter(TEXTS["letter"][0])) == TEXTS["letter"][0]


def test_a_number_that_some_json_reader_would_round_is_refused():
    text = encode_signed_offer(signed_offer())
    assert decode_signed_offer(text | {"number": (1 << 53) - 1}).offer.number == (1 << 53) - 1
    with pytest.raises(InvalidInputError, match="number"):
        decode_signed_offer(text | {"number": 1 << 53})


# ---- accounts


def test_a_registration_is_its_identitys_word_for_one_desk():
    signed = registration()
    assert check_registration(signed, desk=key(DESK)) == signed.registration
    with pytest.raises(AnotherDeskError):
        check_registration(signed, desk=key(OTHER_DESK))
    with pytest.raises(WrongRegistrationError):
        check_registration(replace(signed, registration=replace(signed.registration, name="bob")))


def test_an_account_has_a_request_key_of_its_own():
    for taken in (key(MAKER), key(DESK)):
        with pytest.raises(InvalidInputError, match="request_key"):
            registration(request_key=taken)
        text = TEXTS["registration"][0] | {"request_key": taken.hex()}
        with pytest.raises(InvalidInputError, match="request_key"):
            decode_signed_registration(text)


@pytest.mark.parametrize(
    "name",
    [
        "ab",
        "a" * 33,
        "Ann",
        "1ann",
        "ann-",
        "-ann",
        "an n",
        "ann\n",
        "\u0430nn",
        "ann\uff12",
        "a_b",
        "desk",
        "operator",
        "oracle",
    ],
)
def test_a_name_that_looks_like_another_or_like_the_services_own_is_refused(name):
    with pytest.raises(InvalidInputError, match="name"):
        decode_signed_registration(TEXTS["registration"][0] | {"name": name})


SMALL = [n.to_bytes(32, "little") for n in account._SMALL_ORDER]


@pytest.mark.parametrize("to", SMALL, ids=lambda k: k.hex()[:8])
def test_a_box_key_that_nothing_can_be_sealed_to_is_no_box_key(to):
    with pytest.raises(ValueError, match="shared key"):  # the library's own word, which no service's loop should meet
        X25519PrivateKey.generate().exchange(X25519PublicKey.from_public_bytes(to))
    with pytest.raises(UnsealableError):
        seal(b"x", to=to, about=b"")
    with pytest.raises(InvalidInputError, match="box_key"):
        decode_signed_registration(TEXTS["registration"][0] | {"box_key": to.hex()})


def test_a_box_key_has_one_spelling():
    prime = account._FIELD_PRIME
    for number in (prime, prime + 9, (1 << 255) + 9, (1 << 256) - 1):
        with pytest.raises(InvalidInputError, match="box_key"):
            decode_signed_registration(TEXTS["registration"][0] | {"box_key": number.to_bytes(32, "little").hex()})


def test_a_request_is_of_one_desk_account_method_target_body_and_second():
    said = {"desk": key(DESK), "account": key(MAKER), "method": "POST", "target": "/a?b=1", "body": b"{}", "at": AT}
    others = [
        {"desk": key(OTHER_DESK)}, {"account": key(TAKER)}, {"method": "PUT"}, {"target": "/a?b=2"}, {"target": "/a"},
        {"body": b"{} "}, {"at": AT + 1},
    ]  # fmt: skip
    digests = {request_digest(**said | other) for other in others}
    assert len(digests) == len(others)
    assert request_digest(**said) not in digests


@pytest.mark.parametrize("off", [31, -31, 10**9])
def test_a_request_of_another_time_is_refused_and_one_within_half_a_minute_is_not(off):
    check_time("request", AT + 30, AT)
    check_time("request", AT - 30, AT)
    with pytest.raises(WrongSignatureError):
        check_time("request", AT + off, AT)


# ---- offers and takes


def test_an_offer_and_a_take_are_their_signers_word():
    assert check_offer(signed_offer(), key(request(MAKER))) == offer()
    assert check_take(signed_take(), key(request(TAKER))) == take()
    with pytest.raises(WrongSignatureError):
        check_offer(signed_offer(), key(request(TAKER)))
    with pytest.raises(WrongSignatureError):
        check_offer(signed_offer(), key(MAKER))  # the identity signs no offers
    with pytest.raises(WrongSignatureError):
        check_take(replace(signed_take(), take=take(quantity=11)), key(request(TAKER)))


def test_of_an_offer_and_a_take_follows_who_writes_and_what_is_paid():
    asked = deal_of(offer(), take())
    assert (asked.seller, asked.buyer) == (key(MAKER), key(TAKER))
    assert (asked.premium, asked.terms.premium, asked.terms.quantity) == (200_000, 12_000, 10)
    bid = offer(side=Side.BID)
    assert (deal_of(bid, take(bid)).seller, deal_of(bid, take(bid)).buyer) == (key(TAKER), key(MAKER))


def test_the_dollars_of_a_deal_are_rounded_up_and_never_nothing():
    one = offer(price_cents=1)
    assert deal_of(one, take(one, quantity=5)).terms.premium == 1
    odd = offer(price_cents=1_234)
    assert deal_of(odd, take(odd, quantity=7)).terms.premium == 87  # 86.38


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"quantity": 4}, "take.quantity"), ({"quantity": 101}, "take.quantity"), ({"quantity": 0}, "take.quantity"),
        ({"taker": key(MAKER)}, "take.taker"), ({"price": 1_999_000}, "take.price"),
        ({"price_cents": 119_999}, "take.price"), ({"offer_id": bytes(32)}, "take.offer_id"),
    ],
)  # fmt: skip
def test_a_take_that_is_none_of_the_offer_makes_no_deal(changes, field):
    with pytest.raises(InvalidInputError) as e:
        deal_of(offer(), take(**changes))
    assert e.value.field == field


def test_an_offer_for_one_is_taken_by_that_one_alone():
    mine = offer(taker=key(TAKER))
    assert deal_of(mine, take(mine)).buyer == key(TAKER)
    with pytest.raises(InvalidInputError, match=r"take\.taker"):
        deal_of(mine, take(mine, taker=key(STRANGER)))


def test_a_deal_whose_premium_no_funding_can_pay_is_none():
    assert firm_offer.LEAST_PREMIUM == MIN_PREMIUM_SATS
    cheap = offer(price=1_000, price_cents=60, minimum=1)
    assert least_takeable(1_000) == 100
    assert deal_of(cheap, take(cheap, quantity=100)).premium == 1_000
    with pytest.raises(InvalidInputError, match=r"take\.quantity"):
        deal_of(cheap, take(cheap, quantity=99))


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"minimum": 0}, "minimum"), ({"minimum": 101}, "minimum"), ({"quantity": 0}, "quantity"),
        ({"price": 2_000_001}, "price_sats"), ({"price": 0}, "price_sats"), ({"price": -1_000}, "price_sats"),
        ({"price": 21 * 10**14}, None), ({"price": 21 * 10**14, "quantity": 101}, "price_sats"),
        ({"price_cents": 0}, "price_cents"), ({"price_cents": 1 << 32}, "price_cents"),
        ({"price_cents": (1 << 32) - 1, "quantity": 101}, "price_cents"), ({"taker": key(MAKER)}, "taker"),
        ({"quantity": 2_100_000_001}, "quantity"),
        ({"instrument": parse_instrument("BTC-27NOV26-60000-BP"), "quantity": 1_050_000_001}, "quantity"),
    ],
)  # fmt: skip
def test_an_offer_that_could_become_an_impossible_contract_cannot_be_made(changes, field):
    if field is None:
        offer(**changes)
        return
    with pytest.raises(InvalidInputError) as e:
        offer(**changes)
    assert e.value.field == field


RULE = OfferRule(
    most_open=10, longest_seconds=600, least_quantity=2, most_quantity=1_000, most_apart=200, answer_seconds=20,
    last_blocks=12, confirmations=6,
)  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({}, None),
        ({"valid_until": AT}, "valid_until"),
        ({"valid_until": AT + 600}, None),
        ({"valid_until": AT + 601}, "valid_until"),
        ({"instrument": parse_instrument("BTC-18NOV20-60000-C")}, None),  # of a market that is played again
        ({"quantity": 1_001}, "quantity"),
        ({"minimum": 1}, "minimum"),
        ({"price": 10_000, "price_cents": 600, "minimum": 9}, "minimum"),
        ({"price": 10_000, "price_cents": 600, "minimum": 10}, None),
        ({"price_cents": 122_460}, None),  # 120,000 at the spot: 2 % and a tick of 60 cents
        ({"price_cents": 122_600}, "price_cents"),
        ({"price_cents": 117_500}, "price_cents"),
        ({"price_cents": 1_200_000}, "price_cents"),  # a slip of a digit
    ],
)
def test_what_the_rule_of_a_market_does_not_let_stand_is_refused_by_its_field(changes, field):
    refused = RULE.refusal(offer(**changes), now=AT, spot=6_000_000)
    assert (refused and refused.field) == field


def test_two_prices_are_not_compared_where_no_price_is_known():
    assert RULE.refusal(offer(price_cents=1), now=AT, spot=None) is None


# ---- letters


def test_a_letter_is_of_one_sender_to_one_recipient():
    assert check_letter(SIGNED_LETTER, sender=key(request(MAKER)), recipient=key(DESK)) == LETTER
    with pytest.raises(WrongSignatureError, match="recipient"):
        check_letter(SIGNED_LETTER, sender=key(request(MAKER)), recipient=key(OTHER_DESK))
    with pytest.raises(WrongSignatureError, match="sender"):
        check_letter(SIGNED_LETTER, sender=key(request(TAKER)), recipient=key(DESK))
    for changes in ({"name": "t2.offer"}, {"body": {}}, {"said": SIGNED_LETTER}):
        forged = replace(SIGNED_LETTER, letter=replace(LETTER, **changes))
        with pytest.raises(WrongSignatureError, match="not signed"):
            check_letter(forged, sender=key(request(MAKER)), recipient=key(DESK))


def handed_on(**changes):
    made = Letter(sender=key(DESK), recipient=key(TAKER), name="t1.offer", body={}, said=SIGNED_LETTER)
    return replace(made, **changes)


def test_what_is_handed_on_is_the_writers_own_word_of_the_same_name():
    letter = check_letter(sign_letter(handed_on(), secret(DESK)), sender=key(DESK), recipient=key(TAKER))
    assert check_said(letter, sender=key(request(MAKER))) == LETTER
    with pytest.raises(WrongSignatureError):
        check_said(letter, sender=key(request(STRANGER)))
    with pytest.raises(WrongSignatureError):  # a word about another contract
        check_said(handed_on(name="t2.offer"), sender=key(request(MAKER)))
    with pytest.raises(WrongSignatureError):
        check_said(handed_on(said=None), sender=key(request(MAKER)))
    elsewhere = sign_letter(replace(LETTER, recipient=key(OTHER_DESK)), secret(request(MAKER)))
    with pytest.raises(WrongSignatureError):  # what it said to another desk
        check_said(handed_on(said=elsewhere), sender=key(request(MAKER)))


def test_a_letter_carries_one_other_at_most():
    twice = sign_letter(handed_on(said=sign_letter(handed_on(), secret(DESK))), secret(DESK))
    with pytest.raises(InvalidInputError, match="said"):
        decode_signed_letter(encode_signed_letter(twice))


def nested(depth):
    return {"a": nested(depth - 1)} if depth else 1


@pytest.mark.parametrize("body", [{"x": 1.0}, {"x": [{"y": float("nan")}]}, nested(40), nested(900), [], "x", None])
def test_a_body_without_a_canonical_text_is_refused_before_anything_hashes_it(body):
    with pytest.raises(InvalidInputError, match="body"):
        decode_signed_letter(TEXTS["letter"][0] | {"body": body})


@pytest.mark.parametrize("name", ["", ".offer", "~x", "a/b", "a\\b", "a\x00", "a\n", "ä.offer", "x" * 182, 5, None])
def test_a_letters_name_is_a_files(name):
    with pytest.raises(InvalidInputError, match="name"):
        decode_signed_letter(TEXTS["letter"][0] | {"name": name})


def test_a_sealed_letter_opens_with_its_key_for_its_purpose_alone():
    sealed = seal(b"hello", to=box_key(secret(5)), about=b"t1.offer")
    assert unseal(sealed, secret=secret(5), about=b"t1.offer") == b"hello"
    assert seal(b"hello", to=box_key(secret(5)), about=b"t1.offer") != sealed
    wrong = [
        (sealed, 6, b"t1.offer"), (sealed, 5, b"t2.offer"), (sealed[:-1], 5, b"t1.offer"), (b"", 5, b"t1.offer"),
        (bytes(64), 5, b"t1.offer"), (sealed + b"\0", 5, b"t1.offer"),
    ]  # fmt: skip
    for text, number, about in wrong:
        with pytest.raises(SealedToAnotherError):
            unseal(text, secret=secret(number), about=about)
