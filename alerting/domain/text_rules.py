"""What a careful colleague would say about a text before it is sent. Advice: what forbids sending is in composing."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property

from alerting.domain import gsm, rendering
from alerting.domain.cap import Alert, Info, MsgType, ResponseType, Severity, Status
from alerting.domain.findings import Finding, Weight
from alerting.domain.kinds import needs_instruction
from alerting.domain.plain_text import one_line, shortened, without_markup
from alerting.domain.rendering import Form


@dataclass(frozen=True)
class Text:
    """What is looked at: an alert in the language shown first, at the moment somebody wants to send it."""

    alert: Alert
    now: datetime

    @cached_property
    def info(self) -> Info:
        return self.alert.first

    @cached_property
    def fields(self) -> tuple[str, ...]:
        """What the sender worded, each as it was written."""
        return (self.info.headline, self.info.description, self.info.instruction)

    @cached_property
    def words(self) -> str:
        """All that was worded, a line for each field."""
        return "\n".join(one_line(field) for field in self.fields if field.strip())

    @property
    def is_italian(self) -> bool:
        return self.info.tongue == "it"

    @property
    def is_live(self) -> bool:
        return self.alert.status is Status.ACTUAL

    @property
    def calls_to_act(self) -> bool:
        """Whether people are to do something: not of an end, a retraction, or what CAP says needs no action."""
        quiet = {ResponseType.NONE, ResponseType.ALL_CLEAR}
        nothing_to_do = bool(self.info.response_type) and quiet.issuperset(self.info.response_type)
        return self.alert.msg_type is not MsgType.CANCEL and not nothing_to_do


Check = Callable[[Text], Iterator[str]]
"""Yields a sentence for each thing it finds, in Italian: operators read it in the console."""


# ── what to do ──────────────────────────────────────────────────────────────────────────────────────


def _action_missing(text: Text) -> Iterator[str]:
    if text.calls_to_act and needs_instruction(text.info.severity) and not text.info.instruction.strip():
        yield "Manca che cosa fare: scrivere almeno un'azione che le persone possano compiere subito."


def _action_unsaid(text: Text) -> Iterator[str]:
    if text.calls_to_act and not needs_instruction(text.info.severity) and not text.info.instruction.strip():
        yield "Non è scritto che cosa fare: se non serve nulla, dirlo; altrimenti indicare un'azione."


VERBS = re.compile(
    # Verbs that alerts ask for, in the forms of tu, voi, Lei and the infinitive; and what forbids or obliges.
    r"\b(?:"
    r"\w+(?:[aei]re|rre)|\w{3,}(?:[aei]r|rr)(?:si|vi|ti|ci|mi|lo|la|li|le|ne|gli)"
    r"|(?:lasci|rest|evit|chiam|us|port|ascolt|allontan|prepar|segnal|spost|parcheggi|controll|limit|ripar|assicur"
    r"|aiut|avvis|telefon|abbandon|aspett|ferm|guard|lav|cerc|consult|tagli|avvicin|cammin|guid|rinvi|attravers|entr|tocc|verific"
    r"|moder|ricord|rispett|consegn|confer|prenot|present|pag|gett|inform|conserv)"
    r"(?:h?i|a|h?iamo|ate|h?ino)(?:ti|vi|si|la|lo|li|le|ne|ci)?"
    r"|(?:chiud|spegn|prend|scend|legg|bev|accend|mett|raccogl|attend|stacc|proteg|rivolg|rimuov|esp|muov|corr|riemp)"
    r"(?:i|ete|ite|a|ano|iamo)(?:ti|vi|si|la|lo|li|le|ne)?"
    r"|(?:segu|boll|part|usc|copr|apr|esc)(?:i|ite|a|ano|iamo)(?:ti|vi|si|la|lo|li|le|ne)?"
    r"|rimani|rimanete|rimanga|sali|salite|salga|tieni(?:ti|la|lo|li|le)?|tenete(?:vi)?|tenga|vai|vattene|andate|vada"
    r"|stai|state|stia|fai|fate|faccia|raggiung(?:i|ete|a)|togli(?:ete)?|tolga|recat[ie](?:vi)?|manten(?:ete|ga)|mantieni"
    r"|ripon(?:i|ete|ga)|dirigi(?:ti)?|dirigetevi|espon(?:i|ete|ga)"
    r"|vietat[oaie]|divieto|obbligo|obbligatori[oa]|proibit[oaie]|necessari[oa]|occorre|bisogna"
    r")\b",
    re.IGNORECASE,
)
NOUNS = re.compile(
    r"\b(?:mare|quartier\w*|cantier\w*|carabinier\w*|altre|oltre|pure|sempre|mentre|padre|madre|re)\b", re.I
)
"""They end like verbs."""


def _action_vague(text: Text) -> Iterator[str]:
    instruction = one_line(text.info.instruction)
    if _bare(instruction) and text.is_italian and not VERBS.search(NOUNS.sub(" ", instruction)):
        yield "Le istruzioni non dicono un'azione: usare un verbo, come «Resta in casa» o «Non usare il sottopasso»."


# ── when ────────────────────────────────────────────────────────────────────────────────────────────

MONTH = r"(?:gen|feb|mar|apr|mag|giu|lug|ago|set|ott|nov|dic)[a-z]*"
DATE = re.compile(rf"\b\d{{1,2}}°? {MONTH}\b|\b\d{{1,2}}/\d{{1,2}}\b", re.IGNORECASE)
RELATIVE = re.compile(
    r"\b(?:stasera|stanotte|stamattina|stamani|oggi|domani|dopodomani|ieri|in (?:serata|mattinata|nottata|giornata)"
    r"|quest[ao] (?:sera|notte|mattina|pomeriggio)|(?:nelle|per le) prossime (?:\w+ )?ore|nei prossimi giorni"
    r"|tra (?:poco|breve)|fra (?:poco|breve)|a breve|quanto prima|prossimamente)\b",
    re.IGNORECASE,
)


def _time_unclear(text: Text) -> Iterator[str]:
    if not text.is_italian:
        return
    sentences = re.split(r"(?<=[.!?;])\s|\n", text.words)
    vague = [
        found[0].lower() for sentence in sentences if not DATE.search(sentence) if (found := RELATIVE.search(sentence))
    ]
    for words in dict.fromkeys(vague):
        yield f"«{words}» non dice quando: scrivere giorno e ora, come «21 novembre alle 18»."


def _end_unsaid(text: Text) -> Iterator[str]:
    if text.info.expires is None:
        yield "Non è scritto fino a quando vale: indicare la fine (expires); senza, si intende per 24 ore."


def _expired(text: Text) -> Iterator[str]:
    ends = text.alert.ends(text.info)
    if ends <= text.now:
        yield f"È già finita, alle {rendering.in_words(ends)}: nessuno la riceverebbe."


LONGEST = {
    # Hardly a warning holds longer than this without being said anew.
    Severity.EXTREME: timedelta(days=4),
    Severity.SEVERE: timedelta(days=4),
    Severity.MODERATE: timedelta(days=31),
    Severity.UNKNOWN: timedelta(days=31),
    Severity.MINOR: timedelta(days=366),
}


def _ends_late(text: Text) -> Iterator[str]:
    if text.info.expires is None:
        return
    lasts = text.info.expires - max(text.now, text.info.onset or text.now)
    if lasts > (longest := LONGEST[text.info.severity]):
        day = text.info.expires.astimezone(rendering.ROME)
        yield (
            f"Finisce fra {lasts.days} giorni, il {day:%d/%m/%Y}: di solito al massimo {longest.days}. "
            "Controllare la data, oppure aggiornarlo più avanti."
        )


# ── who, where, what ────────────────────────────────────────────────────────────────────────────────

VAGUE_PLACE = re.compile(
    r"(?:tutta |l')?(?:italia|italy)|(?:tutto )?il territorio nazionale|territorio nazionale|varie zone|zone varie"
    r"|zone? interessat[ae]|vedi (?:mappa|allegato)|-+|n\.? ?d\.?",
    re.IGNORECASE,
)


def _places(text: Text) -> list[str]:
    return [name for area in text.info.areas if (name := one_line(area.area_desc))]


def _sender_missing(text: Text) -> Iterator[str]:
    if not text.info.sender_name.strip():
        yield "Manca chi parla: indicare l'ente (senderName), o le persone leggeranno un codice."


def _place_missing(text: Text) -> Iterator[str]:
    if not _places(text):
        yield "Manca il luogo: scrivere frazioni, strade o zone come le chiama chi ci abita."


def _place_vague(text: Text) -> Iterator[str]:
    for name in _places(text):
        if VAGUE_PLACE.fullmatch(name):
            yield f"«{name}» non dice a nessuno se è coinvolto: scrivere frazioni, strade o comuni."


def _effects_missing(text: Text) -> Iterator[str]:
    headline, description = (_bare(words) for words in (text.info.headline, text.info.description))
    if not description:
        yield "Mancano gli effetti: scrivere che cosa può succedere alle persone e alle cose."
    elif description in headline:
        yield "La descrizione ripete il titolo: scrivere che cosa può succedere alle persone e alle cose."


def _bare(words: str) -> str:
    """Letters and figures alone, to compare."""
    return "".join(letter for letter in words.lower() if letter.isalnum())


def _no_words(text: Text) -> Iterator[str]:
    for field in text.fields:
        if field.strip() and not _bare(field):
            yield f"«{one_line(field)[:20]}» non ha parole: nessuno lo può leggere ad alta voce."


# ── plain words ─────────────────────────────────────────────────────────────────────────────────────

PLAIN = {
    # What offices write, and what people say (cap-and-italy.md 5; the pairs are ours).
    r"reticol[oi](?: idrografic[oi]| idraulic[oi])? (?:minor[ei]|secondari[oi])": "fossi e torrenti",
    r"reticol[oi](?: idrografic[oi]| idraulic[oi])? principal[ei]": "fiumi e canali",
    r"reticol[oi] (?:idrografic[oi]|idraulic[oi])": "fiumi, fossi e canali",
    r"criticità ordinaria|ordinaria criticità": "allerta gialla",
    r"criticità moderata|moderata criticità": "allerta arancione",
    r"criticità elevata|elevata criticità": "allerta rossa",
    r"rischio idrogeologico(?:[ -]idraulico)?": "frane e allagamenti da fossi e torrenti",
    r"rischio idraulico": "piena di fiumi e canali",
    r"effetti al suolo": "danni e allagamenti",
    r"precipitazioni(?: nevose| piovose)?": "pioggia, o neve",
    r"fenomeni convettivi|convezione": "temporali",
    r"cumulat[aei]": "quantità di pioggia",
    r"livell[oi] idrometric[oi]": "livello del fiume",
    r"colmo di piena": "punto più alto della piena",
    r"ruscellament[oi]": "acqua che scorre sulle strade",
    r"are[ae] golenal[ei]|golen[ae]": "terreni fra il fiume e l'argine",
    r"sormont[oi]|tracimazion[ei]": "acqua sopra gli argini",
    r"dissest[oi] idrogeologic[oi]": "frane",
    r"avvers[eo] condizion[ei] meteo\w*|condizioni meteo(?:rologiche)? avverse|avversità": "maltempo",
    r"interdett[oaie](?: al transito| alla circolazione)?|interdizione": "chiuso al traffico",
    r"utenze": "case e aziende",
    r"approvvigionament[oi]": "rifornimento",
    r"erogazione idrica": "acqua del rubinetto",
    r"inottemperanza": "se non lo si fa",
    r"ai sensi (?:di|del|dell|della|degli|delle)\b": "il motivo, senza norme",
    r"c\.?o\.?c\.?": "centro operativo comunale",
    r"d\.?p\.?c\.?": "Dipartimento della protezione civile",
    r"vv\.?f\.?": "Vigili del fuoco",
    r"c\.?f\.?r\.?": "Centro funzionale regionale",
}
JARGON = tuple((re.compile(rf"(?<!\w)(?:{words})(?!\w)", re.IGNORECASE), plain) for words, plain in PLAIN.items())


def _jargon(text: Text) -> Iterator[str]:
    if not text.is_italian:
        return
    left = text.words
    for pattern, plain in JARGON:
        if found := pattern.search(left):
            yield f"«{found[0]}» è linguaggio d'ufficio: scrivere «{plain}»."
            left = pattern.sub("·", left)


CAPITALS = re.compile(r"(?:\b[A-ZÀ-ÖØ-Þ]{2,}\b[^\w\n]*){5,}")


def _capitals(text: Text) -> Iterator[str]:
    for field in text.fields:
        line = one_line(field)
        if (found := CAPITALS.search(line)) or (line.isupper() and len(line.split()) >= 3):
            words = shortened((found[0] if found else line).strip(), 40)
            yield f"«{words}» è tutto maiuscolo: si legge male e spaventa. Solo una parola o due."


def _exclaims(text: Text) -> Iterator[str]:
    if text.words.count("!") > 1:
        yield "Più di un punto esclamativo: il tono calmo convince di più. Toglierli, o lasciarne uno."


# ── how long ────────────────────────────────────────────────────────────────────────────────────────


def _too_long(text: Text) -> Iterator[str]:
    over = rendering.whole(text.alert).characters - rendering.MOST[Form.TEMPLATE]
    if over > 0:
        yield f"Il testo intero supera di {over} caratteri quello che accetta WhatsApp, e verrebbe tagliato."


def _headline_long(text: Text) -> Iterator[str]:
    over = len(text.info.headline.strip()) - rendering.LONGEST_SUBJECT
    if over > 0:
        yield f"Il titolo è di {over} caratteri troppo lungo: al massimo {rendering.LONGEST_SUBJECT}."


def _sms_long(text: Text) -> Iterator[str]:
    size = rendering.whole(text.alert, Form.SMS, link=True).size
    if size and size.parts > rendering.SMS_PARTS:
        yield f"Come SMS servirebbero {size.parts} parti: verrebbe tagliato a {rendering.SMS_PARTS}."


def _sms_letters(text: Text) -> Iterator[str]:
    size = rendering.whole(text.alert, Form.SMS, link=True).size
    if size and size.encoding is gsm.Encoding.UCS_2:
        yield "Contiene lettere che gli SMS non hanno: in una parte entrano 67 caratteri invece di 153."


# ── what it could be taken for ──────────────────────────────────────────────────────────────────────

LIKE_IT_ALERT = re.compile(
    # Directive of the PCM, 23 October 2020: IT-alert is the national system's, and a comune never sounds like it.
    r"\bit[\s._‐-―-]{0,3}alert\b|\btest[\s,.!-]+test\b|\b(?:es|eu|nl|de|uk|fr)[ -]alert\b|cell[ -]?broadcast"
    r"|\b(?:sistema|messaggio) (?:nazionale )?di allarme pubblico\b|\ballarme pubblico\b|\bpublic warning\b"
    r"|\bemergency alert\b|\bpresidential alert\b",
    re.IGNORECASE,
)


def _like_it_alert(text: Text) -> Iterator[str]:
    for found in dict.fromkeys(match[0] for match in LIKE_IT_ALERT.finditer(f"{text.info.sender_name}\n{text.words}")):
        yield f"«{found}» si può scambiare per IT-alert, il sistema nazionale: usare altre parole."


SAYS_EXERCISE = re.compile(r"\b(?:esercitazion[ei]|simulazion[ei]|drill|exercise)\b", re.IGNORECASE)
SAYS_REAL = re.compile(
    r"\bnon (?:è|e'|si tratta di) (?:un'|una |un )?(?:esercitazione|prova|simulazione|test)\b"
    r"|\bnot a (?:drill|test|exercise)\b|\b(?:allerta|pericolo|emergenza|allarme) reale\b|\breal emergency\b",
    re.IGNORECASE,
)


def _exercise_by_hand(text: Text) -> Iterator[str]:
    # News of an exercise to come is news. Something grave that calls itself an exercise is a mistake.
    if text.is_live and text.info.severity is not Severity.MINOR and (found := SAYS_EXERCISE.search(text.words)):
        yield f"Un messaggio vero dice «{found[0]}»: se è un'esercitazione, segnarla come tale."


def _real_in_exercise(text: Text) -> Iterator[str]:
    if not text.is_live and (found := SAYS_REAL.search(text.words)):
        yield f"Un'esercitazione dice «{found[0]}»: qualcuno ci crederà. Toglierlo."


# ── what does not belong in a text ──────────────────────────────────────────────────────────────────

LINK = re.compile(r"(?:https?://|www\.)[^\s<>\"«»]+", re.IGNORECASE)
SHORTENERS = re.compile(
    r"(?:^|[/.\s])(?:bit\.ly|tinyurl\.com|t\.co|goo\.gl|ow\.ly|is\.gd|cutt\.ly|rebrand\.ly|tiny\.cc|shorturl\.at|rb\.gy"
    r"|buff\.ly|t\.ly|lnkd\.in|s\.id|v\.gd|shorter\.me|bl\.ink)/\S",
    re.IGNORECASE,
)


def _link_hidden(text: Text) -> Iterator[str]:
    if SHORTENERS.search(f"{text.words}\n{text.info.web}"):
        yield "Un indirizzo accorciato non dice dove porta, come nelle truffe: scrivere l'indirizzo del comune."


def _links_many(text: Text) -> Iterator[str]:
    links = {link.rstrip(".,;:!?)/") for link in LINK.findall(f"{text.words}\n{text.info.web}")}
    if len(links) > 1:
        yield f"Ci sono {len(links)} indirizzi web: lasciarne uno solo, del comune."


PHONE = re.compile(
    r"(?<![\w/.:-])(?!\d{1,2}[ ./-]\d{1,2}[ ./-]\d{4}\b)"  # 05.11.2026 is a day
    r"(?:\+39[ .]?)?(?:0\d{1,3}|3\d{2}|800|803|199)[ ./-]?\d(?:[ .-]?\d){4,7}(?!\w)"
)
FREE = ("800", "803")
"""Numbers for reporting a fault: people recognise them."""


def _phone_unknown(text: Text) -> Iterator[str]:
    ours = re.sub(r"\D", "", text.info.contact)
    for found in dict.fromkeys(PHONE.findall(text.words)):
        digits = re.sub(r"\D", "", found.replace("+39", ""))
        if digits not in ours and not digits.startswith(FREE):
            yield f"Il numero {found.strip()} non è quello dei contatti dell'ente: controllarlo, o toglierlo."


ENTITY = re.compile(r"&(?:amp|lt|gt|quot|apos|nbsp|[aeiou](?:grave|acute)|#\d{1,6}|#x[0-9a-f]{1,5});", re.IGNORECASE)
MARKDOWN = re.compile(r"\*\*\S[^*]*\*\*|\[[^\]\n]+\]\(\S+\)|^#{1,6} ", re.MULTILINE)


def _markup(text: Text) -> Iterator[str]:
    if any(without_markup(field) != field or ENTITY.search(field) or MARKDOWN.search(field) for field in text.fields):
        yield "Sono rimasti segni di impaginazione (HTML o simili): sul telefono si leggerebbero. Toglierli."


UNFILLED = re.compile(
    # "Via XX Settembre" is a street.
    r"\{\{?[^{}\n]{0,40}\}?\}|\b[Xx]{2}[:./][Xx]{2}\b|\bX{4,}\b|\bx{3,}\b|_{3,}|lorem ipsum|\bTODO\b"
    r"|\[ ?(?:inserire|indicare|data|ora|luogo|via|nome|zona)\b[^\]\n]{0,40}\]",
)


def _unfilled(text: Text) -> Iterator[str]:
    if found := UNFILLED.search(text.words):
        yield f"«{found[0]}» sembra un campo del modello non compilato."


def _invisible(text: Text) -> Iterator[str]:
    if any(
        not letter.isprintable() and letter not in "\n\r\t\u00a0\u200d" for field in text.fields for letter in field
    ):
        yield "Ci sono caratteri invisibili, che vengono tolti: controllare che il testo sia quello voluto."


def _translation_halved(text: Text) -> Iterator[str]:
    for info in text.alert.infos:
        if info.tongue != text.info.tongue and text.info.instruction.strip() and not info.instruction.strip():
            yield f"La traduzione «{info.language}» non dice che cosa fare."


RULES: dict[str, tuple[Weight, Check]] = {
    "action-missing": (Weight.ERROR, _action_missing),
    "action-unsaid": (Weight.WARNING, _action_unsaid),
    "action-vague": (Weight.WARNING, _action_vague),
    "time-unclear": (Weight.WARNING, _time_unclear),
    "end-unsaid": (Weight.WARNING, _end_unsaid),
    "expired": (Weight.ERROR, _expired),
    "ends-late": (Weight.WARNING, _ends_late),
    "sender-missing": (Weight.ERROR, _sender_missing),
    "place-missing": (Weight.ERROR, _place_missing),
    "place-vague": (Weight.WARNING, _place_vague),
    "effects-missing": (Weight.WARNING, _effects_missing),
    "no-words": (Weight.ERROR, _no_words),
    "jargon": (Weight.WARNING, _jargon),
    "all-capitals": (Weight.WARNING, _capitals),
    "exclamation": (Weight.WARNING, _exclaims),
    "too-long": (Weight.ERROR, _too_long),
    "headline-long": (Weight.WARNING, _headline_long),
    "sms-long": (Weight.WARNING, _sms_long),
    "sms-letters": (Weight.NOTE, _sms_letters),
    "like-it-alert": (Weight.ERROR, _like_it_alert),
    "exercise-by-hand": (Weight.ERROR, _exercise_by_hand),
    "real-in-exercise": (Weight.ERROR, _real_in_exercise),
    "link-hidden": (Weight.ERROR, _link_hidden),
    "links-many": (Weight.WARNING, _links_many),
    "phone-unknown": (Weight.WARNING, _phone_unknown),
    "markup": (Weight.WARNING, _markup),
    "unfilled": (Weight.ERROR, _unfilled),
    "invisible": (Weight.WARNING, _invisible),
    "translation-halved": (Weight.WARNING, _translation_halved),
}

GRAVITY = {Weight.ERROR: 0, Weight.WARNING: 1, Weight.NOTE: 2}


def lint(alert: Alert, now: datetime | None = None) -> tuple[Finding, ...]:
    """What could be said better, the gravest first, as of `now`, or of when the alert was sent.

    Words are judged in Italian alone. The sentences are Italian too: operators read them.
    """
    text = Text(alert, now or alert.sent)
    found = [
        Finding(rule, weight, None, sentence) for rule, (weight, check) in RULES.items() for sentence in check(text)
    ]
    return tuple(sorted(found, key=lambda finding: GRAVITY[finding.weight]))
