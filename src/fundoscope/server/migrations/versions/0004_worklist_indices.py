"""Indices by which the worklist finds infants who are due, and exams of a state by their day"""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """To this schema."""
    op.create_index("ix_patients_due", "patients", ["site_id", "kind", "left", "due_by"])
    op.create_index("ix_exams_by_day", "exams", ["site_id", "state", "day"])
