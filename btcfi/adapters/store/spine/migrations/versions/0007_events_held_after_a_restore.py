"""Events that are held after a restore."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "held_event",
        sa.Column("event_id", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("outcome", sa.BigInteger(), nullable=True),
        sa.Column("taken_at_unix", sa.BigInteger(), nullable=False),
        sa.Column("held_at_unix", sa.BigInteger(), nullable=False),
        sa.Column("decided_at_unix", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("event_id"),
    )


def downgrade() -> None:
    """Take back."""
    op.drop_table("held_event")
