"""The sink's other ear: SMPP 3.4 with next to no cost, so that the gateway that speaks to it is what is measured.

A program of its own. What it took is asked over HTTP as with `tests.benchmarks.sink`, whose memory it shares.
"""

import argparse
import asyncio
import struct
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import uvloop

from consumers.local.serving import free_ports
from tests.benchmarks.peers.programs import folder, listens, running, server
from tests.benchmarks.sink import DIGITS, MARK, Conversation, Memory, Sink

# SMPP 3.4, 5.1.2.1. An answer is its request with the highest bit set; that bit alone is generic_nack.
BINDS = (1, 2, 9)  # receiver, transmitter, transceiver
SUBMIT_SM = 4
UNBIND = 6
ENQUIRE_LINK = 0x15
ANSWER = 0x8000_0000
INVALID_COMMAND = 3  # ESME_RINVCMDID

HEADER = struct.Struct("!4I")  # length, command, status, sequence


class Gateway(asyncio.Protocol):
    """One connection of a gateway, bound or not: we trust everybody."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's own does not inherit from it

    def data_received(self, data: bytes) -> None:
        """Answer every whole request in what came."""
        data, at, answers = self._rest + data, 0, []
        while len(data) - at >= HEADER.size:
            length, command, _, sequence = HEADER.unpack_from(data, at)
            if length < HEADER.size:
                self._transport.abort()
                return
            if len(data) - at < length:
                break
            answers.append(self._answer(command, sequence, data[at + HEADER.size : at + length]))
            at += length
        self._rest = data[at:]
        self._transport.write(b"".join(answers))

    def _answer(self, command: int, sequence: int, body: bytes) -> bytes:
        if command == SUBMIT_SM:
            told, mark = read(body)
            memory = self._memory
            memory.at.append(time.time())
            memory.told.append(told)
            memory.marks.append(mark)
            return _pdu(command | ANSWER, 0, sequence, b"%x\0" % len(memory.at))
        if command in BINDS:
            return _pdu(command | ANSWER, 0, sequence, b"sink\0")
        if command in (UNBIND, ENQUIRE_LINK):
            return _pdu(command | ANSWER, 0, sequence)
        return b"" if command & ANSWER else _pdu(ANSWER, INVALID_COMMAND, sequence)


def read(body: bytes) -> tuple[int, int]:
    """Number and mark in the body of a submit_sm (SMPP 3.4, 4.4.1)."""
    source = body.index(b"\0") + 3  # service_type, then ton and npi
    destination = body.index(b"\0", source) + 3
    end = body.index(b"\0", destination)
    schedule = end + 4  # esm_class, protocol_id, priority_flag
    validity = body.index(b"\0", schedule) + 1
    length = body.index(b"\0", validity) + 5  # registered_delivery, replace_if_present, data_coding, sm_default_msg_id
    text = body[length + 1 : length + 1 + body[length]]
    mark = text.find(MARK) + len(MARK)
    return int(body[destination:end]), int(text[mark : mark + DIGITS]) if mark >= len(MARK) else 0


def _pdu(command: int, status: int, sequence: int, body: bytes = b"") -> bytes:
    return HEADER.pack(HEADER.size + len(body), command, status, sequence) + body


async def serve(smpp: int, http: int) -> None:
    """Listen on 127.0.0.1 until ended: gateways on one port, questions on the other."""
    loop, memory = asyncio.get_running_loop(), Memory()
    await loop.create_server(lambda: Gateway(memory), "127.0.0.1", smpp)
    questions = await loop.create_server(lambda: Conversation(memory), "127.0.0.1", http)
    await questions.serve_forever()


@contextmanager
def smpp_sink() -> Iterator[tuple[int, Sink]]:
    """The port to bind to, and the sink to ask, in a process of its own that ends with the block."""
    smpp, http = free_ports(2)
    command = [sys.executable, "-m", "tests.benchmarks.peers.smpp_sink", str(smpp), str(http)]
    with running("the SMPP sink", [server("smpp-sink", command, folder("sink"))], lambda: listens(http)):
        yield smpp, Sink(f"http://127.0.0.1:{http}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("smpp", type=int)
    parser.add_argument("http", type=int)
    given = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(given.smpp, given.http))
