"""Anything but the weather of a whole comune: a flooded street, a fire, a closed bridge; told once, whoever speaks.

Region, Dipartimento and comune speak of one event: who is told of it already hears again only when it grows graver,
wider or longer, when what to do changes, or when it is over.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import reduce

from sqlalchemy import select

from alerting import cap_json, issuing, paging
from alerting.composing import Refused, Where
from alerting.domain import cap
from alerting.domain.authority import Authority
from alerting.domain.kinds import Colour, Kind
from alerting.domain.lifecycle import State
from alerting.domain.outlook import SLACK
from alerting.domain.plain_text import cleaned, shortened
from alerting.domain.policies import COLOUR_OF, Then, decide, more_cautious
from alerting.domain.sources import Nearness, Source
from alerting.domain.understanding import Meaning, is_over
from alerting.intake.cases import Case
from alerting.intake.drafting import Became, Composed, feed_of, follow, is_open_draft
from alerting.intake.forecasts import outlook_of
from alerting.intake.places import LONGEST_NAME
from alerting.intake.relaying import of_infos, use_of
from alerting.persistence import tables
from geo.drawing import IMPORTED
from geo.geojson import parse_geojson
from geo.names import plain
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
    is_alone: bool = True
    """Whether the message speaks of nothing else."""

    @property
    def info(self) -> cap.Info:
        return self.infos[0]

    @property
    def is_all_clear(self) -> bool:
        return is_over(self.info)

    @property
    def colour(self) -> Colour | None:
        """Of the words and of the severity the graver."""
        return max((self.meaning.colour, COLOUR_OF.get(self.info.severity)), key=_rank)


async def tell(case: Case, said: Report) -> Became:
    """Say it, or what it adds to what was said. The caller holds the authority's row."""
    ours = await _following(case, said)
    known = ours or await _same(case, said)
    issued, draft = await _told_and_waiting(case, known)
    if said.is_all_clear:
        return await _all_clear(case, said, issued, draft, is_theirs=ours is not None)
    risks = {said.meaning.risk} if said.meaning.risk else set()
    then = more_cautious(decide(said.authority.feeds, case.source.name, said.colour, risks), said.most)
    if ours is not None and issued is not None and draft is not None and not _adds(case, said, issued, is_update=True):
        return await _as_it_was(case, said, issued, draft)
    if draft is not None and draft.author != case.source.name and then is Then.ISSUE:
        return await _at_once(case, said, issued, draft)
    newest = draft or issued
    if newest is None:
        return await _follow(case, said, then)
    adds = _adds(case, said, newest, is_update=ours is not None)
    if adds and ours is None and _is_history(case, said, newest):
        return Became(said.authority.code, "joined", newest.identifier, "its source has said something newer of it")
    if ours is None and outlook_of(newest):  # it speaks of a part of the comune, that of all of it
        adds &= {"gravity"}
        issued = draft = None
    if not adds:
        return Became(said.authority.code, "joined", newest.identifier, "people know all of it")
    if adds == {"words"} and ours is None:
        then = more_cautious(then, Then.PAGE)  # the same once more, or another thing of the same kind: somebody looks
    elif adds == {"words"} and issued is not None and case.now - (issued.issued_at or case.now) < QUIET:
        then = more_cautious(then, Then.PREPARE)
    is_own = ours is not None and newest.author == case.source.name
    merged = said if is_own or (issued is None and draft is None) else _merged(case, said, newest)
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
        if _stands(row):
            became.append(await _take_back(case, row, authority, reason))
    return became


async def _take_back(case: Case, row: tables.Alert, authority: Authority, reason: str) -> Became:
    session, source, code = case.session, case.source, authority.code
    try:
        async with session.begin_nested():
            told = await issuing.cancel(session, row, authority, feed_of(source), reason, case.now, case.desk.sign)
    except Refused as refused:  # one comune that cannot sign does not keep the others from their Cancel
        await session.refresh(row)
        sentence = f"{source.title} lo ha annullato, e qui non è riuscito: {refused}"
        await paging.call(session, f"alert {row.identifier}", sentence, case.now, code)
        return Became(code, "nothing", row.identifier, str(refused))
    await paging.close(session, f"alert {row.identifier}", source.name, case.now)
    return Became(code, "cancelled", told.identifier if told else row.identifier)


async def call_for_the_rest(case: Case, authority: Authority, follows: Sequence[int], done: Iterable[Became]) -> None:
    """Of what the source said before, what its Update no longer speaks of here: somebody says if it still holds."""
    made = await _made_of(case, authority, follows)
    touched = {one.alert for one in done}
    # What a draft is to take the place of was spoken of as well.
    touched |= {row.updates for row in made if row.identifier in touched}
    touched |= {row.updates for row in await _made_of(case, authority, [case.row.id])}
    for row in made:
        if _stands(row) and not outlook_of(row) and touched.isdisjoint({row.identifier, row.updates} - {None}):
            sentence = f"{case.source.title} non ne parla più nel suo aggiornamento: verificare se vale ancora"
            await paging.call(case.session, f"alert {row.identifier}", sentence, case.now, authority.code)


# ── what follows ────────────────────────────────────────────────────────────────────────────────────


async def _as_it_was(case: Case, said: Report, issued: tables.Alert, draft: tables.Alert) -> Became:
    """The source is back at what people know: its draft of something else goes, another's is for a person to judge."""
    if draft.author == case.source.name:
        feed = feed_of(case.source)
        await issuing.cancel(case.session, draft, said.authority, feed, "nothing changes after all", case.now)
        await paging.close(case.session, f"alert {draft.identifier}", case.source.name, case.now)
    return Became(said.authority.code, "joined", issued.identifier, "people know all of it")


async def _at_once(case: Case, said: Report, issued: tables.Alert | None, draft: tables.Alert) -> Became:
    """Who may issue does not wait for the draft of who may not: it says what it knows, and no more than that.

    The draft goes where nothing is left in it; else it stays, for whoever was called to decide on.
    """
    known = _adds(case, said, issued, is_update=False) if issued is not None else {"all"}
    if not known:
        return Became(said.authority.code, "joined", draft.identifier, "people know the rest, and a draft waits")
    waits = cap_json.from_json(draft.document)
    is_milder = GRAVITY[said.info.severity] < GRAVITY[waits.first.severity]
    is_narrower = km2_outside(_place_of(draft, said.authority), _fence(said.where, said.authority)) > SLIVER_KM2
    replaced = None if is_milder or is_narrower else draft
    merged = _merged(case, said, issued) if issued is not None else said
    return await _follow(case, merged, Then.ISSUE, updates=issued, instead_of=replaced)


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


async def _following(case: Case, said: Report) -> tables.Alert | None:
    """What was made of the messages this one updates, and still stands: of several things the same one.

    A draft of an Update stands for what it updates.
    """
    made = [row for row in await _made_of(case, said.authority, said.follows) if _stands(row) and not outlook_of(row)]
    standing = [row for row in made if row.state is not State.ISSUED or row.expires_at > case.now]
    heads = [row for row in standing if row.identifier not in {other.updates for other in standing}]
    alike = [row for row in heads if row.kind is said.meaning.kind]
    near = [row for row in alike if _is_same(said, row)]
    only = [alone[0] for alone in (alike, heads if said.is_alone else []) if len(alone) == 1]
    return next(iter(near or only), None)


async def _told_and_waiting(case: Case, known: tables.Alert | None) -> tuple[tables.Alert | None, tables.Alert | None]:
    """What people were told of it, and the draft of a source that waits beside it or instead."""
    if known is None:
        return None, None
    if known.state is State.ISSUED:
        return known, await _draft_of(case, known)
    told = await case.session.get(tables.Alert, known.updates) if known.updates else None
    stands = told is not None and told.state is State.ISSUED and told.expires_at > case.now
    return told if stands else None, known


def _is_history(case: Case, said: Report, row: tables.Alert) -> bool:
    """Whether it was made of a message that the same source sent later: what comes late does not count any more."""
    last = _last_said(cap_json.from_json(row.document))
    return last is not None and last.sender == said.message.sender and last.sent > said.message.sent


def _last_said(before: cap.Alert) -> cap.Reference | None:
    """The message that an alert of ours was made from; None for one that the comune wrote."""
    fonte = before.first.parameter("it.fonte")
    if fonte is None:
        return None
    sender, identifier, sent = fonte.split(",")  # CAP lets no comma into a name
    return cap.Reference(sender, identifier, datetime.fromisoformat(sent))


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


def _adds(case: Case, said: Report, known: tables.Alert, *, is_update: bool) -> set[str]:
    """In what it goes beyond what is known: gravity, place, time, action; and for an Update of it, words."""
    before = cap_json.from_json(known.document)
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
    else:
        adds |= _adds_to_a_draft(said, before) if is_open_draft(known) else _adds_to_an_issue(case, said, before)
    return adds


def _adds_to_a_draft(said: Report, before: cap.Alert) -> set[str]:
    """What it has that whoever decides on the draft should have too."""
    is_longer = said.message.ends(said.info) - before.ends(before.first) >= SLACK
    has_action = said.info.instruction.strip() and not before.first.instruction
    return {name for name, adds in (("time", is_longer), ("action", has_action)) if adds}


def _adds_to_an_issue(case: Case, said: Report, before: cap.Alert) -> set[str]:
    """Of what people were told already: other words of the same source, which may mean another thing of its kind; and
    a longer time, unless that is only because it is held to the longest a source may speak of."""
    adds, was, last = set(), before.first, _last_said(before)
    new = _composed(case, said, said.message.sent, None).first
    ends = said.message.ends(said.info)
    if ends <= said.message.sent + case.source.longest and ends - before.ends(was) >= SLACK:
        adds.add("time")
    is_its_own = last is not None and last.sender == said.message.sender
    if is_its_own and plain(new.headline + new.description) != plain(was.headline + was.description):
        adds.add("words")
    return adds


def _merged(case: Case, said: Report, known: tables.Alert) -> Report:
    """Of two who speak of one thing the graver colour, with its words, and wider place, longer time and more useful
    instruction."""
    before = cap_json.from_json(known.document)
    info, was = said.info, before.first
    keeps = use_of(was, _nearness(known, before, case.desk.sources)) > use_of(info, case.source.nearness)
    is_milder = GRAVITY[info.severity] < GRAVITY[was.severity]
    merged = replace(
        was if is_milder else info,
        instruction=was.instruction if keeps else info.instruction,
        expires=max(said.message.ends(info), before.ends(was)),
    )
    colour = was.parameter("it.colore")
    meaning = replace(said.meaning, colour=Colour(colour)) if is_milder and colour else said.meaning
    infos = (merged,) if is_milder else (merged, *said.infos[1:])
    return replace(said, infos=infos, meaning=meaning, where=_union(said.where, known, said.authority))


def _nearness(known: tables.Alert, before: cap.Alert, sources: dict[str, Source]) -> Nearness:
    """How near stands who spoke before: the comune itself, or the source its alert was made from."""
    if known.intake is None:
        return Nearness.MUNICIPAL
    by_title = {source.title: source.nearness for source in sources.values()}
    return by_title.get(before.source, Nearness.NATIONAL)


def _union(where: Where, known: tables.Alert, authority: Authority) -> Where:
    before = _where_of(known, authority)
    fence = where.drawn.union(before.drawn) if where.drawn and before.drawn else where.drawn or before.drawn
    areas = tuple(dict.fromkeys((*where.areas, *before.areas)))
    if authority.code in areas:
        return Where((authority.code,))
    names = ", ".join(dict.fromkeys(name for name in (before.drawn_name, where.drawn_name) if name))
    return Where(areas, fence, shortened(names, LONGEST_NAME))


# ── that it is over ─────────────────────────────────────────────────────────────────────────────────


async def _all_clear(
    case: Case, said: Report, issued: tables.Alert | None, draft: tables.Alert | None, *, is_theirs: bool
) -> Became:
    """The end of what was told, to those who were told; of what only was drafted, nothing."""
    code = said.authority.code
    of_another = draft is not None and draft.author != case.source.name
    if issued is None:
        if draft is None:
            return Became(code, "nothing", because="its beginning was never told here")
        if is_theirs and not of_another:
            await issuing.cancel(case.session, draft, said.authority, feed_of(case.source), "it is over", case.now)
            await paging.close(case.session, f"alert {draft.identifier}", case.source.name, case.now)
        return Became(code, "nothing", draft.identifier, "it is over before anybody was told")
    was = cap_json.from_json(issued.document).first
    risks = {said.meaning.risk} if said.meaning.risk else set()
    then = more_cautious(decide(said.authority.feeds, case.source.name, COLOUR_OF.get(was.severity), risks), said.most)
    if not is_theirs:
        then = more_cautious(then, Then.PREPARE)
    if of_another:  # who says that it goes on, or grows, is not passed over by who says that it is over
        then = more_cautious(then, Then.PAGE)
    end = replace(said.info, response_type=(cap.ResponseType.ALL_CLEAR,))
    told = _where_of(issued, said.authority)
    where = replace(told, drawn_name=told.drawn_name or said.where.drawn_name)
    over = replace(said, infos=(end, *said.infos[1:]), where=where)
    replaced = None if of_another else draft
    return await _follow(case, over, then, updates=issued, instead_of=replaced, is_graver=False)


# ── pieces ──────────────────────────────────────────────────────────────────────────────────────────


def _composed(case: Case, said: Report, now: datetime, updates: cap.Alert | None) -> cap.Alert:
    return of_infos(said.infos, said.message, said.meaning, said.authority, case.source, said.where, now, updates)


def _where_of(row: tables.Alert, authority: Authority) -> Where:
    """Where people were told of it: its areas and what was drawn, which is the last of what its document says.

    All of it as the document draws it, where somebody was left out, or where an area of it is no more.
    """
    areas = cap_json.from_json(row.document).first.areas
    known = {area.code for area in authority.territory.areas}
    if row.geofence.get("left_out") or not known.issuperset(row.areas):
        polygons = (polygon for area in areas for polygon in area.polygons)
        circles = (circle for area in areas for circle in area.circles)
        return Where(drawn=Geofence((*polygons, *circles)), drawn_name=", ".join(area.area_desc for area in areas))
    if row.geofence["drawn"] is None:
        return Where(tuple(row.areas))
    fence = parse_geojson(row.geofence["drawn"], IMPORTED).flattened()
    return Where(tuple(row.areas), fence, areas[-1].area_desc)


def _rank(colour: Colour | None) -> int:
    return list(Colour).index(colour) if colour is not None else -1


def _fence(where: Where, authority: Authority) -> Geofence:
    fences = [authority.territory.gazetteer.by_code(code).fence for code in where.areas]
    whole, *others = [*fences, where.drawn] if where.drawn else fences
    return reduce(Geofence.union, others, whole)


def _place_of(row: tables.Alert, authority: Authority) -> Geofence:
    return _fence(_where_of(row, authority), authority)
