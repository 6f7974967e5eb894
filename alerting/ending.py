"""How a process ends: asked once, in ten seconds, whatever is away."""

import asyncio
import os
import signal
import threading
from collections.abc import Sequence
from typing import Any

import structlog

log = structlog.get_logger()

DRAIN_WITHIN = 8.0  # seconds, of the ten a process is given
LET_GO_WITHIN = 0.5
LAST_RESORT = 9.7
SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Ending:
    """SIGTERM and SIGINT ask for the end; asking twice changes nothing.

    A process that hangs on a server which neither answers nor goes away is ended as if killed, just before ten
    seconds: what it had in hand comes again from RabbitMQ and from the ledger.
    """

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self._signalled = False
        self._last_resort = threading.Timer(LAST_RESORT, _end_as_if_killed)
        self._last_resort.daemon = True

    def hear(self) -> None:
        """From here on signals do not kill: they ask."""
        for name in SIGNALS:
            asyncio.get_running_loop().add_signal_handler(name, self._hear)

    def _hear(self) -> None:
        self._signalled = True
        self.ask()

    def ask(self) -> None:
        if not self.asked.is_set():
            self._last_resort.start()
            self.asked.set()

    def close(self, tasks: Sequence[asyncio.Task[Any]]) -> None:
        """All is done. A task that did not let go would keep the process: the last resort stays for it."""
        if all(task.done() for task in tasks):
            self._last_resort.cancel()
        if self._signalled:
            # The loop closes next and would let the next signal kill the interpreter while it tidies up.
            for name in SIGNALS:
                asyncio.get_running_loop().remove_signal_handler(name)
                signal.signal(name, signal.SIG_IGN)


async def let_go(tasks: Sequence[asyncio.Task[Any]]) -> None:
    """Cancel them. One that does not end on being asked, as a query to a server that hangs, is not waited for."""
    for task in tasks:
        task.cancel()
    if tasks:
        done, _ = await asyncio.wait(tasks, timeout=LET_GO_WITHIN)
        for task in done:
            if not task.cancelled() and (error := task.exception()):
                log.warning("ended with an error", task=task.get_name(), error=type(error).__name__)


def _end_as_if_killed() -> None:
    log.error("could not end in time: ending as if killed")
    os._exit(1)
