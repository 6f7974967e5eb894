"""Choosing topics, quiet hours, a language, which address comes first; and all that is known of somebody."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import NamedTuple, assert_never

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from alerting import subscribing
from alerting.domain import places
from alerting.domain.authority import Authority
from alerting.domain.choice_words import Choice, HowToChoose, KnownOfMe, NoEmergencies, QuietHours, Speaks, Topics
from alerting.domain.choices import (
    Choices,
    as_bits,
    language_in_words,
    minute_of,
    of_bits,
    quiet_of,
)
from alerting.domain.delivery import Channel
from alerting.domain.recipients import Place, mask
from alerting.domain.rendering import MONTHS, ROME
from alerting.persistence import tables
from alerting.postmarks import Postmarks
from alerting.sealing import Seal

LINK_LASTS = timedelta(days=7)
PATH = "/v1/choices"


@dataclass(frozen=True, slots=True)
class ChoicesPage:
    """Where somebody changes their choices by hand. Without a public address there are no links to it."""

    public_url: str
    key: bytes

    def link(self, recipient: int, now: datetime) -> str:
        if not self.public_url:
            return ""
        return f"{self.public_url.rstrip('/')}{PATH}/{Postmarks(self.key).choices(recipient, now + LINK_LASTS)}"


# ── what somebody has chosen ────────────────────────────────────────────────────────────────────────


def choices_of(recipient: tables.Recipient) -> Choices:
    """As the row has them."""
    return Choices(of_bits(recipient.topics), quiet_of(recipient.quiet_from, recipient.quiet_to), recipient.language)


async def hold(session: AsyncSession, recipient: tables.Recipient) -> Choices:
    """Somebody's choices, which nobody else changes before this transaction ends."""
    await session.refresh(
        recipient,
        ["left_at", "topics", "quiet_from", "quiet_to", "language"],
        with_for_update={"key_share": True},
    )
    return choices_of(recipient)


def keep(recipient: tables.Recipient, choices: Choices) -> None:
    """Write choices down. Not for a public channel, which is told all."""
    recipient.topics = as_bits(choices.topics)
    recipient.quiet_from = minute_of(choices.quiet.begins) if choices.quiet else None
    recipient.quiet_to = minute_of(choices.quiet.ends) if choices.quiet else None
    recipient.language = choices.language


def chosen(choices: Choices, said: Choice) -> Choices:
    """The choices after what somebody said; the same where they changed nothing."""
    match said:
        case Topics(on, off):
            return replace(choices, topics=(choices.topics | on) - off)
        case QuietHours(quiet):
            return replace(choices, quiet=quiet)
        case Speaks(language):
            return replace(choices, language=language)
        case NoEmergencies() | KnownOfMe() | HowToChoose():
            return choices
        case _:
            assert_never(said)


# ── which address comes first ───────────────────────────────────────────────────────────────────────


class NoSuchAddress(Exception):
    """Somebody is to be told first where they are not reached."""


async def put_in_order(session: AsyncSession, recipient: tables.Recipient, order: Sequence[Channel]) -> None:
    """Those channels first, in this order; then the others as they stood. Closed addresses stay behind open ones.

    All ranks in one transaction, with the person's row locked. Raises NoSuchAddress.
    """
    await session.refresh(recipient, ["left_at"], with_for_update=True)
    rows = await addresses_of(session, recipient)
    if unknown := [channel for channel in order if channel not in {one.channel for one in rows}]:
        raise NoSuchAddress(f"this person is not reached on {unknown[0]}")
    wished = {channel: at for at, channel in enumerate(order)}
    rows.sort(key=lambda one: (one.address.refused_at is not None, wished.get(one.channel, len(wished))))
    for rank, one in enumerate(rows):
        one.address.rank = rank
    recipient.ranked_at = time.time()


class Reached(NamedTuple):
    """An address somebody has, and its channel."""

    address: tables.Address
    channel: Channel


async def addresses_of(session: AsyncSession, recipient: tables.Recipient) -> list[Reached]:
    """Where somebody is reached, in the order in which it is tried."""
    theirs = (
        select(tables.Address, tables.ChannelAccount.channel)
        .join(tables.ChannelAccount, tables.ChannelAccount.name == tables.Address.account)
        .where(tables.Address.recipient_id == recipient.id, tables.Address.sealed.is_not(None))
        .order_by(tables.Address.rank, tables.Address.id)
    )
    return [Reached(address, channel) for address, channel in await session.execute(theirs)]


# ── all that is known ───────────────────────────────────────────────────────────────────────────────

CALLED = {
    Channel.WHATSAPP: "WhatsApp",
    Channel.TELEGRAM: "Telegram",
    Channel.EMAIL: "e-mail",
    Channel.SMS: "SMS",
    Channel.WEB_PUSH: "notifiche del browser",
}


@dataclass(frozen=True, slots=True)
class Way:
    """A way somebody is reached; `shown` says nothing to anybody else. Not `open`: they, or the provider, shut it."""

    channel: Channel
    shown: str
    open: bool

    @property
    def in_words(self) -> str:
        return f"{CALLED[self.channel]} {self.shown}" + ("" if self.open else " (chiuso)")


@dataclass(frozen=True, slots=True)
class Known:
    """Everything the system knows of one person."""

    since: datetime
    policy_version: str
    ways: tuple[Way, ...]
    places: tuple[Place, ...]
    choices: Choices

    def in_words(self, authority: Authority) -> str:
        """Line by line, as somebody reads it who asks COSA SAI DI ME."""
        first = " (il primo è quello che usiamo)" if len(self.ways) > 1 else ""
        return "\n".join(
            (
                f"Iscrizione: dal {_day(self.since)}",
                f"Informativa accettata: versione {self.policy_version}",
                f"Ti scriviamo su: {', '.join(way.in_words for way in self.ways)}{first}",
                f"Argomenti: {self.choices.topics_in_words}",
                f"Luoghi: {places.in_words(self.places, authority.territory)}",
                f"Silenzio: {self.choices.quiet_in_words}",
                f"Lingua: {language_in_words(self.choices.language)}",
            )
        )


def in_short(choices: Choices) -> str:
    """What stands after a change: `solo emergenze; silenzio dalle 22 alle 7; lingua inglese`."""
    return "; ".join(
        (
            choices.topics_in_words,
            f"silenzio {choices.quiet_in_words}" if choices.quiet else "nessun silenzio",
            f"lingua {language_in_words(choices.language)}",
        )
    )


async def known_of(session: AsyncSession, recipient: tables.Recipient, authority: Authority, seal: Seal) -> Known:
    """Everything there is about somebody who is subscribed."""
    reached = await addresses_of(session, recipient)
    accepted = (
        select(tables.Consent.policy_version)
        .where(
            tables.Consent.authority == authority.code,
            tables.Consent.fingerprint.in_([one.address.fingerprint for one in reached]),
            tables.Consent.what == "join",
        )
        .order_by(tables.Consent.at.desc(), tables.Consent.id.desc())
    )
    version = (await session.scalars(accepted.limit(1))).first()
    ways = tuple(
        Way(one.channel, mask(seal.open(one.address.sealed)), one.address.refused_at is None)
        for one in reached
        if one.address.sealed is not None
    )
    found = await subscribing.places_of(session, recipient, authority)
    return Known(recipient.joined_at, version or authority.policy.version, ways, tuple(found), choices_of(recipient))


def _day(at: datetime) -> str:
    here = at.astimezone(ROME)
    return f"{here.day} {MONTHS[here.month - 1]} {here.year}"


def with_link(text: str, link: str) -> str:
    """A text of the comune's without its line that needs a link, where there is none."""
    return text if link else "\n".join(line for line in text.split("\n") if "{link}" not in line)
