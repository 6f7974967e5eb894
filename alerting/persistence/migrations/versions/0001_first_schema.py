"""The first schema: everything from authorities to the audit."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "attempts",
        sa.Column("dispatch_id", sa.BigInteger(), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("number", sa.SmallInteger(), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("progress", sa.SmallInteger(), nullable=False),
        sa.Column("reason", sa.String(length=24), nullable=True),
        sa.Column("provider_id", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("dispatch_id", "seq", "number"),
    )
    op.create_table(
        "audit",
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("actor", sa.String(length=100), nullable=False),
        sa.Column("action", sa.String(length=60), nullable=False),
        sa.Column("subject", sa.String(length=200), nullable=False),
        sa.Column("details", sa.JSON(), nullable=False),
        sa.Column("previous", sa.String(length=64), nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("number"),
        sa.UniqueConstraint("hash"),
    )
    op.create_table(
        "authorities",
        sa.Column("code", sa.String(length=64), nullable=False),
        sa.Column("istat", sa.String(length=6), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("file_hash", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("code"),
    )
    op.create_table(
        "dead_letters",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column(
            "lane",
            sa.Enum("flash", "emergency", "reply", "routine", name="lane", native_enum=False, length=32),
            nullable=False,
        ),
        sa.Column("why", sa.String(length=24), nullable=False),
        sa.Column("sentence", sa.String(length=500), nullable=False),
        sa.Column("queue", sa.String(length=120), nullable=False),
        sa.Column("exchange", sa.String(length=120), nullable=False),
        sa.Column("routing_key", sa.String(length=255), nullable=False),
        sa.Column("message_id", sa.String(length=255), nullable=False),
        sa.Column("headers", sa.JSON(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_by", sa.String(length=100), nullable=True),
        sa.Column("replayed", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "deliveries",
        sa.Column("dispatch_id", sa.BigInteger(), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("recipient_id", sa.BigInteger(), nullable=True),
        sa.Column("address_id", sa.BigInteger(), nullable=True),
        sa.Column("progress", sa.SmallInteger(), nullable=False),
        sa.Column("attempts", sa.SmallInteger(), nullable=False),
        sa.Column("due_at", sa.Float(), nullable=False),
        sa.Column("claimed_until", sa.Float(), nullable=False),
        sa.Column("reason", sa.String(length=24), nullable=True),
        sa.PrimaryKeyConstraint("dispatch_id", "seq"),
        sa.UniqueConstraint("address_id", "dispatch_id", name="one_delivery_per_address"),
        postgresql_with={"fillfactor": 60},
    )
    op.create_table(
        "inbox",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("account", sa.String(length=64), nullable=False),
        sa.Column("provider_id", sa.String(length=64), nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=True),
        sa.Column("handled_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("account", "provider_id", name="one_row_per_text"),
    )
    op.create_table(
        "outbox",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column(
            "lane",
            sa.Enum("flash", "emergency", "reply", "routine", name="lane", native_enum=False, length=32),
            nullable=False,
        ),
        sa.Column("exchange", sa.String(length=40), nullable=False),
        sa.Column("routing_key", sa.String(length=120), nullable=False),
        sa.Column("message_id", sa.String(length=120), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("outbox", schema=None) as batch_op:
        batch_op.create_index("outbox_by_lane", ["lane", "id"], unique=False)

    op.create_table(
        "portfolios",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("people_per_day", sa.Integer(), nullable=False),
        sa.Column("people", sa.Integer(), nullable=False),
        sa.Column("counted_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "workers",
        sa.Column("name", sa.String(length=120), nullable=False),
        sa.Column("role", sa.String(length=40), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("waits_for", sa.String(length=40), nullable=True),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "actors",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("role", sa.String(length=20), nullable=False),
        sa.Column("authority", sa.String(length=64), nullable=True),
        sa.Column("token_hash", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["authority"],
            ["authorities.code"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("name"),
        sa.UniqueConstraint("token_hash"),
    )
    op.create_table(
        "alerts",
        sa.Column("identifier", sa.String(length=100), nullable=False),
        sa.Column("authority", sa.String(length=64), nullable=False),
        sa.Column(
            "kind",
            sa.Enum(
                "allerta-meteo",
                "interruzione-idrica",
                "interruzione-elettrica",
                "chiusura-strada",
                "raccolta-porta-a-porta",
                "scadenza",
                "evento",
                "avviso",
                name="kind",
                native_enum=False,
                length=32,
            ),
            nullable=False,
        ),
        sa.Column(
            "state",
            sa.Enum(
                "draft",
                "approved",
                "issued",
                "cancelled",
                "superseded",
                "expired",
                name="state",
                native_enum=False,
                length=32,
            ),
            nullable=False,
        ),
        sa.Column(
            "status",
            sa.Enum("Actual", "Exercise", "System", "Test", "Draft", name="status", native_enum=False, length=32),
            nullable=False,
        ),
        sa.Column(
            "msg_type",
            sa.Enum("Alert", "Update", "Cancel", "Ack", "Error", name="msgtype", native_enum=False, length=32),
            nullable=False,
        ),
        sa.Column(
            "lane",
            sa.Enum("flash", "emergency", "reply", "routine", name="lane", native_enum=False, length=32),
            nullable=False,
        ),
        sa.Column("document", sa.JSON(), nullable=False),
        sa.Column("geofence", sa.JSON(), nullable=False),
        sa.Column("areas", sa.JSON(), nullable=False),
        sa.Column("cancels", sa.String(length=100), nullable=True),
        sa.Column("updates", sa.String(length=100), nullable=True),
        sa.Column("author", sa.String(length=100), nullable=False),
        sa.Column("approver", sa.String(length=100), nullable=True),
        sa.Column("drafted_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("approved_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("issued_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["authority"],
            ["authorities.code"],
        ),
        sa.ForeignKeyConstraint(
            ["cancels"],
            ["alerts.identifier"],
        ),
        sa.ForeignKeyConstraint(
            ["updates"],
            ["alerts.identifier"],
        ),
        sa.PrimaryKeyConstraint("identifier"),
    )
    with op.batch_alter_table("alerts", schema=None) as batch_op:
        batch_op.create_index("alerts_by_end", ["state", "expires_at"], unique=False)
        batch_op.create_index("alerts_by_time", ["authority", "drafted_at"], unique=False)

    op.create_table(
        "areas",
        sa.Column("code", sa.String(length=100), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(length=20), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("parent", sa.String(length=100), nullable=True),
        sa.Column("authority", sa.String(length=64), nullable=True),
        sa.Column("boundary", sa.JSON(), nullable=False),
        sa.Column("source", sa.String(length=300), nullable=False),
        sa.Column("demonstration", sa.Boolean(), nullable=False),
        sa.Column("valid_from", sa.DateTime(timezone=True), nullable=False),
        sa.Column("valid_to", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["authority"],
            ["authorities.code"],
        ),
        sa.PrimaryKeyConstraint("code", "version"),
    )
    op.create_table(
        "channel_accounts",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("authority", sa.String(length=64), nullable=False),
        sa.Column(
            "channel", sa.Enum("whatsapp", "telegram", name="channel", native_enum=False, length=32), nullable=False
        ),
        sa.Column("live", sa.Boolean(), nullable=False),
        sa.Column("identity", sa.String(length=100), nullable=False),
        sa.Column("settings", sa.JSON(), nullable=False),
        sa.Column("paced_as", sa.String(length=64), nullable=False),
        sa.Column("portfolio", sa.String(length=64), nullable=True),
        sa.ForeignKeyConstraint(
            ["authority"],
            ["authorities.code"],
        ),
        sa.ForeignKeyConstraint(
            ["portfolio"],
            ["portfolios.name"],
        ),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "consents",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("authority", sa.String(length=64), nullable=False),
        sa.Column(
            "channel", sa.Enum("whatsapp", "telegram", name="channel", native_enum=False, length=32), nullable=False
        ),
        sa.Column("fingerprint", sa.LargeBinary(), nullable=False),
        sa.Column("what", sa.String(length=20), nullable=False),
        sa.Column("keyword", sa.String(length=100), nullable=False),
        sa.Column("policy_version", sa.String(length=40), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["authority"],
            ["authorities.code"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("consents", schema=None) as batch_op:
        batch_op.create_index("consents_by_fingerprint", ["fingerprint"], unique=False)

    op.create_table(
        "portfolio_people",
        sa.Column("portfolio", sa.String(length=64), nullable=False),
        sa.Column("fingerprint", sa.LargeBinary(), nullable=False),
        sa.Column("told_at", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(
            ["portfolio"],
            ["portfolios.name"],
        ),
        sa.PrimaryKeyConstraint("portfolio", "fingerprint"),
    )
    with op.batch_alter_table("portfolio_people", schema=None) as batch_op:
        batch_op.create_index("portfolio_people_by_time", ["portfolio", "told_at"], unique=False)

    op.create_table(
        "recipients",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("authority", sa.String(length=64), nullable=False),
        sa.Column("live", sa.Boolean(), nullable=False),
        sa.Column("is_channel", sa.Boolean(), nullable=False),
        sa.Column("language", sa.String(length=10), nullable=False),
        sa.Column("located", sa.Boolean(), nullable=False),
        sa.Column("joined_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("left_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["authority"],
            ["authorities.code"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("recipients", schema=None) as batch_op:
        batch_op.create_index("recipients_of_authority", ["authority", "id"], unique=False)
        batch_op.create_index(
            "recipients_without_place",
            ["authority", "id"],
            unique=False,
            postgresql_where=sa.text("NOT located AND left_at IS NULL"),
            sqlite_where=sa.text("NOT located AND left_at IS NULL"),
        )

    op.create_table(
        "addresses",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("recipient_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("account", sa.String(length=64), nullable=False),
        sa.Column("fingerprint", sa.LargeBinary(), nullable=True),
        sa.Column("sealed", sa.LargeBinary(), nullable=True),
        sa.Column("rank", sa.SmallInteger(), nullable=False),
        sa.Column("not_before", sa.Float(), nullable=False),
        sa.Column("refused_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("refused_because", sa.String(length=32), nullable=True),
        sa.ForeignKeyConstraint(
            ["account"],
            ["channel_accounts.name"],
        ),
        sa.ForeignKeyConstraint(
            ["recipient_id"],
            ["recipients.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("account", "fingerprint", name="one_address_per_account"),
    )
    with op.batch_alter_table("addresses", schema=None) as batch_op:
        batch_op.create_index("addresses_of_recipient", ["recipient_id"], unique=False)

    op.create_table(
        "dispatches",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("alert", sa.String(length=100), nullable=True),
        sa.Column("authority", sa.String(length=64), nullable=False),
        sa.Column(
            "lane",
            sa.Enum("flash", "emergency", "reply", "routine", name="lane", native_enum=False, length=32),
            nullable=False,
        ),
        sa.Column("live", sa.Boolean(), nullable=False),
        sa.Column("issued_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("not_after", sa.DateTime(timezone=True), nullable=False),
        sa.Column("withdrawn_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("fanned_accounts", sa.Integer(), nullable=False),
        sa.Column("fanned_to", sa.BigInteger(), nullable=False),
        sa.Column("last_seq", sa.Integer(), nullable=False),
        sa.Column("audience", sa.Integer(), nullable=True),
        sa.Column("touched_at", sa.Float(), nullable=False),
        sa.Column("reply_text", sa.Text(), nullable=True),
        sa.Column("reply_to", sa.LargeBinary(), nullable=True),
        sa.ForeignKeyConstraint(
            ["alert"],
            ["alerts.identifier"],
        ),
        sa.ForeignKeyConstraint(
            ["authority"],
            ["authorities.code"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("alert"),
    )
    with op.batch_alter_table("dispatches", schema=None) as batch_op:
        batch_op.create_index(
            "dispatches_unfinished",
            ["touched_at"],
            unique=False,
            postgresql_where=sa.text("audience IS NULL"),
            sqlite_where=sa.text("audience IS NULL"),
        )

    op.create_table(
        "memberships",
        sa.Column("area", sa.String(length=100), nullable=False),
        sa.Column("recipient_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.ForeignKeyConstraint(
            ["recipient_id"],
            ["recipients.id"],
        ),
        sa.PrimaryKeyConstraint("area", "recipient_id"),
    )
    with op.batch_alter_table("memberships", schema=None) as batch_op:
        batch_op.create_index("memberships_of_recipient", ["recipient_id"], unique=False)

    op.create_table(
        "places",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("recipient_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("label", sa.String(length=40), nullable=False),
        sa.Column("lat", sa.Float(), nullable=True),
        sa.Column("lon", sa.Float(), nullable=True),
        sa.Column("cell", sa.BigInteger(), nullable=True),
        sa.Column("area", sa.String(length=100), nullable=True),
        sa.ForeignKeyConstraint(
            ["recipient_id"],
            ["recipients.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("places", schema=None) as batch_op:
        batch_op.create_index(
            "places_by_area",
            ["area"],
            unique=False,
            postgresql_where=sa.text("lat IS NULL"),
            sqlite_where=sa.text("lat IS NULL"),
        )
        batch_op.create_index("places_by_cell", ["cell"], unique=False)
        batch_op.create_index("places_of_recipient", ["recipient_id"], unique=False)

    op.create_table(
        "provider_rates",
        sa.Column("account", sa.String(length=64), nullable=False),
        sa.Column("rate", sa.Float(), nullable=False),
        sa.Column("full_rate", sa.Float(), nullable=False),
        sa.Column("lowered_at", sa.Float(), nullable=False),
        sa.Column("tat", sa.Float(), nullable=False),
        sa.Column("wanted_by_flash", sa.Float(), nullable=False),
        sa.Column("wanted_by_emergency", sa.Float(), nullable=False),
        sa.Column("wanted_by_reply", sa.Float(), nullable=False),
        sa.Column("halted_at", sa.Float(), nullable=False),
        sa.Column("halted_because", sa.String(length=300), nullable=True),
        sa.Column("probe_at", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(
            ["account"],
            ["channel_accounts.name"],
        ),
        sa.PrimaryKeyConstraint("account"),
    )
    op.create_table(
        "batches",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("dispatch_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column(
            "channel", sa.Enum("whatsapp", "telegram", name="channel", native_enum=False, length=32), nullable=False
        ),
        sa.Column("account", sa.String(length=64), nullable=False),
        sa.Column(
            "lane",
            sa.Enum("flash", "emergency", "reply", "routine", name="lane", native_enum=False, length=32),
            nullable=False,
        ),
        sa.Column("first", sa.Integer(), nullable=False),
        sa.Column("last", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=10), nullable=False),
        sa.Column("told", sa.Integer(), nullable=False),
        sa.Column("touched_at", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(
            ["account"],
            ["channel_accounts.name"],
        ),
        sa.ForeignKeyConstraint(
            ["dispatch_id"],
            ["dispatches.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("dispatch_id", "first", name="one_batch_per_range"),
    )
    with op.batch_alter_table("batches", schema=None) as batch_op:
        batch_op.create_index("batches_at_work", ["state", "touched_at"], unique=False)
        batch_op.create_index("batches_by_state", ["dispatch_id", "state", "id"], unique=False)


def downgrade() -> None:
    with op.batch_alter_table("batches", schema=None) as batch_op:
        batch_op.drop_index("batches_by_state")
        batch_op.drop_index("batches_at_work")

    op.drop_table("batches")
    op.drop_table("provider_rates")
    with op.batch_alter_table("places", schema=None) as batch_op:
        batch_op.drop_index("places_of_recipient")
        batch_op.drop_index("places_by_cell")
        batch_op.drop_index(
            "places_by_area", postgresql_where=sa.text("lat IS NULL"), sqlite_where=sa.text("lat IS NULL")
        )

    op.drop_table("places")
    with op.batch_alter_table("memberships", schema=None) as batch_op:
        batch_op.drop_index("memberships_of_recipient")

    op.drop_table("memberships")
    with op.batch_alter_table("dispatches", schema=None) as batch_op:
        batch_op.drop_index(
            "dispatches_unfinished",
            postgresql_where=sa.text("audience IS NULL"),
            sqlite_where=sa.text("audience IS NULL"),
        )

    op.drop_table("dispatches")
    with op.batch_alter_table("addresses", schema=None) as batch_op:
        batch_op.drop_index("addresses_of_recipient")

    op.drop_table("addresses")
    with op.batch_alter_table("recipients", schema=None) as batch_op:
        batch_op.drop_index(
            "recipients_without_place",
            postgresql_where=sa.text("NOT located AND left_at IS NULL"),
            sqlite_where=sa.text("NOT located AND left_at IS NULL"),
        )
        batch_op.drop_index("recipients_of_authority")

    op.drop_table("recipients")
    with op.batch_alter_table("portfolio_people", schema=None) as batch_op:
        batch_op.drop_index("portfolio_people_by_time")

    op.drop_table("portfolio_people")
    with op.batch_alter_table("consents", schema=None) as batch_op:
        batch_op.drop_index("consents_by_fingerprint")

    op.drop_table("consents")
    op.drop_table("channel_accounts")
    op.drop_table("areas")
    with op.batch_alter_table("alerts", schema=None) as batch_op:
        batch_op.drop_index("alerts_by_time")
        batch_op.drop_index("alerts_by_end")

    op.drop_table("alerts")
    op.drop_table("actors")
    op.drop_table("workers")
    op.drop_table("portfolios")
    with op.batch_alter_table("outbox", schema=None) as batch_op:
        batch_op.drop_index("outbox_by_lane")

    op.drop_table("outbox")
    op.drop_table("inbox")
    op.drop_table("deliveries")
    op.drop_table("dead_letters")
    op.drop_table("authorities")
    op.drop_table("audit")
    op.drop_table("attempts")
