"""Every rule a CAP document can break, and how much each matters. `python -m alerting cap rules` shows this table."""

from enum import Enum

from alerting.domain.findings import Finding, Weight

ERROR, WARNING, NOTE = Weight.ERROR, Weight.WARNING, Weight.NOTE


class Rule(Enum):
    """One rule: how much it matters, and what it asks for.

    Its id is its name in small letters. The rules are those of the OASIS schemas and of their prose (CAP 1.2 of 1 July
    2010, CAP 1.1 of October 2005, CAP 1.0 of March 2004), what public validators add, and the bounds of this reader.
    """

    # the bytes
    EMPTY = ERROR, "A document holds something."
    TOO_LARGE = ERROR, "A document has at most 5 MB, a feed 20 MB."
    COMPRESSED = ERROR, "A document is handed in as XML, not packed."
    ENCODING = ERROR, "The bytes are what the declared encoding, the byte order mark, or else UTF-8 says."
    DOCTYPE = ERROR, "There is no document type declaration: it could name entities and files."
    XML_MALFORMED = ERROR, "The document is well-formed XML."
    TOO_DEEP = ERROR, "Elements are nested at most 32 deep."
    ELEMENTS_TOO_MANY = ERROR, "A document has at most 100,000 elements, a feed 200,000."
    NOT_CAP = ERROR, "The outermost element is a CAP alert."
    NAMESPACE_UNKNOWN = ERROR, "The namespace is that of CAP 1.2, 1.1 or 1.0."
    # the structure
    ELEMENT_UNKNOWN = ERROR, "Only elements of this version of CAP are used, each in its place."
    ELEMENT_ORDER = ERROR, "Elements come in the order of the standard."
    ELEMENT_REPEATED = ERROR, "What may be said once is said once."
    ELEMENT_MISSING = ERROR, "What must be said is said."
    TEXT_MISPLACED = ERROR, "There is no text between elements."
    ATTRIBUTE_UNKNOWN = ERROR, "Elements have no attributes but those that point to a schema."
    INFOS_TOO_MANY = ERROR, "A document has at most 200 info blocks."
    AREAS_TOO_MANY = ERROR, "A document has at most 5,000 areas."
    # the types of values
    VALUE_UNKNOWN = ERROR, "A value from a list is written exactly as the list has it."
    TIME_MALFORMED = ERROR, "A time exists, and is written 2026-11-21T09:00:00+01:00."
    TIME_ZULU = ERROR, "A time gives its offset in numbers, never Z."
    TIME_NAIVE = ERROR, "A time gives its offset from UTC."
    TIME_FRACTION = ERROR, "A time has whole seconds."
    TIME_LOOSE = (
        WARNING,
        "A time of CAP 1.0 is better written as 1.2 asks, with an offset in numbers and whole seconds.",
    )
    TIME_PLUS_ZERO = WARNING, "UTC is written -00:00."
    LANGUAGE_MALFORMED = ERROR, "A language is a code such as it-IT."
    URI_MALFORMED = ERROR, "An address is a URI."
    URI_SPACES = WARNING, "An address has no spaces."
    INTEGER_MALFORMED = ERROR, "A size is a whole number."
    DECIMAL_MALFORMED = ERROR, "An altitude is a decimal number."
    # the message
    IDENTIFIER_EMPTY = ERROR, "A message has an identifier and a sender."
    IDENTIFIER_CHARACTERS = ERROR, "An identifier and a sender have no space, comma, < or &."
    IDENTIFIER_PADDED = WARNING, "There is no white space around an identifier or a sender."
    REFERENCES_MISSING = ERROR, "An Update, Cancel, Ack or Error names the messages it is about."
    REFERENCES_EMPTY = WARNING, "Where there are no references, there is no references element."
    REFERENCE_MALFORMED = ERROR, "A reference is sender,identifier,sent."
    REFERENCE_TIME = WARNING, "The time in a reference is written as in the message it names."
    REFERENCE_SELF = ERROR, "A message does not refer to itself, and each message has an identifier of its own."
    REFERENCE_POSTDATED = ERROR, "A message refers to earlier ones only."
    REFERENCES_TOO_MANY = ERROR, "A message refers to at most 1,000 others."
    REFERENCE_REPEATED = WARNING, "A message is referred to once."
    RESTRICTION_MISSING = ERROR, "A Restricted message says what the restriction is."
    RESTRICTION_UNUSED = WARNING, "Only a Restricted message has a restriction."
    ADDRESSES_MISSING = ERROR, "A Private message names its addressees."
    QUOTES_OPEN = WARNING, "A quotation mark that opens in a list also closes."
    EXERCISE_WITHOUT_NOTE = WARNING, "An exercise is named in the note."
    ERROR_WITHOUT_NOTE = WARNING, "An Error says in the note what was wrong."
    PASSWORD = WARNING, "No password travels in a message."
    INFO_MISSING = WARNING, "An Alert or Update has an info block."
    STATUS_NOT_ACTUAL = NOTE, "Only Actual messages are for the public."
    SIGNED = NOTE, "A signature is carried along; whether it is good is asked elsewhere."
    # what is said
    LANGUAGE_MISSING = WARNING, "An info says its language: without one it counts as en-US."
    EVENT_EMPTY = WARNING, "The event has a name."
    HEADLINE_LONG = WARNING, "A headline has at most 160 characters."
    HEADLINE_MISSING = NOTE, "An info has a headline."
    DESCRIPTION_MISSING = NOTE, "An info describes what happens."
    INSTRUCTION_MISSING = NOTE, "An info tells what to do."
    HTML_IN_TEXT = WARNING, "Texts are plain, without markup."
    SAME_TEXT_IN_TWO_LANGUAGES = WARNING, "A text is translated, not repeated, under another language."
    EXPIRES_MISSING = WARNING, "An info says until when it holds."
    EXPIRES_BEFORE_START = ERROR, "An info does not end before its effective time or its onset."
    EXPIRES_PAST = WARNING, "A message is sent before it expires."
    EXPIRES_FAR = WARNING, "An info ends within a week of its sending or its onset."
    WEB_EMPTY = WARNING, "Where there is no web address, there is no web element."
    WEB_RELATIVE = ERROR, "The web address is whole, as https://…"
    CATEGORIES_DIFFER = NOTE, "The info blocks of one event have the same categories."
    EVENT_CODES_DIFFER = NOTE, "The info blocks of one event have the same event codes."
    VALUE_NAMELESS = WARNING, "A parameter, event code or geocode has a name."
    # resources
    MIME_TYPE_MALFORMED = WARNING, "A MIME type is written type/subtype."
    RESOURCE_EMPTY = WARNING, "A resource has an address or its bytes."
    RESOURCE_URI_RELATIVE = WARNING, "A resource without its bytes has a whole address."
    RESOURCE_BASE64 = WARNING, "The bytes of a resource are base64."
    RESOURCE_DIGEST = WARNING, "The digest is the SHA-1 of the resource, in hexadecimal."
    SIZE_NEGATIVE = WARNING, "A size is not negative."
    # the place
    AREA_MISSING = WARNING, "An info of an Alert or Update has an area."
    AREA_DESC_EMPTY = WARNING, "An area has a name."
    AREA_NAME_ONLY = WARNING, "An area is drawn or has a geocode, beside its name."
    GEOCODE_ONLY = WARNING, "An area with a geocode is drawn as well."
    GEOMETRY_NOT_IN_EVERY_INFO = WARNING, "Where one info draws its place, the others do too."
    POLYGON_EMPTY = WARNING, "Where there is no polygon, there is no polygon element."
    POLYGON_MALFORMED = ERROR, "A polygon is lat,lon lat,lon … with decimal points and spaces between the pairs."
    POLYGON_FEW = ERROR, "A polygon has at least four pairs."
    POLYGON_OPEN = ERROR, "The last pair of a polygon is the first again."
    POLYGON_CROSSING = WARNING, "A polygon does not cross itself; it is repaired."
    POLYGON_TANGLED = ERROR, "A polygon crosses itself so little that it can be repaired."
    POLYGON_FLAT = WARNING, "A polygon encloses something; one that does not is left out."
    POLYGON_WIDE = WARNING, "A polygon spans less than 180°; one that spans more is left out."
    CIRCLE_MALFORMED = ERROR, "A circle is lat,lon radius, the radius in kilometres after a space."
    CIRCLE_RADIUS = ERROR, "A radius is not negative."
    CIRCLE_ZERO = WARNING, "A radius is more than 0; a circle of 0 is left out."
    CIRCLE_LARGE = WARNING, "A circle has at most 500 km and keeps off the poles; a larger one is left out."
    LATITUDE_RANGE = ERROR, "Latitudes are between -90 and 90."
    LONGITUDE_RANGE = WARNING, "Longitudes are between -180 and 180; a shape beyond is left out."
    COORDINATES_EXCHANGED = (
        WARNING,
        "Latitude comes first: a place that would be in Italy the other way round is doubted.",
    )
    VERTICES_MANY = WARNING, "A document has at most 10,000 vertices; beyond, its outlines are simplified."
    VERTICES_TOO_MANY = ERROR, "No document has more than 60,000 vertices, or outlines that cannot be simplified."
    CEILING_WITHOUT_ALTITUDE = ERROR, "A ceiling comes with an altitude."
    CEILING_BELOW_ALTITUDE = WARNING, "A ceiling is above its altitude."
    ALTITUDE_NOT_A_NUMBER = WARNING, "An altitude is a number of feet; others are left out."
    # envelopes
    ENVELOPE = NOTE, "A feed or a distribution is looked into; each message in it is checked by itself."
    ENVELOPE_LINKS_ONLY = NOTE, "A feed of links holds no CAP message: fetch what they point to."
    ENVELOPE_TOO_MANY = WARNING, "At most 1,000 messages and 10,000 links of a feed are read."

    @property
    def id(self) -> str:
        """As findings carry it: `polygon-open`."""
        return self.name.lower().replace("_", "-")

    @property
    def weight(self) -> Weight:
        return self.value[0]

    @property
    def sentence(self) -> str:
        """What the rule asks for."""
        return self.value[1]


MOST_OF_A_RULE = 20
"""A document wrong in the same way a thousand times says so twenty times, and how often more."""


class Report:
    """What was found so far in one document."""

    def __init__(self) -> None:
        self._findings: list[Finding] = []
        self._told: dict[Rule, int] = {}

    def add(self, rule: Rule, line: int | None, text: str) -> None:
        told = self._told[rule] = self._told.get(rule, 0) + 1
        if told <= MOST_OF_A_RULE:
            self._findings.append(Finding(rule.id, rule.weight, line, text))

    def has(self, rule: Rule) -> bool:
        return rule in self._told

    def findings(self) -> tuple[Finding, ...]:
        """From the first line to the last; what is about no line at the end."""
        more = [
            Finding(rule.id, rule.weight, None, f"and {told - MOST_OF_A_RULE:,} more of this kind")
            for rule, told in self._told.items()
            if told > MOST_OF_A_RULE
        ]
        self._findings.sort(key=_place)
        return (*self._findings, *more)


def _place(finding: Finding) -> float:
    return float("inf") if finding.line is None else finding.line
