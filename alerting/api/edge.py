"""What every request meets first and every answer last: an id, careful headers, a line in the log, a figure."""

import re
import time
from uuid import uuid4

import structlog
from prometheus_client import Histogram
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from alerting.api.problems import unforeseen
from alerting.metrics import SECONDS_OF_WORK

log = structlog.get_logger()

REQUEST_SECONDS = Histogram(
    "alerting_http_request_seconds",
    "One request to the API, from its first byte to the last of the answer.",
    ["method", "route", "status"],
    buckets=SECONDS_OF_WORK,
)
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
OURS = re.compile(r"[A-Za-z0-9._:-]{1,64}")
"""What a caller's own request id may look like; anything else is replaced."""

CAREFUL = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
}


class Edge:
    """The outermost layer of ours. Whatever escapes everybody else becomes a problem here, without its insides."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        request_id = _id_of(scope)
        status = 0

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Request-Id"] = request_id
                headers.setdefault("Cache-Control", "no-store")
                for name, value in CAREFUL.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            await self._app(scope, receive, send_with_headers)
        except ClientDisconnect:
            status = 499  # nobody is left to be answered
        except Exception:
            log.exception("unforeseen", request_id=request_id, route=_route(scope))
            if status:
                raise  # half an answer is out: all that is left is to break it off
            await unforeseen().response(scope["path"])(scope, receive, send_with_headers)
        finally:
            seconds = time.perf_counter() - started
            method = scope["method"] if scope["method"] in METHODS else "other"
            REQUEST_SECONDS.labels(method, _route(scope), status).observe(seconds)
            log.info(
                "request",
                request_id=request_id,
                method=method,
                route=_route(scope),
                status=status,
                ms=round(seconds * 1000, 1),
                client=(scope.get("client") or [""])[0],
            )


def _id_of(scope: Scope) -> str:
    given = Headers(scope=scope).get("x-request-id", "")
    return given if OURS.fullmatch(given) else uuid4().hex


def _route(scope: Scope) -> str:
    """The template of the path, so that identifiers are no label; what matched nothing is all one."""
    return getattr(scope.get("route"), "path", "unknown")
