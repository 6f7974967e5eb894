"""An alert in the words of the Common Alerting Protocol 1.2 (OASIS, 2010)."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum

from geo.shapes import Circle, Geofence, Polygon, Shape


class Status(Enum):
    """Whether people should act. Only `ACTUAL` may reach a live recipient."""

    ACTUAL = "Actual"
    EXERCISE = "Exercise"
    SYSTEM = "System"
    TEST = "Test"
    DRAFT = "Draft"


class MsgType(Enum):
    """What a message is to those before it."""

    ALERT = "Alert"
    UPDATE = "Update"
    CANCEL = "Cancel"
    ACK = "Ack"
    ERROR = "Error"


class Scope(Enum):
    PUBLIC = "Public"
    RESTRICTED = "Restricted"
    PRIVATE = "Private"


class Category(Enum):
    GEO = "Geo"
    MET = "Met"
    SAFETY = "Safety"
    SECURITY = "Security"
    RESCUE = "Rescue"
    FIRE = "Fire"
    HEALTH = "Health"
    ENV = "Env"
    TRANSPORT = "Transport"
    INFRA = "Infra"
    CBRNE = "CBRNE"
    OTHER = "Other"


class ResponseType(Enum):
    SHELTER = "Shelter"
    EVACUATE = "Evacuate"
    PREPARE = "Prepare"
    EXECUTE = "Execute"
    AVOID = "Avoid"
    MONITOR = "Monitor"
    ASSESS = "Assess"
    ALL_CLEAR = "AllClear"
    NONE = "None"


class Urgency(Enum):
    IMMEDIATE = "Immediate"
    EXPECTED = "Expected"
    FUTURE = "Future"
    PAST = "Past"
    UNKNOWN = "Unknown"


class Severity(Enum):
    EXTREME = "Extreme"
    SEVERE = "Severe"
    MODERATE = "Moderate"
    MINOR = "Minor"
    UNKNOWN = "Unknown"


class Certainty(Enum):
    OBSERVED = "Observed"
    LIKELY = "Likely"
    POSSIBLE = "Possible"
    UNLIKELY = "Unlikely"
    UNKNOWN = "Unknown"


@dataclass(frozen=True, slots=True)
class NamedValue:
    """CAP's pair of valueName and value: a geocode, a parameter, an event code."""

    name: str
    value: str


@dataclass(frozen=True, slots=True)
class Resource:
    """A picture or a document beside the text: by its address, or as the base64 of its bytes (`deref_uri`)."""

    resource_desc: str
    mime_type: str
    size: int | None = None
    uri: str = ""
    deref_uri: str = ""
    digest: str = ""


@dataclass(frozen=True, slots=True)
class Area:
    """A part of the place. All polygons, circles and geocodes of all areas together are the place.

    `altitude` and `ceiling` are feet above mean sea level, and a ceiling only comes with an altitude.
    """

    area_desc: str
    polygons: tuple[Polygon, ...] = ()
    circles: tuple[Circle, ...] = ()
    geocodes: tuple[NamedValue, ...] = ()
    altitude: float | None = None
    ceiling: float | None = None


UNSAID = timedelta(hours=24)
"""How long an info without `expires` is held to last: CAP leaves it to the recipient's own policy."""


@dataclass(frozen=True, slots=True)
class Info:
    """What is said, in one language. Colour and risk stay data, in `parameters` (it.colore, it.rischio).

    Ours always say when they end. Those of others may not; `Alert.ends` tells until when they are believed.
    """

    category: tuple[Category, ...]
    event: str
    urgency: Urgency
    severity: Severity
    certainty: Certainty
    expires: datetime | None
    headline: str
    description: str
    language: str = "it-IT"
    instruction: str = ""
    response_type: tuple[ResponseType, ...] = ()
    audience: str = ""
    event_codes: tuple[NamedValue, ...] = ()
    effective: datetime | None = None
    onset: datetime | None = None
    sender_name: str = ""
    web: str = ""
    contact: str = ""
    parameters: tuple[NamedValue, ...] = ()
    resources: tuple[Resource, ...] = ()
    areas: tuple[Area, ...] = ()

    @property
    def tongue(self) -> str:
        """The language without its country, in small letters: `it` of `it-IT`."""
        return self.language.replace("_", "-").partition("-")[0].strip().lower()

    def parameter(self, name: str) -> str | None:
        """The value of the first parameter of this name."""
        return next(iter(self.parameters_called(name)), None)

    def parameters_called(self, name: str) -> tuple[str, ...]:
        """The values of all parameters of this name."""
        return tuple(pair.value for pair in self.parameters if pair.name == name)


@dataclass(frozen=True, slots=True)
class Reference:
    """Names another message, as CAP does: sender, identifier, sent."""

    sender: str
    identifier: str
    sent: datetime


@dataclass(frozen=True, slots=True)
class Alert:
    """One CAP message. `sent` is when it was issued, and for a draft when it was written."""

    identifier: str
    sender: str
    sent: datetime
    status: Status
    msg_type: MsgType
    infos: tuple[Info, ...]
    scope: Scope = Scope.PUBLIC
    source: str = ""
    restriction: str = ""
    addresses: tuple[str, ...] = ()
    codes: tuple[str, ...] = ()
    note: str = ""
    references: tuple[Reference, ...] = ()
    incidents: tuple[str, ...] = ()

    @property
    def reference(self) -> Reference:
        """What a message that follows this one names it by: the one key that tells two messages apart."""
        return Reference(self.sender, self.identifier, self.sent)

    @property
    def first(self) -> Info:
        """The info that is shown first: in Italian where there is one, wherever it stands."""
        return next((info for info in self.infos if info.tongue == "it"), self.infos[0])

    @property
    def expires(self) -> datetime:
        """When the last of its infos ends. Nothing is sent after this."""
        return max(self.ends(info) for info in self.infos)

    def ends(self, info: Info) -> datetime:
        """When one of its infos ends, said or held."""
        return info.expires or max(self.sent, info.onset or self.sent) + UNSAID

    @property
    def geofence(self) -> Geofence | None:
        """The union of every shape of every area; None when its areas are named by geocode alone."""
        shapes: list[Shape] = []
        for area in (area for info in self.infos for area in info.areas):
            shapes += [*area.polygons, *area.circles]
        return Geofence(tuple(dict.fromkeys(shapes))) if shapes else None
