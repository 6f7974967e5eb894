"""Pictures and documents a business uploaded or was sent: kept for thirty days, shown for five minutes at a time."""

import base64
import binascii
import secrets
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from aiohttp import BodyPartReader, web

from consumers.simulators.whatsapp_errors import Wrong

KEPT = 30 * 24 * 3600.0
SHOWN = 300.0
MOST = {"image/jpeg": 5_000_000, "image/png": 5_000_000, "application/pdf": 100_000_000}
BEGINS = {"image/jpeg": b"\xff\xd8\xff", "image/png": b"\x89PNG\r\n\x1a\n", "application/pdf": b"%PDF-"}
KINDS = {"image/jpeg": "image", "image/png": "image", "application/pdf": "document"}


@dataclass(frozen=True, slots=True)
class Medium:
    """One file of one number."""

    account: str
    identity: str
    media_type: str
    content: bytes = field(repr=False)
    until: float

    @property
    def sha256(self) -> str:
        return sha256(self.content).hexdigest()


class Media:
    """All files of all numbers."""

    def __init__(self) -> None:
        self._media: dict[str, Medium] = {}
        self._shown: dict[str, tuple[str, float]] = {}

    def find(self, account: str, identity: str, now: float) -> Medium:
        """Raises Wrong for an id that is another number's, expired, or nobody's."""
        found = self._media.get(identity)
        if found is None or found.account != account or found.until < now:
            raise Wrong(131009, f"{identity} is no media attachment of this number")
        return found

    async def take(self, account: str, request: web.Request, now: float) -> str:
        """The id of what a form brings. Raises Wrong."""
        if not request.content_type.startswith("multipart/"):
            raise Wrong(100, "The parameter file is required")
        words: dict[str, str] = {}
        content = None
        async for part in await request.multipart():
            if not isinstance(part, BodyPartReader) or part.name is None:
                raise Wrong(100, "The form cannot be read")
            if part.name == "file":
                content = await part.read()
                words["content-type"] = part.headers.get("Content-Type", "")
            else:
                words[part.name] = await part.text()
        if words.get("messaging_product") != "whatsapp":
            raise Wrong(100, "The parameter messaging_product is required")
        media_type = words.get("type", "")
        if content is None:
            raise Wrong(100, "The parameter file is required")
        if media_type not in MOST or words["content-type"] != media_type:
            raise Wrong(100, f"Param file must be a file with one of the following types: {', '.join(MOST)}")
        if len(content) > MOST[media_type] or not content.startswith(BEGINS[media_type]):
            raise Wrong(131053)
        return self._keep(account, media_type, content, now).identity

    def sent(self, account: str, encoded: str, now: float) -> dict[str, Any]:
        """What a citizen's telephone sent, in base64, as a webhook names it. Raises ValueError."""
        try:
            content = base64.b64decode(encoded, validate=True)
        except binascii.Error:
            raise ValueError("the photo is not base64") from None
        kept = self._keep(account, "image/jpeg", content, now)
        digest = base64.b64encode(bytes.fromhex(kept.sha256)).decode()
        return {"id": kept.identity, "mime_type": kept.media_type, "sha256": digest}

    def _keep(self, account: str, media_type: str, content: bytes, now: float) -> Medium:
        identity = str(secrets.randbelow(9 * 10**15) + 10**15)
        self._media[identity] = kept = Medium(account, identity, media_type, content, now + KEPT)
        return kept

    def forget(self, identity: str) -> None:
        self._media.pop(identity, None)

    def described(self, medium: Medium, base_url: str, now: float) -> dict[str, str]:
        """Where it can be fetched for five minutes, by whoever has the bearer token."""
        ticket = secrets.token_urlsafe(12)
        self._shown[ticket] = (medium.identity, now + SHOWN)
        return {
            "messaging_product": "whatsapp",
            "url": f"{base_url}/whatsapp_business/attachments/?mid={medium.identity}&hash={ticket}",
            "mime_type": medium.media_type,
            "sha256": medium.sha256,
            "file_size": str(len(medium.content)),
            "id": medium.identity,
        }

    def fetched(self, ticket: str, now: float) -> Medium | None:
        """What is behind such an address, while that lasts."""
        identity, until = self._shown.get(ticket, ("", 0.0))
        return self._media.get(identity) if now < until else None
