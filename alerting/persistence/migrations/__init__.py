"""The schema, one step after another. `migrate` brings any database to the newest."""

import asyncio
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection

from alerting.persistence.database import Database


async def migrate(url: str) -> None:
    """Bring the database at `url` to the newest schema. Safe to run again, and by several at once."""
    database = Database(url)
    try:
        async with database.engine.connect() as connection:
            # In one transaction on SQLite as well: who is killed halfway leaves nothing, and may run it again.
            await connection.execution_options(writes="FULL")
            await connection.run_sync(_upgrade)
            await connection.commit()
    finally:
        await database.close()


def _upgrade(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":
        # Two processes that start together must not both create the tables; the lock ends with the transaction.
        connection.exec_driver_sql("SELECT pg_advisory_xact_lock(7205759)")
    command.upgrade(configuration(connection), "head")


def configuration(connection: Connection) -> Config:
    """Alembic's configuration, without a file: the scripts lie beside this module."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.attributes["connection"] = connection
    return config


def run(url: str) -> None:
    """`migrate` for those who have no event loop."""
    asyncio.run(migrate(url))
