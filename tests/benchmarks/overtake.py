"""The urgent before the rest: 100,000 routine texts wait at 80 a second, and one emergency a second overtakes them."""

import random
import time
from functools import cache

import numpy as np

from geo.shapes import Point
from tests.benchmarks.bench_town import BenchTown, Runs, Services, bar, town

ROUTINE = 100_000
EMERGENCIES = 30
RUNS = 3
UNDER_WAY = 800
"""Routine texts sent before the first emergency: ten seconds, so the flow is steady, and the thirty in Fornacette,
who are told first, may be told again."""
RADIUS_KM = 0.05


@cache
def overtakes(services: Services) -> Runs:
    """`overtake`, measured once, however many parts ask."""
    return overtake(services)


def overtake(services: Services) -> Runs:
    """From asking to issue until the sink has it, in ms, and how many routine texts it took meanwhile.

    Of 30 emergencies a run the p99 and `behind` are the worst.
    """
    runs: Runs = {}
    with town(services, "overtake", deliverers=2) as place:
        for number in range(EMERGENCIES):
            place.grow_to(number + 1, point=home_of(number))
        place.grow_to(EMERGENCIES + ROUTINE)
        routine, _ = place.say("Festa della castagna")
        place.cut()
        with bar(services.console, f"{ROUTINE:,} routine texts set off", UNDER_WAY) as shown:
            for count in place.arriving(UNDER_WAY):
                shown(count)
        for _ in range(RUNS):
            for figure, value in _one_run(place, routine).items():
                runs.setdefault(f"overtake.{figure}", []).append(value)
    return runs


def _one_run(place: BenchTown, routine: int) -> dict[str, float]:
    before = place.sink.count()
    asked: dict[int, float] = {}
    started = time.monotonic()
    with bar(place.console, "One emergency a second", EMERGENCIES) as shown:
        for number in range(EMERGENCIES):
            time.sleep(max(0.0, started + number + random.uniform(0, 0.5) - time.monotonic()))
            mark, at = place.say("Rottura", **outage_at(home_of(number)))
            asked[mark] = at
            shown(number + 1)
    time.sleep(1.0)
    arrivals = place.sink.received(before)
    news = arrivals.at[arrivals.marks == routine]
    waits, behind = [], []
    for mark, at in asked.items():
        accepted = arrivals.at[arrivals.marks == mark]
        if len(accepted) != 1:
            raise RuntimeError(f"emergency {mark} was accepted {len(accepted)} times within a second, not once")
        waits.append(float(accepted[0] - at) * 1000)
        behind.append(int(((news > at) & (news < accepted[0])).sum()))
    return {
        "p50_ms": float(np.median(waits)),
        "p99_ms": max(waits),
        "behind_p50": float(np.median(behind)),
        "behind": max(behind),
    }


def home_of(number: int) -> Point:
    """Thirty houses in Fornacette, five rows of six, 160 m or more from each other."""
    row, column = divmod(number, 6)
    return Point(43.668 + row * 0.002, 10.586 + column * 0.002)


def outage_at(point: Point) -> dict[str, object]:
    """Water is off at one house and 50 m around it."""
    return {
        "kind": "interruzione-idrica",
        "description": "Manca l'acqua per una rottura.",
        "areas": [],
        "geofence_name": "via del Pozzo",
        "geofence": {
            "type": "Feature",
            "geometry": {"type": "Point", "coordinates": [point.lon, point.lat]},
            "properties": {"radius_km": RADIUS_KM},
        },
    }
