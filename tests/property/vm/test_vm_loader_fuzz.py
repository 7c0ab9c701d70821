"""Whatever bytes come: a program or an ElfError."""

import contextlib
import random

from hypothesis import given, settings
from hypothesis import strategies as st

from btcfi.vm.elf import ElfError, parse_elf
from btcfi.vm.interpreter import run_untraced
from btcfi.vm.program import _COMMITTED, bare_program

GOOD = (_COMMITTED / "vanilla_option" / "vanilla_option.elf").read_bytes()


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300))
def test_random_bytes_never_crash_the_loader(data):
    for prefix in (b"", GOOD[:52], GOOD[:148]):
        with contextlib.suppress(ElfError):
            parse_elf(prefix + data)


def test_no_mutation_of_a_good_file_crashes_the_loader_or_the_machine():
    rng = random.Random(7)
    loaded = 0
    for _ in range(1500):
        data = bytearray(GOOD)
        for _ in range(rng.choice((1, 1, 2, 8))):
            place = rng.choice((rng.randrange(148), rng.randrange(len(data)), len(data) - rng.randrange(1, 250)))
            data[place] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
        try:
            program = bare_program(
                bytes(data[: rng.choice((len(data), len(data), rng.randrange(len(data))))]), name="m"
            )
        except ElfError:
            continue
        loaded += 1
        run_untraced(program, b"", max_steps=2000)
    assert loaded > 100
