"""One dashboard as a table of panels; `python -m dashboards.grafana.build` writes the JSON Grafana reads."""

import json
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("allerta.json")

SCHEMA = 39  # of Grafana 10.4 and later; newer ones migrate it by themselves
WIDTH = 24
HEIGHT = {"timeseries": 8, "stat": 4, "table": 8}

SOURCE = {"type": "prometheus", "uid": "${datasource}"}

LANES = {"flash": "dark-red", "emergency": "red", "reply": "blue", "routine": "green"}
"""A lane has the same colour everywhere."""

URGENT = 'lane=~"flash|emergency"'
SHOWN = 'lane=~"$lane", channel=~"$channel"'


@dataclass(frozen=True, slots=True)
class Query:
    """One line of PromQL, and what its series are called in the legend."""

    expr: str
    legend: str = "__auto"


@dataclass(frozen=True, slots=True)
class Panel:
    """One picture. `steps` are the thresholds: from which value, in which colour; the lowest is green."""

    title: str
    description: str
    unit: str
    width: int
    queries: tuple[Query, ...]
    kind: str = "timeseries"
    steps: tuple[tuple[float, str], ...] = ()
    stacked: bool = False


def quantiles(metric: str, legend: str, matchers: str, by: str) -> tuple[Query, ...]:
    """The median and the 99th percentile of a histogram."""
    return tuple(
        Query(
            f"histogram_quantile({q}, sum by (le, {by}) (rate({metric}_bucket{{{matchers}}}[$__rate_interval])))",
            f"{legend} p{round(q * 100)}",
        )
        for q in (0.5, 0.99)
    )


def rate(metric: str, by: str, matchers: str = "") -> str:
    """How many a second, by the labels `by`."""
    return f"sum by ({by}) (rate({metric}{{{matchers}}}[$__rate_interval]))".replace("{}", "")


AT_A_GLANCE = (
    Panel(
        "Emergenze: p99 da emesso a consegnato al gestore",
        "In quanti secondi 99 emergenze su 100 sono state prese in carico da WhatsApp o Telegram. "
        "Vuoto quando non ci sono emergenze in corso.",
        "s",
        5,
        (
            Query(
                "histogram_quantile(0.99, sum by (le) "
                f"(rate(alerting_issued_to_accepted_seconds_bucket{{{URGENT}}}[$__rate_interval])))"
            ),
        ),
        "stat",
        ((2.5, "yellow"), (5, "red")),
    ),
    Panel(
        "Messaggio più vecchio in uscita",
        "Da quanto aspetta il messaggio più vecchio che RabbitMQ non ha ancora confermato, fra le corsie "
        "urgenti. Oltre 10 secondi qualcuno deve guardare.",
        "s",
        5,
        (Query(f"max(alerting_outbox_oldest_seconds{{{URGENT}}})"),),
        "stat",
        ((2, "yellow"), (10, "red")),
    ),
    Panel(
        "Processi di consegna attivi",
        "Quanti processi che inviano ai cittadini rispondono a Prometheus. Zero: non parte niente.",
        "none",
        4,
        (Query('sum(up{service=~"deliver-.+"})'),),
        "stat",
        ((0, "red"), (1, "green")),
    ),
    Panel(
        "Lettere morte",
        "Messaggi su cui il sistema si è arreso e che aspettano un operatore. Deve essere zero.",
        "none",
        4,
        (Query("sum(max by (lane) (alerting_dead_letters_open))"),),
        "stat",
        ((1, "red"),),
    ),
    Panel(
        "Regole che suonano",
        "Quante regole di Prometheus sono attive adesso, senza la sentinella Watchdog. "
        "Quali, lo dice l'ultima tabella.",
        "none",
        6,
        (Query('count(ALERTS{alertstate="firing", alertname!="Watchdog"}) or vector(0)'),),
        "stat",
        ((1, "red"),),
    ),
)

ISSUED_TO_DELIVERED = (
    Panel(
        "Da emesso a preso in carico",
        "Secondi da quando l'allerta è emessa a quando il gestore accetta il testo di una persona. È la "
        "misura che conta. A 80 testi al secondo, mille persone ne richiedono almeno 12,5.",
        "s",
        12,
        quantiles("alerting_issued_to_accepted_seconds", "{{lane}} {{channel}}", SHOWN, "lane, channel"),
    ),
    Panel(
        "Da emesso a consegnato sul telefono",
        "Secondi da quando l'allerta è emessa a quando il gestore dice che il testo è sul telefono. "
        "Dipende anche da telefoni spenti o senza campo; non tutti i canali lo dicono.",
        "s",
        12,
        quantiles("alerting_issued_to_delivered_seconds", "{{lane}} {{channel}}", SHOWN, "lane, channel"),
    ),
    Panel(
        "Dal lotto in mano all'invio",
        "Secondi dall'arrivo di un lotto a un processo di consegna alla chiamata al gestore per una sua "
        "persona. Cresce nelle corsie basse mentre passa un'emergenza: è voluto.",
        "s",
        12,
        quantiles("alerting_enqueued_to_sent_seconds", "{{lane}} {{channel}}", SHOWN, "lane, channel"),
    ),
    Panel(
        "Calcolo dei destinatari",
        "Secondi da quando un'allerta emessa è presa in mano all'ultimo lotto di destinatari.",
        "s",
        4,
        quantiles("alerting_fanout_seconds", "{{lane}}", 'lane=~"$lane"', "lane"),
    ),
    Panel(
        "Destinatari trovati",
        "Quante persone al secondo vengono trovate dentro le aree delle allerte.",
        "cps",
        4,
        (Query(rate("alerting_fanout_recipients_total", "lane", 'lane=~"$lane"'), "{{lane}}"),),
    ),
    Panel(
        "Persone ricollocate",
        "Quante persone al secondo vengono riguardate perché un'area ha un contorno nuovo. Intanto serve il vecchio.",
        "cps",
        4,
        (Query("sum(rate(alerting_resettled_total[$__rate_interval]))", "persone"),),
    ),
)

QUEUES = (
    Panel(
        "Messaggi in uscita dalla banca dati",
        "Messaggi promessi che RabbitMQ non ha ancora confermato, per corsia.",
        "short",
        8,
        (Query('max by (lane) (alerting_outbox_messages{lane=~"$lane"})', "{{lane}}"),),
        stacked=True,
    ),
    Panel(
        "Età del più vecchio in uscita",
        "Da quanto aspetta il messaggio più vecchio di ogni corsia. Per flash ed emergenza la soglia è 10 s.",
        "s",
        8,
        (Query('max by (lane) (alerting_outbox_oldest_seconds{lane=~"$lane"})', "{{lane}}"),),
        steps=((10, "red"),),
    ),
    Panel(
        "Conferma di RabbitMQ",
        "Secondi dalla pubblicazione di un gruppo di messaggi all'ultima conferma.",
        "s",
        8,
        quantiles("alerting_outbox_confirm_seconds", "{{lane}}", 'lane=~"$lane"', "lane"),
    ),
    Panel(
        "Pronti nelle code di lavoro",
        "Messaggi che aspettano un processo, coda per coda. Un lotto urgente sono fino a 100 persone, uno "
        "ordinario fino a 500.",
        "short",
        12,
        (
            Query(
                "sum by (queue) (rabbitmq_detailed_queue_messages_ready"
                '{queue=~".*(fanout[.].+|deliver[.].+|receipts|inbound)"})',
                "{{queue}}",
            ),
        ),
    ),
    Panel(
        "In mano ai processi, non ancora conclusi",
        "Messaggi consegnati a un processo e non ancora confermati da lui.",
        "short",
        12,
        (
            Query(
                "sum by (queue) (rabbitmq_detailed_queue_messages_unacked"
                '{queue=~".*(fanout[.].+|deliver[.].+|receipts|inbound)"})',
                "{{queue}}",
            ),
        ),
    ),
)

CAPACITY = (
    Panel(
        "Chiamate ai gestori",
        "Testi consegnati ai gestori al secondo. Il limite è 80 per ogni numero WhatsApp e 30 per ogni bot Telegram.",
        "cps",
        8,
        (Query(rate("alerting_provider_call_seconds_count", "channel", 'channel=~"$channel"'), "{{channel}}"),),
        stacked=True,
    ),
    Panel(
        "Durata di una chiamata al gestore",
        "Quanto ci mette il gestore a rispondere, visto da noi.",
        "s",
        8,
        quantiles("alerting_provider_call_seconds", "{{channel}}", 'channel=~"$channel"', "channel"),
    ),
    Panel(
        "Persone in mano ai processi",
        "Persone prese in carico da un processo di consegna e non ancora registrate.",
        "short",
        8,
        (Query(f"sum by (lane, channel) (alerting_slices_in_flight{{{SHOWN}}})", "{{lane}} {{channel}}"),),
    ),
    Panel(
        "Prestiti di capacità",
        "Fette di capacità del gestore chieste dai processi. Un rifiuto alle corsie basse, mentre passa "
        "un'emergenza, è quello che vogliamo.",
        "cps",
        8,
        (Query(rate("alerting_leases_total", "lane, result", 'lane=~"$lane"'), "{{lane}} {{result}}"),),
    ),
    Panel(
        "Attesa della capacità",
        "Quanto un processo con lavoro in mano ha aspettato la fetta successiva.",
        "s",
        8,
        quantiles("alerting_lease_wait_seconds", "{{lane}}", 'lane=~"$lane"', "lane"),
    ),
    Panel(
        "Posti sprecati",
        "Quota dei posti presi in prestito e lasciati scadere perché in ritardo di oltre 50 ms. Oltre il 5 % "
        "il processore o la banca dati non tengono il passo.",
        "percentunit",
        8,
        (
            Query(
                "sum(rate(alerting_slots_expired_total[$__rate_interval])) / "
                "(sum(rate(alerting_slots_expired_total[$__rate_interval])) + "
                "sum(rate(alerting_provider_call_seconds_count[$__rate_interval])))",
                "sprecati",
            ),
        ),
        steps=((0.05, "red"),),
    ),
)

OUTCOMES = (
    Panel(
        "Esiti dei tentativi",
        "Che cosa hanno risposto i gestori: accettato, rimandato, rifiutato, incerto, testo respinto.",
        "cps",
        8,
        (Query(rate("alerting_deliveries_total", "outcome", SHOWN), "{{outcome}}"),),
        stacked=True,
    ),
    Panel(
        "Motivi di ciò che non è accettato",
        "Perché un tentativo non è andato. `not_reachable_here`: il numero non è su questo canale; "
        "`throttled`: il gestore ci rallenta; `channel_halted`: il conto è fermo.",
        "cps",
        8,
        (
            Query(
                rate("alerting_deliveries_total", "channel, reason", f'{SHOWN}, outcome!="accepted"'),
                "{{channel}} {{reason}}",
            ),
        ),
        stacked=True,
    ),
    Panel(
        "Quota accettata",
        "Su cento tentativi, quanti accettati, per corsia e canale.",
        "percentunit",
        8,
        (
            Query(
                rate("alerting_deliveries_total", "lane, channel", f'{SHOWN}, outcome="accepted"')
                + " / "
                + rate("alerting_deliveries_total", "lane, channel", SHOWN),
                "{{lane}} {{channel}}",
            ),
        ),
    ),
    Panel(
        "Ricevute dei gestori",
        "Che cosa dicono dopo i gestori: inviato, consegnato, letto, fallito.",
        "cps",
        8,
        (Query(rate("alerting_receipts_total", "channel, progress"), "{{channel}} {{progress}}"),),
    ),
    Panel(
        "Messaggi dei cittadini",
        "Che cosa scrivono i cittadini, per come l'abbiamo capito.",
        "cps",
        8,
        (Query(rate("alerting_inbound_total", "channel, understood"), "{{channel}} {{understood}}"),),
    ),
    Panel(
        "Sportello",
        "Che cosa fa lo sportello di ciò che scrivono i cittadini: segnalazioni, appuntamenti, foto non riuscite.",
        "cps",
        8,
        (Query(rate("alerting_desk_total", "deed"), "{{deed}}"),),
    ),
    Panel(
        "Iscritti",
        "Quante persone sono iscritte a ogni comune, per il canale su cui ricevono per primo.",
        "none",
        8,
        (Query("max by (authority, channel) (alerting_subscribers)", "{{authority}} {{channel}}"),),
    ),
    Panel(
        "Allerte",
        "Che cosa è stato fatto alle allerte nell'intervallo: preparate, approvate, emesse, annullate.",
        "none",
        8,
        (
            Query(
                'sum by (action, lane) (increase(alerting_alerts_total{lane=~"$lane"}[$__rate_interval]))',
                "{{action}} {{lane}}",
            ),
        ),
    ),
)

TROUBLE = (
    Panel(
        "Tentativi rimandati",
        "Persone a cui si riproverà, e perché.",
        "cps",
        8,
        (
            Query(
                rate("alerting_deliveries_total", "lane, reason", f'{SHOWN}, outcome=~"deferred|uncertain"'),
                "{{lane}} {{reason}}",
            ),
        ),
    ),
    Panel(
        "Ripetuti perché un processo è morto",
        "Tentativi rifatti perché il processo che li aveva in mano è morto. Qualcuno può aver ricevuto il "
        "testo due volte.",
        "none",
        8,
        (
            Query(
                f"sum by (lane, channel) (increase(alerting_attempts_repeated_total{{{SHOWN}}}[$__rate_interval]))",
                "{{lane}} {{channel}}",
            ),
        ),
    ),
    Panel(
        "Rimandati senza provare",
        "Persone rimandate prima di ogni chiamata: la quota del giorno per i messaggi ordinari è finita (daily_quota), "
        "o il gestore vuole che per ora non si scriva loro (pair_throttled).",
        "cps",
        8,
        (Query(rate("alerting_turned_away_total", "lane, why", 'lane=~"$lane"'), "{{lane}} {{why}}"),),
    ),
    Panel(
        "Passati a un altro canale",
        "Il loro conto è fermo: persone avvisate su un altro canale, e quale.",
        "none",
        8,
        (
            Query(
                f"sum by (lane, channel) (increase(alerting_handed_over_total{{{SHOWN}}}[$__rate_interval]))",
                "{{lane}} {{channel}}",
            ),
        ),
    ),
    Panel(
        "Avvisati altrove, e perché",
        "Il primo canale li ha rifiutati (refused), non ha dato ricevuta in tempo (silent), trattiene il testo (held) "
        "o è fermo (halted): persone avvisate su un altro canale, e quale.",
        "none",
        8,
        (
            Query(
                f"sum by (channel, because) (increase(alerting_fallbacks_total{{{SHOWN}}}[$__rate_interval]))",
                "{{channel}} {{because}}",
            ),
        ),
    ),
    Panel(
        "Non avvisati altrove, o avvisati due volte",
        "Chi non ha altri indirizzi (nowhere) o per chi il bilancio non basta (not_afforded) va avvisato a voce. "
        "Due volte: la ricevuta del primo canale è arrivata dopo.",
        "none",
        8,
        (
            Query(
                'sum by (why) (increase(alerting_not_followed_total{lane=~"$lane"}[$__rate_interval]))',
                "{{why}}",
            ),
            Query(
                f"sum by (channel) (increase(alerting_told_twice_total{{{SHOWN}}}[$__rate_interval]))",
                "{{channel}} due volte",
            ),
        ),
    ),
    Panel(
        "Euro spesi",
        "Ai prezzi scritti nei file dei comuni, per i testi che i gestori hanno accettato. Il conto del mese è in "
        "/v1/costs.",
        "currencyEUR",
        8,
        (
            Query(
                'sum by (channel) (increase(alerting_euro_total{channel=~"$channel"}[$__rate_interval]))',
                "{{channel}}",
            ),
        ),
    ),
    Panel(
        "Detti di nuovo a RabbitMQ",
        "Ciò su cui nessuno lavorava più: lotti, allerte, testi dei cittadini. Dopo un guasto è giusto; sempre, no.",
        "none",
        8,
        (
            Query(
                'sum by (lane, what) (increase(alerting_told_again_total{lane=~"$lane"}[$__rate_interval]))',
                "{{lane}} {{what}}",
            ),
        ),
    ),
    Panel(
        "In attesa di riprovare",
        "Messaggi nelle code d'attesa, che tornano da soli al lavoro.",
        "short",
        8,
        (Query('sum by (queue) (rabbitmq_detailed_queue_messages_ready{queue=~".*wait[.].+"})', "{{queue}}"),),
    ),
    Panel(
        "Lettere morte per corsia",
        "Messaggi su cui il sistema si è arreso, fermi finché un operatore non guarda.",
        "short",
        8,
        (Query("max by (lane) (alerting_dead_letters_open)", "{{lane}}"),),
        steps=((1, "red"),),
    ),
    Panel(
        "Lettere morte, perché",
        "Che cosa non andava: illeggibile, fuori posto, orfano, imprevisto, consegnato venti volte.",
        "none",
        8,
        (Query("sum by (why) (increase(alerting_dead_letters_total[$__rate_interval]))", "{{why}}"),),
    ),
    Panel(
        "Conti fermati e webhook rifiutati",
        "Quante volte un gestore ha fermato un nostro conto, e quante chiamate ai webhook non erano firmate "
        "come d'accordo.",
        "none",
        8,
        (
            Query(
                'sum by (channel) (increase(alerting_channel_halts_total{channel=~"$channel"}[$__rate_interval]))',
                "{{channel}} fermato",
            ),
            Query(
                'sum by (channel) (increase(alerting_webhooks_refused_total{channel=~"$channel"}[$__rate_interval]))',
                "{{channel}} firma rifiutata",
            ),
        ),
    ),
)

PROCESSES = (
    Panel(
        "Processi attivi",
        "Quanti processi di ogni servizio rispondono a Prometheus.",
        "none",
        8,
        (Query("sum by (service) (up)", "{{service}}"),),
    ),
    Panel(
        "Processi che danno segni di vita",
        "Quanti processi si sono fatti vivi nella banca dati negli ultimi 20 s. Zero: quel lavoro non lo fa nessuno.",
        "none",
        8,
        (Query("max by (role) (alerting_workers_alive)", "{{role}}"),),
    ),
    Panel(
        "Processi in attesa",
        "1: almeno un processo di quel nome è vivo ma non lavora, perché non raggiunge RabbitMQ o la banca dati.",
        "none",
        8,
        (Query("max by (worker, waits_for) (alerting_worker_waits)", "{{worker}}: {{waits_for}}"),),
        steps=((1, "red"),),
    ),
    Panel(
        "Collegamenti a RabbitMQ",
        "1: il collegamento sta in piedi; 0: si sta riprovando. Vale il peggiore fra i processi con lo stesso nome.",
        "none",
        8,
        (Query("min by (link) (alerting_amqp_up)", "{{link}}"),),
    ),
    Panel(
        "Bloccati da RabbitMQ",
        "1: RabbitMQ ha finito memoria o disco e non ci lascia pubblicare.",
        "none",
        8,
        (
            Query("max by (link) (alerting_amqp_blocked)", "{{link}}"),
            Query("max(rabbitmq_alarms_memory_used_watermark)", "allarme memoria"),
            Query("max(rabbitmq_alarms_free_disk_space_watermark)", "allarme disco"),
        ),
        steps=((1, "red"),),
    ),
    Panel(
        "Riconnessioni e canali riaperti",
        "Collegamenti a RabbitMQ persi e canali AMQP rifatti.",
        "none",
        8,
        (
            Query(
                "sum by (link) (increase(alerting_amqp_reconnects_total[$__rate_interval]))",
                "{{link}} riconnesso",
            ),
            Query(
                "sum by (why) (increase(alerting_amqp_channel_reopens_total[$__rate_interval]))",
                "canale riaperto: {{why}}",
            ),
        ),
    ),
    Panel(
        "Chi lavora alle code",
        "Quanti processi ascoltano ogni coda. Zero su una coda urgente: nessuno la svuota.",
        "none",
        8,
        (
            Query(
                "sum by (queue) (rabbitmq_detailed_queue_consumers"
                '{queue=~".*(fanout[.].+|deliver[.].+|receipts|inbound)"})',
                "{{queue}}",
            ),
        ),
    ),
    Panel(
        "Che cosa ha detto RabbitMQ ai messaggi in uscita",
        "Confermati, non confermati, restituiti perché nessuna coda li vuole.",
        "cps",
        8,
        (Query(rate("alerting_outbox_relayed_total", "lane, result", 'lane=~"$lane"'), "{{lane}} {{result}}"),),
    ),
    Panel(
        "Regole che suonano adesso",
        "Le regole attive. Che cosa fare per ciascuna sta in `dashboards/runbooks/`.",
        "none",
        WIDTH,
        (
            Query(
                "sum by (alertname, severity, service, lane, channel, queue, link, worker, role, source, authority) "
                '(ALERTS{alertstate="firing", alertname!="Watchdog"})'
            ),
        ),
        "table",
    ),
)

SOURCES = (
    Panel(
        "Fonti mute",
        "1: una fonte tace da troppo tempo, o il bollettino di oggi non è arrivato. Nessun dato non vuol dire verde.",
        "none",
        8,
        (Query("max by (source) (alerting_feed_silent)", "{{source}}"),),
        steps=((1, "red"),),
    ),
    Panel(
        "Ultima risposta buona delle fonti",
        "Da quanto tempo ogni fonte non dà una risposta che si possa leggere.",
        "s",
        8,
        (Query("time() - max by (source) (alerting_feed_answered_timestamp_seconds)", "{{source}}"),),
    ),
    Panel(
        "Domande alle fonti",
        "Che cosa ne è venuto: qualcosa di nuovo, niente di nuovo, solo una parte, nessuna risposta buona.",
        "none",
        8,
        (
            Query(
                "sum by (source, outcome) (increase(alerting_feed_polls_total[$__rate_interval]))",
                "{{source}} {{outcome}}",
            ),
        ),
    ),
    Panel(
        "Documenti delle fonti",
        "Che cosa ne è stato: accolti, ripetuti, in quarantena finché qualcuno non guarda, respinti.",
        "none",
        12,
        (Query("sum by (source, state) (increase(alerting_intake_total[$__rate_interval]))", "{{source}} {{state}}"),),
    ),
    Panel(
        "Chiamate a chi è reperibile",
        "Quante volte qualcosa di nuovo aspetta che una persona lo guardi.",
        "none",
        12,
        (Query("sum(increase(alerting_pages_total[$__rate_interval]))", "chiamate"),),
        steps=((1, "orange"),),
    ),
    Panel(
        "In attesa di una persona",
        "Chiamate a cui nessuno ha risposto, per comune (all: di tutti), e documenti in quarantena, per fonte.",
        "none",
        12,
        (
            Query("max by (authority) (alerting_pages_open)", "chiamate {{authority}}"),
            Query("max by (source) (alerting_intake_quarantined)", "in quarantena {{source}}"),
        ),
        steps=((1, "orange"),),
    ),
    Panel(
        "Da quanto aspetta la più vecchia",
        "Oltre 5 minuti senza risposta a una chiamata, o 15 senza una decisione su un documento, suona una regola.",
        "s",
        12,
        (
            Query("max by (authority) (alerting_pages_oldest_seconds)", "chiamata {{authority}}"),
            Query("max by (source) (alerting_intake_quarantined_oldest_seconds)", "in quarantena {{source}}"),
        ),
        steps=((300, "orange"), (900, "red")),
    ),
    Panel(
        "Avvisi al personale",
        "Per argomento ed esito: given_up, no_address e wrong_address non sono arrivati a nessuno.",
        "none",
        12,
        (
            Query(
                "sum by (matter, outcome) (increase(alerting_notices_total[$__rate_interval]))",
                "{{matter}} {{outcome}}",
            ),
        ),
    ),
)

SIGNS = (
    Panel(
        "Pannelli e sirene in linea",
        "Quanti dicono di esserci e quanti no. Dopo 5 minuti di assenza chi è reperibile viene chiamato.",
        "none",
        12,
        (
            Query("max by (kind) (alerting_panels_online)", "{{kind}} in linea"),
            Query("max by (kind) (alerting_panels_missing)", "{{kind}} assenti"),
        ),
    ),
    Panel(
        "Che cosa dicono i pannelli",
        "Conferme di ciò che mostrano, ripetizioni, conferme di versioni sconosciute, arrivi e partenze.",
        "none",
        12,
        (Query("sum by (what) (increase(alerting_panel_reports_total[$__rate_interval]))", "{{what}}"),),
    ),
)

ROWS: tuple[tuple[str, tuple[Panel, ...]], ...] = (
    ("In breve", AT_A_GLANCE),
    ("Da emesso a consegnato", ISSUED_TO_DELIVERED),
    ("Code e messaggi in uscita", QUEUES),
    ("Capacità dei gestori", CAPACITY),
    ("Esiti e motivi", OUTCOMES),
    ("Nuovi tentativi, lettere morte, conti fermi", TROUBLE),
    ("Processi e collegamenti", PROCESSES),
    ("Fonti che ci avvisano", SOURCES),
    ("Pannelli e sirene", SIGNS),
)


def dashboard() -> dict[str, Any]:
    """The whole dashboard, as Grafana's JSON model."""
    return {
        "uid": "allerta",
        "title": "Allerta: dall'emissione al telefono",
        "description": "Quanto ci mettono le allerte ad arrivare ai cittadini, e che cosa le trattiene.",
        "tags": ["allerta", "protezione-civile"],
        "schemaVersion": SCHEMA,
        "version": 1,
        "editable": False,
        "graphTooltip": 1,
        "refresh": "5s",
        "time": {"from": "now-30m", "to": "now"},
        "timezone": "browser",
        "templating": {"list": [_datasource(), _variable("lane", "Corsia"), _variable("channel", "Canale")]},
        "annotations": {"list": [_issues()]},
        "links": [],
        "panels": _laid_out(),
    }


def text() -> str:
    """The committed file."""
    return json.dumps(dashboard(), ensure_ascii=False, indent=1) + "\n"


def _laid_out() -> list[dict[str, Any]]:
    """Rows from top to bottom; panels from left to right, onto a new line where the width is used up."""
    numbers, panels, y = count(1), [], 0
    for title, row in ROWS:
        panels.append(
            {
                "id": next(numbers),
                "type": "row",
                "title": title,
                "collapsed": False,
                "gridPos": {"x": 0, "y": y, "w": WIDTH, "h": 1},
                "panels": [],
            }
        )
        y, x, tallest = y + 1, 0, 0
        for panel in row:
            if x + panel.width > WIDTH:
                x, y, tallest = 0, y + tallest, 0
            height = HEIGHT[panel.kind]
            place = {"x": x, "y": y, "w": panel.width, "h": height}
            panels.append(_panel(panel, next(numbers), place))
            x, tallest = x + panel.width, max(tallest, height)
        y += tallest
    return panels


def _panel(panel: Panel, number: int, place: dict[str, int]) -> dict[str, Any]:
    instant = panel.kind == "table"
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": SOURCE,
        "gridPos": place,
        "targets": [
            {
                "refId": chr(ord("A") + position),
                "datasource": SOURCE,
                "expr": query.expr,
                "legendFormat": query.legend,
                "range": not instant,
                "instant": instant,
                "format": "table" if instant else "time_series",
            }
            for position, query in enumerate(panel.queries)
        ],
        "fieldConfig": {"defaults": _defaults(panel), "overrides": _lane_colours(panel)},
        "options": _options(panel.kind),
    }


def _defaults(panel: Panel) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [{"color": "green", "value": None}]
    steps += [{"color": colour, "value": value} for value, colour in panel.steps]
    defaults: dict[str, Any] = {
        "unit": panel.unit,
        "noValue": "–",
        "thresholds": {"mode": "absolute", "steps": steps},
    }
    if panel.kind == "timeseries":
        defaults["min"] = 0
        defaults["custom"] = {
            "fillOpacity": 20 if panel.stacked else 0,
            "stacking": {"mode": "normal" if panel.stacked else "none"},
            "showPoints": "never",
            "spanNulls": False,
            "thresholdsStyle": {"mode": "line" if panel.steps else "off"},
        }
    return defaults


def _lane_colours(panel: Panel) -> list[dict[str, Any]]:
    if not any(query.legend.startswith("{{lane}}") for query in panel.queries):
        return []
    return [
        {
            "matcher": {"id": "byRegexp", "options": f"^{lane}\\b.*"},
            "properties": [{"id": "color", "value": {"mode": "fixed", "fixedColor": colour}}],
        }
        for lane, colour in LANES.items()
    ]


def _options(kind: str) -> dict[str, Any]:
    match kind:
        case "stat":
            return {
                "colorMode": "background",
                "graphMode": "area",
                "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
            }
        case "table":
            return {"showHeader": True}
        case _:
            return {
                "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
                "tooltip": {"mode": "multi", "sort": "desc"},
            }


def _datasource() -> dict[str, Any]:
    return {
        "name": "datasource",
        "label": "Prometheus",
        "type": "datasource",
        "query": "prometheus",
        "hide": 0,
    }


def _variable(name: str, label: str) -> dict[str, Any]:
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": SOURCE,
        "query": {"query": f"label_values(alerting_issued_to_accepted_seconds_count, {name})", "refId": name},
        "definition": f"label_values(alerting_issued_to_accepted_seconds_count, {name})",
        "includeAll": True,
        # Nothing chosen must match everything, a lane that has said nothing yet included.
        "allValue": ".*",
        "multi": True,
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
        "refresh": 2,
        "sort": 1,
        "hide": 0,
    }


def _issues() -> dict[str, Any]:
    """A line across every panel where an alert was issued."""
    return {
        "name": "Allerte emesse",
        "datasource": SOURCE,
        "enable": True,
        "iconColor": "orange",
        "expr": 'sum by (lane) (increase(alerting_alerts_total{action="issue"}[$__rate_interval])) > 0',
        "titleFormat": "Allerta emessa",
        "textFormat": "{{lane}}",
    }


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
