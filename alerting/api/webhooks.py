"""What providers tell us: checked over the raw bytes, kept or passed on, and only then answered with 200."""

import asyncio
import json
import re
import time
from collections import deque
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from urllib.parse import parse_qs

import structlog
from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse, PlainTextResponse

from alerting import audit, inbox, metrics, paging
from alerting.amqp import BrokerAway, Unroutable
from alerting.api.parts import Parts, parts_of
from alerting.api.problems import BROKER_AWAY, NO_JSON, Problem, away
from alerting.api.routes import limited
from alerting.api.schemas import Ignored
from alerting.domain.authority import ChannelAccess, templates_of
from alerting.domain.delivery import Channel
from alerting.domain.events import ReceiptCame
from alerting.domain.sms import Alphabet, Wrote
from alerting.postmarks import Postmarks
from alerting.sms_inbox import SmsInbox
from alerting.webhooks import InboundText, Pressed, Receipt, TemplateChanged, email, sms, telegram, whatsapp

router = APIRouter(prefix="/webhooks", tags=["webhooks"])
log = structlog.get_logger()

MOST_BYTES = 4_000_000
"""Meta's own limit is 3 MB."""
REFERENCE = re.compile(r"([0-9]{1,18})\.([0-9]{1,9})\.[0-9]{1,5}")
"""dispatch.seq.attempt: what our senders put on every text."""
AUDITED_A_MINUTE = 30
"""Refused calls that get a line in the audit: strangers may not fill it. All are counted in the metrics."""

_audited: deque[float] = deque(maxlen=AUDITED_A_MINUTE)


@router.get("/whatsapp", summary="Answer Meta's challenge", response_class=PlainTextResponse)
async def subscribe_whatsapp(request: Request, parts: Parts = Depends(parts_of)) -> PlainTextResponse:
    """Echoes the challenge to whoever knows the verify_token of one of our accounts."""
    for token in _secrets(parts, "verify_token").values():
        challenge = whatsapp.answer_subscription(token, request.query_params)
        if challenge is not None:
            return PlainTextResponse(challenge)
    raise Problem(403, "hub.verify_token is that of no account here: set it in the app and in the secrets file alike")


@router.post("/whatsapp", summary="Take Meta's notifications")
async def take_whatsapp(request: Request, parts: Parts = Depends(parts_of)) -> Ignored:
    """200 once the texts are stored and RabbitMQ has the receipts; Meta repeats whatever gets another answer."""
    raw = await limited(request, MOST_BYTES).body()
    header = request.headers.get("x-hub-signature-256")
    signers = {
        account
        for account, secret in _secrets(parts, "app_secret").items()
        if whatsapp.verify_signature(secret, raw, header)
    }
    if not signers:
        raise await _refused(parts, Channel.WHATSAPP, "X-Hub-Signature-256 is no signature of this body by a known app")
    payload = _parsed(raw)
    accounts = _accounts_by_phone_number_id(parts)
    named = {accounts[key].name for key in _phone_number_ids(payload) if key in accounts}
    if not named <= signers:
        raise await _refused(parts, Channel.WHATSAPP, "X-Hub-Signature-256 is another app's than this account's")
    read = whatsapp.read_webhook(payload if isinstance(payload, dict) else {})
    ours = [(accounts[text.phone_number_id], text) for text in read.texts if text.phone_number_id in accounts]
    if len(ours) < len(read.texts):
        log.warning("texts for a phone_number_id no authority has", texts=len(read.texts) - len(ours))
    kept: list[tuple[ChannelAccess, inbox.Told]] = [*ours]
    kept += [(accounts[one.phone_number_id], one) for one in read.moves if one.phone_number_id in accounts]
    await _keep(parts, kept)
    await _call_about_templates(parts, read.templates, signers)
    receipts = await _pass_on(parts, read.receipts)
    ignored = read.ignored + len(read.texts) + len(read.moves) - len(kept) + len(read.receipts) - receipts
    return Ignored(texts=len(kept), receipts=receipts, ignored=ignored)


@router.post("/telegram/{account}", summary="Take an update of Telegram", response_model=Ignored)
async def take_telegram(account: str, request: Request, parts: Parts = Depends(parts_of)) -> Ignored | JSONResponse:
    """What people write to the bot, who blocks it and who comes back. `account` is named in the authority's file."""
    access = next((one for one in _accesses(parts, Channel.TELEGRAM) if one.name == account), None)
    expected = _secrets(parts, "webhook_secret", Channel.TELEGRAM).get(account, "")
    if access is None or not telegram.verify_secret(expected, request.headers.get("x-telegram-bot-api-secret-token")):
        raise await _refused(
            parts, Channel.TELEGRAM, "X-Telegram-Bot-Api-Secret-Token is not the webhook_secret of this account"
        )
    update = _parsed(await limited(request, MOST_BYTES).body())
    read = telegram.read_update(update) if isinstance(update, dict) else None
    if isinstance(read, Pressed):  # the answer to a webhook may carry a call: this one stops the app's waiting
        if read.data and read.message is not None:
            await _keep(parts, [(access, read)])
        return JSONResponse({"method": "answerCallbackQuery", "callback_query_id": read.identity})
    if read is None:
        return Ignored(texts=0, receipts=0, ignored=1)
    await _keep(parts, [(access, read)])
    return Ignored(texts=1, receipts=0, ignored=0)


@router.post("/email/{account}", summary="Take a mail that came back")
async def take_bounce(account: str, request: Request, parts: Parts = Depends(parts_of)) -> Ignored:
    """A bounce as it arrived (message/rfc822), from the pipe of a mail server. What is none of ours is counted.

    200 once RabbitMQ has the receipt. `Authorization: Bearer …` is the webhook_secret of the account.
    """
    expected = _secrets(parts, "webhook_secret", Channel.EMAIL).get(account, "")
    if not email.verify_secret(expected, request.headers.get("authorization")):
        raise await _refused(parts, Channel.EMAIL, "Authorization is not Bearer and the webhook_secret of this account")
    raw = await limited(request, MOST_BYTES).body()
    known = Postmarks(parts.settings.key_bytes)
    receipt = await asyncio.to_thread(email.read_bounce, raw, known.references, datetime.now(UTC))
    receipts = await _pass_on(parts, [receipt] if receipt else [], Channel.EMAIL)
    return Ignored(texts=0, receipts=receipts, ignored=1 - receipts)


@router.post("/sms/{account}", summary="Take what an SMS provider posts")
async def take_sms(account: str, request: Request, parts: Parts = Depends(parts_of)) -> Ignored:
    """What people write to the comune's number, and what became of a text: a form or JSON. What is neither is counted.

    Its secret is the webhook_secret of the account: `Authorization: Bearer …`, the password of Basic, or `?token=…`.
    """
    access = next((one for one in _accesses(parts, Channel.SMS) if one.name == account), None)
    expected = _secrets(parts, "webhook_secret", Channel.SMS).get(account, "")
    header, in_address = request.headers.get("authorization"), request.query_params.get("token")
    if access is None or not sms.verify_secret(expected, header, in_address):
        raise await _refused(parts, Channel.SMS, "Authorization or token is not the webhook_secret of this account")
    said = _form_or_json(request.headers.get("content-type", ""), await limited(request, MOST_BYTES).body())
    match sms.read_push(said, datetime.now(UTC)):
        case InboundText() as text if text.provider_message_id:
            await _keep(parts, [(access, text)])
        case InboundText() as text:
            words = (text.text or "").encode("utf-16-be", "replace")
            await SmsInbox(parts.database, parts.seal, parts.inbox.desks).take(
                access.name, Wrote(text.sender, access.identity, words, Alphabet.UCS_2)
            )
        case Receipt() as receipt:
            receipts = await _pass_on(parts, [receipt], Channel.SMS)
            return Ignored(texts=0, receipts=receipts, ignored=1 - receipts)
        case None:
            return Ignored(texts=0, receipts=0, ignored=1)
    return Ignored(texts=1, receipts=0, ignored=0)


def _form_or_json(content_type: str, raw: bytes) -> dict[str, object]:
    """The fields of a call. Of a field that is there twice the first counts."""
    if content_type.partition(";")[0].strip().lower() == "application/x-www-form-urlencoded":
        return {name: values[0] for name, values in parse_qs(raw.decode("utf-8", "replace")).items()}
    said = _parsed(raw)
    return said if isinstance(said, dict) else {}


# ── texts of citizens ───────────────────────────────────────────────────────────────────────────────


async def _keep(parts: Parts, texts: Sequence[tuple[ChannelAccess, inbox.Told]]) -> None:
    await parts.inbox.keep([(access.name, access.channel, told) for access, told in texts])


# ── templates ───────────────────────────────────────────────────────────────────────────────────────


GOOD = frozenset({"APPROVED", "REINSTATED", "GREEN", "UNKNOWN", "UTILITY"})
"""What Meta says of a template that can be relied on. YELLOW is on its way to worse: it is logged only."""


async def _call_about_templates(parts: Parts, changes: Sequence[TemplateChanged], signers: set[str]) -> None:
    """Whoever is on duty is to know that a template was paused before they need it, and that it is back."""
    if not changes:
        return
    now = datetime.now(UTC)
    async with parts.database.write() as session:
        for change in changes:
            log.warning("a template stands otherwise", template=change.name, what=change.what, now=change.now)
            for authority in parts.authorities.values():
                for access in authority.channels:
                    if access.name not in signers or change.name not in templates_of(access.settings):
                        continue
                    if access.settings.get("waba_id", change.business) != change.business:
                        continue
                    about = f"template {change.what} {access.name} {change.name}"
                    if change.now in GOOD:
                        await paging.close(session, about, "Meta", now)
                    elif change.now != "YELLOW":
                        await paging.call(session, about, _what_became_of(change), now, authority.code)


def _what_became_of(change: TemplateChanged) -> str:
    because = f" ({change.because})" if change.because else ""
    match change.what:
        case "category":
            more = "la durata dei messaggi va impostata di nuovo e i limiti sono quelli della nuova categoria"
        case "quality":
            more = "Meta può sospenderlo; prepara il modello di riserva"
        case _:
            more = "gli avvisi partono con il modello di riserva, se c'è; apri WhatsApp Manager"
    return f"WhatsApp: il modello {change.name} ora è {change.now}{because}: {more}"


# ── receipts ────────────────────────────────────────────────────────────────────────────────────────


async def _pass_on(parts: Parts, receipts: Iterable[Receipt], channel: Channel = Channel.WHATSAPP) -> int:
    """To RabbitMQ, all at once. How many were ours. Raises a 503 Problem unless it confirmed every one."""
    events = []
    for receipt in receipts:
        ours = REFERENCE.fullmatch(receipt.reference or "")
        if ours is None:
            metrics.RECEIPTS.labels(str(channel), "not_ours").inc()
            continue
        dispatch, seq = int(ours[1]), int(ours[2])
        events.append(ReceiptCame(dispatch, seq, receipt.progress, receipt.reason, receipt.at))
    try:
        await parts.passing.pass_on(events)
    except (BrokerAway, Unroutable) as trouble:
        log.warning("receipts not passed on", receipts=len(events), error=str(trouble))
        raise away(BROKER_AWAY) from None
    return len(events)


# ── who is allowed to say so ────────────────────────────────────────────────────────────────────────


def _accesses(parts: Parts, channel: Channel) -> list[ChannelAccess]:
    return [access for one in parts.authorities.values() for access in one.channels if access.channel is channel]


def _secrets(parts: Parts, name: str, channel: Channel = Channel.WHATSAPP) -> dict[str, str]:
    """The secret of that name of each account of the channel that has one."""
    found = ((one.name, parts.settings.secrets.find(one.name, name)) for one in _accesses(parts, channel))
    return {account: secret for account, secret in found if secret}


def _accounts_by_phone_number_id(parts: Parts) -> dict[str, ChannelAccess]:
    return {access.settings.get("phone_number_id", ""): access for access in _accesses(parts, Channel.WHATSAPP)}


def _phone_number_ids(payload: object) -> set[str]:
    """Every account a payload speaks of, wherever in it: each must be the signer's own."""
    found: set[str] = set()
    left = [payload]
    while left:
        node = left.pop()
        if isinstance(node, dict):
            if isinstance(key := node.get("phone_number_id"), str):
                found.add(key)
            left.extend(node.values())
        elif isinstance(node, list):
            left.extend(node)
    return found


def _parsed(raw: bytes) -> object:
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        raise Problem(400, NO_JSON) from None


async def _refused(parts: Parts, channel: Channel, sentence: str) -> Problem:
    """The 401 to raise; counted, and noted in the audit as far as strangers may."""
    metrics.WEBHOOKS_REFUSED.labels(str(channel)).inc()
    now = time.monotonic()
    if len(_audited) < AUDITED_A_MINUTE or now - _audited[0] > 60:
        _audited.append(now)
        async with parts.database.write() as session:
            await audit.write(
                session,
                at=datetime.now(UTC),
                actor="unknown",
                action="refused webhook",
                subject=str(channel),
                why=sentence.split()[0],
            )
    return Problem(
        401, f"{sentence}: sign it with the secret both sides have", headers={"WWW-Authenticate": "Signature"}
    )
