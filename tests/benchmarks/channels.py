"""What one text costs in our own process on each channel, beyond what the client alone would take for it.

The providers are the simulators, and for letters a real postfix, all in processes of their own: only ours is counted.
"""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import uvloop
from aiosmtplib import SMTP

from alerting.domain.delivery import Accepted, Channel, Outcome
from alerting.domain.sms import Wrote
from alerting.postmarks import Postmarks
from consumers.channel import Account, Called, ChannelAdapter, Report, Secret, Text
from consumers.channels.email import Email
from consumers.channels.letters import Sender, letter
from consumers.channels.sms_smpp import SmsSmpp
from consumers.channels.telegram import Telegram
from consumers.channels.whatsapp import WhatsApp
from consumers.local.serving import free_port
from consumers.local.stack import ROOT, fetch
from tests.benchmarks.bench_town import Runs, Services, bar
from tests.benchmarks.peers.postfix import DOMAIN, postfix
from tests.contract.telegram_parts import Ids, Posts

RUNS = 5
TEXTS = 2_000
AT_ONCE = 32
"""As many calls under way, for the client alone too: an event loop with more to do at once takes less for each."""
FAST: dict[str, Any] = {"per_second": 1e6, "burst": 1.0}
UP_WITHIN = 15.0  # seconds
TOKEN = "7000000001:AAbenchmark7nobodyMayReadThis"

EVACUATE = Text(
    "Comune di Calcinaia: esondazione dell'Arno\nDove: Fornacette\nQuando: adesso\nCosa fare: sali ai piani alti.",
    subject="Comune di Calcinaia: esondazione dell'Arno",
    expires=datetime(2100, 1, 1, tzinfo=UTC),
    thread=("calcinaia-1",),
)
IN_A_TEMPLATE = Text(
    EVACUATE.body,
    template="avviso_comune",
    variables=("Comune di Calcinaia: esondazione dell'Arno", "Fornacette", "adesso", "-", "sali ai piani alti."),
)


def channels(services: Services) -> Runs:
    """`channels.<name>.cpu_ms`: milliseconds of CPU a text beyond the client's own, of SMS the client's with it;
    `channels.<name>.per_s`: texts a second to the other end, over all of a process's lines."""
    runs: Runs = {}
    with bar(services.console, "channels", 4 * RUNS) as shown:
        for number, measure in enumerate((_whatsapp, _telegram, _sms, _email)):
            for run in range(RUNS):
                for key, value in measure(services).items():
                    runs.setdefault(key, []).append(value)
                shown(number * RUNS + run + 1)
    return runs


# ── each channel ────────────────────────────────────────────────────────────────────────────────────


def _whatsapp(services: Services) -> dict[str, float]:
    template = {"name": "avviso_comune", "variables": 5, "body": "{{1}}\nDove: {{2}}\nQuando: {{3}}\n{{4}}\n{{5}}"}
    told = {"accounts": {"1": {"token": TOKEN}}, "templates": [template], "pair_burst": 1000, **FAST}
    with _simulator(services, "whatsapp", told) as url:
        account = _account(Channel.WHATSAPP, url, {"phone_number_id": "1", "api_version": "v26.0"})
        body = {
            "messaging_product": "whatsapp",
            "recipient_type": "individual",
            "type": "template",
            "template": {
                "name": "avviso_comune",
                "language": {"code": "it"},
                "components": [
                    {"type": "body", "parameters": [{"type": "text", "text": v} for v in IN_A_TEMPLATE.variables]}
                ],
            },
            "to": "{}",
            "biz_opaque_callback_data": "1.1.1",
        }
        bare = _bare_http(f"{url}/v26.0/1/messages", body, {"Authorization": f"Bearer {TOKEN}"})
        return _figures("whatsapp", _ours(lambda: WhatsApp(Ids()), account, IN_A_TEMPLATE, _phone), bare)


def _telegram(services: Services) -> dict[str, float]:
    told = {"accounts": {TOKEN.partition(":")[0]: {"token": TOKEN}}, "chat_per_second": 1e6, **FAST}
    with _simulator(services, "telegram", told) as url:
        account = _account(Channel.TELEGRAM, url, {})
        body = {"chat_id": "{}", "text": EVACUATE.body, "link_preview_options": {"is_disabled": True}}
        bare = _bare_http(f"{url}/bot{TOKEN}/sendMessage", body, {})
        return _figures("telegram", _ours(lambda: Telegram(Ids(), Posts()), account, EVACUATE, _chat), bare)


def _sms(services: Services) -> dict[str, float]:
    port = free_port()
    told = {"accounts": {"calcinaia": {"password": "Arno1966", "senders": ["Calcinaia"]}}, "smpp_port": port, **FAST}
    with _simulator(services, "sms", told):
        settings = {"sender": "Calcinaia", "protocol": "smpp", "user": "calcinaia"}
        account = _account(Channel.SMS, f"smpp://127.0.0.1:{port}", settings, token="Arno1966")
        text = Text("Fornacette: esondazione dell'Arno. Sali ai piani alti.", expires=EVACUATE.expires)
        return _figures("sms", _ours(lambda: SmsSmpp(_NobodyAsks(), _NobodyWrites()), account, text, _phone), None)


def _email(services: Services) -> dict[str, float]:
    with postfix(services.console) as server:
        account = _account(Channel.EMAIL, server.url, {}, identity="avvisi@comune.calcinaia.pi.it")
        ours = _ours(lambda: Email(Postmarks(b"5" * 32)), account, EVACUATE, lambda n: f"cittadino{n}@{DOMAIN}")
        return _figures("email", ours, _bare_smtp(server.url, account.identity))


# ── ours, and the client alone ──────────────────────────────────────────────────────────────────────

Cost = tuple[float, float]
"""Seconds of CPU and seconds by the clock that one text took."""


def _figures(name: str, ours: Cost, bare: Cost | None) -> dict[str, float]:
    cpu, seconds = ours
    return {f"channels.{name}.cpu_ms": 1000 * (cpu - (bare[0] if bare else 0.0)), f"channels.{name}.per_s": 1 / seconds}


def _ours(make: Callable[[], ChannelAdapter], account: Account, text: Text, address: Callable[[int], str]) -> Cost:
    async def measured() -> Cost:
        adapter = make()

        async def tell(number: int) -> None:
            outcome: Outcome = await adapter.send(account, address(number), text, f"1.{number}.1")
            if not isinstance(outcome, Accepted):
                raise RuntimeError(f"{account.channel} did not take a text: {outcome}")

        try:
            return await _cost_of(tell)
        finally:
            await adapter.close()

    return _run(measured)


def _bare_http(url: str, body: dict[str, Any], headers: dict[str, str]) -> Cost:
    """An aiohttp loop that posts the same and reads the answer."""
    before, after = json.dumps(body, separators=(",", ":")).split('"{}"')

    async def measured() -> Cost:
        async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session:

            async def tell(number: int) -> None:
                others = number + 5_000  # nobody may be told twice within seconds
                to = f'"{_phone(others)}"' if "messages" in url else _chat(others)
                words = f"{before}{to}{after}".encode()
                whole = headers | {"Content-Type": "application/json"}
                async with session.post(url, data=words, headers=whole) as answer:
                    answered = await answer.read()
                    if answer.status != 200:
                        raise RuntimeError(f"{url.partition('/bot')[0]} did not take a text: {answered!r}")

            return await _cost_of(tell)

    return _run(measured)


def _bare_smtp(url: str, sender: str) -> Cost:
    """Ten kept connections of aiosmtplib, each handed letters that are ready."""
    port = int(url.rpartition(":")[2])
    built = letter(EVACUATE, Sender(sender), False)
    content = built.to(f"cittadino@{DOMAIN}", "benchmark@comune.calcinaia.pi.it", datetime.now(UTC), None)

    async def measured() -> Cost:
        idle: asyncio.Queue[SMTP] = asyncio.Queue()
        clients = [SMTP(hostname="127.0.0.1", port=port, start_tls=False) for _ in range(10)]
        for client in clients:
            await client.connect()
            idle.put_nowait(client)

        async def tell(number: int) -> None:
            client = await idle.get()
            try:
                await client.sendmail(sender, [f"cittadino{number}@{DOMAIN}"], content)
            finally:
                idle.put_nowait(client)

        try:
            return await _cost_of(tell)
        finally:
            for client in clients:
                client.close()

    return _run(measured)


async def _cost_of(tell: Callable[[int], Awaitable[None]]) -> Cost:
    """Once to a few, so that lines are open and what is built once is built; then the clock runs."""
    await _all_told(tell, iter(range(AT_ONCE)))
    cpu, clock = time.process_time(), time.perf_counter()
    await _all_told(tell, iter(range(AT_ONCE, AT_ONCE + TEXTS)))
    return (time.process_time() - cpu) / TEXTS, (time.perf_counter() - clock) / TEXTS


async def _all_told(tell: Callable[[int], Awaitable[None]], numbers: Iterator[int]) -> None:
    async def one_after_another() -> None:
        for number in numbers:
            await tell(number)

    async with asyncio.TaskGroup() as hands:
        for _ in range(AT_ONCE):
            hands.create_task(one_after_another())


def _run(measured: Callable[[], Awaitable[Cost]]) -> Cost:
    async def main() -> Cost:
        return await measured()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main())


# ── what is needed for it ───────────────────────────────────────────────────────────────────────────


class _NobodyAsks:
    """Names and receipts of texts, forgotten at once: keeping them is the ledger's cost."""

    def called(self, called: Called) -> None: ...
    async def reported(self, report: Report) -> None: ...
    async def run(self) -> None: ...
    async def flush(self) -> None: ...


# Their last three digits would tell a simulator what to do.
class _NobodyWrites:
    async def wrote(self, account: str, wrote: Wrote) -> None: ...


def _phone(number: int) -> str:
    return f"+39348{number:04d}000"


def _chat(number: int) -> str:
    return f"1{number:04d}000"


def _account(
    channel: Channel, url: str, settings: dict[str, str], *, token: str = TOKEN, identity: str = ""
) -> Account:
    name = f"{channel}.calcinaia"
    return Account(name, "calcinaia", channel, url, Secret(token), settings, name, identity=identity)


@contextmanager
def _simulator(services: Services, name: str, told: dict[str, Any]) -> Iterator[str]:
    """A simulator in a process of its own, ended with the block. Raises RuntimeError where it does not come up."""
    port, file = free_port(), Path(services.where) / f"{name}.json"
    file.write_text(json.dumps(told))
    words = [sys.executable, "-m", "consumers.simulators", name, "--port", str(port), "--config", str(file)]
    popen = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.DEVNULL)
    try:
        give_up = time.monotonic() + UP_WITHIN
        while not fetch(f"http://127.0.0.1:{port}/__sim/received?limit=0"):
            if popen.poll() is not None or time.monotonic() > give_up:
                raise RuntimeError(f"the simulator of {name} did not come up on port {port}: is it free?")
            time.sleep(0.02)
        yield f"http://127.0.0.1:{port}"
    finally:
        popen.terminate()
        popen.wait()
