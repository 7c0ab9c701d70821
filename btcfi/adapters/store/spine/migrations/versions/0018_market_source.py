"""A store says which market its prices are of, so that no other one settles what is open."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "market_source",
        sa.Column("feed", sa.String(), primary_key=True),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("since_unix", sa.BigInteger(), nullable=False),
    )


def downgrade() -> None:
    """Take back."""
    op.drop_table("market_source")
