"""The lane follows from severity, urgency and category, never from a wish."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import product

import pytest

from alerting.domain.cap import Alert, Category, Certainty, Info, MsgType, Severity, Status, Urgency
from alerting.domain.lanes import Lane
from alerting.domain.urgency import lane_of

NOW = datetime(2026, 11, 21, 13, 0, tzinfo=UTC)


def says(severity: Severity, urgency: Urgency, category: Category = Category.MET) -> Info:
    return Info(
        category=(category,),
        event="piena dell'Arno",
        urgency=urgency,
        severity=severity,
        certainty=Certainty.LIKELY,
        expires=NOW + timedelta(hours=6),
        headline="L'Arno esce a Fornacette",
        description="L'acqua arriva in via Tosco-Romagnola.",
    )


def alert(*infos: Info, msg_type: MsgType = MsgType.ALERT) -> Alert:
    return Alert("calcinaia-1", "protezionecivile@comune.calcinaia.pi.it", NOW, Status.ACTUAL, msg_type, infos)


@pytest.mark.parametrize("urgency", Urgency)
def test_danger_to_life_is_flash_whenever_it_comes(urgency: Urgency) -> None:
    assert lane_of(alert(says(Severity.EXTREME, urgency))) is Lane.FLASH


@pytest.mark.parametrize("urgency", Urgency)
def test_severe_is_flash_when_it_is_now_and_emergency_otherwise(urgency: Urgency) -> None:
    expected = Lane.FLASH if urgency is Urgency.IMMEDIATE else Lane.EMERGENCY
    assert lane_of(alert(says(Severity.SEVERE, urgency))) is expected


@pytest.mark.parametrize(("urgency", "category"), list(product(Urgency, Category)))
def test_moderate_is_an_emergency_when_it_is_near_and_concerns_safety(urgency: Urgency, category: Category) -> None:
    near = urgency in (Urgency.IMMEDIATE, Urgency.EXPECTED)
    news = category in (Category.ENV, Category.OTHER)
    expected = Lane.EMERGENCY if near and not news else Lane.ROUTINE
    assert lane_of(alert(says(Severity.MODERATE, urgency, category))) is expected


@pytest.mark.parametrize("urgency", Urgency)
def test_minor_is_routine(urgency: Urgency) -> None:
    assert lane_of(alert(says(Severity.MINOR, urgency))) is Lane.ROUTINE


def test_a_feed_that_does_not_know_how_bad_it_is_but_that_it_is_now_is_believed() -> None:
    assert lane_of(alert(says(Severity.UNKNOWN, Urgency.IMMEDIATE))) is Lane.EMERGENCY
    assert lane_of(alert(says(Severity.UNKNOWN, Urgency.EXPECTED))) is Lane.ROUTINE


def test_one_safety_category_among_others_is_enough() -> None:
    mixed = replace(says(Severity.MODERATE, Urgency.EXPECTED), category=(Category.OTHER, Category.FIRE))
    assert lane_of(alert(mixed)) is Lane.EMERGENCY


def test_the_most_urgent_info_decides_in_whatever_language_it_is() -> None:
    calm, grave = says(Severity.MINOR, Urgency.FUTURE), says(Severity.EXTREME, Urgency.EXPECTED)
    assert lane_of(alert(calm, grave)) is lane_of(alert(grave, calm)) is Lane.FLASH


@pytest.mark.parametrize(("follows", "severity"), list(product(Lane, Severity)))
def test_an_update_is_never_slower_than_what_it_changes_nor_than_what_it_says(
    follows: Lane, severity: Severity
) -> None:
    changes = alert(says(severity, Urgency.EXPECTED), msg_type=MsgType.UPDATE)
    assert lane_of(changes, follows).rank == min(lane_of(changes).rank, follows.rank)


@pytest.mark.parametrize("follows", Lane)
def test_taking_back_a_calm_update_of_an_urgent_alert_is_flash(follows: Lane) -> None:
    calm = alert(says(Severity.MINOR, Urgency.FUTURE), msg_type=MsgType.CANCEL)
    assert lane_of(calm, follows) is (Lane.FLASH if follows.is_urgent else follows)


def test_taking_back_an_urgent_alert_is_flash_and_taking_back_news_is_news() -> None:
    urgent, news = says(Severity.SEVERE, Urgency.EXPECTED), says(Severity.MINOR, Urgency.FUTURE)
    assert lane_of(alert(urgent, msg_type=MsgType.CANCEL)) is Lane.FLASH
    assert lane_of(alert(news, msg_type=MsgType.CANCEL)) is Lane.ROUTINE
