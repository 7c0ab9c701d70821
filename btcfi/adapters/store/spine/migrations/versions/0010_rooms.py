"""A transaction's purpose says what it is for and nothing else; an id means one thing.

``child replaced by TXID`` becomes ``child`` with the TXID in a column; a split or an anchor has no subject, where its
own txid stood for an option's id; a coin names the transaction that it is kept for; a round's first event has the
round's number, where feed and minute stood.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_REPLACED = "child replaced by "

_KEPT = (
    "txid, raw_hex, spends, fee_sats, built_height, height, block_hash, last_error, created_at_unix, updated_at_unix, "
    "state"
)


def _columns(*own: sa.Column[Any]) -> list[sa.Column[Any]]:
    return [
        sa.Column("txid", sa.String(), nullable=False),
        sa.Column("purpose", sa.String(), nullable=False),
        *own,
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("raw_hex", sa.Text(), nullable=False),
        sa.Column("spends", sa.String(), nullable=False),
        sa.Column("fee_sats", sa.BigInteger(), nullable=False),
        sa.Column("built_height", sa.Integer(), nullable=True),
        sa.Column("height", sa.Integer(), nullable=True),
        sa.Column("block_hash", sa.String(), nullable=True),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.Column("created_at_unix", sa.BigInteger(), nullable=False),
        sa.Column("updated_at_unix", sa.BigInteger(), nullable=False),
    ]


def _lock() -> None:
    """Wait for whoever writes, and keep them out: what a worker stored after the copy would go with the old table.

    On SQLite the transaction has the whole file from its beginning.
    """
    if op.get_bind().dialect.name == "postgresql":
        op.execute("LOCK TABLE chain_transaction, wallet_outpoint, round, event IN ACCESS EXCLUSIVE MODE")


def _name_anchors() -> None:
    """Name the coins of anchors by the transactions that spend them; a year has some nine thousand of each."""
    op.execute(
        "CREATE TEMPORARY TABLE anchor_of AS SELECT spends, max(txid) AS txid FROM chain_transaction "
        "WHERE purpose = 'anchor' AND state <> 'replaced' GROUP BY spends"
    )
    op.execute("CREATE INDEX ix_anchor_of ON anchor_of (spends)")
    op.execute(
        "UPDATE wallet_outpoint SET reserved_by = (SELECT txid FROM anchor_of WHERE spends = wallet_outpoint.outpoint) "
        "WHERE reserved_by LIKE 'anchor %' AND outpoint IN (SELECT spends FROM anchor_of)"
    )
    op.execute("DROP TABLE anchor_of")


def _name_rounds(now: str, then: str) -> None:
    """Name the rounds of their first events by ``then`` instead of ``now``; a year has half a million of them."""
    op.execute(
        "CREATE TEMPORARY TABLE round_name AS "
        "SELECT feed || '@' || CAST(slot AS VARCHAR) AS minute, CAST(id AS VARCHAR) AS number FROM round"
    )
    op.execute(f"CREATE INDEX ix_round_name ON round_name ({now})")
    op.execute(
        f"UPDATE event SET entity_id = (SELECT {then} FROM round_name WHERE {now} = event.entity_id) "  # noqa: S608
        f"WHERE entity = 'round' AND from_state = '' AND entity_id IN (SELECT {now} FROM round_name)"
    )
    op.execute("DROP TABLE round_name")


def upgrade() -> None:
    """Apply."""
    _lock()
    op.create_table(
        "chain_transaction_new",
        *_columns(
            sa.Column("subject", sa.String(), nullable=True), sa.Column("replaced_by", sa.String(), nullable=True)
        ),
        sa.PrimaryKeyConstraint("txid", name="pk_chain_transaction"),
    )
    op.execute(
        f"INSERT INTO chain_transaction_new (purpose, subject, replaced_by, {_KEPT}) SELECT "  # noqa: S608 - constants
        f"CASE WHEN purpose LIKE '{_REPLACED}%' THEN 'child' ELSE purpose END, "
        "CASE WHEN option_id = txid THEN NULL ELSE option_id END, "
        f"CASE WHEN purpose LIKE '{_REPLACED}%' THEN substr(purpose, {len(_REPLACED) + 1}) END, "
        f"{_KEPT} FROM chain_transaction"
    )
    # a coin was kept for an option (its child's fee), for a split's txid, or for the batch of an anchor
    op.execute(
        "UPDATE wallet_outpoint SET reserved_by = (SELECT t.txid FROM chain_transaction t "
        "WHERE t.purpose = 'child' AND t.option_id = wallet_outpoint.reserved_by) "
        "WHERE EXISTS (SELECT 1 FROM chain_transaction t "
        "WHERE t.purpose = 'child' AND t.option_id = wallet_outpoint.reserved_by)"
    )
    _name_anchors()
    op.drop_table("chain_transaction")
    op.rename_table("chain_transaction_new", "chain_transaction")
    op.create_index("ix_transaction_state", "chain_transaction", ["state"])
    op.create_index("ix_transaction_subject", "chain_transaction", ["subject"])
    standing = sa.text("replaced_by IS NULL")
    op.create_index(
        "ux_transaction_standing", "chain_transaction", ["purpose", "subject"], unique=True, sqlite_where=standing,
        postgresql_where=standing,
    )  # fmt: skip
    _name_rounds("minute", "number")


def downgrade() -> None:
    """Take back."""
    _lock()
    _name_rounds("number", "minute")
    op.execute(
        "UPDATE wallet_outpoint SET reserved_by = (SELECT t.subject FROM chain_transaction t "
        "WHERE t.txid = wallet_outpoint.reserved_by) WHERE EXISTS (SELECT 1 FROM chain_transaction t "
        "WHERE t.txid = wallet_outpoint.reserved_by AND t.subject IS NOT NULL)"
    )
    op.create_table(
        "chain_transaction_old",
        *_columns(sa.Column("option_id", sa.String(), nullable=False)),
        sa.PrimaryKeyConstraint("txid", name="chain_transaction_pkey"),
        sa.UniqueConstraint("purpose", "option_id", name="chain_transaction_purpose_option_id_key"),
    )
    op.execute(
        f"INSERT INTO chain_transaction_old (purpose, option_id, {_KEPT}) SELECT "  # noqa: S608 - constants
        f"CASE WHEN replaced_by IS NULL THEN purpose ELSE '{_REPLACED}' || replaced_by END, "
        f"coalesce(subject, txid), {_KEPT} FROM chain_transaction"
    )
    op.drop_table("chain_transaction")
    op.rename_table("chain_transaction_old", "chain_transaction")
    op.create_index("ix_transaction_state", "chain_transaction", ["state"])
