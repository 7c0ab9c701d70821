"""``btcfi prove``, ``verify`` and ``trace``: what anybody can do with the library alone."""

# ruff: noqa: FBT002, PLR0917 - a command's options are its parameters
from __future__ import annotations

import json
import re
import sys
from dataclasses import MISSING
from dataclasses import fields as fields_of
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Optional

import typer

from btcfi.adapters.files import (
    read_untrusted,
    write_named,
)
from btcfi.documents import parse_json
from btcfi.errors import InvalidInputError, NotFoundError
from btcfi.options.expiry import SettlementInput, SettlementOutput

if TYPE_CHECKING:
    from btcfi.oracle.report import RoundReport
    from btcfi.proofs.memory_table import TableProof
    from btcfi.proofs.settlement_proof import Inspected, SettlementProof
    from btcfi.units import Hash32
    from btcfi.vm import program as vm_program

app = typer.Typer(
    name="btcfi", help="Options on Bitcoin whose settlement anybody can check.", no_args_is_help=True,
    pretty_exceptions_enable=False, add_completion=False,
)  # fmt: skip

NO_VERDICT = 80
"""Exit code of `verify` below full re-execution: nothing failed, and nothing was verified."""

_LARGEST_FILE = 16 << 20
"""The loader takes ELF files up to 16 MiB; proofs are smaller."""

Program = Annotated[str, typer.Option("--program", help="Guest program, by its name in the manifest.")]
Programs = Annotated[
    Optional[Path],  # noqa: UP045 - typer reads it at run time
    typer.Option("--programs", help="Folder with a manifest.toml; default: the committed programs."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]


@app.command()
def prove(
    out: Annotated[Path, typer.Option("--out", help="Where to write the proof; - for stdout.")],
    input_file: Annotated[
        Optional[Path],  # noqa: UP045 - typer reads it at run time
        typer.Option("--input", help="Input: the raw bytes, or JSON with the fields of SettlementInput."),
    ] = None,
    hexadecimal: Annotated[str, typer.Option("--hex", help="Input as hex instead of a file.")] = "",
    program: Program = "option_settlement",
    programs: Programs = None,
    max_steps: Annotated[int, typer.Option("--max-steps", help="Refuse a longer run.", min=1)] = 1 << 24,
    trace_format: Annotated[
        int, typer.Option("--trace-format", help="2: with a table of memory, for looks at steps.", min=1, max=2)
    ] = 1,
    samples: Annotated[
        Optional[int],  # noqa: UP045 - typer reads it at run time
        typer.Option("--samples", help="With --trace-format 2: how many steps the root picks; default: 16.", min=1),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Run a guest program on an input, and write a proof of what it did."""
    data = _input_bytes(input_file, hexadecimal)
    if samples is not None and trace_format == 1:
        raise InvalidInputError("--samples", "without --trace-format 2", "both: trace format 1 opens 16")
    _announce_compilation()
    from btcfi.proofs.settlement_proof import SAMPLES, to_json  # noqa: PLC0415 - numba, only when needed
    from btcfi.proofs.subtrees import prove as build  # noqa: PLC0415 - as above
    from btcfi.proofs.table_file import prove_with_table, table_to_json  # noqa: PLC0415 - as above
    from btcfi.vm.program import load_program  # noqa: PLC0415 - as above

    loaded = load_program(program, programs)
    proof: SettlementProof | TableProof
    if trace_format == 1:
        proof = build(loaded, data, max_steps=max_steps)
        text = to_json(proof)
    else:
        proof = prove_with_table(loaded, data, samples=samples or SAMPLES, max_steps=max_steps)
        text = table_to_json(proof)
    if str(out) == "-":
        typer.echo(text, nl=False)
        return
    write_named(out, text)
    said: dict[str, Any] = {"program": program, "steps": proof.steps, "proof_root": proof.proof_root.hex()}
    said |= {"output": proof.output.hex(), "result": _in_words(proof.program_hash, proof.output), "file": str(out)}
    _say(said, as_json=as_json)


@app.command()
def verify(
    proof_file: Annotated[Path, typer.Argument(help="A proof that `prove` wrote; - for stdin.")],
    depth: Annotated[
        str,
        typer.Option("--depth", help="execute (run it again); sample (steps) and paths (hashes) verify nothing."),
    ] = "execute",
    program: Annotated[
        str, typer.Option("--program", help="Guest program; default: the one that the proof names.")
    ] = "",
    programs: Programs = None,
    root: Annotated[
        str, typer.Option("--root", help="Also require this proof root (64 hex digits), as on chain.")
    ] = "",
    announcement: Annotated[
        Optional[Path],  # noqa: UP045 - typer reads it at run time
        typer.Option("--announcement", help="An oracle's: the proof's window must be what it announced."),
    ] = None,
    reports: Annotated[
        Optional[Path],  # noqa: UP045 - typer reads it at run time
        typer.Option("--reports", help="A folder of minutes' reports, or of `anchor prove --price`: held against it."),
    ] = None,
    payment: Annotated[
        Optional[Path],  # noqa: UP045 - typer reads it at run time
        typer.Option("--payment", help="The settlement's transaction as your node has it, hex: says what it paid."),
    ] = None,
    paid_to: Annotated[str, typer.Option("--paid-to", help="With --payment: the buyer's script, hex.")] = "",
    max_steps: Annotated[int, typer.Option("--max-steps", help="Refuse to run longer.", min=1)] = 1 << 24,
    as_json: AsJson = False,
) -> None:
    """Run a proof's program again; exit 0 only if all is the same, 76 if a check fails (--json: named on stdout too).

    The depths sample and paths find some forgeries and give no verdict: where nothing fails, exit 80.
    """
    if depth not in ("execute", "sample", "paths"):
        raise InvalidInputError("--depth", repr(depth), "execute, sample or paths")
    if root and not re.fullmatch("[0-9a-fA-F]{64}", root):
        raise InvalidInputError("--root", repr(root), "64 hexadecimal digits")
    raw, paid = _read(proof_file), _paid(payment, paid_to)
    _announce_compilation()
    from btcfi.proofs.errors import ProofError, ProofRootError  # noqa: PLC0415 - numba, only when needed
    from btcfi.proofs.settlement_proof import Depth, Inspected  # noqa: PLC0415 - as above
    from btcfi.proofs.table_file import examine_any, proof_in  # noqa: PLC0415 - as above
    from btcfi.vm.program import load_program  # noqa: PLC0415 - as above

    try:
        proof = proof_in(raw)
        if root and root.lower() != proof.proof_root.hex():
            raise ProofRootError(f"the proof's root is {proof.proof_root.hex()}, asked for {root}")
        asked = load_program(program, programs) if program else _program_of(proof, programs)
        found = examine_any(proof, asked, depth=Depth(depth), max_steps=max_steps)
        beside = _beside(proof, announcement, reports)
    except ProofError as e:
        if as_json:
            _say({"verified": False, "failed_check": e.check, "problem": e.problem}, as_json=True)
        raise
    checks = [*found.checks, *beside]
    if isinstance(found, Inspected):
        seen = _inspected(proof.program_hash, found, checks) | paid
        if not as_json:
            del seen["steps_checked"]  # which stand in the words
        _say(seen, as_json=as_json, mark="  -  ")  # no "ok" where nothing is verified
        raise typer.Exit(NO_VERDICT)
    said = {"verified": True, "program": found.program_name, "steps": found.steps, "depth": depth}
    said |= {"proof_root": found.proof_root.hex(), "checks": checks}
    _say(
        said | {"output": found.output.hex(), "result": _in_words(proof.program_hash, found.output)} | paid,
        as_json=as_json,
    )


def _inspected(program_hash: Hash32, found: Inspected, checks: list[str]) -> dict[str, Any]:
    """Return what is said of a proof that was not run again: other names for its numbers, so none reads as found."""
    said: dict[str, Any] = {"verified": None, "no_verdict": found.words, "depth": str(found.depth)}
    said |= {"program": found.program_name, "claimed_steps": found.claimed_steps}
    said |= {"proof_root": found.proof_root.hex(), "checks": checks, "steps_checked": list(found.steps_checked)}
    said |= {"chance_to_miss": found.chance_to_miss, "claimed_output": found.claimed_output.hex()}
    return said | {"claimed_result": _in_words(program_hash, found.claimed_output)}


def _paid(payment: Path | None, paid_to: str) -> dict[str, Any]:
    """Return what a payment's outputs give to one script; a proof says what was computed, and only a chain this."""
    if payment is None:
        if paid_to:
            raise InvalidInputError("--paid-to", "without --payment", "the settlement's transaction beside it")
        return {}
    from btcfi.bitcoin.transaction import parse_transaction  # noqa: PLC0415 - for `verify --payment` alone
    from btcfi.records import hexadecimal  # noqa: PLC0415 - as above
    from btcfi.units import display_txid  # noqa: PLC0415 - as above

    script = hexadecimal().read(paid_to, "--paid-to")
    if not script:
        raise InvalidInputError("--paid-to", "missing", "the buyer's script, as hex")
    try:
        transaction = parse_transaction(bytes.fromhex(_read(payment).decode("ascii").strip()))
    except ValueError as e:
        raise InvalidInputError("--payment", "is no hex", "what `bitcoin-cli getrawtransaction TXID` prints") from e
    sats = sum(output.value for output in transaction.outputs if output.script == script)
    return {"paid": {"paid_sats": sats, "txid": display_txid(transaction.txid)}}


def _beside(proof: SettlementProof | TableProof, announcement: Path | None, reports: Path | None) -> list[str]:
    """Hold a proof's window against what its reader has from elsewhere; say that in words. Raises ProofWindowError."""
    if announcement is None and reports is None:
        return []
    from btcfi.contracts.messages import decode_announcement  # noqa: PLC0415 - for this alone
    from btcfi.oracle.announcement import check_announcement  # noqa: PLC0415 - as above
    from btcfi.proofs.errors import ProofWindowError  # noqa: PLC0415 - numba, only when needed
    from btcfi.proofs.window import check_announced, check_reports  # noqa: PLC0415 - as above

    if proof.window is None:
        raise ProofWindowError(f"there is none: a proof of version {proof.version} says one price and not whence it is")
    said = []
    if announcement is not None:
        made = decode_announcement(parse_json(_read(announcement), "announcement"))
        check_announcement(made, expected=made.event)
        # the proof's check has read the input as a settlement's
        early = SettlementInput.from_bytes(proof.input_bytes).time_to_expiry
        said.append(check_announced(proof.window, made.event, proof.program_hash, early=early))
    if reports is not None:
        known = _reports(reports)
        if not {one.outcome.slot for one in known.values()} & {minute.slot for minute in proof.window.minutes}:
            raise InvalidInputError(
                "--reports", f"{reports} has no report of the window's minutes", "theirs, as JSON files"
            )
        said.append(check_reports(proof.window, known))
    return said


def _reports(folder: Path) -> dict[Hash32, RoundReport]:
    """Return the reports in a folder's JSON files by their hashes: bare ones, and those that an anchor's file holds."""
    from btcfi.oracle.report import decode_report, report_hash  # noqa: PLC0415 - for `verify --reports` alone

    if not folder.is_dir():
        raise NotFoundError("folder of reports", str(folder))
    found = {}
    for path in sorted(folder.glob("*.json")):
        message = parse_json(_read(path), path.name)
        subject = message.get("subject", message) if isinstance(message, dict) else {}
        report = decode_report(subject.get("report", message) if isinstance(subject, dict) else message)
        found[report_hash(report)] = report
    return found


def _program_of(proof: SettlementProof | TableProof, programs: Path | None) -> vm_program.Program:
    from btcfi.vm.program import program_of_proof  # noqa: PLC0415 - numpy, only when needed

    return program_of_proof(proof.program_name, proof.program_hash, programs)


trace_app = typer.Typer(help="Look into a proof's execution.", no_args_is_help=True)
app.add_typer(trace_app, name="trace")


@trace_app.command("show")
def trace_show(
    proof_file: Annotated[Path, typer.Argument(help="A proof that `prove` wrote.")],
    step: Annotated[Optional[int], typer.Option("--step", help="Step to show; default: the last.", min=0)] = None,  # noqa: UP045 - typer reads it at run time
    around: Annotated[int, typer.Option("--around", help="Steps before and after it.", min=0, max=1000)] = 5,
    programs: Programs = None,
    as_json: AsJson = False,
) -> None:
    """Print the instructions around a step with what each changed, and how the payout came about."""
    raw = _read(proof_file)
    _announce_compilation()
    from btcfi.proofs.explain import lines_around, payout_in_words  # noqa: PLC0415 - numba, only when needed
    from btcfi.proofs.settlement_proof import Depth  # noqa: PLC0415 - as above
    from btcfi.proofs.table_file import examine_any, proof_in  # noqa: PLC0415 - as above
    from btcfi.proofs.window import window_in_words  # noqa: PLC0415 - as above

    proof = proof_in(raw)
    program = _program_of(proof, programs)
    examine_any(proof, program, depth=Depth.EXECUTE)
    at = proof.steps - 1 if step is None else step
    if at >= proof.steps:
        raise InvalidInputError("--step", str(step), f"0 to {proof.steps - 1}")
    lines = lines_around(program, proof.input_bytes, at=at, around=around)
    words = payout_in_words(proof.program_hash, proof.input_bytes, proof.output)
    if words and proof.window is not None:
        words = f"{words} {window_in_words(proof.window)}"
    if as_json:
        keys = ("step", "pc", "instruction", "function", "changes")
        rows = [(line.step.index, f"0x{line.step.pc:08x}", line.text, line.function, line.changes) for line in lines]
        said = {"at": at, "steps": [dict(zip(keys, row, strict=True)) for row in rows], "in_words": words}
        _say(said, as_json=True)
        return
    function = ""
    for line in lines:
        if line.function != function:
            function = line.function
            typer.echo(f"{function or '(no symbol)'}:")
        mark = ">" if line.step.index == at else " "
        typer.echo(f"{mark}{line.step.index:>8}  {line.step.pc:08x}  {line.text:<28}  {line.changes}".rstrip())
    if words:
        typer.echo(words)


@trace_app.command("diff")
def trace_diff(
    left: Annotated[Path, typer.Argument(help="A proof.")],
    right: Annotated[Path, typer.Argument(help="Another proof.")],
    programs: Programs = None,
    as_json: AsJson = False,
) -> None:
    """Find the first step where two executions part, by bisection over their trees, and show both sides."""
    raws = _read(left), _read(right)
    _announce_compilation()
    from btcfi.proofs.explain import diff_runs  # noqa: PLC0415 - numba, only when needed
    from btcfi.proofs.settlement_proof import from_json  # noqa: PLC0415 - as above

    proofs = [from_json(raw) for raw in raws]
    found = diff_runs(*((_program_of(proof, programs), proof) for proof in proofs))
    if found is None:
        _say({"same": True, "steps": proofs[0].steps}, as_json=as_json)
        return
    said: dict[str, Any] = {"same": False, "first_different_step": found.step, "levels_asked": found.levels_asked}
    for name, lines in (("left", found.left), ("right", found.right)):
        said[name] = [f"{line.step.index:>8}  {line.step.pc:08x}  {line.text:<28}  {line.changes}" for line in lines]
    said["registers_that_differ"] = found.differing
    _say(said, as_json=as_json, mark="")


guest_app = typer.Typer(help="Write, build, run and check guest programs.", no_args_is_help=True)
app.add_typer(guest_app, name="guest")

Root = Annotated[Path, typer.Option("--root", help="Folder with a manifest.toml and a folder a program.")]
_HERE = Path()


@guest_app.command("new")
def guest_new(
    name: Annotated[str, typer.Argument(help="A lower-case C identifier.")], root: Root = _HERE, as_json: AsJson = False
) -> None:
    """Start a program from the template: a C file, its Python twin, a manifest row."""
    from guest_programs.new import new_program  # noqa: PLC0415 - the tool chain, only when needed

    _say({"wrote": [str(path) for path in new_program(name, root)]}, as_json=as_json, mark="")


@guest_app.command("build")
def guest_build(
    name: Annotated[str, typer.Argument(help="The program's name.")], root: Root = _HERE, as_json: AsJson = False
) -> None:
    """Compile a program with the pinned compiler and write its hashes into the manifest."""
    from guest_programs.new import build_program  # noqa: PLC0415 - the tool chain, only when needed

    row = build_program(name, root)
    _say({"file": row["path"], "program_hash": row["image_sha256"], "elf_sha256": row["elf_sha256"]}, as_json=as_json)


@guest_app.command("run")
def guest_run(
    program: Annotated[str, typer.Argument(help="A program's name, or the path of any RV32IM ELF file.")],
    input_file: Annotated[Optional[Path], typer.Option("--input", help="As for `prove`.")] = None,  # noqa: UP045 - typer reads it at run time
    hexadecimal: Annotated[str, typer.Option("--hex", help="Input as hex.")] = "",
    root: Annotated[Optional[Path], typer.Option("--root", help="Folder of the manifest.")] = None,  # noqa: UP045 - as above
    ram: Annotated[str, typer.Option("--ram", help="For an ELF file: further memory, as 0x80000000:65536.")] = "",
    signature: Annotated[
        Optional[Path],  # noqa: UP045 - typer reads it at run time
        typer.Option("--signature", help="Write the words from begin_signature to end_signature to a file."),
    ] = None,
    max_steps: Annotated[int, typer.Option("--max-steps", help="Refuse a longer run.", min=1)] = 1 << 24,
    as_json: AsJson = False,
) -> None:
    """Run a program on both executors and print steps, output and registers."""
    _announce_compilation()
    from btcfi.vm.agreement import Emulator, execute  # noqa: PLC0415 - Unicorn, only when needed
    from btcfi.vm.isa import REGISTER_NAMES  # noqa: PLC0415 - as above
    from btcfi.vm.program import any_program, bare_program, load_program  # noqa: PLC0415 - as above

    path = Path(program)
    given = input_file is not None or bool(hexadecimal)
    data = _input_bytes(input_file, hexadecimal) if given else b""
    if ram:
        loaded = bare_program(_read(path), name=path.name, ram=_base_and_size(ram))
    elif path.suffix or "/" in program or (root is None and path.is_file()):
        loaded = any_program(_read(path), name=path.name)
    else:
        loaded = load_program(program, root)
    execution = execute(loaded, Emulator(loaded), data, max_steps=max_steps)
    if signature is not None:
        from btcfi.vm.interpreter import signature_of  # noqa: PLC0415 - as above

        words = signature_of(loaded, data, max_steps=max_steps)
        write_named(signature, "".join(f"{word:08x}\n" for word in words))
    registers = zip(REGISTER_NAMES, execution.final_registers, strict=True)
    said: dict[str, Any] = {"program": loaded.name, "program_hash": loaded.program_hash.hex(), "steps": execution.steps}
    said |= {"output": execution.output.hex(), "result": _in_words(execution.program_hash, execution.output)}
    _say(said | {"registers": {name: f"0x{value:08x}" for name, value in registers if value}}, as_json=as_json)


@guest_app.command("check")
def guest_check(
    name: Annotated[str, typer.Argument(help="The program's name.")],
    root: Root = _HERE,
    without_twin: Annotated[bool, typer.Option("--without-twin", help="Check one that has no twin.py.")] = False,
    branching_payoff: Annotated[
        bool, typer.Option("--branching-payoff", help="Accept a payoff that branches: no dispute can replay it.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Attack a program: rebuild, twin, edges and one-field variations, appended bytes, memory, coverage, branches."""
    _announce_compilation()
    from guest_programs.check import check_program  # noqa: PLC0415 - the tool chain, only when needed

    checked = check_program(name, root, without_twin=without_twin, branching_payoff=branching_payoff)
    _say({"program": name, "checks": list(checked.checks)}, as_json=as_json)


def _input_bytes(path: Path | None, hexadecimal: str) -> bytes:
    if (path is None) == (not hexadecimal):
        raise InvalidInputError("input", "neither or both of --input and --hex are given", "one of them")
    if path is None:
        try:
            return bytes.fromhex(hexadecimal)
        except ValueError as e:
            raise InvalidInputError("--hex", str(e), "pairs of hexadecimal digits") from e
    raw = _read(path)
    if raw.lstrip()[:1] != b"{":
        return raw
    try:
        given: dict[str, Any] = parse_json(raw, "input")
    except InvalidInputError as e:
        raise InvalidInputError(str(path), e.problem, "raw bytes or a JSON object") from e
    for name in given:
        if name not in _INPUT_FIELDS:
            raise InvalidInputError(f"{path}, {name}", "unknown", f"one of {', '.join(_INPUT_FIELDS)}")
    for name, needed in _INPUT_FIELDS.items():
        if needed and name not in given:
            raise InvalidInputError(f"{path}, {name}", "missing", "every field but abi_version")
    return SettlementInput(**given).to_bytes()


_INPUT_FIELDS = {one.name: one.default is MISSING for one in fields_of(SettlementInput)}
"""Name -> whether it must be given."""


def _base_and_size(text: str) -> tuple[int, int]:
    try:
        base, size = (int(part, 0) for part in text.split(":"))
    except ValueError as e:
        raise InvalidInputError("--ram", repr(text), "BASE:SIZE, for example 0x80000000:65536") from e
    return base, size


def _read(path: Path) -> bytes:
    """Return the file's bytes. Raises NotFoundError, and InvalidInputError for more than any of our files has."""
    if str(path) == "-":
        data = sys.stdin.buffer.read(_LARGEST_FILE + 1)
    else:
        return read_untrusted(path, at_most=_LARGEST_FILE, what="file", named=True)
    if len(data) > _LARGEST_FILE:
        raise InvalidInputError(str(path), f"more than {_LARGEST_FILE} bytes", "a smaller file")
    return data


def _in_words(program_hash: bytes, output: bytes) -> dict[str, Any] | None:
    """Return what the output says, by the program that wrote it; None of a program that we do not know."""
    from btcfi.proofs.explain import settles_one_option  # noqa: PLC0415 - numba, only when needed
    from btcfi.vm.program import hashes_of  # noqa: PLC0415 - numpy, only when needed

    try:
        if program_hash in hashes_of(_BOOK):
            return _book_in_words(output)
        if not settles_one_option(program_hash):
            return None
        result = SettlementOutput.from_bytes(output)
    except InvalidInputError:
        return None  # no output of that program: a proof of another run, which `verify` refuses
    return {
        "payout_cents": result.payout,
        "payout_sats": result.payout_sats,
        "exercise_type": result.exercise_type.name.lower(),
        "barrier_hit": result.barrier_hit,
        "profit_loss_cents": result.profit_loss,
        "error": result.error.name.lower(),
    }


_BOOK: Final = "net_book"


def _book_in_words(output: bytes) -> dict[str, Any]:
    from btcfi.payoffs.book_guest import BookOutput  # noqa: PLC0415 - numpy, only when needed

    book = BookOutput.from_bytes(output)
    said = {"payout_sats": book.payout, "net_sats": book.net, "settled_at_cents": book.settled_at}
    return said | {"barrier_hit": book.barrier_hit, "error": book.error.name.lower()}


def _say(fields: dict[str, Any], *, as_json: bool, mark: str = "  ok  ") -> None:
    if as_json:
        typer.echo(json.dumps(fields))
        return
    for name, value in fields.items():
        if isinstance(value, dict):
            typer.echo(f"{name}: " + ", ".join(f"{key} {one}" for key, one in value.items()))
        elif isinstance(value, list):
            if not mark:
                typer.echo(f"{name}:")
            for one in value:
                typer.echo(f"{mark}{one}")
        elif value is not None:
            typer.echo(f"{name}: {value}")


def _announce_compilation() -> None:
    """Say on stderr that the first run compiles, since it looks like a hang."""
    from btcfi.vm.warmup import compiled_before  # noqa: PLC0415 - imports numba's cache only

    if not compiled_before():
        typer.echo("btcfi: compiling the machine for this computer, once (a few seconds)", err=True)
