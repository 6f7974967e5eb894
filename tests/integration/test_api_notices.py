"""Whether the staff were told, for whoever looks at the console."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from alerting import noticing
from alerting.domain.notices import Answer, Matter, Staff, Trouble
from alerting.persistence import Database
from tests.integration.api_client import NOWHERE_TO_PUBLISH, Town, serving

NOW = datetime.now(UTC)
STAFF = [
    Staff("sala", frozenset(Matter), None, "calcinaia"),
    Staff("sala", frozenset(Matter), None, "bientina"),
    Staff("sistemisti", frozenset(Matter)),
]
HALT = Trouble("account whatsapp.calcinaia", Matter.HALTS, "calcinaia", "È fermo.", "Invia di nuovo.", urgent=True)
NEIGHBOURS = Trouble("account whatsapp.bientina", Matter.HALTS, "bientina", "È fermo.", "Invia di nuovo.")
SILENCE = Trouble("source dpc-criticita", Matter.FEEDS, None, "Non risponde.", "Risponde.")


@pytest.fixture
async def town(database_url: str, tmp_path: Path) -> AsyncIterator[Town]:
    async with serving(database_url, NOWHERE_TO_PUBLISH, "", tmp_path) as town:
        yield town


async def noted(database: Database, *found: Trouble, now: datetime = NOW) -> None:
    async with database.write() as session:
        await noticing.take_note(session, found, STAFF, now)


async def told(database: Database, answer: Answer, *accounts: str, now: datetime = NOW) -> None:
    async with database.write() as session:
        for claim in await noticing.claim(session, accounts, now, timedelta(minutes=1)):
            await noticing.record(session, claim, answer, now)


async def test_a_notice_says_whom_it_was_told_and_how_that_went(town: Town) -> None:
    await noted(town.database, HALT)
    await told(town.database, Answer.SENT, "staff.calcinaia.sala")
    await told(town.database, Answer.FAILED, "staff.sistemisti")
    (notice,) = (await town.ask("GET", "/v1/notices", "carla")).body["items"]
    told_to = notice.pop("told")
    assert (notice["matter"], notice["about"], notice["authority"], notice["urgent"], notice["over_at"]) == (
        "halts",
        "account whatsapp.calcinaia",
        "calcinaia",
        True,
        None,
    )
    assert [(one["staff"], one["said"], one["attempts"], one["last"], one["ended"]) for one in told_to] == [
        ("staff.calcinaia.sala", "began", 1, "sent", "sent"),
        ("staff.sistemisti", "began", 1, "failed", None),
    ]


async def test_what_is_over_is_shown_unless_only_what_is_open_is_asked_for(town: Town) -> None:
    await noted(town.database, HALT, SILENCE)
    await told(town.database, Answer.SENT, "staff.calcinaia.sala")
    await noted(town.database, HALT, now=NOW + timedelta(minutes=2))
    seen = (await town.ask("GET", "/v1/notices?open=true")).body["items"]
    assert [one["about"] for one in seen] == ["account whatsapp.calcinaia"]
    newest, _ = (await town.ask("GET", "/v1/notices")).body["items"]
    assert newest["over_at"] is not None
    assert [(one["staff"], one["said"]) for one in newest["told"]] == [
        ("staff.calcinaia.sala", "began"),
        ("staff.calcinaia.sala", "over"),
        ("staff.sistemisti", "began"),
    ]


async def test_a_comune_sees_its_own_and_everybodys_and_not_the_staff_of_another(town: Town) -> None:
    await noted(town.database, HALT, NEIGHBOURS, SILENCE)
    seen = {
        who: {
            one["about"]: [telling["staff"] for telling in one["told"]]
            for one in (await town.ask("GET", "/v1/notices", who)).body["items"]
        }
        for who in ("anna", "ezio", "admin")
    }
    system, ours, theirs = "staff.sistemisti", "staff.calcinaia.sala", "staff.bientina.sala"
    assert seen == {
        "anna": {SILENCE.about: [ours, system], HALT.about: [ours, system]},
        "ezio": {SILENCE.about: [theirs, system], NEIGHBOURS.about: [theirs, system]},
        "admin": {
            SILENCE.about: [theirs, ours, system],
            NEIGHBOURS.about: [theirs, system],
            HALT.about: [ours, system],
        },
    }


async def test_notices_come_page_by_page(town: Town) -> None:
    await noted(town.database, HALT, SILENCE)
    first = (await town.ask("GET", "/v1/notices?limit=1")).body
    then = (await town.ask("GET", f"/v1/notices?limit=1&cursor={first['next_cursor']}")).body
    assert [one["about"] for one in (*first["items"], *then["items"])] == [SILENCE.about, HALT.about]
    assert then["next_cursor"] is None


@pytest.mark.parametrize(("who", "status"), [(None, 401), ("dpc", 403)])
async def test_notices_are_the_staffs(town: Town, who: str | None, status: int) -> None:
    assert (await town.ask("GET", "/v1/notices", who)).status == status
