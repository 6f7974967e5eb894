"""The least that could tell so many people: an aiohttp loop without queue, ledger, lanes or scruples.

It says what the sink heard last, to other numbers.
"""

import argparse
import asyncio
import re
import subprocess
import sys

import aiohttp
import uvloop

from consumers.local.stack import ROOT
from tests.benchmarks.sink import Arrivals, Sink

AT_ONCE = 96
"""As many calls under way as a delivery process of ours has."""
HEADERS = {"Content-Type": "application/json", "Authorization": "Bearer 700000000:0123456789abcdef0123456789abcdef"}


def bare(sink: Sink, people: int, processes: int) -> Arrivals:
    """What came of it when `processes` loops told `people` people between them."""
    body = sink.last()
    sink.forget()
    share = people // processes
    loops = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.benchmarks.bare", sink.url, str(number * share), str(share)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
        )
        for number in range(processes)
    ]
    for loop in loops:
        assert loop.stdin
        loop.stdin.write(body)
        loop.stdin.close()
    if sum(loop.wait() for loop in loops):  # waits for all of them
        raise RuntimeError("a bare loop failed: see above")
    return sink.received()


async def tell(url: str, first: int, count: int, body: bytes) -> None:
    """The same text to `count` made-up numbers, 96 calls at once."""
    before, after = re.split(rb"(?<=\"to\":\")\+?[0-9]+", body, maxsplit=1)
    numbers = iter(range(first, first + count))
    timeout = aiohttp.ClientTimeout(total=15)
    async with aiohttp.ClientSession(timeout=timeout, cookie_jar=aiohttp.DummyCookieJar()) as session:

        async def one_after_another() -> None:
            for number in numbers:
                words = before + b"+39348%07d" % number + after
                async with session.post(f"{url}/v26.0/100000000000001/messages", data=words, headers=HEADERS) as answer:
                    answer.raise_for_status()
                    await answer.read()

        async with asyncio.TaskGroup() as hands:
            for _ in range(AT_ONCE):
                hands.create_task(one_after_another())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("first", type=int)
    parser.add_argument("count", type=int)
    given = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(tell(given.url, given.first, given.count, sys.stdin.buffer.read()))
