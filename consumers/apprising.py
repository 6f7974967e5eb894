"""Apprise, by which a notice reaches Slack, Teams, Matrix, ntfy and a hundred others. Only the staff's worker knows it.

Apprise blocks, says nothing of who has read what, and gives no number to ask by. Each address is told in a thread of
its own, which nobody can end: one that hangs is left alone, and until it ends nothing else is tried there.
"""

import asyncio
import logging
import re
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import structlog
from apprise import Apprise, AppriseAsset, NotifyFormat, NotifyType
from apprise.result import AppriseResult, AppriseResultStatus

from alerting.domain.notices import Answer, Gravity, Words

log = structlog.get_logger()

HANGS_AFTER = 20.0  # seconds; most services are given 4 to connect and 4 for each read
MOST_THREADS = 32
LOOKS = {Gravity.URGENT: NotifyType.FAILURE, Gravity.AMISS: NotifyType.WARNING, Gravity.WELL: NotifyType.SUCCESS}
ANSWERS = {
    AppriseResultStatus.SUCCESS: Answer.SENT,
    AppriseResultStatus.PARTIAL: Answer.PARTLY,
    AppriseResultStatus.FAILURE: Answer.FAILED,
    AppriseResultStatus.TIMEOUT: Answer.TIMEOUT,
    AppriseResultStatus.NOMATCH: Answer.WRONG_ADDRESS,
}
HTTP_STATUS = re.compile(r"\berror=([1-5][0-9]{2})\b")
"""All that is taken from what Apprise says: the rest of it may hold the address, which is a secret."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What came of one attempt; `why` is a word or two for whoever repairs it, and never holds an address."""

    answer: Answer
    why: str = ""


class Post:
    """Tells addresses, each by itself. `address_of` finds the secret of an account, None where there is none."""

    def __init__(self, address_of: Callable[[str], str | None], hangs_after: float = HANGS_AFTER) -> None:
        self._address_of = address_of
        self._hangs_after = hangs_after
        self._at_work: set[str] = set()

    async def send(self, account: str, words: Words) -> Reply:
        """One attempt. Returns in time whatever the other side does."""
        address = self._address_of(account)
        if address is None:
            return Reply(Answer.NO_ADDRESS, "the secrets file has no url for it")
        if account in self._at_work or len(self._at_work) >= MOST_THREADS:
            return Reply(Answer.BUSY, "an attempt before this one still hangs")
        self._at_work.add(account)
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Reply] = loop.create_future()

        def settle(reply: Reply) -> None:
            self._at_work.discard(account)
            if not done.done():
                done.set_result(reply)

        def tell() -> None:
            reply = _told(account, address, words)
            with suppress(RuntimeError):  # the loop is closed: the process has ended, and nobody waits
                loop.call_soon_threadsafe(settle, reply)

        # A daemon: a pool's threads would be waited for at the end of the process, for ever.
        threading.Thread(target=tell, name=f"tells {account}", daemon=True).start()
        try:
            return await asyncio.wait_for(done, self._hangs_after)
        except TimeoutError:
            return Reply(Answer.TIMEOUT, f"no end after {self._hangs_after:g} s")


def keep_quiet() -> None:
    """Apprise and what it stands on log addresses, with the tokens in them: nothing of it is printed."""
    logging.getLogger().addHandler(logging.NullHandler())
    for name in ("apprise", "urllib3", "requests", "paho"):
        logger = logging.getLogger(name)
        logger.addHandler(logging.NullHandler())
        logger.propagate = False


def _told(account: str, address: str, words: Words) -> Reply:
    """In a thread. No exception leaves it: its traceback would print the address."""
    try:
        # One after the other and without a time of its own, or Apprise would hand it on to threads nobody counts.
        asset = AppriseAsset(
            async_mode=False,
            service_timeout=0,
            storage_mode="memory",
            secure_logging=True,
            allow_templates=False,
        )
        post = Apprise(asset=asset)
        if not post.add(address):
            return Reply(Answer.WRONG_ADDRESS, "Apprise does not understand the url")
        result = post.notify(
            body=words.body,
            title=words.title,
            notify_type=LOOKS[words.gravity],
            body_format=NotifyFormat.TEXT,
            interpret_escapes=False,
        )
        return Reply(ANSWERS[result.status], _why(result))
    except Exception as error:  # noqa: BLE001  (a plugin may raise anything)
        log.warning("telling the staff failed", staff=account, error=type(error).__name__)
        return Reply(Answer.FAILED, type(error).__name__)


def _why(result: AppriseResult) -> str:
    if result.status is AppriseResultStatus.SUCCESS:
        return ""
    said = " ".join(str(entry) for one in result for entry in one.logs())
    found = HTTP_STATUS.search(said)
    return f"HTTP {found[1]}" if found else "no answer that says why"
