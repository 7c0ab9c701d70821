"""What was anchored, and since when a transaction waits."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "anchor",
        sa.Column("txid", sa.String(), nullable=False),
        sa.Column("batch", sa.Integer(), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("root", sa.String(), nullable=False),
        sa.Column("created_at_unix", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("txid"),
    )
    op.create_index("ix_anchor_batch", "anchor", ["batch"])
    op.create_table(
        "anchor_item",
        sa.Column("batch", sa.Integer(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("kind", sa.Integer(), nullable=False),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("part", sa.String(), nullable=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("context", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("batch", "position"),
    )
    op.create_index("ix_anchor_item_subject", "anchor_item", ["kind", "subject"])
    op.add_column("chain_transaction", sa.Column("built_height", sa.Integer(), nullable=True))


def downgrade() -> None:
    """Take back."""
    op.drop_column("chain_transaction", "built_height")
    op.drop_index("ix_anchor_item_subject", table_name="anchor_item")
    op.drop_table("anchor_item")
    op.drop_index("ix_anchor_batch", table_name="anchor")
    op.drop_table("anchor")
