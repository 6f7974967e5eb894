"""Where somebody says they are, as two providers write it: a place on Earth, or none."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerting.webhooks import InboundText, shared_position
from alerting.webhooks.telegram import read_update
from alerting.webhooks.whatsapp import read_webhook
from geo.shapes import Point

HOSTILE = [
    '{"latitude": NaN, "longitude": 10.59}',
    '{"latitude": 43.67, "longitude": Infinity}',
    '{"latitude": -Infinity, "longitude": 10.59}',
    '{"latitude": 90.01, "longitude": 10.59}',
    '{"latitude": 43.67, "longitude": -180.5}',
    '{"latitude": "43.67", "longitude": "10.59"}',
    '{"latitude": true, "longitude": 10}',
    '{"latitude": null, "longitude": 10.59}',
    '{"latitude": 43.67}',
    '{"latitude": [43.67], "longitude": {"deg": 10}}',
    f'{{"latitude": 1{"0" * 400}, "longitude": 10.59}}',
    "[43.67, 10.59]",
    '"43.67, 10.59"',
    "{}",
    "null",
]


def by_telegram(location: object) -> InboundText | None:
    message = {"message_id": 7, "date": 1795000000, "chat": {"id": 5001, "type": "private"}, "location": location}
    read = read_update({"update_id": 1, "message": message})
    return read if isinstance(read, InboundText) else None


def by_whatsapp(location: object) -> InboundText | None:
    message = {"from": "393331234567", "id": "wamid.1", "timestamp": "1795000000", "type": "location"}
    value = {"metadata": {"phone_number_id": "1065"}, "messages": [message | {"location": location}]}
    (text,) = read_webhook({"entry": [{"id": "WABA", "changes": [{"field": "messages", "value": value}]}]}).texts
    return text


@pytest.mark.parametrize("read", [by_telegram, by_whatsapp])
def test_a_position_is_read_as_it_was_shared(read: Any) -> None:
    for lat, lon in ((43.672, 10.59), (-90, 180), (0, 0), (43, 10)):
        text = read({"latitude": lat, "longitude": lon, "name": "Argine", "horizontal_accuracy": 12.5})
        assert (text.kind, text.text, text.point) == ("location", None, Point(lat, lon))


@pytest.mark.parametrize("read", [by_telegram, by_whatsapp])
@pytest.mark.parametrize("written", HOSTILE)
def test_a_position_that_is_nowhere_on_earth_is_none_and_still_a_message(read: Any, written: str) -> None:
    text = read(json.loads(written))
    assert text is not None
    assert (text.kind, text.point) == ("location", None)


@given(st.dictionaries(st.sampled_from(["latitude", "longitude"]), st.floats() | st.integers() | st.text() | st.none()))
def test_whatever_is_read_lies_on_earth(said: dict[str, object]) -> None:
    point = shared_position(said)
    assert point is None or (-90 <= point.lat <= 90 and -180 <= point.lon <= 180)
