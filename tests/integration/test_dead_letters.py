"""What nobody could work on: kept whole, whoever gave it up, read by an operator, and said again in its lane."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

import pika
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select
from sqlalchemy.exc import OperationalError
from typer.testing import CliRunner

from alerting import audit, dead_letters, logs, wire
from alerting.actors import Role
from alerting.amqp import Incoming
from alerting.commands import app as commands
from alerting.dead_letters import AlreadyEnded, NoSuchLetter, NotReplayable
from alerting.domain.delivery import Channel, Progress
from alerting.domain.events import AlertIssued, BatchReady, CitizenWrote, Event, ReceiptCame
from alerting.domain.lanes import Lane
from alerting.outbox import addressed
from alerting.persistence import Database, tables
from alerting.settings import Settings
from alerting.topology import ALERTS, DEAD, DELIVERIES, dead_queue, deliver_queue, fanout_queue
from consumers import deadletters
from consumers.deadletters import MOST_BYTES, Keeper, bury, event_in, lane_of, last_death
from consumers.worker import Worker
from tests.integration.api_client import PEOPLE, serving
from tests.integration.engine import KEY, ONE_KIND, connected, until, working

NOW = datetime(2026, 11, 21, 12, 30, tzinfo=UTC)
SOON = NOW + timedelta(hours=2)
OURS: tuple[tuple[Event, Lane], ...] = (
    (AlertIssued("a1", 7, "calcinaia", Lane.FLASH, "Met", "Alert", NOW, SOON), Lane.FLASH),
    (BatchReady(3, 7, Channel.WHATSAPP, "whatsapp.calcinaia", Lane.EMERGENCY, 1, 100, SOON, 1), Lane.EMERGENCY),
    (ReceiptCame(7, 12, Progress.DELIVERED, None, NOW), Lane.REPLY),
    (CitizenWrote(5, Channel.TELEGRAM), Lane.REPLY),
)


@dataclass
class Given:
    """A message from RabbitMQ, and what became of it."""

    body: bytes = b"nonsense"
    queue: str = "deliver.whatsapp.emergency"
    exchange: str = DELIVERIES
    routing_key: str = "whatsapp.emergency"
    message_id: str = "batch:3"
    headers: dict[str, Any] = field(default_factory=dict)
    redelivered: bool = False
    fate: list[str] = field(default_factory=list)

    @property
    def incoming(self) -> Incoming:
        return cast(Incoming, self)

    def ack(self) -> None:
        self.fate.append("acknowledged")

    def reject(self, *, requeue: bool) -> None:
        self.fate.append("again" if requeue else "dead")


async def letters(database: Database) -> list[tables.DeadLetter]:
    async with database.read() as session:
        return list((await session.scalars(select(tables.DeadLetter).order_by(tables.DeadLetter.id))).all())


async def the_only_letter(database: Database) -> tables.DeadLetter:
    """The one that is kept, once it is; another beside it is an error."""

    async def kept() -> bool:
        return len(await letters(database)) == 1

    await until(kept)
    [row] = await letters(database)
    return row


async def outbox(database: Database) -> list[tables.OutboxMessage]:
    async with database.read() as session:
        return list((await session.scalars(select(tables.OutboxMessage).order_by(tables.OutboxMessage.id))).all())


async def buried(database: Database, event: Event, lane: Lane, why: str = "orphan") -> int:
    """A message of ours that died in a lane. Its number."""
    said = addressed(event, lane)
    given = Given(said.body, "q", said.exchange, said.routing_key, said.message_id, said.headers)
    await bury(database, given.incoming, why, "dispatch 7 is not in the database")
    return (await letters(database))[-1].id


async def replay(database: Database, number: int, who: str = "admin") -> None:
    async with database.write() as session:
        await dead_letters.replay(session, number, who=who, now=NOW)


async def dismiss(database: Database, number: int, who: str = "admin") -> None:
    async with database.write() as session:
        await dead_letters.dismiss(session, number, who=who, now=NOW)


# ── giving up ───────────────────────────────────────────────────────────────────────────────────────


async def test_what_is_buried_is_kept_whole_and_only_then_acknowledged(database: Database) -> None:
    given = Given(b"\x00\xff nonsense", headers={"lane": "emergency", "wait": 5})
    assert await event_in(database, given.incoming, BatchReady) is None
    assert given.fate == ["acknowledged"]
    [row] = await letters(database)
    assert (row.lane, row.why) == (Lane.EMERGENCY, "unreadable")
    assert row.sentence.startswith("not JSON")
    assert (row.queue, row.exchange, row.routing_key) == (given.queue, given.exchange, given.routing_key)
    assert (row.message_id, row.headers, row.body) == (given.message_id, given.headers, given.body)
    assert (row.ended_at, row.replayed) == (None, False)
    assert abs(datetime.now(UTC) - row.at) < timedelta(minutes=1)


async def test_a_message_of_another_kind_is_buried_with_both_names(database: Database) -> None:
    given = Given(wire.encode(CitizenWrote(5, Channel.TELEGRAM)))
    assert await event_in(database, given.incoming, BatchReady) is None
    [row] = await letters(database)
    assert (row.why, row.sentence) == ("misplaced", "CitizenWrote where BatchReady belongs")


@ONE_KIND
async def test_while_the_database_is_away_nothing_is_acknowledged_and_the_worker_keeps_the_message(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    @asynccontextmanager
    async def away(**_: object) -> AsyncIterator[None]:
        raise OperationalError("INSERT", {}, Exception("the database is away"))
        yield

    given = Given()
    with monkeypatch.context() as gone:
        gone.setattr(database, "write", away)
        with pytest.raises(OperationalError):
            await bury(database, given.incoming, "unreadable", "not JSON")
    assert given.fate == []
    await bury(database, given.incoming, "unreadable", "not JSON")
    assert given.fate == ["acknowledged"]
    assert len(await letters(database)) == 1


async def test_who_died_between_writing_and_acknowledging_leaves_one_letter_not_two(database: Database) -> None:
    await bury(database, Given().incoming, "unreadable", "not JSON")
    again = Given(redelivered=True)
    await bury(database, again.incoming, "unreadable", "not JSON")
    assert again.fate == ["acknowledged"]
    assert len(await letters(database)) == 1
    # Others like it are letters of their own: another message, or the same one a second time.
    await bury(database, Given(b"other", redelivered=True).incoming, "unreadable", "not JSON")
    await bury(database, Given().incoming, "unreadable", "not JSON")
    assert len(await letters(database)) == 3


async def test_what_was_ended_and_dies_again_is_a_new_letter(database: Database) -> None:
    number = await buried(database, *OURS[1])
    await dismiss(database, number)
    said = addressed(*OURS[1])
    given = Given(said.body, "q", said.exchange, said.routing_key, said.message_id, said.headers, redelivered=True)
    await bury(database, given.incoming, "orphan", "gone")
    assert len(await letters(database)) == 2


async def test_five_megabytes_are_cut_and_the_sentence_says_so(database: Database) -> None:
    given = Given(b"x" * 5_000_000)
    await bury(database, given.incoming, "unreadable", "not JSON: " + "y" * 600)
    [row] = await letters(database)
    assert row.body == b"x" * MOST_BYTES
    assert row.sentence.endswith("it has 5,000,000 bytes, of which the first 1,048,576 are kept")
    assert len(row.sentence) == 500


async def test_headers_of_every_amqp_type_and_hostile_words_are_stored(database: Database) -> None:
    deep: dict[str, Any] = {}
    for _ in range(300):
        deep = {"in": deep}
    given = Given(
        headers={
            "lane": b"flash",
            "bytes": b"\xff\x00",
            "when": NOW,
            "decimal": Decimal("1.5"),
            "nested": [{"a": [1, None, True, {"b\0": "c\ud800"}]}],
            "float": float("nan"),
            "deep": deep,
            b"key": "x",  # type: ignore[dict-item]
        },
        message_id=cast(str, b"\xfe not UTF-8"),
        routing_key=cast(str, b"\xfe"),
        exchange="e" * 255,
        queue="q" * 255,
    )
    await bury(database, given.incoming, "unreadable", "a\0b\ud800")
    [row] = await letters(database)
    assert (row.headers["when"], row.headers["decimal"], row.headers["float"]) == (NOW.isoformat(), "1.5", "nan")
    assert row.headers["nested"][0]["a"][:3] == [1, None, True]
    assert row.lane is Lane.ROUTINE
    assert "\0" not in row.sentence + row.message_id


AMQP_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.datetimes() | st.decimals(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text() | st.binary(), inner, max_size=3),
    max_leaves=12,
)


@given(value=AMQP_VALUES)
def test_any_header_becomes_json_that_any_database_takes(value: Any) -> None:
    written = json.dumps(deadletters._as_json(value, deadletters.DEEPEST), allow_nan=False, ensure_ascii=False)
    assert "\0" not in json.loads(json.dumps(written))
    written.encode()


@pytest.mark.parametrize(
    ("headers", "queue", "key", "lane"),
    [
        ({"lane": "flash"}, "deliver.whatsapp.routine", "whatsapp.routine", Lane.FLASH),
        ({}, "t1.deliver.whatsapp.emergency", "", Lane.EMERGENCY),
        ({"lane": "nonsense"}, "t1.receipts", "receipt", Lane.REPLY),
        ({"lane": ["flash"]}, "", "flash.met.calcinaia", Lane.FLASH),
        ({}, "somebody.elses", "buongiorno", Lane.ROUTINE),
    ],
)
def test_a_letter_lies_in_the_lane_its_message_says_else_in_that_of_its_queue(
    headers: dict[str, Any], queue: str, key: str, lane: Lane
) -> None:
    assert lane_of(headers, queue, key) is lane


@pytest.mark.parametrize(
    "forged", [None, [], {}, "x", [1], [[]], [{"routing-keys": 7, "count": "x", "queue": b"\xff"}]]
)
def test_a_forged_x_death_breaks_nothing(forged: Any) -> None:
    death = last_death({"x-death": forged})
    assert death is None or (death.routing_key, death.count) == ("", 1)


# ── what RabbitMQ gives up on ───────────────────────────────────────────────────────────────────────


def settings(database: Database, url: str, prefix: str) -> Settings:
    return Settings(amqp_url=url, database_url=database.url, amqp_prefix=prefix, key=KEY)


@asynccontextmanager
async def keeping(database: Database, url: str, prefix: str) -> AsyncIterator[None]:
    """The keeper, as `consumers reconcile` runs it."""
    worker = Worker(settings(database, url, prefix), "reconcile")
    keeper = Keeper(worker.database)
    for lane in Lane:
        worker.takes(dead_queue(lane), keeper.take, prefetch=50)
    async with working(worker):
        yield


def say(url: str, exchange: str, key: str, body: bytes, message_id: str, **headers: Any) -> None:
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        properties = pika.BasicProperties(message_id=message_id, headers=headers, delivery_mode=2)
        channel = connection.channel()
        channel.confirm_delivery()
        channel.basic_publish(exchange, key, body, properties, mandatory=True)


@pytest.mark.parametrize("database_is_away", [False, True])
async def test_what_a_worker_could_not_foresee_is_kept_with_where_it_was(
    database: Database, amqp_url: str, amqp_prefix: str, database_is_away: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def breaks(_: Incoming) -> None:
        raise ZeroDivisionError

    async def cannot(*_: object) -> None:
        raise OSError("the database is away")

    worker = Worker(settings(database, amqp_url, amqp_prefix), "fanout")
    worker.takes(fanout_queue(Lane.FLASH), breaks, prefetch=1)
    if database_is_away:
        monkeypatch.setattr(deadletters, "bury", cannot)
    said = addressed(*OURS[0])
    async with working(worker), keeping(database, amqp_url, amqp_prefix), connected(amqp_url, amqp_prefix):
        say(amqp_url, amqp_prefix + said.exchange, said.routing_key, said.body, said.message_id, lane="flash")
        row = await the_only_letter(database)
    assert (row.lane, row.why) == (Lane.FLASH, "unforeseen")
    assert (row.queue, row.exchange) == (amqp_prefix + fanout_queue(Lane.FLASH), amqp_prefix + ALERTS)
    assert (row.routing_key, row.message_id, row.body) == (said.routing_key, said.message_id, said.body)
    assert ("x-death" in row.headers) is database_is_away


@ONE_KIND
async def test_what_kills_every_worker_is_kept_when_rabbitmq_has_had_enough(
    database: Database, amqp_url: str, amqp_prefix: str
) -> None:
    queue, key = amqp_prefix + deliver_queue(Channel.WHATSAPP, Lane.EMERGENCY), "whatsapp.emergency"
    async with connected(amqp_url, amqp_prefix), keeping(database, amqp_url, amqp_prefix):
        say(amqp_url, amqp_prefix + DELIVERIES, key, wire.encode(OURS[1][0]), "batch:3", lane="emergency")
        await asyncio.to_thread(_give_back_until_it_is_gone, amqp_url, queue)
        row = await the_only_letter(database)
    assert (row.lane, row.why, row.queue) == (Lane.EMERGENCY, "delivery_limit", queue)
    assert "20 times" in row.sentence


def _give_back_until_it_is_gone(url: str, queue: str) -> None:
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        channel = connection.channel()
        given = 0
        while given < 200:
            method, _properties, _body = channel.basic_get(queue)
            if method is not None:
                channel.basic_reject(method.delivery_tag, requeue=True)
                given += 1
            elif channel.queue_declare(queue, passive=True).method.message_count == 0:
                return
        raise AssertionError("RabbitMQ gave it to us two hundred times")


async def test_a_dead_letter_may_be_given_to_any_number_of_keepers_that_die(amqp_url: str, amqp_prefix: str) -> None:
    """RabbitMQ 4 forgets what was delivered twenty times, unless it is told otherwise."""
    queue = amqp_prefix + dead_queue(Lane.FLASH)
    async with connected(amqp_url, amqp_prefix):
        say(amqp_url, amqp_prefix + DEAD, "flash", b"nonsense", "probe")
        with pytest.raises(AssertionError, match="two hundred times"):
            await asyncio.to_thread(_give_back_until_it_is_gone, amqp_url, queue)


@ONE_KIND
async def test_what_somebody_put_among_the_dead_is_kept_and_never_said_again(
    database: Database, amqp_url: str, amqp_prefix: str
) -> None:
    async with connected(amqp_url, amqp_prefix), keeping(database, amqp_url, amqp_prefix):
        say(amqp_url, amqp_prefix + DEAD, "emergency", b"buongiorno", "probe")
        row = await the_only_letter(database)
    assert (row.lane, row.why, row.queue) == (Lane.EMERGENCY, "foreign", "")
    with pytest.raises(NotReplayable, match="not a message this version reads"):
        await replay(database, row.id)
    assert await outbox(database) == []


# ── replaying ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("event", "lane"), OURS, ids=lambda one: type(one).__name__)
async def test_a_letter_is_said_again_where_it_was_and_in_its_lane(
    database: Database, event: Event, lane: Lane
) -> None:
    number = await buried(database, event, lane)
    await replay(database, number)
    [row], [letter], said = await outbox(database), await letters(database), addressed(event, lane)
    assert (row.lane, row.exchange, row.routing_key, row.body) == (lane, said.exchange, said.routing_key, said.body)
    assert row.message_id == f"{said.message_id}:replayed.{number}"
    assert (letter.ended_at, letter.ended_by, letter.replayed) == (NOW, "admin", True)
    async with database.read() as session:
        [entry] = (await session.scalars(select(tables.AuditEntry))).all()
        assert (entry.actor, entry.action, entry.subject) == ("admin", "replay dead letter", str(number))
        assert await audit.first_break(session) is None


async def test_a_letter_in_the_wrong_queue_is_said_where_it_belongs(database: Database) -> None:
    given = Given(wire.encode(CitizenWrote(5, Channel.TELEGRAM)), headers={"lane": "reply"})
    await event_in(database, given.incoming, BatchReady)
    [letter] = await letters(database)
    await replay(database, letter.id)
    [row] = await outbox(database)
    assert (row.exchange, row.routing_key, row.lane) == ("inbound", "telegram", Lane.REPLY)


async def test_what_a_newer_version_added_is_said_again_too(database: Database) -> None:
    newer = json.dumps(json.loads(wire.encode(OURS[1][0])) | {"v": 2, "loudness": 11}).encode()
    await bury(database, Given(newer, headers={"lane": "emergency"}).incoming, "orphan", "gone")
    [letter] = await letters(database)
    await replay(database, letter.id)
    assert [row.body for row in await outbox(database)] == [newer]


async def test_a_letter_is_ended_once(database: Database) -> None:
    first, second = await buried(database, *OURS[0]), await buried(database, *OURS[1])
    await replay(database, first)
    await dismiss(database, second)
    for number, how in ((first, "replayed by admin at 2026-11-21 12:30:00"), (second, "dismissed by admin")):
        for end in (replay, dismiss):
            with pytest.raises(AlreadyEnded, match=how):
                await end(database, number, "anna")
    assert len(await outbox(database)) == 1


async def test_two_who_replay_the_same_letter_at_once_say_it_once(database: Database) -> None:
    number = await buried(database, *OURS[0])
    pressing = (replay(database, number, who) for who in ("anna", "bruno"))
    answers = await asyncio.gather(*pressing, return_exceptions=True)
    assert [type(answer) for answer in answers if answer is not None] == [AlreadyEnded]
    assert len(await outbox(database)) == 1


async def test_what_names_an_authority_that_cannot_be_is_refused_and_not_an_error(database: Database) -> None:
    for authority in ("c" * 300, "calcinaia\0", "due parole"):
        event = AlertIssued("a1", 7, authority, Lane.FLASH, "Met", "Alert", NOW, SOON)
        await bury(database, Given(wire.encode(event), headers={"lane": "flash"}).incoming, "orphan", "gone")
    for letter in await letters(database):
        with pytest.raises(NotReplayable, match="cannot be ours"):
            await replay(database, letter.id)


@pytest.mark.parametrize("number", [0, -1, 4711, 2**63])
async def test_a_letter_that_is_not_there_is_said_to_be_none(database: Database, number: int) -> None:
    with pytest.raises(NoSuchLetter, match=str(number)):
        await dismiss(database, number)


async def test_all_of_one_kind_are_said_again_the_oldest_first_and_never_more_than_so_many(database: Database) -> None:
    for place in range(1, 8):
        batch = BatchReady(place, 7, Channel.WHATSAPP, "whatsapp.calcinaia", Lane.ROUTINE, 1, 5, SOON, 1)
        await buried(database, batch, Lane.ROUTINE)
        await bury(database, Given(f"{place} buongiorno".encode()).incoming, "orphan", "not even ours")
    await buried(database, *OURS[0], why="unforeseen")
    async with database.write() as session:
        done = await dead_letters.replay_all(session, "orphan", who="admin", now=NOW, most=3)
    assert (len(done.replayed), done.unreadable) == (3, 2)
    assert [row.message_id.split(":")[1] for row in await outbox(database)] == ["1", "2", "3"]
    async with database.write() as session:
        done = await dead_letters.replay_all(session, "orphan", who="admin", now=NOW)
    assert (len(done.replayed), done.unreadable) == (4, 7)
    async with database.read() as session:
        assert await dead_letters.open_by_lane(session) == {
            Lane.FLASH: 1,
            Lane.EMERGENCY: 7,
            Lane.REPLY: 0,
            Lane.ROUTINE: 0,
        }
        assert len((await session.scalars(select(tables.AuditEntry))).all()) == 2


async def test_letters_are_listed_newest_first_page_by_page(database: Database) -> None:
    numbers = [await buried(database, *one, why=why) for one in OURS for why in ("orphan", "unforeseen")]
    await dismiss(database, numbers[-1])

    async def found(**which: Any) -> list[int]:
        async with database.read() as session:
            return [row.id for row in await dead_letters.find_some(session, **which)]

    newest = numbers[::-1]
    assert await found() == newest[1:]
    assert await found(open_only=False) == newest
    assert await found(most=3) == newest[1:4]
    assert await found(before=newest[3]) == newest[4:]
    assert await found(lane=Lane.FLASH) == [numbers[1], numbers[0]]
    assert await found(why="orphan", lane=Lane.EMERGENCY) == [numbers[2]]


# ── the API and the command ─────────────────────────────────────────────────────────────────────────


async def test_over_http_a_letter_is_listed_read_said_again_and_dismissed(
    database_url: str, amqp_url: str, amqp_prefix: str, tmp_path: Path
) -> None:
    async with serving(database_url, amqp_url, amqp_prefix, tmp_path) as town:
        numbers = [await buried(town.database, *one) for one in OURS]
        await bury(town.database, Given(b"\xff" + b"x" * 9000).incoming, "unreadable", "not JSON")
        foreign = (await letters(town.database))[-1].id

        page = await town.ask("GET", "/v1/dead-letters?limit=3", "admin")
        assert [item["number"] for item in page.body["items"]] == [foreign, *numbers[:1:-1]]
        rest = await town.ask("GET", f"/v1/dead-letters?cursor={page.body['next_cursor']}", "admin")
        assert [item["number"] for item in rest.body["items"]] == numbers[1::-1]
        assert rest.body["next_cursor"] is None
        flash = await town.ask("GET", "/v1/dead-letters?lane=flash&why=orphan", "admin")
        assert [item["number"] for item in flash.body["items"]] == numbers[:1]

        one = await town.ask("GET", f"/v1/dead-letters/{numbers[1]}", "admin")
        assert json.loads(one.body["body"])["event"] == "BatchReady"
        assert one.body["headers"] == {"lane": "emergency"}
        strange = await town.ask("GET", f"/v1/dead-letters/{foreign}", "admin")
        assert (len(strange.body["body"]), strange.body["body"][0], strange.body["bytes"]) == (2000, "\ufffd", 9001)

        said = await town.ask("POST", f"/v1/dead-letters/{numbers[1]}/replay", "admin")
        assert (said.status, said.body["replayed"], said.body["ended_by"]) == (202, True, "admin")
        assert (await town.ask("POST", f"/v1/dead-letters/{numbers[1]}/replay", "admin")).status == 409
        refused = await town.ask("POST", f"/v1/dead-letters/{foreign}/replay", "admin")
        assert refused.status == 409 and "dismiss it" in refused.body["detail"]
        assert (await town.ask("POST", f"/v1/dead-letters/{foreign}/dismiss", "admin")).status == 200
        ended = await town.ask("GET", "/v1/dead-letters?ended=true", "admin")
        assert len(ended.body["items"]) == 5
        assert len((await town.ask("GET", "/v1/dead-letters", "admin")).body["items"]) == 3
        assert [row.lane for row in await outbox(town.database)] == [Lane.EMERGENCY]
        assert len(await town.audited("dismiss dead letter")) == 1


@ONE_KIND
async def test_over_http_only_who_tends_the_whole_system_sees_dead_letters(
    database_url: str, amqp_url: str, amqp_prefix: str, tmp_path: Path
) -> None:
    async with serving(database_url, amqp_url, amqp_prefix, tmp_path) as town:
        number = await buried(town.database, *OURS[0])
        paths = [
            ("GET", "/v1/dead-letters"),
            ("GET", f"/v1/dead-letters/{number}"),
            ("POST", f"/v1/dead-letters/{number}/replay"),
            ("POST", f"/v1/dead-letters/{number}/dismiss"),
        ]
        for method, path in paths:
            assert (await town.ask(method, path, None)).status == 401
            for who, (role, authority) in PEOPLE.items():
                if authority is not None:
                    answer = await town.ask(method, path, who)
                    assert answer.status == 403, (who, path)
                    if role is Role.OPERATOR:
                        assert "belongs to no authority" in answer.body["detail"]
        assert [row.ended_at for row in await letters(town.database)] == [None]
        for method, path in paths[1:]:
            for other, status in (("4711", 404), ("uno", 422), ("0", 422)):
                elsewhere = path.replace(f"/{number}", f"/{other}")
                assert (await town.ask(method, elsewhere, "admin")).status == status, elsewhere
        assert (await town.ask("GET", f"/v1/dead-letters?cursor={2**63}", "admin")).status == 422


@ONE_KIND
async def test_on_the_command_line_a_letter_is_listed_shown_said_again_and_dismissed(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "configure", lambda style: None)  # it would keep the runner's stderr for ever

    async def command(*words: str) -> tuple[int, str]:
        # On a thread: the command has an event loop of its own.
        environment = {"DATABASE_URL": database.url, "COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"}
        done = await asyncio.to_thread(CliRunner().invoke, commands, ["dead-letters", *words], env=environment)
        return done.exit_code, done.output

    assert await command("list") == (0, "There are no dead letters.\n")
    first, second, third = [await buried(database, *OURS[place]) for place in (0, 1, 1)]
    await bury(database, Given(b"\x1b[2J [bold]buongiorno").incoming, "unreadable", "not [JSON]")
    foreign = third + 1

    status, listed = await command("list", "--limit", "3")
    assert status == 0 and "not [JSON]" in listed and f"--before {second}" in listed
    status, shown = await command("show", str(foreign))
    assert status == 0 and "\ufffd[2J [bold]buongiorno" in shown
    assert await command("replay", str(first)) == (0, f"dead letter {first} is said again in lane flash\n")
    assert await command("show", "4711") == (1, "there is no dead letter 4711: list them to see which there are\n")
    assert (await command("replay"))[0] == 2
    assert await command("replay", "--why", "orphan") == (
        0,
        "said again: 2; not ours or not readable, and still there: 0\n",
    )
    assert await command("dismiss", str(foreign)) == (0, f"dead letter {foreign} is dismissed\n")
    assert (await command("dismiss", str(foreign)))[0] == 1
    assert {row.ended_by for row in await letters(database)} == {"command line"}
