"""A person as the system knows them: an address to write to and, if they said so, a place."""

import json
import re
import unicodedata
from dataclasses import dataclass
from enum import Enum

import idna
import phonenumbers
from phonenumbers import PhoneNumberType

from geo.shapes import Point


class AddressError(ValueError):
    """Nobody can be written to there. The sentence never repeats the address: it may end in a log."""


# ── telephones ──────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Phone:
    """A number in E.164 ("+393336492690"). A landline is kept and flagged: it may hear, it cannot read."""

    e164: str
    landline: bool = False

    def __repr__(self) -> str:
        return f"Phone({mask(self.e164)!r}, landline={self.landline})"


ITALY = "IT"
LONGEST_NUMBER = 40
SHORTEST_WA_ID, LONGEST_WA_ID = 7, 15
"""E.164 allows 15 digits; WhatsApp's are never shorter than 7."""

WRITTEN_AS_A_NUMBER = re.compile(r"\+?[\d\s().,/\-–]+")

NOT_A_PERSON = {
    PhoneNumberType.TOLL_FREE: "a green number",
    PhoneNumberType.PREMIUM_RATE: "a premium number",
    PhoneNumberType.SHARED_COST: "a shared-cost number",
    PhoneNumberType.UAN: "a company's universal number",
    PhoneNumberType.PAGER: "a pager",
    PhoneNumberType.VOICEMAIL: "a voicemail access",
}
"""libphonenumber's types of numbers that ring at no citizen's."""


def phone(written: str) -> Phone:
    """The number a person wrote, Italian unless it says otherwise: "333 649 26 90", "0039 0587 265442".

    Raises AddressError when it is no number, when no such number can exist, or when no person answers it.
    """
    text = "".join(c for c in unicodedata.normalize("NFKC", written) if unicodedata.category(c) != "Cf").strip()
    text = text.removeprefix("tel:")
    if len(text) > LONGEST_NUMBER or not WRITTEN_AS_A_NUMBER.fullmatch(text):
        raise AddressError("this is not a telephone number; write digits only, with + and prefix if foreign")
    try:
        number = phonenumbers.parse(text, ITALY)
    except phonenumbers.NumberParseException:
        raise AddressError("this is not a telephone number; write it with its prefix, as in +39 333 …") from None
    if not phonenumbers.is_valid_number(number):
        raise AddressError("no telephone has this number; check the digits and the prefix")
    kind = phonenumbers.number_type(number)
    if kind in NOT_A_PERSON:
        raise AddressError(f"this is {NOT_A_PERSON[kind]}, nobody reads texts there; ask for a mobile number")
    return _phone(number)


def from_wa_id(wa_id: str) -> Phone:
    """The number behind WhatsApp's `wa_id` or `from`: international digits without a plus.

    Only its shape is checked: WhatsApp knows that the number exists, and new ranges open every year.
    Raises AddressError for anything but 7 to 15 digits under a country's prefix.
    """
    digits = wa_id.removeprefix("+")
    if not (digits.isascii() and digits.isdigit() and SHORTEST_WA_ID <= len(digits) <= LONGEST_WA_ID):
        raise AddressError("this wa_id is not 7 to 15 digits; keep the webhook's body and look at it")
    try:
        # The plus matters: without it 393 336 4926 is a mobile of Italy, with it a prefix and a short number.
        number = phonenumbers.parse(f"+{digits}", None)
    except phonenumbers.NumberParseException:
        raise AddressError("this wa_id begins with no country's prefix; keep the webhook's body") from None
    return _phone(number)


def to_wa_id(e164: str) -> str:
    """An E.164 number as WhatsApp's webhooks say it: without the plus."""
    return e164.removeprefix("+")


BSUID = re.compile(r"[A-Z]{2}\.(?:ENT\.)?[A-Za-z0-9]{1,128}")
"""What Meta calls somebody who hides their number, another name for each business: "IT.1349…"."""


def _phone(number: phonenumbers.PhoneNumber) -> Phone:
    return Phone(
        phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164),
        landline=phonenumbers.number_type(number) == PhoneNumberType.FIXED_LINE,
    )


E164 = re.compile(r"\+[1-9][0-9]{6,14}")
MOBILES_OF_ITALY = "+393"
"""Nearly everybody's; libphonenumber need not look at them."""


def reads_texts(address: str) -> bool:
    """Whether a text message can be read there: a number in E.164, of a country there is, and no landline."""
    if E164.fullmatch(address) is None:
        return False
    if address.startswith(MOBILES_OF_ITALY):
        return True
    try:
        return not from_wa_id(address).landline
    except AddressError:
        return False


# ── Telegram ────────────────────────────────────────────────────────────────────────────────────────

CHANNEL_NAME = re.compile(r"@[A-Za-z][A-Za-z0-9_]{3,31}")
LARGEST_CHAT_ID = 2**52
"""Telegram: a chat id has at most 52 significant bits (core.telegram.org/bots/api, Chat.id)."""


def telegram_chat(chat: int | str) -> str:
    """A chat id as it is stored: "123456789" for a person, "-100…" for a channel, or "@comunecalcinaia".

    Raises AddressError for zero, for more than 52 bits and for a name Telegram does not allow.
    """
    text = str(chat).strip()
    if text.startswith("@"):
        if CHANNEL_NAME.fullmatch(text):
            return text
        raise AddressError("this is not a Telegram channel's name; write @ and 4 to 32 letters, digits or _")
    if not re.fullmatch(r"-?[0-9]{1,16}", text) or not 0 < abs(int(text)) < LARGEST_CHAT_ID:
        raise AddressError("this is not a Telegram chat id; it is a whole number of at most 52 bits")
    return str(int(text))


# ── e-mail ──────────────────────────────────────────────────────────────────────────────────────────

LONGEST_EMAIL = 254
"""RFC 5321, 4.5.3.1.3, as corrected by erratum 1690."""
LONGEST_MAILBOX = 64

_ATOM = r"[a-z0-9!#$%&'*+/=?^_`{|}~-]+"
_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
EMAIL = re.compile(
    rf"(?=[^@]{{1,{LONGEST_MAILBOX}}}@)(?=.{{3,{LONGEST_EMAIL}}}\Z){_ATOM}(?:\.{_ATOM})*@(?:{_LABEL}\.)+(?![0-9]+\Z){_LABEL}"
)
"""An address as it is stored. Nothing in it could end a header or an SMTP command."""


def email_address(written: str) -> str:
    """The address a person wrote, as it is stored: in small letters, its domain as DNS knows it.

    RFC 5321 lets the letters before the @ differ by their case; no provider that people have does, and whoever
    registers twice would be told twice. Raises AddressError; quoted and non-ASCII mailboxes are refused too.
    """
    text = "".join(c for c in unicodedata.normalize("NFKC", written) if unicodedata.category(c) != "Cf").strip()
    mailbox, at, domain = text.removeprefix("mailto:").rpartition("@")
    if len(text) > 2 * LONGEST_EMAIL or not (mailbox and at and domain):
        raise AddressError("this is not an e-mail address; write it as in nome@esempio.it")
    try:
        domain = idna.encode(domain, uts46=True).decode()
    except (idna.IDNAError, UnicodeError):
        raise AddressError("the domain of this e-mail address cannot exist; check what follows the @") from None
    address = f"{mailbox}@{domain}".lower()
    if len(address) > LONGEST_EMAIL:
        raise AddressError(f"this e-mail address is longer than {LONGEST_EMAIL} characters, which no server takes")
    if not EMAIL.fullmatch(address):
        raise AddressError("this is not an e-mail address; write letters without accents, one @ and a domain")
    return address


# ── what is the same address ────────────────────────────────────────────────────────────────────────


def known_by(address: str) -> str:
    """What an address is found again by: a push subscription by its endpoint, for its keys may change."""
    return str(json.loads(address)["endpoint"]) if address.startswith("{") else address


# ── what a screen may show ──────────────────────────────────────────────────────────────────────────


def mask(address: str) -> str:
    """An address that says nothing about anybody: "+39 … 90", "… 89", "@… ia", "…@…". Never raises."""
    text = address.strip()
    if len(text) < 7 or text.startswith("{"):  # two characters of so few would be telling
        return "…"
    if text.startswith("@"):
        return f"@… {text[-2:]}"
    if "@" in text:
        return "…@…"
    if not text.startswith("+"):
        return f"… {text[-2:]}"
    try:
        return f"+{phonenumbers.parse(text, None).country_code} … {text[-2:]}"
    except phonenumbers.NumberParseException:
        return f"… {text[-2:]}"


# ── places ──────────────────────────────────────────────────────────────────────────────────────────


class Precision(Enum):
    """How exactly a person said where they are. The more they say, the better the geofence fits."""

    NONE = "none"
    """Nothing said: they are told of everything in their comune."""
    COMUNE = "comune"
    FRAZIONE = "frazione"
    ADDRESS = "address"

    def __str__(self) -> str:
        return self.value


class Label(Enum):
    """Which of a person's places it is. One of each: to name another one is to correct it."""

    CASA = "casa"
    LAVORO = "lavoro"
    GENITORI = "genitori"
    SCUOLA = "scuola"
    ALTRO = "altro"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True, slots=True)
class Place:
    """Where a person wants to be told about: a point, codes of areas ("calcinaia.fornacette"), or nothing.

    Raises ValueError when the precision promises what is not there.
    """

    precision: Precision
    areas: tuple[str, ...] = ()
    point: Point | None = None
    label: Label = Label.CASA

    def __post_init__(self) -> None:
        match self.precision:
            case Precision.NONE:
                kept = not self.areas and self.point is None
            case Precision.COMUNE | Precision.FRAZIONE:
                kept = bool(self.areas)
            case Precision.ADDRESS:
                kept = self.point is not None
        if not kept:
            raise ValueError(f"a place of precision {self.precision} needs {NEEDS[self.precision]}")


NEEDS = {
    Precision.NONE: "neither areas nor a point",
    Precision.COMUNE: "the code of at least one area",
    Precision.FRAZIONE: "the code of at least one area",
    Precision.ADDRESS: "a point",
}

NOWHERE = Place(Precision.NONE)
"""The place of whoever has not said where they live."""
