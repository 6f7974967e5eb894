"""Web push: what is sent is what RFC 8291 and 8292 say, by another's code; and what no stranger can make us do."""

import asyncio
import base64
import json
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import http_ece
import pytest
from aiohttp import ClientSession, web
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from hypothesis import given
from hypothesis import strategies as st

from alerting.domain import push
from alerting.domain.delivery import (
    Accepted,
    ChannelHalted,
    Deferred,
    Outcome,
    Reason,
    Refused,
    TextRejected,
)
from alerting.domain.push import Subscription
from alerting.domain.recipients import AddressError, known_by, mask
from alerting.vapid import Vapid, WrongKey
from consumers.channel import Secret, Text
from consumers.channels.web_push import (
    LARGEST,
    LONGEST_PAUSE,
    Said,
    WebPush,
    classify,
    payload,
    topic,
    ttl,
)
from consumers.simulators.serving import Served
from consumers.simulators.web_push import WebPushSimulator
from tests.contract.fornacette import (
    POSTMARKS,
    VAPID,
    Farewells,
    received,
    tell,
    web_push_account,
)

NOW = datetime(2026, 11, 21, 18, 0, tzinfo=UTC)
ALERT = "it.pi.calcinaia.2026.0042"
EVACUATE = Text(
    "Dove: Fornacette\nCosa fare: lascia i piani bassi.",
    subject="Comune di Fornacette: esondazione dell'Arno",
    urgent=True,
    thread=(ALERT,),
    expires=datetime(2099, 1, 1, tzinfo=UTC),
)
LOCAL = frozenset({"127.0.0.1"})

# RFC 8291, appendix A.
UA_PUBLIC = "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4"
AUTH = "BTBZMqHH6r4Tts7J_aSIgg"
GOOGLES = "https://fcm.googleapis.com/fcm/send/dY3X-maria:APA91b"


def said(**changes: Any) -> dict[str, Any]:
    """What a browser's PushSubscription says."""
    keys = {"p256dh": changes.pop("p256dh", UA_PUBLIC), "auth": changes.pop("auth", AUTH)}
    return {"endpoint": GOOGLES, "expirationTime": None, "keys": keys} | changes


def browser(served: Served, name: str, key: str = VAPID.public_key) -> str:
    """The address of a browser that has subscribed."""
    assert isinstance(served.simulator, WebPushSimulator)
    return push.subscription(served.simulator.subscribe(name, key), LOCAL).address


async def send(adapter: WebPush, address: str, text: Text = EVACUATE, **changes: Any) -> Outcome:
    return await adapter.send(web_push_account(**changes), address, text, "7.3.1")


def decoded(written: str) -> bytes:
    return base64.urlsafe_b64decode(written + "=" * (-len(written) % 4))


# ── by another's code ───────────────────────────────────────────────────────────────────────────────


async def test_another_opens_it_and_the_signature_is_that_of_our_key(web_push: WebPush) -> None:
    """Neither the simulator nor our own key reading has a part in it: http_ece decrypts, cryptography verifies."""
    private, auth = ec.generate_private_key(ec.SECP256R1()), b"fornacette-arno!"
    point = private.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    caught: list[tuple[dict[str, str], bytes]] = []

    async def take(request: web.Request) -> web.Response:
        caught.append((dict(request.headers), await request.read()))
        return web.Response(status=201, headers={"Location": "/m/42"})

    app = web.Application()
    app.router.add_post("/push/maria", take)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    origin = f"http://127.0.0.1:{runner.addresses[0][1]}"
    keys = {"p256dh": base64.urlsafe_b64encode(point).decode(), "auth": base64.urlsafe_b64encode(auth).decode()}
    address = push.subscription({"endpoint": f"{origin}/push/maria", "keys": keys}, LOCAL).address
    try:
        assert await send(web_push, address) == Accepted("/m/42")
        await send(web_push, address)
    finally:
        await runner.cleanup()

    (headers, body), (again, body_again) = caught
    plain = json.loads(http_ece.decrypt(body, private_key=private, auth_secret=auth, version="aes128gcm"))
    assert plain == {
        "title": EVACUATE.subject,
        "body": EVACUATE.body,
        "url": f"/v1/authorities/fornacette/web-push/avvisi/{ALERT}",
        "tag": topic(EVACUATE),
        "urgent": True,
        "lang": "it",
        "expires": int(datetime(2099, 1, 1, tzinfo=UTC).timestamp()),
        "reference": POSTMARKS.receipt("7.3.1"),
    }
    assert body[:16] != body_again[:16] and body[21:86] != body_again[21:86], "salt and key are used once"
    assert int.from_bytes(body[16:20], "big") >= len(body) - 86, "one record"

    scheme, _, parameters = headers["Authorization"].partition(" ")
    token, key = (part.strip()[2:] for part in parameters.split(","))
    signed, _, signature = token.rpartition(".")
    public = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), decoded(key))
    raw = decoded(signature)
    der = encode_dss_signature(int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big"))
    public.verify(der, signed.encode(), ec.ECDSA(hashes.SHA256()))
    head, claims = (json.loads(decoded(part)) for part in signed.split("."))
    assert (scheme, head, len(raw)) == ("vapid", {"typ": "JWT", "alg": "ES256"}, 64)
    assert (claims["aud"], claims["sub"]) == (origin, "mailto:avvisi@comune.fornacette.example")
    assert 11 * 3600 < claims["exp"] - time.time() <= 12 * 3600, "half a day wrong in either direction does no harm"
    assert again["Authorization"] == headers["Authorization"], "signed once a push service"
    assert headers["Content-Type"] == "application/octet-stream" and headers["Content-Encoding"] == "aes128gcm"
    assert (headers["TTL"], headers["Urgency"]) == ("2419200", "high"), "four weeks at most"
    assert headers["Topic"] == topic(EVACUATE) and len(headers["Topic"]) == 32


def test_a_key_is_read_as_any_tool_writes_it() -> None:
    private = ec.derive_private_key(int.from_bytes(decoded(VAPID.secret), "big"), ec.SECP256R1())
    for form in (PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL):
        pem = private.private_bytes(Encoding.PEM, form, NoEncryption()).decode()
        assert Vapid.read(pem).public_key == VAPID.public_key
    assert Vapid.read(VAPID.secret + "=").public_key == VAPID.public_key
    made = Vapid.new()
    assert Vapid.read(made.secret).public_key == made.public_key and len(decoded(made.public_key)) == 65
    p384 = ec.generate_private_key(ec.SECP384R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    for wrong in ("", "A", VAPID.secret[:-2], "A" * 43, "è" * 43, VAPID.public_key, p384.decode(), "-----BEGIN"):
        with pytest.raises(WrongKey) as error:
            Vapid.read(wrong)
        assert not wrong or wrong not in f"{error.value!r} {error.value.__context__!r} {error.value.__cause__!r}"


# ── where it goes ───────────────────────────────────────────────────────────────────────────────────

BROWSERS_OWN = (
    GOOGLES,
    "https://updates.push.services.mozilla.com/wpush/v2/gAAAAABm",
    "https://web.push.apple.com/QGj7",
    "https://wns2-par02p.notify.windows.com/w/?token=BQYAAAD%2bx",
    "https://am3p.notify.windows.com/w/?token=x",
)
STRANGERS = (
    "",
    "fcm.googleapis.com/x",
    "http://fcm.googleapis.com/x",
    "ftp://fcm.googleapis.com/x",
    "https://fcm.googleapis.com",
    "https://fcm.googleapis.com/",
    "https://fcm.googleapis.com.evil.example/x",
    "https://evil.example/fcm.googleapis.com",
    "https://fcm.googleapis.com./x",
    "https://FCM.googleapis.com/x",
    "https://fcm.googleapis.com:443/x",
    "https://fcm.googleapis.com:8443/x",
    "https://fcm.googleapis.com@evil.example/x",
    "https://maria:secret@fcm.googleapis.com/x",
    "https://fcm.googleapis.com\\@evil.example/x",
    "https://fcm.googleapis.com#@evil.example/x",
    "https://fcm.googleapis.com/x#evil",
    "https://fcm.googleapis.com/x\n",
    "https://fcm.googleapis.com/x y",
    "https://fcm.googleapis.com/x\r\nHost: evil.example",
    " https://fcm.googleapis.com/x",
    "https://fcm%2egoogleapis.com/x",
    "https://fcm.googleapis.com%00.evil.example/x",
    "https://fcm\u3002googleapis.com/x",
    "https://evilnotify.windows.com/x",
    "https://notify.windows.com/x",
    "https://.notify.windows.com/x",
    "https://a..notify.windows.com/x",
    "https://-a.notify.windows.com/x",
    "https://notify.windows.com.evil.example/x",
    "https://127.0.0.1/x",
    "http://127.0.0.1:9106/x",
    "https://[::1]/x",
    "https://0x7f000001/x",
    "https://2130706433/x",
    "https://localhost/x",
    "https://169.254.169.254/latest/meta-data",
    "https://fcm.googleapis.com/" + "x" * 2000,
)


@pytest.mark.parametrize("endpoint", BROWSERS_OWN)
def test_the_push_services_of_browsers_are_known(endpoint: str) -> None:
    found = push.subscription(said(endpoint=endpoint))
    assert push.read(found.address) == found and found.origin == endpoint[: endpoint.index("/", 8)]
    assert known_by(found.address) == endpoint
    assert mask(found.address) == "…" and "APA91b" not in repr(found)


@pytest.mark.parametrize("endpoint", STRANGERS)
def test_no_stranger_makes_us_write_elsewhere(endpoint: str) -> None:
    with pytest.raises(AddressError) as refused:
        push.subscription(said(endpoint=endpoint))
    assert not endpoint or endpoint not in str(refused.value), "it may end in a log"


def test_a_trials_host_is_taken_where_it_was_named_and_without_tls_on_this_machine_only() -> None:
    def takes(endpoint: str, *hosts: str) -> bool:
        try:
            push.subscription(said(endpoint=endpoint), frozenset(hosts))
        except AddressError:
            return False
        return True

    assert takes("http://127.0.0.1:9106/push/maria", "127.0.0.1:9106") and takes("http://127.0.0.1:1/x", "127.0.0.1")
    assert not takes("http://127.0.0.1:9107/push/maria", "127.0.0.1:9106")
    assert takes("https://push.example/x", "push.example") and not takes("http://push.example/x", "push.example")
    assert not takes("http://127.0.0.1:99999/x", "127.0.0.1")
    assert not takes("http://10.0.0.1/x", "127.0.0.1")


NOT_KEYS: tuple[dict[str, Any], ...] = (
    {"p256dh": None},
    {"p256dh": ""},
    {"p256dh": UA_PUBLIC[:-4]},
    {"p256dh": "A" + UA_PUBLIC[1:]},  # begins with another byte than 4
    {"p256dh": UA_PUBLIC[:-9] + "A" + UA_PUBLIC[-8:]},  # no point of the curve
    {"p256dh": base64.urlsafe_b64encode(b"\x04" + bytes(64)).decode()},
    {"p256dh": UA_PUBLIC + "\n"},
    {"p256dh": [UA_PUBLIC]},
    {"auth": "x"},
    {"auth": AUTH + "AAAA"},
    {"auth": 16},
    {"keys": None},
    {"keys": []},
    {"endpoint": None},
    {"endpoint": [GOOGLES]},
)


@pytest.mark.parametrize("changes", NOT_KEYS)
def test_what_no_browser_made_is_no_subscription(changes: dict[str, Any]) -> None:
    with pytest.raises(AddressError):
        push.subscription(said(**changes))


def test_one_browser_has_one_address_however_it_is_written() -> None:
    one = push.subscription(said()).address
    assert push.subscription(said(auth=AUTH + "==", unknown="x")).address == one
    for other in (
        f" {one}",
        one.replace('"keys":{', '"keys":{"x":1,'),
        json.dumps(json.loads(one)),
        "[" * 100_000,
        "7",
    ):
        with pytest.raises(AddressError):
            push.read(other)


@given(st.binary(min_size=65, max_size=65))
def test_the_curve_is_told_as_another_tells_it(raw: bytes) -> None:
    point = b"\x04" + raw[1:]
    try:
        ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
    except ValueError:
        theirs = False
    else:
        theirs = True
    assert push._is_on_the_curve(point) == theirs


@given(st.integers(1, 2**250))
def test_every_key_of_a_browser_is_on_the_curve(secret: int) -> None:
    public = ec.derive_private_key(secret, ec.SECP256R1()).public_key()
    assert push._is_on_the_curve(public.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint))


# ── what is said ────────────────────────────────────────────────────────────────────────────────────


@given(
    st.text(max_size=6000),
    st.text(max_size=400),
    st.booleans(),
    st.sampled_from(["", "https://a.example/" + "è" * 400]),
)
def test_whatever_is_said_fits(body: str, subject: str, urgent: bool, page: str) -> None:
    text = Text(body, subject=subject, urgent=urgent, thread=("x" * 100,), expires=NOW)
    account = web_push_account(settings={"page": page} if page else {})
    encoded = payload(account, text, POSTMARKS.receipt("9" * 18 + ".1.1"))
    assert len(encoded) <= LARGEST
    assert json.loads(encoded)["title"]


@pytest.mark.parametrize("letter", ["a", "è", '"', "\n", "ψ", "漢", "🌊", "\x01"])
def test_a_long_text_is_cut_at_a_word_and_uses_the_room(letter: str) -> None:
    text = Text(f"{letter * 9} " * 3000, subject="Fornacette", thread=(ALERT,))
    encoded = payload(web_push_account(), text, POSTMARKS.receipt("1.1.1"))
    body = json.loads(encoded)["body"]
    assert LARGEST - 80 < len(encoded) <= LARGEST and body.endswith("…")
    short = Text("Evacuare.", subject="Fornacette", thread=(ALERT,))
    assert json.loads(payload(web_push_account(), short, "x"))["body"] == "Evacuare."


async def test_the_longest_text_is_taken(web_push: WebPush, push_service: Served) -> None:
    text = Text("漢字 " * 5000, subject="🌊" * 300, thread=(ALERT,))
    assert isinstance(await send(web_push, browser(push_service, "maria"), text), Accepted)
    assert push_service.simulator.shown[0]["bytes"] <= LARGEST  # type: ignore[attr-defined]


def test_an_answer_without_a_subject_has_its_first_words_as_title() -> None:
    given_back = json.loads(payload(web_push_account(), Text("Ti abbiamo cancellato."), "x"))
    assert (given_back["title"], given_back["body"], given_back["url"], given_back["tag"]) == (
        "Ti abbiamo cancellato.",
        "",
        "",
        "",
    )


def test_a_push_service_keeps_it_until_the_alert_ends() -> None:
    assert ttl(Text("x", expires=NOW + timedelta(hours=2)), NOW) == timedelta(hours=2)
    assert ttl(Text("x", expires=NOW + timedelta(days=90)), NOW) == timedelta(days=28)
    assert ttl(Text("x"), NOW) == timedelta(days=1)


async def test_what_has_ended_is_not_sent(web_push: WebPush, push_service: Served, http: ClientSession) -> None:
    for expires in (datetime.now(UTC) - timedelta(seconds=1), datetime.now(UTC) + timedelta(seconds=0.5)):
        stale = Text("Evacuare.", expires=expires)
        assert await send(web_push, browser(push_service, "maria"), stale) == Deferred(Reason.EXPIRED)
    assert await received(push_service, http) == []


async def test_an_all_clear_replaces_what_a_phone_that_was_off_has_not_seen(
    web_push: WebPush, push_service: Served, http: ClientSession
) -> None:
    phone = browser(push_service, "maria")
    await tell(push_service, http, "config", {"offline": ["maria"]})
    other = Text("Sagra della zuppa.", subject="Calcinaia", thread=("altro",))
    update = Text("Il livello sale.", subject="Aggiornamento", thread=(ALERT, "b"))
    clear = Text("È finita.", subject="Cessata", thread=(ALERT, "b", "c"))
    short = Text("Breve.", subject="Breve", thread=("breve",), expires=datetime.now(UTC) + timedelta(seconds=30))
    for text in (EVACUATE, other, update, clear, short):
        assert isinstance(await send(web_push, phone, text), Accepted)
    assert await received(push_service, http) == []

    await tell(push_service, http, "config", {"offline": [], "clock_ahead": 60.0})
    assert [item["text"] for item in await received(push_service, http)] == [
        "Calcinaia\n\nSagra della zuppa.",
        "Cessata\n\nÈ finita.",
    ]


async def test_a_routine_text_does_not_wake_anybody(web_push: WebPush, push_service: Served) -> None:
    await send(web_push, browser(push_service, "maria"), Text("Mercato.", thread=("m",)))
    (shown,) = push_service.simulator.shown  # type: ignore[attr-defined]
    assert (shown["headers"]["Urgency"], shown["urgent"]) == ("normal", False)


# ── what an answer means ────────────────────────────────────────────────────────────────────────────

MEANS = {
    201: Accepted("7.3.1"),
    202: Accepted("7.3.1"),
    404: Refused(Reason.NOT_REACHABLE_HERE),
    410: Refused(Reason.NOT_REACHABLE_HERE),
    429: Deferred(Reason.THROTTLED, timedelta(seconds=5)),
    406: Deferred(Reason.THROTTLED, timedelta(seconds=5)),
    503: Deferred(Reason.PROVIDER_UNAVAILABLE),
    500: Deferred(Reason.PROVIDER_UNAVAILABLE),
    502: Deferred(Reason.PROVIDER_UNAVAILABLE),
    401: Said.DENIED,
    403: Said.DENIED,
    400: Said.MALFORMED,
    413: Said.MALFORMED,
    200: Deferred(Reason.UNKNOWN_ANSWER),
    204: Deferred(Reason.UNKNOWN_ANSWER),
    301: Deferred(Reason.UNKNOWN_ANSWER),
    402: Deferred(Reason.UNKNOWN_ANSWER),
    451: Deferred(Reason.UNKNOWN_ANSWER),
}


def verdict(status: int, location: str | None = None, retry_after: str | None = None) -> Outcome | Said:
    return classify(status, "7.3.1", location=location, retry_after=retry_after, now=NOW)


@pytest.mark.parametrize("status", MEANS)
def test_the_status_decides(status: int) -> None:
    assert verdict(status) == MEANS[status]


@given(
    status=st.integers(100, 999),
    location=st.none() | st.text(max_size=600),
    retry_after=st.none() | st.text(max_size=40) | st.integers().map(str) | st.datetimes().map(format_datetime),
)
def test_only_two_answers_ever_cost_a_person_the_alert(
    status: int, location: str | None, retry_after: str | None
) -> None:
    found = verdict(status, location, retry_after)
    assert isinstance(found, Refused) == (status in (404, 410))
    assert isinstance(found, Accepted) == (status in (201, 202))
    if isinstance(found, Accepted):
        assert 0 < len(found.provider_id) <= 500
    if isinstance(found, Deferred):
        assert not found.whole_account
        assert found.wait is None or timedelta(seconds=1) <= found.wait <= LONGEST_PAUSE


@pytest.mark.parametrize(
    ("retry_after", "seconds"),
    [
        ("7", 7),
        ("0", 1),
        ("86400", 3600),
        (format_datetime(NOW + timedelta(seconds=90), usegmt=True), 90),
        ("Sat, 21 Nov 2026 17:00:00 GMT", 1),
        ("Sat, 21 Nov 2026 18:02:00", 120),
        ("presto", 5),
        ("-7", 5),
    ],
)
def test_a_pause_is_named_in_seconds_or_as_a_date(retry_after: str, seconds: int) -> None:
    assert verdict(429, retry_after=retry_after) == Deferred(Reason.THROTTLED, timedelta(seconds=seconds))


async def test_a_push_service_that_throttles_is_left_alone_and_the_others_are_not(
    web_push: WebPush, push_service: Served, http: ClientSession
) -> None:
    from consumers.simulators import web_push as simulator

    other = await simulator.start({"per_second": 2000, "burst": 1.0})
    try:
        await tell(push_service, http, "config", {"retry_after": "20"})
        assert await send(web_push, browser(push_service, "luigi-429")) == Deferred(
            Reason.THROTTLED, timedelta(seconds=20)
        )
        waits = await send(web_push, browser(push_service, "maria"))
        assert isinstance(waits, Deferred) and waits.reason is Reason.THROTTLED and not waits.whole_account
        assert waits.wait is not None and 10 < waits.wait.total_seconds() <= 20
        assert await received(push_service, http) == [], "not even asked"
        assert isinstance(await send(web_push, browser(other, "anna")), Accepted)
        assert isinstance(await send(web_push, browser(push_service, "maria"), name="web_push-bientina"), Accepted)
    finally:
        await other.close()


async def test_an_hours_pause_of_one_browser_costs_the_others_a_minute_at_most(
    web_push: WebPush, push_service: Served, http: ClientSession
) -> None:
    await tell(push_service, http, "config", {"retry_after": "3000"})
    assert await send(web_push, browser(push_service, "luigi-406")) == Deferred(
        Reason.THROTTLED, timedelta(seconds=3000)
    )
    waits = await send(web_push, browser(push_service, "maria"))
    assert isinstance(waits, Deferred) and waits.wait is not None and waits.wait <= timedelta(minutes=1)


async def test_above_its_rate_a_push_service_throttles_and_nobody_is_refused(
    web_push: WebPush, push_service: Served, http: ClientSession
) -> None:
    await tell(push_service, http, "config", {"per_second": 30, "burst": 0.1})
    people = [browser(push_service, f"maria-{n}") for n in range(600, 660)]
    outcomes = await asyncio.gather(*(send(web_push, one) for one in people))
    accepted = [one for one in outcomes if isinstance(one, Accepted)]
    assert 1 <= len(accepted) <= 20
    assert all(isinstance(one, Accepted) or one.reason is Reason.THROTTLED for one in outcomes)


async def test_who_has_unsubscribed_is_refused_and_told_of(
    web_push: WebPush, push_service: Served, farewells: Farewells, http: ClientSession
) -> None:
    gone = browser(push_service, "maria")
    assert isinstance(await send(web_push, gone), Accepted)
    await tell(push_service, http, "unsubscribe", {"name": "maria"})
    assert await send(web_push, gone) == Refused(Reason.NOT_REACHABLE_HERE)
    assert await send(web_push, browser(push_service, "luigi-410")) == Refused(Reason.NOT_REACHABLE_HERE)
    assert [one.address for one in farewells.left] == [gone, browser(push_service, "luigi-410")]
    assert farewells.took == 1


# ── whose fault it is ───────────────────────────────────────────────────────────────────────────────


async def test_a_browser_that_subscribed_with_anothers_key_is_refused_alone(
    web_push: WebPush, push_service: Served, farewells: Farewells
) -> None:
    stranger = browser(push_service, "luigi", Vapid.new().public_key)
    assert isinstance(await send(web_push, browser(push_service, "maria")), Accepted)
    assert await send(web_push, stranger) == Deferred(Reason.UNKNOWN_ANSWER, timedelta(seconds=30))
    assert await send(web_push, stranger) == Deferred(Reason.UNKNOWN_ANSWER, timedelta(seconds=30)), "nobody since"
    assert isinstance(await send(web_push, browser(push_service, "maria")), Accepted)
    assert await send(web_push, stranger) == Refused(Reason.NOT_REACHABLE_HERE)
    assert farewells.left == [], "whoever put a wrong key into the secrets file must be able to put it right"


async def test_strangers_among_the_served_never_halt_anybody(web_push: WebPush, push_service: Served) -> None:
    for n in range(30):
        assert isinstance(await send(web_push, browser(push_service, f"maria-{n}")), Accepted)
        for m in range(4):
            assert isinstance(await send(web_push, browser(push_service, f"luigi-{n}-{m}-403")), Deferred | Refused)


@pytest.mark.parametrize("status", [401, 403])
async def test_where_nobody_is_served_any_more_the_account_halts_and_opens_again(
    web_push: WebPush, push_service: Served, http: ClientSession, status: int
) -> None:
    assert isinstance(await send(web_push, browser(push_service, "anna")), Accepted)
    await tell(push_service, http, "config", {"faults": {status: 1.0}})
    people = [browser(push_service, f"maria-{n}") for n in range(6)]
    for one in people[:4]:
        assert await send(web_push, one) == Deferred(Reason.UNKNOWN_ANSWER, timedelta(seconds=30))
    for one in people[4:]:
        with pytest.raises(ChannelHalted, match="vapid_private_key") as halted:
            await send(web_push, one)
        assert VAPID.secret not in f"{halted.value!r}"
    await tell(push_service, http, "config", {"faults": {}})
    assert isinstance(await send(web_push, people[0]), Accepted), "whoever probes is not kept from it"


async def test_a_push_service_that_denies_everybody_does_not_silence_another(
    web_push: WebPush, push_service: Served, http: ClientSession
) -> None:
    from consumers.simulators import web_push as simulator

    other = await simulator.start({"per_second": 2000, "burst": 1.0})
    try:
        assert isinstance(await send(web_push, browser(other, "anna")), Accepted)
        await tell(push_service, http, "config", {"faults": {403: 1.0}})
        outcomes = [await send(web_push, browser(push_service, f"maria-{n}")) for n in range(7)]
        assert outcomes[4] == Deferred(Reason.CHANNEL_HALTED, timedelta(minutes=1))
        assert all(isinstance(one, Deferred) and one.reason is Reason.CHANNEL_HALTED for one in outcomes[4:])
        assert isinstance(await send(web_push, browser(other, "anna")), Accepted)
        assert push_service.simulator.phones.refused["403"] == 5, "and is then left alone"
    finally:
        await other.close()


async def test_a_clock_that_was_wrong_when_we_signed_is_forgiven(
    web_push: WebPush, push_service: Served, http: ClientSession
) -> None:
    """A denied header is signed anew: ours may be from before somebody set the clock."""
    voices = web_push._voices
    assert isinstance(await send(web_push, browser(push_service, "maria")), Accepted)
    (voice,) = voices.values()
    ((origin, (_, until)),) = voice.signed.items()
    voice.signed[origin] = VAPID.authorization(origin, "mailto:a@b.example", datetime(2020, 1, 1, tzinfo=UTC)), until
    assert isinstance(await send(web_push, browser(push_service, "maria")), Deferred)
    assert isinstance(await send(web_push, browser(push_service, "maria")), Accepted)


@pytest.mark.parametrize("hours", [-11, 11])
async def test_eleven_hours_of_a_wrong_clock_do_no_harm(
    web_push: WebPush, push_service: Served, http: ClientSession, hours: int
) -> None:
    await tell(push_service, http, "config", {"clock_ahead": hours * 3600.0})
    assert isinstance(await send(web_push, browser(push_service, "maria")), Accepted)


async def test_an_endpoint_that_somebody_made_up_does_not_condemn_the_text(
    web_push: WebPush, push_service: Served
) -> None:
    for n in range(4):
        assert await send(web_push, browser(push_service, f"luigi-{n}-400")) == Deferred(Reason.UNKNOWN_ANSWER)
    assert isinstance(await send(web_push, browser(push_service, "maria")), Accepted)
    for n in range(9):
        assert await send(web_push, browser(push_service, f"luigi-{n}-400")) == Refused(Reason.NOT_REACHABLE_HERE)


@pytest.mark.parametrize("code", [400, 413])
async def test_a_text_that_nobody_gets_is_rejected(
    web_push: WebPush, push_service: Served, http: ClientSession, code: int
) -> None:
    await tell(push_service, http, "config", {"faults": {code: 1.0}})
    for n in range(4):
        assert await send(web_push, browser(push_service, f"maria-{n}")) == Deferred(Reason.UNKNOWN_ANSWER)
    with pytest.raises(TextRejected, match=str(code)):
        await send(web_push, browser(push_service, "maria-4"))


async def test_a_key_that_is_none_halts_before_anything_is_said(web_push: WebPush, push_service: Served) -> None:
    for wrong in ("", "chiave", VAPID.secret[:-3]):
        with pytest.raises(ChannelHalted, match="no private key") as halted:
            await send(web_push, browser(push_service, "maria"), token=Secret(wrong))
        assert not wrong or wrong not in f"{halted.value!r}{halted.value.__context__!r}"
    assert push_service.simulator.shown == []  # type: ignore[attr-defined]


def test_a_receipt_is_believed_of_whom_we_gave_it_to() -> None:
    receipt = POSTMARKS.receipt("7.3.1")
    assert POSTMARKS.received(receipt) == "7.3.1"
    for forged in ("", "7.3.1", receipt[:-1], f"{receipt}0", receipt.replace("7.3", "7.4"), f" {receipt}"):
        assert POSTMARKS.received(forged) is None
    assert POSTMARKS.received(POSTMARKS.mark("7.3.1")) is None, "a letter's proof is not a browser's"
    assert list(POSTMARKS.references(receipt)) == []


# ── the simulator itself ────────────────────────────────────────────────────────────────────────────


async def posted(served: Served, http: ClientSession, name: str, **headers: str) -> int:
    known = {
        "TTL": "60",
        "Content-Encoding": "aes128gcm",
        "Authorization": VAPID.authorization(
            served.base_url, "mailto:a@b.example", datetime.now(UTC) + timedelta(hours=1)
        ),
    }
    sent = {key: value for key, value in (known | headers).items() if value}
    private, subscription = ec.generate_private_key(ec.SECP256R1()), json.loads(browser(served, name))
    body = http_ece.encrypt(
        b'{"title":"Fornacette","body":"Evacuare.","reference":"x"}',
        private_key=private,
        dh=decoded(subscription["keys"]["p256dh"]),
        auth_secret=decoded(subscription["keys"]["auth"]),
        version="aes128gcm",
    )
    async with http.post(f"{served.base_url}/push/{name}", data=body, headers=sent) as answer:
        return answer.status


async def test_the_simulator_takes_what_is_right_and_nothing_else(push_service: Served, http: ClientSession) -> None:
    url, soon = push_service.base_url, datetime.now(UTC) + timedelta(hours=1)
    assert await posted(push_service, http, "maria") == 201
    late = VAPID.authorization(url, "mailto:a@b.example", soon + timedelta(hours=24))
    past = VAPID.authorization(url, "mailto:a@b.example", soon - timedelta(hours=2))
    elsewhere = VAPID.authorization("https://fcm.googleapis.com", "mailto:a@b.example", soon)
    nobody = VAPID.authorization(url, "Fornacette", soon)
    others = Vapid.new().authorization(url, "mailto:a@b.example", soon)
    stolen = others.partition(", k=")[0] + f", k={VAPID.public_key}"
    for wrong in (late, past, elsewhere, nobody, others, stolen):
        assert await posted(push_service, http, "maria", Authorization=wrong) == 403
    assert await posted(push_service, http, "maria", Authorization="") == 401
    assert await posted(push_service, http, "maria", TTL="") == 400
    assert await posted(push_service, http, "maria", Topic="x" * 33) == 400
    assert await posted(push_service, http, "maria", Urgency="flash") == 400
    assert await posted(push_service, http, "maria", **{"Content-Encoding": "aesgcm"}) == 400
    async with http.post(f"{url}/push/maria", data=b"x" * 5000) as answer:
        assert answer.status in (400, 401, 413)
    made = await tell(push_service, http, "subscribe", {"name": "luigi", "applicationServerKey": VAPID.public_key})
    assert isinstance(push.subscription(made, LOCAL), Subscription)
    async with http.get(f"{url}/__sim/phone/maria") as page:
        assert (await page.json())["items"][0]["text"] == "Fornacette\n\nEvacuare."
