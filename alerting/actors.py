"""Who acts: a person, or a feed, recognised by a token, by an AMQP user, or by where it was asked."""

from dataclasses import dataclass
from enum import Enum


class Role(Enum):
    """What somebody may do. A feed drafts and issues by policy; a viewer sees counts, never people.

    The desk answers what citizens of a two-way comune report, and alerts nobody.
    """

    OPERATOR = "operator"
    APPROVER = "approver"
    FEED = "feed"
    VIEWER = "viewer"
    DESK = "desk"
    ADMIN = "admin"

    def __str__(self) -> str:
        return self.value


COMMAND_LINE = "command line"
"""Who acts where somebody types a command on the machine itself."""


@dataclass(frozen=True, slots=True)
class Actor:
    """A person or a feed that was recognised by its token. `authority` None means any."""

    name: str
    role: Role
    authority: str | None = None
