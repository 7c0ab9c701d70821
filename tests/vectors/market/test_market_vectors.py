"""What accounts sign equals what another program wrote, byte for byte; what it calls invalid is refused."""

import json

import pytest

from btcfi import secp256k1
from btcfi.errors import BtcfiError, InvalidInputError
from btcfi.hashes import tagged_hash
from btcfi.market import account, firm_offer, letter, request
from btcfi.market.instrument import parse_instrument
from btcfi.oracle.report import canonical_json
from tests.support.paths import VECTORS_FOLDER

FILE = json.loads((VECTORS_FOLDER / "market" / "signed_texts_v1.json").read_text(encoding="utf-8"))
TESTS = FILE["tests"]
KEYS = {name: bytes.fromhex(key) for name, key in FILE["keys"].items()}
SECRETS = {name: bytes.fromhex(secret) for name, secret in FILE["secrets"].items()}


def of(kind, result="valid"):
    found = [one for one in TESTS if one["kind"] == kind and one["result"] == result]
    return pytest.mark.parametrize("vector", found, ids=lambda one: f"{one['id']}-{one['comment']}".replace(" ", "_"))


def check(kind, text):
    """Return the digest of a text of that kind and the text written again, once everything holds."""
    if kind == "registration":
        signed = account.decode_signed_registration(text)
        digest = account.registration_digest(account.check_registration(signed, desk=KEYS["desk"]))
        return digest, account.encode_signed_registration(signed)
    if kind == "offer":
        offered = firm_offer.decode_signed_offer(text)
        return firm_offer.check_offer(offered, KEYS["maker_request"]).id, firm_offer.encode_signed_offer(offered)
    if kind == "take":
        taken = firm_offer.decode_signed_take(text)
        return firm_offer.check_take(taken, KEYS["taker_request"]).id, firm_offer.encode_signed_take(taken)
    if kind == "quote_request":
        asked = request.decode_signed_request(text)
        return request.check_request(asked, KEYS["taker_request"]).id, request.encode_signed_request(asked)
    written = letter.decode_signed_letter(text)
    ends = {"sender": written.letter.sender, "recipient": written.letter.recipient}
    return letter.letter_digest(letter.check_letter(written, **ends)), letter.encode_signed_letter(written)


def test_the_keys_are_those_of_the_secrets():
    assert {name: secp256k1.public_key_xonly(secret) for name, secret in SECRETS.items()} == KEYS


@pytest.mark.parametrize("kind", ["registration", "offer", "take", "letter", "quote_request"])
def test_a_signed_text_of_another_program_is_read_and_written_as_it_is(kind):
    for vector in (one for one in TESTS if one["kind"] == kind and one["result"] == "valid"):
        digest, again = check(kind, vector["text"])
        assert digest.hex() == vector["digest"] == tagged_hash(vector["tag"], vector["hashed"].encode()).hex()
        assert again == vector["text"]
        signature = secp256k1.schnorr_sign(SECRETS[vector["signer"]], digest)
        assert signature.hex() == vector["text"]["signature"]


@of("registration", "invalid")
def test_an_invalid_registration_is_refused(vector):
    with pytest.raises(InvalidInputError):
        check("registration", vector["text"])


@pytest.mark.parametrize("kind", ["offer", "take", "letter", "quote_request"])
def test_an_invalid_text_is_refused(kind):
    for vector in (one for one in TESTS if one["kind"] == kind and one["result"] == "invalid"):
        with pytest.raises(BtcfiError):
            check(kind, vector["text"])


@of("request")
def test_a_request_is_signed_as_another_program_signs_it(vector):
    parts = vector["parts"]
    digest = account.request_digest(
        desk=bytes.fromhex(parts["desk"]), account=bytes.fromhex(parts["account"]), method=parts["method"],
        target=parts["target"], body=parts["body"].encode(), at=parts["at_unix"],
    )  # fmt: skip
    assert digest.hex() == vector["digest"] == tagged_hash(vector["tag"], vector["hashed"].encode()).hex()
    assert secp256k1.schnorr_verify(KEYS[vector["signer"]], digest, bytes.fromhex(vector["signature"]))


@of("deal")
def test_the_one_deal_of_an_offer_and_a_take(vector):
    offer = firm_offer.check_offer(firm_offer.decode_signed_offer(vector["offer"]), KEYS["maker_request"])
    take = firm_offer.check_take(firm_offer.decode_signed_take(vector["take"]), KEYS["taker_request"])
    assert (offer.id.hex(), take.id.hex(), take.option_id) == (
        vector["offer_id"], vector["take_id"], vector["option_id"],
    )  # fmt: skip
    deal = firm_offer.deal_of(offer, take)
    assert vector["deal"] == {
        "premium_sats": deal.premium, "premium_cents": deal.terms.premium, "kind": deal.terms.kind.label,
        "strike_cents": deal.terms.strike, "barrier_cents": deal.terms.barrier, "american": deal.terms.american,
        "fixing": str(deal.terms.window), "expiry_unix": deal.terms.expiry,
        "quantity_centi_btc": deal.terms.quantity, "collateral_sats": deal.terms.collateral,
        "seller": deal.seller.hex(), "buyer": deal.buyer.hex(),
    }  # fmt: skip


@of("name")
def test_a_name_says_its_expiry(vector):
    assert parse_instrument(vector["name"]).expiry == vector["expiry_unix"]


@of("name", "invalid")
def test_what_is_no_name_is_refused(vector):
    with pytest.raises(InvalidInputError):
        parse_instrument(vector["name"])


def test_canonical_text_escapes_all_but_ascii():
    assert canonical_json({"b": "w\u00f6rld", "a": [1, None]}) == b'{"a":[1,null],"b":"w\\u00f6rld"}'
