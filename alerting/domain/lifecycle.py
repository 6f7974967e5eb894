"""Where an alert stands, and the one table of what may happen to it next."""

from enum import Enum


class State(Enum):
    """Where an alert of ours stands. CAP's `status` is another thing."""

    DRAFT = "draft"
    APPROVED = "approved"
    ISSUED = "issued"
    CANCELLED = "cancelled"
    SUPERSEDED = "superseded"
    EXPIRED = "expired"

    def __str__(self) -> str:
        return self.value


class Action(Enum):
    """What is done to an alert."""

    APPROVE = "approve"
    ISSUE = "issue"
    CANCEL = "cancel"
    SUPERSEDE = "supersede"
    EXPIRE = "expire"

    def __str__(self) -> str:
        return self.value


TRANSITIONS = {
    (State.DRAFT, Action.APPROVE): State.APPROVED,
    (State.DRAFT, Action.CANCEL): State.CANCELLED,
    (State.APPROVED, Action.ISSUE): State.ISSUED,
    (State.APPROVED, Action.CANCEL): State.CANCELLED,
    (State.ISSUED, Action.CANCEL): State.CANCELLED,
    (State.ISSUED, Action.SUPERSEDE): State.SUPERSEDED,
    (State.ISSUED, Action.EXPIRE): State.EXPIRED,
}


class NotAllowed(Exception):
    """The table has no such transition."""

    def __init__(self, alert: str, state: State, action: Action) -> None:
        needed = sorted(start.value for start, done in TRANSITIONS if done is action)
        super().__init__(f"alert {alert} is {state}, not {' or '.join(needed)}: it cannot {action}")
        self.state = state
        self.action = action


def advance(alert: str, state: State, action: Action) -> State:
    """The state after `action`. Raises NotAllowed where the table is silent."""
    try:
        return TRANSITIONS[state, action]
    except KeyError:
        raise NotAllowed(alert, state, action) from None
