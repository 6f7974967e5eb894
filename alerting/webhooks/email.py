"""What mail servers send back: which mail could not be delivered, and why. Pure: a message in, our words out."""

import hmac
import re
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from email import message_from_bytes
from email.message import Message
from email.utils import parsedate_to_datetime

from alerting.domain.delivery import Progress, Reason
from alerting.webhooks import Receipt

PROGRESS = {"failed": Progress.FAILED, "delivered": Progress.DELIVERED}
"""What we make of an Action (RFC 3464, 2.3.3). `delayed` is still under way; `relayed` and `expanded` end our sight."""

REASONS = (
    # Why it failed, by how its enhanced code begins (RFC 3463, and the codes IANA keeps); the first match counts.
    ("5.1.7", Reason.CHANNEL_HALTED),  # our own address is wrong
    ("5.1.8", Reason.CHANNEL_HALTED),
    ("5.1.", Reason.NOT_REACHABLE_HERE),
    ("5.2.1", Reason.NOT_REACHABLE_HERE),  # the mailbox is closed
    ("5.2.", Reason.POLICY),  # it is full, or takes no such mail
    ("5.3.4", Reason.TEXT_REJECTED),
    ("5.6.", Reason.TEXT_REJECTED),
    ("5.7.", Reason.POLICY),
    ("4.", Reason.PROVIDER_UNAVAILABLE),  # tried until they gave up
    ("5.4.", Reason.PROVIDER_UNAVAILABLE),
    ("5.3.", Reason.PROVIDER_UNAVAILABLE),
)
CODE = re.compile(r"(?<![\d.])[245]\.\d{1,3}\.\d{1,3}(?![\d.])")
SAYS_NOTHING = re.compile(r"[245]\.0\.0")

ADDRESSED_TO = ("To", "Delivered-To", "X-Original-To", "Envelope-To", "X-Envelope-To")
"""Where the return path of the mail that bounced is found: that is where the bounce was sent."""
DEEPEST, MOST_PARTS = 8, 200


def verify_secret(expected: str, header: str | None) -> bool:
    """Whether `Authorization: Bearer …` is the account's webhook_secret. An empty one verifies nothing."""
    if not expected or header is None:
        return False
    return hmac.compare_digest(f"Bearer {expected}".encode(), header.strip().encode())


def read_bounce(raw: bytes, references: Callable[[str], Iterable[str]], now: datetime) -> Receipt | None:
    """What became of a mail of ours, as `multipart/report; report-type=delivery-status` says (RFC 3464).

    `references` finds ours in a text, and nobody else's. None for all that is no such report, and for a report of
    what we have not sent: an answer from holidays, a citizen who writes back, a forgery. Never raises.
    """
    try:
        message = message_from_bytes(raw)
        if message.get_content_type() != "multipart/report":
            return None
        parts = list(_parts(message))
        report = next((part for part in parts if part.get_content_type() == "message/delivery-status"), None)
        found = _verdict(report) if report is not None else None
        ours = next((one for text in _where_marked(message, parts) for one in references(text)), None)
    except (ValueError, LookupError, RecursionError, AttributeError, TypeError):
        return None  # the parser of the standard library stumbles over headers nobody should write
    if found is None or ours is None:
        return None
    progress, reason = found
    return Receipt(ours, ours, progress, reason, _at(message, now))


def _parts(message: Message, depth: int = 0) -> Iterator[Message]:
    """The parts of a report, not those of what came back with it beyond its headers."""
    if depth < DEEPEST:
        for part in _groups(message):
            yield part
            if part.get_content_maintype() == "multipart":
                yield from _parts(part, depth + 1)


def _verdict(report: Message) -> tuple[Progress, Reason | None] | None:
    """What it says about the recipient: we send to one at a time. The first group is about the message."""
    for group in _groups(report):
        progress = PROGRESS.get(_word(group, "Action").strip().lower())
        if progress is not None:
            return progress, _why(group) if progress is Progress.FAILED else None
    return None


def _why(group: Message) -> Reason:
    """By the most telling code: many servers write 5.0.0 as the status, and the true one into what they were told."""
    said = [*CODE.findall(_word(group, "Status")), *CODE.findall(_word(group, "Diagnostic-Code"))]
    for code in (one for one in said if not SAYS_NOTHING.fullmatch(one)):
        for begins, reason in REASONS:
            if code.startswith(begins):
                return reason
    return Reason.UNKNOWN_ANSWER


def _where_marked(message: Message, parts: list[Message]) -> Iterator[str]:
    """The places where a server repeats what we put on the mail, the surest first."""
    for name in ADDRESSED_TO:
        yield from map(str, message.get_all(name, ()))
    for part in parts:
        match part.get_content_type():
            case "message/delivery-status":
                yield from (_word(group, "Original-Envelope-Id") for group in _groups(part))
            case "message/rfc822" | "message/global":
                yield from (_word(group, "Message-ID") for group in _groups(part))
            case "text/rfc822-headers" | "message/global-headers":
                yield from _message_ids(part)


def _groups(part: Message) -> Iterator[Message]:
    payload = part.get_payload()
    if isinstance(payload, list):
        yield from (group for group in payload[:MOST_PARTS] if isinstance(group, Message))


def _message_ids(part: Message) -> Iterator[str]:
    payload = part.get_payload(decode=True)
    if isinstance(payload, bytes):
        yield _word(message_from_bytes(payload), "Message-ID")


def _word(message: Message, name: str) -> str:
    return str(message.get(name, ""))


def _at(message: Message, now: datetime) -> datetime:
    """When the server says it gave up, or now where it says nonsense: nobody bounces what is still to be sent."""
    try:
        at = parsedate_to_datetime(_word(message, "Date"))
    except ValueError:
        return now
    return min(at if at.tzinfo else at.replace(tzinfo=UTC), now)
