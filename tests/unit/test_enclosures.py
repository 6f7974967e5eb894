"""A picture among the words: which channels carry it, and where its address stands where they do not."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alerting.composing import retraction
from alerting.domain.attachments import JPEG, PDF, PNG, enclosed_in, shown_by
from alerting.domain.cap import Area, Resource
from alerting.domain.delivery import Channel
from alerting.domain.gsm import Encoding
from alerting.domain.rendering import MOST_BYTES_IN_A_LETTER, SMS_PARTS, Form, carries, most_of, render, whole
from alerting.domain.text_rules import lint
from alerting.domain.translations import Translation, translated
from tests.integration.calcinaia import CALCINAIA
from tests.unit.test_rendering import NOW, PIENA, saying

SHA256 = "3f9c0b12a7de" + "5e" * 26
URI = f"https://allerta.comune.calcinaia.pi.it/v1/attachments/{SHA256}"
SHORT = "https://allerta.comune.calcinaia.pi.it/a/3f9c0b12a7de"
MAP = Resource("Mappa delle vie da evacuare", PNG, 120_000, URI, digest="5e" * 20)
LINK = f"Mappa: {SHORT}"
WITH_MAP = replace(PIENA, resources=(MAP,))
CHANNELS_WITHOUT = [one for one in Channel if one not in (Channel.WHATSAPP, Channel.TELEGRAM, Channel.EMAIL)]


@pytest.mark.parametrize(
    ("channel", "settings", "media_type", "carried"),
    [
        (Channel.WHATSAPP, {}, JPEG, False),
        (Channel.WHATSAPP, {"template": "allerta_v1"}, JPEG, False),
        (Channel.WHATSAPP, {"template_image": "allerta_foto_v1"}, JPEG, True),
        (Channel.WHATSAPP, {"template_image": "allerta_foto_v1"}, PDF, False),
        (Channel.WHATSAPP, {"template_document": "allerta_piano_v1"}, PDF, True),
        (Channel.WHATSAPP, {"template_document": "allerta_piano_v1"}, PNG, False),
        (Channel.TELEGRAM, {}, JPEG, True),
        (Channel.TELEGRAM, {}, PDF, True),
        (Channel.TELEGRAM, {}, "audio/mpeg", False),
        (Channel.EMAIL, {}, PNG, True),
        (Channel.EMAIL, {}, PDF, True),
        *((channel, {"template_image": "x"}, JPEG, False) for channel in CHANNELS_WITHOUT),
    ],
)
def test_which_channel_carries_what(channel: Channel, settings: dict[str, str], media_type: str, carried: bool) -> None:
    assert carries(channel, settings, media_type, 100_000) is carried


def test_a_letter_carries_what_mailboxes_take() -> None:
    assert carries(Channel.EMAIL, {}, PDF, MOST_BYTES_IN_A_LETTER)
    assert not carries(Channel.EMAIL, {}, PDF, MOST_BYTES_IN_A_LETTER + 1)
    assert carries(Channel.TELEGRAM, {}, PDF, MOST_BYTES_IN_A_LETTER + 1)


def test_the_address_stands_after_what_to_do_in_every_form() -> None:
    for form in set(Form) - {Form.PANEL}:  # on a post there is no room for an address
        linked, bare = render(saying(WITH_MAP), form, link=True), render(saying(WITH_MAP), form)
        assert linked.body.index("Non scendere") < linked.body.index(LINK), form
        assert linked.body.replace(LINK, "").split() == bare.body.split(), "and nothing else has changed"
    assert render(saying(WITH_MAP), Form.TEMPLATE, link=True).variables[-1].endswith(f"allerta {LINK}")
    assert f"\n{LINK}\n" in render(saying(WITH_MAP), Form.MAIL, link=True).body + "\n"


@pytest.mark.parametrize("form", Form)
def test_without_a_picture_nothing_is_linked(form: Form) -> None:
    assert render(saying(PIENA), form, link=True) == render(saying(PIENA), form)


def test_an_sms_with_a_map_stays_in_its_alphabet_and_its_parts() -> None:
    rendered = render(saying(WITH_MAP), Form.SMS, link=True)
    assert rendered.size is not None and rendered.size.encoding is Encoding.GSM_7 and LINK in rendered.body
    assert rendered.size.parts <= SMS_PARTS and not rendered.shortened


def test_an_address_that_an_sms_cannot_spell_is_left_out_and_costs_no_letter_of_the_rest() -> None:
    odd = replace(PIENA, resources=(replace(MAP, uri="https://regione.example/mappà-Ж.png"),))
    rendered = render(saying(odd), Form.SMS, link=True)
    assert rendered.size is not None and rendered.size.encoding is Encoding.GSM_7
    assert "regione.example" not in rendered.body and rendered.body == render(saying(odd), Form.SMS).body
    assert "https://regione.example/mappà-Ж.png" in render(saying(odd), Form.CHAT, link=True).body


texts = st.text(alphabet="aèÈ €.Ж", max_size=600)


@given(texts, texts, texts, st.sampled_from(Form), st.integers(2, 4))
@settings(deadline=None)
def test_the_address_goes_before_the_instruction_is_cut_and_is_never_cut_itself(
    headline: str, description: str, instruction: str, form: Form, parts: int
) -> None:
    info = replace(WITH_MAP, headline=headline, description=description, instruction=f"Evacuare{instruction}fine")
    alert = saying(replace(info, areas=tuple(Area(f"via {number}") for number in range(30))))
    rendered = render(alert, form, parts=parts, link=True)
    assert rendered.characters <= most_of(rendered, form, parts=parts)
    assert ("https://allerta" in rendered.body) is (LINK in rendered.body)
    if LINK in rendered.body:
        assert "fine" in rendered.body, "all of the instruction is there too"


def test_in_a_short_sms_the_map_stays_when_explanations_must_go_and_goes_when_the_instruction_would() -> None:
    talkative = replace(WITH_MAP, description="Il fiume sale. " * 60)
    rendered = render(saying(talkative), Form.SMS, link=True)
    assert rendered.shortened and LINK in rendered.body and "Non scendere in cantine e sottopassi." in rendered.body
    instructive = replace(WITH_MAP, instruction="Non scendere in cantina. " * 11 + "Fine.")
    rendered = render(saying(instructive), Form.SMS, link=True)
    assert LINK not in rendered.body and "Fine." in rendered.body


def test_an_operator_is_warned_of_an_sms_that_is_too_long_with_its_address() -> None:
    room = SMS_PARTS * 153 - whole(saying(replace(PIENA, description="")), Form.SMS).characters - len("Evacuare. " * 2)
    long = replace(WITH_MAP, description="x" * room)
    assert whole(saying(long), Form.SMS).size.parts == SMS_PARTS  # type: ignore[union-attr]
    assert "sms-long" in {finding.rule for finding in lint(saying(long))}
    assert "sms-long" not in {finding.rule for finding in lint(saying(replace(long, resources=())))}


def test_what_is_shown_is_the_first_that_people_can_see() -> None:
    sound = Resource("Sirena", "audio/mpeg", None, "https://regione.example/sirena.mp3")
    inline = Resource("Mappa", PNG, 3, deref_uri="Rm9y")
    alert = saying(replace(PIENA, resources=(sound, inline, MAP)))
    assert shown_by(alert) == MAP and enclosed_in(alert) == SHA256
    assert shown_by(saying(replace(PIENA, resources=(sound, inline)))) is None
    assert enclosed_in(saying(replace(PIENA, resources=(replace(MAP, uri="https://regione.example/m.png"),)))) is None


def test_a_translation_shows_the_same_and_a_retraction_nothing() -> None:
    english = translated(WITH_MAP, Translation("en", "Orange alert", "", "Stay out of cellars."))
    assert english.resources == (MAP,)
    alert = replace(saying(WITH_MAP), infos=(WITH_MAP, english))
    taken_back = retraction(alert, CALCINAIA, "Errore.", NOW)
    assert [info.resources for info in taken_back.infos] == [()]
    assert "/a/" not in render(taken_back, link=True).body
