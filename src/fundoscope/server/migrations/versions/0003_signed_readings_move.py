"""A signed reading may go to another site with its patient; nothing else of it can be changed"""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_MESSAGE = "a signed reading never changes"
#: All columns of `readings` but its site.
_KEPT = (
    "id", "exam_id", "reader_id", "kind", "supersedes", "masked", "note", "signed_at", "digest", "due", "due_by", "why", "basis",
    "created_at", "created_by", "created_via",
)  # fmt: skip


def upgrade() -> None:
    """To this schema."""
    if op.get_bind().dialect.name == "postgresql":
        op.execute(
            "CREATE OR REPLACE FUNCTION refuse_change_of_reading() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            "IF OLD.signed_at IS NOT NULL AND (TG_OP = 'DELETE' OR to_jsonb(NEW) - 'site_id' <> to_jsonb(OLD) - 'site_id') "
            f"THEN RAISE EXCEPTION '{_MESSAGE}' USING ERRCODE = 'integrity_constraint_violation'; END IF; "
            "RETURN CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END; END $$"
        )
    else:
        op.execute("DROP TRIGGER signed_readings_update")
        op.execute(
            f"CREATE TRIGGER signed_readings_update BEFORE UPDATE OF {', '.join(_KEPT)} ON readings "
            f"WHEN OLD.signed_at IS NOT NULL BEGIN SELECT RAISE(ABORT, '{_MESSAGE}'); END"
        )
