"""From words to CAP: what an operator fills in becomes a message, or is refused with every reason at once."""

import secrets
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from alerting import cap_json
from alerting.cap_xml.writing import Unwritable, write
from alerting.domain import cap, rendering
from alerting.domain.attachments import Enclosure
from alerting.domain.authority import Authority
from alerting.domain.delivery import Channel
from alerting.domain.kinds import DEFAULTS, SEVERITY_OF, WITHOUT_RED, Colour, Kind, Risk, needs_instruction
from alerting.domain.translations import Translation, translated
from alerting.persistence import tables
from geo.areas import UnknownArea
from geo.shapes import Circle, Geofence, Polygon, Shape, km2_outside

KM2_OUTSIDE_IGNORED = 0.05
"""Square kilometres a fence may reach over its publisher's border: drawings by two hands leave slivers."""

SMALLEST_LEFT_KM2 = 0.0002
"""Of what is cut or has something left out: two hundred square metres, a house with its garden."""

LARGEST_SHARE_OUTSIDE = 0.5
"""Of one drawn shape: a small one lies elsewhere altogether and still reaches over by very little."""

RETRACTION_LASTS = timedelta(hours=6)
"""At least. Somebody who was told wrongly a minute before it would have ended is still owed the truth."""

LONGEST_HEADLINE = 160
"""CAP's own advice for a headline (OASIS CAP 1.2, 3.2.2)."""


@dataclass(frozen=True, slots=True)
class Objection:
    """One thing wrong with what somebody asked for: the field, and a sentence that says what to do."""

    field: str
    sentence: str


class Refused(Exception):
    """What was asked for cannot be done as it is. Nothing was stored."""

    def __init__(self, *objections: Objection) -> None:
        super().__init__("; ".join(f"{one.field}: {one.sentence}" for one in objections))
        self.objections = objections


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Whom an alert is not for, because somebody asked for that: named areas, and what was drawn."""

    areas: tuple[str, ...] = ()
    drawn: Geofence | None = None

    def __bool__(self) -> bool:
        return bool(self.areas) or self.drawn is not None

    def fence(self, authority: Authority) -> Geofence | None:
        """All of it, or None for nothing. Raises UnknownArea."""
        named = [authority.territory.gazetteer.by_code(code).fence for code in self.areas]
        fences = [*named, self.drawn] if self.drawn else named
        return Geofence(tuple(shape for fence in fences for shape in fence.flattened().shapes)) if fences else None


@dataclass(frozen=True, slots=True)
class Where:
    """Named areas of the authority, and what was drawn, under the name of it; but for what is left out."""

    areas: tuple[str, ...] = ()
    drawn: Geofence | None = None
    drawn_name: str = ""
    left_out: LeftOut = LeftOut()


@dataclass(frozen=True, slots=True)
class Wording:
    """What an operator fills in. Everything else follows from the kind and the authority."""

    kind: Kind
    headline: str
    description: str
    expires: datetime
    instruction: str = ""
    onset: datetime | None = None
    colour: Colour | None = None
    risk: Risk | None = None
    areas: tuple[str, ...] = ()
    drawn: Geofence | None = None
    drawn_name: str = ""
    left_out: LeftOut = LeftOut()
    cut_at_border: bool = False
    """Of what reaches over the border, what lies within it is meant."""
    web: str = ""
    enclosure: Enclosure | None = None
    exercise: bool = False
    translations: tuple[Translation, ...] = ()


# ── from an operator's words to CAP ─────────────────────────────────────────────────────────────────


def compose(wording: Wording, authority: Authority, now: datetime, updates: tables.Alert | None = None) -> cap.Alert:
    """The CAP message of a wording; an Update, where it `updates` an alert of ours.

    Raises Refused with every objection at once.
    """
    objections = [*_check_words(wording, now), *_check_place(wording, authority)]
    if updates is not None:
        objections += _check_original(updates, wording, authority)
    if objections:
        raise Refused(*objections)
    alert = cap.Alert(
        identifier=new_identifier(authority, now),
        sender=authority.sender,
        sent=now.replace(microsecond=0),  # CAP tells whole seconds
        status=cap.Status.EXERCISE if wording.exercise else cap.Status.ACTUAL,
        msg_type=cap.MsgType.UPDATE if updates else cap.MsgType.ALERT,
        infos=_infos(wording, authority),
        note=rendering.EXERCISE if wording.exercise else "",
        references=references_of(cap_json.from_json(updates.document)) if updates else (),
    )
    _check_length(alert, authority)
    _check_writable(alert)
    return alert


def _infos(wording: Wording, authority: Authority) -> tuple[cap.Info, ...]:
    info = _info(wording, authority)
    return (info, *(translated(info, translation) for translation in wording.translations))


def _info(wording: Wording, authority: Authority) -> cap.Info:
    meant = DEFAULTS[wording.kind]
    parameters = [("it.tipo", wording.kind), ("it.colore", wording.colour), ("it.rischio", wording.risk)]
    return cap.Info(
        category=(meant.category,),
        event=f"{meant.event} {wording.colour.value}" if wording.colour else meant.event,
        response_type=(meant.response,),
        urgency=meant.urgency,
        severity=SEVERITY_OF[wording.colour] if wording.colour else meant.severity,
        certainty=meant.certainty,
        onset=wording.onset,
        expires=wording.expires,
        sender_name=authority.name,
        headline=wording.headline.strip(),
        description=wording.description.strip(),
        instruction=wording.instruction.strip(),
        web=wording.web.strip(),
        contact=authority.contact.in_words,
        parameters=tuple(cap.NamedValue(name, value.value) for name, value in parameters if value),
        resources=(wording.enclosure.resource,) if wording.enclosure else (),
        areas=areas_in(where_of(wording, authority), authority),
    )


def where_of(wording: Wording, authority: Authority) -> Where:
    """The place that is meant. What reaches over the border is cut there, exactly, where that was asked for."""
    drawn = wording.drawn
    if drawn is not None and wording.cut_at_border and km2_outside(drawn, authority.territory.fence) > 0:
        drawn = replace(drawn.flattened() if drawn.within else drawn, within=authority.territory.fence)
    return Where(wording.areas, drawn, wording.drawn_name, wording.left_out)


def areas_in(where: Where, authority: Authority) -> tuple[cap.Area, ...]:
    """A place in the authority's territory, as CAP says it: shapes, with the comune's code beside each."""
    istat = (cap.NamedValue("ISTAT", authority.istat),)
    return tuple(_cap_area(name, fence.flattened(), istat) for name, fence in _meant(where, authority))


def _meant(where: Where, authority: Authority) -> list[tuple[str, Geofence]]:
    """What each named area and the drawing stand for, and what people read of it; nothing of which nothing is left."""
    named = [authority.territory.gazetteer.by_code(code) for code in where.areas]
    places = [(area.name, area.fence) for area in named]
    if where.drawn is not None:
        places.append((where.drawn_name.strip() or "la zona indicata sulla mappa", where.drawn))
    without = where.left_out.fence(authority)
    if without is None:
        return places
    but_for = f" (esclusa {_in_words(where.left_out, authority)})"
    less = [(name, fence, replace(fence, without=without)) for name, fence in places]
    return [
        (name + but_for if kept.area_km2 < fence.area_km2 - KM2_OUTSIDE_IGNORED else name, kept)
        for name, fence, kept in less
        if not _is_nothing(kept)
    ]


def _is_nothing(fence: Geofence) -> bool:
    """Whether so little is left that rounding it for the stored drawing could leave nothing."""
    return fence.is_empty or fence.area_km2 < SMALLEST_LEFT_KM2


def _in_words(left_out: LeftOut, authority: Authority) -> str:
    names = [authority.territory.gazetteer.by_code(code).name for code in left_out.areas]
    return ", ".join([*names, "la zona indicata sulla mappa"] if left_out.drawn else names)


def _cap_area(name: str, fence: Geofence, geocodes: tuple[cap.NamedValue, ...]) -> cap.Area:
    return cap.Area(
        area_desc=name,
        polygons=tuple(shape for shape in fence.shapes if isinstance(shape, Polygon)),
        circles=tuple(shape for shape in fence.shapes if isinstance(shape, Circle)),
        geocodes=geocodes,
    )


def retraction(original: cap.Alert, authority: Authority, reason: str, now: datetime) -> cap.Alert:
    """The Cancel. A reason too long for a channel is cut: this is no moment to ask for another."""
    whole = _taken_back(original, authority, reason.strip(), now)
    over = max(over_by(whole, authority).values(), default=0)
    return whole if over <= 0 else _taken_back(original, authority, f"{reason.strip()[: -over - 1]}…", now)


def _taken_back(original: cap.Alert, authority: Authority, reason: str, now: datetime) -> cap.Alert:
    info = original.first
    said = references_of(original)
    first, last = (rendering.in_words(reference.sent) for reference in (said[0], said[-1]))
    if len(said) == 1:
        no_longer, act = f"Il messaggio delle {last} non è più valido.", "quel messaggio"
    else:  # some got the last one only, and some never did
        no_longer, act = f"I messaggi inviati dalle {first} alle {last} non sono più validi.", "quei messaggi"
    taken_back = replace(
        info,
        response_type=(cap.ResponseType.ALL_CLEAR,),
        onset=None,
        expires=max(original.ends(info), now + RETRACTION_LASTS),
        web="",  # it tells of what no longer holds
        resources=(),  # and shows it
        headline=f"ANNULLATO: {info.headline}"[:LONGEST_HEADLINE],
        description=f"{no_longer} {reason}".strip(),
        instruction=f"non tenere più conto di {act}.",
    )
    return cap.Alert(
        identifier=new_identifier(authority, now),
        sender=original.sender,
        sent=now.replace(microsecond=0),
        status=original.status,
        msg_type=cap.MsgType.CANCEL,
        infos=(taken_back,),
        note=original.note,
        references=said,
    )


def references_of(original: cap.Alert) -> tuple[cap.Reference, ...]:
    """What a message that follows `original` names: sender, identifier, sent of each it supersedes or takes back.

    All before it too, the oldest first (CAP 1.2, 3.2.1 takes several): a siren that missed one in between would
    otherwise hold on to the one before.
    """
    return (*original.references, original.reference)


def new_identifier(authority: Authority, now: datetime) -> str:
    """Unique, and without the spaces, commas and signs CAP forbids. Two alerts in a second do not collide."""
    return f"{authority.code}-{now.astimezone(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"


# ── what is refused, and why ────────────────────────────────────────────────────────────────────────


def _check_original(original: tables.Alert, wording: Wording, authority: Authority) -> list[Objection]:
    objections = []
    if original.authority != authority.code:
        sentence = f"{original.identifier} is an alert of {original.authority}: only {original.authority} can update it"
        objections.append(Objection("updates", sentence))
    if (original.status is cap.Status.ACTUAL) is wording.exercise:
        is_what, set_it = ("an exercise", "true") if wording.exercise is False else ("no exercise", "false")
        sentence = f"must be {set_it}: {original.identifier}, which it updates, is {is_what}"
        objections.append(Objection("exercise", sentence))
    return objections


def _check_words(wording: Wording, now: datetime) -> list[Objection]:
    objections = []
    if not wording.headline.strip():
        objections.append(Objection("headline", "is empty: say in one line what happens"))
    if len(wording.headline) > LONGEST_HEADLINE:
        over = len(wording.headline) - LONGEST_HEADLINE
        objections.append(Objection("headline", f"is {over} characters too long: {LONGEST_HEADLINE} at most"))
    if not wording.description.strip():
        objections.append(Objection("description", "is empty: say what it means for people"))
    if wording.expires <= now:
        objections.append(Objection("expires", "is not in the future: an alert that has ended is not sent"))
    if wording.onset and wording.onset >= wording.expires:
        objections.append(Objection("onset", "is not before expires: the event would end before it begins"))
    if wording.enclosure and wording.enclosure.is_picture and not wording.enclosure.says.strip():
        sentence = "is empty: say what the picture shows, for whoever cannot see it"
        objections.append(Objection("enclosure/says", sentence))
    return [*objections, *_check_colour(wording)]


def _check_colour(wording: Wording) -> list[Objection]:
    if wording.kind is not Kind.ALLERTA_METEO:
        names = [name for name in ("colour", "risk") if getattr(wording, name)]
        return [Objection(name, f"belongs to {Kind.ALLERTA_METEO}, not to {wording.kind}") for name in names]
    objections = []
    if wording.colour is None:
        objections.append(Objection("colour", f"is missing: one of {', '.join(c.value for c in Colour)}"))
    if wording.risk is None:
        objections.append(Objection("risk", f"is missing: one of {', '.join(r.value for r in Risk)}"))
    if wording.colour is Colour.ROSSA and wording.risk in WITHOUT_RED:
        sentence = f"rossa does not exist for {wording.risk.value}: arancione is the highest"
        objections.append(Objection("colour", sentence))
    if wording.colour and needs_instruction(SEVERITY_OF[wording.colour]) and not wording.instruction.strip():
        objections.append(
            Objection("instruction", f"is empty: an allerta {wording.colour.value} must tell people what to do")
        )
    return objections


def _check_place(wording: Wording, authority: Authority) -> list[Objection]:
    objections = [
        Objection(f"{field}/{number}", str(unknown))
        for field, codes in (("areas", wording.areas), ("left_out/areas", wording.left_out.areas))
        for number, code in enumerate(codes)
        if (unknown := _unknown(code, authority))
    ]
    if not wording.areas and wording.drawn is None:
        objections.append(
            Objection(
                "areas",
                f"names no place: give area codes, or a geofence; {authority.code} for the whole comune",
            )
        )
    if wording.drawn is not None and (wrong := _over_the_border(wording.drawn, wording, authority)):
        objections.append(Objection("geofence", wrong))
    if not objections and not _meant(where_of(wording, authority), authority):
        objections.append(Objection("left_out", "leaves nobody to be told: leave out less, or cancel the draft"))
    return objections


def _unknown(code: str, authority: Authority) -> UnknownArea | None:
    try:
        authority.territory.gazetteer.by_code(code)
    except UnknownArea as unknown:
        return unknown
    return None


def _over_the_border(drawn: Geofence, wording: Wording, authority: Authority) -> str | None:
    territory = authority.territory.fence
    outside = km2_outside(drawn, territory)
    if wording.cut_at_border:
        if not _is_nothing(replace(drawn.flattened(), within=territory)):
            return None
        return f"lies outside the territory of {authority.name} altogether: nothing is left of it at the border"
    if outside > KM2_OUTSIDE_IGNORED or any(_lies_elsewhere(shape, authority) for shape in drawn.shapes):
        return (
            f"reaches {outside:.3f} km² outside the territory of {authority.name}: draw it inside the border, or give "
            "cut_at_border: true, which means what lies inside it"
        )
    return None


def _lies_elsewhere(shape: Shape, authority: Authority) -> bool:
    alone = Geofence((shape,))
    return km2_outside(alone, authority.territory.fence) > alone.area_km2 * LARGEST_SHARE_OUTSIDE


def _check_writable(alert: cap.Alert) -> None:
    try:
        write(alert)
    except Unwritable as wrong:
        raise Refused(Objection("document", str(wrong))) from None


def _check_length(alert: cap.Alert, authority: Authority) -> None:
    objections = [
        Objection("description", f"the whole text is {over} characters too long for {channel}: shorten it")
        for channel, over in over_by(alert, authority).items()
        if over > 0
    ]
    if objections:
        raise Refused(*objections)


def over_by(alert: cap.Alert, authority: Authority) -> dict[Channel, int]:
    """By how many characters the text exceeds what each of the authority's channels takes; negative where it fits.

    Nothing is too long for SMS or for a panel: there words are left out until it fits, as the preview shows. Else a
    comune that also has these could say less to everybody else.
    """
    characters = rendering.whole(alert).characters
    return {
        account.channel: characters - rendering.MOST_CHARACTERS[account.channel]
        for account in authority.channels
        if rendering.FORM_OF[account.channel] not in (rendering.Form.SMS, rendering.Form.PANEL)
    }
