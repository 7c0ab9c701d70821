"""Closes of options at a price that both sides name."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None


def _whole(name: str, *, nullable: bool = False) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger(), nullable=nullable)


def _string(name: str, *, nullable: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.String(), nullable=nullable)


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "market_close",
        sa.Column("id", sa.String(), primary_key=True),
        sa.Column("option_id", sa.String(), sa.ForeignKey("option.id"), nullable=False),
        _string("by"),
        _string("state"),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("answer", sa.Text(), nullable=True),
        _whole("payout_sats"),
        _whole("paid_sats", nullable=True),
        _whole("returned_sats", nullable=True),
        _whole("fee_sats", nullable=True),
        _string("txid", nullable=True),
        sa.Column("problem", sa.Text(), nullable=True),
        _whole("valid_until_unix"),
        _whole("created_at_unix"),
        _whole("updated_at_unix"),
    )
    op.create_index("ix_market_close_option", "market_close", ["option_id", "state"])
    op.create_index("ix_market_close_txid", "market_close", ["txid"])
    op.create_index("ix_market_close_lapsing", "market_close", ["state", "valid_until_unix"])


def downgrade() -> None:
    """Take back."""
    op.drop_table("market_close")
