"""A picture and a position on their way in: from what providers post to what is kept of it, sealed."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerting.inbox import _written
from alerting.webhooks import InboundText, media_name, shared_position, telegram, whatsapp
from geo.shapes import Point

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def from_whatsapp(kind: str, content: object) -> InboundText:
    message = {"from": "393331234567", "id": "wamid.1", "timestamp": "1764144000", "type": kind, kind: content}
    value = {"metadata": {"phone_number_id": "1"}, "messages": [message]}
    read = whatsapp.read_webhook({"entry": [{"changes": [{"field": "messages", "value": value}]}]})
    (text,) = read.texts
    return text


def from_telegram(**content: object) -> InboundText:
    message = {"message_id": 7, "date": 1764144000, "chat": {"id": 12, "type": "private"}} | content
    text = telegram.read_update({"update_id": 1, "message": message})
    assert isinstance(text, InboundText)
    return text


def test_a_position_and_a_picture_are_read_from_both() -> None:
    place = {"latitude": 42.84, "longitude": 11.61}
    assert from_whatsapp("location", place).point == from_telegram(location=place).point == Point(42.84, 11.61)
    image = from_whatsapp("image", {"id": "4411", "mime_type": "image/jpeg", "caption": "Buca in via Roma"})
    assert (image.media, image.text) == ("4411", "Buca in via Roma")
    assert from_whatsapp("document", {"id": "4412", "filename": "buca.jpg"}).media == "4412"
    assert from_whatsapp("audio", {"id": "4413"}).media is None
    sizes = [{"file_id": "small", "width": 90}, {"file_id": "large", "width": 1280}]
    assert from_telegram(photo=sizes, caption="Buca").media == "large"
    assert from_telegram(document={"file_id": "AgAC"}).media == "AgAC"
    assert from_telegram(voice={"file_id": "AwAC"}).media is None


@pytest.mark.parametrize(
    ("lat", "lon"),
    [(float("nan"), 11.0), (float("inf"), 11.0), (91.0, 11.0), (42.0, 181.0), ("42.8", 11.6), (None, 11.6), (True, 1)],
)
def test_what_is_no_place_on_earth_is_none(lat: Any, lon: Any) -> None:
    assert shared_position({"latitude": lat, "longitude": lon}) is None
    assert from_whatsapp("location", {"latitude": lat, "longitude": lon}).point is None
    assert from_telegram(location={"latitude": lat, "longitude": lon}).point is None


@given(st.sampled_from(["location", "image", "document"]), ANYTHING)
def test_whatever_is_sent_is_read_without_harm(kind: str, content: Any) -> None:
    for text in (from_whatsapp(kind, content), from_telegram(**{kind: content, "photo": content})):
        assert text.point is None or (-90 <= text.point.lat <= 90 and -180 <= text.point.lon <= 180)
        assert text.media is None or media_name(text.media) == text.media
        json.dumps(_written(text)[1], allow_nan=False)


def test_both_are_kept_with_the_words() -> None:
    text = InboundText("m", "1", "+39333", "Buca", "image", datetime.now(UTC), point=Point(42.8, 11.6), media="44")
    said = _written(text)[1]
    assert said["point"] == {"lat": 42.8, "lon": 11.6}
    assert said["media"] == "44"
