"""What a restart must know of the oracle network's rounds: commitments; and by which rule a minute was agreed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "oracle_commitment",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("feed", sa.String(), nullable=False),
        sa.Column("slot", sa.BigInteger(), nullable=False),
        sa.Column("node_id", sa.String(), nullable=False),
        sa.Column("message", sa.LargeBinary(), nullable=False),
        sa.Column("received_at_unix", sa.BigInteger(), nullable=False),
        sa.UniqueConstraint("feed", "slot", "node_id"),
    )
    op.add_column("round", sa.Column("rule_sha256", sa.String(), nullable=True))


def downgrade() -> None:
    """Take back."""
    op.drop_column("round", "rule_sha256")
    op.drop_table("oracle_commitment")
