"""Overrides become orders: also targets and limits, also of the grid operator and of events."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Rename the table and give it source, asset and value; what was asked before were people's pauses."""
    op.drop_index(op.f("ix_overrides_until_ms"), table_name="overrides")
    op.create_table(
        "orders",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("site_id", sa.Text(), nullable=False),
        sa.Column("by", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("asset", sa.Text(), nullable=True),
        sa.Column("value_kw", sa.Double(), nullable=True),
        sa.Column("from_ms", sa.BigInteger(), nullable=False),
        sa.Column("until_ms", sa.BigInteger(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("ended_ms", sa.BigInteger(), nullable=True),
        sa.Column("ended_by", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_orders")),
    )
    op.create_index(op.f("ix_orders_until_ms"), "orders", ["until_ms"], unique=False)
    op.execute(
        sa.text(
            'INSERT INTO orders (id, site_id, "by", kind, source, from_ms, until_ms, note, ended_ms, ended_by) '
            "SELECT id, site_id, \"by\", kind, 'override', from_ms, until_ms, note, ended_ms, ended_by FROM overrides"
        )
    )
    op.drop_table("overrides")


def downgrade() -> None:
    """Keep the pauses; targets and limits have no place in the older table."""
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
    op.execute(
        sa.text(
            'INSERT INTO overrides (id, site_id, "by", kind, from_ms, until_ms, note, ended_ms, ended_by) '
            'SELECT id, site_id, "by", kind, from_ms, until_ms, note, ended_ms, ended_by FROM orders '
            "WHERE kind = 'pause'"
        )
    )
    op.drop_table("orders")
