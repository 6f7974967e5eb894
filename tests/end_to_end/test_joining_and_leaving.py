"""By keyword, for each of the five comuni with its own words; the answer comes in the reply lane."""

import pytest

from tests.end_to_end.town import Town

WORDS = {
    "fucecchio": ("ISCRIZIONE", "CANCELLAZIONE"),
    "bientina": ("ATTIVA", "DISATTIVA"),
    "cascina": ("Iscrizione", "Cancellazione"),
    "santa-fiora": ("ATTIVA COMUNE AMICO", "DISATTIVA COMUNE AMICO"),
    "calcinaia": ("Attiva", "Disattiva"),
}


@pytest.mark.parametrize("authority", WORDS)
def test_a_citizen_joins_is_confirmed_told_and_leaves(town: Town, authority: str) -> None:
    join, leave = WORDS[authority]
    number = f"+3934890{list(WORDS).index(authority)}{town.stack.prefix.encode()[1] % 10}001"
    comune = town.stack.authorities[authority]

    town.writes(number, join, authority)
    town.until(lambda: town.telephone(number) == [comune.texts.welcome])
    alert, _ = town.issue("Frana sulla provinciale", [authority], authority=authority, kind="chiusura-strada")
    town.delivered(alert)
    assert "Frana sulla provinciale" in town.telephone(number)[1]

    town.writes(number, leave, authority)
    town.until(lambda: town.telephone(number)[2:] == [comune.texts.goodbye])
    later, _ = town.issue("Riaperta la provinciale", [authority], authority=authority, kind="avviso")
    town.delivered(later)
    assert len(town.telephone(number)) == 3


def test_what_cannot_be_understood_is_answered_and_changes_nothing(town: Town) -> None:
    number = "+393489990011"
    texts = town.stack.authorities["calcinaia"].texts
    town.writes(number, "Quando passa la nettezza urbana?")
    town.until(lambda: town.telephone(number) == [texts.not_read])


def test_somebody_says_where_they_live(town: Town) -> None:
    number = "+393489990021"
    texts = town.stack.authorities["calcinaia"].texts
    town.writes(number, "Attiva")
    town.until(lambda: town.telephone(number) == [texts.welcome])
    town.writes(number, "zona fornacete")
    town.until(lambda: len(town.telephone(number)) == 2)
    assert "Fornacette" in town.telephone(number)[1]
    before = len(town.telephone(number))
    elsewhere, _ = town.issue("Senza luce in centro", ["capoluogo"], kind="interruzione-elettrica")
    town.delivered(elsewhere)
    assert len(town.telephone(number)) == before
    there, _ = town.issue("Senza luce a Fornacette", ["fornacette"], kind="interruzione-elettrica")
    town.delivered(there)
    assert "Senza luce a Fornacette" in town.telephone(number)[-1]
