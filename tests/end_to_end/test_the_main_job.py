"""Issue to telephone, the urgent first, on real parts. The figures at full size are `make demo`'s."""

import time

from tests.end_to_end.town import ELSEWHERE, IN_FORNACETTE, Town, most_in_a_second

IN_FLIGHT = 16
"""Calls that were under way, or slots already leased, when the emergency came."""


def test_an_emergency_for_fornacette_overtakes_the_event_news_and_reaches_nobody_else(town: Town) -> None:
    inside = town.subscribe(160, IN_FORNACETTE)
    outside = town.subscribe(440, ELSEWHERE)

    event, _ = town.event("Sagra della nocciola")
    town.until(lambda: len(town.received("Sagra")) >= 80)
    alert, asked = town.issue("Rottura in via Tosco Romagnola", ["fornacette"])
    outcome = town.delivered(alert)
    town.delivered(event)

    urgent = sorted(text["at"] for text in town.received("Tosco Romagnola"))
    assert told_once(town, "Tosco Romagnola") >= set(inside)
    assert not told_once(town, "Tosco Romagnola") & set(outside)
    assert told_once(town, "Sagra") >= {*inside, *outside}
    assert outcome["final"] == outcome["audience"] == len(urgent) + 1  # and the public Telegram channel
    between = sum(urgent[0] < text["at"] < urgent[-1] for text in town.received("Sagra"))
    assert between <= IN_FLIGHT
    assert urgent[0] - asked < 5.0, "minutes, not seconds: the lane was lost somewhere"
    assert most_in_a_second([text["at"] for text in town.received()]) <= 100, "the cap is not shared at all"


def test_somebody_whose_place_is_not_known_is_told(town: Town) -> None:
    (somebody,) = town.subscribe(1, None)
    alert, _ = town.issue("Tubo rotto in via della Botte", ["fornacette"])
    town.delivered(alert)
    assert town.telephone(somebody)[-1].startswith("Comune di Calcinaia: Tubo rotto")


def test_a_circle_reaches_who_stands_in_it(town: Town) -> None:
    (near,) = town.subscribe(1, {"lat": 43.6655, "lon": 10.5955})
    (far,) = town.subscribe(1, {"lat": 43.6755, "lon": 10.5755})
    circle = {"type": "Feature", "geometry": {"type": "Point", "coordinates": [10.5955, 43.6655]}}
    fence = {"type": "FeatureCollection", "features": [circle | {"properties": {"radius_km": 0.2}}]}
    alert, _ = town.issue("Perdita di gas in via Mazzini", [], geofence=fence, geofence_name="via Mazzini")
    town.delivered(alert)
    assert "Dove: via Mazzini" in town.telephone(near)[-1]
    assert town.telephone(far) == []


def test_what_the_person_reads_says_who_what_where_when_and_what_to_do(town: Town) -> None:
    (maria,) = town.subscribe(1, IN_FORNACETTE)
    alert, _ = town.issue(
        "ALLERTA ROSSA per piena dell'Arno",
        ["fornacette"],
        kind="allerta-meteo",
        colour="rossa",
        risk="idraulico",
        description="Il fiume può uscire dagli argini.",
        instruction="Sali ai piani alti.",
    )
    town.delivered(alert)
    lines = town.telephone(maria)[-1].splitlines()
    assert lines[0] == "Comune di Calcinaia: ALLERTA ROSSA per piena dell'Arno"
    assert lines[1] == "Dove: Fornacette"
    assert lines[2].startswith("Quando: dalle ")
    assert lines[3] == "Il fiume può uscire dagli argini."
    assert lines[4].startswith("Cosa fare: Sali ai piani alti. Per informazioni: 0587 265442")
    assert town.read(f"/v1/alerts/{alert}")["lane"] == "flash"


def test_delivery_is_known_of_each_person_and_shown_in_figures(town: Town) -> None:
    town.subscribe(5, IN_FORNACETTE)
    alert, _ = town.issue("Manca l'acqua in via Vittorio Veneto", ["fornacette"])
    town.delivered(alert)
    on_whatsapp = len(town.told("Vittorio Veneto"))
    town.until(lambda: town.delivery(alert)["delivered"] >= on_whatsapp)
    worker = town.stack.running["receipts"]
    from consumers.local.stack import fetch

    figures = fetch(f"http://127.0.0.1:{worker.metrics_port}/metrics").decode()
    assert 'alerting_issued_to_delivered_seconds_count{channel="whatsapp",lane="emergency"}' in figures


def test_a_cancel_withdraws_what_waits_and_tells_exactly_those_who_may_have_it(town: Town) -> None:
    town.subscribe(200, IN_FORNACETTE)
    event, _ = town.event("Cinema all'aperto")
    town.until(lambda: len(town.received("Cinema")) >= 40)
    town.api("operator").post(f"/v1/alerts/{event}/cancel", {"reason": "Rinviato per pioggia."})
    stopped = len(town.received("Cinema"))
    town.until(lambda: len(town.received("ANNULLATO: Cinema")) > 0)
    time.sleep(3.0)
    originals = [text for text in town.received("Cinema") if "ANNULLATO" not in text["text"]]
    assert len(originals) <= stopped + 80, "it went on for over a second"
    town.until(lambda: sorted(town.told("ANNULLATO: Cinema")) == sorted({_number(text) for text in originals}))
    when = {_number(text): text["at"] for text in originals}
    assert all(text["at"] > when[_number(text)] for text in town.received("ANNULLATO: Cinema"))


def test_an_exercise_reaches_no_live_recipient(town: Town) -> None:
    town.subscribe(3, IN_FORNACETTE)
    alert, _ = town.issue("Prova di evacuazione", ["fornacette"], exercise=True)
    outcome = town.delivered(alert)
    assert outcome["audience"] == 0
    assert town.received("Prova di evacuazione") == []


def test_the_telegram_channel_gets_one_post_for_everybody(town: Town) -> None:
    import json

    from consumers.local.stack import fetch

    alert, _ = town.issue("Chiusa via del Marrucco", ["calcinaia"], kind="chiusura-strada")
    town.delivered(alert)
    posts = json.loads(fetch(f"{town.stack.telegram_url}/__sim/received"))["items"]
    assert [post["to"] for post in posts if "Marrucco" in post["text"]] == ["@comunecalcinaia"]


def told_once(town: Town, words: str) -> set[str]:
    """Who received a text with these words; nobody did so twice. Others live in the town than this test's people."""
    told = town.told(words)
    assert len(told) == len(set(told))
    return set(told)


def _number(text: dict[str, str]) -> str:
    return "+" + str(text["to"]).removeprefix("+")
