"""Ten kills drawn from one seed: nobody lost, nobody bothered, no routine text ahead of an emergency.

`ALERTING_FAULTS_SEED=123 make test ARGS=tests/end_to_end/test_faults.py` draws the same again. `make soak` goes on
for longer and takes away more.
"""

from dataclasses import replace
from pathlib import Path

import pytest

from alerting.domain.lanes import Lane
from consumers.local.private_rabbitmq import PrivateRabbitMQ
from consumers.local.stack import Stack
from tests.end_to_end.faults import SHORT, Killed, Suffering, drawn, kills_of, seed_of_run
from tests.end_to_end.town import COPIES, NO_PAIR_LIMIT, QUORUM_SETTLES, at_work
from tests.end_to_end.verdict import IN_FLIGHT, ONE_SLICE, Collapse, Record, Said, Text, Window, broken_promises

KILLS = 10


@pytest.mark.slow
def test_after_ten_kills_everybody_was_told_and_nobody_was_bothered(
    mortal_broker: PrivateRabbitMQ, tmp_path: Path
) -> None:
    seed = seed_of_run()
    print(f"seed {seed}: ALERTING_FAULTS_SEED={seed} draws the same again; logs in {tmp_path}")
    database = f"sqlite+aiosqlite:///{tmp_path}/town.sqlite"
    stack = Stack(tmp_path, mortal_broker.url, database, copies=COPIES, whatsapp=dict(NO_PAIR_LIMIT))
    with at_work(stack, settles=QUORUM_SETTLES) as town:
        suffering = Suffering(
            town, mortal_broker, None, seed, in_fornacette=80, elsewhere=170, patience=180.0, tell=print
        )
        record = suffering.goes_through(drawn(seed, SHORT, kills=KILLS, once=["broker killed"]))
    assert record.kills >= KILLS
    assert not (broken := broken_promises(record)), f"seed {seed}, logs in {tmp_path}:\n" + "\n".join(broken)


# ── whether the judge would see it ──────────────────────────────────────────────────────────────────

PEOPLE = frozenset({"+1", "+2", "+3"})


def received(alert: int | None, to: str, at: float, *, cancel: bool = False, attempt: int = 1) -> Text:
    return Text(at, to, alert, cancel, f"7.{to[1:]}.{attempt}")


def a_good_day() -> Record:
    """An event for three people, and each of them told once."""
    said = Said(1, Lane.ROUTINE, PEOPLE, issued=100.0)
    return Record(1, began=90.0, said=[said], texts=[received(1, to, 101.0) for to in sorted(PEOPLE)])


def verdict(record: Record) -> str:
    return "\n".join(broken_promises(record))


def test_on_a_good_day_no_promise_is_broken() -> None:
    assert verdict(a_good_day()) == ""


def test_one_person_who_was_not_told_is_seen() -> None:
    record = a_good_day()
    del record.texts[0]
    assert verdict(record).startswith("LOST 1 of 3")


def test_a_citizen_without_an_answer_is_seen() -> None:
    record = a_good_day()
    record.wrote["+9"] = 99.0
    assert "got no answer" in verdict(record)
    record.texts.append(received(None, "+9", 103.0))
    assert verdict(record) == ""


def test_a_repetition_needs_a_fault_that_explains_it_and_a_third_time_has_none() -> None:
    record = a_good_day()
    record.texts.append(received(1, "+1", 140.0, attempt=2))
    assert "no fault explains it" in verdict(record)
    record.windows.append(Window("Killed", ("relay",), 101.1, 102.0))
    assert "no fault explains it" in verdict(record)
    record.windows.append(Window("Killed", ("deliver-urgent",), 101.1, 102.0))
    assert verdict(record) == ""
    record.texts.append(received(1, "+1", 150.0, attempt=3))
    assert "told 3 times" in verdict(record)


def test_no_kill_explains_more_than_a_slice() -> None:
    people = frozenset(f"+{number}" for number in range(ONE_SLICE + 1))
    texts = [received(1, to, at) for at in (101.0, 140.0) for to in people]
    record = Record(1, began=90.0, said=[Said(1, Lane.ROUTINE, people, issued=100.0)], texts=texts)
    record.windows.append(Window("Killed", ("deliver-whatsapp",), 101.1, 102.0))
    assert f"{ONE_SLICE + 1} people told twice" in verdict(record)


def test_routine_texts_in_the_midst_of_an_emergency_are_seen_unless_a_fault_was_on() -> None:
    record = a_good_day()
    crowd = frozenset(f"+{number}" for number in range(100, 100 + IN_FLIGHT + 1))
    record.said += [Said(2, Lane.EMERGENCY, PEOPLE, issued=200.0), Said(3, Lane.ROUTINE, crowd, issued=199.0)]
    record.texts += [received(2, to, at) for to, at in zip(sorted(PEOPLE), (200.1, 200.2, 201.0), strict=True)]
    record.texts += [received(3, to, 200.5) for to in crowd]
    assert "went ahead of emergency 002" in verdict(record)
    record.windows.append(Window("Killed", ("receipts",), 200.3, 200.4))
    assert "went ahead of emergency 002" in verdict(record)
    record.windows.append(Window("Killed", ("fanout",), 200.3, 200.4))
    assert verdict(record) == ""


def test_whoever_was_tried_before_and_comes_late_does_not_make_the_emergency_last() -> None:
    record = a_good_day()
    crowd = frozenset(f"+{number}" for number in range(100, 100 + IN_FLIGHT + 1))
    record.said += [Said(2, Lane.EMERGENCY, PEOPLE, issued=200.0), Said(3, Lane.ROUTINE, crowd, issued=199.0)]
    record.texts += [received(2, "+1", 200.1), received(2, "+2", 200.2), received(2, "+3", 230.0, attempt=2)]
    record.texts += [received(3, to, 210.0) for to in crowd]
    assert verdict(record) == ""


def test_a_cancel_that_comes_first_or_to_a_stranger_or_not_at_all_is_seen() -> None:
    record = a_good_day()
    record.said[0].cancelled = 102.0
    assert "were not told that it was taken back" in verdict(record)
    record.texts += [received(1, to, 103.0, cancel=True) for to in sorted(PEOPLE)]
    assert verdict(record) == ""
    first = record.texts.pop(0)
    assert "never had it" in verdict(record)
    record.texts.append(replace(first, at=104.0))
    assert "before they were told of it" in verdict(record)


def test_a_process_that_ends_by_itself_is_seen() -> None:
    record = a_good_day()
    record.collapses.append(Collapse("relay", 100.0, 1, "Traceback"))
    assert verdict(record).startswith("relay ended by itself with 1 at +10.0 s")


def test_a_seed_draws_the_same_faults_again_and_another_draws_others() -> None:
    once = ["broker killed"]
    steps = drawn(7, SHORT, kills=KILLS, once=once)
    assert steps == drawn(7, SHORT, kills=KILLS, once=once)
    assert steps != drawn(8, SHORT, kills=KILLS, once=once)
    assert sum(kills_of(step.fault) for step in steps) >= KILLS
    assert any(isinstance(step.fault, Killed) for step in steps)
