"""Figures of people who really joined and left, and of alerts really fanned out; as JSON, page, CSV, command, gauge."""

import os
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from prometheus_client import REGISTRY
from sqlalchemy import select

from alerting import growth, monthly, monthly_page, subscribing
from alerting.domain.delivery import Channel, Progress
from alerting.growth import Moved
from alerting.persistence import tables
from alerting.subscribing import Subscriber
from consumers.local.stack import ROOT
from tests.integration import api_client
from tests.integration.api_client import KEY, NOWHERE_TO_PUBLISH, serving
from tests.integration.calcinaia import one_database
from tests.integration.engine import Town, a_town

W = Channel.WHATSAPP
TODAY = growth.day_in_rome(datetime.now(UTC))
MONTH = growth.month_of(TODAY)


@pytest.fixture
async def town(database_url: str) -> AsyncIterator[Town]:
    async with a_town(database_url, telegram=True) as town:
        yield town


@pytest.fixture
async def api(database_url: str, tmp_path: Path) -> AsyncIterator[api_client.Town]:
    async with serving(database_url, NOWHERE_TO_PUBLISH, "t.", tmp_path) as town:
        yield town


async def joined_at(town: Town, moment: datetime, people: int) -> list[str]:
    """So many who joined at a moment."""
    numbers = await town.subscribe(people)
    async with town.database.write() as session:
        newest = select(tables.Recipient).order_by(tables.Recipient.id.desc()).limit(people)
        for row in await session.scalars(newest):
            row.joined_at = moment
    return numbers


async def leaves(town: Town, number: str, moment: datetime) -> None:
    async with town.database.write() as session:
        who = Subscriber(town.authority, town.whatsapp, number)
        assert await subscribing.leave(session, who, town.seal, keyword="Disattiva", now=moment)


async def moved(town: Town, first: date, last: date) -> list[Moved]:
    async with town.database.read() as session:
        return await growth.people(session, "calcinaia", growth.months(first, last))


async def test_who_joins_and_leaves_is_counted_in_the_month_of_rome(town: Town) -> None:
    before = datetime(2026, 6, 30, 21, 59, tzinfo=UTC)  # 23:59 in Rome
    after = datetime(2026, 6, 30, 22, 0, tzinfo=UTC)  # midnight
    first = await joined_at(town, before, 3)
    await joined_at(town, after, 2)
    await leaves(town, first[0], after)
    june, july, august = await moved(town, date(2026, 6, 1), date(2026, 8, 1))
    assert (june.joined[W], june.left[W], june.subscribed[W]) == (3, 0, 3)
    assert (july.joined[W], july.left[W], july.subscribed[W]) == (2, 1, 4)
    assert (august.joined.total(), august.subscribed[W]) == (0, 4)
    async with town.database.read() as session:
        (day,) = await growth.people(session, "calcinaia", growth.days(growth.Span(date(2026, 7, 1), date(2026, 7, 2))))
    assert (day.joined[W], day.left[W], day.subscribed[W]) == (2, 1, 4)


async def test_the_past_stays_what_it_was_when_somebody_leaves_and_comes_back(town: Town) -> None:
    (number,) = await joined_at(town, datetime(2026, 3, 5, tzinfo=UTC), 1)
    march = (await moved(town, date(2026, 3, 1), date(2026, 3, 1)))[0]
    await leaves(town, number, datetime(2026, 5, 5, tzinfo=UTC))
    async with town.database.write() as session:
        who = Subscriber(town.authority, town.whatsapp, number)
        await subscribing.join(session, who, town.seal, keyword="Attiva", now=datetime(2026, 5, 6, tzinfo=UTC))
    found = await moved(town, date(2026, 3, 1), date(2026, 5, 1))
    assert found[0] == march and march.subscribed[W] == 1
    assert (found[2].joined[W], found[2].left[W], found[2].subscribed[W]) == (1, 1, 1)


async def test_exercises_and_the_public_channel_are_not_people(town: Town) -> None:
    await joined_at(town, datetime(2026, 3, 5, tzinfo=UTC), 4)
    await town.run("UPDATE recipients SET live = false WHERE id = (SELECT max(id) FROM recipients)")
    (march,) = await moved(town, date(2026, 3, 1), date(2026, 3, 1))
    assert march.subscribed == Counter({W: 3})


async def test_texts_are_those_that_providers_took_and_sms_are_paid_by_the_part(town: Town) -> None:
    dispatch = await town.issued_and_fanned_out(20)
    await town.run(f"UPDATE deliveries SET progress = {Progress.DELIVERED.value}")
    failed = f"UPDATE deliveries SET progress = {Progress.FAILED.value} WHERE seq BETWEEN 10 AND 14"
    await town.run(f"{failed} AND dispatch_id = {dispatch}")
    async with town.database.read() as session:
        (said,) = await growth.said(session, "calcinaia", [MONTH])
    (one,) = said.alerts
    assert (one.texts[W], one.texts[Channel.TELEGRAM], one.in_public) == (15, 1, 1)
    assert one.headline == "Piena dell'Arno a Fornacette" and one.sms_parts >= 1
    assert said.texts == one.texts and not said.answers
    prices = growth.prices_of(town.authority)
    assert prices.as_sms(15, one.sms_parts) == pytest.approx(15 * one.sms_parts * 0.05)


async def test_exercises_cost_nobody_anything(town: Town) -> None:
    await town.issued_and_fanned_out(3)
    await town.run(f"UPDATE deliveries SET progress = {Progress.DELIVERED.value}")
    await town.run("UPDATE dispatches SET live = false")
    async with town.database.read() as session:
        (said,) = await growth.said(session, "calcinaia", [MONTH])
    assert not said.alerts


async def test_where_people_live_is_written_down_once_a_day_and_stays(town: Town) -> None:
    numbers = await town.subscribe(12)
    now = datetime.now(UTC)
    known = {"calcinaia": town.authority}
    await growth.look(town.database, known.values(), now)
    for number in numbers[:5]:
        await leaves(town, number, now)
    await growth.look(town.database, known.values(), now)
    async with town.database.read() as session:
        rows = (
            await session.scalars(select(tables.AreaDay).where(tables.AreaDay.area == "calcinaia.fornacette"))
        ).all()
        assert [(row.day, row.people) for row in rows] == [(growth.day_in_rome(now), 12)]
        lives = await growth.lives(session, town.authority, MONTH, growth.day_in_rome(now))
    assert [(one.people, one.before) for one in lives if one.code == "calcinaia.fornacette"] == [(7, 12)]
    shown = REGISTRY.get_sample_value("alerting_subscribers", {"authority": "calcinaia", "channel": "whatsapp"})
    assert shown == 7


# ── over HTTP ───────────────────────────────────────────────────────────────────────────────────────


async def register(api: api_client.Town, people: int) -> None:
    items = [{"channel": "whatsapp", "address": f"333{n:07d}", "area": "fornacette"} for n in range(people)]
    assert (await api.ask("POST", "/v1/recipients/batch", json={"items": items})).body["created"] == people


async def test_figures_are_exact_for_the_staff_and_in_tens_for_who_only_looks(api: api_client.Town) -> None:
    await register(api, 23)
    exact = (await api.ask("GET", "/v1/authorities/calcinaia/growth")).body
    assert len(exact["items"]) == 12 and exact["items"][-1]["span"] == MONTH.name
    assert (exact["items"][-1]["subscribed"], exact["items"][-1]["joined"], exact["rounded"]) == (23, 23, False)
    assert {one["code"]: one["people"] for one in exact["places"]}["calcinaia.fornacette"] == 23
    seen = (await api.ask("GET", "/v1/authorities/calcinaia/growth", "carla")).body
    assert (seen["items"][-1]["subscribed"], seen["items"][-1]["left"], seen["rounded"]) == (20, "<10", True)
    day = TODAY.isoformat()
    one = (await api.ask("GET", f"/v1/authorities/calcinaia/growth?from={day}&to={day}&by=day")).body["items"]
    assert [(item["span"], item["joined"]) for item in one] == [(day, 23)]


@one_database
async def test_a_comune_sees_itself_alone_and_what_is_asked_has_an_end(api: api_client.Town) -> None:
    for path in ("growth", "report", "report.csv"):
        assert (await api.ask("GET", f"/v1/authorities/calcinaia/{path}", "ezio")).status == 403
        assert (await api.ask("GET", f"/v1/authorities/calcinaia/{path}", None)).status == 401
        assert (await api.ask("GET", f"/v1/authorities/pisa/{path}", "admin")).status == 422
    for query in ("from=2026-05-01&to=2026-04-01", "from=2001-01-01", "from=2020-01-01&by=day", "from=1492-10-12"):
        refused = await api.ask("GET", f"/v1/authorities/calcinaia/growth?{query}")
        assert (refused.status, refused.pointers) == (422, ["/from"])
    assert (await api.ask("GET", "/v1/authorities/calcinaia/report?month=2026-13")).status == 422


async def test_the_month_is_a_page_and_a_csv(api: api_client.Town) -> None:
    await register(api, 23)
    page = await api.ask("GET", f"/v1/authorities/calcinaia/report?month={MONTH.name}")
    assert page.headers["Content-Type"].startswith("text/html") and "<dd>23</dd>" in page.body
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    seen = await api.ask("GET", f"/v1/authorities/calcinaia/report?month={MONTH.name}", "carla")
    assert "<dd>20</dd>" in seen.body and "<dd>23</dd>" not in seen.body
    rows = await api.ask("GET", f"/v1/authorities/calcinaia/report.csv?month={MONTH.name}")
    assert rows.body.splitlines()[-1].split(";")[1] == "23"
    assert f"avvisi-calcinaia-{MONTH.name}.csv" in rows.headers["Content-Disposition"]


def command(api: api_client.Town, *words: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"DATABASE_URL": api.database.url, "ALERTING_KEY": KEY, "PYTHONPATH": str(ROOT)}
    of_report = [sys.executable, "-m", "alerting", "report", "--comune", "calcinaia", *words]
    return subprocess.run(of_report, env=environment, capture_output=True, text=True)


async def test_the_command_writes_the_page_and_the_csv(api: api_client.Town, tmp_path: Path) -> None:
    await register(api, 3)
    done = command(api, "--month", MONTH.name, "--out", str(tmp_path / "r"))
    assert done.returncode == 0, done.stderr
    html, csv = (tmp_path / "r" / f"avvisi-calcinaia-{MONTH.name}.{suffix}" for suffix in ("html", "csv"))
    assert "Comune di Calcinaia" in html.read_text() and csv.read_text("utf-8-sig").startswith("mese;")
    wrong = command(api, "--month", "novembre")
    assert wrong.returncode == 2 and "2026-11" in wrong.stderr


async def test_the_month_before_is_meant_where_none_is_named(town: Town) -> None:
    span = monthly.month_named(None, TODAY)
    assert span.ends == MONTH.begins
    async with town.database.read() as session:
        found = await monthly.read(session, replace(town.authority, sms_price=None), span, TODAY, exact=True)
    assert "In questo mese non ci sono stati avvisi" in monthly_page.page(found)
    assert found.days[0].span.begins == span.begins and timedelta(days=27) < span.ends - span.begins
