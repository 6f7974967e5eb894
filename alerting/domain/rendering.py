"""From an alert to the words on a telephone. The same code previews and sends.

Five contents, in this order: who speaks and what happens, where, when, what it means, what to do.
"""

from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

from alerting.domain.cap import Alert, Info, MsgType, Status
from alerting.domain.delivery import Channel

ROME = ZoneInfo("Europe/Rome")

DAYS = ("lunedì", "martedì", "mercoledì", "giovedì", "venerdì", "sabato", "domenica")
MONTHS = (
    "gennaio",
    "febbraio",
    "marzo",
    "aprile",
    "maggio",
    "giugno",
    "luglio",
    "agosto",
    "settembre",
    "ottobre",
    "novembre",
    "dicembre",
)

MOST_CHARACTERS = {
    # A WhatsApp template body, filled in; a Telegram message, in UTF-16 units (channels.md 1.2 and 2.2).
    Channel.WHATSAPP: 1024,
    Channel.TELEGRAM: 4096,
}

TEMPLATE = "{0}\nDove: {1}\nQuando: {2}\n{3}\nCosa fare: {4}"
"""The WhatsApp template every authority registers, as the provider fills it in."""

NOTHING_TO_DO = "non serve fare nulla."
EXERCISE = "ESERCITAZIONE"
UPDATE = "AGGIORNAMENTO"


@dataclass(frozen=True, slots=True)
class Rendering:
    """What one channel shows. `variables` fill a registered template in; `body` is the whole text either way."""

    body: str
    variables: tuple[str, ...]

    @property
    def characters(self) -> int:
        """UTF-16 units, which is how providers count."""
        return len(self.body.encode("utf-16-le")) // 2


def render(alert: Alert) -> Rendering:
    """The text of an alert, in the language of its first info."""
    info = alert.first
    variables = (
        _line(_who_and_what(alert, info)),
        _line(_where(info)),
        _line(_when(alert, info)),
        _line(info.description),
        _line(_what_to_do(alert, info)),
    )
    return Rendering(TEMPLATE.format(*variables), variables)


def fits(rendering: Rendering, channel: Channel) -> bool:
    """Whether the provider of this channel takes a text of this length."""
    return rendering.characters <= MOST_CHARACTERS[channel]


def in_words(moment: datetime) -> str:
    """`14:00 di sabato 21 novembre`, on the clocks of Rome. Never "questa sera": people read it later."""
    there = moment.astimezone(ROME)
    return f"{there:%H:%M} di {DAYS[there.weekday()]} {there.day} {MONTHS[there.month - 1]}"


def _who_and_what(alert: Alert, info: Info) -> str:
    headline = info.headline.strip()
    if alert.msg_type is MsgType.UPDATE and not headline.upper().startswith(UPDATE):
        headline = f"{UPDATE}: {headline}"
    line = f"{info.sender_name}: {headline}"
    return f"{EXERCISE} - {line}" if alert.status is not Status.ACTUAL else line


def _where(info: Info) -> str:
    return ", ".join(area.area_desc for area in info.areas)


def _when(alert: Alert, info: Info) -> str:
    if alert.msg_type is MsgType.CANCEL:
        return f"annullato alle {in_words(alert.sent)}."
    # Never "from now on": some read it in the morning.
    return f"dalle {in_words(info.onset or alert.sent)} alle {in_words(info.expires)}."


def _what_to_do(alert: Alert, info: Info) -> str:
    parts = [_ended(info.instruction.strip() or NOTHING_TO_DO)]
    if info.contact:
        parts.append(f"Per informazioni: {info.contact}.")
    if info.web:
        parts.append(info.web)
    if alert.status is not Status.ACTUAL:
        parts.append(EXERCISE)
    return " ".join(parts)


def _ended(sentence: str) -> str:
    """With a full stop, where something follows that would run into it."""
    return sentence if sentence.endswith((".", "!", "?", "…", ":", ";")) else f"{sentence}."


def _line(text: str) -> str:
    """On one line: WhatsApp refuses template variables with line breaks, tabs or runs of spaces."""
    return " ".join(text.split()) or "-"
