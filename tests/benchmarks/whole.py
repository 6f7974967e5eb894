"""A whole town at the provider's pace: 12,000 people at 80 a second, from the first text to the last."""

from tests.benchmarks.bench_town import Runs, Services, town

PEOPLE = 12_000


def whole(services: Services) -> Runs:
    """`whole.seconds`. 150 is what 80 a second allow."""
    with town(services, "whole", deliverers=2, people=PEOPLE) as place:
        return {"whole.seconds": [place.drained("Festa della castagna").arrivals.seconds]}
