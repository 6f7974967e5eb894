"""What a careful officer would have sent: real bulletins, and the exact list of texts for each of the five comuni."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from alerting import authorities
from alerting.domain.kinds import Colour, Risk
from alerting.domain.outlook import Outlook, Trend, change
from alerting.domain.outlook_words import words
from alerting.domain.rendering import ROME
from alerting.feeds import dpc
from tests.unit import dpc_archives as made

DATA = Path(__file__).parents[2].parent / "shared/data"

Sent = tuple[datetime, str, Trend, str]
"""When, in which comune, what it was to those who knew, and its headline."""

ZONES = {code: authority.warning_zones for code, authority in authorities.load(None).items()}
ON_THE_ARNO = ("bientina", "calcinaia", "cascina", "fucecchio")


def play(
    bulletins: Iterable[dpc.Bulletin], zones: dict[str, tuple[str, ...]], late: timedelta = timedelta()
) -> list[Sent]:
    """Each bulletin as it comes: what each comune is told, which from then on is what it knows."""
    told: dict[str, Outlook] = dict.fromkeys(zones, ())
    sent: list[Sent] = []
    last: dpc.Bulletin | None = None
    for bulletin in bulletins:
        if not dpc.newer(last, bulletin):
            continue
        last, now = bulletin, bulletin.issued + late
        for comune in sorted(zones):
            holds = dpc.holds(bulletin, zones[comune], told[comune], now)
            if holds is None:
                continue
            trend = change(told[comune], holds, now)
            if trend is None:
                continue
            sent.append((now, comune, trend, words(trend, holds, told[comune], now).headline))
            told[comune] = holds
    return sent


def archived(stamp: str) -> dpc.Bulletin:
    path = DATA / f"dpc/{stamp}_all.zip"
    if not path.exists():
        pytest.skip(f"{path} is not here")
    return dpc.read_archive(path.read_bytes())


def republished(stamp: str) -> dpc.Bulletin:
    paths = [DATA / f"dpc_csv/{stamp}_{day}-zone.csv" for day in ("oggi", "domani")]
    if not all(path.exists() for path in paths):
        pytest.skip(f"{paths[0]} is not here")
    return dpc.read_tables(*(path.read_text() for path in paths))


def at(year: int, month: int, day: int, hour: int, minute: int, second: int = 0) -> datetime:
    return datetime(year, month, day, hour, minute, second, tzinfo=ROME)


def test_the_five_comuni_lie_where_the_reference_says() -> None:
    assert dict.fromkeys(ON_THE_ARNO, ("Tosc-A4",)) | {"santa-fiora": ("Tosc-F1",)} == ZONES


# ── two real archives, and August 2026: nothing for us ──────────────────────────────────────────────


def test_on_quiet_days_nobody_hears_anything() -> None:
    bulletins = [archived("20260118_1515"), archived("20260730_1511"), republished("20260808T1357")]
    for bulletin in bulletins:
        assert bulletin.zones["Tosc-A4"] == bulletin.zones["Tosc-F1"] == (), "green, which is not the same as unknown"
    assert play(bulletins, ZONES) == []


HEARD_ELSEWHERE: list[Sent] = [
    (
        at(2026, 1, 18, 15, 15),
        "cagliari",
        Trend.NEW,
        "Allerta rossa per frane e allagamenti da fossi e torrenti dalle 00:00 di lunedì 19 gennaio",
    ),
    (
        at(2026, 1, 18, 15, 15),
        "reggio",
        Trend.NEW,
        "Allerta arancione per piena di fiumi e canali, per frane e allagamenti da fossi e torrenti e per "
        "temporali forti",
    ),
    (
        at(2026, 7, 30, 15, 11),
        "bolzano",
        Trend.NEW,
        "Allerta gialla per temporali forti dalle 00:00 di venerdì 31 luglio",
    ),
    (
        at(2026, 8, 8, 13, 57, 59),
        "reggio",
        Trend.NEW,
        "Allerta gialla per piena di fiumi e canali, per frane e allagamenti da fossi e torrenti e per temporali forti",
    ),
]
ELSEWHERE = {"cagliari": ("Sard-B",), "reggio": ("Cala-7", "Cala-8"), "bolzano": ("Tren-A",)}


def test_the_same_days_were_not_quiet_elsewhere() -> None:
    """So that the empty list above means something: Cagliari, Reggio Calabria and Bolzano, through the same loop."""
    bulletins = [archived("20260118_1515"), archived("20260730_1511"), republished("20260808T1357")]
    assert play(bulletins, ELSEWHERE) == HEARD_ELSEWHERE


# ── the flood of 2 November 2023 ────────────────────────────────────────────────────────────────────

FIRST, AGAIN, LAST = at(2023, 11, 2, 16, 14, 59), at(2023, 11, 2, 19, 13, 59), at(2023, 11, 3, 16, 14, 59)
BOTH = "per frane e allagamenti da fossi e torrenti e per temporali forti"

NOVEMBER_2023: list[Sent] = [
    *((FIRST, comune, Trend.NEW, f"Allerta gialla {BOTH}") for comune in ON_THE_ARNO),
    (FIRST, "santa-fiora", Trend.NEW, f"Allerta gialla {BOTH}"),
    # 19:13: an update for others; nothing changes in our zones, and nobody is told twice.
    *(
        (LAST, comune, Trend.EXTENDED, f"L'allerta continua, gialla {BOTH} fino alle 24:00 di sabato 4 novembre")
        for comune in ON_THE_ARNO
    ),
    # It was told until the end of the third. On the Amiata it is over by the afternoon.
    (LAST, "santa-fiora", Trend.ENDED, f"Fine dell'allerta gialla {BOTH}"),
]


def november() -> list[dpc.Bulletin]:
    return [republished(stamp) for stamp in ("20231102T1614", "20231102T1913", "20231103T1614")]


def test_november_2023_is_said_as_a_careful_officer_would() -> None:
    assert play(november(), ZONES) == NOVEMBER_2023


def test_bulletins_that_come_again_or_in_the_wrong_order_add_nothing() -> None:
    first, again, last = november()
    assert play([first, first, again, first, last, again, last], ZONES) == NOVEMBER_2023


def test_the_evening_update_did_change_something_elsewhere() -> None:
    """19:13 was no copy of 16:14: other zones rose to red for the day after."""
    first, again, _ = november()
    changed = {code for code in first.zones if change(first.zones[code], again.zones[code], again.issued)}
    assert changed
    assert not changed & {"Tosc-A4", "Tosc-F1"}


def test_what_people_in_calcinaia_read_on_the_second_of_november() -> None:
    first, _, last = november()
    told = first.zones["Tosc-A4"]
    text = words(Trend.NEW, told, (), FIRST)
    assert text.description == (
        "Giovedì 2 novembre dalle 16:14 alle 24:00: gialla per frane e torrenti, temporali. "
        "Venerdì 3 novembre: gialla per frane e torrenti. "
        "Possibili piccole frane e allagamenti di sottopassi e cantine. "
        "Possibili fulmini, grandine, raffiche e allagamenti improvvisi."
    )
    ended = words(Trend.ENDED, last.zones["Tosc-F1"], first.zones["Tosc-F1"], LAST)
    assert ended.description == (
        "L'allerta annunciata fino alle 24:00 di venerdì 3 novembre è finita alle 16:14 di venerdì 3 novembre: "
        "non sono più previsti pericoli."
    )


def test_when_nothing_comes_on_the_fourth_it_is_an_alarm_and_not_an_end() -> None:
    last = november()[-1]
    assert not dpc.missing(at(2023, 11, 4, 16, 29), last.issued)
    assert dpc.missing(at(2023, 11, 4, 16, 30), last.issued)
    assert dpc.missing(at(2023, 11, 5, 8, 0), last.issued), "also the morning after"


def test_a_bulletin_read_after_midnight_speaks_of_the_day_that_is_left() -> None:
    """Our machine was down from the afternoon until 00:30."""
    first = november()[0]
    late = timedelta(hours=8, minutes=15, seconds=1)
    assert play([first], {"calcinaia": ("Tosc-A4",)}, late) == [
        (at(2023, 11, 3, 0, 30), "calcinaia", Trend.NEW, "Allerta gialla per frane e allagamenti da fossi e torrenti")
    ]
    text = words(Trend.NEW, first.zones["Tosc-A4"], (), at(2023, 11, 3, 0, 30))
    assert text.description.startswith("Venerdì 3 novembre dalle 00:30 alle 24:00: gialla per frane e torrenti. ")


# ── the Arno, March 2025: the facts of reference/cap-and-italy.md 2.5 in made-up tables ─────────────


ON_THE_ARNO_IN_2025: list[tuple[datetime, Colour | None, Colour | None]] = [
    (at(2025, 3, 12, 15, 20), None, None),
    (at(2025, 3, 13, 15, 31), Colour.GIALLA, Colour.ARANCIONE),
    (at(2025, 3, 13, 17, 38), Colour.GIALLA, Colour.ARANCIONE),
    (at(2025, 3, 14, 15, 12), Colour.ROSSA, Colour.ROSSA),
    (at(2025, 3, 15, 15, 5), Colour.ROSSA, Colour.ARANCIONE),
    (at(2025, 3, 16, 14, 33), Colour.GIALLA, None),
    (at(2025, 3, 17, 15, 10), None, None),
]
"""When each bulletin came, and the colour for the river in the lower Valdarno, that day and the next."""

OF_THE_RIVER = "per piena di fiumi e canali"
MARCH_2025: list[Sent] = [
    (when, comune, trend, headline)
    for when, trend, headline in (
        (at(2025, 3, 13, 15, 31), Trend.NEW, f"Allerta arancione {OF_THE_RIVER} dalle 00:00 di venerdì 14 marzo"),
        # 17:38: an update that changes nothing here.
        (at(2025, 3, 14, 15, 12), Trend.UPGRADE, f"L'allerta sale da arancione a rossa {OF_THE_RIVER}"),
        (
            at(2025, 3, 15, 15, 5),
            Trend.EXTENDED,
            f"L'allerta continua, arancione {OF_THE_RIVER} fino alle 24:00 di domenica 16 marzo; "
            "resta rossa fino alle 24:00 di sabato 15 marzo",
        ),
        (
            at(2025, 3, 16, 14, 33),
            Trend.DOWNGRADE,
            f"L'allerta scende da arancione a gialla: resta {OF_THE_RIVER} fino alle 24:00 di domenica 16 marzo",
        ),
        # The seventeenth: it ended at midnight, as everybody had read.
    )
    for comune in ON_THE_ARNO
]


def river(colour: Colour | None) -> made.Day:
    """A day of the lower Valdarno; the Amiata is green."""
    return {"Tosc-A4": {Risk.IDRAULICO: colour} if colour else {}, "Tosc-F1": {}}


def test_the_red_alert_on_the_arno_is_said_in_four_texts() -> None:
    bulletins = [
        dpc.read_archive(made.bulletin(when, river(today), river(tomorrow)))
        for when, today, tomorrow in ON_THE_ARNO_IN_2025
    ]
    assert [bulletin.findings for bulletin in bulletins] == [()] * 7
    assert play(bulletins, ZONES) == MARCH_2025
