"""What a reader finds wrong with a message or a text: a rule, where, and a sentence."""

from dataclasses import dataclass
from enum import Enum


class Weight(Enum):
    """How much a finding matters.

    An error breaks a rule of the standard, or makes a text unfit to be sent; a warning is what a careful issuer
    would mend; a note only tells.
    """

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing to be said about a document. `rule` is a stable id in small letters (`polygon-open`); `line` counts
    from 1, None where a line makes no sense; `text` says what is wrong and what to do."""

    rule: str
    weight: Weight
    line: int | None
    text: str
