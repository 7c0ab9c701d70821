"""Transfers of positions: consents, offers, transfers and the words said of them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None


def _whole(name: str, *, nullable: bool = False) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger(), nullable=nullable)


def _string(name: str, *of: sa.ForeignKey, nullable: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.String(), *of, nullable=nullable)


def _text(name: str, *, nullable: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), nullable=nullable)


def _account(name: str) -> sa.Column[str]:
    return _string(name, sa.ForeignKey("account.id"))


def upgrade() -> None:
    """Apply."""
    op.create_index("ix_contract_name", "contract", ["contract_id"])
    op.create_table(
        "transfer_consent",
        sa.Column("id", sa.String(), primary_key=True),
        _string("option_id", sa.ForeignKey("option.id")),
        _account("seller"),
        _whole("number"),
        _whole("valid_until_unix"),
        _text("body"),
        _string("state"),
        _whole("created_at_unix"),
        _whole("updated_at_unix"),
        sa.UniqueConstraint("seller", "number"),
    )
    op.create_index("ix_transfer_consent_option", "transfer_consent", ["option_id", "state"])
    op.create_index("ix_transfer_consent_of", "transfer_consent", ["seller", "created_at_unix", "id"])
    op.create_index("ix_transfer_consent_lapsing", "transfer_consent", ["state", "valid_until_unix"])
    op.create_index("ix_transfer_consent_newest", "transfer_consent", ["created_at_unix", "id"])
    op.create_table(
        "transfer_offer",
        sa.Column("id", sa.String(), primary_key=True),
        _string("option_id", sa.ForeignKey("option.id")),
        _account("holder"),
        _string("instrument"),
        _whole("quantity"),
        _whole("price_sats"),
        _whole("sats_per_kvb"),
        _string("taker", nullable=True),
        _whole("number"),
        _whole("valid_until_unix"),
        _text("body"),
        _string("state"),
        _whole("created_at_unix"),
        _whole("updated_at_unix"),
        sa.UniqueConstraint("holder", "number"),
    )
    still_open = sa.text("state = 'open'")
    op.create_index(
        "ix_transfer_offer_open", "transfer_offer", ["instrument", "created_at_unix", "id"], sqlite_where=still_open,
        postgresql_where=still_open,
    )  # fmt: skip
    op.create_index("ix_transfer_offer_option", "transfer_offer", ["option_id", "state"])
    op.create_index("ix_transfer_offer_of", "transfer_offer", ["holder", "created_at_unix", "id"])
    op.create_index("ix_transfer_offer_lapsing", "transfer_offer", ["state", "valid_until_unix"])
    op.create_index("ix_transfer_offer_newest", "transfer_offer", ["created_at_unix", "id"])
    op.create_table(
        "transfer",
        sa.Column("id", sa.String(), primary_key=True),
        _string("option_id", sa.ForeignKey("option.id")),
        _string("new_option_id"),
        _string("consent_id", sa.ForeignKey("transfer_consent.id")),
        _string("offer_id", sa.ForeignKey("transfer_offer.id")),
        _account("seller"),
        _account("holder"),
        _account("newcomer"),
        _string("instrument"),
        _whole("quantity"),
        _whole("price_sats"),
        _whole("until_unix"),
        _text("part"),
        _string("state"),
        _string("said"),
        _string("fault", nullable=True),
        _text("problem", nullable=True),
        _string("txid", nullable=True),
        _whole("fee_sats", nullable=True),
        sa.Column("gone_height", sa.Integer(), nullable=True),
        _string("gone_block", nullable=True),
        _whole("created_at_unix"),
        _whole("updated_at_unix"),
        sa.UniqueConstraint("new_option_id"),
    )
    op.create_index("ix_transfer_option", "transfer", ["option_id", "state"])
    op.create_index("ix_transfer_offer_id", "transfer", ["offer_id"])
    op.create_index("ix_transfer_txid", "transfer", ["txid"])
    op.create_index("ix_transfer_state", "transfer", ["state", "updated_at_unix"])
    for owner in ("seller", "holder", "newcomer"):
        op.create_index(f"ix_transfer_{owner}", "transfer", [owner, "created_at_unix", "id"])
    op.create_index("ix_transfer_newest", "transfer", ["created_at_unix", "id"])
    op.create_table(
        "transfer_word",
        sa.Column("transfer_id", sa.String(), sa.ForeignKey("transfer.id"), primary_key=True),
        sa.Column("said", sa.String(), primary_key=True),
        sa.Column("owner", sa.String(), primary_key=True),
        _text("body"),
        _whole("said_at_unix"),
    )


def downgrade() -> None:
    """Take back."""
    for table in ("transfer_word", "transfer", "transfer_offer", "transfer_consent"):
        op.drop_table(table)
    op.drop_index("ix_contract_name", "contract")
