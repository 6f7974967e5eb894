"""Ten times the people, ten times the seconds: an audience cut and drained at 10,000, 100,000 and 1,000,000."""

from statistics import median

from tests.benchmarks.bench_town import NO_CAP, Drained, Runs, Services, town
from tests.benchmarks.drain import DELIVERERS, PEOPLE, drains

FEW, MANY = 10_000, 1_000_000
RUNS_OF_FEW = 3


def growth(services: Services) -> Runs:
    """`growth`: how far the seconds per person are from those of 100,000, at the worst; 0.15 is 15 %."""
    with town(services, "growth", deliverers=DELIVERERS, people=FEW, per_s=NO_CAP) as place:
        few = [place.drained(f"Festa di quartiere {run + 1}") for run in range(RUNS_OF_FEW)]
        place.grow_to(MANY)
        many = [place.drained("Festa di un milione")]
    between = [run for run, _ in drains(services)]
    per_person = median(run.seconds for run in between) / PEOPLE
    worst = max(
        abs(median(run.seconds for run in runs) / people / per_person - 1)
        for people, runs in ((FEW, few), (MANY, many))
    )
    return {
        "growth": [worst],
        **_seconds("10k", few),
        **_seconds("100k", between),
        **_seconds("1m", many),
        "growth.1m_per_s": [run.arrivals.per_s for run in many],
    }


def _seconds(people: str, runs: list[Drained]) -> Runs:
    return {
        f"growth.{people}_s": [run.seconds for run in runs],
        f"growth.{people}_cut_s": [run.cut - run.asked for run in runs],
    }
