"""Browsers that ask to be let in at the trader's desk, and those that an account has let in."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "desk_sign_in",
        sa.Column("code", sa.String(), primary_key=True),
        sa.Column("browser_sha256", sa.String(), nullable=False),
        sa.Column("browser", sa.String(), nullable=False),
        sa.Column("address", sa.String(), nullable=False),
        sa.Column("created_at_unix", sa.BigInteger(), nullable=False),
        sa.Column("expires_at_unix", sa.BigInteger(), nullable=False),
        sa.Column("account_id", sa.String(), sa.ForeignKey("account.id"), nullable=True),
        sa.Column("request_key", sa.String(), nullable=True),
        sa.Column("answer_sha256", sa.String(), nullable=True),
        sa.Column("tries", sa.Integer(), nullable=False),
    )
    op.create_index("ix_desk_sign_in_expires", "desk_sign_in", ["expires_at_unix"])
    op.create_table(
        "desk_session",
        sa.Column("token_sha256", sa.String(), primary_key=True),
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("account_id", sa.String(), sa.ForeignKey("account.id"), nullable=False),
        sa.Column("request_key", sa.String(), nullable=False),
        sa.Column("browser", sa.String(), nullable=False),
        sa.Column("address", sa.String(), nullable=False),
        sa.Column("created_at_unix", sa.BigInteger(), nullable=False),
        sa.Column("expires_at_unix", sa.BigInteger(), nullable=False),
        sa.Column("seen_at_unix", sa.BigInteger(), nullable=False),
    )
    op.create_index("ix_desk_session_account", "desk_session", ["account_id", "created_at_unix"])
    op.create_index("ix_desk_session_expires", "desk_session", ["expires_at_unix"])


def downgrade() -> None:
    """Take back."""
    op.drop_table("desk_session")
    op.drop_table("desk_sign_in")
