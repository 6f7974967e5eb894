"""All that is known of one person, for themselves: as data, and by a link that only they have got."""

import base64
import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from alerting.desk import persons
from alerting.desk.persons import KnownAtDesk
from alerting.domain.delivery import Channel, Progress
from alerting.persistence import tables
from alerting.sealing import Seal, WrongKey

LINK_LASTS = timedelta(days=7)
MOST_TEXTS = 2000
"""The newest texts that are listed; years of them."""
LONGEST_TOKEN = 200
OURS_ALONE = frozenset({"is_channel"})
"""Of a recipient's row what says nothing of a person."""


@dataclass(frozen=True, slots=True)
class KnownAddress:
    """Where they are reached, as it would be dialled."""

    channel: Channel
    address: str
    rank: int
    refused_at: datetime | None
    refused_because: str | None
    unreachable_since: datetime | None


@dataclass(frozen=True, slots=True)
class KnownPlace:
    """A place they named, or shared."""

    label: str
    area: str | None
    lat: float | None
    lon: float | None


@dataclass(frozen=True, slots=True)
class Proof:
    """What they did, and under which policy."""

    what: str
    keyword: str
    channel: Channel
    written_at: datetime | None
    read_at: datetime
    policy_version: str
    policy_sha256: str | None


@dataclass(frozen=True, slots=True)
class TextSent:
    """An alert that went to them, and how far it came."""

    alert: str
    issued_at: datetime
    progress: str


@dataclass(frozen=True, slots=True)
class Known:
    """All of it. `subscription` is their row, with whatever they have chosen; empty where they are not subscribed."""

    authority: str
    subscription: dict[str, Any]
    addresses: tuple[KnownAddress, ...]
    places: tuple[KnownPlace, ...]
    proofs: tuple[Proof, ...]
    texts: tuple[TextSent, ...]
    desk: KnownAtDesk

    def as_json(self) -> dict[str, Any]:
        """With times in ISO 8601, for a machine and for a person who looks."""
        shown: dict[str, Any] = json.loads(json.dumps(asdict(self), default=_plain))
        return shown


async def what_is_known(session: AsyncSession, recipient: tables.Recipient, seal: Seal) -> Known:
    """Read whole, in the caller's transaction."""
    of_them = (
        select(tables.Address, tables.ChannelAccount.channel)
        .join(tables.ChannelAccount, tables.ChannelAccount.name == tables.Address.account)
        .where(tables.Address.recipient_id == recipient.id)
        .order_by(tables.Address.rank, tables.Address.id)
    )
    rows = (await session.execute(of_them)).all()
    places = select(tables.Place).where(tables.Place.recipient_id == recipient.id).order_by(tables.Place.id)
    prints = [one for row, _ in rows for one in (row.fingerprint, row.other_fingerprint) if one is not None]
    return Known(
        recipient.authority,
        {c.key: getattr(recipient, c.key) for c in recipient.__table__.columns if c.key not in OURS_ALONE},
        tuple(
            KnownAddress(
                channel,
                seal.open(row.sealed),
                row.rank,
                row.refused_at,
                row.refused_because,
                row.unreachable_since,
            )
            for row, channel in rows
            if row.sealed is not None
        ),
        tuple(KnownPlace(one.label, one.area, one.lat, one.lon) for one in await session.scalars(places)),
        await _proofs(session, recipient.authority, prints),
        await _texts(session, [row.id for row, _ in rows]),
        await persons.known_of(session, recipient.authority, prints, seal),
    )


async def what_is_left(session: AsyncSession, authority: str, fingerprints: Sequence[bytes], seal: Seal) -> Known:
    """Of whoever is called so and is not subscribed, or not any more: their proofs, and what the desk holds."""
    proofs = await _proofs(session, authority, fingerprints)
    desk = await persons.known_of(session, authority, fingerprints, seal)
    return Known(authority, {}, (), (), proofs, (), desk)


async def _proofs(session: AsyncSession, authority: str, fingerprints: Sequence[bytes]) -> tuple[Proof, ...]:
    theirs = (
        select(tables.Consent)
        .where(tables.Consent.authority == authority, tables.Consent.fingerprint.in_(fingerprints))
        .order_by(tables.Consent.id)
    )
    return tuple(
        Proof(one.what, one.keyword, one.channel, one.said_at, one.at, one.policy_version, one.policy_sha256)
        for one in await session.scalars(theirs)
    )


async def _texts(session: AsyncSession, addresses: Sequence[int]) -> tuple[TextSent, ...]:
    query = (
        select(tables.Dispatch.alert, tables.Dispatch.issued_at, tables.Delivery.progress)
        .join(tables.Dispatch, tables.Dispatch.id == tables.Delivery.dispatch_id)
        .where(tables.Delivery.address_id.in_(addresses), tables.Dispatch.alert.is_not(None))
        .order_by(tables.Delivery.dispatch_id.desc())
        .limit(MOST_TEXTS)
    )
    found = await session.execute(query)
    return tuple(TextSent(alert, at, Progress(progress).name.lower()) for alert, at, progress in found if alert)


def _plain(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value.value if isinstance(value, Enum) else value)


# ── the link ────────────────────────────────────────────────────────────────────────────────────────


class DataLinks:
    """Writes links to what is known of somebody, and knows them again. Nothing is stored; each runs out by itself."""

    def __init__(self, key: bytes, public_url: str) -> None:
        self._seal = Seal(hashlib.blake2b(b"links to one's data", key=key, digest_size=32).digest())
        self._public_url = public_url.rstrip("/")

    def link(self, recipient: int, now: datetime) -> str:
        """Empty where nobody knows at which address this API is found."""
        return f"{self._public_url}/v1/known/{self.token(recipient, now)}" if self._public_url else ""

    def token(self, recipient: int, now: datetime) -> str:
        sealed = self._seal.seal(f"{recipient} {int((now + LINK_LASTS).timestamp())}")
        return base64.urlsafe_b64encode(sealed).rstrip(b"=").decode()

    def recipient(self, token: str, now: datetime) -> int | None:
        """Whose it is; None for what we have not written, and for what has run out."""
        if len(token) > LONGEST_TOKEN or not re.fullmatch(r"[A-Za-z0-9_-]+", token):
            return None
        try:
            sealed = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
            recipient, _, until = self._seal.open(sealed).partition(" ")
        except (WrongKey, ValueError):  # ValueError: no base64
            return None
        return int(recipient) if now < datetime.fromtimestamp(int(until), UTC) else None
