"""Proof files, valid and invalid: the same verdict, at the same check, as in the vectors."""

import json

import pytest

from btcfi.proofs.errors import ProofError
from btcfi.proofs.settlement_proof import Depth, from_json, inspect
from btcfi.proofs.table_file import examine_any, proof_in
from btcfi.vm.program import load_program_by_hash
from tests.support.paths import VECTORS_FOLDER

VECTORS = json.loads((VECTORS_FOLDER / "proof_files_v1.json").read_text())
WINDOWS = json.loads((VECTORS_FOLDER / "proof_files_v2.json").read_text())
"""Settlements with their windows."""

TABLES = json.loads((VECTORS_FOLDER / "proof_files_v3.json").read_text())
"""With a table of memory."""


@pytest.mark.parametrize("vector", VECTORS["tests"] + WINDOWS["tests"], ids=lambda v: v["comment"])
def test_a_proof_file_is_judged_as_the_vector_says(vector):
    program = load_program_by_hash(VECTORS["source"]["program_hash"])  # a retired one: its proofs are for ever
    failed = None
    try:
        inspect(from_json(vector["proof"]), program, depth=Depth.PATHS)
    except ProofError as e:
        failed = e.check
    assert failed == vector["failed_check"]
    assert (failed is None) == (vector["result"] == "valid")


@pytest.mark.parametrize("vector", TABLES["tests"], ids=lambda v: v["comment"])
def test_a_file_with_a_table_of_memory_is_judged_as_the_vector_says(vector):
    program = load_program_by_hash(TABLES["source"]["program_hash"])
    failed = None
    try:
        examine_any(proof_in(vector["proof"]), program, depth=Depth.SAMPLE)
    except ProofError as e:
        failed = e.check
    assert failed == vector["failed_check"]
    assert (failed is None) == (vector["result"] == "valid")
