"""Events as bytes and back, with a version. What a newer version adds is ignored; what is not ours is refused."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from alerting.domain.delivery import Channel, Progress, Reason
from alerting.domain.events import (
    AlertIssued,
    BatchReady,
    CitizenReported,
    CitizensWrote,
    CitizenWrote,
    Event,
    ReceiptCame,
    ReceiptsCame,
)
from alerting.domain.lanes import Lane

VERSION = 1
BIGGEST_ID, BIGGEST_SEQ = 2**63 - 1, 2**31 - 1  # what the columns hold


class Unreadable(Exception):
    """A message is not one of ours, or of a version we cannot read. It belongs to the dead letters."""


def encode(event: Event) -> bytes:
    """An event as JSON. Times are RFC 3339 in UTC."""
    said = {"v": VERSION, "event": type(event).__name__} | _fields(event)
    return json.dumps(said, separators=(",", ":")).encode()


def decode(body: bytes) -> Event:
    """The event in a message. Raises Unreadable, saying what was wrong with it."""
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"not JSON: {error}") from None
    if not isinstance(fields, dict):
        raise Unreadable(f"a JSON {type(fields).__name__}, not an object")
    version, name = fields.get("v"), fields.get("event")
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise Unreadable("no version: not a message of ours")
    reader = _READERS.get(name) if isinstance(name, str) else None
    if reader is None:
        what = name[:40] if isinstance(name, str) else type(name).__name__
        raise Unreadable(f"event {what!r} of version {version} is unknown here")
    try:
        return reader(fields)
    except (KeyError, ValueError, TypeError, AttributeError, OverflowError) as error:
        raise Unreadable(f"{name} of version {version} lacks or spoils a field: {error!r}") from None


def _fields(event: Event) -> dict[str, Any]:
    return {name: _plain(getattr(event, name)) for name in type(event).__dataclass_fields__}


def _plain(value: Any) -> Any:
    match value:
        case Progress():
            return value.name
        case Lane() | Channel() | Reason():
            return value.value
        case datetime():
            return value.astimezone(UTC).isoformat()
        case tuple():
            return [one if isinstance(one, int) else _fields(one) for one in value]
        case _:
            return value


def _whole(value: Any, most: int) -> int:
    number = int(value)
    if not 0 <= number <= most:
        raise ValueError(f"{number} is no number of ours")
    return number


def _when(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text} has no offset")
    return moment


def _alert_issued(f: dict[str, Any]) -> Event:
    return AlertIssued(
        alert=str(f["alert"]),
        dispatch=_whole(f["dispatch"], BIGGEST_ID),
        authority=str(f["authority"]),
        lane=Lane(f["lane"]),
        category=str(f["category"]),
        msg_type=str(f["msg_type"]),
        sent=_when(f["sent"]),
        expires=_when(f["expires"]),
    )


def _batch_ready(f: dict[str, Any]) -> Event:
    return BatchReady(
        batch=_whole(f["batch"], BIGGEST_ID),
        dispatch=_whole(f["dispatch"], BIGGEST_ID),
        channel=Channel(f["channel"]),
        account=str(f["account"]),
        lane=Lane(f["lane"]),
        first=_whole(f["first"], BIGGEST_SEQ),
        last=_whole(f["last"], BIGGEST_SEQ),
        not_after=_when(f["not_after"]),
        told=_whole(f.get("told", BIGGEST_SEQ), BIGGEST_SEQ),  # before this was counted there was but one telling
    )


def _receipt_came(f: dict[str, Any]) -> ReceiptCame:
    return ReceiptCame(
        dispatch=_whole(f["dispatch"], BIGGEST_ID),
        seq=_whole(f["seq"], BIGGEST_SEQ),
        progress=Progress[f["progress"]],
        reason=None if f["reason"] is None else Reason(f["reason"]),
        at=_when(f["at"]),
    )


def _receipts_came(f: dict[str, Any]) -> Event:
    return ReceiptsCame(tuple(_receipt_came(one) for one in f["receipts"]))


def _citizen_wrote(f: dict[str, Any]) -> Event:
    return CitizenWrote(inbound=_whole(f["inbound"], BIGGEST_ID), channel=Channel(f["channel"]))


def _citizens_wrote(f: dict[str, Any]) -> Event:
    return CitizensWrote(tuple(_whole(one, BIGGEST_ID) for one in f["inbound"]), Channel(f["channel"]))


def _citizen_reported(f: dict[str, Any]) -> Event:
    return CitizenReported(inbound=_whole(f["inbound"], BIGGEST_ID), channel=Channel(f["channel"]))


_READERS: dict[str, Callable[[dict[str, Any]], Event]] = {
    "AlertIssued": _alert_issued,
    "BatchReady": _batch_ready,
    "ReceiptCame": _receipt_came,
    "ReceiptsCame": _receipts_came,
    "CitizenWrote": _citizen_wrote,
    "CitizensWrote": _citizens_wrote,
    "CitizenReported": _citizen_reported,
}
