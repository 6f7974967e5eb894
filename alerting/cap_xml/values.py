"""What one value says by itself: a time, a language, an address, a number, a list; exact as the schema's types are."""

import math
import re
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import NamedTuple

SPACE = " \t\r\n"
"""What XML holds to be white space: less than Python does."""


class Form(Enum):
    """How a time is written."""

    CAP = "as CAP 1.2 asks"
    ZULU = "with Z"
    NAIVE = "without an offset"
    FRACTION = "with a fraction of a second"


class Time(NamedTuple):
    """A time as it was read. One without an offset is taken to be UTC, for lack of better."""

    at: datetime
    form: Form
    plus_zero: bool


_CAP_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}[+-][0-9]{2}:[0-9]{2}")
_DATE_TIME = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2}T)([0-9]{2}):([0-9]{2}:[0-9]{2})(\.[0-9]+)?(Z|[+-][0-9]{2}:[0-9]{2})?"
)
_MOST_OFFSET = timedelta(hours=14)  # of xs:dateTime


def read_time(text: str) -> Time | None:
    """An xs:dateTime of the years 1 to 9999; None for anything else."""
    text = text.strip(SPACE)
    try:
        if _CAP_TIME.fullmatch(text) and text[11:13] != "24":
            return _within(Time(datetime.fromisoformat(text), Form.CAP, text.endswith("+00:00")))
        if found := _DATE_TIME.fullmatch(text):
            return _within(_loose(*found.groups()))
    except (ValueError, OverflowError):  # the 30th of February; midnight after the last day there is
        return None
    return None


def _loose(day: str, hour: str, minutes: str, fraction: str | None, offset: str | None) -> Time:
    midnight = hour == "24"
    if midnight and (minutes != "00:00" or (fraction or "").strip(".0")):
        raise ValueError("24:00:00 is the last moment of a day")
    zone = "+00:00" if offset in (None, "Z") else offset
    at = datetime.fromisoformat(f"{day}{'00' if midnight else hour}:{minutes}{zone}") + timedelta(days=midnight)
    if offset is None:
        form = Form.NAIVE
    elif offset == "Z":
        form = Form.ZULU
    else:
        form = Form.FRACTION if fraction else Form.CAP
    return Time(at, form, offset == "+00:00")


def _within(time: Time) -> Time | None:
    offset = time.at.utcoffset() or timedelta()
    # The last and the first hours there are cannot be told in every zone.
    time.at.astimezone(UTC)
    return time if abs(offset) <= _MOST_OFFSET else None


_LANGUAGE = re.compile(r"[a-zA-Z]{1,8}(-[a-zA-Z0-9]{1,8})*")


def is_language(text: str) -> bool:
    """xs:language, as it-IT. Empty counts as not said."""
    text = text.strip(SPACE)
    return not text or _LANGUAGE.fullmatch(text) is not None


_ODD = re.compile(r"[\x00-\x20\x7f-\U0010ffff<>\"{}|\\^`]")  # XLink escapes these before it looks
_P = r"(?:[A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2})"
_SEGMENT_WITHOUT_COLON = r"(?:[A-Za-z0-9._~!$&'()*+,;=@-]|%[0-9A-Fa-f]{2})"
_AUTHORITY = (
    r"(?:(?:[A-Za-z0-9._~!$&'()*+,;=:-]|%[0-9A-Fa-f]{2})*@)?"
    r"(?:\[[0-9A-Fa-fvV:.]+\]|(?:[A-Za-z0-9._~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})*)(?::[0-9]{1,5})?"
)
_TAIL = rf"(?:\?(?:{_P}|[/?])*)?(?:#(?:{_P}|[/?\[\]])*)?"
_URI = re.compile(
    rf"(?:[A-Za-z][A-Za-z0-9+.-]*:(?://{_AUTHORITY}(?:/{_P}*)*|/(?:{_P}+(?:/{_P}*)*)?|{_P}+(?:/{_P}*)*)?"
    rf"|//{_AUTHORITY}(?:/{_P}*)*|/(?:{_P}+(?:/{_P}*)*)?|{_SEGMENT_WITHOUT_COLON}+(?:/{_P}*)*|)"
    rf"{_TAIL}"
)
_ABSOLUTE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:.")


def is_uri(text: str) -> bool:
    """A URI reference (RFC 3986), with spaces, other alphabets and marks escaped first, as xs:anyURI allows."""
    return _URI.fullmatch(_ODD.sub("_", text.strip(SPACE))) is not None


def is_absolute(text: str) -> bool:
    """Whether the address is whole: it begins with a scheme."""
    return _ABSOLUTE.match(text.strip(SPACE)) is not None


_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")
_DECIMAL = re.compile(r"[+-]?([0-9]{1,18}(\.[0-9]{0,18})?|\.[0-9]{1,18})")


def read_integer(text: str) -> int | None:
    """Of at most 18 digits."""
    text = text.strip(SPACE)
    return int(text) if _INTEGER.fullmatch(text) else None


def read_decimal(text: str) -> float | None:
    """Of at most 18 digits before and after the point."""
    text = text.strip(SPACE)
    if not _DECIMAL.fullmatch(text):
        return None
    number = float(text)
    return number if math.isfinite(number) else None


_LISTED = re.compile(r'"([^"]*)"|([^\s"]+)|(")')


def read_list(text: str) -> tuple[tuple[str, ...], bool]:
    """Words parted by white space, those with spaces between double quotes; and whether every quote closes."""
    words, whole = [], True
    for found in _LISTED.finditer(text):
        word = (found[1] or found[2] or "").strip()
        whole = whole and found[3] is None
        if word:
            words.append(word)
    return tuple(words), whole
