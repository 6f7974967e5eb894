"""The peers alone: `python -m tests.benchmarks.peers [--only kannel] [--backlog 2000] [--emergencies 5]`."""

import argparse
import json
import os
import sys
from dataclasses import asdict

from rich.console import Console
from rich.table import Table

from consumers.local.stack import ROOT
from tests.benchmarks.peers import celery_peer, jasmin, kannel
from tests.benchmarks.peers.overtaking import Overtaking

PEERS = {
    "celery": (celery_peer.overtake, celery_peer.BACKLOG),
    "kannel": (kannel.overtake, kannel.BACKLOG),
    "jasmin": (jasmin.overtake, jasmin.BACKLOG),
}


def main() -> int:
    """Measure, print a table, write var/bench-peers-alone.json."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.peers", description=__doc__)
    parser.add_argument("--only", choices=[*PEERS, "drain"], action="append", default=[])
    parser.add_argument("--backlog", type=int, help="texts waiting; by default what each takes in within two minutes")
    parser.add_argument("--emergencies", type=int, default=30)
    parser.add_argument("--people", type=int, default=20_000, help="for the drain")
    given = parser.parse_args()
    console, results, figures = Console(), list[Overtaking](), {"load_before": os.getloadavg()[0]}
    for name, (overtake, backlog) in PEERS.items():
        if not given.only or name in given.only:
            results += overtake(console, backlog=given.backlog or backlog, emergencies=given.emergencies)
    if not given.only or "drain" in given.only:
        figures["drain.celery_per_s"] = celery_peer.drain(console, people=given.people)
    (ROOT / "var").mkdir(exist_ok=True)
    written = {"figures": figures, "overtake": [asdict(result) for result in results]}
    (ROOT / "var" / "bench-peers-alone.json").write_text(json.dumps(written, indent=2) + "\n")
    console.print(table(results), figures)
    return 0


def table(results: list[Overtaking]) -> Table:
    """A row for each peer and way; `≥` where an emergency was still waiting when our patience ended."""
    shown = Table(
        "peer", "way", "settings", "backlog", "taken in", "p50 ms", "p99 ms", "behind", "still waiting", "texts/s"
    )
    for one in results:
        bound = "≥ " if one.still_waiting else ""
        shown.add_row(
            one.peer,
            one.way,
            one.settings,
            f"{one.backlog:,}",
            f"{one.took_in_s:.0f} s",
            f"{bound}{one.at(0.5):,.0f}",
            f"{bound}{one.at(0.99):,.0f}",
            f"{bound}{max(one.behind):,}",
            str(one.still_waiting),
            f"{one.per_s:.1f}",
        )
    return shown


if __name__ == "__main__":
    sys.exit(main())
