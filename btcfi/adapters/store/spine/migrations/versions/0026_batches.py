"""Contracts end together: who agrees to it, the batches on their way, what each signed one pays."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "batch",
        sa.Column("id", sa.String(), primary_key=True),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("txid", sa.String(), nullable=True),
        sa.Column("until_unix", sa.BigInteger(), nullable=False),
        sa.Column("created_at_unix", sa.BigInteger(), nullable=False),
        sa.Column("updated_at_unix", sa.BigInteger(), nullable=False),
    )
    op.create_index("ix_batch_state", "batch", ["state"])
    op.create_table(
        "batch_part",
        sa.Column("option_id", sa.String(), primary_key=True),
        sa.Column("buyer_at_unix", sa.BigInteger(), nullable=True),
        sa.Column("seller_at_unix", sa.BigInteger(), nullable=True),
        sa.Column("batch_id", sa.String(), nullable=True),
        sa.Column("why", sa.Text(), nullable=True),
    )
    op.create_index("ix_batch_part_batch", "batch_part", ["batch_id"])
    op.create_table(
        "batch_end",
        sa.Column("txid", sa.String(), primary_key=True),
        sa.Column("position", sa.Integer(), primary_key=True),
        sa.Column("batch_id", sa.String(), nullable=False),
        sa.Column("option_id", sa.String(), nullable=False),
        sa.Column("proof_root", sa.String(), nullable=False),
        sa.Column("paid_sats", sa.BigInteger(), nullable=False),
        sa.Column("returned_sats", sa.BigInteger(), nullable=False),
        sa.Column("fee_sats", sa.BigInteger(), nullable=False),
        sa.Column("share_sats", sa.BigInteger(), nullable=False),
    )
    op.create_index("ix_batch_end_option", "batch_end", ["option_id"])


def downgrade() -> None:
    """Take back."""
    for table in ("batch_end", "batch_part", "batch"):
        op.drop_table(table)
