"""What goes with a text on each channel, and what the words say where nothing can go with them."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from alerting import attachments, cap_json
from alerting.attachments.preparing import prepare
from alerting.domain.cap import Resource
from alerting.domain.delivery import Channel
from alerting.persistence import tables
from consumers import deliver
from consumers.channel import Account, Secret, Text
from consumers.channels.telegram import Telegram
from consumers.chats import Chats
from consumers.deliver import Delivery, text_of
from consumers.reconcile import Reconciler
from consumers.recording import Recorder
from consumers.uploads import Uploads
from tests.integration.calcinaia import one_database
from tests.integration.engine import ANNA, Start, Town, a_town, meta, texts, until
from tests.unit.test_attachments import document, photograph, plan, saved

PUBLIC = "https://allerta.calcinaia.example"
MAP, PDF = prepare(saved(plan(), "PNG")), prepare(document())
SAYS = "Mappa delle vie da evacuare"


@pytest.fixture
async def everything(database_url: str) -> AsyncIterator[Town]:
    async with a_town(database_url, telegram=True) as town:
        yield town


def account(channel: Channel, **settings: str) -> Account:
    name = f"{channel}.calcinaia"
    return Account(name, "calcinaia", channel, "http://127.0.0.1", Secret("…"), settings, name)


async def issued(town: Town, file: object = MAP) -> int:
    """An alert that shows it. Its dispatch."""
    assert file is MAP or file is PDF
    shown = MAP if file is MAP else PDF
    async with town.database.write() as session:
        await attachments.keep(session, shown, ANNA, datetime.now(UTC))
        enclosure = await attachments.enclosure(session, shown.sha256, SAYS, PUBLIC)
    return await town.issue(enclosure=enclosure)


async def said(town: Town, dispatch: int, to: Account) -> Text:
    """As a delivery worker has it."""
    async with town.database.read() as session:
        return (await saying(session, town, dispatch, to)).text


async def saying(session: AsyncSession, town: Town, dispatch: int, to: Account) -> deliver.Saying:
    return await saying_by(a_delivery(town), session, dispatch, to)


async def saying_by(delivery: Delivery, session: AsyncSession, dispatch: int, to: Account) -> deliver.Saying:
    row = await session.get_one(tables.Dispatch, dispatch)
    return await delivery._saying(session, row, await session.get_one(tables.Alert, row.alert), to)


def a_delivery(town: Town) -> Delivery:
    recorder: Recorder = None  # type: ignore[assignment]  # nothing is recorded here
    adapter = Telegram(Uploads(town.database), Chats(town.database, town.seal))
    return Delivery(town.database, adapter, None, recorder, town.seal)  # type: ignore[arg-type]


LINK = f"Mappa: {PUBLIC}/a/{MAP.sha256[:12]}"


@one_database
@pytest.mark.parametrize(
    "to",
    [
        account(Channel.TELEGRAM),
        account(Channel.EMAIL),
        account(Channel.WHATSAPP, template="allerta_v1", template_image="allerta_mappa_v1"),
    ],
    ids=lambda to: str(to.channel),
)
async def test_what_a_channel_carries_goes_with_the_text_and_is_not_said_twice(everything: Town, to: Account) -> None:
    text = await said(everything, await issued(everything), to)
    assert text.enclosure is not None and text.enclosure.content == MAP.content
    assert (text.enclosure.sha256, text.enclosure.media_type, text.enclosure.says) == (MAP.sha256, "image/png", SAYS)
    assert text.enclosure.url == f"{PUBLIC}/a/{MAP.sha256[:12]}", "for words that go alone after all"
    assert text.enclosure.name == f"allerta-{MAP.sha256[:12]}.png"
    assert "/a/" not in text.body and not any("/a/" in variable for variable in text.variables)


@one_database
@pytest.mark.parametrize(
    "to",
    [account(Channel.SMS), account(Channel.WHATSAPP, template="allerta_v1", template_document="allerta_piano_v1")],
    ids=lambda to: str(to.channel),
)
async def test_where_it_cannot_go_the_words_say_where_it_is(everything: Town, to: Account) -> None:
    text = await said(everything, await issued(everything), to)
    assert text.enclosure is None and LINK in text.body
    assert not text.variables or text.variables[-1].endswith(LINK)


@one_database
async def test_a_document_goes_where_documents_go(everything: Town) -> None:
    dispatch = await issued(everything, PDF)
    for to, goes in (
        (account(Channel.TELEGRAM), True),
        (account(Channel.WHATSAPP, template="a", template_document="b"), True),
        (account(Channel.WHATSAPP, template="a", template_image="b"), False),
    ):
        text = await said(everything, dispatch, to)
        assert (text.enclosure is not None) is goes
        assert (f"Documento: {PUBLIC}/a/{PDF.sha256[:12]}" in text.body) is not goes


@one_database
async def test_what_was_lost_is_no_reason_to_say_nothing(everything: Town) -> None:
    dispatch = await issued(everything)
    await everything.run("DELETE FROM attachments")
    text = await said(everything, dispatch, account(Channel.TELEGRAM))
    assert text.enclosure is None and LINK in text.body


@one_database
async def test_what_somebody_else_shows_is_linked_as_it_is(everything: Town) -> None:
    dispatch = await issued(everything)
    theirs = Resource("Mappa", "image/png", None, "https://regione.example/mappa.png")
    async with everything.database.read() as session:
        of_dispatch = await session.get_one(tables.Dispatch, dispatch)
        row = await session.get_one(tables.Alert, of_dispatch.alert)
        alert = cap_json.from_json(row.document)
        row.document = cap_json.to_json(replace(alert, infos=(replace(alert.first, resources=(theirs,)),)))
        row.enclosure = None
        for to in (account(Channel.TELEGRAM), account(Channel.SMS)):
            text = text_of(of_dispatch, row, to)
            assert text.enclosure is None and "Mappa: https://regione.example/mappa.png" in text.body


@one_database
async def test_a_worker_holds_no_more_of_pictures_than_it_has_room_for(
    everything: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    dispatches = [await issued(everything) for _ in range(4)]
    monkeypatch.setattr(deliver, "MOST_BYTES_KEPT", 2 * len(MAP.content))
    delivery, to = a_delivery(everything), account(Channel.TELEGRAM)
    async with everything.database.read() as session:
        for dispatch in dispatches:
            await saying_by(delivery, session, dispatch, to)
    assert [dispatch for dispatch, _ in delivery._sayings] == dispatches[-2:]
    monkeypatch.setattr(deliver, "MOST_BYTES_KEPT", 1)
    async with everything.database.read() as session:
        await saying_by(delivery, session, dispatches[0], to)
    assert [dispatch for dispatch, _ in delivery._sayings] == [dispatches[0]], "what it needs now it holds all the same"


async def test_whoever_reads_whatsapp_finds_the_map_by_its_address(town: Town, engine: Start) -> None:
    async with meta() as served, engine(served):
        await town.subscribe(3)
        dispatch = await issued(town)
        await until(lambda: town.is_over(dispatch))
    assert len(texts(served)) == 3
    # The comune's template for pictures is not registered here: the words go alone, with the address people can type.
    assert {text["text"].rpartition(" ")[2] for text in texts(served)} == {LINK.rpartition(" ")[2]}


async def test_the_reconciler_forgets_what_no_alert_shows(town: Town) -> None:
    await issued(town)
    async with town.database.write() as session:
        await attachments.keep(session, prepare(saved(photograph(), "JPEG")), ANNA, datetime.now(UTC))
    assert await town.count(tables.Attachment) == 2
    reconciler = Reconciler(town.database)
    await reconciler.forget(datetime.now(UTC).timestamp())
    assert await town.count(tables.Attachment) == 2
    await reconciler.forget((datetime.now(UTC) + timedelta(days=2)).timestamp())
    assert await town.count(tables.Attachment) == 1
