"""Whether the templates of an account are registered as its file says, and stand so that an alert can leave in them.

Meta may re-categorise a template, pause it, or forget how long its messages live, on any day and without a word to
whoever sends them. So one looks: before going into service, and every day.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from aiohttp import ClientError, ClientSession, ClientTimeout, DummyCookieJar

from alerting.domain.authority import HEADERS, VARIABLES, parameter_names, templates_of
from alerting.domain.delivery import ChannelHalted
from consumers.channel import Account
from consumers.channels.line import endpoint, json_object

FIELDS = "name,language,status,category,parameter_format,components,message_send_ttl_seconds,quality_score"
LONGEST_LIFE = timedelta(hours=12)
"""Of a utility template; where it is not set, Meta keeps a message for 30 days."""
PLACEHOLDER = re.compile(r"\{\{\s*(\w+)\s*\}\}")
LONGEST_ANSWER = 1_000_000


@dataclass(frozen=True, slots=True)
class Finding:
    """Something about one template that may keep an alert from people. `grave`: nothing leaves in it now."""

    account: str
    template: str
    sentence: str
    grave: bool = False

    def __str__(self) -> str:
        return f"{self.account}: {self.template} {self.sentence}"


async def look(account: Account, *, within: timedelta = timedelta(seconds=10)) -> list[Finding]:
    """Ask Meta about each template the account names. Needs the scope whatsapp_business_management."""
    if not (business := account.settings.get("waba_id")):
        sentence = "cannot be looked at: the settings lack waba_id, the number of the WhatsApp Business account"
        return [Finding(account.name, name, sentence) for name in templates_of(account.settings)]
    findings: list[Finding] = []
    timeout = ClientTimeout(total=within.total_seconds())
    async with ClientSession(timeout=timeout, cookie_jar=DummyCookieJar()) as session:
        for name, key in templates_of(account.settings).items():
            registered = await _ask(session, account, business, name)
            if isinstance(registered, str):
                findings.append(Finding(account.name, name, registered, grave=True))
            else:
                findings += [
                    Finding(account.name, name, flaw, grave) for flaw, grave in flaws(account, key, registered)
                ]
    return findings


async def _ask(session: ClientSession, account: Account, business: str, name: str) -> dict[str, Any] | str:
    """The template in the account's language as Meta has it, or why it is not known."""
    language = account.settings.get("template_language", "it")
    try:
        url = endpoint(account, f"/{account.settings.get('api_version')}/{business}/message_templates")
        query = {"name": name, "fields": FIELDS, "limit": "100"}
        headers = {"Authorization": f"Bearer {account.token.value}"}
        async with session.get(url, params=query, headers=headers, allow_redirects=False) as response:
            answer = json_object(await response.content.read(LONGEST_ANSWER))
    except ChannelHalted as halted:
        return f"cannot be looked at: {halted.cause}"
    except (ClientError, TimeoutError, OSError, ValueError) as error:
        return f"cannot be looked at: Meta does not answer ({type(error).__name__})"
    error_said = (answer or {}).get("error")
    if isinstance(error_said, dict):
        return f"cannot be looked at: Meta answers error {error_said.get('code')}; check waba_id and the token's scopes"
    listed = (answer or {}).get("data")
    for one in listed if isinstance(listed, list) else ():
        if isinstance(one, dict) and one.get("name") == name and one.get("language") == language:
            return one
    return f"is not registered in {language}; register it in WhatsApp Manager"


def flaws(account: Account, key: str, registered: dict[str, Any]) -> Iterator[tuple[str, bool]]:
    """What is wrong with a template that a setting names, and whether nothing leaves in it as it is."""
    status, category = registered.get("status"), registered.get("category")
    if status != "APPROVED":
        yield f"is {status}, not APPROVED; nothing leaves in it", True
    if category != "UTILITY":
        yield (
            f"is {category}, not UTILITY: people are told less of it, and may have it stopped; ask for a review",
            False,
        )
    yield from _flaws_of_life(registered.get("message_send_ttl_seconds"))
    quality = registered.get("quality_score")
    if isinstance(quality, dict) and quality.get("score") in ("YELLOW", "RED"):
        yield f"has the quality {quality['score']}, and may be paused; have the standby template approved", False
    components = registered.get("components")
    parts = [part for part in components if isinstance(part, dict)] if isinstance(components, list) else []
    header = next((part.get("format") for part in parts if part.get("type") == "HEADER"), None)
    if header != (expected := HEADERS.get(key)):
        yield f"has the header {header}, and {key} needs {expected}", True
    body = next((str(part.get("text", "")) for part in parts if part.get("type") == "BODY"), "")
    yield from _flaws_of_variables(account, registered.get("parameter_format"), PLACEHOLDER.findall(body))


def _flaws_of_life(seconds: object) -> Iterator[tuple[str, bool]]:
    if not isinstance(seconds, int) or seconds <= 0:
        yield "has no message_send_ttl_seconds: a phone that is off shows it up to 30 days later; set it anew", False
    elif seconds > LONGEST_LIFE.total_seconds():
        yield f"lives for {seconds} s, longer than the 12 hours Meta allows a utility template; set it anew", False


def _flaws_of_variables(account: Account, form: object, placeholders: list[str]) -> Iterator[tuple[str, bool]]:
    written = account.settings.get("template_parameters")
    found = list(dict.fromkeys(placeholders))
    if written is None:
        wanted = [str(number) for number in range(1, VARIABLES + 1)]
        if form == "NAMED":
            yield "calls its variables by names; write these in template_parameters, in the order of the texts", True
            return
    else:
        wanted = parameter_names(written)
        if form != "NAMED":
            yield "numbers its variables; take template_parameters out of the settings", True
            return
    if sorted(found) != sorted(wanted):
        yield f"has the variables {', '.join(found) or 'none'}, and the alerts have {', '.join(wanted)}", True
