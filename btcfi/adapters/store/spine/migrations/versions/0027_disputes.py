"""Disputed contracts under watch, and what the chain showed of each."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0027"
down_revision = "0026"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "dispute",
        sa.Column("id", sa.String(), primary_key=True),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("contract_id", sa.String(), nullable=False),
        sa.Column("body_sha256", sa.String(), nullable=False),
        sa.Column("registered_by", sa.String(), nullable=False),
        sa.Column("opening_txid", sa.String(), nullable=False),
        sa.Column("coin", sa.String(), nullable=True),
        sa.Column("walked_height", sa.Integer(), nullable=False),
        sa.Column("walked_hash", sa.String(), nullable=False),
        sa.Column("final_height", sa.Integer(), nullable=True),
        sa.Column("moved_height", sa.Integer(), nullable=True),
        sa.Column("deadline_height", sa.Integer(), nullable=True),
        sa.Column("overdue_height", sa.Integer(), nullable=True),
        sa.Column("claimed_range", sa.Integer(), nullable=True),
        sa.Column("created_at_unix", sa.BigInteger(), nullable=False),
        sa.Column("updated_at_unix", sa.BigInteger(), nullable=False),
    )
    op.create_index("ix_dispute_state", "dispute", ["state"])
    op.create_index("ix_dispute_created", "dispute", ["created_at_unix", "id"])
    op.create_index("ix_dispute_final", "dispute", ["final_height"])
    op.create_table(
        "dispute_step",
        sa.Column("dispute_id", sa.String(), primary_key=True),
        sa.Column("number", sa.Integer(), primary_key=True),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("txid", sa.String(), nullable=False),
        sa.Column("raw_hex", sa.Text(), nullable=False),
        sa.Column("height", sa.Integer(), nullable=False),
        sa.Column("block_hash", sa.String(), nullable=False),
    )


def downgrade() -> None:
    """Take back."""
    for table in ("dispute_step", "dispute"):
        op.drop_table(table)
