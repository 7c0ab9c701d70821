"""Notes of what was said once, outside a party's folder: a copy of the folder on this machine knows of them.

They lie where a run of the machine keeps what must not outlive it, under names that another boot, another machine and a
copy of that place do not have. A folder that is restored elsewhere therefore finds none, and goes on with nothing that
asks for one: the set-up of a contract in which it may have shown its cut already. Source: ``btcfi.adapters.nonces``.
"""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from btcfi.adapters.files import KeystoreExistsError, read_untrusted, write_private
from btcfi.adapters.keystore import Keystore
from btcfi.adapters.nonces import run_id, runtime_folder
from btcfi.contracts.messages import canonical
from btcfi.hashes import tagged_hash
from btcfi.units import Hash32

_MAX_MARK: Final = 1 << 16


class DisputeMarks:
    """One keystore's notes of this run of the machine."""

    def __init__(self, keystore: Keystore, folder: Path | None = None) -> None:
        """folder: instead of the user's folder for running programs."""
        self._keystore, self._given = keystore, folder

    def find(self, what: str, contract: Hash32) -> Any:  # noqa: ANN401 - JSON
        """Return a note, or None."""
        path = self._path(what, contract)
        return json.loads(read_untrusted(path, at_most=_MAX_MARK, what=f"note of {what}")) if path.exists() else None

    def put(self, what: str, contract: Hash32, value: Any) -> bool:  # noqa: ANN401 - JSON
        """Write a note once; return whether it says this now. False: it said something else before."""
        path = self._path(what, contract)
        if not path.exists():
            with suppress(KeystoreExistsError):  # another process was first: looked at like one of before
                write_private(path, canonical(value), fresh=True)
        return bool(self.find(what, contract) == json.loads(canonical(value)))

    def _path(self, what: str, contract: Hash32) -> Path:
        folder = runtime_folder() if self._given is None else self._given
        about = tagged_hash("BTCFi/dispute/mark/v1", contract + run_id(folder))
        return folder / f"{self._keystore.label(about).hex()}.{what}"
