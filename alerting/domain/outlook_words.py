"""The allerta meteo in plain Italian: what comes, when, what it may do to you, what to do.

Citizens read it once, perhaps the next morning: each time has its day. One text tells all risks and days, and all the
words are ours: nothing of the bulletin's own goes out.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from itertools import groupby, pairwise
from typing import assert_never

from alerting.domain.kinds import Colour, Risk
from alerting.domain.outlook import GRAVITY, SLACK, Outlook, Span, Trend, excess, gravest, outlook, remaining
from alerting.domain.rendering import DAYS, MONTHS, ROME, in_words, is_midnight, until_in_words

LONGEST_HEADLINE = 160
"""CAP 1.2 asks for no more."""

LONGEST = 750
"""Headline, description and instruction together. The rest of WhatsApp's 1024 is the sender, the place and the time."""

SHORT = {
    # Beside the headline, which has the risk in full.
    Risk.IDRAULICO: "fiumi e canali",
    Risk.IDROGEOLOGICO: "frane e torrenti",
    Risk.TEMPORALI: "temporali",
    Risk.VENTO: "vento",
    Risk.NEVE: "neve",
    Risk.GHIACCIO: "ghiaccio",
    Risk.MAREGGIATE: "mareggiate",
}

EFFECTS = {
    # What each colour means on the ground, after the national table of scenarios, in words of our own.
    (Risk.IDRAULICO, Colour.GIALLA): "Fiumi e canali possono salire e allagare le strade più basse.",
    (Risk.IDRAULICO, Colour.ARANCIONE): "I fiumi possono uscire dagli argini e allagare case e strade.",
    (Risk.IDRAULICO, Colour.ROSSA): "I fiumi possono rompere gli argini e allagare interi quartieri.",
    (Risk.IDROGEOLOGICO, Colour.GIALLA): "Possibili piccole frane e allagamenti di sottopassi e cantine.",
    (Risk.IDROGEOLOGICO, Colour.ARANCIONE): "Possibili frane e allagamenti diffusi, con pericolo per le persone.",
    (Risk.IDROGEOLOGICO, Colour.ROSSA): "Frane e torrenti in piena possono travolgere strade e case.",
    (Risk.TEMPORALI, Colour.GIALLA): "Possibili fulmini, grandine, raffiche e allagamenti improvvisi.",
    (Risk.TEMPORALI, Colour.ARANCIONE): "Possibili temporali violenti: alberi abbattuti, allagamenti rapidi.",
    (Risk.VENTO, Colour.GIALLA): "Il vento può far cadere rami, vasi e tegole.",
    (Risk.VENTO, Colour.ARANCIONE): "Il vento può abbattere alberi e interrompere strade e corrente.",
    (Risk.VENTO, Colour.ROSSA): "Il vento può abbattere molti alberi e scoperchiare tetti.",
    (Risk.NEVE, Colour.GIALLA): "La neve può rallentare il traffico.",
    (Risk.NEVE, Colour.ARANCIONE): "La neve può bloccare strade e togliere la corrente.",
    (Risk.NEVE, Colour.ROSSA): "La neve può isolare paesi e case per più giorni.",
    (Risk.GHIACCIO, Colour.GIALLA): "Strade e marciapiedi possono ghiacciare.",
    (Risk.GHIACCIO, Colour.ARANCIONE): "Ghiaccio esteso: strade e marciapiedi pericolosi.",
    (Risk.GHIACCIO, Colour.ROSSA): "Ghiaccio ovunque: molte strade impraticabili.",
    (Risk.MAREGGIATE, Colour.GIALLA): "Le onde possono coprire moli e spiagge.",
    (Risk.MAREGGIATE, Colour.ARANCIONE): "Le onde possono allagare lungomare e strade costiere.",
    (Risk.MAREGGIATE, Colour.ROSSA): "Le onde possono distruggere stabilimenti e allagare case.",
}

TO_DO = {
    (Risk.IDRAULICO, Colour.GIALLA): "Non fermarti vicino a fiumi e canali.",
    (Risk.IDRAULICO, Colour.ARANCIONE): "Stai lontano da argini e ponti; sposta per tempo auto e cose dai punti bassi.",
    (Risk.IDRAULICO, Colour.ROSSA): "Resta ai piani alti; non andare su argini e ponti, non usare l'auto.",
    (Risk.IDROGEOLOGICO, Colour.GIALLA): "Evita i sottopassi e le strade lungo i fossi.",
    (Risk.IDROGEOLOGICO, Colour.ARANCIONE): "Non entrare in sottopassi e cantine; stai lontano da fossi e pendii.",
    (Risk.IDROGEOLOGICO, Colour.ROSSA): "Resta in casa, ai piani alti, lontano da fossi e pendii.",
    (Risk.TEMPORALI, Colour.GIALLA): "Con i fulmini resta al chiuso, lontano dagli alberi.",
    (Risk.TEMPORALI, Colour.ARANCIONE): "Resta al chiuso, lontano dagli alberi; rinvia gli spostamenti.",
    (Risk.VENTO, Colour.GIALLA): "Metti al riparo vasi e tende.",
    (Risk.VENTO, Colour.ARANCIONE): "Evita parchi e alberi; metti al riparo vasi e tende.",
    (Risk.VENTO, Colour.ROSSA): "Resta in casa, lontano dalle finestre.",
    (Risk.NEVE, Colour.GIALLA): "In auto usa gomme da neve o catene.",
    (Risk.NEVE, Colour.ARANCIONE): "Non usare l'auto se non è indispensabile.",
    (Risk.NEVE, Colour.ROSSA): "Resta in casa con acqua, cibo e medicine.",
    (Risk.GHIACCIO, Colour.GIALLA): "Cammina e guida piano.",
    (Risk.GHIACCIO, Colour.ARANCIONE): "Non usare moto e bici; esci solo se serve.",
    (Risk.GHIACCIO, Colour.ROSSA): "Resta in casa; non metterti in viaggio.",
    (Risk.MAREGGIATE, Colour.GIALLA): "Non camminare su moli e scogli.",
    (Risk.MAREGGIATE, Colour.ARANCIONE): "Stai lontano da spiagge, moli e lungomare.",
    (Risk.MAREGGIATE, Colour.ROSSA): "Stai lontano dalla costa; sali ai piani alti.",
}

AFTERWARDS = "Puoi riprendere le attività normali. Attenzione dove ci sono ancora acqua, fango o rami a terra."


@dataclass(frozen=True, slots=True)
class Said:
    """What an alert says, as CAP divides it."""

    headline: str
    description: str
    instruction: str

    @property
    def characters(self) -> int:
        """UTF-16 units of all three, which is how providers count."""
        return sum(len(part.encode("utf-16-le")) // 2 for part in (self.headline, self.description, self.instruction))


def words(trend: Trend, holds: Outlook, told: Outlook, now: datetime) -> Said:
    """What people who were told `told` are to read now that `holds` is forecast; `trend` is `change` of the three.

    It always fits `LONGEST`. Where not everything does, the effects of the least grave go first, then hours become
    days, each in its gravest colour: a text that is too short to be exact errs to the grave side.
    Raises ValueError when there is nothing to say: nothing held, or for an end nothing told.
    """
    told_left, left = remaining(told, now), remaining(holds, now)
    if not (told_left if trend is Trend.ENDED else left):
        raise ValueError(f"there is nothing to say of a change called {trend}: nothing is left at {now.isoformat()}")
    if trend is Trend.ENDED:
        return _end(told_left, now)
    headline = _headline(trend, left, told_left, excess(holds, told, now), now)
    return _fitted(headline, left, _gone(left, told_left))


# ── headlines ───────────────────────────────────────────────────────────────────────────────────────


def _headline(trend: Trend, left: Outlook, told_left: Outlook, more: Outlook, now: datetime) -> str:
    match trend:
        case Trend.NEW:
            return _new(left, now)
        case Trend.UPGRADE:
            return _upgrade(left, told_left, now)
        case Trend.EXTENDED:
            return _extended(left, told_left, more)
        case Trend.DOWNGRADE:
            return _downgrade(left, told_left)
        case Trend.ENDED:
            raise ValueError("an end has a text of its own")
        case _:
            assert_never(trend)


def _new(left: Outlook, now: datetime) -> str:
    top = _gravest(left)
    allerta = f"Allerta {top.value}"
    return _shortest_that_fits(allerta, _risks(left, top), _from_when(left, top, now))


def _upgrade(left: Outlook, told_left: Outlook, now: datetime) -> str:
    top = _gravest(left)
    rises = f"L'allerta sale da {_gravest(told_left).value} {_to(top)}"
    return _shortest_that_fits(rises, _risks(left, top), _from_when(left, top, now))


def _extended(left: Outlook, told_left: Outlook, more: Outlook) -> str:
    top = _gravest(more)
    longer = _of(more, top)
    until, starts = _end_of(longer), _start_of(longer)
    risks, stays = _risks(more, top), _stays(left, top)
    before, after = _gravest(told_left), _gravest(left)
    if GRAVITY[after] < GRAVITY[before]:
        falls = f"L'allerta scende da {before.value} {_to(after)}, ora"
        return _shortest_that_fits(
            falls, _risks(left, after), f" fino alle {until_in_words(_end_of(_of(left, after)))}"
        )
    if until - _end_of(told_left) >= SLACK:
        when = f" fino alle {until_in_words(until)}"
        return _shortest_that_fits("L'allerta continua,", f"{top.value}{risks}", when, stays)
    known = {span.risk for span in told_left}
    if starts < _start_of(told_left) and all(span.risk in known for span in longer):
        return _shortest_that_fits(f"L'allerta {top.value} comincia prima", risks, f" dalle {in_words(starts)}", stays)
    # A risk nobody was told of, or one that rises to where another is.
    also = "anche" if known & {span.risk for span in left} else "ora"
    return _shortest_that_fits(f"Allerta {top.value} {also}", risks, "", stays)


def _stays(left: Outlook, said: Colour) -> str:
    """What is added must not be read as if something graver were over."""
    top = _gravest(left)
    return f"; resta {top.value} fino alle {until_in_words(_end_of(_of(left, top)))}" if top is not said else ""


def _downgrade(left: Outlook, told_left: Outlook) -> str:
    before, after = _gravest(told_left), _gravest(left)
    falls = f"L'allerta scende da {before.value} {_to(after)}" if before is not after else "L'allerta si riduce"
    stays = "resta" if before is not after else f"resta {after.value}"
    until = f" fino alle {until_in_words(_end_of(left))}"
    return _shortest_that_fits(f"{falls}: {stays}", _risks(left, None if before is not after else after), until)


def _end(told_left: Outlook, now: datetime) -> Said:
    colours = {colour for _, colour in _ranked(told_left)}
    allerta = f"Fine dell'allerta {colours.pop().value}" if len(colours) == 1 else "Fine dell'allerta"
    return Said(
        _shortest_that_fits(allerta, _risks(told_left, None), ""),
        f"L'allerta annunciata fino alle {until_in_words(_end_of(told_left))} è finita alle {in_words(now)}: "
        "non sono più previsti pericoli.",
        AFTERWARDS,
    )


def _shortest_that_fits(what: str, risks: str, when: str, stays: str = "") -> str:
    """All of it, or without the time, or with fewer words for the risks; what stays is never left out."""
    spaced, few = f"{what} {risks.strip()}", f"{what} per più rischi"
    for headline in (spaced + when + stays, spaced + stays, few + when + stays, few + stays):
        if len(headline) <= LONGEST_HEADLINE:
            return headline
    return what


def _of(held: Outlook, colour: Colour) -> Outlook:
    return tuple(span for span in held if span.colour is colour)


def _risks(held: Outlook, colour: Colour | None) -> str:
    """` per temporali forti e per neve`: the risks of a colour, or all of them."""
    named = dict.fromkeys(span.risk for span in held if colour is None or span.colour is colour)
    return " " + _listed([f"per {risk.in_words}" for risk in named])


def _from_when(held: Outlook, colour: Colour, now: datetime) -> str:
    """When the gravest colour begins, if that is not yet."""
    starts = _start_of(_of(held, colour))
    return f" dalle {in_words(starts)}" if starts - now >= SLACK else ""


def _to(colour: Colour) -> str:
    return f"ad {colour.value}" if colour is Colour.ARANCIONE else f"a {colour.value}"


# ── the whole text ──────────────────────────────────────────────────────────────────────────────────


def _fitted(headline: str, left: Outlook, gone: str) -> Said:
    """As exact as fits, then as many effects as fit, the gravest first."""
    ranked = _ranked(left)
    effects = list(dict.fromkeys(EFFECTS[pair] for pair in ranked))
    to_do = list(dict.fromkeys(TO_DO[pair] for pair in ranked))
    for periods in (_by_period(left), _by_day(left), _by_colour(left)):
        for kept in range(len(effects), 0, -1):
            said = Said(headline, _joined([*periods, gone, *effects[:kept]]), _joined(to_do))
            if said.characters <= LONGEST:
                return said
    return Said(headline, _joined([*_by_colour(left)[:1], *effects[:1]]), _joined(to_do[:3]))


def _gone(left: Outlook, told_left: Outlook) -> str:
    """The risks that people were told of and that are no longer expected."""
    still = {span.risk for span in left}
    gone = dict.fromkeys(span.risk for span in told_left if span.risk not in still)
    return f"Non vale più {_listed([f'per {SHORT[risk]}' for risk in gone])}." if gone else ""


def _ranked(left: Outlook) -> list[tuple[Risk, Colour]]:
    """Each risk once, in its gravest colour, the gravest first."""
    top = {risk: _gravest(spans) for risk, spans in groupby(left, key=lambda span: span.risk)}
    top = {risk: _written(risk, colour) for risk, colour in top.items()}
    return sorted(top.items(), key=lambda pair: -GRAVITY[pair[1]])


def _written(risk: Risk, colour: Colour) -> Colour:
    """Some risks have no red; whoever says red of them means the gravest there is."""
    return colour if (risk, colour) in EFFECTS else Colour.ARANCIONE


def _by_period(left: Outlook) -> list[str]:
    """A sentence for each stretch of time in which nothing changes."""
    edges = sorted({moment for span in left for moment in (span.starts, span.ends)})
    sentences = []
    for since, until in pairwise(edges):
        if held := [span for span in left if span.starts <= since and span.ends >= until]:
            sentences.append(f"{_capital(_stretch(since, until))}: {_colours(held)}.")
    return sentences


def _by_day(left: Outlook) -> list[str]:
    """A sentence for each day, every risk in the gravest colour it has in it."""
    sentences = []
    for midnight, next_midnight in _days(left):
        if held := _cut(left, midnight, next_midnight):
            sentences.append(f"{_capital(_day(midnight))}: {_colours(_flattened(held))}.")
    return sentences


def _by_colour(left: Outlook) -> list[str]:
    """One sentence for the whole, every risk in its gravest colour."""
    return [f"Dalle {in_words(_start_of(left))} alle {until_in_words(_end_of(left))}: {_colours(_flattened(left))}."]


def _colours(held: Iterable[Span]) -> str:
    """`arancione per fiumi e canali; gialla per temporali, neve`, the gravest first."""
    by_colour: dict[Colour, list[str]] = {}
    for risk, colour in sorted(((s.risk, s.colour) for s in held), key=lambda pair: -GRAVITY[pair[1]]):
        by_colour.setdefault(colour, []).append(SHORT[risk])
    return "; ".join(f"{colour.value} per {', '.join(risks)}" for colour, risks in by_colour.items())


def _flattened(held: Outlook) -> list[Span]:
    """Each risk over all its time in its gravest colour."""
    flat = []
    for _, spans in groupby(held, key=lambda span: span.risk):
        flat.append(max(spans, key=lambda span: GRAVITY[span.colour]))
    return flat


# ── times ───────────────────────────────────────────────────────────────────────────────────────────


def _stretch(since: datetime, until: datetime) -> str:
    """`venerdì 3 novembre`, `giovedì 2 novembre dalle 16:14 alle 24:00`, or from one day to another."""
    first, last = since.astimezone(ROME), (until - timedelta(microseconds=1)).astimezone(ROME)
    if first.date() == last.date():
        whole = first.time() == time() and is_midnight(until)
        hours = "" if whole else f" dalle {first:%H:%M} alle {_hours_until(until)}"
        return f"{_day(since)}{hours}"
    return f"dalle {in_words(since)} alle {until_in_words(until)}"


def _hours_until(moment: datetime) -> str:
    return "24:00" if is_midnight(moment) else f"{moment.astimezone(ROME):%H:%M}"


def _day(moment: datetime) -> str:
    there = moment.astimezone(ROME)
    return f"{DAYS[there.weekday()]} {there.day} {MONTHS[there.month - 1]}"


def _days(held: Outlook) -> Iterator[tuple[datetime, datetime]]:
    day = _start_of(held).astimezone(ROME).date()
    end = _end_of(held)
    while (midnight := datetime.combine(day, time(), ROME)) < end:
        day += timedelta(days=1)
        yield midnight, datetime.combine(day, time(), ROME)


def _cut(held: Outlook, since: datetime, until: datetime) -> Outlook:
    return outlook(
        Span(span.risk, span.colour, max(span.starts, since), min(span.ends, until))
        for span in held
        if span.starts < until and span.ends > since
    )


def _start_of(held: Outlook) -> datetime:
    return min(span.starts for span in held)


def _end_of(held: Outlook) -> datetime:
    return max(span.ends for span in held)


# ── sentences ───────────────────────────────────────────────────────────────────────────────────────


def _gravest(held: Iterable[Span]) -> Colour:
    top = gravest(held)
    if top is None:
        raise ValueError("nothing is held, so nothing is the gravest")
    return top


def _listed(parts: list[str]) -> str:
    return " e ".join([", ".join(parts[:-1]), parts[-1]]) if len(parts) > 1 else "".join(parts)


def _joined(sentences: Iterable[str]) -> str:
    return " ".join(sentence for sentence in sentences if sentence)


def _capital(sentence: str) -> str:
    return sentence[0].upper() + sentence[1:]
