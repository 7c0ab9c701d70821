"""Laws of files with a table of memory: one text a proof, and a changed file is another proof or none."""

import json
from contextlib import suppress
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from btcfi.proofs.errors import ProofError
from btcfi.proofs.settlement_proof import Depth
from btcfi.proofs.table_file import examine_any, proof_in, prove_with_table, table_from_json, table_to_json
from btcfi.vm.program import load_program


@cache
def program():
    return load_program("option_settlement")


@cache
def text():
    """Of an input that the guest refuses: a short run."""
    return table_to_json(prove_with_table(program(), bytes(60)))


def judged(changed):
    """Whether a file passes a look and running again; whatever else is a refusal that names its check."""
    for depth in Depth:
        examine_any(proof_in(changed), program(), depth=depth)


anything = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 1 << 33) | st.floats() | st.text(max_size=20)
    | st.text("0123456789abcdef", max_size=330),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(sorted(json.loads(text()))), anything)
def test_a_field_of_any_other_value_is_refused_by_a_check(field, value):
    fields = json.loads(text())
    if fields[field] == value:
        return
    changed = json.dumps(fields | {field: value}, sort_keys=True, separators=(",", ":")) + "\n"
    if field == "program_name":  # a hint: another spelling of it is another file of the same proof
        with suppress(ProofError):
            assert proof_in(changed).proof_root == proof_in(text()).proof_root
        return
    with pytest.raises(ProofError):
        judged(changed)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, len(text()) - 1), st.integers(0, 255))
def test_a_file_with_one_byte_changed_is_refused_or_is_the_same_proof_under_another_name(place, byte):
    data = bytearray(text().encode())
    if data[place] == byte:
        return
    data[place] = byte
    try:
        judged(bytes(data))
    except ProofError:
        return
    assert proof_in(bytes(data)).proof_root == proof_in(text()).proof_root
    assert proof_in(bytes(data)).program_name != "option_settlement"


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_an_item_of_a_list_that_is_left_out_doubled_or_swapped_is_refused(data):
    fields = json.loads(text())
    field = data.draw(st.sampled_from([name for name, value in fields.items() if isinstance(value, list) and value]))
    items = fields[field]
    at = data.draw(st.integers(0, len(items) - 1))
    swapped = [*items[:at], *items[at + 1 : at + 2], items[at], *items[at + 2 :]]
    for changed in ([*items[:at], *items[at + 1 :]], [*items[:at], items[at], *items[at:]], swapped):
        if changed == items:
            continue
        with pytest.raises(ProofError):
            judged(json.dumps(fields | {field: changed}, sort_keys=True, separators=(",", ":")) + "\n")


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 14), st.sampled_from([0, 1, 7, 0xFFFF_FFFF]), st.integers(1, 64))
def test_reading_what_was_written_gives_the_proof(word, value, samples):
    data = bytearray(60)
    data[4 * word : 4 * word + 4] = value.to_bytes(4, "little")
    made = prove_with_table(program(), bytes(data), samples=samples)
    assert table_from_json(table_to_json(made)) == made
    judged(table_to_json(made))
