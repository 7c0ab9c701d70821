"""Programs that others write and link: RISC-V's own tests as they are usually built, plain C, what a linker may do.

The sources are ours; what is usual is the shape: entry and .tohost of riscv-tests, its machine-mode startup with CSRs
and its user-level one without, the signature of riscv-arch-test.
"""

import subprocess
import sys

import pytest

from btcfi.vm.agreement import Emulator, execute
from btcfi.vm.elf import ElfError, InstructionRefusedError
from btcfi.vm.program import any_program, bare_program
from tests.integration.surfaces.test_surfaces_vm_cli import btcfi

pytest.importorskip("ziglang", reason="ziglang is not installed")

BODY = """
        li gp, 2
        li a1, 3
        li a2, %d
        add a3, a1, a2
        la t0, begin_signature
        sw a3, 0(t0)
        li t2, 7
        bne a3, t2, fail
        li gp, 1
        li a0, 0
        j end
fail:   slli a0, gp, 1
        ori a0, a0, 1
end:    li a7, 93
        ecall
        .section .tohost,"aw",@progbits
        .balign 64
        .globl tohost, fromhost, begin_signature, end_signature
tohost: .quad 0
        .balign 64
fromhost: .quad 0
        .data
        .balign 16
begin_signature: .word 0xdeadbeef, 0xdeadbeef
end_signature:
"""
USER_LEVEL = ".section .text.init\n.globl _start\n_start:\n" + BODY
MACHINE_MODE = (
    """
        .section .text.init
        .globl _start
_start: j reset
trap:   csrr t5, mcause
        j trap
reset:  csrr a0, mhartid
        la t0, trap
        csrw mtvec, t0
        la t0, body
        csrw mepc, t0
        mret
body:
"""
    + BODY % 4
)
SCRIPT = """
OUTPUT_ARCH("riscv")
ENTRY(_start)
PHDRS { %s }
SECTIONS {
  . = 0x80000000;
  .text : { *(.text.init) *(.text .text.*) } :text
  . = ALIGN(0x1000);
  .tohost : { *(.tohost) } :data
  . = ALIGN(0x1000);
  .data : { *(.data .data.* .rodata .rodata.*) }
  .bss : { *(.bss .bss.*) }
}
"""
TWO = "text PT_LOAD FLAGS(5); data PT_LOAD FLAGS(6);"
ONE_RWX = "text PT_LOAD FLAGS(7); data PT_LOAD FLAGS(6);"


def linked(folder, source, *flags, name="p.S", headers=TWO, cpu="generic_rv32+m+zicsr"):
    (folder / name).write_text(source)
    (folder / "link.ld").write_text(SCRIPT % headers)
    out = folder / "rv32ui-x-add"
    command = [sys.executable, "-m", "ziglang", "cc", "-target", "riscv32-freestanding-none", f"-mcpu={cpu}"]
    command += [
        "-nostdlib",
        "-O1",
        "-fno-pic",
        f"-Wl,-T,{folder / 'link.ld'}",
        "-o",
        str(out),
        str(folder / name),
        *flags,
    ]
    subprocess.run(command, check=True, timeout=120, capture_output=True)
    return out


@pytest.mark.parametrize(("addend", "a0"), [(4, 0), (5, 5)])
def test_a_user_level_test_program_runs_and_says_in_a0_which_case_failed(tmp_path, addend, a0):
    program = any_program(linked(tmp_path, USER_LEVEL % addend).read_bytes(), name="user")
    registers = execute(program, Emulator(program), b"").final_registers
    assert (registers[17], registers[10]) == (93, a0)


def test_a_machine_mode_startup_is_refused_at_its_first_csr_instruction(tmp_path):
    with pytest.raises(InstructionRefusedError) as caught:
        any_program(linked(tmp_path, MACHINE_MODE).read_bytes(), name="machine")
    assert (caught.value.address, caught.value.word) == (0x8000_0004, 0x34202F73)  # csrr t5, mcause


@pytest.mark.parametrize(
    ("options", "field"),
    [({"headers": ONE_RWX}, "segment 0 p_flags"), ({"cpu": "generic_rv32+m+c"}, "e_flags")],
    ids=["one writable and executable segment", "compressed"],
)
def test_another_way_to_link_or_compile_is_refused_by_the_header(tmp_path, options, field):
    with pytest.raises(ElfError) as caught:
        bare_program(linked(tmp_path, USER_LEVEL % 4, **options).read_bytes(), name="other")
    assert caught.value.field == field


C_PROGRAM = """
unsigned fibonacci(unsigned n) { return n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2); }
static const char text[] = "a constant";
static unsigned table[4] = {1, 2, 3, 4};
static unsigned zero[100];
void main_(void);
__attribute__((naked, used, section(".text.init"))) void _start(void) {
    __asm__("li sp, 0x90001000\\n call main_\\n ecall");
}
__attribute__((noinline, used)) void main_(void) {
    volatile unsigned *t = table, *z = zero;
    volatile const char *c = text;
    z[5] = fibonacci(15) / t[2];
    register unsigned a0 __asm__("a0") = z[5] + t[3] + c[0];
    __asm__ volatile("" : : "r"(a0));
}
"""


def test_a_c_program_with_its_own_data_and_a_stack_where_it_wants_one_runs(tmp_path):
    data = linked(tmp_path, C_PROGRAM, "-lcompiler_rt", name="p.c", cpu="generic_rv32+m").read_bytes()
    program = bare_program(data, name="c", ram=(0x9000_0000, 4096))
    assert execute(program, Emulator(program), b"").final_registers[10] == 610 // 3 + 4 + ord("a")


def test_the_command_runs_a_file_without_suffix_and_writes_its_signature(tmp_path):
    path = linked(tmp_path, USER_LEVEL % 4)
    done = btcfi("guest", "run", path.name, "--signature", "words", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "a7 0x0000005d" in done.stdout
    assert (tmp_path / "words").read_text() == "00000007\ndeadbeef\n"
