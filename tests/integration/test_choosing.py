"""What citizens choose by message, and what the five comuni tell them they know."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession

from alerting import issuing
from alerting.buttons import Menu, menu_of
from alerting.choosing import ChoicesPage, choices_of, known_of, put_in_order
from alerting.domain.authority import filled
from alerting.domain.choice_words import Choice
from alerting.domain.choices import Topic
from alerting.domain.delivery import Channel
from alerting.domain.keywords import ListPlaces, understand
from alerting.domain.rendering import ROME
from alerting.persistence import tables
from alerting.postmarks import Postmarks
from alerting.subscribing import Subscriber, find, join, shut
from consumers import fanout
from consumers.fanout import FanOut
from consumers.inbound import Inbound
from tests.integration.calcinaia import (
    ANNA,
    AUTHORITIES,
    BRUNO,
    CALCINAIA,
    NOW,
    SEAL,
    citizen,
    five_comuni,
    one_database,
    piena,
)
from tests.integration.test_inbound import Desk

KEY = bytes(range(32))
PAGE = ChoicesPage("https://allerta.example/", KEY)
each_comune = pytest.mark.parametrize("comune", AUTHORITIES)


@pytest.fixture
async def desk(database_url: str) -> AsyncIterator[Desk]:
    async with five_comuni(database_url) as database:
        yield Desk(database, Inbound(database, AUTHORITIES, SEAL, PAGE))


async def writes(desk: Desk, words: str, comune: str = "calcinaia") -> str:
    answer = await desk.receives(words, comune)
    assert answer is not None
    return answer


async def stands(desk: Desk, comune: str = "calcinaia") -> tables.Recipient:
    person = await desk.knows(comune)
    assert person is not None
    return person


@each_comune
@one_database
async def test_each_comune_keeps_what_somebody_chooses_and_says_what_stands(desk: Desk, comune: str) -> None:
    await writes(desk, AUTHORITIES[comune].keywords.join, comune)
    said = {
        "SOLO EMERGENZE": "solo emergenze e disservizi; nessun silenzio; lingua italiano",
        "anche raccolta": "emergenze e disservizi, raccolta porta a porta; nessun silenzio; lingua italiano",
        "silenzio dalle 22 alle 7": "dalle 22 alle 7 (le emergenze arrivano sempre); lingua italiano",
        "english": "lingua inglese (English)",
        "senza silenzio": "nessun silenzio",
        "tutto": "tutto; nessun silenzio",
        "no eventi": "emergenze e disservizi, raccolta porta a porta, notizie e scadenze;",
    }
    for words, expected in said.items():
        answer = await writes(desk, words, comune)
        assert answer.startswith(AUTHORITIES[comune].name)
        assert expected in answer
    choices = choices_of(await stands(desk, comune))
    assert choices.topics == frozenset(Topic) - {Topic.EVENTI}
    assert (choices.quiet, choices.language) == (None, "en")


@each_comune
@one_database
async def test_no_emergenze_asks_and_nobody_leaves_nor_loses_a_topic(desk: Desk, comune: str) -> None:
    authority = AUTHORITIES[comune]
    await writes(desk, authority.keywords.join, comune)
    for words in ("NO EMERGENZE", "senza allerte", "no tutto"):
        assert await writes(desk, words, comune) == authority.texts.emergencies_always
    assert authority.keywords.leave in authority.texts.emergencies_always
    assert choices_of(await stands(desk, comune)).topics == frozenset(Topic)


@each_comune
@one_database
async def test_who_is_not_in_is_told_that_nothing_is_known_and_chooses_nothing(desk: Desk, comune: str) -> None:
    texts = AUTHORITIES[comune].texts
    assert await writes(desk, "cosa sai di me", comune) == texts.nothing_known
    assert await writes(desk, "solo emergenze", comune) == texts.ask_join
    assert await desk.knows(comune) is None


@one_database
async def test_what_is_unclear_changes_nothing_and_is_shown_how(desk: Desk) -> None:
    await writes(desk, "Attiva")
    assert await writes(desk, "silenzio dalle 25 alle 7") == CALCINAIA.texts.choices_how
    assert choices_of(await stands(desk)).quiet is None


@each_comune
@one_database
async def test_everything_known_is_told_masked_with_how_to_change_it_how_to_leave_and_the_page(
    desk: Desk, comune: str
) -> None:
    authority = AUTHORITIES[comune]
    await writes(desk, authority.keywords.join, comune)
    frazione = authority.territory.frazioni[0].name
    await writes(desk, f"zona {frazione}", comune)
    await writes(desk, "solo emergenze", comune)
    answer = await writes(desk, "Cosa sai di me?", comune)
    today = datetime.now(UTC)
    for fact in (
        f"Iscrizione: dal {today.astimezone(ROME).day} ",
        f"Informativa accettata: versione {authority.policy.version}",
        "WhatsApp +39 … 67",
        "Argomenti: solo emergenze e disservizi",
        f"Luoghi: {frazione}",
        "Silenzio: nessuno",
        "Lingua: italiano",
        authority.keywords.leave,
    ):
        assert fact in answer
    assert "3331234567" not in answer
    (link,) = [word for word in answer.split() if word.startswith("https://allerta.example/v1/choices/")]
    person = await stands(desk, comune)
    assert Postmarks(KEY).chooser(link.rsplit("/", 1)[1], today) == person.id


@one_database
async def test_without_a_public_address_there_is_no_line_about_a_page(database_url: str) -> None:
    async with five_comuni(database_url, "calcinaia") as database:
        desk = Desk(database, Inbound(database, AUTHORITIES, SEAL, ChoicesPage("", KEY)))
        await writes(desk, "Attiva")
        answer = await writes(desk, "cosa sai di me")
    assert "pagina" not in answer
    assert "{link}" not in answer
    assert CALCINAIA.keywords.leave in answer


@each_comune
def test_the_choices_a_comune_suggests_are_understood_by_it(comune: str) -> None:
    authority, texts = AUTHORITIES[comune], AUTHORITIES[comune].texts
    for answer in (texts.choices_kept, texts.choices_known, texts.choices_how, texts.emergencies_always):
        shown = filled(answer, scelte="", link="").replace("\n", " ")
        quoted = shown.split('"')[1::2]
        assert quoted
        for words in quoted:
            assert isinstance(understand(words, authority.keywords), Choice | ListPlaces), words


# ── which address comes first ───────────────────────────────────────────────────────────────────────


async def test_who_has_two_addresses_says_which_comes_first_and_a_closed_one_stays_behind(database_url: str) -> None:
    telegram = CALCINAIA.channel(Channel.TELEGRAM)
    assert telegram is not None
    also = Subscriber(CALCINAIA, telegram, "123456789")

    async def ranks() -> list[tuple[str, int]]:
        async with database.read() as session:
            rows = await session.execute(
                select(tables.Address.account, tables.Address.rank)
                .where(tables.Address.recipient_id == recipient)
                .order_by(tables.Address.rank)
            )
            return [(account, rank) for account, rank in rows]

    async with five_comuni(database_url, "calcinaia") as database:
        async with database.write() as session:
            recipient, _ = await join(session, citizen(1), SEAL, keyword="Attiva", now=NOW, also=[also])
        assert await ranks() == [("whatsapp.calcinaia", 0), ("telegram.calcinaia", 1)]
        async with database.write() as session:
            row = await session.get_one(tables.Recipient, recipient)
            await put_in_order(session, row, [Channel.TELEGRAM])
        assert await ranks() == [("telegram.calcinaia", 0), ("whatsapp.calcinaia", 1)]
        async with database.write() as session:
            await shut(session, also, SEAL, keyword="(bot bloccato)", now=NOW)
            row = await session.get_one(tables.Recipient, recipient)
            await put_in_order(session, row, [Channel.TELEGRAM, Channel.WHATSAPP])
        assert await ranks() == [("whatsapp.calcinaia", 0), ("telegram.calcinaia", 1)]
        async with database.read() as session:
            row = await session.get_one(tables.Recipient, recipient)
            known = await known_of(session, row, CALCINAIA, SEAL)
    assert [way.in_words for way in known.ways] == ["WhatsApp +39 … 01", "Telegram … 89 (chiuso)"]


@pytest.mark.parametrize(("first", "told"), [(Channel.WHATSAPP, 1), (Channel.TELEGRAM, 2)])
async def test_who_changes_the_order_while_a_fan_out_goes_from_account_to_account_is_told_rather_twice_than_never(
    database_url: str, first: Channel, told: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Telegram's people are counted before WhatsApp's: whoever changes between the two was on neither."""
    telegram, whatsapp = CALCINAIA.channel(Channel.TELEGRAM), CALCINAIA.channel(Channel.WHATSAPP)
    assert telegram is not None and whatsapp is not None
    other = Channel.WHATSAPP if first is Channel.TELEGRAM else Channel.TELEGRAM
    async with five_comuni(database_url, "calcinaia") as database:
        async with database.write() as session:
            also = Subscriber(CALCINAIA, telegram, "123456789")
            recipient, _ = await join(session, citizen(1), SEAL, keyword="Attiva", now=NOW, also=[also])
            await put_in_order(session, await session.get_one(tables.Recipient, recipient), [first])
            await session.execute(text("UPDATE recipients SET ranked_at = NULL"))
            row = await issuing.draft(session, piena(areas=("calcinaia",)), CALCINAIA, ANNA, NOW)
            await issuing.approve(session, row, BRUNO, NOW)
            dispatch = (await issuing.issue(session, row, ANNA, NOW)).id
        fanning = FanOut(database, AUTHORITIES)
        counted = fanning._of_account

        async def then_they_change(session: AsyncSession, *more: Any) -> int:
            looked_at = await counted(session, *more)
            if more[1].name == telegram.name:
                await put_in_order(session, await session.get_one(tables.Recipient, recipient), [other])
                await session.flush()
            return looked_at

        monkeypatch.setattr(fanout, "FEW", 0)
        monkeypatch.setattr(fanning, "_of_account", then_they_change)
        assert await fanning.fan_out(dispatch)
        async with database.read() as session:
            mine = select(tables.Delivery).where(tables.Delivery.recipient_id == recipient)
            assert len((await session.scalars(mine)).all()) == told
            whole = await session.get_one(tables.Dispatch, dispatch)
            assert whole.audience == whole.last_seq == told + 1, "they, and the public channel"


# ── buttons on Telegram ─────────────────────────────────────────────────────────────────────────────

CHAT = "5001"


@dataclass
class Bot:
    """Somebody in a chat with Calcinaia's bot, who writes and presses what stands below its last answer."""

    desk: Desk

    async def writes(self, words: str) -> str | None:
        return await self.desk.receives(words, sender=CHAT, channel=Channel.TELEGRAM)

    async def presses(self, data: str) -> str | None:
        return await self.desk.receives(None, sender=CHAT, channel=Channel.TELEGRAM, kind="press", payload=f"77 {data}")

    async def shows(self) -> Menu:
        async with self.desk.database.read() as session:
            last = select(tables.Dispatch).order_by(tables.Dispatch.id.desc()).limit(1)
            return menu_of((await session.scalars(last)).one().reply_menu)

    async def data_of(self, words: str) -> str:
        rows = (await self.shows()).rows
        return next(button.data for row in rows for button in row if words in button.text)

    async def person(self) -> tables.Recipient:
        telegram = CALCINAIA.channel(Channel.TELEGRAM)
        assert telegram is not None
        async with self.desk.database.read() as session:
            address = await find(session, Subscriber(CALCINAIA, telegram, CHAT), SEAL)
            assert address is not None
            return await session.get_one(tables.Recipient, address.recipient_id)


@one_database
async def test_topics_are_switched_by_buttons_and_the_message_is_written_anew(desk: Desk) -> None:
    maria = Bot(desk)
    assert await maria.writes("/start") == CALCINAIA.texts.welcome
    assert (await maria.shows()).edits is None
    events = await maria.data_of("Eventi")
    for _ in range(2):  # Telegram tells it twice, or they press twice: it is off, and not on again
        answer = await maria.presses(events)
        assert answer is not None and "emergenze e disservizi, raccolta porta a porta, notizie" in answer
        shown = await maria.shows()
        assert shown.edits == 77
        assert [row[0].text[0] for row in shown.rows[:-1]] == ["✅", "⬜", "✅"]
    assert choices_of(await maria.person()).topics == frozenset(Topic) - {Topic.EVENTI}
    await maria.presses(await maria.data_of("Eventi"))
    assert choices_of(await maria.person()).topics == frozenset(Topic)


@one_database
async def test_where_they_live_is_chosen_from_a_list(desk: Desk) -> None:
    maria = Bot(desk)
    await maria.writes("/start")
    await maria.presses(await maria.data_of("Dove abiti"))
    names = [button.text for row in (await maria.shows()).rows for button in row]
    assert names == ["Calcinaia capoluogo", "Fornacette", "Tutto il Comune", "← Indietro"]
    answer = await maria.presses(await maria.data_of("Fornacette"))
    assert answer == filled(CALCINAIA.texts.place_kept, luoghi="Fornacette")
    assert (await maria.person()).located
    assert "Eventi" in (await maria.shows()).rows[1][0].text


@one_database
async def test_a_link_that_names_the_frazione_keeps_it_and_says_so(desk: Desk) -> None:
    maria = Bot(desk)
    answer = await maria.writes("/start fornacette")
    assert answer is not None and answer.startswith(CALCINAIA.texts.welcome)
    assert filled(CALCINAIA.texts.place_kept, luoghi="Fornacette") in answer
    assert (await maria.person()).located


@one_database
async def test_forged_buttons_are_ignored_and_who_has_left_is_told_how_to_join(desk: Desk) -> None:
    maria = Bot(desk)
    await maria.writes("/start")
    events = await maria.data_of("Eventi")
    for forged in ("-eventi", "-eventi~0123456789abcdef", events[:-1], "x" * 64, "~", events.replace("-", "+")):
        assert await maria.presses(forged) is None
    assert choices_of(await maria.person()).topics == frozenset(Topic)
    assert await maria.writes("/stop") == CALCINAIA.texts.goodbye
    assert await maria.presses(events) == CALCINAIA.texts.ask_join
    assert (await maria.shows()) == Menu(edits=77), "and the buttons are gone"


@one_database
async def test_on_whatsapp_there_are_no_buttons(desk: Desk) -> None:
    await writes(desk, "Attiva")
    async with desk.database.read() as session:
        assert {row.reply_menu for row in await session.scalars(select(tables.Dispatch))} == {None}
