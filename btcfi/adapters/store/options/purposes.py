"""What the transactions of options are for: the words of ``chain_transaction.purpose`` that are theirs."""

from __future__ import annotations

from typing import Final

from btcfi.adapters.store.chain.handlers import Purpose

FUNDING: Final = "funding"
"""Locks an option's collateral, and pays its premium."""

SETTLEMENT: Final = "settlement"
"""Pays it out: a CET, or a close that both parties signed."""

CHILD: Final = "child"
"""Pays a CET's fee, and carries the proof root."""

OUTSIDE: Final = "outside"
"""A spend of the collateral that the service did not make: a refund, a close of the parties' own, their own CET."""

BATCH: Final = "batch"
"""Pays out many: contracts that end together (``batch_tables``); its subject is its own txid."""

OF_OPTIONS: Final = (
    Purpose(name=FUNDING),
    Purpose(name=SETTLEMENT),
    Purpose(name=BATCH, watches_all=True),
    Purpose(name=CHILD, gives_way=True, pays_for_parent=True),
    Purpose(name=OUTSIDE, ours=False),
)

ANCHOR: Final = "anchor"
"""Commits to prices, announcements and proofs; its batch stands in the table ``anchor``."""
