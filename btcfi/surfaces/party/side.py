"""What every command of a party shares: whose side it takes, and how messages and answers go in and out."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import wraps
from inspect import Parameter, signature
from pathlib import Path
from typing import Annotated, Any, Final, get_type_hints

import typer
from typer.core import TyperCommand

from btcfi.adapters.chain.node import Node
from btcfi.adapters.files import (
    read_untrusted,
    read_untrusted_json,
    replace_named,
    write_private,
)
from btcfi.adapters.keystore import Keystore, open_keystore
from btcfi.adapters.party.desk import PartyDesk
from btcfi.adapters.party.guest import Guest
from btcfi.adapters.party.store import PartyStore
from btcfi.bitcoin.fees import FeeRule
from btcfi.contracts.messages import MAX_MESSAGE_BYTES, decode_accept, decode_offer
from btcfi.contracts.summary import CloseSummary, Summary
from btcfi.documents import parse_json
from btcfi.errors import ConflictError, InvalidInputError, NotFoundError, UnreachableError
from btcfi.oracle.dlc_messages import tlv_in
from btcfi.payoffs.book_deal import BookSummary
from btcfi.vm.program import load_program

HTTP_TIMEOUT: Final = 30.0
HTTP_WHOLE: Final = 300.0
NODE_TIMEOUT: Final = 60.0
"""Seconds."""

PROGRAM: Final = "option_settlement"

_PSBT: Final = b"cHNidP"
"""How the base64 of every PSBT begins."""

HASH_SIZE: Final = 32
"""Bytes of a contract's name."""


def is_message(value: object) -> bool:
    """Return whether JSON may be one of our messages or an option's terms: no keystore, and no contract as kept."""
    if not isinstance(value, dict):
        return False
    kind = value.get("type")
    if isinstance(kind, str):
        return kind.startswith("btcfi/") and kind != "btcfi/keystore"
    return "oracle_key" in value or "strike_cents" in value


def place(target: Any) -> Any:  # noqa: ANN401 - a path or its text, as the option has it
    """Return where an answer goes, looked at before anything is signed. Raises InvalidInputError.

    A file that is there is written over when it is a message or a PSBT: not a key, not what a party remembers.
    """
    text = str(target)
    if text in ("", "-") or _is_url(text):
        return target
    path = Path(text)
    if not path.parent.is_dir():
        raise InvalidInputError("--out", f"there is no folder {path.parent}", "a folder that is there; make it first")
    if path.is_dir():
        raise InvalidInputError("--out", f"{path} is a folder", "the name of a file in it")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise InvalidInputError("--out", f"{path} cannot be written by you", "a place of your own")
    if path.is_file() and not _may_be_replaced(path):
        raise InvalidInputError("--out", f"{path} is there and is no message", "another name; nothing was overwritten")
    return target


def _may_be_replaced(path: Path) -> bool:
    with path.open("rb") as file:
        raw = file.read(MAX_MESSAGE_BYTES + 1)
    try:
        known = raw.startswith(_PSBT) or tlv_in(raw) is not None
        return not raw or known or is_message(parse_json(raw, "message"))
    except InvalidInputError:
        return False


app = typer.Typer(
    name="party", help="One side of an option contract, with its own keys.", no_args_is_help=True,
    pretty_exceptions_enable=False, add_completion=False,
)  # fmt: skip

Folder = Annotated[Path, typer.Option("--dir", help="The party's folder: keystore, contracts, coins.")]
NodeUrl = Annotated[str, typer.Option("--node", envvar="BITCOIN_NODE_URL", help="http://user:password@host:port")]
Cookie = Annotated[
    Path | None,
    typer.Option("--cookie-file", envvar="BITCOIN_COOKIE_FILE", help="The node's .cookie file, instead of a password."),
]
Passphrase = Annotated[
    Path | None,
    typer.Option(
        "--passphrase-file",
        envvar="BTCFI_PARTY_PASSPHRASE_FILE",
        help="File whose first line is the passphrase; else it is asked for.",
    ),
]
Out = Annotated[str, typer.Option("--out", help="Where the message goes: a file, - or an http(s) URL.", callback=place)]
Contract = Annotated[
    str, typer.Argument(help="The contract: its name in `party status`, or the file of its offer or accept message.")
]
Coins = Annotated[
    list[str] | None,
    typer.Option("--coin", help="TXID:VOUT of an outside wallet's coin, instead of this wallet's; repeat."),
]
PayTo = Annotated[
    str, typer.Option("--pay-to", help="With --coin: the outside wallet's address for payout, premium and change.")
]
Announcements = Annotated[
    list[Path], typer.Option("--announcement", help="An oracle's announcement, as you got it from the oracle; repeat.")
]
RefundDelay = Annotated[int | None, typer.Option("--min-refund-delay", hidden=True)]
IdentityPassphrase = Annotated[
    Path | None,
    typer.Option("--identity-passphrase-file", help="As --passphrase-file, for your identity; default: the same one."),
]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask: what is shown is wanted.")]

Shown = Summary | CloseSummary | BookSummary


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """Whose side a command takes: the options that every command has."""

    folder: Folder = Path("party")
    node: NodeUrl = "http://127.0.0.1:18443"
    cookie_file: Cookie = None
    passphrase_file: Passphrase = None
    min_refund_delay: RefundDelay = None

    @property
    def store(self) -> PartyStore:
        """The party's folder."""
        return PartyStore(self.folder)

    def chain(self) -> Node:
        """Return a connection to the party's node."""
        return Node(self.node, NODE_TIMEOUT, cookie_file=self.cookie_file)

    def opened(self) -> Keystore:
        """Return the party's keystore, opened with the passphrase."""
        return open_keystore(self.store.keystore_path, passphrase_of(self.passphrase_file))

    def desk(
        self, *, guest: Guest | None = None, show: Callable[[Shown], None] = lambda _: None,
        keystore: Keystore | None = None,
    ) -> PartyDesk:  # fmt: skip
        """Return the party's desk, its keystore opened with the passphrase.

        guest: who runs it; default, we do. show: sees what is about to be signed, and refuses by raising. keystore:
        opened already.
        """
        if self.min_refund_delay is not None:
            typer.echo(
                "btcfi party: --min-refund-delay does nothing: the mandate says it, refund_delay_blocks", err=True
            )
        keystore = keystore or self.opened()
        guest = guest or Guest(load_program(PROGRAM))
        return PartyDesk(self.store, keystore, self.chain(), guest, fees=FeeRule(), show=show)


def contract_name(text: str) -> str:
    """Return the name of a contract: as it is, or of the file of an offer or an accept message."""
    if len(text) == 2 * HASH_SIZE and set(text) <= set("0123456789abcdef"):
        return text
    message = read_message(text)
    if isinstance(message, dict) and message.get("type") == "btcfi/accept":
        return decode_accept(message).offer_id.hex()
    return decode_offer(message).id.hex()


def command(
    name: str | None = None, *, of: typer.Typer = app, cls: type[TyperCommand] | None = None
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register a command; where it has the parameter ``side``, the command line has the options of ``Side``."""
    hints = get_type_hints(Side, include_extras=True)
    options = [
        Parameter(one.name, Parameter.KEYWORD_ONLY, default=one.default, annotation=hints[one.name])
        for one in fields(Side)
    ]

    def put(function: Callable[..., None]) -> Callable[..., None]:
        @wraps(function)
        def command(**given: Any) -> None:  # noqa: ANN401 - as the command line gives it
            function(side=Side(**{one.name: given.pop(one.name) for one in options}), **given)

        whole = signature(function, eval_str=True)
        if "side" not in whole.parameters:
            of.command(name, cls=cls)(function)
            return function
        parts = [part for one in whole.parameters.values() for part in (options if one.name == "side" else [one])]
        command.__signature__ = whole.replace(parameters=parts)  # type: ignore[attr-defined]
        of.command(name, cls=cls)(command)
        return function

    return put


def passphrase_of(path: Path | None, *, confirm: bool = False) -> str:
    """Return the passphrase: a file's first line, or what is typed; twice with ``confirm``."""
    if path is None:
        return str(typer.prompt("Passphrase", hide_input=True, confirmation_prompt=confirm, err=True))
    if not path.exists():
        raise NotFoundError("passphrase file", str(path), "its first line is the passphrase")
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as e:
        raise InvalidInputError("passphrase file", f"{path} is not UTF-8", "a text file, the passphrase first") from e
    return lines[0] if lines else ""


def choice(kind: Any, name: str, text: str) -> Any:  # noqa: ANN401 - one of two enumerations
    """Return the member of an enumeration. Raises InvalidInputError naming the option."""
    try:
        return kind(text)
    except ValueError as e:
        raise InvalidInputError(name, repr(text), " or ".join(member.value for member in kind)) from e


def _is_url(place: str) -> bool:
    return place.startswith(("http://", "https://"))


def read_message(source: str) -> Any:  # noqa: ANN401 - JSON
    """Return the JSON of a file, of ``-`` (stdin) or of a URL. Raises InvalidInputError, UnreachableError."""
    if source != "-" and not _is_url(source):
        return read_untrusted_json(Path(source), at_most=MAX_MESSAGE_BYTES, what="message", named=True)
    return parse_json(read_bytes(source), "message")


def read_bytes(source: str) -> bytes:
    """Return what a file, ``-`` (stdin) or a URL holds. Raises InvalidInputError, UnreachableError."""
    if source == "-":
        raw = sys.stdin.buffer.read(MAX_MESSAGE_BYTES + 1)
    elif _is_url(source):
        raw = _http("GET", source)
    else:
        return read_untrusted(Path(source), at_most=MAX_MESSAGE_BYTES, what="message", named=True)
    if len(raw) > MAX_MESSAGE_BYTES:
        raise InvalidInputError("message", "too long", f"at most {MAX_MESSAGE_BYTES} bytes")
    return raw


def write_message(target: str, message: dict[str, Any]) -> None:
    """Write JSON to a file, to ``-`` (stdout) or to a URL. Raises UnreachableError."""
    raw = json.dumps(message, separators=(",", ":")).encode() + b"\n"
    if target == "-":
        sys.stdout.buffer.write(raw)
    elif _is_url(target):
        _http("POST", target, raw)
    else:  # whole or not at all: half a message, where the disk was full, would take the place of a good one
        replace_named(Path(target), raw)


def carry(message: dict[str, Any], name: str, to: str) -> None:
    """Put a message of this name into a folder, or post it to a URL. Raises ConflictError when another lies there."""
    if _is_url(to):
        write_message(to, message)
        return
    folder = Path(to)
    if not folder.is_dir():
        raise NotFoundError("folder", to, "make it, or name the one that the other side reads")
    target = folder / name
    if target.exists() and read_message(str(target)) != message:
        raise OtherMessageError(target)
    write_private(target, json.dumps(message, separators=(",", ":")).encode() + b"\n")


class OtherMessageError(ConflictError):
    """Another message of this name lies there."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path} is another message already; nothing was overwritten")
        self.path = path


def _http(method: str, url: str, body: bytes | None = None) -> bytes:
    import httpx  # noqa: PLC0415 - only messages over HTTP need it

    begun, found = time.monotonic(), bytearray()
    kind = {"Content-Type": "application/json"}
    try:
        with httpx.stream(method, url, content=body, headers=kind, timeout=HTTP_TIMEOUT) as answer:
            answer.raise_for_status()
            for part in answer.iter_bytes():
                found += part
                if len(found) > MAX_MESSAGE_BYTES:
                    break
                if time.monotonic() - begun > HTTP_WHOLE:
                    problem = f"answers byte after byte for over {HTTP_WHOLE:.0f} seconds"
                    raise UnreachableError("counterparty", url, problem, "check the URL or use files")
    except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as e:
        raise UnreachableError("counterparty", url, str(e) or type(e).__name__, "check the URL or use files") from e
    return bytes(found)


def say(value: dict[str, Any], *, quiet: bool = False) -> None:
    """Print an answer as JSON."""
    if not quiet:
        typer.echo(json.dumps(value, indent=1))
