"""A settlement says what its transaction pays, beside what the guest computed; an anchor's value is no fee.

Filled in from the transactions that are stored: ``fee_sats`` of a settlement had its anchor's value in it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

_COLUMNS: Final = ("paid_sats", "returned_sats", "fee_sats")
_ANCHOR: Final = "51024e73"
_RETURN: Final = "6a"

_SETTLEMENTS: Final = sa.text(
    "SELECT s.id, s.state, s.payout_sats, o.collateral_sats, o.contract, t.txid, t.raw_hex FROM settlement s "
    'JOIN "option" o ON o.id = s.option_id JOIN chain_transaction t ON t.txid = s.txid '
    "WHERE s.id > :after ORDER BY s.id LIMIT 1000"
)


def upgrade() -> None:
    """Apply."""
    for name in _COLUMNS:
        op.add_column("settlement", sa.Column(name, sa.BigInteger(), nullable=True))
    bind, totals = op.get_bind(), {"payout": 0, "paid": 0, "returned": 0, "fee": 0}
    paying = sa.text(
        "UPDATE settlement SET paid_sats = :paid, returned_sats = :returned, fee_sats = :fee WHERE id = :id"
    )
    costing = sa.text("UPDATE chain_transaction SET fee_sats = :fee WHERE txid = :txid AND purpose = 'settlement'")
    for row in _settlements(bind):
        found = _paid(row)
        if found is None:
            continue
        bind.execute(paying, {"id": row.id, **found})
        bind.execute(costing, {"txid": row.txid, "fee": found["fee"]})
        if row.state == "confirmed":
            for name, value in {"payout": row.payout_sats or 0, **found}.items():
                totals[name] += value
    children = sa.text(
        "SELECT coalesce(sum(t.fee_sats), 0) FROM chain_transaction t JOIN settlement s ON s.option_id = t.subject "
        "WHERE t.purpose = 'child' AND t.replaced_by IS NULL AND s.state = 'confirmed'"
    )
    totals["child_fee"] = int(bind.execute(children).scalar_one())
    counters = sa.table("counter", sa.column("name", sa.String()), sa.column("value", sa.BigInteger()))
    kept = [{"name": f"settled_{name}_sats", "value": value} for name, value in totals.items() if value]
    op.bulk_insert(counters, kept)


def downgrade() -> None:
    """Take back."""
    bind = op.get_bind()
    costing = sa.text("UPDATE chain_transaction SET fee_sats = :fee WHERE txid = :txid AND purpose = 'settlement'")
    for row in _settlements(bind):
        found = _paid(row)
        if found is not None:
            bind.execute(costing, {"txid": row.txid, "fee": row.collateral_sats - found["paid"] - found["returned"]})
    op.execute("DELETE FROM counter WHERE name LIKE 'settled\\_%\\_sats' ESCAPE '\\'")
    for name in reversed(_COLUMNS):
        op.drop_column("settlement", name)


def _settlements(bind: sa.Connection) -> Iterator[Any]:
    after = ""
    while rows := bind.execute(_SETTLEMENTS, {"after": after}).all():
        yield from rows
        after = rows[-1].id


def _paid(row: Any) -> dict[str, int] | None:  # noqa: ANN401 - a row of seven columns
    """Return how a settlement's transaction divides the collateral; None where its outputs do not tell."""
    try:
        kept = json.loads(row.contract or "{}")
        outputs = _outputs(bytes.fromhex(row.raw_hex))
    except (ValueError, IndexError):
        return None
    buyer, seller = kept.get("buyer_script"), kept.get("seller_script")
    known = {buyer, seller, _ANCHOR}
    if not buyer or not seller or buyer == seller:
        return None
    if any(script not in known and not script.startswith(_RETURN) for _, script in outputs):
        return None
    fee = row.collateral_sats - sum(value for value, _ in outputs)
    return {
        "paid": sum(value for value, script in outputs if script == buyer),
        "returned": sum(value for value, script in outputs if script == seller), "fee": fee,
    }  # fmt: skip


def _outputs(raw: bytes) -> list[tuple[int, str]]:
    """Return value and script (hex) of each output. What a migration reads must not change with the code."""
    at = 6 if raw[4:6] == b"\x00\x01" else 4
    inputs, at = _size(raw, at)
    for _ in range(inputs):
        length, at = _size(raw, at + 36)
        at += length + 4
    count, at = _size(raw, at)
    found = []
    for _ in range(count):
        value = int.from_bytes(raw[at : at + 8], "little")
        length, at = _size(raw, at + 8)
        found.append((value, raw[at : at + length].hex()))
        at += length
    return found


def _size(raw: bytes, at: int) -> tuple[int, int]:
    first = raw[at]
    width = {0xFD: 2, 0xFE: 4, 0xFF: 8}.get(first)
    if width is None:
        return first, at + 1
    return int.from_bytes(raw[at + 1 : at + 1 + width], "little"), at + 1 + width
