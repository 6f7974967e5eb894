"""What becomes of a citizen's places by what they wrote; and what they are told is known of them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerting.authorities import load
from alerting.domain import keywords, places
from alerting.domain.authority import LONGEST_TEXT, ROOM_FOR_PLACES, Authority, Territory, filled
from alerting.domain.places import Decision, Forget, Keep, Outside, Said, Tell, Unknown, Which, decide, in_words
from alerting.domain.recipients import Label, Place, Precision
from geo.areas import Area, AreaKind
from geo.shapes import Circle, Geofence, Point, Polygon
from tests.unit.geo_drawings import rectangle

COMUNI = load()
CALCINAIA = COMUNI["calcinaia"].territory
SANTA_FIORA = COMUNI["santa-fiora"].territory

each_comune = pytest.mark.parametrize("comune", COMUNI.values(), ids=lambda comune: comune.code)

IN_FORNACETTE, IN_NO_FRAZIONE, IN_PISA = Point(43.6720, 10.5900), Point(43.6850, 10.6400), Point(43.7160, 10.4019)


def frazione(code: str, label: Label = Label.CASA) -> Place:
    return Place(Precision.FRAZIONE, (f"calcinaia.{code}",), label=label)


HOME, WORK = frazione("fornacette"), frazione("capoluogo", Label.LAVORO)
EVERYTHING = Place(Precision.COMUNE, ("calcinaia",))
POINT = Place(Precision.ADDRESS, point=IN_FORNACETTE)


def said(words: str) -> Said:
    meaning = keywords.understand(words, COMUNI["calcinaia"].keywords)
    assert isinstance(meaning, keywords.Place | keywords.ForgetPlace | keywords.ListPlaces)
    return meaning


@pytest.mark.parametrize(
    ("words", "known", "decision"),
    [
        ("zona fornacete", [], Keep(HOME)),
        ("ZONA CASA Fornacette", [WORK], Keep(HOME)),
        ("zona lavoro capoluogo", [HOME], Keep(WORK)),
        ("zona dei miei: Fornacette", [], Keep(frazione("fornacette", Label.GENITORI))),
        ("zona Calcinaia", [POINT], Keep(EVERYTHING)),
        ("zona lavoro", [HOME], Tell()),
        ("zona", [], Tell()),
        ("zona Pontedera", [HOME], Unknown()),
        ("zona lavoro Pontedera", [HOME], Unknown()),
        ("togli zona lavoro", [HOME, WORK], Forget(Label.LAVORO)),
        ("togli zona Fornacette", [HOME, WORK], Forget(Label.CASA)),
        ("togli zona fornacete", [POINT, WORK], Forget(Label.CASA)),
        ("togli zona lavoro capoluogo", [HOME, WORK], Forget(Label.LAVORO)),
        ("togli zona lavoro Fornacette", [HOME, WORK], Tell()),
        ("togli zona", [WORK], Forget(Label.LAVORO)),
        ("togli zona", [HOME, WORK], Tell()),
        ("togli zona", [], Tell()),
        ("togli zona scuola", [HOME], Tell()),
        ("togli zona Pontedera", [HOME], Tell()),
        ("togli zona Calcinaia", [HOME], Tell()),
    ],
)
def test_what_a_text_does_to_the_places_known(words: str, known: list[Place], decision: Decision) -> None:
    assert decide(said(words), known, CALCINAIA) == decision


@pytest.mark.parametrize(
    ("point", "decision"),
    [
        (IN_FORNACETTE, Keep(POINT)),
        (IN_NO_FRAZIONE, Keep(Place(Precision.ADDRESS, point=IN_NO_FRAZIONE))),
        (IN_PISA, Outside()),
    ],
)
def test_a_position_is_kept_where_it_is_in_the_comune(point: Point, decision: Decision) -> None:
    assert decide(point, [], CALCINAIA) == decision


def test_a_name_that_fits_two_is_asked_for_under_its_label() -> None:
    bagnolo, bagnore = (SANTA_FIORA.gazetteer.by_code(f"santa-fiora.{code}") for code in ("bagnolo", "bagnore"))
    assert decide(said("zona bagnola"), [], SANTA_FIORA) == Which((bagnolo, bagnore), None)
    assert decide(said("zona lavoro bagnola"), [], SANTA_FIORA) == Which((bagnolo, bagnore), Label.LAVORO)


def drawn(*names: str) -> Territory:
    comune = Area("borgo", "Borgo", AreaKind.COMUNE, Geofence((Polygon(rectangle(43.6, 10.5, 43.8, 10.7)),)))
    circle = Geofence((Circle(Point(43.7, 10.6), 1),))
    return Territory(comune, tuple(Area(f"borgo.{n}", name, AreaKind.FRAZIONE, circle) for n, name in enumerate(names)))


def test_a_frazione_called_like_a_label_is_somebodys_home() -> None:
    borgo = drawn("Scuola", "Scuola Vecchia", "Fornacette")
    school, old_school, _ = (places.at(area, borgo) for area in borgo.frazioni)
    assert decide(said("zona scuola"), [], borgo) == Keep(school)
    assert decide(said("zona Scuola Vecchia"), [], borgo) == Keep(old_school)
    assert decide(said("zona scuola Fornacette"), [], borgo) == Keep(places.at(borgo.frazioni[2], borgo, Label.SCUOLA))
    assert decide(said("zona scuola"), [], CALCINAIA) == Tell()


def test_beyond_five_names_all_are_told_instead() -> None:
    borgo = drawn(*(f"San Lorenzo {which}" for which in ("Alto", "Basso", "Vecchio", "Nuovo", "Corti", "Pagnatico")))
    assert decide(said("zona San Lorenzo"), [], borgo) == Unknown()


labels = st.sampled_from(Label)
kept = st.sampled_from([HOME, WORK, EVERYTHING, POINT, frazione("fornacette", Label.GENITORI)])


@given(st.lists(kept, max_size=4, unique_by=lambda place: place.label), st.none() | labels, st.text(max_size=12))
def test_only_a_place_that_is_known_is_forgotten(known: list[Place], label: Label | None, name: str) -> None:
    match decide(keywords.ForgetPlace(label, name), known, CALCINAIA):
        case Forget(forgotten):
            assert forgotten in {place.label for place in known}
            assert label in (None, forgotten)
        case other:
            assert other == Tell()


# ── in words ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("known", "words"),
    [
        ([], "tutto il Comune"),
        ([EVERYTHING], "tutto il Comune"),
        ([HOME], "Fornacette"),
        ([WORK], "lavoro: Calcinaia capoluogo"),
        ([HOME, WORK], "casa: Fornacette; lavoro: Calcinaia capoluogo"),
        ([POINT], "un punto a Fornacette"),
        ([POINT, WORK], "casa: un punto a Fornacette; lavoro: Calcinaia capoluogo"),
        ([Place(Precision.ADDRESS, point=IN_NO_FRAZIONE)], "un punto a Calcinaia"),
    ],
)
def test_what_is_known_is_said_under_its_labels(known: list[Place], words: str) -> None:
    assert in_words(known, CALCINAIA) == words


@each_comune
def test_five_places_of_the_longest_names_fit_into_every_answer(comune: Authority) -> None:
    territory = comune.territory
    longest = max(territory.frazioni, key=lambda area: len(area.name))
    corner = longest.fence.planar.representative_point()
    known = [Place(Precision.ADDRESS, point=Point(corner.y, corner.x), label=label) for label in Label]
    words = in_words(known, territory)
    assert words.count(f"un punto a {longest.name}") == len(Label)
    assert len(words) <= ROOM_FOR_PLACES
    assert len(places.either([longest] * places.MOST_ASKED)) <= ROOM_FOR_PLACES
    texts = comune.texts
    for text in (texts.place_kept, texts.place_point_kept, texts.places_known, texts.place_forgotten):
        assert len(filled(text, luoghi=words, luogo=longest.name)) <= LONGEST_TEXT


@each_comune
def test_the_words_a_comune_suggests_are_understood_by_it(comune: Authority) -> None:
    territory, texts = comune.territory, comune.texts
    for frazione in territory.frazioni:
        for text in (texts.place_point_kept, texts.places_known, texts.place_kept, texts.place_forgotten, texts.help):
            shown = filled(text, luogo=frazione.name, luoghi="", zona="").replace("\n", " ")
            for words in shown.split('"')[1::2]:
                meaning = keywords.understand(words, comune.keywords)
                assert isinstance(meaning, keywords.Place | keywords.ForgetPlace | keywords.ListPlaces), words
                assert decide(meaning, [WORK], territory) != Unknown(), words


def test_a_frazione_is_written_right_without_the_comunes_own_name_and_nothing_else_is() -> None:
    for name in ("Capoluogo", "calcinaia capoluogo", "CAPOLUOGO"):
        assert (found := places.written_right(name, CALCINAIA)) is not None and found.code == "calcinaia.capoluogo"
    for name in ("", "Calcinaia", "Mario Rossi", "capoluog"):
        assert places.written_right(name, CALCINAIA) is None
