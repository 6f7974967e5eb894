"""A letter with a picture or a PDF, read back as a mail program reads it."""

from dataclasses import replace
from datetime import UTC, datetime
from email.message import EmailMessage

import pytest

from consumers.channel import Attachment, Text
from consumers.channels.email import Email
from consumers.channels.letters import Sender, letter
from consumers.simulators import email as simulator
from consumers.simulators.serving import Served
from tests.contract.fornacette import EMAIL_PASSWORD, PUBLIC_URL, email_account
from tests.contract.test_email import FLOOD, MARIA, content, letter_of, office, read
from tests.unit.test_attachments import document, photograph, plan, saved

URL = f"{PUBLIC_URL}/v1/attachments/{'5e' * 32}"
MAP = Attachment(
    "allerta-5e5e5e5e5e5e.png", "image/png", saved(plan(), "PNG"), "5e" * 32, URL, 'Mappa: "zona A" & <zona B>'
)
PDF = Attachment("allerta-5e5e5e5e5e5e.pdf", "application/pdf", document(), "5f" * 32, URL, "Piano della frazione")
CAP = Attachment("allerta.xml", "application/cap+xml", b"<alert/>")
SENDER = Sender("avvisi@comune.fornacette.example")


def parts(whole: EmailMessage) -> list[str]:
    return [part.get_content_type() for part in whole.walk()]


async def test_a_picture_stands_in_the_letter_and_says_what_it_shows(post_office: Served, email: Email) -> None:
    found = await letter_of(post_office, email, replace(FLOOD, enclosure=MAP, attachments=(CAP,)))
    assert parts(found) == [
        "multipart/mixed",
        "multipart/alternative",
        "text/plain",
        "multipart/related",
        "text/html",
        "image/png",
        "application/cap+xml",
    ]
    (picture,) = [part for part in found.walk() if part.get_content_type() == "image/png"]
    assert isinstance(picture, EmailMessage) and picture.get_content() == MAP.content
    assert (picture.get_content_disposition(), picture.get_filename()) == ("inline", MAP.name)
    html, plain = content(found, "html"), content(found, "plain")
    assert f'src="cid:{picture["Content-ID"].strip("<>")}"' in html
    assert 'alt="Mappa: &quot;zona A&quot; &amp; &lt;zona B&gt;"' in html and f'href="{URL}"' in html
    assert f"Mappa: {MAP.says}\n{URL}\n" in plain, "for those whose program shows words alone"
    assert plain.index("Evacuare") < plain.index(URL) < plain.index("-- ")
    assert html.index("Evacuare") < html.index("cid:") < html.index("<hr>")
    assert [part.get_filename() for part in found.iter_attachments()] == ["allerta.xml"], "it is no attachment"


async def test_a_pdf_goes_with_the_letter(post_office: Served, email: Email) -> None:
    found = await letter_of(post_office, email, replace(FLOOD, enclosure=PDF, attachments=(CAP,)))
    pdf, cap = found.iter_attachments()
    assert isinstance(pdf, EmailMessage)
    assert (pdf.get_content_type(), pdf.get_filename()) == ("application/pdf", PDF.name)
    assert pdf.get_content() == PDF.content and cap.get_content_type() == "application/cap+xml"
    assert "<strong>Documento allegato:</strong> Piano della frazione" in content(found, "html")
    assert f"Documento: Piano della frazione\n{URL}\n" in content(found, "plain")


async def test_what_is_published_nowhere_is_linked_nowhere(post_office: Served, email: Email) -> None:
    found = await letter_of(post_office, email, replace(FLOOD, enclosure=replace(MAP, url="")))
    assert "<p><img src=" in content(found, "html") and "http" not in content(found, "plain").partition("-- ")[0]


async def test_each_still_has_their_own_way_to_leave(post_office: Served, email: Email) -> None:
    letters = []
    for address in (MARIA, "bruno@posta.example"):
        account = email_account(office(post_office).smtp_url)
        await email.send(account, address, replace(FLOOD, enclosure=MAP), "7.3.1")
        letters.append(read(office(post_office).raw[-1]))
    ways = [str(one["List-Unsubscribe"]).strip("<> ") for one in letters]
    assert len(set(ways)) == 2
    for one, way in zip(letters, ways, strict=True):
        assert way in content(one, "html") and way in content(one, "plain").replace("\n", "")


def test_a_letter_with_a_picture_is_built_once_for_everybody() -> None:
    text = replace(FLOOD, enclosure=MAP)
    first = letter(text, SENDER, True)
    assert letter(replace(text, enclosure=replace(MAP)), SENDER, True) is first
    other = replace(MAP, sha256="6a" * 32, content=b"\x89PNG")
    assert letter(replace(text, enclosure=other), SENDER, True) is not first


@pytest.mark.parametrize("line", ["Mappa: https://allerta.example/a/5e5e5e5e5e5e", "https://allerta.example/mappa"])
def test_an_address_among_the_words_can_be_tapped(line: str) -> None:
    raw = letter(Text(f"Piena\n\n{line}"), SENDER, False).to(MARIA, "1@x", datetime.now(UTC), None)
    address = line.removeprefix("Mappa: ")
    assert f'<a href="{address}">{address}</a>' in content(read(raw.replace(b"\r\n..", b"\r\n.")), "html")


async def test_the_largest_photograph_a_letter_takes_arrives_whole(email: Email) -> None:
    """Three megabytes become four, and a usual mail server takes ten."""
    served = await simulator.start({"accounts": {"fornacette": {"password": EMAIL_PASSWORD}}})
    large = replace(MAP, content=saved(photograph(), "JPEG").ljust(3_000_000, b"."), media_type="image/jpeg")
    try:
        found = await letter_of(served, email, replace(FLOOD, enclosure=large))
    finally:
        await served.close()
    (picture,) = [part for part in found.walk() if part.get_content_type() == "image/jpeg"]
    assert isinstance(picture, EmailMessage) and picture.get_content() == large.content
