"""What happens by the clock notes when it ended, by the database's clock."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "tick",
        sa.Column("name", sa.String(), primary_key=True),
        sa.Column("ended_ms", sa.BigInteger(), nullable=False),
        sa.Column("ahead_ms", sa.BigInteger(), nullable=False),
        sa.Column("worker", sa.String(), nullable=False),
    )


def downgrade() -> None:
    """Take back."""
    op.drop_table("tick")
