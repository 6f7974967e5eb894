"""The description of the API as Italian public administrations want it (AgID, ModI): problems, formats, a summary."""

from collections.abc import Iterator
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from alerting.api.problems import MEDIA_TYPE

PREFIX = "/v1"
TITLE = "Allerte ai cittadini / Alerts to citizens"
SUMMARY = "Emette e segue gli avvisi di protezione civile di un comune"
DESCRIPTION = """Un comune scrive un avviso, una seconda persona lo approva, il sistema avvisa chi si trova nella zona.

A comune drafts an alert, a second person approves it, and the system tells everybody inside its geofence. Every
refusal is an `application/problem+json` (RFC 9457) that names the field and says what to do."""
CONTACT = {"name": "Chi amministra questa installazione", "url": "https://allerta.example/contatti"}
TAGS = [
    {"name": "alerts", "description": "Draft, approve, issue, follow, take back."},
    {"name": "published", "description": "What is in force, for anybody: CAP, Atom, RSS, GeoJSON. / Per tutti."},
    {"name": "attachments", "description": "Pictures and PDFs: handed in by the staff, shown by alerts."},
    {"name": "areas", "description": "The places that can be alerted by name."},
    {"name": "recipients", "description": "People whom the staff registers or removes."},
    {"name": "growth", "description": "Subscribers over time, texts and euro; the monthly report. / Crescita e costi."},
    {"name": "intake", "description": "What other bodies say: handed in, kept, judged, let pass or dismissed."},
    {"name": "sources", "description": "Who feeds us, how they stand, and MeteoAlarm as context."},
    {"name": "pages", "description": "What somebody on duty is to look at."},
    {"name": "notices", "description": "What is or was amiss with the system, and whom of the staff it was told."},
    {"name": "panels", "description": "Message panels and sirens: what they should show, and what they say they show."},
    {
        "name": "webhooks",
        "description": "For WhatsApp and Telegram, which sign what they send, and for mail that came back.",
    },
    {"name": "unsubscribe", "description": "The way out that every e-mail carries. No token but the one in the mail."},
    {
        "name": "choices",
        "description": "The page of a citizen's choices. No token but the one in its link. / Le scelte.",
    },
    {
        "name": "push",
        "description": "Alerts in a browser: subscribe, unsubscribe, say that one was shown. / Nel browser.",
    },
    {
        "name": "desk",
        "description": "Two-way comuni: what citizens report, appointments with the offices. / Lo sportello.",
    },
    {"name": "dead letters", "description": "Messages nobody could work on: look, say again, dismiss."},
    {"name": "status", "description": "Whether the system works."},
]
PROBLEM = {
    "title": "Problem",
    "description": "Why something was not done, and what to do (RFC 9457).",
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string", "format": "uri-reference", "default": "about:blank"},
        "title": {"type": "string"},
        "status": {"type": "integer", "format": "int32", "minimum": 400, "maximum": 599},
        "detail": {"type": "string"},
        "instance": {"type": "string", "format": "uri-reference"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["pointer", "detail"],
                "properties": {"pointer": {"type": "string"}, "detail": {"type": "string"}},
            },
        },
    },
}
FORMATS = {"integer": "int64", "number": "double"}


def describes_itself(app: FastAPI) -> None:
    """Make `app.openapi()` answer with ours, written once."""

    def described() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _description(app)
        return app.openapi_schema

    app.openapi = described  # type: ignore[method-assign]


def _description(app: FastAPI) -> dict[str, Any]:
    found = get_openapi(
        title=TITLE,
        version=app.version,
        description=DESCRIPTION,
        routes=app.routes,
        tags=TAGS,
        contact=CONTACT,
        servers=[{"url": PREFIX, "description": "This installation"}],
    )
    found["info"] |= {"summary": SUMMARY, "x-summary": SUMMARY}
    # The version is the server's business: /status must be found under that name.
    found["paths"] = {path.removeprefix(PREFIX): operations for path, operations in found["paths"].items()}
    schemas = found["components"]["schemas"]
    for fastapis_own in ("HTTPValidationError", "ValidationError"):
        schemas.pop(fastapis_own, None)
    schemas["Problem"] = PROBLEM
    for operations in found["paths"].values():
        for operation in operations.values():
            _answers_problems(operation["responses"])
    for node in _nodes(found):
        kind = node.get("type")  # itself a schema where a property is called so
        if isinstance(kind, str) and kind in FORMATS:
            node.setdefault("format", FORMATS[kind])
    return found


def _answers_problems(responses: dict[str, Any]) -> None:
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    if "422" in responses:
        responses["422"] = {"description": "A field is wrong: `errors` names it", "content": content}
    retry = {"Retry-After": {"description": "Seconds", "schema": {"type": "integer", "format": "int32"}}}
    responses["503"] = {"description": "Nothing can be promised now", "headers": retry, "content": content}
    responses["default"] = {"description": "Why it was not done", "content": content}


def _nodes(tree: object) -> Iterator[dict[str, Any]]:
    if isinstance(tree, dict):
        yield tree
        for child in tree.values():
            yield from _nodes(child)
    elif isinstance(tree, list):
        for child in tree:
            yield from _nodes(child)
