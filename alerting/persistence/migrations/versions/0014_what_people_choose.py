"""What people want to be told of, and in which hours nothing routine. Who is there wants everything, at any hour."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

EVERY_TOPIC = "15"


def upgrade() -> None:
    op.add_column(
        "recipients", sa.Column("topics", sa.SmallInteger(), nullable=False, server_default=sa.text(EVERY_TOPIC))
    )
    op.add_column("recipients", sa.Column("quiet_from", sa.SmallInteger(), nullable=True))
    op.add_column("recipients", sa.Column("quiet_to", sa.SmallInteger(), nullable=True))
    op.add_column("recipients", sa.Column("ranked_at", sa.Float(), nullable=True))
    some = sa.text("ranked_at IS NOT NULL")
    op.create_index(
        "recipients_ranked", "recipients", ["authority", "ranked_at"], postgresql_where=some, sqlite_where=some
    )
    op.add_column("dispatches", sa.Column("reply_menu", sa.JSON(), nullable=True))
    _cover(["authority", "live", "located", "topics"])


def downgrade() -> None:
    """Everybody is told of everything again, at any hour."""
    _cover(["authority", "live", "located"])
    op.drop_column("dispatches", "reply_menu")
    op.drop_index("recipients_ranked", "recipients")
    for column in ("ranked_at", "quiet_to", "quiet_from", "topics"):
        op.drop_column("recipients", column)


def _cover(columns: list[str]) -> None:
    """All that is asked of somebody who is counted, without a look at the table."""
    if op.get_bind().dialect.name == "postgresql":
        op.drop_index("recipients_told", "recipients")
        op.create_index(
            "recipients_told",
            "recipients",
            ["id"],
            postgresql_include=columns,
            postgresql_where=sa.text("left_at IS NULL"),
        )
