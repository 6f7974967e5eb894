"""From an alert to the words on a telephone. The same code previews and sends.

Five contents, in this order: who speaks and what happens, where, when, what it means, what to do.
"""

import textwrap
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, time, timedelta
from enum import Enum
from typing import Literal, TypeAlias, assert_never
from zoneinfo import ZoneInfo

from alerting.domain import attachments, gsm
from alerting.domain.cap import Alert, Info, MsgType, ResponseType, Status
from alerting.domain.delivery import Channel
from alerting.domain.kinds import needs_instruction
from alerting.domain.plain_text import one_line, shortened
from alerting.domain.translations import tongue_of

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


class Form(Enum):
    """What a text has to fit into. Several channels may share one; a channel comes later than its form."""

    TEMPLATE = "template"
    CHAT = "chat"
    SMS = "sms"
    MAIL = "mail"
    PUSH = "push"
    PANEL = "panel"

    def __str__(self) -> str:
        return self.value


MOST = {
    # A WhatsApp template body, filled in; a Telegram message, in UTF-16 units (channels.md 1.2 and 2.2). For mail
    # there is no limit but patience.
    Form.TEMPLATE: 1024,
    Form.CHAT: 4096,
    Form.MAIL: 20_000,
    # A browser takes 3,993 bytes with all that is around the words; what a phone unfolds is shorter still.
    Form.PUSH: 1000,
}
PANEL_LINES, PANEL_COLUMNS = 4, 24
"""Of a message panel of which the comune's file says nothing else; the smallest of those on Italian roads."""
MOST[Form.PANEL] = PANEL_LINES * (PANEL_COLUMNS + 1) - 1
SMS_PARTS = 3
"""So many an alert may take where nobody says otherwise: each is paid, and one lost on the way garbles the whole."""
LONGEST_SUBJECT = 160
"""Characters, as CAP advises for a headline (OASIS CAP 1.2, 3.2.2)."""

FORM_OF = {
    Channel.WHATSAPP: Form.TEMPLATE,
    Channel.TELEGRAM: Form.CHAT,
    Channel.EMAIL: Form.MAIL,
    Channel.SMS: Form.SMS,
    Channel.WEB_PUSH: Form.PUSH,
    Channel.MQTT: Form.PANEL,
}
MOST_CHARACTERS = {
    channel: MOST.get(form, SMS_PARTS * gsm.IN_PARTS[gsm.Encoding.GSM_7]) for channel, form in FORM_OF.items()
}

TEMPLATE = "{0}\nDove: {1}\nQuando: {2}\n{3}\nCosa fare: {4}"
"""The WhatsApp template every authority registers, as the provider fills it in."""

NOTHING_TO_DO = "non serve fare nulla."
NOWHERE = "zona non indicata"
EXERCISE = "ESERCITAZIONE"
UPDATE = "AGGIORNAMENTO"
ALL_CLEAR = "FINE ALLERTA"
SAYS_IT_ENDS = ("FINE ", "FINE:", "CESSA", "CESSATO", "TERMINA", "REVOCA")
"""How headlines begin that say themselves that it is over."""

ACTIONS = {
    # What to do in CAP's own terms (OASIS CAP 1.2, 3.2.2, responseType), for a sender who gives no instruction.
    ResponseType.SHELTER: "resta al riparo, nell'edificio in cui ti trovi.",
    ResponseType.EVACUATE: "lascia la zona e segui le indicazioni di chi soccorre.",
    ResponseType.PREPARE: "tieniti pronto e segui gli aggiornamenti.",
    ResponseType.EXECUTE: "fai quello che prevede il piano di protezione civile.",
    ResponseType.AVOID: "evita la zona.",
    ResponseType.MONITOR: "tieniti informato.",
}
FOLLOW_AUTHORITIES = "tieniti informato e segui le indicazioni delle autorità."


@dataclass(frozen=True, slots=True)
class Rendering:
    """What one channel shows. `variables` fill a registered template in; `body` is the whole text either way.

    `subject` belongs to mail and to a push, whose title it is, and `size` to SMS. `shortened` where words were left
    out to make the rest fit.
    """

    body: str
    variables: tuple[str, ...] = ()
    subject: str = ""
    size: gsm.Size | None = None
    shortened: bool = False

    @property
    def characters(self) -> int:
        """UTF-16 units, which is how providers count; of an SMS as its encoding counts."""
        return self.size.characters if self.size else _units(self.body)


def render(alert: Alert, form: Form = Form.TEMPLATE, *, parts: int = SMS_PARTS, link: bool = False) -> Rendering:
    """The text of an alert: in Italian if it has that, then shorter in its other languages as far as there is room.

    It always fits: what is too long is cut after a sentence or a word, the instruction last. `parts` are those of
    an SMS, two or more (ValueError): in one there is no room for five contents. With `link` the address of what the
    alert shows is among the words, for a channel that does not carry it.
    """
    if parts < 2:
        raise ValueError(f"{parts} part of an SMS cannot hold who, what, where, when and what to do: allow 2 or more")
    said = _said(alert, link=link)
    match form:
        case Form.TEMPLATE:
            fitted = _fitted(said, _template, _ruler(form))
            variables = _variables(fitted)
            return Rendering(TEMPLATE.format(*variables), variables, shortened=_lost(said, fitted))
        case Form.CHAT:
            fitted = _fitted(said, _chat, _ruler(form))
            return Rendering(_chat(fitted), shortened=_lost(said, fitted))
        case Form.SMS:
            return _sms(_briefly(alert, said), parts)
        case Form.MAIL:
            fitted = _fitted(said, _mail, _ruler(form))
            return Rendering(_mail(fitted), subject=_subject(said), shortened=_lost(said, fitted))
        case Form.PUSH:
            fitted = _fitted(said, _push, _ruler(form))
            return Rendering(_push(fitted), subject=_subject(said), shortened=_lost(said, fitted))
        case Form.PANEL:
            shown = "\n".join(on_a_panel(alert))
            return Rendering(shown, shortened=shown != "\n".join(on_a_panel(alert, ANY_LINES)))
        case _:
            assert_never(form)


def led_by(alert: Alert, form: Form, language: str, *, link: bool = False) -> Rendering | None:
    """The text for somebody who reads another language: it begins in that, and then all is said in Italian.

    None where the alert is not in it, where there is no room for both, and in an SMS, each part of which is paid:
    then the text of `render` says it at its end, as to everybody.
    """
    first = alert.first
    if form is Form.SMS or language == first.tongue:
        return None
    by_tongue = dict(zip(_other_tongues(alert, first), _translations(alert, first), strict=True))
    lead = by_tongue.pop(language, "")
    if not lead:
        return None
    said = replace(_said(alert, link=link), translations=tuple(by_tongue.values()))
    written = {Form.CHAT: _chat, Form.MAIL: _mail, Form.PUSH: _push}.get(form)
    gap = "\n\n" if form is Form.MAIL else "\n"
    compose = _led_template(lead) if written is None else lambda one: f"{lead}{gap}{written(one)}"
    fitted = _fitted(said, compose, _ruler(form))
    if _lost(said, fitted) or _ruler(form).over(compose(fitted)) > 0:
        return None
    variables = _led_variables(fitted, lead) if form is Form.TEMPLATE else ()
    subject = _subject(said) if form in (Form.MAIL, Form.PUSH) else ""
    return Rendering(compose(fitted), variables, subject=subject)


def other_tongues(alert: Alert) -> tuple[str, ...]:
    """The languages an alert is in beside the one shown first: `en`, `de`."""
    return tuple(_other_tongues(alert, alert.first))


def _other_tongues(alert: Alert, first: Info) -> Iterator[str]:
    return iter(dict.fromkeys(info.tongue for info in alert.infos if info.tongue != first.tongue))


def whole(alert: Alert, form: Form = Form.TEMPLATE, *, link: bool = False) -> Rendering:
    """The text in the language shown first, with nothing left out, so that its length says by how much it is too long.

    Translations are not counted: they give way.
    """
    said = replace(_said(alert, link=link), translations=())
    if form is Form.SMS:
        written = _in_letters_of_sms(_briefly(alert, said))
        return Rendering(_message(written.said), size=gsm.size(_message(written.said)))
    if form is Form.MAIL:
        return Rendering(_mail(said), subject=_subject(said))
    if form is Form.PUSH:
        return Rendering(_push(said), subject=_subject(said))
    if form is Form.PANEL:
        return Rendering("\n".join(on_a_panel(alert, ANY_LINES)))
    variables = _variables(said)
    return Rendering(TEMPLATE.format(*variables), variables)


def most_of(rendering: Rendering, form: Form, *, parts: int = SMS_PARTS) -> int:
    """The most characters a form takes, as `Rendering.characters` counts them."""
    return parts * gsm.IN_PARTS[rendering.size.encoding] if rendering.size else MOST[form]


def fits(rendering: Rendering, channel: Channel) -> bool:
    """Whether the provider of this channel takes a text of this length."""
    most = most_of(rendering, FORM_OF[channel]) if rendering.size else MOST_CHARACTERS[channel]
    return rendering.characters <= most


MOST_BYTES_IN_A_LETTER = 3_000_000
"""Of a picture or a PDF: it is sent to each person anew, and many mailboxes refuse a letter of 10 MB."""


def carries(channel: Channel, settings: Mapping[str, str], media_type: str, size: int | None = None) -> bool:
    """Whether an account sends a picture or a PDF beside the words; else they say where it is found.

    WhatsApp only in a template with such a header: the comune has one for pictures, one for documents, or neither.
    """
    is_picture = media_type.startswith("image/")
    if not is_picture and media_type != attachments.PDF:
        return False
    match channel:
        case Channel.WHATSAPP:
            return bool(settings.get("template_image" if is_picture else "template_document"))
        case Channel.TELEGRAM:
            return True
        case Channel.EMAIL:
            return (size or 0) <= MOST_BYTES_IN_A_LETTER
        case _:
            return False


def until_in_words(moment: datetime) -> str:
    """The same for an end. Midnight belongs to the day it ends: `24:00 di giovedì 2 novembre`."""
    if not is_midnight(moment):
        return in_words(moment)
    day = (moment - timedelta(microseconds=1)).astimezone(ROME)
    return f"24:00 di {DAYS[day.weekday()]} {day.day} {MONTHS[day.month - 1]}"


def is_midnight(moment: datetime) -> bool:
    """Also a second before it, as others write the end of a day."""
    return (moment + timedelta(seconds=1)).astimezone(ROME).time() <= time(0, 0, 1)


def in_words(moment: datetime) -> str:
    """`14:00 di sabato 21 novembre`, on the clocks of Rome. Never "questa sera": people read it later."""
    there = moment.astimezone(ROME)
    return f"{there:%H:%M} di {DAYS[there.weekday()]} {there.day} {MONTHS[there.month - 1]}"


# ── what is said, in any form ───────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Said:
    """The contents of a text, each on one line and without what no reader sees.

    `more` is what further infos of the same language add, `names` are the places that `where` lists, `briefest`
    stands for `when` where room is scarce, and `link` says where to find what the channel does not carry.
    """

    exercise: bool
    who: str
    mark: str
    headline: str
    names: tuple[str, ...]
    where: str
    when: str
    briefest: str
    effects: str
    more: tuple[str, ...]
    action: str
    contact: str
    web: str
    link: str
    translations: tuple[str, ...]

    @property
    def opening(self) -> str:
        line = f"{self.who}: {self.mark}{self.headline}"
        return f"{EXERCISE} - {line}" if self.exercise else line


def _said(alert: Alert, *, link: bool) -> Said:
    info, others = alert.first, _in_the_same_language(alert)
    names = _places([info, *(other for other in others if _says_the_same(info, other))])
    more = tuple(_more(alert, info, other) for other in others if not _says_the_same(info, other))
    return Said(
        exercise=alert.status is not Status.ACTUAL,
        who=one_line(info.sender_name) or one_line(alert.sender),
        mark=_mark(alert, info),
        headline=_headline(info),
        names=names,
        where=", ".join(names) or NOWHERE,
        when=_when(alert, info),
        briefest="",
        effects=one_line(info.description),
        more=tuple(dict.fromkeys(more)),
        action=_action(info, [other for other in others if not _says_the_same(info, other)]),
        contact=one_line(info.contact),
        web=one_line(info.web),
        link=_link(alert) if link else "",
        translations=tuple(_translations(alert, info)),
    )


def _link(alert: Alert) -> str:
    """`Mappa: https://…`, as short as it can be said."""
    shown = attachments.shown_by(alert)
    if shown is None:
        return ""
    return f"{attachments.label_of(shown.mime_type, shown.resource_desc)}: {attachments.short_address(shown.uri)}"


def _in_the_same_language(alert: Alert) -> list[Info]:
    return [info for info in alert.infos if info is not alert.first and info.tongue == alert.first.tongue]


def _says_the_same(info: Info, other: Info) -> bool:
    """Whether another info only adds a place: some senders repeat all else for each."""
    return replace(other, areas=info.areas, resources=info.resources, parameters=info.parameters) == info


def _places(infos: Iterable[Info]) -> tuple[str, ...]:
    named = (one_line(area.area_desc) for info in infos for area in info.areas)
    return tuple(dict.fromkeys(name for name in named if name))


def _headline(info: Info) -> str:
    return one_line(info.headline) or one_line(info.event) or "-"


def _mark(alert: Alert, info: Info) -> str:
    """What stands before the headline, unless it says so itself."""
    if alert.msg_type is not MsgType.UPDATE:
        return ""
    headline = _headline(info).upper()
    if ResponseType.ALL_CLEAR in info.response_type:
        return "" if headline.startswith(SAYS_IT_ENDS) else f"{ALL_CLEAR}: "
    return "" if headline.startswith(UPDATE) else f"{UPDATE}: "


def _when(alert: Alert, info: Info) -> str:
    if alert.msg_type is MsgType.CANCEL:
        return f"annullato alle {in_words(alert.sent)}."
    # Never "from now on": some read it in the morning.
    return f"dalle {in_words(info.onset or alert.sent)} alle {until_in_words(alert.ends(info))}."


def _briefly(alert: Alert, said: Said) -> Said:
    """With the times in figures."""
    return replace(
        said,
        when=_figures(alert, "dalle {0} alle {1}", "{0:%H:%M} di {1} {0.day}/{0.month}", "annullato alle {0}"),
        briefest=_figures(alert, "{0}-{1}", "{0.day}/{0.month} {0:%H:%M}", "annullato {0}"),
    )


def _figures(alert: Alert, span: str, moment: str, cancelled: str) -> str:
    """When, with a second day only where it is another."""
    if alert.msg_type is MsgType.CANCEL:
        return cancelled.format(_in_figures(alert.sent, moment))
    info = alert.first
    start, end = (time.astimezone(ROME) for time in (info.onset or alert.sent, alert.ends(info)))
    until = f"{end:%H:%M}" if start.date() == end.date() else _in_figures(end, moment)
    return span.format(_in_figures(start, moment), until)


def _in_figures(time: datetime, moment: str) -> str:
    there = time.astimezone(ROME)
    return moment.format(there, DAYS[there.weekday()][:3])


def _action(info: Info, others: Iterable[Info]) -> str:
    """The instructions of the first info and of those that add to it, each once."""
    given = (one_line(each.instruction) for each in (info, *others))
    distinct = list(dict.fromkeys(said for said in given if said))
    return " ".join(_ended(said) for said in distinct) or _action_unsaid(info)


def _action_unsaid(info: Info) -> str:
    """What to do where the sender leaves it open. A grave alert never says that nothing is to be done."""
    known = (ACTIONS[response] for response in info.response_type if response in ACTIONS)
    return next(known, FOLLOW_AUTHORITIES if not info.response_type and needs_instruction(info.severity) else "") or (
        NOTHING_TO_DO
    )


def _more(alert: Alert, info: Info, other: Info) -> str:
    """What a further info of the same language adds: only what differs from the first."""
    parts = [_headline(other)]
    if (where := _places([other])) and where != _places([info]):
        parts.append(f"Dove: {', '.join(where)}")
    if (when := _when(alert, other)) != _when(alert, info):
        parts.append(f"Quando: {when}")
    if (effects := one_line(other.description)) != one_line(info.description):
        parts.append(effects)
    return " ".join(_ended(part) for part in parts if part)


def _translations(alert: Alert, first: Info) -> Iterator[str]:
    """For each other language its first info: `English: headline. What to do.`"""
    seen = {first.tongue}
    for info in alert.infos:
        if info.tongue in seen:
            continue
        seen.add(info.tongue)
        tongue = tongue_of(info)
        exercise = f"{tongue.exercise} - " if alert.status is not Status.ACTUAL else ""
        words = [_ended(said) for said in (_headline(info), one_line(info.instruction)) if said]
        yield f"{tongue.name}: {exercise}{' '.join(words)}"


def _ended(sentence: str) -> str:
    """With a full stop, where something follows that would run into it."""
    return (
        sentence if not sentence or sentence.endswith((".", "!", "?", "…", "...", ":", ";", "。")) else f"{sentence}."
    )


# ── the forms ───────────────────────────────────────────────────────────────────────────────────────


def _variables(said: Said) -> tuple[str, ...]:
    """What fills the registered template in. WhatsApp refuses line breaks, tabs, runs of spaces, and emptiness."""
    effects = [said.effects, *said.more]
    return (
        said.opening,
        said.where,
        said.when,
        " ".join(map(_ended, effects)) if said.more else said.effects or "-",
        _what_to_do(said, said.translations),
    )


def _template(said: Said) -> str:
    return TEMPLATE.format(*_variables(said))


def _chat(said: Said) -> str:
    """As the template, with what further infos add and the other languages on lines of their own."""
    lines = [said.opening, f"Dove: {said.where}", f"Quando: {said.when}", said.effects, *said.more]
    if not said.translations:
        return "\n".join([*filter(None, lines), f"Cosa fare: {_what_to_do(said)}"])
    act = _what_to_do(replace(said, exercise=False))
    return "\n".join([*filter(None, lines), f"Cosa fare: {act}", *said.translations, *_closing(said)])


def _led_variables(said: Said, lead: str) -> tuple[str, ...]:
    opening, *others = _variables(said)
    return (f"{lead} – {opening}", *others)


def _led_template(lead: str) -> Callable[[Said], str]:
    return lambda said: TEMPLATE.format(*_led_variables(said, lead))


def _push(said: Said) -> str:
    """As a chat, without its first line: the title says it. An exercise says so twice rather than once too seldom."""
    return _chat(said) if said.exercise else _chat(said).removeprefix(f"{said.opening}\n")


def _mail(said: Said) -> str:
    """Paragraphs of plain text."""
    paragraphs = [
        said.opening,
        f"Dove: {said.where}\nQuando: {said.when}",
        said.effects,
        *said.more,
        f"Cosa fare: {_ended(said.action)}",
        "\n".join(filter(None, (f"Per informazioni: {said.contact}" if said.contact else "", said.web, said.link))),
        *said.translations,
        *_closing(said),
    ]
    return "\n\n".join(filter(None, paragraphs))


def _message(said: Said) -> str:
    """One paragraph, as short as it can be said."""
    sentences = [
        said.opening,
        f"Dove: {said.where}",
        f"Quando: {said.when}",
        said.effects,
        *said.more,
        f"Cosa fare: {said.action}",
        f"Info: {said.contact}" if said.contact else "",
    ]
    ended = [_ended(sentence) for sentence in sentences if sentence]
    return " ".join([*ended, *filter(None, [said.web, said.link]), *said.translations, *_closing(said)])


def _subject(said: Said) -> str:
    """The headline after who says it; of an exercise with the word at both ends."""
    room = LONGEST_SUBJECT - (len(EXERCISE) * 2 + len(" -  - ") if said.exercise else 0)
    line = shortened(f"{shortened(said.who, 60)}: {said.mark}{said.headline}", room)
    return f"{EXERCISE} - {line} - {EXERCISE}" if said.exercise else line


def _what_to_do(said: Said, translations: tuple[str, ...] = ()) -> str:
    parts = [_ended(said.action)]
    if said.contact:
        parts.append(f"Per informazioni: {said.contact}.")
    return " ".join([*parts, *filter(None, [said.web, said.link]), *translations, *_closing(said)])


def _closing(said: Said) -> tuple[str, ...]:
    return (EXERCISE,) if said.exercise else ()


# ── what gives way where there is no room ───────────────────────────────────────────────────────────

Content: TypeAlias = Literal[
    "who", "headline", "where", "when", "effects", "more", "action", "contact", "web", "link", "translations"
]

GIVES_WAY: tuple[tuple[Content, int], ...] = (
    # In this order, each down to so many units, 0: it goes altogether. The instruction is the last to be touched,
    # and none of the five contents ever goes.
    ("translations", 0),
    ("more", 0),
    ("effects", 160),
    ("web", 0),
    ("contact", 0),
    ("effects", 60),
    ("link", 0),
    ("where", 60),
    ("headline", 80),
    ("who", 30),
    ("when", 0),
    ("action", 120),
    ("effects", 8),
    ("where", 8),
    ("headline", 8),
    ("who", 8),
    ("action", 8),
    # Two parts of an SMS in a script of its own hold 134 letters, and an exercise takes 32 of them.
    ("effects", 4),
    ("where", 4),
    ("headline", 4),
    ("who", 4),
)


@dataclass(frozen=True, slots=True)
class Ruler:
    """How a form measures: by how much a text is `over`, what a letter takes, how left out words are marked."""

    over: Callable[[str], int]
    width: Callable[[str], int] = gsm.utf16_units
    ellipsis: str = "…"

    def wide(self, text: str) -> int:
        return sum(map(self.width, text))

    def cut(self, text: str, most: int) -> str:
        return shortened(text, most, width=self.width, ellipsis=self.ellipsis)


def _fitted(said: Said, compose: Callable[[Said], str], ruler: Ruler) -> Said:
    """The contents, shortened until what `compose` makes of them is not over."""
    for content, floor in GIVES_WAY:
        while (excess := ruler.over(compose(said))) > 0:
            shorter = _shorter(said, content, floor, excess, ruler)
            if shorter == said:
                break
            said = shorter
    return said


def _shorter(said: Said, content: Content, floor: int, excess: int, ruler: Ruler) -> Said:
    def cut(text: str) -> str:
        return ruler.cut(text, max(floor, ruler.wide(text) - excess))

    match content:
        case "translations":
            return replace(said, translations=said.translations[:-1])
        case "more":
            return replace(said, more=said.more[:-1])
        case "web":
            return replace(said, web="")
        case "link":
            return replace(said, link="")
        case "contact":
            return replace(said, contact="")
        case "when":
            return replace(said, when=said.briefest or said.when)
        case "effects":
            return replace(said, effects=cut(said.effects))
        case "headline":
            return replace(said, headline=cut(said.headline))
        case "who":
            return replace(said, who=cut(said.who))
        case "action":
            return replace(said, action=cut(said.action))
        case "where":
            most = max(floor, ruler.wide(said.where) - excess)
            if ruler.wide(said.where) <= most:
                return said
            return replace(said, where=_fewer(said.names, most, ruler) or cut(said.where))
        case _:
            assert_never(content)


def _fewer(names: tuple[str, ...], most: int, ruler: Ruler) -> str:
    """The first of the places, and how many more there are; empty where not even one fits."""
    found = ""
    for count in range(1, len(names)):
        left = len(names) - count
        listed = f"{', '.join(names[:count])} e {'un altro luogo' if left == 1 else f'altri {left} luoghi'}"
        if ruler.wide(listed) > most:
            break
        found = listed
    return found


def _units(text: str) -> int:
    return len(text.encode("utf-16-le")) // 2


def _ruler(form: Form) -> Ruler:
    return Ruler(over=lambda text: _units(text) - MOST[form])


def _lost(said: Said, fitted: Said) -> bool:
    """Whether something of the language shown first was left out."""
    return fitted is not said and replace(said, translations=()) != replace(fitted, translations=())


# ── on a message panel ──────────────────────────────────────────────────────────────────────────────

ANY_LINES = 1_000


def on_a_panel(alert: Alert, lines: int = PANEL_LINES, columns: int = PANEL_COLUMNS) -> tuple[str, ...]:
    """What a message panel of this size shows, in capitals, which is all that many panels have: what, where, what to
    do, until when.

    Who speaks is written on the post, and whoever passes has not seen what an Update takes the place of. Each content
    has one line before any has two; where there are fewer lines than contents, what is happening and what to do stay.
    """
    said = _said(alert, link=False)
    frame = [EXERCISE[:columns]] if said.exercise and lines > 1 else []
    opening = said.headline if said.mark.startswith(UPDATE) else f"{said.mark}{said.headline}"
    headline = f"{EXERCISE} - {opening}" if said.exercise else opening
    contents = [
        _capitals(headline) or _capitals(alert.first.event) or ALERT,
        _capitals("" if said.where == NOWHERE else said.where),
        _capitals("" if said.action == NOTHING_TO_DO else said.action),
        _capitals(_figures(alert, "fino alle {1}", "{0:%H:%M} {1} {0.day}/{0.month}", "annullato alle {0}")),
    ]
    rows = [textwrap.wrap(words, columns) for words in contents]
    given = [0] * len(rows)
    for _ in range(lines - len(frame)):
        wanting = [at for at in (0, 2, 1, 3) if given[at] < len(rows[at])]
        if not wanting:
            break
        given[next((at for at in wanting if not given[at]), wanting[0])] += 1
    shown = [line for at, some in enumerate(rows) for line in _first_lines(some, given[at], columns)]
    return (*shown, *frame)


ALERT = "ALLERTA"
CUT = ".."


def _first_lines(rows: list[str], most: int, columns: int) -> list[str]:
    if len(rows) <= most:
        return rows
    if not most:
        return []
    rest = " ".join(rows[most - 1 :])
    return [*rows[: most - 1], rest[: columns - len(CUT)].rstrip(" .,;:") + CUT]


def _capitals(words: str) -> str:
    """In capitals without accents, digits and plain signs: `è` is `E'`. What has none of these leaves nothing."""
    upper = gsm.transliterated(words.upper()).replace("É", "E'").replace("€", "EURO")
    bare = (letter for letter in unicodedata.normalize("NFKD", upper) if letter.isascii() and letter.isprintable())
    return " ".join("".join(bare).upper().split())


# ── in the letters of a text message ────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Written:
    """What is said in the letters that an SMS has, or as it was where these do not reach."""

    said: Said
    encoding: gsm.Encoding


def _sms(said: Said, parts: int) -> Rendering:
    written = _in_letters_of_sms(said)
    encoding = written.encoding

    def over(text: str) -> int:
        size = gsm.size(text)
        return 0 if size.parts <= parts else size.characters - gsm.surely(encoding, parts)

    ellipsis = "..." if encoding is gsm.Encoding.GSM_7 else "…"
    fitted = _fitted(written.said, _message, Ruler(over, gsm.WIDTH[encoding], ellipsis))
    body = _message(fitted)
    return Rendering(body, size=gsm.size(body), shortened=_lost(written.said, fitted))


def _in_letters_of_sms(said: Said) -> Written:
    """Everything in GSM-7 where that can be. A translation that cannot must not halve the room of all the rest."""
    spelt = _spelt(said)
    readable = tuple(words for words in spelt.translations if gsm.encoding_of(words) is gsm.Encoding.GSM_7)
    spelt = replace(spelt, translations=readable)
    if gsm.encoding_of(_message(spelt)) is gsm.Encoding.GSM_7:
        return Written(spelt, gsm.Encoding.GSM_7)
    return Written(said, gsm.Encoding.UCS_2)


def _spelt(said: Said) -> Said:
    names = tuple(map(_letters, said.names))
    return replace(
        said,
        who=_letters(said.who) or "-",
        headline=_letters(said.headline) or "-",
        names=names,
        where=_letters(said.where) or NOWHERE,
        when=_letters(said.when),
        briefest=_letters(said.briefest),
        effects=_letters(said.effects),
        more=tuple(map(_letters, said.more)),
        action=_letters(said.action) or "-",
        contact=_letters(said.contact),
        web=_letters(said.web),
        link=said.link if gsm.encoding_of(said.link) is gsm.Encoding.GSM_7 else "",
        translations=tuple(map(_letters, said.translations)),
    )


def _letters(words: str) -> str:
    """In letters of an SMS; what was only an emoji leaves nothing."""
    return gsm.transliterated(words).strip()
