# ruff: noqa: PT012 - decoding or verifying may refuse
"""Laws of the tree and of proofs."""

import itertools
import json
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from btcfi.proofs import lanes
from btcfi.proofs.errors import ProofError
from btcfi.proofs.merkle import (
    empty_root,
    height_of,
    leaf_hash,
    leaf_levels,
    node_hash,
    path_of,
    root_from_path,
    root_from_subtrees,
    root_of,
    subtree_root,
    trace_leaves,
    trace_root,
)
from btcfi.proofs.settlement_proof import Depth, build_proof, from_json, inspect, to_json
from btcfi.proofs.subtrees import (
    execute_untraced,
    proof_from_subtrees,
    proof_roots_of_batch,
    subtree_count,
    subtree_roots,
)
from btcfi.vm.interpreter import run, trace_part
from btcfi.vm.program import load_program
from btcfi.vm.trace import Step, Trace
from tests.support.paths import VECTORS_FOLDER

VECTORS = json.loads((VECTORS_FOLDER / "settlement_v2.json").read_text())["tests"]


@cache
def program():
    return load_program("option_settlement")


@cache
def execution(place=0):
    return run(program(), bytes.fromhex(VECTORS[place]["input"]))


@cache
def proof():
    return build_proof(execution())


def random_rows(count, seed):
    rows = np.random.default_rng(seed).integers(0, 2**32, (count, 38), dtype=np.uint32)
    rows[:, 0] = np.arange(count)
    rows[:, 35] = rows[:, 35] % 3 | (rows[:, 35] & 0x700)
    return rows


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 70), st.integers(0, 2**32 - 1))
def test_every_way_of_hashing_gives_hashlibs_digests(count, seed):
    rows = random_rows(count, seed)
    want = lanes.hash_leaves_by_hashlib(rows)
    assert [leaf_hash(leaf) for leaf in Trace(rows=rows).leaves()] == [d.tobytes() for d in want]
    library = lanes.load_native()
    for level in range(1, 1 + (library.lanes_level() if library is not None else 0)):
        native = lanes.NativeLanes(library, level)
        assert (native.leaves(rows) == want).all()
        even = want[: count // 2 * 2]
        assert (native.pairs(even) == lanes.hash_pairs_by_hashlib(even)).all()


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 300), st.data())
def test_the_root_is_the_same_whatever_the_split(steps, data):
    trace = Trace(rows=random_rows(steps, steps))
    height = height_of(steps)
    split = data.draw(st.integers(0, height))
    count = subtree_count(steps, split)
    roots = [subtree_root(Trace(rows=trace.rows[i << split : (i + 1) << split]), i, split) for i in range(count)]
    assert root_from_subtrees(roots, subtree_height=split, steps=steps) == trace_root(trace)


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 16), st.data())
def test_workers_that_share_a_trace_build_the_same_proof_as_one(height, data):
    program_, input_bytes = program(), execution().input_bytes
    count = subtree_count(execution().steps, height)
    cuts = sorted(data.draw(st.sets(st.integers(0, count), max_size=4)) | {0, count})
    roots = []
    for first, last in itertools.pairwise(cuts):
        roots += subtree_roots(program_, input_bytes, first=first, count=last - first, height=height)
    untraced = execute_untraced(program_, input_bytes)
    assert proof_from_subtrees(program_, untraced, roots, height=height) == proof()


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 200), st.data())
def test_a_path_leads_from_its_leaf_to_the_root_and_from_no_other(steps, data):
    leaves = trace_leaves(Trace(rows=random_rows(steps, steps)))
    levels = leaf_levels(leaves, height_of(steps))
    index = data.draw(st.integers(0, steps - 1))
    path = path_of(levels, index)
    root = root_of(leaves, height_of(steps))
    assert root_from_path(leaves[index].tobytes(), index, path) == root
    flipped = bytearray(leaves[index].tobytes())
    flipped[data.draw(st.integers(0, 31))] ^= 1 << data.draw(st.integers(0, 7))
    assert root_from_path(bytes(flipped), index, path) != root


def test_the_odd_node_is_paired_with_the_empty_leaf_and_never_with_itself():
    leaves = trace_leaves(Trace(rows=random_rows(3, 1)))
    a, b, c = (leaf.tobytes() for leaf in leaves)
    assert root_of(leaves, 2) == node_hash(node_hash(a, b), node_hash(c, empty_root(0)))


def test_a_trace_part_holds_the_rows_of_the_whole():
    part = trace_part(program(), execution().input_bytes, first=100, count=50)
    assert (part.rows == execution().trace.rows[100:150]).all()


def test_a_batch_gives_each_settlement_its_own_root():
    executions = [execution(place) for place in range(len(VECTORS))]
    assert [root.hex() for root in proof_roots_of_batch(executions)] == [v["proof_root"] for v in VECTORS]


def test_decoding_gives_back_what_was_encoded():
    assert from_json(to_json(proof())) == proof()


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_one_flipped_bit_anywhere_in_the_file_is_refused(data):
    text = bytearray(to_json(proof()).encode())
    text[data.draw(st.integers(0, len(text) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(ProofError):
        changed = from_json(bytes(text))
        # The name is a hint for people and files; the hash decides which program is meant.
        if changed.program_name != proof().program_name:
            raise ProofError("another name")
        inspect(changed, program(), depth=Depth.PATHS)


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.binary(max_size=200), st.text(max_size=200)))
def test_random_input_never_crashes_the_proof_decoder(data):
    with pytest.raises(ProofError):
        from_json(data)


FIELDS = json.loads(to_json(proof()))
JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=70), lambda s: st.lists(s, max_size=3)
)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(sorted(FIELDS)), JUNK)
def test_junk_in_any_field_is_refused(field, junk):
    if FIELDS[field] == junk or field == "program_name":
        return
    with pytest.raises(ProofError):
        text = json.dumps({**FIELDS, field: junk}, sort_keys=True, separators=(",", ":")) + "\n"
        inspect(from_json(text), program(), depth=Depth.PATHS)


def test_a_step_survives_its_packing():
    step = execution().trace.step(17)
    assert Step.from_bytes(step.to_bytes()) == step
