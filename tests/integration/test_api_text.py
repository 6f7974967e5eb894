"""What an operator sees of a text before it is sent: each form of it, what a colleague would mend, other languages."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from alerting import cap_json
from alerting.domain.rendering import Form
from alerting.domain.text_rules import RULES
from tests.integration.api_client import NOWHERE_TO_PUBLISH, Town, evacuate, serving
from tests.integration.calcinaia import one_database

pytestmark = one_database

ENGLISH = {
    "language": "en-GB",
    "headline": "Orange alert: the Arno is in flood",
    "description": "The river rises quickly at Fornacette.",
    "instruction": "Leave the ground floor and stay out of cellars.",
}


@pytest.fixture
async def town(database_url: str, tmp_path: Path) -> AsyncIterator[Town]:
    async with serving(database_url, NOWHERE_TO_PUBLISH, "t.", tmp_path) as town:
        yield town


async def previewed(town: Town, **changes: Any) -> dict[str, Any]:
    answer = await town.ask("POST", "/v1/alerts/preview", json=evacuate(**changes))
    assert answer.status == 200, answer.body
    body: dict[str, Any] = answer.body
    return body


def by_form(seen: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {text["form"]: text for text in seen["texts"]}


async def test_a_preview_shows_the_text_in_every_form_with_its_length(town: Town) -> None:
    seen = await previewed(town, headline="È in arrivo la piena dell’Arno")
    texts = by_form(seen)
    assert set(texts) == {form.value for form in Form}
    assert texts["template"]["text"] == seen["text"]
    assert {form: text["most"] for form, text in texts.items()} == {
        "template": 1024,
        "chat": 4096,
        "sms": 459,
        "mail": 20_000,
        "push": 1000,
        "panel": 99,
    }
    assert all(len(text["text"]) == text["characters"] for text in texts.values())
    sms = texts["sms"]
    assert sms["text"].startswith("Comune di Calcinaia: E' in arrivo la piena dell'Arno. Dove: Fornacette. Quando: ")
    assert (sms["encoding"], sms["parts"], sms["shortened"]) == ("gsm-7", 2, False)
    assert texts["mail"]["subject"] == "Comune di Calcinaia: È in arrivo la piena dell’Arno"
    assert (texts["chat"]["encoding"], texts["chat"]["parts"], texts["chat"]["subject"]) == (None, None, None)


async def test_an_exercise_says_so_at_both_ends_of_every_form(town: Town) -> None:
    for text in by_form(await previewed(town, exercise=True)).values():
        assert text["text"].startswith("ESERCITAZIONE - ") and text["text"].endswith("ESERCITAZIONE")


async def test_a_good_text_has_no_findings_and_a_poor_one_is_told_why_and_drafted_all_the_same(town: Town) -> None:
    assert (await previewed(town))["findings"] == []
    poor = {
        "headline": "IT-ALERT CRITICITÀ ORDINARIA DOMANI",
        "instruction": "Massima prudenza.",
    }
    seen = await previewed(town, **poor)
    assert [finding["rule"] for finding in seen["findings"]] == [
        "like-it-alert",
        "action-vague",
        "time-unclear",
        "jargon",
        "all-capitals",
    ]
    assert {finding["rule"]: finding["severity"] for finding in seen["findings"]} == {
        finding["rule"]: RULES[finding["rule"]][0].value for finding in seen["findings"]
    }
    assert all(finding["text"].endswith(".") for finding in seen["findings"])

    drafted = await town.draft(**poor)
    assert (drafted.status, drafted.body["findings"]) == (201, seen["findings"])
    read = await town.ask("GET", f"/v1/alerts/{drafted.body['identifier']}")
    assert read.body["findings"] == seen["findings"]
    again = await town.ask("GET", f"/v1/alerts/{drafted.body['identifier']}/preview")
    assert again.body["findings"] == seen["findings"]


async def test_a_translation_becomes_an_info_of_its_own_and_is_read_after_the_italian(town: Town) -> None:
    seen = await previewed(town, translations=[ENGLISH])
    assert by_form(seen).pop("panel")["text"].startswith("ALLERTA METEO ARANCION")
    for text in (text for form, text in by_form(seen).items() if form != "panel"):
        read_first = text["subject"] if text["form"] == "push" else text["text"]
        assert read_first.startswith("Comune di Calcinaia: Allerta meteo arancione")
        assert text["text"].endswith(f"English: {ENGLISH['headline']}. {ENGLISH['instruction']}")
    drafted = await town.draft(translations=[ENGLISH])
    document = (await town.ask("GET", f"/v1/alerts/{drafted.body['identifier']}")).body["document"]
    italian, english = cap_json.from_json(document).infos
    assert (italian.language, english.language) == ("it-IT", "en-GB")
    assert (english.headline, english.description, english.instruction) == tuple(ENGLISH.values())[1:]
    assert (english.areas, english.expires, english.severity) == (italian.areas, italian.expires, italian.severity)


async def test_a_translation_that_says_not_what_to_do_is_a_finding(town: Town) -> None:
    seen = await previewed(town, translations=[ENGLISH | {"instruction": ""}])
    assert [finding["rule"] for finding in seen["findings"]] == ["translation-halved"]


@pytest.mark.parametrize(
    ("translations", "pointer", "says"),
    [
        ([ENGLISH | {"language": "inglese!"}], "/translations/0/language", "no language tag"),
        ([ENGLISH | {"language": "it-IT"}], "/translations/0/language", "is Italian"),
        ([ENGLISH, ENGLISH | {"language": "en"}], "/translations", "has en twice"),
        ([ENGLISH | {"headline": "x" * 161}], "/translations/0/headline", "160"),
        ([ENGLISH | {"headline": ""}], "/translations/0/headline", ""),
        ([ENGLISH | {"instruction": "stay\x07in"}], "/translations/0/instruction", "control character"),
        ([ENGLISH | {"titolo": "?"}], "/translations/0/titolo", "not known here"),
    ],
)
async def test_a_translation_that_is_wrong_is_refused_by_its_field(
    town: Town, translations: list[dict[str, str]], pointer: str, says: str
) -> None:
    refused = await town.draft(translations=translations)
    assert (refused.status, refused.pointers) == (422, [pointer])
    assert says in refused.body["detail"]
