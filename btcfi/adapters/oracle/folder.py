"""An oracle's folder: its key, its ledger, its minutes, and who may speak. One process at a time has it.

```text
oracle.key         32 bytes, the secret; read by the oracle's process alone
public.json        the public key: what others may know
network.toml       the oracle nodes: name, venue, public key
ledger.jsonl       the first outcome of each event, synced before anything is signed; made with the key
held.json          after a restore, or the loss of the ledger: which events may have been attested since the backup
minutes/DAY/SLOT.json   the signed submissions of a minute, as they were checked
minute-events/     the first word on each minute that is signed by itself, synced before anything is signed
```
"""

from __future__ import annotations

import fcntl
import json
import secrets
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import structlog

from btcfi.adapters.files import PRIVATE_FOLDER, make_private, open_private, read_untrusted_json, write_private
from btcfi.adapters.keystore import FileLedger
from btcfi.adapters.minute_ledger import FileMinuteLedger
from btcfi.adapters.oracle_network.network_file import read_registry
from btcfi.errors import ConflictError, InvalidInputError, NotFoundError
from btcfi.oracle.attestation import EventHeldError
from btcfi.oracle.consensus import decode_outcome, encode_outcome
from btcfi.oracle.own_minutes import OwnMinute
from btcfi.oracle.quote import Feed
from btcfi.oracle.round_book import Registry
from btcfi.oracle.submission_json import decode_signed, encode_signed
from btcfi.secp256k1 import public_key_xonly
from btcfi.units import SECONDS_PER_MINUTE, Hash32, Slot, UnixSeconds, slot_of

KEY: Final = "oracle.key"
PUBLIC: Final = "public.json"
NETWORK: Final = "network.toml"
LEDGER: Final = "ledger.jsonl"
HELD: Final = "held.json"
MINUTES: Final = "minutes"
MINUTE_EVENTS: Final = "minute-events"

MAX_MINUTE_BYTES: Final = 1 << 20
"""Of a minute's file: a thousand submissions."""

MAX_HELD_BYTES: Final = 1 << 27
"""Of what a restore has left to decide: it names every event that the backup's own minutes decide, 68 bytes each."""

NEVER: Final = UnixSeconds(0)
"""Of a clock that was not asked."""

_DAY: Final = 86_400

log = structlog.get_logger("btcfi.oracle")


class FolderInUseError(ConflictError):
    """Another oracle process has the folder: two with one key could attest two outcomes."""

    def __init__(self, folder: Path) -> None:
        super().__init__(f"another process runs on {folder}: an oracle is one process, or it could attest two outcomes")
        self.folder = folder


class LostKeyError(NotFoundError):
    """An oracle's folder has a ledger or minutes and no key: it was lost, and a new one would be another oracle."""

    def __init__(self, folder: Path) -> None:
        super().__init__("oracle key", str(folder / KEY), "it was there; restore it from your backup (`btcfi restore`)")
        self.folder = folder


class OracleFolder:
    """The folder of one oracle."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._ledger = FileLedger(path / LEDGER)

    # ---- made once

    def create(self, secret: bytes | None = None, *, now: UnixSeconds = NEVER) -> bytes:
        """Make the folder with ``secret`` or a new key, or leave the one that is there; return the public key.

        A key without its ledger may have attested anything: all that expired until now is held, as after a restore.
        Now is the latest of this machine's clock, ``now`` and the newest minute that is kept here: one is attested
        with the minutes up to its expiry at hand. Raises LostKeyError where everything but the key is there,
        ConflictError where another key lies there.
        """
        make_private(self.path, named=True)
        self.path.chmod(PRIVATE_FOLDER)
        key = self.path / KEY
        if not key.exists():
            if self.was_used() and secret is None:
                raise LostKeyError(self.path)
            # the ledger first: a key without one has lost it
            if not (self.path / LEDGER).exists():
                write_private(self.path / LEDGER, b"", fresh=True)
            write_private(key, secrets.token_bytes(32) if secret is None else secret, fresh=True)
        elif secret is not None and key.read_bytes() != secret:
            raise ConflictError(f"another key lies in {self.path}; nothing was replaced")
        if not (self.path / LEDGER).exists():
            self._hold_all_until(UnixSeconds(max(now, int(time.time()))))
            write_private(self.path / LEDGER, b"", fresh=True)
            log.warning("ledger_lost", folder=str(self.path), reason="what expired until now is held")
        public = public_key_xonly(self.secret())
        if self.public_key() is None:
            write_private(self.path / PUBLIC, json.dumps({"oracle_key": public.hex()}).encode() + b"\n")
        return public

    def was_used(self) -> bool:
        """Return whether an oracle ran here: an empty ledger alone is a start that was killed before it had a key."""
        ledger = self.path / LEDGER
        used = ledger.exists() and ledger.stat().st_size > 0
        return used or any((self.path / name).exists() for name in (PUBLIC, MINUTES))

    def secret(self) -> bytes:
        """Return the secret key. Raises LostKeyError, InvalidInputError."""
        try:
            found = (self.path / KEY).read_bytes()
        except FileNotFoundError as e:
            raise LostKeyError(self.path) from e
        if len(found) != 32:  # noqa: PLR2004 - secp256k1's size
            raise InvalidInputError(str(self.path / KEY), f"{len(found)} bytes", "32 bytes")
        return found

    def public_key(self) -> bytes | None:
        """Return the public key as the folder says it, None before it was made. Reads no secret."""
        try:
            said = json.loads((self.path / PUBLIC).read_text())
            return bytes.fromhex(said["oracle_key"])
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as e:
            raise InvalidInputError(str(self.path / PUBLIC), type(e).__name__, "an oracle's public key") from e

    def write_network(self, text: str) -> None:
        """Write who may speak, unless it says so already."""
        file = self.path / NETWORK
        if not file.exists() or file.read_text() != text:
            write_private(file, text.encode())

    def registry(self) -> tuple[Feed, Registry]:
        """Return the feed and who may speak. Raises NotFoundError, NetworkFileError."""
        return read_registry(self.path / NETWORK)

    @contextmanager
    def owned(self) -> Iterator[None]:
        """Hold the folder for this process. Raises FolderInUseError."""
        make_private(self.path, named=True)
        with open_private(self.path / "lock") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as e:
                raise FolderInUseError(self.path) from e
            yield

    # ---- the ledger

    def ledger(self) -> HoldingLedger:
        """Return the ledger of first outcomes."""
        return HoldingLedger(file=self._ledger, folder=self)

    def minute_ledger(self) -> FileMinuteLedger:
        """Return the ledger of minute events."""
        return FileMinuteLedger(self.path / MINUTE_EVENTS)

    def seed(self, outcomes: Iterable[tuple[Hash32, int]]) -> int:
        """Write what this oracle attested before it had this ledger into it; return how many there are.

        Raises ConflictError where the ledger says another outcome: one of them was signed.
        """
        key, ledger, many = self.public_key() or b"", self._ledger, 0
        for event, outcome in outcomes:
            if (stands := ledger.claim(oracle_key=key, event=event, outcome=outcome)) != outcome:
                raise ConflictError(f"event {event.hex()}: {self.path / LEDGER} says {stands}, the store {outcome}")
            many += 1
        return many

    def hold(
        self, *, taken_at: UnixSeconds, now: UnixSeconds, decided: Iterable[Hash32] = (), named: Iterable[Hash32] = ()
    ) -> None:
        """Note that the folder was restored: what expired before ``now`` may have been attested after the backup.

        What expired before ``taken_at`` may have been too, whatever the clock says that gave ``now``.

        decided: events whose outcome the backup's own minutes decide, so that it can only be the same. named: events
        that are held whenever they expire: in a replay ``now`` is the recording's time, which the lost machine may
        have been ahead of.
        """
        self.keep_held(Held(
            taken_at=taken_at, until=UnixSeconds(max(now, taken_at)),
            released=frozenset(event.hex() for event in decided), named=frozenset(event.hex() for event in named),
        ))  # fmt: skip

    def keep_held(self, held: Held) -> None:
        """Note what the folder holds, in the place of what it held, and sign no minute that had begun by then."""
        write_private(self.path / HELD, json.dumps(held.document()).encode() + b"\n")
        self.minute_ledger().forget_up_to(slot_of(held.until))

    def _hold_all_until(self, now: UnixSeconds) -> None:
        """Hold all that this key may have attested, what was held or released before too: its ledger is gone."""
        before = self.held()
        named = frozenset[str]() if before is None else before.named
        until = max(now, self.was_already())
        self.keep_held(Held(
            taken_at=UnixSeconds(0), until=UnixSeconds(until), released=frozenset(), named=named
        ))  # fmt: skip

    def release(self, events: Iterable[Hash32]) -> None:
        """Release events on their owner's word that no attestation of them was published."""
        held = self.held()
        if held is not None:
            named = sorted({*held.released, *(event.hex() for event in events)})
            write_private(self.path / HELD, json.dumps(held.document() | {"released": named}).encode() + b"\n")

    def held(self) -> Held | None:
        """Return what a restore has left to decide, None of a folder that was never restored."""
        file = self.path / HELD
        if not file.exists():
            return None
        raw = read_untrusted_json(file, at_most=MAX_HELD_BYTES, what="held events")
        return Held(
            taken_at=UnixSeconds(int(raw["taken_at_unix"])), until=UnixSeconds(int(raw["until_unix"])),
            released=frozenset(raw.get("released", ())), named=frozenset(raw.get("named", ())),
        )  # fmt: skip

    # ---- minutes

    def _minute(self, slot: Slot) -> Path:
        return self.path / MINUTES / str(slot // _DAY) / f"{slot}.json"

    def load(self, slot: Slot, registry: Registry) -> OwnMinute | None:
        """Return a minute that is kept, None of one that is not, or whose file is damaged: it is fetched again.

        registry: today's, for its public keys; who left it since has no say. Whoever wrote the file checked its
        signatures; the folder is the oracle's alone.
        """
        file = self._minute(slot)
        if not file.exists():
            return None
        try:
            raw: dict[str, Any] = read_untrusted_json(file, at_most=MAX_MINUTE_BYTES, what="minute")
            nodes = {name: registry.nodes[name] for name in raw["nodes"] if name in registry.nodes}
            signed = [decode_signed(one) for one in raw["submissions"]]
            return OwnMinute(
                slot=slot, registry=Registry(nodes=nodes), closed=bool(raw["closed"]),
                submissions=tuple(one for one in signed if one.submission.node_id in nodes),
                stated=None if raw["stated"] is None else decode_outcome(raw["stated"]),
            )  # fmt: skip
        except (KeyError, TypeError, InvalidInputError) as e:
            log.warning("minute_damaged", file=str(file), reason=str(e)[:200])
            return None

    def keep(self, minute: OwnMinute) -> None:
        """Keep a minute, in the place of what was known of it."""
        document = {
            "slot": minute.slot,
            "nodes": sorted(minute.registry.nodes),
            "closed": minute.closed,
            "submissions": [encode_signed(one) for one in minute.submissions],
            "stated": None if minute.stated is None else encode_outcome(minute.stated),
        }
        make_private(self.path / MINUTES)
        write_private(self._minute(minute.slot), json.dumps(document, separators=(",", ":")).encode())

    def newest(self) -> Slot | None:
        """Return the newest minute that is kept."""
        for day in sorted((self.path / MINUTES).glob("[0-9]*"), key=lambda path: int(path.name), reverse=True):
            if slots := [int(file.stem) for file in day.glob("[0-9]*.json")]:
                return Slot(max(slots))
        return None

    def was_already(self) -> UnixSeconds:
        """Return the latest time that the folder bears witness of, whatever a clock says: its newest minute, a hold."""
        newest, held = self.newest(), self.held()
        return UnixSeconds(max(
            0 if newest is None else newest + SECONDS_PER_MINUTE, 0 if held is None else held.until,
        ))  # fmt: skip

    def prune(self, before: Slot) -> int:
        """Delete the days that ended before ``before``; return how many minutes."""
        gone = 0
        for day in (self.path / MINUTES).glob("[0-9]*"):
            if (int(day.name) + 1) * _DAY <= before:
                for file in day.glob("[0-9]*.json"):
                    file.unlink()
                    gone += 1
                with suppress(OSError):
                    day.rmdir()
        return gone


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What a restored folder may have forgotten."""

    taken_at: UnixSeconds
    until: UnixSeconds
    released: frozenset[str]
    named: frozenset[str] = frozenset()

    def document(self) -> dict[str, Any]:
        """Return its JSON."""
        return {
            "taken_at_unix": self.taken_at, "until_unix": self.until, "released": sorted(self.released),
            "named": sorted(self.named),
        }  # fmt: skip

    def covers(self, event: Hash32, expiry: Slot) -> bool:
        """Return whether an event is held."""
        return (expiry <= self.until or event.hex() in self.named) and event.hex() not in self.released


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldingLedger:
    """The ledger file, and after a restore the refusal of what it may have forgotten. An ``AttestationLedger``."""

    file: FileLedger
    folder: OracleFolder

    def claim(self, *, oracle_key: bytes, event: Hash32, outcome: int) -> int:
        """Record the outcome unless one stands there; return the one that stands there now."""
        return self.file.claim(oracle_key=oracle_key, event=event, outcome=outcome)

    def known(self, *, oracle_key: bytes, event: Hash32) -> int | None:
        """Return the outcome that stands there."""
        return self.file.known(oracle_key=oracle_key, event=event)

    def allow(self, event: Hash32, expiry: Slot, oracle_key: bytes) -> None:
        """Raise EventHeldError for an event that may have been attested between a backup and its restore."""
        held = self.folder.held()
        if held is None or not held.covers(event, expiry):
            return
        if self.known(oracle_key=oracle_key, event=event) is None:
            raise EventHeldError(event)
