"""Weekly swaps: contracts, prices, weeks, books, subcontracts, balances, settlements, events."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0028"
down_revision = "0027"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "swap",
        sa.Column("id", sa.String(), primary_key=True),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("asset", sa.String(), nullable=False),
        sa.Column("quote", sa.String(), nullable=False),
        sa.Column("leverage_hundredths", sa.Integer(), nullable=False),
        sa.Column("target_ppm", sa.Integer(), nullable=False),
        sa.Column("basis_ppm", sa.Integer(), nullable=False),
        sa.Column("proposed_target_ppm", sa.Integer(), nullable=True),
        sa.Column("proposed_basis_ppm", sa.Integer(), nullable=True),
        sa.Column("created_at_unix", sa.BigInteger(), nullable=False),
        sa.Column("updated_at_unix", sa.BigInteger(), nullable=False),
    )
    op.create_table(
        "swap_board",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("week", sa.Integer(), nullable=False),
        sa.Column("day", sa.String(), nullable=False),
        sa.Column("posted_at_unix", sa.BigInteger(), nullable=False),
        sa.Column("changed_at_unix", sa.BigInteger(), nullable=False),
        sa.Column("settlement_at_unix", sa.BigInteger(), nullable=False),
    )
    op.create_table(
        "swap_price",
        sa.Column("week", sa.Integer(), primary_key=True),
        sa.Column("slot", sa.Integer(), primary_key=True),
        sa.Column("contract", sa.String(), primary_key=True),
        sa.Column("asset_millionths", sa.BigInteger(), nullable=False),
        sa.Column("margin_millionths", sa.BigInteger(), nullable=False),
        sa.Column("day", sa.String(), nullable=False),
        sa.Column("corrected", sa.Boolean(), nullable=False),
    )
    op.create_table(
        "swap_quote",
        sa.Column("day", sa.String(), primary_key=True),
        sa.Column("contract", sa.String(), primary_key=True),
        sa.Column("asset_millionths", sa.BigInteger(), nullable=False),
        sa.Column("brought_by", sa.String(), nullable=False),
        sa.Column("at_unix", sa.BigInteger(), nullable=False),
    )
    op.create_table(
        "swap_week",
        sa.Column("id", sa.String(), primary_key=True),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("contract", sa.String(), nullable=False),
        sa.Column("week", sa.Integer(), nullable=False),
        sa.Column("target_ppm", sa.Integer(), nullable=True),
        sa.Column("basis_ppm", sa.Integer(), nullable=True),
        sa.Column("days", sa.Integer(), nullable=True),
        sa.Column("returns", sa.Text(), nullable=True),
        sa.Column("computed_at_unix", sa.BigInteger(), nullable=True),
        sa.Column("chain_time_unix", sa.BigInteger(), nullable=True),
        sa.Column("claimed_until_unix", sa.BigInteger(), nullable=False),
        sa.Column("created_at_unix", sa.BigInteger(), nullable=False),
        sa.Column("updated_at_unix", sa.BigInteger(), nullable=False),
        sa.UniqueConstraint("contract", "week"),
    )
    op.create_index("ix_swap_week_state", "swap_week", ["state"])
    op.create_table(
        "swap_book",
        sa.Column("id", sa.String(), primary_key=True),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("contract", sa.String(), nullable=False),
        sa.Column("provider", sa.String(), nullable=False),
        sa.Column("margin_sats", sa.BigInteger(), nullable=False),
        sa.Column("minimum_take_sats", sa.BigInteger(), nullable=False),
        sa.Column("next_number", sa.Integer(), nullable=False),
        sa.Column("netted_sats", sa.BigInteger(), nullable=False),
        sa.Column("last_settle_at_unix", sa.BigInteger(), nullable=False),
        sa.Column("weeks", sa.Integer(), nullable=False),
        sa.Column("paid_in_sats", sa.BigInteger(), nullable=False),
        sa.Column("burned_sats", sa.BigInteger(), nullable=False),
        sa.Column("created_at_unix", sa.BigInteger(), nullable=False),
        sa.Column("updated_at_unix", sa.BigInteger(), nullable=False),
        sa.UniqueConstraint("contract", "provider"),
    )
    op.create_index("ix_swap_book_provider", "swap_book", ["provider"])
    op.create_index("ix_swap_book_state", "swap_book", ["contract", "state", "last_settle_at_unix"])
    op.create_table(
        "swap_subcontract",
        sa.Column("id", sa.String(), primary_key=True),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("book_id", sa.String(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("taker", sa.String(), nullable=False),
        sa.Column("side", sa.Integer(), nullable=False),
        sa.Column("required_sats", sa.BigInteger(), nullable=False),
        sa.Column("margin_sats", sa.BigInteger(), nullable=False),
        sa.Column("taken_at_unix", sa.BigInteger(), nullable=False),
        sa.Column("start_week", sa.Integer(), nullable=True),
        sa.Column("start_slot", sa.Integer(), nullable=True),
        sa.Column("settled_once", sa.Boolean(), nullable=False),
        sa.Column("cancelled_by", sa.String(), nullable=True),
        sa.Column("admin_cancelled", sa.Boolean(), nullable=False),
        sa.Column("taker_burned", sa.Boolean(), nullable=False),
        sa.Column("provider_burned", sa.Boolean(), nullable=False),
        sa.Column("updated_at_unix", sa.BigInteger(), nullable=False),
        sa.UniqueConstraint("book_id", "number"),
    )
    op.create_index("ix_swap_subcontract_book", "swap_subcontract", ["book_id", "state"])
    op.create_index("ix_swap_subcontract_state", "swap_subcontract", ["state"])
    op.create_index("ix_swap_subcontract_taker", "swap_subcontract", ["taker", "state"])
    op.create_table(
        "swap_balance",
        sa.Column("owner", sa.String(), primary_key=True),
        sa.Column("amount_sats", sa.BigInteger(), nullable=False),
        sa.Column("paid_out_sats", sa.BigInteger(), nullable=False),
    )
    op.create_table(
        "swap_settlement",
        sa.Column("book_id", sa.String(), primary_key=True),
        sa.Column("week", sa.Integer(), primary_key=True),
        sa.Column("burned_sats", sa.BigInteger(), nullable=False),
        sa.Column("fees_sats", sa.BigInteger(), nullable=False),
        sa.Column("provider_margin_sats", sa.BigInteger(), nullable=False),
        sa.Column("profits", sa.Text(), nullable=False),
        sa.Column("credits", sa.Text(), nullable=False),
        sa.Column("settled_at_unix", sa.BigInteger(), nullable=False),
    )
    op.create_index("ix_swap_settlement_week", "swap_settlement", ["week", "book_id"])
    op.create_table(
        "swap_event",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("contract", sa.String(), nullable=False),
        sa.Column("provider", sa.String(), nullable=False),
        sa.Column("fields", sa.Text(), nullable=False),
        sa.Column("at_unix", sa.BigInteger(), nullable=False),
    )
    op.create_index("ix_swap_event_book", "swap_event", ["contract", "provider", "id"])


def downgrade() -> None:
    """Take back."""
    for table in (
        "swap_event",
        "swap_settlement",
        "swap_balance",
        "swap_subcontract",
        "swap_book",
        "swap_week",
        "swap_quote",
        "swap_price",
        "swap_board",
        "swap",
    ):
        op.drop_table(table)
