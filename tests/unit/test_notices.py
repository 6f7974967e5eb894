"""What the staff are told, and when: in few words, not at night, not for ever."""

import json
from datetime import UTC, datetime, time, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from alerting.authorities import FOLDER, AuthorityFileError, load
from alerting.domain.notices import (
    AT_ONCE,
    GIVES_UP_AFTER,
    MOST_ATTEMPTS,
    MOST_TIMEOUTS,
    SHOWN,
    Answer,
    Ended,
    Gravity,
    Line,
    Matter,
    Quiet,
    Staff,
    Trouble,
    TryAgain,
    decide,
    in_words,
)
from alerting.domain.rendering import ROME
from alerting.settings import Settings

NIGHT = Quiet(time(22), time(7))
MOMENTS = st.datetimes(datetime(2026, 1, 1), datetime(2027, 12, 31), timezones=st.just(UTC))  # noqa: DTZ001  (they get theirs from `timezones`)
HOURS = st.times().map(lambda at: at.replace(second=0, microsecond=0))


def here(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=ROME)


# ── the night ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("now", "told"),
    [
        ("2026-11-26 21:59", "2026-11-26 21:59"),
        ("2026-11-26 22:00", "2026-11-27 07:00"),
        ("2026-11-27 00:30", "2026-11-27 07:00"),
        ("2026-11-27 07:00", "2026-11-27 07:00"),
        ("2026-10-24 23:00", "2026-10-25 07:00"),  # the night that has an hour more
        ("2026-03-28 23:00", "2026-03-29 07:00"),
    ],
)
def test_the_night_is_that_of_italy(now: str, told: str) -> None:
    assert NIGHT.over_at(here(now).astimezone(UTC)) == here(told)


def test_a_rest_at_midday_ends_the_same_day() -> None:
    assert Quiet(time(13), time(15)).over_at(here("2026-11-26 14:00")) == here("2026-11-26 15:00")
    assert Quiet(time(13), time(15)).over_at(here("2026-11-26 15:30")) == here("2026-11-26 15:30")


@given(HOURS, HOURS, MOMENTS)
def test_whatever_the_hours_it_is_told_within_a_day_and_not_in_them(begins: time, ends: time, now: datetime) -> None:
    if begins == ends:
        return
    quiet = Quiet(begins, ends)
    told = quiet.over_at(now)
    assert now <= told <= now + timedelta(hours=25)
    at = told.astimezone(ROME).time().replace(tzinfo=None)
    within = begins <= at < ends if begins < ends else at >= begins or at < ends
    assert not within or _in_the_hour_that_is_not(told)


def _in_the_hour_that_is_not(told: datetime) -> bool:
    """On the last Sunday of March there is no 02:30: it is told at 03:30."""
    shown = told.astimezone(ROME)
    return shown.month == 3 and shown.hour in (2, 3) and shown.day >= 25


def test_what_is_urgent_is_told_at_night() -> None:
    staff = Staff("sala", frozenset(Matter), NIGHT, "calcinaia")
    now = here("2026-11-26 23:30")
    assert staff.told_at(now, urgent=True) == now
    assert staff.told_at(now, urgent=False) == here("2026-11-27 07:00")


# ── who hears what ──────────────────────────────────────────────────────────────────────────────────


def test_a_comune_hears_its_own_and_what_is_everybodys_and_only_what_it_asked_for() -> None:
    sala = Staff("sala", frozenset({Matter.HALTS, Matter.FEEDS}), None, "calcinaia")
    sistemisti = Staff("sistemisti", frozenset({Matter.HALTS}))
    ours = Trouble("account whatsapp.calcinaia", Matter.HALTS, "calcinaia", "", "")
    theirs = Trouble("account whatsapp.bientina", Matter.HALTS, "bientina", "", "")
    everybodys = Trouble("source dpc-criticita", Matter.FEEDS, None, "", "")
    assert [sala.hears(one) for one in (ours, theirs, everybodys)] == [True, False, True]
    assert [sistemisti.hears(one) for one in (ours, theirs, everybodys)] == [True, True, False]
    assert (sala.account, sistemisti.account) == ("staff.calcinaia.sala", "staff.sistemisti")


# ── in words ────────────────────────────────────────────────────────────────────────────────────────


def test_one_trouble_is_one_sentence() -> None:
    said = in_words([Line("whatsapp.calcinaia è fermo.", urgent=True)])
    assert (said.title, said.body) == (
        "Allerta cittadini: serve qualcuno adesso",
        "whatsapp.calcinaia è fermo.",
    )


def test_many_at_once_are_three_sentences_and_how_many_others() -> None:
    lines = [Line(f"Corsia {n}.") for n in range(6)] + [Line("whatsapp.calcinaia è fermo.", urgent=True)]
    said = in_words(lines)
    assert said.body.splitlines() == [
        "whatsapp.calcinaia è fermo.",
        "Corsia 0.",
        "Corsia 1.",
        "E altre 4: guarda nella console.",
    ]
    assert said.gravity is Gravity.URGENT


@pytest.mark.parametrize(("lines", "last"), [(3, "Corsia 2."), (4, "E un'altra: guarda nella console.")])
def test_nothing_is_left_out_without_a_word(lines: int, last: str) -> None:
    assert in_words([Line(f"Corsia {n}.") for n in range(lines)]).body.splitlines()[-1] == last
    assert SHOWN == 3


def test_what_is_over_says_so_and_comes_last() -> None:
    said = in_words([Line("whatsapp.calcinaia invia di nuovo.", over=True), Line("Corsia routine.")])
    assert said.body == "Corsia routine.\nTornato a posto: whatsapp.calcinaia invia di nuovo."
    assert in_words([Line("Tutto.", urgent=True, over=True)]).title == "Allerta cittadini: tornato a posto"


# ── how often ───────────────────────────────────────────────────────────────────────────────────────

NOW = datetime(2026, 11, 26, 18, tzinfo=UTC)


def test_what_was_read_by_some_is_not_said_again_and_what_cannot_be_said_is_not_tried() -> None:
    ends = {answer: decide(answer, attempts=1, now=NOW, not_after=NOW + GIVES_UP_AFTER) for answer in Answer}
    assert {answer: end for answer, end in ends.items() if isinstance(end, Ended)} == AT_ONCE


@given(st.lists(st.sampled_from([Answer.FAILED, Answer.BUSY, Answer.TIMEOUT]), min_size=40, max_size=40))
def test_nothing_is_tried_for_more_than_an_hour_nor_for_ever(answers: list[Answer]) -> None:
    now, not_after, attempts = NOW, NOW + GIVES_UP_AFTER, 0
    for answer in answers:
        attempts += 1
        what = decide(answer, attempts=attempts, now=now, not_after=not_after)
        if isinstance(what, Ended):
            assert what is Ended.GIVEN_UP
            break
        assert now < what.at <= not_after
        now = what.at
    assert attempts <= MOST_ATTEMPTS


def test_a_room_that_never_answers_reads_it_three_times_at_most() -> None:
    ends = [
        decide(Answer.TIMEOUT, attempts=n, now=NOW, not_after=NOW + GIVES_UP_AFTER) for n in range(1, MOST_TIMEOUTS + 1)
    ]
    assert [isinstance(end, TryAgain) for end in ends] == [True, True, False]


# ── in the files ────────────────────────────────────────────────────────────────────────────────────

STAFF = '\n[[staff]]\nname = "sala"\nfor = ["halts", "approvals", "dead-letters"]\nquiet = "22:00-07:00"\n'


def with_staff(folder: Path, staff: str) -> Path:
    (folder / "calcinaia.toml").write_text((FOLDER / "calcinaia.toml").read_text() + staff)
    return folder


def test_a_comune_names_its_staff_and_never_where_they_are(tmp_path: Path) -> None:
    (sala,) = load(with_staff(tmp_path, STAFF))["calcinaia"].staff
    assert sala == Staff("sala", frozenset({Matter.HALTS, Matter.APPROVALS, Matter.DEAD_LETTERS}), NIGHT, "calcinaia")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (STAFF.replace('"halts"', '"halt"'), "staff[1].for 'halt' is not known; write one of halts, approvals"),
        (STAFF.replace("22:00-", "22-"), "staff[1].quiet '22-07:00' does not fit; write from when until when"),
        (STAFF.replace("07:00", "22:00"), "staff[1].quiet begins when it ends"),
        (STAFF.replace('"sala"', '"Sala operativa"'), "staff[1].name 'Sala operativa' does not fit"),
        (STAFF + STAFF, "staff has two entries called 'sala'"),
        (STAFF + 'url = "slack://a/b/c"\n', "staff[1].url is not a key that means anything here"),
        (STAFF.replace('["halts", "approvals", "dead-letters"]', "[]"), "staff[1].for needs at least one text"),
    ],
)
def test_a_slip_is_told_before_anybody_misses_a_notice(tmp_path: Path, change: str, sentence: str) -> None:
    with pytest.raises(AuthorityFileError) as error:
        load(with_staff(tmp_path, change))
    assert any(sentence in finding for finding in error.value.findings), error.value.findings


def test_who_hears_of_all_comuni_is_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALERTING_STAFF", json.dumps({"sistemisti": ["halts", "feeds"]}))
    assert Settings().staff_of_all == (Staff("sistemisti", frozenset({Matter.HALTS, Matter.FEEDS})),)
    monkeypatch.setenv("ALERTING_STAFF", "")
    assert Settings().staff_of_all == ()


@pytest.mark.parametrize("wrong", ["sistemisti", '{"Sistemisti": ["halts"]}', '{"sistemisti": ["halt"]}'])
def test_a_setting_that_cannot_be_read_names_itself(monkeypatch: pytest.MonkeyPatch, wrong: str) -> None:
    monkeypatch.setenv("ALERTING_STAFF", wrong)
    with pytest.raises(ValidationError, match="staff"):
        Settings()
