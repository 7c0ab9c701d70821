"""Webhooks of accounts, and how far the events were looked through for them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None

WAITING = "state = 'active' AND told_event < newest_event"


def _whole(name: str, *, nullable: bool = False) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger(), nullable=nullable)


def _string(name: str, *, nullable: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.String(), nullable=nullable)


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "webhook",
        sa.Column("id", sa.String(), primary_key=True),
        sa.Column("account_id", sa.String(), sa.ForeignKey("account.id"), nullable=False),
        _string("url"),
        _string("kinds"),
        sa.Column("secret_sealed", sa.LargeBinary(), nullable=False),
        _string("state"),
        _whole("told_event"),
        _whole("newest_event"),
        sa.Column("tries", sa.Integer(), nullable=False),
        _whole("tried_at_unix"),
        sa.Column("rest_seconds", sa.Integer(), nullable=False),
        sa.Column("fence", sa.Integer(), nullable=False),
        sa.Column("slow", sa.Boolean(), nullable=False),
        sa.Column("last_status", sa.Integer(), nullable=True),
        _string("problem", nullable=True),
        _whole("told_at_unix", nullable=True),
        _whole("created_at_unix"),
        _whole("updated_at_unix"),
        sa.UniqueConstraint("account_id", "url"),
    )
    op.create_index("ix_webhook_of", "webhook", ["account_id", "created_at_unix", "id"])
    op.create_index("ix_webhook_state", "webhook", ["state"])
    op.create_index(
        "ix_webhook_waiting", "webhook", ["tried_at_unix", "id"], sqlite_where=sa.text(WAITING),
        postgresql_where=sa.text(WAITING),
    )  # fmt: skip
    op.create_table(
        "webhook_look",
        sa.Column("name", sa.String(), primary_key=True),
        _whole("event_id"),
        _whole("gap_upto", nullable=True),
        _whole("gap_since_ms", nullable=True),
    )


def downgrade() -> None:
    """Take back."""
    op.drop_table("webhook_look")
    op.drop_table("webhook")
