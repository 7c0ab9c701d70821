"""Requests for quotes; an offer may answer one, and its price may move."""

from __future__ import annotations

from typing import Any, Final

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None

_MOVING: Final = "state = 'open' AND moves_at_unix IS NOT NULL"
_ANSWERING: Final = "request_id IS NOT NULL"


def _only(condition: str) -> dict[str, Any]:
    return {"sqlite_where": sa.text(condition), "postgresql_where": sa.text(condition)}


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "quote_request",
        sa.Column("id", sa.String(), primary_key=True),
        sa.Column("account_id", sa.String(), sa.ForeignKey("account.id"), nullable=False),
        sa.Column("instrument", sa.String(), nullable=False),
        sa.Column("wanted", sa.String(), nullable=False),
        sa.Column("quantity", sa.BigInteger(), nullable=False),
        sa.Column("valid_until_unix", sa.BigInteger(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("created_at_unix", sa.BigInteger(), nullable=False),
        sa.Column("updated_at_unix", sa.BigInteger(), nullable=False),
        sa.UniqueConstraint("account_id", "number"),
    )
    still_open = _only("state = 'open'")
    op.create_index("ix_quote_request_open", "quote_request", ["created_at_unix", "id"], **still_open)
    op.create_index("ix_quote_request_lapsing", "quote_request", ["valid_until_unix"], **still_open)
    op.create_index("ix_quote_request_of", "quote_request", ["account_id", "created_at_unix", "id"])
    op.create_index("ix_quote_request_newest", "quote_request", ["created_at_unix", "id"])
    op.create_index("ix_quote_request_state", "quote_request", ["state"])
    op.add_column("firm_offer", sa.Column("request_id", sa.String(), nullable=True))
    op.add_column("firm_offer", sa.Column("begins_unix", sa.BigInteger(), nullable=True))
    op.add_column("firm_offer", sa.Column("moves_at_unix", sa.BigInteger(), nullable=True))
    op.create_index("ix_firm_offer_moving", "firm_offer", ["moves_at_unix"], **_only(_MOVING))
    op.create_index("ix_firm_offer_answering", "firm_offer", ["request_id"], **_only(_ANSWERING))


def downgrade() -> None:
    """Take back."""
    for index in ("ix_firm_offer_answering", "ix_firm_offer_moving"):
        op.drop_index(index, "firm_offer")
    for name in ("moves_at_unix", "begins_unix", "request_id"):
        op.drop_column("firm_offer", name)
    op.drop_table("quote_request")
