"""WhatsApp Cloud API: one template or free text to one person, with its picture where there is one."""

import asyncio
import json
import math
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta

import structlog
from multidict import CIMultiDict
from yarl import URL

from alerting.domain.authority import parameter_names
from alerting.domain.delivery import (
    Accepted,
    ChannelHalted,
    Deferred,
    Outcome,
    Reason,
    Refused,
    TextRejected,
)
from alerting.domain.delivery import Channel as ChannelName
from alerting.domain.recipients import BSUID
from consumers.channel import Account, Attachment, Text, Uploads
from consumers.channels.line import Answer, Line, endpoint, json_object
from consumers.channels.whatsapp_errors import (
    HELD,
    OUTSIDE_THE_WINDOW,
    BadParameter,
    MediaSpoilt,
    TemplateWithdrawn,
    classify,
)

log = structlog.get_logger()

E164 = re.compile(r"\+[1-9][0-9]{6,14}")
TOKEN = re.compile(r"[!-~]+")

LONGEST_TEXT = 4096
LONGEST_VARIABLE = LONGEST_CAPTION = LONGEST_TEMPLATE = 1024
LONGEST_REFERENCE = 512
AROUND_THE_VARIABLES = 60
"""Characters of a template that are its own: rendering.TEMPLATE has forty."""
CARRIED = {
    # What it is called in a message, and the most bytes Meta takes (channels.md 1.3).
    "image/jpeg": ("image", 5_000_000),
    "image/png": ("image", 5_000_000),
    "application/pdf": ("document", 100_000_000),
}
MEDIA_LAST = timedelta(days=29)
"""Meta keeps what was uploaded for 30 days."""
UPLOAD_AGAIN_AFTER = timedelta(seconds=2)
UPLOADS_TRIED = 2
"""So often is an upload that fails tried; then the words leave without their picture."""
STANDS_BACK = 600.0
"""Seconds for which a template that Meta withdrew, or a picture it did not take, is not used."""
TEXTS_KEPT, PAIRS_KEPT = 256, 10_000
MOST_FOURS = 5
"""Whoever exceeds the pair rate is asked to wait for 4^X seconds, X = 0, 1, 2 …; so many make 17 minutes."""


@dataclass(frozen=True, slots=True)
class Form:
    """One of the ways to say a text: in this template, or free where there is none; with its picture, or without."""

    template: str | None
    media: bool = False


@dataclass(slots=True)
class _Prepared:
    """One text of one account in one form, encoded up to the person; where it goes, and how people's sends have gone.

    `until`: a form that is liked better may be used again then, on the loop's clock, as `made_at`.
    """

    account: Account
    form: Form
    url: URL
    headers: Mapping[str, str]
    head: bytes
    made_at: float
    until: float
    taken: bool = False
    doubted: int = 0


@dataclass(slots=True)
class _Upload:
    """How it stands with one picture of one number: how often it failed in a row, and when it was uploaded anew."""

    failed: int = 0
    not_before: float = 0.0
    renewed_at: float = -math.inf
    renewing: asyncio.Lock = field(default_factory=asyncio.Lock)


class NotUploaded(Exception):
    """The provider has not got the picture just now."""

    outcome = Deferred(Reason.PROVIDER_UNAVAILABLE, UPLOAD_AGAIN_AFTER, whole_account=True)


class WhatsApp:
    """The Cloud API. `account.settings` needs `phone_number_id` and `api_version` ("v26.0").

    It may have `template_image` and `template_document`, the same words under a picture or a PDF; `standby_template`,
    the same words again, for when Meta pauses the others; `template_parameters`, the names of the variables in their
    order where the templates call them by names. The time to live of a template is Meta's setting on the template
    itself: `Text.expires` cannot travel. Make it inside a running event loop.
    """

    name = ChannelName.WHATSAPP

    def __init__(
        self,
        uploads: Uploads,
        *,
        limit_per_host: int = 200,
        connect: timedelta = timedelta(seconds=3),
        total: timedelta = timedelta(seconds=10),
    ) -> None:
        self._line = Line(limit_per_host=limit_per_host, connect=connect, total=total)
        self._uploads = uploads
        self._clock = asyncio.get_running_loop().time
        self._prepared: dict[tuple[str, Text], _Prepared] = {}
        self._stands_back: dict[tuple[str, str], float] = {}
        self._media: dict[tuple[str, str], _Upload] = {}
        self._pairs: dict[tuple[str, str], int] = {}

    async def send(self, account: Account, address: str, text: Text, reference: str) -> Outcome:
        """One text to one number in E.164, or to one BSUID. Raises ChannelHalted and TextRejected."""
        if E164.fullmatch(address) is None and BSUID.fullmatch(address) is None:
            # Without its "+" Meta would put our own country's code before it, and a stranger would read this.
            return Refused(Reason.NOT_REACHABLE_HERE)
        prepared = self._prepared.get((account.name, text))
        # Read anew, the account may have another credential.
        if prepared is None or prepared.account is not account or prepared.until < self._clock():
            try:
                prepared = await self._prepare(account, text)
            except NotUploaded as missing:
                return missing.outcome
        answer = await self._line.post(prepared.url, _body(prepared.head, address, reference), prepared.headers)
        if not isinstance(answer, Answer):
            return answer
        try:
            outcome = classify(answer.status, answer.body, account.name)
        except TextRejected as rejected:
            if isinstance(rejected, BadParameter) and (guess := _whose_fault(prepared, rejected)):
                return guess
            if not await self._gives_way(prepared, text, rejected):
                raise
            return await self.send(account, address, text, reference)
        if isinstance(outcome, Accepted):
            prepared.taken, prepared.doubted = True, 0
            if self._pairs:
                self._pairs.pop((account.name, address), None)
            return outcome
        if outcome is HELD and await self._gives_way(prepared, text, HELD_BACK):
            # If Meta sends that one after all, they have it twice.
            return await self.send(account, address, text, reference)
        if outcome is OUTSIDE_THE_WINDOW and (registered := _in_template(account, text)):
            return await self.send(account, address, registered, reference)
        if outcome.reason is Reason.PAIR_THROTTLED:
            return Deferred(outcome.reason, self._longer_each_time(account, address))
        return outcome

    async def close(self) -> None:
        """Close connections. No send is under way."""
        await self._line.close()

    def _longer_each_time(self, account: Account, address: str) -> timedelta:
        """How long this person is left alone, after so many times in a row that they had had enough of us."""
        if len(self._pairs) >= PAIRS_KEPT:
            self._pairs.clear()
        fours = self._pairs.get((account.name, address), 0)
        self._pairs[account.name, address] = min(fours + 1, MOST_FOURS)
        return timedelta(seconds=4**fours)

    # ── in which form ───────────────────────────────────────────────────────────────────────────────

    async def _prepare(self, account: Account, text: Text) -> _Prepared:
        """The text in the best form that can be used now. Raises ChannelHalted, TextRejected and NotUploaded."""
        url = endpoint(account, _path(account, "messages"))
        headers = CIMultiDict({"Authorization": f"Bearer {_token(account)}"})
        form, until = self._best(account, text)
        media = None
        if form.media and text.enclosure is not None:
            try:
                media = await self._id_of(account, text.enclosure)
            except MediaSpoilt as spoilt:
                self._stand_back(account, form, text, spoilt)
                return await self._prepare(account, text)
        prepared = _Prepared(account, form, url, headers, _head(account, text, form, media), self._clock(), until)
        if len(self._prepared) >= TEXTS_KEPT:
            self._prepared.clear()  # an alert's worth of texts is two or three: old ones are not missed
        known = self._prepared.get((account.name, text))
        if media and known and known.account is account and known.form == form and known.head == prepared.head:
            return known  # somebody else prepared it while we asked for the picture's id
        self._prepared[account.name, text] = prepared
        return prepared

    def _best(self, account: Account, text: Text) -> tuple[Form, float]:
        """The first form that does not stand back, and until when; where all do, the one that did so first."""
        now, forms = self._clock(), _forms(account, text)
        ends = [max(self._stands_back.get((account.name, what), 0.0) for what in _parts(form, text)) for form in forms]
        for number, end in enumerate(ends):
            if end <= now:
                return forms[number], min(ends[:number], default=math.inf)
        return forms[ends.index(min(ends))], min(ends)

    async def _gives_way(self, prepared: _Prepared, text: Text, rejected: TextRejected) -> bool:
        """Whether the text can be said in another form, after what Meta answered to this one."""
        account, form = prepared.account, prepared.form
        if form.media and isinstance(rejected, MediaSpoilt) and await self._renewed(prepared, text):
            return True
        if not (form.media or isinstance(rejected, TemplateWithdrawn)):
            return False
        now = self._clock()
        others = [other for other in _forms(account, text) if other != form]
        if not any(self._is_free(account, other, text, now) for other in others):
            return False
        self._stand_back(account, form, text, rejected)
        return True

    def _is_free(self, account: Account, form: Form, text: Text, now: float) -> bool:
        return all(self._stands_back.get((account.name, what), 0.0) <= now for what in _parts(form, text))

    def _stand_back(self, account: Account, form: Form, text: Text, rejected: TextRejected) -> None:
        """Use something else for a while: the words must not wait for their picture, nor for Meta's assessment."""
        template, *media = _parts(form, text)
        what = media[0] if media and (isinstance(rejected, MediaSpoilt) or form.template is None) else template
        now = self._clock()
        if self._stands_back.get((account.name, what), 0.0) <= now:  # a hundred sends find it out at once
            log.warning("a template or a picture stands back", account=account.name, what=what, cause=rejected.cause)
        self._stands_back[account.name, what] = now + STANDS_BACK
        self._prepared.pop((account.name, text), None)

    # ── its picture ─────────────────────────────────────────────────────────────────────────────────

    async def _id_of(self, account: Account, enclosure: Attachment) -> str:
        """What Meta calls it. Raises ChannelHalted, MediaSpoilt, and NotUploaded where it is worth a second try."""

        async def upload() -> str:
            return await self._uploaded(account, enclosure)

        try:
            known = await self._uploads.id_of(account, enclosure, upload, MEDIA_LAST)
        except (ChannelHalted, TextRejected, NotUploaded):
            raise
        except Exception as error:  # noqa: BLE001 - whatever keeps ids is away: nothing was said to anybody yet
            log.warning("a picture's id is not to be had", account=account.name, error=type(error).__name__)
            raise self._not_uploaded(account, self._upload_of(account, enclosure)) from None
        self._upload_of(account, enclosure).failed = 0
        return known

    def _upload_of(self, account: Account, enclosure: Attachment) -> _Upload:
        if len(self._media) >= TEXTS_KEPT:
            self._media.clear()
        return self._media.setdefault((account.paced_as, enclosure.sha256), _Upload())

    async def _uploaded(self, account: Account, enclosure: Attachment) -> str:
        upload = self._upload_of(account, enclosure)
        if self._clock() < upload.not_before:
            raise NotUploaded  # whoever waited for the same try shares what came of it
        boundary = secrets.token_hex(16)
        headers = {
            "Authorization": f"Bearer {_token(account)}",
            "Content-Type": f"multipart/form-data; boundary={boundary}",
        }
        url = endpoint(account, _path(account, "media"))
        answer = await self._line.post(url, _multipart(enclosure, boundary), headers)
        if isinstance(answer, Answer):
            said = json_object(answer.body)
            if said is not None and isinstance(identity := said.get("id"), str) and identity:
                return identity
            try:
                outcome = classify(answer.status, answer.body, account.name)
            except TextRejected as rejected:
                raise MediaSpoilt(account.name, rejected.cause) from None
            if isinstance(outcome, Refused):  # there is no person yet who could be meant
                raise MediaSpoilt(account.name, "the picture or document was refused")
        raise self._not_uploaded(account, upload)

    def _not_uploaded(self, account: Account, upload: _Upload) -> NotUploaded | MediaSpoilt:
        """One more failure: it is tried again, or else the words leave without it."""
        if self._clock() < upload.not_before:
            return NotUploaded()  # a hundred sends find it out at once
        upload.failed += 1
        if upload.failed >= UPLOADS_TRIED:
            upload.failed = 0
            return MediaSpoilt(account.name, f"not uploaded in {UPLOADS_TRIED} tries")
        upload.not_before = self._clock() + UPLOAD_AGAIN_AFTER.total_seconds()
        return NotUploaded()

    async def _renewed(self, prepared: _Prepared, text: Text) -> bool:
        """Forget an id that Meta does not know: the next send uploads anew. False where the new one is no better."""
        if text.enclosure is None:
            return False
        account, upload = prepared.account, self._upload_of(prepared.account, text.enclosure)
        async with upload.renewing:  # a hundred sends find it out at once
            if prepared.made_at >= upload.renewed_at:
                if self._clock() - upload.renewed_at < STANDS_BACK:
                    return False
                try:
                    await self._uploads.forget(account, text.enclosure)
                except Exception as error:  # noqa: BLE001 - Meta took nothing: the words can go without their picture
                    log.warning("a picture's id is not forgotten", account=account.name, error=type(error).__name__)
                    return False
                upload.renewed_at = self._clock()
            if self._prepared.get((account.name, text)) is prepared:
                del self._prepared[account.name, text]
        return True


HELD_BACK = TemplateWithdrawn("", "Meta took it and holds it back until it has assessed the template")


def _forms(account: Account, text: Text) -> list[Form]:
    """All the ways to say a text on an account, the best first."""
    kind = _kind(text)
    if text.template is None:
        with_caption = kind is not None and len(text.body) <= LONGEST_CAPTION
        return [Form(None, media=True), Form(None)] if with_caption else [Form(None)]
    forms = [Form(text.template)]
    if kind and (under_media := account.settings.get(f"template_{kind}")):
        forms.insert(0, Form(under_media, media=True))
    if (standby := account.settings.get("standby_template")) and standby != text.template:
        forms.append(Form(standby))
    return forms


def _parts(form: Form, text: Text) -> list[str]:
    """What a form needs that may stand back: its template, and its picture."""
    return [form.template or "", *([text.enclosure.sha256] if form.media and text.enclosure else [])]


def _kind(text: Text) -> str | None:
    """ "image" or "document", where the enclosure is one that WhatsApp carries."""
    if text.enclosure is None or text.enclosure.media_type not in CARRIED:
        return None
    kind, most = CARRIED[text.enclosure.media_type]
    return kind if 0 < len(text.enclosure.content) <= most else None


def _in_template(account: Account, text: Text) -> Text | None:
    """A reply as the registered template has it, for whoever wrote more than 24 hours ago."""
    template = account.settings.get("template")
    too_long = sum(map(len, text.variables)) > LONGEST_TEMPLATE - AROUND_THE_VARIABLES
    if text.template is not None or not text.variables or template is None or too_long:
        return None
    return replace(text, template=template, language=account.settings.get("template_language", text.language))


def _whose_fault(prepared: _Prepared, rejected: BadParameter) -> Outcome | None:
    """A bad parameter is this person's where others got the text, the text's (None) where several in a row did not.

    One wrong number at the top of a list must not cost a town its alert.
    """
    doubts = rejected.doubts
    if prepared.taken:
        return Refused(Reason.NOT_REACHABLE_HERE) if doubts.may_be_the_person else Deferred(Reason.UNKNOWN_ANSWER)
    if prepared.doubted >= doubts.patience:
        return None
    prepared.doubted += 1
    return Deferred(Reason.UNKNOWN_ANSWER)


def _path(account: Account, what: str) -> str:
    number, version = account.settings.get("phone_number_id"), account.settings.get("api_version")
    if not number or not version:
        raise ChannelHalted(account.name, "its settings lack phone_number_id or api_version; complete them")
    return f"/{version}/{number}/{what}"


def _token(account: Account) -> str:
    if TOKEN.fullmatch(account.token.value) is None:
        raise ChannelHalted(account.name, "its access token is empty or has blanks in it; enter it again")
    return account.token.value


# ── what is said ────────────────────────────────────────────────────────────────────────────────────


def _head(account: Account, text: Text, form: Form, media: str | None) -> bytes:
    """The body that is the same for everybody, as far as the person. Raises TextRejected."""
    invariant: dict[str, object] = {"messaging_product": "whatsapp", "recipient_type": "individual"}
    shown = _shown(text, media) if media else None
    if form.template is not None:
        invariant |= {"type": "template", "template": _template(account, text, form.template, shown)}
    elif shown:
        kind, picture = shown
        invariant |= {"type": kind, kind: picture | {"caption": text.body}}
    else:
        words = _with_address(text.body, text, LONGEST_TEXT)
        if not 1 <= len(words) <= LONGEST_TEXT:
            raise TextRejected(
                account.name, f"it has {len(words)} characters, WhatsApp takes 1 to {LONGEST_TEXT}; shorten it"
            )
        invariant |= {"type": "text", "text": {"preview_url": False, "body": words}}
    return json.dumps(invariant, separators=(",", ":")).encode()[:-1]


def _shown(text: Text, media: str) -> tuple[str, dict[str, str]]:
    """What kind the enclosure is, and what it is called there."""
    enclosure, kind = text.enclosure, _kind(text)
    assert enclosure is not None and kind is not None
    return kind, {"id": media} | ({"filename": enclosure.name} if kind == "document" else {})


def _template(account: Account, text: Text, name: str, shown: tuple[str, dict[str, str]] | None) -> dict[str, object]:
    variables = text.variables
    if variables and not shown:
        room = LONGEST_TEMPLATE - AROUND_THE_VARIABLES - sum(map(len, variables[:-1]))
        variables = (*variables[:-1], _with_address(variables[-1], text, room, between=" "))
    if any(len(variable) > LONGEST_VARIABLE for variable in variables):
        raise TextRejected(account.name, f"a template variable exceeds {LONGEST_VARIABLE} characters; shorten it")
    template: dict[str, object] = {"name": name, "language": {"code": text.language}}
    components: list[dict[str, object]] = []
    if shown:
        kind, picture = shown
        components.append({"type": "header", "parameters": [{"type": kind, kind: picture}]})
    if variables:
        components.append({"type": "body", "parameters": _parameters(account, variables)})
    if components:
        template["components"] = components
    return template


def _parameters(account: Account, variables: tuple[str, ...]) -> list[dict[str, str]]:
    """The words of the variables, with their names where the templates have names for them."""
    words = [{"type": "text", "text": variable} for variable in variables]
    if (written := account.settings.get("template_parameters")) is None:
        return words
    names = parameter_names(written)
    if len(names) != len(words):
        raise TextRejected(
            account.name, f"template_parameters has {len(names)} names for {len(words)} variables; correct the settings"
        )
    return [{"type": "text", "parameter_name": name} | word for name, word in zip(names, words, strict=True)]


def _with_address(words: str, text: Text, most: int, *, between: str = "\n") -> str:
    """The words with the address of the picture that does not go with them, unless they have it or it does not fit."""
    url = text.enclosure.url if text.enclosure else ""
    said = (text.body, *text.variables) if text.template else (text.body,)
    if not url or any(url in one for one in said) or len(words) + len(between) + len(url) > most:
        return words
    return f"{words}{between}{url}"


def _multipart(enclosure: Attachment, boundary: str) -> bytes:
    """A file as a form has it. People read its name from the message that shows it, not from here."""
    file_name = f"{enclosure.sha256[:16]}.{enclosure.media_type.partition('/')[2]}"
    form = "".join(
        f"--{boundary}\r\nContent-Disposition: form-data; {disposition}\r\n\r\n{value}"
        for disposition, value in (
            ('name="messaging_product"', "whatsapp\r\n"),
            ('name="type"', f"{enclosure.media_type}\r\n"),
            (f'name="file"; filename="{file_name}"\r\nContent-Type: {enclosure.media_type}', ""),
        )
    )
    return form.encode() + enclosure.content + f"\r\n--{boundary}--\r\n".encode()


def _body(head: bytes, address: str, reference: str) -> bytes:
    ours = json.dumps(reference[:LONGEST_REFERENCE])
    to = "to" if address[0] == "+" else "recipient"
    return head + f',"{to}":"{address}","biz_opaque_callback_data":{ours}}}'.encode()
