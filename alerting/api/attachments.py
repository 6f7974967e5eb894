"""Pictures and PDFs over HTTP: handed in by the staff, and shown to everybody as soon as an issued alert shows them."""

import re
from collections import OrderedDict
from datetime import UTC, datetime

from fastapi import APIRouter, Depends, HTTPException, Request, Response

from alerting import attachments
from alerting.actors import Actor
from alerting.api.parts import Parts, parts_of, public_url
from alerting.api.problems import Problem
from alerting.api.published import FOR_EVERYBODY, FRESH_DOCUMENT, HERE
from alerting.api.routes import Guarded
from alerting.api.schemas import AttachmentOut
from alerting.api.security import Doing, may, recognise
from alerting.api.unchanged import is_known
from alerting.attachments.preparing import prepared
from alerting.domain.attachments import (
    JPEG,
    MOST_BYTES,
    PDF,
    PNG,
    SHORT,
    NotAttachable,
    Prepared,
    address_of,
    name_of,
)
from alerting.persistence import tables

SHA256 = re.compile(r"[0-9a-f]{64}")
BEGINNING = re.compile(rf"[0-9a-f]{{{SHORT}}}")
HANDED_IN = (JPEG, PNG, "image/webp", PDF)
BINARY = {"schema": {"type": "string", "format": "binary"}}


class TakesFiles(Guarded):
    """A route for one file."""

    most_bytes = MOST_BYTES


router = APIRouter(prefix="/attachments", tags=["attachments"], route_class=TakesFiles)
shown = APIRouter(prefix="/attachments", tags=["attachments"])
short = APIRouter(prefix="/a", tags=["published"])


# ── handed in ───────────────────────────────────────────────────────────────────────────────────────


@router.post(
    "",
    status_code=201,
    summary="Hand in a picture or a PDF",
    openapi_extra={"requestBody": {"required": True, "content": dict.fromkeys(HANDED_IN, BINARY)}},
)
async def hand_in(
    request: Request, parts: Parts = Depends(parts_of), actor: Actor = Depends(may(Doing.ATTACH))
) -> AttachmentOut:
    """The file itself is the body, 16 MB at most. Its type is what its bytes are, whatever its Content-Type says.

    JPEG, PNG and WebP are drawn anew: upright, 2560 pixels a side at most, without any metadata. The same file gives
    the same `sha256`. What no alert refers to within a day is forgotten.
    """
    if request.headers.get("content-type", "").lower().startswith("multipart/"):
        raise Problem(415, "the body is a form: send the file alone as the body, with its own Content-Type")
    file = await _prepared(await _body(request))
    async with parts.database.write() as session:
        await attachments.keep(session, file, actor, datetime.now(UTC))
    return AttachmentOut(
        sha256=file.sha256,
        media_type=file.media_type,
        bytes=len(file.content),
        width=file.width,
        height=file.height,
        url=address_of(public_url(request, parts), file.sha256),
    )


async def _body(request: Request) -> bytes:
    try:
        return await request.body()
    except HTTPException as error:
        if error.status_code != 413:
            raise
        most = f"{MOST_BYTES:,} bytes at most"
        raise Problem(
            413, f"a picture or a PDF may have {most}: make it smaller, or put it on the comune's site and give its web"
        ) from None


async def _prepared(raw: bytes) -> Prepared:
    try:
        return await prepared(raw)
    except NotAttachable as why:
        raise Problem(422, f"the file {why}") from None


# ── shown ───────────────────────────────────────────────────────────────────────────────────────────


class Shelf:
    """Those asked for last: what an alert shows, a whole town asks for in the same minute."""

    def __init__(self, most_bytes: int = 64_000_000) -> None:
        self._most_bytes, self._bytes = most_bytes, 0
        self._kept: OrderedDict[str, tuple[str, bytes]] = OrderedDict()

    def find(self, sha256: str) -> tuple[str, bytes] | None:
        """Media type and bytes. The one used last is the last to be forgotten."""
        if found := self._kept.get(sha256):
            self._kept.move_to_end(sha256)
        return found

    def keep(self, sha256: str, media_type: str, content: bytes) -> None:
        if sha256 not in self._kept:
            self._kept[sha256] = media_type, content
            self._bytes += len(content)
        while self._bytes > self._most_bytes:
            self._bytes -= len(self._kept.popitem(last=False)[1][1])


shelf = Shelf()

ANSWERS: dict[int | str, dict[str, object]] = {
    200: {"description": "As everybody gets it", "content": dict.fromkeys((JPEG, PNG, PDF), BINARY)},
    304: {"description": "You have it already: If-None-Match said so"},
}
STYLED = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"
POLICIES = {PDF: f"{STYLED}; object-src 'self'"}
"""Browsers show a picture or a PDF in a page of their own making, which obeys the policy of the file."""


@shown.get("/{sha256}", summary="See what an alert shows", response_class=Response, responses=ANSWERS)
@shown.head("/{sha256}", include_in_schema=False)
async def see(sha256: str, request: Request, parts: Parts = Depends(parts_of)) -> Response:
    """For everybody once an alert that shows it was issued; before, for whoever sends a token.

    What a hash names never changes: keep it as long as you like.
    """
    if SHA256.fullmatch(sha256) is None:
        raise _missing(sha256)
    async with parts.database.read() as session:
        is_published = await attachments.is_published(session, sha256)
    if is_published:
        return await _answer(request, parts, sha256, {"Cache-Control": FRESH_DOCUMENT, **FOR_EVERYBODY})
    if "authorization" not in request.headers:
        raise _missing(sha256)
    await recognise(parts.database, request.headers["authorization"])
    return await _answer(request, parts, sha256, {"Cache-Control": "no-store"})


@short.get(
    "/{beginning}",
    summary="The same, by an address that fits into an SMS",
    response_class=Response,
    responses=ANSWERS,
    openapi_extra=HERE,
)
@short.head("/{beginning}", include_in_schema=False)
async def see_by_short_address(beginning: str, request: Request, parts: Parts = Depends(parts_of)) -> Response:
    """Answered at once, not redirected: on a crowded network each trip counts."""
    sha256 = None
    if BEGINNING.fullmatch(beginning):
        async with parts.database.read() as session:
            sha256 = await attachments.published_as(session, beginning)
    if sha256 is None:
        raise _missing(beginning)
    return await _answer(request, parts, sha256, {"Cache-Control": FRESH_DOCUMENT, **FOR_EVERYBODY})


async def _answer(request: Request, parts: Parts, sha256: str, headers: dict[str, str]) -> Response:
    etag = f'"{sha256}"'
    headers = headers | {"ETag": etag}
    if is_known(request, etag):
        return Response(status_code=304, headers=headers)
    found = shelf.find(sha256)
    if found is None:
        async with parts.database.read() as session:
            row = await session.get(tables.Attachment, sha256)
        if row is None:
            raise _missing(sha256)
        found = row.media_type, row.content
        shelf.keep(sha256, *found)
    media_type, content = found
    headers["Content-Disposition"] = f'inline; filename="{name_of(sha256, media_type)}"'
    headers["Content-Security-Policy"] = POLICIES.get(media_type, STYLED)
    return Response(content, headers=headers, media_type=media_type)


def _missing(name: str) -> Problem:
    sentence = f"no alert that was issued shows an attachment {name[:64]!r}: look at its address again"
    return Problem(404, sentence, headers=FOR_EVERYBODY)
