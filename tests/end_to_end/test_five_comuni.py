"""Each of the five services as its press text promises it, from the first word to the last, on a telephone."""

from dataclasses import dataclass

import pytest

from alerting.domain.delivery import Channel
from alerting.domain.recipients import known_by
from alerting.sealing import Seal
from consumers.local.stack import fetch
from tests.end_to_end.town import Town
from tests.end_to_end.verdict import _rows as rows


@dataclass(frozen=True)
class Press:
    """What a comune has printed, and how people type it. `answers` is what whoever asks something must read."""

    join: str
    leave: str
    ways: tuple[str, ...]
    leaves: tuple[str, ...]
    asks: str
    answers: tuple[str, ...]
    alone: bool = False
    """Whether the number answers by itself that nobody reads it."""


PRESS = {
    "fucecchio": Press(
        join="ISCRIZIONE",
        leave="CANCELLAZIONE",
        ways=(
            "Iscrizione",
            "iscrizione.",
            "iscrizzione",
            "Buongiorno, iscrizione. Grazie mille!",
            "ISCRIZIONE 👍🏻",
            "«ISCRIZIONE»",
            "Iscrizione Mario Rossi",
            "iscri\u200bzione",
            "Iscrivimi",
            "I S C R I Z I O N E",
        ),
        leaves=("cancellazione", "Cancellazione, grazie", "CANCELAZIONE"),
        asks="Nel parco Corsini manca un lampione, a chi lo dico?",
        answers=("0571 268268", "segnalazioni@comune.fucecchio.fi.it"),
        alone=True,
    ),
    "bientina": Press(
        join="ATTIVA",
        leave="DISATTIVA",
        ways=(
            "Attiva",
            "attiva",
            "“ATTIVA”",
            "ATTIVA!!!",
            "\u202bATTIVA\u202c",
            "Attiva il servizio",
            "attivami",
            "ATTIVA Anna De Rossi",
            "Attivà ✅",
            "Salve attiva per favore",
        ),
        leaves=("Disattiva", "“DISATTIVA”", "disattiva 🙏"),
        asks="Avete riaperto la via del Monte?",
        answers=("0587 758456",),
        alone=True,
    ),
    "cascina": Press(
        join="Iscrizione",
        leave="Cancellazione",
        ways=(
            "ISCRIZIONE",
            "iscrizione",
            "Iscrizione.",
            "iscrizone",
            "iscriziòne",
            "Iscrizione servizio WhatsApp",
            "iscrivetemi per favore",
            "Buonasera, iscrizione",
            "iscrizione iscrizione",
            "👉 Iscrizione 👈",
        ),
        leaves=("CANCELLAZIONE", "cancellazione!", "Cancellazzione"),
        asks="A che ora apre l'anagrafe?",
        answers=("800 017728",),
        alone=True,
    ),
    "santa-fiora": Press(
        join="ATTIVA COMUNE AMICO",
        leave="DISATTIVA COMUNE AMICO",
        ways=(
            "Attiva comune amico",
            "attivacomuneamico",
            "ATTIVA  COMUNE\nAMICO",
            "attiva “comune amico”",
            "Attiva Comune Amico!",
            "attiva-comune-amico",
            "ativa comune amico",
            "Buonasera, attiva comune amico. Grazie",
            "ATTIVA COMUNE AMICO Lucia Bianchi",
            "ATTIVA COMUNE AMICO ❤️",
        ),
        leaves=("disattiva comune amico", "DISATTIVA COMUNE AMICO, grazie", "Disattivacomuneamico"),
        asks="C'è una buca profonda in via Carolina, davanti alla scuola",
        answers=(),
    ),
    "calcinaia": Press(
        join="Attiva",
        leave="Disattiva",
        ways=(
            "ATTIVA",
            "attiva",
            "attiva.",
            "'Attiva'",
            "Attiva, grazie",
            "Attiva 😊",
            "attiva comune di Calcinaia",
            "Attivami",
            "ATTIVA Giovanni Lo Conte",
            "A\u0300TTIVA",
        ),
        leaves=("DISATTIVA", "disattiva...", "Disattiva\u200f"),
        asks="Domani passa la plastica?",
        answers=("0587 265442", "ufficio.stampa@comune.calcinaia.pi.it"),
        alone=True,
    ),
}

NEWS = {
    "interruzione-idrica": ("Rottura dell'acquedotto in centro", {}),
    "chiusura-strada": ("Provinciale chiusa, deviazione", {"description": "Frana. Si passa dalla via vecchia."}),
    "evento": ("Domenica il mercato in piazza", {"description": "Dalle 10 alle 19."}),
}
"""What the press texts say will be sent, and in which order it is."""


@pytest.mark.parametrize("comune", PRESS)
def test_a_comunes_service_runs_as_its_press_text_says(town: Town, comune: str) -> None:
    press, authority = PRESS[comune], town.stack.authorities[comune]
    words = (press.join, *press.ways)
    people = [f"+39349{list(PRESS).index(comune)}{way:02d}0001" for way in range(len(words))]

    # Joining, as printed and as typed: a confirmation with the policy, and how to leave.
    for number, typed in zip(people, words, strict=True):
        town.writes(number, typed, comune)
    town.until(lambda: all(town.telephone(number) for number in people))
    for number, typed in zip(people, words, strict=True):
        assert town.telephone(number) == [authority.texts.welcome], typed
    assert authority.policy.url in authority.texts.welcome and press.leave in authority.texts.welcome
    assert press.join.casefold() == authority.keywords.join.casefold()

    # What the comune sends is on every telephone, once, in its order.
    for kind, (headline, more) in NEWS.items():
        alert, _ = town.issue(f"{headline} ({comune})", [comune], authority=comune, kind=kind, **more)
        town.delivered(alert)
    for number, typed in zip(people, words, strict=True):
        _, *news = town.telephone(number)
        assert [headline for headline, _ in NEWS.values() if any(headline in text for text in news)] == [
            headline for headline, _ in NEWS.values()
        ], typed
        assert len(news) == len(NEWS) and all(authority.name in text for text in news)

    # A question is answered in the comune's own way, and changes nothing.
    asking = people[0]
    town.writes(asking, press.asks, comune)
    town.until(lambda: len(town.telephone(asking)) == 2 + len(NEWS))
    answer = town.telephone(asking)[-1]
    assert all(contact in answer for contact in press.answers)
    if authority.desk is None:
        assert answer == authority.texts.not_read
    else:
        assert "è la segnalazione n. " in answer and "buche e strade" in answer
    assert authority.two_way is not press.alone

    # Leaving, as printed and as typed: a goodbye, and nothing of them is left to be told to.
    leaving = dict(zip(people, (press.leave, *press.leaves, "STOP"), strict=False))
    for number, typed in leaving.items():
        town.writes(number, typed, comune)
    town.until(lambda: all(town.telephone(number)[-1] == authority.texts.goodbye for number in leaving))
    before = {number: len(town.telephone(number)) for number in people}
    later, _ = town.issue(f"Acqua tornata ({comune})", [comune], authority=comune, kind="avviso")
    town.delivered(later)
    for number in people:
        assert len(town.telephone(number)) - before[number] == (number not in leaving)
    assert known(town, comune, people) == set(people) - set(leaving)


def test_calcinaias_channel_on_telegram_is_told_what_whatsapp_is(town: Town) -> None:
    alert, _ = town.issue("Senz'acqua a Fornacette fino alle 18", ["fornacette"])
    town.delivered(alert)
    posts = fetch(f"{town.stack.telegram_url}/__sim/received").decode()
    assert "Senz'acqua a Fornacette fino alle 18" in posts and "@comunecalcinaia" in posts


def known(town: Town, comune: str, people: list[str]) -> set[str]:
    """Whose address is still in the database, under whatever seal."""
    access = town.stack.authorities[comune].channel(Channel.WHATSAPP)
    assert access is not None
    seal = Seal(bytes.fromhex(town.stack.environment["ALERTING_KEY"]))
    there = {
        (account, bytes(fingerprint))
        for account, fingerprint in rows(
            town.stack.database, "SELECT account, fingerprint FROM addresses WHERE fingerprint IS NOT NULL"
        )
    }
    return {number for number in people if (access.name, seal.fingerprint(known_by(number))) in there}
