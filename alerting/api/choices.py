"""The page on which somebody changes their choices, found by a link that only they were sent.

Who holds the link is whom it was written to: there is no login and no cookie, so nobody else's page can post for them.
Whatever opens nothing, be it forged, cut, run out or of somebody who has left, gets one and the same answer.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from datetime import time as clock
from html import escape
from urllib.parse import parse_qs

import structlog
from fastapi import APIRouter, Depends, Request
from fastapi.responses import HTMLResponse
from sqlalchemy.ext.asyncio import AsyncSession

from alerting import choosing, subscribing
from alerting.api.parts import Parts, parts_of
from alerting.api.push import Doorman, Open, network
from alerting.domain import keywords, places
from alerting.domain.authority import Authority
from alerting.domain.choices import CHOSEN, LANGUAGES, Choices, Topic, language_in_words
from alerting.domain.delivery import Channel
from alerting.domain.notices import Quiet
from alerting.domain.recipients import Label, Place
from alerting.persistence import tables
from alerting.postmarks import Postmarks

router = APIRouter(prefix="/choices", tags=["choices"], route_class=Open)
log = structlog.get_logger()

by_host = Doorman(at_once=60, a_minute=60)
"""A mobile operator shows a whole town under a few addresses."""
by_person = Doorman(at_once=20, a_minute=6)

MOST_FIELDS = 40
LONGEST_NAME = 100
HEADERS = {
    # The edge's own policy, and the style below. A form may post to where it came from.
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; "
    "frame-ancestors 'none'; base-uri 'none'",
    "X-Robots-Tag": "noindex",
}
LABELS = {
    Label.CASA: "Casa",
    Label.LAVORO: "Lavoro",
    Label.GENITORI: "Genitori",
    Label.SCUOLA: "Scuola",
    Label.ALTRO: "Altro luogo",
}
ABOUT = {
    Topic.RACCOLTA: "Raccolta porta a porta",
    Topic.EVENTI: "Eventi e iniziative",
    Topic.NOTIZIE: "Notizie, avvisi e scadenze",
}


# ── what the form says ──────────────────────────────────────────────────────────────────────────────


@dataclass
class Form:
    """The fields as they were sent, and what is wrong with them: a sentence by the field's name."""

    sent: Mapping[str, Sequence[str]]
    flaws: dict[str, str] = field(default_factory=dict)

    def one(self, name: str) -> str:
        return (self.sent.get(name) or [""])[-1].strip()[:LONGEST_NAME]

    def topics(self) -> frozenset[Topic]:
        wanted = self.sent.get("argomento", ())
        return frozenset(topic for topic in CHOSEN if topic.value in wanted) | {Topic.EMERGENZE}

    def quiet(self) -> Quiet | None:
        begins, ends = self._clock("dalle"), self._clock("alle")
        if self.flaws.keys() & {"dalle", "alle"} or begins == ends is None:
            return None
        if begins is None or ends is None:
            missing = "dalle" if begins is None else "alle"
            self.flaws[missing] = "Scrivi tutte e due le ore, oppure lasciale vuote tutte e due."
            return None
        if begins == ends:
            self.flaws["alle"] = "Le due ore sono uguali: scrivi quando il silenzio finisce."
            return None
        return Quiet(begins, ends)

    def _clock(self, name: str) -> clock | None:
        """As a telephone's own clock writes it, "22:00"; and as people do where there is none: "22", "22.30"."""
        written = self.one(name)
        hour, _, minute = written.replace(".", ":").partition(":")
        minute = minute.split(":")[0] or "0"
        if not written:
            return None
        if not (hour.isascii() and hour.isdigit() and minute.isascii() and minute.isdigit()):
            self.flaws[name] = "Scrivi l'ora così: 22:00."
            return None
        try:
            return clock(int(hour[:4]) % 24 if hour == "24" else int(hour[:4]), int(minute[:4]))
        except ValueError:
            self.flaws[name] = "Quest'ora non esiste. Scrivila così: 22:00."
            return None

    def language(self, known: str) -> str:
        said = self.one("lingua")
        return said if said in LANGUAGES else known

    def first(self, ways: Sequence[choosing.Way]) -> Channel | None:
        said = self.one("primo")
        return next((way.channel for way in ways if way.channel.value == said), None)

    def places(self, known: Sequence[Place], authority: Authority) -> list[Place]:
        """The places after what was written; a field that reads as before leaves its place as it is."""
        kept = {place.label: place for place in known}
        for label in Label:
            name = f"luogo.{label}"
            written, before = self.one(name), kept.get(label)
            if name not in self.sent or (before and written == places.shown(before, authority.territory)):
                continue
            if not written:
                kept.pop(label, None)
                continue
            if written == places.EVERYWHERE:
                written = authority.territory.comune.name
            match places.decide(keywords.Place(written, label), known, authority.territory):
                case places.Keep(place):
                    kept[label] = place
                case places.Which(areas):
                    self.flaws[name] = f"Intendi {places.either(areas)}? Scrivi il nome intero."
                case _:
                    all_names = ", ".join(area.name for area in authority.territory.frazioni)
                    self.flaws[name] = f"Non conosciamo questo luogo. Puoi scrivere: {all_names}."
        return [kept[label] for label in Label if label in kept]


# ── asked and answered ──────────────────────────────────────────────────────────────────────────────


@router.get("/{token}", summary="The page of somebody's choices", response_class=HTMLResponse)
async def show(token: str, request: Request, parts: Parts = Depends(parts_of)) -> HTMLResponse:
    """What they have chosen and all that is known of them, as a form. It changes nothing."""
    if (late := _let_in(token, request, parts)) is not None:
        return late
    async with parts.database.read() as session:
        found = await _person(session, token, parts)
        if found is None:
            return _unknown()
        known = await choosing.known_of(session, *found, parts.seal)
    return _form(found[1], known)


@router.post("/{token}", summary="Change somebody's choices", response_class=HTMLResponse)
async def save(token: str, request: Request, parts: Parts = Depends(parts_of)) -> HTMLResponse:
    """All of them at once, or none where something cannot be read; twice is once."""
    if (late := _let_in(token, request, parts)) is not None:
        return late
    sent = _fields(await request.body())
    async with parts.database.write() as session:
        found = await _person(session, token, parts)
        if found is None:
            return _unknown()
        row, authority = found
        authority = await subscribing.hold(session, row, authority)
        before = await choosing.hold(session, row)
        if row.left_at is not None:
            return _unknown()
        known = await choosing.known_of(session, row, authority, parts.seal)
        if "salva" not in sent:  # not our form: an empty one would switch everything off
            return _form(authority, known)
        form = Form(sent)
        where = form.places(known.places, authority)  # in the order of the page, and so of its mistakes
        choices = Choices(form.topics(), form.quiet(), form.language(before.language))
        if form.flaws:
            return _form(authority, known, form)
        choosing.keep(row, choices)
        if where != list(known.places):
            await subscribing.settle(session, row, where, authority)
        if first := form.first(known.ways):
            await choosing.put_in_order(session, row, [first])
        await session.flush()
        known = await choosing.known_of(session, row, authority, parts.seal)
    log.info("choices changed on the page", authority=authority.code)
    return _form(authority, known, saved=True)


def _fields(body: bytes) -> dict[str, list[str]]:
    try:
        return parse_qs(body.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=MOST_FIELDS)
    except ValueError:  # more fields than any form of ours has
        return {}


async def _person(session: AsyncSession, token: str, parts: Parts) -> tuple[tables.Recipient, Authority] | None:
    number = Postmarks(parts.settings.key_bytes).chooser(token, datetime.now(UTC))
    row = await session.get(tables.Recipient, number) if number is not None else None
    if row is None or row.left_at is not None or row.is_channel or row.authority not in parts.authorities:
        return None
    return row, parts.authorities[row.authority]


def _let_in(token: str, request: Request, parts: Parts) -> HTMLResponse | None:
    """None, or the answer to who comes too often."""
    now = time.monotonic()
    host = request.client.host if request.client else ""
    wait = by_host.wait(network(host), now) or by_person.wait(parts.seal.fingerprint(token[:600]), now)
    if not wait:
        return None
    seconds = str(int(wait) + 1)
    page = _page("Un momento", f"<p>Troppe richieste in poco tempo: riprova tra {seconds} secondi.</p>", 429)
    page.headers["Retry-After"] = seconds
    return page


# ── the page ────────────────────────────────────────────────────────────────────────────────────────

PAGE = """<!doctype html>
<html lang="it"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta name="robots" content="noindex"><meta name="color-scheme" content="light dark"><title>{title}</title><style>
body{{font:1.125rem/1.5 system-ui,sans-serif;max-width:38rem;margin:0 auto;padding:1rem;color:#1a1a1a;background:#fff}}
h1{{font-size:1.6rem;line-height:1.2;overflow-wrap:anywhere}} h2,legend{{font-size:1.25rem;font-weight:700;padding:0}}
fieldset{{border:0;border-top:1px solid #767676;margin:1.5rem 0 0;padding:1rem 0 0;min-width:0}}
legend{{float:left;width:100%;margin-bottom:.5rem}} legend+*{{clear:both}}
label{{display:block;padding:.5rem 0}} .scelta{{display:block;min-height:2rem}}
input,select,button{{font:inherit;color:inherit}}
input[type=checkbox],input[type=radio]{{width:1.5rem;height:1.5rem;margin:0 .75rem 0 0;vertical-align:middle}}
input[type=text],input[type=time],select{{display:block;width:100%;box-sizing:border-box;min-height:3rem;padding:.5rem;
border:2px solid #595959;border-radius:.25rem;background:#fff}}
input[type=time]{{max-width:12rem}} .aiuto{{margin:.25rem 0;color:#404040}}
button{{display:block;margin:2rem 0;padding:.75rem 1.5rem;min-height:3rem;border:2px solid #1a1a1a;border-radius:.25rem;
background:#1a1a1a;color:#fff;font-weight:700}}
a{{color:#004b9b}} :focus{{outline:3px solid #0b5fff;outline-offset:3px}}
.fatto{{border-left:.4rem solid #006b3c;padding:.5rem 1rem;background:#e8f5ee}}
.errori{{border-left:.4rem solid #b00020;padding:.5rem 1rem;background:#fdecee}}
.errore{{color:#b00020;font-weight:700;margin:.25rem 0}}
[aria-invalid=true]{{border-color:#b00020!important}} dt{{font-weight:700;margin-top:.5rem}} dd{{margin:0}}
@media (prefers-color-scheme:dark){{body{{color:#f2f2f2;background:#161616}} .aiuto{{color:#c8c8c8}} a{{color:#8ec5ff}}
input[type=text],input[type=time],select{{background:#262626;border-color:#a6a6a6}}
button{{background:#f2f2f2;color:#161616;border-color:#f2f2f2}} :focus{{outline-color:#8ec5ff}}
.fatto{{background:#10301f}} .errori{{background:#3a1218}} .errore{{color:#ff9aa5}}
[aria-invalid=true]{{border-color:#ff9aa5!important}}}}
</style></head><body><main><h1>{title}</h1>{said}</main></body></html>"""


def _page(title: str, said: str, status: int = 200, *, mark: str = "") -> HTMLResponse:
    page = PAGE.format(title=escape(title), said=said)
    if mark:  # read out first by whoever hears the page
        page = page.replace("<title>", f"<title>{escape(mark)}: ", 1)
    return HTMLResponse(page, status, HEADERS)


def _unknown() -> HTMLResponse:
    return _page(
        "Questo collegamento non è valido",
        "<p>I collegamenti alle scelte valgono 7 giorni. Per riceverne uno nuovo scrivi «cosa sai di me» al numero, o "
        "al bot, da cui ricevi gli avvisi. Nulla è cambiato.</p>",
        404,
    )


def _form(
    authority: Authority, known: choosing.Known, form: Form | None = None, *, saved: bool = False
) -> HTMLResponse:
    flaws = form.flaws if form else {}
    fields = Fields(authority, known, form)
    said = (
        ('<p class="fatto" role="status">Fatto: le tue scelte sono salvate.</p>' if saved else "")
        + _summary(flaws)
        + '<form method="post" accept-charset="utf-8">'
        + fields.topics()
        + fields.places()
        + fields.quiet()
        + fields.ways()
        + fields.language()
        + '<button name="salva" value="1">Salva le scelte</button></form>'
        + _about(authority, known)
    )
    mark = "Errore" if flaws else "Salvato" if saved else ""
    return _page(f"Le tue scelte: {authority.name}", said, 422 if flaws else 200, mark=mark)


def _summary(flaws: Mapping[str, str]) -> str:
    if not flaws:
        return ""
    links = "".join(f'<li><a href="#{_id(name)}">{escape(flaw)}</a></li>' for name, flaw in flaws.items())
    return (
        f'<div class="errori" role="alert"><h2>Controlla questi campi, nulla è stato salvato</h2><ul>{links}</ul></div>'
    )


def _about(authority: Authority, known: choosing.Known) -> str:
    rows = [line.partition(": ") for line in known.in_words(authority).split("\n")]
    facts = "".join(f"<dt>{escape(what)}</dt><dd>{escape(fact)}</dd>" for what, _, fact in rows)
    return (
        f"<h2>Tutto quello che sappiamo di te</h2><dl>{facts}</dl>"
        f'<p><a href="{escape(authority.policy.url)}" rel="noreferrer">Informativa sui dati personali</a></p>'
        f"<h2>Per non ricevere più nulla</h2><p>Scrivi <strong>{escape(authority.keywords.leave)}</strong> al numero, "
        "o al bot, da cui ricevi gli avvisi. In caso di pericolo chiama il 112.</p>"
    )


def _id(name: str) -> str:
    return name.replace(".", "-")


@dataclass(frozen=True)
class Fields:
    """The parts of the form; after a mistake with what was written, or nobody could correct it."""

    authority: Authority
    known: choosing.Known
    form: Form | None

    def topics(self) -> str:
        on = self.form.topics() if self.form else self.known.choices.topics
        boxes = "".join(
            f'<label class="scelta"><input type="checkbox" name="argomento" value="{topic}"'
            f"{' checked' if topic in on else ''}>{escape(ABOUT[topic])}</label>"
            for topic in CHOSEN
        )
        always = "Le emergenze (allerte, interruzioni, strade chiuse) arrivano sempre."
        return f'<fieldset><legend>Che cosa ricevere</legend><p class="aiuto">{always}</p>{boxes}</fieldset>'

    def places(self) -> str:
        territory = self.authority.territory
        options = "".join(f'<option value="{escape(area.name)}">' for area in territory.frazioni)
        at = {place.label: places.shown(place, territory) for place in self.known.places}
        inputs = "".join(
            self._text(f"luogo.{label}", LABELS[label], at.get(label, ""), ' type="text" list="luoghi" maxlength="100"')
            for label in Label
        )
        names = ", ".join(area.name for area in territory.frazioni)
        return (
            f'<fieldset><legend>I tuoi luoghi</legend><p class="aiuto">Scrivi il nome della zona: {escape(names)}. '
            f"Finché «Casa» è vuota ricevi gli avvisi di tutto il Comune.</p>{inputs}"
            f'<datalist id="luoghi">{options}</datalist></fieldset>'
        )

    def quiet(self) -> str:
        quiet = self.known.choices.quiet
        begins, ends = (f"{at:%H:%M}" for at in (quiet.begins, quiet.ends)) if quiet else ("", "")
        return (
            '<fieldset><legend>Ore di silenzio</legend><p class="aiuto">In queste ore ti arrivano solo le emergenze; '
            "il resto aspetta. Lascia vuoto per non avere ore di silenzio.</p>"
            + self._text("dalle", "Dalle ore", begins, ' type="time"')
            + self._text("alle", "Alle ore", ends, ' type="time"')
            + "</fieldset>"
        )

    def ways(self) -> str:
        ways = [way for way in self.known.ways if way.open]
        if len(ways) < 2:
            return ""
        first = (self.form.first(ways) if self.form else None) or ways[0].channel
        radios = "".join(
            f'<label class="scelta"><input type="radio" name="primo" value="{way.channel}"'
            f"{' checked' if way.channel is first else ''}>{escape(way.in_words)}</label>"
            for way in ways
        )
        return f'<fieldset><legend>Dove scriverti per primo</legend><div class="scelte">{radios}</div></fieldset>'

    def language(self) -> str:
        now = self.known.choices.language
        now = self.form.language(now) if self.form else now
        options = "".join(
            f'<option value="{code}"{" selected" if code == now else ""}>{escape(language_in_words(code))}</option>'
            for code in (LANGUAGES if now in LANGUAGES else (now, *LANGUAGES))
        )
        return (
            '<fieldset><legend>Lingua</legend><label for="lingua">Lingua preferita, quando un avviso è scritto anche '
            f'in quella</label><select id="lingua" name="lingua">{options}</select></fieldset>'
        )

    def _text(self, name: str, called: str, value: str, more: str) -> str:
        if self.form and name in self.form.sent:
            value = self.form.one(name)
        flaw = self.form.flaws.get(name) if self.form else None
        wrong = f' aria-invalid="true" aria-describedby="{_id(name)}-errore"' if flaw else ""
        said = f'<p class="errore" id="{_id(name)}-errore">{escape(flaw)}</p>' if flaw else ""
        return (
            f'<label for="{_id(name)}">{escape(called)}</label>{said}'
            f'<input id="{_id(name)}" name="{name}" value="{escape(value)}"{more}{wrong}>'
        )
