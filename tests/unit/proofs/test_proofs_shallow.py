"""False payouts that pass every check but re-execution, and are called verified nowhere; inputs of another length."""

import json
from dataclasses import replace
from functools import cache

import pytest
from typer.testing import CliRunner

from btcfi.adapters.store.spine.database import Store
from btcfi.errors import InvalidInputError
from btcfi.options.expiry import SettlementOutput
from btcfi.proofs.errors import ProofError, ProofInputSizeError
from btcfi.proofs.settlement_proof import Depth, Inspected, build_proof, examine, inspect, to_json, verify
from btcfi.proofs.subtrees import prove
from btcfi.surfaces import vm_cli
from btcfi.surfaces.rest.deps import Deps
from btcfi.surfaces.rest.v1 import check
from btcfi.units import UnixSeconds
from btcfi.vm.interpreter import run
from btcfi.vm.program import InputSize, load_program, load_program_by_hash
from btcfi.vm.trace import MemoryKind
from guest_programs.build import ROOT, read_manifest
from tests.support.forgeries import RAM_BASE, lying_run, without_store
from tests.support.paths import VECTORS_FOLDER

VECTOR = json.loads((VECTORS_FOLDER / "settlement_v2.json").read_text())["tests"][0]
INPUT = bytes.fromhex(VECTOR["input"])

SHALLOW = [Depth.SAMPLE, Depth.PATHS]


@cache
def program():
    return load_program("option_settlement")


@cache
def honest():
    return run(program(), INPUT)


@cache
def omitted_store():
    """The payout in satoshis is stored and not shown: claimed as nothing. By a root that does not pick its step."""
    for offset in (24, 0, 16, 8):
        try:
            forged = without_store(honest(), offset)
            inspect(forged, program(), depth=Depth.SAMPLE)
        except ProofError:
            continue
        if forged.output != honest().output:
            return forged
    raise AssertionError("each root picks the store that is left out")


@cache
def lying_load():
    """One load from RAM reads another value than was stored, and the rest is computed from it without a fault."""
    loads = [
        step for step in map(honest().trace.step, range(honest().steps))
        if step.memory_kind is MemoryKind.LOAD and step.memory_address >= RAM_BASE and step.memory_size == 4
    ]  # fmt: skip
    for target in loads:
        for value in (target.memory_value ^ 1, 0, 1_000_000):
            try:
                forged = lying_run(
                    program(), INPUT, lambda step, n=target.index, v=value: v if step.index == n else None
                )
            except (AssertionError, ValueError, IndexError):
                continue
            if forged.output != honest().output and not SettlementOutput.from_bytes(forged.output).error:
                return build_proof(forged)
    raise AssertionError("no load from RAM decides the payout")


FORGERIES = {"omitted store": omitted_store, "lying load": lying_load}


def test_the_plain_python_run_without_a_lie_is_the_machines():
    again = lying_run(program(), INPUT, lambda _: None)
    assert (again.output, again.steps) == (honest().output, honest().steps)
    assert (again.trace.rows == honest().trace.rows).all()


@pytest.mark.parametrize("depth", SHALLOW)
@pytest.mark.parametrize("forgery", FORGERIES)
def test_a_false_payout_that_passes_a_shallow_check_gets_no_verdict(forgery, depth):
    forged = FORGERIES[forgery]()
    assert forged.output != honest().output
    found = examine(forged, program(), depth=depth)
    assert isinstance(found, Inspected)
    assert (found.claimed_output, found.chance_to_miss) == (forged.output, None)
    assert found.words.startswith("no verdict")
    assert found.steps_checked == (tuple(one.index for one in forged.included) if depth is Depth.SAMPLE else ())
    with pytest.raises(ProofError) as caught:
        verify(forged, program())
    assert caught.value.check == "re-execution"


def test_running_again_is_no_inspection():
    with pytest.raises(InvalidInputError, match="sample or paths"):
        inspect(build_proof(honest()), program(), depth=Depth.EXECUTE)


@pytest.mark.parametrize("depth", SHALLOW)
@pytest.mark.parametrize("forgery", FORGERIES)
def test_the_command_says_no_verdict_of_a_false_payout_and_exits_by_a_code_of_its_own(forgery, depth, tmp_path):
    forged = FORGERIES[forgery]()
    (tmp_path / "proof.json").write_text(to_json(forged))
    asked = ["verify", str(tmp_path / "proof.json"), "--depth", depth]
    told = CliRunner().invoke(vm_cli.app, [*asked, "--json"])
    said = json.loads(told.stdout)
    assert (told.exit_code, said["verified"], said["chance_to_miss"]) == (80, None, None)
    assert not {"output", "result", "steps"} & said.keys()
    assert said["steps_checked"] == ([one.index for one in forged.included] if depth == "sample" else [])
    plain = CliRunner().invoke(vm_cli.app, asked)
    assert plain.exit_code == 80
    assert plain.stdout.startswith("no_verdict: no verdict: of ")
    assert "has no bound" in plain.stdout
    for word in ("verified", "valid", "  ok  "):
        assert word not in plain.stdout
    with pytest.raises(ProofError, match="re-execution"):
        raise CliRunner().invoke(vm_cli.app, asked[:2]).exception


@pytest.mark.parametrize("forgery", FORGERIES)
def test_the_api_answers_null_for_what_it_did_not_run_again_and_false_for_the_same_file_run_again(forgery, tmp_path):
    body = to_json(FORGERIES[forgery]()).encode()
    nothing = Store(f"sqlite:///{tmp_path}/none.sqlite")
    deps = Deps(
        store=nothing, clock=lambda: UnixSeconds(0), monotonic=lambda: 0.0, new_id=lambda: "", feed="BTC/USD",
        create_option=lambda *_: None, submit=lambda *_: None,
    )  # fmt: skip
    for depth in ("sample", "paths"):
        found = check(body, depth, deps)
        assert (found.valid, found.failed_check, found.output_hex, found.steps) == (None, None, None, None)
        assert found.no_verdict.startswith("no verdict")
    assert check(body, "execute", deps).valid is False
    assert check(to_json(build_proof(honest())).encode(), "execute", deps).valid is True


def test_bytes_behind_the_input_would_be_another_root_of_the_same_payout_and_are_refused():
    roots = set()
    for trailing in (b"", b"\0", b"\1", bytes(100)):
        execution = run(program(), INPUT + trailing)  # the machine runs on any input
        assert execution.output == honest().output
        proof = build_proof(execution)
        roots.add(proof.proof_root)
        if trailing:
            for depth in Depth:
                with pytest.raises(ProofInputSizeError, match="expected 60 bytes"):
                    examine(proof, program(), depth=depth)
            with pytest.raises(InvalidInputError, match="60 bytes"):
                prove(program(), INPUT + trailing)
    assert len(roots) == 4


def test_an_input_that_ends_early_is_refused_though_the_page_is_zero_behind_it():
    short = replace(honest(), input_bytes=INPUT[:-1])
    with pytest.raises(ProofInputSizeError):
        verify(build_proof(short), program())
    with pytest.raises(InvalidInputError):
        prove(program(), INPUT[:-1])


@pytest.mark.parametrize(("name", "base", "each"), [("portfolio_settlement", 8, 60), ("net_book", 44, 20)])
def test_a_counted_input_has_the_length_that_its_own_count_says(name, base, each):
    counted = load_program(name)
    assert counted.input_size == InputSize(base=base, per_count=each)
    for count in (0, 1, 3):
        head = (1).to_bytes(4, "little") + count.to_bytes(4, "little")
        right = head + bytes(base - 8 + each * count)
        counted.require_input(right)
        for wrong in (right[:-1], right + b"\0", right + bytes(each), b""):
            with pytest.raises(InvalidInputError):
                counted.require_input(wrong)


def test_retired_programs_have_the_input_size_that_their_proofs_were_made_with():
    retired = load_program_by_hash("4ba389f7e94d0cb122fff4c31a7147ad32b932cb57364462c7223aeb724e1371")
    assert retired.input_size == InputSize(base=60)


@pytest.mark.parametrize(
    "line",
    [
        "",
        "input_size = -1",
        "input_size = 4097",
        "input_size = true",
        'input_size = "60"',
        "input_size = 4\ninput_per_count = 4",
    ],
)
def test_a_manifest_without_a_right_input_size_is_refused_by_name(line, tmp_path):
    row = next(one for one in read_manifest(ROOT)["program"] if one["name"] == "net_book")
    keys = "\n".join(f'{key} = "{row[key]}"' for key in ("name", "elf_sha256", "image_sha256"))
    (tmp_path / "net_book.elf").write_bytes((ROOT / row["path"]).read_bytes())
    text = f'[[program]]\n{keys}\npath = "net_book.elf"\noutput_size = 40\n'
    (tmp_path / "manifest.toml").write_text(text + line + "\n")
    with pytest.raises(InvalidInputError, match="input_size"):
        load_program("net_book", tmp_path)


def test_a_row_that_an_earlier_release_retired_without_an_input_size_still_settles_what_it_sold(tmp_path):
    row = next(one for one in read_manifest(ROOT)["retired"] if one["name"] == "option_settlement")
    (tmp_path / "old.elf").write_bytes((ROOT / row["path"]).read_bytes())
    keys = "\n".join(f'{key} = "{row[key]}"' for key in ("name", "elf_sha256", "image_sha256"))
    (tmp_path / "manifest.toml").write_text(f'[[retired]]\n{keys}\npath = "old.elf"\noutput_size = 40\n')
    old = load_program_by_hash(row["image_sha256"], tmp_path)
    assert old.input_size is None
    assert verify(build_proof(run(old, INPUT)), old).steps > 0
