"""What a comune wants to follow when a source speaks: its first policy that meets it, else what ships."""

from functools import reduce

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerting.domain.kinds import Colour, Risk
from alerting.domain.policies import CAUTIOUS, FeedPolicy, Then, decide, more_cautious

COLOURS = st.none() | st.sampled_from(Colour)
RISKS = st.frozensets(st.sampled_from(Risk), max_size=3)
POLICIES = st.lists(
    st.builds(
        FeedPolicy,
        st.sampled_from(["regione", "valdera"]),
        st.sampled_from(Then),
        st.frozensets(st.sampled_from(Colour)),
        RISKS,
    ),
    max_size=4,
)


@pytest.mark.parametrize(
    ("colour", "then"),
    [(Colour.ROSSA, Then.PAGE), (Colour.ARANCIONE, Then.PAGE), (Colour.GIALLA, Then.PREPARE), (None, Then.SHOW)],
)
def test_without_a_word_of_the_comune_nothing_is_issued_by_a_machine(colour: Colour | None, then: Then) -> None:
    assert decide((), "regione", colour) is then


def test_the_first_policy_that_meets_it_counts() -> None:
    red = FeedPolicy("regione", Then.ISSUE, frozenset({Colour.ROSSA}))
    rest = FeedPolicy("regione", Then.SHOW)
    assert decide((red, rest), "regione", Colour.ROSSA) is Then.ISSUE
    assert decide((red, rest), "regione", Colour.GIALLA) is Then.SHOW
    assert decide((rest, red), "regione", Colour.ROSSA) is Then.SHOW


def test_a_policy_is_of_one_source() -> None:
    assert decide((FeedPolicy("regione", Then.ISSUE),), "valdera", Colour.ROSSA) is Then.PAGE


def test_a_policy_of_some_risks_meets_what_is_of_these_alone() -> None:
    arno = FeedPolicy("regione", Then.ISSUE, risks=frozenset({Risk.IDRAULICO}))
    assert decide((arno,), "regione", Colour.ROSSA, [Risk.IDRAULICO]) is Then.ISSUE
    assert decide((arno,), "regione", Colour.ROSSA, [Risk.IDRAULICO, Risk.VENTO]) is Then.PAGE
    assert decide((arno,), "regione", Colour.ROSSA) is Then.PAGE, "a fire has no risk"


def test_what_has_no_colour_is_not_met_by_a_policy_of_colours() -> None:
    assert decide((FeedPolicy("regione", Then.ISSUE, frozenset(Colour)),), "regione", None) is Then.SHOW


@given(POLICIES, COLOURS, RISKS)
def test_nothing_is_issued_that_no_policy_of_the_source_names(
    policies: list[FeedPolicy], colour: Colour | None, risks: frozenset[Risk]
) -> None:
    answers = []
    for asked in [{risk} for risk in risks] or [set[Risk]()]:
        meeting = [policy for policy in policies if policy.meets("regione", colour, asked)]
        answers.append(meeting[0].then if meeting else CAUTIOUS[colour])
        assert all(policy.source == "regione" for policy in meeting)
    assert decide(policies, "regione", colour, risks) is reduce(more_cautious, answers)


def test_a_policy_for_each_risk_meets_what_is_of_both() -> None:
    apart = [FeedPolicy("regione", Then.ISSUE, risks=frozenset({risk})) for risk in (Risk.IDRAULICO, Risk.VENTO)]
    assert decide(apart, "regione", Colour.ROSSA, [Risk.IDRAULICO, Risk.VENTO]) is Then.ISSUE


@given(st.sampled_from(Then), st.sampled_from(Then), st.sampled_from(Then))
def test_of_several_the_one_that_leaves_most_to_people_counts(one: Then, two: Then, three: Then) -> None:
    assert more_cautious(one, two) is more_cautious(two, one)
    assert more_cautious(one, more_cautious(two, three)) is more_cautious(more_cautious(one, two), three)
    assert more_cautious(one, Then.ISSUE) is one
    assert more_cautious(one, Then.SHOW) is Then.SHOW
    assert more_cautious(Then.PAGE, Then.PREPARE) is Then.PREPARE
