"""The two parties' mailboxes as the service sees them: it puts messages in and takes answers out, and has no key.

An inbox and an outbox are all that it shares with a party: what its owner wants (orders, bids, a mandate) and its keys
lie in a folder of its own. A party's process (``btcfi party run``) moves what it has handled into ``done`` or
``refused``; a message that lies in either is never put again, so carrying may be repeated at will.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from btcfi.adapters.files import (
    UntrustedFileError,
    make_private,
    read_untrusted_json,
    read_untrusted_text,
    real_folder,
    remove_within,
    write_private,
)
from btcfi.contracts.messages import MAX_MESSAGE_BYTES
from btcfi.errors import InvalidInputError, NotFoundError

log = logging.getLogger(__name__)

HANDLED: Final = ("done", "refused")
FOLDERS: Final = ("inbox", "outbox")

MAX_REASON_BYTES: Final = 1 << 16
"""Of the line that says why a message was refused."""


class Mailbox:
    """One party's inbox and outbox."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._inbox = folder / "inbox"

    def holds(self, name: str) -> bool:
        """Return whether a message of this name is in the inbox or was handled."""
        return any((self._inbox / part / f"{name}.json").exists() for part in ("", *HANDLED))

    def put(self, name: str, message: dict[str, Any]) -> None:
        """Put a message into the inbox, all or nothing. Raises OSError where a link leads elsewhere."""
        with suppress(UntrustedFileError):  # what else lies there is refused by the next line
            make_private(self._inbox, named=True)
        with real_folder(self._inbox):
            write_private(self._inbox / f"{name}.json", json.dumps(message).encode())

    def answers(self) -> Iterator[tuple[Path, str, str]]:
        """Yield the party's answers, oldest name first: the file, the option's name in it, the kind of message."""
        outbox = self.folder / "outbox"
        try:
            with real_folder(outbox):
                waiting = sorted(outbox.glob("*.*.json"))
        except FileNotFoundError:
            return  # the party has not started yet
        except OSError as e:  # the other party's are taken all the same
            log.warning("nothing is taken from %s: %s", outbox, e)
            return
        for path in waiting:
            name, _, kind = path.name.removesuffix(".json").rpartition(".")
            # a name of other bytes than UTF-8's is none that the service has given
            if path.name.isprintable() and not path.name.startswith("."):
                yield path, name, kind

    def refusal(self, name: str) -> str | None:
        """Return why the party refused a message of this name, if it did."""
        return self._said(name, "reason")

    def waits(self, name: str) -> str | None:
        """Return what the party waits for before it answers a message of this name, if it has said so."""
        return self._said(name, "waiting")

    def take_back(self, name: str) -> None:
        """Remove a message that the party has not handled. Raises OSError where a link leads elsewhere."""
        with suppress(FileNotFoundError):
            remove_within(self._inbox / f"{name}.json")

    def _said(self, name: str, kind: str) -> str | None:
        reason = self._inbox / "refused" / f"{name}.{kind}"
        try:
            return read_untrusted_text(reason, at_most=MAX_REASON_BYTES, what="reason of a refusal").strip()
        except NotFoundError:
            return None
        except InvalidInputError as e:
            return str(e)


def take_away(path: Path) -> None:
    """Remove an answer that was taken. Raises OSError where its folder is a link by now."""
    remove_within(path)


def read_message(path: Path) -> dict[str, Any] | None:
    """Return a message, None when it is gone by now or no JSON object."""
    try:
        message = read_untrusted_json(path, at_most=MAX_MESSAGE_BYTES, what="message")
    except (NotFoundError, InvalidInputError):
        return None
    return message if isinstance(message, dict) else None
