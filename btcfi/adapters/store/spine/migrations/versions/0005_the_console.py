"""The console: accounts, sessions, audit, paused feeds, and the order in which lists are read."""

from __future__ import annotations

import sqlalchemy as sa
import sqlmodel.sql.sqltypes
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_TEXT = sqlmodel.sql.sqltypes.AutoString
_NEWEST = (
    ("option", "ix_option_newest", ["created_at_unix", "id"]),
    ("option", "ix_option_state_newest", ["state", "created_at_unix", "id"]),
    ("settlement", "ix_settlement_newest", ["created_at_unix", "id"]),
    ("settlement", "ix_settlement_state_newest", ["state", "created_at_unix", "id"]),
)


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "console_account",
        sa.Column("name", _TEXT(), nullable=False),
        sa.Column("password_hash", _TEXT(), nullable=False),
        sa.Column("roles", _TEXT(), nullable=False),
        sa.Column("created_at_unix", sa.BigInteger(), nullable=False),
        sa.Column("password_set_at_unix", sa.BigInteger(), nullable=False),
        sa.Column("disabled_at_unix", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "console_session",
        sa.Column("token_sha256", _TEXT(), nullable=False),
        sa.Column("account", _TEXT(), nullable=False),
        sa.Column("created_at_unix", sa.BigInteger(), nullable=False),
        sa.Column("expires_at_unix", sa.BigInteger(), nullable=False),
        sa.Column("seen_at_unix", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["account"], ["console_account.name"]),
        sa.PrimaryKeyConstraint("token_sha256"),
    )
    op.create_index("ix_console_session_account", "console_session", ["account"], unique=False)
    op.create_table(
        "console_audit",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("at_unix", sa.BigInteger(), nullable=False),
        sa.Column("account", _TEXT(), nullable=False),
        sa.Column("address", _TEXT(), nullable=False),
        sa.Column("action", _TEXT(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("outcome", _TEXT(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_console_audit_action", "console_audit", ["action", "at_unix"], unique=False)
    op.create_table(
        "paused_feed",
        sa.Column("feed", _TEXT(), nullable=False),
        sa.Column("paused_by", _TEXT(), nullable=False),
        sa.Column("paused_at_unix", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("feed"),
    )
    for table, name, columns in _NEWEST:
        op.create_index(name, table, columns, unique=False)


def downgrade() -> None:
    """Take back."""
    for table, name, _ in _NEWEST:
        op.drop_index(name, table_name=table)
    for table in ("paused_feed", "console_audit", "console_session", "console_account"):
        op.drop_table(table)
