"""Programs that know nothing of us: Kannel bound to our SMSC, and our adapter bound to an SMSC that others wrote.

What they and we make of each other's octets is then what a provider would make of ours.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from secrets import token_hex
from typing import Any

import pytest
from aiohttp import ClientSession, web
from aiosmpplib.codec import find_codec_info
from rich.console import Console

from alerting.domain.delivery import Accepted, ChannelHalted, Progress
from alerting.domain.sms import parts_of
from consumers.channel import Account, Secret, Text
from consumers.channels.sms_smpp import SmsSmpp
from consumers.local.serving import free_port, free_ports
from consumers.simulators import sms_smpp
from consumers.simulators.serving import Served
from tests.benchmarks.peers import programs
from tests.benchmarks.peers.programs import NoPeer, environment, listens, program, running, server
from tests.contract.fornacette import Notebook, received, sms_account, tell, until

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
        boxes_running = ExitStack()
        try:
            for name, binary, answers in (("bearerbox", bearerbox, boxes), ("smsbox", smsbox, sendsms)):
                one = running(name, [server(f"{name}.out", [binary, file], where)], partial(listens, answers))
                await asyncio.to_thread(boxes_running.enter_context, one)
            await until(lambda: bool(smsc.simulator._sessions), within=60)  # type: ignore[attr-defined]
            yield gateway
        finally:
            # In a thread: it says goodbye to our SMSC, which answers in this one.
            await asyncio.to_thread(boxes_running.close)
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
    await until(lambda: {name for name, types in gateway.receipts.items() if "1" in types} == said.keys(), within=60)
    arrived = await received(smsc, gateway.http)
    assert {item["text"].strip() for item in arrived} == set(said.values())
    assert {(item["to"], item["account"]) for item in arrived} == {(MARIA, "Fornacette")}
    for types in gateway.receipts.values():
        assert set(types) == {"8", "1"} and types.index("8") < types.index("1"), "taken, and then delivered"


async def test_kannel_understands_our_refusals_and_our_failures(peers: tuple[Served, Kannel]) -> None:
    _, gateway = peers
    await gateway.send("nobody", "+393331234404", "Evacuare.")
    await gateway.send("unreachable", "+393331234406", "Evacuare.")
    await until(lambda: "16" in gateway.receipts.get("nobody", []), within=60)
    await until(lambda: "2" in gateway.receipts.get("unreachable", []), within=60)
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
    await until(lambda: len(gateway.letters) == len(said), within=60)
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
    await until(lambda: bool(notebook.reports) and "1" in gateway.receipts.get("beside", []), within=60)
    await ours.close()
    assert isinstance(outcome, Accepted)
    (report,) = notebook.reports
    assert int(report.provider_id) == int(outcome.provider_id, 16)


# ── an SMSC that others wrote ───────────────────────────────────────────────────────────────────────


@asynccontextmanager
async def another_smsc(where: Path) -> AsyncIterator[tuple[str, Callable[[], list[dict[str, Any]]]]]:
    """Its address, and what it understood so far."""
    try:
        binaries = await asyncio.to_thread(environment, "smpp_twisted", Console(quiet=True))
    except NoPeer as missing:
        pytest.skip(str(missing))
    port = free_port()
    program_of_theirs = Path(programs.__file__).with_name("twisted_smsc.py")
    theirs = server("twisted-smsc", [binaries / "python", program_of_theirs, str(port)], where, {"PYTHONPATH": ""})
    running_it = ExitStack()
    try:
        one = running("the SMSC of others", [theirs], partial(listens, port))
        await asyncio.to_thread(running_it.enter_context, one)

        def understood() -> list[dict[str, Any]]:  # between lines of its log
            return [json.loads(line) for line in theirs.log.read_text().splitlines() if line.startswith("{")]

        yield f"smpp://127.0.0.1:{port}", understood
    finally:
        await asyncio.to_thread(running_it.close)


async def test_an_smsc_that_others_wrote_understands_every_part_and_we_its_receipts(tmp_path: Path) -> None:
    said = {"plain": "Evacuare. 10 € {a}", "long": LONG.strip(), "cyrillic": CYRILLIC.strip()}
    notebook = Notebook()
    async with another_smsc(tmp_path) as (url, understood):
        ours = SmsSmpp(notebook, notebook)
        account = sms_account(url)
        in_two_hours = datetime.now(UTC) + timedelta(hours=2)
        for n, words in enumerate(said.values()):
            outcome = await ours.send(account, MARIA, Text(words, expires=in_two_hours), f"7.{n}.1")
            assert isinstance(outcome, Accepted)
        plain, long, cyrillic = (len(parts_of(words, 0)) for words in said.values())
        expected = plain + long + cyrillic
        await until(lambda: len(notebook.reports) == expected)
        with pytest.raises(ChannelHalted, match="password"):
            await ours.send(replace(account, token=Secret("Arno1967")), MARIA, Text("Evacuare."), "7.9.1")
        await ours.close()
        seen = understood()
    assert len(seen) == expected == len({report.provider_id for report in notebook.reports})
    assert {(one["source"], one["source_ton"]) for one in seen} == {("Fornacette", "ALPHANUMERIC")}
    assert {(one["destination"], one["destination_ton"]) for one in seen} == {(MARIA[1:], "INTERNATIONAL")}
    assert {one["receipt"] for one in seen} == {"SMSC_DELIVERY_RECEIPT_REQUESTED"}
    assert all(one["validity"][3:6] in ([2, 0, 0], [1, 59, 59], [1, 59, 58]) for one in seen)
    assert [one["coding"] for one in seen] == ["SMSC_DEFAULT_ALPHABET"] * (plain + long) + ["UCS2"] * cyrillic
    assert [one["features"] for one in seen] == [[]] + [["UDHI_INDICATOR_SET"]] * (expected - 1)
    octets = [bytes.fromhex(one["octets"]) for one in seen]
    septets = find_codec_info("gsm0338")  # a table of others too
    assert septets.decode(octets[0], "strict")[0] == said["plain"]
    assert "".join(septets.decode(one[6:], "strict")[0] for one in octets[1 : 1 + long]) == said["long"]
    assert "".join(one[6:].decode("utf-16-be") for one in octets[1 + long :]) == said["cyrillic"]
    assert {report.progress for report in notebook.reports} == {Progress.DELIVERED}
