"""The four lanes. A lane is chosen once, stored on the row, and read from there for ever after."""

from enum import Enum


class Lane(Enum):
    """How urgent a text is. Members stand from the most to the least urgent; adding one is one line."""

    FLASH = "flash"
    """Imminent danger to life, and the retraction of a wrong alert."""
    EMERGENCY = "emergency"
    """Allerte meteo, water and power outages, road closures."""
    REPLY = "reply"
    """The answer a citizen is waiting for."""
    ROUTINE = "routine"
    """Events, deadlines, waste collection, news."""

    @property
    def rank(self) -> int:
        """0 for the most urgent."""
        return _RANKS[self]

    @property
    def is_urgent(self) -> bool:
        """Flash and emergency: never held back by what is less urgent."""
        return self.rank <= _RANKS[Lane.EMERGENCY]

    @property
    def above(self) -> "tuple[Lane, ...]":
        """The lanes that go first."""
        return tuple(Lane)[: self.rank]

    def __str__(self) -> str:
        return self.value


_RANKS = {lane: rank for rank, lane in enumerate(Lane)}

PEOPLE_PER_BATCH = {Lane.FLASH: 100, Lane.EMERGENCY: 100, Lane.REPLY: 100, Lane.ROUTINE: 500}
"""How many people one delivery message names. Urgent batches are small so that many workers share them."""
