"""Who came with a list: when they agreed, and the document that vouches for it; and joins and leaves by time."""

import sqlalchemy as sa
from alembic import op

revision = "0023"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("consents", sa.Column("given_on", sa.Date(), nullable=True))
    op.add_column("consents", sa.Column("document", sa.LargeBinary(), nullable=True))
    op.create_index("consents_by_time", "consents", ["authority", "at"])


def downgrade() -> None:
    op.drop_index("consents_by_time", "consents")
    op.drop_column("consents", "document")
    op.drop_column("consents", "given_on")
