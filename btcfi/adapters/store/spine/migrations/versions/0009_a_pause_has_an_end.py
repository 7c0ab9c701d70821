"""A pause keeps its end: its minutes are not caught up afterwards."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.add_column("paused_feed", sa.Column("resumed_at_unix", sa.BigInteger(), nullable=True))


def downgrade() -> None:
    """Take back."""
    op.execute("DELETE FROM paused_feed WHERE resumed_at_unix IS NOT NULL")  # a row meant a pause that lasts
    op.drop_column("paused_feed", "resumed_at_unix")
