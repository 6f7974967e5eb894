"""Whose turn it is within a lane: each comune in turn, and of each comune each thing it says."""

from collections import deque
from collections.abc import Iterator
from typing import Generic, Protocol, TypeVar


class Batched(Protocol):
    """A batch, as far as turns go."""

    @property
    def authority(self) -> str: ...

    @property
    def dispatch(self) -> int: ...


One = TypeVar("One", bound=Batched)


class Turns(Generic[One]):
    """Batches in hand of one lane. One town's hundred thousand texts do not stand before another's one."""

    def __init__(self) -> None:
        # The first of each dict is whose turn it is: whoever was served is put at the end.
        self._comuni: dict[str, dict[int, deque[One]]] = {}

    def __iter__(self) -> Iterator[One]:
        for dispatches in self._comuni.values():
            for batches in dispatches.values():
                yield from batches

    def __bool__(self) -> bool:
        return bool(self._comuni)

    def add(self, batch: One) -> None:
        """At the end of its dispatch."""
        self._comuni.setdefault(batch.authority, {}).setdefault(batch.dispatch, deque()).append(batch)

    def remove(self, batch: One) -> None:
        """Raises KeyError or ValueError where it is not in hand."""
        dispatches = self._comuni[batch.authority]
        batches = dispatches[batch.dispatch]
        batches.remove(batch)
        if not batches:
            del dispatches[batch.dispatch]
        if not dispatches:
            del self._comuni[batch.authority]

    def next(self) -> One | None:
        """The batch whose turn it is; the next call gives another comune's, where there is one."""
        if not self._comuni:
            return None
        authority = next(iter(self._comuni))
        dispatches = self._comuni[authority] = self._comuni.pop(authority)
        dispatch = next(iter(dispatches))
        batches = dispatches[dispatch] = dispatches.pop(dispatch)
        return batches[0]
