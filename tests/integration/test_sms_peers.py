"""Our SMSC and a program that knows nothing of us: Kannel, bound to it by SMPP, sends, is written to, and agrees.

What Kannel and the simulator make of each other's octets is then what a provider would make of ours.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from secrets import token_hex
from typing import Any

import pytest
from aiohttp import ClientSession, web
from rich.console import Console

from alerting.domain.delivery import Accepted
from consumers.channel import Account, Secret, Text
from consumers.channels.sms_smpp import SmsSmpp
from consumers.local.serving import free_ports
from consumers.simulators import sms_smpp
from consumers.simulators.serving import Served
from tests.benchmarks.peers.programs import NoPeer, listens, program, running, server
from tests.contract.fornacette import Notebook, received, tell, until

PASSWORD = "Arno1966"
MARIA = "+393331234110"
LONG = "Fornacette: l'Arno è in piena, € 10 {a} [b]. " * 9
CYRILLIC = "Форначетте: вода поднимается 🌊. " * 6
CONFIGURATION = """\
group = core
admin-port = {admin}
admin-interface = 127.0.0.1
admin-password = {secret}
smsbox-port = {boxes}
smsbox-interface = 127.0.0.1
box-deny-ip = "*.*.*.*"
box-allow-ip = "127.0.0.1"
log-file = {where}/bearerbox.log
log-level = 0

group = smsc
smsc = smpp
smsc-id = ours
host = 127.0.0.1
port = {smpp}
transceiver-mode = true
smsc-username = kannel
smsc-password = {password}
system-type = ""
source-addr-autodetect = true
dest-addr-ton = 1
dest-addr-npi = 1
msg-id-type = {ids}
reconnect-delay = 1

group = smsbox
bearerbox-host = 127.0.0.1
sendsms-port = {sendsms}
sendsms-interface = 127.0.0.1
log-file = {where}/smsbox.log
log-level = 0
mo-recode = true

group = sendsms-user
username = peer
password = {secret}
max-messages = 10
concatenation = true

group = sms-service
keyword = default
get-url = "{desk}/mo?from=%p&to=%P&text=%a"
max-messages = 0
"""


@dataclass
class Kannel:
    """The gateway, and what it tells us: receipts by the name of a text, and what people wrote."""

    sendsms: int
    secret: str
    desk: str
    http: ClientSession
    receipts: dict[str, list[str]] = field(default_factory=dict)
    letters: list[tuple[str, str, str]] = field(default_factory=list)

    async def send(self, name: str, to: str, text: str, **more: str) -> str:
        asked = {
            "username": "peer",
            "password": self.secret,
            "from": "Fornacette",
            "to": to,
            "text": text,
            "charset": "UTF-8",
            "dlr-mask": "31",
            "dlr-url": f"{self.desk}/dlr?name={name}&type=%d",
        } | more
        async with self.http.get(f"http://127.0.0.1:{self.sendsms}/cgi-bin/sendsms", params=asked) as answer:
            assert answer.status == 202, await answer.text()
            return await answer.text()

    async def _dlr(self, request: web.Request) -> web.Response:
        self.receipts.setdefault(request.query["name"], []).append(request.query["type"])
        return web.Response()

    async def _mo(self, request: web.Request) -> web.Response:
        self.letters.append((request.query["from"], request.query["to"], request.query["text"]))
        return web.Response()


@asynccontextmanager
async def kannel(smsc: Served, where: Path, *, ids: int) -> AsyncIterator[Kannel]:
    try:
        bearerbox, smsbox = (program(name, "kannel", Console(quiet=True)) for name in ("bearerbox", "smsbox"))
    except NoPeer as missing:
        pytest.skip(str(missing))
    admin, boxes, sendsms = free_ports(3)
    secret = token_hex(16)
    async with ClientSession() as http:
        gateway = Kannel(sendsms, secret, "", http)
        app = web.Application()
        app.add_routes([web.get("/dlr", gateway._dlr), web.get("/mo", gateway._mo)])
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        gateway.desk = f"http://127.0.0.1:{runner.addresses[0][1]}"
        known = {"admin": admin, "boxes": boxes, "sendsms": sendsms, "secret": secret, "password": PASSWORD}
        file = where / "kannel.conf"
        port = smsc.simulator.smpp_url.rpartition(":")[2]  # type: ignore[attr-defined]
        file.write_text(CONFIGURATION.format(where=where, smpp=port, desk=gateway.desk, ids=ids, **known))
        file.chmod(0o600)
        programs = ExitStack()
        try:
            for name, binary, answers in (("bearerbox", bearerbox, boxes), ("smsbox", smsbox, sendsms)):
                one = running(name, [server(f"{name}.out", [binary, file], where)], partial(listens, answers))
                await asyncio.to_thread(programs.enter_context, one)
            await until(lambda: bool(smsc.simulator._sessions), within=30)  # type: ignore[attr-defined]
            yield gateway
        finally:
            # In a thread: it says goodbye to our SMSC, which answers in this one.
            await asyncio.to_thread(programs.close)
            await runner.cleanup()


@pytest.fixture(params=[True, False], ids=["hex and decimal", "decimal"])
async def peers(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[tuple[Served, Kannel]]:
    """Our SMSC, and Kannel bound to it; with ids as most SMSCs have them, and as the others."""
    users = {"kannel": {"password": PASSWORD}, "fornacette": {"password": PASSWORD}}
    smsc = await sms_smpp.start({"accounts": users, "hex_ids": request.param})
    async with kannel(smsc, tmp_path, ids=1 if request.param else 0) as gateway:
        yield smsc, gateway
    await smsc.close()


async def test_what_kannel_sends_reaches_the_telephone_and_its_receipts_come_back(
    peers: tuple[Served, Kannel],
) -> None:
    smsc, gateway = peers
    said = {"plain": "Evacuare. 10 € {a}", "long": LONG.strip(), "cyrillic": CYRILLIC.strip()}
    for name, text in said.items():
        await gateway.send(name, MARIA, text, coding="2" if name == "cyrillic" else "0")
    await until(lambda: {name for name, types in gateway.receipts.items() if "1" in types} == said.keys(), within=30)
    arrived = await received(smsc, gateway.http)
    assert {item["text"].strip() for item in arrived} == set(said.values())
    assert {(item["to"], item["account"]) for item in arrived} == {(MARIA, "Fornacette")}
    for types in gateway.receipts.values():
        assert set(types) == {"8", "1"} and types.index("8") < types.index("1"), "taken, and then delivered"


async def test_kannel_understands_our_refusals_and_our_failures(peers: tuple[Served, Kannel]) -> None:
    _, gateway = peers
    await gateway.send("nobody", "+393331234404", "Evacuare.")
    await gateway.send("unreachable", "+393331234406", "Evacuare.")
    await until(lambda: "16" in gateway.receipts.get("nobody", []), within=30)
    await until(lambda: "2" in gateway.receipts.get("unreachable", []), within=30)
    assert "1" not in gateway.receipts["nobody"] + gateway.receipts["unreachable"]


@pytest.mark.parametrize("peers", [True], indirect=True)
@pytest.mark.parametrize("marked", ["header", "wide", "parameters"])
async def test_kannel_reads_what_our_telephones_write(peers: tuple[Served, Kannel], marked: str) -> None:
    smsc, gateway = peers
    said = ["Attiva però subito: 10 € {a}", "Подписаться 🌊"]
    said += [] if marked == "parameters" else [LONG, CYRILLIC]  # it leaves sar_… to whoever reads
    for words in said:
        what = {"account": "kannel", "from": MARIA, "to": "+393331230000", "text": words, "marked": marked}
        await tell(smsc, gateway.http, "inbound", what)
    await until(lambda: len(gateway.letters) == len(said), within=30)
    assert {text.strip() for _, _, text in gateway.letters} == {words.strip() for words in said}
    assert {(sender, to) for sender, to, _ in gateway.letters} == {(MARIA, "+393331230000")}


@pytest.mark.parametrize("peers", [True], indirect=True)
async def test_beside_kannel_our_own_adapter_gets_its_own_receipts(peers: tuple[Served, Kannel]) -> None:
    smsc, gateway = peers
    url = smsc.simulator.smpp_url  # type: ignore[attr-defined]
    settings: dict[str, Any] = {"sender": "Fornacette", "protocol": "smpp", "user": "fornacette"}
    notebook = Notebook()
    ours = SmsSmpp(notebook, notebook)
    channel = ours.name
    account = Account("sms.calcinaia", "calcinaia", channel, url, Secret(PASSWORD), settings, "sms.calcinaia")
    outcome = await ours.send(account, MARIA, Text("Evacuare."), "7.1.1")
    await gateway.send("beside", MARIA, "Evacuare.")
    await until(lambda: bool(notebook.reports) and "1" in gateway.receipts.get("beside", []), within=30)
    await ours.close()
    assert isinstance(outcome, Accepted)
    (report,) = notebook.reports
    assert int(report.provider_id) == int(outcome.provider_id, 16)
