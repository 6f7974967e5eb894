"""Who is told on another channel, within which budget, and what texts cost."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

BIG_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.add_column("authorities", sa.Column("fallback", sa.JSON(), nullable=True))
    op.add_column("channel_accounts", sa.Column("micro_euro", sa.BigInteger(), nullable=True))
    op.add_column("batches", sa.Column("silence_at", sa.Float(), nullable=True, server_default="0"))
    op.create_index("batches_by_silence", "batches", ["dispatch_id", "silence_at"])
    op.create_index(
        "addresses_refused",
        "addresses",
        ["refused_at"],
        postgresql_where=sa.text("refused_at IS NOT NULL"),
        sqlite_where=sa.text("refused_at IS NOT NULL"),
    )
    op.create_table(
        "budgets",
        sa.Column("id", BIG_ID, nullable=False),
        sa.Column("authority", sa.String(length=64), nullable=False),
        sa.Column("lane", sa.String(length=32), nullable=False),
        sa.Column("month", sa.String(length=7), nullable=False),
        sa.ForeignKeyConstraint(["authority"], ["authorities.code"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("authority", "lane", "month", name="one_budget_a_month"),
    )
    op.create_table(
        "fallbacks",
        sa.Column("dispatch_id", sa.BigInteger(), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("because", sa.String(length=12), nullable=False),
        sa.Column("reason", sa.String(length=32), nullable=True),
        sa.Column("due_at", sa.Float(), nullable=False),
        sa.Column("state", sa.String(length=12), nullable=False),
        sa.Column("followed_by", sa.Integer(), nullable=True),
        sa.Column("micro_euro", sa.BigInteger(), nullable=False),
        sa.Column("budget", BIG_ID, nullable=True),
        sa.ForeignKeyConstraint(["budget"], ["budgets.id"]),
        sa.PrimaryKeyConstraint("dispatch_id", "seq"),
    )
    for name, columns, where in (
        ("fallbacks_due", ["dispatch_id", "due_at"], "state = 'due'"),
        ("fallbacks_of_budget", ["budget"], "budget IS NOT NULL"),
    ):
        op.create_index(name, "fallbacks", columns, postgresql_where=sa.text(where), sqlite_where=sa.text(where))
    op.create_table(
        "spending",
        sa.Column("dispatch_id", BIG_ID, nullable=False),
        sa.Column("account", sa.String(length=64), nullable=False),
        sa.Column("month", sa.String(length=7), nullable=False),
        sa.Column("authority", sa.String(length=64), nullable=False),
        sa.Column("lane", sa.String(length=32), nullable=False),
        sa.Column("channel", sa.String(length=32), nullable=False),
        sa.Column("texts", sa.BigInteger(), nullable=False),
        sa.Column("parts", sa.BigInteger(), nullable=False),
        sa.Column("micro_euro", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["dispatch_id"], ["dispatches.id"]),
        sa.ForeignKeyConstraint(["account"], ["channel_accounts.name"]),
        sa.ForeignKeyConstraint(["authority"], ["authorities.code"]),
        sa.PrimaryKeyConstraint("dispatch_id", "account", "month"),
    )
    op.create_index("spending_by_month", "spending", ["authority", "month"])


def downgrade() -> None:
    """Who was told on a second channel has been told; what it cost is forgotten. Closed addresses are tried again."""
    op.drop_index("spending_by_month", "spending")
    op.drop_table("spending")
    op.drop_index("fallbacks_of_budget", "fallbacks")
    op.drop_index("fallbacks_due", "fallbacks")
    op.drop_table("fallbacks")
    op.drop_table("budgets")
    op.drop_index("addresses_refused", "addresses")
    op.execute("UPDATE addresses SET refused_at = NULL, refused_because = NULL")
    op.drop_index("batches_by_silence", "batches")
    op.drop_column("batches", "silence_at")
    op.drop_column("channel_accounts", "micro_euro")
    op.drop_column("authorities", "fallback")
