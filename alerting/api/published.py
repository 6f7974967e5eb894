"""What is in force, for whoever asks: CAP documents and feeds, without a token, cheap to ask for again."""

import math
from collections import OrderedDict
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime

from fastapi import APIRouter, Depends, Request, Response

from alerting import publishing
from alerting.api.alerts import IDENTIFIER
from alerting.api.parts import Parts, parts_of, public_url
from alerting.api.problems import Problem
from alerting.api.unchanged import Body, is_known
from alerting.cap_xml import writing
from alerting.publishing import Feed, InForce, Writing

PATH = "/cap"
router = APIRouter(prefix=PATH, tags=["published"])

FRESH_FEED = "public, max-age=15, must-revalidate"
"""Seconds a feed may be shown without asking: what is cancelled must not stand on a portal for longer."""

FRESH_DOCUMENT = "public, max-age=86400, immutable"
"""What was issued is never rewritten: an Update or a Cancel is a document of its own."""

FOR_EVERYBODY = {"Access-Control-Allow-Origin": "*", "Access-Control-Expose-Headers": "ETag, Last-Modified"}

MOST_BODIES = 64
HERE = {"servers": [{"url": "/", "description": "This installation, outside the version of the API"}]}


@dataclass(frozen=True, slots=True)
class Format:
    """One way to write what is in force: the file it is found under, its media type, who writes it."""

    file: str
    media_type: str
    write: Writing


FORMATS = (
    Format("atom.xml", "application/atom+xml; charset=utf-8", publishing.atom),
    Format("rss.xml", "application/rss+xml; charset=utf-8", publishing.rss),
    Format("in-force.geojson", "application/geo+json; charset=utf-8", publishing.geojson),
)


class Bodies:
    """The feeds written last, by what is in them. Issued alerts never change: the same names read the same."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, InForce], Body] = OrderedDict()

    def find(self, url: str, what: InForce) -> Body | None:
        """Of the feed at this address. The one used last is the last to be forgotten."""
        if body := self._kept.get((url, what)):
            self._kept.move_to_end((url, what))
        return body

    def keep(self, url: str, what: InForce, body: Body) -> None:
        self._kept[url, what] = body
        if len(self._kept) > MOST_BODIES:
            self._kept.popitem(last=False)


bodies = Bodies()


# ── the feeds ───────────────────────────────────────────────────────────────────────────────────────


def _offer(form: Format) -> None:
    async def of_everybody(request: Request, parts: Parts = Depends(parts_of)) -> Response:
        """What every comune of this installation has in force now, the newest first. Exercises are not in it."""
        return await _feed(request, parts, form, None)

    async def of_one(request: Request, authority: str, parts: Parts = Depends(parts_of)) -> Response:
        """What one comune has in force now, the newest first. Exercises are not in it."""
        if authority not in parts.authorities:
            known = ", ".join(sorted(parts.authorities))
            raise _missing(f"no comune {authority[:100]!r} speaks through this system: {known} do")
        return await _feed(request, parts, form, authority)

    for path, endpoint, whose in (
        (f"/{form.file}", of_everybody, "of all"),
        (f"/{{authority}}/{form.file}", of_one, "of a comune"),
    ):
        router.add_api_route(
            path,
            endpoint,
            methods=["GET"],
            summary=f"What is in force, {whose}: {form.file}",
            response_class=Response,
            responses=_answers(form.media_type),
            openapi_extra=HERE,
        )
        router.add_api_route(path, endpoint, methods=["HEAD"], include_in_schema=False)


def _answers(media_type: str) -> dict[int | str, dict[str, object]]:
    return {
        200: {"description": "As it stands", "content": {media_type.partition(";")[0]: {"schema": {"type": "string"}}}},
        304: {"description": "Nothing has changed since: If-None-Match, or If-Modified-Since, said so"},
    }


for _form in FORMATS:
    _offer(_form)


async def _feed(request: Request, parts: Parts, form: Format, authority: str | None) -> Response:
    now = datetime.now(UTC)
    base = _base(request, parts)
    url = f"{base}/{authority}/{form.file}" if authority else f"{base}/{form.file}"
    async with parts.database.read() as session:
        what = await publishing.in_force(session, authority, now)
        body = bodies.find(url, what)
        if body is None:
            alerts = await publishing.messages(session, what.identifiers)
            of_whom = f": {parts.authorities[authority].name}" if authority else ""
            feed = Feed(f"Avvisi in vigore{of_whom}", url, base, what.changed or publishing.NEVER, alerts)
            body = Body(form.write(feed))
            bodies.keep(url, what, body)
    return _answer(request, body, form.media_type, FRESH_FEED, what.changed, now)


# ── one document ────────────────────────────────────────────────────────────────────────────────────


@router.get(
    "/{identifier}.xml",
    summary="An alert as CAP 1.2",
    response_class=Response,
    responses=_answers(writing.MEDIA_TYPE),
    openapi_extra=HERE,
)
@router.head("/{identifier}.xml", include_in_schema=False)
async def one(request: Request, identifier: str, parts: Parts = Depends(parts_of)) -> Response:
    """The document as it was written, and signed, when the alert was issued: the same bytes for ever."""
    found = None
    if IDENTIFIER.fullmatch(identifier):
        async with parts.database.read() as session:
            found = await publishing.document(session, identifier)
    if found is None:
        raise _missing(f"no alert {identifier[:100]!r} has been issued: {PATH}/atom.xml lists what is in force")
    raw, issued = found
    media_type = f"{writing.MEDIA_TYPE}; charset=utf-8"
    return _answer(request, Body(raw), media_type, FRESH_DOCUMENT, issued, datetime.now(UTC))


def _base(request: Request, parts: Parts) -> str:
    return f"{public_url(request, parts)}{PATH}"


def _missing(detail: str) -> Problem:
    return Problem(404, detail, headers=FOR_EVERYBODY)


# ── the answer ──────────────────────────────────────────────────────────────────────────────────────


def _answer(
    request: Request, body: Body, media_type: str, fresh: str, changed: datetime | None, now: datetime
) -> Response:
    headers = {"ETag": body.etag, "Cache-Control": fresh, **FOR_EVERYBODY}
    second = _settled(changed, now)
    if second is not None:
        headers["Last-Modified"] = format_datetime(second, usegmt=True)
    if is_known(request, body.etag, second):
        return Response(status_code=304, headers=headers)
    return Response(body.raw, headers=headers, media_type=media_type)


def _settled(changed: datetime | None, now: datetime) -> datetime | None:
    """The second after which nothing changed; None while it lasts: a date has no room for two changes in one."""
    if changed is None:
        return None
    second = datetime.fromtimestamp(math.ceil(changed.timestamp()), UTC)
    return second if second <= now else None
