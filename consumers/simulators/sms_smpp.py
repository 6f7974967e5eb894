"""An SMSC that is not there: SMPP 3.4 on a socket of its own, its limits, its receipts, and the phones behind it.

It reads and writes PDUs by hand, so that it shares no mistake with the adapter; only the letters of GSM-7 are
aiosmpplib's, because the adapter has tables of its own.

A number that ends in …429 is throttled, …404 does not exist, …503 finds the SMSC in trouble, …504 is answered by
silence, …505 is accepted before the line dies, …406 is accepted and reported as undeliverable, …408 as expired.
"""

import asyncio
import contextlib
import struct
import time
from collections import Counter, defaultdict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from aiohttp import web
from aiosmpplib.codec import find_codec_info
from pydantic import BaseModel, ConfigDict, Field

from consumers.simulators.limits import Bucket
from consumers.simulators.phones import Phones
from consumers.simulators.serving import Limits, Served, serve, told

HEADER = struct.Struct("!IIII")
GENERIC_NACK, SUBMIT_SM, DELIVER_SM, UNBIND, ENQUIRE_LINK = 0x80000000, 0x04, 0x05, 0x06, 0x15
BINDS = (0x01, 0x02, 0x09)
ANSWER = 0x80000000
HEARS = (0x01, 0x09)
"""Binds on which receipts are given back: receiver and transceiver."""

ROK, RINVCMDID, RINVBNDSTS, RALYBND, RSYSERR = 0x00, 0x03, 0x04, 0x05, 0x08
RINVSRCADR, RINVDSTADR, RINVPASWD, RINVSYSID, RMSGQFUL, RTHROTTLED = 0x0A, 0x0B, 0x0E, 0x0F, 0x14, 0x58
RINVESMCLASS, RINVEXPIRY, RINVMSGLEN = 0x43, 0x62, 0x01
MAGIC = {"429": RTHROTTLED, "404": RINVDSTADR, "503": RSYSERR}
STATES = {"406": ("UNDELIV", 5), "408": ("EXPIRED", 3)}
FAULTS = {503: RSYSERR, 401: RINVPASWD}
"""What the faults all simulators share are called here; any other is a command_status."""
MOST_ON_THE_AIR = 140


class Known(BaseModel):
    """One user of the SMSC; `senders` are registered, any where there are none, `most_binds` at once."""

    model_config = ConfigDict(extra="forbid")

    password: str
    senders: list[str] = Field(default_factory=list)
    most_binds: int = 10


class Config(Limits):
    """What this SMSC is told."""

    accounts: dict[str, Known] = Field(default_factory=dict)
    smpp_host: str = "127.0.0.1"
    smpp_port: int = 0
    per_second: float = 1000.0
    burst: float = 1.0
    """Seconds of its rate that may come at once."""
    window: int = 100
    """Submits without an answer, on one line; beyond, the queue is full."""
    default_alphabet: str = "gsm0338"
    """What data_coding 0 means here: gsm0338 or latin-1."""
    hex_ids: bool = True
    """Ids in hexadecimal in answers, and in decimal in receipts, as some SMSCs have it."""
    receipts_after: float = 0.02
    """Seconds from the acceptance to the receipt."""
    receipts_first: bool = False
    """The receipt before the answer it belongs to."""
    receipts_each: int = 1
    """How often each receipt is said; 0 for never."""
    receipt_parameters: bool = True
    """receipted_message_id and message_state beside the words."""


@dataclass(eq=False)
class _Session:
    """A line to whoever is bound."""

    writer: asyncio.StreamWriter
    user: str = ""
    hears: bool = False
    sequence: int = 0
    unanswered: int = 0
    delivering: dict[int, bytes] = field(default_factory=dict)
    """What was said to it and not answered; it is said again on the next line."""
    unwritten: list[bytes] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Submit:
    """A submit_sm, read."""

    source: str
    destination: str
    esm_class: int
    validity: str
    registered: int
    coding: int
    octets: bytes


@dataclass
class _Assembling:
    """A text whose parts have not all come."""

    parts: dict[int, str] = field(default_factory=dict)


class Smsc:
    """The SMSC. Made inside a running event loop."""

    def __init__(self, changes: dict[str, Any]) -> None:
        self._config = told(Config(), changes)
        self._bucket = self._fresh_bucket()
        self.phones = Phones("SMS")
        self._sessions: set[_Session] = set()
        self._numbers = 0xA0
        self._assembling: dict[tuple[str, str, int, int], _Assembling] = defaultdict(_Assembling)
        self._receipts: dict[str, deque[bytes]] = defaultdict(deque)
        self._tally: Counter[str] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self.submitted: deque[_Submit] = deque(maxlen=10_000)
        self.smpp_url = ""

    # ── the desk ────────────────────────────────────────────────────────────────────────────────────

    def routes(self) -> list[web.RouteDef]:
        async def sessions(_: web.Request) -> web.Response:
            return web.json_response({"bound": dict(Counter(session.user for session in self._sessions))})

        async def cut(_: web.Request) -> web.Response:
            for session in list(self._sessions):
                session.writer.transport.abort()
            return web.json_response({"cut": True})

        return [
            web.get("/__sim/sessions", sessions),
            web.post("/__sim/cut", cut),
            web.post("/__sim/inbound", self._inbound),
        ]

    def configure(self, changes: dict[str, Any]) -> dict[str, Any]:
        self._config = told(self._config, changes)
        if {"per_second", "burst"} & changes.keys():
            self._bucket = self._fresh_bucket()
        return self._config.model_dump()

    def reset(self) -> None:
        self.phones.forget()
        self._assembling.clear()
        self._receipts.clear()
        self._tally.clear()
        self.submitted.clear()

    def webhooks(self) -> dict[str, int]:
        """How the receipts, and what people wrote, went: an SMSC has no webhooks."""
        return {"posted": self._tally["receipts"], "waiting": sum(map(len, self._receipts.values()))}

    async def listen(self) -> None:
        config = self._config
        self._server = await asyncio.start_server(self._serve, config.smpp_host, config.smpp_port, backlog=256)
        self.smpp_url = f"smpp://{config.smpp_host}:{self._server.sockets[0].getsockname()[1]}"

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for session in list(self._sessions):
            session.writer.transport.abort()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _fresh_bucket(self) -> Bucket:
        return Bucket(self._config.per_second, self._config.per_second * self._config.burst)

    # ── a line ──────────────────────────────────────────────────────────────────────────────────────

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        session = _Session(writer)
        try:
            while True:
                length, command, status, sequence = HEADER.unpack(await reader.readexactly(HEADER.size))
                if not HEADER.size <= length <= 65_536:
                    break
                body = await reader.readexactly(length - HEADER.size)
                if not self._take(session, command, status, sequence, body):
                    break
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # they hung up
        finally:
            self._sessions.discard(session)
            _write_all(session)
            writer.close()
            if session.delivering:
                self._receipts[session.user].extendleft(reversed(session.delivering.values()))
                self._report_what_waits(session.user)

    def _take(self, session: _Session, command: int, status: int, sequence: int, body: bytes) -> bool:
        """Whether the line goes on."""
        if command in BINDS:
            return self._bind(session, command, sequence, body)
        if command & ANSWER:
            self._tally["receipts"] += command == DELIVER_SM | ANSWER and status == ROK
            session.delivering.pop(sequence, None)
        elif command == ENQUIRE_LINK:
            _say(session, ENQUIRE_LINK | ANSWER, sequence)
        elif command == UNBIND:
            _say(session, UNBIND | ANSWER, sequence)
            return False
        elif command != SUBMIT_SM:
            _say(session, GENERIC_NACK, sequence, status=RINVCMDID)
        elif not session.user:
            _say(session, SUBMIT_SM | ANSWER, sequence, status=RINVBNDSTS)
        else:
            self._do(self._submit(session, sequence, body))
        return True

    def _bind(self, session: _Session, command: int, sequence: int, body: bytes) -> bool:
        user, _, rest = body.partition(b"\0")
        name, password = user.decode("ascii", "replace"), rest.partition(b"\0")[0].decode("ascii", "replace")
        known = self._config.accounts.get(name)
        bound = sum(other.user == name for other in self._sessions)
        status = ROK
        if known is None:
            status = RINVSYSID
        elif known.password != password:
            status = RINVPASWD
        elif session.user or bound >= known.most_binds:
            status = RALYBND
        _say(session, command | ANSWER, sequence, b"allerta-smsc\0" if status == ROK else b"", status)
        if status != ROK:
            self.phones.refused[f"0x{status:02X}"] += 1
            return False
        session.user, session.hears = name, command in HEARS
        self._sessions.add(session)
        self._report_what_waits(name)
        return True

    # ── a submit ────────────────────────────────────────────────────────────────────────────────────

    async def _submit(self, session: _Session, sequence: int, body: bytes) -> None:
        session.unanswered += 1
        try:
            if self._config.latency:
                await asyncio.sleep(self._config.latency)
            self._answer(session, sequence, _read(body))
        except (ValueError, IndexError):
            _say(session, SUBMIT_SM | ANSWER, sequence, status=RINVMSGLEN)
        finally:
            session.unanswered -= 1

    def _answer(self, session: _Session, sequence: int, submit: _Submit) -> None:
        ending = submit.destination[-3:]
        fault = self._fault()
        if ending == "504" or fault == 504:
            return None
        status = self._status(session, submit, fault)
        if status != ROK:
            self.phones.refused[f"0x{status:02X}"] += 1
            return _say(session, SUBMIT_SM | ANSWER, sequence, status=status)
        self.submitted.append(submit)
        self._numbers += 1
        number = self._numbers
        self._arrives(session.user, submit, number)
        if ending == "505" or fault == 505:
            return session.writer.transport.abort()
        answer = f"{number:X}" if self._config.hex_ids else str(number)
        if self._config.receipts_first:
            self._report(session.user, submit, number)
        _say(session, SUBMIT_SM | ANSWER, sequence, answer.encode() + b"\0")
        if not self._config.receipts_first and submit.registered & 1:
            loop = asyncio.get_running_loop()
            loop.call_later(self._config.receipts_after, self._report, session.user, submit, number)
        return None

    def _status(self, session: _Session, submit: _Submit, fault: int | None) -> int:
        if fault is not None:
            return FAULTS.get(fault, fault)
        if (magic := MAGIC.get(submit.destination[-3:])) is not None:
            return magic
        senders = self._config.accounts[session.user].senders
        if senders and submit.source not in senders:
            return RINVSRCADR
        if not submit.destination.isdigit() or not 7 <= len(submit.destination) <= 15:
            return RINVDSTADR
        if _on_the_air(submit) > MOST_ON_THE_AIR:
            return RINVMSGLEN
        if submit.validity and (len(submit.validity) != 16 or submit.validity[-1] not in "R+-"):
            return RINVEXPIRY
        if session.unanswered > self._config.window:
            return RMSGQFUL
        return RTHROTTLED if self._bucket.take(self._now()) else ROK

    def _fault(self) -> int | None:
        """Each fault in its share of calls, evenly: the second of two at a half."""
        for code, share in self._config.faults.items():
            self._tally[f"calls {code}"] += 1
            calls = self._tally[f"calls {code}"]
            if int(calls * share) > int((calls - 1) * share):
                return code
        return None

    def _arrives(self, user: str, submit: _Submit, number: int) -> None:
        """A part reaches its telephone, which shows a text when it has all its parts."""
        words, part, parts, reference = _assembled_as(submit, self._config.default_alphabet)
        key = (submit.source, submit.destination, reference, parts)
        text = self._assembling[key]
        text.parts[part] = words
        if len(text.parts) == parts:
            del self._assembling[key]
            self.phones.receive(
                at=self._now(),
                to=f"+{submit.destination}",
                account=submit.source or user,
                identity=f"{number:X}" if self._config.hex_ids else str(number),
                text="".join(text.parts[each] for each in sorted(text.parts)),
            )

    # ── receipts ────────────────────────────────────────────────────────────────────────────────────

    def _report(self, user: str, submit: _Submit, number: int) -> None:
        stat, state = STATES.get(submit.destination[-3:], ("DELIVRD", 2))
        day = datetime.fromtimestamp(self._now(), UTC).strftime("%y%m%d%H%M")
        words = (
            f"id:{number} sub:001 dlvrd:{'001' if state == 2 else '000'} submit date:{day} done date:{day}"
            f" stat:{stat} err:{'000' if state == 2 else '0B1'} text:"
        ).encode()
        parameters = b""
        if self._config.receipt_parameters:
            name = f"{number}".encode() + b"\0"
            parameters = struct.pack("!HH", 0x001E, len(name)) + name + struct.pack("!HHB", 0x0427, 1, state)
        body = (
            b"\0\x01\x01" + submit.destination.encode() + b"\0\x05\x00" + submit.source.encode() + b"\0"
            b"\x04\0\0\0\0\0\0\0\0" + bytes((len(words),)) + words + parameters
        )
        self._receipts[user].extend([body] * self._config.receipts_each)
        self._report_what_waits(user)

    def _report_what_waits(self, user: str) -> None:
        """To any line of this user: the one that submitted may be gone."""
        waiting = self._receipts[user]
        listening = [session for session in self._sessions if session.user == user and session.hears]
        while waiting and listening:
            session = listening[len(waiting) % len(listening)]
            session.sequence += 1
            body = session.delivering[session.sequence] = waiting.popleft()
            _say(session, DELIVER_SM, session.sequence, body)

    # ── people who write ────────────────────────────────────────────────────────────────────────────

    async def _inbound(self, request: web.Request) -> web.Response:
        """A person writes: {"from": "+39…", "to": "+39…", "text": "Attiva"}; to a user by name, the first unless told.

        `coding` is 0 (GSM-7), 3 (Latin-1) or 8 (UCS-2), the first that has all its letters; `marked` says how its
        parts are told apart: header, wide or parameters. Each is said `times` times, the last first if `backwards`.
        """
        said = await request.json()
        user = str(said.get("account") or next(iter(self._config.accounts)))
        words, marked = str(said.get("text", "")), str(said.get("marked", "header"))
        if user not in self._config.accounts or not str(said.get("from", "")).removeprefix("+").isdigit():
            return web.json_response({"error": "say from which number, and to a user there is"}, status=400)
        coding = said.get("coding")
        coding, octets = _written(words) if coding is None else (int(coding), _in(int(coding), words))
        self._tally["references"] += 1
        pieces = _in_pieces(octets, coding, self._tally["references"], marked)
        if said.get("backwards"):
            pieces.reverse()
        sender, to = (str(said.get(key, "")).removeprefix("+").encode() for key in ("from", "to"))
        bodies = [
            b"\0\x01\x01"
            + sender
            + b"\0\x01\x01"
            + to
            + b"\0"
            + bytes((esm_class, 0, 0))
            + b"\0\0\0\0"
            # data_coding, no default message, and its length
            + bytes((coding, 0, len(piece)))
            + piece
            + parameters
            for esm_class, piece, parameters in pieces
        ]
        self._receipts[user].extend(body for body in bodies for _ in range(int(said.get("times", 1))))
        self._report_what_waits(user)
        return web.json_response({"parts": len(pieces), "coding": coding})

    def _now(self) -> float:
        return time.time() + self._config.clock_ahead

    def _do(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def start(changes: dict[str, Any], *, host: str = "127.0.0.1", port: int = 0) -> Served:
    """The desk at `port`, the SMSC at the `smpp_port` of the configuration; 0 takes free ones."""
    simulator = Smsc(changes)
    await simulator.listen()
    return await serve(simulator, host=host, port=port)


# ── PDUs ────────────────────────────────────────────────────────────────────────────────────────────


def _say(session: _Session, command: int, sequence: int, body: bytes = b"", status: int = ROK) -> None:
    if not session.unwritten:  # all that is said in one turn goes out together
        asyncio.get_running_loop().call_soon(_write_all, session)
    session.unwritten.append(HEADER.pack(HEADER.size + len(body), command, status, sequence) + body)


def _write_all(session: _Session) -> None:
    unwritten, session.unwritten = session.unwritten, []
    with contextlib.suppress(ConnectionError):
        if unwritten and not session.writer.is_closing():
            session.writer.write(b"".join(unwritten))


def _read(body: bytes) -> _Submit:
    texts, at = [], 0
    for skip in (0, 2, 2):  # service_type, then two addresses, each after its TON and NPI
        at += skip
        end = body.index(b"\0", at)
        texts.append(body[at:end].decode("ascii"))
        at = end + 1
    esm_class = body[at]
    schedule = body.index(b"\0", at + 3)
    end = body.index(b"\0", schedule + 1)
    validity = body[schedule + 1 : end].decode("ascii")
    registered, _, coding, _, length = body[end + 1 : end + 6]
    octets = body[end + 6 : end + 6 + length]
    if len(octets) != length:
        raise ValueError("the PDU breaks off")
    return _Submit(texts[1], texts[2], esm_class, validity, registered, coding, octets)


def _header_of(submit: _Submit) -> bytes:
    return submit.octets[: submit.octets[0] + 1] if submit.esm_class & 0x40 else b""


def _on_the_air(submit: _Submit) -> int:
    header = len(_header_of(submit))
    units = len(submit.octets) - header
    if submit.coding == 8:
        return header + units
    return ((header * 8 + 6) // 7 * 7 + units * 7 + 7) // 8


def _assembled_as(submit: _Submit, alphabet: str) -> tuple[str, int, int, int]:
    """The words of a part, which it is, of how many, and of which text."""
    header = _header_of(submit)
    octets = submit.octets[len(header) :]
    if submit.coding == 8:
        words = octets.decode("utf-16-be")
    elif submit.coding == 3:
        words = octets.decode("latin-1")
    else:
        words = find_codec_info(alphabet).decode(octets, "strict")[0]
    for tag, value in _elements(header):
        if tag == 0x00 and len(value) == 3:
            return words, value[2], value[1], value[0]
        if tag == 0x08 and len(value) == 4:
            return words, value[3], value[2], value[0] << 8 | value[1]
    return words, 1, 1, 0


def _written(words: str) -> tuple[int, bytes]:
    """As a telephone would: in the 7-bit alphabet where it has all letters."""
    try:
        return 0, _in(0, words)
    except UnicodeEncodeError:
        return 8, _in(8, words)


def _in(coding: int, words: str) -> bytes:
    if coding == 0:
        octets: bytes = find_codec_info("gsm0338").encode(words, "strict")[0]
        return octets
    return words.encode("latin-1" if coding == 3 else "utf-16-be")


def _in_pieces(octets: bytes, coding: int, reference: int, marked: str) -> list[tuple[int, bytes, bytes]]:
    """esm_class, octets and parameters of each part. Letters are cut in two where the room ends, as telephones may."""
    alone, room = (140, 132) if coding == 8 else (160, 152)
    if len(octets) <= alone:
        return [(0, octets, b"")]
    cut = [octets[at : at + room] for at in range(0, len(octets), room)]
    numbers = [(reference, len(cut), number) for number in range(1, len(cut) + 1)]
    if marked == "parameters":
        return [
            (0, piece, struct.pack("!HHHHHBHHB", 0x020C, 2, one[0] & 0xFFFF, 0x020E, 1, one[1], 0x020F, 1, one[2]))
            for one, piece in zip(numbers, cut, strict=True)
        ]
    if marked == "wide":
        headers = [struct.pack("!BBBHBB", 6, 8, 4, *one) for one in numbers]
    else:
        headers = [struct.pack("!BBBBBB", 5, 0, 3, one[0] & 0xFF, *one[1:]) for one in numbers]
    return [(0x40, header + piece, b"") for header, piece in zip(headers, cut, strict=True)]


def _elements(header: bytes) -> Iterator[tuple[int, bytes]]:
    at = 1
    while at + 1 < len(header):
        length = header[at + 1]
        yield header[at], header[at + 2 : at + 2 + length]
        at += 2 + length
