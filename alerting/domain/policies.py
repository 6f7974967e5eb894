"""What follows when a source speaks: issued by itself, prepared for somebody on duty, or only shown."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import reduce

from alerting.domain.cap import Severity
from alerting.domain.kinds import Colour, Risk


class Then(Enum):
    """What follows for a comune, from the boldest to the most cautious."""

    ISSUE = "issue"
    PAGE = "page"
    PREPARE = "prepare"
    SHOW = "show"

    def __str__(self) -> str:
        return self.value


CAUTIOUS = {Colour.ROSSA: Then.PAGE, Colour.ARANCIONE: Then.PAGE, Colour.GIALLA: Then.PREPARE, None: Then.SHOW}
"""What ships: a draft for each colour, and somebody is called from orange on. A comune may be bolder in its file."""

COLOUR_OF = {Severity.EXTREME: Colour.ROSSA, Severity.SEVERE: Colour.ARANCIONE, Severity.MODERATE: Colour.GIALLA}
"""How grave what has no colour is, on the same scale."""


@dataclass(frozen=True, slots=True)
class FeedPolicy:
    """One `[[feeds]]` of a comune's file: of this source, in these colours and of these risks, this follows.

    No colours or no risks named means all. What has no risk, as a fire, is met by a policy that names none.
    """

    source: str
    then: Then
    colours: frozenset[Colour] = frozenset()
    risks: frozenset[Risk] = frozenset()

    def meets(self, source: str, colour: Colour | None, risks: Iterable[Risk]) -> bool:
        """Whether this is about it."""
        if self.source != source or (self.colours and colour not in self.colours):
            return False
        named = frozenset(risks)
        return not self.risks or (bool(named) and named <= self.risks)


def decide(policies: Sequence[FeedPolicy], source: str, colour: Colour | None, risks: Iterable[Risk] = ()) -> Then:
    """What a comune wants to follow: its first policy that meets it, else what ships.

    Where it is of several risks, each is asked for, and the most cautious answer counts.
    """
    named = frozenset(risks)
    if len(named) > 1:
        return reduce(more_cautious, (decide(policies, source, colour, {risk}) for risk in named))
    bold = (policy.then for policy in policies if policy.meets(source, colour, named))
    return next(bold, CAUTIOUS[colour])


def more_cautious(one: Then, other: Then) -> Then:
    """Of two the one that leaves more to people."""
    order = list(Then)
    return max(one, other, key=order.index)
