"""The consuming processes: `python -m consumers fanout | deliver | receipts | inbound | desk | intake | …`.

And `check`, which consumes nothing: whether providers have what we need of them.
"""

from dataclasses import asdict
from typing import Annotated

import structlog
import typer

from alerting import atlas, authorities, metrics, priority
from alerting.domain.authority import Authority
from alerting.domain.delivery import Channel, ChannelHalted
from alerting.domain.lanes import Lane
from alerting.persistence import Database
from alerting.processes import run
from alerting.settings import MissingSetting, Settings
from alerting.topology import (
    DESK_QUEUE,
    INBOUND_QUEUE,
    INTAKE_QUEUE,
    RECEIPTS_QUEUE,
    dead_queue,
    deliver_queue,
    fanout_queue,
)
from consumers.worker import Worker

log = structlog.get_logger()
app = typer.Typer(add_completion=False, no_args_is_help=True, help=__doc__)
# Each command imports what it works with: what all work with would cost it a second and forty megabytes.

BATCHES_IN_HAND = 128
"""Prefetch, for each lane. It does no harm here: lanes have queues of their own, each slot is spent on the highest, and
no number has more than a few in hand; so a hundred that wait do not stand before one that need not."""


@app.command()
def fanout() -> None:
    """Work out who is to be told of each issued alert."""
    from consumers.fanout import FanOut

    async def work(settings: Settings) -> None:
        worker = Worker(settings, "fanout")
        known = await _known(worker)
        fan_out = FanOut(worker.database, known)
        for lane in Lane:
            # Several at once: a Cancel that waits for calls under way holds up no other alert.
            worker.takes(fanout_queue(lane), fan_out.take, prefetch=8, at_once=4)
        await worker.run(beside={"following the atlas": atlas.follow(worker.database, known)})

    run(work)


@app.command()
def deliver(
    channel: Annotated[Channel, typer.Option(help="Which way to reach people.")],
    urgent_only: Annotated[bool, typer.Option(help="Take only what is flash or emergency.")] = False,
) -> None:
    """Tell people, the most urgent first, never above what the provider allows."""
    from consumers import wiring
    from consumers.deliver import Delivery
    from consumers.recording import Recorder

    async def work(settings: Settings) -> None:
        worker = Worker(settings, f"deliver-{channel}{'-urgent' if urgent_only else ''}")
        await worker.until_database()
        accounts = wiring.Accounts(worker.database, settings, channel)
        await accounts.read()
        recorder = Recorder(worker.database, worker.publisher, worker.seal, worker.prefix)
        adapter = wiring.adapter(channel, settings, worker.database, worker.seal)
        delivery = Delivery(worker.database, adapter, accounts, recorder, worker.seal)
        metrics.begin_at_zero(map(str, Lane), str(channel))
        for lane in Lane:
            if lane.is_urgent or not urgent_only:
                worker.takes(
                    deliver_queue(channel, lane),
                    delivery.take,
                    prefetch=BATCHES_IN_HAND,
                    at_once=4,
                    before_others=urgent_only,  # it does nothing else, and is at it at once
                )
        beside = {"recorder": recorder.run(), "watch for what is withdrawn": delivery.watch()}
        beside |= wiring.beside(adapter, accounts)
        await worker.run(tidy=delivery.tidy, drain=delivery.drain, beside=beside)

    run(work)


@app.command()
def receipts() -> None:
    """Write down what providers say became of each text."""
    from consumers.receipts import Receipts

    async def work(settings: Settings) -> None:
        worker = Worker(settings, "receipts")
        worker.give_way(priority.AFTER_ANSWERS)
        taking = Receipts(worker.database)
        worker.takes(RECEIPTS_QUEUE, taking.take, prefetch=1000, at_once=500)
        await worker.run(beside={"writing": taking.run()})

    run(work)


@app.command()
def inbound() -> None:
    """Understand what citizens write, and answer."""
    from alerting.choosing import ChoicesPage
    from alerting.knowing import DataLinks
    from consumers.inbound import Inbound

    async def work(settings: Settings) -> None:
        worker = Worker(settings, "inbound")
        worker.give_way(priority.AFTER_ALERTS)
        known = await _known(worker)
        page = ChoicesPage(settings.public_url, settings.key_bytes)
        links = DataLinks(settings.key_bytes, settings.public_url)
        reading = Inbound(worker.database, known, worker.seal, page, links=links)
        worker.takes(INBOUND_QUEUE, reading.take, prefetch=400, at_once=200)
        following = atlas.follow(worker.database, known)
        await worker.run(drain=reading.drain, beside={"following the atlas": following})

    run(work)


@app.command()
def desk() -> None:
    """Read what citizens report to two-way comuni and which appointments they ask for; say what is due to them."""
    from consumers.desk import Errands, Reader

    async def work(settings: Settings) -> None:
        worker = Worker(settings, "desk")
        worker.give_way(priority.AFTER_ANSWERS)
        known = await _known(worker)
        reader = Reader(worker.database, known, worker.seal)
        errands = Errands(worker.database, known, worker.seal, settings, reader)
        worker.takes(DESK_QUEUE, reader.take, prefetch=32, at_once=2)
        beside = {"saying": errands.say(), "photographs": errands.photographs(), "looking": errands.look()}
        await worker.run(beside=beside | {"following the atlas": atlas.follow(worker.database, known)})

    run(work)


@app.command()
def poll_telegram() -> None:
    """Ask for what citizens write to bots whose file says updates = "polling", where no webhook can come."""
    from alerting.desk.handing import Desks
    from consumers import wiring
    from consumers.updates import Polling

    async def work(settings: Settings) -> None:
        worker = Worker(settings, "poll-telegram")
        await worker.until_database()
        accounts = wiring.Accounts(worker.database, settings, Channel.TELEGRAM)
        await accounts.read()
        polled = [account for account in accounts.known() if account.settings.get("updates") == "polling"]
        # Comuni that share a bot share its updates: it is asked once, for the account it is paced as.
        bots = {account.paced_as: await accounts.get(account.paced_as) for account in polled}
        if not bots:
            typer.echo('no telegram account has updates = "polling" among its settings: there is nothing to ask for')
            raise typer.Exit(1)
        desks = Desks(authorities.load(settings.authorities_folder))
        asking = (Polling(worker.database, worker.seal, account, desks) for account in bots.values())
        await worker.run(beside={f"polling {name}": one.run() for name, one in zip(bots, asking, strict=True)})

    run(work)


@app.command()
def telegram_webhook(
    account: Annotated[str, typer.Option(help="The account, as the comune's file names it: telegram.calcinaia.")],
    delete: Annotated[bool, typer.Option("--delete", help="Have updates kept until they are asked for.")] = False,
) -> None:
    """Tell Telegram where the API takes a bot's updates: at ALERTING_PUBLIC_URL, with the account's webhook_secret."""
    from consumers import wiring
    from consumers.updates import NotSet, delete_webhook, set_webhook

    async def work(settings: Settings) -> None:
        database = Database(settings.database)
        try:
            bot = await wiring.Accounts(database, settings, Channel.TELEGRAM).get(account)
            if delete:
                typer.echo(await delete_webhook(bot))
                return
            if not settings.public_url:
                raise NotSet("ALERTING_PUBLIC_URL is not set: it is where Telegram is to find the API")
            if bot.settings.get("updates") == "polling":
                raise NotSet('its file says updates = "polling": take that out first, or nobody would ask for them')
            url = f"{settings.public_url.rstrip('/')}/v1/webhooks/telegram/{account}"
            typer.echo(await set_webhook(bot, url, settings.secrets.get(account, "webhook_secret")))
        except KeyError:
            typer.echo(f"no comune has the telegram account {account}", err=True)
            raise typer.Exit(1) from None
        except (NotSet, ChannelHalted, MissingSetting) as trouble:
            typer.echo(str(trouble), err=True)
            raise typer.Exit(1) from None
        finally:
            await database.close()

    run(work)


@app.command()
def intake() -> None:
    """Take CAP that others publish to the queue intake.cap; look again at whatever was left behind."""
    from alerting import signatures, sources
    from alerting.intake.receiving import Receiver
    from consumers.duty import Duty
    from consumers.intake import Intake, look_again

    async def work(settings: Settings) -> None:
        worker = Worker(settings, "intake")
        known, heard = await _known(worker), sources.load(settings.sources_folder)
        receiver = Receiver(worker.database, known, heard, signatures.of(settings, known))
        taking = Intake(worker.database, receiver, heard)
        worker.takes(INTAKE_QUEUE, taking.take, prefetch=16, at_once=2)
        duty = Duty(worker.database, known, worker.seal)
        following = atlas.follow(worker.database, known)
        beside = {"looking again": look_again(receiver), "calling": duty.run(), "following the atlas": following}
        await worker.run(beside=beside)

    run(work)


@app.command()
def reconcile() -> None:
    """Publish again what nobody works on; end what has expired; keep what RabbitMQ gave up on; resettle new areas."""
    from alerting import growth
    from alerting.resettling import Resettling
    from consumers.deadletters import Keeper
    from consumers.reconcile import Reconciler

    async def work(settings: Settings) -> None:
        worker = Worker(settings, "reconcile")
        worker.give_way(priority.AFTER_ANSWERS)
        keeper = Keeper(worker.database)
        for lane in Lane:
            worker.takes(dead_queue(lane), keeper.take, prefetch=50)
        known = authorities.load(settings.authorities_folder)
        resettling = Resettling(worker.database, known)
        looking = Reconciler(worker.database, months=settings.retention_months, days=settings.inbox_days)
        beside = {"looking": looking.run(), "resettling": resettling.run()}
        await worker.run(beside=beside | {"following growth": growth.follow(worker.database, known)})

    run(work)


@app.command()
def staff(
    trial: Annotated[
        bool, typer.Option("--try", help="Send everybody a trial notice, print what came of it, end.")
    ] = False,
) -> None:
    """Tell the staff what is amiss: halted accounts, approvals wanted, silent sources, what nobody could work on."""
    from alerting.domain.notices import Answer
    from consumers.staff import announce, try_all  # Apprise, which no other process may load

    async def try_and_say(settings: Settings) -> None:
        replies = await try_all(settings)
        for account, reply in replies:
            typer.echo(f"{account}: {reply.answer}" + (f" ({reply.why})" if reply.why else ""))
        if not replies:
            typer.echo("Nobody is named: write [[staff]] in a comune's file, or set ALERTING_STAFF.")
        if not all(reply.answer is Answer.SENT for _, reply in replies):
            raise typer.Exit(1)

    run(try_and_say if trial else announce)


@app.command()
def check(channel: Annotated[Channel, typer.Option(help="Which provider to ask.")] = Channel.WHATSAPP) -> None:
    """Ask Meta whether each template stands as the comuni's files say. Ends with 1 where something is to be done."""
    if channel is not Channel.WHATSAPP:
        raise typer.BadParameter(f"{channel} has no templates: nothing is registered there")
    from consumers import wiring
    from consumers.channels import whatsapp_templates

    async def work(settings: Settings) -> None:
        database = Database(settings.database)
        try:
            accounts = wiring.Accounts(database, settings, channel)
            await accounts.read()
            findings = [finding for account in accounts.known() for finding in await whatsapp_templates.look(account)]
        finally:
            await database.close()
        for finding in sorted(findings, key=lambda one: not one.grave):
            log.warning("a template is not as it should be", **asdict(finding))
            typer.echo(f"{'GRAVE' if finding.grave else 'look'}: {finding}")
        if findings:
            raise typer.Exit(1)
        typer.echo(f"{len(accounts.known())} accounts: every template stands as their files say")

    run(work)


async def _known(worker: Worker) -> dict[str, Authority]:
    """Who speaks, with their territories as the database has them: read before the first message is taken."""
    known = authorities.load(worker.settings.authorities_folder)
    await worker.until_database()
    await atlas.refresh(worker.database, known)
    return known


if __name__ == "__main__":
    app()
