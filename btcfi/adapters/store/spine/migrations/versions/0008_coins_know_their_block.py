"""The wallet's outputs know their block, so that a reorganisation takes them back."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.add_column("wallet_outpoint", sa.Column("height", sa.Integer(), nullable=True))


def downgrade() -> None:
    """Take back."""
    op.drop_column("wallet_outpoint", "height")
