"""One settlement has one input: bytes behind it are refused at every door, of today's programs and of retired ones."""

import json

import pytest
from typer.testing import CliRunner

from btcfi.adapters.store.spine.database import Store
from btcfi.errors import BtcfiError
from btcfi.proofs.memory_table import build_table_proof
from btcfi.proofs.settlement_proof import build_proof, to_json
from btcfi.proofs.table_file import table_to_json
from btcfi.surfaces import vm_cli
from btcfi.surfaces.grpc.settlement import SettlementEngine, pb
from btcfi.surfaces.rest.deps import Deps
from btcfi.surfaces.rest.v1 import check
from btcfi.units import UnixSeconds
from btcfi.vm.interpreter import run
from btcfi.vm.program import load_program_by_hash
from dashboards.trader.verifying import Verifier, documents_in
from guest_programs.build import ROOT, read_manifest

ROWS = [(table, row) for table in ("program", "retired") for row in read_manifest(ROOT)[table]]


def deps():
    return Deps(
        store=Store("sqlite://"), clock=lambda: UnixSeconds(0), monotonic=lambda: 0.0, new_id=lambda: "",
        feed="BTC/USD", create_option=lambda *_: None, submit=lambda *_: None,
    )  # fmt: skip


def command(*words):
    def told(path):
        answer = CliRunner().invoke(vm_cli.app, [*words, str(path)])
        return answer.exit_code in (0, vm_cli.NO_VERDICT)

    return told


def api(depth):
    return lambda path: check(path.read_bytes(), depth, deps()).failed_check is None


def page(path):
    return Verifier(deps()).of_documents(documents_in(path.read_bytes(), most=1)).holds


def grpc(path):
    return SettlementEngine._verify(None, pb.BitVMXProof(proof_file=path.read_bytes()), "").valid


def difference(path):
    return CliRunner().invoke(vm_cli.app, ["trace", "diff", str(path), str(path)]).exit_code == 0


DOORS = {
    **{
        f"btcfi verify --depth {depth}": command("verify", "--depth", depth) for depth in ("execute", "sample", "paths")
    },
    "btcfi trace show": command("trace", "show"),
    "btcfi trace diff": difference,
    **{f"the API at depth {depth}": api(depth) for depth in ("execute", "sample", "paths")},
    "gRPC": grpc,
    "the trader's page": page,
}
TABLE_LESS = {"btcfi trace diff", "gRPC"}
"""Doors that read no file of version 3."""


def taken(proof, path, doors):
    path.write_text(proof)
    return {name for name in doors if DOORS[name](path)}


@pytest.mark.parametrize(("table", "row"), ROWS, ids=[f"{table} {row['name']}" for table, row in ROWS])
def test_a_proof_with_bytes_behind_its_input_is_taken_at_no_door(table, row, tmp_path):
    program = load_program_by_hash(row["image_sha256"])
    right = bytes(row["input_size"])
    for given, doors in ((right, set(DOORS)), (right + b"\0", set()), (right[:-1], set())):
        execution = run(program, given)
        assert taken(to_json(build_proof(execution)), tmp_path / "proof.json", DOORS) == doors
        made = table_to_json(build_table_proof(execution, program))
        assert taken(made, tmp_path / "table.json", set(DOORS) - TABLE_LESS) == doors - TABLE_LESS


@pytest.mark.parametrize("trace_format", ["1", "2"])
def test_no_proof_is_made_of_an_input_of_another_length(trace_format, tmp_path):
    out = tmp_path / "proof.json"
    for size, code in ((60, 0), (59, 1), (61, 1), (120, 1)):
        asked = ["prove", "--hex", bytes(size).hex(), "--out", str(out), "--trace-format", trace_format]
        answer = CliRunner().invoke(vm_cli.app, asked)
        assert (answer.exit_code, out.exists()) == (code, not code), answer.output
        if code:
            assert isinstance(answer.exception, BtcfiError)
        else:
            assert json.loads(out.read_text())["steps"] > 0
            out.unlink()
