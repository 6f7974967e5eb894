"""Never above the cap, never below it without need: four delivery processes share 80 a second."""

from consumers.local.demo import CAP, most_in_a_second
from tests.benchmarks.bench_town import Runs, Services, bar, town

DELIVERERS = 4
SECONDS, WARMING_UP = 30, 1
RUNS = 3


def cap(services: Services) -> Runs:
    """`cap.max_share`: the most in any one second; `cap.used_share`: the mean rate. Both by what is allowed."""
    runs: Runs = {"cap.max_share": [], "cap.used_share": []}
    texts = CAP * RUNS * (WARMING_UP + SECONDS)
    with town(services, "cap", deliverers=DELIVERERS, people=texts + 10 * CAP) as place:
        place.say("Festa della castagna")
        with bar(services.console, f"Four processes at {CAP}/s", texts) as shown:
            for count in place.arriving(texts + CAP):
                shown(count)
        at = sorted(place.sink.received().at.tolist())
    for run in range(RUNS):
        begin = at[0] + run * (WARMING_UP + SECONDS) + WARMING_UP
        window = [moment for moment in at if begin <= moment < begin + SECONDS]
        runs["cap.max_share"].append(most_in_a_second(window) / CAP)
        runs["cap.used_share"].append((len(window) - 1) / (CAP * (window[-1] - window[0])))
    return runs
