"""How many CAP documents a second one core parses and checks: the real ones, and those an issuer sends all day."""

import time
from pathlib import Path

from alerting.cap_xml.envelopes import examine
from alerting.cap_xml.reading import Verdict
from consumers.local.stack import ROOT
from tests.benchmarks.bench_town import Runs, Services, bar

REAL = ROOT.parent / "shared/data/cap"
RUNS = 5
OFTEN = 50
COMUNI = ("Calcinaia", "Bientina", "Cascina", "Fucecchio", "Santa Fiora")
BULLETIN = """<?xml version="1.0" encoding="UTF-8"?>
<alert xmlns="urn:oasis:names:tc:emergency:cap:1.2"><identifier>it.bollettino.{number}</identifier>
<sender>protezionecivile@regione.it</sender><sent>2026-11-21T09:00:00+01:00</sent><status>Actual</status>
<msgType>Alert</msgType><scope>Public</scope>{infos}</alert>"""
INFO = """<info><language>it-IT</language><category>Met</category><event>Allerta arancione rischio idraulico</event>
<responseType>Prepare</responseType><urgency>Expected</urgency><severity>Severe</severity><certainty>Likely</certainty>
<onset>2026-11-21T14:00:00+01:00</onset><expires>2026-11-22T00:00:00+01:00</expires>
<headline>Allerta arancione a {place}</headline><description>Piena attesa dalle 14 a {place}.</description>
<instruction>Spostati ai piani alti.</instruction><area><areaDesc>{place}</areaDesc><polygon>{ring}</polygon></area>
</info>"""


def cap_check(services: Services) -> Runs:
    """`cap.check_per_s`: documents a second over the real ones and as many made up, each read whole and judged."""
    raws = [*_real(), *_made_up()]
    if rejected := sum(examine(raw).verdict is Verdict.REJECT for raw in _made_up()):
        raise RuntimeError(f"{rejected} documents made up for the measure are rejected: they would count as fast")
    runs: Runs = {"cap.check_per_s": []}
    with bar(services.console, "CAP documents", RUNS) as shown:
        for run in range(RUNS):
            started = time.process_time()
            for raw in raws:
                examine(raw)
            runs["cap.check_per_s"].append(len(raws) / (time.process_time() - started))
            shown(run + 1)
    return runs


def _real() -> list[bytes]:
    """Every real document once, the one of 881 KB among them; none where they are absent."""
    return [file.read_bytes() for file in sorted(Path(REAL).glob("*")) if file.suffix != ".json"]


def _made_up() -> list[bytes]:
    rings = [
        " ".join(f"{43.6 + 0.0001 * (n % 50):.4f},{10.5 + 0.0001 * n:.4f}" for n in range(size))
        + " 43.7,10.5 43.6000,10.5000"
        for size in (4, 40, 100)
    ]
    return [
        BULLETIN.format(
            number=number,
            infos="".join(INFO.format(place=place, ring=rings[number % 3]) for place in COMUNI[: 1 + number % 5]),
        ).encode()
        for number in range(OFTEN)
    ]
