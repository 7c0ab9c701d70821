"""``btcfi prove``, ``verify`` and ``trace``: what anybody can do with the library alone."""

# ruff: noqa: FBT002, PLR0917 - a command's options are its parameters
from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from btcfi.errors import InvalidInputError, NotFoundError
from btcfi.options.expiry import SettlementInput, SettlementOutput

app = typer.Typer(
    name="btcfi", help="Options on Bitcoin whose settlement anybody can check.", no_args_is_help=True,
    pretty_exceptions_enable=False, add_completion=False,
)  # fmt: skip

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
    as_json: AsJson = False,
) -> None:
    """Run a guest program on an input, and write a proof of what it did."""
    data = _input_bytes(input_file, hexadecimal)
    _announce_compilation()
    from btcfi.proofs.settlement_proof import build_proof, to_json  # noqa: PLC0415 - numba, only when needed
    from btcfi.vm.interpreter import run  # noqa: PLC0415 - as above
    from btcfi.vm.program import load_program  # noqa: PLC0415 - as above

    proof = build_proof(run(load_program(program, programs), data, max_steps=max_steps))
    text = to_json(proof)
    if str(out) == "-":
        typer.echo(text, nl=False)
        return
    out.write_text(text, encoding="ascii")
    said: dict[str, Any] = {"program": program, "steps": proof.steps, "proof_root": proof.proof_root.hex()}
    said |= {"output": proof.output.hex(), "result": _in_words(proof.output), "file": str(out)}
    _say(said, as_json=as_json)


@app.command()
def verify(
    proof_file: Annotated[Path, typer.Argument(help="A proof that `prove` wrote; - for stdin.")],
    depth: Annotated[
        str, typer.Option("--depth", help="execute (run it again), sample (single steps), or paths (hashes only).")
    ] = "execute",
    program: Annotated[
        str, typer.Option("--program", help="Guest program; default: the one that the proof names.")
    ] = "",
    programs: Programs = None,
    root: Annotated[
        str, typer.Option("--root", help="Also require this proof root (64 hex digits), as on chain.")
    ] = "",
    max_steps: Annotated[int, typer.Option("--max-steps", help="Refuse to run longer.", min=1)] = 1 << 24,
    as_json: AsJson = False,
) -> None:
    """Check a proof; exit 0 only if every check passes."""
    if depth not in ("execute", "sample", "paths"):
        raise InvalidInputError("--depth", repr(depth), "execute, sample or paths")
    raw = _read(proof_file)
    _announce_compilation()
    from btcfi.proofs.errors import ProofRootError  # noqa: PLC0415 - numba, only when needed
    from btcfi.proofs.settlement_proof import Depth, from_json  # noqa: PLC0415 - as above
    from btcfi.proofs.settlement_proof import verify as check  # noqa: PLC0415 - as above
    from btcfi.vm.program import load_program  # noqa: PLC0415 - as above

    proof = from_json(raw)
    if root and root.lower() != proof.proof_root.hex():
        raise ProofRootError(f"the proof's root is {proof.proof_root.hex()}, asked for {root}")
    verified = check(
        proof, load_program(program or proof.program_name, programs), depth=Depth(depth), max_steps=max_steps
    )
    said = {"verified": True, "program": verified.program_name, "steps": verified.steps, "depth": depth}
    said |= {"proof_root": verified.proof_root.hex(), "checks": list(verified.checks)}
    _say(said | {"output": verified.output.hex(), "result": _in_words(verified.output)}, as_json=as_json)


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
        fields = json.loads(raw)
        return SettlementInput(**fields).to_bytes()
    except (ValueError, RecursionError) as e:
        raise InvalidInputError(str(path), f"not JSON: {e}", "raw bytes or a JSON object") from e
    except TypeError as e:
        raise InvalidInputError(str(path), str(e), "the fields of SettlementInput, each once") from e


def _read(path: Path) -> bytes:
    if str(path) == "-":
        return sys.stdin.buffer.read()
    try:
        return path.read_bytes()
    except FileNotFoundError as e:
        raise NotFoundError("file", str(path)) from e


def _in_words(output: bytes) -> dict[str, Any] | None:
    """Return the settlement's result when ``output`` is one."""
    if len(output) != SettlementOutput.SIZE:
        return None
    result = SettlementOutput.from_bytes(output)
    return {
        "payout_cents": result.payout,
        "payout_sats": result.payout_sats,
        "exercise_type": result.exercise_type.name.lower(),
        "barrier_hit": result.barrier_hit,
        "profit_loss_cents": result.profit_loss,
        "error": result.error.name.lower(),
    }


def _say(fields: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(fields))
        return
    for name, value in fields.items():
        if isinstance(value, dict):
            typer.echo(f"{name}: " + ", ".join(f"{key} {one}" for key, one in value.items()))
        elif isinstance(value, list):
            for one in value:
                typer.echo(f"  ok  {one}")
        elif value is not None:
            typer.echo(f"{name}: {value}")


def _announce_compilation() -> None:
    """Say on stderr that the first run compiles, since it looks like a hang."""
    from btcfi.vm.warmup import compiled_before  # noqa: PLC0415 - imports numba's cache only

    if not compiled_before():
        typer.echo("btcfi: compiling the machine for this computer, once (a few seconds)", err=True)
