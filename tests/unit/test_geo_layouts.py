"""Which properties say what: known files need no option, others are told what is missing, no typo becomes a code."""

import pytest

from geo.areas import AreaKind
from geo.layouts import LAYOUTS, Columns, Layer, Layout, LayoutError, Literal, Property, columns_of

ISTAT = ("COD_RIP", "COD_REG", "COD_PROV", "COD_CM", "COD_UTS", "PRO_COM", "PRO_COM_T", "COMUNE", "COMUNE_A", "CC_UTS")


def columns(layer: Layer, *names: str, features: int = 2, known: frozenset[str] = frozenset({"calcinaia"})) -> Columns:
    return columns_of(layer, names, features, known)


def refusal(layer: Layer, *names: str, features: int = 2) -> str:
    with pytest.raises(LayoutError) as refused:
        columns(layer, *names, features=features)
    return str(refused.value)


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_a_known_file_needs_no_option(layout: Layout) -> None:
    found = columns(Layer(), *sorted(layout.telling), "note")
    assert (found.layout, found.kind, found.name) == (layout.title, layout.kind, Property(layout.name))


def test_the_comuni_of_istat_are_known() -> None:
    found = columns(Layer(), *ISTAT)
    assert (found.kind, found.name, found.code) == (AreaKind.COMUNE, Property("COMUNE"), Property("PRO_COM_T"))
    assert found.licence == "CC-BY-4.0"


def test_points_of_frazioni_become_circles_and_are_a_demonstration() -> None:
    found = columns(Layer(), "istat", "name", "kind", "source", "inside_comune")
    assert (found.kind, found.parent, found.code) == (AreaKind.FRAZIONE, Property("istat"), None)
    assert (found.point_radius_km, found.demonstration) == (1.0, True)


def test_the_caller_is_right_where_the_layout_says_otherwise() -> None:
    layer = Layer(name="COMUNE_A", point_radius_km=0, demonstration=True)
    found = columns(layer, *ISTAT)
    assert (found.name, found.code) == (Property("COMUNE_A"), Property("PRO_COM_T"))
    assert (found.point_radius_km, found.demonstration) == (0, True)


def test_a_layout_of_another_kind_answers_nothing() -> None:
    found = columns(Layer(AreaKind.CUSTOM, name="COMUNE", parent="=calcinaia"), *ISTAT)
    assert (found.layout, found.code, found.licence) == (None, None, "")


def test_an_unknown_file_is_answered_with_what_it_has_and_what_to_give() -> None:
    assert refusal(Layer(), "nome", "istat") == (
        "no known layout has such properties; give --kind (one of comune, frazione, zona, custom) and --name, "
        "the property with the names; its features have nome, istat"
    )
    assert refusal(Layer(AreaKind.FRAZIONE)) == (
        "no known layout has such properties; give --name, the property with the names; its features have no properties"
    )
    assert refusal(Layer(), *map(str, range(25))).endswith("18, 19 and 5 more")


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (
            Layer(AreaKind.COMUNE, name="nome"),
            "a comune has its own code; give --code, the property with its ISTAT number",
        ),
        (Layer(AreaKind.ZONA, name="nome"), "its national name, as Tosc-A4"),
        (Layer(AreaKind.FRAZIONE, name="nome"), "a frazione lies in a comune; give --parent"),
        (Layer(AreaKind.CUSTOM, name="nome", code="sigla"), "a custom lies in a comune; give --parent"),
    ],
)
def test_a_kind_says_what_it_needs(layer: Layer, words: str) -> None:
    assert words in refusal(layer, "nome", "sigla")


def test_a_property_is_a_property_and_an_equals_sign_makes_it_a_word() -> None:
    layer = Layer(AreaKind.CUSTOM, name="nome", code="=sigla", parent="= calcinaia ")
    found = columns(layer, "nome", "sigla")
    assert (found.name, found.code, found.parent) == (Property("nome"), Literal("sigla"), Literal("calcinaia"))


def test_the_code_of_a_known_area_is_a_parent_for_all_features() -> None:
    layer = Layer(AreaKind.FRAZIONE, name="nome", parent="calcinaia")
    assert columns(layer, "nome").parent == Literal("calcinaia")
    assert columns(layer, "nome", "calcinaia").parent == Property("calcinaia")


def test_a_word_is_taken_as_it_is_in_a_file_of_one_feature_only() -> None:
    layer = Layer(AreaKind.CUSTOM, name="Scuole nord", code="scuole-nord", parent="calcinaia")
    assert columns(layer, "stroke", features=1).name == Literal("Scuole nord")
    assert refusal(layer, "stroke") == (
        "no feature has the property 'Scuole nord'; its features have stroke; "
        "for the word itself write --name '=Scuole nord'"
    )


@pytest.mark.parametrize("typo", ["itsat", "ISTAT", "Istat ", "istatt"])
def test_a_typo_does_not_become_the_code_of_an_area(typo: str) -> None:
    words = refusal(Layer(AreaKind.COMUNE, name="nome", code=typo), "nome", "istat", features=1)
    assert f"no feature has the property {typo!r}; did you mean istat?" in words
