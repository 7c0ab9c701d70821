"""Disputed contracts that the service watches: put one under watch by its public part, see where each stands.

Whoever may read sees every contract that is registered, also what no block shows: terms of one that is never opened, or
closed by both. There is no key's secret in it. Who puts one under watch is the operator, whose worker then looks at
every block for it.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import Field

from btcfi.adapters.store.disputes import views, watching
from btcfi.adapters.store.disputes.tables import DisputeRow
from btcfi.disputes.public import MAX_BYTES, decode_public
from btcfi.disputes.stages import Stage
from btcfi.options.order import read_body
from btcfi.surfaces.dispute_view import DisputeView, dispute_view
from btcfi.surfaces.rest import schemas
from btcfi.surfaces.rest.auth import ROLE, Operator, Reader
from btcfi.surfaces.rest.deps import OPERATE, READ, Deps
from btcfi.surfaces.rest.problems import documented
from btcfi.surfaces.rest.streams import Id

REFUSALS = documented(401, 403, 422, 429, 503)

PUBLIC_PART = {
    "required": True,
    "description": f"The public part, as `btcfi dispute publish` writes it; at most {MAX_BYTES:,} bytes.",
    "content": {"application/json": {"schema": {"type": "object", "title": "Public part of a disputed contract"}}},
}


class DisputeFilter(schemas.Request):
    """Which contracts."""

    state: Stage | None = None
    """Only those in this state."""
    limit: int = Field(default=100, ge=1, le=500)
    """Rows of the page."""
    cursor: Annotated[
        str | None, Field(default=None, max_length=400, description="The next_cursor of the page before.")
    ]  # fmt: skip


def add_disputes(routes: APIRouter, deps: Deps) -> None:
    """Add the endpoints."""

    @routes.get("/disputes", tags=["disputes"], responses=REFUSALS, openapi_extra={ROLE: READ})
    def disputes(_caller: Reader, query: Annotated[DisputeFilter, Query()]) -> schemas.DisputePage:
        """List the disputed contracts under watch, newest first."""
        state = None if query.state is None else query.state.value
        with deps.store.reading() as session:
            page = views.disputes(session, state=state, limit=query.limit, cursor=query.cursor)
            items = [schemas.DisputeSummary(**_summary(row)) for row in page.rows]
        return schemas.DisputePage(items=items, next_cursor=page.following)

    @routes.get(
        "/disputes/{dispute_id}", tags=["disputes"], responses=REFUSALS | documented(404), openapi_extra={ROLE: READ}
    )
    def dispute(_caller: Reader, dispute_id: Id) -> schemas.Dispute:
        """Return one: where it stands, what each side can still do, and in which blocks."""
        with deps.store.reading() as session:
            return _dispute_of(dispute_view(session, dispute_id, now=deps.clock()))

    @routes.post(
        "/disputes",
        tags=["disputes"],
        status_code=201,
        responses=REFUSALS | documented(409, 413, 415),
        openapi_extra={ROLE: OPERATE, "requestBody": PUBLIC_PART},
    )
    async def register_dispute(caller: Operator, request: Request, response: Response) -> schemas.Dispute:
        """Put a contract under watch by its public part; again changes nothing. Every transaction is computed anew."""
        made = await run_in_threadpool(_register, deps, f"api {caller.id}", bytes(request.state.body))
        response.headers["Location"] = f"{request.url.path}/{made.id}"
        return made


def _register(deps: Deps, by: str, raw: bytes) -> schemas.Dispute:
    dispute = decode_public(read_body(raw))
    with deps.store.transaction() as session:
        row = watching.register(session, dispute, by=by, now=deps.clock())
        return _dispute_of(dispute_view(session, row.id, now=deps.clock()))


def _summary(row: DisputeRow) -> dict[str, Any]:
    return {
        "id": row.id, "contract_id": row.contract_id, "state": Stage(row.state), "opening_txid": row.opening_txid,
        "walked_height": row.walked_height, "moved_height": row.moved_height, "claimed_range": row.claimed_range,
        "deadline_height": row.deadline_height, "created_at_unix": row.created_at_unix,
    }  # fmt: skip


def _dispute_of(seen: DisputeView) -> schemas.Dispute:
    terms = seen.terms
    return schemas.Dispute(
        **_summary(seen.row), proposal_id=seen.proposal, tip_height=seen.tip, lazy=terms.is_lazy,
        ranges=len(terms.claim.payouts),
        collateral_sats=terms.collateral, bond_sats=terms.bond, challenge_bond_sats=terms.challenge_bond,
        claimed_sats=seen.claimed, silence_height=terms.silence_height, refund_height=terms.refund_height,
        dispute_blocks=terms.dispute_blocks, waits_for=None if seen.waits_for is None else seen.waits_for.value,
        moves=[
            schemas.DisputeMove(
                party=one.side.value, transaction=one.by.value, since_height=one.since, until_height=one.until,
                since_unix=one.since_about, until_unix=one.until_about,
            )
            for one in seen.moves
        ],
        transactions=[
            schemas.DisputeTransaction(state=Stage(one.state), txid=one.txid, height=one.height) for one in seen.steps
        ],
    )  # fmt: skip
