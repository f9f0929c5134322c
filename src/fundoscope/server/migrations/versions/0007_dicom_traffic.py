"""Destinations of answers, sources of photographs, what was sent and found there; photographs know their DICOM study"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_TEXTS = {"url": 500, "user": 200, "authority_file": 500, "certificate_file": 500, "key_file": 500}


def upgrade() -> None:
    """To this schema."""
    op.create_table(
        "dicom_destinations",
        *_shared(),
        sa.Column("content", sa.String(10), nullable=False),
        sa.Column("moment", sa.String(10), nullable=False),
        sa.Column("protocol", sa.String(10), nullable=False),
        sa.Column("host", sa.String(255), nullable=False),
        sa.Column("port", sa.Integer(), nullable=True),
        sa.Column("called_title", sa.String(16), nullable=False),
        sa.Column("calling_title", sa.String(16), nullable=False),
        sa.Column("tls", sa.Boolean(), nullable=False),
        sa.Column("commitment", sa.Boolean(), nullable=False),
        *_keys("dicom_destinations"),
    )
    op.create_table(
        "dicom_sources",
        *_shared(),
        sa.Column("kind", sa.String(10), nullable=False),
        sa.Column("patients", sa.String(10), nullable=False),
        sa.Column("adds_patients", sa.Boolean(), nullable=False),
        sa.Column("issuer", sa.String(64), nullable=False),
        sa.Column("modalities", sa.JSON(), nullable=False),
        sa.Column("days", sa.Integer(), nullable=False),
        sa.Column("folder", sa.String(500), nullable=False),
        sa.Column("pattern", sa.String(200), nullable=False),
        sa.Column("interval", sa.Integer(), nullable=False),
        sa.Column("next_look_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("looked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("trouble", sa.Text(), nullable=False),
        *_keys("dicom_sources"),
    )
    for name in ("dicom_destinations", "dicom_sources"):
        op.create_index(op.f(f"ix_{name}_site_id"), name, ["site_id"])
    op.create_table(
        "dicom_source_items",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("source_id", sa.Integer(), nullable=False),
        sa.Column("key", sa.String(64), nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("outcome", sa.String(10), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("exam_id", sa.Integer(), nullable=True),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["source_id"], ["dicom_sources.id"], name=op.f("fk_dicom_source_items_source_id")),
        sa.ForeignKeyConstraint(["exam_id"], ["exams.id"], name=op.f("fk_dicom_source_items_exam_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_dicom_source_items")),
        sa.UniqueConstraint("source_id", "key", name=op.f("uq_dicom_source_items_source_id_key")),
    )
    op.create_table(
        "dicom_sent_objects",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("destination_id", sa.Integer(), nullable=False),
        sa.Column("sop_instance", sa.String(64), nullable=False),
        sa.Column("kind", sa.String(10), nullable=False),
        sa.Column("exam_id", sa.Integer(), nullable=False),
        sa.Column("job_id", sa.Integer(), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("sent_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["destination_id"], ["dicom_destinations.id"], name=op.f("fk_dicom_sent_objects_destination_id")
        ),
        sa.ForeignKeyConstraint(["exam_id"], ["exams.id"], name=op.f("fk_dicom_sent_objects_exam_id")),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_dicom_sent_objects_job_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_dicom_sent_objects")),
        sa.UniqueConstraint(
            "destination_id", "sop_instance", name=op.f("uq_dicom_sent_objects_destination_id_sop_instance")
        ),
    )
    op.create_index("ix_dicom_sent_objects_job", "dicom_sent_objects", ["job_id"])
    for name in ("study", "sop_instance"):
        op.add_column("photographs", sa.Column(name, sa.String(64), nullable=False, server_default=""))
    op.create_index(op.f("ix_photographs_sop_instance"), "photographs", ["sop_instance"])


def _shared() -> list[sa.Column]:
    """Columns that both kinds of settings have."""
    return [
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("site_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("active", sa.Boolean(), nullable=False),
        *(sa.Column(name, sa.String(length), nullable=False) for name, length in _TEXTS.items()),
        sa.Column("password", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_by", sa.Integer(), nullable=True),
        sa.Column("created_via", sa.String(20), nullable=False),
    ]


def _keys(table: str) -> list[sa.Constraint]:
    return [
        sa.ForeignKeyConstraint(["site_id"], ["sites.id"], name=op.f(f"fk_{table}_site_id")),
        sa.ForeignKeyConstraint(["created_by"], ["users.id"], name=op.f(f"fk_{table}_created_by")),
        sa.PrimaryKeyConstraint("id", name=op.f(f"pk_{table}")),
    ]
