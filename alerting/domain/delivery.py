"""One delivery: an alert, a recipient, a channel; what a provider answered, and what follows from it."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import assert_never


class Channel(Enum):
    """A way to reach a person."""

    WHATSAPP = "whatsapp"
    TELEGRAM = "telegram"
    EMAIL = "email"
    SMS = "sms"
    WEB_PUSH = "web_push"
    MQTT = "mqtt"

    def __str__(self) -> str:
        return self.value


class Reason(Enum):
    """Why a delivery stands where it stands. A closed list: it labels metrics."""

    NOT_REACHABLE_HERE = "not_reachable_here"  # no such number on this channel, or not in use any more
    BLOCKED_BY_PERSON = "blocked_by_person"
    OPTED_OUT = "opted_out"
    POLICY = "policy"  # the provider will not carry this to this person today
    THROTTLED = "throttled"
    PAIR_THROTTLED = "pair_throttled"
    PROVIDER_UNAVAILABLE = "provider_unavailable"
    PROVIDER_SILENT = "provider_silent"  # we spoke, the line died: it may have arrived
    UNKNOWN_ANSWER = "unknown_answer"
    HELD_BY_PROVIDER = "held_by_provider"  # template pacing: accepted, and not leaving
    TEXT_REJECTED = "text_rejected"
    CHANNEL_HALTED = "channel_halted"
    EXPIRED = "expired"
    WITHDRAWN = "withdrawn"
    LEFT = "left"
    ATTEMPTS_EXHAUSTED = "attempts_exhausted"
    WORKER_DIED = "worker_died"
    QUIET_HOURS = "quiet_hours"  # the person wants nothing routine now; withdrawn where it would come too late
    DAILY_QUOTA = "daily_quota"  # the provider's limit of people in 24 hours, as far as this lane may use it

    def __str__(self) -> str:
        return self.value


# ── what one attempt came to ────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Accepted:
    """The provider took it under this id. It is not delivered yet: a receipt says that."""

    provider_id: str


@dataclass(frozen=True, slots=True)
class Deferred:
    """Not now. `wait` is what the provider asked for; `whole_account` says it concerns everybody."""

    reason: Reason
    wait: timedelta | None = None
    whole_account: bool = False


@dataclass(frozen=True, slots=True)
class Refused:
    """This address cannot get it on this channel; trying again would not help."""

    reason: Reason


@dataclass(frozen=True, slots=True)
class Uncertain:
    """The line died after we spoke. No provider has an idempotency key, so only a receipt can tell."""

    reason: Reason = Reason.PROVIDER_SILENT


Outcome = Accepted | Deferred | Refused | Uncertain


class ChannelHalted(Exception):
    """The account cannot send at all: credentials, policy, payment. Names the account, never the secret."""

    def __init__(self, account: str, cause: str) -> None:
        super().__init__(f"account {account} is halted by the provider: {cause}")
        self.account = account
        self.cause = cause


class TextRejected(Exception):
    """This text is wrong for everybody: template missing or paused, too long, malformed."""

    def __init__(self, account: str, cause: str) -> None:
        super().__init__(f"the provider of {account} rejects this text: {cause}")
        self.account = account
        self.cause = cause


# ── where a delivery stands ─────────────────────────────────────────────────────────────────────────


class Progress(Enum):
    """Where a delivery stands. The number is stored, and is its order among the good ends."""

    WAITING = 0
    SENDING = 1  # claimed by a worker: the attempt is written before the call
    DEFERRED = 2
    UNCERTAIN = 3  # may have arrived; a receipt or one repetition will tell
    UNRESOLVED = 4  # may have arrived; said twice, and nobody answered
    ACCEPTED = 5
    SENT = 6
    DELIVERED = 7
    READ = 8
    REFUSED = 9
    FAILED = 10
    WITHDRAWN = 11
    HANDED_OVER = 12  # this channel is halted: the person is told on another, in a row of its own

    @property
    def is_final(self) -> bool:
        """Nothing more will be attempted. Receipts may still refine it."""
        return self.value >= FIRST_FINAL

    @property
    def may_have_arrived(self) -> bool:
        """Whoever stands here is owed the cancellation of what was said."""
        return self in MAY_HAVE_ARRIVED


FIRST_FINAL = Progress.UNRESOLVED.value
MAY_HAVE_ARRIVED = frozenset(
    {
        Progress.SENDING,
        Progress.UNCERTAIN,
        Progress.UNRESOLVED,
        Progress.ACCEPTED,
        Progress.SENT,
        Progress.DELIVERED,
        Progress.READ,
    }
)


def after(now_at: Progress, receipt: Progress) -> Progress:
    """Where a delivery stands after a receipt, in whatever order receipts come.

    `read` may come without `delivered`, and `failed` after `sent`; nobody un-receives a text. The farther of
    two on one scale: so order and repetition cannot matter.
    """
    return max(now_at, receipt, key=AS_RECEIPTS_TELL.index)


AS_RECEIPTS_TELL = (
    Progress.WAITING,
    Progress.SENDING,
    Progress.DEFERRED,
    Progress.UNCERTAIN,
    Progress.UNRESOLVED,
    Progress.ACCEPTED,
    Progress.SENT,
    Progress.REFUSED,
    Progress.WITHDRAWN,
    Progress.HANDED_OVER,
    Progress.FAILED,
    Progress.DELIVERED,
    Progress.READ,
)
"""From what says least to what nothing overrides."""


# ── what to do next ─────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Done:
    """Nothing more to attempt."""

    progress: Progress
    reason: Reason | None = None
    provider_id: str | None = None


@dataclass(frozen=True, slots=True)
class TryAgain:
    """Once more, after `wait`."""

    wait: timedelta
    reason: Reason
    progress: Progress = Progress.DEFERRED


Decision = Done | TryAgain

MAX_ATTEMPTS = 12
"""Of one person. What stops a whole account is not the person's doing, and lasts as long as it lasts."""
NOT_THE_PERSONS = frozenset(
    {
        Reason.PROVIDER_UNAVAILABLE,
        Reason.HELD_BY_PROVIDER,
        Reason.THROTTLED,
        Reason.CHANNEL_HALTED,
        Reason.TEXT_REJECTED,
    }
)
FIRST_WAIT = timedelta(seconds=5)
LONGEST_WAIT = timedelta(minutes=10)
RECEIPT_PATIENCE = timedelta(seconds=60)
"""How long an uncertain attempt waits for its receipt before the one repetition it is granted."""


def decide(outcome: Outcome, *, attempts: int, now: datetime, expires: datetime, maybe_told: bool = False) -> Decision:
    """What follows from an outcome. `attempts` counts the one just made; `expires` is the alert's end;
    `maybe_told` says that an earlier attempt may have arrived, which is never forgotten.

    Never a refusal by guesswork: what is not understood is tried again until the attempts or the time run out.
    """
    match outcome:
        case Accepted(provider_id):
            return Done(Progress.ACCEPTED, provider_id=provider_id)
        case Refused(reason):
            return Done(Progress.REFUSED, reason)
        case Uncertain(reason):
            # What may have arrived is said once more at most, and never counts as failed.
            if maybe_told or now + RECEIPT_PATIENCE >= expires:
                return Done(Progress.UNRESOLVED, reason)
            return TryAgain(RECEIPT_PATIENCE, reason, Progress.UNCERTAIN)
        case Deferred(reason, asked, whole_account):
            # A time already past, as a provider's clock may name it, is no wait.
            wait = asked if asked and asked > timedelta(0) else backoff(attempts)
            if attempts >= MAX_ATTEMPTS and not whole_account and reason not in NOT_THE_PERSONS:
                return _give_up(Reason.ATTEMPTS_EXHAUSTED, maybe_told)
            if now + wait >= expires:
                return _give_up(Reason.EXPIRED, maybe_told)
            return TryAgain(wait, reason, Progress.UNCERTAIN if maybe_told else Progress.DEFERRED)
        case _:
            assert_never(outcome)


def _give_up(reason: Reason, maybe_told: bool) -> Done:
    """Whoever may have it stays unresolved, so that a Cancel reaches them."""
    return Done(Progress.UNRESOLVED if maybe_told else Progress.FAILED, reason)


def backoff(attempts: int) -> timedelta:
    """5 s, 10 s, 20 s … at most ten minutes. The wait queues round it up to the delays they have."""
    # An account may be away for days: its people's attempts outgrow what a timedelta can double.
    doublings = min(attempts - 1, (LONGEST_WAIT // FIRST_WAIT).bit_length())
    return min(FIRST_WAIT * (1 << doublings), LONGEST_WAIT)
