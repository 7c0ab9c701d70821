"""``btcfi fees``: what the next blocks would hold, and which settlements wait for one."""

from __future__ import annotations

from typing import Annotated

import typer

from btcfi.adapters.chain.pool import look
from btcfi.documents import printable
from btcfi.surfaces.fee_view import FeeView, fee_view
from btcfi.surfaces.rest.reads import fees_of
from settings.deployment import load_deployment
from settings.preset import load_preset
from tasks.context import fee_rule
from workers.deployed import node_of, open_store


def fees(
    *, as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False
) -> None:
    """Show what the next blocks would hold, and which settlements wait for one, deadline first.

    The store is the deployment's, the pool its node's. Nothing is sent.
    """
    deployment, store = load_deployment(), open_store()
    try:
        pool = (lambda: look(node_of(deployment))) if deployment.node_url else None
        seen = fee_view(store, pool, fee_rule(load_preset(deployment.preset)))
    finally:
        store.close()
    typer.echo(fees_of(seen).model_dump_json() if as_json else "\n".join(_lines(seen)))


def _lines(seen: FeeView) -> list[str]:
    payments, market = seen.payments, seen.market
    lines = [f"settlements: {payments.in_flight:,} in flight; {payments.share:,} vB of each block are planned for them"]
    head = ("refund height", "blocks left", "waiting", "put off", "in flight", "last turn", "too late")
    lines.append("  ".join(f"{one:>13}" for one in head))
    lines += [
        "  ".join(f"{one:>13}" for one in (
            f"{row.refund_height:,}", f"{row.refund_height - seen.tip:,}", f"{row.waiting:,}", f"{row.put_off:,}",
            f"{row.in_flight:,}", "-" if row.last_turn is None else f"{row.last_turn:,}", f"{row.late:,}",
        ))
        for row in payments.deadlines
    ]  # fmt: skip
    if market is not None:
        lines.append(
            f"pool: {market.size.transactions:,} transactions, {market.size.vsize:,} vB; nothing below "
            f"{market.size.relay_fee / 1_000:g} sat/vB"
        )
        lines += [
            f"  estimate for {blocks} blocks: {rate / 1_000:g} sat/vB"
            for blocks, rate in market.estimates.items()
            if rate is not None
        ]
        lines += [
            f"  block +{one.number}: {one.transactions:,} transactions, {one.vsize:,} vB, {one.lowest / 1_000:g} to "
            f"{one.highest / 1_000:g} sat/vB{', full' if one.full else ''}"
            for one in market.blocks
        ]
    if seen.problem:
        lines.append(f"next blocks not shown: {printable(seen.problem, 300)}")
    return lines
