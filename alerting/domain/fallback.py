"""Who was not reached on one channel and is told on another: when, on which, and for how much. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum

from alerting.domain.delivery import Channel, Progress, Reason
from alerting.domain.lanes import Lane
from alerting.domain.sms import WITH_RECEIPT

# ── what is known of the channels ───────────────────────────────────────────────────────────────────

GIVES_RECEIPTS = frozenset({Channel.WHATSAPP, Channel.SMS})
"""Whose provider says whether a text is on the telephone: WhatsApp's status webhooks, the SMSC's delivery receipts
(channels.md §1.7 and §3.2, November 2026). Of all others "accepted" is the last word; a bounced mail is a refusal,
and no bounce is no receipt."""


def is_reported(settings: Mapping[str, str]) -> bool:
    """Whether an account of such a channel gets them: the cheaper kinds of SMS over REST have none."""
    return settings.get("protocol") != "rest" or settings.get("message_type") in WITH_RECEIPT


COSTS = frozenset({Channel.WHATSAPP, Channel.SMS})
"""Whose provider takes money for a text; all others are free unless the comune's file says otherwise."""
DEAR = frozenset({Channel.SMS})
"""Of these nobody is told as a fallback as long as the file gives no price. WhatsApp without a price counts as free:
the comune has it anyway, and told nobody what it costs."""


# ── what a comune wants ─────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Policy:
    """What a comune's file says of one lane. The default is a comune's that says nothing.

    `order` are the channels on which a person is told next, the first one they have not been told on; empty: all, by
    the rank of the person's addresses. `patience` is how long a text may stay without a receipt; None: for ever. The
    budgets, in millionths of a euro, are for what the fallback costs, not for what is told first; both hold where
    both are given, and where neither is nothing is spent.
    """

    order: tuple[Channel, ...] = ()
    patience: timedelta | None = None
    per_alert: int | None = None
    per_month: int | None = None

    def left(self, of_alert: int, of_month: int) -> int:
        """What may still be spent, given what is spent or promised already."""
        spent = ((self.per_alert, of_alert), (self.per_month, of_month))
        return max(0, min((limit - used for limit, used in spent if limit is not None), default=0))

    @property
    def spends(self) -> bool:
        """Whether there is a budget at all."""
        return self.per_alert is not None or self.per_month is not None


@dataclass(frozen=True, slots=True)
class Fallback:
    """All that a comune's file says of it. A lane it does not name has the default."""

    lanes: Mapping[Lane, Policy] = field(default_factory=dict)

    def of(self, lane: Lane) -> Policy:
        return self.lanes.get(lane, Policy())


# ── who is to be told elsewhere ─────────────────────────────────────────────────────────────────────


class Because(Enum):
    """Why somebody is to be told on another channel. It labels a metric."""

    REFUSED = "refused"
    SILENT = "silent"
    HELD = "held"  # the provider keeps the text back, or rejects it for everybody
    HALTED = "halted"

    def __str__(self) -> str:
        return self.value


UNTOLD = frozenset({Progress.REFUSED, Progress.FAILED, Progress.WITHDRAWN, Progress.HANDED_OVER})
"""It has certainly not arrived, and nothing more is attempted here."""
OPEN = frozenset({Progress.WAITING, Progress.SENDING, Progress.DEFERRED})
"""Somebody is still trying, or will."""
DOUBTFUL = frozenset({Progress.UNCERTAIN, Progress.UNRESOLVED})
"""It may have arrived, and on no channel does accepted mean less."""
NO_FALLBACK = frozenset({Reason.WITHDRAWN, Reason.LEFT})
"""The person, or the comune, does not want it said."""
HELD_UP = frozenset({Reason.TEXT_REJECTED, Reason.HELD_BY_PROVIDER})
PUT_OFF = frozenset({Reason.PAIR_THROTTLED})
"""Nothing was said, and this person has to be left alone here: for a second, or for an hour. Of the daily quota only
routine is turned away, which has time until tomorrow."""
MAY_BE_HELD = frozenset({Progress.DEFERRED, *DOUBTFUL})
"""A text that is held back may come out one day, and one that is rejected is tried again."""

CLOSES_ADDRESS = frozenset({Reason.NOT_REACHABLE_HERE, Reason.BLOCKED_BY_PERSON, Reason.OPTED_OUT})
"""It would be the same with the next alert. POLICY would not: "not to this person today"."""


def ends_untold(progress: Progress, reason: Reason | None) -> bool:
    """Whether a delivery has ended without reaching the person, who is to be told elsewhere at once."""
    return progress in (Progress.REFUSED, Progress.FAILED) and reason not in NO_FALLBACK


def is_held_up(reason: Reason | None, wait: float, lane: Lane) -> bool:
    """Whether somebody who is tried again in so many seconds is to be told elsewhere, should they still wait when the
    patience of the lane is over."""
    return reason in HELD_UP or (reason in PUT_OFF and wait > PATIENCE.get(lane, float("inf")))


def closes_address(progress: Progress, reason: Reason | None, channel: Channel) -> bool:
    """Whether the next alert need not be tried there. A receipt of an SMSC says no more than that the telephone was
    off for too long: of SMS only a refusal counts, and no receipt."""
    if reason not in CLOSES_ADDRESS:
        return False
    return progress is Progress.REFUSED or (progress is Progress.FAILED and channel is not Channel.SMS)


def may_be_silent(progress: Progress, channel: Channel, *, reported: bool = True) -> bool:
    """Whether a delivery that stands so is waiting for a word that should have come. `reported` is its account."""
    awaited = reported and channel in GIVES_RECEIPTS
    return progress in DOUBTFUL or (progress in (Progress.ACCEPTED, Progress.SENT) and awaited)


def has_reached(progress: Progress, channel: Channel, *, reported: bool = True) -> bool:
    """Whether all there is to know of it says that the person has it."""
    if progress in (Progress.DELIVERED, Progress.READ):
        return True
    return progress in (Progress.ACCEPTED, Progress.SENT) and not (reported and channel in GIVES_RECEIPTS)


PATIENCE = {Lane.FLASH: 1.0, Lane.EMERGENCY: 10.0, Lane.ROUTINE: 600.0}
"""Seconds an account may be halted, or a provider hold a text back, before its people are told elsewhere. Whoever waits
for a reply wrote us here."""


# ── where ───────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Way:
    """One of a person's addresses, as it stands for one alert.

    `seq` and `stands` are of the delivery there, None where they were not told there. `price`, in millionths of a
    euro, is what the text costs there; None where nobody knows. `is_open` says that it can be used at all: not
    refused, not erased, on the same side of the wall; `halted`, that its account is told nothing for now; `reported`,
    that its account gets receipts where its channel gives any.
    """

    address: int
    account: str
    channel: Channel
    rank: int
    price: int | None
    is_open: bool = True
    halted: bool = False
    seq: int | None = None
    stands: Progress | None = None
    reported: bool = True


class Stays(Enum):
    """Why somebody is not told elsewhere."""

    OVER = "over"  # taken back, or expired
    REACHED = "reached"  # on another address, or late on this one
    PENDING = "pending"  # another address of theirs is being tried
    NOWHERE = "nowhere"  # no other address that the comune's order knows
    NOT_AFFORDED = "not_afforded"  # there is one, and the budget does not reach

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True, slots=True)
class Follow:
    """They are told there, for `price`."""

    way: Way
    price: int


Choice = Follow | Stays


def choose(
    ways: Sequence[Way],
    policy: Policy,
    *,
    seq: int,
    left: int,
    now: datetime,
    not_after: datetime,
    halted_too: bool = True,
) -> Choice:
    """On which address somebody is told whose delivery `seq` did not reach them; `left` may be spent on it.

    The next in the comune's order that can be afforded; one whose account is halted only where there is no other, and
    unless `halted_too` not even then: who waits at a halted account would wait at another one.
    """
    if now >= not_after:
        return Stays.OVER
    if any(way.stands is not None and has_reached(way.stands, way.channel, reported=way.reported) for way in ways):
        return Stays.REACHED
    if any(_is_being_tried(way, seq) for way in ways):
        return Stays.PENDING
    usable = [way for way in ways if way.stands is None and way.is_open and (halted_too or not way.halted)]
    usable = [way for way in usable if not policy.order or way.channel in policy.order]
    for way in sorted(usable, key=lambda way: _place(way, policy)):
        if way.price is not None and (way.price == 0 or way.price <= left):
            return Follow(way, way.price)
    return Stays.NOT_AFFORDED if usable else Stays.NOWHERE


def _is_being_tried(way: Way, seq: int) -> bool:
    """Whether a delivery other than `seq` is under way there, or was begun after it and may have arrived."""
    if way.stands is None or way.seq is None or way.seq == seq or way.stands in UNTOLD:
        return False
    return way.stands in OPEN or way.seq > seq


def _place(way: Way, policy: Policy) -> tuple[bool, int, int, int]:
    return way.halted, policy.order.index(way.channel) if policy.order else 0, way.rank, way.address


# ── what happens to an address that was refused ─────────────────────────────────────────────────────


def ranks_without(refused: frozenset[int], ranks: Mapping[int, int]) -> dict[int, int]:
    """The order of a person's usable addresses once these are closed: they come last, and the others move up.

    Empty where none would be left: the last one stays open, whatever a provider says of it, or nobody would be told.
    """
    left = sorted((rank, address) for address, rank in ranks.items() if address not in refused)
    if not left:
        return {}
    closed = sorted((rank, address) for address, rank in ranks.items() if address in refused)
    return {address: rank for rank, (_, address) in enumerate([*left, *closed])}


# ── when ────────────────────────────────────────────────────────────────────────────────────────────


def next_look(*, now: float, patience: float, is_done: bool, attempts: Sequence[float]) -> float | None:
    """When to look again whether somebody of a batch has been silent for too long; None for never. Unix time.

    `attempts` are those of its people who are silent and need not be followed yet. Whoever is tried from now on is
    not silent before a whole patience has gone by.
    """
    waits = [attempt + patience for attempt in attempts] + ([] if is_done else [now + patience])
    return max(min(waits), now + min(LOOKS_APART, patience / 2)) if waits else None


LOOKS_APART = 1.0
"""Seconds between two looks at one batch: its people were told over some time, and are looked at together."""
