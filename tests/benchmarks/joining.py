"""A million subscribers from an office's list into PostgreSQL: the whole command, as somebody types it."""

import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import psycopg

from consumers.local.stack import ROOT
from tests.benchmarks.bench_town import Runs, Services, bar, libpq
from tests.benchmarks.population import AUTHORITY

PEOPLE = 1_000_000
PLACES = ("Fornacette", "Calcinaia capoluogo", "Via Roma 12, Fornacette", "")
KEY = "5e" * 32


def joining(services: Services) -> Runs:
    """`import.million_s`: from the command to its end. `import.rss_mb`: the most memory it took."""
    return bring(services, PEOPLE)


def bring(services: Services, people: int) -> Runs:
    """So many of them; the figures are of a million all the same."""
    file = services.where / "iscritti.csv"
    _write(file, people)
    url = services.database("joining")
    environment = os.environ | {"DATABASE_URL": url, "ALERTING_KEY": KEY, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-m", "alerting", "migrate"], env=environment, check=True, capture_output=True)
    command = [sys.executable, "-m", "alerting", "subscribers", "import", str(file), "--comune", AUTHORITY]
    with bar(services.console, f"{people:,} people of a list", 1) as shown:
        began = time.monotonic()
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        took = time.monotonic() - began
        shown(1)
    if done.returncode:
        raise RuntimeError(f"the import failed:\n{done.stdout[-1000:]}{done.stderr[-1000:]}")
    with psycopg.connect(libpq(url)) as connection:
        row = connection.execute("SELECT count(*) FROM addresses WHERE account = %s", (f"whatsapp.{AUTHORITY}",))
        if (found := (row.fetchone() or (0,))[0]) != people:
            raise RuntimeError(f"of {people:,} people {found:,} are in the database")
    services.drop("joining")
    file.unlink()
    # Of all processes this one waited for; no other part has any as large.
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return {"import.million_s": [took * PEOPLE / people], "import.rss_mb": [peak / 1024]}


def _write(file: Path, people: int) -> None:
    """As an office has it: numbers with spaces, frazioni and streets, when and how each agreed."""
    with file.open("w", encoding="cp1252", newline="") as out:
        out.write("Cognome;Nome;Cellulare;Indirizzo;Consenso data;Consenso modo\r\n")
        for number in range(people):
            digits = f"{number:07d}"
            place = PLACES[number % len(PLACES)]
            out.write(f"Rossi;Niccolò;347 {digits[:3]} {digits[3:]};{place};{number % 28 + 1:02d}/05/2024;modulo\r\n")
