"""When a source's silence is told, to the minute: before, after, at midnight and when the clocks change."""

from dataclasses import replace
from datetime import datetime, time, timedelta

import pytest

from alerting.domain.rendering import ROME
from alerting.domain.sources import Source
from alerting.feeds.silence import NEVER_ANSWERED, silent
from alerting.persistence.tables import Feed
from alerting.sources import load

DPC = load()["dpc-criticita"]


def at(written: str) -> datetime:
    """In Italy."""
    return datetime.fromisoformat(written).replace(tzinfo=ROME)


def a_feed(*bulletins: str, answered: datetime | None, failures: int = 0) -> Feed:
    moment = answered.timestamp() if answered else None
    return Feed(source=DPC.name, answered_at=moment, failures=failures, seen=dict.fromkeys(bulletins, 0))


def told(now: datetime, *bulletins: str, source: Source = DPC) -> str | None:
    """It answered a minute ago."""
    return silent(source, a_feed(*bulletins, answered=now - timedelta(minutes=1)), now)


@pytest.mark.parametrize(
    ("now", "bulletins"),
    [
        ("2026-01-18T16:31", ["20260118_1515"]),
        ("2026-01-18T16:29", ["20260117_1510"]),
        ("2026-01-19T00:01", ["20260118_1515"]),
        ("2026-01-19T16:29", ["20260118_1515"]),
        ("2026-01-18T23:59", ["20260117_1510", "20260118_1515", "20260118_2331"]),
        ("2026-03-29T16:31", ["20260329_1515"]),
    ],
)
def test_a_bulletin_that_came_is_no_silence(now: str, bulletins: list[str]) -> None:
    assert told(at(now), *bulletins) is None


@pytest.mark.parametrize(
    ("now", "bulletins", "day"),
    [
        ("2026-01-18T16:30", ["20260117_1510"], "18/01/2026"),
        ("2026-01-18T16:30", ["20260117_1510", "20260117_2331"], "18/01/2026"),
        ("2026-01-19T00:01", ["20260117_1510"], "18/01/2026"),
        ("2026-01-19T16:29", ["20260117_1510"], "18/01/2026"),
        ("2026-01-19T16:31", ["20260117_1510"], "19/01/2026"),
        ("2026-01-18T12:00", [], "17/01/2026"),
        ("2026-03-29T16:31", ["20260328_1515"], "29/03/2026"),
    ],
)
def test_no_bulletin_by_half_past_four_is_told_with_its_day(now: str, bulletins: list[str], day: str) -> None:
    sentence = told(at(now), *bulletins)
    assert sentence is not None
    assert sentence.startswith(f"il bollettino del {day} non è arrivato entro le 16:30.")
    assert "Nessun dato non vuol dire verde" in sentence


def test_the_hour_is_italys_wherever_the_process_runs() -> None:
    summer = at("2026-07-20T16:31").astimezone()
    assert told(summer, "20260719_1510") is not None
    assert told(summer - timedelta(minutes=2), "20260719_1510") is None


def test_a_source_that_has_not_answered_for_too_long_is_told_since_when() -> None:
    answered = at("2026-01-18T14:05")
    feed = a_feed("20260118_1515", answered=answered)
    assert silent(DPC, feed, answered + timedelta(hours=2)) is None
    sentence = silent(DPC, feed, answered + timedelta(hours=2, seconds=1))
    assert sentence is not None and "non risponde dalle 14:05 del 18/01/2026" in sentence


def test_a_source_without_a_limit_may_keep_silent() -> None:
    assert DPC.polling
    patient = replace(DPC, polling=replace(DPC.polling, silent_after=None, due=None))
    assert silent(patient, a_feed(answered=at("2020-01-01T00:00")), at("2026-01-18T12:00")) is None


def test_a_source_that_only_hands_in_is_never_silent() -> None:
    assert silent(load()["unione-valdera"], a_feed(answered=None, failures=99), at("2026-01-18T12:00")) is None


def test_who_has_never_answered_is_given_a_few_attempts() -> None:
    now = at("2026-01-18T12:00")
    assert silent(DPC, a_feed(answered=None, failures=NEVER_ANSWERED - 1), now) is None
    sentence = silent(DPC, a_feed(answered=None, failures=NEVER_ANSWERED), now)
    assert sentence is not None and "non ha mai risposto" in sentence


def test_the_hour_is_the_one_in_the_file() -> None:
    assert DPC.polling
    later = replace(DPC, polling=replace(DPC.polling, due=time(18, 0)))
    assert told(at("2026-01-18T17:59"), "20260117_1510", source=later) is None
    assert told(at("2026-01-18T18:00"), "20260117_1510", source=later) is not None
