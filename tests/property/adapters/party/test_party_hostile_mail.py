"""Every field of every message, hostile, in the mail of a real desk: refused, and nothing else happens.

For each kind of message its reader gets, in one round, every hostile form of the good one and the good one itself. The
hostile ones lie aside with a reason; nothing was signed, reserved, forgotten or promised; the good one was answered.
"""

import json
from dataclasses import dataclass, field

import pytest

from btcfi.bitcoin.fees import SatsPerKvb
from btcfi.contracts.messages import (
    CloseOrder,
    Order,
    Role,
    encode_attestation,
    encode_close_order,
    encode_order,
)
from btcfi.units import Sats
from tests.support.desks import open_chain, open_pair
from tests.support.hostile_json import changed as with_value
from tests.support.hostile_json import hostile, hostile_texts, inside, lacking, places, spelled

pytestmark = pytest.mark.integration

TEXTS = ("NaN", "minus infinity", "Arabic digits", "deep", "no closing quote")
"""Of what no parser may take, those that are put into each place here; the parser's own tests have all of them."""

VALUES = (
    "null", "negative", "half", "beyond 64 bits", "nothing", "no list", "a thousand", "as text", "as a float",
    "in Arabic digits", "upper", "spaced", "a byte less", "a byte more", "zero", "off the curve", "no hex", "in itself",
    "one less", "twice",
)  # fmt: skip


def hostile_forms(message):
    """(label, bytes) of every hostile form of a message."""
    for at in places(message):
        wrong = {label: value for label, value in hostile(inside(message, at)).items() if label in VALUES}
        for label, value in wrong.items():
            yield f"{spelled('', at)} {label}", json.dumps(with_value(message, at, value)).encode()
        if isinstance(at[-1], str):
            yield f"{spelled('', at)} missing", json.dumps(lacking(message, at)).encode()
    yield from hostile_texts(message, TEXTS)


@dataclass
class Batch:
    """What one reader did with the hostile forms of one message and the good one."""

    labels: dict = field(default_factory=dict)
    """File name -> what is wrong with it."""
    refused: set = field(default_factory=set)
    reasons: dict = field(default_factory=dict)
    before: tuple = ()
    after: tuple = ()
    answered: bool = False


def attack(side, folder, name, message):
    """Give a reader every hostile form, look, then some of them again with the good one behind them in one round."""
    side.round()  # the blocks since the last one are seen
    batch, forms = Batch(before=side.facts()), list(hostile_forms(message))
    for number, (label, raw) in enumerate(forms):
        batch.labels[f"a{number}"] = label
        side.put(folder, f"a{number}", raw)
    side.round()
    batch.after = side.facts()
    refused = side.folder / folder / "refused"
    batch.refused = {path.stem for path in refused.glob("a*.json")}
    batch.reasons = {path.stem: path.read_text() for path in refused.glob("a*.reason")}
    for number, (_, raw) in enumerate(forms[:: max(1, len(forms) // 9)]):
        side.put(folder, f"b{number}", raw)
    side.put(folder, name, message)
    side.round()
    return batch


def an_order(pair):
    terms = pair.terms()
    return pair.seller, "orders", "one", encode_order(Order(terms=terms, role=Role.SELLER)), "one.offer"


def a_message(kind, reader, answer):
    def reached(pair):
        pair.reach("one", pair.terms(), kind)
        author = pair.seller if reader == "buyer" else pair.buyer
        return getattr(pair, reader), "inbox", f"one.{kind}", author.said(f"one.{kind}"), f"one.{answer}"

    return reached


def an_attestation(pair):
    terms = pair.terms()
    pair.reach("one", terms, "attestation")
    (attestation,) = pair.attestations(terms)
    return pair.buyer, "inbox", "one.attestation", encode_attestation(attestation), None


def a_close_order(pair):
    pair.reach("one", pair.terms(), "close-order")
    (name,) = pair.buyer.store.names()
    order = CloseOrder(offer_id=bytes.fromhex(name), payout=Sats(2_000_000), rate=SatsPerKvb(2_000), guest_input=b"")
    return pair.buyer, "orders", "one~close", encode_close_order(order), "one~close.close-request"


def a_close_request(pair):
    buyer, _, name, order, answer = a_close_order(pair)
    pair.seller.put("bids", name, order)
    buyer.put("orders", name, order)
    buyer.round()
    return pair.seller, "inbox", answer, buyer.said(answer), "one~close.close-answer"


def a_close_answer(pair):
    seller, _, name, request, answer = a_close_request(pair)
    seller.put("inbox", name, request)
    seller.round()
    return pair.buyer, "inbox", answer, seller.said(answer), "one~close.closed"


STAGES = {
    "order": an_order,
    "offer": a_message("offer", "buyer", "accept"),
    "accept": a_message("accept", "seller", "sign"),
    "sign": a_message("sign", "buyer", "funded"),
    "attestation": an_attestation,
    "close-order": a_close_order,
    "close-request": a_close_request,
    "close-answer": a_close_answer,
}
"""kind -> the reader, its folder, the name and the good message, and the name of what answers it."""


@pytest.fixture(scope="module")
def batches(tmp_path_factory, quick):
    """kind -> Batch; each kind has two parties of its own."""
    folder, found = tmp_path_factory.mktemp("pairs"), {}
    with open_chain(folder) as (chain, cookie):
        for number, (kind, stage) in enumerate(STAGES.items(), 1):
            with open_pair(folder / kind, chain, cookie, number) as pair:
                side, into, name, message, answer = stage(pair)
                found[kind] = attack(side, into, name, message)
                found[kind].answered = (side.said(answer) if answer else side.store.attestations()) not in (None, {})
    return found


@pytest.fixture(scope="module")
def quick():
    """No syncing of thousands of files, time for all in one round: what is tested is neither disk nor speed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("btcfi.adapters.party.mail.ANSWER_SECONDS", 120)
        patch.setattr("os.fsync", lambda _: None)
        yield


@pytest.mark.parametrize("kind", STAGES)
def test_every_hostile_form_of_a_message_is_moved_aside_with_its_reason(batches, kind):
    batch = batches[kind]
    assert {batch.labels[name] for name in batch.labels.keys() - batch.refused} == set()
    assert {batch.labels[name] for name in batch.labels.keys() - batch.reasons.keys()} == set()
    assert all("Error" not in reason and 10 < len(reason) < 1_500 for reason in batch.reasons.values())
    assert len(batch.labels) > 50


@pytest.mark.parametrize("kind", STAGES)
def test_no_hostile_form_of_a_message_signs_reserves_forgets_or_promises_anything(batches, kind):
    (kept_before, free_before), (kept, free) = batches[kind].before, batches[kind].after
    assert free == free_before
    assert kept == kept_before


@pytest.mark.parametrize("kind", STAGES)
def test_the_good_message_beside_the_hostile_ones_is_answered_in_the_same_round(batches, kind):
    assert batches[kind].answered
