"""A secret of the room, made once, by which exams are drawn for second readings"""

from __future__ import annotations

import secrets

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """To this schema."""
    table = op.create_table(
        "room_secrets",
        sa.Column("name", sa.String(length=50), nullable=False),
        sa.Column("value", sa.String(length=100), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_room_secrets")),
    )
    op.bulk_insert(table, [{"name": name, "value": secrets.token_hex(32)} for name in ("draw", "export")])
    with op.batch_alter_table("reading_tasks") as batch:
        batch.create_unique_constraint(batch.f("uq_reading_tasks_exam_id_kind"), ["exam_id", "kind"])
