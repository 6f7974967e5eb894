"""Whose turn it is on a busy machine: who never carries an alert gives way to those who do."""

import os
from contextlib import suppress
from pathlib import Path

from alerting.persistence import Database

AFTER_ALERTS, AFTER_ANSWERS = 5, 10
"""By how much who carries no alert gives way: somebody awaits an answer, nobody a receipt."""

AUTOGROUP = Path("/proc/self/autogroup")
"""Where Linux divides a machine between sessions first (sched(7)): nice counts within one, and this between them."""


def give_way(by: int) -> None:
    """Let others go first where the processors do not suffice: `by` as for nice(1), 1 to 19."""
    nice = os.nice(by)
    with suppress(OSError):  # no Linux, or a container, which has a share of its own
        AUTOGROUP.write_text(str(nice))


def give_way_beside(database: Database, by: int) -> None:
    """The same for who writes to this database too.

    Not on SQLite, which one writes at a time: those who carry alerts would wait for who gave way amid its turn.
    """
    if not database.is_sqlite:
        give_way(by)
