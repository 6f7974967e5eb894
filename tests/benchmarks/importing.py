"""A region's comuni from their file into PostgreSQL: the whole command, as somebody types it."""

import asyncio
import json
import os
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from alerting.authorities import load
from alerting.enrolling import enrol
from alerting.persistence import Database
from alerting.persistence.migrations import migrate
from alerting.sealing import Seal
from consumers.local.stack import ROOT
from geo.geojson import to_geojson
from tests.benchmarks import territory
from tests.benchmarks.bench_town import Runs, Services, bar

FILE = "toscana_comuni.geojson"
RUNS = 5


def importing(services: Services) -> Runs:
    """`import.seconds`: from the command to its end, into a database that knows none of them."""
    file, comuni = _file(services.where)
    runs: Runs = {"import.seconds": []}
    with bar(services.console, f"{comuni} comuni", RUNS) as shown:
        for run in range(RUNS):
            url = services.database("importing")
            asyncio.run(_enrolled(url))
            started = time.monotonic()
            done = subprocess.run(
                [sys.executable, "-m", "geo", "import", str(file)],
                env=os.environ | {"DATABASE_URL": url, "PYTHONPATH": str(ROOT)},
                capture_output=True,
                text=True,
            )
            runs["import.seconds"].append(time.monotonic() - started)
            if done.returncode or f": {comuni} areas." not in done.stdout:
                raise RuntimeError(f"the import of {comuni} comuni failed:\n{done.stdout[-1000:]}{done.stderr[-1000:]}")
            shown(run + 1)
    services.drop("importing")
    return runs


def _file(where: Path) -> tuple[Path, int]:
    """The real one, or one of as many made-up comuni."""
    comuni = territory.known().comuni
    if (real := territory.REAL / FILE).exists():
        return real, len(comuni)
    features = [
        {
            "type": "Feature",
            "properties": {"name": comune.name, "istat": comune.code, "catasto": ""},
            "geometry": to_geojson(comune.fence),
        }
        for comune in comuni
    ]
    made_up = where / FILE
    made_up.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return made_up, len(comuni)


async def _enrolled(url: str) -> None:
    await migrate(url)
    database = Database(url)
    async with database.write() as session:
        await enrol(session, load().values(), Seal(bytes(32)), share_of_limit=1.0, now=datetime.now(UTC))
    await database.close()
