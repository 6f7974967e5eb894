"""The words of an allerta meteo: all that people need, in Italian they understand, within the length of a text."""

import re
from datetime import datetime, timedelta
from itertools import product
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alerting.domain.cap import Alert, Area, Category, Certainty, Info, MsgType, Severity, Status, Urgency
from alerting.domain.delivery import Channel
from alerting.domain.kinds import WITHOUT_RED, Colour, Risk
from alerting.domain.outlook import GRAVITY, Outlook, Span, Trend, change, outlook, remaining
from alerting.domain.outlook_words import EFFECTS, LONGEST, LONGEST_HEADLINE, SHORT, TO_DO, Said, words
from alerting.domain.rendering import ROME, fits, render

GIALLA, ARANCIONE, ROSSA = Colour.GIALLA, Colour.ARANCIONE, Colour.ROSSA
NATIONAL = (Risk.IDRAULICO, Risk.IDROGEOLOGICO, Risk.TEMPORALI)

# The longest names a day and a month can have.
NOW = datetime(2025, 9, 23, 15, 31, tzinfo=ROME)
MIDNIGHTS = [datetime(2025, 9, 23 + n, tzinfo=ROME) for n in range(4)]


def day(risk: Risk, colour: Colour, n: int) -> Span:
    """A whole day; the first from the bulletin on."""
    return Span(risk, colour, max(NOW, MIDNIGHTS[n]), MIDNIGHTS[n + 1])


def every_bulletin() -> list[Outlook]:
    """Each risk in each colour or none, today and tomorrow: all that one zone of a national bulletin can say."""
    scales = [[None, *(c for c in Colour if c is not ROSSA or risk not in WITHOUT_RED)] for risk in NATIONAL]
    return [
        outlook(
            day(risk, colour, n)
            for n, colours in enumerate((today, tomorrow))
            for risk, colour in zip(NATIONAL, colours, strict=True)
            if colour
        )
        for today, tomorrow in product(product(*scales), repeat=2)
    ]


BULLETINS = every_bulletin()

SPANS = st.builds(
    lambda risk, colour, start, length: Span(
        risk,
        colour if risk not in WITHOUT_RED else min(colour, ARANCIONE, key=GRAVITY.__getitem__),
        NOW + timedelta(minutes=start),
        NOW + timedelta(minutes=start + length),
    ),
    st.sampled_from(list(Risk)),
    st.sampled_from(list(Colour)),
    st.integers(-600, 4000),
    st.integers(1, 3000),
)
OUTLOOKS = st.lists(SPANS, max_size=30).map(outlook)


def said(told: Outlook, holds: Outlook, now: datetime = NOW) -> Said | None:
    trend = change(told, holds, now)
    return words(trend, holds, told, now) if trend else None


def telling(said: Said, starts: datetime, ends: datetime) -> Alert:
    info = Info(
        category=(Category.MET,),
        event="allerta meteo",
        urgency=Urgency.EXPECTED,
        severity=Severity.EXTREME,
        certainty=Certainty.LIKELY,
        onset=starts,
        expires=ends,
        headline=said.headline,
        description=said.description,
        instruction=said.instruction,
        sender_name="Comune di Santa Fiora",
        contact="0564 965301",
        web="https://www.comune.santafiora.gr.it",
        areas=(Area("Comune di Santa Fiora"),),
    )
    return Alert("1", "protezionecivile@comune.santafiora.gr.it", NOW, Status.ACTUAL, MsgType.UPDATE, (info,))


# ── what is said ────────────────────────────────────────────────────────────────────────────────────


def test_one_text_says_all_risks_and_both_days() -> None:
    holds = outlook(
        [
            day(Risk.TEMPORALI, GIALLA, 0),
            day(Risk.IDROGEOLOGICO, GIALLA, 0),
            day(Risk.IDROGEOLOGICO, GIALLA, 1),
        ]
    )
    assert said((), holds) == Said(
        "Allerta gialla per frane e allagamenti da fossi e torrenti e per temporali forti",
        "Martedì 23 settembre dalle 15:31 alle 24:00: gialla per frane e torrenti, temporali. "
        "Mercoledì 24 settembre: gialla per frane e torrenti. "
        "Possibili piccole frane e allagamenti di sottopassi e cantine. "
        "Possibili fulmini, grandine, raffiche e allagamenti improvvisi.",
        "Evita i sottopassi e le strade lungo i fossi. Con i fulmini resta al chiuso, lontano dagli alberi.",
    )


@pytest.mark.parametrize(
    ("told", "holds", "headline"),
    [
        (
            (),
            (day(Risk.IDRAULICO, GIALLA, 0), day(Risk.IDRAULICO, ARANCIONE, 1)),
            "Allerta arancione per piena di fiumi e canali dalle 00:00 di mercoledì 24 settembre",
        ),
        (
            (day(Risk.IDRAULICO, GIALLA, 0),),
            (day(Risk.IDRAULICO, ARANCIONE, 0),),
            "L'allerta sale da gialla ad arancione per piena di fiumi e canali",
        ),
        (
            (day(Risk.IDRAULICO, GIALLA, 0),),
            (day(Risk.IDRAULICO, GIALLA, 0), day(Risk.IDRAULICO, ROSSA, 1)),
            "L'allerta sale da gialla a rossa per piena di fiumi e canali dalle 00:00 di mercoledì 24 settembre",
        ),
        (
            (day(Risk.IDRAULICO, ROSSA, 0),),
            (day(Risk.IDRAULICO, ROSSA, 0), day(Risk.IDRAULICO, ARANCIONE, 1)),
            "L'allerta continua, arancione per piena di fiumi e canali fino alle 24:00 di mercoledì 24 settembre; "
            "resta rossa fino alle 24:00 di martedì 23 settembre",
        ),
        (
            (day(Risk.IDRAULICO, ARANCIONE, 0),),
            (day(Risk.IDRAULICO, ARANCIONE, 0), day(Risk.TEMPORALI, GIALLA, 0)),
            "Allerta gialla anche per temporali forti; resta arancione fino alle 24:00 di martedì 23 settembre",
        ),
        (
            (day(Risk.IDRAULICO, GIALLA, 1),),
            (day(Risk.IDRAULICO, GIALLA, 0), day(Risk.IDRAULICO, GIALLA, 1)),
            "L'allerta gialla comincia prima per piena di fiumi e canali dalle 15:31 di martedì 23 settembre",
        ),
        (
            (day(Risk.IDRAULICO, ARANCIONE, 0), day(Risk.IDROGEOLOGICO, GIALLA, 0)),
            (day(Risk.IDRAULICO, ARANCIONE, 0), day(Risk.IDROGEOLOGICO, ARANCIONE, 0)),
            "Allerta arancione anche per frane e allagamenti da fossi e torrenti",
        ),
        (
            (day(Risk.IDRAULICO, ROSSA, 0), day(Risk.IDRAULICO, ROSSA, 1)),
            (day(Risk.IDRAULICO, GIALLA, 0),),
            "L'allerta scende da rossa a gialla: resta per piena di fiumi e canali fino alle 24:00 di "
            "martedì 23 settembre",
        ),
        (
            (day(Risk.IDRAULICO, GIALLA, 0), day(Risk.TEMPORALI, GIALLA, 0)),
            (day(Risk.IDRAULICO, GIALLA, 0),),
            "L'allerta si riduce: resta gialla per piena di fiumi e canali fino alle 24:00 di martedì 23 settembre",
        ),
        ((day(Risk.IDRAULICO, ARANCIONE, 1),), (), "Fine dell'allerta arancione per piena di fiumi e canali"),
        # Up for one risk and down for another: the headline hides neither.
        (
            (day(Risk.TEMPORALI, ARANCIONE, 0),),
            (day(Risk.IDRAULICO, GIALLA, 0), day(Risk.IDRAULICO, GIALLA, 1)),
            "L'allerta scende da arancione a gialla, ora per piena di fiumi e canali fino alle 24:00 di "
            "mercoledì 24 settembre",
        ),
        (
            (day(Risk.TEMPORALI, GIALLA, 0),),
            (day(Risk.IDRAULICO, GIALLA, 0),),
            "Allerta gialla ora per piena di fiumi e canali",
        ),
        (
            (day(Risk.IDRAULICO, ROSSA, 0), day(Risk.TEMPORALI, GIALLA, 0)),
            (),
            "Fine dell'allerta per piena di fiumi e canali e per temporali forti",
        ),
    ],
)
def test_each_change_is_said_as_such(told: Outlook, holds: Outlook, headline: str) -> None:
    text = said(outlook(told), outlook(holds))
    assert text
    assert text.headline == headline


def test_an_end_says_what_ended_when_and_that_life_goes_on() -> None:
    text = said((day(Risk.IDRAULICO, ARANCIONE, 1),), ())
    assert text == Said(
        "Fine dell'allerta arancione per piena di fiumi e canali",
        "L'allerta annunciata fino alle 24:00 di mercoledì 24 settembre è finita alle 15:31 di martedì 23 settembre: "
        "non sono più previsti pericoli.",
        "Puoi riprendere le attività normali. Attenzione dove ci sono ancora acqua, fango o rami a terra.",
    )


def test_a_risk_that_is_gone_is_said_to_be_gone() -> None:
    told = outlook([day(Risk.IDRAULICO, ARANCIONE, 0), day(Risk.TEMPORALI, GIALLA, 0)])
    text = said(told, (day(Risk.IDRAULICO, ARANCIONE, 0),))
    assert text
    assert "Non vale più per temporali." in text.description


def test_hours_of_a_region_are_said_as_hours() -> None:
    holds = outlook(
        [
            Span(Risk.IDRAULICO, ARANCIONE, MIDNIGHTS[1], MIDNIGHTS[1] + timedelta(hours=22)),
            Span(Risk.IDRAULICO, GIALLA, MIDNIGHTS[1] + timedelta(hours=22), MIDNIGHTS[2] + timedelta(hours=6)),
        ]
    )
    text = said((), holds)
    assert text
    assert text.description.startswith(
        "Mercoledì 24 settembre dalle 00:00 alle 22:00: arancione per fiumi e canali. "
        "Dalle 22:00 di mercoledì 24 settembre alle 06:00 di giovedì 25 settembre: gialla per fiumi e canali. "
    )


def test_a_day_of_twenty_five_hours_is_a_day() -> None:
    sunday, monday = datetime(2025, 10, 26, tzinfo=ROME), datetime(2025, 10, 27, tzinfo=ROME)
    text = said((), (Span(Risk.VENTO, GIALLA, sunday, monday),))
    assert text
    assert text.description.startswith("Domenica 26 ottobre: gialla per vento.")


def test_nothing_left_is_nothing_to_say() -> None:
    with pytest.raises(ValueError, match="nothing to say"):
        words(Trend.NEW, (), (), NOW)
    with pytest.raises(ValueError, match="nothing to say"):
        words(Trend.ENDED, (), (), NOW)


# ── what is never said ──────────────────────────────────────────────────────────────────────────────

JARGON = re.compile(
    r"criticit|reticol|idrogeolog|idraulic|\bzon[ae]\b|Tosc-|fenomen|ordinaria|moderata|elevata|oggi|domani|stasera"
    r"|stanotte|IT-alert",
    re.IGNORECASE,
)
GSM = set(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklm"
    "nopqrstuvwxyzäöñüà"
)
CAPITALS = re.compile(r"\b[A-ZÀ-Ú]{2,}\b")


def sound(text: Said, holds: Outlook) -> None:
    """What is true of every text we write."""
    whole = f"{text.headline} {text.description} {text.instruction}"
    assert text.characters <= LONGEST
    assert 0 < len(text.headline) <= LONGEST_HEADLINE
    assert text.description.endswith(".")
    assert text.instruction.endswith(".")
    assert not JARGON.search(whole)
    assert not CAPITALS.search(whole)
    assert set(whole) <= GSM, "one letter more would halve the length of an SMS"
    assert "  " not in whole
    assert " ." not in whole
    for colour in {span.colour for span in remaining(holds, NOW)}:
        assert colour.value in whole
    if holds:
        gravest = max((span.colour for span in holds), key=GRAVITY.__getitem__)
        assert gravest.value in text.headline, "nobody reads from a headline that something graver is over"


def test_every_zone_of_every_bulletin_fits_with_all_its_periods_effects_and_advice() -> None:
    for holds in BULLETINS:
        if not holds:
            continue
        text = said((), holds)
        assert text
        sound(text, holds)
        for risk in {span.risk for span in holds}:
            top = max((s.colour for s in holds if s.risk is risk), key=GRAVITY.__getitem__)
            assert TO_DO[risk, top] in text.instruction
            assert EFFECTS[risk, top] in text.description
        ends = max(span.ends for span in holds)
        assert fits(render(telling(text, NOW, ends)), Channel.WHATSAPP)


def test_every_change_from_one_bulletin_to_another_fits() -> None:
    """Of the five million pairs, four thousand, always the same."""
    chance = Random(20250923)
    seen = set()
    for _ in range(4000):
        told, holds = chance.choice(BULLETINS), chance.choice(BULLETINS)
        trend = change(told, holds, NOW)
        if trend is None:
            continue
        seen.add(trend)
        text = words(trend, holds, told, NOW)
        sound(text, holds)
        assert fits(render(telling(text, NOW, MIDNIGHTS[2])), Channel.WHATSAPP)
    assert seen >= {Trend.NEW, Trend.UPGRADE, Trend.EXTENDED, Trend.DOWNGRADE, Trend.ENDED} - {Trend.NEW, Trend.ENDED}


@settings(max_examples=300)
@given(OUTLOOKS, OUTLOOKS)
def test_seven_risks_hour_by_hour_still_fit_one_text(told: Outlook, holds: Outlook) -> None:
    text = said(told, holds)
    if text is None:
        return
    assert text.characters <= LONGEST
    assert 0 < len(text.headline) <= LONGEST_HEADLINE
    assert text.instruction
    assert not JARGON.search(text.headline + text.description + text.instruction)
    if left := remaining(holds, NOW):
        gravest = max((span.colour for span in left), key=GRAVITY.__getitem__)
        assert gravest.value in text.description, "whatever is left out, never the gravest colour"


def test_each_risk_and_colour_has_its_effects_and_its_advice() -> None:
    there_is = {(risk, colour) for risk in Risk for colour in Colour if not (risk in WITHOUT_RED and colour is ROSSA)}
    assert set(EFFECTS) == set(TO_DO) == there_is
    assert set(SHORT) == set(Risk)


def test_red_thunderstorms_read_as_the_gravest_there_is() -> None:
    text = words(Trend.NEW, (day(Risk.TEMPORALI, ROSSA, 0),), (), NOW)
    assert EFFECTS[Risk.TEMPORALI, ARANCIONE] in text.description
