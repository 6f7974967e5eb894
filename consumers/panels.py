"""What each panel is to show, and what it says it shows.

A panel holds one state, and what it is to be follows from all alerts that were said to it and are in force: worked out
anew whenever something is said to it, and every second, so that an end needs nobody to say it. Each change has a
number that only grows; whatever is said twice or late carries the same number or a smaller one, and changes nothing.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import structlog
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from alerting import cap_json, metrics, outbox, paging
from alerting.domain.delivery import Progress
from alerting.domain.events import ReceiptCame
from alerting.domain.lanes import Lane
from alerting.domain.lifecycle import State
from alerting.domain.panels import (
    InForce,
    Light,
    PanelKind,
    Showing,
    Shows,
    only_ends,
    the_one_shown,
    what_a_panel_shows,
)
from alerting.persistence import Database, tables
from alerting.persistence.tables import Panel
from consumers.channel import Account, NoAnswer, Sign, Text

log = structlog.get_logger()

PAUSE_AFTER_TROUBLE = 0.5
MISSING_TOO_LONG = timedelta(minutes=5)
"""A panel or a broker that is away longer is somebody's to look at. A reboot takes two minutes."""
VERSIONS_KEPT = 20
"""How many a panel may be behind and still confirm what it shows."""
NOT_SAID = {Progress.WAITING.value, Progress.WITHDRAWN.value, Progress.HANDED_OVER.value}

T = TypeVar("T")


class Signage:
    """The panels of all comuni, in the database."""

    def __init__(self, database: Database, *, patience: timedelta = MISSING_TOO_LONG) -> None:
        self._database = database
        self._patience = patience
        self._there: dict[tuple[str, PanelKind], tuple[int, int]] = {}
        self._broker_away: set[str] = set()

    # ── what a panel is to show ─────────────────────────────────────────────────────────────────────

    async def revise(self, account: Account, topic: str, text: Text, reference: str) -> Sign | None:
        """What the panel is to show now that a dispatch is said to it. Its words are those of whatever is in force."""
        dispatch = int(reference.partition(".")[0])
        try:
            async with self._database.write() as session:
                panel = await _locked(session, account, topic)
                if panel is None:
                    return None
                await _revise(session, panel, datetime.now(UTC), said=dispatch)
                return _sign(panel)
        except (SQLAlchemyError, OSError) as error:
            raise NoAnswer(type(error).__name__) from error

    async def review(self, account: Account, held: Mapping[str, int], *, unheard: bool) -> Sequence[Sign]:
        """Take down what has ended; the signs the broker should hold and does not, as far as it is known to."""
        now = datetime.now(UTC)
        try:
            async with self._database.read() as session:
                panels = (await session.scalars(_of(account))).all()
                standing = await _in_force(session, panels, now)
            changed = [panel for panel in panels if _is_to_change(panel, standing, held, now)]
            in_trouble = [panel for panel in panels if not panel.reported and _trouble(panel, now, self._patience)]
            if changed or in_trouble:
                panels = await self._change(account, {panel.topic for panel in changed}, held, now)
        except (SQLAlchemyError, OSError) as error:
            raise NoAnswer(type(error).__name__) from error
        self._measure(account, panels)
        return [] if unheard else [_sign(panel) for panel in panels if _is_behind(panel, held, now)]

    async def _change(
        self, account: Account, changed: set[str], held: Mapping[str, int], now: datetime
    ) -> Sequence[Panel]:
        async with self._database.write() as session:
            query = _of(account).order_by(Panel.id).with_for_update()
            panels = (await session.scalars(query)).all()
            for panel in panels:
                if panel.topic in changed:
                    await _revise(session, panel, now, beyond=held.get(panel.topic, 0))
                if not panel.reported and (sentence := _trouble(panel, now, self._patience)):
                    panel.reported = True
                    await paging.call(session, _about(panel), sentence, now, panel.authority)
            return panels

    # ── what it says ────────────────────────────────────────────────────────────────────────────────

    async def acknowledged(self, account: Account, topic: str, version: int, state: Shows) -> None:
        """Forward only: what a panel says of an older version than it has shown is over."""

        async def keep(session: AsyncSession) -> None:
            panel = await _locked(session, account, topic)
            if panel is None or version > panel.version or version <= panel.acknowledged:
                repeated = panel is not None and version == panel.acknowledged
                metrics.PANEL_REPORTS.labels("repeated" if repeated else "unknown").inc()
                return
            metrics.PANEL_REPORTS.labels("acknowledged").inc()
            panel.acknowledged, panel.acknowledged_state = version, state
            panel.acknowledged_at = datetime.now(UTC)
            if panel.reported and panel.online and _is_right(panel):
                panel.reported = False
                await paging.close(session, _about(panel), "the panel itself", panel.acknowledged_at)
            await _confirm(session, panel, panel.confirms.get(str(version), []))

        await self._write(keep)

    async def seen(self, account: Account, topic: str, online: bool) -> None:
        """Its own word, or the broker's for it once its line is dead."""

        async def keep(session: AsyncSession) -> None:
            panel = await _locked(session, account, topic)
            if panel is None:
                metrics.PANEL_REPORTS.labels("unknown").inc()
                return
            metrics.PANEL_REPORTS.labels("online" if online else "offline").inc()
            now = datetime.now(UTC)
            panel.online, panel.reported = online, panel.reported and not online
            panel.missing_since = None if online else panel.missing_since or now
            if online:
                await paging.close(session, _about(panel), "the panel itself", now)

        await self._write(keep)

    async def reachable(self, account: Account, away: timedelta | None) -> None:
        """Without its broker no panel shows anything new: somebody must know before the next alert does."""
        if (account.name in self._broker_away) is (away is not None and away >= self._patience):
            return
        about, now = f"account {account.name}", datetime.now(UTC)
        try:
            async with self._database.write() as session:
                if away is None:
                    await paging.close(session, about, "the broker itself", now)
                else:
                    sentence = (
                        f"Il broker MQTT del conto {account.name} non risponde: pannelli e sirene non ricevono nulla."
                    )
                    await paging.call(session, about, sentence, now, account.authority)
            (self._broker_away.discard if away is None else self._broker_away.add)(account.name)
        except (SQLAlchemyError, OSError) as error:
            raise NoAnswer(type(error).__name__) from error

    def _measure(self, account: Account, panels: Sequence[Panel]) -> None:
        for kind in PanelKind:
            there = [panel.online is True for panel in panels if panel.kind is kind]
            self._there[account.name, kind] = (sum(there), len(there) - sum(there))
            counts = [count for (_, of), count in self._there.items() if of is kind]
            metrics.PANELS_ONLINE.labels(str(kind)).set(sum(online for online, _ in counts))
            metrics.PANELS_MISSING.labels(str(kind)).set(sum(missing for _, missing in counts))

    async def _write(self, keep: Callable[[AsyncSession], Awaitable[None]]) -> None:
        """However long the database is away: the panel says it only once."""
        while True:
            try:
                async with self._database.write() as session:
                    return await keep(session)
            except (SQLAlchemyError, OSError) as error:
                log.warning("what a panel says waits for the database", error=type(error).__name__)
                await asyncio.sleep(PAUSE_AFTER_TROUBLE)


def _of(account: Account) -> Any:
    return select(Panel).where(Panel.account == account.name)


async def _locked(session: AsyncSession, account: Account, topic: str) -> Panel | None:
    found: Panel | None = await session.scalar(_of(account).where(Panel.topic == topic).with_for_update())
    return found


# ── what is in force ────────────────────────────────────────────────────────────────────────────────


Standing = dict[int, list[InForce]]
"""By the address of a panel, the alerts that were said to it and stand."""


async def _in_force(session: AsyncSession, panels: Sequence[Panel], now: datetime) -> Standing:
    """From the alerts, of which few are in force, to the panels; of these hundreds of alerts were said to each."""
    if not panels:
        return {}
    alert, dispatch, delivery = tables.Alert, tables.Dispatch, tables.Delivery
    authorities = {panel.authority for panel in panels}
    issued = (
        select(dispatch.id, dispatch.lane, dispatch.issued_at, alert.expires_at, alert.document)
        .join(alert, alert.identifier == dispatch.alert)
        .where(alert.state == State.ISSUED, alert.expires_at > now, alert.authority.in_(authorities))
    )
    alerts = {
        row.id: InForce(row.id, row.lane, row.issued_at, row.expires_at, cap_json.from_json(row.document))
        for row in (await session.execute(issued)).all()
    }
    if not alerts:
        return {}
    said = (
        select(Panel.address_id, delivery.dispatch_id)
        .join(Panel, Panel.address_id == delivery.address_id)
        .join(tables.Recipient, tables.Recipient.id == Panel.recipient_id)
        .where(
            delivery.dispatch_id.in_(alerts),
            delivery.address_id.in_([panel.address_id for panel in panels]),
            delivery.progress.not_in(NOT_SAID),
            tables.Recipient.left_at.is_(None),
        )
    )
    standing: Standing = {}
    for address, number in (await session.execute(said)).all():
        standing.setdefault(address, []).append(alerts[number])
    return standing


def _only(panel: Panel) -> frozenset[Lane]:
    return frozenset(map(Lane, panel.only))


def _is_to_change(panel: Panel, standing: Standing, held: Mapping[str, int], now: datetime) -> bool:
    """Another alert is the one to be shown; or the broker holds a version from before the database was restored."""
    one = the_one_shown(standing.get(panel.address_id, ()), _only(panel), now)
    return (one.dispatch if one else None) != panel.dispatch_id or held.get(panel.topic, 0) > panel.version


async def _revise(
    session: AsyncSession, panel: Panel, now: datetime, *, said: int | None = None, beyond: int = 0
) -> None:
    """Bring a locked panel to what is in force, under a new number where that is another thing than before.

    `said` is the dispatch that is being said to it: it is confirmed by the version that shows it, or that shows no
    more what it ends.
    """
    standing = (await _in_force(session, [panel], now)).get(panel.address_id, [])
    showing = what_a_panel_shows(standing, lines=panel.lines, columns=panel.columns, only=_only(panel), now=now)
    if _differs(panel, showing) or beyond > panel.version or panel.version == 0:
        # The time of day, so that a database restored from yesterday does not begin below what panels have shown.
        panel.version = max(panel.version + 1, beyond + 1, int(now.timestamp()))
        panel.state, panel.dispatch_id, panel.since = showing.state, showing.dispatch, now
        panel.expires = showing.expires
        panel.shown = {"alert": showing.alert_id, "lines": list(showing.lines), "colour": showing.colour.value}
        kept = sorted(panel.confirms, key=int)[-VERSIONS_KEPT + 1 :]
        confirmed = [showing.dispatch] if showing.dispatch is not None else []
        panel.confirms = {key: panel.confirms[key] for key in kept} | {str(panel.version): confirmed}
    if said is not None and said != panel.dispatch_id and await _is_only_an_end(session, panel, said):
        current = panel.confirms.get(str(panel.version), [])
        if said not in current:
            panel.confirms = panel.confirms | {str(panel.version): [*current, said]}
    if panel.acknowledged == panel.version and said in panel.confirms.get(str(panel.version), []):
        assert said is not None
        await _confirm(session, panel, [said])  # the panel was there before it was said


def _differs(panel: Panel, showing: Showing) -> bool:
    """The same alert in other lines is another showing too: its panel was exchanged for a larger one."""
    return (panel.state, panel.dispatch_id, panel.shown.get("lines", [])) != (
        showing.state,
        showing.dispatch,
        list(showing.lines),
    )


async def _is_only_an_end(session: AsyncSession, panel: Panel, dispatch: int) -> bool:
    """Whether it is said by showing something no more: a Cancel, an all-clear, an Update that is not for this panel.

    An Update that stands behind something more urgent is none: it is confirmed when it is shown.
    """
    alert = await session.scalar(
        select(tables.Alert)
        .join(tables.Dispatch, tables.Dispatch.alert == tables.Alert.identifier)
        .where(tables.Dispatch.id == dispatch)
    )
    if alert is None:
        return False
    return alert.lane not in _only(panel) or only_ends(cap_json.from_json(alert.document))


async def _confirm(session: AsyncSession, panel: Panel, dispatches: Sequence[int]) -> None:
    """The panel shows what these said: so the ledger hears of it, as of any receipt."""
    if not dispatches:
        return
    query = select(tables.Delivery.dispatch_id, tables.Delivery.seq).where(
        tables.Delivery.address_id == panel.address_id, tables.Delivery.dispatch_id.in_(dispatches)
    )
    at = datetime.now(UTC)
    for dispatch, seq in (await session.execute(query)).all():
        await outbox.add(session, ReceiptCame(dispatch, seq, Progress.DELIVERED, None, at), lane=Lane.REPLY)


# ── rows ────────────────────────────────────────────────────────────────────────────────────────────


def _sign(panel: Panel) -> Sign:
    return Sign(
        topic=panel.topic,
        version=panel.version,
        state=panel.state,
        alert_id=str(panel.shown.get("alert", "")),
        lines=tuple(panel.shown.get("lines", ())),
        colour=Light(panel.shown.get("colour", Light.WHITE.value)),
        sent=panel.since,
        expires=panel.expires,
    )


def _is_behind(panel: Panel, held: Mapping[str, int], now: datetime) -> bool:
    """What has expired the broker holds no more, and need not."""
    if panel.version == 0 or (panel.expires is not None and panel.expires <= now):
        return False
    return held.get(panel.topic) != panel.version


def _trouble(panel: Panel, now: datetime, patience: timedelta) -> str | None:
    """For whoever is on duty: what has been wrong with a panel for too long.

    That it says it is there is not enough: a broker that fell with it goes on saying so for it.
    """
    what, there = {PanelKind.VMS: ("Il pannello", "collegato"), PanelKind.SIREN: ("La sirena", "collegata")}[panel.kind]
    if not panel.online:
        if panel.missing_since is None or now - panel.missing_since <= patience:
            return None
        how = f"non si è mai {there}" if panel.online is None else f"non è {there}"
        return f"{what} {panel.name} {how}: non mostrerà le prossime allerte. Verificare alimentazione e rete."
    is_over = panel.expires is not None and panel.expires <= now
    if panel.version == 0 or is_over or _is_right(panel) or now - panel.since <= patience:
        return None
    return f"{what} {panel.name} non conferma ciò che deve mostrare. Guardare sul posto."


def _is_right(panel: Panel) -> bool:
    return (panel.acknowledged, panel.acknowledged_state) == (panel.version, panel.state)


def _about(panel: Panel) -> str:
    return f"panel {panel.account} {panel.name}"
