"""A CAP message as JSON, in the standard's words in snake_case: how it is kept, and how the API shows it."""

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from alerting.domain import cap
from geo.drawing import IMPORTED
from geo.geojson import parse_geojson, to_geojson
from geo.shapes import Circle, Geofence, Polygon, Shape


def to_json(alert: cap.Alert) -> dict[str, Any]:
    """Everything the message says. Times are RFC 3339 in UTC; shapes are GeoJSON."""
    return {
        "identifier": alert.identifier,
        "sender": alert.sender,
        "sent": _time(alert.sent),
        "status": alert.status.value,
        "msg_type": alert.msg_type.value,
        "source": alert.source,
        "scope": alert.scope.value,
        "restriction": alert.restriction,
        "addresses": list(alert.addresses),
        "codes": list(alert.codes),
        "note": alert.note,
        "references": [
            {"sender": r.sender, "identifier": r.identifier, "sent": _time(r.sent)} for r in alert.references
        ],
        "incidents": list(alert.incidents),
        "infos": [_info_to_json(info) for info in alert.infos],
    }


def from_json(document: dict[str, Any]) -> cap.Alert:
    """The message `to_json` wrote. What it kept was checked when it was written; an older release wrote less."""
    return cap.Alert(
        identifier=document["identifier"],
        sender=document["sender"],
        sent=datetime.fromisoformat(document["sent"]),
        status=cap.Status(document["status"]),
        msg_type=cap.MsgType(document["msg_type"]),
        source=document.get("source", ""),
        scope=cap.Scope(document["scope"]),
        restriction=document.get("restriction", ""),
        addresses=tuple(document.get("addresses", ())),
        codes=tuple(document.get("codes", ())),
        note=document["note"],
        references=tuple(
            cap.Reference(r["sender"], r["identifier"], datetime.fromisoformat(r["sent"]))
            for r in document["references"]
        ),
        incidents=tuple(document.get("incidents", ())),
        infos=tuple(_info_from_json(info) for info in document["infos"]),
    )


def _info_to_json(info: cap.Info) -> dict[str, Any]:
    return {
        "language": info.language,
        "category": [category.value for category in info.category],
        "event": info.event,
        "response_type": [response.value for response in info.response_type],
        "urgency": info.urgency.value,
        "severity": info.severity.value,
        "certainty": info.certainty.value,
        "audience": info.audience,
        "event_codes": [_pair(pair) for pair in info.event_codes],
        "effective": _time_if_any(info.effective),
        "onset": _time_if_any(info.onset),
        "expires": _time_if_any(info.expires),
        "sender_name": info.sender_name,
        "headline": info.headline,
        "description": info.description,
        "instruction": info.instruction,
        "web": info.web,
        "contact": info.contact,
        "parameters": [_pair(pair) for pair in info.parameters],
        "resources": [asdict(resource) for resource in info.resources],
        "areas": [_area_to_json(area) for area in info.areas],
    }


def _info_from_json(info: dict[str, Any]) -> cap.Info:
    return cap.Info(
        language=info["language"],
        category=tuple(cap.Category(value) for value in info["category"]),
        event=info["event"],
        response_type=tuple(cap.ResponseType(value) for value in info["response_type"]),
        urgency=cap.Urgency(info["urgency"]),
        severity=cap.Severity(info["severity"]),
        certainty=cap.Certainty(info["certainty"]),
        audience=info.get("audience", ""),
        event_codes=tuple(_named(pair) for pair in info.get("event_codes", ())),
        effective=_moment(info.get("effective")),
        onset=_moment(info["onset"]),
        expires=_moment(info["expires"]),
        sender_name=info["sender_name"],
        headline=info["headline"],
        description=info["description"],
        instruction=info["instruction"],
        web=info["web"],
        contact=info["contact"],
        parameters=tuple(_named(pair) for pair in info["parameters"]),
        resources=tuple(cap.Resource(**resource) for resource in info.get("resources", ())),
        areas=tuple(_area_from_json(area) for area in info["areas"]),
    )


def _area_to_json(area: cap.Area) -> dict[str, Any]:
    shapes: list[Shape] = [*area.polygons, *area.circles]
    return {
        "area_desc": area.area_desc,
        "boundary": to_geojson(Geofence(tuple(shapes))) if shapes else None,
        "geocodes": [_pair(pair) for pair in area.geocodes],
        "altitude": area.altitude,
        "ceiling": area.ceiling,
    }


def _area_from_json(area: dict[str, Any]) -> cap.Area:
    # The comune's own border is among them: an imported one has more vertices than anybody may draw.
    shapes = parse_geojson(area["boundary"], IMPORTED).shapes if area["boundary"] else ()
    return cap.Area(
        area_desc=area["area_desc"],
        polygons=tuple(shape for shape in shapes if isinstance(shape, Polygon)),
        circles=tuple(shape for shape in shapes if isinstance(shape, Circle)),
        geocodes=tuple(_named(pair) for pair in area["geocodes"]),
        altitude=area.get("altitude"),
        ceiling=area.get("ceiling"),
    )


def _pair(pair: cap.NamedValue) -> dict[str, str]:
    return {"name": pair.name, "value": pair.value}


def _named(pair: dict[str, str]) -> cap.NamedValue:
    return cap.NamedValue(pair["name"], pair["value"])


def _time_if_any(moment: datetime | None) -> str | None:
    return _time(moment) if moment else None


def _moment(written: str | None) -> datetime | None:
    return datetime.fromisoformat(written) if written else None


def _time(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat()
