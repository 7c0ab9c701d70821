"""A hostile or foreign file gets a typed error that names the field; nothing is allocated for it."""

import struct
import time
import tracemalloc
from dataclasses import replace

import pytest

from btcfi.vm.agreement import Emulator, execute
from btcfi.vm.elf import MAX_SYMBOL_NAME, MAX_SYMBOLS, ElfError, InstructionRefusedError, parse_elf
from btcfi.vm.interpreter import run, run_untraced
from btcfi.vm.isa import UNIMP, disassemble
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
from btcfi.vm.step import after
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


def with_sections(segments, *sections, extra=b""):
    """An ELF file with ``extra`` after it and sections: kind, flags, address, offset in extra, size, link."""
    data = elf_file(segments, e_shnum=len(sections), e_shentsize=40)
    rows = b"".join(
        struct.pack("<10I", 0, kind, flags, address, len(data) + offset, size, link, 0, 4, 16)
        for kind, flags, address, offset, size, link in sections
    )
    whole = bytearray(data + extra + rows)
    struct.pack_into("<I", whole, 32, len(data) + len(extra))
    return bytes(whole)


def with_symbols(segments, symbols, names):
    """symbols: (offset of the name, address, size, type)."""
    table = b"".join(struct.pack("<IIIBBH", name, at, size, kind, 0, 1) for name, at, size, kind in symbols)
    sections = ((2, 0, 0, 0, len(table), 1), (3, 0, 0, len(table), len(names), 0))
    return with_sections(segments, *sections, extra=table + names)


def test_names_that_overlap_cost_memory_of_the_file_s_size_and_not_of_its_square():
    """8,192 symbols of 131,072 bytes of names, each the rest of them: 262 kB of file were more than 500 MB of names."""
    count, size = 8192, 131_072
    data = with_symbols([CODE], [(n, CODE_BASE, 4, 2) for n in range(count)], b"a" * (size - 1) + b"\0")
    tracemalloc.start()
    elf = parse_elf(data)
    before = tracemalloc.get_traced_memory()[1]
    assert elf.named == ()
    assert (before < 4 << 20, tracemalloc.get_traced_memory()[1] < 16 << 20) == (True, True)
    tracemalloc.stop()


def test_a_name_of_every_symbol_is_read_up_to_its_longest_and_tables_up_to_their_largest_count():
    names = b"\0" + b"x" * MAX_SYMBOL_NAME + b"\0" + b"y" * (MAX_SYMBOL_NAME + 1) + b"\0"
    symbols = [(1, CODE_BASE, 4, 2), (MAX_SYMBOL_NAME + 2, CODE_BASE, 4, 2), (0, CODE_BASE, 4, 2), (1 << 31, 1, 1, 1)]
    assert [one.name for one in parse_elf(with_symbols([CODE], symbols, names)).named] == ["x" * MAX_SYMBOL_NAME]
    many = parse_elf(with_symbols([CODE], [(1, CODE_BASE, 4, 2)] * (MAX_SYMBOLS + 5), b"\0f\0"))
    assert len(many.named) == MAX_SYMBOLS


def test_a_thousand_code_sections_over_a_million_bad_words_are_refused_in_seconds():
    words = [ECALL, *[0] * 500_000]
    sections = [(1, 4, CODE_BASE, 0, 4, 0)] * 1000
    started = time.perf_counter()
    parse_elf(with_sections([code_segment(words)], *sections))
    assert time.perf_counter() - started < 5  # the product of both takes a minute


def test_a_word_outside_each_code_section_is_not_scanned_and_one_inside_any_is():
    code = code_segment([ECALL, 0, ECALL, 0, 0])
    spans = [(1, 4, CODE_BASE, 0, 4, 0), (1, 4, CODE_BASE + 8, 0, 4, 0)]
    parse_elf(with_sections([code], *spans))
    with pytest.raises(InstructionRefusedError) as caught:
        parse_elf(with_sections([code], *spans, (1, 4, CODE_BASE + 8, 0, 12, 0)))
    assert caught.value.address == CODE_BASE + 12


def test_the_compilers_trap_is_named_with_its_function():
    with pytest.raises(InstructionRefusedError) as caught:
        parse_elf(with_symbols([code_segment([ECALL, UNIMP])], [(1, CODE_BASE, 8, 2)], b"\0settle\0"))
    assert (caught.value.within, "unimp" in str(caught.value)) == ("settle", True)
    assert disassemble(UNIMP, CODE_BASE).startswith("unimp")


@pytest.mark.parametrize(
    ("words", "is_constant"),
    [([ECALL, 0x1234_5678], True), ([jal(8), 0x1234_5678, ECALL], True), ([i_type(1, 0, 0, 5), 0x1234_5678], False),
     ([jal(8), ECALL, 0x1234_5678], False), ([jal(8, 1), 0x1234_5678, ECALL], False), ([0x1234_5678], False)],
    ids=["after a halt", "jumped over", "run into", "jumped to", "returned to", "the entry"],
)  # fmt: skip
def test_a_word_that_nothing_leads_to_is_a_constant_and_one_that_is_executed_is_a_foreign_instruction(
    words, is_constant
):
    with pytest.raises(InstructionRefusedError) as caught:
        parse_elf(elf_file([code_segment(words)]))
    assert caught.value.is_constant is is_constant


def test_an_object_that_is_run_into_is_a_constant_by_its_own_name():
    code = code_segment([i_type(1, 0, 0, 5), 0x1234_5678, ECALL])
    with pytest.raises(InstructionRefusedError) as caught:
        parse_elf(with_symbols([code], [(1, CODE_BASE + 4, 4, 1)], b"\0table\0"))
    assert (caught.value.within, caught.value.is_constant) == ("table", True)


LAST = 0xFFFF_FFF8


def at_the_end_of_memory(words):
    return bare_program(elf_file([code_segment(words, LAST)], entry=LAST), name="end")


def test_the_program_counter_wraps_at_the_end_of_memory_on_both_executors():
    program = at_the_end_of_memory([i_type(1, 0, 0, 5)] * 2)
    emulator = Emulator(program)
    for result in (run_untraced(program, b""), emulator.run_checked(b""), emulator.run(b"")):
        assert (result.stop, result.pc, result.address, result.steps) == (Stop.FETCH_OUTSIDE_CODE, 0, 0, 2)
    with pytest.raises(FetchOutsideCodeError):
        execute(program, Emulator(program), b"")


def test_the_link_of_the_last_jump_of_memory_is_zero_and_a_plain_step_says_so_too():
    program = at_the_end_of_memory([ECALL, jal(-4, 1)])
    program = replace(program, elf=replace(program.elf, entry=LAST + 4))
    execution = execute(program, Emulator(program), b"")
    assert (execution.final_registers[1], execution.steps) == (0, 2)
    assert after(execution.trace.step(0)).registers[1] == 0
