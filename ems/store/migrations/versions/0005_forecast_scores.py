"""Scores of forecasts, versions of forecast models, and how many paths a packed forecast holds."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables; forecasts kept so far hold three paths, prices one."""
    with op.batch_alter_table("forecasts") as table:
        table.add_column(sa.Column("paths", sa.SmallInteger(), nullable=False, server_default="3"))
    op.create_table(
        "forecast_scores",
        sa.Column("site_id", sa.Text(), nullable=False),
        sa.Column("day_ms", sa.BigInteger(), nullable=False),
        sa.Column("series", sa.Text(), nullable=False),
        sa.Column("lead_h", sa.SmallInteger(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("scored", sa.Integer(), nullable=False),
        sa.Column("truth_kw", sa.Double(), nullable=False),
        sa.Column("size_kw", sa.Double(), nullable=False),
        sa.Column("error_kw", sa.Double(), nullable=False),
        sa.Column("abs_error_kw", sa.Double(), nullable=False),
        sa.Column("squared_error_kw2", sa.Double(), nullable=False),
        sa.Column("pinball_kw", sa.Double(), nullable=False),
        sa.Column("banded", sa.Integer(), nullable=False),
        sa.Column("inside", sa.Integer(), nullable=False),
        sa.Column("compared", sa.Integer(), nullable=False),
        sa.Column("compared_abs_error_kw", sa.Double(), nullable=False),
        sa.Column("naive_abs_error_kw", sa.Double(), nullable=False),
        sa.Column("compared_pinball_kw", sa.Double(), nullable=False),
        sa.Column("naive_pinball_kw", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint(
            "site_id", "day_ms", "series", "lead_h", "source", name=op.f("pk_forecast_scores")
        ),
        sqlite_with_rowid=False,
    )
    op.create_index(op.f("ix_forecast_scores_day_ms"), "forecast_scores", ["day_ms"])
    op.create_table(
        "models",
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("fleet", sa.Text(), nullable=False),
        sa.Column("fitted_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("kind", "fleet", "fitted_at_ms", name=op.f("pk_models")),
    )


def downgrade() -> None:
    """Remove them."""
    op.drop_table("models")
    op.drop_table("forecast_scores")
    with op.batch_alter_table("forecasts") as table:
        table.drop_column("paths")
