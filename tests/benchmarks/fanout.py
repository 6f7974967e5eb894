"""A million people inside the geofence: from *issued* to the last batch ready to be sent. Nobody delivers meanwhile."""

from pathlib import Path

from tests.benchmarks.bench_town import Runs, Services, bar, town

PEOPLE = 1_000_000
RUNS = 3


def fanout(services: Services) -> Runs:
    """`fanout.per_s`: recipients a second; `fanout.rss_mb`: the most memory the fan-out process ever had."""
    runs: Runs = {"fanout.per_s": [], "fanout.rss_mb": []}
    with town(services, "fanout", deliverers=0, people=PEOPLE, only=("api", "relay", "fanout")) as place:
        pid = place.stack.running["fanout"].popen.pid
        with bar(services.console, "Fan-out to a million", RUNS) as shown:
            for run in range(RUNS):
                _, asked = place.say("Festa della castagna")
                seconds = place.cut() - asked
                if place.audience() != PEOPLE:
                    raise RuntimeError(f"the audience is {place.audience():,}, not {PEOPLE:,}")
                runs["fanout.per_s"].append(PEOPLE / seconds)
                runs["fanout.rss_mb"].append(peak_mb(pid))
                shown(run + 1)
    return runs


def peak_mb(pid: int) -> float:
    """The most physical memory a process ever had, in 10⁶ bytes."""
    status = Path(f"/proc/{pid}/status").read_text()
    kib = next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(kib) * 1024 / 1e6
