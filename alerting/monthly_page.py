"""A comune's month as a page to print: HTML that needs nothing else, and is read on a telephone too."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape

from alerting import plots
from alerting.desk.reports import Month
from alerting.domain.delivery import Channel
from alerting.domain.desk import ReportState
from alerting.domain.rendering import MONTHS, ROME
from alerting.growth import Cost, Moved, Span
from alerting.monthly import CHANNELS, FEW, Report
from alerting.plots import Series, number

EURO = "€"
UNKNOWN = "prezzo non indicato"


def page(report: Report) -> str:
    """HTML that needs nothing else: no script, no font, no picture from anywhere."""
    name = escape(report.authority.name)
    title = f"{MONTHS[report.month.begins.month - 1]} {report.month.begins.year}"
    parts = (_in_short, _subscribers, _days, _places, _texts, _costs, _desk)
    return (
        f'<!doctype html>\n<html lang="it"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>{name}: il servizio di avvisi, {title}</title><style>{STYLE}</style></head>"
        f"<body><main><header><p>{name}</p><h1>Il servizio di avvisi, {title}</h1></header>"
        f"{''.join(part(report) for part in parts)}{_alerts(report)}{_notes(report)}</main></body></html>\n"
    )


def _in_short(report: Report) -> str:
    sight, moved, total = report.sight, report.moved, report.sums(report.said)
    facts = [
        ("iscritti a fine mese", sight.words(moved.subscribed.total())),
        ("nuovi", sight.words(moved.joined.total())),
        ("usciti", sight.words(moved.left.total())),
        ("avvisi", number(len(report.said.alerts))),
        ("messaggi", sight.words(report.said.texts.total())),
        ("costo", _cost(total.cost)),
        ("sarebbe costato per SMS", _euro(total.as_sms)),
    ]
    cells = "".join(f"<div><dt>{words}</dt><dd>{value}</dd></div>" for words, value in facts)
    return f'<section aria-label="In breve"><dl>{cells}</dl></section>'


def _subscribers(report: Report) -> str:
    months, sight = report.year.moved, report.sight
    values = [sight.of(one.subscribed.total()) for one in months]
    plot = plots.line("Iscritti alla fine di ogni mese", _short(months), Series("iscritti", "one", values))
    channels = _channels(report, (one.subscribed for one in months))
    rows = [
        [
            _long(one.span),
            *(sight.words(one.subscribed[channel]) for channel in channels),
            sight.words(one.subscribed.total()),
            sight.words(one.joined.total()),
            sight.words(one.left.total()),
        ]
        for one in months
    ]
    head = ["mese", *(CHANNELS[channel] for channel in channels), "iscritti", "nuovi", "usciti"]
    return _section("Gli iscritti", plot, _table("Iscritti, mese per mese", head, rows))


def _days(report: Report) -> str:
    sight = report.sight
    series = [
        Series("nuovi", "one", [sight.of(day.joined.total()) for day in report.days]),
        Series("usciti", "two", [sight.of(day.left.total()) for day in report.days]),
    ]
    labels = [str(day.span.begins.day) for day in report.days]
    plot = plots.bars("Nuovi e usciti, giorno per giorno", labels, series, stacked=False)
    thirds = (report.days[:10], report.days[10:20], report.days[20:])
    tables = (
        _table(
            f"Dal {some[0].span.begins.day} al {some[-1].span.begins.day}",
            ["giorno", "nuovi", "usciti"],
            [
                [str(day.span.begins.day), sight.words(day.joined.total()), sight.words(day.left.total())]
                for day in some
            ],
        )
        for some in thirds
    )
    table = f"<div class=thirds>{''.join(tables)}</div>"
    return _section("Giorno per giorno", _key(series) + plot, table)


def _places(report: Report) -> str:
    sight, lives = report.sight, report.year.lives
    if not lives:
        return ""
    plot = plots.bars(
        "Iscritti per frazione",
        [one.name for one in lives],
        [Series("iscritti", "one", [sight.of(one.people) for one in lives])],
    )
    rows = [
        [escape(one.name), sight.words(one.people), "–" if one.before is None else sight.words(one.before)]
        for one in lives
    ]
    table = _table("Iscritti per frazione", ["frazione", "ora", "a inizio mese"], rows)
    note = "<p>Conta chi ha detto dove abita; chi ha indicato più luoghi è contato in ciascuno.</p>"
    return _section("Dove abitano", plot, table + note)


def _texts(report: Report) -> str:
    months, sight = report.year.said, report.sight
    channels = _channels(report, (one.texts for one in months))
    series = [
        Series(CHANNELS[channel], CSS[channel], [sight.of(one.texts[channel]) for one in months])
        for channel in channels
    ]
    plot = plots.bars("Messaggi inviati ogni mese", _short(report.year.moved), series)
    rows = [
        [
            _long(one.span),
            number(len(one.alerts)),
            *(sight.words(one.texts[channel]) for channel in channels),
            sight.words(one.answers.total()),
        ]
        for one in months
    ]
    head = ["mese", "avvisi", *(CHANNELS[channel] for channel in channels), "risposte"]
    return _section("I messaggi", _key(series) + plot, _table("Messaggi, mese per mese", head, rows))


def _costs(report: Report) -> str:
    months = report.year.said
    totals = [report.sums(one) for one in months]
    series = [Series("costo", "one", [one.cost.euro for one in totals])]
    if report.year.prices.of_sms is not None:
        series.append(Series("per SMS", "two", [one.as_sms or 0.0 for one in totals]))
    plot = plots.bars("Costo di ogni mese in euro, e per SMS", _short(report.year.moved), series, stacked=False)
    rows = [
        [_long(one.span), _cost(total.cost), _euro(total.as_sms)] for one, total in zip(months, totals, strict=True)
    ]
    table = _table("Costo, mese per mese", ["mese", "costo", "per SMS"], rows)
    return _section("I costi", _key(series) + plot, table)


def _desk(report: Report) -> str:
    """What citizens reported, and when they were received; nothing where the comune has no desk."""
    desk, sight = report.authority.desk, report.sight
    if desk is None:
        return ""
    months = report.year.moved
    series = [
        Series("segnalazioni", "one", [sight.of(report.at_desk.opened(one.span)) for one in months]),
        Series("appuntamenti", "two", [sight.of(report.at_desk.booked(one.span)) for one in months]),
    ]
    plot = plots.bars("Segnalazioni e appuntamenti ogni mese", _short(months), series, stacked=False)
    filed = [
        [
            escape(desk.name_of(one.category)),
            sight.words(one.opened),
            sight.words(one.by_state.get(ReportState.SOLVED, 0)),
            *(_hours(hours, one, report) for hours in (one.first_answer_hours, one.solution_hours)),
        ]
        for one in report.at_desk.reports
        if one.month == report.month.name
    ]
    received = [
        [escape(known.name if (known := desk.office(office)) else office), sight.words(made), sight.words(dropped)]
        for month, office, made, dropped in report.at_desk.bookings
        if month == report.month.name
    ]
    head = ["che cosa", "aperte", "risolte", "prima risposta", "soluzione"]
    tables = _table("Segnalazioni del mese", head, filed) if filed else "<p>In questo mese nessuna segnalazione.</p>"
    if received:
        tables += _table("Appuntamenti presi nel mese", ["ufficio", "presi", "disdetti"], received)
    return _section("Lo sportello", _key(series) + plot, tables)


def _hours(hours: float | None, of: Month, report: Report) -> str:
    """A median. Of a few reports it would tell of a person to whoever may see none."""
    if hours is None or (not report.sight.exact and of.opened < FEW):
        return "–"
    if hours < 1:
        return f"{round(hours * 60)} min"
    return f"{round(hours)} h" if hours < 48 else f"{round(hours / 24)} giorni"


def _alerts(report: Report) -> str:
    sight, prices = report.sight, report.year.prices
    rows = [
        [
            f"{one.at.astimezone(ROME):%d/%m %H:%M}",
            escape(one.headline),
            sight.words(one.texts.total()),
            str(one.sms_parts),
            _cost(prices.cost(sight.people(one.texts), one.sms_parts)),
            _euro(prices.as_sms(sight.of(one.texts.total() - one.in_public), one.sms_parts)),
        ]
        for one in report.said.alerts
    ]
    if not rows:
        return "<section><h2>Gli avvisi del mese</h2><p>In questo mese non ci sono stati avvisi.</p></section>"
    head = ["quando", "avviso", "messaggi", "parti di SMS", "costo", "per SMS"]
    return f"<section><h2>Gli avvisi del mese</h2>{_table('Avvisi del mese', head, rows, words=2)}</section>"


def _notes(report: Report) -> str:
    prices = report.year.prices
    notes = ["Gli iscritti sono contati sul canale su cui ricevono per primo. Le esercitazioni non sono contate."]
    if prices.of_sms is None:
        notes.append("Il prezzo di un SMS non è indicato: scriverlo nel file del Comune, [prices] sms = 0.05.")
    else:
        notes.append(
            f"Per SMS: le stesse persone e gli stessi avvisi, a {_euro(prices.of_sms)} la parte;"
            " le risposte a chi scrive e il canale pubblico non sono contati."
        )
    if any(report.sums(one).cost.unknown for one in report.year.said):
        notes.append(
            "Dove il prezzo di un canale non è indicato (euro_per_text), il costo è quello degli altri canali."
        )
    if not report.sight.exact:
        notes.append("Le persone sono contate a decine; sotto le dieci è scritto soltanto «&lt;10».")
    return f"<footer>{''.join(f'<p>{note}</p>' for note in notes)}</footer>"


CSS = {Channel.WHATSAPP: "one", Channel.TELEGRAM: "two", Channel.SMS: "three", Channel.EMAIL: "four"}


def _section(title: str, plot: str, table: str) -> str:
    return f"<section><h2>{title}</h2><div class=pair><figure>{plot}</figure><div>{table}</div></div></section>"


def _key(series: Sequence[Series]) -> str:
    return f"<p class=key>{''.join(f'<span class={one.css}>{escape(one.name)}</span>' for one in series)}</p>"


def _table(caption: str, head: Sequence[str], rows: Iterable[Sequence[str]], *, words: int = 1) -> str:
    """`words` are the first columns, which hold no numbers."""
    cells = "".join(f"<th scope=col{' class=words' if n < words else ''}>{word}</th>" for n, word in enumerate(head))
    body = "".join(
        "<tr>"
        + "".join(
            f"<th scope=row>{cell}</th>" if n == 0 else f"<td{' class=words' if n < words else ''}>{cell}</td>"
            for n, cell in enumerate(row)
        )
        + "</tr>"
        for row in rows
    )
    return (
        f'<div class=wide role=region aria-label="{escape(caption)}" tabindex=0><table><caption>{caption}</caption>'
        f"<thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _channels(report: Report, counts: Iterable[Mapping[Channel, int]]) -> list[Channel]:
    """Those that were used; for who may see nobody those that the comune has, as even one text is somebody's."""
    used = {channel for one in counts for channel, count in one.items() if count}
    if not report.sight.exact:
        used = {access.channel for access in report.authority.channels}
    return [channel for channel in CHANNELS if channel in used]


def _short(months: Sequence[Moved]) -> list[str]:
    return [f"{MONTHS[one.span.begins.month - 1][:3]}" for one in months]


def _long(span: Span) -> str:
    return f"{MONTHS[span.begins.month - 1]} {span.begins.year}"


def _euro(value: float | None) -> str:
    if value is None:
        return UNKNOWN
    whole, cents = f"{value:,.2f}".split(".") if value == 0 or value >= 1 else f"{value:.4f}".rstrip("0").split(".")
    return f"{whole.replace(',', '.')},{cents.ljust(2, '0')} {EURO}"


def _cost(cost: Cost) -> str:
    if not cost.unknown:
        return _euro(cost.euro)
    return UNKNOWN if not cost.euro else f"{_euro(cost.euro)} e {UNKNOWN}"


STYLE = """
:root{color-scheme:light dark;--paper:#fff;--ink:#1b2430;--soft:#5b6675;--rule:#d5dbe3;--one:#0b5cad;--two:#b4530a;
--three:#2f7d32;--four:#7a3e9d}
@media (prefers-color-scheme:dark){:root{--paper:#12171e;--ink:#e6ebf2;--soft:#a3afbf;--rule:#344050;--one:#6db3ff;
--two:#ffb070;--three:#8fd694;--four:#d3a6f0}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.45 system-ui,sans-serif}
main{max-width:1120px;margin:auto;padding:1rem}
h1{font-size:1.6rem;margin:.1rem 0 1rem}h2{font-size:1.2rem;margin:1.6rem 0 .5rem}
header p{margin:0;color:var(--soft)}
dl{display:grid;grid-template-columns:repeat(auto-fit,minmax(8.5rem,1fr));gap:.6rem;margin:0}
dl div{border:1px solid var(--rule);border-radius:.4rem;padding:.5rem .7rem}
dt{color:var(--soft);font-size:.85rem}dd{margin:0;font-size:1.25rem;font-weight:600}
.pair{display:grid;gap:1rem;grid-template-columns:minmax(0,1fr)}
@media (min-width:1040px){.pair{grid-template-columns:minmax(0,1fr) minmax(0,1fr)}}
figure{margin:0}svg{width:100%;height:auto;display:block}
svg text{fill:var(--soft);font-size:13px;font-family:inherit}.grid{stroke:var(--rule)}
.line{fill:none;stroke-width:2.5}.ground{stroke:none;fill-opacity:.15}
rect.one,circle.one,.ground.one{fill:var(--one)}.line.one{stroke:var(--one)}
rect.two,.ground.two{fill:var(--two)}rect.three{fill:var(--three)}rect.four{fill:var(--four)}
.key{margin:0 0 .3rem;font-size:.9rem}.key span{margin-right:1rem}
.key span::before{content:"";display:inline-block;width:.8em;height:.8em;margin-right:.35em;background:var(--c)}
.key .one{--c:var(--one)}.key .two{--c:var(--two)}.key .three{--c:var(--three)}.key .four{--c:var(--four)}
.thirds{display:grid;gap:0 1rem;grid-template-columns:repeat(auto-fit,minmax(10.5rem,1fr));
align-items:start}
.wide{overflow-x:auto}.pair>div>.wide+.wide{margin-top:.8rem}
table{border-collapse:collapse;width:100%;font-size:.9rem;font-variant-numeric:tabular-nums}
caption{text-align:left;color:var(--soft);padding-bottom:.2rem}
th,td{padding:.2rem .4rem;border-bottom:1px solid var(--rule);text-align:right;white-space:nowrap}
tbody th,th.words{text-align:left;font-weight:400}td.words{text-align:left;white-space:normal;min-width:12rem}
thead th{font-weight:600}footer{margin-top:1.5rem;color:var(--soft);font-size:.85rem}
@page{size:A4;margin:14mm}
@media print{:root{--paper:#fff;--ink:#000;--soft:#444;--rule:#bbb;--one:#0b5cad;--two:#b4530a;--three:#2f7d32;
--four:#7a3e9d}body{font-size:11px}main{max-width:none;padding:0}section{break-inside:avoid}
rect,.key span::before,path,circle{print-color-adjust:exact;-webkit-print-color-adjust:exact}
.pair{grid-template-columns:minmax(0,1fr) minmax(0,1fr)}
.thirds{grid-template-columns:repeat(3,1fr);gap:0 .4rem}.wide{overflow:visible}
dl{grid-template-columns:repeat(4,1fr)}td.words{min-width:0}
thead{display:table-header-group}}
"""
