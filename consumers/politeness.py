"""How often one person is told the same; and when to fall silent, because a machine seems to answer us.

Kept by the keyed fingerprint of the address, without it, and forgotten in two days.
"""

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from sqlalchemy.ext.asyncio import AsyncSession

from alerting.domain.authority import Authority
from alerting.domain.recipients import known_by
from alerting.persistence import dialects, tables
from alerting.sealing import Seal
from alerting.subscribing import Subscriber

MOST, WITHIN = 20, timedelta(minutes=10)
"""So many texts of one person in this time are answered; then there is silence until they have been still as long."""
NOBODY = 200
"""So many in that time no person writes: such a sender is not subscribed any more. To leave always works."""
ONCE_A_DAY = timedelta(days=1)
EVERY = {"not_read": ONCE_A_DAY, "ask_join": ONCE_A_DAY, "attachment": ONCE_A_DAY, "help": timedelta(minutes=3)}
"""Answers that one person gets so often at most. The first three say where to write instead, of a number that nobody
reads; whoever reads what citizens write is never silent by these."""


@dataclass(frozen=True, slots=True)
class Lately:
    """What somebody wrote and was answered lately; times are Unix times."""

    since: float = 0.0
    last: float = 0.0
    texts: int = 0
    answered: dict[str, float] = field(default_factory=dict)

    def wrote(self, now: float) -> "Lately":
        """One text more. A window ends after WITHIN; where it was too many, once they were still so long."""
        still, over = now - self.last >= WITHIN.total_seconds(), now - self.since >= WITHIN.total_seconds()
        if still or (over and self.texts <= MOST):
            return replace(self, since=now, last=now, texts=1)
        return replace(self, last=max(now, self.last), texts=self.texts + 1)

    def may_hear(self, kind: str | None, now: float) -> bool:
        """Whether an answer of this kind is due; None for one that is given each time."""
        if self.texts > MOST:
            return False
        if kind not in EVERY or kind not in self.answered:
            return True
        # A clock that was set back must not silence us for longer than was meant.
        return not 0 <= now - self.answered[kind] < EVERY[kind].total_seconds()

    def heard(self, kind: str | None, now: float) -> "Lately":
        return replace(self, answered=self.answered | {kind: now}) if kind else self

    @property
    def is_nobody(self) -> bool:
        """Whether no person writes so much."""
        return self.texts > NOBODY


async def count(session: AsyncSession, who: Subscriber, seal: Seal, now: datetime) -> tables.Courtesy:
    """Their row, with one text more; locked until the transaction ends."""
    key = {"account": who.access.name, "fingerprint": seal.fingerprint(known_by(who.address))}
    empty = key | {"since": 0.0, "last": 0.0, "texts": 0, "answered": {}}
    await session.execute(dialects.insert_new(session, tables.Courtesy).values(empty))
    row = await session.get_one(tables.Courtesy, (key["account"], key["fingerprint"]), with_for_update=True)
    _write(row, _read(row).wrote(now.timestamp()))
    return row


def may_answer(row: tables.Courtesy, authority: Authority, words: str, now: datetime) -> bool:
    """Whether these words are to be said to them now; if so, it is remembered."""
    kind = kind_of(words, authority)
    lately = _read(row)
    if not lately.may_hear(kind, now.timestamp()):
        return False
    _write(row, lately.heard(kind, now.timestamp()))
    return True


def is_nobody(row: tables.Courtesy) -> bool:
    return _read(row).is_nobody


def kind_of(words: str, authority: Authority) -> str | None:
    """Which of the answers that are not given each time these words are; None for the others."""
    texts = authority.texts
    kinds = {texts.help: "help"}
    if not authority.two_way:
        kinds |= {texts.not_read: "not_read", texts.ask_join: "ask_join", texts.attachment: "attachment"}
    return kinds.get(words)


def _read(row: tables.Courtesy) -> Lately:
    return Lately(row.since, row.last, row.texts, dict(row.answered))


def _write(row: tables.Courtesy, lately: Lately) -> None:
    row.since, row.last, row.texts, row.answered = lately.since, lately.last, lately.texts, dict(lately.answered)
