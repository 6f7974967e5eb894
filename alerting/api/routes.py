"""How a request is received: recognised before its body is read, never read beyond the limit, its refusal audited."""

from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from email.message import Message as MimeHeader
from typing import Any

from fastapi import HTTPException, Request, Response
from fastapi.routing import APIRoute
from starlette.types import Message, Receive

from alerting import audit
from alerting.actors import Actor
from alerting.api.parts import Parts, parts_in
from alerting.api.problems import Problem, problem_of
from alerting.api.security import recognise

MOST_BYTES = 1_000_000
MOST_FIELDS_NOTED = 20
LONGEST_FIELD_NOTED = 80

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class Guarded(APIRoute):
    """A route for those who carry a token. Who is not recognised is not read, and leaves nothing behind.

    Whatever a recognised actor is refused leaves one line in the audit, in a transaction of its own.
    """

    most_bytes = MOST_BYTES

    def get_route_handler(self) -> Handler:
        handle = super().get_route_handler()
        takes_json = self.body_field is not None

        async def guarded(request: Request) -> Response:
            parts = parts_in(request)
            actor = await recognise(parts.database, request.headers.get("authorization"))
            request.state.actor = actor
            try:
                if takes_json:
                    _check_media_type(request)
                return await handle(limited(request, self.most_bytes))
            except Exception as error:
                problem = problem_of(error, request.url.path)
                if problem is not None and _counts_as_refused(problem, request):
                    await _note(parts, actor, problem, request, self.path)
                raise

        return guarded


def limited(request: Request, most: int) -> Request:
    """The same request, which refuses to be read beyond `most` bytes: by its header at once, else on the way."""
    return Request(request.scope, _limited(request, request.receive, most))


def _limited(request: Request, receive: Receive, most: int) -> Receive:
    announced = request.headers.get("content-length", "")
    read = 0

    async def receive_some() -> Message:
        nonlocal read
        if announced.isdigit() and int(announced[:20]) > most:
            raise _too_large(most)
        message = await receive()
        read += len(message.get("body", b""))
        if read > most:
            raise _too_large(most)
        return message

    return receive_some


def _too_large(most: int) -> HTTPException:
    # FastAPI's own: whatever else is raised while it reads a body becomes a 400.
    return HTTPException(413, f"the body is larger than {most:,} bytes: send less, or in several requests")


def _check_media_type(request: Request) -> None:
    header = MimeHeader()
    header["content-type"] = request.headers.get("content-type", "application/octet-stream")
    if header.get_content_maintype() != "application" or not (
        header.get_content_subtype() == "json" or header.get_content_subtype().endswith("+json")
    ):
        given = header.get_content_type()[:LONGEST_FIELD_NOTED]
        raise Problem(415, f"the body is {given}: send JSON with the header Content-Type: application/json")


def _counts_as_refused(problem: Problem, request: Request) -> bool:
    """Whoever asks for what is not there has been refused nothing; whoever may not see it has."""
    return problem.status == 403 or (problem.status < 500 and request.method not in ("GET", "HEAD"))


async def _note(parts: Parts, actor: Actor, problem: Problem, request: Request, path: str) -> None:
    fields = [_plain(flaw.pointer) for flaw in problem.errors[:MOST_FIELDS_NOTED]]
    async with parts.database.write() as session:
        await audit.write(
            session,
            at=datetime.now(UTC),
            actor=actor.name,
            action="refused",
            subject=_plain(request.path_params.get("identifier") or request.path_params.get("number") or "-"),
            asked=f"{request.method} {path}",
            status=problem.status,
            fields=fields,
        )


def _plain(sent: str) -> str:
    """What somebody sent, made harmless for the audit: printable ASCII, and short."""
    ascii_only = sent.encode("ascii", "backslashreplace").decode()
    return "".join(letter if letter.isprintable() else "?" for letter in ascii_only)[:LONGEST_FIELD_NOTED]
