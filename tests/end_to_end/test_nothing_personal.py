"""Markers that nobody can overlook go in by every way; nothing that was written down anywhere has one in clear."""

import base64
import hmac
import json
import sqlite3
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

import pika
import psycopg
import pytest
from sqlalchemy.engine import make_url

from alerting.topology import topology
from consumers.local.stack import fetch
from tests.end_to_end.town import Town

NUMBER, NEW_NUMBER, REFUSED = "393489777123", "393489777456", "393489777789"
REPORTER = "393489777321"
BSUID = "IT.9988776655443322"
CHAT = 770123456789
NAME, WORDS = "Ermenegilda Fantappiezqwx", "xilofono marmellata 7781"
LAT, LON = 43.6720913, 10.5900117
TELEPHONES = (NUMBER, NEW_NUMBER, REFUSED, REPORTER)
MARKERS = (
    *TELEPHONES,
    *(one[2:] for one in TELEPHONES),
    *(base64.b64encode(one.encode()).decode().rstrip("=") for one in TELEPHONES),
    BSUID,
    str(CHAT),
    "Fantappiezqwx",
    "fantappiezqwx",
    "marmellata",
    str(LAT),
    str(LON),
)
IN_CLEAR = {("places", "lat"), ("places", "lon"), ("reports", "lat"), ("reports", "lon")}
"""The only columns that tell something of a person, or where they saw a hole: `alerting/retention.py` says for how
long."""


class Sent:
    """What was posted, and all that was answered."""

    def __init__(self, town: Town) -> None:
        self.town = town
        self.answers: list[bytes] = []
        self._secrets = json.loads((town.stack.where / "secrets.json").read_text())
        self._texts = 0

    def post(self, path: str, raw: bytes, headers: dict[str, str]) -> int:
        headers = {"Content-Type": "application/json"} | headers
        request = urllib.request.Request(self.town.stack.api + path, data=raw, headers=headers, method="POST")
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                self.answers.append(answer.read() + str(answer.headers).encode())
                return int(answer.status)
        except urllib.error.HTTPError as refused:
            self.answers.append(refused.read() + str(refused.headers).encode())
            return refused.code

    def whatsapp(
        self, sender: str, kind: str, content: Mapping[str, object], comune: str = "calcinaia", **more: object
    ) -> None:
        self._texts += 1
        access = self.town.stack.authorities[comune].channels[0]
        message = {
            "from": sender,
            "from_user_id": BSUID,
            "id": f"wamid.{sender}{self._texts}{time.time_ns()}",
            "timestamp": str(int(time.time())),
            "type": kind,
            kind: content,
        }
        value = {
            "metadata": {"phone_number_id": access.settings["phone_number_id"]},
            "contacts": [{"profile": {"name": NAME}, "wa_id": sender}],
            "messages": [message | more],
        }
        change = {"field": "messages", "value": value}
        raw = json.dumps({"object": "whatsapp_business_account", "entry": [{"id": "W", "changes": [change]}]}).encode()
        assert self.post("/v1/webhooks/whatsapp", raw, self.signed(raw, comune)) == 200

    def signed(self, raw: bytes, comune: str = "calcinaia") -> dict[str, str]:
        secret = self._secrets[f"whatsapp.{comune}"]["app_secret"]
        return {"X-Hub-Signature-256": f"sha256={hmac.new(secret.encode(), raw, 'sha256').hexdigest()}"}

    def telegram(self, **part: object) -> None:
        self._texts += 1
        person = {"id": CHAT, "is_bot": False, "first_name": NAME}
        message = {
            "message_id": time.time_ns() % 10**9,
            "date": int(time.time()),
            "from": person,
            "chat": {"id": CHAT, "type": "private", "first_name": NAME},
        }
        headers = {"X-Telegram-Bot-Api-Secret-Token": self._secrets["telegram.calcinaia"]["webhook_secret"]}
        raw = json.dumps({"update_id": self._texts, "message": message | part}).encode()
        assert self.post("/v1/webhooks/telegram/telegram.calcinaia", raw, headers) == 200


def test_no_marker_is_in_clear_in_anything_that_was_written(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    sent = Sent(town)
    peeked: list[bytes] = []

    def peek() -> list[bytes]:
        peeked.extend(queued(town))
        return peeked

    # Joins with their name, says where they live, writes what is nobody's business, moves.
    sent.whatsapp(NUMBER, "text", {"body": f"Attiva {NAME}"})
    town.until(lambda: town.telephone(f"+{NUMBER}"))
    sent.whatsapp(NUMBER, "location", {"latitude": LAT, "longitude": LON, "name": WORDS, "address": WORDS})
    sent.whatsapp(NUMBER, "text", {"body": f"{NAME}, {WORDS}"})
    sent.whatsapp(NUMBER, "image", {"id": "1", "caption": f"zona {WORDS}"})
    sent.whatsapp(NUMBER, "button", {"payload": f"ACK:{WORDS}", "text": WORDS})
    sent.whatsapp(NUMBER, "contacts", {"contacts": [{"name": NAME}]})
    sent.whatsapp(REFUSED, "text", {"body": "Attiva"})
    sent.telegram(text=f"/start {WORDS.replace(' ', '')}")
    sent.telegram(location={"latitude": LAT, "longitude": LON})
    sent.telegram(text=f"{NAME}: {WORDS}")
    town.until(lambda: len(town.telephone(f"+{NUMBER}")) >= 4)
    system = {
        "type": "user_changed_number",
        "wa_id": NEW_NUMBER,
        "body": f"{NAME} changed from {NUMBER} to {NEW_NUMBER}",
    }
    sent.whatsapp(NUMBER, "system", system, system=system)

    # Reports a hole to a two-way comune, is answered, books, asks what is known; and one report waits for the desk.
    desk = "santa-fiora"

    def heard(words: str) -> bool:
        return any(words in one for one in town.telephone(f"+{REPORTER}"))

    sent.whatsapp(REPORTER, "text", {"body": f"Buca in via {NAME} {WORDS}, chiamate il {REPORTER}"}, desk)
    town.until(lambda: heard("buche e strade"))
    sent.whatsapp(REPORTER, "location", {"latitude": LAT, "longitude": LON, "name": WORDS}, desk)
    sent.whatsapp(REPORTER, "image", {"id": "77123456", "caption": f"{NAME}: {WORDS}"}, desk)
    sent.whatsapp(REPORTER, "text", {"body": f"Appuntamento anagrafe {NAME}"}, desk)
    town.until(lambda: heard("2) "))
    sent.whatsapp(REPORTER, "text", {"body": "2"}, desk)
    town.until(lambda: heard("appuntamento fissato"))
    town.until(lambda: heard("la foto non si apre"))
    (report,) = [one for one in town.read(f"/v1/desk/reports?authority={desk}")["items"] if WORDS in one["begins"]]
    assert report["point"] == {"lat": LAT, "lon": LON}
    town.api("operator").post(f"/v1/desk/reports/{report['number']}/note", {"words": f"{NAME}, {WORDS}"})
    town.api("operator").post(f"/v1/desk/reports/{report['number']}/answer", {"words": f"Grazie {NAME}."})
    sent.whatsapp(REPORTER, "text", {"body": "Cosa sai di me"}, desk)
    town.until(lambda: heard(f"Grazie {NAME}.") and heard("conserva di te: segnalazione n. "))
    town.stack.kill("desk")
    sent.whatsapp(REPORTER, "text", {"body": f"Lampione spento, {WORDS} {NAME}"}, desk)
    town.until(lambda: any(b"desk" in one for one in peek()))
    town.stack.restart("desk")

    # What is wrong: unsigned, no JSON, a number that is none, a person's data in a path and in a question.
    raw = json.dumps({"entry": [{"from": NUMBER, "body": WORDS}]}).encode()
    assert sent.post("/v1/webhooks/whatsapp", raw, {}) == 401
    broken = f'{{"from": "{NUMBER}", "text": "{WORDS}'.encode()
    assert sent.post("/v1/webhooks/whatsapp", broken, sent.signed(broken)) == 400
    bearer = dict(town.api("operator")._headers)
    for address in (f"+{NUMBER}99999999", f"{NAME} {NUMBER}"):
        item = {"authority": "calcinaia", "channel": "whatsapp", "address": address}
        assert sent.post("/v1/recipients", json.dumps(item).encode(), bearer) == 422
        batch = {"authority": "calcinaia", "items": [{"channel": "whatsapp", "address": address}]}
        assert sent.post("/v1/recipients/batch", json.dumps(batch).encode(), bearer) == 200
    sent.post(f"/v1/unsubscribe/{NUMBER}", b"", {})
    sent.post(f"/v1/known/{NUMBER}?name={urllib.parse.quote(NAME)}", b"", {})

    # While nobody reads, what is promised lies in the broker; who reads then logs as a person would read it.
    town.stack.kill("inbound")
    sent.whatsapp(NEW_NUMBER, "text", {"body": f"{WORDS} {NAME}"})
    sent.telegram(text=WORDS)
    town.until(lambda: any(b"inbound" in one for one in peek()))
    monkeypatch.setenv("ALERTING_LOG_FORMAT", "plain")
    town.stack.restart("inbound")

    alert, _ = town.issue("Piena dell'Arno", ["fornacette"], kind="interruzione-idrica")
    town.delivered(alert)
    sent.whatsapp(NEW_NUMBER, "text", {"body": "Disattiva"})
    town.until(lambda: town.telephone(f"+{NEW_NUMBER}"))
    sent.whatsapp(NEW_NUMBER, "text", {"body": f"Attiva {NAME}"})
    peek()

    found = [f"answer {number}: {one}" for number, raw in enumerate(sent.answers) for one in markers(raw)]
    found += [f"queue: {one}" for raw in peeked for one in markers(raw)]
    for name, process in town.stack.running.items():
        if not name.startswith("simulator-"):
            written = process.log.read_bytes()
            assert written or name != "api", "the API wrote nothing to look at"
            found += [f"log of {name}: {one}" for one in markers(written)]
            figures = fetch(f"http://127.0.0.1:{process.metrics_port}/metrics")
            found += [f"metrics of {name}: {one}" for one in markers(figures)]
    found += [f"metrics of the API: {one}" for one in markers(fetch(f"{town.stack.api}/metrics"))]
    cells = list(everything_stored(town))
    seen = {f"{table}.{column}: {one}" for table, column, raw in cells for one in markers(raw)}
    allowed = {f"{table}.{column}" for table, column in IN_CLEAR}
    assert {one.partition(":")[0] for one in seen} >= allowed, "the markers never came in"
    found += sorted(one for one in seen if one.partition(":")[0] not in allowed)
    assert found == []


def markers(raw: bytes) -> list[str]:
    """Those in it, however it is spelled: as it is, in a URL, in JSON without accents, in capitals."""
    text = raw.decode("utf-8", "replace")
    return [one for one in MARKERS if one in text or one in urllib.parse.unquote(text)]


def queued(town: Town) -> Iterator[bytes]:
    """Every message that lies in one of our queues, with its headers; each stays where it is."""
    with pika.BlockingConnection(pika.URLParameters(town.stack.amqp)) as connection:
        for queue in topology(town.stack.prefix).queues:
            channel = connection.channel()
            while True:
                method, properties, body = channel.basic_get(queue.name, auto_ack=False)
                if method is None:
                    break
                yield f"{queue.name} {method.exchange} {method.routing_key} {properties} ".encode() + (body or b"")
            channel.close()  # hands all of them back


def everything_stored(town: Town) -> Iterator[tuple[str, str, bytes]]:
    """Every value of every row of every table: what is bytes as it is, the rest as text."""
    url = make_url(town.stack.database)
    if url.drivername.startswith("sqlite"):
        with sqlite3.connect(f"file:{url.database}?mode=ro", uri=True) as connection:
            names = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            for name in names:
                cursor = connection.execute(f'SELECT * FROM "{name}"')
                columns = [one[0] for one in cursor.description]
                yield from ((name, c, _raw(v)) for row in cursor for c, v in zip(columns, row, strict=True))
        return
    plain = url.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(plain) as connection:
        tables = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
        for (name,) in tables:
            rows = connection.execute(f'SELECT * FROM "{name}"')
            columns = [one.name for one in rows.description or ()]
            yield from ((name, c, _raw(v)) for row in rows for c, v in zip(columns, row, strict=True))


def _raw(value: object) -> bytes:
    if isinstance(value, bytes | memoryview):
        return bytes(value)
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().encode()
    return json.dumps(value, ensure_ascii=False, default=str).encode()
