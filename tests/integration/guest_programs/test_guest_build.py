"""The committed bytes are what the pinned compiler makes, anywhere."""

import shutil
from hashlib import sha256

import pytest

from btcfi.proofs import lanes
from btcfi.vm.isa import BRANCHES, Op, decode
from btcfi.vm.program import load_program
from guest_programs.build import ROOT, ZIG_VERSION, build, check_compiler, read_manifest
from guest_programs.build_lanes import NATIVE, build_lanes

try:
    check_compiler()
    MISSING = ""
except Exception as e:  # noqa: BLE001 - the reason is printed
    MISSING = str(e)
needs_zig = pytest.mark.skipif(bool(MISSING), reason=MISSING)

MANIFEST = read_manifest(ROOT)
NAMES = [row["name"] for row in MANIFEST["program"]]


@needs_zig
@pytest.mark.parametrize("name", NAMES)
def test_two_builds_in_two_directories_give_the_committed_bytes(name, tmp_path):
    row = next(row for row in MANIFEST["program"] if row["name"] == name)
    copy = tmp_path / "elsewhere" / "deeper"
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns("*.elf", "__pycache__"))
    committed = (ROOT / row["path"]).read_bytes()
    assert build(name, row["sources"], root=ROOT) == committed
    assert build(name, row["sources"], root=copy, common=copy / "common") == committed
    assert sha256(committed).hexdigest() == row["elf_sha256"]


@needs_zig
def test_the_hashing_library_is_rebuilt_byte_for_byte(tmp_path):
    out = tmp_path / "lanes.so"
    build_lanes(out)
    assert sha256(out.read_bytes()).hexdigest() == lanes.NATIVE_SHA256
    assert out.read_bytes() == (NATIVE / lanes.NATIVE_FILE).read_bytes()


def test_the_manifest_names_the_compiler_that_build_pins():
    assert MANIFEST["zig_version"] == ZIG_VERSION


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("function", ["payoff", "knocked_out", "divide_digits"])
def test_the_payoff_core_has_no_branch(name, function):
    """A dispute replays it instruction by instruction in Bitcoin Script, which cannot jump."""
    program = load_program(name)
    address, size = program.elf.symbols[function]
    first = (address - program.elf.code.address) // 4
    ops = [decode(int(word)).op for word in program.words[first : first + size // 4]]
    assert not [op for op in ops if op in BRANCHES or op is Op.JAL]
    assert ops.count(Op.JALR) == 1
    assert ops[-1] is Op.JALR
