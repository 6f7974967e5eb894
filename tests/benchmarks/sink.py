"""A telephone exchange that says yes to everybody, remembers whom and when, and costs next to nothing.

It answers any POST as the WhatsApp Cloud API does when it takes a text (channels.md 1.2). What a text is called is
read from `(avviso 0042)` in its words: 42, and 0 where nothing is said.
"""

import argparse
import asyncio
import signal
import struct
import subprocess
import sys
import time
import urllib.request
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt
import uvloop

from consumers.local.serving import free_port
from consumers.local.stack import ROOT, fetch

MARK = b"(avviso "
DIGITS = 4
UP_WITHIN = 10.0  # seconds

TAKEN = (
    b'{"messaging_product":"whatsapp","contacts":[{"input":"%b","wa_id":"%d"}],'
    b'"messages":[{"id":"wamid.HBgMMzkzNDcwMDAwMDAwFQIAERgS%020d","message_status":"accepted"}]}'
)
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"


def marked(words: str, number: int) -> str:
    """Words by which the sink tells one text from another."""
    return f"{words} {MARK.decode()}{number:0{DIGITS}d})"


# ── the process ─────────────────────────────────────────────────────────────────────────────────────


class Memory:
    """Whom, when and what of every text taken: 18 bytes each."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        self.at, self.told, self.marks = array("d"), array("Q"), array("H")
        self.last = b""

    def since(self, first: int) -> bytes:
        """How many, then the moments, then the numbers, then the marks."""
        parts = (self.at[first:], self.told[first:], self.marks[first:])
        return struct.pack("<Q", len(parts[0])) + b"".join(part.tobytes() for part in parts)


class Conversation(asyncio.Protocol):
    """One connection, kept open. The least of HTTP that a well-behaved client needs."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's own does not inherit from it

    def data_received(self, data: bytes) -> None:
        data = self._rest + data if self._rest else data
        while (head := data.find(b"\r\n\r\n")) >= 0:
            body = head + 4
            end = body + _length(data, head)
            if len(data) < end:
                break
            self._transport.write(self._control(data) if b" /__sink/" in data[:16] else self._take(data[body:end]))
            data = data[end:]
        self._rest = data

    def _take(self, body: bytes) -> bytes:
        memory = self._memory
        memory.at.append(time.time())
        start = body.rfind(b'"to":"') + 6
        number = body[start : body.index(b'"', start)]
        told = int(number)
        memory.told.append(told)
        mark = body.find(MARK) + len(MARK)
        memory.marks.append(int(body[mark : mark + DIGITS]) if mark >= len(MARK) else 0)
        memory.last = body
        taken = TAKEN % (number, told, len(memory.at))
        return ANSWER % (len(taken), taken)

    def _control(self, data: bytes) -> bytes:
        path, _, query = data.split(b" ", 2)[1].partition(b"?")
        match path:
            case b"/__sink/count":
                said = b"%d" % len(self._memory.at)
            case b"/__sink/received":
                said = self._memory.since(int(query.removeprefix(b"after=") or 0))
            case b"/__sink/last":
                said = self._memory.last
            case b"/__sink/reset":
                self._memory.forget()
                said = b"ok"
            case _:
                return b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
        return ANSWER % (len(said), said)


def _length(data: bytes, head: int) -> int:
    start = data.find(b"Content-Length: ", 0, head)
    if start < 0:
        start = data.lower().find(b"content-length: ", 0, head)
    return int(data[start + 16 : data.index(b"\r\n", start)]) if start >= 0 else 0


async def serve(port: int) -> None:
    """Listen on 127.0.0.1 until SIGTERM."""
    loop, memory, stop = asyncio.get_running_loop(), Memory(), asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    await loop.create_server(lambda: Conversation(memory), "127.0.0.1", port, backlog=1024)
    await stop.wait()


# ── seen from outside ───────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Arrivals:
    """Texts in the order they came: `at` in Unix time, `told` as digits, `marks` as in `(avviso 0042)`."""

    at: npt.NDArray[np.float64]
    told: npt.NDArray[np.uint64]
    marks: npt.NDArray[np.uint16]

    def __len__(self) -> int:
        return len(self.at)

    @property
    def seconds(self) -> float:
        """From the first to the last."""
        return float(self.at[-1] - self.at[0])

    @property
    def per_s(self) -> float:
        """The first is where the clock starts, and is not counted."""
        return (len(self) - 1) / self.seconds


@dataclass(frozen=True, slots=True)
class Sink:
    """A running sink."""

    url: str

    def count(self) -> int:
        return int(self._get("count") or 0)

    def received(self, after: int = 0) -> Arrivals:
        """All that came, but for the first `after`."""
        raw = self._get(f"received?after={after}")
        count = struct.unpack_from("<Q", raw)[0]
        return Arrivals(
            np.frombuffer(raw, np.float64, count, 8),
            np.frombuffer(raw, np.uint64, count, 8 + 8 * count),
            np.frombuffer(raw, np.uint16, count, 8 + 16 * count),
        )

    def last(self) -> bytes:
        """The body that came last."""
        return self._get("last")

    def forget(self) -> None:
        urllib.request.urlopen(f"{self.url}/__sink/reset", data=b"", timeout=10).close()

    def _get(self, what: str) -> bytes:
        with urllib.request.urlopen(f"{self.url}/__sink/{what}", timeout=30) as answer:
            body: bytes = answer.read()
            return body


@contextmanager
def sink(port: int = 0) -> Iterator[Sink]:
    """A sink in a process of its own, ended with the block. Raises RuntimeError where it does not come up."""
    port = port or free_port()
    popen = subprocess.Popen([sys.executable, "-m", "tests.benchmarks.sink", "--port", str(port)], cwd=ROOT)
    try:
        give_up = time.monotonic() + UP_WITHIN
        while not fetch(f"http://127.0.0.1:{port}/__sink/count"):
            if popen.poll() is not None or time.monotonic() > give_up:
                raise RuntimeError(f"the sink did not come up on port {port}: is it free?")
            time.sleep(0.02)
        yield Sink(f"http://127.0.0.1:{port}")
    finally:
        popen.terminate()
        popen.wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(parser.parse_args().port))
