"""Who may feed us from outside: what each source may speak of, as whom, and what happens when it is wrong."""

from dataclasses import dataclass
from datetime import time, timedelta
from enum import Enum, IntEnum
from fnmatch import fnmatchcase

from geo.shapes import Geofence


class Kind(Enum):
    """What a source says, and in which words."""

    CAP = "cap"
    """Alerts in CAP, handed in or asked for: alone, or inside Atom or RSS."""
    BULLETIN = "bulletin"
    """The national criticality bulletin, an archive of a CAP file and tables."""
    CONTEXT = "context"
    """MeteoAlarm's JSON: shown to operators, never sent to anybody."""

    def __str__(self) -> str:
        return self.value


class Nearness(IntEnum):
    """How near a source stands to the citizen: of two who speak of one event, the nearer one instructs better."""

    NATIONAL = 1
    REGIONAL = 2
    MUNICIPAL = 3


class Signature(Enum):
    """Whether a document must be signed. One that is present and wrong is refused either way."""

    REQUIRED = "required"
    IF_PRESENT = "if_present"


class OnError(Enum):
    """What becomes of a document that breaks a rule."""

    QUARANTINE = "quarantine"
    REJECT = "reject"


class OnWarning(Enum):
    """What becomes of a document that a careful issuer would mend."""

    ACCEPT = "accept"
    QUARANTINE = "quarantine"


@dataclass(frozen=True, slots=True)
class Polling:
    """Where a source is asked, how often, and when its silence is an alarm.

    `hosts`: where its links and redirections may lead. `private`: its address may be one of a private network.
    `silent_after`: since its last good answer. `due`: the time of day, in Italy, by which today's bulletin must be out.
    """

    url: str
    every: timedelta
    hosts: frozenset[str]
    private: bool = False
    silent_after: timedelta | None = None
    due: time | None = None


@dataclass(frozen=True, slots=True)
class Source:
    """Somebody who feeds us by machine. `name` is the file's name, and the name of its API token's actor.

    What it may speak of is the union of `territory` (drawn), `zones` ("Tosc-A4", "Tosc-*") and `comuni` (ISTAT codes).
    `tolerance_m`: metres its drawings may reach over that border. `longest`: how far ahead an alert may expire.
    `language`: of documents that do not say theirs, as many in Italian do not; CAP would have them read as en-US.
    `certificates`: PEM, the only ones its signatures are checked against. `polling` is None for who only hands in.
    """

    name: str
    title: str
    kind: Kind
    nearness: Nearness
    enabled: bool
    senders: tuple[str, ...]
    territory: Geofence | None
    zones: tuple[str, ...]
    comuni: tuple[str, ...]
    tolerance_m: float
    longest: timedelta
    language: str
    certificates: tuple[bytes, ...]
    signature: Signature
    on_error: OnError
    on_warning: OnWarning
    amqp_user: str
    polling: Polling | None
    licence: str
    disclaimer: str
    file_hash: str

    def may_speak_as(self, sender: str) -> bool:
        """Whether a CAP sender is one of its own: letter by letter, as signatures and references compare them."""
        return sender in self.senders

    def may_speak_of_zone(self, zone: str) -> bool:
        """Whether a warning zone is among its `zones`."""
        return any(fnmatchcase(zone, pattern) for pattern in self.zones)
