"""The API as it is served: uvicorn on a socket, and somebody with a token in front of it."""

import asyncio
import contextlib
import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import uvicorn
from aiohttp import ClientSession
from sqlalchemy import select

from alerting import authorities
from alerting.actors import Role
from alerting.api.app import create_app
from alerting.api.security import create_actor
from alerting.enrolling import enrol
from alerting.persistence import Database, tables
from alerting.sealing import Seal
from alerting.settings import Settings

KEY = "5e" * 32
APP_SECRETS = {code: f"segreto-di-{code}" for code in ("bientina", "calcinaia", "cascina", "fucecchio", "santa-fiora")}
NOWHERE_TO_PUBLISH = "amqp://nobody:nothing@127.0.0.1:9/"
VERIFY_TOKEN = "arno-in-piena"
WEBHOOK_SECRET = "telegram_segreto_calcinaia"
EMAIL_PASSWORD, EMAIL_SECRET = "posta_segreta_bientina", "rimbalzi_segreti_bientina"
PEOPLE = {
    "anna": (Role.OPERATOR, "calcinaia"),
    "bruno": (Role.APPROVER, "calcinaia"),
    "carla": (Role.VIEWER, "calcinaia"),
    "dpc": (Role.FEED, "calcinaia"),
    "ezio": (Role.APPROVER, "bientina"),
    "admin": (Role.ADMIN, None),
}


@dataclass
class Answer:
    """What came back."""

    status: int
    body: Any
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def pointers(self) -> list[str]:
        return [error["pointer"] for error in self.body.get("errors", [])]


@dataclass
class Town:
    """A running API with its database, and a token for each of PEOPLE."""

    url: str
    database: Database
    seal: Seal
    tokens: dict[str, str]
    http: ClientSession
    settings: Settings

    async def ask(self, method: str, path: str, who: str | None = "anna", **more: Any) -> Answer:
        headers = more.pop("headers", {})
        if who is not None:
            headers = {"Authorization": f"Bearer {self.tokens[who]}"} | headers
        async with self.http.request(method, self.url + path, headers=headers, **more) as answer:
            raw = await answer.read()
            is_json = "json" in answer.content_type
            body = json.loads(raw) if is_json and raw else raw.decode()
            found = Answer(answer.status, body, answer.headers)
        assert found.headers["X-Request-Id"]
        if found.status >= 400:
            _is_a_problem(found)
        return found

    async def draft(self, who: str = "anna", **changes: Any) -> Answer:
        return await self.ask("POST", "/v1/alerts", who, json=evacuate(**changes))

    async def drafted(self, **changes: Any) -> str:
        answer = await self.draft(**changes)
        assert answer.status == 201, answer.body
        return str(answer.body["identifier"])

    async def approved(self, **changes: Any) -> str:
        alert = await self.drafted(**changes)
        answer = await self.ask("POST", f"/v1/alerts/{alert}/approve", "bruno")
        assert answer.status == 200, answer.body
        return alert

    async def issued(self, **changes: Any) -> str:
        alert = await self.approved(**changes)
        answer = await self.ask("POST", f"/v1/alerts/{alert}/issue")
        assert answer.status == 202, answer.body
        return alert

    async def rows(self, table: Any) -> list[Any]:
        async with self.database.read() as session:
            return list((await session.scalars(select(table))).all())

    async def audited(self, action: str) -> list[tables.AuditEntry]:
        return [entry for entry in await self.rows(tables.AuditEntry) if entry.action == action]

    async def stored(self) -> list[Any]:
        """Everything a request could leave behind, but the audit."""
        kinds = (tables.Alert, tables.Dispatch, tables.OutboxMessage, tables.InboundMessage, tables.Recipient)
        return [row for kind in kinds for row in await self.rows(kind)]


def evacuate(**changes: Any) -> dict[str, Any]:
    """A draft that is right, with some fields changed; None takes one out."""
    said: dict[str, Any] = {
        "kind": "allerta-meteo",
        "colour": "arancione",
        "risk": "idraulico",
        "headline": "Allerta meteo arancione per piena dell'Arno",
        "description": "Il livello dell'Arno sale rapidamente a Fornacette.",
        "instruction": "Lascia i piani bassi e non scendere in cantina.",
        "expires": (datetime.now(UTC) + timedelta(hours=6)).isoformat(),
        "areas": ["fornacette"],
    }
    return {name: value for name, value in (said | changes).items() if value is not None}


def signed(payload: object, comune: str = "calcinaia") -> dict[str, Any]:
    """What Meta would post: the bytes, and their signature with the comune's own app secret."""
    raw = json.dumps(payload).encode()
    signature = hmac.new(APP_SECRETS[comune].encode(), raw, hashlib.sha256).hexdigest()
    return {
        "data": raw,
        "headers": {"X-Hub-Signature-256": f"sha256={signature}", "Content-Type": "application/json"},
    }


@contextlib.asynccontextmanager
async def serving(database_url: str, amqp_url: str, prefix: str, folder: Path) -> AsyncIterator[Town]:
    """A town whose API runs, until the end of the block."""
    settings = settings_for(database_url, amqp_url, prefix, folder)
    database, seal = Database(database_url), Seal(settings.key_bytes)
    tokens = await _enrolled(database, seal)
    async with running(settings) as url, ClientSession() as http:
        yield Town(url, database, seal, tokens, http, settings)
    await database.close()


@contextlib.asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[str]:
    """The API on a free port. Yields its address."""
    config = uvicorn.Config(create_app(settings), port=0, http="httptools", access_log=False, log_level="warning")
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve())
    while not server.started:
        assert not task.done(), "the API did not start"
        await asyncio.sleep(0.01)
    # uvicorn's own socket, not one of ours: only such a one gets TCP_NODELAY, and answers 40 ms sooner.
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    await task


def settings_for(database_url: str, amqp_url: str, prefix: str, folder: Path) -> Settings:
    """The settings of an API of the five comuni, with secrets of their own in the folder."""
    secrets: dict[str, dict[str, str]] = {
        f"whatsapp.{code}": {"app_secret": secret, "verify_token": VERIFY_TOKEN} for code, secret in APP_SECRETS.items()
    }
    secrets["telegram.calcinaia"] = {"webhook_secret": WEBHOOK_SECRET}
    secrets["email.bientina"] = {"token": EMAIL_PASSWORD, "webhook_secret": EMAIL_SECRET}
    file = folder / "secrets.json"
    file.write_text(json.dumps(secrets))
    return Settings.model_validate(
        {
            "database_url": database_url,
            "amqp_url": amqp_url,
            "amqp_prefix": prefix,
            "key": KEY,
            "secrets_file": file,
        }
    )


async def _enrolled(database: Database, seal: Seal) -> dict[str, str]:
    now = datetime.now(UTC)
    async with database.write() as session:
        await enrol(session, authorities.load().values(), seal, share_of_limit=1.0, now=now)
        return {
            name: await create_actor(session, name=name, role=role, authority=authority, now=now)
            for name, (role, authority) in PEOPLE.items()
        }


def _is_a_problem(found: Answer) -> None:
    assert found.headers["Content-Type"].startswith("application/problem+json"), found
    assert found.body["status"] == found.status
    assert found.body["title"] and len(found.body["detail"]) > 15, found.body
    assert "Traceback" not in json.dumps(found.body)
