"""A citizen's places: what becomes of them by what the citizen wrote, and what is known, in the words they read."""

from collections.abc import Sequence
from dataclasses import dataclass

from alerting.domain import keywords
from alerting.domain.authority import Territory
from alerting.domain.recipients import Label, Place, Precision
from geo.areas import Area
from geo.names import plain
from geo.shapes import Point

# ── what to do ──────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Keep:
    """This place, instead of the one of its label."""

    place: Place


@dataclass(frozen=True, slots=True)
class Forget:
    """The place of this label."""

    label: Label


@dataclass(frozen=True, slots=True)
class Which:
    """The name fits these: ask, change nothing."""

    areas: tuple[Area, ...]
    label: Label | None


@dataclass(frozen=True, slots=True)
class Unknown:
    """Nothing of the comune is called so: say what there is, change nothing."""


@dataclass(frozen=True, slots=True)
class Outside:
    """They stand in another comune: say so, change nothing."""


@dataclass(frozen=True, slots=True)
class Tell:
    """They ask what is known, or it is not clear which place they speak of: say it, change nothing."""


Decision = Keep | Forget | Which | Unknown | Outside | Tell

Said = keywords.Place | keywords.ForgetPlace | keywords.ListPlaces | Point
"""A text, or the position somebody shared."""

MOST_ASKED = 5
"""Names to choose from. Beyond these the answer is that of an unknown name, which lists them all."""


def decide(said: Said, known: Sequence[Place], territory: Territory) -> Decision:
    """What somebody wants done about the places known of them."""
    match said:
        case keywords.Place():
            return _named(said, territory)
        case keywords.ForgetPlace(label, name):
            return _forgotten(label, name, known, territory)
        case keywords.ListPlaces():
            return Tell()
        case Point():
            at_home = Place(Precision.ADDRESS, point=said)
            return Keep(at_home) if territory.nameable.of(said) else Outside()


def _named(said: keywords.Place, territory: Territory) -> Decision:
    if said.label and (called_so := written_right(said.whole, territory)):
        return Keep(at(called_so, territory))
    if not said.name:  # "zona lavoro": and where is that?
        return Tell()
    match territory.nameable.named(said.name):
        case (area,):
            return Keep(at(area, territory, said.label or Label.CASA))
        case areas if 1 < len(areas) <= MOST_ASKED:
            return Which(areas, said.label)
        case _:
            return Unknown()


def _forgotten(label: Label | None, name: str, known: Sequence[Place], territory: Territory) -> Decision:
    """The one place that fits what they said of it; where none does or several do, nothing is forgotten."""
    named = territory.nameable.named(name)
    fitting = [
        place.label
        for place in known
        if label in (None, place.label) and (not name or (nearest(place, territory),) == named)
    ]
    return Forget(fitting[0]) if len(fitting) == 1 else Tell()


def written_right(name: str, territory: Territory) -> Area | None:
    """The frazione of exactly this name; "Calcinaia capoluogo" without the comune's own, which adds nothing there."""
    wanted, whole = plain(name), plain(territory.comune.name)
    spelled = ((area, plain(area.name)) for area in territory.frazioni)
    return next((area for area, its in spelled if wanted and wanted in (its, its.removeprefix(whole))), None)


def at(area: Area, territory: Territory, label: Label = Label.CASA) -> Place:
    """The place of somebody who named an area. Who names the comune has not said where in it."""
    precision = Precision.COMUNE if area == territory.comune else Precision.FRAZIONE
    return Place(precision, (area.code,), label=label)


def nearest(place: Place, territory: Territory) -> Area:
    """The area a place was named by, or the smallest a citizen could name it by; the comune where there is none."""
    if place.point is None:  # an area that is no more stands for the comune: they are told of all of it
        return next((area for area in territory.areas if area.code in place.areas), territory.comune)
    return next(reversed(territory.nameable.of(place.point)), territory.comune)


# ── what is known, in words ─────────────────────────────────────────────────────────────────────────

EVERYWHERE = "tutto il Comune"
"""What somebody is told of who has said nothing, or no more than the comune."""


def in_words(places: Sequence[Place], territory: Territory) -> str:
    """`casa: Fornacette; lavoro: un punto a Galleno`; a home alone needs no label."""
    if not places:
        return EVERYWHERE
    if [place.label for place in places] == [Label.CASA]:
        return shown(places[0], territory)
    return "; ".join(f"{place.label}: {shown(place, territory)}" for place in places)


def shown(place: Place, territory: Territory) -> str:
    """`Fornacette`, `un punto a Fornacette`: one place without its label."""
    area = nearest(place, territory)
    if place.point:
        return f"un punto a {area.name}"
    return EVERYWHERE if area == territory.comune else area.name


def either(areas: Sequence[Area]) -> str:
    """`Bagnolo o Bagnore`: for the person to choose from."""
    *others, last = (area.name for area in areas)
    return f"{', '.join(others)} o {last}" if others else last
