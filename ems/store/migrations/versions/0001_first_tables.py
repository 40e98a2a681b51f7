"""First tables."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "accounts",
        sa.Column("site_id", sa.Text(), nullable=False),
        sa.Column("start_ms", sa.BigInteger(), nullable=False),
        sa.Column("hours", sa.Double(), nullable=False),
        sa.Column("quality", sa.SmallInteger(), nullable=False),
        sa.Column("curtailed", sa.Boolean(), nullable=False),
        sa.Column("import_kwh", sa.Double(), nullable=True),
        sa.Column("export_kwh", sa.Double(), nullable=True),
        sa.Column("load_kwh", sa.Double(), nullable=True),
        sa.Column("pv_kwh", sa.Double(), nullable=True),
        sa.Column("charged_kwh", sa.Double(), nullable=True),
        sa.Column("discharged_kwh", sa.Double(), nullable=True),
        sa.Column("vehicle_kwh", sa.Double(), nullable=True),
        sa.Column("stored_kwh", sa.Double(), nullable=True),
        sa.Column("buy_per_kwh", sa.Double(), nullable=False),
        sa.Column("sell_per_kwh", sa.Double(), nullable=False),
        sa.Column("cost", sa.Double(), nullable=True),
        sa.Column("cost_idle", sa.Double(), nullable=True),
        sa.Column("planned_import_kw", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("site_id", "start_ms", name=op.f("pk_accounts")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "api_keys",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("site_ids", sa.Text(), nullable=True),
        sa.Column("label", sa.Text(), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("revoked_ms", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_keys")),
    )
    op.create_table(
        "cycles",
        sa.Column("at_ms", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("took_ms", sa.Double(), nullable=False),
        sa.Column("missed", sa.Integer(), nullable=False),
        sa.Column("overlapped", sa.Integer(), nullable=False),
        sa.Column("n_sites", sa.Integer(), nullable=False),
        sa.Column("n_fallback", sa.Integer(), nullable=False),
        sa.Column("n_troubles", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("at_ms", name=op.f("pk_cycles")),
    )
    op.create_table(
        "deliveries",
        sa.Column("setpoint_id", sa.Text(), nullable=False),
        sa.Column("site_id", sa.Text(), nullable=False),
        sa.Column("asset", sa.Text(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("held_kw", sa.Double(), nullable=True),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("written", sa.Boolean(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("setpoint_id", name=op.f("pk_deliveries")),
        sqlite_with_rowid=False,
    )
    op.create_index(op.f("ix_deliveries_site_id_at_ms"), "deliveries", ["site_id", "at_ms"], unique=False)
    op.create_table(
        "edges",
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("site_id", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("became", sa.Text(), nullable=False),
        sa.Column("cause", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("at_ms", "site_id", "subject", "became", name=op.f("pk_edges")),
        sqlite_with_rowid=False,
    )
    op.create_index(op.f("ix_edges_site_id_at_ms"), "edges", ["site_id", "at_ms"], unique=False)
    op.create_table(
        "forecasts",
        sa.Column("site_id", sa.Text(), nullable=False),
        sa.Column("series", sa.Text(), nullable=False),
        sa.Column("issued_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("start_ms", sa.BigInteger(), nullable=False),
        sa.Column("step_s", sa.Integer(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("quality", sa.Text(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("site_id", "series", "issued_at_ms", name=op.f("pk_forecasts")),
    )
    op.create_table(
        "layouts",
        sa.Column("layout_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("layout_id", name=op.f("pk_layouts")),
    )
    op.create_table(
        "overrides",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("site_id", sa.Text(), nullable=False),
        sa.Column("by", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("from_ms", sa.BigInteger(), nullable=False),
        sa.Column("until_ms", sa.BigInteger(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("ended_ms", sa.BigInteger(), nullable=True),
        sa.Column("ended_by", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_overrides")),
    )
    op.create_index(op.f("ix_overrides_until_ms"), "overrides", ["until_ms"], unique=False)
    op.create_table(
        "plans",
        sa.Column("site_id", sa.Text(), nullable=False),
        sa.Column("decided_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("issued_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("valid_until_ms", sa.BigInteger(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("site_id", "decided_at_ms", name=op.f("pk_plans")),
    )
    op.create_table(
        "reading_means",
        sa.Column("site_id", sa.Text(), nullable=False),
        sa.Column("start_ms", sa.BigInteger(), nullable=False),
        sa.Column("span_s", sa.Integer(), nullable=False),
        sa.Column("passes", sa.Integer(), nullable=False),
        sa.Column("layout_id", sa.BigInteger(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("site_id", "start_ms", name=op.f("pk_reading_means")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "readings",
        sa.Column("site_id", sa.Text(), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("usable", sa.Integer(), nullable=False),
        sa.Column("layout_id", sa.BigInteger(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("troubles", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("site_id", "at_ms", name=op.f("pk_readings")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "records",
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("site_id", sa.Text(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("at_ms", "site_id", name=op.f("pk_records")),
    )
    op.create_table(
        "setpoints",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("site_id", sa.Text(), nullable=False),
        sa.Column("asset", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("quantity", sa.Text(), nullable=False),
        sa.Column("value_kw", sa.Double(), nullable=True),
        sa.Column("valid_from_ms", sa.BigInteger(), nullable=False),
        sa.Column("valid_until_ms", sa.BigInteger(), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("reverts_to", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_setpoints")),
        sqlite_with_rowid=False,
    )
    op.create_index(
        op.f("ix_setpoints_site_id_valid_from_ms"), "setpoints", ["site_id", "valid_from_ms"], unique=False
    )
    op.create_table(
        "sites",
        sa.Column("site_id", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("site_id", name=op.f("pk_sites")),
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    """Remove them."""
    op.drop_table("sites")
    op.drop_index(op.f("ix_setpoints_site_id_valid_from_ms"), table_name="setpoints")
    op.drop_table("setpoints")
    op.drop_table("records")
    op.drop_table("readings")
    op.drop_table("reading_means")
    op.drop_table("plans")
    op.drop_index(op.f("ix_overrides_until_ms"), table_name="overrides")
    op.drop_table("overrides")
    op.drop_table("layouts")
    op.drop_table("forecasts")
    op.drop_index(op.f("ix_edges_site_id_at_ms"), table_name="edges")
    op.drop_table("edges")
    op.drop_index(op.f("ix_deliveries_site_id_at_ms"), table_name="deliveries")
    op.drop_table("deliveries")
    op.drop_table("cycles")
    op.drop_table("api_keys")
    op.drop_table("accounts")
