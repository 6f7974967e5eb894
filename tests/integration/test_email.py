"""An e-mail from registration to its bounce, and the way out that every one of them carries."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from alerting import attachments, authorities
from alerting.api import webhooks
from alerting.domain.authority import Authority
from alerting.domain.delivery import Channel, Progress
from alerting.outbox import relay
from alerting.persistence import tables
from alerting.postmarks import Postmarks
from alerting.topology import RECEIPTS_QUEUE
from consumers.receipts import Receipts
from consumers.simulators import email as simulator
from consumers.simulators.email import EmailSimulator
from consumers.worker import Worker
from tests.integration import api_client, engine
from tests.integration.api_client import EMAIL_PASSWORD, EMAIL_SECRET, KEY, serving
from tests.integration.engine import connected, delivering, until, working
from tests.unit.test_attachments import document, plan, saved

AREA = "bientina.santa-colomba"
MARIA = {"authority": "bientina", "channel": "email", "address": "Maria.Rossi@Esempio.it", "area": "santa-colomba"}
BOUNCES = "/v1/webhooks/email/email.bientina"
POSTMARKS = Postmarks(bytes.fromhex(KEY))


@pytest.fixture(autouse=True)
def strangers_begin_anew() -> None:
    webhooks._audited.clear()


class Bientina(engine.Town):
    """The comune that writes mail."""

    @property
    def authority(self) -> Authority:
        return self.authorities["bientina"]


@dataclass
class Place:
    """Bientina with its API, its workers, and a mail server."""

    api: api_client.Town
    town: Bientina
    office: EmailSimulator

    async def register(self, **changes: Any) -> api_client.Answer:
        return await self.api.ask("POST", "/v1/recipients", "admin", json=MARIA | changes)

    async def tell(self, dispatch: int) -> int:
        await self.town.fan_out(dispatch)
        await until(lambda: self.town.is_over(dispatch))
        return dispatch

    async def bounce(self, raw: bytes, secret: str = EMAIL_SECRET) -> api_client.Answer:
        headers = {"Authorization": f"Bearer {secret}", "Content-Type": "message/rfc822"}
        return await self.api.ask("POST", BOUNCES, None, data=raw, headers=headers)

    @property
    def letters(self) -> list[EmailMessage]:
        read = (message_from_bytes(raw, policy=default) for raw in self.office.raw)
        return [letter for letter in read if isinstance(letter, EmailMessage)]

    @property
    def way_out(self) -> str:
        """The path in the last letter's List-Unsubscribe."""
        return str(self.letters[-1]["List-Unsubscribe"]).strip("<> ").removeprefix(self.api.url)


@pytest.fixture
async def place(database_url: str, amqp_url: str, amqp_prefix: str, tmp_path: Path) -> AsyncIterator[Place]:
    known = {"avvisi.bientina": {"password": EMAIL_PASSWORD, "address": "avvisi@comune.bientina.pi.it"}}
    served = await simulator.start({"accounts": known, "per_second": 1000})
    assert isinstance(served.simulator, EmailSimulator)
    async with AsyncExitStack() as running:
        running.push_async_callback(served.close)
        api = await running.enter_async_context(serving(database_url, amqp_url, amqp_prefix, tmp_path))
        town = Bientina(api.database, api.seal, authorities.load())
        settings = api.settings.model_copy(update={"email_url": served.simulator.smtp_url, "public_url": api.url})
        link = await running.enter_async_context(connected(amqp_url, amqp_prefix))
        relaying = asyncio.create_task(relay(town.database, link, amqp_prefix))
        await running.enter_async_context(delivering(settings, served, Channel.EMAIL))
        worker = Worker(settings, "receipts")
        receipts = Receipts(worker.database)
        worker.takes(RECEIPTS_QUEUE, receipts.take, prefetch=1000, at_once=500)
        await running.enter_async_context(working(worker, beside={"writing": receipts.run()}))
        yield Place(api, town, served.simulator)
        relaying.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await relaying


def came_back(mark: str) -> bytes:
    return f"""From: MAILER-DAEMON@posta.example
To: rimbalzi+{mark}@comune.bientina.pi.it
Content-Type: multipart/report; report-type=delivery-status; boundary="b"

--b
Content-Type: text/plain

Non esiste.
--b
Content-Type: message/delivery-status

Reporting-MTA: dns; posta.example

Final-Recipient: rfc822; maria.rossi@esempio.it
Action: failed
Status: 5.1.1

--b--
""".encode()


async def test_from_registration_to_the_bounce_in_the_ledger(place: Place) -> None:
    registered = await place.register()
    assert (registered.status, registered.body["address"]) == (201, "…@…")
    assert (await place.register(address="maria.rossi@esempio.it")).body["created"] is False, "the same mailbox"

    alert = await place.tell(await place.town.issue(area=AREA))
    update = await place.tell(await place.town.update(alert, area=AREA))
    clear = await place.tell(await place.town.cancel(update))

    first, second, last = place.letters
    assert {letter["To"] for letter in place.letters} == {"maria.rossi@esempio.it"}
    assert first["Subject"].startswith("Comune di Bientina: ") and first["Importance"] == "high"
    assert first["From"] == "Comune di Bientina <avvisi@comune.bientina.pi.it>"
    assert engine.EVACUATE in str(first.get_body(("plain",)))
    root = first["References"]
    assert second["In-Reply-To"] == root and last["References"].split()[0] == root
    assert last["In-Reply-To"] == second["References"].split()[-1]
    (cap,) = [part.get_content() for part in first.iter_attachments()]
    async with place.town.database.read() as session:
        row = await session.scalar(select(tables.Alert).join(tables.Dispatch).where(tables.Dispatch.id == alert))
    assert row is not None and cap == row.cap, "what was published, byte for byte"

    assert await place.town.summary(clear) == {Progress.ACCEPTED: 1}
    mark = POSTMARKS.mark(f"{clear}.1.1")
    assert mark in str(json.loads(place.office.phones._lines[-1])["reference"])
    proof = mark.rpartition(".")[2]
    forged = await place.bounce(came_back(f"{alert}.1.1.{proof}"))
    assert (forged.status, forged.body["receipts"], forged.body["ignored"]) == (200, 0, 1)
    assert (await place.bounce(came_back(mark))).body["receipts"] == 1

    async def failed() -> bool:
        return await place.town.summary(clear) == {Progress.FAILED: 1}

    await until(failed)
    (delivery,) = await place.town.deliveries(clear)
    assert delivery.reason == "not_reachable_here"
    assert await place.town.summary(alert) == {Progress.ACCEPTED: 1}, "nothing forged was believed"


async def test_a_bounce_is_believed_by_the_secret_of_its_account(place: Place) -> None:
    raw = came_back(POSTMARKS.mark("1.1.1"))
    for secret in ("", "altro", EMAIL_SECRET + "x"):
        assert (await place.bounce(raw, secret)).status == 401
    elsewhere = {"Authorization": f"Bearer {EMAIL_SECRET}"}
    for account in ("email.cascina", "whatsapp.bientina"):
        path = f"/v1/webhooks/email/{account}"
        assert (await place.api.ask("POST", path, None, data=raw, headers=elsewhere)).status == 401
    for nonsense in (b"", b"\x00" * 1000, b"Subject: Sono in vacanza\n\nA lunedi."):
        answer = await place.bounce(nonsense)
        assert (answer.status, answer.body["ignored"]) == (200, 1)


# ── leaving ─────────────────────────────────────────────────────────────────────────────────────────


async def raw_answer(place: Place, method: str, path: str, **more: Any) -> tuple[int, str, str]:
    """What a mail program or a browser gets: without a token of ours, and a page whatever happens."""
    async with place.api.http.request(method, place.api.url + path, **more) as answer:
        return answer.status, answer.content_type, await answer.text()


async def test_one_click_leaves_and_erases_and_looking_changes_nothing(place: Place) -> None:
    await place.register(also=[{"channel": "whatsapp", "address": "333 123 45 67"}])
    await place.tell(await place.town.issue(area=AREA))
    way_out = place.way_out

    for _ in range(2):
        status, kind, page = await raw_answer(place, "GET", way_out)
        assert (status, kind) == (200, "text/html")
        assert page.count("<button") == 1 and 'method="post"' in page and "maria" not in page.lower()
        assert (await raw_answer(place, "HEAD", way_out))[0] in (200, 405)
    assert len([row for row in await place.api.rows(tables.Address) if row.sealed]) >= 2, "asking is not leaving"

    left = await raw_answer(place, "POST", way_out, data={"List-Unsubscribe": "One-Click"})
    assert left[:2] == (200, "text/html")
    (recipient,) = [row for row in await place.api.rows(tables.Recipient) if not row.is_channel]
    theirs = [row for row in await place.api.rows(tables.Address) if row.recipient_id == recipient.id]
    assert recipient.left_at is not None
    assert len(theirs) == 2 and all(row.sealed is None and row.fingerprint is None for row in theirs)
    proofs = [(row.what, row.keyword) for row in await place.api.rows(tables.Consent) if row.what == "leave"]
    assert proofs and {keyword for _, keyword in proofs} == {"unsubscribed by mail"}

    assert await raw_answer(place, "POST", way_out, data={"List-Unsubscribe": "One-Click"}) == left, (
        "nobody learns who is in"
    )
    told = len(place.letters)
    await place.tell(await place.town.issue(area=AREA))
    assert len(place.letters) == told

    await place.register()
    await raw_answer(place, "POST", way_out)
    assert [row for row in await place.api.rows(tables.Recipient) if row.left_at is None and not row.is_channel] == []


async def test_a_forged_token_is_refused_politely_and_tells_nothing(place: Place) -> None:
    await place.register()
    for token in (
        "x",
        "A" * 100,
        "A" * 5_000,
        POSTMARKS.way_to_leave("email.cascina", "maria.rossi@esempio.it"),
        Postmarks(b"x" * 32).way_to_leave("email.bientina", "maria.rossi@esempio.it"),
        POSTMARKS.way_to_leave("email.bientina", "maria.rossi@esempio.it")[:-1] + "!",
    ):
        pages = [await raw_answer(place, method, f"/v1/unsubscribe/{token}") for method in ("GET", "POST")]
        assert {(status, kind) for status, kind, _ in pages} == {(404, "text/html")}
        assert all("non è valido" in page for *_, page in pages)
    assert all(row.left_at is None for row in await place.api.rows(tables.Recipient))
    stranger = POSTMARKS.way_to_leave("email.bientina", "nessuno@esempio.it")
    assert (await raw_answer(place, "POST", f"/v1/unsubscribe/{stranger}"))[0] == 200


async def test_a_map_is_seen_in_the_letter_and_a_pdf_goes_with_it_each_as_it_was_published(place: Place) -> None:
    await place.register()
    published = []
    for file in (saved(plan(), "PNG"), document()):
        handed_in = await place.api.ask("POST", "/v1/attachments", "ezio", data=file)
        assert handed_in.status == 201, handed_in.body
        async with place.town.database.read() as session:
            enclosure = await attachments.enclosure(session, handed_in.body["sha256"], "Mappa delle vie", place.api.url)
        await place.tell(await place.town.issue(area=AREA, enclosure=enclosure))
        async with place.api.http.get(handed_in.body["url"]) as answer:
            assert answer.status == 200
            published.append(await answer.read())

    with_map, with_pdf = place.letters
    (picture,) = [part for part in with_map.walk() if part.get_content_type() == "image/png"]
    assert picture.get_content() == published[0] and f"cid:{picture['Content-ID'][1:-1]}" in str(
        with_map.get_body(("html",)).get_content()  # type: ignore[union-attr]
    )
    pdf, cap = with_pdf.iter_attachments()
    assert (pdf.get_content(), cap.get_content_type()) == (published[1], "application/cap+xml")
    assert b"<resource>" in cap.get_content() and place.api.url.encode() in cap.get_content()
