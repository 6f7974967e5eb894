"""What is measured, once for all processes. Labels are enumerations: no alert, no person, no text."""

import json
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import Counter, Gauge, Histogram, make_wsgi_app
from prometheus_client.exposition import ThreadingWSGIServer

SECONDS_TO_PEOPLE = (0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 150, 300, 900, 3600)
SECONDS_OF_WORK = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15)

ISSUED_TO_ACCEPTED = Histogram(
    "alerting_issued_to_accepted_seconds",
    "From issue until the provider took the text of one person.",
    ["lane", "channel"],
    buckets=SECONDS_TO_PEOPLE,
)
ISSUED_TO_DELIVERED = Histogram(
    "alerting_issued_to_delivered_seconds",
    "From issue until the provider says that the text is on the person's phone.",
    ["lane", "channel"],
    buckets=SECONDS_TO_PEOPLE,
)
ENQUEUED_TO_SENT = Histogram(
    "alerting_enqueued_to_sent_seconds",
    "From a batch's arrival at a worker until the call to the provider for one of its people.",
    ["lane", "channel"],
    buckets=SECONDS_TO_PEOPLE,
)
OUTCOMES = Counter(
    "alerting_deliveries_total",
    "Attempts by what they came to.",
    ["lane", "channel", "outcome", "reason"],
)
PROVIDER_CALLS = Histogram(
    "alerting_provider_call_seconds",
    "One call to a provider, from our side.",
    ["channel"],
    buckets=SECONDS_OF_WORK,
)
IN_FLIGHT = Gauge(
    "alerting_slices_in_flight", "People claimed by this worker and not recorded yet.", ["lane", "channel"]
)
LEASE_WAIT = Histogram(
    "alerting_lease_wait_seconds",
    "How long a worker with work in hand waited for its next lease of provider capacity.",
    ["lane"],
    buckets=SECONDS_OF_WORK,
)
LEASES = Counter("alerting_leases_total", "Leases of provider capacity asked for.", ["lane", "result"])
TURNED_AWAY = Counter(
    "alerting_turned_away_total", "People put off before any call: the day's quota, or left alone.", ["lane", "why"]
)
SLOTS_EXPIRED = Counter("alerting_slots_expired_total", "Leased slots dropped because they were over 30 ms late.")
REPEATED = Counter(
    "alerting_attempts_repeated_total",
    "Attempts made again because the worker of the first died.",
    ["lane", "channel"],
)
TOLD_AGAIN = Counter(
    "alerting_told_again_total", "What the broker was told again because nobody worked on it.", ["lane", "what"]
)
HANDED_OVER = Counter(
    "alerting_handed_over_total", "People told on another channel because theirs is halted.", ["lane", "channel"]
)
FELL_BACK = Counter(
    "alerting_fallbacks_total",
    "People told on another channel, by the channel and by why the one before did not reach them.",
    ["lane", "channel", "because"],
)
NOT_FOLLOWED = Counter(
    "alerting_not_followed_total", "People not reached, and not told on another channel, by why.", ["lane", "why"]
)
TOLD_TWICE = Counter(
    "alerting_told_twice_total",
    "Receipts that came when the person had been told on another channel already.",
    ["lane", "channel"],
)
EURO = Counter("alerting_euro_total", "What texts have cost, by the prices in the comuni's files.", ["channel"])
HALTS = Counter("alerting_channel_halts_total", "Times a provider halted an account of ours.", ["channel"])

OUTBOX_RELAYED = Counter("alerting_outbox_relayed_total", "Outbox rows by what RabbitMQ said.", ["lane", "result"])
OUTBOX_CONFIRM = Histogram(
    "alerting_outbox_confirm_seconds",
    "From publishing a group of outbox rows to its last confirm.",
    ["lane"],
    buckets=SECONDS_OF_WORK,
)
FANOUT_RECIPIENTS = Counter("alerting_fanout_recipients_total", "Recipients resolved from geofences.", ["lane"])
RESETTLED = Counter("alerting_resettled_total", "People looked at because an area has a new outline.")
FANOUT_SECONDS = Histogram(
    "alerting_fanout_seconds",
    "From taking an issued alert to its last batch.",
    ["lane"],
    buckets=SECONDS_TO_PEOPLE,
)
DEAD_LETTERS = Counter("alerting_dead_letters_total", "Messages given up on, by why.", ["why"])
RECEIPTS = Counter("alerting_receipts_total", "Receipts of providers, by what they say.", ["channel", "progress"])
INBOUND = Counter("alerting_inbound_total", "Texts of citizens, by what we understood.", ["channel", "understood"])
DESK = Counter("alerting_desk_total", "What citizens sent to desks, by what became of it.", ["deed"])
WEBHOOKS_REFUSED = Counter("alerting_webhooks_refused_total", "Webhook calls not signed as agreed.", ["channel"])
SUBSCRIBERS = Gauge(
    "alerting_subscribers", "People subscribed, by the channel they are told on first.", ["authority", "channel"]
)
ALERTS = Counter("alerting_alerts_total", "Alerts by what was done to them.", ["action", "lane"])

INTAKE = Counter("alerting_intake_total", "Documents of sources, by what became of them.", ["source", "state"])
PAGES = Counter("alerting_pages_total", "Times somebody on duty was to look at something new.")
NOTICES = Counter("alerting_notices_total", "Notices to the staff, by how telling them ended.", ["matter", "outcome"])
FEED_POLLS = Counter(
    "alerting_feed_polls_total", "Times a source was asked, by what came of it.", ["source", "outcome"]
)
FEED_ANSWERED = Gauge(
    "alerting_feed_answered_timestamp_seconds", "When a source last gave an answer to work with.", ["source"]
)
FEED_SILENT = Gauge("alerting_feed_silent", "Whether a source has been silent for too long.", ["source"])

PANELS_ONLINE = Gauge("alerting_panels_online", "Message panels and sirens that say they are there.", ["kind"])
PANELS_MISSING = Gauge("alerting_panels_missing", "Message panels and sirens that do not say so.", ["kind"])
PANEL_REPORTS = Counter("alerting_panel_reports_total", "What panels say of themselves, by what it was.", ["what"])

AMQP_UP = Gauge("alerting_amqp_up", "Whether a connection to RabbitMQ stands.", ["link"])
AMQP_RECONNECTS = Counter("alerting_amqp_reconnects_total", "Connections to RabbitMQ lost.", ["link"])
AMQP_CHANNEL_REOPENS = Counter("alerting_amqp_channel_reopens_total", "AMQP channels made anew.", ["why"])
AMQP_BLOCKED = Gauge(
    "alerting_amqp_blocked", "Whether RabbitMQ has blocked our publishing (memory or disk alarm).", ["link"]
)

WORKER_WAITS = Gauge(
    "alerting_worker_waits", "Whether this process waits for something that is away.", ["worker", "waits_for"]
)

Health = Callable[[], tuple[bool, Mapping[str, object]]]
"""Whether a process works, and what it says of itself as JSON."""


@dataclass(frozen=True, slots=True)
class OfDelivery:
    """The figures of one lane on one channel, found once: to find them for each person costs more than to move them."""

    enqueued_to_sent: Histogram
    issued_to_accepted: Histogram
    accepted: Counter
    provider_calls: Histogram
    in_flight: Gauge


@cache
def of_delivery(lane: str, channel: str) -> OfDelivery:
    """Those of a lane and a channel."""
    return OfDelivery(
        ENQUEUED_TO_SENT.labels(lane, channel),
        ISSUED_TO_ACCEPTED.labels(lane, channel),
        OUTCOMES.labels(lane, channel, "accepted", ""),
        PROVIDER_CALLS.labels(channel),
        IN_FLIGHT.labels(lane, channel),
    )


def begin_at_zero(lanes: Iterable[str], channel: str) -> None:
    """Show a delivery worker's figures before the first event: Prometheus sees no rise from nothing to one."""
    HALTS.labels(channel)
    for lane in lanes:
        ISSUED_TO_ACCEPTED.labels(lane, channel)
        ISSUED_TO_DELIVERED.labels(lane, channel)
        ENQUEUED_TO_SENT.labels(lane, channel)
        OUTCOMES.labels(lane, channel, "accepted", "")


def serve(host: str, port: int, health: Health) -> WSGIServer | None:
    """Show this process's figures on http://host:port/metrics, and how it is on /status; nowhere for port 0.

    In a thread of its own: it answers while the event loop is busy, and while it waits. /status is 200 when the
    process works and 503 when not.
    """
    if not port:
        return None
    figures = make_wsgi_app()

    def answer(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environ["PATH_INFO"] != "/status":
            shown: Iterable[bytes] = figures(environ, start_response)
            return shown
        works, said = health()
        body = json.dumps(said).encode()
        headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
        start_response("200 OK" if works else "503 Service Unavailable", headers)
        return [body]

    server = make_server(host, port, answer, ThreadingWSGIServer, _Quiet)
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
    return server


class _Quiet(WSGIRequestHandler):
    """Requests of Prometheus and of health checks, one every few seconds, are not worth a line in the log."""

    timeout = 10  # seconds: whoever connects and says nothing does not keep a thread

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""
