"""Alembic's entry: migrates the connection it is handed, inside that connection's transaction."""

from alembic import context

from ems.store.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
    compare_type=True,
)
with context.begin_transaction():
    context.run_migrations()
