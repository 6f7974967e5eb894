"""What may become of a document that somebody hands us. Nothing is ever thrown away."""

from enum import Enum


class CameBy(Enum):
    """Which door it came in by."""

    HTTP = "http"
    HAND = "hand"
    """Over HTTP too, by somebody of the staff, who had it some other way. No machine answers for it."""
    AMQP = "amqp"
    POLL = "poll"

    def __str__(self) -> str:
        return self.value


class IntakeState(Enum):
    """Where a document stands.

    received: kept, not looked at yet; taken: looked at, and what had to follow has followed; repeated: the same
    message again; quarantined: somebody on duty decides; rejected: not to be used; dismissed: looked at by somebody,
    who decided against it.
    """

    RECEIVED = "received"
    TAKEN = "taken"
    REPEATED = "repeated"
    QUARANTINED = "quarantined"
    REJECTED = "rejected"
    DISMISSED = "dismissed"

    def __str__(self) -> str:
        return self.value
