"""SMS over REST as it is spoken: how we are let in, what an order says, and what its answers and states mean."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import uvloop
from aiohttp import ClientSession, web
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
from alerting.webhooks.sms import STATUSES
from consumers.channel import Account, Secret, Standing, Text
from consumers.channels import sms_http
from consumers.channels.sms import Sms
from consumers.channels.sms_http import SmsHttp, classify, standing_of
from consumers.channels.sms_smpp import SmsSmpp
from consumers.simulators import sms_http as house
from consumers.simulators.serving import Served
from tests.contract.fornacette import (
    IN_A_HURRY,
    SMS_PASSWORD,
    SMS_USER,
    Orderbook,
    received,
    sms_account,
    sms_rest_account,
    tell,
)

MARIA = "+393331234111"
EVACUATE = Text("Fornacette: esondazione dell'Arno. Evacuare.")
ACCOUNT = "sms-fornacette"


def account(served: Served, **changes: Any) -> Account:
    """Fornacette's account with a password, and other settings."""
    known = sms_rest_account(served.base_url, token=Secret(changes.pop("token", SMS_PASSWORD)))
    return replace(known, settings=known.settings | {"authentication": "password"} | changes)


def ordered(served: Served) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = served.simulator.ordered  # type: ignore[attr-defined]
    return found


def calls(served: Served, what: str) -> int:
    return int(served.simulator.tally[what])  # type: ignore[attr-defined]


# ── how we are let in ───────────────────────────────────────────────────────────────────────────────


async def test_a_crowd_signs_in_once(sms_rest: SmsHttp, sms_house: Served) -> None:
    outcomes = await asyncio.gather(
        *(sms_rest.send(account(sms_house), f"+39333120{n:04}", EVACUATE, f"7.{n}.1") for n in range(1000, 1050))
    )
    assert {type(outcome) for outcome in outcomes} == {Accepted}
    assert calls(sms_house, "logins") == 1


async def test_a_session_that_has_ended_is_renewed_and_the_text_arrives_once(
    sms_rest: SmsHttp, sms_house: Served, http: ClientSession
) -> None:
    assert isinstance(await sms_rest.send(account(sms_house), MARIA, EVACUATE, "7.1.1"), Accepted)
    async with http.post(f"{sms_house.base_url}/__sim/end_sessions") as ended:
        assert ended.status == 200
    outcomes = await asyncio.gather(
        *(sms_rest.send(account(sms_house), f"+39333120{n:04}", EVACUATE, f"7.{n}.1") for n in range(1000, 1010))
    )
    assert {type(outcome) for outcome in outcomes} == {Accepted}
    assert calls(sms_house, "logins") == 2
    assert len(await received(sms_house, http)) == 11


async def test_five_quiet_minutes_end_a_session(sms_rest: SmsHttp, sms_house: Served, http: ClientSession) -> None:
    assert isinstance(await sms_rest.send(account(sms_house), MARIA, EVACUATE, "7.1.1"), Accepted)
    await tell(sms_house, http, "config", {"clock_ahead": 301.0})
    assert isinstance(await sms_rest.send(account(sms_house), MARIA, EVACUATE, "7.1.2"), Accepted)
    assert calls(sms_house, "logins") == 2


async def test_keys_that_are_refused_twice_halt_the_account_and_leave_nothing_to_ask(
    sms_rest: SmsHttp, sms_house: Served, http: ClientSession, orderbook: Orderbook
) -> None:
    await tell(sms_house, http, "config", {"faults": {401: 1.0}})
    with pytest.raises(ChannelHalted, match="401"):
        await sms_rest.send(account(sms_house), MARIA, EVACUATE, "7.1.1")
    assert (calls(sms_house, "logins"), calls(sms_house, "orders")) == (2, 2), "renewed once, not for ever"
    assert orderbook.open == []


async def test_a_wrong_password_is_tried_once_by_a_crowd(sms_rest: SmsHttp, sms_house: Served) -> None:
    """Or the provider would lock the account."""
    wrong = account(sms_house, token="Arno1967")
    sends = (sms_rest.send(wrong, MARIA, EVACUATE, f"7.{n}.1") for n in range(20))
    outcomes = await asyncio.gather(*sends, return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {ChannelHalted}
    assert "password" in str(outcomes[0]) and "Arno1967" not in str(outcomes[0])
    assert calls(sms_house, "logins") == 1


async def test_a_password_that_was_corrected_lets_us_in_at_once(sms_rest: SmsHttp, sms_house: Served) -> None:
    with pytest.raises(ChannelHalted):
        await sms_rest.send(account(sms_house, token="Arno1967"), MARIA, EVACUATE, "7.1.1")
    assert isinstance(await sms_rest.send(account(sms_house), MARIA, EVACUATE, "7.1.2"), Accepted)


async def test_an_access_token_needs_no_session(sms_rest: SmsHttp, sms_house: Served) -> None:
    assert isinstance(await sms_rest.send(sms_rest_account(sms_house.base_url), MARIA, EVACUATE, "7.1.1"), Accepted)
    assert calls(sms_house, "logins") == 0


async def test_an_access_token_of_nobody_is_404(sms_rest: SmsHttp, sms_house: Served) -> None:
    known = sms_rest_account(sms_house.base_url)
    with pytest.raises(ChannelHalted, match="404"):
        await sms_rest.send(replace(known, settings=known.settings | {"user": "bientina"}), MARIA, EVACUATE, "7.1.1")


@pytest.mark.parametrize("user", ["", "due parole", "a:b", "perché"])
async def test_a_user_that_cannot_be_one_halts_before_the_call(sms_rest: SmsHttp, sms_house: Served, user: str) -> None:
    with pytest.raises(ChannelHalted, match="user"):
        await sms_rest.send(account(sms_house, user=user), MARIA, EVACUATE, "7.1.1")


Answers = Callable[[web.Request], Awaitable[web.Response]]


@asynccontextmanager
async def a_house_that(login: str | int, order: Answers | None = None) -> AsyncIterator[Served]:
    """Answers what it is told to, on a real socket. `login`: the words of a 200, or a status."""

    async def let_in(_: web.Request) -> web.Response:
        return web.Response(text=login) if isinstance(login, str) else web.Response(status=login)

    async def taken(_: web.Request) -> web.Response:
        return web.json_response({"result": "OK", "order_id": "7.1.1", "total_sent": 1}, status=201)

    app = web.Application()
    app.router.add_get("/API/v1.0/REST/login", let_in)
    app.router.add_post("/API/v1.0/REST/sms", order or taken)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield Served(f"http://127.0.0.1:{runner.addresses[0][1]}", None, runner)  # type: ignore[arg-type]
    await runner.cleanup()


@pytest.mark.parametrize(
    ("login", "outcome"),
    [
        ("<html>Il servizio riposa</html>", Deferred(Reason.UNKNOWN_ANSWER)),
        ("", Deferred(Reason.UNKNOWN_ANSWER)),
        ("fornacette", Deferred(Reason.UNKNOWN_ANSWER)),
        ("fornacette;due parole", Deferred(Reason.UNKNOWN_ANSWER)),
        (500, Deferred(Reason.PROVIDER_UNAVAILABLE)),
        (429, Deferred(Reason.THROTTLED, timedelta(seconds=1), whole_account=True)),
    ],
)
async def test_a_login_that_says_nothing_useful_is_tried_again(
    sms_rest: SmsHttp, orderbook: Orderbook, login: str | int, outcome: Outcome
) -> None:
    async with a_house_that(login) as served:
        assert await sms_rest.send(account(served), MARIA, EVACUATE, "7.1.1") == outcome
    assert orderbook.open == [], "nothing was said, so there is nothing to ask"


@pytest.mark.parametrize("status", [400, 401, 404])
async def test_a_login_that_is_refused_halts(sms_rest: SmsHttp, status: int) -> None:
    async with a_house_that(status) as served:
        with pytest.raises(ChannelHalted, match="user and password"):
            await sms_rest.send(account(served), MARIA, EVACUATE, "7.1.1")


# ── what is said ────────────────────────────────────────────────────────────────────────────────────


async def test_an_order_says_everything_under_our_own_name(sms_rest: SmsHttp, sms_house: Served) -> None:
    outcome = await sms_rest.send(account(sms_house), MARIA, EVACUATE, "123456.78901.2")
    assert outcome == Accepted("123456.78901.2")
    assert ordered(sms_house) == [
        {
            "message_type": "GP",
            "message": EVACUATE.body,
            "recipient": [MARIA],
            "encoding": "gsm",
            "order_id": "123456.78901.2",
            "allowInvalidRecipients": True,
            "sender": "Fornacette",
        }
    ]


@pytest.mark.parametrize(
    ("said", "read", "encoding"),
    [
        ("È l’ora: 40° all’ombra…", "E' l'ora: 40 gradi all'ombra...", "gsm"),
        ("10 € {a} [b]", "10 € {a} [b]", "gsm"),
        ("Arno 🌊 in piena", "Arno in piena", "gsm"),
        ("Эвакуация", "Эвакуация", "ucs2"),
    ],
)
async def test_the_telephone_shows_what_was_said(
    sms_rest: SmsHttp, sms_house: Served, http: ClientSession, said: str, read: str, encoding: str
) -> None:
    assert isinstance(await sms_rest.send(account(sms_house), MARIA, Text(said), "7.1.1"), Accepted)
    assert [item["text"] for item in await received(sms_house, http)] == [read]
    assert ordered(sms_house)[0]["encoding"] == encoding


@pytest.mark.parametrize(("provider", "kind"), [("skebby", "GP"), ("aruba", "N")])
async def test_each_house_has_its_own_message_types(
    sms_rest: SmsHttp, sms_house: Served, http: ClientSession, provider: str, kind: str
) -> None:
    await tell(sms_house, http, "config", {"house": provider})
    assert isinstance(await sms_rest.send(account(sms_house, message_type=kind), MARIA, EVACUATE, "7.1.1"), Accepted)
    other = "N" if kind == "GP" else "GP"
    with pytest.raises(ChannelHalted, match="message_type"):
        await sms_rest.send(account(sms_house, message_type=other), MARIA, EVACUATE, "7.1.2")


async def test_a_cheap_message_has_no_sender_of_ours_and_160_characters(sms_rest: SmsHttp, sms_house: Served) -> None:
    cheap = account(sms_house, message_type="SI")
    assert isinstance(await sms_rest.send(cheap, MARIA, EVACUATE, "7.1.1"), Accepted)
    assert "sender" not in ordered(sms_house)[0]
    with pytest.raises(TextRejected, match="shorten it to 160"):
        await sms_rest.send(cheap, MARIA, Text("Evacuare. " * 17), "7.1.2")


async def test_a_thousand_characters_are_taken_and_one_more_is_not(sms_rest: SmsHttp, sms_house: Served) -> None:
    assert isinstance(await sms_rest.send(account(sms_house), MARIA, Text("a" * 1000), "7.1.1"), Accepted)
    with pytest.raises(TextRejected, match="shorten it"):
        await sms_rest.send(account(sms_house), MARIA, Text("a" * 1001), "7.1.2")
    assert calls(sms_house, "orders") == 1


async def test_an_alias_that_is_not_registered_is_nobodys_to_send_as(sms_rest: SmsHttp, sms_house: Served) -> None:
    with pytest.raises(TextRejected, match="register the alias"):
        await sms_rest.send(account(sms_house, sender="Bientina"), MARIA, EVACUATE, "7.1.1")


async def test_nothing_is_said_after_it_has_expired(sms_rest: SmsHttp, sms_house: Served) -> None:
    over = Text("Evacuare.", expires=datetime.now(UTC))
    assert await sms_rest.send(account(sms_house), MARIA, over, "7.1.1") == Deferred(Reason.EXPIRED)
    assert calls(sms_house, "orders") == 0


@pytest.mark.parametrize("number", ["+390587265442", "+390612345678", "+33142685300", "+99912345678", "3331234567"])
async def test_a_landline_or_a_number_of_no_country_never_becomes_a_call(
    sms_rest: SmsHttp, sms_house: Served, number: str
) -> None:
    assert await sms_rest.send(account(sms_house), number, EVACUATE, "7.1.1") == Refused(Reason.NOT_REACHABLE_HERE)
    assert (calls(sms_house, "logins"), calls(sms_house, "orders")) == (0, 0)


# ── what answers mean ───────────────────────────────────────────────────────────────────────────────

ANSWER = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(("result", "order_id", "total_sent", "recipients", "status")), inner)
    ),
    max_leaves=8,
)


@given(status=st.integers(100, 599), answer=ANSWER.map(lambda a: json.dumps(a).encode()) | st.binary())
@settings(max_examples=400, deadline=None)
def test_an_answer_nobody_documented_never_costs_a_person_the_alert(status: int, answer: bytes) -> None:
    with contextlib.suppress(ChannelHalted, TextRejected):
        assert not isinstance(classify(status, answer, ACCOUNT), Refused)
    standing_of(answer, awaits_receipt=True)


@pytest.mark.parametrize(
    ("status", "body", "outcome"),
    [
        (201, b'{"result":"OK","order_id":"7.1.1","total_sent":1}', Accepted("7.1.1")),
        (201, b'{"result":"OK","order_id":71,"total_sent":1}', Accepted("71")),
        (201, b'{"result":"OK","order_id":"7.1.1","total_sent":0}', None),
        (201, b'{"result":"OK","order_id":"7.1.1"}', Uncertain(Reason.UNKNOWN_ANSWER)),
        (201, b'{"result":"OK","order_id":"7.1.1","total_sent":true}', Uncertain(Reason.UNKNOWN_ANSWER)),
        (201, b'{"result":"KO","order_id":"7.1.1","total_sent":1}', Uncertain(Reason.UNKNOWN_ANSWER)),
        (201, b"<html>", Uncertain(Reason.UNKNOWN_ANSWER)),
        (200, b'{"result":"OK"}', Deferred(Reason.UNKNOWN_ANSWER)),
        (400, b'{"result":"invalid recipient"}', Refused(Reason.NOT_REACHABLE_HERE)),
        (400, b'{"result":"order_id already exists"}', Uncertain(Reason.UNKNOWN_ANSWER)),
        (400, b'{"result":"errore generico","recipients":[]}', Deferred(Reason.UNKNOWN_ANSWER)),
        (400, b"<html>recipient</html>", Deferred(Reason.UNKNOWN_ANSWER)),
        (401, b"<html>proxy</html>", Deferred(Reason.UNKNOWN_ANSWER)),
        (500, b"", Deferred(Reason.PROVIDER_UNAVAILABLE)),
        (503, b"<html>", Deferred(Reason.PROVIDER_UNAVAILABLE)),
    ],
)
def test_an_answer_means_what_the_house_says(status: int, body: bytes, outcome: Outcome | None) -> None:
    assert classify(status, body, ACCOUNT) == outcome


@pytest.mark.parametrize(
    ("status", "body", "stops"),
    [
        (401, b"", ChannelHalted),
        (404, b'{"result":"user_key not found"}', ChannelHalted),
        (400, b'{"result":"Not enough credit"}', ChannelHalted),
        (400, b'{"result":"invalid message_type"}', ChannelHalted),
        (400, b'{"result":"invalid TPOA"}', TextRejected),
        (400, b'{"result":"message too long"}', TextRejected),
    ],
)
def test_what_stops_everybody_is_an_exception(status: int, body: bytes, stops: type[Exception]) -> None:
    with pytest.raises(stops):
        classify(status, body, ACCOUNT)


async def test_without_credit_the_account_is_halted_and_nobody_is_told(
    sms_rest: SmsHttp, sms_house: Served, http: ClientSession
) -> None:
    known = {"password": SMS_PASSWORD, "senders": ["Fornacette"], "credit": 1}
    await tell(sms_house, http, "config", {"accounts": {SMS_USER: known}})
    assert isinstance(await sms_rest.send(account(sms_house), MARIA, EVACUATE, "7.1.1"), Accepted)
    with pytest.raises(ChannelHalted, match="credit"):
        await sms_rest.send(account(sms_house), "+393331234112", EVACUATE, "7.2.1")
    assert len(await received(sms_house, http)) == 1


@pytest.mark.parametrize(
    ("ending", "outcome"),
    [
        ("404", Refused(Reason.NOT_REACHABLE_HERE)),
        ("405", Refused(Reason.POLICY)),
        ("409", Deferred(Reason.PAIR_THROTTLED, timedelta(hours=1))),
    ],
)
async def test_an_order_taken_for_nobody_is_not_accepted_and_says_why(
    sms_rest: SmsHttp, sms_house: Served, http: ClientSession, orderbook: Orderbook, ending: str, outcome: Outcome
) -> None:
    assert await sms_rest.send(account(sms_house), f"+393331234{ending}", EVACUATE, "7.1.1") == outcome
    assert await received(sms_house, http) == []
    assert orderbook.open == []


async def test_where_nobody_says_why_an_order_went_to_nobody_it_is_tried_again(
    sms_rest: SmsHttp,
) -> None:
    async def nobody(_: web.Request) -> web.Response:
        return web.json_response({"result": "OK", "order_id": "7.1.1", "total_sent": 0}, status=201)

    async with a_house_that("fornacette;abc", nobody) as served:
        assert await sms_rest.send(account(served), MARIA, EVACUATE, "7.1.1") == Deferred(Reason.UNKNOWN_ANSWER)


# ── what is asked ───────────────────────────────────────────────────────────────────────────────────


async def test_whatever_may_have_been_taken_is_asked_after_and_nothing_else(
    sms_rest: SmsHttp, sms_house: Served, orderbook: Orderbook
) -> None:
    for n, ending in enumerate(("111", "429", "404", "503", "504", "505")):
        await sms_rest.send(account(sms_house), f"+393331234{ending}", EVACUATE, f"7.{n}.1")
    assert orderbook.open == ["7.0.1", "7.4.1", "7.5.1"], "accepted, silent, and dead after it was taken"


async def test_an_order_is_known_before_the_answer_comes(sms_rest: SmsHttp, orderbook: Orderbook) -> None:
    open_then: list[list[str]] = []

    async def order(_: web.Request) -> web.Response:
        open_then.append(list(orderbook.open))
        return web.json_response({"result": "OK", "order_id": "7.1.1", "total_sent": 1}, status=201)

    async with a_house_that("fornacette;abc", order) as served:
        assert isinstance(await sms_rest.send(account(served), MARIA, EVACUATE, "7.1.1"), Accepted)
    assert open_then == [["7.1.1"]]


async def test_a_text_moves_on_by_the_clock_until_it_is_delivered(
    sms_rest: SmsHttp, sms_house: Served, http: ClientSession
) -> None:
    await tell(sms_house, http, "config", {"step_after": 10.0})
    assert isinstance(await sms_rest.send(account(sms_house), MARIA, EVACUATE, "7.1.1"), Accepted)
    seen = []
    for later in (0.0, 10.0, 20.0, 30.0):
        await tell(sms_house, http, "config", {"clock_ahead": later})
        seen.append(await sms_rest.stands(account(sms_house), "7.1.1"))
    assert seen == [
        Standing(Progress.ACCEPTED),
        Standing(Progress.SENT),
        Standing(Progress.SENT),
        Standing(Progress.DELIVERED, is_final=True),
    ]


@pytest.mark.parametrize(("ending", "status"), list(house.ENDS.items()))
async def test_each_state_means_one_thing(
    sms_rest: SmsHttp, sms_house: Served, http: ClientSession, ending: str, status: str
) -> None:
    await tell(sms_house, http, "config", {"step_after": 0.0})
    assert isinstance(await sms_rest.send(account(sms_house), f"+393331234{ending}", EVACUATE, "7.1.1"), Accepted)
    standing = await sms_rest.stands(account(sms_house), "7.1.1")
    assert standing == Standing(*STATUSES[status], is_final=True)


def test_a_failure_has_a_reason_and_nothing_else_has_one() -> None:
    for progress, reason in STATUSES.values():
        assert (reason is not None) == (progress is Progress.FAILED)


def test_forty_eight_hours_of_silence_are_no_failure() -> None:
    assert STATUSES["TIMEOUT"][0].may_have_arrived


def test_of_a_cheap_message_sent_is_the_last_that_is_ever_said() -> None:
    body = b'{"result":"OK","recipients":[{"destination":"+393331234111","status":"SENT"}]}'
    assert standing_of(body, awaits_receipt=False) == Standing(Progress.SENT, is_final=True)
    assert standing_of(body, awaits_receipt=True) == Standing(Progress.SENT)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b'{"recipients":[]}',
        b'{"recipients":[{"status":"BOH"}]}',
        b'{"recipients":[{"status":"DLVRD"},{"status":"KO"}]}',
        b'{"recipients":["DLVRD"]}',
    ],
)
def test_a_state_nobody_understands_moves_nobody(body: bytes) -> None:
    assert standing_of(body, awaits_receipt=True) is None


async def test_asking_renews_a_session_and_never_raises(
    sms_rest: SmsHttp, sms_house: Served, http: ClientSession
) -> None:
    assert isinstance(await sms_rest.send(account(sms_house), MARIA, EVACUATE, "7.1.1"), Accepted)
    async with http.post(f"{sms_house.base_url}/__sim/end_sessions") as ended:
        assert ended.status == 200
    assert await sms_rest.stands(account(sms_house), "7.1.1") is not None
    assert await sms_rest.stands(account(sms_house), "7.9.1") is None, "an order it does not know"
    assert await sms_rest.stands(account(sms_house), "../login") is None
    await tell(sms_house, http, "config", {"faults": {503: 1.0}})
    assert await sms_rest.stands(account(sms_house), "7.1.1") is None
    wrong = account(sms_house, token="Arno1967")
    assert await sms_rest.stands(wrong, "7.1.1") is None


async def test_a_reference_that_is_no_part_of_an_address_is_not_sent(sms_rest: SmsHttp, sms_house: Served) -> None:
    for reference in ("", "7/1", "7 1", "7?1", "è"):
        with pytest.raises(TextRejected, match="reference"):
            await sms_rest.send(account(sms_house), MARIA, EVACUATE, reference)


def test_it_works_on_the_loop_that_runs_in_service() -> None:
    async def there_and_back() -> object:
        served = await house.start({"accounts": {SMS_USER: {"password": SMS_PASSWORD}}})
        adapter = SmsHttp(Orderbook(), **IN_A_HURRY)
        outcome = await adapter.send(account(served), MARIA, EVACUATE, "7.1.1")
        await adapter.close()
        await served.close()
        return outcome

    assert isinstance(uvloop.run(there_and_back()), Accepted)


def test_no_answer_of_a_login_is_kept_but_two_keys() -> None:
    assert sms_http.KEYS.fullmatch("fornacette;abc")
    for wrong in ("a;b;c", "a;", ";b", "a;b\nX-Evil: 1", "a;b c"):
        assert sms_http.KEYS.fullmatch(wrong) is None


# ── both protocols in one process ───────────────────────────────────────────────────────────────────


async def test_each_account_speaks_its_own_protocol(
    sms: SmsSmpp, sms_rest: SmsHttp, smsc: Served, sms_house: Served, http: ClientSession
) -> None:
    both = Sms(sms, sms_rest)
    smpp = sms_account(smsc.simulator.smpp_url)  # type: ignore[attr-defined]
    assert isinstance(await both.send(smpp, MARIA, EVACUATE, "7.1.1"), Accepted)
    assert isinstance(await both.send(account(sms_house), MARIA, EVACUATE, "7.2.1"), Accepted)
    assert [len(await received(served, http)) for served in (smsc, sms_house)] == [1, 1]


async def test_a_protocol_nobody_speaks_halts_before_the_call(sms: SmsSmpp, sms_rest: SmsHttp) -> None:
    fax = sms_account("smpp://127.0.0.1:1", settings={"protocol": "fax"})
    with pytest.raises(ChannelHalted, match="neither smpp nor rest"):
        await Sms(sms, sms_rest).send(fax, MARIA, EVACUATE, "7.1.1")
