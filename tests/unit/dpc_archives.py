"""Made-up national bulletins, in the form of the real ones: two tables and a CAP file in an archive."""

import struct
import zipfile
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from io import BytesIO

from alerting.domain.kinds import Colour, Risk
from alerting.domain.rendering import ROME

GREEN = "Assenza di fenomeni significativi prevedibili / NESSUNA ALLERTA"
LEVELS = {Colour.GIALLA: "Ordinaria", Colour.ARANCIONE: "Moderata", Colour.ROSSA: "Elevata"}
SEVERITIES = {Colour.GIALLA: "Moderate", Colour.ARANCIONE: "Severe", Colour.ROSSA: "Extreme"}
COLUMNS = {"Idrogeo": Risk.IDROGEOLOGICO, "Temporali": Risk.TEMPORALI, "Idraulico": Risk.IDRAULICO}
WIDTHS = {"Zona_all": 80, "Nome_zona": 40, "Criticita": 80, "Idrogeo": 80, "Temporali": 80, "Idraulico": 80}

Day = Mapping[str, Mapping[Risk, Colour]]
"""What each zone has on one day; a zone with nothing is green."""


def cell(colour: Colour | None, risk: str = "") -> str:
    if colour is None:
        return GREEN
    of = f" per rischio {risk}" if risk else ""
    return f"{LEVELS[colour]}{of} / ALLERTA {colour.value.upper()}"


def row(zone: str, colours: Mapping[Risk, Colour]) -> dict[str, str]:
    order = list(Colour)
    worst = max(colours.items(), key=lambda pair: order.index(pair[1]), default=None)
    cells = {"Zona_all": zone, "Nome_zona": f"Zona {zone}", "Criticita": GREEN}
    if worst:
        cells["Criticita"] = cell(worst[1], worst[0].value)
    return cells | {column: cell(colours.get(risk)) for column, risk in COLUMNS.items()}


def dbf(rows: Iterable[Mapping[str, str]], widths: Mapping[str, int] = WIDTHS, encoding: str = "latin-1") -> bytes:
    rows = list(rows)
    header = 32 + 32 * len(widths) + 1
    raw = struct.pack("<B3sIHH20x", 3, b"\x7e\x07\x1a", len(rows), header, 1 + sum(widths.values()))
    for name, width in widths.items():
        raw += struct.pack("<11sc4xBB14x", name.encode(), b"C", width, 0)
    raw += b"\r"
    for cells in rows:
        raw += b" " + b"".join(
            cells.get(name, "").encode(encoding).ljust(width)[:width] for name, width in widths.items()
        )
    return raw + b"\x1a"


def table(day: Day) -> bytes:
    return dbf(row(zone, colours) for zone, colours in day.items())


def infos(day: Day, starts: datetime, ends: datetime) -> str:
    """One info for each risk and colour, as the Dipartimento writes them."""
    pairs = sorted({pair for colours in day.values() for pair in colours.items()}, key=str)
    return "".join(
        info(risk, colour, [z for z, c in day.items() if c.get(risk) is colour], starts, ends) for risk, colour in pairs
    )


def info(risk: Risk, colour: Colour, zones: Iterable[str], starts: datetime, ends: datetime) -> str:
    areas = "".join(
        f"<area><areaDesc>Zona {zone}</areaDesc><geocode><valueName>Zona di Allerta</valueName><value>{zone}</value>"
        "</geocode></area>"
        for zone in zones
    )
    return (
        "<info><category>Met</category>"
        f"<event>{LEVELS[colour].upper()} CRITICITA' PER RISCHIO {risk.value.upper()} / ALLERTA {colour.value.upper()}:"
        "</event><responseType>Prepare</responseType><urgency>Expected</urgency>"
        f"<severity>{SEVERITIES[colour]}</severity><certainty>Likely</certainty>"
        f"<onset>{starts.isoformat()}</onset><expires>{ends.isoformat()}</expires>{areas}</info>"
    )


def cap(
    issued: datetime, today: Day, tomorrow: Day, status: str = "Actual", sender: str = "2.49.0.0.380.1", extra: str = ""
) -> bytes:
    noon = issued.replace(hour=12, minute=0)
    night = issued.replace(hour=23, minute=59, second=59)
    next_day = (issued + timedelta(days=1)).replace(hour=0, minute=0)
    return (
        '<?xml version="1.0" encoding="UTF-8"?><alert xmlns="urn:oasis:names:tc:emergency:cap:1.2">'
        f"<identifier>DPC_BULLETIN_{issued:%Y_%m_%d_%H%M}</identifier><sender>{sender}</sender>"
        f"<sent>{issued.isoformat()}</sent><status>{status}</status><msgType>Alert</msgType><scope>Public</scope>"
        f"{infos(today, noon, night)}{infos(tomorrow, next_day, night + timedelta(days=1))}{extra}</alert>"
    ).encode()


def packed(files: Mapping[str, bytes]) -> bytes:
    into = BytesIO()
    with zipfile.ZipFile(into, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return into.getvalue()


def files(issued: datetime, today: Day, tomorrow: Day) -> dict[str, bytes]:
    """What is in the archive of one bulletin, by name."""
    assert issued.tzinfo is ROME
    return {
        f"{issued:%Y%m%d_%H%M}_today.dbf": table(today),
        f"{issued:%Y%m%d_%H%M}_tomorrow.dbf": table(tomorrow),
        f"Cap_{issued:%Y%m%d_%H%M}.xml": cap(issued, today, tomorrow),
    }


def bulletin(issued: datetime, today: Day, tomorrow: Day) -> bytes:
    return packed(files(issued, today, tomorrow))
