"""What a provider calls each part of a text: an SMSC's receipts have no other word for it."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "provider_texts",
        sa.Column("account", sa.String(length=64), nullable=False),
        sa.Column("fingerprint", sa.LargeBinary(), nullable=False),
        sa.Column("dispatch_id", sa.BigInteger(), nullable=True),
        sa.Column("seq", sa.Integer(), nullable=True),
        sa.Column("attempt", sa.Integer(), nullable=True),
        sa.Column("parts", sa.SmallInteger(), nullable=False),
        sa.Column("progress", sa.SmallInteger(), nullable=True),
        sa.Column("reason", sa.String(length=32), nullable=True),
        sa.Column("at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("account", "fingerprint"),
    )
    op.create_index("provider_texts_of_delivery", "provider_texts", ["dispatch_id", "seq"])
    op.create_index("provider_texts_by_age", "provider_texts", ["at"])


def downgrade() -> None:
    """Receipts that are still to come are those of nobody."""
    op.drop_index("provider_texts_by_age", "provider_texts")
    op.drop_index("provider_texts_of_delivery", "provider_texts")
    op.drop_table("provider_texts")
