"""Who came with a list: when they agreed and which document says so; and how many lived where, by day."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("consents", sa.Column("given_on", sa.Date(), nullable=True))
    op.add_column("consents", sa.Column("document", sa.LargeBinary(), nullable=True))
    op.create_table(
        "area_days",
        sa.Column("authority", sa.String(length=64), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("area", sa.String(length=100), nullable=False),
        sa.Column("people", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["authority"], ["authorities.code"]),
        sa.PrimaryKeyConstraint("authority", "day", "area"),
    )


def downgrade() -> None:
    op.drop_table("area_days")
    op.drop_column("consents", "document")
    op.drop_column("consents", "given_on")
