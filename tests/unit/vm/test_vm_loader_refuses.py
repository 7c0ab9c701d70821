"""A hostile or foreign file gets a typed error that names the field; nothing is allocated for it."""

import struct
import time
from dataclasses import replace

import pytest

from btcfi.vm.agreement import Emulator, execute
from btcfi.vm.elf import ElfError, InstructionRefusedError, parse_elf
from btcfi.vm.interpreter import run, run_untraced
from btcfi.vm.machine import (
    CODE_BASE,
    BreakpointError,
    ExecutorsDisagreeError,
    FetchOutsideCodeError,
    GuestMismatchError,
    IllegalInstructionError,
    LoadUnmappedError,
    MisalignedJumpError,
    MisalignedLoadError,
    MisalignedStoreError,
    StepLimitError,
    Stop,
    StoreReadOnlyError,
    StoreToCodeError,
    StoreUnmappedError,
)
from btcfi.vm.program import bare_program, load_program, program_from_elf
from tests.support.vm_programs import (
    EBREAK,
    ECALL,
    Segment,
    code_segment,
    elf_file,
    i_type,
    jal,
    load_constant,
    lui,
    program_of,
    s_type,
)

CODE = code_segment([ECALL])
RAM = Segment(0x8000_2000, b"", 6, 4096)


def test_a_minimal_program_loads():
    assert parse_elf(elf_file([CODE, RAM])).entry == CODE_BASE


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("e_type", 3), ("e_machine", 62), ("e_version", 2), ("e_flags", 1), ("e_flags", 4), ("e_ehsize", 64),
        ("e_phentsize", 56), ("e_phnum", 0), ("e_phnum", 65535), ("e_phoff", 2**31), ("e_entry", CODE_BASE + 2),
        ("e_entry", CODE_BASE + 4), ("e_entry", 0),
    ],
)  # fmt: skip
def test_a_wrong_header_field_is_named(field, value):
    with pytest.raises(ElfError) as caught:
        parse_elf(elf_file([CODE, RAM], **{field: value}))
    assert caught.value.field == field


@pytest.mark.parametrize("ident", [b"\x7fELF\x02", b"\x7fELF\x01\x02", b"MZ", b"\x7fELF\x01\x01\x00", b""])
def test_another_class_or_byte_order_is_refused(ident):
    data = elf_file([CODE])
    with pytest.raises(ElfError):
        parse_elf(ident + data[len(ident) :] if ident else b"")


@pytest.mark.parametrize(
    "segments",
    [
        [Segment(CODE_BASE, CODE.data, 7)],
        [CODE, Segment(CODE_BASE, b"\0" * 8, 6)],
        [CODE, Segment(CODE_BASE + 0x100, b"\0" * 8, 6)],
        [CODE, Segment(0x2_0000, b"", 6, 0xFFFF_FFFF)],
        [CODE, Segment(0xFFFF_F000, b"", 6, 0x2000)],
        [CODE, Segment(0x2_0000, b"", 6, 17 << 20)],
        [CODE, Segment(0x2_0000, b"abcd", 6, 2)],
        [CODE, Segment(0x2_0000, b"abcd", 2)],
        [CODE, Segment(0x2_0000, b"abcd", 14)],
        [CODE, code_segment([ECALL], 0x2_0000)],
        [RAM],
        [Segment(CODE_BASE, b"\x73\0\0\0\x01\0", 5)],
        [Segment(CODE_BASE, CODE.data, 5, 4096)],
    ],
    ids=[
        "writable code", "overlap", "two permissions on a page", "4 GiB", "past the end of memory", "17 MiB",
        "file larger than memory", "not readable", "unknown flag", "two code segments", "no code",
        "half a word of code",
        "code that is not in the file",
    ],
)  # fmt: skip
def test_a_bad_segment_is_refused_at_once(segments):
    started = time.perf_counter()
    with pytest.raises(ElfError):
        parse_elf(elf_file(segments))
    assert time.perf_counter() - started < 5  # a hang, not a speed: nothing of the segment's size is touched


@pytest.mark.parametrize(
    "word",
    [0x0000_4501, 0x1005_202F, 0x0000_0053, 0xC000_2573, 0x3050_1073, 0x0000_100F, 0x1050_0073, 0x3020_0073, 0,
     2**32 - 1,
     0x4000_1013, 0x0200_0013 | 1 << 12, 0x0000_3003, 0x0000_707F],
    ids=["compressed", "lr.w", "fadd", "rdcycle", "csrw", "fence.i", "wfi", "mret", "zero", "ones", "slli bit 30",
         "slli bit 25", "ld", "reserved"],
)  # fmt: skip
def test_every_word_outside_rv32im_is_refused_by_the_loader(word):
    with pytest.raises(InstructionRefusedError) as caught:
        parse_elf(elf_file([code_segment([word, ECALL])]))
    assert (caught.value.address, caught.value.word) == (CODE_BASE, word)


@pytest.mark.parametrize("cut", [0, 10, 51, 60, 100])
def test_a_truncated_file_is_refused(cut):
    with pytest.raises(ElfError):
        parse_elf(elf_file([CODE, RAM])[:cut])


FAULTS = {
    "breakpoint": ([EBREAK], BreakpointError, CODE_BASE),
    "runs off the end": ([i_type(0, 0, 0, 0)], FetchOutsideCodeError, CODE_BASE + 4),
    "jumps into RAM": ([lui(0x8000_2000, 5), i_type(0, 5, 0, 0, 0x67), ECALL], FetchOutsideCodeError, 0x8000_2000),
    "jumps to 2 mod 4": ([jal(6), ECALL, ECALL], MisalignedJumpError, CODE_BASE),
    "misaligned load": ([lui(0x8000_2000, 5), i_type(2, 5, 2, 6, 0x03)], MisalignedLoadError, CODE_BASE + 4),
    "misaligned store": ([lui(0x8000_2000, 5), s_type(1, 0, 5, 1)], MisalignedStoreError, CODE_BASE + 4),
    "reads address 0": ([i_type(0, 0, 2, 6, 0x03)], LoadUnmappedError, CODE_BASE),
    "writes past its RAM": ([lui(0x8000_3000, 5), s_type(0, 0, 5, 2)], StoreUnmappedError, CODE_BASE + 4),
    "writes its input": ([lui(0x8000_0000, 5), s_type(0, 0, 5, 2)], StoreReadOnlyError, CODE_BASE + 4),
    "modifies itself": ([lui(CODE_BASE, 5), s_type(0, 0, 5, 2)], StoreToCodeError, CODE_BASE + 4),
    "never ends": ([jal(0)], StepLimitError, CODE_BASE),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_typed_and_says_where(name):
    words, error, pc = FAULTS[name]
    with pytest.raises(error) as caught:
        run(program_of(words), b"", max_steps=1000)
    assert caught.value.pc == pc


def test_executing_constants_between_the_code_is_a_fault():
    """A linker may put constants into the code segment; sections tell the loader, the machine checks all the same."""
    data = bytearray(elf_file([code_segment([jal(8), ECALL, 0xC000_2573])], e_shnum=1, e_shentsize=40))
    section = struct.pack("<10I", 0, 1, 4, CODE_BASE, 0x1000, 8, 0, 0, 4, 0)
    struct.pack_into("<I", data, 32, len(data))
    program = bare_program(bytes(data) + section, name="constants")
    with pytest.raises(IllegalInstructionError):
        run(program, b"")


def test_an_endless_program_stops_at_the_limit_in_bounded_memory():
    result = run_untraced(program_of([jal(0)]), b"", max_steps=10_000_000)
    assert (result.stop, result.steps) == (Stop.STEP_LIMIT, 10_000_000)


def test_bytes_that_are_not_the_manifests_are_not_mapped(tmp_path):
    (tmp_path / "p.elf").write_bytes(elf_file([CODE]))
    (tmp_path / "manifest.toml").write_text(
        '[[program]]\nname = "p"\npath = "p.elf"\nelf_sha256 = "00"\nimage_sha256 = "00"\noutput_size = 4\n'
        "input_size = 4\n"
    )
    with pytest.raises(GuestMismatchError) as caught:
        load_program("p", tmp_path)
    assert (caught.value.program, caught.value.expected_hash) == ("p", "00")


def test_fresh_memory_means_the_same_output_whatever_ran_before():
    words = [
        *load_constant(0x8000_2000, 5), i_type(0, 5, 2, 6, 0x03), i_type(1, 6, 0, 6), s_type(0, 6, 5, 2),
        lui(0x8000_1000, 7), s_type(0, 6, 7, 2), ECALL,
    ]  # fmt: skip
    program = program_of(words, output_size=4)
    assert run(program, b"").output == run(program, b"").output == b"\x01\0\0\0"


def test_data_at_the_two_ends_of_memory_does_not_become_a_flat_image_of_gigabytes():
    """Found by the fuzzer: a data byte at 0x8000_2000 made the hashed image 2 GiB."""
    data = elf_file([CODE, Segment(0x8000_2000, b"data", 6)])
    with pytest.raises(ElfError):
        program_from_elf(data, name="spread", output_size=4)
    assert run_untraced(bare_program(data, name="spread"), b"").stop is Stop.HALTED


def test_a_foreign_program_may_be_given_ram_for_its_stack():
    words = [*load_constant(0x9000_1000, 2), s_type(-4, 2, 2, 2), ECALL]
    data = elf_file([code_segment(words)])
    with pytest.raises(StoreUnmappedError):
        run(bare_program(data, name="foreign"), b"")
    assert run(bare_program(data, name="foreign", ram=(0x9000_0000, 4096)), b"").steps == 4
    for ram in ((1, 4096), (0, 0), (0, 1 << 32), (0xFFFF_F000, 8192), (CODE_BASE, 4096)):
        with pytest.raises(ElfError):
            bare_program(data, name="foreign", ram=ram)


def test_both_executors_give_up_on_an_endless_program_without_repeating_it_slowly():
    program = program_of([jal(0)])
    with pytest.raises(StepLimitError):
        execute(program, Emulator(program), b"")


def test_a_difference_between_the_executors_stops_the_settlement():
    program = program_of([*load_constant(7, 10), ECALL])

    class Wrong(Emulator):
        def run(self, input_bytes, *, max_steps=1 << 24):
            result = super().run(input_bytes, max_steps=max_steps)
            return replace(result, registers=(*result.registers[:10], 8, *result.registers[11:]))

    with pytest.raises(ExecutorsDisagreeError) as caught:
        execute(program, Wrong(program), b"")
    assert caught.value.field == "registers"
