"""`make bench`: every part in turn, a table at the end, the figures in var/bench.json with the machine they are of."""

import json
import os
import platform
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version

from rich.console import Console
from rich.table import Table

from consumers.local.stack import ROOT
from tests.benchmarks.idle import idle

PARTS: dict[str, Callable[[Console], dict[str, float]]] = {"idle": idle}

MUST: dict[str, tuple[str, float]] = {
    "idle.postgresql.p50_ms": ("≤", 60),
    "idle.postgresql.p99_ms": ("≤", 250),
    "idle.sqlite.p50_ms": ("≤", 60),
    "idle.sqlite.p99_ms": ("≤", 250),
}


def main() -> int:
    """Run the parts named on the command line, or all. 0 unless a must is missed."""
    console = Console()
    figures: dict[str, float] = {}
    for name in sys.argv[1:] or PARTS:
        figures |= PARTS[name](console)
    (ROOT / "var").mkdir(exist_ok=True)
    (ROOT / "var" / "bench.json").write_text(json.dumps({"machine": machine(), "figures": figures}, indent=2) + "\n")
    table = Table("figure", "measured", "must")
    missed = 0
    for key, value in figures.items():
        sign, must = MUST.get(key, ("", 0.0))
        missed += bool(sign) and value > must
        table.add_row(key, f"{value:g}", f"{sign} {must:g}" if sign else "")
    console.print(table)
    return 1 if missed else 0


def machine() -> dict[str, object]:
    """What the figures are of."""
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "cores": os.cpu_count(),
        "load_before": os.getloadavg()[0],
        "python": platform.python_version(),
        "kernel": platform.release(),
        "versions": {name: version(name) for name in ("pika", "sqlalchemy", "aiohttp", "fastapi", "psycopg")},
    }


if __name__ == "__main__":
    sys.exit(main())
