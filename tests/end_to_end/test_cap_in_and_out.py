"""A CAP document of another body goes in, the right telephones ring, and CAP, Atom and GeoJSON come out."""

import json
import urllib.request
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from alerting.cap_xml.reading import Verdict, read
from consumers.local.stack import fetch
from tests.end_to_end.town import ELSEWHERE, IN_FORNACETTE, Town

SAMPLE = Path(__file__).parents[2].parent / "shared/data/cap_rules/00_base_valid.xml"
SOURCE = "unione-valdera"


@pytest.fixture(scope="module")
def feed(town: Town) -> str:
    """The token of a source that Calcinaia lets issue."""
    return town.stack.token(SOURCE, "feed")


def moved_to_now(identifier: str, **changes: str) -> bytes:
    """The sample, sent now and lasting eight hours."""
    if not SAMPLE.exists():
        pytest.skip("the sample documents are not on this machine")
    now = datetime.now(UTC).replace(microsecond=0)
    times = {
        "2026-11-21T09:00:00+01:00": now,
        "2026-11-21T14:00:00+01:00": now + timedelta(minutes=30),
        "2026-11-22T00:00:00+01:00": now + timedelta(hours=8),
    }
    text = SAMPLE.read_text().replace("it.pi.calcinaia.2026.0001", identifier)
    for was, moment in times.items():
        text = text.replace(was, moment.strftime("%Y-%m-%dT%H:%M:%S-00:00"))
    for was, other in changes.items():
        text = text.replace(was, other)
    return text.encode()


def hand_in(town: Town, token: str, document: bytes) -> dict[str, str]:
    """POST /v1/cap; what became of it in Calcinaia."""
    request = urllib.request.Request(
        f"{town.stack.api}/v1/cap",
        document,
        {"Authorization": f"Bearer {token}", "Content-Type": "application/cap+xml"},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        (item,) = json.loads(answer.read())["items"]
    became: dict[str, str] = next(one for one in item["became"] if one["authority"] == "calcinaia")
    return became


def test_a_document_of_a_trusted_source_reaches_fornacette_and_its_cancel_the_same_people(
    town: Town, feed: str
) -> None:
    inside, outside = town.subscribe(4, IN_FORNACETTE), town.subscribe(3, ELSEWHERE)
    document = moved_to_now("valdera.1")
    issued = hand_in(town, feed, document)
    assert issued["did"] == "issued"
    town.delivered(issued["alert"])
    headline = "Allerta arancione per rischio idraulico a Fornacette"
    assert set(town.told(headline)) >= set(inside) and not set(town.told(headline)) & set(outside)
    text = town.telephone(inside[0])[-1]
    assert text.startswith(f"Comune di Calcinaia: {headline}") and "Cosa fare: Spostati ai piani alti." in text

    sent = read(document).alert
    assert sent is not None
    following = f"<scope>Public</scope><references>{sent.sender},{sent.identifier},{sent.sent.isoformat()}</references>"
    cancel = moved_to_now("valdera.2", **{"<scope>Public</scope>": following, "<msgType>Alert": "<msgType>Cancel"})
    cancelled = hand_in(town, feed, cancel)
    assert cancelled["did"] == "cancelled"
    town.delivered(cancelled["alert"])
    assert sorted(town.told("ANNULLATO: Allerta arancione")) == sorted(town.told(f"Calcinaia: {headline}"))

    for alert, msg_type in ((issued["alert"], "Alert"), (cancelled["alert"], "Cancel")):
        found = read(fetch(f"{town.stack.api}/cap/{alert}.xml"))
        assert found.alert is not None and found.alert.msg_type.value == msg_type
        assert found.verdict is Verdict.ACCEPT
    atom = fetch(f"{town.stack.api}/cap/calcinaia/atom.xml").decode()
    in_force = json.loads(fetch(f"{town.stack.api}/cap/in-force.geojson"))
    assert cancelled["alert"] in atom
    assert cancelled["alert"] in {feature["properties"]["identifier"] for feature in in_force["features"]}


def test_the_same_document_again_tells_nobody(town: Town, feed: str) -> None:
    town.subscribe(1, IN_FORNACETTE)
    document = moved_to_now("valdera.3", **{"Allerta arancione per rischio idraulico": "Allerta arancione per piena"})
    first = hand_in(town, feed, document)
    town.delivered(first["alert"])
    told = len(town.told("Allerta arancione per piena"))
    request = urllib.request.Request(
        f"{town.stack.api}/v1/cap", document, {"Authorization": f"Bearer {feed}", "Content-Type": "application/cap+xml"}
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        (item,) = json.loads(answer.read())["items"]
    assert item["state"] == "repeated" and item["became"] == []
    assert len(town.told("Allerta arancione per piena")) == told
