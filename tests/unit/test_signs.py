"""How a process stands, worked out from what it needs; and what it answers to whoever asks over HTTP."""

import json
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from alerting import metrics
from alerting.signs import Condition, Need, Standing, State, standing
from consumers.local.serving import free_port

NOON = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


def at(minute: int) -> datetime:
    return NOON + timedelta(minutes=minute)


def test_a_process_works_since_the_last_of_its_needs_was_met() -> None:
    now = standing([Condition(Need.BROKER, True, at(1)), Condition(Need.DATABASE, True, at(3))], None)
    assert now == Standing(State.WORKING, (), at(3))


def test_a_process_waits_since_the_first_of_its_needs_was_not_met_and_says_for_what() -> None:
    conditions = [
        Condition(Need.BROKER, False, at(5)),
        Condition(Need.BROKER, False, at(4)),
        Condition(Need.DATABASE, True, at(6)),
    ]
    assert standing(conditions, None) == Standing(State.WAITING, (Need.BROKER,), at(4))


def test_a_process_that_drains_says_so_and_what_it_lacks_to_do_it() -> None:
    now = standing([Condition(Need.DATABASE, False, at(1))], at(2))
    assert now == Standing(State.DRAINING, (Need.DATABASE,), at(2))


@given(
    st.lists(
        st.builds(Condition, st.sampled_from(Need), st.booleans(), st.integers(0, 60).map(at)), min_size=1, max_size=4
    )
)
def test_a_process_works_exactly_when_it_waits_for_nothing(conditions: list[Condition]) -> None:
    now = standing(conditions, None)
    assert (now.state is State.WORKING) == (not now.waits_for)
    assert set(now.waits_for) == {condition.need for condition in conditions if not condition.met}
    assert len(set(now.waits_for)) == len(now.waits_for)


# ── over HTTP ───────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def served(health: metrics.Health) -> Iterator[str]:
    port = free_port()
    server = metrics.serve("127.0.0.1", port, health)
    assert server is not None
    yield f"http://127.0.0.1:{port}"
    server.shutdown()
    server.server_close()


def asked(url: str) -> tuple[int, bytes, Mapping[str, str]]:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status, answer.read(), dict(answer.headers)
    except urllib.error.HTTPError as refusal:
        with refusal:
            return refusal.code, refusal.read(), dict(refusal.headers)


def test_status_is_200_while_a_process_works_and_503_while_it_waits() -> None:
    said: dict[str, object] = {"worker": "fanout", "state": "working", "waits_for": ()}
    with served(lambda: (said["state"] == "working", said)) as url:
        status, body, headers = asked(url + "/status")
        assert (status, headers["Content-Type"]) == (200, "application/json")
        assert json.loads(body) == {"worker": "fanout", "state": "working", "waits_for": []}
        said |= {"state": "waiting", "waits_for": (Need.BROKER,)}
        status, body, _ = asked(url + "/status")
        assert status == 503
        assert json.loads(body) == {"worker": "fanout", "state": "waiting", "waits_for": ["broker"]}


def test_figures_are_beside_it_and_an_error_in_one_answer_does_not_cost_the_next() -> None:
    def failing() -> tuple[bool, Mapping[str, object]]:
        raise RuntimeError("a bug of ours")

    with served(failing) as url:
        assert asked(url + "/status")[0] == 500
        status, body, _ = asked(url + "/metrics")
        assert status == 200
        assert b"alerting_deliveries_total" in body


def test_port_0_is_nowhere() -> None:
    assert metrics.serve("127.0.0.1", 0, lambda: (True, {})) is None
