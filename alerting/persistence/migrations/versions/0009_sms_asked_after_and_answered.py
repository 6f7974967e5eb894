"""Texts whose provider has to be asked what became of them, and parts of texts that citizens write by SMS."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "awaited_receipts",
        sa.Column("dispatch_id", sa.BigInteger(), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("account", sa.String(length=64), nullable=False),
        sa.Column("progress", sa.SmallInteger(), nullable=True),
        sa.Column("asked", sa.SmallInteger(), nullable=False),
        sa.Column("next_at", sa.Float(), nullable=False),
        sa.Column("until", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("dispatch_id", "seq", "attempt"),
    )
    op.create_index("awaited_receipts_due", "awaited_receipts", ["account", "next_at"])
    op.create_table(
        "inbound_parts",
        sa.Column("account", sa.String(length=64), nullable=False),
        sa.Column("fingerprint", sa.LargeBinary(), nullable=False),
        sa.Column("number", sa.SmallInteger(), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=True),
        sa.Column("at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("account", "fingerprint", "number"),
    )
    op.create_index("inbound_parts_by_age", "inbound_parts", ["at"])


def downgrade() -> None:
    """What became of texts that are still under way stays unknown, and half a text is lost."""
    op.drop_index("inbound_parts_by_age", "inbound_parts")
    op.drop_table("inbound_parts")
    op.drop_index("awaited_receipts_due", "awaited_receipts")
    op.drop_table("awaited_receipts")
