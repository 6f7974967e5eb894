"""Everybody's turn comes: no comune stands behind another's thousand batches, no alert behind its own town's news."""

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from consumers.turns import Turns

COMUNI = ("bientina", "calcinaia", "cascina", "fucecchio")


@dataclass(eq=False)
class Batch:
    """A batch, as far as turns go."""

    authority: str
    dispatch: int


def turns_of(*batches: Batch) -> Turns[Batch]:
    turns: Turns[Batch] = Turns()
    for batch in batches:
        turns.add(batch)
    return turns


def test_one_batch_of_a_town_comes_second_after_a_hundred_of_another() -> None:
    hundred = [Batch("calcinaia", 1) for _ in range(100)]
    one = Batch("fucecchio", 2)
    turns = turns_of(*hundred, one)
    assert [turns.next(), turns.next()] == [hundred[0], one]


def test_it_alternates_as_long_as_both_have_work() -> None:
    turns = turns_of(*(Batch("calcinaia", 1) for _ in range(9)), Batch("fucecchio", 2))
    whose = [batch.authority for _ in range(100) if (batch := turns.next())]
    assert whose.count("calcinaia") == whose.count("fucecchio") == 50


def test_what_one_town_says_takes_turns_within_its_own_turn() -> None:
    first, second, other = Batch("calcinaia", 1), Batch("calcinaia", 2), Batch("fucecchio", 3)
    turns = turns_of(first, Batch("calcinaia", 1), second, other)
    assert [turns.next() for _ in range(6)] == [first, other, second, other, first, other]


def test_a_town_with_ten_alerts_gets_no_more_than_one_with_a_single_one() -> None:
    turns = turns_of(*(Batch("calcinaia", number) for number in range(10)), Batch("fucecchio", 99))
    whose = [batch.authority for _ in range(40) if (batch := turns.next())]
    assert whose.count("fucecchio") == 20


def test_within_a_dispatch_the_first_to_come_is_finished_first() -> None:
    first, second = Batch("calcinaia", 1), Batch("calcinaia", 1)
    turns = turns_of(first, second)
    assert [turns.next(), turns.next()] == [first, first]
    turns.remove(first)
    assert turns.next() is second


def test_whoever_is_gone_has_no_turn() -> None:
    gone, stays = Batch("calcinaia", 1), Batch("fucecchio", 2)
    turns = turns_of(gone, stays)
    turns.remove(gone)
    assert [turns.next(), turns.next()] == [stays, stays]
    assert list(turns) == [stays]
    turns.remove(stays)
    assert turns.next() is None
    assert not turns


def test_a_batch_that_looks_the_same_is_not_taken_for_the_one_removed() -> None:
    twins = [Batch("calcinaia", 1), Batch("calcinaia", 1)]
    turns = turns_of(*twins)
    turns.remove(twins[1])
    assert list(turns) == twins[:1]


def test_what_is_not_in_hand_cannot_be_removed() -> None:
    turns = turns_of(Batch("calcinaia", 1))
    with pytest.raises((KeyError, ValueError)):
        turns.remove(Batch("calcinaia", 1))
    with pytest.raises((KeyError, ValueError)):
        turns.remove(Batch("fucecchio", 1))
    assert len(list(turns)) == 1, "a removal that failed took nothing with it"


def test_who_comes_back_does_not_come_back_to_the_front() -> None:
    turns = turns_of(Batch("calcinaia", 1), Batch("fucecchio", 2))
    back = turns.next()
    assert back is not None
    turns.remove(back)
    turns.add(back)
    assert [batch.authority for _ in range(2) if (batch := turns.next())] == ["fucecchio", "calcinaia"]


@given(st.lists(st.tuples(st.sampled_from(COMUNI), st.integers(1, 4)), max_size=40))
def test_iteration_shows_each_batch_once_and_moves_no_turn(batches: list[tuple[str, int]]) -> None:
    added = [Batch(*one) for one in batches]
    turns = turns_of(*added)
    assert len(list(turns)) == len(added)
    assert set(turns) == set(added)
    one, other = turns_of(*added), turns_of(*added)
    list(other)
    assert [one.next() for _ in range(10)] == [other.next() for _ in range(10)]


class NobodyWaitsLongerThanARound(RuleBasedStateMachine):
    """Any sequence of arrivals, turns and departures: a town is served once in a round of those that were there."""

    def __init__(self) -> None:
        super().__init__()
        self.turns: Turns[Batch] = Turns()
        self.there: list[Batch] = []
        self.passed_over: dict[str, set[str]] = {}
        self.dispatches_passed_over: dict[tuple[str, int], set[int]] = {}

    @rule(authority=st.sampled_from(COMUNI), dispatch=st.integers(1, 4))
    def arrives(self, authority: str, dispatch: int) -> None:
        batch = Batch(authority, dispatch)
        self.turns.add(batch)
        self.there.append(batch)

    @precondition(lambda self: self.there)
    @rule(data=st.data())
    def leaves(self, data: st.DataObject) -> None:
        batch = data.draw(st.sampled_from(self.there))
        self.turns.remove(batch)
        self.there.remove(batch)
        present = {one.authority for one in self.there}
        self.passed_over = {who: by for who, by in self.passed_over.items() if who in present}
        said = {(one.authority, one.dispatch) for one in self.there}
        self.dispatches_passed_over = {what: by for what, by in self.dispatches_passed_over.items() if what in said}

    @rule()
    def is_asked(self) -> None:
        batch = self.turns.next()
        if batch is None:
            assert not self.there
            return
        assert batch in self.there
        self.passed_over.pop(batch.authority, None)
        for waits in {one.authority for one in self.there} - {batch.authority}:
            by = self.passed_over.setdefault(waits, set())
            assert batch.authority not in by, f"{batch.authority} had two turns while {waits} waited"
            by.add(batch.authority)
        self.dispatches_passed_over.pop((batch.authority, batch.dispatch), None)
        others = {one.dispatch for one in self.there if one.authority == batch.authority} - {batch.dispatch}
        for waits_too in others:
            passed = self.dispatches_passed_over.setdefault((batch.authority, waits_too), set())
            assert batch.dispatch not in passed, "one alert had two turns while another of the town waited"
            passed.add(batch.dispatch)
        first = next(one for one in self.there if (one.authority, one.dispatch) == (batch.authority, batch.dispatch))
        assert batch is first

    @invariant()
    def holds_whoever_is_there(self) -> None:
        assert set(self.turns) == set(self.there)
        assert bool(self.turns) == bool(self.there)


TestNobodyWaitsLongerThanARound = NobodyWaitsLongerThanARound.TestCase
