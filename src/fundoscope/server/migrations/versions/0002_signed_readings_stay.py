"""Signed readings cannot be changed; readings say why and on what; eyes have quality, notch and posterior zone II"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_MESSAGE = "a signed reading never changes"
_PARTS = ("eye_readings", "crossing_readings")  # tables that belong to a reading


def upgrade() -> None:
    """To this schema."""
    with op.batch_alter_table("readings") as table:
        table.add_column(sa.Column("why", sa.Text(), nullable=False, server_default=""))
        table.add_column(sa.Column("basis", sa.JSON(), nullable=True))
    with op.batch_alter_table("eye_readings") as table:
        table.add_column(sa.Column("reason", sa.String(length=20), nullable=False, server_default=""))
        table.add_column(sa.Column("quality", sa.String(length=10), nullable=False, server_default=""))
        table.add_column(sa.Column("posterior", sa.Boolean(), nullable=False, server_default=sa.false()))
        table.add_column(sa.Column("notch", sa.Boolean(), nullable=False, server_default=sa.false()))
    if op.get_bind().dialect.name == "postgresql":
        _protect_on_postgresql()
    else:
        _protect_on_sqlite()


def _protect_on_sqlite() -> None:
    for event in ("UPDATE", "DELETE"):
        op.execute(
            f"CREATE TRIGGER signed_readings_{event.lower()} BEFORE {event} ON readings "
            f"WHEN OLD.signed_at IS NOT NULL BEGIN SELECT RAISE(ABORT, '{_MESSAGE}'); END"
        )
    for table in _PARTS:
        for event, row in (("INSERT", "NEW"), ("UPDATE", "OLD"), ("UPDATE", "NEW"), ("DELETE", "OLD")):
            op.execute(
                f"CREATE TRIGGER signed_{table}_{event.lower()}_{row.lower()} BEFORE {event} ON {table} "
                f"WHEN (SELECT signed_at FROM readings WHERE id = {row}.reading_id) IS NOT NULL "
                f"BEGIN SELECT RAISE(ABORT, '{_MESSAGE}'); END"
            )


def _protect_on_postgresql() -> None:
    op.execute(
        "CREATE FUNCTION refuse_change_of_reading() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        f"IF OLD.signed_at IS NOT NULL THEN RAISE EXCEPTION '{_MESSAGE}' USING ERRCODE = 'integrity_constraint_violation'; END IF; "
        "RETURN CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END; END $$"
    )
    op.execute(
        "CREATE TRIGGER signed_readings BEFORE UPDATE OR DELETE ON readings "
        "FOR EACH ROW EXECUTE FUNCTION refuse_change_of_reading()"
    )
    op.execute(
        "CREATE FUNCTION refuse_change_of_reading_part() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "IF (TG_OP <> 'INSERT' AND EXISTS (SELECT FROM readings WHERE id = OLD.reading_id AND signed_at IS NOT NULL)) "
        "OR (TG_OP <> 'DELETE' AND EXISTS (SELECT FROM readings WHERE id = NEW.reading_id AND signed_at IS NOT NULL)) "
        f"THEN RAISE EXCEPTION '{_MESSAGE}' USING ERRCODE = 'integrity_constraint_violation'; END IF; "
        "RETURN CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END; END $$"
    )
    for table in _PARTS:
        op.execute(
            f"CREATE TRIGGER signed_{table} BEFORE INSERT OR UPDATE OR DELETE ON {table} "
            "FOR EACH ROW EXECUTE FUNCTION refuse_change_of_reading_part()"
        )
