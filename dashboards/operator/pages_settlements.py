"""Settlements: each with its proof taken apart, checked in place, and its transactions drawn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request
from starlette.responses import HTMLResponse, Response, StreamingResponse

from btcfi.adapters.store.access.console_tables import audit
from btcfi.adapters.store.chain import views as chain
from btcfi.adapters.store.options import views
from btcfi.adapters.store.options.batches import share_of_settlement
from btcfi.adapters.store.options.options import find_option
from btcfi.adapters.store.options.settlements import find_settlement
from btcfi.adapters.store.options.tables import SettlementRow, SettlementState
from btcfi.adapters.store.options.views import WhichSettlements
from btcfi.errors import BtcfiError, InvalidInputError
from btcfi.surfaces.rest.reads import proof_bytes
from btcfi.surfaces.rest.v1 import check
from dashboards.operator import drawing
from dashboards.operator.console import Console, base_of
from dashboards.operator.gate import Reader, ReaderForm
from dashboards.operator.pages_contract import Id
from dashboards.operator.pages_options import Cursor, Word
from dashboards.operator.render import with_query

STATES: Final = tuple(map(str, SettlementState))
MAX_SHOWN_STEPS: Final = 1 << 17
"""Longer runs are not hashed again for a page: `btcfi trace` shows any step of them."""

AROUND: Final = 3
"""Steps shown to either side."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PathNode:
    """One level of an inclusion path."""

    level: int
    sibling: str
    side: str
    """Where the sibling stands: left or right."""
    parent: str


def router(console: Console) -> APIRouter:
    """Return the pages, the proof file and the stream."""
    routes = APIRouter()

    @routes.get("/settlements")
    def settlements(
        request: Request, who: Reader, state: Word = "", id: Word = "", cursor: Cursor = None,  # noqa: A002
    ) -> HTMLResponse:  # fmt: skip
        chosen = {"state": state, "id": id.strip()}
        if state and state not in STATES:
            raise InvalidInputError("state", repr(state[:40]), "one of " + ", ".join(STATES))
        which = WhichSettlements(state=state or None, option_prefix=chosen["id"])
        with console.reading() as session:
            page = views.settlement_page(session, which, limit=console.deps.limits.page, cursor=cursor)
            counts = views.settlements_by_state(session)
        here = f"{base_of(request)}/settlements"
        return console.page(
            request, who, "settlements.html", rows=page.rows, chosen=chosen, states=STATES, counts=counts,
            paged=cursor is not None, first=with_query(here, **chosen),
            following=with_query(here, **chosen, cursor=page.following) if page.following else None,
        )  # fmt: skip

    _one(routes, console)
    _proof(routes, console)
    return routes


def _one(routes: APIRouter, console: Console) -> None:
    @routes.get("/settlements/{settlement_id}")
    def settlement(request: Request, who: Reader, settlement_id: Id) -> HTMLResponse:
        seen = _progress(console, settlement_id)
        proof = _proof_of(console, seen["settlement"])
        return console.page(request, who, "settlement.html", **seen, **proof)

    @routes.get("/live/settlements/{settlement_id}")
    def live(request: Request, _who: Reader, settlement_id: Id) -> StreamingResponse:
        base = base_of(request)
        with console.reading() as session:
            find_settlement(session, settlement_id)

        def draw() -> Mapping[str, str]:
            seen = _progress(console, settlement_id)
            return {
                "progress": console.draw("parts/progress.html", base=base, **seen),
                "graph": console.draw("parts/graph.html", base=base, **seen),
            }

        return console.live.stream(request, f"settlement {settlement_id}", draw)


def _progress(console: Console, settlement_id: str) -> dict[str, Any]:
    with console.reading() as session:
        row = find_settlement(session, settlement_id)
        option = find_option(session, row.option_id)
        transactions = views.transactions_of(session, row.option_id)
        tip = chain.tip(session)
        batch = share_of_settlement(session, row)
    ours = next((tx for tx in transactions if tx.txid == row.txid), None)
    return {
        "settlement": row,
        "option": option,
        "transaction": ours,
        "batch": batch,
        "anchor": None if batch else views.anchor_of(row, option),
        "child_fee": views.child_fees_in(transactions).get(option.id),
        "depth": chain.confirmations(ours, tip),
        "tip": tip,
        "graph": drawing.graph(option, transactions, tip),
        "now": console.now(),
    }


def _proof_of(console: Console, row: SettlementRow) -> dict[str, Any]:
    from btcfi.proofs.settlement_proof import from_json, sampled_steps  # noqa: PLC0415 - compiles when first imported

    if row.proof_sha256 is None:
        return {"proof": None, "words": None, "sampled": (), "proof_problem": "", "longest": MAX_SHOWN_STEPS}
    try:
        with console.reading() as session:
            body, _ = proof_bytes(session, row.id, views.EVERYTHING)
        proof = from_json(body)
    except BtcfiError as e:
        return {"proof": None, "words": None, "sampled": (), "proof_problem": str(e), "longest": MAX_SHOWN_STEPS}
    from btcfi.proofs.explain import payout_in_words  # noqa: PLC0415 - as above

    return {
        "proof": proof,
        "words": payout_in_words(proof.program_hash, proof.input_bytes, proof.output),
        "sampled": sampled_steps(proof.proof_root, proof.steps),
        "proof_problem": "",
        "longest": MAX_SHOWN_STEPS,
    }


def _proof(routes: APIRouter, console: Console) -> None:
    @routes.get("/settlements/{settlement_id}/proof")
    def download(_who: Reader, settlement_id: Id) -> Response:
        # by the row's hash from the store: no part of the request becomes a path of a file
        with console.reading() as session:
            body, digest = proof_bytes(session, settlement_id, views.EVERYTHING)
        headers = {"ETag": f'"{digest}"', "Content-Disposition": f'attachment; filename="{digest[:16]}.proof.json"'}
        return Response(body, media_type="application/json", headers=headers)

    @routes.get("/settlements/{settlement_id}/step")
    def step(
        request: Request, who: Reader, settlement_id: Id, n: Annotated[int, Query(ge=0, le=2**32 - 1)] = 0
    ) -> HTMLResponse:
        return console.page(request, who, "parts/step.html", **_step(console, settlement_id, n))

    @routes.post("/settlements/{settlement_id}/verify")
    def verify(request: Request, form: ReaderForm, settlement_id: Id) -> HTMLResponse:
        with console.reading() as session:
            body, _ = proof_bytes(session, settlement_id, views.EVERYTHING)
            row = find_settlement(session, settlement_id)
        found = check(body, "execute", console.deps.api)
        same = found.proof_root == row.proof_root
        with console.store.transaction() as session:
            audit(
                session, now=console.now(), account=form.visitor.name, address=form.visitor.address,
                action="proof.verify", target=settlement_id,
                outcome="done" if found.valid and same else "failed", detail=found.failed_check or "",
            )  # fmt: skip
        return console.page(request, form.visitor, "parts/verified.html", found=found, same=same, settlement=row)


def _step(console: Console, settlement_id: str, n: int) -> dict[str, Any]:
    from btcfi.proofs.explain import lines_around  # noqa: PLC0415 - the interpreter compiles when first imported
    from btcfi.proofs.settlement_proof import from_json  # noqa: PLC0415 - as above
    from btcfi.vm.program import program_of_proof  # noqa: PLC0415 - as above

    with console.reading() as session:
        body, _ = proof_bytes(session, settlement_id, views.EVERYTHING)
    proof = from_json(body)
    if n >= proof.steps:
        raise InvalidInputError("step", str(n), f"0 to {proof.steps - 1}")
    program = program_of_proof(proof.program_name, proof.program_hash, console.deps.api.programs)
    lines = lines_around(program, proof.input_bytes, at=n, around=AROUND)
    path = _path(proof, program, n) if proof.steps <= MAX_SHOWN_STEPS else None
    return {
        "lines": lines, "at": n, "steps": proof.steps, "path": path, "settlement_id": settlement_id,
        "root": proof.execution_trace_root.hex(), "names": _register_names(),
    }  # fmt: skip


def _path(proof: Any, program: Any, n: int) -> dict[str, Any]:  # noqa: ANN401 - types of modules that compile
    """Return the inclusion path of step ``n`` in the tree of a run made again."""
    from btcfi.proofs import merkle  # noqa: PLC0415 - as above
    from btcfi.vm.interpreter import trace_part  # noqa: PLC0415 - as above

    trace = trace_part(program, proof.input_bytes, first=0, count=proof.steps)
    levels = merkle.leaf_levels(merkle.trace_leaves(trace), merkle.height_of(proof.steps))
    at = bytes(levels[0][n].tobytes())
    leaf, index, nodes = at, n, []
    for level, sibling in enumerate(merkle.path_of(levels, n)):
        right = index % 2 == 0
        at = merkle.node_hash(at, sibling) if right else merkle.node_hash(sibling, at)
        side = "right" if right else "left"
        nodes.append(PathNode(level=level, sibling=sibling.hex(), side=side, parent=at.hex()))
        index //= 2
    return {"leaf": leaf.hex(), "nodes": nodes, "root": at.hex(), "holds": at == proof.execution_trace_root}


def _register_names() -> tuple[str, ...]:
    from btcfi.vm.isa import REGISTER_NAMES  # noqa: PLC0415 - as above

    return tuple(REGISTER_NAMES)
