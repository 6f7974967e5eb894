"""The desk of a two-way comune: reports, appointments, and what it says to one person at a time."""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

BigId = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
Moment = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.add_column("dispatches", sa.Column("reply_sealed", sa.LargeBinary(), nullable=True))
    op.add_column("inbox", sa.Column("for_desk", sa.String(length=32), nullable=True))
    _index_of_some("inbox_for_desk", "inbox", ["handled_at"], "for_desk IS NOT NULL")
    op.create_table(
        "conversations",
        sa.Column("id", BigId, nullable=False),
        sa.Column("authority", sa.String(length=64), nullable=False),
        sa.Column("account", sa.String(length=64), nullable=False),
        sa.Column("fingerprint", sa.LargeBinary(), nullable=False),
        sa.Column("wrote_at", Moment, nullable=False),
        sa.Column("expects", sa.String(length=32), nullable=False),
        sa.Column("office", sa.String(length=64), nullable=True),
        sa.Column("choices", sa.JSON(), nullable=False),
        sa.Column("asked_at", Moment, nullable=True),
        sa.ForeignKeyConstraint(["authority"], ["authorities.code"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("account", "fingerprint", name="one_conversation_per_person"),
    )
    op.create_index("conversations_by_age", "conversations", ["wrote_at"])
    op.create_table(
        "reports",
        sa.Column("id", BigId, nullable=False),
        sa.Column("authority", sa.String(length=64), nullable=False),
        sa.Column("account", sa.String(length=64), nullable=False),
        sa.Column("fingerprint", sa.LargeBinary(), nullable=True),
        sa.Column("sealed", sa.LargeBinary(), nullable=True),
        sa.Column("category", sa.String(length=64), nullable=True),
        sa.Column("state", sa.String(length=32), nullable=False),
        sa.Column("street", sa.LargeBinary(), nullable=True),
        sa.Column("frazione", sa.String(length=130), nullable=True),
        sa.Column("lat", sa.Float(), nullable=True),
        sa.Column("lon", sa.Float(), nullable=True),
        sa.Column("opened_at", Moment, nullable=False),
        sa.Column("wrote_at", Moment, nullable=False),
        sa.Column("answered_at", Moment, nullable=True),
        sa.Column("closed_at", Moment, nullable=True),
        sa.Column("assigned_to", sa.String(length=100), nullable=True),
        sa.Column("merged_into", BigId, nullable=True),
        sa.Column("forgotten_at", Moment, nullable=True),
        sa.ForeignKeyConstraint(["authority"], ["authorities.code"]),
        sa.ForeignKeyConstraint(["merged_into"], ["reports.id"]),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("reports_by_state", "reports", ["authority", "state", "id"])
    op.create_index("reports_of_person", "reports", ["account", "fingerprint", "id"])
    op.create_index("reports_alike", "reports", ["authority", "category", "opened_at"])
    op.create_index("reports_merged", "reports", ["merged_into"])
    op.create_table(
        "report_entries",
        sa.Column("id", BigId, nullable=False),
        sa.Column("report", BigId, nullable=False),
        sa.Column("at", Moment, nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("actor", sa.String(length=100), nullable=True),
        sa.Column("sealed", sa.LargeBinary(), nullable=True),
        sa.ForeignKeyConstraint(["report"], ["reports.id"]),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("report_entries_of_report", "report_entries", ["report", "id"])
    op.create_table(
        "photographs",
        sa.Column("id", BigId, nullable=False),
        sa.Column("report", BigId, nullable=False),
        sa.Column("account", sa.String(length=64), nullable=False),
        sa.Column("provider_id", sa.LargeBinary(), nullable=True),
        sa.Column("at", Moment, nullable=False),
        sa.Column("state", sa.String(length=32), nullable=False),
        sa.Column("attempts", sa.SmallInteger(), nullable=False),
        sa.Column("due_at", sa.Float(), nullable=False),
        sa.Column("claimed_until", sa.Float(), nullable=False),
        sa.Column("media_type", sa.String(length=100), nullable=True),
        sa.Column("sealed", sa.LargeBinary(), nullable=True),
        sa.ForeignKeyConstraint(["report"], ["reports.id"]),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("photographs_of_report", "photographs", ["report", "id"])
    _index_of_some("photographs_waiting", "photographs", ["due_at"], "state = 'waiting'")
    op.create_table(
        "bookings",
        sa.Column("id", BigId, nullable=False),
        sa.Column("authority", sa.String(length=64), nullable=False),
        sa.Column("office", sa.String(length=64), nullable=False),
        sa.Column("starts_at", Moment, nullable=False),
        sa.Column("seat", sa.SmallInteger(), nullable=False),
        sa.Column("account", sa.String(length=64), nullable=False),
        sa.Column("fingerprint", sa.LargeBinary(), nullable=True),
        sa.Column("sealed", sa.LargeBinary(), nullable=True),
        sa.Column("booked_at", Moment, nullable=False),
        sa.Column("cancelled_at", Moment, nullable=True),
        sa.Column("cancelled_by", sa.String(length=100), nullable=True),
        sa.ForeignKeyConstraint(["authority"], ["authorities.code"]),
        sa.PrimaryKeyConstraint("id"),
    )
    seat = ["authority", "office", "starts_at", "seat"]
    _index_of_some("one_person_per_seat", "bookings", seat, "cancelled_at IS NULL", unique=True)
    op.create_index("bookings_of_person", "bookings", ["account", "fingerprint"])
    op.create_index("bookings_by_time", "bookings", ["starts_at"])
    op.create_table(
        "letters",
        sa.Column("id", BigId, nullable=False),
        sa.Column("authority", sa.String(length=64), nullable=False),
        sa.Column("account", sa.String(length=64), nullable=False),
        sa.Column("fingerprint", sa.LargeBinary(), nullable=True),
        sa.Column("sealed", sa.LargeBinary(), nullable=True),
        sa.Column("said", sa.LargeBinary(), nullable=True),
        sa.Column("due_at", Moment, nullable=False),
        sa.Column("not_after", Moment, nullable=False),
        sa.Column("ahead", sa.Boolean(), nullable=False),
        sa.Column("booking", BigId, nullable=True),
        sa.Column("ended_at", Moment, nullable=True),
        sa.Column("dispatch", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["authority"], ["authorities.code"]),
        sa.ForeignKeyConstraint(["booking"], ["bookings.id"]),
        sa.PrimaryKeyConstraint("id"),
    )
    _index_of_some("letters_waiting", "letters", ["authority", "due_at"], "ended_at IS NULL")
    op.create_index("letters_of_late", "letters", ["authority", "ended_at"])
    op.create_index("letters_of_booking", "letters", ["booking"])


def _index_of_some(name: str, table: str, columns: list[str], rows: str, *, unique: bool = False) -> None:
    where = sa.text(rows)
    op.create_index(name, table, columns, unique=unique, postgresql_where=where, sqlite_where=where)


def downgrade() -> None:
    """What citizens reported is gone with it."""
    for table in ("letters", "bookings", "photographs", "report_entries", "reports", "conversations"):
        op.drop_table(table)
    op.drop_index("inbox_for_desk", "inbox")
    op.drop_column("inbox", "for_desk")
    op.drop_column("dispatches", "reply_sealed")
