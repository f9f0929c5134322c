"""Photographs keep what a person should look at; exams know their order in the hospital's worklist; questions on commitment"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """To this schema."""
    op.add_column("photographs", sa.Column("remark", sa.Text(), nullable=False, server_default=""))
    op.create_index(op.f("ix_photographs_study"), "photographs", ["study"])
    for name in ("study", "scheduled_step"):
        op.add_column("exams", sa.Column(name, sa.String(64), nullable=False, server_default=""))
    op.create_index(op.f("ix_exams_study"), "exams", ["study"])
    op.create_index("ix_exams_order", "exams", ["site_id", "accession"])
    op.create_table(
        "dicom_commitments",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("transaction", sa.String(64), nullable=False),
        sa.Column("peer", sa.String(300), nullable=False),
        sa.Column("instances", sa.JSON(), nullable=False),
        sa.Column("failed", sa.JSON(), nullable=False),
        sa.Column("committed", sa.JSON(), nullable=False),
        sa.Column("asked_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("answered_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_dicom_commitments")),
        sa.UniqueConstraint("transaction", name=op.f("uq_dicom_commitments_transaction")),
    )
