"""`make bench`: every part in turn, a table at the end, the figures in var/bench.json with the machine they are of.

One part alone, as in `make bench PART=overtake`, changes only its own figures there.
"""

import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import pika
import psycopg
from rich.console import Console
from rich.table import Table

from consumers.local.services import postgresql, rabbitmq
from consumers.local.stack import ROOT, NotReady
from tests.benchmarks.audience import audience
from tests.benchmarks.bench_town import Runs, Services, libpq
from tests.benchmarks.beside import peers
from tests.benchmarks.brute_force import brute_force
from tests.benchmarks.cap import cap
from tests.benchmarks.cap_check import cap_check
from tests.benchmarks.channels import channels
from tests.benchmarks.citizens import citizens
from tests.benchmarks.drain import drain
from tests.benchmarks.fanout import fanout
from tests.benchmarks.growth import growth
from tests.benchmarks.idle import idle
from tests.benchmarks.importing import importing
from tests.benchmarks.intake import intake
from tests.benchmarks.joining import joining
from tests.benchmarks.overtake import overtakes
from tests.benchmarks.territory import matching
from tests.benchmarks.whole import whole

BOOK = ROOT / "var" / "bench.json"

PARTS: dict[str, Callable[[Services], Runs]] = {
    "idle": idle,
    "cap_check": cap_check,
    "matching": matching,
    "brute_force": brute_force,
    "audience": audience,
    "importing": importing,
    "joining": joining,
    "intake": intake,
    "channels": channels,
    "overtake": overtakes,
    "citizens": citizens,
    "cap": cap,
    "drain": drain,
    "fanout": fanout,
    "growth": growth,
    "whole": whole,
}
"""In the order in which `make bench` measures them."""
BESIDE = {"peers": peers}
"""Only when it is named: it installs what others would use."""

MUST: dict[str, tuple[str, float]] = {
    "idle.postgresql.p50_ms": ("≤", 60),
    "idle.postgresql.p99_ms": ("≤", 250),
    "idle.sqlite.p50_ms": ("≤", 60),
    "idle.sqlite.p99_ms": ("≤", 250),
    "cap.check_per_s": ("≥", 300),
    "match.million_ms": ("≤", 120),
    "place.one_us": ("≤", 200),
    "circle.error_m": ("≤", 5),
    "match.wrong": ("≤", 0),
    "import.seconds": ("≤", 20),
    "import.million_s": ("≤", 300),
    "preview.frazione_ms": ("≤", 30),
    "preview.tuscany_ms": ("≤", 1200),
    "preview.sqlite_ms": ("≤", 60),
    "intake.first_p99_ms": ("≤", 1000),
    "channels.whatsapp.cpu_ms": ("≤", 0.15),
    "channels.telegram.cpu_ms": ("≤", 0.15),
    "channels.sms.cpu_ms": ("≤", 0.5),
    "channels.sms.per_s": ("≥", 800),
    "channels.email.cpu_ms": ("≤", 1.5),
    "channels.email.per_s": ("≥", 250),
    "overtake.p99_ms": ("≤", 250),
    "overtake.behind": ("≤", 16),
    "reply.p99_ms": ("≤", 1000),
    "webhook.p99_ms": ("≤", 100),
    "inbound.emergency_ratio": ("≤", 1.10),
    "overtake.ratio_kannel": (">", 1),
    "overtake.ratio_jasmin": (">", 1),
    "overtake.ratio_celery": (">", 1),
    "overtake.ratio_celery_tuned": (">", 1),
    "cap.max_share": ("≤", 1.05),
    "cap.used_share": ("≥", 0.98),
    "drain.per_s": ("≥", 1500),
    "drain.ratio_bare": ("≥", 0.6),
    "drain.ratio_celery": ("≥", 3),
    "fanout.per_s": ("≥", 50_000),
    "fanout.rss_mb": ("≤", 200),
    "growth": ("≤", 0.15),
    "whole.seconds": ("≤", 153),
}

KEPT: dict[str, Callable[[float, float], bool]] = {
    "≤": lambda value, must: value <= must,
    "≥": lambda value, must: value >= must,
    ">": lambda value, must: value > must,
}


def main() -> int:
    """Run the parts named on the command line, or all. 0 unless a must is missed or a part failed."""
    console = Console()
    if unknown := [name for name in sys.argv[1:] if name not in PARTS | BESIDE]:
        console.print(f"There is no part {unknown[0]}; there are {', '.join(PARTS | BESIDE)}.")
        return 2
    with tempfile.TemporaryDirectory(prefix="allerta-bench-") as folder:
        where = Path(folder)
        where.chmod(0o755)
        with (
            rabbitmq(where / "rabbitmq", os.environ.get("AMQP_URL")) as amqp,
            postgresql(where / "postgresql", os.environ.get("DATABASE_URL")) as database,
        ):
            services = Services(amqp, database, where, console)
            measured, broken = measure(services, sys.argv[1:] or list(PARTS))
            book = written(machine(services), measured)
    missed = show(console, book["figures"], {figure for part in measured.values() for figure in part["runs"]})
    for sentence in broken:
        console.print(f"[bold red]{sentence}")
    return 1 if missed or broken else 0


def measure(services: Services, names: list[str]) -> tuple[dict[str, Any], list[str]]:
    """What each part measured, run by run; and in a sentence each, which of them broke."""
    measured: dict[str, Any] = {}
    broken = []
    for name in names:
        part = {"at": datetime.now(UTC).isoformat(timespec="seconds"), "load_before": os.getloadavg()[0]}
        started = time.monotonic()
        try:
            runs = (PARTS | BESIDE)[name](services)
        except (RuntimeError, NotReady) as error:  # the others are measured all the same
            broken.append(f"{name}: {error}")
            continue
        took = round(time.monotonic() - started, 1)
        measured[name] = part | {"took_s": took, "runs": runs}
    return measured, broken


def written(of_machine: dict[str, Any], measured: dict[str, Any]) -> dict[str, Any]:
    """var/bench.json, with what was measured now in the place of what was measured before."""
    book: dict[str, Any] = json.loads(BOOK.read_text()) if BOOK.exists() else {}
    medians = {key: median(values) for part in measured.values() for key, values in part["runs"].items()}
    book["machine"] = of_machine
    book["figures"] = book.get("figures", {}) | {key: float(f"{value:.4g}") for key, value in medians.items()}
    book["parts"] = book.get("parts", {}) | measured
    BOOK.parent.mkdir(exist_ok=True)
    BOOK.write_text(json.dumps(book, indent=2) + "\n")
    return book


def show(console: Console, figures: dict[str, float], now: set[str]) -> int:
    """A table of the figures measured now. How many musts are missed."""
    table = Table("figure", "median", "must")
    missed = 0
    for key in (key for key in figures if key in now):
        sign, must = MUST.get(key, ("", 0.0))
        kept = not sign or KEPT[sign](figures[key], must)
        missed += not kept
        table.add_row(key, f"{figures[key]:,g}", f"{sign} {must:,g}" if sign else "", style="" if kept else "red")
    console.print(table)
    return missed


def machine(services: Services) -> dict[str, Any]:
    """What the figures are of."""
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "kernel": platform.release(),
        "rabbitmq": _rabbitmq_version(services.amqp),
        "postgresql": _postgresql_version(services.postgresql),
        "versions": {name: version(name) for name in ("pika", "sqlalchemy", "aiohttp", "uvloop", "fastapi", "psycopg")},
    }


def _rabbitmq_version(url: str) -> str:
    connection = pika.BlockingConnection(pika.URLParameters(url))
    told: str = connection._impl.server_properties["version"]  # only the connection below keeps what it was told
    connection.close()
    return told


def _postgresql_version(url: str) -> str:
    with psycopg.connect(libpq(url)) as connection:
        row = connection.execute("SHOW server_version").fetchone()
    return str(row[0]) if row else "unknown"


if __name__ == "__main__":
    sys.exit(main())
