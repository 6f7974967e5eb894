"""Every error as RFC 9457 says it: a sentence that names the field and what to do, never our insides."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from sqlalchemy import exc as database_errors
from starlette.exceptions import HTTPException
from starlette.routing import Match

from alerting.amqp import BrokerAway, Unroutable
from alerting.composing import Objection, Refused
from alerting.desk.appointments import NoSeat
from alerting.domain.desk import NotOpen
from alerting.domain.lifecycle import NotAllowed
from alerting.issuing import SamePerson

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER = "5"
"""Seconds: as long as a broker or a database needs to fail over, and an emergency can afford."""
MOST_ERRORS = 50
LONGEST_QUOTE = 60

DATABASE_AWAY = (
    "the database does not answer, so nothing can be promised: nothing was stored, send it again in a moment"
)
BROKER_AWAY = "RabbitMQ does not take this now: send it again in a moment"


@dataclass(frozen=True, slots=True)
class Flaw:
    """One wrong field. `pointer` is a JSON pointer into the body (RFC 6901), or the name of a parameter."""

    pointer: str
    detail: str


@dataclass
class Problem(Exception):
    """Something the API answers instead of what was asked for."""

    status: int
    detail: str
    errors: tuple[Flaw, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    more: Mapping[str, Any] = field(default_factory=dict)
    """Members of its own, as RFC 9457 lets a problem have."""

    def response(self, path: str) -> Response:
        """The answer, for a request to `path`."""
        said: dict[str, Any] = {
            "type": "about:blank",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
            "instance": path,
        }
        if self.errors:
            said["errors"] = [{"pointer": flaw.pointer, "detail": flaw.detail} for flaw in self.errors]
        said |= self.more
        # What somebody sent may hold half a surrogate pair, which UTF-8 cannot say.
        body = json.dumps(said, ensure_ascii=False).encode(errors="replace")
        return Response(body, self.status, dict(self.headers), MEDIA_TYPE)


def speaks_problems(app: FastAPI) -> None:
    """Answer every refusal and every known trouble of this application as a problem."""
    known = (
        Problem,
        Refused,
        SamePerson,
        NotAllowed,
        NotOpen,
        NoSeat,
        RequestValidationError,
        HTTPException,
        BrokerAway,
        Unroutable,
        database_errors.DBAPIError,
        database_errors.TimeoutError,
    )
    for error in known:
        app.add_exception_handler(error, _answer)


TOKEN = re.compile(r"/(known|unsubscribe|choices)/[^/]+")
"""Where a path says whose it is: an answer that somebody keeps, or passes on, does not say it again."""


async def _answer(request: Request, error: Exception) -> Response:
    if isinstance(error, HTTPException) and error.status_code == 405:
        error.headers = {"Allow": ", ".join(_allowed(request))}
    path = TOKEN.sub(r"/\1/{token}", request.url.path)
    problem = problem_of(error, path)
    if problem is None:
        raise error
    return problem.response(path)


def _allowed(request: Request) -> list[str]:
    """The methods of a path. Starlette names those of the first route only, and we have a route for each."""
    return [
        method
        for method in ("DELETE", "GET", "HEAD", "POST")
        if any(
            route.matches({**request.scope, "method": method})[0] is Match.FULL for route in request.app.router.routes
        )
    ]


def problem_of(error: Exception, path: str = "") -> Problem | None:
    """What to answer for an error; None for what nobody foresaw."""
    match error:
        case Problem():
            return error
        case Refused():
            return refusal(error.objections)
        case SamePerson():
            return Problem(403, str(error))
        case NotAllowed() | NotOpen() | NoSeat():
            return Problem(409, str(error))
        case RequestValidationError():
            return _of_validation(error.errors())
        case HTTPException():
            return _of_http(error, path)
        case BrokerAway() | Unroutable():
            return away(BROKER_AWAY)
        case database_errors.IntegrityError():
            return Problem(409, "somebody else stored the same at the same moment: look, and send it again")
        case database_errors.OperationalError() | database_errors.InterfaceError() | database_errors.TimeoutError():
            return away(DATABASE_AWAY)
        case database_errors.DBAPIError() if error.connection_invalidated:
            return away(DATABASE_AWAY)
        case _:
            return None


def away(detail: str) -> Problem:
    """Not now: the same request may succeed in a moment."""
    return Problem(503, detail, headers={"Retry-After": RETRY_AFTER})


def unforeseen() -> Problem:
    """An error of ours. What it was stays in the log, under the request's id."""
    return Problem(500, "something went wrong on our side: tell the administrators the X-Request-Id of this answer")


def refusal(objections: Sequence[Objection], status: int = 422) -> Problem:
    """Everything that is wrong with what was asked for, at once."""
    errors = tuple(
        Flaw(_pointer(finding.field.split("/")), f"{finding.field}: {finding.sentence}") for finding in objections
    )
    return Problem(status, "; ".join(flaw.detail for flaw in errors), errors)


# ── what FastAPI and Starlette refuse ───────────────────────────────────────────────────────────────


def _of_http(error: HTTPException, path: str) -> Problem:
    headers = dict(error.headers or {})
    match error.status_code:
        case 404:
            detail = f"there is nothing at {path[:200]}: /v1/openapi.json lists what there is"
        case 405:
            detail = f"{path[:200]} does not take this method, only {headers.get('Allow')}"
        case 400:
            detail = NO_JSON
        case _:
            detail = str(error.detail)
    return Problem(error.status_code, detail, headers=headers)


NO_JSON = "the body is no JSON that can be read: send one JSON object in UTF-8"


def _of_validation(errors: Sequence[Mapping[str, Any]]) -> Problem:
    for error in errors:
        if error["type"] == "json_invalid":
            return Problem(400, f"{NO_JSON} ({error['ctx']['error']}, at character {error['loc'][-1]})")
    flaws = tuple(_flaw(error) for error in errors[:MOST_ERRORS])
    return Problem(422, "; ".join(flaw.detail for flaw in flaws[:5]), flaws)


def _flaw(error: Mapping[str, Any]) -> Flaw:
    where, *location = error["loc"]
    name = "/".join(map(str, location)) if location else "the body"
    return Flaw(_pointer(location), f"{name if where == 'body' else f'{where} parameter {name}'}: {_sentence(error)}")


def _sentence(error: Mapping[str, Any]) -> str:
    context = error.get("ctx", {})
    match error["type"]:
        case "missing":
            return "is missing: add it"
        case "extra_forbidden":
            return "is not known here: remove it, or look for the right name in /v1/openapi.json"
        case "enum" | "literal_error":
            return f"{_quoted(error.get('input'))} is not one of {context.get('expected')}"
        case "value_error":
            return str(context.get("error", error["msg"]))
        case "timezone_aware":
            return "has no offset: write it as in 2026-11-21T18:00:00+01:00"
        case kind if kind.startswith("datetime"):
            return "is no time: write it as in 2026-11-21T18:00:00+01:00"
        case "string_unicode":
            return "holds half a character: send valid Unicode"
        case "model_attributes_type" | "dict_type" | "model_type":
            return "is no JSON object: write {…}"
        case _:
            message = str(error["msg"])
            return f"{message[:1].lower()}{message[1:]}"


def _quoted(value: object) -> str:
    text = repr(value)
    return text if len(text) <= LONGEST_QUOTE else text[: LONGEST_QUOTE - 1] + "…"


def _pointer(location: Sequence[object]) -> str:
    """RFC 6901: each step after a slash, with ~ and / escaped."""
    return "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in location)
