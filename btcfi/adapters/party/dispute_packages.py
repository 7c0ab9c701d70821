"""What a party hands out of its disputed contracts, for others to check and to watch: no secret leaves with it."""

from __future__ import annotations

import secrets
from typing import Any

from btcfi.adapters.keystore import Keystore
from btcfi.adapters.party.agreements import StepOutOfOrderError
from btcfi.adapters.party.dispute_files import DisputeFiles
from btcfi.contracts.setup import WrongMessageError
from btcfi.disputes.garbled import deal_messages as wire
from btcfi.disputes.garbled.deal import OwnSecrets
from btcfi.disputes.garbled.opening import Side
from btcfi.disputes.garbled.transcript import Transcript
from btcfi.disputes.garbled.watchtower import (
    Package,
    Watch,
    check_package,
    graph_of,
    presign_disproofs,
    ranges,
)
from btcfi.units import Height, Sats


def transcript_of(files: DisputeFiles, name: str) -> Transcript:
    """Return the set-up of a contract, as either side has it. Raises StepOutOfOrderError before it stands."""
    first, cut, second = (_letter(files, name, what) for what in ("commitments", "cut", "openings"))
    return Transcript(
        proposal=wire.decode_proposal(_found(files, name, "proposal")),
        acceptance=wire.decode_acceptance(_found(files, name, "acceptance")), commitments=first.data,
        signature=first.more, cut=cut.data, openings=second.data,
    )  # fmt: skip


def package_of(files: DisputeFiles, name: str, keystore: Keystore, *, reward: Sats) -> tuple[Package, Watch]:
    """Return the package of a contract of which we are the verifier, and what a stranger will have checked of it.

    Signed anew each time, with fresh nonces: two packages of one contract are both good. Raises WrongMessageError for
    the claimant's folder, StepOutOfOrderError before our coins are signed, InvalidInputError for a reward out of
    bounds.
    """
    if files.side_of(name) is not Side.VERIFIER:
        raise WrongMessageError("dispute", f"{name[:16]} is one that we claim: a package is its verifier's to make")
    setup, claims = transcript_of(files, name), _letter(files, name, "claims")
    since = files.started(name) or Height(0)  # then from the first block on
    bare = Package(setup=setup, claims=claims.data, reward=reward, disproofs=b"", since=since)
    graph = graph_of(bare)
    own = OwnSecrets(files.seed(name, Side.VERIFIER, keystore), len(graph.terms.sets))
    entropy = [secrets.token_bytes(32) for _ in ranges(graph)]
    signed = presign_disproofs(graph, reward, escrow=own["escrow"], entropy=entropy)
    made = Package(setup=setup, claims=claims.data, reward=reward, disproofs=signed, since=since)
    return made, check_package(made, coins=secrets.token_bytes(32))


def _letter(files: DisputeFiles, name: str, what: str) -> wire.Letter:
    return wire.decode_letter(_found(files, name, what))


def _found(files: DisputeFiles, name: str, what: str) -> Any:  # noqa: ANN401 - JSON
    found = files.find(name, what)
    if found is None:
        raise StepOutOfOrderError(name, f"its {what}")
    return found
