"""What a desk makes of a citizen's words, and of any sequence of them; what two reports of one hole look like."""

from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerting.authorities import load
from alerting.domain import keywords
from alerting.domain.delivery import Channel
from alerting.domain.desk import (
    APPOINTMENT,
    AWAITED,
    AskOffice,
    Book,
    CancelBooking,
    Conversation,
    Desk,
    DeskTexts,
    Expects,
    Explain,
    File,
    Handing,
    NoSuchChoice,
    NotOpen,
    OfferSlots,
    OnlyPhotos,
    Reported,
    ReportState,
    Said,
    advance,
    are_alike,
    category_of,
    decide,
    filled,
    handed,
    in_template,
    metres,
    office_of,
    place_in,
    street_in,
)
from geo.shapes import Point

SANTA_FIORA = load()["santa-fiora"]
NOW = datetime(2026, 11, 26, 9, 0, tzinfo=UTC)


def desk_of() -> Desk:
    assert SANTA_FIORA.desk is not None
    return SANTA_FIORA.desk


DESK = desk_of()


@pytest.mark.parametrize(
    ("said", "category"),
    [
        ("Buca in via Roma", "buche"),
        ("ci sono delle BUCHE enormi!!", "buche"),
        ("il lampione davanti al bar non va", "luci"),
        ("siamo al buio da ieri", "luci"),
        ("zona industriale allagata", "acqua"),
        ("perdita d'acqua", "acqua"),
        ("un ramo sulla strada, e l'albero è pericolante", "verde"),
        ("cassoneto rovesciato", "rifiuti"),  # a slip
        ("il sindaco è bravo", None),
        ("", None),
    ],
)
def test_a_category_is_recognised_by_its_words(said: str, category: str | None) -> None:
    assert category_of(said, DESK) == category


@pytest.mark.parametrize(
    ("said", "street"),
    [
        ("Buca in via Roma davanti alla scuola", "via Roma"),
        ("buca in Via di San Rocco 12", "via di San Rocco"),
        ("lampione spento, p.za Garibaldi", "piazza Garibaldi"),
        ("via Marconi, angolo via Roma", "via Marconi"),
        ("la strada è rotta", None),
        ("portate via i rifiuti", "via i rifiuti"),  # no harm: it is shown to the staff, beside the words
        ("via", None),
    ],
)
def test_a_street_is_read_as_it_was_written(said: str, street: str | None) -> None:
    assert street_in(said) == street


def test_a_frazione_is_found_by_its_whole_name() -> None:
    names = [area.name for area in SANTA_FIORA.territory.frazioni]
    assert place_in("buca a bagnolo", names) == "Bagnolo"
    assert place_in("buca a Bagnolone", names) is None


def test_an_office_is_found_by_what_people_want_there() -> None:
    assert office_of("appuntamento per la carta d'identità", DESK) == "anagrafe"
    assert office_of("appuntamento ufficio tecnico", DESK) == "tecnico"
    assert office_of("appuntamento", DESK) is None


# ── one hole, reported twice ────────────────────────────────────────────────────────────────────────

HOLE = Reported(1, "buche", NOW, "via Roma", None, Point(42.8400, 11.6150))


def test_a_hundred_metres_are_one_place_and_three_hundred_are_not() -> None:
    near, far = Point(42.8407, 11.6150), Point(42.8427, 11.6150)
    assert 70 < metres(Point(42.8400, 11.6150), near) < 90
    fortnight = timedelta(days=14)
    assert are_alike(HOLE, replace(HOLE, number=2, point=near, street="via Marconi"), fortnight)
    assert not are_alike(HOLE, replace(HOLE, number=2, point=far), fortnight)


def test_without_a_position_the_street_decides_within_one_frazione_and_for_some_days() -> None:
    other = replace(HOLE, number=2, point=None, street="Via  ROMA")
    fortnight = timedelta(days=14)
    assert are_alike(HOLE, other, fortnight)
    assert not are_alike(replace(HOLE, frazione="Selva"), replace(other, frazione="Bagnolo"), fortnight)
    assert not are_alike(HOLE, replace(other, opened_at=NOW + timedelta(days=15)), fortnight)
    assert not are_alike(HOLE, replace(other, category="luci"), fortnight)
    assert not are_alike(HOLE, replace(other, street=None), fortnight)
    assert not are_alike(HOLE, HOLE, fortnight)


# ── states ──────────────────────────────────────────────────────────────────────────────────────────


@given(st.sampled_from(ReportState), st.sampled_from(ReportState))
def test_what_is_closed_stays_so_and_nothing_becomes_new_again(now: ReportState, to: ReportState) -> None:
    if now.is_closed or (to is ReportState.NEW and now is not ReportState.NEW):
        with pytest.raises(NotOpen):
            advance(1, now, to)
    else:
        assert advance(1, now, to) is to


# ── conversations ───────────────────────────────────────────────────────────────────────────────────

TALKING = Conversation(wrote_at=NOW, report=7, category="buche")
CHOOSING = Conversation(expects=Expects.SLOT, choices=3, asked_at=NOW)


@pytest.mark.parametrize(
    ("said", "deed"),
    [
        ("APPUNTAMENTO ANAGRAFE", OfferSlots("anagrafe")),
        ("Vorrei prenotare all'ufficio tecnico", OfferSlots("tecnico")),
        ("appuntamento", AskOffice()),
        ("DISDICI", CancelBooking()),
        ("disdici 2", CancelBooking(2)),
        ("vorrei annullare l'appuntamento", CancelBooking()),
        ("annulla la multa", File(None, None, asks=True)),
        ("Avevo un appuntamento ieri alle nove e nessuno mi ha aperto la porta", File(None, None, asks=True)),
        ("grazie mille", Explain()),
        ("3", File(None, None, asks=True)),
        ("Buca in via Roma", File(None, "buche")),
    ],
)
def test_a_first_text_is_a_command_or_a_report(said: str, deed: object) -> None:
    assert decide(Conversation(), Said(said), NOW, DESK) == deed


@pytest.mark.parametrize(
    ("said", "deed"),
    [
        ("1", Book(1)),
        ("il secondo, grazie", Book(2)),
        ("va bene la 3", Book(3)),
        ("4", NoSuchChoice()),
        ("altri", OfferSlots("", more=True)),
        ("Buca in via Roma", File(None, "buche")),
    ],
)
def test_of_slots_one_is_chosen_by_its_number(said: str, deed: object) -> None:
    assert decide(CHOOSING, Said(said), NOW + timedelta(minutes=5), DESK) == deed
    late = decide(CHOOSING, Said("1"), NOW + timedelta(minutes=31), DESK)
    assert isinstance(late, File)


def test_what_follows_within_half_an_hour_belongs_to_it_and_what_comes_later_does_not() -> None:
    photo = Said(photo=True)
    assert decide(TALKING, photo, NOW + timedelta(minutes=30), DESK) == File(7)
    assert decide(TALKING, photo, NOW + timedelta(minutes=31), DESK) == File(None, None, asks=True)


def test_who_was_asked_something_answers_days_later_unless_it_is_another_matter() -> None:
    asked = replace(TALKING, awaited=7)
    later = NOW + timedelta(days=3)
    assert decide(asked, Said("davanti al 12"), later, DESK) == File(7)
    assert decide(asked, Said("lampione rotto"), later, DESK) == File(None, "luci")


def test_a_voice_note_is_told_from_a_picture() -> None:
    assert decide(Conversation(), Said(unreadable=True), NOW, DESK) == OnlyPhotos()


SAID = st.builds(
    Said,
    text=st.sampled_from(["Buca in via Roma", "APPUNTAMENTO", "DISDICI", "2", "grazie", ""]) | st.text(max_size=60),
    photo=st.booleans(),
    point=st.none() | st.just(Point(42.84, 11.61)),
    unreadable=st.booleans(),
)
CONVERSATION = st.builds(
    Conversation,
    wrote_at=st.none() | st.just(NOW),
    report=st.none() | st.just(7),
    category=st.none() | st.just("buche"),
    awaited=st.none() | st.just(7),
    expects=st.sampled_from(Expects),
    choices=st.integers(0, 3),
    asked_at=st.none() | st.just(NOW),
)


@given(CONVERSATION, SAID, st.timedeltas(timedelta(0), timedelta(days=9)))
def test_whatever_somebody_sends_is_kept_or_was_a_command(
    conversation: Conversation, said: Said, later: timedelta
) -> None:
    deed = decide(conversation, said, NOW + later, DESK)
    words = set(keywords.fold(said.text))
    match deed:
        case File(report, category):
            assert report in (None, conversation.report, conversation.awaited)
            assert category is None or DESK.category(category)
        case Explain() | OnlyPhotos():
            assert not (said.photo or said.point)
            assert words <= keywords.POLITENESS
        case Book(choice):
            assert 0 < choice <= conversation.choices
        case CancelBooking() | OfferSlots() | AskOffice() | NoSuchChoice():
            assert not said.photo and said.point is None
            assert words & APPOINTMENT or len(words) <= 12


@given(st.sampled_from(["join", "leave", "help", "listplaces"]), st.text(max_size=80))
def test_joining_leaving_and_help_are_never_the_desks(meaning: str, text: str) -> None:
    assert handed(meaning, text, DESK, is_talking=True) is Handing.NOT


@pytest.mark.parametrize(
    ("said", "how"),
    [
        ("Buca in via Roma", Handing.ANSWER),
        ("zona industriale allagata", Handing.ANSWER),
        ("togliete zona e paletti", Handing.ANSWER),
        ("zona Bagnolo", Handing.NOT),
        ("zona Bagnollo", Handing.NOT),
        ("Cancellazione appuntamento di lunedì", Handing.ANSWER),
        ("non voglio più ricevere messaggi", Handing.QUIET),
        ("DISATTIVA COMUNE AMICO", Handing.NOT),
        ("ATTIVA COMUNE AMICO", Handing.NOT),
        ("DISDICI", Handing.ANSWER),
        ("2", Handing.ANSWER),
    ],
)
def test_who_answers_is_told_from_the_words(said: str, how: Handing) -> None:
    meaning = keywords.understand(said, SANTA_FIORA.keywords)
    assert handed(type(meaning).__name__.lower(), said, DESK) is how


# ── texts ───────────────────────────────────────────────────────────────────────────────────────────


def test_every_text_is_the_comunes_own_and_short_enough() -> None:
    for field in fields(DeskTexts):
        text = getattr(DESK.texts, field.name)
        assert text.startswith(SANTA_FIORA.name), field.name
        assert "{name}" not in text


def test_what_people_write_is_never_read_for_braces() -> None:
    said = filled(DESK.texts.answer, numero="3", parole="{numero} e {scelte}")
    assert said.endswith("n. 3: {numero} e {scelte}")
    assert "  " not in filled(DESK.texts.solved, numero="3", parole="")


def test_a_template_takes_one_line_and_nothing_empty() -> None:
    assert SANTA_FIORA.channel(Channel.WHATSAPP)
    words = in_template("Veniamo domani.\n\nA presto\tda tutti     noi")
    assert len(words) == 5
    assert all(one and "\n" not in one and "\t" not in one and "     " not in one for one in words)


def test_no_text_awaits_what_nobody_fills_in() -> None:
    known = {field.name for field in fields(DeskTexts)}
    assert {key for keys in AWAITED.values() for key in keys} <= known
