"""The published message, and what is said about a run."""

import json
import random
from functools import cache

import pytest

from btcfi.proofs.errors import ProofError, ProofFormatError
from btcfi.proofs.explain import diff_runs, first_divergence, lines_around, nodes_of, payout_in_words
from btcfi.proofs.settlement_proof import Depth, build_proof, inspect, to_json
from btcfi.proofs.wire import from_sent, from_wire, to_wire
from btcfi.vm.interpreter import run
from btcfi.vm.program import load_program
from btcfi.vm.trace import Trace
from tests.support.paths import VECTORS_FOLDER

VECTORS = json.loads((VECTORS_FOLDER / "settlement_v2.json").read_text())["tests"]


@cache
def program():
    return load_program("option_settlement")


@cache
def proof(place=0):
    return build_proof(run(program(), bytes.fromhex(VECTORS[place]["input"])))


def test_the_message_is_what_protobuf_itself_writes():
    messages = pytest.importorskip("btcfi.surfaces.protos.settlement_pb2")
    message = messages.BitVMXProof(
        program_hash=proof().program_hash, input_commitment=proof().input_commitment,
        execution_trace_root=proof().execution_trace_root, final_state_hash=proof().final_state_hash,
        path=[messages.MerkleProofElement(hash=h) for h in proof().siblings], proof_file=to_json(proof()).encode(),
    )  # fmt: skip
    assert to_wire(proof()) == message.SerializeToString(deterministic=True)
    assert from_wire(message.SerializeToString()) == proof()


def test_a_sent_message_may_lack_published_fields_and_none_that_is_there_may_be_wrong():
    messages = pytest.importorskip("btcfi.surfaces.protos.settlement_pb2")
    text = to_json(proof()).encode()
    alone = messages.BitVMXProof(proof_file=text).SerializeToString()
    assert from_sent(alone) == from_sent(to_wire(proof())) == proof()
    assert from_sent(alone + messages.BitVMXProof(program_hash=proof().program_hash).SerializeToString()) == proof()
    with pytest.raises(ProofFormatError):  # a canonical message lacks nothing
        from_wire(alone)
    paths = [[messages.MerkleProofElement(hash=h) for h in some] for some in (proof().siblings[1:], [bytes(32)])]
    for wrong, said in (
        ({"input_commitment": bytes(32)}, "input_commitment"), ({"final_state_hash": bytes(31)}, "final_state_hash"),
        ({"path": paths[0]}, "path"), ({"path": paths[1]}, "path"),
    ):  # fmt: skip
        with pytest.raises(ProofFormatError, match=said):
            from_sent(alone + messages.BitVMXProof(**wrong).SerializeToString())
    for more, said in (
        (alone, "16 is there twice"),
        (b"\x32\x01x", "6 is unknown"),
        (b"\x8a\x01\x01x", "17 is unknown"),
    ):
        with pytest.raises(ProofFormatError, match=said):
            from_sent(alone + more)


def test_mutated_messages_are_refused_in_decoding_or_verifying():
    good = to_wire(proof())
    rng = random.Random(6)
    for _ in range(300):
        data = bytearray(good)
        data[rng.randrange(len(data)) if rng.random() < 0.5 else rng.randrange(200)] ^= 1 << rng.randrange(8)
        try:
            decoded = from_wire(bytes(data))
            inspect(decoded, program(), depth=Depth.PATHS)
        except ProofError:
            continue
        assert decoded.program_name != proof().program_name  # a hint for people; the hash decides
    for cut in range(0, len(good), 97):
        with pytest.raises(ProofError):
            from_wire(good[:cut])
    for extra in (b"\0", good, b"\x82\x01\x00"):
        with pytest.raises(ProofError):
            from_wire(good + extra)


@pytest.mark.parametrize("place", range(len(VECTORS)))
def test_every_settlement_can_be_told_in_a_sentence(place):
    data = bytes.fromhex(VECTORS[place]["input"])
    words = payout_in_words(program().program_hash, data, bytes.fromhex(VECTORS[place]["output"]))
    assert words is not None
    if VECTORS[place]["error"] == "none":
        assert f"{VECTORS[place]['payout_sats']} sats" in words
    else:
        assert "refused" in words


def test_lines_stop_at_the_ends_of_the_trace():
    assert [line.step.index for line in lines_around(program(), proof().input_bytes, at=0, around=2)] == [0, 1, 2]
    last = proof().steps - 1
    lines = lines_around(program(), proof().input_bytes, at=last, around=2)
    assert [line.step.index for line in lines] == [last - 2, last - 1, last]
    assert lines[-1].text == "ecall"


def test_bisection_finds_the_first_of_many_differences_in_one_question_a_level():
    rows = run(program(), bytes.fromhex(VECTORS[0]["input"])).trace.rows
    rng = random.Random(8)
    for _ in range(20):
        first = rng.randrange(len(rows))
        changed = rows.copy()
        changed[first:, 7] ^= 1
        found = first_divergence(nodes_of(Trace(rows=rows), 9), nodes_of(Trace(rows=changed), 9), 9)
        assert found == (first, 10)


def test_runs_of_different_length_part_where_the_shorter_ends_at_the_latest():
    found = diff_runs((program(), proof(0)), (program(), proof(15)))
    assert found is not None
    assert found.step < proof(15).steps
    assert diff_runs((program(), proof(0)), (program(), proof(0))) is None
