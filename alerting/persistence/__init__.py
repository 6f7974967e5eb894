"""What is remembered, and the only place but the use cases that knows SQLAlchemy."""

from alerting.persistence.database import Database

__all__ = ["Database"]
