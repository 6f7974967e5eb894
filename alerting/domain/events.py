"""Facts of ours that travel over the broker. They name rows, never a person and never a text."""

from dataclasses import dataclass
from datetime import datetime

from alerting.domain.delivery import Channel, Progress, Reason
from alerting.domain.lanes import Lane


@dataclass(frozen=True, slots=True)
class AlertIssued:
    """An alert was issued: somebody must work out who is to be told, and anyone may listen."""

    alert: str
    dispatch: int
    authority: str
    lane: Lane
    category: str
    msg_type: str
    sent: datetime
    expires: datetime


@dataclass(frozen=True, slots=True)
class BatchReady:
    """People `first` to `last` of a dispatch's audience may be told, on this account, until `not_after`.

    `told` is the how-manieth telling this is: of a batch that was told anew, what an older message says is over.
    """

    batch: int
    dispatch: int
    channel: Channel
    account: str
    lane: Lane
    first: int
    last: int
    not_after: datetime
    told: int


@dataclass(frozen=True, slots=True)
class ReceiptCame:
    """A provider said what became of a delivery."""

    dispatch: int
    seq: int
    progress: Progress
    reason: Reason | None
    at: datetime


@dataclass(frozen=True, slots=True)
class ReceiptsCame:
    """Several of them, which came within a moment."""

    receipts: tuple[ReceiptCame, ...]


@dataclass(frozen=True, slots=True)
class CitizenWrote:
    """A text of a citizen lies in the inbox under this number."""

    inbound: int
    channel: Channel


@dataclass(frozen=True, slots=True)
class CitizensWrote:
    """Several texts, which came within a moment: their numbers in the inbox, as they came."""

    inbound: tuple[int, ...]
    channel: Channel


@dataclass(frozen=True, slots=True)
class CitizenReported:
    """The text in the inbox under this number is for the desk of a two-way comune."""

    inbound: int
    channel: Channel


Event = AlertIssued | BatchReady | ReceiptCame | ReceiptsCame | CitizenWrote | CitizensWrote | CitizenReported
