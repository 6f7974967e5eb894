"""A provider that will not serve us is left alone by everybody at once, probed now and then, and loses nobody."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from itertools import count
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import REGISTRY

from alerting import batching
from alerting.domain import delivery
from alerting.domain.delivery import MAX_ATTEMPTS, Decision, Done, Progress
from alerting.domain.lanes import Lane
from alerting.persistence import Database, ledger, tables
from consumers import deliver, pacing
from consumers.channel import Text
from consumers.line import LOOK_ANYWAY, PROBE_SPOILS, Errand, Held, Line
from consumers.pacing import Denied, Lease, Pacer
from tests.integration.engine import (
    COMUNE,
    EVACUATE,
    ONE_KIND,
    TOKEN,
    WHATSAPP,
    Start,
    Town,
    meta,
    texts,
    told,
    until,
)

PERIOD = 0.5  # seconds between probes, where a test must see several of them


@pytest.fixture
def quick_probes(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(pacing, "PROBE_EVERY", PERIOD)
    monkeypatch.setattr(deliver, "PROBE_EVERY", PERIOD)
    pacing._lease_statement.cache_clear()  # the period stands in the statements
    yield
    pacing._lease_statement.cache_clear()


@pytest.fixture
async def pacers(town: Town) -> AsyncIterator[list[Pacer]]:
    """As many processes, each with connections of its own."""
    others = [Database(town.database.url) for _ in range(3)]
    yield [Pacer(database) for database in (town.database, *others)]
    for other in others:
        await other.close()


async def breaker(town: Town, account: str = WHATSAPP) -> tables.ProviderRate:
    async with town.database.read() as session:
        return await session.get_one(tables.ProviderRate, account)


async def is_halted(town: Town) -> bool:
    return (await breaker(town)).halted_at > 0


async def is_open_again(town: Town) -> bool:
    return not await is_halted(town)


async def a_period_passes(town: Town) -> None:
    """As if it were later by the time between two probes."""
    await town.run(
        "UPDATE provider_rates SET probe_at = probe_at - :p, tat = tat - :p, wanted_by_flash = wanted_by_flash - :p,"
        " wanted_by_emergency = wanted_by_emergency - :p, wanted_by_reply = wanted_by_reply - :p",
        p=pacing.PROBE_EVERY,
    )


# ── the row that all processes share ────────────────────────────────────────────────────────────────


async def test_one_process_meets_a_halt_and_every_other_is_denied_at_its_next_lease(
    town: Town, pacers: list[Pacer]
) -> None:
    met, *others = pacers
    await met.halt(WHATSAPP, "190, the access token has expired or was revoked; issue a new one")
    for pacer in (met, *others):
        for lane in Lane:
            answer = await pacer.lease(WHATSAPP, lane, slots=5, want=500)
            assert isinstance(answer, Denied)
            assert answer.halted
            assert 0 < answer.wait <= pacing.PROBE_EVERY


async def test_another_number_does_not_hear_of_it(town: Town, pacers: list[Pacer]) -> None:
    await pacers[0].halt(WHATSAPP, "190")
    lease = await pacers[1].lease("whatsapp.fucecchio", Lane.ROUTINE, slots=5, want=5)
    assert isinstance(lease, Lease)
    assert not lease.probes


async def test_of_forty_who_ask_at_once_one_may_probe_in_each_of_three_periods(town: Town, pacers: list[Pacer]) -> None:
    await pacers[0].halt(WHATSAPP, "190")
    for _ in range(3):
        await a_period_passes(town)
        asking = (pacer.lease(WHATSAPP, lane, slots=5, want=500) for pacer in pacers for lane in Lane for _ in "123")
        answers = await asyncio.gather(*asking)
        leases = [answer for answer in answers if isinstance(answer, Lease)]
        assert len(leases) == 1
        assert leases[0].probes
        assert len(leases[0].slots) == 1, "however many were asked for"
        assert all(answer.halted for answer in answers if isinstance(answer, Denied))


@ONE_KIND
async def test_whoever_asks_and_however_often_probes_are_a_period_apart(
    town: Town, quick_probes: None, pacers: list[Pacer]
) -> None:
    await pacers[0].halt(WHATSAPP, "190")
    began = time.monotonic()
    granted: list[float] = []

    async def ask(pacer: Pacer, lane: Lane) -> None:
        while time.monotonic() < began + 3.5 * PERIOD:
            if isinstance(await pacer.lease(WHATSAPP, lane, slots=5, want=50), Lease):
                granted.append(time.monotonic())
            await asyncio.sleep(0.01)

    await asyncio.gather(*(ask(pacer, lane) for pacer in pacers for lane in (Lane.FLASH, Lane.ROUTINE)))
    granted.sort()
    assert 2 <= len(granted) <= 3
    gaps = [later - earlier for earlier, later in zip([began, *granted], granted, strict=False)]
    assert min(gaps) >= PERIOD - 0.1  # our clock reads a round trip late


async def test_a_halt_that_is_met_again_is_the_same_halt(town: Town, pacers: list[Pacer]) -> None:
    await pacers[0].halt(WHATSAPP, "190")
    first = await breaker(town)
    await asyncio.sleep(0.05)
    await pacers[1].halt(WHATSAPP, "190, still")
    second = await breaker(town)
    assert second.halted_at == first.halted_at, "the fallback's patience counts from the beginning"
    assert second.probe_at >= first.probe_at


async def test_a_failed_probe_puts_the_next_one_off_by_a_whole_period(town: Town, pacers: list[Pacer]) -> None:
    await pacers[0].halt(WHATSAPP, "190")
    await a_period_passes(town)
    assert isinstance(await pacers[1].lease(WHATSAPP, Lane.FLASH, slots=5, want=5), Lease)
    await pacers[1].halt(WHATSAPP, "190")
    denied = await pacers[2].lease(WHATSAPP, Lane.FLASH, slots=5, want=5)
    assert isinstance(denied, Denied)
    assert denied.wait > 0.8 * pacing.PROBE_EVERY


async def test_an_accepted_probe_opens_it_for_all(town: Town, pacers: list[Pacer]) -> None:
    await pacers[0].halt(WHATSAPP, "190")
    await pacers[1].open_again(WHATSAPP)
    for pacer in pacers:
        lease = await pacer.lease(WHATSAPP, Lane.FLASH, slots=2, want=2)
        assert isinstance(lease, Lease)
        assert not lease.probes
        assert len(lease.slots) == 2
    row = await breaker(town)
    assert (row.halted_at, row.halted_because, row.probe_at) == (0, None, 0)


async def test_a_cause_of_any_length_is_kept_as_far_as_there_is_room(town: Town, pacers: list[Pacer]) -> None:
    await pacers[0].halt(WHATSAPP, "x" * 5000)
    assert (await breaker(town)).halted_because == "x" * 300


async def test_to_halt_or_to_open_what_nobody_enrolled_does_nothing(town: Town, pacers: list[Pacer]) -> None:
    await pacers[0].halt("whatsapp.nessuno", "190")
    await pacers[0].open_again("whatsapp.nessuno")
    assert await is_open_again(town)


# ── the engine ──────────────────────────────────────────────────────────────────────────────────────


def halts() -> float:
    return REGISTRY.get_sample_value("alerting_channel_halts_total", {"channel": "whatsapp"}) or 0.0


@ONE_KIND
async def test_an_account_without_credentials_is_probed_by_one_process_a_period_and_opens_for_all(
    town: Town, engine: Start, quick_probes: None
) -> None:
    numbers = await town.subscribe(250)
    before = halts()
    async with meta(faults={190: 1.0}) as served, engine(served, workers=3):
        dispatch = await town.issue()
        await until(lambda: is_halted(town))
        await asyncio.sleep(0.5)  # calls under way
        refused = served.simulator.phones.refused
        first = refused.total()
        assert first <= 30, "three processes, each with a few calls under way"
        await asyncio.sleep(6 * PERIOD)
        probes = refused.total() - first
        assert 4 <= probes <= 7
        row = await breaker(town)
        assert "190" in (row.halted_because or "")
        assert TOKEN not in (row.halted_because or "")
        assert halts() > before
        served.simulator.configure({"faults": {}})
        await until(lambda: town.is_over(dispatch), within=60)
        assert told(served) == dict.fromkeys(numbers, 1)
        assert await is_open_again(town)


@ONE_KIND
async def test_a_halt_is_not_counted_with_every_call_and_probe(town: Town, engine: Start, quick_probes: None) -> None:
    await town.subscribe(60)
    before = halts()
    async with meta(faults={190: 1.0}, latency=0.1) as served, engine(served):
        await town.issue()
        await until(lambda: is_halted(town))
        await asyncio.sleep(3 * PERIOD)
        assert served.simulator.phones.refused.total() > 3
    assert 1 <= halts() - before <= 3, "once, and again for what was leased just before"


class Asked(Pacer):
    """Grants a lease only after what happened while it was asked for."""

    def __init__(self) -> None:
        self.asked, self.answers = asyncio.Event(), asyncio.Event()

    async def lease(self, account: str, lane: Lane, *, slots: int, want: int) -> Lease | Denied:
        self.asked.set()
        await self.answers.wait()
        self.answers.clear()
        return Lease((time.monotonic() + 60,), 80.0)


@ONE_KIND
async def test_a_lease_asked_for_before_the_halt_does_not_open_the_line_again(town: Town) -> None:
    pacer = Asked()
    line = Line(WHATSAPP, town.database, pacer, None, None)  # type: ignore[arg-type]
    batch = SimpleNamespace(authority="calcinaia", dispatch=1, batch=SimpleNamespace(first=1, last=100))
    line._held[Lane.FLASH].add(batch)  # type: ignore[arg-type]
    leasing = asyncio.create_task(line._keep_leasing())
    await pacer.asked.wait()
    line.halt()
    pacer.answers.set()
    await asyncio.sleep(0.05)
    leasing.cancel()
    await asyncio.gather(leasing, return_exceptions=True)
    assert (line.halted, list(line._slots)) == (True, [])


class Scripted(Pacer):
    """Says that the breaker is open, and then grants one probe, between two looks of whoever claims."""

    WAIT = 2.5 * LOOK_ANYWAY

    def __init__(self) -> None:
        self.asked = 0

    async def lease(self, account: str, lane: Lane, *, slots: int, want: int) -> Lease | Denied:
        self.asked += 1
        if self.asked == 2:
            return Lease((time.monotonic() - pacing.LOOKS_BACK,), 80.0, probes=True)
        return Denied(self.WAIT, halted=True)


class Noted:
    """What a line reports, kept."""

    def __init__(self) -> None:
        self.given_back: list[Errand] = []

    def record(self, errand: Errand, decision: Decision) -> None: ...

    def give_back(self, errand: Errand) -> None:
        self.given_back.append(errand)

    def spent(self, held: Held) -> None: ...


async def in_hand(town: Town) -> Held:
    """A batch of three people, as a worker holds it."""
    [row] = await town.batches(await town.issued_and_fanned_out(3))
    now = datetime.now(UTC)
    account = SimpleNamespace(authority=COMUNE, portfolio=None)
    batch = batching.ready(row, now + timedelta(hours=1))
    return Held(None, batch, account, Text(EVACUATE), now, time.monotonic())  # type: ignore[arg-type]


@ONE_KIND
async def test_a_probe_is_spent_even_where_nobody_is_claimed_when_its_slot_comes(town: Town) -> None:
    asked: asyncio.Queue[Errand] = asyncio.Queue()

    async def tell(errand: Errand) -> Decision:
        asked.put_nowait(errand)
        return Done(Progress.ACCEPTED, provider_id="wamid.HBgM")

    line = Line(WHATSAPP, town.database, Scripted(), tell, Noted())
    line.halt()
    line.take(await in_hand(town))
    line.start()
    try:
        probed = await asyncio.wait_for(asked.get(), Scripted.WAIT + PROBE_SPOILS / 2)
        assert probed.claimed.attempt == 1
        await asyncio.sleep(2 * LOOK_ANYWAY)
        assert asked.empty(), "one probe, one person"
    finally:
        await line.stop()


@ONE_KIND
async def test_whoever_was_being_claimed_as_the_breaker_opened_is_given_back_at_once(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fallback waits for whoever is claimed."""
    noted = Noted()
    line = Line(WHATSAPP, town.database, Asked(), None, noted)  # type: ignore[arg-type]
    held = await in_hand(town)
    line.take(held)
    claim = ledger.claim

    async def overtaken(*asked: Any, **how: Any) -> list[ledger.Claimed]:
        claimed = await claim(*asked, **how)
        line.halt()
        return claimed

    monkeypatch.setattr(ledger, "claim", overtaken)
    await line._claim(held)
    assert noted.given_back, "nobody was claimed"
    assert not any(line._ready.values())
    assert held.unrecorded == len(noted.given_back)


@ONE_KIND
async def test_a_provider_that_fails_everybody_is_asked_thirty_times_and_recovers_by_itself(
    town: Town, engine: Start, quick_probes: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "FIRST_WAIT", timedelta(seconds=0.5))
    numbers = await town.subscribe(200)
    async with meta(faults={503: 1.0}) as served, engine(served, workers=2):
        dispatch = await town.issue()
        await until(lambda: is_halted(town))
        await asyncio.sleep(0.3)
        assert served.simulator.phones.refused.total() <= 2 * 30 + 20, "twice thirty, and what was under way"
        assert "fails" in ((await breaker(town)).halted_because or "")
        served.simulator.configure({"faults": {}})
        await until(lambda: town.is_over(dispatch), within=60)
        assert await town.summary(dispatch) == {Progress.ACCEPTED: 200}
        assert told(served) == dict.fromkeys(numbers, 1)


async def after_an_hours_outage(town: Town, people: int) -> int:
    """An alert whose people were all probed eleven times while the breaker was open, as it still is."""
    await town.subscribe(people)
    dispatch = await town.issue()
    await town.fan_out(dispatch)
    await town.run("UPDATE deliveries SET progress = 2, attempts = 11, reason = 'provider_unavailable'")
    await Pacer(town.database).halt(WHATSAPP, "nearly every call fails")
    return dispatch


@ONE_KIND
async def test_a_provider_that_is_away_for_hours_costs_nobody_the_alert(
    town: Town, engine: Start, quick_probes: None
) -> None:
    """Whoever is tried in everybody's stead, probe after probe, must not run out of attempts for it."""
    dispatch = await after_an_hours_outage(town, 3)
    async with meta(faults={131000: 1.0}) as served, engine(served):
        await until(lambda: served.simulator.phones.refused.total() >= 3)

        async def all_recorded() -> bool:
            return Progress.SENDING not in await town.summary(dispatch)

        await until(all_recorded)
        assert await town.summary(dispatch) == {Progress.DEFERRED: 3}
        assert max(row.attempts for row in await town.deliveries(dispatch)) >= MAX_ATTEMPTS


@ONE_KIND
async def test_whoever_probed_a_long_outage_is_told_soon_after_it(
    town: Town, engine: Start, quick_probes: None
) -> None:
    dispatch = await after_an_hours_outage(town, 2)
    async with meta(faults={503: 1.0}) as served, engine(served):
        await until(lambda: served.simulator.phones.refused.total() >= 2)
        served.simulator.configure({"faults": {}})
        await until(lambda: town.is_over(dispatch), within=8)
        assert await town.summary(dispatch) == {Progress.ACCEPTED: 2}


@ONE_KIND
async def test_throttling_slows_down_and_never_halts(town: Town, engine: Start) -> None:
    numbers = await town.subscribe(30)
    async with meta(faults={130429: 1.0}) as served, engine(served, workers=2):
        dispatch = await town.issue()
        deadline = time.monotonic() + 2
        while time.monotonic() < deadline:
            assert await is_open_again(town)
            await asyncio.sleep(0.1)
        assert served.simulator.phones.refused.total() > 0
        served.simulator.configure({"faults": {}})
        await until(lambda: town.is_over(dispatch), within=60)
        assert told(served) == dict.fromkeys(numbers, 1)
        assert await is_open_again(town)


@ONE_KIND
@pytest.mark.parametrize(("ending", "code"), [("404", 131026), (None, 130472)])
async def test_a_whole_town_that_cannot_be_reached_here_never_halts(
    town: Town, engine: Start, ending: str | None, code: int
) -> None:
    if ending:
        town.numbers = iter(number * 1000 + int(ending) for number in count(1))
    await town.subscribe(60)
    async with meta(faults={} if ending else {code: 1.0}) as served, engine(served):
        dispatch = await town.issue()
        await until(lambda: town.is_over(dispatch), within=60)
        assert await town.summary(dispatch) == {Progress.REFUSED: 60}
        assert await is_open_again(town)


@ONE_KIND
async def test_the_most_urgent_text_is_the_probe(town: Town, engine: Start, quick_probes: None) -> None:
    await town.subscribe(40)
    async with meta(faults={190: 1.0}) as served, engine(served):
        routine = await town.issue(urgent=False)
        await until(lambda: is_halted(town))
        emergency = await town.issue()
        await asyncio.sleep(2 * PERIOD)
        served.simulator.configure({"faults": {}})
        await until(lambda: town.is_over(emergency), within=60)
        await until(lambda: town.is_over(routine), within=60)
        order = [text["reference"].partition(".")[0] for text in texts(served)]
        assert order[0] == str(emergency)
        last = len(order) - 1 - order[::-1].index(str(emergency))
        assert order[:last].count(str(routine)) <= 16


@ONE_KIND
async def test_a_process_that_begins_while_it_is_open_asks_nobody_but_as_a_probe(
    town: Town, engine: Start, quick_probes: None
) -> None:
    numbers = await town.subscribe(40)
    dispatch = await town.issue()
    await Pacer(town.database).halt(WHATSAPP, "190")
    async with meta(faults={190: 1.0}) as served, engine(served, workers=2):
        await asyncio.sleep(5 * PERIOD)
        assert 1 <= served.simulator.phones.refused.total() <= 6
        served.simulator.configure({"faults": {}})
        await until(lambda: town.is_over(dispatch), within=60)
        assert told(served) == dict.fromkeys(numbers, 1)
