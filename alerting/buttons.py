"""The buttons below a text to one person: topics to switch, and where they live; with a proof that we made them.

Whoever has a modified app can send any data for any text of ours, so each button proves for which chat it was made. It
says what is to be, not what is to change: pressed twice, or told twice, it does the same.
"""

import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from alerting.domain.authority import Authority, Territory
from alerting.domain.choices import CHOSEN, Choices, Topic
from alerting.sealing import Seal

LONGEST_DATA = 64
"""Bytes that Telegram takes with a button (core.telegram.org/bots/api#inlinekeyboardbutton, November 2026)."""
PROOF = 16
MOST_ZONES = 60
ZONES_A_ROW = 2
SAID = {Topic.RACCOLTA: "Raccolta porta a porta", Topic.EVENTI: "Eventi", Topic.NOTIZIE: "Notizie e scadenze"}


@dataclass(frozen=True, slots=True)
class Button:
    """One button: what it says, and what comes back when it is pressed."""

    text: str
    data: str


Rows = tuple[tuple[Button, ...], ...]


@dataclass(frozen=True, slots=True)
class Menu:
    """Rows of buttons; `edits` is the message they take the place of, where there is one."""

    rows: Rows = ()
    edits: int | None = None

    @property
    def as_json(self) -> dict[str, Any]:
        return {"rows": [[[one.text, one.data] for one in row] for row in self.rows], "edits": self.edits}


def menu_of(stored: dict[str, Any] | None) -> Menu:
    """As `as_json` wrote it; without any buttons where there is none."""
    if stored is None:
        return Menu()
    rows = tuple(tuple(Button(text, data) for text, data in row) for row in stored["rows"])
    return Menu(rows, stored["edits"])


# ── what a press asks for ───────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Want:
    """This topic from now on, or no more."""

    topic: Topic
    on: bool


@dataclass(frozen=True, slots=True)
class LiveIn:
    """They live in the area of this code, the whole comune's among them."""

    code: str


@dataclass(frozen=True, slots=True)
class ShowZones:
    """Where can one live?"""


@dataclass(frozen=True, slots=True)
class ShowChoices:
    """Back to the topics."""


Press = Want | LiveIn | ShowZones | ShowChoices


class Buttons:
    """Writes the buttons of one chat, and knows them again."""

    def __init__(self, seal: Seal, account: str, address: str) -> None:
        self._seal = seal
        self._chat = f"{account} {address}"

    def choices(self, choices: Choices) -> Rows:
        """A button for each topic, ticked where it is on, and one to say where they live."""
        topics = (
            self._button(f"{'✅' if topic in choices.topics else '⬜'} {SAID[topic]}", _want(topic, choices))
            for topic in CHOSEN
        )
        return (*((button,) for button in topics), (self._button("📍 Dove abiti", "zone"),))

    def zones(self, territory: Territory) -> Rows:
        """The comune's frazioni, all of it, and the way back."""
        places = [(area.name, area.code) for area in territory.frazioni[:MOST_ZONES]]
        buttons = [self._button(name, f"z:{code}") for name, code in places if _has_room(f"z:{code}")]
        rows = [tuple(buttons[at : at + ZONES_A_ROW]) for at in range(0, len(buttons), ZONES_A_ROW)]
        whole = self._button("Tutto il Comune", f"z:{territory.comune.code}")
        return (*rows, (whole,), (self._button("← Indietro", "scelte"),))

    def pressed(self, data: str) -> Press | None:
        """What a button of ours asks for; None for whatever we did not make for this chat."""
        what, mark, proof = data.rpartition("~")
        if not mark or not hmac.compare_digest(self._proof(what).encode(), proof.encode()):
            return None
        match what[:1], what:
            case _, "zone":
                return ShowZones()
            case _, "scelte":
                return ShowChoices()
            case (("+" | "-"), _):
                return Want(Topic(what[1:]), on=what[0] == "+")
            case _:
                return LiveIn(what.removeprefix("z:"))

    def _button(self, text: str, what: str) -> Button:
        return Button(text, f"{what}~{self._proof(what)}")

    def _proof(self, what: str) -> str:
        return self._seal.fingerprint(f"button {self._chat} {what}").hex()[:PROOF]


def _want(topic: Topic, choices: Choices) -> str:
    return f"{'-' if topic in choices.topics else '+'}{topic}"


def _has_room(what: str) -> bool:
    return len(what.encode()) + 1 + PROOF <= LONGEST_DATA


def started_from(payload: str, authority: Authority) -> str | None:
    """The code of the frazione that a link's parameter names: t.me/the_bot?start=fornacette."""
    codes: Sequence[str] = [area.code for area in authority.territory.frazioni]
    return next((code for code in codes if payload and code.rpartition(".")[2] == payload.lower()), None)
