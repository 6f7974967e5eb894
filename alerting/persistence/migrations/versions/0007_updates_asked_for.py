"""How far the updates of a bot were read, where they are asked for."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "polled_bots",
        sa.Column("account", sa.String(length=64), nullable=False),
        sa.Column("next_update", sa.BigInteger(), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("account"),
    )


def downgrade() -> None:
    """Telegram itself remembers what was confirmed; what comes twice is recognised."""
    op.drop_table("polled_bots")
