"""A town at work, as its operators and citizens see it: over HTTP, and on their telephones."""

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from consumers.local.demo import Api, most_in_a_second
from consumers.local.stack import Stack, fetch, running

IN_FORNACETTE = {"lat": 43.671, "lon": 10.589}
ELSEWHERE = {"lat": 43.694, "lon": 10.612}
PATIENCE = 120.0
COPIES = {"deliver-whatsapp": 2}
NO_PAIR_LIMIT = {"pair_every": 0.001}
"""One person gets more texts in these tests than WhatsApp lets one number send to one person."""
QUORUM_SETTLES = 5.0
"""Seconds: RabbitMQ 3.10 may lose a quorum queue that is killed right after its declaration."""

__all__ = [
    "COPIES",
    "ELSEWHERE",
    "IN_FORNACETTE",
    "NO_PAIR_LIMIT",
    "QUORUM_SETTLES",
    "Town",
    "at_work",
    "most_in_a_second",
]


@dataclass
class Town:
    """Calcinaia and what can be done in it."""

    stack: Stack
    numbers: int = 0
    known: dict[str, Api] = field(default_factory=dict)

    def api(self, role: str) -> Api:
        """The API as somebody with this role."""
        if role not in self.known:
            self.known[role] = Api(self.stack.api, self.stack.token(f"e2e-{role}", role))
        return self.known[role]

    # ── operators ───────────────────────────────────────────────────────────────────────────────────

    def subscribe(self, count: int, point: dict[str, float] | None, authority: str = "calcinaia") -> list[str]:
        """Register so many people there; their numbers, which end in 1: the simulator's magic endings do not."""
        numbers = [f"+39347{(self.numbers + n) * 10 + 1:07d}" for n in range(count)]
        self.numbers += count
        for start in range(0, count, 1000):
            where = {"point": point} if point else {}
            items = [{"channel": "whatsapp", "address": number} | where for number in numbers[start : start + 1000]]
            self.api("operator").post("/v1/recipients/batch", {"authority": authority, "items": items})
        return numbers

    def draft(self, headline: str, areas: list[str], **more: Any) -> str:
        """A water outage, unless told otherwise. Its identifier."""
        wording = {
            "authority": "calcinaia",
            "kind": "interruzione-idrica",
            "headline": headline,
            "description": "Manca l'acqua per una rottura.",
            "expires": (datetime.now(UTC) + timedelta(hours=3)).isoformat(),
            "areas": areas,
        }
        return str(self.api("operator").post("/v1/alerts", wording | more)["identifier"])

    def issue(self, headline: str, areas: list[str], **more: Any) -> tuple[str, float]:
        """Draft, approve, issue. The identifier, and when issue was asked for."""
        alert = self.draft(headline, areas, **more)
        self.api("approver").post(f"/v1/alerts/{alert}/approve")
        asked = time.time()
        self.api("operator").post(f"/v1/alerts/{alert}/issue")
        return alert, asked

    def event(self, headline: str) -> tuple[str, float]:
        """Event news to the whole comune."""
        return self.issue(headline, ["calcinaia"], kind="evento", description="In piazza, dalle 10.")

    def read(self, path: str) -> dict[str, Any]:
        """GET as an operator."""
        request = urllib.request.Request(self.stack.api + path, headers=self.api("operator")._headers)
        with urllib.request.urlopen(request, timeout=10) as answer:
            found: dict[str, Any] = json.loads(answer.read())
            return found

    def delivery(self, alert: str) -> dict[str, Any]:
        """How far an alert has come."""
        found: dict[str, Any] = self.read(f"/v1/alerts/{alert}")["delivery"]
        return found

    def delivered(self, alert: str) -> dict[str, Any]:
        """How it ended for everybody, once it has."""
        self.until(lambda: self.delivery(alert)["complete"])
        return self.delivery(alert)

    # ── citizens ────────────────────────────────────────────────────────────────────────────────────

    def writes(self, number: str, text: str, authority: str = "calcinaia", **more: Any) -> None:
        """Somebody writes to their comune on WhatsApp; `more` is a photo or a point."""
        access = self.stack.authorities[authority].channels[0]
        self._post(
            f"{self.stack.whatsapp_url}/__sim/inbound",
            {"from": number.removeprefix("+"), "text": text, "account": access.settings["phone_number_id"]} | more,
        )

    def telephone(self, number: str) -> list[str]:
        """What this number has received, oldest first."""
        return [text["text"] for text in self.received() if _plus(text["to"]) == number]

    def received(self, words: str = "") -> list[dict[str, Any]]:
        """All that the simulated WhatsApp accepted, or all with these words in it."""
        body = fetch(f"{self.stack.whatsapp_url}/__sim/received") or b'{"items": []}'
        return [text for text in json.loads(body)["items"] if words in text["text"]]

    def told(self, words: str) -> list[str]:
        """Who received a text with these words, once for each time."""
        return [_plus(text["to"]) for text in self.received(words)]

    def configure(self, **settings: Any) -> None:
        """Change how the simulated WhatsApp behaves."""
        self._post(f"{self.stack.whatsapp_url}/__sim/config", settings)

    def _post(self, url: str, body: dict[str, Any]) -> None:
        request = urllib.request.Request(
            url, data=json.dumps(body).encode(), headers={"Content-Type": "application/json"}, method="POST"
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            answer.read()

    # ── time ────────────────────────────────────────────────────────────────────────────────────────

    def until(self, happened: Callable[[], Any], patience: float = PATIENCE) -> None:
        """Wait for it. Fails with what was waited for."""
        give_up = time.monotonic() + patience
        while not happened():
            assert time.monotonic() < give_up, f"did not happen within {patience:.0f} s"
            time.sleep(0.1)


@contextmanager
def at_work(stack: Stack, *, settles: float = 0.0) -> Iterator[Town]:
    """The town of this stack with every process running; `settles` seconds later, where its broker will be killed."""
    with running(stack):
        stack.prepare()
        stack.start_simulators()
        stack.start()
        time.sleep(settles)
        yield Town(stack)


def _plus(number: str) -> str:
    return "+" + str(number).removeprefix("+")
