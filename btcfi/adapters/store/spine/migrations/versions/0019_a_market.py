"""Accounts, their letters, firm offers and takes; an option knows its writer, its holder and its take."""

from __future__ import annotations

from typing import Any, Final

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

_OPTION: Final = ("writer", "holder", "take_id")
_OPTION_INDEXES: Final = (
    ("ix_option_writer", ["writer", "created_at_unix", "id"]),
    ("ix_option_holder", ["holder", "created_at_unix", "id"]),
    ("ix_option_take", ["take_id"]),
)


def _whole(name: str, *, nullable: bool = False) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger(), nullable=nullable)


def _string(name: str, *, nullable: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.String(), nullable=nullable)


def _only(condition: str) -> dict[str, Any]:
    return {"sqlite_where": sa.text(condition), "postgresql_where": sa.text(condition)}


def upgrade() -> None:
    """Apply."""
    _accounts()
    _letters()
    _offers()
    _takes()
    for name in _OPTION:
        op.add_column("option", _string(name, nullable=True))
    for index, columns in _OPTION_INDEXES:
        op.create_index(index, "option", columns)
    op.add_column("api_key", _string("account_id", nullable=True))
    op.create_index("ix_api_key_account", "api_key", ["account_id"])


def _accounts() -> None:
    op.create_table(
        "account",
        sa.Column("id", sa.String(), primary_key=True),
        _string("name"),
        _string("request_key"),
        _string("box_key"),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("registration", sa.Text(), nullable=False),
        _string("carrier"),
        _string("state"),
        sa.Column("requests_per_minute", sa.Integer(), nullable=False),
        _whole("joined_at_unix"),
        _whole("updated_at_unix"),
        sa.UniqueConstraint("name"),
    )
    op.create_index("ix_account_newest", "account", ["joined_at_unix", "id"])


def _letters() -> None:
    op.create_table(
        "letter",
        sa.Column("id", sa.Integer(), primary_key=True, autoincrement=True),
        _string("sender"),
        _string("recipient"),
        _string("name"),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        _whole("sent_at_unix"),
        _whole("handled_at_unix", nullable=True),
        sa.UniqueConstraint("sender", "recipient", "name"),
        sqlite_autoincrement=True,
    )
    waiting = _only("handled_at_unix IS NULL")
    op.create_index("ix_letter_waiting", "letter", ["recipient", "id"], **waiting)
    op.create_index("ix_letter_unhandled_of", "letter", ["sender", "id"], **waiting)
    op.create_index("ix_letter_handled", "letter", ["handled_at_unix"])


def _offers() -> None:
    op.create_table(
        "firm_offer",
        sa.Column("id", sa.String(), primary_key=True),
        sa.Column("account_id", sa.String(), sa.ForeignKey("account.id"), nullable=False),
        _string("instrument"),
        _whole("expiry_unix"),
        _string("side"),
        _whole("price_sats"),
        _whole("price_cents"),
        _whole("quantity"),
        _whole("minimum"),
        _whole("remaining"),
        _whole("valid_until_unix"),
        _string("taker", nullable=True),
        _whole("number"),
        sa.Column("body", sa.Text(), nullable=False),
        _string("state"),
        _whole("rank"),
        _whole("created_at_unix"),
        _whole("updated_at_unix"),
        sa.UniqueConstraint("account_id", "number"),
    )
    still_open = _only("state = 'open'")
    op.create_index("ix_firm_offer_book", "firm_offer", ["instrument", "side", "price_sats", "rank"], **still_open)
    op.create_index("ix_firm_offer_chain", "firm_offer", ["expiry_unix"], **still_open)
    op.create_index("ix_firm_offer_lapsing", "firm_offer", ["valid_until_unix"], **still_open)
    op.create_index("ix_firm_offer_open_of", "firm_offer", ["account_id", "id"], **still_open)
    whole = ["account_id", "valid_until_unix"]
    op.create_index("ix_firm_offer_taken_of", "firm_offer", whole, **_only("state = 'taken'"))
    op.create_index("ix_firm_offer_newest", "firm_offer", ["created_at_unix", "id"])
    op.create_index("ix_firm_offer_of", "firm_offer", ["account_id", "created_at_unix", "id"])
    op.create_index("ix_firm_offer_state", "firm_offer", ["state"])


def _takes() -> None:
    op.create_table(
        "take",
        sa.Column("id", sa.String(), primary_key=True),
        sa.Column("option_id", sa.String(), sa.ForeignKey("option.id"), nullable=False),
        sa.Column("offer_id", sa.String(), sa.ForeignKey("firm_offer.id"), nullable=False),
        sa.Column("maker", sa.String(), sa.ForeignKey("account.id"), nullable=False),
        sa.Column("taker", sa.String(), sa.ForeignKey("account.id"), nullable=False),
        _whole("quantity"),
        _string("instrument"),
        _string("side"),
        _whole("price_sats"),
        _whole("price_cents"),
        sa.Column("body", sa.Text(), nullable=False),
        _string("state"),
        _string("fault", nullable=True),
        sa.Column("problem", sa.Text(), nullable=True),
        _whole("created_at_unix"),
        _whole("created_ms"),
        _whole("checked_ms", nullable=True),
        _whole("checked_at_unix", nullable=True),
        _whole("updated_at_unix"),
        sa.UniqueConstraint("option_id"),
    )
    op.create_index("ix_take_offer", "take", ["offer_id"])
    op.create_index("ix_take_maker", "take", ["maker", "created_at_unix", "id"])
    op.create_index("ix_take_taker", "take", ["taker", "created_at_unix", "id"])
    op.create_index("ix_take_newest", "take", ["created_at_unix", "id"])
    stands = _only("state <> 'failed'")
    op.create_index("ix_take_traded", "take", ["created_at_unix", "id"], **stands)
    op.create_index("ix_take_instrument", "take", ["instrument", "created_at_unix", "id"], **stands)
    op.create_index("ix_take_state", "take", ["state"])


def downgrade() -> None:
    """Take back."""
    op.drop_index("ix_api_key_account", "api_key")
    op.drop_column("api_key", "account_id")
    for index, _ in _OPTION_INDEXES:
        op.drop_index(index, "option")
    for name in reversed(_OPTION):
        op.drop_column("option", name)
    for table in ("take", "firm_offer", "letter", "account"):
        op.drop_table(table)
