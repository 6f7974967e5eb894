"""One batch, from the queue to a verdict for each person. The page to read first.

A message names a batch: people `first` to `last` of an audience, on one account. The batch is handed to the line
of its account, which claims people in small slices, leases the provider's capacity, tells the most urgent person
at each slot and reports what became of each. The recorder writes that down and acknowledges the batch.
"""

import asyncio
import time
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import structlog
from sqlalchemy import or_, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from alerting import batching, cap_json, costs, metrics
from alerting.amqp import Incoming
from alerting.buttons import menu_of
from alerting.costs import Price
from alerting.domain import desk, rendering
from alerting.domain.attachments import name_of, short_address, shown_by
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
from alerting.domain.lanes import Lane
from alerting.persistence import Database, ledger, tables
from alerting.sealing import Seal, WrongKey
from consumers.channel import Account, Attachment, ChannelAdapter, Text
from consumers.deadletters import bury, event_in
from consumers.duty import in_template
from consumers.line import Errand, Held, Line
from consumers.mass_failure import serves
from consumers.pacing import PROBE_EVERY, Pacer
from consumers.recording import Recorder
from consumers.wiring import Accounts

log = structlog.get_logger()

REJECTION_LASTS = timedelta(seconds=60)
NOT_OUR_SPEED = frozenset({Reason.CHANNEL_HALTED, Reason.TEXT_REJECTED})
SLOWED_FOR = timedelta(seconds=1)
TEXTS_KEPT = 200
MOST_BYTES_KEPT = 64_000_000
"""Of the pictures and documents of these."""
SIGN_OF_LIFE = 5.0
"""Seconds in hand after which a batch is touched, so that the reconciler does not take it for abandoned."""
LOOKS_FOR_WITHDRAWN = 0.25
"""Seconds between two looks whether anything in hand has been taken back."""


@dataclass(frozen=True, slots=True)
class Saying:
    """What a dispatch says on one account, since when, and what that costs for each person.

    `in_others` is for whoever reads another language.
    """

    text: Text
    issued_at: datetime
    price: Price | None
    in_others: Mapping[str, Text] = field(default_factory=dict)


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
        self._sayings: dict[tuple[int, str], Saying] = {}

    # ── a batch ─────────────────────────────────────────────────────────────────────────────────────

    async def take(self, message: Incoming) -> None:
        """Hand a batch to its account's line. What is not a batch of ours goes to the dead letters."""
        arrived = time.monotonic()
        batch = await event_in(self._database, message, BatchReady)
        if batch is None:
            return None
        if batch.channel is not self._adapter.name:
            sentence = f"a batch for {batch.channel} does not belong in {message.routing_key}"
            return await bury(self._database, message, "misplaced", sentence)
        try:
            account = await self._accounts.get(batch.account)
        except KeyError:
            return await bury(self._database, message, "orphan", f"no authority has the account {batch.account}")
        async with self._database.read() as session:
            row, saying = await self._row_and_saying(session, batch, account)
        if saying is None or row is None or not _same(row, batch):
            sentence = f"batch {batch.batch} of dispatch {batch.dispatch} is not in the database"
            return await bury(self._database, message, "orphan", sentence)
        if row.state == "done" or batch.told < row.told:  # RabbitMQ gave it to us again, or it was told anew since
            return message.ack()
        if _now() >= batch.not_after:
            return await self._end(message, batch, account, Reason.EXPIRED)
        line = self._line(account)
        held = Held(
            message,
            batch,
            account,
            saying.text,
            saying.issued_at,
            arrived,
            price=saying.price,
            in_others=saying.in_others,
        )
        if line.is_full(batch.lane) and line.has(batch):
            return await self._leave_waiting(message, batch)
        if line.is_full(batch.lane) and line.halted:
            held.exhausted, held.rests_at_least = True, timedelta(seconds=PROBE_EVERY)
            return self._recorder.spent(held)
        if row.state != "told":
            await self._touch([row.id])
        line.take(held)
        return None

    async def _leave_waiting(self, message: Incoming, batch: BatchReady) -> None:
        """Enough of its dispatch is here: it is told again when the next of these ends."""
        async with self._database.write() as session:
            await batching.untell(session, batch)
        message.ack()

    async def _touch(self, batches: list[int]) -> None:
        async with self._database.write() as session:
            await batching.touch(session, batches)

    async def _end(self, message: Incoming, batch: BatchReady, account: Account, reason: Reason) -> None:
        """Nobody of it is told any more. With whom another worker is right now is that worker's to finish."""
        async with self._database.write() as session:
            await ledger.withdraw(session, batch.dispatch, batch.first, batch.last, reason, now=time.time())
            left = await ledger.left_of(session, batch.dispatch, batch.first, batch.last)
            if left.unfinished == 0:
                await batching.finish(session, batch)
        if left.unfinished:
            held = Held(message, batch, account, Text(""), batch.not_after, time.monotonic(), exhausted=True)
            return self._recorder.spent(held)  # to be looked at again when the claims have run out
        message.ack()
        return None

    async def _row_and_saying(
        self, session: AsyncSession, batch: BatchReady, account: Account
    ) -> tuple[tables.Batch | None, Saying | None]:
        """The row of a batch, and what its dispatch says on this account: read once, rendered once."""
        key = (batch.dispatch, batch.account)
        if key in self._sayings:
            return await session.get(tables.Batch, batch.batch), self._sayings[key]
        rows = (
            select(tables.Batch, tables.Dispatch, tables.Alert)
            .join(tables.Dispatch, tables.Dispatch.id == tables.Batch.dispatch_id)
            .outerjoin(tables.Alert, tables.Alert.identifier == tables.Dispatch.alert)
        )
        found = (await session.execute(rows.where(tables.Batch.id == batch.batch))).one_or_none()
        if found is None or not _same(found[0], batch):
            return None, None
        row, dispatch, alert = found
        return row, await self._saying(session, dispatch, alert, account)

    async def _saying(
        self, session: AsyncSession, dispatch: tables.Dispatch, alert: tables.Alert | None, account: Account
    ) -> Saying:
        """What a dispatch says on this account; kept, in place of the oldest where there is no room."""
        enclosure = await _enclosure(session, alert, account) if alert else None
        unsealed = self._seal.open(dispatch.reply_sealed) if dispatch.reply_sealed else None
        said = text_of(dispatch, alert, account, enclosure, unsealed)
        price = costs.price(account.channel, account.micro_euro, dispatch.lane, said.body)
        others = in_other_languages(said, alert, account) if alert else {}
        key = (dispatch.id, account.name)
        self._sayings[key] = saying = Saying(said, dispatch.issued_at, price, others)
        while len(self._sayings) > TEXTS_KEPT or self._bytes_kept() > MOST_BYTES_KEPT:
            oldest = next(iter(self._sayings))
            if oldest == key:
                break
            self._sayings.pop(oldest)
        return saying

    def _bytes_kept(self) -> int:
        enclosures = (saying.text.enclosure for saying in self._sayings.values())
        return sum(len(enclosure.content) for enclosure in enclosures if enclosure)

    def _line(self, account: Account) -> Line:
        name = account.paced_as
        if name not in self._lines:
            line = Line(name, self._database, self._pacer, self._tell, self._recorder)
            line.start()
            self._lines[name] = line
        return self._lines[name]

    # ── a person ────────────────────────────────────────────────────────────────────────────────────

    async def _tell(self, errand: Errand) -> Decision:
        """One person, one call, one decision. Whatever the provider does, somebody is told or tried again."""
        held, claimed, account = errand.held, errand.claimed, errand.held.account
        if claimed.sealed is None:
            return Done(Progress.WITHDRAWN, Reason.LEFT)
        if _now() >= held.batch.not_after:
            return Done(Progress.FAILED, Reason.EXPIRED)
        held.figures.enqueued_to_sent.observe(time.monotonic() - held.arrived)
        reference = f"{held.batch.dispatch}.{claimed.seq}.{claimed.attempt}"
        started = time.perf_counter()
        outcome: Outcome
        try:
            said = held.in_others.get(claimed.language, held.text)
            outcome = await self._adapter.send(account, self._seal.open(claimed.sealed), said, reference)
        except ChannelHalted as halt:
            await self._halt(account, halt.cause)
            outcome = Deferred(Reason.CHANNEL_HALTED, timedelta(seconds=PROBE_EVERY), whole_account=True)
        except TextRejected as rejected:
            outcome = self._put_off(account, errand, rejected)
        except asyncio.CancelledError:  # the drain cuts who takes too long: it may have arrived
            outcome = Uncertain()
        except WrongKey as error:
            log.error("an address does not open", account=account.name, error=str(error))
            outcome = Deferred(Reason.UNKNOWN_ANSWER)
        except Exception as error:  # the unforeseen, when we may have spoken: a batch must not hang on it for ever
            log.exception("an adapter failed", account=account.name, error=type(error).__name__)
            outcome = Uncertain(Reason.UNKNOWN_ANSWER)
        held.figures.provider_calls.observe(time.perf_counter() - started)
        self._measure(errand, outcome)
        probed = self._line(account).halted
        await self._heed(account, outcome)
        if probed and isinstance(outcome, Deferred):
            # Whoever probes an open breaker is not to blame, nor to be told later than who was not asked.
            outcome = replace(outcome, whole_account=True, wait=timedelta(seconds=PROBE_EVERY))
        return decide(
            outcome,
            attempts=claimed.attempt,
            now=_now(),
            expires=held.batch.not_after,
            maybe_told=claimed.maybe_told,
        )

    async def _heed(self, account: Account, outcome: Outcome) -> None:
        """What an answer says about the account, beyond this person."""
        line = self._line(account)
        if line.failures.sees(outcome):
            await self._halt(account, "nearly every call fails; see the attempts' reasons")
        elif line.halted and serves(outcome):
            line.halted = False
            log.info("channel open again", account=account.name)
            await self._tell_all(self._pacer.open_again(account.paced_as), account)
        if isinstance(outcome, Deferred) and outcome.whole_account and outcome.reason not in NOT_OUR_SPEED:
            wait = outcome.wait or SLOWED_FOR
            line.close_for(wait)
            await self._tell_all(self._pacer.slow_down(account.paced_as, wait), account)

    async def _halt(self, account: Account, cause: str) -> None:
        """The provider will not serve this account: tell the operators, leave it alone, probe it now and then."""
        if self._line(account).halted:
            return  # a probe found it so, or a call that was under way
        metrics.HALTS.labels(str(account.channel)).inc()
        log.error("channel halted", account=account.name, cause=cause)
        self._line(account).halt()
        await self._tell_all(self._pacer.halt(account.paced_as, cause), account)

    async def _tell_all(self, change: Awaitable[None], account: Account) -> None:
        """Write what the other processes must know. They would find it out by themselves, a call each."""
        try:
            await change
        except (SQLAlchemyError, OSError) as error:
            log.warning("the others were not told of a halt or a pause", account=account.name, error=repr(error)[:200])

    def _put_off(self, account: Account, errand: Errand, rejected: TextRejected) -> Outcome:
        """The text is wrong for everybody, as when its template is paused: no point in asking for each of them.

        One person a batch and a minute asks again until the alert ends: somebody may put the template right.
        """
        held = errand.held
        log.error("text rejected", account=account.name, dispatch=held.batch.dispatch, cause=rejected.cause)
        held.rests_at_least = REJECTION_LASTS
        self._line(account).drop(held)
        return Deferred(Reason.TEXT_REJECTED, REJECTION_LASTS, whole_account=True)

    def _measure(self, errand: Errand, outcome: Outcome) -> None:
        held = errand.held
        match outcome:
            case Accepted():
                held.figures.issued_to_accepted.observe((_now() - held.issued_at).total_seconds())
                held.figures.accepted.inc()
            case Deferred(reason) | Refused(reason) | Uncertain(reason):
                lane, channel = str(held.lane), str(held.batch.channel)
                metrics.OUTCOMES.labels(lane, channel, type(outcome).__name__.lower(), reason.value).inc()

    # ── what was taken back ─────────────────────────────────────────────────────────────────────────

    async def watch(self) -> None:
        """Give back whoever is in hand of what was withdrawn or has expired: within a second nobody more is told."""
        while True:
            await asyncio.sleep(LOOKS_FOR_WITHDRAWN)
            in_hand = [(line, held) for line in self._lines.values() for held in line.in_hand()]
            if not in_hand:
                continue
            try:
                over = await self._over({held.dispatch for _, held in in_hand})
            except (SQLAlchemyError, OSError) as error:
                log.warning("not looking for what was withdrawn", error=type(error).__name__)
                continue
            for line, held in in_hand:
                if held.dispatch in over:
                    line.drop(held)

    async def _over(self, dispatches: set[int]) -> set[int]:
        of_these = select(tables.Dispatch.id).where(
            tables.Dispatch.id.in_(dispatches),
            or_(tables.Dispatch.withdrawn_at.is_not(None), tables.Dispatch.not_after <= _now()),
        )
        async with self._database.read() as session:
            return set((await session.scalars(of_these)).all())

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
        """Leave what is not begun to the other workers, at once; finish the calls under way, and write it all down."""
        lines = self._lines.values()
        for line in lines:
            await line.stop()
        await self._recorder.flush()  # whoever is given back can be claimed by others
        for line in lines:
            line.hand_back()
        await asyncio.gather(*(line.finish_calls() for line in lines))
        await self._recorder.drain()
        await self._adapter.close()


async def _enclosure(session: AsyncSession, alert: tables.Alert, account: Account) -> Attachment | None:
    """The picture or the PDF that goes with an alert's text; None where there is none or the account carries none."""
    shown = shown_by(cap_json.from_json(alert.document)) if alert.enclosure else None
    if shown is None or not rendering.carries(account.channel, account.settings, shown.mime_type, shown.size):
        return None
    row = await session.get(tables.Attachment, alert.enclosure)
    if row is None:  # then the words say where it was: better than nothing said
        log.error("what an alert shows is not there", alert=alert.identifier)
        return None
    name = name_of(row.sha256, row.media_type)
    return Attachment(name, row.media_type, row.content, row.sha256, short_address(shown.uri), shown.resource_desc)


def text_of(
    dispatch: tables.Dispatch,
    alert: tables.Alert | None,
    account: Account,
    enclosure: Attachment | None = None,
    unsealed: str | None = None,
) -> Text:
    """What a dispatch says on an account: a reply is free text, an alert or a call fills in the registered template.

    What an alert shows goes with it as its `enclosure`, or else is found by what the words say. `unsealed` are the
    words of a reply that were kept sealed.
    """
    template = account.settings.get("template")
    language = account.settings.get("template_language", "it")
    if alert is None:
        words = unsealed or dispatch.reply_text or ""
        menu = menu_of(dispatch.reply_menu)
        if template is None:
            return Text(words, expires=dispatch.not_after, buttons=menu.rows, edits=menu.edits)
        if dispatch.lane is Lane.REPLY:  # free, unless the provider finds that they wrote too long ago
            return Text(words, None, answer_in_template(words), language, dispatch.not_after)
        in_five = desk.in_template if dispatch.lane is Lane.ROUTINE else in_template  # the desk, or a call to duty
        return Text(words, template, in_five(words), language, dispatch.not_after)
    said = cap_json.from_json(alert.document)
    rendered = rendering.render(said, rendering.FORM_OF[account.channel], link=enclosure is None)
    return Text(
        rendered.body,
        template,
        rendered.variables if template else (),
        language,
        dispatch.not_after,
        subject=rendered.subject,
        urgent=dispatch.lane.is_urgent,
        thread=(*(earlier.identifier for earlier in said.references), said.identifier),
        attachments=(Attachment("allerta.xml", "application/cap+xml", alert.cap),) if alert.cap else (),
        enclosure=enclosure,
    )


def answer_in_template(words: str) -> tuple[str, ...]:
    """A reply as the five contents of the registered template, in one line each."""
    again = "se serve altro, scrivi di nuovo qui."
    return "risposta al tuo messaggio", "in questa conversazione", "adesso", " ".join(words.split()), again


def in_other_languages(text: Text, alert: tables.Alert, account: Account) -> dict[str, Text]:
    """The same for whoever reads another of the alert's languages: it begins in that. Rendered once, like the text."""
    said, found = cap_json.from_json(alert.document), {}
    for language in rendering.other_tongues(said):
        rendered = rendering.led_by(said, rendering.FORM_OF[account.channel], language, link=text.enclosure is None)
        if rendered is not None:
            variables = rendered.variables if text.template else ()
            found[language] = replace(text, body=rendered.body, variables=variables, subject=rendered.subject)
    return found


def _same(row: tables.Batch, batch: BatchReady) -> bool:
    """Whether a message speaks of the batch as it is: a database that was restored may have numbered anew."""
    of_row = (row.dispatch_id, row.account, row.lane, row.first, row.last)
    return of_row == (batch.dispatch, batch.account, batch.lane, batch.first, batch.last)


def _now() -> datetime:
    return datetime.now(UTC)
