"""When a provider fails everybody: the moment to stop asking for each of them."""

from collections import deque
from typing import assert_never

from alerting.domain.delivery import Accepted, Deferred, Outcome, Reason, Refused, Uncertain

LOOKS_AT = 30
"""The last answers of one account in one process."""
AT_LEAST = 20
SHARE = 0.9

THE_PERSONS_OWN = frozenset(
    {
        Reason.NOT_REACHABLE_HERE,
        Reason.BLOCKED_BY_PERSON,
        Reason.OPTED_OUT,
        Reason.POLICY,  # "not to this person today": a newsletter's refusals must not stop the number for an alert
        Reason.PAIR_THROTTLED,
    }
)
HANDLED_ELSEWHERE = frozenset({Reason.THROTTLED, Reason.CHANNEL_HALTED, Reason.TEXT_REJECTED})
"""A pace, an open breaker, a text: each has its own remedy."""


def serves(outcome: Outcome) -> bool:
    """Whether the provider serves the account: it took a text, or told us something about a person."""
    return isinstance(outcome, Accepted) or (isinstance(outcome, Refused) and outcome.reason in THE_PERSONS_OWN)


class MassFailure:
    """Watches an account's answers. True from `sees` when nine in ten of the last fail for no reason of the people."""

    def __init__(self) -> None:
        self._failed: deque[bool] = deque()
        self._failures = 0

    def sees(self, outcome: Outcome) -> bool:
        """One more answer; whether it is time to halt. Whoever halts begins to watch anew."""
        match outcome:
            case Accepted():
                self._note(False)
                return False
            case Deferred(reason) | Refused(reason) | Uncertain(reason):
                if reason in THE_PERSONS_OWN or reason in HANDLED_ELSEWHERE:
                    return False
                self._note(True)
            case _:
                assert_never(outcome)
        if len(self._failed) < AT_LEAST or self._failures < SHARE * len(self._failed):
            return False
        self._failed.clear()
        self._failures = 0
        return True

    def _note(self, failed: bool) -> None:
        self._failed.append(failed)
        self._failures += failed
        if len(self._failed) > LOOKS_AT:
            self._failures -= self._failed.popleft()
