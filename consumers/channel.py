"""What every way to reach a person promises: send one text, read what comes back, know its limits."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

from alerting.buttons import Rows
from alerting.domain.delivery import Channel as ChannelName
from alerting.domain.delivery import Outcome, Progress, Reason
from alerting.domain.panels import Light, Shows
from alerting.domain.sms import Wrote


@dataclass(frozen=True, slots=True)
class Secret:
    """A credential that does not print."""

    value: str = field(repr=False)

    def __str__(self) -> str:
        return "********"


@dataclass(frozen=True, slots=True)
class Account:
    """A channel account of an authority, as the provider knows it: one number, one bot.

    `settings` holds what only this channel understands (phone_number_id, template names…). `paced_as` is the account
    whose rate and breaker it obeys, its own or that of a comune it shares a number with; `portfolio` whose daily
    quota of people it draws on; `identity` what people see it as: a number, a name, an address. `micro_euro` is what
    one text costs, of an SMS one part, in millionths of a euro; None where nobody says.
    """

    name: str
    authority: str
    channel: ChannelName
    base_url: str
    token: Secret
    settings: dict[str, str]
    paced_as: str
    portfolio: str | None = None
    identity: str = ""
    micro_euro: int | None = None


@dataclass(frozen=True, slots=True)
class Attachment:
    """A document that goes with a text, where the channel carries documents.

    `sha256` of the content, in hexadecimal, names it among all there are; `url` is where everybody finds it, empty
    where it is published nowhere; `says` what it shows, for whoever cannot see it.
    """

    name: str
    media_type: str
    content: bytes = field(repr=False, compare=False)
    sha256: str = ""
    url: str = ""
    says: str = ""

    @property
    def is_picture(self) -> bool:
        return self.media_type.startswith("image/")


@dataclass(frozen=True, slots=True)
class Text:
    """What is said to everybody in a batch: free text, and for channels that demand one a template.

    `subject`, `urgent`, `thread` and `attachments` are for channels that show them. `thread` names the alerts it
    goes with, the oldest first and its own last, so that an all-clear stands below what it ends. `enclosure` is the
    picture or the PDF of the alert; a channel that does not carry it has its address among the words of `body`.
    `buttons` stand below an answer where the channel has buttons; `edits` is the message whose place it takes.
    """

    body: str
    template: str | None = None
    variables: tuple[str, ...] = ()
    language: str = "it"
    expires: datetime | None = None
    subject: str = ""
    urgent: bool = False
    thread: tuple[str, ...] = ()
    attachments: tuple[Attachment, ...] = ()
    enclosure: Attachment | None = None
    buttons: Rows = ()
    edits: int | None = None


class ChannelAdapter(Protocol):
    """One provider's protocol. One instance serves all accounts of the channel in one process.

    Safe for many sends at once. Raises only `ChannelHalted` and `TextRejected`; whatever concerns one
    person is an `Outcome`.
    """

    name: ChannelName

    async def send(self, account: Account, address: str, text: Text, reference: str) -> Outcome:
        """Hand one text to the provider. `reference` is ours, returned in receipts where the provider can."""
        ...

    async def close(self) -> None:
        """Close connections. No send is under way."""
        ...


# ── providers that take no reference of ours ────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Called:
    """The name a provider gave one part of a text; `parts` has it in all."""

    account: str
    provider_id: str = field(repr=False)
    number: str = field(repr=False)
    reference: str
    parts: int


@dataclass(frozen=True, slots=True)
class Report:
    """What a provider says became of a part it names. `numbers`: whose it was; some put ours where theirs belongs."""

    account: str
    provider_id: str = field(repr=False)
    numbers: tuple[str, ...] = field(repr=False)
    progress: Progress
    reason: Reason | None = None


class Pairs(Protocol):
    """Where such names are kept until the receipts have come."""

    def called(self, called: Called) -> None:
        """A provider has named a part."""
        ...

    async def reported(self, report: Report) -> None:
        """A provider says what became of one; returns when that is kept."""
        ...

    async def run(self) -> None:
        """Keeps them, until cancelled."""
        ...

    async def flush(self) -> None:
        """Keep all there is, at once."""
        ...


# ── providers that hand us what people write on the line we send on ─────────────────────────────────


class Inbox(Protocol):
    """Where it is kept until somebody reads it."""

    async def wrote(self, account: str, wrote: Wrote) -> None:
        """Somebody wrote to an account; returns when that is kept, so that the provider can be told we have it."""
        ...


# ── providers that say what became of a text only when asked ────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Standing:
    """What a provider says of a text under our reference. `is_final`: it will never say anything else."""

    progress: Progress
    reason: Reason | None = None
    is_final: bool = False


Stands = Callable[[Account, str], Awaitable[Standing | None]]
"""Asks of one text. None where the provider does not say, or not now."""


class Orders(Protocol):
    """Where it is kept of which texts they are to be asked, and when."""

    def placed(self, account: Account, reference: str, expires: datetime | None) -> None:
        """A text is about to be handed over."""
        ...

    def not_taken(self, reference: str) -> None:
        """It surely was not."""
        ...

    async def run(self, accounts: Callable[[], list[Account]], stands: Stands) -> None:
        """Keeps them and asks, until cancelled."""
        ...

    async def flush(self) -> None:
        """Keep all there is, at once."""
        ...


# ── providers that take a file once and send it by its id ───────────────────────────────────────────


class Uploads(Protocol):
    """Where such ids are kept."""

    async def id_of(
        self, account: Account, attachment: Attachment, upload: Callable[[], Awaitable[str]], lasts: timedelta
    ) -> str:
        """What the provider calls it, uploaded now where it does not know it yet. Raises what `upload` raises."""
        ...

    async def forget(self, account: Account, attachment: Attachment, provider_id: str | None = None) -> None:
        """The provider does not know it any more; where `provider_id` is given, only if that is still its name."""
        ...


# ── chats that many read ────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Post:
    """What stands in a channel of an alert that another follows. `notice` is what it is to say of that from now on."""

    message_id: str
    body: str = field(repr=False)
    notice: str


class Chats(Protocol):
    """What is known of them beyond their address."""

    async def earlier(self, account: Account, address: str, thread: Sequence[str]) -> Sequence[Post]:
        """The posts there of all alerts of a thread but its last, which is the one that follows; the oldest first."""
        ...

    async def moved(self, account: Account, was: str, now: str) -> None:
        """A chat has another address."""
        ...


# ── panels, which show what is in force and no text by itself ───────────────────────────────────────


class NoAnswer(Exception):
    """What is in force cannot be known now: the database is away."""


@dataclass(frozen=True, slots=True)
class Sign:
    """What one panel is to show, under a number that only grows."""

    topic: str
    version: int
    state: Shows
    alert_id: str
    lines: tuple[str, ...]
    colour: Light
    sent: datetime
    expires: datetime | None


class Panels(Protocol):
    """Where it is kept what each panel is to show, and what it says it shows."""

    async def revise(self, account: Account, topic: str, text: Text, reference: str) -> Sign | None:
        """What the panel is to show now that `text` is said to it; None where nobody knows it. Raises NoAnswer."""
        ...

    async def review(self, account: Account, held: Mapping[str, int], *, unheard: bool) -> Sequence[Sign]:
        """Whatever has ended is taken down. The signs of which the broker holds another version than it should, by
        topic; `unheard` says that what it holds is not known, so that none is asked for. Raises NoAnswer."""
        ...

    async def acknowledged(self, account: Account, topic: str, version: int, state: Shows) -> None:
        """A panel says which version it shows; returns when that is kept."""
        ...

    async def seen(self, account: Account, topic: str, online: bool) -> None:
        """A panel has come, or is gone; returns when that is kept."""
        ...

    async def reachable(self, account: Account, away: timedelta | None) -> None:
        """Since how long the broker has been away; None where it is there. Raises NoAnswer."""
        ...
