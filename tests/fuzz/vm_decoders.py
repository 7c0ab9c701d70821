"""Coverage-guided fuzzing of what reads foreign bytes: the ELF loader with the machine behind it, the proof decoders.

    python tests/fuzz/vm_decoders.py elf 60      seconds; default 60. Targets: elf, json, wire, fields
    python tests/fuzz/vm_decoders.py json 60

Needs atheris (pip install atheris==3.0.0 on Python 3.11; newer ones for newer Pythons). It starts from a committed
program and a proof made on the spot; what it finds on the way stays in var/fuzz. A crash is an exception that is not
ours, or a run above 10 s or 2 GB; atheris then writes the input there and exits with another code than 0. The default
tests fuzz the same with hypothesis. BTCFI_TEST_SEED makes a run repeatable.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import atheris  # noqa: E402 - after the path

# numba cannot compile instrumented code
with atheris.instrument_imports(include=["btcfi"], exclude=["btcfi.vm.interpreter"]):
    from btcfi.proofs import settlement_proof, wire
    from btcfi.vm import elf

from btcfi.oracle.announcement import PriceRounding  # noqa: E402 - as above
from btcfi.oracle.fixing import Fixed, LeftOut, parse_fixing  # noqa: E402 - as above
from btcfi.proofs.errors import ProofError  # noqa: E402 - as above
from btcfi.proofs.subtrees import prove  # noqa: E402 - as above
from btcfi.proofs.window import window_of  # noqa: E402 - as above
from btcfi.units import CentsPerBtc, Slot  # noqa: E402 - as above
from btcfi.vm.elf import ElfError  # noqa: E402 - as above
from btcfi.vm.interpreter import run_untraced  # noqa: E402 - as above
from btcfi.vm.program import bare_program, load_program  # noqa: E402 - as above

PROGRAM = load_program("vanilla_option")
PROOF = prove(PROGRAM, bytes(60))
END = Slot(1_700_001_000)
WINDOWED = replace(
    PROOF,
    window=window_of(
        parse_fixing("twap:3"),
        Fixed(price=CentsPerBtc(1), used=((Slot(END - 60), CentsPerBtc(1)), (END, CentsPerBtc(1))),
              left_out=((Slot(END - 120), LeftOut.VOID),), end=END),
        rounding=PriceRounding.NEAREST,
    ),
)  # fmt: skip
"""A seed with a window; the input states no price, so it decodes and is refused by its window."""


def elf_file(data: bytes) -> None:
    """Load; what loads also runs, for a while."""
    try:
        elf.parse_elf(data)
        program = bare_program(data, name="fuzzed")
    except ElfError:
        return
    run_untraced(program, b"", max_steps=1000)


def proof_text(data: bytes) -> None:
    """Decode; what decodes is canonical, and is then checked."""
    try:
        proof = settlement_proof.from_json(data)
    except ProofError:
        return
    assert settlement_proof.to_json(proof).encode() == data
    check(proof)


def proof_message(data: bytes) -> None:
    """The same for the protobuf message."""
    try:
        proof = wire.from_wire(data)
    except ProofError:
        return
    assert wire.to_wire(proof) == data
    check(proof)


def proof_fields(data: bytes) -> None:
    """Change fields of a good proof and spell it canonically again: only what is still true may be verified."""
    take = atheris.FuzzedDataProvider(data)
    fields = json.loads(settlement_proof.to_json(PROOF))
    for _ in range(take.ConsumeIntInRange(1, 3)):
        key = take.PickValueInList(sorted(fields))
        old = fields[key]
        if isinstance(old, str) and take.ConsumeBool():
            place = take.ConsumeIntInRange(0, len(old))
            fields[key] = old[:place] + take.PickValueInList(["", "0", "f", "00", "é"]) + old[place + 1 :]
        elif isinstance(old, list) and old and take.ConsumeBool():
            place = take.ConsumeIntInRange(0, len(old) - 1)
            change = take.ConsumeIntInRange(0, 2)
            fields[key] = [*old[:place], *[old[-1]] * change, *old[place + 1 :]]
        else:
            number = take.ConsumeIntInRange(-(2**40), 2**40)
            fields[key] = take.PickValueInList([number, None, True, 1.5, [], {}, "", [number], {"a": number}])
    proof_text((json.dumps(fields, sort_keys=True, separators=(",", ":")) + "\n").encode())


def check(proof: settlement_proof.SettlementProof) -> None:
    try:
        settlement_proof.verify(proof, PROGRAM)
    except ProofError:
        return
    # re-execution left nothing to choose but the hint of a name
    assert proof.output == PROOF.output or proof.input_bytes != PROOF.input_bytes


TARGETS = {
    "elf": (elf_file, [(ROOT / "guest_programs" / n / f"{n}.elf").read_bytes() for n in ("vanilla_option",)]),
    "json": (proof_text, [settlement_proof.to_json(one).encode() for one in (PROOF, WINDOWED)]),
    "wire": (proof_message, [wire.to_wire(one) for one in (PROOF, WINDOWED)]),
    "fields": (proof_fields, [bytes(64)]),
}


def main() -> None:
    """Fuzz one target for a bounded time."""
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    if name not in TARGETS:
        sys.exit(f"usage: {sys.argv[0]} {{{','.join(TARGETS)}}} [seconds]")
    seconds = int(sys.argv[2]) if len(sys.argv) > 2 else 60
    target, seeds = TARGETS[name]
    folder = ROOT / "var" / "fuzz" / name
    folder.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds):
        (folder / f"seed-{number}").write_bytes(seed)
    options = [f"-max_total_time={seconds}", f"-max_len={2 * max(map(len, seeds))}", "-timeout=10"]
    options += [f"-seed={int(os.environ.get('BTCFI_TEST_SEED', '0')) % 2**31}"]  # 0: another one each time
    options += ["-rss_limit_mb=2048", f"-artifact_prefix={folder.parent}/{name}-", str(folder)]
    atheris.Setup([sys.argv[0], *options], target)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
