"""From a CAP document handed in by a source that a comune lets issue, until the provider has the first text."""

import random
import time
import urllib.request
from datetime import UTC, datetime, timedelta

from rich.progress import track

from alerting.cap_xml.writing import MEDIA_TYPE, write
from alerting.domain import cap
from consumers.local.demo import Api
from consumers.local.stack import Stack, running
from geo.shapes import Point, Polygon
from tests.benchmarks.bench_town import Runs, Services
from tests.benchmarks.idle import APART, PEOPLE, at_share, first_after

DOCUMENTS = 120
SOURCE = "unione-valdera"
FORNACETTE = Polygon(tuple(Point(*at) for at in ((43.665, 10.58), (43.665, 10.6), (43.675, 10.6), (43.665, 10.58))))


def intake(services: Services) -> Runs:
    """p50 and p99 of 120 documents over HTTP on PostgreSQL, with every process of the Procfile on this machine."""
    stack = Stack(
        services.where / "intake",
        services.amqp,
        services.database("bench_intake"),
        prefix="intake.",
        copies={"deliver-whatsapp": 2},
        whatsapp={"pair_every": 0.001},  # the same people are told again and again
    )
    with running(stack):
        stack.prepare()
        stack.start_simulators()
        stack.start()
        operator = Api(stack.api, stack.token("operator", "operator", "calcinaia"))
        people = [
            {"channel": "whatsapp", "address": f"+39333000{n:03d}1", "point": {"lat": 43.668, "lon": 10.594}}
            for n in range(PEOPLE)
        ]
        operator.post("/v1/recipients/batch", {"authority": "calcinaia", "items": people})
        token = stack.token(SOURCE, "feed")
        waits = [_one(stack, token, number) for number in track(range(DOCUMENTS), "intake")]
    services.drop("bench_intake")
    return {"intake.first_p50_ms": [at_share(waits, 0.50)], "intake.first_p99_ms": [at_share(waits, 0.99)]}


def _one(stack: Stack, token: str, number: int) -> float:
    """Milliseconds by the simulator's own clock; nobody asks it anything until the text must be there."""
    event = f"Guasto numero {number}"
    time.sleep(random.uniform(*APART))
    request = urllib.request.Request(
        f"{stack.api}/v1/cap",
        _document(event, number),
        {"Authorization": f"Bearer {token}", "Content-Type": MEDIA_TYPE},
    )
    asked = time.time()
    with urllib.request.urlopen(request, timeout=10) as answer:
        answer.read()
    return first_after(stack, number, event, asked)


def _document(event: str, number: int) -> bytes:
    now = datetime.now(UTC).replace(microsecond=0)
    info = cap.Info(
        category=(cap.Category.SAFETY,),
        event=event,
        urgency=cap.Urgency.IMMEDIATE,
        severity=cap.Severity.SEVERE,
        certainty=cap.Certainty.OBSERVED,
        expires=now + timedelta(hours=2),
        headline=f"{event} alla rete del gas di via Roma",
        description="Possibile odore di gas nelle strade vicine.",
        instruction="Non accendere fiamme e non usare l'ascensore.",
        areas=(cap.Area("Fornacette", polygons=(FORNACETTE,)),),
    )
    alert = cap.Alert(
        f"valdera-{number}", "salaoperativa@unione.valdera.pi.it", now, cap.Status.ACTUAL, cap.MsgType.ALERT, (info,)
    )
    return write(alert)
