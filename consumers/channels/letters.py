"""A text as a letter: built once for everybody, so that only what is personal is put into each copy."""

import re
import secrets
from dataclasses import dataclass
from datetime import datetime
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, formataddr
from functools import lru_cache
from html import escape

from alerting.domain.attachments import label_of
from alerting.domain.plain_text import one_line, shortened, visible
from alerting.domain.rendering import LONGEST_SUBJECT
from consumers.channel import Attachment, Text

LABELS = ("Dove", "Quando", "Cosa fare", "Per informazioni", "Mappa", "Immagine", "Documento")
"""What a line of an alert may begin with (rendering.py): the eye looks for it."""
ADDRESS_OF_A_PAGE = re.compile(r"https?://[^\s<>\"]+")
NOT_IN_A_LETTER = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]|[\ud800-\udfff]")

PAGE = """<!doctype html>
<html lang="{language}"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta name="color-scheme" content="light dark"><title>{title}</title></head>
<body style="margin:0;padding:16px;font:18px/1.5 system-ui,Arial,sans-serif">
<div role="article" lang="{language}" style="max-width:36em;margin:0 auto">
{said}{shown}
{footer}</div></body></html>
"""
# No colour of ours: whoever reads on black or in large letters has chosen theirs.
FOOTER = "Ricevi questo messaggio perché sei iscritto agli avvisi. È stato inviato da un sistema automatico."
LEAVE = "Per non riceverne più:"


@dataclass(frozen=True, slots=True)
class Sender:
    """Who writes, as people see it."""

    address: str
    name: str = ""

    @property
    def domain(self) -> str:
        return self.address.rpartition("@")[2]


@dataclass(frozen=True, slots=True)
class Letter:
    """All that is the same for everybody, ready for the wire: lines end in CRLF, and dots that begin one are doubled.

    Between the `pieces` goes the way to leave, of each person their own.
    """

    pieces: tuple[bytes, ...]

    def to(self, address: str, message_id: str, at: datetime, leave_at: str | None) -> bytes:
        """One copy. `address` and `leave_at` are ASCII without blanks; nothing is checked here any more."""
        head = f"To: {address}\r\nMessage-ID: <{message_id}>\r\nDate: {format_datetime(at)}\r\n"
        if leave_at is None:
            return head.encode() + b"".join(self.pieces)
        head += f"List-Unsubscribe:\r\n <{leave_at}>\r\nList-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n"
        return head.encode() + _folded(leave_at).join(self.pieces)


def _folded(url: str) -> bytes:
    """A URL in quoted-printable, in lines of its own: none may be longer than 76."""
    lines = re.findall(".{1,72}", url.replace("=", "=3D"))
    return ("=\r\n" + "=\r\n".join(lines) + "=\r\n").replace("\r\n.", "\r\n..").encode()


def letter(text: Text, sender: Sender, leaving: bool) -> Letter:
    """The letter of a text, built once. `leaving` says that each copy will be given a way to leave."""
    return (_with_enclosure if text.enclosure else _of_words)(text, sender, leaving)


def _built(text: Text, sender: Sender, leaving: bool) -> Letter:
    here = secrets.token_hex(16)  # which no text can know
    said = _sayable(text.body)
    subject = shortened(_sayable(one_line(text.subject or text.body.strip().partition("\n")[0])), LONGEST_SUBJECT)
    message = EmailMessage(policy=SMTP)
    message["From"] = formataddr((sender.name, sender.address)) if sender.name.isascii() else _from(sender)
    message["Subject"] = subject or sender.name or sender.address
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834: nobody's holidays answer it
    if text.urgent:
        message["Importance"] = "high"
    if text.thread:
        ids = [f"<{re.sub(r'[^A-Za-z0-9._-]', '-', one)}@{sender.domain}>" for one in text.thread]
        message["X-Alert-Id"] = one_line(text.thread[-1])
        message["References"] = " ".join(ids)
        if len(ids) > 1:
            message["In-Reply-To"] = ids[-2]
    footer = [FOOTER, f"{LEAVE}\n{here}"] if leaving else [FOOTER]
    shown = text.enclosure
    described = [_described(shown)] if shown else []
    message.set_content("\n\n".join([said, *described, "-- ", *footer]) + "\n", cte="quoted-printable")
    content_id = f"{shown.sha256[:32]}@{sender.domain}" if shown else ""
    page = PAGE.format(
        language=escape(text.language),
        title=escape(subject),
        said=_paragraphs(said),
        shown=_shown(shown, content_id) if shown else "",
        footer=_footer(here, leaving),
    )
    message.add_alternative(page, subtype="html", cte="quoted-printable")
    if shown and shown.is_picture:
        html = message.get_body(("html",))
        assert html is not None
        kind, _, subtype = shown.media_type.partition("/")
        html.add_related(shown.content, kind, subtype, cid=f"<{content_id}>", disposition="inline", filename=shown.name)
    for attachment in (*([shown] if shown and not shown.is_picture else []), *text.attachments):
        kind, _, subtype = attachment.media_type.partition("/")
        message.add_attachment(attachment.content, kind, subtype, filename=attachment.name)
    message["Content-Language"] = text.language  # now: what is set before moves into the first part
    raw = message.as_bytes().replace(b"\r\n.", b"\r\n..")
    return Letter(tuple(raw.split(here.encode())))


_of_words = lru_cache(maxsize=100)(_built)
_with_enclosure = lru_cache(maxsize=10)(_built)
"""Each has some megabytes."""


def _described(shown: Attachment) -> str:
    """For those whose program shows words alone."""
    said = f"{label_of(shown.media_type, shown.says)}: {_sayable(one_line(shown.says))}"
    return f"{said}\n{shown.url}" if shown.url else said


def _shown(shown: Attachment, content_id: str) -> str:
    """The picture itself, and a tap on it is the whole of it; of a document what it is and where."""
    says = escape(_sayable(one_line(shown.says)))
    if not shown.is_picture:
        return f"\n<p><strong>Documento allegato:</strong> {says}</p>"
    picture = f'<img src="cid:{content_id}" alt="{says}" style="max-width:100%;height:auto">'
    return f'\n<p><a href="{escape(shown.url)}">{picture}</a></p>' if shown.url else f"\n<p>{picture}</p>"


def _from(sender: Sender) -> str:
    """A name with accents, which `formataddr` would encode before the policy does."""
    quoted = sender.name.replace("\\", "").replace('"', "")
    return f'"{quoted}" <{sender.address}>'


def _sayable(text: str) -> str:
    """Without what no reader sees and no mail server takes."""
    return NOT_IN_A_LETTER.sub("", visible(text.replace("\r\n", "\n").replace("\r", "\n")))


def _paragraphs(said: str) -> str:
    """The text as HTML: the first paragraph is the heading, a label is bold, a line that is an address is a link."""
    first, *others = [one for one in said.split("\n\n") if one.strip()] or [""]
    told = [f'<h1 dir="auto" style="font-size:1.3em;line-height:1.3">{_lines(first)}</h1>']
    return "\n".join([*told, *(f'<p dir="auto">{_lines(one)}</p>' for one in others)])


def _lines(paragraph: str) -> str:
    return "<br>\n".join(_line(line) for line in paragraph.split("\n"))


def _line(line: str) -> str:
    label, colon, rest = line.partition(": ")
    return f"<strong>{label}:</strong> {_words(rest)}" if colon and label in LABELS else _words(line)


def _words(words: str) -> str:
    return f'<a href="{escape(words)}">{escape(words)}</a>' if ADDRESS_OF_A_PAGE.fullmatch(words) else escape(words)


def _footer(here: str, leaving: bool) -> str:
    way = f'\n<a href="{here}">Non voglio riceverne più</a>' if leaving else ""
    return f'<hr>\n<p style="font-size:.8em">{FOOTER}{way}</p>\n'
