"""As fast as it goes: one alert to 100,000 people with no cap, beside a bare loop that keeps no promise at all."""

from functools import cache

from tests.benchmarks.bare import bare
from tests.benchmarks.bench_town import NO_CAP, Drained, Runs, Services, town

PEOPLE = 100_000
DELIVERERS = 2
RUNS = 3


def drain(services: Services) -> Runs:
    """`drain.per_s`: people a second from the first to the last; `drain.ratio_bare`: that by what a bare loop does."""
    runs = drains(services)
    ours = [run.arrivals.per_s for run, _ in runs]
    bares = [bare for _, bare in runs]
    return {
        "drain.per_s": ours,
        "drain.bare_per_s": bares,
        "drain.ratio_bare": [our / bare for our, bare in zip(ours, bares, strict=True)],
    }


@cache
def drains(services: Services) -> list[tuple[Drained, float]]:
    """Each run with the rate of the bare loops right after it. Measured once, however many parts ask."""
    with town(services, "drain", deliverers=DELIVERERS, people=PEOPLE, per_s=NO_CAP) as place:
        return [
            (place.drained(f"Festa della castagna {run + 1}"), bare(place.sink, PEOPLE, 1).per_s) for run in range(RUNS)
        ]
