"""Areas have versions that are prepared and serve; a person has several places, each with areas of its own."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

BIG_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
SOMEWHERE = (
    "(lat IS NULL AND lon IS NULL AND cell IS NULL AND area IS NOT NULL)"
    " OR (lat BETWEEN -90 AND 90 AND lon BETWEEN -180 AND 180 AND cell IS NOT NULL)"
)


def upgrade() -> None:
    op.create_table(
        "atlas",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("edition", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.execute("INSERT INTO atlas (id, edition) VALUES (1, 1)")
    _number_areas()
    _cover_places()
    _place_memberships()
    _cover_people()


def _number_areas() -> None:
    op.rename_table("areas", "areas_before")
    op.create_table(
        "areas",
        sa.Column("id", BIG_ID, nullable=False),
        sa.Column("code", sa.String(length=100), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column(
            "state",
            sa.Enum(
                "preparing", "serving", "ended", "closed", "cleared", name="areastate", native_enum=False, length=32
            ),
            nullable=False,
        ),
        sa.Column(
            "kind",
            sa.Enum("comune", "frazione", "zona", "custom", name="areakind", native_enum=False, length=32),
            nullable=False,
        ),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("parent", sa.String(length=100), nullable=True),
        sa.Column("authority", sa.String(length=64), nullable=True),
        sa.Column("boundary", sa.JSON(), nullable=False),
        sa.Column("source", sa.String(length=300), nullable=False),
        sa.Column("licence", sa.String(length=100), nullable=False),
        sa.Column("demonstration", sa.Boolean(), nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.Column("derived_to", sa.BigInteger(), nullable=False),
        sa.Column("valid_from", sa.DateTime(timezone=True), nullable=False),
        sa.Column("valid_to", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["authority"], ["authorities.code"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("code", "version", name="one_row_per_version"),
    )
    op.create_index("areas_by_state", "areas", ["state", "authority"])
    kept = "code, version, kind, name, parent, authority, boundary, source, demonstration, valid_from, valid_to"
    op.execute(
        f"""INSERT INTO areas ({kept}, state, licence, hash, derived_to)
            SELECT {kept}, CASE WHEN valid_to IS NULL THEN 'serving' ELSE 'cleared' END, '', '', 0
              FROM areas_before ORDER BY code, version"""
    )
    op.drop_table("areas_before")


def _cover_places() -> None:
    op.drop_index("places_by_cell", "places")
    with op.batch_alter_table("places") as batch_op:
        batch_op.create_check_constraint("place_is_somewhere", SOMEWHERE)
    if op.get_bind().dialect.name == "postgresql":
        op.create_index("places_by_cell", "places", ["cell"], postgresql_include=["recipient_id", "lat", "lon"])
    else:
        op.create_index("places_by_cell", "places", ["cell", "recipient_id", "lat", "lon"])


def _place_memberships() -> None:
    """Until now everybody had one place, so that each of their areas is that place's."""
    op.drop_index("memberships_of_recipient", "memberships")
    op.rename_table("memberships", "memberships_before")
    op.create_table(
        "memberships",
        sa.Column("area", BIG_ID, nullable=False),
        sa.Column("recipient_id", BIG_ID, nullable=False),
        sa.Column("place_id", BIG_ID, nullable=False),
        sa.ForeignKeyConstraint(["area"], ["areas.id"]),
        sa.ForeignKeyConstraint(["recipient_id"], ["recipients.id"]),
        sa.ForeignKeyConstraint(["place_id"], ["places.id"]),
        sa.PrimaryKeyConstraint("area", "recipient_id", "place_id"),
    )
    op.execute(
        """INSERT INTO memberships (area, recipient_id, place_id)
           SELECT a.id, b.recipient_id, p.id
             FROM memberships_before b
             JOIN areas a ON a.code = b.area AND a.state = 'serving'
             JOIN places p ON p.recipient_id = b.recipient_id"""
    )
    op.drop_table("memberships_before")
    op.create_index("memberships_of_recipient", "memberships", ["recipient_id", "area"])


def _cover_people() -> None:
    """What is asked of whoever is counted. SQLite has no indexes that hold more than they are sorted by."""
    if op.get_bind().dialect.name == "postgresql":
        op.create_index(
            "recipients_told",
            "recipients",
            ["id"],
            postgresql_include=["authority", "live", "located"],
            postgresql_where=sa.text("left_at IS NULL"),
        )
        op.create_index(
            "addresses_told",
            "addresses",
            ["recipient_id"],
            postgresql_include=["account", "rank"],
            postgresql_where=sa.text("sealed IS NOT NULL AND refused_at IS NULL"),
        )


def downgrade() -> None:
    """Back to areas by code. Versions that are only being prepared are forgotten, and so is whose place lies where."""
    if op.get_bind().dialect.name == "postgresql":
        op.drop_index("addresses_told", "addresses")
        op.drop_index("recipients_told", "recipients")
    op.drop_index("memberships_of_recipient", "memberships")
    op.rename_table("memberships", "memberships_after")
    op.create_table(
        "memberships",
        sa.Column("area", sa.String(length=100), nullable=False),
        sa.Column("recipient_id", BIG_ID, nullable=False),
        sa.ForeignKeyConstraint(["recipient_id"], ["recipients.id"]),
        sa.PrimaryKeyConstraint("area", "recipient_id"),
    )
    op.execute(
        """INSERT INTO memberships (area, recipient_id)
           SELECT DISTINCT a.code, m.recipient_id FROM memberships_after m
             JOIN areas a ON a.id = m.area AND a.state = 'serving'"""
    )
    op.drop_table("memberships_after")
    op.create_index("memberships_of_recipient", "memberships", ["recipient_id"])
    op.drop_index("places_by_cell", "places")
    with op.batch_alter_table("places") as batch_op:
        batch_op.drop_constraint("place_is_somewhere", type_="check")
    op.create_index("places_by_cell", "places", ["cell"])
    op.execute("DELETE FROM areas WHERE state = 'preparing'")
    op.drop_index("areas_by_state", "areas")
    op.rename_table("areas", "areas_after")
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
        sa.ForeignKeyConstraint(["authority"], ["authorities.code"]),
        sa.PrimaryKeyConstraint("code", "version"),
    )
    kept = "code, version, kind, name, parent, authority, boundary, source, demonstration, valid_from, valid_to"
    op.execute(f"INSERT INTO areas ({kept}) SELECT {kept} FROM areas_after")
    op.drop_table("areas_after")
    op.drop_table("atlas")
