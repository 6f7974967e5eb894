"""One bound SMPP 3.4 session: submits within a window, their answers, and what the SMSC says unasked.

The words on the line are aiosmpplib's. The conversation is ours: its own gives up on any status the standard does not
list, keeps what it is given in a queue without end, and does not tell whether a text was said when a line dies.
"""

import asyncio
import re
import ssl
import struct
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import cast

import structlog
from aiosmpplib.protocol import (
    BindTransceiver,
    DeliverSmResp,
    EnquireLink,
    EnquireLinkResp,
    GenericNack,
    SmppMessage,
    Unbind,
    UnbindResp,
)
from aiosmpplib.state import SmppCommandStatus

log = structlog.get_logger()

HEADER = struct.Struct("!IIII")
LONGEST_PDU = 64 * 1024
"""Octets. A receipt has some two hundred; whoever announces more does not speak SMPP."""
LAST_SEQUENCE = 0x7FFFFFFF
QUIET = 30.0
"""Seconds without a word after which the SMSC is asked whether it is there."""

GENERIC_NACK, DELIVER_SM, UNBIND, ENQUIRE_LINK = 0x80000000, 0x05, 0x06, 0x15
IS_ANSWER = 0x80000000
RECEIPTED_MESSAGE_ID, MESSAGE_STATE, MESSAGE_PAYLOAD = 0x001E, 0x0427, 0x0424
SAR_REFERENCE, SAR_PARTS, SAR_NUMBER = 0x020C, 0x020E, 0x020F
KIND = 0b00111100
"""The bits of esm_class that say what a deliver_sm is."""
IS_TEXT, IS_RECEIPT = 0b000, 0b100
HAS_HEADER = 0x40
INTERNATIONAL = 1
"""A type of number: it begins with its country."""


class NotSpoken(Exception):
    """Nothing was said: no line, or no free place in the window."""


class Silence(Exception):
    """It was said, and the answer never came."""


class BindRefused(Exception):
    """The SMSC would not have us. Says the status, never the credential."""

    def __init__(self, status: int) -> None:
        super().__init__(f"the SMSC refuses to bind us: 0x{status:02X}")
        self.status = status


@dataclass(frozen=True, slots=True)
class Reply:
    """What the SMSC answered to one submit."""

    status: int
    message_id: str


@dataclass(frozen=True, slots=True)
class Delivered:
    """A deliver_sm, as far as anybody here needs it. `state` is of the parameter message_state.

    `words` are a receipt's; of what a person wrote, `octets` and `coding` say what letters they are, `has_header`
    that they begin with which part it is, and `part` (reference, parts, number) where parameters say that.
    """

    source: str
    destination: str
    is_receipt: bool
    message_id: str
    state: int | None
    words: str
    is_text: bool = False
    with_country: bool = True
    octets: bytes = b""
    coding: int = 0
    has_header: bool = False
    part: tuple[int, int, int] | None = None


@dataclass(frozen=True, slots=True)
class _Asked:
    future: "asyncio.Future[Reply]"
    answered: Callable[[Reply], None] | None


class Session(asyncio.Protocol):
    """A line to an SMSC. `heard` takes what it says unasked, and returns when that is kept."""

    def __init__(self, *, window: int, patience: timedelta, heard: Callable[[Delivered], Awaitable[None]]) -> None:
        self._window = asyncio.Semaphore(window)
        self._patience = patience.total_seconds()
        self._heard = heard
        self._buffer = bytearray()
        self._asked: dict[int, _Asked] = {}
        self._sequence = 0
        self._transport: asyncio.Transport | None = None
        self._unwritten: list[bytes] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._last_word = 0.0
        self.lost = asyncio.Event()

    # ── what we say ─────────────────────────────────────────────────────────────────────────────────

    async def bind(self, system_id: str, password: str) -> None:
        """As a transceiver: one line for texts and receipts. Raises BindRefused, NotSpoken and Silence."""
        reply = await self._ask(BindTransceiver(system_id=system_id, password=password, interface_version=0x34))
        if reply.status != 0:
            self.hang_up()
            raise BindRefused(reply.status)
        self._do(self._keep_alive())

    async def submit(self, text: Callable[[], SmppMessage], answered: Callable[[Reply], None]) -> Reply:
        """One submit_sm, made when its turn has come. Raises NotSpoken and Silence.

        `answered` hears the reply too, and hears it where it comes after our patience has ended.
        """
        try:
            async with asyncio.timeout(self._patience):
                await self._window.acquire()
        except TimeoutError:
            raise NotSpoken from None
        try:
            return await self._ask(text(), answered)
        finally:
            self._window.release()

    async def unbind(self) -> None:
        """Say goodbye, and close."""
        with suppress(NotSpoken, Silence):
            await self._ask(Unbind())
        self.hang_up()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def hang_up(self) -> None:
        """Close without a word."""
        if self._transport is not None:
            self._transport.abort()

    async def _ask(self, message: SmppMessage, answered: Callable[[Reply], None] | None = None) -> Reply:
        if self._transport is None or self._transport.is_closing():
            raise NotSpoken
        self._sequence = self._sequence % LAST_SEQUENCE + 1
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._asked[self._sequence] = _Asked(future, answered)
        message.sequence_num = self._sequence
        self._write(message)
        try:
            async with asyncio.timeout(self._patience):
                return await future
        except TimeoutError:
            raise Silence from None

    def _say(self, message: SmppMessage) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._write(message)

    def _write(self, message: SmppMessage) -> None:
        """Together with whatever else is said in this turn: a call to the system costs more than a PDU."""
        if not self._unwritten:
            asyncio.get_running_loop().call_soon(self._write_all)
        self._unwritten.append(message.pdu())

    def _write_all(self) -> None:
        unwritten, self._unwritten = self._unwritten, []
        if unwritten and self._transport is not None and not self._transport.is_closing():
            self._transport.write(b"".join(unwritten))

    async def _keep_alive(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(max(1.0, self._last_word + QUIET - loop.time()))
            if loop.time() - self._last_word < QUIET:
                continue
            try:
                await self._ask(EnquireLink())
            except (NotSpoken, Silence):
                return self.hang_up()

    # ── what we hear ────────────────────────────────────────────────────────────────────────────────

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are, and do not descend from it
        self._last_word = asyncio.get_running_loop().time()

    def connection_lost(self, exc: Exception | None) -> None:
        """Whatever was asked may have been understood."""
        asked, self._asked = self._asked, {}
        for each in asked.values():
            if not each.future.done():
                each.future.set_exception(Silence())
        for task in self._tasks:
            if task is not asyncio.current_task():
                task.cancel()
        self.lost.set()

    def data_received(self, data: bytes) -> None:
        self._last_word = asyncio.get_running_loop().time()
        self._buffer += data
        start, end = 0, len(self._buffer)
        while end - start >= HEADER.size:
            length, command, status, sequence = HEADER.unpack_from(self._buffer, start)
            if not HEADER.size <= length <= LONGEST_PDU:
                log.warning("an SMSC does not speak SMPP", length=length)
                return self.hang_up()
            if end - start < length:
                break
            body = bytes(self._buffer[start + HEADER.size : start + length])
            start += length
            self._understand(command, status, sequence, body)
        del self._buffer[:start]
        return None

    def _understand(self, command: int, status: int, sequence: int, body: bytes) -> None:
        if command & IS_ANSWER:
            return self._answered(sequence, Reply(status, _first_text(body)))
        if command == ENQUIRE_LINK:
            return self._say(EnquireLinkResp(sequence))
        if command == UNBIND:
            self._say(UnbindResp(sequence))
            self._write_all()
            if self._transport is not None:
                self._transport.close()  # what was asked and not answered stays so
            return None
        if command == DELIVER_SM:
            return self._do(self._delivered(sequence, body))
        return self._say(GenericNack(sequence, SmppCommandStatus.ESME_RINVCMDID))

    def _answered(self, sequence: int, reply: Reply) -> None:
        asked = self._asked.pop(sequence, None)
        if asked is None:
            return
        if asked.answered is not None:
            asked.answered(reply)
        if not asked.future.done():
            asked.future.set_result(reply)

    async def _delivered(self, sequence: int, body: bytes) -> None:
        """Answered when it is kept: what is not answered, the SMSC says again."""
        read = read_deliver_sm(body)
        if read is None:
            log.warning("a deliver_sm cannot be read", octets=len(body))
        else:
            await self._heard(read)
        self._say(DeliverSmResp(sequence))

    def _do(self, work: "Awaitable[None]") -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


ADDRESS = re.compile(r"(smpps?)://([A-Za-z0-9.-]+|\[[0-9a-fA-F:]+\]):([0-9]{1,5})/?")


def endpoint(base_url: str) -> tuple[str, int, bool] | None:
    """Host, port and whether TLS is spoken; None where it is no address."""
    found = ADDRESS.fullmatch(base_url)
    if found is None or not 0 < int(found[3]) < 65536:
        return None
    return found[2].strip("[]"), int(found[3]), found[1] == "smpps"


async def connect(
    address: tuple[str, int, bool],
    *,
    within: timedelta,
    window: int,
    patience: timedelta,
    heard: Callable[[Delivered], Awaitable[None]],
) -> Session:
    """A line, not yet bound. Raises NotSpoken."""
    host, port, tls = address
    try:
        async with asyncio.timeout(within.total_seconds()):
            _, session = await asyncio.get_running_loop().create_connection(
                lambda: Session(window=window, patience=patience, heard=heard),
                host,
                port,
                ssl=ssl.create_default_context() if tls else None,
            )
    except (OSError, TimeoutError):
        raise NotSpoken from None
    return session


# ── reading ─────────────────────────────────────────────────────────────────────────────────────────


def _first_text(body: bytes) -> str:
    """The message_id of an answer. Some say none where they refuse."""
    return body.partition(b"\0")[0].decode("ascii", "replace")


def read_deliver_sm(body: bytes) -> Delivered | None:
    """SMPP 3.4, 4.6.1; None where it breaks off. By hand: aiosmpplib refuses receipts with an `err` of letters."""
    try:
        _, at = _text_at(body, 0)
        kind_of_number = body[at]
        source, at = _text_at(body, at + 2)
        destination, at = _text_at(body, at + 2)
        esm_class = body[at]
        _, at = _text_at(body, at + 3)
        _, at = _text_at(body, at)
        coding, length = body[at + 2], body[at + 4]
        octets, at = body[at + 5 : at + 5 + length], at + 5 + length
        more = dict(_parameters(body[at:]))
        octets = octets or more.get(MESSAGE_PAYLOAD, b"")
    except (IndexError, ValueError, struct.error):
        return None
    state = more.get(MESSAGE_STATE)
    return Delivered(
        source,
        destination,
        esm_class & KIND == IS_RECEIPT,
        _first_text(more.get(RECEIPTED_MESSAGE_ID, b"")),
        state[0] if state else None,
        octets.decode("latin-1"),
        is_text=esm_class & KIND == IS_TEXT,
        with_country=kind_of_number == INTERNATIONAL,
        octets=octets,
        coding=coding,
        has_header=bool(esm_class & HAS_HEADER),
        part=_part_in(more),
    )


def _part_in(parameters: dict[int, bytes]) -> tuple[int, int, int] | None:
    """SMPP 3.4, 5.3.2.22 to 24; None where they are not all there, or say nothing that can be."""
    reference, parts, number = (
        int.from_bytes(parameters.get(tag, b""), "big") for tag in (SAR_REFERENCE, SAR_PARTS, SAR_NUMBER)
    )
    return (reference, parts, number) if 1 <= number <= parts and 1 < parts <= 255 else None


def _text_at(body: bytes, at: int) -> tuple[str, int]:
    end = body.index(b"\0", at)
    return body[at:end].decode("ascii", "replace"), end + 1


def _parameters(rest: bytes) -> Iterator[tuple[int, bytes]]:
    while rest:
        tag, length = struct.unpack_from("!HH", rest)
        yield tag, rest[4 : 4 + length]
        rest = rest[4 + length :]
