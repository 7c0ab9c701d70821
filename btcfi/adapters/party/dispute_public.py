"""The public part of a disputed contract, from what a side keeps of it: no keystore is opened for it."""

from __future__ import annotations

from btcfi.adapters.party.agreements import StepOutOfOrderError
from btcfi.adapters.party.dispute_files import DisputeFiles
from btcfi.disputes.garbled import deal_messages as wire
from btcfi.disputes.garbled import messages
from btcfi.disputes.garbled.deal import Deal
from btcfi.disputes.public import PublicDispute
from btcfi.units import Height


def public_part(files: DisputeFiles, name: str) -> PublicDispute:
    """Return what a watcher needs of a contract. Raises StepOutOfOrderError before our coins in it are signed for."""
    found = {what: files.find(name, what) for what in ("proposal", "acceptance", "commitments", "started")}
    if missing := [what for what, kept in found.items() if kept is None]:
        raise StepOutOfOrderError(name, f"its {missing[0]}")
    proposal, acceptance = wire.decode_proposal(found["proposal"]), wire.decode_acceptance(found["acceptance"])
    made = Deal(proposal, acceptance, id=wire.contract_id(proposal, acceptance))
    first = messages.decode_commitments(made.subject, wire.decode_letter(found["commitments"]).data)
    since = files.started(name) or Height(0)
    return PublicDispute(proposal=proposal, acceptance=acceptance, fault=first.fault, since=since)
