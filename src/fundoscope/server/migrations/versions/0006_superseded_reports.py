"""A report says which reading superseded its own when it was made"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """To this schema."""
    with op.batch_alter_table("reports") as table:
        table.add_column(sa.Column("superseded_by", sa.Integer(), nullable=True))
        table.create_foreign_key(op.f("fk_reports_superseded_by"), "readings", ["superseded_by"], ["id"])
