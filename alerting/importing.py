"""People brought along from a list: read, checked and subscribed in parts, each part in a transaction of its own.

Who is there stays as they are, who had left stays away, and nobody comes without proof that they agreed. The same
list again, or after a crash in the middle of it, changes nothing for those who are in.
"""

import asyncio
import csv
import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import Enum
from functools import lru_cache
from itertools import islice
from typing import BinaryIO, TextIO

from sqlalchemy import select, text
from sqlalchemy.exc import IntegrityError, OperationalError

from alerting import atlas, audit
from alerting.domain.authority import Authority, ChannelAccess
from alerting.domain.delivery import Channel
from alerting.domain.places import at
from alerting.domain.recipients import Place, Precision
from alerting.domain.rendering import ROME
from alerting.domain.roster import Entry, Refused, Why, entry_of, harmless
from alerting.joining_many import Brought, Joining, Proof, bring_many
from alerting.persistence import Database, tables
from alerting.roster_lines import Encoding, Roster, Row, read
from alerting.sealing import Seal
from alerting.subscribing import Subscriber

PART = 5_000
"""Rows of one transaction."""
PART_BESIDE_OTHERS = 500
"""Where an alert that is issued meanwhile waits for each of them."""

PIECE = 1 << 20  # bytes

WORDS = "imported"
TELEPHONES = (Channel.WHATSAPP, Channel.SMS)
MOST_TRIES = 5
"""Of one part, where somebody joins by themselves in the same moment."""
WORTH_ANALYSING = 10_000
SHORTEST_REFERENCE, LONGEST_REFERENCE = 5, 60
SUFFIXES = (".pdf", ".p7m", ".jpg", ".jpeg", ".png", ".doc", ".docx", ".odt", ".txt", ".zip", ".eml", ".csv")


@dataclass(frozen=True, slots=True)
class Declared:
    """What vouches for a whole list: a document by its SHA-256, or words that say where the paper lies."""

    document: bytes | None = None
    reference: str = ""


def reference(words: str) -> Declared:
    """Words in the place of a document. Raises ValueError for what may be the name of a file that is not there."""
    said = " ".join(words.split())
    if said.casefold().endswith(SUFFIXES):
        raise ValueError("there is no such file: give the path of the document, or say in words where it is kept")
    if not SHORTEST_REFERENCE <= len(said) <= LONGEST_REFERENCE or not said.isprintable():
        raise ValueError(f"a reference has {SHORTEST_REFERENCE} to {LONGEST_REFERENCE} letters: determina 123/2026")
    return Declared(reference=said)


def document(file: BinaryIO) -> Declared:
    """A document, of which only the hash is kept: the comune keeps the document. Raises ValueError for an empty one."""
    digest, is_empty = hashlib.sha256(), True
    while piece := file.read(PIECE):
        digest.update(piece)
        is_empty = False
    if is_empty:
        raise ValueError("the document is empty: it proves nothing")
    return Declared(document=digest.digest())


# ── what becomes of a row ───────────────────────────────────────────────────────────────────────────


class Outcome(Enum):
    """What became of a row, in the word of the report."""

    NEW = "iscritta"
    COMPLETED = "completata"
    """Was there, and is reached at one address more."""
    EXISTING = "già iscritta"
    TWICE = "doppia"
    """Stands further up in the list."""
    HAS_LEFT = "uscita"
    REFUSED = "rifiutata"


@dataclass(frozen=True, slots=True)
class Finding:
    """One row that is worth a look, by its line in the file. Never what it says."""

    line: int
    outcome: Outcome
    why: tuple[Why, ...] = ()


@dataclass
class Tally:
    """How many rows came to what."""

    outcomes: Counter[Outcome] = field(default_factory=Counter)
    whys: Counter[Why] = field(default_factory=Counter)
    encodings: Counter[Encoding] = field(default_factory=Counter)
    separator: str = ""
    columns: tuple[str, ...] = ()
    written: bool = False

    @property
    def rows(self) -> int:
        return self.outcomes.total()

    @property
    def refused(self) -> int:
        return self.outcomes[Outcome.REFUSED]


Report = Callable[[Finding], None]


def report_to(file: TextIO) -> Report:
    """A report as a CSV that no spreadsheet runs anything of. One line for each row that did not simply join."""
    writer = csv.writer(file, delimiter=";", lineterminator="\r\n")
    writer.writerow(("riga", "esito", "motivo"))

    def put(finding: Finding) -> None:
        if finding.outcome is not Outcome.NEW or finding.why:
            sentences = "; ".join(why.value for why in finding.why)
            writer.writerow([harmless(cell) for cell in (str(finding.line), finding.outcome.value, sentences)])

    return put


# ── the import ──────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Import:
    """A list of one comune, and how it is to be taken.

    `telephone_on` is the channel of the telephones, by itself WhatsApp where the comune has it. `strict`: nobody comes
    in where one row cannot. `part` is how many rows one transaction takes.
    """

    authority: Authority
    declared: Declared | None = None
    telephone_on: Channel | None = None
    dry_run: bool = False
    strict: bool = False
    part: int = PART


class NoChannel(ValueError):
    """The comune has no account by which anybody of the list could be reached."""


async def bring(
    database: Database, file: BinaryIO, what: Import, seal: Seal, *, actor: str, now: datetime, report: Report
) -> Tally:
    """Subscribe the people of a list, and report row by row. Raises NoList and NoChannel before anything is written.

    A strict list is looked at as a whole first: where a row is refused nobody comes in. What somebody changes between
    the two, as by leaving, is counted and stops nothing.
    """
    accounts = await _accounts(database, what)
    begins = file.tell()
    if what.strict and not what.dry_run:
        tally = await _pass(database, file, replace(what, dry_run=True), accounts, seal, now, report)
        if tally.refused:
            return tally
        file.seek(begins)
        report = _nothing
    elif not what.dry_run:
        read(file)  # what is no list leaves no trace in the audit
        file.seek(begins)
    if not what.dry_run:
        await _note(database, "import begins", what, actor, now)
    tally = await _pass(database, file, what, accounts, seal, now, report)
    if not what.dry_run:
        tally.written = True
        await _note(database, "import", what, actor, now, tally)
        await _analyse(database, tally)
    return tally


def _nothing(_: Finding) -> None:
    """Said in the first pass already."""


async def _accounts(database: Database, what: Import) -> dict[Channel, ChannelAccess]:
    """The telephones' account and that of the mail, as far as the comune has them."""
    live = select(tables.ChannelAccount).where(
        tables.ChannelAccount.authority == what.authority.code, tables.ChannelAccount.live.is_(True)
    )
    async with database.read() as session:
        rows = (await session.scalars(live)).all()
    found = {
        row.channel: replace(access, name=row.name) for row in rows if (access := what.authority.channel(row.channel))
    }
    if what.telephone_on and what.telephone_on not in found:
        raise NoChannel(f"{what.authority.name} has no account on {what.telephone_on}: choose another channel")
    telephone = what.telephone_on or next((channel for channel in TELEPHONES if channel in found), None)
    kept = {channel: access for channel, access in found.items() if channel in (telephone, Channel.EMAIL)}
    if not kept:
        raise NoChannel(f"{what.authority.name} has no account on WhatsApp, SMS or e-mail: nobody could be reached")
    return kept


@dataclass(frozen=True, slots=True)
class Looked:
    """A row, read: somebody who may join, or why nobody does."""

    line: int
    joining: Joining | None
    why: tuple[Why, ...]
    keys: tuple[int, ...] = ()


async def _pass(
    database: Database,
    file: BinaryIO,
    what: Import,
    accounts: dict[Channel, ChannelAccess],
    seal: Seal,
    now: datetime,
    report: Report,
) -> Tally:
    async with database.read() as session:
        authority = replace(what.authority, territory=await atlas.territory_of(session, what.authority))
    reader = Reader(read(file), replace(what, authority=authority), accounts, seal, now)
    seen: set[int] = set()
    # The next part is read while the database is busy with this one; in a thread, as an alert may be issued meanwhile.
    coming = asyncio.create_task(asyncio.to_thread(reader.part))
    try:
        while looked := await coming:
            coming = asyncio.create_task(asyncio.to_thread(reader.part))
            able = [one.joining for one in looked if one.joining]
            brought = await _brought(database, able, seal, now, dry_run=what.dry_run)
            for finding in _findings(looked, brought, seen):
                reader.tally.outcomes[finding.outcome] += 1
                reader.tally.whys.update(finding.why)
                report(finding)
    finally:
        await asyncio.wait([coming])  # a thread cannot be called back, and reads from the caller's file
    return reader.tally


async def _brought(
    database: Database, people: Sequence[Joining], seal: Seal, now: datetime, *, dry_run: bool
) -> Brought:
    """One part, in its transaction. Who joins by themselves in the same moment makes it begin again."""
    for attempt in range(1, MOST_TRIES + 1):
        try:
            if dry_run:
                async with database.read() as session:
                    return await bring_many(session, people, seal, keyword=WORDS, now=now, dry_run=True)
            async with database.write() as session:
                return await bring_many(session, people, seal, keyword=WORDS, now=now)
        except (IntegrityError, OperationalError) as error:
            if attempt == MOST_TRIES or error.connection_invalidated:
                raise
    raise AssertionError("the last try returns or raises")


def _findings(looked: Sequence[Looked], brought: Brought, seen: set[int]) -> Iterator[Finding]:
    number = -1
    for one in looked:
        if one.joining is None:
            yield Finding(one.line, Outcome.REFUSED, one.why)
            continue
        number += 1
        why = one.why if number not in brought.without else (*one.why, Why.ANOTHERS)
        twice = one.keys[0] in seen
        seen.update(one.keys)
        if number in brought.left:
            yield Finding(one.line, Outcome.HAS_LEFT, (Why.HAS_LEFT,))
        elif twice:
            yield Finding(one.line, Outcome.TWICE, why)
        elif number in brought.new:
            yield Finding(one.line, Outcome.NEW, why)
        else:
            yield Finding(one.line, Outcome.COMPLETED if number in brought.completed else Outcome.EXISTING, why)


class Reader:
    """Reads a list part by part, and makes of each row somebody who may join."""

    def __init__(
        self, roster: Roster, what: Import, accounts: dict[Channel, ChannelAccess], seal: Seal, now: datetime
    ) -> None:
        self._roster, self._what, self._accounts, self._seal = roster, what, accounts, seal
        self._today = now.astimezone(ROME).date()
        self._usual: Encoding | None = None
        self.tally = Tally(
            separator=roster.separator, columns=tuple(dict.fromkeys(column.value for column, _ in roster.layout.at))
        )
        # The lists of a comune name few places, each of them many times.
        self._named = lru_cache(10_000)(self._place)

    def part(self) -> list[Looked]:
        """The next rows that say something; none at the end."""
        found: list[Looked] = []
        while len(found) < self._what.part and (rows := list(islice(self._roster.rows, self._what.part - len(found)))):
            found += filter(None, map(self._look, rows))
        return found

    def _look(self, row: Row) -> Looked | None:
        self.tally.encodings[row.encoding] += 1
        if row.flaw:
            return Looked(row.number, None, (row.flaw,))
        try:
            entry = entry_of(self._roster.layout, row.cells, self._today, declared=self._what.declared is not None)
            return self._joining(row, entry) if entry else None
        except Refused as refused:
            return Looked(row.number, None, (refused.why,))

    def _joining(self, row: Row, entry: Entry) -> Looked:
        why = list(entry.without)
        addresses: list[Subscriber] = []
        telephone = next((channel for channel in TELEPHONES if channel in self._accounts), None)
        for channel, address in ((telephone, entry.telephone), (Channel.EMAIL, entry.email)):
            if address is None:
                continue
            access = self._accounts.get(channel) if channel else None
            if access is None:
                why.append(Why.NO_ACCOUNT)
            else:
                addresses.append(Subscriber(self._what.authority, access, address))
        if not addresses:
            raise Refused(why[-1])
        if self._is_odd(row):
            why.append(Why.OTHER_ENCODING)
        joining = Joining(addresses[0], self._places(entry, why), True, tuple(addresses[1:]), self._proof(entry))
        keys = tuple(self._key(one) for one in addresses)
        return Looked(row.number, joining, tuple(why), keys)

    def _key(self, who: Subscriber) -> int:
        """Enough of a fingerprint to tell whether a list names somebody twice, for a word in a report."""
        whole = self._seal.fingerprint(who.address)
        return int.from_bytes(whole[:7], "big") << 1 | (who.access.channel is Channel.EMAIL)

    def _is_odd(self, row: Row) -> bool:
        if row.encoding is Encoding.ASCII:
            return False
        self._usual = self._usual or row.encoding
        return row.encoding is not self._usual

    def _places(self, entry: Entry, why: list[Why]) -> tuple[Place, ...]:
        territory = self._what.authority.territory
        if entry.point:
            if territory.nameable.of(entry.point):
                return (Place(Precision.ADDRESS, point=entry.point),)
            why.append(Why.POINT_OUTSIDE)
        if not entry.lives:
            return ()
        place = self._named(entry.lives[:200])
        if place is None:
            why.append(Why.PLACE_UNKNOWN)
            return ()
        return (place,)

    def _place(self, lives: str) -> Place | None:
        named = self._what.authority.territory.nameable.named(lives)
        return at(named[0], self._what.authority.territory) if len(named) == 1 else None

    def _proof(self, entry: Entry) -> Proof:
        declared = self._what.declared or Declared()
        said = (WORDS, declared.reference, entry.agreement.how)
        return Proof(": ".join(part for part in said if part)[:100], entry.agreement.on, declared.document)


async def _note(
    database: Database, action: str, what: Import, actor: str, now: datetime, tally: Tally | None = None
) -> None:
    counts = {outcome.name.lower(): tally.outcomes[outcome] for outcome in Outcome} if tally else {}
    proof = what.declared.document.hex() if what.declared and what.declared.document else None
    async with database.write() as session:
        await audit.write(
            session, at=now, actor=actor, action=action, subject=what.authority.code, document=proof, **counts
        )


async def _analyse(database: Database, tally: Tally) -> None:
    """A database that has no statistics of a town that has just come plans the next alert as for nobody."""
    if database.is_sqlite or tally.outcomes[Outcome.NEW] < WORTH_ANALYSING:
        return
    async with database.write() as session:
        await session.execute(text("ANALYZE recipients, addresses, places, memberships, consents"))
