"""Each way in which a guest program can be wrong and look right is built, and refused by name."""

import random
import shutil

import pytest

from btcfi.errors import InvalidInputError
from btcfi.vm.agreement import Emulator, execute
from btcfi.vm.elf import InstructionRefusedError
from btcfi.vm.machine import StoreUnmappedError
from btcfi.vm.program import load_program
from guest_programs.build import ROOT
from guest_programs.check import GuestCheckError, check_program, one_field_variations, read_twin
from guest_programs.new import build_program, new_program

pytest.importorskip("ziglang", reason="ziglang is not installed")


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("programs")
    new_program("capped", folder)
    build_program("capped", folder)
    return folder


def changed(written, tmp_path, *changes, file="main.c"):
    """A copy of the template's program with pieces of its C replaced, built."""
    shutil.copytree(written, tmp_path / "copy")
    source = tmp_path / "copy" / "capped" / file
    text = source.read_text()
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new)
    source.write_text(text)
    build_program("capped", tmp_path / "copy")
    return tmp_path / "copy"


def check(folder, **options):
    return check_program("capped", folder, runs=20, **options).checks


def test_the_template_stands_and_its_check_says_what_never_ran(written):
    said = check(written)
    assert any(line.startswith("never executed: 0x") and " in main+" in line for line in said)
    assert any(line.startswith("never taken: the branch at ") for line in said)
    assert any(line.startswith("the page below the stack is not mapped; ") for line in said)
    assert "the Python twin agrees on all" in " ".join(said)


END = "OUTPUT->payout_sats_high = sats.high;"
DEEP = """__attribute__((noinline)) static u32 deep(volatile u32 *a, u32 n) {
    volatile u32 room[16] = {n};
    return n ? deep(room, n - 1) + a[0] : room[0];
}

int main(void) {
    volatile u32 zero = 0;
    OUTPUT->barrier_hit = deep(&zero, INPUT->rate > 0xfffffffdu ? 60 : 1) & 0;"""
BELOW = "u32 below = mask(opaque(gain < cap));"
LOOP = BELOW + '\n    for (u32 n = 0; n < quantity % 3; n++)\n        __asm__ volatile("");'
START = "__attribute__((noinline)) static struct wide payoff("
ELSEWHERE = """__attribute__((noinline)) static struct wide rest(u32 strike, u32 spot, u32 cap, u32 quantity) {
    u32 gain = spot > strike ? spot - strike : 0;
    return product(gain < cap ? gain : cap, quantity);
}

"""
TAIL = "u32 gain = (spot - strike) & mask(opaque(strike < spot));"
JUMP = "return ((struct wide (*)(u32, u32, u32, u32))opaque((u32)rest))(strike, spot, cap, quantity);\n"
LEFT = """__attribute__((noinline)) static u32 left(void) {
    volatile u32 room[4];
    return room[1];
}

int main(void) {
    OUTPUT->barrier_hit = left();"""
AFTER = """__attribute__((noinline)) static void fill(void) {
    volatile u32 room[4];
    room[0] = room[1] = room[2] = room[3] = 0;
}

""" + LEFT.replace("int main(void) {", "int main(void) {\n    fill();")
WRONG = {
    "a payoff whose rest is a jump through a register": (
        ((START, ELSEWHERE + START), (TAIL, JUMP + TAIL)),
        "payoff jumps at 0x",
    ),
    "a payoff that is there to be looked at": (
        ((START, ELSEWHERE + "__attribute__((used)) " + START), ("= payoff(", "= rest(")),
        "never executed",
    ),
    "a variable that nobody sets": (("int main(void) {", LEFT), "a place of the stack that it never stored"),
    "what an earlier call left on the stack": (
        ("int main(void) {", AFTER), "a place of the stack that it never stored",
    ),
    "a cap that is wrong at one price alone": (
        ("return product((gain", "cap += (spot == 0x7fffffffu) & (strike == 6000000u);\n    return product((gain"),
        "the twin",
    ),
    "a quantity that is not bounded": (("quantity == 0 || quantity > MAX_QUANTITY", "quantity == 0"), "the twin"),
    "a collateral that is not a limit": (
        ("(value, spot, collateral)", "(value, spot, (struct wide){~0u, ~0u})"), "the twin",
    ),
    "a pay that depends on the byte after the input": (
        (END, "OUTPUT->payout_sats_high = sats.high + (*(volatile u32 *)0x8000003cu == 0xffffffffu);"),
        "loads at 0x8000003c, beyond its input",
    ),
    "a store after the output": (
        (END, END + "\n    *(volatile u32 *)0x80001028u = 1;"), "stores at 0x80001028, beyond the 40 bytes of output",
    ),
    "a table among the instructions": (
        (END, END + "\n    OUTPUT->barrier_hit = *(const volatile u32 *)0x10000u & 0;"), "a constant in .text",
    ),
    "a recursion that eats the stack": (
        ("int main(void) {", DEEP),
        "machine fault: ",
    ),
    "a payoff with a branch": (
        (BELOW, LOOP),
        "payoff jumps at 0x",
    ),
    "a payoff that is nowhere": (("__attribute__((noinline)) static struct", "static struct"), "no function `payoff`"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_a_program_that_is_wrong_where_its_author_did_not_look_is_refused(name, written, tmp_path):
    change, said = WRONG[name]
    changes = change if isinstance(change[0], tuple) else (change,)
    with pytest.raises(GuestCheckError, match=said.replace("(", r"\(")):
        check(changed(written, tmp_path, *changes))


def test_an_author_who_chooses_harmless_inputs_is_not_believed(written, tmp_path):
    """The old check ran the twin's inputs alone: one that never asks for another ABI version passed without a test."""
    folder = changed(written, tmp_path, ("if (INPUT->abi_version != ABI_VERSION)", "if (INPUT->abi_version > 99u)"))
    twin = folder / "capped" / "twin.py"
    text = twin.read_text()
    twin.write_text(text[: text.index("    strike = rng.choice")] + "    return bytes(60)\n")
    harmless = read_twin(twin)
    program = load_program("capped", folder)
    data = harmless.random_input(random.Random(1))
    assert execute(program, Emulator(program), data).output != b""
    with pytest.raises(GuestCheckError, match="the twin"):
        check(folder)


def test_inputs_of_another_length_than_the_manifests_do_not_hide_what_a_program_reads(written, tmp_path):
    """Word 15 is no input's: what a program makes of it would be seen by its check alone, and by nobody who proves."""
    read = (END, END + "\n    OUTPUT->barrier_hit = *(volatile u32 *)0x8000003cu & 1;")
    folder = changed(written, tmp_path, read)
    twin = folder / "capped" / "twin.py"
    twin.write_text(
        twin.read_text()
        + "\n\nshort, mine = random_input, settle\n\n\ndef random_input(rng):\n    return short(rng) + bytes(4)\n\n\n"
        "def settle(data):\n    out = bytearray(mine(data[:60]))\n    out[12] = data[60] & 1 if out[36] == 0 else 0\n"
        "    return bytes(out)\n"
    )
    with pytest.raises(InvalidInputError, match="64 bytes; expected 60 bytes"):
        check(folder)


def test_two_functions_of_one_name_are_not_scanned_in_place_of_each_other(written, tmp_path):
    (tmp_path / "copy").mkdir()
    folder = tmp_path / "copy"
    shutil.copytree(written, folder, dirs_exist_ok=True)
    source = folder / "capped" / "main.c"
    called = source.read_text().replace(END, END + "\n    OUTPUT->barrier_hit = other(quantity);")
    source.write_text(called.replace("int main(void) {", "u32 other(u32 a);\n\nint main(void) {"))
    (folder / "capped" / "other.c").write_text(
        '#include "money.h"\n__attribute__((noinline)) static u32 payoff(u32 a) { return opaque(a) & 0; }\n'
        "u32 other(u32 a) { return payoff(a); }\n"
    )
    manifest = folder / "manifest.toml"
    text = manifest.read_text()
    manifest.write_text(text.replace('"capped/main.c"', '"capped/main.c", "capped/other.c"'))
    assert manifest.read_text() != text
    build_program("capped", folder)
    with pytest.raises(GuestCheckError, match="2 functions `payoff`"):
        check(folder)


def test_a_program_whose_author_wrote_no_twin_fails_unless_that_was_asked_for(written, tmp_path):
    folder = changed(written, tmp_path)
    (folder / "capped" / "twin.py").unlink()
    with pytest.raises(GuestCheckError, match="--without-twin"):
        check(folder)
    said = check(folder, without_twin=True)
    assert not any("twin" in line for line in said)


def test_a_stack_that_grows_too_far_meets_a_page_that_is_not_mapped(written, tmp_path):
    """Below the stack of link.ld lies the output: there such a program halts, and its check alone says what it did."""
    always = "INPUT->rate > 0xfffffffdu ? 60 : 1"
    folder = changed(written, tmp_path, ("int main(void) {", DEEP.replace(always, "60")))
    program = load_program("capped", folder)
    with pytest.raises(StoreUnmappedError) as caught:
        execute(program, Emulator(program), bytes(60))
    assert 0x8000_2000 <= caught.value.address < 0x8000_3000
    manifest, source = folder / "manifest.toml", folder / "capped" / "main.c"
    manifest.write_text(manifest.read_text().replace('linker_script = "guarded.ld"\n', ""))
    source.write_text(source.read_text().replace("60)", "30)"))
    build_program("capped", folder)
    program = load_program("capped", folder)
    assert execute(program, Emulator(program), bytes(60)).steps > 0
    with pytest.raises(GuestCheckError, match=r"stores at 0x80001[0-9a-f]{3}, beyond the 40 bytes of output"):
        check(folder)


def test_a_trap_of_the_compiler_is_called_by_its_name(written, tmp_path):
    with pytest.raises(InstructionRefusedError, match=r"in \w+ is unimp, the compiler's trap"):
        changed(written, tmp_path, (END, END + "\n    if (sats.high > 7)\n        __builtin_trap();"))


@pytest.mark.parametrize("word", ["0x12345678", "0x00000013"])
def test_a_constant_in_the_code_is_called_one_whether_or_not_it_decodes(word, written, tmp_path):
    table = f'__attribute__((section(".text"))) const volatile u32 table[2] = {{{word}u, {word}u}};'
    reads = END + "\n    OUTPUT->barrier_hit = table[sats.low & 1] & 0;"
    with pytest.raises((InstructionRefusedError, GuestCheckError), match=r"constant.* in \.text"):
        check(changed(written, tmp_path, ("int main(void) {", f"{table}\nint main(void) {{"), (END, reads)))


def test_each_word_alone_meets_its_edges_and_its_neighbours_neighbours():
    data = (7).to_bytes(4, "little") + (1000).to_bytes(4, "little")
    varied = set(one_field_variations(data))
    for first in (0, 2**32 - 1, 999, 1000, 1001):
        assert first.to_bytes(4, "little") + data[4:] in varied
    assert all((one[:4] == data[:4]) != (one[4:] == data[4:]) for one in varied)


@pytest.mark.parametrize("name", ["vanilla_option", "net_book"])
def test_the_committed_programs_stand_without_a_twin_beside_them(name):
    said = check_program(name, ROOT, without_twin=True, runs=20).checks
    assert any(line.startswith("NO guard page below the stack") for line in said)  # their bytes stay


def test_a_program_named_after_another_linker_script_is_refused(written, tmp_path):
    folder = changed(written, tmp_path)
    manifest = folder / "manifest.toml"
    manifest.write_text(manifest.read_text().replace("guarded.ld", "/etc/passwd"))
    with pytest.raises(InvalidInputError, match="linker_script"):
        build_program("capped", folder)


def test_a_door_at_the_back_is_found_by_what_never_ran(written, tmp_path):
    """No input of ours knows its word: the runs agree, and the list of what nobody tested names its place."""
    door = END + "\n    if (INPUT->rate == 0x5eed1234u)\n        OUTPUT->payout_sats_low = collateral.low;"
    before = {line for line in check(written) if line.startswith("never ")}
    after = {line for line in check(changed(written, tmp_path, (END, door))) if line.startswith("never ")}
    assert len(after) > len(before)
    assert sum(line.startswith("never executed") for line in after) > sum(
        line.startswith("never executed") for line in before
    )
