"""Once more, only if it changed (RFC 9110, 13): bodies with a validator, and what the one who asks has already."""

import hashlib
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cached_property

from fastapi import Request

OPAQUE = re.compile(r'(?:W/)?"([^"]*)"')


@dataclass(frozen=True)
class Body:
    """What is served."""

    raw: bytes

    @cached_property
    def etag(self) -> str:
        """The strong validator of the bytes."""
        return f'"{hashlib.sha256(self.raw).hexdigest()[:32]}"'


def is_known(request: Request, etag: str, second: datetime | None = None) -> bool:
    """Whether the one who asks has it already. An ETag says more than a date: where there is one, no date is read.

    `second` is when it changed last, None where no date says so.
    """
    tags = request.headers.getlist("if-none-match")
    if tags:
        listed = ",".join(tags)
        return listed.strip() == "*" or etag.strip('"') in OPAQUE.findall(listed)
    since = _date(request.headers.get("if-modified-since", ""))
    return since is not None and second is not None and second <= since


def _date(text: str) -> datetime | None:
    """A date of HTTP; None for what is none, which is as if it had not been said."""
    try:
        found = parsedate_to_datetime(text)
        return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None
