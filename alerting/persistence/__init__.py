"""What is remembered, and the only place but the use cases that knows SQLAlchemy."""

from alerting.persistence.database import Database
from alerting.persistence.migrations import migrate

__all__ = ["Database", "migrate"]
