"""One CAP message of a source: judged, put beside those it follows, and said in each comune that it touches."""

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from sqlalchemy import select

from alerting.cap_xml import reading, signing
from alerting.cap_xml.rules import Rule
from alerting.composing import Where
from alerting.domain import cap
from alerting.domain.authority import Authority
from alerting.domain.intake import IntakeState
from alerting.domain.kinds import Kind
from alerting.domain.outlook import Span
from alerting.domain.plain_text import cleaned
from alerting.domain.policies import Then, more_cautious
from alerting.domain.sources import Source
from alerting.domain.understanding import Meaning, is_over, meaning_of
from alerting.intake import forecasts, incidents
from alerting.intake.cases import HEADLINE, SENTENCE, Case
from alerting.intake.drafting import Became
from alerting.intake.forecasts import Held
from alerting.intake.judging import judge
from alerting.intake.places import where_in, whole
from alerting.persistence import tables

LONGEST_THREAD = 500
"""Messages from the first to the last: one each quarter of an hour, over five days, each naming only the one before."""

ENDED = frozenset({IntakeState.TAKEN, IntakeState.QUARANTINED, IntakeState.DISMISSED, IntakeState.REJECTED})

TAKES_PLACE = frozenset({cap.MsgType.ALERT, cap.MsgType.UPDATE, cap.MsgType.CANCEL})
"""What takes the place of the messages it names. An Ack and an Error only speak of them."""

Thing = tuple[Meaning, tuple[cap.Info, ...]]
"""One thing a message speaks of: what it means, and its infos, one a language."""


async def look(case: Case) -> None:
    """All of it: from bytes to what became of them."""
    row, source = case.row, case.source
    document = await asyncio.to_thread(reading.read, row.raw)
    row.findings = []
    case.found(document.findings)
    await case.alone()
    alert = _in_its_language(document, source)
    if alert is not None:
        row.headline, row.message_hash = _headline(alert), hash_of(alert.reference)
        if twin := await _twin(case, alert):
            case.end(*twin)
            return
    signature = await asyncio.to_thread(signing.verify, row.raw, source.certificates, case.now)
    judgement = judge(document, source, signature, case.now, case.desk.authorities.values())
    let_pass = row.settled_by is not None and judgement.state is IntakeState.QUARANTINED
    if alert is None or not (judgement.may_act or let_pass):
        case.end(judgement.state, judgement.because)
        return
    follows = await _thread(case, alert) if alert.msg_type in TAKES_PLACE else []
    if await _is_superseded(case):
        newest = await _newest(case, follows)
        joined = await _act(case, newest, follows) if newest is not None else []
        case.end(IntakeState.TAKEN, "a message that takes its place came before it", joined)
        return
    became = await _act(case, alert, follows)
    case.end(IntakeState.TAKEN, "" if became else "it concerns no comune here", became)


def _in_its_language(document: reading.Document, source: Source) -> cap.Alert | None:
    """The message; in its source's language where it says none."""
    alert = document.alert
    silent = sum(finding.rule == Rule.LANGUAGE_MISSING.id for finding in document.findings)
    if alert is None or silent < len(alert.infos):
        return alert
    return replace(alert, infos=tuple(replace(info, language=source.language) for info in alert.infos))


def hash_of(reference: cap.Reference) -> str:
    """The key of a CAP message in the world, however long its parts: SHA-256 in hexadecimal."""
    sent = reference.sent.astimezone(UTC).isoformat()
    return hashlib.sha256(f"{reference.sender},{reference.identifier},{sent}".encode()).hexdigest()


# ── beside those before and after it ────────────────────────────────────────────────────────────────


async def _twin(case: Case, alert: cap.Alert) -> tuple[IntakeState, str] | None:
    """Whether the same message is here already: sender, identifier and sent are its key.

    One that was held up or rejected as it was written is no reason to pass over it as it should be: signed, mended.
    """
    row = case.row
    if row.settled_by:
        return None
    query = select(tables.Intake).where(
        tables.Intake.message_hash == row.message_hash,
        tables.Intake.source == row.source,
        tables.Intake.id != row.id,
        tables.Intake.state.in_(ENDED),
    )
    twins = (await case.session.scalars(query.order_by(tables.Intake.id))).all()
    usable = (twin for twin in twins if twin.state is IntakeState.TAKEN)
    same = (twin for twin in twins if twin.sha256 == row.sha256)
    twin = next(same, None) or next(usable, None) or next(iter(twins), None)
    if twin is None:
        return None
    if twin.sha256 == row.sha256:
        return IntakeState.REPEATED, f"the same message as intake {twin.id}"
    if _in_its_language(await asyncio.to_thread(reading.read, twin.raw), case.source) == alert:
        is_taken = twin.state is IntakeState.TAKEN
        return (IntakeState.REPEATED, f"the same message as intake {twin.id}") if is_taken else None
    if twin.state is IntakeState.REJECTED:
        return None
    sentence = f"it has sender, identifier and sent of intake {twin.id}, and says something else: ask the source"
    return IntakeState.QUARANTINED, sentence


async def _thread(case: Case, alert: cap.Alert) -> list[int]:
    """The documents of this source that it follows or that follow it, and all that these do."""
    row, session = case.row, case.session
    hashes = {hash_of(reference) for reference in (*alert.references, alert.reference)}
    for one in hashes - {row.message_hash}:
        await session.merge(tables.IntakeReference(message_hash=one, intake=row.id))
    await session.flush()
    found: set[int] = set()
    for _ in range(LONGEST_THREAD):
        named = select(tables.IntakeReference.intake).where(tables.IntakeReference.message_hash.in_(hashes))
        query = select(tables.Intake.id, tables.Intake.message_hash).where(
            tables.Intake.source == row.source,
            tables.Intake.id != row.id,
            tables.Intake.message_hash.in_(hashes) | tables.Intake.id.in_(named),
        )
        new = {number: key for number, key in await session.execute(query) if number not in found}
        if not new:
            break
        found |= new.keys()
        hashes |= {key for key in new.values() if key}
        earlier = select(tables.IntakeReference.message_hash).where(tables.IntakeReference.intake.in_(new))
        hashes |= set((await session.scalars(earlier)).all())
    return sorted(found)


async def _is_superseded(case: Case) -> bool:
    """Whether an Update or a Cancel of it came first."""
    query = (
        select(tables.IntakeReference.intake)
        .join(tables.Intake, tables.Intake.id == tables.IntakeReference.intake)
        .where(
            tables.IntakeReference.message_hash == case.row.message_hash,
            tables.Intake.source == case.row.source,
            tables.Intake.state == IntakeState.TAKEN,
            tables.Intake.id != case.row.id,
        )
    )
    return (await case.session.scalar(query.limit(1))) is not None


async def _newest(case: Case, thread: Sequence[int]) -> cap.Alert | None:
    """Of several messages that this one ties together, the one that counts; None where there is nothing to tie.

    What came before this could not know that they belong together: an alert and a Cancel of its second Update.
    """
    if len(thread) < 2:
        return None
    query = select(tables.Intake).where(tables.Intake.id.in_(thread), tables.Intake.state == IntakeState.TAKEN)
    latest: tuple[datetime, cap.Alert, tables.Intake] | None = None
    for row in await case.session.scalars(query):
        alert = _in_its_language(await asyncio.to_thread(reading.read, row.raw), case.source)
        if alert is not None and (latest is None or alert.sent > latest[0]):
            latest = alert.sent, alert, row
    # What a person let pass was drafted for a person: it is not gone over by a machine.
    return latest[1] if latest is not None and latest[2].settled_by is None else None


# ── what follows ────────────────────────────────────────────────────────────────────────────────────


async def _act(case: Case, alert: cap.Alert, follows: Sequence[int]) -> list[Became]:
    match alert.msg_type:
        case cap.MsgType.ACK:
            return [Became("", "acknowledged", because=f"{case.source.title} has received {_named(alert)}")]
        case cap.MsgType.ERROR:
            sentence = f"non accetta {_named(alert)}: {cleaned(alert.note, HEADLINE)}"
            await case.call(sentence)
            return [Became("", "refused", because=sentence)]
        case cap.MsgType.CANCEL:
            return await _call_off(case, alert, follows)
        case cap.MsgType.ALERT | cap.MsgType.UPDATE:
            return await _speak(case, alert, follows)


async def _call_off(case: Case, alert: cap.Alert, follows: Sequence[int]) -> list[Became]:
    authorities = case.desk.authorities
    await case.hold(authorities)
    became: list[Became] = []
    for authority in authorities.values():
        is_forecast = await _holds(case, authority, follows)
        became += await incidents.call_off(case, alert, authority, follows, is_forecast=is_forecast)
        if is_forecast:
            became.append(await forecasts.restate(case, authority, (), follows))
    return became


async def _speak(case: Case, alert: cap.Alert, follows: Sequence[int]) -> list[Became]:
    authorities, things = case.desk.authorities, _things(alert, case.now)
    touched = {
        code: [(one, where) for one in things if (where := where_in(one[1][0], authority))]
        for code, authority in authorities.items()
    }
    await case.hold(authorities if follows else (code for code in touched if touched[code]))
    became: list[Became] = []
    for code, authority in authorities.items():
        forecast = [one for one, where in touched[code] if _is_forecast(one, where, authority)]
        others = [(one, where) for one, where in touched[code] if one not in forecast]
        has_forecast = bool(forecast) or await _holds(case, authority, follows)
        if has_forecast:
            held = [_held(case, alert, one) for one in forecast if not is_over(one[1][0])]
            became.append(await forecasts.restate(case, authority, held, follows))
        done = []
        for (meaning, infos), where in others:
            if has_forecast and is_over(infos[0]):
                continue  # its end was told with the forecast
            # What nobody here can read is not sent by a machine.
            most = case.most if infos[0].tongue == "it" else more_cautious(case.most, Then.PAGE)
            is_alone = len(things) == 1
            report = incidents.Report(alert, infos, meaning, where, authority, follows, most, is_alone=is_alone)
            done.append(await incidents.tell(case, report))
        became += done
        await incidents.call_for_the_rest(case, authority, follows, done)
    return became


def _things(alert: cap.Alert, now: datetime) -> list[Thing]:
    """Its Italian infos one by one, or those of its first language; the others translate, where one stands for one.

    Without those that ended before they came, unless what they say is that it is over.
    """
    tongues = dict.fromkeys(info.tongue for info in alert.infos)
    tongue = "it" if "it" in tongues else next(iter(tongues), "")
    own = [info for info in alert.infos if info.tongue == tongue]
    others = tuple(info for info in alert.infos if info.tongue != tongue) if len(own) == 1 else ()
    left = [info for info in own if alert.ends(info) > now or is_over(info)]
    return [(meaning_of(info), (info, *others)) for info in left]


def _is_forecast(thing: Thing, where: Where, authority: Authority) -> bool:
    return thing[0].kind is Kind.ALLERTA_METEO and where == whole(authority)


def _held(case: Case, alert: cap.Alert, thing: Thing) -> Held:
    meaning, (info, *_) = thing
    assert meaning.colour is not None and meaning.risk is not None
    ends = min(alert.ends(info), case.now + case.source.longest)
    starts = min(info.onset or info.effective or alert.sent, ends - timedelta(seconds=1))
    instruction = cleaned(info.instruction, SENTENCE) if info.tongue == "it" else ""
    return Held(Span(meaning.risk, meaning.colour, starts, ends), instruction)


async def _holds(case: Case, authority: Authority, intakes: Sequence[int]) -> bool:
    """Whether any of these documents still says something of the weather of the comune."""
    query = select(tables.Statement.id).where(
        tables.Statement.authority == authority.code,
        tables.Statement.source == case.source.name,
        tables.Statement.intake.in_(intakes),
        tables.Statement.replaced_at.is_(None),
    )
    return bool(intakes) and (await case.session.scalar(query.limit(1))) is not None


def _headline(alert: cap.Alert) -> str:
    if not alert.infos:
        return f"{alert.msg_type.value} {alert.identifier}"[:HEADLINE]
    return cleaned(alert.first.headline or alert.first.event, HEADLINE)


def _named(alert: cap.Alert) -> str:
    return ", ".join(cleaned(reference.identifier, 100) for reference in alert.references) or "qualcosa"
