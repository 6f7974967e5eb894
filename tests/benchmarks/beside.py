"""What others would use, beside us: the same texts, the same cap, the same machine, the same run."""

import json
from dataclasses import asdict
from statistics import median

from consumers.local.stack import ROOT
from tests.benchmarks.bench_town import Runs, Services
from tests.benchmarks.drain import drains
from tests.benchmarks.overtake import EMERGENCIES, overtakes
from tests.benchmarks.peers import celery_peer, jasmin, kannel
from tests.benchmarks.peers.__main__ import table
from tests.benchmarks.peers.overtaking import Overtaking

BOOK = ROOT / "var" / "bench-peers.json"
RATIOS = {("celery", "defaults"): "celery", ("celery", "tuned"): "celery_tuned"} | {
    (gateway, ""): gateway for gateway in ("kannel", "jasmin")
}
"""By which name a ratio goes. Celery's further ways stand in the table and in var/bench-peers.json."""


def peers(services: Services) -> Runs:
    """Their emergency's delay (p99) by ours; our drain by Celery's. What still waited when patience ended counts as
    told then, so its ratio is a lower bound."""
    ours = overtakes(services)
    console = services.console
    results: list[Overtaking] = []
    for peer, backlog in ((celery_peer, celery_peer.BACKLOG), (kannel, kannel.BACKLOG), (jasmin, jasmin.BACKLOG)):
        results += peer.overtake(console, backlog=backlog, emergencies=EMERGENCIES)
    celery_per_s = celery_peer.drain(console)
    console.print(table(results))
    BOOK.write_text(json.dumps([asdict(result) for result in results], indent=2) + "\n")
    p99 = median(ours["overtake.p99_ms"])
    named = [(RATIOS.get((one.peer, one.way)), one) for one in results]
    runs = {f"overtake.ratio_{name}": [one.at(0.99) / p99] for name, one in named if name}
    per_s = median(run.arrivals.per_s for run, _ in drains(services))
    return runs | {"drain.celery_per_s": [celery_per_s], "drain.ratio_celery": [per_s / celery_per_s]}
