"""An account's closes are listed, and a contract is found by its address, each by an index."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None

SIDES = ("writer", "holder")


def upgrade() -> None:
    """Apply."""
    for side in SIDES:
        op.add_column("market_close", sa.Column(side, sa.String(), nullable=True))
        # a close's sides are its option's, which never change
        op.execute(
            f"UPDATE market_close SET {side} = "  # noqa: S608 - one of our two words
            f'(SELECT o.{side} FROM "option" o WHERE o.id = market_close.option_id)'
        )
        op.create_index(f"ix_market_close_{side}", "market_close", [side, "created_at_unix", "id"])
    op.create_index("ix_market_close_newest", "market_close", ["created_at_unix", "id"])
    op.create_index("ix_option_address", "option", ["address"])


def downgrade() -> None:
    """Take back."""
    op.drop_index("ix_option_address", "option")
    op.drop_index("ix_market_close_newest", "market_close")
    for side in SIDES:
        op.drop_index(f"ix_market_close_{side}", "market_close")
        op.drop_column("market_close", side)
