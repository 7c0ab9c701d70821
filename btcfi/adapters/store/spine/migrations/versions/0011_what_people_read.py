"""Indexes for what people read: options by expiry, kind and style, premiums as they were stored, requests by state."""

from __future__ import annotations

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

_INDEXES = (
    ("ix_option_expiry", "option", ["expiry_unix", "id"]),
    ("ix_option_kind_newest", "option", ["kind", "created_at_unix", "id"]),
    ("ix_option_style_newest", "option", ["american", "created_at_unix", "id"]),
    ("ix_premium_newest", "premium", ["priced_at_unix", "option_id"]),
    ("ix_settlement_request_state", "settlement_request", ["state"]),
)


def upgrade() -> None:
    """Apply."""
    for name, table, columns in _INDEXES:
        op.create_index(name, table, columns)


def downgrade() -> None:
    """Take back."""
    for name, table, _ in reversed(_INDEXES):
        op.drop_index(name, table)
