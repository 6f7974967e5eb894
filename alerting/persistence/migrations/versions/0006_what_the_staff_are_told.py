"""What is amiss with the system, and whom of the staff it was told."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

BigId = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "notices",
        sa.Column("id", BigId, nullable=False),
        sa.Column("about", sa.String(length=200), nullable=False),
        sa.Column("matter", sa.String(length=32), nullable=False),
        sa.Column("authority", sa.String(length=64), nullable=True),
        sa.Column("sentence", sa.String(length=500), nullable=False),
        sa.Column("over", sa.String(length=500), nullable=False),
        sa.Column("urgent", sa.Boolean(), nullable=False),
        sa.Column("mark", sa.BigInteger(), nullable=False),
        sa.Column("began_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("gone_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("over_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["authority"], ["authorities.code"]),
        sa.PrimaryKeyConstraint("id"),
    )
    is_open = sa.text("over_at IS NULL")
    op.create_index("notices_open", "notices", ["about"], unique=True, postgresql_where=is_open, sqlite_where=is_open)
    op.create_table(
        "tellings",
        sa.Column("notice", BigId, nullable=False),
        sa.Column("staff", sa.String(length=140), nullable=False),
        sa.Column("is_over", sa.Boolean(), nullable=False),
        sa.Column("due_at", sa.Float(), nullable=False),
        sa.Column("not_after", sa.Float(), nullable=False),
        sa.Column("claimed_until", sa.Float(), nullable=False),
        sa.Column("attempts", sa.SmallInteger(), nullable=False),
        sa.Column("last", sa.String(length=32), nullable=True),
        sa.Column("ended", sa.String(length=32), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["notice"], ["notices.id"]),
        sa.PrimaryKeyConstraint("notice", "staff", "is_over"),
    )
    waits = sa.text("ended IS NULL")
    op.create_index("tellings_waiting", "tellings", ["due_at"], postgresql_where=waits, sqlite_where=waits)
    op.create_index("tellings_of_staff", "tellings", ["staff", "ended_at"])


def downgrade() -> None:
    op.drop_table("tellings")
    op.drop_table("notices")
