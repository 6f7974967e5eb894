"""Simulators on real sockets, adapters in a hurry, and a mailbox where a simulator's webhooks land."""

import sqlite3
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from aiohttp import ClientSession, web

from alerting.persistence import Database
from consumers.channels.email import Email
from consumers.channels.mqtt import Mqtt
from consumers.channels.sms_http import SmsHttp
from consumers.channels.sms_smpp import SmsSmpp
from consumers.channels.telegram import Telegram
from consumers.channels.web_push import WebPush
from consumers.channels.whatsapp import WhatsApp
from consumers.local.private_mosquitto import PrivateMosquitto
from consumers.simulators import email as email_simulator
from consumers.simulators import mqtt as mqtt_simulator
from consumers.simulators import sms_http as sms_rest_simulator
from consumers.simulators import sms_smpp as sms_simulator
from consumers.simulators import telegram as telegram_simulator
from consumers.simulators import web_push as web_push_simulator
from consumers.simulators import whatsapp as whatsapp_simulator
from consumers.simulators.serving import Served
from consumers.uploads import Uploads
from tests.contract.fornacette import (
    EMAIL_PASSWORD,
    IN_A_HURRY,
    PANEL_PASSWORD,
    POSTMARKS,
    PUBLIC_URL,
    SMS_ACCESS_TOKEN,
    SMS_PASSWORD,
    SMS_USER,
    TELEGRAM_BOT,
    TELEGRAM_TOKEN,
    WHATSAPP_NUMBER,
    WHATSAPP_TOKEN,
    Board,
    Farewells,
    Mailbox,
    Notebook,
    Orderbook,
)
from tests.contract.telegram_parts import Ids, Posts


@pytest.fixture
async def meta() -> AsyncIterator[Served]:
    """The Cloud API, with Fornacette's number and the templates of these tests."""
    served = await whatsapp_simulator.start(
        {
            "accounts": {WHATSAPP_NUMBER: {"token": WHATSAPP_TOKEN}},
            "templates": [
                {"name": "allerta_pc_v3", "variables": 3, "body": "{{1}}: allerta {{2}}, {{3}}."},
                {"name": "allerta_sospesa", "status": "PAUSED"},
                {"name": "allerta_spenta", "status": "DISABLED"},
                {"name": "allerta_nuova", "held": True},
            ],
            "per_second": 2000,
            "burst": 1.0,
        }
    )
    yield served
    await served.close()


@pytest.fixture
async def telegram_server() -> AsyncIterator[Served]:
    """The Bot API, with Fornacette's bot and its channel."""
    served = await telegram_simulator.start(
        {
            "accounts": {TELEGRAM_BOT: {"token": TELEGRAM_TOKEN}},
            "channels": {
                "@allerte_fornacette": {"id": -1001000000001, "subscribers": [5001, 5002, 5003]},
                "@allerte_bientina": {"id": -1001000000002, "member": False},
                "@allerte_buti": {"id": -1001000000003, "may_post": False},
            },
            "moved": {-4001: -1001000004001},
            "per_second": 2000,
            "burst": 1.0,
        }
    )
    yield served
    await served.close()


@pytest.fixture
async def smsc() -> AsyncIterator[Served]:
    """An SMSC, with Fornacette's user and alias."""
    served = await sms_simulator.start(
        {
            "accounts": {SMS_USER: {"password": SMS_PASSWORD, "senders": ["Fornacette", "393331230000"]}},
            "per_second": 2000,
            "burst": 1.0,
        }
    )
    yield served
    await served.close()


@pytest.fixture
async def push_service() -> AsyncIterator[Served]:
    """A push service, at which browsers subscribe as a test needs them."""
    served = await web_push_simulator.start({"per_second": 2000, "burst": 1.0})
    yield served
    await served.close()


@pytest.fixture
def farewells() -> Farewells:
    return Farewells()


@pytest.fixture
async def web_push(farewells: Farewells) -> AsyncIterator[WebPush]:
    adapter = WebPush(POSTMARKS, farewells, frozenset({"127.0.0.1", "fornacette.invalid"}), **IN_A_HURRY)
    yield adapter
    await adapter.close()


@pytest.fixture
def notebook() -> Notebook:
    return Notebook()


@pytest.fixture
async def sms(notebook: Notebook) -> AsyncIterator[SmsSmpp]:
    adapter = SmsSmpp(notebook, notebook, **IN_A_HURRY)
    yield adapter
    await adapter.close()


@pytest.fixture
async def sms_house() -> AsyncIterator[Served]:
    """An SMS provider that speaks HTTP, with Fornacette's user and alias."""
    known = {"password": SMS_PASSWORD, "access_token": SMS_ACCESS_TOKEN, "senders": ["Fornacette"]}
    served = await sms_rest_simulator.start({"accounts": {SMS_USER: known}, "per_second": 2000, "burst": 1.0})
    yield served
    await served.close()


@pytest.fixture
def orderbook() -> Orderbook:
    return Orderbook()


@pytest.fixture
async def sms_rest(orderbook: Orderbook) -> AsyncIterator[SmsHttp]:
    adapter = SmsHttp(orderbook, **IN_A_HURRY)
    yield adapter
    await adapter.close()


@pytest.fixture
async def uploads(sqlite_template: Path, tmp_path: Path) -> AsyncIterator[Uploads]:
    """What providers call our pictures, in a database of the test's own."""
    template, own = sqlite3.connect(sqlite_template), sqlite3.connect(tmp_path / "uploads.db")
    template.backup(own)
    template.close()
    own.close()
    database = Database(f"sqlite+aiosqlite:///{tmp_path / 'uploads.db'}")
    yield Uploads(database)
    await database.close()


@pytest.fixture
async def whatsapp(uploads: Uploads) -> AsyncIterator[WhatsApp]:
    adapter = WhatsApp(uploads, **IN_A_HURRY)
    yield adapter
    await adapter.close()


@pytest.fixture
async def panel_posts(mosquitto: PrivateMosquitto) -> AsyncIterator[Served]:
    """A gate before a real broker, and at that broker a panel for whatever topic is told something."""
    broker = mosquitto.url.replace("//", f"//pannelli:{PANEL_PASSWORD}@")
    served = await mqtt_simulator.start({"broker": broker, "anybody": True, "gate": True, "per_second": 2000})
    yield served
    await served.close()


@pytest.fixture
def board() -> Board:
    return Board()


@pytest.fixture
async def mqtt(board: Board) -> AsyncIterator[Mqtt]:
    adapter = Mqtt(board, **IN_A_HURRY)
    yield adapter
    await adapter.close()


@pytest.fixture
def ids() -> Ids:
    return Ids()


@pytest.fixture
def posts() -> Posts:
    return Posts()


@pytest.fixture
async def telegram(ids: Ids, posts: Posts) -> AsyncIterator[Telegram]:
    adapter = Telegram(ids, posts, **IN_A_HURRY)
    yield adapter
    await adapter.close()


@pytest.fixture
async def post_office() -> AsyncIterator[Served]:
    """A mail server, with Fornacette's user name."""
    mailer = {"password": EMAIL_PASSWORD, "address": "avvisi@comune.fornacette.example"}
    config = {"accounts": {"fornacette": mailer}, "per_second": 2000, "burst": 1.0, "most_bytes": 1_000_000}
    served = await email_simulator.start(config)
    yield served
    await served.close()


@pytest.fixture
async def email() -> AsyncIterator[Email]:
    # Less of a hurry: four hundred letters are much for a simulated server, on a machine others use too.
    adapter = Email(POSTMARKS, PUBLIC_URL, connect=IN_A_HURRY["connect"], total=timedelta(seconds=10))
    yield adapter
    await adapter.close()


@pytest.fixture
async def http() -> AsyncIterator[ClientSession]:
    async with ClientSession() as session:
        yield session


@pytest.fixture
async def mailbox() -> AsyncIterator[Mailbox]:
    box = Mailbox()
    app = web.Application()
    app.router.add_post("/webhook", box.post)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    box.url = f"http://127.0.0.1:{runner.addresses[0][1]}/webhook"
    yield box
    await runner.cleanup()
