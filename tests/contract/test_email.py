"""SMTP word by word: what the codes mean, what a letter looks like when it is read back, what bounces say."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from ipaddress import ip_address
from pathlib import Path

import pytest
from aiohttp import ClientSession
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from alerting.domain.delivery import (
    Accepted,
    ChannelHalted,
    Deferred,
    Outcome,
    Progress,
    Reason,
    Refused,
    TextRejected,
    Uncertain,
)
from alerting.postmarks import Leaver, Postmarks
from alerting.webhooks.email import read_bounce, verify_secret
from consumers.channel import Account, Attachment, Text
from consumers.channels.email import MAILS_A_CONNECTION, Email, Said, classify, server_at
from consumers.simulators import email as simulator
from consumers.simulators.email import EmailSimulator
from consumers.simulators.serving import Served
from tests.contract.fornacette import (
    EMAIL_PASSWORD,
    POSTMARKS,
    PUBLIC_URL,
    a_server_that,
    email_account,
    received,
    tell,
)

MARIA = "maria@posta.example"
FLOOD = Text(
    "Comune di Fornacette: piena dell'Arno\n\nDove: Fornacette\nQuando: adesso\n\nCosa fare: Evacuare.",
    subject="Comune di Fornacette: piena dell'Arno",
    urgent=True,
    thread=("fornacette-1",),
)


def office(served: Served) -> EmailSimulator:
    assert isinstance(served.simulator, EmailSimulator)
    return served.simulator


def account_at(served: Served, **changes: object) -> Account:
    return email_account(office(served).smtp_url, **changes)


async def letter_of(served: Served, email: Email, text: Text, reference: str = "7.3.1") -> EmailMessage:
    """What one mailbox got, as a mail program reads it."""
    assert isinstance(await email.send(account_at(served), MARIA, text, reference), Accepted)
    return read(office(served).raw[-1])


def read(raw: bytes) -> EmailMessage:
    found = message_from_bytes(raw, policy=default)
    assert isinstance(found, EmailMessage) and not found.defects
    assert all(len(line) <= 998 for line in raw.split(b"\r\n")), "RFC 5322, 2.1.1"
    return found


def content(letter: EmailMessage, kind: str) -> str:
    part = letter.get_body((kind,))
    assert part is not None
    return str(part.get_content()).replace("\r\n", "\n")


# ── what the codes mean ─────────────────────────────────────────────────────────────────────────────

ANSWERS: list[tuple[Said, int, str, Outcome]] = [
    (Said.TEXT, 250, "2.0.0 Ok: queued as 4BzX2k1Jt9", Accepted("4BzX2k1Jt9")),
    (Said.TEXT, 250, "OK id=1rABcd-0001Ef-2G", Accepted("1rABcd-0001Ef-2G")),
    (Said.TEXT, 250, "Ok 0102018c", Accepted("Ok 0102018c")),
    (Said.PERSON, 550, "5.1.1 User unknown", Refused(Reason.NOT_REACHABLE_HERE)),
    (Said.PERSON, 550, "5.1.2 Bad destination system", Refused(Reason.NOT_REACHABLE_HERE)),
    (Said.PERSON, 550, "5.1.6 Mailbox has moved", Refused(Reason.NOT_REACHABLE_HERE)),
    (Said.TEXT, 550, "5.1.10 Recipient not found", Refused(Reason.NOT_REACHABLE_HERE)),
    (Said.PERSON, 551, "User not local", Refused(Reason.NOT_REACHABLE_HERE)),
    (Said.PERSON, 553, "5.1.3 Bad syntax", Refused(Reason.NOT_REACHABLE_HERE)),
    (Said.PERSON, 550, "5.1.100 Nobody knows this code", Deferred(Reason.UNKNOWN_ANSWER)),
    (Said.PERSON, 550, "No such user", Deferred(Reason.UNKNOWN_ANSWER)),
    (Said.PERSON, 550, "4.1.1 A code that contradicts itself", Deferred(Reason.UNKNOWN_ANSWER)),
    (Said.PERSON, 552, "5.2.2 Over quota", Deferred(Reason.POLICY, timedelta(minutes=10))),
    (Said.PERSON, 552, "Over quota", Deferred(Reason.POLICY, timedelta(minutes=10))),
    (Said.PERSON, 452, "4.2.2 Over quota", Deferred(Reason.POLICY, timedelta(minutes=10))),
    (Said.PERSON, 451, "4.7.1 Greylisted", Deferred(Reason.THROTTLED, timedelta(minutes=5))),
    (Said.SENDER, 450, "4.7.1 too much mail", Deferred(Reason.THROTTLED, timedelta(seconds=5), whole_account=True)),
    (Said.TEXT, 421, "4.7.0 Slow down", Deferred(Reason.THROTTLED, timedelta(seconds=5), whole_account=True)),
    (
        Said.TEXT,
        454,
        "Throttling failure: Maximum sending rate exceeded",
        Deferred(Reason.THROTTLED, timedelta(minutes=5)),
    ),
    (Said.PERSON, 452, "4.5.3 Too many recipients", Deferred(Reason.THROTTLED, timedelta(seconds=5), True)),
    (Said.SENDER, 421, "4.3.2 Shutting down", Deferred(Reason.PROVIDER_UNAVAILABLE)),
    (Said.TEXT, 451, "4.3.0 Local error", Deferred(Reason.PROVIDER_UNAVAILABLE)),
    (Said.LOGIN, 454, "4.7.0 Temporary authentication failure", Deferred(Reason.THROTTLED, timedelta(seconds=5), True)),
    (Said.PERSON, 550, "5.7.1 Access denied", Deferred(Reason.UNKNOWN_ANSWER, timedelta(minutes=10))),
    (Said.SENDER, 503, "Bad sequence", Deferred(Reason.UNKNOWN_ANSWER)),
]


@pytest.mark.parametrize(("to", "code", "words", "outcome"), ANSWERS)
def test_the_table_of_answers(to: Said, code: int, words: str, outcome: Outcome) -> None:
    """Reply and enhanced codes of RFC 5321, 3463 and 4954, in the words of Postfix, Exim, Exchange and SES."""
    assert classify(to, code, words, "email-fornacette") == outcome


@pytest.mark.parametrize(
    ("to", "code", "words", "raised"),
    [
        (Said.LOGIN, 535, "5.7.8 Error: authentication failed", ChannelHalted),
        (Said.SENDER, 530, "5.7.0 Authentication required", ChannelHalted),
        (Said.TLS, 454, "4.7.0 TLS not available due to local problem", ChannelHalted),
        (Said.SENDER, 550, "5.7.1 Sender rejected", ChannelHalted),
        (Said.TEXT, 550, "5.7.26 DMARC", ChannelHalted),
        (Said.SENDER, 553, "5.1.8 Bad sender's system address", ChannelHalted),
        (Said.TEXT, 552, "5.3.4 Message too big", TextRejected),
        (Said.SENDER, 552, "Error: message size exceeds fixed maximum message size", TextRejected),
        (Said.TEXT, 554, "5.6.0 Invalid message", TextRejected),
    ],
)
def test_what_concerns_everybody_is_raised(to: Said, code: int, words: str, raised: type[Exception]) -> None:
    with pytest.raises(raised, match="email-fornacette"):
        classify(to, code, words, "email-fornacette")


@given(
    to=st.sampled_from(Said), code=st.integers(-1, 999), words=st.text() | st.from_regex(r"[245]\.\d{1,3}\.\d{1,3} x")
)
@settings(max_examples=500, deadline=None)
def test_no_answer_is_a_refusal_unless_it_is_known_to_be_one(to: Said, code: int, words: str) -> None:
    with contextlib.suppress(ChannelHalted, TextRejected):
        outcome = classify(to, code, words, "email-fornacette")
        known = any(words.startswith(f"5.{one}") for one in ("1.1", "1.2", "1.3", "1.6", "1.10", "2.1"))
        assert not isinstance(outcome, Refused) or known or code == 551


# ── the simulator's bad addresses, through the adapter ──────────────────────────────────────────────


@pytest.mark.parametrize(
    ("wish", "outcome"),
    [
        ("550", Refused(Reason.NOT_REACHABLE_HERE)),
        ("450", Deferred(Reason.POLICY)),
        ("451", Deferred(Reason.THROTTLED, timedelta(minutes=5))),
        ("421", Deferred(Reason.PROVIDER_UNAVAILABLE)),
        ("452", Deferred(Reason.POLICY, timedelta(minutes=10))),
        ("551", Refused(Reason.NOT_REACHABLE_HERE)),
        ("553", Refused(Reason.NOT_REACHABLE_HERE)),
        ("554", Deferred(Reason.UNKNOWN_ANSWER)),
        ("421-text", Deferred(Reason.PROVIDER_UNAVAILABLE)),
        ("dies-after-dot", Uncertain(Reason.PROVIDER_SILENT)),
        ("dies-before-dot", Deferred(Reason.PROVIDER_UNAVAILABLE)),
    ],
)
async def test_each_fate_of_a_letter(post_office: Served, email: Email, wish: str, outcome: Outcome) -> None:
    assert await email.send(account_at(post_office), f"maria+{wish}@posta.example", FLOOD, "7.3.1") == outcome
    after = await email.send(account_at(post_office), MARIA, FLOOD, "7.4.1")
    assert isinstance(after, Accepted), "whatever became of one letter, the next one goes out"
    assert len(office(post_office).raw) == (2 if wish == "dies-after-dot" else 1)


async def test_a_slow_server_is_waited_for(post_office: Served, email: Email) -> None:
    assert isinstance(await email.send(account_at(post_office), "maria+slow@posta.example", FLOOD, "7.3.1"), Accepted)


async def test_a_policy_against_all_our_mail_halts_and_a_letter_too_big_is_the_texts(
    post_office: Served, email: Email
) -> None:
    with pytest.raises(ChannelHalted, match=r"5\.7\.26"):
        await email.send(account_at(post_office), "maria+5.7.26@posta.example", FLOOD, "7.3.1")
    with pytest.raises(TextRejected, match=r"5\.3\.4"):
        await email.send(account_at(post_office), "maria+552@posta.example", FLOOD, "7.3.1")
    with pytest.raises(ChannelHalted, match=r"5\.7\.1"):
        stranger = account_at(post_office, identity="altri@altrove.example", settings={"username": "fornacette"})
        await email.send(stranger, MARIA, FLOOD, "7.3.1")


async def test_a_password_is_in_nothing_that_is_said(post_office: Served, email: Email) -> None:
    wrong = account_at(post_office, settings={"username": "nessuno"})
    with pytest.raises(ChannelHalted, match="535") as halted:
        await email.send(wrong, MARIA, FLOOD, "7.3.1")
    assert EMAIL_PASSWORD not in f"{halted.value!r} {halted.value.__context__!r} {vars(halted.value)}"


async def test_an_alert_that_has_expired_is_not_sent(post_office: Served, email: Email) -> None:
    over = replace(FLOOD, expires=datetime.now(UTC) - timedelta(seconds=1))
    assert await email.send(account_at(post_office), MARIA, over, "7.3.1") == Deferred(Reason.EXPIRED)
    assert office(post_office).raw == []


# ── connections ─────────────────────────────────────────────────────────────────────────────────────


async def test_letters_share_a_connection_and_none_carries_more_than_a_hundred(post_office: Served) -> None:
    adapter = Email(POSTMARKS, limit_per_host=1)
    for number in range(MAILS_A_CONNECTION + 1):
        assert isinstance(await adapter.send(account_at(post_office), MARIA, FLOOD, f"7.{number}.1"), Accepted)
    assert office(post_office).connections == 2
    await adapter.close()


async def test_a_connection_that_died_while_idle_costs_nobody_a_letter(post_office: Served, email: Email) -> None:
    assert isinstance(await email.send(account_at(post_office), MARIA, FLOOD, "7.3.1"), Accepted)
    for line in list(office(post_office)._lines):
        line.hang_up()
    assert isinstance(await email.send(account_at(post_office), MARIA, FLOOD, "7.4.1"), Accepted)


async def test_a_server_that_says_goodbye_to_an_old_connection_is_called_again(
    post_office: Served, email: Email, http: ClientSession
) -> None:
    await tell(post_office, http, "config", {"mails_a_connection": 1})
    for number in range(3):
        assert isinstance(await email.send(account_at(post_office), MARIA, FLOOD, f"7.{number}.1"), Accepted)
    assert office(post_office).connections == 3


async def test_a_server_that_says_nothing_at_first_has_heard_nothing() -> None:
    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    adapter = Email(POSTMARKS, connect=timedelta(seconds=0.5), total=timedelta(seconds=1))
    async with a_server_that(converse, "smtp") as url:
        assert await adapter.send(email_account(url), MARIA, FLOOD, "7.3.1") == Deferred(Reason.PROVIDER_UNAVAILABLE)
    await adapter.close()


@pytest.mark.parametrize(
    ("last", "outcome"),
    [
        (b"nonsense\r\n", Uncertain(Reason.UNKNOWN_ANSWER)),
        (b"354 go on\r\n", Uncertain(Reason.UNKNOWN_ANSWER)),
        (b"250 2.0", Uncertain(Reason.PROVIDER_SILENT)),
        (b"", Uncertain(Reason.PROVIDER_SILENT)),
        (b"550 5.1.1 after all\r\n", Refused(Reason.NOT_REACHABLE_HERE)),
        (b"599 9.9.9 new\r\n", Deferred(Reason.UNKNOWN_ANSWER)),
        (b"250 " + b"x" * 100_000, Uncertain(Reason.UNKNOWN_ANSWER)),
    ],
)
async def test_after_the_final_dot_only_a_no_is_a_no(last: bytes, outcome: Outcome) -> None:
    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 posta\r\n")
        for answer in (b"250 posta\r\n", b"250 ok\r\n", b"250 ok\r\n", b"354 go on\r\n"):
            await reader.readline()
            writer.write(answer)
        await reader.readuntil(b"\r\n.\r\n")
        writer.write(last)
        with contextlib.suppress(ConnectionError):
            await writer.drain()
        writer.close()

    adapter = Email(POSTMARKS, total=timedelta(seconds=5))
    async with a_server_that(converse, "smtp") as url:
        assert await adapter.send(email_account(url, settings={}), MARIA, FLOOD, "7.3.1") == outcome
    await adapter.close()


async def test_a_server_that_dies_in_the_middle_of_a_letter_has_not_got_it() -> None:
    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 posta\r\n")
        for answer in (b"250 posta\r\n", b"250 ok\r\n", b"250 ok\r\n", b"354 go on\r\n"):
            await reader.readline()
            writer.write(answer)
        await reader.readexactly(1000)
        writer.transport.abort()

    long = replace(FLOOD, attachments=(Attachment("allerta.xml", "application/cap+xml", b"x" * 20_000_000),))
    adapter = Email(POSTMARKS, total=timedelta(seconds=10))
    async with a_server_that(converse, "smtp") as url:
        outcome = await adapter.send(email_account(url, settings={}), MARIA, long, "7.3.1")
    assert outcome == Deferred(Reason.PROVIDER_UNAVAILABLE)
    await adapter.close()


# ── TLS ─────────────────────────────────────────────────────────────────────────────────────────────

ELSEWHERE = "0.0.0.0"
"""This machine by an address that is not loopback."""


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate and its key, for ELSEWHERE."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "posta.example")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address(ELSEWHERE))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = tmp_path_factory.mktemp("tls") / "posta.pem"
    plain = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    file.write_bytes(key.private_bytes(*plain) + made.public_bytes(serialization.Encoding.PEM))
    return file


@pytest.fixture
async def secure_office(certificate: Path) -> AsyncIterator[Served]:
    def tls() -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        return context

    served = await simulator.start({"accounts": {"fornacette": {"password": EMAIL_PASSWORD}}}, host=ELSEWHERE, tls=tls)
    yield served
    await served.close()


async def test_starttls_comes_before_the_password(secure_office: Served, certificate: Path) -> None:
    trusting = Email(POSTMARKS, tls=ssl.create_default_context(cafile=str(certificate)))
    assert isinstance(await trusting.send(account_at(secure_office), MARIA, FLOOD, "7.3.1"), Accepted)
    await trusting.close()


async def test_a_certificate_nobody_knows_halts_before_the_password(secure_office: Served) -> None:
    adapter = Email(POSTMARKS)
    with pytest.raises(ChannelHalted, match="certificate"):
        await adapter.send(account_at(secure_office), MARIA, FLOOD, "7.3.1")
    await adapter.close()


async def test_without_starttls_nothing_is_said_beyond_this_machine() -> None:
    served = await simulator.start({"accounts": {"fornacette": {"password": EMAIL_PASSWORD}}}, host=ELSEWHERE)
    adapter = Email(POSTMARKS)
    with pytest.raises(ChannelHalted, match="STARTTLS"):
        await adapter.send(account_at(served), MARIA, FLOOD, "7.3.1")
    assert office(served).raw == []
    await adapter.close()
    await served.close()


def test_where_a_mail_server_may_be() -> None:
    submission, secure, here = (
        server_at(f"{url}") for url in ("smtp://posta.it", "smtps://posta.it", "smtp://[::1]:25")
    )
    assert submission is not None and (submission.port, submission.tls, submission.plain) == (587, False, False)
    assert secure is not None and (secure.port, secure.tls, secure.plain) == (465, True, False)
    assert here is not None and (here.port, here.plain) == (25, True)
    for wrong in (
        "",
        "posta.it",
        "http://posta.it",
        "smtp://",
        "smtp://a:b@posta.it",
        "smtp://posta.it:x",
        "smtp://[::1",
    ):
        assert server_at(wrong) is None, wrong


# ── a letter, read back ─────────────────────────────────────────────────────────────────────────────


async def test_the_headers_of_an_alert(post_office: Served, email: Email) -> None:
    cap = b'<?xml version="1.0" encoding="UTF-8"?>\n<alert/>'
    text = replace(FLOOD, attachments=(Attachment("allerta.xml", "application/cap+xml", cap),))
    letter = await letter_of(post_office, email, text)

    assert (letter["To"], letter["Subject"]) == (MARIA, "Comune di Fornacette: piena dell'Arno")
    assert letter["From"] == "Città di Fornacette <avvisi@comune.fornacette.example>"
    assert (letter["Auto-Submitted"], letter["Content-Language"]) == ("auto-generated", "it")
    assert (letter["Importance"], letter["X-Alert-Id"]) == ("high", "fornacette-1")
    assert abs(letter["Date"].datetime - datetime.now(UTC)) < timedelta(minutes=1)
    assert list(POSTMARKS.references(letter["Message-ID"])) == ["7.3.1"]
    assert letter.get_content_type() == "multipart/mixed"
    (alternative, attached) = letter.iter_parts()
    assert isinstance(alternative, EmailMessage) and isinstance(attached, EmailMessage)
    kinds = [part.get_content_type() for part in alternative.iter_parts()]
    assert kinds == ["text/plain", "text/html"], "the last one is what a program prefers"
    assert (attached.get_content_type(), attached.get_filename()) == ("application/cap+xml", "allerta.xml")
    assert attached.get_content() == cap
    assert "Cosa fare: Evacuare." in content(letter, "plain")
    assert "<strong>Cosa fare:</strong> Evacuare." in content(letter, "html")


async def test_the_return_path_is_each_persons_own(post_office: Served, email: Email, http: ClientSession) -> None:
    for number in (1, 2):
        await email.send(account_at(post_office), MARIA, FLOOD, f"7.{number}.3")
    paths = [str(item["reference"]) for item in await received(post_office, http)]
    assert [list(POSTMARKS.references(path)) for path in paths] == [["7.1.3"], ["7.2.3"]]
    assert all(path.startswith("rimbalzi+") and len(path.partition("@")[0]) <= 64 for path in paths)
    longest = POSTMARKS.mark(f"{'9' * 18}.{'9' * 9}.{'9' * 5}")
    assert len(f"rimbalzi+{longest}") <= 64

    bare = account_at(post_office, settings={"username": "fornacette"})
    await email.send(bare, MARIA, FLOOD, "7.3.1")
    assert (await received(post_office, http))[-1]["reference"] == "avvisi@comune.fornacette.example"


async def test_a_second_attempt_has_the_message_id_of_the_first(post_office: Served, email: Email) -> None:
    first = await letter_of(post_office, email, FLOOD, "7.3.1")
    again = await letter_of(post_office, email, FLOOD, "7.3.2")
    another = await letter_of(post_office, email, FLOOD, "7.4.1")
    assert first["Message-ID"] == again["Message-ID"] != another["Message-ID"]


async def test_alert_update_and_all_clear_stand_in_one_thread(post_office: Served, email: Email) -> None:
    alert = await letter_of(post_office, email, FLOOD, "7.3.1")
    update = await letter_of(post_office, email, replace(FLOOD, thread=("fornacette-1", "fornacette-2")), "8.3.1")
    clear = await letter_of(
        post_office, email, replace(FLOOD, thread=("fornacette-1", "fornacette-2", "fornacette 3>\r\nX: y")), "9.3.1"
    )
    assert alert["References"].split()[0] == update["References"].split()[0] == clear["References"].split()[0]
    assert alert["In-Reply-To"] is None
    assert (update["In-Reply-To"], clear["In-Reply-To"]) == (alert["References"], update["References"].split()[-1])
    assert len(clear["References"].split()) == 3 and clear["X"] is None


async def test_the_way_to_leave_is_in_the_headers_and_in_both_texts(post_office: Served, email: Email) -> None:
    letter = await letter_of(post_office, email, FLOOD)
    url = letter["List-Unsubscribe"].strip("<> ")
    assert letter["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert url.startswith(f"{PUBLIC_URL}/v1/unsubscribe/") and MARIA not in url
    assert url in content(letter, "plain") and f'href="{url}"' in content(letter, "html")
    assert POSTMARKS.leaver(url.rpartition("/")[2]) == Leaver("email-fornacette", MARIA)

    other = Email(POSTMARKS)
    without = await letter_of(post_office, other, FLOOD)
    assert without["List-Unsubscribe"] is None and without["List-Unsubscribe-Post"] is None
    assert "unsubscribe" not in content(without, "plain") + content(without, "html")
    await other.close()


@pytest.mark.parametrize(
    "body",
    [
        "Evacuare. " * 500,
        "🌊" * 2_000,
        "è" * 5_000,
        ".\n..\n.\r\n.\nEvacuare.\n.",
        "=3D =C3 = \n=",
        "a" * 3_000,
        "مياه الفيضان قادمة",
        "",
    ],
    ids=["5,000 characters", "emoji only", "accents", "dots", "equals signs", "one word", "Arabic", "nothing"],
)
async def test_a_text_arrives_as_it_was_written(post_office: Served, email: Email, body: str) -> None:
    letter = await letter_of(post_office, email, Text(body))
    said = body.replace("\r\n", "\n")
    assert content(letter, "plain").startswith(said)
    assert letter["Subject"] and len(letter["Subject"]) <= 160


async def test_html_is_words_and_marks_that_turn_the_writing_round_are_gone(post_office: Served, email: Email) -> None:
    text = Text(
        "<script>alert(1)</script> & \u202eessap\u2066 \x00\x1b[31m\n\n<b onclick=x>\n\nhttps://a.it/?q='\"><i>"
    )
    letter = await letter_of(post_office, email, text)
    page = content(letter, "html")
    assert "<script" not in page and "<b onclick" not in page and "<i>" not in page
    assert "&lt;script&gt;" in page and 'href="https' not in page.replace(PUBLIC_URL, "")
    for mark in "\u202e\u2066\x00\x1b":
        assert mark not in page + content(letter, "plain")


async def test_no_word_of_a_text_becomes_a_header(post_office: Served, email: Email) -> None:
    evil = "Piena\r\nBcc: tutti@posta.example\r\n\r\nciao"
    text = replace(FLOOD, subject=evil, language="it")
    letter = await letter_of(post_office, email, text)
    assert letter["Bcc"] is None and "Bcc: tutti" in letter["Subject"]
    (arrived,) = office(post_office).raw
    assert arrived.count(b"\r\nTo: ") + arrived.startswith(b"To: ") == 1


@pytest.mark.parametrize(
    "address",
    ["a@b.it\r\nRCPT TO:<x@y.it>", "a@b.it>", "<a@b.it", "a b@c.it", '"a b"@c.it', "a@b.it\n", "é@b.it", "A@b.it"],
)
async def test_no_address_becomes_a_command(email: Email, address: str) -> None:
    nobody = email_account("smtp://127.0.0.1:1")
    assert await email.send(nobody, address, FLOOD, "7.3.1") == Refused(Reason.NOT_REACHABLE_HERE)


# ── bounces ─────────────────────────────────────────────────────────────────────────────────────────

NOW = datetime(2026, 11, 26, 12, 0, tzinfo=UTC)
MARK = POSTMARKS.mark("7.3.1")


def postfix(
    status: str = "5.1.1", action: str = "failed", to: str = f"rimbalzi+{MARK}@comune.fornacette.example"
) -> bytes:
    """Re-typed from what Postfix 3.7 sends (bounce(5), RFC 3464)."""
    return f"""From: MAILER-DAEMON@posta.example (Mail Delivery System)
To: {to}
Subject: Undelivered Mail Returned to Sender
Date: Thu, 26 Nov 2026 11:40:02 +0100 (CET)
Auto-Submitted: auto-replied
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status; boundary="4Bz.178/posta.example"

--4Bz.178/posta.example
Content-Description: Notification
Content-Type: text/plain; charset=us-ascii

This is the mail system at host posta.example.

--4Bz.178/posta.example
Content-Description: Delivery report
Content-Type: message/delivery-status

Reporting-MTA: dns; posta.example
X-Postfix-Queue-ID: 4BzX2k1Jt9
Arrival-Date: Thu, 26 Nov 2026 11:40:01 +0100 (CET)

Final-Recipient: rfc822; maria@altrove.example
Original-Recipient: rfc822;maria@altrove.example
Action: {action}
Status: {status}
Remote-MTA: dns; mx.altrove.example
Diagnostic-Code: smtp; 550 {status} <maria@altrove.example>: Recipient address rejected

--4Bz.178/posta.example
Content-Description: Undelivered Message Headers
Content-Type: text/rfc822-headers

Return-Path: <avvisi@comune.fornacette.example>
Message-ID: <{MARK}@comune.fornacette.example>
To: maria@altrove.example

--4Bz.178/posta.example--
""".encode()


EXCHANGE = f"""From: <postmaster@outlook.example>
To: <avvisi@comune.fornacette.example>
Date: Thu, 26 Nov 2026 10:40:02 +0000
Content-Type: multipart/report; report-type=delivery-status;
\tboundary="_000_NDR_"
X-MS-Exchange-Message-Is-Ndr:
MIME-Version: 1.0
Subject: Undeliverable: Comune di Fornacette: piena dell'Arno

--_000_NDR_
Content-Type: multipart/alternative; differences=Content-Type; boundary="_001_NDR_"

--_001_NDR_
Content-Type: text/plain; charset="us-ascii"

maria@outlook.example wasn't found at outlook.example.
--_001_NDR_--

--_000_NDR_
Content-Type: message/delivery-status

Reporting-MTA: dns;AM0PR01MB0000.eurprd01.prod.exchangelabs.com
Received-From-MTA: dns;posta.example
Arrival-Date: Thu, 26 Nov 2026 10:40:00 +0000

Final-Recipient: rfc822;maria@outlook.example
Action: failed
Status: 5.0.0
Diagnostic-Code: smtp;550 5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient not found by SMTP address lookup

--_000_NDR_
Content-Type: message/rfc822

Message-ID: <{MARK}@comune.fornacette.example>
From: Comune <avvisi@comune.fornacette.example>
Subject: piena
Content-Type: text/plain

Evacuare.

--_000_NDR_--
""".encode()


def bounced(raw: bytes) -> tuple[str | None, Progress, Reason | None] | None:
    found = read_bounce(raw, POSTMARKS.references, NOW)
    return None if found is None else (found.reference, found.progress, found.reason)


def test_a_bounce_of_postfix_is_known_by_its_return_path() -> None:
    found = read_bounce(postfix(), POSTMARKS.references, NOW)
    assert found is not None
    assert (found.reference, found.progress, found.reason) == ("7.3.1", Progress.FAILED, Reason.NOT_REACHABLE_HERE)
    assert found.at == datetime(2026, 11, 26, 10, 40, 2, tzinfo=UTC)
    shouted = postfix(to=f"RIMBALZI+{MARK.upper()}@COMUNE.FORNACETTE.EXAMPLE")
    assert bounced(shouted) == ("7.3.1", Progress.FAILED, Reason.NOT_REACHABLE_HERE)


def test_a_bounce_without_our_return_path_is_known_by_the_message_that_came_back() -> None:
    expected = ("7.3.1", Progress.FAILED, Reason.NOT_REACHABLE_HERE)
    assert bounced(postfix(to="avvisi@comune.fornacette.example")) == expected
    assert bounced(EXCHANGE) == expected
    assert bounced(EXCHANGE.replace(b"\n", b"\r\n")) == expected


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        ("5.2.2", Reason.POLICY),
        ("5.2.1", Reason.NOT_REACHABLE_HERE),
        ("5.7.1", Reason.POLICY),
        ("4.4.7", Reason.PROVIDER_UNAVAILABLE),
        ("5.3.4", Reason.TEXT_REJECTED),
        ("5.1.8", Reason.CHANNEL_HALTED),
        ("5.9.9", Reason.UNKNOWN_ANSWER),
        ("gatto", Reason.UNKNOWN_ANSWER),
    ],
)
def test_why_it_came_back(status: str, reason: Reason) -> None:
    assert bounced(postfix(status)) == ("7.3.1", Progress.FAILED, reason)


def test_what_is_only_late_has_not_failed_and_what_arrived_has_arrived() -> None:
    assert bounced(postfix("4.4.1", "delayed")) is None
    assert bounced(postfix("2.0.0", "relayed")) is None
    assert bounced(postfix("2.0.0", "delivered")) == ("7.3.1", Progress.DELIVERED, None)


def test_a_forged_mark_bounces_nobody() -> None:
    for forged in (
        "7.4.1" + MARK[5:],
        MARK[:-1] + ("0" if MARK[-1] != "0" else "1"),
        "7.3.1",
        Postmarks(b"x" * 32).mark("7.3.1"),
    ):
        assert bounced(postfix().replace(MARK.encode(), forged.encode())) is None, forged
    assert (
        bounced(b"From: maria@posta.example\nTo: avvisi@comune.fornacette.example\n\nSono in vacanza " + MARK.encode())
        is None
    )


@given(raw=st.binary(max_size=400) | st.text(max_size=400).map(str.encode))
@settings(max_examples=300, deadline=None)
def test_no_mail_is_a_crash(raw: bytes) -> None:
    read_bounce(raw, POSTMARKS.references, NOW)
    read_bounce(b"Content-Type: multipart/report; boundary=a\n\n--a\n" + raw, POSTMARKS.references, NOW)


@given(data=st.data())
@settings(max_examples=300, deadline=None)
def test_a_spoiled_bounce_is_no_crash_and_says_nothing_of_others(data: st.DataObject) -> None:
    raw = data.draw(st.sampled_from([postfix(), EXCHANGE]))
    at = data.draw(st.integers(0, len(raw)))
    spoiled = raw[:at] + data.draw(st.binary(max_size=30)) + raw[at + data.draw(st.integers(0, 30)) :]
    found = bounced(spoiled)
    assert found is None or found[0] == "7.3.1"


def test_mail_within_mail_without_end_is_given_up() -> None:
    deep = b"Content-Type: multipart/report; boundary=a0\n\n" + b"".join(
        b"--a%d\nContent-Type: multipart/mixed; boundary=a%d\n\n" % (n, n + 1) for n in range(3_000)
    )
    assert bounced(deep) is None


def test_the_secret_is_compared_whole_and_an_empty_one_opens_nothing() -> None:
    assert verify_secret("arno", "Bearer arno")
    assert not any(
        verify_secret("arno", header) for header in (None, "", "arno", "Bearer arn", "Bearer arno2", "Bearer è")
    )
    assert not verify_secret("", "Bearer ")


# ── ways to leave ───────────────────────────────────────────────────────────────────────────────────

Spoil = Callable[[str], str]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda token: "",
        lambda token: token[:-1],
        lambda token: token + "A",
        lambda token: ("A" if token[0] != "A" else "B") + token[1:],
        lambda token: token[:40],
        lambda token: "A" * 5_000,
        lambda token: "../" + token,
        lambda token: "é" + token,
        lambda token: Postmarks(b"x" * 32).way_to_leave("email-fornacette", MARIA),
    ],
)
def test_nobody_else_writes_a_way_to_leave(spoil: Spoil) -> None:
    token = POSTMARKS.way_to_leave("email-fornacette", MARIA)
    assert POSTMARKS.leaver(token) == Leaver("email-fornacette", MARIA)
    assert POSTMARKS.leaver(spoil(token)) is None


def test_a_way_to_leave_says_nothing_of_whom_it_is_for() -> None:
    tokens = {POSTMARKS.way_to_leave("email-fornacette", MARIA) for _ in range(50)}
    assert len(tokens) == 50
    longest = POSTMARKS.way_to_leave("a" * 64, "m" * 64 + "@" + ("b" * 60 + ".") * 3 + "it")
    assert POSTMARKS.leaver(longest) is not None
