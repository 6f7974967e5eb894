"""Our letters at a mail server that is not ours: Debian's postfix, which knows one citizen."""

from collections.abc import AsyncIterator, Iterator
from email import message_from_bytes, policy
from pathlib import Path

import pytest
from rich.console import Console

from alerting.domain.delivery import Accepted, Reason, Refused
from consumers.channel import Text
from consumers.channels.email import Email
from tests.benchmarks.peers.postfix import DOMAIN, Postfix, postfix
from tests.benchmarks.peers.programs import NoPeer
from tests.contract.fornacette import POSTMARKS, PUBLIC_URL, email_account, until

EVACUATE = Text(
    "Fornacette: esondazione dell'Arno.\n\n.Evacuare: sali ai piani alti.\n\nPerché no? È così.",
    subject="Fornacette: evacuare",
    urgent=True,
    thread=("fornacette-1",),
)


@pytest.fixture(scope="module")
def post() -> Iterator[Postfix]:
    try:
        with postfix(Console(stderr=True), "maria") as running:
            yield running
    except NoPeer as missing:
        pytest.skip(str(missing))


@pytest.fixture
async def email() -> AsyncIterator[Email]:
    adapter = Email(POSTMARKS, PUBLIC_URL)
    yield adapter
    await adapter.close()


def letters(post: Postfix) -> list[Path]:
    return sorted((post.mail / "maria").glob("new/*"))


async def test_it_takes_a_letter_under_its_queue_id_and_the_citizen_reads_what_was_written(
    post: Postfix, email: Email
) -> None:
    outcome = await email.send(email_account(post.url, settings={}), f"maria@{DOMAIN}", EVACUATE, "7.1.1")
    assert isinstance(outcome, Accepted) and outcome.provider_id.isalnum() and len(outcome.provider_id) >= 6
    await until(lambda: len(letters(post)) == 1, within=60)
    letter = message_from_bytes(letters(post)[0].read_bytes(), policy=policy.default)
    words = letter.get_body(("plain",))
    assert words is not None
    assert "\n.Evacuare: sali ai piani alti.\n" in words.get_content()  # the dot that SMTP doubles
    assert "Perché no? È così." in words.get_content()
    assert letter["Subject"] == "Fornacette: evacuare" and letter["Importance"] == "high"
    assert letter["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert not letter.defects


async def test_whom_it_does_not_know_is_refused_and_the_next_is_told_on_the_same_line(
    post: Postfix, email: Email
) -> None:
    account = email_account(post.url, settings={})
    before = len(letters(post))
    assert await email.send(account, f"nessuno@{DOMAIN}", EVACUATE, "7.2.1") == Refused(Reason.NOT_REACHABLE_HERE)
    assert isinstance(await email.send(account, f"maria@{DOMAIN}", EVACUATE, "7.3.1"), Accepted)
    await until(lambda: len(letters(post)) == before + 1, within=60)
