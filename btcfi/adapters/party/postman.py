"""Letters between a party's own folders and the desk that it has joined; the carrier between them is not believed.

What comes becomes a file of the private inbox once it is ours, of the desk, and, where the other side speaks, signed
by the other side itself: ``PartyMail`` reads it there as it reads files that anybody else put. What lies in the outbox
goes as a letter and is removed once the desk has it. Everything may be done twice: the first letter of a name stays, on
both sides.
"""

from __future__ import annotations

import json
import logging
import re
import secrets
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Lock, Thread
from time import monotonic
from typing import Any, Final, Protocol

from btcfi.adapters.files import (
    make_private,
    read_untrusted_json,
    read_untrusted_text,
    real_folder,
    remove_within,
    write_private,
)
from btcfi.adapters.keystore import Keystore
from btcfi.adapters.party.market_deals import part_of
from btcfi.adapters.party.membership import Membership
from btcfi.adapters.sealed_letters import seal, unseal
from btcfi.adapters.signed_http import DeskAwayError, DeskBusyError, DeskRefusedError
from btcfi.contracts.mandate import AS_SAID
from btcfi.contracts.messages import MAX_MESSAGE_BYTES
from btcfi.contracts.splice import Owner
from btcfi.documents import parse_json
from btcfi.errors import BtcfiError, InvalidInputError, NotFoundError
from btcfi.market import batch_letters, closing, transfer_letters
from btcfi.market.account import Registration
from btcfi.market.letter import (
    LETTER_NAME,
    Letter,
    check_letter,
    check_said,
    decode_signed_letter,
    encode_signed_letter,
    sign_letter,
)
from btcfi.market.part import WHERE
from btcfi.market.transfer import check_part as check_transfer
from btcfi.market.transferring import Round
from btcfi.records import BASE64, Rule, listed, record, whole

log = logging.getLogger(__name__)

WAIT_SECONDS: Final = 25
"""Of a long poll; a proxy on the way cuts off what takes half a minute."""

LEAST_WAIT_SECONDS: Final = 1.0
"""Of a long poll that brings nothing."""

MOST_AT_ONCE: Final = 32
"""Letters of one answer."""

PAUSES: Final = (0.5, 1.0, 2.0, 5.0, 15.0)
"""Seconds between two tries while the desk is away, the last one for as long as it takes."""

MAX_REASON_BYTES: Final = 1 << 12
"""Of a refusal that is told; it names a field and what is wrong with it."""

REMEMBERED: Final = 1_024
"""Contracts of which the other side's keys are kept in memory; the others are read again from the inbox."""

OF_THE_DESK: Final = frozenset(
    {"proposal", "withdrawal", "close-proposal", "attestation", closing.GO, closing.DONE, closing.OVER}
    | {*transfer_letters.ASKS, transfer_letters.DONE, transfer_letters.OVER}
    | batch_letters.OF_THE_DESK
)
OF_THE_OTHER: Final = frozenset({"offer", "accept", "sign", "close-request", "close-answer", closing.OFFER})
"""Kinds of letters by whose word they are."""

SEALED: Final = "sealed_witnesses"
PLAIN: Final = "funding_witnesses"
"""Of a ``sign`` message: its signatures of the funding, which the buyer alone may read, and where they stand else."""

_DONE: Final = ("", "done", "refused")

_OF_A_TRANSFER: Final = re.compile(r"t[0-9a-f]{32}")
"""The name of an option that a take made, of an offer or of a position."""


class NotOursError(InvalidInputError):
    """A letter that is not for us, not of the desk, or not of the one that it speaks for."""

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(f"letter {name[:64]}", problem, "a letter of our desk, about a contract of ours")


class Desk(Protocol):
    """What is asked of the desk; ``SignedHttp`` is one."""

    def get(self, path: str, *, patience: float = 0, **query: object) -> Any:  # noqa: ANN401 - JSON
        """Return the answer's JSON."""

    def post(self, path: str, body: object) -> Any:  # noqa: ANN401 - JSON
        """Send JSON and return the answer's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    id: int
    name: str
    sealed: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    letters: tuple[_Row, ...]


_ROW: Final = record(_Row, id=whole(0, (1 << 63) - 1), name=LETTER_NAME, sealed=BASE64)
_ANSWER: Final = record(_Answer, letters=listed(Rule(lambda value: value, "a letter"), 1_000))


class Postman:
    """One party's letters. ``fetch`` and ``deliver`` may run in a thread each; ``start`` does so."""

    def __init__(
        self, fetching: Desk, sending: Desk, *, member: Membership, keystore: Keystore,
        inbox: Path, outbox: Path, arrived: Event | None = None, say: Callable[[str], object] = log.warning,
    ) -> None:  # fmt: skip
        """Take two connections to the desk, of which one waits most of the time, and the party's own two folders.

        arrived: is set when a letter came. say: is told once when the desk is away, and once when it is back.
        """
        self._fetching, self._sending, self._say = fetching, sending, say
        self._member, self._keystore = member, keystore
        self._inbox, self._outbox = inbox, outbox
        self._others: dict[str, Registration] = {}
        self._at_once = MOST_AT_ONCE
        self._told_to_wait: dict[str, str] = {}
        self._said: dict[str, str] = {}
        self._stopping, self._lock = Event(), Lock()
        self.arrived, self.handled = arrived or Event(), Event()
        """Set when a letter came; to be set when something lies in the outbox."""
        self.url = member.url
        for folder in (inbox, outbox):
            make_private(folder)
        with real_folder(inbox, rooms=_DONE[1:]):
            pass

    # ---- two threads

    def start(self) -> None:
        """Fetch and deliver until ``stop``."""
        for work in (self._keep_fetching, self._keep_delivering):
            Thread(target=work, name=work.__name__, daemon=True).start()

    def stop(self) -> None:
        """Begin nothing new, and return once no file is being written; an open request ends with the process."""
        self._stopping.set()
        self.handled.set()
        self._lock.acquire()

    def _keep_fetching(self) -> None:
        tries = 0
        while not self._stopping.is_set():
            began = monotonic()
            try:
                new = self.fetch(WAIT_SECONDS)
            except (BtcfiError, OSError) as e:
                self._note("fetch", e)
                tries += 1
            else:
                self._note("fetch", None)
                # a desk that repeats itself, or that has nothing to say at once, is asked no more than one that is away
                waited = new is None and monotonic() >= began + LEAST_WAIT_SECONDS
                tries = 0 if new or waited else tries + 1
            if tries:
                self._stopping.wait(PAUSES[min(tries, len(PAUSES)) - 1])

    def _keep_delivering(self) -> None:
        tries = 0
        while not self._stopping.is_set():
            self.handled.clear()
            try:
                self.deliver()
            except (BtcfiError, OSError) as e:
                self._note("deliver", e)
                tries += 1
                self._stopping.wait(PAUSES[min(tries, len(PAUSES)) - 1])
            else:
                self._note("deliver", None)
                tries = 0
                self.handled.wait(WAIT_SECONDS)

    def _note(self, what: str, e: Exception | None) -> None:
        """Say once that the desk is away, and once that it is back."""
        kind = "" if e is None else type(e).__name__
        if self._said.get(what, "") != kind:
            self._said[what] = kind
            self._say(f"desk {self._member.url}: {'it answers again' if e is None else e}")

    # ---- what comes

    def fetch(self, wait: int) -> int | None:
        """Take what lies at the desk for us, waiting up to so many seconds for it; return how many letters were new.

        None: there was nothing. Raises what the desk's connection raises, and OSError where the disk is full: then
        nothing is acknowledged.
        """
        try:
            answer = self._fetching.get("/letters", patience=wait, after=0, wait=wait, limit=self._at_once)
        except DeskAwayError as e:
            if e.too_large:
                self._at_once = max(1, self._at_once // 2)
            raise
        rows, new, known = _ANSWER.read(answer, "letters").letters, 0, []
        for one in rows:
            with self._lock:
                if self._stopping.is_set():
                    break
                row = _read_row(one)
                if row is None:
                    continue
                new += self._take_in(row)
                known.append(row.id)
        if known:
            self._fetching.post("/letters/acknowledge", {"ids": known})
        return new if rows else None

    def _take_in(self, row: _Row) -> bool:
        """Make a file of a letter, or a refusal; return whether it was new."""
        if any((self._inbox / room / f"{row.name}{end}").exists() for room in _DONE for end in (".json", ".told")):
            return False
        try:
            letter = self._opened(row)
        except BtcfiError as e:  # who wrote it is not known: there is nobody to answer
            log.warning("letter %s is passed over: %s", row.name[:64], e)
            return False
        try:
            body = self._body(letter)
        except BtcfiError as e:
            log.warning("letter %s refused: %s", row.name[:64], e)
            write_private(self._inbox / "refused" / f"{row.name}.reason", f"{e}\n".encode(errors="backslashreplace"))
            self.handled.set()
            return True
        with real_folder(self._inbox):
            write_private(self._inbox / f"{row.name}.json", json.dumps(body).encode())
        self.arrived.set()
        return True

    def _opened(self, row: _Row) -> Letter:
        """Return a letter that the desk has written to us. Raises BtcfiError."""
        about = self._member.identity + row.name.encode()
        plain = unseal(row.sealed, secret=self._keystore.letters_secret(), about=about)
        signed = decode_signed_letter(parse_json(plain, "letter"))
        letter = check_letter(signed, sender=self._member.desk, recipient=self._member.identity)
        if letter.name != row.name:
            raise NotOursError(row.name, f"is named {letter.name[:64]} inside")
        return letter

    def _body(self, letter: Letter) -> dict[str, Any]:
        """Return the message that a letter of the desk carries, once it is of whom it must be. Raises BtcfiError."""
        option, _, kind = letter.name.rpartition(".")
        if kind in OF_THE_OTHER:
            body = self._said_body(letter, option.partition("~")[0], kind)
        elif kind in OF_THE_DESK and letter.said is None:
            body = letter.body
        else:
            raise NotOursError(letter.name, f"says {kind[:20]!a}, which no desk says")
        if body.get("type") != f"btcfi/{kind}":  # who reads it goes by this, not by the name
            raise NotOursError(letter.name, f"holds {str(body.get('type'))[:30]!a}")
        if kind == "proposal" and WHERE in body:
            self._remember(option, body[WHERE])
        return body

    def _said_body(self, letter: Letter, option: str, kind: str) -> dict[str, Any]:
        """Return what the other side of one of our contracts says in its own signed letter."""
        first = kind == "offer"
        other = self._remember(option, letter.body.get(WHERE)) if first else self._other(option)
        body = check_said(letter, sender=other.request_key).body
        if first:
            return body | {WHERE: letter.body[WHERE]}
        if kind == "sign" and SEALED in body:
            return self._with_witnesses(body, option)
        return body

    def _with_witnesses(self, body: dict[str, Any], option: str) -> dict[str, Any]:
        sealed = BASE64.read(body[SEALED], SEALED)
        plain = unseal(sealed, secret=self._keystore.letters_secret(), about=_about(self._member.identity, option))
        return {name: value for name, value in body.items() if name != SEALED} | {PLAIN: parse_json(plain, PLAIN)}

    # ---- whom a contract is with

    def _remember(self, option: str, part: object) -> Registration:
        """Return the other side of a market part of ours, and remember it. Raises BtcfiError."""
        checked, deal = part_of(part, self._member)
        if checked.take.take.option_id != option:
            raise NotOursError(option, f"is the deal {checked.take.take.option_id[:16]}")
        other = checked.buyer if deal.seller == self._member.identity else checked.seller
        while len(self._others) >= REMEMBERED:
            self._others.pop(next(iter(self._others)))
        self._others[option] = other.registration
        return other.registration

    def _other(self, option: str) -> Registration:
        """Return the other side of a contract: what its proposal or its offer said, which lies in the inbox for good.

        Raises NotFoundError for one that we know nothing of.
        """
        if option in self._others:
            return self._others[option]
        for kind in ("proposal", "offer"):
            for room in _DONE:
                path = self._inbox / room / f"{option}.{kind}.json"
                with suppress(NotFoundError, InvalidInputError):
                    message = read_untrusted_json(path, at_most=MAX_MESSAGE_BYTES, what="message")
                    return self._remember(option, message.get(WHERE) if isinstance(message, dict) else None)
        if (found := self._other_since(option)) is not None:
            self._others[option] = found
            return found
        raise NotFoundError("deal", option[:64], "its proposal or its offer must come before")

    def _other_since(self, option: str) -> Registration | None:
        """Return the other side of a contract that came from a transfer, by what the desk has asked us for then."""
        if not _OF_A_TRANSFER.fullmatch(option):
            return None
        said = Round.READY
        name = f"*{transfer_letters.MARK}{option[1:17]}.{transfer_letters.ask_of(said)}.json"
        for room in _DONE:
            for path in (self._inbox / room).glob(name):
                with suppress(NotFoundError, InvalidInputError):
                    message = read_untrusted_json(path, at_most=MAX_MESSAGE_BYTES, what="message")
                    part = transfer_letters.decode_ask(said, message).part
                    us = check_transfer(part, desk=self._member.desk).owner_of(self._member.identity)
                    if part.take.take.option_id == option and us is not Owner.HOLDER:
                        return part.of(Owner.NEWCOMER if us is Owner.SELLER else Owner.SELLER).registration
        return None

    # ---- what goes

    def deliver(self) -> int:
        """Send what lies in the outbox, and what the inbox says of refusals; return how many letters the desk took.

        Raises DeskAwayError, DeskBusyError, OSError; what the desk refuses for good is set aside.
        """
        sent = 0
        for path in self._waiting():
            name = path.name.removesuffix(".json")
            try:
                message = read_untrusted_json(path, at_most=MAX_MESSAGE_BYTES, what="message")
                body = self._outgoing(name, message)
            except BtcfiError as e:
                self._set_aside(path, e)
                continue
            if self._post(name, body, path):
                with self._lock, suppress(FileNotFoundError):
                    remove_within(path)
                sent += 1
        for path, name, text in self._reasons():
            if self._post(name, {"reason": text}, None):
                sent += 1
            if path.suffix == ".reason":  # what it says stays for our owner
                with self._lock, suppress(FileNotFoundError):
                    path.rename(path.with_suffix(".told"))
        return sent

    def _waiting(self) -> Iterator[Path]:
        with real_folder(self._outbox):
            found = sorted(self._outbox.glob("*.*.json"))
        yield from (path for path in found if not path.name.startswith("."))

    def _reasons(self) -> Iterator[tuple[Path, str, str]]:
        """Yield what is to be told of refusals and of what waits: the file, the letter's name, the text."""
        refused = self._inbox / "refused"
        for path in sorted([*refused.glob("*.*.reason"), *refused.glob("*.*.waiting")]):
            try:
                text = read_untrusted_text(path, at_most=1 << 16, what="reason of a refusal").strip()
            except BtcfiError:
                continue
            text = _told(text).encode()[:MAX_REASON_BYTES].decode(errors="ignore")
            kind = "refused" if path.suffix == ".reason" else "waiting"
            if kind == "waiting":
                if self._told_to_wait.get(path.name) == text:
                    continue
                self._told_to_wait[path.name] = text
            yield path, f"{path.stem}.{kind}", text

    def _outgoing(self, name: str, message: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
        """Return what of an answer the desk may read: no plain signature of a funding. Raises BtcfiError."""
        if not isinstance(message, dict):
            raise InvalidInputError(name, "is no message", "a JSON object")
        option, _, kind = name.rpartition(".")
        if kind != "sign":
            return message
        with self._lock:
            other = self._other(option)
        plain = json.dumps(message.get(PLAIN)).encode()
        sealed = seal(plain, to=other.box_key, about=_about(other.identity, option))
        return message | {PLAIN: {}, SEALED: b64encode(sealed).decode()}

    def _post(self, name: str, body: dict[str, Any], path: Path | None) -> bool:
        """Send one letter; False where the desk refuses it for good, and its file is set aside then."""
        member, secret = self._member, self._keystore.request_secret()
        letter = Letter(sender=member.registration.request_key, recipient=member.desk, name=name, body=body)
        signed = sign_letter(letter, secret, secrets.token_bytes(32))
        plain = json.dumps(encode_signed_letter(signed), separators=(",", ":")).encode()
        sealed = seal(plain, to=member.desk_box, about=member.desk + name.encode())
        try:
            self._sending.post("/letters", {"name": name, "sealed": b64encode(sealed).decode()})
        except DeskBusyError:
            raise
        except DeskRefusedError as e:
            if e.status in _OF_THE_REQUEST:
                raise
            log.warning("the desk does not take letter %s: %s", name[:64], e)
            if path is not None:
                self._set_aside(path, e)
            return False
        return True

    def _set_aside(self, path: Path, e: Exception) -> None:
        log.warning("%s is not sent: %s", path.name[:64], e)
        with self._lock, real_folder(self._outbox, rooms=("unsent",)), suppress(FileNotFoundError):
            path.rename(path.parent / "unsent" / path.name)


_OF_THE_REQUEST: Final = frozenset({401, 403, 408, 421})
"""Refusals that say nothing of the letter: our clock, our account, the way to the desk."""


def _told(reason: str) -> str:
    """Return what of a reason others are told: the field, and not what a mandate allows, which is its owner's."""
    if AS_SAID not in reason:
        return reason
    return f"{reason.partition(':')[0]}: outside of what its owner allows; nothing was signed"


def _read_row(value: object) -> _Row | None:
    try:
        return _ROW.read(value, "letter")
    except InvalidInputError as e:
        log.warning("a letter is passed over: %s", e)
        return None


def _about(buyer: bytes, option: str) -> bytes:
    return buyer + f"{option}.{SEALED}".encode()
