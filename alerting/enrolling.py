"""The authorities' files become rows: areas, accounts and their rates, public Telegram channels, and panels."""

from collections.abc import Iterable
from datetime import datetime

from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from alerting import costs, subscribing, surveying
from alerting.domain.authority import Authority, ChannelAccess
from alerting.domain.delivery import Channel
from alerting.domain.panels import Panel
from alerting.persistence import fallbacks, tables
from alerting.sealing import Seal
from alerting.surveying import What


async def enrol(
    session: AsyncSession,
    authorities: Iterable[Authority],
    seal: Seal,
    *,
    share_of_limit: float,
    now: datetime,
) -> None:
    """Bring the rows to what the files say. Safe to run again; nothing is ever removed."""
    for authority in authorities:
        await session.merge(
            tables.Authority(
                code=authority.code,
                istat=authority.istat,
                name=authority.name,
                file_hash=authority.file_hash,
                fallback=fallbacks.written(authority.fallback),
            )
        )
        await session.flush()
        await _enrol_areas(session, authority, now)
        for access in authority.channels:
            await _enrol_account(session, authority, access, share_of_limit)
            await _enrol_public_channel(session, authority, access, seal, now)
            if access.channel is Channel.MQTT:
                await _enrol_panels(session, authority, access, seal, now)
    await session.flush()
    await _share_numbers(session)


async def _enrol_areas(session: AsyncSession, authority: Authority, now: datetime) -> None:
    """What the file draws, where nothing newer is known: what was imported stays until the file counts beyond it."""
    newest = select(tables.Area.code, func.max(tables.Area.version)).group_by(tables.Area.code)
    known = dict((await session.execute(newest)).all())
    drawn = [area for area in authority.territory.areas if area.version > known.get(area.code, 0)]
    if drawn:
        changes = await surveying.take(session, drawn, now=now)
        followed = [change for change in changes if change.what is What.FOLLOWS]
        await surveying.record(session, followed, actor=f"{authority.code}.toml", now=now)


async def _enrol_account(
    session: AsyncSession, authority: Authority, access: ChannelAccess, share_of_limit: float
) -> None:
    account = await session.get(tables.ChannelAccount, access.name) or tables.ChannelAccount(
        name=access.name, authority=authority.code, channel=access.channel, live=not access.exercise
    )
    account.identity, account.settings = access.identity, dict(access.settings)
    if access.channel is Channel.MQTT:
        account.settings["istat"] = authority.istat  # of every topic of the comune
    account.portfolio = await _enrol_portfolio(session, access)
    account.micro_euro = None if access.euro_per_text is None else costs.micro(access.euro_per_text)
    session.add(account)
    await session.flush()
    rate = access.per_second * share_of_limit
    limits = await session.get(tables.ProviderRate, access.name)
    if limits is None:
        session.add(tables.ProviderRate(account=access.name, rate=rate, full_rate=rate))
    elif limits.full_rate != rate:
        limits.full_rate = limits.rate = rate


async def _share_numbers(session: AsyncSession) -> None:
    """Comuni that share a number share what its provider allows: all keep the pace of the first by name.

    Panels have no number: that two comuni call theirs the same means nothing.
    """
    other = aliased(tables.ChannelAccount)
    first = select(func.min(other.name)).where(
        other.channel == tables.ChannelAccount.channel, other.identity == tables.ChannelAccount.identity
    )
    await session.execute(
        update(tables.ChannelAccount)
        .where(tables.ChannelAccount.channel != Channel.MQTT)
        .values(paced_as=first.scalar_subquery())
        .execution_options(synchronize_session=False)
    )


async def _enrol_portfolio(session: AsyncSession, access: ChannelAccess) -> str | None:
    if not access.portfolio:
        return None
    await session.merge(tables.Portfolio(name=access.portfolio, people_per_day=access.people_per_day))
    await session.flush()
    return access.portfolio


async def _enrol_public_channel(
    session: AsyncSession, authority: Authority, access: ChannelAccess, seal: Seal, now: datetime
) -> None:
    """A Telegram channel is a recipient whose place is not known: it is told everything, by one post."""
    chat = access.settings.get("chat_id")
    if access.channel is not Channel.TELEGRAM or not chat:
        return
    fingerprint = seal.fingerprint(chat)
    known = select(tables.Address.id).where(
        tables.Address.account == access.name, tables.Address.fingerprint == fingerprint
    )
    if await session.scalar(known):
        return
    recipient = tables.Recipient(authority=authority.code, is_channel=True, live=not access.exercise, joined_at=now)
    session.add(recipient)
    await session.flush()
    session.add(
        tables.Address(recipient_id=recipient.id, account=access.name, fingerprint=fingerprint, sealed=seal.seal(chat))
    )


async def _enrol_panels(
    session: AsyncSession, authority: Authority, access: ChannelAccess, seal: Seal, now: datetime
) -> None:
    """Each is a recipient at its place. One that the file no longer has is told nothing more."""
    known = select(tables.Panel).where(tables.Panel.account == access.name)
    rows = {row.topic: row for row in await session.scalars(known)}
    for panel in authority.panels:
        if panel.exercise is not access.exercise:
            continue
        row = rows.pop(panel.topic(authority.istat), None) or await _a_new_panel(
            session, authority, access, panel, seal, now
        )
        row.lines, row.columns = panel.lines, panel.columns
        row.only = sorted(str(lane) for lane in panel.only)
        recipient = await session.get_one(tables.Recipient, row.recipient_id)
        recipient.left_at = None
        await session.flush()
        await subscribing.settle(session, recipient, [panel.place], authority)
    for row in rows.values():
        recipient = await session.get_one(tables.Recipient, row.recipient_id)
        recipient.left_at = recipient.left_at or now


async def _a_new_panel(
    session: AsyncSession, authority: Authority, access: ChannelAccess, panel: Panel, seal: Seal, now: datetime
) -> tables.Panel:
    topic = panel.topic(authority.istat)
    recipient = tables.Recipient(authority=authority.code, is_channel=True, live=not access.exercise, joined_at=now)
    session.add(recipient)
    await session.flush()
    address = tables.Address(
        recipient_id=recipient.id, account=access.name, fingerprint=seal.fingerprint(topic), sealed=seal.seal(topic)
    )
    session.add(address)
    await session.flush()
    row = tables.Panel(
        authority=authority.code,
        account=access.name,
        name=panel.name,
        topic=topic,
        kind=panel.kind,
        recipient_id=recipient.id,
        address_id=address.id,
        since=now,
        missing_since=now,
    )
    session.add(row)
    return row
