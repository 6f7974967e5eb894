"""What is amiss with the system now, as the tables say: nothing is missed for having happened while nobody looked."""

from collections.abc import Mapping
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from alerting.domain.authority import Authority
from alerting.domain.cap import Status
from alerting.domain.intake import IntakeState
from alerting.domain.lifecycle import State
from alerting.domain.notices import APPROVAL_WAITS, CALLS_IN_VAIN, Matter, Trouble
from alerting.domain.sources import Source
from alerting.feeds.silence import silent
from alerting.persistence.tables import Alert, ChannelAccount, DeadLetter, Feed, Intake, Page, ProviderRate


async def troubles(
    session: AsyncSession, authorities: Mapping[str, Authority], sources: Mapping[str, Source], now: datetime
) -> list[Trouble]:
    """All that is amiss now. No sentence holds what somebody wrote, nor a person."""
    return [
        *await _halts(session),
        *await _approvals(session, authorities, now),
        *await _feeds(session, sources, now),
        *await _dead_letters(session),
        *await _quarantine(session, sources),
        *await _pages(session),
    ]


async def _halts(session: AsyncSession) -> list[Trouble]:
    """Of a number that several comuni share, each is told."""
    query = (
        select(ChannelAccount)
        .join(ProviderRate, ProviderRate.account == ChannelAccount.paced_as)
        .where(ProviderRate.halted_at > 0)
        .order_by(ChannelAccount.name)
    )
    return [
        Trouble(
            about=f"account {account.name}",
            matter=Matter.HALTS,
            authority=account.authority,
            sentence=f"{account.name} è fermo: il fornitore non accetta più i messaggi di questo account. Chi ha un "
            "secondo recapito è avvisato lì. Leggi il motivo nello stato del sistema (/v1/status) e rimedia con il "
            "fornitore; la ripresa è automatica.",
            over=f"{account.name} invia di nuovo.",
            urgent=account.live,
        )
        for account in await session.scalars(query)
    ]


async def _approvals(session: AsyncSession, authorities: Mapping[str, Authority], now: datetime) -> list[Trouble]:
    query = (
        select(Alert.identifier, Alert.authority, Alert.kind, Alert.lane, Alert.status, Alert.drafted_at)
        .where(Alert.state == State.DRAFT, Alert.expires_at > now)
        .order_by(Alert.drafted_at)
    )
    found = []
    for alert in await session.execute(query):
        comune = authorities[alert.authority].name if alert.authority in authorities else alert.authority
        live = alert.status is Status.ACTUAL
        urgent = live and alert.lane.is_urgent
        drill = "" if live else "Esercitazione. "
        found.append(
            Trouble(
                about=f"alert {alert.identifier}",
                matter=Matter.APPROVALS,
                authority=alert.authority,
                sentence=f"{drill}{comune}: aspetta l'approvazione di una seconda persona "
                f"{'un avviso urgente' if urgent else 'un avviso'} ({alert.kind.value.replace('-', ' ')}). "
                f"Apri {alert.identifier} nella console, e approvalo o annullalo.",
                over=f"{alert.identifier} non aspetta più approvazione.",
                urgent=urgent,
                ripe=urgent or now - alert.drafted_at >= APPROVAL_WAITS,
            )
        )
    return found


async def _feeds(session: AsyncSession, sources: Mapping[str, Source], now: datetime) -> list[Trouble]:
    found = []
    for feed in await session.scalars(select(Feed).where(Feed.silent_since.is_not(None)).order_by(Feed.source)):
        source = sources.get(feed.source)
        if source is None or not source.enabled or source.polling is None:
            continue  # nobody asks it any more
        sentence = silent(source, feed, now) or "non dà più notizie: consultare il suo sito."
        found.append(
            Trouble(
                about=f"source {feed.source}",
                matter=Matter.FEEDS,
                authority=None,
                sentence=f"{source.title}: {sentence}",
                over=f"{source.title} risponde di nuovo.",
            )
        )
    return found


async def _dead_letters(session: AsyncSession) -> list[Trouble]:
    query = (
        select(DeadLetter.lane, DeadLetter.why, func.count(), func.max(DeadLetter.id))
        .where(DeadLetter.ended_at.is_(None))
        .group_by(DeadLetter.lane, DeadLetter.why)
        .order_by(DeadLetter.lane, DeadLetter.why)
    )
    return [
        Trouble(
            about=f"dead letters {lane} {why}",
            matter=Matter.DEAD_LETTERS,
            authority=None,
            sentence=f"Corsia {lane}: {_counted(count, 'messaggio scartato', 'messaggi scartati')} ({why}). Leggi il "
            "perché con `python -m alerting dead-letters list`, poi ripetili o archiviali.",
            over=f"Corsia {lane}: nessun messaggio scartato ({why}) aspetta più.",
            urgent=lane.is_urgent,
            mark=newest,
        )
        for lane, why, count, newest in await session.execute(query)
    ]


async def _quarantine(session: AsyncSession, sources: Mapping[str, Source]) -> list[Trouble]:
    query = (
        select(Intake.source, func.count(), func.max(Intake.id))
        .where(Intake.state == IntakeState.QUARANTINED)
        .group_by(Intake.source)
        .order_by(Intake.source)
    )
    found = []
    for name, count, newest in await session.execute(query):
        title = sources[name].title if name in sources else name
        found.append(
            Trouble(
                about=f"quarantine {name}",
                matter=Matter.QUARANTINE,
                authority=None,
                sentence=f"{title}: {_counted(count, 'documento', 'documenti')} in quarantena. Decidi nella console se "
                "vale; finché non decidi non parte nulla.",
                over=f"{title}: nessun documento in quarantena.",
                mark=newest,
            )
        )
    return found


async def _pages(session: AsyncSession) -> list[Trouble]:
    """All of an authority's as one: a storm of documents makes a storm of pages.

    A page whose calls begin anew, for it says something graver, is unanswered all the same.
    """
    in_vain = Page.called >= CALLS_IN_VAIN
    query = (
        select(Page.authority, func.count(), func.max(Page.id).filter(in_vain), func.max(Page.called))
        .where(Page.acknowledged_at.is_(None))
        .group_by(Page.authority)
        .order_by(Page.authority)
    )
    return [
        Trouble(
            about=f"pages {authority or 'all'}",
            matter=Matter.PAGES,
            authority=authority,
            sentence=f"La reperibilità non risponde: {_counted(count, 'pagina aperta', 'pagine aperte')}, fino a "
            f"{called} chiamate. Apri la console e conferma di averle viste.",
            over="Tutte le pagine hanno avuto risposta.",
            urgent=True,
            ripe=latest is not None,
            mark=latest or 0,
        )
        for authority, count, latest, called in await session.execute(query)
    ]


def _counted(count: int, one: str, many: str) -> str:
    return f"{count} {one if count == 1 else many}"
