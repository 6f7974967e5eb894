"""`make demo`: an emergency for Fornacette overtakes event news on its way to the whole comune.

Everything is real but the providers: RabbitMQ, the processes of the Procfile, HTTP. Every figure is counted from
what the simulated WhatsApp received.
"""

import bisect
import json
import os
import random
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from consumers.local.services import rabbitmq
from consumers.local.stack import ROOT, Stack, fetch, running
from geo.areas import Area
from geo.shapes import Point

CAP = 80
"""Texts a second: what WhatsApp allows a new business number (channels.md 1.5)."""
RECIPIENTS = 3_000
IN_FORNACETTE = 800
ROUTINE_FIRST = 400
"""How many of the routine texts have gone out when the emergency is issued."""
PATIENCE = 80.0  # seconds

EVENT = {
    "kind": "evento",
    "headline": "Domenica la festa della castagna in piazza Indipendenza",
    "description": "Stand, musica e caldarroste dalle 10 alle 19. Ingresso libero.",
    "areas": ["calcinaia"],
}
STORM = {
    "kind": "allerta-meteo",
    "colour": "arancione",
    "risk": "temporali",
    "headline": "ALLERTA ARANCIONE per temporali forti",
    "description": "Possibili allagamenti di sottopassi e scantinati, grandine e raffiche di vento.",
    "instruction": "Non scendere in cantine e garage, non usare i sottopassi, resta in casa.",
    "areas": ["fornacette"],
}


@dataclass(frozen=True)
class Person:
    """Somebody made up, with a telephone nobody has."""

    number: str
    point: Point
    in_fornacette: bool


def run() -> int:
    """Run the demo. 0 when every promise was kept, 1 when one was broken."""
    console = Console()
    where = ROOT / "var"
    where.mkdir(exist_ok=True)
    database = where / "demo.sqlite"
    for file in where.glob("demo.sqlite*"):
        file.unlink()
    console.print(
        "[bold]allerta[/]: un'allerta per Fornacette supera le notizie già in partenza per tutto il comune.\n"
    )
    with console.status("Avvio di RabbitMQ…"), rabbitmq(where / "demo-rabbitmq", os.environ.get("AMQP_URL")) as amqp:
        stack = Stack(
            where / "demo",
            amqp,
            f"sqlite+aiosqlite:///{database}",
            prefix=f"demo{os.getpid()}.",
            copies={"deliver-whatsapp": 2},
        )
        with running(stack):
            figures = _play(stack, console)
    (where / "demo.json").write_text(json.dumps(figures, indent=2) + "\n")
    _show(figures, console)
    broken = broken_promises(figures)
    for promise in broken:
        console.print(f"[bold red]Promessa non mantenuta:[/] {promise}")
    if not broken:
        console.print("[bold green]Tutte le promesse sono mantenute.[/] I dati sono in var/demo.json")
    return 1 if broken else 0


def _play(stack: Stack, console: Console) -> dict[str, Any]:
    stack.prepare()
    stack.start_simulators()
    stack.start()
    operator = Api(stack.api, stack.token("anna", "operator", "calcinaia"))
    approver = Api(stack.api, stack.token("bruno", "approver", "calcinaia"))
    territory = stack.authorities["calcinaia"].territory
    people = made_up(territory.comune, next(a for a in territory.frazioni if a.code.endswith("fornacette")))
    _subscribe(operator, people)
    console.print(
        f"{len(people):,} iscritti, {IN_FORNACETTE} a Fornacette; WhatsApp accetta {CAP} messaggi al secondo."
    )
    with Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=console
    ) as progress:
        routine_bar = progress.add_task("Evento, tutto il comune", total=len(people))
        urgent_bar = progress.add_task("[red]Allerta arancione, Fornacette", total=IN_FORNACETTE, start=False)
        watch = Watch(stack.whatsapp_url, progress, {"routine": routine_bar, "emergency": urgent_bar})
        issue(operator, approver, EVENT)
        watch.until(lambda: len(watch.texts["routine"]) >= ROUTINE_FIRST)
        issued = issue(operator, approver, STORM)
        progress.start_task(urgent_bar)
        watch.until(
            lambda: len(watch.texts["emergency"]) >= IN_FORNACETTE and len(watch.texts["routine"]) >= len(people)
        )
        time.sleep(1.0)  # whatever would be told twice, or to the wrong people, has its chance to arrive
        watch.look()
    return count(watch.texts, people, issued)


# ── people ──────────────────────────────────────────────────────────────────────────────────────────


def made_up(comune: Area, fornacette: Area) -> list[Person]:
    """People scattered over the comune, the same at each run. Numbers avoid the simulator's magic endings."""
    dice = random.Random(1)
    people: list[Person] = []
    while len(people) < RECIPIENTS:
        wanted = fornacette if len(people) < IN_FORNACETTE else comune
        south, west, north, east = wanted.fence.bounds
        point = Point(dice.uniform(south, north), dice.uniform(west, east))
        inside = fornacette.fence.contains(point)
        if wanted.fence.contains(point) and inside == (wanted is fornacette):
            people.append(Person(f"+39333{len(people) * 10 + 1:07d}", point, inside))
    dice.shuffle(people)
    return people


def _subscribe(api: "Api", people: list[Person]) -> None:
    for start in range(0, len(people), 1000):
        items = [
            {
                "channel": "whatsapp",
                "address": person.number,
                "point": {"lat": person.point.lat, "lon": person.point.lon},
            }
            for person in people[start : start + 1000]
        ]
        api.post("/v1/recipients/batch", {"authority": "calcinaia", "items": items})


# ── what is asked and seen over HTTP ────────────────────────────────────────────────────────────────


class Api:
    """The HTTP API, as one actor."""

    def __init__(self, url: str, token: str) -> None:
        self._url = url
        self._headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}

    def post(self, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """The answer's JSON. Raises RuntimeError with the problem the API reports."""
        data = json.dumps(body or {}).encode()
        request = urllib.request.Request(self._url + path, data=data, headers=self._headers, method="POST")
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                found: dict[str, Any] = json.loads(answer.read() or b"{}")
                return found
        except urllib.error.HTTPError as error:
            raise RuntimeError(f"POST {path}: {error.code} {error.read().decode()[:500]}") from None


def issue(operator: Api, approver: Api, wording: dict[str, Any]) -> float:
    """Draft, approve, issue. When issue was asked for, in Unix time."""
    expires = (datetime.now(UTC) + timedelta(hours=6)).isoformat()
    alert = operator.post("/v1/alerts", wording | {"expires": expires})["identifier"]
    approver.post(f"/v1/alerts/{alert}/approve")
    asked = time.time()
    operator.post(f"/v1/alerts/{alert}/issue")
    return asked


class Watch:
    """What the simulated WhatsApp received, as it comes."""

    def __init__(self, url: str, progress: Progress, bars: dict[str, TaskID]) -> None:
        self._url = url
        self._progress = progress
        self._bars = bars
        self._next = 0
        self.texts: dict[str, list[dict[str, Any]]] = {name: [] for name in bars}

    def until(self, enough: Any) -> None:
        """Watch until there is enough, or patience is at its end."""
        give_up = time.monotonic() + PATIENCE
        while time.monotonic() < give_up:
            self.look()
            if enough():
                return
            time.sleep(0.2)

    def look(self) -> None:
        seen = json.loads(fetch(f"{self._url}/__sim/received?after={self._next}") or b'{"items": [], "next": 0}')
        if seen["items"]:
            self._next = seen["next"]
        for text in seen["items"]:
            self.texts["emergency" if STORM["headline"] in text["text"] else "routine"].append(text)
        for name, bar in self._bars.items():
            self._progress.update(bar, completed=len({text["to"] for text in self.texts[name]}))


# ── what came of it ─────────────────────────────────────────────────────────────────────────────────


def count(texts: dict[str, list[dict[str, Any]]], people: list[Person], issued: float) -> dict[str, Any]:
    """The figures of var/demo.json, from what was received."""
    inside = {person.number for person in people if person.in_fornacette}
    urgent = sorted(text["at"] for text in texts["emergency"])
    waits = [(at - issued) * 1000 for at in urgent]
    between = sum(urgent[0] < text["at"] < urgent[-1] for text in texts["routine"]) if urgent else 0
    return {
        "cap_per_s": CAP,
        "max_in_any_second": most_in_a_second([text["at"] for name in texts for text in texts[name]]),
        "routine": _reached(texts["routine"], {person.number for person in people}),
        "emergency": _reached(texts["emergency"], inside)
        | {
            "outside_geofence": sum(_number(text) not in inside for text in texts["emergency"]),
            "first_ms": _ms(waits[0] if waits else None),
            "p50_ms": _ms(waits[len(waits) // 2] if waits else None),
            "p99_ms": _ms(waits[len(waits) * 99 // 100] if waits else None),
            "last_ms": _ms(waits[-1] if waits else None),
            "routine_between": between,
        },
    }


def _reached(texts: list[dict[str, Any]], meant: set[str]) -> dict[str, int]:
    numbers = [_number(text) for text in texts]
    return {
        "recipients": len(meant),
        "accepted": len(numbers),
        "lost": len(meant - set(numbers)),
        "duplicates": len(numbers) - len(set(numbers)),
    }


def _number(text: dict[str, Any]) -> str:
    return "+" + str(text["to"]).removeprefix("+")


def _ms(wait: float | None) -> float | None:
    return None if wait is None else round(wait, 1)


def most_in_a_second(moments: list[float]) -> int:
    """The most texts in any window of one second."""
    at = sorted(moments)
    return max((bisect.bisect_left(at, start + 1.0) - first for first, start in enumerate(at)), default=0)


def broken_promises(figures: dict[str, Any]) -> list[str]:
    """What was promised and not kept, in words."""
    routine, urgent = figures["routine"], figures["emergency"]
    ideal_ms = urgent["recipients"] / figures["cap_per_s"] * 1000
    promises = {
        "nessuno perso": routine["lost"] == urgent["lost"] == 0,
        "nessuno avvisato due volte": routine["duplicates"] == urgent["duplicates"] == 0,
        "nessuno avvisato fuori da Fornacette": urgent["outside_geofence"] == 0,
        "la prima entro 0,5 s dall'emissione": (urgent["first_ms"] or 1e9) <= 500,
        f"tutte entro {ideal_ms * 1.15 / 1000:.1f} s": (urgent["last_ms"] or 1e9) <= ideal_ms * 1.15,
        "al massimo 16 notizie durante l'allerta": urgent["routine_between"] <= 16,
        "mai più di 84 messaggi in un secondo": figures["max_in_any_second"] <= 84,
    }
    return [promise for promise, kept in promises.items() if not kept]


def _show(figures: dict[str, Any], console: Console) -> None:
    routine, urgent = figures["routine"], figures["emergency"]
    table = Table(title="Contato su ciò che WhatsApp (simulato) ha ricevuto")
    table.add_column("")
    table.add_column("Evento, tutto il comune", justify="right")
    table.add_column("Allerta, Fornacette", justify="right")
    for words, key in (
        ("persone da avvisare", "recipients"),
        ("messaggi accettati", "accepted"),
        ("persone perse", "lost"),
        ("messaggi doppi", "duplicates"),
    ):
        table.add_row(words, str(routine[key]), str(urgent[key]))
    for words, key in (
        ("fuori dalla zona", "outside_geofence"),
        ("dalla emissione alla prima persona, ms", "first_ms"),
        ("alla metà delle persone, ms", "p50_ms"),
        ("al 99 % delle persone, ms", "p99_ms"),
        ("all'ultima persona, ms", "last_ms"),
        ("notizie passate durante l'allerta", "routine_between"),
    ):
        table.add_row(words, "", str(urgent[key]))
    table.add_row(f"massimo in un secondo (limite {figures['cap_per_s']})", str(figures["max_in_any_second"]), "")
    console.print(table)
