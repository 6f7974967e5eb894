"""What goes in and what comes out, in snake_case. Whatever is not known here is refused, not ignored."""

import re
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, StrictBool

from alerting.actors import Role
from alerting.domain.attachments import LONGEST_SAYING
from alerting.domain.cap import MsgType, Status
from alerting.domain.choices import Topic
from alerting.domain.delivery import Channel
from alerting.domain.fallback import Because, Stays
from alerting.domain.findings import Weight
from alerting.domain.gsm import Encoding
from alerting.domain.intake import CameBy, IntakeState
from alerting.domain.kinds import Colour, Kind, Risk
from alerting.domain.lanes import Lane
from alerting.domain.lifecycle import State
from alerting.domain.notices import Answer, Ended, Matter
from alerting.domain.panels import PanelKind, Shows
from alerting.domain.recipients import Label
from alerting.domain.rendering import Form
from alerting.domain.sources import Kind as SourceKind

RFC_3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d(:\d\d(\.\d+)?)?([Zz]|[+-]\d\d:\d\d)?", re.ASCII)
YEARS = range(2000, 2100)
"""A time far outside is a slip, and the ends of the calendar cannot be converted to UTC."""
WEB = re.compile(r"https?://[^\s\"<>]+", re.ASCII)
LONGEST_TEXT = 10_000
MOST_IN_A_BATCH = 5_000


def _written_as_rfc_3339(value: object) -> object:
    if not isinstance(value, str) or not RFC_3339.fullmatch(value.strip()):
        raise ValueError("is no RFC 3339 time: write it as in 2026-11-21T18:00:00+01:00")
    return value.strip()


def _of_our_days(value: datetime) -> datetime:
    if value.year not in YEARS:
        raise ValueError(f"is in the year {value.year}: check the date")
    return value


def _readable(value: str) -> str:
    if any(not letter.isprintable() and letter not in "\n\r\t\u00a0\u200d" for letter in value):
        raise ValueError("holds a control character, which no telephone shows: remove it")
    return value


def _web_address(value: str) -> str:
    if value and not WEB.fullmatch(value):
        raise ValueError("is no web address: write it with https:// and without spaces")
    return value


Count = int | Literal["<10"]
"""People; for a role that may see none of them in tens, and below ten only that."""
Time = Annotated[AwareDatetime, BeforeValidator(_written_as_rfc_3339), AfterValidator(_of_our_days)]
Words = Annotated[str, Field(max_length=LONGEST_TEXT), AfterValidator(_readable)]
Name = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_readable)]
Web = Annotated[str, Field(max_length=500), AfterValidator(_web_address)]


class Input(BaseModel):
    """Something a caller says."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class Output(BaseModel):
    """Something we answer. Times are in UTC, lists and truths are never null."""

    model_config = ConfigDict(frozen=True)


# ── alerts ──────────────────────────────────────────────────────────────────────────────────────────


LANGUAGE = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8}){0,3}", re.ASCII)


def _language(value: str) -> str:
    if not LANGUAGE.fullmatch(value):
        raise ValueError("is no language tag: write it as in en, fr or pt-BR")
    if value.lower().split("-")[0] == "it":
        raise ValueError("is Italian, which headline, description and instruction are for")
    return value


def _each_once(value: list["TranslationIn"]) -> list["TranslationIn"]:
    spoken = [translation.language.lower().split("-")[0] for translation in value]
    if twice := {language for language in spoken if spoken.count(language) > 1}:
        raise ValueError(f"has {', '.join(sorted(twice))} twice: say it once in each language")
    return value


class TranslationIn(Input):
    """The same words in another language."""

    language: Annotated[str, AfterValidator(_language)] = Field(description="As in en, fr or pt-BR (RFC 5646).")
    headline: Annotated[str, Field(min_length=1, max_length=160), AfterValidator(_readable)]
    description: Words = ""
    instruction: Words = Field("", description="What to do, as the Italian text says it.")


class LeftOutIn(Input):
    """Whom an alert is not for: whoever stands on the edge of it is told all the same."""

    areas: list[Name] = Field(default_factory=list, max_length=200)
    geofence: dict[str, Any] | None = Field(None, description="GeoJSON, as that of the alert.")


class EnclosureIn(Input):
    """The picture or the PDF that goes with an alert: handed in before, named by its hash."""

    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] = Field(description="As POST /attachments answered.")
    says: Annotated[str, Field(max_length=LONGEST_SAYING), AfterValidator(_readable)] = Field(
        "", description="What it shows, for whoever cannot see it. A picture must have it."
    )


class DraftIn(Input):
    """What an operator fills in; everything else follows from the kind and the authority."""

    authority: Name | None = Field(None, description="The comune that speaks; yours where your token has one.")
    kind: Kind
    headline: Words = Field(description="One line: what happens. 160 characters at most.")
    description: Words = Field(description="What it means for people.")
    instruction: Words = Field("", description="What to do. An allerta arancione or rossa must have one.")
    colour: Colour | None = Field(None, description="Of an allerta meteo, and of nothing else.")
    risk: Risk | None = Field(None, description="Of an allerta meteo, and of nothing else.")
    onset: Time | None = Field(None, description="When it begins, with an offset; now where it is not given.")
    expires: Time = Field(description="When it ends, with an offset. Nothing is sent after this.")
    areas: list[Name] = Field(
        default_factory=list, max_length=200, description='Codes: "calcinaia.fornacette", or just "fornacette".'
    )
    geofence: dict[str, Any] | None = Field(
        None, description="GeoJSON, longitude first; a circle is a Feature of a Point with the property radius_km."
    )
    geofence_name: Words = Field("", description="What citizens call the place that was drawn.")
    cut_at_border: StrictBool = Field(
        False,
        description="Of a geofence that reaches over the border, what lies within is meant; else it is refused.",
    )
    left_out: LeftOutIn | None = Field(None, description="Whom it is not for, though they are in the place.")
    web: Web = Field("", description="An https:// address with more.")
    enclosure: EnclosureIn | None = Field(None, description="A picture or a PDF; its address on other channels.")
    exercise: StrictBool = Field(False, description="An exercise never reaches a live recipient.")
    translations: Annotated[list[TranslationIn], Field(max_length=10), AfterValidator(_each_once)] = Field(
        default_factory=list, description="For those who do not read Italian. Shown after it, as far as there is room."
    )
    updates: Name | None = Field(
        None,
        description="The issued alert this one takes the place of. Whoever got that one, or may have, gets this too.",
    )

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "authority": "calcinaia",
                    "kind": "allerta-meteo",
                    "colour": "arancione",
                    "risk": "idraulico",
                    "headline": "Allerta meteo arancione per piena dell'Arno",
                    "description": "Dalle 14 il livello dell'Arno può salire rapidamente.",
                    "instruction": "Lascia i piani bassi e non scendere in cantina.",
                    "expires": "2026-11-22T08:00:00+01:00",
                    "areas": ["fornacette"],
                }
            ]
        }
    )


class CancelIn(Input):
    """Why an alert is taken back: people read it."""

    reason: Annotated[str, Field(min_length=1, max_length=500), AfterValidator(_readable)]


class AlertOut(Output):
    """An alert of ours in a list. `state` is where it stands with us, `status` is CAP's."""

    identifier: str
    authority: str
    kind: Kind
    state: State
    status: Status
    msg_type: MsgType
    lane: Lane
    headline: str
    areas: list[str]
    author: str
    approver: str | None
    cancels: str | None = Field(description="The alert this one takes back.")
    updates: str | None = Field(description="The alert this one takes the place of, as soon as it is issued.")
    intake: int | None = Field(description="The number of the document it was made from, of a source.")
    source: str | None = Field(description="Whose document that is.")
    drafted_at: datetime
    approved_at: datetime | None
    issued_at: datetime | None
    expires_at: datetime
    ended_at: datetime | None


class FindingOut(Output):
    """What a careful colleague would say about a text: advice, which forbids nothing."""

    rule: str = Field(description="A stable id: action-missing, jargon, like-it-alert…")
    severity: Weight
    text: str = Field(description="What could be better, in Italian, for whoever writes.")


class DraftedOut(AlertOut):
    """A draft, and what could be said better before it is approved."""

    findings: list[FindingOut]


class AlertList(Output):
    """Alerts, the newest first. `next_cursor` is null on the last page."""

    items: list[AlertOut]
    next_cursor: str | None


class DeliveryOut(Output):
    """How far it has come, in people: whoever is told on a second channel counts once more.

    `audience` is null while it is still being worked out.
    """

    audience: int | None
    waiting: int = Field(description="Nobody has tried yet; with those still being worked out unknown.")
    sending: int
    deferred: int = Field(description="The provider asked us to come again.")
    uncertain: int = Field(description="The line died after we spoke: it may have arrived.")
    unresolved: int = Field(description="It may have arrived: said twice, and nobody answered.")
    accepted: int = Field(description="The provider has it; no receipt yet.")
    sent: int
    delivered: int
    read: int
    refused: int = Field(description="The provider does not carry it to this person.")
    failed: int
    withdrawn: int = Field(description="Taken back before it was said.")
    final: int = Field(description="For so many nothing more will be attempted.")
    complete: bool = Field(description="The audience is known, all of it is final, and nobody is told elsewhere next.")


class FallbackOut(Output):
    """Who was not reached where they were told first, in people."""

    followed: dict[Because, int] = Field(description="Told on another channel, by what came before.")
    not_followed: dict[Stays, int] = Field(
        description="Not told on another: it was over, they had it after all, another was being tried, they have no "
        "other address, or the budget is used up (not_afforded)."
    )
    due: int = Field(description="Noted, and followed in a moment.")
    told_twice: int = Field(description="Told on another channel, and the first text arrived after all.")
    euro: float = Field(description="What that may cost at most; what was spent is in `costs`.")


class CostOut(Output):
    """What texts on one channel have cost. Of an SMS each part is paid."""

    channel: Channel
    texts: int
    parts: int
    euro: float


class LaneCostOut(Output):
    """What the texts of one lane have cost."""

    lane: Lane
    texts: int
    parts: int
    euro: float


class AlertCostOut(Output):
    """What one alert has cost in this month; null are answers to citizens."""

    alert: str | None
    lane: Lane
    texts: int
    parts: int
    euro: float


class CostsOut(Output):
    """A month's account."""

    authority: str
    month: str
    euro: float
    by_channel: list[CostOut]
    by_lane: list[LaneCostOut]
    by_alert: list[AlertCostOut]


class AlertDetail(AlertOut):
    """One alert whole: its CAP message in snake_case, what people read, how far it has come."""

    document: dict[str, Any]
    text: str
    delivery: DeliveryOut | None = Field(description="Null until it is issued.")
    fallback: FallbackOut | None = Field(description="Null until it is issued.")
    costs: list[CostOut] = Field(description="So far, on each channel that costs.")
    findings: list[FindingOut]


class Issued(Output):
    """From now on it is being said."""

    identifier: str
    state: State
    lane: Lane
    issued_at: datetime


class Cancelled(Output):
    """It is taken back. `cancel` is the alert that tells so; null where nobody had been told anything."""

    identifier: str
    state: State
    cancel: str | None


class AreaShare(Output):
    """The part of an audience that has a place in one area. Areas overlap: the sum may exceed the whole."""

    code: str
    name: str
    recipients: Count


class AccountShareOut(Output):
    """The part of an audience that one number or bot reaches, and when its last text would be handed over."""

    account: str
    channel: Channel
    recipients: Count
    waiting_before: int = Field(description="Texts that go first: those queued in this lane and above.")
    minutes: float
    euro: float | None = Field(description="By the price in the comune's file; null where it gives none.")


class TextLength(Output):
    """How long the text is for one channel, in UTF-16 units, and the most its provider takes."""

    channel: Channel
    characters: int
    most: int
    carries_enclosure: bool | None = Field(
        description="Whether the picture or PDF goes with the text; else the text says where it is. Null without one."
    )


class TextOut(Output):
    """The text in one form, as it would be sent: template (WhatsApp), chat (Telegram), sms, mail."""

    form: Form
    text: str
    subject: str | None = Field(description="Of a mail; of a push its title.")
    characters: int = Field(description="UTF-16 units; of an SMS in GSM-7, septets.")
    most: int
    encoding: Encoding | None = Field(description="Of an SMS: GSM-7, or UCS-2 where a letter is not in that.")
    parts: int | None = Field(description="Of an SMS: each is sent and paid on its own.")
    shortened: bool = Field(description="Words were left out to make the rest fit.")
    linked: bool = Field(description="It says where the picture or PDF is: a channel of this form does not carry it.")


class PreviewOut(Output):
    """Whom an alert would reach and what they would read, before anybody is told."""

    authority: str
    lane: Lane
    exercise: bool
    recipients: Count
    place_unknown: Count = Field(description="Of these, told because nobody knows where they live.")
    by_area: list[AreaShare]
    by_account: list[AccountShareOut]
    minutes: float = Field(description="Until the last hand-over, all accounts working side by side.")
    euro: float | None = Field(description="All accounts together; null where one of them has no price.")
    euro_at_most: float | None = Field(description="With all that telling people on other channels may cost besides.")
    text: str
    characters: list[TextLength]
    texts: list[TextOut] = Field(description="One for each form a text can take, whether or not a channel uses it yet.")
    findings: list[FindingOut]
    rounded: bool = Field(description='Counts are rounded down to tens, "<10" below ten: your role sees no person.')


class AttachmentOut(Output):
    """A picture or a PDF as everybody will get it. A picture has been drawn anew; `sha256` is that of these bytes."""

    sha256: str
    media_type: str
    bytes: int
    width: int | None = Field(description="In pixels; null of a PDF.")
    height: int | None
    url: str = Field(description="Where everybody sees it, once an alert that shows it has been issued.")


# ── areas ───────────────────────────────────────────────────────────────────────────────────────────


class AreaOut(Output):
    """A place that can be alerted by name. `demonstration`: not its real boundary."""

    code: str
    name: str
    kind: str
    parent: str | None
    authority: str | None = Field(description="Whose territory it is a part of; null where nobody here speaks of it.")
    version: int
    valid_from: datetime
    source: str
    licence: str
    demonstration: bool


class AreaList(Output):
    """The areas that serve: all, or those of one authority or kind."""

    items: list[AreaOut]


class MapOut(Output):
    """What a map of an authority's territory needs. Without tiles it is drawn from the outlines alone."""

    authority: str
    bbox: list[float] = Field(description="West, south, east, north, in degrees (RFC 7946, 5).")
    tiles: str | None = Field(description="As in https://tiles.example/{z}/{x}/{y}.png; null for none.")
    attribution: str = Field(description="To be shown beside the tiles.")
    sources: list[str] = Field(description="Whose the outlines are: to be shown beside the map.")


# ── recipients ──────────────────────────────────────────────────────────────────────────────────────


class PointIn(Input):
    """A place in degrees of WGS 84."""

    lat: float = Field(ge=-90, le=90, strict=True)
    lon: float = Field(ge=-180, le=180, strict=True)


class AddressIn(Input):
    """Where somebody is reached."""

    channel: Channel
    address: Annotated[str, Field(min_length=1, max_length=100)] = Field(
        description='A mobile number for WhatsApp and SMS ("333 649 26 90", "+39…"), a chat id for Telegram.'
    )


class AskingIn(AddressIn):
    """Somebody who asks for what is known of them, or to be erased, by an address of theirs."""

    authority: Name | None = None


class WhereIn(Input):
    """Where somebody is: a point or an area, not both; nothing where it is not known."""

    point: PointIn | None = None
    area: Name | None = None


class PlaceIn(WhereIn):
    """One of somebody's places."""

    label: Label = Field(Label.CASA, description="casa, lavoro, genitori, scuola, altro: one of each.")


class PlaceOut(Output):
    """One of somebody's places; `areas` are those it lies in."""

    label: Label
    point: PointIn | None
    area: str | None
    areas: list[str]


class PlacesIn(Input):
    """All of somebody's places, instead of what was known; none for told of everything."""

    places: list[PlaceIn] = Field(max_length=len(Label))


class PlacesOut(Output):
    """Where somebody wants to be told about. `located`: they are not told of everything in the comune."""

    id: int
    authority: str
    located: bool
    places: list[PlaceOut]


Clock = Annotated[str, Field(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$", examples=["22:00"])]


class QuietHoursIn(Input):
    """From when until when, in Italy, nothing routine is told: over midnight where it begins later than it ends."""

    begins: Clock
    ends: Clock


class ChoicesIn(Input):
    """All of somebody's choices, instead of those before. Emergencies are told whatever stands here."""

    topics: list[Topic] = Field(max_length=len(Topic), description="Those they want besides the emergencies.")
    quiet: QuietHoursIn | None = None
    language: str = Field("it", pattern=r"^[a-z]{2}$")
    order: list[Channel] = Field(
        default_factory=list, max_length=len(Channel), description="Which of their channels come first; none: as it is."
    )


class QuietHoursOut(Output):
    """Hours, in Italy, in which nothing routine is told."""

    begins: str
    ends: str


class ChoicesOut(Output):
    """What somebody has chosen. `order`: the channels they are reached on, as they are tried."""

    id: int
    authority: str
    topics: list[Topic]
    quiet: QuietHoursOut | None
    language: str
    order: list[Channel]


class PersonIn(AddressIn, WhereIn):
    """Somebody who is to be told, and where they are if that is known: one place, or several as `places`."""

    also: list[AddressIn] = Field(
        default_factory=list,
        max_length=len(Channel),
        description="Where else, on other channels: told there, in this order, whom the first does not reach.",
    )
    places: list[PlaceIn] = Field(default_factory=list, max_length=len(Label))
    exercise: StrictBool = Field(False, description="Only ever reached by exercises.")


class RecipientIn(PersonIn):
    """A person whom the staff registers because they asked for it."""

    authority: Name | None = None


class RecipientsIn(Input):
    """Many people of one authority at once."""

    authority: Name | None = None
    items: list[PersonIn] = Field(min_length=1, max_length=MOST_IN_A_BATCH)


class RecipientOut(Output):
    """A recipient as a screen may show them: the address is never answered whole."""

    id: int
    authority: str
    channel: Channel
    address: str
    created: bool


class RefusedPerson(Output):
    """One of many who could not be registered, by their place in the list, and why."""

    index: int
    detail: str


class RegisteredOut(Output):
    """What became of many: created, already there (in the database or earlier in the list), refused."""

    created: int
    existing: int
    refused: list[RefusedPerson]


class ImportReason(Output):
    """Why rows of a list were not taken or something of them was left out, and of how many that is so."""

    code: str
    detail: str = Field(description="In Italian, for the office.")
    rows: int


class ImportedRow(Output):
    """One row of a list, by its line."""

    line: int
    outcome: str
    reasons: list[str]


class ImportOut(Output):
    """What became of a list. `completed` were there and have one address more; `left` had left once and stay away."""

    authority: str
    written: bool = Field(description="False for a dry run, and for a strict list with a row that cannot be taken.")
    created: int
    completed: int
    existing: int
    twice: int = Field(description="Stand further up in the list.")
    left: int
    refused: int
    columns: list[str] = Field(description="What was understood of the header; other columns are not looked at.")
    encodings: dict[str, int] = Field(description="How many lines are written in which.")
    reasons: list[ImportReason]
    rows: list[ImportedRow]


class RecipientCount(Output):
    """How many people of an authority are told, by area; `place_unknown` are told of everything."""

    authority: str
    recipients: Count
    place_unknown: Count
    unreachable: Count = Field(description="Of whom a provider has said for 90 days that nobody is there.")
    exercise: Count = Field(description="Besides these, reached by exercises only.")
    by_area: list[AreaShare]
    rounded: bool


# ── dead letters ────────────────────────────────────────────────────────────────────────────────────


class DeadLetterOut(Output):
    """A message nobody could work on. `ended_at` is null while it waits for an operator."""

    number: int
    at: datetime
    lane: Lane
    why: str = Field(description="unreadable, misplaced, orphan, unforeseen, delivery_limit, expired, full, foreign…")
    sentence: str
    queue: str = Field(description="Where it was, as RabbitMQ calls it; empty where nobody knows.")
    exchange: str
    routing_key: str
    message_id: str
    ended_at: datetime | None
    ended_by: str | None
    replayed: bool = Field(description="Ended by being said again; otherwise it was dismissed.")


class DeadLetterList(Output):
    """A page of dead letters, the newest first. `next_cursor` is null on the last one."""

    items: list[DeadLetterOut]
    next_cursor: int | None


class DeadLetterDetail(DeadLetterOut):
    """One of them, with what it says: shortened, and with signs in the place of bytes that are no text."""

    headers: dict[str, Any]
    body: str
    bytes: int = Field(description="How long the body is that is kept.")


# ── what others say ─────────────────────────────────────────────────────────────────────────────────


class DefectOut(Output):
    """What is wrong with a document, or worth knowing about it."""

    rule: str = Field(description="A stable id: polygon-open, sent-naive, envelope…")
    severity: Weight
    line: int | None = Field(description="Counted from 1; null where a line makes no sense.")
    text: str


class BecameOut(Output):
    """What was done for one comune because of a document."""

    authority: str | None = Field(description="Null where it concerns no comune in particular.")
    did: str = Field(description="issued, drafted, joined (told already), cancelled, shown, nothing…")
    alert: str | None
    because: str


class IntakeOut(Output):
    """A document that a source handed us, and where it stands.

    received: not looked at yet; taken: what had to follow has followed; repeated: the same message again; quarantined:
    somebody decides; rejected: not to be used; dismissed: somebody decided against it.
    """

    number: int
    source: str
    came_by: CameBy
    received_at: datetime
    media_type: str
    sha256: str
    state: IntakeState
    because: str = Field(description="Why it stands there; empty where all is well.")
    headline: str
    errors: int = Field(description="Findings that break a rule.")
    warnings: int = Field(description="Findings that a careful issuer would mend.")
    settled_at: datetime | None
    settled_by: str | None = Field(description="Who let it pass, or dismissed it.")


class IntakeDetail(IntakeOut):
    """One document with all that was found in it, and what became of it in each comune."""

    findings: list[DefectOut]
    became: list[BecameOut]


class IntakeList(Output):
    """A page of documents, the newest first. `next_cursor` is null on the last one."""

    items: list[IntakeOut]
    next_cursor: int | None


class HandedIn(Output):
    """What became of what was handed in: one item, or one for each message inside an envelope."""

    items: list[IntakeDetail]


class PageOut(Output):
    """Something that somebody on duty is to look at. `acknowledged_at` is null while nobody has."""

    number: int
    authority: str | None = Field(description="Whose it is; null is everybody's.")
    about: str = Field(description="What to look at: `alert …`, `intake 12`, `source dpc-criticita`.")
    sentence: str
    at: datetime
    called: int = Field(description="How many times whoever a comune names for its duty was called.")
    called_at: datetime | None
    acknowledged_at: datetime | None
    acknowledged_by: str | None


class PageList(Output):
    """Pages, the newest first. `next_cursor` is null on the last one."""

    items: list[PageOut]
    next_cursor: int | None


class TellingOut(Output):
    """One notice as one of the staff was told it. `ended` is null while it is still tried."""

    staff: str = Field(description="Its account in the secrets file: `staff.calcinaia.sala`.")
    said: Literal["began", "over"]
    attempts: int
    last: Answer | None = Field(description="What the last attempt came to; nobody says whether it was read.")
    ended: Ended | None
    ended_at: datetime | None


class NoticeOut(Output):
    """Something that is or was amiss. `over_at` is null while it is."""

    number: int
    matter: Matter
    about: str = Field(description="`account …`, `alert …`, `source …`, `dead letters …`, `quarantine …`, `pages …`.")
    authority: str | None = Field(description="Whose it is; null is everybody's.")
    sentence: str
    urgent: bool
    began_at: datetime
    over_at: datetime | None
    told: list[TellingOut]


class NoticeList(Output):
    """Notices, the newest first. `next_cursor` is null on the last page."""

    items: list[NoticeOut]
    next_cursor: int | None


class ShowingOut(Output):
    """What a panel is to show, under a number that only grows; nothing where the state is CLEAR."""

    version: int = Field(description="0 before anything was ever said to it.")
    state: Shows
    alert: str | None
    lines: list[str]
    since: datetime
    expires: datetime | None


class PanelOut(Output):
    """A message panel or a siren. What is null it has never said."""

    id: str
    authority: str
    account: str
    topic: str
    kind: PanelKind
    exercise: bool
    lines: int
    columns: int
    should_show: ShowingOut
    acknowledged: int | None = Field(description="The last version it says it shows.")
    acknowledged_state: Shows | None
    acknowledged_at: datetime | None
    is_right: bool = Field(description="Whether it says that it shows what it should.")
    online: bool | None
    missing_since: datetime | None


class PanelList(Output):
    """All of them."""

    items: list[PanelOut]


class SourceOut(Output):
    """Somebody who feeds us, and how it stands with them. What is null has not happened, or is not asked for."""

    name: str
    title: str
    kind: SourceKind
    nearness: str = Field(description="national, regional, municipal: the nearer instructs better.")
    enabled: bool
    polled: bool = Field(description="Whether we ask; otherwise it hands in.")
    asked_at: datetime | None
    answered_at: datetime | None = Field(description="Its last answer to work with, new or not.")
    failures: int = Field(description="Since that answer.")
    trouble: str
    silent_since: datetime | None
    last_24_hours: dict[IntakeState, int] = Field(description="Documents received, by where they stand now.")
    last_received_at: datetime | None
    last_headline: str


class SourceList(Output):
    """All sources that have a file here."""

    items: list[SourceOut]


class ExpectedOut(Output):
    """One phenomenon that MeteoAlarm expects in a region."""

    phenomenon: str | None = Field(description="vento, pioggia, temporali…; null for a number nobody knows.")
    colour: str = Field(description="gialla, arancione, rossa.")
    event: str
    headline: str
    description: str
    disclaimer: str = Field(description="Of this warning: show it beside the description.")
    sender: str
    sent: datetime
    onset: datetime
    expires: datetime


class ContextSource(Output):
    """What one source expects in the region. With `fetched_at` null or with findings, nothing here is not green."""

    source: str
    title: str
    licence: str
    disclaimer: str
    fetched_at: datetime | None = Field(description="When this document came; null where there is none.")
    confirmed_at: datetime | None = Field(
        description="When the source last answered, with this or that it still holds."
    )
    warnings: list[ExpectedOut]
    findings: list[DefectOut] = Field(description="What of it could not be read.")


class ContextOut(Output):
    """For operators' eyes: what others expect here. Never official, never sent to anybody."""

    official: bool = Field(False, description="Never: the official warnings are the Dipartimento's and the comune's.")
    region: str = Field(description="As EMMA_ID: IT009 is Toscana.")
    items: list[ContextSource]


# ── growth ──────────────────────────────────────────────────────────────────────────────────────────


class GrowthSpan(Output):
    """A month or a day of Rome: who joined and left in it, who was subscribed at its end, what was told and spent."""

    span: str = Field(description="2026-11, or 2026-11-26.")
    joined: Count
    left: Count
    subscribed: Count
    subscribed_by_channel: dict[str, Count] = Field(description="Each by the channel they are told on first.")
    alerts: int
    texts: dict[str, Count] = Field(description="Of alerts, as far as providers took them.")
    answers: Count = Field(description="To citizens who wrote.")
    euro: float | None = Field(description="Null where a channel was used whose price the comune's file does not say.")
    euro_as_sms: float | None = Field(description="The same people told by SMS; null where no price is known.")


class GrowthPlace(Output):
    """How many named a frazione or stand in it. `before` is at the beginning of the last span, where it is known."""

    code: str
    name: str
    people: Count
    before: Count | None


class GrowthOut(Output):
    """How a comune's service grows, and what it costs."""

    authority: str
    items: list[GrowthSpan]
    places: list[GrowthPlace]
    rounded: bool


# ── the system itself ───────────────────────────────────────────────────────────────────────────────


class OutboxLane(Output):
    """What RabbitMQ has yet to confirm in one lane."""

    messages: int
    oldest_seconds: float


class WorkerOut(Output):
    """A process, as it said last. `gone`: it said nothing for 20 s, and did not end as it should."""

    role: str
    state: str
    waits_for: list[str]
    since: datetime
    seen_seconds_ago: float
    gone: bool


class HaltedAccount(Output):
    """An account nobody is told from, since when and why."""

    account: str
    since: datetime
    because: str | None


class StatusOut(Output):
    """`degraded`: what is promised will be kept, but later.

    Because RabbitMQ is away, because nobody is left of a role that worked in the last 24 hours, or because an
    account is halted.
    """

    status: str
    database: str
    broker: str
    outbox: dict[str, OutboxLane]
    workers: list[WorkerOut]
    halted: list[HaltedAccount]


class Ignored(Output):
    """A webhook was understood so far as it concerns us."""

    texts: int
    receipts: int
    ignored: int


SEES_NO_PERSON = frozenset({Role.VIEWER})


FEW_PEOPLE = 10


def shown(count: int, role: Role) -> Count:
    """A count as a role may see it: exact, or in tens and "<10" below ten.

    Zero is "<10" too: with a fence around one house it would tell whether somebody there subscribed.
    """
    if role not in SEES_NO_PERSON:
        return count
    return count // FEW_PEOPLE * FEW_PEOPLE if count >= FEW_PEOPLE else "<10"


def shown_at_most(count: int, role: Role) -> int:
    """What may follow from a count, as minutes and euro do, without telling it: no more than `shown` tells."""
    seen = shown(count, role)
    return seen if isinstance(seen, int) else FEW_PEOPLE
