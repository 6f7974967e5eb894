"""MeteoAlarm read for operators: the real feed, and feeds no sane server would send."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from alerting.feeds.meteoalarm import MOST_BYTES, MOST_FINDINGS, Level, Phenomenon, read_warnings

SAMPLE = Path(__file__).parents[2].parent / "shared/data/meteoalarm/feed_italy_sample.json"
SENDER = "aerocnmca.1sv.prv1@aeronautica.difesa.it"
SENT = "2026-11-20T11:00:00+01:00"


@pytest.fixture
def real() -> bytes:
    if not SAMPLE.is_file():
        pytest.skip("the shared data are not here")
    return SAMPLE.read_bytes()


def entry(identifier: str = "IT.1", *, level: str = "3; orange; Severe", **more: Any) -> dict[str, Any]:
    """An alert of the Air Force for Toscana; `info` and `alert` change what they name."""
    info = {
        "language": "it-IT",
        "event": "Arancione Pioggia Allerta",
        "severity": "Severe",
        "onset": "2026-11-21T00:00:00+01:00",
        "expires": "2026-11-21T23:59:00+01:00",
        "headline": "Allerta Pioggia Arancione per l'Italia - Toscana",
        "description": 'Piogge intense.\n (DISCLAIMER: "Non è il Servizio Nazionale.")',
        "parameter": [
            {"valueName": "awareness_level", "value": level},
            {"valueName": "awareness_type", "value": "10; Rain"},
        ],
        "area": [{"areaDesc": "Toscana", "geocode": [{"valueName": "EMMA_ID", "value": "IT009"}]}],
    } | more.get("info", {})
    english = info | {"language": "en-GB", "headline": "Orange Rain Warning for Italy - Toscana"}
    alert = {
        "identifier": identifier,
        "sender": SENDER,
        "sent": SENT,
        "status": "Actual",
        "msgType": "Alert",
        "info": [english, info],
    } | more.get("alert", {})
    return {"uuid": identifier, "alert": alert}


def feed(*entries: object) -> bytes:
    return json.dumps({"warnings": entries}).encode()


# ── the real one ────────────────────────────────────────────────────────────────────────────────────


def test_the_real_feed_is_read_without_a_doubt_and_green_is_dropped(real: bytes) -> None:
    read = read_warnings(real)
    assert read.findings == ()
    assert [(one.region, one.phenomenon, one.level) for one in read.warnings] == [
        ("IT012", Phenomenon.HIGH_TEMPERATURE, Level.ORANGE),
        ("IT012", Phenomenon.THUNDERSTORM, Level.ORANGE),
        ("IT012", Phenomenon.WIND, Level.ORANGE),
        ("IT004", Phenomenon.THUNDERSTORM, Level.YELLOW),
        ("IT005", Phenomenon.RAIN, Level.YELLOW),
        ("IT003", Phenomenon.HIGH_TEMPERATURE, Level.ORANGE),
        ("IT002", Phenomenon.THUNDERSTORM, Level.YELLOW),
        ("IT018", Phenomenon.THUNDERSTORM, Level.YELLOW),
        ("IT017", Phenomenon.HIGH_TEMPERATURE, Level.RED),
    ]


def test_every_real_warning_is_in_italian_and_keeps_its_disclaimer(real: bytes) -> None:
    for warning in read_warnings(real).warnings:
        assert "per l'Italia" in warning.headline
        assert "non rappresentano i messaggi di Allerta Ufficiali" in warning.disclaimer
        assert "DISCLAIMER" not in warning.description
    heat = read_warnings(real).of_region("IT017")[0]
    assert heat.onset.tzinfo and heat.expires == datetime.fromisoformat("2026-08-02T23:59:00+02:00")


def test_of_a_region_the_gravest_comes_first_and_what_has_expired_can_be_left_out(real: bytes) -> None:
    lazio = read_warnings(real).of_region("IT012")
    assert [one.onset for one in lazio] == sorted(one.onset for one in lazio)
    assert read_warnings(real).of_region("IT009") == ()
    on_the_first = read_warnings(real).in_force(datetime(2026, 8, 1, 10, tzinfo=UTC))
    assert [one.region for one in on_the_first.warnings] == ["IT012", "IT003", "IT017"]


@pytest.mark.parametrize("cut", range(0, 45_000, 4_321))
def test_half_a_feed_is_a_finding(real: bytes, cut: int) -> None:
    read = read_warnings(real[:cut])
    assert [one.rule for one in read.findings] == ["meteoalarm-not-json"]
    assert read.warnings == ()


# ── what follows what ───────────────────────────────────────────────────────────────────────────────


def following(identifier: str, of: str, **more: Any) -> dict[str, Any]:
    alert = {"msgType": "Update", "sent": "2026-11-20T12:00:00+01:00", "references": f"{SENDER},{of},{SENT}"}
    return entry(identifier, **more, alert=alert)


def test_what_a_later_one_refers_to_is_dropped() -> None:
    read = read_warnings(feed(entry("IT.1"), following("IT.2", "IT.1", level="4; red; Extreme")))
    assert [(one.identifier, one.level) for one in read.warnings] == [("IT.2", Level.RED)]


def test_an_update_to_green_ends_a_warning() -> None:
    assert read_warnings(feed(entry("IT.1"), following("IT.2", "IT.1", level="1; green; Minor"))).warnings == ()


def test_a_cancel_ends_a_warning_and_is_none_itself() -> None:
    cancel = following("IT.2", "IT.1")
    cancel["alert"]["msgType"] = "Cancel"
    assert read_warnings(feed(cancel, entry("IT.1"))).warnings == ()


def test_the_same_moment_written_in_another_zone_is_the_same_reference() -> None:
    update = following("IT.2", "IT.1")
    update["alert"]["references"] = f"{SENDER},IT.1,2026-11-20T10:00:00+00:00"
    assert [one.identifier for one in read_warnings(feed(entry("IT.1"), update)).warnings] == ["IT.2"]


def test_a_test_neither_warns_nor_ends_anything() -> None:
    update = following("IT.2", "IT.1")
    update["alert"]["status"] = "Test"
    assert [one.identifier for one in read_warnings(feed(entry("IT.1"), update)).warnings] == ["IT.1"]


def test_the_same_entry_twice_is_one_warning() -> None:
    assert len(read_warnings(feed(entry(), entry())).warnings) == 1


# ── other countries, other habits ───────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("level", ["3; orange; Severe", "3; Orange; Severe", "3;ORANGE", " 3 ; arancione", "3"])
def test_only_the_leading_number_counts(level: str) -> None:
    assert read_warnings(feed(entry(level=level))).warnings[0].level is Level.ORANGE


@pytest.mark.parametrize("level", ["", "orange", "7; violet", "33; orange"])
def test_without_a_level_the_severity_is_taken_and_said(level: str) -> None:
    read = read_warnings(feed(entry(level=level)))
    assert read.warnings[0].level is Level.ORANGE
    assert [one.rule for one in read.findings] == ["meteoalarm-level"]


def test_without_level_and_severity_it_is_left_out_and_said() -> None:
    read = read_warnings(feed(entry(level="", info={"severity": "Unknown"}), entry("IT.2")))
    assert [one.identifier for one in read.warnings] == ["IT.2"]
    assert [one.rule for one in read.findings] == ["meteoalarm-level", "meteoalarm-incomplete"]


def test_a_phenomenon_nobody_knows_is_shown_in_the_issuers_words() -> None:
    unknown = [{"valueName": "awareness_level", "value": "3"}, {"valueName": "awareness_type", "value": "99; Sabbia"}]
    read = read_warnings(feed(entry(info={"parameter": unknown, "event": "Allerta sabbia"})))
    assert (read.warnings[0].phenomenon, read.warnings[0].event) == (None, "Allerta sabbia")
    assert [one.rule for one in read.findings] == ["meteoalarm-phenomenon"]


def test_english_is_read_where_there_is_no_italian() -> None:
    only_english = entry()
    del only_english["alert"]["info"][1]
    assert read_warnings(feed(only_english)).warnings[0].headline.startswith("Orange Rain")


def test_every_level_and_phenomenon_has_its_word() -> None:
    assert all(level.in_words for level in Level)
    assert all(phenomenon.in_words for phenomenon in Phenomenon)


def test_a_description_without_a_disclaimer_is_kept_whole() -> None:
    warning = read_warnings(feed(entry(info={"description": "Piogge intense."}))).warnings[0]
    assert (warning.description, warning.disclaimer) == ("Piogge intense.", "")


# ── no sane server ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("raw", "rule"),
    [
        (b"", "meteoalarm-not-json"),
        (b"\xff\xfe\x00", "meteoalarm-not-json"),
        (b"[" * 100_000, "meteoalarm-not-json"),
        (b'{"warnings":' + b'{"a":' * 100_000, "meteoalarm-not-json"),
        (b'{"warnings":[' + b"9" * 5000 + b"]}", "meteoalarm-not-json"),
        (b"null", "meteoalarm-no-warnings"),
        (b'{"warnings":{}}', "meteoalarm-no-warnings"),
        (b'{"warnings":[1]}', "meteoalarm-no-alert"),
        (b'{"warnings":[{"alert":{}}]}', "meteoalarm-no-name"),
        (b" " * (MOST_BYTES + 1), "meteoalarm-too-large"),
    ],
)
def test_nonsense_is_a_finding(raw: bytes, rule: str) -> None:
    read = read_warnings(raw)
    assert read.warnings == ()
    assert [one.rule for one in read.findings] == [rule]


def test_one_bad_entry_costs_no_other() -> None:
    bad: list[object] = [None, 7, {"alert": []}, entry(info={"area": None}), entry(info={"expires": "domani"})]
    read = read_warnings(feed(*bad, entry("IT.9")))
    assert [one.identifier for one in read.warnings] == ["IT.9"]
    assert len(read.findings) == len(bad)


def test_findings_and_texts_are_bounded() -> None:
    read = read_warnings(feed(*[None] * 4000, entry(info={"headline": "A" * 100_000})))
    assert len(read.findings) == MOST_FINDINGS
    assert len(read.warnings[0].headline) == 4000


def _places(value: object) -> Iterator[tuple[Any, Any]]:
    """Every place in a JSON value that something else could stand in."""
    if isinstance(value, dict):
        for key in value:
            yield value, key
            yield from _places(value[key])
    elif isinstance(value, list):
        for at, one in enumerate(value):
            yield value, at
            yield from _places(one)


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@given(data=st.data(), junk=JUNK)
def test_junk_in_any_place_costs_at_most_its_own_entry(data: st.DataObject, junk: object) -> None:
    spoilt = entry("IT.1")
    holder, key = data.draw(st.sampled_from(list(_places(spoilt))), label="place")
    holder[key] = junk
    kept = [one.identifier for one in read_warnings(feed(spoilt, entry("IT.9"))).warnings]
    assert kept[-1:] == ["IT.9"]


@given(st.datetimes(timezones=st.just(UTC)), st.integers(-12, 14))
def test_a_moment_is_read_as_it_was_meant(moment: datetime, hours: int) -> None:
    try:
        written = moment.astimezone(timezone(timedelta(hours=hours))).isoformat()
    except OverflowError:
        assume(False)
    read = read_warnings(feed(entry(info={"onset": written})))
    assert read.warnings[0].onset == moment
