"""Templates as Meta has them, against what a comune's file says: every difference is found before an alert meets it."""

from dataclasses import replace
from typing import Any

import pytest
from aiohttp import ClientSession

from consumers.channel import Account, Secret
from consumers.channels.whatsapp_templates import look
from consumers.simulators.serving import Served
from tests.contract.fornacette import WHATSAPP_TOKEN, tell, whatsapp_account

GOOD: dict[str, Any] = {"variables": 5, "ttl": 43_200, "quality": "GREEN"}
AVVISO, FOTO, RISERVA = "avviso", "avviso_foto", "avviso_riserva"


@pytest.fixture
def account(meta: Served) -> Account:
    known = whatsapp_account(meta.base_url)
    ours = {"template": AVVISO, "template_image": FOTO, "standby_template": RISERVA, "template_language": "it"}
    return replace(known, settings=known.settings | ours)


async def registered(meta: Served, http: ClientSession, **avviso: Any) -> None:
    """All three as they should be, except for what a test changes in one."""
    templates = [
        {"name": AVVISO} | GOOD | avviso,
        {"name": FOTO, "header": "IMAGE"} | GOOD,
        {"name": RISERVA} | GOOD,
        {"name": "avviso_vecchio", "status": "DISABLED"},  # Meta's filter by name finds this one, too
    ]
    await tell(meta, http, "config", {"templates": templates})


async def test_of_templates_that_stand_as_the_file_says_there_is_nothing_to_say(
    meta: Served, http: ClientSession, account: Account
) -> None:
    await registered(meta, http)
    assert await look(account) == []


@pytest.mark.parametrize(
    ("change", "sentence", "grave"),
    [
        ({"status": "PAUSED"}, "is PAUSED", True),
        ({"status": "PENDING"}, "is PENDING", True),
        ({"category": "MARKETING"}, "is MARKETING", False),
        ({"ttl": None}, "has no message_send_ttl_seconds", False),
        ({"quality": "RED"}, "has the quality RED", False),
        ({"header": "IMAGE"}, "has the header IMAGE", True),
        ({"variables": 4}, "has the variables 1, 2, 3, 4, and the alerts have 1, 2, 3, 4, 5", True),
        ({"variables": 0, "parameters": ["comune", "dove"]}, "calls its variables by names", True),
        ({"language": "de"}, "is not registered in it", True),
        ({"name": "avviso_nuovo"}, "is not registered in it", True),
    ],
)
async def test_what_differs_is_found_and_how_grave_it_is(
    meta: Served, http: ClientSession, account: Account, change: dict[str, Any], sentence: str, grave: bool
) -> None:
    await registered(meta, http, **change)
    (finding,) = await look(account)
    assert (finding.account, finding.template, finding.grave) == ("whatsapp-fornacette", AVVISO, grave)
    assert sentence in finding.sentence


@pytest.mark.parametrize(("names", "flaws"), [("comune, dove, quando, cosa, fare", 0), ("comune, dove", 1)])
async def test_names_of_variables_are_compared(
    meta: Served, http: ClientSession, account: Account, names: str, flaws: int
) -> None:
    named = {"variables": 0, "parameters": ["dove", "comune", "quando", "cosa", "fare"]}
    await registered(meta, http, **named)
    only = {key: value for key, value in account.settings.items() if key not in ("template_image", "standby_template")}
    findings = await look(replace(account, settings=only | {"template_parameters": names}))
    assert len(findings) == flaws


async def test_meta_recategorises_and_the_life_of_messages_is_found_to_be_forgotten(
    meta: Served, http: ClientSession, account: Account
) -> None:
    await registered(meta, http)
    await tell(meta, http, "template", {"name": AVVISO, "category": "MARKETING"})
    sentences = [finding.sentence for finding in await look(account)]
    assert any("MARKETING" in one for one in sentences) and any("ttl_seconds" in one for one in sentences)


async def test_whoever_cannot_look_says_so_and_why(meta: Served, http: ClientSession, account: Account) -> None:
    await registered(meta, http)
    without = {key: value for key, value in account.settings.items() if key != "waba_id"}
    another = account.settings | {"waba_id": "102290129340399"}
    for cannot, why in (
        (replace(account, settings=without), "waba_id"),
        (replace(account, settings=another), "error 100"),
        (replace(account, token=Secret("EAAGwrong")), "error 190"),
        (replace(account, base_url="http://127.0.0.1:1"), "does not answer"),
        (replace(account, base_url="ftp://meta"), "base_url"),
    ):
        findings = await look(cannot)
        assert len(findings) == 3 and all(why in str(finding) for finding in findings), why
        assert WHATSAPP_TOKEN not in str(findings)
