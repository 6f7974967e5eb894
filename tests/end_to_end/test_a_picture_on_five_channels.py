"""One alert with a picture, to people on five channels: each sees it on the page that looks like their phone."""

import io
import json
import re
import urllib.request
from collections.abc import Iterator
from secrets import token_hex
from typing import Any

import pytest
from PIL import Image, ImageDraw

from consumers.local.stack import Stack
from tests.end_to_end.town import IN_FORNACETTE, Town, at_work
from tests.shared_servers import a_database, forget

ROBERTO, SARA = "+393471234571", "+393471234581"
LUCIA = "lucia@esempio.it"
SOMEBODY_ON_TELEGRAM = "5001"
HEADLINE = "Chiuso il ponte di Fornacette"


@pytest.fixture(scope="module")
def five_ways(amqp_url: str, postgresql_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    """Calcinaia with SMS and e-mail beside what it has."""
    prefix = f"e{token_hex(3)}."
    with a_database(postgresql_url) as database:
        where = tmp_path_factory.mktemp("five-ways")
        stack = Stack(where, amqp_url, database.render_as_string(hide_password=False), prefix=prefix, with_sms=True)
        with at_work(stack) as town:
            yield town
        forget(amqp_url, prefix)


def test_each_sees_the_picture_or_is_told_where_it_is(five_ways: Town) -> None:
    town = five_ways
    for channel, address in (("whatsapp", ROBERTO), ("sms", SARA), ("email", LUCIA)):
        item = {"channel": channel, "address": address, "point": IN_FORNACETTE}
        town.api("operator").post("/v1/recipients/batch", {"authority": "calcinaia", "items": [item]})
    browser = a_browser_subscribes(town)

    alert, _ = town.issue(HEADLINE, ["fornacette"], kind="chiusura-strada", enclosure=uploaded(town, a_map()))
    outcome = town.delivered(alert)
    assert outcome["final"] == outcome["audience"] == 5  # with the public Telegram channel

    sim = town.stack
    on_whatsapp = page(town, f"{sim.whatsapp_url}/__sim/phone/{ROBERTO}")
    on_telegram = page(town, f"{sim.telegram_url}/__sim/phone/{SOMEBODY_ON_TELEGRAM}")
    by_mail = page(town, f"{sim.email_url}/__sim/phone/{LUCIA}")
    for shown, url in ((on_whatsapp, sim.whatsapp_url), (on_telegram, sim.telegram_url), (by_mail, sim.email_url)):
        picture = re.search(r'<img src="([^"]+)"', shown)
        assert picture is not None, shown
        assert_is_the_map(fetched(url + picture[1]))
    for shown in (
        page(town, f"{sim.sms_url}/__sim/phone/{SARA}"),
        page(town, f"{sim.web_push_url}/__sim/phone/{browser}"),
    ):
        link = re.search(r'<a href="(http[^"]+/a/[0-9a-f]+)"', shown)
        assert link is not None, shown
        assert_is_the_map(fetched(link[1]))


def a_map() -> bytes:
    """A photograph of a map, with the place where it was taken."""
    picture = Image.new("RGB", (640, 480), "#dfe8d0")
    ImageDraw.Draw(picture).line((0, 240, 640, 260), fill="#4477aa", width=40)
    exif = Image.Exif()
    exif.get_ifd(0x8825)[1] = "N"
    written = io.BytesIO()
    picture.save(written, "JPEG", exif=exif)
    return written.getvalue()


def assert_is_the_map(content: bytes) -> None:
    picture = Image.open(io.BytesIO(content))
    assert picture.size == (640, 480)
    assert not picture.getexif(), "where it was taken is nobody's business"


def uploaded(town: Town, content: bytes) -> dict[str, str]:
    """As an operator does it before they draft."""
    headers = town.api("operator")._headers | {"Content-Type": "image/jpeg"}
    request = urllib.request.Request(f"{town.stack.api}/v1/attachments", data=content, headers=headers)
    with urllib.request.urlopen(request, timeout=10) as answer:
        return {"sha256": json.loads(answer.read())["sha256"], "says": "Mappa della deviazione"}


def a_browser_subscribes(town: Town) -> str:
    """On the comune's page, for Fornacette. Its name at the push service."""
    page = town.read("/v1/authorities/calcinaia/web-push")
    made = post(
        f"{town.stack.web_push_url}/__sim/subscribe", {"name": "sara", "applicationServerKey": page["public_key"]}
    )
    places = [{"area": "calcinaia.fornacette"}]
    asked = {"subscription": made, "policy": page["policy"]["version"], "places": places}
    post(f"{town.stack.api}/v1/authorities/calcinaia/push-subscriptions", asked)
    return "sara"


def post(url: str, body: dict[str, Any]) -> Any:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.loads(answer.read() or b"null")


def page(town: Town, url: str) -> str:
    """The page of a phone, once the alert is on it."""
    town.until(lambda: HEADLINE in fetched(url, "text/html").decode())
    return fetched(url, "text/html").decode()


def fetched(url: str, accept: str = "*/*") -> bytes:
    with urllib.request.urlopen(urllib.request.Request(url, headers={"Accept": accept}), timeout=10) as answer:
        body: bytes = answer.read()
        return body
