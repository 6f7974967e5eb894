"""Whoever reads another language finds it first, where an alert is in it; everybody else reads Italian first."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select

from alerting import issuing
from alerting.composing import Wording, compose
from alerting.domain import rendering
from alerting.domain.authority import Authority
from alerting.domain.kinds import Colour, Kind, Risk
from alerting.domain.rendering import Form, led_by, other_tongues, render
from alerting.domain.translations import Translation
from alerting.persistence import ledger, tables
from tests.integration.calcinaia import CALCINAIA
from tests.integration.engine import ANNA, BRUNO, FORNACETTE, ONE_KIND, Start, Town, meta, told, until

ENGLISH = Translation("en", "Flood of the Arno in Fornacette", instruction="Go upstairs. Do not go to the cellar.")
GERMAN = Translation("de", "Hochwasser des Arno in Fornacette", instruction="Gehen Sie nach oben.")


def flood(translations: Sequence[Translation] = (ENGLISH, GERMAN)) -> Wording:
    return Wording(
        kind=Kind.ALLERTA_METEO,
        headline="Piena dell'Arno a Fornacette",
        description="Il fiume sale.",
        instruction="Salire ai piani alti.",
        expires=datetime.now(UTC) + timedelta(hours=2),
        colour=Colour.ARANCIONE,
        risk=Risk.IDRAULICO,
        areas=(FORNACETTE,),
        translations=tuple(translations),
    )


async def issue(town: Town, wording: Wording, authority: Authority) -> int:
    now = datetime.now(UTC)
    async with town.database.write() as session:
        row = await issuing.draft(session, wording, authority, ANNA, now)
        await issuing.approve(session, row, BRUNO, now)
        return (await issuing.issue(session, row, ANNA, now)).id


@ONE_KIND
async def test_who_reads_english_finds_it_first_and_the_italian_after_it(town: Town, engine: Start) -> None:
    anna, ben = await town.subscribe(2)
    async with town.database.write() as session:
        people = select(tables.Recipient).where(tables.Recipient.is_channel.is_(False)).order_by(tables.Recipient.id)
        (await session.scalars(people)).all()[1].language = "en"
    async with meta() as served, engine(served):
        dispatch = await issue(town, flood(), town.authority)
        await until(lambda: set(told(served)) == {anna, ben})

        async def recorded() -> bool:
            return sum((await town.summary(dispatch)).values()) >= 2

        await until(recorded)
    said = {line["to"].lstrip("+"): line["variables"][0] for line in map(json.loads, served.simulator.phones._lines)}
    assert said[ben.lstrip("+")].startswith("English: Flood of the Arno in Fornacette. Go upstairs.")
    assert "Piena dell'Arno" in said[ben.lstrip("+")]
    assert said[anna.lstrip("+")].startswith(town.authority.name)


async def test_the_languages_of_some_of_an_audience_are_asked_for_at_once(town: Town) -> None:
    dispatch = await town.issued_and_fanned_out(2)
    async with town.database.read() as session:
        found = await ledger.languages(session, dispatch, [1, 2])
    assert found == {1: "it", 2: "it"}


@pytest.mark.parametrize("form", [form for form in Form if form not in (Form.SMS, Form.PANEL)])
def test_a_text_that_begins_in_another_language_says_all_in_italian_and_that_language_once(form: Form) -> None:
    alert = compose(flood(), CALCINAIA, datetime.now(UTC), None)
    assert other_tongues(alert) == ("en", "de")
    led = led_by(alert, form, "en")
    assert led is not None
    assert led.body.startswith("English: Flood of the Arno")
    assert led.body.count("Flood of the Arno") == 1
    assert "Deutsch: Hochwasser" in led.body
    for words in ("Piena dell'Arno", "Il fiume sale", "Salire ai piani alti"):
        assert words in led.body or words in led.subject
    assert rendering.MOST[form] >= len(led.body)
    if form is Form.TEMPLATE:
        assert led.body == rendering.TEMPLATE.format(*led.variables)
        assert all("\n" not in variable for variable in led.variables)


def test_where_there_is_no_room_or_no_such_language_the_text_is_everybodys() -> None:
    now = datetime.now(UTC)
    alert = compose(flood(), CALCINAIA, now, None)
    assert led_by(alert, Form.CHAT, "it") is led_by(alert, Form.CHAT, "fr") is led_by(alert, Form.SMS, "en") is None
    long = Translation("en", "Flood", instruction="Go upstairs. " * 70)
    too_long = compose(flood([long]), CALCINAIA, now, None)
    assert led_by(too_long, Form.TEMPLATE, "en") is None
    assert render(too_long).body.startswith("Comune di Calcinaia")
