"""What texts have cost, over HTTP: for staff, by channel, lane and alert; and what falling back came to."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from aiohttp import ClientSession
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from alerting import authorities, costs
from alerting.actors import Role
from alerting.api.security import create_actor
from alerting.domain.delivery import Channel, Progress
from alerting.domain.lanes import Lane
from alerting.enrolling import enrol
from alerting.persistence import Database, tables
from alerting.sealing import Seal
from consumers.local.trial import authorities_with_sms
from tests.integration.api_client import KEY, NOWHERE_TO_PUBLISH, Town, running, serving, settings_for

WHATSAPP = "whatsapp.calcinaia"


@pytest.fixture
async def town(database_url: str, tmp_path: Path) -> AsyncIterator[Town]:
    async with serving(database_url, NOWHERE_TO_PUBLISH, "t.", tmp_path) as town:
        yield town


async def issued(town: Town) -> tuple[str, int]:
    """An alert, and its dispatch."""
    alert = await town.approved()
    assert (await town.ask("POST", f"/v1/alerts/{alert}/issue")).status == 202
    async with town.database.read() as session:
        of_alert = select(tables.Dispatch.id).where(tables.Dispatch.alert == alert)
        return alert, (await session.scalars(of_alert)).one()


async def spent(town: Town, dispatch: int, texts: int, lane: Lane = Lane.EMERGENCY) -> None:
    price = costs.Price(30_000)
    one = costs.Spent(dispatch, WHATSAPP, "calcinaia", lane, Channel.WHATSAPP, texts, price)
    async with town.database.write() as session:
        await costs.add(session, [one], datetime(2026, 11, 26, 8, tzinfo=UTC))


async def test_a_months_account_names_channel_lane_and_alert(town: Town) -> None:
    (first, of_first), (second, of_second) = await issued(town), await issued(town)
    await spent(town, of_first, 100)
    await spent(town, of_first, 20)
    await spent(town, of_second, 3, Lane.FLASH)
    found = (await town.ask("GET", "/v1/costs?authority=calcinaia&month=2026-11")).body
    assert found["euro"] == 3.69
    assert found["by_channel"] == [{"channel": "whatsapp", "texts": 123, "parts": 123, "euro": 3.69}]
    assert found["by_lane"] == [
        {"lane": "emergency", "texts": 120, "parts": 120, "euro": 3.6},
        {"lane": "flash", "texts": 3, "parts": 3, "euro": 0.09},
    ]
    assert [(line["alert"], line["euro"]) for line in found["by_alert"]] == [(first, 3.6), (second, 0.09)]
    assert (await town.ask("GET", "/v1/costs?month=2026-10")).body["euro"] == 0


@pytest.mark.parametrize(
    ("who", "status"), [("anna", 200), ("bruno", 200), ("carla", 403), ("dpc", 403), ("ezio", 403)]
)
async def test_only_the_staff_of_a_comune_sees_what_it_pays(town: Town, who: str, status: int) -> None:
    assert (await town.ask("GET", "/v1/costs?authority=calcinaia", who)).status == status


async def test_a_month_is_written_as_a_month(town: Town) -> None:
    assert (await town.ask("GET", "/v1/costs?month=2026-13")).status == 422


async def test_an_alert_says_what_it_has_cost_and_who_was_told_elsewhere(town: Town) -> None:
    alert, dispatch = await issued(town)
    before = (await town.ask("GET", f"/v1/alerts/{alert}")).body
    assert (before["costs"], before["fallback"]["followed"]) == ([], {})
    await spent(town, dispatch, 10)
    async with town.database.write() as session:
        for seq, progress in ((1, Progress.DELIVERED), (2, Progress.REFUSED), (3, Progress.ACCEPTED)):
            session.add(tables.Delivery(dispatch_id=dispatch, seq=seq, address_id=seq, progress=progress.value))
        more = {"dispatch_id": dispatch, "due_at": 0.0}
        session.add(
            tables.Fallback(seq=1, because="silent", state="followed", followed_by=3, micro_euro=90_000, **more)
        )
        session.add(tables.Fallback(seq=2, because="refused", state="not_afforded", **more))
    found = (await town.ask("GET", f"/v1/alerts/{alert}")).body
    assert found["costs"] == [{"channel": "whatsapp", "texts": 10, "parts": 10, "euro": 0.3}]
    assert found["fallback"] == {
        "followed": {"silent": 1},
        "not_followed": {"not_afforded": 1},
        "due": 0,
        "told_twice": 1,
        "euro": 0.09,
    }


async def test_an_alert_is_not_complete_while_somebody_is_about_to_be_told_elsewhere(town: Town) -> None:
    alert, dispatch = await issued(town)
    async with town.database.write() as session:
        (await session.get_one(tables.Dispatch, dispatch)).audience = 1
        session.add(tables.Delivery(dispatch_id=dispatch, seq=1, address_id=1, progress=Progress.REFUSED.value))
        session.add(tables.Fallback(dispatch_id=dispatch, seq=1, because="refused", due_at=0.0))
    found = (await town.ask("GET", f"/v1/alerts/{alert}")).body
    assert (found["fallback"]["due"], found["delivery"]["final"], found["delivery"]["complete"]) == (1, 1, False)
    async with town.database.write() as session:
        (await session.get_one(tables.Fallback, (dispatch, 1))).state = "nowhere"
    assert (await town.ask("GET", f"/v1/alerts/{alert}")).body["delivery"]["complete"]


# ── the preview ─────────────────────────────────────────────────────────────────────────────────────


PREVIEWED = {
    "authority": "calcinaia",
    "kind": "interruzione-idrica",
    "headline": "Manca l'acqua",
    "description": "Rottura in via Morandi.",
    "areas": ["fornacette"],
}


@pytest.mark.parametrize("promised", [0, 4_950_000, 6_000_000])
async def test_the_preview_says_what_telling_everybody_again_would_cost_at_most(
    database_url: str, tmp_path: Path, promised: int
) -> None:
    folder = authorities_with_sms(tmp_path / "authorities")
    file = folder / "calcinaia.toml"
    file.write_text(
        file.read_text().replace("per_second = 80\n", "per_second = 80\neuro_per_text = 0.03\n", 1)
        + '[fallback.emergency]\norder = ["whatsapp", "sms"]\neuro_per_month = 5\n'
    )
    settings = settings_for(database_url, NOWHERE_TO_PUBLISH, "t.", tmp_path)
    database, seal = Database(database_url), Seal(bytes.fromhex(KEY))
    async with database.write() as session:
        await enrol(session, authorities.load(folder).values(), seal, share_of_limit=1.0, now=datetime.now(UTC))
        token = await create_actor(
            session, name="anna", role=Role.OPERATOR, authority="calcinaia", now=datetime.now(UTC)
        )
        await promise(session, promised)
    await database.close()
    secrets = tmp_path / "secrets.json"
    secrets.write_text("{}")
    settings = settings.model_copy(update={"authorities_folder": folder})
    headers = {"Authorization": f"Bearer {token}"}
    async with running(settings) as url, ClientSession(headers=headers) as http:
        people = [{"channel": "whatsapp", "address": f"33312000{n:02}", "area": "fornacette"} for n in range(1, 3)]
        async with http.post(f"{url}/v1/recipients/batch", json={"authority": "calcinaia", "items": people}) as answer:
            assert (await answer.json())["created"] == 2
        expires = (datetime.now(UTC) + timedelta(hours=3)).isoformat()
        async with http.post(f"{url}/v1/alerts/preview", json=PREVIEWED | {"expires": expires}) as answer:
            found = await answer.json()
    # Two people at 3 cents, and the public Telegram channel; all three again on WhatsApp and by SMS, or what is left.
    parts = next(one["parts"] for one in found["texts"] if one["form"] == "sms")
    again = min(3 * (0.03 + 0.045 * parts), max(0.0, 5 - promised / 1e6))
    assert found["euro"] == 0.06
    assert found["euro_at_most"] == pytest.approx(0.06 + again, abs=0.006)


async def promise(session: AsyncSession, micro_euro: int) -> None:
    """Earlier in this month so much was promised to a fallback of the emergency lane."""
    now = datetime.now(UTC)
    budget = await costs.hold_budget(session, "calcinaia", Lane.EMERGENCY, costs.month_of(now))
    session.add(tables.Delivery(dispatch_id=99, seq=2, address_id=1, progress=Progress.ACCEPTED.value))
    row = tables.Fallback(dispatch_id=99, seq=1, because="refused", due_at=0.0, state="followed", followed_by=2)
    row.micro_euro, row.budget = micro_euro, budget
    session.add(row)
