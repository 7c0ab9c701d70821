"""What was sold by a program is settled by that program: it stays readable by its hash."""

import shutil
import tomllib

import pytest

from btcfi.errors import NotHeldError
from btcfi.proofs.errors import ProofProgramError
from btcfi.proofs.settlement_proof import build_proof, verify
from btcfi.vm.interpreter import run
from btcfi.vm.program import load_program, load_program_by_hash, program_of_proof
from guest_programs.build import ROOT, read_manifest, write_manifest
from tests.support.retired import retire_program

SOLD_BY = (
    "4ba389f7e94d0cb122fff4c31a7147ad32b932cb57364462c7223aeb724e1371",
    "1577593ce397c863482ebfdc569819a2053ff12b1012319b1ba06c5987d1440f",
)
"""Every program that an option was ever sold by: add a hash when a program changes, never take one away."""


@pytest.fixture
def programs(tmp_path):
    """The programs after option_settlement was replaced."""
    shutil.copytree(ROOT, tmp_path / "programs", ignore=shutil.ignore_patterns("__pycache__"))
    return retire_program(tmp_path / "programs", "option_settlement", by="vanilla_option")


@pytest.mark.parametrize("image", SOLD_BY)
def test_every_program_that_options_were_sold_by_is_found_by_its_hash(image):
    assert load_program_by_hash(image).program_hash.hex() == image


def test_what_is_sold_today_will_be_found_later():
    assert load_program("option_settlement").program_hash.hex() == SOLD_BY[-1]


def test_a_retired_program_is_found_by_its_hash_and_its_name_means_the_new_one(programs):
    assert load_program("option_settlement", programs).program_hash.hex() != SOLD_BY[-1]
    old = load_program_by_hash(SOLD_BY[-1], programs)
    assert (old.name, old.program_hash.hex()) == ("option_settlement", SOLD_BY[-1])


def test_a_program_that_is_nowhere_is_named_by_its_hash(programs):
    with pytest.raises(NotHeldError) as caught:
        load_program_by_hash("ab" * 32, programs, name="option_settlement")
    assert (caught.value.kind, caught.value.sha256) == ("guest program", "ab" * 32)


@pytest.mark.parametrize("change", [lambda f: f.write_bytes(f.read_bytes() + b"x"), lambda f: f.unlink()])
def test_a_retired_program_whose_bytes_changed_or_are_gone_is_not_held_and_the_message_says_why(programs, change):
    file = programs / "retired" / f"option_settlement-{SOLD_BY[-1][:8]}.elf"
    change(file)
    with pytest.raises(NotHeldError, match=r"ELF|elf"):
        load_program_by_hash(SOLD_BY[-1], programs)


def test_a_proof_of_a_retired_program_is_still_checked_by_it_and_a_lie_about_it_is_found(programs):
    given = bytes(60)
    proof = build_proof(run(load_program("option_settlement"), given))
    assert verify(proof, program_of_proof(proof.program_name, proof.program_hash, programs)).program_name
    with pytest.raises(ProofProgramError):
        verify(proof, program_of_proof("barrier_option", proof.program_hash, programs))
    with pytest.raises(ProofProgramError):
        verify(proof, program_of_proof("option_settlement", bytes(32), programs))


def test_a_rebuild_keeps_the_retired_rows(programs):
    before = tomllib.loads((programs / "manifest.toml").read_text())
    write_manifest(programs, read_manifest(programs))
    assert tomllib.loads((programs / "manifest.toml").read_text()) == before
    assert before["retired"]
