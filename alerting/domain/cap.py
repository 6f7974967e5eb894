"""An alert in the words of the Common Alerting Protocol 1.2 (OASIS, 2010)."""

from dataclasses import dataclass, field
from datetime import datetime
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
class Area:
    """A part of the place. All polygons, circles and geocodes of all areas together are the place."""

    area_desc: str
    polygons: tuple[Polygon, ...] = ()
    circles: tuple[Circle, ...] = ()
    geocodes: tuple[NamedValue, ...] = ()


@dataclass(frozen=True, slots=True)
class Info:
    """What is said, in one language. Colour and risk stay data, in `parameters` (it.colore, it.rischio)."""

    category: tuple[Category, ...]
    event: str
    urgency: Urgency
    severity: Severity
    certainty: Certainty
    expires: datetime
    headline: str
    description: str
    language: str = "it-IT"
    instruction: str = ""
    response_type: tuple[ResponseType, ...] = ()
    onset: datetime | None = None
    sender_name: str = ""
    web: str = ""
    contact: str = ""
    parameters: tuple[NamedValue, ...] = ()
    areas: tuple[Area, ...] = ()

    def parameter(self, name: str) -> str | None:
        """The value of the first parameter of this name."""
        return next((pair.value for pair in self.parameters if pair.name == name), None)


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
    note: str = ""
    references: tuple[Reference, ...] = field(default=())

    @property
    def first(self) -> Info:
        """The info of the language that is shown first."""
        return self.infos[0]

    @property
    def expires(self) -> datetime:
        """When the last of its infos ends. Nothing is sent after this."""
        return max(info.expires for info in self.infos)

    @property
    def geofence(self) -> Geofence | None:
        """The union of every shape of every area; None when its areas are named by geocode alone."""
        shapes: list[Shape] = []
        for area in (area for info in self.infos for area in info.areas):
            shapes += [*area.polygons, *area.circles]
        return Geofence(tuple(dict.fromkeys(shapes))) if shapes else None
