"""What stands on a post: of all alerts in force the most urgent, in capitals, in as many lines as there are."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerting import authorities
from alerting.authorities import AuthorityFileError
from alerting.domain.cap import Alert, MsgType, NamedValue, ResponseType, Status
from alerting.domain.lanes import Lane
from alerting.domain.panels import NOTHING, InForce, Light, PanelKind, Shows, what_a_panel_shows
from alerting.domain.recipients import Precision
from alerting.domain.rendering import EXERCISE, Form, on_a_panel, render
from tests.unit.test_rendering import NOW, PIENA, alerts

EVERYTHING = frozenset(Lane)
CAPITALS = {chr(code) for code in range(0x20, 0x60)} | set("{|}~`")


def saying(headline: str = "Piena dell'Arno", **changes: object) -> Alert:
    said = Alert("calcinaia-1", "pc@comune.calcinaia.pi.it", NOW, Status.ACTUAL, MsgType.ALERT, (PIENA,))
    return replace(said, infos=(replace(PIENA, headline=headline),), **changes)  # type: ignore[arg-type]


def standing(dispatch: int, lane: Lane, minutes: int, headline: str, lasts: int = 600, **changes: object) -> InForce:
    issued_at = NOW + timedelta(minutes=minutes)
    expires = NOW + timedelta(minutes=lasts)
    return InForce(dispatch, lane, issued_at, expires, saying(headline, identifier=f"calcinaia-{dispatch}", **changes))


def shown(*in_force: InForce, only: frozenset[Lane] = EVERYTHING, minutes: int = 60) -> str:
    now = NOW + timedelta(minutes=minutes)
    showing = what_a_panel_shows(in_force, lines=4, columns=24, only=only, now=now)
    return showing.lines[0] if showing.state is Shows.SHOW else "-"


def test_four_lines_say_what_where_what_to_do_and_until_when() -> None:
    said = replace(saying(), infos=(replace(PIENA, headline="Piena dell'Arno", instruction="È vietato uscire."),))
    assert on_a_panel(said) == ("PIENA DELL'ARNO", "FORNACETTE, SARDINA", "E' VIETATO USCIRE.", "FINO ALLE 23:30")


@pytest.mark.parametrize(
    ("lines", "columns", "expected"),
    [
        (1, 12, ("PIENA DELL..",)),
        (2, 24, ("PIENA DELL'ARNO", "NON SCENDERE IN CANTIN..")),
        (3, 20, ("PIENA DELL'ARNO", "FORNACETTE, SARDINA", "NON SCENDERE IN CA..")),
        (
            6,
            20,
            (
                "PIENA DELL'ARNO",
                "FORNACETTE, SARDINA",
                "NON SCENDERE IN",
                "CANTINE E",
                "SOTTOPASSI.",
                "FINO ALLE 23:30",
            ),
        ),
    ],
)
def test_the_fewer_the_lines_the_more_what_to_do_stays(lines: int, columns: int, expected: tuple[str, ...]) -> None:
    assert on_a_panel(saying(), lines, columns) == expected


@given(alerts, st.integers(1, 20), st.integers(8, 60))
def test_whatever_is_said_fits_the_panel_in_letters_it_has(alert: Alert, lines: int, columns: int) -> None:
    rows = on_a_panel(alert, lines, columns)
    assert 1 <= len(rows) <= lines
    assert all(0 < len(row) <= columns and CAPITALS.issuperset(row) for row in rows)


@given(alerts, st.integers(2, 20), st.integers(8, 60))
def test_an_exercise_says_so_at_both_ends_and_nothing_else_does(alert: Alert, lines: int, columns: int) -> None:
    rows = on_a_panel(alert, lines, columns)
    if alert.status is Status.ACTUAL:
        assert rows[-1] != EXERCISE or rows[0].startswith(EXERCISE) or EXERCISE in alert.first.instruction.upper()
    else:
        assert rows[0].startswith(EXERCISE[: columns - 2]) and rows[-1] == EXERCISE[:columns]


def test_the_preview_shows_a_panel_of_four_by_twenty_four() -> None:
    assert render(saying(), Form.PANEL).body.splitlines() == list(on_a_panel(saying(), 4, 24))


# ── of several ──────────────────────────────────────────────────────────────────────────────────────


def test_the_most_urgent_is_shown_and_when_it_ends_the_other_again() -> None:
    road = standing(1, Lane.EMERGENCY, 0, "Ponte chiuso")
    flood = standing(2, Lane.FLASH, 5, "Evacuare", lasts=90)
    later = standing(3, Lane.EMERGENCY, 10, "Acqua non potabile")
    assert shown(road, flood, later) == "EVACUARE"
    assert shown(road, flood, later, minutes=90) == "ACQUA NON POTABILE"
    assert shown(road, minutes=90) == "PONTE CHIUSO"
    assert shown(road, minutes=600) == "-", "not a second after it expires"


def test_a_siren_is_silent_whatever_else_is_in_force() -> None:
    others = [standing(n, lane, n, "Evento") for n, lane in enumerate(Lane) if lane is not Lane.FLASH]
    assert shown(*others, only=frozenset({Lane.FLASH})) == "-"
    assert shown(*others, standing(9, Lane.FLASH, -30, "Evacuare"), only=frozenset({Lane.FLASH})) == "EVACUARE"


def test_what_only_says_that_something_is_over_is_not_shown() -> None:
    over = replace(PIENA, response_type=(ResponseType.ALL_CLEAR,))
    cancel = standing(2, Lane.FLASH, 5, "Annullata", msg_type=MsgType.CANCEL)
    clear = replace(standing(3, Lane.FLASH, 6, "Fine"), alert=replace(saying(), infos=(over,)))
    assert shown(cancel, clear) == "-"
    assert shown(cancel, clear, standing(1, Lane.ROUTINE, 0, "Sagra")) == "SAGRA"


def test_the_colour_is_that_of_the_allerta_else_that_of_its_urgency() -> None:
    def light(lane: Lane, colour: str | None) -> Light:
        parameters = (NamedValue("it.colore", colour),) if colour else ()
        one = standing(1, lane, 0, "Piena")
        alert = replace(one.alert, infos=(replace(PIENA, parameters=parameters),))
        return what_a_panel_shows([replace(one, alert=alert)], lines=4, columns=24, only=EVERYTHING, now=NOW).colour

    assert [light(Lane.EMERGENCY, colour) for colour in ("gialla", "arancione", "rossa", "verde")] == [
        Light.YELLOW,
        Light.ORANGE,
        Light.RED,
        Light.ORANGE,
    ]
    assert [light(lane, None) for lane in (Lane.FLASH, Lane.ROUTINE)] == [Light.RED, Light.WHITE]


in_forces = st.builds(
    standing,
    dispatch=st.integers(1, 10**6),
    lane=st.sampled_from(Lane),
    minutes=st.integers(-500, 60),
    headline=st.sampled_from(["Piena", "Ponte chiuso", "Evacuare"]),
    lasts=st.integers(-60, 600),
)


@given(st.lists(in_forces, max_size=6, unique_by=lambda one: one.dispatch), st.frozensets(st.sampled_from(Lane)))
def test_of_any_alerts_in_any_order_one_is_shown_that_nothing_outranks(
    in_force: list[InForce], only: frozenset[Lane]
) -> None:
    def showing(some: list[InForce]) -> int | None:
        return what_a_panel_shows(some, lines=4, columns=24, only=only, now=NOW).dispatch

    meant = {one.dispatch: one for one in in_force if one.lane in only and one.expires > NOW}
    found = showing(in_force)
    assert found == showing(in_force[::-1])
    assert (found is None) == (not meant)
    if found is not None:
        assert min(one.lane.rank for one in meant.values()) == meant[found].lane.rank
        without = [one for one in in_force if one.dispatch != found]
        assert showing([*without, meant[found]]) == found
        assert showing(without) in {None, *meant} - {found}


def test_nothing_is_a_clear_that_never_expires() -> None:
    assert what_a_panel_shows([], lines=4, columns=24, only=EVERYTHING, now=NOW) == NOTHING
    assert NOTHING.state is Shows.CLEAR and NOTHING.expires is None


# ── in a comune's file ──────────────────────────────────────────────────────────────────────────────

ACCOUNT = """
[[channels]]
channel = "mqtt"
name = "mqtt.calcinaia"
identity = "Pannelli e sirene"
per_second = 50
settings = { url = "mqtts://broker.comune.calcinaia.pi.it:8883", user = "allerta" }
"""
PANEL = """
[[panels]]
id = "ponte-fornacette"
kind = "vms"
area = "fornacette"
"""


def written(folder: Path, *more: str) -> Path:
    """Calcinaia's file with something more in it."""
    shipped = (authorities.FOLDER / "calcinaia.toml").read_text()
    (folder / "calcinaia.toml").write_text(shipped + "".join(more))
    return folder


def test_a_panel_stands_in_a_frazione_or_at_a_point(tmp_path: Path) -> None:
    siren = '\n[[panels]]\nid = "scuola"\nkind = "siren"\npoint = [43.67, 10.59]\n'
    panel, sounding = authorities.load(written(tmp_path, ACCOUNT, PANEL, siren))["calcinaia"].panels
    assert (panel.lines, panel.columns, sorted(map(str, panel.only))) == (4, 24, ["emergency", "flash"])
    assert panel.place.areas == ("calcinaia.fornacette",) and panel.place.precision is Precision.FRAZIONE
    assert (sounding.kind, list(sounding.only)) == (PanelKind.SIREN, [Lane.FLASH])
    assert sounding.topic("050004") == "pc/050004/siren/scuola"


@pytest.mark.parametrize(
    ("more", "finding"),
    [
        ("lines = 0\n", "lines is not between 1 and 20"),
        ("columns = 61\n", "columns is not between 8 and 60"),
        ("point = [43.67, 10.59]\n", "write one of the two"),
        ('only = ["urgente"]\n', "'urgente' is not known"),
        ("exercise = true\n", "no account on mqtt for exercises"),
        ("column = 20\n", "did you mean columns"),
        ('\n[[panels]]\nid = "ponte-fornacette"\nkind = "vms"\narea = "fornacette"\n', "two panels are called"),
        ('\n[[panels]]\nid = "Ponte 2"\nkind = "vms"\narea = "fornacette"\n', "does not fit"),
        ('\n[[panels]]\nid = "b"\nkind = "vms"\narea = "pontedera"\n', "is no area of this file"),
        ('\n[[panels]]\nid = "b"\nkind = "vms"\npoint = [10.59, 43.67]\n', "latitude, then longitude"),
        ('\n[[panels]]\nid = "b"\nkind = "vms"\npoint = ["43", 10]\n', "two numbers in brackets"),
        ('\n[[panels]]\nid = "b"\nkind = "vms"\n', "write one of the two"),
        ('\n[[panels]]\nid = "b"\nkind = "siren"\narea = "fornacette"\nonly = ["flash", "routine"]\n', "or not at all"),
    ],
)
def test_what_is_wrong_with_a_panel_is_said_before_anybody_speaks(tmp_path: Path, more: str, finding: str) -> None:
    with pytest.raises(AuthorityFileError, match=finding):
        authorities.load(written(tmp_path, ACCOUNT, PANEL, more))


def test_a_panel_without_an_account_is_told_by_nobody(tmp_path: Path) -> None:
    with pytest.raises(AuthorityFileError, match="no account on mqtt that tells it"):
        authorities.load(written(tmp_path, PANEL))


@pytest.mark.parametrize("url", ["http://broker", "mqtt://", "mqtt://allerta:segreto@broker:1883", "broker:1883"])
def test_a_broker_has_an_address_without_a_password_in_it(tmp_path: Path, url: str) -> None:
    with pytest.raises(AuthorityFileError, match="is no MQTT broker"):
        authorities.load(written(tmp_path, ACCOUNT.replace("mqtts://broker.comune.calcinaia.pi.it:8883", url)))
