"""The commands as a user runs them: python -m btcfi, in a process of its own."""

import json
import shutil
import struct
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
from typer.testing import CliRunner

from btcfi.bitcoin.transaction import OutPoint, Transaction, TxIn, TxOut
from btcfi.errors import InvalidInputError
from btcfi.options.expiry import SettlementInput
from btcfi.surfaces import vm_cli
from btcfi.surfaces.vm_cli import _input_bytes
from guest_programs.check import GuestCheckError, check_program
from guest_programs.new import build_program, new_program
from tests.support.paths import ROOT, VECTORS_FOLDER

VECTORS = json.loads((VECTORS_FOLDER / "settlement_v2.json").read_text())["tests"]


def btcfi(*arguments, cwd=None, stdin=None):
    command = [sys.executable, "-m", "btcfi", *map(str, arguments)]
    env = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(Path.home())}
    return subprocess.run(
        command, capture_output=True, text=True, cwd=cwd, input=stdin, env=env, timeout=120, check=False
    )


@pytest.fixture(scope="module")
def proofs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("proofs")
    for place in (0, 1):
        done = btcfi("prove", "--hex", VECTORS[place]["input"], "--out", folder / f"{place}.json")
        assert done.returncode == 0, done.stderr
    return folder


def test_what_prove_wrote_verify_accepts(proofs):
    done = btcfi("verify", proofs / "0.json", "--root", VECTORS[0]["proof_root"], "--json")
    said = json.loads(done.stdout)
    assert done.returncode == 0
    assert said["verified"] is True
    assert said["result"]["payout_sats"] == VECTORS[0]["payout_sats"]


@pytest.mark.parametrize("depth", ["sample", "paths"])
def test_an_honest_proof_that_was_not_run_again_is_not_verified_either(proofs, depth):
    done = btcfi("verify", proofs / "0.json", "--depth", depth, "--json")
    said = json.loads(done.stdout)
    assert (done.returncode, said["verified"], said["depth"]) == (80, None, depth)
    assert said["claimed_result"]["payout_sats"] == VECTORS[0]["payout_sats"]
    assert (0 in said["steps_checked"]) == (depth == "sample")


def test_prove_refuses_bytes_behind_the_input(tmp_path):
    done = btcfi("prove", "--hex", VECTORS[0]["input"] + "00", "--out", tmp_path / "p.json")
    assert done.returncode == 2
    assert "61 bytes; expected 60 bytes, as option_settlement reads" in done.stderr
    assert not (tmp_path / "p.json").exists()


def test_verify_says_what_the_chain_paid_beside_what_the_guest_computed(proofs, tmp_path):
    script = b"\x51\x20" + b"b" * 32
    outputs = (TxOut(value=8_300_000, script=script), TxOut(value=91_698_760, script=b"\x51\x20" + b"s" * 32))
    coin = TxIn(outpoint=OutPoint(txid=bytes(32), index=0))
    (tmp_path / "payment.hex").write_text(Transaction(version=3, inputs=(coin,), outputs=outputs).to_bytes().hex())
    wanted = ["verify", str(proofs / "0.json"), "--json"]
    asked = [*wanted, "--payment", str(tmp_path / "payment.hex"), "--paid-to", script.hex()]
    said = json.loads(CliRunner().invoke(vm_cli.app, asked).stdout)
    assert (said["result"]["payout_sats"], said["paid"]["paid_sats"]) == (8_301_888, 8_300_000)
    assert "paid" not in json.loads(CliRunner().invoke(vm_cli.app, wanted).stdout)
    (tmp_path / "payment.hex").write_text("no hex")
    for wrong in (asked, [*wanted, "--paid-to", script.hex()]):
        assert isinstance(CliRunner().invoke(vm_cli.app, wrong).exception, InvalidInputError)


def test_the_input_may_be_json_with_the_fields_names(tmp_path):
    given = SettlementInput.from_bytes(bytes.fromhex(VECTORS[0]["input"]))
    (tmp_path / "in.json").write_text(json.dumps(asdict(given)))
    done = btcfi("prove", "--input", tmp_path / "in.json", "--out", tmp_path / "p.json", "--json")
    assert json.loads(done.stdout)["proof_root"] == VECTORS[0]["proof_root"]


def test_trace_show_says_how_the_payout_came_about(proofs):
    done = btcfi("trace", "show", proofs / "0.json")
    assert done.returncode == 0
    assert "ecall" in done.stdout
    assert "the payout is $5,432.10, 8301888 sats" in done.stdout


def test_another_programs_forty_bytes_are_not_told_as_an_options_settlement(tmp_path):
    """A net book writes 40 bytes too: its words were printed as a payout in cents of an option."""
    leg = struct.pack("<5I", 0, 6_000_000, 0, 100, 0)
    data = struct.pack("<7I2Q", 1, 1, 6_543_210, 0, 0, 6_543_210, 6_543_210, 0, 10**8) + leg
    made = ["prove", "--program", "net_book", "--hex", data.hex(), "--out", str(tmp_path / "p.json"), "--json"]
    said = json.loads(CliRunner().invoke(vm_cli.app, made).stdout)
    assert said["result"] == {
        "payout_sats": 8_301_888, "net_sats": 8_301_888, "settled_at_cents": 6_543_210, "barrier_hit": False,
        "error": "none",
    }  # fmt: skip
    shown = json.loads(CliRunner().invoke(vm_cli.app, ["trace", "show", str(tmp_path / "p.json"), "--json"]).stdout)
    assert shown["in_words"] is None


def test_a_program_of_our_own_shape_that_we_do_not_know_is_not_told_as_ours(capped, tmp_path):
    """The template's input and output have a settlement's lengths; its barrier_level is a cap and no barrier."""
    data = SettlementInput.from_bytes(bytes.fromhex(VECTORS[0]["input"]))
    (tmp_path / "in.json").write_text(json.dumps(asdict(data) | {"barrier_level": 500_000}))
    made = ["prove", "--programs", str(capped), "--program", "capped", "--input", str(tmp_path / "in.json")]
    said = CliRunner().invoke(vm_cli.app, [*made, "--out", str(tmp_path / "p.json"), "--json"])
    assert json.loads(said.stdout)["result"] is None
    shown = ["trace", "show", str(tmp_path / "p.json"), "--programs", str(capped), "--json"]
    assert json.loads(CliRunner().invoke(vm_cli.app, shown).stdout)["in_words"] is None


def test_trace_diff_finds_the_load_of_the_other_price(proofs):
    done = btcfi("trace", "diff", proofs / "0.json", proofs / "1.json", "--json")
    said = json.loads(done.stdout)
    assert (said["same"], said["levels_asked"]) == (False, 10)
    assert any("memory value" in line for line in said["registers_that_differ"])
    assert json.loads(btcfi("trace", "diff", proofs / "0.json", proofs / "0.json", "--json").stdout)["same"] is True


def test_a_new_program_is_built_run_and_checked_in_four_commands(tmp_path):
    pytest.importorskip("ziglang", reason="ziglang is not installed")
    for command in (("new", "capped"), ("build", "capped"), ("check", "capped"), ("run", "capped", "--hex", "00" * 60)):
        extra = ("--root", ".")
        done = btcfi("guest", *command, *extra, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    twin = tmp_path / "capped" / "twin.py"
    twin.write_text(twin.read_text().replace("// 100", "// 99"))
    done = btcfi("guest", "check", "capped", "--root", ".", cwd=tmp_path)
    assert done.returncode == 2
    assert "twin" in done.stderr


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"strike": -1}, "strike"), ({"collateral": 2**64}, "collateral"), ({"spot": 1.5}, "spot"),
        ({"spot": "1"}, "spot"), ({"rate": None}, "rate"), ({"strikes": 1}, "strikes"),
    ],
)  # fmt: skip
def test_an_input_field_that_does_not_fit_is_named(tmp_path, change, field):
    given = SettlementInput.from_bytes(bytes.fromhex(VECTORS[0]["input"]))
    (tmp_path / "in.json").write_text(json.dumps(asdict(given) | change))
    with pytest.raises(InvalidInputError) as caught:
        _input_bytes(tmp_path / "in.json", "")
    assert caught.value.field.split(", ")[-1] == field


def test_an_input_field_that_is_missing_is_named(tmp_path):
    (tmp_path / "in.json").write_text('{"option_type": 0}')
    with pytest.raises(InvalidInputError) as caught:
        _input_bytes(tmp_path / "in.json", "")
    assert caught.value.field.endswith("in.json, strike")


TWINS = {
    "does not parse": ("x = (", "twin.py:1: SyntaxError"),
    "lacks its functions": ("x = 1", "lacks settle or random_input"),
    "raises": (
        "def settle(data):\n    raise KeyError(3)\ndef random_input(rng):\n    return bytes(60)",
        "twin.py:2: KeyError",
    ),
    "returns no bytes": (
        "def settle(data):\n    pass\ndef random_input(rng):\n    return bytes(60)",
        "settle returns NoneType",
    ),
    "makes no input": ("def settle(data):\n    pass\ndef random_input(rng):\n    return 5", "random_input returns int"),
}


@pytest.fixture(scope="module")
def capped(tmp_path_factory):
    pytest.importorskip("ziglang", reason="ziglang is not installed")
    folder = tmp_path_factory.mktemp("programs")
    new_program("capped", folder)
    build_program("capped", folder)
    return folder


@pytest.mark.parametrize("name", TWINS)
def test_a_twin_that_does_not_work_fails_the_check_and_its_line_is_named(capped, name):
    text, said = TWINS[name]
    good = (capped / "capped" / "twin.py").read_text()
    (capped / "capped" / "twin.py").write_text(text)
    with pytest.raises(GuestCheckError, match=said):
        check_program("capped", capped)
    (capped / "capped" / "twin.py").write_text(good)


def test_a_program_that_does_not_compile_is_told_its_first_error(capped):
    good = (capped / "capped" / "main.c").read_text()
    (capped / "capped" / "main.c").write_text(good.replace("u32 strike = INPUT", "u32 strikes = INPUT"))
    done = btcfi("guest", "build", "capped", cwd=capped)
    (capped / "capped" / "main.c").write_text(good)
    assert done.returncode == 1
    assert "capped/main.c:47:26: error: use of undeclared identifier 'strike' (and 3 more)" in done.stderr


def test_a_program_that_faults_on_some_input_fails_the_check_with_that_input(capped, tmp_path):
    shutil.copytree(capped, tmp_path / "copy")
    source = tmp_path / "copy" / "capped" / "main.c"
    source.write_text(source.read_text().replace("cents.high;", "cents.high; *(volatile u32 *)0x10000 = 1;"))
    build_program("capped", tmp_path / "copy")
    with pytest.raises(GuestCheckError, match=r"input \d+ \([0-9a-f]{120}\): machine fault: store to code"):
        check_program("capped", tmp_path / "copy")


def test_a_refused_proof_is_named_in_json_too(proofs):
    text = (proofs / "0.json").read_text().replace('"steps":', '"steps":1')
    done = btcfi("verify", "-", "--json", stdin=text)
    assert done.returncode == 76
    assert json.loads(done.stdout) | {"problem": ""} == {
        "verified": False, "failed_check": "final state", "problem": "",
    }  # fmt: skip


def test_a_trace_is_shown_as_json_too(proofs):
    said = json.loads(btcfi("trace", "show", proofs / "0.json", "--around", "1", "--json").stdout)
    assert [row["step"] for row in said["steps"]] == [said["at"] - 1, said["at"]]
    assert said["steps"][-1]["instruction"] == "ecall"
    assert "8301888 sats" in said["in_words"]


BAD = {
    "no such file": (("verify", "nowhere.json"), 3),
    "no such program": (("prove", "--hex", "00", "--out", "-", "--program", "nothing"), 3),
    "odd hex": (("prove", "--hex", "0", "--out", "-"), 2),
    "no input": (("prove", "--out", "-"), 2),
    "input larger than its page": (("prove", "--hex", "00" * 4097, "--out", "-"), 2),
    "a root that is none": (("verify", "x", "--root", "zz"), 2),
    "unknown depth": (("verify", "x", "--depth", "deep"), 2),
    "unknown option": (("verify", "x", "--what"), 2),
    "too few steps": (("prove", "--hex", VECTORS[0]["input"], "--out", "-", "--max-steps", "10"), 70),
    "not an ELF file": (("guest", "run", "./manifest.toml"), 2),
}


@pytest.mark.parametrize("name", BAD)
def test_a_mistake_is_one_line_on_stderr_with_its_own_exit_code(name):
    arguments, code = BAD[name]
    done = btcfi(*arguments, cwd=ROOT / "guest_programs")
    assert (done.returncode, done.stdout) == (code, "")
    lines = [line for line in done.stderr.splitlines() if "compiling the machine" not in line]
    assert len(lines) == 1
    assert "Traceback" not in done.stderr


def test_a_proof_with_one_flipped_bit_names_the_failed_check(proofs):
    text = (proofs / "0.json").read_text()
    place = text.index('"included_steps":["') + 400
    digit = "0" if text[place] != "0" else "1"
    done = btcfi("verify", "-", stdin=text[:place] + digit + text[place + 1 :])
    assert done.returncode == 76
    assert "check 'inclusion'" in done.stderr
