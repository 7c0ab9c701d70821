"""``btcfi backup``: the whole deployment in one file, its keys under a passphrase; ``btcfi restore`` reads it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from btcfi.adapters.store.backup import Written, write_backup
from btcfi.errors import InvalidInputError, NotFoundError
from settings.deployment import Deployment, load_deployment
from workers.deployed import open_store

PassphraseFile = Annotated[
    Path | None, typer.Option(help="File whose first line is the backup's passphrase; else it is asked for.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]


def backup(
    file: Annotated[Path, typer.Argument(help="The file to write; it must not exist.")],
    *,
    passphrase_file: PassphraseFile = None,
    as_json: AsJson = False,
) -> None:
    """Write store, evidence, proofs and keys into one file, while everything runs. All of it is encrypted."""
    if file.exists() or file.is_symlink():
        raise InvalidInputError("FILE", f"{file} exists", "a file that does not: a backup overwrites nothing")
    deployment = load_deployment()
    passphrase = passphrase_of(passphrase_file, confirm=True)
    store = open_store()
    written = write_backup(store, file, secret_files=secret_files(deployment), passphrase=passphrase, now=store.now())
    store.close()
    say("backed up", file, written, as_json=as_json)


def secret_files(deployment: Deployment) -> dict[str, Path]:
    """Return the deployment's files that hold keys, by the name that they have in a backup."""
    return {
        "wallet.seed": deployment.wallet_seed_file,
        "desk.key": deployment.desk_key_file,
        "oracles": deployment.data_dir / "oracles",
        "nodes": deployment.nodes_dir,
        "parties": deployment.parties_dir,
    }


def passphrase_of(file: Path | None, *, confirm: bool) -> str:
    """Return the passphrase of its file, or as it is typed. Raises NotFoundError."""
    if file is None:
        return str(typer.prompt("Passphrase of the backup", hide_input=True, confirmation_prompt=confirm, err=True))
    try:
        lines = file.read_text().splitlines()
    except OSError as e:
        raise NotFoundError("passphrase file", str(file)) from e
    return lines[0] if lines else ""


def say(what: str, file: Path, written: Written, *, as_json: bool) -> None:
    """Print what is in the file, what a restored deployment has to decide, and what nobody vouches for."""
    facts: dict[str, Any] = {
        "file": str(file), "bytes": file.stat().st_size, "rows": dict(written.rows), "key_files": written.files,
        "taken_at_unix": written.taken_at_unix, "held_events": list(written.held), "warnings": list(written.warnings),
    }  # fmt: skip
    for warning in written.warnings:
        typer.echo(f"warning: {warning}", err=True)
    if as_json:
        typer.echo(json.dumps(facts))
        return
    typer.echo(
        f"{what}: {written.total:,} rows of {len(written.rows)} tables and {written.files} key files, "
        f"{facts['bytes']:,} bytes in {file}"
    )
    if written.held:
        typer.echo(
            f"{len(written.held)} events are held: the oracles may have attested them after the backup. "
            "Next: `btcfi oracle held`"
        )
