"""Who was told what, against what was promised: every broken promise as a sentence with its evidence.

Pure but for `Record.look` and `Record.still_open`, which ask the simulator and the database.
"""

import json
import re
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from time import time
from typing import Any

import psycopg
from sqlalchemy.engine import make_url

from alerting.domain.delivery import FIRST_FINAL
from alerting.domain.lanes import Lane
from consumers.local.stack import fetch

ONE_SLICE = 10
"""People whom one worker may have been telling when it died (40 ms at 80 a second, and the next claim)."""
IN_FLIGHT = 16
"""Routine calls that were under way, or whose slot was leased, when an emergency came; of all processes together."""
AFTERMATH = 5.0
"""Seconds after a restart in which what a fault disturbed may still be disturbed."""
AFTERMATH_OF_A_WIPE = 60.0
"""Nobody gives back what was lost with the broker: the reconciler misses it after a while, and looks now and then."""
UNRECORDED = 1.5
"""Seconds before a kill: what was accepted then may not have been recorded when its worker died."""
HARMLESS = frozenset({"receipts", "inbound", "reconcile"})
"""Nobody's turn depends on these: their death explains no overtaking."""

HEADLINE = re.compile(r"(?P<cancel>ANNULLATO: )?(?:Sagra|Rottura) (?P<number>\d{3}) ")


@dataclass
class Said:
    """An alert that was issued, to whom, and whether it was taken back. Times are Unix time."""

    number: int
    lane: Lane
    audience: frozenset[str]
    issued: float = 0.0
    cancelled: float | None = None
    identifier: str = ""


@dataclass
class Window:
    """A fault and whom it struck, from its first to its last moment; `end` is far away until it is mended."""

    kind: str
    who: tuple[str, ...]
    start: float
    end: float = 1e18

    @property
    def of_delivery(self) -> bool:
        """Whether a process that tells people died, or stood still."""
        return any(who.startswith("deliver-") for who in self.who)

    def __str__(self) -> str:
        return f"{self.kind} {' '.join(self.who)}"


@dataclass(frozen=True, slots=True)
class Collapse:
    """A process that ended though nobody killed it."""

    name: str
    at: float
    code: int
    last_words: str


@dataclass(frozen=True, slots=True)
class Text:
    """One text the simulated WhatsApp accepted. `alert` is None for the answer to a citizen."""

    at: float
    to: str
    alert: int | None
    is_cancel: bool
    reference: str

    @property
    def is_first_attempt(self) -> bool:
        """Nobody had tried this person before: neither a worker that died nor one that was refused."""
        return self.reference.endswith(".1")


def read(item: dict[str, Any]) -> Text:
    """A text as the simulator lists it."""
    found = HEADLINE.search(item["text"] or "")
    return Text(
        at=item["at"],
        to="+" + str(item["to"]).removeprefix("+"),
        alert=int(found["number"]) if found else None,
        is_cancel=bool(found and found["cancel"]),
        reference=item["reference"] or "",
    )


@dataclass
class Record:
    """All that was said, done and received in one run."""

    seed: int
    received_url: str = ""
    database: str = ""
    began: float = field(default_factory=time)
    quiet: float = 0.0
    kills: int = 0
    said: list[Said] = field(default_factory=list)
    wrote: dict[str, float] = field(default_factory=dict)
    windows: list[Window] = field(default_factory=list)
    collapses: list[Collapse] = field(default_factory=list)
    texts: list[Text] = field(default_factory=list)
    unfinished: list[str] = field(default_factory=list)
    buried: list[str] = field(default_factory=list)

    def look(self) -> None:
        """Read what the simulator accepted since the last time."""
        body = fetch(f"{self.received_url}?after={len(self.texts)}")
        if body:
            self.texts.extend(map(read, json.loads(body)["items"]))

    def still_open(self) -> list[str]:
        """What is not finished yet, as sentences: dispatches, and citizens without an answer."""
        self.look()
        answered = {text.to for text in self.texts if text.alert is None}
        waiting = [number for number in self.wrote if number not in answered]
        found = [_standing(row) for row in _rows(self.database, OPEN)]
        if waiting:
            [(unread,)] = _rows(self.database, "SELECT count(*) FROM inbox WHERE handled_at IS NULL")
            found.append(f"{len(waiting)} citizens without an answer, {unread} texts in the inbox nobody has read")
        return found

    def after(self, at: float) -> str:
        """A moment, as the log of faults names it."""
        return f"+{at - self.began:.1f} s"


OPEN = f"""
SELECT d.id, d.lane, d.audience, d.last_seq, d.alert IS NULL, d.withdrawn_at IS NOT NULL,
       (SELECT count(*) FROM deliveries x WHERE x.dispatch_id = d.id AND x.progress >= {FIRST_FINAL}),
       (SELECT count(*) FROM deliveries x WHERE x.dispatch_id = d.id AND x.progress = 0),
       (SELECT count(*) FROM deliveries x WHERE x.dispatch_id = d.id AND x.progress = 1),
       (SELECT count(*) FROM deliveries x WHERE x.dispatch_id = d.id AND x.progress IN (2, 3)),
       (SELECT count(*) FROM batches b WHERE b.dispatch_id = d.id AND b.state = 'told'),
       (SELECT count(*) FROM batches b WHERE b.dispatch_id = d.id AND b.state = 'resting'),
       (SELECT count(*) FROM batches b WHERE b.dispatch_id = d.id AND b.state = 'waiting'),
       (SELECT count(*) FROM outbox)
  FROM dispatches d
 WHERE d.audience IS NULL
    OR d.audience <> (SELECT count(*) FROM deliveries x WHERE x.dispatch_id = d.id AND x.progress >= {FIRST_FINAL})
 ORDER BY d.id
"""


def _standing(row: Sequence[Any]) -> str:
    dispatch, lane, audience, last, is_reply, withdrawn, final, waiting, sending, deferred, told, resting, kept, box = (
        row
    )
    return (
        f"dispatch {dispatch} ({lane}{', a reply' if is_reply else ''}{', withdrawn' if withdrawn else ''}): "
        f"audience {audience}, numbered {last}, final {final}, waiting {waiting}, sending {sending}, "
        f"deferred {deferred}; batches told {told}, resting {resting}, kept back {kept}; {box} rows in the outbox"
    )


def _rows(url: str, query: str) -> list[tuple[Any, ...]]:
    where = make_url(url)
    if where.get_backend_name() == "sqlite":
        with closing(sqlite3.connect(f"file:{where.database}?mode=ro", uri=True, timeout=20)) as database:
            return database.execute(query).fetchall()
    plain = where.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(plain) as connection:
        return connection.execute(query.encode()).fetchall()


# ── the verdict ─────────────────────────────────────────────────────────────────────────────────────


def broken_promises(record: Record) -> list[str]:
    """Everything that must not have happened and did. Empty where the engine kept its word."""
    return [found for judge in JUDGES for found in judge(record)]


def _unfinished(record: Record) -> Iterator[str]:
    for standing in record.unfinished[:20]:
        yield f"not finished: {standing}"


def _lost(record: Record) -> Iterator[str]:
    told, cancelled = _first_by_person(record, False), _first_by_person(record, True)
    for said in record.said:
        reached = told[said.number].keys()
        if said.cancelled is None and (lost := said.audience - reached):
            yield f"LOST {len(lost)} of {len(said.audience)} people of {_name(record, said)}"
        if said.cancelled is not None and (unaware := reached - cancelled[said.number].keys()):
            yield f"LOST {len(unaware)} who got {_name(record, said)} and were not told that it was taken back"
        if strangers := reached - said.audience:
            yield f"{len(strangers)} people got {_name(record, said)}, which was not for them"
    answered = {text.to for text in record.texts if text.alert is None}
    unanswered = [at for number, at in record.wrote.items() if number not in answered]
    if unanswered:
        when = ", ".join(record.after(at) for at in unanswered[:5])
        yield f"LOST {len(unanswered)} of {len(record.wrote)} citizens who wrote ({when} …) and got no answer"


def _repeated(record: Record) -> Iterator[str]:
    """Each repetition must have a fault that explains it, and no kill explains more than a slice."""
    by_kill: Counter[int] = Counter()
    for group in _groups(record).values():
        if len(group) > 2:
            yield f"told {len(group)} times: {_shown(record, group)}"
        if len(group) < 2:
            continue
        because = _explanation(record, group[0].at)
        if because is None:
            yield f"told twice, and no fault explains it: {_shown(record, group)}"
        elif record.windows[because].kind != "ProviderAils":
            by_kill[because] += 1
    for place, people in by_kill.items():
        window = record.windows[place]
        workers = sum(who.startswith("deliver-") for who in window.who)
        if people > ONE_SLICE * workers:
            yield f"{people} people told twice by {window} at {record.after(window.start)}: a slice is {ONE_SLICE}"


def repeated(record: Record) -> int:
    """How many texts were told more than once to the same person."""
    return sum(len(group) > 1 for group in _groups(record).values())


def _explanation(record: Record, first: float) -> int | None:
    """Which fault may have swallowed the answer to a text that was accepted at `first`: its place in the list."""
    for place, window in enumerate(record.windows):
        if window.kind == "ProviderAils" and window.start - 0.1 <= first <= window.end + 0.5 and _loses_answers(window):
            return place
        if not window.of_delivery:
            continue
        until = window.end if window.kind == "Paused" else window.start
        if _could_not_record_since(record, window.start) - UNRECORDED <= first <= until + 0.3:
            return place
    return None


def _loses_answers(window: Window) -> bool:
    return window.who[0] in {"provider 504", "provider 505"}


def _could_not_record_since(record: Record, at: float) -> float:
    """From when on nothing could be written, where the database was away at that moment; else that moment."""
    away = [w for w in record.windows if w.kind == "DatabaseStopped" and w.start <= at <= w.end + AFTERMATH]
    return min((w.start for w in away), default=at)


def _overtaken(record: Record) -> Iterator[str]:
    """From the first to the last person of an emergency, of those whom nobody had tried before."""
    for said, between in routine_between(record):
        if len(between) > IN_FLIGHT:
            when = ", ".join(record.after(text.at) for text in between[IN_FLIGHT : IN_FLIGHT + 5])
            yield f"{len(between)} routine texts went ahead of {_name(record, said)}, at {when} …, and no fault was on"


def routine_between(record: Record) -> list[tuple[Said, list[Text]]]:
    """Of each emergency, the routine texts accepted while it was going out and no fault was on that explains them."""
    lanes = {said.number: said.lane for said in record.said}
    routine = [text for text in record.texts if not text.is_cancel and lanes.get(text.alert or 0) is Lane.ROUTINE]
    found = []
    for said in record.said:
        ours = [
            text.at
            for text in record.texts
            if text.alert == said.number and not text.is_cancel and text.is_first_attempt
        ]
        if said.lane is Lane.ROUTINE or not ours or said.cancelled is not None:
            continue
        first, last = min(ours), max(ours)
        found.append((said, [t for t in routine if first < t.at < last and not _disturbed(record, t.at)]))
    return found


def undisturbed_emergencies(record: Record) -> int:
    """How many emergencies came amid routine traffic in a time without faults: what `_overtaken` has to judge by."""
    of_routine = {said.number for said in record.said if said.lane is Lane.ROUTINE}
    routine = [text.at for text in record.texts if text.alert in of_routine and not text.is_cancel]
    judged = 0
    for said in record.said:
        ours = [text.at for text in record.texts if text.alert == said.number and text.is_first_attempt]
        if said.lane is Lane.ROUTINE or not ours or _disturbed(record, first := min(ours)):
            continue
        judged += any(first - 1 < at < first for at in routine) and any(at > first for at in routine)
    return judged


def _disturbed(record: Record, at: float) -> bool:
    return any(window.start <= at <= _calm_after(window) for window in record.windows)


def _calm_after(window: Window) -> float:
    """When a fault explains no overtaking any more."""
    if HARMLESS.issuperset(window.who):
        return window.start
    return window.end + (AFTERMATH_OF_A_WIPE if window.kind == "BrokerWiped" else AFTERMATH)


def _cancels(record: Record) -> Iterator[str]:
    told, cancelled = _last_by_person(record, False), _first_by_person(record, True)
    for said in record.said:
        early = [to for to, at in cancelled[said.number].items() if at < told[said.number].get(to, at)]
        if early:
            yield f"{len(early)} people were told that {_name(record, said)} is void before they were told of it"
        puzzled = cancelled[said.number].keys() - told[said.number].keys()
        may_have = _doubts(record, said)
        if len(puzzled) > may_have:
            yield (
                f"{len(puzzled)} people were told that {_name(record, said)} is void and never had it; "
                f"faults explain {may_have}"
            )


def _doubts(record: Record, said: Said) -> int:
    """How many may have got it, for all we know, when it was taken back: in hand when a worker died, or no answer."""
    until = (said.cancelled or 0.0) + AFTERMATH
    on = [window for window in record.windows if said.issued - 1 <= window.end and window.start <= until]
    if any(window.kind == "ProviderAils" and _loses_answers(window) for window in on):
        return len(said.audience)
    return ONE_SLICE * sum(who.startswith("deliver-") for window in on for who in window.who)


def _collapsed(record: Record) -> Iterator[str]:
    for collapse in record.collapses:
        words = "\n".join(f"      {line[:300]}" for line in collapse.last_words.splitlines()[-6:])
        yield f"{collapse.name} ended by itself with {collapse.code} at {record.after(collapse.at)}:\n{words}"


def _buried(record: Record) -> Iterator[str]:
    for line in record.buried[:10]:
        yield f"given up on: {line}"


JUDGES: tuple[Callable[[Record], Iterator[str]], ...] = (
    _unfinished,
    _lost,
    _repeated,
    _overtaken,
    _cancels,
    _collapsed,
    _buried,
)


# ── pieces ──────────────────────────────────────────────────────────────────────────────────────────


def _groups(record: Record) -> dict[tuple[int | None, bool, str], list[Text]]:
    """Every text by what it said and to whom, in the order of arrival. A citizen writes once and is answered once."""
    groups: dict[tuple[int | None, bool, str], list[Text]] = defaultdict(list)
    for text in record.texts:
        groups[text.alert, text.is_cancel, text.to].append(text)
    return groups


def _first_by_person(record: Record, cancel: bool) -> dict[int, dict[str, float]]:
    found: dict[int, dict[str, float]] = defaultdict(dict)
    for text in record.texts:
        if text.alert is not None and text.is_cancel is cancel:
            found[text.alert].setdefault(text.to, text.at)
    return found


def _last_by_person(record: Record, cancel: bool) -> dict[int, dict[str, float]]:
    found: dict[int, dict[str, float]] = defaultdict(dict)
    for text in record.texts:
        if text.alert is not None and text.is_cancel is cancel:
            found[text.alert][text.to] = text.at
    return found


def _name(record: Record, said: Said) -> str:
    taken_back = f", taken back at {record.after(said.cancelled)}" if said.cancelled else ""
    return f"{said.lane} {said.number:03d} (issued at {record.after(said.issued)}{taken_back})"


def _shown(record: Record, group: Sequence[Text]) -> str:
    what = (
        "an answer" if group[0].alert is None else f"{'Cancel of ' if group[0].is_cancel else ''}{group[0].alert:03d}"
    )
    return f"{what}, " + ", ".join(f"{text.reference} at {record.after(text.at)}" for text in group)
