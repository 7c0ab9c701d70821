"""JSON from outside is taken only where every parser reads it alike; a record's own rules speak by the field's path."""

import json
import tracemalloc
from dataclasses import dataclass
from enum import StrEnum

import pytest
from hypothesis import given
from hypothesis import strategies as st

from btcfi.documents import MAX_DEPTH, MAX_VALUES, parse_json
from btcfi.errors import InvalidInputError
from btcfi.records import BASE64, WHOLE, Refused, Rule, hexadecimal, listed, record, whole
from btcfi.units import Sats, sats

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(value=plain, ascii_only=st.booleans())
def test_what_the_standard_writer_writes_is_read_as_it_was(value, ascii_only):
    text = json.dumps(value, ensure_ascii=ascii_only)
    assert parse_json(text, "document") == value
    assert parse_json(text.encode(), "document") == value


@pytest.mark.parametrize(
    ("raw", "word"),
    [
        (b'{"a": 1, "b": 2, "a": 1}', "'a' stands twice"),
        (b'[{"deep": {"a": 1, "a": 2}}]', "'a' stands twice"),
        (b"[NaN]", "NaN"),
        (b"-Infinity", "Infinity"),
        (b"[1e999]", "1e999"),
        (b'"\\ud800"', "half a character"),
        (b'{"\\udc00": 1}', "half a character"),
        ("{}".encode("utf-16"), "UTF-8"),
        (b"\xef\xbb\xbf{}", "JSON"),
        (b"{} x", "JSON"),
        (b"'a'", "JSON"),
        (b"[1,]", "JSON"),
        (b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1), "deep"),
        (b'{"a":' * 100_000, "deep"),
        (b"9" * 10_000, "JSON"),
    ],
)
def test_what_parsers_read_differently_is_refused(raw, word):
    with pytest.raises(InvalidInputError) as refused:
        parse_json(raw, "document")
    assert word in refused.value.problem
    assert refused.value.field == "document"


@pytest.mark.parametrize("value", [b"[]", b"{}", b"0", b'{"a":[1]}'])
def test_more_values_than_any_document_of_ours_has_are_refused_before_they_are_made(value):
    raw = b"[" + b",".join([value] * (MAX_VALUES + 1)) + b"]"
    tracemalloc.start()
    with pytest.raises(InvalidInputError, match="too many values"):
        parse_json(raw, "document")
    assert tracemalloc.get_traced_memory()[1] < 2 * len(raw)
    tracemalloc.stop()


def test_a_whole_character_of_two_halves_and_the_deepest_allowed_list_are_taken():
    assert parse_json(b'"\\ud83d\\ude00"', "document") == "\U0001f600"
    assert parse_json(b"[" * MAX_DEPTH + b"]" * MAX_DEPTH, "document")


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """A toy record."""

    amount: Sats
    colour: Colour
    much: int = 1

    def __post_init__(self):
        if self.much > 5:
            raise InvalidInputError("much", str(self.much), "at most 5")


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """A toy record of toy records."""

    items: tuple[Item, ...]
    label: str | None
    key: bytes


ITEM = record(Item, amount="amount_sats")
BOX = record(Box, exact=True, key=hexadecimal(2))
GOOD = {"items": [{"amount_sats": 5, "colour": "red", "much": 2, "later": 1}], "label": None, "key": "00ff"}


def test_a_record_is_made_of_its_fields_types_and_an_enumeration_is_one():
    box = BOX.read(GOOD, "box")
    assert box == Box(items=(Item(amount=Sats(5), colour=Colour.RED, much=2),), label=None, key=b"\0\xff")
    assert type(box.items[0].colour) is Colour


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"items": [GOOD["items"][0], {**GOOD["items"][0], "amount_sats": -1}]}, "box.items[1].amount_sats"),
        ({"items": [{**GOOD["items"][0], "colour": "green"}]}, "box.items[0].colour"),
        ({"items": [{**GOOD["items"][0], "much": True}]}, "box.items[0].much"),
        ({"items": [{**GOOD["items"][0], "much": 6}]}, "box.items[0]"),
        ({"items": [{"amount_sats": 5, "colour": "red"}]}, "box.items[0].much"),
        ({"items": "red"}, "box.items"),
        ({"items": {}}, "box.items"),
        ({"label": 5}, "box.label"),
        ({"key": "00"}, "box.key"),
        ({"key": "zz00"}, "box.key"),
        ({"key": "00FF"}, "box.key"),
        ({"key": "00 ff"}, "box.key"),
        ({"key": "00ff\n"}, "box.key"),
        ({"more": 1}, "box.more"),
    ],
)
def test_the_first_wrong_field_is_named_by_its_path(change, field):
    with pytest.raises(InvalidInputError) as refused:
        BOX.read({**GOOD, **change}, "box")
    assert refused.value.field == field
    assert refused.value.expected


def test_the_caller_s_error_is_raised_and_the_domain_s_own_stays_itself():
    class TooMuchError(InvalidInputError):
        """As a stage's own error."""

    with pytest.raises(TooMuchError):
        ITEM.read({}, "item", TooMuchError)
    with pytest.raises(InvalidInputError) as own:
        ITEM.read({"amount_sats": 5, "colour": "red", "much": 6}, "item", TooMuchError)
    assert (type(own.value), own.value.field) == (InvalidInputError, "much")


def test_a_long_list_is_refused_before_its_items_are_read_and_a_wrong_item_ends_the_reading():
    read = []
    counted = Rule(lambda value: read.append(value) or WHOLE(value), "a whole number")
    with pytest.raises(Refused):
        listed(counted, 3)([1, 2, 3, 4])
    assert read == []
    with pytest.raises(Refused):
        listed(counted, 10_000)(["x"] * 10_000)
    assert len(read) <= 2


def test_a_long_wrong_value_is_repeated_in_part():
    for rule in (whole(1, 5), Rule(sats, "whole satoshis"), Rule(from_words, "words")):
        with pytest.raises(InvalidInputError) as refused:
            rule.read("x" * 1_000_000, "n")
        assert len(str(refused.value)) < 700


def from_words(text):
    raise InvalidInputError("words", text, "others")


@pytest.mark.parametrize("text", ["AA", "AB==", "AA==\n", " AA==", "AA=", "A-==", "\u0660A=="])
def test_base64_has_one_text_for_its_bytes(text):
    assert BASE64.read("AA==", "blob") == b"\0"
    with pytest.raises(InvalidInputError) as refused:
        BASE64.read(text, "blob")
    assert refused.value.field == "blob"


def test_a_type_without_a_rule_is_an_error_of_ours():
    @dataclass(frozen=True)
    class Odd:
        """Has a field that nobody taught."""

        value: complex

    with pytest.raises(TypeError):
        record(Odd)


def test_a_refusal_of_an_unknown_name_shows_it_without_what_a_terminal_obeys():
    with pytest.raises(InvalidInputError) as refused:
        BOX.read(GOOD | {"\x1b[2J\n\u202e" + "x" * 100: 1}, "")
    assert refused.value.field.isprintable()
    assert len(refused.value.field) <= 41
