"""A party's disputed contracts: the desk, where its stages meet. Each stage is a file of its own.

    dispute_deals     proposal, acceptance, the messages of the set-up, taking back
    dispute_claims    the one claim of a contract
    dispute_watch     the chain is looked at, and what is due is done: claim, disprove, silence, refund, challenge
    dispute_closes    both close together
    dispute_sending   fees: children, replacements, sweeps
    dispute_room      what all of them look at: messages, what follows from them, the chain, the mandate
    dispute_files     what is kept, written once
    dispute_marks     what is noted beside the folder

Of what arrives nothing is signed that was not computed here. Who has the folder plays a contract to its end alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from btcfi.adapters.chain.node import Node
from btcfi.adapters.keystore import Keystore
from btcfi.adapters.nonces import NonceVault
from btcfi.adapters.party.dispute_claims import Claims
from btcfi.adapters.party.dispute_closes import Closes
from btcfi.adapters.party.dispute_deals import Deals
from btcfi.adapters.party.dispute_marks import DisputeMarks
from btcfi.adapters.party.dispute_room import DisputeRoom, Json, nobody
from btcfi.adapters.party.dispute_sending import Sender
from btcfi.adapters.party.dispute_watch import Report, Watch
from btcfi.adapters.party.store import PartyStore
from btcfi.adapters.party.wallet import PartyWallet
from btcfi.bitcoin.fees import FeeRule, SatsPerKvb
from btcfi.bitcoin.transaction import Transaction
from btcfi.contracts.mandate import Authority
from btcfi.disputes.garbled.deal import Draft
from btcfi.disputes.garbled.opening import Side
from btcfi.oracle.announcement import Announcement
from btcfi.oracle.attestation import Attestation
from btcfi.units import Sats


class DisputeDesk:
    """One party's disputed contracts."""

    def __init__(
        self, store: PartyStore, keystore: Keystore, node: Node, *, wallet: PartyWallet, fees: FeeRule | None = None,
        authority: Callable[[str], Authority] = nobody, show: Callable[[Side, Draft], None] = lambda *_: None,
        clock: Callable[[], float] = time.time, runtime: Path | None = None,
    ) -> None:  # fmt: skip
        """Take the rooms of a desk.

        authority: the right to sign now, a contract's own stake left out; by default there is none, and what is signed
        already is watched all the same. fees: what is given is bid at once, also against what waits already. show: sees
        what is about to be signed, and refuses by raising. runtime: the folder for what must not outlive the machine's
        run; default: this user's.
        """
        rule = fees or FeeRule()
        self.room = DisputeRoom(
            store=store, keystore=keystore, node=node, wallet=wallet, clock=clock, authority=authority, show=show,
            marks=DisputeMarks(keystore, runtime),
        )  # fmt: skip
        self.files = self.room.files
        self.deals = Deals(self.room, fees=rule)
        self.sender = Sender(self.files, node, wallet, fees=rule, urgent=fees is not None)
        self.claims = Claims(self.room, self.sender)
        self._watch = Watch(self.room, self.deals, self.claims, self.sender)
        self._runtime = runtime

    # ---- agreeing

    def propose(self, draft: Draft, *, identity_secret: bytes) -> Json:
        """As ``Deals.propose``."""
        return self.deals.propose(draft, identity_secret=identity_secret)

    def accept(
        self, message: object, announcements: Sequence[Sequence[Announcement]], *, by_hash: bool = False
    ) -> Json:
        """As ``Deals.accept``."""
        return self.deals.accept(message, announcements, by_hash=by_hash)

    def sign(self, message: Json, *, identity_secret: bytes | None = None) -> Json | Transaction:
        """As ``Deals.sign``."""
        return self.deals.sign(message, identity_secret=identity_secret)

    def withdraw(self, name: str) -> None:
        """As ``Deals.withdraw``."""
        self.deals.withdraw(name)

    def cancel(self, name: str) -> Transaction:
        """As ``Deals.cancel``."""
        return self.deals.cancel(name)

    # ---- playing

    def claim(self, name: str) -> Transaction:
        """As ``Claims.claim``."""
        return self.claims.claim(name)

    def watch(self) -> list[Report]:
        """As ``Watch.watch``."""
        return self._watch.watch()

    def keep(self, attestation: Attestation) -> bool:
        """As ``Watch.keep``."""
        return self._watch.keep(attestation)

    def show(self, name: str) -> Report:
        """As ``Watch.show``."""
        return self._watch.show(name)

    def shown(self) -> list[Report]:
        """As ``Watch.shown``."""
        return self._watch.shown()

    def may_forget(self, name: str) -> bool:
        """As ``DisputeRoom.may_forget``."""
        return self.room.may_forget(name)

    # ---- closing together

    def ask_close(self, name: str, *, payout: Sats, rate: SatsPerKvb) -> Json:
        """As ``Closes.ask``."""
        return self._closes().ask(name, payout=payout, rate=rate)

    def answer_close(self, message: object, *, payout: Sats) -> Json:
        """As ``Closes.answer``."""
        return self._closes().answer(message, payout=payout)

    def finish_close(self, message: object) -> Transaction:
        """As ``Closes.finish``."""
        return self._closes().finish(message)

    def _closes(self) -> Closes:
        return Closes(self.room, NonceVault(self.room.keystore, self._runtime))
