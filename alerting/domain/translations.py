"""The same alert for those who do not read Italian, in a language that says its own name."""

from dataclasses import dataclass, replace

from alerting.domain.cap import Info


@dataclass(frozen=True, slots=True)
class Tongue:
    """A language in its own words: its name, and what it calls an exercise."""

    name: str
    exercise: str


TONGUES = {
    # The languages most spoken in Tuscany beside Italian, those of the neighbours, and those of its visitors.
    "ar": Tongue("العربية", "تمرين"),
    "bn": Tongue("বাংলা", "মহড়া"),
    "de": Tongue("Deutsch", "ÜBUNG"),
    "en": Tongue("English", "EXERCISE"),
    "es": Tongue("Español", "SIMULACRO"),
    "fr": Tongue("Français", "EXERCICE"),
    "nl": Tongue("Nederlands", "OEFENING"),
    "pl": Tongue("Polski", "ĆWICZENIE"),
    "pt": Tongue("Português", "EXERCÍCIO"),
    "ro": Tongue("Română", "EXERCIȚIU"),
    "ru": Tongue("Русский", "УЧЕНИЯ"),
    "sl": Tongue("Slovenščina", "VAJA"),
    "sq": Tongue("Shqip", "STËRVITJE"),
    "uk": Tongue("Українська", "НАВЧАННЯ"),
    "zh": Tongue("中文", "演习"),
}


def tongue_of(info: Info) -> Tongue:
    """How a language is named. One that we do not know is named by its code, and its exercises in English."""
    return TONGUES.get(info.tongue) or Tongue(info.language.upper(), TONGUES["en"].exercise)


@dataclass(frozen=True, slots=True)
class Translation:
    """What an operator says in another language. `language` as RFC 5646 writes it: `en`, `pt-BR`."""

    language: str
    headline: str
    description: str = ""
    instruction: str = ""


def translated(info: Info, translation: Translation) -> Info:
    """The info in another language: the same event, times and place, other words."""
    return replace(
        info,
        language=translation.language.strip(),
        headline=translation.headline.strip(),
        description=translation.description.strip(),
        instruction=translation.instruction.strip(),
    )
