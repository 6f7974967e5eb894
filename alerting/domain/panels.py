"""Message panels and sirens: what each is, and what it shows of all that is in force."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from alerting.domain.cap import Alert, MsgType, ResponseType
from alerting.domain.lanes import Lane
from alerting.domain.recipients import Place
from alerting.domain.rendering import PANEL_COLUMNS, PANEL_LINES, on_a_panel


class PanelKind(Enum):
    """What stands at the other end of the line."""

    VMS = "vms"
    """A variable-message sign: it shows lines of text."""
    SIREN = "siren"
    """Sounds while it is told to show something, and is silent otherwise."""

    def __str__(self) -> str:
        return self.value


FOR = {
    # Which lanes a panel of each kind is for, where the comune's file does not say.
    PanelKind.VMS: frozenset({Lane.FLASH, Lane.EMERGENCY}),
    PanelKind.SIREN: frozenset({Lane.FLASH}),
}
"""A siren is for nothing but imminent danger to life, whatever a file says."""


@dataclass(frozen=True, slots=True)
class Panel:
    """A panel or a siren of a comune, as its file has it. One for exercises shows nothing else: the wall."""

    name: str
    kind: PanelKind
    place: Place
    lines: int = PANEL_LINES
    columns: int = PANEL_COLUMNS
    only: frozenset[Lane] = FOR[PanelKind.VMS]
    exercise: bool = False

    def topic(self, istat: str) -> str:
        """Under which it is told, acknowledges and says whether it is there: `…/set`, `…/ack`, `…/status`."""
        return f"pc/{istat}/{self.kind}/{self.name}"


@dataclass(frozen=True, slots=True)
class InForce:
    """An alert that was said to a panel and stands."""

    dispatch: int
    lane: Lane
    issued_at: datetime
    expires: datetime
    alert: Alert


class Shows(Enum):
    """What a panel is told to do."""

    SHOW = "SHOW"
    CLEAR = "CLEAR"

    def __str__(self) -> str:
        return self.value


class Light(Enum):
    """In which colour."""

    RED = "red"
    ORANGE = "orange"
    YELLOW = "yellow"
    WHITE = "white"

    def __str__(self) -> str:
        return self.value


COLOURS = {"rossa": Light.RED, "arancione": Light.ORANGE, "gialla": Light.YELLOW}
LIGHTS = {Lane.FLASH: Light.RED, Lane.EMERGENCY: Light.ORANGE}
"""For what has no colour of its own."""


@dataclass(frozen=True, slots=True)
class Showing:
    """What one panel shows: of this alert so many lines, until it expires; or nothing."""

    state: Shows
    dispatch: int | None = None
    alert_id: str = ""
    lines: tuple[str, ...] = ()
    colour: Light = Light.WHITE
    expires: datetime | None = None


NOTHING = Showing(Shows.CLEAR)


def the_one_shown(in_force: Iterable[InForce], only: frozenset[Lane], now: datetime) -> InForce | None:
    """Of all that is in force the most urgent, and of these the latest; what only says that something ended is not
    shown."""
    shown = (one for one in in_force if one.lane in only and one.expires > now and not only_ends(one.alert))
    return min(shown, key=lambda one: (one.lane.rank, -one.issued_at.timestamp(), -one.dispatch), default=None)


def what_a_panel_shows(
    in_force: Iterable[InForce], *, lines: int, columns: int, only: frozenset[Lane], now: datetime
) -> Showing:
    """When the alert that is shown ends, the next one is there again by the same rule."""
    one = the_one_shown(in_force, only, now)
    if one is None:
        return NOTHING
    colour = COLOURS.get(one.alert.first.parameter("it.colore") or "", LIGHTS.get(one.lane, Light.WHITE))
    words = on_a_panel(one.alert, lines, columns)
    return Showing(Shows.SHOW, one.dispatch, one.alert.identifier, words, colour, one.expires)


def only_ends(alert: Alert) -> bool:
    """Whether it says no more than that another one is over."""
    return alert.msg_type is MsgType.CANCEL or ResponseType.ALL_CLEAR in alert.infos[0].response_type
