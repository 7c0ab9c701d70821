"""An outbox row that cannot be started is set aside, and an order that came by a message is taken once."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.add_column("outbox", sa.Column("problem", sa.Text(), nullable=True))
    op.add_column("outbox", sa.Column("tried_at_unix", sa.BigInteger(), nullable=True))
    op.create_table(
        "taken_order",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("at_unix", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )


def downgrade() -> None:
    """Take back."""
    op.drop_table("taken_order")
    op.drop_column("outbox", "tried_at_unix")
    op.drop_column("outbox", "problem")
