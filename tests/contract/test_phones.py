"""The page that looks like the phone: what it shows, as it happens, and what it must not let through."""

import asyncio
import json
import re
from typing import Any

from aiohttp import ClientResponse, ClientSession

from consumers.channel import Text
from consumers.channels.whatsapp import WhatsApp
from consumers.simulators import phone_page
from consumers.simulators.phones import Phones
from consumers.simulators.serving import Served
from tests.contract.fornacette import Mailbox, tell, whatsapp_account

MARIA = "+393331234567"
ORANGE = Text("", template="allerta_pc_v3", variables=("Fornacette", "arancione", "dalle 14"))
AS_A_BROWSER = {"Accept": "text/html"}


def seen(phones: Phones, text: str, *, identity: str = "m1", **more: Any) -> None:
    phones.receive(at=1795000000.0, to=MARIA, account="Comune di Calcinaia", identity=identity, text=text, **more)


async def page_of(served: Served, http: ClientSession, number: str = MARIA) -> str:
    async with http.get(f"{served.base_url}/__sim/phone/{number}", headers=AS_A_BROWSER) as response:
        assert response.status == 200
        return await response.text()


async def next_event(response: ClientResponse) -> dict[str, str]:
    async with asyncio.timeout(20):
        while not (line := await response.content.readline()).startswith(b"data: "):
            assert line, "the stream ended"
    event: dict[str, str] = json.loads(line.removeprefix(b"data: "))
    return event


async def test_what_arrives_while_somebody_looks_is_shown_at_once(
    whatsapp: WhatsApp, meta: Served, http: ClientSession
) -> None:
    await whatsapp.send(whatsapp_account(meta.base_url), MARIA, ORANGE, "att_1")
    page = await page_of(meta, http)
    already = re.search(r'data-after="([0-9]+)"', page)
    assert already is not None
    async with http.get(f"{meta.base_url}/__sim/phone/{MARIA}/live?after={already[1]}") as live:
        assert live.content_type == "text/event-stream"
        await whatsapp.send(whatsapp_account(meta.base_url), "+393339999999", ORANGE, "att_2")
        later = Text("", template="allerta_pc_v3", variables=("Fornacette", "rossa", "adesso"))
        await whatsapp.send(whatsapp_account(meta.base_url), MARIA, later, "att_3")
        event = await next_event(live)
    assert "allerta rossa, adesso" in event["html"]


async def test_a_line_that_broke_goes_on_where_it_was(meta: Served, http: ClientSession) -> None:
    for number in range(4):
        seen(meta.simulator.phones, f"avviso {number}", identity=f"m{number}")
    url = f"{meta.base_url}/__sim/phone/{MARIA}/live?after=0"
    async with http.get(url, headers={"Last-Event-ID": "3"}) as live:
        assert "avviso 3" in (await next_event(live))["html"]


async def test_whoever_stops_looking_is_not_waited_for(meta: Served, http: ClientSession) -> None:
    phones = meta.simulator.phones
    async with http.get(f"{meta.base_url}/__sim/phone/{MARIA}/live"):
        await asyncio.sleep(0)
    async with asyncio.timeout(20):
        while phones._watching.get(MARIA):  # noqa: ASYNC110 - there is no event for it
            await asyncio.sleep(0.01)


async def test_what_a_citizen_writes_from_the_page_goes_to_the_webhook_and_stands_on_their_side(
    meta: Served, http: ClientSession, mailbox: Mailbox
) -> None:
    await tell(meta, http, "config", {"webhook_url": mailbox.url})
    assert '<form id="write"' in await page_of(meta, http)
    await tell(meta, http, "inbound", {"from": MARIA, "text": "ATTIVA"})
    assert '<li data-id="" class="mine"><p>ATTIVA</p>' in await page_of(meta, http)
    async with http.get(f"{meta.base_url}/__sim/phone/{MARIA}") as response:
        assert (await response.json())["items"] == []  # which they did not receive
    async with asyncio.timeout(20):
        while not mailbox.raw:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.01)
    assert b"ATTIVA" in mailbox.raw[0]


async def test_one_chooses_whom_to_write_to_by_the_name_people_see(meta: Served, http: ClientSession) -> None:
    fornacette = {"token": "x", "name": "Comune di Fornacette & C."}
    await tell(meta, http, "config", {"accounts": {"1": {"token": "x"}, "2": fornacette}})
    meta.simulator.phones.receive(at=1.0, to=MARIA, account="2", identity="m1", text="Ponte chiuso")
    page = await page_of(meta, http)
    assert '<option value="1">+390587000000</option>' in page
    assert '<option value="2" selected>Comune di Fornacette &amp; C.</option>' in page
    assert "da Comune di Fornacette &amp; C. · " in page


async def test_a_text_is_words_and_never_a_program(meta: Served, http: ClientSession) -> None:
    seen(meta.simulator.phones, "<script>alert(1)</script> https://allerta.example/a?b=1&c=2.")
    async with http.get(f"{meta.base_url}/__sim/phone/{MARIA}", headers=AS_A_BROWSER) as response:
        page = await response.text()
        assert response.headers["Content-Security-Policy"] == phone_page.POLICY
    assert "<script>alert" not in page and "&lt;script&gt;alert" in page
    assert '<a href="https://allerta.example/a?b=1&amp;c=2" rel="noreferrer">' in page
    hostile = "%3Cscript%3E%22"
    assert "<script>&quot;" not in await page_of(meta, http, hostile)
    assert "&lt;script&gt;&quot;" in await page_of(meta, http, hostile)


async def test_a_picture_is_seen_and_a_document_can_be_opened(meta: Served, http: ClientSession) -> None:
    phones = meta.simulator.phones
    seen(phones, "La mappa", media=phones.keep(b"\xff\xd8\xff", "image/jpeg"))
    seen(phones, "Il piano", media=phones.keep(b"%PDF-1.7", "application/pdf", "piano.pdf"), identity="m2")
    page = await page_of(meta, http)
    picture = re.search(r'<img src="([^"]+)"', page)
    assert picture is not None and '">piano.pdf</a>' in page
    async with http.get(meta.base_url + picture[1]) as response:
        assert await response.read() == b"\xff\xd8\xff"
        assert response.content_type == "image/jpeg"
        assert response.headers["X-Content-Type-Options"] == "nosniff"
    async with http.get(f"{meta.base_url}/__sim/media/{'0' * 64}") as response:
        assert response.status == 404


async def test_an_edited_text_stands_where_it_stood(meta: Served, http: ClientSession) -> None:
    phones = meta.simulator.phones
    seen(phones, "Ponte chiuso", identity="m1")
    seen(phones, "Altro", identity="m2")
    seen(phones, "SUPERATO: Ponte chiuso", identity="m3", edits="m1")
    page = await page_of(meta, http)
    assert page.index("SUPERATO: Ponte chiuso") < page.index("Altro")
    assert page.count("Ponte chiuso") == 1 and "modificato" in page
    async with http.get(f"{meta.base_url}/__sim/phone/{MARIA}/live?after=2") as live:
        assert (await next_event(live))["edits"] == "m1"


async def test_the_list_of_phones_has_whoever_heard_last_first(meta: Served, http: ClientSession) -> None:
    phones = meta.simulator.phones
    seen(phones, "Prima")
    phones.receive(at=1795000060.0, to="+393330000001", account="x", identity="m2", text="Poi")
    async with http.get(f"{meta.base_url}/__sim/phones") as response:
        assert (await response.json())["numbers"] == ["+393330000001", MARIA]
    async with http.get(f"{meta.base_url}/__sim/phones", headers=AS_A_BROWSER) as response:
        page = await response.text()
    assert f'<a href="/__sim/phone/{MARIA}">' in page
    for file in phone_page.FILES:
        async with http.get(f"{meta.base_url}/__sim/{file}") as response:
            assert response.status == 200
