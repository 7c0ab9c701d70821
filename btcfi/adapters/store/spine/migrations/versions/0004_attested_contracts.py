"""Attested contracts."""

from __future__ import annotations

import sqlalchemy as sa
import sqlmodel.sql.sqltypes
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    text = sqlmodel.sql.sqltypes.AutoString()
    op.create_table(
        "oracle_event",
        sa.Column("id", text, nullable=False),
        sa.Column("feed", text, nullable=False),
        sa.Column("expiry_unix", sa.BigInteger(), nullable=False),
        sa.Column("barrier_cents", sa.BigInteger(), nullable=True),
        sa.Column("barrier_above", sa.Boolean(), nullable=False),
        sa.Column("since_slot", sa.BigInteger(), nullable=False),
        sa.Column("announcements", sa.Text(), nullable=False),
        sa.Column("created_at_unix", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "attestation",
        sa.Column("oracle_key", text, nullable=False),
        sa.Column("event_id", text, nullable=False),
        sa.Column("outcome", sa.BigInteger(), nullable=False),
        sa.Column("body", sa.Text(), nullable=True),
        sa.Column("claimed_at_unix", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("oracle_key", "event_id"),
    )
    op.create_index("ix_attestation_event", "attestation", ["event_id"])
    op.create_table(
        "contract",
        sa.Column("option_id", text, nullable=False),
        sa.Column("state", text, nullable=False),
        sa.Column("event_id", text, nullable=False),
        sa.Column("expiry_height", sa.Integer(), nullable=False),
        sa.Column("refund_height", sa.Integer(), nullable=False),
        sa.Column("order_body", sa.Text(), nullable=False),
        sa.Column("offer_id", text, nullable=True),
        sa.Column("offer_sha256", text, nullable=True),
        sa.Column("accept_sha256", text, nullable=True),
        sa.Column("sign_sha256", text, nullable=True),
        sa.Column("plan_sha256", text, nullable=True),
        sa.Column("contract_id", text, nullable=True),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.Column("created_at_unix", sa.BigInteger(), nullable=False),
        sa.Column("updated_at_unix", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("option_id"),
    )
    op.create_index("ix_contract_state", "contract", ["state"])
    with op.batch_alter_table("option") as batch_op:
        batch_op.create_index("ix_option_funding", ["funding_txid"])


def downgrade() -> None:
    """Take back."""
    with op.batch_alter_table("option") as batch_op:
        batch_op.drop_index("ix_option_funding")
    op.drop_table("contract")
    op.drop_table("attestation")
    op.drop_table("oracle_event")
