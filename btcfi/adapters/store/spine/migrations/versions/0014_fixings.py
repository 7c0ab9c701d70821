"""An option names what settles it, and a settlement the minutes that its price is made of."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.add_column("option", sa.Column("fixing", sa.String(), nullable=True))
    op.add_column("settlement", sa.Column("window", sa.Text(), nullable=True))


def downgrade() -> None:
    """Take back."""
    op.drop_column("settlement", "window")
    op.drop_column("option", "fixing")
