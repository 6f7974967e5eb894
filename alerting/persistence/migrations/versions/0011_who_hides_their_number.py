"""What else a provider calls a person, who may hide their number from one day to the next."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("addresses", sa.Column("other_fingerprint", sa.LargeBinary(), nullable=True))
    op.create_index("addresses_by_other_name", "addresses", ["account", "other_fingerprint"])


def downgrade() -> None:
    """Whoever hides their number is not known any more by what they write, and is told all the same."""
    op.drop_index("addresses_by_other_name", table_name="addresses")
    op.drop_column("addresses", "other_fingerprint")
