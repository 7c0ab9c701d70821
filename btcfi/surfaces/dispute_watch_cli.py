"""``btcfi dispute`` for those who are no party: check a set-up, and convict a false claim for a reward.

    either side:   dispute setup-file NAME --out setup.json          what was said, no secret in it
    a stranger:    dispute check-setup setup.json                    of a cut by hash (``accept --public-setup``)
    the holder:    dispute package NAME --reward-sats N --out package.json
    a stranger:    dispute watch-package package.json --pay-to ADDRESS [--every SECONDS]

A package needs the chain and itself: no keys, no coins of one's own. The reward pays what is sent.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import asdict
from math import ceil, log2
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from btcfi.adapters.chain.node import Node
from btcfi.adapters.dispute_tower import Seen, look
from btcfi.adapters.files import read_untrusted_json
from btcfi.adapters.party.dispute_files import DisputeFiles
from btcfi.adapters.party.dispute_packages import package_of, transcript_of
from btcfi.bitcoin.address import decode_address
from btcfi.bitcoin.fees import MAX_FEE_RATE, MIN_RELAY_FEE_RATE, SatsPerKvb
from btcfi.bitcoin.transaction import Transaction
from btcfi.contracts.messages import MAX_MESSAGE_BYTES
from btcfi.disputes.garbled import setup, transcript, watchtower
from btcfi.disputes.garbled.setup import Copies
from btcfi.disputes.garbled.transcript import Transcript
from btcfi.disputes.garbled.watchtower import Watch
from btcfi.errors import BtcfiError, InvalidInputError, NotFoundError, PreconditionError
from btcfi.surfaces.cli import Once
from btcfi.surfaces.party.side import NODE_TIMEOUT, Cookie, NodeUrl, Out, Side, command, say, write_message
from btcfi.units import display_txid, height, sats

if TYPE_CHECKING:
    from collections.abc import Iterator

CHAIN: Final = "regtest"

REWARD_SATS: Final = 20_000
"""Of a package: pays for its two transactions at up to 90 sat/vB."""

TRIES: Final = (0, 40, 60, 80)
"""Powers of two: after so many tries a cheat's chance is printed."""

app = typer.Typer(pretty_exceptions_enable=False, add_completion=False)

Name = Annotated[str, typer.Argument(help="The contract: its proposal's id, or how that begins.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]


# ---- set-ups


@command("setup-file", of=app, cls=Once)
def setup_file(name: Name, *, out: Out, side: Side) -> None:
    """Write all that was said until a contract's set-up stood, for others to check; there is no secret in it."""
    files = DisputeFiles(side.folder)
    found = _named(files, name)
    said = transcript_of(files, found)
    write_message(out, transcript.encode_transcript(said))
    say({"dispute": found, "public": said.acceptance.cut == setup.BY_HASH, "setup": out}, quiet=out == "-")


@command("check-setup", of=app, cls=Once)
def check_setup(
    file: Annotated[Path, typer.Argument(help="A set-up, or a package: it holds one.")], *, as_json: AsJson = False
) -> None:
    """Check a set-up as a stranger, who trusts neither side: a false claim of this contract can be convicted.

    Exit code 0: checked. 2: unreadable, cheated, or of a cut that no hash drew. 76: a message is not its sender's.
    """
    message = read_untrusted_json(file, at_most=MAX_MESSAGE_BYTES, what="set-up of a dispute", named=True)
    is_package = isinstance(message, dict) and message.get("type") == watchtower.PACKAGE
    said: Transcript = (
        watchtower.decode_package(message).setup if is_package else transcript.decode_transcript(message)
    )  # fmt: skip
    with _progress(len(setup.PARTS), quiet=as_json) as begins:
        checked = transcript.check_public(said, coins=secrets.token_bytes(32), begins=begins)
    terms, copies = checked.deal.terms, checked.deal.terms.copies
    row = {
        "contract_id": checked.deal.id.hex(), "checked": True, "claimant_identity": said.proposal.identity.hex(),
        "claim": terms.claim.name, "ranges": len(terms.claim.payouts), "oracles": len(terms.events[0]),
        "threshold": terms.threshold, "ands": terms.claim.circuit.ands, "copies": copies.count,
        "opened": copies.opened, "fault_point": checked.commitments.fault.hex(),
        "chance_to_cheat": [{"tries_log2": one, "chance_log2": _log2(copies, one)} for one in TRIES],
    }  # fmt: skip
    if as_json:
        typer.echo(json.dumps(row))
        return
    typer.echo(f"checked: {row['claim']}, {row['ranges']} ranges; {copies.opened} of {copies.count} copies opened")
    typer.echo(f"  contract {row['contract_id']}, claimed by {row['claimant_identity']}")
    for tries in TRIES:
        typer.echo(f"  who tried 2^{tries} times has cheated with a chance below 2^{_log2(copies, tries)}")


def _log2(copies: Copies, tries: int) -> float:
    chance = setup.chance_by_hash(copies, 1 << tries)
    return ceil(10 * (log2(chance.numerator) - log2(chance.denominator))) / 10  # up: it is a bound


# ---- packages


@command(of=app, cls=Once)
def package(
    name: Name,
    *,
    out: Out,
    reward_sats: Annotated[
        int, typer.Option("--reward-sats", help="Of what a false claim brings you, for who convicts it.", min=1)
    ] = REWARD_SATS,
    side: Side,
) -> None:
    """Write what lets anybody convict a false claim of a contract that you watch: no secret of yours is in it."""
    files = DisputeFiles(side.folder)
    found = _named(files, name)
    made, watch = package_of(files, found, side.opened(), reward=sats(reward_sats))
    write_message(out, watchtower.encode_package(made))
    unsigned, terms = _disproof(watch), watch.graph.terms
    pin = watchtower.highest_pin(unsigned, fee=terms.fee, script=terms.verifier.script)
    row = {
        "dispute": found, "package": out, "reward_sats": reward_sats, "pays_up_to_sat_per_kvb": _limit(watch),
        "outbids_a_pin_up_to_sat_per_kvb": pin,
    }  # fmt: skip
    say(row, quiet=out == "-")


@app.command("watch-package", cls=Once)
def watch_package(
    file: Annotated[Path, typer.Argument(help="A package, as the holder gave it.")],
    *,
    pay_to: Annotated[str, typer.Option("--pay-to", help="Your address: where the reward goes.")],
    node: NodeUrl = "http://127.0.0.1:18443",
    cookie_file: Cookie = None,
    rate: Annotated[
        int, typer.Option("--rate", help="What the pair pays, sat/kvB.", min=MIN_RELAY_FEE_RATE, max=MAX_FEE_RATE)
    ] = 5000,
    since: Annotated[
        int | None, typer.Option("--since", help="Read blocks above this one; default: the package's.", min=0)
    ] = None,
    every: Annotated[int, typer.Option("--every", help="Seconds between looks, to the end; 0: look once.", min=0)] = 0,
    as_json: AsJson = False,
) -> None:
    """Watch a contract of others by its package, and convict a false claim; the reward pays, and is yours."""
    message = read_untrusted_json(file, at_most=MAX_MESSAGE_BYTES, what="package of a dispute", named=True)
    given, script = watchtower.decode_package(message), decode_address(pay_to)
    chain = Node(node, NODE_TIMEOUT, cookie_file=cookie_file)
    if (found := chain.chain_info().chain) != CHAIN:
        raise PreconditionError("dispute", f"this node is on {found}", f"use one on {CHAIN}: it is not reviewed")
    with _progress(len(setup.PARTS) + len(watchtower.PARTS), quiet=as_json) as begins:
        watch = watchtower.check_package(given, coins=secrets.token_bytes(32), begins=begins)
    if rate > (limit := _limit(watch)):
        raise InvalidInputError("--rate", f"{rate} sat/kvB", f"at most {limit} sat/kvB: all that the reward pays")
    blocks = watch.since if since is None else height(since)
    while True:
        try:
            seen = look(chain, watch, script=script, rate=SatsPerKvb(rate), since=blocks)
        except BtcfiError as e:  # a node that restarts, a pair that does not get in yet: the next look tries again
            if not every:
                raise
            typer.echo(f"btcfi dispute: {e}", err=True)
        else:
            _say_seen(watch, seen, as_json=as_json)
            if not every or seen.position.stage.ended:
                return
        time.sleep(every)


def _say_seen(watch: Watch, seen: Seen, *, as_json: bool) -> None:
    here = seen.position
    row: dict[str, Any] = {
        "contract_id": watch.checked.deal.id.hex(), "stage": here.stage.value, "block": here.at, "range": here.number,
        "verdict": None if seen.verdict is None else seen.verdict.value,
        "sent": None, "reward_sats": None,
        "waiting_txid": None if seen.waiting is None else display_txid(seen.waiting),
        "clock": [asdict(one) | {"side": one.side.value} for one in seen.duties],
    }  # fmt: skip
    if seen.sent is not None:
        disproved, taken = seen.sent
        row["sent"] = [display_txid(disproved.txid), display_txid(taken.txid)]
        row["reward_sats"] = taken.outputs[0].value
    if as_json:
        typer.echo(json.dumps(row))
        return
    verdict = f"; the claim of range {here.number} is {row['verdict']}" if row["verdict"] else ""
    typer.echo(f"{row['contract_id'][:16]}  {row['stage']}{verdict}")
    if row["sent"]:
        typer.echo(f"  sent {row['sent'][0]}; {row['reward_sats']:,} sats are yours once a block holds it")
    if row["waiting_txid"]:
        typer.echo(f"  {row['waiting_txid']} waits in the pool already: somebody was faster")


def _limit(watch: Watch) -> int:
    terms = watch.graph.terms
    return watchtower.highest_rate(_disproof(watch), fee=terms.fee, script=terms.verifier.script)


def _disproof(watch: Watch) -> Transaction:
    """Return a disproof of the size that a signed one has."""
    return watchtower.disproof(watch.graph, watch.reward, 0, silent=False).with_witness(0, [bytes(64)])


# ----


def _named(files: DisputeFiles, name: str) -> str:
    found = [one for one in files.names() if name and one.startswith(name)]
    if len(found) != 1:
        raise NotFoundError("dispute", name[:16], "`btcfi dispute show` has ours")
    return found[0]


@contextmanager
def _progress(parts: int, *, quiet: bool) -> Iterator[Callable[[str], None]]:
    """Show on stderr which part is being checked."""
    if quiet:
        yield lambda _: None
        return
    with typer.progressbar(length=parts, label="checking", file=typer.get_text_stream("stderr")) as bar:
        begun = [0]

        def begins(what: str) -> None:
            bar.label = what
            bar.update(min(begun[0], 1))
            begun[0] += 1

        yield begins
        bar.update(1)
