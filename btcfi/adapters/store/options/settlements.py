"""Settlements: claimed under a lease with a fence token, computed, proven; repaired when a worker dies."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from sqlalchemy import case, delete, func, select, update
from sqlmodel import Session, col

from btcfi.adapters.store.options import holds
from btcfi.adapters.store.options.backlog import refuse_requests_above
from btcfi.adapters.store.options.contract_tables import ContractRow
from btcfi.adapters.store.options.options import (
    Fixings,
    add_settlements,
    changed,
    contract_event,
    event_of,
    find_option,
    input_at,
    known_at,
    proven_window,
    settlement_input_of,
    terms_of,
)
from btcfi.adapters.store.options.rules import Bound, RuleOf, note_waiting
from btcfi.adapters.store.options.tables import (
    OptionRow,
    OptionState,
    ProofPartRow,
    RequestState,
    SettlementRequestRow,
    SettlementRow,
    SettlementState,
)
from btcfi.adapters.store.prices import rounds
from btcfi.adapters.store.prices.fixings import closed_until, fixing_of
from btcfi.adapters.store.spine.blobs import store_blobs
from btcfi.adapters.store.spine.edges import Crossing, Work, count, cross, cross_all, enqueue, upsert
from btcfi.adapters.store.spine.tables import BlobRow
from btcfi.adapters.store.spine.times import LONGEST_SECONDS, lapsed
from btcfi.documents import printable
from btcfi.errors import NotFoundError, NotHeldError
from btcfi.options.expiry import ExerciseType, SettlementInput, SettlementOutput
from btcfi.options.payoff import twin_of
from btcfi.oracle.attestation import EventHeldError
from btcfi.oracle.fixing import MINUTE, Fixed
from btcfi.oracle.quote import Feed
from btcfi.units import Hash32, Slot, UnixSeconds

if TYPE_CHECKING:
    from btcfi.proofs.settlement_proof import ProofFile, SettlementProof

CLOSE_PATIENCE_SECONDS = 120
"""How long both parties may take to co-sign an early exercise before the attestation decides instead."""


LONGEST_LEASE_SECONDS: Final = LONGEST_SECONDS
"""No deployment may ask for a longer lease; also the longest between two repairs of the same settlement."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """The right to work on a settlement until the lease ends."""

    settlement_id: str
    fence: int
    input_bytes: bytes
    window: str | None
    """JSON of the minutes that the input's price is made of, None for an earlier release's option."""
    bound: Bound
    """The preset and the program that it is run by: its option's, whatever is sold today."""


def claim(
    session: Session, ids: list[str], *, owner: str, now: UnixSeconds, lease_seconds: int, max_attempts: int,
    missing: Callable[[Bound], str | None],
) -> list[Claim]:  # fmt: skip
    """Claim those of ``ids`` that nobody holds. The attempt is counted here, so that a SIGKILL counts too.

    What was tried before is claimed alone, never with others: what kills its worker must not use up their attempts.
    missing: what this process lacks to run an option by its own preset and program. Such a settlement is left as it is,
    with that beside it: another worker may have it, or an operator put it there.
    """
    crossings = []
    bounds = _bounds(session, ids)
    query = select(SettlementRow).where(col(SettlementRow.id).in_(ids)).order_by(col(SettlementRow.id))
    # on PostgreSQL two workers with the same batch share it instead of queueing; SQLite has one writer anyway
    for row in session.execute(query.with_for_update(skip_locked=True)).scalars():
        # beyond the longest lease is the work of a clock that was wrong
        held = row.state == SettlementState.CLAIMED and now < (row.lease_until_unix or 0) <= now + LONGEST_LEASE_SECONDS
        if row.state not in {SettlementState.DUE, SettlementState.CLAIMED} or held:
            count(session, "duplicate_claims")
        elif row.attempts >= max_attempts:
            _park(session, row, now)
        elif (lacking := missing(bounds[row.option_id])) is not None:
            note_waiting(row, lacking)
        elif row.attempts and len(ids) > 1:
            enqueue(session, [Work(flow="settle", arguments=([row.id],))], now=now)
        else:
            changes = {
                "fence": row.fence + 1, "attempts": row.attempts + 1, "lease_owner": owner,
                "lease_until_unix": now + lease_seconds, "retry_at_unix": 0,
            }  # fmt: skip
            crossings.append(Crossing(row=row, fence=row.fence, changes=changes))
    claimed = cross_all(session, crossings, SettlementState.CLAIMED, now=now)
    return [claim for one in claimed for claim in _readable(session, one.row, bounds[one.row.option_id], now)]


def _bounds(session: Session, ids: list[str]) -> dict[str, Bound]:
    """Return, by option, what the options of these settlements name."""
    query = (
        select(OptionRow, col(ContractRow.event_id))
        .join(SettlementRow, col(SettlementRow.option_id) == col(OptionRow.id))
        .join(ContractRow, col(ContractRow.option_id) == col(OptionRow.id), isouter=True)
    )
    rows = session.execute(query.where(col(SettlementRow.id).in_(ids)))
    return {row.id: Bound.of(row, changed(row, event)) for row, event in rows}


def _park(session: Session, row: SettlementRow, now: UnixSeconds) -> bool:
    reason = row.last_error or f"the worker died in each of {row.attempts} attempts"
    return cross(session, row, SettlementState.PARKED, now=now, detail=reason, changes={"last_error": reason})


def _readable(session: Session, row: SettlementRow, bound: Bound, now: UnixSeconds) -> list[Claim]:
    """Return the claim, or give it back at once when its input is no input."""
    unread = Claim(settlement_id=row.id, fence=row.fence, input_bytes=b"", window=row.window, bound=bound)
    try:
        return [replace(unread, input_bytes=bytes.fromhex(row.input_hex))]
    except ValueError:
        note_error(session, unread, "its input is not hexadecimal", now=now)
        return []


def finish(session: Session, results: Mapping[Claim, ProofFile | SettlementProof], *, now: UnixSeconds) -> int:
    """Store proofs and their results: claimed -> proven. What another worker holds by now is left to it.

    Returns how many were ours.
    """
    rows = {
        row.id: row
        for row in session.execute(
            select(SettlementRow).where(col(SettlementRow.id).in_([one.settlement_id for one in results]))
        ).scalars()
    }
    ours = {one: proof for one, proof in results.items() if rows[one.settlement_id].state == SettlementState.CLAIMED}
    if late := len(results) - len(ours):
        count(session, "late_results", late)
    changes = _results(session, list(ours.values()), now)
    crossings = [
        Crossing(row=rows[one.settlement_id], fence=one.fence, changes=some)
        for one, some in zip(ours, changes, strict=True)
    ]
    return len(cross_all(session, crossings, SettlementState.PROVEN, now=now))


def hand_over(session: Session, claimed: Claim, *, parts: int, now: UnixSeconds) -> bool:
    """Record a long run whose tree is built in parts by several workers: claimed -> executed."""
    row = session.get_one(SettlementRow, claimed.settlement_id)
    if row.state != SettlementState.CLAIMED:
        return False
    return cross(
        session, row, SettlementState.EXECUTED, now=now, fence=claimed.fence,
        changes={"parts": parts, "lease_until_unix": None},
        work=[Work(flow="prove_long", arguments=(row.id, parts))],
    )  # fmt: skip


def store_part(session: Session, settlement_id: str, part: int, root: bytes) -> None:
    """Store one subtree's root; storing it again changes nothing."""
    statement = upsert(session, ProofPartRow).values(settlement_id=settlement_id, part=part, root=root.hex())
    session.execute(statement.on_conflict_do_nothing(index_elements=["settlement_id", "part"]))


def parts_of(session: Session, settlement_id: str) -> list[bytes]:
    """Return the roots that are there, in order."""
    query = select(ProofPartRow).where(col(ProofPartRow.settlement_id) == settlement_id)
    return [bytes.fromhex(r.root) for r in session.execute(query.order_by(col(ProofPartRow.part))).scalars()]


def find_settlement(session: Session, settlement_id: str) -> SettlementRow:
    """Return the settlement. Raises NotFoundError."""
    row = session.get(SettlementRow, settlement_id)
    if row is None:
        raise NotFoundError("settlement", settlement_id)
    return row


def bound_of(session: Session, settlement_id: str) -> tuple[Bound, bytes, str | None]:
    """Return what a settlement is run by, its input, and JSON of the minutes behind its price. Raises NotFoundError."""
    row = find_settlement(session, settlement_id)
    option = session.get_one(OptionRow, row.option_id)
    bound = Bound.of(option, changed(option, contract_event(session, option.id)))
    return bound, bytes.fromhex(row.input_hex), row.window


def note_unheld(session: Session, settlement_id: str, reason: str) -> None:
    """Keep which hash is missing to run a settlement."""
    note_waiting(find_settlement(session, settlement_id), reason)


def close_long(session: Session, settlement_id: str, proof: SettlementProof, *, now: UnixSeconds) -> bool:
    """Store the proof of a long run: executed -> proven. Closing twice changes nothing."""
    row = find_settlement(session, settlement_id)
    if row.state != SettlementState.EXECUTED:
        return False
    (changes,) = _results(session, [proof], now)
    return cross(session, row, SettlementState.PROVEN, now=now, fence=row.fence, changes=changes)


def _results(
    session: Session, proofs: Sequence[ProofFile | SettlementProof], now: UnixSeconds
) -> list[dict[str, object]]:  # fmt: skip
    """Store the files of proofs and return each settlement's columns."""
    from btcfi.proofs.settlement_proof import (  # noqa: PLC0415 - numba; who asks, repairs or reads makes no proof
        ProofFile,
        file_of,
    )

    files = [one if isinstance(one, ProofFile) else file_of(one) for one in proofs]
    digests = store_blobs(session, [one.text.encode() for one in files], now=now)
    return [_result(one, digest) for one, digest in zip(files, digests, strict=True)]


def _result(proof: ProofFile, digest: Hash32) -> dict[str, object]:
    output = SettlementOutput.from_bytes(proof.output)
    output.raise_if_refused()
    return {
        "payout_cents": output.payout, "payout_sats": output.payout_sats, "exercise_type": int(output.exercise_type),
        "steps": proof.steps, "proof_root": proof.proof_root.hex(), "proof_sha256": digest.hex(),
        "lease_owner": None, "lease_until_unix": None, "last_error": None,
    }  # fmt: skip


def note_error(session: Session, claimed: Claim, error: str, *, now: UnixSeconds) -> None:
    """Give a claim back with the reason; it is taken up again until its attempts are used up."""
    row = session.get_one(SettlementRow, claimed.settlement_id)
    if row.state == SettlementState.CLAIMED:
        cross(session, row, SettlementState.DUE, now=now, fence=claimed.fence, detail=error,
              changes={"last_error": error, "lease_until_unix": None})  # fmt: skip


def proof_of(session: Session, row: SettlementRow) -> bytes:
    """Return the proof file of a settlement. Raises NotFoundError."""
    blob = session.get(BlobRow, row.proof_sha256) if row.proof_sha256 else None
    if blob is None:
        raise NotFoundError("proof of settlement", row.id, "it is not proven yet")
    return blob.body


def repair(
    session: Session, rule_of: RuleOf, *, now: UnixSeconds, batch_size: int, stale_seconds: int, max_attempts: int
) -> int:  # fmt: skip
    """Queue again what stands still: due or lapsed claims, executed runs, closes nobody signed; return how many.

    The longer a settlement stands, the rarer it is queued: a queue that nobody reads grows by the logarithm of time.
    """
    ids = _standing(session, (SettlementState.DUE, SettlementState.CLAIMED), now, stale_seconds, limit=1000)
    batches = [ids[i : i + batch_size] for i in range(0, len(ids), batch_size)]
    enqueue(session, [Work(flow="settle", arguments=(batch,)) for batch in batches], now=now)
    stuck = _standing(session, (SettlementState.EXECUTED,), now, stale_seconds, limit=100)
    for row in session.execute(select(SettlementRow).where(col(SettlementRow.id).in_(stuck))).scalars():
        if row.attempts >= max_attempts:
            _park(session, row, now)
        else:  # a long run's attempts are counted here: its parts are claimed by nobody
            row.attempts += 1
            enqueue(session, [Work(flow="prove_long", arguments=(row.id, row.parts))], now=now)
    repaired = len(ids) + len(stuck) + fall_back_to_expiry(session, rule_of, now=now)
    if repaired:
        count(session, "repairs", repaired)
    return repaired


def _standing(
    session: Session, states: tuple[str, ...], now: UnixSeconds, stale_seconds: int, *, limit: int
) -> list[str]:  # fmt: skip
    """Return what nobody holds and nothing has moved for a while, and note when to look again."""
    lease, moved = func.coalesce(SettlementRow.lease_until_unix, 0), col(SettlementRow.updated_at_unix)
    again = col(SettlementRow.retry_at_unix)
    query = select(col(SettlementRow.id)).where(
        col(SettlementRow.state).in_(states),
        lapsed(lease, now),
        lapsed(moved, now, stale_seconds),
        lapsed(again, now),
    )
    ids = list(session.execute(query.order_by(moved, col(SettlementRow.id)).limit(limit)).scalars())
    stood = now - moved
    wait = case((stood > LONGEST_LEASE_SECONDS, LONGEST_LEASE_SECONDS), (stood < 0, stale_seconds), else_=stood)
    statement = update(SettlementRow).where(col(SettlementRow.id).in_(ids)).values(retry_at_unix=now + wait)
    session.execute(statement.execution_options(synchronize_session=False))
    return ids


def fall_back_to_expiry(session: Session, rule_of: RuleOf, *, now: UnixSeconds) -> int:
    """Settle by attestation the early exercises that the two parties did not close before expiry; return how many.

    They have CLOSE_PATIENCE_SECONDS: a close that both have signed may be on its way.
    """
    query = select(SettlementRow, OptionRow).join(OptionRow, col(OptionRow.id) == col(SettlementRow.option_id))
    waiting = query.where(
        col(SettlementRow.state) == SettlementState.PROVEN, col(SettlementRow.reason) == "early_exercise",
        lapsed(col(SettlementRow.updated_at_unix), now, CLOSE_PATIENCE_SECONDS),
    )  # fmt: skip
    done = 0
    for row, option in session.execute(waiting.limit(100)):
        event = contract_event(session, option.id)
        fixed = Fixings(session=session, feed=Feed(option.feed), rule_of=rule_of).of(option, event)
        if isinstance(fixed, NotHeldError):
            note_waiting(row, str(fixed))
            continue
        if fixed is None:
            continue
        if event_of(option).id.hex() in holds.held_ids(session):
            continue  # an operator must say first what was attested before the restore
        given = settlement_input_of(session, option, fixed, "expiry")
        changes = {
            "reason": "expiry", "slot": known_at(fixed), "price_cents": SettlementInput.from_bytes(given).spot,
            "window": proven_window(session, option, fixed, "expiry"),
            "input_hex": given.hex(), "attempts": 0, "fence": row.fence + 1,
        }  # fmt: skip
        session.execute(delete(ProofPartRow).where(col(ProofPartRow.settlement_id) == row.id))
        work = [Work(flow="attest", arguments=(event_of(option).id.hex(),)), Work(flow="settle", arguments=([row.id],))]
        done += cross(session, row, SettlementState.DUE, now=now, fence=row.fence, changes=changes, work=work,
                      detail="the early exercise was not co-signed before expiry")  # fmt: skip
    return done


MAX_REQUESTED_BY: Final = 100
"""Characters that are kept of who asked: it comes by Flower's API as anything."""


def request_settlement(
    session: Session, option_id: str, *, requested_by: str, now: UnixSeconds
) -> SettlementRequestRow:
    """Store an operator's request to settle an option; asking again gives the same row, or asks a held one anew.

    One that waits for its answer changes nothing: neither who asked nor what is queued.
    """
    find_option(session, option_id)
    requested_by = printable(requested_by, MAX_REQUESTED_BY)
    row = session.get(SettlementRequestRow, option_id)
    if row is not None and row.state in {RequestState.OPEN, RequestState.ACCEPTED}:
        return row
    refuse_requests_above(session)
    if row is None:
        # somebody may ask at the same moment: the second sees the first one's row, which is the request
        made = upsert(session, SettlementRequestRow).values(
            option_id=option_id, state=str(RequestState.OPEN), requested_by=requested_by, requested_at_unix=now
        )
        quiet = made.on_conflict_do_nothing(index_elements=["option_id"]).returning(col(SettlementRequestRow.option_id))
        ours = session.execute(quiet).first() is not None
        row = session.get_one(SettlementRequestRow, option_id)
        if not ours:
            return row
    row.state, row.requested_by, row.requested_at_unix = RequestState.OPEN, requested_by, now
    enqueue(session, [Work(flow="answer_request", arguments=(option_id,))], now=now)
    return row


def find_request(session: Session, option_id: str) -> SettlementRequestRow:
    """Return an operator's request to settle an option. Raises NotFoundError."""
    row = session.get(SettlementRequestRow, option_id)
    if row is None:
        raise NotFoundError("request to settle", option_id)
    return row


def open_requests(session: Session) -> list[str]:
    """Return the options whose requests wait for an answer."""
    query = select(col(SettlementRequestRow.option_id)).where(col(SettlementRequestRow.state) == RequestState.OPEN)
    return list(session.execute(query).scalars())


def answer_request(session: Session, option_id: str, rule_of: RuleOf, *, now: UnixSeconds) -> str:
    """Answer a request: settle what is due, exercise an American option early if that is worth it, else say why not.

    One that two accounts made is exercised by no request: who asks is the operator, and it is not the operator's.
    """
    request = session.get(SettlementRequestRow, option_id)
    if request is None or request.state != RequestState.OPEN:
        return "answered before"
    request.state, request.answer = _decide(session, find_option(session, option_id), rule_of, now)
    # one that waits is asked again by the reconciler
    request.answered_at_unix = None if request.state == RequestState.OPEN else now
    return request.answer


def _decide(  # noqa: C901, PLR0911 - one return an answer
    session: Session, option: OptionRow, rule_of: RuleOf, now: UnixSeconds
) -> tuple[str, str]:
    existing = session.execute(
        select(SettlementRow).where(col(SettlementRow.option_id) == option.id)
    ).scalar_one_or_none()
    if existing is not None:
        if existing.state == SettlementState.PARKED:
            requeue(session, existing, now=now)
            return RequestState.ACCEPTED, "requeued"
        return RequestState.ACCEPTED, f"settlement is {existing.state}"
    if option.state != OptionState.ACTIVE:
        return RequestState.REFUSED, f"the option is {option.state}, not funded yet"
    last = closed_until(session, Feed(option.feed))
    if last is None or last < option.expiry_unix:
        if not option.american:
            return RequestState.REFUSED, f"European, and its expiry minute {option.expiry_unix} is not priced yet"
        if option.take_id is not None:  # an operator trades for no account
            return RequestState.REFUSED, "its holder's to exercise, with its writer: `btcfi party close`"
        found, reason = _exercising(session, option, rule_of), "early_exercise"
        if isinstance(found, str):
            return RequestState.OPEN, found
        outcome = twin_of(option.program_sha256)(SettlementInput.from_bytes(input_at(session, option, found)))
        if outcome.exercise_type is not ExerciseType.EARLY_EXERCISE:
            return RequestState.HELD, f"{outcome.exercise_type.name.lower()}: holding is worth more than exercising"
    else:
        found, reason = _settling(session, option, rule_of), "expiry"
        if isinstance(found, str):
            return RequestState.REFUSED, found
    if not cross(session, option, OptionState.EXPIRED, now=now, detail=f"{reason} at slot {known_at(found)}"):
        return RequestState.REFUSED, "somebody else settled it at the same moment"
    added = add_settlements(session, [(option, found)], reason=reason, now=now)
    attest = [Work(flow="attest", arguments=(event_of(option).id.hex(),))] if reason == "expiry" else []
    enqueue(session, [*attest, Work(flow="settle", arguments=(added,))], now=now)
    return RequestState.ACCEPTED, reason.replace("_", " ")


def _exercising(session: Session, option: OptionRow, rule_of: RuleOf) -> Fixed | str:
    """Return the fixing that exercising pays now, of the window that ends with the newest priced minute, or why not.

    A window that began before the option was listed does not count: who buys after a fall would be paid for the prices
    before it.
    """
    feed, window = Feed(option.feed), terms_of(option).window
    last = rounds.settled_until(session, feed)
    # the very price that it was sold at is nobody's gain; of a window not even that minute
    least = option.listed_slot + (window != MINUTE)
    if last is None or window.window(Slot(last.slot))[0] < least:
        return f"waits until the window of {window} lies in the option's life"
    if (error := changed(option, contract_event(session, option.id))) is not None:
        return str(error)
    try:
        rule = rule_of(option.preset_sha256)
    except NotHeldError as e:
        return str(e)
    found = fixing_of(session, feed, window, Slot(last.slot), rule)
    return found or f"waits until two thirds of the window of {window} have a price that is fit to settle on"


def _settling(session: Session, option: OptionRow, rule_of: RuleOf) -> Fixed | str:
    """Return the fixing of an option at its expiry, or why there is none."""
    event_id = contract_event(session, option.id)
    found = Fixings(session=session, feed=Feed(option.feed), rule_of=rule_of).of(option, event_id)
    if isinstance(found, NotHeldError):
        return str(found)
    if found is None:
        window = terms_of(option).window
        return f"its fixing ({window}) is not known yet: too few of its minutes are priced and fit to settle on"
    if (event := event_of(option).id).hex() in holds.held_ids(session):
        return str(EventHeldError(event))
    return found


def requeue(session: Session, row: SettlementRow, *, now: UnixSeconds) -> bool:
    """Give a parked settlement new attempts: parked -> due."""
    return cross(session, row, SettlementState.DUE, now=now, changes={"attempts": 0}, detail="requeued",
                 work=[Work(flow="settle", arguments=([row.id],))])  # fmt: skip
