"""Which elements CAP 1.2, 1.1 and 1.0 have, in which order, how often and of which type: facts, as tables."""

from dataclasses import dataclass
from enum import Enum

NAMESPACES = {
    "urn:oasis:names:tc:emergency:cap:1.2": "1.2",
    "urn:oasis:names:tc:emergency:cap:1.1": "1.1",
    "http://www.incident.com/cap/1.0": "1.0",
}
SIGNATURE = "http://www.w3.org/2000/09/xmldsig#"


class Kind(Enum):
    """The type of an element that holds a value."""

    TEXT = "text"
    TIME = "time"
    LANGUAGE = "language"
    URI = "URI"
    INTEGER = "whole number"
    DECIMAL = "decimal number"


@dataclass(frozen=True, slots=True)
class Part:
    """One element of a block: where it comes, how often, and what it holds.

    `holds` is a kind, the words of an enumeration, or the name of a block.
    """

    name: str
    position: int
    required: bool
    many: bool
    holds: Kind | tuple[str, ...] | str


Grammar = dict[str, tuple[Part, ...]]
"""Of each block, its parts in order."""

_PAIR = "valueName! value!"

# ! once, ? at most once, + at least once, * as often as one likes
_ORDER = {
    "1.2": {
        "alert": "identifier! sender! sent! status! msgType! source? scope! restriction? addresses? code* note?"
        " references? incidents? info*",
        "info": "language? category+ event! responseType* urgency! severity! certainty! audience? eventCode* effective?"
        " onset? expires? senderName? headline? description? instruction? web? contact? parameter* resource* area*",
        "resource": "resourceDesc! mimeType! size? uri? derefUri? digest?",
        "area": "areaDesc! polygon* circle* geocode* altitude? ceiling?",
        "eventCode": _PAIR,
        "parameter": _PAIR,
        "geocode": _PAIR,
    },
    "1.1": {
        "alert": "identifier! sender! sent! status! msgType! source? scope! restriction? addresses? code* note?"
        " references? incidents? info*",
        "info": "language? category+ event! responseType* urgency! severity! certainty! audience? eventCode* effective?"
        " onset? expires? senderName? headline? description? instruction? web? contact? parameter* resource* area*",
        "resource": "resourceDesc! mimeType? size? uri? derefUri? digest?",
        "area": "areaDesc! polygon* circle* geocode* altitude? ceiling?",
        "eventCode": _PAIR,
        "parameter": _PAIR,
        "geocode": _PAIR,
    },
    "1.0": {
        "alert": "identifier! sender! sent! status! msgType! password? source? scope? restriction? addresses? code*"
        " note? references? incidents? info*",
        "info": "language? category* event! urgency! severity! certainty! audience? eventCode* effective? onset?"
        " expires? senderName? headline? description? instruction? web? contact? parameter* resource* area*",
        "resource": "resourceDesc! mimeType? size? uri? digest?",
        "area": "areaDesc! polygon* circle* geocode* altitude? ceiling?",
    },
}

_WORDS = {
    "status": "Actual Exercise System Test Draft",
    "msgType": "Alert Update Cancel Ack Error",
    "scope": "Public Restricted Private",
    "category": "Geo Met Safety Security Rescue Fire Health Env Transport Infra CBRNE Other",
    "responseType": "Shelter Evacuate Prepare Execute Avoid Monitor Assess AllClear None",
    "urgency": "Immediate Expected Future Past Unknown",
    "severity": "Extreme Severe Moderate Minor Unknown",
    "certainty": "Observed Likely Possible Unlikely Unknown",
}

_TYPES: dict[str, dict[str, Kind | tuple[str, ...]]] = {
    "1.2": {
        **{name: tuple(words.split()) for name, words in _WORDS.items()},
        **dict.fromkeys(("sent", "effective", "onset", "expires"), Kind.TIME),
        "language": Kind.LANGUAGE,
        "web": Kind.URI,
        "uri": Kind.URI,
        "size": Kind.INTEGER,
        "altitude": Kind.DECIMAL,
        "ceiling": Kind.DECIMAL,
    }
}
_TYPES["1.1"] = _TYPES["1.2"] | {
    "responseType": ("Shelter", "Evacuate", "Prepare", "Execute", "Monitor", "Assess", "None"),
    "altitude": Kind.TEXT,
    "ceiling": Kind.TEXT,
}
_TYPES["1.0"] = _TYPES["1.1"] | {
    "status": ("Actual", "Exercise", "System", "Test"),
    "category": ("Geo", "Met", "Safety", "Security", "Rescue", "Fire", "Health", "Env", "Transport", "Infra", "Other"),
    "certainty": ("Very Likely", "Likely", "Possible", "Unlikely", "Unknown"),
}


def _parts(version: str, block: str) -> tuple[Part, ...]:
    blocks, types = _ORDER[version], _TYPES[version]
    parts = []
    for position, word in enumerate(blocks[block].split()):
        name, times = word[:-1], word[-1]
        holds = name if name in blocks else types.get(name, Kind.TEXT)
        parts.append(Part(name, position, times in "!+", times in "+*", holds))
    return tuple(parts)


GRAMMARS: dict[str, Grammar] = {
    version: {block: _parts(version, block) for block in blocks} for version, blocks in _ORDER.items()
}
