"""Every field of every document: a hostile value is refused by its name, and no two texts say one thing.

The documents are those that ``tests/unit/contracts/test_contracts_documents.py`` lists; the values are made from what a
valid one has, so that a new field or a new document is attacked as soon as it is written there.
"""

import json

import pytest

from btcfi.documents import parse_json
from btcfi.errors import InvalidInputError
from tests.support.hostile_json import changed, hostile_texts, hostile_values, inside, lacking, places, spelled
from tests.unit.contracts.test_contracts_documents import COMPUTED, DOCUMENTS, MAY_LACK, document

WHOLE_FILE = {("type",), ("version",)}
"""What makes it a file of another kind: named as a whole."""


def refusal(read, message):
    """What a reader refuses a message for; None when it is read. Nothing but InvalidInputError leaves a reader."""
    try:
        read(message)
    except InvalidInputError as e:
        return e
    return None


def canonical(value):
    """The one text of a value, without what is computed from the rest of it."""
    if isinstance(value, dict):
        value = {key: canonical(one) for key, one in value.items() if key not in COMPUTED}
    return json.dumps(value, sort_keys=True)


def names(refused, start, at):
    """Whether a refusal names a place: itself, what is inside of it, or the record whose constructor refuses it."""
    path = spelled(start, at)
    own = refused.field.rpartition(".")[2] in at  # a document's own constructor says its field's name alone
    if at in WHOLE_FILE or refused.field.startswith(path) or own:
        return True
    return path.startswith(refused.field) and refused.field != start


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_hostile_value_is_refused_by_its_field_or_is_read_as_exactly_what_it_says(name):
    read, write, _, start = DOCUMENTS[name]
    wrong = []
    for at, label, message in hostile_values(document(name)):
        refused = refusal(read, message)
        if refused is None:
            if canonical(write(read(message))) != canonical(message):
                wrong.append((spelled(start, at), label, "read as something else"))
        elif not names(refused, start, at) or not refused.expected or len(str(refused)) > 1_000:
            wrong.append((spelled(start, at), label, str(refused)[:200]))
    assert wrong == []


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_message_without_one_of_its_fields_or_of_another_kind_or_version_is_refused(name):
    read, _, _, _ = DOCUMENTS[name]
    whole = document(name)
    for at in places(whole):
        if isinstance(inside(whole, at[:-1]), dict) and not set(at) & (COMPUTED | MAY_LACK):
            assert refusal(read, lacking(whole, at)), at
    if "type" in whole:
        for at, other in ((("type",), "btcfi/love-letter"), (("version",), 0), (("version",), 99)):
            assert refusal(read, changed(whole, at, other)), other


@pytest.mark.parametrize("name", DOCUMENTS)
def test_what_not_every_parser_reads_alike_is_refused_wherever_it_stands(name):
    taken, count = [], 0
    for label, raw in hostile_texts(document(name)):
        count += 1
        refused = refusal(lambda text: DOCUMENTS[name][0](parse_json(text, "message")), raw)
        if refused is None or len(str(refused)) > 1_000:
            taken.append(label)
    assert (taken, count > 50) == ([], True)


OUTSIDE = {
    "collateral_sats": (-1, 2_100_000_000_000_001), "premium_sats": (-1, 2_100_000_000_000_001),
    "payout_sats": (-1, 2_100_000_000_000_001), "tolerance_bps": (0, 10_001),
    "value_sats": (-1, 2_100_000_000_000_001), "expiry_height": (-1, 500_000_000),
    "refund_height": (-1, 500_000_000), "funding_sats_per_kvb": (999, 10_000_001), "sats_per_kvb": (999, 10_000_001),
    "threshold": (0, 17), "vout": (-1, 1 << 32), "digits": (0, 26), "outcome": (-1, (1 << 26) + 1),
    "breakpoint_cents": ([0], [1 << 32]), "expiry_unix": (-60, 1 << 32, 61), "feed": ("x" * 256,),
    "condition": ("x" * 256,), "nonces": (["00"] * 65,), "proofs": (["00"] * 65,), "tree": ("oak",),
    "role": ("judge", "BUYER"),
}  # fmt: skip
"""One value outside each bound of a message's field: both bounds, where it has two."""


@pytest.mark.parametrize("name", ["offer", "order", "close_order", "close_request", "attestation", "announcement"])
def test_one_outside_each_bound_is_refused_by_its_field(name):
    read, _, _, start = DOCUMENTS[name]
    whole = document(name)
    bounded = [(at, outside) for at in places(whole) for outside in OUTSIDE.get(at[-1], ())]
    assert bounded
    for at, outside in bounded:
        refused = refusal(read, changed(whole, at, outside))
        assert refused is not None, (at, outside)
        assert spelled(start, at).startswith(refused.field.split("[0]")[0]), (at, outside, refused.field)


@pytest.mark.parametrize(
    "index", ["\u0660", "00", "+0", " 0", "-1", "0_0", "", "x", "1e0", "0.0", "0x0", "9" * 5_000, "4294967296"]
)
def test_a_funding_input_has_one_number_in_plain_digits(index):
    read, _, _, start = DOCUMENTS["sign"]
    whole = document("sign")
    (witness, *_) = whole["funding_witnesses"].values()
    refused = refusal(read, whole | {"funding_witnesses": {index: witness}})
    assert refused is not None
    assert refused.field == f"{start}.funding_witnesses"


@pytest.mark.parametrize("second", ["00", "\u0660", "+0"])
def test_a_funding_input_is_not_named_twice_in_two_spellings(second):
    whole = document("sign")
    (witness, *_) = whole["funding_witnesses"].values()
    for named in (("0", second), (second, "0")):
        assert refusal(DOCUMENTS["sign"][0], whole | {"funding_witnesses": dict.fromkeys(named, witness)})
