"""``btcfi backup`` and ``btcfi restore``: the whole deployment in one file, its keys under a passphrase."""

# ruff: noqa: PLC0415 - each command imports what it alone needs
from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from btcfi.errors import InvalidInputError, NotFoundError
from btcfi.units import UnixSeconds

if TYPE_CHECKING:
    from btcfi.adapters.store.backup import Written
    from settings.deployment import Deployment

PassphraseFile = Annotated[
    Path | None, typer.Option(help="File whose first line is the backup's passphrase; else it is asked for.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(backup)
    app.command()(restore)


def backup(
    file: Annotated[Path, typer.Argument(help="The file to write; it must not exist.")],
    *,
    passphrase_file: PassphraseFile = None,
    as_json: AsJson = False,
) -> None:
    """Write store, evidence, proofs and keys into one file, while everything runs. The keys are encrypted."""
    from btcfi.adapters.store.backup import write_backup
    from settings.deployment import load_deployment
    from workers.deployed import open_store

    if file.exists():
        raise InvalidInputError("FILE", f"{file} exists", "a file that does not: a backup overwrites nothing")
    deployment = load_deployment()
    passphrase = _passphrase(passphrase_file, confirm=True)
    store = open_store()
    written = write_backup(
        store, file, secret_files=secret_files(deployment), passphrase=passphrase, now=UnixSeconds(int(time.time()))
    )
    store.close()
    _say("backed up", file, written, as_json=as_json)


def restore(
    file: Annotated[Path, typer.Argument(help="A file that `btcfi backup` wrote.")],
    *,
    passphrase_file: PassphraseFile = None,
    as_json: AsJson = False,
) -> None:
    """Restore a backup into the deployment's empty data folder and database; then start it as usual.

    What was on its way is taken up by the reconciler; what the chain has settled since is found by walking it. Events
    that the oracles may have attested since the backup are held: `btcfi oracle held` lists them.
    """
    from btcfi.adapters.store.backup import read_backup
    from btcfi.adapters.store.spine.database import Store
    from settings.deployment import load_deployment
    from settings.preset import load_preset_by_hash

    deployment = load_deployment()
    passphrase = _passphrase(passphrase_file, confirm=False)
    deployment.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    store = Store(deployment.database_url)
    written = read_backup(
        file, store, secret_files=secret_files(deployment), passphrase=passphrase,
        rule_of=lambda sha256: load_preset_by_hash(sha256).consensus, now=UnixSeconds(int(time.time())),
    )  # fmt: skip
    store.close()
    _say("restored", file, written, as_json=as_json)


def secret_files(deployment: Deployment) -> dict[str, Path]:
    """Return the deployment's files that hold keys, by the name that they have in a backup."""
    return {
        "wallet.seed": deployment.wallet_seed_file,
        "oracles": deployment.oracle_keys_dir,
        "parties": deployment.parties_dir,
    }


def _passphrase(file: Path | None, *, confirm: bool) -> str:
    if file is None:
        return str(typer.prompt("Passphrase of the backup", hide_input=True, confirmation_prompt=confirm, err=True))
    try:
        lines = file.read_text().splitlines()
    except OSError as e:
        raise NotFoundError("passphrase file", str(file)) from e
    return lines[0] if lines else ""


def _say(what: str, file: Path, written: Written, *, as_json: bool) -> None:
    facts: dict[str, Any] = {
        "file": str(file), "bytes": file.stat().st_size, "rows": dict(written.rows), "key_files": written.files,
        "taken_at_unix": written.taken_at_unix, "held_events": list(written.held),
    }  # fmt: skip
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
