"""Which attachment an alert shows."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("alerts", sa.Column("enclosure", sa.String(length=64), nullable=True))
    op.create_index("alerts_by_enclosure", "alerts", ["enclosure"])


def downgrade() -> None:
    """Alerts keep the addresses of their pictures, which are shown to nobody any more."""
    op.drop_index("alerts_by_enclosure", "alerts")
    op.drop_column("alerts", "enclosure")
