"""A picture or a PDF beside the words of an alert: what may go with one, how it is named, where it is found."""

import hashlib
import re
from dataclasses import dataclass, field
from functools import cached_property

from alerting.domain.cap import Alert, Resource

MOST_BYTES = 16 * 1024 * 1024
"""Of what is handed in, and of a PDF as it is sent."""

JPEG, PNG, PDF = "image/jpeg", "image/png", "application/pdf"
EXTENSIONS = {JPEG: "jpg", PNG: "png", PDF: "pdf"}

LONGEST_SAYING = 300
"""Characters of an alternative text. A description this long is no description: it belongs among the words."""
UNSAID = "Documento allegato"
"""What a PDF is called where nobody says: CAP demands a name (OASIS CAP 1.2, 3.2.3, resourceDesc)."""

SHORT = 12
"""Hexadecimal digits of a short address: of ten thousand attachments, two share them once in five million systems."""

OURS = re.compile(r"(?P<base>https?://\S+)/v1/attachments/(?P<sha256>[0-9a-f]{64})", re.ASCII)
WEB = re.compile(r"https?://\S+")
MAP = re.compile(r"(?:mapp|cartin|piantin)[ae]\b", re.IGNORECASE)


class NotAttachable(Exception):
    """Why a file cannot go with an alert, in a sentence that says what to do instead."""


@dataclass(frozen=True)
class Prepared:
    """What everybody gets of a file. `width` and `height` in pixels; a document has none."""

    media_type: str
    content: bytes = field(repr=False)
    width: int | None = None
    height: int | None = None

    @cached_property
    def sha256(self) -> str:
        """Its name."""
        return hashlib.sha256(self.content).hexdigest()


@dataclass(frozen=True, slots=True)
class Enclosure:
    """The picture or the PDF that an alert shows. `digest` is the SHA-1 of its bytes, as CAP has it."""

    url: str
    media_type: str
    size: int
    says: str = ""
    digest: str = ""

    @property
    def is_picture(self) -> bool:
        return self.media_type.startswith("image/")

    @property
    def resource(self) -> Resource:
        """As CAP says it."""
        return Resource(self.says.strip() or UNSAID, self.media_type, self.size, self.url, digest=self.digest)


def shown_by(alert: Alert) -> Resource | None:
    """The picture or the PDF of an alert that has an address; the first where a source gave several."""
    return next((one for one in alert.first.resources if WEB.fullmatch(one.uri) and _is_shown(one.mime_type)), None)


def _is_shown(media_type: str) -> bool:
    return media_type.startswith("image/") or media_type == PDF


def address_of(public_url: str, sha256: str) -> str:
    """Where everybody finds an attachment, whole and for ever."""
    return f"{public_url.rstrip('/')}/v1/attachments/{sha256}"


def sha256_in(uri: str) -> str | None:
    """Which of our attachments an address names; None where it is somebody else's."""
    found = OURS.fullmatch(uri)
    return found["sha256"] if found else None


def enclosed_in(alert: Alert) -> str | None:
    """Which of our attachments an alert shows."""
    resource = shown_by(alert)
    return sha256_in(resource.uri) if resource else None


def short_address(uri: str) -> str:
    """The same in so few letters that an SMS has room for it; somebody else's address as it is."""
    found = OURS.fullmatch(uri)
    return f"{found['base']}/a/{found['sha256'][:SHORT]}" if found else uri


def name_of(sha256: str, media_type: str) -> str:
    """What it is called where it is saved. Never as whoever handed it in called it: people read that too."""
    return f"allerta-{sha256[:SHORT]}.{EXTENSIONS.get(media_type, 'bin')}"


def label_of(media_type: str, says: str) -> str:
    """What stands before its address among the words."""
    if not media_type.startswith("image/"):
        return "Documento"
    return "Mappa" if MAP.match(says) else "Immagine"
