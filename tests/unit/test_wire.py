"""Events as bytes and back; whatever else lies on the wire is refused by one name."""

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from alerting import wire
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

ids, seqs = st.integers(1, wire.BIGGEST_ID), st.integers(1, wire.BIGGEST_SEQ)
lanes, channels = st.sampled_from(Lane), st.sampled_from(Channel)
moments = st.timedeltas(timedelta(0), timedelta(days=36_525)).map(
    lambda since: datetime(2000, 1, 1, tzinfo=UTC) + since
)
words = st.text(max_size=60)
receipts = st.builds(ReceiptCame, ids, seqs, st.sampled_from(Progress), st.none() | st.sampled_from(Reason), moments)
events: st.SearchStrategy[Event] = st.one_of(
    st.builds(AlertIssued, words, ids, words, lanes, words, words, moments, moments),
    st.builds(BatchReady, ids, ids, channels, words, lanes, seqs, seqs, moments, seqs),
    receipts,
    st.builds(ReceiptsCame, st.lists(receipts, max_size=5).map(tuple)),
    st.builds(CitizenWrote, ids, channels),
    st.builds(CitizensWrote, st.lists(ids, max_size=5).map(tuple), channels),
    st.builds(CitizenReported, ids, channels),
)

BATCH = BatchReady(
    batch=7,
    dispatch=3,
    channel=Channel.WHATSAPP,
    account="whatsapp.calcinaia",
    lane=Lane.EMERGENCY,
    first=1,
    last=100,
    not_after=datetime(2026, 11, 21, 23, 0, tzinfo=UTC),
    told=1,
)


@given(events)
def test_every_event_comes_back_as_it_was(event: Event) -> None:
    assert wire.decode(wire.encode(event)) == event


@given(events, st.dictionaries(st.text(min_size=12, max_size=20), st.integers() | words, max_size=3), st.integers(1, 9))
def test_what_a_newer_version_adds_is_ignored(event: Event, more: dict[str, Any], version: int) -> None:
    fields = more | json.loads(wire.encode(event)) | {"v": version}
    assert wire.decode(json.dumps(fields).encode()) == event


@given(events, st.data())
def test_an_event_that_lacks_a_field_is_unreadable(event: Event, data: st.DataObject) -> None:
    fields = json.loads(wire.encode(event))
    del fields[data.draw(st.sampled_from(sorted(fields.keys() - {"told"})))]  # older messages do without
    with pytest.raises(wire.Unreadable):
        wire.decode(json.dumps(fields).encode())


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=8,
)


@given(events, st.data(), json_values)
def test_a_spoiled_field_is_unreadable_or_was_harmless(event: Event, data: st.DataObject, spoilt: Any) -> None:
    fields = json.loads(wire.encode(event))
    fields[data.draw(st.sampled_from(sorted(fields)))] = spoilt
    try:
        read = wire.decode(json.dumps(fields).encode())
    except wire.Unreadable:
        return
    assert type(read).__name__ == fields["event"]


@given(st.binary(max_size=200) | json_values.map(lambda value: json.dumps(value).encode()))
@example(b"[" * 100_000)
@example(b'{"v":1,"event":"CitizenWrote","inbound":1e999,"channel":"whatsapp"}')
@example(b'{"v":1,"event":["CitizenWrote"],"inbound":1,"channel":"whatsapp"}')
@example(b'{"v":true,"event":"CitizenWrote","inbound":1,"channel":"whatsapp"}')
@example(b"\xff\xfe")
@example(b"")
def test_garbage_is_unreadable_and_nothing_worse(body: bytes) -> None:
    with pytest.raises(wire.Unreadable):
        wire.decode(body)


def test_times_travel_in_utc_whatever_clock_they_were_read_from() -> None:
    in_rome = datetime(2026, 11, 22, 0, 0, tzinfo=timezone(timedelta(hours=1)))
    fields = json.loads(wire.encode(ReceiptCame(3, 9, Progress.READ, None, in_rome)))
    assert fields["at"] == "2026-11-21T23:00:00+00:00"


def test_a_time_without_an_offset_is_refused() -> None:
    fields = json.loads(wire.encode(BATCH)) | {"not_after": "2026-11-21T23:00:00"}
    with pytest.raises(wire.Unreadable, match="has no offset"):
        wire.decode(json.dumps(fields).encode())


def test_a_batch_on_the_wire_names_rows_and_no_person() -> None:
    assert json.loads(wire.encode(BATCH)) == {
        "v": 1,
        "event": "BatchReady",
        "batch": 7,
        "dispatch": 3,
        "channel": "whatsapp",
        "account": "whatsapp.calcinaia",
        "lane": "emergency",
        "first": 1,
        "last": 100,
        "told": 1,
        "not_after": "2026-11-21T23:00:00+00:00",
    }


@pytest.mark.parametrize("spoilt", [{"last": 2**31}, {"batch": 2**63}, {"dispatch": -1}])
def test_a_number_no_column_holds_is_unreadable(spoilt: dict[str, int]) -> None:
    fields = json.loads(wire.encode(BATCH)) | spoilt
    with pytest.raises(wire.Unreadable, match="is no number of ours"):
        wire.decode(json.dumps(fields).encode())


def test_an_unknown_event_is_named_and_cut_short() -> None:
    with pytest.raises(wire.Unreadable, match=r"event 'SirenSounded' of version 2 is unknown here"):
        wire.decode(b'{"v":2,"event":"SirenSounded"}')
    with pytest.raises(wire.Unreadable) as refused:
        wire.decode(json.dumps({"v": 1, "event": "x" * 5000}).encode())
    assert len(str(refused.value)) < 120
