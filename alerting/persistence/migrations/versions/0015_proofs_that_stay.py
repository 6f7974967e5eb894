"""Proofs of consent that nobody can change: when it was written, what the policy said; and what is erased of them."""

from collections.abc import Iterable

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

SAME = (
    "id",
    "authority",
    "channel",
    "what",
    "policy_version",
    "policy_sha256",
    "said_at",
    "at",
    "given_on",
    "document",
)
"""What an erasure leaves as it is: that somebody joined or left, and never who."""
KEPT = "consents are append-only: a proof is never changed or deleted; see alerting/retention.py for what is erased"
ENDED = "erasures are append-only: what was erased, when and why stays"

ON_POSTGRESQL = (
    f"""CREATE FUNCTION keep_consents() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF TG_OP = 'UPDATE' THEN
            IF EXISTS (SELECT 1 FROM erasures WHERE ended_at IS NULL) AND NEW.fingerprint IS NULL AND NEW.keyword = ''
                AND {" AND ".join(f"NEW.{one} IS NOT DISTINCT FROM OLD.{one}" for one in SAME)}
            THEN RETURN NEW; END IF;
        END IF;
        RAISE EXCEPTION '{KEPT}' USING ERRCODE = 'integrity_constraint_violation';
    END $$""",
    """CREATE TRIGGER consents_kept BEFORE UPDATE OR DELETE ON consents
    FOR EACH ROW EXECUTE FUNCTION keep_consents()""",
    """CREATE TRIGGER consents_kept_whole BEFORE TRUNCATE ON consents
    FOR EACH STATEMENT EXECUTE FUNCTION keep_consents()""",
    f"""CREATE FUNCTION keep_erasures() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF TG_OP = 'UPDATE' THEN
            IF OLD.ended_at IS NULL THEN RETURN NEW; END IF;
        END IF;
        RAISE EXCEPTION '{ENDED}' USING ERRCODE = 'integrity_constraint_violation';
    END $$""",
    """CREATE TRIGGER erasures_kept BEFORE UPDATE OR DELETE ON erasures
    FOR EACH ROW EXECUTE FUNCTION keep_erasures()""",
)
ON_SQLITE = (
    f"CREATE TRIGGER consents_kept BEFORE DELETE ON consents BEGIN SELECT RAISE(ABORT, '{KEPT}'); END",
    f"""CREATE TRIGGER consents_unchanged BEFORE UPDATE ON consents
    WHEN NOT (EXISTS (SELECT 1 FROM erasures WHERE ended_at IS NULL) AND NEW.fingerprint IS NULL AND NEW.keyword = ''
        AND {" AND ".join(f"NEW.{one} IS OLD.{one}" for one in SAME)})
    BEGIN SELECT RAISE(ABORT, '{KEPT}'); END""",
    # INSERT OR REPLACE deletes without asking the trigger of deletions.
    f"""CREATE TRIGGER consents_not_replaced BEFORE INSERT ON consents
    WHEN EXISTS (SELECT 1 FROM consents WHERE id = NEW.id) BEGIN SELECT RAISE(ABORT, '{KEPT}'); END""",
    f"CREATE TRIGGER erasures_kept BEFORE DELETE ON erasures BEGIN SELECT RAISE(ABORT, '{ENDED}'); END",
    f"""CREATE TRIGGER erasures_unchanged BEFORE UPDATE ON erasures WHEN OLD.ended_at IS NOT NULL
    BEGIN SELECT RAISE(ABORT, '{ENDED}'); END""",
)
OFF_POSTGRESQL = (
    "DROP TRIGGER consents_kept ON consents",
    "DROP TRIGGER consents_kept_whole ON consents",
    "DROP FUNCTION keep_consents()",
    "DROP TRIGGER erasures_kept ON erasures",
    "DROP FUNCTION keep_erasures()",
)
OFF_SQLITE = tuple(
    f"DROP TRIGGER {name}"
    for name in ("consents_kept", "consents_unchanged", "consents_not_replaced", "erasures_kept", "erasures_unchanged")
)


def upgrade() -> None:
    with op.batch_alter_table("consents") as consents:
        consents.add_column(sa.Column("said_at", sa.DateTime(timezone=True), nullable=True))
        consents.add_column(sa.Column("policy_sha256", sa.String(length=64), nullable=True))
        consents.alter_column("fingerprint", existing_type=sa.LargeBinary(), nullable=True)
    op.create_table(
        "erasures",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("actor", sa.String(length=100), nullable=False),
        sa.Column("why", sa.String(length=20), nullable=False),
        sa.Column("proofs", sa.Integer(), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "courtesies",
        sa.Column("account", sa.String(length=64), nullable=False),
        sa.Column("fingerprint", sa.LargeBinary(), nullable=False),
        sa.Column("since", sa.Float(), nullable=False),
        sa.Column("last", sa.Float(), nullable=False),
        sa.Column("texts", sa.Integer(), nullable=False),
        sa.Column("answered", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("account", "fingerprint"),
    )
    op.create_index("courtesies_by_age", "courtesies", ["last"])
    op.add_column("addresses", sa.Column("unreachable_since", sa.DateTime(timezone=True), nullable=True))
    _each(ON_POSTGRESQL, ON_SQLITE)


def downgrade() -> None:
    """Proofs of which the person was erased keep none: an empty fingerprint is nobody's."""
    _each(OFF_POSTGRESQL, OFF_SQLITE)
    op.drop_column("addresses", "unreachable_since")
    op.drop_index("courtesies_by_age", table_name="courtesies")
    op.drop_table("courtesies")
    op.drop_table("erasures")
    nobody = "''::bytea" if op.get_bind().dialect.name == "postgresql" else "x''"
    op.execute(f"UPDATE consents SET fingerprint = {nobody} WHERE fingerprint IS NULL")
    with op.batch_alter_table("consents") as consents:
        consents.alter_column("fingerprint", existing_type=sa.LargeBinary(), nullable=False)
        consents.drop_column("policy_sha256")
        consents.drop_column("said_at")


def _each(on_postgresql: Iterable[str], on_sqlite: Iterable[str]) -> None:
    for statement in on_postgresql if op.get_bind().dialect.name == "postgresql" else on_sqlite:
        op.execute(statement)
