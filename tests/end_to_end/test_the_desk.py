"""Santa Fiora's desk with every process at work: a hole in the road, an appointment, and no flood in anybody's way."""

import base64
import re
import time
from io import BytesIO
from typing import Any

from PIL import Image

from tests.end_to_end.town import Town

COMUNE = "santa-fiora"
IN_BAGNOLO = {"lat": 42.840, "lon": 11.615}


def number(town: Town, last: int) -> str:
    return f"+3934881{town.stack.prefix.encode()[1] % 10}{last:03d}1"


def photograph() -> str:
    drawn = BytesIO()
    Image.new("RGB", (640, 480), "grey").save(drawn, "JPEG")
    return base64.b64encode(drawn.getvalue()).decode()


def test_a_hole_is_reported_twice_with_a_photo_and_a_position_and_both_are_told_that_it_is_mended(town: Town) -> None:
    maria, pietro, staff = number(town, 1), number(town, 2), town.api("operator")
    town.writes(maria, "Buca pericolosa in via Roma", COMUNE, photo=photograph())
    town.until(lambda: len(town.telephone(maria)) == 1)
    assert "buche e strade" in town.telephone(maria)[0]
    town.writes(maria, "", COMUNE, point=IN_BAGNOLO)
    town.writes(pietro, "c'è una buca in via Roma a Bagnolo", COMUNE)
    town.until(lambda: len(town.telephone(pietro)) == 1)
    first, second = (int(re.findall(r"n\. (\d+)", town.telephone(who)[0])[0]) for who in (maria, pietro))

    def report() -> dict[str, object]:
        return town.read(f"/v1/desk/reports/{first}")

    town.until(lambda: report()["frazione"] == "Bagnolo")
    town.until(lambda: [one["state"] for one in town.read(f"/v1/desk/reports/{first}")["photos"]] == ["kept"])
    assert town.read(f"/v1/desk/reports/{second}")["alike"] == [first]

    staff.post(f"/v1/desk/reports/{second}/merge", {"into": first})
    staff.post(f"/v1/desk/reports/{first}/answer", {"words": "Veniamo domani mattina."})
    town.until(lambda: len(town.telephone(maria)) == 2)
    assert "Veniamo domani mattina." in town.telephone(maria)[1]
    staff.post(f"/v1/desk/reports/{first}/close", {"solved": True, "words": "Asfaltata."})
    town.until(lambda: len(town.telephone(maria)) == 3 and len(town.telephone(pietro)) == 2)
    for who, its in ((maria, first), (pietro, second)):
        assert f"n. {its} è risolta. Asfaltata." in town.telephone(who)[-1]


def test_an_appointment_is_offered_chosen_and_cancelled(town: Town) -> None:
    lina = number(town, 3)

    def hers() -> list[Any]:
        booked = town.read(f"/v1/desk/bookings?authority={COMUNE}&office=anagrafe")["items"]
        return [one for one in booked if one["address"] == f"+39 … {lina[-2:]}"]

    town.writes(lina, "Appuntamento anagrafe", COMUNE)
    town.until(lambda: len(town.telephone(lina)) == 1)
    assert "1) " in town.telephone(lina)[0]
    town.writes(lina, "la 2", COMUNE)
    town.until(lambda: len(town.telephone(lina)) == 2)
    assert "appuntamento fissato con Anagrafe" in town.telephone(lina)[1]
    assert len(hers()) == 1
    town.writes(lina, "DISDICI", COMUNE)
    town.until(lambda: len(town.telephone(lina)) == 3)
    assert hers() == []


def test_a_flood_of_reports_stands_before_nobody_who_joins_nor_before_an_alert(town: Town) -> None:
    """Answers of the desk go at a walking pace: what is left of them waits beside the lanes."""
    for one in range(300):
        town.writes(number(town, 100 + one), f"Buca numero {one} in via Roma", COMUNE)
    ida = number(town, 4)
    asked = time.monotonic()
    town.writes(ida, "ATTIVA COMUNE AMICO", COMUNE)
    town.until(lambda: town.telephone(ida) == [town.stack.authorities[COMUNE].texts.welcome])
    alert, _ = town.issue("Frana sulla provinciale", [COMUNE], authority=COMUNE, kind="chiusura-strada")
    town.delivered(alert)
    answered = len(town.received("buche e strade"))
    assert answered <= 62 + 60 * (1 + (time.monotonic() - asked) / 60), "more than the file allows in a minute"
    assert answered < 300, "the heap was to wait beside the lanes"
    town.until(lambda: len(town.read(f"/v1/desk/reports?authority={COMUNE}&state=new&limit=100")["items"]) == 100)
    # Whoever asks to be erased is answered nothing more; nor has the next test to wait behind the heap.
    for one in range(300):
        person = {"authority": COMUNE, "channel": "whatsapp", "address": number(town, 100 + one)}
        town.api("operator").post("/v1/recipients/erasures", person)
    town.writes(ida, "Lampione spento in via Roma", COMUNE)
    town.until(lambda: any("illuminazione pubblica" in one for one in town.telephone(ida)), patience=240)
    assert len(town.received("buche e strade")) < 300
