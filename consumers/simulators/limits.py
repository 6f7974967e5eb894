"""How much a provider takes, and how much at once. Seconds as floats, because this is the hot path."""


class Bucket:
    """So many a second, with a burst: a theoretical arrival time, and how far ahead it may run."""

    __slots__ = ("_ahead", "_every", "_next")

    def __init__(self, per_second: float, burst: float) -> None:
        self._every = 1.0 / per_second
        self._ahead = max(burst, 1.0) * self._every
        self._next = 0.0

    def take(self, now: float) -> float:
        """0 where there was room, which is then taken; else how many seconds until there is."""
        start = max(self._next, now)
        short = start + self._every - now - self._ahead
        if short > 1e-9:
            return short
        self._next = start + self._every
        return 0.0


class Pair:
    """One business, one person: a message in six seconds; a burst borrows from the minutes to come."""

    __slots__ = ("_began", "_free_at", "_said")

    def __init__(self) -> None:
        self._began = self._free_at = 0.0
        self._said = 0

    def take(self, now: float, every: float, burst: int) -> bool:
        """Whether this one may pass and is counted. After a burst of n the pair rests n times `every`."""
        if now >= self._free_at:
            self._began, self._said, self._free_at = now, 1, now + every
            return True
        if now - self._began <= every and self._said < burst:
            self._said += 1
            self._free_at += every
            return True
        return False
