"""How Alembic runs here: always on a connection it is given, never from a file's URL."""

from alembic import context

from alerting.persistence.tables import Table

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=Table.metadata, render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
