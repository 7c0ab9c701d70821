"""The committed vectors: the same steps, payout and root on every run and machine."""

import json
from hashlib import sha256

import pytest

from btcfi.options.expiry import SettlementInput, SettlementOutput
from btcfi.options.payoff import twin_of
from btcfi.proofs.settlement_proof import build_proof, verify
from btcfi.vm.agreement import Emulator, execute
from btcfi.vm.program import Program, load_program, load_program_by_hash
from tests.support.paths import VECTORS_FOLDER

VECTORS = json.loads((VECTORS_FOLDER / "settlement_v2.json").read_text())
RETIRED = json.loads((VECTORS_FOLDER / "settlement_v1.json").read_text())
"""Of the guest that divided twice: options sold by it still settle by it."""

SOLD_BY = {one["source"]["program_hash"]: one for one in (VECTORS, RETIRED)}


@pytest.fixture(scope="module")
def program() -> Program:
    return load_program("option_settlement")


def test_the_vectors_are_about_the_committed_program(program):
    assert program.program_hash.hex() == VECTORS["source"]["program_hash"]


@pytest.mark.parametrize("sha256", SOLD_BY, ids=lambda sha256: sha256[:8])
def test_a_fixed_input_has_its_steps_payout_and_proof_root(sha256):
    program = load_program_by_hash(sha256)
    emulator = Emulator(program)
    for vector in SOLD_BY[sha256]["tests"]:
        data = bytes.fromhex(vector["input"])
        execution = execute(program, emulator, data)
        assert execution.steps == vector["steps"], vector["comment"]
        assert execution.output.hex() == vector["output"], vector["comment"]
        output = SettlementOutput.from_bytes(execution.output)
        assert (output.payout, output.payout_sats) == (vector["payout_cents"], vector["payout_sats"])
        assert twin_of(sha256)(SettlementInput.from_bytes(data)) == output
        proof = build_proof(execution)
        assert proof.execution_trace_root.hex() == vector["execution_trace_root"]
        assert proof.proof_root.hex() == vector["proof_root"]
        assert verify(proof, program).proof_root == proof.proof_root


def test_a_root_follows_from_the_written_format_and_hashlib_alone(program):
    """The tree of docs/proofs.md, written out with nothing of ours but the interpreter's rows."""
    vector = VECTORS["tests"][0]
    trace = execute(program, Emulator(program), bytes.fromhex(vector["input"])).trace

    def tagged(tag: str, data: bytes) -> bytes:
        key = sha256(tag.encode()).digest()
        return sha256(key + key + data).digest()

    level = [tagged("BTCFi/trace/leaf", leaf) for leaf in trace.leaves()]
    while len(level) & (len(level) - 1):
        level.append(tagged("BTCFi/trace/leaf", b""))
    while len(level) > 1:
        pairs = zip(level[::2], level[1::2], strict=True)
        level = [tagged("BTCFi/trace/node", left + right) for left, right in pairs]
    assert level[0].hex() == vector["execution_trace_root"]
