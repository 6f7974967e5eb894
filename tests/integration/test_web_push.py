"""From the button on the comune's page to the receipt in the ledger; and the page and its worker in a real browser."""

import asyncio
import contextlib
import itertools
import json
import re
import shutil
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, ClientWebSocketResponse, WSMsgType

from alerting import authorities
from alerting.api import push
from alerting.api.push import Doorman, by_endpoint, by_host
from alerting.domain.delivery import Channel, Progress
from alerting.domain.push import subscription
from alerting.outbox import relay
from alerting.persistence import Database, tables
from alerting.sealing import Seal
from alerting.topology import RECEIPTS_QUEUE
from alerting.vapid import Vapid
from consumers import leaving
from consumers.channel import Account, Secret
from consumers.leaving import MOST_IN_DOUBT, Leaving
from consumers.receipts import Receipts
from consumers.simulators import web_push as simulator
from consumers.simulators.web_push import WebPushSimulator
from consumers.worker import Worker
from tests.integration import api_client, engine
from tests.integration.api_client import NOWHERE_TO_PUBLISH, settings_for
from tests.integration.engine import ONE_KIND, connected, delivering, until, working

ACCOUNT = "web_push.calcinaia"
AT = "/v1/authorities/calcinaia/push-subscriptions"
ABOUT = "/v1/authorities/calcinaia/web-push"
KEY = Vapid.new()
POLICY = authorities.load()["calcinaia"].policy.version
LOCAL = frozenset({"127.0.0.1"})


@pytest.fixture(autouse=True)
def everybody_begins_anew() -> None:
    by_host.forget()
    by_endpoint.forget()
    push.told_already.clear()


@dataclass
class Place:
    """Calcinaia with its API, its workers, and a push service."""

    api: api_client.Town
    town: engine.Town
    service: WebPushSimulator

    def browser(self, name: str) -> dict[str, Any]:
        """What a browser's PushSubscription says."""
        return self.service.subscribe(name, KEY.public_key)

    async def subscribe(self, name: str = "maria", **changes: Any) -> api_client.Answer:
        said = {"subscription": self.browser(name), "policy": POLICY} | changes
        return await self.api.ask("POST", AT, None, json=said)

    async def leave(self, name: str = "maria") -> api_client.Answer:
        return await self.api.ask("DELETE", AT, None, json={"endpoint": self.browser(name)["endpoint"]})

    async def ack(self, reference: str, event: str = "delivered") -> int:
        return (await self.api.ask("POST", "/v1/push/ack", None, json={"reference": reference, "event": event})).status

    async def tell(self, dispatch: int) -> int:
        await self.town.fan_out(dispatch)
        await until(lambda: self.town.is_over(dispatch))
        return dispatch

    async def people(self) -> list[tables.Recipient]:
        return [row for row in await self.api.rows(tables.Recipient) if not row.is_channel and row.left_at is None]

    async def reached(self) -> set[str]:
        """The endpoints of everybody who would be told."""
        rows = [row for row in await self.api.rows(tables.Address) if row.sealed]
        return {json.loads(self.town.seal.open(row.sealed))["endpoint"].rpartition("/")[2] for row in rows}

    async def stand_at(self, dispatch: int, **stands: int) -> None:
        wanted = {Progress[name]: people for name, people in stands.items()}

        async def so() -> bool:
            return await self.town.summary(dispatch) == wanted

        try:
            await until(so)
        except TimeoutError:
            assert await self.town.summary(dispatch) == wanted


@asynccontextmanager
async def a_place(
    database_url: str, amqp_url: str, prefix: str, folder: Path, *, tells: bool = True, **hosts: str
) -> AsyncIterator[Place]:
    """Without anybody who `tells`, the API alone."""
    served = await simulator.start({"per_second": 1000, "burst": 1.0})
    assert isinstance(served.simulator, WebPushSimulator)
    settings = settings_for(database_url, amqp_url, prefix, folder)
    assert settings.secrets_file is not None
    secrets = json.loads(settings.secrets_file.read_text()) | {ACCOUNT: {"vapid_private_key": KEY.secret}}
    settings.secrets_file.write_text(json.dumps(secrets))
    settings = settings.model_copy(update={"web_push_hosts": "127.0.0.1"} | hosts)
    database, seal = Database(database_url), Seal(settings.key_bytes)
    tokens = await api_client._enrolled(database, seal)
    async with AsyncExitStack() as running:
        running.push_async_callback(served.close)
        running.push_async_callback(database.close)
        url = await running.enter_async_context(api_client.running(settings))
        http = await running.enter_async_context(ClientSession())
        api = api_client.Town(url, database, seal, tokens, http, settings)
        town = engine.Town(database, seal, authorities.load())
        await town.run("UPDATE addresses SET sealed = NULL, fingerprint = NULL")  # the public Telegram channels
        if not tells:
            yield Place(api, town, served.simulator)
            return
        link = await running.enter_async_context(connected(amqp_url, prefix))
        relaying = asyncio.create_task(relay(database, link, prefix))
        await running.enter_async_context(delivering(settings, served, Channel.WEB_PUSH))
        worker = Worker(settings, "receipts")
        receipts = Receipts(worker.database)
        worker.takes(RECEIPTS_QUEUE, receipts.take, prefetch=1000, at_once=500)
        await running.enter_async_context(working(worker, beside={"writing": receipts.run()}))
        yield Place(api, town, served.simulator)
        relaying.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await relaying


@pytest.fixture
async def place(database_url: str, amqp_url: str, amqp_prefix: str, tmp_path: Path) -> AsyncIterator[Place]:
    async with a_place(database_url, amqp_url, amqp_prefix, tmp_path) as found:
        yield found


@pytest.fixture
async def desk(database_url: str, tmp_path: Path) -> AsyncIterator[Place]:
    """Where browsers subscribe, and nobody is told anything."""
    async with a_place(database_url, NOWHERE_TO_PUBLISH, "", tmp_path, tells=False) as found:
        yield found


@ONE_KIND
async def test_from_the_button_to_the_receipt_in_the_ledger(place: Place) -> None:
    about = await place.api.ask("GET", ABOUT, None)
    assert (about.status, about.body["public_key"]) == (200, KEY.public_key)
    assert about.body["policy"]["version"] == POLICY and about.body["areas"][2]["name"] == "Fornacette"
    fornacette = [{"label": "casa", "area": "Fornacette"}]
    assert (await place.subscribe("maria", places=fornacette)).status == 201
    assert (await place.subscribe("luigi", places=[{"label": "casa", "area": "capoluogo"}])).status == 201

    alert = await place.tell(await place.town.issue())
    await place.stand_at(alert, ACCEPTED=1)
    (shown,) = place.service.shown
    assert shown["to"] == "maria", "Luigi lives elsewhere"
    assert shown["title"] == "Comune di Calcinaia: Piena dell'Arno a Fornacette"
    assert engine.EVACUATE in shown["body"] and shown["body"].startswith("Dove: Fornacette\nQuando: ")
    assert shown["urgent"] and shown["headers"]["Urgency"] == "high" and 7000 < int(shown["headers"]["TTL"]) <= 7200
    whole = await place.api.ask("GET", shown["url"], None)
    assert whole.status == 200 and engine.EVACUATE in whole.body and "Non più in vigore" not in whole.body

    assert await place.ack(shown["reference"]) == 204
    await place.stand_at(alert, DELIVERED=1)
    assert await place.ack(shown["reference"], "read") == 204
    await place.stand_at(alert, READ=1)
    assert await place.ack(shown["reference"]) == 204, "late and once more: nobody un-reads it"

    update = await place.tell(await place.town.update(alert))
    clear = await place.tell(await place.town.cancel(update))
    assert len({one["tag"] for one in place.service.shown}) == 1, "each stands where the one before stood"
    assert len({one["url"] for one in place.service.shown}) == 3
    await place.stand_at(clear, ACCEPTED=1)
    await place.stand_at(alert, READ=1)
    assert "Non più in vigore" in (await place.api.ask("GET", shown["url"], None)).body


@ONE_KIND
async def test_nobody_says_of_anothers_text_that_it_arrived(place: Place) -> None:
    for name in ("maria", "luigi"):
        await place.subscribe(name)
    alert = await place.tell(await place.town.issue())
    mine = place.service.shown[0]["reference"]
    dispatch, seq, attempt, proof = mine.split(".")
    for forged in (
        f"{dispatch}.{3 - int(seq)}.{attempt}.{proof}",
        f"{dispatch}.{seq}.{int(attempt) + 1}.{proof}",
        f"{dispatch}.{seq}.{attempt}",
        f"{dispatch}.{seq}.{attempt}.{'0' * 20}",
        "x",
        "1.1.1." + "f" * 20,
    ):
        assert await place.ack(forged) == 404
    assert await place.ack(mine, "deleted") == 422
    assert await place.ack("", "read") == 422
    await asyncio.sleep(0.2)
    await place.stand_at(alert, ACCEPTED=2)


async def test_the_same_browser_is_one_however_often_and_at_once_it_subscribes(desk: Place) -> None:
    answers = await asyncio.gather(*(desk.subscribe("maria") for _ in range(6)))
    assert {answer.status for answer in answers} == {201}
    first = answers[0].body
    assert all(answer.body == first for answer in answers)
    assert len(await desk.people()) == 1 and await desk.reached() == {"maria"}
    (proof,) = await desk.api.rows(tables.Consent)
    assert (proof.what, proof.channel, proof.policy_version) == ("join", Channel.WEB_PUSH, POLICY)
    assert proof.keyword == "subscribed in the browser"

    # A browser may have made new keys for the same endpoint: those are the ones that open a text.
    again = desk.browser("maria") | {"keys": desk.browser("anna")["keys"]}
    assert (await desk.subscribe("maria", subscription=again)).body == first
    (row,) = [row for row in await desk.api.rows(tables.Address) if row.sealed]
    assert json.loads(desk.town.seal.open(row.sealed))["keys"]["auth"] == again["keys"]["auth"]


async def test_places_are_kept_until_others_are_named(desk: Place) -> None:
    async def located() -> list[tuple[bool, str | None]]:
        places = await desk.api.rows(tables.Place)
        return [(row.located, next((p.area for p in places), None)) for row in await desk.people()]

    await desk.subscribe("maria", places=[{"label": "casa", "area": "Fornacette"}])
    await desk.subscribe("maria")
    assert await located() == [(True, "calcinaia.fornacette")]
    answer = await desk.subscribe("maria", places=[{"label": "casa", "area": "calcinaia"}])
    assert answer.body["places"] == ["calcinaia"]
    assert await located() == [(False, "calcinaia")], "told of everything again"
    point = {"label": "casa", "point": {"lat": 43.668, "lon": 10.59}}
    assert (await desk.subscribe("maria", places=[point])).status == 201
    (row,) = await desk.api.rows(tables.Place)
    assert (row.lat, row.area) == (43.668, None)
    outside = {"label": "casa", "point": {"lat": 45.0, "lon": 9.0}}
    refused = await desk.subscribe("luigi", places=[outside])
    assert (refused.status, refused.pointers) == (422, ["/places/0/point"])
    assert await desk.reached() == {"maria"}


async def test_leaving_erases_and_says_the_same_to_everybody(desk: Place) -> None:
    await desk.subscribe("maria")
    await desk.subscribe("luigi")
    answers = [await desk.leave("maria"), await desk.leave("maria"), await desk.leave("anna")]
    assert {(answer.status, answer.body) for answer in answers} == {(204, "")}
    assert await desk.reached() == {"luigi"}
    proofs = [(row.what, row.keyword) for row in await desk.api.rows(tables.Consent)]
    assert proofs.count(("leave", "unsubscribed in the browser")) == 1
    assert (await desk.subscribe("maria")).status == 201
    assert await desk.reached() == {"luigi", "maria"}


async def test_a_browser_that_renews_its_subscription_keeps_its_place(desk: Place) -> None:
    await desk.subscribe("maria", places=[{"label": "casa", "area": "Fornacette"}])
    (person,) = await desk.people()
    old = desk.browser("maria")["endpoint"]
    for _ in range(2):  # the worker may be asked twice
        assert (await desk.subscribe("maria-2", replaces=old)).status == 201
    assert await desk.reached() == {"maria-2"}
    (still,) = await desk.people()
    assert (still.id, still.located) == (person.id, True)
    assert [row.what for row in await desk.api.rows(tables.Consent)] == ["join", "leave", "join"]
    assert (await desk.subscribe("luigi", replaces="https://fcm.googleapis.com/unknown")).status == 201
    assert await desk.reached() == {"maria-2", "luigi"}
    new = desk.browser("maria-2")["endpoint"]
    assert (await desk.subscribe("luigi", replaces=new)).status == 201
    assert await desk.reached() == {"maria-2", "luigi"}, "who is there already takes nobody's place"
    for wrong in ("", "{", "maria", "x" * 5000):
        assert (await desk.subscribe("luigi", replaces=wrong)).status == 422


@ONE_KIND
async def test_what_is_no_subscription_is_refused_and_never_repeated(desk: Place) -> None:
    good = desk.browser("maria")
    for wrong in (
        {},
        {"endpoint": good["endpoint"]},
        good | {"endpoint": "https://evil.example/segreto"},
        good | {"endpoint": "http://169.254.169.254/segreto"},
        good | {"keys": good["keys"] | {"p256dh": "A" * 87}},
    ):
        answer = await desk.subscribe(subscription=wrong)
        assert (answer.status, answer.pointers) == (422, ["/subscription"])
        assert "segreto" not in json.dumps(answer.body)
    assert (await desk.subscribe(policy="2019-01")).status == 409
    assert (await desk.subscribe(policy="x", unknown=1)).status == 422
    big = await desk.subscribe(subscription=good | {"x": "y" * 20_000})
    assert big.status == 413
    for code in ("bientina", "nessuno", "..%2f"):
        path = f"/v1/authorities/{code}/push-subscriptions"
        assert (await desk.api.ask("POST", path, None, json={"subscription": good, "policy": POLICY})).status == 404
    assert await desk.people() == []


@ONE_KIND
async def test_a_trials_push_service_is_not_taken_in_service(database_url: str, tmp_path: Path) -> None:
    async with a_place(database_url, NOWHERE_TO_PUBLISH, "", tmp_path, tells=False, web_push_hosts="") as desk:
        assert (await desk.subscribe()).status == 422


@ONE_KIND
async def test_nobody_subscribes_a_thousand_times_a_minute(desk: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(push, "by_host", Doorman(at_once=5, a_minute=1))
    answers = [(await desk.subscribe(f"maria-{n}x")).status for n in range(6)]
    assert answers == [201] * 5 + [429]
    refused = await desk.leave("maria-0x")
    assert refused.status == 429 and 1 <= int(refused.headers["Retry-After"]) <= 61
    push.by_host.forget()
    monkeypatch.setattr(push, "by_host", by_host)
    answers = [(await desk.subscribe("maria-0x")).status for _ in range(12)]
    assert answers.count(201) == 9 and answers[-1] == 429, "one browser is not one that subscribes twelve times"


def test_a_doorman_lets_in_so_many_and_forgets_whom_he_saw_long_ago() -> None:
    doorman = Doorman(at_once=3, a_minute=60, most=2)
    assert [doorman.wait(b"a", 100.0) for _ in range(3)] == [0.0] * 3
    assert doorman.wait(b"a", 100.0) == pytest.approx(1.0)
    assert doorman.wait(b"a", 101.01) == 0.0 and doorman.wait(b"a", 101.02) > 0
    assert doorman.wait(b"b", 101.1) == doorman.wait(b"c", 101.1) == 0.0
    assert len(doorman._free_at) == 2
    assert push.network("2001:db8:1:2:3::4") == push.network("2001:db8:1:2::9") != push.network("2001:db8:1:3::4")
    assert push.network("10.0.0.1") != push.network("10.0.0.2") and push.network("") == b""


# ── who has gone ────────────────────────────────────────────────────────────────────────────────────


@ONE_KIND
async def test_whoever_has_unsubscribed_in_the_browser_is_erased(place: Place) -> None:
    for name in ("anna", "maria", "luigi"):
        await place.subscribe(name)
    place.service._browsers["anna"].gone = True
    alert = await place.tell(await place.town.issue())
    await place.stand_at(alert, ACCEPTED=2, REFUSED=1)
    if "anna" in await place.reached():  # the two were served before she was found to be gone
        await place.tell(await place.town.issue())

    async def erased() -> bool:
        return await place.reached() == {"maria", "luigi"}

    await until(erased)
    assert [(row.what, row.keyword) for row in await place.api.rows(tables.Consent)][-1] == ("leave", leaving.GONE)
    assert len(await place.people()) == 2


@pytest.fixture
def account() -> Account:
    return Account(ACCOUNT, "calcinaia", Channel.WEB_PUSH, "", Secret(KEY.secret), {}, ACCOUNT)


@ONE_KIND
async def test_a_push_service_that_calls_everybody_gone_is_not_believed(desk: Place, account: Account) -> None:
    names = [f"maria-{n}x" for n in range(MOST_IN_DOUBT + 5)]
    for name in names:
        by_host.forget()
        await desk.subscribe(name)
    browsers = {name: subscription(desk.browser(name), LOCAL) for name in names}
    origin = browsers[names[0]].origin
    erasing = Leaving(desk.api.database, desk.town.seal, desk.town.authorities)

    for browser in browsers.values():
        erasing.gone(account, browser)
    for _ in names:
        erasing.served(account, "https://fcm.googleapis.com")
    await erasing.flush()
    assert await desk.reached() == set(names), "what another service serves says nothing of this one"

    for _ in range(3):
        erasing.served(account, origin)
    await erasing.flush()
    # 25 were called gone in a row: the first 21 were forgotten, the others wait for somebody to be served.
    assert await desk.reached() == set(names) - set(names[MOST_IN_DOUBT + 1 :][:3])


@ONE_KIND
async def test_what_was_said_long_ago_is_not_believed_either(
    desk: Place, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    await desk.subscribe("maria")
    erasing = Leaving(desk.api.database, desk.town.seal, desk.town.authorities)
    monkeypatch.setattr(leaving, "VOUCHED_WITHIN", -1.0)
    erasing.gone(account, subscription(desk.browser("maria"), LOCAL))
    erasing.served(account, subscription(desk.browser("maria"), LOCAL).origin)
    await erasing.flush()
    assert await desk.reached() == {"maria"}


# ── the page and the worker ─────────────────────────────────────────────────────────────────────────


@ONE_KIND
async def test_the_page_is_italian_and_has_nothing_from_elsewhere(desk: Place) -> None:
    page = await desk.api.ask("GET", f"{ABOUT}/iscriviti", None)
    assert page.status == 200 and page.headers["Content-Type"].startswith("text/html")
    assert '<html lang="it">' in page.body and KEY.public_key in page.body and "$" not in page.body
    assert '<option value="calcinaia.fornacette">Fornacette</option>' in page.body
    assert set(re.findall(r"https?://[^/\"']+", page.body)) == {"https://www.comune.calcinaia.pi.it"}, "the policy"
    policy = page.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'") and "script-src 'self'" in policy and "http" not in policy
    worker = await desk.api.ask("GET", "/v1/push/service-worker.js", None)
    assert worker.headers["Content-Type"].startswith("text/javascript")
    assert "connect-src 'self'" in worker.headers["Content-Security-Policy"]
    assert not re.search(r"https?://", worker.body)
    manifest = await desk.api.ask("GET", f"{ABOUT}/manifest.json", None)
    assert manifest.body["start_url"] == f"{ABOUT}/iscriviti" and manifest.body["display"] == "standalone"
    assert (await desk.api.ask("GET", "/v1/authorities/bientina/web-push/iscriviti", None)).status == 404
    for nothing in ("x", "..", "a" * 200, "%00"):
        assert (await desk.api.ask("GET", f"{ABOUT}/avvisi/{nothing}", None)).status == 404


@ONE_KIND
async def test_without_a_key_nobody_is_promised_anything(desk: Place) -> None:
    desk.api.settings.secrets._by_account[ACCOUNT] = {}
    for path in (ABOUT, f"{ABOUT}/iscriviti"):
        answer = await desk.api.ask("GET", path, None)
        assert answer.status == 503 and "key" in answer.body["detail"]


@dataclass
class Browser:
    """A real Chromium, spoken to in its own protocol."""

    socket: ClientWebSocketResponse
    numbers: Any = field(default_factory=lambda: itertools.count(1))
    answers: dict[int, "asyncio.Future[dict[str, Any]]"] = field(default_factory=dict)
    events: list[dict[str, Any]] = field(default_factory=list)

    async def listen(self) -> None:
        async for message in self.socket:
            if message.type is not WSMsgType.TEXT:
                continue
            said = json.loads(message.data)
            if (number := said.get("id")) is None:
                self.events.append(said)
            elif "error" in said:
                self.answers.pop(number).set_exception(RuntimeError(json.dumps(said["error"])))
            else:
                self.answers.pop(number).set_result(said["result"])

    async def ask(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        number = next(self.numbers)
        answer = self.answers[number] = asyncio.get_running_loop().create_future()
        await self.socket.send_json(
            {"id": number, "method": method, "params": parameters} | ({"sessionId": session} if session else {})
        )
        return await asyncio.wait_for(answer, 20)

    async def run(self, session: str, script: str) -> Any:
        """What a script of ours comes to, as if somebody had pressed a button."""
        found = await self.ask(
            "Runtime.evaluate", session, expression=script, awaitPromise=True, returnByValue=True, userGesture=True
        )
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    async def attached(self, kind: str, target: Callable[[dict[str, Any]], bool] = lambda _: True) -> str:
        """The session of a target of a kind, once there is one."""

        def found() -> list[str]:
            return [
                event["params"]["sessionId"]
                for event in self.events
                if event["method"] == "Target.attachedToTarget"
                and event["params"]["targetInfo"]["type"] == kind
                and target(event["params"]["targetInfo"])
            ]

        await until(lambda: bool(found()), within=60)
        return found()[-1]

    def troubles(self) -> list[str]:
        """What a page or a worker complained of."""
        bad = ("Runtime.exceptionThrown", "Log.entryAdded")
        return [
            json.dumps(event["params"])
            for event in self.events
            if event["method"] in bad and event["params"].get("entry", {}).get("level") != "info"
        ]


@pytest.fixture
async def chromium(tmp_path: Path) -> AsyncIterator[Browser]:
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no Chromium on this machine; the page and the worker were not run")
    profile = tmp_path / "chromium"
    command = [
        *(program, "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-dev-shm-usage"),
        *("--disable-background-networking", "--remote-debugging-port=0", f"--user-data-dir={profile}", "about:blank"),
    ]
    process = await asyncio.to_thread(subprocess.Popen, command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        said = profile / "DevToolsActivePort"
        await until(lambda: said.exists() and said.read_text().count("\n") >= 1, within=60)
        port, path = said.read_text().split("\n")[:2]
        async with ClientSession() as http, http.ws_connect(f"ws://127.0.0.1:{port}{path}", max_msg_size=0) as socket:
            browser = Browser(socket)
            listening = asyncio.create_task(browser.listen())
            yield browser
            with contextlib.suppress(RuntimeError, TimeoutError, ConnectionError):
                await browser.ask("Browser.close")
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)
    finally:
        with contextlib.suppress(subprocess.TimeoutExpired):
            await asyncio.to_thread(process.wait, 10)
        if process.poll() is None:
            process.kill()
            process.wait()


async def once(asked: Callable[[], Awaitable[Any]]) -> Any:
    """What is asked for, as soon as it is something."""
    found: Any = None

    async def true() -> bool:
        nonlocal found
        found = await asked()
        return bool(found)

    await until(true, within=60)
    return found


@ONE_KIND
async def test_a_real_browser_subscribes_shows_an_alert_and_says_so(place: Place, chromium: Browser) -> None:
    origin = place.api.url
    await chromium.ask("Browser.grantPermissions", origin=origin, permissions=["notifications"])
    target = await chromium.ask("Target.createTarget", url="about:blank")
    attached = await chromium.ask("Target.attachToTarget", targetId=target["targetId"], flatten=True)
    page = str(attached["sessionId"])
    for domain in ("Page", "Runtime", "Log", "ServiceWorker"):
        await chromium.ask(f"{domain}.enable", page)
    await chromium.ask("Target.setAutoAttach", autoAttach=True, waitForDebuggerOnStart=False, flatten=True)
    # The way to Google's push service is closed here: its answer is the one thing that is made up.
    made_up = json.dumps(place.browser("maria"))
    await chromium.ask(
        "Page.addScriptToEvaluateOnNewDocument",
        page,
        source=f"""(() => {{
            const said = {made_up};
            let standing = null;
            PushManager.prototype.getSubscription = async () => standing;
            PushManager.prototype.subscribe = async (how) => {{
                window.wanted = how;
                const unsubscribe = async () => (standing = null, true);
                standing = {{ toJSON: () => said, endpoint: said.endpoint, unsubscribe }};
                return standing;
            }};
        }})();""",
    )
    await chromium.ask("Page.navigate", page, url=f"{origin}{ABOUT}/iscriviti")

    async def state() -> str:
        return str(await chromium.run(page, "(document.getElementById('stato') || {}).textContent || ''"))

    await once(lambda: _is(state, "Gli avvisi non sono attivi in questo browser."))
    await chromium.run(page, "document.getElementById('zona').value = 'calcinaia.fornacette'")
    await chromium.run(page, "document.getElementById('attiva').click()")
    await once(lambda: _is(state, "Fatto: riceverai gli avvisi in questo browser."))
    assert await chromium.run(page, "window.wanted") == {
        "userVisibleOnly": True,
        "applicationServerKey": KEY.public_key,
    }
    assert await place.reached() == {"maria"}
    (person,) = await place.people()
    assert person.located

    alert = await place.tell(await place.town.issue())
    (shown,) = place.service.shown
    sent = {key: shown[key] for key in ("title", "body", "url", "tag", "urgent", "lang", "expires", "reference")}

    async def pushed(data: str, shows: Callable[[], Awaitable[bool]]) -> None:
        """As if it had come from the push service, decrypted: until it shows.

        The browser's own tools lose one where the worker is just being put to sleep; a push service keeps it.
        """
        registrations = [
            one
            for event in chromium.events
            if event["method"] == "ServiceWorker.workerRegistrationUpdated"
            for one in event["params"]["registrations"]
        ]
        assert registrations[-1]["scopeURL"] == f"{origin}/v1/push/calcinaia/"
        to = {"origin": origin, "registrationId": registrations[-1]["registrationId"]}
        for _ in range(4):
            await chromium.ask("ServiceWorker.deliverPushMessage", page, data=data, **to)
            with contextlib.suppress(TimeoutError):
                return await until(shows, within=15)
        raise TimeoutError(f"the browser never showed {data}")

    listed = """navigator.serviceWorker.getRegistration('/v1/push/calcinaia/').then((r) => r.getNotifications()).then(
        (all) => all.map((n) => ({title: n.title, body: n.body, tag: n.tag, lang: n.lang,
                                  stays: n.requireInteraction, renotify: n.renotify})))"""
    await pushed(json.dumps(sent), lambda: _titles(chromium, page, listed, [sent["title"]]))
    await place.stand_at(alert, DELIVERED=1)
    (notification,) = await chromium.run(page, listed)
    assert (notification["title"], notification["body"]) == (sent["title"], sent["body"])
    assert (notification["tag"], notification["lang"], notification["stays"]) == (sent["tag"], "it", True)

    second = json.loads(json.dumps(sent)) | {"title": "Comune di Calcinaia: AGGIORNAMENTO", "urgent": False}
    second["reference"] = "999.1.1." + "0" * 20
    await pushed(json.dumps(second), lambda: _titles(chromium, page, listed, [second["title"]]))
    (notification,) = await chromium.run(page, listed)
    assert (notification["stays"], notification["renotify"]) == (False, True), "it stands where the alert stood"
    await pushed(json.dumps(second), lambda: _renotifies(chromium, page, listed, False))

    nameless = "Avviso del Comune"
    await pushed("non è JSON", lambda: _titles(chromium, page, listed, [second["title"], nameless]))
    await pushed(json.dumps(sent), lambda: _titles(chromium, page, listed, [sent["title"], nameless]))
    worker = await chromium.attached("service_worker", lambda info: info["url"].endswith("/service-worker.js"))
    await chromium.run(
        worker,
        f"""self.registration.getNotifications({{tag: {json.dumps(sent["tag"])}}}).then(([one]) =>
            self.dispatchEvent(new NotificationEvent("notificationclick", {{notification: one}})))""",
    )
    await place.stand_at(alert, READ=1)

    for old, new in (("maria", "maria-2"), ("maria-2", "maria")):
        await chromium.run(worker, _renewed(place.browser(old), place.browser(new)))
        await once(lambda new=new: _reaches(place, new))  # type: ignore[misc]
    (still,) = await place.people()
    assert (still.id, still.located) == (person.id, True)

    await chromium.run(page, "document.getElementById('disattiva').click()")
    await once(lambda: _is(state, "Gli avvisi sono disattivati e il tuo contatto non è più in elenco."))
    assert await place.reached() == set()
    # The made-up reference is refused, as the network log says; nothing else went wrong.
    assert [one for one in chromium.troubles() if "/v1/push/ack" not in one] == []

    await chromium.ask("Page.navigate", page, url=f"{origin}{shown['url']}")
    text = await once(lambda: chromium.run(page, "document.querySelector('main') && document.body.innerText"))
    assert engine.EVACUATE in text


def _renewed(old: dict[str, Any], new: dict[str, Any]) -> str:
    """What a browser does when it gives one subscription up for another."""
    return f"""(() => {{
        const event = new ExtendableEvent("pushsubscriptionchange");
        event.oldSubscription = {json.dumps(old)};
        event.newSubscription = {{toJSON: () => ({json.dumps(new)})}};
        self.dispatchEvent(event);
    }})()"""


async def _reaches(place: Place, name: str) -> bool:
    return await place.reached() == {name}


async def _is(asked: Callable[[], Awaitable[str]], wanted: str) -> bool:
    return await asked() == wanted


async def _titles(browser: Browser, page: str, listed: str, wanted: list[str]) -> bool:
    return sorted(one["title"] for one in await browser.run(page, listed)) == sorted(wanted)


async def _renotifies(browser: Browser, page: str, listed: str, wanted: bool) -> bool:
    return [one["renotify"] for one in await browser.run(page, listed)] == [wanted]
