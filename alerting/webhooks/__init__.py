"""What a provider tells us unasked, in our own words: somebody wrote, a text arrived, a person went away."""

from dataclasses import dataclass, field
from datetime import datetime

from alerting.domain.delivery import Progress, Reason
from geo.shapes import Point


@dataclass(frozen=True, slots=True)
class InboundText:
    """Something a person sent to one of our accounts: words, a tap on a button, a place, a picture.

    `phone_number_id` is the account it was sent to; empty for Telegram, where the webhook's own address
    says which bot. `sender` is an address one can answer to: "+39…", a Telegram chat id, or a WhatsApp
    BSUID ("IT.1349…") where the provider hides the number. `text` is what the person reads on their
    screen, None where there are no words. `payload` is ours, put on a button by us. `also` is the BSUID of somebody
    whose number is told too: once they hide that, they are called by it alone. `media` is what the
    provider calls the picture or file they sent, for the account's token to fetch.
    """

    provider_message_id: str
    phone_number_id: str
    sender: str
    text: str | None
    kind: str
    at: datetime
    payload: str | None = None
    also: str | None = None
    point: Point | None = None
    """Where they say they are, of a shared position: a place on Earth, or none."""
    media: str | None = None


def shared_position(said: object) -> Point | None:
    """The place of a shared position, as WhatsApp and Telegram alike write it. None where it is nowhere on Earth."""
    lat, lon = (said.get("latitude"), said.get("longitude")) if isinstance(said, dict) else (None, None)
    if isinstance(lat, bool) or isinstance(lon, bool):
        return None
    if not isinstance(lat, int | float) or not isinstance(lon, int | float):
        return None
    if not (-90 <= lat <= 90 and -180 <= lon <= 180):  # nor NaN, which JSON readers let in and is between nothing
        return None
    return Point(float(lat), float(lon))


LONGEST_MEDIA = 300


def media_name(found: object) -> str | None:
    """What a provider calls a file, as far as it can be asked for."""
    return found if isinstance(found, str) and found.isprintable() and 0 < len(found) <= LONGEST_MEDIA else None


@dataclass(frozen=True, slots=True)
class Renumbered:
    """A person has another number, or is called by another BSUID. `known_as`: what they may have been called before."""

    provider_message_id: str
    phone_number_id: str
    known_as: tuple[str, ...]
    address: str
    also: str | None
    at: datetime


@dataclass(frozen=True, slots=True)
class TemplateChanged:
    """A provider judged a template anew. `what` is its status, its quality or its category; `business` whose it is."""

    business: str
    name: str
    language: str
    what: str
    now: str
    because: str = ""


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of one text. `reference` is the attempt's, `provider_id` the provider's; never by phone.

    `reason` is given for `Progress.FAILED` only.
    """

    reference: str | None
    provider_id: str
    progress: Progress
    reason: Reason | None
    at: datetime


@dataclass(frozen=True, slots=True)
class Webhook:
    """One call of a provider, read whole. `ignored` counts the shapes nobody here understands."""

    texts: tuple[InboundText, ...] = ()
    receipts: tuple[Receipt, ...] = ()
    ignored: int = 0
    moves: tuple[Renumbered, ...] = ()
    templates: tuple[TemplateChanged, ...] = ()


@dataclass(frozen=True, slots=True)
class Blocked:
    """A person shut the door on our bot."""

    sender: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Unblocked:
    """A person opened the door to our bot, again or for the first time."""

    sender: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Moved:
    """A group has become a supergroup, which has another id."""

    was: str
    now: str


@dataclass(frozen=True, slots=True)
class Pressed:
    """A person pressed a button below a text, and their app shows that it waits until it hears of us."""

    identity: str
    sender: str
    data: str = field(default="", compare=False)
    """What we put on the button, if they have not changed it."""
    message: int | None = field(default=None, compare=False)
    """The text it stands below; None where nobody says, as for a very old one."""
