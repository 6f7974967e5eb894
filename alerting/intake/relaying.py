"""What a comune says of what others said: a message of its own, in its own name, that names where it comes from."""

from dataclasses import replace
from datetime import datetime, timedelta

from alerting.composing import Where, areas_in, new_identifier, over_by, references_of
from alerting.domain import cap
from alerting.domain.authority import Authority
from alerting.domain.kinds import DEFAULTS, SEVERITY_OF, Kind
from alerting.domain.outlook import Outlook, Trend, gravest, remaining, to_parameter
from alerting.domain.outlook_words import words
from alerting.domain.plain_text import cleaned, shortened
from alerting.domain.sources import Nearness, Source
from alerting.domain.understanding import Meaning

LONGEST_HEADLINE, LONGEST = 160, 4_000
LEAST = 40
"""Characters that are left of an explanation or an instruction, however long the other is."""
END_LASTS = timedelta(hours=3)
"""At least: whoever has their telephone off learns of the end too."""

TO_DO = {
    # What to do, where a source says nothing of it: the first of its response types that is here.
    cap.ResponseType.EVACUATE: "lascia la zona con calma e segui le indicazioni della protezione civile.",
    cap.ResponseType.SHELTER: "resta in casa, chiudi porte e finestre e attendi nuove indicazioni.",
    cap.ResponseType.AVOID: "evita la zona e non avvicinarti.",
    cap.ResponseType.EXECUTE: "segui le istruzioni già ricevute.",
    cap.ResponseType.PREPARE: "preparati, limita gli spostamenti e segui gli aggiornamenti.",
    cap.ResponseType.MONITOR: "tieniti informato e segui gli aggiornamenti.",
    cap.ResponseType.ASSESS: "presta attenzione e segui gli aggiornamenti.",
}
OTHERWISE = "presta attenzione e segui gli aggiornamenti."


def source_of(reference: cap.Reference) -> cap.NamedValue:
    """Which message of others a message of ours comes from."""
    return cap.NamedValue("it.fonte", f"{reference.sender},{reference.identifier},{reference.sent.isoformat()}")


# ── the weather of a whole comune ───────────────────────────────────────────────────────────────────


def of_outlook(
    trend: Trend,
    holds: Outlook,
    told: Outlook,
    authority: Authority,
    source: Source,
    where: Where,
    now: datetime,
    updates: cap.Alert | None,
    instruction: str = "",
) -> cap.Alert:
    """One message for all risks and days that hold now; `instruction` where a nearer source has a better one."""
    said, left = words(trend, holds, told, now), remaining(holds, now)
    colour = gravest(left)
    until = max((span.ends for span in left or remaining(told, now)), default=now)
    risks = dict.fromkeys(span.risk.value for span in left)
    info = cap.Info(
        category=(cap.Category.MET,),
        event=f"allerta meteo {colour.value}" if colour else "fine allerta meteo",
        response_type=(cap.ResponseType.PREPARE if colour else cap.ResponseType.ALL_CLEAR,),
        urgency=cap.Urgency.EXPECTED if colour else cap.Urgency.PAST,
        severity=SEVERITY_OF[colour] if colour else cap.Severity.MINOR,
        certainty=cap.Certainty.LIKELY,
        onset=min((span.starts for span in left), default=None),
        expires=until if colour else max(until, now + END_LASTS),
        sender_name=authority.name,
        headline=said.headline,
        description=_with_source(said.description, source),
        instruction=instruction if instruction and colour else said.instruction,
        contact=authority.contact.in_words,
        parameters=(
            cap.NamedValue("it.tipo", Kind.ALLERTA_METEO.value),
            *((cap.NamedValue("it.colore", colour.value),) if colour else ()),
            *(cap.NamedValue("it.rischio", risk) for risk in risks),
            *(cap.NamedValue("it.previsione", to_parameter(span)) for span in left),
        ),
        areas=areas_in(where, authority),
    )
    return _message((info,), authority, source, now, updates)


# ── anything else ───────────────────────────────────────────────────────────────────────────────────


def of_infos(
    infos: tuple[cap.Info, ...],
    message: cap.Alert,
    meaning: Meaning,
    authority: Authority,
    source: Source,
    where: Where,
    now: datetime,
    updates: cap.Alert | None,
) -> cap.Alert:
    """The first info in the comune's name, and the others as its translations. Cut to what the channels take."""
    own = tuple(_in_own_name(info, message, meaning, authority, source, where, now) for info in infos)
    alert = _message(own, authority, source, now, updates)
    over = max(over_by(alert, authority).values(), default=0)
    if over <= 0:
        return alert
    # The instruction stays whole as long as it can: people can do without the explanation.
    first = own[0]
    description = shortened(first.description, max(LEAST, len(first.description) - over))
    over -= len(first.description) - len(description)
    instruction = (
        shortened(first.instruction, max(LEAST, len(first.instruction) - over)) if over > 0 else first.instruction
    )
    shorter = replace(first, description=description, instruction=instruction)
    return _message((shorter,), authority, source, now, updates)


def use_of(info: cap.Info, nearness: Nearness) -> tuple[bool, int, int]:
    """How useful an info's instruction is: one that says something, then the nearer source's, then the fuller."""
    return bool(info.instruction.strip()), nearness, len(info.instruction)


def _in_own_name(
    info: cap.Info,
    message: cap.Alert,
    meaning: Meaning,
    authority: Authority,
    source: Source,
    where: Where,
    now: datetime,
) -> cap.Info:
    headline = cleaned(info.headline, LONGEST_HEADLINE) or cleaned(info.event, LONGEST_HEADLINE)
    to_do = next((TO_DO[response] for response in info.response_type if response in TO_DO), OTHERWISE)
    ends = min(message.ends(info), now + source.longest)
    if cap.ResponseType.ALL_CLEAR in info.response_type:
        ends = max(ends, now + END_LASTS)
    onset = info.onset or info.effective
    parameters = [("it.tipo", meaning.kind), ("it.colore", meaning.colour), ("it.rischio", meaning.risk)]
    return replace(
        info,
        event=cleaned(info.event, LONGEST_HEADLINE) or DEFAULTS[meaning.kind].event,
        headline=headline,
        description=_with_source(cleaned(info.description, LONGEST), source),
        instruction=cleaned(info.instruction, LONGEST) or to_do,
        audience="",
        event_codes=(),
        effective=None,
        onset=onset if onset and onset < ends else None,
        expires=ends,
        sender_name=authority.name,
        contact=authority.contact.in_words,
        web="",
        parameters=(
            *(cap.NamedValue(name, value.value) for name, value in parameters if value),
            source_of(message.reference),
        ),
        resources=(),
        areas=areas_in(where, authority),
    )


def _message(
    infos: tuple[cap.Info, ...], authority: Authority, source: Source, now: datetime, updates: cap.Alert | None
) -> cap.Alert:
    return cap.Alert(
        identifier=new_identifier(authority, now),
        sender=authority.sender,
        sent=now.replace(microsecond=0),
        status=cap.Status.ACTUAL,
        msg_type=cap.MsgType.UPDATE if updates else cap.MsgType.ALERT,
        infos=infos,
        source=source.title,
        references=references_of(updates) if updates else (),
    )


def _with_source(text: str, source: Source) -> str:
    return f"{text} (Fonte: {source.title})".strip()
