"""Every table. The docstring of a class says what one row is."""

from collections.abc import Callable
from datetime import UTC, date, datetime
from enum import Enum
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    Date,
    DateTime,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    Select,
    SmallInteger,
    String,
    Text,
    TypeDecorator,
    UniqueConstraint,
    select,
    text,
)
from sqlalchemy import Enum as EnumColumn
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from alerting.domain.areas import AreaState
from alerting.domain.cap import MsgType, Status
from alerting.domain.choices import EVERY_TOPIC
from alerting.domain.delivery import Channel
from alerting.domain.desk import Expects, Handing, Line, PhotoState, ReportState
from alerting.domain.intake import CameBy, IntakeState
from alerting.domain.kinds import Colour, Kind, Risk
from alerting.domain.lanes import Lane
from alerting.domain.lifecycle import State
from alerting.domain.notices import Answer, Ended, Matter
from alerting.domain.panels import PanelKind, Shows
from geo.areas import AreaKind

BigId = BigInteger().with_variant(Integer, "sqlite")  # SQLite numbers rows by itself only in INTEGER keys
Blob = LargeBinary


class Moment(TypeDecorator[datetime]):
    """An aware datetime, kept in UTC. SQLite forgets time zones: they are put back on reading."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"{value} has no time zone: say which clock it was read from")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def words(enum: type[Enum]) -> EnumColumn:
    """A column of an enumeration's values, readable in SQL; a new member needs no migration."""
    values: Callable[[type[Enum]], list[str]] = lambda members: [str(m.value) for m in members]  # noqa: E731
    return EnumColumn(enum, native_enum=False, create_constraint=False, length=32, values_callable=values)


def _its_own_name(context: Any) -> str:
    name: str = context.get_current_parameters()["name"]
    return name


class Table(DeclarativeBase):
    """The metadata all tables share."""


# ── who speaks ──────────────────────────────────────────────────────────────────────────────────────


class Authority(Table):
    """A comune, or other body, that speaks. The TOML in `authorities/` is the source; this row is its shadow.

    `fallback` is what the file says of each lane (`domain.fallback.Policy`); null where it says nothing.
    """

    __tablename__ = "authorities"

    code: Mapped[str] = mapped_column(String(64), primary_key=True)
    istat: Mapped[str] = mapped_column(String(6))
    name: Mapped[str] = mapped_column(String(200))
    file_hash: Mapped[str] = mapped_column(String(64))
    fallback: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))


class Area(Table):
    """One version of a named place. The boundary is GeoJSON and is never edited: another version follows it.

    `state` says whether it is the one that serves. Who is inside has been worked out up to the recipient
    `derived_to`; `valid_from` is when it serves at the earliest, and then since when. `authority` is whose territory
    it is a part of, null for a place of which nobody here speaks. `hash` is the SHA-256 of what was imported: the same
    again is no new version.
    """

    __tablename__ = "areas"

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    code: Mapped[str] = mapped_column(String(100))
    version: Mapped[int] = mapped_column(Integer)
    state: Mapped[AreaState] = mapped_column(words(AreaState))
    kind: Mapped[AreaKind] = mapped_column(words(AreaKind))
    name: Mapped[str] = mapped_column(String(200))
    parent: Mapped[str | None] = mapped_column(String(100))
    authority: Mapped[str | None] = mapped_column(ForeignKey("authorities.code"))
    boundary: Mapped[dict[str, Any]] = mapped_column(JSON)
    source: Mapped[str] = mapped_column(String(300), default="")
    licence: Mapped[str] = mapped_column(String(100), default="")
    demonstration: Mapped[bool] = mapped_column(default=False)
    hash: Mapped[str] = mapped_column(String(64))
    derived_to: Mapped[int] = mapped_column(BigInteger, default=0)
    valid_from: Mapped[datetime] = mapped_column(Moment)
    valid_to: Mapped[datetime | None] = mapped_column(Moment)

    __table_args__ = (
        UniqueConstraint("code", "version", name="one_row_per_version"),
        Index("areas_by_state", "state", "authority"),
    )


class Atlas(Table):
    """The one row that counts how often the areas have changed: whoever remembers them looks here first."""

    __tablename__ = "atlas"

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    edition: Mapped[int] = mapped_column(Integer)


class Actor(Table):
    """A person or a feed that may call the API, with one role. Only the hash of the token is kept."""

    __tablename__ = "actors"

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    name: Mapped[str] = mapped_column(String(100), unique=True)
    role: Mapped[str] = mapped_column(String(20))
    authority: Mapped[str | None] = mapped_column(ForeignKey("authorities.code"))
    token_hash: Mapped[str] = mapped_column(String(64), unique=True)
    created_at: Mapped[datetime] = mapped_column(Moment)
    revoked_at: Mapped[datetime | None] = mapped_column(Moment)


class ChannelAccount(Table):
    """An authority's way into a number or a bot. `live` is the wall: exercises have accounts of their own.

    Several comuni may share a number: `paced_as` names the account whose rate and breaker all of them obey.
    `portfolio` names whose daily quota of people it draws on, where the provider keeps one. `micro_euro` is what one
    text costs there, of an SMS one part, in millionths of a euro; null where the comune's file gives no price.
    """

    __tablename__ = "channel_accounts"

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    authority: Mapped[str] = mapped_column(ForeignKey("authorities.code"))
    channel: Mapped[Channel] = mapped_column(words(Channel))
    live: Mapped[bool] = mapped_column(default=True)
    identity: Mapped[str] = mapped_column(String(100))
    settings: Mapped[dict[str, str]] = mapped_column(JSON)
    paced_as: Mapped[str] = mapped_column(String(64), default=_its_own_name)
    portfolio: Mapped[str | None] = mapped_column(ForeignKey("portfolios.name"))
    micro_euro: Mapped[int | None] = mapped_column(BigInteger)


class Portfolio(Table):
    """All numbers of one business at a provider that counts the people told in 24 hours.

    `people` is how many are counted now: it grows with each new one, and is counted anew every minute
    (`counted_at`, seconds since 1970), which is when those of yesterday leave it.
    """

    __tablename__ = "portfolios"

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    people_per_day: Mapped[int] = mapped_column(Integer)
    people: Mapped[int] = mapped_column(Integer, default=0)
    counted_at: Mapped[float] = mapped_column(Float, default=0.0)


class PortfolioPerson(Table):
    """Somebody a portfolio has told, by the keyed fingerprint of their address, and when last."""

    __tablename__ = "portfolio_people"

    portfolio: Mapped[str] = mapped_column(ForeignKey("portfolios.name"), primary_key=True)
    fingerprint: Mapped[bytes] = mapped_column(Blob, primary_key=True)
    told_at: Mapped[float] = mapped_column(Float)

    __table_args__ = (Index("portfolio_people_by_time", "portfolio", "told_at"),)


class ProviderRate(Table):
    """What a provider allows one account, and up to when that is already given away; and its breaker.

    The breaker is open, and nobody is told, while `halted_at` is not 0; one person's text probes it at `probe_at`.
    All times are the database's clock, in seconds since 1970.
    """

    __tablename__ = "provider_rates"

    account: Mapped[str] = mapped_column(ForeignKey("channel_accounts.name"), primary_key=True)
    rate: Mapped[float] = mapped_column(Float)
    full_rate: Mapped[float] = mapped_column(Float)
    lowered_at: Mapped[float] = mapped_column(Float, default=0.0)
    tat: Mapped[float] = mapped_column(Float, default=0.0)
    wanted_by_flash: Mapped[float] = mapped_column(Float, default=0.0)
    wanted_by_emergency: Mapped[float] = mapped_column(Float, default=0.0)
    wanted_by_reply: Mapped[float] = mapped_column(Float, default=0.0)
    halted_at: Mapped[float] = mapped_column(Float, default=0.0)
    halted_because: Mapped[str | None] = mapped_column(String(300))
    probe_at: Mapped[float] = mapped_column(Float, default=0.0)


# ── who is told ─────────────────────────────────────────────────────────────────────────────────────


class Recipient(Table):
    """A person who subscribed to an authority, or no person (`is_channel`): a public Telegram channel, a panel.

    `topics` has a bit for each topic they want, and no say over emergencies. From `quiet_from` to `quiet_to`, minutes
    of the day in Italy, nothing routine is told. `ranked_at` is when another of their addresses came first, in seconds
    since 1970: a fan-out that goes from account to account looks for them once more.
    """

    __tablename__ = "recipients"

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    authority: Mapped[str] = mapped_column(ForeignKey("authorities.code"))
    live: Mapped[bool] = mapped_column(default=True)
    is_channel: Mapped[bool] = mapped_column(default=False)
    language: Mapped[str] = mapped_column(String(10), default="it")
    located: Mapped[bool] = mapped_column(default=False)
    topics: Mapped[int] = mapped_column(SmallInteger, default=EVERY_TOPIC, server_default=str(EVERY_TOPIC))
    quiet_from: Mapped[int | None] = mapped_column(SmallInteger)
    quiet_to: Mapped[int | None] = mapped_column(SmallInteger)
    ranked_at: Mapped[float | None] = mapped_column(Float)
    joined_at: Mapped[datetime] = mapped_column(Moment)
    left_at: Mapped[datetime | None] = mapped_column(Moment)

    __table_args__ = (
        Index("recipients_of_authority", "authority", "id"),
        # All that is asked of somebody who is counted for a preview, so that it never goes to the table.
        Index(
            "recipients_told",
            "id",
            postgresql_include=["authority", "live", "located", "topics"],
            postgresql_where=text("left_at IS NULL"),
        ).ddl_if(dialect="postgresql"),
        Index(
            "recipients_ranked",
            "authority",
            "ranked_at",
            postgresql_where=text("ranked_at IS NOT NULL"),
            sqlite_where=text("ranked_at IS NOT NULL"),
        ),
        Index(
            "recipients_without_place",
            "authority",
            "id",
            postgresql_where=text("NOT located AND left_at IS NULL"),
            sqlite_where=text("NOT located AND left_at IS NULL"),
        ),
    )


class Address(Table):
    """Where a recipient is reached on one channel: sealed, and found again by a keyed fingerprint.

    `rank` 0 is tried first, the next when that one does not reach them. `not_before` is until when the provider wants
    this person left alone (seconds since 1970). `other_fingerprint` is that of what else the provider calls them,
    alone once they hide their number. What a provider refuses for good is told nothing any more (`refused_at`) and
    comes last, until the person writes from there; a person's last address is never closed so. Leaving erases
    `sealed`; the row stays so that the ledger keeps its sense.
    """

    __tablename__ = "addresses"

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    recipient_id: Mapped[int] = mapped_column(ForeignKey("recipients.id"))
    account: Mapped[str] = mapped_column(ForeignKey("channel_accounts.name"))
    fingerprint: Mapped[bytes | None] = mapped_column(Blob)
    sealed: Mapped[bytes | None] = mapped_column(Blob)
    other_fingerprint: Mapped[bytes | None] = mapped_column(Blob)
    rank: Mapped[int] = mapped_column(SmallInteger, default=0)
    not_before: Mapped[float] = mapped_column(Float, default=0.0)
    refused_at: Mapped[datetime | None] = mapped_column(Moment)
    refused_because: Mapped[str | None] = mapped_column(String(32))
    unreachable_since: Mapped[datetime | None] = mapped_column(Moment)
    """Since when a provider answers that nobody is there; null once anything arrived."""

    __table_args__ = (
        UniqueConstraint("account", "fingerprint", name="one_address_per_account"),
        Index("addresses_of_recipient", "recipient_id"),
        Index("addresses_by_other_name", "account", "other_fingerprint"),
        Index(
            "addresses_told",
            "recipient_id",
            postgresql_include=["account", "rank"],
            postgresql_where=text("sealed IS NOT NULL AND refused_at IS NULL"),
        ).ddl_if(dialect="postgresql"),
        Index(
            "addresses_refused",
            "refused_at",
            postgresql_where=text("refused_at IS NOT NULL"),
            sqlite_where=text("refused_at IS NOT NULL"),
        ),
    )


class Place(Table):
    """A place of a recipient: a point, or only the area that was named. `cell` is the grid cell of the point."""

    __tablename__ = "places"

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    recipient_id: Mapped[int] = mapped_column(ForeignKey("recipients.id"))
    label: Mapped[str] = mapped_column(String(40), default="casa")
    lat: Mapped[float | None] = mapped_column(Float)
    lon: Mapped[float | None] = mapped_column(Float)
    cell: Mapped[int | None] = mapped_column(BigInteger)
    area: Mapped[str | None] = mapped_column(String(100))

    __table_args__ = (
        # NaN is in no shape, and whoever stood there would never be told; PostgreSQL puts it above every number.
        CheckConstraint(
            "(lat IS NULL AND lon IS NULL AND cell IS NULL AND area IS NOT NULL)"
            " OR (lat BETWEEN -90 AND 90 AND lon BETWEEN -180 AND 180 AND cell IS NOT NULL)",
            name="place_is_somewhere",
        ),
        # All that matching reads, so that it never goes to the table.
        Index("places_by_cell", "cell", postgresql_include=["recipient_id", "lat", "lon"]).ddl_if(dialect="postgresql"),
        Index("places_by_cell", "cell", "recipient_id", "lat", "lon").ddl_if(dialect="sqlite"),
        Index("places_by_area", "area", postgresql_where=text("lat IS NULL"), sqlite_where=text("lat IS NULL")),
        Index("places_of_recipient", "recipient_id"),
    )


class Membership(Table):
    """A place of a recipient lies in this version of an area: derived whenever a place or an area is written."""

    __tablename__ = "memberships"

    area: Mapped[int] = mapped_column(ForeignKey("areas.id"), primary_key=True)
    recipient_id: Mapped[int] = mapped_column(ForeignKey("recipients.id"), primary_key=True)
    place_id: Mapped[int] = mapped_column(ForeignKey("places.id"), primary_key=True)

    __table_args__ = (Index("memberships_of_recipient", "recipient_id", "area"),)


class Panel(Table):
    """A message panel or a siren, which is told like a recipient; what it is to show, and what it says it shows.

    `version` grows with each change of what is to be shown, and never goes back; `shown` is what that version says
    (lines, colour, alert), of the dispatch `dispatch_id` until `expires`. `confirms` has for the last versions the
    dispatches that are said once the panel acknowledges it. `acknowledged` is the last version it did acknowledge.
    `online` is what its status says, null before it ever said anything; `missing_since` since when it is away, and
    `reported` whether somebody was called for that.
    """

    __tablename__ = "panels"

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    authority: Mapped[str] = mapped_column(ForeignKey("authorities.code"))
    account: Mapped[str] = mapped_column(ForeignKey("channel_accounts.name"))
    name: Mapped[str] = mapped_column(String(40))
    topic: Mapped[str] = mapped_column(String(80))
    kind: Mapped[PanelKind] = mapped_column(words(PanelKind))
    recipient_id: Mapped[int] = mapped_column(ForeignKey("recipients.id"))
    address_id: Mapped[int] = mapped_column(ForeignKey("addresses.id"), unique=True)
    lines: Mapped[int] = mapped_column(SmallInteger)
    columns: Mapped[int] = mapped_column(SmallInteger)
    only: Mapped[list[str]] = mapped_column(JSON)
    version: Mapped[int] = mapped_column(BigInteger, default=0)
    state: Mapped[Shows] = mapped_column(words(Shows), default=Shows.CLEAR)
    dispatch_id: Mapped[int | None] = mapped_column(BigInteger)
    shown: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)
    expires: Mapped[datetime | None] = mapped_column(Moment)
    since: Mapped[datetime] = mapped_column(Moment)
    confirms: Mapped[dict[str, list[int]]] = mapped_column(JSON, default=dict)
    acknowledged: Mapped[int] = mapped_column(BigInteger, default=0)
    acknowledged_state: Mapped[Shows | None] = mapped_column(words(Shows))
    acknowledged_at: Mapped[datetime | None] = mapped_column(Moment)
    online: Mapped[bool | None] = mapped_column()
    missing_since: Mapped[datetime | None] = mapped_column(Moment)
    reported: Mapped[bool] = mapped_column(default=False)

    __table_args__ = (UniqueConstraint("account", "topic", name="one_row_per_panel"),)


class Consent(Table):
    """What somebody wrote to join or to leave, and under which policy. Never changed, never deleted: triggers refuse.

    `keyword` is the command alone, as they wrote it; `said_at` when they did by the provider's clock, null where it was
    not they who wrote; `at` when we read it. `policy_sha256` is that of the policy's text. Of those who came with a
    list: `given_on` is the day they agreed, as the list says, and `document` the SHA-256 of what the comune keeps as
    proof for all of it. Retention, and whoever asks for it, erases `fingerprint` and `keyword`, which is written down
    in `erasures`: then nobody can tell whose it was.
    """

    __tablename__ = "consents"

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    authority: Mapped[str] = mapped_column(ForeignKey("authorities.code"))
    channel: Mapped[Channel] = mapped_column(words(Channel))
    fingerprint: Mapped[bytes | None] = mapped_column(Blob)
    what: Mapped[str] = mapped_column(String(20))
    keyword: Mapped[str] = mapped_column(String(100))
    policy_version: Mapped[str] = mapped_column(String(40))
    at: Mapped[datetime] = mapped_column(Moment)
    given_on: Mapped[date | None] = mapped_column(Date)
    document: Mapped[bytes | None] = mapped_column(Blob)
    said_at: Mapped[datetime | None] = mapped_column(Moment)
    policy_sha256: Mapped[str | None] = mapped_column(String(64))

    __table_args__ = (Index("consents_by_fingerprint", "fingerprint"),)


class AreaDay(Table):
    """How many were in an area on a day of Rome's: who leaves takes their places along, and this is what stays."""

    __tablename__ = "area_days"

    authority: Mapped[str] = mapped_column(ForeignKey("authorities.code"), primary_key=True)
    day: Mapped[date] = mapped_column(Date, primary_key=True)
    area: Mapped[str] = mapped_column(String(100), primary_key=True)
    people: Mapped[int] = mapped_column(Integer)


class Erasure(Table):
    """That proofs lost their person: when, by whom, why (`retention`, `request`) and how many. Never changed either.

    Open (`ended_at` null) only inside the transaction that erases: the triggers of `consents` let nothing else pass.
    """

    __tablename__ = "erasures"

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    at: Mapped[datetime] = mapped_column(Moment)
    actor: Mapped[str] = mapped_column(String(100))
    why: Mapped[str] = mapped_column(String(20))
    proofs: Mapped[int] = mapped_column(Integer, default=0)
    ended_at: Mapped[datetime | None] = mapped_column(Moment)


# ── what is said ────────────────────────────────────────────────────────────────────────────────────


class Alert(Table):
    """A CAP message of ours, from its draft on. `document` is the whole of it in snake_case.

    `cap` is what was published when it was issued, byte for byte. `intake` is the document of a source that it was
    made from, `enclosure` the attachment it shows.
    """

    __tablename__ = "alerts"

    identifier: Mapped[str] = mapped_column(String(100), primary_key=True)
    authority: Mapped[str] = mapped_column(ForeignKey("authorities.code"))
    kind: Mapped[Kind] = mapped_column(words(Kind))
    state: Mapped[State] = mapped_column(words(State))
    status: Mapped[Status] = mapped_column(words(Status))
    msg_type: Mapped[MsgType] = mapped_column(words(MsgType))
    lane: Mapped[Lane] = mapped_column(words(Lane))
    document: Mapped[dict[str, Any]] = mapped_column(JSON)
    geofence: Mapped[dict[str, Any]] = mapped_column(JSON)
    areas: Mapped[list[str]] = mapped_column(JSON)
    cancels: Mapped[str | None] = mapped_column(ForeignKey("alerts.identifier"))
    updates: Mapped[str | None] = mapped_column(ForeignKey("alerts.identifier"))
    intake: Mapped[int | None] = mapped_column(ForeignKey("intake.id", name="alert_of_intake"))
    cap: Mapped[bytes | None] = mapped_column(Blob)
    enclosure: Mapped[str | None] = mapped_column(String(64))
    author: Mapped[str] = mapped_column(String(100))
    approver: Mapped[str | None] = mapped_column(String(100))
    drafted_at: Mapped[datetime] = mapped_column(Moment)
    approved_at: Mapped[datetime | None] = mapped_column(Moment)
    issued_at: Mapped[datetime | None] = mapped_column(Moment)
    expires_at: Mapped[datetime] = mapped_column(Moment)
    ended_at: Mapped[datetime | None] = mapped_column(Moment)

    __table_args__ = (
        Index("alerts_by_time", "authority", "drafted_at"),
        Index("alerts_by_end", "state", "expires_at"),
        Index("alerts_by_intake", "intake"),
        Index("alerts_by_issue", "authority", "issued_at"),
        Index("alerts_by_enclosure", "enclosure"),
    )


class Attachment(Table):
    """A picture or a PDF as everybody gets it, once however many alerts show it; `sha256` of these bytes names it.

    `stored_at` is when it came, or was taken up by a draft, last.
    """

    __tablename__ = "attachments"

    sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    media_type: Mapped[str] = mapped_column(String(100))
    content: Mapped[bytes] = mapped_column(Blob)
    width: Mapped[int | None] = mapped_column(Integer)
    height: Mapped[int | None] = mapped_column(Integer)
    stored_at: Mapped[datetime] = mapped_column(Moment)


class Upload(Table):
    """What a provider calls an attachment it has of an account, and until when it keeps it (Unix time)."""

    __tablename__ = "uploads"

    account: Mapped[str] = mapped_column(String(64), primary_key=True)
    sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    provider_id: Mapped[str] = mapped_column(String(300))
    until: Mapped[float] = mapped_column(Float)


class Dispatch(Table):
    """One thing to be said to an audience: an issued alert, or the answer to one citizen (`alert` is null).

    `audience` is the size of the snapshot once it is whole; until then `fanned_accounts` says how many accounts
    the fan-out is through with, and `fanned_to` up to which recipient it came on the next. `touched_at` is when
    somebody last worked on that, in seconds since 1970.
    A reply keeps its own sealed address, erased when it has been said, and in `reply_menu` the buttons below it. What
    somebody of the staff wrote to one person is sealed and erased like that too, and not in `reply_text`.
    """

    __tablename__ = "dispatches"

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    alert: Mapped[str | None] = mapped_column(ForeignKey("alerts.identifier"), unique=True)
    authority: Mapped[str] = mapped_column(ForeignKey("authorities.code"))
    lane: Mapped[Lane] = mapped_column(words(Lane))
    live: Mapped[bool] = mapped_column(default=True)
    issued_at: Mapped[datetime] = mapped_column(Moment)
    not_after: Mapped[datetime] = mapped_column(Moment)
    withdrawn_at: Mapped[datetime | None] = mapped_column(Moment)
    fanned_accounts: Mapped[int] = mapped_column(Integer, default=0)
    fanned_to: Mapped[int] = mapped_column(BigInteger, default=0)
    last_seq: Mapped[int] = mapped_column(Integer, default=0)
    audience: Mapped[int | None] = mapped_column(Integer)
    touched_at: Mapped[float] = mapped_column(Float, default=0.0)
    reply_text: Mapped[str | None] = mapped_column(Text)
    reply_sealed: Mapped[bytes | None] = mapped_column(Blob)
    reply_menu: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    reply_to: Mapped[bytes | None] = mapped_column(Blob)

    __table_args__ = (
        Index(
            "dispatches_unfinished",
            "touched_at",
            postgresql_where=text("audience IS NULL"),
            sqlite_where=text("audience IS NULL"),
        ),
    )


class Batch(Table):
    """People `first` to `last` of a dispatch's audience, all on one account.

    waiting: not told to RabbitMQ yet; told: in the broker or with a worker; resting: in a wait queue with
    what is left of it; done: everybody in it is in a final state. `touched_at` is when somebody last worked
    on it, or when it is to be back from its rest, in seconds since 1970; `told` how often the broker was told.
    `silence_at` is when to look next whether some of its people have been silent for too long; null for never again.
    """

    __tablename__ = "batches"

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    dispatch_id: Mapped[int] = mapped_column(ForeignKey("dispatches.id"))
    channel: Mapped[Channel] = mapped_column(words(Channel))
    account: Mapped[str] = mapped_column(ForeignKey("channel_accounts.name"))
    lane: Mapped[Lane] = mapped_column(words(Lane))
    first: Mapped[int] = mapped_column(Integer)
    last: Mapped[int] = mapped_column(Integer)
    state: Mapped[str] = mapped_column(String(10), default="waiting")
    told: Mapped[int] = mapped_column(Integer, default=0)
    touched_at: Mapped[float] = mapped_column(Float, default=0.0)
    silence_at: Mapped[float | None] = mapped_column(Float, default=0.0)

    __table_args__ = (
        UniqueConstraint("dispatch_id", "first", name="one_batch_per_range"),
        Index("batches_by_state", "dispatch_id", "state", "id"),
        Index("batches_at_work", "state", "touched_at"),
        Index("batches_by_silence", "dispatch_id", "silence_at"),
    )


class Delivery(Table):
    """One recipient of one dispatch on one channel: the snapshot of the audience, and the ledger.

    `progress` is domain.delivery.Progress; `due_at` and `claimed_until` are seconds since 1970. There is no
    index on what changes while sending, so that PostgreSQL updates rows in place.
    """

    __tablename__ = "deliveries"

    dispatch_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    seq: Mapped[int] = mapped_column(Integer, primary_key=True)
    recipient_id: Mapped[int | None] = mapped_column(BigInteger)
    address_id: Mapped[int | None] = mapped_column(BigInteger)
    progress: Mapped[int] = mapped_column(SmallInteger, default=0)
    attempts: Mapped[int] = mapped_column(SmallInteger, default=0)
    due_at: Mapped[float] = mapped_column(Float, default=0.0)
    claimed_until: Mapped[float] = mapped_column(Float, default=0.0)
    reason: Mapped[str | None] = mapped_column(String(24))

    __table_args__ = (
        # The address first: of a dispatch with no statistics yet PostgreSQL would read the whole audience by it.
        UniqueConstraint("address_id", "dispatch_id", name="one_delivery_per_address"),
        {"postgresql_with": {"fillfactor": 60}},  # room on the page for the row's next versions
    )


class Attempt(Table):
    """One call to a provider, as it ended. `provider_id` is what the provider called it, sealed: WhatsApp's
    ids contain the person's number."""

    __tablename__ = "attempts"

    dispatch_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    seq: Mapped[int] = mapped_column(Integer, primary_key=True)
    number: Mapped[int] = mapped_column(SmallInteger, primary_key=True)
    at: Mapped[float] = mapped_column(Float)
    progress: Mapped[int] = mapped_column(SmallInteger)
    reason: Mapped[str | None] = mapped_column(String(24))
    provider_id: Mapped[bytes | None] = mapped_column(Blob)


class Fallback(Table):
    """A delivery that did not reach its person, or about which nobody has said a word for too long: what follows.

    due: somebody has to look, from `due_at` on (seconds since 1970); followed: the person is told by the delivery
    `followed_by` of the same dispatch; else `domain.fallback.Stays` says why they are not. `because` is
    `domain.fallback.Because`, `reason` what the ledger had. `micro_euro` is promised for it, out of `budget` if that
    has a month's limit.
    """

    __tablename__ = "fallbacks"

    dispatch_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    seq: Mapped[int] = mapped_column(Integer, primary_key=True)
    because: Mapped[str] = mapped_column(String(12))
    reason: Mapped[str | None] = mapped_column(String(32))
    due_at: Mapped[float] = mapped_column(Float)
    state: Mapped[str] = mapped_column(String(12), default="due")
    followed_by: Mapped[int | None] = mapped_column(Integer)
    micro_euro: Mapped[int] = mapped_column(BigInteger, default=0)
    budget: Mapped[int | None] = mapped_column(ForeignKey("budgets.id"))

    __table_args__ = (
        Index(
            "fallbacks_due",
            "dispatch_id",
            "due_at",
            postgresql_where=text("state = 'due'"),
            sqlite_where=text("state = 'due'"),
        ),
        Index(
            "fallbacks_of_budget",
            "budget",
            postgresql_where=text("budget IS NOT NULL"),
            sqlite_where=text("budget IS NOT NULL"),
        ),
    )


class Budget(Table):
    """What a comune may spend on falling back in one lane and month ("2026-11", in Rome). Whoever spends holds it.

    How much is spent is counted anew each time, from the fallbacks that name it: so it cannot drift.
    """

    __tablename__ = "budgets"

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    authority: Mapped[str] = mapped_column(ForeignKey("authorities.code"))
    lane: Mapped[Lane] = mapped_column(words(Lane))
    month: Mapped[str] = mapped_column(String(7))

    __table_args__ = (UniqueConstraint("authority", "lane", "month", name="one_budget_a_month"),)


class Spending(Table):
    """What the texts of one dispatch on one account have cost in one month, as far as providers took them.

    Accounts whose price is 0, or is not known, have none. `parts` are those of SMS, else as many as `texts`.
    """

    __tablename__ = "spending"

    dispatch_id: Mapped[int] = mapped_column(ForeignKey("dispatches.id"), primary_key=True)
    account: Mapped[str] = mapped_column(ForeignKey("channel_accounts.name"), primary_key=True)
    month: Mapped[str] = mapped_column(String(7), primary_key=True)
    authority: Mapped[str] = mapped_column(ForeignKey("authorities.code"))
    lane: Mapped[Lane] = mapped_column(words(Lane))
    channel: Mapped[Channel] = mapped_column(words(Channel))
    texts: Mapped[int] = mapped_column(BigInteger)
    parts: Mapped[int] = mapped_column(BigInteger)
    micro_euro: Mapped[int] = mapped_column(BigInteger)

    __table_args__ = (Index("spending_by_month", "authority", "month"),)


class OutboxMessage(Table):
    """A message that RabbitMQ has yet to confirm."""

    __tablename__ = "outbox"

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    lane: Mapped[Lane] = mapped_column(words(Lane))
    exchange: Mapped[str] = mapped_column(String(40))
    routing_key: Mapped[str] = mapped_column(String(120))
    message_id: Mapped[str] = mapped_column(String(120))
    body: Mapped[bytes] = mapped_column(Blob)
    created_at: Mapped[float] = mapped_column(Float)

    __table_args__ = (Index("outbox_by_lane", "lane", "id"),)


class DeadLetter(Table):
    """A message nobody could work on, out of the broker's hands: where it was, why it came here, and all of it.

    It stays until an operator has replayed it in its lane, or dismissed it; `ended_at` says when.
    """

    __tablename__ = "dead_letters"

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    at: Mapped[datetime] = mapped_column(Moment)
    lane: Mapped[Lane] = mapped_column(words(Lane))
    why: Mapped[str] = mapped_column(String(24))
    sentence: Mapped[str] = mapped_column(String(500))
    queue: Mapped[str] = mapped_column(String(120))
    exchange: Mapped[str] = mapped_column(String(120))
    routing_key: Mapped[str] = mapped_column(String(255))
    message_id: Mapped[str] = mapped_column(String(255))
    headers: Mapped[dict[str, Any]] = mapped_column(JSON)
    body: Mapped[bytes] = mapped_column(Blob)
    ended_at: Mapped[datetime | None] = mapped_column(Moment)
    ended_by: Mapped[str | None] = mapped_column(String(100))
    replayed: Mapped[bool] = mapped_column(default=False)


class WorkerSign(Table):
    """A process that works here, and how it was when it last gave a sign of life."""

    __tablename__ = "workers"

    name: Mapped[str] = mapped_column(String(120), primary_key=True)
    role: Mapped[str] = mapped_column(String(40))
    state: Mapped[str] = mapped_column(String(20))
    waits_for: Mapped[str | None] = mapped_column(String(40))
    since: Mapped[datetime] = mapped_column(Moment)
    seen_at: Mapped[datetime] = mapped_column(Moment)


# ── what others say ─────────────────────────────────────────────────────────────────────────────────


class Intake(Table):
    """A document that a source handed us, byte for byte, and what became of it.

    `message_hash` is the SHA-256 of a CAP message's sender, identifier and sent, its key in the world. `became` says
    for each authority it concerned what was done there.
    """

    __tablename__ = "intake"

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    source: Mapped[str] = mapped_column(String(64))
    came_by: Mapped[CameBy] = mapped_column(words(CameBy))
    received_at: Mapped[datetime] = mapped_column(Moment)
    media_type: Mapped[str] = mapped_column(String(100))
    raw: Mapped[bytes] = mapped_column(Blob)
    sha256: Mapped[str] = mapped_column(String(64))
    message_hash: Mapped[str | None] = mapped_column(String(64))
    state: Mapped[IntakeState] = mapped_column(words(IntakeState))
    attempts: Mapped[int] = mapped_column(SmallInteger, default=0)
    because: Mapped[str] = mapped_column(String(500), default="")
    headline: Mapped[str] = mapped_column(String(200), default="")
    findings: Mapped[list[dict[str, Any]]] = mapped_column(JSON, default=list)
    became: Mapped[list[dict[str, Any]]] = mapped_column(JSON, default=list)
    settled_at: Mapped[datetime | None] = mapped_column(Moment)
    settled_by: Mapped[str | None] = mapped_column(String(100))

    __table_args__ = (
        Index("intake_by_message", "message_hash"),
        Index("intake_by_source", "source", "id"),
        Index("intake_by_state", "state", "id"),
        Index("intake_by_time", "received_at"),
    )


class IntakeReference(Table):
    """A message of a source names another, which may come after it."""

    __tablename__ = "intake_references"

    message_hash: Mapped[str] = mapped_column(String(64), primary_key=True)
    intake: Mapped[int] = mapped_column(ForeignKey("intake.id"), primary_key=True)


class Statement(Table):
    """What a source holds for a whole comune: one colour of one risk for a while, until it is replaced."""

    __tablename__ = "statements"

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    authority: Mapped[str] = mapped_column(ForeignKey("authorities.code"))
    source: Mapped[str] = mapped_column(String(64))
    intake: Mapped[int] = mapped_column(ForeignKey("intake.id"))
    risk: Mapped[Risk] = mapped_column(words(Risk))
    colour: Mapped[Colour] = mapped_column(words(Colour))
    starts: Mapped[datetime] = mapped_column(Moment)
    ends: Mapped[datetime] = mapped_column(Moment)
    instruction: Mapped[str] = mapped_column(Text, default="")
    replaced_at: Mapped[datetime | None] = mapped_column(Moment)

    __table_args__ = (Index("statements_of_authority", "authority", "ends"),)


class Feed(Table):
    """How it stands with a source that is asked. Times are seconds since 1970; what is `seen` is not fetched again."""

    __tablename__ = "feeds"

    source: Mapped[str] = mapped_column(String(64), primary_key=True)
    next_at: Mapped[float] = mapped_column(Float, default=0.0)
    asked_at: Mapped[float] = mapped_column(Float, default=0.0)
    answered_at: Mapped[float | None] = mapped_column(Float)
    changed_at: Mapped[float | None] = mapped_column(Float)
    etag: Mapped[str] = mapped_column(String(200), default="")
    last_modified: Mapped[str] = mapped_column(String(100), default="")
    sha256: Mapped[str] = mapped_column(String(64), default="")
    failures: Mapped[int] = mapped_column(Integer, default=0)
    trouble: Mapped[str] = mapped_column(String(500), default="")
    silent_since: Mapped[datetime | None] = mapped_column(Moment)
    seen: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)


class Page(Table):
    """Somebody on duty is to look at something, and is called again until somebody says they have.

    `about` names it (`alert calcinaia-…`, `intake 12`, `source dpc-criticita`); `authority` null is everybody's.
    """

    __tablename__ = "pages"

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    authority: Mapped[str | None] = mapped_column(ForeignKey("authorities.code"))
    about: Mapped[str] = mapped_column(String(200))
    sentence: Mapped[str] = mapped_column(String(500))
    at: Mapped[datetime] = mapped_column(Moment)
    called: Mapped[int] = mapped_column(Integer, default=0)
    called_at: Mapped[float] = mapped_column(Float, default=0.0)
    acknowledged_at: Mapped[datetime | None] = mapped_column(Moment)
    acknowledged_by: Mapped[str | None] = mapped_column(String(100))

    __table_args__ = (
        Index("pages_about", "about"),
        Index(
            "pages_open",
            "id",
            postgresql_where=text("acknowledged_at IS NULL"),
            sqlite_where=text("acknowledged_at IS NULL"),
        ),
    )


class Notice(Table):
    """Something that is or was amiss, for the staff: `about` names it, and only one of that name is open.

    `gone_at` is since when it is well again, until it is well for good at `over_at`. `mark` is how much of it there was
    when it was written down.
    """

    __tablename__ = "notices"

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    about: Mapped[str] = mapped_column(String(200))
    matter: Mapped[Matter] = mapped_column(words(Matter))
    authority: Mapped[str | None] = mapped_column(ForeignKey("authorities.code"))
    sentence: Mapped[str] = mapped_column(String(500))
    over: Mapped[str] = mapped_column(String(500))
    urgent: Mapped[bool] = mapped_column(default=False)
    mark: Mapped[int] = mapped_column(BigInteger, default=0)
    began_at: Mapped[datetime] = mapped_column(Moment)
    gone_at: Mapped[datetime | None] = mapped_column(Moment)
    over_at: Mapped[datetime | None] = mapped_column(Moment)

    __table_args__ = (
        Index(
            "notices_open",
            "about",
            unique=True,
            postgresql_where=text("over_at IS NULL"),
            sqlite_where=text("over_at IS NULL"),
        ),
    )


class Telling(Table):
    """One notice as one of the staff is told it: that it began, or that it is over (`is_over`).

    `staff` is the account of the secrets file that holds the address. `due_at`, `not_after` and `claimed_until` are
    seconds since 1970 by the database's clock; `last` is what the last attempt came to, `ended` how all of it did.
    """

    __tablename__ = "tellings"

    notice: Mapped[int] = mapped_column(ForeignKey("notices.id"), primary_key=True)
    staff: Mapped[str] = mapped_column(String(140), primary_key=True)
    is_over: Mapped[bool] = mapped_column(primary_key=True)
    due_at: Mapped[float] = mapped_column(Float)
    not_after: Mapped[float] = mapped_column(Float)
    claimed_until: Mapped[float] = mapped_column(Float, default=0.0)
    attempts: Mapped[int] = mapped_column(SmallInteger, default=0)
    last: Mapped[Answer | None] = mapped_column(words(Answer))
    ended: Mapped[Ended | None] = mapped_column(words(Ended))
    ended_at: Mapped[datetime | None] = mapped_column(Moment)

    __table_args__ = (
        Index(
            "tellings_waiting",
            "due_at",
            postgresql_where=text("ended IS NULL"),
            sqlite_where=text("ended IS NULL"),
        ),
        Index("tellings_of_staff", "staff", "ended_at"),
    )


class InboundMessage(Table):
    """A text a citizen wrote, sealed until it is understood and erased then. Providers repeat themselves:
    the account and the keyed fingerprint of the provider's id make it one."""

    __tablename__ = "inbox"

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    account: Mapped[str] = mapped_column(String(64))
    provider_id: Mapped[str] = mapped_column(String(64))
    received_at: Mapped[datetime] = mapped_column(Moment)
    sealed: Mapped[bytes | None] = mapped_column(Blob)
    handled_at: Mapped[datetime | None] = mapped_column(Moment)
    for_desk: Mapped[Handing | None] = mapped_column(words(Handing))
    """Set while it waits for the desk, which has a queue and a process of its own."""

    __table_args__ = (
        UniqueConstraint("account", "provider_id", name="one_row_per_text"),
        Index(
            "inbox_for_desk",
            "handled_at",
            postgresql_where=text("for_desk IS NOT NULL"),
            sqlite_where=text("for_desk IS NOT NULL"),
        ),
    )


class Courtesy(Table):
    """How much somebody wrote lately, by the keyed fingerprint of their address, and when they were answered what.

    `since` is when their window began, `last` when they wrote last (Unix time), `texts` how many since. `answered` has
    by kind of answer when it was given last. Kept for days, by `last`.
    """

    __tablename__ = "courtesies"

    account: Mapped[str] = mapped_column(String(64), primary_key=True)
    fingerprint: Mapped[bytes] = mapped_column(Blob, primary_key=True)
    since: Mapped[float] = mapped_column(Float)
    last: Mapped[float] = mapped_column(Float)
    texts: Mapped[int] = mapped_column(Integer, default=0)
    answered: Mapped[dict[str, float]] = mapped_column(JSON, default=dict)

    __table_args__ = (Index("courtesies_by_age", "last"),)


class PolledBot(Table):
    """A bot whose updates are asked for: the first that was not seen yet, and when the last one came (Unix time)."""

    __tablename__ = "polled_bots"

    account: Mapped[str] = mapped_column(String(64), primary_key=True)
    next_update: Mapped[int] = mapped_column(BigInteger)
    at: Mapped[float] = mapped_column(Float)


class ProviderText(Table):
    """One part of a text of ours under the name its provider gave it, by which alone a receipt speaks of it.

    The name is a keyed fingerprint that the person's number is part of. `progress` is what receipts said so far; a
    receipt that came before the answer it belongs to waits here without a dispatch. Kept for days, by `at`.
    """

    __tablename__ = "provider_texts"

    account: Mapped[str] = mapped_column(String(64), primary_key=True)
    fingerprint: Mapped[bytes] = mapped_column(Blob, primary_key=True)
    dispatch_id: Mapped[int | None] = mapped_column(BigInteger)
    seq: Mapped[int | None] = mapped_column(Integer)
    attempt: Mapped[int | None] = mapped_column(Integer)
    parts: Mapped[int] = mapped_column(SmallInteger, default=1)
    progress: Mapped[int | None] = mapped_column(SmallInteger)
    reason: Mapped[str | None] = mapped_column(String(32))
    at: Mapped[float] = mapped_column(Float)

    __table_args__ = (
        Index("provider_texts_of_delivery", "dispatch_id", "seq"),
        Index("provider_texts_by_age", "at"),
    )


class AwaitedReceipt(Table):
    """An attempt whose provider says what became of it when asked: when to ask next, and until when (Unix time).

    `progress` is what it said last.
    """

    __tablename__ = "awaited_receipts"

    dispatch_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    seq: Mapped[int] = mapped_column(Integer, primary_key=True)
    attempt: Mapped[int] = mapped_column(Integer, primary_key=True)
    account: Mapped[str] = mapped_column(String(64))
    progress: Mapped[int | None] = mapped_column(SmallInteger)
    asked: Mapped[int] = mapped_column(SmallInteger, default=0)
    next_at: Mapped[float] = mapped_column(Float)
    until: Mapped[float] = mapped_column(Float)

    __table_args__ = (Index("awaited_receipts_due", "account", "next_at"),)


class InboundPart(Table):
    """One part of a text a citizen wrote by SMS, sealed until all of them have come and erased then. Kept for an hour.

    `fingerprint` is that of who wrote to whom and of the number that the parts of one text share, `content` that of
    what it says, both keyed: an SMSC gives texts no name, and says again what it was not answered in time.
    """

    __tablename__ = "inbound_parts"

    account: Mapped[str] = mapped_column(String(64), primary_key=True)
    fingerprint: Mapped[bytes] = mapped_column(Blob, primary_key=True)
    number: Mapped[int] = mapped_column(SmallInteger, primary_key=True)
    content: Mapped[bytes] = mapped_column(Blob)
    sealed: Mapped[bytes | None] = mapped_column(Blob)
    at: Mapped[float] = mapped_column(Float)

    __table_args__ = (Index("inbound_parts_by_age", "at"),)


# ── the desk of a two-way comune ────────────────────────────────────────────────────────────────────


class Conversation(Table):
    """How it stands with somebody who writes to a desk, by the keyed fingerprint of their address; forgotten in days.

    `choices` is what they were given to choose from: moments of an office, or numbers of bookings.
    """

    __tablename__ = "conversations"

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    authority: Mapped[str] = mapped_column(ForeignKey("authorities.code"))
    account: Mapped[str] = mapped_column(String(64))
    fingerprint: Mapped[bytes] = mapped_column(Blob)
    wrote_at: Mapped[datetime] = mapped_column(Moment)
    expects: Mapped[Expects] = mapped_column(words(Expects), default=Expects.NOTHING)
    office: Mapped[str | None] = mapped_column(String(64))
    choices: Mapped[list[Any]] = mapped_column(JSON, default=list)
    asked_at: Mapped[datetime | None] = mapped_column(Moment)

    __table_args__ = (
        UniqueConstraint("account", "fingerprint", name="one_conversation_per_person"),
        Index("conversations_by_age", "wrote_at"),
    )


class Report(Table):
    """What a citizen reported. Who it was is sealed, and erased some time after it is closed (`forgotten_at`).

    The street is sealed too: it is read out of their words, and somebody's name may stand behind it.

    `merged_into` is the report of the same thing that is worked on; the state of this one follows it.
    """

    __tablename__ = "reports"

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    authority: Mapped[str] = mapped_column(ForeignKey("authorities.code"))
    account: Mapped[str] = mapped_column(String(64))
    fingerprint: Mapped[bytes | None] = mapped_column(Blob)
    sealed: Mapped[bytes | None] = mapped_column(Blob)
    category: Mapped[str | None] = mapped_column(String(64))
    state: Mapped[ReportState] = mapped_column(words(ReportState), default=ReportState.NEW)
    street: Mapped[bytes | None] = mapped_column(Blob)
    frazione: Mapped[str | None] = mapped_column(String(130))
    lat: Mapped[float | None] = mapped_column(Float)
    lon: Mapped[float | None] = mapped_column(Float)
    opened_at: Mapped[datetime] = mapped_column(Moment)
    wrote_at: Mapped[datetime] = mapped_column(Moment)
    answered_at: Mapped[datetime | None] = mapped_column(Moment)
    closed_at: Mapped[datetime | None] = mapped_column(Moment)
    assigned_to: Mapped[str | None] = mapped_column(String(100))
    merged_into: Mapped[int | None] = mapped_column(ForeignKey("reports.id"))
    forgotten_at: Mapped[datetime | None] = mapped_column(Moment)

    __table_args__ = (
        Index("reports_by_state", "authority", "state", "id"),
        Index("reports_of_person", "account", "fingerprint", "id"),
        Index("reports_alike", "authority", "category", "opened_at"),
        Index("reports_merged", "merged_into"),
    )


class ReportEntry(Table):
    """One line of a report: what the citizen said, what they were answered, what the staff noted. Sealed."""

    __tablename__ = "report_entries"

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    report: Mapped[int] = mapped_column(ForeignKey("reports.id"))
    at: Mapped[datetime] = mapped_column(Moment)
    kind: Mapped[Line] = mapped_column(words(Line))
    actor: Mapped[str | None] = mapped_column(String(100))
    sealed: Mapped[bytes | None] = mapped_column(Blob)

    __table_args__ = (Index("report_entries_of_report", "report", "id"),)


class Photograph(Table):
    """A picture of a report: what its provider calls it, sealed, until it is fetched; then the picture, sealed.

    `due_at` is when to try next and `claimed_until` until when somebody is trying, in seconds since 1970.
    """

    __tablename__ = "photographs"

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    report: Mapped[int] = mapped_column(ForeignKey("reports.id"))
    account: Mapped[str] = mapped_column(String(64))
    provider_id: Mapped[bytes | None] = mapped_column(Blob)
    at: Mapped[datetime] = mapped_column(Moment)
    state: Mapped[PhotoState] = mapped_column(words(PhotoState), default=PhotoState.WAITING)
    attempts: Mapped[int] = mapped_column(SmallInteger, default=0)
    due_at: Mapped[float] = mapped_column(Float, default=0.0)
    claimed_until: Mapped[float] = mapped_column(Float, default=0.0)
    media_type: Mapped[str | None] = mapped_column(String(100))
    sealed: Mapped[bytes | None] = mapped_column(Blob)

    __table_args__ = (
        Index("photographs_of_report", "report", "id"),
        Index(
            "photographs_waiting",
            "due_at",
            postgresql_where=text("state = 'waiting'"),
            sqlite_where=text("state = 'waiting'"),
        ),
    )


class Booking(Table):
    """An appointment: one of the seats of a slot. Two never have the same one, whoever else is booking."""

    __tablename__ = "bookings"

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    authority: Mapped[str] = mapped_column(ForeignKey("authorities.code"))
    office: Mapped[str] = mapped_column(String(64))
    starts_at: Mapped[datetime] = mapped_column(Moment)
    seat: Mapped[int] = mapped_column(SmallInteger)
    account: Mapped[str] = mapped_column(String(64))
    fingerprint: Mapped[bytes | None] = mapped_column(Blob)
    sealed: Mapped[bytes | None] = mapped_column(Blob)
    booked_at: Mapped[datetime] = mapped_column(Moment)
    cancelled_at: Mapped[datetime | None] = mapped_column(Moment)
    cancelled_by: Mapped[str | None] = mapped_column(String(100))

    __table_args__ = (
        Index(
            "one_person_per_seat",
            "authority",
            "office",
            "starts_at",
            "seat",
            unique=True,
            postgresql_where=text("cancelled_at IS NULL"),
            sqlite_where=text("cancelled_at IS NULL"),
        ),
        Index("bookings_of_person", "account", "fingerprint"),
        Index("bookings_by_time", "starts_at"),
    )


class Letter(Table):
    """Something the desk says to one person, until it is handed to the lanes: never more of them a minute than the
    comune's file allows, and first (`ahead`) what a person of the staff wrote or what is about an appointment.
    Address and words are sealed, and erased once they are out."""

    __tablename__ = "letters"

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    authority: Mapped[str] = mapped_column(ForeignKey("authorities.code"))
    account: Mapped[str] = mapped_column(String(64))
    fingerprint: Mapped[bytes | None] = mapped_column(Blob)
    sealed: Mapped[bytes | None] = mapped_column(Blob)
    said: Mapped[bytes | None] = mapped_column(Blob)
    due_at: Mapped[datetime] = mapped_column(Moment)
    not_after: Mapped[datetime] = mapped_column(Moment)
    ahead: Mapped[bool] = mapped_column(default=False)
    booking: Mapped[int | None] = mapped_column(ForeignKey("bookings.id"))
    ended_at: Mapped[datetime | None] = mapped_column(Moment)
    dispatch: Mapped[int | None] = mapped_column(BigInteger)

    __table_args__ = (
        Index(
            "letters_waiting",
            "authority",
            "due_at",
            postgresql_where=text("ended_at IS NULL"),
            sqlite_where=text("ended_at IS NULL"),
        ),
        Index("letters_of_late", "authority", "ended_at"),
        Index("letters_of_booking", "booking"),
    )


class AuditEntry(Table):
    """Who did what. Each row carries the hash of the one before, so that a removed row shows."""

    __tablename__ = "audit"

    number: Mapped[int] = mapped_column(BigId, primary_key=True)
    at: Mapped[datetime] = mapped_column(Moment)
    actor: Mapped[str] = mapped_column(String(100))
    action: Mapped[str] = mapped_column(String(60))
    subject: Mapped[str] = mapped_column(String(200))
    details: Mapped[dict[str, Any]] = mapped_column(JSON)
    previous: Mapped[str] = mapped_column(String(64))
    hash: Mapped[str] = mapped_column(String(64), unique=True)


def of_channel(channel: Channel) -> Select[ChannelAccount]:
    """The accounts of one channel."""
    return select(ChannelAccount).where(ChannelAccount.channel == channel).order_by(ChannelAccount.name)
