"""Buttons fit into what Telegram takes, and only those of this chat are believed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerting.authorities import load
from alerting.buttons import LONGEST_DATA, Buttons, LiveIn, Menu, ShowChoices, ShowZones, Want, menu_of, started_from
from alerting.domain.choices import CHOSEN, Choices, Topic, of_bits
from alerting.sealing import Seal

COMUNI = load()
SEAL = Seal(bytes(range(32)))
MARIA = Buttons(SEAL, "telegram.calcinaia", "5001")


@pytest.mark.parametrize("comune", COMUNI.values(), ids=COMUNI)
def test_every_frazione_of_every_comune_has_a_button_that_fits_and_is_known_again(comune: object) -> None:
    territory = comune.territory  # type: ignore[attr-defined]
    rows = MARIA.zones(territory)
    buttons = [button for row in rows for button in row]
    assert all(len(button.data.encode()) <= LONGEST_DATA for button in buttons)
    presses = [MARIA.pressed(button.data) for button in buttons]
    assert presses == [
        *(LiveIn(area.code) for area in territory.frazioni),
        LiveIn(territory.comune.code),
        ShowChoices(),
    ]


@given(st.integers(0, 15))
def test_a_button_says_what_is_to_be_so_that_to_press_it_twice_is_once(bits: int) -> None:
    rows = MARIA.choices(Choices(of_bits(bits)))
    presses = [MARIA.pressed(row[0].data) for row in rows]
    assert presses == [*(Want(topic, on=topic not in of_bits(bits)) for topic in CHOSEN), ShowZones()]
    assert [row[0].text[0] == "✅" for row in rows[:-1]] == [topic in of_bits(bits) for topic in CHOSEN]


@given(st.text(max_size=70))
def test_what_we_did_not_write_is_nothing(data: str) -> None:
    assert MARIA.pressed(data) is None


def test_a_button_of_another_chat_or_changed_on_its_way_is_nothing() -> None:
    for row in MARIA.choices(Choices()):
        data = row[0].data
        assert Buttons(SEAL, "telegram.calcinaia", "5002").pressed(data) is None
        assert Buttons(SEAL, "telegram.bientina", "5001").pressed(data) is None
        assert MARIA.pressed(data.replace("eventi", "raccolta") + "0") is None
        assert MARIA.pressed(data[:-1]) is None


def test_nobody_switches_emergencies_off_by_a_button() -> None:
    said = [MARIA.pressed(row[0].data) for row in MARIA.choices(Choices())]
    assert Topic.EMERGENZE not in {press.topic for press in said if isinstance(press, Want)}


def test_a_menu_is_stored_and_read_back() -> None:
    menu = Menu(MARIA.choices(Choices()), edits=7)
    assert menu_of(menu.as_json) == menu
    assert menu_of(None) == Menu()


@pytest.mark.parametrize(
    ("payload", "code"),
    [("fornacette", "calcinaia.fornacette"), ("FORNACETTE", "calcinaia.fornacette"), ("volantino7", None), ("", None)],
)
def test_a_link_may_carry_the_frazione(payload: str, code: str | None) -> None:
    assert started_from(payload, COMUNI["calcinaia"]) == code
