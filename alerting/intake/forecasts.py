"""The weather of a whole comune: what each source holds, what people were told, and what to say of the difference.

All sources and the comune itself speak of one sky: the graver colour counts for each risk and hour, and a source that
has nothing to say takes back only what it said itself. So a person hears of each change once, whoever brings it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select, update

from alerting import cap_json, issuing, paging
from alerting.domain import cap
from alerting.domain.authority import Authority
from alerting.domain.kinds import Colour, Kind, Risk
from alerting.domain.lifecycle import State
from alerting.domain.outlook import Outlook, Span, change, excess, from_parameter, graver, gravest, outlook, remaining
from alerting.domain.policies import Then, decide, more_cautious
from alerting.domain.sources import Source
from alerting.intake.cases import Case
from alerting.intake.drafting import Became, Composed, feed_of, follow
from alerting.intake.places import whole
from alerting.intake.relaying import of_outlook
from alerting.persistence import tables


@dataclass(frozen=True, slots=True)
class Held:
    """One thing a source holds for a comune, with what it says to do."""

    span: Span
    instruction: str = ""


async def restate(case: Case, authority: Authority, held: Iterable[Held], replaces: Sequence[int] | None) -> Became:
    """What the source holds for the comune from now on; and what people there are to be told of it is told.

    `replaces`: the documents whose statements end; None for all of the source's. The caller holds the authority's row:
    of two sources at the same moment the second sees what the first did.
    """
    ended = update(tables.Statement).where(
        tables.Statement.authority == authority.code,
        tables.Statement.source == case.source.name,
        tables.Statement.replaced_at.is_(None),
    )
    if replaces is not None:
        ended = ended.where(tables.Statement.intake.in_(replaces))
    await case.session.execute(ended.values(replaced_at=case.now))
    case.session.add_all(
        tables.Statement(
            authority=authority.code,
            source=case.source.name,
            intake=case.row.id,
            risk=one.span.risk,
            colour=one.span.colour,
            starts=one.span.starts,
            ends=one.span.ends,
            instruction=one.instruction,
        )
        for one in held
        if one.span.ends > case.now
    )
    await case.session.flush()
    return await _reconsider(case, authority)


async def _reconsider(case: Case, authority: Authority) -> Became:
    """Compare what holds with what people were told, and say the difference as the comune's policy wants.

    A source that may issue does not wait for the draft of one that may not, and does not issue what that one says.
    """
    statements = await _statements(case, authority)
    bold = _may_issue(authority, statements)
    sure = [one for one in statements if one.source in bold]
    timid = [one for one in statements if one.source not in bold]
    told = graver(*(outlook_of(row) for row in await _told(case, authority)))
    if case.most is not Then.ISSUE or not excess(outlook(map(_span, timid)), told, case.now):
        return await _say(case, authority, case.most, statements)
    issued = None
    if case.source.name in bold and excess(outlook(map(_span, sure)), told, case.now):
        issued = await _say(case, authority, case.most, sure, keeps=True)
    rest = await _say(case, authority, Then.PAGE, statements)
    return issued or rest


async def _say(
    case: Case, authority: Authority, most: Then, statements: Sequence[tables.Statement], *, keeps: bool = False
) -> Became:
    """What these statements change for people. It `keeps` what they were told, and the draft that waits, as it is."""
    session, source, now, code = case.session, case.source, case.now, authority.code
    told_by = await _told(case, authority)
    told = graver(*(outlook_of(row) for row in told_by))
    holds = graver(outlook(map(_span, statements)), told if keeps else await _own(case, told_by))
    pending = None if keeps else await _pending(case, authority)
    trend = change(told, holds, now)
    if trend is None:
        if pending is not None:
            await issuing.cancel(session, pending, authority, feed_of(source), "nothing changes after all", now)
            await paging.close(session, f"alert {pending.identifier}", source.name, now)
        return Became(code, "joined" if told else "nothing", because="it changes nothing for people here")
    then = more_cautious(_wanted(authority, source, holds, told, now), most)
    if remaining(holds, now) and not excess(holds, await _taken_back(case, authority), now):
        then = more_cautious(then, Then.PAGE)
    is_known = pending is not None and change(outlook_of(pending), holds, now) is None
    if pending is not None and is_known and then is not Then.ISSUE and _can_wait(pending, told_by, now):
        return Became(code, "joined", pending.identifier, "the draft of it waits already")
    # What was made of sources before what the comune wrote: that a source eases is no reason to touch the latter.
    latest = max(told_by, key=lambda row: (row.intake is not None, row.issued_at or now), default=None)
    alert = of_outlook(
        trend,
        holds,
        told,
        authority,
        source,
        whole(authority),
        now,
        cap_json.from_json(latest.document) if latest else None,
        _instruction(statements, holds, case.desk.sources, now),
    )
    made = Composed(alert, Kind.ALLERTA_METEO, whole(authority), authority, source, case.row.id)
    colour = gravest((*remaining(holds, now), *remaining(told, now)))
    is_graver = pending is None or _is_graver(colour, gravest(outlook_of(pending)))
    return await follow(
        session, made, then, now, case.desk.sign, updates=latest, instead_of=pending, is_graver=is_graver
    )


async def held_before(case: Case, authority: Authority) -> Outlook:
    """What the source has held for the comune until now, as far as it has not ended."""
    statements = await _statements(case, authority)
    return outlook(_span(one) for one in statements if one.source == case.source.name)


def outlook_of(row: tables.Alert) -> Outlook:
    """What an alert of ours tells of the weather of the whole comune; nothing where it is of another kind or place.

    Nor where it leaves somebody out: they have not been told.
    """
    if row.kind is not Kind.ALLERTA_METEO or row.authority not in row.areas or row.msg_type is cap.MsgType.CANCEL:
        return ()
    if row.geofence.get("left_out"):
        return ()
    alert = cap_json.from_json(row.document)
    info = alert.first
    if forecast := info.parameters_called("it.previsione"):
        return outlook(map(from_parameter, forecast))
    colour, risk = info.parameter("it.colore"), info.parameter("it.rischio")
    if colour is None or risk is None:
        return ()
    starts, ends = info.onset or row.issued_at or row.drafted_at, alert.ends(info)
    return (Span(Risk(risk), Colour(colour), starts, ends),) if starts < ends else ()


async def _told(case: Case, authority: Authority) -> list[tables.Alert]:
    """The alerts in force that tell people here of the weather."""
    rows = await case.session.scalars(
        select(tables.Alert).where(
            tables.Alert.authority == authority.code,
            tables.Alert.state == State.ISSUED,
            tables.Alert.status == cap.Status.ACTUAL,
            tables.Alert.kind == Kind.ALLERTA_METEO,
            tables.Alert.expires_at > case.now,
        )
    )
    return [row for row in rows if outlook_of(row)]


async def _own(case: Case, told_by: Iterable[tables.Alert]) -> Outlook:
    """What the comune said itself, also where an Update that a source made has taken its place: it is theirs to end."""
    said = []
    for told in told_by:
        row: tables.Alert | None = told
        while row is not None and row.intake is not None:
            row = await case.session.get(tables.Alert, row.updates) if row.updates else None
        said.append(outlook_of(row) if row is not None else ())
    return graver(*said)


async def _taken_back(case: Case, authority: Authority) -> Outlook:
    """What a source had people told and a person took back: a machine does not say it again over their head."""
    cancels = select(tables.Alert.cancels).where(
        tables.Alert.authority == authority.code,
        tables.Alert.cancels.is_not(None),
        tables.Alert.status == cap.Status.ACTUAL,
        tables.Alert.author.not_in(list(case.desk.sources)),
    )
    of_sources = (tables.Alert.identifier.in_(cancels), tables.Alert.intake.is_not(None))
    rows = await case.session.scalars(select(tables.Alert).where(*of_sources, tables.Alert.expires_at > case.now))
    return graver(*(outlook_of(row) for row in rows))


async def _pending(case: Case, authority: Authority) -> tables.Alert | None:
    """The draft that a source has made of the weather here, and nobody has decided on."""
    rows = await case.session.scalars(
        select(tables.Alert)
        .where(
            tables.Alert.authority == authority.code,
            tables.Alert.state.in_((State.DRAFT, State.APPROVED)),
            tables.Alert.kind == Kind.ALLERTA_METEO,
            tables.Alert.intake.is_not(None),
        )
        .order_by(tables.Alert.drafted_at.desc())
    )
    return next((row for row in rows if row.authority in row.areas), None)


async def _statements(case: Case, authority: Authority) -> Sequence[tables.Statement]:
    query = select(tables.Statement).where(
        tables.Statement.authority == authority.code,
        tables.Statement.replaced_at.is_(None),
        tables.Statement.ends > case.now,
    )
    return (await case.session.scalars(query)).all()


def _may_issue(authority: Authority, statements: Iterable[tables.Statement]) -> set[str]:
    """The sources that the comune lets issue all that they hold."""
    by_source: dict[str, list[Span]] = {}
    for one in statements:
        by_source.setdefault(one.source, []).append(_span(one))
    return {
        name
        for name, held in by_source.items()
        if decide(authority.feeds, name, gravest(held), {span.risk for span in held}) is Then.ISSUE
    }


def _wanted(authority: Authority, source: Source, holds: Outlook, told: Outlook, now: datetime) -> Then:
    """What the comune's policy wants of this. Who lets the orange be issued lets it be eased: the graver decides."""
    held, known = remaining(holds, now), remaining(told, now)
    return decide(authority.feeds, source.name, gravest((*held, *known)), {span.risk for span in held or known})


def _span(one: tables.Statement) -> Span:
    return Span(one.risk, one.colour, one.starts, one.ends)


def _instruction(
    statements: Sequence[tables.Statement], holds: Outlook, sources: dict[str, Source], now: datetime
) -> str:
    """The words of the nearest source that says what to do about the gravest of what holds; empty where none does."""
    colour = gravest(remaining(holds, now))
    spoken = [one for one in statements if one.instruction and one.colour is colour and one.source in sources]
    nearest = max(spoken, key=lambda one: (sources[one.source].nearness, len(one.instruction)), default=None)
    return nearest.instruction if nearest else ""


def _can_wait(pending: tables.Alert, told_by: Iterable[tables.Alert], now: datetime) -> bool:
    """Whether a draft could still be issued: it has not ended, nor has what it is an Update of."""
    told = {row.identifier for row in told_by}
    stands = pending.updates in told if told else pending.updates is None
    return stands and pending.expires_at > now


def _is_graver(colour: Colour | None, than: Colour | None) -> bool:
    order = list(Colour)
    return colour is not None and (than is None or order.index(colour) > order.index(than))
