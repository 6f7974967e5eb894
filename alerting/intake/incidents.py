"""Anything but the weather of a whole comune: a flooded street, a fire, a closed bridge; told once, whoever speaks.

Region, Dipartimento and comune speak of one event: who is told of it already hears again only when it grows graver,
wider or longer, when what to do changes, or when it is over.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import reduce

from sqlalchemy import select

from alerting import cap_json, issuing, paging
from alerting.composing import Where
from alerting.domain import cap
from alerting.domain.authority import Authority
from alerting.domain.kinds import Kind
from alerting.domain.lifecycle import State
from alerting.domain.outlook import SLACK
from alerting.domain.plain_text import cleaned
from alerting.domain.policies import COLOUR_OF, Then, decide, more_cautious
from alerting.domain.sources import Nearness, Source
from alerting.domain.understanding import Meaning
from alerting.intake.cases import Case
from alerting.intake.drafting import Became, Composed, feed_of, follow, is_open_draft
from alerting.intake.relaying import of_infos, use_of
from alerting.persistence import tables
from geo.areas import plain
from geo.geojson import parse_geojson
from geo.shapes import Geofence, km2_outside

QUIET = timedelta(minutes=10)
"""After people were told of something, only what is graver, wider, longer or to be done otherwise is told at once."""
SLIVER_KM2 = 0.05
GRAVITY = {severity: -rank for rank, severity in enumerate(cap.Severity)} | {cap.Severity.UNKNOWN: -10}
LONGEST_REASON = 200
STANDING = (State.DRAFT, State.APPROVED, State.ISSUED)


@dataclass(frozen=True, slots=True)
class Report:
    """What a message of a source says of one thing in one comune: its infos (one a language), and where there."""

    message: cap.Alert
    infos: tuple[cap.Info, ...]
    meaning: Meaning
    where: Where
    authority: Authority
    follows: Sequence[int]
    """The documents of this source that it updates, and those that these do."""
    most: Then
    """The boldest that may follow, whatever the comune's policy."""

    @property
    def info(self) -> cap.Info:
        return self.infos[0]

    @property
    def is_all_clear(self) -> bool:
        return cap.ResponseType.ALL_CLEAR in self.info.response_type


async def tell(case: Case, said: Report) -> Became:
    """Say it, or what it adds to what was said. The caller holds the authority's row."""
    ours = await _following(case, said.authority, said.follows)
    known = ours or await _same(case, said)
    if said.is_all_clear:
        return await _all_clear(case, said, ours, known)
    colour = COLOUR_OF.get(said.info.severity)
    risks = {said.meaning.risk} if said.meaning.risk else set()
    then = more_cautious(decide(said.authority.feeds, case.source.name, colour, risks), said.most)
    if known is None:
        return await _follow(case, said, then)
    before = cap_json.from_json(known.document)
    adds = _adds(case, said, before, known, is_update=ours is not None)
    if not adds:
        return Became(said.authority.code, "joined", known.identifier, "people know all of it")
    issued = known if known.state is State.ISSUED else None
    if adds == {"words"} and issued is not None and case.now - (issued.issued_at or case.now) < QUIET:
        then = more_cautious(then, Then.PREPARE)
    draft = await _draft_of(case, issued) if issued is not None else known
    merged = said if ours is not None else _merged(case, said, before, known)
    return await _follow(case, merged, then, updates=issued, instead_of=draft, is_graver="gravity" in adds)


async def call_off(
    case: Case, message: cap.Alert, authority: Authority, follows: Sequence[int], *, is_forecast: bool
) -> list[Became]:
    """A Cancel of the source: what was made of what it cancels is taken back. A retraction waits for nobody.

    The weather of the whole comune is left to the forecasts where the source `is_forecast`: others may hold it too.
    """
    session, source, became = case.session, case.source, []
    note = cleaned(message.note or (message.first.description if message.infos else ""), LONGEST_REASON)
    reason = f"{source.title} lo ha annullato. {note}".strip()
    made = await _made_of(case, authority, follows)
    for row in made:
        if is_forecast and row.kind is Kind.ALLERTA_METEO and authority.code in row.areas:
            continue
        if row.state is State.SUPERSEDED and row.identifier not in {other.updates for other in made}:
            sentence = f"{source.title} ha annullato ciò che poi è stato aggiornato qui: verificare se vale ancora"
            await paging.call(session, f"alert {row.identifier}", sentence, case.now, authority.code)
        if row.cancels is None and row.state in STANDING:
            told = await issuing.cancel(session, row, authority, feed_of(source), reason, case.now, case.desk.sign)
            await paging.close(session, f"alert {row.identifier}", source.name, case.now)
            became.append(Became(authority.code, "cancelled", told.identifier if told else row.identifier))
    return became


async def _follow(
    case: Case,
    said: Report,
    then: Then,
    *,
    updates: tables.Alert | None = None,
    instead_of: tables.Alert | None = None,
    is_graver: bool = True,
) -> Became:
    before = cap_json.from_json(updates.document) if updates is not None else None
    alert = _composed(case, said, case.now, before)
    made = Composed(alert, said.meaning.kind, said.where, said.authority, case.source, case.row.id)
    return await follow(
        case.session, made, then, case.now, case.desk.sign, updates=updates, instead_of=instead_of, is_graver=is_graver
    )


# ── what is known already ───────────────────────────────────────────────────────────────────────────


async def _made_of(case: Case, authority: Authority, intakes: Sequence[int]) -> Sequence[tables.Alert]:
    if not intakes:
        return ()
    query = select(tables.Alert).where(tables.Alert.authority == authority.code, tables.Alert.intake.in_(intakes))
    return (await case.session.scalars(query.order_by(tables.Alert.drafted_at.desc()))).all()


async def _following(case: Case, authority: Authority, intakes: Sequence[int]) -> tables.Alert | None:
    """What was made of the messages this one updates, and still stands."""
    standing = (row for row in await _made_of(case, authority, intakes) if _stands(row))
    return next(standing, None)


async def _same(case: Case, said: Report) -> tables.Alert | None:
    """An alert of this comune, or a draft made of a source, that speaks of the same thing: kind, place and time."""
    query = (
        select(tables.Alert)
        .where(
            tables.Alert.authority == said.authority.code,
            tables.Alert.kind == said.meaning.kind,
            tables.Alert.status == cap.Status.ACTUAL,
            tables.Alert.state.in_(STANDING),
            tables.Alert.expires_at > case.now,
        )
        .order_by(tables.Alert.issued_at.is_(None), tables.Alert.drafted_at.desc())
    )
    for row in await case.session.scalars(query):
        if _stands(row) and (row.intake is not None or row.state is State.ISSUED) and _is_same(said, row):
            return row
    return None


def _stands(row: tables.Alert) -> bool:
    is_over = cap.ResponseType.ALL_CLEAR.value in row.document["infos"][0]["response_type"]
    return row.cancels is None and not is_over and row.state in STANDING


def _is_same(said: Report, row: tables.Alert) -> bool:
    before = cap_json.from_json(row.document)
    if said.meaning.kind is Kind.ALTRA_EMERGENZA and plain(said.info.event) != plain(before.first.event):
        return False
    if said.meaning.risk and said.meaning.risk.value not in before.first.parameters_called("it.rischio"):
        return False
    starts = said.info.onset or said.info.effective or said.message.sent
    began = before.first.onset or before.sent
    if starts >= before.expires or began >= said.message.ends(said.info):
        return False
    here, there = _fence(said.where, said.authority), _place_of(row, said.authority)
    return bool(here.planar.intersects(there.planar))


async def _draft_of(case: Case, issued: tables.Alert) -> tables.Alert | None:
    """The draft of an Update that a source has made of it, and nobody has decided on."""
    query = select(tables.Alert).where(tables.Alert.updates == issued.identifier, tables.Alert.intake.is_not(None))
    return next((row for row in await case.session.scalars(query) if is_open_draft(row)), None)


# ── what it adds ────────────────────────────────────────────────────────────────────────────────────


def _adds(case: Case, said: Report, before: cap.Alert, known: tables.Alert, *, is_update: bool) -> set[str]:
    """In what it goes beyond what is known: gravity, place, time, action; and for an Update of it, words."""
    info, was, adds = said.info, before.first, set()
    if GRAVITY[info.severity] > GRAVITY[was.severity]:
        adds.add("gravity")
    if km2_outside(_fence(said.where, said.authority), _place_of(known, said.authority)) > SLIVER_KM2:
        adds.add("place")
    if is_update:
        new = _composed(case, said, said.message.sent, None)
        first = new.first
        if GRAVITY[info.severity] < GRAVITY[was.severity]:
            adds.add("easing")
        if abs(new.ends(first) - before.ends(was)) >= SLACK:
            adds.add("time")
        if plain(first.instruction) != plain(was.instruction):
            adds.add("action")
        if plain(first.headline + first.description) != plain(was.headline + was.description):
            adds.add("words")
    elif said.message.ends(info) - before.ends(was) >= SLACK and is_open_draft(known):
        adds.add("time")
    elif is_open_draft(known) and info.instruction.strip() and not was.instruction:
        adds.add("action")
    return adds


def _merged(case: Case, said: Report, before: cap.Alert, known: tables.Alert) -> Report:
    """Of two who speak of one thing the graver colour, wider place, longer time and more useful instruction."""
    info, was = said.info, before.first
    keeps = use_of(was, _nearness(known, before, case.desk.sources)) > use_of(info, case.source.nearness)
    merged = replace(
        info,
        severity=max(info.severity, was.severity, key=GRAVITY.__getitem__),
        instruction=was.instruction if keeps else info.instruction,
        expires=max(said.message.ends(info), before.ends(was)),
    )
    return replace(said, infos=(merged, *said.infos[1:]), where=_union(said.where, known, said.authority))


def _nearness(known: tables.Alert, before: cap.Alert, sources: dict[str, Source]) -> Nearness:
    """How near stands who spoke before: the comune itself, or the source its alert was made from."""
    if known.intake is None:
        return Nearness.MUNICIPAL
    by_title = {source.title: source.nearness for source in sources.values()}
    return by_title.get(before.source, Nearness.NATIONAL)


def _union(where: Where, known: tables.Alert, authority: Authority) -> Where:
    drawn = _drawn(known)
    fence = where.drawn.union(drawn) if where.drawn and drawn else where.drawn or drawn
    areas = tuple(dict.fromkeys((*where.areas, *known.areas)))
    if authority.code in areas:
        return Where((authority.code,))
    return Where(areas, fence, where.drawn_name)


# ── that it is over ─────────────────────────────────────────────────────────────────────────────────


async def _all_clear(case: Case, said: Report, ours: tables.Alert | None, known: tables.Alert | None) -> Became:
    """The end of what was told, to those who were told; of what only was drafted, nothing."""
    code = said.authority.code
    if known is None:
        return Became(code, "nothing", because="its beginning was never told here")
    if known.state is not State.ISSUED:
        if ours is not None:
            await issuing.cancel(case.session, known, said.authority, feed_of(case.source), "it is over", case.now)
            await paging.close(case.session, f"alert {known.identifier}", case.source.name, case.now)
        return Became(code, "nothing", known.identifier, "it is over before anybody was told")
    colour = COLOUR_OF.get(cap_json.from_json(known.document).first.severity)
    then = more_cautious(decide(said.authority.feeds, case.source.name, colour), said.most)
    if ours is None:
        then = more_cautious(then, Then.PREPARE)  # it is not theirs to end
    where = Where(tuple(known.areas), _drawn(known), said.where.drawn_name)
    draft = await _draft_of(case, known)
    return await _follow(case, replace(said, where=where), then, updates=known, instead_of=draft, is_graver=False)


# ── pieces ──────────────────────────────────────────────────────────────────────────────────────────


def _composed(case: Case, said: Report, now: datetime, updates: cap.Alert | None) -> cap.Alert:
    return of_infos(said.infos, said.message, said.meaning, said.authority, case.source, said.where, now, updates)


def _drawn(row: tables.Alert) -> Geofence | None:
    return parse_geojson(row.geofence["drawn"]) if row.geofence["drawn"] else None


def _fence(where: Where, authority: Authority) -> Geofence:
    fences = [authority.territory.gazetteer.by_code(code).fence for code in where.areas]
    whole, *others = [*fences, where.drawn] if where.drawn else fences
    return reduce(Geofence.union, others, whole)


def _place_of(row: tables.Alert, authority: Authority) -> Geofence:
    return _fence(Where(tuple(row.areas), _drawn(row)), authority)
