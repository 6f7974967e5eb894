"""Where a version of an area stands: it is prepared beside the one that serves, and follows it in one step."""

from enum import Enum


class AreaState(Enum):
    """From a new outline to one that nobody remembers but the audit."""

    PREPARING = "preparing"
    """Who is inside is being worked out, or its day has not come. Whoever joins now is counted in already."""
    SERVING = "serving"
    """Alerts that name the area mean this one."""
    ENDED = "ended"
    """Another serves. Who was inside is still known: an alert drafted before may be on its way."""
    CLOSED = "closed"
    """Who is inside follows from the boundary alone. Who was is left in the rows for whoever has asked before."""
    CLEARED = "cleared"
    """Only the boundary is left."""

    def __str__(self) -> str:
        return self.value


KNOWS_WHO = frozenset({AreaState.PREPARING, AreaState.SERVING, AreaState.ENDED})
"""Who is inside is written down for these, and kept up to date as people join, move and leave."""
