"""Where a message of others touches a comune: all of it by its zone or code, or what was drawn, cut at the border."""

import re
from collections.abc import Iterable

from alerting.composing import Where
from alerting.domain import cap
from alerting.domain.authority import Authority
from alerting.domain.plain_text import cleaned
from geo.shapes import Geofence, Shape, clipped

ZONE = re.compile(r"[A-Z][A-Za-z]{3}-[A-Z0-9]{1,3}")
"""A warning zone as the Dipartimento calls it: Tosc-A4, Cala-7."""
ISTAT = re.compile(r"[0-9]{6}")
LONGEST_NAME = 100
ALL_BUT_SLIVERS = 0.95
"""A drawing that covers this share of a comune means the comune."""


def zones_of(alert: cap.Alert) -> set[str]:
    """The warning zones it names."""
    return {zone for area in _areas(alert.infos) for zone in _zones(area)}


def comuni_of(alert: cap.Alert) -> set[str]:
    """The ISTAT codes of the comuni it names, where nothing is drawn beside: then the drawing counts."""
    return {code for area in _areas(alert.infos) if not _shapes(area) for code in _comuni(area)}


def has_place(alert: cap.Alert) -> bool:
    """Whether anything about its place is understood here."""
    return alert.geofence is not None or bool(zones_of(alert) or comuni_of(alert))


def where_in(info: cap.Info, authority: Authority) -> Where | None:
    """Where an info touches the comune; None where it does not."""
    shapes: list[Shape] = []
    for area in info.areas:
        if authority.istat in _comuni(area) and not _shapes(area):
            return whole(authority)
        if not _zones(area).isdisjoint(authority.warning_zones) and not _shapes(area):
            return whole(authority)
        shapes += _shapes(area)
    if not shapes:
        return None
    inside = clipped(Geofence(tuple(dict.fromkeys(shapes))), authority.territory.fence)
    if inside is None:
        return None
    if inside.area_km2 >= authority.territory.fence.area_km2 * ALL_BUT_SLIVERS:
        return whole(authority)
    return Where(drawn=inside, drawn_name=_names(info, authority))


def whole(authority: Authority) -> Where:
    """The comune, all of it."""
    return Where((authority.territory.comune.code,))


def _names(info: cap.Info, authority: Authority) -> str:
    """What they call it who drew it, as far as it is drawn here."""
    here = (area for area in info.areas if (shapes := _shapes(area)) and _is_here(shapes, authority))
    return cleaned(", ".join(dict.fromkeys(area.area_desc for area in here if area.area_desc)), LONGEST_NAME)


def _is_here(shapes: list[Shape], authority: Authority) -> bool:
    return clipped(Geofence(tuple(dict.fromkeys(shapes))), authority.territory.fence) is not None


def _areas(infos: Iterable[cap.Info]) -> Iterable[cap.Area]:
    return (area for info in infos for area in info.areas)


def _zones(area: cap.Area) -> set[str]:
    return {pair.value for pair in area.geocodes if "zona" in pair.name.casefold() and ZONE.fullmatch(pair.value)}


def _comuni(area: cap.Area) -> set[str]:
    return {pair.value for pair in area.geocodes if "istat" in pair.name.casefold() and ISTAT.fullmatch(pair.value)}


def _shapes(area: cap.Area) -> list[Shape]:
    return [*area.polygons, *area.circles]
