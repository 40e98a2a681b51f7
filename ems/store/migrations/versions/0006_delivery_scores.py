"""How setpoints were followed, beside what came of them."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

SCORES = ("watched_s", "followed_frac", "apart_kw")


def upgrade() -> None:
    """Make room; of setpoints before this nothing is known."""
    for name in SCORES:
        op.add_column("deliveries", sa.Column(name, sa.Double(), nullable=True))


def downgrade() -> None:
    """Remove them."""
    with op.batch_alter_table("deliveries") as table:
        for name in SCORES:
            table.drop_column(name)
