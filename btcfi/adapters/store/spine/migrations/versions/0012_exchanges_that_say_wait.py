"""Exchanges that have told a machine to wait, and until when."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "venue_wait",
        sa.Column("exchange", sa.String(), nullable=False),
        sa.Column("host", sa.String(), nullable=False),
        sa.Column("until_unix", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("exchange", "host"),
    )


def downgrade() -> None:
    """Take back."""
    op.drop_table("venue_wait")
