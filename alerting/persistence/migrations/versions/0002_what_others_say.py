"""What others say: intake, statements, feeds, pages; and what was published of an alert."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "feeds",
        sa.Column("source", sa.String(length=64), nullable=False),
        sa.Column("next_at", sa.Float(), nullable=False),
        sa.Column("asked_at", sa.Float(), nullable=False),
        sa.Column("answered_at", sa.Float(), nullable=True),
        sa.Column("changed_at", sa.Float(), nullable=True),
        sa.Column("etag", sa.String(length=200), nullable=False),
        sa.Column("last_modified", sa.String(length=100), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("trouble", sa.String(length=500), nullable=False),
        sa.Column("silent_since", sa.DateTime(timezone=True), nullable=True),
        sa.Column("seen", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("source"),
    )
    op.create_table(
        "intake",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("source", sa.String(length=64), nullable=False),
        sa.Column(
            "came_by", sa.Enum("http", "amqp", "poll", name="cameby", native_enum=False, length=32), nullable=False
        ),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("media_type", sa.String(length=100), nullable=False),
        sa.Column("raw", sa.LargeBinary(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("message_hash", sa.String(length=64), nullable=True),
        sa.Column(
            "state",
            sa.Enum(
                "received",
                "taken",
                "repeated",
                "quarantined",
                "rejected",
                "dismissed",
                name="intakestate",
                native_enum=False,
                length=32,
            ),
            nullable=False,
        ),
        sa.Column("attempts", sa.SmallInteger(), nullable=False),
        sa.Column("because", sa.String(length=500), nullable=False),
        sa.Column("headline", sa.String(length=200), nullable=False),
        sa.Column("findings", sa.JSON(), nullable=False),
        sa.Column("became", sa.JSON(), nullable=False),
        sa.Column("settled_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("settled_by", sa.String(length=100), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("intake", schema=None) as batch_op:
        batch_op.create_index("intake_by_message", ["message_hash"], unique=False)
        batch_op.create_index("intake_by_source", ["source", "id"], unique=False)
        batch_op.create_index("intake_by_state", ["state", "id"], unique=False)
        batch_op.create_index("intake_by_time", ["received_at"], unique=False)

    op.create_table(
        "intake_references",
        sa.Column("message_hash", sa.String(length=64), nullable=False),
        sa.Column("intake", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.ForeignKeyConstraint(
            ["intake"],
            ["intake.id"],
        ),
        sa.PrimaryKeyConstraint("message_hash", "intake"),
    )
    op.create_table(
        "pages",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("authority", sa.String(length=64), nullable=True),
        sa.Column("about", sa.String(length=200), nullable=False),
        sa.Column("sentence", sa.String(length=500), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("called", sa.Integer(), nullable=False),
        sa.Column("called_at", sa.Float(), nullable=False),
        sa.Column("acknowledged_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("acknowledged_by", sa.String(length=100), nullable=True),
        sa.ForeignKeyConstraint(
            ["authority"],
            ["authorities.code"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("pages", schema=None) as batch_op:
        batch_op.create_index("pages_about", ["about"], unique=False)
        batch_op.create_index(
            "pages_open",
            ["id"],
            unique=False,
            postgresql_where=sa.text("acknowledged_at IS NULL"),
            sqlite_where=sa.text("acknowledged_at IS NULL"),
        )

    op.create_table(
        "statements",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("authority", sa.String(length=64), nullable=False),
        sa.Column("source", sa.String(length=64), nullable=False),
        sa.Column("intake", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column(
            "risk",
            sa.Enum(
                "idraulico",
                "idrogeologico",
                "temporali",
                "vento",
                "neve",
                "ghiaccio",
                "mareggiate",
                name="risk",
                native_enum=False,
                length=32,
            ),
            nullable=False,
        ),
        sa.Column(
            "colour",
            sa.Enum("gialla", "arancione", "rossa", name="colour", native_enum=False, length=32),
            nullable=False,
        ),
        sa.Column("starts", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ends", sa.DateTime(timezone=True), nullable=False),
        sa.Column("instruction", sa.Text(), nullable=False),
        sa.Column("replaced_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["authority"],
            ["authorities.code"],
        ),
        sa.ForeignKeyConstraint(
            ["intake"],
            ["intake.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("statements", schema=None) as batch_op:
        batch_op.create_index("statements_of_authority", ["authority", "ends"], unique=False)

    with op.batch_alter_table("alerts", schema=None) as batch_op:
        batch_op.add_column(sa.Column("intake", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True))
        batch_op.add_column(sa.Column("cap", sa.LargeBinary(), nullable=True))
        batch_op.create_index("alerts_by_intake", ["intake"], unique=False)
        batch_op.create_index("alerts_by_issue", ["authority", "issued_at"], unique=False)
        batch_op.create_foreign_key("alert_of_intake", "intake", ["intake"], ["id"])


def downgrade() -> None:
    with op.batch_alter_table("alerts", schema=None) as batch_op:
        batch_op.drop_constraint("alert_of_intake", type_="foreignkey")
        batch_op.drop_index("alerts_by_issue")
        batch_op.drop_index("alerts_by_intake")
        batch_op.drop_column("cap")
        batch_op.drop_column("intake")

    with op.batch_alter_table("statements", schema=None) as batch_op:
        batch_op.drop_index("statements_of_authority")

    op.drop_table("statements")
    with op.batch_alter_table("pages", schema=None) as batch_op:
        batch_op.drop_index(
            "pages_open",
            postgresql_where=sa.text("acknowledged_at IS NULL"),
            sqlite_where=sa.text("acknowledged_at IS NULL"),
        )
        batch_op.drop_index("pages_about")

    op.drop_table("pages")
    op.drop_table("intake_references")
    with op.batch_alter_table("intake", schema=None) as batch_op:
        batch_op.drop_index("intake_by_time")
        batch_op.drop_index("intake_by_state")
        batch_op.drop_index("intake_by_source")
        batch_op.drop_index("intake_by_message")

    op.drop_table("intake")
    op.drop_table("feeds")
