"""Acknowledgements of building controllers."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "acknowledgements",
        sa.Column("setpoint_id", sa.Text(), nullable=False),
        sa.Column("controller", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("site_id", sa.Text(), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("value_kw", sa.Double(), nullable=True),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("arrived_ms", sa.BigInteger(), nullable=False),
        sa.Column("late", sa.Boolean(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("setpoint_id", "controller", "state", name=op.f("pk_acknowledgements")),
        sqlite_with_rowid=False,
    )
    op.create_index(
        op.f("ix_acknowledgements_site_id_arrived_ms"),
        "acknowledgements",
        ["site_id", "arrived_ms"],
        unique=False,
    )


def downgrade() -> None:
    """Remove it."""
    op.drop_index(op.f("ix_acknowledgements_site_id_arrived_ms"), table_name="acknowledgements")
    op.drop_table("acknowledgements")
