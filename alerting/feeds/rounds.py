"""One source asked once: what is new in its answer is handed on, and what failed is left for the next time.

An alert that is gone from a feed is not ended: only its issuer ends it, or its time. Nothing here looks for what is
missing from a feed.
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum

import aiohttp
import structlog

from alerting.domain.rendering import ROME
from alerting.domain.sources import Kind, Polling, Source
from alerting.feeds import dpc
from alerting.feeds.entries import Entry, entries
from alerting.feeds.fetching import Fetched, FetchFailed, Limits, NotModified, Shape, Validators, fetch
from alerting.persistence.tables import Feed

log = structlog.get_logger()

Take = Callable[[Source, bytes, str], Awaitable[None]]
"""What is done with one document: its bytes and its media type. Whatever it raises, the document comes again."""

FOLLOWING = timedelta(minutes=2)
"""How long links are followed in one round; the rest of them are for the next."""
PATIENCE = timedelta(seconds=20)
"""How long one document may take to be taken."""

LINKS_A_ROUND = 100
LINKS_AT_ONCE = 4
REMEMBERED = 2000
"""Entries that are gone from a feed and still known: some feeds show an old one again."""
BULLETINS = 10

REDIRECTS = 3
MEGABYTE = 1_000_000
OF_KIND = {
    # The national archive has 4.6 MB, MeteoAlarm's feed 1.4 MB.
    Kind.CAP: (Shape.XML, 20 * MEGABYTE),
    Kind.BULLETIN: (Shape.ZIP, 32 * MEGABYTE),
    Kind.CONTEXT: (Shape.JSON, 8 * MEGABYTE),
}
SECONDS_A_FEED = 60.0
BYTES_A_LINK = 5 * MEGABYTE
SECONDS_A_LINK = 15.0


class Outcome(StrEnum):
    """What came of asking a source once."""

    CHANGED = "changed"
    UNCHANGED = "unchanged"
    PARTLY = "partly"
    """It answered, and some of what it said could not be fetched or taken: it is asked again for that."""
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Round:
    """What came of asking a source once, and what is to be remembered of it."""

    outcome: Outcome
    trouble: str = ""
    rest: timedelta | None = None
    """How long the source itself asks to be left alone."""
    validators: Validators = field(default_factory=Validators)
    sha256: str = ""
    seen: Mapping[str, int] = field(default_factory=dict)
    """By entry: 0 when it is done, otherwise how often it has failed."""
    more: bool = False
    """There are entries that nobody has tried yet."""


async def ask(source: Source, polling: Polling, client: aiohttp.ClientSession, known: Feed, take: Take) -> Round:
    """One round: what the source says now, compared with what is known of it; what is new goes to `take`."""
    shape, most = OF_KIND[source.kind]
    limits = Limits(shape, most, SECONDS_A_FEED, REDIRECTS, polling.hosts)
    since = Validators(known.etag, known.last_modified)
    try:
        answer = await fetch(client, polling.url, since=since, limits=limits)
    except FetchFailed as failure:
        return Round(Outcome.FAILED, str(failure), failure.rest)
    if isinstance(answer, NotModified):
        return Round(Outcome.UNCHANGED, validators=since, sha256=known.sha256, seen=known.seen)
    sha256 = _sha256(answer.body)
    if sha256 == known.sha256:
        return Round(Outcome.UNCHANGED, validators=answer.validators, sha256=sha256, seen=known.seen)
    parts = await asyncio.to_thread(entries, answer.body, answer.url) if source.kind is Kind.CAP else None
    if parts is not None:
        return await _of_entries(source, polling, client, known, answer, parts, take)
    if trouble := await _taken(take, source, answer.body, answer.media_type):
        return Round(Outcome.PARTLY, trouble, seen=known.seen)
    seen = await asyncio.to_thread(_bulletins, answer.body, known.seen) if source.kind is Kind.BULLETIN else known.seen
    return Round(Outcome.CHANGED, validators=answer.validators, sha256=sha256, seen=seen)


async def _of_entries(
    source: Source,
    polling: Polling,
    client: aiohttp.ClientSession,
    known: Feed,
    answer: Fetched,
    parts: Sequence[Entry],
    take: Take,
) -> Round:
    """The documents of a feed's new entries. Only when all are taken is the feed itself known as seen."""
    seen = dict(known.seen)
    troubles: list[str] = []
    rest = timedelta(0)
    until = asyncio.get_running_loop().time() + FOLLOWING.total_seconds()
    chosen, left = choose(parts, seen)
    for at in range(0, len(chosen), LINKS_AT_ONCE):
        if asyncio.get_running_loop().time() > until:
            left += len(chosen) - at
            break
        some = chosen[at : at + LINKS_AT_ONCE]
        fetched = await asyncio.gather(*(_documents(polling, client, same[0]) for same in some))
        for same, documents in zip(some, fetched, strict=True):
            if isinstance(documents, FetchFailed):
                trouble, rest = str(documents), max(rest, documents.rest or rest)
            else:
                trouble = await _all_taken(take, source, documents)
            troubles += [trouble] if trouble else []
            for entry in same:
                seen[entry.key] = seen.get(entry.key, 0) + 1 if trouble else 0
    remembered = remember(parts, seen)
    if not troubles and not left:
        return Round(Outcome.CHANGED, validators=answer.validators, sha256=_sha256(answer.body), seen=remembered)
    trouble = f"{len(troubles)} of its entries are missing: {troubles[0]}" if troubles else ""
    return Round(Outcome.PARTLY if troubles else Outcome.CHANGED, trouble, rest, seen=remembered, more=left > 0)


async def _documents(
    polling: Polling, client: aiohttp.ClientSession, entry: Entry
) -> Sequence[tuple[bytes, str]] | FetchFailed:
    """The CAP of one entry with its media type, or why there is none."""
    if entry.documents:
        return [(document, "application/cap+xml") for document in entry.documents]
    if not entry.link:
        return FetchFailed("an entry has neither a CAP document nor a link to one")
    limits = Limits(Shape.XML, BYTES_A_LINK, SECONDS_A_LINK, REDIRECTS, polling.hosts)
    try:
        answer = await fetch(client, entry.link, limits=limits)
    except FetchFailed as failure:
        return failure
    # Nothing was said of an earlier answer, so NotModified is none.
    return [(answer.body, answer.media_type)] if isinstance(answer, Fetched) else FetchFailed("nothing was sent")


async def _all_taken(take: Take, source: Source, documents: Sequence[tuple[bytes, str]]) -> str:
    """Empty, or why one of them was not; the others are taken all the same."""
    troubles = [await _taken(take, source, raw, media_type) for raw, media_type in documents]
    return next(filter(None, troubles), "")


async def _taken(take: Take, source: Source, raw: bytes, media_type: str) -> str:
    """Empty, or why it was not."""
    try:
        async with asyncio.timeout(PATIENCE.total_seconds()):
            await take(source, raw, media_type)
    except Exception as error:  # whatever it is, this document is asked for again, and no other is lost
        log.exception("document not taken", source=source.name, sha256=_sha256(raw))
        return f"a document could not be taken: {type(error).__name__}"
    return ""


def _bulletins(archive: bytes, seen: Mapping[str, int]) -> dict[str, int]:
    """The last bulletins that could be read, by when they were issued: `20260118_1515`, in Italy."""
    try:
        issued = {f"{dpc.read_archive(archive).issued.astimezone(ROME):%Y%m%d_%H%M}"}
    except dpc.BulletinUnreadable:  # whoever took it says why: here it only counts as not come
        issued = set()
    return dict.fromkeys(sorted({*seen, *issued})[-BULLETINS:], 0)


def _sha256(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()


def choose(parts: Sequence[Entry], seen: Mapping[str, int]) -> tuple[list[list[Entry]], int]:
    """The entries to work at in this round, and how many are left for the next.

    Those of one link together, which is then asked once. Who has failed before stands behind who has not, or a hundred
    dead links would hide all that is new; of what is new the latest are chosen, and the earliest of these come first.
    """
    by_link: dict[str, list[Entry]] = {}
    for entry in parts:
        if seen.get(entry.key, 1):
            by_link.setdefault(entry.link or entry.key, []).append(entry)
    fresh = [same for same in by_link.values() if same[0].key not in seen]
    failed = sorted((same for same in by_link.values() if same[0].key in seen), key=lambda same: seen[same[0].key])
    latest = sorted(fresh, key=lambda same: same[0].updated, reverse=True)
    chosen = sorted(latest[:LINKS_A_ROUND], key=lambda same: same[0].updated)
    chosen += failed[: LINKS_A_ROUND - len(chosen)]
    return chosen, max(0, len(latest) - LINKS_A_ROUND)


def remember(parts: Sequence[Entry], seen: Mapping[str, int]) -> dict[str, int]:
    """What is known of a feed's entries: all that are in it, and of those that are gone the last ones."""
    here = {entry.key for entry in parts}
    gone = [key for key in seen if key not in here][-REMEMBERED:]
    return {key: seen[key] for key in (*gone, *(key for key in seen if key in here))}
