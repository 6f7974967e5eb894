"""SMPP as it is spoken: what the SMSC reads, what its answers and receipts mean, and lines that die."""

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import uvloop
from aiohttp import ClientSession
from hypothesis import given
from hypothesis import strategies as st

from alerting.domain.delivery import (
    Accepted,
    ChannelHalted,
    Deferred,
    Progress,
    Reason,
    Refused,
    TextRejected,
    Uncertain,
)
from alerting.domain.sms import Alphabet, Wrote, words_of
from consumers.channel import Account, Report, Text
from consumers.channels import smpp
from consumers.channels.smpp import Delivered, endpoint, read_deliver_sm
from consumers.channels.sms_smpp import HALTS, OUTCOMES, REJECTIONS, SmsSmpp, classify, report_of, worst, written
from consumers.simulators import sms_smpp as sms_simulator
from consumers.simulators.serving import Served
from tests.contract.fornacette import IN_A_HURRY, SMS_PASSWORD, SMS_USER, Notebook, received, sms_account, tell, until

MARIA = "+393331234111"
LONG = "Fornacette: esondazione dell'Arno. " * 12
HEADER = struct.Struct("!IIII")
SUBMIT_RESP, BIND_RESP, DELIVER_SM = 0x80000004, 0x80000009, 0x05


def account(smsc: Served, **settings: str) -> Account:
    """Fornacette's account, with other settings."""
    known = sms_account(smsc.simulator.smpp_url)  # type: ignore[attr-defined]
    return replace(known, settings=known.settings | settings)


def submitted(smsc: Served) -> Any:
    return smsc.simulator.submitted  # type: ignore[attr-defined]


# ── what is said ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("said", "read", "coding", "parts"),
    [
        ("Evacuare.", "Evacuare.", 0, 1),
        ("È l’ora: 40° all’ombra…", "E' l'ora: 40 gradi all'ombra...", 0, 1),
        ("10 € {a} [b]", "10 € {a} [b]", 0, 1),
        ("🌊" * 40, "", 0, 1),
        ("Эвакуация 🌊" * 20, "Эвакуация 🌊" * 20, 8, 4),
        ("\u202bإخلاء\u202c", "\u202bإخلاء\u202c", 8, 1),
        (LONG, LONG.strip(), 0, 3),
        ("€" * 200, "€" * 200, 0, 3),
    ],
    ids=["plain", "typography", "escapes", "emoji only", "cyrillic and emoji", "bidi marks", "long", "euros"],
)
async def test_the_telephone_shows_what_was_said(
    sms: SmsSmpp, smsc: Served, http: ClientSession, said: str, read: str, coding: int, parts: int
) -> None:
    said = said if read else f"Arno {said}"
    outcome = await sms.send(account(smsc), MARIA, Text(said.strip()), "7.1.1")

    assert isinstance(outcome, Accepted)
    (arrived,) = await received(smsc, http)
    assert arrived["text"].strip() == (read or "Arno")
    assert [one.coding for one in submitted(smsc)] == [coding] * parts
    assert {one.esm_class for one in submitted(smsc)} == {0x40 if parts > 1 else 0}


async def test_no_part_is_wider_than_the_air(sms: SmsSmpp, smsc: Served) -> None:
    assert isinstance(await sms.send(account(smsc), MARIA, Text("Arno " * 250), "7.1.1"), Accepted)
    assert max(len(one.octets) for one in submitted(smsc)) == 6 + 153, "one septet an octet, and the header"


async def test_five_thousand_characters_are_rejected_for_everybody(sms: SmsSmpp, smsc: Served) -> None:
    with pytest.raises(TextRejected, match="33 parts; shorten it to 10"):
        await sms.send(account(smsc), MARIA, Text("Evacuare " * 555), "7.1.1")
    assert not submitted(smsc)


@pytest.mark.parametrize(("coding", "seen"), [("gsm", 0), ("default-latin-1", 0), ("latin-1", 3)])
async def test_the_alphabet_is_what_the_smsc_takes_it_for(sms: SmsSmpp, smsc: Served, coding: str, seen: int) -> None:
    smsc.simulator.configure({"default_alphabet": "latin-1" if coding == "default-latin-1" else "gsm0338"})
    assert isinstance(await sms.send(account(smsc, data_coding=coding), MARIA, Text("C'è acqua"), "7.1.1"), Accepted)
    (one,) = submitted(smsc)
    assert one.coding == seen
    assert one.octets == (b"C'\x04 acqua" if coding == "gsm" else "C'è acqua".encode("latin-1"))


async def test_a_data_coding_nobody_knows_halts_before_the_call(sms: SmsSmpp, smsc: Served) -> None:
    with pytest.raises(ChannelHalted, match="data_coding"):
        await sms.send(account(smsc, data_coding="morse"), MARIA, Text("Evacuare."), "7.1.1")


@pytest.mark.parametrize(("sender", "seen"), [("Fornacette", "Fornacette"), ("+393331230000", "393331230000")])
async def test_an_alias_and_a_number_are_said_each_its_way(sms: SmsSmpp, smsc: Served, sender: str, seen: str) -> None:
    assert isinstance(await sms.send(account(smsc, sender=sender), MARIA, Text("Evacuare."), "7.1.1"), Accepted)
    assert submitted(smsc)[0].source == seen


async def test_an_alias_that_is_not_registered_is_nobodys_to_send_as(sms: SmsSmpp, smsc: Served) -> None:
    with pytest.raises(TextRejected, match="register the alias"):
        await sms.send(account(smsc, sender="Bientina"), MARIA, Text("Evacuare."), "7.1.1")


async def test_a_text_lives_as_long_as_its_alert(sms: SmsSmpp, smsc: Served) -> None:
    expires = datetime.now(UTC) + timedelta(hours=2, seconds=30)
    assert isinstance(await sms.send(account(smsc), MARIA, Text("Evacuare.", expires=expires), "7.1.1"), Accepted)
    assert submitted(smsc)[0].validity.startswith("00000002002") and submitted(smsc)[0].validity.endswith("000R")


async def test_nothing_is_said_after_it_has_expired(sms: SmsSmpp, smsc: Served) -> None:
    over = Text("Evacuare.", expires=datetime.now(UTC))
    assert await sms.send(account(smsc), MARIA, over, "7.1.1") == Deferred(Reason.EXPIRED)
    assert not submitted(smsc)


async def test_what_expires_while_it_waits_for_its_turn_is_not_said(notebook: Notebook, smsc: Served) -> None:
    smsc.simulator.configure({"latency": 1.2})
    adapter = SmsSmpp(notebook, notebook, limit_per_host=1, **IN_A_HURRY)
    soon = Text("Evacuare.", expires=datetime.now(UTC) + timedelta(seconds=2))
    outcomes = await asyncio.gather(*(adapter.send(account(smsc), MARIA, soon, f"7.{n}.1") for n in (1, 2)))
    await adapter.close()
    assert [type(outcome) for outcome in outcomes] == [Accepted, Deferred]
    assert len(submitted(smsc)) == 1


# ── what answers mean ───────────────────────────────────────────────────────────────────────────────


@given(st.integers(1, 0xFFFFFFFF), st.text(max_size=8))
def test_a_status_nobody_documented_never_costs_a_person_the_alert(status: int, message_id: str) -> None:
    with contextlib.suppress(ChannelHalted, TextRejected):
        outcome = classify(status, message_id, "sms-fornacette")
        if status not in OUTCOMES:
            assert outcome == Deferred(Reason.UNKNOWN_ANSWER)


def test_each_status_means_one_thing() -> None:
    assert not (OUTCOMES.keys() & HALTS.keys() | OUTCOMES.keys() & REJECTIONS.keys() | HALTS.keys() & REJECTIONS.keys())
    assert classify(0, "", "sms-fornacette") == Uncertain(Reason.UNKNOWN_ANSWER), "no receipt could ever name it"


def test_the_worst_part_decides() -> None:
    accepted, gone = Accepted("A1"), Refused(Reason.NOT_REACHABLE_HERE)
    later, silent = Deferred(Reason.THROTTLED), Uncertain()
    assert worst([accepted, accepted]) == accepted
    assert worst([accepted, silent]) == silent
    assert worst([silent, later, accepted]) == later, "it cannot be whole, so it is said again"
    assert worst([later, gone, silent]) == gone


async def test_half_a_text_that_was_throttled_is_said_again_whole(
    sms: SmsSmpp, smsc: Served, http: ClientSession
) -> None:
    await tell(smsc, http, "config", {"per_second": 0.1, "burst": 20.0})
    outcome = await sms.send(account(smsc), MARIA, Text(LONG), "7.1.1")
    assert isinstance(outcome, Deferred) and outcome.reason is Reason.THROTTLED and outcome.whole_account
    assert await received(smsc, http) == []
    await tell(smsc, http, "config", {"per_second": 1000, "burst": 1.0})
    assert isinstance(await sms.send(account(smsc), MARIA, Text(LONG), "7.1.2"), Accepted)
    assert [item["text"].strip() for item in await received(smsc, http)] == [LONG.strip()]


# ── receipts ────────────────────────────────────────────────────────────────────────────────────────


def heard(words: str, **parameters: Any) -> Delivered:
    known: dict[str, Any] = {"source": "393331234111", "destination": "Fornacette", "message_id": "", "state": None}
    return Delivered(**(known | parameters), is_receipt=True, words=words)


DOCUMENTED = "id:00000001 sub:001 dlvrd:001 submit date:2611211901 done date:2611211901 stat:DELIVRD err:000 text:Evac"


@pytest.mark.parametrize(
    ("delivered", "name", "progress", "reason"),
    [
        (heard(DOCUMENTED), "00000001", Progress.DELIVERED, None),
        (heard("", message_id="A1", state=2), "A1", Progress.DELIVERED, None),
        (heard(DOCUMENTED, message_id="A1", state=2), "A1", Progress.DELIVERED, None),
        (heard("ID:9 Stat:undeliv err:0B1"), "9", Progress.FAILED, Reason.NOT_REACHABLE_HERE),
        (heard("id:9 stat:EXPIRED"), "9", Progress.FAILED, Reason.EXPIRED),
        (heard("id:9 stat:REJECTD"), "9", Progress.FAILED, Reason.POLICY),
        (heard("id:9 stat:ENROUTE"), "9", Progress.SENT, None),
        (heard("id:9 stat:BOH", state=6), "9", Progress.SENT, None),
    ],
)
def test_a_receipt_is_read_by_its_words_or_its_parameters(
    delivered: Delivered, name: str, progress: Progress, reason: Reason | None
) -> None:
    report = report_of(delivered, "sms-fornacette")
    assert report == Report("sms-fornacette", name, ("393331234111", "Fornacette"), progress, reason)


@pytest.mark.parametrize("words", ["", "stat:DELIVRD", "id:9", "id:9 stat:BOH", "Ciao, id: 9"])
def test_a_receipt_that_says_nothing_moves_nobody(words: str) -> None:
    assert report_of(heard(words), "sms-fornacette") is None


@given(st.binary(max_size=200))
def test_any_octets_are_a_deliver_sm_or_none(body: bytes) -> None:
    read_deliver_sm(body)


@pytest.mark.parametrize("parameters", [True, False])
async def test_a_receipt_names_the_text_by_the_smscs_own_id(
    sms: SmsSmpp, smsc: Served, notebook: Notebook, http: ClientSession, parameters: bool
) -> None:
    await tell(smsc, http, "config", {"receipt_parameters": parameters})
    outcome = await sms.send(account(smsc), MARIA, Text("Evacuare."), "7.1.1")
    await until(lambda: bool(notebook.reports))

    assert isinstance(outcome, Accepted)
    (name,), (report,) = notebook.names, notebook.reports
    assert (name.provider_id, name.reference, name.parts) == (outcome.provider_id, "7.1.1", 1)
    assert int(name.provider_id, 16) == int(report.provider_id), "hex in the answer, decimal in the receipt"
    assert (report.progress, report.numbers[0]) == (Progress.DELIVERED, MARIA.removeprefix("+"))
    await until(lambda: smsc.simulator.webhooks()["posted"] == 1)  # and it was told that we know


@pytest.mark.parametrize("hex_ids", [True, False])
async def test_receipts_before_the_answer_and_twice_are_all_heard(
    sms: SmsSmpp, smsc: Served, notebook: Notebook, http: ClientSession, hex_ids: bool
) -> None:
    await tell(smsc, http, "config", {"receipts_first": True, "receipts_each": 2, "hex_ids": hex_ids})
    outcome = await sms.send(account(smsc), MARIA, Text(LONG), "7.1.1")
    await until(lambda: len(notebook.reports) == 6)

    assert isinstance(outcome, Accepted)
    assert {name.parts for name in notebook.names} == {3}
    named = sorted(int(name.provider_id, 16 if hex_ids else 10) for name in notebook.names)
    assert sorted(int(report.provider_id) for report in notebook.reports) == sorted(named * 2)


async def test_an_answer_after_our_patience_still_names_the_text(notebook: Notebook, smsc: Served) -> None:
    adapter = SmsSmpp(notebook, notebook, connect=timedelta(seconds=1), total=timedelta(seconds=0.5))
    smsc.simulator.configure({"latency": 0.8})
    assert await adapter.send(account(smsc), MARIA, Text("Evacuare."), "7.1.1") == Uncertain()
    await until(lambda: [name.reference for name in notebook.names] == ["7.1.1"])
    await adapter.close()


# ── what people write ───────────────────────────────────────────────────────────────────────────────

OURS = "+393331230000"


@asynccontextmanager
async def bound(sms: SmsSmpp, *accounts: Account) -> AsyncIterator[None]:
    staying = asyncio.create_task(sms.stay_bound(lambda: list(accounts)))
    try:
        yield
    finally:
        staying.cancel()
        await asyncio.gather(staying, return_exceptions=True)


@pytest.mark.parametrize(
    ("said", "coding", "alphabet"),
    [
        ("Attiva", None, Alphabet.GSM_7),
        ("È qui? Sì: 10 € {a}", 3, Alphabet.LATIN_1),
        ("Già iscritto? 10 € {a}", 0, Alphabet.GSM_7),
        ("Подписаться 🌊", None, Alphabet.UCS_2),
    ],
)
async def test_what_somebody_writes_reaches_the_inbox_as_they_wrote_it(
    sms: SmsSmpp, smsc: Served, notebook: Notebook, http: ClientSession, said: str, coding: int, alphabet: Alphabet
) -> None:
    said = said.replace("€", "E") if coding == 3 else said
    async with bound(sms, account(smsc, sender=OURS)):
        what = {"from": MARIA, "to": OURS, "text": said} | ({"coding": coding} if coding is not None else {})
        await tell(smsc, http, "inbound", what)
        await until(lambda: smsc.simulator.webhooks()["posted"] == 1)
    ((to, wrote),) = notebook.letters
    assert (to, wrote.sender, wrote.alphabet) == ("sms-fornacette", MARIA, alphabet)
    assert words_of([wrote.octets], wrote.alphabet) == said
    assert (wrote.reference, wrote.parts, wrote.number) == (0, 1, 1)


@pytest.mark.parametrize("marked", ["header", "wide", "parameters"])
@pytest.mark.parametrize(
    "said", ["Fornacette € {acqua} " * 20, "Вода 🌊🌊🌊🌊 в Форначетте " * 10], ids=["gsm-7", "ucs-2"]
)
async def test_the_parts_of_a_long_text_say_which_they_are(
    sms: SmsSmpp, smsc: Served, notebook: Notebook, http: ClientSession, marked: str, said: str
) -> None:
    async with bound(sms, account(smsc, sender=OURS)):
        what = {"from": MARIA, "to": OURS, "text": said, "marked": marked, "backwards": True, "times": 2}
        parts = (await tell(smsc, http, "inbound", what))["parts"]
        await until(lambda: len(notebook.letters) == 2 * parts)
    letters = {wrote.number: wrote for _, wrote in notebook.letters}
    assert sorted(letters) == list(range(1, parts + 1))
    assert len({(wrote.reference, wrote.parts) for wrote in letters.values()}) == 1
    assert words_of([letters[n].octets for n in sorted(letters)], letters[1].alphabet) == said


async def test_a_text_goes_to_the_comune_whose_number_it_was_written_to(
    sms: SmsSmpp, smsc: Served, notebook: Notebook, http: ClientSession
) -> None:
    fornacette, bientina = account(smsc, sender=OURS), account(smsc, sender="+393331230001")
    async with bound(sms, fornacette, replace(bientina, name="sms-bientina", paced_as="sms-fornacette")):
        for number in ("+393331230001", OURS, "+3933399"):
            await tell(smsc, http, "inbound", {"from": MARIA, "to": number, "text": "Attiva"})
        await until(lambda: len(notebook.letters) == 3)
    assert [to for to, _ in notebook.letters] == ["sms-bientina", "sms-fornacette", "sms-fornacette"]


async def test_whoever_cannot_be_answered_is_not_kept_and_the_smsc_need_not_say_it_again(
    sms: SmsSmpp, smsc: Served, notebook: Notebook, http: ClientSession
) -> None:
    async with bound(sms, account(smsc, sender=OURS)):
        await tell(smsc, http, "inbound", {"from": "4774", "to": OURS, "text": "Ricarica effettuata"})
        await tell(smsc, http, "inbound", {"from": MARIA, "to": OURS, "text": "\0\1", "coding": 3})
        await until(lambda: smsc.simulator.webhooks()["posted"] == 2)
    assert [wrote.sender for _, wrote in notebook.letters] == [MARIA]


async def test_what_was_not_kept_when_the_line_died_is_said_again(
    sms: SmsSmpp, smsc: Served, notebook: Notebook, http: ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, slowly = asyncio.Event(), asyncio.Event()

    async def wrote_slowly(to: str, wrote: Wrote) -> None:
        begun.set()
        await slowly.wait()
        notebook.letters.append((to, wrote))

    monkeypatch.setattr(notebook, "wrote", wrote_slowly)
    sessions = smsc.simulator._sessions  # type: ignore[attr-defined]
    async with bound(sms, account(smsc, sender=OURS)):
        await until(lambda: len(sessions) == 1)
        await tell(smsc, http, "inbound", {"from": MARIA, "to": OURS, "text": "Attiva"})
        await begun.wait()
        await asyncio.sleep(0.2)  # in which it would have been answered, were it answered too early
        async with http.post(f"{smsc.base_url}/__sim/cut") as cut:
            assert cut.status == 200
        await until(lambda: not sessions)
        await asyncio.sleep(0.2)  # until we have noticed too, and whoever kept it was stopped
        slowly.set()
        await until(lambda: len(notebook.letters) == 1, within=10)


def of_a_person(**changes: Any) -> Delivered:
    known: dict[str, Any] = {"source": "393331234111", "destination": "393331230000", "message_id": "", "state": None}
    known |= {"is_receipt": False, "is_text": True, "words": "", "octets": b"Attiva"}
    return Delivered(**(known | changes))


@pytest.mark.parametrize(
    ("source", "with_country", "sender"),
    [
        ("393331234111", True, "+393331234111"),
        ("3331234111", False, "+393331234111"),
        ("+393331234111", False, "+393331234111"),
        ("393331234111", False, "+393331234111"),
        ("447400123456", True, "+447400123456"),
        ("Vodafone", False, None),
        ("4774", False, None),
        ("4774", True, None),
        ("", True, None),
    ],
)
def test_who_wrote_is_known_by_their_number_with_its_country(
    source: str, with_country: bool, sender: str | None
) -> None:
    wrote = written(of_a_person(source=source, with_country=with_country), latin_1=False)
    assert (wrote.sender if wrote else None) == sender


@pytest.mark.parametrize(
    "octets",
    [b"\x05", b"\x05\x00\x03\x07\x02", b"\xff" * 20],
    ids=["no header", "half a header", "a header longer than the text"],
)
def test_a_header_that_breaks_off_is_nobodys_words(octets: bytes) -> None:
    assert written(of_a_person(octets=octets, has_header=True), latin_1=False) is None


def test_a_header_that_speaks_of_something_else_is_left_aside() -> None:
    port = b"\x06\x05\x04\x15\x8a\x00\x00Attiva"
    wrote = written(of_a_person(octets=port, has_header=True), latin_1=False)
    assert wrote is not None and (wrote.octets, wrote.parts) == (b"Attiva", 1)


@given(st.binary(max_size=300))
def test_any_deliver_sm_is_somebodys_words_or_nothing(body: bytes) -> None:
    read = read_deliver_sm(body)
    if read is not None and (wrote := written(read, latin_1=False)) is not None:
        words_of([wrote.octets], wrote.alphabet)


# ── lines ───────────────────────────────────────────────────────────────────────────────────────────


Answers = Callable[[int, int, int], list[bytes] | None]


@asynccontextmanager
async def an_smsc_that(answers: Answers) -> AsyncIterator[str]:
    """Any behaviour, on a real socket. `None` hangs up."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                length, command, _, sequence = HEADER.unpack(await reader.readexactly(16))
                await reader.readexactly(length - 16)
                said = answers(length, command, sequence)
                if said is None:
                    break
                writer.writelines(said)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"smpp://127.0.0.1:{server.sockets[0].getsockname()[1]}"


def pdu(command: int, sequence: int, body: bytes = b"", status: int = 0) -> bytes:
    return HEADER.pack(16 + len(body), command, status, sequence) + body


def binds_then(then: Answers) -> Answers:
    def answers(length: int, command: int, sequence: int) -> list[bytes] | None:
        return [pdu(BIND_RESP, sequence, b"x\0")] if command == 0x09 else then(length, command, sequence)

    return answers


@pytest.mark.parametrize(
    ("answers", "outcome"),
    [
        (lambda *_: None, Deferred(Reason.PROVIDER_UNAVAILABLE)),
        (lambda *_: [], Deferred(Reason.PROVIDER_UNAVAILABLE)),
        (lambda *_: [b"HTTP/1.1 400 Bad Request\r\n\r\n"], Deferred(Reason.PROVIDER_UNAVAILABLE)),
        (lambda _, __, n: [pdu(BIND_RESP, n, status=0x05)], Deferred(Reason.PROVIDER_UNAVAILABLE)),
        (lambda _, __, n: [pdu(BIND_RESP, n, status=0x4FF)], Deferred(Reason.PROVIDER_UNAVAILABLE)),
        (binds_then(lambda *_: None), Uncertain()),
        (binds_then(lambda *_: []), Uncertain()),
        (binds_then(lambda *_: [b"\x16\x03\x01\x02 nonsense, and long"]), Uncertain()),
        (binds_then(lambda _, __, n: [pdu(SUBMIT_RESP, n + 1, b"A1\0")]), Uncertain()),
        (binds_then(lambda _, __, n: [pdu(SUBMIT_RESP, n)]), Uncertain(Reason.UNKNOWN_ANSWER)),
        (binds_then(lambda _, __, n: [pdu(0x80000000, n, status=0x03)]), Deferred(Reason.UNKNOWN_ANSWER)),
        (binds_then(lambda _, __, n: [pdu(SUBMIT_RESP, n, status=0x4FF)]), Deferred(Reason.UNKNOWN_ANSWER)),
        (binds_then(lambda _, __, n: [pdu(DELIVER_SM, 9, b"\0"), pdu(SUBMIT_RESP, n, b"A1\0")]), Accepted("A1")),
        (binds_then(lambda _, __, n: [pdu(0x99, 9), pdu(0x15, 8), pdu(SUBMIT_RESP, n, b"A1\0")]), Accepted("A1")),
    ],
)
async def test_what_a_line_that_misbehaves_comes_to(sms: SmsSmpp, answers: Answers, outcome: object) -> None:
    async with an_smsc_that(answers) as url:
        assert await sms.send(sms_account(url), MARIA, Text("Evacuare."), "7.1.1") == outcome


@pytest.mark.parametrize("status", [0x0D, 0x0E, 0x0F])
async def test_a_bind_that_is_refused_for_good_halts_the_account(sms: SmsSmpp, status: int) -> None:
    async with an_smsc_that(lambda _, __, n: [pdu(BIND_RESP, n, status=status)]) as url:
        with pytest.raises(ChannelHalted, match=f"0x{status:02X}"):
            await sms.send(sms_account(url), MARIA, Text("Evacuare."), "7.1.1")


async def test_an_answer_in_crumbs_is_put_together(sms: SmsSmpp) -> None:
    def answers(_: int, command: int, sequence: int) -> list[bytes]:
        whole = pdu(SUBMIT_RESP, sequence, b"A1\0")
        return [whole[:5], whole[5:17], whole[17:]]

    async with an_smsc_that(binds_then(answers)) as url:
        assert await sms.send(sms_account(url), MARIA, Text("Evacuare."), "7.1.1") == Accepted("A1")


async def test_a_line_that_was_lost_is_bound_again_and_not_at_once(
    sms: SmsSmpp, smsc: Served, http: ClientSession
) -> None:
    staying = asyncio.create_task(sms.stay_bound(lambda: [account(smsc)]))
    sessions = smsc.simulator._sessions  # type: ignore[attr-defined]
    await until(lambda: len(sessions) == 1)
    async with http.post(f"{smsc.base_url}/__sim/cut") as cut:
        assert cut.status == 200
    await until(lambda: not sessions)
    await asyncio.sleep(0.1)  # until we have noticed too
    assert await sms.send(account(smsc), MARIA, Text("Evacuare."), "7.1.1") == Deferred(Reason.PROVIDER_UNAVAILABLE)
    await until(lambda: len(sessions) == 1, within=6.0)
    assert isinstance(await sms.send(account(smsc), MARIA, Text("Evacuare."), "7.1.2"), Accepted)
    staying.cancel()
    await asyncio.gather(staying, return_exceptions=True)


async def test_a_line_cut_in_the_middle_of_a_window_says_of_nobody_that_nothing_was_said_to_them(
    notebook: Notebook, smsc: Served, http: ClientSession
) -> None:
    await tell(smsc, http, "config", {"latency": 0.4})
    adapter = SmsSmpp(notebook, notebook, limit_per_host=10, **IN_A_HURRY)
    people = [f"+3933312{n:05}" for n in range(10_000, 10_030)]
    assert isinstance(await adapter.send(account(smsc), MARIA, Text("Evacuare."), "7.0.1"), Accepted)
    sends = [asyncio.create_task(adapter.send(account(smsc), one, Text("Evacuare."), "7.1.1")) for one in people]
    await asyncio.sleep(0.2)
    async with http.post(f"{smsc.base_url}/__sim/cut") as cut:
        assert cut.status == 200
    outcomes = dict(zip(people, await asyncio.gather(*sends), strict=True))
    await asyncio.sleep(0.5)  # what it had taken arrives, and nobody hears of it
    arrived = {item["to"] for item in await received(smsc, http)} - {MARIA}
    await adapter.close()
    assert len(arrived) == 10, "the window"
    for person, outcome in outcomes.items():
        expected = Uncertain() if person in arrived else Deferred(Reason.PROVIDER_UNAVAILABLE)
        assert outcome == expected


async def test_an_smsc_that_throttles_the_line_slows_everybody_down_and_refuses_nobody(
    sms: SmsSmpp, smsc: Served, http: ClientSession
) -> None:
    await tell(smsc, http, "config", {"faults": {0x58: 0.5, 0x14: 0.25}})
    outcomes = await asyncio.gather(
        *(sms.send(account(smsc), f"+3933312{n:05}", Text("Evacuare."), f"7.{n}.1") for n in range(10_000, 10_040))
    )
    assert {type(outcome) for outcome in outcomes} == {Accepted, Deferred}
    for outcome in outcomes:
        if isinstance(outcome, Deferred):
            assert outcome == Deferred(Reason.THROTTLED, timedelta(seconds=1), whole_account=True)


@pytest.mark.parametrize("number", ["+390587265442", "+390612345678", "+33142685300", "+99912345678", "3331234567"])
async def test_a_landline_or_a_number_of_no_country_never_becomes_a_call(
    sms: SmsSmpp, smsc: Served, number: str
) -> None:
    nobody_listens = sms_account("smpp://127.0.0.1:1")
    assert await sms.send(nobody_listens, number, Text("Evacuare."), "7.1.1") == Refused(Reason.NOT_REACHABLE_HERE)


async def test_no_more_than_the_window_is_unanswered(notebook: Notebook, smsc: Served, http: ClientSession) -> None:
    await tell(smsc, http, "config", {"window": 5, "latency": 0.02})
    adapter = SmsSmpp(notebook, notebook, limit_per_host=5, **IN_A_HURRY)
    outcomes = await asyncio.gather(
        *(adapter.send(account(smsc), f"+3933312{n:05}", Text("Evacuare."), f"7.{n}.1") for n in range(10_000, 10_060))
    )
    await adapter.close()
    assert {type(outcome) for outcome in outcomes} == {Accepted}


async def test_an_smsc_that_says_goodbye_is_answered_before_the_line_is_closed(sms: SmsSmpp) -> None:
    heard: list[int] = []

    def answers(_: int, command: int, sequence: int) -> list[bytes]:
        heard.append(command)
        return [pdu(0x06, 9)] if command == 0x04 else []

    async with an_smsc_that(binds_then(answers)) as url:
        assert await sms.send(sms_account(url), MARIA, Text("Evacuare."), "7.1.1") == Uncertain()
        await until(lambda: 0x80000006 in heard)


async def test_a_quiet_line_is_asked_whether_it_is_there(
    notebook: Notebook, smsc: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(smpp, "QUIET", 0.0)
    asked: list[int] = []

    def answers(_: int, command: int, sequence: int) -> list[bytes]:
        asked.append(command)
        return [pdu(SUBMIT_RESP, sequence, b"A1\0")] if command == 0x04 else []

    adapter = SmsSmpp(notebook, notebook, connect=timedelta(seconds=1), total=timedelta(seconds=0.3))
    async with an_smsc_that(binds_then(answers)) as url:
        assert isinstance(await adapter.send(sms_account(url), MARIA, Text("Evacuare."), "7.1.1"), Accepted)
        await until(lambda: 0x15 in asked)
        await asyncio.sleep(0.5)  # it does not answer, so the line is given up
        assert await adapter.send(sms_account(url), MARIA, Text("Evacuare."), "7.1.1") == Deferred(
            Reason.PROVIDER_UNAVAILABLE
        )
        await adapter.close()


def test_it_works_on_the_loop_that_runs_in_service() -> None:
    async def there_and_back() -> object:
        smsc = await sms_simulator.start({"accounts": {SMS_USER: {"password": SMS_PASSWORD}}})
        adapter = SmsSmpp(Notebook(), Notebook(), **IN_A_HURRY)
        outcome = await adapter.send(account(smsc), MARIA, Text("Evacuare."), "7.1.1")
        await adapter.close()
        await smsc.close()
        return outcome

    assert isinstance(uvloop.run(there_and_back()), Accepted)


@pytest.mark.parametrize(
    ("url", "known"),
    [
        ("smpp://smsc.example:2775", ("smsc.example", 2775, False)),
        ("smpps://10.0.0.1:3550/", ("10.0.0.1", 3550, True)),
        ("smpp://[::1]:2775", ("::1", 2775, False)),
        ("smpp://smsc.example", None),
        ("smpp://smsc.example:0", None),
        ("smpp://user:secret@smsc.example:2775", None),
    ],
)
def test_where_an_smsc_is(url: str, known: object) -> None:
    assert endpoint(url) == known
