"""Every JSON document of ours: what its writer writes its reader takes, and a wrong field is named by its path."""

import copy
import json
from dataclasses import replace
from functools import reduce

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from btcfi.bitcoin.fees import SatsPerKvb
from btcfi.contracts import messages, payouts
from btcfi.contracts.anchor import decode_anchor_proof, encode_anchor_proof
from btcfi.contracts.mandate import decode_signed_mandate, encode_signed_mandate, sign_mandate
from btcfi.contracts.messages import CloseAnswer, CloseOrder, CloseRequest, Order, Role
from btcfi.errors import InvalidInputError
from btcfi.options.terms import OptionKind, OptionTerms
from btcfi.oracle.consensus import ConsensusRule, agreed_price, decode_outcome, encode_outcome
from btcfi.oracle.report import decode_report, encode_report, make_report
from btcfi.units import CentiBtc, Cents, CentsPerBtc, Hash32, Sats, Slot
from tests.support.contracts import Scene
from tests.support.mandates import IDENTITY_SECRET, mandate
from tests.support.oracle_support import BINANCE, COINBASE, KRAKEN, LEG, SLOT, leg, missing, quote
from tests.unit.contracts.test_contracts_anchor import proof_of


def every_document():
    """name -> (reader, writer, record, what stands before a path)."""
    scene = Scene(oracles=3, threshold=2, tree="proof_required")
    offer, (_, accept, sign, _) = scene.offer(), scene.run()
    accept, sign = (replace(one, presignatures=one.presignatures[:99]) for one in (accept, sign))
    said = [quote(BINANCE, 6_000_000), quote(KRAKEN, 6_000_100), missing(COINBASE), leg(100_000_000)]
    three, rule = (BINANCE, COINBASE, KRAKEN), ConsensusRule()
    outcomes = {
        name: agreed_price(said[:many], registered=three, legs=(LEG,), rule=rule, slot=SLOT)
        for name, many in (("price", 4), ("void", 1))
    }
    report = make_report(
        outcomes["price"], said, feed="BTC/USD", rule=ConsensusRule(), registered=(BINANCE,), legs=(LEG,)
    )
    terms = OptionTerms(
        kind=OptionKind.CALL, strike=CentsPerBtc(10_000_000), quantity=CentiBtc(5), barrier=CentsPerBtc(11_000_000),
        american=False, expiry=Slot(1_740_000_000), premium=Cents(5), collateral=Sats(5_000_000),
    )  # fmt: skip
    close = {"payout": Sats(5), "rate": SatsPerKvb(2000), "guest_input": b"in"}
    records = {
        "offer": offer,
        "order": Order(terms=offer.terms, role=Role.BUYER),
        "accept": accept,
        "sign": sign,
        "close_order": CloseOrder(offer_id=bytes(32), **close),
        "close_request": CloseRequest(contract_id=Hash32(bytes(32)), nonce=bytes(66), **close),
        "close_answer": CloseAnswer(contract_id=Hash32(bytes(32)), nonce=bytes(66), partial=bytes(32)),
        "attestation": scene.attestations(9_000_000)[0],
    }
    found = {
        name: (getattr(messages, f"decode_{name}"), getattr(messages, f"encode_{name}"), one, f"btcfi/{dashed}")
        for name, one in records.items()
        for dashed in [name.replace("_", "-")]
    }
    found["announcement"] = (
        messages.decode_announcement, messages.encode_announcement, scene.announcements[0], "oracle",
    )  # fmt: skip
    found["mandate"] = (
        decode_signed_mandate, encode_signed_mandate, sign_mandate(mandate(), IDENTITY_SECRET), "btcfi/mandate",
    )  # fmt: skip
    found |= {name: (decode_outcome, encode_outcome, one, "round report") for name, one in outcomes.items()}
    found["report"] = (decode_report, encode_report, report, "report")
    found["anchor"] = (decode_anchor_proof, encode_anchor_proof, proof_of(), "anchor proof")
    found["terms"] = (payouts.decode_terms, payouts.encode_terms, terms, "offer.option")
    return found


DOCUMENTS = every_document()
COMPUTED = {"confidence_bps", "reach_bps"}
"""Written for people, and read by nobody."""

MAY_LACK = {"tolerance_basis_points", "least_dollar_markets", "thin_bps"}
"""An earlier release did not write them: a document without one is read, and written again, without it."""

FREE = {"option", "funding_witnesses", "rates"}
"""Objects whose names are no fields: an option's terms are not a message's to interpret."""


def document(name):
    return json.loads(json.dumps(DOCUMENTS[name][1](DOCUMENTS[name][2])))


def places(value, at=()):
    """Every place inside a JSON value; inside an object whose names are free, none."""
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        if key not in COMPUTED:
            yield (*at, key)
            yield from places(inner, (*at, key)) if key not in FREE else ()


def changed(value, at, new):
    made = copy.deepcopy(value)
    inside = made
    for key in at[:-1]:
        inside = inside[key]
    inside[at[-1]] = new
    return made


def spelled(start, at):
    return start + "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in at)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_what_is_written_is_read_as_the_same_record_whatever_the_order_of_its_keys(name):
    read, write, record, _ = DOCUMENTS[name]
    assert read(document(name)) == record
    assert repr(read(document(name))) == repr(record)  # types too: an enumeration of texts equals its text
    backwards = json.loads(json.dumps(document(name), sort_keys=True), object_pairs_hook=lambda p: dict(reversed(p)))
    again = read(backwards)
    assert again == record
    assert write(again) == write(record)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_field_of_a_wrong_type_is_named_by_its_path(name):
    read, _, _, start = DOCUMENTS[name]
    whole = document(name)
    for at in places(whole):
        if name == "anchor" and at in {("type",), ("version",)}:
            continue  # another file, named as a whole
        for wrong in (1.5, {"not": "this"}, True):
            was = reduce(lambda inside, key: inside[key], at, whole)
            if type(was) is type(wrong):
                continue  # another object lacks its fields, and the only truth is right
            with pytest.raises(InvalidInputError) as refused:
                read(changed(whole, at, wrong))
            assert refused.value.field == spelled(start, at), wrong
            assert refused.value.expected


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_field_that_is_missing_is_named_and_never_has_a_default(name):
    read, _, _, start = DOCUMENTS[name]
    whole = document(name)
    for at in places(whole):
        if isinstance(at[-1], int) or (name == "anchor" and at in {("type",), ("version",)}):
            continue
        lacking = copy.deepcopy(whole)
        inside = lacking
        for key in at[:-1]:
            inside = inside[key]
        del inside[at[-1]]
        if at[-1] in MAY_LACK:
            assert json.loads(json.dumps(DOCUMENTS[name][1](read(lacking)))) == lacking
            continue
        with pytest.raises(InvalidInputError) as refused:
            read(lacking)
        assert (refused.value.field, refused.value.problem) == (spelled(start, at), "missing")


@given(data=st.data())
@settings(max_examples=300, deadline=None)
def test_any_json_in_any_place_is_read_or_refused_and_what_is_read_is_written_the_same_again(data):
    name = data.draw(st.sampled_from(sorted(DOCUMENTS)))
    read, write, _, _ = DOCUMENTS[name]
    whole = document(name)
    at = data.draw(st.sampled_from(list(places(whole))))
    scalars = st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(max_size=70),
        st.sampled_from(["00" * 32, "buyer"]),
    )
    anything = st.recursive(scalars, lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.text(), inner)))
    try:
        found = read(changed(whole, at, data.draw(anything)))
    except InvalidInputError:
        return
    assert read(json.loads(json.dumps(write(found)))) == found


@pytest.mark.parametrize("name", DOCUMENTS)
@pytest.mark.parametrize("other", [None, True, 3, "text", [], ["x"], {}])
def test_what_is_no_such_document_is_refused(name, other):
    with pytest.raises(InvalidInputError):
        DOCUMENTS[name][0](other)
