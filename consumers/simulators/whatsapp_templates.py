"""The templates Meta has seen: what each takes, how it stands, and who is told when that changes."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from consumers.simulators.whatsapp_errors import Wrong

UNSET_TTL = 30 * 24 * 3600.0
"""Seconds that a text waits for a phone that is off, where the template does not say."""
PLACEHOLDER = re.compile(r"\{\{\s*(\w+)\s*\}\}")
LONGEST_BODY = 1024

Header = Literal["IMAGE", "DOCUMENT"]


class Template(BaseModel):
    """A template Meta has seen. `held`: new and unproven, so accepted and not leaving (template pacing).

    With `parameters` it calls its variables by these names, else by their numbers.
    """

    model_config = ConfigDict(extra="forbid", validate_assignment=True)

    name: str
    language: str = "it"
    variables: int = 0
    parameters: list[str] = Field(default_factory=list)
    header: Header | None = None
    category: Literal["UTILITY", "MARKETING", "AUTHENTICATION"] = "UTILITY"
    status: str = "APPROVED"
    quality: Literal["UNKNOWN", "GREEN", "YELLOW", "RED"] = "UNKNOWN"
    ttl: int | None = Field(default=None, ge=30, le=43_200)
    body: str | None = None
    held: bool = False

    @cached_property
    def names(self) -> list[str]:
        """What its variables are called, numbers or words."""
        return self.parameters or [str(number) for number in range(1, self.variables + 1)]

    @property
    def identity(self) -> str:
        return str(int(sha256(f"{self.name} {self.language}".encode()).hexdigest()[:13], 16))

    def shown(self) -> dict[str, object]:
        """As the management API lists it."""
        body = self.body or " ".join(f"{{{{{name}}}}}" for name in self.names)
        components: list[dict[str, object]] = [{"type": "BODY", "text": body}]
        if self.header:
            components.insert(0, {"type": "HEADER", "format": self.header})
        shown: dict[str, object] = {
            "name": self.name,
            "parameter_format": "NAMED" if self.parameters else "POSITIONAL",
            "components": components,
            "language": self.language,
            "status": self.status,
            "category": self.category,
            "quality_score": {"score": self.quality},
            "id": self.identity,
        }
        return shown | ({"message_send_ttl_seconds": self.ttl} if self.ttl is not None else {})


@dataclass(frozen=True, slots=True)
class Change:
    """One thing Meta will tell about a template: the field of its webhook, and the value."""

    account: str
    field: str
    value: dict[str, object]


@dataclass(frozen=True, slots=True)
class Filled:
    """A template with the words of one send, and the id of the picture or document in its header."""

    template: Template
    words: tuple[str, ...]
    media: str | None

    @property
    def text(self) -> str | None:
        if self.template.body is None:
            return None
        words = dict(zip(self.template.names, self.words, strict=True))
        return PLACEHOLDER.sub(lambda found: words.get(found[1], found[0]), self.template.body)


class Registry:
    """All templates of one business account, by name and language."""

    def __init__(self, templates: Iterable[Template]) -> None:
        self._templates = {(each.name, each.language): each for each in templates}

    def listed(self, name: str) -> list[dict[str, object]]:
        """Those whose name has this in it: Meta's filter is no exact one."""
        return [template.shown() for template in self._templates.values() if name in template.name]

    def fill(self, asked: object, has_media: Callable[[str, Header], None]) -> Filled:
        """What a send makes of a template. Raises Wrong as Meta does; so does `has_media` for an id nobody has."""
        if not isinstance(asked, dict) or not isinstance(asked.get("name"), str):
            raise Wrong(131008, "Parameter 'template.name' is missing")
        language = asked.get("language")
        code = language.get("code") if isinstance(language, dict) else None
        template = self._templates.get((asked["name"], str(code)))
        if template is None:
            raise Wrong(132001, f"template name ({asked['name']}) does not exist in {code}")
        if template.status == "PAUSED":
            raise Wrong(132015)
        if template.status != "APPROVED":
            raise Wrong(132016)
        components = asked.get("components", [])
        if not isinstance(components, list):
            raise Wrong(131009, "Parameter 'template.components' is not an array")
        words = _words(template, _parameters(components, "body"))
        media = _header(template, _parameters(components, "header"))
        if media is not None and template.header is not None:
            has_media(media, template.header)
        return Filled(template, words, media)

    def change(self, asked: dict[str, Any]) -> list[tuple[str, dict[str, object]]]:
        """Let a template stand otherwise; which webhooks say so. Raises ValueError."""
        key = (str(asked.get("name")), str(asked.get("language", "it")))
        template = self._templates.get(key)
        if template is None:
            raise ValueError(f"there is no template {key[0]} in {key[1]}")
        said: list[tuple[str, dict[str, object]]] = []
        named = {
            "message_template_id": int(template.identity),
            "message_template_name": template.name,
            "message_template_language": template.language,
        }
        for what in ("held", "ttl", "quality", "category", "status"):
            if what not in asked or (was := getattr(template, what)) == asked[what]:
                continue
            setattr(template, what, asked[what])
            match what:
                case "status":
                    said.append(("message_template_status_update", named | {"event": asked[what], "reason": "NONE"}))
                case "quality":
                    scores = {"previous_quality_score": was, "new_quality_score": asked[what]}
                    said.append(("message_template_quality_update", named | scores))
                case "category":
                    template.ttl = None  # Meta forgets it when it re-categorises
                    said.append(
                        ("template_category_update", named | {"previous_category": was, "new_category": asked[what]})
                    )
        return said


def _parameters(components: list[object], kind: str) -> list[dict[str, Any]]:
    """The parameters of the header or the body. A button may stand beside, and is not looked at."""
    for component in components:
        if isinstance(component, dict) and component.get("type") == kind:
            found = component.get("parameters")
            if isinstance(found, list):
                return [one if isinstance(one, dict) else {} for one in found]
    return []


def _words(template: Template, given: list[dict[str, Any]]) -> tuple[str, ...]:
    """The words in the template's own order. Raises Wrong."""
    names = template.names
    if len(given) != len(names):
        raise Wrong(
            132000, f"body: number of localizable_params ({len(given)}) does not match the expected ({len(names)})"
        )
    words: dict[object, str] = {}
    for number, parameter in zip(names, given, strict=True):
        name, word = parameter.get("parameter_name"), parameter.get("text")
        if parameter.get("type") != "text":
            raise Wrong(132012, "body: a parameter is not of the type text")
        if name is not None and not template.parameters:
            raise Wrong(132012, "body: the template's format is POSITIONAL, and a parameter has a name")
        if template.parameters and not name:
            raise Wrong(100, "Parameter name is missing or empty")
        if not isinstance(word, str) or not word or "\n" in word or "\t" in word or "     " in word:
            raise Wrong(132018)
        words[name or number] = word
    if template.parameters and words.keys() != set(names):
        raise Wrong(132012, f"body: the names {sorted(map(str, words))} are not those of the template")
    if sum(map(len, words.values())) > LONGEST_BODY:
        raise Wrong(132005)
    return tuple(words[name] for name in names)


def _header(template: Template, given: list[dict[str, Any]]) -> str | None:
    """The id of what the header shows. Raises Wrong where there is another thing, or nothing, or too much."""
    received = str(given[0].get("type", "")).upper() if given else "UNKNOWN"
    if (template.header is None) != (not given) or (template.header and template.header != received):
        expected = template.header or "NONE"
        raise Wrong(132012, f"header: Format mismatch, expected {expected}, received {received}")
    if template.header is None:
        return None
    shown = given[0].get(template.header.lower())
    if not isinstance(shown, dict) or not isinstance(shown.get("id"), str):
        raise Wrong(131008, f"header: {template.header.lower()}.id is missing")
    return str(shown["id"])
