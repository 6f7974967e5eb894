"""What people type when they mean a place: shortened, abbreviated, mistyped; and never another place for it."""

import json
from itertools import groupby

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geo.areas import Area, AreaKind, Gazetteer
from geo.names import plain, split, usual
from geo.shapes import Circle, Geofence
from tests.unit.geo_drawings import FORNACETTE, needs

TYPED = {
    "Calcinaia": ["Fornacette"],
    "Bientina": ["Quattro Strade", "Santa Colomba"],
    "Fucecchio": ["Ponte a Cappiano", "Galleno", "Massarella", "San Pierino", "Querce"],
    "Santa Fiora": ["Marroneto", "Bagnolo", "Bagnore", "Selva"],
    "Cascina": [
        "San Frediano a Settimo", "San Lorenzo alle Corti", "San Lorenzo a Pagnatico", "Visignano", "Musigliano",
        "Marciana", "San Casciano", "Casciavola", "Latignano", "Titignano", "Santo Stefano a Macerata", "La Gronchia",
        "Via di Corte", "San Prospero", "San Benedetto", "Navacchio", "Zambra", "Barca di Noce", "San Sisto al Pino",
    ],
}  # fmt: skip


def town(comune: str, frazioni: list[str]) -> Gazetteer:
    fence = Geofence((Circle(FORNACETTE, 1),))
    code = plain(comune)
    inside = [f"{comune} capoluogo", *frazioni]
    return Gazetteer(
        [
            Area(code, comune, AreaKind.COMUNE, fence),
            *(Area(f"{code}.{plain(name)}", name, AreaKind.FRAZIONE, fence, code) for name in inside),
        ]
    )


TOWNS = {comune: town(comune, frazioni) for comune, frazioni in TYPED.items()}


def names(comune: str, text: str) -> list[str]:
    return [found.name for found in TOWNS[comune].named(text)]


@pytest.mark.parametrize(
    ("comune", "typed", "meant"),
    [
        ("Cascina", "San Frediano", "San Frediano a Settimo"),
        ("Cascina", "s frediano", "San Frediano a Settimo"),
        ("Cascina", "s. frediano", "San Frediano a Settimo"),
        ("Cascina", "sanfrediano", "San Frediano a Settimo"),
        ("Cascina", "S.Frediano a Setimo", "San Frediano a Settimo"),
        ("Cascina", "San Fredano", "San Frediano a Settimo"),
        ("Cascina", "Cascina San Frediano", "San Frediano a Settimo"),
        ("Cascina", "San Lorenzo Pagnatico", "San Lorenzo a Pagnatico"),
        ("Cascina", "s.lorenzo corti", "San Lorenzo alle Corti"),
        ("Cascina", "sto stefano", "Santo Stefano a Macerata"),
        ("Cascina", "S. Stefano", "Santo Stefano a Macerata"),
        ("Cascina", "gronchia", "La Gronchia"),
        ("Cascina", "Via Corte", "Via di Corte"),
        ("Cascina", "via di corte, Cascina", "Via di Corte"),
        ("Cascina", "via Roma 3, 56021 San Lorenzo a Pagnatico, Cascina (PI)", "San Lorenzo a Pagnatico"),
        ("Fucecchio", "cappiano", "Ponte a Cappiano"),
        ("Fucecchio", "P.te a Cappiano", "Ponte a Cappiano"),
        ("Fucecchio", "pte a capiano", "Ponte a Cappiano"),
        ("Fucecchio", "s pierino", "San Pierino"),
        ("Bientina", "4 strade", "Quattro Strade"),
        ("Bientina", "Sta Colomba", "Santa Colomba"),
        ("Bientina", "S.ta Colomba", "Santa Colomba"),
        ("Bientina", "santacolomba", "Santa Colomba"),
        ("Calcinaia", "frazione di Fornacette", "Fornacette"),
        ("Calcinaia", "loc. fornacete", "Fornacette"),
        ("Calcinaia", "a Fornacette", "Fornacette"),
        ("Calcinaia", "Fornacette (PI)", "Fornacette"),
        ("Calcinaia", "Fornacette di Calcinaia", "Fornacette"),
        ("Calcinaia", "via Roma, Fornacette", "Fornacette"),
        ("Calcinaia", "capoluogo", "Calcinaia capoluogo"),
        ("Calcinaia", "Calcinaja", "Calcinaia"),
        ("Calcinaia", "comune di Calcinaia", "Calcinaia"),
        ("Santa Fiora", "s. fiora", "Santa Fiora"),
    ],
)
def test_a_place_is_found_by_what_people_call_it(comune: str, typed: str, meant: str) -> None:
    assert names(comune, typed) == [meant]


@pytest.mark.parametrize(
    ("comune", "typed", "meant"),
    [
        ("Cascina", "San Lorenzo", ["San Lorenzo alle Corti", "San Lorenzo a Pagnatico"]),
        ("Cascina", "s.lorenzo", ["San Lorenzo alle Corti", "San Lorenzo a Pagnatico"]),
        ("Cascina", "san lorezno", ["San Lorenzo alle Corti", "San Lorenzo a Pagnatico"]),
        ("Cascina", "Visigliano", ["Visignano", "Musigliano"]),
        ("Cascina", "Tatignano", ["Latignano", "Titignano"]),
        ("Cascina", "Latignano, Titignano", ["Latignano", "Titignano"]),
        ("Santa Fiora", "Bagnola", ["Bagnolo", "Bagnore"]),
    ],
)
def test_names_about_as_near_are_all_returned(comune: str, typed: str, meant: list[str]) -> None:
    assert names(comune, typed) == meant


@pytest.mark.parametrize(
    ("comune", "typed"),
    [
        ("Calcinaia", "no Fornacette"),
        ("Calcinaia", "Fornacette no"),
        ("Calcinaia", "via Fornacette"),
        ("Calcinaia", "v. Fornacette"),
        ("Calcinaia", "via Roma Fornacette"),
        ("Calcinaia", "Fornacette o Calcinaia"),
        ("Calcinaia", "Fornacette e Calcinaia"),
        ("Calcinaia", "vicino a Fornacette"),
        ("Calcinaia", "Pontedera, Fornacette"),
        ("Calcinaia", "via Roma 3"),
        ("Calcinaia", "56012"),
        ("Calcinaia", ", ;"),
        ("Fucecchio", "Pontedera"),
        ("Fucecchio", "ponte"),
        ("Fucecchio", "san"),
        ("Fucecchio", "San Piero"),
        ("Fucecchio", "San Pietro"),
    ],
)
def test_on_doubt_a_text_names_nobody(comune: str, typed: str) -> None:
    assert names(comune, typed) == []


def test_a_short_form_that_is_anothers_name_is_the_others() -> None:
    places = town("Fucecchio", ["Selva", "Selva Alta"])
    assert [area.name for area in places.named("di Selva")] == ["Selva"]
    assert [area.name for area in places.named("alta")] == ["Selva Alta"]


def test_abbreviations_are_written_out_and_articles_left_out() -> None:
    assert usual(split("S.ta Maria all'Arno")) == ("san", "maria", "arno")
    assert usual(split("P.te a Cappiàno")) == ("ponte", "cappiano")


# ── properties ──────────────────────────────────────────────────────────────────────────────────────

PLACES = [(comune, area.name) for comune, places in TOWNS.items() for area in places.areas]
letters = st.sampled_from("abcdefghilmnopqrstuvzxyjkwàè '.,")


@st.composite
def mistyped(draw: st.DrawFn, name: str) -> str:
    """The name with one letter, space or point too many, too few, wrong, or exchanged with its neighbour."""
    at = draw(st.integers(0, len(name) - 1))
    before, after = name[:at], name[at:]
    letter = draw(letters)
    return draw(
        st.sampled_from(
            [
                before + letter + after,
                before + after[1:],
                before + letter + after[1:],
                before + after[1::-1] + after[2:],
            ]
        )
    )


def never_another(places: Gazetteer, name: str, typed: str) -> None:
    """What was meant is among the answers, unless there are none or another name was typed exactly."""
    found = [area.name for area in places.named(typed)]
    assert not found or name in found or plain(typed) in {plain(other) for other in found}, (name, typed, found)


@settings(max_examples=600, deadline=None)
@given(st.data(), st.sampled_from(PLACES))
def test_one_typo_never_makes_one_name_another_one(data: st.DataObject, place: tuple[str, str]) -> None:
    comune, name = place
    never_another(TOWNS[comune], name, data.draw(mistyped(name)))


@settings(max_examples=300, deadline=None)
@given(st.data(), st.sampled_from(PLACES))
def test_a_name_in_any_dress_is_found_alone(data: st.DataObject, place: tuple[str, str]) -> None:
    comune, name = place
    typed = data.draw(st.sampled_from([name.upper(), name.lower(), name.replace(" ", ""), f" {name}! ", f"({name})"]))
    assert names(comune, typed) == [name]


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=80), st.sampled_from(sorted(TOWNS)))
def test_any_text_names_each_area_at_most_once(text: str, comune: str) -> None:
    found = TOWNS[comune].named(text)
    assert len(set(found)) == len(found)


def test_no_letter_left_out_or_exchanged_makes_one_real_frazione_another() -> None:
    known = [
        feature["properties"] for feature in json.loads(needs("geo/frazioni_punti.geojson").read_text())["features"]
    ]
    for istat, group in groupby(sorted(known, key=lambda one: str(one["istat"])), key=lambda one: one["istat"]):
        frazioni = [str(one["name"]) for one in group if one["kind"] != "capoluogo"]
        places = town(f"Comune {istat}", frazioni)
        for name in frazioni:
            assert [area.name for area in places.named(name)] == [name]
            for at in range(len(name)):
                before, after = name[:at], name[at:]
                for typed in (before + after[1:], before + after[1::-1] + after[2:], before + "e" + after[1:]):
                    never_another(places, name, typed)
