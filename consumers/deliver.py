"""One batch, from the queue to a verdict for each person. The page to read first.

A message names a batch: people `first` to `last` of an audience, on one account. The batch is handed to the line
of its account, which claims people in small slices, leases the provider's capacity, tells the most urgent person
at each slot and reports what became of each. The recorder writes that down and acknowledges the batch.
"""

import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import structlog
from sqlalchemy import update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from alerting import batching, cap_json, metrics
from alerting.amqp import Incoming
from alerting.domain import rendering
from alerting.domain.delivery import (
    Accepted,
    ChannelHalted,
    Decision,
    Deferred,
    Done,
    Outcome,
    Progress,
    Reason,
    Refused,
    TextRejected,
    Uncertain,
    decide,
)
from alerting.domain.events import BatchReady
from alerting.persistence import Database, ledger, tables
from alerting.sealing import Seal, WrongKey
from consumers.channel import Account, ChannelAdapter, Text
from consumers.deadletters import bury, event_in
from consumers.line import Errand, Held, Line
from consumers.pacing import Pacer
from consumers.recording import Recorder
from consumers.wiring import Accounts

log = structlog.get_logger()

HALT_LASTS = timedelta(seconds=30)
"""How long a halted account is left alone before one person's text probes it again."""
REJECTION_LASTS = timedelta(seconds=60)
NOT_OUR_SPEED = frozenset({Reason.CHANNEL_HALTED, Reason.TEXT_REJECTED})
SLOWED_FOR = timedelta(seconds=1)
TEXTS_KEPT = 200
SIGN_OF_LIFE = 60.0
"""Seconds in hand after which a batch is touched, so that the reconciler does not take it for abandoned."""


@dataclass(frozen=True, slots=True)
class Saying:
    """What a dispatch says on one account, and since when."""

    text: Text
    issued_at: datetime


class Delivery:
    """Takes batches of one channel and tells their people."""

    def __init__(
        self,
        database: Database,
        adapter: ChannelAdapter,
        accounts: Accounts,
        recorder: Recorder,
        seal: Seal,
    ) -> None:
        self._database = database
        self._adapter = adapter
        self._accounts = accounts
        self._recorder = recorder
        self._seal = seal
        self._pacer = Pacer(database)
        self._lines: dict[str, Line] = {}
        self._halted: set[str] = set()
        self._sayings: dict[tuple[int, str], Saying] = {}

    # ── a batch ─────────────────────────────────────────────────────────────────────────────────────

    async def take(self, message: Incoming) -> None:
        """Hand a batch to its account's line. What is not a batch of ours goes to the dead letters."""
        arrived = time.monotonic()
        batch = event_in(message, BatchReady)
        if batch is None:
            return None
        if batch.channel is not self._adapter.name:
            return bury(message, "misplaced", f"a batch for {batch.channel} does not belong in {message.routing_key}")
        async with self._database.read() as session:
            row = await session.get(tables.Batch, batch.batch)
            saying = await self._saying(session, batch)
        if saying is None or row is None or not _same(row, batch):
            return bury(message, "orphan", f"batch {batch.batch} of dispatch {batch.dispatch} is not in the database")
        if row.state == "done":  # RabbitMQ gave it to us again
            return message.ack()
        if _now() >= batch.not_after:
            return await self._end(message, batch, Reason.EXPIRED)
        if row.state != "told":
            await self._touch([row.id])
        self._line(batch.account).take(Held(message, batch, saying.text, saying.issued_at, arrived))
        return None

    async def _touch(self, batches: list[int]) -> None:
        async with self._database.write() as session:
            await batching.touch(session, batches)

    async def _end(self, message: Incoming, batch: BatchReady, reason: Reason) -> None:
        """Nobody of it is told any more. With whom another worker is right now is that worker's to finish."""
        async with self._database.write() as session:
            await ledger.withdraw(session, batch.dispatch, batch.first, batch.last, reason, now=time.time())
            left = await ledger.left_of(session, batch.dispatch, batch.first, batch.last)
            if left.unfinished == 0:
                await batching.finish(session, batch)
        if left.unfinished:
            held = Held(message, batch, Text(""), batch.not_after, time.monotonic(), exhausted=True)
            return self._recorder.spent(held)  # to be looked at again when the claims have run out
        message.ack()
        return None

    async def _saying(self, session: AsyncSession, batch: BatchReady) -> Saying | None:
        """What the dispatch says on this account: read once, rendered once."""
        key = (batch.dispatch, batch.account)
        if key not in self._sayings:
            dispatch = await session.get(tables.Dispatch, batch.dispatch)
            if dispatch is None:
                return None
            alert = await session.get(tables.Alert, dispatch.alert) if dispatch.alert else None
            account = self._accounts.get(batch.account)
            if len(self._sayings) >= TEXTS_KEPT:
                self._sayings.pop(next(iter(self._sayings)))
            self._sayings[key] = Saying(text_of(dispatch, alert, account), dispatch.issued_at)
        return self._sayings[key]

    def _line(self, account: str) -> Line:
        if account not in self._lines:
            line = Line(self._accounts.get(account), self._database, self._pacer, self._tell, self._recorder)
            line.start()
            self._lines[account] = line
        return self._lines[account]

    # ── a person ────────────────────────────────────────────────────────────────────────────────────

    async def _tell(self, account: Account, errand: Errand) -> Decision:
        """One person, one call, one decision. Whatever the provider does, somebody is told or tried again."""
        held, claimed = errand.held, errand.claimed
        if claimed.sealed is None:
            return Done(Progress.WITHDRAWN, Reason.LEFT)
        if _now() >= held.batch.not_after:
            return Done(Progress.FAILED, Reason.EXPIRED)
        lane, channel = str(held.lane), str(held.batch.channel)
        metrics.ENQUEUED_TO_SENT.labels(lane, channel).observe(time.monotonic() - held.arrived)
        reference = f"{held.batch.dispatch}.{claimed.seq}.{claimed.attempt}"
        started = time.perf_counter()
        outcome: Outcome
        try:
            outcome = await self._adapter.send(account, self._seal.open(claimed.sealed), held.text, reference)
        except ChannelHalted as halt:
            outcome = await self._halt(account, halt)
        except TextRejected as rejected:
            outcome = self._put_off(account, errand, rejected)
        except WrongKey as error:
            log.error("an address does not open", account=account.name, error=str(error))
            outcome = Deferred(Reason.UNKNOWN_ANSWER)
        except Exception as error:  # the unforeseen, when we may have spoken: a batch must not hang on it for ever
            log.exception("an adapter failed", account=account.name, error=type(error).__name__)
            outcome = Uncertain(Reason.UNKNOWN_ANSWER)
        metrics.PROVIDER_CALLS.labels(channel).observe(time.perf_counter() - started)
        self._measure(errand, outcome)
        if isinstance(outcome, Accepted) and account.name in self._halted:
            await self._open_again(account)
        if isinstance(outcome, Deferred) and outcome.whole_account and outcome.reason not in NOT_OUR_SPEED:
            await self._slow_down(account, outcome)
        return decide(
            outcome,
            attempts=claimed.attempt,
            now=_now(),
            expires=held.batch.not_after,
            maybe_told=claimed.maybe_told,
        )

    async def _halt(self, account: Account, halt: ChannelHalted) -> Deferred:
        """The provider will not serve this account: tell the operators, leave it alone, probe it later."""
        metrics.HALTS.labels(str(account.channel)).inc()
        log.error("channel halted", account=account.name, cause=halt.cause)
        self._line(account.name).close_for(HALT_LASTS)
        self._halted.add(account.name)
        await self._write_halt(account, halted_at=_now(), because=halt.cause[:300])
        return Deferred(Reason.CHANNEL_HALTED, HALT_LASTS, whole_account=True)

    async def _open_again(self, account: Account) -> None:
        """The provider serves the account again: a probe was accepted."""
        self._halted.discard(account.name)
        log.info("channel open again", account=account.name)
        await self._write_halt(account, halted_at=None, because=None)

    async def _write_halt(self, account: Account, *, halted_at: datetime | None, because: str | None) -> None:
        of_account = update(tables.ChannelAccount).where(tables.ChannelAccount.name == account.name)
        try:
            async with self._database.write() as session:
                await session.execute(of_account.values(halted_at=halted_at, halted_because=because))
        except (SQLAlchemyError, OSError) as error:  # the next probe writes it
            log.warning("a halt could not be written", account=account.name, error=type(error).__name__)

    async def _slow_down(self, account: Account, outcome: Deferred) -> None:
        wait = outcome.wait or SLOWED_FOR
        self._line(account.name).close_for(wait)
        try:
            await self._pacer.slow_down(account.name, wait)
        except (SQLAlchemyError, OSError) as error:  # others will be told by the provider themselves
            log.warning("the others were not slowed down", account=account.name, error=type(error).__name__)

    def _put_off(self, account: Account, errand: Errand, rejected: TextRejected) -> Outcome:
        """The text is wrong for everybody, as when its template is paused: no point in asking for each of them.

        One person a batch and a minute asks again until the alert ends: somebody may put the template right.
        """
        held = errand.held
        log.error("text rejected", account=account.name, dispatch=held.batch.dispatch, cause=rejected.cause)
        held.rests_at_least = REJECTION_LASTS
        self._line(account.name).drop(held)
        return Deferred(Reason.TEXT_REJECTED, REJECTION_LASTS, whole_account=True)

    def _measure(self, errand: Errand, outcome: Outcome) -> None:
        held = errand.held
        lane, channel = str(held.lane), str(held.batch.channel)
        match outcome:
            case Accepted():
                seconds = (_now() - held.issued_at).total_seconds()
                metrics.ISSUED_TO_ACCEPTED.labels(lane, channel).observe(seconds)
                metrics.OUTCOMES.labels(lane, channel, "accepted", "").inc()
            case Deferred(reason) | Refused(reason) | Uncertain(reason):
                metrics.OUTCOMES.labels(lane, channel, type(outcome).__name__.lower(), reason.value).inc()

    # ── housekeeping ────────────────────────────────────────────────────────────────────────────────

    async def tidy(self) -> None:
        """Every few seconds: send fruitless batches to rest, notice a line that died, show signs of life."""
        for line in self._lines.values():
            line.check()
            line.give_back_kept_waiting()
            for held in line.fruitless():
                line.drop(held)
        held_long = [batch for line in self._lines.values() for batch in line.held_longer_than(SIGN_OF_LIFE)]
        try:
            if held_long:
                await self._touch(held_long)
        except (SQLAlchemyError, OSError) as error:  # what is told again meanwhile is recognised
            log.warning("no sign of life", batches=len(held_long), error=type(error).__name__)

    async def drain(self) -> None:
        """Finish the calls under way, give back everybody else, write it all down."""
        for line in self._lines.values():
            await line.drain()
        await self._recorder.drain()
        await self._adapter.close()


def text_of(dispatch: tables.Dispatch, alert: tables.Alert | None, account: Account) -> Text:
    """What a dispatch says on an account: an alert fills in the registered template, a reply is free text."""
    if alert is None:
        return Text(dispatch.reply_text or "", expires=dispatch.not_after)
    rendered = rendering.render(cap_json.from_json(alert.document))
    template = account.settings.get("template")
    language = account.settings.get("template_language", "it")
    variables = rendered.variables if template else ()
    return Text(rendered.body, template, variables, language, dispatch.not_after)


def _same(row: tables.Batch, batch: BatchReady) -> bool:
    """Whether a message speaks of the batch as it is: a database that was restored may have numbered anew."""
    return (row.dispatch_id, row.first, row.last) == (batch.dispatch, batch.first, batch.last)


def _now() -> datetime:
    return datetime.now(UTC)
