"""Everything that a desk can do to a party by letters: none of it costs the party more than time."""

import dataclasses
import json

import pytest

from btcfi import secp256k1
from btcfi.contracts.mandate import Bounds
from btcfi.errors import InvalidInputError
from btcfi.hashes import sha256
from btcfi.market.account import sign_registration
from btcfi.market.firm_offer import Side
from btcfi.market.letter import sign_letter
from btcfi.market.part import WHERE, encode_part
from tests.support.accounts import DESK_SECRET, NOW, trader
from tests.support.chain import chain
from tests.support.letter_desk import INSTRUMENT, QUANTITY, LetterWorld

pytestmark = pytest.mark.integration

STRANGER = trader("stranger")


@pytest.fixture(scope="module")
def wallet(tmp_path_factory):
    with chain("embedded", tmp_path_factory.mktemp("hostile")) as funded:
        yield funded


@pytest.fixture(scope="module")
def world(wallet, tmp_path_factory):
    """One world for all lies: each is told of an offer of its own, and leaves nothing."""
    return LetterWorld(wallet, tmp_path_factory.mktemp("parties"))


@pytest.fixture
def untouched(world):
    """Whatever the test does, no coin of either side is held afterwards, and neither has a contract more."""
    before = [(side.free(), len(side.contracts())) for side in (world.seller, world.buyer)]
    yield
    assert [(side.free(), len(side.contracts())) for side in (world.seller, world.buyer)] == before


_number = iter(range(1_000, 1_000_000))


def deal(world, quantity=QUANTITY, **changes):
    offer = world.post(number=next(_number), **changes)
    return world.part(offer, world.take(offer, quantity, number=next(_number)))


def refused(world, part, *, name=None, order=None, field="", **how):
    """Propose it to the seller, and return why it refused."""
    name = world.propose(part, name, order, **how)
    world.seller.work()
    why = world.seller.refused(f"{name}.proposal")
    assert why, "it was not refused"
    assert world.desk.said(world.seller.trader, f"{name}.offer") is None
    if field:
        assert field in why
    return why


# ---- the market part


def changed(part, half, **changes):
    """The part with a half that says otherwise, and the signature that was there."""
    signed = getattr(part, half)
    inner = getattr(signed, "registration", None) or getattr(signed, half)
    name = "registration" if hasattr(signed, "registration") else half
    return dataclasses.replace(
        part, **{half: dataclasses.replace(signed, **{name: dataclasses.replace(inner, **changes)})}
    )


@pytest.mark.parametrize("change", [
    {"price": 2_000_000}, {"price_cents": 70_001}, {"quantity": 50}, {"valid_until": NOW + 1_000}, {"number": 7},
    {"taker": STRANGER.identity}, {"side": Side.BID}, {"maker": STRANGER.identity}, {"desk": STRANGER.identity},
])  # fmt: skip
@pytest.mark.usefixtures("untouched")
def test_an_offer_that_says_one_thing_else_than_was_signed_is_refused(world, change):
    honest = deal(world)
    forged = changed(honest, "offer", **change)
    for part in (forged, changed(forged, "take", offer_id=forged.offer.offer.id)):
        refused(world, part, name=part.take.take.option_id, order=world.order(honest))


@pytest.mark.parametrize("change", [
    {"quantity": 6}, {"price": 2_000_000}, {"valid_until": NOW + 50}, {"number": 8}, {"taker": STRANGER.identity},
])  # fmt: skip
@pytest.mark.usefixtures("untouched")
def test_a_take_that_says_one_thing_else_than_was_signed_is_refused(world, change):
    honest = deal(world)
    part = changed(honest, "take", **change)
    refused(world, part, name=part.take.take.option_id, order=world.order(honest))


@pytest.mark.parametrize("who", ["seller", "buyer"])
@pytest.mark.parametrize("change", [
    {"name": "other"}, {"request_key": STRANGER.identity}, {"box_key": b"\x09" + bytes(31)}, {"number": 9},
    {"desk": STRANGER.identity}, {"identity": STRANGER.identity},
])  # fmt: skip
@pytest.mark.usefixtures("untouched")
def test_a_registration_that_its_identity_has_not_signed_for_this_desk_is_refused(world, who, change):
    honest = deal(world)
    refused(world, changed(honest, who, **change), order=world.order(honest))


@pytest.mark.usefixtures("untouched")
def test_a_registration_of_somebody_else_does_not_stand_for_the_other_side(world):
    honest = deal(world)
    refused(world, dataclasses.replace(honest, buyer=STRANGER.registered()), field="market.buyer")


@pytest.mark.usefixtures("untouched")
def test_a_deal_of_another_desk_that_both_have_signed_is_refused(world):
    other = sha256(b"another desk")
    key = secp256k1.public_key_xonly(other)
    offer = world.post(number=next(_number), desk=key)
    part = world.part(offer, world.take(offer), **{
        side.name: sign_registration(
            dataclasses.replace(side.trader.registered().registration, desk=key), side.trader.identity_secret
        )
        for side in (world.seller, world.buyer)
    })  # fmt: skip
    refused(world, part, field=key.hex()[:16])


@pytest.mark.usefixtures("untouched")
def test_a_deal_between_two_others_is_none_of_ours(world):
    maker, taker = trader("maker"), trader("taker")
    offer = maker.offer(INSTRUMENT, Side.ASK)
    part = world.part(offer, taker.take(offer, QUANTITY), seller=maker.registered(), buyer=taker.registered())
    refused(world, part, field="two others")


@pytest.mark.usefixtures("untouched")
def test_an_offer_that_is_signed_and_not_in_the_ledger_is_not_ours_to_keep(world):
    """Keys in a backup of ours sign what we never posted."""
    offer = world.maker.trader.offer(INSTRUMENT, world.side, number=next(_number))
    refused(world, world.part(offer, world.take(offer)), field="offer of ours")


@pytest.mark.parametrize("late", [30, 60])
@pytest.mark.usefixtures("untouched")
def test_a_lapsed_take_or_offer_is_not_signed(world, late):
    part = deal(world)
    world.clock.at = NOW + late
    try:
        refused(world, part, field="good until")
    finally:
        world.clock.at = NOW


@pytest.mark.usefixtures("untouched")
def test_a_withdrawn_offer_is_not_signed(world):
    part = deal(world)
    world.maker.ledger.withdraw(part.offer.offer.id)
    refused(world, part, field="withdrawn")


@pytest.mark.usefixtures("untouched")
def test_terms_that_are_not_the_deal_s_are_refused_by_name(world):
    for field, change in (
        ("premium_sats", {"premium_sats": 49_999}),
        ("collateral_sats", {"collateral_sats": 5_000_001}),
        ("option.strike_cents", {"option": {"strike_cents": 9_000_000}}),
        ("option.quantity_centibtc", {"option": {"quantity_centibtc": 6}}),
        ("option.premium_cents", {"option": {"premium_cents": 1}}),
        ("option.kind", {"option": {"kind": "put"}}),
    ):
        part = deal(world)
        order = world.order(part)
        order |= {"option": order["option"] | change["option"]} if "option" in change else change
        refused(world, part, order=order, field=field)


@pytest.mark.usefixtures("untouched")
def test_a_deal_under_another_option_s_name_and_on_the_other_side_is_refused(world):
    part = deal(world)
    refused(world, part, name="t" + "0" * 32)
    refused(world, part, order=world.order(part) | {"role": "buyer"}, field="market.buyer")


@pytest.mark.usefixtures("untouched")
def test_without_a_market_part_the_mandate_s_own_word_is_asked_for(world):
    part = deal(world)
    name = part.take.take.option_id
    world.desk.send(world.seller.trader, f"{name}.proposal", world.order(part))
    world.seller.work()
    assert "order of our own" in world.seller.refused(f"{name}.proposal")


# ---- more than was offered


def test_takes_of_one_offer_come_to_no_more_than_it_was_for_also_after_a_restart(wallet, tmp_path):
    world = LetterWorld(wallet, tmp_path)
    offer = world.post(quantity=9)
    first, second = (world.part(offer, world.take(offer, QUANTITY, number=n)) for n in (2, 3))
    world.propose(first)
    world.seller.work()
    free = world.seller.free()
    world.seller.open()
    assert "5 of 9" in refused(world, second)
    assert world.seller.free() == free
    rest = world.part(offer, world.take(offer, 4, number=4))
    world.propose(rest)
    world.seller.work()
    assert sorted(one.order for one in world.seller.contracts()) == sorted(
        part.take.take.option_id for part in (first, rest)
    )


# ---- letters


@pytest.mark.usefixtures("untouched")
def test_a_letter_that_is_not_the_desk_s_to_us_under_its_own_name_makes_no_file(world):
    part = deal(world)
    order = world.order(part) | {WHERE: encode_part(part)}
    seller, name = world.seller.trader, f"{part.take.take.option_id}.proposal"
    world.desk.send(seller, name, order, secret=sha256(b"somebody"))
    world.desk.send(seller, name, order, recipient=world.buyer.trader.identity)
    world.desk.send(seller, name, order, about=world.buyer.trader.identity + name.encode())
    world.desk.send(seller, name, order, about=seller.identity + b"another.proposal")
    world.desk.send(world.buyer.trader, name, order)
    world.desk.waiting[seller.identity] += world.desk.waiting.pop(world.buyer.trader.identity)
    sealed_as = f"{'t' + '1' * 32}.proposal"
    world.desk.send(seller, sealed_as, order)
    number, _, sealed = world.desk.waiting[seller.identity].pop()
    world.desk.waiting[seller.identity].append((number, name, sealed))
    world.desk.put(seller, name, b"\x00" * 100)
    world.seller.work()
    files = {path.name for path in world.seller.inbox.rglob(f"{name}*")}
    assert files == set()
    assert world.desk.waiting[seller.identity] == []


@pytest.mark.parametrize("name", ["x.order", "x.mandate", "x", "x.status", "x.close-order"])
@pytest.mark.usefixtures("untouched")
def test_a_letter_of_a_kind_that_no_desk_sends_makes_no_message(world, name):
    world.desk.send(world.seller.trader, name, {"type": "btcfi/order"})
    world.seller.work()
    assert world.seller.refused(name)
    assert not list(world.seller.inbox.rglob(f"{name}.json"))


@pytest.mark.usefixtures("untouched")
def test_one_kind_under_another_s_name_is_no_way_around_the_other_side_s_signature(world):
    part = deal(world)
    name = part.take.take.option_id
    for kind, inside in (("withdrawal", "accept"), ("attestation", "sign"), ("proposal", "offer")):
        world.desk.send(world.seller.trader, f"{name}.{kind}", {"type": f"btcfi/{inside}", "version": 3})
        world.seller.work()
        assert "letter" in world.seller.refused(f"{name}.{kind}")


def test_the_other_side_s_word_is_the_other_side_s_or_nobody_s(wallet, tmp_path):
    world = LetterWorld(wallet, tmp_path)
    part = deal(world)
    name = world.propose(part)
    world.seller.work()
    honest = world.desk.letter(world.seller.trader, f"{name}.offer")
    market = {WHERE: encode_part(part)}
    buyer, before = world.buyer.trader, world.buyer.free()

    def lies(kind, body, said):
        world.desk.send(buyer, f"{name}.{kind}", body, said=said)
        world.buyer.work()
        why = world.buyer.refused(f"{name}.{kind}")
        for path in (world.buyer.inbox / "refused").glob(f"{name}.{kind}.*"):
            path.unlink()
        return why

    by_desk = sign_letter(honest.letter, DESK_SECRET)
    by_stranger = sign_letter(
        dataclasses.replace(honest.letter, sender=STRANGER.registered().registration.request_key),
        STRANGER.keystore.request_secret(),
    )
    more = dataclasses.replace(honest.letter, body=honest.letter.body | {"premium_sats": 1})
    renamed = sign_letter(
        dataclasses.replace(honest.letter, name="other.offer"), world.seller.trader.keystore.request_secret()
    )
    for said in (None, by_desk, by_stranger, dataclasses.replace(honest, letter=more), renamed):
        assert lies("offer", market, said)
    assert lies("offer", {}, honest), "without the market part nobody knows whom it is from"
    assert lies("sign", {}, honest), "before the offer nobody knows whom it is from"
    other = deal(world)
    assert lies("offer", {WHERE: encode_part(other)}, honest)
    assert world.buyer.free() == before
    assert not lies("offer", market, honest)
    assert len(world.buyer.contracts()) == 1


def test_a_second_offer_of_one_deal_is_not_accepted(wallet, tmp_path):
    """The other side, or the desk with it, would have us hold coins for two contracts of one take."""
    world = LetterWorld(wallet, tmp_path)
    part = deal(world)
    name = world.propose(part)
    world.seller.work()
    world.carry(name, part)
    world.buyer.work()
    held = world.buyer.free()
    offer = json.loads((world.buyer.inbox / "done" / f"{name}.offer.json").read_text())
    offer["party"]["change_script"] = offer["party"]["payout_script"] = "5120" + "11" * 32
    again = world.buyer.inbox / f"{name}.offer.json"
    (world.buyer.inbox / "done" / f"{name}.offer.json").unlink()
    again.write_text(json.dumps(offer))
    world.buyer.work()
    assert "answered" in world.buyer.refused(f"{name}.offer")
    assert (world.buyer.free(), len(world.buyer.contracts())) == (held, 1)


def test_an_answer_to_one_deal_does_not_answer_another(wallet, tmp_path):
    """Who is the other side of one deal would become that of a second one, which somebody else has taken."""
    world = LetterWorld(wallet, tmp_path)
    offer = world.post(number=next(_number))
    parts = [world.part(offer, world.take(offer, number=next(_number))) for _ in range(2)]
    names = [world.propose(part) for part in parts]
    world.seller.work()
    for name, part in zip(names, parts, strict=True):
        world.carry(name, part)
    world.buyer.work()
    answer = world.desk.said(world.buyer.trader, f"{names[1]}.accept")
    forged = sign_letter(
        dataclasses.replace(world.desk.letter(world.buyer.trader, f"{names[0]}.accept").letter, body=answer),
        world.buyer.trader.keystore.request_secret(),
    )
    world.desk.send(world.seller.trader, f"{names[0]}.accept", {}, said=forged)
    world.seller.work()
    assert names[1][:16] in world.seller.refused(f"{names[0]}.accept")
    assert [one.sign for one in world.seller.contracts()] == [None, None]


def test_what_was_agreed_in_time_is_signed_in_time_or_never(wallet, tmp_path):
    """A desk that holds the last letter back holds an option on the deal; it ends with the take."""
    world = LetterWorld(wallet, tmp_path)
    part = deal(world)
    name = world.propose(part)
    world.turn(name, part)
    world.clock.at = part.take.take.valid_until
    world.turn(name, part)
    assert "good until" in world.seller.refused(f"{name}.accept")
    assert world.desk.said(world.seller.trader, f"{name}.sign") is None
    assert all(not one.may_be_funded or one.role.value == "seller" for one in world.seller.contracts())
    assert world.seller.contracts()[0].sign is None


def test_a_buyer_does_not_fund_what_it_gets_too_late(wallet, tmp_path):
    world = LetterWorld(wallet, tmp_path)
    part = deal(world)
    name = world.propose(part)
    world.turn(name, part)
    world.seller.work()
    world.carry(name, part)
    world.clock.at = part.take.take.valid_until
    world.buyer.work()
    assert "good until" in world.buyer.refused(f"{name}.sign")
    assert world.buyer.contracts()[0].funding is None


@pytest.mark.usefixtures("untouched")
def test_four_megabytes_of_anything_and_answers_that_are_none_hold_nobody_up(world):
    seller = world.seller.trader
    part = deal(world)
    name = part.take.take.option_id
    deep = {"type": "btcfi/proposal", "x": "y" * (4 << 20)}
    world.desk.send(seller, f"{name}.proposal", deep)
    world.desk.put(seller, "big.proposal", b"\x01" * (4 << 20))
    world.seller.work()
    assert world.seller.refused(f"{name}.proposal")
    connection = world.seller.postman._fetching
    for answer in (None, [], {}, {"letters": 3}):
        world.seller.postman._fetching = Says(answer)
        with pytest.raises(InvalidInputError):
            world.seller.postman.fetch(0)
    world.seller.postman._fetching = Says({"letters": [3, {"id": -1}, {"id": 1, "name": "../x", "sealed": "AA=="}]})
    world.seller.postman.fetch(0)
    world.seller.postman._fetching = connection
    assert not list(world.seller.folder.rglob("x.json"))


class Says:
    def __init__(self, answer):
        self.answer = answer

    def get(self, path, **_):
        return self.answer

    def post(self, path, body):
        return {}


def test_a_desk_that_asks_for_what_the_mandate_does_not_allow_learns_the_field_and_no_bound_of_it(wallet, tmp_path):
    world = LetterWorld(wallet, tmp_path, collateral=Bounds(least=1_234_567, most=1_234_568))
    part = deal(world)
    name = world.propose(part)
    world.seller.work()
    told = world.desk.said(world.seller.trader, f"{name}.proposal.refused")["reason"]
    assert "1,234,568" in world.seller.refused(f"{name}.proposal")  # its owner reads it
    assert "collateral" in told
    assert "1,234,56" not in told
