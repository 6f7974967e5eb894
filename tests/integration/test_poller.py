"""Sources asked on real sockets, with what is known of them in a real database: nothing twice, nothing lost."""

import asyncio
import zipfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path

import pytest
from aiohttp import web
from prometheus_client import REGISTRY
from sqlalchemy import update

from alerting.domain.sources import Kind, Nearness, OnError, OnWarning, Polling, Signature, Source
from alerting.feeds.fetching import session
from alerting.feeds.poller import CLAIM, LATEST, SOONEST, Poller, rest_after
from alerting.feeds.rounds import LINKS_A_ROUND, REMEMBERED, Outcome, Round
from alerting.persistence import Database
from alerting.persistence.tables import Feed

DATA = Path(__file__).parents[2].parent / "shared/data"
CAP = '<alert xmlns="urn:oasis:names:tc:emergency:cap:1.2"><identifier>{}</identifier></alert>'


def cap(identifier: str) -> bytes:
    return CAP.format(identifier).encode()


def identifier(raw: bytes) -> str:
    return raw.decode(errors="replace").partition("<identifier>")[2].partition("</identifier>")[0]


def atom(*entries: tuple[str, str, str]) -> bytes:
    """A feed of (id, updated, link)."""
    written = "".join(
        f'<entry><id>{name}</id><updated>{updated}</updated><link type="application/cap+xml" href="{link}"/></entry>'
        for name, updated, link in entries
    )
    return f'<feed xmlns="http://www.w3.org/2005/Atom">{written}</feed>'.encode()


@dataclass
class Site:
    """A source's web site: pages by path, and what was asked of it. A page may be a body, a status or a handler."""

    pages: dict[str, bytes | int | Callable[[], Awaitable[web.StreamResponse]]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    url: str = ""
    news: asyncio.Event = field(default_factory=asyncio.Event)

    async def until_asked(self, times: int) -> None:
        async with asyncio.timeout(60):
            while len(self.asked) < times:
                self.news.clear()
                await self.news.wait()

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        self.asked.append(request.path)
        self.news.set()
        match self.pages.get(request.path, 404):
            case bytes(body):
                if self.headers.get("ETag") and request.headers.get("If-None-Match") == self.headers["ETag"]:
                    return web.Response(status=304)
                return web.Response(body=body, headers={"Content-Type": "application/xml"} | self.headers)
            case int(status):
                return web.Response(status=status, headers=self.headers)
            case page:
                return await page()


@asynccontextmanager
async def a_site() -> AsyncIterator[Site]:
    site = Site()
    runner = web.ServerRunner(web.Server(site.answer), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    site.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield site
    await runner.cleanup()


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    async with a_site() as site:
        yield site


def a_source(site: Site, *, name: str = "regione-toscana", kind: Kind = Kind.CAP, every: float = 120) -> Source:
    """Asked of the site at /feed; `every` in seconds."""
    return Source(
        name=name,
        title="Regione Toscana",
        kind=kind,
        nearness=Nearness.REGIONAL,
        enabled=True,
        senders=("allerta@regione.toscana.it",),
        territory=None,
        zones=("Tosc-*",),
        comuni=(),
        tolerance_m=500,
        longest=timedelta(hours=72),
        language="it-IT",
        certificates=(),
        signature=Signature.IF_PRESENT,
        on_error=OnError.QUARANTINE,
        on_warning=OnWarning.ACCEPT,
        amqp_user="",
        polling=Polling(f"{site.url}/feed", timedelta(seconds=every), frozenset({"127.0.0.1"}), private=True),
        licence="",
        disclaimer="",
        file_hash="",
    )


@dataclass
class Desk:
    """Where documents and alarms arrive. Whatever is in `refused` is not taken."""

    taken: list[bytes] = field(default_factory=list)
    types: list[str] = field(default_factory=list)
    refused: set[str] = field(default_factory=set)
    alarms: list[str | None] = field(default_factory=list)
    deaf: bool = False

    async def take(self, source: Source, raw: bytes, media_type: str) -> None:
        if identifier(raw) in self.refused:
            raise ValueError("nobody can take this one")
        self.taken.append(raw)
        self.types.append(media_type)

    async def alarm(self, source: Source, sentence: str | None) -> None:
        if self.deaf:
            raise OSError("nobody to call")
        self.alarms.append(sentence)

    @property
    def identifiers(self) -> list[str]:
        return [identifier(raw) for raw in self.taken]


@pytest.fixture
def desk() -> Desk:
    return Desk()


async def one_round(database: Database, source: Source, desk: Desk) -> Feed:
    """It is time now, whatever the row says. Returns the row afterwards."""
    async with database.write() as writing:
        await writing.execute(update(Feed).values(next_at=0))
    await when_due(database, source, desk)
    return await the_row(database, source)


async def when_due(database: Database, source: Source, desk: Desk) -> timedelta:
    assert source.polling
    async with session(private=True) as client:
        return await Poller(database, [source], desk.take, desk.alarm).ask_if_due(source, source.polling, client)


async def the_row(database: Database, source: Source) -> Feed:
    async with database.read() as reading:
        return await reading.get_one(Feed, source.name)


# ── one document ────────────────────────────────────────────────────────────────────────────────────


async def test_a_document_is_taken_once_until_it_changes(database: Database, site: Site, desk: Desk) -> None:
    source = a_source(site)
    site.pages["/feed"] = cap("allerta-1")
    first = await one_round(database, source, desk)
    again = await one_round(database, source, desk)
    assert desk.identifiers == ["allerta-1"]
    assert first.changed_at == again.changed_at
    assert first.answered_at and again.answered_at and first.answered_at < again.answered_at
    site.pages["/feed"] = cap("allerta-2")
    await one_round(database, source, desk)
    assert desk.identifiers == ["allerta-1", "allerta-2"]
    assert len(site.asked) == 3


async def test_a_server_that_remembers_is_not_made_to_send_it_again(database: Database, site: Site, desk: Desk) -> None:
    source = a_source(site)
    site.pages["/feed"], site.headers["ETag"] = cap("allerta-1"), '"uno"'
    assert (await one_round(database, source, desk)).etag == '"uno"'
    row = await one_round(database, source, desk)
    assert (row.etag, row.failures, desk.identifiers) == ('"uno"', 0, ["allerta-1"])


async def test_nobody_asks_before_it_is_time(database: Database, site: Site, desk: Desk) -> None:
    source = a_source(site)
    site.pages["/feed"] = cap("allerta-1")
    await when_due(database, source, desk)
    await when_due(database, source, desk)
    assert site.asked == ["/feed"]


async def test_of_many_processes_one_asks(database: Database, site: Site, desk: Desk) -> None:
    source = a_source(site)

    async def slowly() -> web.StreamResponse:
        await asyncio.sleep(0.3)
        return web.Response(body=cap("allerta-1"), content_type="application/cap+xml")

    site.pages["/feed"] = slowly
    await asyncio.gather(*(when_due(database, source, desk) for _ in range(5)))
    assert site.asked == ["/feed"]
    assert desk.identifiers == ["allerta-1"]


async def test_a_document_that_could_not_be_taken_comes_again(database: Database, site: Site, desk: Desk) -> None:
    source = a_source(site)
    site.pages["/feed"], site.headers["ETag"] = cap("allerta-1"), '"uno"'
    desk.refused = {"allerta-1"}
    row = await one_round(database, source, desk)
    assert (row.failures, row.etag, row.sha256) == (1, "", "")
    assert row.trouble == "a document could not be taken: ValueError"
    desk.refused = set()
    row = await one_round(database, source, desk)
    assert (desk.identifiers, row.failures, row.trouble) == (["allerta-1"], 0, "")


async def test_what_is_no_feed_and_no_cap_is_taken_as_it_is(database: Database, site: Site, desk: Desk) -> None:
    site.pages["/feed"] = b"<alert><unfinished>"
    await one_round(database, a_source(site), desk)
    assert desk.taken == [b"<alert><unfinished>"]


# ── feeds ───────────────────────────────────────────────────────────────────────────────────────────


async def test_the_links_of_a_feed_are_followed_once_the_earliest_first(
    database: Database, site: Site, desk: Desk
) -> None:
    source = a_source(site)
    site.pages |= {f"/{name}": cap(name) for name in ("uno", "due", "tre")}
    newest_first = [("due", "2026-11-21T10:00:00Z", "due"), ("uno", "2026-11-21T09:00:00+01:00", "/uno")]
    site.pages["/feed"] = atom(*newest_first)
    await one_round(database, source, desk)
    assert desk.identifiers == ["uno", "due"]
    site.pages["/feed"] = atom(("tre", "2026-11-21T11:00:00Z", f"{site.url}/tre"), *newest_first)
    await one_round(database, source, desk)
    await one_round(database, source, desk)
    assert desk.identifiers == ["uno", "due", "tre"]
    assert site.asked.count("/uno") == 1


async def test_an_entry_that_is_updated_is_fetched_again(database: Database, site: Site, desk: Desk) -> None:
    source = a_source(site)
    site.pages["/uno"] = cap("prima")
    site.pages["/feed"] = atom(("uno", "2026-11-21T09:00:00Z", "/uno"))
    await one_round(database, source, desk)
    site.pages["/uno"] = cap("seconda")
    site.pages["/feed"] = atom(("uno", "2026-11-21T09:30:00Z", "/uno"))
    await one_round(database, source, desk)
    assert desk.identifiers == ["prima", "seconda"]


async def test_what_is_linked_many_times_is_fetched_once(database: Database, site: Site, desk: Desk) -> None:
    """As MeteoAlarm does: an entry for each info, area and geocode of one alert."""
    site.pages["/uno"] = cap("uno")
    ids = [f"uno?index_info={i}&amp;index_area={j}" for i in range(2) for j in range(3)]
    site.pages["/feed"] = atom(*((name, "2026-11-21T09:00:00Z", "/uno") for name in ids))
    row = await one_round(database, a_source(site), desk)
    assert (desk.identifiers, site.asked) == (["uno"], ["/feed", "/uno"])
    assert list(row.seen.values()) == [0] * 6


async def test_cap_inside_a_feed_is_taken_out(database: Database, site: Site, desk: Desk) -> None:
    inside = CAP.format("dentro")
    escaped = ("<?xml version='1.0' encoding='ISO-8859-1'?>" + CAP.format("nascosto")).replace("<", "&lt;")
    site.pages["/feed"] = f"""<rss version="2.0"><channel><title>Allerte</title>
        <item><guid>1</guid><pubDate>Sat, 21 Nov 2026 09:00:00 +0100</pubDate>{inside}</item>
        <item><guid>2</guid><pubDate>Sat, 21 Nov 2026 09:10:00 +0100</pubDate>
              <description>{escaped}</description></item>
        <item><guid>3</guid><pubDate>Sat, 21 Nov 2026 09:20:00 +0100</pubDate><link>/tre</link></item>
        <item><guid>4</guid><pubDate>Sat, 21 Nov 2026 09:30:00 +0100</pubDate><link>/pagina</link>
              <enclosure type="application/cap+xml" url="/quattro" length="1"/></item>
        </channel></rss>""".encode()
    site.pages |= {"/tre": cap("tre"), "/quattro": cap("quattro")}
    await one_round(database, a_source(site), desk)
    assert desk.identifiers == ["dentro", "nascosto", "tre", "quattro"]


async def test_one_document_that_cannot_be_taken_costs_no_other_and_comes_again(
    database: Database, site: Site, desk: Desk
) -> None:
    source = a_source(site)
    names = ["uno", "due", "tre"]
    site.pages |= {f"/{name}": cap(name) for name in names}
    site.pages["/feed"] = atom(*((name, f"2026-11-21T09:0{at}:00Z", f"/{name}") for at, name in enumerate(names)))
    site.headers["ETag"] = '"uno"'
    desk.refused = {"due"}
    row = await one_round(database, source, desk)
    assert (desk.identifiers, row.etag) == (["uno", "tre"], "")
    assert row.trouble == "1 of its entries are missing: a document could not be taken: ValueError"
    desk.refused = set()
    row = await one_round(database, source, desk)
    assert (desk.identifiers, row.etag, row.trouble) == (["uno", "tre", "due"], '"uno"', "")


async def test_a_link_that_is_dead_or_leads_elsewhere_costs_no_other(
    database: Database, site: Site, desk: Desk
) -> None:
    site.pages |= {"/buono": cap("buono"), "/accedi": b"<!DOCTYPE html><p>Accedi</p>"}
    links = ["/morto", "http://169.254.169.254/meta", "file:///etc/passwd", "/accedi", "", "http://[", "/buono"]
    site.pages["/feed"] = atom(*((str(at), f"2026-11-21T09:0{at}:00Z", link) for at, link in enumerate(links)))
    row = await one_round(database, a_source(site), desk)
    assert desk.identifiers == ["buono"]
    assert row.trouble.startswith("6 of its entries are missing: ")
    assert sorted(row.seen.values()) == [0, 1, 1, 1, 1, 1, 1]


async def test_a_flood_of_entries_is_followed_a_hundred_at_a_time_the_latest_first(
    database: Database, site: Site, desk: Desk
) -> None:
    source = a_source(site)
    names = [f"n{at:03}" for at in range(130)]
    site.pages |= {f"/{name}": cap(name) for name in names}
    site.pages["/feed"] = atom(
        *((name, f"2026-11-21T{9 + at // 60:02}:{at % 60:02}:00Z", name) for at, name in enumerate(names))
    )
    row = await one_round(database, source, desk)
    assert desk.identifiers == names[-LINKS_A_ROUND:]
    assert row.failures == 0 and row.next_at - row.asked_at < SOONEST.total_seconds() + 5
    await one_round(database, source, desk)
    assert desk.identifiers == names[-LINKS_A_ROUND:] + names[:30]


async def test_a_hundred_dead_links_do_not_hide_a_new_one(database: Database, site: Site, desk: Desk) -> None:
    source = a_source(site)
    dead = [(f"morto{at}", "2026-11-21T09:00:00Z", f"/morto{at}") for at in range(LINKS_A_ROUND + 5)]
    site.pages["/feed"] = atom(*dead)
    await one_round(database, source, desk)
    site.pages["/vivo"] = cap("vivo")
    site.pages["/feed"] = atom(*dead, ("vivo", "2026-11-20T09:00:00Z", "/vivo"))
    await one_round(database, source, desk)
    assert desk.identifiers == ["vivo"]


async def test_an_alert_that_is_gone_from_a_feed_is_not_ended_and_not_forgotten(
    database: Database, site: Site, desk: Desk
) -> None:
    source = a_source(site)
    site.pages["/uno"] = cap("uno")
    site.pages["/feed"] = both = atom(("uno", "2026-11-21T09:00:00Z", "/uno"))
    await one_round(database, source, desk)
    site.pages["/feed"] = atom()
    await one_round(database, source, desk)
    site.pages["/feed"] = both
    await one_round(database, source, desk)
    assert desk.identifiers == ["uno"]


async def test_what_is_remembered_is_bounded(database: Database, site: Site, desk: Desk) -> None:
    source = a_source(site)
    site.pages["/feed"] = atom()
    await one_round(database, source, desk)
    async with database.write() as writing:
        await writing.execute(update(Feed).values(seen={f"k{at}": 0 for at in range(REMEMBERED + 500)}, sha256=""))
    row = await one_round(database, source, desk)
    assert len(row.seen) == REMEMBERED and f"k{REMEMBERED + 499}" in row.seen


async def test_a_feed_that_gives_one_id_to_all_loses_none(database: Database, site: Site, desk: Desk) -> None:
    site.pages |= {"/uno": cap("uno"), "/due": cap("due")}
    site.pages["/feed"] = atom(*(("stesso", "2026-11-21T09:00:00Z", link) for link in ("/uno", "/due")))
    await one_round(database, a_source(site), desk)
    assert sorted(desk.identifiers) == ["due", "uno"]


async def test_a_feed_that_is_an_entity_bomb_is_not_unpacked(database: Database, site: Site, desk: Desk) -> None:
    """It is handed on as it is: the reader of CAP says what is wrong with it, and keeps it."""
    bomb = b'<!DOCTYPE feed [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;">]><feed>&b;</feed>'
    site.pages["/feed"] = bomb
    await one_round(database, a_source(site), desk)
    assert desk.taken == [bomb]


# ── trouble ─────────────────────────────────────────────────────────────────────────────────────────


async def test_failures_are_counted_and_what_is_known_is_kept(database: Database, site: Site, desk: Desk) -> None:
    source = a_source(site)
    site.pages["/feed"], site.headers["ETag"] = cap("allerta-1"), '"uno"'
    good = await one_round(database, source, desk)
    site.pages["/feed"] = 500
    await one_round(database, source, desk)
    row = await one_round(database, source, desk)
    assert (row.failures, row.etag, row.answered_at) == (2, '"uno"', good.answered_at)
    assert row.trouble.endswith("/feed answers 500")
    assert 5 < row.next_at - row.asked_at < 40


async def test_a_source_that_asks_to_be_left_alone_is(database: Database, site: Site, desk: Desk) -> None:
    site.pages["/feed"], site.headers["Retry-After"] = 429, "1800"
    row = await one_round(database, a_source(site), desk)
    assert 1800 <= row.next_at - row.asked_at < 2000


async def test_the_claim_of_a_process_that_died_runs_out(database: Database, site: Site, desk: Desk) -> None:
    source = a_source(site)
    site.pages["/feed"] = cap("allerta-1")
    await one_round(database, source, desk)
    long_ago = datetime.now(UTC).timestamp() - CLAIM.total_seconds() - 1
    async with database.write() as writing:
        await writing.execute(
            update(Feed).values(asked_at=long_ago, next_at=long_ago + CLAIM.total_seconds(), sha256="", etag="")
        )
    await when_due(database, source, desk)
    assert desk.identifiers == ["allerta-1", "allerta-1"]


async def test_a_process_that_ends_gives_its_claim_back(database: Database, site: Site, desk: Desk) -> None:
    source = a_source(site)

    async def for_ever() -> web.StreamResponse:
        await asyncio.sleep(60)
        raise AssertionError("nobody waits this long")

    site.pages["/feed"] = for_ever
    asking = asyncio.create_task(when_due(database, source, desk))
    await site.until_asked(1)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    site.pages["/feed"] = cap("allerta-1")
    await when_due(database, source, desk)
    assert desk.identifiers == ["allerta-1"]


async def test_who_is_late_does_not_write_over_who_came_after(database: Database, site: Site, desk: Desk) -> None:
    source = a_source(site)

    async def meanwhile() -> web.StreamResponse:
        async with database.write() as writing:
            await writing.execute(update(Feed).values(asked_at=Feed.asked_at + 300, sha256="of another"))
        return web.Response(body=cap("allerta-1"), content_type="application/cap+xml")

    site.pages["/feed"] = meanwhile
    assert (await one_round(database, source, desk)).sha256 == "of another"


# ── all of them ─────────────────────────────────────────────────────────────────────────────────────


async def test_one_that_hangs_delays_no_other(database: Database, site: Site, desk: Desk) -> None:
    """And one that makes us fail does not either."""

    async def for_ever() -> web.StreamResponse:
        await asyncio.sleep(60)
        raise AssertionError("nobody waits this long")

    async with a_site() as hanging, a_site() as broken:
        hanging.pages["/feed"] = for_ever
        broken.pages["/feed"] = b"<feed xmlns='http://www.w3.org/2005/Atom'><entry/></feed>"
        site.pages["/feed"] = cap("allerta-1")
        sources = [
            a_source(hanging, name="fermo", every=0.2),
            a_source(broken, name="rotto", every=0.2),
            a_source(site, name="buono", every=0.2),
            replace(a_source(site, name="spento"), enabled=False),
            replace(a_source(site, name="spinge"), polling=None),
        ]
        running = asyncio.create_task(Poller(database, sources, desk.take, desk.alarm).run())
        await asyncio.gather(site.until_asked(4), broken.until_asked(2), hanging.until_asked(1))
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert hanging.asked == ["/feed"]
    assert desk.identifiers == ["allerta-1"]
    async with database.read() as reading:
        assert await reading.get(Feed, "spento") is None
        assert await reading.get(Feed, "spinge") is None


# ── silence ─────────────────────────────────────────────────────────────────────────────────────────


def quickly_silent(site: Site) -> Source:
    source = a_source(site)
    assert source.polling
    return replace(source, polling=replace(source.polling, silent_after=timedelta(seconds=0.3)))


async def test_a_silence_is_told_once_and_so_is_its_end(database: Database, site: Site, desk: Desk) -> None:
    source = quickly_silent(site)
    site.pages["/feed"] = cap("allerta-1")
    await one_round(database, source, desk)
    site.pages["/feed"] = 500
    await asyncio.sleep(0.4)
    row = await one_round(database, source, desk)
    await one_round(database, source, desk)
    assert len(desk.alarms) == 1 and (desk.alarms[0] or "").startswith("non risponde dalle ")
    assert row.silent_since is not None
    assert REGISTRY.get_sample_value("alerting_feed_silent", {"source": source.name}) == 1
    site.pages["/feed"] = cap("allerta-1")
    row = await one_round(database, source, desk)
    await one_round(database, source, desk)
    assert desk.alarms[1:] == [None] and row.silent_since is None
    assert REGISTRY.get_sample_value("alerting_feed_silent", {"source": source.name}) == 0


async def test_an_alarm_nobody_heard_is_raised_again(database: Database, site: Site, desk: Desk) -> None:
    source = quickly_silent(site)
    site.pages["/feed"] = cap("allerta-1")
    await one_round(database, source, desk)
    site.pages["/feed"] = 500
    await asyncio.sleep(0.4)
    desk.deaf = True
    assert (await one_round(database, source, desk)).silent_since is None
    desk.deaf = False
    assert (await one_round(database, source, desk)).silent_since is not None
    assert len(desk.alarms) == 1


async def test_a_source_that_never_answered_is_told_too(database: Database, site: Site, desk: Desk) -> None:
    source = a_source(site)
    for _ in range(6):
        await one_round(database, source, desk)
    assert desk.alarms == ["non ha mai risposto in 5 tentativi. Verificare l'indirizzo della fonte."]


async def test_a_bulletin_is_known_by_when_it_was_issued(database: Database, site: Site, desk: Desk) -> None:
    archive = DATA / "dpc/20260118_1515_all.zip"
    if not archive.is_file():
        pytest.skip("the shared data are not here")
    source = a_source(site, kind=Kind.BULLETIN)
    site.pages["/feed"] = archive.read_bytes()
    row = await one_round(database, source, desk)
    assert list(row.seen) == ["20260118_1515"]
    assert desk.taken == [archive.read_bytes()]


async def test_an_archive_nobody_can_read_is_taken_and_is_no_bulletin(
    database: Database, site: Site, desk: Desk
) -> None:
    packed = BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("20260118_1515_today.dbf", b"half")
    site.pages["/feed"] = packed.getvalue()
    row = await one_round(database, a_source(site, kind=Kind.BULLETIN), desk)
    assert (row.seen, desk.taken) == ({}, [packed.getvalue()])


# ── when again ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_a_failing_source_is_asked_later_and_later_and_never_seldom(share: float) -> None:
    failed = Round(Outcome.FAILED)
    waits = [rest_after(failed, failures, timedelta(minutes=5), share) for failures in range(1, 2000)]
    assert SOONEST / 2 <= waits[0] <= SOONEST
    assert waits == sorted(waits)
    assert LATEST / 2 <= waits[-1] <= LATEST


def test_what_is_missing_is_asked_for_soon_and_never_more_seldom_than_the_rest() -> None:
    partly, every = Round(Outcome.PARTLY), timedelta(minutes=1)
    assert rest_after(partly, 1, every, 1.0) == SOONEST
    assert rest_after(partly, 50, every, 0.0) < every
    assert rest_after(Round(Outcome.CHANGED, more=True), 0, every, 0.5) == SOONEST
    assert rest_after(Round(Outcome.UNCHANGED), 0, every, 0.5) == every


def test_a_source_is_never_asked_sooner_than_it_wants() -> None:
    for outcome in Outcome:
        wait = rest_after(Round(outcome, rest=timedelta(minutes=40)), 1, timedelta(minutes=1), 0.0)
        assert wait == timedelta(minutes=40)
