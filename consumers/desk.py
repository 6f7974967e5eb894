"""The desk of two-way comuni: what citizens report and ask for, read apart from everything an alert needs."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, assert_never

import aiohttp
import structlog
from sqlalchemy import select, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from alerting import metrics, ordering, subscribing
from alerting.amqp import Incoming
from alerting.attachments.preparing import prepared
from alerting.desk import appointments, letters, reports
from alerting.desk.handing import heard_of
from alerting.domain import desk as domain
from alerting.domain.appointments import Office, in_words
from alerting.domain.attachments import NotAttachable
from alerting.domain.authority import Authority
from alerting.domain.delivery import Channel
from alerting.domain.desk import Conversation, Desk, Expects, Handing, PhotoState, Said, filled, listed
from alerting.domain.events import CitizenReported
from alerting.persistence import Database, tables
from alerting.sealing import Seal, WrongKey
from alerting.settings import MissingSetting, Settings
from alerting.subscribing import Subscriber
from consumers import politeness
from consumers.deadletters import event_in
from consumers.photographs import NotNow, NotThere, TooLarge, fetch
from consumers.wiring import Accounts
from geo.shapes import Point

log = structlog.get_logger()

LOOK_EVERY = 0.5  # seconds
UNREAD_AFTER = timedelta(minutes=2)
"""After which a text nobody has read is read without RabbitMQ telling of it."""
FORGET_EVERY = 3600.0
AT_ONCE = 100
PHOTOS_AT_ONCE = 4
HOLD = 120.0
"""Seconds for which a picture is ours to fetch."""
TRY_AGAIN = (5.0, 30.0, 120.0, 600.0, 3600.0)
"""Seconds until the next attempt to fetch a picture; after the last it is lost."""
UNREADABLE = frozenset({"voice", "audio", "video", "sticker", "contact", "contacts", "unsupported", "other"})


class Reader:
    """Reads what was handed to desks, one text at a time."""

    def __init__(self, database: Database, authorities: Mapping[str, Authority], seal: Seal) -> None:
        self._database = database
        self._authorities = authorities
        self._seal = seal
        self._hopeless: set[int] = set()
        self._accounts = {
            access.name: (authority.code, access) for authority in authorities.values() for access in authority.channels
        }

    async def take(self, message: Incoming) -> None:
        """One text: what becomes of it and the answer to it in one transaction."""
        event = await event_in(self._database, message, CitizenReported)
        if event is None:
            return
        await self.read(event.inbound, datetime.now(UTC))
        message.ack()

    async def read(self, inbound: int, now: datetime) -> None:
        """A text of the inbox, unless somebody has read it already."""
        async with self._database.write() as session:
            row = await session.get(tables.InboundMessage, inbound, with_for_update=True)
            if row is None or row.for_desk is None:
                return
            how, row.for_desk = row.for_desk, None
            said: dict[str, Any] = json.loads(self._seal.open(row.sealed)) if row.sealed else {}
            row.sealed = None  # what is worth keeping is in the report
            known = self._accounts.get(said.get("account", row.account))
            authority = self._authorities.get(known[0]) if known else None
            if known is None or authority is None or authority.desk is None or not said:
                log.warning("a text for a desk no authority has", account=row.account)
                return
            who = Subscriber(authority, known[1], said["sender"], said.get("also") or "")
            quiet = how is Handing.QUIET
            if not quiet:  # else whoever handed it over has done this
                await ordering.take_turns(session, [who], self._seal)
                await subscribing.heard_from(session, who, self._seal, row.received_at)
                await subscribing.recognise(session, who, self._seal)
                courtesy = await politeness.count(session, who, self._seal, now)
                if politeness.is_nobody(courtesy):
                    metrics.DESK.labels("flood").inc()
                    return
                quiet = not politeness.may_answer(courtesy, authority, "", now)
            await _Talk(session, who, authority.desk, self._seal, now, row.received_at, quiet=quiet).hear(said)

    async def unread(self, now: datetime) -> int:
        """Read what RabbitMQ never told of, or was told and lost. How many."""
        inbox = tables.InboundMessage
        left = select(inbox.id).where(
            inbox.for_desk.is_not(None), inbox.handled_at < now - UNREAD_AFTER, inbox.id.not_in(self._hopeless)
        )
        async with self._database.read() as session:
            found = (await session.scalars(left.order_by(inbox.id).limit(AT_ONCE))).all()
        for number in found:
            try:
                await self.read(number, now)
            except (SQLAlchemyError, OSError):
                raise
            except Exception:  # its message is among the dead letters; the others must not wait for it
                self._hopeless.add(number)
                log.exception("a text for the desk cannot be read", inbound=number)
        return len(found)


class _Talk:
    """One text of somebody, in the transaction in which it is read.

    `at` is when it came: what belongs together is told by that, however long it lay in the queue.
    """

    def __init__(
        self,
        session: AsyncSession,
        who: Subscriber,
        desk: Desk,
        seal: Seal,
        now: datetime,
        at: datetime,
        *,
        quiet: bool,
    ) -> None:
        self._session = session
        self._who = who
        self._desk = desk
        self._seal = seal
        self._now = now
        self._at = at
        self._quiet = quiet

    async def hear(self, said: dict[str, Any]) -> None:
        row = await self._conversation()
        newest, awaited = await reports.latest(self._session, self._who, self._seal)
        belongs = awaited or newest
        conversation = Conversation(
            wrote_at=belongs.wrote_at if belongs else None,
            report=newest.id if newest else None,
            category=belongs.category if belongs else None,
            awaited=awaited.id if awaited else None,
            expects=row.expects,
            choices=len(row.choices),
            asked_at=row.asked_at,
        )
        point = said.get("point")
        media = said.get("media")
        heard = Said(
            text=said.get("text") or "",
            photo=media is not None,
            point=Point(point["lat"], point["lon"]) if point else None,
            unreadable=media is None and not point and said["kind"] in UNREADABLE | {"image", "document", "photo"},
        )
        deed = domain.decide(conversation, heard, self._at, self._desk)
        metrics.DESK.labels(type(deed).__name__.lower()).inc()
        await self._do(row, deed, heard, media)

    async def _conversation(self) -> tables.Conversation:
        """Locked: two texts of one person are read one after the other."""
        fingerprint = self._seal.fingerprint(self._who.address)
        await heard_of(self._session, [(self._who, self._at)], self._seal)
        theirs = (
            tables.Conversation.account == self._who.access.name,
            tables.Conversation.fingerprint == fingerprint,
        )
        return (await self._session.scalars(select(tables.Conversation).where(*theirs).with_for_update())).one()

    async def _do(self, row: tables.Conversation, deed: domain.Deed, said: Said, media: str | None) -> None:
        match deed:
            case domain.File():
                await self._file(row, deed, said, media)
            case domain.OfferSlots(office, more):
                await self._offer(row, office or row.office or "", more=more)
            case domain.AskOffice():
                self._ask(row, Expects.OFFICE, [one.code for one in self._desk.offices])
                await self._say(self._desk.texts.which_office, scelte=self._in_words(row))
            case domain.Book(choice):
                await self._book(row, choice)
            case domain.CancelBooking(choice):
                await self._cancel(row, choice)
            case domain.NoSuchChoice():
                await self._say(self._desk.texts.number, scelte=self._in_words(row))
            case domain.Explain():
                await self._say(self._desk.texts.how)
            case domain.OnlyPhotos():
                await self._say(self._desk.texts.only_photos)
            case _:
                assert_never(deed)

    # ── reports ─────────────────────────────────────────────────────────────────────────────────────

    async def _file(self, row: tables.Conversation, deed: domain.File, said: Said, media: str | None) -> None:
        texts = self._desk.texts
        if deed.report is None:
            report = await reports.open_one(self._session, self._who, deed.category, self._seal, self._at)
        else:
            report = await self._session.get_one(tables.Report, deed.report)
            if deed.category is not None:
                report.category = deed.category
        await reports.add(
            self._session, report, self._who.authority, said.text, said.point, media, self._seal, self._at
        )
        number, category = str(report.id), self._desk.name_of(report.category)
        if deed.asks:
            self._ask(row, Expects.CATEGORY, [one.code for one in self._desk.categories])
            await self._say(texts.which, numero=number, scelte=self._in_words(row))
        elif deed.report is None:
            self._ask(row, Expects.NOTHING, [])
            await self._say(texts.taken, numero=number, categoria=category)
        elif deed.category is not None:
            self._ask(row, Expects.NOTHING, [])
            await self._say(texts.sorted, numero=number, categoria=category)

    # ── appointments ────────────────────────────────────────────────────────────────────────────────

    async def _offer(self, row: tables.Conversation, code: str, *, more: bool = False, gone: bool = False) -> None:
        office, texts = self._desk.office(code), self._desk.texts
        if office is None:  # closed meanwhile by the comune's file
            self._ask(row, Expects.OFFICE, [one.code for one in self._desk.offices])
            return await self._say(texts.which_office, scelte=self._in_words(row))
        for booking in await appointments.coming(self._session, self._who, self._seal, self._now):
            if booking.office == office.code:
                self._ask(row, Expects.NOTHING, [])
                return await self._say_of(texts.already_booked, office, booking.starts_at)
        after = datetime.fromisoformat(row.choices[-1]) if more and row.choices else None
        free = await appointments.offered(self._session, self._who.authority, office, self._now, after)
        if not free:
            self._ask(row, Expects.NOTHING, [])
            return await self._say(texts.no_slots, ufficio=office.name)
        self._ask(row, Expects.SLOT, [at.isoformat() for at in free], office.code)
        await self._say(texts.gone if gone else texts.offer, ufficio=office.name, scelte=self._in_words(row))
        return None

    async def _book(self, row: tables.Conversation, choice: int) -> None:
        office = self._desk.office(row.office)
        if office is None or not 0 < choice <= len(row.choices):
            return await self._offer(row, row.office or "")
        at = datetime.fromisoformat(row.choices[choice - 1])
        booking = await appointments.book(self._session, self._who, office, at, self._seal, self._now)
        if booking is None:
            return await self._offer(row, office.code, gone=True)
        self._ask(row, Expects.NOTHING, [])
        return await self._say_of(self._desk.texts.booked, office, at)

    async def _cancel(self, row: tables.Conversation, choice: int | None) -> None:
        texts = self._desk.texts
        coming = await appointments.coming(self._session, self._who, self._seal, self._now)
        if row.expects is Expects.BOOKING and choice is not None and choice <= len(row.choices):
            chosen = [one for one in coming if one.id == row.choices[choice - 1]]
        elif choice is not None and choice <= len(coming):
            chosen = [coming[choice - 1]]
        else:
            chosen = coming
        if not chosen:
            self._ask(row, Expects.NOTHING, [])
            return await self._say(texts.nothing_booked)
        if len(chosen) > 1:
            self._ask(row, Expects.BOOKING, [one.id for one in chosen])
            names = (self._named(one) for one in chosen)
            return await self._say(texts.which_booking, scelte=listed(names))
        self._ask(row, Expects.NOTHING, [])
        (booking,) = chosen
        await appointments.cancel(self._session, booking, None, self._now)
        office = self._desk.office(booking.office) or _no_more(booking.office)
        return await self._say_of(texts.cancelled, office, booking.starts_at)

    def _named(self, booking: tables.Booking) -> str:
        office = self._desk.office(booking.office) or _no_more(booking.office)
        return f"{office.name}, {in_words(booking.starts_at)}"

    # ── what they read ──────────────────────────────────────────────────────────────────────────────

    def _ask(
        self, row: tables.Conversation, expects: Expects, choices: Sequence[Any], office: str | None = None
    ) -> None:
        row.expects, row.choices, row.office = expects, list(choices), office
        row.asked_at = self._now if expects is not Expects.NOTHING else None

    def _in_words(self, row: tables.Conversation) -> str:
        """What they were given to choose from."""
        match row.expects:
            case Expects.SLOT:
                return listed(in_words(datetime.fromisoformat(at)) for at in row.choices)
            case Expects.OFFICE:
                return listed(one.name for one in self._desk.offices)
            case Expects.CATEGORY:
                return listed(one.name for one in self._desk.categories)
            case _:
                return listed(map(str, range(1, len(row.choices) + 1)))

    async def _say(self, template: str, **awaited: str) -> None:
        if not self._quiet:
            words = filled(template, **awaited)
            await letters.write(self._session, self._who, words, self._seal, self._now, ahead=False)

    async def _say_of(self, template: str, office: Office, at: datetime) -> None:
        if not self._quiet:
            words = appointments.said_of(template, office, at)
            await letters.write(self._session, self._who, words, self._seal, self._now)


def _no_more(code: str) -> Office:
    """An office that the comune's file no longer has, under the name it had there."""
    return Office(code, code, (), (), 30)


# ── beside reading ──────────────────────────────────────────────────────────────────────────────────


class Errands:
    """What a desk does while nobody writes: it says what is due, fetches pictures, forgets who is to be forgotten."""

    def __init__(
        self,
        database: Database,
        authorities: Mapping[str, Authority],
        seal: Seal,
        settings: Settings,
        reader: Reader,
    ) -> None:
        self._database = database
        self._authorities = authorities
        self._seal = seal
        self._reader = reader
        self._accounts = {one: Accounts(database, settings, one) for one in (Channel.WHATSAPP, Channel.TELEGRAM)}
        self._channels = {
            access.name: access.channel for authority in authorities.values() for access in authority.channels
        }

    async def say(self) -> None:
        """Until cancelled: what is due goes to the lanes, as far as each minute allows."""
        await _again_and_again(self.say_some)

    async def say_some(self) -> int:
        now = datetime.now(UTC)
        async with self._database.read() as session:
            due = await letters.are_due(session, now)
        said = 0
        for code in sorted(due & self._authorities.keys()):
            async with self._database.write() as session:
                said += await letters.release(session, self._authorities[code], self._seal, now)
        return said

    async def look(self) -> None:
        """Until cancelled: what nobody has read, and what is to be forgotten."""
        forgot = 0.0

        async def once() -> int:
            nonlocal forgot
            now = datetime.now(UTC)
            found = await self._reader.unread(now)
            if time.monotonic() - forgot > FORGET_EVERY or not forgot:
                forgot = time.monotonic()
                await self.forget(now)
            return found

        await _again_and_again(once, every=10.0)

    async def forget(self, now: datetime) -> int:
        forgotten = 0
        for authority in self._authorities.values():
            if authority.desk is not None:
                async with self._database.write() as session:
                    forgotten += await reports.forget(session, authority, now)
        return forgotten

    # ── pictures ────────────────────────────────────────────────────────────────────────────────────

    async def photographs(self) -> None:
        """Until cancelled: fetch, draw anew, seal."""
        async with aiohttp.ClientSession() as http:

            async def once() -> int:
                return await self.fetch_some(http)

            await _again_and_again(once)

    async def fetch_some(self, http: aiohttp.ClientSession) -> int:
        """How many were tried."""
        claimed = await self._claim(time.time())
        await asyncio.gather(*(self._fetch(http, number) for number in claimed))
        return len(claimed)

    async def _claim(self, now: float) -> Sequence[int]:
        photo = tables.Photograph
        due = (photo.state == PhotoState.WAITING, photo.due_at <= now, photo.claimed_until < now)
        query = select(photo.id).where(*due).order_by(photo.due_at, photo.id).limit(PHOTOS_AT_ONCE)
        async with self._database.read() as session:
            if (await session.scalar(query)) is None:
                return ()
        async with self._database.write() as session:
            found = (await session.scalars(query.with_for_update(skip_locked=True))).all()
            await session.execute(
                update(photo).where(photo.id.in_(found)).values(claimed_until=now + HOLD, attempts=photo.attempts + 1)
            )
        return found

    async def _fetch(self, http: aiohttp.ClientSession, number: int) -> None:
        async with self._database.read() as session:
            photo = await session.get(tables.Photograph, number)
        if photo is None or photo.provider_id is None or photo.state is not PhotoState.WAITING:
            return None
        try:
            channel = self._channels[photo.account]
            account = await self._accounts[channel].get(photo.account)
            raw = await fetch(http, account, self._seal.open(photo.provider_id))
            file = await prepared(raw)
        except (NotAttachable, TooLarge):
            return await self._end(photo, PhotoState.REFUSED)
        except WrongKey:
            return await self._end(photo, PhotoState.LOST)
        except NotThere as why:
            log.warning("a picture is not there", photograph=number, why=str(why))
            return await self._end(photo, PhotoState.LOST)
        except (NotNow, KeyError, MissingSetting) as why:
            log.warning("a picture cannot be fetched now", photograph=number, why=type(why).__name__)
            if photo.attempts > len(TRY_AGAIN):
                return await self._end(photo, PhotoState.LOST)
            return await self._put_off(photo, TRY_AGAIN[max(0, photo.attempts - 1)])
        return await self._end(photo, PhotoState.KEPT, file.media_type, file.content)

    async def _put_off(self, photo: tables.Photograph, seconds: float) -> None:
        values = {"due_at": time.time() + seconds, "claimed_until": 0.0}
        async with self._database.write() as session:
            await session.execute(update(tables.Photograph).where(tables.Photograph.id == photo.id).values(values))

    async def _end(
        self, photo: tables.Photograph, state: PhotoState, media_type: str | None = None, content: bytes | None = None
    ) -> None:
        """Kept, or not to be had; of what cannot be opened the citizen is told once."""
        now = datetime.now(UTC)
        async with self._database.write() as session:
            row = await session.get_one(tables.Photograph, photo.id, with_for_update=True)
            if row.state is not PhotoState.WAITING:
                return
            row.state, row.media_type, row.provider_id = state, media_type, None
            row.sealed = self._seal.seal_bytes(content) if content is not None else None
            report = await session.get_one(tables.Report, row.report)
            authority = self._authorities.get(report.authority)
            if state is PhotoState.KEPT or authority is None or authority.desk is None:
                return
            who = reports.reporter(report, authority, self._seal)
            if who is not None:
                words = authority.desk.texts.photo_unreadable
                await letters.write(session, who, words, self._seal, now)
        metrics.DESK.labels(f"photo {state}").inc()


async def _again_and_again(once: Callable[[], Awaitable[int]], every: float = LOOK_EVERY) -> None:
    while True:
        found = 0
        try:
            found = await once()
        except (SQLAlchemyError, OSError) as error:
            log.warning("the desk paused", error=type(error).__name__)
        if not found:
            await asyncio.sleep(every)
