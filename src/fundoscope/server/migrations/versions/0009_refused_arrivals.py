"""What came by C-STORE and was refused"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """To this schema."""
    name = "dicom_refused_arrivals"
    op.create_table(
        name,
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("site_id", sa.Integer(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("caller", sa.String(64), nullable=False),
        sa.Column("address", sa.String(64), nullable=False),
        sa.Column("sop_instance", sa.String(64), nullable=False),
        sa.Column("patient", sa.String(100), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("file", sa.String(255), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f(f"pk_{name}")),
        sa.ForeignKeyConstraint(["site_id"], ["sites.id"], name=op.f(f"fk_{name}_site_id_sites")),
        sa.UniqueConstraint(
            "site_id", "sop_instance", "caller", "address", name=op.f(f"uq_{name}_site_id_sop_instance_caller_address")
        ),
    )
    op.create_index(op.f(f"ix_{name}_at"), name, ["at"])
