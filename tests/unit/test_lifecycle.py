"""An alert's life goes forwards only, by one table."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerting.domain.lifecycle import TRANSITIONS, Action, NotAllowed, State, advance

# Written out again, by hand: whoever changes the table changes a promise.
ALLOWED = {
    ("draft", "approve", "approved"),
    ("draft", "cancel", "cancelled"),
    ("approved", "issue", "issued"),
    ("approved", "cancel", "cancelled"),
    ("issued", "cancel", "cancelled"),
    ("issued", "supersede", "superseded"),
    ("issued", "expire", "expired"),
}
ORDER = (State.DRAFT, State.APPROVED, State.ISSUED, State.CANCELLED, State.SUPERSEDED, State.EXPIRED)


@pytest.mark.parametrize(("state", "action"), list(product(State, Action)))
def test_only_the_transitions_of_the_table_are_possible(state: State, action: Action) -> None:
    follows = {then for start, done, then in ALLOWED if (start, done) == (state.value, action.value)}
    if follows:
        assert {advance("a1", state, action).value} == follows
    else:
        with pytest.raises(NotAllowed):
            advance("a1", state, action)


@given(st.lists(st.sampled_from(Action)))
def test_whatever_is_tried_nothing_is_issued_without_approval_and_nothing_comes_back_to_life(
    actions: list[Action],
) -> None:
    state, lived = State.DRAFT, [State.DRAFT]
    for action in actions:
        try:
            state = advance("a1", state, action)
        except NotAllowed:
            continue
        lived.append(state)
    assert [ORDER.index(one) for one in lived] == sorted({ORDER.index(one) for one in lived})
    if State.ISSUED in lived:
        assert lived[: lived.index(State.ISSUED)] == [State.DRAFT, State.APPROVED]
    assert len(lived) <= 4


def test_what_is_cancelled_superseded_or_expired_stays_so() -> None:
    assert not {start for start, _ in TRANSITIONS} & {State.CANCELLED, State.SUPERSEDED, State.EXPIRED}


def test_a_refusal_names_the_alert_where_it_stands_and_what_it_would_take() -> None:
    with pytest.raises(NotAllowed, match=r"^alert a1 is draft, not approved: it cannot issue$"):
        advance("a1", State.DRAFT, Action.ISSUE)
    with pytest.raises(NotAllowed, match=r"is expired, not approved or draft or issued: it cannot cancel"):
        advance("a1", State.EXPIRED, Action.CANCEL)
